//! The instruction sets, and the choice among them.
//!
//! `<arch>/<set>.rs` is the backend of one set; what sets share (lanes, unpackers of formats,
//! drivers) stands beside them. A backend's value is the proof that the CPU has what it needs:
//! only a constructor that checked, or an `unsafe` one, makes it.

use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;

use crate::{
    Activations, Backend, DenseActivations, Format, KvHead, KvLayout, Matrix, Q8RowMut, RopeKind,
    Scalar, Tile, TopK, WideRowMut,
};

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
mod aarch64;
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"),
    all(target_arch = "wasm32", target_feature = "simd128"),
))]
mod shared;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
pub use aarch64::{Dotprod, I8mm, Neon};
// x86_64-unknown-none has no vector registers: its ABI is soft-float.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub use x86::{Amx, Avx2, Avx512, Avx512Bw, AvxVnni};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm32::Simd128;
#[cfg(any(target_arch = "arm", test))]
#[cfg_attr(not(target_arch = "arm"), expect(unreachable_pub))] // only tested there
mod dsp;
#[cfg(target_arch = "arm")]
pub use dsp::Dsp;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cpu {
    /// Portable Rust.
    Scalar(Scalar),
    /// AVX2 with FMA and F16C.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx2(Avx2),
    /// AVX2 with AVX-VNNI.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    AvxVnni(AvxVnni),
    /// AVX-512 without VNNI.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512Bw(Avx512Bw),
    /// AVX-512 with VNNI.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512(Avx512),
    /// AVX-512 with VNNI, and AMX for many columns.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Amx(Amx),
    /// WebAssembly's vectors.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(Simd128),
    /// NEON alone.
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
    Neon(Neon),
    /// NEON with dot products of bytes.
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
    Dotprod(Dotprod),
    /// NEON with dot and matrix products of bytes.
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
    I8mm(I8mm),
}

impl Cpu {
    /// The names of all backends, on whatever target, from the simplest to the widest.
    pub const NAMES: [&'static str; 10] = [
        "scalar", "avx2", "avxvnni", "avx512bw", "avx512", "amx", "simd128", "neon", "dotprod",
        "i8mm",
    ];

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
            "avxvnni" => AvxVnni::new().map(Cpu::AvxVnni).ok_or(CpuError::Missing),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            "avx512bw" => Avx512Bw::new().map(Cpu::Avx512Bw).ok_or(CpuError::Missing),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            "avx512" => Avx512::new().map(Cpu::Avx512).ok_or(CpuError::Missing),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            "amx" => Amx::new().map(Cpu::Amx).ok_or(CpuError::Missing),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            "simd128" => Ok(Cpu::Simd128(Simd128)),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            "neon" => Ok(Cpu::Neon(Neon::new())),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            "dotprod" => Dotprod::new().map(Cpu::Dotprod).ok_or(CpuError::Missing),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            "i8mm" => I8mm::new().map(Cpu::I8mm).ok_or(CpuError::Missing),
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
            Cpu::AvxVnni($b) => $call,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Cpu::Avx512Bw($b) => $call,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Cpu::Avx512($b) => $call,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Cpu::Amx($b) => $call,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Cpu::Simd128($b) => $call,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            Cpu::Neon($b) => $call,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            Cpu::Dotprod($b) => $call,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
            Cpu::I8mm($b) => $call,
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
    fn repacks(&self, format: Format) -> bool {
        each!(self, b => b.repacks(format))
    }
    fn products_per_ms(&self) -> usize {
        each!(self, b => b.products_per_ms())
    }
    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
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
    fn quantize_wide(&self, x: &[f32], out: WideRowMut<'_>, per_row: bool) {
        each!(self, b => b.quantize_wide(x, out, per_row));
    }
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        each!(self, b => b.layer_norm(x, weight, bias, eps, out));
    }
    fn add(&self, y: &mut [f32], x: &[f32]) {
        each!(self, b => b.add(y, x));
    }
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        each!(self, b => b.rms_norm(x, weight, eps, out));
    }
    fn rope(&self, x: &mut [f32], head_dim: usize, table: &[f32], kind: RopeKind) {
        each!(self, b => b.rope(x, head_dim, table, kind));
    }
    fn gelu(&self, x: &mut [f32]) {
        each!(self, b => b.gelu(x));
    }
    fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
        each!(self, b => b.gelu_mul(gate, up));
    }
    fn silu(&self, x: &mut [f32]) {
        each!(self, b => b.silu(x));
    }
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        each!(self, b => b.silu_mul(gate, up));
    }
    fn relu2(&self, x: &mut [f32]) {
        each!(self, b => b.relu2(x));
    }
    fn relu2_mul(&self, gate: &mut [f32], up: &[f32]) {
        each!(self, b => b.relu2_mul(gate, up));
    }
    fn scale(&self, x: &mut [f32], factor: f32) {
        each!(self, b => b.scale(x, factor));
    }
    fn argmax(&self, x: &[f32]) -> usize {
        each!(self, b => b.argmax(x))
    }
    fn top_k(&self, x: &[f32], out: &mut [(u32, f32)]) -> TopK {
        each!(self, b => b.top_k(x, out))
    }
    fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
        each!(self, b => b.store_key(layout, keys, position, key));
    }
    fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
        each!(self, b => b.store_value(layout, values, position, value));
    }
    fn attend(
        &self,
        q: &DenseActivations<'_>,
        kv: &KvHead<'_>,
        position: usize,
        window: Option<NonZeroUsize>,
        scale: f32,
        out: &mut Tile<'_>,
    ) {
        each!(self, b => b.attend(q, kv, position, window, scale, out));
    }
}
