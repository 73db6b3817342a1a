//! The driver of repacked matrices (`crate::repack`) for a few columns: rows are unpacked into
//! registers and multiplied with all columns of a tile at once, without a panel.
//!
//! ```text
//! for each group of 16 rows
//!     for each tile of N columns                                    (8 or 4)
//!         acc[0..N] = 0                                             registers of 16 or 8 lanes
//!         for each part of 32 codes of each block
//!             w[0..8] = unpacked bytes of the part                  registers, straight from memory
//!             for each sub-block of 16 or 32 codes
//!                 sums[n] = products of the sub-block with codes of x[n]
//!                 acc[n] += scales * dx[n] * sums[n] + mins * terms[n]
//!         y[columns][rows] = acc
//! ```
//!
//! Packing a panel takes as long as eleven columns of products (tinyllama Q4_K_M, `avx512`, 8 columns:
//! 22 ms of 42). Here rows are unpacked once for each tile, and memory is read while products are
//! computed. The terms of the columns, functions of the sums of codes, are computed once for all rows.

use core::arch::asm;
use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use core::hint::black_box;
use core::ops::Range;

use super::gemv_interleaved::dots;
use super::panel::Shape;
use super::simd_reg::{Aligned, SimdReg};
use super::unpack::Unpack;
use super::unpack_interleaved::{Interleaved, UnpackInterleaved, groups};
use crate::activations::{ACT_BLOCK, ACT_SUM};
use crate::{Matrix, Q8Activations, REPACK_ROWS, Tile};

/// Columns from which this driver is used.
pub(super) const LEAST: usize = 2;

/// Columns up to which it is faster than panels, by the register and the format. (Zen 3, `avx2`, panels of
/// 8, 12, 16 and 32 columns beside this driver: Q4_0 0.79 0.90 0.97 1.10, Q4_K 0.99 1.09 1.14 1.20,
/// Q5_K 1.13 1.28 1.36 1.49, Q6_K 0.96 1.07 1.17 1.24. Emerald Rapids, `avx512`, weights from memory, of
/// 16, 24 and 32 columns: Q4_K 0.82 0.91 0.95, Q5_K 0.92 1.03 1.12, Q6_K 1.00 1.10 1.19, Q2_K 0.95 1.04
/// 1.10; from a cache, of 64: Q4_0 0.89, Q4_K 1.09.)
pub(super) const fn most<U: SimdReg, B: Unpack>() -> usize {
    let eight = B::Shape::PAIRS == 8;
    if U::NR >= 8 {
        match (B::SUB, B::MINS, eight) {
            (16, ..) => 16,
            (_, true, false) => 20,
            (_, true, true) => 40,
            _ => 64,
        }
    } else if !U::NARROW {
        32
    } else if eight && !B::MINS {
        16
    } else if eight || B::SUB == 16 {
        8
    } else {
        7
    }
}

/// Columns of a tile, by the width of the register.
const fn tile_columns<U: SimdReg>() -> usize {
    if U::NR >= 8 { 8 } else { 4 }
}

/// Bytes that are prefetched ahead, where passes don't share in it.
const AHEAD: usize = 8192;

/// Passes from which on they share.
const SHARED: usize = 4;

/// Tiles of `n` columns: first column and number. Where columns are left over, the last tile begins
/// earlier and computes some again: the same bits. `fine` activations have wide tiles alone. With fewer columns than a tile has, it begins at the
/// first and the last column stands for the missing ones.
fn tiles<U: SimdReg>(n: usize, fine: bool) -> impl Iterator<Item = (usize, usize)> {
    let wide = tile_columns::<U>();
    let mut at = 0;
    core::iter::from_fn(move || {
        let left = n - at;
        if left == 0 {
            return None;
        }
        let width = if left <= 4 && !fine { 4 } else { wide };
        let first = if left < width { n.saturating_sub(width) } else { at };
        at = (first + width).min(n);
        Some((first, width))
    })
}

