//! AVX-512 (F, BW, VL, DQ) with VNNI: Ice Lake (2019), Zen 4 (2022) and later.

use core::ops::Range;

use super::detect::detect;
use super::dot::Vnni;
use super::gemv512::Gemv512;
use super::isa::{GemvSet, InstructionSet};
use super::lanes512::Lanes512;
use super::matmul::backend;
use super::simd_reg512::Reg512;
use crate::arch::shared::methods;
use crate::entered::enter;
use crate::{Matrix, Q8Activations, Tile};

/// The backend of AVX-512 with VNNI. A value is the proof that the CPU has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The backend, if the CPU and the operating system support it.
    #[must_use]
    pub fn new() -> Option<Self> {
        detect().avx512.then_some(Avx512(()))
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

impl InstructionSet for Avx512 {
    const NAME: &'static str = "avx512";
    type Lanes = Lanes512;
    type Reg = Reg512<true>;
    type Gemv = Self;

    fn gemv_set(self) -> Self {
        self
    }

    #[inline(always)]
    fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        fn trampoline<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
            enter!(Avx512::NAME, what);
            f()
        }
        // SAFETY: a value of this type exists only where its features were found.
        unsafe { trampoline(what, f) }
    }
}

impl GemvSet for Avx512 {
    type Dot = Vnni;

    #[inline(always)]
    unsafe fn gemv<B: Gemv512>(
        w: &Matrix<'_>,
        x: &Q8Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { B::matmul::<Vnni>(w, x, rows, y) }
    }
}

backend!(Avx512, Lanes512);
