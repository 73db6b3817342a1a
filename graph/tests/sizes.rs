//! No arithmetic on sizes wraps, with 32 bits or 64: overflows are errors.

#![cfg(all(feature = "alloc", feature = "legacy-quants"))]

#[allow(dead_code)] // what the tests of the reader take of it
#[path = "gguf/build.rs"]
mod build;
mod common;

use build::File;
use teff_graph::family::gpt2;
use teff_graph::gguf::{Gguf, GgufError as E};
use teff_graph::plan::{MemoryRequirements, Options, Outputs, Plan, PlanError};
use teff_graph::{Memory, Spec, SpecError, TensorId};
use teff_kernels::{Backend, Format, KvFormat, Matrix, MatrixError, Scalar};

use common::{with_attention, with_dense, with_len};

/// Numbers at which products of sizes leave 32 or 64 bits.
const EDGES: [u64; 14] = [
    (1 << 15) + 1,
    1 << 16,
    (1 << 16) + 1,
    1 << 27,
    (1 << 29) + 1,
    1 << 30,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 1,
    1 << 62,
    1 << 63,
    u64::MAX,
];

#[test]
fn shapes_of_tensors() {
    let mut refused = 0;
    for format in Format::ALL {
        for a in EDGES.map(|n| n / 256 * 256).into_iter().filter(|&n| n > 0) {
            for b in [1, 4, 16, 255].into_iter().chain(EDGES) {
                let mut f = File::empty();
                f.tensor("t", &[a, b], format.gguf_id(), 4096);
                let e = Gguf::parse(&f.bytes()).err();
                let counted = a
                    .checked_mul(b)
                    .filter(|_| usize::try_from(a).is_ok() && usize::try_from(b).is_ok())
                    .and_then(|_| format.tensor_bytes(b as usize, a as usize));
                match (e, counted) {
                    (Some(E::DimsOverflow { .. }), None) => refused += 1,
                    (Some(E::DataTruncated { need, .. }), Some(n)) => assert_eq!(need, n as u64),
                    (e, _) => panic!("{format} {a} x {b}: {e:?}"),
                }
                if let Some(n) = counted {
                    let blocks = u128::from(a) * u128::from(b) / format.block_len() as u128;
                    let bytes = blocks * format.block_bytes() as u128;
                    assert_eq!(n as u128, bytes + format.trailer_bytes() as u128, "{format}");
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn shapes_of_matrices() {
    for a in EDGES.into_iter().filter_map(|n| usize::try_from(n / 256 * 256).ok()) {
        for b in EDGES.into_iter().filter_map(|n| usize::try_from(n).ok()) {
            for format in Format::ALL {
                let e = Matrix::new(format, b, a, &[]).err();
                let empty = a == 0;
                match e {
                    Some(MatrixError::Size { needed, got: 0 }) => {
                        assert!(!empty && needed != Some(0), "{format} {b} x {a}");
                    }
                    Some(MatrixError::Cols { .. }) => assert!(a > usize::MAX / 9),
                    e => assert!(e.is_none() && empty, "{format} {b} x {a}: {e:?}"),
                }
            }
        }
    }
}

#[test]
fn lengths_and_counts_in_headers() {
    for n in EDGES {
        let with = |spoil: &dyn Fn(&mut File)| {
            let mut f = File::sample();
            spoil(&mut f);
            Gguf::parse(&f.bytes()).expect_err("a number beyond the file").to_string()
        };
        assert!(with(&|f| f.n_keys = Some(n)).contains(&n.to_string()));
        assert!(with(&|f| f.n_tensors = Some(n)).contains(&n.to_string()));
        // 32 n may wrap; the rest is just as far beyond the file, or misaligned.
        let far = with(&|f| f.tensors[0].offset = n & !31 | 1 << 20);
        assert!(far.contains("beyond the file"), "{far}");
    }
}

fn options(batch: usize) -> Options {
    Options { batch, logits: 1, context: 64, kv: KvFormat::F32, outputs: Outputs::Logits, pages: 0 }
}

/// Exact memory of a plan; `None` on overflow.
fn memory_requirements(spec: &Spec, format: Format, o: &Options) -> Option<MemoryRequirements> {
    match Plan::build(spec, &|_: TensorId| format, o, &Scalar) {
        Ok(plan) => {
            assert_eq!(plan.verify(), Ok(()));
            Some(plan.memory_requirements)
        }
        Err(PlanError::Overflow) => None,
        Err(e) => panic!("{e}"),
    }
}

/// The batch can be any number: its memory grows with it, or overflows.
#[test]
fn batches() {
    let spec = with_len(&gpt2::small(), 1);
    let (mut last, mut overflows) =
        (MemoryRequirements { scratch: 0, state: 0, pool: 0, per_thread: 0 }, 0);
    for batch in EDGES.into_iter().filter_map(|n| usize::try_from(n).ok()) {
        let Some(n) = memory_requirements(&spec, Format::Q8_0, &options(batch)) else {
            overflows += 1;
            continue;
        };
        assert_eq!(overflows, 0, "{batch} can be counted, but less can't");
        assert!(n.scratch / batch >= 4 * 768 && n.scratch >= last.scratch, "{batch}");
        assert!(n.per_thread >= last.per_thread, "{batch}");
        last = n;
    }
    assert!(overflows > 0);
    // Many heads of few elements: the floats of a member are more than the buffers.
    let odd = with_attention(&spec, |a| (a.heads, a.kv_heads, a.head_dim) = (1, 1, 511));
    let odd = Spec { width: 32, vocab: 32, ..with_dense(&odd, |d| d.inner = 32) };
    for batch in [1 << 18, (1 << 19) - 16, 1 << 19, 1 << 20, 1 << 21] {
        if let Some(n) = memory_requirements(&odd, Format::F32, &options(batch)) {
            // Queries, keys and values are cut into units of 511 * 16.
            assert!(n.per_thread >= batch * 511 * 3 * 4, "{batch}: {n}");
        }
    }
}

#[test]
fn caches() {
    let spec = with_attention(&with_len(&gpt2::small(), 16), |a| {
        (a.heads, a.kv_heads, a.head_dim) = (1 << 14, 1 << 14, 512);
    });
    let spec = Spec { context: 1 << 26, ..spec };
    // 16 layers of 2^26 positions of 2^23 elements.
    for context in [1 << 26, 1 << 20, 1 << 10] {
        let o = Options { context, ..options(1) };
        let exact = 2u128 * 16 * (1 << 23) * 4 * context as u128;
        match Plan::build(&spec, &|_| Format::Q8_0, &o, &Scalar) {
            Ok(plan) => assert_eq!(plan.memory_requirements.state as u128, exact + 64),
            Err(e) => assert!(matches!(e, PlanError::Overflow) && exact > usize::MAX as u128 / 2),
        }
    }
    let large = Spec { width: (1 << 26) + 1, ..gpt2::small() };
    assert!(matches!(large.validate(), Err(SpecError::Inconsistent(_))));
}

/// Plans from outside, with widths whose fourfold wraps in 32 bits.
#[test]
fn buffers_of_foreign_plans() {
    let spec = with_len(&gpt2::small(), 1);
    let plan = Plan::build(&spec, &|_| Format::Q8_0, &options(4), &Scalar).unwrap();
    for cols in [1 << 30, (1 << 30) + 64, 3 << 30, u32::MAX - 255] {
        for i in 0..plan.buffers.len() {
            let mut bad = plan.clone();
            let mut buffers = bad.buffers.to_vec();
            buffers[i].cols = cols;
            bad.buffers = buffers.into();
            assert!(bad.verify().is_err(), "buffer {i} of {cols} elements");
        }
    }
}

/// Backend that needs more scratch than there is.
struct Greedy(usize);

impl Backend for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }
    fn matmul_scratch(&self, _: Format, _: usize, _: usize) -> usize {
        self.0
    }
}

#[test]
fn scratch_of_foreign_backends() {
    let spec = with_len(&gpt2::small(), 1);
    for bytes in [usize::MAX, usize::MAX - 63, usize::MAX - 64] {
        let r = Plan::build(&spec, &|_| Format::Q8_0, &options(4), &Greedy(bytes));
        assert!(matches!(r, Err(PlanError::Overflow)), "{bytes}");
    }
    let half = Plan::build(&spec, &|_| Format::Q8_0, &options(4), &Greedy(usize::MAX / 2)).unwrap();
    assert_eq!(half.memory_requirements.total(3), None);
    assert!(
        Memory::allocate(&half.memory_requirements, 1, 1).is_err()
            && Memory::allocate(&half.memory_requirements, 3, 1).is_err()
    );
}
