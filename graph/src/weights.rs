//! The table of weights that a plan's tensor numbers point into.

use core::fmt;

use teff_kernels::{Format, Matrix};

use crate::{Role, Spec, TensorId};

/// A tensor in memory.
#[derive(Clone, Copy, Debug)]
pub enum Tensor<'a> {
    /// A matrix, in its format, where it lies.
    Matrix(Matrix<'a>),
    /// A vector: weights of a norm, biases.
    Vector(&'a [f32]),
}

/// A table of weights that isn't the model's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
