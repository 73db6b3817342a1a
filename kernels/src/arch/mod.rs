//! The instruction sets, and the choice among them.
//!
//! `<arch>/<set>.rs` is the backend of one set; what sets share (lanes, unpackers of formats,
//! drivers) stands beside them. A value of a backend's type proves that the CPU supports it: only a
//! constructor that checked, or an `unsafe` one, makes such a value.

use core::fmt;

use crate::Backend;
use crate::backend as scalar;

/// The backends of all targets, in one table, from the simplest to the widest, by what a target must
/// have for them. Everything that lists them is made from it: [`Cpu`], its names and its dispatch, the
/// types that this crate exports, and the suites of `tests/equivalence.rs`.
///
/// `cpus!([then] args)` calls the macro `then` with `[args]` and, for each kind of target, its module
/// here, its condition and its backends: the type, the name, and what makes it where this machine has
/// it. (The modules themselves are declared below, by the same conditions: rustfmt reads no `mod` that
/// a macro makes.)
///
/// A minor version may add backends and kinds of targets; the shape of a line changes with a major one only.
///
/// ```
/// macro_rules! names {
///     (
///         [$list:ident]
///         $($arch:ident ($when:meta) { $($(#[$doc:meta])* $cpu:ident $name:ident $new:tt)* })*
///     ) => {
///         let $list = [$($(stringify!($name)),*),*];
///     };
/// }
/// teff_kernels::cpus!([names] list);
/// assert_eq!(list, teff_kernels::Cpu::NAMES);
/// ```
#[macro_export]
macro_rules! cpus {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! { [$($args)*]
        scalar (all()) {
            /// Portable Rust.
            Scalar scalar { Some(Scalar) }
        }
        x86 (all(target_arch = "x86_64", target_feature = "sse2")) {
            /// AVX2 with FMA and F16C.
            Avx2 avx2 { Avx2::new() }
            /// AVX2 with AVX-VNNI.
            AvxVnni avxvnni { AvxVnni::new() }
            /// AVX-512 without VNNI.
            Avx512Bw avx512bw { Avx512Bw::new() }
            /// AVX-512 with VNNI.
            Avx512 avx512 { Avx512::new() }
            /// AVX-512 with VNNI, and AMX for many columns.
            Amx amx { Amx::new() }
        }
        wasm32 (all(target_arch = "wasm32", target_feature = "simd128")) {
            /// WebAssembly's vectors.
            Simd128 simd128 { Some(Simd128) }
        }
        aarch64 (all(target_arch = "aarch64", target_feature = "neon", target_endian = "little")) {
            /// NEON alone.
            Neon neon { Some(Neon::new()) }
            /// NEON with dot products of bytes.
            Dotprod dotprod { Dotprod::new() }
            /// NEON with dot and matrix products of bytes.
            I8mm i8mm { I8mm::new() }
        }
        }
    };
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
mod aarch64;
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"),
    all(target_arch = "wasm32", target_feature = "simd128"),
))]
mod shared;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;
// x86_64-unknown-none has no vector registers: its ABI is soft-float.
#[cfg(any(target_arch = "arm", test))]
#[cfg_attr(not(target_arch = "arm"), expect(unreachable_pub))] // only tested there
mod dsp;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86;
#[cfg(target_arch = "arm")]
pub use dsp::Dsp;

/// Error for a backend that can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
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

macro_rules! declare {
    (
        []
        $($arch:ident $on:tt { $(
            $(#[$doc:meta])*
            $type:ident $name:ident { $new:expr }
        )* })*
    ) => {
        /// The types of this target's backends.
        pub(crate) mod types {
            $(
                #[cfg $on]
                pub use super::$arch::{$($type),*};
            )*
        }
        use types::*;

        /// One of the backends of this target.
        ///
        /// ```
        /// use teff_kernels::*;
        ///
        /// // Two rows of 64 weights in Q8_0, and a row of 64 activations.
        /// let x: [f32; 64] = core::array::from_fn(|i| (i as f32 * 0.7).sin());
        /// let mut w = [0; 2 * 68];
        /// w.chunks_exact_mut(68).for_each(|row| quantize_row(Format::Q8_0, &x, row));
        /// let w = Matrix::new(Format::Q8_0, 2, 64, &w)?;
        /// let (mut q, mut d, mut s) = ([0; 64], [0.0; 2], [0; 4]);
        /// Scalar.quantize(&x, Q8RowMut { q: &mut q, lo: None, d: &mut d, s: &mut s });
        /// let x = Activations::Q8(Q8Activations::new(1, 64, &q, &d, &s));
        ///
        /// // The product on the best instruction set of this machine has the bits of portable Rust.
        /// let product = |cpu: Cpu| {
        ///     let needed = cpu.matmul_scratch(Format::Q8_0, 64, 1);
        ///     let mut scratch = vec![0; needed + 64];
        ///     let aligned = scratch.as_ptr().align_offset(64);
        ///     let mut y = [0.0; 2];
        ///     let mut out = Tile::new(&mut y, 1, 2, 2);
        ///     cpu.matmul(&w, &x, 0..2, &mut out, &mut scratch[aligned..][..needed]);
        ///     y.map(f32::to_bits)
        /// };
        /// assert_eq!(product(Cpu::best()), product(Cpu::Scalar(Scalar)));
        /// assert_ne!(product(Cpu::best()), [0; 2]);
        /// # Ok::<(), MatrixError>(())
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Cpu {
            $($(
                $(#[$doc])*
                #[cfg $on]
                $type($type),
            )*)*
        }

        impl Cpu {
            /// The names of all backends, on whatever target, from the simplest to the widest.
            pub const NAMES: [&'static str; [$($(stringify!($name)),*),*].len()] =
                [$($(stringify!($name)),*),*];

            /// The backend of this name.
            ///
            /// # Errors
            /// [`CpuError`] where there is none or this machine can't run it.
            pub fn by_name(name: &str) -> Result<Cpu, CpuError> {
                $($(
                    #[cfg $on]
                    if name == stringify!($name) {
                        let found: Option<$type> = $new;
                        return found.map(Cpu::$type).ok_or(CpuError::Missing);
                    }
                )*)*
                Err(if Cpu::NAMES.contains(&name) { CpuError::Missing } else { CpuError::Unknown })
            }

            /// The fastest backend of this machine.
            #[must_use]
            pub fn best() -> Cpu {
                let found = Cpu::NAMES.iter().rev().find_map(|n| Cpu::by_name(n).ok());
                found.unwrap_or(Cpu::Scalar(Scalar))
            }
        }
    };
}
crate::cpus!([declare]);

/// All methods of [`Backend`], each of which calls that of whichever backend this is.
macro_rules! dispatch {
    (
        []
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
    ) => {
        impl Backend for Cpu {
            $(
                fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
                    crate::cpus!([match_cpu] self, b => b.$name($($arg),*))
                }
            )*
        }
    };
}

macro_rules! match_cpu {
    (
        [$self:expr, $b:ident => $call:expr]
        $($arch:ident $on:tt { $($(#[$doc:meta])* $type:ident $name:ident { $new:expr })* })*
    ) => {
        match $self {
            $($(
                #[cfg $on]
                Cpu::$type($b) => $call,
            )*)*
        }
    };
}
crate::backend_signatures!([dispatch]);
