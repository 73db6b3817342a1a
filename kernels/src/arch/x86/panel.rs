//! The memory layout of a panel: `MR` rows of weights, packed for the gemm micro-kernels.
//!
//! For every 32 columns of the rows there is a part. Its bytes come in groups of four columns of each
//! row, so that a group is one register whose lanes are the rows:
//!
//! ```text
//!           row 0       row 1             row MR-1
//! group 0 | 0 1 2 3   | 0 1 2 3   | ... | 0 1 2 3   |   bytes of columns 0..4
//! group 1 | 4 5 6 7   | 4 5 6 7   | ... | 4 5 6 7   |
//!   ...
//! group 7 | 28 .. 31  | 28 .. 31  | ... | 28 .. 31  |
//! scales  | d         | d         | ... | d         |   f32, one vector for each sub-block
//! mins    | m         | m         | ... | m         |   f32, of formats that have minimums
//! ```

use crate::activations::ACT_BLOCK;

/// The properties of a format that the micro-kernels depend on. Formats that share them share the
/// compiled micro-kernel.
pub(super) trait Shape {
    /// Codes of a sub-block, which has one scale: 16 or 32.
    const SUB: usize;
    /// Sub-blocks have a minimum too.
    const MINS: bool;
    /// Pairs of products that a sum of 16 bits can hold.
    const PAIRS: usize;
    /// Products of unsigned bytes would saturate 16 bits: where products are summed in pairs, bytes
    /// are the signed codes.
    const SIGNED: bool = Self::PAIRS == 1;
}

/// A [`Shape`] by its numbers.
pub(super) struct Of<const SUB: usize, const MINS: bool, const PAIRS: usize>;

impl<const SUB: usize, const MINS: bool, const PAIRS: usize> Shape for Of<SUB, MINS, PAIRS> {
    const SUB: usize = SUB;
    const MINS: bool = MINS;
    const PAIRS: usize = PAIRS;
}

/// Sizes and offsets, in bytes, of a part of a panel.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Size of a group of four columns.
    pub(super) group: usize,
    /// Size of a vector of scales or minimums.
    pub(super) floats: usize,
    /// Offset of the scales.
    pub(super) scales: usize,
    /// Offset of the minimums.
    pub(super) mins: usize,
    /// Size of the part.
    pub(super) part: usize,
}

/// The layout of a panel of `mr` rows.
pub(super) const fn layout<S: Shape>(mr: usize) -> Layout {
    let (group, floats) = (4 * mr, 4 * mr);
    let scales = ACT_BLOCK / 4 * group;
    let mins = scales + ACT_BLOCK / S::SUB * floats;
    let part = mins + if S::MINS { mins - scales } else { 0 };
    Layout { group, floats, scales, mins, part }
}
