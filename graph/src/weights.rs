//! The table of weights that a plan's tensor numbers point into.

use core::fmt;

use teff_kernels::{Format, Matrix, MatrixError};

use crate::{Role, Slot, Spec, TensorId};

/// A tensor in memory.
#[derive(Clone, Copy, Debug)]
pub enum Tensor<'a> {
    /// A matrix, in its format, where it lies.
    Matrix(Matrix<'a>),
    /// A vector: weights of a norm, biases.
    Vector(&'a [f32]),
}

/// Where a tensor lies in a model's file, for programs that know their file when they are built: a
/// firmware needs neither a reader of files nor memory to look for tensors at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TensorLocation {
    /// Its format.
    pub format: Format,
    /// Its first byte, from the start of the file.
    pub offset: usize,
}

impl TensorLocation {
    /// The tensor for `slot`, where it lies in `file`.
    ///
    /// # Errors
    /// [`WeightsError::Outside`], [`WeightsError::Matrix`]; [`WeightsError::Floats`] for a vector
    /// that can't be used in place.
    pub fn tensor<'a>(&self, slot: &Slot, file: &'a [u8]) -> Result<Tensor<'a>, WeightsError> {
        let (role, file_bytes) = (slot.role, file.len());
        let outside = WeightsError::Outside { role, offset: self.offset, file: file_bytes };
        let bytes = self.format.tensor_bytes(slot.rows, slot.cols);
        let end = bytes.and_then(|n| self.offset.checked_add(n)).ok_or(outside)?;
        let data = file.get(self.offset..end).ok_or(outside)?;
        if !slot.vector {
            return Matrix::from_tensor(self.format, slot.rows, slot.cols, data)
                .map(Tensor::Matrix)
                .map_err(|error| WeightsError::Matrix { role, error });
        }
        match bytemuck::try_cast_slice(data) {
            Ok(v) if self.format == Format::F32 && cfg!(target_endian = "little") => {
                Ok(Tensor::Vector(v))
            }
            _ => Err(WeightsError::Floats { role, format: self.format }),
        }
    }
}

/// A table of weights that isn't the model's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WeightsError {
    /// The table has another number of tensors.
    Count {
        /// What the model has.
        needed: usize,
        /// What the table has.
        got: usize,
    },
    /// A tensor has another shape, or is a vector where a matrix is needed or the reverse.
    Shape {
        /// Which.
        role: Role,
        /// `(rows, cols)` that the model has.
        needed: (usize, usize),
        /// What the table has.
        got: (usize, usize),
    },
    /// A matrix has another format than the plan was made for.
    Format {
        /// Which.
        role: Role,
        /// The plan's.
        needed: Format,
        /// The table's.
        got: Format,
    },
    /// A tensor isn't inside the file.
    Outside {
        /// Which.
        role: Role,
        /// Where it should begin.
        offset: usize,
        /// Bytes of the file.
        file: usize,
    },
    /// The bytes of a matrix are none of its format.
    Matrix {
        /// Which.
        role: Role,
        /// Why.
        error: MatrixError,
    },
    /// A vector of a file that can't be used in place: it must be F32, begin at a multiple of 4 in
    /// memory, and have this machine's byte order.
    Floats {
        /// Which.
        role: Role,
        /// Its format.
        format: Format,
    },
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightsError::Count { needed, got } => {
                write!(f, "the model has {needed} tensors, the table of weights {got}")
            }
            WeightsError::Shape { role, needed, got } => {
                write!(f, "{role:?} must be {needed:?} (rows, columns), but is {got:?}")
            }
            WeightsError::Format { role, needed, got } => {
                write!(f, "the plan was made for {role:?} in {needed}, but it is {got}")
            }
            WeightsError::Outside { role, offset, file } => {
                write!(
                    f,
                    "{role:?} should begin at {offset}, but ends beyond the file's {file} bytes"
                )
            }
            WeightsError::Matrix { role, error } => write!(f, "{role:?}: {error}"),
            WeightsError::Floats { role, format } => write!(
                f,
                "{role:?} is {format}: to be used in place it must be F32, at a multiple of 4 bytes \
                 and in this machine's byte order"
            ),
        }
    }
}

