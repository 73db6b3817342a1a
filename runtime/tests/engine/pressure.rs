//! Caches that have room for one sequence and little more: everything that was admitted is answered.

use proptest::prelude::*;
use teff_runtime::Finish;
use teff_runtime::engine::{PAGE, Request};
use teff_runtime::sample::Sampling;

use crate::common::{engine, one, options, prompt, read, settled, tokens};

#[test]
fn a_cache_of_one_sequence_has_room_for_texts_that_part() {
    for pages in 1..4 {
        let engine = engine(options().with_context(pages * PAGE), pages);
        let context = pages * PAGE;
        for len in [context, context - 1, context / 2, context] {
            // Texts with a common beginning that is no whole page.
            for seed in 1..4 {
                let mut tokens_of = prompt(0, context);
                tokens_of[10 * seed..].copy_from_slice(&prompt(seed as u32, context - 10 * seed));
                tokens_of.truncate(len);
                let text = one(&engine, Request::new(tokens_of, tokens(1)));
                assert_eq!(text.end, Ok(Finish::Length), "{pages} {len} {seed}");
            }
        }
        settled(&engine);
    }
}

#[derive(Clone, Debug)]
struct Ask {
    seed: u32,
    parts: usize,
    len: usize,
    tokens: usize,
    choices: usize,
    priority: i32,
    leave: Option<usize>,
}

prop_compose! {
    fn any_ask(most: usize)(
        seed in 0u32..3, parts in 0usize..70, len in prop_oneof![1..=most, most - 2..=most],
        tokens in 0usize..100, choices in 1usize..4, priority in -1i32..2,
        leave in prop::option::weighted(0.2, 0usize..4),
    ) -> Ask {
        Ask { seed, parts, len, tokens, choices, priority, leave }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn all_that_was_admitted_is_answered(
        context in 1usize..4, more in 0usize..3, sequences in 1usize..6, batch in 6usize..80,
        asks in prop::collection::vec(any_ask(PAGE), 1..12), scale in 1usize..4,
    ) {
        let options = options().with_context(context * PAGE).with_sequences(sequences).with_batch(batch);
        let engine = engine(options, context + more);
        let scale = scale.min(context);
        let streams: Vec<_> = asks.iter().map(|ask| {
            let mut tokens_of = prompt(0, ask.parts);
            tokens_of.extend(prompt(ask.seed, 4 * PAGE));
            tokens_of.truncate((ask.len * scale).min(context * PAGE));
            let how = tokens(ask.tokens).with_sampling(Sampling::default().with_seed(7));
            let request = Request::new(tokens_of, how).with_choices(ask.choices);
            engine.submit(request.with_priority(ask.priority)).unwrap()
        }).collect();
        for (ask, mut stream) in asks.iter().zip(streams) {
            if let Some(events) = ask.leave {
                stream.by_ref().take(events).for_each(drop);
                continue;
            }
            for text in read(stream, ask.choices) {
                prop_assert!(matches!(text.end, Ok(Finish::Length | Finish::ContextFull)), "{:?}", text);
            }
        }
        settled(&engine);
    }
}
