//! A small model, and engines of it that a test may not wait for in vain.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use teff_runtime::engine::{Engine, EngineOptions, EngineStats, Event, PAGE, Request, Stream};
use teff_runtime::{Finish, Generate, Model};

/// Time after which a test has failed: nothing here depends on how long something takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The model that writes stories, opened once.
pub(crate) fn model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let open = || {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
        Arc::new(Model::open(path).expect("the story model"))
    };
    Arc::clone(MODEL.get_or_init(open))
}

/// Options of small engines: one thread, since tests run beside each other.
pub(crate) fn options() -> EngineOptions {
    EngineOptions::default().with_threads(1).with_context(3 * PAGE).with_sequences(4)
}

/// An engine with these options, whose cache has this number of pages.
pub(crate) fn engine(options: EngineOptions, pages: usize) -> Engine {
    let model = model();
    let all = options.with_cache(1 << 30);
    let all = Engine::builder(&model).options(all).memory_requirements().expect("valid options");
    let options = options.with_cache(all.page_bytes.div_ceil(all.pages) * pages);
    let engine = Engine::builder(&model).options(options).build().expect("an engine");
    assert_eq!(engine.stats().pages, pages);
    engine
}

/// A prompt of this length; those of one seed are beginnings of each other.
pub(crate) fn prompt(seed: u32, len: usize) -> Vec<u32> {
    let token = |i: u32| 3 + (seed.wrapping_mul(0x9e37_79b9) ^ i.wrapping_mul(0x85eb_ca6b)) % 2000;
    (0..len as u32).map(token).collect()
}

/// A request for this many tokens, whatever they are.
pub(crate) fn tokens(n: usize) -> Generate {
    Generate::default().with_max_tokens(n).with_ignore_eos(true)
}

/// Outcome of one choice.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) tokens: Vec<u32>,
    pub(crate) end: Result<Finish, String>,
}

/// Reads a stream to its end: each choice has one end, and nothing behind it.
pub(crate) fn read(mut stream: Stream, choices: usize) -> Vec<Text> {
    let mut all: Vec<(Vec<u32>, Option<_>)> = (0..choices).map(|_| (Vec::new(), None)).collect();
    let start = Instant::now();
    while !stream.is_ended() {
        assert!(start.elapsed() < PATIENCE, "a request was not answered");
        match stream.next_timeout(Duration::from_secs(1)) {
            Some(Event::Piece { choice, piece }) => {
                assert!(all[choice].1.is_none());
                all[choice].0.extend(piece.tokens);
            }
            Some(Event::Finished { choice, finish, generated }) => {
                assert_eq!(all[choice].0.len(), generated);
                assert!(all[choice].1.replace(Ok(finish)).is_none());
            }
            Some(Event::Failed { choice, error }) => {
                assert!(all[choice].1.replace(Err(error.to_string())).is_none());
            }
            _ => {}
        }
    }
    assert!(stream.next().is_none());
    all.into_iter().map(|(tokens, end)| Text { tokens, end: end.expect("an end") }).collect()
}

/// The tokens and the end of a request for one choice.
pub(crate) fn one(engine: &Engine, request: Request) -> Text {
    read(engine.submit(request).expect("a stream"), 1).remove(0)
}

/// Waits until nothing runs or waits, and nothing is missing. (What is lost is missing for ever. For a moment pages may be:
/// the numbers are read one after the other.)
pub(crate) fn settled(engine: &Engine) -> EngineStats {
    let start = Instant::now();
    loop {
        let s = engine.stats();
        let pages = s.pages_running == 0 && s.pages_free + s.pages_cached == s.pages;
        if s.running == 0 && s.waiting == 0 && pages && s.ended_sequences == s.sequences {
            return s;
        }
        assert!(start.elapsed() < PATIENCE, "it doesn't come to rest: {s:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
