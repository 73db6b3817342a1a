//! The part of an output that one call writes.

use core::marker::PhantomData;

/// A window of `n` rows by `width` columns into a row-major f32 buffer.
///
/// Threads that compute different columns of one buffer each hold a tile of it at the same time,
/// so a tile is not a slice of whole rows: [`Tile::row`] gives only the columns of this tile.
///
/// ```
/// use teff_kernels::Tile;
///
/// let mut y = [0.0; 6]; // two rows of three columns
/// let mut whole = Tile::new(&mut y, 2, 3, 3);
/// let mut right = whole.cols(1, 2);
/// assert_eq!((right.n(), right.width()), (2, 2));
/// right.row(1).copy_from_slice(&[5.0, 6.0]);
/// assert_eq!(y, [0.0, 0.0, 0.0, 0.0, 5.0, 6.0]);
/// ```
#[derive(Debug)]
pub struct Tile<'a> {
    ptr: *mut f32,
    n: usize,
    width: usize,
    ld: usize,
    own: PhantomData<&'a mut [f32]>,
}

/// True if `len` elements have `n` rows of `width`, a new row every `ld`, whatever these numbers are.
pub(crate) fn rows_fit(len: usize, n: usize, width: usize, ld: usize) -> bool {
    let end = n.checked_sub(1).map_or(Some(0), |last| last.checked_mul(ld)?.checked_add(width));
    ld >= width && end.is_some_and(|end| end <= len)
}

impl<'a> Tile<'a> {
    /// Columns `0..width` of `n` rows in `data`, a new row every `ld` floats.
    ///
    /// # Panics
    /// If `data` is too short for that or `ld < width`.
    #[must_use]
    pub fn new(data: &'a mut [f32], n: usize, width: usize, ld: usize) -> Self {
        assert!(rows_fit(data.len(), n, width, ld), "tile");
        // SAFETY: the slice covers all n rows (just checked) and is borrowed for 'a.
        unsafe { Self::from_raw(data.as_mut_ptr(), n, width, ld) }
    }

    /// The tile whose first row starts at `ptr`.
    ///
    /// # Safety
    /// For `'a`, the elements `t * ld + c` with `t < n`, `c < width` after `ptr` are valid
    /// and used through this tile alone, and `n <= 1 || ld >= width`.
    #[must_use]
    pub unsafe fn from_raw(ptr: *mut f32, n: usize, width: usize, ld: usize) -> Self {
        Tile { ptr, n, width, ld, own: PhantomData }
    }

    /// Rows (tokens).
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns (outputs).
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `t` of the tile.
    #[inline(always)]
    #[must_use]
    pub fn row(&mut self, t: usize) -> &mut [f32] {
        assert!(t < self.n);
        // SAFETY: t is a row of the tile, whose elements are valid and ours alone (from_raw).
        unsafe { core::slice::from_raw_parts_mut(self.ptr.add(t * self.ld), self.width) }
    }

    /// Columns `from..from + width` as a tile of their own.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    pub fn cols(&mut self, from: usize, width: usize) -> Tile<'_> {
        assert!(from <= self.width && width <= self.width - from);
        // SAFETY: a part of this tile, which stays borrowed as long as the part lives.
        unsafe { Tile::from_raw(self.ptr.add(from), self.n, width, self.ld) }
    }

    /// Rows `from..from + n` as a tile of their own.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    pub fn rows(&mut self, from: usize, n: usize) -> Tile<'_> {
        assert!(from <= self.n && n <= self.n - from);
        // Not one beyond the last row, which may lie outside of the buffer.
        let first = if n == 0 { 0 } else { from * self.ld };
        // SAFETY: a part of this tile, which stays borrowed as long as the part lives.
        unsafe { Tile::from_raw(self.ptr.add(first), n, self.width, self.ld) }
    }
}
