//! Answers have the bytes that they have alone, whoever else is asking.

use serde_json::{Value, json};
use teff_runtime::engine::EngineOptions;

use crate::common::{Running, options, start_with};

/// Bytes of a cache that has room for some of the texts below, so that others are pushed out.
const SMALL: usize = 6 << 20;

/// Requests with seeds, for texts, log probabilities and several choices.
fn requests() -> Vec<(&'static str, Value)> {
    let story = "Once upon a time there was a little dog who liked to play in the park. ";
    let chat = |content: &str, seed: u64| {
        json!({
            "messages": [
                { "role": "system", "content": story.repeat(5) },
                { "role": "user", "content": content },
            ],
            "max_tokens": 40, "seed": seed, "temperature": 0.9, "logprobs": true,
            "top_logprobs": 3, "ignore_eos": true,
        })
    };
    let text = |prompt: String, seed: u64| {
        json!({
            "prompt": prompt, "max_tokens": 40, "seed": seed, "logprobs": 2, "ignore_eos": true,
        })
    };
    let mut choices = text(story.repeat(8), 11);
    (choices["n"], choices["top_p"]) = (json!(3), json!(0.9));
    let mut stops = text(story.to_owned(), u64::MAX);
    (stops["stop"], stops["repeat_penalty"]) = (json!([" the end", "."]), json!(1.2));
    let mut echo = text(story.repeat(3), 12);
    echo["echo"] = json!(true);
    vec![
        ("/v1/chat/completions", chat("Who is the dog?", 1)),
        ("/v1/chat/completions", chat("Who is the cat?", 2)),
        ("/v1/completions", text(story.repeat(14), 3)),
        ("/v1/completions", text("One day".to_owned(), 4)),
        ("/v1/completions", choices),
        ("/v1/completions", stops),
        ("/v1/completions", echo),
    ]
}

/// The choices of an answer, as bytes.
fn choices(server: &Running, (path, body): &(&str, Value)) -> String {
    server.ok(path, body)["choices"].to_string()
}

/// Sends all requests at once, among others, and returns the choices of each.
fn together(server: &Running, asked: &[(&'static str, Value)], others: u64) -> Vec<String> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..others)
            .map(|i| {
                scope.spawn(move || {
                    // Some share the beginning of what is asked.
                    let (path, mut body) = requests()[i as usize % 5].clone();
                    (body["seed"], body["max_tokens"]) = (json!(100 + i), json!(20 + 5 * i));
                    if i % 3 == 0 {
                        body["prompt"] = json!(format!("{i} {}", "little friends ".repeat(40)));
                    }
                    server.ok(path, &body);
                })
            })
            .collect();
        let all: Vec<_> =
            asked.iter().map(|one| scope.spawn(move || choices(server, one))).collect();
        let all = all.into_iter().map(|one| one.join().expect("an answer")).collect();
        others.into_iter().for_each(|other| other.join().expect("an answer"));
        all
    })
}

#[test]
fn the_same_bytes_alone_and_in_company() {
    let asked = requests();
    let engine = EngineOptions::default().with_oversubscribe(true);
    // Each alone and cold, on a server that has computed nothing before.
    let alone: Vec<_> = asked
        .iter()
        .map(|one| choices(&start_with(options(), engine.with_threads(1)), one))
        .collect();
    for (i, text) in alone.iter().enumerate() {
        assert!(alone[..i].iter().all(|other| other != text));
    }
    for threads in 1..=3 {
        let engine = engine.with_threads(threads);
        let roomy = start_with(options(), engine.with_sequences(16));
        // Cold and then warm, one after another.
        for pass in ["cold", "warm"] {
            for (one, want) in asked.iter().zip(&alone) {
                assert_eq!(choices(&roomy, one), *want, "{pass}, {threads} threads");
            }
        }
        assert!(roomy.metric("teff_prompt_tokens_cached_total") > 0.0);
        assert_eq!(together(&roomy, &asked, 9), alone, "at once, {threads} threads");
        // Pages run out: prefixes are given up, and sequences computed again.
        let tight = start_with(options(), engine.with_sequences(8).with_cache(SMALL));
        for _ in 0..2 {
            assert_eq!(together(&tight, &asked, 9), alone, "without room, {threads} threads");
        }
        for (one, want) in asked.iter().zip(&alone) {
            assert_eq!(choices(&tight, one), *want, "after eviction, {threads} threads");
        }
        assert!(tight.metric("teff_sequences_preempted_total") > 0.0);
        assert!(tight.metric("teff_pages_evicted_total") > 0.0);
    }
}
