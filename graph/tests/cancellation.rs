//! A step checks for cancellation as often as its backend is slow, and its bits stay the same.

mod common;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use teff_graph::family::gpt2;
use teff_graph::{Activation, Cancel, LogitsFor, Memory, Options, Plan, Runner, Solo, Spec, Step};
use teff_kernels::{
    Activations, Backend, DenseActivations, Format, KvFormat, KvHead, Matrix, Scalar, Tile,
};

use common::{tensors, weights};

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
        window: Option<NonZeroUsize>,
        scale: f32,
        out: &mut Tile<'_>,
    ) {
        self.count((0..q.n()).map(|t| 2 * (position + t + 1) * q.cols()).sum());
        Scalar.attend(q, kv, position, window, scale, out);
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
    let small = Spec {
        vocab: 50,
        context: 64,
        layers: 1,
        width: 64,
        heads: 2,
        kv_heads: 2,
        head_dim: 32,
        ffn: 96,
        ..gpt2::small()
    };
    let gated = Spec { gated: true, activation: Activation::Silu, ..small };
    for spec in [small, gated] {
        let mut want = None;
        let owned = weights(&spec, Format::Q8_0);
        let mut before = 0;
        // Smallest amount of work in one call: the heads of a block of activations and everything
        // that the last token attends to (a block of a product's outputs is 32 * 96).
        let least = 2 * 50 * 64;
        for products_per_ms in [usize::MAX, 1 << 16, 10_000, 1] {
            let (since, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let backend = Counting { products_per_ms, since: &since, most: &most };
            let options = Options { batch: 50, logits: 50, context: 64, kv: KvFormat::F32 };
            let plan = Plan::build(&spec, &|_| Format::Q8_0, &options, &backend).unwrap();
            let memory = Memory::allocate(&plan.memory_requirements, 1).unwrap();
            let table = tensors(&spec, Format::Q8_0, &owned);
            let mut runner = Runner::new(plan, table.into(), backend, 1, memory).unwrap();
            let tokens: Vec<u32> = (0..50).collect();
            let cancel = CountsChecks { since: &since, checks: AtomicUsize::new(0) };
            let step =
                Step { tokens: &tokens, position: 0, logits: LogitsFor::All, cancel: &cancel };
            runner.begin(&step).unwrap().walk(&Solo).unwrap();
            let got: Vec<u32> = runner.logits(50).iter().map(|x| x.to_bits()).collect();
            assert_eq!(*want.get_or_insert_with(|| got.clone()), got, "{products_per_ms}");
            let most = most.load(Relaxed);
            assert!(most <= products_per_ms.max(least), "{most} for {products_per_ms}");
            let checks = cancel.checks.load(Relaxed);
            assert!(checks > before, "{checks} checks for {products_per_ms}");
            before = checks;
        }
    }
}
