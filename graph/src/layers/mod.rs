//! Layers and their translation into operations, with one file for each kind.
//!
//! A layer is a mixer (attention, or something recurrent) and a feed-forward part, each added to the
//! residual stream, with a norm before it, after it, or both:
//!
//! ```text
//! x = x + residual * [post_norm](mixer([norm](x)))
//! x = x + residual * [post_norm](ffn([norm](x)))
//! ```
//!
//! Some layers end with inputs of their own, added in the same way, and with a factor of all of `x`.

use teff_kernels::{KvFormat, KvLayout};

use crate::plan::BufferId;
use crate::plan::PlanError;
use crate::plan::build::{Builder, Stream};
use crate::spec::{LayerRole, MAX_SIZE, Spec, SpecError, inconsistent};

mod attention;
mod delta_net;
mod dense;
mod dense_and_experts;
mod experts;
mod input;
mod short_conv;
mod streams;

pub use attention::{Attention, Temperature};
pub use delta_net::{DeltaNet, ValueHeads};
pub use dense::Dense;
pub use dense_and_experts::DenseAndExperts;
pub use experts::{Experts, Router, SharedExpert};
pub(crate) use experts::{MAX_EXPERTS, MAX_USED};
pub use input::LayerInput;
pub use short_conv::ShortConv;
pub use streams::Streams;

/// One layer of a model.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layer {
    /// Part that mixes information across tokens.
    pub mixer: Mixer,
    /// Part that works on each token by itself.
    pub ffn: FeedForward,
    /// Norms around both parts.
    pub norms: Norms,
    /// Inputs that the layer has of its own; `None` if it has none.
    pub input: Option<LayerInput>,
    /// Residual streams, if the model has several.
    pub streams: Option<Streams>,
    /// Scale factors.
    pub scales: Scales,
}

/// Part of a layer that mixes information across tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Mixer {
    /// Attention over the keys and values of earlier tokens.
    Attention(Attention),
    /// Gated convolution over the last few tokens.
    ShortConv(ShortConv),
    /// Linear attention by the gated delta rule.
    DeltaNet(DeltaNet),
}

impl Mixer {
    /// True if the inputs of its first product have 16 bits where its weights would take 8, apart from
    /// those of queries and keys, which have them always.
    pub(crate) fn has_fine_inputs(&self) -> bool {
        matches!(self, Mixer::ShortConv(conv) if conv.fine)
    }
}

/// Part of a layer that works on each token by itself.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum FeedForward {
    /// One network for all tokens.
    Dense(Dense),
    /// Several networks, a few of which are chosen for each token.
    Experts(Experts),
    /// Both side by side.
    DenseAndExperts(DenseAndExperts),
}

/// Norms around the parts of a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norms {
    /// Norm before each part; its epsilon is also that of the other norms of the layer.
    pub before: Norm,
    /// True if the input of each part is normalised by `before`.
    pub pre: bool,
    /// True if the output of each part is RMS-normalised before it is added to the residual stream.
    pub post: bool,
}

/// Normalisation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norm {
    /// Kind of norm.
    pub kind: NormKind,
    /// Epsilon, added to the variance.
    pub eps: f32,
}

/// Kinds of normalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NormKind {
    /// Layer norm: mean and variance, with weight and bias.
    Layer,
    /// RMS norm: root mean square, with weight.
    Rms,
}

/// Scale factors of a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scales {
    /// Scale of the output of each part before it is added to the residual stream.
    pub residual: f32,
    /// True if the residual stream is multiplied by a number of the layer after its last part.
    pub output: bool,
}

/// Activation function of a feed-forward part.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Activation {
    /// GELU in its tanh form.
    GeluTanh,
    /// SiLU.
    Silu,
    /// Squared ReLU.
    Relu2,
    /// SwiGLU with clamped inputs, of gated parts only: `(u + 1) g sigmoid(alpha g)` with the gate
    /// `g` at most `limit`, and `u`, which it is multiplied with, between `-limit` and `limit`.
    SwigluClamped {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Bound of the inputs.
        limit: f32,
    },
}

/// Memory that a sequence needs for one layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayerState {
    /// No memory.
    None,
    /// Keys and values of earlier positions, of all or of those in a window.
    Kv {
        /// Heads of keys and values.
        heads: u32,
        /// Head dimension.
        head_dim: u32,
        /// Positions that a query attends to; `None` for all.
        window: Option<u32>,
    },
    /// Keys and values of another layer.
    SharedKv {
        /// Number of that layer.
        layer: u32,
    },
    /// Fixed number of bytes, whatever the length of the text.
    Fixed {
        /// Size in bytes.
        bytes: u64,
    },
}

