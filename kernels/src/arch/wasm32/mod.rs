//! wasm32 with simd128, which is decided when a module is built: an engine without it refuses the
//! module, so that all of this is compiled where it can run, and nowhere else.

mod lanes;
mod simd128;
mod unpack;

use super::shared::{implement, operations};
use lanes::Lanes128;
pub use simd128::Simd128;

operations!(implement![Lanes128, "simd128", 1]);
