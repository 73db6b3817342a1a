//! The driver for many columns: as many rows as a register has lanes are unpacked once, then
//! multiplied with all columns, several at a time.
//!
//! A panel lies in the caller's scratch: for every 32 codes of its rows, eight groups of four
//! bytes of each row side by side; then a scale of each row for every sub-block, then a minimum.
//! After it lie the columns' terms, where products are narrow: what a tile needs of the sums of
//! codes, once for all panels of a call (GPT-2 by `avx2`: prefill with Q4_K 1.03 times as fast, and with
//! longer calls Q4_0 1.09, Q4_K 1.08; by `avx512` 0.94 to 0.95, so that it makes its own).

use core::arch::x86_64::*;
use core::ops::Range;

use super::dot::{MADDUBS_MAX, Maddubs};
use super::shuffle::transpose8;
use super::unpack::{Scales, Unpack};
use super::unpack_interleaved::UnpackInterleaved;
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::{Matrix, Q8Activations, Tile};

/// Columns from which unpacking a panel pays.
pub(super) const PANEL_COLS: usize = 4;

/// A register of the driver: a lane for each row of the panel.
///
/// # Safety
/// Of all functions: the CPU has the instructions of the implementation; loads and stores are of
/// whole registers, and aligned to them where bytes or floats of a panel are meant.
pub(super) trait SimdReg {
    /// Rows of a panel.
    const MR: usize;
    /// Most columns of a tile: 4 or 8.
    const NR: usize;
    /// Products are sums of pairs in 16 bits ([`SimdReg::pairs`]), else of four in 32
    /// ([`SimdReg::dot`]).
    const NARROW: bool;
    /// What has one register where this has several.
    type One: SimdReg;
    /// Integers.
    type I: Copy;
    /// Floats.
    type F: Copy;

