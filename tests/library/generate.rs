//! Generating text: stop strings, biases, hooks and log probabilities; sessions that own their model.

use std::collections::HashMap;
use std::sync::Arc;

use crate::common::data;
use teff::{
    Cpu, Finish, Generate, LogSoftmax, LogitsFor, Model, Piece, Sampling, Session, SessionError,
    SessionOptions, StepError,
};

fn model() -> Model {
    Model::open(data("gpt2-Q8_0.gguf")).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions::default().with_threads(1)
}

fn greedy(n: usize) -> Generate {
    Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true).with_max_tokens(n)
}

const PROMPT: &str = "the cat";

/// Text, pieces and reason of a generation in a new session.
fn run(model: &Model, how: &Generate) -> (String, Vec<Piece>, Option<Finish>) {
    let mut session = model.session(&options()).unwrap();
    let mut generation = session.generate(PROMPT, how).unwrap();
    let mut pieces: Vec<Piece> = vec![];
    for piece in &mut generation {
        pieces.push(piece.unwrap());
    }
    (pieces.iter().cloned().collect(), pieces, generation.finish())
}

/// Byte offset of character `n`.
fn offset(text: &str, n: usize) -> usize {
    text.char_indices().nth(n).unwrap().0
}

#[test]
fn a_stop_string_ends_the_text() {
    let model = model();
    let (whole, _, finish) = run(&model, &greedy(40));
    assert_eq!(finish, Some(Finish::Length));
    let chars = whole.chars().count();
    // Wherever it is, and whichever tokens it spans.
    for at in (1..chars - 4).step_by(7) {
        for len in [1, 2, 4] {
            let stop = &whole[offset(&whole, at)..offset(&whole, at + len)];
            let how = greedy(40).with_stop("not in such a text").with_stop(stop);
            let (text, pieces, finish) = run(&model, &how);
            assert_eq!(text, whole[..whole.find(stop).unwrap()], "before {stop:?}");
            assert_eq!(finish, Some(Finish::StopString(1)));
            let last = pieces.last().unwrap();
            assert!(pieces.iter().all(|p| !p.is_empty() || p == last));
        }
    }
    // What only begins like one is all there.
    let longer = format!("{}~", &whole[offset(&whole, chars - 9)..]);
    let (text, _, finish) = run(&model, &greedy(40).with_stop(longer));
    assert_eq!((text, finish), (whole, Some(Finish::Length)));
}

#[test]
fn tokens_of_all_pieces_are_those_of_the_session() {
    let model = model();
    let (whole, ..) = run(&model, &greedy(40));
    let stop = &whole[offset(&whole, 20)..offset(&whole, 26)];
    for how in [greedy(40), greedy(40).with_stop(stop).with_logprobs(0)] {
        let mut session = model.session(&options()).unwrap();
        let prompt = {
            let generation = session.generate(PROMPT, &how).unwrap();
            let prompt = generation.session().tokens().len();
            let tokens: Vec<u32> = generation.flat_map(|piece| piece.unwrap().tokens).collect();
            assert!(!tokens.is_empty());
            (prompt, tokens)
        };
        assert_eq!(session.tokens()[prompt.0..], prompt.1);
    }
}

#[test]
fn text_is_held_back_only_while_it_may_be_a_stop_string() {
    let model = model();
    let (whole, ..) = run(&model, &greedy(30));
    let stop = format!("{}\u{1}", &whole[offset(&whole, 4)..offset(&whole, 9)]);
    let mut session = model.session(&options()).unwrap();
    let mut generation = session.generate(PROMPT, &greedy(30).with_stop(&stop)).unwrap();
    let mut text = String::new();
    let mut held = 0;
    while let Some(piece) = generation.next_piece().unwrap() {
        text.push_str(piece);
        let back = generation.held_back();
        assert!(stop.starts_with(back) && whole[text.len()..].starts_with(back));
        held += usize::from(!back.is_empty());
    }
    assert_eq!(text, whole);
    assert!(held > 0, "nothing was held back, so that nothing is shown");
}

