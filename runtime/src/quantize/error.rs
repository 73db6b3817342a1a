//! Errors of quantising a model.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use teff_graph::gguf::{GgufError, Name};
use teff_kernels::Format;

use crate::gguf_write::WriteError;
use crate::model::LoadErrorKind;
use crate::tokenizer::ExportError;

/// Error of quantising a model: the file, and the cause. No output file is left behind.
#[derive(Debug)]
pub struct QuantizeError {
    /// File that was read or written.
    pub path: PathBuf,
    /// Cause.
    pub kind: QuantizeErrorKind,
}

/// Cause of a [`QuantizeError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum QuantizeErrorKind {
    /// The system failed to read the model.
    Read(io::Error),
    /// The file has more bytes than this machine can address.
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The folder is not a valid model, or a part of a split file is missing.
    Load(Box<LoadErrorKind>),
    /// GGUF has no name for the model's architecture.
    NoArchitecture {
        /// The architecture.
        arch: &'static str,
    },
    /// A property of the model can't be expressed in GGUF.
    Unsaid {
        /// Architecture that the file would have.
        arch: &'static str,
        /// Description of the property.
        what: String,
    },
    /// The folder's tokenizer can't be read, or can't be stored in a GGUF file.
    Tokenizer(Box<ExportError>),
    /// The model is not a valid GGUF file.
    Gguf(Box<GgufError>),
    /// The GGUF file is one of several that make up a model.
    Split {
        /// Number of files.
        parts: u64,
    },
    /// Two tensors share bytes of the file.
    Overlap {
        /// Name of the first tensor.
        tensor: Box<Name>,
        /// Name of the second tensor.
        other: Box<Name>,
    },
    /// A tensor to be quantised is already quantised, in another format.
    AlreadyQuantized {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Format found.
        found: Format,
        /// Format to be written.
        asked: Format,
    },
    /// A weight is infinite or NaN.
    NotFinite {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Index of the weight, with rows one after another.
        element: u64,
    },
    /// A weight is so large that it becomes infinite in the new format.
    OutOfRange {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Index of the weight, with rows one after another.
        element: u64,
        /// New format.
        format: Format,
    },
    /// A matrix to be stored in I2_S has weights other than 0 and one magnitude.
    NotTernary {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// First magnitude.
        scale: f32,
        /// Weight that is neither 0 nor of this magnitude.
        found: f32,
    },
    /// A tensor's new format needs an importance matrix, and there is none, or none for this tensor.
    NeedsImportances {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// New format.
        format: Format,
        /// True if there is an importance matrix, without this tensor.
        missing: bool,
    },
    /// The importance matrix has another number of importances for a tensor than the tensor has
    /// columns.
    ImportancesWidth {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Number of importances.
        found: u64,
        /// Number of columns of all its matrices.
        columns: u64,
    },
    /// The importance matrix is for none of the model's tensors.
    ForeignImportances {
        /// A tensor that it has importances for.
        tensor: Box<Name>,
    },
    /// The output would replace the model that it is made from.
    SameFile,
    /// The output exists and is not a regular file.
    NotAFile,
    /// The output can't be written.
    Write(WriteError),
    /// The system failed to start a thread.
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
            E::NoArchitecture { arch } => write!(
                f,
                "GGUF has no name for the architecture `{arch}`, so no program reads such a file: use \
                 the folder itself"
            ),
            E::Unsaid { arch, what } => {
                write!(f, "a GGUF file of the architecture `{arch}` has no way to say {what}")
            }
            E::Tokenizer(e) => e.fmt(f),
            E::Gguf(e) => e.fmt(f),
            E::Split { parts } => write!(
                f,
                "it is one of {parts} parts of a split model: give `quantize_file` its path, so \
                 that the others are found, or merge them first"
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
            E::NeedsImportances { tensor, format, missing: false } => write!(
                f,
                "tensor `{tensor}` would be useless in {format} without an importance matrix: make \
                 one with teff imatrix, and give it by --imatrix"
            ),
            E::NeedsImportances { tensor, format, missing: true } => write!(
                f,
                "the importance matrix lacks `{tensor}`, which would be useless in {format} without: \
                 make it again from this model, or choose another format with --tensor-type"
            ),
            E::ImportancesWidth { tensor, found, columns } => write!(
                f,
                "the importance matrix has {found} numbers for `{tensor}`, which has {columns} \
                 columns: make it again from this model"
            ),
            E::ForeignImportances { tensor } => write!(
                f,
                "the importance matrix is for another model: it has `{tensor}`, and none of this \
                 model's tensors"
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
        self.kind.source()
    }
}

impl std::error::Error for QuantizeErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            QuantizeErrorKind::Read(e) | QuantizeErrorKind::Thread(e) => Some(e),
            QuantizeErrorKind::Load(e) => e.source(),
            QuantizeErrorKind::Write(e) => e.source(),
            _ => None,
        }
    }
}
