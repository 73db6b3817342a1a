//! AVX2 with AVX-VNNI: Alder Lake (2021), Zen 5 (2024) and later.

use super::dot::AvxVnniDot;
use super::lanes256::Lanes256;
use super::simd_reg256::AvxVnni256;
use super::x86_backend;

x86_backend! {
    /// The proof that this CPU has AVX-VNNI beside AVX2, FMA and F16C, and the backend that uses
    /// them.
    AvxVnni, "avxvnni", found: avxvnni, features: "avx2,fma,f16c,avxvnni",
    /// The CPU has AVX2, FMA, F16C and AVX-VNNI, and the operating system saves the 256-bit
    /// registers.
    unchecked;
    lanes: Lanes256, reg: AvxVnni256, dot: AvxVnniDot, few: gemv256, rows: AvxVnni,
    dense: 2 x 3 or 4 x 1
}
