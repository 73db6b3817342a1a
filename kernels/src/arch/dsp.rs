//! The DSP extension of 32-bit ARM: Cortex-M4 and M7, and those of M33, M35P, M55 and M85 that were
//! built with it.
//!
//! Four codes lie in a word. `sxtb16` makes two signed halves of every other byte, `smlad` multiplies
//! two pairs of halves and adds both products: integer sums only, so all bits are those of the scalar
//! truth. Whether a core has the extension can't be asked, and stable Rust does not tell what a
//! target has: a firmware that knows its core names [`Dsp`] instead of [`crate::Scalar`].
//!
//! All functions are `inline`, so that they are compiled where a firmware uses them, for its core:
//! a library for Cortex-M0 has none of them.

use core::ops::Range;

use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::backend::{check_matmul, matmul_portable};
use crate::blocks::{
    CodeBlock, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MXFP4, NVFP4,
    Q1_0, Q2_0, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, for_codes,
};
use crate::{Activations, Backend, Matrix, Q8Activations, Tile};

/// Backend that computes products with the DSP extension. A value proves that the core has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dsp(());

impl Dsp {
    /// The backend. There is no checked constructor: the extension can't be asked for.
    ///
    /// # Safety
    /// The core has the DSP extension. (Where the target, such as `thumbv6m-none-eabi`, is known not
    /// to have it, the firmware does not build.)
    #[inline]
    #[must_use]
    pub const unsafe fn new_unchecked() -> Self {
        Dsp(())
    }
}

/// Bytes 0 and 2 (`sxtb16`), or with `ODD` bytes 1 and 3, as signed halves.
#[cfg(target_arch = "arm")]
#[inline(always)]
fn halves<const ODD: bool>(bytes: u32) -> u32 {
    let out: u32;
    // SAFETY: reached by a value of `Dsp` only, whose maker promised the instruction. It touches
    // nothing but its registers.
    unsafe {
        if ODD {
            core::arch::asm!("sxtb16 {}, {}, ror #8", lateout(reg) out, in(reg) bytes,
                options(pure, nomem, nostack, preserves_flags));
        } else {
            core::arch::asm!("sxtb16 {}, {}", lateout(reg) out, in(reg) bytes,
                options(pure, nomem, nostack, preserves_flags));
        }
    }
    out
}

