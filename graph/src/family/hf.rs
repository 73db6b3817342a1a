//! Parts of config.json shared by the families.
//!
//! A field that the file leaves out has the default of transformers' class, since files written by
//! it may leave out what equals that.

use super::decoder::Sizes;
use super::{Rule, Shapes};
use crate::meta::{MetaError, Metadata, Value, count, flag, float, text};
use crate::spec::{Head, SpecRoom};
use crate::{MAX_LAYERS, SpecError};

/// Fields of a class with their defaults in transformers.
pub(super) struct Class {
    pub(super) width: u32,
    pub(super) ffn: u32,
    pub(super) layers: u32,
    pub(super) heads: u32,
    /// `None` for as many as of queries.
    pub(super) kv_heads: Option<u32>,
    /// `None` for the width divided by the heads.
    pub(super) head_dim: Option<u32>,
    pub(super) context: u32,
    pub(super) eps: f32,
    /// Name of the norms' epsilon.
    pub(super) eps_key: &'static str,
    /// Rotary base.
    pub(super) base: f32,
    pub(super) tied: bool,
}

impl Class {
    /// Defaults of Llama.
    pub(super) const LLAMA: Class = Class {
        width: 4096,
        ffn: 11008,
        layers: 32,
        heads: 32,
        kv_heads: None,
        head_dim: None,
        context: 2048,
        eps: 1e-6,
        eps_key: "rms_norm_eps",
        base: 10_000.0,
        tied: false,
    };
}

/// Sizes of a decoder.
pub(super) fn sizes(meta: &dyn Metadata, class: &Class) -> Result<Sizes, SpecError> {
    sizes_but(meta, class, count(meta, FFN)?.unwrap_or(class.ffn))
}

/// Key of the inner width.
pub(super) const FFN: &str = "intermediate_size";

/// As [`sizes`], except for the inner width, which a family reads itself.
pub(super) fn sizes_but(meta: &dyn Metadata, class: &Class, ffn: u32) -> Result<Sizes, SpecError> {
    let or = |key, default| count(meta, key).map(|n| n.unwrap_or(default));
    let width = or("hidden_size", class.width)?;
    let heads = or("num_attention_heads", class.heads)?;
    let kv_heads = match meta.get("num_key_value_heads") {
        None => class.kv_heads.unwrap_or(heads),
        _ => or("num_key_value_heads", heads)?,
    };
    let head_dim = match count(meta, "head_dim")?.or(class.head_dim) {
        Some(n) => n,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(SpecError::Inconsistent(
                "hidden_size is not a multiple of num_attention_heads",
            ));
        }
    };
    let layers = or("num_hidden_layers", class.layers)?;
    if layers as usize > MAX_LAYERS {
        return Err(SpecError::Room { what: "layers", max: MAX_LAYERS });
    }
    Ok(Sizes {
        context: or("max_position_embeddings", class.context)?,
        width,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        eps: float(meta, class.eps_key)?.unwrap_or(class.eps),
    })
}

/// Key that ties the head to the embedding.
pub(super) const TIED: &str = "tie_word_embeddings";

/// Embedding and head of a model.
pub(super) struct Ends {
    /// Shape of the embedding.
    pub(super) embd: Option<(usize, usize)>,
    pub(super) head: Head,
}

/// Embedding and head; `class` has the default for tying them.
pub(super) fn ends(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &mut SpecRoom,
    class: &Class,
) -> Result<Ends, SpecError> {
    let tied = flag(meta, TIED)?.unwrap_or(class.tied);
    ends_of(meta, shapes, room, (tied, "embed_tokens.weight"))
}

/// As [`ends`], for a file that ties them or not, with the name of the embedding. The embedding
/// must have as many rows as config.json says.
///
/// A head of its own in a file that ties it is [`Head::Own`] with a notice: the reader of the file
/// must compare it to the embedding, and drop both the head and the notice if they are equal. Of
/// two tied tensors, a file may have the head alone, which is then the embedding.
pub(super) fn ends_of(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &mut SpecRoom,
    (tied, embedding): (bool, &str),
) -> Result<Ends, SpecError> {
    let (embd, own) = (shapes.shape(embedding), shapes.shape("lm_head.weight"));
    let (embd, head) = match (tied, embd, own) {
        (false, ..) => (embd, Head::Own),
        (true, Some(_), Some(_)) => {
            room.note(TIED, Rule::HeadKept);
            (embd, Head::Own)
        }
        (true, ..) => (embd.or(own), Head::Tied),
    };
    let vocab = count(meta, "vocab_size")?;
    if vocab.is_some_and(|v| embd.is_some_and(|(rows, _)| rows != v as usize)) {
        return Err(SpecError::Inconsistent("vocab_size is not the rows of the embedding"));
    }
    Ok(Ends { embd, head })
}

