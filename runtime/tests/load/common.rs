//! Shared by the tests of loading: SafeTensors files written by hand, small GPT-2s, folders.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use teff_graph::gguf::GgufValue;
use teff_graph::layers::{FeedForward, Layer, Mixer};
use teff_graph::{Tensor, family};
use teff_kernels::{Format, dequantize_row, quantize_row};
use teff_runtime::Model;
use teff_runtime::gguf_write::GgufHeader;

/// Folder of the small GPT-2 that is shared by the tests of the whole workspace.
pub fn oracle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/gpt2")
}

/// Folder of its own for each caller, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("load-{}-{n}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// SafeTensors file with this header and buffer.
pub fn file(header: &str, buffer: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(buffer);
    out
}

/// Tensor to be written.
#[derive(Clone, Debug)]
pub struct Plain {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// SafeTensors file with these tensors.
pub fn safetensors(tensors: &[Plain]) -> Vec<u8> {
    let (mut header, mut buffer) = (String::from("{\"__metadata__\":{\"format\":\"pt\"}"), vec![]);
    for t in tensors {
        let (begin, end) = (buffer.len(), buffer.len() + t.data.len());
        let (name, dtype, shape) = (&t.name, t.dtype, &t.shape);
        header += &format!(
            ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}"
        );
        buffer.extend_from_slice(&t.data);
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    file(&header, &buffer)
}

/// Sizes of a GPT-2.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub vocab: usize,
    pub context: usize,
    pub width: usize,
    pub heads: usize,
    pub ffn: usize,
    pub layers: usize,
}

pub const TINY: Sizes = Sizes { vocab: 40, context: 8, width: 32, heads: 2, ffn: 48, layers: 2 };

impl Sizes {
    pub fn config(&self) -> String {
        let Sizes { vocab, context, width, heads, ffn, layers } = self;
        format!(
            r#"{{"architectures":["GPT2LMHeadModel"],"vocab_size":{vocab},"n_positions":{context},
            "n_embd":{width},"n_head":{heads},"n_inner":{ffn},"n_layer":{layers}}}"#
        )
    }

    /// Names and shapes of GPT-2 files, without prefix.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (w, f) = (self.width, self.ffn);
        let mut all = vec![
            ("wte.weight".into(), vec![self.vocab, w]),
            ("wpe.weight".into(), vec![self.context, w]),
            ("ln_f.weight".into(), vec![w]),
            ("ln_f.bias".into(), vec![w]),
        ];
        for l in 0..self.layers {
            for (part, shape) in [
                ("ln_1", vec![w]),
                ("ln_2", vec![w]),
                ("attn.c_attn", vec![w, 3 * w]),
                ("attn.c_proj", vec![w, w]),
                ("mlp.c_fc", vec![w, f]),
                ("mlp.c_proj", vec![f, w]),
            ] {
                all.push((format!("h.{l}.{part}.bias"), vec![*shape.last().unwrap()]));
                all.push((format!("h.{l}.{part}.weight"), shape));
            }
        }
        all
    }

    /// Tensors of pseudo-random values in a dense format.
    pub fn tensors(&self, prefix: &str, format: Format) -> Vec<Plain> {
        let mut state = 1u32;
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from((state >> 16) as i16) / 8192.0
            };
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
            let mut data = vec![0; values.len() * format.block_bytes()];
            quantize_row(format, &values, &mut data);
            Plain { name: format!("{prefix}{name}"), dtype: format.name(), shape, data }
        };
        self.shapes().into_iter().map(tensor).collect()
    }

    /// GGUF file of the same kind, with values of zero.
    pub fn gguf(&self, tensor: impl Fn(&str, [u64; 2]) -> Option<(Format, Vec<u64>)>) -> Vec<u8> {
        self.gguf_with(tensor, &[], |_| ())
    }

    /// As [`Self::gguf`], with more vectors of one element and more keys.
    pub fn gguf_with(
        &self,
        tensor: impl Fn(&str, [u64; 2]) -> Option<(Format, Vec<u64>)>,
        extra: &[&str],
        keys: impl FnOnce(&mut GgufHeader),
    ) -> Vec<u8> {
        let mut h = GgufHeader::new();
        h.put("general.architecture", GgufValue::Str("gpt2")).unwrap();
        for (key, v) in [
            ("context_length", self.context),
            ("embedding_length", self.width),
            ("block_count", self.layers),
            ("attention.head_count", self.heads),
            ("feed_forward_length", self.ffn),
        ] {
            h.put(&format!("gpt2.{key}"), GgufValue::U32(v as u32)).unwrap();
        }
        h.put("gpt2.attention.layer_norm_epsilon", GgufValue::F32(1e-5)).unwrap();
        keys(&mut h);
        let small = family::gpt2::small().with_layers(|layer| {
            self::layer(layer, self.heads, self.heads, self.width / self.heads, self.ffn)
        });
        let spec = teff_graph::Spec {
            vocab: self.vocab as u32,
            context: self.context as u32,
            width: self.width as u32,
            layers: small.layers.with_len(self.layers as u32),
            ..small
        };
        let mut sizes = vec![];
        for slot in spec.slots() {
            let mut name = String::new();
            family::gpt2::GPT2.gguf_name(slot.role, &mut name).unwrap();
            let dims = [slot.cols as u64, slot.rows as u64];
            let Some((format, dims)) = tensor(&name, dims) else { continue };
            h.tensor(&name, format, &dims).unwrap();
            let rows: u64 = dims[1..].iter().product();
            sizes.push((name, format.row_bytes(dims[0] as usize).unwrap() * rows as usize));
        }
        for name in extra {
            h.tensor(name, Format::F32, &[1]).unwrap();
            sizes.push(((*name).to_owned(), 4));
        }
        let mut data = h.write(Vec::new()).unwrap();
        for (name, size) in sizes {
            data.write(&name, &vec![0; size]).unwrap();
        }
        data.finish().unwrap()
    }
}

