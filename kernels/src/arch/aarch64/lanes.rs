//! Sixteen lanes in four registers of NEON.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::lanes::{Float, LANES, Lanes};

/// Every target of this module has NEON, so values may be made anywhere.
#[derive(Clone, Copy)]
pub(super) struct Lanes128(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

/// Applies an intrinsic to all four registers.
macro_rules! four {
    ($f:ident($($x:expr),*)) => {
        // SAFETY: every target of this module has NEON.
        unsafe {
            Lanes128($f($($x.0),*), $f($($x.1),*), $f($($x.2),*), $f($($x.3),*))
        }
    };
}

/// Four f16 as f32. (The intrinsic is not stable in the oldest compiler that Teff supports.)
#[inline(always)]
pub(super) fn widen(h: uint16x4_t) -> float32x4_t {
    let f;
    // SAFETY: a register in, a register out; part of NEON.
    unsafe {
        asm!("fcvtl {f:v}.4s, {h:v}.4h", f = lateout(vreg) f, h = in(vreg) h,
            options(pure, nomem, nostack));
    }
    f
}

/// Four f32 rounded to f16, ties to even (the mode that Rust's floats always have).
#[inline(always)]
fn narrow(f: float32x4_t) -> uint16x4_t {
    let h;
    // SAFETY: a register in, a register out; part of NEON.
    unsafe {
        asm!("fcvtn {h:v}.4h, {f:v}.4s", h = lateout(vreg) h, f = in(vreg) f,
            options(pure, nomem, nostack));
    }
    h
}

/// `y * 2^n` in two halves, of which the first is exact.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn scale2(y: float32x4_t, n: float32x4_t) -> float32x4_t {
    // SAFETY: every target of this module has NEON.
    unsafe {
        let (n, bias) = (vcvtq_s32_f32(n), vdupq_n_s32(127));
        let half = vshrq_n_s32::<1>(n);
        let rest = vsubq_s32(n, half);
        let half = vshlq_n_s32::<23>(vaddq_s32(half, bias));
        let rest = vshlq_n_s32::<23>(vaddq_s32(rest, bias));
        vmulq_f32(vmulq_f32(y, vreinterpretq_f32_s32(half)), vreinterpretq_f32_s32(rest))
    }
}

/// `if a > b { a } else { b }`: not the instruction for it, which gives NaN where one of them is.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: NEON by the caller.
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

/// `if a < b { a } else { b }`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: NEON by the caller.
    unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
}

/// `if x <= y { a } else { b }`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn select_le(x: float32x4_t, y: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: NEON by the caller.
    unsafe { vbslq_f32(vcleq_f32(x, y), a, b) }
}

/// The first two steps of the halving tree: lane `j` plus `j + 8`, then plus `j + 4`.
#[inline(always)]
fn quarter(v: Lanes128) -> float32x4_t {
    // SAFETY: every target of this module has NEON.
    unsafe { vaddq_f32(vaddq_f32(v.0, v.2), vaddq_f32(v.1, v.3)) }
}

/// Lane `i` is the sum of the lanes of `v[i]`: 0 with 2 and 1 with 3, then these two.
#[inline(always)]
fn sums4(v: [float32x4_t; 4]) -> float32x4_t {
    // SAFETY: every target of this module has NEON.
    unsafe {
        let v = [
            vreinterpretq_f64_f32(v[0]),
            vreinterpretq_f64_f32(v[1]),
            vreinterpretq_f64_f32(v[2]),
            vreinterpretq_f64_f32(v[3]),
        ];
        let (lo, hi) = (vzip1q_f64(v[0], v[1]), vzip2q_f64(v[0], v[1]));
        let a = vaddq_f32(vreinterpretq_f32_f64(lo), vreinterpretq_f32_f64(hi));
        let (lo, hi) = (vzip1q_f64(v[2], v[3]), vzip2q_f64(v[2], v[3]));
        let b = vaddq_f32(vreinterpretq_f32_f64(lo), vreinterpretq_f32_f64(hi));
        vpaddq_f32(a, b)
    }
}

impl Float for Lanes128 {
    type Int = [int32x4_t; 4];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: every target of this module has NEON.
        unsafe {
            let x = vdupq_n_f32(x);
            Lanes128(x, x, x, x)
        }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        four!(vaddq_f32(self, o))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        four!(vsubq_f32(self, o))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        four!(vmulq_f32(self, o))
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        four!(vdivq_f32(self, o))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        four!(vfmaq_f32(c, self, b))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        four!(vabsq_f32(self))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        four!(larger(self, o))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        four!(smaller(self, o))
    }
    #[inline(always)]
    fn select_le(self, o: Self, a: Self, b: Self) -> Self {
        four!(select_le(self, o, a, b))
    }
    #[inline(always)]
    fn to_int(self) -> Self::Int {
        // SAFETY: every target of this module has NEON.
        unsafe {
            [
                vcvtq_s32_f32(self.0),
                vcvtq_s32_f32(self.1),
                vcvtq_s32_f32(self.2),
                vcvtq_s32_f32(self.3),
            ]
        }
    }
    #[inline(always)]
    fn round(self) -> Self {
        four!(vrndnq_f32(self))
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        four!(scale2(self, n))
    }
}

