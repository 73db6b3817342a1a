//! The instruction sets, and the choice among them.
//!
//! `<arch>/<set>.rs` is the backend of one set; what sets share (lanes, unpackers of formats,
//! drivers) stands beside them. A backend's value is the proof that the CPU has what it needs:
//! only a constructor that checked, or an `unsafe` one, makes it.

use core::fmt;
use core::ops::Range;

use crate::{Acts, Backend, DenseActs, Format, KvHead, KvLayout, Matrix, Q8RowMut, Scalar, Tile};

// x86_64-unknown-none has no vector registers: its ABI is soft-float.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub use x86::{Avx2, Avx512};

/// Why a backend can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuError {
    /// No backend of Teff has this name.
    Unknown,
    /// Teff has it, but this machine (or this target) does not.
    Missing,
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            CpuError::Unknown => "no backend has this name",
            CpuError::Missing => "this machine lacks the instructions of this backend",
        };
        write!(f, "{what}; Teff's backends are")?;
        for (i, name) in Cpu::NAMES.iter().enumerate() {
            let missing = if Cpu::by_name(name).is_ok() { "" } else { " (not here)" };
            write!(f, "{}{name}{missing}", if i == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

impl core::error::Error for CpuError {}

/// One of the backends of this target.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Cpu {
    /// Portable Rust.
    Scalar(Scalar),
    /// AVX2 with FMA and F16C.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx2(Avx2),
    /// AVX-512 with VNNI.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512(Avx512),
}

impl Cpu {
    /// The names of all backends, on whatever target, from the simplest to the widest.
    pub const NAMES: [&'static str; 3] = ["scalar", "avx2", "avx512"];

    /// The backend of this name.
    ///
    /// # Errors
    /// [`CpuError`] where there is none or this machine can't run it.
    pub fn by_name(name: &str) -> Result<Cpu, CpuError> {
        match name {
            "scalar" => Ok(Cpu::Scalar(Scalar)),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            "avx2" => Avx2::new().map(Cpu::Avx2).ok_or(CpuError::Missing),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            "avx512" => Avx512::new().map(Cpu::Avx512).ok_or(CpuError::Missing),
            _ if Cpu::NAMES.contains(&name) => Err(CpuError::Missing),
            _ => Err(CpuError::Unknown),
        }
    }

    /// The fastest backend of this machine.
    #[must_use]
    pub fn best() -> Cpu {
        let found = Cpu::NAMES.iter().rev().find_map(|n| Cpu::by_name(n).ok());
        found.unwrap_or(Cpu::Scalar(Scalar))
    }
}

/// Calls the same method of whichever backend this is.
macro_rules! each {
    ($self:expr, $b:ident => $call:expr) => {
        match $self {
            Cpu::Scalar($b) => $call,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Cpu::Avx2($b) => $call,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Cpu::Avx512($b) => $call,
        }
    };
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        each!(self, b => b.name())
    }
    fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize {
        each!(self, b => b.matmul_scratch(format, cols, batch))
    }
    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Acts<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        each!(self, b => b.matmul(w, x, rows, y, scratch));
    }
    fn dequantize_row(&self, w: &Matrix<'_>, row: usize, out: &mut [f32]) {
        each!(self, b => b.dequantize_row(w, row, out));
    }
    fn quantize(&self, x: &[f32], out: Q8RowMut<'_>) {
        each!(self, b => b.quantize(x, out));
    }
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        each!(self, b => b.layer_norm(x, weight, bias, eps, out));
    }
    fn add(&self, y: &mut [f32], x: &[f32]) {
        each!(self, b => b.add(y, x));
    }
    fn gelu(&self, x: &mut [f32]) {
        each!(self, b => b.gelu(x));
    }
    fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
        each!(self, b => b.store_key(layout, keys, position, key));
    }
    fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
        each!(self, b => b.store_value(layout, values, position, value));
    }
    fn attend(
        &self,
        q: &DenseActs<'_>,
        kv: &KvHead<'_>,
        position: usize,
        scale: f32,
        out: &mut Tile<'_>,
    ) {
        each!(self, b => b.attend(q, kv, position, scale, out));
    }
}
