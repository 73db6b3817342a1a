//! Engine: texts have the bits that they have alone, whatever happens around them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use teff::SessionError;
use teff::runtime::engine::{
    Engine, EngineError, EngineOptions, EngineStats, Event, PAGE, Request, Stream,
};
use teff::{Finish, Generate, KvFormat, LoadOptions, Model, SessionOptions};
use teff::{Sampling, Speculation, TokenLogprobs};

use crate::common;

/// Models: full attention, windows, recurrent layers, and all of them.
const MODELS: [&str; 5] = [
    "../../examples/gpt2/model.gguf",
    "qwen3/qwen3-Q4_0.gguf",
    "gemma3/gemma3-Q4_0.gguf",
    "lfm2/lfm2-Q4_0.gguf",
    "qwen35/qwen35-Q4_0.gguf",
];

fn model(name: &'static str) -> Arc<Model> {
    static OPEN: LazyLock<Mutex<HashMap<&str, Arc<Model>>>> = LazyLock::new(Mutex::default);
    let mut open = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let load = || {
        // The test models' contexts are shorter than two pages.
        let mut bytes = std::fs::read(common::data("..").join(name)).unwrap();
        let key = b".context_length\x04\0\0\0";
        let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
        if bytes[at + 1] < 2 {
            bytes[at..at + 4].copy_from_slice(&384u32.to_le_bytes());
        }
        Arc::new(Model::from_bytes(bytes, &LoadOptions::default()).unwrap())
    };
    Arc::clone(open.entry(name).or_insert_with(load))
}

/// Outcome of one choice.
#[derive(Clone, PartialEq, Debug, Default)]
struct Text {
    text: String,
    tokens: Vec<u32>,
    /// Bits of the log probabilities of the chosen tokens and of their alternatives.
    logprobs: Vec<(u32, Vec<(u32, u32)>)>,
    finish: Option<Finish>,
}

impl Text {
    fn push(&mut self, text: &str, tokens: &[u32], logprobs: &[TokenLogprobs]) {
        self.text += text;
        self.tokens.extend_from_slice(tokens);
        self.logprobs.extend(logprobs.iter().map(|l| {
            let top = l.top.iter().map(|t| (t.token, t.logprob.to_bits())).collect();
            (l.chosen.logprob.to_bits(), top)
        }));
    }
}

/// A request alone, in a session.
fn alone(model: &Model, context: usize, kv: KvFormat, prompt: &[u32], how: &Generate) -> Text {
    let options = SessionOptions::default().with_context(context).with_threads(1).with_kv(kv);
    let mut session = model.session(&options).unwrap();
    let mut generation = session.generate_ids(prompt, how).unwrap();
    let mut text = Text::default();
    while let Some(piece) = generation.next_piece().unwrap().map(str::to_owned) {
        text.push(&piece, generation.tokens(), generation.logprobs());
    }
    text.push("", generation.tokens(), generation.logprobs());
    text.finish = generation.finish();
    text
}

/// Takes all events of a request and checks their order.
fn read(stream: Stream, choices: usize) -> Vec<Text> {
    let mut all = vec![Text::default(); choices];
    let mut prompts = vec![false; choices];
    for event in stream {
        match event {
            Event::Prompt { choice, tokens, cached, .. } => {
                assert!(!prompts[choice] && cached <= tokens);
                prompts[choice] = true;
            }
            Event::Piece { choice, piece } => {
                assert!(prompts[choice] && all[choice].finish.is_none());
                all[choice].push(&piece.text, &piece.tokens, &piece.logprobs);
            }
            Event::Finished { choice, finish, generated } => {
                let text = &mut all[choice];
                assert_eq!((text.finish, generated), (None, text.tokens.len()));
                text.finish = Some(finish);
            }
            Event::Failed { error, .. } => panic!("{error}"),
            event => panic!("{event:?}"),
        }
    }
    all
}

fn wait(engine: &Engine, what: impl Fn(&EngineStats) -> bool) -> EngineStats {
    loop {
        let stats = engine.stats();
        if what(&stats) {
            return stats;
        }
        std::thread::yield_now();
    }
}

/// Waits until nothing runs, and no page is missing. (One that is lost is missing for ever. For a moment some are: the
/// numbers are read one after the other.)
fn settled(engine: &Engine) -> EngineStats {
    let start = Instant::now();
    wait(engine, |s| {
        let rest = s.running == 0 && s.waiting == 0 && s.pages_running == 0;
        let pages = s.pages_free + s.pages_cached == s.pages;
        assert!(start.elapsed() < Duration::from_secs(60), "it doesn't come to rest: {s:?}");
        rest && pages && s.ended_sequences == s.sequences
    })
}

