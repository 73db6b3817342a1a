//! The gemv drivers: products with few columns of activations, of weights that are read once, where
//! they lie.
//!
//! A micro-kernel computes `MR` outputs: those of `MR` rows, one in each lane of a register. The walk
//! over rows and columns is the same for every width, and is written here:
//!
//! ```text
//! for each group of MR * step rows
//!     for first in 0..step                       the rows first, first + step, ..: MR of them
//!         for each two columns t, t + 1
//!             y[t..t + 2][rows] = micro-kernel(rows, x[t..t + 2])
//! ```
//!
//! With few columns, memory is the bottleneck, and it is fastest when it sees few long streams.
//! Rows therefore lie near or far:
//!
//! ```text
//! near (step = 1)              far (step = rows / MR), here with MR = 4
//! row 0  lane 0 |=====>        row 0  lane 0 |=====>
//! row 1  lane 1 |=====>        row 1         |  ...>  the next of lane 0: where its stream goes on
//! row 2  lane 2 |=====>        row 2  lane 1 |=====>
//! row 3  lane 3 |=====>        row 3         |  ...>
//! ```
//!
//! Near, each of `MR` streams ends with its row, too soon for the CPU's own prefetcher: the
//! micro-kernel prefetches the next group. Far, each row begins where the one before it in its
//! lane ended: `MR` streams without an end. Which is faster depends on the format and on the length
//! of rows; the micro-kernels say.

use core::ops::Range;

use crate::blocks::Block;
use crate::{Matrix, Q8Activations, Q8Row, Tile, WideActivations, WideRow};

/// The columns of activations.
pub(super) trait Columns: Copy {
    /// A column.
    type Column: Copy;

    /// The number of columns.
    fn n(self) -> usize;
    /// The columns have two planes of codes.
    fn is_fine(self) -> bool;
    /// Column `t`.
    fn column(self, t: usize) -> Self::Column;
}

impl<'a> Columns for &Q8Activations<'a> {
    type Column = Q8Row<'a>;

    #[inline(always)]
    fn n(self) -> usize {
        Q8Activations::n(self)
    }
    #[inline(always)]
    fn is_fine(self) -> bool {
        Q8Activations::is_fine(self)
    }
    #[inline(always)]
    fn column(self, t: usize) -> Q8Row<'a> {
        self.row(t)
    }
}

impl<'a> Columns for &WideActivations<'a> {
    type Column = WideRow<'a>;

    #[inline(always)]
    fn n(self) -> usize {
        WideActivations::n(self)
    }
    #[inline(always)]
    fn is_fine(self) -> bool {
        false
    }
    #[inline(always)]
    fn column(self, t: usize) -> WideRow<'a> {
        self.row(t)
    }
}

/// Lanes of the widest register.
const MAX_MR: usize = 16;

/// A micro-kernel of gemv, for a matrix with rows of blocks `B`.
pub(super) trait MicroKernel<B, X: Columns> {
    /// Rows of a tile: the lanes of a register.
    const MR: usize;
    /// It is compiled for rows that lie near. If not, only far rows are computed.
    const NEAR: bool = true;
    /// It is compiled for rows that lie far.
    const FAR: bool = false;
    /// A register of `MR` floats.
    type Outputs: Copy;

    /// Far rows are faster, of the one column that there is.
    #[inline(always)]
    fn is_far(&self) -> bool {
        false
    }

    /// The outputs of the row at `w` and of those after it (with `FAR` every `step`-th), for each of
    /// `N` columns.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation. These rows are there, and each of `x` is
    /// as long. With `FINE` there is one column, and it has two planes.
    unsafe fn outputs<const N: usize, const FINE: bool, const FAR: bool>(
        &self,
        w: *const B,
        step: usize,
        x: [X::Column; N],
    ) -> [Self::Outputs; N];

    /// Stores a register.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation; there is room for `MR` floats at `to`.
    unsafe fn store(outputs: Self::Outputs, to: *mut f32);
}

/// Stores a tile: the outputs of [`MicroKernel::outputs`] for the columns `t..t + N`, at column `at`
/// of `y` and after it.
///
/// # Safety
/// As [`MicroKernel::outputs`].
#[inline(always)]
unsafe fn tile<K, B, X, const N: usize, const FINE: bool, const FAR: bool>(
    kernel: &K,
    (w, step): (*const B, usize),
    x: X,
    (t, at): (usize, usize),
    y: &mut Tile<'_>,
) where
    K: MicroKernel<B, X>,
    X: Columns,
{
    let mut columns = [x.column(t); N];
    for (n, column) in columns.iter_mut().enumerate() {
        *column = x.column(t + n);
    }
    // SAFETY: the caller's promise.
    let out = unsafe { kernel.outputs::<N, FINE, FAR>(w, step, columns) };
    for (n, out) in out.into_iter().enumerate() {
        let to = &mut y.row(t + n)[at..];
        if FAR {
            let mut outputs = [0.0; MAX_MR];
            // SAFETY: the caller's promise; room for the widest register.
            unsafe { K::store(out, outputs.as_mut_ptr()) };
            for (to, out) in to.iter_mut().step_by(step).zip(&outputs[..K::MR]) {
                *to = *out;
            }
        } else {
            // SAFETY: the caller's promise; room for MR floats.
            unsafe { K::store(out, to[..K::MR].as_mut_ptr()) };
        }
    }
}

/// Computes `rows`, as many as make whole tiles, for all columns. Returns the first row that is left.
///
/// # Safety
/// The CPU has the instructions of the micro-kernel.
#[inline(always)]
pub(super) unsafe fn walk<K: MicroKernel<B, X>, B: Block, X: Columns>(
    kernel: &K,
    w: &Matrix<'_>,
    x: X,
    rows: &Range<usize>,
    y: &mut Tile<'_>,
) -> usize {
    let far = K::FAR && x.n() == 1 && !x.is_fine() && kernel.is_far();
    let mut r = rows.start;
    while (K::NEAR || far) && r + K::MR <= rows.end {
        // An odd number of rows, so that streams don't all want the same sets of the cache.
        let step = if far { ((rows.end - r) / K::MR - 1) | 1 } else { 1 };
        for first in r..r + step {
            let ws = w.rows_from::<B>(first, (K::MR - 1) * step + 1).as_ptr();
            let at = first - rows.start;
            // SAFETY: the caller's promise; the last of the rows is there (above), and check_matmul
            // saw to it that the activations are as wide.
            unsafe {
                if const { K::FAR } && (const { !K::NEAR } || step > 1) {
                    tile::<K, B, X, 1, false, true>(kernel, (ws, step), x, (0, at), y);
                    continue;
                }
                let mut t = 0;
                while !x.is_fine() && t + 2 <= x.n() {
                    tile::<K, B, X, 2, false, false>(kernel, (ws, 1), x, (t, at), y);
                    t += 2;
                }
                for t in t..x.n() {
                    if x.is_fine() {
                        tile::<K, B, X, 1, true, false>(kernel, (ws, 1), x, (t, at), y);
                    } else {
                        tile::<K, B, X, 1, false, false>(kernel, (ws, 1), x, (t, at), y);
                    }
                }
            }
        }
        r += K::MR * step;
    }
    r
}
