//! Requests at the edges of what is allowed.

use std::time::{Duration, Instant};

use teff_runtime::engine::{EngineError, Event, MAX_CHOICES, PAGE, Request};
use teff_runtime::sample::Sampling;
use teff_runtime::{Finish, Generate};

use crate::common::{engine, model, one, options, prompt, read, settled, tokens};

#[test]
fn prompts_up_to_the_last_position() {
    let engine = engine(options(), 3);
    let context = engine.context();
    assert_eq!(context, 3 * PAGE);
    for len in [1, PAGE - 1, PAGE, PAGE + 1, context - 1, context] {
        for limit in [None, Some(0), Some(1), Some(usize::MAX)] {
            let how = Generate { max_tokens: limit, ..tokens(0) };
            let text = one(&engine, Request::new(prompt(1, len), how));
            let (n, finish) = match limit {
                Some(n @ 0..=1) => (n, Finish::Length),
                // The last token needs no position.
                _ => (context + 1 - len, Finish::ContextFull),
            };
            assert_eq!((text.tokens.len(), text.end), (n, Ok(finish)), "{len} {limit:?}");
        }
    }
    let refused = engine.submit(Request::new(prompt(1, context + 1), tokens(1)));
    assert!(matches!(refused, Err(EngineError::PromptTooLong { tokens: 193, context: 192 })));
    settled(&engine);
}

/// A reader that comes late still learns when the engine had computed what it reads.
#[test]
fn times_are_the_engine_s() {
    let engine = engine(options(), 3);
    let mut stream = engine.submit(Request::new(prompt(1, 3), tokens(5)).with_choices(2)).unwrap();
    assert_eq!((stream.time(0), stream.time(2)), (None, None));
    while engine.stats().ended_sequences < 2 {
        std::thread::yield_now();
    }
    settled(&engine);
    let late = Instant::now();
    let mut times = [[None; 3]; 2];
    while let Some(event) = stream.try_next() {
        let (choice, at) = (event.choice(), stream.time(event.choice()));
        assert!(at.is_some_and(|at| at <= late), "{event:?}");
        let i = match event {
            Event::Prompt { .. } => 0,
            Event::Piece { .. } => 1,
            _ => 2,
        };
        times[choice][i] = at;
    }
    for times in times {
        assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
    }
}

#[test]
fn what_can_never_run_is_refused() {
    let engine = engine(options().with_queue(8), 3);
    let vocab = model().spec().vocab;
    let p = || prompt(1, 3);
    let sampling = |s| Generate::default().with_sampling(s);
    let greedy = Sampling::greedy();
    for (name, request) in [
        ("no prompt", Request::new(vec![], tokens(1))),
        ("token", Request::new(vec![1, vocab], tokens(1))),
        ("token", Request::new(vec![u32::MAX], tokens(1))),
        ("no choice", Request::new(p(), tokens(1)).with_choices(0)),
        ("choices", Request::new(p(), tokens(1)).with_choices(9)),
        ("choices", Request::new(p(), tokens(1)).with_choices(usize::MAX)),
        ("stop", Request::new(p(), tokens(1).with_stop(""))),
        ("stop token", Request::new(p(), tokens(1).with_stop_token(vocab))),
        ("bias", Request::new(p(), tokens(1).with_logit_bias(vocab, 0.0))),
        ("bias", Request::new(p(), tokens(1).with_logit_bias(1, f32::NAN))),
        ("bias", Request::new(p(), tokens(1).with_logit_bias(1, f32::INFINITY))),
        ("heat", Request::new(p(), sampling(greedy.with_temperature(f32::NAN)))),
        ("heat", Request::new(p(), sampling(greedy.with_temperature(f32::INFINITY)))),
        ("heat", Request::new(p(), sampling(greedy.with_temperature(-1.0)))),
        ("top_p", Request::new(p(), sampling(greedy.with_top_p(f32::NAN)))),
        ("min_p", Request::new(p(), sampling(greedy.with_min_p(2.0)))),
        ("repeat", Request::new(p(), sampling(greedy.with_repeat_penalty(0.0, 64)))),
    ] {
        let refused = engine.submit(request).map(|_| name).expect_err(name);
        assert!(!refused.to_string().is_empty());
    }
    let stats = settled(&engine);
    assert_eq!((stats.requests, stats.sequences), (0, 0));
}

#[test]
fn sampling_at_its_edges_chooses_a_token() {
    let engine = engine(options(), 3);
    let s = Sampling::default;
    for sampling in [
        s().with_temperature(f32::MAX),
        s().with_temperature(f32::MIN_POSITIVE),
        s().with_temperature(1e-45),
        s().with_top_k(usize::MAX),
        s().with_top_k(1),
        s().with_top_p(f32::MIN_POSITIVE),
        s().with_min_p(1.0),
        s().with_seed(u64::MAX),
        s().with_repeat_penalty(f32::MAX, usize::MAX),
        s().with_repeat_penalty(f32::MIN_POSITIVE, usize::MAX),
        s().with_presence_penalty(2.0).with_frequency_penalty(-2.0),
    ] {
        let how = tokens(5).with_sampling(sampling);
        let text = one(&engine, Request::new(prompt(2, 10), how));
        assert!(text.end.is_ok() || text.tokens.is_empty(), "{sampling:?} {text:?}");
        assert_eq!(text.end, Ok(Finish::Length), "{sampling:?}");
    }
    // The largest seed's second choice has the first seed's text.
    let how = |seed| tokens(8).with_sampling(s().with_seed(seed));
    let two = Request::new(prompt(2, 10), how(u64::MAX)).with_choices(2);
    let two = read(engine.submit(two).unwrap(), 2);
    assert_eq!(two[1].tokens, one(&engine, Request::new(prompt(2, 10), how(0))).tokens);
    settled(&engine);
}