/// Bytes of scratch for rows of `cols` and up to `n` columns: the columns' terms.
pub(super) const fn scratch<U: SimdReg, B: UnpackInterleaved>(cols: usize, n: usize) -> usize {
    let columns = if n < most::<U, B>() { n } else { most::<U, B>() };
    columns * (cols / B::SUB) * size_of::<i32>()
}

/// Writes the terms of each sub-block of each column: with minimums the bits of the sum of codes times
/// their scale, otherwise minus that sum times the excess of bytes over codes.
#[inline(always)]
pub(super) fn write_terms<B: Unpack>(x: &Q8Activations<'_>, terms: &mut [i32]) {
    let subs = x.cols() / B::SUB;
    for (t, terms) in terms.chunks_exact_mut(subs.max(1)).enumerate() {
        let x = x.row(t);
        match (B::SUB, B::MINS) {
            (ACT_SUM, false) => {
                for (term, xs) in terms.iter_mut().zip(x.s) {
                    *term = -B::BIAS * xs;
                }
            }
            (ACT_SUM, true) => {
                let per_block = terms.as_chunks_mut::<{ ACT_BLOCK / ACT_SUM }>().0.iter_mut();
                for ((terms, xs), d) in per_block.zip(x.s.as_chunks().0).zip(x.d) {
                    *terms = xs.map(|xs: i32| (d * xs as f32).to_bits().cast_signed());
                }
            }
            _ => {
                let pairs = x.s.as_chunks::<{ ACT_BLOCK / ACT_SUM }>().0;
                for ((term, [a, b]), d) in terms.iter_mut().zip(pairs).zip(x.d) {
                    let xs = a + b;
                    *term = if B::MINS {
                        (d * xs as f32).to_bits().cast_signed()
                    } else {
                        -B::BIAS * xs
                    };
                }
            }
        }
    }
}

/// Columns of a tile: their codes, their lower plane (the codes again where there is none), their scales
/// and their terms.
struct Columns<const N: usize> {
    q: [*const i8; N],
    lo: [*const i8; N],
    d: [*const f32; N],
    terms: [*const i32; N],
}

/// Codes of the columns of a tile from `first` on. They stay in registers: of sums of a pointer and constants
/// the compiler makes as many pointers, which lie on the stack and are loaded for each product (Emerald
/// Rapids, 8 columns: Q6_K 1.09, Q5_K 1.06, Q4_0 and Q8_0 1.03 times as fast).
#[inline(always)]
fn codes_from<U: SimdReg, const N: usize>(codes: &[*const i8; N], first: usize) -> [*const i8; N] {
    codes.map(|codes| {
        let mut codes = codes.wrapping_add(first);
        if !U::NARROW {
            #[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it")]
            // SAFETY: nothing is executed.
            unsafe {
                asm!("/* {0} */", inout(reg) codes, options(pure, nomem, nostack, preserves_flags));
            }
        }
        codes
    })
}

/// Adds to `sums` the products of the groups `w` with the codes from `first` on at each of `q`.
///
/// # Safety
/// The CPU has the register's instructions; as many codes lie there.
#[inline(always)]
unsafe fn products<U: SimdReg, B: UnpackInterleaved, const N: usize>(
    sums: &mut [U::I; N],
    w: &[U::I],
    q: &[*const i8; N],
    first: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        if U::NARROW {
            for (sum, &q) in sums.iter_mut().zip(q) {
                *sum = dots::<U, B::Shape>(*sum, w, q.wrapping_add(first));
            }
            return;
        }
        for (g, w) in w.iter().enumerate() {
            for (sum, &q) in sums.iter_mut().zip(q) {
                let q = q.wrapping_add(first + 4 * g).cast::<i32>();
                *sum = U::dot(*sum, *w, U::splat(q.read_unaligned()));
            }
        }
    }
}

/// True where both sub-blocks of a part are computed side by side: the products of one are too few to
/// cover their latency.
const fn side_by_side<U: SimdReg, B: Unpack>() -> bool {
    !U::NARROW && U::NR >= 8 && B::SUB == 16
}

