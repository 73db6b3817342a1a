//! The SentencePiece kind: the same ids as llama.cpp, SentencePiece and tokenizers.

use std::collections::HashMap;
use std::path::Path;

use teff_graph::gguf::{Gguf, GgufValue};
use teff_tokenizer::json::{Event, Reader};
use teff_tokenizer::*;

use crate::common::{Random, oracle};

fn from_gguf(path: &Path) -> Tokenizer {
    let bytes = std::fs::read(path).unwrap();
    Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap()
}

/// A vocabulary as stored in a GGUF file.
struct Raw {
    tokens: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<u32>,
}

impl Raw {
    fn read(path: &Path) -> Raw {
        let bytes = std::fs::read(path).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let array = |key| match gguf.value(key) {
            Some(GgufValue::Array(array)) => array,
            _ => panic!("{key}"),
        };
        let tokens = array("tokenizer.ggml.tokens").strings().unwrap();
        let scores = array("tokenizer.ggml.scores").as_bytes().as_chunks::<4>().0;
        let kinds = array("tokenizer.ggml.token_type").integers().unwrap();
        Raw {
            tokens: tokens.map(|t| String::from_utf8(t.to_vec()).unwrap()).collect(),
            scores: scores.iter().map(|s| f32::from_le_bytes(*s)).collect(),
            kinds: kinds.map(|k| k as u32).collect(),
        }
    }

    fn ids(&self) -> HashMap<&str, u32> {
        self.tokens.iter().zip(0..).map(|(t, id)| (t.as_str(), id)).collect()
    }

    /// Merging by scores by definition: all pairs are examined again each time. Normal tokens are
    /// merged; symbols that remain without a token become bytes.
    fn by_definition(&self, ids: &HashMap<&str, u32>, text: &str) -> Vec<u32> {
        let escaped = text.replace(' ', "\u{2581}");
        let token = |t: &str| ids.get(t).copied().filter(|&id| self.kinds[id as usize] == 1);
        let mut symbols: Vec<&str> = escaped.split_inclusive(|_| true).collect();
        let mut at = 0;
        // Symbols are adjacent in the text, so two of them together are a slice of it.
        let joint = |symbols: &[&str], i: usize| {
            let before: usize = symbols[..i].iter().map(|s| s.len()).sum();
            before..before + symbols[i].len() + symbols[i + 1].len()
        };
        while at < symbols.len() {
            let mut best: Option<(f32, usize)> = None;
            for i in 0..symbols.len() - 1 {
                if let Some(id) = token(&escaped[joint(&symbols, i)]) {
                    let score = self.scores[id as usize];
                    if best.is_none_or(|(high, _)| score > high) {
                        best = Some((score, i));
                    }
                }
            }
            let Some((_, i)) = best else { break };
            let range = joint(&symbols, i);
            symbols.splice(i..i + 2, [&escaped[range]]);
            at = 0;
        }
        let mut out = Vec::new();
        for symbol in symbols {
            match token(symbol) {
                Some(id) => out.push(id),
                None => out.extend(symbol.bytes().map(|b| ids[&*format!("<0x{b:02X}>")])),
            }
        }
        out
    }

