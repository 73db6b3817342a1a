//! Writer of GGUF files, including invalid ones.

/// File in parts, each of which a test may spoil.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// Counts in the header, if they are to differ from the true ones.
    pub(crate) n_tensors: Option<u64>,
    pub(crate) n_keys: Option<u64>,
    /// Keys with the bytes of their type and value.
    pub(crate) keys: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) align: usize,
    pub(crate) data: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: Vec<u8>,
    pub(crate) dims: Vec<u64>,
    pub(crate) format: u32,
    pub(crate) offset: u64,
}

impl File {
    /// File without keys or tensors.
    pub(crate) fn empty() -> File {
        File {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_keys: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            align: 32,
            data: Vec::new(),
        }
    }

    /// File with a value of each kind and a tensor of each of three formats; it ends with the last
    /// tensor.
    pub(crate) fn sample() -> File {
        let mut f = File::empty();
        f.key("general.architecture", text("gpt2"));
        f.key("k.u8", scalar(0, &[200]));
        f.key("k.i8", scalar(1, &(-3i8).to_le_bytes()));
        f.key("k.u16", scalar(2, &60000u16.to_le_bytes()));
        f.key("k.i16", scalar(3, &(-300i16).to_le_bytes()));
        f.key("k.u32", scalar(4, &70000u32.to_le_bytes()));
        f.key("k.i32", scalar(5, &(-70000i32).to_le_bytes()));
        f.key("k.f32", scalar(6, &1.5f32.to_le_bytes()));
        f.key("k.bool", scalar(7, &[1]));
        f.key("k.u64", scalar(10, &u64::MAX.to_le_bytes()));
        f.key("k.i64", scalar(11, &i64::MIN.to_le_bytes()));
        f.key("k.f64", scalar(12, &f64::NEG_INFINITY.to_le_bytes()));
        f.key("a.i32", array(5, 3, &[1i32, -2, 3].map(i32::to_le_bytes).concat()));
        f.key("a.f32", array(6, 2, &[0.5f32, f32::NAN].map(f32::to_le_bytes).concat()));
        f.key("a.bool", array(7, 3, &[1, 0, 1]));
        f.key("a.none", array(8, 0, &[]));
        f.key("a.str", strings(&[b"a", b"", b"\xff\xfe", "\u{120}the".as_bytes()]));
        f.tensor("token_embd.weight", &[32, 3], 8, 3 * 34);
        f.tensor("blk.0.norm.weight", &[5], 0, 20);
        f.tensor("blk.0.w", &[4, 2, 3, 2], 1, 96);
        f
    }

    pub(crate) fn key(&mut self, key: &str, value: Vec<u8>) {
        self.keys.push((key.into(), value));
    }

    /// Adds a tensor whose data are `bytes` bytes at the end of the data section.
    pub(crate) fn tensor(&mut self, name: &str, dims: &[u64], format: u32, bytes: usize) {
        let offset = self.data.len().next_multiple_of(self.align);
        self.data.resize(offset, 0);
        self.data.extend((0..bytes).map(|i| (i * 7 + offset) as u8));
        let (dims, offset) = (dims.to_vec(), offset as u64);
        self.tensors.push(Tensor { name: name.into(), dims, format, offset });
    }

    /// Everything before the data section, without the padding.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(string(key));
            out.extend(value);
        }
        for t in &self.tensors {
            out.extend(string(&t.name));
            out.extend((t.dims.len() as u32).to_le_bytes());
            out.extend(t.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(t.format.to_le_bytes());
            out.extend(t.offset.to_le_bytes());
        }
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.align), 0);
        }
        out.extend(&self.data);
        out
    }
}

/// A length and bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// A type and a value's bytes.
pub(crate) fn scalar(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), bytes].concat()
}

/// A text value.
pub(crate) fn text(s: &str) -> Vec<u8> {
    scalar(8, &string(s.as_bytes()))
}

/// An array of `count` elements.
pub(crate) fn array(elem: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &elem.to_le_bytes(), &count.to_le_bytes(), bytes].concat()
}

/// An array of strings.
pub(crate) fn strings(all: &[&[u8]]) -> Vec<u8> {
    array(8, all.len() as u64, &all.iter().flat_map(|s| string(s)).collect::<Vec<_>>())
}
