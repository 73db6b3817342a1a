//! Models whose weights are made here, and teams of threads to run them.

#![allow(dead_code)] // no test takes all of it

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use proptest::prelude::ProptestConfig;
use teff_graph::layers::{Attention, Dense, FeedForward, Mixer};
use teff_graph::{
    Broken, Cancel, Layer, LayerRole, Layers, LogitsFor, Memory, NeverCancel, Options, Plan, Role,
    Runner, Running, Segment, SequenceId, Slot, Solo, Spec, Step, StepError, Team, Tensor,
    TensorId, Work,
};
use teff_kernels::{Backend, Cpu, Format, Matrix, Scalar, quantize_row};

pub(crate) mod draw;

/// Floats in -1..1, the same in every run (Marsaglia's xorshift32).
pub(crate) fn floats(seed: u32, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = |_| {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        (s >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

/// The same model with each layer's attention changed by `f`.
pub(crate) fn with_attention(spec: &Spec<'_>, f: impl Fn(&mut Attention)) -> Spec<'static> {
    spec.with_layers(|mut layer| {
        if let Mixer::Attention(a) = &mut layer.mixer {
            f(a);
        }
        layer
    })
}

/// The same model with each layer's dense feed-forward part changed by `f`.
pub(crate) fn with_dense(spec: &Spec<'_>, f: impl Fn(&mut Dense)) -> Spec<'static> {
    spec.with_layers(|mut layer| {
        if let FeedForward::Dense(d) = &mut layer.ffn {
            f(d);
        }
        layer
    })
}

/// The same model with as many layers.
pub(crate) fn with_len(spec: &Spec<'_>, count: u32) -> Spec<'static> {
    Spec { layers: spec.layers.with_len(count), ..spec.to_owned() }
}

/// Layers of any kinds, each its own.
pub(crate) fn layers(all: &[Layer]) -> Layers<'static> {
    let pattern: Vec<u8> = (0..all.len() as u8).collect();
    Layers::new(all, &pattern, all.len() as u32).to_owned()
}

/// A model in memory.
pub(crate) struct Model {
    pub(crate) spec: Spec<'static>,
    formats: Vec<Format>,
    /// Of each tensor: the bytes of a matrix, the floats of a vector.
    pub(crate) weights: Vec<(Vec<u8>, Vec<f32>)>,
}

impl Model {
    /// With weights that keep the residual stream in the range of small integers.
    pub(crate) fn new(spec: Spec<'static>, format: impl Fn(TensorId) -> Format) -> Model {
        Model::with_weights(spec, format, |i, slot| {
            let mut x = floats(i as u32 + 1, slot.all_rows() * slot.cols);
            if matches!(
                slot.role,
                Role::RopeFactors | Role::RopeFactorsLong | Role::RopeFactorsShort
            ) {
                x.iter_mut().for_each(|x| *x += 1.5);
            }
            // States decay.
            if matches!(slot.role, Role::Layer(_, LayerRole::DeltaRate)) {
                x.iter_mut().for_each(|x| *x = -0.1 - x.abs());
            }
            if slot.is_vector() && slot.rows == 1 {
                return x;
            }
            let scale = 2.0 / (slot.cols as f32).sqrt();
            x.iter_mut().for_each(|x| *x *= scale);
            x
        })
    }

    pub(crate) fn with_weights(
        spec: Spec<'static>,
        format: impl Fn(TensorId) -> Format,
        values: impl Fn(usize, &Slot) -> Vec<f32>,
    ) -> Model {
        let formats: Vec<Format> =
            (0..spec.tensors()).map(|i| format(TensorId::new(i as u16))).collect();
        let one = |(i, slot): (usize, Slot)| {
            let x = values(i, &slot);
            assert_eq!(x.len(), slot.all_rows() * slot.cols, "{:?}", slot.role);
            match slot.is_vector() {
                true => (vec![], x),
                false => (tensor_bytes(formats[i], slot.cols, &x), vec![]),
            }
        };
        let weights = spec.slots().enumerate().map(one).collect();
        Model { spec, formats, weights }
    }

    pub(crate) fn format(&self, id: TensorId) -> Format {
        self.formats[id.index()]
    }

    /// The table of weights.
    pub(crate) fn tensors(&self) -> Vec<Tensor<'_>> {
        let one = |(i, slot): (usize, Slot)| {
            let (bytes, floats) = &self.weights[i];
            match slot.is_vector() {
                true => Tensor::Vector(floats),
                false => Tensor::Matrix(
                    Matrix::from_tensor(self.formats[i], slot.all_rows(), slot.cols, bytes)
                        .unwrap(),
                ),
            }
        };
        self.spec.slots().enumerate().map(one).collect()
    }

    /// The tensor of this role.
    pub(crate) fn tensor(&self, role: Role) -> Tensor<'_> {
        self.tensors()[self.spec.id(role).index()]
    }

    /// The elements of this role's tensor, of a vector or a matrix of F32; none where there is none.
    pub(crate) fn values(&self, role: Role) -> Vec<f32> {
        match self.spec.find(role) {
            None => vec![],
            Some(id) => match self.tensors()[id.index()] {
                Tensor::Vector(v) => v.to_vec(),
                Tensor::Matrix(_) => {
                    let (bytes, _) = &self.weights[id.index()];
                    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
            },
        }
    }

    pub(crate) fn plan(&self, options: &Options, backend: &dyn Backend) -> Plan<'static> {
        Plan::build(&self.spec, &|id| self.format(id), options, backend).unwrap()
    }

    /// A runner for so many threads and sequences, in memory that is full of bits that mean nothing.
    pub(crate) fn runner<'m, B: Backend>(
        &'m self,
        room: &'m mut Room,
        options: &Options,
        backend: B,
        (threads, sequences): (usize, usize),
    ) -> Runner<'m, B> {
        let plan = self.plan(options, &backend);
        let memory = room.memory(&plan, threads, sequences);
        Runner::new(plan, self.tensors().into(), backend, threads, memory).unwrap()
    }

    /// Logits of all tokens of one sequence alone on one thread: all at once, or `chunk` at a time.
    pub(crate) fn alone(&self, options: &Options, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let options = Options { batch: chunk, logits: chunk, pages: 0, ..*options };
        let mut room = Room::default();
        let mut runner = self.runner(&mut room, &options, Scalar, (1, 1));
        let mut out = vec![];
        for tokens in tokens.chunks(chunk) {
            out.extend(run(&mut runner, &[Segment::new(tokens, LogitsFor::All)]));
        }
        assert!(out.iter().all(|x| x.is_finite()), "logits are numbers");
        out
    }
}

/// A matrix in its format, with its trailer.
fn tensor_bytes(format: Format, cols: usize, x: &[f32]) -> Vec<u8> {
    let row = format.row_bytes(cols).unwrap();
    let rows = x.len() / cols;
    let mut bytes = vec![0; format.tensor_bytes(rows, cols).unwrap()];
    // Where the scale is the tensor's, rows are given as codes.
    let trailer = format.trailer_bytes() > 0;
    for (x, to) in x.chunks(cols).zip(bytes.chunks_mut(row)) {
        let codes: Vec<f32> = x.iter().map(|x| (x * 8.0).round().clamp(-1.0, 1.0)).collect();
        quantize_row(format, if trailer { &codes } else { x }, &mut to[..row]);
    }
    if trailer {
        bytes[rows * row..][..4].copy_from_slice(&0.25f32.to_le_bytes());
    }
    bytes
}

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Line([u8; 64]);

/// Memory as a caller may give it.
#[derive(Default)]
pub(crate) struct Room([Vec<Line>; 3]);

impl Room {
    /// Memory of a plan, full of NaN.
    pub(crate) fn memory(
        &mut self,
        plan: &Plan<'_>,
        threads: usize,
        sequences: usize,
    ) -> Memory<'_> {
        let needed = plan.memory_requirements;
        let states = needed.pool + sequences * needed.state;
        let sizes = [needed.scratch, states, threads * needed.per_thread];
        self.0 = sizes.map(|bytes| vec![Line([0xff; 64]); bytes.div_ceil(64)]);
        let [scratch, states, locals] = &mut self.0;
        let bytes = |lines: &mut Vec<Line>, len| {
            // SAFETY: the bytes of these lines.
            unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
        };
        let [a, b, c] = sizes;
        Memory::new(bytes(scratch, a), bytes(states, b), bytes(locals, c))
    }
}