#[test]
fn biases_that_leave_nothing_end_the_request_alone() {
    let engine = engine(options(), 3);
    let vocab = model().spec().vocab;
    let mut how = tokens(5);
    how.logit_bias = (0..vocab).map(|t| (t, f32::NEG_INFINITY)).collect();
    let other = engine.submit(Request::new(prompt(3, 10), tokens(50))).unwrap();
    let none = one(&engine, Request::new(prompt(3, 10), how.clone()));
    assert!(none.end.is_err(), "{none:?}");
    // As many as there are numbers, and the one that is left.
    how.logit_bias.extend([(7, f32::MAX), (7, f32::MAX), (7, -f32::MAX)]);
    assert!(one(&engine, Request::new(prompt(3, 10), how.clone())).end.is_err());
    how.logit_bias = (0..vocab).filter(|t| *t != 7).map(|t| (t, f32::NEG_INFINITY)).collect();
    assert_eq!(one(&engine, Request::new(prompt(3, 10), how)).tokens, [7; 5]);
    assert_eq!(read(other, 1)[0].tokens.len(), 50);
    settled(&engine);
}

#[test]
fn deadlines_and_priorities_at_their_ends() {
    let engine = engine(options().with_sequences(1), 3);
    let late = Request::new(prompt(1, 10), tokens(5)).with_deadline(Duration::ZERO);
    let text = one(&engine, late);
    assert_eq!((text.tokens.len(), text.end), (0, Ok(Finish::Deadline)));
    let never = Request::new(prompt(1, 10), tokens(5)).with_deadline(Duration::MAX);
    assert_eq!(one(&engine, never).end, Ok(Finish::Length));
    let streams: Vec<_> = [i32::MIN, 0, i32::MAX, -1, i32::MIN]
        .map(|p| engine.submit(Request::new(prompt(1, 10), tokens(5)).with_priority(p)).unwrap())
        .into();
    streams.into_iter().for_each(|s| assert_eq!(read(s, 1)[0].end, Ok(Finish::Length)));
    // All choices of a request end by its deadline, those that wait as well.
    let many = Request::new(prompt(1, 10), tokens(100)).with_choices(8);
    let many = engine.submit(many.with_deadline(Duration::from_millis(30))).unwrap();
    for text in read(many, 8) {
        assert!(matches!(text.end, Ok(Finish::Deadline | Finish::Length)), "{text:?}");
    }
    settled(&engine);
}

#[test]
fn more_choices_than_sequences_and_pages() {
    for (sequences, pages) in [(1, 3), (2, 3), (4, 4), (4, 40)] {
        let engine = engine(options().with_sequences(sequences), pages);
        for len in [1, PAGE, PAGE + 1, 2 * PAGE + 5] {
            let how = tokens(20).with_sampling(Sampling::default().with_seed(9));
            let request = Request::new(prompt(4, len), how).with_choices(11);
            let texts = read(engine.submit(request).unwrap(), 11);
            for (i, text) in texts.into_iter().enumerate() {
                let how = tokens(20).with_sampling(Sampling::default().with_seed(9 + i as u64));
                let alone = one(&engine, Request::new(prompt(4, len), how));
                assert_eq!(text.tokens, alone.tokens, "{sequences} {pages} {len} {i}");
            }
        }
        settled(&engine);
    }
}

#[test]
fn a_full_queue_refuses_and_goes_on() {
    let engine = engine(options().with_sequences(1).with_queue(3), 3);
    let submit =
        |choices| engine.submit(Request::new(prompt(5, 10), tokens(30)).with_choices(choices));
    let first = submit(3).unwrap();
    let mut taken = Vec::new();
    let mut refused = 0;
    for _ in 0..200 {
        match submit(2) {
            Ok(stream) => taken.push(stream),
            Err(EngineError::Busy { queue: 3 }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(
        engine
            .submit(Request::new(prompt(5, 1), tokens(1)).with_choices(4))
            .err()
            .map(|e| e.to_string())
            .as_deref(),
        Some("the number of choices must be 1 to 3, not 4")
    );
    assert_eq!(read(first, 3).len(), 3);
    taken.into_iter().for_each(|s| assert_eq!(read(s, 2)[1].tokens.len(), 30));
    settled(&engine);
    assert!(submit(3).is_ok());
    const { assert!(MAX_CHOICES >= 3) };
}
