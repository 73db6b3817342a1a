//! Instruction sets, and the trampoline into code that is compiled for one.
//!
//! A function with `#[target_feature]` can't be inlined into one without, so everything hot has to be
//! compiled inside of such a function. Each set has exactly one, [`InstructionSet::vectorize`], and
//! it is generic over what it calls:
//!
//! ```text
//! matmul (any CPU)                 one dispatch per operation: format, regime
//!   isa.vectorize("gemv", || ..)   #[target_feature(enable = "avx2,fma,f16c")]
//!     gemv256::matmul              #[inline(always)], as is everything below
//!       MicroKernel::outputs
//!         Dot::dot
//!           _mm256_maddubs_epi16   an instruction
//! ```
//!
//! What `vectorize` calls must be `#[inline(always)]`, closures too: where a link of that chain is a
//! call, the code behind it is compiled without the features, and each intrinsic is a call.

use core::ops::Range;

use super::dot::{Dot, TernaryDot};
use super::gemv512::Gemv512;
use super::simd_reg::SimdReg;
use crate::arch::shared::Shared;
use crate::ops::dense::LoadDense;
use crate::{DenseActivations, Matrix, Q8Activations, Tile};

/// Lanes, with the product of a dense matrix.
pub(super) trait DenseLanes: Shared {
    /// The product, in tiles of the size that suits the registers. Part of what is
    /// [vectorized](InstructionSet::vectorize).
    fn dense<B: LoadDense>(
        w: &Matrix<'_>,
        x: &DenseActivations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    );
}

/// An instruction set of x86-64. A value is the proof that the CPU has it.
pub(super) trait InstructionSet: Copy {
    /// The backend's name.
    const NAME: &'static str;
    /// The lanes of all operations but quantised products.
    type Lanes: DenseLanes;
    /// The register of the gemm micro-kernels.
    type Reg: SimdReg;
    /// The set whose gemv drivers are used: this one, or one that it includes.
    type Gemv: GemvSet;

    /// The proof of [`InstructionSet::Gemv`].
    fn gemv_set(self) -> Self::Gemv;

    /// Calls `f`, which must be `#[inline(always)]`, compiled for this set. Tests hear of the call
    /// by the name `what`.
    fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R;
}

/// An instruction set with gemv drivers of its own.
pub(super) trait GemvSet: InstructionSet {
    /// Its dot products.
    type Dot: Dot + TernaryDot;

    /// The gemv of a quantised matrix. Part of what is [vectorized](InstructionSet::vectorize).
    ///
    /// # Safety
    /// The CPU has the set.
    unsafe fn gemv<B: Gemv512>(
        w: &Matrix<'_>,
        x: &Q8Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    );
}
