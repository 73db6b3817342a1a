//! Sixteen f32 lanes: the width in which every float operation of Teff is defined.
//!
//! Float operations are written once, over [`Lanes`], and every instruction set supplies the
//! sixteen lanes: an array here, one register on AVX-512, two on AVX2. All the operations of the
//! trait are exact IEEE operations with one right answer, so what is written over them has the
//! same bits everywhere.

/// The number of lanes.
pub(crate) const LANES: usize = 16;

/// Arithmetic element by element: over one f32, or over sixteen.
pub(crate) trait Float: Copy {
    /// As many i32.
    type Int: Copy;

    fn splat(x: f32) -> Self;
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    fn div(self, o: Self) -> Self;
    /// `self * b + c`, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    fn abs(self) -> Self;
    /// `if self > o { self } else { o }`: `o` where one of them is NaN.
    fn max(self, o: Self) -> Self;
    /// `if self < o { self } else { o }`: `o` where one of them is NaN.
    fn min(self, o: Self) -> Self;
    /// `if self <= o { a } else { b }`.
    fn select_le(self, o: Self, a: Self, b: Self) -> Self;
    /// To the nearest integer, ties to even, for magnitudes up to 2^22; the sign of 0 is open.
    #[inline(always)]
    fn round(self) -> Self {
        // The sum has no bits left for a fraction, and is rounded to nearest even.
        self.add(Self::splat(MAGIC)).sub(Self::splat(MAGIC))
    }
    /// Integers of magnitude up to 2^22, as i32.
    fn to_int(self) -> Self::Int;
    /// `self * 2^n` for an integer `n` from -252 to 254, rounded once, for magnitudes from 0.5 to 2.
    fn scale2(self, n: Self) -> Self;
}

/// 1.5 * 2^23, whose neighbours are integers.
const MAGIC: f32 = 12_582_912.0;

impl Float for f32 {
    type Int = i32;