/// Returns an error unless the activation is one of `names`.
pub(super) fn activation(
    meta: &dyn Metadata,
    key: &'static str,
    names: &[&str],
    known: &'static str,
) -> Result<(), SpecError> {
    match text(meta, key)? {
        Some(name) if !names.contains(&name) => Err(SpecError::Unsupported { key, known }),
        _ => Ok(()),
    }
}

/// Soft bound of scores or logits: `default` if the key is absent, and none if it is null.
pub(super) fn cap(
    meta: &dyn Metadata,
    key: &'static str,
    default: Option<f32>,
) -> Result<Option<f32>, SpecError> {
    match meta.get(key) {
        None => Ok(default),
        _ => match float(meta, key)? {
            Some(cap) if cap <= 0.0 => {
                Err(MetaError::Wrong { key, want: "a positive number, or null" }.into())
            }
            cap => Ok(cap),
        },
    }
}

/// Key of the size of windows.
pub(super) const WINDOW: &str = "sliding_window";
const LAYER_TYPES: &str = "layer_types";

/// Notes a window, and kinds of layers, in a file of a class that has none.
pub(super) fn no_window(meta: &dyn Metadata, room: &mut SpecRoom) {
    if super::decoder::is_window(meta.get(WINDOW)) {
        room.note(WINDOW, Rule::NoWindow);
    }
    one_kind(meta, room);
}

/// Notes layers with a window among the kinds of layers in a file of a class that doesn't read
/// them.
pub(super) fn one_kind(meta: &dyn Metadata, room: &mut SpecRoom) {
    let mut kinds = (0..MAX_LAYERS).map_while(|l| meta.item(LAYER_TYPES, l));
    if kinds.any(|kind| kind == Value::Str("sliding_attention")) {
        room.note(LAYER_TYPES, Rule::OneKind);
    }
}

/// Size of the windows: `default` if the key is absent, and `None` if it is null or 0.
pub(super) fn window(meta: &dyn Metadata, default: u32) -> Result<Option<u32>, SpecError> {
    Ok(match meta.get(WINDOW) {
        None => Some(default),
        Some(Value::Null | Value::Uint(0)) => None,
        _ => count(meta, WINDOW)?,
    })
}

/// Layers with a window as `layer_types` lists them; `None` without a list. There must be at most
/// [`MAX_LAYERS`].
pub(super) fn listed(meta: &dyn Metadata, layers: u32) -> Result<Option<Windows>, SpecError> {
    match meta.get(LAYER_TYPES) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Other) => {}
        Some(_) => return Err(MetaError::Wrong { key: LAYER_TYPES, want: "a list" }.into()),
    }
    super::decoder::no_more(meta, LAYER_TYPES, layers)?;
    let mut windows = Windows([false; MAX_LAYERS]);
    for (l, windowed) in windows.0.iter_mut().enumerate().take(layers as usize) {
        *windowed = match meta.item(LAYER_TYPES, l) {
            Some(Value::Str("full_attention" | "attention")) => false,
            Some(Value::Str("sliding_attention")) => true,
            _ => {
                let known = "full_attention, sliding_attention, one for each layer";
                return Err(SpecError::Unsupported { key: LAYER_TYPES, known });
            }
        };
    }
    Ok(Some(windows))
}

/// Layers with and without a window.
pub(super) struct Windows([bool; MAX_LAYERS]);

impl Windows {
    /// True if layer `l` has a window.
    pub(super) fn has(&self, l: u32) -> bool {
        self.0.get(l as usize) == Some(&true)
    }
}

/// Two names of a field, of which `other` counts if the file has both.
pub(super) fn either(
    meta: &dyn Metadata,
    room: &mut SpecRoom,
    key: &'static str,
    other: &'static str,
) -> Result<Option<u32>, SpecError> {
    let (value, renamed) = (count(meta, key)?, count(meta, other)?);
    if value.is_some() && renamed.is_some() && value != renamed {
        room.note(key, Rule::OlderName);
    }
    Ok(renamed.or(value))
}
