//! Writing the quantised file, tensor by tensor and in pieces, so that it takes little memory.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use teff_graph::gguf::{Gguf, GgufValue, Name};
use teff_kernels::{Format, dequantize_row, quantize_row, quantize_row_weighted};

use super::mixes::weighs;
use super::source::{FILE_TYPE, QUANTIZATION_VERSION};
use super::{
    Choice, FolderSource, GgufSource, ImportanceMatrix, Overrides, QuantizeError,
    QuantizeErrorKind as E, Shape, Source, Target, plan_with,
};
use crate::gguf_split::Parts;
use crate::gguf_write::{GgufData, GgufHeader, WriteError};
use crate::model::{
    FileKind, LoadError, LoadErrorKind, LoadOptions, Warning, file_kind, read_file,
};
use crate::storage::{Unfinished, is_same};

/// Elements that are widened at once: whole blocks of every format, and few enough for a cache.
const PIECE: usize = 16 * 1024;
/// Elements that a thread quantises before they are written.
const SHARE: usize = 64 * PIECE;
/// Bytes that are copied at once.
const COPY: usize = 4 << 20;

const _: () = {
    let mut i = 0;
    while i < Format::ALL.len() {
        assert!(PIECE.is_multiple_of(Format::ALL[i].block_len()));
        i += 1;
    }
};

/// Options of quantising a model.
///
/// ```
/// use teff_runtime::quantize::QuantizeOptions;
///
/// let options = QuantizeOptions::default().with_threads(2);
/// assert_eq!((options.threads, options.allow_requantize), (2, false));
/// ```
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// Number of threads; 0 for one per core. Each takes up to 5 MB of memory.
    pub threads: usize,
    /// Allow quantising tensors that are already quantised, which loses more than either format
    /// alone.
    pub allow_requantize: bool,
    /// Formats given by hand.
    pub overrides: Overrides,
    /// Importance of each column of the matrices.
    pub importances: Option<Arc<ImportanceMatrix>>,
}

impl QuantizeOptions {
    /// Sets [`threads`](Self::threads).
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        QuantizeOptions { threads, ..self }
    }

    /// Sets [`allow_requantize`](Self::allow_requantize).
    #[must_use]
    pub fn with_allow_requantize(self, allow_requantize: bool) -> Self {
        QuantizeOptions { allow_requantize, ..self }
    }

    /// Sets [`overrides`](Self::overrides).
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        QuantizeOptions { overrides, ..self }
    }

    /// Sets [`importances`](Self::importances).
    #[must_use]
    pub fn with_importances(self, importances: impl Into<Arc<ImportanceMatrix>>) -> Self {
        QuantizeOptions { importances: Some(importances.into()), ..self }
    }
}

/// Progress, reported to the caller before each piece of work.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Current tensor.
    pub tensor: Shape<'a>,
    /// New format of the tensor.
    pub format: Format,
    /// Index of the tensor, from 0.
    pub index: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of the model that are done.
    pub done: u64,
    /// Bytes of the model in total.
    pub total: u64,
}

/// Tensor that did not get its intended format, because its rows are not whole blocks of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fallback {
    /// Name of the tensor.
    pub tensor: String,
    /// Intended format.
    pub wanted: Format,
    /// Format used instead.
    pub got: Format,
}

/// Result of quantising a model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of tensors that got another format.
    pub converted: usize,
    /// Number of weights of all tensors.
    pub elements: u64,
    /// Bytes of all tensors before.
    pub before: u64,
    /// Bytes of all tensors after.
    pub after: u64,
    /// Tensors that did not get their intended format.
    pub fallbacks: Vec<Fallback>,
    /// Tensors that were already quantised ([`QuantizeOptions::allow_requantize`]).
    pub requantized: Vec<String>,
    /// Tensors in TQ1_0 or TQ2_0 that were not ternary and so lost most of their information.
    pub rounded: Vec<String>,
    /// Patterns of [`Overrides::tensors`] that are for no tensor which may be quantised.
    pub unmatched: Vec<String>,
    /// Tensors that the importance matrix lacks, and whose format would have made use of it; not the
    /// embedding and the head.
    pub unweighted: Vec<String>,
    /// Matrices of the importance matrix that the model lacks.
    pub foreign: Vec<String>,
    /// Warnings of opening a folder ([`Model::warnings`](crate::Model::warnings)).
    pub warnings: Vec<Warning>,
}

