//! The gated delta rule and its parts: the definition, and f64 with the bound that the arithmetic gives.

#![allow(clippy::needless_range_loop)] // the definition, in straight loops

mod common;

use common::{Rng, floats, kinds, same};
use proptest::prelude::*;
use teff_kernels::{Backend, DeltaInputs, DeltaStart, DenseActivations, Scalar, Tile, softplus};

/// The unit roundoff of f32, and a little for the terms of second order.
const EPS: f64 = 1.001 / (1 << 24) as f64;

/// Inputs of a head, row by row.
struct Case {
    rows: usize,
    columns: usize,
    n: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    decay: Vec<f32>,
    beta: Vec<f32>,
}

impl Case {
    /// State and outputs, the state row by row.
    fn run(&self) -> (Vec<f32>, Vec<f32>) {
        let Case { rows, columns, n, .. } = *self;
        let dense = |x, cols| DenseActivations::new(x, n, cols, cols);
        let x = DeltaInputs {
            q: dense(&self.q, rows),
            k: dense(&self.k, rows),
            v: dense(&self.v, columns),
            decay: dense(&self.decay, 1),
            beta: dense(&self.beta, 1),
        };
        let mut state = vec![7.0; columns.div_ceil(16) * 16 * rows];
        let mut out = vec![0.0; n * columns];
        let mut tile = Tile::new(&mut out, n, columns, columns);
        Scalar.delta_rule(DeltaStart::Zeros, &mut state, &x, &mut tile);
        let at = |i: usize, c: usize| state[(c / 16 * rows + i) * 16 + c % 16];
        let flat = (0..rows * columns).map(|j| at(j / columns, j % columns)).collect();
        (flat, out)
    }
}

