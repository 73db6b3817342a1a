//! What a decoder is: hyper-parameters, switches, and the tensors that follow from them.

use core::fmt;

use teff_kernels::{MAX_HEAD_DIM, RopeKind};

use crate::meta::MetaError;

/// Hyper-parameters and switches of a decoder-only transformer.
///
/// A family reads one from a model's metadata; nothing after that looks at the family again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spec {
    /// The architecture's name, as GGUF has it.
    pub arch: &'static str,
    /// Tokens of the vocabulary: rows of the embedding and of the head.
    pub vocab: u32,
    /// Positions that the model was made for.
    pub context: u32,
    /// Layers.
    pub layers: u32,
    /// Elements of the residual stream.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: u32,
    /// Elements of a query, a key or a value of one head.
    pub head_dim: u32,
    /// Inner elements of the feed-forward part.
    pub ffn: u32,
    /// Which normalisation.
    pub norm: Norm,
    /// What it adds to the variance.
    pub norm_eps: f32,
    /// How positions enter.
    pub positions: Positions,
    /// Which layers see only the last positions.
    pub window: Option<Window>,
    /// Whether queries, keys and values come from one matrix ([`LayerRole::AttnQkv`]) or from three.
    pub fused_qkv: bool,
    /// Which products have biases.
    pub biases: Biases,
    /// Whether each head of queries and of keys is normalised (RMS) before it is turned.
    pub qk_norms: bool,
    /// Whether the inputs of the attention's and of the feed-forward part's last product are
    /// normalised.
    pub sub_norms: bool,
    /// Whether the outputs of both parts are normalised before they are added to the residual stream.
    pub post_norms: bool,
    /// Whether the feed-forward part is `act(gate x) * (up x)` instead of `act(up x)`.
    pub gated: bool,
    /// The feed-forward part's function.
    pub activation: Activation,
    /// Whether the inputs of ternary weights have one scale for a whole token, as models have that
    /// were trained so.
    pub token_scales: bool,
    /// Factor of the embedding's rows.
    pub embed_scale: f32,
    /// Factor of the scores before softmax.
    pub attn_scale: f32,
    /// Where the head's weights are.
    pub head: Head,
}

/// A normalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Norm {
    /// Mean and variance, with weight and bias.
    Layer,
    /// Root mean square, with weight.
    Rms,
}

/// How positions enter.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Positions {
    /// A learned vector for each, added to the token's.
    Learned,
    /// Queries and keys are turned.
    Rotary(Rotary),
}

/// A rotary embedding.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rotary {
    /// Which elements are turned together.
    pub kind: RopeKind,
    /// Elements of a head that are turned: the first ones; even.
    pub dims: u32,
    /// The base of the frequencies.
    pub base: f32,
    /// The base in layers with a window; those are not scaled.
    pub window_base: f32,
    /// How frequencies are stretched for a longer context.
    pub scaling: RopeScaling,
}

/// How the frequencies of a rotary embedding are stretched.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum RopeScaling {
    /// They are not.
    None,
    /// All are divided by a factor.
    Linear(f32),
    /// Each is divided by its element of the tensor [`Role::RopeFactors`].
    Factors,
    /// Llama 3's rule: wavelengths longer than `original / low` are stretched by `factor`, shorter
    /// ones than `original / high` stay, and between the two it is in between.
    Llama3 {
        /// The stretch of the longest.
        factor: f32,
        /// Turns in the original context below which all of it applies.
        low: f32,
        /// Turns in the original context above which none of it does.
        high: f32,
        /// Positions that the model was trained with at first.
        original: f32,
    },
}

/// Layers that see only the last positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Positions that such a layer sees, its own included.
    pub size: u32,
    /// Every so many layers, counted from 1, one sees everything; 0: none does.
    pub full_every: u32,
}

/// Which products have biases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The attention's output.
    pub attn_out: bool,
    /// The feed-forward part.
    pub ffn: bool,
}

impl Biases {
    /// None.
    pub const NONE: Biases = Biases { qkv: false, attn_out: false, ffn: false };
    /// All.
    pub const ALL: Biases = Biases { qkv: true, attn_out: true, ffn: true };
}

/// The feed-forward part's function.
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

/// Where the head's weights are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// The embedding is the head.
    Tied,
    /// A matrix of its own.
    Own,
    /// A copy of the embedding, in another format: the model has no more parameters for it.
    Copy,
}

