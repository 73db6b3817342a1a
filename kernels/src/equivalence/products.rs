//! Products, values of rows, and what quantises activations.

use core::ops::Range;

use super::random::{Kind, Rng, fill_codes, fill_floats, fill_weights, float};
use super::room::{Room, take};
use super::{Case, EquivalenceError, UNTOUCHED, same, same_ints, same_tile};
use crate::{
    ACT_BLOCK, ACT_SUM, ActivationKind, Activations, Backend, DenseActivations, Format, Matrix,
    Q8Activations, Q8RowMut, Scalar, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRowMut,
    repack, repacked_bytes,
};

/// Inputs of a product.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Of the weights.
    pub format: Format,
    /// Outputs.
    pub rows: usize,
    /// Inputs: whole blocks.
    pub cols: usize,
    /// Rows of activations.
    pub n: usize,
    /// Kind of the numbers.
    pub kind: Kind,
    /// Activations with codes of 16 bits, where the format has them.
    pub fine: bool,
    /// The weights are repacked ([`crate::repack`]), where the backend [repacks](Backend::repacks)
    /// the format.
    pub repacked: bool,
    /// Bytes of the weights' address beyond a multiple of 64.
    pub offset: usize,
    /// Elements that all activations lie further.
    pub skew: usize,
    /// Floats before and between the rows of the output.
    pub gap: usize,
    /// Of its numbers.
    pub seed: u64,
}

impl Product {
    /// As a backend gets it: one that doesn't repack may refuse what is.
    fn given_to(&self, b: &dyn Backend) -> Product {
        Product { repacked: self.repacked && b.repacks(self.format), ..*self }
    }

    /// Makes it smaller; `unit` is what the length of a row is a multiple of, more or less. `false`
    /// where it is the smallest already.
    pub(super) fn shrink(&mut self, unit: usize) -> bool {
        if self.rows > 1 && self.rows >= self.n {
            self.rows = self.rows.div_ceil(2);
        } else if self.n > 1 {
            self.n = self.n.div_ceil(2);
        } else if self.cols > unit {
            self.cols = (self.cols / unit).div_ceil(2) * unit;
        } else {
            return false;
        }
        true
    }

    fn case(&self, operation: &'static str) -> Case {
        let Product { format, rows, cols, n, kind, seed, .. } = *self;
        Case { operation, format: format.name(), rows, cols, n, kind, seed }
    }

    /// The weights.
    fn weights<'m>(
        &self,
        r: &mut Rng,
        room: &mut dyn Room<'m>,
    ) -> Result<Matrix<'m>, EquivalenceError> {
        let Product { format, rows, cols, kind, .. } = *self;
        let needed = format.row_bytes(cols).and_then(|n| n.checked_mul(rows));
        let bytes = take(room, self.offset, needed.expect("rows are whole blocks"))?;
        fill_weights(r, format, bytes, kind);
        let Ok(w) = Matrix::new(format, rows, cols, bytes) else {
            panic!("{format} is built, and its rows are whole blocks")
        };
        if let (true, Some(size)) = (self.repacked, repacked_bytes(format, rows, cols)) {
            let bytes = take(room, self.offset, size)?;
            repack(&w, bytes);
            let Ok(w) = Matrix::repacked(format, rows, cols, bytes) else {
                panic!("{format} was repacked")
            };
            return Ok(w);
        }
        // Where blocks have no scale, the matrix has one.
        Ok(if format == Format::I2_S { w.with_scale(float(r, kind)) } else { w })
    }
}

/// Activations of the kind that a format needs: codes, scales and sums beyond what the quantiser
/// would make, where `kind` says so.
struct Inputs<'m> {
    cols: usize,
    activations: ActivationKind,
    x: &'m [f32],
    q: &'m [i8],
    lo: Option<&'m [i8]>,
    d: &'m [f32],
    s: &'m [i32],
}