impl Lanes for Lanes128 {
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: a prefetch reads nothing, so it may go anywhere.
        unsafe {
            asm!("prfm pldl2keep, [{p}]", p = in(reg) p.addr(),
                options(nomem, nostack, preserves_flags));
        }
    }
    #[inline(always)]
    fn load(p: &[f32; LANES]) -> Self {
        let p = p.as_ptr();
        // SAFETY: sixteen floats behind p.
        unsafe {
            Lanes128(vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12)))
        }
    }
    #[inline(always)]
    fn load_le(p: &[[u8; 4]; LANES]) -> Self {
        let p = p.as_ptr().cast::<u8>();
        // SAFETY: 64 bytes behind p, read as bytes, which lie at any address.
        unsafe {
            Lanes128(
                vreinterpretq_f32_u8(vld1q_u8(p)),
                vreinterpretq_f32_u8(vld1q_u8(p.add(16))),
                vreinterpretq_f32_u8(vld1q_u8(p.add(32))),
                vreinterpretq_f32_u8(vld1q_u8(p.add(48))),
            )
        }
    }
    #[inline(always)]
    fn load_f16(p: &[[u8; 2]; LANES]) -> Self {
        let p = p.as_ptr().cast::<u8>();
        // SAFETY: 32 bytes behind p, read as bytes, which lie at any address.
        unsafe {
            Lanes128(
                widen(vreinterpret_u16_u8(vld1_u8(p))),
                widen(vreinterpret_u16_u8(vld1_u8(p.add(8)))),
                widen(vreinterpret_u16_u8(vld1_u8(p.add(16)))),
                widen(vreinterpret_u16_u8(vld1_u8(p.add(24)))),
            )
        }
    }
    #[inline(always)]
    fn load_bf16(p: &[[u8; 2]; LANES]) -> Self {
        let p = p.as_ptr().cast::<u8>();
        // SAFETY: 32 bytes behind p, read as bytes, which lie at any address.
        unsafe {
            let (a, b) =
                (vreinterpretq_u16_u8(vld1q_u8(p)), vreinterpretq_u16_u8(vld1q_u8(p.add(16))));
            let zero = vdupq_n_u16(0);
            Lanes128(
                vreinterpretq_f32_u16(vzip1q_u16(zero, a)),
                vreinterpretq_f32_u16(vzip2q_u16(zero, a)),
                vreinterpretq_f32_u16(vzip1q_u16(zero, b)),
                vreinterpretq_f32_u16(vzip2q_u16(zero, b)),
            )
        }
    }
    #[inline(always)]
    fn load_i8(p: &[i8; LANES]) -> Self {
        // SAFETY: 16 bytes behind p.
        unsafe {
            let v = vld1q_s8(p.as_ptr());
            let (a, b) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
            Lanes128(
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))),
                vcvtq_f32_s32(vmovl_high_s16(a)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))),
                vcvtq_f32_s32(vmovl_high_s16(b)),
            )
        }
    }
    #[inline(always)]
    fn store(self, p: &mut [f32; LANES]) {
        for (to, v) in p.as_chunks_mut::<4>().0.iter_mut().zip([self.0, self.1, self.2, self.3]) {
            // SAFETY: four floats behind `to`.
            unsafe { vst1q_f32(to.as_mut_ptr(), v) };
        }
    }
    #[inline(always)]
    fn store_f16(self, p: &mut [[u8; 2]; LANES]) {
        for (to, v) in p.as_chunks_mut::<4>().0.iter_mut().zip([self.0, self.1, self.2, self.3]) {
            // SAFETY: 8 bytes behind `to`, written as bytes, which lie at any address.
            unsafe { vst1_u8(to.as_mut_ptr().cast(), vreinterpret_u8_u16(narrow(v))) };
        }
    }
    #[inline(always)]
    fn store_int(i: Self::Int, p: &mut [i32; LANES]) {
        for (to, v) in p.as_chunks_mut::<4>().0.iter_mut().zip(i) {
            // SAFETY: four integers behind `to`.
            unsafe { vst1q_s32(to.as_mut_ptr(), v) };
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let a = quarter(self);
        // SAFETY: every target of this module has NEON.
        unsafe {
            let a = vadd_f32(vget_low_f32(a), vget_high_f32(a)); // j + (j + 2)
            vget_lane_f32::<0>(a) + vget_lane_f32::<1>(a)
        }
    }
    #[inline(always)]
    fn sums(v: &[Self; LANES]) -> Self {
        let four = |i: usize| {
            sums4([quarter(v[i]), quarter(v[i + 1]), quarter(v[i + 2]), quarter(v[i + 3])])
        };
        Lanes128(four(0), four(4), four(8), four(12))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: every target of this module has NEON.
        unsafe {
            let a = vmaxnmq_f32(vmaxnmq_f32(self.0, self.1), vmaxnmq_f32(self.2, self.3));
            vmaxnmvq_f32(a)
        }
    }
}
