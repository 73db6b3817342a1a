//! The scalar truth against independent truth: f64 over the same numbers, with the bound that the
//! arithmetic gives (`c * k * eps * sum|terms|`).

mod common;

use std::num::NonZeroUsize;

use common::{Kind, OwnedActivations, Placed, Rng, floats, weights};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use teff_kernels::blocks::*;
use teff_kernels::{
    AttentionParams, Backend, CodeBlock, DenseActivations, Format, KvFormat, KvHead, KvLayout,
    Matrix, Q8RowMut, Scalar, Tile, dequantize_row, quantize_row,
};

/// The unit roundoff of f32: half the distance from 1 to the next float.
const EPS: f64 = 1.0 / (1 << 24) as f64;

fn within(got: f32, want: f64, bound: f64, what: &str) -> TestCaseResult {
    let error = (f64::from(got) - want).abs();
    prop_assert!(error <= bound, "{what}: {got:e}, not {want:e}: off by {error:e} > {bound:e}");
    Ok(())
}

/// The roundings that a sum of sixteen strided partial sums and the halving tree puts a term
/// through, after the one that made the term.
fn depth(n: usize) -> f64 {
    (n.div_ceil(16) + 4) as f64
}

/// The outputs of `rows` rows for `n` columns, by the scalar truth.
fn outputs(w: &Matrix<'_>, x: &OwnedActivations, n: usize) -> Vec<f32> {
    let mut y = vec![0.0; n * w.rows()];
    let mut scratch = Placed::zeroed(Scalar.matmul_scratch(w.format(), w.cols(), n));
    let mut tile = Tile::new(&mut y, n, w.rows(), w.rows());
    Scalar.matmul(w, &x.get(), 0..w.rows(), &mut tile, scratch.get_mut());
    y
}

fn dense_product(format: Format, rows: usize, cols: usize, n: usize, seed: u64) -> TestCaseResult {
    let r = &mut Rng::new(seed);
    let bytes = weights(r, format, rows, cols, Kind::Plain);
    let w = Matrix::new(format, rows, cols, &bytes).unwrap();
    let x = OwnedActivations::new(r, format, n, cols, Kind::Plain, false);
    let y = outputs(&w, &x, n);
    let mut row = vec![0.0; cols];
    for i in 0..rows {
        dequantize_row(format, &bytes[i * w.row_bytes()..][..w.row_bytes()], &mut row);
        for t in 0..n {
            let x = &x.x[t * cols..][..cols];
            let terms: Vec<f64> =
                row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).collect();
            let bound = depth(cols) * EPS * terms.iter().map(|t| t.abs()).sum::<f64>();
            // What higher powers of EPS and the f64 itself add.
            within(y[t * rows + i], terms.iter().sum(), bound * 1.0001 + 1e-13, "a product")?;
        }
    }
    Ok(())
}

/// A product with weights of codes, whose scales, minimums and codes are taken one by one.
fn product<B: CodeBlock>(
    rows: usize,
    blocks: usize,
    n: usize,
    fine: bool,
    seed: u64,
) -> TestCaseResult {
    let r = &mut Rng::new(seed);
    let cols = blocks * B::LEN;
    let bytes = weights(r, B::FORMAT, rows, cols, Kind::Plain);
    let w = Matrix::new(B::FORMAT, rows, cols, &bytes).unwrap();
    let x = OwnedActivations::new(r, B::FORMAT, n, cols, Kind::Plain, fine);
    let y = outputs(&w, &x, n);
    for i in 0..rows {
        let row = w.row::<B>(i);
        for t in 0..n {
            let (mut want, mut size) = (0.0, 0.0);
            for first in (0..cols).step_by(B::SUB) {
                let (b, at) = (&row[first / B::LEN], first % B::LEN);
                let codes = &b.codes(at / 32)[at % 32..][..B::SUB];
                let code = |k: usize| i64::from(x.code(t * cols + first + k));
                let isum: i64 = (0..B::SUB).map(|k| i64::from(codes[k]) * code(k)).sum();
                let xsum: i64 = (0..B::SUB).map(code).sum();
                let dx = f64::from(x.d[(t * cols + first) / 32]);
                let product = f64::from(b.scale(at / B::SUB)) * dx * isum as f64;
                let offset = f64::from(b.min(at / B::SUB)) * dx * xsum as f64;
                want += product + offset;
                size += product.abs() + offset.abs();
            }
            // Three roundings make a product or an offset, one joins them, and one is for every
            // sub-block that is added.
            let bound = (cols / B::SUB + 4) as f64 * EPS * size;
            within(y[t * rows + i], want, bound * 1.0001 + 1e-13, B::FORMAT.name())?;
        }
    }
    Ok(())
}

