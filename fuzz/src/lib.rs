//! The fuzz targets' checks, and what they share: a counting allocator, and a model small enough for a fuzzer.
//!
//! The workspace's test `seeds` includes this crate's source and runs each check on the seeds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use teff_graph::family::{self, Family, gpt2};
use teff_graph::gguf::GgufValue;
use teff_graph::layers::{FeedForward, Layer, Mixer};
use teff_graph::{Head, Layers, PerLayer, Role, Rope, Spec};
use teff_kernels::{Format, quantize_row};
use teff_runtime::gguf_spec::put_spec;
use teff_runtime::gguf_write::GgufHeader;

pub mod targets;

/// The system allocator, recording the peak memory in use.
///
/// The counts are for the whole process; a target runs one input at a time, and nothing else.
pub struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is forwarded to the system allocator; the counts don't touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
}

impl Counting {
    /// Runs `f`; returns its result and the peak growth of the heap during the run, in bytes.
    pub fn peak_of<T>(f: impl FnOnce() -> T) -> (T, usize) {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let out = f();
        (out, PEAK.load(Ordering::Relaxed).saturating_sub(before))
    }
}

/// A GPT-2 of a few kilobytes.
#[must_use]
pub fn tiny_spec(own_head: bool) -> Spec<'static> {
    tiny(gpt2::small(), 32, own_head)
}