impl Report {
    /// Bits per weight before.
    #[must_use]
    pub fn bits_before(&self) -> f64 {
        bits(self.before, self.elements)
    }

    /// Bits per weight after.
    #[must_use]
    pub fn bits_after(&self) -> f64 {
        bits(self.after, self.elements)
    }
}

fn bits(bytes: u64, elements: u64) -> f64 {
    bytes as f64 * 8.0 / elements.max(1) as f64
}

/// Quantises a GGUF file (or a split one, given by any of its parts), a Hugging Face folder, or a
/// SafeTensors file with its config.json into a GGUF file. The output appears under its name only when it is complete; until then it is a hidden file next to it. An existing file is
/// replaced.
///
/// `progress` is called before each piece of work.
///
/// # Errors
/// [`QuantizeError`], which names the file, and the tensor if it concerns one.
pub fn quantize_file(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    target: &Target,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Report, QuantizeError> {
    let (input, output) = (input.as_ref(), output.as_ref());
    let read = |e: io::Error| E::Read(e).at(input);
    let is_folder = fs::metadata(input).map_err(read)?.is_dir();
    let output = &destination(input, output).map_err(|kind| kind.at(output))?;
    if is_folder || matches!(file_kind(input), Ok(FileKind::SafeTensors)) {
        let source = FolderSource::open(input)?;
        let mut report = write_file(&source, input, output, target, options, progress)?;
        report.warnings = source.warnings().to_vec();
        return Ok(report);
    }
    let loaded = |e: LoadError| {
        let kind = match e.kind {
            LoadErrorKind::Io(e) => E::Read(e),
            LoadErrorKind::TooLarge { bytes } => E::TooLarge { bytes },
            LoadErrorKind::Gguf(e) => E::Gguf(e),
            kind => E::Load(Box::new(kind)),
        };
        kind.at(e.path.as_deref().unwrap_or(input))
    };
    let mapped = LoadOptions::default();
    let parts = Parts::open(input, |path| read_file(path, &mapped)).map_err(loaded)?;
    for path in parts.paths() {
        if output.exists() && is_same(path, output).map_err(read)? {
            return Err(E::SameFile.at(output));
        }
    }
    let source = GgufSource::from_parts(parts.parse().map_err(loaded)?);
    let source = source.map_err(|kind| kind.at(input))?;
    write_file(&source, input, output, target, options, progress)
}

/// Writes the file for `output`, and renames it.
fn write_file(
    source: &dyn Source,
    input: &Path,
    output: &Path,
    target: &Target,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Report, QuantizeError> {
    let written = |e: io::Error| E::Write(WriteError::Io(e)).at(output);
    let (out, unfinished) = Unfinished::beside(output).map_err(written)?;
    let out = BufWriter::with_capacity(1 << 20, out);
    let (out, report) =
        write(source, target, options, out, progress).map_err(|kind| match kind {
            kind @ (E::Write(_) | E::Thread(_)) => kind.at(output),
            kind => kind.at(input),
        })?;
    let file = out.into_inner().map_err(|e| written(e.into_error()))?;
    // Synced to disk before it is renamed: a crash leaves the old file or the new one.
    file.sync_all().map_err(written)?;
    drop(file);
    unfinished.finish(output).map_err(written)?;
    Ok(report)
}

/// Path of the output: the target of a link, but never the input, a folder or a device.
fn destination(input: &Path, output: &Path) -> Result<PathBuf, E> {
    let write = |e| E::Write(WriteError::Io(e));
    match fs::symlink_metadata(output) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && output.file_name().is_some() => {
            return Ok(output.into());
        }
        Err(e) => return Err(write(e)),
        Ok(_) => {}
    }
    let output = fs::canonicalize(output).map_err(write)?;
    if !fs::metadata(&output).map_err(write)?.is_file() {
        return Err(E::NotAFile);
    }
    if is_same(input, &output).map_err(E::Read)? || is_part(input, &output).map_err(E::Read)? {
        return Err(E::SameFile);
    }
    Ok(output)
}

/// True if a file belongs to the model in a folder, as all files there do, by themselves or by a
/// link, except GGUF files.
fn is_part(folder: &Path, file: &Path) -> io::Result<bool> {
    if !fs::metadata(folder)?.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        // A dangling link belongs to no file.
        if !gguf && path.is_file() && is_same(&path, file)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Quantises a model into a GGUF file, and returns the writer, flushed.
///
/// # Errors
/// [`QuantizeErrorKind`](E); the output written until then is incomplete.
pub fn write<W: Write>(
    source: &dyn Source,
    target: &Target,
    options: &QuantizeOptions,
    out: W,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<(W, Report), E> {
    let shapes: Vec<Shape<'_>> = (0..source.len()).map(|i| source.shape(i)).collect();
    let (overrides, importances) = (&options.overrides, options.importances.as_deref());
    let mut choices = plan_with(target, &source.facts(), overrides, importances.is_some(), &shapes);
    let mut file_type = target.file_type();
    for (index, (shape, choice)) in shapes.iter().zip(&mut choices).enumerate() {
        if source.is_fixed(index) {
            (choice.format, choice.wanted) = (shape.format, shape.format);
            // As llama.cpp's converter has it.
            if !target.base().is_quantized() {
                file_type = MXFP4_MOE;
            }
        }
    }
    let mut report = Report { tensors: shapes.len(), ..Report::default() };
    for given in &overrides.tensors {
        if !shapes.iter().any(|t| !t.is_kept() && given.is_for(t.name)) {
            report.unmatched.push(given.pattern().into());
        }
    }
    let mut weights = Vec::with_capacity(shapes.len());
    for (shape, choice) in shapes.iter().zip(&choices) {
        weights.push(report.weights(target, shape, *choice, importances)?);
    }
    if let Some(importances) = importances {
        report.find_foreign(importances, &shapes)?;
    }
    let mut header = GgufHeader::new();
    match importances {
        None => source.put_keys(&mut header)?,
        Some(importances) => put_keys(source, importances, &mut header)?,
    }
    header.put(QUANTIZATION_VERSION, GgufValue::U32(2))?;
    header.put(FILE_TYPE, GgufValue::U32(file_type))?;
    for (index, (shape, choice)) in shapes.iter().zip(&choices).enumerate() {
        header.tensor(shape.name, choice.format, shape.dims)?;
        report.count(shape, *choice, source.is_requantized(index), options)?;
    }
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let mut work = Work { source, shares: Vec::new(), threads, rounded: false };
    let mut data = header.write(out)?;
    let (mut done, total) = (0, report.before);
    for (index, (shape, choice)) in shapes.iter().zip(&choices).enumerate() {
        let tensors = shapes.len();
        let weights = weights[index];
        let format = choice.format;
        let bytes = bytes_of(shape, shape.format);
        let mut tell = |share: f64| {
            let done = done + (bytes as f64 * share) as u64;
            progress(&Progress { tensor: *shape, format, index, tensors, done, total });
        };
        match source.bytes(index).filter(|_| shape.format == format) {
            Some(bytes) => copy(shape.name, bytes, &mut data, &mut tell)?,
            None => {
                work.convert(index, shape, (format, weights), &mut data, &mut tell)?;
                if std::mem::take(&mut work.rounded) {
                    report.rounded.push(shape.name.into());
                }
            }
        }
        done += bytes;
    }
    Ok((data.finish()?, report))
}

/// Type of a file whose experts are MXFP4.
const MXFP4_MOE: u32 = 38;

/// Number of elements of a tensor. They were counted when the header was made, so the product does
/// not overflow.
fn elements(shape: &Shape<'_>) -> u64 {
    shape.dims.iter().fold(1, |n, &d| n.saturating_mul(d))
}

/// Bytes of a tensor in a format whose blocks divide its rows.
fn bytes_of(shape: &Shape<'_>, format: Format) -> u64 {
    let blocks = elements(shape) / format.block_len() as u64;
    blocks.saturating_mul(format.block_bytes() as u64) + format.trailer_bytes() as u64
}

fn boxed(name: &str) -> Box<Name> {
    Box::new(Name::new(name.as_bytes()))
}

/// Keys of the file: the source's, and what is known of the importance matrix, under llama.cpp's names.
fn put_keys(
    source: &dyn Source,
    importances: &ImportanceMatrix,
    header: &mut GgufHeader,
) -> Result<(), WriteError> {
    // Those of another matrix, by which the source was quantised, are replaced.
    let mut all = GgufHeader::new();
    source.put_keys(&mut all)?;
    let bytes = all.write(Vec::new())?.finish()?;
    if let Ok(gguf) = Gguf::parse(&bytes) {
        let others = gguf.metadata().filter(|(key, _)| !key.starts_with("quantize.imatrix."));
        others.into_iter().try_for_each(|(key, value)| header.put(key, value))?;
    }
    // llama-quantize has room for so many bytes.
    let cut = |text: &str| {
        let most = (0..=text.len().min(127)).rev().find(|&n| text.is_char_boundary(n));
        text[..most.unwrap_or(0)].to_owned()
    };
    if !importances.file().is_empty() {
        header.put("quantize.imatrix.file", GgufValue::Str(&cut(importances.file())))?;
    }
    if let Some(dataset) = importances.dataset() {
        header.put("quantize.imatrix.dataset", GgufValue::Str(&cut(dataset)))?;
    }
    let entries = u32::try_from(importances.len()).unwrap_or(u32::MAX);
    header.put("quantize.imatrix.entries_count", GgufValue::U32(entries))?;
    if importances.chunks() > 0 {
        header.put("quantize.imatrix.chunks_count", GgufValue::U32(importances.chunks()))?;
    }
    Ok(())
}

impl Report {
    /// Importances of a tensor, if its new format uses them and there are any.
    fn weights<'i>(
        &mut self,
        target: &Target,
        shape: &Shape<'_>,
        choice: Choice,
        importances: Option<&'i ImportanceMatrix>,
    ) -> Result<Option<&'i [f32]>, E> {
        let (name, format) = (shape.name, choice.format);
        if format == shape.format || shape.is_kept() {
            return Ok(None);
        }
        let needed = target.needs_importances(name, format);
        let embedding = ["token_embd.weight", "per_layer_token_embd.weight"].contains(&name);
        let found = importances.and_then(|i| i.get(name));
        let columns = shape.cols().saturating_mul(shape.matrices());
        match found {
            Some(w) if w.len() as u64 == columns => return Ok(Some(w).filter(|_| weighs(format))),
            // llama.cpp's rule: the embedding is looked up, not multiplied, so a wrong number says
            // nothing.
            Some(w) if !embedding => {
                let (tensor, found) = (boxed(name), w.len() as u64);
                return Err(E::ImportancesWidth { tensor, found, columns });
            }
            _ => {}
        }
        if needed {
            let missing = importances.is_some();
            return Err(E::NeedsImportances { tensor: boxed(name), format, missing });
        }
        if importances.is_some() && weighs(format) && !embedding && name != "output.weight" {
            self.unweighted.push(name.into());
        }
        Ok(None)
    }

    /// Names what the importance matrix has beyond the model; returns an error if that is all of it.
    fn find_foreign(
        &mut self,
        importances: &ImportanceMatrix,
        shapes: &[Shape<'_>],
    ) -> Result<(), E> {
        let names: HashSet<&str> = shapes.iter().map(|t| t.name).collect();
        self.foreign =
            importances.names().filter(|n| !names.contains(n)).map(String::from).collect();
        match self.foreign.first() {
            Some(first) if self.foreign.len() == importances.len() => {
                Err(E::ForeignImportances { tensor: boxed(first) })
            }
            _ => Ok(()),
        }
    }

    /// Counts a tensor; returns an error if it is already quantised.
    fn count(
        &mut self,
        shape: &Shape<'_>,
        choice: Choice,
        quantized: bool,
        options: &QuantizeOptions,
    ) -> Result<(), E> {
        self.elements = self.elements.saturating_add(elements(shape));
        self.before = self.before.saturating_add(bytes_of(shape, shape.format));
        self.after = self.after.saturating_add(bytes_of(shape, choice.format));
        if choice.format != choice.wanted {
            let (wanted, got) = (choice.wanted, choice.format);
            self.fallbacks.push(Fallback { tensor: shape.name.into(), wanted, got });
        }
        if choice.format != shape.format {
            self.converted += 1;
            if quantized {
                if !options.allow_requantize {
                    let (found, asked) = (shape.format, choice.format);
                    return Err(E::AlreadyQuantized { tensor: boxed(shape.name), found, asked });
                }
                self.requantized.push(shape.name.into());
            }
        }
        Ok(())
    }
}

fn copy<W: Write>(
    name: &str,
    bytes: &[u8],
    data: &mut GgufData<W>,
    tell: &mut dyn FnMut(f64),
) -> Result<(), WriteError> {
    for (i, piece) in bytes.chunks(COPY).enumerate() {
        tell((i * COPY) as f64 / bytes.len() as f64);
        data.write(name, piece)?;
    }
    Ok(())
}

/// Working memory of a thread, reused from tensor to tensor.
struct Share {
    floats: Vec<f32>,
    out: Vec<u8>,
}

/// Working memory of all threads.
struct Work<'s> {
    source: &'s dyn Source,
    shares: Vec<Share>,
    threads: usize,
    /// True if the last tensor lost more than a ternary one would.
    rounded: bool,
}

impl Work<'_> {
    /// Writes a tensor in another format. Pieces are quantised one by one, on any thread, and
    /// written in order.
    fn convert<W: Write>(
        &mut self,
        index: usize,
        shape: &Shape<'_>,
        (to, importances): (Format, Option<&[f32]>),
        data: &mut GgufData<W>,
        tell: &mut dyn FnMut(f64),
    ) -> Result<(), E> {
        // There may be more elements than bytes, and the bytes may fill nearly all of the address
        // space.
        let bytes = elements(shape);
        let total = usize::try_from(bytes).map_err(|_| E::TooLarge { bytes })?;
        let mut scale = 0.0;
        if to.trailer_bytes() > 0 {
            scale = self.ternary_scale(index, shape, total)?;
        }
        let mut job = Job {
            source: self.source,
            index,
            name: shape.name,
            to,
            piece: PIECE,
            importances: None,
        };
        if let Some(means) = importances {
            // Importances are of columns, and some formats look at a whole row: pieces are whole rows.
            let cols = usize::try_from(shape.cols()).map_err(|_| E::TooLarge { bytes })?;
            let rows = shape.dims.get(1).map_or(1, |&d| usize::try_from(d).unwrap_or(usize::MAX));
            job.piece = (PIECE / cols).max(1) * cols;
            job.importances = Some(Columns { means, cols, rows });
        }
        let piece = job.piece;
        let mut first = 0;
        while first < total {
            tell(first as f64 / total as f64);
            let most = (SHARE / piece).max(1).saturating_mul(piece).saturating_mul(self.threads);
            let batch = (total - first).min(most);
            // Shares are as even as whole pieces allow.
            let pieces = batch.div_ceil(piece);
            let each = pieces.div_ceil(self.threads) * piece;
            let count = batch.div_ceil(each);
            while self.shares.len() < count {
                self.shares.push(Share { floats: Vec::new(), out: Vec::new() });
            }
            for share in &mut self.shares[..count] {
                share.floats.resize(share.floats.len().max(piece), 0.0);
            }
            let shares = &mut self.shares[..count];
            self.rounded |= job.batch(first, batch, each, shares)?;
            for share in shares {
                data.write(shape.name, &share.out)?;
            }
            first += batch;
        }
        if let Some(rest) = to.trailer_bytes().checked_sub(4) {
            data.write(shape.name, &scale.to_le_bytes())?;
            data.write(shape.name, &vec![0; rest])?;
        }
        Ok(())
    }

    /// The only magnitude of a ternary matrix.
    fn ternary_scale(&self, index: usize, shape: &Shape<'_>, total: usize) -> Result<f32, E> {
        let mut floats = vec![0.0; PIECE];
        let mut scale = 0.0f32;
        for first in (0..total).step_by(PIECE) {
            let x = &mut floats[..PIECE.min(total - first)];
            self.source.values(index, first, x);
            for (i, v) in x.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                if !v.is_finite() {
                    let element = (first + i) as u64;
                    return Err(E::NotFinite { tensor: boxed(shape.name), element });
                }
                if scale == 0.0 {
                    scale = v.abs();
                }
                if v.abs() != scale {
                    return Err(E::NotTernary { tensor: boxed(shape.name), scale, found: *v });
                }
            }
        }
        Ok(scale)
    }
}