fn norm(x: &[f32], w: &[f32], b: &[f32], eps: f32) -> TestCaseResult {
    let mut y = vec![0.0; x.len()];
    Scalar.layer_norm(x, w, b, eps, &mut y);
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let size = x.iter().map(|&x| f64::from(x).abs()).sum::<f64>() / n;
    let var = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let r = 1.0 / (var + f64::from(eps)).sqrt();
    let shift = (depth(x.len()) + 1.0) * EPS * size; // of the mean
    // Relative error of 1/sqrt(var + eps): half of the variance's (terms with three roundings,
    // shifted by the mean's error, of which only the square stays in the sum), and three roundings.
    let scale = 0.5 * ((depth(x.len()) + 5.0) * EPS + shift * shift * r * r) + 4.0 * EPS;
    for i in 0..x.len() {
        let (x, w, b) = (f64::from(x[i]), f64::from(w[i]), f64::from(b[i]));
        let t = (x - mean) * r * w;
        let bound = (shift + EPS * (x - mean).abs()) * r * w.abs()
            + (scale + 3.0 * EPS) * t.abs()
            + EPS * (t + b).abs();
        within(y[i], t + b, bound * 1.001 + 1e-30, "layer_norm")?;
    }
    Ok(())
}

/// The values that the cache keeps of one key or value.
fn kept(format: KvFormat, x: &[f32]) -> Vec<f32> {
    match format {
        KvFormat::F32 => x.to_vec(),
        KvFormat::F16 => {
            let (mut h, mut back) = (vec![0; x.len() * 2], vec![0.0; x.len()]);
            quantize_row(Format::F16, x, &mut h);
            dequantize_row(Format::F16, &h, &mut back);
            back
        }
        KvFormat::Q8 => {
            let m = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            x.iter().map(|x| m / 127.0 * (x * (127.0 / m)).round_ties_even()).collect()
        }
    }
}

