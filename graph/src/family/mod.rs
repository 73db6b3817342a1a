//! Model families: one file each, from metadata and names to [`Spec`].

use teff_kernels::RopeKind;

use crate::meta::Metadata;
use crate::spec::inconsistent;
use crate::{Role, Spec, SpecError, SpecRoom};

pub mod bitnet;
mod decoder;
pub mod gemma2;
pub mod gemma3;
pub mod gemma3n;
pub mod gemma4;
pub mod gpt2;
pub mod gpt_oss;
pub mod granite;
mod hf;
mod hf_rope;
pub mod lfm2;
pub mod lfm3;
pub mod llama;
pub mod mistral3;
mod moe;
mod names;
mod notice;
pub mod olmo2;
pub mod phi3;
pub mod qwen;
pub mod qwen2moe;
pub mod qwen35;
pub mod qwen35moe;
pub mod qwen3moe;
pub mod smollm3;

pub use names::Names;
pub use notice::{MAX_NOTICES, Notice, Rule};

/// Shapes of the tensors in a model's container, by the container's names.
pub trait Shapes {
    /// `(rows, cols)` of a tensor, a vector being one row; `None` if there is none.
    fn shape(&self, name: &str) -> Option<(usize, usize)>;
}

/// Reader of hyper-parameters into a spec, whose lists lie in the given room.
pub type Reader =
    for<'p> fn(&dyn Metadata, &dyn Shapes, &'p mut SpecRoom) -> Result<Spec<'p>, SpecError>;

/// The reader of a family's config.json, where the build has them (the feature `folders`).
const fn folder_reader(reader: Reader) -> Reader {
    match cfg!(feature = "folders") {
        true => reader,
        false => |_, _, _| inconsistent("the program was built without the feature `folders`"),
    }
}

/// Representation of a family in the containers.
///
/// Names are those of the container; a Hugging Face name is given without the prefix that some
/// files put before all of them.
#[derive(Debug)]
pub struct Family {
    /// `general.architecture` in GGUF; empty for a class whose GGUF files share another family's.
    pub arch: &'static str,
    /// `architectures` in config.json.
    pub classes: &'static [&'static str],
    /// `model_type` in config.json, used if `architectures` is absent; empty if it has none of its
    /// own.
    pub model_type: &'static str,
    /// Optional prefix of Hugging Face names.
    pub prefix: &'static str,
    /// Reader of the hyper-parameters in a GGUF file.
    pub from_gguf: Reader,
    /// Reader of the hyper-parameters in a config.json; refuses all without the feature `folders`.
    pub from_config: Reader,
    /// Names of the tensors.
    pub names: Names,
    /// Differences between its GGUF files and its Hugging Face folders.
    pub gguf: GgufForm,
    /// True for a Hugging Face tensor that is stored with inputs as rows.
    pub hf_transposed: fn(Role) -> bool,
    /// Offset added to every element of a Hugging Face vector; GGUF files already include it.
    pub hf_shift: fn(Role) -> f32,
    /// True for the name (without prefix) of a Hugging Face tensor that holds no parameters and is
    /// to be ignored.
    pub hf_ignored: fn(&str) -> bool,
    /// True if the matrices of layers are ternary, however a container stores them.
    pub ternary: bool,
}

#[cfg(feature = "alloc")]
impl Family {
    /// Reads the hyper-parameters of a GGUF file into a spec with owned lists.
    ///
    /// # Errors
    /// [`SpecError`], which names the key.
    pub fn read_gguf(
        &self,
        meta: &dyn Metadata,
        shapes: &dyn Shapes,
    ) -> Result<Spec<'static>, SpecError> {
        (self.from_gguf)(meta, shapes, &mut SpecRoom::new()).map(|spec| spec.to_owned())
    }

    /// Reads the hyper-parameters of a config.json into a spec with owned lists.
    ///
    /// # Errors
    /// [`SpecError`], which names the key.
    pub fn read_config(
        &self,
        meta: &dyn Metadata,
        shapes: &dyn Shapes,
    ) -> Result<Spec<'static>, SpecError> {
        (self.from_config)(meta, shapes, &mut SpecRoom::new()).map(|spec| spec.to_owned())
    }
}

/// Conventions of a family's GGUF files that differ from its Hugging Face folders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GgufForm {
    /// Pairing of the elements that are rotated together, which determines the order of rows of
    /// queries and keys.
    pub rope: RopeKind,
    /// True if Llama 3's rotary scaling is a tensor of factors; otherwise files can't express it.
    pub rope_factors: bool,
    /// True if files can specify a window.
    pub window: bool,
    /// True if files have keys for heads that differ in layers with and without a window, for shared
    /// keys and values, for inputs of layers, and for the bound of the logits.
    pub by_kind: bool,
    /// True if files have keys for the factors of the embedding, the residual stream, scores and
    /// logits, and for heads that are not rotated.
    pub scales: bool,
    /// True if tokenizers that merge SentencePiece's characters by ranks keep their merges in files;
    /// otherwise the merges become scores.
    pub merges: bool,
    /// True if files have keys for linear attention and for attention, also where no layer has one of
    /// both.
    pub linear: bool,
}

impl GgufForm {
    /// Halves are rotated together, and windows have a key.
    pub const HALVES: GgufForm = GgufForm {
        rope: RopeKind::NeoX,
        rope_factors: false,
        window: true,
        by_kind: false,
        scales: false,
        merges: false,
        linear: false,
    };
}

impl Family {
    /// Name for messages: the GGUF architecture, or the model type in config.json.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.arch.is_empty() { self.model_type } else { self.arch }
    }
}

/// All supported families.
pub static FAMILIES: [&Family; 30] = [
    &gpt2::GPT2,
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::MIXTRAL,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &gemma3n::GEMMA3N,
    &gemma4::GEMMA4,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen2moe::QWEN2MOE,
    &qwen3moe::QWEN3MOE,
    &qwen35::QWEN35,
    &qwen35moe::QWEN35MOE,
    &gpt_oss::GPT_OSS,
    &lfm2::LFM2,
    &lfm2::LFM2_MOE,
    &lfm3::LFM3,
    &granite::GRANITE,
    &granite::GRANITE_HYBRID,
    &granite::GRANITE_MOE,
    &granite::GRANITE_MOE_SHARED,
    &smollm3::SMOLLM3,
    &olmo2::OLMO2,
    &olmo2::OLMO3,
    &mistral3::MISTRAL3,
    &phi3::PHI3,
    &bitnet::BITNET_B158,
    &bitnet::BITNET_25,
    &bitnet::BITNET,
];

/// Parts that Teff lacks of an architecture that it knows by name: GGUF's, a class or a `model_type` of
/// transformers. `None` for any other.
#[must_use]
pub fn lacking(name: &str) -> Option<&'static str> {
    let qwen4 = ["qwen4exp", "qwen4_exp", "qwen4_exp_text"].contains(&name);
    (qwen4 || name.starts_with("Qwen4Exp")).then_some(
        "its hyper-connections, n-gram embeddings and the indexer of its sparse attention",
    )
}

/// Family of a GGUF architecture.
#[must_use]
pub fn of_arch(arch: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.arch == arch && !arch.is_empty())
}

/// Family of a Hugging Face class, such as `GPT2LMHeadModel`.
#[must_use]
pub fn of_class(class: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.classes.contains(&class))
}

/// Family of a Hugging Face `model_type`.
#[must_use]
pub fn of_model_type(name: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|f| f.model_type == name && !name.is_empty())
}
