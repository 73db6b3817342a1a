//! The gemm driver: products with many columns of activations.
//!
//! ```text
//! for each panel of MR rows of weights
//!     pack the rows: codes as bytes, scales and minimums as f32     (stays in L1 or L2)
//!     for each tile of NR columns                                   (8 or 4)
//!         acc[0..NR] = 0                                            registers of MR lanes
//!         for each sub-block of 16 or 32 codes
//!             sums[n] = products of the sub-block with codes of x[n]
//!             acc[n] += scales * dx[n] * sums[n] + mins * (dx[n] * sum of codes of x[n])
//!         y[columns][rows] = acc
//! ```
//!
//! The micro-kernel ([`tile`]) reads a panel from its beginning to its end, and broadcasts four
//! codes of a column to all lanes at a time:
//!
//! ```text
//!              panel (L2)                           columns of x (L1)
//!          lanes = MR rows                        x[0]   x[1]  ..  x[NR-1]
//! group 0 |aaaa|bbbb|cccc| .. |   one load   .   AAAA   AAAA      AAAA      one broadcast each
//! group 1 |aaaa|bbbb|cccc| .. |      x       .   BBBB   BBBB      BBBB
//!   ...                                             |      |         |
//! scales  |  d |  d |  d | .. |                   acc[0] acc[1]   acc[NR-1]
//! ```
//!
//! Blocks are joined in ascending order with unfused products and sums: the bits of the scalar
//! definition.
//!
//! Behind the panel, scratch holds the columns' terms: functions of the sums of codes, computed once for
//! all panels of a call (GPT-2 by `avx2`: prefill with Q4_K 1.03 times as fast, and with longer calls Q4_0
//! 1.09, Q4_K 1.08). Only tiles of signed bytes, which `vpmaddubsw` takes, need none.
//!
//! Where one instruction multiplies and adds, it waits for the one before: five cycles, of which eight
//! columns fill four. There tiles compute two sub-blocks side by side. (Emerald Rapids, `avx512`, 256
//! columns, 64 rows a call, without both and with both, 10^9 products a second: Q4_K 153 and 179, Q5_K 153
//! and 177, Q6_K 127 and 157, Q4_0 163 and 201, Q8_0 159 and 197. Its two ports allow 219 for Q4_K, and 379
//! for products alone.)

use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use core::array::from_fn;
use core::cell::Cell;
use core::hint::black_box;
use core::ops::Range;

use super::gemm_interleaved;
use super::isa::InstructionSet;
use super::pack::{pack, pack_interleaved, panel_bytes};
use super::panel::{Shape, layout};
use super::simd_reg::{Aligned, SimdReg};
use super::unpack::Unpack;
use super::unpack_interleaved::UnpackInterleaved;
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::{Matrix, Q8Activations, Tile};

/// Columns from which packing a panel pays.
pub(super) const PANEL_COLS: usize = 4;

/// Bytes of scratch for rows of `cols` and up to `n` columns: a panel and the columns' terms.
pub(super) const fn scratch<U: SimdReg, B: Unpack>(cols: usize, n: usize) -> usize {
    let terms =
        if has_terms::<U, B::Shape>() { n.next_multiple_of(4) * (cols / B::SUB) } else { 0 };
    panel_bytes::<B>(U::MR, cols) + terms * size_of::<i32>()
}

/// Tiles find the columns' terms in scratch. (Signed weights need none.)
const fn has_terms<U: SimdReg, S: Shape>() -> bool {
    S::MINS || !(U::NARROW && S::SIGNED)
}

/// The term of a sub-block of a column whose codes have the sum `sum` and the scale `d`: with minimums
/// the bits of `d * sum`, otherwise `-bias * sum`, where `bias` is the excess of bytes over codes.
#[inline(always)]
fn term<S: Shape>(bias: i32, d: f32, sum: i32) -> i32 {
    if S::MINS { (d * sum as f32).to_bits().cast_signed() } else { -bias * sum }
}

/// Columns of a tile.
#[derive(Clone, Copy)]
pub(super) struct TileCols {
    /// The first one.
    pub(super) t: usize,
    /// Their number: 8 or 4.
    pub(super) n: usize,
    /// Columns of the tiles before.
    before: usize,
}