impl<'m> Inputs<'m> {
    fn new(p: &Product, r: &mut Rng, room: &mut dyn Room<'m>) -> Result<Self, EquivalenceError> {
        let (n, cols, activations) = (p.n, p.cols, p.format.activations());
        let mut a = Inputs { cols, activations, x: &[], q: &[], lo: None, d: &[], s: &[] };
        if activations == ActivationKind::Dense {
            let x = take(room, p.skew, n * cols)?;
            fill_floats(r, x, p.kind);
            a.x = x;
            return Ok(a);
        }
        let mut plane = |r: &mut Rng| {
            let q = take(room, p.skew, n * cols)?;
            fill_codes(r, q, p.kind);
            Ok(&*q)
        };
        a.q = plane(r)?;
        a.lo = if p.fine && activations == ActivationKind::Q8 { Some(plane(r)?) } else { None };
        // Groups of scales and of sums are a row's own: the last one may be shorter.
        let (scaled, summed) = a.groups();
        let d = take(room, p.skew, n * cols.div_ceil(scaled))?;
        fill_floats(r, d, p.kind);
        let s: &mut [i32] = take(room, p.skew, n * cols.div_ceil(summed))?;
        for (t, sums) in s.chunks_mut(cols.div_ceil(summed).max(1)).enumerate() {
            for (g, sum) in sums.iter_mut().enumerate() {
                let of = |q: &[i8]| {
                    let row = &q[t * cols..][..cols];
                    let group = &row[g * summed..cols.min((g + 1) * summed)];
                    group.iter().map(|&q| i32::from(q)).sum::<i32>()
                };
                *sum = match a.lo {
                    None => of(a.q),
                    Some(lo) => 255 * of(a.q) + of(lo),
                };
            }
        }
        (a.d, a.s) = (d, s);
        Ok(a)
    }

    /// Codes that share a scale, and codes that are summed.
    fn groups(&self) -> (usize, usize) {
        match self.activations {
            ActivationKind::Wide => (WIDE_BLOCK, WIDE_BLOCK),
            _ => (ACT_BLOCK, ACT_SUM),
        }
    }

    /// Rows `ts`.
    fn part(&self, ts: Range<usize>) -> Activations<'m> {
        let (n, cols) = (ts.len(), self.cols);
        if self.activations == ActivationKind::Dense {
            return Activations::Dense(DenseActivations::new(
                &self.x[ts.start * cols..],
                n,
                cols,
                cols,
            ));
        }
        let groups = self.groups();
        let of = |per: usize| ts.start * per..ts.end * per;
        let d = &self.d[of(cols.div_ceil(groups.0))];
        let s = &self.s[of(cols.div_ceil(groups.1))];
        let q = &self.q[of(cols)];
        match (self.activations, self.lo) {
            (ActivationKind::Wide, _) => Activations::Wide(WideActivations::new(n, cols, q, d, s)),
            (_, None) => Activations::Q8(Q8Activations::new(n, cols, q, d, s)),
            (_, Some(lo)) => {
                Activations::Q8(Q8Activations::new(n, cols, q, d, s).with_low(&lo[of(cols)]))
            }
        }
    }
}

/// [`Backend::matmul`]: equal bits for the whole, for every row of activations alone, and for parts of
/// the rows and columns.
///
/// # Errors
/// [`EquivalenceError`].
///
/// # Panics
/// If rows are not whole blocks of the format, or it is not [built](Format::is_built).
pub fn matmul<'m>(
    b: &dyn Backend,
    p: &Product,
    room: &mut dyn Room<'m>,
) -> Result<(), EquivalenceError> {
    let p = &p.given_to(b);
    let r = &mut Rng::new(p.seed);
    let (rows, n) = (p.rows, p.n);
    let want: &mut [f32] = take(room, 0, n * rows)?;
    let y: &mut [f32] = take(room, 0, p.gap + n * (rows + p.gap))?;
    let w = p.weights(r, room)?;
    let x = Inputs::new(p, r, room)?;
    let most = |count: usize| b.matmul_scratch(p.format, p.cols, count);
    let scratch: &mut [u8] = take(room, 0, most(n).max(most(n.min(1))))?;
    Scalar.matmul(&w, &x.part(0..n), 0..rows, &mut Tile::new(want, n, rows, rows), &mut []);
    let want = &*want;
    let mut compare = |what, ts: Range<usize>, rows: Range<usize>, gap: usize| {
        let (width, ld) = (rows.len(), rows.len() + gap);
        let y = &mut y[..gap + ts.len() * ld];
        y.fill(UNTOUCHED);
        let len = b.matmul_scratch(p.format, p.cols, ts.len());
        let mut tile = Tile::new(&mut y[gap..], ts.len(), width, ld);
        let scratch = scratch.get_mut(..len).unwrap_or_else(|| {
            panic!("`matmul_scratch` of {} asks for more where rows are fewer", b.name())
        });
        b.matmul(&w, &x.part(ts.clone()), rows.clone(), &mut tile, scratch);
        let case = Case { rows: width, n: ts.len(), ..p.case(what) };
        same_tile(&case, (y, gap, width, ld), |t| &want[(ts.start + t) * p.rows + rows.start..])
    };
    compare("matmul", 0..n, 0..rows, p.gap)?;
    for t in 0..n {
        compare("matmul, one row of activations", t..t + 1, 0..rows, 0)?;
    }
    let (row, col) = (r.below(rows + 1), r.below(n + 1));
    for rows in [0..row, row..rows] {
        for ts in [0..col, col..n] {
            compare("matmul, a part", ts, rows.clone(), p.gap)?;
        }
    }
    Ok(())
}

