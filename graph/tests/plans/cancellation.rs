//! A step checks for cancellation as often as its backend is slow, and its bits stay the same.

#![cfg(all(feature = "alloc", feature = "legacy-quants"))]

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use teff_graph::family::gpt2;
use teff_graph::{
    Activation, Broken, Cancel, LogitsFor, NeverCancel, Options, Outputs, Segment, Spec, Step,
    StepError, Team, Work,
};
use teff_kernels::{
    Activations, AttentionParams, Backend, DenseActivations, Format, KvFormat, KvHead, Matrix,
    Scalar, Tile,
};

use crate::common::draw::{everything, format_of};
use crate::common::{
    CancelAt, Meeting, Model, Room, Worker, bits, run_on, with_attention, with_dense, with_len,
};

/// Backend with a stated speed, which counts its work since the last check.
struct Counting<'a> {
    products_per_ms: usize,
    since: &'a AtomicUsize,
    most: &'a AtomicUsize,
}

impl Counting<'_> {
    fn count(&self, asked: usize) {
        let since = self.since.fetch_add(asked, Relaxed) + asked;
        self.most.fetch_max(since, Relaxed);
    }
}

impl Backend for Counting<'_> {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn products_per_ms(&self) -> usize {
        self.products_per_ms
    }
    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        self.count(rows.len() * w.cols() * x.n());
        Scalar.matmul(w, x, rows, y, scratch);
    }
    fn attend(
        &self,
        q: &DenseActivations<'_>,
        kv: &KvHead<'_>,
        position: usize,
        params: &AttentionParams<'_>,
        out: &mut Tile<'_>,
    ) {
        self.count((0..q.n()).map(|t| 2 * (position + t + 1) * q.cols()).sum());
        Scalar.attend(q, kv, position, params, out);
    }
}

/// [`Cancel`] that never cancels, and counts the checks.
struct CountsChecks<'a> {
    since: &'a AtomicUsize,
    checks: AtomicUsize,
}

impl Cancel for CountsChecks<'_> {
    fn cancelled(&self) -> bool {
        self.since.store(0, Relaxed);
        self.checks.fetch_add(1, Relaxed);
        false
    }
}

#[test]
fn checks_for_cancellation_are_as_frequent_as_the_backend_is_slow() {
    let small = Spec { vocab: 50, context: 64, width: 64, ..with_len(&gpt2::small(), 1) };
    let small = with_attention(&small, |a| (a.heads, a.kv_heads, a.head_dim) = (2, 2, 32));
    let small = with_dense(&small, |d| d.inner = 96);
    let gated = with_dense(&small, |d| (d.gated, d.activation) = (true, Activation::Silu));
    for spec in [small, gated] {
        let mut want = None;
        let model = Model::new(spec, |_| Format::Q8_0);
        let mut before = 0;
        // Smallest amount of work in one call: the heads of a block of activations and everything
        // that the last token attends to (a block of a product's outputs is 32 * 96).
        let least = 2 * 50 * 64;
        for products_per_ms in [usize::MAX, 1 << 16, 10_000, 1] {
            let (since, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let backend = Counting { products_per_ms, since: &since, most: &most };
            let options = Options {
                batch: 50,
                logits: 50,
                context: 64,
                kv: KvFormat::F32,
                outputs: Outputs::Logits,
                pages: 0,
            };
            let mut room = Room::default();
            let mut runner = model.runner(&mut room, &options, backend, (1, 1));
            let tokens: Vec<u32> = (0..50).collect();
            let cancel = CountsChecks { since: &since, checks: AtomicUsize::new(0) };
            let segments = [Segment::new(&tokens, LogitsFor::All)];
            let got = bits(&run_on(&mut runner, &segments, &cancel, 1).unwrap());
            assert_eq!(*want.get_or_insert_with(|| got.clone()), got, "{products_per_ms}");
            let most = most.load(Relaxed);
            assert!(most <= products_per_ms.max(least), "{most} for {products_per_ms}");
            let checks = cancel.checks.load(Relaxed);
            assert!(checks > before, "{checks} checks for {products_per_ms}");
            before = checks;
        }
    }
}

/// A worker that is put aside right after it has read the phase, for as long as `aside` takes.
struct Late<'a> {
    worker: Worker<'a>,
    aside: &'a dyn Fn(),
    came: Cell<bool>,
}

// SAFETY: what `Worker` does, later.
unsafe impl Team for Late<'_> {
    fn id(&self) -> NonZeroUsize {
        self.worker.id()
    }
    fn rank(&self) -> usize {
        self.worker.rank()
    }
    fn size(&self) -> usize {
        self.worker.size()
    }
    fn phase(&self) -> u32 {
        let phase = self.worker.phase();
        if !self.came.replace(true) {
            (self.aside)();
        }
        phase
    }
    unsafe fn claim(&self, op: u32, work: &Work) -> Range<usize> {
        // SAFETY: by the caller's promise.
        unsafe { self.worker.claim(op, work) }
    }
    unsafe fn finish(&self, phase: u32, done: usize, all: usize) -> Result<Option<u32>, Broken> {
        // SAFETY: by the caller's promise.
        unsafe { self.worker.finish(phase, done, all) }
    }
}

/// A worker that knows phase 0 and comes when the others have left the step, whether they computed it
/// or saw its cancellation, computes nothing and says what they say.
#[test]
fn a_worker_comes_late_to_a_step_that_is_over_or_cancelled() {
    let spec = everything();
    let model = Model::new(spec.clone(), |id| format_of(&spec, id, 3));
    let options = Options {
        batch: 7,
        logits: 7,
        context: 16,
        kv: KvFormat::F16,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options, Scalar, (3, 1));
    let tokens = [1, 2, 3, 4, 5];
    let segments = [Segment::new(&tokens, LogitsFor::All)];
    let (mut checks, mut cancelled) = (0, 0);
    loop {
        let cancel = CancelAt::new(checks);
        let running = runner.begin(&Step { segments: &segments, cancel: &cancel }).unwrap();
        let meeting = Meeting::new(3);
        let first = Cell::new(None);
        let second = {
            let aside = || first.set(Some(running.walk(&Worker::new(0, &meeting))));
            let (worker, came) = (Worker::new(1, &meeting), Cell::new(false));
            running.walk(&Late { worker, aside: &aside, came })
        };
        assert_eq!(first.get(), Some(second), "{checks} checks");
        let committed = running.commit();
        if committed.is_ok() {
            assert_eq!(second, Ok(()));
            break;
        }
        assert_eq!((second, committed), (Err(StepError::Cancelled), Err(StepError::Cancelled)));
        cancelled += 1;
        checks += 1 + checks / 16;
    }
    assert!(cancelled > 20, "{cancelled} places of cancellation");
    let late = bits(runner.logits(5));
    let mut room = Room::default();
    let mut alone = model.runner(&mut room, &options, Scalar, (1, 1));
    assert_eq!(late, bits(&run_on(&mut alone, &segments, &NeverCancel, 1).unwrap()));
}
