//! AVX2 with AVX-VNNI: Alder Lake (2021), Zen 5 (2024) and later.

use core::ops::Range;

use super::detect::detect;
use super::dot::AvxVnniDot;
use super::gemv256;
use super::gemv512::Gemv512;
use super::isa::{GemvSet, InstructionSet};
use super::lanes256::Lanes256;
use super::matmul::backend;
use super::simd_reg256::Reg256;
use crate::arch::shared::methods;
use crate::entered::enter;
use crate::{Matrix, Q8Activations, Tile};

/// The backend of AVX-VNNI beside AVX2, FMA and F16C. A value is the proof that the CPU has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AvxVnni(());

impl AvxVnni {
    /// The backend, if the CPU and the operating system support it.
    #[must_use]
    pub fn new() -> Option<Self> {
        detect().avxvnni.then_some(AvxVnni(()))
    }

    /// The backend, unchecked.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA, F16C and AVX-VNNI, and the operating system saves the 256-bit
    /// registers.
    #[must_use]
    pub unsafe fn new_unchecked() -> Self {
        AvxVnni(())
    }
}

impl InstructionSet for AvxVnni {
    const NAME: &'static str = "avxvnni";
    type Lanes = Lanes256;
    type Reg = Reg256<true>;
    type Gemv = Self;

    fn gemv_set(self) -> Self {
        self
    }

    #[inline(always)]
    fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn trampoline<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
            enter!(AvxVnni::NAME, what);
            f()
        }
        // SAFETY: a value of this type exists only where its features were found.
        unsafe { trampoline(what, f) }
    }
}

impl GemvSet for AvxVnni {
    type Dot = AvxVnniDot;

    #[inline(always)]
    unsafe fn gemv<B: Gemv512>(
        w: &Matrix<'_>,
        x: &Q8Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { gemv256::matmul::<AvxVnniDot, B>(w, x, rows, y) }
    }
}

backend!(AvxVnni, Lanes256);
