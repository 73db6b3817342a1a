//! wasm32 with simd128, which is decided when a module is built: an engine without it refuses the
//! module, so that all of this is compiled where it can run, and nowhere else.

mod lanes;
mod simd128;
mod ternary;
mod unpack;
mod unpack_expanded;
mod unpack_ternary;

use lanes::Lanes128;
pub use simd128::Simd128;

// What is unsafe elsewhere, a call of a function that needs the instructions, is safe on wasm.
#[allow(unused_unsafe)]
mod operations {
    use crate::arch::shared::{implement, operations};

    operations!(implement![super::Lanes128, "simd128"]);
}