#[test]
fn a_cancelled_generation_says_so_and_continues() {
    let model = model();
    let (whole, ..) = run(&model, &greedy(20));
    let mut session = model.session(&options()).unwrap();
    let stop = session.stop_handle();
    let how = greedy(20).with_stop("~~~~").with_logprobs(1);
    let mut generation = session.generate(PROMPT, &how).unwrap();
    let (mut text, mut tokens) = (String::new(), vec![]);
    for round in 0.. {
        if round % 3 == 0 {
            stop.cancel();
            let e = generation.next_piece().unwrap_err();
            assert!(matches!(e, SessionError::Step(StepError::Cancelled)), "{e}");
            assert_eq!(generation.finish(), Some(Finish::Cancelled));
            stop.resume();
        }
        let Some(piece) = generation.next_piece().unwrap() else { break };
        text.push_str(piece);
        tokens.extend_from_slice(generation.tokens());
        assert_eq!(generation.logprobs().len(), generation.tokens().len());
        assert_eq!(generation.finish().filter(|f| *f == Finish::Cancelled), None);
    }
    assert_eq!((text, tokens.len()), (whole, 20));
    assert_eq!(generation.finish(), Some(Finish::Length));
}

#[test]
fn biases_rule_tokens_in_and_out() {
    let model = model();
    let first = |how: &Generate| run(&model, how).1[0].tokens[0];
    let plain = first(&greedy(1));
    let other = first(&greedy(1).with_logit_bias(plain, f32::NEG_INFINITY));
    assert_ne!(other, plain);
    assert_eq!(first(&greedy(1).with_logit_bias(7, 1000.0)), 7);
    // Several of one token add up; the largest finite one is no mistake of the model's.
    let twice = greedy(1).with_logit_bias(7, 1000.0).with_logit_bias(7, -2000.0);
    assert_eq!(first(&twice), plain);
    assert_eq!(first(&greedy(1).with_logit_bias(7, f32::MAX).with_logit_bias(7, f32::MAX)), 7);

    let refused = |how: &Generate| {
        let mut session = model.session(&options()).unwrap();
        let e = session.generate(PROMPT, how).unwrap_err();
        assert!(session.tokens().is_empty());
        e.to_string()
    };
    let vocab = model.spec().vocab;
    assert!(refused(&greedy(1).with_logit_bias(vocab, 0.0)).contains("not in the vocabulary"));
    for bias in [f32::NAN, f32::INFINITY] {
        let e = refused(&greedy(1).with_logit_bias(5, bias));
        assert!(e.contains("token 5") && e.contains("Generate::logit_bias"), "{e}");
    }
    let e = refused(&greedy(1).with_stop("a").with_stop(""));
    assert!(e.contains("stop string 1") && e.contains("Generate::stop"), "{e}");
}

#[test]
fn a_hook_sees_all_tokens_and_may_change_the_logits() {
    let model = model();
    let mut session = model.session(&options()).unwrap();
    let vocab = model.spec().vocab as usize;
    let how = greedy(6).with_logit_bias(9, 3.0);
    let mut calls = vec![];
    let mut biased = model.session(&options()).unwrap();
    let generation = session.generate(PROMPT, &how).unwrap();
    let mut generation = generation
        .with_hook(|tokens, logits| {
            biased.truncate(0);
            let mut own = biased.eval(tokens, LogitsFor::Last).unwrap().to_vec();
            own[9] += 3.0;
            assert_eq!((logits.len(), &*logits), (vocab, &own[..]));
            calls.push(tokens.to_vec());
            logits.fill(f32::NEG_INFINITY);
            logits[20 + calls.len()] = 0.0;
        })
        .unwrap();
    while generation.next_piece().unwrap().is_some() {}
    let n = session.tokens().len();
    assert_eq!(session.tokens()[n - 6..], [21, 22, 23, 24, 25, 26]);
    assert_eq!(calls.len(), 6);
    for (i, call) in calls.iter().enumerate() {
        assert_eq!(call[..], session.tokens()[..n - 6 + i]);
    }

    // One that allows nothing is an error, after which the next call asks again.
    let mut session = model.session(&options()).unwrap();
    let mut asked = 0;
    let mut generation = session
        .generate(PROMPT, &greedy(2))
        .unwrap()
        .with_hook(|_, logits| {
            asked += 1;
            if asked == 1 {
                logits.fill(f32::NEG_INFINITY);
            }
        })
        .unwrap();
    assert!(matches!(generation.next_piece(), Err(SessionError::Sample(_))));
    while generation.next_piece().unwrap().is_some() {}
    assert_eq!((generation.generated(), asked), (2, 3));
}

