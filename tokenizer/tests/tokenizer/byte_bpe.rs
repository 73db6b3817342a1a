//! Byte-level vocabularies of the Llama 3 and Qwen kinds, against llama.cpp, transformers and the
//! `tokenizers` crate.

use std::path::Path;

use teff_graph::gguf::{Gguf, GgufValue};
use teff_tokenizer::TokenizerError as E;
use teff_tokenizer::*;
use tokenizers::Normalizer;
use unicode_normalization::UnicodeNormalization;

use crate::common::{END, Folder, Random, Small, oracle, quote};
use crate::oracles::{from_gguf, golden, random_text};

#[test]
fn llama_cpp_s_texts_have_llama_cpp_s_ids() {
    for name in ["gpt-2", "llama-bpe", "qwen2"] {
        let Some(vocab) = oracle(&format!("vocabs/ggml-vocab-{name}.gguf")) else { continue };
        let Some(texts) = oracle(&format!("vocabs/ggml-vocab-{name}.gguf.inp")) else { continue };
        let tokenizer = from_gguf(&vocab);
        let ids = std::fs::read_to_string(texts.with_extension("out")).unwrap();
        let texts = std::fs::read_to_string(texts).unwrap();
        const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
        let texts: Vec<_> = texts.trim_end_matches(SEPARATOR).split(SEPARATOR).collect();
        let lines: Vec<_> = ids.lines().collect();
        assert!(texts.len() == lines.len() && texts.len() > 40);
        for (text, line) in texts.iter().zip(&lines) {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, Specials::Ignore).unwrap(), want, "{name} {text:?}");
            assert_eq!(tokenizer.decode(&want).unwrap(), *text);
        }
    }
}

#[test]
fn golden_tokens_of_qwen_from_all_sources() {
    for model in ["qwen2", "qwen3"] {
        let Some(folder) = oracle(model) else { continue };
        let read = |name| std::fs::read(folder.join(name)).unwrap();
        let (config, json) = (read("tokenizer_config.json"), read("tokenizer.json"));
        let pair = (read("vocab.json"), read("merges.txt"));
        let sources = [
            from_gguf(&folder.join(format!("{model}-Q8_0.gguf"))),
            Tokenizer::from_folder(&folder).unwrap(),
            Tokenizer::from_tokenizer_json(&json, Some(&config)).unwrap(),
            Tokenizer::from_vocab_merges(&pair.0, &pair.1, Some(&config)).unwrap(),
        ];
        for (source, tokenizer) in sources.iter().enumerate() {
            for (text, want) in golden(&folder) {
                let ids = tokenizer.encode(&text, Specials::Parse).unwrap();
                assert_eq!(ids, want, "{model}, source {source}: {text:?}");
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            }
            assert!(!tokenizer.add_bos() && !tokenizer.add_eos());
            assert_eq!(tokenizer.vocab_size(), sources[1].vocab_size());
        }
    }
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The components of tokenizer.json in which models differ.
struct Kind {
    pattern: &'static str,
    normalizer: &'static str,
    ignore_merges: bool,
    post: &'static str,
}

const LLAMA_KIND: Kind = Kind {
    pattern: LLAMA3,
    normalizer: "null",
    ignore_merges: true,
    post: r#"{"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|begin_of_text|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"SpecialToken":{"id":"<|begin_of_text|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<|begin_of_text|>","type_id":1}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<|begin_of_text|>":{"id":"<|begin_of_text|>","ids":[128000],"tokens":["<|begin_of_text|>"]}}}]}"#,
};

const QWEN_KIND: Kind = Kind {
    pattern: QWEN2,
    normalizer: r#"{"type":"NFC"}"#,
    ignore_merges: false,
    post: r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#,
};

/// tokenizer.json of a vocabulary in GGUF, like the model's own.
fn tokenizer_json(gguf: &Path, kind: &Kind) -> String {
    let bytes = std::fs::read(gguf).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let array = |key| match gguf.value(key) {
        Some(GgufValue::Array(array)) => array,
        _ => panic!("{key}"),
    };
    let text = |bytes: &[u8]| quote(std::str::from_utf8(bytes).unwrap());
    let types = array("tokenizer.ggml.token_type").integers().unwrap();
    let (mut vocab, mut added) = (Vec::new(), Vec::new());
    for ((id, token), kind) in
        array("tokenizer.ggml.tokens").strings().unwrap().enumerate().zip(types)
    {
        let token = text(token);
        match kind {
            1 => vocab.push(format!("{token}:{id}")),
            _ => added.push(format!(
                r#"{{"id":{id},"content":{token},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":{}}}"#,
                kind == 3
            )),
        }
    }
    let merges = array("tokenizer.ggml.merges").strings().unwrap();
    let merges: Vec<String> = merges.map(text).collect();
    let Kind { pattern, normalizer, ignore_merges, post } = kind;
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":{normalizer},"pre_tokenizer":{{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}},{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}}]}},"post_processor":{post},"decoder":{{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}},"model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":{ignore_merges},"vocab":{{{}}},"merges":[{}]}}}}"#,
        added.join(","),
        quote(pattern),
        vocab.join(","),
        merges.join(",")
    )
}

