//! Activations: the inputs of a product, as f32 or quantised.
//!
//! The quantised forms are Teff's own, not exchange formats. A row keeps codes, an f32 scale for
//! every 32 of them (`x = d * code`), and the sum of every 16, which formats with an offset or a
//! minimum need. Codes, scales and sums of all rows lie apart, so that tiles of codes can be
//! loaded with any unit.
//!
//! - **8 bits**: codes in -127..=127.
//! - **16 bits**: codes `255 * q + lo` in two planes of bytes, each in -127..=127. A product is two
//!   products of bytes whose integer sums are joined before any float operation. It is for the few
//!   inputs whose error matters most: what queries and keys are made of goes through softmax,
//!   which is steep, and with 8 bits there makes most of a quantised model's error.

use crate::{ActivationKind, WideActivations};

/// Elements that share a scale.
pub const ACT_BLOCK: usize = 32;
/// Codes of which the sum is kept.
pub const ACT_SUM: usize = 16;

/// `n` rows of `cols` f32, `ld` floats from one row to the next.
#[derive(Clone, Copy, Debug)]
pub struct DenseActivations<'a> {
    n: usize,
    cols: usize,
    ld: usize,
    data: &'a [f32],
}

impl<'a> DenseActivations<'a> {
    /// `n` rows of `cols` floats in `data`, a new row every `ld` floats.
    ///
    /// # Panics
    /// If `data` is too short for that, or `ld < cols`.
    #[must_use]
    pub fn new(data: &'a [f32], n: usize, cols: usize, ld: usize) -> Self {
        assert!(crate::tile::rows_fit(data.len(), n, cols, ld), "activations");
        DenseActivations { n, cols, ld, data }
    }

    /// Row `t`.
    #[inline(always)]
    #[must_use]
    pub fn row(&self, t: usize) -> &'a [f32] {
        &self.data[t * self.ld..][..self.cols]
    }

    /// Columns `from..from + cols` of all rows.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    pub fn cols_of(&self, from: usize, cols: usize) -> DenseActivations<'a> {
        assert!(from <= self.cols && cols <= self.cols - from);
        let data = if self.n == 0 { &[] } else { &self.data[from..] };
        DenseActivations::new(data, self.n, cols, self.ld)
    }

    /// Rows `t..t + n`.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    pub fn rows(&self, t: usize, n: usize) -> DenseActivations<'a> {
        assert!(t <= self.n && n <= self.n - t);
        let data = if n == 0 { &[] } else { &self.data[t * self.ld..] };
        DenseActivations::new(data, n, self.cols, self.ld)
    }

    /// All floats, gaps between rows included.
    #[must_use]
    pub fn into_slice(self) -> &'a [f32] {
        self.data
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

/// Rows quantised to 8 or 16 bits.
///
/// ```
/// use teff_kernels::{Backend, Cpu, Q8Activations, Q8RowMut};
///
/// // 32 numbers become 32 codes, one scale and two sums.
/// let x: [f32; 32] = core::array::from_fn(|i| i as f32 - 20.0);
/// let (mut q, mut d, mut s) = ([0; 32], [0.0; 1], [0; 2]);
/// Cpu::best().quantize(&x, Q8RowMut { q: &mut q, lo: None, d: &mut d, s: &mut s });
///
/// let row = Q8Activations::new(1, 32, &q, &d, &s).row(0);
/// assert_eq!((row.q[0], row.q[20]), (-127, 0)); // -20, the largest magnitude, and 0
/// assert_eq!(row.d[0], 20.0 / 127.0);
/// assert_eq!(row.s[0], row.q[..16].iter().map(|&q| i32::from(q)).sum());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Q8Activations<'a> {
    n: usize,
    cols: usize,
    q: &'a [i8],
    lo: Option<&'a [i8]>,
    d: &'a [f32],
    s: &'a [i32],
}

/// One row of [`Q8Activations`].
#[derive(Clone, Copy, Debug)]
pub struct Q8Row<'a> {
    /// Codes, or their upper plane: -127..=127.
    pub q: &'a [i8],
    /// The lower plane of 16-bit codes, -127..=127.
    pub lo: Option<&'a [i8]>,
    /// Scale of each 32 codes.
    pub d: &'a [f32],
    /// Sum of each 16 codes.
    pub s: &'a [i32],
}

/// A part of a row of [`Q8Activations`] (whole blocks) to be written.
#[derive(Debug)]
pub struct Q8RowMut<'a> {
    /// Codes, or their upper plane: -127..=127.
    pub q: &'a mut [i8],
    /// The lower plane: where there is one, codes have 16 bits.
    pub lo: Option<&'a mut [i8]>,
    /// Scale of each 32 codes.
    pub d: &'a mut [f32],
    /// Sum of each 16 codes.
    pub s: &'a mut [i32],
}

