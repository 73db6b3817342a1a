//! The operations that are the shared definitions over an architecture's lanes.
//!
//! Backends with the same lanes share the compiled functions too: there is one of each operation
//! for each kind of lanes, compiled for what they need.

use crate::lanes::Lanes;

/// The operations, as methods of [`crate::Backend`] without the backend, each with its definition
/// over the lanes `L`. Gives all of them to the macro `$then`.
macro_rules! operations {
    ($then:ident! $args:tt) => {
        $then! { $args
            fn quantize(x: &[f32], out: $crate::Q8RowMut<'_>) {
                let mut out = out;
                $crate::ops::quant::quantize::<L>(x, &mut out);
            }
            fn quantize_wide(x: &[f32], out: $crate::WideRowMut<'_>, per_row: bool) {
                let mut out = out;
                $crate::ops::ternary::quantize::<L>(x, &mut out, per_row);
            }
            fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
                $crate::ops::norm::layer_norm::<L>(x, weight, bias, eps, out);
            }
            fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                $crate::ops::norm::rms_norm::<L>(x, weight, eps, out);
            }
            fn rope(x: &mut [f32], head_dim: usize, table: &[f32], kind: $crate::RopeKind) {
                $crate::ops::rope::rope(x, head_dim, table, kind);
            }
            fn add(y: &mut [f32], x: &[f32]) {
                $crate::ops::add::<L>(y, x);
            }
            fn scale(x: &mut [f32], factor: f32) {
                let factor = <L as $crate::lanes::Float>::splat(factor);
                $crate::ops::map::<L>(x, |x| $crate::lanes::Float::mul(x, factor));
            }
            fn gelu(x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::gelu(x));
            }
            fn gelu_mul(gate: &mut [f32], up: &[f32]) {
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::lanes::Float::mul($crate::ops::math::gelu(g), u));
            }
            fn silu(x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::silu(x));
            }
            fn silu_mul(gate: &mut [f32], up: &[f32]) {
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::lanes::Float::mul($crate::ops::math::silu(g), u));
            }
            fn relu2(x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::relu2(x));
            }
            fn relu2_mul(gate: &mut [f32], up: &[f32]) {
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::lanes::Float::mul($crate::ops::math::relu2(g), u));
            }
            fn argmax(x: &[f32]) -> usize {
                $crate::ops::select::argmax::<L>(x)
            }
            fn top_k(x: &[f32], out: &mut [(u32, f32)]) -> $crate::TopK {
                $crate::ops::select::top_k::<L>(x, out)
            }
            fn store_key(layout: &$crate::KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
                $crate::kv::store_key::<L>(layout, keys, position, key);
            }
            fn store_value(layout: &$crate::KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
                $crate::kv::store_value::<L>(layout, values, position, value);
            }
            fn attend(
                q: &$crate::DenseActivations<'_>,
                kv: &$crate::KvHead<'_>,
                position: usize,
                window: Option<core::num::NonZeroUsize>,
                scale: f32,
                out: &mut $crate::Tile<'_>
            ) {
                const QT: usize = <L as $crate::arch::shared::Shared>::QUERIES;
                $crate::ops::attend::attend::<L, QT, 8>(q, kv, position, window, scale, out);
            }
        }
    };
}

macro_rules! declare {
    (
        []
        $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*
    ) => {
        /// The operations over these lanes.
        pub(super) trait Shared: Lanes {
            /// Queries whose sums attention keeps in registers.
            const QUERIES: usize;
            $(
                /// # Safety
                /// The CPU has what the lanes need.
                unsafe fn $name($($arg: $ty),*) $(-> $ret)?;
            )*
        }
    };
}
operations!(declare![]);

macro_rules! implement {
    (
        [$L:ty, $features:literal, $queries:literal]
        $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*
    ) => {
        impl $crate::arch::shared::Shared for $L {
            const QUERIES: usize = $queries;
            $(
                #[inline]
                unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                    #[target_feature(enable = $features)]
                    fn run($($arg: $ty),*) $(-> $ret)? {
                        #[allow(dead_code)] // of what needs no lanes
                        type L = $L;
                        $crate::entered::enter!(stringify!($L), stringify!($name));
                        $body
                    }
                    // SAFETY: the CPU has the features by the caller's promise.
                    unsafe { run($($arg),*) }
                }
            )*
        }
    };
}

/// The methods of a backend with the lanes `$L`.
macro_rules! methods {
    (
        [$L:ty]
        $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*
    ) => {
        $(
            fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: a value of this type exists only where its features were found, and these
                // include what the lanes need.
                unsafe { <$L as $crate::arch::shared::Shared>::$name($($arg),*) }
            }
        )*
    };
}

pub(super) use {implement, methods, operations};
