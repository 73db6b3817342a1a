//! Weight matrices, read in place.

use core::fmt;

use crate::repack::{REPACK_ROWS, block_of, repacked_bytes};
use crate::{Block, Format};

/// A row-major matrix of weights in the layout of a model file, or [repacked](crate::repack). It borrows
/// the bytes, which may be a mapped file or flash.
///
/// A row holds the weights of one output; `cols` is the number of inputs.
///
/// ```
/// use teff_kernels::{Format, Matrix, MatrixError, quantize_row};
///
/// // Two rows of 32 weights in Q8_0, which takes 34 bytes for each.
/// let mut data = [0; 68];
/// for (r, row) in data.chunks_exact_mut(34).enumerate() {
///     quantize_row(Format::Q8_0, &[r as f32; 32], row);
/// }
/// let w = Matrix::new(Format::Q8_0, 2, 32, &data)?;
/// assert_eq!((w.rows(), w.cols(), w.row_bytes()), (2, 32, 34));
///
/// let short = Matrix::new(Format::Q8_0, 2, 32, &data[1..]);
/// assert_eq!(short.unwrap_err(), MatrixError::Size { needed: Some(68), got: 67 });
/// # Ok::<(), MatrixError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    scale: f32,
    repacked: bool,
    /// Rows are expanded (`blocks/expanded.rs`).
    expanded: bool,
    data: &'a [u8],
    factors: Factors<'a>,
}

/// Factors of products, which programs without NVFP4 have no room for.
#[cfg(feature = "fp4-quants")]
type Factors<'a> = &'a [f32];
#[cfg(not(feature = "fp4-quants"))]
type Factors<'a> = core::marker::PhantomData<&'a [f32]>;

/// Error for bytes that are not a matrix of the given format and shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MatrixError {
    /// The format's family was left out of this program ([`Format::is_built`]).
    NotBuilt {
        /// The format.
        format: Format,
    },
    /// A row is not a whole number of blocks.
    Cols {
        /// The format.
        format: Format,
        /// The length of the row.
        cols: usize,
    },
    /// The number of bytes is not what format and shape need (`None`: more than can be addressed).
    Size {
        /// Bytes needed.
        needed: Option<usize>,
        /// Bytes given.
        got: usize,
    },
    /// The format has no repacked layout ([`crate::repacked_bytes`]).
    NotRepacked {
        /// The format.
        format: Format,
    },
    /// The tensor's scale is no finite number.
    Scale {
        /// Its bits.
        bits: u32,
    },
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MatrixError::NotBuilt { format } => {
                write!(f, "this program was built without {format} (a feature of teff-kernels)")
            }
            MatrixError::Cols { format, cols } => write!(
                f,
                "rows of {cols} elements are not whole blocks of {} ({format})",
                format.block_len()
            ),
            MatrixError::Size { needed: Some(n), got } => {
                write!(f, "the matrix needs {n} bytes, but has {got}")
            }
            MatrixError::Size { needed: None, .. } => {
                f.write_str("the matrix is larger than memory can be")
            }
            MatrixError::NotRepacked { format } => {
                write!(f, "matrices in {format} are not repacked")
            }
            MatrixError::Scale { bits } => {
                write!(f, "the matrix' scale is {}, not a finite number", f32::from_bits(bits))
            }
        }
    }
}

impl core::error::Error for MatrixError {}

