//! Writer for GGUF files, version 3: the header first, then the tensors' data, streamed.
//!
//! [`GgufHeader`] collects keys and declares tensors. [`GgufHeader::write`] writes them and returns
//! a [`GgufData`], which takes the data tensor by tensor in pieces of any size, so that files of
//! any size are written with little memory. The result can be read by [`teff_graph::gguf::Gguf`]
//! and by ggml.
//!
//! ```
//! use teff_graph::gguf::{Gguf, GgufValue};
//! use teff_kernels::Format;
//! use teff_runtime::gguf_write::GgufHeader;
//!
//! let mut header = GgufHeader::new();
//! header.put("general.architecture", GgufValue::Str("gpt2"))?;
//! header.tensor("output_norm.bias", Format::F32, &[2])?;
//! let mut data = header.write(Vec::new())?;
//! data.write("output_norm.bias", &1f32.to_le_bytes())?;
//! data.write("output_norm.bias", &2f32.to_le_bytes())?;
//! let file = data.finish()?;
//! assert_eq!(Gguf::parse(&file)?.n_tensors(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use teff_graph::gguf::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgufValue, MAX_KEYS, MAX_NAME, MAX_TENSORS, ValueKind,
};
use teff_kernels::Format;
use teff_tokenizer::GgufKeys;

/// Maximum length of a tensor name in bytes: ggml stores names in 64 bytes, the last one zero.
pub const MAX_TENSOR_NAME: usize = 63;

/// Error of writing a GGUF file.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing failed; the file is incomplete.
    Io(io::Error),
    /// A key that is empty, longer than [`MAX_NAME`] bytes, or a duplicate.
    Key {
        /// The key.
        key: String,
        /// The problem with it.
        why: &'static str,
    },
    /// More than [`MAX_KEYS`] keys.
    TooManyKeys,
    /// `general.alignment` is not a u32, or not a power of two.
    Alignment,
    /// An invalid tensor declaration.
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// The problem with it.
        why: &'static str,
    },
    /// More than [`MAX_TENSORS`] tensors.
    TooManyTensors,
    /// Data for a tensor other than the current one.
    OutOfOrder {
        /// The tensor whose data was given.
        got: String,
        /// The current tensor, if there is one left.
        want: Option<String>,
        /// Number of bytes the current tensor still lacks.
        left: u64,
    },
    /// More data for a tensor than was declared.
    TooMuch {
        /// The tensor.
        tensor: String,
        /// Number of bytes given.
        got: u64,
        /// Number of bytes that were still missing.
        left: u64,
    },
    /// The file was finished before all tensors had their data.
    Unfinished {
        /// The first incomplete tensor.
        tensor: String,
        /// Number of bytes it lacks.
        left: u64,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use WriteError as E;
        match self {
            E::Io(error) => write!(f, "the file can't be written: {error}"),
            E::Key { key, why } => write!(f, "key `{key}` {why}"),
            E::TooManyKeys => write!(f, "more than {MAX_KEYS} keys"),
            E::Alignment => write!(f, "key `{ALIGNMENT_KEY}` must be a u32 and a power of two"),
            E::Tensor { tensor, why } => write!(f, "tensor `{tensor}` {why}"),
            E::TooManyTensors => write!(f, "more than {MAX_TENSORS} tensors"),
            E::OutOfOrder { got, want: Some(want), left } => {
                write!(f, "bytes for tensor `{got}` while `{want}` still lacks {left}")
            }
            E::OutOfOrder { got, want: None, .. } => {
                write!(f, "bytes for tensor `{got}` after the last tensor")
            }
            E::TooMuch { tensor, got, left } => {
                write!(f, "{got} bytes for tensor `{tensor}`, which lacks {left}")
            }
            E::Unfinished { tensor, left } => write!(f, "tensor `{tensor}` lacks {left} bytes"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WriteError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        WriteError::Io(error)
    }
}

/// A declared tensor.
#[derive(Clone, Debug)]
struct Declared {
    name: String,
    format: Format,
    dims: Vec<u64>,
    bytes: u64,
}

/// Keys and tensor declarations of a file to be written. See the [module](self) for an example.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    /// The keys, encoded as in the file.
    keys: Vec<u8>,
    key_names: HashSet<String>,
    tensors: Vec<Declared>,
    tensor_names: HashSet<String>,
    alignment: u32,
}

