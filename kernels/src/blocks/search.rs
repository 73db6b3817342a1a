//! How the K formats look for scales: several are tried for a sub-block, each gives codes, and for
//! these codes the best scale follows by weighted least squares. Grids, weights and the order of
//! sums are those of ggml's quantisers, without importances and with them, so the bytes are the same.
//!
//! Codes are whole numbers in f32 here. Comparisons are spelled out where `f32::min` and `max`
//! would leave the sign of a zero to the machine; a NaN takes the lowest code.

use super::CodeBlock;

/// A sub-block whose largest magnitude is below this is taken for zeros.
pub(super) const NOTHING: f32 = 1e-15;

/// The nearest whole number, ties to even, where `|x|` is below 2^22; near `x` elsewhere. (The
/// sum's last bit has the value 1.)
#[inline(always)]
fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + SHIFT) - SHIFT
}

/// The code in `low..=high` nearest to `x`.
#[inline(always)]
pub(super) fn code(x: f32, low: f32, high: f32) -> f32 {
    let x = nearest(x);
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// The element of largest magnitude with its sign; the first of equals.
pub(super) fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m: f32, &v| if v.abs() > m.abs() { v } else { m })
}

/// The codes from `low` to `high` for a block whose scales and minimums are chosen. Where a scale
/// is 0, the codes of the search stay.
pub(super) fn final_codes<B: CodeBlock>(b: &B, x: &[f32], codes: &mut [f32], low: f32, high: f32) {
    let subs = x.chunks_exact(B::SUB).zip(codes.chunks_exact_mut(B::SUB));
    for (sub, (x, codes)) in subs.enumerate() {
        let (d, m) = (b.scale(sub), b.min(sub));
        if d != 0.0 {
            for (c, &v) in codes.iter_mut().zip(x) {
                *c = code((v - m) / d, low, high);
            }
        }
    }
}

/// The sum of squares, in order.
pub(super) fn squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |s, v| s + v * v)
}

/// What elements weigh with importances: these, times the root of the element's square plus
/// `mean`, that of its neighbours.
pub(super) fn weights<const N: usize>(x: &[f32; N], importances: &[f32; N], mean: f32) -> [f32; N] {
    core::array::from_fn(|i| importances[i] * libm::sqrtf(mean + x[i] * x[i]))
}

/// The scale for codes from `-steps` to `steps - 1`, and these codes. `w` are the elements' weights:
/// without importances, their squares.
///
/// The scale that puts the peak on code `-steps` comes first, then 18 around it, in tenths of a
/// step. The best has the largest share of the weighted squares of `x`.
pub(super) fn scale<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    steps: f32,
    codes: &mut [f32; N],
) -> f32 {
    let peak = peak(x);
    if peak.abs() < NOTHING {
        *codes = [-steps; N]; // zero bits
        return 0.0;
    }
    let sums = |inverse: f32, codes: &mut [f32; N]| {
        let (mut xc, mut cc) = (0.0f32, 0.0f32);
        for (c, (&v, &w)) in codes.iter_mut().zip(x.iter().zip(w)) {
            *c = code(inverse * v, -steps, steps - 1.0);
            xc += w * v * *c;
            cc += w * *c * *c;
        }
        (xc, cc)
    };
    let (xc, cc) = sums(-steps / peak, codes);
    let mut scale = if cc != 0.0 { xc / cc } else { 0.0 };
    let mut best = scale * xc;
    for tenths in (-9..=9i8).filter(|&t| t != 0) {
        let mut tried = [0.0; N];
        let (xc, cc) = sums(-(steps + 0.1 * f32::from(tenths)) / peak, &mut tried);
        if cc > 0.0 && xc * xc > best * cc {
            scale = xc / cc;
            best = scale * xc;
            *codes = tried;
        }
    }
    scale
}

/// The scale for codes from `-steps` to `steps - 1`, and these codes, by descent: from the codes
/// of the scale that puts the peak on `-steps`, each code in turn moves where that helps, in at
/// most five rounds. Elements weigh their square.
pub(super) fn scale_by_descent<const N: usize>(
    x: &[f32; N],
    steps: f32,
    codes: &mut [f32; N],
) -> f32 {
    let peak = peak(x);
    if peak.abs() < NOTHING {
        *codes = [-steps; N]; // zero bits
        return 0.0;
    }
    let inverse = -steps / peak;
    let (mut xc, mut cc) = (0.0f32, 0.0f32);
    for (c, &v) in codes.iter_mut().zip(x) {
        *c = code(inverse * v, -steps, steps - 1.0);
        let w = v * v;
        xc += w * v * *c;
        cc += w * *c * *c;
    }
    for _ in 0..5 {
        let mut moved = false;
        for (c, &v) in codes.iter_mut().zip(x) {
            let w = v * v;
            // Without this element, the scale is xc / cc.
            let (mut without_xc, mut without_cc) = (xc - w * v * *c, cc - w * *c * *c);
            if without_xc > 0.0 {
                let new = code(v * without_cc / without_xc, -steps, steps - 1.0);
                if new != *c {
                    without_xc += w * v * new;
                    without_cc += w * new * new;
                    let better = without_xc * without_xc * cc > xc * xc * without_cc;
                    if without_cc > 0.0 && better {
                        (*c, xc, cc, moved) = (new, without_xc, without_cc, true);
                    }
                }
            }
        }
        if !moved {
            break;
        }
    }
    if cc > 0.0 { xc / cc } else { 0.0 }
}

