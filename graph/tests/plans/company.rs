//! A sequence's logits don't depend on its company: other sequences of the step, cuts of its tokens
//! into steps, threads, backends, cancelled steps, going back.

#![cfg(feature = "alloc")]

use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;
use teff_graph::{
    LogitsFor, NeverCancel, Options, Outputs, Runner, Segment, SequenceId, StepError, TruncateError,
};
use teff_kernels::{Cpu, KV_BLOCK, KvFormat};

use crate::common::draw::{CONTEXT, any_kv, any_spec, format_of};
use crate::common::{self, CancelAt, Model, Room, backends, bits, cases, run_on, tokens};

/// Numbers of sequences, of which as many are drawn as there are: 60 is a multiple of 1 to 5.
const SEQUENCES: Range<usize> = 0..60;

/// Some tokens of a sequence.
#[derive(Clone, Debug)]
struct Cut {
    sequence: usize,
    tokens: usize,
    logits: LogitsFor,
}

/// Something that happens to the sequences of a runner.
#[derive(Clone, Debug)]
enum Event {
    /// A step on so many threads, which is cancelled at a check first where there is one.
    Step { cuts: Vec<Cut>, threads: usize, cancel: Option<usize> },
    /// A sequence goes back to a position, if it can.
    Truncate { sequence: usize, position: usize },
    /// A sequence is saved: a checkpoint, or a snapshot.
    Save { sequence: usize, checkpoint: bool },
    /// A sequence goes back to where it was saved.
    Load { sequence: usize },
    /// A sequence becomes a copy of another one, text and all.
    Fork { from: usize, to: usize },
}

