//! The server's state, and how jobs are submitted.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use teff_runtime::chat::Conversation;
use teff_runtime::engine::{Constraint, Engine, EngineError, Event, Request, Stream};
use teff_runtime::tokenizer::{Specials, Tokenizer, TokenizerError};
use teff_runtime::{Generate, Model};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::body::Permits;
use crate::conversation::join_parts;
use crate::error::{ApiError, ApiResult};
use crate::job::{Answer, AnswerParser, ChatJob, TextJob, Usage};
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::prompt::{Prompter, Size, Templates, Worker};
use crate::reasoning::Plain;
use crate::sampling::{check_biases, token_biases};

/// State that all handlers have.
pub(crate) type Shared = Arc<App>;

/// Stage of a server's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// Requests are answered.
    Running,
    /// No more connections; running answers may end.
    Draining,
    /// Running answers are cancelled.
    Cancelled,
}

/// State that handlers share.
pub(crate) struct App {
    pub(crate) options: ServeOptions,
    pub(crate) model: Arc<Model>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) templates: Templates,
    pub(crate) prompter: Prompter,
    pub(crate) metrics: Metrics,
    /// Seconds since 1970 at the server's start.
    pub(crate) created: u64,
    /// Permits of requests for answers.
    requests: Arc<Semaphore>,
    /// Permits of the bodies in memory, in KiB.
    pub(crate) bodies: Arc<Semaphore>,
    stage: watch::Sender<Stage>,
    /// Request by which the engine shows that it is there.
    probe: Mutex<Option<Stream>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("model", &self.model).finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

impl App {
    /// State of a server.
    ///
    /// # Errors
    /// The cause, if the template is malformed, the model has no tokenizer, or the system refuses a
    /// thread.
    pub(crate) fn new(
        options: ServeOptions,
        model: Arc<Model>,
        engine: Engine,
    ) -> Result<App, String> {
        let templates = Templates::choose(&model, options.chat_template.as_deref());
        let prompter = Prompter::start(&model, &templates)?;
        let engine = Arc::new(engine);
        let metrics = Metrics::new(&engine);
        let requests = Arc::new(Semaphore::new(options.requests.min(Semaphore::MAX_PERMITS)));
        let kib = (options.body_memory >> 10).clamp(1, Semaphore::MAX_PERMITS);
        let bodies = Arc::new(Semaphore::new(kib));
        let (stage, _) = watch::channel(Stage::Running);
        let created = now();
        Ok(App {
            options,
            model,
            engine,
            templates,
            prompter,
            metrics,
            created,
            requests,
            bodies,
            stage,
            probe: Mutex::new(None),
        })
    }

    /// Goes on to a stage.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }

    /// True while new requests are answered.
    pub(crate) fn is_running(&self) -> bool {
        *self.stage.borrow() == Stage::Running
    }

    /// Checks that the engine's thread is there, without waiting for it: a request that is late before
    /// it begins costs it nothing. There is one at a time, however often the server is asked.
    ///
    /// # Errors
    /// Status 503 if it has ended.
    pub(crate) fn check_engine(&self) -> ApiResult<()> {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = Context::from_waker(Waker::noop());
        while let Some(stream) = &mut *probe {
            match stream.poll_next(&mut context) {
                Poll::Ready(Some(Event::Failed { error, .. })) => {
                    *probe = None;
                    return Err(error.into());
                }
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => *probe = None,
                // It is at work.
                Poll::Pending => return Ok(()),
            }
        }
        let mut request = Request::new(vec![0], Generate::default().with_max_tokens(0));
        request.deadline = Some(Duration::ZERO);
        match self.engine.submit(request) {
            Ok(stream) => *probe = Some(stream),
            Err(EngineError::Busy { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Waits until the server is in this stage or a later one.
    pub(crate) fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.stage.subscribe();
        async move {
            // The sender lives as long as the server: an error is its end.
            let _ = receiver.wait_for(|now| *now >= stage).await;
        }
    }

    /// Waits until running answers are to be cancelled.
    pub(crate) fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(Stage::Cancelled)
    }

    /// Permission to compute an answer, which is given back when it is dropped.
    ///
    /// # Errors
    /// Status 429 if too many are computed already.
    pub(crate) fn begin(&self, kind: &'static str) -> ApiResult<InFlight> {
        if !self.is_running() {
            return Err(ApiError::ending());
        }
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            let n = self.options.requests;
            let message = format!("{n} requests are in progress already: try again later");
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                .with_code("too_many_requests")
        })?;
        Ok(InFlight { kind, start: Instant::now(), ended: false, _permit: permit })
    }

