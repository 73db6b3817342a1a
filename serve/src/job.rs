//! Chat jobs: conversations to be answered, independent of the interface by which they came.
//!
//! An interface (OpenAI's chat completions, responses, messages) reads its request into a [`ChatJob`],
//! submits it ([`App::chat`](crate::app::App::chat)) and presents the [`Delta`]s of the [`Answer`] in
//! its own form.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use teff_runtime::chat::Message;
use teff_runtime::engine::{Event, Stream};
use teff_runtime::sample::TokenLogprobs;
use teff_runtime::template::Json;
use teff_runtime::tokenizer::{Specials, Tokenizer};
use teff_runtime::{Finish, Generate};

use crate::body::Permits;
use crate::error::{ApiError, ApiResult};
use crate::grammar::Grammar;
use crate::metrics::Timer;
use crate::prompt::Size;
use crate::random;
use crate::sampling::Bias;

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
    /// Biases of tokens and of texts.
    pub(crate) biases: Vec<Bias>,
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
    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        let messages =
            self.messages.iter().flat_map(Message::fields).map(|(_, value)| bytes(value));
        let tools = self.tools.iter().map(|tool| bytes(&tool.json));
        let variables = self.variables.iter().map(|(_, value)| bytes(value));
        messages.chain(tools).chain(variables).sum::<usize>()
            + self.prefill.as_ref().map_or(0, String::len)
    }

    /// Its size, for the thread that prepares it.
    pub(crate) fn size(&self) -> Size {
        let texts = self.bytes();
        let tools = if self.uses_tools() { self.tools.as_slice() } else { &[] };
        let strict = |tool: &Tool| {
            let strict = tool.json.get("function").and_then(|f| f.get("strict"));
            strict == Some(&Json::Bool(true))
        };
        let called = self.tool_choice != ToolChoice::Auto || tools.iter().any(strict);
        match &self.grammar {
            Some((grammar, _)) => Size::Grammar { texts, grammar: grammar.bytes() },
            None if !tools.is_empty() && called => {
                let schemas = tools.iter().flat_map(|tool| &tool.parameters).map(bytes);
                Size::Grammar { texts, grammar: schemas.sum() }
            }
            None => Size::Texts(texts),
        }
    }

    /// True if the model is told of tools.
    pub(crate) fn uses_tools(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// Job of a conversation without tools, for one answer.
    pub(crate) fn new(messages: Vec<Message>, generate: Generate) -> ChatJob {
        ChatJob {
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            grammar: None,
            generate,
            biases: Vec::new(),
            choices: 1,
            variables: Vec::new(),
            add_generation_prompt: true,
            prefill: None,
        }
    }
}

/// Texts to be continued.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TextJob {
    /// Prompts.
    pub(crate) prompts: Vec<Prompt>,
    /// Sampling, limits and stop strings.
    pub(crate) generate: Generate,
    /// Biases of tokens and of texts.
    pub(crate) biases: Vec<Bias>,
    /// Number of continuations of each prompt.
    pub(crate) choices: usize,
    /// True if the prompts are wanted back, with their log probabilities if there are any.
    pub(crate) echo: bool,
    /// Language of the text, and the field of the request that asks for it.
    pub(crate) grammar: Option<(Grammar, String)>,
}

impl TextJob {
    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.prompts.iter().map(Prompt::bytes).sum()
    }

    /// Its size, for the thread that prepares it.
    pub(crate) fn size(&self) -> Size {
        let texts = self.bytes();
        match &self.grammar {
            Some((grammar, _)) => Size::Grammar { texts, grammar: grammar.bytes() },
            None => Size::Texts(texts),
        }
    }
}

/// Bytes of all texts of a value.
fn bytes(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(all) => all.iter().map(bytes).sum(),
        Json::Object(fields) => fields.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
        _ => 0,
    }
}

/// Prompt of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Prompt {
    /// Text, in which names of control tokens stand for these.
    Text(String),
    /// Tokens, to which nothing is added.
    Tokens(Vec<u32>),
}

