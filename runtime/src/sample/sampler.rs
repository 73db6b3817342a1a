//! The sampling stages, over preallocated buffers.

use super::{Rng, Sampling, SamplingError};
use core::fmt;
use teff_kernels::{Backend, Cpu, TopK, exp};

/// A token and its logit in one integer that sorts as the stages require: in descending order,
/// larger logits come first, and lower ids on ties. The upper half is the logit's bits made
/// monotone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
    fn new(logit: f32, id: u32) -> Self {
        // + 0 makes -0 equal to 0, as float comparison does.
        let bits = (logit + 0.0).to_bits();
        let key = if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits };
        Candidate(u64::from(key) << 32 | u64::from(!id))
    }

    fn id(self) -> u32 {
        !(self.0 as u32)
    }

    fn logit(self) -> f32 {
        let key = (self.0 >> 32) as u32;
        f32::from_bits(if key >> 31 == 1 { key & 0x7fff_ffff } else { !key })
    }
}

/// Size of the first piece of the candidates that top-p sorts; later pieces are larger.
const NUCLEUS_PIECE: usize = 256;

/// Token sampler. All memory is allocated by [`Sampler::new`]; the [module](super) defines the
/// result.
///
/// ```
/// use teff_runtime::sample::{Sampler, Sampling};
///
/// let logits = [0.1, 2.5, -1.0, 2.4];
/// let mut greedy = Sampler::new(Sampling::greedy(), logits.len())?;
/// assert_eq!(greedy.sample(&logits, &[])?, 1);
///
/// let mut sampler = Sampler::new(Sampling::default().with_top_k(2).with_seed(42), 4)?;
/// assert!([1, 3].contains(&sampler.sample(&logits, &[])?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Sampler {
    sampling: Sampling,
    vocab: usize,
    rng: Rng,
    /// Backend that selects the largest logits.
    backend: Cpu,
    /// Copy of the logits to penalise; empty without penalties.
    penalized: Vec<f32>,
    /// Number of times that each token is recent, while tokens are penalised; otherwise zeros. Empty
    /// without penalties.
    counts: Vec<u32>,
    /// Buffer for the largest logits, if only some are kept.
    largest: Vec<(u32, f32)>,
    /// Empty if sampling is greedy. The capacity is fixed.
    candidates: Vec<Candidate>,
    /// Weights of the remaining candidates, after a draw.
    weights: Vec<f32>,
}

/// Lengths of the buffers.
struct Sizes {
    penalized: usize,
    counts: usize,
    largest: usize,
    candidates: usize,
    weights: usize,
}

impl Sizes {
    fn new(sampling: &Sampling, vocab: usize) -> Self {
        let penalized = if sampling.penalizes() { vocab } else { 0 };
        if sampling.is_greedy() {
            return Sizes { penalized, counts: penalized, largest: 0, candidates: 0, weights: 0 };
        }
        let keep = keep(sampling, vocab);
        let largest = if keep < vocab { keep } else { 0 };
        Sizes { penalized, counts: penalized, largest, candidates: keep, weights: keep }
    }

    fn bytes(&self) -> usize {
        let of = |n: usize, each: usize| n.saturating_mul(each);
        of(self.penalized, size_of::<f32>())
            .saturating_add(of(self.counts, size_of::<u32>()))
            .saturating_add(of(self.largest, size_of::<(u32, f32)>()))
            .saturating_add(of(self.candidates, size_of::<Candidate>()))
            .saturating_add(of(self.weights, size_of::<f32>()))
    }
}

/// Number of candidates after top-k, which is off if it is 0 or at least the vocabulary size.
fn keep(sampling: &Sampling, vocab: usize) -> usize {
    if sampling.top_k == 0 { vocab } else { sampling.top_k.min(vocab) }
}

impl Sampler {
    /// A sampler for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// [`SamplingError::Parameter`] from [`Sampling::validate`], [`SamplingError::Vocabulary`] for
    /// 0 tokens or more than 2^32, and [`SamplingError::Memory`] if allocation fails.
    pub fn new(sampling: Sampling, vocab: usize) -> Result<Self, SamplingError> {
        sampling.validate()?;
        if vocab == 0 || u32::try_from(vocab - 1).is_err() {
            return Err(SamplingError::Vocabulary { got: vocab });
        }
        let sizes = Sizes::new(&sampling, vocab);
        let refused = |_| SamplingError::Memory { bytes: sizes.bytes() };
        let mut penalized = Vec::new();
        penalized.try_reserve_exact(sizes.penalized).map_err(refused)?;
        let mut counts = Vec::new();
        counts.try_reserve_exact(sizes.counts).map_err(refused)?;
        counts.resize(sizes.counts, 0);
        let mut largest = Vec::new();
        largest.try_reserve_exact(sizes.largest).map_err(refused)?;
        largest.resize(sizes.largest, (0, 0.0));
        let mut candidates = Vec::new();
        candidates.try_reserve_exact(sizes.candidates).map_err(refused)?;
        let mut weights = Vec::new();
        weights.try_reserve_exact(sizes.weights).map_err(refused)?;
        let rng = Rng::new(sampling.seed);
        let backend = Cpu::best();
        Ok(Sampler {
            sampling,
            vocab,
            rng,
            backend,
            penalized,
            counts,
            largest,
            candidates,
            weights,
        })
    }

