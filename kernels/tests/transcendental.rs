//! exp and GELU over all f32: the largest errors, and the same bits on every backend.

use std::thread;

use teff_kernels::{Backend, Cpu, Scalar, exp};

/// Floats that are looked at together.
const CHUNK: usize = 1024;

/// f64's own exp for every sixteenth, and from there to the next fifteen, which are at most 6e-4
/// away, by a Taylor polynomial: exact to 1e-14.
fn exps(x: &[f64; CHUNK]) -> [f64; CHUNK] {
    let mut e = [0.0; CHUNK];
    for (x, e) in x.chunks(16).zip(e.chunks_mut(16)) {
        let (x0, e0) = (x[0], x[0].exp());
        for (x, e) in x.iter().zip(e) {
            let d = x - x0;
            *e = e0 * (1.0 + d * (1.0 + d * (0.5 + d * (1.0 / 6.0))));
        }
    }
    e
}

/// Distances between `got` and `want`, in units of the last place of an f32 near `want`.
fn ulps(got: f32, want: f64) -> f64 {
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i64 - 1023).max(-126);
    // 2^(23 - exponent), put together from its bits.
    let per_unit = f64::from_bits(((23 - exponent + 1023) as u64) << 52);
    (f64::from(got) - want).abs() * per_unit
}

/// The largest of what `f` finds for all chunks of floats whose bits are in `from..to`.
fn over(from: u32, to: u32, f: impl Fn(&[f32; CHUNK]) -> f64 + Sync) -> f64 {
    let middle = from + (to - from) / 2 / CHUNK as u32 * CHUNK as u32;
    let run = |from: u32, to: u32| {
        let mut worst = 0.0f64;
        for first in (from..to).step_by(CHUNK) {
            let mut x = [0.0; CHUNK];
            for (i, x) in x.iter_mut().enumerate() {
                *x = f32::from_bits(first + i as u32);
            }
            worst = worst.max(f(&x));
        }
        worst
    };
    thread::scope(|s| {
        let other = s.spawn(|| run(from, middle));
        run(middle, to).max(other.join().unwrap())
    })
}

fn bits(x: f32) -> u32 {
    x.to_bits()
}

const SIGN: u32 = 1 << 31;

#[test]
fn exp_over_all_floats() {
    let error = |x: &[f32; CHUNK]| {
        let want = exps(&x.map(f64::from));
        let mut worst = 0.0f64;
        for (x, want) in x.iter().zip(want) {
            // Beyond the largest float, infinity is right; 2^128 stands for it.
            let got = exp(*x);
            let got = if got == f32::INFINITY { 2f64.powi(128) } else { f64::from(got) };
            let want = want.min(2f64.powi(128));
            worst = worst.max(ulps_wide(got, want));
        }
        worst
    };
    // From 2^-26, below which the exponential is 1 +- one place, to where it is infinite or 0.
    let above = over(bits(2f32.powi(-26)), bits(96.0), error);
    let below = over(SIGN | bits(2f32.powi(-26)), SIGN | bits(112.0), error);
    println!("exp: {above} ULP above 0, {below} ULP below");
    assert!(above.max(below) <= 1.0);
}