fn attention(
    format: KvFormat,
    hd: usize,
    heads: usize,
    position: usize,
    window: Option<NonZeroUsize>,
    seed: u64,
) -> TestCaseResult {
    let r = &mut Rng::new(seed);
    let softcap = [0.0, 0.0, 2.0][r.below(3)];
    let sinks = if r.below(3) == 0 { floats(r, heads, Kind::Plain) } else { vec![] };
    let (n, end) = (5, position + 5);
    let layout = KvLayout { format, head_dim: hd, capacity: end.next_multiple_of(64) };
    let mut keys = Placed::zeroed(layout.key_bytes());
    let mut values = Placed::zeroed(layout.value_bytes());
    let (mut ks, mut vs) = (vec![], vec![]);
    for p in 0..end {
        let (k, v) = (floats(r, hd, Kind::Plain), floats(r, hd, Kind::Plain));
        Scalar.store_key(&layout, keys.get_mut(), p, &k);
        Scalar.store_value(&layout, values.get_mut(), p, &v);
        ks.push(kept(format, &k));
        vs.push(kept(format, &v));
    }
    let q = floats(r, n * heads * hd, Kind::Plain);
    let mut y = vec![0.0; n * heads * hd];
    let scale = 4.0 / (hd as f32).sqrt();
    let head = KvHead::new(layout, keys.get(), values.get());
    let width = heads * hd;
    let activations = DenseActivations::new(&q, n, width, width);
    let mut tile = Tile::new(&mut y, n, width, width);
    let params = AttentionParams { window, scale, softcap, sinks: &sinks };
    Scalar.attend(&activations, &head, position, &params, &mut tile);
    for i in 0..n * heads {
        let to = position + i / heads + 1;
        let visible = to.saturating_sub(window.map_or(usize::MAX, NonZeroUsize::get))..to;
        let (y, q) = (&y[i * hd..][..hd], &q[i * hd..][..hd]);
        let term = |j: usize, d: usize| f64::from(q[d]) * f64::from(ks[j][d]) * f64::from(scale);
        let cap = f64::from(softcap);
        let capped = |score: f64| if cap > 0.0 { cap * (score / cap).tanh() } else { score };
        let score = |j: usize| capped((0..hd).map(|d| term(j, d)).sum::<f64>());
        let size = |j: usize| (0..hd).map(|d| term(j, d).abs()).sum::<f64>();
        let sink = sinks.get(i % heads).map(|s| f64::from(*s));
        let top = visible.clone().map(score).chain(sink).fold(f64::MIN, f64::max);
        let e: Vec<f64> = visible.clone().map(|j| (score(j) - top).exp()).collect();
        let sum = e.iter().sum::<f64>() + sink.map_or(0.0, |s| (s - top).exp());
        // A score's error (sum, scale of the key, rounded scale; and of a cap, whose slope is at most 1)
        // turns into a relative one of its exponential; a difference of two scores is rounded once more, as is each exponential
        // (2 ULP), one for every block where the maximum grows; sums as long as the cache.
        let largest = visible.clone().map(size).fold(0.0, f64::max);
        let scores = (largest * (hd as f64 + 6.0) + 3.0 * cap) * EPS;
        let blocks = visible.len().div_ceil(64) as f64 + 1.0;
        let terms = 2.0 * visible.len() as f64 + 20.0;
        let relative = 4.0 * scores + (8.0 * (blocks + 1.0) + terms) * EPS;
        for (d, y) in y.iter().enumerate() {
            let weighted = || visible.clone().zip(&e).map(|(j, e)| e * f64::from(vs[j][d]));
            let want = weighted().sum::<f64>() / sum;
            let size = weighted().map(f64::abs).sum::<f64>() / sum;
            within(*y, want, relative * size, "attention")?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn dense_products_are_right(f in 0..3usize, rows in 1..8usize, cols in 1..900usize, n in 1..4usize, seed: u64) {
        dense_product([Format::F32, Format::F16, Format::BF16][f], rows, cols, n, seed)?;
    }

    #[test]
    fn products_are_right(rows in 1..4usize, blocks in 1..5usize, n in 1..3usize, fine: bool, seed: u64) {
        macro_rules! each {
            ([] dense $dense:tt codes { $(
                $(#[$doc:meta])* $name:ident $block:ident $id:literal $len:literal $bytes:literal
                [$($at:tt)*] $trailer:literal $built:tt;
            )* } ternary $ternary:tt) => {
                // 5 to 20 blocks of 32, or fewer of more.
                $(product::<$block>(rows, blocks * (160usize / $len).max(1), n, fine, seed)?;)*
            };
        }
        teff_kernels::formats!([each]);
    }

    #[test]
    fn layer_norm_is_right(len in 2..900usize, offset in -3.0f32..3.0, seed: u64) {
        let r = &mut Rng::new(seed);
        let x: Vec<f32> = (0..len).map(|_| r.float() + offset).collect();
        norm(&x, &floats(r, len, Kind::Plain), &floats(r, len, Kind::Plain), 1e-5)?;
    }

    #[test]
    fn attention_is_right(f in 0..3usize, hd in 1..130usize, position in 0..300usize, seed: u64) {
        attention(KvFormat::ALL[f], hd, 1, position, None, seed)?;
    }

    #[test]
    fn attention_of_groups_with_windows_is_right(f in 0..3usize, hd in 1..40usize, heads in 1..6usize, position in 0..300usize, window in 0..200usize, seed: u64) {
        attention(KvFormat::ALL[f], hd, heads, position, NonZeroUsize::new(window), seed)?;
    }

    /// Half a step of the scale, and what rounding the scale itself costs the largest code.
    #[test]
    fn quantised_weights_come_back(seed: u64, exponent in -10..10) {
        let r = &mut Rng::new(seed);
        let x: Vec<f32> = (0..32).map(|_| r.float() * 2f32.powi(exponent)).collect();
        let m = f64::from(x.iter().fold(0.0f32, |m, x| m.max(x.abs())));
        let half = 1.0 / (1 << 11) as f64; // the roundoff of f16, and of its smallest number
        let tiny = 2f64.powi(-25);
        for (format, step, codes) in [(Format::Q8_0, m / 127.0, 127.0), (Format::Q4_0, m / 8.0, 8.0)] {
            let mut bytes = vec![0; format.block_bytes()];
            let mut back = vec![0.0; 32];
            quantize_row(format, &x, &mut bytes);
            dequantize_row(format, &bytes, &mut back);
            // Q4_0's codes reach from -8 to 7 only: the last step upwards is a whole one.
            let steps = if format == Format::Q4_0 { 1.0 } else { 0.5 };
            for (x, y) in x.iter().zip(&back) {
                let bound = step * (steps + 1e-5) + codes * (step * half + tiny);
                within(*y, f64::from(*x), bound, format.name())?;
            }
        }
    }

    #[test]
    fn quantised_activations_come_back(seed: u64, exponent in -100..100, fine: bool) {
        let r = &mut Rng::new(seed);
        let x: Vec<f32> = (0..64).map(|_| r.float() * 2f32.powi(exponent)).collect();
        let (mut q, mut lo, mut d, mut s) = ([0; 64], [0; 64], [0.0; 2], [0; 4]);
        let low = fine.then_some(&mut lo[..]);
        Scalar.quantize(&x, Q8RowMut { q: &mut q, lo: low, d: &mut d, s: &mut s });
        let levels = if fine { 127.0 * 255.0 } else { 127.0 };
        for (i, x) in x.iter().enumerate() {
            let d = f64::from(d[i / 32]);
            let code = if fine { 255 * i32::from(q[i]) + i32::from(lo[i]) } else { i32::from(q[i]) };
            // Half a step, and the roundings of levels / max|x|, of the product and of the scale.
            let bound = d * (0.5 + levels * 3.0 * EPS);
            within(*x, d * f64::from(code), bound, "an activation")?;
        }
    }
}

/// Every 16-bit code falls into two planes of -127..=127.
#[test]
fn fine_codes_fall_into_two_planes() {
    const TOP: i32 = 127 * 255;
    for code in -TOP..=TOP {
        let mut x = [0.0; 32];
        (x[0], x[1]) = (TOP as f32, code as f32);
        let (mut q, mut lo, mut d, mut s) = ([0; 32], [0; 32], [0.0], [0; 2]);
        let out = Q8RowMut { q: &mut q, lo: Some(&mut lo), d: &mut d, s: &mut s };
        Scalar.quantize(&x, out);
        assert_eq!(
            (255 * i32::from(q[1]) + i32::from(lo[1]), d[0], s[0] + s[1]),
            (code, 1.0, TOP + code)
        );
        assert!(q[1] != -128 && lo[1] != -128);
    }
}

/// Numbers that have no code, through the quantiser.
#[test]
fn activations_without_a_code_are_zero() {
    let quantize = |x: &[f32; 32]| {
        let (mut q, mut d, mut s) = ([1; 32], [1.0], [1; 2]);
        Scalar.quantize(x, Q8RowMut { q: &mut q, lo: None, d: &mut d, s: &mut s });
        (q, d[0], s[0] + s[1])
    };
    assert_eq!(quantize(&[0.0; 32]), ([0; 32], 0.0, 0));
    let tiny = f32::from_bits(1);
    assert_eq!(quantize(&[tiny; 32]), ([0; 32], 0.0, 0));
    let mut x = [0.5; 32];
    x[7] = f32::NAN;
    x[30] = 1.0;
    let (q, d, _) = quantize(&x);
    assert_eq!((q[0], q[7], q[30], d), (64, 0, 127, 1.0 / 127.0)); // 63.5 goes to even
    x[7] = f32::INFINITY;
    let (q, d, s) = quantize(&x);
    assert_eq!((q, d, s), ([0; 32], f32::INFINITY, 0));
}
