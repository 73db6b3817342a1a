//! States of sequences: rings of windows, fixed states in two banks, shared keys and values; going
//! back, checkpoints, snapshots and copies.

#![cfg(feature = "alloc")]

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::Range;

use teff_graph::family::{gemma3, lfm2};
use teff_graph::layers::{Attention, FeedForward, Layer, Mixer, Scales, ShortConv};
use teff_graph::plan::StateKind;
use teff_graph::{
    Broken, LayerRole as L, LogitsFor, NeverCancel, Options, Outputs, Plan, RestoreError, Role,
    Runner, Segment, SequenceId, Solo, Spec, Step, StepError, Team, TruncateError, Work,
};
use teff_kernels::{
    Activations, AttentionParams, Backend, Cpu, DenseActivations, Format, KvFormat, KvHead,
    KvLayout, Matrix, Scalar, Tile,
};

use crate::common::draw::everything;
use crate::common::{
    self, CancelAt, Model, Room, bits, feed, layers, run_on, tokens, with_attention,
};

const ZERO: SequenceId = SequenceId(0);

fn options(batch: usize, context: usize) -> Options {
    Options { batch, logits: batch, context, kv: KvFormat::F16, outputs: Outputs::Logits, pages: 0 }
}

/// A model of some layers of [`everything`], in a format that is quantised where there is one.
fn model(pick: &[usize], change: impl Fn(&mut Layer)) -> Model {
    let spec = everything();
    let mut all: Vec<Layer> = pick.iter().map(|&l| *spec.layers.get(l as u32)).collect();
    all.iter_mut().for_each(change);
    let q8 = if Format::Q8_0.is_built() { Format::Q8_0 } else { Format::BF16 };
    Model::new(Spec { layers: layers(&all), ..spec }, |id| match id.index() % 3 {
        0 => Format::F32,
        _ => q8,
    })
}

/// A window in all attention.
fn windows(size: u32) -> impl Fn(&mut Layer) {
    move |layer| {
        if let Mixer::Attention(a) = &mut layer.mixer {
            a.window = Some(size);
        }
    }
}

fn unchanged(_: &mut Layer) {}

/// Logits of all tokens, `chunk` at a time.
fn all_logits(runner: &mut Runner<'_, Cpu>, tokens: &[u32], chunk: usize) -> Vec<u32> {
    let mut out = vec![];
    for tokens in tokens.chunks(chunk) {
        let segments = [Segment::new(tokens, LogitsFor::All)];
        out.extend(bits(&run_on(runner, &segments, &NeverCancel, 1).unwrap()));
    }
    out
}

fn saved(f: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut bytes = vec![];
    f(&mut |part| bytes.extend_from_slice(part));
    bytes
}

fn capacities(plan: &Plan<'_>) -> Vec<usize> {
    let capacity = |s: &teff_graph::plan::State| match s.kind {
        StateKind::Kv { capacity, .. } => Some(capacity),
        _ => None,
    };
    plan.states.iter().filter_map(capacity).collect()
}

#[test]
fn rings_give_the_bits_of_full_caches() {
    let text = tokens(1, 190, 50);
    for window in [1, 2, 5, 16, 48, 62, 63, 64, 65, 100] {
        let model = model(&[2, 0], |l| {
            if l.experts().is_none() {
                windows(window)(l);
            }
        });
        // Of a context of 190, a cache has all of it.
        let (mut room, mut ring_room) = (Room::default(), Room::default());
        let mut full = model.runner(&mut room, &options(190, 190), Cpu::best(), (1, 1));
        assert_eq!(capacities(full.plan()), [192, 192]);
        let want = all_logits(&mut full, &text, 190);
        for batch in [1, 3, 20, 64] {
            let o = options(batch, 1000);
            let mut ring = model.runner(&mut ring_room, &o, Cpu::best(), (1, 1));
            let [capacity, all] = capacities(ring.plan())[..] else { panic!() };
            assert!(capacity >= window as usize + batch && capacity < 256 && all == 1024);
            assert_eq!(all_logits(&mut ring, &text, batch), want, "window {window}, batch {batch}");
        }
    }
}

