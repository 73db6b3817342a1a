//! Constraints on generated text, over a whole model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::data;
use teff::runtime::engine::{Constraint, ConstraintError};
use teff::{Finish, Generate, Model, Sampling, SessionError, SessionOptions};

fn model() -> Model {
    Model::open(data("gpt2-Q8_0.gguf")).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions::default().with_threads(1)
}

const PROMPT: &str = "the cat";

/// One token in `every` of the vocabulary, others after each token; complete after `len`.
#[derive(Clone)]
struct Scattered {
    seed: u32,
    every: u32,
    len: usize,
    chosen: Vec<u32>,
    /// Tokens that may come if this many came before, and not earlier.
    only_from: Vec<(u32, usize)>,
    masks: Arc<AtomicUsize>,
}

impl Scattered {
    fn new(seed: u32, every: u32, len: usize) -> Scattered {
        Scattered { seed, every, len, chosen: vec![], only_from: vec![], masks: Arc::default() }
    }

    /// True if `token` may come after `chosen`.
    fn allows(&self, chosen: &[u32], token: u32) -> bool {
        if let Some((_, from)) = self.only_from.iter().find(|(t, _)| *t == token) {
            return chosen.len() >= *from;
        }
        let state = chosen.iter().fold(self.seed, |h, t| (h ^ t).wrapping_mul(0x9e37_79b1));
        let hash = (state ^ token).wrapping_mul(0x85eb_ca6b);
        (hash >> 7).is_multiple_of(self.every)
    }
}

impl Constraint for Scattered {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
        self.masks.fetch_add(1, Ordering::Relaxed);
        for (i, word) in allowed.iter_mut().enumerate() {
            let bit = |t: u32| u32::from(self.allows(&self.chosen, i as u32 * 32 + t)) << t;
            *word = (0..32).map(bit).sum();
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        assert!(self.allows(&self.chosen, token));
        self.chosen.push(token);
        Ok(())
    }

