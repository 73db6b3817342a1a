//! Models as plain data: hyper-parameters, layers, and the tensors that follow from them.

use core::fmt;

use crate::layers::{Layer, Norm, NormKind};
use crate::meta::MetaError;
use crate::{List, TensorId};

mod roles;
mod room;
mod rope;

pub use roles::{HfForm, HfName, LayerRole, Role, Slot, TensorKind};
pub use room::{Layers, MAX_KINDS, MAX_LAYERS, MAX_ROPES, SpecRoom};
pub(crate) use rope::yarn_magnitude;
pub use rope::{Rope, RopeScaling};

/// Hyper-parameters and layers of a decoder-only transformer.
///
/// A family reads one from a model's metadata; nothing after that depends on the family. Lists are
/// borrowed from the caller (or from a `static`), or owned with the `alloc` feature.
///
/// ```
/// use teff_graph::family::gpt2;
/// use teff_graph::{LayerRole, Role};
///
/// let spec = gpt2::small();
/// assert_eq!((spec.layers.len(), spec.parameters()), (12, 124_439_808));
///
/// // Tensors are numbered; each has a role and a shape.
/// let qkv = spec.id(Role::Layer(3, LayerRole::AttnQkv));
/// let slot = spec.slot(qkv).unwrap();
/// assert_eq!((slot.rows, slot.cols), (3 * 768, 768));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Spec<'p> {
    /// Architecture name, as GGUF has it.
    pub arch: &'static str,
    /// Vocabulary size: rows of the embedding and of the head.
    pub vocab: u32,
    /// Context length that the model was trained for.
    pub context: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Embedding.
    pub embed: Embed,
    /// Layers.
    pub layers: Layers<'p>,
    /// Rotary embeddings, which layers refer to by index.
    pub ropes: List<'p, Rope>,
    /// Norm before the head.
    pub norm: Norm,
    /// Source of the head's weights.
    pub head: Head,
    /// Divisor of the logits.
    pub logit_divisor: f32,
    /// Soft bound of the logits: they become `cap * tanh(logits / cap)`.
    pub logit_cap: Option<f32>,
    /// Inputs that each layer gets of a token, beside the residual stream.
    pub per_layer: Option<PerLayer>,
    /// Number of residual streams, of which each layer works on one
    /// ([`Streams`](crate::layers::Streams)); `None` where there is just one.
    pub streams: Option<u32>,
    /// True if the int8 inputs of ternary weights have one scale for a whole token, as in models
    /// that were trained that way.
    pub token_scales: bool,
}

/// Conversion of tokens into the residual stream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Embed {
    /// Scale of the rows.
    pub scale: f32,
    /// True if a learned vector for each position is added.
    pub positions: bool,
}

/// Inputs of layers: of each token, `width` numbers for every layer.
///
/// They are `(e + p) / sqrt(2)`, with `e` the token's row of an embedding of its own times
/// `sqrt(width)`, and `p` a product of the residual stream as the embedding gives it, times `1 /
/// sqrt(spec.width)`, RMS-normalised for each layer. A layer uses its share by
/// [`LayerInput`](crate::layers::LayerInput).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerLayer {
    /// Numbers for one layer.
    pub width: u32,
    /// Rows of the embedding; tokens beyond have its first row.
    pub vocab: u32,
}

/// Source of the head's weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Head {
    /// The embedding, shared with the head.
    Tied,
    /// A separate matrix.
    Own,
    /// A copy of the embedding in another format, which adds no parameters to the model.
    Copy,
}

/// Error of hyper-parameters that describe no supported model.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum SpecError {
    /// A key is missing or has the wrong type.
    Meta(MetaError),
    /// A setting has a value that is not supported.
    Unsupported {
        /// Name of the key.
        key: &'static str,
        /// Supported values.
        known: &'static str,
    },
    /// Two numbers contradict each other, or one is out of range.
    Inconsistent(&'static str),
    /// A tensor that determines a shape is missing.
    NoTensor(Role),
    /// More layers, kinds of layers or rotary embeddings than fit into [`SpecRoom`].
    Room {
        /// Name of the list that is full.
        what: &'static str,
        /// Maximum number of entries.
        max: usize,
    },
}

