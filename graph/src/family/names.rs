//! Names of tensors that families share.

use core::fmt;

use crate::{LayerRole, Role};

/// Writes the GGUF name of a tensor: GGUF's names are the same for all families.
///
/// # Errors
/// The writer's own.
pub fn gguf_name(role: Role, out: &mut dyn fmt::Write) -> fmt::Result {
    use LayerRole as L;
    let (l, role) = match role {
        Role::TokenEmbd => return out.write_str("token_embd.weight"),
        Role::PositionEmbd => return out.write_str("position_embd.weight"),
        Role::RopeFactors => return out.write_str("rope_freqs.weight"),
        Role::OutputNorm => return out.write_str("output_norm.weight"),
        Role::OutputNormBias => return out.write_str("output_norm.bias"),
        Role::Output => return out.write_str("output.weight"),
        Role::Layer(l, role) => (l, role),
    };
    let name = match role {
        L::AttnNorm => "attn_norm.weight",
        L::AttnNormBias => "attn_norm.bias",
        L::AttnQkv => "attn_qkv.weight",
        L::AttnQkvBias => "attn_qkv.bias",
        L::AttnQ => "attn_q.weight",
        L::AttnQBias => "attn_q.bias",
        L::AttnK => "attn_k.weight",
        L::AttnKBias => "attn_k.bias",
        L::AttnV => "attn_v.weight",
        L::AttnVBias => "attn_v.bias",
        L::AttnQNorm => "attn_q_norm.weight",
        L::AttnKNorm => "attn_k_norm.weight",
        L::AttnSubNorm => "attn_sub_norm.weight",
        L::AttnOut => "attn_output.weight",
        L::AttnOutBias => "attn_output.bias",
        L::AttnPostNorm => "post_attention_norm.weight",
        L::FfnNorm => "ffn_norm.weight",
        L::FfnNormBias => "ffn_norm.bias",
        L::FfnGate => "ffn_gate.weight",
        L::FfnGateBias => "ffn_gate.bias",
        L::FfnUp => "ffn_up.weight",
        L::FfnUpBias => "ffn_up.bias",
        L::FfnSubNorm => "ffn_sub_norm.weight",
        L::FfnDown => "ffn_down.weight",
        L::FfnDownBias => "ffn_down.bias",
        L::FfnPostNorm => "post_ffw_norm.weight",
    };
    write!(out, "blk.{l}.{name}")
}

/// What Hugging Face's names of the norms around the feed-forward part are; all other names are the
/// same for all decoders that descend from Llama.
pub(super) struct HfNorms {
    pub(super) attn_post: Option<&'static str>,
    pub(super) ffn: &'static str,
    pub(super) ffn_post: Option<&'static str>,
}

/// As Llama has them: `post_attention_layernorm` stands before the feed-forward part.
pub(super) const LLAMA_NORMS: HfNorms =
    HfNorms { attn_post: None, ffn: "post_attention_layernorm.weight", ffn_post: None };

/// Writes the Hugging Face name of a tensor, without the prefix `model.`.
pub(super) fn hf_name(norms: &HfNorms, role: Role, out: &mut dyn fmt::Write) -> fmt::Result {
    use LayerRole as L;
    let (l, role) = match role {
        Role::TokenEmbd => return out.write_str("embed_tokens.weight"),
        Role::OutputNorm => return out.write_str("norm.weight"),
        Role::Output => return out.write_str("lm_head.weight"),
        Role::PositionEmbd | Role::RopeFactors | Role::OutputNormBias => return Err(fmt::Error),
        Role::Layer(l, role) => (l, role),
    };
    let name = match role {
        L::AttnNorm => "input_layernorm.weight",
        L::AttnQ => "self_attn.q_proj.weight",
        L::AttnQBias => "self_attn.q_proj.bias",
        L::AttnK => "self_attn.k_proj.weight",
        L::AttnKBias => "self_attn.k_proj.bias",
        L::AttnV => "self_attn.v_proj.weight",
        L::AttnVBias => "self_attn.v_proj.bias",
        L::AttnQNorm => "self_attn.q_norm.weight",
        L::AttnKNorm => "self_attn.k_norm.weight",
        L::AttnSubNorm => "self_attn.attn_sub_norm.weight",
        L::AttnOut => "self_attn.o_proj.weight",
        L::AttnOutBias => "self_attn.o_proj.bias",
        L::AttnPostNorm => norms.attn_post.ok_or(fmt::Error)?,
        L::FfnNorm => norms.ffn,
        L::FfnGate => "mlp.gate_proj.weight",
        L::FfnGateBias => "mlp.gate_proj.bias",
        L::FfnUp => "mlp.up_proj.weight",
        L::FfnUpBias => "mlp.up_proj.bias",
        L::FfnSubNorm => "mlp.ffn_sub_norm.weight",
        L::FfnDown => "mlp.down_proj.weight",
        L::FfnDownBias => "mlp.down_proj.bias",
        L::FfnPostNorm => norms.ffn_post.ok_or(fmt::Error)?,
        L::AttnNormBias | L::FfnNormBias | L::AttnQkv | L::AttnQkvBias => return Err(fmt::Error),
    };
    write!(out, "layers.{l}.{name}")
}

/// Hugging Face tensors that hold no parameters: a tied head written out again, and the frequencies
/// that older files of Llama carry.
pub(super) fn hf_ignored(name: &str) -> bool {
    name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}