#[test]
fn gemma_3_1b_takes_a_quarter_of_the_memory_with_rings() {
    let spec = gemma3::gemma3_1b();
    let state = |spec: &Spec<'_>| {
        let plan = Plan::build(spec, &|_| Format::BF16, &options(512, 8192), &Scalar).unwrap();
        plan.memory_requirements.state
    };
    // Keys and values of one head of 256 elements of two bytes: 1024 bytes for each position.
    let (full, ring) = (8192 * 1024, (512 + 512) * 1024);
    assert_eq!(state(&spec), 4 * full + 22 * ring + 64);
    assert_eq!(state(&spec), 56_623_168);
    let without = with_attention(&spec, |a| a.window = None);
    assert_eq!(state(&without), 26 * full + 64);
    assert_eq!(state(&without), 218_103_872);
}

#[test]
fn lfm2_1_2b_takes_two_banks_of_two_tokens_for_each_convolution() {
    let spec = lfm2::lfm2_1_2b();
    let plan = Plan::build(&spec, &|_| Format::BF16, &options(512, 8192), &Scalar).unwrap();
    // 6 layers of 8 heads of 64 elements of two bytes, keys and values; 10 of 2 x 2 x 2048 floats.
    let (kv, conv) = (8192 * 8 * 64 * 2 * 2, 2 * 2 * 2048 * 4);
    assert_eq!(plan.memory_requirements.state, 6 * kv + 10 * conv + 64);
}

#[test]
fn a_ring_goes_back_as_far_as_it_holds_the_window() {
    let model = model(&[2], windows(5));
    let text = tokens(2, 130, 50);
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options(8, 1000), Cpu::best(), (1, 1));
    assert_eq!(capacities(runner.plan()), [64]);
    let want = all_logits(&mut runner, &text, 7);
    let row = want.len() / text.len();
    // Positions 66 to 129 are in the ring; the token after 70 of them is the first to see only those.
    assert_eq!(runner.position(ZERO), 130);
    for position in [1, 42, 69] {
        let error = TruncateError::NeedsCheckpoint { position, nearest: 0 };
        assert_eq!(runner.truncate(ZERO, position), Err(error));
        assert_eq!((runner.position(ZERO), runner.nearest(ZERO, position)), (130, 0));
    }
    for position in [130, 200] {
        assert_eq!(runner.truncate(ZERO, position), Ok(()));
        assert_eq!(runner.position(ZERO), 130);
    }
    for position in [129, 100, 70] {
        assert_eq!(runner.truncate(ZERO, position), Ok(()));
        assert_eq!(runner.position(ZERO), position);
        let again = all_logits(&mut runner, &text[position..], 3);
        assert_eq!(again, want[position * row..], "from {position}");
    }
    // A step that is cancelled has overwritten some.
    let segments = [Segment::new(&text[..8], LogitsFor::Last)];
    let cancelled = run_on(&mut runner, &segments, &CancelAt::new(0), 1);
    assert_eq!(cancelled, Err(StepError::Cancelled));
    let nearest = runner.nearest(ZERO, 77);
    assert_eq!((nearest, runner.nearest(ZERO, 78)), (0, 78));
    assert_eq!(runner.truncate(ZERO, 78), Ok(()));
    assert_eq!(all_logits(&mut runner, &text[78..], 8), want[78 * row..]);
    // Position 0 can always be gone back to.
    assert_eq!(runner.truncate(ZERO, 0), Ok(()));
    assert_eq!(all_logits(&mut runner, &text, 8), want);
    let unknown = TruncateError::NoSequence { sequence: 1, sequences: 1 };
    assert_eq!(runner.truncate(SequenceId(1), 0), Err(unknown));
}