#[derive(Clone, Debug)]
struct Ask {
    /// Text of which the prompt is a beginning.
    family: u32,
    len: usize,
    /// Tokens after which it repeats itself.
    period: usize,
    /// Tokens at the end that only this request has.
    own: usize,
    sampling: Sampling,
    tokens: usize,
    choices: usize,
    logprobs: Option<usize>,
    stop: Vec<String>,
    /// Events after which the reader goes away.
    leave: Option<usize>,
    priority: i32,
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let random = (any::<u64>(), 0.1f32..2.0, 0usize..60, 0.1f32..=1.0, 0f32..0.2);
    let random = random.prop_map(|(seed, temperature, top_k, top_p, min_p)| {
        Sampling::default()
            .with_seed(seed)
            .with_temperature(temperature)
            .with_top_k(top_k)
            .with_top_p(top_p)
            .with_min_p(min_p)
    });
    let penalties = (1f32..1.5, 0usize..40, -1f32..1.0, -1f32..1.0);
    let penalised =
        (random.clone(), penalties).prop_map(|(s, (repeat, last, presence, frequency))| {
            s.with_repeat_penalty(repeat, last)
                .with_presence_penalty(presence)
                .with_frequency_penalty(frequency)
        });
    prop_oneof![1 => Just(Sampling::greedy()), 2 => random, 1 => penalised]
}

prop_compose! {
    fn any_ask()(
        family in 0u32..3,
        len in prop_oneof![2 => 1usize..20, 2 => 1usize..200, 1 => (1usize..4).prop_map(|n| n * PAGE)],
        period in prop_oneof![Just(1000usize), 2usize..40],
        own in prop_oneof![Just(0usize), 1usize..10],
        sampling in any_sampling(),
        tokens in prop_oneof![3 => 0usize..12, 1 => 50usize..90],
        choices in prop_oneof![3 => Just(1usize), 1 => 2usize..4],
        logprobs in prop::option::weighted(0.3, 0usize..4),
        stop in prop::collection::vec("[a-z ]{1,2}", 0..2),
        leave in prop::option::weighted(0.2, 0usize..6),
        priority in 0i32..2,
    ) -> Ask {
        Ask { family, len, period, own, sampling, tokens, choices, logprobs, stop, leave, priority }
    }
}

fn any_speculation() -> impl Strategy<Value = Speculation> {
    let always = (1u8..16).prop_map(Speculation::NgramAlways);
    let draft = (1u8..6).prop_map(Speculation::DraftAlways);
    prop_oneof![
        3 => Just(Speculation::Off),
        1 => Just(Speculation::Ngram),
        2 => always,
        1 => Just(Speculation::Draft),
        1 => draft,
    ]
}

fn prompt(ask: &Ask, vocab: u32, salt: usize) -> Vec<u32> {
    let token = |seed: u32, i: usize| {
        let mixed = (seed.wrapping_mul(0x9e37_79b9) ^ (i as u32).wrapping_mul(0x85eb_ca6b)) >> 7;
        3 + mixed % (vocab - 3)
    };
    let shared = (0..ask.len).map(|i| token(ask.family, i % ask.period));
    shared.chain((0..ask.own).map(|i| token(1000 + salt as u32, i))).collect()
}

fn how(ask: &Ask) -> Generate {
    let mut how = Generate::default().with_sampling(ask.sampling).with_max_tokens(ask.tokens);
    how.stop.clone_from(&ask.stop);
    how.logprobs = ask.logprobs;
    how
}

fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        // In the nightly tier more.
        None if std::env::var_os("TEFF_FULL").is_some() => ProptestConfig::with_cases(1000),
        None => ProptestConfig::with_cases(40),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..cases() })]

    #[test]
    fn texts_do_not_depend_on_the_company(
        name in prop::sample::select(&MODELS[..]),
        asks in prop::collection::vec(any_ask(), 1..9),
        sequences in 1usize..6, threads in 1usize..=3, batch in 6usize..80, pages in 5usize..20,
        kv in prop::sample::select(&KvFormat::ALL[..]), pause in 0u64..3, twice: bool,
        speculation in any_speculation(),
    ) {
        let model = model(name);
        let context = 5 * PAGE;
        let options = EngineOptions::default()
            .with_context(context)
            .with_sequences(sequences)
            .with_threads(threads)
            .with_oversubscribe(true)
            .with_batch(batch)
            .with_kv(kv)
            .with_pause(Duration::from_millis(pause))
            .with_speculation(speculation);
        // Often too few pages for all sequences, so that some are pushed out.
        let builder = |options| Engine::builder(&model).options(options).draft(&model);
        let one = builder(options.with_cache(1 << 30)).memory_requirements().unwrap();
        let unit = (one.page_bytes + one.checkpoint_bytes) / one.pages;
        let options = options.with_cache((unit + 64) * pages + one.checkpoint_bytes / one.checkpoints.max(1));
        let engine = builder(options).build().unwrap();
        let vocab = model.spec().vocab;
        for _ in 0..=usize::from(twice) {
            let streams: Vec<_> = asks.iter().enumerate().map(|(i, ask)| {
                let request = Request::new(prompt(ask, vocab, i), how(ask))
                    .with_choices(ask.choices)
                    .with_priority(ask.priority);
                engine.submit(request).unwrap()
            }).collect();
            for (i, (ask, mut stream)) in asks.iter().zip(streams).enumerate() {
                if let Some(events) = ask.leave {
                    stream.by_ref().take(events).for_each(drop);
                    continue;
                }
                for (choice, got) in read(stream, ask.choices).into_iter().enumerate() {
                    let mut how = how(ask);
                    how.sampling.seed = how.sampling.seed.wrapping_add(choice as u64);
                    let want = alone(&model, context, kv, &prompt(ask, vocab, i), &how);
                    prop_assert_eq!(&got, &want, "request {} choice {}", i, choice);
                }
            }
            settled(&engine);
        }
    }
}

#[test]
fn a_repeated_prompt_comes_from_the_cache() {
    for name in MODELS {
        let model = model(name);
        let options = EngineOptions::default().with_context(384).with_cache(64 << 20);
        let engine = Engine::builder(&model).options(options).build().unwrap();
        let tokens: Vec<u32> = (0..300).map(|i| 3 + i % 40).collect();
        let how = Generate::default().with_max_tokens(2);
        let cached = |engine: &Engine| {
            let mut stream = engine.submit(Request::new(tokens.clone(), how.clone())).unwrap();
            match stream.next() {
                Some(Event::Prompt { tokens: 300, cached, .. }) => cached,
                event => panic!("{event:?}"),
            }
        };
        assert_eq!(cached(&engine), 0);
        settled(&engine);
        // Recurrent layers and windows go on from the last page's end.
        let recurrent = engine.stats().checkpoints > 0;
        assert_eq!(cached(&engine), if recurrent { 256 } else { 299 }, "{name}");
        let stats = settled(&engine);
        assert_eq!(stats.cached_tokens, cached(&engine) as u64);
    }
}

#[test]
fn guesses_of_several_texts_are_right_and_wrong() {
    let (mut guessed, mut right) = (0, 0);
    for name in MODELS {
        let model = model(name);
        let options = EngineOptions::default().with_context(256).with_cache(64 << 20);
        let options = options.with_speculation(Speculation::NgramAlways(5));
        let engine = Engine::builder(&model).options(options).build().unwrap();
        // Of three tokens, by chance.
        let sampling = Sampling::default().with_temperature(2.0).with_top_k(3).with_seed(1);
        let how = Generate::default().with_sampling(sampling).with_max_tokens(120);
        let how = (20..23).fold(how, |how, t| how.with_logit_bias(t, 100.0)).with_ignore_eos(true);
        let ask = |i: u32| Request::new((0..9).map(|t| 3 + i + t % 3).collect(), how.clone());
        let streams: Vec<_> = (0..3).map(|i| engine.submit(ask(i)).unwrap()).collect();
        streams.into_iter().for_each(|s| drop(read(s, 1)));
        let stats = settled(&engine);
        (guessed, right) = (guessed + stats.guessed_tokens, right + stats.right_guesses);
        assert!(stats.guessed_tokens > 0, "{name}: {stats:?}");
        assert_eq!(stats.generated_tokens, 360);
    }
    assert!(right > 100 && right < guessed, "{right} of {guessed}");
}

