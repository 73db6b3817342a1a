//! AVX-512 (F, BW, VL, DQ) with VNNI: Ice Lake (2019), Zen 4 (2022) and later.

use core::arch::x86_64::*;
use core::ops::Range;

use super::lanes512::Lanes512;
use super::rows8;
use super::unpack::{Products, Unpack, scales8, transpose8};
use super::{detect, shared_operations};
use crate::acts::ACT_BLOCK;
use crate::backend::check_matmul;
use crate::blocks::{Bf16, F16, F32, Q4_0, Q8_0};
use crate::ops::dense;
use crate::{Acts, Backend, DenseActs, Format, KvHead, KvLayout, Matrix, Q8Acts, Q8RowMut, Tile};

/// The proof that this CPU has AVX-512 with VNNI, and the backend that uses them.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The backend, where the CPU and the operating system have what it needs.
    #[must_use]
    pub fn new() -> Option<Self> {
        detect::detect().avx512.then_some(Avx512(()))
    }

    /// The backend, unchecked.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA, F16C, AVX-512 F, BW, VL, DQ and VNNI, and the operating system saves
    /// the mask and the 512-bit registers.
    #[must_use]
    pub unsafe fn new_unchecked() -> Self {
        Avx512(())
    }
}

/// Products of unsigned by signed bytes by `vpdpbusd`, four to a lane, without saturation.
struct Vnni;

impl Products for Vnni {
    const BIASED: bool = true;

    #[inline(always)]
    unsafe fn bytes(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: AVX-512 VL and VNNI by the caller.
        unsafe { _mm256_dpbusd_epi32(acc, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), x) }
    }

    #[inline(always)]
    unsafe fn nibbles(acc: __m256i, w0: __m256i, x0: __m256i, w1: __m256i, x1: __m256i) -> __m256i {
        // SAFETY: AVX-512 VL and VNNI by the caller.
        unsafe { _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(acc, w0, x0), w1, x1) }
    }
}

/// Rows of a panel: lanes of a register.
const MR: usize = 16;
/// Columns of a tile of the panel driver.
const NR: usize = 8;
/// Columns from which unpacking a panel pays.
const PANEL_COLS: usize = 4;

/// One block of sixteen rows, unpacked: four unsigned bytes of each row side by side, for eight
/// groups of four; and the rows' scales.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Panel {
    bytes: [[[u8; 32]; 2]; 8],
    scales: [[f32; 8]; 2],
}

const _: () = assert!(size_of::<Panel>() == 8 * 64 + 64);