/// A layer with attention and a dense feed-forward part, in other sizes.
pub fn layer(layer: Layer, heads: usize, kv_heads: usize, head_dim: usize, ffn: usize) -> Layer {
    let mut layer = layer;
    if let Mixer::Attention(a) = &mut layer.mixer {
        (a.heads, a.kv_heads, a.head_dim) = (heads as u32, kv_heads as u32, head_dim as u32);
    }
    if let FeedForward::Dense(d) = &mut layer.ffn {
        d.inner = ffn as u32;
    }
    layer
}

/// Argument of [`Sizes::gguf`] for a regular file.
pub fn usual(name: &str, dims: [u64; 2]) -> Option<(Format, Vec<u64>)> {
    let _ = name;
    Some((Format::F32, if dims[1] == 1 { vec![dims[0]] } else { dims.to_vec() }))
}

/// Values of a tensor as bits.
pub fn bits(t: Tensor<'_>) -> Vec<u32> {
    let values = match t {
        Tensor::Vector(v) => v.to_vec(),
        Tensor::Matrix(m) => {
            let mut out = vec![0f32; m.rows() * m.cols()];
            let rows = m.bytes().chunks_exact(m.row_bytes());
            rows.zip(out.chunks_exact_mut(m.cols()))
                .for_each(|(row, out)| dequantize_row(m.format(), row, out));
            out
        }
    };
    values.into_iter().map(f32::to_bits).collect()
}

/// Asserts that two models have the same tensors: shapes and every value's bits.
pub fn assert_same(a: &Model, b: &Model) {
    assert_eq!(a.spec(), b.spec());
    assert_eq!(a.tensors().len(), a.spec().tensors());
    for ((x, y), info) in a.tensors().zip(b.tensors()).zip(a.tensor_infos()) {
        assert!(bits(x) == bits(y), "{} differs", info.name);
    }
}
