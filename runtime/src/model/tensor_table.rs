//! Table of a model's tensors: located in a file, or converted in owned memory.

use std::thread;

use teff_graph::gguf::Name;
use teff_graph::layers::ValueHeads;
use teff_graph::{Head, LayerRole, Role, Slot, Spec, TensorKind};
use teff_kernels::{
    Backend, Cpu, Format, Matrix, MatrixError, REPACK_ROWS, dequantize_row, repack_from,
    repacked_bytes,
};

use super::convert::{self, Dense};
use super::{LoadErrorKind, LoadOptions, ternary};
use crate::pool::available_threads;
use crate::storage::{ALIGN, Aligned, Bytes};

/// Tensor in a container, with as many bytes as format and shape need.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) format: Format,
    /// Index of the file in the container.
    pub(super) file: u16,
    /// Offset in the file.
    pub(super) offset: usize,
    /// True if inputs are rows.
    pub(super) transposed: bool,
    /// Prefix that the container adds to its usual name.
    pub(super) prefix: &'static str,
    /// Offset added to every element of a vector.
    pub(super) shift: f32,
    /// Index of the share that is read, and number of shares whose outputs alternate in the file.
    pub(super) share: (u8, u8),
    /// Exponents of blocks of MXFP4, which a folder stores apart from the elements.
    pub(super) exponents: Option<Piece>,
    /// Conversion to ternary weights, if needed.
    pub(super) ternary: Option<Ternary>,
    /// Parts one after another, if they are not contiguous: matrices of the experts, or rows in another
    /// order.
    pub(super) parts: Vec<Piece>,
    /// Rows and columns of a part, if it isn't an expert's matrix.
    pub(super) part: Option<(usize, usize)>,
    /// True if value heads of linear attention are grouped by their key heads.
    pub(super) grouped: bool,
    /// Order of the columns, if it is another one.
    pub(super) columns: Option<ValueHeads>,
    /// True if it has the logarithms of numbers that are negated.
    pub(super) log: bool,
    /// Factors of a matrix' outputs: none, one, or one for each expert.
    pub(super) factors: Vec<f32>,
    /// Index of its name among those that a folder may use
    /// ([`teff_graph::family::Family::hf_names`]).
    pub(super) form: u8,
}

/// Part of a tensor in a container.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// Index of the file in the container.
    pub(super) file: u16,
    /// Offset in the file.
    pub(super) offset: usize,
}

impl Found {
    /// Tensor that is used without conversion.
    pub(super) fn plain(format: Format, file: u16, offset: usize) -> Found {
        let (transposed, prefix, shift, ternary) = (false, "", 0.0, None);
        let (parts, part, form) = (Vec::new(), None, 0);
        let (grouped, columns, log) = (false, None, false);
        let (share, exponents, factors) = ((0, 1), None, Vec::new());
        Found {
            format,
            file,
            offset,
            transposed,
            prefix,
            shift,
            share,
            exponents,
            ternary,
            parts,
            factors,
            part,
            grouped,
            columns,
            log,
            form,
        }
    }

    /// The same tensor with its value heads in the order of memory.
    fn ordered(mut self, slot: &Slot, heads: ValueHeads) -> Found {
        if heads.columns {
            self.columns = Some(heads);
            return self;
        }
        // A vector's elements are its rows.
        let (cols, vector) = if slot.rows == 1 { (1, true) } else { (slot.cols, false) };
        let rows = gcd(heads.first, heads.size);
        let bytes = self.format.tensor_bytes(rows, cols).unwrap_or(0); // inside of the tensor
        let (file, offset) = (self.file, self.offset);
        let piece = |at: usize| Piece { file, offset: offset + at / rows * bytes };
        let values =
            (0..heads.keys * heads.each).map(|j| heads.first + heads.stored(j) * heads.size);
        let starts = (0..heads.first).step_by(rows);
        let values = values.flat_map(|at| (at..at + heads.size).step_by(rows));
        self.parts = starts.chain(values).map(piece).collect();
        self.part = Some(if vector { (1, rows) } else { (rows, cols) });
        self
    }