impl core::error::Error for WeightsError {}

/// Checks that `table` holds the model's tensors, in the order of their numbers.
///
/// # Errors
/// [`WeightsError`] for the first that doesn't fit.
pub fn check(spec: &Spec, table: &[Tensor<'_>]) -> Result<(), WeightsError> {
    if table.len() != spec.tensors() {
        return Err(WeightsError::Count { needed: spec.tensors(), got: table.len() });
    }
    for (slot, t) in spec.slots().zip(table) {
        let (got, vector) = match t {
            Tensor::Matrix(m) => ((m.rows(), m.cols()), false),
            Tensor::Vector(v) => ((1, v.len()), true),
        };
        let needed = (slot.rows, slot.cols);
        if got != needed || vector != slot.vector {
            return Err(WeightsError::Shape { role: slot.role, needed, got });
        }
    }
    Ok(())
}

/// The matrix with this number.
///
/// # Panics
/// Where it is none: [`check`] was not asked.
#[inline]
pub(crate) fn matrix<'a>(table: &[Tensor<'a>], id: TensorId) -> Matrix<'a> {
    match table[usize::from(id.0)] {
        Tensor::Matrix(m) => m,
        Tensor::Vector(_) => panic!("tensor {} is a vector", id.0),
    }
}

/// The vector with this number.
///
/// # Panics
/// Where it is none: [`check`] was not asked.
#[inline]
pub(crate) fn vector<'a>(table: &[Tensor<'a>], id: TensorId) -> &'a [f32] {
    match table[usize::from(id.0)] {
        Tensor::Vector(v) => v,
        Tensor::Matrix(_) => panic!("tensor {} is a matrix", id.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::gpt2;

    /// Every place that can't be used gives an error that names the tensor, and no panic.
    #[test]
    fn places_that_do_not_fit() {
        #[repr(align(4))]
        struct Aligned([u8; 32 * 1024]);
        let (file, spec) = (Aligned([0; 32 * 1024]), gpt2::small());
        let file = &file.0;
        let slot = |role| spec.slot(spec.id(role)).unwrap();
        let (vector, whole) = (slot(Role::OutputNorm), slot(Role::PositionEmbd));
        let matrix = Slot { rows: 2, ..whole };
        let get =
            |slot: &Slot, format, offset| TensorLocation { format, offset }.tensor(slot, file);

        let end = file.len() - 768 * 4;
        for offset in [64, end] {
            let got = get(&vector, Format::F32, offset);
            match cfg!(target_endian = "little") {
                true => assert!(matches!(got, Ok(Tensor::Vector(v)) if v.len() == 768)),
                false => assert!(matches!(got, Err(WeightsError::Floats { .. }))),
            }
        }
        assert!(matches!(get(&matrix, Format::Q8_0, 1), Ok(Tensor::Matrix(m)) if m.rows() == 2));

        for offset in [end + 1, usize::MAX - 1] {
            let outside = WeightsError::Outside { role: vector.role, offset, file: file.len() };
            assert_eq!(get(&vector, Format::F32, offset).err(), Some(outside));
        }
        for (format, offset) in [(Format::F32, 66), (Format::F16, 64)] {
            let floats = WeightsError::Floats { role: vector.role, format };
            assert_eq!(get(&vector, format, offset).err(), Some(floats));
        }
        // Rows that are no whole blocks, and more of them than memory can have.
        let ragged = Slot { cols: 31, ..matrix };
        let endless = Slot { rows: usize::MAX, ..whole };
        for slot in [ragged, endless] {
            let error = get(&slot, Format::Q8_0, 0).unwrap_err();
            assert!(matches!(error, WeightsError::Outside { .. } | WeightsError::Matrix { .. }));
        }
    }
}
