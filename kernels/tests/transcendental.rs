//! exp, tanh, GELU and SiLU over all f32: the largest errors; and the same bits on every backend, for an eighth of them.
//!
//! That takes a minute of one core: in the nightly tier, and wherever `TEFF_FULL` is set. Else a ninth of the floats is looked
//! at, a thousand at a time and spread evenly over all of them.

use std::{env, thread};

use teff_kernels::{Backend, Cpu, exp, softplus};

/// Floats that are looked at together.
const CHUNK: usize = 1024;
const SIGN: u32 = 1 << 31;

/// exp in f64: std's for every sixteenth, and from there to the next fifteen, which are at most
/// 6e-4 away, by a Taylor polynomial. Good to 1e-14, and fast enough for all floats.
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

/// The error of `got`, in units of the last place that an f32 near `want` has.
fn ulps(got: f32, want: f64) -> f64 {
    // What is beyond the largest float counts as 2^128, and infinity is right for it.
    let top = 2f64.powi(128);
    let (got, want) = (f64::from(got).clamp(-top, top), want.clamp(-top, top));
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i64 - 1023).clamp(-126, 127);
    (got - want).abs() * f64::from_bits(((1023 + 23 - exponent) as u64) << 52)
}

/// The larger one; NaN where one is NaN, so that no comparison passes.
fn worse(a: f64, b: f64) -> f64 {
    if a >= b { a } else { b }
}

/// The largest of what `f` finds for the chunks of floats with the bits `from..to`, or for every ninth of them.
fn over(from: u32, to: u32, f: impl Fn(&[f32; CHUNK]) -> f64 + Sync) -> f64 {
    let every = if env::var_os("TEFF_FULL").is_some() { 1 } else { 9 };
    let run = |odd: usize| {
        let mut worst = 0.0;
        for first in (from..to).step_by(CHUNK).step_by(every).skip(odd).step_by(2) {
            let x = core::array::from_fn(|i| f32::from_bits(first + i as u32));
            worst = worse(f(&x), worst);
        }
        worst
    };
    thread::scope(|s| {
        let other = s.spawn(|| run(1));
        worse(run(0), other.join().unwrap())
    })
}

#[test]
fn exp_is_close() {
    let error = |x: &[f32; CHUNK]| {
        let pairs = x.map(exp).into_iter().zip(exps(&x.map(f64::from)));
        pairs.fold(0.0, |worst, (got, want)| worse(ulps(got, want), worst))
    };
    let (small, large) = (2f32.powi(-26).to_bits(), 112f32.to_bits());
    let above = over(small, large, error);
    let below = over(SIGN | small, SIGN | large, error);
    println!("exp: at most {above:.4} ULP above 0, {below:.4} ULP below");
    assert!(above < 1.08 && below < 1.08);
    // The rest, of which every 999th will do: 1 near 0, then infinity and 0.
    for b in (0..small).step_by(999) {
        assert_eq!((exp(f32::from_bits(b)), exp(f32::from_bits(SIGN | b))), (1.0, 1.0));
    }
    for b in (large..=f32::INFINITY.to_bits()).step_by(999).chain([f32::INFINITY.to_bits()]) {
        let x = f32::from_bits(b);
        assert_eq!((exp(x), exp(-x).to_bits()), (f32::INFINITY, 0));
    }
    assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
}

/// The backends of this machine, the scalar one first.
fn backends() -> Vec<Cpu> {
    Cpu::NAMES.iter().filter_map(|n| Cpu::by_name(n).ok()).collect()
}

/// `f` of these, which has the same bits on every backend.
fn everywhere(backends: &[Cpu], x: &[f32], f: fn(&dyn Backend, &mut [f32])) -> Vec<f32> {
    let mut y = x.to_vec();
    f(&backends[0], &mut y);
    for b in &backends[1..] {
        let mut z = x.to_vec();
        f(b, &mut z);
        let differ = |y: f32, z: f32| u32::from(y.to_bits() != z.to_bits());
        let different: u32 = y.iter().zip(&z).map(|(&y, &z)| differ(y, z)).sum();
        assert!(different == 0, "{}: {different} of the floats from {:e}", b.name(), x[0]);
    }
    y
}

