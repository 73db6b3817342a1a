//! The same ids as transformers and tiktoken, for GPT-2.

use std::path::Path;

use teff_graph::gguf::Gguf;
use teff_tokenizer::json::{Event, Reader};
use teff_tokenizer::*;

use crate::common::{END, Random, oracle};

pub(crate) fn from_gguf(path: &Path) -> Tokenizer {
    let bytes = std::fs::read(path).unwrap();
    Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap()
}

/// GPT-2's own vocabulary.
fn gpt2() -> Option<Tokenizer> {
    oracle("vocabs/ggml-vocab-gpt-2.gguf").map(|path| from_gguf(&path))
}

#[test]
fn gpt2_s_vocabulary_is_what_it_is_known_to_be() {
    let Some(tokenizer) = gpt2() else { return };
    assert_eq!(tokenizer.vocab_size(), 50257);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(50256), Some(50256)));
    assert!(tokenizer.is_special(50256) && !tokenizer.is_special(50255));
    assert!(!tokenizer.add_bos());
    assert_eq!(tokenizer.token_bytes(15496), Some(&b"Hello"[..]));
    assert_eq!(tokenizer.token_bytes(995), Some(&b" world"[..]));
    assert_eq!(tokenizer.token_bytes(220), Some(&b" "[..]));
    assert_eq!(tokenizer.token_bytes(50257), None);
    assert_eq!(tokenizer.find_token(b" the"), Some(262));
    let ids = tokenizer.encode("a<|endoftext|>b", Specials::Parse).unwrap();
    assert_eq!(ids, [64, 50256, 65]);
    let ids = tokenizer.encode("a<|endoftext|>b", Specials::Ignore).unwrap();
    assert_eq!(ids, [64, 27, 91, 437, 1659, 5239, 91, 29, 65]);
    // The file has 1,766,807 bytes.
    assert!(tokenizer.memory() < 2 * 1_766_807 + (1 << 20), "{}", tokenizer.memory());
}

/// Texts and ids of golden_tokens.json.
pub(crate) fn golden(folder: &Path) -> Vec<(String, Vec<u32>)> {
    let bytes = std::fs::read(folder.join("golden_tokens.json")).unwrap();
    let mut r = Reader::new(&bytes);
    let mut all = Vec::new();
    while let Some(event) = r.next().unwrap() {
        match event {
            Event::ObjectStart => all.push((String::new(), Vec::new())),
            Event::String(text) => text.push_to(&mut all.last_mut().unwrap().0),
            Event::Number(id) => all.last_mut().unwrap().1.push(id.parse().unwrap()),
            _ => {}
        }
    }
    assert!(all.len() >= 10);
    all
}

#[test]
fn golden_tokens_of_the_small_models_from_all_sources() {
    for (model, gguf) in [("gpt2", "gpt2-f32.gguf"), ("gpt2-k", "gpt2-k-Q8_0.gguf")] {
        let Some(folder) = oracle(model) else { continue };
        let read = |name| std::fs::read(folder.join(name)).unwrap();
        let config = read("tokenizer_config.json");
        let sources = [
            ("folder", Tokenizer::from_folder(&folder).unwrap()),
            ("GGUF", from_gguf(&folder.join(gguf))),
            (
                "tokenizer.json",
                Tokenizer::from_tokenizer_json(&read("tokenizer.json"), None).unwrap(),
            ),
            (
                "vocab.json and merges.txt",
                Tokenizer::from_vocab_merges(
                    &read("vocab.json"),
                    &read("merges.txt"),
                    Some(&config),
                )
                .unwrap(),
            ),
        ];
        for (source, tokenizer) in &sources {
            for (text, want) in golden(&folder) {
                // The reference matches special tokens in every text.
                let ids = tokenizer.encode(&text, Specials::Parse).unwrap();
                assert_eq!(ids, want, "{model} from {source}: {text:?}");
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
                let ids = tokenizer.encode(&text, Specials::Ignore).unwrap();
                assert_eq!(ids == want, !text.contains(END));
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            }
            let first = &sources[0].1;
            assert_eq!(tokenizer.vocab_size(), first.vocab_size());
            for id in 0..first.vocab_size() as u32 {
                assert_eq!(tokenizer.token_bytes(id), first.token_bytes(id));
                assert_eq!(tokenizer.token_kind(id), first.token_kind(id), "{id} {source}");
            }
            let (ids, want) = (tokenizer.special_ids(), first.special_ids());
            assert_eq!((ids.bos, ids.eos, ids.add_bos), (want.bos, want.eos, want.add_bos));
            assert!(ids.bos.is_some_and(|id| tokenizer.is_special(id)));
        }
    }
}

