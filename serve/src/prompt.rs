//! Threads that render conversations, tokenise texts and compile grammars.
//!
//! This work takes long for large inputs, and a parsed template stays in its thread. So there are a few
//! threads with encoders of their own, to which handlers send closures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use teff_runtime::Model;
use teff_runtime::chat::{ChatTemplate, Conversation, Encoder, Message, SpecialTokens};
use teff_runtime::engine::Constraint;
use teff_runtime::template::Json;
use teff_runtime::tokenizer::Tokenizer;
use tokio::sync::oneshot;

use crate::error::{ApiError, ApiResult};
use crate::grammar::{Grammar, Grammars};
use crate::tools::Dialect;

/// Number of threads for short texts. There is one for grammars, and one for what is long.
const THREADS: usize = 2;

/// Bytes of texts from which on they are long: about a tenth of a second of work.
const LONG: usize = 1 << 18;

/// Bytes of a grammar from which on it is long: about a hundredth of a second of work.
const LONG_GRAMMAR: usize = 1 << 11;

/// Work of a closure by what it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// Texts of so many bytes.
    Texts(usize),
    /// Texts, and a grammar of so many bytes: even short ones may take a second.
    Grammar {
        /// Bytes of texts.
        texts: usize,
        /// Bytes of the grammar.
        grammar: usize,
    },
}

type Work = Box<dyn FnOnce(&Worker<'_>) + Send>;

/// Origin of the chat templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TemplateOrigin {
    /// The model's file or folder.
    Model,
    /// The server's options.
    Option,
    /// This program: the model has none, and may never have seen this form.
    Builtin,
}

impl TemplateOrigin {
    /// Name in `/props`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TemplateOrigin::Model => "model",
            TemplateOrigin::Option => "option",
            TemplateOrigin::Builtin => "builtin",
        }
    }
}

/// Sources of the chat templates.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    /// Template of conversations without tools.
    pub(crate) plain: String,
    /// Template of conversations with tools, if it is another.
    pub(crate) tools: Option<String>,
    /// Origin of both.
    pub(crate) origin: TemplateOrigin,
    parts: bool,
    tools_parts: bool,
    dialect: Dialect,
    tools_dialect: Dialect,
}

impl Templates {
    /// The template of these options, or the model's own, or ChatML's.
    pub(crate) fn choose(model: &Model, given: Option<&str>) -> Templates {
        let own = model.chat_templates().ok();
        let (origin, plain, tools) = match (given, own.and_then(|all| all.select(false))) {
            (Some(source), _) => (TemplateOrigin::Option, source.to_owned(), None),
            (None, Some(source)) => {
                let tools = own.and_then(|all| all.select(true)).filter(|other| *other != source);
                (TemplateOrigin::Model, source.to_owned(), tools.map(str::to_owned))
            }
            (None, None) => {
                tracing::warn!(
                    "the model has no chat template: conversations are written in the form of ChatML \
                     (--chat-template)"
                );
                let chatml = ChatTemplate::builtin("chatml");
                let source = chatml.map(|template| template.source().to_owned());
                (TemplateOrigin::Builtin, source.unwrap_or_default(), None)
            }
        };
        let parts = takes_parts(&plain);
        let tools_parts = tools.as_deref().map_or(parts, takes_parts);
        let dialect = Dialect::of_template(&plain);
        let tools_dialect = tools.as_deref().map_or(dialect, Dialect::of_template);
        Templates { plain, tools, origin, parts, tools_parts, dialect, tools_dialect }
    }

    /// The dialect of the template of a conversation.
    pub(crate) fn dialect(&self, tools: bool) -> Dialect {
        if tools { self.tools_dialect } else { self.dialect }
    }

    /// True if the template takes contents that are lists of texts.
    pub(crate) fn takes_parts(&self, tools: bool) -> bool {
        if tools && self.tools.is_some() { self.tools_parts } else { self.parts }
    }
}

/// True if a template writes the texts of a content that is a list, and not the list.
fn takes_parts(source: &str) -> bool {
    let text = |text: &str| Json::from([("type", "text".into()), ("text", text.into())]);
    let content = Json::Array(vec![text("zqxjkv"), text("vkjxqz")]);
    let messages = [Message::user(content)];
    let render = |source| {
        let template = ChatTemplate::new(source).ok()?;
        template.render(&Conversation::new(&messages), &SpecialTokens::default()).ok()
    };
    render(source).is_some_and(|out| {
        out.contains("zqxjkv")
            && out.contains("vkjxqz")
            && !out.contains("'type'")
            && !out.contains("\"type\"")
    })
}

/// Part of a thread that closures work with.
pub(crate) struct Worker<'m> {
    /// The model's tokenizer.
    pub(crate) tokenizer: &'m Tokenizer,
    grammars: &'m Result<Grammars, String>,
    plain: Encoder<'m>,
    tools: Option<Encoder<'m>>,
}

