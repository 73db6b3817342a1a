// Written by: cargo run --example plan_to_rust -- examples/bare_metal/model-q8_0.gguf --ctx 256 --batch 8 --kv q8 --prompt-file examples/bare_metal/prompt.txt --out examples/bare_metal/src/plan_q8_0.rs
// arena 5568 B, cache 147456 B, 8192 B for each thread.

use teff_graph::plan::{Buffer, BufferId, MemoryRequirements, Op, Options};
use teff_graph::{List, Plan, Spec, TensorLocation};

/// Bytes of the model's file.
pub const FILE_BYTES: usize = 289536;

/// Their FNV-1a hash of 64 bits.
pub const FILE_HASH: u64 = 0x168a3493e25daca3;

/// Bytes of the arena.
pub const ARENA: usize = 5568;

/// Bytes of the KV cache.
pub const CACHE: usize = 147456;

/// Bytes for the one thread.
pub const THREAD: usize = 8192;

/// Where the tokens' texts begin in the file.
pub const TOKENS_AT: usize = 687;

/// The token that ends a text.
pub const END: Option<u32> = Some(0);

/// Tokens that the text begins with.
pub static PROMPT: [u32; 46] = [47, 78, 354, 384, 270, 259, 472, 415, 280, 259, 439, 410, 275, 79, 88, 388, 437, 73, 80, 441, 442, 322, 259, 282, 69, 424, 275, 496, 310, 14, 440, 391, 287, 470, 295, 12, 437, 73, 80, 359, 272, 275, 368, 259, 435, 14];

/// Where each tensor lies in the file.
pub static WEIGHTS: [TensorLocation; 52] = {
    use teff_kernels::Format::*;
    [
        TensorLocation { format: Q8_0, offset: 14592 },
        TensorLocation { format: Q8_0, offset: 49408 },
        TensorLocation { format: F32, offset: 66816 },
        TensorLocation { format: F32, offset: 67072 },
        TensorLocation { format: Q8_0, offset: 67328 },
        TensorLocation { format: F32, offset: 80384 },
        TensorLocation { format: Q8_0, offset: 81152 },
        TensorLocation { format: F32, offset: 85504 },
        TensorLocation { format: F32, offset: 85760 },
        TensorLocation { format: F32, offset: 86016 },
        TensorLocation { format: Q8_0, offset: 86272 },
        TensorLocation { format: F32, offset: 103680 },
        TensorLocation { format: Q8_0, offset: 104704 },
        TensorLocation { format: F32, offset: 122112 },
        TensorLocation { format: F32, offset: 122368 },
        TensorLocation { format: F32, offset: 122624 },
        TensorLocation { format: Q8_0, offset: 122880 },
        TensorLocation { format: F32, offset: 135936 },
        TensorLocation { format: Q8_0, offset: 136704 },
        TensorLocation { format: F32, offset: 141056 },
        TensorLocation { format: F32, offset: 141312 },
        TensorLocation { format: F32, offset: 141568 },
        TensorLocation { format: Q8_0, offset: 141824 },
        TensorLocation { format: F32, offset: 159232 },
        TensorLocation { format: Q8_0, offset: 160256 },
        TensorLocation { format: F32, offset: 177664 },
        TensorLocation { format: F32, offset: 177920 },
        TensorLocation { format: F32, offset: 178176 },
        TensorLocation { format: Q8_0, offset: 178432 },
        TensorLocation { format: F32, offset: 191488 },
        TensorLocation { format: Q8_0, offset: 192256 },
        TensorLocation { format: F32, offset: 196608 },
        TensorLocation { format: F32, offset: 196864 },
        TensorLocation { format: F32, offset: 197120 },
        TensorLocation { format: Q8_0, offset: 197376 },
        TensorLocation { format: F32, offset: 214784 },
        TensorLocation { format: Q8_0, offset: 215808 },
        TensorLocation { format: F32, offset: 233216 },
        TensorLocation { format: F32, offset: 233472 },
        TensorLocation { format: F32, offset: 233728 },
        TensorLocation { format: Q8_0, offset: 233984 },
        TensorLocation { format: F32, offset: 247040 },
        TensorLocation { format: Q8_0, offset: 247808 },
        TensorLocation { format: F32, offset: 252160 },
        TensorLocation { format: F32, offset: 252416 },
        TensorLocation { format: F32, offset: 252672 },
        TensorLocation { format: Q8_0, offset: 252928 },
        TensorLocation { format: F32, offset: 270336 },
        TensorLocation { format: Q8_0, offset: 271360 },
        TensorLocation { format: F32, offset: 288768 },
        TensorLocation { format: F32, offset: 289024 },
        TensorLocation { format: F32, offset: 289280 },
    ]
};

