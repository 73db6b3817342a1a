//! Laws of plans: built plans verify, broken ones don't, and memory sizes stay the same.

use proptest::prelude::*;
use teff_graph::family::gpt2;
use teff_graph::plan::{ALIGN, Buffer, BufferType, Op, RowCount};
use teff_graph::{Head, Options, Plan, PlanError, Spec, TensorId};
use teff_kernels::{Cpu, Format, KvFormat, Scalar};

fn build(spec: &Spec, format: Format, options: &Options) -> Plan<'static> {
    Plan::build(spec, &|_| format, options, &Scalar).unwrap()
}

fn options(batch: usize) -> Options {
    Options { batch, logits: 1, context: 1024, kv: KvFormat::F32 }
}

/// Bytes of a layout by hand: separate memory for every kind of intermediate result, reused in each
/// layer.
fn by_hand(spec: &Spec, o: &Options, quantized: bool) -> usize {
    let up = |n: usize| n.next_multiple_of(ALIGN);
    let activations = |rows: usize, cols: usize| {
        up(if quantized { rows * (cols + cols / 32 * 4 + cols / 16 * 4) } else { rows * cols * 4 })
    };
    let (w, q, f) = (spec.width as usize, spec.q_dim(), spec.ffn as usize);
    up(o.batch * w * 4)                     // residual
        + up(o.logits * w * 4)              // residual of wanted tokens
        + up(o.batch * w * 4)               // normed, of 32 or 16 bits
        + up(o.batch * q * 4)               // queries
        + activations(o.batch, q)                  // attention's result
        + activations(o.batch, f)                  // inner
        + up(o.logits * spec.vocab as usize * 4)
}

#[test]
fn arena_of_gpt2_124m() {
    // (format, batch) -> bytes of the arena. Changing these numbers changes the memory of every
    // user; do it knowingly.
    let spec = gpt2::small();
    for (format, batch, arena) in ARENAS {
        let plan = build(&spec, format, &options(batch));
        let memory_requirements = plan.memory_requirements;
        assert_eq!(
            memory_requirements.scratch, arena,
            "{format}, batch {batch}: {memory_requirements}"
        );
        assert!(
            memory_requirements.scratch <= by_hand(&spec, &options(batch), format.is_quantized())
        );
        // 12 layers x 12 heads x 1024 positions x 64 elements x keys and values x 4 bytes.
        assert_eq!(memory_requirements.kv, 12 * 12 * 1024 * 64 * 2 * 4);
    }
}

const ARENAS: [(Format, usize, usize); 4] = [
    (Format::Q8_0, 32, 267_264),
    (Format::Q8_0, 512, 4_276_224),
    (Format::F32, 32, 589_824),
    (Format::F32, 512, 9_437_184),
];

#[test]
fn the_cache_shrinks_with_its_format() {
    let spec = gpt2::small();
    let kv = |kv| build(&spec, Format::Q8_0, &Options { kv, ..options(1) }).memory_requirements.kv;
    let elements = 12 * 12 * 1024 * 64 * 2;
    assert_eq!(kv(KvFormat::F16), elements * 2);
    assert_eq!(kv(KvFormat::Q8), elements + elements / 64 * 4);
}

#[test]
fn bad_options_are_errors() {
    let spec = gpt2::small();
    let try_ = |o: Options| Plan::build(&spec, &|_| Format::F32, &o, &Scalar).map(|_| ());
    let good = options(8);
    assert_eq!(try_(good), Ok(()));
    for o in [
        Options { batch: 0, ..good },
        Options { context: 0, ..good },
        Options { context: 1025, ..good },
    ] {
        assert!(matches!(try_(o), Err(PlanError::Context { .. })), "{o:?}");
    }
    for logits in [0, 9] {
        assert!(matches!(try_(Options { logits, ..good }), Err(PlanError::Logits { .. })));
    }
    let broken = Spec { kv_heads: 0, ..spec };
    let r = Plan::build(&broken, &|_| Format::F32, &good, &Scalar);
    assert!(matches!(r, Err(PlanError::Spec(_))));
}

#[test]
fn a_plan_fits_into_slices_of_its_capacity_and_no_less() {
    use teff_graph::plan::{Capacity, build_into};
    let spec = Spec { layers: 3, ..gpt2::small() };
    let c = Capacity::of(&spec);
    for (ops, buffers, ok) in [(c.ops, c.buffers, true), (10, c.buffers, false), (c.ops, 5, false)]
    {
        let (mut ops, mut buffers) = (vec![Op::Barrier; ops], vec![Buffer::EMPTY; buffers]);
        let r = build_into(&spec, &|_| Format::F16, &options(4), &Scalar, &mut ops, &mut buffers);
        match r {
            Ok(plan) => assert!(ok && plan.verify().is_ok()),
            Err(e) => assert!(!ok && matches!(e, PlanError::Capacity { .. })),
        }
    }
}

