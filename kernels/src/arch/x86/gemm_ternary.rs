//! The driver of ternary weights for many columns, in the way of `gemm.rs`.
//!
//! A panel lies in the caller's scratch: for every 256 weights of its rows (and for the 128 at the
//! end), as many fourths as groups of four bytes of each row side by side; then a scale of each row.

use core::arch::x86_64::*;
use core::ops::Range;

use super::gemm::{Of, SimdReg, Tiles, products};
use super::shuffle::transpose8;
use super::unpack_ternary::Unpack3;
use crate::{Matrix, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRow};

/// Columns from which unpacking a panel pays: below, the other driver reads weights of two bits 1.3
/// times as fast.
pub(super) const PANEL_COLS: usize = 8;

/// Half a group, of bytes whose products 16 bits can add up: `32 * 2 * 3 * 127` is less than 2^15.
type Half = Of<WIDE_UNIT, false, 32>;

/// Bytes of scratch for a panel of `mr` rows of `cols`.
pub(super) const fn scratch(mr: usize, cols: usize) -> usize {
    (cols + cols.div_ceil(WIDE_BLOCK) * 4) * mr
}

/// Unpacks `mr` (8, 16 or 32) rows of `blocks` blocks, with `off` taken off all bytes.
///
/// # Safety
/// The CPU has AVX2 and F16C; the rows lie at `w`, and `panel` has room for them, aligned to 32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn unpack<B: Unpack3>(
    w: *const B,
    blocks: usize,
    scale: f32,
    panel: *mut u8,
    mr: usize,
    off: u8,
) {
    let off = _mm256_set1_epi8(off as i8);
    let per = WIDE_BLOCK / B::LEN;
    for half in 0..mr / 8 {
        let mut to = panel.wrapping_add(half * 32);
        for b in (0..blocks).step_by(per) {
            let here = per.min(blocks - b);
            let mut ws = [w; 8];
            let mut bytes = [[_mm256_setzero_si256(); 8]; 8];
            // SAFETY: the caller's promises; a prefetch may go anywhere.
            unsafe {
                for (r, (ws, bytes)) in ws.iter_mut().zip(&mut bytes).enumerate() {
                    *ws = w.add((half * 8 + r) * blocks + b);
                    // The same place of the next panel.
                    let next = ws.wrapping_add(mr * blocks).cast::<i8>();
                    _mm_prefetch::<_MM_HINT_T1>(next);
                    B::bytes(*ws, here, bytes);
                }
                for part in 0..here * B::LEN / 32 {
                    let mut rows = [_mm256_setzero_si256(); 8];
                    for (row, bytes) in rows.iter_mut().zip(&bytes) {
                        *row = _mm256_sub_epi8(bytes[part], off);
                    }
                    for four in transpose8(rows) {
                        _mm256_store_si256(to.cast(), four);
                        to = to.wrapping_add(4 * mr);
                    }
                }
                _mm256_store_ps(to.cast(), B::scales8(ws, scale));
                to = to.wrapping_add(4 * mr);
            }
        }
    }
}

/// Stores the outputs of a panel of rows of `cols` for the `N` rows of activations that `x` has one
/// after another.
///
/// # Safety
/// The CPU has the register's instructions; a panel lies at `panel`, aligned to 64; there is room
/// for as many floats as it has rows at each of `to`.
#[inline(always)]
pub(super) unsafe fn tile<U: SimdReg, const N: usize>(
    panel: *const u8,
    cols: usize,
    x: WideRow<'_>,
    to: [*mut f32; N],
) {
    let groups = cols.div_ceil(WIDE_BLOCK);
    // Checked here, so that the loops need no checks: N whole rows.
    assert!(x.q.len() == N * cols && x.d.len() == N * groups && x.s.len() == N * groups);
    let (q, d, s) = (x.q.as_ptr(), x.d.as_ptr(), x.s.as_ptr());
    // SAFETY: the caller's promises, and the checks above.
    unsafe {
        let mut acc = [U::splat_float(0.0); N];
        let mut p = panel;
        for g in 0..groups {
            // Bytes are one more than weights.
            let mut sums = [U::splat(0); N];
            for (n, sums) in sums.iter_mut().enumerate() {
                *sums = U::splat((*s.add(n * groups + g)).wrapping_neg());
            }
            for first in (g * WIDE_BLOCK..cols.min((g + 1) * WIDE_BLOCK)).step_by(WIDE_UNIT) {
                products::<U, Half, N>(&mut sums, p, q.add(first), cols);
                p = p.add(WIDE_UNIT * U::MR);
            }
            let dw = U::load_float(p);
            p = p.add(4 * U::MR);
            for n in 0..N {
                let both = U::mul_float(dw, U::splat_float(*d.add(n * groups + g)));
                acc[n] = U::add_float(acc[n], U::mul_float(both, U::to_float(sums[n])));
            }
        }
        for (acc, to) in acc.into_iter().zip(to) {
            U::store_float(acc, to);
        }
    }
}

/// [`tile`], compiled for a set.
pub(super) trait Tiles3: Tiles {
    /// # Safety
    /// That of [`tile`].
    unsafe fn tile3<const N: usize>(
        panel: *const u8,
        cols: usize,
        x: WideRow<'_>,
        to: [*mut f32; N],
    );
}

/// The tile of columns `t..t + N`, put where it belongs.
///
/// # Safety
/// As [`tile`].
unsafe fn put<T: Tiles3, const N: usize>(
    panel: *const u8,
    x: &WideActivations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    let mut to = [core::ptr::null_mut(); N];
    for (n, to) in to.iter_mut().enumerate() {
        *to = y.row(t + n)[at..][..T::SimdReg::MR].as_mut_ptr();
    }
    // SAFETY: the caller's promises; as many floats as the register has lanes at each of `to`.
    unsafe { T::tile3::<N>(panel, x.cols(), x.rows_from(t, N), to) }
}

/// All of `rows` for all columns of the activations, as many rows as make whole panels. Columns left
/// over are computed along with some that were already: the same bits again.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `T`.
pub(super) unsafe fn matmul<T: Tiles3, B: Unpack3>(
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let (n, blocks, mr) = (x.n(), w.cols() / B::LEN, T::SimdReg::MR);
    assert!(x.cols() == w.cols() && n >= PANEL_COLS);
    let scratch = &mut scratch[..self::scratch(mr, w.cols())];
    let panel = scratch.as_mut_ptr();
    assert!(panel.addr().is_multiple_of(64), "scratch is aligned");
    for r in rows.clone().step_by(mr) {
        let at = r - rows.start;
        // SAFETY: the caller's promise; as many rows as the panel has, and room for them (above).
        unsafe {
            unpack::<B>(w.rows_from::<B>(r, mr).as_ptr(), blocks, w.scale(), panel, mr, 0);
            let mut t = 0;
            while T::SimdReg::NR >= 8 && t + 8 <= n {
                put::<T, 8>(panel, x, t, at, y);
                t += 8;
            }
            while t < n {
                put::<T, 4>(panel, x, t.min(n - 4), at, y);
                t += 4;
            }
        }
    }
}
