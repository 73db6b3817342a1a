//! The operations of a transformer, and the trait of those that compute them.

use core::ops::Range;

use crate::blocks::dequantize_row;
use crate::lanes::{Float, Portable};
use crate::ops;
use crate::{Activations, Block, Format, Matrix, Tile};

/// All methods of [`Backend`], in one list, from which everything that has all of them is made: the
/// trait itself, the backends of the instruction sets, and whatever forwards to another backend.
///
/// `backend_methods!([then] args)` calls the macro `then` with `args` and three groups:
///
/// - `required`: without a default;
/// - `own`: what a backend computes by its own drivers; the default is the scalar truth;
/// - `lanes`: what is defined once, over the lanes `L`. The default has portable ones; every
///   instruction set compiles the same lines for its registers (`arch/shared.rs`).
///
/// There is no other way to give the trait a method than a line here, and so none to forget one in a
/// forwarder: those that take all methods get it, and those that choose ([`crate::ExplicitBackend`])
/// don't compile until they chose. [`crate::backend_signatures`] is the list without groups, docs and
/// bodies, and [`crate::forward_backend`] does what most want of it.
///
/// A minor version may add methods with a default; the groups change with a major one only.
#[macro_export]
macro_rules! backend_methods {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! { [$($args)*]
        required {
            /// The name that `--backend` takes and that figures are reported under.
            fn name(&self) -> &'static str;
        }
        own {
            /// Bytes of scratch that [`Backend::matmul`] wants for weights of this format with `cols`
            /// inputs, `batch` rows of activations at most.
            fn matmul_scratch(&self, format: $crate::Format, cols: usize, batch: usize) -> usize {
                let _ = (format, cols, batch);
                0
            }

            /// True if this backend reads matrices of this format faster when they are
            /// [repacked](crate::repack). Of other formats it computes them by the scalar truth, or refuses
            /// them by a panic.
            fn repacks(&self, format: $crate::Format) -> bool {
                let _ = format;
                false
            }

            /// About how many products of an element with an element a core makes in a millisecond: as many
            /// as are asked for in one call of [`Backend::matmul`] at most, since a step checks for
            /// cancellation between two calls. The default is that of the scalar backend on a large computer.
            fn products_per_ms(&self) -> usize {
                1 << 19
            }

            /// `y[t][i] = sum_k w[rows.start + i][k] * x[t][k]`, for all rows of activations.
            ///
            /// Dense weights: sixteen strided partial sums of fused multiply-adds, then the halving tree.
            /// Quantised weights: one f32 accumulator, `acc + (dw * dx) * isum` over sub-blocks (codes that
            /// share a scale) in ascending order, unfused, `isum` being the exact integer sum of the
            /// products of codes; with minimums `acc + ((dw * dx) * isum + mw * (dx * xsum))`, `xsum` being
            /// the sum of the activations' codes.
            /// Ternary weights: the same without minimums, over groups of 256.
            ///
            /// # Panics
            /// If shapes don't fit, the activations are not of the kind that the format needs, or
            /// `scratch` is shorter than [`Backend::matmul_scratch`] or not aligned to 64 bytes.
            fn matmul(
                &self,
                w: &$crate::Matrix<'_>,
                x: &$crate::Activations<'_>,
                rows: core::ops::Range<usize>,
                y: &mut $crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                let _ = scratch;
                $crate::backend::check_matmul(w, x, &rows, y);
                $crate::backend::matmul_portable(w, x, rows, y);
            }

            /// The values of row `row` of `w`.
            ///
            /// # Panics
            /// If there is no such row or `out` is not as long as a row.
            fn dequantize_row(&self, w: &$crate::Matrix<'_>, row: usize, out: &mut [f32]) {
                $crate::backend::dequantize_portable(w, row, out);
            }
        }
        lanes {
            /// Quantises activations, 32 at a time.
            ///
            /// 8 bits: `d = max|x| / 127`, codes `x * (127 / max|x|)` rounded to nearest, ties to even.
            /// 16 bits (where `out` has a lower plane): the same with 32385, codes split into
            /// `255 * q + lo`. NaN, and blocks whose scale can't be
            /// inverted, give 0.
            ///
            /// # Panics
            /// If `x` is not whole blocks or `out` has another length.
            fn quantize(&self, x: &[f32], out: $crate::Q8RowMut<'_>) {
                let mut out = out;
                $crate::ops::quant::quantize::<L>(x, &mut out);
            }

            /// Quantises activations for ternary weights, 256 at a time (and what is left): `d = max|x| / 127`,
            /// codes `x * (127 / max|x|)` rounded to nearest, ties to even. With `per_row`, the maximum is
            /// that of all of `x`, and all scales are equal: BitNet's models are trained so. NaN, and where
            /// the scale can't be inverted, give 0.
            ///
            /// # Panics
            /// If the length of `x` is not a multiple of 128 or `out` has another length.
            fn quantize_wide(&self, x: &[f32], out: $crate::WideRowMut<'_>, per_row: bool) {
                let mut out = out;
                $crate::ops::ternary::quantize::<L>(x, &mut out, per_row);
            }

            /// `out = (x - mean) / sqrt(var + eps) * weight + bias`, mean and (biased) variance in two
            /// passes, each by sixteen strided partial sums and the halving tree.
            ///
            /// # Panics
            /// If lengths differ.
            fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
                $crate::ops::norm::layer_norm::<L>(x, weight, bias, eps, out);
            }

            /// `out = (x * r) * weight` with `r = 1 / sqrt(mean(x^2) + eps)`, the sum of squares by sixteen
            /// strided partial sums and the halving tree, unfused; of a row, or of one head of it.
            ///
            /// # Panics
            /// If lengths differ.
            fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                $crate::ops::norm::rms_norm::<L>(x, weight, eps, out);
            }

            /// `mean(x^2)`, the sum of squares as in [`Backend::rms_norm`].
            fn mean_square(&self, x: &[f32]) -> f32 {
                $crate::ops::norm::mean_square::<L>(x)
            }

            /// `x = max(x - (mean + cut * deviation), 0)`: what is left of the elements that stand out of
            /// the row. Mean and deviation (the root of the biased variance) in two passes, as in
            /// [`Backend::layer_norm`]; NaN stays.
            fn gaussian_topk(&self, x: &mut [f32], cut: f32) {
                $crate::ops::norm::gaussian_topk::<L>(x, cut);
            }

            /// `x = x * r` with `r = scale / sqrt(sum(x^2) + eps)`, the sum of squares by sixteen strided
            /// partial sums and the halving tree, unfused.
            fn l2_norm(&self, x: &mut [f32], eps: f32, scale: f32) {
                $crate::ops::norm::l2_norm::<L>(x, eps, scale);
            }

            /// Turns each head's first `table.len()` elements by the angles of its position (the rest stays):
            /// a pair `a, b` becomes `a * cos - b * sin, a * sin + b * cos`, unfused. `x` is whole heads of
            /// `head_dim` one after another, `table` as [`crate::rope_table`] makes it.
            ///
            /// # Panics
            /// If `x` is not whole heads, or the table is longer than a head or of odd length.
            fn rope(&self, x: &mut [f32], head_dim: usize, table: &[f32], kind: $crate::RopeKind) {
                $crate::ops::rope::rope(x, head_dim, table, kind);
            }

            /// `y = y + x`.
            ///
            /// # Panics
            /// If lengths differ.
            fn add(&self, y: &mut [f32], x: &[f32]) {
                $crate::ops::zip::<L>(y, x, |y, x| $crate::lanes::Float::add(y, x));
            }

            /// `y = y * x`.
            ///
            /// # Panics
            /// If lengths differ.
            fn mul(&self, y: &mut [f32], x: &[f32]) {
                $crate::ops::zip::<L>(y, x, |y, x| $crate::lanes::Float::mul(y, x));
            }

            /// `x = x * factor`.
            fn scale(&self, x: &mut [f32], factor: f32) {
                let factor = <L as $crate::lanes::Float>::splat(factor);
                $crate::ops::map::<L>(x, |x| $crate::lanes::Float::mul(x, factor));
            }

            /// `x = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, GELU in its tanh form (Hendrycks and
            /// Gimpel, 2016). Over all f32 less than 2.05 ULP from the exact value of this formula where
            /// `x > 0`, and less than 5.2e-8 elsewhere; NaN for minus infinity, as the formula has it.
            fn gelu(&self, x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::gelu(x));
            }

            /// `gate = gelu(gate) * up`, GELU as [`Backend::gelu`] has it.
            ///
            /// # Panics
            /// If lengths differ.
            fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::lanes::Float::mul($crate::ops::math::gelu(g), u));
            }

            /// `x = x / (1 + exp(-x))`, SiLU. Over all f32 above -88.72 less than 2.5 ULP from the exact
            /// value; -0 below, where that is above -2.7e-37; NaN for minus infinity, as the formula has it.
            fn silu(&self, x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::silu(x));
            }

            /// `gate = silu(gate) * up`, SiLU as [`Backend::silu`] has it.
            ///
            /// # Panics
            /// If lengths differ.
            fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::lanes::Float::mul($crate::ops::math::silu(g), u));
            }

            /// `x = 1 / (1 + exp(-x))`, the logistic function. Over all f32 less than 2.5 ULP from the
            /// exact value, where that is a normal number; NaN stays.
            fn sigmoid(&self, x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::sigmoid(x));
            }

            /// `gate = (u + 1) * (g / (1 + exp(-(alpha * g))))` with `g = min(gate, limit)` and
            /// `u = min(max(up, -limit), limit)`; NaN stays.
            ///
            /// # Panics
            /// If lengths differ.
            fn swiglu_clamped(&self, gate: &mut [f32], up: &[f32], alpha: f32, limit: f32) {
                let (alpha, limit) = (<L as $crate::lanes::Float>::splat(alpha), <L as $crate::lanes::Float>::splat(limit));
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::ops::math::swiglu_clamped(g, u, alpha, limit));
            }

            /// `x = cap * tanh(x / cap)`, which bounds `x` by `cap` and keeps what is small beside it; with a
            /// cap of 1 it is the hyperbolic tangent, over all f32 less than 1.5 ULP from the exact value;
            /// NaN stays.
            fn softcap(&self, x: &mut [f32], cap: f32) {
                let cap = <L as $crate::lanes::Float>::splat(cap);
                $crate::ops::map::<L>(x, |x| $crate::ops::math::softcap(x, cap));
            }

            /// `x = max(x, 0)^2`, squared ReLU; NaN stays.
            fn relu2(&self, x: &mut [f32]) {
                $crate::ops::map::<L>(x, |x| $crate::ops::math::relu2(x));
            }

            /// `gate = relu2(gate) * up`.
            ///
            /// # Panics
            /// If lengths differ.
            fn relu2_mul(&self, gate: &mut [f32], up: &[f32]) {
                $crate::ops::zip::<L>(gate, up, |g, u| $crate::lanes::Float::mul($crate::ops::math::relu2(g), u));
            }

            /// `x = exp(x - m) * (1 / sum exp(x - m))` with `m` the largest element, `exp` as [`crate::exp`]
            /// has it, and the sum by sixteen strided partial sums and the halving tree.
            ///
            /// All elements become NaN if one of them is NaN or plus infinity, or if all are minus infinity.
            fn softmax(&self, x: &mut [f32]) {
                $crate::ops::softmax::softmax::<L>(x);
            }

            /// One step of a depthwise convolution over the last `K` inputs: with `w` the length of `out`,
            /// `taps` and `inputs` are `K` rows of `w`, and `out[c] = taps[0][c] * inputs[0][c] +
            /// taps[1][c] * inputs[1][c] + ...`, ascending, multiply and add unfused.
            ///
            /// # Panics
            /// If `taps` and `inputs` are not the same number of rows, at least one.
            fn causal_conv(&self, taps: &[f32], inputs: &[f32], out: &mut [f32]) {
                $crate::ops::conv::causal_conv::<L>(taps, inputs, out);
            }

            /// `x = exp(rate * softplus(x + bias))`, the factor by which a state decays; softplus as
            /// [`crate::softplus`] has it.
            ///
            /// # Panics
            /// If lengths differ.
            fn decay(&self, x: &mut [f32], bias: &[f32], rate: &[f32]) {
                $crate::ops::zip2::<L>(x, bias, rate, |x, b, a| {
                    let x = $crate::lanes::Float::add(x, b);
                    $crate::ops::math::exp($crate::lanes::Float::mul(a, $crate::ops::math::softplus(x)))
                });
            }

            /// The gated delta rule of one head for some columns of its state, token by token. In each
            /// column `c`: `t[i] = decay * s[i]`, `r = sum_i t[i] k[i]`, `d = beta * (v[c] - r)`,
            /// `s[i] = t[i] + k[i] * d`, `out[c] = sum_i s[i] q[i]`: both sums and the new state by fused
            /// multiply-adds, rows `i` ascending, the sums from 0.
            ///
            /// The state lies in panels of sixteen columns: as many times as there are rows, sixteen
            /// floats. In the last panel there may be fewer columns, and the rest is anything. Before the first token it
            /// is what `start` says, and then it is in `state`. The bits of a column depend neither on the
            /// other columns nor on where the tokens are cut.
            ///
            /// # Panics
            /// If shapes differ.
            fn delta_rule(
                &self,
                start: $crate::DeltaStart<'_>,
                state: &mut [f32],
                x: &$crate::DeltaInputs<'_>,
                out: &mut $crate::Tile<'_>,
            ) {
                $crate::ops::delta::delta_rule::<L>(start, state, x, out);
            }

            /// The index of the largest element, the first of several. NaN is never the largest; 0 where
            /// there is nothing else.
            fn argmax(&self, x: &[f32]) -> usize {
                $crate::ops::select::argmax::<L>(x)
            }

            /// Selects the `out.len()` largest elements, with their indices: larger ones first, lower
            /// indices among equals (0 and -0 are equal). NaN is never selected, but told of.
            ///
            /// # Panics
            /// If `x` has 2^32 elements or more.
            fn top_k(&self, x: &[f32], out: &mut [(u32, f32)]) -> $crate::TopK {
                $crate::ops::select::top_k::<L>(x, out)
            }

            /// Stores the key of `position` in the cache of a head, in its [slot](crate::KvLayout::slot):
            /// in a cache shorter than the text it takes the place of an earlier one.
            ///
            /// # Panics
            /// If `keys` or `key` don't have the layout's sizes, or it has no slots.
            fn store_key(&self, layout: &$crate::KvLayout, keys: &mut [u8], position: usize, key: &[f32]) {
                $crate::kv::store_key::<L>(layout, keys, position, key);
            }

            /// Stores the value of `position` in the cache of a head, in its slot.
            ///
            /// # Panics
            /// As [`Backend::store_key`].
            fn store_value(&self, layout: &$crate::KvLayout, values: &mut [u8], position: usize, value: &[f32]) {
                $crate::kv::store_value::<L>(layout, values, position, value);
            }

            /// Causal attention of the heads that share keys and values: a row of `q` and of `out` has one
            /// or more heads one after another, each as wide as the cache's. Query `t` stands at
            /// `position + t` and sees the positions up to its own; with a window of `w`, the last `w` of
            /// them. `out[t] = sum_j softmax(scale * q[t].k[j]) v[j]` for each head, block by block as
            /// `ops/attend.rs` defines it, with what [`AttentionParams`](crate::AttentionParams) adds to
            /// it; a head's bits don't depend on the other heads and rows, nor on the cache's capacity.
            ///
            /// Positions may be beyond the cache's capacity where there is a window and all that these
            /// queries see fits in together: `n + w - 1` positions for `n` queries. The cache is a ring then.
            ///
            /// # Panics
            /// If widths differ, or positions are beyond the cache's capacity (without a window, or
            /// with `n + w - 1` above the capacity), or there are sinks, but not one for each head.
            // Inlined, what a firmware knows of its cache leaves the other formats out; elsewhere it is
            // compiled once, and not for each caller.
            #[cfg_attr(target_os = "none", inline(always))]
            #[cfg_attr(not(target_os = "none"), inline(never))]
            fn attend(
                &self,
                q: &$crate::DenseActivations<'_>,
                kv: &$crate::KvHead<'_>,
                position: usize,
                params: &$crate::AttentionParams<'_>,
                out: &mut $crate::Tile<'_>,
            ) {
                const SHARING: usize = <L as $crate::lanes::Lanes>::QUERIES;
                const HELD: usize = <L as $crate::lanes::Lanes>::HELD;
                $crate::ops::attend::attend::<L, SHARING, HELD>(q, kv, position, params, out);
            }
        }
        }
    };
}

