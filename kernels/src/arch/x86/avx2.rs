//! AVX2 with FMA and F16C: Haswell (2013), Zen (2017) and later.

use core::ops::Range;

use super::detect::detect;
use super::dot::Maddubs;
use super::gemv256;
use super::gemv512::Gemv512;
use super::isa::{GemvSet, InstructionSet};
use super::lanes256::Lanes256;
use super::matmul::backend;
use super::simd_pair::SimdPair;
use super::simd_reg256::Reg256;
use crate::arch::shared::methods;
use crate::entered::enter;
use crate::{Matrix, Q8Activations, Tile};

/// The backend of AVX2, FMA and F16C. A value is the proof that the CPU has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The backend, if the CPU and the operating system support it.
    #[must_use]
    pub fn new() -> Option<Self> {
        detect().avx2.then_some(Avx2(()))
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

impl InstructionSet for Avx2 {
    const NAME: &'static str = "avx2";
    type Lanes = Lanes256;
    type Reg = SimdPair<Reg256<false>>;
    type Gemv = Self;

    fn gemv_set(self) -> Self {
        self
    }

    #[inline(always)]
    fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn trampoline<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
            enter!(Avx2::NAME, what);
            f()
        }
        // SAFETY: a value of this type exists only where its features were found.
        unsafe { trampoline(what, f) }
    }
}

impl GemvSet for Avx2 {
    type Dot = Maddubs;

    #[inline(always)]
    unsafe fn gemv<B: Gemv512>(
        w: &Matrix<'_>,
        x: &Q8Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { gemv256::matmul::<Maddubs, B>(w, x, rows, y) }
    }
}

backend!(Avx2, Lanes256);
