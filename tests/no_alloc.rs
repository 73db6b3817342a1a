//! Second promise: a session takes the predicted memory, and a token takes none.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use std::path::{Path, PathBuf};

use common::{data, golden};
use teff::runtime::engine::{Constraint, ConstraintError, Engine, EngineOptions, Event, Request};
use teff::{Generate, KvFormat, LogitsFor, Model, Sampling, SessionOptions, Speculation};

struct Counting;

static COUNT: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; counting changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNT.load(SeqCst) {
            CALLS.fetch_add(1, SeqCst);
        }
        let live = LIVE.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(live, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls(f: impl FnOnce()) -> usize {
    CALLS.store(0, SeqCst);
    COUNT.store(true, SeqCst);
    f();
    COUNT.store(false, SeqCst);
    CALLS.load(SeqCst)
}

/// Constraint that allows every second token.
struct EverySecond;

impl Constraint for EverySecond {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
        allowed.fill(0x5555_5555);
        Ok(())
    }

    fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn is_complete(&mut self) -> bool {
        false
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(EverySecond)
    }
}

/// Runs without the test harness (Cargo.toml), whose own thread allocates at unpredictable times.
fn main() {
    predicted_is_used_and_tokens_take_nothing();
    println!("test predicted_is_used_and_tokens_take_nothing ... ok");
    for speculation in [Speculation::Off, Speculation::NgramAlways(5), Speculation::DraftAlways(2)]
    {
        an_engine_s_tokens_take_nothing(speculation);
    }
    println!("test an_engine_s_tokens_take_nothing ... ok");
}

fn predicted_is_used_and_tokens_take_nothing() {
    let gpt2 = ["gpt2-f32.gguf", "gpt2-F16.gguf", "gpt2-Q8_0.gguf", "gpt2-Q4_0.gguf"].map(data);
    // Windows, experts, and layers that need checkpoints to go back.
    let others = ["gemma3/gemma3-Q4_0", "qwen3moe/qwen3moe-Q4_K_M", "lfm2/lfm2-Q4_0"]
        .map(|name| data(&format!("../{name}.gguf")));
    for path in gpt2.into_iter().chain(others) {
        let tokens =
            golden(&PathBuf::from(format!("{}.golden.safetensors", path.display()))).tokens;
        let file = Path::new(path.file_name().unwrap()).display();
        let model = Model::open(&path).unwrap();
        for (threads, kv) in [(1, KvFormat::F32), (2, KvFormat::F16), (3, KvFormat::Q8)] {
            let options = SessionOptions {
                threads: Some(threads),
                oversubscribe: true,
                kv,
                batch: 8,
                ..SessionOptions::default()
            };
            let predicted = model.memory_requirements(&options).unwrap().total();
            let before = LIVE.load(SeqCst);
            PEAK.store(before, SeqCst);
            let mut s = model.session(&options).unwrap();
            let used = LIVE.load(SeqCst) - before;
            let peak = PEAK.load(SeqCst) - before;
            // Beyond the plan's memory: a stop handle, and the pool's threads with their names.
            let beyond = 256 + (threads - 1) * 2048;
            assert!(
                (predicted..=predicted + beyond).contains(&used),
                "{file}, {threads} threads: predicted {predicted}, used {used}"
            );
            // Building the plan takes slices of its capacity for a moment.
            assert!(peak <= used + 64 * 1024, "{file}: peak {peak}, used {used}");

            s.eval(&tokens[..4], LogitsFor::Last).unwrap();
            let n = calls(|| {
                for t in &tokens[4..] {
                    s.eval(&[*t], LogitsFor::Last).unwrap();
                }
                s.truncate(2);
                s.eval(&tokens[2..20], LogitsFor::Last).unwrap();
            });
            assert_eq!(n, 0, "{file}, {threads} threads: allocations while computing tokens");
        }
        // Text: sampling and decoding allocate nothing either.
        let mut s = model.session(&SessionOptions::default()).unwrap();
        let plain = Generate {
            sampling: Sampling::default().with_repeat_penalty(1.1, 64).with_frequency_penalty(0.1),
            max_tokens: Some(60),
            ignore_eos: true,
            ..Generate::default()
        };
        // Nor do stop strings (of which some begin again and again), biases, log probabilities.
        let much = plain
            .clone()
            .with_stop("zqzqzqzqzq")
            .with_stop("\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}")
            .with_logit_bias(3, -1.5)
            .with_logprobs(5);
        for how in [plain, much] {
            s.truncate(0);
            let mut g = s.generate("the cat", &how).unwrap();
            g.next_piece().unwrap();
            let n = calls(|| while g.next_piece().unwrap().is_some() {});
            assert_eq!(n, 0, "{file}: allocations while generating text");
            // Nor does a constraint.
            s.truncate(0);
            let g = s.generate("the cat", &how).unwrap();
            let mut g = g.with_constraint(Box::new(EverySecond)).unwrap();
            g.next_piece().unwrap();
            let n = calls(|| while g.next_piece().unwrap().is_some() {});
            assert_eq!(n, 0, "{file}: allocations while generating text with a constraint");
            // Nor does a hook.
            s.truncate(0);
            let g = s.generate("the cat", &how).unwrap();
            let mut g = g.with_hook(|tokens, logits| logits[tokens.len()] = 0.0).unwrap();
            g.next_piece().unwrap();
            let n = calls(|| while g.next_piece().unwrap().is_some() {});
            assert_eq!(n, 0, "{file}: allocations while generating text with a hook");
        }
        // Nor do guesses: here of the text itself, and of the same model.
        let how = Generate::default().with_max_tokens(60).with_ignore_eos(true).with_logprobs(2);
        for speculation in [Speculation::NgramAlways(5), Speculation::DraftAlways(3)] {
            let options = SessionOptions::default().with_speculation(speculation);
            let mut s = model.session_builder(&options).draft(&model).build().unwrap();
            let mut g = s.generate("the the the the", &how).unwrap();
            g.next_piece().unwrap();
            let n = calls(|| while g.next_piece().unwrap().is_some() {});
            assert_eq!(n, 0, "{file}: allocations while generating text with {speculation:?}");
            assert!(s.speculation_stats().guessed > 0, "{file}: {speculation:?}");
        }
    }
}

