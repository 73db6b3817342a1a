//! Sixteen lanes in four registers of simd128.

use core::arch::wasm32::*;

use crate::lanes::{Float, LANES, Lanes};

/// Four lanes to a register.
#[derive(Clone, Copy)]
pub(super) struct Lanes128([v128; 4]);

/// Applies an instruction to all four registers.
macro_rules! each {
    ($f:ident($($x:expr),*)) => {
        Lanes128([$f($($x.0[0]),*), $f($($x.0[1]),*), $f($($x.0[2]),*), $f($($x.0[3]),*)])
    };
}

/// 1.5 * 2^23, whose neighbours are integers.
const MAGIC: f32 = 12_582_912.0;

/// Integers of magnitude up to 2^22, as i32. The instruction for it saturates, which costs.
#[inline(always)]
fn to_int(x: v128) -> v128 {
    i32x4_sub(f32x4_add(x, f32x4_splat(MAGIC)), f32x4_splat(MAGIC))
}

/// `y * 2^n` in two halves, of which the first is exact.
#[inline(always)]
fn scale2(y: v128, n: v128) -> v128 {
    let n = to_int(n);
    let half = i32x4_shr(n, 1);
    let power = |i| i32x4_shl(i32x4_add(i, i32x4_splat(127)), 23);
    f32x4_mul(f32x4_mul(y, power(half)), power(i32x4_sub(n, half)))
}

/// The upper two of four lanes, in place of the lower.
#[inline(always)]
fn upper(x: v128) -> v128 {
    i64x2_shuffle::<1, 1>(x, x)
}

/// Two pairs of f64, rounded to four f32.
#[inline(always)]
fn demote(lo: v128, hi: v128) -> v128 {
    i64x2_shuffle::<0, 2>(f32x4_demote_f64x2_zero(lo), f32x4_demote_f64x2_zero(hi))
}

/// `a * b + c`, rounded once unless it is hard, and where it is (any bit set).
///
/// The product of two f32 is exact in f64. Rounding the sum to f64 and then to f32 is the same as
/// rounding it once, unless the f64 lies just between two f32: its lower 29 bits are then a one and
/// zeros, or, where the f32 is subnormal, other bits.
#[inline(always)]
fn fma_easy(a: v128, b: v128, c: v128) -> (v128, v128) {
    let sum = |a, b, c| {
        let p = f64x2_mul(f64x2_promote_low_f32x4(a), f64x2_promote_low_f32x4(b));
        f64x2_add(p, f64x2_promote_low_f32x4(c))
    };
    let (lo, hi) = (sum(a, b, c), sum(upper(a), upper(b), upper(c)));
    let r = demote(lo, hi);
    let tie = i32x4_shl(i32x4_shuffle::<0, 2, 4, 6>(lo, hi), 3);
    let between = i32x4_eq(tie, i32x4_splat(i32::MIN));
    let small = f32x4_le(f32x4_abs(r), f32x4_splat(f32::MIN_POSITIVE));
    (r, v128_or(between, small))
}

/// `a * b + c`, rounded once: [`crate::lanes::fma_emulated`] for two lanes, as f64.
#[inline(always)]
fn fma_odd(a: v128, b: v128, c: v128) -> v128 {
    let p = f64x2_mul(f64x2_promote_low_f32x4(a), f64x2_promote_low_f32x4(b));
    let c = f64x2_promote_low_f32x4(c);
    let s = f64x2_add(p, c);
    let t = f64x2_sub(s, p);
    let e = f64x2_add(f64x2_sub(p, f64x2_sub(s, t)), f64x2_sub(c, t));
    // All ones or zeros: s is not the sum (never where it is infinite or NaN); s was rounded away.
    let inexact = f64x2_gt(f64x2_abs(e), f64x2_splat(0.0));
    let away = v128_and(i64x2_shr(v128_xor(e, s), 63), inexact);
    // One below, where it was rounded away; then the last bit set: the odd neighbour, or s.
    v128_or(i64x2_add(s, away), u64x2_shr(inexact, 63))
}

