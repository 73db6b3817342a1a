//! Threads that render conversations, tokenise texts and compile grammars.
//!
//! This work takes long for large inputs, and a parsed template stays in its thread. So there are a few
//! threads with encoders of their own, to which handlers send closures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use teff_runtime::Model;
use teff_runtime::chat::{ChatTemplate, Encoder, SpecialTokens};
use teff_runtime::tokenizer::Tokenizer;
use tokio::sync::oneshot;

use crate::error::{ApiError, ApiResult};
use crate::grammar::Grammars;

/// Number of threads.
const THREADS: usize = 2;

type Work = Box<dyn FnOnce(&Worker<'_>) + Send>;

/// Sources of the chat templates.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    /// Template of conversations without tools.
    pub(crate) plain: String,
    /// Template of conversations with tools, if it is another.
    pub(crate) tools: Option<String>,
}

impl Templates {
    /// The template of a conversation.
    pub(crate) fn select(&self, tools: bool) -> &str {
        self.tools.as_deref().filter(|_| tools).unwrap_or(&self.plain)
    }
}

/// Part of a thread that closures work with.
pub(crate) struct Worker<'m> {
    /// The model's tokenizer.
    pub(crate) tokenizer: &'m Tokenizer,
    /// Compiler of grammars, or the reason why there is none.
    pub(crate) grammars: &'m Result<Grammars, String>,
    plain: Encoder<'m>,
    tools: Option<Encoder<'m>>,
}

impl<'m> Worker<'m> {
    /// The encoder of conversations with or without tools.
    pub(crate) fn encoder(&self, tools: bool) -> &Encoder<'m> {
        self.tools.as_ref().filter(|_| tools).unwrap_or(&self.plain)
    }
}

/// Handle of the threads, which end when it is dropped.
#[derive(Debug)]
pub(crate) struct Prompter {
    sender: Sender<Work>,
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
        let (sender, receiver) = mpsc::channel::<Work>();
        let receiver = Arc::new(Mutex::new(receiver));
        for i in 0..THREADS {
            let (model, templates) = (Arc::clone(model), templates.clone());
            let (grammars, receiver) = (Arc::clone(&grammars), Arc::clone(&receiver));
            thread::Builder::new()
                .name(format!("teff-prompt-{i}"))
                .spawn(move || work(&model, &templates, &grammars, &receiver))
                .map_err(|e| format!("a thread can't be started: {e}"))?;
        }
        Ok(Prompter { sender })
    }

    /// Runs a closure on one of the threads and returns its result. If the future is dropped before its
    /// turn comes, the closure doesn't run.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
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
        self.sender.send(work).map_err(|_| ApiError::ending())?;
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
