//! The operations of a transformer, and who computes them.

use core::ops::Range;

use crate::blocks::dequantize_row;
use crate::lanes::Portable;
use crate::ops;
use crate::{Acts, Format, KvHead, KvLayout, Matrix, Q8RowMut, Tile};

/// A way to compute the operations of a transformer: an instruction set, or a third party's own.
///
/// Every operation has the scalar truth as its default; an implementation overrides what it is
/// good at, and must give the same bits. Shapes are checked by panics, since they come from plans
/// that were verified, never from input.
pub trait Backend: Sync {
    /// The name that `--backend` takes and that figures are reported under.
    fn name(&self) -> &'static str;

    /// Bytes of scratch that [`Backend::matmul`] wants for weights of this format with `cols`
    /// inputs, `batch` rows of activations at most.
    fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize {
        let _ = (format, cols, batch);
        0
    }

    /// `y[t][i] = sum_k w[rows.start + i][k] * x[t][k]`, for all rows of activations.
    ///
    /// Dense weights: sixteen strided partial sums of fused multiply-adds, then the halving tree.
    /// Quantised weights: one f32 accumulator, `acc + (dw * dx) * isum` over blocks in ascending
    /// order, unfused, `isum` being the exact integer sum of a block.
    ///
    /// # Panics
    /// Where shapes don't fit, the activations are not of the kind that the format needs, or
    /// `scratch` is shorter than [`Backend::matmul_scratch`] or not aligned to 64 bytes.
    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Acts<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        let _ = scratch;
        check_matmul(w, x, &rows, y);
        matmul_portable(w, x, rows, y);
    }

    /// The values of row `row` of `w`.
    ///
    /// # Panics
    /// Where there is no such row or `out` is not as long as a row.
    fn dequantize_row(&self, w: &Matrix<'_>, row: usize, out: &mut [f32]) {
        dequantize_row(w.format(), &w.bytes()[row * w.row_bytes()..][..w.row_bytes()], out);
    }

    /// Quantises activations, 32 at a time.
    ///
    /// 8 bits: `d = max|x| / 127`, codes `x * (127 / max|x|)` rounded to nearest, ties to even.
    /// 16 bits (where `out` has a lower plane): the same with 32385, codes split into
    /// `255 * q + lo`. NaN, and blocks whose scale can't be
    /// inverted, give 0.
    ///
    /// # Panics
    /// Where `x` is not whole blocks or `out` has another length.
    fn quantize(&self, x: &[f32], mut out: Q8RowMut<'_>) {
        ops::quant::quantize::<Portable>(x, &mut out);
    }

    /// `out = (x - mean) / sqrt(var + eps) * weight + bias`, mean and (biased) variance in two
    /// passes, each by sixteen strided partial sums and the halving tree.
    ///
    /// # Panics
    /// Where lengths differ.
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        ops::norm::layer_norm::<Portable>(x, weight, bias, eps, out);
    }

    /// `y = y + x`.
    ///
    /// # Panics
    /// Where lengths differ.
    fn add(&self, y: &mut [f32], x: &[f32]) {
        ops::add::<Portable>(y, x);
    }

    /// `x = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, GELU in its tanh form (Hendrycks and
    /// Gimpel, 2016). Over all f32 less than 2.05 ULP from the exact value of this formula where
    /// `x > 0`, and less than 5.2e-8 elsewhere; NaN for minus infinity, as the formula has it.
    fn gelu(&self, x: &mut [f32]) {
        ops::map::<Portable>(x, ops::math::gelu);
    }

    /// Stores the key of `position` in the cache of a head.
    ///
    /// # Panics
    /// Where `keys` or `key` don't have the layout's sizes, or the position is beyond it.
    fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
        crate::kv::store_key::<Portable>(layout, keys, position, key);
    }

    /// Stores the value of `position` in the cache of a head.
    ///
    /// # Panics
    /// As [`Backend::store_key`].
    fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
        crate::kv::store_value::<Portable>(layout, values, position, value);
    }

    /// Causal attention of one head: query `t` stands at `position + t` and sees all positions up
    /// to its own. `out[t] = sum_j softmax(scale * q[t].k[j]) v[j]`, block by block as
    /// `ops/attend.rs` defines it.
    ///
    /// # Panics
    /// Where widths differ or positions are beyond the cache's capacity.
    fn attend(
        &self,
        q: &crate::DenseActs<'_>,
        kv: &KvHead<'_>,
        position: usize,
        scale: f32,
        out: &mut Tile<'_>,
    ) {
        ops::attend::attend::<Portable, 1>(q, kv, position, scale, out);
    }
}

/// The shapes that every `matmul` needs.
pub(crate) fn check_matmul(w: &Matrix<'_>, x: &Acts<'_>, rows: &Range<usize>, y: &Tile<'_>) {
    assert!(x.cols() == w.cols(), "the activations are not as wide as the weights");
    assert!(rows.start <= rows.end && rows.end <= w.rows(), "no such rows");
    assert!(y.n() == x.n() && y.width() == rows.len(), "the output has another shape");
    let quantized = matches!(x, Acts::Q8(_));
    assert!(quantized == w.format().is_quantized(), "activations of the other kind");
}

/// The scalar truth of a product.
pub(crate) fn matmul_portable(w: &Matrix<'_>, x: &Acts<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    use crate::blocks::{Bf16, F16, F32, Q4_0, Q8_0};
    match (w.format(), x) {
        (Format::F32, Acts::Dense(x)) => {
            ops::dense::matmul::<Portable, F32, 1, 1, 1>(w, x, rows, y)
        }
        (Format::F16, Acts::Dense(x)) => {
            ops::dense::matmul::<Portable, F16, 1, 1, 1>(w, x, rows, y)
        }
        (Format::BF16, Acts::Dense(x)) => {
            ops::dense::matmul::<Portable, Bf16, 1, 1, 1>(w, x, rows, y);
        }
        (Format::Q8_0, Acts::Q8(x)) => ops::quant::matmul::<Q8_0>(w, x, rows, y),
        (Format::Q4_0, Acts::Q8(x)) => ops::quant::matmul::<Q4_0>(w, x, rows, y),
        _ => unreachable!("checked by check_matmul"),
    }
}

/// Portable Rust, on any target: the truth that the others are tested against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

impl Backend for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }
}