/// `f` of a chunk by the last backend, the fastest; for every eighth chunk also by all others.
fn fastest(backends: &[Cpu], x: &[f32; CHUNK], f: fn(&dyn Backend, &mut [f32])) -> Vec<f32> {
    let eighth = (x[0].to_bits() / CHUNK as u32).is_multiple_of(8);
    let some = if eighth { backends } else { &backends[backends.len() - 1..] };
    everywhere(some, x, f)
}

#[test]
fn silu_is_close_and_the_same_everywhere() {
    let all = backends();
    let silu = |x: &[f32]| everywhere(&all, x, |b, x| b.silu(x));
    let relative = |x: &[f32; CHUNK]| {
        let e = exps(&x.map(|x| -f64::from(x)));
        let y = fastest(&all, x, |b, x| b.silu(x));
        let pairs = y.into_iter().zip(x.iter().zip(e));
        pairs.fold(0.0, |worst, (got, (x, e))| worse(ulps(got, f64::from(*x) / (1.0 + e)), worst))
    };
    let (small, large, end) = (2f32.powi(-26).to_bits(), 24f32.to_bits(), 88.72f32.to_bits());
    let above = over(small, large, relative);
    let below = over(SIGN | small, SIGN | (end - CHUNK as u32), relative);
    println!("silu: at most {above:.4} ULP above 0, {below:.4} ULP below");
    assert!(above < 2.5 && below < 2.5);
    // The rest, of which every 999th will do: half near 0, then the number itself and 0.
    let near: Vec<f32> = (0..small).step_by(999).map(f32::from_bits).collect();
    assert!(silu(&near).iter().zip(&near).all(|(y, x)| *y == 0.5 * x));
    let far: Vec<f32> = (large..f32::INFINITY.to_bits()).step_by(999).map(f32::from_bits).collect();
    assert_eq!(silu(&far), far);
    let far: Vec<f32> = far.into_iter().filter(|x| *x >= 88.73).map(|x| -x).collect();
    assert!(silu(&far).iter().all(|y| *y == 0.0));
    for b in &all {
        let mut x = [f32::NAN, f32::NEG_INFINITY];
        b.silu(&mut x);
        assert!(x[0].is_nan() && x[1].is_nan());
    }
}

#[test]
fn sigmoid_is_close_and_the_same_everywhere() {
    let all = backends();
    let relative = |x: &[f32; CHUNK]| {
        let e = exps(&x.map(|x| -f64::from(x)));
        let y = fastest(&all, x, |b, x| b.sigmoid(x));
        y.into_iter().zip(e).fold(0.0, |worst, (got, e)| worse(ulps(got, 1.0 / (1.0 + e)), worst))
    };
    let (small, large, end) = (2f32.powi(-26).to_bits(), 24f32.to_bits(), 87f32.to_bits());
    let above = over(small, large, relative);
    let below = over(SIGN | small, SIGN | end, relative);
    println!("sigmoid: at most {above:.4} ULP above 0, {below:.4} ULP below");
    assert!(above < 2.5 && below < 2.5);
    for b in &all {
        let mut x = [0.0, 24.0, f32::INFINITY, -1000.0, f32::NEG_INFINITY, f32::NAN];
        b.sigmoid(&mut x);
        assert!(x[..5] == [0.5, 1.0, 1.0, 0.0, 0.0] && x[5].is_nan());
    }
}

#[test]
fn tanh_is_close_and_the_same_everywhere() {
    let all = backends();
    let tanh = |x: &[f32]| everywhere(&all, x, |b, x| b.softcap(x, 1.0));
    let error = |x: &[f32; CHUNK]| {
        let e = exps(&x.map(|x| 2.0 * f64::from(x)));
        let y = fastest(&all, x, |b, x| b.softcap(x, 1.0));
        let truth = |x: f64, e: f64| match x.abs() < 0.01 {
            true => x - x * x * x * (1.0 / 3.0 - x * x * (2.0 / 15.0)),
            false => 1.0 - 2.0 / (e + 1.0),
        };
        let pairs = y.into_iter().zip(x.iter().zip(e));
        pairs.fold(0.0, |worst, (got, (x, e))| worse(ulps(got, truth(f64::from(*x), e)), worst))
    };
    let (small, large) = (2f32.powi(-13).to_bits(), 16f32.to_bits());
    let above = over(small, large, error);
    let below = over(SIGN | small, SIGN | large, error);
    println!("tanh: at most {above:.4} ULP above 0, {below:.4} ULP below");
    assert!(above < 1.5 && below < 1.5);
    // The rest, of which every 999th will do: the number itself near 0, then 1.
    let near: Vec<f32> = (0..small).step_by(999).map(f32::from_bits).collect();
    assert!(tanh(&near).iter().zip(&near).all(|(y, x)| (y - x).abs() <= f32::EPSILON * x.abs()));
    let far: Vec<f32> =
        (large..=f32::INFINITY.to_bits()).step_by(999).map(f32::from_bits).collect();
    assert!(tanh(&far).iter().all(|y| *y == 1.0));
    let far: Vec<f32> = far.into_iter().map(|x| -x).collect();
    assert!(tanh(&far).iter().all(|y| *y == -1.0));
    for b in &all {
        let mut x = [f32::NAN, 0.0, f32::INFINITY, f32::NEG_INFINITY, 90.0];
        b.softcap(&mut x, 30.0);
        assert!(x[0].is_nan());
        assert_eq!(x[1..4], [0.0, 30.0, -30.0]);
        assert!((x[4] - 30.0 * 3f32.tanh()).abs() < 1e-5);
    }
}

