//! Layers: what a layer is, and how it becomes operations. A file for each kind.
//!
//! A layer is a mixer (attention, or something recurrent) and a feed-forward part, each with a norm
//! before it and added to the residual stream:
//!
//! ```text
//! x = x + residual * [post_norm](mixer(norm(x)))
//! x = x + residual * [post_norm](ffn(norm(x)))
//! ```

use teff_kernels::{KvFormat, KvLayout};

use crate::plan::BufferId;
use crate::plan::PlanError;
use crate::plan::build::{Builder, Stream};
use crate::spec::{LayerRole, MAX_SIZE, Spec, SpecError, inconsistent};

mod attention;
mod dense;
mod experts;
mod short_conv;

pub use attention::Attention;
pub use dense::Dense;
pub use experts::Experts;
pub(crate) use experts::{MAX_EXPERTS, MAX_USED};
pub use short_conv::ShortConv;

/// A layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layer {
    /// The part that looks at earlier tokens.
    pub mixer: Mixer,
    /// The part that looks at one token alone.
    pub ffn: FeedForward,
    /// Norms around both.
    pub norms: Norms,
    /// Factors.
    pub scales: Scales,
}

/// The part of a layer that looks at earlier tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Mixer {
    /// Attention to the keys and values of earlier tokens.
    Attention(Attention),
    /// A gated convolution over the last few tokens.
    ShortConv(ShortConv),
}

/// The part of a layer that looks at one token alone.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum FeedForward {
    /// One network for all tokens.
    Dense(Dense),
    /// Several, of which each token chooses a few.
    Experts(Experts),
}

/// Norms around a layer's parts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norms {
    /// The norm before each part.
    pub before: Norm,
    /// A root-mean-square norm of each part's output, before it is added to the residual stream.
    pub post: bool,
}

/// A normalisation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norm {
    /// Which one.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
}

/// Kinds of normalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NormKind {
    /// Mean and variance, with weight and bias.
    Layer,
    /// Root mean square, with weight.
    Rms,
}

/// Factors of a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scales {
    /// Factor of each part's output before it is added to the residual stream.
    pub residual: f32,
}

/// Function of a feed-forward part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Activation {
    /// GELU in its tanh form.
    GeluTanh,
    /// SiLU.
    Silu,
    /// Squared ReLU.
    Relu2,
}

/// Memory that a sequence needs for a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayerState {
    /// None.
    None,
    /// Keys and values of earlier positions: all of them, or those of a window.
    Kv {
        /// Heads of keys and values.
        heads: u32,
        /// Elements of a key or a value of one head.
        head_dim: u32,
        /// Positions that a query sees; `None` for all.
        window: Option<u32>,
    },
    /// The keys and values of another layer.
    SharedKv {
        /// That layer.
        layer: u32,
    },
    /// A fixed number of bytes, however long the text is.
    Fixed {
        /// Bytes.
        bytes: u64,
    },
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
    /// A layer of one head of one element: for room that is to be filled.
    pub const EMPTY: Layer = Layer {
        mixer: Mixer::Attention(Attention::EMPTY),
        ffn: FeedForward::Dense(Dense {
            inner: 1,
            gated: false,
            activation: Activation::Silu,
            bias: false,
            sub_norm: false,
        }),
        norms: Norms { before: Norm { kind: NormKind::Rms, eps: 0.0 }, post: false },
        scales: Scales { residual: 1.0 },
    };

    /// The attention, where the mixer is one.
    #[must_use]
    pub const fn attention(&self) -> Option<&Attention> {
        if let Mixer::Attention(a) = &self.mixer { Some(a) } else { None }
    }

    /// The short convolution, where the mixer is one.
    #[must_use]
    pub const fn short_conv(&self) -> Option<&ShortConv> {
        if let Mixer::ShortConv(c) = &self.mixer { Some(c) } else { None }
    }

    /// The dense feed-forward part, where it is one.
    #[must_use]
    pub const fn dense(&self) -> Option<&Dense> {
        if let FeedForward::Dense(d) = &self.ffn { Some(d) } else { None }
    }

    /// The experts, where the feed-forward part has them.
    #[must_use]
    pub const fn experts(&self) -> Option<&Experts> {
        if let FeedForward::Experts(e) = &self.ffn { Some(e) } else { None }
    }

    /// The memory that a sequence needs for the layer, in a model of this width.
    #[must_use]
    pub fn state(&self, width: u32) -> LayerState {
        match &self.mixer {
            Mixer::Attention(a) => a.state(),
            Mixer::ShortConv(c) => c.state(width),
        }
    }

    /// Checks the layer's sizes by themselves and against the model's.
    pub(crate) fn validate(&self, spec: &Spec<'_>) -> Result<(), SpecError> {
        self.norms.before.validate()?;
        if !self.scales.residual.is_finite() {
            return inconsistent("the factor of the residual stream must be finite");
        }
        match &self.mixer {
            Mixer::Attention(a) => a.validate(spec)?,
            Mixer::ShortConv(c) => c.validate()?,
        }
        let sub_norms = match &self.ffn {
            FeedForward::Dense(d) => d.validate()?,
            FeedForward::Experts(e) => e.validate()?,
        } && self.attention().is_none_or(|a| a.sub_norm);
        if spec.token_scales && !sub_norms {
            // Else inputs are written by several workers, and none has seen a whole token.
            return inconsistent("a scale for a whole token needs norms before the last products");
        }
        Ok(())
    }

    /// Checks what depends on the layer's place among the others.
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

    /// The operations of layer `l`.
    pub(crate) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        l: u32,
        x: Stream,
    ) -> Result<Stream, PlanError> {
        let last = l + 1 == b.spec.layers.len();
        let mixed = match &self.mixer {
            Mixer::Attention(a) => a.build(b, self, l, x)?,
            Mixer::ShortConv(c) => c.build(b, self, l, x)?,
        };
        // Past the last layer's mixer, only wanted tokens go on.
        let x = if last { b.select_rows(x)? } else { x };
        b.barrier()?;
        let out = mixed.sub_norm(b, self, l)?;
        b.residual(self, l, (mixed.product, LayerRole::AttnPostNorm), out, x)?;
        match &self.ffn {
            FeedForward::Dense(d) => d.build(b, self, l, x)?,
            FeedForward::Experts(e) => e.build(b, self, l, x)?,
        }
        Ok(x)
    }
}

/// Outputs of a mixer or of a feed-forward part before its last product.
pub(crate) struct Mixed {
    pub(crate) out: BufferId,
    pub(crate) cols: usize,
    pub(crate) product: LayerRole,
    pub(crate) norm: Option<LayerRole>,
    pub(crate) rows: crate::plan::RowCount,
}

impl Mixed {
    /// The inputs of the last product: normalised where the layer has a norm there.
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

/// Bound of the sizes that shapes are made of.
pub(crate) fn in_range(sizes: &[u32]) -> bool {
    sizes.iter().all(|&n| (1..=MAX_SIZE).contains(&n))
}

/// Shape of a head's cache in a plan with these options.
pub(crate) fn kv_layout(format: KvFormat, head_dim: u32, capacity: usize) -> KvLayout {
    KvLayout { format, head_dim: head_dim as usize, capacity }
}
