//! Importance matrices: which inputs of a model's matrices matter most.
//!
//! [`collect`] runs a model over a text and sums the squares of the inputs of every product, as
//! llama-imatrix does; [`Sums::write`] writes the file that [`crate::quantize`] and llama-quantize
//! take. The text is cut into chunks of tokens, each a text of its own, whose first token is
//! replaced by the model's beginning-of-text token if it wants one.
//!
//! The inputs are seen by a [`Backend`] that stands before another one: without it, nothing of this
//! is on the path of a token. Sums are in f64 and in the order of tokens, so that a file is the same
//! for every number of threads. Quantised matrices see inputs rounded to 8 bits (or 16), as products
//! with them do; others the inputs themselves.
//!
//! ```
//! use teff_runtime::imatrix::{ImatrixOptions, collect};
//! use teff_runtime::{Model, SessionOptions};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
//! let model = Model::open(path)?;
//! let tokens: Vec<u32> = (0..64).map(|i| i % 50).collect();
//! let options = ImatrixOptions::default().with_chunk(16);
//! let sums = collect(&model, &tokens, &SessionOptions::default(), &options, |_, _| {})?;
//! assert_eq!(sums.chunks(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;

use teff_graph::gguf::{GgufValue, Name};
use teff_graph::{LogitsFor, Tensor};
use teff_kernels::{
    Activations, Backend, ExplicitBackend, Format, Matrix, Tile, backend_signatures,
};

use crate::Model;
use crate::gguf_write::{GgufHeader, WriteError};
use crate::quantize::importance::{CHUNK_COUNT, CHUNK_SIZE, COUNTS, DATASETS, SUMS};
use crate::session::{Session, SessionError, SessionOptions, default_backend};

/// Options of collecting importances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ImatrixOptions {
    /// Number of tokens of a chunk.
    pub chunk: usize,
    /// Number of chunks that are left out first.
    pub skip: usize,
    /// Maximum number of chunks that are used.
    pub chunks: usize,
    /// Collect the inputs of the head too. llama-imatrix leaves it out unless asked to, and so
    /// llama-quantize finds none for it.
    pub head: bool,
}

impl Default for ImatrixOptions {
    fn default() -> Self {
        ImatrixOptions { chunk: 512, skip: 0, chunks: usize::MAX, head: false }
    }
}

impl ImatrixOptions {
    /// Sets [`chunk`](Self::chunk).
    #[must_use]
    pub const fn with_chunk(self, chunk: usize) -> Self {
        ImatrixOptions { chunk, ..self }
    }

    /// Sets [`skip`](Self::skip).
    #[must_use]
    pub const fn with_skip(self, skip: usize) -> Self {
        ImatrixOptions { skip, ..self }
    }

    /// Sets [`chunks`](Self::chunks).
    #[must_use]
    pub const fn with_chunks(self, chunks: usize) -> Self {
        ImatrixOptions { chunks, ..self }
    }

    /// Sets [`head`](Self::head).
    #[must_use]
    pub const fn with_head(self, head: bool) -> Self {
        ImatrixOptions { head, ..self }
    }
}

/// Error of collecting importances.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImatrixError {
    /// The text has fewer tokens than two chunks and those that are left out.
    ShortText {
        /// Number of tokens.
        tokens: usize,
        /// Number that is needed.
        needed: usize,
    },
    /// A chunk has no tokens, or more than the model's context.
    Chunk {
        /// Number of tokens of a chunk.
        chunk: usize,
        /// Context of the model.
        context: usize,
    },
    /// The model can't be run.
    Session(SessionError),
    /// Inputs of a matrix are infinite or no numbers.
    NotFinite {
        /// Name of the matrix.
        matrix: Box<Name>,
    },
}

impl fmt::Display for ImatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImatrixError::ShortText { tokens, needed } => write!(
                f,
                "the text has {tokens} tokens, but {needed} are needed: give more text, or smaller \
                 chunks (--ctx)"
            ),
            ImatrixError::Chunk { chunk, context } => write!(
                f,
                "chunks of {chunk} tokens: they must have 1 to {context}, the model's context"
            ),
            ImatrixError::Session(e) => e.fmt(f),
            ImatrixError::NotFinite { matrix } => write!(
                f,
                "inputs of `{matrix}` are infinite or no numbers: the model is damaged, or F16 is \
                 too small for it"
            ),
        }
    }
}

impl std::error::Error for ImatrixError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImatrixError::Session(e) => e.source(),
            _ => None,
        }
    }
}

impl From<SessionError> for ImatrixError {
    fn from(e: SessionError) -> Self {
        ImatrixError::Session(e)
    }
}

/// Sums of squares of the inputs of one matrix, or of each matrix of a stack.
#[derive(Clone, PartialEq, Debug)]
struct Entry {
    /// One for each column, matrix by matrix.
    sums: Vec<f64>,
    /// Number of inputs that were summed, for each matrix.
    counts: Vec<u64>,
}

