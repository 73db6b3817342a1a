//! Split GGUF files: a model in parts named `NAME-00001-of-00003.gguf` and so on.
//!
//! All keys are in the first part. Each part has `split.no` (from 0), `split.count` and
//! `split.tensors.count` (of all parts), and its share of the tensors. These are the names and keys
//! of llama.cpp's tool, which can read the parts that [`split_gguf`] writes.
//!
//! [`Model::open`](crate::Model::open) and [`quantize_file`](crate::quantize::quantize_file) read
//! split files by any of their parts, so that merging is needed only for other programs.
//!
//! ```
//! use teff_runtime::gguf_split::{SplitBy, merge_gguf, split_gguf};
//!
//! # let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
//! # let folder = std::env::temp_dir().join(format!("teff-split-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! let parts = split_gguf(model, folder.join("model"), SplitBy::Tensors(32))?;
//! assert!(parts[0].ends_with(format!("model-00001-of-{:05}.gguf", parts.len())));
//! merge_gguf(&parts[1], folder.join("merged.gguf"))?;
//! assert_eq!(std::fs::read(folder.join("merged.gguf"))?, std::fs::read(model)?);
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use teff_graph::gguf::{Gguf, GgufValue, Name, TensorInfo};
use teff_graph::meta::{Metadata, Value};

use crate::gguf_write::{GgufData, GgufHeader, WriteError};
use crate::model::{FileKind, LoadError, LoadErrorKind, LoadOptions, file_kind};
use crate::storage::{Bytes, Unfinished, is_same};

/// Key of a part's number, from 0.
pub const SPLIT_NO: &str = "split.no";
/// Key of the number of parts.
pub const SPLIT_COUNT: &str = "split.count";
/// Key of the number of tensors in all parts.
pub const SPLIT_TENSORS: &str = "split.tensors.count";

/// Maximum number of parts: their number is a u16 in the file.
pub const MAX_PARTS: usize = 65_534;

/// Error of a part of a split GGUF file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PartError {
    /// The file is a part, but its name doesn't say which, so that the others can't be found.
    Name {
        /// Number of parts.
        parts: u64,
    },
    /// The part is not there.
    Missing {
        /// Number of the part, from 1.
        part: u64,
        /// Number of parts.
        parts: u64,
    },
    /// The part is another one than its name says.
    Number {
        /// Number of the part in the file's keys, from 1; `None` if there is none.
        found: Option<u64>,
        /// Number in its name.
        part: u64,
    },
    /// The part belongs to a model of another number of parts.
    Count {
        /// Number of parts in the file's keys; `None` if there is none.
        found: Option<u64>,
        /// Number of parts in its name.
        parts: u64,
    },
    /// The part belongs to a model of another number of tensors.
    Tensors {
        /// Number of tensors of the model in this part's keys; `None` if there is none.
        found: Option<u64>,
        /// Number in the first part's.
        first: Option<u64>,
    },
    /// The parts have another number of tensors than their keys say.
    Total {
        /// Number of tensors in all parts.
        found: u64,
        /// Number in their keys.
        needed: u64,
    },
    /// A tensor is in an earlier part too.
    Twice {
        /// Name of the tensor.
        tensor: Box<Name>,
    },
    /// More than [`MAX_PARTS`] parts.
    TooMany {
        /// Number of parts.
        parts: u64,
    },
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use PartError as E;
        let or = |n: &Option<u64>| n.map_or("none".into(), |n| n.to_string());
        match self {
            E::Name { parts } => write!(
                f,
                "it is one of {parts} parts of a split model, but not named like one \
                 (NAME-00001-of-{parts:05}.gguf), so that the others can't be found: give it its \
                 name again"
            ),
            E::Missing { part, parts } => {
                write!(f, "part {part} of {parts} of the model is missing: fetch it too")
            }
            E::Number { found, part } => write!(
                f,
                "its name says part {part}, its `{SPLIT_NO}` part {}: it was renamed",
                or(found)
            ),
            E::Count { found, parts } => write!(
                f,
                "its name says {parts} parts, its `{SPLIT_COUNT}` {}: it belongs to another model",
                or(found)
            ),
            E::Tensors { found, first } => write!(
                f,
                "its `{SPLIT_TENSORS}` is {}, that of the first part {}: they belong to different \
                 models",
                or(found),
                or(first)
            ),
            E::Total { found, needed } => write!(
                f,
                "the parts have {found} tensors, their `{SPLIT_TENSORS}` says {needed}: one of \
                 them belongs to another model"
            ),
            E::Twice { tensor } => write!(
                f,
                "tensor `{tensor}` is in an earlier part too: one of them belongs to another model"
            ),
            E::TooMany { parts } => {
                write!(f, "{parts} parts are too many: a model has at most {MAX_PARTS}")
            }
        }
    }
}