impl From<MetaError> for SpecError {
    fn from(e: MetaError) -> Self {
        SpecError::Meta(e)
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecError::Meta(e) => e.fmt(f),
            SpecError::Unsupported { key, known } => {
                write!(f, "the model's `{key}` is not supported; known: {known}")
            }
            SpecError::Inconsistent(what) => write!(f, "the model's hyper-parameters: {what}"),
            SpecError::NoTensor(role) => {
                f.write_str("the model has no tensor for ")?;
                if let Role::Layer(l, _) = role {
                    write!(f, "blk.{l}.")?;
                }
                f.write_str(role.gguf_name())
            }
            SpecError::Room { what, max } => {
                write!(f, "the model has too many {what}: there may be {max}")
            }
        }
    }
}

impl core::error::Error for SpecError {}

/// Maximum of any size: no product of two overflows 64 bits.
pub(crate) const MAX_SIZE: u32 = 1 << 26;

/// Maximum number of residual streams.
pub(crate) const MAX_STREAMS: u32 = 8;

pub(crate) fn inconsistent<T>(what: &'static str) -> Result<T, SpecError> {
    Err(SpecError::Inconsistent(what))
}

impl<'p> Spec<'p> {
    /// Checks that all sizes are in range and consistent, so that no later product overflows.
    ///
    /// # Errors
    /// [`SpecError::Inconsistent`], [`SpecError::Room`].
    pub fn validate(&self) -> Result<(), SpecError> {
        let sizes = [self.vocab, self.context, self.width];
        if sizes.iter().any(|&n| n == 0 || n > MAX_SIZE) {
            return inconsistent("vocabulary, context and width must be 1 to 2^26");
        }
        self.layers.validate()?;
        if self.ropes.len() > MAX_ROPES {
            return Err(SpecError::Room { what: "rotary embeddings", max: MAX_ROPES });
        }
        if !self.embed.scale.is_finite() {
            return inconsistent("the factor of the embedding must be finite");
        }
        if !self.logit_divisor.is_normal() || !(1.0 / self.logit_divisor).is_normal() {
            return inconsistent("the divisor of the logits must be finite and not 0");
        }
        if self.logit_cap.is_some_and(|cap| !cap.is_normal() || cap < 0.0) {
            return inconsistent("the bound of the logits must be positive and finite");
        }
        if let Some(PerLayer { width, vocab }) = self.per_layer {
            let all = u64::from(width) * u64::from(self.layers.len());
            if width == 0 || all > u64::from(MAX_SIZE) || vocab == 0 || vocab > MAX_SIZE {
                return inconsistent(
                    "the inputs of all layers must be 1 to 2^26, and so the rows of their embedding",
                );
            }
        }
        if self.streams.is_some_and(|n| !(2..=MAX_STREAMS).contains(&n)) {
            return inconsistent("there must be 2 to 8 residual streams");
        }
        self.norm.validate()?;
        if self.ropes.iter().filter(|r| !r.scaling.tensors().is_empty()).count() > 1 {
            return inconsistent("one rotary embedding at most has tensors of factors");
        }
        for rope in self.ropes.iter() {
            rope.validate()?;
        }
        for kind in self.layers.kinds() {
            kind.validate(self)?;
        }
        for (l, layer) in self.layers.iter().enumerate() {
            layer.validate_at(self, l as u32)?;
        }
        Ok(())
    }