macro_rules! declare {
    (
        []
        required { $($(#[$rm:meta])* fn $r:ident(&self) -> $rr:ty;)* }
        own { $(
            $(#[$m:meta])*
            fn $name:ident(&self $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? { $($body:tt)* }
        )* }
        lanes { $(
            $(#[$lm:meta])*
            fn $l:ident(&self $(, $larg:ident: $lty:ty)* $(,)?) $(-> $lret:ty)? { $($lbody:tt)* }
        )* }
    ) => {
        /// The operations of a transformer for an instruction set, or for hardware of a third party.
        ///
        /// Every operation has a default in portable Rust, which defines its result; an implementation
        /// overrides those that it computes faster, and must give the same bits. Shapes are checked by
        /// panics, since they come from verified plans, never from input.
        ///
        /// ```
        /// use teff_kernels::{Backend, Cpu, Scalar};
        ///
        /// /// A backend with an addition of its own, and the defaults for the rest.
        /// struct Mine;
        /// impl Backend for Mine {
        ///     fn name(&self) -> &'static str {
        ///         "mine"
        ///     }
        ///     fn add(&self, y: &mut [f32], x: &[f32]) {
        ///         y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        ///     }
        /// }
        ///
        /// let run = |backend: &dyn Backend| {
        ///     let mut y = [-1.5, 0.25, 3.0];
        ///     backend.add(&mut y, &[0.1; 3]);
        ///     backend.softmax(&mut y);
        ///     y.map(f32::to_bits)
        /// };
        /// assert_eq!(run(&Mine), run(&Scalar));
        /// assert_eq!(run(&Cpu::best()), run(&Scalar));
        /// ```
        pub trait Backend: Sync {
            $(
                $(#[$rm])*
                fn $r(&self) -> $rr;
            )*
            $(
                $(#[$m])*
                fn $name(&self $(, $arg: $ty)*) $(-> $ret)? { $($body)* }
            )*
            $(
                $(#[$lm])*
                fn $l(&self $(, $larg: $lty)*) $(-> $lret)? {
                    #[allow(dead_code)] // of what needs no lanes
                    type L = Portable;
                    $($lbody)*
                }
            )*
        }
    };
}
backend_methods!([declare]);

/// The values of a row, in scalar code.
pub(crate) fn dequantize_portable(w: &Matrix<'_>, row: usize, out: &mut [f32]) {
    if w.is_repacked() {
        dequantize_repacked(w, row, out);
    } else {
        dequantize_row(w.format(), &w.bytes()[row * w.row_bytes()..][..w.row_bytes()], out);
    }
    if w.format() == Format::I2_S {
        ops::map::<Portable>(out, |x| Portable::splat(w.scale()).mul(x));
    }
    if let Some(factor) = w.factor(row) {
        ops::map::<Portable>(out, |x| Portable::splat(factor).mul(x));
    }
}

/// The values of a row of a repacked matrix.
fn dequantize_repacked(w: &Matrix<'_>, row: usize, out: &mut [f32]) {
    assert_eq!(w.cols(), out.len(), "a row");
    crate::blocks::for_codes!(w.format(), B => {
        for (b, out) in out.chunks_exact_mut(<B as Block>::LEN).enumerate() {
            <B as Block>::dequantize(&[w.block::<B>(row, b)], out);
        }
    }, dense => unreachable!("not repacked"));
}

/// The shapes that every `matmul` needs.
pub(crate) fn check_matmul(w: &Matrix<'_>, x: &Activations<'_>, rows: &Range<usize>, y: &Tile<'_>) {
    assert!(x.cols() == w.cols(), "the activations are not as wide as the weights");
    assert!(rows.start <= rows.end && rows.end <= w.rows(), "no such rows");
    assert!(y.n() == x.n() && y.width() == rows.len(), "the output has another shape");
    assert!(x.kind() == w.format().activations(), "activations of the other kind");
}

/// The scalar truth of a product.
pub(crate) fn matmul_portable(
    w: &Matrix<'_>,
    x: &Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    crate::entered::enter!("scalar", "product");
    use crate::blocks::{for_codes, for_dense, for_ternary};
    match x {
        Activations::Wide(x) => {
            for_ternary!(w.format(), B => ops::ternary::matmul::<B>(w, x, rows, y),
            others => unreachable!("checked by check_matmul"))
        }
        Activations::Q8(x) => for_codes!(w.format(), B => ops::quant::matmul::<B>(w, x, rows, y),
            dense => unreachable!("checked by check_matmul")),
        Activations::Dense(x) => for_dense!(w.format(),
            B => ops::dense::matmul::<Portable, B, 1, 1, 1>(w, x, rows, y),
            others => unreachable!("checked by check_matmul")),
    }
}

/// Portable Rust, on any target: the truth that the others are tested against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scalar;

impl Backend for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }
}
