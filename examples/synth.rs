//! Writes a GGUF file of a real model's shape with random weights, for benchmarks and for trying
//! large shapes without a download:
//!
//! ```text
//! cargo run --release --example synth -- gpt2-124m Q8_0 gpt2-124m-Q8_0.gguf
//! ```
//!
//! The same shape gives the same weights on every machine and, apart from rounding, in every
//! format. The vocabulary has the right size and merges that fit it, so that text can be tokenized
//! (into tokens that mean nothing). llama.cpp loads the file too, but for I2_S, which is BitNet's.

use std::collections::HashSet;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use teff_graph::gguf::GgufValue;
use teff_kernels::{Format, quantize_row};
use teff_runtime::gguf_write::{GgufData, GgufHeader};

/// A model of the GPT-2 family.
struct Shape {
    name: &'static str,
    /// What GGUF calls `general.size_label`.
    label: &'static str,
    layers: u32,
    width: u32,
    heads: u32,
    ff: u32,
    context: u32,
    /// Tokens: 256 bytes, the merges, and the end of text.
    vocab: u32,
}

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    Shape { name: "gpt2-124m", label: "124M", layers: 12, width: 768, heads: 12, ff: 3072, context: 1024, vocab: 50257 },
    Shape { name: "gpt2-355m", label: "355M", layers: 24, width: 1024, heads: 16, ff: 4096, context: 1024, vocab: 50257 },
];

