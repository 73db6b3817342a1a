//! The gemv micro-kernel of AVX-512 with VNNI: sixteen rows.
//!
//! It is that of `gemv256.rs` at twice the width, with bytes as columns: before the products, four
//! registers of sixteen rows are transposed so that a lane belongs to a row.
//!
//! ```text
//! 16 bytes of each of 16 rows, in 4 registers        transposed: 4 columns of bytes in each
//! | row 0  0..16 | row 4 .. | row 8 .. | row 12 .. |     | row 0  0..4 | row 1  0..4 | .. | row 15 |
//! | row 1        | row 5    | row 9    | row 13    | --> | row 0  4..8 | row 1  4..8 | .. |        |
//! | row 2        | row 6    | row 10   | row 14    |     | row 0  8..12 |               ..          |
//! | row 3        | row 7    | row 11   | row 15    |     | row 0 12..16 |               ..          |
//! ```
//!
//! Q8_0 and Q6_K gain nothing from sixteen rows, and take the driver of eight ([`Gemv512`]).

use core::arch::asm;
use core::arch::x86_64::*;
use core::hint::black_box;
use core::ops::Range;

use super::dot::Dot;
use super::gemv::{self, MicroKernel};
use super::gemv256::matmul as eight;
use super::shuffle512::MR;
use super::unpack::Unpack;
use super::unpack16::Unpack16;
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::blocks::expanded::{Expanded16, Expanded32};
use crate::blocks::{
    IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};
use crate::entered::enter;
use crate::{Matrix, Q8Activations, Tile};

/// Bytes that near rows are prefetched ahead, at least.
const AHEAD: usize = 6000;
/// Bytes that far rows are prefetched ahead.
const AHEAD_FAR: usize = 1024;
/// Super-blocks of a row from which sixteen rows are faster than eight (GPT-2 124M, most of whose
/// rows have three, is 0.9 times as fast by sixteen).
const FAR_BLOCKS: usize = 8;

/// A format, with the gemv driver that suits it where there is AVX-512 with VNNI.
pub(super) trait Gemv512: Unpack {
    /// The product of `rows` with all columns.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL, DQ and VNNI, F16C and the instructions of `P`.
    unsafe fn matmul<P: Dot>(
        w: &Matrix<'_>,
        x: &Q8Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    );
}

macro_rules! gemv512 {
    ($driver:ident: $($format:ident),*) => {
        $(
            impl Gemv512 for $format {
                #[inline(always)]
                unsafe fn matmul<P: Dot>(
                    w: &Matrix<'_>,
                    x: &Q8Activations<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    // SAFETY: the caller's promises.
                    unsafe { $driver::<P, Self>(w, x, rows, y) }
                }
            }
        )*
    };
}
gemv512!(sixteen: IQ4_NL, IQ4_XS, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K);
// From memory no faster, or slower, with sixteen.
gemv512!(eight: Q8_0, Q6_K);
gemv512!(eight: Expanded32, Expanded16);

/// The terms that the sums of a column's codes add to a block, one for every sub-block.
#[derive(Clone, Copy)]
struct Terms {
    /// Bias of the bytes times the sum of codes.
    bias: [i32; 16],
    /// Factors of the minimums.
    of_mins: [f32; 16],
}

impl Terms {
    /// The terms of the block whose first 32 codes are number `a` of the row.
    ///
    /// # Safety
    /// The CPU has AVX-512 F; the row has the block.
    #[inline(always)]
    unsafe fn of<B: Unpack16>(x: Q8Row<'_>, a: usize) -> Terms {
        let mut terms = Terms { bias: [0; 16], of_mins: [0.0; 16] };
        // SAFETY: the caller's promises.
        unsafe {
            let (s, d) = (x.s.as_ptr().add(a * (ACT_BLOCK / ACT_SUM)), x.d.as_ptr().add(a));
            if B::LEN == ACT_BLOCK {
                let s = *s + *s.add(1);
                terms.bias[0] = B::BIAS * s;
                terms.of_mins[0] = *d * s as f32;
                return terms;
            }
            let (s, d) = (_mm512_loadu_si512(s.cast()), _mm256_loadu_ps(d));
            // The sums of two neighbours are those of 32.
            let pairs = _mm512_add_epi32(s, _mm512_srli_epi64::<32>(s));
            let pairs = _mm512_cvtepi64_epi32(pairs);
            if B::BIAS != 0 {
                let s = if B::SUB == 16 { s } else { _mm512_zextsi256_si512(pairs) };
                let bias = _mm512_mullo_epi32(s, _mm512_set1_epi32(B::BIAS));
                _mm512_storeu_si512(terms.bias.as_mut_ptr().cast(), bias);
            }
            if B::MINS && B::SUB == 16 {
                let twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
                let d = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(d));
                let of_mins = _mm512_mul_ps(d, _mm512_cvtepi32_ps(s));
                _mm512_storeu_ps(terms.of_mins.as_mut_ptr(), of_mins);
            } else if B::MINS {
                let s = _mm256_cvtepi32_ps(pairs);
                _mm256_storeu_ps(terms.of_mins.as_mut_ptr(), _mm256_mul_ps(d, s));
            }
        }
        terms
    }
}