/// The sums that [`fma_easy`] calls hard.
#[cold]
#[inline(never)]
fn fma_hard(a: Lanes128, b: Lanes128, c: Lanes128) -> Lanes128 {
    let fma = |a, b, c| demote(fma_odd(a, b, c), fma_odd(upper(a), upper(b), upper(c)));
    each!(fma(a, b, c))
}

/// f16 in the lower halves of four lanes, as f32.
#[inline(always)]
pub(super) fn from_f16(h: v128) -> v128 {
    let magnitude = v128_and(h, u32x4_splat(0x7fff));
    let sign = u32x4_shl(v128_xor(h, magnitude), 16);
    // Another bias of the exponent; where it was all ones, it becomes all ones.
    let bias = u32x4_splat(112 << 23);
    let special = v128_and(i32x4_gt(magnitude, i32x4_splat(0x7bff)), bias);
    let normal = i32x4_add(i32x4_add(u32x4_shl(magnitude, 13), bias), special);
    let unit = f32x4_splat(1.0 / (1 << 24) as f32);
    let subnormal = f32x4_mul(f32x4_convert_i32x4(magnitude), unit);
    let is_normal = i32x4_gt(magnitude, i32x4_splat(0x3ff));
    v128_or(v128_bitselect(normal, subnormal, is_normal), sign)
}

/// f32 rounded to f16, ties to even, in the lower halves of four lanes.
#[inline(always)]
fn to_f16(x: v128) -> v128 {
    let magnitude = v128_and(x, u32x4_splat(0x7fff_ffff));
    let sign = u32x4_shr(v128_xor(x, magnitude), 16);
    // Half a unit is added, less one bit where the last bit stays even.
    let odd = v128_and(u32x4_shr(magnitude, 13), u32x4_splat(1));
    let rounded = i32x4_add(i32x4_add(magnitude, odd), u32x4_splat(0xfff));
    let normal = u32x4_shr(i32x4_sub(rounded, u32x4_splat(112 << 23)), 13);
    // The last bit of a sum near one half is the last bit of a subnormal f16.
    let half = f32x4_splat(0.5);
    let subnormal = i32x4_sub(f32x4_add(magnitude, half), half);
    // From 2^16 on infinite; NaN keep their upper bits, and get quiet.
    let payload = v128_and(u32x4_shr(magnitude, 13), u32x4_splat(0x3ff));
    let payload = v128_or(payload, u32x4_splat(0x200));
    let is_nan = i32x4_gt(magnitude, u32x4_splat(0x7f80_0000));
    let special = v128_or(v128_and(payload, is_nan), u32x4_splat(0x7c00));
    let r = v128_bitselect(special, normal, i32x4_gt(magnitude, u32x4_splat(0x477f_ffff)));
    let r = v128_bitselect(subnormal, r, i32x4_lt(magnitude, u32x4_splat(113 << 23)));
    v128_or(r, sign)
}

impl Lanes128 {
    /// Register `i` is `f(i)`.
    #[inline(always)]
    fn of(f: impl Fn(usize) -> v128) -> Self {
        Lanes128([f(0), f(1), f(2), f(3)])
    }
}

impl Float for Lanes128 {
    type Int = [v128; 4];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Lanes128([f32x4_splat(x); 4])
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        each!(f32x4_add(self, o))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        each!(f32x4_sub(self, o))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        each!(f32x4_mul(self, o))
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        each!(f32x4_div(self, o))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        let mut r = self;
        let mut hard = i32x4_splat(0);
        for i in 0..4 {
            let (sum, h) = fma_easy(self.0[i], b.0[i], c.0[i]);
            r.0[i] = sum;
            hard = v128_or(hard, h);
        }
        if v128_any_true(hard) { fma_hard(self, b, c) } else { r }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        each!(f32x4_abs(self))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        // `if o < self { self } else { o }`
        each!(f32x4_pmax(o, self))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        each!(f32x4_pmin(o, self))
    }
    #[inline(always)]
    fn select_le(self, o: Self, a: Self, b: Self) -> Self {
        let select = |x, o, a, b| v128_bitselect(a, b, f32x4_le(x, o));
        each!(select(self, o, a, b))
    }
    #[inline(always)]
    fn to_int(self) -> Self::Int {
        each!(to_int(self)).0
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        each!(scale2(self, n))
    }
}

