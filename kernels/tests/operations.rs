//! Norms, rotary embedding, activations and selection: the bits of the scalar truth on every
//! backend, and the truth against f64 with the bound that the arithmetic gives.

mod common;

use common::{Kind, Rng, bits, float, floats, kinds, same};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use teff_kernels::{Backend, Cpu, RopeKind, Scalar, TopK, rope_freqs, rope_table};

/// The unit roundoff of f32.
const EPS: f64 = 1.0 / (1 << 24) as f64;

fn within(got: f32, want: f64, bound: f64, what: &str) -> TestCaseResult {
    let error = (f64::from(got) - want).abs();
    prop_assert!(error <= bound, "{what}: {got:e}, not {want:e}: off by {error:e} > {bound:e}");
    Ok(())
}

/// The backends that this machine has, apart from the truth. `equivalence.rs` tells of the others.
fn backends() -> Vec<Cpu> {
    Cpu::NAMES.iter().filter(|n| **n != "scalar").filter_map(|n| Cpu::by_name(n).ok()).collect()
}

/// Every backend gives what `f` gives with the scalar one.
fn everywhere(what: &str, f: impl Fn(&dyn Backend) -> Vec<f32>) -> TestCaseResult {
    let want = f(&Scalar);
    for b in backends() {
        same(&want, &f(&b), &format!("{}: {what}", b.name()))?;
    }
    Ok(())
}

/// A row of cosines and sines; any numbers, where `kind` says so.
fn table(r: &mut Rng, pairs: usize, kind: Kind) -> Vec<f32> {
    if kind != Kind::Plain {
        return floats(r, 2 * pairs, kind);
    }
    let mut freqs = vec![0.0; pairs];
    rope_freqs(10000.0, 1.0, None, &mut freqs);
    let mut table = vec![0.0; 2 * pairs];
    rope_table(r.below(5000), &freqs, &mut table);
    table
}

/// Call of an operation with a gate and its factor.
type Gate = fn(&dyn Backend, &mut [f32], &[f32]);
/// Call of an activation.
type Map = fn(&dyn Backend, &mut [f32]);

const GATES: [(&str, Gate, Map); 3] = [
    ("silu", |b, x, u| b.silu_mul(x, u), |b, x| b.silu(x)),
    ("gelu", |b, x, u| b.gelu_mul(x, u), |b, x| b.gelu(x)),
    ("relu2", |b, x, u| b.relu2_mul(x, u), |b, x| b.relu2(x)),
];