    /// True if all of it lies in the order of memory.
    fn is_contiguous(&self) -> bool {
        self.parts.is_empty() && self.columns.is_none()
    }

    /// True if a matrix lies in the file as it does in memory.
    fn is_plain(&self) -> bool {
        !self.transposed && self.exponents.is_none() && self.is_contiguous()
    }

    /// Number of shares in a piece.
    fn shares(&self) -> usize {
        usize::from(self.share.1)
    }

    /// Contiguous parts, each with the slot that it would fill by itself.
    fn pieces(&self, slot: &Slot) -> (Slot, impl Iterator<Item = Piece> + '_) {
        let (rows, cols) = self.part.unwrap_or((slot.rows, slot.cols));
        let one = Slot { experts: 1, rows, cols, ..*slot };
        let whole = Piece { file: self.file, offset: self.offset };
        let (slot, whole) = match self.parts.is_empty() {
            true => (*slot, Some(whole)),
            false => (one, None),
        };
        (slot, whole.into_iter().chain(self.parts.iter().copied()))
    }

    /// Bytes in the file.
    fn file_bytes(&self, slot: &Slot) -> Option<usize> {
        match self.ternary {
            Some(Ternary::Packed { .. }) => slot.all_rows().div_ceil(4).checked_mul(slot.cols),
            // Two elements in a byte.
            _ if self.exponents.is_some() => {
                (slot.all_rows() / 2 * slot.cols).checked_mul(self.shares())
            }
            _ => size(slot, self.format)?.checked_mul(self.shares()),
        }
    }

    /// Bytes of the exponents, one for each block of 32.
    fn exponent_bytes(&self, slot: &Slot) -> usize {
        slot.all_rows() * (slot.cols / 32) * self.shares()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if a == 0 { b } else { gcd(b % a, a) }
}

/// Tensor for a slot, with the order of its rows and columns.
fn find(
    spec: &Spec<'_>,
    container: &mut dyn Container,
    slot: &Slot,
) -> Result<Found, LoadErrorKind> {
    let slot = source(spec, slot);
    let found = container.find(&slot)?;
    let heads = match slot.role {
        Role::Layer(l, role) if found.grouped => {
            spec.layers.get(l).delta_net().and_then(|net| net.stored(role))
        }
        _ => None,
    };
    Ok(match heads {
        Some(heads) => found.ordered(&slot, heads),
        None => found,
    })
}

/// Representation of ternary weights that are in no ternary format.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Ternary {
    /// Floats of three values.
    Exact,
    /// Floats to be rounded to three values, with their mean magnitude as scale.
    Rounded,
    /// Codes of two bits, four rows in one.
    Packed {
        /// Scale of all of them.
        scale: f32,
    },
}

/// True for a matrix of a layer, which is ternary in ternary models.
pub(super) fn is_layer_matrix(slot: &Slot) -> bool {
    !slot.is_vector() && matches!(slot.role, Role::Layer(..))
}

/// True in builds that can quantise.
const QUANTIZE: bool = cfg!(feature = "quantize");

/// Refuses a format that nothing can be quantised to.
fn check_quantize(format: Format) -> Result<(), LoadErrorKind> {
    match format.is_quantized() && format.is_built() {
        true if QUANTIZE => Ok(()),
        true => Err(LoadErrorKind::NoQuantizer),
        false => Err(LoadErrorKind::NotQuantized { format }),
    }
}

/// Gives the model a separate head if [`LoadOptions::head`] requests a copy of its embedding.
pub(super) fn with_head(
    spec: Spec<'static>,
    container: &mut dyn Container,
    options: &LoadOptions,
) -> Result<Spec<'static>, LoadErrorKind> {
    let Some(format) = options.head else { return Ok(spec) };
    check_quantize(format)?;
    let embd = spec.slots().find(|s| s.role == Role::TokenEmbd);
    let Some(embd) = embd.filter(|_| spec.head == Head::Tied) else { return Ok(spec) };
    let dense = !container.find(&embd)?.format.is_quantized();
    let whole = embd.cols.is_multiple_of(format.block_len());
    Ok(if dense && whole { Spec { head: Head::Copy, ..spec } } else { spec })
}