/// Adds to `sums` the products of two sub-blocks of 16 codes, the groups `w`, with the codes at each of `q`.
///
/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn products_of_two<U: SimdReg, const N: usize>(
    sums: &mut [[U::I; N]; 2],
    w: &[U::I; 8],
    q: &[*const i8; N],
) {
    for g in 0..4 {
        for (i, sums) in sums.iter_mut().enumerate() {
            let g = 4 * i + g;
            for (sum, &q) in sums.iter_mut().zip(q) {
                let q = q.wrapping_add(4 * g).cast::<i32>();
                // SAFETY: the caller's promises.
                *sum = unsafe { U::dot(*sum, w[g], U::splat(q.read_unaligned())) };
            }
        }
    }
}

/// Adds to the accumulators the sums of a sub-block, by the scale and the minimum of each row. It is in
/// part `a` of the columns, and their sub-block `sub`.
///
/// # Safety
/// The CPU has the register's instructions; the columns have the sub-block.
#[inline(always)]
unsafe fn join<U: SimdReg, B: UnpackInterleaved, const N: usize>(
    (dw, mw): (U::F, U::F),
    sums: &[U::I; N],
    columns: &Columns<N>,
    (a, sub): (usize, usize),
    acc: &mut [U::F; N],
) {
    // SAFETY: the caller's promises.
    unsafe {
        for n in 0..N {
            let dx = U::splat_float(*columns.d[n].wrapping_add(a));
            let mut t = U::mul_float(U::mul_float(dw, dx), U::to_float(sums[n]));
            if B::MINS {
                let xs = *columns.terms[n].wrapping_add(sub);
                let xs = U::splat_float(f32::from_bits(xs.cast_unsigned()));
                t = U::add_float(t, U::mul_float(mw, xs));
            }
            acc[n] = U::add_float(acc[n], t);
        }
    }
}

/// Adds to the accumulators what part `k` of a round of an interleaved block gives, which are blocks
/// `b` of the rows.
///
/// # Safety
/// The CPU has the register's instructions; the block has the round, and the columns have block `b` (and
/// a lower plane where `FINE`).
#[inline(always)]
unsafe fn add_part<U: SimdReg, B: UnpackInterleaved, const N: usize, const FINE: bool>(
    (interleaved, ready): (Interleaved, &B::Ready<U>),
    (round, k): (usize, usize),
    columns: &Columns<N>,
    b: usize,
    acc: &mut [U::F; N],
) {
    let a = b * (B::LEN / ACT_BLOCK) + round * B::ROUND + k;
    let subs = const { ACT_BLOCK / B::SUB };
    let signed = U::NARROW && B::Shape::SIGNED;
    let upper = codes_from::<U, N>(&columns.q, a * ACT_BLOCK);
    let plane = if FINE { codes_from::<U, N>(&columns.lo, a * ACT_BLOCK) } else { upper };
    // SAFETY: the caller's promises.
    unsafe {
        let w = groups::<U, B>(interleaved, (round, k), if signed { 128 } else { 0 });
        if const { side_by_side::<U, B>() } {
            let mut sums = [[U::splat(0); N]; 2];
            if FINE {
                products_of_two::<U, N>(&mut sums, &w, &upper);
                for sum in sums.as_flattened_mut() {
                    *sum = U::times255(*sum);
                }
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, terms) in sums.iter_mut().zip(&columns.terms) {
                    if !B::MINS {
                        *sum = U::add(*sum, U::splat(*terms.wrapping_add(2 * a + i)));
                    }
                }
            }
            products_of_two::<U, N>(&mut sums, &w, &plane);
            for (i, sums) in sums.iter().enumerate() {
                let factors = B::factors::<U>(ready, round, 2 * k + i);
                join::<U, B, N>(factors, sums, columns, (a, 2 * a + i), acc);
            }
            return;
        }
        for i in 0..subs {
            let w = &w[i * B::SUB / 4..][..B::SUB / 4];
            let factors = B::factors::<U>(ready, round, k * subs + i);
            let (first, sub) = (i * B::SUB, a * subs + i);
            let mut sums = [U::splat(0); N];
            if FINE {
                // The upper plane counts 255 times.
                products::<U, B, N>(&mut sums, w, &upper, first);
                for sum in &mut sums {
                    *sum = U::times255(*sum);
                }
            }
            for (sum, terms) in sums.iter_mut().zip(&columns.terms) {
                // Formats with minimums have unsigned codes.
                if !(B::MINS || signed) {
                    *sum = U::add(*sum, U::splat(*terms.wrapping_add(sub)));
                }
            }
            products::<U, B, N>(&mut sums, w, &plane, first);
            join::<U, B, N>(factors, &sums, columns, (a, sub), acc);
        }
    }
}