/// What a tensor is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// `[vocab, width]`
    TokenEmbd,
    /// `[context, width]`
    PositionEmbd,
    /// `[dims / 2]`, of the rotary embedding.
    RopeFactors,
    /// A tensor of a layer.
    Layer(u32, LayerRole),
    /// `[width]`
    OutputNorm,
    /// `[width]`
    OutputNormBias,
    /// `[vocab, width]`, where the head isn't tied.
    Output,
}

/// What a layer's tensor is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LayerRole {
    /// `[width]`
    AttnNorm,
    /// `[width]`
    AttnNormBias,
    /// Queries, keys and values one after another: `[(heads + 2 kv_heads) head_dim, width]`.
    AttnQkv,
    /// `[(heads + 2 kv_heads) head_dim]`
    AttnQkvBias,
    /// `[heads head_dim, width]`
    AttnQ,
    /// `[heads head_dim]`
    AttnQBias,
    /// `[kv_heads head_dim, width]`
    AttnK,
    /// `[kv_heads head_dim]`
    AttnKBias,
    /// `[kv_heads head_dim, width]`
    AttnV,
    /// `[kv_heads head_dim]`
    AttnVBias,
    /// `[head_dim]`, for each head of queries.
    AttnQNorm,
    /// `[head_dim]`, for each head of keys.
    AttnKNorm,
    /// `[heads head_dim]`, before the attention's last product.
    AttnSubNorm,
    /// `[width, heads head_dim]`
    AttnOut,
    /// `[width]`
    AttnOutBias,
    /// `[width]`, after the attention.
    AttnPostNorm,
    /// `[width]`
    FfnNorm,
    /// `[width]`
    FfnNormBias,
    /// `[ffn, width]`
    FfnGate,
    /// `[ffn]`
    FfnGateBias,
    /// `[ffn, width]`
    FfnUp,
    /// `[ffn]`
    FfnUpBias,
    /// `[ffn]`, before the feed-forward part's last product.
    FfnSubNorm,
    /// `[width, ffn]`
    FfnDown,
    /// `[width]`
    FfnDownBias,
    /// `[width]`, after the feed-forward part.
    FfnPostNorm,
}

impl LayerRole {
    /// Everything that a layer can have, in the order of numbers.
    pub const ALL: [LayerRole; 26] = [
        LayerRole::AttnNorm,
        LayerRole::AttnNormBias,
        LayerRole::AttnQkv,
        LayerRole::AttnQkvBias,
        LayerRole::AttnQ,
        LayerRole::AttnQBias,
        LayerRole::AttnK,
        LayerRole::AttnKBias,
        LayerRole::AttnV,
        LayerRole::AttnVBias,
        LayerRole::AttnQNorm,
        LayerRole::AttnKNorm,
        LayerRole::AttnSubNorm,
        LayerRole::AttnOut,
        LayerRole::AttnOutBias,
        LayerRole::AttnPostNorm,
        LayerRole::FfnNorm,
        LayerRole::FfnNormBias,
        LayerRole::FfnGate,
        LayerRole::FfnGateBias,
        LayerRole::FfnUp,
        LayerRole::FfnUpBias,
        LayerRole::FfnSubNorm,
        LayerRole::FfnDown,
        LayerRole::FfnDownBias,
        LayerRole::FfnPostNorm,
    ];

    /// Whether the tensor is a vector: a norm's weights or biases.
    #[must_use]
    pub const fn is_vector(self) -> bool {
        use LayerRole as L;
        !matches!(
            self,
            L::AttnQkv
                | L::AttnQ
                | L::AttnK
                | L::AttnV
                | L::AttnOut
                | L::FfnGate
                | L::FfnUp
                | L::FfnDown
        )
    }

    /// The bias of a product.
    #[must_use]
    pub const fn bias(self) -> Option<LayerRole> {
        use LayerRole as L;
        Some(match self {
            L::AttnQkv => L::AttnQkvBias,
            L::AttnQ => L::AttnQBias,
            L::AttnK => L::AttnKBias,
            L::AttnV => L::AttnVBias,
            L::AttnOut => L::AttnOutBias,
            L::FfnGate => L::FfnGateBias,
            L::FfnUp => L::FfnUpBias,
            L::FfnDown => L::FfnDownBias,
            _ => return None,
        })
    }

    /// Whether the outputs become queries, keys or values.
    #[must_use]
    pub const fn is_qkv(self) -> bool {
        matches!(self, LayerRole::AttnQkv | LayerRole::AttnQ | LayerRole::AttnK | LayerRole::AttnV)
    }
}

/// The number of a tensor in the table of weights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TensorId(pub u16);

