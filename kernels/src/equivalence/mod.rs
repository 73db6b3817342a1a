//! The suite that every backend must pass, for third parties too (feature `equivalence`): a backend
//! gives the bits of [`Scalar`](crate::Scalar) in every operation, however the work is split.
//!
//! [`check`] runs all of it, in memory that the caller gives, so it runs on a microcontroller as
//! well. The other functions check one case of one operation each, and shapes, seeds and kinds of
//! numbers are the caller's there: for property tests, and to look at what [`check`] found.
//!
//! All bits are compared but those of a NaN, of which IEEE leaves open which one an operation gives.

use core::fmt;
use core::num::NonZeroUsize;

use crate::{Backend, Format, KvFormat};

mod attention;
mod delta;
mod products;
mod random;
mod room;
mod rows;

pub use attention::{Attention, attend};
pub use delta::{Delta, delta_rule};
pub use products::{Product, dequantize, matmul, quantize, quantize_wide};
pub use random::{Kind, Rng, fill_codes, fill_floats, fill_weights, float};
pub use room::{Block, Room};
pub use rows::{Row, causal_conv, rope, rows, select};

/// Subject of one comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// The operation, and in which way it was called.
    pub operation: &'static str,
    /// The name of the format of weights or of the cache; empty where there is neither.
    pub format: &'static str,
    /// Rows of weights, or heads.
    pub rows: usize,
    /// Elements of a row, or of a head.
    pub cols: usize,
    /// Rows of activations.
    pub n: usize,
    /// Kind of the numbers.
    pub kind: Kind,
    /// The seed of the case.
    pub seed: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { operation, format, rows, cols, n, kind, seed } = self;
        write!(f, "{operation} {format} {rows} x {cols}, n = {n}, {kind:?}, seed {seed:#x}")
    }
}

/// Error for a backend that did not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EquivalenceError {
    /// The caller's memory is too small for a case.
    Memory {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// Another result than the scalar truth's.
    Different {
        /// The comparison.
        case: Case,
        /// Which element of the result.
        index: usize,
        /// The truth: the bits of an f32, or an integer.
        want: u32,
        /// Bits that the backend computed.
        got: u32,
    },
    /// Something was written outside of the output.
    Outside {
        /// The comparison.
        case: Case,
    },
}

impl fmt::Display for EquivalenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EquivalenceError::Memory { needed, got } => {
                write!(f, "the suite needs {needed} bytes for this case, but has {got}")
            }
            EquivalenceError::Different { case, index, want, got } => {
                write!(f, "{case}: element {index} is {got:#010x}, not {want:#010x}")
            }
            EquivalenceError::Outside { case } => {
                write!(f, "{case}: written outside of the output")
            }
        }
    }
}

impl core::error::Error for EquivalenceError {}

/// The bits of `x`, with one pattern for all NaN.
#[must_use]
pub fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

/// Content of an output before anything is written.
const UNTOUCHED: f32 = -7.75e33;

/// Compares a result with the truth, element by element.
fn same(case: &Case, want: &[f32], got: &[f32]) -> Result<(), EquivalenceError> {
    assert_eq!(want.len(), got.len());
    for (index, (&want, &got)) in want.iter().zip(got).enumerate() {
        equal(case, index, bits(want), bits(got))?;
    }
    Ok(())
}

/// Compares integers, as their lower 32 bits.
fn same_ints<T: Copy + Into<i64>>(
    case: &Case,
    want: &[T],
    got: &[T],
) -> Result<(), EquivalenceError> {
    assert_eq!(want.len(), got.len());
    for (index, (&want, &got)) in want.iter().zip(got).enumerate() {
        equal(case, index, want.into() as u32, got.into() as u32)?;
    }
    Ok(())
}

fn equal(case: &Case, index: usize, want: u32, got: u32) -> Result<(), EquivalenceError> {
    if want == got {
        return Ok(());
    }
    Err(EquivalenceError::Different { case: *case, index, want, got })
}

/// Compares a window of `width` columns, a row every `ld` floats after the first `lead`, with the
/// truth; the rest must be untouched.
fn same_tile<'w>(
    case: &Case,
    (y, lead, width, ld): (&[f32], usize, usize, usize),
    want: impl Fn(usize) -> &'w [f32],
) -> Result<(), EquivalenceError> {
    let untouched = |rest: &[f32]| match rest.iter().all(|v| v.to_bits() == UNTOUCHED.to_bits()) {
        true => Ok(()),
        false => Err(EquivalenceError::Outside { case: *case }),
    };
    untouched(&y[..lead])?;
    for (t, row) in y[lead..].chunks(ld.max(1)).enumerate() {
        for (i, (&want, &got)) in want(t)[..width].iter().zip(row).enumerate() {
            equal(case, t * width + i, bits(want), bits(got))?;
        }
        untouched(&row[width..])?;
    }
    Ok(())
}

/// Memory with which [`check`] runs the shapes that it has, where the backend's own scratch is small;
/// with less it takes fewer rows and shorter ones.
pub const MEMORY: usize = 4 << 20;