/// One of several passes over a group of rows. Where registers are narrow and passes many, each fetches its
/// share of the next group into the second-level cache: if the first fetches all, it waits for memory,
/// and the others don't use it. (Zen 3, 8 columns, products a cycle: Q4_K 20.0 and 22.4, from a cache 23.5;
/// Q6_K 13.9 and 15.8. In two passes, 4 columns: Q6_K 12.7 and 9.7.)
#[derive(Clone, Copy)]
struct Pass {
    at: usize,
    of: usize,
}

/// The outputs of the rows of a register at `w`, from row `first` of the group on.
///
/// # Safety
/// The CPU has the register's instructions; so many blocks of sixteen rows lie at `w`, and the columns
/// are as wide.
#[inline(always)]
unsafe fn outputs<U: SimdReg, B: UnpackInterleaved, const N: usize, const FINE: bool>(
    w: *const u8,
    (first, pass): (usize, Pass),
    blocks: usize,
    columns: &Columns<N>,
) -> [U::F; N] {
    let block_bytes = const { REPACK_ROWS * size_of::<B>() };
    let block_lines = const { (REPACK_ROWS * size_of::<B>()).div_ceil(64) };
    let lines = block_lines * pass.at / pass.of..block_lines * (pass.at + 1) / pass.of;
    let shared = U::NARROW && pass.of >= SHARED;
    // SAFETY: the caller's promises; a prefetch may go anywhere.
    unsafe {
        let mut acc = [U::splat_float(0.0); N];
        for b in 0..blocks {
            let at = w.wrapping_add(b * block_bytes);
            let next = at.wrapping_add(if shared { blocks * block_bytes } else { AHEAD });
            if shared {
                for line in lines.clone() {
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line).cast());
                }
            }
            let interleaved = Interleaved::new::<B>(at, first);
            let at = (interleaved, &B::ready::<U>(interleaved));
            for round in 0..const { B::LEN / ACT_BLOCK / B::ROUND } {
                // Some lines at a time: there are few places to wait for them.
                let lines = const {
                    (REPACK_ROWS * size_of::<B>()).div_ceil(64 * (B::LEN / ACT_BLOCK / B::ROUND))
                };
                for line in 0..if shared { 0 } else { lines } {
                    let line = round * lines + line;
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64 * line).cast());
                }
                // One by one, so that what differs between parts is constant and what they share is
                // seen.
                const { assert!(B::ROUND == 1 || B::ROUND == 2 || B::ROUND == 4) };
                add_part::<U, B, N, FINE>(at, (round, 0), columns, b, &mut acc);
                if B::ROUND > 1 {
                    add_part::<U, B, N, FINE>(at, (round, 1), columns, b, &mut acc);
                }
                if B::ROUND > 2 {
                    add_part::<U, B, N, FINE>(at, (round, 2), columns, b, &mut acc);
                    add_part::<U, B, N, FINE>(at, (round, 3), columns, b, &mut acc);
                }
            }
        }
        acc
    }
}