#[test]
fn a_cancelled_step_changes_nothing_wherever_it_stops() {
    let model = model(&[0, 1, 2, 3], unchanged);
    let text = tokens(3, 40, 50);
    let mut rooms = [(); 3].map(|()| Room::default());
    let [a, b, c] = &mut rooms;
    let o = options(40, 1000);
    let want = all_logits(&mut model.runner(a, &o, Cpu::best(), (1, 1)), &text, 40);
    let row = want.len() / text.len();
    let mut base = model.runner(b, &o, Cpu::best(), (1, 1));
    all_logits(&mut base, &text[..20], 20);
    let mut runner = model.runner(c, &o, Cpu::best(), (2, 1));
    for (threads, step) in [(1, 1), (2, 7)] {
        let mut checks = 0;
        loop {
            runner.copy_from(ZERO, &base, ZERO).unwrap();
            let segments = [Segment::new(&text[20..], LogitsFor::All)];
            let done = run_on(&mut runner, &segments, &CancelAt::new(checks), threads);
            let got = match done {
                Ok(got) => got,
                Err(e) => {
                    assert_eq!((e, runner.position(ZERO)), (StepError::Cancelled, 20));
                    run_on(&mut runner, &segments, &NeverCancel, threads).unwrap()
                }
            };
            assert_eq!(bits(&got), want[20 * row..], "{checks} checks, {threads} threads");
            checks += step;
            if done_without_cancel(&mut runner, &base, &segments, checks, threads) {
                break;
            }
        }
        assert!(checks > 40, "{checks}");
    }
}

/// True if a step ends before so many checks.
fn done_without_cancel(
    runner: &mut Runner<'_, Cpu>,
    base: &Runner<'_, Cpu>,
    segments: &[Segment<'_>],
    checks: usize,
    threads: usize,
) -> bool {
    runner.copy_from(ZERO, base, ZERO).unwrap();
    run_on(runner, segments, &CancelAt::new(checks), threads).is_ok()
}

/// A worker whose team breaks in its first phase.
struct Breaks(usize);

// SAFETY: nothing can be claimed, and no phase is ever over.
unsafe impl Team for Breaks {
    fn rank(&self) -> usize {
        self.0
    }
    fn size(&self) -> usize {
        3
    }
    fn id(&self) -> NonZeroUsize {
        NonZeroUsize::MAX
    }
    fn phase(&self) -> u32 {
        0
    }
    unsafe fn claim(&self, _: u32, _: &Work) -> Range<usize> {
        0..0
    }
    unsafe fn finish(&self, _: u32, _: usize, _: usize) -> Result<Option<u32>, Broken> {
        if self.0 == 2 { Ok(None) } else { Err(Broken) }
    }
}

/// A worker of a team that is in a later phase, of another step.
struct Elsewhere;

// SAFETY: as above.
unsafe impl Team for Elsewhere {
    fn id(&self) -> NonZeroUsize {
        NonZeroUsize::MAX
    }
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        3
    }
    fn phase(&self) -> u32 {
        1000
    }
    unsafe fn claim(&self, _: u32, _: &Work) -> Range<usize> {
        0..0
    }
    unsafe fn finish(&self, _: u32, _: usize, _: usize) -> Result<Option<u32>, Broken> {
        Err(Broken)
    }
}

/// Progress shared by two workers, of which one does everything before the other goes on.
#[derive(Default)]
struct Board {
    phase: Cell<u32>,
    /// Operations of which all items were claimed.
    claimed: Cell<u32>,
}

/// A worker of a team with a [`Board`].
struct Late<'a> {
    rank: usize,
    /// True if it read the number of the first phase and was put aside then.
    asleep: Cell<bool>,
    board: &'a Board,
}

// SAFETY: all workers are of one thread; an operation's items are claimed once, all of them, and the one
// that did them ends the phase.
unsafe impl Team for Late<'_> {
    fn id(&self) -> NonZeroUsize {
        NonZeroUsize::MAX
    }
    fn rank(&self) -> usize {
        self.rank
    }
    fn size(&self) -> usize {
        2
    }
    fn phase(&self) -> u32 {
        if self.asleep.take() { 0 } else { self.board.phase.get() }
    }
    unsafe fn claim(&self, op: u32, work: &Work) -> Range<usize> {
        if op < self.board.claimed.get() {
            return 0..0;
        }
        self.board.claimed.set(op + 1);
        0..work.items
    }
    unsafe fn finish(&self, phase: u32, done: usize, all: usize) -> Result<Option<u32>, Broken> {
        if phase == self.board.phase.get() && done == all {
            self.board.phase.set(phase + 1);
        }
        Ok(Some(self.board.phase.get()))
    }
}

