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
    /// `[vocab, layers width]`, of the inputs of layers.
    PerLayerEmbd,
    /// `[layers width, width]`, from the residual stream to the inputs of layers.
    PerLayerProj,
    /// `[width]`, of the inputs of one layer.
    PerLayerNorm,
    /// `[streams - 1][width, width]`, from the embedding to the other residual streams.
    StreamProj,
    /// `[streams - 1][width, width]`, from the other residual streams to the end.
    StreamUnembd,
    /// A tensor of a layer.
    Layer(u32, LayerRole),
    /// `[width]`
    OutputNorm,
    /// `[width]`
    OutputNormBias,
    /// `[vocab, width]`, where the head isn't tied.
    Output,
}

impl Role {
    /// Usual name in GGUF files; of a layer's tensor the part after `blk.N.`.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        match self {
            Role::TokenEmbd => "token_embd.weight",
            Role::PositionEmbd => "position_embd.weight",
            Role::RopeFactors => "rope_freqs.weight",
            Role::RopeFactorsLong => "rope_factors_long.weight",
            Role::RopeFactorsShort => "rope_factors_short.weight",
            Role::PerLayerEmbd => "per_layer_token_embd.weight",
            Role::PerLayerProj => "per_layer_model_proj.weight",
            Role::PerLayerNorm => "per_layer_proj_norm.weight",
            Role::StreamProj => "altup_proj.weight",
            Role::StreamUnembd => "altup_unembd_proj.weight",
            Role::OutputNorm => "output_norm.weight",
            Role::OutputNormBias => "output_norm.bias",
            Role::Output => "output.weight",
            Role::Layer(_, role) => role.gguf_name(),
        }
    }
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
    /// One tensor of the same shape, in which the value heads of linear attention that use one key
    /// head stand together ([`DeltaNet::stored`](crate::layers::DeltaNet::stored)).
    Grouped {
        /// True if it has the logarithms of numbers that are negated in memory.
        log: bool,
    },
    /// A share of the outputs of each expert in one tensor with inputs as rows, `[experts, cols, parts *
    /// rows]`, in which outputs of the shares alternate; of a vector of each expert, in a tensor
    /// `[experts, parts * cols]`.
    Columns {
        /// Index of the share, from 0.
        part: u8,
        /// Number of shares.
        parts: u8,
    },
    /// A share of the outputs of each expert in MXFP4, in which outputs of the shares alternate: blocks
    /// `[experts, parts * rows, cols / 32, 16]`, each of 32 elements in pairs, and exponents `[experts,
    /// parts * rows, cols / 32]` in a tensor whose name ends with `_scales` in place of `_blocks`.
    Mxfp4 {
        /// Index of the share, from 0.
        part: u8,
        /// Number of shares.
        parts: u8,
    },
}

