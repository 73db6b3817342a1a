// Written by: cargo run --example plan_to_rust -- examples/bare_metal/model-q4_0.gguf --ctx 256 --batch 8 --kv q8 --prompt-file examples/bare_metal/prompt.txt --out examples/bare_metal/src/plan_q4_0.rs
// arena 5568 B, 147520 B for each sequence, 8192 B for each thread.

use teff_graph::layers::Layer;
use teff_graph::ops::Op;
use teff_graph::plan::{Buffer, BufferId, MemoryRequirements, Options, State};
use teff_graph::{Layers, List, Plan, Rope, Spec, TensorLocation};

/// Bytes of the model's file.
pub const FILE_BYTES: usize = 191232;

/// Their FNV-1a hash of 64 bits.
pub const FILE_HASH: u64 = 0xfd99b69d3706cb36;

/// Bytes of the arena.
pub const ARENA: usize = 5568;

/// Bytes of the sequence's states.
pub const STATE: usize = 147520;

/// Bytes for the one thread.
pub const THREAD: usize = 8192;

/// Offset of the tokens' texts in the file.
pub const TOKENS_AT: usize = 687;

/// The token that ends a text.
pub const END: Option<u32> = Some(0);

/// Tokens that the text begins with.
pub static PROMPT: [u32; 46] = [47, 78, 354, 384, 270, 259, 472, 415, 280, 259, 439, 410, 275, 79, 88, 388, 437, 73, 80, 441, 442, 322, 259, 282, 69, 424, 275, 496, 310, 14, 440, 391, 287, 470, 295, 12, 437, 73, 80, 359, 272, 275, 368, 259, 435, 14];

/// Location of each tensor in the file.
pub static WEIGHTS: [TensorLocation; 52] = {
    #[allow(unused_imports)]
    use teff_kernels::Format::*;
    [
        TensorLocation { format: Q8_0, offset: 14592 },
        TensorLocation { format: Q8_0, offset: 49408 },
        TensorLocation { format: F32, offset: 66816 },
        TensorLocation { format: F32, offset: 67072 },
        TensorLocation { format: Q4_0, offset: 67328 },
        TensorLocation { format: F32, offset: 74240 },
        TensorLocation { format: Q4_0, offset: 75008 },
        TensorLocation { format: F32, offset: 77312 },
        TensorLocation { format: F32, offset: 77568 },
        TensorLocation { format: F32, offset: 77824 },
        TensorLocation { format: Q4_0, offset: 78080 },
        TensorLocation { format: F32, offset: 87296 },
        TensorLocation { format: Q4_0, offset: 88320 },
        TensorLocation { format: F32, offset: 97536 },
        TensorLocation { format: F32, offset: 97792 },
        TensorLocation { format: F32, offset: 98048 },
        TensorLocation { format: Q4_0, offset: 98304 },
        TensorLocation { format: F32, offset: 105216 },
        TensorLocation { format: Q4_0, offset: 105984 },
        TensorLocation { format: F32, offset: 108288 },
        TensorLocation { format: F32, offset: 108544 },
        TensorLocation { format: F32, offset: 108800 },
        TensorLocation { format: Q4_0, offset: 109056 },
        TensorLocation { format: F32, offset: 118272 },
        TensorLocation { format: Q4_0, offset: 119296 },
        TensorLocation { format: F32, offset: 128512 },
        TensorLocation { format: F32, offset: 128768 },
        TensorLocation { format: F32, offset: 129024 },
        TensorLocation { format: Q4_0, offset: 129280 },
        TensorLocation { format: F32, offset: 136192 },
        TensorLocation { format: Q4_0, offset: 136960 },
        TensorLocation { format: F32, offset: 139264 },
        TensorLocation { format: F32, offset: 139520 },
        TensorLocation { format: F32, offset: 139776 },
        TensorLocation { format: Q4_0, offset: 140032 },
        TensorLocation { format: F32, offset: 149248 },
        TensorLocation { format: Q4_0, offset: 150272 },
        TensorLocation { format: F32, offset: 159488 },
        TensorLocation { format: F32, offset: 159744 },
        TensorLocation { format: F32, offset: 160000 },
        TensorLocation { format: Q4_0, offset: 160256 },
        TensorLocation { format: F32, offset: 167168 },
        TensorLocation { format: Q4_0, offset: 167936 },
        TensorLocation { format: F32, offset: 170240 },
        TensorLocation { format: F32, offset: 170496 },
        TensorLocation { format: F32, offset: 170752 },
        TensorLocation { format: Q4_0, offset: 171008 },
        TensorLocation { format: F32, offset: 180224 },
        TensorLocation { format: Q4_0, offset: 181248 },
        TensorLocation { format: F32, offset: 190464 },
        TensorLocation { format: F32, offset: 190720 },
        TensorLocation { format: F32, offset: 190976 },
    ]
};

