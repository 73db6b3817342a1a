//! Transcendental functions: one polynomial each, the same operations in the same order on every
//! machine. The errors stated here are measured over all f32 by `kernels/tests/transcendental.rs`.

use crate::lanes::Float;

/// `exp(x)`; see [`crate::exp`].
///
/// `x = n ln 2 + r`; `n ln 2` is subtracted in two parts, of which the first product is exact;
/// `exp(r) = 1 + r + r^2 P(r)`, `P` of degree 4 interpolating at the Chebyshev nodes of
/// `|r| <= ln 2 / 2`; results down to the smallest subnormal are rounded once more.
#[inline(always)]
pub(crate) fn exp<L: Float>(x: L) -> L {
    const LN2_HI: f32 = 355.0 / 512.0; // nine bits: its product with n is exact
    const LN2_LO: f32 = -2.121_944_4e-4; // ln 2 - LN2_HI
    const P: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_556, 0.008_363_179, 0.001_392_618_4];
    // Beyond these the result is 0 or infinite (also when computed from the bound itself).
    let c = x.max(L::splat(-104.0)).min(L::splat(89.0));
    let n = c.mul(L::splat(core::f32::consts::LOG2_E)).round();
    let r = c.sub(n.mul(L::splat(LN2_HI))).sub(n.mul(L::splat(LN2_LO)));
    let mut p = L::splat(P[4]);
    for k in [P[3], P[2], P[1], P[0]] {
        p = p.mul(r).add(L::splat(k));
    }
    let y = p.mul(r).mul(r).add(r).add(L::splat(1.0));
    x.select_le(x, y.scale2(n), x) // NaN stays
}

/// GELU in its tanh form; see [`crate::Backend::gelu`].
///
/// `0.5 x (1 + tanh u) = x / (1 + exp(-2u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`.
#[inline(always)]
pub(crate) fn gelu<L: Float>(x: L) -> L {
    const A: f32 = -1.595_769; // -2 sqrt(2/pi)
    const B: f32 = -0.071_354_814; // A * 0.044715
    let minus_2u = x.mul(x.mul(x).mul(L::splat(B)).add(L::splat(A)));
    x.div(exp(minus_2u).add(L::splat(1.0)))
}

/// SiLU; see [`crate::Backend::silu`].
#[inline(always)]
pub(crate) fn silu<L: Float>(x: L) -> L {
    x.div(exp(L::splat(0.0).sub(x)).add(L::splat(1.0)))
}

/// The logistic function; see [`crate::Backend::sigmoid`].
#[inline(always)]
pub(crate) fn sigmoid<L: Float>(x: L) -> L {
    L::splat(1.0).div(exp(L::splat(0.0).sub(x)).add(L::splat(1.0)))
}

/// SwiGLU with clamped inputs; see [`crate::Backend::swiglu_clamped`].
#[inline(always)]
pub(crate) fn swiglu_clamped<L: Float>(gate: L, up: L, alpha: L, limit: L) -> L {
    let least = L::splat(0.0).sub(limit);
    // Not min and max, which would drop NaN.
    let g = limit.select_le(gate, limit, gate);
    let u = limit.select_le(up, limit, up);
    let u = u.select_le(least, least, u);
    let glu = g.div(exp(L::splat(0.0).sub(alpha.mul(g))).add(L::splat(1.0)));
    u.add(L::splat(1.0)).mul(glu)
}

/// Hyperbolic tangent.
///
/// Up to 0.625 the odd polynomial of Cephes' `tanhf` (Moshier, 1987), `x + x z P(z)` with `z = x^2`;
/// beyond, `1 - 2 / (exp(2 |x|) + 1)` with the sign of `x`.
#[inline(always)]
pub(crate) fn tanh<L: Float>(x: L) -> L {
    const P: [f32; 5] =
        [-0.333_332_8, 0.133_314_42, -0.053_739_715, 0.020_639_09, -0.005_704_988_7];
    let (z, size, zero) = (x.mul(x), x.abs(), L::splat(0.0));
    let mut p = L::splat(P[4]);
    for k in [P[3], P[2], P[1], P[0]] {
        p = p.mul(z).add(L::splat(k));
    }
    let near = p.mul(z).mul(x).add(x);
    let e = exp(size.add(size)).add(L::splat(1.0));
    let far = L::splat(1.0).sub(L::splat(2.0).div(e));
    let far = zero.select_le(x, far, zero.sub(far));
    size.select_le(L::splat(0.625), near, far) // NaN goes through exp, and stays
}

/// Soft bound; see [`crate::Backend::softcap`].
#[inline(always)]
pub(crate) fn softcap<L: Float>(x: L, cap: L) -> L {
    tanh(x.div(cap)).mul(cap)
}

/// `ln(1 + exp(x))`; see [`crate::softplus`].
///
/// `max(x, 0) + ln(1 + u)` with `u = exp(-|x|)`; `ln(1 + u) = 2 atanh(s)` with `s = u / (u + 2)`, and
/// `atanh(s) = s + s^3 P(s^2)`, `P` of degree 4 interpolating at the Chebyshev nodes of `s^2 <= 1/9`.
#[inline(always)]
pub(crate) fn softplus<L: Float>(x: L) -> L {
    const P: [f32; 5] = [0.333_333_34, 0.199_998_53, 0.142_961_78, 0.108_532_876, 0.116_121_65];
    let zero = L::splat(0.0);
    let u = exp(zero.sub(x.abs()));
    let s = u.div(u.add(L::splat(2.0)));
    let z = s.mul(s);
    let mut p = L::splat(P[4]);
    for k in [P[3], P[2], P[1], P[0]] {
        p = p.mul(z).add(L::splat(k));
    }
    let twice = s.add(s);
    let log = p.mul(z).mul(twice).add(twice);
    x.select_le(zero, zero, x).add(log) // not max, which would drop NaN
}

/// Squared ReLU; see [`crate::Backend::relu2`].
#[inline(always)]
pub(crate) fn relu2<L: Float>(x: L) -> L {
    let zero = L::splat(0.0);
    let r = x.select_le(zero, zero, x); // not max, which would drop NaN
    r.mul(r)
}