/// A text of characters that matter to the patterns and to normalisation.
fn tricky_text(r: &mut Random, specials: &[String], out: &mut String) {
    const CHARS: &[char] = &[
        ' ', ' ', ' ', '\n', '\n', '\r', '\t', '\u{a0}', '\u{3000}', '\u{85}', '\'', '\'', '\'',
        's', 'S', 'ſ', 't', 'r', 'R', 'e', 'E', 'v', 'm', 'l', 'L', 'd', 'K', '\u{212a}', 'ß', '1',
        '2', '9', '½', 'Ⅷ', '.', '-', '_', 'é', 'o', 'a', '\u{301}', '\u{300}', '\u{327}',
        '\u{323}', '\u{308}', '\u{345}', '\u{344}', '\u{1100}', '\u{1161}', '\u{11a8}', '가',
        '\u{9c7}', '\u{9be}', '\u{f73}', '\u{2126}', '\u{fb2c}', '日', '🦙', '\0', '>', '\u{338}',
        '\u{f900}', '\u{1e9b}', '\u{95c}', '\u{307}',
    ];
    for _ in 0..r.below(20) {
        if r.below(16) == 0 && !specials.is_empty() {
            out.push_str(&specials[r.below(specials.len())]);
        } else {
            out.push(CHARS[r.below(CHARS.len())]);
        }
    }
}

/// True if the `tokenizers` crate normalises the text differently from Unicode 16.
fn older_nfc(text: &str) -> bool {
    let mut theirs = tokenizers::NormalizedString::from(text);
    tokenizers::normalizers::NFC.normalize(&mut theirs).unwrap();
    let older = !text.nfc().eq(theirs.get().chars());
    // New characters have large code points.
    assert!(!older || text.chars().any(|c| c >= '\u{800}'), "{text:?}");
    older
}

