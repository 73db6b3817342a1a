//! Sessions of models whose layers can't all be truncated: short convolutions (LFM2), windows
//! (Gemma 3) and linear attention (Qwen 3.5).

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{data, golden};
use teff::graph::{
    Cancel, Memory, Options, Outputs, Plan, Runner, Segment, SequenceId, Solo, Step, StepError,
};
use teff::{Cpu, KvFormat, LogitsFor, Model, Session, SessionOptions};

const FILES: [&str; 3] =
    ["lfm2/lfm2-Q4_0.gguf", "gemma3/gemma3-Q4_0.gguf", "qwen35/qwen35-Q4_0.gguf"];

fn model(name: &str) -> Model {
    Model::open(data("..").join(name)).unwrap()
}

fn tokens(name: &str) -> Vec<u32> {
    golden(&data("..").join(format!("{name}.golden.safetensors"))).tokens
}

fn options() -> SessionOptions {
    SessionOptions { batch: 8, threads: Some(1), ..SessionOptions::default() }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

fn fresh(model: &Model, tokens: &[u32]) -> Vec<u32> {
    bits(model.session(&options()).unwrap().eval(tokens, LogitsFor::Last).unwrap())
}

/// Wherever a text is truncated, what follows has the bits of a fresh session.
#[test]
fn every_way_back_has_the_same_bits() {
    for name in FILES {
        let (model, tokens) = (model(name), tokens(name));
        let n = tokens.len();
        let mut s = model.session(&options()).unwrap();
        for to in [n - 1, n / 2, 1, n - 2, 3, 0] {
            s.truncate(0);
            s.eval(&tokens, LogitsFor::None).unwrap();
            s.truncate(to);
            assert_eq!(s.tokens(), &tokens[..to]);
            assert!(s.computed() <= to);
            let got = bits(s.eval(&tokens[to..], LogitsFor::Last).unwrap());
            assert_eq!(got, fresh(&model, &tokens), "{name}: back to {to}");
        }
    }
}

/// The last step can be undone without recomputing, and so can everything up to a checkpoint.
#[test]
fn checkpoints_save_work() {
    let name = FILES[0];
    let (model, tokens) = (model(name), tokens(name));
    let mut s = model.session(&options()).unwrap();
    s.eval(&tokens[..10], LogitsFor::None).unwrap();
    s.eval(&tokens[10..11], LogitsFor::None).unwrap();
    s.truncate(10);
    assert_eq!(s.computed(), 10);
    for t in &tokens[10..20] {
        s.eval(&[*t], LogitsFor::None).unwrap();
    }
    assert!(s.checkpoints().any(|p| p == 10));
    let mut fork = s.fork().unwrap();
    assert!(fork.checkpoints().eq(s.checkpoints()));
    for s in [&mut fork, &mut s] {
        s.truncate(12);
        assert_eq!((s.tokens().len(), s.computed()), (12, 10));
    }
    assert_eq!(bits(fork.eval(&tokens[12..], LogitsFor::Last).unwrap()), fresh(&model, &tokens));
    assert_eq!(bits(s.eval(&tokens[12..], LogitsFor::Last).unwrap()), fresh(&model, &tokens));
    // As many as there is room for, with the oldest discarded.
    for _ in 0..3 {
        s.truncate(5);
        s.eval(&tokens[5..9], LogitsFor::None).unwrap();
        assert!(s.checkpoint());
    }
    assert!(s.checkpoints().count() <= 2);
    // Without room for any, it starts over.
    let none = SessionOptions { checkpoints: 0, ..options() };
    let mut s = model.session(&none).unwrap();
    s.eval(&tokens, LogitsFor::None).unwrap();
    assert!(!s.checkpoint());
    s.truncate(7);
    assert_eq!(s.computed(), 0);
    assert_eq!(bits(s.eval(&tokens[7..], LogitsFor::Last).unwrap()), fresh(&model, &tokens));
    assert_eq!(model.memory_requirements(&none).unwrap().checkpoints, 0);
}

#[test]
fn forks_and_snapshots_go_on_by_themselves() {
    for name in FILES {
        let (model, tokens) = (model(name), tokens(name));
        let (a, b) = tokens.split_at(tokens.len() / 2);
        let other: Vec<u32> = b.iter().rev().copied().collect();
        let mut s = model.session(&options()).unwrap();
        s.eval(a, LogitsFor::None).unwrap();
        let mut fork = s.fork().unwrap();
        // Another batch has rings of another size.
        let wide = SessionOptions { batch: 32, threads: Some(2), oversubscribe: true, ..options() };
        let mut restored: Session<'_> = model.session(&wide).unwrap();
        restored.eval(&other, LogitsFor::None).unwrap();
        restored.restore(&s.snapshot()).unwrap();
        let of_s = bits(s.eval(b, LogitsFor::Last).unwrap());
        let of_fork = bits(fork.eval(&other, LogitsFor::Last).unwrap());
        assert_eq!(of_s, fresh(&model, &tokens), "{name}");
        assert_eq!(of_fork, fresh(&model, &[a, &other].concat()), "{name}");
        assert_eq!(bits(restored.eval(b, LogitsFor::Last).unwrap()), of_s, "{name}");
        // Truncated to the restored position, and continued from there.
        restored.truncate(a.len());
        assert_eq!(bits(restored.eval(b, LogitsFor::Last).unwrap()), of_s, "{name}");
        restored.truncate(2);
        assert_eq!(bits(restored.eval(&tokens[2..], LogitsFor::Last).unwrap()), of_s, "{name}");
    }
}

/// A text is continued without new tokens: the last one's logits are recomputed, or still
/// available.
#[test]
fn nothing_new_is_continued() {
    let name = FILES[0];
    let (model, tokens) = (model(name), tokens(name));
    let how = teff::Generate { max_tokens: Some(3), ignore_eos: true, ..Default::default() };
    let text = |s: &mut Session<'_>| -> (usize, Vec<u32>) {
        let mut g = s.generate_ids(&[], &how).unwrap();
        while g.next_piece().unwrap().is_some() {}
        (g.generated(), g.session().tokens().to_vec())
    };
    let mut a = model.session(&options()).unwrap();
    a.eval(&tokens, LogitsFor::None).unwrap();
    let mut b = model.session(&options()).unwrap();
    b.eval(&tokens, LogitsFor::Last).unwrap();
    let mut c = model.session(&options()).unwrap();
    c.restore(&b.snapshot()).unwrap();
    let want = text(&mut a);
    assert_eq!(want.0, 3);
    assert_eq!(text(&mut b), want);
    assert_eq!(text(&mut c), want);
}