/// A model guesses for itself: its guesses are right for as long as texts are greedy.
#[test]
fn another_model_guesses_for_several_texts() {
    for name in MODELS {
        let model = model(name);
        let options = EngineOptions::default().with_context(320).with_cache(64 << 20);
        let options = options.with_threads(2).with_oversubscribe(true).with_sequences(4);
        let (mut right, mut guessed) = (0, 0);
        for speculation in [Speculation::DraftAlways(3), Speculation::Draft] {
            let options = options.with_speculation(speculation);
            let engine = Engine::builder(&model).options(options).draft(&model).build().unwrap();
            // One of them has more to catch up with than a step has room for.
            let prompts =
                [9, 200, 30].map(|len| (0..len).map(|i| 3 + i % 50).collect::<Vec<u32>>());
            let how = Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true);
            for how in [how.clone(), how.with_sampling(Sampling::default())] {
                let how = how.with_max_tokens(40).with_logprobs(1);
                let ask = |prompt: &Vec<u32>| Request::new(prompt.clone(), how.clone());
                let streams = prompts.each_ref().map(|p| engine.submit(ask(p)).unwrap());
                for (prompt, stream) in prompts.iter().zip(streams) {
                    let got = read(stream, 1);
                    let want = alone(&model, 320, KvFormat::F32, prompt, &how);
                    assert_eq!(got, [want], "{name} {speculation:?}");
                }
                let stats = settled(&engine);
                if how.sampling == Sampling::greedy() {
                    // But for those behind the ends of texts.
                    assert!(
                        stats.guessed_tokens <= stats.right_guesses + 3 * 3,
                        "{name}: {stats:?}"
                    );
                }
                (right, guessed) = (right + stats.right_guesses, guessed + stats.guessed_tokens);
            }
        }
        assert!(right > 60 && right < guessed, "{name}: {right} of {guessed}");
    }
}

#[test]
fn engines_refuse_drafts_by_name_and_count_their_memory() {
    let (model, other) = (model(MODELS[0]), self::model(MODELS[1]));
    let options = EngineOptions::default().with_context(128).with_cache(8 << 20);
    let with = |options| Engine::builder(&model).options(options);
    let guessing = options.with_speculation(Speculation::Draft);
    let e = with(guessing).build().unwrap_err().to_string();
    assert!(e.contains("the model that is to guess: none was given"), "{e}");
    let e = with(guessing).draft(&other).build().unwrap_err().to_string();
    assert!(e.contains("the model that is to guess: it has"), "{e}");
    // A draft that isn't asked for takes nothing.
    let plain = with(options).draft(&other).memory_requirements().unwrap();
    assert_eq!(plain.draft, 0);
    let needed = with(guessing).draft(&model).memory_requirements().unwrap();
    assert!(needed.draft > 0 && needed.total() >= plain.total() + needed.draft);
    // Without a context and a cache, the longest context that fits is taken.
    let free = EngineOptions::default().with_speculation(Speculation::Draft);
    let needs = |options| with(options).draft(&model).memory_requirements();
    let longest = model.spec().context as usize;
    let whole = needs(free).unwrap().total();
    let mut contexts = Vec::new();
    for memory in (1..=40).map(|i| whole / 32 * i) {
        let free = free.with_memory(memory);
        match needs(free) {
            Ok(needed) => {
                assert!(needed.total() <= memory, "{memory} {needed:?}");
                let more = needs(free.with_context(needed.context + PAGE));
                assert!(needed.context == longest || more.is_err(), "{memory} {more:?}");
                contexts.push(needed.context);
            }
            // The least that would do is named.
            Err(EngineError::Session(SessionError::Budget { needed, .. })) => {
                let least = needs(free.with_memory(needed));
                assert!(contexts.is_empty() && least.is_ok(), "{memory} {needed} {least:?}");
            }
            Err(e) => panic!("{memory}: {e}"),
        }
    }
    assert!(contexts.is_sorted() && contexts[0] < longest && contexts.contains(&longest));
    let at_most = |memory| with(guessing.with_memory(memory)).draft(&model).build();
    assert!(at_most(needed.total()).is_ok());
    let e = at_most(needed.total() - 1).unwrap_err();
    assert!(e.to_string().contains(&needed.total().to_string()), "{e}");
}

