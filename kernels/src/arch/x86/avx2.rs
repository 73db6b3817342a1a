//! AVX2 with FMA and F16C: Haswell (2013), Zen (2017) and later.

use core::arch::x86_64::*;
use core::ops::Range;

use super::lanes256::Lanes256;
use super::rows8;
use super::unpack::{Products, Unpack, scales8, transpose8};
use super::{detect, shared_operations};
use crate::acts::ACT_BLOCK;
use crate::backend::check_matmul;
use crate::blocks::{Bf16, F16, F32, Q4_0, Q8_0};
use crate::ops::dense;
use crate::{Acts, Backend, DenseActs, Format, KvHead, KvLayout, Matrix, Q8Acts, Q8RowMut, Tile};

/// The proof that this CPU has AVX2, FMA and F16C, and the backend that uses them.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The backend, where the CPU and the operating system have what it needs.
    #[must_use]
    pub fn new() -> Option<Self> {
        detect::detect().avx2.then_some(Avx2(()))
    }

    /// The backend, unchecked.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C, and the operating system saves the 256-bit registers.
    #[must_use]
    pub unsafe fn new_unchecked() -> Self {
        Avx2(())
    }
}

/// Products of bytes by `vpmaddubsw`, which multiplies unsigned by signed bytes and saturates
/// sums of two products at 16 bits.
struct Maddubs;

impl Products for Maddubs {
    const BIASED: bool = false;

