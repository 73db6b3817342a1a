//! Instruction sets, and the trampoline into code that is compiled for one.
//!
//! Each set has one function with `#[target_feature]`, [`InstructionSet::vectorize`], and it is generic
//! over what it calls. That must be `#[inline(always)]`, closures too, down to the intrinsics: where
//! a link of that chain is a call, the code behind it is compiled without the features.

use super::panel::Gemm;

/// An instruction set of AArch64. A value is the proof that the CPU has it.
pub(super) trait InstructionSet: Copy {
    /// Its products of bytes.
    type Gemm: Gemm;

    /// Calls `f`, which must be `#[inline(always)]`, compiled for this set. Tests hear of the call
    /// by the name `what`.
    fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R;
}
