//! Requests to an engine.

use core::fmt;
use core::time::Duration;

use super::Constraint;
use crate::session::Generate;

/// Request to continue a prompt.
///
/// ```
/// use std::time::Duration;
/// use teff_runtime::Generate;
/// use teff_runtime::engine::Request;
///
/// let generate = Generate::default().with_max_tokens(16);
/// let request = Request::new(vec![1, 2, 3], generate).with_choices(2);
/// let request = request.with_deadline(Duration::from_secs(60));
/// assert_eq!((request.choices, request.priority), (2, 0));
/// ```
#[non_exhaustive]
pub struct Request {
    /// Tokens of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// Sampling, limits and stop strings.
    pub generate: Generate,
    /// Number of independent continuations (`n`). Choice `i` has the seed of the request plus `i`, and
    /// thus the text of a request for one choice with that seed.
    pub choices: usize,
    /// True for log probabilities of the prompt's tokens, with as many alternatives as
    /// [`Generate::logprobs`]; the prompt is then computed without cached prefixes.
    pub prompt_logprobs: bool,
    /// Time after which the request ends, counted from its submission ([`Finish::Deadline`]).
    ///
    /// [`Finish::Deadline`]: crate::Finish::Deadline
    pub deadline: Option<Duration>,
    /// Requests of higher priority are admitted first; those of equal priority in order of arrival.
    pub priority: i32,
    /// Constraint on the generated text.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Request {
    /// Request for one continuation of a prompt.
    #[must_use]
    pub fn new(prompt: Vec<u32>, generate: Generate) -> Request {
        Request {
            prompt,
            generate,
            choices: 1,
            prompt_logprobs: false,
            deadline: None,
            priority: 0,
            constraint: None,
        }
    }

    /// Sets [`choices`](Self::choices).
    #[must_use]
    pub fn with_choices(self, choices: usize) -> Self {
        Request { choices, ..self }
    }

    /// Sets [`prompt_logprobs`](Self::prompt_logprobs).
    #[must_use]
    pub fn with_prompt_logprobs(self, prompt_logprobs: bool) -> Self {
        Request { prompt_logprobs, ..self }
    }

    /// Sets [`deadline`](Self::deadline).
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Request { deadline: Some(deadline), ..self }
    }

    /// Sets [`priority`](Self::priority).
    #[must_use]
    pub fn with_priority(self, priority: i32) -> Self {
        Request { priority, ..self }
    }

    /// Sets [`constraint`](Self::constraint).
    #[must_use]
    pub fn with_constraint(self, constraint: Box<dyn Constraint>) -> Self {
        Request { constraint: Some(constraint), ..self }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("prompt", &self.prompt.len())
            .field("generate", &self.generate)
            .field("choices", &self.choices)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