    #[inline(always)]
    unsafe fn bytes(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            // |w| times x with w's sign: at most 2 * 128 * 127, which 16 bits hold.
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn nibbles(acc: __m256i, w0: __m256i, x0: __m256i, w1: __m256i, x1: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            // At most 4 * 15 * 127.
            let pairs =
                _mm256_add_epi16(_mm256_maddubs_epi16(w0, x0), _mm256_maddubs_epi16(w1, x1));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

/// Rows of a panel: lanes of a register.
const MR: usize = 8;
/// Columns of a tile of the panel driver.
const NR: usize = 4;
/// Columns from which unpacking a panel pays.
const PANEL_COLS: usize = 4;

/// One block of eight rows, unpacked: four codes of each row side by side, for eight groups of
/// four; and the rows' scales.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Panel {
    codes: [[u8; 32]; 8],
    scales: [f32; 8],
}

const _: () = assert!(size_of::<Panel>() == 8 * 32 + 32);

// SAFETY: plain numbers, without padding (asserted above).
unsafe impl bytemuck::Zeroable for Panel {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Panel {}

impl Avx2 {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn dense(w: &Matrix<'_>, x: &DenseActs<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
        match w.format() {
            Format::F32 => dense::matmul::<Lanes256, F32, 2, 3, 4>(w, x, rows, y),
            Format::F16 => dense::matmul::<Lanes256, F16, 2, 3, 4>(w, x, rows, y),
            Format::BF16 => dense::matmul::<Lanes256, Bf16, 2, 3, 4>(w, x, rows, y),
            _ => unreachable!("checked by check_matmul"),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn quantized<B: Unpack>(
        w: &Matrix<'_>,
        x: &Q8Acts<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        if x.is_fine() {
            Self::panels::<B, true>(w, x, rows, y, scratch);
        } else {
            Self::panels::<B, false>(w, x, rows, y, scratch);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn panels<B: Unpack, const FINE: bool>(
        w: &Matrix<'_>,
        x: &Q8Acts<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        if x.n() < PANEL_COLS {
            // SAFETY: compiled for AVX2 and F16C.
            unsafe { rows8::matmul::<Maddubs, B>(w, x, rows, y) };
            return;
        }
        let panel: &mut [Panel] =
            bytemuck::cast_slice_mut(&mut scratch[..w.cols() / ACT_BLOCK * size_of::<Panel>()]);
        let mut r = rows.start;
        while r + MR <= rows.end {
            Self::unpack(w.rows_from::<B>(r, MR), panel);
            let (n, at) = (x.n(), r - rows.start);
            let mut t = 0;
            while t + NR <= n {
                Self::tile::<B, NR, FINE>(panel, x, t, at, y);
                t += NR;
            }
            if t + 2 <= n {
                Self::tile::<B, 2, FINE>(panel, x, t, at, y);
                t += 2;
            }
            if t < n {
                Self::tile::<B, 1, FINE>(panel, x, t, at, y);
            }
            r += MR;
        }
        let mut rest = y.cols(r - rows.start, rows.end - r);
        // SAFETY: compiled for AVX2 and F16C.
        unsafe { rows8::matmul::<Maddubs, B>(w, x, r..rows.end, &mut rest) };
    }

    /// Unpacks eight rows, which lie one after another: signed codes, or unsigned nibbles.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn unpack<B: Unpack>(w: &[B], panel: &mut [Panel]) {
        let (first, blocks) = (w.as_ptr(), panel.len());
        assert!(w.len() == MR * blocks);
        for (b, p) in panel.iter_mut().enumerate() {
            // SAFETY: compiled for AVX2 and F16C; eight rows of as many blocks (above); the stores
            // fill the panel's arrays; a prefetch may go anywhere.
            unsafe {
                let w: [&B; MR] = core::array::from_fn(|r| &*first.add(r * blocks + b));
                let mut codes = [_mm256_setzero_si256(); MR];
                for (c, w) in codes.iter_mut().zip(w) {
                    *c = w.bytes();
                    if !B::NIBBLES {
                        *c = _mm256_xor_si256(*c, _mm256_set1_epi8(-128));
                    }
                    // The same place of the panel after the next one.
                    let ahead = (&raw const *w).wrapping_add(2 * MR * blocks);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
                for (to, c) in p.codes.iter_mut().zip(transpose8(codes)) {
                    _mm256_store_si256(to.as_mut_ptr().cast(), c);
                }
                _mm256_store_ps(p.scales.as_mut_ptr(), scales8(w));
            }
        }
    }

    /// The integer products of a block of eight rows with block `b` of `N` rows of codes, `cols`
    /// of them from one row to the next.
    ///
    /// # Safety
    /// `N` rows of `cols` codes lie at `q`, and have a block `b`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn products<B: Unpack, const N: usize>(
        p: &Panel,
        q: *const i8,
        cols: usize,
        b: usize,
    ) -> [__m256i; N] {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); N];
        for (g, codes) in p.codes.iter().enumerate() {
            // SAFETY: 32 aligned bytes (the panel's alignment).
            let w = unsafe { _mm256_load_si256(codes.as_ptr().cast()) };
            let abs = _mm256_abs_epi8(w);
            for (n, sums) in sums.iter_mut().enumerate() {
                // SAFETY: four of the 32 codes of block b, by the caller's promise.
                let q = unsafe {
                    q.add(n * cols + b * ACT_BLOCK + g * 4).cast::<i32>().read_unaligned()
                };
                let q = _mm256_set1_epi32(q);
                *sums = if B::NIBBLES {
                    // Eight sums of at most 2 * 15 * 127 stay within 16 bits.
                    _mm256_add_epi16(*sums, _mm256_maddubs_epi16(w, q))
                } else {
                    let pairs = _mm256_maddubs_epi16(abs, _mm256_sign_epi8(q, w));
                    _mm256_add_epi32(*sums, _mm256_madd_epi16(pairs, ones))
                };
            }
        }
        if B::NIBBLES {
            for sums in &mut sums {
                *sums = _mm256_madd_epi16(*sums, ones);
            }
        }
        sums
    }

    /// The outputs of eight rows for `N` rows of activations.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn tile<B: Unpack, const N: usize, const FINE: bool>(
        panel: &[Panel],
        x: &Q8Acts<'_>,
        t: usize,
        at: usize,
        y: &mut Tile<'_>,
    ) {
        // Checked here, so that the loops need no checks: N whole rows of as many blocks as the
        // panel has.
        let (blocks, cols) = (panel.len(), panel.len() * ACT_BLOCK);
        assert!(x.cols() == cols && FINE == x.is_fine());
        let x = x.rows_from(t, N);
        let (q, d, s) = (x.q.as_ptr(), x.d.as_ptr(), x.s.as_ptr());
        let lo = x.lo.map_or(q, <[i8]>::as_ptr); // read with FINE only
        let mut acc = [_mm256_setzero_ps(); N];
        for (b, p) in panel.iter().enumerate() {
            // SAFETY: the rows of codes are N rows (above), and have this block.
            let mut sums: [__m256i; N] = unsafe { Self::products::<B, N>(p, q, cols, b) };
            if FINE {
                // SAFETY: as above.
                let lower: [__m256i; N] = unsafe { Self::products::<B, N>(p, lo, cols, b) };
                for (sums, lower) in sums.iter_mut().zip(lower) {
                    let upper = _mm256_sub_epi32(_mm256_slli_epi32::<8>(*sums), *sums); // times 255
                    *sums = _mm256_add_epi32(upper, lower);
                }
            }
            // SAFETY: eight aligned floats.
            let dw = unsafe { _mm256_load_ps(p.scales.as_ptr()) };
            for n in 0..N {
                // SAFETY: block b of row t + n.
                let (dx, s) = unsafe { (*d.add(n * blocks + b), *s.add(n * blocks + b)) };
                let mut sum = sums[n];
                if B::NIBBLES {
                    sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(s << B::BIAS_SHIFT));
                }
                let d = _mm256_mul_ps(dw, _mm256_set1_ps(dx));
                acc[n] = _mm256_add_ps(acc[n], _mm256_mul_ps(d, _mm256_cvtepi32_ps(sum)));
            }
        }
        for (n, a) in acc.into_iter().enumerate() {
            let to = &mut y.row(t + n)[at..][..MR];
            // SAFETY: eight floats behind `to`.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), a) };
        }
    }
}

impl Backend for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize {
        if format.is_quantized() && batch >= PANEL_COLS {
            cols / ACT_BLOCK * size_of::<Panel>()
        } else {
            0
        }
    }

    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Acts<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        check_matmul(w, x, &rows, y);
        // SAFETY: a value of this type exists only where its features were found.
        unsafe {
            match (w.format(), x) {
                (Format::Q8_0, Acts::Q8(x)) => Self::quantized::<Q8_0>(w, x, rows, y, scratch),
                (Format::Q4_0, Acts::Q8(x)) => Self::quantized::<Q4_0>(w, x, rows, y, scratch),
                (_, Acts::Dense(x)) => Self::dense(w, x, rows, y),
                _ => unreachable!("checked by check_matmul"),
            }
        }
    }

    shared_operations!("avx2,fma,f16c", Lanes256, 1);
}
