//! Snapshots: saving a cache and restoring it later, on the same machine or another.

use teff_graph::{Role, RopeScaling, Runner, SequenceId, TensorId};
use teff_kernels::{Backend, KvFormat};

use super::checkpoint::SEQUENCE;
use super::{Session, SessionError};
use crate::model::Model;

/// The cache is in the machine's byte order, so machines of different byte orders reject each
/// other's.
const MAGIC: &[u8; 8] = if cfg!(target_endian = "little") { b"TEFFKV03" } else { b"TEFFKV3B" };
/// Bytes of magic, fingerprint, cache format, number of computed tokens, number of all tokens and
/// checksum.
const HEAD: usize = 8 + 8 + 4 + 8 + 8 + 8;
/// Offset of the checksum.
const SUM: usize = HEAD - 8;

/// FNV-1a of 64 bits (Fowler, Noll, Vo): enough to tell models apart by accident, not by malice.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Checksum of a snapshot without its checksum. Every step is a bijection of the sum so far, so that
/// damage within eight bytes always changes the result, and other damage almost always: enough
/// against accidents, not against malice.
fn checksum(head: &[u8], body: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |word: u64| {
        sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^= sum >> 32;
    };
    for part in [&head[..SUM], body] {
        let (words, rest) = part.as_chunks::<8>();
        words.iter().for_each(|word| add(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        add(u64::from_le_bytes(last));
    }
    sum
}

/// Hash of everything that must be equal for a cache to be usable: the model's shape, its formats, and a
/// sample of its weights (the first row of the embedding and the last of its norms); of a model whose
/// rotary embedding has factors for long contexts and for short ones, also those of this context.
fn fingerprint(model: &Model, context: usize) -> u64 {
    let spec = model.spec();
    // All of it as text, so that hyper-parameters added later are included.
    let mut text = format!("{spec:?}");
    for rope in spec.ropes.iter() {
        if let RopeScaling::Long { .. } = rope.scaling {
            text += &format!("{:?}", rope.scaling.factors(context));
        }
    }
    let mut words = Vec::new();
    for id in 0..spec.tensors() {
        words.push(model.format(TensorId::new(id as u16)).gguf_id());
    }
    if let teff_graph::Tensor::Vector(v) = model.tensor(spec.id(Role::OutputNorm)) {
        words.extend(v.iter().map(|x| x.to_bits()));
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    if let teff_graph::Tensor::Matrix(m) = model.tensor(spec.id(Role::TokenEmbd)) {
        let before = bytes.len();
        bytes.resize(before + m.row_bytes(), 0);
        m.copy_row(0, &mut bytes[before..]);
    }
    hash(text.bytes().chain(bytes))
}

/// Snapshot of a sequence at position `done`, which can be truncated to.
pub(crate) fn encode<B: Backend>(
    model: &Model,
    runner: &Runner<'_, B>,
    (sequence, done): (SequenceId, usize),
    tokens: &[u32],
) -> Vec<u8> {
    let options = &runner.plan().options;
    let size = HEAD + tokens.len() * 4 + runner.snapshot_bytes(done);
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&fingerprint(model, options.context).to_le_bytes());
    out.extend_from_slice(&kv_id(options.kv).to_le_bytes());
    out.extend_from_slice(&(done as u64).to_le_bytes());
    out.extend_from_slice(&(tokens.len() as u64).to_le_bytes());
    out.extend_from_slice(&[0; HEAD - SUM]);
    for t in tokens {
        out.extend_from_slice(&t.to_le_bytes());
    }
    runner.snapshot_at(sequence, done, |part| out.extend_from_slice(part));
    let (head, body) = out.split_at_mut(HEAD);
    let sum = checksum(head, body);
    head[SUM..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Contents of a snapshot.
pub(crate) struct Decoded<'b> {
    /// Number of tokens that have been computed.
    pub(crate) done: usize,
    /// All tokens.
    pub(crate) tokens: Vec<u32>,
    /// States at `done` positions.
    pub(crate) states: &'b [u8],
}

/// Checks a snapshot for a model, with a cache of this format and sequences of up to `context`
/// positions; `size` tells the bytes of the states at a position, unless that is checked later.
///
/// # Errors
/// [`SessionError::Snapshot`].
pub(crate) fn decode<'b>(
    snapshot: &'b [u8],
    model: &Model,
    (kv, context): (KvFormat, usize),
    size: impl FnOnce(usize) -> Option<usize>,
) -> Result<Decoded<'b>, SessionError> {
    let bad = |what| Err(SessionError::Snapshot(what));
    let Some((head, body)) = snapshot.split_at_checked(HEAD) else {
        return bad("it is too short to be one");
    };
    let word = |at: usize| {
        let mut b = [0; 8];
        b.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(b)
    };
    if head[..6] == MAGIC[..6] && head[..8] != *MAGIC {
        return bad("it is of another version, or of a machine of the other byte order");
    }
    if head[..8] != *MAGIC {
        return bad("it doesn't begin as one");
    }
    if word(8) != fingerprint(model, context) {
        return bad("it is of another model");
    }
    if head[16..20] != kv_id(kv).to_le_bytes() {
        return bad("its cache has another format");
    }
    let (done, all) = (word(20), word(28));
    if done > all || all > context as u64 {
        return bad("it has more tokens than this session's context");
    }
    let (done, all) = (done as usize, all as usize);
    let Some((tokens, states)) = body.split_at_checked(all * 4) else {
        return bad("it is cut off");
    };
    let tokens = tokens.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b));
    let vocab = model.spec().vocab;
    if tokens.clone().any(|t| t >= vocab) {
        return bad("it has a token that the vocabulary lacks");
    }
    if size(done).is_some_and(|size| states.len() != size) {
        return bad("its cache has another size");
    }
    if word(SUM) != checksum(head, body) {
        return bad("it is damaged");
    }
    Ok(Decoded { done, tokens: tokens.collect(), states })
}

impl Session<'_> {
    /// Saves the text and its cache as bytes, up to the positions computed so far. Machines of one
    /// byte order can exchange them; after [`Session::restore`] in a session of the same model and
    /// cache format, whatever its context, threads and backend, the text continues with the same
    /// bits. (Of a model with LongRoPE, both contexts must be longer than the original one, or
    /// neither.)
    ///
    /// Caches are saved in panels of 16 positions, so that keys and values of up to 15 tokens that
    /// were truncated from the end of the text may be among the bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        // Guesses beyond the text are not a part of it.
        let done = self.runner.nearest(SEQUENCE, self.done);
        encode(&self.model, &self.runner, (SEQUENCE, done), &self.tokens)
    }

    /// Replaces the text and its cache with those of a snapshot.
    ///
    /// # Errors
    /// [`SessionError::Snapshot`] if it is damaged, of another model or cache format, or longer
    /// than this session's context; the session is unchanged in that case.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), SessionError> {
        let shape = (self.options.kv, self.context());
        let size = |done| Some(self.runner.snapshot_bytes(done));
        let Decoded { done, tokens, states } = decode(snapshot, &self.model, shape, size)?;
        self.runner.restore(SEQUENCE, done, states).map_err(SessionError::Restore)?;
        self.ahead = 0;
        self.checkpoints.forget_beyond(0);
        self.forget_outputs();
        if done > 0 {
            self.checkpoints.save(&self.runner);
        }
        self.tokens.clear();
        self.tokens.extend(tokens);
        self.done = done;
        Ok(())
    }
}

fn kv_id(format: KvFormat) -> u32 {
    match format {
        KvFormat::F32 => 0,
        KvFormat::F16 => 1,
        KvFormat::Q8 => 2,
    }
}