    #[inline(always)]
    fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn add(self, o: f32) -> f32 {
        self + o
    }
    #[inline(always)]
    fn sub(self, o: f32) -> f32 {
        self - o
    }
    #[inline(always)]
    fn mul(self, o: f32) -> f32 {
        self * o
    }
    #[inline(always)]
    fn div(self, o: f32) -> f32 {
        self / o
    }
    #[inline(always)]
    fn fma(self, b: f32, c: f32) -> f32 {
        fma(self, b, c)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn max(self, o: f32) -> f32 {
        if self > o { self } else { o }
    }
    #[inline(always)]
    fn min(self, o: f32) -> f32 {
        if self < o { self } else { o }
    }
    #[inline(always)]
    fn select_le(self, o: f32, a: f32, b: f32) -> f32 {
        if self <= o { a } else { b }
    }
    #[inline(always)]
    fn to_int(self) -> i32 {
        // Not `as i32`, whose saturation keeps compilers from vectorising it.
        ((self + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
    }
    #[inline(always)]
    fn scale2(self, n: f32) -> f32 {
        // In two halves: the first product is exact.
        let n = n.to_int();
        let power = |i: i32| f32::from_bits((i.wrapping_add(127) as u32) << 23);
        self * power(n >> 1) * power(n.wrapping_sub(n >> 1))
    }
}

/// Sixteen f32 (and, as [`Float::Int`], sixteen i32).
///
/// An implementation may use instructions that not every CPU has; its values must be made only
/// inside functions compiled for these instructions. Everything is `inline(always)`, so that it
/// becomes part of such a function.
pub(crate) trait Lanes: Float {
    /// Queries whose sums attention keeps in registers, at most 4.
    const QUERIES: usize = 1;
    /// Queries for which attention reads the cache once.
    const HELD: usize = 8;

    /// Tells the CPU to fetch a line of memory into its second-level cache.
    #[inline(always)]
    fn prefetch(p: *const u8) {
        let _ = p;
    }
    /// The same for what is read once and in order, by one of a few streams: what comes behind `p`
    /// and will be wanted next, as far ahead as memory asks for.
    #[inline(always)]
    fn prefetch_stream(p: *const u8) {
        Self::prefetch(p.wrapping_add(1024));
    }
    fn load(p: &[f32; LANES]) -> Self;
    /// Little-endian f32 at any address.
    fn load_le(p: &[[u8; 4]; LANES]) -> Self;
    /// Little-endian f16 at any address.
    fn load_f16(p: &[[u8; 2]; LANES]) -> Self;
    /// Little-endian bf16 at any address.
    fn load_bf16(p: &[[u8; 2]; LANES]) -> Self;
    fn load_i8(p: &[i8; LANES]) -> Self;
    fn store(self, p: &mut [f32; LANES]);
    /// Rounded to f16, ties to even.
    fn store_f16(self, p: &mut [[u8; 2]; LANES]);
    fn store_int(i: Self::Int, p: &mut [i32; LANES]);

    /// The halving tree: lane `j` plus lane `j + 8`, then `j + 4`, `j + 2`, `j + 1`.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut a = [0.0; LANES];
        self.store(&mut a);
        for half in [8, 4, 2, 1] {
            for j in 0..half {
                a[j] += a[j + half];
            }
        }
        a[0]
    }

    /// Sixteen times [`Lanes::sum`]: lane `i` of the result is the sum of `v[i]`.
    #[inline(always)]
    fn sums(v: &[Self; LANES]) -> Self {
        let mut a = [0.0; LANES];
        for (a, v) in a.iter_mut().zip(v) {
            *a = v.sum();
        }
        Self::load(&a)
    }

    /// The largest lane; any number where a lane is NaN.
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut a = [0.0; LANES];
        self.store(&mut a);
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
}

/// The portable sixteen lanes, which a compiler can turn into whatever vectors a target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

#[inline(always)]
fn each<T>(f: impl Fn(usize) -> T) -> [T; LANES] {
    core::array::from_fn(f)
}

impl Float for Portable {
    type Int = [i32; LANES];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Portable([x; LANES])
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Portable(each(|i| self.0[i] + o.0[i]))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Portable(each(|i| self.0[i] - o.0[i]))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Portable(each(|i| self.0[i] * o.0[i]))
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        Portable(each(|i| self.0[i] / o.0[i]))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        #[cfg(all(
            target_arch = "arm",
            target_os = "none",
            target_abi = "eabihf",
            not(target_has_atomic = "64")
        ))]
        return Portable(vfma::sixteen(&self.0, &b.0, c.0));
        #[allow(unreachable_code)] // reached where no instruction was named above
        Portable(each(|i| fma(self.0[i], b.0[i], c.0[i])))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Portable(each(|i| self.0[i].abs()))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        Portable(each(|i| Float::max(self.0[i], o.0[i])))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        Portable(each(|i| Float::min(self.0[i], o.0[i])))
    }
    #[inline(always)]
    fn select_le(self, o: Self, a: Self, b: Self) -> Self {
        Portable(each(|i| self.0[i].select_le(o.0[i], a.0[i], b.0[i])))
    }
    #[inline(always)]
    fn to_int(self) -> [i32; LANES] {
        each(|i| self.0[i].to_int())
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        Portable(each(|i| self.0[i].scale2(n.0[i])))
    }
}

impl Lanes for Portable {
    const HELD: usize = 1;

    #[inline(always)]
    fn load(p: &[f32; LANES]) -> Self {
        Portable(*p)
    }
    #[inline(always)]
    fn load_le(p: &[[u8; 4]; LANES]) -> Self {
        Portable(each(|i| f32::from_le_bytes(p[i])))
    }
    #[inline(always)]
    fn load_f16(p: &[[u8; 2]; LANES]) -> Self {
        Portable(each(|i| half::f16::from_le_bytes(p[i]).to_f32()))
    }
    #[inline(always)]
    fn load_bf16(p: &[[u8; 2]; LANES]) -> Self {
        Portable(each(|i| f32::from_bits(u32::from(u16::from_le_bytes(p[i])) << 16)))
    }
    #[inline(always)]
    fn load_i8(p: &[i8; LANES]) -> Self {
        Portable(each(|i| f32::from(p[i])))
    }
    #[inline(always)]
    fn store(self, p: &mut [f32; LANES]) {
        *p = self.0;
    }
    #[inline(always)]
    fn store_f16(self, p: &mut [[u8; 2]; LANES]) {
        *p = each(|i| half::f16::from_f32(self.0[i]).to_le_bytes());
    }
    #[inline(always)]
    fn store_int(i: [i32; LANES], p: &mut [i32; LANES]) {
        *p = i;
    }
}

