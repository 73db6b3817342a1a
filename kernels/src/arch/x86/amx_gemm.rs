//! The gemm drivers of AMX: panels as `pack.rs` and `gemm_ternary.rs` pack them, but of signed codes
//! and, of ternary weights, of 32 rows; multiplied with sixteen or 32 rows of activations at a time.
//!
//! ```text
//! for each panel of 16 rows, for each 16 columns
//!     ring <- tiles of sub-blocks 0, 1
//!     for each two sub-blocks j, j + 1
//!         ring <- tiles of sub-blocks j + 2, j + 3        16 x 16 sums each, by TMUL
//!         acc[n] += scales * dx[n] * sums[j][n]                 by AVX-512, one register per column
//!
//!          weights: groups of 4 columns         codes           sums
//!             | aaaa bbbb .. (16 rows) |      | AAAABBBB.. |   | 16 rows |
//!  8          | aaaa bbbb ..           |  x   | x[0]  ..   | = | x[0]    |
//!  groups     |   ..                   |      | x[15] ..   |   | x[15]   |
//! ```
//!
//! Tiles leave sums of a sub-block (or of a group of 256) in a ring on the stack, from where they
//! are joined as floats. Tiles are ahead: while the vector units join the sums of two sub-blocks (or of
//! a group), those of the next ones are computed.

use core::arch::x86_64::*;
use core::ops::Range;

use super::amx_tiles::{SIDE, STEP, TILE, TileDot};
use super::avx512::Avx512;
use super::gemm::pack_repacked;
use super::gemm_ternary;
use super::isa::InstructionSet;
use super::pack::{pack, panel_bytes};
use super::panel::{Layout, Of, layout};

use super::unpack_interleaved::UnpackInterleaved;
use super::unpack_ternary::UnpackTernary;
use crate::activations::{ACT_BLOCK, Q8Row};
use crate::blocks::CodeBlock;
use crate::blocks::expanded::for_drivers;
use crate::{Format, Matrix, Q8Activations, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRow};

/// Rows of a panel.
pub(super) const MR: usize = SIDE;
/// Rows of a panel of ternary weights.
pub(super) const TERNARY_MR: usize = 2 * SIDE;
/// Columns that are multiplied at a time.
pub(super) const TILE_COLS: usize = SIDE;

/// Columns from which tiles are faster than the drivers of AVX-512, if there are any: for one scale of 32
/// codes and no minimum. (Emerald Rapids, best of many, 64 rows a call, repacked, tiles for AVX-512, of 32,
/// 64 and 256 columns: Q8_0 0.82 0.99 1.11, Q4_0 0.91 1.05 1.04, IQ4_XS 0.79 1.04 1.09, MXFP4 0.98 1.09
/// 1.11. With minimums, by an older version: Q4_K 0.98 0.93 0.96, Q5_K 0.91 0.93 0.97, Q4_1 0.89 0.92
/// 0.96; with sub-blocks of 16: Q6_K 0.77 0.78 0.68, Q3_K 0.75 0.76 0.70.)
pub(super) fn least(format: Format) -> Option<usize> {
    for_drivers!(format, B => if B::SUB == 32 && !B::MINS { Some(64) } else { None }, dense => None)
}
/// The same for ternary weights.
pub(super) const TERNARY_COLS: usize = 2 * SIDE;

/// Bytes of scratch for a panel of ternary weights.
pub(super) const fn ternary_scratch(cols: usize) -> usize {
    gemm_ternary::scratch(TERNARY_MR, cols)
}

/// Sub-blocks in the ring: two that are joined, and two that are being computed.
const SLOTS: usize = 4;

/// Two tiles of sums for each of them, of upper and lower planes; or four for each of two groups of
/// ternary weights.
#[repr(align(64))]
struct Ring([i32; SLOTS * 2 * TILE]);

/// Floats of `N` columns, for sixteen sub-blocks (or groups) one after another.
#[repr(align(64))]
struct Floats<const N: usize>([[f32; SIDE]; N]);

