//! Laws of plans: built plans verify, broken ones don't, and memory sizes stay the same.

#![cfg(all(feature = "alloc", feature = "legacy-quants"))]

use proptest::prelude::*;
use proptest::sample::select;
use teff_graph::family::gpt2;
use teff_graph::ops::Op;
use teff_graph::plan::{
    ALIGN, Buffer, BufferType, Capacity, PlanRoom, RowCount, State, build_into,
};
use teff_graph::{Head, Options, Outputs, Plan, PlanError, Spec};
use teff_kernels::{Cpu, Format, KvFormat, Scalar};

use crate::common::draw::{any_kv, any_spec, format_of};
use crate::common::{cases, with_attention, with_dense, with_len};

fn build(spec: &Spec<'_>, format: Format, options: &Options) -> Plan<'static> {
    Plan::build(spec, &|_| format, options, &Scalar).unwrap()
}

fn options(batch: usize) -> Options {
    Options {
        batch,
        logits: 1,
        context: 1024,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    }
}

/// Bytes of a layout by hand: a place of its own for every kind of intermediate result,
/// used again in each layer.
fn by_hand(spec: &Spec<'_>, o: &Options, quantized: bool) -> usize {
    let up = |n: usize| n.next_multiple_of(ALIGN);
    let activations = |rows: usize, cols: usize| {
        up(if quantized { rows * (cols + cols / 32 * 4 + cols / 16 * 4) } else { rows * cols * 4 })
    };
    let most = |f: &dyn Fn(&teff_graph::Layer) -> usize| spec.layers.iter().map(f).max().unwrap();
    let w = spec.width as usize;
    let q = most(&|l| l.attention().unwrap().q_dim());
    let f = most(&|l| l.dense().unwrap().inner as usize);
    up(o.batch * w * 4)                     // residual
        + up(o.logits * w * 4)              // residual of wanted tokens
        + up(o.batch * w * 4)               // normed, of 32 or 16 bits
        + up(o.batch * q * 4)               // queries
        + activations(o.batch, q)                  // attention's result
        + activations(o.batch, f)                  // inner
        + if o.outputs.hidden() { up(o.logits * w * 4) } else { 0 }
        + if o.outputs.logits() { up(o.logits * spec.vocab as usize * 4) } else { 0 }
}

/// Bytes of the header of a sequence's memory.
const HEADER: usize = 64;

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
        assert_eq!(memory_requirements.state, 12 * 12 * 1024 * 64 * 2 * 4 + HEADER);
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
    let kv = |kv| {
        let plan = build(&spec, Format::Q8_0, &Options { kv, ..options(1) });
        plan.memory_requirements.state - HEADER
    };
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
    let broken = with_attention(&spec, |a| a.kv_heads = 0);
    let r = Plan::build(&broken, &|_| Format::F32, &good, &Scalar);
    assert!(matches!(r, Err(PlanError::Spec(_))));
}

#[test]
fn a_plan_fits_into_slices_of_its_capacity_and_no_less() {
    let spec = with_len(&gpt2::small(), 3);
    let c = Capacity::of(&spec);
    let all = (c.ops, c.buffers, c.states);
    for (ops, buffers, states) in
        [all, (10, c.buffers, c.states), (c.ops, 5, c.states), (c.ops, c.buffers, 2)]
    {
        let ok = (ops, buffers, states) == all;
        let mut ops = vec![Op::Barrier; ops];
        let mut buffers = vec![Buffer::EMPTY; buffers];
        let mut states = vec![State::EMPTY; states];
        let room = PlanRoom { ops: &mut ops, buffers: &mut buffers, states: &mut states };
        match build_into(&spec, &|_| Format::F16, &options(4), &Scalar, room) {
            Ok(plan) => assert!(ok && plan.verify().is_ok()),
            Err(e) => assert!(!ok && matches!(e, PlanError::Capacity { .. })),
        }
    }
}

prop_compose! {
    /// Models like GPT-2, for which the layout by hand is made.
    fn dense_spec()(
        layers in 1u32..4, kv_heads in 1u32..4, per_kv in 1u32..4, dim in 1u32..10, vocab in 1u32..99,
        ffn in 1u32..5, width in 1u32..5, own: bool, unit in select(vec![32, 128, 256]),
    ) -> Spec<'static> {
        // Of wider units there may be ternary weights.
        let spec = with_attention(&with_len(&gpt2::small(), layers), |a| {
            (a.heads, a.kv_heads, a.head_dim) = (kv_heads * per_kv, kv_heads, dim * 32);
        });
        let spec = with_dense(&spec, |d| d.inner = ffn * unit);
        let head = if own { Head::Own } else { Head::Tied };
        Spec { vocab, width: width * unit, context: 96, head, ..spec }
    }
}

prop_compose! {
    fn any_options()(batch in 1usize..70, context in 1usize..=96, kv in any_kv())
        (batch in Just(batch), logits in 1..=batch, context in Just(context), kv in Just(kv),
         outputs in select(vec![Outputs::Logits, Outputs::Hidden, Outputs::Both])) -> Options
    {
        Options { batch, logits, context, kv, outputs, pages: 0 }
    }
}

fn size(b: &Buffer, o: &Options) -> usize {
    let rows = if b.rows == RowCount::Batch { o.batch } else { o.logits };
    let cols = b.cols as usize;
    let bytes = match b.kind {
        BufferType::F32 => cols * 4,
        BufferType::Q8 => cols + cols / 4 + cols / 8,
        BufferType::Q16 => 2 * cols + cols / 4 + cols / 8,
        BufferType::Wide | BufferType::WideRow => cols + cols.div_ceil(256) * 8,
        _ => panic!("a type that is not known here"),
    };
    rows * bytes
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_is_built_verifies(spec in any_spec(), o in any_options(), seed: u64) {
        let plan =
            Plan::build(&spec, &|id| format_of(&spec, id, seed), &o, &Cpu::best()).unwrap();
        prop_assert_eq!(plan.verify(), Ok(()));
    }

    #[test]
    fn arenas_are_no_larger_than_by_hand(spec in dense_spec(), o in any_options(), seed: u64) {
        let plan =
            Plan::build(&spec, &|id| format_of(&spec, id, seed), &o, &Cpu::best()).unwrap();
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
        let plan = Plan::build(&spec, &|id| format_of(&spec, id, seed), &o, &Scalar).unwrap();
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
                for (i, x) in buffers.iter().enumerate() {
                    prop_assert!(x.offset + size(x, &o) <= memory_requirements.scratch);
                    for y in &buffers[i + 1..] {
                        let meet = x.born <= y.dies && y.born <= x.dies;
                        let apart = x.offset + size(x, &o) <= y.offset || y.offset + size(y, &o) <= x.offset;
                        prop_assert!(!meet || apart || x.over.is_some() || y.over.is_some());
                    }
                }
                prop_assert!(how != 4 || !matches!(plan.ops[which.index(plan.ops.len())], Op::Barrier));
            }
            _ => {}
        }
    }
}
