//! Guesses change no bit: texts, pieces, log probabilities and random numbers are those without them.

use proptest::prelude::*;

use crate::common::data;
use teff::{
    Finish, Generate, KvFormat, LogitsFor, Model, Piece, Sampling, Session, SessionOptions,
    Speculation,
};

/// Attention, a short convolution, windows, linear attention, and experts.
const FILES: [&str; 5] = [
    "gpt2/gpt2-Q8_0.gguf",
    "lfm2/lfm2-Q4_0.gguf",
    "gemma3/gemma3-Q4_0.gguf",
    "qwen35/qwen35-Q4_0.gguf",
    "qwen3moe/qwen3moe-Q4_K_M.gguf",
];

fn model(name: &str) -> Model {
    Model::open(data("..").join(name)).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions::default().with_context(96).with_threads(1)
}

/// Pieces of a text, its tokens, and the logits of its last token.
type Whole = (Vec<Piece>, Option<Finish>, Vec<u32>, Vec<u32>);

fn logits(session: &mut Session<'_>) -> Vec<u32> {
    let last = *session.tokens().last().unwrap();
    session.truncate(session.tokens().len() - 1);
    session.eval(&[last], LogitsFor::Last).unwrap().iter().map(|x| x.to_bits()).collect()
}

fn run(session: &mut Session<'_>, prompt: &[u32], how: &Generate) -> Whole {
    let mut text = session.generate_ids(prompt, how).unwrap();
    let pieces = (&mut text).map(Result::unwrap).collect();
    let finish = text.finish();
    let tokens = session.tokens().to_vec();
    (pieces, finish, tokens, logits(session))
}

/// A prompt that repeats itself now and then.
fn prompts() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec((0u32..40, 1usize..6), 1..6).prop_map(|parts| {
        let part = |(first, len): (u32, usize)| (0..len as u32).map(move |i| 3 + first + i % 3);
        parts.into_iter().flat_map(part).collect()
    })
}

fn samplings() -> impl Strategy<Value = Sampling> {
    (0u8..4, any::<u64>()).prop_map(|(kind, seed)| match kind {
        0 => Sampling::greedy(),
        1 => Sampling { temperature: 0.3, top_k: 3, ..Sampling::default() }.with_seed(seed),
        2 => Sampling { temperature: 0.1, repeat_penalty: 1.3, ..Sampling::default() }
            .with_seed(seed),
        _ => Sampling { temperature: 1.0, ..Sampling::default() }.with_seed(seed),
    })
}

fn kinds() -> impl Strategy<Value = Speculation> {
    prop_oneof![Just(Speculation::Ngram), (1u8..16).prop_map(Speculation::NgramAlways)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 60 } else { 1000 }))]

    #[test]
    fn texts_are_the_same_with_guesses_and_without(
        file in 0..FILES.len(), prompt in prompts(), sampling in samplings(), kind in kinds(),
        n in 1usize..60, quantized in any::<bool>(), threads in 1usize..3,
    ) {
        let model = model(FILES[file]);
        let kv = if quantized { KvFormat::Q8 } else { KvFormat::F32 };
        let options = options().with_kv(kv).with_threads(threads);
        let how = Generate::default().with_sampling(sampling).with_max_tokens(n).with_logprobs(2);
        let how = how.with_logit_bias(7, 0.5).with_ignore_eos(true);
        let mut plain = model.session(&options).unwrap();
        let mut guessing = model.session(&options.with_speculation(kind)).unwrap();
        // Twice: the second goes on from the first.
        for prompt in [&prompt[..], &prompt[..1]] {
            let want = run(&mut plain, prompt, &how);
            let got = run(&mut guessing, prompt, &how);
            prop_assert_eq!(format!("{want:?}"), format!("{got:?}"));
        }
    }

    /// A text that is left in the middle is where its reader left it, whatever follows.
    #[test]
    fn a_text_can_be_left_anywhere(
        file in 0..FILES.len(), prompt in prompts(), kind in kinds(), pieces in 0usize..20,
        then in 0u8..5,
    ) {
        let model = model(FILES[file]);
        let how = Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true);
        let after = |options: &SessionOptions| {
            let mut s = model.session(options).unwrap();
            let mut text = s.generate_ids(&prompt, &how).unwrap();
            for _ in 0..pieces {
                text.next_piece().unwrap();
            }
            drop(text);
            match then {
                0 => drop(s.eval(&[5, 6], LogitsFor::Last).unwrap()),
                1 => s.truncate(s.tokens().len() / 2),
                2 => s = s.fork().unwrap(),
                3 => {
                    let bytes = s.snapshot();
                    s = model.session(options).unwrap();
                    s.restore(&bytes).unwrap();
                }
                _ => drop(s.checkpoint()),
            }
            let how = how.clone().with_max_tokens(5);
            run(&mut s, &[], &how)
        };
        let want = after(&options());
        prop_assert_eq!(format!("{want:?}"), format!("{:?}", after(&options().with_speculation(kind))));
    }
}

