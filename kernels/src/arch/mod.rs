//! The instruction sets, and the choice among them.
//!
//! `<arch>/<set>.rs` is the backend of one set; what sets share (lanes, unpackers of formats,
//! drivers) stands beside them. A backend's value is the proof that the CPU has what it needs:
//! only a constructor that checked, or an `unsafe` one, makes it.

use core::fmt;

use crate::{Backend, Scalar};

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

macro_rules! dispatch {
    (
        []
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
    ) => {
        impl Backend for Cpu {
            $(
                fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
                    each!(self, b => b.$name($($arg),*))
                }
            )*
        }
    };
}
crate::backend_signatures!([dispatch]);