/// Candidates of a format with minimums.
pub(super) struct Grid {
    /// The largest code.
    pub(super) top: f32,
    /// The first inverse scale spreads the elements over `top + first` steps.
    pub(super) first: f32,
    /// How often it grows by `step`.
    pub(super) tries: u8,
    /// A tenth of a step, or less.
    pub(super) step: f32,
    /// Errors count by magnitude instead of by square.
    pub(super) magnitude: bool,
}

impl Grid {
    /// The candidates with importances.
    pub(super) const fn weighted(top: f32) -> Grid {
        Grid { top, first: -0.9, tries: 36, step: 0.05, magnitude: false }
    }
}

/// The scale and the minimum (taken off, so 0 or more) for codes from 0 to `grid.top`, and these
/// codes. `w` are the elements' weights.
pub(super) fn scale_and_min<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    grid: &Grid,
    codes: &mut [f32; N],
) -> (f32, f32) {
    let (mut min, mut max, mut ws, mut xs) = (x[0], x[0], w[0], w[0] * x[0]);
    for (&x, &w) in x[1..].iter().zip(&w[1..]) {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        ws += w;
        xs += w * x;
    }
    if min > 0.0 {
        min = 0.0;
    }
    *codes = [0.0; N];
    if max == min {
        return (0.0, -min);
    }
    let error = |scale: f32, min: f32, codes: &[f32; N]| {
        let mut sum = 0.0f32;
        for i in 0..N {
            let off = scale * codes[i] + min - x[i];
            sum += w[i] * if grid.magnitude { off.abs() } else { off * off };
        }
        sum
    };
    let inverse = grid.top / (max - min);
    let mut scale = 1.0 / inverse;
    for (c, &v) in codes.iter_mut().zip(x) {
        *c = code(inverse * (v - min), 0.0, grid.top);
    }
    let mut best = error(scale, min, codes);
    for tries in 0..=grid.tries {
        // The span shrinks with the best minimum so far: part of the reference's definition.
        let inverse = (grid.first + grid.step * f32::from(tries) + grid.top) / (max - min);
        let mut tried = [0.0; N];
        let (mut cs, mut ccs, mut xcs) = (0.0f32, 0.0f32, 0.0f32);
        for i in 0..N {
            let c = code(inverse * (x[i] - min), 0.0, grid.top);
            tried[i] = c;
            cs += w[i] * c;
            ccs += w[i] * c * c;
            xcs += w[i] * c * x[i];
        }
        let det = ws * ccs - cs * cs;
        if det > 0.0 {
            let mut new = (ws * xcs - xs * cs) / det;
            let mut new_min = (ccs * xs - cs * xcs) / det;
            if new_min > 0.0 {
                (new, new_min) = (xcs / ccs, 0.0);
            }
            let tried_error = error(new, new_min, &tried);
            if tried_error < best {
                (best, scale, min, *codes) = (tried_error, new, new_min, tried);
            }
        }
    }
    (scale, -min)
}

/// The unit for `x`, most of them 0 or more, and how many units each is: up to `top`. `w` are their
/// weights.
///
/// The unit of least weighted error of nine comes first, then each count in turn moves where that
/// helps, in at most five rounds, as in [`scale_by_descent`].
pub(super) fn units<const N: usize>(x: &[f32; N], w: &[f32; N], top: i32) -> (f32, [u8; N]) {
    let most = x.iter().fold(0.0f32, |m, &v| if m > v { m } else { v });
    if most < NOTHING {
        return (0.0, [0; N]);
    }
    let count = |x: f32| (nearest(x) as i32).min(top);
    let error = |inverse: f32, count: &dyn Fn(f32) -> i32| {
        let unit = 1.0 / inverse;
        let mut sum = 0.0f32;
        for (&v, &w) in x.iter().zip(w) {
            let off = v - unit * count(inverse * v) as f32;
            sum += w * off * off;
        }
        sum
    };
    let mut inverse = top as f32 / most;
    // Counts are bytes, and one below 0 wraps: part of the reference's definition.
    let mut best = error(inverse, &|x| i32::from(nearest(x) as i32 as u8));
    for tenths in (-4..=4i8).filter(|&t| t != 0) {
        let tried = (0.1 * f32::from(tenths) + top as f32) / most;
        let tried_error = error(tried, &count);
        if tried_error < best {
            (best, inverse) = (tried_error, tried);
        }
    }
    let mut counts = [0u8; N];
    let (mut xc, mut cc) = (0.0f32, 0.0f32);
    for (c, (&v, &w)) in counts.iter_mut().zip(x.iter().zip(w)) {
        let l = count(inverse * v);
        *c = l as u8;
        xc += w * v * l as f32;
        cc += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut moved = false;
        for (c, (&v, &w)) in counts.iter_mut().zip(x.iter().zip(w)) {
            let old = f32::from(*c);
            // Without this element, the unit is xc / cc.
            let (mut without_xc, mut without_cc) = (xc - w * v * old, cc - w * old * old);
            if without_xc > 0.0 && without_cc > 0.0 {
                let new = count(v * without_cc / without_xc);
                if new != i32::from(*c) {
                    without_xc += w * v * new as f32;
                    without_cc += w * new as f32 * new as f32;
                    if without_xc * without_xc * cc > xc * xc * without_cc {
                        (*c, xc, cc, moved) = (new as u8, without_xc, without_cc, true);
                    }
                }
            }
        }
        if !moved {
            break;
        }
    }
    (if cc > 0.0 { xc / cc } else { 0.0 }, counts)
}