impl std::error::Error for PartError {}

/// Name of part `index` (from 0) of `parts`.
fn part_name(name: &str, index: u64, parts: u64) -> String {
    format!("{name}-{:05}-of-{parts:05}.gguf", index + 1)
}

/// Name, number (from 0) and number of parts in the name of a part.
fn parse_name(file: &str) -> Option<(&str, u64, u64)> {
    let number = |digits: &str| match digits.len() {
        5 if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u64>().ok(),
        _ => None,
    };
    let (rest, parts) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let (part, parts) = (number(part)?, number(parts)?);
    (1..=parts).contains(&part).then(|| (name, part - 1, parts))
}

/// Path of the first part, which has the keys, if this file is a later one.
pub(crate) fn first_part(path: &Path, gguf: &Gguf<'_>) -> Option<PathBuf> {
    let (name, index, parts) = parse_name(path.file_name()?.to_str()?)?;
    let later = index > 0 && check_part(gguf, index, parts).is_ok();
    later.then(|| path.with_file_name(part_name(name, 0, parts)))
}

fn number(gguf: &Gguf<'_>, key: &str) -> Option<u64> {
    match gguf.get(key) {
        Some(Value::Uint(n)) => Some(n),
        _ => None,
    }
}

/// Files of a GGUF model, in order: one, or the parts of a split one.
#[derive(Debug)]
pub(crate) struct Parts {
    files: Vec<Bytes>,
    /// As many as files; none for a model given as bytes.
    paths: Vec<PathBuf>,
    /// Index of the path that was given.
    given: usize,
}

impl Parts {
    /// A model given as bytes.
    pub(crate) fn given(file: Bytes) -> Parts {
        Parts { files: vec![file], paths: Vec::new(), given: 0 }
    }

    /// Opens a file and, if it is a part, all others.
    pub(crate) fn open(
        path: &Path,
        mut load: impl FnMut(&Path) -> Result<Bytes, LoadError>,
    ) -> Result<Parts, LoadError> {
        let file = load(path)?;
        let parsed = parse(&file).map_err(|kind| kind.at(path))?;
        let parts = number(&parsed, SPLIT_COUNT).unwrap_or(0);
        if parts <= 1 {
            return Ok(Parts { files: vec![file], paths: vec![path.into()], given: 0 });
        }
        let part_error = |e: PartError| LoadErrorKind::Part(e).at(path);
        if parts > MAX_PARTS as u64 {
            return Err(part_error(PartError::TooMany { parts }));
        }
        let file_name = path.file_name().and_then(|name| name.to_str());
        let (name, given, in_name) =
            file_name.and_then(parse_name).ok_or(part_error(PartError::Name { parts }))?;
        check_part(&parsed, given, in_name).map_err(part_error)?;
        let (mut files, mut paths) = (Vec::new(), Vec::new());
        let mut first = Some(file);
        for index in 0..parts {
            if index == given {
                files.extend(first.take());
                paths.push(path.into());
                continue;
            }
            let path = path.with_file_name(part_name(name, index, parts));
            files.push(load(&path).map_err(|e| match e.kind {
                LoadErrorKind::Io(io) if io.kind() == io::ErrorKind::NotFound => {
                    LoadErrorKind::Part(PartError::Missing { part: index + 1, parts }).at(&path)
                }
                kind => LoadError { kind, ..e },
            })?);
            paths.push(path);
        }
        // Below the number of parts, a u16.
        Ok(Parts { files, paths, given: given as usize })
    }

    /// Path that was given.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.paths.get(self.given).map(PathBuf::as_path)
    }

    /// All paths.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Bytes of the files.
    pub(crate) fn files(&self) -> &[Bytes] {
        &self.files
    }

    pub(crate) fn into_files(self) -> Vec<Bytes> {
        self.files
    }

    /// Parses all files, of which there is at least one, and checks that they belong together.
    pub(crate) fn parse(&self) -> Result<Vec<Gguf<'_>>, LoadError> {
        let at =
            |i: usize, kind: LoadErrorKind| LoadError { path: self.paths.get(i).cloned(), kind };
        let mut all = Vec::with_capacity(self.files.len());
        for (i, file) in self.files.iter().enumerate() {
            all.push(parse(file).map_err(|kind| at(i, kind))?);
        }
        if let [one] = &all[..] {
            return match number(one, SPLIT_COUNT) {
                Some(parts) if parts > 1 => Err(at(0, LoadErrorKind::Split { parts })),
                _ => Ok(all),
            };
        }
        check_together(&all).map_err(|(i, e)| at(i, LoadErrorKind::Part(e)))?;
        Ok(all)
    }
}

