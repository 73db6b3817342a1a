//! Importance matrices: how much the error of each column of a matrix counts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use teff_graph::gguf::{Gguf, GgufError, GgufValue, Name};
use teff_kernels::Format;

/// Key of the texts that an importance matrix was made from.
pub(crate) const DATASETS: &str = "imatrix.datasets";
/// Key of the number of chunks of text.
pub(crate) const CHUNK_COUNT: &str = "imatrix.chunk_count";
/// Key of the number of tokens of a chunk.
pub(crate) const CHUNK_SIZE: &str = "imatrix.chunk_size";
/// End of the name of a tensor of sums of squares.
pub(crate) const SUMS: &str = ".in_sum2";
/// End of the name of a tensor of counts.
pub(crate) const COUNTS: &str = ".counts";

/// Importance matrix, as llama-imatrix and [`crate::imatrix`] write it: for each matrix of a model
/// the mean square of each of its inputs, for stacked experts one row of them for each.
///
/// ```no_run
/// use teff_runtime::quantize::ImportanceMatrix;
///
/// let importances = ImportanceMatrix::open("imatrix.gguf")?;
/// println!("{} matrices", importances.len());
/// # Ok::<(), teff_runtime::quantize::ImportanceError>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ImportanceMatrix {
    file: String,
    dataset: Option<String>,
    chunks: u32,
    entries: BTreeMap<String, Vec<f32>>,
}

/// Error of reading an importance matrix: the file, and the cause.
#[derive(Debug)]
pub struct ImportanceError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub kind: ImportanceErrorKind,
}

/// Cause of an [`ImportanceError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportanceErrorKind {
    /// The system failed to read the file.
    Read(io::Error),
    /// It begins as a GGUF file, but is not a valid one.
    Gguf(Box<GgufError>),
    /// It is a GGUF file of something else: a key is missing.
    NotOne {
        /// The key.
        key: &'static str,
    },
    /// It has no entries.
    Empty,
    /// A matrix has sums without counts, or counts without sums.
    Half {
        /// Name of the matrix.
        matrix: Box<Name>,
        /// End of the name of the tensor that is missing.
        missing: &'static str,
    },
    /// Sums or counts are not f32.
    NotFloats {
        /// Name of the tensor.
        tensor: Box<Name>,
        /// Its format.
        found: Format,
    },
    /// The number of sums is no multiple of the number of counts.
    Uneven {
        /// Name of the matrix.
        matrix: Box<Name>,
        /// Number of sums.
        sums: u64,
        /// Number of counts.
        counts: u64,
    },
    /// A sum of squares, or a count, is infinite, no number, or less than 0.
    Value {
        /// Name of the matrix.
        matrix: Box<Name>,
        /// The number.
        found: f32,
    },
    /// The old form, which has no GGUF header, ends or contradicts itself here.
    Damaged {
        /// Offset in bytes.
        at: usize,
    },
}

impl fmt::Display for ImportanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.to_string_lossy().escape_debug(), self.kind)
    }
}

impl fmt::Display for ImportanceErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ImportanceErrorKind as E;
        match self {
            E::Read(e) => write!(f, "can't be read: {e}"),
            E::Gguf(e) => e.fmt(f),
            E::NotOne { key } => write!(
                f,
                "it is no importance matrix: key `{key}` is missing; make one with teff imatrix"
            ),
            E::Empty => f.write_str("the importance matrix has no entries: make it again"),
            E::Half { matrix, missing } => write!(
                f,
                "tensor `{matrix}{missing}` is missing: the importance matrix is damaged, make it \
                 again"
            ),
            E::NotFloats { tensor, found } => {
                write!(f, "tensor `{tensor}` of the importance matrix is {found}: it must be F32")
            }
            E::Uneven { matrix, sums, counts } => write!(
                f,
                "the importance matrix has {sums} sums for `{matrix}`, which is no multiple of \
                 its {counts} counts"
            ),
            E::Value { matrix, found } => write!(
                f,
                "the importance matrix has the number {found} for `{matrix}`: it is damaged, make \
                 it again"
            ),
            E::Damaged { at } => write!(
                f,
                "neither a GGUF file nor an importance matrix in the old form, which this would \
                 contradict at byte {at}: make one with teff imatrix"
            ),
        }
    }
}

impl std::error::Error for ImportanceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ImportanceErrorKind::Read(e) => Some(e),
            _ => None,
        }
    }
}

fn boxed(name: &str) -> Box<Name> {
    Box::new(Name::new(name.as_bytes()))
}

impl ImportanceMatrix {
    /// Reads a file: GGUF, or the old form (`.dat`).
    ///
    /// # Errors
    /// [`ImportanceError`], which names the file, and the matrix if it concerns one.
    pub fn open(path: impl AsRef<Path>) -> Result<ImportanceMatrix, ImportanceError> {
        let path = path.as_ref();
        let at = |kind| ImportanceError { path: path.into(), kind };
        let bytes = fs::read(path).map_err(|e| at(ImportanceErrorKind::Read(e)))?;
        let mut matrix = ImportanceMatrix::parse(&bytes).map_err(at)?;
        matrix.file = path.to_string_lossy().into_owned();
        Ok(matrix)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`ImportanceErrorKind`], the cause.
    pub fn parse(bytes: &[u8]) -> Result<ImportanceMatrix, ImportanceErrorKind> {
        let matrix = match bytes.starts_with(b"GGUF") {
            true => parse_gguf(bytes)?,
            false => Old { bytes, at: 0 }.parse()?,
        };
        if matrix.entries.is_empty() {
            return Err(ImportanceErrorKind::Empty);
        }
        for (name, means) in &matrix.entries {
            if let Some(&found) = means.iter().find(|m| !(m.is_finite() && **m >= 0.0)) {
                return Err(ImportanceErrorKind::Value { matrix: boxed(name), found });
            }
        }
        Ok(matrix)
    }