/// A model of a few kilobytes with the options of `spec`.
#[must_use]
pub fn tiny(spec: Spec<'_>, width: u32, own_head: bool) -> Spec<'static> {
    let head_dim = width / 2;
    let spec = spec.with_ropes(|rope| Rope { dims: head_dim, ..rope });
    let spec = spec.with_layers(|mut layer| {
        if let Mixer::Attention(a) = &mut layer.mixer {
            a.kv_heads = if a.kv_heads < a.heads { 1 } else { 2 };
            (a.heads, a.head_dim) = (2, head_dim);
            // One layer of each kind is left, so that others have no numbers.
            a.shared_kv = None;
        }
        if let Some(input) = &mut layer.input {
            input.width = width;
        }
        if let Some(streams) = &mut layer.streams {
            streams.rank = width;
        }
        if let Mixer::DeltaNet(d) = &mut layer.mixer {
            (d.key_heads, d.value_heads, d.key_dim, d.value_dim) = (1, 2, 8, width / 2);
        }
        match &mut layer.ffn {
            FeedForward::Dense(d) => d.inner = width,
            FeedForward::DenseAndExperts(both) => {
                both.dense.inner = width;
                (both.experts.experts, both.experts.used, both.experts.inner) = (4, 2, width);
            }
            FeedForward::Experts(e) => {
                (e.experts, e.used, e.inner) = (4, 2, width);
                if let Some(shared) = &mut e.shared {
                    shared.inner = width;
                }
            }
            _ => {}
        }
        layer
    });
    // One layer of each kind.
    let mut kinds: Vec<Layer> = Vec::new();
    for kind in spec.layers.kinds() {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    let pattern: Vec<u8> = (0..kinds.len()).map(|k| k as u8).collect();
    let layers = Layers::new(&kinds, &pattern, kinds.len() as u32).to_owned();
    let head = if own_head { Head::Own } else { Head::Tied };
    let per_layer = spec.per_layer.map(|_| PerLayer { width, vocab: 258 });
    Spec { vocab: 258, context: 64, layers, width, head, per_layer, ..spec.clone() }
}

/// The GGUF file of [`tiny_spec`], with matrices in `format` and a byte-level vocabulary.
#[must_use]
pub fn tiny_gguf(format: Format, own_head: bool) -> Vec<u8> {
    gguf(&tiny_spec(own_head), format, false)
}

/// The GGUF file of a model with a byte-level or a SentencePiece vocabulary, and matrices in
/// `format`.
#[must_use]
pub fn gguf(spec: &Spec<'_>, format: Format, sentence_piece: bool) -> Vec<u8> {
    let mut header = GgufHeader::new();
    let mut put = |key: &str, value| header.put(key, value).expect("a fresh key");
    put("general.architecture", GgufValue::Str(spec.arch));
    put("general.name", GgufValue::Str("tiny"));
    put("tokenizer.ggml.bos_token_id", GgufValue::U32(257));
    put("tokenizer.ggml.eos_token_id", GgufValue::U32(257));
    if sentence_piece {
        put("tokenizer.ggml.model", GgufValue::Str("llama"));
        put("tokenizer.ggml.unknown_token_id", GgufValue::U32(257));
        let mut tokens: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
        tokens.extend(["\u{2581}he".to_owned(), "</s>".to_owned()]);
        let mut kinds = vec![6; 256];
        kinds.extend([1, 3]);
        let scores: Vec<f32> = (0..258).map(|i| -(i as f32)).collect();
        header.put_strings("tokenizer.ggml.tokens", &tokens).expect("a fresh key");
        header.put_f32s("tokenizer.ggml.scores", &scores).expect("a fresh key");
        header.put_i32s("tokenizer.ggml.token_type", &kinds).expect("a fresh key");
    } else {
        put("tokenizer.ggml.model", GgufValue::Str("gpt2"));
        put("tokenizer.ggml.pre", GgufValue::Str("gpt-2"));
        let (tokens, merges) = vocabulary();
        let kinds: Vec<i32> = (0..tokens.len()).map(|i| if i == 257 { 3 } else { 1 }).collect();
        header.put_strings("tokenizer.ggml.tokens", &tokens).expect("a fresh key");
        header.put_i32s("tokenizer.ggml.token_type", &kinds).expect("a fresh key");
        header.put_strings("tokenizer.ggml.merges", &merges).expect("a fresh key");
    }
    put_spec(&mut header, spec).expect("fresh keys");
    let family = family::of_arch(spec.arch).expect("a family that has GGUF files");
    let mut data = Vec::new();
    let mut state = 1u64;
    for slot in spec.slots().filter(|s| s.role != Role::Output || spec.head == Head::Own) {
        let format = if slot.is_vector() { Format::F32 } else { format };
        let name = gguf_name(family, slot.role);
        // Vectors of experts are rows of one tensor.
        let stacked = slot.experts > 1 && !slot.is_vector();
        let rows = if stacked { slot.rows } else { slot.all_rows() };
        let dims = [slot.cols, rows, slot.experts].map(|n| n as u64);
        let n = if stacked { 3 } else { 2 - usize::from(slot.is_vector() && rows == 1) };
        header.tensor(&name, format, &dims[..n]).expect("a fresh name");
        let mut bytes = Vec::new();
        for _ in 0..slot.all_rows() {
            let row: Vec<f32> = (0..slot.cols)
                .map(|_| {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    match slot.role {
                        Role::RopeFactors => 1.0,
                        _ => (state >> 40) as f32 / (1 << 23) as f32 - 1.0,
                    }
                })
                .collect();
            let start = bytes.len();
            bytes.resize(start + format.row_bytes(slot.cols).expect("whole blocks"), 0);
            quantize_row(format, &row, &mut bytes[start..]);
        }
        if format.trailer_bytes() > 0 {
            bytes.extend(0.5f32.to_le_bytes());
            bytes.resize(bytes.len() + format.trailer_bytes() - 4, 0);
        }
        data.push((name, bytes));
    }
    let mut file = header.write(Vec::new()).expect("memory");
    for (name, bytes) in data {
        file.write(&name, &bytes).expect("the tensor's size");
    }
    file.finish().expect("all tensors")
}

/// The GGUF name of a tensor.
fn gguf_name(family: &Family, role: Role) -> String {
    let mut name = String::new();
    family.gguf_name(role, &mut name).expect("a string takes everything");
    name
}

/// Tokens and merges: all bytes in GPT-2's alphabet, one merge, the end of text.
#[must_use]
pub fn vocabulary() -> (Vec<String>, Vec<String>) {
    let own = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut spare = 0x100..;
    let letter = |b| if own(b) { Some(b) } else { spare.next() };
    let letters = (0..=255).filter_map(letter).filter_map(char::from_u32);
    let mut tokens: Vec<String> = letters.map(String::from).collect();
    tokens.extend(["he".to_owned(), "<|endoftext|>".to_owned()]);
    (tokens, vec!["h e".to_owned()])
}