    /// The same model, with lists borrowed from this one.
    #[must_use]
    pub fn borrowed(&self) -> Spec<'_> {
        Spec { layers: self.layers.borrowed(), ropes: self.ropes.borrowed(), ..*self }
    }

    /// Tensors of rotary factors, if the model has any, and their length.
    fn rope_factors(&self) -> (&'static [Role], usize) {
        let with = self.ropes.iter().find(|r| !r.scaling.tensors().is_empty());
        with.map_or((&[], 0), |r| (r.scaling.tensors(), r.dims as usize / 2))
    }

    /// Tensors before those of the layers: embeddings, positions, and inputs of layers.
    fn first_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let (vocab, w) = (self.vocab as usize, self.width as usize);
        let positions = Slot::matrix(Role::PositionEmbd, self.context as usize, w);
        let (roles, n) = self.rope_factors();
        let layers = self.layers.len() as usize;
        let per_layer = self.per_layer.map(|p| {
            let (width, all) = (p.width as usize, p.width as usize * layers);
            [
                Slot::matrix(Role::PerLayerEmbd, p.vocab as usize, all),
                Slot::matrix(Role::PerLayerProj, all, w),
                Slot::vector(Role::PerLayerNorm, width),
            ]
        });
        let streams = self.streams.map(|n| {
            [Role::StreamProj, Role::StreamUnembd]
                .map(|role| Slot { experts: n as usize - 1, ..Slot::matrix(role, w, w) })
        });
        core::iter::once(Slot::matrix(Role::TokenEmbd, vocab, w))
            .chain(self.embed.positions.then_some(positions))
            .chain(roles.iter().map(move |&role| Slot::vector(role, n)))
            .chain(per_layer.into_iter().flatten())
            .chain(streams.into_iter().flatten())
    }

    /// Number of tensors before those of the layers.
    fn before_layers(&self) -> usize {
        self.first_slots().count()
    }

    fn norm_tensors(&self) -> usize {
        match self.norm.kind {
            NormKind::Layer => 2,
            NormKind::Rms => 1,
        }
    }

    /// Number of tensors of a layer.
    fn layer_tensors(&self, layer: &Layer) -> usize {
        LayerRole::ALL.into_iter().filter(|r| r.shape(layer, self.width).is_some()).count()
    }

    /// Number of tensors of all layers before `layer`.
    fn tensors_before(&self, layer: u32) -> usize {
        let mut counts = [0; MAX_KINDS];
        for (count, kind) in counts.iter_mut().zip(self.layers.kinds()) {
            *count = self.layer_tensors(kind);
        }
        (0..layer.min(self.layers.len())).map(|l| counts[self.layers.kind_of(l)]).sum()
    }

    /// Number of tensors of the model.
    #[must_use]
    pub fn tensors(&self) -> usize {
        let head = match self.head {
            Head::Tied => 0,
            Head::Own | Head::Copy => 1,
        };
        let layers = self.tensors_before(self.layers.len());
        self.before_layers() + layers + self.norm_tensors() + head
    }

    /// Tensor number `id`; `None` beyond the last.
    #[must_use]
    pub fn slot(&self, id: TensorId) -> Option<Slot> {
        let (vocab, w) = (self.vocab as usize, self.width as usize);
        let mut i = id.index();
        if let Some(slot) = self.first_slots().nth(i) {
            return Some(slot);
        }
        i -= self.before_layers();
        let mut counts = [0; MAX_KINDS];
        for (count, kind) in counts.iter_mut().zip(self.layers.kinds()) {
            *count = self.layer_tensors(kind);
        }
        for l in 0..self.layers.len() {
            let n = counts[self.layers.kind_of(l)];
            if i < n {
                let layer = self.layers.get(l);
                let mut shapes = LayerRole::ALL
                    .into_iter()
                    .filter_map(|role| Some((role, role.shape(layer, self.width)?)));
                let (role, shape) = shapes.nth(i)?;
                return Some(Slot { role: Role::Layer(l, role), ..shape });
            }
            i -= n;
        }
        match (i, self.norm.kind, self.head) {
            (0, ..) => Some(Slot::vector(Role::OutputNorm, w)),
            (1, NormKind::Layer, _) => Some(Slot::vector(Role::OutputNormBias, w)),
            (_, _, Head::Own | Head::Copy) if i == self.norm_tensors() => {
                Some(Slot::matrix(Role::Output, vocab, w))
            }
            _ => None,
        }
    }

    /// Number of the tensor with this role; a tied head has the number of the embedding.
    ///
    /// # Panics
    /// If the model has no such tensor.
    #[must_use]
    pub fn id(&self, role: Role) -> TensorId {
        match self.find(role) {
            Some(id) => id,
            None => panic!("the model has no {role:?}"),
        }
    }

    /// As [`Spec::id`]; `None` if the model has no such tensor.
    #[must_use]
    pub fn find(&self, role: Role) -> Option<TensorId> {
        let before = self.before_layers();
        let after = |i| before + self.tensors_before(self.layers.len()) + i;
        let id = match role {
            Role::TokenEmbd
            | Role::PositionEmbd
            | Role::RopeFactors
            | Role::RopeFactorsLong
            | Role::RopeFactorsShort
            | Role::PerLayerEmbd
            | Role::PerLayerProj
            | Role::PerLayerNorm
            | Role::StreamProj
            | Role::StreamUnembd => self.first_slots().position(|s| s.role == role)?,
            Role::Layer(l, role) if l < self.layers.len() => {
                let layer = self.layers.get(l);
                role.shape(layer, self.width)?;
                let earlier = LayerRole::ALL.into_iter().take(role as usize);
                let earlier = earlier.filter(|r| r.shape(layer, self.width).is_some()).count();
                before + self.tensors_before(l) + earlier
            }
            Role::OutputNorm => after(0),
            Role::OutputNormBias if self.norm.kind == NormKind::Layer => after(1),
            Role::Output if self.head == Head::Tied => 0,
            Role::Output => after(self.norm_tensors()),
            _ => return None,
        };
        TensorId::from_index(id)
    }

    /// Iterator over all tensors, in order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let (vocab, w) = (self.vocab as usize, self.width as usize);
        let layers = (0..self.layers.len()).flat_map(move |l| {
            let shapes = LayerRole::ALL.into_iter();
            shapes.filter_map(move |role| {
                let shape = role.shape(self.layers.get(l), self.width)?;
                Some(Slot { role: Role::Layer(l, role), ..shape })
            })
        });
        let bias = Slot::vector(Role::OutputNormBias, w);
        let output = Slot::matrix(Role::Output, vocab, w);
        self.first_slots()
            .chain(layers)
            .chain(core::iter::once(Slot::vector(Role::OutputNorm, w)))
            .chain((self.norm.kind == NormKind::Layer).then_some(bias))
            .chain((self.head != Head::Tied).then_some(output))
    }

    /// Number of parameters; tied tensors and copies count once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let slots = self.slots();
        let own = slots.filter(|s| s.role != Role::Output || self.head == Head::Own);
        own.map(|s| (s.experts * s.rows) as u64 * s.cols as u64).sum()
    }
}