/// The fused multiply-add of Cortex-M's FPU. All of its FPUs have it, from M4 on; the FPU of other
/// cores of 32-bit ARM may lack it, but these have atomics of 64 bits, which no Cortex-M has.
///
/// Stable Rust has no registers of single precision there, as operands. So values come through others.
#[cfg(all(
    target_arch = "arm",
    target_os = "none",
    target_abi = "eabihf",
    not(target_has_atomic = "64")
))]
mod vfma {
    use super::LANES;

    // Four lanes. (Not by the assembler's own repetition, whose length the compiler can't see.)
    macro_rules! four {
        () => {
            "vldmia {a}!, {{s0-s3}}
            vldmia {b}!, {{s4-s7}}
            vldmia {c}, {{s8-s11}}
            vfma.f32 s8, s0, s4
            vfma.f32 s9, s1, s5
            vfma.f32 s10, s2, s6
            vfma.f32 s11, s3, s7
            vstmia {c}!, {{s8-s11}}"
        };
    }

    #[inline(always)]
    pub(super) fn one(a: f32, b: f32, c: f32) -> f32 {
        let out: u32;
        // SAFETY: the target has the instruction, as said above. It touches nothing but registers.
        unsafe {
            core::arch::asm!(
                "vmov s0, {a}", "vmov s1, {b}", "vmov s2, {c}",
                "vfma.f32 s2, s0, s1", "vmov {out}, s2",
                a = in(reg) a.to_bits(), b = in(reg) b.to_bits(), c = in(reg) c.to_bits(),
                out = lateout(reg) out, out("s0") _, out("s1") _, out("s2") _,
                options(pure, nomem, nostack, preserves_flags));
        }
        f32::from_bits(out)
    }

    #[inline(always)]
    pub(super) fn sixteen(a: &[f32; LANES], b: &[f32; LANES], mut c: [f32; LANES]) -> [f32; LANES] {
        // SAFETY: as above; it reads the three arrays, four lanes at a time, and writes `c`.
        unsafe {
            core::arch::asm!(
                four!(), four!(), four!(), four!(),
                a = inout(reg) a.as_ptr() => _, b = inout(reg) b.as_ptr() => _,
                c = inout(reg) c.as_mut_ptr() => _,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _,
                out("s6") _, out("s7") _, out("s8") _, out("s9") _, out("s10") _, out("s11") _,
                options(nostack, preserves_flags));
        }
        c
    }
}

/// `a * b + c`, rounded once, on any target.
///
/// Where the target has no fused instruction: the product of two f32 is exact in f64; the sum is
/// rounded to odd (any lost bit sets the last one), so that the second rounding, to f32, gives
/// what one rounding would (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums",
/// 2008: 53 >= 24 + 2 bits suffice).
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "fma"))]
    {
        use core::arch::x86_64::{_mm_cvtss_f32, _mm_fmadd_ss, _mm_set_ss};
        // SAFETY: all of the program is compiled for CPUs with FMA.
        return unsafe { _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c))) };
    }
    #[cfg(all(
        target_arch = "arm",
        target_os = "none",
        target_abi = "eabihf",
        not(target_has_atomic = "64")
    ))]
    return vfma::one(a, b, c);
    #[allow(unreachable_code)] // reached where no instruction was named above
    fma_emulated(a, b, c)
}

#[inline(always)]
pub(crate) fn fma_emulated(a: f32, b: f32, c: f32) -> f32 {
    let p = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    // Knuth's two-sum: s + e is p + c exactly.
    let s = p + c;
    let t = s - p;
    let e = (p - (s - t)) + (c - t);
    let bits = s.to_bits();
    // e points towards zero from s: s was rounded away, and the odd neighbour is one below.
    let away = (e.to_bits() ^ bits) >> 63;
    let step = 1u64.wrapping_sub(away << 1);
    // NaN (and so not above 0) where p or c is infinite or NaN: s is right as it is.
    let inexact = e.abs() > 0.0;
    let fix = inexact && bits & 1 == 0;
    f64::from_bits(bits.wrapping_add(if fix { step } else { 0 })) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]

        #[test]
        fn emulated_fma_is_the_fused_one(a: u32, b: u32, c: u32, near: bool, d in -40i32..40) {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            // Half of the cases put c near the product, where cancellation shows wrong roundings.
            let c = if near { -a * b * (1.0 + d as f32 * f32::EPSILON) } else { f32::from_bits(c) };
            let (want, got) = (a.mul_add(b, c), fma_emulated(a, b, c));
            prop_assert!(
                want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()),
                "{a:e} * {b:e} + {c:e}: {want:e}, not {got:e}"
            );
        }
    }
}