fn parse(file: &[u8]) -> Result<Gguf<'_>, LoadErrorKind> {
    Gguf::parse(file).map_err(|e| LoadErrorKind::Gguf(Box::new(e)))
}

/// Compares the keys of a part to its name.
fn check_part(gguf: &Gguf<'_>, index: u64, parts: u64) -> Result<(), PartError> {
    let (no, count) = (number(gguf, SPLIT_NO), number(gguf, SPLIT_COUNT));
    if count != Some(parts) {
        return Err(PartError::Count { found: count, parts });
    }
    match no {
        Some(no) if no == index => Ok(()),
        _ => Err(PartError::Number { found: no.map(|n| n.saturating_add(1)), part: index + 1 }),
    }
}

/// Checks that parts belong to one model; the error has the index of the part at fault.
fn check_together(parts: &[Gguf<'_>]) -> Result<(), (usize, PartError)> {
    let count = parts.len() as u64;
    let first = parts.first().and_then(|p| number(p, SPLIT_TENSORS));
    let mut names = HashSet::with_capacity(parts.iter().map(Gguf::n_tensors).sum());
    for (i, part) in parts.iter().enumerate() {
        check_part(part, i as u64, count).map_err(|e| (i, e))?;
        let found = number(part, SPLIT_TENSORS);
        if found != first {
            return Err((i, PartError::Tensors { found, first }));
        }
        for tensor in part.tensors() {
            if !names.insert(tensor.name) {
                let tensor = Box::new(Name::new(tensor.name.as_bytes()));
                return Err((i, PartError::Twice { tensor }));
            }
        }
    }
    let found = names.len() as u64;
    match first {
        Some(needed) if needed != found => Err((0, PartError::Total { found, needed })),
        _ => Ok(()),
    }
}

/// Limit of each part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SplitBy {
    /// At most this many tensors.
    Tensors(u32),
    /// At most this many bytes of tensors; a larger tensor is a part by itself.
    Bytes(u64),
}

/// Error of splitting or merging: the file, and the cause. A file that was being written is
/// removed.
#[derive(Debug)]
pub struct SplitError {
    /// File that was read or written.
    pub path: PathBuf,
    /// Cause.
    pub kind: SplitErrorKind,
}

/// Cause of a [`SplitError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SplitErrorKind {
    /// The model is not a valid GGUF file, or a part of it is missing.
    Load(Box<LoadErrorKind>),
    /// The limit is 0.
    NoLimit,
    /// The limit gives more than [`MAX_PARTS`] parts.
    TooMany {
        /// Number of parts.
        parts: usize,
    },
    /// The name of the parts is not Unicode, or empty.
    Name,
    /// The output would replace a file of the model.
    SameFile,
    /// The output can't be written.
    Write(WriteError),
}

impl SplitErrorKind {
    fn at(self, path: &Path) -> SplitError {
        SplitError { path: path.into(), kind: self }
    }
}

impl fmt::Display for SplitErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use SplitErrorKind as E;
        match self {
            E::Load(e) => e.fmt(f),
            E::NoLimit => f.write_str("parts of at most 0 tensors or bytes: give a limit above 0"),
            E::TooMany { parts } => write!(
                f,
                "it would have {parts} parts, and at most {MAX_PARTS} are allowed: raise the limit"
            ),
            E::Name => f.write_str("the parts need a name in Unicode, to which numbers are added"),
            E::SameFile => f.write_str("it is a file of the model itself: write to another file"),
            E::Write(e) => e.fmt(f),
        }
    }
}

impl fmt::Display for SplitError {
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

impl std::error::Error for SplitErrorKind {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SplitErrorKind::Load(e) => e.source(),
            SplitErrorKind::Write(e) => e.source(),
            _ => None,
        }
    }
}

