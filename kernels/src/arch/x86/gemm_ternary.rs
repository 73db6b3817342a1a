//! The gemm driver of ternary weights: the loops of `gemm.rs`, with a micro-kernel and a panel of its
//! own.
//!
//! ```text
//! for each panel of MR rows, for each tile of NR columns
//!     for each group of 256 columns (or of the 128 at the end)
//!         sums[n] = -(sum of codes of x[n])                     bytes are the weights plus one
//!         sums[n] += products of the group with codes of x[n]
//!         acc[n] += scales * dx[n] * sums[n]
//! ```
//!
//! A panel has for each group, one after another:
//!
//! ```text
//!            row 0       row 1             row MR-1
//! group 0  | 0 1 2 3   | 0 1 2 3   | ... | 0 1 2 3   |   bytes of columns 0..4
//!   ...                                                  64 of them, or 32
//! scales   | d         | d         | ... | d         |   f32
//! ```

use core::arch::x86_64::*;
use core::ops::Range;

use super::gemm::{TileCols, outputs, panels, products};
use super::isa::InstructionSet;
use super::panel::Of;
use super::shuffle256::transpose8;
use super::simd_reg::SimdReg;
use super::unpack_ternary::UnpackTernary;
use crate::{Matrix, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRow};

/// Columns from which packing a panel pays: below, the gemv driver reads weights of two bits 1.3 times
/// as fast.
pub(super) const PANEL_COLS: usize = 8;

/// Half a group, of bytes whose products 16 bits can add up: `32 * 2 * 3 * 127` is less than 2^15.
type Half = Of<WIDE_UNIT, false, 32>;

/// Bytes of scratch for a panel of `mr` rows of `cols`.
pub(super) const fn scratch(mr: usize, cols: usize) -> usize {
    (cols + cols.div_ceil(WIDE_BLOCK) * 4) * mr
}

/// Packs `mr` (8, 16 or 32) rows of `blocks` blocks, with `off` subtracted from all bytes.
///
/// # Safety
/// The CPU has AVX2 and F16C; the rows lie at `w`, and `panel` has room for them, aligned to 32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack<B: UnpackTernary>(
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

/// The micro-kernel: stores the outputs of a panel of rows of `cols` for the `N` columns `x`, which lie
/// one after another.
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
    let (d, s) = (x.d.as_ptr(), x.s.as_ptr());
    let q: [*const i8; N] = core::array::from_fn(|n| x.q.as_ptr().wrapping_add(n * cols));
    // SAFETY: the caller's promises, and the checks above.
    unsafe {
        let mut acc = [U::splat_float(0.0); N];
        let mut p = panel;
        for g in 0..groups {
            // Bytes are one more than weights.
            let mut sums = [[U::splat(0); N]];
            for (n, sums) in sums[0].iter_mut().enumerate() {
                *sums = U::splat((*s.add(n * groups + g)).wrapping_neg());
            }
            for first in (g * WIDE_BLOCK..cols.min((g + 1) * WIDE_BLOCK)).step_by(WIDE_UNIT) {
                products::<U, Half, N, 1>(&mut sums, [p], &q, [first]);
                p = p.add(WIDE_UNIT * U::MR);
            }
            let dw = U::load_float(p);
            p = p.add(4 * U::MR);
            for n in 0..N {
                let both = U::mul_float(dw, U::splat_float(*d.add(n * groups + g)));
                acc[n] = U::add_float(acc[n], U::mul_float(both, U::to_float(sums[0][n])));
            }
        }
        for (acc, to) in acc.into_iter().zip(to) {
            U::store_float(acc, to);
        }
    }
}

/// Stores a tile of outputs, by [`tile`] compiled for the set. All formats share it.
///
/// # Safety
/// The panel is one of as many columns as `x` has.
unsafe fn put<I: InstructionSet, const N: usize>(
    isa: I,
    panel: *const u8,
    (x, cols): (&WideActivations<'_>, TileCols),
    at: usize,
    y: &mut Tile<'_>,
) {
    let to = outputs::<N>(y, cols.t, at, I::Reg::MR);
    let (width, x) = (x.cols(), x.rows_from(cols.t, N));
    isa.vectorize(
        "gemm ternary",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the register's instructions; room for as many floats as it has
        // lanes at each of `to`; the panel by the caller's promise.
        move || unsafe { tile::<I::Reg, N>(panel, width, x, to) },
    );
}

/// The product of `rows`, which are whole panels, with all columns.
pub(super) fn matmul<I: InstructionSet, B: UnpackTernary>(
    isa: I,
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let (n, blocks, mr) = (x.n(), w.cols() / B::LEN, I::Reg::MR);
    assert!(x.cols() == w.cols() && n >= PANEL_COLS && rows.len().is_multiple_of(mr));
    let scratch = &mut scratch[..self::scratch(mr, w.cols())];
    let panel = scratch.as_mut_ptr();
    assert!(panel.addr().is_multiple_of(64), "scratch is aligned");
    panels::<I::Reg>(
        rows,
        n,
        |r| {
            let ws = w.rows_from::<B>(r, mr).as_ptr();
            // SAFETY: `isa` is the proof of AVX2 and F16C; as many rows as the panel has, and room for
            // them (above).
            unsafe { pack::<B>(ws, blocks, w.scale(), panel, mr, 0) };
        },
        |at, cols| {
            // SAFETY: the panel was packed (above), for rows as wide as the activations.
            unsafe {
                if const { I::Reg::NR >= 8 } && cols.n == 8 {
                    put::<I, 8>(isa, panel, (x, cols), at, y);
                } else {
                    put::<I, 4>(isa, panel, (x, cols), at, y);
                }
            }
        },
    );
}
