//! Why a model can't be quantised.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use teff_graph::gguf::{GgufError, Name};
use teff_kernels::Format;

use crate::gguf_write::WriteError;
use crate::model::LoadErrorKind;
use crate::tokenizer::ExportError;

/// Why a model can't be quantised: the file, and what is wrong. No output file is left behind.
#[derive(Debug)]
pub struct QuantizeError {
    /// The file that was read or written.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: QuantizeErrorKind,
}

/// What is wrong with a model that is to be quantised, or with the file to be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum QuantizeErrorKind {
    /// The system refuses to read the model.
    Read(io::Error),
    /// A file of more bytes than this machine can address.
    TooLarge {
        /// Its bytes.
        bytes: u64,
    },
    /// The folder is no model.
    Load(Box<LoadErrorKind>),
    /// GGUF has no word for something that the model does.
    Unsaid {
        /// The architecture that the file would have.
        arch: &'static str,
        /// What.
        what: String,
    },
    /// The folder's tokenizer can't be read, or not be put into a GGUF file.
    Tokenizer(Box<ExportError>),
    /// The model is no good GGUF file.
    Gguf(Box<GgufError>),
    /// One of several GGUF files that make a model together.
    Split {
        /// How many they are.
        parts: u64,
    },
    /// Two tensors that share bytes of the file.
    Overlap {
        /// The first.
        tensor: Box<Name>,
        /// The other.
        other: Box<Name>,
    },
    /// A tensor that should be quantised is, in another format.
    AlreadyQuantized {
        /// Its name.
        tensor: Box<Name>,
        /// The format that it has.
        found: Format,
        /// The one that it should get.
        asked: Format,
    },
    /// A weight that is infinite or NaN.
    NotFinite {
        /// The tensor.
        tensor: Box<Name>,
        /// Which weight, rows one after another.
        element: u64,
    },
    /// A weight so large that it becomes infinite in the new format.
    OutOfRange {
        /// The tensor.
        tensor: Box<Name>,
        /// Which weight, rows one after another.
        element: u64,
        /// The format.
        format: Format,
    },
    /// A matrix for I2_S with weights other than 0 and one magnitude.
    NotTernary {
        /// The tensor.
        tensor: Box<Name>,
        /// The first magnitude.
        scale: f32,
        /// A weight that is neither 0 nor of this magnitude.
        found: f32,
    },
    /// The output would replace the model that it is made of.
    SameFile,
    /// The output is there and no regular file.
    NotAFile,
    /// The output can't be written.
    Write(WriteError),
    /// The system refuses a thread.
    Thread(io::Error),
}

impl QuantizeErrorKind {
    pub(super) fn at(self, path: &Path) -> QuantizeError {
        QuantizeError { path: path.into(), kind: self }
    }
}

impl From<WriteError> for QuantizeErrorKind {
    fn from(error: WriteError) -> Self {
        QuantizeErrorKind::Write(error)
    }
}

impl fmt::Display for QuantizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.path.to_string_lossy().chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => fmt::Write::write_char(f, c)?,
            }
        }
        write!(f, ": {}", self.kind)
    }
}

impl fmt::Display for QuantizeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use QuantizeErrorKind as E;
        match self {
            E::Read(e) => write!(f, "can't be read: {e}"),
            E::TooLarge { bytes } => {
                write!(f, "its {bytes} bytes are more than this machine can address")
            }
            E::Load(e) => e.fmt(f),
            E::Unsaid { arch, what } => {
                write!(f, "a GGUF file of the architecture `{arch}` has no way to say {what}")
            }
            E::Tokenizer(e) => e.fmt(f),
            E::Gguf(e) => e.fmt(f),
            E::Split { parts } => write!(
                f,
                "it is one of {parts} parts of a split model: join them first, with llama.cpp's \
                 `llama-gguf-split --merge`"
            ),
            E::Overlap { tensor, other } => write!(
                f,
                "tensors `{tensor}` and `{other}` share bytes of the file: it is damaged, convert \
                 the model again"
            ),
            E::AlreadyQuantized { tensor, found, asked } => write!(
                f,
                "tensor `{tensor}` is in {found} already, from which {asked} would only lose \
                 more: quantise the original weights, or allow it with --allow-requantize"
            ),
            E::NotFinite { tensor, element } => write!(
                f,
                "tensor `{tensor}` has a weight that is infinite or no number (number {element}): \
                 it is damaged, convert the model again"
            ),
            E::OutOfRange { tensor, element, format } => write!(
                f,
                "tensor `{tensor}` has a weight too large for {format} (number {element}): keep \
                 it in F32"
            ),
            E::NotTernary { tensor, scale, found } => write!(
                f,
                "tensor `{tensor}` is not ternary: it has weights of {scale} and of {found}, and \
                 I2_S holds 0 and one magnitude; TQ1_0 and TQ2_0 round"
            ),
            E::SameFile => f.write_str("it is the model itself: write to another file"),
            E::NotAFile => f.write_str("it is there and no regular file: write to another one"),
            E::Write(e) => e.fmt(f),
            E::Thread(e) => write!(f, "the system refuses a thread: {e}; ask for fewer"),
        }
    }
}

impl std::error::Error for QuantizeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            QuantizeErrorKind::Read(e) | QuantizeErrorKind::Thread(e) => Some(e),
            QuantizeErrorKind::Gguf(e) => Some(e),
            QuantizeErrorKind::Tokenizer(e) => Some(e),
            QuantizeErrorKind::Write(e) => Some(e),
            _ => None,
        }
    }
}
