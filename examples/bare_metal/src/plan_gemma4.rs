// Written by: cargo run --example plan_to_rust -- examples/bare_metal/model-gemma4.gguf --ctx 256 --batch 8 --kv q8 --prompt-file examples/bare_metal/prompt.txt --out examples/bare_metal/src/plan_gemma4.rs
// arena 21888 B, 27712 B for each sequence, 10240 B for each thread.

use teff_graph::layers::Layer;
use teff_graph::ops::Op;
use teff_graph::plan::{Buffer, BufferId, MemoryRequirements, Options, State};
use teff_graph::{Layers, List, Plan, Rope, Spec, TensorLocation};

/// Bytes of the model's file.
pub const FILE_BYTES: usize = 941376;

/// Their FNV-1a hash of 64 bits.
pub const FILE_HASH: u64 = 0xe19e868c76a8bfee;

/// Bytes of the arena.
pub const ARENA: usize = 21888;

/// Bytes of the sequence's states.
pub const STATE: usize = 27712;

/// Bytes for the one thread.
pub const THREAD: usize = 10240;

/// Offset of the tokens' texts in the file.
pub const TOKENS_AT: usize = 1369;

/// The token that ends a text.
pub const END: Option<u32> = Some(0);

/// Tokens that the text begins with.
pub static PROMPT: [u32; 28] = [740, 811, 259, 472, 415, 280, 259, 567, 1345, 388, 1863, 441, 442, 322, 259, 777, 1293, 14, 628, 536, 12, 1863, 359, 272, 632, 259, 435, 14];

/// Location of each tensor in the file.
pub static WEIGHTS: [TensorLocation; 68] = {
    #[allow(unused_imports)]
    use teff_kernels::Format::*;
    [
        TensorLocation { format: Q8_0, offset: 65792 },
        TensorLocation { format: F32, offset: 941312 },
        TensorLocation { format: Q4_0, offset: 205056 },
        TensorLocation { format: Q8_0, offset: 647424 },
        TensorLocation { format: F32, offset: 673536 },
        TensorLocation { format: F32, offset: 673920 },
        TensorLocation { format: Q8_0, offset: 674176 },
        TensorLocation { format: Q8_0, offset: 683008 },
        TensorLocation { format: Q8_0, offset: 685184 },
        TensorLocation { format: F32, offset: 682880 },
        TensorLocation { format: F32, offset: 687360 },
        TensorLocation { format: Q8_0, offset: 687488 },
        TensorLocation { format: F32, offset: 696192 },
        TensorLocation { format: F32, offset: 696448 },
        TensorLocation { format: Q8_0, offset: 696704 },
        TensorLocation { format: Q8_0, offset: 707584 },
        TensorLocation { format: Q8_0, offset: 718464 },
        TensorLocation { format: F32, offset: 729344 },
        TensorLocation { format: Q8_0, offset: 729600 },
        TensorLocation { format: Q8_0, offset: 736128 },
        TensorLocation { format: F32, offset: 742656 },
        TensorLocation { format: F32, offset: 742912 },
        TensorLocation { format: F32, offset: 742944 },
        TensorLocation { format: Q8_0, offset: 743200 },
        TensorLocation { format: Q8_0, offset: 752032 },
        TensorLocation { format: Q8_0, offset: 754208 },
        TensorLocation { format: F32, offset: 751904 },
        TensorLocation { format: F32, offset: 756384 },
        TensorLocation { format: Q8_0, offset: 756512 },
        TensorLocation { format: F32, offset: 765216 },
        TensorLocation { format: F32, offset: 765472 },
        TensorLocation { format: Q8_0, offset: 765728 },
        TensorLocation { format: Q8_0, offset: 776608 },
        TensorLocation { format: Q8_0, offset: 787488 },
        TensorLocation { format: F32, offset: 798368 },
        TensorLocation { format: Q8_0, offset: 798624 },
        TensorLocation { format: Q8_0, offset: 805152 },
        TensorLocation { format: F32, offset: 811680 },
        TensorLocation { format: F32, offset: 811936 },
        TensorLocation { format: F32, offset: 811968 },
        TensorLocation { format: Q8_0, offset: 812224 },
        TensorLocation { format: F32, offset: 820928 },
        TensorLocation { format: Q8_0, offset: 821056 },
        TensorLocation { format: F32, offset: 829760 },
        TensorLocation { format: F32, offset: 830016 },
        TensorLocation { format: Q8_0, offset: 830272 },
        TensorLocation { format: Q8_0, offset: 841152 },
        TensorLocation { format: Q8_0, offset: 852032 },
        TensorLocation { format: F32, offset: 862912 },
        TensorLocation { format: Q8_0, offset: 863168 },
        TensorLocation { format: Q8_0, offset: 869696 },
        TensorLocation { format: F32, offset: 876224 },
        TensorLocation { format: F32, offset: 876480 },
        TensorLocation { format: F32, offset: 876512 },
        TensorLocation { format: Q8_0, offset: 876768 },
        TensorLocation { format: F32, offset: 885472 },
        TensorLocation { format: Q8_0, offset: 885600 },
        TensorLocation { format: F32, offset: 894304 },
        TensorLocation { format: F32, offset: 894560 },
        TensorLocation { format: Q8_0, offset: 894816 },
        TensorLocation { format: Q8_0, offset: 905696 },
        TensorLocation { format: Q8_0, offset: 916576 },
        TensorLocation { format: F32, offset: 927456 },
        TensorLocation { format: Q8_0, offset: 927712 },
        TensorLocation { format: Q8_0, offset: 934240 },
        TensorLocation { format: F32, offset: 940768 },
        TensorLocation { format: F32, offset: 941024 },
        TensorLocation { format: F32, offset: 941056 },
    ]
};