impl Default for GgufHeader {
    fn default() -> Self {
        GgufHeader::new()
    }
}

impl GgufHeader {
    /// An empty header, with tensor data aligned to 32 bytes.
    #[must_use]
    pub fn new() -> Self {
        GgufHeader {
            keys: Vec::new(),
            key_names: HashSet::new(),
            tensors: Vec::new(),
            tensor_names: HashSet::new(),
            alignment: DEFAULT_ALIGNMENT,
        }
    }

    /// Adds a key. The value may be borrowed from another file; `general.alignment` sets the
    /// alignment of tensor data.
    ///
    /// # Errors
    /// [`WriteError::Key`], [`WriteError::TooManyKeys`] and [`WriteError::Alignment`].
    pub fn put(&mut self, key: &str, value: GgufValue<'_>) -> Result<(), WriteError> {
        let mut bytes = Vec::new();
        match value {
            GgufValue::U8(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::I8(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::U16(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::I16(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::U32(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::I32(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::F32(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::Bool(v) => bytes.push(v.into()),
            GgufValue::Str(v) => string(&mut bytes, v.as_bytes()),
            GgufValue::U64(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::I64(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::F64(v) => bytes.extend(v.to_le_bytes()),
            GgufValue::Array(v) => {
                bytes.extend(v.elem().id().to_le_bytes());
                bytes.extend((v.len() as u64).to_le_bytes());
                bytes.extend(v.as_bytes());
            }
            _ => return Err(bad_key(key, "has a value of a kind that can't be written")),
        }
        let alignment = match value {
            GgufValue::U32(v) if key == ALIGNMENT_KEY && v.is_power_of_two() => v,
            _ if key == ALIGNMENT_KEY => return Err(WriteError::Alignment),
            _ => self.alignment,
        };
        self.add(key, value.kind(), &bytes)?;
        self.alignment = alignment;
        Ok(())
    }

    /// Adds a key whose value is an array of strings, which need not be UTF-8.
    ///
    /// # Errors
    /// [`WriteError::Key`] and [`WriteError::TooManyKeys`].
    pub fn put_strings<S: AsRef<[u8]>>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Result<(), WriteError> {
        let (mut count, mut bytes) = (0, Vec::new());
        for value in values {
            string(&mut bytes, value.as_ref());
            count += 1;
        }
        self.put_array(key, ValueKind::Str, count, &bytes)
    }

    /// Adds a key whose value is an array of i32.
    ///
    /// # Errors
    /// [`WriteError::Key`] and [`WriteError::TooManyKeys`].
    pub fn put_i32s(&mut self, key: &str, values: &[i32]) -> Result<(), WriteError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.put_array(key, ValueKind::I32, values.len(), &bytes)
    }

    /// Adds a key whose value is an array of booleans.
    ///
    /// # Errors
    /// [`WriteError::Key`] and [`WriteError::TooManyKeys`].
    pub fn put_bools(&mut self, key: &str, values: &[bool]) -> Result<(), WriteError> {
        let bytes: Vec<u8> = values.iter().map(|&v| v.into()).collect();
        self.put_array(key, ValueKind::Bool, values.len(), &bytes)
    }

    /// Adds a key whose value is an array of f32.
    ///
    /// # Errors
    /// [`WriteError::Key`] and [`WriteError::TooManyKeys`].
    pub fn put_f32s(&mut self, key: &str, values: &[f32]) -> Result<(), WriteError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.put_array(key, ValueKind::F32, values.len(), &bytes)
    }

    fn put_array(
        &mut self,
        key: &str,
        elem: ValueKind,
        count: usize,
        elements: &[u8],
    ) -> Result<(), WriteError> {
        if key == ALIGNMENT_KEY {
            return Err(WriteError::Alignment);
        }
        let head = [&elem.id().to_le_bytes()[..], &(count as u64).to_le_bytes()].concat();
        self.add(key, ValueKind::Array, &[&head, elements].concat())
    }

    fn add(&mut self, key: &str, kind: ValueKind, value: &[u8]) -> Result<(), WriteError> {
        if key.is_empty() || key.len() > MAX_NAME {
            return Err(bad_key(key, "is empty or longer than 256 bytes"));
        }
        if self.key_names.len() == MAX_KEYS {
            return Err(WriteError::TooManyKeys);
        }
        if !self.key_names.insert(key.into()) {
            return Err(bad_key(key, "is there already"));
        }
        string(&mut self.keys, key.as_bytes());
        self.keys.extend(kind.id().to_le_bytes());
        self.keys.extend(value);
        Ok(())
    }

    /// Declares the next tensor, with 1 to 4 dimensions, row length first. Its data is its rows
    /// followed by the format's trailer ([`Format::trailer_bytes`]).
    ///
    /// # Errors
    /// [`WriteError::Tensor`] and [`WriteError::TooManyTensors`].
    pub fn tensor(&mut self, name: &str, format: Format, dims: &[u64]) -> Result<(), WriteError> {
        let wrong = |why| Err(WriteError::Tensor { tensor: name.into(), why });
        if name.is_empty() || name.len() > MAX_TENSOR_NAME {
            return wrong("has a name that is empty or longer than 63 bytes");
        }
        if dims.is_empty() || dims.len() > 4 || dims.contains(&0) {
            return wrong("must have 1 to 4 dimensions, none of them zero");
        }
        if !dims[0].is_multiple_of(format.block_len() as u64) {
            return wrong("has rows that are not whole blocks of its format");
        }
        let elements = dims.iter().try_fold(1u64, |p, &d| p.checked_mul(d));
        let row = usize::try_from(dims[0]).ok().and_then(|cols| format.row_bytes(cols));
        let trailer = format.trailer_bytes() as u64;
        let bytes = row
            .and_then(|row| dims[1..].iter().try_fold(row as u64, |p, &d| p.checked_mul(d)))
            .and_then(|rows| rows.checked_add(trailer));
        let (Some(_), Some(bytes)) = (elements, bytes) else {
            return wrong("is too large to be counted");
        };
        if self.tensors.len() == MAX_TENSORS {
            return Err(WriteError::TooManyTensors);
        }
        if !self.tensor_names.insert(name.into()) {
            return wrong("is there already");
        }
        self.tensors.push(Declared { name: name.into(), format, dims: dims.to_vec(), bytes });
        Ok(())
    }

    /// Writes the header; the tensors' data comes next.
    ///
    /// # Errors
    /// [`WriteError::Io`]; [`WriteError::Tensor`] if the offset of a tensor overflows.
    pub fn write<W: Write>(self, mut out: W) -> Result<GgufData<W>, WriteError> {
        let align = u64::from(self.alignment);
        let mut head = Vec::from(*b"GGUF");
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.key_names.len() as u64).to_le_bytes());
        head.extend(&self.keys);
        let mut offset = 0u64;
        for tensor in &self.tensors {
            string(&mut head, tensor.name.as_bytes());
            head.extend((tensor.dims.len() as u32).to_le_bytes());
            head.extend(tensor.dims.iter().flat_map(|d| d.to_le_bytes()));
            head.extend(tensor.format.gguf_id().to_le_bytes());
            head.extend(offset.to_le_bytes());
            let end = offset.checked_add(tensor.bytes);
            offset = end.and_then(|end| end.checked_next_multiple_of(align)).ok_or_else(|| {
                let why = "ends beyond what a file can hold";
                WriteError::Tensor { tensor: tensor.name.clone(), why }
            })?;
        }
        out.write_all(&head)?;
        let mut data =
            GgufData { out, tensors: self.tensors.into_iter(), current: None, written: 0, align };
        data.written = head.len() as u64;
        data.pad()?;
        data.current = data.tensors.next();
        Ok(data)
    }
}

/// A tokenizer's keys.
impl GgufKeys for GgufHeader {
    type Error = WriteError;

    fn put(&mut self, key: &str, value: GgufValue<'_>) -> Result<(), WriteError> {
        GgufHeader::put(self, key, value)
    }

    fn put_strings<S: AsRef<[u8]>>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Result<(), WriteError> {
        GgufHeader::put_strings(self, key, values)
    }

    fn put_i32s(&mut self, key: &str, values: &[i32]) -> Result<(), WriteError> {
        GgufHeader::put_i32s(self, key, values)
    }

    fn put_f32s(&mut self, key: &str, values: &[f32]) -> Result<(), WriteError> {
        GgufHeader::put_f32s(self, key, values)
    }
}

impl From<WriteError> for teff_tokenizer::ExportError<WriteError> {
    fn from(e: WriteError) -> Self {
        teff_tokenizer::ExportError::Write(e)
    }
}

/// A file whose header has been written, ready for the tensors' data.
#[derive(Debug)]
pub struct GgufData<W> {
    out: W,
    tensors: std::vec::IntoIter<Declared>,
    /// The current tensor; its `bytes` is the number still missing.
    current: Option<Declared>,
    /// Number of bytes written so far.
    written: u64,
    align: u64,
}

impl<W: Write> GgufData<W> {
    /// Writes the next bytes of `tensor`: all of them, or a piece. Tensors must come in the order
    /// of their declaration.
    ///
    /// # Errors
    /// [`WriteError::OutOfOrder`] and [`WriteError::TooMuch`], with nothing written, and
    /// [`WriteError::Io`].
    pub fn write(&mut self, tensor: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let current = match &mut self.current {
            Some(current) if current.name == tensor => current,
            other => {
                let (want, left) = match other {
                    Some(current) => (Some(current.name.clone()), current.bytes),
                    None => (None, 0),
                };
                return Err(WriteError::OutOfOrder { got: tensor.into(), want, left });
            }
        };
        let (got, left) = (bytes.len() as u64, current.bytes);
        if got > left {
            return Err(WriteError::TooMuch { tensor: tensor.into(), got, left });
        }
        self.out.write_all(bytes)?;
        current.bytes -= got;
        self.written += got;
        if got == left {
            self.pad()?;
            self.current = self.tensors.next();
        }
        Ok(())
    }

    /// Ends the file, flushes the writer and returns it.
    ///
    /// # Errors
    /// [`WriteError::Unfinished`] and [`WriteError::Io`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        if let Some(current) = self.current {
            return Err(WriteError::Unfinished { tensor: current.name, left: current.bytes });
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes zeros up to the next multiple of the alignment, after the last tensor too, as in
    /// ggml's files.
    fn pad(&mut self) -> Result<(), WriteError> {
        let zeros = self.written.next_multiple_of(self.align) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), zeros), &mut self.out)?;
        self.written += zeros;
        Ok(())
    }
}

/// Appends a length-prefixed string.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn bad_key(key: &str, why: &'static str) -> WriteError {
    WriteError::Key { key: key.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use teff_graph::gguf::Gguf;

    /// Keys, tensors and data of a random file.
    #[derive(Clone, Debug)]
    struct Parts {
        align: Option<u32>,
        strings: Vec<Vec<u8>>,
        ints: Vec<i32>,
        floats: Vec<u32>,
        scalar: (u64, i16, bool, String),
        tensors: Vec<(usize, Vec<u64>)>,
        piece: usize,
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let tensors = prop::collection::vec(
            (0..Format::ALL.len(), prop::collection::vec(1u64..5, 1..=4)),
            0..6,
        );
        (
            prop::option::of((0u32..9).prop_map(|s| 1 << s)),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..20),
            prop::collection::vec(any::<i32>(), 0..20),
            prop::collection::vec(any::<u32>(), 0..20),
            (any::<u64>(), any::<i16>(), any::<bool>(), ".{0,20}"),
            tensors,
            1usize..100,
        )
            .prop_map(|(align, strings, ints, floats, scalar, mut tensors, piece)| {
                for (format, dims) in &mut tensors {
                    dims[0] *= Format::ALL[*format].block_len() as u64;
                }
                Parts { align, strings, ints, floats, scalar, tensors, piece }
            })
    }

    fn bytes_of(index: usize, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + index * 101) as u8).collect()
    }

    fn build(p: &Parts) -> Result<Vec<u8>, WriteError> {
        let mut header = GgufHeader::new();
        header.put("s.u64", GgufValue::U64(p.scalar.0))?;
        header.put("s.i16", GgufValue::I16(p.scalar.1))?;
        header.put("s.bool", GgufValue::Bool(p.scalar.2))?;
        header.put_strings("a.str", &p.strings)?;
        header.put_i32s("a.i32", &p.ints)?;
        if let Some(align) = p.align {
            header.put(ALIGNMENT_KEY, GgufValue::U32(align))?;
        }
        let floats: Vec<f32> = p.floats.iter().map(|&f| f32::from_bits(f)).collect();
        header.put_f32s("a.f32", &floats)?;
        header.put("s.str", GgufValue::Str(&p.scalar.3))?;
        for (i, (format, dims)) in p.tensors.iter().enumerate() {
            header.tensor(&format!("t.{i}"), Format::ALL[*format], dims)?;
        }
        let lens: Vec<u64> = header.tensors.iter().map(|t| t.bytes).collect();
        let mut data = header.write(Vec::new())?;
        for (i, &len) in lens.iter().enumerate() {
            for piece in bytes_of(i, len as usize).chunks(p.piece) {
                data.write(&format!("t.{i}"), piece)?;
            }
        }
        data.finish()
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_equal(p in parts()) {
            let file = build(&p).expect("a file");
            let g = Gguf::parse(&file).expect("a valid file");
            prop_assert_eq!(g.version(), 3);
            prop_assert_eq!(g.alignment(), p.align.unwrap_or(DEFAULT_ALIGNMENT) as usize);
            prop_assert_eq!(file.len() % g.alignment(), 0);
            prop_assert_eq!(g.value("s.u64"), Some(GgufValue::U64(p.scalar.0)));
            prop_assert_eq!(g.value("s.i16"), Some(GgufValue::I16(p.scalar.1)));
            prop_assert_eq!(g.value("s.bool"), Some(GgufValue::Bool(p.scalar.2)));
            prop_assert_eq!(g.value("s.str"), Some(GgufValue::Str(&p.scalar.3)));
            let array = |key| match g.value(key) {
                Some(GgufValue::Array(a)) => a,
                other => panic!("{key}: {other:?}"),
            };
            let strings = array("a.str").strings().expect("strings");
            prop_assert!(strings.eq(p.strings.iter().map(Vec::as_slice)));
            prop_assert!(array("a.i32").i32s().expect("i32s").eq(p.ints.iter().copied()));
            let floats = array("a.f32").f32s().expect("f32s").map(f32::to_bits);
            prop_assert!(floats.eq(p.floats.iter().copied()));
            prop_assert_eq!(g.n_tensors(), p.tensors.len());
            for (i, (t, (format, dims))) in g.tensors().zip(&p.tensors).enumerate() {
                prop_assert_eq!((t.name, t.format), (&*format!("t.{i}"), Format::ALL[*format]));
                prop_assert_eq!(&t.dims[..t.n_dims], &dims[..]);
                prop_assert_eq!(t.data, &bytes_of(i, t.data.len())[..]);
            }
            // Copying everything that was read gives the same file.
            let mut copy = GgufHeader::new();
            for (key, value) in g.metadata() {
                copy.put(key, value).expect("a new key");
            }
            for t in g.tensors() {
                copy.tensor(t.name, t.format, &t.dims[..t.n_dims]).expect("a new tensor");
            }
            let mut data = copy.write(Vec::new()).expect("a header");
            for t in g.tensors() {
                data.write(t.name, t.data).expect("all its bytes");
            }
            prop_assert!(data.finish().expect("all tensors") == file);
        }
    }

    #[test]
    fn wrong_keys_are_refused() {
        let mut h = GgufHeader::new();
        h.put("k", GgufValue::U8(1)).expect("a new key");
        let why = |r: Result<(), WriteError>| r.expect_err("a wrong key").to_string();
        assert_eq!(why(h.put("k", GgufValue::U8(1))), "key `k` is there already");
        assert!(why(h.put("", GgufValue::U8(1))).contains("empty"));
        assert!(why(h.put_i32s(&"k".repeat(257), &[])).contains("longer"));
        assert!(why(h.put(ALIGNMENT_KEY, GgufValue::U64(32))).contains("u32"));
        assert!(why(h.put(ALIGNMENT_KEY, GgufValue::U32(24))).contains("power of two"));
        assert!(why(h.put_i32s(ALIGNMENT_KEY, &[32])).contains("u32"));
        h.put(ALIGNMENT_KEY, GgufValue::U32(64)).expect("a new key");
        assert!(why(h.put(ALIGNMENT_KEY, GgufValue::U32(8))).contains("already"));
        assert_eq!(h.alignment, 64);
    }

    #[test]
    fn wrong_tensors_are_refused() {
        let mut h = GgufHeader::new();
        h.tensor("t", Format::F32, &[1]).expect("a new tensor");
        let mut why = |name: &str, format, dims: &[u64]| {
            h.tensor(name, format, dims).expect_err("a wrong tensor").to_string()
        };
        assert_eq!(why("t", Format::F32, &[1]), "tensor `t` is there already");
        assert!(why("", Format::F32, &[1]).contains("empty"));
        assert!(why(&"t".repeat(64), Format::F32, &[1]).contains("longer"));
        assert!(why("u", Format::F32, &[]).contains("dimensions"));
        assert!(why("u", Format::F32, &[1, 1, 1, 1, 1]).contains("dimensions"));
        assert!(why("u", Format::F32, &[1, 0]).contains("zero"));
        assert!(why("u", Format::Q8_0, &[33]).contains("blocks"));
        assert!(why("u", Format::F32, &[1 << 62]).contains("too large"));
        assert!(why("u", Format::F32, &[1 << 32, 1 << 32]).contains("too large"));
    }

    #[test]
    fn bytes_must_be_those_declared() {
        let mut h = GgufHeader::new();
        h.tensor("a", Format::F32, &[2]).expect("a new tensor");
        h.tensor("b", Format::F16, &[1]).expect("a new tensor");
        let mut data = h.write(Vec::new()).expect("a header");
        let e = data.write("b", &[0; 2]).expect_err("out of order");
        assert_eq!(e.to_string(), "bytes for tensor `b` while `a` still lacks 8");
        data.write("a", &[1; 6]).expect("the first bytes");
        let e = data.write("a", &[1; 4]).expect_err("too much");
        assert_eq!(e.to_string(), "4 bytes for tensor `a`, which lacks 2");
        data.write("a", &[1; 2]).expect("the last bytes");
        let e = data.write("a", &[]).expect_err("done");
        assert_eq!(e.to_string(), "bytes for tensor `a` while `b` still lacks 2");
        data.write("b", &[1; 2]).expect("all bytes");
        let e = data.write("c", &[1]).expect_err("no more");
        assert_eq!(e.to_string(), "bytes for tensor `c` after the last tensor");
        assert!(data.finish().is_ok());

        let mut h = GgufHeader::new();
        h.tensor("a", Format::F32, &[2]).expect("a new tensor");
        let e = h.write(Vec::new()).expect("a header").finish().expect_err("no bytes");
        assert_eq!(e.to_string(), "tensor `a` lacks 8 bytes");
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut room = [0u8; 40];
        let mut h = GgufHeader::new();
        h.tensor("a", Format::F32, &[2]).expect("a new tensor");
        assert!(matches!(h.write(&mut room[..]), Err(WriteError::Io(_))));
    }
}
