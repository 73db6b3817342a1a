//! AVX-512 (F, BW, VL, DQ) with VNNI: Ice Lake (2019), Zen 4 (2022) and later.

use super::dot::Vnni;
use super::lanes512::Lanes512;
use super::simd_reg512::Vnni512;
use super::x86_backend;

x86_backend! {
    /// The proof that this CPU has AVX-512 with VNNI, and the backend that uses them.
    Avx512, "avx512", found: avx512,
    features: "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    /// The CPU has AVX2, FMA, F16C, AVX-512 F, BW, VL, DQ and VNNI, and the operating system saves
    /// the mask and the 512-bit registers.
    unchecked;
    lanes: Lanes512, reg: Vnni512, dot: Vnni, few: gemv512, rows: Avx512,
    dense: 4 x 4 or 4 x 1
}