fn any_cut() -> impl Strategy<Value = Cut> {
    let logits = prop_oneof![Just(LogitsFor::None), Just(LogitsFor::Last), Just(LogitsFor::All)];
    let tokens = prop_oneof![3 => 1usize..4, 2 => 1usize..40, 1 => Just(CONTEXT as usize)];
    (SEQUENCES, tokens, logits).prop_map(|(sequence, tokens, logits)| Cut {
        sequence,
        tokens,
        logits,
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let cancel = prop::option::weighted(0.3, prop_oneof![0usize..20, 0usize..300]);
    let step = (prop::collection::vec(any_cut(), 1..6), 1usize..=3, cancel)
        .prop_map(|(cuts, threads, cancel)| Event::Step { cuts, threads, cancel });
    let truncate = (SEQUENCES, 0usize..1000)
        .prop_map(|(sequence, position)| Event::Truncate { sequence, position });
    let save = (SEQUENCES, any::<bool>())
        .prop_map(|(sequence, checkpoint)| Event::Save { sequence, checkpoint });
    let load = SEQUENCES.prop_map(|sequence| Event::Load { sequence });
    let fork = (SEQUENCES, SEQUENCES).prop_map(|(from, to)| Event::Fork { from, to });
    prop_oneof![10 => step, 2 => truncate, 1 => save, 1 => load, 1 => fork]
}

prop_compose! {
    /// Lengths of texts: most are short, some go round in a ring.
    fn any_lengths()(
        lengths in prop::collection::vec(prop_oneof![3 => 1usize..24, 1 => 1..=CONTEXT as usize], 1..6)
    ) -> Vec<usize> {
        lengths
    }
}

/// A sequence, its text, its logits alone, and what was saved of it.
struct Sequence {
    id: SequenceId,
    tokens: Vec<u32>,
    /// Bits, a row for each token.
    want: Vec<u32>,
    vocab: usize,
    saved: Option<(usize, bool, Vec<u8>)>,
}

impl Sequence {
    fn rows(&self, rows: Range<usize>) -> &[u32] {
        &self.want[rows.start * self.vocab..rows.end * self.vocab]
    }
}

/// The sequences of one runner.
struct Company<'a, 'm> {
    runner: &'a mut Runner<'m, Cpu>,
    sequences: Vec<Sequence>,
    /// Number that decides which free page is taken.
    dice: u64,
}

impl Company<'_, '_> {
    fn position(&self, s: usize) -> usize {
        self.runner.position(self.sequences[s].id)
    }

    /// The cuts as far as there are tokens, room in the batch, and room for logits: sequence, tokens
    /// and wanted rows of each.
    fn fit(&self, cuts: &[Cut]) -> Vec<(usize, Range<usize>, LogitsFor)> {
        let options = self.runner.plan().options;
        let (mut batch, mut rows) = (options.batch, options.logits);
        let mut all: Vec<(usize, Range<usize>, LogitsFor)> = vec![];
        for cut in cuts {
            let s = cut.sequence % self.sequences.len();
            let position = self.position(s);
            let n = cut.tokens.min(self.sequences[s].tokens.len() - position).min(batch);
            if n == 0 || all.iter().any(|a| a.0 == s) {
                continue;
            }
            let logits = match cut.logits {
                LogitsFor::All if n > rows => LogitsFor::Last,
                logits => logits,
            };
            let logits = if logits.rows(n) > rows { LogitsFor::None } else { logits };
            (batch, rows) = (batch - n, rows - logits.rows(n));
            all.push((s, position..position + n, logits));
        }
        all
    }

    /// A page that no sequence uses.
    fn free_page(&mut self) -> u32 {
        let free = |page: &u32| self.runner.page_users(*page) == 0;
        let free: Vec<u32> = (0..self.runner.pages() as u32).filter(free).collect();
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        free[(self.dice >> 33) as usize % free.len()]
    }

    /// Gives a sequence pages for the positions up to `end`, of which those from `from` on are its own.
    fn pages_for(&mut self, s: usize, from: usize, end: usize) {
        if self.runner.pages() == 0 {
            return;
        }
        let (id, needed) = (self.sequences[s].id, end.div_ceil(KV_BLOCK));
        for entry in from / KV_BLOCK..needed.min(self.runner.pages_of(id).len()) {
            let page = self.runner.pages_of(id)[entry];
            if self.runner.page_users(page) > 1 {
                let own = self.free_page();
                self.runner.own_page(id, entry, own).unwrap();
            }
        }
        while self.runner.pages_of(id).len() < needed {
            let page = self.free_page();
            self.runner.map_page(id, page).unwrap();
        }
    }

    /// A sequence without enough pages, or with another one's, can't be computed.
    fn refuses(&mut self, segments: &[(usize, Range<usize>, LogitsFor)]) {
        for (s, tokens, _) in segments {
            let Sequence { id, tokens: all, .. } = &self.sequences[*s];
            let table = self.runner.pages_of(*id);
            let needed = tokens.end.div_ceil(KV_BLOCK);
            let shared = |page: &&u32| self.runner.page_users(**page) > 1;
            let want = match table.get(tokens.start / KV_BLOCK..needed) {
                None => StepError::NoPages { sequence: id.0, needed, got: table.len() },
                Some(written) => match written.iter().find(shared) {
                    Some(&page) => StepError::SharedPage { sequence: id.0, page },
                    None => continue,
                },
            };
            let one =
                [Segment { sequence: *id, tokens: &all[tokens.clone()], logits: LogitsFor::None }];
            let got = run_on(self.runner, &one, &NeverCancel, 1);
            assert_eq!(got, Err(want));
        }
    }

    fn step(&mut self, cuts: &[Cut], threads: usize, cancel: Option<usize>) {
        let cuts = self.fit(cuts);
        if cuts.is_empty() {
            return;
        }
        if self.runner.pages() > 0 {
            self.refuses(&cuts);
        }
        for (s, tokens, _) in &cuts {
            self.pages_for(*s, tokens.start, tokens.end);
        }
        let segment = |(s, tokens, logits): &(usize, Range<usize>, LogitsFor)| {
            let Sequence { id, tokens: all, .. } = &self.sequences[*s];
            Segment { sequence: *id, tokens: &all[tokens.clone()], logits: *logits }
        };
        let segments: Vec<Segment<'_>> = cuts.iter().map(segment).collect();
        let first = match cancel {
            Some(n) => run_on(self.runner, &segments, &CancelAt::new(n), threads),
            None => Err(StepError::Cancelled),
        };
        let got = match first {
            Err(StepError::Cancelled) => {
                for (s, tokens, _) in &cuts {
                    assert_eq!(self.position(*s), tokens.start, "a cancelled step doesn't count");
                }
                run_on(self.runner, &segments, &NeverCancel, threads).unwrap()
            }
            first => first.unwrap(),
        };
        let mut want = vec![];
        for (s, tokens, logits) in &cuts {
            assert_eq!(self.position(*s), tokens.end);
            let rows = logits.rows(tokens.len());
            want.extend_from_slice(self.sequences[*s].rows(tokens.end - rows..tokens.end));
        }
        assert_eq!(bits(&got), want, "steps of {cuts:?}");
    }

    fn truncate(&mut self, s: usize, to: usize) {
        let (id, now) = (self.sequences[s].id, self.position(s));
        let position = to % (now + 1);
        let nearest = self.runner.nearest(id, position);
        assert!(nearest <= position);
        let got = self.runner.truncate(id, position);
        if nearest == position {
            assert_eq!(got, Ok(()));
            assert_eq!(self.position(s), position);
            if to.is_multiple_of(2) {
                self.runner.unmap_pages(id, position.div_ceil(KV_BLOCK)).unwrap();
            }
        } else {
            assert_eq!(got, Err(TruncateError::NeedsCheckpoint { position, nearest }));
            assert_eq!(self.position(s), now);
        }
    }

    fn save(&mut self, s: usize, checkpoint: bool) {
        let (id, position) = (self.sequences[s].id, self.position(s));
        let mut bytes = vec![];
        let keep = |part: &[u8]| bytes.extend_from_slice(part);
        let size = match checkpoint {
            true => {
                self.runner.checkpoint(id, keep);
                self.runner.checkpoint_bytes(position)
            }
            false => {
                self.runner.snapshot(id, keep);
                self.runner.snapshot_bytes(position)
            }
        };
        assert_eq!(bytes.len(), size);
        self.sequences[s].saved = Some((position, checkpoint, bytes));
    }

    fn load(&mut self, s: usize) {
        let (id, now) = (self.sequences[s].id, self.position(s));
        let Some((position, checkpoint, bytes)) = self.sequences[s].saved.take() else { return };
        let (position, bytes) = (&position, &bytes);
        if !checkpoint {
            self.pages_for(s, 0, *position);
            self.runner.restore(id, *position, bytes).unwrap();
        } else if *position <= now {
            self.runner.rewind(id, *position, bytes).unwrap();
        } else {
            assert!(self.runner.rewind(id, *position, bytes).is_err());
            return;
        }
        assert_eq!(self.position(s), *position);
    }

    fn fork(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let Sequence { id, tokens, want, .. } = &self.sequences[from];
        let (id, tokens, want) = (*id, tokens.clone(), want.clone());
        let target = &mut self.sequences[to];
        (target.tokens, target.want, target.saved) = (tokens, want, None);
        self.runner.fork(id, target.id).unwrap();
        assert_eq!(self.position(to), self.position(from));
    }

    fn happen(&mut self, event: &Event) {
        let index = |i: &usize| i % self.sequences.len();
        match event {
            Event::Step { cuts, threads, cancel } => self.step(cuts, *threads, *cancel),
            Event::Truncate { sequence, position } => self.truncate(index(sequence), *position),
            Event::Save { sequence, checkpoint } => self.save(index(sequence), *checkpoint),
            Event::Load { sequence } => self.load(index(sequence)),
            Event::Fork { from, to } => self.fork(index(from), index(to)),
        }
    }

    /// The rest of all texts.
    fn finish(&mut self) {
        while (0..self.sequences.len()).any(|s| self.position(s) < self.sequences[s].tokens.len()) {
            let all = self.sequences.len();
            let (tokens, logits) = (CONTEXT as usize, LogitsFor::Last);
            let cut = |sequence| Cut { sequence, tokens, logits };
            let unfinished = |s: &usize| self.position(*s) < self.sequences[*s].tokens.len();
            let cuts: Vec<Cut> = (0..all).filter(unfinished).map(cut).collect();
            self.step(&cuts, 2, None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..cases(32) })]

    #[test]
    fn bits_do_not_depend_on_the_company(
        spec in any_spec(), seed: u64, kv in any_kv(), lengths in any_lengths(),
        events in prop::collection::vec(any_event(), 0..24),
        batch in 1usize..40, logits in any::<Index>(), backend in any::<Index>(), single: bool,
        paged: bool,
    ) {
        let model = Model::new(spec.clone(), |id| format_of(&spec, id, seed));
        let context = CONTEXT as usize;
        let (logits, outputs) = (1 + logits.index(batch), Outputs::Logits);
        // All of them, and one to copy to.
        let pages = if paged { lengths.len() * context.div_ceil(KV_BLOCK) + 1 } else { 0 };
        let options = Options { batch, logits, context, kv, outputs, pages };
        let sequence = |(s, &n): (usize, &usize)| {
            let tokens = tokens(s as u32 + 1, n, spec.vocab);
            let want = bits(&model.alone(&options, &tokens, if single { 1 } else { n }));
            let (id, vocab) = (SequenceId(s as u16), spec.vocab as usize);
            Sequence { id, tokens, want, vocab, saved: None }
        };
        let sequences: Vec<Sequence> = lengths.iter().enumerate().map(sequence).collect();
        let backend = *backend.get(&backends());
        let mut room = Room::default();
        let mut runner = model.runner(&mut room, &options, backend, (3, sequences.len()));
        let mut company = Company { runner: &mut runner, sequences, dice: seed };
        for event in &events {
            company.happen(event);
        }
        company.finish();
    }
}

#[test]
fn steps_that_do_not_fit_are_errors() {
    let spec = teff_graph::Spec {
        vocab: 10,
        context: 64,
        width: 32,
        ..common::with_len(&teff_graph::family::gpt2::small(), 1)
    };
    let spec = common::with_attention(&spec, |a| (a.heads, a.kv_heads, a.head_dim) = (2, 2, 16));
    let spec = common::with_dense(&spec, |d| d.inner = 32);
    let model = Model::new(spec, |_| teff_kernels::Format::F32);
    let options = Options {
        batch: 8,
        logits: 3,
        context: 10,
        kv: KvFormat::F32,
        outputs: Outputs::Logits,
        pages: 0,
    };
    let mut room = Room::default();
    let mut runner = model.runner(&mut room, &options, Cpu::best(), (1, 2));
    let segment =
        |sequence, tokens, logits| Segment { sequence: SequenceId(sequence), tokens, logits };
    let (one, five, all, none) = ([1u32], [1u32; 5], LogitsFor::All, LogitsFor::None);
    let mut fails = |segments: &[Segment<'_>]| {
        let before = [0, 1].map(|s| runner.position(SequenceId(s)));
        let error = run_on(&mut runner, segments, &NeverCancel, 1).unwrap_err();
        assert_eq!(before, [0, 1].map(|s| runner.position(SequenceId(s))));
        error
    };
    assert_eq!(fails(&[]), StepError::Empty);
    assert_eq!(fails(&[segment(0, &one, all), segment(1, &[], all)]), StepError::Empty);
    let large = fails(&[segment(0, &five, none), segment(1, &five, none)]);
    assert_eq!(large, StepError::BatchTooLarge { max: 8, got: 10 });
    let rows = fails(&[segment(0, &one, all), segment(1, &five[..3], all)]);
    assert_eq!(rows, StepError::TooManyLogits { max: 3, got: 4 });
    assert_eq!(
        fails(&[segment(2, &one, all)]),
        StepError::NoSequence { sequence: 2, sequences: 2 }
    );
    let twice = fails(&[segment(1, &one, all), segment(1, &one, all)]);
    assert_eq!(twice, StepError::SequenceTwice { sequence: 1 });
    let twice = fails(&[segment(1, &one, all), segment(0, &one, all), segment(1, &one, none)]);
    assert_eq!(twice, StepError::SequenceTwice { sequence: 1 });
    let beyond = fails(&[segment(0, &one, all), segment(1, &one, all), segment(2, &one, all)]);
    assert_eq!(beyond, StepError::NoSequence { sequence: 2, sequences: 2 });
    let bad = fails(&[segment(0, &one, none), segment(1, &[3, 10], all)]);
    assert_eq!(bad, StepError::BadToken { token: 10, index: 1, vocab: 10 });
    for _ in 0..2 {
        run_on(&mut runner, &[segment(1, &five, none)], &NeverCancel, 1).unwrap();
    }
    let full =
        run_on(&mut runner, &[segment(0, &one, all), segment(1, &one, all)], &NeverCancel, 1);
    let error = StepError::ContextFull { context: 10, position: 10, tokens: 1 };
    assert_eq!(full, Err(error));
    assert_eq!(runner.position(SequenceId(0)), 0);
}
