//! Reader for SafeTensors files in memory, and for the index of a sharded model.
//!
//! The layout, from the format's published description: a little-endian u64, the header's length;
//! the header, a JSON object of that many bytes that starts with `{`; and a buffer with all data.
//! The header has a member for each tensor, `"name": {"dtype": "F32", "shape": [2, 3],
//! "data_offsets": [0, 24]}`, with offsets counted from the start of the buffer, and may have
//! `__metadata__`, which this reader ignores. The tensors tile the buffer: no two overlap, and
//! every byte of it belongs to one.
//!
//! Beyond that this reader is strict where no model needs leniency: a header of at most
//! [`MAX_HEADER`] bytes, at most [`MAX_DIMS`] dimensions, each below 2^32, and names without JSON
//! escapes.

mod dtype;
mod error;
mod shards;

use teff_graph::gguf::Name;

use crate::json::{Event, Reader, Text};

pub use dtype::Dtype;
pub use error::{SafeTensorsError, ShardError};
pub use shards::{MAX_INDEX, MAX_SHARDS, ShardIndex};

/// Maximum length of a header in bytes, as in the reference library.
pub const MAX_HEADER: usize = 100_000_000;

/// Maximum number of dimensions of a tensor.
pub const MAX_DIMS: usize = 5;

/// Number of bytes before the header.
const PREFIX: usize = 8;

/// A tensor of a SafeTensors file, borrowed from the file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SafeTensor<'a> {
    /// Name of the tensor.
    pub name: &'a str,
    /// Type of the elements.
    pub dtype: Dtype,
    dims: [u32; MAX_DIMS],
    n_dims: u8,
    /// Offset of the data from the start of the file.
    pub offset: usize,
    /// Data of the tensor, with the elements of the last dimension contiguous.
    pub data: &'a [u8],
}

impl SafeTensor<'_> {
    /// The dimensions, slowest first; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[u32] {
        &self.dims[..usize::from(self.n_dims)]
    }
}

/// Index entry of a tensor, no larger than its description in the file.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    begin: usize,
    dims: [u32; MAX_DIMS],
    n_dims: u8,
    dtype: Dtype,
}

impl Entry<'_> {
    /// Length of the data in bytes; `None` if it is not a whole number or too large.
    fn bytes(&self) -> Option<usize> {
        // A product of four factors below 2^32 doesn't overflow a u128.
        let elements: u128 = self.dims.iter().map(|&d| u128::from(d)).product();
        let bits = elements.checked_mul(u128::from(self.dtype.bits()))?;
        if bits % 8 == 0 { usize::try_from(bits / 8).ok() } else { None }
    }

    fn end(&self) -> usize {
        self.begin + self.bytes().unwrap_or(0) // checked when the entry was read
    }
}

/// A parsed and validated SafeTensors file.
///
/// ```
/// use teff_runtime::safetensors::{Dtype, SafeTensors};
///
/// let header = br#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// let mut file = (header.len() as u64).to_le_bytes().to_vec();
/// file.extend_from_slice(header);
/// file.extend_from_slice(&1f32.to_le_bytes());
/// file.extend_from_slice(&2f32.to_le_bytes());
///
/// let tensors = SafeTensors::parse(&file)?;
/// let t = tensors.get("t").expect("declared above");
/// assert_eq!((t.dtype, t.shape()), (Dtype::F32, &[2][..]));
/// assert_eq!(t.data[..4], 1f32.to_le_bytes());
/// # Ok::<(), teff_runtime::safetensors::SafeTensorsError>(())
/// ```
pub struct SafeTensors<'a> {
    /// The bytes after the header.
    buffer: &'a [u8],
    /// Offset of the buffer in the file.
    start: usize,
    /// Sorted by name.
    entries: Vec<Entry<'a>>,
}