    /// Submits a job and returns its answers, which come as they are computed.
    ///
    /// # Errors
    /// [`ApiError`] for what the request asks for, or if too many requests wait.
    pub(crate) async fn chat(self: &Arc<Self>, job: ChatJob) -> ApiResult<Answer> {
        let timer = self.metrics.timer(job.choices);
        let stops = job.generate.stop.clone();
        let app = Arc::clone(self);
        let prepared =
            self.prompter.run(job.size(), move |worker| prepare(&app, worker, job)).await?;
        let stream = self.engine.submit(prepared.request)?;
        Ok(Answer::new(vec![stream], prepared.parsers, stops, timer).with_permits(prepared.permits))
    }

    /// Submits a job of texts, one stream for each prompt.
    ///
    /// # Errors
    /// As [`App::chat`].
    pub(crate) async fn text(self: &Arc<Self>, job: TextJob) -> ApiResult<(Answer, TextPrompts)> {
        let choices = job.prompts.len() * job.choices;
        let timer = self.metrics.timer(choices);
        let stops = job.generate.stop.clone();
        let app = Arc::clone(self);
        let prepared =
            self.prompter.run(job.size(), move |worker| prepare_text(&app, worker, job)).await?;
        let (requests, prompts, permits) = prepared;
        let submit = |request| self.engine.submit(request);
        let streams = requests.into_iter().map(submit).collect::<Result<Vec<_>, _>>()?;
        let parser = |_| -> Box<dyn AnswerParser> { Box::new(Plain) };
        let parsers = (0..choices).map(parser).collect();
        Ok((Answer::new(streams, parsers, stops, timer).with_permits(permits), prompts))
    }

    /// Number of tokens of a job's prompt.
    ///
    /// # Errors
    /// [`ApiError`] if the template refuses the conversation.
    pub(crate) async fn count_tokens(self: &Arc<Self>, job: ChatJob) -> ApiResult<usize> {
        Ok(self.encode(job).await?.len())
    }

    /// Tokens of a job's prompt.
    ///
    /// # Errors
    /// As [`App::count_tokens`].
    pub(crate) async fn encode(self: &Arc<Self>, mut job: ChatJob) -> ApiResult<Vec<u32>> {
        let app = Arc::clone(self);
        let size = Size::Texts(job.bytes());
        self.prompter.run(size, move |worker| encode(&app, worker, &mut job)).await
    }

    /// Text of a job's prompt, as the template writes it.
    ///
    /// # Errors
    /// As [`App::count_tokens`].
    pub(crate) async fn render(self: &Arc<Self>, mut job: ChatJob) -> ApiResult<String> {
        let (app, size) = (Arc::clone(self), Size::Texts(job.bytes()));
        let render = move |worker: &Worker<'_>| {
            let (encoder, tools) = (worker.encoder(uses_tools(&job)), tool_list(&job));
            app.templates.dialect(uses_tools(&job)).convert(&mut job)?;
            app.join_parts(&mut job);
            let (template, special) = (encoder.template(), encoder.special_tokens());
            let text = template.render(&conversation(&job, &tools), special);
            let text = text.map_err(teff_runtime::chat::ChatError::from)?;
            Ok(text + job.prefill.as_deref().unwrap_or_default())
        };
        self.prompter.run(size, render).await
    }

    /// Makes strings of lists of texts, if the template knows no lists.
    fn join_parts(&self, job: &mut ChatJob) {
        if !self.templates.takes_parts(uses_tools(job)) {
            join_parts(&mut job.messages);
        }
    }
}

/// Permission to compute an answer. What became of it is logged when it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    kind: &'static str,
    start: Instant,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl InFlight {
    /// Takes note of the end.
    pub(crate) fn ended(&mut self, outcome: &'static str, usage: Usage) {
        self.ended = true;
        let (kind, ms) = (self.kind, self.start.elapsed().as_millis() as u64);
        let Usage { prompt, cached, completion, .. } = usage;
        tracing::info!(kind, outcome, prompt, cached, completion, ms, "answer");
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.ended {
            let (kind, ms) = (self.kind, self.start.elapsed().as_millis() as u64);
            tracing::info!(kind, outcome = "refused or disconnected", ms, "answer");
        }
    }
}

/// Prompts of a text job, for requests that want them back.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextPrompts {
    /// Texts, if they were asked for.
    pub(crate) texts: Vec<String>,
    /// Tokens, and how many of them at the beginning are not of the text.
    pub(crate) tokens: Vec<(Vec<u32>, usize)>,
}

impl TextPrompts {
    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(String::len).sum();
        let tokens: usize = self.tokens.iter().map(|(tokens, _)| size_of_val(&tokens[..])).sum();
        texts + tokens
    }
}

/// A conversation that was made ready on a thread of the [`Prompter`].
struct Prepared {
    request: Request,
    parsers: Vec<Box<dyn AnswerParser>>,
    /// Permits for the memory of its constraint.
    permits: Permits,
}