impl<'a> Q8Activations<'a> {
    /// `n` rows of `cols` elements: `n * cols` codes, a scale for every 32 and a sum for every 16.
    ///
    /// Codes must be -127..=127 (debug builds check): instruction sets without a mixed-sign
    /// product negate them.
    ///
    /// # Panics
    /// If a slice has another length or `cols` is not a multiple of 32.
    #[must_use]
    pub fn new(n: usize, cols: usize, q: &'a [i8], d: &'a [f32], s: &'a [i32]) -> Self {
        assert!(cols.is_multiple_of(ACT_BLOCK), "quantised activations come in blocks of 32");
        assert!(n.checked_mul(cols) == Some(q.len()), "activations");
        let (blocks, sums) = (q.len() / ACT_BLOCK, q.len() / ACT_SUM);
        assert!(d.len() == blocks && s.len() == sums, "activations");
        debug_assert!(q.iter().all(|&q| q != i8::MIN));
        Q8Activations { n, cols, q, lo: None, d, s }
    }

    /// The same with a lower plane, which makes codes of 16 bits; scales and sums are theirs.
    ///
    /// # Panics
    /// If `lo` is not as long as the upper plane.
    #[must_use]
    pub fn with_low(self, lo: &'a [i8]) -> Self {
        assert!(lo.len() == self.q.len(), "activations");
        debug_assert!(lo.iter().all(|&q| q != i8::MIN));
        Q8Activations { lo: Some(lo), ..self }
    }

    /// True if codes have 16 bits.
    #[inline(always)]
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.lo.is_some()
    }

    /// Row `t`.
    #[inline(always)]
    #[must_use]
    pub fn row(&self, t: usize) -> Q8Row<'a> {
        self.rows_from(t, 1)
    }

    /// Rows `t..t + n`, one after another.
    #[inline(always)]
    pub(crate) fn rows_from(&self, t: usize, n: usize) -> Q8Row<'a> {
        let (codes, blocks, sums) = (n * self.cols, self.cols / ACT_BLOCK, self.cols / ACT_SUM);
        Q8Row {
            q: &self.q[t * self.cols..][..codes],
            lo: self.lo.map(|lo| &lo[t * self.cols..][..codes]),
            d: &self.d[t * blocks..][..n * blocks],
            s: &self.s[t * sums..][..n * sums],
        }
    }

    /// Rows `t..t + n`.
    fn rows(&self, t: usize, n: usize) -> Q8Activations<'a> {
        let Q8Row { q, lo, d, s } = self.rows_from(t, n);
        Q8Activations { n, cols: self.cols, q, lo, d, s }
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

/// The inputs of a product, of the kind that the format of the weights needs.
///
/// The variants are complete: a new one would be a breaking change.
///
/// ```
/// use teff_kernels::{Activations, DenseActivations, Format};
///
/// // Three tokens of two numbers, for weights in F16.
/// let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let x = Activations::Dense(DenseActivations::new(&x, 3, 2, 2));
/// assert_eq!(x.kind(), Format::F16.activations());
/// assert_ne!(x.kind(), Format::Q8_0.activations());
///
/// let Activations::Dense(last) = x.rows(2, 1) else { unreachable!() };
/// assert_eq!((last.n(), last.row(0)), (1, &[5.0, 6.0][..]));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// For F32, F16 and BF16 weights.
    Dense(DenseActivations<'a>),
    /// For quantised weights with a scale for every 16 or 32 codes.
    Q8(Q8Activations<'a>),
    /// For ternary weights.
    Wide(WideActivations<'a>),
}

impl<'a> Activations<'a> {
    /// Rows `t..t + n`.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    pub fn rows(&self, t: usize, n: usize) -> Activations<'a> {
        match self {
            Activations::Dense(a) => Activations::Dense(a.rows(t, n)),
            Activations::Q8(a) => Activations::Q8(a.rows(t, n)),
            Activations::Wide(a) => Activations::Wide(a.rows(t, n)),
        }
    }

    /// Rows (tokens).
    #[must_use]
    pub fn n(&self) -> usize {
        match self {
            Activations::Dense(a) => a.n(),
            Activations::Q8(a) => a.n(),
            Activations::Wide(a) => a.n(),
        }
    }

    /// Elements of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        match self {
            Activations::Dense(a) => a.cols(),
            Activations::Q8(a) => a.cols(),
            Activations::Wide(a) => a.cols(),
        }
    }

    /// Which kind they are.
    #[must_use]
    pub fn kind(&self) -> ActivationKind {
        match self {
            Activations::Dense(_) => ActivationKind::Dense,
            Activations::Q8(_) => ActivationKind::Q8,
            Activations::Wide(_) => ActivationKind::Wide,
        }
    }
}
