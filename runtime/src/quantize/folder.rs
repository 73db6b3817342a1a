//! Hugging Face folders as sources of GGUF files.

use std::f64::consts::TAU;
use std::path::Path;

use teff_graph::family::{self, Family, Shapes};
use teff_graph::gguf::{Gguf, GgufValue};
use teff_graph::layers::{Layer, Mixer};
use teff_graph::{LayerRole, Role, Rope, RopeScaling, Slot, Spec, Tensor, TensorId};
use teff_kernels::{Format, Matrix, dequantize_row, rope_freqs};

use super::{Facts, QuantizeError, QuantizeErrorKind as E, Shape, Source};
use crate::gguf_spec::put_spec;
use crate::gguf_write::{GgufHeader, WriteError};
use crate::model::{Model, Warning, folder_of};
use crate::tokenizer::ExportError;

/// Hugging Face folder that [`Model::open`] opens, presented as llama.cpp's converter would write
/// it to a GGUF file: GGUF's names, Llama's queries and keys with rotated pairs side by side,
/// GPT-2's matrices with outputs as rows, Gemma's norms with their offset included, ternary weights
/// in I2_S, and the factors of Llama 3's rotary scaling as a tensor.
///
/// The files are mapped; memory is used for the tokenizer and its keys, for vectors that are not
/// f32, for GPT-2's matrices, which have to be transposed, and for ternary weights. Opening a
/// folder fails if GGUF can't express a property of the model.
///
/// BitNet's files get the architecture of the published ones, `bitnet-b1.58`, which bitnet.cpp
/// supports and llama.cpp does not.
#[derive(Debug)]
pub struct FolderSource {
    model: Model,
    /// GGUF file with all keys and no tensors.
    keys: Vec<u8>,
    facts: Facts,
    tensors: Vec<Item>,
}

/// Tensor of the file.
#[derive(Debug)]
struct Item {
    name: String,
    /// Columns, rows of a matrix, and experts of a stack; 1 beyond `n_dims`.
    dims: [u64; 3],
    n_dims: usize,
    vector: bool,
    content: Content,
}

/// Source of the values of a tensor.
#[derive(Debug)]
enum Content {
    /// Tensor of the model, with rows in their order.
    Model(TensorId),
    /// Matrix of the model with this many heads, whose rows are to be reordered.
    Heads(TensorId, usize),
    /// Values stored here.
    Own(Vec<f32>),
}

/// Tensors of the file by their names, as families look them up.
struct Names<'a>(&'a [Item]);

impl Shapes for Names<'_> {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        let item = self.0.iter().find(|t| t.name == name)?;
        let [cols, rows, experts] = item.dims.map(|d| usize::try_from(d).unwrap_or(usize::MAX));
        Some((rows.saturating_mul(experts), cols))
    }
}

/// True for the names of models by which a GGUF file's tokenizer has Phi-3's rule.
fn is_phi_3(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("phi-3") || name.contains("phi3")
}

/// Source row of row `r`, in heads of `dim` rows: rows of the first and the second half alternate.
fn turned(r: usize, dim: usize) -> usize {
    let (head, r) = (r / dim * dim, r % dim);
    head + r / 2 + r % 2 * (dim / 2)
}

fn unsaid<T>(arch: &'static str, what: impl Into<String>) -> Result<T, E> {
    Err(E::Unsaid { arch, what: what.into() })
}