    /// Sets the backend that selects the largest logits. The choices don't depend on it.
    #[must_use]
    pub fn with_backend(self, backend: Cpu) -> Self {
        Sampler { backend, ..self }
    }

    /// Heap memory of a sampler with these parameters, in bytes; `usize::MAX` on overflow.
    #[must_use]
    pub fn bytes(sampling: &Sampling, vocab: usize) -> usize {
        Sizes::new(sampling, vocab).bytes()
    }

    /// The parameters.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Restarts the random numbers from this seed.
    pub fn reseed(&mut self, seed: u64) {
        self.sampling.seed = seed;
        self.rng = Rng::new(seed);
    }

    /// Chooses the token that follows `history`, of which only the last `repeat_last_n` tokens are
    /// considered. Allocates nothing.
    ///
    /// # Errors
    /// [`SampleError`]; the sampler, including its random numbers, is unchanged.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32, SampleError> {
        self.candidates.clear();
        self.weights.clear();
        if logits.len() != self.vocab {
            return Err(SampleError::Length { expected: self.vocab, got: logits.len() });
        }
        let penalizes = self.sampling.penalizes();
        if penalizes {
            self.penalize(logits, history)?;
        }
        let logits = if penalizes { &self.penalized } else { logits };
        if self.sampling.is_greedy() {
            let mut one = [(0, 0.0)];
            let found = self.backend.top_k(logits, &mut one);
            check(logits, &found, &one)?;
            return Ok(one[0].0);
        }
        if !self.largest.is_empty() {
            let found = self.backend.top_k(logits, &mut self.largest);
            check(logits, &found, &self.largest)?;
            let possible = self.largest[..found.len].iter().filter(|e| e.1 != f32::NEG_INFINITY);
            self.candidates.extend(possible.map(|&(id, logit)| Candidate::new(logit, id)));
        }
        let largest = match self.largest.first() {
            Some(&(_, logit)) => logit,
            None => gather(logits, &mut self.candidates)?,
        };
        let left = truncate(&mut self.candidates, &self.sampling, self.vocab, largest);
        self.candidates.truncate(left);

