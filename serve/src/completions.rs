//! `/v1/completions`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Map, Value, json};
use teff_runtime::Model;
use teff_runtime::sample::TokenLogprobs;
use teff_runtime::tokenizer::Tokenizer;

use crate::answer::{Header, add_usage, json_response};
use crate::app::{Shared, TextPrompts};
use crate::body::{JsonBody, Permits};
use crate::chat::finish_reason;
use crate::collect::collect;
use crate::conversation;
use crate::error::{ApiError, ApiResult};
use crate::job::{Answer, Delta, FinishReason, Prompt, TextJob};
use crate::json::{Fields, whole};
use crate::logprobs::TextLogprobs;
use crate::options::ServeOptions;
use crate::sampling::{Common, MAX_LOGPROBS};
use crate::sse::{self, Present, event};

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/completions", post(complete)).route("/completions", post(complete))
}

/// Reads `prompt`: a text, a list of tokens, or a list of these.
pub(crate) fn prompts(fields: &Fields<'_>, most: usize) -> ApiResult<Vec<Prompt>> {
    const WANTED: &str = "must be a string, an array of strings, or token ids";
    let wrong = || fields.error("prompt", WANTED);
    let id = |value: &Value| match value {
        Value::Number(n) => whole(n).and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong),
        _ => Err(wrong()),
    };
    let tokens = |all: &[Value]| all.iter().map(id).collect::<ApiResult<_>>().map(Prompt::Tokens);
    let all = match fields.get("prompt") {
        None => return Err(fields.error("prompt", "is required")),
        Some(Value::String(text)) => vec![Prompt::Text(text.clone())],
        Some(Value::Array(all)) if all.first().is_some_and(Value::is_number) => vec![tokens(all)?],
        Some(Value::Array(all)) if all.is_empty() => {
            return Err(fields.error("prompt", "must have at least one prompt"));
        }
        Some(Value::Array(all)) => {
            if all.len() > most {
                return Err(fields.error("prompt", format_args!("may have at most {most} prompts")));
            }
            let one = |value: &Value| match value {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(ids) => tokens(ids),
                _ => Err(wrong()),
            };
            all.iter().map(one).collect::<ApiResult<_>>()?
        }
        Some(_) => return Err(wrong()),
    };
    Ok(all)
}

/// Reads a whole request.
pub(crate) fn read(body: &Value, options: &ServeOptions) -> ApiResult<(TextJob, Common)> {
    let fields = Fields::of_body(body)?;
    options.check_model(&fields)?;
    let prompts = prompts(&fields, options.max_choices)?;
    let common = Common::read(&fields, options)?;
    if prompts.len() * common.choices > options.max_choices {
        let most = options.max_choices;
        return Err(
            fields.error("n", format_args!("may give at most {most} choices of all prompts"))
        );
    }
    let mut generate = common.generate.clone();
    generate.logprobs = match fields.get("logprobs") {
        Some(Value::Bool(on)) => on.then_some(0),
        _ => fields.count("logprobs", 0..=MAX_LOGPROBS)?,
    };
    if fields.str("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(fields.error("suffix", "is not supported: the model continues texts"));
    }
    let is_text = |prompt: &Prompt| matches!(prompt, Prompt::Text(_));
    if fields.bool("add_special_tokens")? == Some(false) && prompts.iter().any(is_text) {
        let message = "is not supported: send token ids for a text without the first one";
        return Err(fields.error("add_special_tokens", message));
    }
    let job = TextJob {
        prompts,
        generate,
        biases: common.biases.clone(),
        choices: common.choices,
        echo: fields.bool("echo")?.unwrap_or(false),
        grammar: conversation::grammar(&fields)?,
    };
    Ok((job, common))
}

async fn complete(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let (job, common) = read(&body, &app.options)?;
    let mut in_flight = app.begin("text")?;
    let header = Header::new(&app, "cmpl-", common.generate.sampling.seed);
    let top = job.generate.logprobs;
    let (mut answer, prompts) = app.text(job).await?;
    // The job has copies until here, and the answer one of the prompts to its end if it has them.
    let permits = body.into_permits().shrunk(prompts.bytes());
    let model = Arc::clone(&app.model);
    let form = Form { model, top, each: common.choices, prompts, _permits: permits };
    if common.stream {
        let choices = (0..answer.choices()).map(|_| Choice::default()).collect();
        let stream = TextStream { form, header, include_usage: common.include_usage, choices };
        return Ok(sse::respond(&app, answer, in_flight, stream));
    }
    let all = collect(&app, &mut answer, &mut in_flight).await?;
    let choices = all.into_iter().enumerate().map(|(i, whole)| {
        let (mut text, mut logprobs) = form.begin(i, &whole.prompt_logprobs);
        text.push_str(&whole.text);
        form.extend(&mut logprobs, &whole.logprobs);
        form.choice(i, &text, &logprobs, whole.reason.as_ref())
    });
    let choices = choices.collect();
    Ok(json_response(&header.whole("text_completion", choices, &answer)))
}