/// True if a model's head has the same values as its embedding, bit by bit; it must have both.
pub(super) fn head_is_embedding(
    spec: &Spec<'_>,
    container: &mut dyn Container,
    files: &[Bytes],
) -> Result<bool, LoadErrorKind> {
    type Found<'a> = Option<(Format, &'a [u8], usize)>;
    let mut tensor = |role| -> Result<Found<'_>, LoadErrorKind> {
        let Some(slot) = spec.slots().find(|s| s.role == role) else { return Ok(None) };
        let found = container.find(&slot)?;
        let bytes = found
            .file_bytes(&slot)
            .and_then(|n| files.get(usize::from(found.file))?.get(found.offset..)?.get(..n));
        Ok(bytes.map(|bytes| (found.format, bytes, slot.cols)))
    };
    let (Some((a, x, cols)), Some((b, y, _))) = (tensor(Role::TokenEmbd)?, tensor(Role::Output)?)
    else {
        return Ok(false);
    };
    if a == b {
        return Ok(x == y);
    }
    let (Some(n), Some(m)) = (a.row_bytes(cols), b.row_bytes(cols)) else { return Ok(false) };
    let (mut p, mut q) = (vec![0f32; cols], vec![0f32; cols]);
    Ok(x.chunks_exact(n.max(1)).zip(y.chunks_exact(m.max(1))).all(|(x, y)| {
        dequantize_row(a, x, &mut p);
        dequantize_row(b, y, &mut q);
        p.iter().zip(&q).all(|(p, q)| p.to_bits() == q.to_bits())
    }))
}

/// Slot whose tensor is read for `slot`: the embedding for its copy.
fn source(spec: &Spec<'_>, slot: &Slot) -> Slot {
    match (slot.role, spec.head) {
        (Role::Output, Head::Copy) => Slot { role: Role::TokenEmbd, ..*slot },
        _ => *slot,
    }
}

/// Tensors of a container, by their roles.
pub(super) trait Container {
    /// Tensor for a slot, with its shape checked.
    fn find(&mut self, slot: &Slot) -> Result<Found, LoadErrorKind>;
    /// Passes over a tensor that the model doesn't have, if the container does.
    fn discard(&mut self, role: Role);
    /// Name of a tensor in the container, for errors.
    fn name(&self, role: Role) -> Box<Name>;
    /// Number of tensors.
    fn len(&self) -> usize;
    /// Returns an error if there are tensors that `find` never returned.
    fn check_all_used(&self) -> Result<(), LoadErrorKind>;
}

/// File number of owned memory.
const OWNED: u16 = u16::MAX;

/// Location and format of a tensor of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// For a vector: F32 in this machine's byte order.
    pub(super) format: Format,
    pub(super) vector: bool,
    pub(super) prefix: &'static str,
    pub(super) repacked: bool,
    pub(super) form: u8,
    /// First of its factors in the table's, and their number.
    factors: (u32, u32),
    file: u16,
    rows: u32,
    cols: u32,
    offset: usize,
}

impl Entry {
    pub(super) fn rows(&self) -> usize {
        self.rows as usize
    }

    pub(super) fn cols(&self) -> usize {
        self.cols as usize
    }