/// 100,000 texts of one vocabulary, from a folder, against the `tokenizers` crate.
fn against_tokenizers(name: &str, kind: &Kind, add_bos: bool) {
    let Some(vocab) = oracle(&format!("vocabs/ggml-vocab-{name}.gguf")) else { return };
    let json = tokenizer_json(&vocab, kind);
    let reference: tokenizers::Tokenizer = json.parse().unwrap();
    let mut plain = reference.clone();
    plain.set_encode_special_tokens(true);
    let folder = Folder::new(&format!("byte-bpe-{name}"), &[("tokenizer.json", &json)]);
    let tokenizer = Tokenizer::from_folder(&folder.0).unwrap();
    assert_eq!(tokenizer.add_bos(), add_bos);
    assert!(tokenizer.bos().is_some());
    let from_gguf = from_gguf(&vocab);
    assert_eq!(from_gguf.add_bos(), add_bos);
    let named = (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_special(id));
    let specials = named.take(5).map(|id| tokenizer.decode(&[id]).unwrap());
    let specials: Vec<String> = specials.collect();
    let check = |seed, n| {
        let (mut r, mut text) = (Random(seed), String::new());
        let (mut ids, mut scratch) = (Vec::new(), EncodeScratch::default());
        for i in 0..n {
            text.clear();
            match r.below(2) {
                0 => random_text(&mut r, &mut text),
                _ => tricky_text(&mut r, &specials, &mut text),
            }
            // The crate's tables are of an older Unicode: texts that it normalises differently are
            // not tests.
            if kind.normalizer != "null" && older_nfc(&text) {
                continue;
            }
            let (specials, reference) = match i % 4 {
                0 => (Specials::Ignore, &plain),
                _ => (Specials::Parse, &reference),
            };
            ids.clear();
            tokenizer.encode_into(&text, specials, &mut scratch, &mut ids).unwrap();
            let want = reference.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(ids, want.get_ids(), "{name} {specials:?} {text:?}");
            if kind.normalizer == "null" {
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
                assert_eq!(from_gguf.encode(&text, specials).unwrap(), ids, "{text:?}");
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
fn random_texts_of_llama_3_have_the_ids_of_tokenizers() {
    against_tokenizers("llama-bpe", &LLAMA_KIND, true);
}

#[test]
fn random_texts_of_qwen_have_the_ids_of_tokenizers() {
    against_tokenizers("qwen2", &QWEN_KIND, false);
}

#[test]
fn long_pieces_have_the_ids_of_tokenizers() {
    for (name, kind) in [("llama-bpe", &LLAMA_KIND), ("qwen2", &QWEN_KIND)] {
        let Some(vocab) = oracle(&format!("vocabs/ggml-vocab-{name}.gguf")) else { continue };
        let json = tokenizer_json(&vocab, kind);
        let reference: tokenizers::Tokenizer = json.parse().unwrap();
        let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
        for len in (0..40).chain([64, 80, 200, 1000]) {
            for part in ["a", " ", "\n", "=", "日", "1", " \n", "'s", "e\u{301}", "가", "\u{327}"]
            {
                let text = part.repeat(len);
                let ids = tokenizer.encode(&text, Specials::Parse).unwrap();
                let want = reference.encode_fast(text.as_str(), false).unwrap();
                assert_eq!(ids, want.get_ids(), "{name} {len} times {part:?}");
            }
        }
        for part in ["a", " ", "\n", "ab-", "1", "e\u{301}", "\u{327}\u{301}"] {
            let text = part.repeat(1 << 17);
            tokenizer.encode(&text, Specials::Parse).unwrap();
        }
    }
}

/// A small tokenizer.json with some of its components replaced.
fn changed(small: &Small, changes: &[(&str, &str)]) -> Result<Tokenizer, E> {
    let mut json = small.tokenizer_json(true);
    for (from, to) in changes {
        assert!(json.contains(from), "{from}");
        json = json.replacen(from, to, 1);
    }
    Tokenizer::from_tokenizer_json(json.as_bytes(), None)
}

const NO_NORMALIZER: &str = r#""normalizer":null"#;
const NFC: &str = r#""normalizer":{"type":"NFC"}"#;
const NO_POST: &str = r#""post_processor":null"#;

#[test]
fn texts_are_normalised_where_tokenizer_json_asks_for_it() {
    let small = Small::sample();
    let plain = changed(&small, &[]).unwrap();
    for nfc in [NFC, r#""normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"}]}"#] {
        let nfc = changed(&small, &[(NO_NORMALIZER, nfc)]).unwrap();
        for (text, normal) in [("e\u{301} x", "é x"), ("hello", "hello"), ("\u{212b}", "Å")] {
            let ids = nfc.encode(text, Specials::Ignore).unwrap();
            assert_eq!(ids, plain.encode(normal, Specials::Ignore).unwrap());
            assert_eq!(nfc.decode(&ids).unwrap(), normal);
        }
        // Text on both sides of a special token is normalised separately.
        let ids = nfc.encode("e<|endoftext|>\u{301}e\u{301}", Specials::Parse).unwrap();
        assert_eq!(nfc.decode(&ids).unwrap(), "e<|endoftext|>\u{301}é");
    }
}

#[test]
fn normalised_tokens_are_found_in_normalised_text() {
    let small = Small::sample();
    let end = small.end();
    let of = |content: &str, nfc: bool, normalized: bool| {
        let json = small.tokenizer_json(true);
        let json = json.replace(END, content);
        let byte_level = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false}"#;
        let json = json.replacen(r#"{"type":"ByteLevel"}"#, byte_level, 1);
        let json = if nfc { json.replacen(NO_NORMALIZER, NFC, 1) } else { json };
        json.replacen(r#""normalized":false"#, &format!(r#""normalized":{normalized}"#), 1)
    };
    let build = |json: &str| Tokenizer::from_tokenizer_json(json.as_bytes(), None);
    for content in [END, "<é>", "ab"] {
        for (nfc, normalized) in [(true, true), (true, false), (false, true), (false, false)] {
            let json = of(content, nfc, normalized);
            let (ours, theirs) = (build(&json).unwrap(), json.parse::<tokenizers::Tokenizer>());
            let theirs = theirs.unwrap();
            // A mark after a token composes with its last character: then the token doesn't match.
            for mark in ["", "\u{338}", "\u{301}"] {
                for accent in ["é", "e\u{301}"] {
                    let text =
                        format!("x {}{mark} {content}y{content}", content.replace('é', accent));
                    let ids = ours.encode(&text, Specials::Parse).unwrap();
                    let want = theirs.encode_fast(text.as_str(), false).unwrap();
                    assert_eq!(ids, want.get_ids(), "{nfc} {normalized} {text:?}");
                    assert!(ids.contains(&end));
                }
            }
        }
    }
    // A token that normalisation changes is found in its normal form.
    let tokenizer = build(&of("e\u{301}", true, true)).unwrap();
    assert_eq!(tokenizer.encode("aé", Specials::Parse).unwrap(), [97, end]);
}

#[test]
fn a_piece_that_is_a_token_is_not_merged_where_merges_are_ignored() {
    // "abc" is a token, and the merges make "bc" first.
    let mut small = Small::new();
    let letter = |c: u8| u32::from(c);
    small.merge(letter(b'b'), letter(b'c'));
    small.merge(letter(b'a'), letter(b'b'));
    small.merge(257, letter(b'c'));
    let merged = changed(&small, &[]).unwrap();
    let ignoring = (r#""fuse_unk":false"#, r#""ignore_merges":true"#);
    let ignoring = changed(&small, &[ignoring]).unwrap();
    assert_eq!(merged.encode("abc", Specials::Ignore).unwrap(), [97, 256]);
    assert_eq!(ignoring.encode("abc", Specials::Ignore).unwrap(), [258]);
    assert_eq!(ignoring.encode("abcabc", Specials::Ignore).unwrap(), [97, 256, 97, 256]);
    // A special token's name in user text is not a special token.
    assert_eq!(ignoring.encode("<|endoftext|>", Specials::Ignore).unwrap().len(), 13);
    assert!(ignoring.memory() > merged.memory());
}

#[test]
fn what_is_put_around_texts_is_told() {
    let small = Small::sample();
    let end = small.end();
    let post = |single: &str| {
        format!(
            r#""post_processor":{{"type":"TemplateProcessing","single":[{single}],"pair":[],"special_tokens":{{"E":{{"id":"E","ids":[{end}],"tokens":["<|endoftext|>"]}}}}}}"#
        )
    };
    let (text, token) =
        (r#"{"Sequence":{"id":"A","type_id":0}}"#, r#"{"SpecialToken":{"id":"E","type_id":0}}"#);
    let with = |single: &str| changed(&small, &[(NO_POST, &post(single))]);
    for (single, bos, eos) in [
        (text.to_string(), false, false),
        (format!("{token},{text}"), true, false),
        (format!("{text},{token}"), false, true),
        (format!("{token},{text},{token}"), true, true),
    ] {
        let tokenizer = with(&single).unwrap();
        assert_eq!((tokenizer.add_bos(), tokenizer.add_eos()), (bos, eos));
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(end), Some(end)));
        assert_eq!(tokenizer.encode("hello", Specials::Ignore).unwrap().len(), 1);
    }
    let refused = |got: Result<Tokenizer, E>, name: &str| {
        let name = name.to_string();
        assert_eq!(got.unwrap_err(), E::Unsupported { part: "post-processor", name });
    };
    let several = "TemplateProcessing with several tokens on one side";
    refused(with(&format!("{token},{token},{text}")), several);
    refused(with(token), "TemplateProcessing with 0 texts");
    refused(with(&format!("{text},{text}")), "TemplateProcessing with 2 texts");
    let bert = r#""post_processor":{"type":"BertProcessing","sep":["y",12],"cls":["x",7]}"#;
    let bert = changed(&small, &[(NO_POST, bert)]).unwrap();
    assert_eq!((bert.bos(), bert.eos()), (Some(7), Some(12)));
    let sequence =
        r#""post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"X"}]}"#;
    refused(changed(&small, &[(NO_POST, sequence)]), "X");
    let ids = post(&format!("{token},{text}")).replace(&format!("[{end}]"), "[1,2]");
    refused(changed(&small, &[(NO_POST, &ids)]), "TemplateProcessing with several ids for E");
    let unnamed = post(&format!("{token},{text}")).replace("\"E\":", "\"F\":");
    let e = changed(&small, &[(NO_POST, &unnamed)]).unwrap_err();
    assert!(matches!(e, E::MissingField { field: "post_processor.special_tokens", .. }));
    // The tokens named by the other file determine the special ids.
    let json = small.tokenizer_json(true).replacen(NO_POST, &post(&format!("{token},{text}")), 1);
    let with =
        |config: &str| Tokenizer::from_tokenizer_json(json.as_bytes(), Some(config.as_bytes()));
    assert!(with(r#"{"bos_token":"<|endoftext|>"}"#).unwrap().add_bos());
    refused(
        with(r#"{"bos_token":"a"}"#),
        &format!("TemplateProcessing with the token {end}, which is not bos_token"),
    );
}

#[test]
fn digits_before_byte_level_are_known() {
    let small = Small::sample();
    let byte_level =
        r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    let with = |digits: &str, byte: &str| {
        let sequence = format!(r#"{{"type":"Sequence","pretokenizers":[{digits},{byte}]}}"#);
        changed(&small, &[(byte_level, &sequence)])
    };
    let single = r#"{"type":"Digits","individual_digits":true}"#;
    let tokenizer = with(single, byte_level).unwrap();
    // 123 would be one token if digits were kept together.
    assert_eq!(tokenizer.encode("123", Specials::Ignore).unwrap(), [49, 50, 51]);
    let together = with(r#"{"type":"Digits","individual_digits":false}"#, byte_level).unwrap();
    assert_eq!(together.encode("a123", Specials::Ignore).unwrap().len(), 2);
}

#[test]
fn the_class_says_how_vocab_json_is_used() {
    let small = Small::sample();
    let with = |class: &str| {
        let config = format!(r#"{{"tokenizer_class":{class}}}"#);
        let (vocab, merges) = (small.vocab_json(), small.merges_txt());
        Tokenizer::from_vocab_merges(vocab.as_bytes(), merges.as_bytes(), Some(config.as_bytes()))
    };
    // GPT-2 keeps digits together, Qwen2 does not.
    for (class, n) in [
        ("null", 1),
        ("\"GPT2Tokenizer\"", 1),
        ("\"Qwen2Tokenizer\"", 3),
        ("\"Qwen2TokenizerFast\"", 3),
    ] {
        assert_eq!(with(class).unwrap().encode("123", Specials::Ignore).unwrap().len(), n);
    }
    let e = with("\"XlmTokenizer\"").unwrap_err();
    assert_eq!(e, E::Unsupported { part: "class", name: "XlmTokenizer".into() });
}
