//! Names of tensors in GGUF files and in Hugging Face folders.

use core::fmt;

use super::Family;
use crate::spec::{HfForm, HfName, LayerRole, Role};

/// Names of a family's tensors that differ from the table of roles.
#[derive(Debug)]
pub struct Names {
    /// Names in GGUF files that differ from the table's; for a tensor of a layer (any layer), the
    /// part after `blk.N.`.
    pub gguf: &'static [(Role, &'static str)],
    /// Names in Hugging Face folders that differ from the table's; for a tensor of a layer, the
    /// part after the name of the layer.
    pub hf: &'static [(Role, &'static [HfName])],
    /// Name of the list of layers in Hugging Face folders.
    pub hf_layers: &'static str,
    /// True if names that are not listed are those of decoders that descend from Llama; otherwise
    /// there are no others.
    pub like_llama: bool,
}

impl Names {
    /// Names of decoders that descend from Llama.
    pub const LLAMA: Names = Names { gguf: &[], hf: &[], hf_layers: "layers", like_llama: true };
}

/// Role without the layer's number, as [`Names`] lists it.
const fn of_layer(role: LayerRole) -> Role {
    Role::Layer(0, role)
}

/// Listed name of a layer's tensor.
pub(super) const fn named(role: LayerRole, name: &'static [HfName]) -> (Role, &'static [HfName]) {
    (of_layer(role), name)
}

/// Name of a tensor that folders store unchanged.
pub(super) const fn hf(name: &'static str) -> HfName {
    HfName { name, form: HfForm::Whole }
}

/// Listed name of the tensors of experts that folders store one by one; `{}` stands for a number.
pub(super) const fn each(name: &'static str) -> HfName {
    HfName { name, form: HfForm::EachExpert }
}

/// Listed name of a share of a tensor, by its rows.
pub(super) const fn share(name: &'static str, part: u8, parts: u8) -> HfName {
    HfName { name, form: HfForm::Share { part, parts } }
}

fn listed<T: Copy>(list: &[(Role, T)], role: Role) -> Option<T> {
    let role = match role {
        Role::Layer(_, role) => of_layer(role),
        role => role,
    };
    list.iter().find(|(r, _)| *r == role).map(|(_, name)| *name)
}

impl Family {
    /// Writes the GGUF name of a tensor.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gguf_name(&self, role: Role, out: &mut dyn fmt::Write) -> fmt::Result {
        let name = listed(self.names.gguf, role).unwrap_or(role.gguf_name());
        match role {
            Role::Layer(l, _) => write!(out, "blk.{l}.{name}"),
            _ => out.write_str(name),
        }
    }

    /// Writes the GGUF name of one expert's matrix, as files had it before all experts' were one tensor.
    /// False for a tensor that has no such name.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gguf_expert_name(
        &self,
        role: Role,
        expert: usize,
        out: &mut dyn fmt::Write,
    ) -> Result<bool, fmt::Error> {
        let Role::Layer(l, part) = role else { return Ok(false) };
        let name = listed(self.names.gguf, role).unwrap_or(part.gguf_name());
        let Some(stem) = name.strip_suffix("_exps.weight") else { return Ok(false) };
        write!(out, "blk.{l}.{stem}.{expert}.weight")?;
        Ok(true)
    }

    /// True if folders may store matrices in MXFP4.
    #[must_use]
    pub fn reads_mxfp4(&self) -> bool {
        let mut names = self.names.hf.iter().flat_map(|(_, names)| names.iter());
        names.any(|name| matches!(name.form, HfForm::Mxfp4 { .. }))
    }

    /// Forms in which Hugging Face folders store a tensor, the usual one first; empty if they have
    /// none.
    #[must_use]
    pub fn hf_names(&self, role: Role) -> &'static [HfName] {
        if let Some(names) = listed(self.names.hf, role) {
            return names;
        }
        match role {
            _ if !self.names.like_llama => &[],
            // The head's is that of both where they are tied and the file has one of them.
            Role::TokenEmbd => const { &[hf("embed_tokens.weight"), hf("lm_head.weight")] },
            Role::PerLayerEmbd => const { &[hf("embed_tokens_per_layer.weight")] },
            Role::PerLayerProj => const { &[hf("per_layer_model_projection.weight")] },
            Role::PerLayerNorm => const { &[hf("per_layer_projection_norm.weight")] },
            Role::StreamProj => const { &[each("altup_projections.{}.weight")] },
            Role::StreamUnembd => const { &[each("altup_unembed_projections.{}.weight")] },
            Role::OutputNorm => const { &[hf("norm.weight")] },
            Role::Output => const { &[hf("lm_head.weight")] },
            Role::PositionEmbd
            | Role::RopeFactors
            | Role::RopeFactorsLong
            | Role::RopeFactorsShort
            | Role::OutputNormBias => &[],
            Role::Layer(_, role) => role.hf_names(),
        }
    }

    /// Writes one of a tensor's Hugging Face names, without the family's prefix; `expert` is the
    /// number in the name if each expert has its own tensor.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn hf_name(
        &self,
        role: Role,
        name: &HfName,
        expert: usize,
        out: &mut dyn fmt::Write,
    ) -> fmt::Result {
        if let Role::Layer(l, _) = role {
            write!(out, "{}.{l}.", self.names.hf_layers)?;
        }
        match name.name.split_once("{}") {
            Some((before, after)) => write!(out, "{before}{expert}{after}"),
            None => out.write_str(name.name),
        }
    }
}

/// True for Hugging Face tensors that hold no parameters: the frequencies, cosines and sines of
/// rotary embeddings in older files, of the model or of each layer.
pub(super) fn hf_ignored(name: &str) -> bool {
    let Some((module, buffer)) = name.rsplit_once('.') else { return false };
    let rotary = match module.rsplit('.').next() {
        Some("pos_emb") => true,
        Some(module) => module.starts_with("rotary_emb"),
        None => false,
    };
    let buffers = ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"];
    rotary && (buffers.contains(&buffer) || buffer.ends_with("_inv_freq"))
}

#[cfg(test)]
mod tests {
    use super::hf_ignored;

    #[test]
    fn buffers_of_rotary_embeddings_are_ignored() {
        for name in [
            "layers.0.self_attn.rotary_emb.inv_freq",
            "rotary_emb.inv_freq",
            "rotary_emb_local.inv_freq",
            "rotary_emb.sliding_attention_original_inv_freq",
            "layers.11.self_attn.rotary_emb.cos_cached",
            "layers.11.self_attn.rotary_emb.sin_cached",
            "pos_emb.inv_freq",
        ] {
            assert!(hf_ignored(name), "{name}");
        }
        for name in [
            "lm_head.weight",
            "lm_head.bias",
            "inv_freq",
            "layers.0.self_attn.inv_freq",
            "layers.0.self_attn.rotary_emb.weight",
            "layers.0.self_attn.k_proj.k_scale",
            "layers.0.self_attn.bias",
            "embed_positions.weight",
        ] {
            assert!(!hf_ignored(name), "{name}");
        }
    }
}