impl FolderSource {
    /// Opens a folder, or a SafeTensors file with its config.json beside it, and checks that a GGUF
    /// file can express all of it.
    ///
    /// # Errors
    /// [`QuantizeError`], which names the file or folder and the cause.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, QuantizeError> {
        let path = path.as_ref();
        let model = Model::open(path).map_err(|e| QuantizeError {
            path: e.path.unwrap_or_else(|| path.into()),
            kind: E::Load(Box::new(e.kind)),
        })?;
        let folder = if path.is_dir() { path } else { folder_of(path) };
        FolderSource::new(model, folder).map_err(|kind| kind.at(path))
    }

    /// Warnings of opening the folder ([`Model::warnings`]).
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        self.model.warnings()
    }

    fn new(model: Model, folder: &Path) -> Result<Self, E> {
        let family = family::of_arch(model.spec().arch);
        let family = family.ok_or(E::NoArchitecture { arch: model.spec().arch })?;
        let (spec, factors) = gguf_spec(family, model.spec())?;
        let tensors = tensors(family, &model, &spec, factors);
        let export = |e: ExportError| E::Tokenizer(Box::new(e));
        let tokenizer = model.tokenizer().map_err(|e| export(e.into()))?;
        let tokenizer = match family.gguf.merges {
            true => tokenizer.clone(),
            false => tokenizer.clone().for_gguf(folder).map_err(export)?,
        };
        let rows = spec.vocab as usize;
        let keys = |name: Option<&str>| {
            let mut header = GgufHeader::new();
            header.put("general.architecture", GgufValue::Str(spec.arch))?;
            header.put("general.type", GgufValue::Str("model"))?;
            if let Some(name) = name {
                header.put("general.name", GgufValue::Str(name))?;
            }
            put_spec(&mut header, &spec)?;
            match family.gguf.merges {
                true => tokenizer.put_gguf_with_merges(&mut header, rows),
                false => tokenizer.put_gguf(&mut header, rows),
            }
            .map_err(export)?;
            if let Ok(template) = model.chat_template() {
                header.put("tokenizer.chat_template", GgufValue::Str(template))?;
            }
            let keys = header.write(Vec::new())?.finish()?;
            let gguf = Gguf::parse(&keys).map_err(|e| E::Gguf(Box::new(e)))?;
            check_spec(family, &spec, &gguf, &Names(&tensors))?;
            tokenizer.check_gguf(&gguf, rows).map_err(export)?;
            Ok((Facts::of_gguf(&gguf), keys))
        };
        let name = folder.canonicalize().ok();
        let name = name.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy());
        let (facts, keys) = match keys(name.as_deref()) {
            // llama.cpp tells by the name that special tokens absorb the white space after them.
            Err(E::Tokenizer(e)) if spec.arch == "phi3" => {
                let other = match name.as_deref().is_some_and(is_phi_3) {
                    true => "Phi 3",
                    false => "Phi-3",
                };
                keys(Some(other)).map_err(|_| E::Tokenizer(e))?
            }
            keys => keys?,
        };
        Ok(FolderSource { model, keys, facts, tensors })
    }

    fn matrix(&self, id: TensorId) -> Option<Matrix<'_>> {
        match self.model.tensor(id) {
            Tensor::Matrix(m) => Some(m),
            Tensor::Vector(_) => None,
        }
    }

    fn vector<'a>(&'a self, content: &'a Content) -> Option<&'a [f32]> {
        match content {
            Content::Own(x) => Some(x),
            Content::Model(id) | Content::Heads(id, _) => match self.model.tensor(*id) {
                Tensor::Vector(x) => Some(x),
                Tensor::Matrix(_) => None,
            },
        }
    }
}

/// Hyper-parameters of the file, and the factors of its rotary embedding.
fn gguf_spec(family: &Family, spec: &Spec<'_>) -> Result<(Spec<'static>, Option<Vec<f32>>), E> {
    let (arch, form) = (spec.arch, family.gguf);
    let window = |l: &Layer| l.attention().and_then(|a| a.window);
    let unsaid_window = spec.layers.kinds().iter().filter_map(window).find(|_| !form.window);
    if let Some(size) = unsaid_window.filter(|&size| size < spec.context) {
        return unsaid(arch, format!("`sliding_window`: {size}"));
    }
    let mut factors = None;
    let is_scaled = |scaling: RopeScaling| {
        matches!(scaling, RopeScaling::Llama3 { .. } | RopeScaling::Proportional { .. })
    };
    if let Some(rope) = spec.ropes.iter().find(|r| is_scaled(r.scaling)) {
        if !form.rope_factors {
            return unsaid(arch, "`rope_scaling`: llama3");
        }
        factors = Some(match rope.scaling {
            RopeScaling::Proportional { pairs, factor } => {
                // What must not rotate does so by an angle that is none.
                (0..rope.dims / 2).map(|i| if i < pairs { factor } else { 1e30 }).collect()
            }
            _ => llama3_factors(rope),
        });
    }
    let spec = spec.with_ropes(|rope| {
        let scaling = match rope.scaling {
            scaling if is_scaled(scaling) => RopeScaling::Factors,
            scaling => scaling,
        };
        Rope { kind: form.rope, scaling, ..rope }
    });
    let spec = spec.with_layers(|mut layer| {
        // A window as long as the context changes nothing.
        if let (Mixer::Attention(a), Some(_)) = (&mut layer.mixer, unsaid_window) {
            a.window = None;
        }
        layer
    });
    Ok((spec, factors))
}