#[test]
fn equal_prompts_at_once_are_computed_once() {
    let model = model(MODELS[1]);
    let options = EngineOptions::default().with_context(384).with_cache(64 << 20);
    let engine = Engine::builder(&model).options(options).build().unwrap();
    let tokens: Vec<u32> = (0..300).map(|i| 3 + i % 50).collect();
    let how = Generate::default().with_max_tokens(3);
    let streams: Vec<_> =
        (0..6).map(|_| engine.submit(Request::new(tokens.clone(), how.clone())).unwrap()).collect();
    streams.into_iter().for_each(|s| drop(read(s, 1)));
    let stats = settled(&engine);
    // All of one prompt, and the last token of each of the others.
    assert_eq!(stats.prompt_tokens - stats.cached_tokens, 300 + 5);
    let choices = Request::new((0..100).map(|i| 60 + i % 9).collect(), how.clone()).with_choices(4);
    read(engine.submit(choices).unwrap(), 4);
    let more = settled(&engine);
    assert_eq!(more.prompt_tokens - more.cached_tokens, 300 + 5 + 100);
}

#[test]
fn prompt_logprobs_are_those_of_a_session() {
    let model = model(MODELS[0]);
    let options = EngineOptions::default().with_context(256).with_sequences(2).with_batch(40);
    let engine = Engine::builder(&model).options(options).build().unwrap();
    let tokens: Vec<u32> = (0..150).map(|i| 3 + (i * 7) % 60).collect();
    let how = Generate::default().with_max_tokens(0).with_logprobs(2);
    for _ in 0..2 {
        let request = Request::new(tokens.clone(), how.clone()).with_prompt_logprobs(true);
        let mut stream = engine.submit(request).unwrap();
        let Some(Event::Prompt { logprobs, cached: 0, .. }) = stream.next() else { panic!() };
        assert_eq!(logprobs.len(), tokens.len() - 1);
        let mut session = model.session(&SessionOptions::default().with_context(256)).unwrap();
        for (i, got) in logprobs.iter().enumerate() {
            let row = session.eval(&tokens[i..=i], teff::LogitsFor::Last).unwrap();
            let distribution = teff::LogSoftmax::new(row).unwrap();
            let want = distribution.logprob(row[tokens[i + 1] as usize]) as f32;
            assert_eq!(got.chosen.logprob.to_bits(), want.to_bits());
            assert_eq!((got.chosen.token, got.top.len()), (tokens[i + 1], 2));
        }
        assert!(matches!(
            stream.next(),
            Some(Event::Finished { finish: Finish::Length, generated: 0, .. })
        ));
    }
}

#[test]
fn prefixes_are_saved_and_loaded() {
    let folder = std::env::temp_dir().join(format!("teff-prefix-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for name in MODELS {
        let (model, file) = (model(name), folder.join("prefix"));
        let options = EngineOptions::default().with_context(320).with_cache(16 << 20);
        let build = || Engine::builder(&model).options(options).build().unwrap();
        let tokens: Vec<u32> = (0..200).map(|i| 3 + i % 40).collect();
        let first = build();
        let recurrent = first.stats().checkpoints > 0;
        let saved = first.save_prefix(&tokens, &file).unwrap();
        assert_eq!(saved, if recurrent { 192 } else { 200 });
        let second = build();
        assert_eq!(second.load_prefix(&file).unwrap(), tokens[..saved]);
        settled(&second);
        let how = Generate::default().with_max_tokens(20).with_logprobs(1);
        let mut prompt = tokens.clone();
        prompt.extend([5, 6, 7]);
        let mut stream = second.submit(Request::new(prompt.clone(), how.clone())).unwrap();
        let Some(Event::Prompt { cached, .. }) = stream.next() else { panic!() };
        assert_eq!(cached, saved, "{name}");
        drop(stream);
        let got = read(second.submit(Request::new(prompt.clone(), how.clone())).unwrap(), 1);
        assert_eq!(got[0], alone(&model, 320, KvFormat::F32, &prompt, &how));

        // Another model, another cache format, damage.
        let other = self::model(if name == MODELS[0] { MODELS[1] } else { MODELS[0] });
        let other = Engine::builder(&other).options(options).build().unwrap();
        let refused = other.load_prefix(&file).unwrap_err().to_string();
        assert!(refused.contains("another model"), "{refused}");
        let q8 = Engine::builder(&model).options(options.with_kv(KvFormat::Q8)).build().unwrap();
        assert!(q8.load_prefix(&file).unwrap_err().to_string().contains("another format"));
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert!(second.load_prefix(&file).unwrap_err().to_string().contains("damaged"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}
