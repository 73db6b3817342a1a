//! Laws of ternary weights: the truth against f64, one result whatever format holds the weights, and
//! sums at the limits of what narrow integers hold.

mod common;

use common::{Kind, OwnedActivations, Placed, Rng, difference, weights};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use teff_kernels::blocks::{I2_S, TQ1_0, TQ2_0};
use teff_kernels::{
    Activations, Backend, Cpu, Format, Matrix, MatrixError, Scalar, TernaryBlock, Tile,
    WideActivations, WideRowMut, dequantize_row, quantize_row,
};

const FORMATS: [Format; 3] = [Format::TQ1_0, Format::TQ2_0, Format::I2_S];
/// The unit roundoff of f32.
const EPS: f64 = 1.0 / (1 << 24) as f64;

fn backends() -> Vec<Cpu> {
    Cpu::NAMES.iter().filter_map(|name| Cpu::by_name(name).ok()).collect()
}

fn outputs(b: &dyn Backend, w: &Matrix<'_>, x: &Activations<'_>) -> Vec<f32> {
    let mut y = vec![0.0; x.n() * w.rows()];
    let mut scratch = Placed::zeroed(b.matmul_scratch(w.format(), w.cols(), x.n()));
    let mut tile = Tile::new(&mut y, x.n(), w.rows(), w.rows());
    b.matmul(w, x, 0..w.rows(), &mut tile, scratch.get_mut());
    y
}

/// Products against f64, with weights and scales taken one by one.
fn product<B: TernaryBlock>(rows: usize, cols: usize, n: usize, seed: u64) -> TestCaseResult {
    let r = &mut Rng::new(seed);
    let cols = cols / B::LEN * B::LEN;
    let bytes = weights(r, B::FORMAT, rows, cols, Kind::Plain);
    let w = Matrix::new(B::FORMAT, rows, cols, &bytes).unwrap().with_scale(r.float());
    let x = OwnedActivations::new(r, B::FORMAT, n, cols, Kind::Plain, false);
    let y = outputs(&Scalar, &w, &x.get());
    let groups = cols.div_ceil(256);
    for i in 0..rows {
        let row = w.row::<B>(i);
        for t in 0..n {
            let mut terms = vec![0.0; groups];
            for k in 0..cols {
                let (b, at) = (&row[k / B::LEN], k % B::LEN);
                let weight = f64::from(b.scale().unwrap_or(w.scale()))
                    * f64::from(b.codes(at / 32)[at % 32]);
                let act = f64::from(x.d[t * groups + k / 256]) * f64::from(x.code(t * cols + k));
                terms[k / 256] += weight * act;
            }
            // A group's sum is exact; two roundings make a term of it, and one is for every group
            // that is added.
            let (want, size) =
                (terms.iter().sum::<f64>(), terms.iter().map(|t| t.abs()).sum::<f64>());
            let bound = (groups + 2) as f64 * EPS * size * 1.0001 + 1e-13;
            let error = (f64::from(y[t * rows + i]) - want).abs();
            prop_assert!(error <= bound, "{}: off by {error:e} > {bound:e}", B::FORMAT);
        }
    }
    Ok(())
}

/// `rows` x `cols` weights of 0 and plus or minus `scale`, which f16 has.
fn ternary(r: &mut Rng, rows: usize, cols: usize, scale: f32) -> Vec<f32> {
    (0..rows * cols)
        .map(|i| if i % 256 == 0 { scale } else { scale * (r.below(3) as f32 - 1.0) })
        .collect()
}