/// Sums of squares of the inputs of a model's matrices.
#[derive(Clone, PartialEq, Debug)]
pub struct Sums {
    entries: BTreeMap<String, Entry>,
    chunk: usize,
    chunks: usize,
}

impl Sums {
    /// Number of chunks of text.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Names of the matrices in GGUF, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Sums of squares of a matrix' inputs: one for each column, matrix by matrix of a stack.
    #[must_use]
    pub fn sums(&self, name: &str) -> Option<&[f64]> {
        self.entries.get(name).map(|e| &*e.sums)
    }

    /// Numbers of inputs of a matrix, or of each of a stack.
    #[must_use]
    pub fn counts(&self, name: &str) -> Option<&[u64]> {
        self.entries.get(name).map(|e| &*e.counts)
    }

    /// Matrices of stacks of experts of which some were never chosen, with their number; these count as
    /// if all inputs mattered alike.
    pub fn unused(&self) -> impl Iterator<Item = (&str, usize)> {
        let count = |e: &Entry| e.counts.iter().filter(|&&n| n == 0).count();
        self.entries.iter().map(move |(n, e)| (n.as_str(), count(e))).filter(|(_, n)| *n > 0)
    }

    /// Writes the file of an importance matrix, and returns the writer, flushed; `dataset` is the name
    /// of the text.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write<W: Write>(&self, dataset: &str, out: W) -> Result<W, WriteError> {
        let small = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let mut header = GgufHeader::new();
        header.put("general.type", GgufValue::Str("imatrix"))?;
        header.put_strings(DATASETS, [dataset].as_slice())?;
        header.put(CHUNK_COUNT, small(self.chunks))?;
        header.put(CHUNK_SIZE, small(self.chunk))?;
        for (name, entry) in &self.entries {
            let matrices = entry.counts.len() as u64;
            let cols = entry.sums.len() as u64 / matrices.max(1);
            header.tensor(&format!("{name}{SUMS}"), Format::F32, &[cols, matrices])?;
            header.tensor(&format!("{name}{COUNTS}"), Format::F32, &[1, matrices])?;
        }
        let mut data = header.write(out)?;
        for (name, entry) in &self.entries {
            let bytes = |x: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
                x.flat_map(f32::to_le_bytes).collect()
            };
            let sums = bytes(&mut entry.sums.iter().map(|&x| x as f32));
            data.write(&format!("{name}{SUMS}"), &sums)?;
            let counts = bytes(&mut entry.counts.iter().map(|&n| n as f32));
            data.write(&format!("{name}{COUNTS}"), &counts)?;
        }
        data.finish()
    }
}

/// Matrix of the model in memory.
struct Watched {
    name: String,
    /// Addresses of its bytes.
    bytes: Range<usize>,
    /// Rows of each matrix of a stack.
    rows: usize,
    cols: usize,
    entry: Mutex<Entry>,
}

/// Backend that sees the inputs of products and leaves the computing to another one.
struct Observer {
    inner: Box<dyn Backend>,
    /// In the order of addresses.
    matrices: Vec<Watched>,
}

impl Observer {
    fn new(model: &Model, inner: Box<dyn Backend>, head: bool) -> Observer {
        let mut matrices = Vec::new();
        for info in model.tensor_infos() {
            let Tensor::Matrix(m) = model.tensor(info.id) else { continue };
            let mut name = String::new();
            let _ = model.family().gguf_name(info.role, &mut name); // a String takes everything
            let watched = name.starts_with("blk.") || head && name == "output.weight";
            if !watched {
                continue;
            }
            let start = m.bytes().as_ptr() as usize;
            let (experts, cols) = (info.experts.max(1), m.cols());
            let entry = Entry { sums: vec![0.0; experts * cols], counts: vec![0; experts] };
            matrices.push(Watched {
                name,
                bytes: start..start + m.bytes().len(),
                rows: m.rows() / experts,
                cols,
                entry: Mutex::new(entry),
            });
        }
        matrices.sort_by_key(|w| w.bytes.start);
        Observer { inner, matrices }
    }

    fn see(&self, w: &Matrix<'_>, x: &Activations<'_>, first: usize) {
        let at = w.bytes().as_ptr() as usize;
        let i = self.matrices.partition_point(|m| m.bytes.start <= at);
        let Some(watched) = i.checked_sub(1).and_then(|i| self.matrices.get(i)) else { return };
        if !watched.bytes.contains(&at) || watched.cols != x.cols() || watched.rows == 0 {
            return;
        }
        // A product is computed in ranges of rows: its inputs count with the first row alone.
        let row = (at - watched.bytes.start) / w.row_bytes().max(1) + first;
        let (matrix, 0) = (row / watched.rows, row % watched.rows) else { return };
        let mut entry = watched.entry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Entry { sums, counts } = &mut *entry;
        let Some(count) = counts.get_mut(matrix) else { return };
        *count += x.n() as u64;
        let sums = &mut sums[matrix * watched.cols..][..watched.cols];
        for t in 0..x.n() {
            add_squares(x, t, sums);
        }
    }