prop_compose! {
    fn any_spec()(
        layers in 1u32..4, kv_heads in 1u32..4, per_kv in 1u32..4, dim in 1u32..10, vocab in 1u32..99,
        ffn in 1u32..5, width in 1u32..5, own: bool, wide in 0usize..3,
    ) -> Spec {
        // With wider units, there may be ternary weights.
        let unit = [32, 128, 256][wide];
        Spec {
            layers, kv_heads, vocab, heads: kv_heads * per_kv, head_dim: dim * 32,
            width: width * unit, ffn: ffn * unit, context: 96,
            head: if own { Head::Own } else { Head::Tied },
            ..gpt2::small()
        }
    }
}

prop_compose! {
    fn any_options()(batch in 1usize..70, context in 1usize..=96, kv in 0usize..3)
        (batch in Just(batch), logits in 1..=batch, context in Just(context), kv in Just(kv))
        -> Options
    {
        Options { batch, logits, context, kv: KvFormat::ALL[kv] }
    }
}

/// One of the formats whose blocks divide a matrix' rows.
fn any_format(spec: Spec, seed: u64) -> impl Fn(TensorId) -> Format {
    move |id| {
        let cols = spec.slot(id).map_or(1, |s| s.cols);
        let fits = Format::ALL.into_iter().filter(|f| cols.is_multiple_of(f.block_len()));
        let draw = seed.rotate_left(u32::from(id.0)) % fits.clone().count() as u64;
        fits.clone().nth(draw as usize).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_built_verifies(spec in any_spec(), o in any_options(), seed: u64) {
        let plan = Plan::build(&spec, &any_format(spec, seed), &o, &Cpu::best()).unwrap();
        prop_assert_eq!(plan.verify(), Ok(()));
        // Dense inputs are the larger ones.
        prop_assert!(plan.memory_requirements.scratch <= by_hand(&spec, &o, false));
    }

    /// Any change of a placement, a lifetime or an operation that could make two buffers overlap in
    /// memory is detected: plans that still verify have no overlap, as found here by other means.
    #[test]
    fn what_is_broken_does_not_verify(
        spec in any_spec(), o in any_options(), seed: u64,
        which: prop::sample::Index, how in 0usize..6, by in 1usize..5,
    ) {
        let plan = Plan::build(&spec, &any_format(spec, seed), &o, &Scalar).unwrap();
        let (mut ops, mut buffers) = (plan.ops.to_vec(), plan.buffers.to_vec());
        let mut memory_requirements = plan.memory_requirements;
        let b = which.index(buffers.len());
        match how {
            0 => buffers[b].offset = buffers[b].offset.saturating_sub(by * ALIGN),
            1 => buffers[b].offset += by * ALIGN,
            2 => buffers[b].offset += by, // no multiple of ALIGN
            3 => memory_requirements.scratch -= by * ALIGN,
            4 => { ops.remove(which.index(ops.len())); }
            _ => buffers[b].cols += by as u32,
        }
        let changed = Plan {
            ops: ops.clone().into(),
            buffers: buffers.clone().into(),
            memory_requirements,
            ..plan.clone()
        };
        let verdict = changed.verify();
        match how {
            2 | 3 | 5 => prop_assert!(verdict.is_err()),
            _ if verdict.is_ok() => {
                let size = |b: &Buffer| {
                    let rows = if b.rows == RowCount::Batch { o.batch } else { o.logits };
                    let cols = b.cols as usize;
                    rows * match b.kind {
                        BufferType::F32 => cols * 4,
                        BufferType::Q8 => cols + cols / 4,
                        BufferType::Q16 => 2 * cols + cols / 4,
                        BufferType::Wide => cols + cols.div_ceil(256) * 8,
                    }
                };
                for (i, x) in buffers.iter().enumerate() {
                    prop_assert!(x.offset + size(x) <= memory_requirements.scratch);
                    for y in &buffers[i + 1..] {
                        let meet = x.born <= y.dies && y.born <= x.dies;
                        let apart = x.offset + size(x) <= y.offset || y.offset + size(y) <= x.offset;
                        prop_assert!(!meet || apart || x.over.is_some() || y.over.is_some());
                    }
                }
                prop_assert!(how != 4 || !matches!(plan.ops[which.index(plan.ops.len())], Op::Barrier));
            }
            _ => {}
        }
    }
}