    /// Keeps the importances of those matrices for whose names `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }

    /// Number of matrices that it has importances for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none, as in [`ImportanceMatrix::default`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Path that it was read from, if it was.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// First text that it was made from, if it is known.
    #[must_use]
    pub fn dataset(&self) -> Option<&str> {
        self.dataset.as_deref()
    }

    /// Number of chunks of text that it was made from; 0 if unknown.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Importances of a matrix by its name in GGUF: one for each column, for stacked experts one row
    /// after another.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.entries.get(name).map(Vec::as_slice)
    }

    /// Names of its matrices, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

fn parse_gguf(bytes: &[u8]) -> Result<ImportanceMatrix, ImportanceErrorKind> {
    use ImportanceErrorKind as E;
    let gguf = Gguf::parse(bytes).map_err(|e| E::Gguf(Box::new(e)))?;
    for key in [DATASETS, CHUNK_COUNT, CHUNK_SIZE] {
        if gguf.value(key).is_none() {
            return Err(E::NotOne { key });
        }
    }
    let chunks = match gguf.value(CHUNK_COUNT) {
        Some(GgufValue::U32(n)) => n,
        _ => return Err(E::NotOne { key: CHUNK_COUNT }),
    };
    let dataset = match gguf.value(DATASETS) {
        Some(GgufValue::Array(a)) => {
            a.strings().and_then(|mut s| s.next()).map(|s| String::from_utf8_lossy(s).into_owned())
        }
        _ => None,
    };
    let mut entries = BTreeMap::new();
    for tensor in gguf.tensors() {
        if let Some(name) = tensor.name.strip_suffix(COUNTS)
            && gguf.tensor(&format!("{name}{SUMS}")).is_none()
        {
            return Err(E::Half { matrix: boxed(name), missing: SUMS });
        }
        let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
        let Some(counts) = gguf.tensor(&format!("{name}{COUNTS}")) else {
            return Err(E::Half { matrix: boxed(name), missing: COUNTS });
        };
        for t in [&tensor, &counts] {
            if t.format != Format::F32 {
                return Err(E::NotFloats { tensor: boxed(t.name), found: t.format });
            }
        }
        let (mut sums, counts) = (floats(tensor.data), floats(counts.data));
        if counts.is_empty() || sums.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            let (sums, counts) = (sums.len() as u64, counts.len() as u64);
            return Err(E::Uneven { matrix: boxed(name), sums, counts });
        }
        if let Some(&found) = counts.iter().find(|c| !(c.is_finite() && **c >= 0.0)) {
            return Err(E::Value { matrix: boxed(name), found });
        }
        let cols = sums.len() / counts.len();
        for (row, count) in sums.chunks_exact_mut(cols).zip(counts) {
            // Halves away from zero; an expert that no token took has no preferences.
            let count = count.round();
            row.iter_mut().for_each(|x| *x = if count > 0.0 { *x / count } else { 1.0 });
        }
        entries.insert(name.to_owned(), sums);
    }
    Ok(ImportanceMatrix { file: String::new(), dataset, chunks, entries })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Reader of the old form.
struct Old<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Old<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ImportanceErrorKind> {
        let damaged = ImportanceErrorKind::Damaged { at: self.at };
        let end = self.at.checked_add(n).ok_or(ImportanceErrorKind::Damaged { at: self.at })?;
        let bytes = self.bytes.get(self.at..end).ok_or(damaged)?;
        self.at = end;
        Ok(bytes)
    }

    /// A number of 0 or more.
    fn count(&mut self) -> Result<usize, ImportanceErrorKind> {
        let at = self.at;
        let bytes = self.take(4)?.first_chunk().copied().unwrap_or_default();
        let damaged = |_| ImportanceErrorKind::Damaged { at };
        usize::try_from(i32::from_le_bytes(bytes)).map_err(damaged)
    }

    fn parse(mut self) -> Result<ImportanceMatrix, ImportanceErrorKind> {
        let mut entries = BTreeMap::new();
        for _ in 0..self.count()? {
            let at = self.at;
            let damaged = ImportanceErrorKind::Damaged { at };
            let length = self.count()?;
            let name = str::from_utf8(self.take(length)?).map_err(|_| damaged)?;
            let (calls, n) = (self.count()?, self.count()?);
            let bytes = n.checked_mul(4).ok_or(ImportanceErrorKind::Damaged { at })?;
            let mut means = floats(self.take(bytes)?);
            if means.is_empty() {
                return Err(ImportanceErrorKind::Damaged { at });
            }
            if calls > 0 {
                means.iter_mut().for_each(|x| *x /= calls as f32);
            }
            entries.insert(name.to_owned(), means);
        }
        // The rest came later, and may be missing.
        let chunks = self.count().unwrap_or(0) as u32;
        let dataset = self.count().and_then(|n| self.take(n)).ok();
        let dataset = dataset.filter(|d| !d.is_empty());
        let dataset = dataset.map(|d| String::from_utf8_lossy(d).into_owned());
        Ok(ImportanceMatrix { file: String::new(), dataset, chunks, entries })
    }
}