impl<'m> Worker<'m> {
    /// The encoder of conversations with or without tools.
    pub(crate) fn encoder(&self, tools: bool) -> &Encoder<'m> {
        self.tools.as_ref().filter(|_| tools).unwrap_or(&self.plain)
    }

    /// The constraint for a grammar; `param` is the field of the request that has it. `take` is given the
    /// bytes of memory that it will hold, before it takes them.
    ///
    /// # Errors
    /// [`ApiError`] that names the part of the grammar that is not supported, or that of `take`.
    pub(crate) fn compile(
        &self,
        grammar: &Grammar,
        param: &str,
        take: impl FnOnce(usize) -> ApiResult<()>,
    ) -> ApiResult<Box<dyn Constraint>> {
        let grammars = self.grammars.as_ref().map_err(|e| ApiError::field(param, e))?;
        grammars.compile(grammar, param, take)
    }
}

/// Handle of the threads, which end when it is dropped.
#[derive(Debug)]
pub(crate) struct Prompter {
    short: Sender<Work>,
    grammars: Sender<Work>,
    long: Sender<Work>,
}

impl Prompter {
    /// Starts the threads.
    ///
    /// # Errors
    /// The cause, if a template is malformed, the model has no tokenizer, or the system refuses a
    /// thread.
    pub(crate) fn start(model: &Arc<Model>, templates: &Templates) -> Result<Prompter, String> {
        model.tokenizer().map_err(|e| e.to_string())?;
        for source in [Some(&templates.plain), templates.tools.as_ref()].into_iter().flatten() {
            ChatTemplate::new(source).map_err(|e| format!("the chat template: {e}"))?;
        }
        let grammars = Arc::new(Grammars::new(model));
        let start = |threads: usize, name: &str| {
            let (sender, receiver) = mpsc::channel::<Work>();
            let receiver = Arc::new(Mutex::new(receiver));
            for i in 0..threads {
                let (model, templates) = (Arc::clone(model), templates.clone());
                let (grammars, receiver) = (Arc::clone(&grammars), Arc::clone(&receiver));
                thread::Builder::new()
                    .name(format!("teff-{name}-{i}"))
                    .spawn(move || work(&model, &templates, &grammars, &receiver))
                    .map_err(|e| format!("a thread can't be started: {e}"))?;
            }
            Ok::<_, String>(sender)
        };
        Ok(Prompter {
            short: start(THREADS, "prompt")?,
            grammars: start(1, "grammars")?,
            long: start(1, "long")?,
        })
    }

    /// Runs a closure on one of the threads and returns its result. If the future is dropped before its
    /// turn comes, the closure doesn't run. Long texts and grammars wait for each other, short ones never for
    /// them, and texts without a grammar for none that have one.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        size: Size,
        f: impl FnOnce(&Worker<'_>) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let (reply, result) = oneshot::channel();
        let work: Work = Box::new(move |worker| {
            if !reply.is_closed() {
                let done = catch_unwind(AssertUnwindSafe(|| f(worker)));
                let failed = |_| Err(ApiError::internal("preparing the request failed"));
                let _ = reply.send(done.unwrap_or_else(failed));
            }
        });
        let sender = match size {
            Size::Texts(LONG..) | Size::Grammar { texts: LONG.., .. } => &self.long,
            Size::Grammar { grammar: LONG_GRAMMAR.., .. } => &self.long,
            Size::Grammar { .. } => &self.grammars,
            Size::Texts(_) => &self.short,
        };
        sender.send(work).map_err(|_| ApiError::ending())?;
        result.await.unwrap_or_else(|_| Err(ApiError::ending()))
    }
}

/// One thread: runs closures until there are no more senders.
fn work(
    model: &Model,
    templates: &Templates,
    grammars: &Result<Grammars, String>,
    receiver: &Mutex<Receiver<Work>>,
) {
    let Ok(tokenizer) = model.tokenizer() else { return };
    let special = SpecialTokens::of_model(model);
    let encoder = |source: &str| {
        let template = ChatTemplate::new(source).ok()?;
        Some(Encoder::with_special_tokens(tokenizer, template, special.clone()))
    };
    let Some(plain) = encoder(&templates.plain) else { return };
    let tools = templates.tools.as_deref().and_then(encoder);
    let worker = Worker { tokenizer, grammars, plain, tools };
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(&worker),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn short_texts_pass_by_long_ones() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gpt2/model.gguf");
        let model = Arc::new(Model::open(path).unwrap());
        let templates = Templates::choose(&model, Some("{{ messages[0].content }}"));
        let prompter = Prompter::start(&model, &templates).unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        let first = prompter.run(Size::Texts(LONG), move |_| Ok(wait.recv().is_ok()));
        let second = prompter.run(Size::Texts(LONG), |_| Ok(()));
        tokio::pin!(first, second);
        for _ in 0..20 {
            // Each is sent when it is first polled. The second one waits for the first.
            tokio::select! {
                biased;
                _ = &mut first => panic!("it waits"),
                _ = &mut second => panic!("two long texts at the same time"),
                done = prompter.run(Size::Texts(LONG - 1), |_| Ok(())) => done.unwrap(),
            }
        }
        go_on.send(()).unwrap();
        assert!(first.await.unwrap());
        second.await.unwrap();
    }
}
