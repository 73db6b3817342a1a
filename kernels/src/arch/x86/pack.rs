//! Packing: the rows of a matrix become a panel (`panel.rs` has its layout).
//!
//! Rows as they lie are unpacked eight at a time, 32 bytes of each, and transposed; it takes AVX2 and
//! is compiled once for all sets. Interleaved rows are columns already, and are only unpacked.

use core::arch::x86_64::*;

use super::dot::Maddubs;
use super::panel::layout;
use super::shuffle256::transpose8;
use super::simd_reg::SimdReg;
use super::unpack::{Scales, Unpack};
use super::unpack_interleaved::{Interleaved, UnpackInterleaved, groups};
use crate::activations::ACT_BLOCK;
use crate::{Matrix, REPACK_ROWS};

/// Bytes of a panel of `mr` rows of `cols`.
pub(super) const fn panel_bytes<B: Unpack>(mr: usize, cols: usize) -> usize {
    cols / ACT_BLOCK * layout::<B::Shape>(mr).part
}

/// Packs `mr` (8 or 16) rows of `blocks` blocks, with `off` subtracted from all bytes; with `AHEAD` the
/// next rows are prefetched.
///
/// # Safety
/// The CPU has AVX2 and F16C; the rows lie at `w`, and `panel` has room for them, aligned to 32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack<B: Unpack, const AHEAD: bool>(
    w: *const B,
    blocks: usize,
    panel: *mut u8,
    mr: usize,
    off: u8,
) {
    let (parts, subs, to) = (B::LEN / ACT_BLOCK, ACT_BLOCK / B::SUB, layout::<B::Shape>(mr));
    let off = _mm256_set1_epi8(off as i8);
    for half in 0..mr / 8 {
        for b in 0..blocks {
            // SAFETY: the caller's promises; a prefetch may go anywhere.
            unsafe {
                let mut ws = [&*w; 8];
                for (r, ws) in ws.iter_mut().enumerate() {
                    *ws = &*w.add((half * 8 + r) * blocks + b);
                    // The same place of the next panel, which is wanted when this one is done
                    // (32 columns, weights from memory: 1.4 times as fast as without).
                    let next = (&raw const **ws).wrapping_add(mr * blocks).cast::<i8>();
                    for line in 0..if AHEAD { size_of::<B>().div_ceil(64) } else { 0 } {
                        _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line));
                    }
                }
                let mut scales = Scales::zero();
                B::scales8(ws, &mut scales);
                for part in 0..parts {
                    let at = panel.add((b * parts + part) * to.part + half * 32);
                    let mut bytes = [_mm256_setzero_si256(); 8];
                    for (c, w) in bytes.iter_mut().zip(ws) {
                        *c = _mm256_sub_epi8(w.bytes::<Maddubs>(part), off);
                    }
                    for (g, c) in transpose8(bytes).into_iter().enumerate() {
                        _mm256_store_si256(at.add(g * to.group).cast(), c);
                    }
                    for i in 0..subs {
                        let d = at.add(to.scales + i * to.floats).cast();
                        _mm256_store_ps(d, scales.d[part * subs + i]);
                        if B::MINS {
                            let m = at.add(to.mins + i * to.floats).cast();
                            _mm256_store_ps(m, scales.m[part * subs + i]);
                        }
                    }
                }
            }
        }
    }
}

/// Packs the rows of a repacked matrix from row `r` on, as many as the register has lanes, with `off`
/// subtracted from all bytes.
///
/// # Safety
/// The CPU has the register's instructions; the matrix is repacked and has the rows (of which the
/// first is a multiple of as many), and `panel` has room for them, aligned to 64.
#[inline(always)]
pub(super) unsafe fn pack_interleaved<U: SimdReg, B: UnpackInterleaved>(
    w: &Matrix<'_>,
    r: usize,
    panel: *mut u8,
    off: u8,
) {
    let at = const { layout::<B::Shape>(U::MR) };
    let (parts, subs) = const { (B::LEN / ACT_BLOCK, ACT_BLOCK / B::SUB) };
    let group_bytes = REPACK_ROWS * w.row_bytes();
    let group = &w.bytes()[r / REPACK_ROWS * group_bytes..];
    let interleaved_blocks = group.chunks_exact(REPACK_ROWS * size_of::<B>());
    for (b, interleaved) in interleaved_blocks.take(w.cols() / B::LEN).enumerate() {
        // The same place of the next group, which is wanted when this one is done.
        let next = interleaved.as_ptr().wrapping_add(group_bytes);
        // Where registers are narrow, tiles do it.
        let lines = const { (REPACK_ROWS * size_of::<B>()).div_ceil(64) };
        for line in 0..if U::NARROW { 0 } else { lines } {
            // SAFETY: a prefetch may go anywhere.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line).cast()) };
        }
        let interleaved = Interleaved::new::<B>(interleaved.as_ptr(), r % REPACK_ROWS);
        // SAFETY: the caller's promises.
        unsafe {
            let ready = &B::ready::<U>(interleaved);
            for part in 0..parts {
                let to = panel.wrapping_add((b * parts + part) * at.part);
                let (round, k) = (part / B::ROUND, part % B::ROUND);
                for (g, w) in groups::<U, B>(interleaved, (round, k), off).into_iter().enumerate() {
                    U::store(w, to.wrapping_add(g * at.group));
                }
                for i in 0..subs {
                    let (dw, mw) = B::factors::<U>(ready, round, k * subs + i);
                    U::store_panel(dw, to.wrapping_add(at.scales + i * at.floats));
                    if B::MINS {
                        U::store_panel(mw, to.wrapping_add(at.mins + i * at.floats));
                    }
                }
            }
        }
    }
}