#[cfg(feature = "alloc")]
impl Spec<'_> {
    /// Copy with owned lists.
    #[must_use]
    pub fn to_owned(&self) -> Spec<'static> {
        Spec { layers: self.layers.to_owned(), ropes: self.ropes.to_owned(), ..*self }
    }

    /// The same model with every kind of layer changed by `f`, for variants of a shape.
    #[must_use]
    pub fn with_layers(&self, f: impl FnMut(Layer) -> Layer) -> Spec<'static> {
        Spec { layers: self.layers.map(f), ropes: self.ropes.to_owned(), ..*self }
    }

    /// The same model with every rotary embedding changed by `f`.
    #[must_use]
    pub fn with_ropes(&self, f: impl FnMut(Rope) -> Rope) -> Spec<'static> {
        let ropes: alloc::vec::Vec<Rope> = self.ropes.iter().copied().map(f).collect();
        Spec { layers: self.layers.to_owned(), ropes: ropes.into(), ..*self }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::family::{
        bitnet, gemma2, gemma3, gemma3n, gemma4, gpt_oss, gpt2, granite, lfm2, llama, mistral3,
        olmo2, phi3, qwen, qwen2moe, qwen3moe, qwen35, qwen35moe, smollm3,
    };
    use crate::layers::{FeedForward, Mixer, ShortConv};

    #[test]
    fn published_models_have_their_parameters() {
        // Counts from the authors' files.
        assert_eq!(gpt2::small().parameters(), 124_439_808);
        let own = Spec { head: Head::Own, ..gpt2::small() };
        assert_eq!(own.parameters(), 124_439_808 + 50257 * 768);
        assert_eq!(llama::tinyllama().parameters(), 1_100_048_384);
        assert_eq!(gemma2::gemma2_2b().parameters(), 2_614_341_888);
        assert_eq!(gemma3::gemma3_1b().parameters(), 999_885_952);
        assert_eq!(qwen::qwen2_5_14b().parameters(), 14_770_033_664);
        assert_eq!(qwen::qwen3_14b().parameters(), 14_768_307_200);
        assert_eq!(qwen2moe::qwen1_5_moe().parameters(), 14_315_784_192);
        assert_eq!(qwen3moe::qwen3_30b_a3b().parameters(), 30_532_122_624);
        assert_eq!(lfm2::lfm2_1_2b().parameters(), 1_170_340_608);
        // Published as 20.9 billion.
        assert_eq!(gpt_oss::gpt_oss_20b().parameters(), 20_914_757_184);
        // Published as 8.3, 46.7 and 3.30 billion.
        assert_eq!(lfm2::lfm2_8b_a1b().parameters(), 8_339_930_560);
        assert_eq!(llama::mixtral_8x7b().parameters(), 46_702_792_704);
        assert_eq!(granite::granite3_3b_a800m().parameters(), 3_298_793_472);
        assert_eq!(bitnet::bitnet_2b().parameters(), 2_412_820_480);
        // Without the two tensors of 48 factors.
        assert_eq!(phi3::phi4_mini().parameters(), 3_836_021_760 + 96);
        // Published as 8.17 billion.
        assert_eq!(granite::granite3_8b().parameters(), 8_170_864_640);
        // Published as 3.4, 7.30 and 3.08 billion.
        assert_eq!(mistral3::ministral3_3b().parameters(), 3_429_006_336);
        assert_eq!(olmo2::olmo2_7b().parameters(), 7_298_617_344);
        assert_eq!(smollm3::smollm3_3b().parameters(), 3_075_098_624);
    }

    /// Llama with every bias that a layer can have.
    fn with_biases() -> Spec<'static> {
        llama::tinyllama().with_layers(|mut layer| {
            if let Mixer::Attention(a) = &mut layer.mixer {
                (a.qkv_bias, a.out_bias) = (true, true);
            }
            if let FeedForward::Dense(d) = &mut layer.ffn {
                d.bias = true;
            }
            layer
        })
    }

    /// LFM2 with biases of its convolutions, and attention that shares the keys and values of the first.
    fn with_shared_kv() -> Spec<'static> {
        let mut room = SpecRoom::new();
        for (l, layer) in lfm2::lfm2_1_2b().layers.iter().enumerate() {
            let mut layer = *layer;
            match &mut layer.mixer {
                Mixer::ShortConv(c) => c.bias = true,
                Mixer::Attention(a) => a.shared_kv = Some(2).filter(|_| l > 2),
                Mixer::DeltaNet(_) => {}
            }
            assert_eq!(room.push(layer), Ok(()));
        }
        Spec { layers: room.layers().to_owned(), ..lfm2::lfm2_1_2b() }
    }

    #[test]
    fn numbers_and_roles_are_inverse() {
        let factors = |rope| Rope { scaling: RopeScaling::Factors, ..rope };
        for spec in [
            gpt2::small(),
            Spec { head: Head::Own, ..gpt2::small() },
            llama::tinyllama(),
            llama::tinyllama().with_ropes(factors),
            phi3::phi4_mini(),
            with_biases(),
            gemma2::gemma2_2b(),
            gemma3::gemma3_1b(),
            gemma3n::gemma3n_e2b(),
            gemma4::gemma4_e2b(),
            gemma4::gemma4_26b_a4b(),
            qwen::qwen2_5_14b(),
            qwen::qwen3_14b(),
            qwen2moe::qwen1_5_moe(),
            qwen3moe::qwen3_30b_a3b(),
            gpt_oss::gpt_oss_20b(),
            lfm2::lfm2_1_2b(),
            qwen35::qwen3_5_0_8b(),
            qwen35::qwen3_5_4b(),
            qwen35moe::qwen3_5_35b_a3b(),
            lfm2::lfm2_8b_a1b(),
            llama::mixtral_8x7b(),
            granite::granite3_3b_a800m(),
            with_shared_kv(),
            granite::granite3_8b(),
            smollm3::smollm3_3b(),
            mistral3::ministral3_3b(),
            olmo2::olmo2_7b(),
            bitnet::bitnet_2b(),
        ] {
            assert_eq!(spec.validate(), Ok(()));
            for (i, s) in spec.slots().enumerate() {
                assert_eq!(spec.id(s.role), TensorId::new(i as u16), "{:?}", s.role);
                assert_eq!(spec.slot(TensorId::new(i as u16)), Some(s));
                let taps = [
                    LayerRole::ConvTaps,
                    LayerRole::DeltaTaps,
                    LayerRole::StreamPredict,
                    LayerRole::StreamCorrect,
                ];
                let taps = taps.iter().any(|&t| matches!(s.role, Role::Layer(_, r) if r == t));
                let gate = matches!(s.role, Role::Layer(_, LayerRole::SharedRouter));
                let vector =
                    s.rows == 1 && !gate && !matches!(s.role, Role::TokenEmbd | Role::Output);
                assert_eq!(s.is_vector(), vector || taps, "{:?}", s.role);
            }
            assert_eq!(spec.slots().count(), spec.tensors());
            assert_eq!(spec.slot(TensorId::new(spec.tensors() as u16)), None);
            for l in 0..spec.layers.len() {
                let layer = spec.layers.get(l);
                for role in LayerRole::ALL {
                    let shape = role.shape(layer, spec.width);
                    assert_eq!(spec.find(Role::Layer(l, role)).is_some(), shape.is_some());
                }
            }
            assert_eq!(spec.find(Role::Layer(spec.layers.len(), LayerRole::AttnNorm)), None);
        }
    }

    #[test]
    fn scales_of_tokens_need_whole_tokens() {
        let refused = |spec: &Spec<'_>| {
            assert!(matches!(spec.validate(), Err(SpecError::Inconsistent(_))));
            assert_eq!(Spec { token_scales: false, ..spec.borrowed() }.validate(), Ok(()));
        };
        let bitnet = bitnet::bitnet_2b();
        assert_eq!(bitnet.validate(), Ok(()));
        let with = |f: &dyn Fn(&mut Layer)| {
            bitnet.with_layers(|mut layer| {
                f(&mut layer);
                layer
            })
        };
        refused(&with(&|layer| match &mut layer.mixer {
            Mixer::Attention(a) => a.sub_norm = false,
            Mixer::ShortConv(_) | Mixer::DeltaNet(_) => {}
        }));
        refused(&with(&|layer| {
            if let FeedForward::Dense(d) = &mut layer.ffn {
                d.sub_norm = false;
            }
        }));
        // A convolution has no norm before its last product.
        let conv = ShortConv { taps: 3, bias: false, fine: false };
        refused(&with(&|layer| layer.mixer = Mixer::ShortConv(conv)));
        let experts = qwen3moe::qwen3_30b_a3b();
        refused(&with(&|layer| layer.ffn = experts.layers.get(0).ffn));
    }

    #[test]
    fn shared_keys_and_values_must_be_there() {
        // All layers but the first share those of `of`, with these windows.
        let shared = |of: u32, first: Option<u32>, window: Option<u32>, kv_heads: u32| {
            let kind = *llama::tinyllama().layers.get(0);
            let with = |shared_kv, window, kv_heads| {
                let mut layer = kind;
                if let Mixer::Attention(a) = &mut layer.mixer {
                    (a.shared_kv, a.window, a.kv_heads) = (shared_kv, window, kv_heads);
                }
                layer
            };
            let kinds = [with(None, first, 4), with(Some(of), window, kv_heads)];
            let layers = Layers::new(&kinds, &[0, 1, 1], 3).to_owned();
            Spec { layers, ..llama::tinyllama() }.validate()
        };
        assert_eq!(shared(0, None, None, 4), Ok(()));
        assert_eq!(shared(0, None, Some(9), 4), Ok(()));
        assert_eq!(shared(0, Some(9), Some(9), 4), Ok(()));
        for (of, first, window, kv_heads) in [
            (1, None, None, 4),        // its own, and one that shares
            (2, None, None, 4),        // a later one
            (9, None, None, 4),        // none
            (0, None, None, 2),        // of another shape
            (0, Some(9), Some(10), 4), // of a shorter window
            (0, Some(9), None, 4),
        ] {
            let got = shared(of, first, window, kv_heads);
            assert!(matches!(got, Err(SpecError::Inconsistent(_))), "{of} {first:?} {window:?}");
        }
    }
}