/// A block of each of sixteen rows, and its operands.
struct Blocks<'a, B: Unpack16, const N: usize> {
    w: [*const u8; MR],
    scales: B::Scales,
    x: [Q8Row<'a>; N],
    /// Number of its first part in the row.
    a: usize,
    terms: [Terms; N],
}

impl<B: Unpack16, const N: usize> Blocks<'_, B, N> {
    /// Adds the products of part `part`.
    ///
    /// # Safety
    /// As [`MicroKernel::outputs`].
    #[inline(always)]
    unsafe fn part<const FINE: bool>(&self, part: usize, acc: &mut [__m512; N]) {
        let (x, a) = (&self.x, self.a + part);
        // SAFETY: the caller's promises.
        unsafe {
            let mut q = [x[0].q.as_ptr(); N];
            for (q, x) in q.iter_mut().zip(x) {
                *q = x.q.as_ptr().add(a * ACT_BLOCK);
            }
            let sums = if let (true, Some(lo)) = (FINE, x[0].lo) {
                // Two planes are like two columns.
                let [u, l] = B::dot16::<2>(self.w, part, [q[0], lo.as_ptr().add(a * ACT_BLOCK)]);
                let mut sums = [l; N];
                for (s, u) in sums[0].iter_mut().zip(u) {
                    *s = _mm512_add_epi32(*s, _mm512_sub_epi32(_mm512_slli_epi32::<8>(u), u));
                }
                sums
            } else {
                B::dot16::<N>(self.w, part, q)
            };
            for (i, sub) in (part * ACT_BLOCK / B::SUB..).take(ACT_BLOCK / B::SUB).enumerate() {
                let scale = B::lane_scales(&self.scales, sub);
                let min = B::lane_mins(&self.scales, sub);
                for n in 0..N {
                    let bias = _mm512_set1_epi32(self.terms[n].bias[sub]);
                    let sum = match B::BIAS {
                        0 => sums[n][i],
                        _ => _mm512_sub_epi32(sums[n][i], bias),
                    };
                    let d = _mm512_mul_ps(scale, _mm512_set1_ps(*x[n].d.get_unchecked(a)));
                    let mut t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum));
                    if B::MINS {
                        let of_mins = _mm512_set1_ps(self.terms[n].of_mins[sub]);
                        t = _mm512_add_ps(t, _mm512_mul_ps(min, of_mins));
                    }
                    acc[n] = _mm512_add_ps(acc[n], t);
                }
            }
        }
    }
}

/// `w`, opaque to the compiler.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // nothing looks at what is there
fn unknown(mut w: *const u8) -> *const u8 {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {} */", inout(reg) w, options(pure, nomem, nostack, preserves_flags)) };
    w
}

/// The micro-kernel, for rows of so many blocks.
struct Rows16 {
    blocks: usize,
}

