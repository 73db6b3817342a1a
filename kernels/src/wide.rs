//! Activations for ternary weights: int8 codes -127..=127, one f32 scale (`x = d * code`) and the sum
//! of the codes for every 256 of a row.
//!
//! Products with weights of two bits are cheap; what costs is to leave integers for floats. So
//! groups are as wide as the largest block of ternary weights. A row whose length is an odd multiple
//! of 128 ends with a group of 128.

/// Elements that share a scale.
pub const WIDE_BLOCK: usize = 256;
/// Divisor of the length of a row.
pub const WIDE_UNIT: usize = 128;

/// Rows quantised to 8 bits, for ternary weights.
#[derive(Clone, Copy, Debug)]
pub struct WideActivations<'a> {
    n: usize,
    cols: usize,
    q: &'a [i8],
    d: &'a [f32],
    s: &'a [i32],
}

/// One row of [`WideActivations`].
#[derive(Clone, Copy, Debug)]
pub struct WideRow<'a> {
    /// Codes, -127..=127.
    pub q: &'a [i8],
    /// Scale of each 256 codes, and of what is left.
    pub d: &'a [f32],
    /// Sum of the same codes.
    pub s: &'a [i32],
}

/// A part of a row of [`WideActivations`] (from the beginning of a group to the end of one) to be
/// written.
#[derive(Debug)]
pub struct WideRowMut<'a> {
    /// Codes, -127..=127.
    pub q: &'a mut [i8],
    /// Scale of each 256 codes, and of what is left.
    pub d: &'a mut [f32],
    /// Sum of the same codes.
    pub s: &'a mut [i32],
}

impl<'a> WideActivations<'a> {
    /// `n` rows of `cols` elements: `n * cols` codes, and for each row a scale and a sum for every
    /// 256 and for what is left.
    ///
    /// Codes must be -127..=127 (debug builds check).
    ///
    /// # Panics
    /// If a slice has another length or `cols` is not a multiple of 128.
    #[must_use]
    pub fn new(n: usize, cols: usize, q: &'a [i8], d: &'a [f32], s: &'a [i32]) -> Self {
        assert!(cols.is_multiple_of(WIDE_UNIT), "wide activations come in units of 128");
        assert!(n.checked_mul(cols) == Some(q.len()), "activations");
        let groups = n * cols.div_ceil(WIDE_BLOCK); // no more than codes
        assert!(d.len() == groups && s.len() == groups, "activations");
        debug_assert!(q.iter().all(|&q| q != i8::MIN));
        WideActivations { n, cols, q, d, s }
    }

    /// Row `t`.
    #[inline(always)]
    #[must_use]
    pub fn row(&self, t: usize) -> WideRow<'a> {
        self.rows_from(t, 1)
    }

    /// Rows `t..t + n`, one after another.
    #[inline(always)]
    pub(crate) fn rows_from(&self, t: usize, n: usize) -> WideRow<'a> {
        let groups = self.cols.div_ceil(WIDE_BLOCK);
        WideRow {
            q: &self.q[t * self.cols..][..n * self.cols],
            d: &self.d[t * groups..][..n * groups],
            s: &self.s[t * groups..][..n * groups],
        }
    }

    /// Rows `t..t + n`.
    pub(crate) fn rows(&self, t: usize, n: usize) -> WideActivations<'a> {
        let WideRow { q, d, s } = self.rows_from(t, n);
        WideActivations { n, cols: self.cols, q, d, s }
    }

    /// Rows.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Elements of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }
}