/// Log probabilities are those of the model's own logits, whatever sampling and hook make of them.
#[test]
fn logprobs_are_of_the_models_distribution() {
    let model = model();
    let sampling = Sampling::default().with_temperature(2.0).with_seed(5);
    let how = Generate { sampling, ..greedy(12).with_logprobs(4).with_logit_bias(3, 5.0) };
    let mut all = vec![];
    for name in Cpu::NAMES {
        let Ok(cpu) = Cpu::by_name(name) else { continue };
        let mut session = model.session(&options().with_backend(cpu)).unwrap();
        let pieces: Vec<Piece> =
            session.generate(PROMPT, &how).unwrap().map(Result::unwrap).collect();
        all.push(pieces);
    }
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    let pieces = all.pop().unwrap();
    let mut session = model.session(&options()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let mut text = tokenizer.encode(PROMPT, teff::Specials::Ignore).unwrap();
    if tokenizer.add_bos() {
        text.insert(0, tokenizer.bos().unwrap());
    }
    let mut seen = 0;
    for of_token in pieces.iter().flat_map(|p| {
        assert_eq!(p.tokens, p.logprobs.iter().map(|l| l.chosen.token).collect::<Vec<_>>());
        &p.logprobs
    }) {
        session.truncate(0);
        let logits = session.eval(&text, LogitsFor::Last).unwrap();
        let distribution = LogSoftmax::new(logits).unwrap();
        let exact = {
            let most = logits.iter().fold(f64::MIN, |m, x| m.max(f64::from(*x)));
            let sum: f64 = logits.iter().map(|x| (f64::from(*x) - most).exp()).sum();
            move |x: f32| f64::from(x) - most - sum.ln()
        };
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        let top: Vec<u32> = of_token.top.iter().map(|l| l.token).collect();
        assert_eq!(top, order[..4]);
        for l in of_token.top.iter().chain([&of_token.chosen]) {
            let logit = logits[l.token as usize];
            assert_eq!(l.logprob.to_bits(), (distribution.logprob(logit) as f32).to_bits());
            assert!((f64::from(l.logprob) - exact(logit)).abs() < 1e-5);
        }
        text.push(of_token.chosen.token);
        seen += 1;
    }
    assert_eq!(seen, 12);
    // More than there are tokens is all of them.
    let (_, pieces, _) = run(&model, &greedy(1).with_logprobs(1_000_000));
    assert_eq!(pieces[0].logprobs[0].top.len(), model.spec().vocab as usize);
    let (_, pieces, _) = run(&model, &greedy(3));
    assert!(pieces.iter().all(|p| p.logprobs.is_empty()));
}

#[test]
fn an_owned_session_outlives_every_other_share_of_its_model() {
    fn sent<T: Send + 'static>(value: T) -> T {
        value
    }
    let model = Arc::new(model());
    let want = run(&model, &greedy(12)).0;
    let mut users: HashMap<u32, Session<'static>> = HashMap::new();
    for user in 0..3 {
        users.insert(user, sent(model.session_owned(&options()).unwrap()));
    }
    // A fork has a share too.
    let fork = users.get_mut(&2).unwrap().fork().unwrap();
    users.insert(3, fork);
    let kept = Arc::downgrade(&model);
    assert_eq!(kept.strong_count(), 5);
    drop(model);
    let threads: Vec<_> = users
        .into_values()
        .map(|mut session| {
            std::thread::spawn(move || {
                assert_eq!(session.model().spec().arch, "gpt2");
                let text = session.generate(PROMPT, &greedy(12)).unwrap();
                text.collect::<Result<String, _>>().unwrap()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), want);
    }
    assert_eq!(kept.strong_count(), 0);
}

#[test]
fn errors_name_the_option() {
    let model = model();
    let text = |e: SessionError| e.to_string();
    let mut session = model.session(&options().with_context(8)).unwrap();
    let e = text(session.push(&[1; 9]).unwrap_err());
    assert!(e.contains("SessionOptions::context"), "{e}");
    let e = text(session.eval(&[1, 2], LogitsFor::All).unwrap_err());
    assert!(e.contains("SessionOptions::logits"), "{e}");
    let refused = |o: &SessionOptions| text(model.session(o).map(|_| ()).unwrap_err());
    let e = refused(&options().with_budget(1));
    assert!(e.contains("SessionOptions::context") && e.contains("SessionOptions::kv"), "{e}");
    let e = refused(&options().with_context(1 << 20));
    assert!(e.contains("SessionOptions::context"), "{e}");
    let e = refused(&options().with_logits(0));
    assert!(e.contains("SessionOptions::logits"), "{e}");
}