impl std::fmt::Debug for SafeTensors<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafeTensors")
            .field("tensors", &self.entries.len())
            .field("bytes", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

impl<'a> SafeTensors<'a> {
    /// Parses and validates a whole file, except for the tensors' values.
    ///
    /// # Errors
    /// [`SafeTensorsError`] names the cause and the tensor.
    pub fn parse(file: &'a [u8]) -> Result<SafeTensors<'a>, SafeTensorsError> {
        let Some((len, rest)) = file.split_first_chunk::<PREFIX>() else {
            return Err(SafeTensorsError::NoHeader { file: file.len() });
        };
        let len = u64::from_le_bytes(*len);
        if len > MAX_HEADER as u64 {
            return Err(SafeTensorsError::HeaderTooLarge { len });
        }
        let Some((header, buffer)) = rest.split_at_checked(len as usize) else {
            let left = rest.len();
            return Err(SafeTensorsError::HeaderBeyondFile { len, left });
        };
        if header.first() != Some(&b'{') {
            return Err(SafeTensorsError::NotAnObject);
        }
        let mut entries = Vec::new();
        let count = count_members(header)?;
        entries.try_reserve_exact(count).map_err(|_| SafeTensorsError::OutOfMemory { count })?;
        read_entries(header, buffer.len(), &mut entries)?;
        entries.sort_unstable_by_key(|e| e.name);
        if let Some(twice) = entries.windows(2).find(|w| w[0].name == w[1].name) {
            return Err(SafeTensorsError::Duplicate { tensor: name(twice[0].name) });
        }
        check_tiles(&mut entries, buffer.len())?;
        entries.sort_unstable_by_key(|e| e.name);
        Ok(SafeTensors { buffer, start: PREFIX + header.len(), entries })
    }

    /// The number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if the file has no tensors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensor at index `i` in name order, or `None` beyond the last.
    #[must_use]
    pub fn nth(&self, i: usize) -> Option<SafeTensor<'a>> {
        self.entries.get(i).map(|e| self.view(e))
    }

    /// All tensors, in name order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = SafeTensor<'a>> + '_ {
        self.entries.iter().map(|e| self.view(e))
    }

    fn view(&self, e: &Entry<'a>) -> SafeTensor<'a> {
        let Entry { name, dtype, dims, n_dims, begin } = *e;
        let data = &self.buffer[begin..e.end()]; // checked when the entry was read
        SafeTensor { name, dtype, dims, n_dims, offset: self.start + begin, data }
    }

    /// The tensor named `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<SafeTensor<'a>> {
        self.nth(self.entries.binary_search_by_key(&name, |e| e.name).ok()?)
    }
}

/// A name for an error, boxed to keep errors small.
fn name(name: &str) -> Box<Name> {
    Box::new(Name::new(name.as_bytes()))
}

/// Upper bound on the number of tensors in the header, so that the index is allocated once.
fn count_members(header: &[u8]) -> Result<usize, SafeTensorsError> {
    let mut r = Reader::new(header);
    let mut count = 0;
    while let Some(event) = r.next()? {
        count += usize::from(matches!(event, Event::Key(_)) && r.depth() == 1);
    }
    Ok(count)
}

fn read_entries<'a>(
    header: &'a [u8],
    buffer: usize,
    out: &mut Vec<Entry<'a>>,
) -> Result<(), SafeTensorsError> {
    let mut r = Reader::new(header);
    let mut metadata = false;
    r.next()?;
    while let Some(event) = r.next()? {
        let Event::Key(key) = event else { continue };
        if key.is("__metadata__") {
            if std::mem::replace(&mut metadata, true) {
                return Err(SafeTensorsError::Duplicate { tensor: name("__metadata__") });
            }
            r.skip_value()?;
            continue;
        }
        let Some(tensor) = key.as_str() else {
            return Err(SafeTensorsError::EscapedName { tensor: name(&key.to_cow()) });
        };
        out.push(read_entry(&mut r, tensor, buffer)?);
    }
    Ok(())
}