/// Divisor of each frequency: 1 for short waves, the factor for long ones.
fn llama3_factors(rope: &Rope) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low, high, original } = rope.scaling else {
        return Vec::new();
    };
    let [factor, low, high, original] = [factor, low, high, original].map(f64::from);
    let mut freqs = vec![0.0; rope.dims as usize / 2];
    rope_freqs(f64::from(rope.base), 1.0, None, &mut freqs);
    let divisor = |freq: f64| {
        let kept = ((original * freq / TAU - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / (kept + (1.0 - kept) / factor)) as f32
    };
    freqs.into_iter().map(divisor).collect()
}

/// Tensors of the file, in the order of the model's.
fn tensors(
    family: &Family,
    model: &Model,
    spec: &Spec<'_>,
    factors: Option<Vec<f32>>,
) -> Vec<Item> {
    let item = |slot: Slot, content| {
        let mut name = String::new();
        let _ = family.gguf_name(slot.role, &mut name); // a String takes everything
        // Vectors of experts are rows of one tensor.
        let (vector, stacked) = (slot.is_vector(), slot.experts > 1 && !slot.is_vector());
        let rows = if stacked { slot.rows } else { slot.all_rows() };
        let n_dims = if stacked { 3 } else { 2 - usize::from(vector && rows == 1) };
        let dims = [slot.cols, rows, if stacked { slot.experts } else { 1 }].map(|n| n as u64);
        Item { name, dims, n_dims, vector, content }
    };
    let content = |id: TensorId, role: Role| {
        use LayerRole as L;
        let Role::Layer(l, role) = role else { return Content::Model(id) };
        let Some(dim) = turned_heads(model.spec(), spec, l) else { return Content::Model(id) };
        match (role, model.tensor(id)) {
            (L::AttnQ | L::AttnK, _) => Content::Heads(id, dim),
            (L::AttnQBias | L::AttnKBias, Tensor::Vector(x)) => {
                Content::Own((0..x.len()).map(|r| x[turned(r, dim)]).collect())
            }
            _ => Content::Model(id),
        }
    };
    let mut factors = factors;
    let slots = spec.slots().map(|slot| match (slot.role, factors.take()) {
        (Role::RopeFactors, Some(factors)) => item(slot, Content::Own(factors)),
        (role, kept) => {
            factors = kept;
            item(slot, content(model.spec().id(role), role))
        }
    });
    slots.collect()
}

/// Head dimension of a layer's queries and keys, if their rows are reordered.
fn turned_heads(from: &Spec<'_>, to: &Spec<'_>, l: u32) -> Option<usize> {
    let attention = from.layers.get(l).attention()?;
    // llama.cpp's converter turns the heads of layers that are not rotated like the others.
    let rope = attention.rope.map_or(0, usize::from);
    let kind = |spec: &Spec<'_>| spec.ropes.get(rope).map(|r| r.kind);
    (kind(from) != kind(to)).then_some(attention.head_dim as usize)
}

