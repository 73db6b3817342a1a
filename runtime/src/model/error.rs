//! Errors of opening a model.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use teff_graph::SpecError;
use teff_graph::family::{FAMILIES, lacking};
use teff_graph::gguf::{GgufError, Name};
use teff_kernels::Format;

use super::Instead;
use crate::config::ConfigError;
use crate::gguf_split::PartError;
use crate::safetensors::{Dtype, SafeTensorsError, ShardError};
use crate::tokenizer::TokenizerError;

/// Error of opening a model: the file or folder, and the cause.
#[derive(Debug)]
pub struct LoadError {
    /// File or folder; `None` for a model given as bytes.
    pub path: Option<PathBuf>,
    /// Cause.
    pub kind: LoadErrorKind,
}

/// Cause of a [`LoadError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The system failed to read it.
    Io(io::Error),
    /// The file has more bytes than this machine can address.
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The file is not a GGUF file.
    UnknownFile {
        /// First bytes of the file, at most 8.
        first: Box<Name>,
        /// True if it lies in a Hugging Face folder.
        in_folder: bool,
    },
    /// A SafeTensors file without config.json beside it, which describes the model that its tensors
    /// belong to.
    BareSafeTensors,
    /// The folder has no config.json.
    NoConfig {
        /// File in it that may be what was meant.
        instead: Option<Instead>,
    },
    /// The folder has neither model.safetensors nor an index of its shards.
    NoWeights {
        /// File in it that may be what was meant.
        instead: Option<Instead>,
    },
    /// config.json is invalid.
    Config(ConfigError),
    /// model.safetensors.index.json is invalid.
    Shards(ShardError),
    /// A shard named by the index does not exist.
    MissingShard,
    /// A SafeTensors file is invalid.
    SafeTensors(SafeTensorsError),
    /// Two shards have the same tensor.
    InTwoShards {
        /// Name of the tensor.
        tensor: Box<Name>,
    },
    /// The GGUF file is invalid.
    Gguf(Box<GgufError>),
    /// The bytes are those of one of several GGUF files that make up a model.
    Split {
        /// Number of files.
        parts: u64,
    },
    /// A part of a split GGUF file is missing, or belongs to another model.
    Part(PartError),
    /// A GGUF file without tensors, which has a vocabulary at most.
    NoTensors,
    /// The model has no tokenizer that Teff supports.
    Tokenizer(Box<TokenizerError>),
    /// The GGUF architecture is not supported.
    UnknownArchitecture {
        /// Name of the architecture.
        found: Box<Name>,
    },
    /// The hyper-parameters are invalid or not supported.
    Spec(SpecError),
    /// The model has more tensors than a plan can number.
    TooManyTensors {
        /// Number of tensors.
        tensors: usize,
    },
    /// A tensor that the model needs is missing.
    MissingTensor {
        /// Name of the tensor in this container.
        tensor: Box<Name>,
    },
    /// Two tensors of a GGUF file share bytes.
    Overlap {
        /// Name of the first tensor.
        tensor: Box<Name>,
        /// Name of the second tensor.
        other: Box<Name>,
    },
    /// A tensor belongs to no part of the model.
    UnknownTensor {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Architecture.
        arch: &'static str,
    },
    /// A tensor has a different shape from the one that the hyper-parameters require.
    Shape {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Required dimensions, in the container's order.
        needed: Dims,
        /// Dimensions found.
        got: Dims,
    },
    /// A tensor has a type that is not a format of weights.
    Dtype {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Type of the tensor.
        found: Dtype,
    },
    /// A quantised weight of a folder, or a key about such weights, contradicts itself or is not known.
    QuantizedTensor {
        /// Tensor or key.
        tensor: Box<Name>,
        /// The problem with it, and what to do.
        why: String,
    },
    /// A vector is in a quantised format.
    QuantizedVector {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Format of the tensor.
        found: Format,
    },
    /// The scale of a matrix is infinite or NaN.
    Scale {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Scale found.
        found: f32,
    },
    /// A matrix of a model with ternary weights has other weights.
    NotTernary {
        /// Name of the tensor.
        tensor: Box<Name>,
    },
    /// Packed ternary weights have no scale.
    NoScale {
        /// Name of the missing scale.
        tensor: Box<Name>,
    },
    /// [`LoadOptions::quantize`](super::LoadOptions::quantize) is not a quantised format.
    NotQuantized {
        /// Requested format.
        format: Format,
    },
    /// [`LoadOptions::quantize`](super::LoadOptions::quantize) or
    /// [`LoadOptions::head`](super::LoadOptions::head) in a build without the feature `quantize`.
    NoQuantizer,
    /// A matrix to be quantised is already quantised, in another format.
    AlreadyQuantized {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Format found.
        found: Format,
        /// Requested format.
        asked: Format,
    },
    /// The matrices of a layer's experts have different types.
    MixedExperts {
        /// Name of the first tensor that differs.
        tensor: Box<Name>,
        /// Type of the first expert's matrix.
        first: Format,
        /// Type found.
        found: Format,
    },
    /// Loading needs more memory than the budget allows.
    Budget {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The system failed to allocate memory.
    OutOfMemory {
        /// Bytes needed.
        needed: u64,
    },
}