    /// The pairs of tokens that make each normal token, as listed by transformers' converter: by
    /// descending score.
    fn merges(&self) -> Vec<(&str, &str)> {
        let ids = self.ids();
        let normal = |t: &str| ids.get(t).is_some_and(|&id| self.kinds[id as usize] == 1);
        let mut all = Vec::new();
        for (token, &score) in self.tokens.iter().zip(&self.scores).filter(|(t, _)| normal(t)) {
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if normal(left) && normal(right) {
                    all.push((score, left, right));
                }
            }
        }
        all.sort_by(|a, b| {
            b.0.total_cmp(&a.0).then((ids[a.1], ids[a.2]).cmp(&(ids[b.1], ids[b.2])))
        });
        all.into_iter().map(|(_, left, right)| (left, right)).collect()
    }

    /// A tokenizer.json. `bytes`: with tokens for bytes.
    fn json(&self, kind: &Kind) -> String {
        let tokens =
            self.tokens.iter().enumerate().filter(|&(i, _)| kind.bytes || self.kinds[i] != 6);
        let vocab: Vec<_> = tokens.map(|(i, t)| format!("{}:{i}", quote(t))).collect();
        let merges: Vec<_> =
            self.merges().iter().map(|(l, r)| quote(&format!("{l} {r}"))).collect();
        let special = |id: u32| {
            let text = &self.tokens[id as usize];
            format!(
                r#"{{"id":{id},"content":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}"#,
                quote(text)
            )
        };
        let Kind { normalizer, pre, strip, bytes, fuse_unk } = kind;
        let strip =
            if *strip { r#",{"type":"Strip","content":" ","start":1,"stop":0}"# } else { "" };
        format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{},{},{}],
            "normalizer":{normalizer},"pre_tokenizer":{pre},"post_processor":null,
            "decoder":{{"type":"Sequence","decoders":[{{"type":"Replace","pattern":{{"String":"▁"}},"content":" "}},
            {{"type":"ByteFallback"}},{{"type":"Fuse"}}{strip}]}},
            "model":{{"type":"BPE","dropout":null,"unk_token":"<unk>","continuing_subword_prefix":null,
            "end_of_word_suffix":null,"fuse_unk":{fuse_unk},"byte_fallback":{bytes},"ignore_merges":false,
            "vocab":{{{}}},"merges":[{}]}}}}"#,
            special(0),
            special(1),
            special(2),
            vocab.join(","),
            merges.join(",")
        )
    }
}

/// The treatment of spaces and unknown characters in a tokenizer.json.
struct Kind {
    normalizer: &'static str,
    pre: &'static str,
    strip: bool,
    bytes: bool,
    fuse_unk: bool,
}

const REPLACE: &str = r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#;
const PREPEND: &str = r#"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}"#;

/// The combinations in published files: Llama 2, Gemma, Mistral, and variants of them.
const KINDS: [Kind; 7] = [
    Kind { normalizer: PREPEND, pre: "null", strip: true, bytes: true, fuse_unk: true },
    Kind {
        normalizer: REPLACE,
        pre: r#"{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false}"#,
        strip: false,
        bytes: true,
        fuse_unk: true,
    },
    Kind {
        normalizer: "null",
        pre: r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}"#,
        strip: true,
        bytes: true,
        fuse_unk: true,
    },
    Kind {
        normalizer: "null",
        pre: r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
        strip: true,
        bytes: true,
        fuse_unk: false,
    },
    Kind {
        normalizer: "null",
        pre: r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
        strip: false,
        bytes: true,
        fuse_unk: true,
    },
    Kind { normalizer: PREPEND, pre: "null", strip: true, bytes: false, fuse_unk: true },
    Kind { normalizer: REPLACE, pre: "null", strip: false, bytes: false, fuse_unk: false },
];

fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A short text: words, spaces, symbols, arbitrary characters, and special tokens.
fn random_text(r: &mut Random, out: &mut String) {
    const WORDS: &[&str] = &[
        "the",
        "Hello",
        "world",
        "internationalization",
        "aaaaaaa",
        "naïve",
        "Äpfel",
        "Български",
        "日本語",
        "한국어",
        "e\u{301}",
        "🦙",
        "👩\u{200d}👧",
        "don't",
        "x[0]",
        "==",
        "...",
        "\"",
        "1234",
        "\u{2581}",
        "a\u{2581}b",
        "<0x41>",
        "<unk",
        "ﷺ",
        "½",
    ];
    const SPACES: &[&str] = &[" ", " ", " ", "  ", "   ", "\n", "\t", "\r\n", "\u{a0}", "\u{3000}"];
    for _ in 0..r.below(9) {
        match r.below(12) {
            0..=4 => out.push_str(r.pick(WORDS)),
            5..=8 => out.push_str(r.pick(SPACES)),
            9 => out.push_str(r.pick(&["<s>", "</s>", "<unk>", "<s> ", " </s>"])),
            10 => (0..1 + r.below(8)).for_each(|_| out.push((b'a' + r.below(26) as u8) as char)),
            _ => {
                let bits = 7 + r.below(15);
                for _ in 0..1 + r.below(4) {
                    out.extend(char::from_u32((r.next() & ((1 << bits) - 1)) as u32));
                }
            }
        }
    }
}

