//! AMX with products of bytes, beside AVX-512 with VNNI: Sapphire Rapids (2023) and later.
//!
//! Tiles multiply panels of many columns where they are faster; everything else is AVX-512's.

use core::ops::Range;

use super::amx_gemm::{self, TERNARY_COLS};
use super::amx_tiles::{self, Tmul};
use super::avx512::Avx512;
use super::detect;
use super::lanes512::Lanes512;
use crate::arch::shared::{methods, operations};
use crate::backend::check_matmul;
use crate::blocks::expanded::{self, for_drivers};
use crate::blocks::for_ternary;
use crate::{ActivationKind, Activations, Backend, Format, Matrix, Tile};

/// Backend that uses AMX-INT8, beside AVX-512 with VNNI. A value proves that the CPU has them and
/// that this process may use the tiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amx(Avx512);

impl Amx {
    /// The backend, where the CPU and the operating system have what it needs. The first call asks
    /// Linux to let this process use tiles; other systems are not asked, and have no such backend.
    #[must_use]
    pub fn new() -> Option<Self> {
        let avx512 = Avx512::new()?;
        (detect::detect().amx && amx_tiles::permitted()).then_some(Amx(avx512))
    }

    /// The backend, unchecked.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA, F16C, AVX-512 F, BW, VL, DQ and VNNI, AMX-TILE and AMX-INT8; the
    /// operating system saves the mask and the 512-bit registers and the tiles, and lets this process
    /// use them.
    #[must_use]
    pub unsafe fn new_unchecked() -> Self {
        // SAFETY: the caller's promise.
        Amx(unsafe { Avx512::new_unchecked() })
    }

    /// Products of tiles from registers for so many rounds, for `roofline`: how many operations
    /// that were.
    #[cfg(feature = "roofline")]
    pub(crate) fn rounds(&self, rounds: u64) -> u64 {
        use super::amx_tiles::{STEP, TileDot};

        // SAFETY: a value of this type exists only where tiles may be used.
        let tiles = unsafe { Tmul::configure(STEP) };
        tiles.rounds(rounds);
        rounds * 2 * (6 * amx_tiles::TILE * STEP) as u64
    }
}

impl Backend for Amx {
    fn name(&self) -> &'static str {
        "amx"
    }

    fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize {
        let own = match format.activations() {
            ActivationKind::Wide if batch >= TERNARY_COLS => amx_gemm::ternary_scratch(cols),
            // Panels as large as those of AVX-512.
            _ => 0,
        };
        own.max(self.0.matmul_scratch(format, cols, batch))
    }

    fn products_per_ms(&self) -> usize {
        self.0.products_per_ms()
    }

    fn repacks(&self, format: Format) -> bool {
        self.0.repacks(format)
    }

    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        check_matmul(w, x, &rows, y);
        if w.is_to_expand() {
            return expanded::matmul(w, rows, y, scratch, |w, rows, y, scratch| {
                self.matmul(w, x, rows, y, scratch);
            });
        }
        let mr = match x {
            // Of a repacked matrix, panels begin where its groups of rows do.
            Activations::Q8(_) if w.is_repacked() && !rows.start.is_multiple_of(amx_gemm::MR) => {
                return self.0.matmul(w, x, rows, y, scratch);
            }
            Activations::Q8(x) if amx_gemm::least(w.format()).is_some_and(|n| x.n() >= n) => {
                amx_gemm::MR
            }
            Activations::Wide(x) if x.n() >= TERNARY_COLS => amx_gemm::TERNARY_MR,
            _ => return self.0.matmul(w, x, rows, y, scratch),
        };
        let whole = rows.len() / mr * mr;
        let cut = rows.start + whole;
        let (panels, mut part) = (rows.start..cut, y.cols(0, whole));
        // SAFETY: a value of this type exists only where all of it was found.
        unsafe {
            match x {
                Activations::Q8(x) => for_drivers!(w.format(),
                    B => amx_gemm::matmul::<Tmul, B>(self.0, w, x, panels, &mut part, scratch),
                    dense => unreachable!("checked by check_matmul")),
                Activations::Wide(x) => for_ternary!(w.format(),
                    B => amx_gemm::ternary::<Tmul, B>(self.0, w, x, panels, &mut part, scratch),
                    others => unreachable!("checked by check_matmul")),
                Activations::Dense(_) => unreachable!("AVX-512's, above"),
            }
        }
        let mut rest = y.cols(whole, rows.end - cut);
        self.0.matmul(w, x, cut..rows.end, &mut rest, scratch);
    }

    operations!(methods![Lanes512]);
}