    fn sums(self) -> Result<BTreeMap<String, Entry>, ImatrixError> {
        let mut entries = BTreeMap::new();
        for w in self.matrices {
            let entry = w.entry.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            if entry.sums.iter().any(|x| !(*x as f32).is_finite()) {
                let matrix = Box::new(Name::new(w.name.as_bytes()));
                return Err(ImatrixError::NotFinite { matrix });
            }
            // A matrix that is only looked up, or not used at all, has nothing to say.
            if entry.counts.iter().any(|&n| n > 0) {
                entries.insert(w.name, entry);
            }
        }
        Ok(entries)
    }
}

/// Adds the squares of row `t`.
fn add_squares(x: &Activations<'_>, t: usize, sums: &mut [f64]) {
    let mut add = |i: usize, v: f64| sums[i] += v * v;
    match x {
        Activations::Dense(x) => {
            x.row(t).iter().enumerate().for_each(|(i, &v)| add(i, f64::from(v)));
        }
        Activations::Q8(x) => {
            let row = x.row(t);
            for (i, &q) in row.q.iter().enumerate() {
                let code = match row.lo {
                    None => i32::from(q),
                    Some(lo) => 255 * i32::from(q) + i32::from(lo[i]),
                };
                add(i, f64::from(row.d[i / 32]) * f64::from(code));
            }
        }
        Activations::Wide(x) => {
            let row = x.row(t);
            for (i, &q) in row.q.iter().enumerate() {
                add(i, f64::from(row.d[i / 256]) * f64::from(q));
            }
        }
    }
}

/// All methods but `matmul` go to the other backend.
macro_rules! observe {
    (
        []
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
    ) => {
        impl ExplicitBackend for Observer {
            $(observe!(@one $name(self $(, $arg: $ty)*) $(-> $ret)?);)*
        }
    };
    (@one matmul($self:ident $(, $arg:ident: $ty:ty)*)) => {
        fn matmul(
            &self,
            w: &Matrix<'_>,
            x: &Activations<'_>,
            rows: Range<usize>,
            y: &mut Tile<'_>,
            scratch: &mut [u8],
        ) {
            self.see(w, x, rows.start);
            self.inner.matmul(w, x, rows, y, scratch);
        }
    };
    (@one $name:ident($self:ident $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?) => {
        fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
            self.inner.$name($($arg),*)
        }
    };
}
backend_signatures!([observe]);

/// Runs a model over chunks of `tokens` and sums the squares of the inputs of its products.
/// `progress` is called after each chunk with its number, from 1, and the number of all.
///
/// Of `session`, the threads and the backend are used. The model must not be
/// [repacked](crate::LoadOptions::repack).
///
/// # Errors
/// [`ImatrixError`].
pub fn collect(
    model: &Model,
    tokens: &[u32],
    session: &SessionOptions,
    options: &ImatrixOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Sums, ImatrixError> {
    let (chunk, context) = (options.chunk, model.spec().context as usize);
    if chunk == 0 || chunk > context {
        return Err(ImatrixError::Chunk { chunk, context });
    }
    let needed = options.skip.saturating_add(2).saturating_mul(chunk);
    if tokens.len() < needed {
        return Err(ImatrixError::ShortText { tokens: tokens.len(), needed });
    }
    let inner: Box<dyn Backend> = match session.backend {
        Some(own) => Box::new(own),
        None => Box::new(default_backend()?),
    };
    let observer = Observer::new(model, inner, options.head);
    let bos = model.tokenizer().ok().filter(|t| t.add_bos()).and_then(|t| t.bos());
    let all = tokens.chunks_exact(chunk).skip(options.skip).take(options.chunks);
    let count = all.len();
    {
        // The last layer computes the tokens whose logits are wanted: all of them.
        let batch = chunk.min(STEP);
        let session = SessionOptions { context: Some(chunk), batch, logits: batch, ..*session };
        let mut session: Session<'_> =
            model.session_builder(&session).foreign_backend(&observer).build()?;
        for (i, tokens) in all.enumerate() {
            session.truncate(0);
            let mut first = Some(bos.unwrap_or(tokens[0]));
            for part in tokens.chunks(batch) {
                let mut part = part.to_vec();
                if let Some(first) = first.take() {
                    part[0] = first;
                }
                session.eval(&part, LogitsFor::All)?;
            }
            progress(i + 1, count);
        }
    }
    Ok(Sums { entries: observer.sums()?, chunk, chunks: count })
}

/// Tokens of a step at most: the logits of all of them are in memory.
const STEP: usize = 64;
