//! What a decoder is: hyper-parameters, switches, and the tensors that follow from them.

use core::fmt;

use teff_kernels::MAX_HEAD_DIM;

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
    /// The feed-forward part's function.
    pub activation: Activation,
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
}

/// How positions enter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Positions {
    /// A learned vector for each, added to the token's.
    Learned,
}

/// The feed-forward part's function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Activation {
    /// GELU in its tanh form.
    GeluTanh,
}

/// Where the head's weights are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// The embedding is the head.
    Tied,
    /// A matrix of its own.
    Own,
}

/// What a tensor is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// `[vocab, width]`
    TokenEmbd,
    /// `[context, width]`
    PositionEmbd,
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
    /// `[width, heads head_dim]`
    AttnOut,
    /// `[width]`
    AttnOutBias,
    /// `[width]`
    FfnNorm,
    /// `[width]`
    FfnNormBias,
    /// `[ffn, width]`
    FfnUp,
    /// `[ffn]`
    FfnUpBias,
    /// `[width, ffn]`
    FfnDown,
    /// `[width]`
    FfnDownBias,
}

impl LayerRole {
    /// The tensors of a layer, in the order of their numbers.
    pub const ALL: [LayerRole; 12] = [
        LayerRole::AttnNorm,
        LayerRole::AttnNormBias,
        LayerRole::AttnQkv,
        LayerRole::AttnQkvBias,
        LayerRole::AttnOut,
        LayerRole::AttnOutBias,
        LayerRole::FfnNorm,
        LayerRole::FfnNormBias,
        LayerRole::FfnUp,
        LayerRole::FfnUpBias,
        LayerRole::FfnDown,
        LayerRole::FfnDownBias,
    ];
}

impl LayerRole {
    /// Whether the tensor is a vector: a norm's weights or biases.
    #[must_use]
    pub const fn is_vector(self) -> bool {
        !matches!(
            self,
            LayerRole::AttnQkv | LayerRole::AttnOut | LayerRole::FfnUp | LayerRole::FfnDown
        )
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
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0 && self.attn_scale.is_finite()) {
            return bad("the norm's epsilon and the attention's scale must be finite");
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

    fn layer_shape(&self, role: LayerRole) -> (usize, usize) {
        let (w, f) = (self.width as usize, self.ffn as usize);
        let qkv = self.q_dim() + 2 * self.kv_dim();
        match role {
            LayerRole::AttnNorm | LayerRole::AttnNormBias => (1, w),
            LayerRole::AttnQkv => (qkv, w),
            LayerRole::AttnQkvBias => (1, qkv),
            LayerRole::AttnOut => (w, self.q_dim()),
            LayerRole::AttnOutBias | LayerRole::FfnNorm | LayerRole::FfnNormBias => (1, w),
            LayerRole::FfnUp => (f, w),
            LayerRole::FfnUpBias => (1, f),
            LayerRole::FfnDown => (w, f),
            LayerRole::FfnDownBias => (1, w),
        }
    }

    const fn before_layers(&self) -> usize {
        match self.positions {
            Positions::Learned => 2,
        }
    }

    /// How many tensors the model has.
    #[must_use]
    pub const fn tensors(&self) -> usize {
        let after = match self.head {
            Head::Tied => 2,
            Head::Own => 3,
        };
        self.before_layers() + self.layers as usize * LayerRole::ALL.len() + after
    }

    /// Tensor number `id`, or `None` beyond the last.
    #[must_use]
    pub fn slot(&self, id: TensorId) -> Option<Slot> {
        let (before, w) = (self.before_layers(), self.width as usize);
        let per_layer = LayerRole::ALL.len();
        let id = usize::from(id.0);
        let slot = |role, rows, cols, vector| Some(Slot { role, rows, cols, vector });
        if id >= self.tensors() {
            return None;
        }
        if id < before {
            return match id {
                0 => slot(Role::TokenEmbd, self.vocab as usize, w, false),
                _ => slot(Role::PositionEmbd, self.context as usize, w, false),
            };
        }
        let (layer, i) = ((id - before) / per_layer, (id - before) % per_layer);
        if layer < self.layers as usize {
            let role = LayerRole::ALL[i];
            let (rows, cols) = self.layer_shape(role);
            return slot(Role::Layer(layer as u32, role), rows, cols, role.is_vector());
        }
        match i {
            0 => slot(Role::OutputNorm, 1, w, true),
            1 => slot(Role::OutputNormBias, 1, w, true),
            _ => slot(Role::Output, self.vocab as usize, w, false),
        }
    }

    /// The number of the tensor with this role; a tied head's is the embedding's.
    ///
    /// # Panics
    /// Where the model has no such tensor.
    #[must_use]
    pub fn id(&self, role: Role) -> TensorId {
        let before = self.before_layers();
        let after = before + self.layers as usize * LayerRole::ALL.len();
        let id = match role {
            Role::TokenEmbd => 0,
            Role::PositionEmbd => 1,
            Role::Layer(l, r) => {
                assert!(l < self.layers, "no such layer");
                before + l as usize * LayerRole::ALL.len() + r as usize
            }
            Role::OutputNorm => after,
            Role::OutputNormBias => after + 1,
            Role::Output if self.head == Head::Tied => 0,
            Role::Output => after + 2,
        };
        TensorId(id as u16)
    }

    /// All tensors, in the order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.tensors()).map_while(|i| self.slot(TensorId(i as u16)))
    }

    /// The number of parameters: the elements of all tensors (a tied head counts once).
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.slots().map(|s| s.rows as u64 * s.cols as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::gpt2;

    #[test]
    fn gpt2_small_has_its_parameters() {
        assert_eq!(gpt2::small().parameters(), 124_439_808);
        let own = Spec { head: Head::Own, ..gpt2::small() };
        assert_eq!(own.parameters(), 124_439_808 + 50257 * 768);
    }

    #[test]
    fn numbers_and_roles_are_inverse() {
        for spec in [gpt2::small(), Spec { head: Head::Own, ..gpt2::small() }] {
            for (i, s) in spec.slots().enumerate() {
                assert_eq!(spec.id(s.role), TensorId(i as u16));
            }
            assert_eq!(spec.slots().count(), spec.tensors());
        }
    }
}
