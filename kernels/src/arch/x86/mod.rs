//! x86-64.

mod avx2;
mod avx512;
mod detect;
mod lanes256;
mod lanes512;
mod rows8;
mod unpack;

pub use avx2::Avx2;
pub use avx512::Avx512;

/// The operations that are the shared definitions over a set's own lanes: every one a function
/// compiled for the features, called with the proof that the CPU has them.
macro_rules! shared_operations {
    ($features:literal, $L:ty, $QT:literal) => {
        fn quantize(&self, x: &[f32], mut out: Q8RowMut<'_>) {
            #[target_feature(enable = $features)]
            fn run(x: &[f32], out: &mut Q8RowMut<'_>) {
                crate::ops::quant::quantize::<$L>(x, out);
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(x, &mut out) }
        }

        fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn run(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
                crate::ops::norm::layer_norm::<$L>(x, weight, bias, eps, out);
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(x, weight, bias, eps, out) }
        }

        fn add(&self, y: &mut [f32], x: &[f32]) {
            #[target_feature(enable = $features)]
            fn run(y: &mut [f32], x: &[f32]) {
                crate::ops::add::<$L>(y, x);
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(y, x) }
        }

        fn gelu(&self, x: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn run(x: &mut [f32]) {
                crate::ops::map::<$L>(x, |x| crate::ops::math::gelu(x));
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(x) }
        }

        fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
            #[target_feature(enable = $features)]
            fn run(layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
                crate::kv::store_key::<$L>(layout, keys, position, key);
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(layout, keys, position, key) }
        }

        fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, v: &[f32]) {
            #[target_feature(enable = $features)]
            fn run(layout: &KvLayout, values: &mut [u8], position: usize, v: &[f32]) {
                crate::kv::store_value::<$L>(layout, values, position, v);
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(layout, values, position, v) }
        }

        fn attend(
            &self,
            q: &DenseActs<'_>,
            kv: &KvHead<'_>,
            position: usize,
            scale: f32,
            out: &mut Tile<'_>,
        ) {
            #[target_feature(enable = $features)]
            fn run(
                q: &DenseActs<'_>,
                kv: &KvHead<'_>,
                position: usize,
                scale: f32,
                out: &mut Tile<'_>,
            ) {
                crate::ops::attend::attend::<$L, $QT>(q, kv, position, scale, out);
            }
            // SAFETY: a value of this type exists only where its features were found.
            unsafe { run(q, kv, position, scale, out) }
        }
    };
}
use shared_operations;