impl std::error::Error for SplitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// Opens a GGUF file or all parts of one.
fn open(path: &Path) -> Result<Parts, SplitError> {
    let options = LoadOptions::default();
    let opened = file_kind(path).and_then(|kind| match kind {
        FileKind::Gguf => Parts::open(path, |path| crate::model::read_file(path, &options)),
        FileKind::SafeTensors => Err(LoadErrorKind::BareSafeTensors.at(path)),
    });
    opened.map_err(|e| of_load(e, path))
}

fn of_load(e: LoadError, path: &Path) -> SplitError {
    let at = e.path.unwrap_or_else(|| path.into());
    SplitErrorKind::Load(Box::new(e.kind)).at(&at)
}

/// Keys that only describe the splitting.
pub(crate) fn is_split_key(key: &str) -> bool {
    [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS].contains(&key)
}

/// Part that [`split_gguf`] would write.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PlannedPart {
    /// Path of the part.
    pub path: PathBuf,
    /// Number of its tensors.
    pub tensors: usize,
    /// Bytes of its tensors, each padded to the file's alignment.
    pub bytes: u64,
}

/// Facts about a merged file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Merged {
    /// Number of parts that were read; 1 for a file that isn't split.
    pub parts: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of the parts.
    pub bytes: u64,
}

/// Tensors of a part, and their bytes.
type Share<'a> = (Vec<TensorInfo<'a>>, u64);

/// Tensors of each part.
fn shares<'a>(all: &[Gguf<'a>], by: SplitBy) -> Result<Vec<Share<'a>>, SplitErrorKind> {
    if let SplitBy::Tensors(0) | SplitBy::Bytes(0) = by {
        return Err(SplitErrorKind::NoLimit);
    }
    let align = all.first().map_or(1, Gguf::alignment) as u64;
    let mut parts = vec![(Vec::new(), 0u64)];
    for (index, tensor) in all.iter().flat_map(Gguf::tensors).enumerate() {
        let bytes = (tensor.data.len() as u64).next_multiple_of(align);
        let taken = parts.last().map_or(0, |(_, bytes)| *bytes);
        let full = match by {
            SplitBy::Tensors(n) => index > 0 && index.is_multiple_of(n as usize),
            SplitBy::Bytes(most) => index > 0 && taken.saturating_add(bytes) > most,
        };
        if full {
            parts.push((Vec::new(), 0));
        }
        if let Some((tensors, taken)) = parts.last_mut() {
            tensors.push(tensor);
            *taken = taken.saturating_add(bytes);
        }
    }
    match parts.len() {
        0..=MAX_PARTS => Ok(parts),
        parts => Err(SplitErrorKind::TooMany { parts }),
    }
}

/// Path of part `index` of `count` of which the names begin with `name`.
fn part_path(name: &Path, index: usize, count: usize) -> Result<PathBuf, SplitError> {
    let stem = name.file_name().and_then(|name| name.to_str());
    let stem = stem.ok_or_else(|| SplitErrorKind::Name.at(name))?;
    Ok(name.with_file_name(part_name(stem, index as u64, count as u64)))
}

/// Returns the parts that [`split_gguf`] would write with these arguments, and writes nothing.
///
/// # Errors
/// [`SplitError`], which names the file.
pub fn plan_split(
    input: impl AsRef<Path>,
    name: impl AsRef<Path>,
    by: SplitBy,
) -> Result<Vec<PlannedPart>, SplitError> {
    let (input, name) = (input.as_ref(), name.as_ref());
    let files = open(input)?;
    let all = files.parse().map_err(|e| of_load(e, input))?;
    let parts = shares(&all, by).map_err(|kind| kind.at(input))?;
    let count = parts.len();
    let planned = |(index, (tensors, bytes)): (usize, Share<'_>)| -> Result<_, SplitError> {
        let path = part_path(name, index, count)?;
        check_output(&path, files.paths())?;
        Ok(PlannedPart { path, tensors: tensors.len(), bytes })
    };
    parts.into_iter().enumerate().map(planned).collect()
}

