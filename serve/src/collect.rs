//! Whole answers, for requests without a stream.

use teff_runtime::sample::TokenLogprobs;

use crate::app::{InFlight, Shared};
use crate::error::{ApiError, ApiResult};
use crate::job::{Answer, Delta, FinishReason};

/// Answer of one choice.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Whole {
    /// Text.
    pub(crate) text: String,
    /// Reasoning before it.
    pub(crate) reasoning: String,
    /// Tool calls.
    pub(crate) calls: Vec<WholeCall>,
    /// Log probabilities of all generated tokens, if they were asked for.
    pub(crate) logprobs: Vec<TokenLogprobs>,
    /// Log probabilities of the prompt's tokens from the second on, if they were asked for.
    pub(crate) prompt_logprobs: Vec<TokenLogprobs>,
    /// Reason why it ended.
    pub(crate) reason: Option<FinishReason>,
}

/// Tool call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WholeCall {
    /// Id of the call.
    pub(crate) id: String,
    /// Name of the function.
    pub(crate) name: String,
    /// Arguments, text of a JSON object.
    pub(crate) arguments: String,
}

impl Whole {
    /// Adds a part.
    fn add(&mut self, delta: Delta) {
        match delta {
            Delta::Started { prompt_logprobs, .. } => self.prompt_logprobs = prompt_logprobs,
            Delta::Text { text, .. } => self.text.push_str(&text),
            Delta::Reasoning { text, .. } => self.reasoning.push_str(&text),
            Delta::Call { id, name, .. } => {
                self.calls.push(WholeCall { id, name, arguments: String::new() });
            }
            Delta::Arguments { index, text, .. } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&text);
                }
            }
            Delta::Logprobs { logprobs, .. } => self.logprobs.extend(logprobs),
            Delta::Finished { reason, .. } => self.reason = Some(reason),
            Delta::Failed { .. } => {}
        }
    }
}

/// Waits for all answers and returns one for each choice.
///
/// # Errors
/// The first error of a choice; [`ApiError::ending`] if the server cancels its requests.
pub(crate) async fn collect(
    app: &Shared,
    answer: &mut Answer,
    in_flight: &mut InFlight,
) -> ApiResult<Vec<Whole>> {
    let mut all = vec![Whole::default(); answer.choices()];
    let parts = async {
        while let Some(delta) = answer.next().await {
            let choice = match delta {
                Delta::Failed { error, .. } => return Err(error),
                Delta::Started { choice, .. }
                | Delta::Text { choice, .. }
                | Delta::Reasoning { choice, .. }
                | Delta::Call { choice, .. }
                | Delta::Arguments { choice, .. }
                | Delta::Logprobs { choice, .. }
                | Delta::Finished { choice, .. } => choice,
            };
            if let Some(whole) = all.get_mut(choice) {
                whole.add(delta);
            }
        }
        Ok(())
    };
    let done = tokio::select! {
        done = parts => done,
        () = app.cancelled() => Err(ApiError::ending()),
    };
    in_flight.ended(if done.is_ok() { "completed" } else { "failed" }, answer.usage());
    done.map(|()| all)
}
