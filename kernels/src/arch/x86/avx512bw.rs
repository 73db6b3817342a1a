//! AVX-512 (F, BW, VL, DQ) without VNNI: Skylake-X (2017).

use super::avx2::Avx2;
use super::lanes512::Lanes512;
use super::simd_reg512::Narrow512;
use super::x86_backend;

x86_backend! {
    /// The proof that this CPU has AVX-512 F, BW, VL and DQ, and the backend that uses them.
    Avx512Bw, "avx512bw", found: avx512bw,
    features: "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq",
    /// The CPU has AVX2, FMA, F16C, AVX-512 F, BW, VL and DQ, and the operating system saves the
    /// mask and the 512-bit registers.
    unchecked;
    lanes: Lanes512, reg: Narrow512, rows: Avx2,
    dense: 4 x 4 or 4 x 1
}
