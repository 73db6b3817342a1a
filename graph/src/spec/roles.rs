//! Tensors of a model: their roles, names and shapes. One table lists every tensor that layers can
//! have; names, shapes and biases are generated from it.

use crate::layers::Layer;

/// Role of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Role {
    /// `[vocab, width]`
    TokenEmbd,
    /// `[context, width]`
    PositionEmbd,
    /// `[dims / 2]`, of the rotary embedding.
    RopeFactors,
    /// `[dims / 2]`, of the rotary embedding in sessions with a longer context than the original.
    RopeFactorsLong,
    /// `[dims / 2]`, of the rotary embedding in other sessions.
    RopeFactorsShort,
    /// A tensor of a layer.
    Layer(u32, LayerRole),
    /// `[width]`
    OutputNorm,
    /// `[width]`
    OutputNormBias,
    /// `[vocab, width]`, where the head isn't tied.
    Output,
}

/// Memory representation of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TensorKind {
    /// Matrix in the format of its file.
    Matrix,
    /// Matrix in the format of its file that is never quantised, since its outputs decide a choice.
    Router,
    /// Matrix whose outputs become queries, keys or values; its inputs are quantised to 16 bits.
    Qkv,
    /// Vector of f32, whatever the file holds.
    Vector,
}

impl TensorKind {
    /// True if it is f32 in memory, whatever the file holds.
    #[must_use]
    pub const fn is_vector(self) -> bool {
        matches!(self, TensorKind::Vector)
    }
}

/// Tensor that the model must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Role of the tensor.
    pub role: Role,
    /// Memory representation.
    pub kind: TensorKind,
    /// Number of stacked matrices of the same shape, one for each expert; 1 for a single matrix.
    pub experts: usize,
    /// Rows of each matrix, one for each output; 1 for a plain vector.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
}

impl Slot {
    pub(crate) const fn matrix(role: Role, rows: usize, cols: usize) -> Slot {
        Slot { role, kind: TensorKind::Matrix, experts: 1, rows, cols }
    }

    pub(crate) const fn vector(role: Role, cols: usize) -> Slot {
        Slot { role, kind: TensorKind::Vector, experts: 1, rows: 1, cols }
    }

    /// True if it is f32 in memory.
    #[must_use]
    pub const fn is_vector(&self) -> bool {
        self.kind.is_vector()
    }

    /// Rows of all experts together: those of the matrix in memory.
    #[must_use]
    pub const fn all_rows(&self) -> usize {
        self.experts * self.rows // bounded by Layer::validate
    }
}

/// Name of a tensor in a Hugging Face folder, and how that tensor maps to the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HfName {
    /// Name after that of the layer; `{}` stands for the number of an expert.
    pub name: &'static str,
    /// Form in which the folder stores it.
    pub form: HfForm,
}

/// Form in which a Hugging Face folder stores one tensor of Teff.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HfForm {
    /// One tensor of the same shape.
    Whole,
    /// One tensor for each expert.
    EachExpert,
    /// A share of the rows of each expert's matrix in one tensor `[experts, parts * rows, cols]`; of
    /// a matrix that is no expert's, in a tensor `[parts * rows, cols]`.
    Share {
        /// Index of the share, from 0.
        part: u8,
        /// Number of shares.
        parts: u8,
    },
}

const fn whole(name: &'static str) -> HfName {
    HfName { name, form: HfForm::Whole }
}

const fn each(name: &'static str) -> HfName {
    HfName { name, form: HfForm::EachExpert }
}

const fn share(name: &'static str, part: u8, parts: u8) -> HfName {
    HfName { name, form: HfForm::Share { part, parts } }
}

/// `(experts, rows, cols)`.
type Shape = (usize, usize, usize);

fn one(rows: usize, cols: usize) -> Option<Shape> {
    Some((1, rows, cols))
}

fn vector(cols: usize) -> Option<Shape> {
    Some((1, 1, cols))
}

