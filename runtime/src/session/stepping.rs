//! Steps of a runner on the threads of a crew.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use teff_graph::{Cancel, Runner, Segment, Step, StepError};
use teff_kernels::Backend;

use super::SessionError;
use super::shared_crew::SessionCrew;

/// Computes one step on the whole crew and returns the rows of outputs.
///
/// # Errors
/// [`SessionError::Step`] and [`SessionError::Pool`]; all sequences are as before in that case.
pub(crate) fn run_step<B: Backend>(
    runner: &mut Runner<'_, B>,
    crew: &mut SessionCrew<'_>,
    segments: &[Segment<'_>],
    cancel: &dyn Cancel,
) -> Result<usize, SessionError> {
    let max = runner.threads();
    let running = runner.begin(&Step { segments, cancel })?;
    // Size of a team that can't run the step, if one tried.
    let (cancelled, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ran = crew.run(cancel, &|team| match running.walk(team) {
        Ok(()) => {}
        Err(StepError::Team { got, .. }) => refused.store(got, Ordering::Relaxed),
        // A broken team is reported by the crew itself.
        Err(StepError::Broken(_)) => {}
        Err(_) => cancelled.store(true, Ordering::Relaxed),
    });
    if !ran? {
        return Err(StepError::Cancelled.into());
    }
    match refused.into_inner() {
        0 if cancelled.into_inner() => Err(StepError::Cancelled.into()),
        0 => Ok(running.commit()?),
        got => Err(StepError::Team { max, got }.into()),
    }
}