    /// Factors of its outputs among those of the table.
    pub(super) fn factors<'a>(&self, all: &'a [f32]) -> &'a [f32] {
        &all[self.factors.0 as usize..][..self.factors.1 as usize]
    }

    pub(super) fn in_place(&self) -> bool {
        self.file != OWNED
    }

    /// True if it is in a file that is mapped.
    pub(super) fn is_mapped(&self, files: &[Bytes]) -> bool {
        self.in_place() && files.get(usize::from(self.file)).is_some_and(|f| f.owned() == 0)
    }

    /// True if the matrix is kept as it was found, except for repacking.
    fn is_as(&self, found: &Found) -> bool {
        self.format == found.format && found.is_plain()
    }

    /// Size of the tensor in memory.
    pub(super) fn size(&self) -> usize {
        let size = match self.repacked {
            true => repacked_bytes(self.format, self.rows(), self.cols()),
            false => self.format.tensor_bytes(self.rows(), self.cols()),
        };
        size.unwrap_or(0) // checked when the table was made
    }

    /// Bytes of the tensor.
    pub(super) fn bytes<'a>(&self, files: &'a [Bytes], owned: &'a Aligned) -> &'a [u8] {
        let all: &[u8] = match self.file {
            OWNED => owned,
            file => &files[usize::from(file)],
        };
        &all[self.offset..][..self.size()]
    }
}

/// Format in which a matrix is kept that the file has in `found`, if `quantize` is requested.
///
/// Embeddings of positions and of the inputs of layers keep their format, as do matrices whose rows are not whole blocks of the
/// requested one.
pub(super) fn kept_format(
    slot: &Slot,
    found: Format,
    options: &LoadOptions,
    name: impl FnOnce() -> Box<Name>,
) -> Result<Format, LoadErrorKind> {
    let head = options.head.filter(|_| slot.role == Role::Output && !found.is_quantized());
    let asked = head.or(options.quantize).filter(|_| QUANTIZE); // so that no code is left without
    let Some(asked) = asked else { return Ok(found) };
    // Matrices that decide choices are kept: an error there is not just a rounding error.
    let table = matches!(slot.role, Role::PositionEmbd | Role::PerLayerEmbd);
    let stays = table || slot.kind == TensorKind::Router;
    if stays || found == asked {
        return Ok(found);
    }
    if found.is_quantized() {
        return Err(LoadErrorKind::AlreadyQuantized { tensor: name(), found, asked });
    }
    Ok(if slot.cols.is_multiple_of(asked.block_len()) { asked } else { found })
}

/// Bytes of a matrix kept in `format` once it is repacked for a backend; `None` if that doesn't gain
/// by it. Single rows are read from embedding tables, and matrices of few rows would be mostly padding,
/// so these are not repacked.
pub(super) fn repacked_size(
    spec: &Spec<'_>,
    slot: &Slot,
    format: Format,
    backend: Cpu,
) -> Option<usize> {
    let table = match slot.role {
        Role::PositionEmbd | Role::PerLayerEmbd => true,
        Role::TokenEmbd => spec.head != Head::Tied,
        _ => slot.is_vector(),
    };
    // Products of an expert begin at its first row, which must be the first of a group.
    let whole = slot.experts == 1 || slot.rows.is_multiple_of(REPACK_ROWS);
    let gains = backend.repacks(format) && !table && whole && slot.rows >= REPACK_ROWS;
    repacked_bytes(format, slot.all_rows(), slot.cols).filter(|_| gains)
}

/// Table of a model's tensors, the memory of those that were converted, and all factors of outputs.
pub(super) struct TensorTable {
    pub(super) table: Vec<Entry>,
    pub(super) owned: Aligned,
    pub(super) factors: Vec<f32>,
}