/// Runs a step on this thread.
pub(crate) fn run<B: Backend>(runner: &mut Runner<'_, B>, segments: &[Segment<'_>]) -> Vec<f32> {
    let step = Step { segments, cancel: &NeverCancel };
    teff_graph::Executor::step(runner, &step).unwrap().to_vec()
}

/// Tokens of one sequence, and the logits of the last.
pub(crate) fn feed<B: Backend>(
    runner: &mut Runner<'_, B>,
    sequence: u16,
    tokens: &[u32],
) -> Vec<f32> {
    let sequence = SequenceId(sequence);
    run(runner, &[Segment { sequence, tokens, logits: LogitsFor::Last }])
}

/// Runs a step on so many threads; logits are those of its wanted tokens.
pub(crate) fn run_on<B: Backend>(
    runner: &mut Runner<'_, B>,
    segments: &[Segment<'_>],
    cancel: &dyn Cancel,
    threads: usize,
) -> Result<Vec<f32>, StepError> {
    let running = runner.begin(&Step { segments, cancel })?;
    let mut results = vec![Ok(()); threads];
    if threads == 1 {
        results[0] = running.walk(&Solo);
    } else {
        let meeting = Meeting::new(threads);
        thread::scope(|s| {
            for (rank, result) in results.iter_mut().enumerate() {
                let (running, meeting) = (&running, &meeting);
                s.spawn(move || {
                    *result = Worker::new(rank, meeting).walk(running);
                });
            }
        });
    }
    assert!(results.iter().all(|r| *r == results[0]), "all workers leave or none: {results:?}");
    let committed = running.commit();
    results[0]?;
    let wanted = committed?;
    Ok(runner.logits(wanted).to_vec())
}

/// State shared by the threads of a team.
pub(crate) struct Meeting {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    phase: u32,
    /// Items reported in this phase.
    done: usize,
    /// Latest operation, and its first item that isn't claimed.
    next: (u32, usize),
    /// Threads that wait, if all meet at the end of a phase.
    waiting: usize,
    broken: bool,
}

impl Meeting {
    pub(crate) fn new(size: usize) -> Meeting {
        Meeting { size, state: Mutex::default(), changed: Condvar::new() }
    }

    /// True if each thread has a fixed share and all of them meet at the end of each phase;
    /// otherwise they claim a few items at a time, and leave when there is nothing to do.
    fn is_fixed(&self) -> bool {
        self.size.is_multiple_of(2)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread of a team.
pub(crate) struct Worker<'a> {
    pub(crate) rank: usize,
    pub(crate) meeting: &'a Meeting,
    /// Last operation that was claimed from, plus one; for fixed shares.
    pub(crate) last: Cell<u32>,
    /// True if the thread was told to leave for now.
    pub(crate) left: Cell<bool>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(rank: usize, meeting: &'a Meeting) -> Self {
        Worker { rank, meeting, last: Cell::new(0), left: Cell::new(false) }
    }

    /// Walks a step as long as it takes.
    fn walk<B: Backend>(&self, running: &Running<'_, '_, B>) -> Result<(), StepError> {
        loop {
            let result = running.walk(self);
            if !self.left.take() {
                return result;
            }
            thread::yield_now();
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.meeting.lock().broken = true;
            self.meeting.changed.notify_all();
        }
    }
}

// SAFETY: `run_on` makes one worker for each rank. Fixed shares are disjoint, and the last thread to
// arrive ends a phase; otherwise items are claimed in order under the lock, and who reports the last
// ones ends the phase.
unsafe impl Team for Worker<'_> {
    fn id(&self) -> NonZeroUsize {
        core::ptr::NonNull::from(self.meeting).addr()
    }
    fn rank(&self) -> usize {
        self.rank
    }
    fn size(&self) -> usize {
        self.meeting.size
    }
    fn phase(&self) -> u32 {
        self.meeting.lock().phase
    }
    unsafe fn claim(&self, op: u32, work: &Work) -> Range<usize> {
        let (size, rank) = (self.meeting.size, self.rank);
        if self.meeting.is_fixed() {
            let first = self.last.replace(op + 1) <= op;
            let to = |rank| if first { work.items * rank / size } else { 0 };
            return to(rank)..to(rank + 1);
        }
        let mut state = self.meeting.lock();
        if state.next.0 < op {
            state.next = (op, 0);
        }
        let (latest, first) = state.next;
        if latest > op || first == work.items {
            return 0..0;
        }
        state.next.1 = work.items.min(first + 1 + 2 * rank);
        first..state.next.1
    }
    unsafe fn finish(&self, phase: u32, done: usize, all: usize) -> Result<Option<u32>, Broken> {
        let fixed = self.meeting.is_fixed();
        let mut state = self.meeting.lock();
        if state.phase == phase {
            state.done += done;
            state.waiting += 1;
            if if fixed { state.waiting == self.meeting.size } else { state.done == all } {
                assert_eq!(state.done, all, "all items were done");
                (state.phase, state.done, state.waiting) = (phase + 1, 0, 0);
                self.meeting.changed.notify_all();
            } else if !fixed && phase % 3 == self.rank as u32 % 3 {
                self.left.set(true);
                return Ok(None);
            }
        }
        while state.phase == phase && !state.broken {
            state = self.meeting.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.phase == phase { Err(Broken) } else { Ok(Some(state.phase)) }
    }
}

/// Cancels at the nth check and from then on.
pub(crate) struct CancelAt {
    left: AtomicUsize,
}

impl CancelAt {
    pub(crate) fn new(checks: usize) -> CancelAt {
        CancelAt { left: AtomicUsize::new(checks) }
    }
}

impl Cancel for CancelAt {
    fn cancelled(&self) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_err()
    }
}

/// The backends of this machine.
pub(crate) fn backends() -> Vec<Cpu> {
    Cpu::NAMES.iter().filter_map(|n| Cpu::by_name(n).ok()).collect()
}

/// So many cases of a law, or thirty times as many where `TEFF_FULL` is set, as in the nightly tier; unless
/// `PROPTEST_CASES` says how many.
pub(crate) fn cases(n: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None if std::env::var_os("TEFF_FULL").is_some() => {
            ProptestConfig { cases: 30 * n, ..config }
        }
        None => ProptestConfig { cases: n, ..config },
    }
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// `n` tokens of a vocabulary, the same in every run.
pub(crate) fn tokens(seed: u32, n: usize, vocab: u32) -> Vec<u32> {
    floats(seed, n).iter().map(|x| (x.to_bits() >> 3) % vocab).collect()
}