impl Activation {
    /// Checks its numbers.
    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        match *self {
            Activation::SwigluClamped { alpha, limit }
                if !alpha.is_finite() || !limit.is_finite() || limit < 0.0 =>
            {
                inconsistent("an activation's numbers must be finite, and its limit not negative")
            }
            _ => Ok(()),
        }
    }

    /// True if its numbers are those of an activation.
    pub(crate) fn is_valid(&self) -> bool {
        self.validate().is_ok()
    }
}

impl Norms {
    /// True if the norms before the parts have biases.
    pub(crate) const fn has_bias(&self) -> bool {
        self.pre && matches!(self.before.kind, NormKind::Layer)
    }
}

impl Norm {
    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        if !self.eps.is_finite() || self.eps < 0.0 {
            return inconsistent("a norm's epsilon must be finite and not negative");
        }
        Ok(())
    }
}

impl Layer {
    /// Placeholder of one head of one element, for slices that are filled later.
    pub const EMPTY: Layer = Layer {
        mixer: Mixer::Attention(Attention::EMPTY),
        ffn: FeedForward::Dense(Dense {
            inner: 1,
            gated: false,
            fused: false,
            activation: Activation::Silu,
            bias: false,
            sub_norm: false,
            sparsity: None,
        }),
        norms: Norms { before: Norm { kind: NormKind::Rms, eps: 0.0 }, pre: true, post: false },
        input: None,
        streams: None,
        scales: Scales { residual: 1.0, output: false },
    };

    /// Attention of the layer, if that is its mixer.
    #[must_use]
    pub const fn attention(&self) -> Option<&Attention> {
        if let Mixer::Attention(a) = &self.mixer { Some(a) } else { None }
    }

    /// Short convolution of the layer, if that is its mixer.
    #[must_use]
    pub const fn short_conv(&self) -> Option<&ShortConv> {
        if let Mixer::ShortConv(c) = &self.mixer { Some(c) } else { None }
    }

    /// Linear attention of the layer, if that is its mixer.
    #[must_use]
    pub const fn delta_net(&self) -> Option<&DeltaNet> {
        if let Mixer::DeltaNet(d) = &self.mixer { Some(d) } else { None }
    }

    /// Dense feed-forward part of the layer, if it has one.
    #[must_use]
    pub const fn dense(&self) -> Option<&Dense> {
        match &self.ffn {
            FeedForward::Dense(d) => Some(d),
            FeedForward::DenseAndExperts(both) => Some(&both.dense),
            FeedForward::Experts(_) => None,
        }
    }

    /// Experts of the layer, if it has them.
    #[must_use]
    pub const fn experts(&self) -> Option<&Experts> {
        match &self.ffn {
            FeedForward::Experts(e) => Some(e),
            FeedForward::DenseAndExperts(both) => Some(&both.experts),
            FeedForward::Dense(_) => None,
        }
    }

    /// True if the layer has a dense part and experts side by side.
    #[must_use]
    pub const fn has_both(&self) -> bool {
        matches!(self.ffn, FeedForward::DenseAndExperts(_))
    }

    /// Expert that all tokens take, if the layer has one.
    #[must_use]
    pub const fn shared_expert(&self) -> Option<&SharedExpert> {
        match &self.ffn {
            FeedForward::Experts(Experts { shared: Some(shared), .. }) => Some(shared),
            _ => None,
        }
    }

    /// Memory that a sequence needs for the layer in a model of this width.
    #[must_use]
    pub fn state(&self, width: u32) -> LayerState {
        match &self.mixer {
            Mixer::Attention(a) => a.state(),
            Mixer::ShortConv(c) => c.state(width),
            Mixer::DeltaNet(d) => d.state(),
        }
    }

    /// Checks the layer's sizes, by themselves and against the model's.
    pub(crate) fn validate(&self, spec: &Spec<'_>) -> Result<(), SpecError> {
        self.norms.before.validate()?;
        if !self.scales.residual.is_finite() {
            return inconsistent("the factor of the residual stream must be finite");
        }
        match &self.mixer {
            Mixer::Attention(a) => a.validate(spec)?,
            Mixer::ShortConv(c) => c.validate()?,
            Mixer::DeltaNet(d) => d.validate()?,
        }
        let sub_norms = match &self.ffn {
            FeedForward::Dense(d) => d.validate()?,
            FeedForward::Experts(e) => e.validate(spec.width)?,
            FeedForward::DenseAndExperts(both) => both.validate(self, spec.width)?,
        } && self.attention().is_some_and(|a| a.sub_norm);
        if let Some(input) = &self.input {
            input.validate(spec)?;
        }
        if self.streams.map(|s| s.count) != spec.streams {
            return inconsistent("a layer has other residual streams than the model");
        }
        if let Some(streams) = &self.streams {
            streams.validate(self, spec)?;
        }
        if self.scales.output && !self.norms.post && self.input.is_none() {
            return inconsistent(
                "a factor of the residual stream needs a norm after the last part",
            );
        }
        if spec.token_scales && (!sub_norms || self.input.is_some()) {
            // Otherwise several workers write the inputs, and none of them sees a whole token.
            return inconsistent("a scale for a whole token needs norms before the last products");
        }
        Ok(())
    }

