//! Who computes a session's steps: one of Teff's own backends, or the caller's.

use std::num::NonZeroUsize;
use std::ops::Range;

use teff_kernels::{
    Activations, Backend, Cpu, DenseActivations, Format, KvHead, KvLayout, Matrix, Q8RowMut,
    RopeKind, Tile, TopK, WideRowMut,
};

#[derive(Clone, Copy)]
pub(super) enum SessionBackend<'m> {
    Own(Cpu),
    Foreign(&'m dyn Backend),
}

impl SessionBackend<'_> {
    pub(super) fn get(&self) -> &dyn Backend {
        match self {
            SessionBackend::Own(cpu) => cpu,
            SessionBackend::Foreign(backend) => *backend,
        }
    }
}

impl SessionBackend<'_> {
    /// Teff's backend, where it is one.
    pub(super) fn own(&self) -> Option<Cpu> {
        match *self {
            SessionBackend::Own(cpu) => Some(cpu),
            SessionBackend::Foreign(_) => None,
        }
    }
}

/// Methods that call those of whoever it is.
macro_rules! forward {
    ($(fn $name:ident(&self $(, $arg:ident: $ty:ty)* $(,)?) $(-> $out:ty)?;)*) => {$(
        fn $name(&self $(, $arg: $ty)*) $(-> $out)? {
            self.get().$name($($arg),*)
        }
    )*};
}

#[rustfmt::skip]
impl Backend for SessionBackend<'_> {
    forward! {
        fn name(&self) -> &'static str;
        fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize;
        fn repacks(&self, format: Format) -> bool;
        fn products_per_ms(&self) -> usize;
        fn matmul(&self, w: &Matrix<'_>, x: &Activations<'_>, rows: Range<usize>, y: &mut Tile<'_>, scratch: &mut [u8]);
        fn dequantize_row(&self, w: &Matrix<'_>, row: usize, out: &mut [f32]);
        fn quantize(&self, x: &[f32], out: Q8RowMut<'_>);
        fn quantize_wide(&self, x: &[f32], out: WideRowMut<'_>, per_row: bool);
        fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]);
        fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
        fn rope(&self, x: &mut [f32], head_dim: usize, table: &[f32], kind: RopeKind);
        fn add(&self, y: &mut [f32], x: &[f32]);
        fn gelu(&self, x: &mut [f32]);
        fn gelu_mul(&self, gate: &mut [f32], up: &[f32]);
        fn silu(&self, x: &mut [f32]);
        fn silu_mul(&self, gate: &mut [f32], up: &[f32]);
        fn relu2(&self, x: &mut [f32]);
        fn relu2_mul(&self, gate: &mut [f32], up: &[f32]);
        fn scale(&self, x: &mut [f32], factor: f32);
        fn argmax(&self, x: &[f32]) -> usize;
        fn top_k(&self, x: &[f32], out: &mut [(u32, f32)]) -> TopK;
        fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]);
        fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, value: &[f32]);
        fn attend(&self, q: &DenseActivations<'_>, kv: &KvHead<'_>, position: usize, window: Option<NonZeroUsize>, scale: f32, out: &mut Tile<'_>);
    }
}
