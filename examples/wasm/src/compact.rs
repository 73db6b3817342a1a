//! A backend that is small: one product for all quantised formats instead of one for each
//! (`teff_wasm_product`). What is not a product is left to the best backend of the build.

use core::ops::Range;

use teff_kernels::{
    Activations, AttentionParams, DenseActivations, ExplicitBackend, Format, KvHead, Matrix,
    Scalar, Tile, forward_backend,
};
use teff_wasm_product::Best;

/// Few instructions, and vectors where the build has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compact;

impl ExplicitBackend for Compact {
    fn name(&self) -> &'static str {
        if cfg!(target_feature = "simd128") { "simd128" } else { "scalar" }
    }

    fn matmul_scratch(&self, format: Format, cols: usize, _: usize) -> usize {
        teff_wasm_product::scratch(format, cols)
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

    forward_backend!(self => Best; products_per_ms, quantize, quantize_wide, layer_norm, rms_norm, rope,
        add, mul, scale, gelu, gelu_mul, silu, silu_mul, relu2, relu2_mul, softcap, sigmoid,
        swiglu_clamped, mean_square, gaussian_topk, l2_norm, decay, delta_rule, softmax, causal_conv, argmax,
        top_k, store_key, store_value);
    // Not the product of each format, which the other backend would bring.
    forward_backend!(self => Scalar; repacks, dequantize_row);

    fn attend(
        &self,
        q: &DenseActivations<'_>,
        kv: &KvHead<'_>,
        position: usize,
        params: &AttentionParams<'_>,
        out: &mut Tile<'_>,
    ) {
        teff_wasm_product::attend(q, kv, position, params, out);
    }
}