/// The same for each of sixteen rows: a loop, the compiler would leave one, with its sums in memory.
macro_rules! rows {
    ($n:ident => $do:block) => { rows!($n => $do 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
    ($n:ident => $do:block $($row:literal)*) => { $({ let $n = $row; $do })* };
}

/// Operands of a tile: addresses of the panel and of the activations.
#[derive(Clone, Copy)]
struct Operands {
    panel: *const u8,
    /// 32-code parts of a row.
    parts: usize,
    q: *const i8,
    lo: *const i8,
    d: *const f32,
}

/// Buffers on the stack: sums, and scales of activations.
struct Stage {
    ring: Ring,
    dx: Floats<SIDE>,
}

/// The layout of a panel.
const AT: Layout = layout::<Of<ACT_BLOCK, false, 1>>(MR);

impl Operands {
    /// The place of sub-block `j` in the panel.
    #[inline(always)]
    fn place(&self, j: usize) -> *const u8 {
        self.panel.wrapping_add(j * AT.part)
    }

    /// Has the sums of sub-block `j` computed.
    ///
    /// # Safety
    /// The sub-block exists; tiles are configured for its codes.
    #[inline(always)]
    unsafe fn multiply<P, const FINE: bool, const SET: usize>(
        &self,
        tiles: &P,
        j: usize,
        ring: &mut Ring,
    ) where
        P: TileDot,
    {
        let (w, cols) = (self.place(j), self.parts * ACT_BLOCK);
        let to = ring.0.as_mut_ptr().wrapping_add(j % SLOTS * 2 * TILE);
        // SAFETY: the sub-block's groups lie at w, its codes at q (and lo) and in the fifteen next
        // rows; a slot has room for two tiles, and is a multiple of 64 bytes long.
        unsafe {
            tiles.one::<SET>(self.q.wrapping_add(j * ACT_BLOCK), cols, w, to);
            if FINE {
                let lo = self.lo.wrapping_add(j * ACT_BLOCK);
                tiles.one::<SET>(lo, cols, w, to.wrapping_add(TILE));
            }
        }
    }

    /// The same for `j` and the one after it, as far as they are below `subs`.
    ///
    /// # Safety
    /// Tiles are configured for the codes of one, and there are `subs` sub-blocks.
    #[inline(always)]
    unsafe fn pair<P: TileDot, const FINE: bool>(
        &self,
        tiles: &P,
        j: usize,
        subs: usize,
        ring: &mut Ring,
    ) {
        // SAFETY: the caller's promise, and they exist.
        unsafe {
            if j < subs {
                self.multiply::<P, FINE, 0>(tiles, j, ring);
            }
            if j + 1 < subs {
                self.multiply::<P, FINE, 1>(tiles, j + 1, ring);
            }
        }
    }

    /// The scales of the activations for sub-blocks `j..j + 16`, as many as there are.
    ///
    /// # Safety
    /// The CPU has AVX-512 F; `j` is a multiple of 16, and the sub-block exists.
    #[inline(always)]
    unsafe fn scales(&self, j: usize, dx: &mut Floats<SIDE>) {
        let here = ((1u32 << (self.parts - j).min(SIDE)) - 1) as __mmask16;
        for (n, dx) in dx.0.iter_mut().enumerate() {
            let d = self.d.wrapping_add(n * self.parts + j);
            // SAFETY: the caller's promises; the mask keeps the load within the row.
            unsafe { _mm512_store_ps(dx.as_mut_ptr(), _mm512_maskz_loadu_ps(here, d)) };
        }
    }

    /// Joins the sums of sub-block `j`.
    ///
    /// # Safety
    /// The CPU has AVX-512 F; the sub-block exists.
    #[inline(always)]
    unsafe fn join<const FINE: bool>(&self, j: usize, stage: &Stage, acc: &mut [__m512; SIDE]) {
        let sums = stage.ring.0.as_ptr().wrapping_add(j % SLOTS * 2 * TILE);
        let dx = stage.dx.0.as_ptr().cast::<f32>();
        // SAFETY: the caller's promises; scales of the sub-block lie there, aligned as the panel is; a slot
        // of the ring has two tiles, and the stage has sixteen floats a column.
        unsafe {
            let dw = _mm512_load_ps(self.place(j).wrapping_add(AT.scales).cast());
            rows!(n => {
                let mut sum = _mm512_load_si512(sums.add(n * SIDE).cast());
                if FINE {
                    let lo = _mm512_load_si512(sums.add(TILE + n * SIDE).cast());
                    let times255 = _mm512_sub_epi32(_mm512_slli_epi32::<8>(sum), sum);
                    sum = _mm512_add_epi32(times255, lo);
                }
                let at = n * SIDE + j % SIDE;
                let both = _mm512_mul_ps(dw, _mm512_set1_ps(*dx.add(at)));
                let t = _mm512_mul_ps(both, _mm512_cvtepi32_ps(sum));
                acc[n] = _mm512_add_ps(acc[n], t);
            });
        }
    }
}

/// The outputs of a panel for sixteen rows of activations.
///
/// # Safety
/// The CPU has AVX-512 F and what `P` needs; the operands are those of a panel of this layout and of
/// sixteen rows; tiles are configured for the codes of a sub-block.
#[inline(always)]
unsafe fn tile<P: TileDot, const FINE: bool>(
    tiles: &P,
    x: Operands,
    stage: &mut Stage,
) -> [__m512; SIDE] {
    let subs = x.parts;
    // SAFETY: the caller's promises; every sub-block is below `subs`.
    unsafe {
        let mut acc = [_mm512_setzero_ps(); SIDE];
        x.pair::<P, FINE>(tiles, 0, subs, &mut stage.ring);
        for j in (0..subs).step_by(2) {
            if j % SIDE == 0 {
                x.scales(j, &mut stage.dx);
            }
            // Two at a time: what stands between two joins keeps registers from staying where they are.
            x.pair::<P, FINE>(tiles, j + 2, subs, &mut stage.ring);
            x.join::<FINE>(j, stage, &mut acc);
            if j + 1 < subs {
                x.join::<FINE>(j + 1, stage, &mut acc);
            }
        }
        acc
    }
}

/// One panel times all rows of the activations, at column `at` of `y`. Rows left over are computed
/// along with some that were already: the same bits again.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL and DQ and what `P` needs; a panel lies at `panel`, aligned to 64,
/// of signed codes and as wide as the activations, of which there are sixteen rows or more.
#[inline(always)]
unsafe fn panel<P: TileDot, const FINE: bool>(
    panel: *const u8,
    x: &Q8Activations<'_>,
    at: usize,
    y: &mut Tile<'_>,
) {
    let (n, parts) = (x.n(), x.cols() / ACT_BLOCK);
    let mut stage = Stage { ring: Ring([0; SLOTS * 2 * TILE]), dx: Floats([[0.0; SIDE]; SIDE]) };
    // SAFETY: the caller's promise.
    let tiles = unsafe { P::configure(ACT_BLOCK) };
    for t in (0..n).step_by(TILE_COLS) {
        let t = t.min(n - TILE_COLS);
        let Q8Row { q, lo, d, .. } = x.rows_from(t, TILE_COLS);
        let lo = lo.unwrap_or(q).as_ptr(); // only read where there is one
        let operands = Operands { panel, parts, q: q.as_ptr(), lo, d: d.as_ptr() };
        // SAFETY: the caller's promises, and sixteen rows (above).
        let out = unsafe { tile::<P, FINE>(&tiles, operands, &mut stage) };
        for (n, out) in out.into_iter().enumerate() {
            let to = &mut y.row(t + n)[at..][..MR];
            // SAFETY: room for sixteen floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), out) };
        }
    }
}

/// [`panel`], compiled for AVX-512. All formats share it.
///
/// # Safety
/// The CPU has what `P` needs; the rest as [`panel`].
unsafe fn panel_by_tiles<P: TileDot, const FINE: bool>(
    isa: Avx512,
    panel: *const u8,
    x: &Q8Activations<'_>,
    at: usize,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "gemm by tiles",
        #[inline(always)]
        // SAFETY: `isa` is the proof of AVX-512; the rest by the caller's promise.
        move || unsafe { self::panel::<P, FINE>(panel, x, at, y) },
    );
}

/// The product of `rows`, which are whole panels, with all columns, of a format that has a [`least`].
///
/// # Safety
/// The CPU has what `P` needs.
pub(super) unsafe fn matmul<P: TileDot, B: UnpackInterleaved>(
    isa: Avx512,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    const {
        // The panel is as large as its layout here says, and codes are signed bytes.
        let () = B::CHECKED;
        assert!(B::BIAS >= 0 && B::BIAS <= 128 && B::MAX - B::BIAS <= 127);
    }
    let blocks = w.cols() / B::LEN;
    assert!(B::SUB == ACT_BLOCK && !B::MINS, "a format with tiles");
    assert!(x.cols() == w.cols() && x.n() >= TILE_COLS && rows.len().is_multiple_of(MR));
    let scratch = &mut scratch[..panel_bytes::<B>(MR, w.cols())];
    let to = scratch.as_mut_ptr();
    assert!(to.addr().is_multiple_of(64), "scratch is aligned");
    for r in rows.clone().step_by(MR) {
        let at = r - rows.start;
        // SAFETY: the caller's promise; as many rows as the panel has, and room for them (above). Less
        // their bias, bytes are the codes.
        unsafe {
            if w.is_repacked() {
                pack_repacked::<Avx512, B>(isa, w, r, to, B::BIAS as u8);
            } else {
                let rows = w.rows_from::<B>(r, MR).as_ptr();
                pack::<B, true>(rows, blocks, to, MR, B::BIAS as u8);
            }
            match x.is_fine() {
                false => panel_by_tiles::<P, false>(isa, to, x, at, y),
                true => panel_by_tiles::<P, true>(isa, to, x, at, y),
            }
        }
    }
}

/// Buffers on the stack for ternary weights: sums of two groups, scales of sixteen groups of
/// activations, outputs.
struct TernaryStage {
    ring: Ring,
    dx: Floats<TERNARY_COLS>,
    acc: [[__m512; 2]; TERNARY_COLS],
}

/// The outputs of a panel of ternary weights for 32 rows of activations, left in the stage.
///
/// # Safety
/// As [`tile`]: a panel of 32 rows of `cols`, as many rows of activations at `x`, tiles
/// configured for [`STEP`].
#[inline(always)]
unsafe fn ternary_tile<P: TileDot>(
    tiles: &P,
    panel: *const u8,
    cols: usize,
    x: WideRow<'_>,
    stage: &mut TernaryStage,
) {
    const GROUP: usize = (WIDE_BLOCK + 4) * TERNARY_MR;
    const SLOT: usize = 4 * TILE;
    let groups = cols.div_ceil(WIDE_BLOCK);
    assert!(x.q.len() == TERNARY_COLS * cols && x.d.len() == TERNARY_COLS * groups);
    let (ring, dx) = (stage.ring.0.as_mut_ptr(), stage.dx.0.as_mut_ptr().cast::<f32>());
    // SAFETY: the caller's promises; every `g` is below `groups`, of which the last may have 128
    // codes; scales lie behind the codes of a group; a slot has room for four tiles.
    unsafe {
        let len = |g: usize| (cols - g * WIDE_BLOCK).min(WIDE_BLOCK);
        stage.acc = [[_mm512_setzero_ps(); 2]; TERNARY_COLS];
        for next in 0..=groups {
            if next < groups {
                let (w, q) = (panel.add(next * GROUP), x.q.as_ptr().add(next * WIDE_BLOCK));
                tiles.four(q, cols, w, len(next) / STEP, ring.add(next % 2 * SLOT));
            }
            // While tiles multiply, the sums of the group before are joined.
            let Some(g) = next.checked_sub(1) else { continue };
            if g % SIDE == 0 {
                let here = ((1u32 << (groups - g).min(SIDE)) - 1) as __mmask16;
                for n in 0..TERNARY_COLS {
                    let d = _mm512_maskz_loadu_ps(here, x.d.as_ptr().add(n * groups + g));
                    _mm512_store_ps(dx.add(n * SIDE), d);
                }
            }
            let dw = panel.add(g * GROUP + len(g) * TERNARY_MR).cast::<f32>();
            let dw = [_mm512_load_ps(dw), _mm512_load_ps(dw.add(SIDE))];
            for half in 0..2 {
                let sums = ring.add(g % 2 * SLOT + half * 2 * TILE);
                for n in 0..SIDE {
                    let m = half * SIDE + n;
                    let d = _mm512_set1_ps(*dx.add(m * SIDE + g % SIDE));
                    for (i, acc) in stage.acc[m].iter_mut().enumerate() {
                        let sum = _mm512_load_si512(sums.add(i * TILE + n * SIDE).cast());
                        let both = _mm512_mul_ps(dw[i], d);
                        *acc = _mm512_add_ps(*acc, _mm512_mul_ps(both, _mm512_cvtepi32_ps(sum)));
                    }
                }
            }
        }
    }
}

/// [`panel`] for ternary weights.
///
/// # Safety
/// As [`panel`], with 32 rows of each or more.
#[inline(always)]
unsafe fn ternary_panel<P: TileDot>(
    panel: *const u8,
    x: &WideActivations<'_>,
    at: usize,
    y: &mut Tile<'_>,
) {
    let n = x.n();
    let mut stage = TernaryStage {
        ring: Ring([0; SLOTS * 2 * TILE]),
        dx: Floats([[0.0; SIDE]; TERNARY_COLS]),
        // SAFETY: AVX-512 F by the caller.
        acc: unsafe { [[_mm512_setzero_ps(); 2]; TERNARY_COLS] },
    };
    // SAFETY: the caller's promise.
    let tiles = unsafe { P::configure(STEP) };
    for t in (0..n).step_by(TERNARY_COLS) {
        let t = t.min(n - TERNARY_COLS);
        // SAFETY: the caller's promises, and 32 rows.
        unsafe {
            let rows = x.rows_from(t, TERNARY_COLS);
            ternary_tile::<P>(&tiles, panel, x.cols(), rows, &mut stage);
        }
        for (n, out) in stage.acc.iter().enumerate() {
            let to = &mut y.row(t + n)[at..][..TERNARY_MR];
            // SAFETY: room for 32 floats.
            unsafe {
                _mm512_storeu_ps(to.as_mut_ptr(), out[0]);
                _mm512_storeu_ps(to.as_mut_ptr().add(SIDE), out[1]);
            }
        }
    }
}

/// [`matmul`] for ternary weights.
///
/// # Safety
/// As [`matmul`].
pub(super) unsafe fn ternary<P: TileDot, B: UnpackTernary>(
    isa: Avx512,
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    const { assert!(WIDE_UNIT.is_multiple_of(STEP)) };
    let blocks = w.cols() / B::LEN;
    assert!(x.cols() == w.cols() && x.n() >= TERNARY_COLS && rows.len().is_multiple_of(TERNARY_MR));
    let scratch = &mut scratch[..ternary_scratch(w.cols())];
    let to = scratch.as_mut_ptr();
    assert!(to.addr().is_multiple_of(64), "scratch is aligned");
    for r in rows.clone().step_by(TERNARY_MR) {
        let (ws, at) = (w.rows_from::<B>(r, TERNARY_MR).as_ptr(), r - rows.start);
        // SAFETY: `isa` is the proof of AVX2 and F16C; as many rows as the panel has, and room for them
        // (above). Less one, bytes are the weights.
        unsafe { gemm_ternary::pack::<B>(ws, blocks, w.scale(), to, TERNARY_MR, 1) };
        isa.vectorize(
            "gemm ternary by tiles",
            #[inline(always)]
            // SAFETY: `isa` is the proof of AVX-512, and what `P` needs by the caller's promise; the
            // panel was packed for rows as wide as the activations.
            || unsafe { ternary_panel::<P>(to, x, at, y) },
        );
    }
}

/// The drivers over tiles in plain Rust: the bits of the truth, on any CPU with AVX-512. That the
/// instructions are these tiles is left to the suites of a CPU that has them.
#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;
    use proptest::test_runner::TestCaseResult;

    use super::super::Avx512;
    use super::super::amx_tiles::model::Model;
    use super::*;
    use crate::activations::ACT_SUM;
    use crate::blocks::expanded::is_expanded;
    use crate::blocks::for_ternary;
    use crate::{
        ActivationKind, Activations, Backend, Format, Scalar, dequantize_row, quantize_row, repack,
        repacked_bytes,
    };

    /// A product whose sizes are of all kinds.
    #[derive(Clone, Debug)]
    struct Product {
        format: Format,
        panels: usize,
        rows_before: usize,
        cols: usize,
        n: usize,
        fine: bool,
        repacked: bool,
        extreme: bool,
        seed: u64,
    }

    fn has_tiles(f: Format) -> bool {
        f.activations() == ActivationKind::Wide || least(f).is_some()
    }

    fn products() -> impl Strategy<Value = Product> {
        let formats: Vec<Format> =
            Format::ALL.into_iter().filter(|&f| f.is_built() && has_tiles(f)).collect();
        let shape = (0..formats.len().max(1), 0..3usize, 0..3usize, 0..40usize, 0..40usize);
        (shape, any::<(bool, bool, bool, u64)>()).prop_filter_map(
            "a format",
            move |((f, panels, rows_before, blocks, more), (fine, repacked, extreme, seed))| {
                let format = *formats.get(f)?;
                let least = if format.activations() == ActivationKind::Wide {
                    TERNARY_COLS
                } else {
                    TILE_COLS
                };
                // Up to 40 blocks of 32, 16 of 128, 9 of 256; more than sixteen groups once in a while.
                let blocks = match format.block_len() {
                    32 => blocks,
                    128 => blocks % 17 * if seed.is_multiple_of(8) { 3 } else { 1 },
                    _ => blocks % 10 * if seed.is_multiple_of(8) { 3 } else { 1 },
                };
                let (cols, n) = (blocks * format.block_len(), least + more);
                let repacked = repacked && repacked_bytes(format, 0, cols).is_some();
                // Of a repacked matrix, panels begin where its groups of rows do.
                let rows_before = if repacked { rows_before * MR } else { rows_before };
                Some(Product {
                    format,
                    panels,
                    rows_before,
                    cols,
                    n,
                    fine,
                    repacked,
                    extreme,
                    seed,
                })
            },
        )
    }

    /// Marsaglia's xorshift64.
    struct Rng(u64);

    impl Rng {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
        }
        /// In -1..1, of many magnitudes.
        fn float(&mut self) -> f32 {
            let x = self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0;
            x * [1.0, 1.0, 0.01, 8.0][self.below(4) as usize]
        }
        fn plane(&mut self, len: usize, extreme: bool) -> Vec<i8> {
            let mut code = || match extreme {
                true => [127, -127, 127, -127, 0][self.below(5) as usize],
                false => (self.below(255) as i32 - 127) as i8,
            };
            (0..len).map(|_| code()).collect()
        }
    }

    fn same(want: &[f32], got: &[f32]) -> TestCaseResult {
        for (i, (want, got)) in want.iter().zip(got).enumerate() {
            let same = want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan();
            prop_assert!(same, "output {i}: {want:e}, not {got:e}");
        }
        Ok(())
    }

    fn equal(avx512: Avx512, p: &Product) -> TestCaseResult {
        if is_expanded(p.format) {
            return Ok(()); // its rows are expanded before they get here
        }
        let (r, wide) = (&mut Rng(p.seed | 1), p.format.activations() == ActivationKind::Wide);
        let mr = if wide { TERNARY_MR } else { MR };
        let rows = p.rows_before + p.panels * mr + 1;
        let row_bytes = p.format.row_bytes(p.cols).unwrap();
        let mut bytes = vec![0; rows * row_bytes];
        for row in bytes.chunks_exact_mut(row_bytes.max(1)) {
            let x: Vec<f32> = (0..p.cols).map(|_| r.float()).collect();
            quantize_row(p.format, &x, row);
            if p.extreme {
                // Any codes; scales stay as they are where that makes numbers of them.
                let before = row.to_vec();
                for b in row.iter_mut() {
                    *b = [0, 0xff, 0x80, 0x7f, r.below(256) as u8][r.below(5) as usize];
                }
                let mut values = vec![0.0; p.cols];
                dequantize_row(p.format, row, &mut values);
                if !values.iter().all(|v| v.is_finite()) {
                    row.copy_from_slice(&before);
                }
            }
        }
        let w = Matrix::new(p.format, rows, p.cols, &bytes).unwrap().with_scale(r.float());
        let mut packed = vec![0; repacked_bytes(p.format, rows, p.cols).unwrap_or(0)];
        let w = if p.repacked {
            repack(&w, &mut packed);
            Matrix::repacked(p.format, rows, p.cols, &packed).unwrap()
        } else {
            w
        };
        let (q, lo) = (r.plane(p.n * p.cols, p.extreme), r.plane(p.n * p.cols, p.extreme));
        let groups = if wide { p.cols.div_ceil(WIDE_BLOCK) } else { p.cols / ACT_BLOCK };
        let d: Vec<f32> = (0..p.n * groups).map(|_| r.float()).collect();
        let code = |i: usize| match p.fine && !wide {
            true => 255 * i32::from(q[i]) + i32::from(lo[i]),
            false => i32::from(q[i]),
        };
        let codes: Vec<i32> = (0..q.len()).map(code).collect();
        let per = if wide { WIDE_BLOCK } else { ACT_SUM };
        let sums = codes.chunks(p.cols.max(1)).flat_map(|row| row.chunks(per));
        let s: Vec<i32> = sums.map(|c| c.iter().sum()).collect();
        let x = if wide {
            Activations::Wide(WideActivations::new(p.n, p.cols, &q, &d, &s))
        } else {
            let x = Q8Activations::new(p.n, p.cols, &q, &d, &s);
            Activations::Q8(if p.fine { x.with_low(&lo) } else { x })
        };
        // Whole panels, not from the first row on, beside a column that isn't theirs.
        let range = p.rows_before..p.rows_before + p.panels * mr;
        let (width, ld) = (range.len(), range.len() + 1);
        let mut want = vec![7.0; p.n * ld];
        Scalar.matmul(&w, &x, range.clone(), &mut Tile::new(&mut want, p.n, width, ld), &mut []);
        let len = match p.format.activations() {
            ActivationKind::Wide => ternary_scratch(p.cols),
            _ => for_drivers!(p.format, B => panel_bytes::<B>(MR, p.cols), dense => 0),
        };
        let mut scratch = vec![0xa5u8; len + 64];
        let at = scratch.as_ptr().align_offset(64);
        let scratch = &mut scratch[at..][..len];
        let mut got = vec![7.0; p.n * ld];
        let mut y = Tile::new(&mut got, p.n, width, ld);
        // SAFETY: the CPU has AVX-512 with VNNI (asked by the test), and the model needs nothing.
        unsafe {
            match &x {
                Activations::Wide(x) => for_ternary!(p.format,
                    B => ternary::<Model, B>(avx512, &w, x, range, &mut y, scratch), others => unreachable!()),
                Activations::Q8(x) => for_drivers!(p.format,
                    B => matmul::<Model, B>(avx512, &w, x, range, &mut y, scratch), dense => unreachable!()),
                Activations::Dense(_) => unreachable!(),
            }
        }
        same(&want, &got)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn drivers_give_the_bits_of_the_truth(p in products()) {
            if let Some(avx512) = Avx512::new() {
                equal(avx512, &p)?;
            }
        }
    }

    #[test]
    fn is_tested() {
        if Avx512::new().is_none() {
            writeln!(std::io::stderr(), "skipped: amx over plain tiles: needs avx512").unwrap();
        }
    }
}