/// Rows stored in a format; in I2_S, divided by the scale.
fn stored(format: Format, x: &[f32], cols: usize, scale: f32) -> Vec<u8> {
    let mut bytes = vec![0; x.len() / cols * format.row_bytes(cols).unwrap()];
    let unit = if format == Format::I2_S { scale } else { 1.0 };
    for (x, out) in x.chunks(cols).zip(bytes.chunks_mut(format.row_bytes(cols).unwrap())) {
        let x: Vec<f32> = x.iter().map(|x| x / unit).collect();
        quantize_row(format, &x, out);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_right(rows in 1..6usize, cols in 0..2000usize, n in 1..4usize, seed: u64) {
        product::<TQ1_0>(rows, cols, n, seed)?;
        product::<TQ2_0>(rows, cols, n, seed)?;
        product::<I2_S>(rows, cols, n, seed)?;
    }

    /// The same weights and scale in all three formats give the same bits, in products and as
    /// values, on every backend.
    #[test]
    fn one_result_for_all_formats(
        rows in 1..40usize, blocks in 1..6usize, n in 1..20usize, exponent in -14..10, per_row: bool,
        seed: u64,
    ) {
        let r = &mut Rng::new(seed);
        let (cols, scale) = (blocks * 256, 2f32.powi(exponent) * (1.0 + r.below(1024) as f32 / 1024.0));
        let x = ternary(r, rows, cols, scale);
        let activations: Vec<f32> = (0..n * cols).map(|_| r.float()).collect();
        let (mut q, mut d, mut s) = (vec![0; n * cols], vec![0.0; n * blocks], vec![0; n * blocks]);
        for t in 0..n {
            let (q, d) = (&mut q[t * cols..][..cols], &mut d[t * blocks..][..blocks]);
            let out = WideRowMut { q, d, s: &mut s[t * blocks..][..blocks] };
            Scalar.quantize_wide(&activations[t * cols..][..cols], out, per_row);
        }
        let activations = Activations::Wide(WideActivations::new(n, cols, &q, &d, &s));
        let mut want: Option<Vec<f32>> = None;
        for format in FORMATS {
            let bytes = stored(format, &x, cols, scale);
            let w = Matrix::new(format, rows, cols, &bytes).unwrap().with_scale(scale);
            for b in backends() {
                let got = outputs(&b, &w, &activations);
                let want = want.get_or_insert_with(|| got.clone());
                prop_assert_eq!(difference(want, &got), None, "{} {}", format, b.name());
                let mut row = vec![0.0; cols];
                for i in 0..rows {
                    b.dequantize_row(&w, i, &mut row);
                    // Adding 0 makes -0 of a negative scale's zero 0.
                    prop_assert!(row.iter().zip(&x[i * cols..]).all(|(a, b)| a + 0.0 == b + 0.0));
                }
            }
        }
    }

    #[test]
    fn wide_activations_come_back(units in 1..9usize, exponent in -100..100, per_row: bool, seed: u64) {
        let r = &mut Rng::new(seed);
        let (len, groups) = (units * 128, units.div_ceil(2));
        let x: Vec<f32> = (0..len).map(|_| r.float() * 2f32.powi(exponent)).collect();
        let (mut q, mut d, mut s) = (vec![0; len], vec![0.0; groups], vec![0; groups]);
        Scalar.quantize_wide(&x, WideRowMut { q: &mut q, d: &mut d, s: &mut s }, per_row);
        for (i, x) in x.iter().enumerate() {
            let d = f64::from(d[i / 256]);
            let error = (f64::from(*x) - d * f64::from(q[i])).abs();
            // Half a step, and the roundings of 127 / max|x|, of the product and of the scale.
            prop_assert!(error <= d * (0.5 + 127.0 * 3.0 * EPS), "{error:e} of {x:e}");
        }
    }

    /// Every byte means something, and the same to all backends.
    #[test]
    fn damaged_codes_are_defined(rows in 1..20usize, units in 1..9usize, n in 1..12usize, seed: u64) {
        for format in FORMATS {
            let r = &mut Rng::new(seed);
            let cols = (units * 128).next_multiple_of(format.block_len());
            let bytes: Vec<u8> =
                (0..rows * format.row_bytes(cols).unwrap()).map(|_| r.bits() as u8).collect();
            let w = Matrix::new(format, rows, cols, &bytes).unwrap().with_scale(0.5);
            let x = OwnedActivations::new(r, format, n, cols, Kind::Extreme, false);
            let want = outputs(&Scalar, &w, &x.get());
            for b in backends() {
                let got = outputs(&b, &w, &x.get());
                prop_assert_eq!(difference(&want, &got), None, "{} {}", format, b.name());
            }
        }
    }
}

/// All codes and activations as large as they get: no sum of 16 bits may wrap.
#[test]
fn the_largest_sums_are_exact() {
    for format in FORMATS {
        for (cols, n) in [(1024, 1), (1024, 2), (512, 9), (384, 1), (128, 8)] {
            if cols % format.block_len() != 0 {
                continue;
            }
            let (groups, rows) = (cols.div_ceil(256), 19);
            for (byte, code) in [(0xff, 2), (0x00, -1)] {
                let row = format.row_bytes(cols).unwrap();
                let mut bytes = vec![byte; rows * row];
                // One as the scale; base-3 digits end at 2, which stands for 1.
                let (at, code) = match format {
                    Format::TQ1_0 => (Some(52), code.min(1)),
                    Format::TQ2_0 => (Some(64), code),
                    _ => (None, code),
                };
                if let Some(at) = at {
                    for b in bytes.chunks_mut(format.block_bytes()) {
                        b[at..].copy_from_slice(&0x3c00u16.to_le_bytes());
                    }
                }
                for q in [127i8, -127] {
                    let (codes, d) = (vec![q; n * cols], vec![1.0; n * groups]);
                    let s: Vec<i32> = (0..n)
                        .flat_map(|_| {
                            (0..groups).map(|g| (cols - g * 256).min(256) as i32 * i32::from(q))
                        })
                        .collect();
                    let x = Activations::Wide(WideActivations::new(n, cols, &codes, &d, &s));
                    let w = Matrix::new(format, rows, cols, &bytes).unwrap();
                    let want = (cols as i32 * code * i32::from(q)) as f32;
                    for b in backends() {
                        let got = outputs(&b, &w, &x);
                        assert!(got.iter().all(|&y| y == want), "{format} {} {cols} {n}", b.name());
                    }
                }
            }
        }
    }
}

/// A tensor as files have it: rows, and a trailer in I2_S.
#[test]
fn scales_come_from_trailers() {
    let mut bytes = [0x55; 96]; // all weights 0
    let matrix = |bytes: &[u8]| Matrix::from_tensor(Format::I2_S, 2, 128, bytes).map(|w| w.scale());
    assert_eq!(Format::I2_S.tensor_bytes(2, 128), Some(96));
    bytes[64..68].copy_from_slice(&0.25f32.to_le_bytes());
    assert_eq!(matrix(&bytes), Ok(0.25));
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        bytes[64..68].copy_from_slice(&scale.to_le_bytes());
        assert_eq!(matrix(&bytes), Err(MatrixError::Scale { bits: scale.to_bits() }));
    }
    assert!(matches!(matrix(&bytes[..95]), Err(MatrixError::Size { .. })));
    assert!(matches!(matrix(&bytes[..31]), Err(MatrixError::Size { .. })));
    let tq2 = vec![0; 132];
    assert_eq!(Matrix::from_tensor(Format::TQ2_0, 2, 256, &tq2).unwrap().scale(), 1.0);
    assert_eq!(Format::TQ2_0.tensor_bytes(2, 256), Some(132));
}

/// Weights whose codes are known, in the places that the formats give them.
#[test]
fn codes_lie_where_they_should() {
    for i in 0..256 {
        let mut x = [0.0; 256];
        x[i] = -1.0;
        x[(i + 100) % 256] = 1.0;
        for format in FORMATS {
            let mut bytes = vec![0; format.row_bytes(256).unwrap()];
            quantize_row(format, &x, &mut bytes);
            let mut back = [9.0; 256];
            dequantize_row(format, &bytes, &mut back);
            assert_eq!(x, back, "{format}");
        }
        // I2_S: weights 0, 32, 64 and 96 of a byte from the highest bits down.
        let mut bytes = [0; 64];
        quantize_row(Format::I2_S, &x, &mut bytes);
        let (byte, shift) = (i / 128 * 32 + i % 32, 6 - 2 * (i % 128 / 32));
        assert_eq!(bytes[byte] >> shift & 3, 0);
    }
}