/// The formats, with the number that GGUF's `general.file_type` gives to a file of each.
const FORMATS: &[(Format, u32)] = &[
    (Format::F32, 0),
    (Format::F16, 1),
    (Format::BF16, 32),
    (Format::Q8_0, 7),
    (Format::Q4_0, 2),
    (Format::Q4_1, 3),
    (Format::Q5_0, 8),
    (Format::Q5_1, 9),
    (Format::Q2_K, 10),
    (Format::Q3_K, 11),
    (Format::Q4_K, 14),
    (Format::Q5_K, 16),
    (Format::Q6_K, 18),
    (Format::TQ1_0, 36),
    (Format::TQ2_0, 37),
    (Format::I2_S, 40), // as BitNet's converter numbers it
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shape, format, out] = &args[..] else { return usage("three arguments are needed") };
    let Some(shape) = SHAPES.iter().find(|s| s.name == shape) else {
        return usage(&format!("unknown shape {shape}"));
    };
    let Some(&(format, file_type)) =
        FORMATS.iter().find(|(f, _)| f.name().eq_ignore_ascii_case(format))
    else {
        return usage(&format!("unknown format {format}"));
    };
    match synth(shape, format, file_type, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{out}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(wrong: &str) -> ExitCode {
    let shapes: Vec<_> = SHAPES.iter().map(|s| s.name).collect();
    let formats: Vec<_> = FORMATS.iter().map(|(f, _)| f.name()).collect();
    eprintln!("{wrong}\nusage: synth SHAPE FORMAT OUT.gguf");
    eprintln!("shapes: {}\nformats: {}", shapes.join(" "), formats.join(" "));
    ExitCode::from(2)
}

/// How a tensor's random elements are distributed.
#[derive(Clone, Copy)]
struct Normal {
    mean: f32,
    deviation: f32,
}

/// A tensor to be written.
struct Tensor {
    name: String,
    format: Format,
    dims: Vec<u64>,
    values: Normal,
}

fn synth(shape: &Shape, format: Format, file_type: u32, out: &str) -> Result<(), Box<dyn Error>> {
    let mut header = metadata(shape, file_type)?;
    let tensors = tensors(shape, format);
    for t in &tensors {
        header.tensor(&t.name, t.format, &t.dims)?;
    }
    let mut data = header.write(BufWriter::with_capacity(1 << 20, File::create(out)?))?;
    for t in &tensors {
        fill(t, &mut data)?;
    }
    data.finish()?; // flushed
    Ok(())
}

/// The keys that llama.cpp's converter writes for a GPT-2.
fn metadata(shape: &Shape, file_type: u32) -> Result<GgufHeader, Box<dyn Error>> {
    let end = shape.vocab - 1;
    let (tokens, merges) = vocabulary(end as usize - 256);
    let mut kinds = vec![1; tokens.len()]; // normal tokens
    kinds[end as usize] = 3; // a control token

    let mut h = GgufHeader::new();
    h.put("general.architecture", GgufValue::Str("gpt2"))?;
    h.put("general.type", GgufValue::Str("model"))?;
    h.put("general.name", GgufValue::Str(shape.name))?;
    h.put("general.size_label", GgufValue::Str(shape.label))?;
    h.put("gpt2.block_count", GgufValue::U32(shape.layers))?;
    h.put("gpt2.context_length", GgufValue::U32(shape.context))?;
    h.put("gpt2.embedding_length", GgufValue::U32(shape.width))?;
    h.put("gpt2.feed_forward_length", GgufValue::U32(shape.ff))?;
    h.put("gpt2.attention.head_count", GgufValue::U32(shape.heads))?;
    h.put("gpt2.attention.layer_norm_epsilon", GgufValue::F32(1e-5))?;
    h.put("tokenizer.ggml.model", GgufValue::Str("gpt2"))?;
    h.put("tokenizer.ggml.pre", GgufValue::Str("gpt-2"))?;
    h.put_strings("tokenizer.ggml.tokens", &tokens)?;
    h.put_i32s("tokenizer.ggml.token_type", &kinds)?;
    h.put_strings("tokenizer.ggml.merges", &merges)?;
    h.put("tokenizer.ggml.bos_token_id", GgufValue::U32(end))?;
    h.put("tokenizer.ggml.eos_token_id", GgufValue::U32(end))?;
    h.put("tokenizer.ggml.unknown_token_id", GgufValue::U32(end))?;
    h.put("general.quantization_version", GgufValue::U32(2))?;
    h.put("general.file_type", GgufValue::U32(file_type))?;
    Ok(h)
}

/// The tensors in the order of llama.cpp's files. Only matrices that are multiplied take the
/// format; norms, biases and positions stay f32. The head is `token_embd.weight`.
fn tensors(shape: &Shape, format: Format) -> Vec<Tensor> {
    let (width, ff) = (u64::from(shape.width), u64::from(shape.ff));
    let tensor = |name: String, format, dims: &[u64], mean, deviation| {
        let values = Normal { mean, deviation };
        Tensor { name, format, dims: dims.to_vec(), values }
    };
    let vector = |name: String, len, mean| tensor(name, Format::F32, &[len], mean, 0.01);
    let matrix = |name: String, cols, rows| tensor(name, format, &[cols, rows], 0.0, 0.02);
    let mut all = vec![
        vector("output_norm.bias".into(), width, 0.0),
        vector("output_norm.weight".into(), width, 1.0),
        tensor(
            "position_embd.weight".into(),
            Format::F32,
            &[width, shape.context.into()],
            0.0,
            0.01,
        ),
        matrix("token_embd.weight".into(), width, shape.vocab.into()),
    ];
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        all.extend([
            vector(name("attn_norm.bias"), width, 0.0),
            vector(name("attn_norm.weight"), width, 1.0),
            vector(name("attn_output.bias"), width, 0.0),
            matrix(name("attn_output.weight"), width, width),
            vector(name("attn_qkv.bias"), 3 * width, 0.0),
            matrix(name("attn_qkv.weight"), width, 3 * width),
            vector(name("ffn_down.bias"), width, 0.0),
            matrix(name("ffn_down.weight"), ff, width),
            vector(name("ffn_norm.bias"), width, 0.0),
            vector(name("ffn_norm.weight"), width, 1.0),
            vector(name("ffn_up.bias"), ff, 0.0),
            matrix(name("ffn_up.weight"), width, ff),
        ]);
    }
    all
}