/// The operations of a step.
pub static OPS: [Op; 62] = {
    #[allow(unused_imports)]
    use {teff_graph::{TensorId, layers::Activation::*, ops::*, ops::Output::*, ops::QkvPart::*, plan::StateId}, teff_kernels::RopeKind};
    [
        Op::Embed(Embed { table: TensorId::new(0), positions: Some(TensorId::new(1)), out: BufferId::new(0), scale: 1.0 }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(2), bias: Some(TensorId::new(3)), out: BufferId::new(2), eps: 1e-5 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(4), bias: Some(TensorId::new(5)), x: BufferId::new(2), part: All, q: BufferId::new(1), gate: None, state: StateId::new(0), heads: 2, kv_heads: 2, head_dim: 32, q_norm: None, k_norm: None, value_norm: false, eps: 1e-5, rope: None, rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(1), out: BufferId::new(3), state: StateId::new(0), heads: 2, kv_heads: 2, head_dim: 32, window: 0, scale: 0.17677669, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(6), bias: Some(TensorId::new(7)), x: BufferId::new(3), act: None, to: Add(BufferId::new(0)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(8), bias: Some(TensorId::new(9)), out: BufferId::new(4), eps: 1e-5 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(10), bias: Some(TensorId::new(11)), x: BufferId::new(4), act: Some(GeluTanh), to: Store(BufferId::new(5)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(12), bias: Some(TensorId::new(13)), x: BufferId::new(5), act: None, to: Add(BufferId::new(0)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(14), bias: Some(TensorId::new(15)), out: BufferId::new(7), eps: 1e-5 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(16), bias: Some(TensorId::new(17)), x: BufferId::new(7), part: All, q: BufferId::new(6), gate: None, state: StateId::new(1), heads: 2, kv_heads: 2, head_dim: 32, q_norm: None, k_norm: None, value_norm: false, eps: 1e-5, rope: None, rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(6), out: BufferId::new(8), state: StateId::new(1), heads: 2, kv_heads: 2, head_dim: 32, window: 0, scale: 0.17677669, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(18), bias: Some(TensorId::new(19)), x: BufferId::new(8), act: None, to: Add(BufferId::new(0)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(20), bias: Some(TensorId::new(21)), out: BufferId::new(9), eps: 1e-5 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(22), bias: Some(TensorId::new(23)), x: BufferId::new(9), act: Some(GeluTanh), to: Store(BufferId::new(10)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(24), bias: Some(TensorId::new(25)), x: BufferId::new(10), act: None, to: Add(BufferId::new(0)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(26), bias: Some(TensorId::new(27)), out: BufferId::new(12), eps: 1e-5 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(28), bias: Some(TensorId::new(29)), x: BufferId::new(12), part: All, q: BufferId::new(11), gate: None, state: StateId::new(2), heads: 2, kv_heads: 2, head_dim: 32, q_norm: None, k_norm: None, value_norm: false, eps: 1e-5, rope: None, rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(11), out: BufferId::new(13), state: StateId::new(2), heads: 2, kv_heads: 2, head_dim: 32, window: 0, scale: 0.17677669, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(30), bias: Some(TensorId::new(31)), x: BufferId::new(13), act: None, to: Add(BufferId::new(0)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(32), bias: Some(TensorId::new(33)), out: BufferId::new(14), eps: 1e-5 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(34), bias: Some(TensorId::new(35)), x: BufferId::new(14), act: Some(GeluTanh), to: Store(BufferId::new(15)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(36), bias: Some(TensorId::new(37)), x: BufferId::new(15), act: None, to: Add(BufferId::new(0)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(38), bias: Some(TensorId::new(39)), out: BufferId::new(17), eps: 1e-5 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(40), bias: Some(TensorId::new(41)), x: BufferId::new(17), part: All, q: BufferId::new(16), gate: None, state: StateId::new(3), heads: 2, kv_heads: 2, head_dim: 32, q_norm: None, k_norm: None, value_norm: false, eps: 1e-5, rope: None, rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(16), out: BufferId::new(18), state: StateId::new(3), heads: 2, kv_heads: 2, head_dim: 32, window: 0, scale: 0.17677669, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::SelectRows(SelectRows { x: BufferId::new(0), out: BufferId::new(19) }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(42), bias: Some(TensorId::new(43)), x: BufferId::new(18), act: None, to: Add(BufferId::new(19)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(19), weight: TensorId::new(44), bias: Some(TensorId::new(45)), out: BufferId::new(20), eps: 1e-5 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(46), bias: Some(TensorId::new(47)), x: BufferId::new(20), act: Some(GeluTanh), to: Store(BufferId::new(21)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(48), bias: Some(TensorId::new(49)), x: BufferId::new(21), act: None, to: Add(BufferId::new(19)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(19), weight: TensorId::new(50), bias: Some(TensorId::new(51)), out: BufferId::new(22), eps: 1e-5 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(0), bias: None, x: BufferId::new(22), act: None, to: Store(BufferId::new(23)), scale: 1.0, cap: None }),
    ]
};

/// The buffers.
pub static BUFFERS: [Buffer; 24] = {
    #[allow(unused_imports)]
    use teff_graph::plan::{BufferType::*, RowCount::*};
    [
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 0, born: 0, dies: 24, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 2048, born: 2, dies: 3, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 4096, born: 1, dies: 2, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 4096, born: 3, dies: 4, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 4864, born: 5, dies: 6, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 256, offset: 2048, born: 6, dies: 7, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 2048, born: 9, dies: 10, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 4096, born: 8, dies: 9, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 4096, born: 10, dies: 11, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 4864, born: 12, dies: 13, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 256, offset: 2048, born: 13, dies: 14, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 2048, born: 16, dies: 17, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 4096, born: 15, dies: 16, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 4096, born: 17, dies: 18, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 4864, born: 19, dies: 20, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 256, offset: 2048, born: 20, dies: 21, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 2304, born: 23, dies: 24, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 4352, born: 22, dies: 23, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 64, offset: 4352, born: 24, dies: 25, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 64, offset: 2048, born: 24, dies: 29, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 64, offset: 384, born: 26, dies: 27, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 256, offset: 0, born: 27, dies: 28, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 64, offset: 0, born: 29, dies: 30, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 512, offset: 128, born: 30, dies: 30, over: None },
    ]
};

/// The states.
pub static STATES: [State; 4] = {
    #[allow(unused_imports)]
    use teff_graph::plan::StateKind::*;
    [
        State { layer: 0, kind: Kv { heads: 2, head_dim: 32, window: 0, capacity: 256 }, offset: 64 },
        State { layer: 1, kind: Kv { heads: 2, head_dim: 32, window: 0, capacity: 256 }, offset: 36928 },
        State { layer: 2, kind: Kv { heads: 2, head_dim: 32, window: 0, capacity: 256 }, offset: 73792 },
        State { layer: 3, kind: Kv { heads: 2, head_dim: 32, window: 0, capacity: 256 }, offset: 110656 },
    ]
};

/// The kinds of layers.
pub static KINDS: [Layer; 1] = {
    #[allow(unused_imports)]
    use teff_graph::layers::{Activation::*, *};
    [
        Layer { mixer: Mixer::Attention(Attention { heads: 2, kv_heads: 2, head_dim: 32, fused: true, qkv_bias: true, out_bias: true, qk_norm: false, wide_norm: false, value_norm: false, keys_as_values: false, gate: false, sub_norm: false, rope: None, window: None, scale: 0.17677669, softcap: None, head_gate: false, sinks: false, temperature: None, shared_kv: None }), ffn: FeedForward::Dense(Dense { inner: 256, gated: false, fused: false, activation: GeluTanh, bias: true, sub_norm: false, sparsity: None }), norms: Norms { before: Norm { kind: NormKind::Layer, eps: 1e-5 }, pre: true, post: false }, input: None, streams: None, scales: Scales { residual: 1.0, output: false } },
    ]
};

/// The kind of each layer, repeated.
pub static PATTERN: [u8; 1] = [0];

/// The rotary embeddings.
pub static ROPES: [Rope; 0] = {
    #[allow(unused_imports)]
    use {teff_graph::RopeScaling, teff_kernels::RopeKind};
    [
    ]
};

/// The model.
pub const SPEC: Spec<'static> = {
    #[allow(unused_imports)]
    use teff_graph::{Embed, Head, PerLayer, layers::{Norm, NormKind}};
    Spec {
        arch: "gpt2",
        vocab: 512,
        context: 256,
        width: 64,
        embed: Embed { scale: 1.0, positions: true },
        layers: Layers::new(&KINDS, &PATTERN, 4),
        norm: Norm { kind: NormKind::Layer, eps: 1e-5 },
        head: Head::Tied,
        logit_divisor: 1.0,
        logit_cap: None,
        per_layer: None,
        streams: None,
        token_scales: false,
        ropes: List::Borrowed(&ROPES),
    }
};

/// Options of the plan.
pub const OPTIONS: Options = {
    use teff_graph::Outputs::*;
    use teff_kernels::KvFormat::*;
    Options { batch: 8, logits: 1, context: 256, kv: Q8, outputs: Logits, pages: 0 }
};

/// The plan.
pub static PLAN: Plan<'static> = Plan {
    spec: SPEC,
    options: OPTIONS,
    ops: List::Borrowed(&OPS),
    buffers: List::Borrowed(&BUFFERS),
    states: List::Borrowed(&STATES),
    ropes: List::Borrowed(&ROPES),
    logits: Some(BufferId::new(23)),
    hidden: None,
    memory_requirements: MemoryRequirements { scratch: 5568, state: 147520, pool: 0, per_thread: 8192 },
};