/// The tiles of `n` columns. Columns left over are computed along with some that were already: the
/// same bits again.
fn tiles<U: SimdReg>(n: usize) -> impl Iterator<Item = TileCols> {
    let wide = if U::NR >= 8 { n / 8 * 8 } else { 0 };
    let (eights, fours) = ((0..wide).step_by(8), (wide..n).step_by(4));
    let eights = eights.map(|t| TileCols { t, n: 8, before: t });
    eights.chain(fours.map(move |t| TileCols { t: t.min(n - 4), n: 4, before: t }))
}

/// The loops around the micro-kernel: for each panel of `rows`, which are whole panels,
/// `pack(first row)`, and then for each tile of the `n` columns `tile(output, columns)`.
#[inline(always)]
pub(super) fn panels<U: SimdReg>(
    rows: Range<usize>,
    n: usize,
    mut pack: impl FnMut(usize),
    mut tile: impl FnMut(usize, TileCols),
) {
    for r in rows.clone().step_by(U::MR) {
        pack(r);
        for cols in tiles::<U>(n) {
            tile(r - rows.start, cols);
        }
    }
}

/// The addresses of the outputs of `mr` rows from `at` on, for the columns `t..t + N`.
#[inline(always)]
pub(super) fn outputs<const N: usize>(
    y: &mut Tile<'_>,
    t: usize,
    at: usize,
    mr: usize,
) -> [*mut f32; N] {
    let mut to = [core::ptr::null_mut(); N];
    for (n, to) in to.iter_mut().enumerate() {
        *to = y.row(t + n)[at..][..mr].as_mut_ptr();
    }
    to
}

/// Writes the terms of each tile's columns, sub-block after sub-block, as tiles of narrow registers read them.
fn write_terms<U: SimdReg, B: Unpack>(x: &Q8Activations<'_>, out: &mut [i32]) {
    for TileCols { t, n: cols, before } in tiles::<U>(x.n()) {
        let x = x.rows_from(t, cols);
        let to = &mut out[before * (x.q.len() / cols / B::SUB)..][..x.q.len() / B::SUB];
        for (sub, to) in to.chunks_exact_mut(cols).enumerate() {
            for (n, to) in to.iter_mut().enumerate() {
                let code = n * (x.q.len() / cols) + sub * B::SUB;
                let xs: i32 = x.s[code / ACT_SUM..][..B::SUB / ACT_SUM].iter().sum();
                *to = term::<B::Shape>(B::BIAS, x.d[code / ACT_BLOCK], xs);
            }
        }
    }
}

/// [`products`] of four groups.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn four_groups<U: SimdReg, const N: usize, const K: usize>(
    sums: &mut [[U::I; N]; K],
    w: [*const u8; K],
    q: &[*const i8; N],
    at: [usize; K],
) {
    macro_rules! add {
        ($g:literal) => {
            for k in 0..K {
                // SAFETY: the caller's promises.
                unsafe {
                    let w = U::load(w[k].add($g * 4 * U::MR));
                    for (sums, q) in sums[k].iter_mut().zip(q) {
                        let x = q.add(at[k] + 4 * $g).cast::<i32>();
                        *sums = U::dot(*sums, w, U::splat(x.read_unaligned()));
                    }
                }
            }
        };
    }
    add!(0);
    add!(1);
    add!(2);
    add!(3);
}

/// Adds to `sums` the products of `K` sub-blocks, whose groups begin at `w`, with the codes of each
/// column, `at` after the addresses `q`.
///
/// # Safety
/// The CPU has the register's instructions; `S::SUB` codes lie at each of these places.
#[inline(always)]
pub(super) unsafe fn products<U: SimdReg, S: Shape, const N: usize, const K: usize>(
    sums: &mut [[U::I; N]; K],
    w: [*const u8; K],
    q: &[*const i8; N],
    at: [usize; K],
) {
    let group = 4 * U::MR;
    // SAFETY: the caller's promises.
    unsafe {
        if !U::NARROW {
            // Without a loop where it is short.
            if S::SUB == 32 {
                four_groups::<U, N, K>(sums, w, q, at);
                four_groups::<U, N, K>(sums, w.map(|w| w.add(4 * group)), q, at.map(|at| at + 16));
            } else {
                for g in (0..S::SUB / 4).step_by(4) {
                    let at = at.map(|at| at + 4 * g);
                    four_groups::<U, N, K>(sums, w.map(|w| w.add(g * group)), q, at);
                }
            }
            return;
        }
        for (sums, (w, at)) in sums.iter_mut().zip(w.into_iter().zip(at)) {
            for first in (0..S::SUB / 4).step_by(S::PAIRS) {
                let mut pairs = [U::splat(0); N];
                for g in first..first + S::PAIRS {
                    let w = U::load(w.add(g * group));
                    for (n, pairs) in pairs.iter_mut().enumerate() {
                        let x = U::splat(q[n].add(at + 4 * g).cast::<i32>().read_unaligned());
                        let p = if S::SIGNED {
                            U::pairs::<true>(w, x)
                        } else {
                            U::pairs::<false>(w, x)
                        };
                        *pairs = match g == first {
                            true => p,
                            false if spills::<U, S>() => U::add_pairs_in_order(*pairs, p),
                            false => U::add_pairs(*pairs, p),
                        };
                    }
                }
                for (sums, pairs) in sums.iter_mut().zip(pairs) {
                    *sums = U::widen(*sums, pairs);
                }
            }
        }
    }
}