#[test]
fn gelu_is_close_and_the_same_everywhere() {
    let all = backends();
    let gelu = |x: &[f32]| everywhere(&all, x, |b, x| b.gelu(x));
    let of_chunk = |x: &[f32; CHUNK]| fastest(&all, x, |b, x| b.gelu(x));
    let truth = |x: &[f32; CHUNK]| {
        let k = -2.0 * (2.0 / core::f64::consts::PI).sqrt();
        let x = x.map(f64::from);
        let mut y = exps(&x.map(|x| k * (x + 0.044715 * x * x * x)));
        for (x, y) in x.iter().zip(&mut y) {
            *y = x / (1.0 + *y);
        }
        y
    };
    let relative = |x: &[f32; CHUNK]| {
        let pairs = of_chunk(x).into_iter().zip(truth(x));
        pairs.fold(0.0, |worst, (got, want)| worse(ulps(got, want), worst))
    };
    let absolute = |x: &[f32; CHUNK]| {
        let pairs = of_chunk(x).into_iter().zip(truth(x));
        pairs.fold(0.0, |worst, (got, want)| worse((f64::from(got) - want).abs(), worst))
    };
    let (small, large) = (2f32.powi(-26).to_bits(), 16f32.to_bits());
    let above = over(small, large, relative);
    let below = over(SIGN | small, SIGN | large, absolute);
    println!("gelu: at most {above:.4} ULP above 0, {below:.3e} below");
    assert!(above < 2.05 && below < 5.2e-8);
    // The rest, of which every 999th will do: half near 0, then the number itself and 0.
    let near: Vec<f32> = (0..small).step_by(999).map(f32::from_bits).collect();
    assert!(gelu(&near).iter().zip(&near).all(|(y, x)| *y == 0.5 * x));
    let far: Vec<f32> = (large..f32::INFINITY.to_bits()).step_by(999).map(f32::from_bits).collect();
    assert_eq!(gelu(&far), far);
    let far: Vec<f32> = far.into_iter().map(|x| -x).collect();
    assert!(gelu(&far).iter().all(|y| *y == 0.0));
    for b in &all {
        let mut x = [f32::NAN];
        b.gelu(&mut x);
        assert!(x[0].is_nan());
    }
}

#[test]
fn softplus_is_close() {
    let error = |x: &[f32; CHUNK]| {
        let e = exps(&x.map(|x| -f64::from(x.abs())));
        let pairs = x.iter().zip(e);
        pairs.fold(0.0, |worst, (&x, e)| {
            let want = f64::from(x).max(0.0) + e.ln_1p();
            worse(ulps(softplus(x), want), worst)
        })
    };
    // A twentieth of them: the logarithm in f64 is slow.
    let sparse = |from: u32, to: u32| {
        let chunks = (from..to).step_by(20 * CHUNK);
        chunks.fold(0.0, |worst, first| worse(over(first, first + CHUNK as u32, error), worst))
    };
    let (small, end) = (2f32.powi(-26).to_bits(), 104f32.to_bits());
    let (above, below) = (sparse(small, end), sparse(SIGN | small, SIGN | 87f32.to_bits()));
    println!("softplus: at most {above:.4} ULP above 0, {below:.4} ULP below");
    assert!(above < 3.5 && below < 3.5);
}