/// One group of rows for the columns from `t` on, put where they belong.
///
/// # Safety
/// As [`outputs`], for a group of the matrix.
#[inline(always)]
unsafe fn put<U: SimdReg, B: UnpackInterleaved, const N: usize, const FINE: bool>(
    (w, group): (&Matrix<'_>, usize),
    (x, terms, t, tile): (&Q8Activations<'_>, &[i32], usize, Pass),
    rows: &Range<usize>,
    y: &mut Tile<'_>,
) {
    const { assert!(REPACK_ROWS.is_multiple_of(U::MR)) };
    let subs = w.cols() / B::SUB;
    let column = |n: usize| (t + n).min(x.n() - 1);
    let mut columns = Columns::<N> {
        q: [core::ptr::null(); N],
        lo: [core::ptr::null(); N],
        d: [core::ptr::null(); N],
        terms: [terms.as_ptr(); N],
    };
    for n in 0..N {
        let row = x.row(column(n));
        (columns.q[n], columns.d[n]) = (row.q.as_ptr(), row.d.as_ptr());
        columns.lo[n] = row.lo.map_or(columns.q[n], <[i8]>::as_ptr);
        columns.terms[n] = terms[column(n) * subs..][..subs].as_ptr();
    }
    let first = group * REPACK_ROWS;
    let at = w.bytes().as_ptr().wrapping_add(first * w.row_bytes());
    let here = first.max(rows.start)..(first + REPACK_ROWS).min(rows.end);
    let mut out = Aligned([[0.0f32; REPACK_ROWS]; N]);
    let out = if U::NARROW { &mut black_box(&mut out).0 } else { &mut out.0 };
    let parts = const { REPACK_ROWS / U::MR };
    for part in (0..REPACK_ROWS).step_by(U::MR) {
        let pass = Pass { at: tile.at * parts + part / U::MR, of: tile.of * parts };
        // SAFETY: the caller's promises; room for the register's lanes.
        unsafe {
            let acc = outputs::<U, B, N, FINE>(at, (part, pass), w.cols() / B::LEN, &columns);
            for (out, acc) in out.iter_mut().zip(acc) {
                U::store_float(acc, out[part..].as_mut_ptr());
            }
        }
    }
    for (n, out) in out.iter().enumerate() {
        y.row(column(n))[here.start - rows.start..][..here.len()]
            .copy_from_slice(&out[here.start - first..][..here.len()]);
    }
}

/// All of `rows` for all columns, which are at least [`LEAST`], and at most [`most`].
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
pub(super) unsafe fn matmul<U: SimdReg, B: UnpackInterleaved>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    assert!(w.is_repacked() && B::FORMAT == w.format());
    assert!((LEAST..=most::<U, B>()).contains(&x.n()) && x.cols() == w.cols());
    if rows.is_empty() {
        return;
    }
    let bytes = x.n() * (w.cols() / B::SUB) * size_of::<i32>();
    let terms: &mut [i32] = bytemuck::cast_slice_mut(&mut scratch[..bytes]);
    write_terms::<B>(x, terms);
    let terms = &*terms;
    let passes = tiles::<U>(x.n(), x.is_fine()).count();
    for group in rows.start / REPACK_ROWS..rows.end.div_ceil(REPACK_ROWS) {
        for (at, (t, width)) in tiles::<U>(x.n(), x.is_fine()).enumerate() {
            // SAFETY: the caller's promise; the matrix is repacked and has the group.
            unsafe {
                // Two planes are for few matrices, and have tiles of one width.
                let (of, columns) = ((w, group), (x, terms, t, Pass { at, of: passes }));
                match (const { tile_columns::<U>() == 8 } && width == 8, x.is_fine()) {
                    (true, true) => put::<U, B, 8, true>(of, columns, &rows, y),
                    (true, false) => put::<U, B, 8, false>(of, columns, &rows, y),
                    (false, true) if const { tile_columns::<U>() == 4 } => {
                        put::<U, B, 4, true>(of, columns, &rows, y);
                    }
                    (false, _) => put::<U, B, 4, false>(of, columns, &rows, y),
                }
            }
        }
    }
}