impl Prompt {
    /// Bytes of the text, or of its tokens.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(tokens) => size_of_val(&tokens[..]),
        }
    }

    /// Tokens, and how many at the beginning were added.
    ///
    /// # Errors
    /// [`ApiError`] for an empty prompt, or a token outside of the vocabulary.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer) -> ApiResult<(Vec<u32>, usize)> {
        let empty = || {
            let message = "is empty, and the model has no token to begin with";
            ApiError::field("prompt", message)
        };
        match self {
            Prompt::Text(text) => {
                let mut tokens = Vec::new();
                tokens.extend(tokenizer.bos().filter(|_| tokenizer.add_bos()));
                let text = tokenizer.encode(text, Specials::Parse);
                let text = text.map_err(|e| ApiError::field("prompt", e))?;
                // The text may begin with the token already.
                let added = tokens.len();
                if !tokens.is_empty() && tokens.first() == text.first() {
                    return Ok((text, 0));
                }
                tokens.extend(text);
                if tokens.is_empty() {
                    return Ok((vec![tokenizer.bos().ok_or_else(empty)?], 1));
                }
                Ok((tokens, added))
            }
            Prompt::Tokens(tokens) if tokens.is_empty() => Err(empty()),
            Prompt::Tokens(tokens) => {
                let size = tokenizer.vocab_size();
                match tokens.iter().find(|&&id| id as usize >= size) {
                    Some(id) => {
                        let message = format!("there is no token {id}: the vocabulary has {size}");
                        Err(ApiError::field("prompt", message))
                    }
                    None => Ok((tokens.clone(), 0)),
                }
            }
        }
    }

    /// The text.
    ///
    /// # Errors
    /// [`ApiError`] for a token without a text.
    pub(crate) fn text(&self, tokenizer: &Tokenizer) -> ApiResult<String> {
        match self {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::Tokens(tokens) => {
                tokenizer.decode(tokens).map_err(|e| ApiError::field("prompt", e))
            }
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
    streams: Vec<Stream>,
    /// Choices of each stream.
    each: usize,
    choices: Vec<Choice>,
    ready: VecDeque<Delta>,
    usage: Usage,
    stops: Vec<String>,
    timer: Timer,
    /// Permits for the memory of its grammar.
    _permits: Permits,
}

/// State of one choice.
struct Choice {
    parser: Box<dyn AnswerParser>,
    /// Number of calls so far.
    calls: usize,
    /// True while the last part was reasoning.
    reasons: bool,
    /// Tokens so far.
    tokens: usize,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl Answer {
    /// Answers of streams with as many choices each, with a parser for each choice; those of the second
    /// stream follow those of the first. `stops` are the stop strings of the request.
    pub(crate) fn new(
        streams: Vec<Stream>,
        parsers: Vec<Box<dyn AnswerParser>>,
        stops: Vec<String>,
        timer: Timer,
    ) -> Answer {
        let each = parsers.len() / streams.len().max(1);
        let choice = |parser| Choice { parser, calls: 0, reasons: false, tokens: 0 };
        let choices = parsers.into_iter().map(choice).collect();
        let (ready, usage) = (VecDeque::new(), Usage::default());
        let _permits = Permits::default();
        Answer { streams, each, choices, ready, usage, stops, timer, _permits }
    }

    /// Keeps permits until its end.
    pub(crate) fn with_permits(self, permits: Permits) -> Answer {
        Answer { _permits: permits, ..self }
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
            let (mut events, mut pending) = (0, false);
            for i in 0..self.streams.len() {
                match self.streams[i].poll_next(cx) {
                    Poll::Ready(Some(event)) => {
                        // The engine's time: a reader on a busy machine comes later.
                        let at = self.streams[i].time(event.choice()).unwrap_or_else(Instant::now);
                        self.take(i * self.each, event, at);
                        events += 1;
                    }
                    Poll::Ready(None) => {}
                    Poll::Pending => pending = true,
                }
            }
            match (events, pending) {
                (0, true) => return Poll::Pending,
                (0, false) => return Poll::Ready(None),
                // An event may have no parts: then the streams are asked again.
                _ => {}
            }
        }
    }

    /// Number of choices.
    pub(crate) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// Numbers of tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Times so far.
    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Turns an event of the stream whose first choice is `first`, of this time, into parts.
    fn take(&mut self, first: usize, event: Event, at: Instant) {
        match event {
            Event::Prompt { choice, tokens, cached, logprobs } => {
                // The choices of one request share the prompt.
                if choice == 0 {
                    self.usage.prompt += tokens;
                    self.usage.cached += cached;
                }
                self.timer.prompt(at);
                let choice = first + choice;
                self.ready.push_back(Delta::Started { choice, prompt_logprobs: logprobs });
            }
            Event::Piece { choice, piece } => {
                let choice = first + choice;
                let Some(state) = self.choices.get_mut(choice) else { return };
                let tokens = piece.tokens.len();
                self.timer.piece(choice, tokens, at);
                self.usage.completion += tokens;
                state.tokens += tokens;
                let mut parts = Vec::new();
                state.parser.push(&piece.text, &mut parts);
                if state.reasons || matches!(parts.first(), Some(Part::Reasoning(_))) {
                    self.usage.reasoning += tokens;
                }
                if !piece.logprobs.is_empty() {
                    self.ready.push_back(Delta::Logprobs { choice, logprobs: piece.logprobs });
                }
                self.add(choice, parts);
            }
            Event::Finished { choice, finish, generated } => {
                let choice = first + choice;
                self.timer.end(at);
                let Some(state) = self.choices.get_mut(choice) else { return };
                let more = generated.saturating_sub(state.tokens);
                state.tokens += more;
                self.usage.completion += more;
                let mut parts = Vec::new();
                state.parser.finish(&mut parts);
                self.add(choice, parts);
                let calls = self.choices.get(choice).is_some_and(|state| state.calls > 0);
                let reason = self.reason(finish, calls);
                self.ready.push_back(Delta::Finished { choice, reason });
            }
            Event::Failed { choice, error } => {
                let choice = first + choice;
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