/// Cancels a step after a number of checks.
struct After(AtomicUsize);

impl Cancel for After {
    fn cancelled(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }
}

/// Wherever a step of two sequences is cancelled, the next attempt has the same bits.
#[test]
fn cancelled_anywhere() {
    for name in FILES {
        let (model, tokens) = (model(name), tokens(name));
        let (kv, outputs) = (KvFormat::F16, Outputs::Logits);
        let options = Options { batch: 12, logits: 2, context: 64, kv, outputs, pages: 0 };
        let backend = Cpu::best();
        let plan = Plan::build(model.spec(), &|id| model.format(id), &options, &backend).unwrap();
        let memory = Memory::allocate(&plan.memory_requirements, 1, 2).unwrap();
        let table: Vec<_> = model.tensors().collect();
        let mut runner = Runner::new(plan, table.into(), backend, 1, memory).unwrap();
        let segment =
            |s: u16, tokens| Segment { sequence: SequenceId(s), tokens, logits: LogitsFor::Last };
        let mut run = |after: usize, segments: &[Segment<'_>]| -> Result<Vec<u32>, StepError> {
            let cancel = After(AtomicUsize::new(after));
            let step = Step { segments, cancel: &cancel };
            let running = runner.begin(&step)?;
            running.walk(&Solo)?;
            let rows = running.commit()?;
            Ok(bits(runner.logits(rows)))
        };
        run(usize::MAX, &[segment(0, &tokens[..7])]).unwrap();
        run(usize::MAX, &[segment(1, &tokens[3..8]), segment(0, &tokens[7..9])]).unwrap();
        let both = [segment(0, &tokens[9..12]), segment(1, &tokens[8..16])];
        let mut cancelled = 0;
        let got = loop {
            // Later and later, until it is too late to cancel.
            match run(cancelled * 3, &both) {
                Err(StepError::Cancelled) => cancelled += 1,
                other => break other.unwrap(),
            }
        };
        assert!(cancelled > 10, "{cancelled}");
        let alone = |tokens: &[u32]| {
            let o = SessionOptions { kv: KvFormat::F16, ..self::options() };
            bits(model.session(&o).unwrap().eval(tokens, LogitsFor::Last).unwrap())
        };
        assert_eq!(got, [alone(&tokens[..12]), alone(&tokens[3..16])].concat(), "{name}");
    }
}
