//! Tensor descriptions and their data.

use super::MAX_NAME;
use super::cursor::Cursor;
use super::error::{ErrorContext, GgufError, Name};
use teff_kernels::Format;

/// Minimum size of a description in bytes: a one-byte name and one dimension.
pub(super) const MIN_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// A tensor of a GGUF file, borrowed from the file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TensorInfo<'a> {
    /// Name of the tensor.
    pub name: &'a str,
    /// Storage format of the elements.
    pub format: Format,
    /// Dimensions, row length first; 1 beyond `n_dims`, never zero.
    pub dims: [u64; 4],
    /// Number of dimensions, 1 to 4.
    pub n_dims: usize,
    /// Bytes of the tensor: its rows in order, then the format's trailer. They start at a multiple
    /// of the file's alignment, counted from the start of the file.
    pub data: &'a [u8],
    /// Offset of the data from the start of the file.
    pub offset: usize,
}

impl TensorInfo<'_> {
    /// Number of elements in a row: the first dimension.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.dims[0] as usize // fits: checked by `resolve`
    }

    /// Number of rows: the product of all dimensions but the first.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product::<u64>() as usize // fits: checked by `resolve`
    }

    /// Number of elements: the product of all dimensions.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.dims.iter().product() // doesn't overflow: checked by `resolve`
    }
}

/// A tensor description whose extent is known but whose contents are mostly unchecked.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) name: &'a [u8],
    /// Offset of the name, length prefix included.
    pub(super) at: usize,
    dims: [u64; 4],
    n_dims: usize,
    id: u32,
    offset: u64,
}

impl<'a> Raw<'a> {
    /// Reads the description of the tensor at `index`, which starts at the cursor.
    pub(super) fn read(c: &mut Cursor<'a>, index: usize) -> Result<Raw<'a>, GgufError> {
        let context = || ErrorContext::TensorInfo(index);
        let at = c.at();
        let name = c.string(context)?;
        let tensor = || Name::new(name);
        if name.is_empty() {
            return Err(GgufError::EmptyTensorName { index, at });
        }
        if name.len() > MAX_NAME {
            return Err(GgufError::TensorNameTooLong { tensor: tensor(), len: name.len(), at });
        }
        let count_at = c.at();
        let count = c.u32(context)?;
        let n_dims = count as usize;
        if !(1..=4).contains(&count) {
            return Err(GgufError::DimCount { tensor: tensor(), count, at: count_at });
        }
        let mut dims = [1; 4];
        for dim in &mut dims[..n_dims] {
            *dim = c.u64(context)?;
        }
        let id = c.u32(context)?;
        let offset = c.u64(context)?;
        Ok(Raw { name, at, dims, n_dims, id, offset })
    }

    /// Validates the description and finds the tensor's data; the data section starts at `section`.
    pub(super) fn resolve(
        &self,
        file: &'a [u8],
        section: u64,
        alignment: u32,
    ) -> Result<TensorInfo<'a>, GgufError> {
        let tensor = || Name::new(self.name);
        let name = str::from_utf8(self.name)
            .map_err(|_| GgufError::TensorNameNotUtf8 { tensor: tensor(), at: self.at })?;
        if let Some(dim) = self.dims.iter().position(|&d| d == 0) {
            return Err(GgufError::ZeroDim { tensor: tensor(), dim: dim as u32 });
        }
        let overflow = || GgufError::DimsOverflow { tensor: tensor(), dims: self.dims };
        let product = |dims: &[u64]| {
            dims.iter().try_fold(1u64, |p, &d| p.checked_mul(d)).ok_or_else(overflow)
        };
        product(&self.dims)?;
        let cols = usize::try_from(self.dims[0]).map_err(|_| overflow())?;
        let rows = usize::try_from(product(&self.dims[1..])?).map_err(|_| overflow())?;
        let format = Format::from_gguf(self.id)
            .ok_or_else(|| GgufError::UnknownFormat { tensor: tensor(), id: self.id })?;
        if !cols.is_multiple_of(format.block_len()) {
            let (tensor, cols) = (tensor(), self.dims[0]);
            return Err(GgufError::RaggedRow { tensor, format, cols });
        }
        let need = format.tensor_bytes(rows, cols).ok_or_else(overflow)?;
        if !self.offset.is_multiple_of(u64::from(alignment)) {
            let (tensor, offset) = (tensor(), self.offset);
            return Err(GgufError::Misaligned { tensor, offset, alignment });
        }
        let offset = section.checked_add(self.offset).and_then(|at| usize::try_from(at).ok());
        let Some(offset) = offset.filter(|&at| at < file.len()) else {
            let (tensor, offset, file) = (tensor(), self.offset, file.len());
            return Err(GgufError::OffsetBeyondFile { tensor, offset, section, file });
        };
        let rest = &file[offset..];
        let Some(data) = rest.get(..need) else {
            let (at, need, left) = (offset as u64, need as u64, rest.len() as u64);
            return Err(GgufError::DataTruncated { tensor: tensor(), at, need, left });
        };
        Ok(TensorInfo { name, format, dims: self.dims, n_dims: self.n_dims, data, offset })
    }
}

/// The name of a ggml type id, supported by Teff or not; `None` for ids beyond the table.
///
/// The ids are those of `enum ggml_type` in ggml.h; 36 is I2_S as used by BitNet's published files
/// (ggml itself gave that number to a repacked format that no longer occurs in files).
#[must_use]
pub fn ggml_type_name(id: u32) -> Option<&'static str> {
    #[rustfmt::skip]
    const NAMES: [&str; 43] = [
        "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1",
        "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
        "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M",
        "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "I2_S", "IQ4_NL_4_8",
        "IQ4_NL_8_8", "MXFP4", "NVFP4", "Q1_0", "Q2_0",
    ];
    NAMES.get(usize::try_from(id).ok()?).copied()
}
