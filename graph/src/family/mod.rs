//! The model families: one file each, from metadata and names to [`Spec`].

use core::fmt;

use crate::meta::Metadata;
use crate::{Role, Spec, SpecError};

pub mod gpt2;

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
    /// `general.architecture` in GGUF.
    pub arch: &'static str,
    /// `architectures` in config.json.
    pub classes: &'static [&'static str],
    /// `model_type` in config.json, where `architectures` is absent.
    pub model_type: &'static str,
    /// What may stand before a Hugging Face name.
    pub prefix: &'static str,
    /// Reads the hyper-parameters of a GGUF file.
    pub from_gguf: fn(&dyn Metadata, &dyn Shapes) -> Result<Spec, SpecError>,
    /// Reads the hyper-parameters of a config.json.
    pub from_config: fn(&dyn Metadata, &dyn Shapes) -> Result<Spec, SpecError>,
    /// Writes the GGUF name of a tensor.
    pub gguf_name: fn(Role, &mut dyn fmt::Write) -> fmt::Result,
    /// Writes the Hugging Face name of a tensor.
    pub hf_name: fn(Role, &mut dyn fmt::Write) -> fmt::Result,
    /// Whether the Hugging Face tensor is stored with inputs as rows.
    pub hf_transposed: fn(Role) -> bool,
    /// Whether a Hugging Face tensor of this name (without prefix) holds no parameters and is
    /// to be ignored.
    pub hf_ignored: fn(&str) -> bool,
}

/// All families that Teff runs.
pub static FAMILIES: [&Family; 1] = [&gpt2::GPT2];

/// The family of a GGUF architecture.
#[must_use]
pub fn of_arch(arch: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.arch == arch)
}

/// The family of a Hugging Face class, such as `GPT2LMHeadModel`.
#[must_use]
pub fn of_class(class: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.classes.contains(&class))
}

/// The family of a Hugging Face `model_type`.
#[must_use]
pub fn of_model_type(name: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.model_type == name)
}