macro_rules! roles {
    ($(
        $(#[$doc:meta])*
        $role:ident: $kind:ident $(bias $bias:ident)?, $gguf:literal, [$($hf:expr),*],
            |$l:pat_param, $w:pat_param| $shape:expr;
    )*) => {
        /// Role of a tensor of a layer.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum LayerRole {
            $($(#[$doc])* $role,)*
        }

        impl LayerRole {
            /// All roles of a layer, in order of their numbers.
            pub const ALL: [LayerRole; [$(stringify!($role)),*].len()] = [$(LayerRole::$role),*];

            /// Memory representation of the tensor.
            #[must_use]
            pub const fn kind(self) -> TensorKind {
                match self {
                    $(LayerRole::$role => TensorKind::$kind,)*
                }
            }

            /// Bias of a product.
            #[must_use]
            pub const fn bias(self) -> Option<LayerRole> {
                match self {
                    $($(LayerRole::$role => Some(LayerRole::$bias),)?)*
                    _ => None,
                }
            }

            /// Name in GGUF files, after `blk.N.`: the same for all families except those that
            /// override it ([`crate::family::Names`]).
            #[must_use]
            pub const fn gguf_name(self) -> &'static str {
                match self {
                    $(LayerRole::$role => $gguf,)*
                }
            }

            /// Names in the Hugging Face folders of decoders that descend from Llama, after
            /// `layers.N.`, the usual one first. Empty if those have no such tensor.
            #[must_use]
            pub const fn hf_names(self) -> &'static [HfName] {
                match self {
                    $(LayerRole::$role => const { &[$($hf),*] },)*
                }
            }

            /// Shape in a layer of a model of this width, without the layer's number; `None` if the
            /// layer has no such tensor.
            #[must_use]
            pub fn shape(self, layer: &Layer, width: u32) -> Option<Slot> {
                let shape: Option<Shape> = match self {
                    $(LayerRole::$role => {
                        let ($l, $w) = (layer, width as usize);
                        $shape
                    })*
                };
                let (experts, rows, cols) = shape?;
                Some(Slot { role: Role::Layer(0, self), kind: self.kind(), experts, rows, cols })
            }
        }
    };
}