/// Splits a GGUF file (or one that is split otherwise) into parts in the folder of `name`, whose
/// last component begins the names of the parts, and returns their paths. Existing files of these
/// names are replaced ([`plan_split`] tells them beforehand). Each part appears under its name only
/// when it is complete.
///
/// # Errors
/// [`SplitError`], which names the file.
pub fn split_gguf(
    input: impl AsRef<Path>,
    name: impl AsRef<Path>,
    by: SplitBy,
) -> Result<Vec<PathBuf>, SplitError> {
    let (input, name) = (input.as_ref(), name.as_ref());
    let files = open(input)?;
    let all = files.parse().map_err(|e| of_load(e, input))?;
    let parts = shares(&all, by).map_err(|kind| kind.at(input))?;
    let (count, align) = (parts.len(), all[0].alignment());
    let total: usize = all.iter().map(Gguf::n_tensors).sum();
    let paths: Vec<PathBuf> =
        (0..count).map(|index| part_path(name, index, count)).collect::<Result<_, _>>()?;
    for path in &paths {
        check_output(path, files.paths())?;
    }
    for (index, ((tensors, _), path)) in parts.into_iter().zip(&paths).enumerate() {
        write_file(path, |header| {
            if index == 0 {
                keys(&all[0], header)?;
            } else if align != 32 {
                header.put(teff_graph::gguf::ALIGNMENT_KEY, GgufValue::U32(align as u32))?;
            }
            // In the order of llama.cpp's tool; the numbers are in range, as checked above.
            header.put(SPLIT_NO, GgufValue::U16(index as u16))?;
            header.put(SPLIT_TENSORS, GgufValue::I32(total as i32))?;
            header.put(SPLIT_COUNT, GgufValue::U16(count as u16))?;
            Ok(tensors)
        })?;
    }
    Ok(paths)
}

/// Merges the parts of a split GGUF file, given by any of them, into one file, which replaces an
/// existing one. It has the keys of the first part but for those about the splitting, and the
/// tensors in order: what was split is restored. The file appears under its name only when it is
/// complete.
///
/// # Errors
/// [`SplitError`], which names the file.
pub fn merge_gguf(part: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<Merged, SplitError> {
    let (part, output) = (part.as_ref(), output.as_ref());
    let files = open(part)?;
    let all = files.parse().map_err(|e| of_load(e, part))?;
    check_output(output, files.paths())?;
    write_file(output, |header| {
        keys(&all[0], header)?;
        Ok(all.iter().flat_map(Gguf::tensors).collect())
    })?;
    let tensors = all.iter().map(Gguf::n_tensors).sum();
    let bytes = files.files().iter().map(|file| file.len() as u64).sum();
    Ok(Merged { parts: all.len(), tensors, bytes })
}

/// Copies all keys but those about the splitting.
fn keys(gguf: &Gguf<'_>, header: &mut GgufHeader) -> Result<(), WriteError> {
    let mut keys = gguf.metadata().filter(|(key, _)| !is_split_key(key));
    keys.try_for_each(|(key, value)| header.put(key, value))
}

/// Refuses to write to a file of the model.
fn check_output(output: &Path, inputs: &[PathBuf]) -> Result<(), SplitError> {
    let failed = |e: io::Error| SplitErrorKind::Write(WriteError::Io(e)).at(output);
    if !output.exists() {
        return Ok(());
    }
    for input in inputs {
        if is_same(input, output).map_err(failed)? {
            return Err(SplitErrorKind::SameFile.at(output));
        }
    }
    Ok(())
}

/// Writes a file with the keys that `declare` puts into its header and the tensors that it returns.
fn write_file<'a>(
    path: &Path,
    declare: impl FnOnce(&mut GgufHeader) -> Result<Vec<TensorInfo<'a>>, WriteError>,
) -> Result<(), SplitError> {
    let write = || -> Result<(), WriteError> {
        let mut header = GgufHeader::new();
        let tensors = declare(&mut header)?;
        for t in &tensors {
            header.tensor(t.name, t.format, &t.dims[..t.n_dims])?;
        }
        let (out, unfinished) = Unfinished::beside(path)?;
        let mut data: GgufData<BufWriter<File>> =
            header.write(BufWriter::with_capacity(1 << 20, out))?;
        for t in &tensors {
            data.write(t.name, t.data)?;
        }
        let file = data.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        drop(file);
        Ok(unfinished.finish(path)?)
    };
    write().map_err(|e| SplitErrorKind::Write(e).at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        assert_eq!(part_name("m", 0, 3), "m-00001-of-00003.gguf");
        assert_eq!(parse_name("m-00001-of-00003.gguf"), Some(("m", 0, 3)));
        assert_eq!(parse_name("a-b-of-c-00012-of-00012.gguf"), Some(("a-b-of-c", 11, 12)));
        for other in [
            "m.gguf",
            "m-00000-of-00003.gguf",
            "m-00004-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-00003.bin",
            "m-+0001-of-00003.gguf",
            "00001-of-00003.gguf",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