/// The definition of `top_k`, by sorting all.
fn sorted(x: &[f32], k: usize) -> Vec<(u32, f32)> {
    let numbers = x.iter().copied().enumerate().filter(|(_, v)| !v.is_nan());
    let mut all: Vec<_> = numbers.map(|(i, v)| (i as u32, v)).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
    all.truncate(k);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rows_are_the_same_everywhere(len in 0..200usize, kind in kinds(), seed: u64) {
        let r = &mut Rng::new(seed);
        let (x, w) = (floats(r, len, kind), floats(r, len, kind));
        let eps = [0.0, 1e-5, 1e-6][r.below(3)];
        everywhere("rms_norm", |b| {
            let mut y = vec![0.0; len];
            b.rms_norm(&x, &w, eps, &mut y);
            y
        })?;
        everywhere("softmax", |b| {
            let mut y = x.clone();
            b.softmax(&mut y);
            y
        })?;
        everywhere("mul", |b| {
            let mut y = x.clone();
            b.mul(&mut y, &w);
            y
        })?;
        let mut y = x.clone();
        Scalar.mul(&mut y, &w);
        same(&x.iter().zip(&w).map(|(x, w)| x * w).collect::<Vec<_>>(), &y, "mul")?;
        let factor = float(r, kind);
        everywhere("scale", |b| {
            let mut y = x.clone();
            b.scale(&mut y, factor);
            y
        })?;
        everywhere("softcap", |b| {
            let mut y = x.clone();
            b.softcap(&mut y, factor);
            y
        })?;
        for (name, gate, map) in GATES {
            everywhere(name, |b| {
                let mut y = x.clone();
                map(b, &mut y);
                y
            })?;
            everywhere(name, |b| {
                let mut y = x.clone();
                gate(b, &mut y, &w);
                y
            })?;
            // One rounding after the activation's.
            let (mut one, mut two) = (x.clone(), x.clone());
            gate(&Scalar, &mut one, &w);
            map(&Scalar, &mut two);
            for (y, w) in two.iter_mut().zip(&w) {
                *y *= w;
            }
            same(&two, &one, name)?;
        }
    }

    #[test]
    fn rope_is_the_same_everywhere(pairs in 0..70usize, rest in 0..40usize, heads in 0..5usize, kind in kinds(), seed: u64) {
        let r = &mut Rng::new(seed);
        let head_dim = (2 * pairs + rest).max(1);
        let x = floats(r, heads * head_dim, kind);
        let table = table(r, pairs, kind);
        for how in [RopeKind::Norm, RopeKind::NeoX] {
            let run = |b: &dyn Backend| {
                let mut y = x.clone();
                b.rope(&mut y, head_dim, &table, how);
                y
            };
            everywhere("rope", run)?;
            for (x, y) in x.chunks(head_dim).zip(run(&Scalar).chunks(head_dim)) {
                same(&x[2 * pairs..], &y[2 * pairs..], "what isn't turned")?;
            }
        }
        // The kinds differ only in where a pair lies.
        let apart = |x: &[f32]| -> Vec<f32> {
            let turned = |head: &[f32]| -> Vec<f32> {
                let even = head[..2 * pairs].iter().step_by(2);
                let odd = head[..2 * pairs].iter().skip(1).step_by(2);
                even.chain(odd).chain(&head[2 * pairs..]).copied().collect()
            };
            x.chunks(head_dim).flat_map(turned).collect()
        };
        let (mut pairwise, mut halves) = (x.clone(), apart(&x));
        Scalar.rope(&mut pairwise, head_dim, &table, RopeKind::Norm);
        Scalar.rope(&mut halves, head_dim, &table, RopeKind::NeoX);
        same(&apart(&pairwise), &halves, "the kinds")?;
    }

    #[test]
    fn rms_norm_is_right(len in 1..900usize, exponent in -10..10, seed: u64) {
        let r = &mut Rng::new(seed);
        let x: Vec<f32> = (0..len).map(|_| r.float() * 2f32.powi(exponent)).collect();
        let w = floats(r, len, Kind::Plain);
        let eps = [0.0, 1e-5, 1e-6][r.below(3)];
        let mut y = vec![0.0; len];
        Scalar.rms_norm(&x, &w, eps, &mut y);
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / len as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        // Half of the relative error below the root (a square, its sum, the quotient, eps), and the
        // root, the inverse and two products.
        let sum = (len.div_ceil(16) + 4) as f64;
        let relative = (0.5 * (sum + 3.0) + 4.0) * EPS * 1.001;
        for ((x, w), y) in x.iter().zip(&w).zip(y) {
            let want = f64::from(*x) * scale * f64::from(*w);
            within(y, want, relative * want.abs() + 1e-44, "rms_norm")?;
        }
    }

    #[test]
    fn softmax_is_right(len in 1..900usize, spread in 0..8, seed: u64) {
        let r = &mut Rng::new(seed);
        let x: Vec<f32> = (0..len).map(|_| r.float() * 2f32.powi(spread)).collect();
        let mut y = x.clone();
        Scalar.softmax(&mut y);
        let m = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exact: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(m)).exp()).collect();
        let sum = exact.iter().sum::<f64>();
        for (y, (e, x)) in y.iter().zip(exact.iter().zip(&x)) {
            // The exponential is within 1.08 ULP (two roundoffs each), of an argument rounded once; the
            // sum and its exponentials, whose arguments were rounded too; the inverse and a product.
            let far = f64::from(m - x);
            let terms = (len.div_ceil(16) + 4) as f64;
            let relative = (far + 2.2 + 0.4 + 2.2 + terms + 2.0) * EPS * 1.001;
            within(*y, e / sum, relative * (e / sum) + 1e-44, "softmax")?;
        }
        let one: f64 = y.iter().map(|&y| f64::from(y)).sum();
        prop_assert!((one - 1.0).abs() < 2e-5, "the sum is {one}");
    }

    #[test]
    fn causal_conv_is_right(width in 0..100usize, taps in 1..6usize, kind in kinds(), seed: u64) {
        let r = &mut Rng::new(seed);
        let (t, x) = (floats(r, taps * width, kind), floats(r, taps * width, kind));
        let mut y = vec![0.0; width];
        Scalar.causal_conv(&t, &x, &mut y);
        let want: Vec<f32> = (0..width)
            .map(|c| (1..taps).fold(t[c] * x[c], |sum, k| sum + t[k * width + c] * x[k * width + c]))
            .collect();
        same(&want, &y, "causal_conv")?;
    }

    #[test]
    fn rope_is_right(pairs in 1..70usize, seed: u64) {
        let r = &mut Rng::new(seed);
        let (x, table) = (floats(r, 2 * pairs, Kind::Plain), table(r, pairs, Kind::Plain));
        let mut y = x.clone();
        Scalar.rope(&mut y, 2 * pairs, &table, RopeKind::NeoX);
        for j in 0..pairs {
            let [a, b, cos, sin] = [x[j], x[pairs + j], table[j], table[pairs + j]].map(f64::from);
            for (y, s, t) in [(y[j], a * cos, -b * sin), (y[pairs + j], a * sin, b * cos)] {
                let bound = EPS * (s.abs() + t.abs() + (s + t).abs()) * 1.0001 + 1e-44;
                within(y, s + t, bound, "rope")?;
            }
        }
    }

    /// Rotations: lengths stay, and angles add up.
    #[test]
    fn rope_turns(position in 0..100_000usize, seed: u64) {
        let x = floats(&mut Rng::new(seed), 64, Kind::Plain);
        let mut freqs = [0.0; 32];
        rope_freqs(10000.0, 1.0, None, &mut freqs);
        let turn = |x: &[f32], position: usize| {
            let (mut y, mut table) = (x.to_vec(), [0.0; 64]);
            rope_table(position, &freqs, &mut table);
            Scalar.rope(&mut y, 64, &table, RopeKind::Norm);
            y
        };
        let (once, twice) = (turn(&x, position + 7), turn(&turn(&x, position), 7));
        for (a, b) in once.iter().zip(&twice) {
            prop_assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn selection_is_by_value_then_index(len in 0..3000usize, k in 0..200usize, few: bool, kind in kinds(), seed: u64) {
        let r = &mut Rng::new(seed);
        let mut x = floats(r, len, kind);
        if few {
            // Many equal ones, zeros of both signs among them.
            let values = [0.0, -0.0, 1.0, f32::NEG_INFINITY, f32::NAN, float(r, kind)];
            x.fill_with(|| values[r.below(6)]);
        }
        let want = sorted(&x, k);
        let nan = x.iter().position(|v| v.is_nan());
        let largest = sorted(&x, 1).first().map_or(0, |e| e.0 as usize);
        for b in [&Scalar as &dyn Backend].into_iter().chain(backends().iter().map(|b| b as _)) {
            prop_assert_eq!(b.argmax(&x), largest, "{}", b.name());
            let mut out = vec![(u32::MAX, f32::NAN); k];
            let found = b.top_k(&x, &mut out);
            prop_assert_eq!(found, TopK { len: want.len(), nan }, "{}", b.name());
            for (want, got) in want.iter().zip(&out) {
                prop_assert_eq!((want.0, bits(want.1)), (got.0, bits(got.1)), "{}", b.name());
            }
        }
    }
}

#[test]
fn selection_without_numbers() {
    let nan = f32::NAN;
    let mut out = [(0, 0.0); 2];
    assert_eq!((Scalar.argmax(&[]), Scalar.argmax(&[nan; 40])), (0, 0));
    assert_eq!(Scalar.argmax(&[nan, f32::NEG_INFINITY, nan]), 1);
    assert_eq!(Scalar.top_k(&[], &mut out), TopK { len: 0, nan: None });
    assert_eq!(Scalar.top_k(&[nan; 40], &mut out), TopK { len: 0, nan: Some(0) });
    assert_eq!(Scalar.top_k(&[1.0, 2.0, nan], &mut []), TopK { len: 0, nan: Some(2) });
    assert_eq!(Scalar.top_k(&[1.0, nan, 1.0, 2.0], &mut out), TopK { len: 2, nan: Some(1) });
    assert_eq!(out, [(3, 2.0), (0, 1.0)]);
}

#[test]
fn negative_numbers_square_to_zero() {
    let mut x = [-3.0, -0.0, 0.0, 2.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
    Scalar.relu2(&mut x);
    assert_eq!(x[..6], [0.0, 0.0, 0.0, 4.0, 0.0, f32::INFINITY]);
    assert!(x[6].is_nan() && x[..5].iter().all(|x| x.is_sign_positive()));
}

#[test]
fn softmax_without_numbers() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    Scalar.softmax(&mut []);
    for bad in [&mut [1.0, nan, 2.0][..], &mut [-inf; 20], &mut [1.0, inf], &mut [nan; 17]] {
        Scalar.softmax(bad);
        assert!(bad.iter().all(|x| x.is_nan()), "{bad:?}");
    }
    let mut x = [-inf, 3.0, -inf, 3.0, -200.0];
    Scalar.softmax(&mut x);
    assert_eq!(x, [0.0, 0.5, 0.0, 0.5, 0.0]);
}

#[test]
fn causal_conv_checks_its_rows() {
    let runs = |taps: usize, inputs: usize, out: usize| {
        let run = || Scalar.causal_conv(&vec![0.0; taps], &vec![0.0; inputs], &mut vec![0.0; out]);
        std::panic::catch_unwind(run).is_ok()
    };
    assert!(runs(3, 3, 3) && runs(12, 12, 3) && runs(0, 0, 0));
    assert!(!runs(0, 0, 3) && !runs(4, 4, 3) && !runs(6, 3, 3) && !runs(3, 6, 3) && !runs(1, 1, 0));
}

/// In units of the last place that an f32 near `want` has.
fn ulps(got: f32, want: f64) -> f64 {
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    (f64::from(got) - want).abs() * 2f64.powi(23 - exponent)
}

#[test]
fn frequencies_and_angles_are_close() {
    for (base, pairs) in [(10_000.0, 64), (500_000.0, 64), (1_000_000.0, 128), (10_000.0, 20)] {
        let mut freqs = vec![0.0; pairs];
        rope_freqs(base, 1.0, None, &mut freqs);
        for (j, freq) in freqs.iter().enumerate() {
            let want = base.powf(-(j as f64 / pairs as f64));
            assert!((freq / want - 1.0).abs() < 1e-15, "{base}^(-{j}/{pairs}): {freq:e}");
        }
        let mut worst = 0.0f64;
        let mut table = vec![0.0; 2 * pairs];
        for position in (0..3000).chain((3000..=131_072).step_by(127)).chain([131_072]) {
            rope_table(position, &freqs, &mut table);
            for (j, freq) in freqs.iter().enumerate() {
                let (sin, cos) = (position as f64 * freq).sin_cos();
                worst = worst.max(ulps(table[j], cos)).max(ulps(table[pairs + j], sin));
            }
        }
        println!("{base}: at most {worst:.6} ULP");
        assert!(worst < 0.501);
    }
}

#[test]
fn factors_divide_frequencies() {
    let (mut plain, mut scaled) = ([0.0; 8], [0.0; 8]);
    rope_freqs(10_000.0, 1.0, None, &mut plain);
    let factors = [1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 0.5];
    rope_freqs(10_000.0, 8.0, Some(&factors), &mut scaled);
    for j in 0..8 {
        assert_eq!(scaled[j], plain[j] / (8.0 * f64::from(factors[j])));
    }
}

/// FNV-1a over the bits of tables: the same on every machine, and in every version.
#[test]
fn tables_have_the_bits_of_always() {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for base in [10_000.0, 500_000.0, 1_000_000.0] {
        let (mut freqs, mut table) = ([0.0; 64], [0.0; 128]);
        rope_freqs(base, 1.0, None, &mut freqs);
        for position in (0..131_072).step_by(61) {
            rope_table(position, &freqs, &mut table);
            for x in table {
                hash = (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    assert_eq!(hash, 0x7ee3_1156_11a7_f9c2, "{hash:#018x}");
}