#[test]
fn a_worker_that_comes_after_the_end_is_no_error() {
    let model = model(&[1, 0], unchanged);
    let text = tokens(4, 10, 50);
    let mut room = Room::default();
    let o = options(20, 100);
    let want = all_logits(&mut model.runner(&mut room, &o, Cpu::best(), (1, 1)), &text, 20);
    let mut runner = model.runner(&mut room, &o, Cpu::best(), (2, 1));
    let segments = [Segment::new(&text, LogitsFor::All)];
    let running = runner.begin(&Step { segments: &segments, cancel: &NeverCancel }).unwrap();
    let board = Board::default();
    let worker = |rank, asleep| Late { rank, asleep: Cell::new(asleep), board: &board };
    assert_eq!(running.walk(&worker(0, false)), Ok(()));
    assert_eq!(running.walk(&worker(1, true)), Ok(()));
    assert_eq!(running.walk(&worker(1, false)), Ok(()));
    let rows = running.commit().unwrap();
    assert_eq!(bits(runner.logits(rows)), want);
}

#[test]
fn a_step_counts_when_all_of_it_is_computed() {
    let model = model(&[1, 0], unchanged);
    let text = tokens(4, 20, 50);
    let mut room = Room::default();
    let o = options(20, 100);
    let want = all_logits(&mut model.runner(&mut room, &o, Cpu::best(), (1, 1)), &text, 20);
    let mut runner = model.runner(&mut room, &o, Cpu::best(), (3, 1));
    let segments = [Segment::new(&text[..10], LogitsFor::All)];
    let step = Step { segments: &segments, cancel: &NeverCancel };
    let team = |got| Err(StepError::Team { max: 3, got });
    // Nobody has walked.
    assert_eq!(runner.begin(&step).unwrap().commit(), Err(StepError::Unfinished));
    // A team that has done another step in this run.
    let running = runner.begin(&step).unwrap();
    assert_eq!(running.walk(&Elsewhere), team(3));
    assert_eq!(running.commit(), Err(StepError::Unfinished));
    // A worker that doesn't come far.
    let running = runner.begin(&step).unwrap();
    assert_eq!(running.walk(&Breaks(0)), Err(StepError::Broken(Broken)));
    // One that left for now, any number of times.
    assert_eq!(running.walk(&Breaks(2)), Ok(()));
    assert_eq!(running.walk(&Breaks(2)), Ok(()));
    // The step is that team's.
    assert_eq!(running.walk(&Solo), team(1));
    assert_eq!(running.commit(), Err(StepError::Unfinished));
    // All of it is computed, once, but not committed.
    let running = runner.begin(&step).unwrap();
    assert_eq!(running.wanted(), 10);
    running.walk(&Solo).unwrap();
    assert_eq!(running.walk(&Solo), team(1));
    assert_eq!(running.walk(&Breaks(0)), team(3));
    drop(running);
    assert_eq!(runner.position(ZERO), 0);
    let got = all_logits(&mut runner, &text[..10], 10);
    assert_eq!(runner.position(ZERO), 10);
    let running = runner.begin(&step).unwrap();
    running.walk(&Solo).unwrap();
    drop(running);
    assert_eq!(runner.position(ZERO), 10);
    let rest = all_logits(&mut runner, &text[10..], 10);
    assert_eq!([got, rest].concat(), want);
}

