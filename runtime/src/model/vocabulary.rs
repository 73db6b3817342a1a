//! Tokenizers without their models.

use std::path::Path;

use teff_graph::gguf::Gguf;

use super::{FileKind, LoadError, LoadErrorKind, LoadOptions, file_kind, folder_of, read_file};
use crate::gguf_split::first_part;
use crate::tokenizer::Tokenizer;

/// Opens the tokenizer of a model: of a GGUF file (also one without tensors, or of an
/// architecture that Teff doesn't run; of a split one any part), of a Hugging Face folder, or of
/// the folder of a SafeTensors file.
///
/// ```
/// use teff_runtime::tokenizer::{self, Specials};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let tokenizer = tokenizer::open(path)?;
/// let ids = tokenizer.encode("Once upon a time", Specials::Ignore)?;
/// assert!(!ids.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LoadError`], which names the file; [`LoadErrorKind::Tokenizer`] for a tokenizer that is
/// missing or not supported.
pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer, LoadError> {
    let path = path.as_ref();
    let meta = std::fs::metadata(path).map_err(|e| LoadErrorKind::Io(e).at(path))?;
    let folder = match meta.is_dir() {
        true => Some(path),
        false => match file_kind(path)? {
            FileKind::SafeTensors => Some(folder_of(path)),
            FileKind::Gguf => None,
        },
    };
    let tokenizer = match folder {
        Some(folder) => Tokenizer::from_folder(folder),
        None => return open_gguf(path),
    };
    tokenizer.map_err(|e| LoadErrorKind::Tokenizer(Box::new(e)).at(path))
}

/// Tokenizer of a GGUF file, or of the first part if it is a later one.
fn open_gguf(path: &Path) -> Result<Tokenizer, LoadError> {
    let bytes = read_file(path, &LoadOptions::default())?;
    let invalid = |e| LoadErrorKind::Gguf(Box::new(e)).at(path);
    let gguf = Gguf::parse(&bytes).map_err(invalid)?;
    if let Some(first) = first_part(path, &gguf) {
        return open_gguf(&first);
    }
    Tokenizer::from_gguf(&gguf).map_err(|e| LoadErrorKind::Tokenizer(Box::new(e)).at(path))
}