/// Tensor in progress.
#[derive(Clone, Copy)]
struct Job<'s> {
    source: &'s dyn Source,
    index: usize,
    name: &'s str,
    to: Format,
    /// Elements that are widened at once.
    piece: usize,
    importances: Option<Columns<'s>>,
}

/// Importances of the columns of matrices that lie one after another.
#[derive(Clone, Copy)]
struct Columns<'s> {
    means: &'s [f32],
    cols: usize,
    /// Rows of each matrix.
    rows: usize,
}

impl<'s> Columns<'s> {
    /// Importances of the row that begins with element number `first`.
    fn of_row(&self, first: usize) -> &'s [f32] {
        let matrix = first / self.cols / self.rows;
        &self.means[matrix * self.cols..][..self.cols]
    }
}

impl Job<'_> {
    /// Quantises `batch` elements from number `first` on, `each` by each thread, and returns true
    /// if they were rounded.
    fn batch(
        self,
        first: usize,
        batch: usize,
        each: usize,
        shares: &mut [Share],
    ) -> Result<bool, E> {
        let range = |i: usize| (first + i * each, each.min(batch - i * each));
        if let [share] = shares {
            return self.share(first, batch, share);
        }
        thread::scope(|scope| {
            let mut handles = Vec::with_capacity(shares.len());
            for (i, share) in shares.iter_mut().enumerate() {
                let (first, n) = range(i);
                let run = move || self.share(first, n, share);
                let handle = thread::Builder::new().spawn_scoped(scope, run).map_err(E::Thread)?;
                handles.push(handle);
            }
            // The first error in the order of the tensor, not in time.
            let mut rounded = false;
            for handle in handles {
                match handle.join() {
                    Ok(done) => rounded |= done?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(rounded)
        })
    }

    /// Work of one thread.
    fn share(self, first: usize, n: usize, share: &mut Share) -> Result<bool, E> {
        let bytes = |elements: usize| elements / self.to.block_len() * self.to.block_bytes();
        share.out.resize(bytes(n), 0);
        let mut rounded = false;
        for (i, out) in share.out.chunks_mut(bytes(self.piece)).enumerate() {
            let at = i * self.piece;
            let x = &mut share.floats[..self.piece.min(n - at)];
            rounded |= self.piece(first + at, x, out)?;
        }
        Ok(rounded)
    }

    fn piece(self, first: usize, x: &mut [f32], out: &mut [u8]) -> Result<bool, E> {
        let tensor = || boxed(self.name);
        self.source.values(self.index, first, x);
        let bad = |x: &[f32], most: f32| {
            let first_bad = x.iter().position(|v| v.is_nan() || v.abs() > most);
            first_bad.map(|i| (first + i) as u64)
        };
        if let Some(element) = bad(x, f32::MAX) {
            return Err(E::NotFinite { tensor: tensor(), element });
        }
        let mut rounded = false;
        match self.to {
            Format::I2_S => x.iter_mut().filter(|v| **v != 0.0).for_each(|v| *v = v.signum()),
            Format::TQ1_0 | Format::TQ2_0 => rounded = !x.chunks(256).all(is_ternary),
            _ => {}
        }
        match self.importances {
            None => quantize_row(self.to, x, out),
            Some(columns) => {
                let cols = columns.cols;
                let row_bytes = cols / self.to.block_len() * self.to.block_bytes();
                let rows = x.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes));
                for (i, (x, out)) in rows.enumerate() {
                    quantize_row_weighted(self.to, x, columns.of_row(first + i * cols), out);
                }
            }
        }
        // Scales are f16: elements that are no larger than the largest f16 can't become infinite.
        if bad(x, 65504.0).is_some() {
            dequantize_row(self.to, out, x);
            if let Some(element) = bad(x, f32::MAX) {
                return Err(E::OutOfRange { tensor: tensor(), element, format: self.to });
            }
        }
        Ok(rounded)
    }
}

/// True if all weights are 0 or of one magnitude.
fn is_ternary(x: &[f32]) -> bool {
    let scale = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    x.iter().all(|v| *v == 0.0 || v.abs() == scale)
}