#[test]
fn a_fixed_state_goes_back_one_step_and_no_further() {
    let model = model(&[1, 0], unchanged);
    let text = tokens(5, 30, 50);
    let mut room = Room::default();
    let o = options(30, 100);
    let want = all_logits(&mut model.runner(&mut room, &o, Cpu::best(), (1, 1)), &text, 30);
    let row = want.len() / text.len();
    let mut runner = model.runner(&mut room, &o, Cpu::best(), (1, 1));
    for range in [0..7, 7..12, 12..15] {
        all_logits(&mut runner, &text[range], 30);
    }
    for position in [13, 14] {
        let error = TruncateError::NeedsCheckpoint { position, nearest: 12 };
        assert_eq!(runner.truncate(ZERO, position), Err(error));
    }
    for position in [7, 11] {
        let error = TruncateError::NeedsCheckpoint { position, nearest: 0 };
        assert_eq!(runner.truncate(ZERO, position), Err(error));
    }
    assert_eq!(runner.position(ZERO), 15);
    assert_eq!(runner.truncate(ZERO, 12), Ok(()));
    assert_eq!(runner.nearest(ZERO, 11), 0);
    assert_eq!(all_logits(&mut runner, &text[12..], 30), want[12 * row..]);
    // A step that is cancelled has written over the state before it.
    let segments = [Segment::new(&text[..1], LogitsFor::None)];
    assert_eq!(runner.nearest(ZERO, 29), 12);
    assert!(run_on(&mut runner, &segments, &CancelAt::new(3), 1).is_err());
    assert_eq!((runner.nearest(ZERO, 29), runner.nearest(ZERO, 30)), (0, 30));
    assert_eq!(runner.truncate(ZERO, 0), Ok(()));
    assert_eq!(all_logits(&mut runner, &text, 4), want);
}

#[test]
fn checkpoints_take_a_sequence_back() {
    let model = model(&[0, 1, 2, 3], unchanged);
    let text = tokens(6, 150, 50);
    let mut room = Room::default();
    let o = options(10, 160);
    let mut runner = model.runner(&mut room, &o, Cpu::best(), (1, 2));
    let mut checkpoints = vec![(0, saved(|f| runner.checkpoint(ZERO, f)))];
    let mut want = vec![];
    for (i, part) in text.chunks(10).enumerate() {
        want.extend(all_logits(&mut runner, part, 10));
        // Another sequence grows beside it.
        feed(&mut runner, 1, &text[i..i + 3]);
        checkpoints.push((runner.position(ZERO), saved(|f| runner.checkpoint(ZERO, f))));
    }
    let row = want.len() / text.len();
    let (last, bytes) = checkpoints.last().unwrap();
    let error = RestoreError::Size { needed: bytes.len(), got: bytes.len() - 1 };
    assert_eq!(runner.rewind(ZERO, *last, &bytes[1..]), Err(error));
    let error = RestoreError::Position { position: 151, most: 150 };
    assert_eq!(runner.rewind(ZERO, 151, bytes), Err(error));
    let error = RestoreError::NoSequence { sequence: 2, sequences: 2 };
    assert_eq!(runner.rewind(SequenceId(2), *last, bytes), Err(error));
    for (position, bytes) in checkpoints.iter().rev() {
        assert_eq!(bytes.len(), runner.checkpoint_bytes(*position));
        runner.rewind(ZERO, *position, bytes).unwrap();
        assert_eq!(runner.position(ZERO), *position);
        let part = &text[*position..150.min(position + 30)];
        let got = all_logits(&mut runner, part, 7);
        assert_eq!(got, want[position * row..(position + part.len()) * row], "from {position}");
    }
    // Less is kept than of the whole text, and nothing where every layer can go back.
    assert!(runner.checkpoint_bytes(150) < runner.snapshot_bytes(150) / 4);
    let model = common::draw::everything();
    let full = Spec { layers: layers(&[*model.layers.get(0)]), ..model };
    let model = Model::new(full, |_| Format::F32);
    let runner = model.runner(&mut room, &o, Cpu::best(), (1, 1));
    assert_eq!(runner.checkpoint_bytes(150), 0);
}