impl<B: Unpack16> MicroKernel<B, &Q8Activations<'_>> for Rows16 {
    const MR: usize = MR;
    /// Short blocks are slower far than near.
    const NEAR: bool = !<Self as MicroKernel<B, &Q8Activations<'_>>>::FAR;
    /// Super-blocks: from memory up to 1.3 times as fast as near.
    const FAR: bool = B::LEN > ACT_BLOCK;
    type Outputs = __m512;

    #[inline(always)]
    fn is_far(&self) -> bool {
        self.blocks >= FAR_BLOCKS
    }

    #[inline(always)]
    unsafe fn outputs<const N: usize, const FINE: bool, const FAR: bool>(
        &self,
        w: *const B,
        step: usize,
        x: [Q8Row<'_>; N],
    ) -> [__m512; N] {
        // The CPU's own prefetcher finds neither sixteen short streams nor many instructions with a long
        // one each: it is told what to fetch, into the second-level cache (into the first: half as fast).
        let blocks = self.blocks;
        let step = if FAR { step } else { 1 };
        let tile = MR * blocks * size_of::<B>();
        let ahead = if FAR { AHEAD_FAR } else { AHEAD.div_ceil(tile.max(1)) * tile };
        let every = 64 / 2 / size_of::<B>() + 1; // blocks between fetches: twice for a line
        // SAFETY: the intrinsics and the addresses by the caller's promise; a prefetch may go anywhere.
        unsafe {
            let mut acc = [_mm512_setzero_ps(); N];
            // Every fourth row, and the two distances from which addresses reach the others: hidden
            // where they come from and that they advance, since compilers keep a register for each of
            // the sixteen otherwise, most of them on the stack (Q4_0: 1.16 times as slow).
            let stride = step * blocks * size_of::<B>();
            let stride3 = black_box(3 * stride);
            let w = w.cast::<u8>();
            let mut fourth = [w; 4];
            for (r, at) in fourth.iter_mut().enumerate() {
                *at = w.wrapping_add(4 * r * stride);
            }
            for b in 0..blocks {
                for w in &mut fourth {
                    *w = unknown(*w);
                }
                let four = |w: *const u8| {
                    let near = [w, w.wrapping_add(stride)];
                    [near[0], near[1], w.wrapping_add(2 * stride), w.wrapping_add(stride3)]
                };
                // For four rows at a time.
                let fetch = |four_rows: [*const u8; 4]| {
                    for w in four_rows {
                        for line in 0..size_of::<B>().div_ceil(64) {
                            _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(line * 64).cast());
                        }
                    }
                };
                let next = fourth.map(|w| w.wrapping_add(ahead));
                let spread = FAR && !B::SHARED;
                if !spread && b % every == 0 {
                    for next in next {
                        fetch(four(next));
                    }
                }
                let mut ws = [w; MR];
                for (ws, at) in ws.iter_mut().zip(fourth.into_iter().flat_map(four)) {
                    *ws = at;
                }
                for w in &mut fourth {
                    *w = w.wrapping_add(size_of::<B>());
                }
                let a = b * (B::LEN / ACT_BLOCK);
                let mut terms = [Terms::of::<B>(x[0], a); N];
                for n in 1..N {
                    terms[n] = Terms::of::<B>(x[n], a);
                }
                let blocks = Blocks::<B, N> { w: ws, scales: B::scales16(ws), x, a, terms };
                if spread {
                    fetch(four(next[0]));
                }
                blocks.part::<FINE>(0, &mut acc);
                if B::LEN > ACT_BLOCK {
                    // One by one, so that what differs between parts is constant and what they share is
                    // seen.
                    const { assert!(B::LEN == ACT_BLOCK || B::LEN == 8 * ACT_BLOCK) };
                    blocks.part::<FINE>(1, &mut acc);
                    if spread {
                        fetch(four(next[1]));
                    }
                    blocks.part::<FINE>(2, &mut acc);
                    blocks.part::<FINE>(3, &mut acc);
                    if spread {
                        fetch(four(next[2]));
                    }
                    blocks.part::<FINE>(4, &mut acc);
                    blocks.part::<FINE>(5, &mut acc);
                    if spread {
                        fetch(four(next[3]));
                    }
                    blocks.part::<FINE>(6, &mut acc);
                    blocks.part::<FINE>(7, &mut acc);
                }
            }
            acc
        }
    }

    #[inline(always)]
    unsafe fn store(outputs: __m512, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, outputs) }
    }
}

/// The product of `rows` with all columns: sixteen at a time, then by [`eight`].
///
/// # Safety
/// As [`Gemv512::matmul`].
#[inline(always)]
unsafe fn sixteen<P: Dot, B: Unpack16>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let kernel = Rows16 { blocks: w.cols() / B::LEN };
    // SAFETY: the caller's promise.
    let left = unsafe { gemv::walk::<Rows16, B, _>(&kernel, w, x, &rows, y) };
    if left > rows.start {
        enter!("sixteen rows", B::FORMAT.name());
    }
    let mut rest = y.cols(left - rows.start, rows.end - left);
    // SAFETY: the caller's promise.
    unsafe { eight::<P, B>(w, x, left..rows.end, &mut rest) }
}