/// A tensor that the model must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// What it is for.
    pub role: Role,
    /// Rows: outputs of a matrix; 1 for a vector.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// A vector is f32 in memory whatever its file holds; a matrix stays in its format.
    pub vector: bool,
}

/// Why hyper-parameters make no model that Teff runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SpecError {
    /// A key is missing or of the wrong kind.
    Meta(MetaError),
    /// A switch has a value that Teff has no code for.
    Unsupported {
        /// The key.
        key: &'static str,
        /// What is supported.
        known: &'static str,
    },
    /// Two numbers contradict each other or one is out of range.
    Inconsistent(&'static str),
    /// A tensor that decides a shape is not there.
    NoTensor(Role),
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
            SpecError::NoTensor(role) => write!(f, "the model has no tensor for {role:?}"),
        }
    }
}

impl core::error::Error for SpecError {}

impl Spec {
    /// Checks that all sizes are in range and agree, so that no later product overflows.
    ///
    /// # Errors
    /// [`SpecError::Inconsistent`].
    pub fn validate(&self) -> Result<(), SpecError> {
        let bad = |what| Err(SpecError::Inconsistent(what));
        let sizes = [self.vocab, self.context, self.width, self.ffn];
        if sizes.iter().any(|&n| n == 0 || n > 1 << 26) {
            return bad("vocabulary, context, width and inner width must be 1 to 2^26");
        }
        if self.layers == 0 || self.layers > 4096 {
            return bad("there must be 1 to 4096 layers");
        }
        if self.heads == 0 || self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return bad("heads must be a multiple of heads of keys and values, and neither 0");
        }
        if self.head_dim == 0 || self.head_dim as usize > MAX_HEAD_DIM || self.heads > 1 << 14 {
            return bad("a head must have 1 to 512 elements, and heads be at most 2^14");
        }
        let floats = [self.norm_eps, self.attn_scale, self.embed_scale];
        if !floats.iter().all(|x| x.is_finite()) || self.norm_eps < 0.0 {
            return bad(
                "the norm's epsilon and the factors of embedding and scores must be finite",
            );
        }
        if self.token_scales && !self.sub_norms {
            // Else inputs are written by several members, and none has seen a whole token.
            return bad("a scale for a whole token needs norms before the last products");
        }
        if self.window.is_some_and(|w| w.size == 0) {
            return bad("a window must have at least 1 position");
        }
        if let Positions::Rotary(r) = self.positions {
            if r.dims == 0 || !r.dims.is_multiple_of(2) || r.dims > self.head_dim {
                return bad("the turned elements of a head must be even, and at most all of it");
            }
            let stretch = match r.scaling {
                RopeScaling::None | RopeScaling::Factors => 1.0,
                RopeScaling::Linear(factor) => factor,
                RopeScaling::Llama3 { factor, low, high, original } => {
                    if !(low > 0.0 && high > low && high.is_finite() && original.is_finite()) {
                        return bad("the bounds of the rotary scaling must be ascending");
                    }
                    factor.min(original)
                }
            };
            let positive = [r.base, r.window_base, stretch];
            if !positive.iter().all(|x| x.is_finite() && *x > 0.0) {
                return bad("the rotary bases and factors must be positive and finite");
            }
        }
        Ok(())
    }

    /// Elements of all heads' queries.
    #[must_use]
    pub const fn q_dim(&self) -> usize {
        self.heads as usize * self.head_dim as usize
    }

    /// Elements of all heads' keys (or values).
    #[must_use]
    pub const fn kv_dim(&self) -> usize {
        self.kv_heads as usize * self.head_dim as usize
    }

    /// The window of a layer; `None` where it sees everything.
    #[must_use]
    pub const fn window_of(&self, layer: u32) -> Option<u32> {
        match self.window {
            Some(Window { size, full_every })
                if full_every == 0 || !(layer + 1).is_multiple_of(full_every) =>
            {
                Some(size)
            }
            _ => None,
        }
    }

    /// Whether layers have this tensor.
    #[must_use]
    pub const fn has(&self, role: LayerRole) -> bool {
        use LayerRole as L;
        match role {
            L::AttnNorm | L::AttnOut | L::FfnNorm | L::FfnUp | L::FfnDown => true,
            L::AttnNormBias | L::FfnNormBias => matches!(self.norm, Norm::Layer),
            L::AttnQkv => self.fused_qkv,
            L::AttnQkvBias => self.fused_qkv && self.biases.qkv,
            L::AttnQ | L::AttnK | L::AttnV => !self.fused_qkv,
            L::AttnQBias | L::AttnKBias | L::AttnVBias => !self.fused_qkv && self.biases.qkv,
            L::AttnQNorm | L::AttnKNorm => self.qk_norms,
            L::AttnSubNorm | L::FfnSubNorm => self.sub_norms,
            L::AttnOutBias => self.biases.attn_out,
            L::AttnPostNorm | L::FfnPostNorm => self.post_norms,
            L::FfnGate => self.gated,
            L::FfnGateBias => self.gated && self.biases.ffn,
            L::FfnUpBias | L::FfnDownBias => self.biases.ffn,
        }
    }

    fn layer_shape(&self, role: LayerRole) -> (usize, usize) {
        use LayerRole as L;
        let (w, f) = (self.width as usize, self.ffn as usize);
        let (q, kv, d) = (self.q_dim(), self.kv_dim(), self.head_dim as usize);
        match role {
            L::AttnNorm | L::AttnNormBias | L::FfnNorm | L::FfnNormBias => (1, w),
            L::AttnPostNorm | L::FfnPostNorm | L::AttnOutBias | L::FfnDownBias => (1, w),
            L::AttnQkv => (q + 2 * kv, w),
            L::AttnQkvBias => (1, q + 2 * kv),
            L::AttnQ => (q, w),
            L::AttnQBias | L::AttnSubNorm => (1, q),
            L::AttnK | L::AttnV => (kv, w),
            L::AttnKBias | L::AttnVBias => (1, kv),
            L::AttnQNorm | L::AttnKNorm => (1, d),
            L::AttnOut => (w, q),
            L::FfnGate | L::FfnUp => (f, w),
            L::FfnGateBias | L::FfnUpBias | L::FfnSubNorm => (1, f),
            L::FfnDown => (w, f),
        }
    }

    const fn rope_factors(&self) -> Option<u32> {
        match self.positions {
            Positions::Rotary(Rotary { scaling: RopeScaling::Factors, dims, .. }) => Some(dims / 2),
            _ => None,
        }
    }

    /// Tensors before the layers': the embedding, and what positions need.
    const fn before_layers(&self) -> usize {
        match self.positions {
            Positions::Learned => 2,
            Positions::Rotary(_) if self.rope_factors().is_some() => 2,
            Positions::Rotary(_) => 1,
        }
    }

    /// How many tensors a layer has, of the first `n` of [`LayerRole::ALL`].
    const fn layer_tensors(&self, n: usize) -> usize {
        let (mut i, mut count) = (0, 0);
        while i < n {
            if self.has(LayerRole::ALL[i]) {
                count += 1;
            }
            i += 1;
        }
        count
    }

    /// How many tensors the model has.
    #[must_use]
    pub const fn tensors(&self) -> usize {
        let norms = match self.norm {
            Norm::Layer => 2,
            Norm::Rms => 1,
        };
        let head = match self.head {
            Head::Tied => 0,
            Head::Own | Head::Copy => 1,
        };
        let layers = self.layers as usize * self.layer_tensors(LayerRole::ALL.len());
        self.before_layers() + layers + norms + head
    }

    /// Tensor number `id`, or `None` beyond the last.
    #[must_use]
    pub fn slot(&self, id: TensorId) -> Option<Slot> {
        let (before, w) = (self.before_layers(), self.width as usize);
        let per_layer = self.layer_tensors(LayerRole::ALL.len());
        let id = usize::from(id.0);
        let slot = |role, rows, cols, vector| Some(Slot { role, rows, cols, vector });
        if id >= self.tensors() {
            return None;
        }
        if id < before {
            return match (id, self.rope_factors()) {
                (0, _) => slot(Role::TokenEmbd, self.vocab as usize, w, false),
                (_, Some(n)) => slot(Role::RopeFactors, 1, n as usize, true),
                _ => slot(Role::PositionEmbd, self.context as usize, w, false),
            };
        }
        let (layer, i) = ((id - before) / per_layer, (id - before) % per_layer);
        if layer < self.layers as usize {
            let role = LayerRole::ALL.into_iter().filter(|&r| self.has(r)).nth(i)?;
            let (rows, cols) = self.layer_shape(role);
            return slot(Role::Layer(layer as u32, role), rows, cols, role.is_vector());
        }
        match (i, self.norm) {
            (0, _) => slot(Role::OutputNorm, 1, w, true),
            (1, Norm::Layer) => slot(Role::OutputNormBias, 1, w, true),
            _ => slot(Role::Output, self.vocab as usize, w, false),
        }
    }

    /// The number of the tensor with this role; a tied head's is the embedding's.
    ///
    /// # Panics
    /// Where the model has no such tensor.
    #[must_use]
    pub fn id(&self, role: Role) -> TensorId {
        match self.find(role) {
            Some(id) => id,
            None => panic!("the model has no {role:?}"),
        }
    }

    /// As [`Spec::id`]; `None` where the model has no such tensor.
    #[must_use]
    pub fn find(&self, role: Role) -> Option<TensorId> {
        let before = self.before_layers();
        let per_layer = self.layer_tensors(LayerRole::ALL.len());
        let after = before + self.layers as usize * per_layer;
        let norms = if self.norm == Norm::Layer { 2 } else { 1 };
        let id = match role {
            Role::TokenEmbd => 0,
            Role::PositionEmbd if self.positions == Positions::Learned => 1,
            Role::RopeFactors if self.rope_factors().is_some() => 1,
            Role::Layer(l, r) if l < self.layers && self.has(r) => {
                before + l as usize * per_layer + self.layer_tensors(r as usize)
            }
            Role::OutputNorm => after,
            Role::OutputNormBias if self.norm == Norm::Layer => after + 1,
            Role::Output if self.head == Head::Tied => 0,
            Role::Output => after + norms,
            _ => return None,
        };
        Some(TensorId(id as u16))
    }

    /// All tensors, in the order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.tensors()).map_while(|i| self.slot(TensorId(i as u16)))
    }

    /// The number of parameters: the elements of all tensors (a tied head or its copy counts once;
    /// factors of the rotary embedding are none).
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let counted = self.slots().filter(|s| match s.role {
            Role::RopeFactors => false,
            Role::Output => self.head == Head::Own,
            _ => true,
        });
        counted.map(|s| s.rows as u64 * s.cols as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{bitnet, gemma3, gpt2, llama, qwen};

    #[test]
    fn published_models_have_their_parameters() {
        // Each as its authors' file has it, counted there.
        assert_eq!(gpt2::small().parameters(), 124_439_808);
        let own = Spec { head: Head::Own, ..gpt2::small() };
        assert_eq!(own.parameters(), 124_439_808 + 50257 * 768);
        assert_eq!(llama::tinyllama().parameters(), 1_100_048_384);
        assert_eq!(gemma3::gemma3_1b().parameters(), 999_885_952);
        assert_eq!(qwen::qwen2_5_14b().parameters(), 14_770_033_664);
        assert_eq!(qwen::qwen3_14b().parameters(), 14_768_307_200);
        assert_eq!(bitnet::bitnet_2b().parameters(), 2_412_820_480);
    }

    #[test]
    fn numbers_and_roles_are_inverse() {
        let rotary = |scaling| match llama::tinyllama().positions {
            Positions::Rotary(r) => Positions::Rotary(Rotary { scaling, ..r }),
            learned => learned,
        };
        for spec in [
            gpt2::small(),
            Spec { head: Head::Own, ..gpt2::small() },
            llama::tinyllama(),
            Spec { positions: rotary(RopeScaling::Factors), ..llama::tinyllama() },
            Spec { biases: Biases::ALL, ..llama::tinyllama() },
            gemma3::gemma3_1b(),
            qwen::qwen2_5_14b(),
            qwen::qwen3_14b(),
            bitnet::bitnet_2b(),
        ] {
            assert_eq!(spec.validate(), Ok(()));
            for (i, s) in spec.slots().enumerate() {
                assert_eq!(spec.id(s.role), TensorId(i as u16), "{:?}", s.role);
                let vector = s.rows == 1 && !matches!(s.role, Role::TokenEmbd | Role::Output);
                assert_eq!(s.vector, vector, "{:?}", s.role);
            }
            assert_eq!(spec.slots().count(), spec.tensors());
            for role in LayerRole::ALL {
                assert_eq!(spec.find(Role::Layer(0, role)).is_some(), spec.has(role));
            }
            assert_eq!(spec.find(Role::Layer(spec.layers, LayerRole::AttnNorm)), None);
        }
    }

    #[test]
    fn scales_of_tokens_need_whole_tokens() {
        let spec = Spec { sub_norms: false, ..bitnet::bitnet_2b() };
        assert!(matches!(spec.validate(), Err(SpecError::Inconsistent(_))));
        assert_eq!(Spec { token_scales: false, ..spec }.validate(), Ok(()));
    }

    #[test]
    fn roles_number_themselves() {
        for (i, role) in LayerRole::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, i);
        }
    }
}
