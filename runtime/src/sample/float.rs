//! Logarithm and exponential of f64 from additions, multiplications and divisions alone, so that
//! every machine has the same bits.

/// `ln 2` in two parts, of which the first has 32 bits: its product with an exponent is exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// Natural logarithm of a positive finite number that is not subnormal: less than 2 ULP from the
/// exact value.
///
/// `x = 2^e m` with `m` from `sqrt(1/2)` to `sqrt(2)`; `ln m = 2 artanh(s)`, `s = (m - 1) / (m + 1)`,
/// by the series of the inverse hyperbolic tangent up to `s^21`.
pub(crate) fn ln(x: f64) -> f64 {
    const ODD: [f64; 10] = [
        1.0 / 21.0,
        1.0 / 19.0,
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
        1.0 / 3.0,
    ];
    let bits = x.to_bits();
    let mut e = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if m > core::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let f = m - 1.0; // exact
    let s = f / (m + 1.0);
    let z = s * s;
    let mut p = 0.0;
    for k in ODD {
        p = p * z + k;
    }
    let e = e as f64;
    // 2 artanh(s) = f - s (f - 2 z P(z)), where the first term is exact.
    let rest = s * (f - 2.0 * z * p);
    e * LN2_HI + (f - (rest - e * LN2_LO))
}

/// `exp(x)`: less than 2 ULP from the exact value; 0 below -708, infinite above 709.78, NaN for
/// NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; the Taylor series of `exp(r)` up to `r^13`.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < -708.0 {
        return 0.0;
    }
    if x > 709.782_712_893_384 {
        return f64::INFINITY;
    }
    let half = if x < 0.0 { -0.5 } else { 0.5 };
    let n = (x * core::f64::consts::LOG2_E + half) as i64;
    let r = (x - n as f64 * LN2_HI) - n as f64 * LN2_LO;
    let mut p = 1.0;
    for k in (1..=13).rev() {
        p = p * r / f64::from(k) + 1.0;
    }
    // In two steps, since 2^1024 is not a number.
    let power = |n: i64| f64::from_bits(((n + 1023) as u64) << 52);
    p * power(n / 2) * power(n - n / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units in the last place between a result and the platform's.
    fn ulp(a: f64, b: f64) -> u64 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn logarithms_are_near_the_platforms() {
        let mut x = f64::MIN_POSITIVE;
        while x < 1e300 {
            assert!(ulp(ln(x), x.ln()) <= 3, "ln {x:e}: {:e}, not {:e}", ln(x), x.ln());
            x *= 1.618_033_988_75;
        }
        for i in 0..20_000 {
            let x = 0.5 + f64::from(i) / 10_000.0;
            let (got, want) = (ln(x), x.ln());
            assert!(ulp(got, want) <= 3 || (got == 0.0 && want == 0.0), "ln {x}: {got} not {want}");
        }
        assert_eq!((ln(1.0), ln(2.0)), (0.0, core::f64::consts::LN_2));
    }

    #[test]
    fn exponentials_are_near_the_platforms() {
        for i in -70_000..=70_900 {
            let x = f64::from(i) / 100.0;
            assert!(ulp(exp(x), x.exp()) <= 3, "exp {x}: {:e}, not {:e}", exp(x), x.exp());
        }
        assert_eq!((exp(0.0), exp(-1000.0), exp(1000.0)), (1.0, 0.0, f64::INFINITY));
        assert!(exp(709.7).is_finite() && exp(f64::NAN).is_nan());
    }
}
