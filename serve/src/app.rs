//! The server's state, and how jobs are submitted.

use std::sync::Arc;

use teff_runtime::Model;
use teff_runtime::chat::Conversation;
use teff_runtime::engine::{Engine, Request};
use teff_runtime::tokenizer::{Specials, Tokenizer};

use crate::error::{ApiError, ApiResult};
use crate::job::{Answer, AnswerParser, ChatJob, Tool, ToolChoice};
use crate::metrics::Timer;
use crate::options::ServeOptions;
use crate::prompt::{Prompter, Templates, Worker};
use crate::reasoning::{Plain, Think};
use crate::tools::{self, ToolContext};

/// State that handlers share.
pub(crate) struct App {
    pub(crate) options: ServeOptions,
    pub(crate) model: Arc<Model>,
    pub(crate) engine: Engine,
    pub(crate) templates: Templates,
    pub(crate) prompter: Prompter,
}

/// A conversation that was made ready on a thread of the [`Prompter`].
struct Prepared {
    request: Request,
    parsers: Vec<Box<dyn AnswerParser>>,
}

impl App {
    /// Submits a job and returns its answers, which come as they are computed.
    ///
    /// # Errors
    /// [`ApiError`] for what the request asks for, or if too many requests wait.
    pub(crate) async fn chat(&self, job: ChatJob) -> ApiResult<Answer> {
        let stops = job.generate.stop.clone();
        let source = self.templates.select(uses_tools(&job)).to_owned();
        let context = self.engine.context();
        let prepared =
            self.prompter.run(move |worker| prepare(worker, job, &source, context)).await?;
        let stream = self.engine.submit(prepared.request)?;
        Ok(Answer::new(stream, prepared.parsers, stops, Timer))
    }

    /// Number of tokens of a job's prompt.
    ///
    /// # Errors
    /// [`ApiError`] if the template refuses the conversation.
    pub(crate) async fn count_tokens(&self, job: ChatJob) -> ApiResult<usize> {
        self.prompter.run(move |worker| Ok(encode(worker, &job)?.len())).await
    }
}

/// True if the template is told of tools.
pub(crate) fn uses_tools(job: &ChatJob) -> bool {
    !job.tools.is_empty() && job.tool_choice != ToolChoice::None
}

/// Tokens of a job's prompt.
pub(crate) fn encode(worker: &Worker<'_>, job: &ChatJob) -> ApiResult<Vec<u32>> {
    let tools: Vec<_> = job.tools.iter().map(|tool| tool.json.clone()).collect();
    let mut conversation = Conversation::new(&job.messages)
        .with_variables(&job.variables)
        .with_generation_prompt(job.add_generation_prompt);
    let with_tools = uses_tools(job);
    if with_tools {
        conversation = conversation.with_tools(&tools);
    }
    let mut tokens = worker.encoder(with_tools).encode(&conversation)?;
    if let Some(prefill) = job.prefill.as_deref().filter(|text| !text.is_empty()) {
        tokens.extend(continuation(worker.tokenizer, prefill)?);
    }
    Ok(tokens)
}

/// Tokens of text that continues another.
fn continuation(tokenizer: &Tokenizer, text: &str) -> ApiResult<Vec<u32>> {
    // Tokenizers may put a space in front of a text. Nothing merges with this character.
    const APART: &str = "\u{fdd0}";
    let encode = |text: &str| {
        let failed = |e: teff_runtime::tokenizer::TokenizerError| ApiError::invalid(e.to_string());
        tokenizer.encode(text, Specials::Ignore).map_err(failed)
    };
    if let (Ok(apart), Ok(all)) = (encode(APART), encode(&format!("{APART}{text}")))
        && let Some(rest) = all.strip_prefix(&*apart)
    {
        return Ok(rest.to_vec());
    }
    encode(text)
}

/// Renders and tokenises a conversation, and makes its constraint and its parsers.
fn prepare(
    worker: &Worker<'_>,
    mut job: ChatJob,
    template: &str,
    context: usize,
) -> ApiResult<Prepared> {
    let tokens = encode(worker, &job)?;
    if tokens.len() >= context {
        return Err(ApiError::too_long(tokens.len(), context));
    }
    let with_tools = uses_tools(&job);
    let named = ToolContext {
        template,
        tools: &job.tools,
        choice: &job.tool_choice,
        parallel: job.parallel_tool_calls,
    };
    let forced = matches!(job.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    if with_tools && forced {
        let grammar = tools::forcing(&named).ok_or_else(|| {
            let message = "can't be forced: the format in which the model calls tools is not known";
            ApiError::field("tool_choice", message)
        })?;
        job.grammar = Some((grammar, "tools".into()));
    }
    // The prompt may begin the reasoning.
    let tail: Vec<u8> = tokens[tokens.len().saturating_sub(8)..]
        .iter()
        .flat_map(|&id| worker.tokenizer.token_bytes(id).unwrap_or_default())
        .copied()
        .collect();
    let inside = String::from_utf8_lossy(&tail).trim_end().ends_with("<think>");
    let parser = || -> Box<dyn AnswerParser> {
        let inner = with_tools.then(|| tools::parser(&named)).flatten();
        Box::new(Think::new(inside, inner.unwrap_or_else(|| Box::new(Plain))))
    };
    let parsers = (0..job.choices).map(|_| parser()).collect();
    let mut generate = job.generate;
    generate
        .stop_tokens
        .extend(worker.encoder(with_tools).end_token().filter(|_| !generate.ignore_eos));
    let mut request = Request::new(tokens, generate).with_choices(job.choices);
    if let Some((grammar, param)) = &job.grammar {
        let grammars = worker.grammars.as_ref().map_err(|e| ApiError::field(param, e))?;
        request = request.with_constraint(grammars.compile(grammar, param)?);
    }
    Ok(Prepared { request, parsers })
}

/// Names of tools.
pub(crate) fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| tool.name.as_str()).collect()
}