        let temperature = self.sampling.temperature;
        let mut total = 0.0f64;
        for candidate in &self.candidates {
            let weight = exp((candidate.logit() - largest) / temperature);
            self.weights.push(weight);
            total += f64::from(weight);
        }
        let target = self.rng.next_f64() * total;
        let mut sum = 0.0f64;
        for (candidate, &weight) in self.candidates.iter().zip(&self.weights) {
            sum += f64::from(weight);
            if sum > target {
                return Ok(candidate.id());
            }
        }
        // Unreachable: the target is below the total, and this sum is the same one.
        self.candidates.first().map(|c| c.id()).ok_or(SampleError::Nothing)
    }

    /// The tokens that the last call of [`Sampler::sample`] could have drawn, with their
    /// probabilities, in draw order. Empty after an error and after a greedy choice.
    pub fn choices(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let total: f64 = self.weights.iter().map(|&w| f64::from(w)).sum();
        self.candidates.iter().zip(&self.weights).map(move |(c, &w)| (c.id(), f64::from(w) / total))
    }

    /// Stage 1, into `self.penalized`.
    fn penalize(&mut self, logits: &[f32], history: &[u32]) -> Result<(), SampleError> {
        self.penalized.clear();
        self.penalized.extend_from_slice(logits);
        let first = history.len().saturating_sub(self.sampling.repeat_last_n);
        let recent = &history[first..];
        if let Some(i) = recent.iter().position(|id| *id as usize >= self.vocab) {
            let (position, id) = (first + i, recent[i]);
            return Err(SampleError::BadToken { position, id, vocab: self.vocab });
        }
        for &id in recent {
            let count = &mut self.counts[id as usize];
            *count = count.saturating_add(1);
        }
        for &id in recent {
            // Only at its first occurrence is there a count.
            let count = core::mem::take(&mut self.counts[id as usize]);
            if count > 0 {
                let logit = &mut self.penalized[id as usize];
                *logit = penalized(*logit, count, &self.sampling);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("sampling", &self.sampling)
            .field("vocab", &self.vocab)
            .finish_non_exhaustive()
    }
}

/// Logit of a token that is recent this many times.
fn penalized(logit: f32, count: u32, sampling: &Sampling) -> f32 {
    if !logit.is_finite() {
        // Infinities and NaN are left for the scan to detect.
        return logit;
    }
    let finite = |x: f32| x.clamp(f32::MIN, f32::MAX);
    let repeat = sampling.repeat_penalty;
    let lower = finite(if logit > 0.0 { logit / repeat } else { logit * repeat });
    let more = count as f32 * sampling.frequency_penalty + sampling.presence_penalty;
    finite(lower - more)
}

/// The error for a NaN or infinite logit.
pub(super) fn bad_logit(index: usize, logit: f32) -> SampleError {
    if logit.is_nan() { SampleError::NotANumber { index } } else { SampleError::Infinite { index } }
}

/// Refuses logits that contain NaN or positive infinity, or no possible token; `found` and
/// `largest` are what the backend selected from them.
fn check(logits: &[f32], found: &TopK, largest: &[(u32, f32)]) -> Result<(), SampleError> {
    let first = largest[..found.len].first();
    let infinite = first.filter(|e| e.1 == f32::INFINITY).map(|e| e.0 as usize);
    if let Some(index) = [found.nan, infinite].into_iter().flatten().min() {
        return Err(bad_logit(index, logits[index]));
    }
    match first {
        Some(&(_, logit)) if logit != f32::NEG_INFINITY => Ok(()),
        _ => Err(SampleError::Nothing),
    }
}

/// Stage 3 if all logits are kept: gathers them by ascending id. Returns the largest logit.
fn gather(logits: &[f32], out: &mut Vec<Candidate>) -> Result<f32, SampleError> {
    let mut largest = f32::NEG_INFINITY;
    for (index, &x) in logits.iter().enumerate() {
        if x.is_nan() || x == f32::INFINITY {
            return Err(bad_logit(index, x));
        }
        if x > f32::NEG_INFINITY {
            out.push(Candidate::new(x, index as u32));
            largest = largest.max(x);
        }
    }
    if out.is_empty() { Err(SampleError::Nothing) } else { Ok(largest) }
}

/// Stages 4 and 5 and the draw order: returns the number of candidates kept, from the front.
fn truncate(
    candidates: &mut Vec<Candidate>,
    sampling: &Sampling,
    vocab: usize,
    largest: f32,
) -> usize {
    let keep = keep(sampling, vocab);
    let weight = |c: &Candidate| exp(c.logit() - largest);
    let Sampling { top_p, min_p, .. } = *sampling;
    if keep < vocab {
        candidates.sort_unstable_by(|a, b| b.cmp(a));
    }
    if top_p >= 1.0 && min_p <= 0.0 {
        return candidates.len();
    }
    // A token's share of the largest probability doesn't depend on the others, so min-p goes first
    // and saves sorting what it drops; the sum of top-p is over all.
    let mut total = 0.0;
    candidates.retain(|c| {
        let weight = weight(c);
        total += f64::from(weight);
        weight >= min_p
    });
    if top_p >= 1.0 {
        return candidates.len();
    }
    let enough = f64::from(top_p) * total;
    let mut sum = 0.0;
    let mut sorted = 0;
    let mut piece = NUCLEUS_PIECE;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let n = piece.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n - 1, |a, b| b.cmp(a));
        }
        rest[..n].sort_unstable_by(|a, b| b.cmp(a));
        for (i, c) in rest[..n].iter().enumerate() {
            sum += f64::from(weight(c));
            if sum >= enough {
                return sorted + i + 1;
            }
        }
        sorted += n;
        piece = piece.saturating_mul(4);
    }
    candidates.len()
}

/// Error of choosing a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SampleError {
    /// The number of logits differs from the vocabulary size.
    Length {
        /// Size of the vocabulary.
        expected: usize,
        /// Number of logits given.
        got: usize,
    },
    /// A logit is NaN: the model's weights or the computation are broken.
    NotANumber {
        /// Index of the first such token.
        index: usize,
    },
    /// A logit is positive infinity: the model's weights or the computation are broken.
    Infinite {
        /// Index of the first such token.
        index: usize,
    },
    /// All logits are negative infinity, so no token is possible.
    Nothing,
    /// A recent token of the history is outside the vocabulary.
    BadToken {
        /// Position in the history.
        position: usize,
        /// The token.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleError::Length { expected, got } => {
                write!(f, "{got} logits for a vocabulary of {expected} tokens: pass one per token")
            }
            SampleError::NotANumber { index } => {
                write!(f, "the logit of token {index} is NaN: the model's weights may be damaged")
            }
            SampleError::Infinite { index } => write!(
                f,
                "the logit of token {index} is infinite: the model's weights may be damaged"
            ),
            SampleError::Nothing => f.write_str(
                "all logits are negative infinity: no token is possible; relax the mask",
            ),
            SampleError::BadToken { position, id, vocab } => write!(
                f,
                "token {id} at position {position} of the history is outside the vocabulary of \
                 {vocab} tokens: pass a history of this model"
            ),
        }
    }
}

impl core::error::Error for SampleError {}