proptest! {
    #[test]
    fn is_the_definition(
        (rows, columns, n) in (1..40usize, 1..40usize, 1..6usize), kind in kinds(), seed: u64,
    ) {
        let r = &mut Rng::new(seed);
        let case = Case {
            rows, columns, n,
            q: floats(r, n * rows, kind), k: floats(r, n * rows, kind), v: floats(r, n * columns, kind),
            decay: floats(r, n, kind), beta: floats(r, n, kind),
        };
        let mut state = vec![0.0f32; rows * columns];
        let mut want = vec![0.0f32; n * columns];
        for t in 0..n {
            for c in 0..columns {
                let mut sum = 0.0f32;
                for i in 0..rows {
                    state[i * columns + c] *= case.decay[t];
                    sum = case.k[t * rows + i].mul_add(state[i * columns + c], sum);
                }
                let d = case.beta[t] * (case.v[t * columns + c] - sum);
                let mut sum = 0.0f32;
                for i in 0..rows {
                    let s = &mut state[i * columns + c];
                    *s = case.k[t * rows + i].mul_add(d, *s);
                    sum = case.q[t * rows + i].mul_add(*s, sum);
                }
                want[t * columns + c] = sum;
            }
        }
        let got = case.run();
        same(&state, &got.0, "state")?;
        same(&want, &got.1, "outputs")?;
    }

    #[test]
    fn is_right(
        (rows, columns, n) in (1..130usize, 1..20usize, 1..40usize), seed: u64,
    ) {
        let r = &mut Rng::new(seed);
        let mut row = |len: usize| (0..len).map(|_| r.float()).collect::<Vec<f32>>();
        let (mut q, mut k, v) = (row(n * rows), row(n * rows), row(n * columns));
        let (mut decay, mut beta) = (row(n), row(n));
        decay.iter_mut().chain(&mut beta).for_each(|x| *x = x.abs());
        for head in q.chunks_mut(rows).chain(k.chunks_mut(rows)) {
            Scalar.l2_norm(head, 1e-6, 1.0);
        }
        let case = Case { rows, columns, n, q, k, v, decay, beta };
        let (_, got) = case.run();
        // The state of a column, and how far off its numbers may be.
        for c in 0..columns {
            let (mut s, mut off) = (vec![0f64; rows], vec![0f64; rows]);
            for t in 0..n {
                let [decay, beta] = [case.decay[t], case.beta[t]].map(f64::from);
                let k = |i: usize| f64::from(case.k[t * rows + i]);
                let q = |i: usize| f64::from(case.q[t * rows + i]);
                let (mut sum, mut terms, mut sum_off) = (0.0, 0.0, 0.0);
                for i in 0..rows {
                    s[i] *= decay;
                    off[i] = decay * off[i] + EPS * s[i].abs();
                    sum += s[i] * k(i);
                    terms += (s[i] * k(i)).abs();
                    sum_off += (off[i] * k(i)).abs();
                }
                sum_off += rows as f64 * EPS * terms;
                let v = f64::from(case.v[t * columns + c]);
                let d = beta * (v - sum);
                let d_off = beta * (sum_off + EPS * (v - sum).abs()) + EPS * d.abs();
                let (mut sum, mut terms, mut sum_off) = (0.0, 0.0, 0.0);
                for i in 0..rows {
                    s[i] += k(i) * d;
                    off[i] += k(i).abs() * d_off + EPS * s[i].abs();
                    sum += s[i] * q(i);
                    terms += (s[i] * q(i)).abs();
                    sum_off += (off[i] * q(i)).abs();
                }
                let bound = 1.01 * (sum_off + rows as f64 * EPS * terms) + 1e-40;
                let error = (f64::from(got[t * columns + c]) - sum).abs();
                prop_assert!(error <= bound, "token {t}, column {c}: {error:e} > {bound:e}");
            }
        }
    }

    #[test]
    fn l2_norm_is_right(len in 1..600usize, scale in 0.01..2f32, seed: u64) {
        let r = &mut Rng::new(seed);
        let x: Vec<f32> = (0..len).map(|_| r.float()).collect();
        let mut y = x.clone();
        Scalar.l2_norm(&mut y, 1e-6, scale);
        let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        let factor = f64::from(scale) / (squares + f64::from(1e-6f32)).sqrt();
        for (x, y) in x.iter().zip(&y) {
            let want = f64::from(*x) * factor;
            // Half the error of the sum, and that of the four operations after it.
            let bound = (len as f64 / 32.0 + 9.0) * EPS * want.abs() + 1e-40;
            prop_assert!((f64::from(*y) - want).abs() <= bound);
        }
    }

    #[test]
    fn decay_is_right(x in -40f32..40.0, bias in -10f32..10.0, rate in -20f32..0.0) {
        let mut y = [x; 3];
        Scalar.decay(&mut y, &[bias; 3], &[rate; 3]);
        let sum = f64::from(x + bias);
        let exponent = f64::from(rate) * sum.exp().ln_1p();
        // The exponent's relative error is an absolute one here.
        let bound = (1.1 + 5.0 * exponent.abs()) * 2.0 * EPS * exponent.exp() + 1e-45;
        prop_assert!((f64::from(y[2]) - exponent.exp()).abs() <= bound, "{y:?} {exponent}");
    }
}

#[test]
fn softplus_has_its_edges() {
    for x in [17.5f32, 20.0, 21.0, 88.0, 1e30, f32::INFINITY] {
        assert_eq!(softplus(x), x);
    }
    assert_eq!(softplus(f32::NEG_INFINITY), 0.0);
    assert!(softplus(f32::NAN).is_nan());
    assert_eq!(softplus(0.0), core::f32::consts::LN_2);
    let mut rate = [f32::INFINITY];
    Scalar.decay(&mut rate, &[0.0], &[-0.5]);
    assert_eq!(rate, [0.0]);
}

#[test]
fn delta_rule_checks_its_shapes() {
    let runs = |state: usize, k: usize, out: usize| {
        let x = vec![0.0; 2 * 50];
        let part = |cols| DenseActivations::new(&x, 2, cols, 50);
        let (q, k, v, decay, beta) = (part(4), part(k), part(17), part(1), part(1));
        let run = || {
            let (mut state, mut y) = (vec![0.0; state], vec![0.0; 2 * out]);
            let x = DeltaInputs { q, k, v, decay, beta };
            let mut out = Tile::new(&mut y, 2, out, out);
            Scalar.delta_rule(DeltaStart::Zeros, &mut state, &x, &mut out);
        };
        std::panic::catch_unwind(run).is_ok()
    };
    assert!(runs(128, 4, 17));
    assert!(!runs(127, 4, 17) && !runs(64, 4, 17) && !runs(128, 5, 17) && !runs(128, 4, 16));
}