    /// Checks everything that depends on the layer's position among the others.
    pub(crate) fn validate_at(&self, spec: &Spec<'_>, l: u32) -> Result<(), SpecError> {
        let LayerState::SharedKv { layer } = self.state(spec.width) else { return Ok(()) };
        if layer >= l {
            return inconsistent("a layer shares the keys and values of an earlier one");
        }
        let (own, of) = (self.attention(), spec.layers.get(layer));
        match (own, of.attention()) {
            (Some(own), Some(of))
                if of.has_kv()
                    && (own.kv_heads, own.head_dim) == (of.kv_heads, of.head_dim)
                    && of.window.is_none_or(|w| own.window.is_some_and(|own| own <= w)) =>
            {
                Ok(())
            }
            _ => inconsistent("a layer shares keys and values that another one has not"),
        }
    }

    /// Builds the operations of layer `l`.
    pub(crate) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        l: u32,
        x: Stream,
    ) -> Result<Stream, PlanError> {
        if let Some(streams) = &self.streams {
            return streams.build(b, self, l, x);
        }
        let last = l + 1 == b.spec.layers.len();
        let mixed = self.build_mixer(b, l, x)?;
        // After the mixer of the last layer, only rows whose outputs are wanted are needed.
        let x = if last { b.select_rows(x)? } else { x };
        b.barrier()?;
        let out = mixed.sub_norm(b, self, l)?;
        b.residual(self, l, (mixed.product, LayerRole::AttnPostNorm), out, x)?;
        self.build_ffn(b, l, x)?;
        if let Some(input) = &self.input {
            input.build(b, self, l, x)?;
        }
        Ok(x)
    }

    /// Builds the mixer but for its last product.
    fn build_mixer(&self, b: &mut Builder<'_, '_>, l: u32, x: Stream) -> Result<Mixed, PlanError> {
        match &self.mixer {
            Mixer::Attention(a) => a.build(b, self, l, x),
            Mixer::ShortConv(c) => c.build(b, self, l, x),
            Mixer::DeltaNet(d) => d.build(b, self, l, x),
        }
    }

    /// Builds the feed-forward part.
    fn build_ffn(&self, b: &mut Builder<'_, '_>, l: u32, x: Stream) -> Result<(), PlanError> {
        match &self.ffn {
            FeedForward::Dense(d) => d.build(b, self, l, x),
            FeedForward::Experts(e) => e.build(b, self, l, x),
            FeedForward::DenseAndExperts(both) => both.build(b, self, l, x),
        }
    }

    /// Norm after the last part of the layer.
    pub(crate) const fn last_norm(&self) -> LayerRole {
        if self.input.is_some() { LayerRole::InputPostNorm } else { LayerRole::FfnPostNorm }
    }
}

/// Outputs of a mixer or of a feed-forward part, before the last product.
pub(crate) struct Mixed {
    pub(crate) out: BufferId,
    pub(crate) cols: usize,
    pub(crate) product: LayerRole,
    pub(crate) norm: Option<LayerRole>,
    pub(crate) rows: crate::plan::RowCount,
}

impl Mixed {
    /// Inputs of the last product, normalised if the layer has a norm there.
    pub(crate) fn sub_norm(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
    ) -> Result<BufferId, PlanError> {
        let Some(norm) = self.norm else { return Ok(self.out) };
        let w = b.id(l, self.product);
        let before = Norm { kind: NormKind::Rms, ..layer.norms.before };
        let [out] = b.norm((self.out, self.cols), self.rows, (before, b.id(l, norm), None), [w])?;
        Ok(out)
    }
}

/// True if all sizes that shapes are made of are within bounds.
pub(crate) fn in_range(sizes: &[u32]) -> bool {
    sizes.iter().all(|&n| (1..=MAX_SIZE).contains(&n))
}

/// Layout of one head's cache in a plan with these options.
pub(crate) fn kv_layout(format: KvFormat, head_dim: u32, capacity: usize) -> KvLayout {
    KvLayout { format, head_dim: head_dim as usize, capacity }
}