roles! {
    /// `[width]`, before the mixer.
    AttnNorm: Vector, "attn_norm.weight", [whole("input_layernorm.weight")],
        |l, w| if l.norms.pre { vector(w) } else { None };
    /// `[width]`
    AttnNormBias: Vector, "attn_norm.bias", [],
        |l, w| if l.norms.has_bias() { vector(w) } else { None };
    /// Queries, keys and values one after another: `[(heads + 2 kv_heads) head_dim, width]`.
    AttnQkv: Qkv bias AttnQkvBias, "attn_qkv.weight", [],
        |l, w| l.attention().filter(|a| a.fused).and_then(|a| one(a.q_dim() + 2 * a.kv_dim(), w));
    /// `[(heads + 2 kv_heads) head_dim]`
    AttnQkvBias: Vector, "attn_qkv.bias", [], |l, _| l.attention()
        .filter(|a| a.fused && a.qkv_bias).and_then(|a| vector(a.q_dim() + 2 * a.kv_dim()));
    /// `[heads head_dim, width]`
    AttnQ: Qkv bias AttnQBias, "attn_q.weight", [whole("self_attn.q_proj.weight")],
        |l, w| l.attention().filter(|a| !a.fused).and_then(|a| one(a.q_dim(), w));
    /// `[heads head_dim]`
    AttnQBias: Vector, "attn_q.bias", [whole("self_attn.q_proj.bias")], |l, _| l.attention()
        .filter(|a| !a.fused && a.qkv_bias).and_then(|a| vector(a.q_dim()));
    /// `[kv_heads head_dim, width]`
    AttnK: Qkv bias AttnKBias, "attn_k.weight", [whole("self_attn.k_proj.weight")],
        |l, w| l.attention().filter(|a| !a.fused && a.has_kv()).and_then(|a| one(a.kv_dim(), w));
    /// `[kv_heads head_dim]`
    AttnKBias: Vector, "attn_k.bias", [whole("self_attn.k_proj.bias")], |l, _| l.attention()
        .filter(|a| !a.fused && a.has_kv() && a.qkv_bias).and_then(|a| vector(a.kv_dim()));
    /// `[kv_heads head_dim, width]`
    AttnV: Qkv bias AttnVBias, "attn_v.weight", [whole("self_attn.v_proj.weight")],
        |l, w| l.attention().filter(|a| !a.fused && a.has_kv()).and_then(|a| one(a.kv_dim(), w));
    /// `[kv_heads head_dim]`
    AttnVBias: Vector, "attn_v.bias", [whole("self_attn.v_proj.bias")], |l, _| l.attention()
        .filter(|a| !a.fused && a.has_kv() && a.qkv_bias).and_then(|a| vector(a.kv_dim()));
    /// `[head_dim]`, for each head of queries; `[heads head_dim]` of a norm over all of them.
    AttnQNorm: Vector, "attn_q_norm.weight", [whole("self_attn.q_norm.weight")], |l, _| l.attention()
        .filter(|a| a.qk_norm).and_then(|a| vector(a.normed(a.q_dim())));
    /// `[head_dim]`, for each head of keys; `[kv_heads head_dim]` of a norm over all of them.
    AttnKNorm: Vector, "attn_k_norm.weight", [whole("self_attn.k_norm.weight")], |l, _| l.attention()
        .filter(|a| a.qk_norm && a.has_kv()).and_then(|a| vector(a.normed(a.kv_dim())));
    /// `[heads]`: a further score of each head, without a value.
    AttnSinks: Vector, "attn_sinks.weight", [whole("self_attn.sinks")],
        |l, _| l.attention().filter(|a| a.sinks).and_then(|a| vector(a.heads as usize));
    /// `[heads head_dim]`, before the attention's last product.
    AttnSubNorm: Vector, "attn_sub_norm.weight", [whole("self_attn.attn_sub_norm.weight")],
        |l, _| l.attention().filter(|a| a.sub_norm).and_then(|a| vector(a.q_dim()));
    /// `[width, heads head_dim]`
    AttnOut: Matrix bias AttnOutBias, "attn_output.weight", [whole("self_attn.o_proj.weight")],
        |l, w| l.attention().and_then(|a| one(w, a.q_dim()));
    /// `[width]`
    AttnOutBias: Vector, "attn_output.bias", [whole("self_attn.o_proj.bias")],
        |l, w| l.attention().filter(|a| a.out_bias).and_then(|_| vector(w));
    /// `[3 width, width]`: the two gates of a short convolution and its inputs.
    ConvIn: Matrix bias ConvInBias, "shortconv.in_proj.weight", [whole("conv.in_proj.weight")],
        |l, w| l.short_conv().and_then(|_| one(3 * w, w));
    /// `[3 width]`
    ConvInBias: Vector, "shortconv.in_proj.bias", [whole("conv.in_proj.bias")],
        |l, w| l.short_conv().filter(|c| c.bias).and_then(|_| vector(3 * w));
    /// `[width, taps]`, the last tap that of the token itself.
    ConvTaps: Vector, "shortconv.conv.weight", [whole("conv.conv.weight")],
        |l, w| l.short_conv().and_then(|c| one(w, c.taps as usize));
    /// `[width]`
    ConvTapsBias: Vector, "shortconv.conv.bias", [whole("conv.conv.bias")],
        |l, w| l.short_conv().filter(|c| c.bias).and_then(|_| vector(w));
    /// `[width, width]`
    ConvOut: Matrix bias ConvOutBias, "shortconv.out_proj.weight", [whole("conv.out_proj.weight")],
        |l, w| l.short_conv().and_then(|_| one(w, w));
    /// `[width]`
    ConvOutBias: Vector, "shortconv.out_proj.bias", [whole("conv.out_proj.bias")],
        |l, w| l.short_conv().filter(|c| c.bias).and_then(|_| vector(w));
    /// `[width]`, after the mixer.
    AttnPostNorm: Vector, "post_attention_norm.weight", [],
        |l, w| if l.norms.post { vector(w) } else { None };
    /// `[width]`, before the feed-forward part.
    FfnNorm: Vector, "ffn_norm.weight", [whole("post_attention_layernorm.weight")],
        |l, w| if l.norms.pre { vector(w) } else { None };
    /// `[width]`
    FfnNormBias: Vector, "ffn_norm.bias", [],
        |l, w| if l.norms.has_bias() { vector(w) } else { None };
    /// The gate and then the other: `[2 ffn, width]`.
    FfnGateUp: Matrix, "ffn_gate_up.weight", [whole("mlp.gate_up_proj.weight")],
        |l, w| l.dense().filter(|d| d.fused).and_then(|d| one(2 * d.inner as usize, w));
    /// `[ffn, width]`
    FfnGate: Matrix bias FfnGateBias, "ffn_gate.weight", [whole("mlp.gate_proj.weight")],
        |l, w| l.dense().filter(|d| d.gated && !d.fused).and_then(|d| one(d.inner as usize, w));
    /// `[ffn]`
    FfnGateBias: Vector, "ffn_gate.bias", [whole("mlp.gate_proj.bias")],
        |l, _| l.dense().filter(|d| d.gated && d.bias).and_then(|d| vector(d.inner as usize));
    /// `[ffn, width]`
    FfnUp: Matrix bias FfnUpBias, "ffn_up.weight", [whole("mlp.up_proj.weight")],
        |l, w| l.dense().filter(|d| !d.fused).and_then(|d| one(d.inner as usize, w));
    /// `[ffn]`
    FfnUpBias: Vector, "ffn_up.bias", [whole("mlp.up_proj.bias")],
        |l, _| l.dense().filter(|d| d.bias).and_then(|d| vector(d.inner as usize));
    /// `[ffn]`, before the feed-forward part's last product.
    FfnSubNorm: Vector, "ffn_sub_norm.weight", [whole("mlp.ffn_sub_norm.weight")],
        |l, _| l.dense().filter(|d| d.sub_norm).and_then(|d| vector(d.inner as usize));
    /// `[width, ffn]`
    FfnDown: Matrix bias FfnDownBias, "ffn_down.weight", [whole("mlp.down_proj.weight")],
        |l, w| l.dense().and_then(|d| one(w, d.inner as usize));
    /// `[width]`
    FfnDownBias: Vector, "ffn_down.bias", [whole("mlp.down_proj.bias")],
        |l, w| l.dense().filter(|d| d.bias).and_then(|_| vector(w));
    /// `[experts, width]`: the scores by which tokens choose experts.
    ExpertRouter: Router, "ffn_gate_inp.weight", [whole("mlp.gate.weight")],
        |l, w| l.experts().and_then(|e| one(e.experts as usize, w));
    /// `[experts][inner, width]`
    ExpertGate: Matrix, "ffn_gate_exps.weight",
        [each("mlp.experts.{}.gate_proj.weight"), share("mlp.experts.gate_up_proj", 0, 2)],
        |l, w| l.experts().map(|e| (e.experts as usize, e.inner as usize, w));
    /// `[experts][inner, width]`
    ExpertUp: Matrix, "ffn_up_exps.weight",
        [each("mlp.experts.{}.up_proj.weight"), share("mlp.experts.gate_up_proj", 1, 2)],
        |l, w| l.experts().map(|e| (e.experts as usize, e.inner as usize, w));
    /// `[experts][width, inner]`
    ExpertDown: Matrix, "ffn_down_exps.weight",
        [each("mlp.experts.{}.down_proj.weight"), share("mlp.experts.down_proj", 0, 1)],
        |l, w| l.experts().map(|e| (e.experts as usize, w, e.inner as usize));
    /// `[width]`, after the feed-forward part.
    FfnPostNorm: Vector, "post_ffw_norm.weight", [],
        |l, w| if l.norms.post { vector(w) } else { None };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_number_themselves() {
        for (i, role) in LayerRole::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, i);
            assert!(role.bias().is_none_or(|b| b.kind().is_vector() && !role.kind().is_vector()));
        }
    }

    #[test]
    fn names_are_distinct() {
        for (i, a) in LayerRole::ALL.into_iter().enumerate() {
            for b in &LayerRole::ALL[i + 1..] {
                assert_ne!(a.gguf_name(), b.gguf_name());
                assert!(a.hf_names().iter().all(|n| !b.hf_names().contains(n)), "{a:?} {b:?}");
            }
        }
    }
}