// SAFETY: plain numbers, without padding (asserted above).
unsafe impl bytemuck::Zeroable for Panel {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Panel {}

impl Avx512 {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn dense(w: &Matrix<'_>, x: &DenseActs<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
        match w.format() {
            Format::F32 => dense::matmul::<Lanes512, F32, 4, 4, 4>(w, x, rows, y),
            Format::F16 => dense::matmul::<Lanes512, F16, 4, 4, 4>(w, x, rows, y),
            Format::BF16 => dense::matmul::<Lanes512, Bf16, 4, 4, 4>(w, x, rows, y),
            _ => unreachable!("checked by check_matmul"),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn panels<B: Unpack, const FINE: bool>(
        w: &Matrix<'_>,
        x: &Q8Acts<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        if x.n() < PANEL_COLS {
            // SAFETY: compiled for AVX2, F16C and VNNI.
            unsafe { rows8::matmul::<Vnni, B>(w, x, rows, y) };
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
            if t + 4 <= n {
                Self::tile::<B, 4, FINE>(panel, x, t, at, y);
                t += 4;
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
        // SAFETY: compiled for AVX2, F16C and VNNI.
        unsafe { rows8::matmul::<Vnni, B>(w, x, r..rows.end, &mut rest) };
    }

    /// Unpacks sixteen rows, which lie one after another.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn unpack<B: Unpack>(w: &[B], panel: &mut [Panel]) {
        let (first, blocks) = (w.as_ptr(), panel.len());
        assert!(w.len() == MR * blocks);
        for half in 0..2 {
            for (b, p) in panel.iter_mut().enumerate() {
                // SAFETY: compiled for AVX2 and F16C; sixteen rows of as many blocks (above); the
                // stores fill the panel's arrays; a prefetch may go anywhere.
                unsafe {
                    let block = |r| &*first.add((half * 8 + r) * blocks + b);
                    let w: [&B; 8] = core::array::from_fn(block);
                    let mut bytes = [_mm256_setzero_si256(); 8];
                    for (c, w) in bytes.iter_mut().zip(w) {
                        *c = w.bytes();
                        // The same place of the next panel, which is wanted when this one is done
                        // (32 columns, weights from memory: 1.4 times as fast as without).
                        _mm_prefetch::<_MM_HINT_T1>(
                            (&raw const *w).wrapping_add(MR * blocks).cast(),
                        );
                    }
                    for (to, c) in p.bytes.iter_mut().zip(transpose8(bytes)) {
                        _mm256_store_si256(to[half].as_mut_ptr().cast(), c);
                    }
                    _mm256_store_ps(p.scales[half].as_mut_ptr(), scales8(w));
                }
            }
        }
    }

    /// Adds the products of a block of sixteen rows with block `b` of `N` rows of codes, `cols`
    /// of them from one row to the next.
    ///
    /// # Safety
    /// `N` rows of `cols` codes lie at `q`, and have a block `b`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn products<const N: usize>(
        p: &Panel,
        sums: &mut [__m512i; N],
        q: *const i8,
        cols: usize,
        b: usize,
    ) {
        for (g, bytes) in p.bytes.iter().enumerate() {
            // SAFETY: 64 aligned bytes (the panel's alignment).
            let w = unsafe { _mm512_load_si512(bytes.as_ptr().cast()) };
            for (n, sums) in sums.iter_mut().enumerate() {
                // SAFETY: four of the 32 codes of block b, by the caller's promise.
                let q = unsafe {
                    q.add(n * cols + b * ACT_BLOCK + g * 4).cast::<i32>().read_unaligned()
                };
                *sums = _mm512_dpbusd_epi32(*sums, w, _mm512_set1_epi32(q));
            }
        }
    }

    /// The outputs of sixteen rows for `N` rows of activations.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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
        let mut acc = [_mm512_setzero_ps(); N];
        for (b, p) in panel.iter().enumerate() {
            let mut sums = [_mm512_setzero_si512(); N];
            if FINE {
                // SAFETY: the codes are N rows (above), and have this block.
                unsafe { Self::products(p, &mut sums, q, cols, b) };
                for sums in &mut sums {
                    *sums = _mm512_sub_epi32(_mm512_slli_epi32::<8>(*sums), *sums); // times 255
                }
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                // SAFETY: block b of row t + n.
                let s = unsafe { *s.add(n * blocks + b) };
                // The bytes are too large by the bias: take off what that adds.
                *sums = _mm512_sub_epi32(*sums, _mm512_set1_epi32(s << B::BIAS_SHIFT));
            }
            // SAFETY: as above.
            unsafe { Self::products(p, &mut sums, lo, cols, b) };
            // SAFETY: sixteen aligned floats.
            let dw = unsafe { _mm512_load_ps(p.scales.as_ptr().cast()) };
            for n in 0..N {
                // SAFETY: block b of row t + n.
                let dx = unsafe { *d.add(n * blocks + b) };
                let d = _mm512_mul_ps(dw, _mm512_set1_ps(dx));
                acc[n] = _mm512_add_ps(acc[n], _mm512_mul_ps(d, _mm512_cvtepi32_ps(sums[n])));
            }
        }
        for (n, a) in acc.into_iter().enumerate() {
            let to = &mut y.row(t + n)[at..][..MR];
            // SAFETY: sixteen floats behind `to`.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), a) };
        }
    }
}

impl Backend for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
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

    shared_operations!("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", Lanes512, 4);
}
