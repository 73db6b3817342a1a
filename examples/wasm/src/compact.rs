//! A backend that is small: one product for all quantised formats instead of one for each
//! (`teff_wasm_product`). What is not a product is left to the best backend of the build.

use core::num::NonZeroUsize;
use core::ops::Range;

use teff_kernels::{
    Activations, Backend, DenseActivations, Format, KvHead, KvLayout, Matrix, Q8RowMut, RopeKind,
    Tile, TopK, WideRowMut,
};

use teff_wasm_product::Best;

/// Few instructions, and vectors where the build has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compact;

impl Backend for Compact {
    fn name(&self) -> &'static str {
        if cfg!(target_feature = "simd128") { "simd128" } else { "scalar" }
    }

    fn matmul_scratch(&self, format: Format, cols: usize, _: usize) -> usize {
        teff_wasm_product::scratch(format, cols)
    }

    fn products_per_ms(&self) -> usize {
        Best.products_per_ms()
    }

    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        teff_wasm_product::matmul(w, x, rows, y, scratch);
    }

    fn quantize(&self, x: &[f32], out: Q8RowMut<'_>) {
        Best.quantize(x, out);
    }
    fn quantize_wide(&self, x: &[f32], out: WideRowMut<'_>, per_row: bool) {
        Best.quantize_wide(x, out, per_row);
    }
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        Best.layer_norm(x, weight, bias, eps, out);
    }
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        Best.rms_norm(x, weight, eps, out);
    }
    fn rope(&self, x: &mut [f32], head_dim: usize, table: &[f32], kind: RopeKind) {
        Best.rope(x, head_dim, table, kind);
    }
    fn add(&self, y: &mut [f32], x: &[f32]) {
        Best.add(y, x);
    }
    fn gelu(&self, x: &mut [f32]) {
        Best.gelu(x);
    }
    fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
        Best.gelu_mul(gate, up);
    }
    fn silu(&self, x: &mut [f32]) {
        Best.silu(x);
    }
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        Best.silu_mul(gate, up);
    }
    fn relu2(&self, x: &mut [f32]) {
        Best.relu2(x);
    }
    fn relu2_mul(&self, gate: &mut [f32], up: &[f32]) {
        Best.relu2_mul(gate, up);
    }
    fn scale(&self, x: &mut [f32], factor: f32) {
        Best.scale(x, factor);
    }
    fn argmax(&self, x: &[f32]) -> usize {
        Best.argmax(x)
    }
    fn top_k(&self, x: &[f32], out: &mut [(u32, f32)]) -> TopK {
        Best.top_k(x, out)
    }
    fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
        Best.store_key(layout, keys, position, key);
    }
    fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
        Best.store_value(layout, values, position, value);
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
        teff_wasm_product::attend(q, kv, position, window, scale, out);
    }
}