/// Finds every tensor of the model, reserves the memory of all conversions from the budget, and
/// converts them.
pub(super) fn tensor_table(
    spec: &Spec<'_>,
    container: &mut dyn Container,
    files: &[Bytes],
    options: &LoadOptions,
    budget: &mut Budget,
) -> Result<TensorTable, LoadErrorKind> {
    if spec.tensors() > usize::from(u16::MAX) {
        return Err(LoadErrorKind::TooManyTensors { tensors: spec.tensors() });
    }
    options.quantize.map_or(Ok(()), check_quantize)?;
    // If there are fewer tensors than needed, one is missing, which is detected below.
    let mut table = Vec::with_capacity(spec.tensors().min(container.len()));
    let (mut total, mut factors) = (0usize, Vec::new());
    // Room for a matrix that is converted before it is repacked.
    let mut room = 0usize;
    for slot in spec.slots() {
        let found = find(spec, container, &slot)?;
        let entry = entry(spec, &slot, &found, container, files, options)?;
        let entry = with_factors(entry, &found, &mut factors, || container.name(slot.role))?;
        if entry.repacked && !entry.is_as(&found) {
            room = room.max(size(&slot, entry.format).unwrap_or(0));
        }
        if !entry.in_place() {
            let too_much = LoadErrorKind::OutOfMemory { needed: u64::MAX };
            let (offset, end) = after(total, entry.size()).ok_or(too_much)?;
            table.push(Entry { offset, ..entry });
            total = end;
        } else {
            table.push(entry);
        }
    }
    let needed = total as u64 + room as u64;
    if let Some(limit) = options.repack_limit.filter(|_| options.repack.is_some()) {
        let repacked = table.iter().filter(|e| e.repacked).map(|e| e.size() as u64).sum::<u64>();
        if repacked > 0 && (repacked > limit || !budget.has(needed)) {
            let options = LoadOptions { repack: None, ..*options };
            return tensor_table(spec, container, files, &options, budget);
        }
    }
    // Checkpoints have keys and values also of layers that share those of others, which no one reads.
    for l in 0..spec.layers.len() {
        if spec.layers.get(l).attention().is_some_and(|a| !a.has_kv()) {
            for role in [LayerRole::AttnK, LayerRole::AttnV, LayerRole::AttnKNorm] {
                container.discard(Role::Layer(l, role));
            }
        }
    }
    // Files of models that don't scale have the factors all the same.
    for l in 0..spec.layers.len() {
        if spec.layers.get(l).streams.is_some_and(|s| !s.scaled) {
            container.discard(Role::Layer(l, LayerRole::StreamScale));
        }
    }
    container.check_all_used()?;
    budget.take(needed)?;
    let no_memory = |_| LoadErrorKind::OutOfMemory { needed };
    let mut owned = Aligned::zeroed(total).map_err(no_memory)?;
    let mut room = Aligned::zeroed(room).map_err(no_memory)?;
    for (slot, entry) in spec.slots().zip(&table).filter(|(_, e)| !e.in_place()) {
        let found = find(spec, container, &slot)?;
        let out = &mut owned[entry.offset..][..entry.size()];
        let (piece_slot, pieces) = found.pieces(&slot);
        let n = found.file_bytes(&piece_slot).unwrap_or(0);
        let piece = |p: Piece| &files[usize::from(p.file)][p.offset..][..n];
        let exponents = found
            .exponents
            .map(|p| &files[usize::from(p.file)][p.offset..][..found.exponent_bytes(&piece_slot)]);
        let name = || container.name(slot.role);
        let all = |out: &mut [u8]| -> Result<(), LoadErrorKind> {
            let each = size(&piece_slot, entry.format).unwrap_or(0);
            for (p, out) in pieces.zip(out.chunks_mut(each.max(1))) {
                convert(&piece_slot, &found, entry.format, (piece(p), exponents), out, name)?;
            }
            Ok(())
        };
        if !entry.repacked {
            all(out)?;
            continue;
        }
        let plain = if entry.is_as(&found) {
            piece(Piece { file: found.file, offset: found.offset })
        } else {
            let plain = &mut room[..size(&slot, entry.format).unwrap_or(0)];
            all(plain)?;
            plain
        };
        match Matrix::new(entry.format, slot.all_rows(), slot.cols, plain) {
            Ok(matrix) => repack_by_threads(&matrix, out),
            Err(_) => unreachable!("formats and sizes were checked when the table was made"),
        }
        if entry.is_as(&found) {
            // No one reads these pages again.
            files[usize::from(found.file)].discard(found.offset..found.offset + n);
        }
    }
    Ok(TensorTable { table, owned, factors })
}