impl Lanes for Lanes128 {
    #[inline(always)]
    fn load(p: &[f32; LANES]) -> Self {
        Self::load_le(bytemuck::cast_ref(p))
    }
    #[inline(always)]
    fn load_le(p: &[[u8; 4]; LANES]) -> Self {
        let p = p.as_ptr().cast::<v128>();
        // SAFETY: 64 bytes behind p; wasm loads from any address.
        Lanes128::of(|i| unsafe { v128_load(p.add(i)) })
    }
    #[inline(always)]
    fn load_f16(p: &[[u8; 2]; LANES]) -> Self {
        let p = p.as_ptr().cast::<u16>();
        // SAFETY: four f16 at each of four places, sixteen in all; wasm loads from any address.
        Lanes128::of(|i| from_f16(unsafe { u32x4_load_extend_u16x4(p.add(4 * i)) }))
    }
    #[inline(always)]
    fn load_bf16(p: &[[u8; 2]; LANES]) -> Self {
        let p = p.as_ptr().cast::<u16>();
        // SAFETY: four bf16 at each of four places, sixteen in all; wasm loads from any address.
        Lanes128::of(|i| u32x4_shl(unsafe { u32x4_load_extend_u16x4(p.add(4 * i)) }, 16))
    }
    #[inline(always)]
    fn load_i8(p: &[i8; LANES]) -> Self {
        // SAFETY: 16 bytes behind p.
        let v = unsafe { v128_load(p.as_ptr().cast()) };
        let (lo, hi) = (i16x8_extend_low_i8x16(v), i16x8_extend_high_i8x16(v));
        let quads = Lanes128([
            i32x4_extend_low_i16x8(lo),
            i32x4_extend_high_i16x8(lo),
            i32x4_extend_low_i16x8(hi),
            i32x4_extend_high_i16x8(hi),
        ]);
        each!(f32x4_convert_i32x4(quads))
    }
    #[inline(always)]
    fn store(self, p: &mut [f32; LANES]) {
        let p = p.as_mut_ptr().cast::<v128>();
        for (i, v) in self.0.into_iter().enumerate() {
            // SAFETY: sixteen floats behind p.
            unsafe { v128_store(p.add(i), v) };
        }
    }
    #[inline(always)]
    fn store_f16(self, p: &mut [[u8; 2]; LANES]) {
        let p = p.as_mut_ptr().cast::<v128>();
        let Lanes128(h) = each!(to_f16(self));
        // SAFETY: 32 bytes behind p.
        unsafe {
            v128_store(p, u16x8_narrow_i32x4(h[0], h[1]));
            v128_store(p.add(1), u16x8_narrow_i32x4(h[2], h[3]));
        }
    }
    #[inline(always)]
    fn store_int(i: Self::Int, p: &mut [i32; LANES]) {
        let p = p.as_mut_ptr().cast::<v128>();
        for (i, v) in i.into_iter().enumerate() {
            // SAFETY: sixteen integers behind p.
            unsafe { v128_store(p.add(i), v) };
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        let a = f32x4_add(f32x4_add(a, c), f32x4_add(b, d)); // j + (j + 8), then j + (j + 4)
        let a = f32x4_add(a, upper(a)); // j + (j + 2)
        f32x4_extract_lane::<0>(a) + f32x4_extract_lane::<1>(a)
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        let a = f32x4_pmax(f32x4_pmax(a, b), f32x4_pmax(c, d));
        let a = f32x4_pmax(a, upper(a));
        let (x, y) = (f32x4_extract_lane::<0>(a), f32x4_extract_lane::<1>(a));
        if x > y { x } else { y }
    }
}