/// Products of a case, at most: large shapes are made smaller, so that a round takes milliseconds.
const MOST_WORK: usize = 1 << 17;

// Lengths without a common divisor, so that rounds go through all combinations.
const BLOCKS: [usize; 9] = [1, 2, 3, 64, 4, 7, 16, 33, 8];
const ROWS: [usize; 11] = [1, 3, 16, 5, 33, 7, 65, 15, 64, 17, 31];
const COLUMNS: [usize; 7] = [1, 2, 17, 3, 40, 5, 8];
const HEAD_DIMS: [usize; 5] = [16, 1, 20, 64, 80];
const LENGTHS: [usize; 9] = [0, 1, 15, 16, 17, 64, 100, 257, 600];

/// Checks every operation of `backend`, for all formats that are [built](Format::is_built), and gives
/// the number of cases.
///
/// A round has a case for every operation and format. The shapes of the rounds differ: rows of 1 to
/// 64 blocks, 1 to 65 rows and 1 to 40 columns (odd numbers among them), parts of the rows and
/// columns, weights at any address; so do the numbers: plain ones, extreme codes and scales, numbers
/// at the edges, any bits. 36 rounds have every length of rows with every kind of numbers. A
/// round and a seed give the same cases everywhere.
///
/// # Errors
/// [`EquivalenceError`] for the first result that differs, or where `memory` is too small for a
/// row of one block.
///
/// # Panics
/// If the backend does.
pub fn check(
    backend: &dyn Backend,
    seed: u64,
    rounds: usize,
    memory: &mut [u8],
) -> Result<u64, EquivalenceError> {
    let mut cases = 0;
    for round in 0..rounds {
        let r = &mut Rng::new(seed ^ (round as u64).wrapping_mul(0xd134_2543_de82_ef95));
        let kind = Kind::ALL[round % 4];
        for format in Format::ALL.into_iter().filter(|f| f.is_built()) {
            let unit = if format.is_quantized() { format.block_len() } else { 16 };
            // Rows of dense weights need not be whole registers.
            let less = if format.is_quantized() { 0 } else { r.below(16) };
            let mut p = Product {
                format,
                rows: ROWS[round % ROWS.len()],
                cols: BLOCKS[round % BLOCKS.len()] * unit - less,
                n: COLUMNS[round % COLUMNS.len()],
                kind,
                fine: r.below(2) == 1,
                repacked: r.below(3) == 0,
                offset: r.below(64),
                skew: r.below(20),
                gap: r.below(5),
                seed: r.bits(),
            };
            while p.rows * p.n > 1 && p.rows * p.n * p.cols > MOST_WORK {
                p.shrink(unit);
            }
            loop {
                let done = matmul(backend, &p, &mut Block::new(memory))
                    .and_then(|()| dequantize(backend, &p, &mut Block::new(memory)));
                match done {
                    // A smaller one may fit.
                    Err(EquivalenceError::Memory { .. }) if p.shrink(unit) => {}
                    done => break done?,
                }
            }
            cases += 2;
        }
        for fine in [false, true] {
            let blocks = BLOCKS[round % BLOCKS.len()];
            quantize(backend, blocks, fine, kind, r.bits(), &mut Block::new(memory))?;
            quantize_wide(backend, blocks, fine, kind, r.bits(), &mut Block::new(memory))?;
            cases += 2;
        }
        let len = LENGTHS[round % LENGTHS.len()] + r.below(3);
        let row = Row { len, skew: r.below(17), kind, seed: r.bits() };
        cases += rows(backend, &row, &mut Block::new(memory))?;
        cases += causal_conv(backend, &row, 1 + r.below(5), &mut Block::new(memory))?;
        let (pairs, rest) = (r.below(40), r.below(20));
        cases += rope(backend, &row, (1 + r.below(4), pairs, rest), &mut Block::new(memory))?;
        cases += select(backend, &row, r.below(50), &mut Block::new(memory))?;
        let n = 1 + r.below(5);
        let d = Delta {
            rows: [HEAD_DIMS, [3, 128, 32, 7, 1]][r.below(2)][round % HEAD_DIMS.len()],
            columns: [16, 5, 32, 40, 64, 100][r.below(6)],
            n,
            cut: r.below(n + 1),
            kind,
            gap: r.below(4),
            seed: r.bits(),
        };
        cases += delta_rule(backend, &d, &mut Block::new(memory))?;
        for format in KvFormat::ALL {
            let a = Attention {
                format,
                head_dim: HEAD_DIMS[round % HEAD_DIMS.len()],
                heads: 1 + r.below(3),
                position: [r.below(20), 56 + r.below(16), r.below(130)][r.below(3)],
                n: 1 + r.below(5),
                window: NonZeroUsize::new([0, 1 + r.below(8), 60 + r.below(10)][r.below(3)]),
                kind,
                gap: r.below(4),
                seed: r.bits(),
            };
            cases += attend(backend, &a, &mut Block::new(memory))?;
        }
    }
    Ok(cases)
}
