//! The model in the bytes of a GGUF file: checked, its weights used where they lie.

use core::fmt::Display;

use teff_graph::family::{self, Shapes};
use teff_graph::gguf::{Gguf, TensorInfo};
use teff_graph::meta::{Metadata, Value};
use teff_graph::{Slot, Spec, Tensor};
use teff_kernels::{Format, Matrix, dequantize_row};
use teff_runtime::tokenizer::Tokenizer;

/// A model that is ready to run.
pub struct Model {
    /// Hyper-parameters.
    pub spec: Spec<'static>,
    /// What the file calls it; empty where it doesn't.
    pub name: String,
    /// The tokenizer, or why there is none.
    pub tokenizer: Result<Tokenizer, String>,
    /// All tensors, in the order of their numbers.
    pub tensors: &'static [Tensor<'static>],
    /// Bytes of vectors that were converted to f32.
    pub converted: usize,
}

/// The tensors of a file, in ascending order of names.
struct Tensors<'a>(Vec<(TensorInfo<'a>, bool)>);

impl Tensors<'_> {
    fn position(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by_key(&name, |(t, _)| t.name).ok()
    }
}

impl Shapes for Tensors<'_> {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        let (t, _) = &self.0[self.position(name)?];
        Some((t.rows(), t.cols()))
    }
}

fn text(e: impl Display) -> String {
    e.to_string()
}

fn refused(bytes: usize) -> String {
    format!("the browser refused {bytes} bytes of memory")
}

impl Model {
    /// The model in a file, which stays in memory for good.
    ///
    /// # Errors
    /// What is wrong with it, as a text that names the key or the tensor.
    pub fn open(file: &'static [u8]) -> Result<Model, String> {
        let gguf = Gguf::parse(file).map_err(text)?;
        let arch = match gguf.get("general.architecture") {
            Some(Value::Str(arch)) => arch,
            _ => return Err("the file doesn't say which architecture its model has".into()),
        };
        if let Some(Value::Uint(2..)) = gguf.get("split.count") {
            return Err("this is one of several files that make a model together: join them".into());
        }
        let family = family::of_arch(arch);
        let family = family.ok_or_else(|| format!("the architecture `{arch}` is not supported"))?;
        let mut tensors = Vec::new();
        let n = gguf.n_tensors();
        tensors.try_reserve_exact(n).map_err(|_| refused(n))?;
        tensors.extend(gguf.tensors().map(|t| (t, false)));
        tensors.sort_unstable_by_key(|(t, _)| t.name);
        let mut tensors = Tensors(tensors);
        let spec = family.read_gguf(&gguf, &tensors).map_err(text)?;
        let most = usize::from(u16::MAX); // what a plan can number
        if spec.tensors() > most {
            return Err(format!("{} tensors are too many: at most {most}", spec.tensors()));
        }
        let (mut table, mut converted) = (Vec::new(), 0);
        for slot in spec.slots() {
            let mut name = String::new();
            // A `String` takes everything.
            let _ = family.gguf_name(slot.role, &mut name);
            let at = tensors.position(&name);
            let at = at.ok_or_else(|| format!("the tensor `{name}` is missing"))?;
            tensors.0[at].1 = true;
            let t = &tensors.0[at].0;
            let tensor = tensor(file, t, &slot, family.ternary, &mut converted);
            table.push(tensor.map_err(|why| format!("the tensor `{name}` {why}"))?);
        }
        if let Some((t, _)) = tensors.0.iter().find(|(_, used)| !used) {
            let name = t.name;
            return Err(format!("the tensor `{name}` belongs to no part of a model of {arch}"));
        }
        let name = match gguf.get("general.name") {
            Some(Value::Str(name)) => name.to_owned(),
            _ => String::new(),
        };
        let tokenizer = Tokenizer::from_gguf(&gguf).map_err(text);
        Ok(Model { spec, name, tokenizer, tensors: table.leak(), converted })
    }
}

/// A tensor of a file: a matrix in its format, a vector as f32, which it mostly is already.
fn tensor(
    file: &'static [u8],
    t: &TensorInfo<'_>,
    slot: &Slot,
    ternary: bool,
    converted: &mut usize,
) -> Result<Tensor<'static>, String> {
    let (rows, cols) = (slot.all_rows(), slot.cols);
    if (t.rows(), t.cols()) != (rows, cols) || t.dims[2..] != [slot.experts as u64, 1] {
        let (got_rows, got_cols) = (t.rows(), t.cols());
        return Err(format!("must be {rows} x {cols}, but is {got_rows} x {got_cols}"));
    }
    let data = t.format.tensor_bytes(rows, cols).and_then(|n| file.get(t.offset..)?.get(..n));
    let data = data.ok_or("ends beyond the file")?;
    if !slot.is_vector() {
        if ternary && matches!(slot.role, teff_graph::Role::Layer(..)) && !t.format.is_quantized() {
            let found = t.format;
            return Err(format!("is {found} in a ternary model: quantise the file to I2_S first"));
        }
        return Matrix::from_tensor(t.format, rows, cols, data).map(Tensor::Matrix).map_err(text);
    }
    if t.format.is_quantized() {
        return Err(format!("is {}, but vectors must be F32, F16 or BF16", t.format));
    }
    if let (Format::F32, Ok(v)) = (t.format, bytemuck::try_cast_slice(data)) {
        return Ok(Tensor::Vector(v));
    }
    let (mut v, bytes) = (Vec::new(), rows * cols * size_of::<f32>());
    v.try_reserve_exact(rows * cols).map_err(|_| refused(bytes))?;
    v.resize(rows * cols, 0.0);
    dequantize_row(t.format, data, &mut v);
    *converted += bytes;
    Ok(Tensor::Vector(v.leak()))
}
