//! Masks that take long: their text sits out of the steps, and no other.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use teff_runtime::Finish;
use teff_runtime::engine::{Constraint, ConstraintError, Engine, Event, PAGE, Request};

use crate::common::{PATIENCE, engine, model, one, options, prompt, read, settled, tokens};

/// Number of masks that may be computed.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    fn open(&self, masks: usize) {
        *self.0.0.lock().expect("a gate") += masks;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let masks = self.0.0.lock().expect("a gate");
        let closed = |masks: &mut usize| *masks == 0;
        let (mut masks, late) =
            self.0.1.wait_timeout_while(masks, PATIENCE, closed).expect("a gate");
        assert!(!late.timed_out(), "a gate was never opened");
        *masks -= 1;
    }
}

/// Allows every fourth token, by turns. Each mask waits for the gate, if there is one.
#[derive(Clone)]
struct Slow {
    gate: Option<Gate>,
    at: usize,
    end: u32,
}

impl Slow {
    fn new(gate: Option<&Gate>) -> Box<Slow> {
        let end = model().tokenizer().expect("a tokenizer").eos().expect("an end");
        Box::new(Slow { gate: gate.cloned(), at: 0, end })
    }
}

impl Constraint for Slow {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        allowed.fill(0x1111_1111 << (self.at % 4));
        allowed[self.end as usize / 32] &= !(1 << (self.end % 32));
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        assert_eq!(token as usize % 4, self.at % 4);
        self.at += 1;
        Ok(())
    }

    fn is_complete(&mut self) -> bool {
        false
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// A request under such a constraint.
fn slow(seed: u32, n: usize, gate: Option<&Gate>) -> Request {
    Request::new(prompt(seed, 20), tokens(n)).with_constraint(Slow::new(gate))
}

fn tokens_of(engine: &Engine, request: Request) -> Vec<u32> {
    one(engine, request).tokens
}

#[test]
fn other_texts_go_on_while_a_mask_is_computed() {
    let engine = engine(options(), 12);
    let other = || Request::new(prompt(2, 20), tokens(60));
    let want = [slow(1, 12, None), other(), slow(3, 20, None)];
    let want = want.map(|request| tokens_of(&engine, request));
    let gate = Gate::default();
    let held = engine.submit(slow(1, 12, Some(&gate))).expect("a stream");
    // With its gate closed, others begin and end: without a constraint, and with one.
    assert_eq!(tokens_of(&engine, other()), want[1]);
    gate.open(3);
    assert_eq!(tokens_of(&engine, slow(3, 20, None)), want[2]);
    assert_eq!(tokens_of(&engine, other()), want[1]);
    assert!(!held.is_ended());
    gate.open(100);
    assert_eq!(read(held, 1)[0].tokens, want[0]);
    settled(&engine);
}

#[test]
fn choices_wait_each_for_its_own_mask() {
    let engine = engine(options(), 12);
    let want: Vec<_> = read(engine.submit(slow(1, 9, None).with_choices(3)).expect("a stream"), 3)
        .into_iter()
        .map(|text| text.tokens)
        .collect();
    let gate = Gate::default();
    let mut stream = engine.submit(slow(1, 9, Some(&gate)).with_choices(3)).expect("a stream");
    gate.open(27);
    let mut got = vec![Vec::new(); 3];
    while !stream.is_ended() {
        match stream.next_timeout(PATIENCE) {
            Some(Event::Piece { choice, piece }) => got[choice].extend(piece.tokens),
            Some(Event::Failed { error, .. }) => panic!("{error}"),
            _ => {}
        }
    }
    assert_eq!(got, want);
    settled(&engine);
}

#[test]
fn a_text_whose_mask_is_computed_can_be_cancelled_or_late() {
    let engine = engine(options(), 12);
    let gates = [Gate::default(), Gate::default()];
    let cancelled = engine.submit(slow(1, 12, Some(&gates[0]))).expect("a stream");
    let late = slow(4, 12, Some(&gates[1])).with_deadline(Duration::from_millis(20));
    assert_eq!(one(&engine, late).end, Ok(Finish::Deadline));
    drop(cancelled);
    // All is given back, though both masks are still at work.
    settled(&engine);
    assert_eq!(one(&engine, slow(3, 5, None)).end, Ok(Finish::Length));
    gates.iter().for_each(|gate| gate.open(1));
    settled(&engine);
}

#[test]
fn masks_of_texts_that_have_ended_are_not_kept() {
    let engine = engine(options(), 12);
    let gate = Gate::default();
    for seed in 0..12 {
        let mut stream = engine.submit(slow(seed, 12, Some(&gate))).expect("a stream");
        // Its first logits are there then, and its mask is wanted.
        while !matches!(stream.next_timeout(PATIENCE), Some(Event::Prompt { .. })) {
            assert!(!stream.is_ended());
        }
        drop(stream);
        settled(&engine);
    }
    // One for each thread at most, and this one.
    let kept = Arc::strong_count(&gate.0);
    assert!(kept <= 5, "{kept}");
    gate.open(4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whenever masks are done, and whoever is pushed out meanwhile, texts are what they are alone.
    #[test]
    fn texts_do_not_depend_on_when_masks_are_done(
        lens in prop::collection::vec((0u32..3, 1usize..90, any::<bool>()), 1..6),
        opens in prop::collection::vec(1usize..20, 1..12),
        pages in 2usize..5, sequences in 1usize..5,
    ) {
        let options = options().with_context(2 * PAGE).with_sequences(sequences);
        let alone = engine(options, 2);
        let company = engine(options, pages);
        let gate = Gate::default();
        let ask = |&(seed, n, constrained): &(u32, usize, bool), gate| match constrained {
            true => slow(seed, n, gate),
            false => Request::new(prompt(seed, 20), tokens(n)),
        };
        let want: Vec<_> = lens.iter().map(|len| tokens_of(&alone, ask(len, None))).collect();
        let streams: Vec<_> =
            lens.iter().map(|len| company.submit(ask(len, Some(&gate))).unwrap()).collect();
        let opener = std::thread::spawn(move || {
            for masks in opens {
                gate.open(masks);
                std::thread::yield_now();
            }
            gate.open(1000);
        });
        for (stream, want) in streams.into_iter().zip(want) {
            prop_assert_eq!(&read(stream, 1)[0].tokens, &want);
        }
        opener.join().unwrap();
        settled(&company);
    }
}