impl HfName {
    /// The same tensor with its value heads grouped.
    const fn grouped(self) -> HfName {
        HfName { form: HfForm::Grouped { log: false }, ..self }
    }
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
    /// `[heads head_dim, width]`; with gates, those of each head follow its queries.
    AttnQ: Qkv bias AttnQBias, "attn_q.weight", [whole("self_attn.q_proj.weight")],
        |l, w| l.attention().filter(|a| !a.fused).and_then(|a| one(a.q_rows(), w));
    /// `[heads head_dim]`
    AttnQBias: Vector, "attn_q.bias", [whole("self_attn.q_proj.bias")], |l, _| l.attention()
        .filter(|a| !a.fused && a.qkv_bias).and_then(|a| vector(a.q_rows()));
    /// `[kv_heads head_dim, width]`
    AttnK: Qkv bias AttnKBias, "attn_k.weight", [whole("self_attn.k_proj.weight")],
        |l, w| l.attention().filter(|a| !a.fused && a.has_kv()).and_then(|a| one(a.kv_dim(), w));
    /// `[kv_heads head_dim]`
    AttnKBias: Vector, "attn_k.bias", [whole("self_attn.k_proj.bias")], |l, _| l.attention()
        .filter(|a| !a.fused && a.has_kv() && a.qkv_bias).and_then(|a| vector(a.kv_dim()));
    /// `[kv_heads head_dim, width]`
    AttnV: Qkv bias AttnVBias, "attn_v.weight", [whole("self_attn.v_proj.weight")],
        |l, w| l.attention().filter(|a| a.has_values()).and_then(|a| one(a.kv_dim(), w));
    /// `[kv_heads head_dim]`
    AttnVBias: Vector, "attn_v.bias", [whole("self_attn.v_proj.bias")], |l, _| l.attention()
        .filter(|a| a.has_values() && a.qkv_bias).and_then(|a| vector(a.kv_dim()));
    /// `[head_dim]`, for each head of queries; `[heads head_dim]` of a norm over all of them.
    AttnQNorm: Vector, "attn_q_norm.weight", [whole("self_attn.q_norm.weight")], |l, _| l.attention()
        .filter(|a| a.qk_norm).and_then(|a| vector(a.normed(a.q_dim())));
    /// `[head_dim]`, for each head of keys; `[kv_heads head_dim]` of a norm over all of them.
    AttnKNorm: Vector, "attn_k_norm.weight", [whole("self_attn.k_norm.weight")], |l, _| l.attention()
        .filter(|a| a.qk_norm && a.has_kv()).and_then(|a| vector(a.normed(a.kv_dim())));
    /// `[heads]`: a further score of each head, without a value.
    AttnSinks: Vector, "attn_sinks.weight", [whole("self_attn.sinks")],
        |l, _| l.attention().filter(|a| a.sinks).and_then(|a| vector(a.heads as usize));
    /// `[heads, width]`: a gate of each head's outputs.
    AttnHeadGate: Matrix, "attn_head_gate.weight",
        [whole("self_attn.gate_proj.weight"), whole("self_attn.g_proj.weight")],
        |l, w| l.attention().filter(|a| a.head_gate).and_then(|a| one(a.heads as usize, w));
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
    /// Queries, keys and values of linear attention one after another: `[channels, width]`.
    DeltaQkv: Matrix, "ssm_qkv.weight", [whole("linear_attn.in_proj_qkv.weight").grouped()],
        |l, w| l.delta_net().and_then(|d| one(d.channels(), w));
    /// `[value_heads value_dim, width]`: the gate of the outputs of linear attention.
    DeltaGate: Matrix, "attn_gate.weight", [whole("linear_attn.in_proj_z.weight").grouped()],
        |l, w| l.delta_net().and_then(|d| one(d.value_width(), w));
    /// `[value_heads, width]`: decays.
    DeltaAlpha: Matrix, "ssm_alpha.weight", [whole("linear_attn.in_proj_a.weight").grouped()],
        |l, w| l.delta_net().and_then(|d| one(d.value_heads as usize, w));
    /// `[value_heads, width]`: strengths of corrections.
    DeltaBeta: Matrix, "ssm_beta.weight", [whole("linear_attn.in_proj_b.weight").grouped()],
        |l, w| l.delta_net().and_then(|d| one(d.value_heads as usize, w));
    /// `[channels, taps]`, the last tap that of the token itself.
    DeltaTaps: Vector, "ssm_conv1d.weight", [whole("linear_attn.conv1d.weight").grouped()],
        |l, _| l.delta_net().and_then(|d| one(d.channels(), d.taps as usize));
    /// `[value_heads]`: rates of the decays, negative; folders have the logarithm of their magnitude.
    DeltaRate: Vector, "ssm_a", [HfName {
        form: HfForm::Grouped { log: true }, ..whole("linear_attn.A_log")
    }], |l, _| l.delta_net().and_then(|d| vector(d.value_heads as usize));
    /// `[value_heads]`: bias of the decays.
    DeltaBias: Vector, "ssm_dt.bias", [whole("linear_attn.dt_bias").grouped()],
        |l, _| l.delta_net().and_then(|d| vector(d.value_heads as usize));
    /// `[value_dim]`, for the outputs of each head of linear attention.
    DeltaNorm: Vector, "ssm_norm.weight", [whole("linear_attn.norm.weight")],
        |l, _| l.delta_net().and_then(|d| vector(d.value_dim as usize));
    /// `[width, value_heads value_dim]`
    DeltaOut: Matrix, "ssm_out.weight", [whole("linear_attn.out_proj.weight").grouped()],
        |l, w| l.delta_net().and_then(|d| one(w, d.value_width()));
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
    ExpertRouter: Router bias ExpertRouterBias, "ffn_gate_inp.weight", [whole("mlp.gate.weight")],
        |l, w| l.experts().and_then(|e| one(e.experts as usize, w));
    /// `[experts][2 inner, width]`: of each expert the gate and then the other.
    ExpertGateUp: Matrix, "ffn_gate_up_exps.weight", [share("mlp.experts.gate_up_proj", 0, 1)],
        |l, w| l.experts().filter(|e| e.fused)
            .map(|e| (e.experts as usize, 2 * e.inner as usize, w));
    /// `[experts][inner, width]`
    ExpertGate: Matrix bias ExpertGateBias, "ffn_gate_exps.weight",
        [each("mlp.experts.{}.gate_proj.weight"), share("mlp.experts.gate_up_proj", 0, 2)],
        |l, w| l.experts().filter(|e| !e.fused).map(|e| (e.experts as usize, e.inner as usize, w));
    /// `[experts][inner, width]`
    ExpertUp: Matrix bias ExpertUpBias, "ffn_up_exps.weight",
        [each("mlp.experts.{}.up_proj.weight"), share("mlp.experts.gate_up_proj", 1, 2)],
        |l, w| l.experts().filter(|e| !e.fused).map(|e| (e.experts as usize, e.inner as usize, w));
    /// `[experts][width, inner]`
    ExpertDown: Matrix bias ExpertDownBias, "ffn_down_exps.weight",
        [each("mlp.experts.{}.down_proj.weight"), share("mlp.experts.down_proj", 0, 1)],
        |l, w| l.experts().map(|e| (e.experts as usize, w, e.inner as usize));
    /// `[experts]`, added to the scores.
    ExpertRouterBias: Vector, "ffn_gate_inp.bias", [whole("mlp.router.bias")],
        |l, _| l.experts().filter(|e| e.bias).and_then(|e| vector(e.experts as usize));
    /// `[experts]`, added to the weights for the choice alone.
    ExpertChoiceBias: Vector, "exp_probs_b.bias", [whole("mlp.gate.e_score_correction_bias")],
        |l, _| l.experts().filter(|e| e.router.has_bias()).and_then(|e| vector(e.experts as usize));
    /// `[experts][inner]`
    ExpertGateBias: Vector, "ffn_gate_exps.bias", [],
        |l, _| l.experts().filter(|e| e.bias).map(|e| (e.experts as usize, 1, e.inner as usize));
    /// `[experts][inner]`
    ExpertUpBias: Vector, "ffn_up_exps.bias", [],
        |l, _| l.experts().filter(|e| e.bias).map(|e| (e.experts as usize, 1, e.inner as usize));
    /// `[experts][width]`
    ExpertDownBias: Vector, "ffn_down_exps.bias", [],
        |l, w| l.experts().filter(|e| e.bias).map(|e| (e.experts as usize, 1, w));
    /// `[1, width]`: the score of the shared expert.
    SharedRouter: Router, "ffn_gate_inp_shexp.weight", [whole("mlp.shared_expert_gate.weight")],
        |l, w| l.shared_expert().filter(|s| s.gated).and_then(|_| one(1, w));
    /// `[inner, width]`
    SharedGate: Matrix, "ffn_gate_shexp.weight", [whole("mlp.shared_expert.gate_proj.weight")],
        |l, w| l.shared_expert().and_then(|s| one(s.inner as usize, w));
    /// `[inner, width]`
    SharedUp: Matrix, "ffn_up_shexp.weight", [whole("mlp.shared_expert.up_proj.weight")],
        |l, w| l.shared_expert().and_then(|s| one(s.inner as usize, w));
    /// `[width, inner]`
    SharedDown: Matrix, "ffn_down_shexp.weight", [whole("mlp.shared_expert.down_proj.weight")],
        |l, w| l.shared_expert().and_then(|s| one(w, s.inner as usize));
    /// `[width]`, after the feed-forward part.
    FfnPostNorm: Vector, "post_ffw_norm.weight", [],
        |l, w| if l.norms.post { vector(w) } else { None };
    /// `[inputs, width]`: the gate of the layer's own inputs.
    InputGate: Matrix, "inp_gate.weight", [whole("per_layer_input_gate.weight")],
        |l, w| l.input.and_then(|i| one(i.width as usize, w));
    /// `[width, inputs]`
    InputProj: Matrix, "proj.weight", [whole("per_layer_projection.weight")],
        |l, w| l.input.and_then(|i| one(w, i.width as usize));
    /// `[width]`, after the layer's own inputs.
    InputPostNorm: Vector, "post_norm.weight", [whole("post_per_layer_input_norm.weight")],
        |l, w| l.input.and_then(|_| vector(w));
    /// `[streams, width]`: the router of residual streams.
    StreamRouter: Router, "altup_router.weight", [whole("altup.modality_router.weight")],
        |l, w| l.streams.and_then(|s| one(s.count as usize, w));
    /// `[width]`, before that router.
    StreamRouterNorm: Vector, "altup_router_norm.weight", [whole("altup.router_norm.weight")],
        |l, w| l.streams.and_then(|_| vector(w));
    /// `[streams^2, streams]`: coefficients of predictions.
    StreamPredict: Vector, "altup_predict_coef.weight", [whole("altup.prediction_coefs.weight")],
        |l, _| l.streams.and_then(|s| one((s.count * s.count) as usize, s.count as usize));
    /// `[streams, streams]`: coefficients of corrections.
    StreamCorrect: Vector, "altup_correct_coef.weight", [whole("altup.correction_coefs.weight")],
        |l, _| l.streams.and_then(|s| one(s.count as usize, s.count as usize));
    /// `[width]`: factors of the corrected stream, as the layer's own inputs see it.
    StreamScale: Vector, "altup_correct_scale.weight", [whole("altup.correct_output_scale")],
        |l, w| l.streams.filter(|s| s.scaled).and_then(|_| vector(w));
    /// `[rank, width]`: the residual branch of low rank.
    LaurelLeft: Matrix, "laurel_l.weight", [whole("laurel.linear_left.weight")],
        |l, w| l.streams.and_then(|s| one(s.rank as usize, w));
    /// `[width, rank]`
    LaurelRight: Matrix, "laurel_r.weight", [whole("laurel.linear_right.weight")],
        |l, w| l.streams.and_then(|s| one(w, s.rank as usize));
    /// `[width]`, after it.
    LaurelNorm: Vector, "laurel_post_norm.weight", [whole("laurel.post_laurel_norm.weight")],
        |l, w| l.streams.and_then(|_| vector(w));
    /// `[width]`, before the router, of experts beside a dense part.
    RouterNorm: Vector, "ffn_gate_inp.scale", [whole("router.scale")],
        |l, w| if l.has_both() { vector(w) } else { None };
    /// `[experts]`: the factors of their probabilities.
    ExpertScale: Vector, "ffn_down_exps.scale", [whole("router.per_expert_scale")],
        |l, _| l.experts().filter(|_| l.has_both()).and_then(|e| vector(e.experts as usize));
    /// `[width]`, before experts beside a dense part.
    ExpertNorm: Vector, "pre_ffw_norm_2.weight", [whole("pre_feedforward_layernorm_2.weight")],
        |l, w| if l.has_both() { vector(w) } else { None };
    /// `[width]`, after a dense part beside experts.
    DensePostNorm: Vector, "post_ffw_norm_1.weight", [whole("post_feedforward_layernorm_1.weight")],
        |l, w| if l.has_both() { vector(w) } else { None };
    /// `[width]`, after experts beside a dense part.
    ExpertPostNorm: Vector, "post_ffw_norm_2.weight", [whole("post_feedforward_layernorm_2.weight")],
        |l, w| if l.has_both() { vector(w) } else { None };
    /// `[1]`: the factor of the residual stream after the layer.
    LayerScale: Vector, "layer_output_scale.weight", [whole("layer_scalar")],
        |l, _| if l.scales.output { vector(1) } else { None };
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