/// True if the template is told of tools.
fn uses_tools(job: &ChatJob) -> bool {
    job.uses_tools()
}

/// Tools as the template gets them.
fn tool_list(job: &ChatJob) -> Vec<teff_runtime::template::Json> {
    job.tools.iter().map(|tool| tool.json.clone()).collect()
}

/// The conversation as the template gets it.
fn conversation<'a>(
    job: &'a ChatJob,
    tools: &'a [teff_runtime::template::Json],
) -> Conversation<'a> {
    let conversation = Conversation::new(&job.messages)
        .with_variables(&job.variables)
        .with_generation_prompt(job.add_generation_prompt);
    if uses_tools(job) { conversation.with_tools(tools) } else { conversation }
}

/// Tokens of a job's prompt.
fn encode(app: &App, worker: &Worker<'_>, job: &mut ChatJob) -> ApiResult<Vec<u32>> {
    app.templates.dialect(uses_tools(job)).convert(job)?;
    app.join_parts(job);
    if app.options.log_prompts {
        let messages = &job.messages;
        tracing::info!(?messages, "prompt");
    }
    let tools = tool_list(job);
    let mut tokens = worker.encoder(uses_tools(job)).encode(&conversation(job, &tools))?;
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
        let failed = |e: TokenizerError| ApiError::invalid(e.to_string());
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
fn prepare(app: &App, worker: &Worker<'_>, mut job: ChatJob) -> ApiResult<Prepared> {
    let tokens = encode(app, worker, &mut job)?;
    let context = app.engine.context();
    if tokens.len() > context {
        return Err(ApiError::too_long(tokens.len(), context));
    }
    let with_tools = uses_tools(&job);
    let dialect = app.templates.dialect(with_tools);
    let start = dialect.start(&job, worker.tokenizer, &tokens);
    let reading = dialect.read(&job, start)?;
    let parsers = (0..job.choices).map(|_| reading.parser()).collect();
    let mut generate = job.generate;
    generate.logit_bias = token_biases(&job.biases, worker.tokenizer)?;
    if !generate.ignore_eos {
        generate.stop_tokens.extend(worker.encoder(with_tools).end_token());
    }
    let mut request = Request::new(tokens, generate).with_choices(job.choices);
    request.deadline = app.options.deadline;
    let mut permits = Permits::default();
    if let Some((grammar, param)) = reading.grammar() {
        let constraint = worker.compile(grammar, param, |bytes| {
            permits = Permits::of_grammar(app, bytes)?;
            Ok(())
        });
        request = request.with_constraint(constraint?);
    }
    check(app, worker, &request.generate, request.constraint.as_deref())?;
    Ok(Prepared { request, parsers, permits })
}

/// Checks that an answer can begin: here, since a stream has no status left to tell of it.
fn check(
    app: &App,
    worker: &Worker<'_>,
    generate: &Generate,
    constraint: Option<&dyn Constraint>,
) -> ApiResult<()> {
    let rows = app.model.spec().vocab as usize;
    check_biases(&generate.logit_bias, worker.tokenizer, rows, constraint)
}

/// Tokenises the prompts of texts, and makes their constraints.
fn prepare_text(
    app: &App,
    worker: &Worker<'_>,
    job: TextJob,
) -> ApiResult<(Vec<Request>, TextPrompts, Permits)> {
    if app.options.log_prompts {
        let prompts = &job.prompts;
        tracing::info!(?prompts, "prompt");
    }
    let context = app.engine.context();
    let mut generate = job.generate;
    generate.logit_bias = token_biases(&job.biases, worker.tokenizer)?;
    let mut permits = Permits::default();
    let constraint = match &job.grammar {
        Some((grammar, param)) => Some(worker.compile(grammar, param, |bytes| {
            permits = Permits::of_grammar(app, bytes)?;
            Ok(())
        })?),
        None => None,
    };
    check(app, worker, &generate, constraint.as_deref())?;
    let (mut requests, mut all) = (Vec::new(), TextPrompts::default());
    for prompt in job.prompts {
        let (tokens, added) = prompt.encode(worker.tokenizer)?;
        // Without a token to generate, the prompt itself may fill the context.
        if tokens.len() > context {
            return Err(ApiError::too_long(tokens.len(), context));
        }
        if job.echo {
            all.texts.push(prompt.text(worker.tokenizer)?);
            all.tokens.push((tokens.clone(), added));
        }
        let mut request = Request::new(tokens, generate.clone()).with_choices(job.choices);
        request = request.with_prompt_logprobs(job.echo && generate.logprobs.is_some());
        request.deadline = app.options.deadline;
        request.constraint = constraint.as_ref().map(|constraint| constraint.fork());
        requests.push(request);
    }
    Ok((requests, all, permits))
}