/// Bytes of a matrix that are worth a thread of their own.
const PER_THREAD: usize = 1 << 20;

/// [`repack_from`] on as many threads as there are CPUs.
fn repack_by_threads(w: &Matrix<'_>, out: &mut [u8]) {
    let group = REPACK_ROWS * w.row_bytes();
    if group == 0 {
        return;
    }
    let threads = available_threads().clamp(1, (out.len() / PER_THREAD).max(1));
    let groups = (out.len() / group).div_ceil(threads);
    let mut left = Vec::new();
    thread::scope(|scope| {
        // The first part last, on this thread.
        for (i, part) in out.chunks_mut(groups * group).enumerate().rev() {
            let first = i * groups * REPACK_ROWS;
            if i == 0 {
                repack_from(w, first, part);
            } else if thread::Builder::new()
                .spawn_scoped(scope, move || repack_from(w, first, part))
                .is_err()
            {
                left.push(i);
            }
        }
    });
    // Where the system has no more threads.
    for i in left {
        let first = i * groups * REPACK_ROWS;
        if let Some(part) = out.chunks_mut(groups * group).nth(i) {
            repack_from(w, first, part);
        }
    }
}

/// Converts a tensor's bytes in the file to `format`.
fn convert(
    slot: &Slot,
    found: &Found,
    format: Format,
    (bytes, exponents): (&[u8], Option<&[u8]>),
    out: &mut [u8],
    name: impl Fn() -> Box<Name>,
) -> Result<(), LoadErrorKind> {
    let (rows, cols) = (slot.all_rows(), slot.cols);
    let share = (usize::from(found.share.0), found.shares());
    if slot.is_vector() {
        match share {
            (0, 1) => convert::widen(found.format, bytes, found.shift, out),
            share => convert::widen_share(found.format, bytes, share, out),
        }
        if found.log {
            convert::negate_exp(out);
        }
        return Ok(());
    }
    if let Some(exponents) = exponents {
        convert::mxfp4(bytes, exponents, (cols, share), out);
        return Ok(());
    }
    if let Some(how) = found.ternary {
        ternary::convert(how, found.format, (rows, cols), bytes, out)
            .map_err(|_| LoadErrorKind::NotTernary { tensor: name() })?;
        return check_scale(slot, format, out, name);
    }
    let Found { transposed, columns, .. } = *found;
    let dense = Dense { format: found.format, rows, cols, transposed, columns, share, bytes };
    if format == found.format {
        match (transposed, columns) {
            (true, _) => convert::transpose(&dense, out),
            (false, Some(_)) => convert::order_columns(&dense, out),
            (false, None) => out.copy_from_slice(bytes),
        }
        return Ok(());
    }
    if QUANTIZE {
        convert::quantize(&dense, format, out);
    }
    check_scale(slot, format, out, name)
}

/// Start and end of a tensor of `size` bytes after `end` bytes of others; `None` if the address
/// space is too small. It is aligned to [`ALIGN`], or to its own size rounded up if that is less.
fn after(end: usize, size: usize) -> Option<(usize, usize)> {
    let align = size.clamp(align_of::<f32>(), ALIGN).next_power_of_two();
    let start = end.checked_next_multiple_of(align)?;
    Some((start, start.checked_add(size).filter(|&n| n <= isize::MAX as usize)?))
}

/// Bytes of a slot's tensor in a format; the bounds on shapes keep this from overflowing.
fn size(slot: &Slot, format: Format) -> Option<usize> {
    format.tensor_bytes(slot.all_rows(), slot.cols)
}

/// Returns an error if the scale in a matrix' trailer is infinite or NaN.
fn check_scale(
    slot: &Slot,
    format: Format,
    bytes: &[u8],
    name: impl FnOnce() -> Box<Name>,
) -> Result<(), LoadErrorKind> {
    match Matrix::from_tensor(format, slot.all_rows(), slot.cols, bytes) {
        Err(MatrixError::Scale { bits }) => {
            Err(LoadErrorKind::Scale { tensor: name(), found: f32::from_bits(bits) })
        }
        _ => Ok(()),
    }
}

