//! The gemv driver: products with few columns, of weights that are read where they lie.
//!
//! ```text
//! for each 4 rows, for each column
//!     for each chunk (a block, or as many as have four sub-blocks), for each quad of 4 sub-blocks
//!         terms[r] = scales * dx * sums (+ mins ..)     lanes are the quad's sub-blocks
//!         transpose the terms of the four rows          lanes are the rows
//!         acc += one sub-block after another
//! ```
//!
//! Sums of four sub-blocks of a row stand in the lanes of a register, where the scales of a block
//! are too; a transpose of four such registers then gives the terms of four rows, to be added one
//! sub-block after another.

use core::arch::aarch64::*;
use core::ops::Range;

use super::unpack::{Quads, Unpack};
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::{Matrix, Q8Activations, Tile};

/// Rows of a tile.
pub(super) const MR: usize = 4;
/// Sub-blocks of a quad.
const QUAD: usize = 4;

/// Products of 16 or 32 codes with as many of the activations', -127..=127, in any four parts.
pub(super) trait Dot {
    /// # Safety
    /// The CPU has the instructions of the implementation.
    unsafe fn dot16(w: int8x16_t, x: int8x16_t) -> int32x4_t;

    /// # Safety
    /// The CPU has the instructions of the implementation; where `SMALL`, `w` is -64..=64.
    unsafe fn dot32<const SMALL: bool>(w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t;
}

/// The sums of `v[0]`, `v[1]`, `v[2]`, `v[3]`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
pub(super) unsafe fn sums4(v: [int32x4_t; 4]) -> int32x4_t {
    // SAFETY: NEON by the caller.
    unsafe { vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])) }
}

/// The transpose of four registers of four floats.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn transpose4(v: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: NEON by the caller.
    unsafe {
        let wide = |v| vreinterpretq_f64_f32(v);
        let slim = |v| vreinterpretq_f32_f64(v);
        let (a, b) = (wide(vtrn1q_f32(v[0], v[1])), wide(vtrn2q_f32(v[0], v[1])));
        let (c, d) = (wide(vtrn1q_f32(v[2], v[3])), wide(vtrn2q_f32(v[2], v[3])));
        [
            slim(vtrn1q_f64(a, c)),
            slim(vtrn1q_f64(b, d)),
            slim(vtrn2q_f64(a, c)),
            slim(vtrn2q_f64(b, d)),
        ]
    }
}

/// The first four of `x`, or as many as there are.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn floats(x: &[f32]) -> float32x4_t {
    let mut four = [0.0; 4];
    match x.first_chunk() {
        Some(x) => four = *x,
        None => four[..x.len()].copy_from_slice(x),
    }
    // SAFETY: four floats; NEON by the caller.
    unsafe { vld1q_f32(four.as_ptr()) }
}

/// As [`floats`], of integers.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn ints(x: &[i32]) -> int32x4_t {
    let mut four = [0; 4];
    match x.first_chunk() {
        Some(x) => four = *x,
        None => four[..x.len()].copy_from_slice(x),
    }
    // SAFETY: four integers; NEON by the caller.
    unsafe { vld1q_s32(four.as_ptr()) }
}

/// Part `i` of the codes at `x`.
///
/// # Safety
/// The target has NEON; so many codes lie at `x`.
#[inline(always)]
unsafe fn codes(x: *const i8, i: usize) -> [int8x16_t; 2] {
    // SAFETY: by the caller's promise.
    unsafe {
        let x = x.add(i * ACT_BLOCK);
        [vld1q_s8(x), vld1q_s8(x.add(16))]
    }
}

/// The integer sums of the sub-blocks of quad `quad` in a chunk of `valid` blocks at `w`, codes with
/// their bias, with the codes at `x`, where those of the quad begin; what stands for sub-blocks that
/// aren't there is open.
///
/// # Safety
/// As for [`chunk`], for one row of weights.
#[inline(always)]
unsafe fn quad<P: Dot, B: Unpack>(
    w: *const B,
    valid: usize,
    quad: usize,
    x: *const i8,
) -> int32x4_t {
    // No closures here, which are functions of their own, without the set's instructions.
    // SAFETY: the caller's promises: blocks from 0 to valid, each with its parts, and as many codes.
    unsafe {
        let mut sums = [vdupq_n_s32(0); QUAD];
        if B::SUB == 16 {
            for i in 0..2 {
                let (w, x) = if B::CHUNK == 1 {
                    ((*w).bytes(2 * quad + i), codes(x, i))
                } else {
                    let i = i.min(valid - 1);
                    ((*w.add(i)).bytes(0), codes(x, i))
                };
                sums[2 * i] = P::dot16(w[0], x[0]);
                sums[2 * i + 1] = P::dot16(w[1], x[1]);
            }
            return sums4(sums);
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            let (w, x) = if B::CHUNK == 1 {
                ((*w).bytes(QUAD * quad + i), codes(x, i))
            } else {
                let i = i.min(valid - 1);
                ((*w.add(i)).bytes(0), codes(x, i))
            };
            *sum = if B::SMALL { P::dot32::<true>(w, x) } else { P::dot32::<false>(w, x) };
        }
        sums4(sums)
    }
}

