//! AArch64, little-endian, with NEON.

use super::shared::{implement, operations};

mod detect;
mod dotprod;
mod gemm;
mod gemm_ternary;
mod gemv;
mod gemv_ternary;
mod i8mm;
mod isa;
mod lanes;
mod matmul;
mod neon;
mod panel;
mod unpack;
mod unpack_expanded;
mod unpack_ternary;

pub use dotprod::Dotprod;
pub use i8mm::I8mm;
use lanes::Lanes128;
pub use neon::Neon;

operations!(implement![Lanes128, "neon"]);