/// Of an engine with sixteen sequences, its threads allocate nothing for a token.
fn an_engine_s_tokens_take_nothing(speculation: Speculation) {
    let path = data("../../../examples/gpt2/model.gguf");
    let model = std::sync::Arc::new(Model::open(path).unwrap());
    let options = EngineOptions::default()
        .with_context(256)
        .with_sequences(16)
        .with_threads(2)
        .with_oversubscribe(true)
        .with_cache(64 << 20)
        .with_speculation(speculation);
    let engine = Engine::builder(&model).options(options).draft(&model).build().unwrap();
    // Sampling, penalties, log probabilities, stop strings and biases; and a constraint.
    let generate = |seed| {
        Generate::default()
            .with_sampling(
                Sampling::default()
                    .with_seed(seed)
                    .with_repeat_penalty(1.1, 32)
                    .with_presence_penalty(0.1),
            )
            .with_max_tokens(200)
            .with_ignore_eos(true)
            .with_logprobs(2)
            .with_stop("never said ")
            .with_logit_bias(7, -1.0)
    };
    let mut streams = Vec::new();
    for seed in 0..16 {
        let mut request = Request::new(vec![1, 2, 3 + seed as u32], generate(seed));
        if seed % 4 == 0 {
            request = request.with_constraint(Box::new(EverySecond));
        }
        streams.push(engine.submit(request).unwrap());
    }
    let generated = || engine.stats().generated_tokens;
    let until = |n| {
        while generated() < n {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    // Most are far from their ends: pages are taken and fill, and nobody reads.
    until(16 * 40);
    let n = calls(|| until(16 * 120));
    assert_eq!(n, 0, "allocations while an engine computes tokens, {speculation:?}");
    let guessed = engine.stats().guessed_tokens > 0;
    assert_eq!(guessed, speculation != Speculation::Off);
    for stream in streams {
        let ended = stream.into_iter().last();
        assert!(matches!(ended, Some(Event::Finished { .. })), "{ended:?}");
    }
}