    fn is_complete(&mut self) -> bool {
        self.chosen.len() == self.len
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// Tokens and reason of a generation in a new session.
fn run(model: &Model, how: &Generate, constraint: &Scattered) -> (Vec<u32>, Option<Finish>) {
    let mut session = model.session(&options()).unwrap();
    let generation = session.generate(PROMPT, how).unwrap();
    let mut generation = generation.with_constraint(constraint.fork()).unwrap();
    let mut tokens = vec![];
    for piece in &mut generation {
        tokens.extend(piece.unwrap().tokens);
    }
    let finish = generation.finish();
    assert!(session.tokens().ends_with(&tokens));
    (tokens, finish)
}

#[test]
fn only_what_is_allowed_is_chosen_whatever_the_sampling() {
    let model = model();
    let plain = Sampling { temperature: 1.0, ..Sampling::greedy() };
    let samplings = [
        Sampling::greedy(),
        Sampling::default(),
        plain.with_temperature(3.0),
        plain.with_top_k(3),
        plain.with_top_p(0.3),
        plain.with_min_p(0.5).with_repeat_penalty(1.5, 64).with_presence_penalty(-2.0),
    ];
    for (i, sampling) in samplings.into_iter().enumerate() {
        for every in [2, 20, 150] {
            let how = Generate::default().with_sampling(sampling.with_seed(i as u64));
            // A bias rules nothing in.
            let how = (0..40).fold(how, |how, t| how.with_logit_bias(t * 7, 1000.0));
            let constraint = Scattered::new(every + i as u32, every, 12);
            let (tokens, finish) = run(&model, &how, &constraint);
            for (n, token) in tokens.iter().enumerate() {
                assert!(constraint.allows(&tokens[..n], *token), "{sampling:?}: {tokens:?}");
            }
            match finish {
                Some(Finish::Complete) => assert_eq!(tokens.len(), 12),
                Some(Finish::Stop(token)) => assert!(constraint.allows(&tokens, token)),
                other => panic!("{other:?}"),
            }
            assert_eq!(
                constraint.masks.load(Ordering::Relaxed),
                tokens.len() + usize::from(finish != Some(Finish::Complete))
            );
        }
    }
}

/// A hook that rules out the same tokens has the same text; and no hook can rule them in.
#[test]
fn a_constraint_is_a_hook_that_comes_last() {
    let model = model();
    let vocab = model.spec().vocab as usize;
    for seed in 0..8 {
        let sampling = Sampling::default().with_seed(u64::from(seed)).with_top_k(0);
        let how = Generate::default().with_sampling(sampling).with_max_tokens(10).with_logprobs(3);
        let constraint = Scattered::new(seed, 9, 1000);
        let collect = |hook: &mut dyn FnMut(&[u32], &mut [f32]), constrained: bool| {
            let mut session = model.session(&options()).unwrap();
            let text = session.generate(PROMPT, &how).unwrap();
            let mut text = text.with_hook(hook).unwrap();
            if constrained {
                text = text.with_constraint(constraint.fork()).unwrap();
            }
            let pieces: Vec<_> = (&mut text).map(Result::unwrap).collect();
            let finish = text.finish();
            (pieces, finish)
        };
        let prompt = {
            let mut session = model.session(&options()).unwrap();
            session.generate(PROMPT, &how).unwrap().session().tokens().len()
        };
        let mut masks = |tokens: &[u32], logits: &mut [f32]| {
            for token in 0..vocab as u32 {
                if !constraint.allows(&tokens[prompt..], token) {
                    logits[token as usize] = f32::NEG_INFINITY;
                }
            }
        };
        let want = collect(&mut masks, false);
        let mut raises = |tokens: &[u32], logits: &mut [f32]| {
            for token in 0..vocab as u32 {
                if !constraint.allows(&tokens[prompt..], token) {
                    logits[token as usize] = 1e30;
                }
            }
        };
        assert_eq!(collect(&mut raises, true), want);
        assert!(want.0.iter().any(|piece| !piece.tokens.is_empty()));
    }
}

#[test]
fn a_token_that_ends_the_text_ends_it_where_it_is_allowed_and_only_there() {
    let model = model();
    let ends = model.tokenizer().unwrap().stop_ids().to_vec();
    let (end, stop) = (*ends.first().expect("the model has a token that ends texts"), 9);
    // The model would end the text at once.
    let eager = Generate::default().with_sampling(Sampling::greedy()).with_logit_bias(end, 1000.0);
    let eager = eager.with_logit_bias(stop, 900.0).with_stop_token(stop).with_max_tokens(8);
    for ignore_eos in [false, true] {
        let how = eager.clone().with_ignore_eos(ignore_eos);
        let cases = [
            (0, 0, 0, Finish::Stop(end)),
            (4, 5, 4, Finish::Stop(end)),
            (6, 3, 3, Finish::Stop(stop)),
            (9, 9, 8, Finish::Length),
        ];
        for (end_from, stop_from, len, finish) in cases {
            let mut constraint = Scattered::new(7, 5, 100);
            constraint.only_from = ends.iter().map(|end| (*end, end_from)).collect();
            constraint.only_from.push((stop, stop_from));
            let (tokens, got) = run(&model, &how, &constraint);
            assert_eq!((tokens.len(), got), (len, Some(finish)));
        }
    }
}

#[test]
fn a_constraint_that_fails_ends_the_text_for_good() {
    /// Fails after some tokens: when it is asked for a set, when it is told the token, or by a set
    /// without any token.
    #[derive(Clone, Copy)]
    struct Failing {
        after: usize,
        how: usize,
    }
    impl Constraint for Failing {
        fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
            allowed.fill(if self.after == 0 && self.how == 2 { 0 } else { u32::MAX });
            match (self.after, self.how) {
                (0, 0) => Err(ConstraintError::new("no set")),
                _ => Ok(()),
            }
        }
        fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
            match (self.after, self.how) {
                (0, 1) => Err(ConstraintError::new("no such token")),
                _ => {
                    self.after -= 1;
                    Ok(())
                }
            }
        }
        fn is_complete(&mut self) -> bool {
            false
        }
        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(*self)
        }
    }
    let model = model();
    let how = Generate::default().with_ignore_eos(true).with_max_tokens(20);
    for (kind, why) in ["no set", "no such token", "no token may come next"].iter().enumerate() {
        // With a constraint, a token that ends the text ends it: this rules it out.
        let ends = model.tokenizer().unwrap().stop_ids();
        let how =
            ends.iter().fold(how.clone(), |how, t| how.with_logit_bias(*t, f32::NEG_INFINITY));
        for after in [0, 5] {
            let mut session = model.session(&options()).unwrap();
            let prompt = session.generate(PROMPT, &how).unwrap().session().tokens().len();
            let text = session.generate_ids(&[], &how).unwrap();
            let mut text = text.with_constraint(Box::new(Failing { after, how: kind })).unwrap();
            let first = loop {
                match text.next_piece() {
                    Ok(piece) => assert!(piece.is_some(), "it fails before it ends"),
                    Err(e) => break e,
                }
            };
            for e in [first, text.next_piece().unwrap_err(), text.next_piece().unwrap_err()] {
                assert!(
                    matches!(&e, SessionError::Constraint(e) if e.message.contains(why)),
                    "{e}"
                );
            }
            assert_eq!((text.generated(), text.finish()), (after, None));
            assert_eq!(session.tokens().len(), prompt + after);
        }
    }
}

#[test]
fn a_constraint_that_is_complete_at_once_ends_the_text_before_it_begins() {
    let model = model();
    let (tokens, finish) = run(&model, &Generate::default(), &Scattered::new(1, 2, 0));
    assert_eq!((tokens, finish), (vec![], Some(Finish::Complete)));
}
