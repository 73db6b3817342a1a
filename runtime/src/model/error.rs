//! Why a model can't be opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use teff_graph::SpecError;
use teff_graph::family::FAMILIES;
use teff_graph::gguf::{GgufError, Name};
use teff_kernels::Format;

use crate::config::ConfigError;
use crate::safetensors::{Dtype, SafeTensorsError, ShardError};

/// Why a model can't be opened: the file or folder, and what is wrong with it.
#[derive(Debug)]
pub struct LoadError {
    /// The file or folder; `None` for a model that was given as bytes.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub kind: LoadErrorKind,
}

/// What is wrong with a model.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The system refuses to read it.
    Io(io::Error),
    /// A file of more bytes than this machine can address.
    TooLarge {
        /// Its bytes.
        bytes: u64,
    },
    /// A file that is no GGUF file.
    UnknownFile {
        /// Its first bytes, at most 8.
        first: Box<Name>,
    },
    /// A SafeTensors file, which says nothing about the model that its tensors are of.
    BareSafeTensors,
    /// A folder without config.json.
    NoConfig,
    /// A folder with neither model.safetensors nor an index of its shards.
    NoWeights {
        /// Whether it has weights as PyTorch's pickles.
        pickled: bool,
    },
    /// config.json.
    Config(ConfigError),
    /// model.safetensors.index.json.
    Shards(ShardError),
    /// A shard that the index names is not there.
    MissingShard,
    /// A SafeTensors file.
    SafeTensors(SafeTensorsError),
    /// Two shards have the same tensor.
    InTwoShards {
        /// The tensor.
        tensor: Box<Name>,
    },
    /// A GGUF file.
    Gguf(Box<GgufError>),
    /// One of several GGUF files that make a model together.
    Split {
        /// How many they are.
        parts: u64,
    },
    /// A GGUF architecture that Teff doesn't have.
    UnknownArchitecture {
        /// Its name.
        found: Box<Name>,
    },
    /// Hyper-parameters.
    Spec(SpecError),
    /// A model of more tensors than a plan can number.
    TooManyTensors {
        /// How many.
        tensors: usize,
    },
    /// A tensor that the model needs is not there.
    MissingTensor {
        /// Its name in this container.
        tensor: Box<Name>,
    },
    /// Two tensors of a GGUF file that share bytes.
    Overlap {
        /// The first.
        tensor: Box<Name>,
        /// The other.
        other: Box<Name>,
    },
    /// A tensor that belongs to no part of the model.
    UnknownTensor {
        /// Its name.
        tensor: Box<Name>,
        /// The architecture.
        arch: &'static str,
    },
    /// A tensor of another shape than the hyper-parameters say.
    Shape {
        /// Its name.
        tensor: Box<Name>,
        /// The dimensions that it should have, in the container's order.
        needed: Dims,
        /// Those that it has.
        got: Dims,
    },
    /// A tensor of a type that is no format of weights.
    Dtype {
        /// Its name.
        tensor: Box<Name>,
        /// The type.
        found: Dtype,
    },
    /// A vector in a quantised format.
    QuantizedVector {
        /// Its name.
        tensor: Box<Name>,
        /// The format.
        found: Format,
    },
    /// A matrix whose scale is infinite or NaN.
    Scale {
        /// Its name.
        tensor: Box<Name>,
        /// The scale.
        found: f32,
    },
    /// A matrix of a model with ternary weights that has others.
    NotTernary {
        /// Its name.
        tensor: Box<Name>,
    },
    /// Packed ternary weights without their scale.
    NoScale {
        /// The scale's name.
        tensor: Box<Name>,
    },
    /// [`LoadOptions::quantize`](super::LoadOptions::quantize) names a format that is not quantised.
    NotQuantized {
        /// The format.
        format: Format,
    },
    /// [`LoadOptions::quantize`](super::LoadOptions::quantize) or
    /// [`LoadOptions::head`](super::LoadOptions::head) in a build without the feature `quantize`.
    NoQuantizer,
    /// A matrix that should be quantised is, in another format.
    AlreadyQuantized {
        /// Its name.
        tensor: Box<Name>,
        /// The format that it has.
        found: Format,
        /// The one that was asked for.
        asked: Format,
    },
    /// The matrices of a layer's experts have different types.
    MixedExperts {
        /// The first that differs.
        tensor: Box<Name>,
        /// The type of the first expert's.
        first: Format,
        /// Its type.
        found: Format,
    },
    /// More memory is needed than was allowed.
    Budget {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// More memory is needed than the system has.
    OutOfMemory {
        /// Bytes needed.
        needed: u64,
    },
}

/// Up to four dimensions of a tensor, in its container's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dims {
    dims: [u64; 4],
    n: u8,
}

impl Dims {
    pub(super) fn new(dims: &[u64]) -> Dims {
        let mut all = [0; 4];
        let n = dims.len().min(4);
        all[..n].copy_from_slice(&dims[..n]);
        Dims { dims: all, n: n as u8 }
    }

    /// The dimensions.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.dims[..usize::from(self.n)]
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_slice())
    }
}

/// A name in an error: boxed, since errors are to be small.
pub(super) fn boxed(name: &str) -> Box<Name> {
    Box::new(Name::new(name.as_bytes()))
}

impl LoadErrorKind {
    pub(super) fn at(self, path: &Path) -> LoadError {
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
            E::UnknownFile { first } if first.as_bytes().is_empty() => {
                f.write_str("the file is empty")
            }
            E::UnknownFile { first } => write!(
                f,
                "it begins with \"{}\": a model is a GGUF file or a Hugging Face folder",
                first.as_bytes().escape_ascii()
            ),
            E::BareSafeTensors => f.write_str(
                "a SafeTensors file alone is no model: give the folder that it lies in, with its \
                 config.json",
            ),
            E::NoConfig => f.write_str(
                "the folder has no config.json: give a GGUF file or a Hugging Face folder",
            ),
            E::NoWeights { pickled } => {
                f.write_str(
                    "the folder has neither model.safetensors nor model.safetensors.index.json",
                )?;
                match pickled {
                    true => f.write_str("; convert its pytorch_model files to SafeTensors"),
                    false => Ok(()),
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
                "it is one of {parts} parts of a split model: join them first, with llama.cpp's \
                 `llama-gguf-split --merge`"
            ),
            E::UnknownArchitecture { found } => {
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
        match &self.kind {
            LoadErrorKind::Io(e) => Some(e),
            LoadErrorKind::Config(e) => Some(e),
            LoadErrorKind::Shards(e) => Some(e),
            LoadErrorKind::SafeTensors(e) => Some(e),
            LoadErrorKind::Gguf(e) => Some(e),
            LoadErrorKind::Spec(e) => Some(e),
            _ => None,
        }
    }
}