/// Form of the choices.
struct Form {
    model: Arc<Model>,
    /// Number of alternatives of log probabilities, if these are wanted.
    top: Option<usize>,
    /// Number of choices of a prompt.
    each: usize,
    prompts: TextPrompts,
    _permits: Permits,
}

impl Form {
    fn tokenizer(&self) -> Option<&Tokenizer> {
        self.model.tokenizer().ok()
    }

    /// The beginning of a choice: the prompt, if it is wanted back.
    fn begin(&self, choice: usize, logprobs: &[TokenLogprobs]) -> (String, TextLogprobs) {
        let prompt = choice / self.each.max(1);
        let text = self.prompts.texts.get(prompt).cloned().unwrap_or_default();
        let mut all = TextLogprobs::default();
        if let (Some(top), Some(tokenizer)) = (self.top, self.tokenizer())
            && let Some((tokens, added)) = self.prompts.tokens.get(prompt)
        {
            // The log probabilities begin with the second token; added tokens are not in the text.
            let skipped = match (tokens.first(), added) {
                (Some(first), 0) => {
                    all.first(tokenizer, *first);
                    0
                }
                (_, added) => added - 1,
            };
            all.extend(tokenizer, logprobs.get(skipped..).unwrap_or_default(), top > 0);
        }
        (text, all)
    }

    fn extend(&self, all: &mut TextLogprobs, more: &[TokenLogprobs]) {
        if let (Some(top), Some(tokenizer)) = (self.top, self.tokenizer()) {
            all.extend(tokenizer, more, top > 0);
        }
    }

    fn choice(
        &self,
        index: usize,
        text: &str,
        logprobs: &TextLogprobs,
        reason: Option<&FinishReason>,
    ) -> Value {
        let mut map = Map::new();
        map.insert("text".into(), json!(text));
        map.insert("index".into(), json!(index));
        let logprobs = self.top.map(|_| logprobs.to_json());
        map.insert("logprobs".into(), json!(logprobs));
        map.insert("finish_reason".into(), json!(reason.map(finish_reason)));
        Value::Object(map)
    }
}

/// Presentation as a stream.
struct TextStream {
    form: Form,
    header: Header,
    include_usage: bool,
    choices: Vec<Choice>,
}

/// What a stream remembers of a choice: log probabilities that go out with the next chunk.
#[derive(Default)]
struct Choice {
    logprobs: TextLogprobs,
}

impl TextStream {
    fn chunk(
        &mut self,
        choice: usize,
        text: &str,
        reason: Option<&FinishReason>,
        out: &mut String,
    ) {
        let Some(state) = self.choices.get_mut(choice) else { return };
        let next = TextLogprobs::at(state.logprobs.offset());
        let logprobs = std::mem::replace(&mut state.logprobs, next);
        let choice = self.form.choice(choice, text, &logprobs, reason);
        event(out, None, &self.header.chunk("text_completion", vec![choice]));
    }
}

impl Present for TextStream {
    fn delta(&mut self, delta: Delta, _answer: &Answer, out: &mut String) {
        match delta {
            Delta::Started { choice, prompt_logprobs } => {
                let (text, logprobs) = self.form.begin(choice, &prompt_logprobs);
                if !text.is_empty() {
                    if let Some(state) = self.choices.get_mut(choice) {
                        state.logprobs = logprobs;
                    }
                    self.chunk(choice, &text, None, out);
                }
            }
            Delta::Text { choice, text } => self.chunk(choice, &text, None, out),
            Delta::Logprobs { choice, logprobs } => {
                if let Some(state) = self.choices.get_mut(choice) {
                    self.form.extend(&mut state.logprobs, &logprobs);
                }
            }
            Delta::Finished { choice, reason } => self.chunk(choice, "", Some(&reason), out),
            // Texts have neither reasoning nor calls.
            _ => {}
        }
    }

    fn end(&mut self, answer: &Answer, out: &mut String) {
        if self.include_usage {
            let mut chunk = self.header.chunk("text_completion", Vec::new());
            add_usage(&mut chunk, answer);
            event(out, None, &chunk);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        event(out, None, &error.to_json());
    }
}