/// Writes a tensor's random elements, a row at a time.
fn fill<W: Write>(t: &Tensor, data: &mut GgufData<W>) -> Result<(), Box<dyn Error>> {
    let cols = usize::try_from(t.dims[0])?;
    let rows: u64 = t.dims[1..].iter().product();
    let mut row = vec![0f32; cols];
    let mut bytes = vec![0; t.format.row_bytes(cols).ok_or("a row is not whole blocks")?];
    // A stream of its own for each tensor, from its name (FNV-1a).
    let seed = t
        .name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = Random(seed);
    // A scale of the whole tensor: what is so far from 0 becomes 1 or -1.
    let scale = if t.format.trailer_bytes() > 0 { t.values.deviation } else { 1.0 };
    for _ in 0..rows {
        row.fill_with(|| random.normal(t.values) / scale);
        quantize_row(t.format, &row, &mut bytes);
        data.write(&t.name, &bytes)?;
    }
    let mut trailer = vec![0; t.format.trailer_bytes()];
    if let Some(first) = trailer.first_chunk_mut() {
        *first = scale.to_le_bytes();
        data.write(&t.name, &trailer)?;
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Roughly normal: the sum of four uniform numbers of 16 bits, which is quick.
    fn normal(&mut self, n: Normal) -> f32 {
        let bits = self.next();
        let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u32 & 0xffff).sum();
        // The sum's mean is 2 * 65535, its deviation 65536 * sqrt(4 / 12).
        n.mean + (sum as f32 - 131_070.0) * (n.deviation / 37_837.0)
    }

    /// A number below `n`, small ones more often.
    fn skewed(&mut self, n: usize) -> usize {
        let mut draw = || (self.next() >> 32) as f64 / (1u64 << 32) as f64;
        (draw() * draw() * n as f64) as usize
    }
}

/// Words that shall be one token after a space, so that English text is cut plausibly.
const WORDS: &str = "the of and to a in is it that was he for on are with as his they be at one have \
    this from or had by but some what there we can out other were all your when up use word how \
    said an each she which do their time if will way about many then them would write like so \
    these her long make thing see him two has look more day could go come did my sound no most \
    number who over know water than call first people may down side been now find any new work \
    part take get place made live where after back little only round man year came show every good \
    me give our under name very through just form much great think say help low line before turn \
    cause same mean differ move right boy old too does tell set three want air well also play small \
    end put home read hand port large spell add even land here must big high such follow act why ask \
    men change went light kind off need house picture try us again animal point mother world near \
    build self earth father once upon story girl friend happy little night tree river song bird sun";

/// A byte-pair vocabulary: the 256 bytes, one token for each of `n` merges, and the end of text;
/// and the merges, the first one first.
///
/// Every merge joins two tokens that exist into one that did not.
fn vocabulary(n: usize) -> (Vec<String>, Vec<String>) {
    // GPT-2 writes bytes as letters: printable ones as themselves, the others from U+0100 on.
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut tokens: Vec<String> =
        (0..=255u8).filter(printable).map(|b| char::from(b).to_string()).collect();
    tokens.extend((256u32..).take(68).filter_map(char::from_u32).map(String::from));
    let mut known: HashSet<String> = tokens.iter().cloned().collect();
    let mut merges = Vec::with_capacity(n);
    let mut join = |left: &str, right: &str, tokens: &mut Vec<String>| {
        let joined = format!("{left}{right}");
        if merges.len() < n && known.insert(joined.clone()) {
            merges.push(format!("{left} {right}"));
            tokens.push(joined.clone());
        }
        (merges.len(), joined)
    };

    // First a space (which is written Ġ) and a letter, then whole words after a space, letter by
    // letter, then words without it.
    let mut parts: Vec<String> = ('a'..='z').map(String::from).collect();
    let mut starts: Vec<String> =
        parts.iter().map(|letter| join("\u{120}", letter, &mut tokens).1).collect();
    for space in ["\u{120}", ""] {
        for word in WORDS.split_whitespace() {
            let mut left = String::from(space);
            for letter in word.chars() {
                let letter = letter.to_string();
                left = if left.is_empty() { letter } else { join(&left, &letter, &mut tokens).1 };
            }
        }
    }
    // Then syllables, joined at random where a vowel meets a consonant.
    let vowel = |c: Option<char>| c.is_some_and(|c| "aeiouy".contains(c));
    let mut random = Random(1);
    let mut done = tokens.len() - 256;
    while done < n {
        let spaced = random.next().is_multiple_of(2);
        let right = parts[random.skewed(parts.len())].clone();
        let side = if spaced { &mut starts } else { &mut parts };
        let left = side[random.skewed(side.len())].clone();
        let fits = left.len() + right.len() <= 14;
        if !fits || vowel(left.chars().last()) == vowel(right.chars().next()) {
            continue;
        }
        let (now, joined) = join(&left, &right, &mut tokens);
        if now > done {
            side.push(joined);
        }
        done = now;
    }
    tokens.push("<|endoftext|>".into());
    (tokens, merges)
}
