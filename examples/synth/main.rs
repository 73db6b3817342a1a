//! Writes a GGUF file of a real model's shape with random weights, for benchmarks and for trying
//! large shapes without a download:
//!
//! ```text
//! cargo run --release --example synth -- tinyllama-1.1b Q4_K_M tinyllama-Q4_K_M.gguf
//! cargo run --release --example synth -- qwen3-30b-a3b:4 Q4_K_M four-layers.gguf
//! ```
//!
//! Behind a colon stands another number of layers than the real model's: as many as fit in memory.
//! The same shape gives the same weights on every machine and, apart from rounding, in every format.
//! Rows repeat after a few hundred, so that large files are quick to write. The formats are those of
//! `teff quantize`, mixes included, and their choice for each tensor is made there. A format with the
//! suffix `-pure` is used for all matrices. llama.cpp loads the files too, except for I2_S, which is
//! BitNet's.

mod random;
mod vocabulary;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use random::Random;
use teff_graph::family::{
    self, bitnet, gemma2, gemma3, gemma3n, gemma4, gpt_oss, gpt2, granite, lfm2, llama, mistral3,
    olmo2, phi3, qwen, qwen3moe, qwen35, qwen35moe, smollm3,
};
use teff_graph::gguf::GgufValue;
use teff_graph::layers::{FeedForward, Mixer};
use teff_graph::{Head, Layer, LayerRole, MAX_LAYERS, Role, Spec};
use teff_kernels::{Format, quantize_row};
use teff_runtime::gguf_spec::put_spec;
use teff_runtime::gguf_write::{GgufData, GgufHeader};
use teff_runtime::quantize::{Facts, Shape, Target, plan};
use vocabulary::Vocabulary;

/// Model whose shape is available.
struct Model {
    name: &'static str,
    spec: fn() -> Spec<'static>,
    vocabulary: Vocabulary,
}

const GPT2: Vocabulary =
    Vocabulary::ByteLevel { pre: "gpt-2", specials: &["<|endoftext|>"], bos: 0, eos: 0 };
