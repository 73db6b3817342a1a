//! The model families: one file each, from metadata and names to [`Spec`].

use core::fmt;

use teff_kernels::RopeKind;

use crate::meta::Metadata;
use crate::spec::{Head, RopeScaling, Rotary};
use crate::{Role, Spec, SpecError};

pub mod bitnet;
mod decoder;
pub mod gemma3;
pub mod gpt2;
pub mod llama;
mod names;
pub mod qwen;

pub use names::gguf_name;

/// The shapes of the tensors that a model's container has, by the container's names.
pub trait Shapes {
    /// `(rows, cols)` of a tensor, a vector being one row; `None` where there is none.
    fn shape(&self, name: &str) -> Option<(usize, usize)>;
}

/// How a family appears in the containers.
///
/// Names are the container's; a Hugging Face name comes without the prefix that some files put
/// before all of them.
#[derive(Debug)]
pub struct Family {
    /// `general.architecture` in GGUF; empty for a class whose GGUF files have another's.
    pub arch: &'static str,
    /// `architectures` in config.json.
    pub classes: &'static [&'static str],
    /// `model_type` in config.json, where `architectures` is absent; empty for none of its own.
    pub model_type: &'static str,
    /// What may stand before a Hugging Face name.
    pub prefix: &'static str,
    /// Reads the hyper-parameters of a GGUF file.
    pub from_gguf: fn(&dyn Metadata, &dyn Shapes) -> Result<Spec, SpecError>,
    /// Reads the hyper-parameters of a config.json.
    pub from_config: fn(&dyn Metadata, &dyn Shapes) -> Result<Spec, SpecError>,
    /// Writes the Hugging Face name of a tensor; an error where it has none.
    pub hf_name: fn(Role, &mut dyn fmt::Write) -> fmt::Result,
    /// Whether the Hugging Face tensor is stored with inputs as rows.
    pub hf_transposed: fn(Role) -> bool,
    /// What is added to every element of a Hugging Face vector, which GGUF files have added already.
    pub hf_shift: fn(Role) -> f32,
    /// Whether a Hugging Face tensor of this name (without prefix) holds no parameters and is
    /// to be ignored.
    pub hf_ignored: fn(&str) -> bool,
    /// Whether the matrices of layers are ternary, however a container stores them.
    pub ternary: bool,
}

impl Family {
    /// What to call it: the architecture's name in GGUF, or config.json's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.arch.is_empty() { self.model_type } else { self.arch }
    }
}

/// All families that Teff runs.
pub static FAMILIES: [&Family; 9] = [
    &gpt2::GPT2,
    &llama::LLAMA,
    &llama::MISTRAL,
    &gemma3::GEMMA3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &bitnet::BITNET_B158,
    &bitnet::BITNET_25,
    &bitnet::BITNET,
];

/// The family of a GGUF architecture.
#[must_use]
pub fn of_arch(arch: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.arch == arch && !arch.is_empty())
}

/// The family of a Hugging Face class, such as `GPT2LMHeadModel`.
#[must_use]
pub fn of_class(class: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.classes.contains(&class))
}

/// The family of a Hugging Face `model_type`.
#[must_use]
pub fn of_model_type(name: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.model_type == name && !name.is_empty())
}

/// The shape of a published decoder, without its family's switches.
fn published(
    arch: &'static str,
    sizes: &decoder::Sizes,
    kind: RopeKind,
    base: f32,
    vocab: u32,
    head: Head,
) -> Spec {
    let rotary = Rotary {
        kind,
        dims: sizes.head_dim,
        base,
        window_base: 10_000.0,
        scaling: RopeScaling::None,
    };
    let embd = Some((vocab as usize, sizes.width as usize));
    match decoder::spec(arch, sizes, rotary, embd, head) {
        Ok(spec) => spec,
        Err(_) => unreachable!("it has an embedding"),
    }
}
