//! Sources of models to be quantised.

use teff_graph::gguf::{Gguf, Name, TensorInfo};
use teff_graph::meta::{Metadata, Value};
use teff_kernels::dequantize_row;

use super::{Facts, QuantizeErrorKind, Shape};
use crate::gguf_split::is_split_key;
use crate::gguf_write::{GgufHeader, WriteError};

/// Model in the form of a GGUF file: keys, and tensors in order. A container with other names, or
/// with transposed matrices, presents the contents that a GGUF file of the model would have.
pub trait Source: Sync {
    /// Properties that the rules of mixes use.
    fn facts(&self) -> Facts;

    /// Adds all keys except [`FILE_TYPE`] and [`QUANTIZATION_VERSION`], including
    /// `general.alignment` if there is one.
    ///
    /// # Errors
    /// Those of the header.
    fn put_keys(&self, header: &mut GgufHeader) -> Result<(), WriteError>;

    /// Number of tensors.
    fn len(&self) -> usize;

    /// True if there are no tensors.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of tensor number `index`, below [`Source::len`]; its rows are whole blocks of its
    /// format.
    fn shape(&self, index: usize) -> Shape<'_>;

    /// Bytes of tensor number `index`, if they can be copied unchanged: in the format of its
    /// [`Source::shape`], rows in order, with the trailer.
    fn bytes(&self, index: usize) -> Option<&[u8]>;

    /// True if tensor number `index` is quantised, so that another format loses more than either
    /// alone. Weights that were trained as ternary ones lost nothing by it.
    fn is_requantized(&self, index: usize) -> bool {
        self.shape(index).format.is_quantized()
    }

    /// True if tensor number `index` keeps its format, whatever the target: that of a model which was
    /// published in it.
    fn is_fixed(&self, _index: usize) -> bool {
        false
    }

    /// Writes values of tensor number `index` to `out`, from element number `first` on, with rows
    /// one after another; `first` and `out.len()` are multiples of the block length of its format
    /// and inside the tensor.
    fn values(&self, index: usize, first: usize, out: &mut [f32]);
}

/// Key of the type that a file was quantised to.
pub const FILE_TYPE: &str = "general.file_type";
/// Key of the version of ggml's formats.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// GGUF file, or the parts of a split one, as a source.
#[derive(Debug)]
pub struct GgufSource<'a> {
    /// File with the keys.
    gguf: Gguf<'a>,
    tensors: Vec<TensorInfo<'a>>,
    /// Scale of each tensor that has one for all its rows, otherwise 1.
    scales: Vec<f32>,
}

impl<'a> GgufSource<'a> {
    /// Source of a whole model in one file.
    ///
    /// # Errors
    /// [`QuantizeErrorKind::Split`] and [`QuantizeErrorKind::Overlap`].
    pub fn new(gguf: Gguf<'a>) -> Result<Self, QuantizeErrorKind> {
        match gguf.get("split.count") {
            Some(Value::Uint(parts)) if parts > 1 => Err(QuantizeErrorKind::Split { parts }),
            _ => GgufSource::from_parts(vec![gguf]),
        }
    }

    /// Source of a model in these parts, of which there is at least one, and which belong together.
    pub(super) fn from_parts(parts: Vec<Gguf<'a>>) -> Result<Self, QuantizeErrorKind> {
        for gguf in &parts {
            // Overlapping tensors could be written any number of times.
            let mut places: Vec<_> = gguf.tensors().collect();
            places.sort_unstable_by_key(|t| t.offset);
            let overlap = |w: &&[TensorInfo<'_>]| w[0].offset + w[0].data.len() > w[1].offset;
            if let Some([a, b]) = places.windows(2).find(overlap) {
                let name = |t: &TensorInfo<'_>| Box::new(Name::new(t.name.as_bytes()));
                return Err(QuantizeErrorKind::Overlap { tensor: name(a), other: name(b) });
            }
        }
        let tensors: Vec<_> = parts.iter().flat_map(Gguf::tensors).collect();
        let gguf = parts[0];
        let scale = |t: &TensorInfo<'a>| {
            let trailer = t.data.len() - t.format.trailer_bytes();
            t.data[trailer..].first_chunk().map_or(1.0, |b| f32::from_le_bytes(*b))
        };
        let scales = tensors.iter().map(scale).collect();
        Ok(GgufSource { gguf, tensors, scales })
    }
}

impl Source for GgufSource<'_> {
    fn facts(&self) -> Facts {
        Facts::of_gguf(&self.gguf)
    }

    fn put_keys(&self, header: &mut GgufHeader) -> Result<(), WriteError> {
        for (key, value) in self.gguf.metadata() {
            // The output is one file, whatever it was made from.
            if ![FILE_TYPE, QUANTIZATION_VERSION].contains(&key) && !is_split_key(key) {
                header.put(key, value)?;
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.tensors.len()
    }

    fn shape(&self, index: usize) -> Shape<'_> {
        let t = &self.tensors[index];
        Shape { name: t.name, dims: &t.dims[..t.n_dims], format: t.format }
    }

    fn bytes(&self, index: usize) -> Option<&[u8]> {
        Some(self.tensors[index].data)
    }

    fn values(&self, index: usize, first: usize, out: &mut [f32]) {
        let TensorInfo { format, data, .. } = self.tensors[index];
        let bytes = |elements: usize| elements / format.block_len() * format.block_bytes();
        dequantize_row(format, &data[bytes(first)..][..bytes(out.len())], out);
        if format.trailer_bytes() > 0 {
            out.iter_mut().for_each(|x| *x *= self.scales[index]);
        }
    }
}