#[test]
fn snapshots_go_from_plan_to_plan() {
    let text = tokens(7, 190, 50);
    // A window of 63 and one more token fill the ring; those of 62 to 65 are about as tight.
    for window in [11, 48, 62, 63, 64, 65] {
        let model = model(&[0, 1, 2], |l| {
            if !l.norms.post {
                windows(window)(l);
            }
        });
        let mut room = Room::default();
        let want = {
            let mut runner = model.runner(&mut room, &options(190, 190), Cpu::best(), (1, 1));
            all_logits(&mut runner, &text, 190)
        };
        let row = want.len() / text.len();
        let mut rooms = [(); 4].map(|()| Room::default());
        let shapes = [(1, 200, 1), (2, 1024, 2), (7, 190, 3), (150, 192, 1)];
        let mut runners: Vec<Runner<'_, Cpu>> = rooms
            .iter_mut()
            .zip(shapes)
            .map(|(room, (batch, context, threads))| {
                model.runner(room, &options(batch, context), Cpu::best(), (threads, 2))
            })
            .collect();
        for at in [0, 1, 63, 64, 77, 80, 140] {
            let mut all = vec![];
            for (runner, (batch, ..)) in runners.iter_mut().zip(shapes) {
                runner.truncate(ZERO, 0).unwrap();
                all_logits(runner, &text[..at], batch);
                let snapshot = saved(|f| runner.snapshot(ZERO, f));
                assert_eq!(snapshot.len(), runner.snapshot_bytes(at));
                all.push(snapshot);
            }
            for (i, snapshot) in all.iter().enumerate() {
                for (runner, (batch, _, threads)) in runners.iter_mut().zip(shapes) {
                    let one = SequenceId(1);
                    runner.restore(one, at, snapshot).unwrap();
                    assert_eq!(runner.position(one), at);
                    let mut got = vec![];
                    for tokens in text[at..at + 40].chunks(batch) {
                        let segments = [Segment { sequence: one, tokens, logits: LogitsFor::All }];
                        let logits = run_on(runner, &segments, &NeverCancel, threads).unwrap();
                        got.extend(bits(&logits));
                    }
                    let what = "window, position, from, to batch";
                    let want = &want[at * row..(at + 40) * row];
                    assert!(got == want, "{what}: {window}, {at}, {:?}, {batch}", shapes[i]);
                }
            }
        }
        let snapshot = saved(|f| runners[0].snapshot(ZERO, f));
        let (needed, got) = (snapshot.len(), snapshot.len() + 1);
        let long = [&snapshot[..], &[0]].concat();
        assert_eq!(runners[1].restore(ZERO, 140, &long), Err(RestoreError::Size { needed, got }));
        let error = RestoreError::Position { position: 191, most: 190 };
        assert_eq!(runners[2].restore(ZERO, 191, &snapshot), Err(error));
    }
}

#[test]
fn a_restored_ring_goes_back_to_where_it_was_restored() {
    let model = model(&[2], windows(11));
    let text = tokens(8, 150, 50);
    let mut rooms = [(); 2].map(|()| Room::default());
    let [a, b] = &mut rooms;
    let mut ring = model.runner(a, &options(5, 1000), Cpu::best(), (1, 1));
    let want = all_logits(&mut ring, &text, 5);
    let row = want.len() / text.len();
    // The ring holds positions from 86 on; what is saved at 96 begins with the panel from 80 on.
    ring.truncate(ZERO, 96).unwrap();
    let snapshot = saved(|f| ring.snapshot(ZERO, f));
    let mut full = model.runner(b, &options(150, 150), Cpu::best(), (1, 1));
    full.restore(ZERO, 96, &snapshot).unwrap();
    assert_eq!(all_logits(&mut full, &text[96..], 50), want[96 * row..]);
    assert_eq!((full.nearest(ZERO, 95), full.nearest(ZERO, 96)), (0, 96));
    full.truncate(ZERO, 96).unwrap();
    assert_eq!(all_logits(&mut full, &text[96..], 1), want[96 * row..]);
}