impl<'a> Matrix<'a> {
    /// The matrix of `rows` x `cols` elements that `data` holds in `format`.
    ///
    /// # Errors
    /// [`MatrixError`] where rows are not whole blocks, `data` has another length, or the format is
    /// not built into this program.
    pub fn new(
        format: Format,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Result<Self, MatrixError> {
        if !format.is_built() {
            return Err(MatrixError::NotBuilt { format });
        }
        let row_bytes = match format.row_bytes(cols) {
            Some(b) => b,
            None => return Err(MatrixError::Cols { format, cols }),
        };
        let needed = rows.checked_mul(row_bytes);
        if needed != Some(data.len()) {
            return Err(MatrixError::Size { needed, got: data.len() });
        }
        let (factors, expanded) = (Factors::default(), false);
        Ok(Matrix {
            format,
            rows,
            cols,
            row_bytes,
            scale: 1.0,
            repacked: false,
            expanded,
            data,
            factors,
        })
    }

    /// The matrix of `rows` x `cols` elements that [`repack`](crate::repack) put in `data`.
    ///
    /// # Errors
    /// [`MatrixError`] as [`Matrix::new`], or where the format has no such layout.
    pub fn repacked(
        format: Format,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Result<Self, MatrixError> {
        let whole = Matrix::new(format, 0, cols, &[])?;
        let needed = repacked_bytes(format, rows, cols);
        if needed.is_none() && repacked_bytes(format, 0, cols).is_none() {
            return Err(MatrixError::NotRepacked { format });
        }
        if needed != Some(data.len()) {
            return Err(MatrixError::Size { needed, got: data.len() });
        }
        Ok(Matrix { rows, repacked: true, data, ..whole })
    }

    /// A matrix of expanded rows (`blocks/expanded.rs`) of this format.
    #[allow(dead_code)] // of targets without drivers
    pub(crate) fn expanded(
        format: Format,
        rows: usize,
        cols: usize,
        row_bytes: usize,
        data: &'a [u8],
    ) -> Self {
        assert!(data.len() == rows * row_bytes, "as many rows");
        let (factors, expanded) = (Factors::default(), true);
        Matrix {
            format,
            rows,
            cols,
            row_bytes,
            scale: 1.0,
            repacked: false,
            expanded,
            data,
            factors,
        }
    }

    /// True if rows must be expanded for fast products: they are not yet.
    #[allow(dead_code)] // of targets without drivers
    pub(crate) fn is_to_expand(&self) -> bool {
        crate::blocks::expanded::is_expanded(self.format) && !self.expanded
    }

    /// The matrix in a tensor as files have it: the rows, and behind them the trailer with the scale
    /// where the format has one.
    ///
    /// # Errors
    /// [`MatrixError`] as [`Matrix::new`], or where the scale is infinite or NaN.
    pub fn from_tensor(
        format: Format,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Result<Self, MatrixError> {
        let trailer = format.trailer_bytes();
        let Some((data, trailer)) = data.split_at_checked(data.len().wrapping_sub(trailer)) else {
            let needed = format.tensor_bytes(rows, cols);
            return Err(MatrixError::Size { needed, got: data.len() });
        };
        let matrix = Matrix::new(format, rows, cols, data)?;
        let Some(scale) = trailer.first_chunk() else { return Ok(matrix) };
        let scale = f32::from_le_bytes(*scale);
        if !scale.is_finite() {
            return Err(MatrixError::Scale { bits: scale.to_bits() });
        }
        Ok(matrix.with_scale(scale))
    }

    /// The same matrix with another scale, which the formats use whose blocks have none: I2_S.
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        Matrix { scale, ..self }
    }

    /// Factor of the values of blocks without a scale of their own; 1 where
    /// [`Matrix::with_scale`] did not say otherwise.
    #[inline(always)]
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The same matrix with factors of its outputs, as tensors in NVFP4 have them: one for all rows, or one for
    /// each of several matrices that lie one after another.
    ///
    /// Products ([`crate::Backend::matmul`]) leave them to the caller, so that blocks are joined as without; values
    /// ([`crate::Backend::dequantize_row`]) have them.
    ///
    /// # Panics
    /// If there are no factors, or the rows can't be shared out among them.
    #[cfg(feature = "fp4-quants")]
    #[must_use]
    pub fn with_factors(self, factors: &'a [f32]) -> Self {
        assert!(
            !factors.is_empty() && self.rows.is_multiple_of(factors.len()),
            "a factor for each"
        );
        Matrix { factors, ..self }
    }

    /// Factor of the output of row `r`, if there is one.
    #[inline(always)]
    #[must_use]
    pub fn factor(&self, r: usize) -> Option<f32> {
        #[cfg(feature = "fp4-quants")]
        {
            let each = self.rows.checked_div(self.factors.len())?;
            self.factors.get(r.checked_div(each)?).copied()
        }
        #[cfg(not(feature = "fp4-quants"))]
        {
            let _ = (r, self.factors);
            None
        }
    }

    /// How the elements are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// True if the blocks of sixteen rows lie side by side ([`crate::repack`]).
    #[inline(always)]
    #[must_use]
    pub fn is_repacked(&self) -> bool {
        // Known to the compiler where no matrix can be, so that programs leave out what reads them.
        cfg!(feature = "repack") && self.repacked
    }

    /// All bytes, row after row; of a repacked matrix, group after group of interleaved blocks.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.data
    }

    /// Writes the bytes of row `r` in the order of files, however the matrix is laid out.
    ///
    /// # Panics
    /// If `r` is not a row, or `out` is not [`Matrix::row_bytes`] long.
    pub fn copy_row(&self, r: usize, out: &mut [u8]) {
        assert!(r < self.rows && out.len() == self.row_bytes, "a row, and room for it");
        if !self.is_repacked() {
            return out.copy_from_slice(&self.data[r * self.row_bytes..][..self.row_bytes]);
        }
        let size = self.format.block_bytes();
        let group = &self.data[r / REPACK_ROWS * REPACK_ROWS * self.row_bytes..];
        for (interleaved, block) in group.chunks(REPACK_ROWS * size).zip(out.chunks_exact_mut(size))
        {
            block_of(self.format, interleaved, r % REPACK_ROWS, block);
        }
    }

    /// Block `b` of row `r`, however the matrix is laid out.
    ///
    /// # Panics
    /// If `B` is not the matrix' format, `r` not a row or `b` not a block of it.
    #[inline(always)]
    #[must_use]
    pub fn block<B: Block>(&self, r: usize, b: usize) -> B {
        if !self.is_repacked() {
            return self.row(r)[b];
        }
        assert!(B::FORMAT == self.format && r < self.rows && b * B::LEN < self.cols);
        let interleaved_bytes = REPACK_ROWS * size_of::<B>();
        let at = r / REPACK_ROWS * REPACK_ROWS * self.row_bytes + b * interleaved_bytes;
        let mut block = B::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut block);
        block_of(self.format, &self.data[at..][..interleaved_bytes], r % REPACK_ROWS, bytes);
        block
    }

    /// The blocks of row `r`.
    ///
    /// # Panics
    /// If `B` is not the matrix' format, `r` not a row, or the matrix is repacked.
    #[inline(always)]
    #[must_use]
    pub fn row<B: Block>(&self, r: usize) -> &'a [B] {
        assert!(r < self.rows);
        self.rows_from(r, 1)
    }

    /// The blocks of rows `r..r + n`, one row after another.
    ///
    /// # Panics
    /// As [`Matrix::row`].
    #[inline(always)]
    #[must_use]
    pub(crate) fn rows_from<B: Block>(&self, r: usize, n: usize) -> &'a [B] {
        // Expanded rows are read as what their format is expanded to: as many bytes.
        assert!(match self.expanded {
            true => self.cols / B::LEN * size_of::<B>() == self.row_bytes,
            false => B::FORMAT == self.format && !self.is_repacked(),
        });
        bytemuck::cast_slice(&self.data[r * self.row_bytes..][..n * self.row_bytes])
    }
}

impl fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.repacked { ", repacked" } else { "" };
        write!(f, "Matrix({} {}x{}{how})", self.format, self.rows, self.cols)
    }
}