/// [`Backend::dequantize_row`], every row of the weights of `p`.
///
/// # Errors
/// [`EquivalenceError`].
///
/// # Panics
/// As [`matmul`].
pub fn dequantize<'m>(
    b: &dyn Backend,
    p: &Product,
    room: &mut dyn Room<'m>,
) -> Result<(), EquivalenceError> {
    let p = &p.given_to(b);
    let w = p.weights(&mut Rng::new(p.seed), room)?;
    let (want, got) = (take(room, 0, p.cols)?, take(room, p.skew, p.cols)?);
    for row in 0..p.rows {
        Scalar.dequantize_row(&w, row, want);
        b.dequantize_row(&w, row, got);
        same(&p.case("dequantize_row"), want, got)?;
    }
    Ok(())
}

/// [`Backend::quantize`] of `blocks` of 32, to codes of 16 bits where `fine`.
///
/// # Errors
/// [`EquivalenceError`].
pub fn quantize<'m>(
    b: &dyn Backend,
    blocks: usize,
    fine: bool,
    kind: Kind,
    seed: u64,
    room: &mut dyn Room<'m>,
) -> Result<(), EquivalenceError> {
    let r = &mut Rng::new(seed);
    let (len, skew) = (blocks * ACT_BLOCK, r.below(16));
    let x = take(room, skew, len)?;
    fill_floats(r, x, kind);
    let mut run = |b: &dyn Backend| {
        let (q, lo) = (take(room, skew, len)?, take(room, skew, len)?);
        let (d, s) = (take(room, skew, blocks)?, take(room, skew, len / ACT_SUM)?);
        let low = if fine { Some(&mut *lo) } else { None };
        b.quantize(x, Q8RowMut { q, lo: low, d, s });
        Ok::<_, EquivalenceError>((&*q, &*lo, &*d, &*s))
    };
    let (want, got) = (run(&Scalar)?, run(b)?);
    let case = |operation| Case {
        operation,
        format: if fine { "16 bits" } else { "8 bits" },
        rows: 1,
        cols: len,
        n: 1,
        kind,
        seed,
    };
    same_ints(&case("quantize, codes"), want.0, got.0)?;
    same_ints(&case("quantize, lower codes"), want.1, got.1)?;
    same(&case("quantize, scales"), want.2, got.2)?;
    same_ints(&case("quantize, sums"), want.3, got.3)
}

/// [`Backend::quantize_wide`] of `units` of 128, with one scale where `per_row`.
///
/// # Errors
/// [`EquivalenceError`].
pub fn quantize_wide<'m>(
    b: &dyn Backend,
    units: usize,
    per_row: bool,
    kind: Kind,
    seed: u64,
    room: &mut dyn Room<'m>,
) -> Result<(), EquivalenceError> {
    let r = &mut Rng::new(seed);
    let (len, skew) = (units * WIDE_UNIT, r.below(16));
    let groups = len.div_ceil(WIDE_BLOCK);
    let x = take(room, skew, len)?;
    fill_floats(r, x, kind);
    let mut run = |b: &dyn Backend| {
        let q = take(room, skew, len)?;
        let (d, s) = (take(room, skew, groups)?, take(room, skew, groups)?);
        b.quantize_wide(x, WideRowMut { q, d, s }, per_row);
        Ok::<_, EquivalenceError>((&*q, &*d, &*s))
    };
    let (want, got) = (run(&Scalar)?, run(b)?);
    let case = |operation| {
        let format = if per_row { "a scale for the row" } else { "a scale for 256" };
        Case { operation, format, rows: 1, cols: len, n: 1, kind, seed }
    };
    same_ints(&case("quantize_wide, codes"), want.0, got.0)?;
    same(&case("quantize_wide, scales"), want.1, got.1)?;
    same_ints(&case("quantize_wide, sums"), want.2, got.2)
}