/// `acc`, and the products of the lower and of the upper halves (`smlad`).
#[cfg(target_arch = "arm")]
#[inline(always)]
fn pairs(a: u32, b: u32, acc: i32) -> i32 {
    let out: i32;
    // SAFETY: as above. The flag Q, the only one it may set, stays: sums of codes don't overflow.
    unsafe {
        core::arch::asm!("smlad {}, {}, {}, {}", lateout(reg) out, in(reg) a, in(reg) b,
            in(reg) acc, options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// `sxtb16` in plain Rust, for the tests of other machines.
#[cfg(not(target_arch = "arm"))]
#[inline(always)]
fn halves<const ODD: bool>(bytes: u32) -> u32 {
    let [a, b, c, d] = bytes.to_le_bytes();
    let (low, high) = if ODD { (b, d) } else { (a, c) };
    u32::from(low as i8 as u16) | u32::from(high as i8 as u16) << 16
}

/// `smlad` in plain Rust, for the tests of other machines.
#[cfg(not(target_arch = "arm"))]
#[inline(always)]
fn pairs(a: u32, b: u32, acc: i32) -> i32 {
    let product = |a: u32, b: u32| i32::from(a as i16) * i32::from(b as i16);
    acc + product(a, b) + product(a >> 16, b >> 16)
}

/// 32 bytes as eight words, the first byte the lowest.
#[inline(always)]
fn load(bytes: &[u8], at: usize) -> [u32; 8] {
    let (bytes, _) = bytes.as_chunks::<32>();
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes[at].as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

#[inline(always)]
fn each(mut words: [u32; 8], f: impl Fn(u32) -> u32) -> [u32; 8] {
    for word in &mut words {
        *word = f(*word);
    }
    words
}

#[inline(always)]
fn or(mut a: [u32; 8], b: [u32; 8]) -> [u32; 8] {
    for (a, b) in a.iter_mut().zip(b) {
        *a |= b;
    }
    a
}

/// A format whose codes come four to a word.
trait Words: CodeBlock {
    /// Excess of bytes over codes, subtracted from whole sums.
    const BIAS: i32;

    /// Codes `32 * part..32 * part + 32` plus the bias, as bytes: -128..=127.
    fn words(&self, part: usize) -> [u32; 8];
}

/// The lower four bits of Q4_0's codes, and of those of what is like it.
#[inline(always)]
fn nibbles(q: &[u8; 16]) -> [u32; 8] {
    let mut words = [0; 8];
    for (i, bytes) in q.as_chunks::<4>().0.iter().enumerate() {
        let both = u32::from_le_bytes(*bytes);
        words[i] = both & 0x0f0f_0f0f;
        words[i + 4] = both >> 4 & 0x0f0f_0f0f;
    }
    words
}

/// The fifth bits of the same codes, in place.
#[inline(always)]
fn fifth(h: [u8; 4]) -> [u32; 8] {
    let h = u32::from_le_bytes(h);
    let mut words = [0; 8];
    for (i, word) in words.iter_mut().enumerate() {
        // Copies of four bits, 7 bits apart: of each, one bit is the first of a byte.
        *word = (((h >> (4 * i) & 15) * 0x0020_4081) & 0x0101_0101) << 4;
    }
    words
}

/// The lower four bits of Q4_K's codes.
#[inline(always)]
fn nibbles_k(q: &[u8; 128], part: usize) -> [u32; 8] {
    each(load(q, part / 2), |q| q >> (part % 2 * 4) & 0x0f0f_0f0f)
}

/// Two bits of each code of Q2_K and what is like it.
#[inline(always)]
fn crumbs(q: &[u8; 64], part: usize) -> [u32; 8] {
    each(load(q, part / 4), |q| q >> (part % 4 * 2) & 0x0303_0303)
}

/// Bit `part` of each byte, as bit `to`.
#[inline(always)]
fn bit(h: &[u8; 32], part: usize, to: u32) -> [u32; 8] {
    each(load(h, 0), |h| (h >> part & 0x0101_0101) << to)
}

macro_rules! words {
    ($($B:ty, $bias:literal: |$b:ident, $part:ident| $words:expr;)*) => {$(
        impl Words for $B {
            const BIAS: i32 = $bias;
            #[inline(always)]
            fn words(&self, $part: usize) -> [u32; 8] {
                let $b = self;
                $words
            }
        }
    )*};
}

words! {
    Q8_0, 0: |b, _part| load(bytemuck::cast_slice(&b.q), 0);
    Q4_0, 8: |b, _part| nibbles(&b.q);
    IQ4_NL, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    MXFP4, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ4_XS, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    NVFP4, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    Q1_0, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    Q2_0, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ1_S, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ1_M, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ2_XXS, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ2_XS, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ2_S, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ3_XXS, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    IQ3_S, 0: |b, part| load(bytemuck::cast_slice(&b.codes(part)), 0);
    Q4_1, 0: |b, _part| nibbles(&b.q);
    Q5_0, 16: |b, _part| or(nibbles(&b.q), fifth(b.h));
    Q5_1, 0: |b, _part| or(nibbles(&b.q), fifth(b.h));
    Q2_K, 0: |b, part| crumbs(&b.q, part);
    Q3_K, 4: |b, part| or(crumbs(&b.q, part), bit(&b.h, part, 2));
    Q4_K, 0: |b, part| nibbles_k(&b.q, part);
    Q5_K, 0: |b, part| or(nibbles_k(&b.q, part), bit(&b.h, part, 4));
    Q6_K, 32: |b, part| {
        let low = load(&b.q, part / 4 * 2 + part % 2);
        let low = each(low, |q| q >> (part % 4 / 2 * 4) & 0x0f0f_0f0f);
        or(low, each(crumbs(&b.h, part), |h| h << 4))
    };
}

/// [`crate::ops::quant::dot`], with integer sums four codes at a time.
#[inline(always)]
fn dot<B: Words>(w: &[B], x: Q8Row<'_>) -> f32 {
    let parts = B::LEN / ACT_BLOCK;
    let planes = [x.q, x.lo.unwrap_or_default()];
    let planes = &planes[..1 + usize::from(x.lo.is_some())];
    let mut acc = 0.0;
    for (b, w) in w.iter().enumerate() {
        for part in 0..parts {
            let a = b * parts + part;
            let words = w.words(part);
            for i in 0..ACT_BLOCK / B::SUB {
                let words = &words[i * (B::SUB / 4)..][..B::SUB / 4];
                let mut isum = 0;
                for q in planes {
                    let q = &q.as_chunks::<4>().0[(a * ACT_BLOCK + i * B::SUB) / 4..];
                    isum *= 255;
                    for (&w, q) in words.iter().zip(&q[..B::SUB / 4]) {
                        let q = u32::from_le_bytes(bytemuck::cast(*q));
                        isum = pairs(halves::<false>(w), halves::<false>(q), isum);
                        isum = pairs(halves::<true>(w), halves::<true>(q), isum);
                    }
                }
                let first = a * (ACT_BLOCK / ACT_SUM) + i * (B::SUB / ACT_SUM);
                let xsum = x.s[first..][..B::SUB / ACT_SUM].iter().sum::<i32>();
                isum -= B::BIAS * xsum;
                let sub = part * (ACT_BLOCK / B::SUB) + i;
                let mut t = (w.scale(sub) * x.d[a]) * isum as f32;
                if B::MINS {
                    t += w.min(sub) * (x.d[a] * xsum as f32);
                }
                acc += t;
            }
        }
    }
    acc
}

#[inline]
fn matmul<B: Words>(w: &Matrix<'_>, x: &Q8Activations<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    for (i, r) in rows.enumerate() {
        let w = w.row::<B>(r);
        for t in 0..x.n() {
            y.row(t)[i] = dot(w, x.row(t));
        }
    }
}

impl Backend for Dsp {
    #[inline]
    fn name(&self) -> &'static str {
        "dsp"
    }

    #[inline]
    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        _scratch: &mut [u8],
    ) {
        check_matmul(w, x, &rows, y);
        match x {
            Activations::Q8(x) if !w.is_repacked() => {
                for_codes!(w.format(), B => matmul::<B>(w, x, rows, y),
                dense => unreachable!("checked by check_matmul"))
            }
            _ => matmul_portable(w, x, rows, y),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;
    use proptest::test_runner::TestCaseResult;

    use super::*;
    use crate::{Format, Scalar};

    /// Sums of any codes of a row of two blocks: equal bits, with scales of any kind.
    fn same<B: Words>(bytes: &[u8], codes: &[i8], fine: bool) -> TestCaseResult {
        let cols = 2 * B::LEN;
        let w = &bytes[..2 * size_of::<B>()];
        let w = Matrix::new(B::FORMAT, 1, cols, w).unwrap();
        let (q, lo) = (&codes[..cols], &codes[512..512 + cols]);
        let code = |i: usize| match fine {
            true => 255 * i32::from(q[i]) + i32::from(lo[i]),
            false => q[i].into(),
        };
        let s: Vec<i32> = (0..cols / 16).map(|s| (16 * s..16 * s + 16).map(code).sum()).collect();
        let d: Vec<f32> = (0..cols / 32).map(|i| 0.37 - 0.11 * i as f32).collect();
        let x = Q8Activations::new(1, cols, q, &d, &s);
        let x = Activations::Q8(if fine { x.with_low(lo) } else { x });
        let run = |b: &dyn Backend| {
            let mut y = vec![0.0; 1];
            b.matmul(&w, &x, 0..1, &mut Tile::new(&mut y, 1, 1, 1), &mut []);
            if y[0].is_nan() { f32::NAN.to_bits() } else { y[0].to_bits() }
        };
        // SAFETY: no instruction of the extension is used where the machine isn't ARM.
        prop_assert_eq!(run(&Scalar), run(&unsafe { Dsp::new_unchecked() }), "{}", B::FORMAT);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn equals_the_scalar_truth(
            bytes in prop::collection::vec(any::<u8>(), 512),
            codes in prop::collection::vec(-127i8..=127, 1024),
            fine: bool,
        ) {
            for format in Format::ALL {
                for_codes!(format, B => same::<B>(&bytes, &codes, fine)?, dense => {});
            }
        }
    }
}