/// Reads the keys back as the family does, and compares.
fn check_spec(
    family: &Family,
    spec: &Spec<'_>,
    gguf: &Gguf<'_>,
    shapes: &Names<'_>,
) -> Result<(), E> {
    let arch = spec.arch;
    let read = match family.read_gguf(gguf, shapes) {
        Ok(read) => read,
        Err(e) => return unsaid(arch, e.to_string()),
    };
    if read == *spec {
        return Ok(());
    }
    let differ = |f: &dyn Fn(&Layer) -> Option<String>| {
        read.layers.len() != spec.layers.len()
            || read.layers.iter().zip(spec.layers.iter()).any(|(a, b)| f(a) != f(b))
    };
    let attention = |what: fn(&teff_graph::layers::Attention) -> String| {
        move |l: &Layer| l.attention().map(what)
    };
    let what = if differ(&attention(|a| format!("{}", a.scale))) {
        "its factor of scores (`scale_attn_weights`, `query_pre_attn_scalar`)"
    } else if differ(&attention(|a| format!("{:?}", a.window))) {
        "its windows (`sliding_window`, `layer_types`)"
    } else if differ(&attention(|a| format!("{:?}", a.shared_kv))) {
        "the layers that share keys and values (`num_kv_shared_layers`, `layer_types`)"
    } else if read.ropes != spec.ropes {
        "its rotary embedding (`rope_parameters`)"
    } else if differ(&attention(|a| format!("{} {}", a.qkv_bias, a.out_bias))) {
        "its biases (`attention_bias`)"
    } else if differ(&|l| Some(format!("{:?}", l.ffn))) {
        "its feed-forward parts (`mlp_bias`, `norm_topk_prob`, `mlp_only_layers`)"
    } else if differ(&|l| Some(format!("{:?}", l.delta_net()))) {
        "its linear attention (`layer_types`, `linear_num_value_heads`)"
    } else if differ(&|l| Some(format!("{:?}", l.short_conv()))) {
        "its convolutions (`conv_bias`, `layer_types`)"
    } else {
        "all of its config.json"
    };
    unsaid(arch, what)
}

impl Source for FolderSource {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn put_keys(&self, header: &mut GgufHeader) -> Result<(), WriteError> {
        // It has been parsed before.
        let Ok(gguf) = Gguf::parse(&self.keys) else { return Ok(()) };
        gguf.metadata().try_for_each(|(key, value)| header.put(key, value))
    }

    fn len(&self) -> usize {
        self.tensors.len()
    }

    fn shape(&self, index: usize) -> Shape<'_> {
        let item = &self.tensors[index];
        let format = match item.content {
            Content::Own(_) => Format::F32,
            Content::Model(id) | Content::Heads(id, _) => self.model.format(id),
        };
        Shape { name: &item.name, dims: &item.dims[..item.n_dims], format }
    }

    fn bytes(&self, index: usize) -> Option<&[u8]> {
        let item = &self.tensors[index];
        if item.vector {
            let x = self.vector(&item.content)?;
            return cfg!(target_endian = "little").then(|| bytemuck::cast_slice(x));
        }
        let Content::Model(id) = item.content else { return None };
        let matrix = self.matrix(id)?;
        // The scale of the whole matrix follows the bytes in a file, but not here.
        (matrix.format().trailer_bytes() == 0).then(|| matrix.bytes())
    }

    /// Experts in MXFP4 stay as they are.
    fn is_fixed(&self, index: usize) -> bool {
        self.shape(index).format == Format::MXFP4
    }

    /// The only other quantised weights in a folder are ternary, and were trained that way.
    fn is_requantized(&self, _: usize) -> bool {
        false
    }

    fn values(&self, index: usize, first: usize, out: &mut [f32]) {
        let item = &self.tensors[index];
        if let Some(x) = self.vector(&item.content) {
            return out.copy_from_slice(&x[first..][..out.len()]);
        }
        let (id, dim) = match item.content {
            Content::Model(id) => (id, None),
            Content::Heads(id, dim) => (id, Some(dim)),
            Content::Own(_) => return,
        };
        let Some(m) = self.matrix(id) else { return };
        let (cols, format) = (m.cols(), m.format());
        let bytes = |elements: usize| elements / format.block_len() * format.block_bytes();
        let (mut at, mut rest) = (first, &mut out[..]);
        while !rest.is_empty() {
            // To the end of the row, or all at once if rows are in order.
            let (start, n) = match dim {
                None => (at, rest.len()),
                Some(dim) => {
                    let (row, col) = (at / cols, at % cols);
                    (turned(row, dim) * cols + col, rest.len().min(cols - col))
                }
            };
            let (x, tail) = rest.split_at_mut(n);
            dequantize_row(format, &m.bytes()[bytes(start)..][..bytes(n)], x);
            if format.trailer_bytes() > 0 {
                x.iter_mut().for_each(|x| *x *= m.scale());
            }
            for (i, x) in x.iter_mut().enumerate() {
                // Where there is one, there is one for every row.
                let Some(factor) = m.factor((start + i) / cols) else { break };
                *x *= factor;
            }
            (at, rest) = (at + n, tail);
        }
    }
}
