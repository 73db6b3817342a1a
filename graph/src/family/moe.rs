//! Experts in the metadata of decoders that descend from Llama.

use super::Shapes;
use super::decoder::Keys;
use crate::layers::{Experts, SharedExpert};
use crate::meta::{Metadata, count, flag, float, required};
use crate::spec::inconsistent;
use crate::{SpecError, SpecRoom};

/// Ways from scores to weights by their numbers in GGUF files.
pub(super) const SOFTMAX: f32 = 1.0;
pub(super) const SIGMOID: f32 = 2.0;

/// Inner width of experts in a GGUF file: that of its key, else that of the tensor, since older
/// converters write none.
fn inner(meta: &dyn Metadata, shapes: &dyn Shapes, keys: &Keys) -> Result<u32, SpecError> {
    // The oldest have a tensor for each expert.
    let down = ["blk.0.ffn_down_exps.weight", "blk.0.ffn_down.0.weight"];
    let down = down.iter().find_map(|name| shapes.shape(name));
    match (count(meta, keys.expert_ffn)?, down) {
        (Some(inner), _) => Ok(inner),
        (None, Some((_, cols))) => Ok(u32::try_from(cols).unwrap_or(u32::MAX)),
        (None, None) => Ok(required(count(meta, keys.expert_ffn)?, keys.expert_ffn)?),
    }
}

/// Refuses keys of a GGUF file that say of its experts what the architecture doesn't do: another way
/// from scores to weights than `gating`, a scale of these, a division by their sum unless it is
/// `normalised`, or a choice among groups first.
pub(super) fn gguf_switches(
    meta: &dyn Metadata,
    keys: &Keys,
    gating: f32,
    normalised: bool,
) -> Result<(), SpecError> {
    let unlike =
        |key| Err(SpecError::Unsupported { key, known: "absent, or as in this architecture" });
    // 0: not given, none.
    for (key, known) in
        [(keys.expert_scale, 1.0), (keys.expert_gating, gating), (keys.expert_groups, 1.0)]
    {
        if float(meta, key)?.is_some_and(|value| value != 0.0 && value != known) {
            return unlike(key);
        }
    }
    if flag(meta, keys.expert_norm)?.is_some_and(|given| given != normalised) {
        return unlike(keys.expert_norm);
    }
    Ok(())
}

/// Refuses layers without experts in front of the others in a GGUF file of an architecture that has
/// none.
pub(super) fn no_dense(meta: &dyn Metadata, keys: &Keys) -> Result<(), SpecError> {
    let key = keys.leading_dense;
    match float(meta, key)?.is_some_and(|n| n != 0.0) {
        true => Err(SpecError::Unsupported { key, known: "absent, or as in this architecture" }),
        false => Ok(()),
    }
}

/// Experts in a GGUF file of an architecture that has them in all layers, with a softmax over all
/// scores and, if `normalised`, weights that are divided by their sum: that is the architecture's,
/// and keys that say otherwise are refused.
pub(super) fn gguf_experts(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    keys: &Keys,
    normalised: bool,
) -> Result<Experts, SpecError> {
    gguf_switches(meta, keys, SOFTMAX, normalised)?;
    no_dense(meta, keys)?;
    let need = |key| required(count(meta, key)?, key);
    let experts =
        Experts::new(need(keys.experts)?, need(keys.experts_used)?, inner(meta, shapes, keys)?);
    // Some converters write gates and the other matrices as one tensor.
    let fused = shapes.shape("blk.0.ffn_gate_up_exps.weight").is_some();
    Ok(Experts { normalised, fused, ..experts })
}

/// Refuses a shared expert in a GGUF file of an architecture that has none.
pub(super) fn no_shared(meta: &dyn Metadata, keys: &Keys) -> Result<(), SpecError> {
    for key in [keys.expert_shared_count, keys.expert_shared_ffn] {
        if float(meta, key)?.is_some_and(|value| value != 0.0) {
            return Err(SpecError::Unsupported { key, known: "absent or 0" });
        }
    }
    Ok(())
}

/// Width of the shared expert in a GGUF file; `None` if it has none.
pub(super) fn gguf_shared(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    keys: &Keys,
    gated: bool,
) -> Result<Option<SharedExpert>, SpecError> {
    if float(meta, keys.expert_shared_count)?.is_some_and(|n| n > 1.0) {
        return inconsistent("more than one shared expert");
    }
    let Some((_, cols)) = shapes.shape("blk.0.ffn_down_shexp.weight") else { return Ok(None) };
    let cols = u32::try_from(cols).unwrap_or(u32::MAX);
    let inner = match float(meta, keys.expert_shared_ffn)? {
        Some(0.0) | None => cols,
        Some(_) => count(meta, keys.expert_shared_ffn)?.unwrap_or(cols),
    };
    Ok(Some(SharedExpert { inner, gated }))
}

/// Number of experts in a config.json, which has one of two names.
pub(super) fn number(meta: &dyn Metadata, room: &mut SpecRoom) -> Result<Option<u32>, SpecError> {
    // transformers 5 writes `num_local_experts`, published files have `num_experts`.
    super::hf::either(meta, room, "num_experts", "num_local_experts")
}