/// True for tiles whose sums of pairs fill the registers: these are added in order, where the compiler would make
/// trees, and the accumulators stay in memory, where it would move some of them to and fro. (Zen 3, 256
/// columns: Q4_K and Q4_1 1.10 times as fast, Q2_K 1.09; of other shapes Q4_0 0.97, Q6_K 0.93, Q5_K 0.92.
/// Written by hand, a tile of Q4_K takes 58 cycles for 2048 products; with packing, 256 columns take 69.)
const fn spills<U: SimdReg, S: Shape>() -> bool {
    U::NARROW && U::NR < 8 && S::MINS && 4 * S::PAIRS == S::SUB
}

/// A tile's share of the next panel's rows, which it prefetches where registers are narrow: packing, which
/// comes in bursts, would wait for memory, and tiles not use it. (Where registers are wide, packing does
/// it: not measured otherwise.)
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Where it begins.
    at: *const u8,
    /// Bytes for each part of the panel.
    step: usize,
}

/// Operands of a tile: a panel, and `N` columns by the addresses of what each has.
#[derive(Clone, Copy)]
struct Operands<const N: usize> {
    panel: *const u8,
    q: [*const i8; N],
    /// The lower plane of fine activations, else the codes again.
    lo: [*const i8; N],
    d: [*const f32; N],
    /// Where there are any ([`has_terms`]). Where registers are narrow, all columns have the first's, sub-block
    /// after sub-block.
    terms: [*const i32; N],
}

impl<const N: usize> Operands<N> {
    /// The term of sub-block `sub` of column `n`.
    ///
    /// # Safety
    /// The columns have the sub-block, and terms.
    #[inline(always)]
    unsafe fn term<U: SimdReg>(&self, sub: usize, n: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe {
            match U::NARROW {
                true => *self.terms[0].add(sub * N + n),
                false => *self.terms[n].add(sub),
            }
        }
    }
}

/// Adds `K` sub-blocks of a panel from the one of number `first` on, times `N` columns. Products of all of
/// them are computed side by side, and joined in their order.
///
/// # Safety
/// As [`tile`], whose operands have these sub-blocks.
#[inline(always)]
unsafe fn sub_blocks<U: SimdReg, S: Shape, const N: usize, const FINE: bool, const K: usize>(
    of: &Operands<N>,
    first: usize,
    acc: &mut [U::F; N],
) {
    let at = const { layout::<S>(U::MR) };
    let subs = const { ACT_BLOCK / S::SUB };
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[U::splat(0); N]; K];
        let (mut w, mut floats, mut codes) = ([of.panel; K], [of.panel; K], [0; K]);
        for k in 0..K {
            let (a, i) = ((first + k) / subs, (first + k) % subs);
            let p = of.panel.add(a * at.part);
            w[k] = p.add(i * (S::SUB / 4) * at.group);
            floats[k] = p.add(i * at.floats);
            codes[k] = a * ACT_BLOCK + i * S::SUB;
        }
        if FINE {
            products::<U, S, N, K>(&mut sums, w, &of.q, codes);
            for sums in sums.as_flattened_mut() {
                *sums = U::times255(*sums);
            }
        }
        if has_terms::<U, S>() && !S::MINS {
            for (k, sums) in sums.iter_mut().enumerate() {
                for (n, sums) in sums.iter_mut().enumerate() {
                    *sums = U::add(*sums, U::splat(of.term::<U>(first + k, n)));
                }
            }
        }
        products::<U, S, N, K>(&mut sums, w, if FINE { &of.lo } else { &of.q }, codes);
        for k in 0..K {
            let dw = U::load_float(floats[k].add(at.scales));
            for n in 0..N {
                let dx = *of.d[n].add((first + k) / subs);
                let both = U::mul_float(dw, U::splat_float(dx));
                let mut t = U::mul_float(both, U::to_float(sums[k][n]));
                if S::MINS {
                    let mw = U::load_float(floats[k].add(at.mins));
                    let term = of.term::<U>(first + k, n).cast_unsigned();
                    let weighed = U::splat_float(f32::from_bits(term));
                    t = U::add_float(t, U::mul_float(mw, weighed));
                }
                acc[n] = U::add_float(acc[n], t);
            }
        }
    }
}