const QWEN: Vocabulary = Vocabulary::ByteLevel {
    pre: "qwen2",
    specials: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    bos: 0,
    eos: 2,
};
const QWEN35: Vocabulary = Vocabulary::ByteLevel {
    pre: "qwen35",
    specials: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    bos: 0,
    eos: 2,
};
const LLAMA3: Vocabulary = Vocabulary::ByteLevel {
    pre: "llama-bpe",
    specials: &["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
    bos: 0,
    eos: 1,
};
const LFM2: Vocabulary = Vocabulary::ByteLevel {
    pre: "lfm2",
    specials: &["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    bos: 1,
    eos: 4,
};
const GPT_OSS: Vocabulary = Vocabulary::ByteLevel {
    pre: "gpt-4o",
    specials: &["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|call|>", "<|end|>"],
    bos: 0,
    eos: 2,
};
const GRANITE: Vocabulary =
    Vocabulary::ByteLevel { pre: "refact", specials: &["<|end_of_text|>"], bos: 0, eos: 0 };
const LLAMA: Vocabulary = Vocabulary::SentencePiece {
    specials: &["<unk>", "<s>", "</s>"],
    bos: 1,
    eos: 2,
    unk: 0,
    space: true,
};
const GEMMA: Vocabulary = Vocabulary::SentencePiece {
    specials: &["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
    bos: 2,
    eos: 1,
    unk: 3,
    space: false,
};

#[rustfmt::skip]
const MODELS: &[Model] = &[
    Model { name: "gpt2-124m", spec: gpt2::small, vocabulary: GPT2 },
    Model { name: "gpt2-355m", spec: gpt2_medium, vocabulary: GPT2 },
    Model { name: "tinyllama-1.1b", spec: llama::tinyllama, vocabulary: LLAMA },
    Model { name: "gemma2-2b", spec: gemma2::gemma2_2b, vocabulary: GEMMA },
    Model { name: "gemma3-1b", spec: gemma3::gemma3_1b, vocabulary: GEMMA },
    Model { name: "gemma3n-e2b", spec: gemma3n::gemma3n_e2b, vocabulary: GEMMA },
    Model { name: "gemma4-e2b", spec: gemma4::gemma4_e2b, vocabulary: GEMMA },
    Model { name: "gemma4-26b-a4b", spec: gemma4::gemma4_26b_a4b, vocabulary: GEMMA },
    Model { name: "qwen2.5-14b", spec: qwen::qwen2_5_14b, vocabulary: QWEN },
    Model { name: "qwen3-14b", spec: qwen::qwen3_14b, vocabulary: QWEN },
    Model { name: "qwen3-30b-a3b", spec: qwen3moe::qwen3_30b_a3b, vocabulary: QWEN },
    Model { name: "qwen3.5-0.8b", spec: qwen35::qwen3_5_0_8b, vocabulary: QWEN35 },
    Model { name: "qwen3.5-4b", spec: qwen35::qwen3_5_4b, vocabulary: QWEN35 },
    Model { name: "qwen3.5-35b-a3b", spec: qwen35moe::qwen3_5_35b_a3b, vocabulary: QWEN35 },
    Model { name: "lfm2-1.2b", spec: lfm2::lfm2_1_2b, vocabulary: LFM2 },
    Model { name: "lfm2-8b-a1b", spec: lfm2::lfm2_8b_a1b, vocabulary: LFM2 },
    Model { name: "gpt-oss-20b", spec: gpt_oss::gpt_oss_20b, vocabulary: GPT_OSS },
    Model { name: "granite3-8b", spec: granite::granite3_8b, vocabulary: GRANITE },
    Model { name: "olmo2-7b", spec: olmo2::olmo2_7b, vocabulary: GPT2 },
    Model { name: "ministral3-3b", spec: mistral3::ministral3_3b, vocabulary: LLAMA3 },
    Model { name: "phi4-mini", spec: phi3::phi4_mini, vocabulary: GPT2 },
    Model { name: "smollm3-3b", spec: smollm3::smollm3_3b, vocabulary: LLAMA3 },
    Model { name: "bitnet-2b-4t", spec: bitnet::bitnet_2b, vocabulary: LLAMA3 },
];

fn gpt2_medium() -> Spec<'static> {
    let spec = gpt2::small().with_layers(|mut layer| {
        if let Mixer::Attention(a) = &mut layer.mixer {
            (a.heads, a.kv_heads) = (16, 16);
        }
        if let FeedForward::Dense(d) = &mut layer.ffn {
            d.inner = 4096;
        }
        layer
    });
    Spec { layers: spec.layers.with_len(24), width: 1024, ..spec }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, format, out] = &args[..] else { return usage("three arguments are needed") };
    let (shape, layers) = match name.split_once(':') {
        Some((shape, layers)) => (shape, Some(layers)),
        None => (&name[..], None),
    };
    let Some(model) = MODELS.iter().find(|m| m.name == shape) else {
        return usage(&format!("unknown shape {shape}"));
    };
    let mut spec = (model.spec)();
    if let Some(layers) = layers {
        match layers.parse() {
            Ok(n) if (1..=MAX_LAYERS as u32).contains(&n) => spec.layers = spec.layers.with_len(n),
            _ => return usage(&format!("{layers} is no number of layers from 1 to {MAX_LAYERS}")),
        }
    }
    let target = match format.strip_suffix("-pure") {
        Some(format) => Target::from_name(format).map(Target::pure),
        None => Target::from_name(format),
    };
    let Some(target) = target else { return usage(&format!("unknown format {format}")) };
    match synth(name, &spec, &model.vocabulary, &target, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{out}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(wrong: &str) -> ExitCode {
    let shapes: Vec<_> = MODELS.iter().map(|m| m.name).collect();
    let formats: Vec<_> = Target::built().map(|t| t.name()).collect();
    eprintln!("{wrong}\nusage: synth SHAPE[:LAYERS] FORMAT OUT.gguf");
    eprintln!("shapes: {}", shapes.join(" "));
    eprintln!("formats, also with -pure: {}", formats.join(" "));
    ExitCode::from(2)
}

/// Tensor to be written.
struct Tensor {
    name: String,
    format: Format,
    dims: Vec<u64>,
    /// Distribution of its random elements.
    mean: f32,
    deviation: f32,
}

fn synth(
    name: &str,
    spec: &Spec<'_>,
    vocabulary: &Vocabulary,
    target: &Target,
    out: &str,
) -> Result<(), Box<dyn Error>> {
    let mut h = GgufHeader::new();
    h.put("general.architecture", GgufValue::Str(spec.arch))?;
    h.put("general.type", GgufValue::Str("model"))?;
    h.put("general.name", GgufValue::Str(name))?;
    put_spec(&mut h, spec)?;
    vocabulary::put(&mut h, vocabulary, spec.vocab as usize)?;
    h.put("general.quantization_version", GgufValue::U32(2))?;
    h.put("general.file_type", GgufValue::U32(target.file_type()))?;
    let tensors = tensors(spec, target)?;
    for t in &tensors {
        h.tensor(&t.name, t.format, &t.dims)?;
    }
    let mut data = h.write(BufWriter::with_capacity(1 << 20, File::create(out)?))?;
    for t in &tensors {
        fill(t, &mut data)?;
    }
    data.finish()?; // flushed
    Ok(())
}

/// All tensors, in the formats chosen by the target.
fn tensors(spec: &Spec<'_>, target: &Target) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let family = family::of_arch(spec.arch).ok_or("no family of this architecture")?;
    let mut all = Vec::new();
    for slot in spec.slots() {
        if slot.role == Role::Output && spec.head != Head::Own {
            continue;
        }
        let mut name = String::new();
        family.gguf_name(slot.role, &mut name)?;
        let mut dims = vec![slot.cols as u64];
        if slot.rows > 1 || !slot.is_vector() {
            dims.push(slot.rows as u64);
        }
        if slot.experts > 1 {
            dims.push(slot.experts as u64);
        }
        let (mean, deviation) = match slot.role {
            _ if !slot.is_vector() => (0.0, 0.02),
            _ if is_norm(slot.role) => (1.0, 0.01),
            Role::RopeFactors => (1.0, 0.0),
            Role::Layer(_, LayerRole::ConvTaps | LayerRole::DeltaTaps) => (0.0, 0.3),
            // Heads that forget at once, and others that remember for thousands of tokens.
            Role::Layer(_, LayerRole::DeltaRate | LayerRole::DeltaBias) => (-4.0, 1.0),
            Role::Layer(_, LayerRole::StreamPredict | LayerRole::StreamCorrect) => (0.0, 0.1),
            _ => (0.0, 0.01),
        };
        all.push(Tensor { name, format: Format::F32, dims, mean, deviation });
    }
    let facts = Facts {
        layers: spec.layers.len(),
        group: spec.layers.iter().find_map(Layer::attention).map_or(0, |a| a.heads / a.kv_heads),
        experts: spec.layers.iter().find_map(Layer::experts).map_or(0, |e| e.experts),
        ..Facts::default()
    };
    let shapes: Vec<_> =
        all.iter().map(|t| Shape { name: &t.name, dims: &t.dims, format: Format::F32 }).collect();
    let choices = plan(target, &facts, &shapes);
    for (t, choice) in all.iter_mut().zip(choices) {
        t.format = choice.format;
    }
    Ok(all)
}

/// True for factors: of norms of any kind, and of layers and experts.
fn is_norm(role: Role) -> bool {
    use LayerRole as L;
    match role {
        Role::Layer(_, L::LayerScale | L::ExpertScale | L::StreamScale) => true,
        role => {
            let role = format!("{role:?}");
            role.contains("Norm") && !role.contains("Bias")
        }
    }
}

/// Number of distinct rows of a tensor, which then repeat.
const ROWS: usize = 512;

/// Writes a tensor's random elements.
fn fill<W: Write>(t: &Tensor, data: &mut GgufData<W>) -> Result<(), Box<dyn Error>> {
    let cols = usize::try_from(t.dims[0])?;
    let mut rows = usize::try_from(t.dims[1..].iter().product::<u64>())?;
    let row_bytes = t.format.row_bytes(cols).ok_or("a row is not whole blocks")?;
    let mut row = vec![0f32; cols];
    let mut bytes = vec![0; row_bytes * rows.min(ROWS)];
    // Each tensor has its own random stream, seeded by its name (FNV-1a).
    let seed = t
        .name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = Random(seed);
    // Ternary weights: elements far from 0 become 1 or -1.
    let ternary = matches!(t.format, Format::TQ1_0 | Format::TQ2_0 | Format::I2_S);
    for out in bytes.chunks_exact_mut(row_bytes) {
        row.fill_with(|| random.normal((t.mean, t.deviation)));
        if ternary {
            let unit = if t.format.trailer_bytes() > 0 { 1.0 } else { t.deviation };
            let round = |x: f32| (x / t.deviation).round_ties_even().clamp(-1.0, 1.0) * unit;
            row.iter_mut().for_each(|x| *x = round(*x));
        }
        quantize_row(t.format, &row, out);
    }
    while rows > 0 {
        let n = rows.min(ROWS);
        data.write(&t.name, &bytes[..n * row_bytes])?;
        rows -= n;
    }
    let mut trailer = vec![0; t.format.trailer_bytes()];
    if let Some(first) = trailer.first_chunk_mut() {
        *first = t.deviation.to_le_bytes();
        data.write(&t.name, &trailer)?;
    }
    Ok(())
}