/// Reads the tensor description that comes next.
fn read_entry<'a>(
    r: &mut Reader<'a>,
    tensor: &'a str,
    buffer: usize,
) -> Result<Entry<'a>, SafeTensorsError> {
    let wrong = |field, want| SafeTensorsError::Field { tensor: name(tensor), field, want };
    if r.next()? != Some(Event::ObjectStart) {
        while r.next()?.is_some() {}
        return Err(wrong("", "an object with dtype, shape and data_offsets"));
    }
    let (mut dtype, mut shape, mut offsets) = (None, None, None);
    let twice = |field| wrong(field, "there once");
    while let Some(event) = r.next()? {
        let key = match event {
            Event::Key(key) => key,
            _ => break, // the object's end: values are read below
        };
        if key.is("dtype") {
            let text = match r.next()? {
                Some(Event::String(text)) => text,
                _ => return Err(wrong("dtype", "text")),
            };
            let unknown = || unknown_dtype(tensor, text);
            let known = text.as_str().and_then(Dtype::from_name).ok_or_else(unknown)?;
            if dtype.replace(known).is_some() {
                return Err(twice("dtype"));
            }
        } else if key.is("shape") {
            let mut dims = [1; MAX_DIMS];
            let n = read_numbers(r, &mut dims, |n| n.parse::<u32>().ok())?;
            let want = "an array of at most 5 integers below 2^32";
            let n = n.ok_or_else(|| wrong("shape", want))?;
            if shape.replace((dims, n)).is_some() {
                return Err(twice("shape"));
            }
        } else if key.is("data_offsets") {
            let mut range = [0; 2];
            let n = read_numbers(r, &mut range, |n| n.parse::<u64>().ok())?;
            if n != Some(2) {
                return Err(wrong("data_offsets", "an array of 2 integers, none negative"));
            }
            if offsets.replace(range).is_some() {
                return Err(twice("data_offsets"));
            }
        } else {
            r.skip_value()?;
        }
    }
    let lacks = |field| SafeTensorsError::MissingField { tensor: name(tensor), field };
    let dtype = dtype.ok_or_else(|| lacks("dtype"))?;
    let (dims, n_dims) = shape.ok_or_else(|| lacks("shape"))?;
    let [begin, end] = offsets.ok_or_else(|| lacks("data_offsets"))?;
    if begin > end || end > buffer as u64 {
        return Err(SafeTensorsError::Offsets { tensor: name(tensor), begin, end, buffer });
    }
    // Fits: the buffer is in memory.
    let entry = Entry { name: tensor, begin: begin as usize, dims, n_dims: n_dims as u8, dtype };
    match entry.bytes() {
        Some(n) if n as u64 == end - begin => Ok(entry),
        needed => Err(SafeTensorsError::Size {
            tensor: name(tensor),
            needed,
            got: (end - begin) as usize,
        }),
    }
}

fn unknown_dtype(tensor: &str, text: Text<'_>) -> SafeTensorsError {
    SafeTensorsError::Dtype { tensor: name(tensor), found: name(&text.to_cow()) }
}

/// Reads the array of at most `out.len()` numbers that comes next and returns its length; `None` if
/// it is anything else.
fn read_numbers<T>(
    r: &mut Reader<'_>,
    out: &mut [T],
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<usize>, SafeTensorsError> {
    if r.next()? != Some(Event::ArrayStart) {
        return Ok(None);
    }
    let mut n = 0;
    loop {
        match r.next()? {
            Some(Event::ArrayEnd) => return Ok(Some(n)),
            Some(Event::Number(text)) => match (out.get_mut(n), parse(text)) {
                (Some(out), Some(v)) => *out = v,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }
        n += 1;
    }
}

/// Checks that the tensors cover the buffer without overlaps or gaps. Sorts them by position.
fn check_tiles(entries: &mut [Entry<'_>], buffer: usize) -> Result<(), SafeTensorsError> {
    entries.sort_unstable_by_key(|e| (e.begin, e.end()));
    let mut at = 0;
    for e in &*entries {
        if e.begin < at {
            return Err(SafeTensorsError::Overlap { tensor: name(e.name), begin: e.begin, at });
        }
        if e.begin > at {
            return Err(SafeTensorsError::Hole { at, bytes: e.begin - at });
        }
        at = e.end();
    }
    if at < buffer {
        return Err(SafeTensorsError::Hole { at, bytes: buffer - at });
    }
    Ok(())
}
