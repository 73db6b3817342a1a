//! AVX2 with FMA and F16C: Haswell (2013), Zen (2017) and later.

use super::dot::Maddubs;
use super::lanes256::Lanes256;
use super::simd_pair::SimdPair;
use super::simd_reg256::Narrow256;
use super::x86_backend;

x86_backend! {
    /// The proof that this CPU has AVX2, FMA and F16C, and the backend that uses them.
    Avx2, "avx2", found: avx2, features: "avx2,fma,f16c",
    /// The CPU has AVX2, FMA and F16C, and the operating system saves the 256-bit registers.
    unchecked;
    lanes: Lanes256, reg: SimdPair<Narrow256>, dot: Maddubs, few: gemv256, rows: Avx2,
    dense: 2 x 3 or 4 x 1
}