#[test]
fn llama_cpp_s_texts_have_llama_cpp_s_ids() {
    for name in ["llama-spm", "phi-3"] {
        let Some(path) = oracle(&format!("vocabs/ggml-vocab-{name}.gguf")) else { continue };
        let tokenizer = from_gguf(&path);
        let read = |end| std::fs::read_to_string(path.with_extension(end)).unwrap();
        let (texts, ids) = (read("gguf.inp"), read("gguf.out"));
        const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
        let texts: Vec<_> = texts.trim_end_matches(SEPARATOR).split(SEPARATOR).collect();
        let lines: Vec<_> = ids.lines().collect();
        assert!(texts.len() == lines.len() && texts.len() > 40, "{name}");
        for (text, line) in texts.iter().zip(&lines) {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, Specials::Ignore).unwrap(), want, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&want).unwrap(), *text, "{name}");
        }
    }
}

#[test]
fn vocabularies_are_what_they_are_known_to_be() {
    let Some(path) = oracle("vocabs/ggml-vocab-llama-spm.gguf") else { return };
    let llama = from_gguf(&path);
    assert_eq!(
        llama.special_ids(),
        SpecialIds {
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            add_bos: true,
            ..Default::default()
        }
    );
    assert_eq!(llama.stop_ids(), [2]);
    assert!(llama.is_end(2) && !llama.is_end(1) && llama.add_bos() && !llama.add_eos());
    let hello = llama.find_token(b" Hello").unwrap();
    assert_eq!(llama.encode("Hello", Specials::Ignore).unwrap(), [hello]);
    assert_eq!(llama.token_bytes(3 + 0x41), Some(&b"A"[..]));
    assert_eq!(llama.token_kind(3 + 0x41), Some(TokenKind::Byte));
    // The first space is the prefix, unless a special token comes first.
    assert_eq!(llama.decode(&[hello, hello]).unwrap(), "Hello Hello");
    assert_eq!(llama.decode(&[1, hello]).unwrap(), "<s> Hello");
    // The prefix is added at the start and after each special token.
    let ids = llama.encode("Hello</s>Hello", Specials::Parse).unwrap();
    assert_eq!(ids, [hello, 2, hello]);
    assert!(llama.encode("</s>", Specials::Ignore).unwrap().len() > 1);
    assert!(llama.encode("", Specials::Parse).unwrap().is_empty());
    // The file has 723,869 bytes; the lookup table takes at least 16 bytes per token.
    assert!(llama.memory() < 2_500_000, "{}", llama.memory());

    let Some(path) = oracle("vocabs/ggml-vocab-phi-3.gguf") else { return };
    let phi = from_gguf(&path);
    assert_eq!(phi.eos(), Some(32000));
    // </s>, <|endoftext|>, <|end|>. llama.cpp overrides the type of the first, user-defined.
    assert_eq!(phi.stop_ids(), [2, 32000, 32007]);
    let named = |w: &TokenizerWarning| matches!(w, TokenizerWarning::NotControl { id: 2, .. });
    assert!(phi.warnings().iter().any(named), "{:?}", phi.warnings());
    // llama.cpp's ids of this turn: these tokens absorb the white space after them.
    let ids = phi.encode("<|user|>\nSYS\nHI<|end|>\n<|assistant|>\n", Specials::Parse).unwrap();
    assert_eq!(ids, [32010, 317, 21554, 13, 17628, 32007, 32001]);
    // So it is parsed only where special tokens are.
    assert_eq!(phi.encode("</s>", Specials::Parse).unwrap(), [2]);
    assert!(!phi.encode("</s>", Specials::Ignore).unwrap().contains(&2));
}