#[test]
fn copies_go_on_by_themselves() {
    let model = model(&[0, 1, 2, 3], unchanged);
    let text = tokens(9, 100, 50);
    let other = tokens(10, 100, 50);
    let mut rooms = [(); 3].map(|()| Room::default());
    let [a, b, c] = &mut rooms;
    let o = options(10, 120);
    let mut first = model.runner(a, &o, Cpu::best(), (1, 1));
    let mut second = model.runner(b, &o, Scalar, (1, 3));
    all_logits(&mut first, &text[..75], 10);
    second.copy_from(SequenceId(2), &first, ZERO).unwrap();
    assert_eq!(second.position(SequenceId(2)), 75);
    // Another text in the copy, the same one in the first.
    let fork = feed(&mut second, 2, &other[..10]);
    let rest = all_logits(&mut first, &text[75..], 10);
    let both = [&text[..75], &other[..10]].concat();
    assert_eq!(bits(&fork), bits(&model.alone(&o, &both, 85)[84 * 50..]));
    let want = bits(&model.alone(&o, &text, 100));
    assert_eq!(rest, want[75 * 50..]);
    let error = RestoreError::NoSequence { sequence: 1, sequences: 1 };
    assert_eq!(second.copy_from(ZERO, &first, SequenceId(1)), Err(error));
    let unlike = model.runner(c, &options(10, 119), Cpu::best(), (1, 1));
    assert!(matches!(second.copy_from(ZERO, &unlike, ZERO), Err(RestoreError::Size { .. })));
}

/// A matrix of F32 times a row.
fn matmul(w: &[f32], x: &[f32]) -> Vec<f32> {
    let (cols, rows) = (x.len(), w.len() / x.len());
    let bytes: Vec<u8> = w.iter().flat_map(|x| x.to_le_bytes()).collect();
    let w = Matrix::new(Format::F32, rows, cols, &bytes).unwrap();
    let mut out = vec![0.0; rows];
    let x = Activations::Dense(DenseActivations::new(x, 1, cols, cols));
    Scalar.matmul(&w, &x, 0..rows, &mut Tile::new(&mut out, 1, rows, rows), &mut []);
    out
}

/// A layer of plain attention, and no more than half a network.
fn plain(shared_kv: Option<u32>, window: Option<u32>) -> Layer {
    let spec = everything();
    let mut layer = *spec.layers.get(0);
    let Mixer::Attention(a) = layer.mixer else { panic!() };
    layer.mixer = Mixer::Attention(Attention {
        shared_kv,
        window,
        qkv_bias: false,
        out_bias: false,
        qk_norm: false,
        wide_norm: false,
        value_norm: false,
        keys_as_values: false,
        gate: false,
        head_gate: false,
        sub_norm: false,
        rope: None,
        ..a
    });
    let FeedForward::Dense(mut d) = spec.layers.get(1).ffn else { panic!() };
    (d.gated, d.bias, d.sub_norm) = (false, false, false);
    layer.ffn = FeedForward::Dense(d);
    layer.norms.post = false;
    layer.input = None;
    layer.scales = Scales { residual: 1.0, output: false };
    layer
}

