#![no_std]
//! Quantised transformer kernels, `core` only, the same bits on every instruction set.
//!
//! - [`blocks`]: storage formats, one file each, with their scalar truth.
//! - [`Matrix`], [`Activations`], [`Tile`], [`KvHead`]: views of memory that the caller owns.
//! - [`Backend`]: the operations. [`Scalar`] defines their results; [`Cpu`] is a backend of this target.

// What only the formats use that were left out.
#![cfg_attr(
    not(all(
        feature = "legacy-quants",
        feature = "k-quants",
        feature = "i-quants",
        feature = "codebook-quants",
        feature = "low-bit-quants",
        feature = "fp4-quants",
        feature = "ternary"
    )),
    allow(unused)
)]

#[cfg(test)]
extern crate std;

mod activations;
mod arch;
mod backend;
pub mod blocks;
#[cfg(not(feature = "entered"))]
mod entered;
#[cfg(feature = "entered")]
pub mod entered;
#[cfg(feature = "equivalence")]
pub mod equivalence;
mod format;
mod forward;
mod kv;
mod lanes;
mod matrix;
mod ops;
mod repack;
#[cfg(feature = "roofline")]
pub mod roofline;
mod tile;
mod wide;

pub use activations::{
    ACT_BLOCK, ACT_SUM, Activations, DenseActivations, Q8Activations, Q8Row, Q8RowMut,
};
#[cfg(target_arch = "arm")]
pub use arch::Dsp;
pub use arch::types::*; // `Scalar`, and those of this target
pub use arch::{Cpu, CpuError};
pub use backend::Backend;
pub use blocks::{
    Block, CodeBlock, DenseBlock, TernaryBlock, dequantize_row, quantize_row, quantize_row_weighted,
};
pub use format::{ActivationKind, Format};
pub use forward::ExplicitBackend;
pub use kv::{KV_BLOCK, KvFormat, KvHead, KvLayout};
pub use matrix::{Matrix, MatrixError};
pub use ops::attend::{AttentionParams, MAX_HEAD_DIM};
pub use ops::delta::{DeltaInputs, DeltaStart};
pub use ops::rope::{RopeKind, rope_freqs, rope_table};
pub use ops::select::TopK;
pub use repack::{REPACK_ROWS, repack, repack_from, repacked_bytes};
pub use tile::Tile;
pub use wide::{WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRow, WideRowMut};

/// `exp(x)` by the polynomial that the kernels use: less than 1.08 ULP from the exact value over
/// all f32; 0 below -104, infinite above 88.73, NaN for NaN.
#[inline]
#[must_use]
pub fn exp(x: f32) -> f32 {
    ops::math::exp(x)
}

/// `ln(1 + exp(x))` by the polynomials that the kernels use: less than 3.5 ULP from the exact value over
/// all f32 where that is a normal number; `x` itself above 17, NaN for NaN.
#[inline]
#[must_use]
pub fn softplus(x: f32) -> f32 {
    ops::math::softplus(x)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