/// The operations of a step.
pub static OPS: [Op; 62] = {
    #[allow(unused_imports)]
    use teff_graph::{Activation::*, TensorId, plan::{Op::*, Output::*}};
    [
        Embed { table: TensorId(0), positions: Some(TensorId(1)), out: BufferId(0) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(2), bias: Some(TensorId(3)), out: BufferId(2) },
        Barrier,
        Linear { w: TensorId(4), bias: Some(TensorId(5)), x: BufferId(2), act: None, to: Qkv { q: BufferId(1), layer: 0, rope: None } },
        Barrier,
        Attend { q: BufferId(1), layer: 0, out: BufferId(3) },
        Barrier,
        Linear { w: TensorId(6), bias: Some(TensorId(7)), x: BufferId(3), act: None, to: Add(BufferId(0)) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(8), bias: Some(TensorId(9)), out: BufferId(4) },
        Barrier,
        Linear { w: TensorId(10), bias: Some(TensorId(11)), x: BufferId(4), act: Some(GeluTanh), to: Store(BufferId(5)) },
        Barrier,
        Linear { w: TensorId(12), bias: Some(TensorId(13)), x: BufferId(5), act: None, to: Add(BufferId(0)) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(14), bias: Some(TensorId(15)), out: BufferId(7) },
        Barrier,
        Linear { w: TensorId(16), bias: Some(TensorId(17)), x: BufferId(7), act: None, to: Qkv { q: BufferId(6), layer: 1, rope: None } },
        Barrier,
        Attend { q: BufferId(6), layer: 1, out: BufferId(8) },
        Barrier,
        Linear { w: TensorId(18), bias: Some(TensorId(19)), x: BufferId(8), act: None, to: Add(BufferId(0)) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(20), bias: Some(TensorId(21)), out: BufferId(9) },
        Barrier,
        Linear { w: TensorId(22), bias: Some(TensorId(23)), x: BufferId(9), act: Some(GeluTanh), to: Store(BufferId(10)) },
        Barrier,
        Linear { w: TensorId(24), bias: Some(TensorId(25)), x: BufferId(10), act: None, to: Add(BufferId(0)) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(26), bias: Some(TensorId(27)), out: BufferId(12) },
        Barrier,
        Linear { w: TensorId(28), bias: Some(TensorId(29)), x: BufferId(12), act: None, to: Qkv { q: BufferId(11), layer: 2, rope: None } },
        Barrier,
        Attend { q: BufferId(11), layer: 2, out: BufferId(13) },
        Barrier,
        Linear { w: TensorId(30), bias: Some(TensorId(31)), x: BufferId(13), act: None, to: Add(BufferId(0)) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(32), bias: Some(TensorId(33)), out: BufferId(14) },
        Barrier,
        Linear { w: TensorId(34), bias: Some(TensorId(35)), x: BufferId(14), act: Some(GeluTanh), to: Store(BufferId(15)) },
        Barrier,
        Linear { w: TensorId(36), bias: Some(TensorId(37)), x: BufferId(15), act: None, to: Add(BufferId(0)) },
        Barrier,
        Norm { x: BufferId(0), weight: TensorId(38), bias: Some(TensorId(39)), out: BufferId(17) },
        Barrier,
        Linear { w: TensorId(40), bias: Some(TensorId(41)), x: BufferId(17), act: None, to: Qkv { q: BufferId(16), layer: 3, rope: None } },
        Barrier,
        Attend { q: BufferId(16), layer: 3, out: BufferId(18) },
        SelectRows { x: BufferId(0), out: BufferId(19) },
        Barrier,
        Linear { w: TensorId(42), bias: Some(TensorId(43)), x: BufferId(18), act: None, to: Add(BufferId(19)) },
        Barrier,
        Norm { x: BufferId(19), weight: TensorId(44), bias: Some(TensorId(45)), out: BufferId(20) },
        Barrier,
        Linear { w: TensorId(46), bias: Some(TensorId(47)), x: BufferId(20), act: Some(GeluTanh), to: Store(BufferId(21)) },
        Barrier,
        Linear { w: TensorId(48), bias: Some(TensorId(49)), x: BufferId(21), act: None, to: Add(BufferId(19)) },
        Barrier,
        Norm { x: BufferId(19), weight: TensorId(50), bias: Some(TensorId(51)), out: BufferId(22) },
        Barrier,
        Linear { w: TensorId(0), bias: None, x: BufferId(22), act: None, to: Store(BufferId(23)) },
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

/// The model.
pub const SPEC: Spec = {
    #[allow(unused_imports)]
    use teff_graph::{
        Activation, Biases, Head, Norm, Positions, RopeScaling, Rotary, Window,
    };
    #[allow(unused_imports)]
    use teff_kernels::RopeKind;
    Spec {
        positions: Positions::Learned,
        arch: "gpt2",
        vocab: 512,
        context: 256,
        layers: 4,
        width: 64,
        heads: 2,
        kv_heads: 2,
        head_dim: 32,
        ffn: 256,
        norm: Norm::Layer,
        norm_eps: 1e-5,
        window: None,
        fused_qkv: true,
        biases: Biases { qkv: true, attn_out: true, ffn: true },
        qk_norms: false,
        sub_norms: false,
        post_norms: false,
        gated: false,
        activation: Activation::GeluTanh,
        token_scales: false,
        embed_scale: 1.0,
        attn_scale: 0.17677669,
        head: Head::Tied,
    }
};

/// What the plan is for.
pub const OPTIONS: Options = {
    use teff_kernels::KvFormat::*;
    Options { batch: 8, logits: 1, context: 256, kv: Q8 }
};

/// The plan.
pub static PLAN: Plan<'static> = {
    Plan {
        spec: SPEC,
        options: OPTIONS,
        ops: List::Borrowed(&OPS),
        buffers: List::Borrowed(&BUFFERS),
        logits: BufferId(23),
        memory_requirements: MemoryRequirements { scratch: 5568, kv: 147456, per_thread: 8192 },
    }
};
