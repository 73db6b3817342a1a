//! The backend of this image: what the plan of its model asks for, and nothing else.
//!
//! A backend takes every format and every operation of every family, since it can't know what
//! model it will meet. A firmware knows. What is ruled out here with a check is not linked.

use core::ops::Range;

#[cfg(feature = "dsp")]
use teff_kernels::Dsp as Best;
#[cfg(not(feature = "dsp"))]
use teff_kernels::Scalar as Best;
use teff_kernels::{
    Activations, AttentionParams, Backend, DenseActivations, ExplicitBackend, Format, KvFormat,
    KvHead, KvLayout, Matrix, Scalar, Tile, forward_backend, refuse_backend,
};

/// The formats of the matrices that the model multiplies with.
#[cfg(not(feature = "q4_0"))]
macro_rules! products {
    () => {
        Format::Q8_0
    };
}
#[cfg(feature = "q4_0")]
macro_rules! products {
    () => {
        Format::Q8_0 | Format::Q4_0
    };
}

/// The formats of the tables that a token reads a row of: the embeddings' in all files, and in that
/// of `gemma4` also that of the layers' inputs.
#[cfg(not(feature = "gemma4"))]
macro_rules! tables {
    () => {
        Format::Q8_0
    };
}
#[cfg(feature = "gemma4")]
macro_rules! tables {
    () => {
        Format::Q8_0 | Format::Q4_0
    };
}

/// How the cache is stored.
const KV: KvFormat = crate::model::plan::OPTIONS.kv;

/// The products of [`Best`] for the formats of the model, and the operations of its plan.
pub(crate) struct Needed(Best);

impl Needed {
    /// The backend that the image was built for.
    pub(crate) fn new() -> Self {
        // SAFETY: the feature is for cores with the DSP extension, as Cargo.toml says.
        #[cfg(feature = "dsp")]
        return Needed(unsafe { Best::new_unchecked() });
        #[cfg(not(feature = "dsp"))]
        Needed(Best)
    }
}

/// Stand-in for operations that the plan doesn't have.
fn other() -> ! {
    unreachable!("this image has no other model's operations")
}

impl ExplicitBackend for Needed {
    forward_backend!(self => self.0; name, matmul_scratch, products_per_ms, quantize, add, argmax);
    forward_backend!(self => Scalar; repacks);
    refuse_backend!(other(); quantize_wide, mul, silu, silu_mul, relu2, relu2_mul, softcap, sigmoid,
        swiglu_clamped, mean_square, gaussian_topk, l2_norm, decay, delta_rule, softmax, causal_conv, top_k);

    // GPT-2's.
    #[cfg(not(feature = "gemma4"))]
    forward_backend!(self => self.0; layer_norm, gelu);
    #[cfg(not(feature = "gemma4"))]
    refuse_backend!(other(); rms_norm, rope, scale, gelu_mul);
    // Gemma's.
    #[cfg(feature = "gemma4")]
    forward_backend!(self => self.0; rms_norm, rope, scale, gelu_mul);
    #[cfg(feature = "gemma4")]
    refuse_backend!(other(); layer_norm, gelu);

    fn matmul(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) {
        match (w.format(), x) {
            (products!(), Activations::Q8(_)) => self.0.matmul(w, x, rows, y, scratch),
            _ => other(),
        }
    }
    // Once, so that it is compiled for these formats alone.
    #[inline(never)]
    fn dequantize_row(&self, w: &Matrix<'_>, row: usize, out: &mut [f32]) {
        match w.format() {
            tables!() => self.0.dequantize_row(w, row, out),
            _ => other(),
        }
    }
    fn store_key(&self, layout: &KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
        let layout = KvLayout { format: KV, ..*layout };
        self.0.store_key(&layout, keys, position, key);
    }
    fn store_value(&self, layout: &KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
        let layout = KvLayout { format: KV, ..*layout };
        self.0.store_value(&layout, values, position, value);
    }
    fn attend(
        &self,
        q: &DenseActivations<'_>,
        kv: &KvHead<'_>,
        position: usize,
        params: &AttentionParams<'_>,
        out: &mut Tile<'_>,
    ) {
        match kv.layout().format {
            // The model has neither caps nor sinks: their code is left out.
            KV => {
                let AttentionParams { window, scale, .. } = *params;
                let params = AttentionParams { window, ..AttentionParams::new(scale) };
                self.0.attend(q, kv, position, &params, out);
            }
            _ => other(),
        }
    }
}
