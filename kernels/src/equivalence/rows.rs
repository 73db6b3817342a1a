//! Operations on rows of floats.

use super::random::{Kind, Rng, fill_floats, float};
use super::room::{Room, take};
use super::{Case, EquivalenceError, UNTOUCHED, bits, equal, same};
use crate::{Backend, RopeKind, Scalar};

/// A row of floats.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Elements.
    pub len: usize,
    /// Elements of its address beyond a multiple of 64 bytes.
    pub skew: usize,
    /// Kind of the numbers.
    pub kind: Kind,
    /// Of its numbers.
    pub seed: u64,
}

impl Row {
    fn case(&self, operation: &'static str) -> Case {
        let Row { len: cols, kind, seed, .. } = *self;
        Case { operation, format: "", rows: 1, cols, n: 1, kind, seed }
    }
}

/// Operation on a row `y`, given as long ones and a number: `x` (which `y` is at first), factors,
/// terms, and the number.
type RowOp = fn(&dyn Backend, &mut [f32], [&[f32]; 3], f32);

const ROW_OPS: [(&str, RowOp); 19] = [
    ("layer_norm", |b, y, [x, w, bias], eps| b.layer_norm(x, w, bias, eps.abs(), y)),
    ("rms_norm", |b, y, [x, w, _], eps| b.rms_norm(x, w, eps.abs(), y)),
    ("add", |b, y, [_, w, _], _| b.add(y, w)),
    ("mul", |b, y, [_, w, _], _| b.mul(y, w)),
    ("softmax", |b, y, _, _| b.softmax(y)),
    ("scale", |b, y, _, factor| b.scale(y, factor)),
    ("gelu", |b, y, _, _| b.gelu(y)),
    ("gelu_mul", |b, y, [_, w, _], _| b.gelu_mul(y, w)),
    ("silu", |b, y, _, _| b.silu(y)),
    ("silu_mul", |b, y, [_, w, _], _| b.silu_mul(y, w)),
    ("sigmoid", |b, y, _, _| b.sigmoid(y)),
    ("l2_norm", |b, y, [_, w, _], eps| b.l2_norm(y, eps.abs(), w.first().copied().unwrap_or(0.5))),
    ("decay", |b, y, [_, w, bias], _| b.decay(y, w, bias)),
    ("swiglu_clamped", |b, y, [_, w, _], n| b.swiglu_clamped(y, w, 1.702, n.abs())),
    ("softcap", |b, y, _, cap| b.softcap(y, cap)),
    ("mean_square", |b, y, _, _| y.fill(b.mean_square(y))),
    ("gaussian_topk", |b, y, _, cut| b.gaussian_topk(y, cut)),
    ("relu2", |b, y, _, _| b.relu2(y)),
    ("relu2_mul", |b, y, [_, w, _], _| b.relu2_mul(y, w)),
];

/// Norms, sums, products, softmax, activations and gates; gives the number of cases.
///
/// # Errors
/// [`EquivalenceError`].
pub fn rows<'m>(
    b: &dyn Backend,
    row: &Row,
    room: &mut dyn Room<'m>,
) -> Result<u64, EquivalenceError> {
    let r = &mut Rng::new(row.seed);
    let (x, w) = (take(room, row.skew, row.len)?, take(room, 0, row.len)?);
    let bias = take(room, 1, row.len)?;
    for v in [&mut *x, &mut *w, &mut *bias] {
        fill_floats(r, v, row.kind);
    }
    let number = [0.0, 1e-5, 1e-12, float(r, row.kind)][r.below(4)];
    let (want, got) = (take(room, 0, row.len)?, take(room, row.skew, row.len)?);
    for (name, op) in ROW_OPS {
        want.copy_from_slice(x);
        got.copy_from_slice(x);
        op(&Scalar, want, [x, w, bias], number);
        op(b, got, [x, w, bias], number);
        same(&row.case(name), want, got)?;
    }
    Ok(ROW_OPS.len() as u64)
}