/// A text of a few parts of all kinds.
pub(crate) fn random_text(r: &mut Random, out: &mut String) {
    const SPACES: &[&str] = &[
        " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u{a0}", "\u{2003}",
        "\u{3000}", "\u{85}",
    ];
    const WORDS: &[&str] = &[
        "the",
        "Hello",
        "world",
        "tokenizer",
        "I",
        "we",
        "internationalization",
        "aaaaaaaa",
        "Don",
        "naïve",
        "Äpfel",
        "нещо",
        "Български",
        "日本語",
        "漢字",
        "한국어",
        "ไทย",
        "عربي",
        "हिन्दी",
        "supercalifragilisticexpialidociousantidisestablishmentarianism",
    ];
    const ENDINGS: &[&str] = &["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'x", "''", "’s"];
    const SIGNS: &[&str] = &[
        "!",
        "...",
        "(",
        "{}",
        "->",
        "#!",
        "==",
        "---",
        "\"",
        "'",
        "/*",
        "€",
        "…",
        "<|endoftext|>",
    ];
    const MARKS: &[&str] = &[
        "🦙",
        "🚀",
        "👩\u{200d}👩\u{200d}👧",
        "e\u{301}",
        "\u{301}",
        "\u{200d}",
        "\u{feff}",
        "½",
        "Ⅷ",
        "²",
        "٣",
        "\0",
        "\u{1f}",
        "\u{fffd}",
        "\u{10ffff}",
    ];
    for _ in 0..r.below(9) {
        match r.below(10) {
            0..=2 => {
                let space = r.pick(SPACES);
                (0..1 + r.below(2)).for_each(|_| out.push_str(space));
            }
            3 | 4 => {
                out.push_str(if r.below(3) > 0 { " " } else { "" });
                out.push_str(r.pick(WORDS));
            }
            5 => out.push_str(r.pick(ENDINGS)),
            6 => {
                let digits = r.next() % 10u64.pow(1 + r.below(12) as u32);
                out.push_str(&digits.to_string());
            }
            7 => out.push_str(r.pick(SIGNS)),
            8 => out.push_str(r.pick(MARKS)),
            _ => {
                // Any characters, more often from the lower planes, in which most are assigned.
                let bits = 7 + r.below(15);
                for _ in 0..1 + r.below(6) {
                    let c = char::from_u32((r.next() & ((1 << bits) - 1)) as u32);
                    out.extend(c);
                }
            }
        }
    }
}

#[test]
fn random_texts_have_tiktoken_s_ids() {
    let Some(tokenizer) = gpt2() else { return };
    let tiktoken = tiktoken_rs::r50k_base().unwrap();
    let check = |seed, n| {
        let (mut r, mut text) = (Random(seed), String::new());
        let (mut ids, mut scratch) = (Vec::new(), EncodeScratch::default());
        for _ in 0..n {
            text.clear();
            random_text(&mut r, &mut text);
            ids.clear();
            tokenizer.encode_into(&text, Specials::Ignore, &mut scratch, &mut ids).unwrap();
            assert_eq!(ids, tiktoken.encode_ordinary(&text), "{text:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            if text.contains(END) {
                ids.clear();
                tokenizer.encode_into(&text, Specials::Parse, &mut scratch, &mut ids).unwrap();
                assert_eq!(ids, tiktoken.encode_with_special_tokens(&text), "{text:?}");
            }
        }
    };
    std::thread::scope(|s| {
        for seed in 0..4 {
            let check = &check;
            s.spawn(move || check(seed, crate::common::texts() / 4));
        }
    });
}

#[test]
fn pieces_of_all_lengths_have_tiktoken_s_ids() {
    let Some(tokenizer) = gpt2() else { return };
    let tiktoken = tiktoken_rs::r50k_base().unwrap();
    let mut r = Random(7);
    for len in (0..300).chain([1000, 4000]) {
        // Letters, runs of one letter, and symbols, each a single piece.
        let some: String = (0..len).map(|_| (b'a' + r.below(26) as u8) as char).collect();
        let runs: String = (0..len).map(|i| (b'a' + (i / 37 % 3) as u8) as char).collect();
        let signs: String = (0..len).map(|_| r.pick(&["-", "=", "*", "\"", "/"])).collect();
        for text in [some, runs, signs, " ".repeat(len), "\n".repeat(len), "日".repeat(len)] {
            let ids = tokenizer.encode(&text, Specials::Ignore).unwrap();
            assert_eq!(ids, tiktoken.encode_ordinary(&text), "{text:?}");
        }
    }
}

#[test]
fn a_megabyte_without_a_gap_is_no_trouble() {
    let Some(tokenizer) = gpt2() else { return };
    for text in
        ["a".repeat(1 << 20), " ".repeat(1 << 20), "ab-".repeat(1 << 18), "é".repeat(1 << 19)]
    {
        let ids = tokenizer.encode(&text, Specials::Parse).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