/// Dimensions of a tensor, in its container's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dims(Box<[u64]>);

impl Dims {
    pub(super) fn new(dims: &[u64]) -> Dims {
        Dims(dims.into())
    }

    /// The dimensions as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_slice())
    }
}

/// Name in an error, boxed to keep errors small.
pub(super) fn boxed(name: &str) -> Box<Name> {
    Box::new(Name::new(name.as_bytes()))
}

impl LoadErrorKind {
    pub(crate) fn at(self, path: &Path) -> LoadError {
        LoadError { path: Some(path.into()), kind: self }
    }
}

impl From<LoadErrorKind> for LoadError {
    fn from(kind: LoadErrorKind) -> Self {
        LoadError { path: None, kind }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            for c in path.to_string_lossy().chars() {
                match c.is_control() {
                    true => write!(f, "{}", c.escape_default())?,
                    false => fmt::Write::write_char(f, c)?,
                }
            }
            f.write_str(": ")?;
        }
        self.kind.fmt(f)
    }
}

impl fmt::Display for LoadErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use LoadErrorKind as E;
        match self {
            E::Io(e) => write!(f, "can't be read: {e}"),
            E::TooLarge { bytes } => {
                write!(f, "its {bytes} bytes are more than this machine can address")
            }
            E::UnknownFile { first, .. } if first.as_bytes().is_empty() => {
                f.write_str("the file is empty")
            }
            E::UnknownFile { first, in_folder } => write!(
                f,
                "it begins with \"{}\": a model is a GGUF file or a Hugging Face folder{}",
                first.as_bytes().escape_ascii(),
                if *in_folder { ": give the folder that this file is in" } else { "" }
            ),
            E::BareSafeTensors => f.write_str(
                "a SafeTensors file alone is no model: put the model's config.json into the same \
                 folder",
            ),
            E::NoConfig { instead } => {
                f.write_str("the folder has no config.json: ")?;
                match instead {
                    Some(instead) => instead.fmt(f),
                    None => f.write_str("give a GGUF file or a Hugging Face folder"),
                }
            }
            E::NoWeights { instead } => {
                f.write_str(
                    "the folder has neither model.safetensors nor model.safetensors.index.json",
                )?;
                match instead {
                    Some(instead) => write!(f, ": {instead}"),
                    None => Ok(()),
                }
            }
            E::Config(e) => e.fmt(f),
            E::Shards(e) => e.fmt(f),
            E::MissingShard => f.write_str(
                "the index names this shard, but it is not there: fetch the missing file",
            ),
            E::SafeTensors(e) => e.fmt(f),
            E::InTwoShards { tensor } => {
                write!(f, "tensor `{tensor}` is in another shard too: which one counts?")
            }
            E::Gguf(e) => e.fmt(f),
            E::Split { parts } => write!(
                f,
                "it is one of {parts} parts of a split model: open the file itself, so that the \
                 others are found, or merge them first (`teff merge`, or `gguf_split::merge_gguf`)"
            ),
            E::Part(e) => e.fmt(f),
            E::NoTensors => f.write_str(
                "the file has no tensors: it is a vocabulary, with which texts can be tokenized",
            ),
            E::Tokenizer(e) => write!(f, "the model has no tokenizer: {e}"),
            E::UnknownArchitecture { found } => {
                if let Some(what) = lacking(&found.to_string()) {
                    return write!(
                        f,
                        "the architecture `{found}` is not supported: Teff lacks {what}"
                    );
                }
                write!(f, "the architecture `{found}` is not supported; known:")?;
                let known = FAMILIES.iter().map(|family| family.arch).filter(|a| !a.is_empty());
                for (i, arch) in known.enumerate() {
                    write!(f, "{}{arch}", if i == 0 { " " } else { ", " })?;
                }
                Ok(())
            }
            E::Spec(e) => e.fmt(f),
            E::TooManyTensors { tensors } => {
                write!(f, "the model has {tensors} tensors; Teff runs models of at most 65535")
            }
            E::MissingTensor { tensor } => {
                write!(f, "tensor `{tensor}` is missing (is the model complete?)")
            }
            E::Overlap { tensor, other } => write!(
                f,
                "tensors `{tensor}` and `{other}` share bytes of the file: it is damaged, convert \
                 the model again"
            ),
            E::UnknownTensor { tensor, arch } => write!(
                f,
                "tensor `{tensor}` belongs to no part of a {arch} model that Teff knows; without \
                 it the results would be wrong, so the model is refused"
            ),
            E::Shape { tensor, needed, got } => write!(
                f,
                "tensor `{tensor}` has the shape {got}, the hyper-parameters need {needed}"
            ),
            E::Dtype { tensor, found } => write!(
                f,
                "tensor `{tensor}` is of type {found}; weights must be F32, F16 or BF16: convert \
                 the model"
            ),
            E::QuantizedTensor { tensor, why } => write!(f, "`{tensor}` {why}"),
            E::QuantizedVector { tensor, found } => write!(
                f,
                "tensor `{tensor}` is a vector in {found}; vectors must be F32, F16 or BF16"
            ),
            E::Scale { tensor, found } => write!(
                f,
                "tensor `{tensor}` has a scale of {found}, which is no number to multiply with: \
                 its weights are damaged, convert the model again"
            ),
            E::NotTernary { tensor } => write!(
                f,
                "tensor `{tensor}` has more than the three values -s, 0 and s, but the model's \
                 weights are ternary: give the weights that it was trained for (or, for a folder \
                 with the weights before rounding, config.json's quantization_config)"
            ),
            E::NoScale { tensor } => write!(
                f,
                "the weights are packed, but their scale `{tensor}` is missing or no single number"
            ),
            E::NotQuantized { format } => {
                write!(f, "{format} is no quantised format: weights can be quantised to")?;
                let formats = Format::ALL.into_iter().filter(|f| f.is_quantized() && f.is_built());
                for (i, format) in formats.enumerate() {
                    write!(f, "{} {format}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            E::NoQuantizer => f.write_str(
                "matrices can't be quantised: the program was built without the feature `quantize`",
            ),
            E::AlreadyQuantized { tensor, found, asked } => write!(
                f,
                "tensor `{tensor}` is in {found} already, from which {asked} would only lose \
                 more: quantise the original weights"
            ),
            E::MixedExperts { tensor, first, found } => write!(
                f,
                "tensor `{tensor}` is {found}, but that of the layer's first expert {first}: all \
                 experts of a layer must have one type"
            ),
            E::Budget { needed, allowed } => write!(
                f,
                "loading needs {needed} bytes of memory, and {allowed} are allowed: raise the \
                 budget, map the file, don't repack, or take a smaller model"
            ),
            E::OutOfMemory { needed } => {
                write!(f, "loading needs {needed} bytes of memory, which the system refused")
            }
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl std::error::Error for LoadErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadErrorKind::Io(e) => Some(e),
            _ => None,
        }
    }
}