/// `acc` and the terms of one chunk of four rows, of which `valid` blocks are there; `x` begins
/// with the chunk.
///
/// # Safety
/// The CPU has the instructions of `P`; `valid` blocks, at least one, lie at each `w`; `x` has
/// activations for all of them, and both planes where `FINE`.
#[inline(always)]
unsafe fn chunk<P: Dot, B: Unpack, const FINE: bool>(
    mut acc: float32x4_t,
    w: [*const B; MR],
    valid: usize,
    x: Q8Row<'_>,
) -> float32x4_t {
    let lo = x.lo.map_or(x.q.as_ptr(), <[i8]>::as_ptr); // read with FINE only
    // SAFETY: the caller's promises.
    unsafe {
        let scales: [(Quads, Quads); MR] = [
            B::scales(w[0], valid),
            B::scales(w[1], valid),
            B::scales(w[2], valid),
            B::scales(w[3], valid),
        ];
        for q in 0..B::QUADS {
            let codes = q * QUAD * B::SUB;
            let mut dx = floats(&x.d[codes / ACT_BLOCK..]);
            if B::SUB == 16 {
                dx = vzip1q_f32(dx, dx);
            }
            let (mut sums, mut mins) = (vdupq_n_s32(0), dx);
            if B::MINS || B::BIAS != 0 {
                let s = &x.s[codes / ACT_SUM..];
                sums = ints(s);
                if B::SUB == 32 {
                    sums = vpaddq_s32(sums, ints(s.get(4..).unwrap_or(&[])));
                }
                mins = vmulq_f32(dx, vcvtq_f32_s32(sums));
            }
            let mut terms = [vdupq_n_f32(0.0); MR];
            for r in 0..MR {
                let mut sum = quad::<P, B>(w[r], valid, q, x.q.as_ptr().add(codes));
                if FINE {
                    let lower = quad::<P, B>(w[r], valid, q, lo.add(codes));
                    sum = vmlaq_n_s32(lower, sum, 255);
                }
                if B::BIAS != 0 {
                    sum = vmlsq_n_s32(sum, sums, i32::from(B::BIAS));
                }
                let (s, m) = &scales[r];
                terms[r] = vmulq_f32(vmulq_f32(s[q], dx), vcvtq_f32_s32(sum));
                if B::MINS {
                    terms[r] = vaddq_f32(terms[r], vmulq_f32(m[q], mins));
                }
            }
            let terms = transpose4(terms);
            let subs = if B::CHUNK == 1 { QUAD } else { valid * (B::LEN / B::SUB) };
            for (i, t) in terms.into_iter().enumerate() {
                if i < subs {
                    acc = vaddq_f32(acc, t);
                }
            }
        }
    }
    acc
}

/// Activations from block `a` on.
#[inline(always)]
fn from(x: Q8Row<'_>, a: usize) -> Q8Row<'_> {
    Q8Row {
        q: &x.q[a * ACT_BLOCK..],
        lo: x.lo.map(|lo| &lo[a * ACT_BLOCK..]),
        d: &x.d[a..],
        s: &x.s[a * (ACT_BLOCK / ACT_SUM)..],
    }
}

/// Four outputs.
///
/// # Safety
/// The CPU has the instructions of `P`; `blocks` blocks lie at each `w`; `x` has as many, and both
/// planes where `FINE`.
#[inline(always)]
unsafe fn rows<P: Dot, B: Unpack, const FINE: bool>(
    w: [*const B; MR],
    blocks: usize,
    x: Q8Row<'_>,
) -> float32x4_t {
    let acts = B::LEN / ACT_BLOCK;
    let mut b = 0;
    // SAFETY: the caller's promises; blocks b and after it are there.
    unsafe {
        let at = |b: usize| [w[0].add(b), w[1].add(b), w[2].add(b), w[3].add(b)];
        let mut acc = vdupq_n_f32(0.0);
        while b + B::CHUNK <= blocks {
            acc = chunk::<P, B, FINE>(acc, at(b), B::CHUNK, from(x, b * acts));
            b += B::CHUNK;
        }
        if b < blocks {
            acc = chunk::<P, B, FINE>(acc, at(b), blocks - b, from(x, b * acts));
        }
        acc
    }
}

/// Stores the outputs of as many rows as there are.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
pub(super) unsafe fn put(out: float32x4_t, to: &mut [f32]) {
    // SAFETY: room for four; NEON by the caller.
    unsafe {
        match to.first_chunk_mut::<MR>() {
            Some(to) => vst1q_f32(to.as_mut_ptr(), out),
            None => {
                let mut four = [0.0; MR];
                vst1q_f32(four.as_mut_ptr(), out);
                to.copy_from_slice(&four[..to.len()]);
            }
        }
    }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// The CPU has the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: Dot, B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows_: Range<usize>,
    y: &mut Tile<'_>,
) {
    let blocks = w.cols() / B::LEN;
    assert!(x.cols() == w.cols());
    let mut r = rows_.start;
    while r < rows_.end {
        // Of fewer than four the last stands for those that aren't there.
        let n = MR.min(rows_.end - r);
        let row = |i: usize| w.row::<B>(r + i.min(n - 1)).as_ptr();
        let ws = [row(0), row(1), row(2), row(3)];
        for t in 0..x.n() {
            // SAFETY: the caller's promise; whole rows of weights, and activations as wide.
            unsafe {
                let x = x.row(t);
                let out = match x.lo {
                    None => rows::<P, B, false>(ws, blocks, x),
                    Some(_) => rows::<P, B, true>(ws, blocks, x),
                };
                put(out, &mut y.row(t)[r - rows_.start..][..n]);
            }
        }
        r += n;
    }
}