/// The micro-kernel: stores the outputs of a panel for the `N` columns `x`, which lie one after
/// another. `terms` are the columns' ([`has_terms`]).
///
/// # Safety
/// The CPU has the register's instructions; a panel of `parts` parts lies at `panel`, aligned to
/// 64; there is room for as many floats as it has rows at each of `to`.
#[inline(always)]
pub(super) unsafe fn tile<U: SimdReg, S: Shape, const N: usize, const FINE: bool>(
    (panel, ahead): (*const u8, Ahead),
    parts: usize,
    terms: &[i32],
    x: Q8Row<'_>,
    to: [*mut f32; N],
) {
    // Checked here, so that the loops need no checks: N whole rows of as many parts.
    let (cols, subs) = (parts * ACT_BLOCK, const { ACT_BLOCK / S::SUB });
    assert!(x.q.len() == N * cols && x.d.len() == N * parts);
    assert!(!has_terms::<U, S>() || terms.len() == N * parts * subs);
    let lo = match x.lo {
        Some(lo) if FINE => {
            assert!(lo.len() == N * cols);
            lo.as_ptr()
        }
        _ => x.q.as_ptr(), // not read
    };
    let of = Operands::<N> {
        panel,
        q: from_fn(|n| x.q.as_ptr().wrapping_add(n * cols)),
        lo: from_fn(|n| lo.wrapping_add(n * cols)),
        d: from_fn(|n| x.d.as_ptr().wrapping_add(n * parts)),
        terms: from_fn(|n| {
            terms.as_ptr().wrapping_add(if U::NARROW { 0 } else { n * parts * subs })
        }),
    };
    // SAFETY: the caller's promises, and the checks above.
    unsafe {
        let (mut any, mut in_memory) =
            ([U::splat_float(0.0); N], Aligned([U::splat_float(0.0); N]));
        // Where registers are few, memory is aligned even if the accumulators aren't in it.
        let in_memory = if U::NARROW { black_box(&mut in_memory) } else { &mut in_memory };
        let acc = if spills::<U, S>() { &mut in_memory.0 } else { &mut any };
        // Else the columns' addresses would be computed over and over.
        let of = if U::NARROW { &of } else { black_box(&of) };
        if U::NARROW {
            for a in 0..parts {
                let next = ahead.at.wrapping_add(a * ahead.step).cast::<i8>();
                _mm_prefetch::<_MM_HINT_T1>(next);
                if ahead.step > 64 {
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64));
                }
                for i in 0..subs {
                    sub_blocks::<U, S, N, FINE, 1>(of, a * subs + i, acc);
                }
            }
        } else {
            let all = parts * subs;
            for first in (0..all / 2 * 2).step_by(2) {
                sub_blocks::<U, S, N, FINE, 2>(of, first, acc);
            }
            if !all.is_multiple_of(2) {
                sub_blocks::<U, S, N, FINE, 1>(of, all - 1, acc);
            }
        }
        for (acc, to) in acc.iter().zip(to) {
            U::store_float(*acc, to);
        }
    }
}

