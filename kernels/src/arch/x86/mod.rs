//! x86-64.

mod amx;
mod amx_gemm;
mod amx_tiles;
mod avx2;
mod avx512;
mod avx512bw;
mod avxvnni;
mod detect;
mod dot;
mod gemm;
mod gemm_interleaved;
mod gemm_ternary;
mod gemv;
mod gemv256;
mod gemv512;
mod gemv_interleaved;
mod gemv_ternary;
mod isa;
mod lanes256;
mod lanes512;
mod matmul;
mod pack;
mod panel;
mod shuffle256;
mod shuffle512;
mod simd_pair;
mod simd_reg;
mod simd_reg256;
mod simd_reg512;
mod unpack;
mod unpack16;
mod unpack16_k;
mod unpack_expanded;
mod unpack_interleaved;
mod unpack_k;
mod unpack_ternary;

pub use amx::Amx;
pub use avx2::Avx2;
pub use avx512::Avx512;
pub use avx512bw::Avx512Bw;
pub use avxvnni::AvxVnni;

use super::shared::{implement, operations};

operations!(implement![lanes256::Lanes256, "avx2,fma,f16c"]);
operations!(implement![lanes512::Lanes512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"]);