/// The entry with the factors of the tensor that was found, appended to those of the others.
fn with_factors(
    entry: Entry,
    found: &Found,
    factors: &mut Vec<f32>,
    name: impl FnOnce() -> Box<Name>,
) -> Result<Entry, LoadErrorKind> {
    if let Some(&factor) = found.factors.iter().find(|x| !x.is_finite()) {
        return Err(LoadErrorKind::Scale { tensor: name(), found: factor });
    }
    let first = factors.len() as u32; // a few for each of 65535 tensors at most
    factors.extend_from_slice(&found.factors);
    Ok(Entry { factors: (first, found.factors.len() as u32), ..entry })
}

/// Decides the location of a tensor; the offset of an owned one is left to the caller.
fn entry(
    spec: &Spec<'_>,
    slot: &Slot,
    found: &Found,
    container: &dyn Container,
    files: &[Bytes],
    options: &LoadOptions,
) -> Result<Entry, LoadErrorKind> {
    let name = || container.name(slot.role);
    let (piece_slot, pieces) = found.pieces(slot);
    let piece = |p: Piece| {
        let n = found.file_bytes(&piece_slot)?;
        files.get(usize::from(p.file))?.get(p.offset..)?.get(..n)
    };
    // Shape and bounds were checked by the container's reader.
    let mut first = None;
    for p in pieces {
        let Some(bytes) = piece(p) else {
            return Err(LoadErrorKind::MissingTensor { tensor: name() });
        };
        first = first.or(Some(bytes));
    }
    let Some(bytes) = first else { return Err(LoadErrorKind::MissingTensor { tensor: name() }) };
    let (format, in_place) = if slot.is_vector() {
        if found.format.is_quantized() {
            let (tensor, found) = (name(), found.format);
            return Err(LoadErrorKind::QuantizedVector { tensor, found });
        }
        let aligned = bytes.as_ptr().addr().is_multiple_of(align_of::<f32>());
        let native = cfg!(target_endian = "little") && found.format == Format::F32;
        let same = found.shift == 0.0 && !found.log && found.share == (0, 1);
        (Format::F32, native && aligned && same && found.is_contiguous())
    } else if found.ternary.is_some() {
        (Format::I2_S, false)
    } else {
        if found.is_plain() {
            check_scale(&piece_slot, found.format, bytes, name)?;
        }
        let format = kept_format(slot, found.format, options, name)?;
        (format, format == found.format && found.is_plain())
    };
    let too_many = || LoadErrorKind::OutOfMemory { needed: u64::MAX };
    let repacked = options.repack.and_then(|cpu| repacked_size(spec, slot, format, cpu)).is_some();
    let entry = Entry {
        format,
        vector: slot.is_vector(),
        prefix: found.prefix,
        repacked,
        form: found.form,
        factors: (0, 0),
        file: if in_place && !repacked { found.file } else { OWNED },
        rows: u32::try_from(slot.all_rows()).map_err(|_| too_many())?,
        cols: slot.cols as u32, // `Spec::validate` bounds it far below 2^32
        offset: found.offset,
    };
    Ok(entry)
}

/// Memory budget of loading.
pub(super) struct Budget {
    allowed: Option<u64>,
    taken: u64,
}

impl Budget {
    pub(super) fn new(allowed: Option<u64>) -> Self {
        Budget { allowed, taken: 0 }
    }

    /// True if there are `bytes` more.
    fn has(&self, bytes: u64) -> bool {
        self.allowed.is_none_or(|allowed| self.taken.saturating_add(bytes) <= allowed)
    }

    /// Reserves `bytes` more, before they are allocated.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), LoadErrorKind> {
        let needed = self.taken.saturating_add(bytes);
        match self.allowed {
            Some(allowed) if needed > allowed => Err(LoadErrorKind::Budget { needed, allowed }),
            _ => {
                self.taken = needed;
                Ok(())
            }
        }
    }
}