/// Whatever a model would write: a text that repeats itself, but for some places.
fn steer(tokens: &[u32], logits: &mut [f32]) {
    let n = tokens.len();
    let next = if n % 13 == 12 { 30 } else { 10 + n % 5 };
    let kept = logits[next];
    logits.fill(f32::NEG_INFINITY);
    logits[next] = kept;
}

#[test]
fn guesses_are_right_and_wrong_and_change_nothing() {
    for name in FILES {
        let model = model(name);
        let how = Generate::default().with_max_tokens(80).with_logprobs(1).with_ignore_eos(true);
        let text = |kind: Speculation| {
            let mut session = model.session(&options().with_speculation(kind)).unwrap();
            let text = session.generate_ids(&[5, 6, 7], &how).unwrap();
            let pieces: Vec<Piece> = text.with_hook(steer).unwrap().map(Result::unwrap).collect();
            let stats = session.speculation_stats();
            (format!("{pieces:?} {:?}", logits(&mut session)), stats)
        };
        let (want, none) = text(Speculation::Off);
        assert_eq!((none.guessed, none.right), (0, 0));
        for n in [1, 4, 15] {
            let (got, stats) = text(Speculation::NgramAlways(n));
            assert_eq!(want, got, "{name}");
            assert!(stats.right > 20 && stats.guessed > stats.right, "{name}: {stats:?}");
        }
        assert_eq!(want, text(Speculation::Ngram).0, "{name}");
    }
}

/// A model guesses for itself: its guesses are right for as long as texts are greedy.
#[test]
fn another_model_guesses() {
    let mut some = [0; 2];
    for name in FILES {
        let model = model(name);
        let greedy = Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true);
        for how in [greedy.clone(), Generate::default().with_ignore_eos(true)] {
            let how = how.with_max_tokens(40).with_logprobs(1);
            let want = run(&mut model.session(&options()).unwrap(), &[5, 6, 7], &how);
            for kind in [Speculation::DraftAlways(3), Speculation::Draft] {
                let options = options().with_speculation(kind);
                let mut session = model.session_builder(&options).draft(&model).build().unwrap();
                let got = run(&mut session, &[5, 6, 7], &how);
                assert_eq!(format!("{want:?}"), format!("{got:?}"), "{name} {kind:?}");
                let (right, guessed) =
                    (session.speculation_stats().right, session.speculation_stats().guessed);
                some = [some[0] + right, some[1] + guessed];
                if how.sampling == Sampling::greedy() {
                    // But for those behind the text's end.
                    assert!(guessed - right <= 3, "{name}: {right} of {guessed}");
                }
                let mut fork = session.fork().unwrap();
                let more = run(&mut fork, &[8], &how.clone().with_max_tokens(5));
                let mut plain = model.session(&self::options()).unwrap();
                plain.eval(&got.2, LogitsFor::None).unwrap();
                let want = run(&mut plain, &[8], &how.clone().with_max_tokens(5));
                assert_eq!(format!("{want:?}"), format!("{more:?}"), "{name}: a fork");
            }
        }
    }
    assert!(some[0] > 100 && some[0] < some[1], "{some:?}");
}

#[test]
fn drafts_of_other_vocabularies_are_refused_by_name() {
    let (model, other) = (model(FILES[0]), self::model(FILES[1]));
    let with = options().with_speculation(Speculation::Draft);
    let e = model.session_builder(&with).draft(&other).build().unwrap_err().to_string();
    assert!(e.contains("the model that is to guess: it"), "{e}");
    let e = model.session(&with).unwrap_err().to_string();
    assert_eq!(e, "the model that is to guess: none was given");
    let needed = model.session_builder(&with).draft(&model).memory_requirements().unwrap();
    assert!(
        needed.draft > 0 && needed.total() > model.memory_requirements(&options()).unwrap().total()
    );
    let with = with.with_budget(needed.total() - 1);
    assert!(model.session_builder(&with).draft(&model).build().is_err());
}

#[test]
fn guesses_take_the_memory_that_was_said_before() {
    let model = model(FILES[0]);
    let plain = model.memory_requirements(&options()).unwrap().total();
    let options = options().with_speculation(Speculation::Ngram);
    let needed = model.memory_requirements(&options).unwrap().total();
    let rows = 15 * model.spec().vocab as usize * 4;
    assert!(needed > plain && needed <= plain + 2 * rows, "{plain} {needed}");
    assert!(model.session(&options.with_budget(needed - 1)).is_err());
    assert!(model.session(&options.with_budget(needed)).is_ok());
}
