//! Table of weights that the tensor numbers of a plan refer to.

use core::fmt;

use teff_kernels::{Format, Matrix, MatrixError};

use crate::{Role, Slot, Spec, TensorId};

/// Tensor in memory.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, Debug)]
pub enum Tensor<'a> {
    /// Matrix in its format, used in place.
    Matrix(Matrix<'a>),
    /// Vector of f32, such as the weight of a norm or a bias.
    Vector(&'a [f32]),
}

/// Location of a tensor in a model file, for programs that know the file at build time: firmware
/// then needs neither a file reader nor memory to look up tensors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TensorLocation {
    /// Format of the tensor.
    pub format: Format,
    /// Offset from the start of the file, in bytes.
    pub offset: usize,
}

impl TensorLocation {
    /// Tensor for `slot`, used in place in `file`.
    ///
    /// # Errors
    /// [`WeightsError::Outside`], [`WeightsError::Matrix`]; [`WeightsError::Floats`] for a vector
    /// that can't be used in place.
    pub fn tensor<'a>(&self, slot: &Slot, file: &'a [u8]) -> Result<Tensor<'a>, WeightsError> {
        let (role, file_bytes) = (slot.role, file.len());
        let outside = WeightsError::Outside { role, offset: self.offset, file: file_bytes };
        let rows = slot.experts.checked_mul(slot.rows).ok_or(outside)?;
        let end = self
            .format
            .tensor_bytes(rows, slot.cols)
            .and_then(|n| self.offset.checked_add(n))
            .ok_or(outside)?;
        let data = file.get(self.offset..end).ok_or(outside)?;
        if !slot.is_vector() {
            return Matrix::from_tensor(self.format, rows, slot.cols, data)
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

/// Error of a table of weights that does not match the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WeightsError {
    /// The table has the wrong number of tensors.
    Count {
        /// Tensors of the model.
        needed: usize,
        /// Tensors of the table.
        got: usize,
    },
    /// A tensor has the wrong shape, or is a vector instead of a matrix or the reverse.
    Shape {
        /// Role of the tensor.
        role: Role,
        /// `(rows, cols)` in the model.
        needed: (usize, usize),
        /// `(rows, cols)` in the table.
        got: (usize, usize),
    },
    /// A matrix has a different format from the one that the plan was built for.
    Format {
        /// Role of the tensor.
        role: Role,
        /// Format in the plan.
        needed: Format,
        /// Format in the table.
        got: Format,
    },
    /// A tensor extends beyond the file.
    Outside {
        /// Role of the tensor.
        role: Role,
        /// Offset of the tensor.
        offset: usize,
        /// Bytes of the file.
        file: usize,
    },
    /// The bytes of a matrix are invalid for its format.
    Matrix {
        /// Role of the tensor.
        role: Role,
        /// Cause.
        error: MatrixError,
    },
    /// A tensor has more rows, or a vector more elements, than this machine can count.
    TooLarge {
        /// Role of the tensor.
        role: Role,
    },
    /// A vector of a file can't be used in place: it must be F32, aligned to 4 bytes in memory, and
    /// in the byte order of this machine.
    Floats {
        /// Role of the tensor.
        role: Role,
        /// Format of the tensor.
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
            WeightsError::TooLarge { role } => {
                write!(f, "{role:?} is larger than this machine can count")
            }
            WeightsError::Floats { role, format } => write!(
                f,
                "{role:?} is {format}: to be used in place it must be F32, at a multiple of 4 bytes \
                 and in this machine's byte order"
            ),
        }
    }
}

impl core::error::Error for WeightsError {}

/// Checks that `table` holds the tensors of the model, in order of their numbers.
///
/// # Errors
/// [`WeightsError`] for the first tensor that does not fit.
pub fn check(spec: &Spec, table: &[Tensor<'_>]) -> Result<(), WeightsError> {
    if table.len() != spec.tensors() {
        return Err(WeightsError::Count { needed: spec.tensors(), got: table.len() });
    }
    for (slot, t) in spec.slots().zip(table) {
        let (got, vector) = match t {
            Tensor::Matrix(m) => ((m.rows(), m.cols()), false),
            Tensor::Vector(v) => ((1, v.len()), true),
        };
        let needed = shape(&slot).ok_or(WeightsError::TooLarge { role: slot.role })?;
        if got != needed || vector != slot.is_vector() {
            return Err(WeightsError::Shape { role: slot.role, needed, got });
        }
    }
    Ok(())
}

/// Rows and columns of a slot's tensor in memory; `None` if this machine can't count them.
fn shape(slot: &Slot) -> Option<(usize, usize)> {
    let rows = slot.experts.checked_mul(slot.rows)?;
    match slot.is_vector() {
        // A vector of several rows is as long as all of them together.
        true => Some((1, rows.checked_mul(slot.cols)?)),
        false => Some((rows, slot.cols)),
    }
}

/// Matrix with this number.
///
/// # Panics
/// If it is not a matrix, because [`check`] was not called.
#[inline]
pub(crate) fn matrix<'a>(table: &[Tensor<'a>], id: TensorId) -> Matrix<'a> {
    match table[id.index()] {
        Tensor::Matrix(m) => m,
        Tensor::Vector(_) => panic!("tensor {} is a vector", id.index()),
    }
}

/// Vector with this number.
///
/// # Panics
/// If it is not a vector, because [`check`] was not called.
#[inline]
pub(crate) fn vector<'a>(table: &[Tensor<'a>], id: TensorId) -> &'a [f32] {
    match table[id.index()] {
        Tensor::Vector(v) => v,
        Tensor::Matrix(_) => panic!("tensor {} is a matrix", id.index()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::gpt2;

    /// Every location that can't be used gives an error that names the tensor, and no panic.
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
        // Shapes of which the table's check would overflow.
        let several = |rows, experts| Slot { rows, experts, ..vector };
        assert_eq!(shape(&several(3, 2)), Some((1, 6 * 768)));
        assert_eq!(shape(&several(usize::MAX / 2, 1)), None);
        assert_eq!(shape(&several(usize::MAX / 2, 3)), None);
        assert_eq!(shape(&Slot { rows: usize::MAX, ..matrix }), Some((usize::MAX, 768)));
        let endless = Slot { rows: usize::MAX, experts: 2, ..matrix };
        assert_eq!(shape(&endless), None);
        let e = get(&endless, Format::Q8_0, 0).unwrap_err();
        assert!(matches!(e, WeightsError::Outside { .. }));
        // Rows that are not whole blocks, and more of them than fit into memory.
        let ragged = Slot { cols: 31, ..matrix };
        let endless = Slot { rows: usize::MAX, ..whole };
        for slot in [ragged, endless] {
            let error = get(&slot, Format::Q8_0, 0).unwrap_err();
            assert!(matches!(error, WeightsError::Outside { .. } | WeightsError::Matrix { .. }));
        }
    }
}
