//! Chat jobs: conversations to be answered, independent of the interface by which they came.
//!
//! An interface (OpenAI's chat completions, responses, messages) reads its request into a [`ChatJob`],
//! submits it ([`App::chat`](crate::app::App::chat)) and presents the [`Delta`]s of the [`Answer`] in
//! its own form.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use teff_runtime::chat::Message;
use teff_runtime::engine::{Event, Stream};
use teff_runtime::sample::TokenLogprobs;
use teff_runtime::template::Json;
use teff_runtime::{Finish, Generate};

use crate::error::ApiError;
use crate::grammar::Grammar;
use crate::metrics::Timer;
use crate::random;

/// Conversation to be answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ChatJob {
    /// Messages from the first to the last, in the form that templates know: OpenAI's.
    pub(crate) messages: Vec<Message>,
    /// Tools that the model may call.
    pub(crate) tools: Vec<Tool>,
    /// Choice among the tools.
    pub(crate) tool_choice: ToolChoice,
    /// True if there may be several calls in one answer.
    pub(crate) parallel_tool_calls: bool,
    /// Language of the answer's text, and the field of the request that asks for it.
    pub(crate) grammar: Option<(Grammar, String)>,
    /// Sampling, limits and stop strings.
    pub(crate) generate: Generate,
    /// Number of answers.
    pub(crate) choices: usize,
    /// Other variables of the template, such as `enable_thinking`.
    pub(crate) variables: Vec<(String, Json)>,
    /// True (the usual) if the prompt ends where the answer starts.
    pub(crate) add_generation_prompt: bool,
    /// Beginning of the answer, which the model continues. It is not among the deltas.
    pub(crate) prefill: Option<String>,
}

impl ChatJob {
    /// Job of a conversation without tools, for one answer.
    pub(crate) fn new(messages: Vec<Message>, generate: Generate) -> ChatJob {
        ChatJob {
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            grammar: None,
            generate,
            choices: 1,
            variables: Vec::new(),
            add_generation_prompt: true,
            prefill: None,
        }
    }
}

/// Function that the model may call.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Tool {
    /// Name of the function.
    pub(crate) name: String,
    /// JSON schema of its arguments; `None` for no arguments.
    pub(crate) parameters: Option<Json>,
    /// The tool as the template gets it: `{"type": "function", "function": {..}}`.
    pub(crate) json: Json,
}

/// Choice among the tools.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum ToolChoice {
    /// The model calls tools or answers.
    #[default]
    Auto,
    /// The model is not told of tools, and text that looks like a call is text.
    None,
    /// The model must call at least one tool.
    Required,
    /// The model must call the tool of this name.
    Named(String),
}

/// Part of an answer, as a parser finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Text of the answer.
    Text(String),
    /// Text of the reasoning before it.
    Reasoning(String),
    /// A call of this function begins; the one before it has ended.
    Call {
        /// Name of the function.
        name: String,
    },
    /// Arguments of the call go on by this text: all of them together are one JSON object.
    Arguments(String),
}

/// Parser that splits the text of one choice into parts.
///
/// The text has the names of control tokens in it, such as `<tool_call>`. A parser holds back only what
/// may be the beginning of a marker; text that turns out to be no call is text after all.
pub(crate) trait AnswerParser: Send {
    /// Goes on by a piece of text, of any length, and appends the parts that are certain.
    fn push(&mut self, text: &str, parts: &mut Vec<Part>);

    /// Ends the text and appends what was held back.
    fn finish(&mut self, parts: &mut Vec<Part>);
}

/// Reason why an answer ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum FinishReason {
    /// The model ended it, or its grammar.
    Stop,
    /// It came to this stop string.
    StopString(String),
    /// It came to the maximum number of tokens, the end of the context or the deadline.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// It was cancelled.
    Cancelled,
}

/// Part of the answers of a job. Those of one choice come in order: [`Delta::Started`], any number of
/// others, and then one [`Delta::Finished`] or [`Delta::Failed`].
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Delta {
    /// The prompt of a choice was computed.
    Started {
        /// Index of the choice.
        choice: usize,
        /// Log probabilities of the prompt's tokens from the second on, if they were asked for.
        prompt_logprobs: Vec<TokenLogprobs>,
    },
    /// Text goes on.
    Text {
        /// Index of the choice.
        choice: usize,
        /// Text.
        text: String,
    },
    /// Reasoning goes on.
    Reasoning {
        /// Index of the choice.
        choice: usize,
        /// Text.
        text: String,
    },
    /// A tool call begins.
    Call {
        /// Index of the choice.
        choice: usize,
        /// Index of the call in the choice.
        index: usize,
        /// Id of the call, unique.
        id: String,
        /// Name of the function.
        name: String,
    },
    /// Arguments of a call go on.
    Arguments {
        /// Index of the choice.
        choice: usize,
        /// Index of the call in the choice.
        index: usize,
        /// Text, part of a JSON object.
        text: String,
    },
    /// Log probabilities of the tokens since the last ones; their text may have come before or come
    /// later.
    Logprobs {
        /// Index of the choice.
        choice: usize,
        /// One for each token.
        logprobs: Vec<TokenLogprobs>,
    },
    /// A choice ended.
    Finished {
        /// Index of the choice.
        choice: usize,
        /// Reason.
        reason: FinishReason,
    },
    /// A choice ended by an error.
    Failed {
        /// Index of the choice.
        choice: usize,
        /// Error.
        error: ApiError,
    },
}