/// Stores a tile of outputs, by [`tile`] compiled for the set. Formats of the same shape share it.
///
/// # Safety
/// The panel is one of as many columns as `x` has.
unsafe fn put<I: InstructionSet, S: Shape, const N: usize>(
    isa: I,
    panel: (*const u8, Ahead),
    terms: &[i32],
    (x, cols): (&Q8Activations<'_>, TileCols),
    at: usize,
    y: &mut Tile<'_>,
) {
    let to = outputs::<N>(y, cols.t, at, I::Reg::MR);
    let (parts, fine, x) = (x.cols() / ACT_BLOCK, x.is_fine(), x.rows_from(cols.t, N));
    // SAFETY of both: `isa` is the proof of the register's instructions; room for as many floats as it
    // has lanes at each of `to`; the panel by the caller's promise.
    if fine {
        isa.vectorize(
            "gemm",
            #[inline(always)]
            // SAFETY: as above.
            move || unsafe { tile::<I::Reg, S, N, true>(panel, parts, terms, x, to) },
        );
    } else {
        isa.vectorize(
            "gemm",
            #[inline(always)]
            // SAFETY: as above.
            move || unsafe { tile::<I::Reg, S, N, false>(panel, parts, terms, x, to) },
        );
    }
}

/// Packs a panel of interleaved rows.
///
/// # Safety
/// Those of [`pack_interleaved`] about memory.
pub(super) unsafe fn pack_repacked<I: InstructionSet, B: UnpackInterleaved>(
    isa: I,
    w: &Matrix<'_>,
    r: usize,
    panel: *mut u8,
    off: u8,
) {
    isa.vectorize(
        "gemm interleaved",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the register's instructions; the rest by the caller's promise.
        move || unsafe { pack_interleaved::<I::Reg, B>(w, r, panel, off) },
    );
}

/// The product of `rows`, which are whole panels (of a repacked matrix from a multiple of `MR` on),
/// with all columns.
pub(super) fn matmul<I: InstructionSet, B: UnpackInterleaved>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    const { B::CHECKED };
    let (n, blocks, mr) = (x.n(), w.cols() / B::LEN, I::Reg::MR);
    assert!(x.cols() == w.cols() && n >= PANEL_COLS && rows.len().is_multiple_of(mr));
    assert!(!w.is_repacked() || rows.start.is_multiple_of(mr));
    let scratch = &mut scratch[..self::scratch::<I::Reg, B>(w.cols(), n)];
    assert!(scratch.as_ptr().addr().is_multiple_of(64), "scratch is aligned");
    let (panel, terms) = scratch.split_at_mut(panel_bytes::<B>(mr, w.cols()));
    let panel = panel.as_mut_ptr();
    let terms: &mut [i32] = bytemuck::cast_slice_mut(terms); // panels are whole vectors
    if has_terms::<I::Reg, B::Shape>() {
        if I::Reg::NARROW {
            write_terms::<I::Reg, B>(x, terms);
        } else {
            let terms = &mut terms[..n * (w.cols() / B::SUB)];
            isa.vectorize(
                "terms",
                #[inline(always)]
                move || gemm_interleaved::write_terms::<B>(x, terms),
            );
        }
    }
    let (terms, subs) = (&*terms, w.cols() / B::SUB);
    let off = if I::Reg::NARROW && B::Shape::SIGNED { 128 } else { 0 };
    let next = Cell::new(w.bytes().as_ptr());
    let share = mr * w.row_bytes() / n; // of one column
    panels::<I::Reg>(
        rows,
        n,
        |r| {
            next.set(w.bytes().as_ptr().wrapping_add((r + mr) * w.row_bytes()));
            // SAFETY: `isa` is the proof of AVX2 and F16C; as many rows as the panel has, and room for
            // them (above).
            unsafe {
                if w.is_repacked() {
                    pack_repacked::<I, B>(isa, w, r, panel, off);
                } else {
                    let rows = w.rows_from::<B>(r, mr).as_ptr();
                    if I::Reg::NARROW {
                        pack::<B, false>(rows, blocks, panel, mr, off);
                    } else {
                        pack::<B, true>(rows, blocks, panel, mr, off);
                    }
                }
            }
        },
        |at, cols| {
            let terms = if has_terms::<I::Reg, B::Shape>() {
                let first = if I::Reg::NARROW { cols.before } else { cols.t };
                &terms[first * subs..][..cols.n * subs]
            } else {
                &[]
            };
            let of = (x, cols);
            let ahead = Ahead {
                at: next.get().wrapping_add(cols.t * share),
                step: cols.n * share / (w.cols() / ACT_BLOCK).max(1),
            };
            let panel = (panel.cast_const(), ahead);
            // SAFETY: the panel was packed (above), for rows as wide as the activations.
            unsafe {
                if const { I::Reg::NR >= 8 } && cols.n == 8 {
                    put::<I, B::Shape, 8>(isa, panel, terms, of, at, y);
                } else {
                    put::<I, B::Shape, 4>(isa, panel, terms, of, at, y);
                }
            }
        },
    );
}
