//! Operations element by element, and over one row.

use teff_kernels::{
    ACT_BLOCK, ACT_SUM, Backend, DeltaInputs, DeltaStart, DenseActivations, Q8RowMut, RopeKind,
    Tile, WIDE_BLOCK, WIDE_UNIT, WideRowMut,
};

use crate::Run;
use crate::inputs::Kind;

/// The longest row.
const LEN: usize = 320;

pub(crate) fn check(run: &mut Run<'_>) {
    for kind in [Kind::Plain, Kind::Short, Kind::Wild] {
        for len in [run.r.below(LEN), LEN] {
            elementwise(run, kind, len);
            select(run, kind, len);
        }
        delta_rule(run, kind);
        for fine in [false, true] {
            quantize(run, kind, fine);
        }
        for per_row in [false, true] {
            quantize_wide(run, kind, per_row);
        }
    }
}

fn elementwise(run: &mut Run<'_>, kind: Kind, len: usize) {
    let mut inputs = [[0.0; LEN]; 3];
    for x in &mut inputs {
        run.r.floats(&mut x[..len], kind);
    }
    let [x, w, bias] = [&inputs[0][..len], &inputs[1][..len], &inputs[2][..len]];
    let eps = [0.0, 1e-5, 1e-12][run.r.below(3)];
    let factor = run.r.float(kind);
    // Each writes the row that it is given, which holds x.
    type Operation<'a> = &'a dyn Fn(&dyn Backend, &mut [f32]);
    let operations: [Operation<'_>; 20] = [
        &|b, y| b.layer_norm(x, w, bias, eps, y),
        &|b, y| b.rms_norm(x, w, eps, y),
        &|b, y| b.add(y, w),
        &|b, y| b.mul(y, w),
        &|b, y| b.softmax(y),
        // Of one tap, or two where the row is of even length.
        &|b, y| b.causal_conv(w, x, &mut y[..len / (2 - len % 2)]),
        &|b, y| b.scale(y, factor),
        &|b, y| b.gelu(y),
        &|b, y| b.gelu_mul(y, w),
        &|b, y| b.silu(y),
        &|b, y| b.silu_mul(y, w),
        &|b, y| b.softcap(y, factor),
        &|b, y| y.fill(b.mean_square(y)),
        &|b, y| b.gaussian_topk(y, factor),
        &|b, y| b.relu2(y),
        &|b, y| b.relu2_mul(y, w),
        &|b, y| b.sigmoid(y),
        &|b, y| b.l2_norm(y, eps, 0.25),
        &|b, y| b.decay(y, w, bias),
        &|b, y| b.swiglu_clamped(y, w, 1.702, 7.0),
    ];
    for operation in operations {
        let mut out = [[0.0; LEN]; 2];
        for (b, out) in run.both().into_iter().zip(&mut out) {
            let out = &mut out[..len];
            out.copy_from_slice(x);
            operation(b, out);
        }
        run.floats([&out[0], &out[1]]);
    }

    let head_dim = run.r.below(40) + 1;
    let turned = head_dim / 2 * 2;
    let table = &inputs[1][..turned];
    for kind in [RopeKind::Norm, RopeKind::NeoX] {
        let mut out = [inputs[0]; 2];
        for (b, out) in run.both().into_iter().zip(&mut out) {
            b.rope(&mut out[..len / head_dim * head_dim], head_dim, table, kind);
        }
        run.floats([&out[0], &out[1]]);
    }
}

/// The gated delta rule of a head of eight rows, whose columns and tokens are the rest.
fn delta_rule(run: &mut Run<'_>, kind: Kind) {
    const ROWS: usize = 8;
    let (n, columns) = (1 + run.r.below(4), 1 + run.r.below(40));
    let mut x = [[0.0; 2 * ROWS + 40 + 2]; 4];
    for row in &mut x {
        run.r.floats(row, kind);
    }
    let width = x[0].len();
    let all = DenseActivations::new(x.as_flattened(), n, width, width);
    let inputs = DeltaInputs {
        q: all.cols_of(0, ROWS),
        k: all.cols_of(ROWS, ROWS),
        v: all.cols_of(2 * ROWS, columns),
        decay: all.cols_of(width - 2, 1),
        beta: all.cols_of(width - 1, 1),
    };
    let mut out = [[0.0; 4 * 40]; 2];
    for (b, out) in run.both().into_iter().zip(&mut out) {
        let mut state = [0.0; 48 * ROWS];
        let state = &mut state[..columns.div_ceil(16) * 16 * ROWS];
        let mut tile = Tile::new(out, n, columns, 40);
        b.delta_rule(DeltaStart::Zeros, state, &inputs, &mut tile);
    }
    run.floats([&out[0], &out[1]]);
}

fn select(run: &mut Run<'_>, kind: Kind, len: usize) {
    let mut x = [0.0; LEN];
    run.r.floats(&mut x[..len], kind);
    if run.r.below(2) == 0 {
        // Few values, many of them equal.
        for x in &mut x {
            *x = (*x * 4.0) as i32 as f32;
        }
    }
    let x = &x[..len];
    let k = run.r.below(50);
    let (mut out, mut found) = ([[(0, 0.0); 50]; 2], [[0; 4]; 2]);
    for (i, b) in run.both().into_iter().enumerate() {
        let top = b.top_k(x, &mut out[i][..k]);
        let nan = top.nan.map_or(-1, |i| i as i32);
        found[i] = [b.argmax(x) as i32, top.len as i32, nan, k as i32];
    }
    run.ints([&found[0], &found[1]]);
    for (want, got) in out[0].iter().zip(&out[1]).take(found[0][1] as usize) {
        run.word(want.0, got.0);
        run.floats([&[want.1], &[got.1]]);
    }
}

fn quantize(run: &mut Run<'_>, kind: Kind, fine: bool) {
    let mut x = [0.0; LEN];
    run.r.floats(&mut x, kind);
    let (mut q, mut lo) = ([[0; LEN]; 2], [[0; LEN]; 2]);
    let (mut d, mut s) = ([[0.0; LEN / ACT_BLOCK]; 2], [[0; LEN / ACT_SUM]; 2]);
    for (i, b) in run.both().into_iter().enumerate() {
        let lo = if fine { Some(&mut lo[i][..]) } else { None };
        b.quantize(&x, Q8RowMut { q: &mut q[i], lo, d: &mut d[i], s: &mut s[i] });
    }
    run.codes([&q[0], &q[1]]);
    run.codes([&lo[0], &lo[1]]);
    run.floats([&d[0], &d[1]]);
    run.ints([&s[0], &s[1]]);
}

fn quantize_wide(run: &mut Run<'_>, kind: Kind, per_row: bool) {
    // A whole group and a short one.
    const LEN: usize = WIDE_BLOCK + WIDE_UNIT;
    let mut x = [0.0; LEN];
    run.r.floats(&mut x, kind);
    let (mut q, mut d, mut s) = ([[0; LEN]; 2], [[0.0; 2]; 2], [[0; 2]; 2]);
    for (i, b) in run.both().into_iter().enumerate() {
        let out = WideRowMut { q: &mut q[i], d: &mut d[i], s: &mut s[i] };
        b.quantize_wide(&x, out, per_row);
    }
    run.codes([&q[0], &q[1]]);
    run.floats([&d[0], &d[1]]);
    run.ints([&s[0], &s[1]]);
}