/// Numbers of tokens of a job, all choices together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// Tokens of the prompt, counted once.
    pub(crate) prompt: usize,
    /// Those among them that came from a cached prefix.
    pub(crate) cached: usize,
    /// Tokens that were generated.
    pub(crate) completion: usize,
    /// Those among them that were reasoning, as nearly as text tells.
    pub(crate) reasoning: usize,
}

/// Answers to a job in progress. Dropping it cancels them.
pub(crate) struct Answer {
    stream: Stream,
    choices: Vec<Choice>,
    ready: VecDeque<Delta>,
    usage: Usage,
    stops: Vec<String>,
    timer: Timer,
}

/// State of one choice.
struct Choice {
    parser: Box<dyn AnswerParser>,
    /// Number of calls so far.
    calls: usize,
    /// True while the last part was reasoning.
    reasons: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl Answer {
    /// Answers of a stream, with a parser for each choice.
    pub(crate) fn new(
        stream: Stream,
        parsers: Vec<Box<dyn AnswerParser>>,
        stops: Vec<String>,
        timer: Timer,
    ) -> Answer {
        let choice = |parser| Choice { parser, calls: 0, reasons: false };
        let choices = parsers.into_iter().map(choice).collect();
        let (ready, usage) = (VecDeque::new(), Usage::default());
        Answer { stream, choices, ready, usage, stops, timer }
    }

    /// Next part; `None` when all choices have ended.
    pub(crate) async fn next(&mut self) -> Option<Delta> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Next part, as [`Stream::poll_next`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delta>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Poll::Ready(Some(delta));
            }
            match self.stream.poll_next(cx) {
                Poll::Ready(Some(event)) => self.take(event),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Numbers of tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Turns an event into parts.
    fn take(&mut self, event: Event) {
        match event {
            Event::Prompt { choice, tokens, cached, logprobs } => {
                self.usage.prompt = self.usage.prompt.max(tokens);
                if choice == 0 {
                    self.usage.cached = cached;
                }
                self.ready.push_back(Delta::Started { choice, prompt_logprobs: logprobs });
            }
            Event::Piece { choice, piece } => {
                self.timer.piece(choice, piece.tokens.len());
                self.usage.completion += piece.tokens.len();
                let mut parts = Vec::new();
                let Some(state) = self.choices.get_mut(choice) else { return };
                state.parser.push(&piece.text, &mut parts);
                if state.reasons || matches!(parts.first(), Some(Part::Reasoning(_))) {
                    self.usage.reasoning += piece.tokens.len();
                }
                if !piece.logprobs.is_empty() {
                    self.ready.push_back(Delta::Logprobs { choice, logprobs: piece.logprobs });
                }
                self.add(choice, parts);
            }
            Event::Finished { choice, finish, .. } => {
                let mut parts = Vec::new();
                if let Some(state) = self.choices.get_mut(choice) {
                    state.parser.finish(&mut parts);
                }
                self.add(choice, parts);
                let calls = self.choices.get(choice).is_some_and(|state| state.calls > 0);
                let reason = self.reason(finish, calls);
                self.ready.push_back(Delta::Finished { choice, reason });
            }
            Event::Failed { choice, error } => {
                self.ready.push_back(Delta::Failed { choice, error: error.into() });
            }
            // Events of later versions say nothing that an answer has.
            _ => {}
        }
    }

    /// Appends parts of a choice.
    fn add(&mut self, choice: usize, parts: Vec<Part>) {
        let Some(state) = self.choices.get_mut(choice) else { return };
        for part in parts {
            state.reasons = matches!(part, Part::Reasoning(_));
            let index = state.calls.saturating_sub(1);
            self.ready.push_back(match part {
                Part::Text(text) => Delta::Text { choice, text },
                Part::Reasoning(text) => Delta::Reasoning { choice, text },
                Part::Call { name } => {
                    let index = state.calls;
                    state.calls += 1;
                    Delta::Call { choice, index, id: random::id("call_"), name }
                }
                Part::Arguments(text) => Delta::Arguments { choice, index, text },
            });
        }
    }

    fn reason(&self, finish: Finish, calls: bool) -> FinishReason {
        match finish {
            Finish::Stop(_) | Finish::Complete if calls => FinishReason::ToolCalls,
            Finish::StopString(i) => match self.stops.get(i) {
                Some(stop) => FinishReason::StopString(stop.clone()),
                None => FinishReason::Stop,
            },
            Finish::Length | Finish::ContextFull | Finish::Deadline => FinishReason::Length,
            Finish::Cancelled => FinishReason::Cancelled,
            _ => FinishReason::Stop,
        }
    }
}
