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
    fn quantized<B: Unpack, const FINE: bool>(
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
        while r + 8 <= rows.end {
            let ws: [&[B]; 8] = core::array::from_fn(|i| w.row::<B>(r + i));
            Self::unpack(&ws, panel);
            let mut t = 0;
            while t + NR <= x.n() {
                let out = Self::tile::<B, NR, FINE>(panel, x, t);
                for (i, out) in out.iter().enumerate() {
                    y.row(t + i)[r - rows.start..][..8].copy_from_slice(out);
                }
                t += NR;
            }
            for t in t..x.n() {
                let out = Self::tile::<B, 1, FINE>(panel, x, t);
                y.row(t)[r - rows.start..][..8].copy_from_slice(&out[0]);
            }
            r += 8;
        }
        let mut rest = y.cols(r - rows.start, rows.end - r);
        // SAFETY: compiled for AVX2 and F16C.
        unsafe { rows8::matmul::<Maddubs, B>(w, x, r..rows.end, &mut rest) };
    }

    /// Unpacks eight rows: signed codes, or unsigned nibbles.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn unpack<B: Unpack>(w: &[&[B]; 8], panel: &mut [Panel]) {
        for (b, p) in panel.iter_mut().enumerate() {
            // SAFETY: compiled for AVX2 and F16C; the stores fill the panel's arrays.
            unsafe {
                let mut codes = [_mm256_setzero_si256(); 8];
                for (c, w) in codes.iter_mut().zip(w) {
                    *c = w[b].bytes();
                    if !B::NIBBLES {
                        *c = _mm256_xor_si256(*c, _mm256_set1_epi8(-128));
                    }
                }
                for (to, c) in p.codes.iter_mut().zip(transpose8(codes)) {
                    _mm256_store_si256(to.as_mut_ptr().cast(), c);
                }
                let scales = scales8(core::array::from_fn(|r| &w[r][b]));
                _mm256_store_ps(p.scales.as_mut_ptr(), scales);
            }
        }
    }

    /// The integer products of a block of eight rows with block `b` of `N` rows of codes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn products<B: Unpack, const N: usize>(
        p: &Panel,
        qs: &[&[[i8; 4]]; N],
        b: usize,
    ) -> [__m256i; N] {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); N];
        for (g, codes) in p.codes.iter().enumerate() {
            // SAFETY: 32 aligned bytes (the panel's alignment).
            let w = unsafe { _mm256_load_si256(codes.as_ptr().cast()) };
            let abs = _mm256_abs_epi8(w);
            for n in 0..N {
                let xq = _mm256_set1_epi32(i32::from_le_bytes(qs[n][b * 8 + g].map(|q| q as u8)));
                if B::NIBBLES {
                    // Eight sums of at most 2 * 15 * 127 stay within 16 bits.
                    sums[n] = _mm256_add_epi16(sums[n], _mm256_maddubs_epi16(w, xq));
                } else {
                    let pairs = _mm256_maddubs_epi16(abs, _mm256_sign_epi8(xq, w));
                    sums[n] = _mm256_add_epi32(sums[n], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        if B::NIBBLES { sums.map(|s| _mm256_madd_epi16(s, ones)) } else { sums }
    }

    /// The outputs of eight rows for `N` rows of activations.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn tile<B: Unpack, const N: usize, const FINE: bool>(
        panel: &[Panel],
        x: &Q8Acts<'_>,
        t: usize,
    ) -> [[f32; 8]; N] {
        let xs: [_; N] = core::array::from_fn(|n| x.row(t + n));
        let qs = xs.map(|x| x.q.as_chunks::<4>().0);
        let los = xs.map(|x| x.lo.unwrap_or(x.q).as_chunks::<4>().0); // read with FINE only
        assert!(FINE == x.is_fine());
        assert!(qs.iter().chain(&los).all(|q| q.len() == panel.len() * 8));
        assert!(xs.iter().all(|x| x.d.len() == panel.len() && x.s.len() == panel.len()));
        let mut acc = [_mm256_setzero_ps(); N];
        for (b, p) in panel.iter().enumerate() {
            let mut sums = Self::products::<B, N>(p, &qs, b);
            if FINE {
                let lower = Self::products::<B, N>(p, &los, b);
                for (sums, lower) in sums.iter_mut().zip(lower) {
                    let upper = _mm256_sub_epi32(_mm256_slli_epi32::<8>(*sums), *sums); // times 255
                    *sums = _mm256_add_epi32(upper, lower);
                }
            }
            // SAFETY: eight aligned floats.
            let d = unsafe { _mm256_load_ps(p.scales.as_ptr()) };
            for n in 0..N {
                let mut s = sums[n];
                if B::NIBBLES {
                    s = _mm256_sub_epi32(s, _mm256_set1_epi32(xs[n].s[b] << B::BIAS_SHIFT));
                }
                let d = _mm256_mul_ps(d, _mm256_set1_ps(xs[n].d[b]));
                acc[n] = _mm256_add_ps(acc[n], _mm256_mul_ps(d, _mm256_cvtepi32_ps(s)));
            }
        }
        acc.map(|a| {
            let mut out = [0.0; 8];
            // SAFETY: eight floats behind out.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), a) };
            out
        })
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
                (Format::Q8_0, Acts::Q8(x)) if x.is_fine() => {
                    Self::quantized::<Q8_0, true>(w, x, rows, y, scratch);
                }
                (Format::Q8_0, Acts::Q8(x)) => {
                    Self::quantized::<Q8_0, false>(w, x, rows, y, scratch);
                }
                (Format::Q4_0, Acts::Q8(x)) if x.is_fine() => {
                    Self::quantized::<Q4_0, true>(w, x, rows, y, scratch);
                }
                (Format::Q4_0, Acts::Q8(x)) => {
                    Self::quantized::<Q4_0, false>(w, x, rows, y, scratch);
                }
                (_, Acts::Dense(x)) => Self::dense(w, x, rows, y),
                _ => unreachable!("checked by check_matmul"),
            }
        }
    }

    shared_operations!("avx2,fma,f16c", Lanes256, 1);
}