/// Three layers, of which the last two read the keys and values of the first: the bits of the backend's
/// functions called one after another, token by token, with one cache.
#[test]
fn layers_share_keys_and_values() {
    let all = [plain(None, None), plain(Some(0), None), plain(Some(0), Some(6))];
    let (logit_divisor, logit_cap, per_layer) = (1.0, None, None);
    let spec = Spec { layers: layers(&all), logit_divisor, logit_cap, per_layer, ..everything() };
    let model = Model::new(spec.clone(), |_| Format::F32);
    let (heads, kv_heads, d, width) = (4, 2, 16, 64);
    let format = KvFormat::F16;
    let layout = KvLayout { format, head_dim: d, capacity: 64 };
    // In words, so that they are aligned.
    let new = |bytes: usize| vec![0f32; bytes.div_ceil(4)];
    let mut keys = [(); 2].map(|()| new(layout.key_bytes()));
    let mut values = [(); 2].map(|()| new(layout.value_bytes()));
    fn bytes(x: &mut [f32], len: usize) -> &mut [u8] {
        // SAFETY: the bytes of these floats.
        let all = unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len() * 4) };
        &mut all[..len]
    }
    let text = tokens(11, 30, 50);
    let mut want = vec![];
    for (t, &token) in text.iter().enumerate() {
        let row = |role, i: usize| model.values(role)[i * width..][..width].to_vec();
        let mut x = row(Role::TokenEmbd, token as usize);
        Scalar.scale(&mut x, spec.embed.scale);
        Scalar.add(&mut x, &row(Role::PositionEmbd, t));
        for (l, layer) in all.iter().enumerate() {
            let weights = |role| model.values(Role::Layer(l as u32, role));
            let a = layer.attention().unwrap();
            let mut h = vec![0.0; width];
            let eps = layer.norms.before.eps;
            Scalar.rms_norm(&x, &weights(L::AttnNorm), eps, &mut h);
            let q = matmul(&weights(L::AttnQ), &h);
            if l == 0 {
                let (k, v) = (matmul(&weights(L::AttnK), &h), matmul(&weights(L::AttnV), &h));
                for i in 0..kv_heads {
                    let keys = bytes(&mut keys[i], layout.key_bytes());
                    Scalar.store_key(&layout, keys, t, &k[i * d..][..d]);
                    let values = bytes(&mut values[i], layout.value_bytes());
                    Scalar.store_value(&layout, values, t, &v[i * d..][..d]);
                }
            }
            let mut mixed = vec![0.0; heads * d];
            for i in 0..heads {
                let kv = i / (heads / kv_heads);
                let (k, v) = (layout.key_bytes(), layout.value_bytes());
                let kv = KvHead::new(layout, bytes(&mut keys[kv], k), bytes(&mut values[kv], v));
                let q = DenseActivations::new(&q[i * d..][..d], 1, d, d);
                let window = a.window.and_then(|w| NonZeroUsize::new(w as usize));
                let mut to = Tile::new(&mut mixed[i * d..][..d], 1, d, d);
                let params = AttentionParams { window, ..AttentionParams::new(a.scale) };
                Scalar.attend(&q, &kv, t, &params, &mut to);
            }
            Scalar.add(&mut x, &matmul(&weights(L::AttnOut), &mixed));
            Scalar.rms_norm(&x, &weights(L::FfnNorm), eps, &mut h);
            let mut inner = matmul(&weights(L::FfnUp), &h);
            Scalar.silu(&mut inner);
            Scalar.add(&mut x, &matmul(&weights(L::FfnDown), &inner));
        }
        let (weight, bias) = (model.values(Role::OutputNorm), model.values(Role::OutputNormBias));
        let mut h = vec![0.0; width];
        Scalar.layer_norm(&x, &weight, &bias, spec.norm.eps, &mut h);
        want.extend(bits(&matmul(&model.values(Role::Output), &h)));
    }
    let mut room = Room::default();
    for (batch, threads) in [(30, 1), (1, 2), (4, 3)] {
        let mut runner = model.runner(&mut room, &options(batch, 64), Cpu::best(), (threads, 1));
        assert_eq!(runner.plan().states.len(), 1);
        let mut got = vec![];
        for tokens in text.chunks(batch) {
            let segments = [Segment::new(tokens, LogitsFor::All)];
            got.extend(bits(&run_on(&mut runner, &segments, &NeverCancel, threads).unwrap()));
        }
        assert!(got == want, "batch {batch}, {threads} threads");
    }
}

/// A convolution of one tap has no state at all, and can't go back for all that: its layer says so.
#[test]
fn a_convolution_of_one_tap_has_an_empty_state() {
    let model = model(&[1], |l| {
        l.mixer = Mixer::ShortConv(ShortConv { taps: 1, bias: false, fine: false })
    });
    let text = tokens(12, 20, 50);
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options(20, 100), Cpu::best(), (1, 1));
    assert_eq!(runner.plan().memory_requirements.state, 64);
    let want = all_logits(&mut runner, &text, 20);
    runner.truncate(ZERO, 0).unwrap();
    assert_eq!(all_logits(&mut runner, &text, 3), want);
}