/// [`Backend::causal_conv`] of so many taps over the columns of `row`; gives the number of cases.
///
/// # Errors
/// [`EquivalenceError`].
///
/// # Panics
/// If there is no tap.
pub fn causal_conv<'m>(
    b: &dyn Backend,
    row: &Row,
    taps: usize,
    room: &mut dyn Room<'m>,
) -> Result<u64, EquivalenceError> {
    let r = &mut Rng::new(row.seed);
    let (t, x) = (take(room, 1, taps * row.len)?, take(room, row.skew, taps * row.len)?);
    fill_floats(r, t, row.kind);
    fill_floats(r, x, row.kind);
    let (want, got) = (take(room, 0, row.len)?, take(room, row.skew, row.len)?);
    got.fill(UNTOUCHED);
    Scalar.causal_conv(t, x, want);
    b.causal_conv(t, x, got);
    same(&Case { rows: taps, ..row.case("causal_conv") }, want, got)?;
    Ok(1)
}

/// [`Backend::rope`] of both kinds: so many heads of so many pairs and a rest that isn't turned, at the
/// address and with the numbers of `row`; gives the number of cases.
///
/// # Errors
/// [`EquivalenceError`].
pub fn rope<'m>(
    b: &dyn Backend,
    row: &Row,
    (heads, pairs, rest): (usize, usize, usize),
    room: &mut dyn Room<'m>,
) -> Result<u64, EquivalenceError> {
    let r = &mut Rng::new(row.seed);
    let head_dim = (2 * pairs + rest).max(1);
    let len = heads * head_dim;
    let (x, table) = (take(room, 0, len)?, take(room, 0, 2 * pairs)?);
    fill_floats(r, x, row.kind);
    fill_floats(r, table, row.kind);
    let (want, got) = (take(room, 0, len)?, take(room, row.skew, len)?);
    for (name, kind) in [("rope, neighbours", RopeKind::Norm), ("rope, halves", RopeKind::NeoX)] {
        want.copy_from_slice(x);
        got.copy_from_slice(x);
        Scalar.rope(want, head_dim, table, kind);
        b.rope(got, head_dim, table, kind);
        same(&Case { rows: heads, cols: head_dim, ..row.case(name) }, want, got)?;
    }
    Ok(2)
}

/// [`Backend::argmax`], and [`Backend::top_k`] of `k`; every other time there are many equal elements.
/// Gives the number of cases.
///
/// # Errors
/// [`EquivalenceError`].
pub fn select<'m>(
    b: &dyn Backend,
    row: &Row,
    k: usize,
    room: &mut dyn Room<'m>,
) -> Result<u64, EquivalenceError> {
    const MOST: usize = 256;
    let r = &mut Rng::new(row.seed);
    let x = take(room, row.skew, row.len)?;
    fill_floats(r, x, row.kind);
    if r.below(2) == 0 {
        // Zeros of both signs among them.
        let values = [0.0, -0.0, 1.0, f32::NEG_INFINITY, f32::NAN, float(r, row.kind)];
        x.fill_with(|| values[r.below(6)]);
    }
    equal(&row.case("argmax"), 0, Scalar.argmax(x) as u32, b.argmax(x) as u32)?;
    let k = k.min(MOST);
    let case = Case { n: k, ..row.case("top_k") };
    let (mut want, mut got) = ([(u32::MAX, f32::NAN); MOST], [(u32::MAX, f32::NAN); MOST]);
    let (w, g) = (Scalar.top_k(x, &mut want[..k]), b.top_k(x, &mut got[..k]));
    let nan = |at: Option<usize>| at.map_or(u32::MAX, |at| at as u32);
    equal(&Case { operation: "top_k, the number found", ..case }, 0, w.len as u32, g.len as u32)?;
    equal(&Case { operation: "top_k, the first NaN", ..case }, 0, nan(w.nan), nan(g.nan))?;
    for (i, (w, g)) in want[..w.len].iter().zip(&got).enumerate() {
        equal(&Case { operation: "top_k, indices", ..case }, i, w.0, g.0)?;
        equal(&case, i, bits(w.1), bits(g.1))?;
    }
    Ok(2)
}