/// Texts and ids of golden_tokens.json.
fn golden(folder: &Path) -> Vec<(String, Vec<u32>)> {
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
    let models = [
        ("llama", "llama-Q8_0.gguf"),
        ("llama", "llama-Q2_K.gguf"),
        ("gemma3", "gemma3-Q8_0.gguf"),
        ("bitnet", "bitnet-I2_S.gguf"),
        ("bitnet", "bitnet-TQ1_0.gguf"),
    ];
    for (model, gguf) in models {
        let Some(folder) = oracle(model) else { continue };
        let read = |name| std::fs::read(folder.join(name)).unwrap();
        let config = read("tokenizer_config.json");
        let sources = [
            ("folder", Tokenizer::from_folder(&folder).unwrap()),
            (
                "tokenizer.model",
                Tokenizer::from_sentence_piece(&read("tokenizer.model"), Some(&config)).unwrap(),
            ),
            ("GGUF", from_gguf(&folder.join(gguf))),
        ];
        for (source, tokenizer) in &sources {
            // A converted Gemma has no prefix, whatever tokenizer.model says; the space in front in
            // these ids is then one of the text.
            let bare = *source == "GGUF" && model == "gemma3";
            for (text, want) in golden(&folder) {
                let given = if bare && !text.is_empty() { format!(" {text}") } else { text };
                let ids = tokenizer.encode(&given, Specials::Ignore).unwrap();
                assert_eq!(ids, want, "{model} from {source}: {given:?}");
                assert_eq!(tokenizer.decode(&ids).unwrap(), given, "{model} from {source}");
            }
            let first = &sources[0].1;
            assert_eq!(tokenizer.vocab_size(), first.vocab_size());
            for id in 0..first.vocab_size() as u32 {
                assert_eq!(tokenizer.token_bytes(id), first.token_bytes(id));
                assert_eq!(tokenizer.token_kind(id), first.token_kind(id), "{id} {source}");
            }
            assert_eq!(tokenizer.special_ids(), first.special_ids(), "{model} from {source}");
            assert_eq!(tokenizer.stop_ids(), [2]);
        }
    }
}

#[test]
fn merging_by_scores_is_what_its_definition_says() {
    let Some(path) = oracle("vocabs/ggml-vocab-llama-spm.gguf") else { return };
    let (raw, tokenizer) = (Raw::read(&path), from_gguf(&path));
    let ids = raw.ids();
    let check = |seed, n| {
        let (mut r, mut text, mut out) = (Random(seed), String::new(), Vec::new());
        let mut scratch = EncodeScratch::default();
        for _ in 0..n {
            text.clear();
            random_text(&mut r, &mut text);
            out.clear();
            tokenizer.encode_into(&text, Specials::Ignore, &mut scratch, &mut out).unwrap();
            let prefixed = if text.is_empty() { String::new() } else { format!(" {text}") };
            assert_eq!(out, raw.by_definition(&ids, &prefixed), "{text:?}");
            assert_eq!(tokenizer.decode(&out).unwrap(), text.replace('\u{2581}', " "));
        }
    };
    std::thread::scope(|s| {
        for seed in 0..4 {
            let check = &check;
            s.spawn(move || check(seed, 25_000));
        }
    });
}

#[test]
fn random_texts_have_the_ids_of_tokenizers() {
    let Some(path) = oracle("vocabs/ggml-vocab-llama-spm.gguf") else { return };
    let raw = Raw::read(&path);
    std::thread::scope(|s| {
        for (seed, kind) in KINDS.iter().enumerate() {
            let raw = &raw;
            s.spawn(move || {
                let json = raw.json(kind);
                let ours = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
                let theirs = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
                let (mut r, mut text) = (Random(seed as u64), String::new());
                let (mut ids, mut scratch) = (Vec::new(), EncodeScratch::default());
                for _ in 0..crate::common::texts() * 15 / 100 {
                    text.clear();
                    random_text(&mut r, &mut text);
                    ids.clear();
                    ours.encode_into(&text, Specials::Parse, &mut scratch, &mut ids).unwrap();
                    let want = theirs.encode_fast(text.as_str(), false).unwrap();
                    assert_eq!(ids, want.get_ids(), "kind {seed}: {text:?}");
                    let want = theirs.decode(&ids, false).unwrap();
                    assert_eq!(ours.decode(&ids).unwrap(), want, "kind {seed}: {text:?}");
                }
            });
        }
    });
}

#[test]
fn a_megabyte_without_a_gap_is_no_trouble() {
    let Some(path) = oracle("vocabs/ggml-vocab-llama-spm.gguf") else { return };
    let tokenizer = from_gguf(&path);
    let words = "Once upon a time there was a tokenizer, 日本語. ".repeat(20_000);
    for text in [
        "a".repeat(1 << 20),
        " ".repeat(1 << 20),
        "ab-".repeat(1 << 18),
        "é".repeat(1 << 19),
        "\u{10ffff}".repeat(1 << 18),
        words,
    ] {
        let ids = tokenizer.encode(&text, Specials::Parse).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