/// The operations of a step.
pub static OPS: [Op; 122] = {
    #[allow(unused_imports)]
    use {teff_graph::{TensorId, layers::Activation::*, ops::*, ops::Output::*, ops::QkvPart::*, plan::StateId}, teff_kernels::RopeKind};
    [
        Op::Embed(Embed { table: TensorId::new(0), positions: None, out: BufferId::new(0), scale: 8.0 }),
        Op::RopeTable(RopeTable { rope: 0, factors: Some(TensorId::new(1)), out: BufferId::new(1) }),
        Op::RopeTable(RopeTable { rope: 1, factors: None, out: BufferId::new(2) }),
        Op::Barrier,
        Op::Convert(Convert { x: BufferId::new(0), first: 0, out: BufferId::new(3) }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(3), bias: None, x: BufferId::new(3), act: None, to: Store(BufferId::new(4)), scale: 0.125, cap: None }),
        Op::Barrier,
        Op::LayerInputs(LayerInputs { x: BufferId::new(4), weight: TensorId::new(4), table: TensorId::new(2), out: BufferId::new(5), eps: 1e-6, scale: 9.797959 }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(5), bias: None, out: BufferId::new(7), eps: 1e-6 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(6), bias: None, x: BufferId::new(7), part: Query, q: BufferId::new(6), gate: None, state: StateId::new(0), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(9)), k_norm: Some(TensorId::new(10)), value_norm: true, eps: 1e-6, rope: Some(BufferId::new(2)), rope_kind: RopeKind::NeoX }),
        Op::Project(Project { w: TensorId::new(7), bias: None, x: BufferId::new(7), part: Key, q: BufferId::new(6), gate: None, state: StateId::new(0), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(9)), k_norm: Some(TensorId::new(10)), value_norm: true, eps: 1e-6, rope: Some(BufferId::new(2)), rope_kind: RopeKind::NeoX }),
        Op::Project(Project { w: TensorId::new(8), bias: None, x: BufferId::new(7), part: Value, q: BufferId::new(6), gate: None, state: StateId::new(0), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(9)), k_norm: Some(TensorId::new(10)), value_norm: true, eps: 1e-6, rope: Some(BufferId::new(2)), rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(6), out: BufferId::new(8), state: StateId::new(0), heads: 4, kv_heads: 1, head_dim: 32, window: 64, scale: 1.0, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(11), bias: None, x: BufferId::new(8), act: None, to: Store(BufferId::new(9)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(9), weight: TensorId::new(12), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(13), bias: None, out: BufferId::new(10), eps: 1e-6 }),
        Op::Barrier,
        Op::Gated(Gated { gate: TensorId::new(14), up: TensorId::new(15), gate_bias: None, up_bias: None, x: BufferId::new(10), up_x: BufferId::new(10), out: BufferId::new(11), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(16), bias: None, x: BufferId::new(11), act: None, to: Store(BufferId::new(12)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(12), weight: TensorId::new(17), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Convert(Convert { x: BufferId::new(0), first: 0, out: BufferId::new(13) }),
        Op::Barrier,
        Op::GateInput(GateInput { w: TensorId::new(18), x: BufferId::new(13), inputs: BufferId::new(5), layer: 0, out: BufferId::new(14), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(19), bias: None, x: BufferId::new(14), act: None, to: Store(BufferId::new(15)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(15), weight: TensorId::new(20), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: Some(TensorId::new(21)) }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(22), bias: None, out: BufferId::new(17), eps: 1e-6 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(23), bias: None, x: BufferId::new(17), part: Query, q: BufferId::new(16), gate: None, state: StateId::new(1), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(26)), k_norm: Some(TensorId::new(27)), value_norm: true, eps: 1e-6, rope: Some(BufferId::new(1)), rope_kind: RopeKind::NeoX }),
        Op::Project(Project { w: TensorId::new(24), bias: None, x: BufferId::new(17), part: Key, q: BufferId::new(16), gate: None, state: StateId::new(1), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(26)), k_norm: Some(TensorId::new(27)), value_norm: true, eps: 1e-6, rope: Some(BufferId::new(1)), rope_kind: RopeKind::NeoX }),
        Op::Project(Project { w: TensorId::new(25), bias: None, x: BufferId::new(17), part: Value, q: BufferId::new(16), gate: None, state: StateId::new(1), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(26)), k_norm: Some(TensorId::new(27)), value_norm: true, eps: 1e-6, rope: Some(BufferId::new(1)), rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(16), out: BufferId::new(18), state: StateId::new(1), heads: 4, kv_heads: 1, head_dim: 32, window: 0, scale: 1.0, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(28), bias: None, x: BufferId::new(18), act: None, to: Store(BufferId::new(19)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(19), weight: TensorId::new(29), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(30), bias: None, out: BufferId::new(20), eps: 1e-6 }),
        Op::Barrier,
        Op::Gated(Gated { gate: TensorId::new(31), up: TensorId::new(32), gate_bias: None, up_bias: None, x: BufferId::new(20), up_x: BufferId::new(20), out: BufferId::new(21), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(33), bias: None, x: BufferId::new(21), act: None, to: Store(BufferId::new(22)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(22), weight: TensorId::new(34), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Convert(Convert { x: BufferId::new(0), first: 0, out: BufferId::new(23) }),
        Op::Barrier,
        Op::GateInput(GateInput { w: TensorId::new(35), x: BufferId::new(23), inputs: BufferId::new(5), layer: 1, out: BufferId::new(24), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(36), bias: None, x: BufferId::new(24), act: None, to: Store(BufferId::new(25)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(25), weight: TensorId::new(37), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: Some(TensorId::new(38)) }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(39), bias: None, out: BufferId::new(27), eps: 1e-6 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(40), bias: None, x: BufferId::new(27), part: Query, q: BufferId::new(26), gate: None, state: StateId::new(0), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(41)), k_norm: None, value_norm: true, eps: 1e-6, rope: Some(BufferId::new(2)), rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(26), out: BufferId::new(28), state: StateId::new(0), heads: 4, kv_heads: 1, head_dim: 32, window: 64, scale: 1.0, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(42), bias: None, x: BufferId::new(28), act: None, to: Store(BufferId::new(29)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(29), weight: TensorId::new(43), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(44), bias: None, out: BufferId::new(30), eps: 1e-6 }),
        Op::Barrier,
        Op::Gated(Gated { gate: TensorId::new(45), up: TensorId::new(46), gate_bias: None, up_bias: None, x: BufferId::new(30), up_x: BufferId::new(30), out: BufferId::new(31), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(47), bias: None, x: BufferId::new(31), act: None, to: Store(BufferId::new(32)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(32), weight: TensorId::new(48), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Convert(Convert { x: BufferId::new(0), first: 0, out: BufferId::new(33) }),
        Op::Barrier,
        Op::GateInput(GateInput { w: TensorId::new(49), x: BufferId::new(33), inputs: BufferId::new(5), layer: 2, out: BufferId::new(34), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(50), bias: None, x: BufferId::new(34), act: None, to: Store(BufferId::new(35)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(35), weight: TensorId::new(51), out: BufferId::new(0), eps: 1e-6, scale: 1.0, then: Some(TensorId::new(52)) }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(0), weight: TensorId::new(53), bias: None, out: BufferId::new(37), eps: 1e-6 }),
        Op::Barrier,
        Op::Project(Project { w: TensorId::new(54), bias: None, x: BufferId::new(37), part: Query, q: BufferId::new(36), gate: None, state: StateId::new(1), heads: 4, kv_heads: 1, head_dim: 32, q_norm: Some(TensorId::new(55)), k_norm: None, value_norm: true, eps: 1e-6, rope: Some(BufferId::new(1)), rope_kind: RopeKind::NeoX }),
        Op::Barrier,
        Op::Attend(Attend { q: BufferId::new(36), out: BufferId::new(38), state: StateId::new(1), heads: 4, kv_heads: 1, head_dim: 32, window: 0, scale: 1.0, softcap: 0.0, sinks: None, growth: 0.0, every: 0 }),
        Op::SelectRows(SelectRows { x: BufferId::new(0), out: BufferId::new(39) }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(56), bias: None, x: BufferId::new(38), act: None, to: Store(BufferId::new(40)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(40), weight: TensorId::new(57), out: BufferId::new(39), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(39), weight: TensorId::new(58), bias: None, out: BufferId::new(41), eps: 1e-6 }),
        Op::Barrier,
        Op::Gated(Gated { gate: TensorId::new(59), up: TensorId::new(60), gate_bias: None, up_bias: None, x: BufferId::new(41), up_x: BufferId::new(41), out: BufferId::new(42), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(61), bias: None, x: BufferId::new(42), act: None, to: Store(BufferId::new(43)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(43), weight: TensorId::new(62), out: BufferId::new(39), eps: 1e-6, scale: 1.0, then: None }),
        Op::Barrier,
        Op::Convert(Convert { x: BufferId::new(39), first: 0, out: BufferId::new(44) }),
        Op::Barrier,
        Op::GateInput(GateInput { w: TensorId::new(63), x: BufferId::new(44), inputs: BufferId::new(5), layer: 3, out: BufferId::new(45), act: GeluTanh }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(64), bias: None, x: BufferId::new(45), act: None, to: Store(BufferId::new(46)), scale: 1.0, cap: None }),
        Op::Barrier,
        Op::NormAdd(NormAdd { x: BufferId::new(46), weight: TensorId::new(65), out: BufferId::new(39), eps: 1e-6, scale: 1.0, then: Some(TensorId::new(66)) }),
        Op::Barrier,
        Op::Norm(Norm { x: BufferId::new(39), weight: TensorId::new(67), bias: None, out: BufferId::new(47), eps: 1e-6 }),
        Op::Barrier,
        Op::Linear(Linear { w: TensorId::new(0), bias: None, x: BufferId::new(47), act: None, to: Store(BufferId::new(48)), scale: 1.0, cap: None }),
    ]
};

/// The buffers.
pub static BUFFERS: [Buffer; 49] = {
    #[allow(unused_imports)]
    use teff_graph::plan::{BufferType::*, RowCount::*};
    [
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 16384, born: 0, dies: 45, over: None },
        Buffer { kind: F32, rows: Batch, cols: 32, offset: 19840, born: 0, dies: 44, over: None },
        Buffer { kind: F32, rows: Batch, cols: 32, offset: 20864, born: 0, dies: 31, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 18432, born: 1, dies: 2, over: None },
        Buffer { kind: F32, rows: Batch, cols: 384, offset: 0, born: 2, dies: 3, over: None },
        Buffer { kind: F32, rows: Batch, cols: 384, offset: 0, born: 3, dies: 53, over: Some(BufferId::new(4)) },
        Buffer { kind: F32, rows: Batch, cols: 128, offset: 12288, born: 5, dies: 6, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 18432, born: 4, dies: 5, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 128, offset: 18432, born: 6, dies: 7, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 7, dies: 8, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 18432, born: 9, dies: 10, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 160, offset: 14336, born: 10, dies: 11, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 11, dies: 12, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 15424, born: 13, dies: 14, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 96, offset: 14336, born: 14, dies: 15, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 15, dies: 16, over: None },
        Buffer { kind: F32, rows: Batch, cols: 128, offset: 12288, born: 18, dies: 19, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 18432, born: 17, dies: 18, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 128, offset: 18432, born: 19, dies: 20, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 20, dies: 21, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 18432, born: 22, dies: 23, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 160, offset: 14336, born: 23, dies: 24, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 24, dies: 25, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 15424, born: 26, dies: 27, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 96, offset: 14336, born: 27, dies: 28, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 28, dies: 29, over: None },
        Buffer { kind: F32, rows: Batch, cols: 128, offset: 12288, born: 31, dies: 32, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 18432, born: 30, dies: 31, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 128, offset: 18432, born: 32, dies: 33, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 33, dies: 34, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 18432, born: 35, dies: 36, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 160, offset: 14336, born: 36, dies: 37, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 37, dies: 38, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 64, offset: 15424, born: 39, dies: 40, over: None },
        Buffer { kind: Q8, rows: Batch, cols: 96, offset: 14336, born: 40, dies: 41, over: None },
        Buffer { kind: F32, rows: Batch, cols: 64, offset: 12288, born: 41, dies: 42, over: None },
        Buffer { kind: F32, rows: Batch, cols: 128, offset: 12288, born: 44, dies: 45, over: None },
        Buffer { kind: Q16, rows: Batch, cols: 64, offset: 18432, born: 43, dies: 44, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 128, offset: 18688, born: 45, dies: 46, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 64, offset: 18432, born: 45, dies: 56, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 64, offset: 12288, born: 46, dies: 47, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 64, offset: 12544, born: 48, dies: 49, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 160, offset: 12288, born: 49, dies: 50, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 64, offset: 12544, born: 50, dies: 51, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 64, offset: 12480, born: 52, dies: 53, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 96, offset: 12288, born: 53, dies: 54, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 64, offset: 0, born: 54, dies: 55, over: None },
        Buffer { kind: Q8, rows: Wanted, cols: 64, offset: 8192, born: 56, dies: 57, over: None },
        Buffer { kind: F32, rows: Wanted, cols: 2048, offset: 0, born: 57, dies: 57, over: None },
    ]
};

/// The states.
pub static STATES: [State; 2] = {
    #[allow(unused_imports)]
    use teff_graph::plan::StateKind::*;
    [
        State { layer: 0, kind: Kv { heads: 1, head_dim: 32, window: 64, capacity: 128 }, offset: 64 },
        State { layer: 1, kind: Kv { heads: 1, head_dim: 32, window: 0, capacity: 256 }, offset: 9280 },
    ]
};

/// The kinds of layers.
pub static KINDS: [Layer; 4] = {
    #[allow(unused_imports)]
    use teff_graph::layers::{Activation::*, *};
    [
        Layer { mixer: Mixer::Attention(Attention { heads: 4, kv_heads: 1, head_dim: 32, fused: false, qkv_bias: false, out_bias: false, qk_norm: true, wide_norm: false, value_norm: true, keys_as_values: false, gate: false, sub_norm: false, rope: Some(1), window: Some(64), scale: 1.0, softcap: None, head_gate: false, sinks: false, temperature: None, shared_kv: None }), ffn: FeedForward::Dense(Dense { inner: 160, gated: true, fused: false, activation: GeluTanh, bias: false, sub_norm: false, sparsity: None }), norms: Norms { before: Norm { kind: NormKind::Rms, eps: 1e-6 }, pre: true, post: true }, input: Some(LayerInput { width: 96, activation: GeluTanh }), streams: None, scales: Scales { residual: 1.0, output: true } },
        Layer { mixer: Mixer::Attention(Attention { heads: 4, kv_heads: 1, head_dim: 32, fused: false, qkv_bias: false, out_bias: false, qk_norm: true, wide_norm: false, value_norm: true, keys_as_values: false, gate: false, sub_norm: false, rope: Some(0), window: None, scale: 1.0, softcap: None, head_gate: false, sinks: false, temperature: None, shared_kv: None }), ffn: FeedForward::Dense(Dense { inner: 160, gated: true, fused: false, activation: GeluTanh, bias: false, sub_norm: false, sparsity: None }), norms: Norms { before: Norm { kind: NormKind::Rms, eps: 1e-6 }, pre: true, post: true }, input: Some(LayerInput { width: 96, activation: GeluTanh }), streams: None, scales: Scales { residual: 1.0, output: true } },
        Layer { mixer: Mixer::Attention(Attention { heads: 4, kv_heads: 1, head_dim: 32, fused: false, qkv_bias: false, out_bias: false, qk_norm: true, wide_norm: false, value_norm: true, keys_as_values: false, gate: false, sub_norm: false, rope: Some(1), window: Some(64), scale: 1.0, softcap: None, head_gate: false, sinks: false, temperature: None, shared_kv: Some(0) }), ffn: FeedForward::Dense(Dense { inner: 160, gated: true, fused: false, activation: GeluTanh, bias: false, sub_norm: false, sparsity: None }), norms: Norms { before: Norm { kind: NormKind::Rms, eps: 1e-6 }, pre: true, post: true }, input: Some(LayerInput { width: 96, activation: GeluTanh }), streams: None, scales: Scales { residual: 1.0, output: true } },
        Layer { mixer: Mixer::Attention(Attention { heads: 4, kv_heads: 1, head_dim: 32, fused: false, qkv_bias: false, out_bias: false, qk_norm: true, wide_norm: false, value_norm: true, keys_as_values: false, gate: false, sub_norm: false, rope: Some(0), window: None, scale: 1.0, softcap: None, head_gate: false, sinks: false, temperature: None, shared_kv: Some(1) }), ffn: FeedForward::Dense(Dense { inner: 160, gated: true, fused: false, activation: GeluTanh, bias: false, sub_norm: false, sparsity: None }), norms: Norms { before: Norm { kind: NormKind::Rms, eps: 1e-6 }, pre: true, post: true }, input: Some(LayerInput { width: 96, activation: GeluTanh }), streams: None, scales: Scales { residual: 1.0, output: true } },
    ]
};

/// The kind of each layer, repeated.
pub static PATTERN: [u8; 4] = [0, 1, 2, 3];

/// The rotary embeddings.
pub static ROPES: [Rope; 2] = {
    #[allow(unused_imports)]
    use {teff_graph::RopeScaling, teff_kernels::RopeKind};
    [
        Rope { kind: RopeKind::NeoX, dims: 32, base: 10000.0, scaling: RopeScaling::Factors, magnitude: 1.0 },
        Rope { kind: RopeKind::NeoX, dims: 32, base: 10000.0, scaling: RopeScaling::None, magnitude: 1.0 },
    ]
};

/// The model.
pub const SPEC: Spec<'static> = {
    #[allow(unused_imports)]
    use teff_graph::{Embed, Head, PerLayer, layers::{Norm, NormKind}};
    Spec {
        arch: "gemma4",
        vocab: 2048,
        context: 256,
        width: 64,
        embed: Embed { scale: 8.0, positions: false },
        layers: Layers::new(&KINDS, &PATTERN, 4),
        norm: Norm { kind: NormKind::Rms, eps: 1e-6 },
        head: Head::Tied,
        logit_divisor: 1.0,
        logit_cap: None,
        per_layer: Some(PerLayer { width: 96, vocab: 2048 }),
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
    logits: Some(BufferId::new(48)),
    hidden: None,
    memory_requirements: MemoryRequirements { scratch: 21888, state: 27712, pool: 0, per_thread: 10240 },
};