    unsafe fn splat(x: i32) -> Self::I;
    unsafe fn load(p: *const u8) -> Self::I;
    unsafe fn add(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn times255(a: Self::I) -> Self::I;
    /// Integers from any address.
    unsafe fn load_any(p: *const u8) -> Self::I;
    /// The bits of each lane that `bits` has.
    unsafe fn and(a: Self::I, bits: i32) -> Self::I;
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn sub_bytes(a: Self::I, b: u8) -> Self::I;
    /// The byte of the table for each byte of `a`, which are below 16.
    unsafe fn look_up(table: &[u8; 16], a: Self::I) -> Self::I;
    /// Bits of each lane moved up, or down where `up` is negative.
    unsafe fn shift(a: Self::I, up: i32) -> Self::I;
    /// Bits of each lane moved down, by what need not be a constant.
    unsafe fn shift_down(a: Self::I, by: usize) -> Self::I;
    /// Bits moved down, the sign's again from above.
    unsafe fn shift_signed(a: Self::I, down: i32) -> Self::I;
    /// The lower half of the product.
    unsafe fn times(a: Self::I, b: i32) -> Self::I;
    /// As many f16 as there are lanes, from any address.
    unsafe fn halves(p: *const u8) -> Self::F;
    /// The f16 in the lower half of each lane.
    unsafe fn low_halves(a: Self::I) -> Self::F;
    unsafe fn store(a: Self::I, p: *mut u8);
    unsafe fn store_panel(a: Self::F, p: *mut u8);
    /// `acc` and the products of four unsigned bytes of each lane of `w` with four codes of `x`.
    unsafe fn dot(acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// Products of bytes, or with `SIGNED` of codes, in pairs.
    unsafe fn pairs<const SIGNED: bool>(w: Self::I, x: Self::I) -> Self::I;
    unsafe fn add_pairs(a: Self::I, b: Self::I) -> Self::I;
    /// `acc` and the sums of neighbouring pairs.
    unsafe fn widen(acc: Self::I, pairs: Self::I) -> Self::I;

    unsafe fn to_float(a: Self::I) -> Self::F;
    unsafe fn splat_float(x: f32) -> Self::F;
    unsafe fn load_float(p: *const u8) -> Self::F;
    unsafe fn add_float(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul_float(a: Self::F, b: Self::F) -> Self::F;
    /// To any address.
    unsafe fn store_float(a: Self::F, p: *mut f32);
}

/// What the driver has to know of a format.
pub(super) trait Shape {
    /// Codes that share a scale: 16 or 32.
    const SUB: usize;
    /// Whether there are minimums.
    const MINS: bool;
    /// How many pairs of products sums of 16 bits can take; with 1 the codes stay signed, since
    /// products of such bytes would saturate.
    const PAIRS: usize;
}

/// A [`Shape`] by its numbers.
pub(super) struct Of<const SUB: usize, const MINS: bool, const PAIRS: usize>;

impl<const SUB: usize, const MINS: bool, const PAIRS: usize> Shape for Of<SUB, MINS, PAIRS> {
    const SUB: usize = SUB;
    const MINS: bool = MINS;
    const PAIRS: usize = PAIRS;
}

/// How a panel of `mr` rows lies in memory.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Bytes of a group of four.
    pub(super) group: usize,
    /// Bytes of a vector of scales or minimums.
    pub(super) floats: usize,
    /// Where scales begin, and minimums.
    pub(super) scales: usize,
    pub(super) mins: usize,
    /// Bytes for every 32 codes of the rows.
    pub(super) part: usize,
}

pub(super) const fn layout<S: Shape>(mr: usize) -> Layout {
    let (group, floats) = (4 * mr, 4 * mr);
    let scales = ACT_BLOCK / 4 * group;
    let mins = scales + ACT_BLOCK / S::SUB * floats;
    let part = mins + if S::MINS { mins - scales } else { 0 };
    Layout { group, floats, scales, mins, part }
}

/// Bytes of a panel of `mr` rows of `cols`.
pub(super) const fn panel_bytes<B: Unpack>(mr: usize, cols: usize) -> usize {
    cols / ACT_BLOCK * layout::<B::Shape>(mr).part
}

/// Bytes of scratch for rows of `cols` and up to `n` columns: a panel and the columns' terms.
pub(super) const fn scratch<U: SimdReg, B: Unpack>(cols: usize, n: usize) -> usize {
    let terms =
        if has_terms::<U, B::Shape>() { n.next_multiple_of(4) * (cols / B::SUB) } else { 0 };
    panel_bytes::<B>(U::MR, cols) + terms * size_of::<i32>()
}

/// Whether the columns' terms lie ready for tiles: not where weights are signed, which need none.
const fn has_terms<U: SimdReg, S: Shape>() -> bool {
    U::NARROW && (S::MINS || S::PAIRS != 1)
}

/// What a tile adds for a sub-block of a column, whose codes come to `sum` and have the scale `d`: with
/// minimums the bits of their product, else `-bias * sum`, `bias` being what the bytes of weights
/// are too large by.
#[inline(always)]
fn term<S: Shape>(bias: i32, d: f32, sum: i32) -> i32 {
    if S::MINS { (d * sum as f32).to_bits().cast_signed() } else { -bias * sum }
}

/// How `n` columns are divided into tiles: the first column and the number of each. Columns left
/// over are computed along with some that were already: the same bits again.
fn tiles<U: SimdReg>(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let wide = if U::NR >= 8 { n / 8 * 8 } else { 0 };
    let (eights, fours) = ((0..wide).step_by(8), (wide..n).step_by(4));
    eights.map(|t| (t, 8)).chain(fours.map(move |t| (t.min(n - 4), 4)))
}

/// Writes the terms of each tile's columns, sub-block after sub-block.
fn write_terms<U: SimdReg, B: Unpack>(x: &Q8Activations<'_>, mut out: &mut [i32]) {
    for (t, cols) in tiles::<U>(x.n()) {
        let x = x.rows_from(t, cols);
        let (to, rest) = out.split_at_mut(x.q.len() / B::SUB);
        for (sub, to) in to.chunks_exact_mut(cols).enumerate() {
            for (n, to) in to.iter_mut().enumerate() {
                let code = n * (x.q.len() / cols) + sub * B::SUB;
                let xs: i32 = x.s[code / ACT_SUM..][..B::SUB / ACT_SUM].iter().sum();
                *to = term::<B::Shape>(B::BIAS, x.d[code / ACT_BLOCK], xs);
            }
        }
        out = rest;
    }
}

/// Unpacks `mr` (8 or 16) rows of `blocks` blocks, with `off` taken off all bytes.
///
/// # Safety
/// The CPU has AVX2 and F16C; the rows lie at `w`, and `panel` has room for them, aligned to 32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn unpack<B: Unpack>(
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
                    for line in 0..size_of::<B>().div_ceil(64) {
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

/// `sums` and the products of a sub-block, whose groups begin at `w`, with the codes at `q` and, for
/// further columns, every `cols` bytes after it.
///
/// # Safety
/// The CPU has the register's instructions; `S::SUB` codes lie at each of these places.
#[inline(always)]
pub(super) unsafe fn products<U: SimdReg, S: Shape, const N: usize>(
    sums: &mut [U::I; N],
    w: *const u8,
    q: *const i8,
    cols: usize,
) {
    let group = 4 * U::MR;
    // SAFETY: the caller's promises.
    unsafe {
        if !U::NARROW {
            for g in 0..S::SUB / 4 {
                let w = U::load(w.add(g * group));
                for (n, sums) in sums.iter_mut().enumerate() {
                    let x = U::splat(q.add(n * cols + 4 * g).cast::<i32>().read_unaligned());
                    *sums = U::dot(*sums, w, x);
                }
            }
            return;
        }
        for first in (0..S::SUB / 4).step_by(S::PAIRS) {
            let mut pairs = [U::splat(0); N];
            for g in first..first + S::PAIRS {
                let w = U::load(w.add(g * group));
                for (n, pairs) in pairs.iter_mut().enumerate() {
                    let x = U::splat(q.add(n * cols + 4 * g).cast::<i32>().read_unaligned());
                    let p = if S::PAIRS == 1 {
                        U::pairs::<true>(w, x)
                    } else {
                        U::pairs::<false>(w, x)
                    };
                    *pairs = if g == first { p } else { U::add_pairs(*pairs, p) };
                }
            }
            for (sums, pairs) in sums.iter_mut().zip(pairs) {
                *sums = U::widen(*sums, pairs);
            }
        }
    }
}

/// Stores the outputs of a panel for the `N` rows of activations that `x` has one after another;
/// `bias` is what bytes are larger than codes, and `terms` are the rows', where they lie ready.
///
/// # Safety
/// The CPU has the register's instructions; a panel of `parts` parts lies at `panel`, aligned to
/// 64; there is room for as many floats as it has rows at each of `to`.
#[inline(always)]
pub(super) unsafe fn tile<U: SimdReg, S: Shape, const N: usize, const FINE: bool>(
    panel: *const u8,
    parts: usize,
    (bias, terms): (i32, &[i32]),
    x: Q8Row<'_>,
    to: [*mut f32; N],
) {
    let at = const { layout::<S>(U::MR) };
    // Checked here, so that the loops need no checks: N whole rows of as many parts.
    let (cols, subs) = (parts * ACT_BLOCK, const { ACT_BLOCK / S::SUB });
    let sums_ = cols / ACT_SUM;
    assert!(x.q.len() == N * cols && x.d.len() == N * parts && x.s.len() == N * sums_);
    assert!(!has_terms::<U, S>() || terms.len() == N * parts * subs);
    let lo = match x.lo {
        Some(lo) if FINE => {
            assert!(lo.len() == N * cols);
            lo.as_ptr()
        }
        _ => x.q.as_ptr(), // not read
    };
    let (q, d, s, mut terms) = (x.q.as_ptr(), x.d.as_ptr(), x.s.as_ptr(), terms.as_ptr());
    // SAFETY: the caller's promises, and the checks above.
    unsafe {
        let mut acc = [U::splat_float(0.0); N];
        for a in 0..parts {
            let p = panel.add(a * at.part);
            for i in 0..subs {
                let w = p.add(i * (S::SUB / 4) * at.group);
                let first = a * ACT_BLOCK + i * S::SUB;
                let mut own = [0; N];
                for (n, own) in own.iter_mut().enumerate() {
                    *own = if const { has_terms::<U, S>() } {
                        *terms.add(n)
                    } else {
                        let s = s.add(n * sums_ + first / ACT_SUM);
                        let sum = if S::SUB == 16 { *s } else { *s + *s.add(1) };
                        term::<S>(bias, *d.add(n * parts + a), sum)
                    };
                }
                let mut sums = [U::splat(0); N];
                if FINE {
                    products::<U, S, N>(&mut sums, w, q.add(first), cols);
                    for sums in &mut sums {
                        *sums = U::times255(*sums);
                    }
                }
                // Formats with minimums have unsigned codes.
                let signed = U::NARROW && S::PAIRS == 1;
                if !(S::MINS || signed) {
                    for (sums, own) in sums.iter_mut().zip(own) {
                        *sums = U::add(*sums, U::splat(own));
                    }
                }
                let plane = if FINE { lo } else { q };
                products::<U, S, N>(&mut sums, w, plane.add(first), cols);
                let dw = U::load_float(p.add(at.scales + i * at.floats));
                for n in 0..N {
                    let dx = *d.add(n * parts + a);
                    let both = U::mul_float(dw, U::splat_float(dx));
                    let mut t = U::mul_float(both, U::to_float(sums[n]));
                    if S::MINS {
                        let mw = U::load_float(p.add(at.mins + i * at.floats));
                        let weighed = U::splat_float(f32::from_bits(own[n].cast_unsigned()));
                        t = U::add_float(t, U::mul_float(mw, weighed));
                    }
                    acc[n] = U::add_float(acc[n], t);
                }
                // Past the last at most, where there are terms.
                terms = terms.wrapping_add(N);
            }
        }
        for (acc, to) in acc.into_iter().zip(to) {
            U::store_float(acc, to);
        }
    }
}

/// [`tile`], compiled for a set.
pub(super) trait Tiles {
    /// The set's registers.
    type SimdReg: SimdReg;

    /// # Safety
    /// That of [`tile`].
    unsafe fn tile<S: Shape, const N: usize, const FINE: bool>(
        panel: *const u8,
        parts: usize,
        terms: (i32, &[i32]),
        x: Q8Row<'_>,
        to: [*mut f32; N],
    );

    /// Fills a panel from a repacked matrix.
    ///
    /// # Safety
    /// That of [`super::gemv_interleaved::unpack`].
    unsafe fn unpack_interleaved<B: UnpackInterleaved>(
        w: &Matrix<'_>,
        r: usize,
        panel: *mut u8,
        off: u8,
    );
}

/// The tile of columns `t..t + N`, put where it belongs.
///
/// # Safety
/// As [`tile`].
unsafe fn put<T: Tiles, B: Unpack, const N: usize>(
    panel: *const u8,
    terms: &[i32],
    x: &Q8Activations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    let mut to = [core::ptr::null_mut(); N];
    for (n, to) in to.iter_mut().enumerate() {
        *to = y.row(t + n)[at..][..T::SimdReg::MR].as_mut_ptr();
    }
    let (parts, rows) = (x.cols() / ACT_BLOCK, x.rows_from(t, N));
    // SAFETY: the caller's promises; as many floats as the register has lanes at each of `to`.
    unsafe {
        if x.is_fine() {
            T::tile::<B::Shape, N, true>(panel, parts, (B::BIAS, terms), rows, to);
        } else {
            T::tile::<B::Shape, N, false>(panel, parts, (B::BIAS, terms), rows, to);
        }
    }
}

/// All of `rows` for all columns of the activations, as many rows as make whole panels; of a
/// repacked matrix, from a multiple of as many on.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `T`.
pub(super) unsafe fn matmul<T: Tiles, B: UnpackInterleaved>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    const {
        let (sub, pairs) = (<B::Shape as Shape>::SUB, <B::Shape as Shape>::PAIRS);
        assert!(sub == B::SUB && <B::Shape as Shape>::MINS == B::MINS);
        // Bytes times codes of at most 127, two to a pair, in 16 bits; or signed codes.
        assert!((B::SUB / 4).is_multiple_of(pairs) && (pairs == 1) == (B::MAX > MADDUBS_MAX));
        assert!(pairs == 1 || 2 * 127 * B::MAX * pairs as i32 <= i16::MAX as i32);
        // Formats with minimums have unsigned codes: nothing is taken off for a bias.
        assert!(!B::MINS || B::BIAS == 0);
    }
    let (n, blocks, mr) = (x.n(), w.cols() / B::LEN, T::SimdReg::MR);
    assert!(x.cols() == w.cols() && n >= PANEL_COLS);
    let scratch = &mut scratch[..self::scratch::<T::SimdReg, B>(w.cols(), n)];
    assert!(scratch.as_ptr().addr().is_multiple_of(64), "scratch is aligned");
    let (panel, terms) = scratch.split_at_mut(panel_bytes::<B>(mr, w.cols()));
    let panel = panel.as_mut_ptr();
    let terms: &mut [i32] = bytemuck::cast_slice_mut(terms); // panels are whole vectors
    if has_terms::<T::SimdReg, B::Shape>() {
        write_terms::<T::SimdReg, B>(x, terms);
    }
    let off = if T::SimdReg::NARROW && B::Shape::PAIRS == 1 { 128 } else { 0 };
    for r in rows.clone().step_by(mr) {
        let at = r - rows.start;
        // SAFETY: the caller's promise; as many rows as the panel has, and room for them (above).
        unsafe {
            if w.is_repacked() {
                T::unpack_interleaved::<B>(w, r, panel, off);
            } else {
                unpack::<B>(w.rows_from::<B>(r, mr).as_ptr(), blocks, panel, mr, off);
            }
            let mut terms = &*terms;
            for (t, cols) in tiles::<T::SimdReg>(n) {
                let (own, rest) = terms.split_at(terms.len().min(cols * (w.cols() / B::SUB)));
                if T::SimdReg::NR >= 8 && cols == 8 {
                    put::<T, B, 8>(panel, own, x, t, at, y);
                } else {
                    put::<T, B, 4>(panel, own, x, t, at, y);
                }
                terms = rest;
            }
        }
    }
}
