//! Reading folders, with the feature `std`.

use std::borrow::ToOwned;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::string::ToString;
use std::vec::Vec;

use super::{ExportError, Tokenizer, TokenizerError};

/// Size limit of a tokenizer's files in bytes; the largest in use have some 35 MB.
const MAX_FILE: u64 = 256 << 20;

impl Tokenizer {
    /// Reads the tokenizer of a Hugging Face folder, as [`from_files`](Self::from_files) does.
    ///
    /// # Errors
    /// [`TokenizerError::NoFiles`] if there is no tokenizer; otherwise the error of the file.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let found = Tokenizer::from_files(|name| read(&folder.join(name)))?;
        found.ok_or_else(|| TokenizerError::NoFiles { folder: folder.to_owned() })
    }

    /// The tokenizer of a folder as its GGUF file will have it: [`with_scores`](Self::with_scores)
    /// of the folder's tokenizer.model, if there is one. `self` was read from the folder.
    ///
    /// # Errors
    /// As [`with_scores`](Self::with_scores), and those of reading files.
    pub fn for_gguf<W>(self, folder: &Path) -> Result<Tokenizer, ExportError<W>> {
        if !self.has_ranks() {
            return Ok(self);
        }
        let Some(model) = read(&folder.join("tokenizer.model"))? else { return Ok(self) };
        let config = read(&folder.join("tokenizer_config.json"))?;
        self.with_scores(&model, config.as_deref())
    }
}

/// Opens a regular file and returns its length. Anything else (a pipe, a device) could block
/// forever or never end, so it is refused before it is opened.
fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let regular = |m: fs::Metadata| match m.is_file() {
        true => Ok(m.len()),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
    };
    regular(fs::metadata(path)?)?;
    let file = File::open(path)?;
    let len = regular(file.metadata()?)?;
    Ok((file, len))
}

/// Reads a file; `None` if it doesn't exist.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let io = |e: io::Error| TokenizerError::Io { path: path.into(), why: e.to_string() };
    let large = |bytes| TokenizerError::FileTooLarge { path: path.into(), bytes, limit: MAX_FILE };
    let (file, len) = match open_file(path) {
        Ok(opened) => opened,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    if len > MAX_FILE {
        return Err(large(len));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(large(bytes.len() as u64));
    }
    Ok(Some(bytes))
}
