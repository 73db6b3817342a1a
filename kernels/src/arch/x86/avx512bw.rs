//! AVX-512 (F, BW, VL, DQ) without VNNI: Skylake-X (2017).

use super::avx2::Avx2;
use super::detect::detect;
use super::isa::InstructionSet;
use super::lanes512::Lanes512;
use super::matmul::backend;
use super::simd_reg512::Reg512;
use crate::arch::shared::methods;
use crate::entered::enter;

/// The backend of AVX-512 (F, BW, VL, DQ). A value is the proof that the CPU has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Avx512Bw(Avx2);

impl Avx512Bw {
    /// The backend, if the CPU and the operating system support it.
    #[must_use]
    pub fn new() -> Option<Self> {
        let avx2 = Avx2::new()?;
        detect().avx512bw.then_some(Avx512Bw(avx2))
    }

    /// The backend, unchecked.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA, F16C, AVX-512 F, BW, VL and DQ, and the operating system saves the
    /// mask and the 512-bit registers.
    #[must_use]
    pub unsafe fn new_unchecked() -> Self {
        // SAFETY: the caller's promise.
        Avx512Bw(unsafe { Avx2::new_unchecked() })
    }
}

impl InstructionSet for Avx512Bw {
    const NAME: &'static str = "avx512bw";
    type Lanes = Lanes512;
    type Reg = Reg512<false>;
    /// `vpmaddubsw` of eight rows at a time: as fast as of sixteen.
    type Gemv = Avx2;

    fn gemv_set(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
        fn trampoline<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
            enter!(Avx512Bw::NAME, what);
            f()
        }
        // SAFETY: a value of this type exists only where its features were found.
        unsafe { trampoline(what, f) }
    }
}

backend!(Avx512Bw, Lanes512);
