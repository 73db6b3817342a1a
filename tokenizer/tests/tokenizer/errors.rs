//! Malformed and unsupported files: every error names its cause, and none is a panic.

use teff_graph::gguf::Gguf;
use teff_tokenizer::TokenizerError as E;
use teff_tokenizer::*;

use crate::common::{Folder, Random, Small, spell};

fn json(text: &str) -> E {
    Tokenizer::from_tokenizer_json(text.as_bytes(), None).unwrap_err()
}

fn vocab_merges(vocab: &str, merges: &str) -> Result<Tokenizer, E> {
    Tokenizer::from_vocab_merges(vocab.as_bytes(), merges.as_bytes(), None)
}

fn unsupported(part: &'static str, name: &str) -> E {
    E::Unsupported { part, name: name.into() }
}

#[test]
fn what_teff_does_not_have_is_refused_by_its_name() {
    let good = Small::sample().tokenizer_json(false);
    let byte_level =
        r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    let gpt2 =
        r#"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"#;
    let split = |pattern: &str, more: &str| {
        format!(r#"{{"type":"Split","pattern":{pattern},"behavior":"Isolated"{more}}}"#)
    };
    let sequence = |split: &str, more: &str| {
        format!(
            r#"{{"type":"Sequence","pretokenizers":[{split},{{"type":"ByteLevel","add_prefix_space":false{more}}}]}}"#
        )
    };
    let known = format!(r#"{{"Regex":"{gpt2}"}}"#);
    let known_split = split(&known, r#","invert":false"#);
    let no_regex = r#","use_regex":false"#;
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };

    // The same splitting in another spelling.
    let text = "it's  so, 12\n\n x";
    let want = Small::sample().parts().unwrap().encode(text, Specials::Ignore).unwrap();
    for same in [
        change(byte_level, &sequence(&known_split, no_regex)),
        change(byte_level, r#"{"add_prefix_space":false,"type":"ByteLevel"}"#),
        change(r#""type":"BPE","#, ""),
        change(r#""dropout":null"#, r#""dropout":0.0,"continuing_subword_prefix":"""#),
        change(r#""post_processor":null"#, r#""post_processor":{"type":"ByteLevel"}"#),
    ] {
        let tokenizer = Tokenizer::from_tokenizer_json(same.as_bytes(), None).unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Ignore).unwrap(), want);
    }

    let pre = |to: &str| change(byte_level, to);
    let cases = [
        (change(r#""BPE""#, r#""Unigram""#), unsupported("model", "Unigram")),
        (
            change(r#""normalizer":null"#, r#""normalizer":{"type":"Precompiled"}"#),
            unsupported("normalizer", "Precompiled"),
        ),
        (
            change(r#""post_processor":null"#, r#""post_processor":{"type":"Nothing"}"#),
            unsupported("post-processor", "Nothing"),
        ),
        (
            change(r#""decoder":{"type":"ByteLevel"}"#, r#""decoder":{"type":"CTC"}"#),
            unsupported("decoder", "CTC"),
        ),
        (
            change(
                r#""decoder":{"type":"ByteLevel"}"#,
                r#""decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}"#,
            ),
            unsupported("decoder", "ByteFallback after Fuse or ByteLevel"),
        ),
        (pre(r#"{"type":"UnicodeScripts"}"#), unsupported("pre-tokenizer", "UnicodeScripts")),
        (
            pre(&sequence(&split(r#"{"Regex":"(a)\\1"}"#, ""), no_regex)),
            unsupported("pre-tokenizer", r"Split by Regex (a)\1: the escape `\1`"),
        ),
        (
            change(r#""dropout":null"#, r#""dropout":0.1"#),
            unsupported("model option", "dropout: 0.1"),
        ),
    ];
    for (text, want) in cases {
        let name = match &want {
            E::Unsupported { name, .. } => name.clone(),
            _ => unreachable!(),
        };
        let e = json(&text);
        assert_eq!(e, want);
        assert!(e.to_string().contains(&name));
    }
}

#[test]
fn fields_that_are_missing_or_wrong_are_named() {
    let good = Small::sample().tokenizer_json(false);
    let missing = |field| E::MissingField { file: "tokenizer.json", field };
    assert_eq!(json("{}"), missing("model"));
    assert_eq!(json(&good.replace("\"model\":", "\"x\":")), missing("model"));
    assert_eq!(json(&good.replace("\"vocab\":", "\"x\":")), missing("model.vocab"));
    assert_eq!(json(&good.replace("\"merges\":", "\"x\":")), missing("model.merges"));
    // As in the library, a component that is missing is null.
    for field in ["pre_tokenizer", "decoder", "normalizer", "post_processor"] {
        let without = good.replace(&format!("\"{field}\":"), "\"x\":");
        assert!(Tokenizer::from_tokenizer_json(without.as_bytes(), None).is_ok(), "{field}");
    }
    assert_eq!(json(&good.replace("\"content\":", "\"x\":")), missing("added_tokens[].content"));
    assert_eq!(json(&good.replace("{\"id\":", "{\"x\":")), missing("added_tokens[].id"));
    for (from, to) in [
        ("\"special\":true", "\"special\":\"yes\""),
        ("\"!\":33", "\"!\":\"33\""),
        ("\"!\":33", "\"!\":-1"),
        ("\"!\":33", "\"!\":33.0"),
        ("\"!\":33", "\"!\":99999999999999999999"),
        ("\"model\":{", "\"model\":[],\"x\":{"),
        ("\"merges\":[", "\"merges\":[1,"),
        ("\"merges\":[", "\"merges\":{},\"x\":["),
        ("\"merges\":[", "\"merges\":[[\"a\"],"),
        ("{\"type\":\"ByteLevel\"}", "[]"),
        ("{\"type\":\"ByteLevel\"}", "{}"),
        ("{\"type\":\"ByteLevel\"}", "{\"type\":1}"),
        ("\"type\":\"BPE\"", "\"type\":null"),
    ] {
        assert!(good.contains(from), "{from}");
        let e = json(&good.replacen(from, to, 1));
        assert!(matches!(e, E::WrongField { file: "tokenizer.json", .. }), "{to}: {e}");
    }
    let e = json(&good.replacen("\"use_regex\":true", "\"use_regex\":1", 1));
    assert_eq!(e, missing("use_regex"));
    let three = good.replacen("\"merges\":[", "\"merges\":[[\"h\",\"e\",\"l\"],", 1);
    assert_eq!(json(&three), E::MalformedMerge { at: MergeAt::Index(0) });
    for bad in ["[]", "1", "null", "\"x\""] {
        assert!(matches!(json(bad), E::WrongField { .. }), "{bad}");
        assert!(matches!(vocab_merges(bad, ""), Err(E::WrongField { file: "vocab.json", .. })));
    }
    let e = json(&good[..good.len() - 1]);
    assert!(matches!(e, E::Json { file: "tokenizer.json", .. }));
    assert!(e.to_string().contains("is not valid JSON at byte"), "{e}");
    assert!(std::error::Error::source(&e).is_none());
}

#[test]
fn merges_that_do_not_fit_are_named_with_their_line() {
    let small = Small::sample();
    let (vocab, merges) = (small.vocab_json(), small.merges_txt());
    let n = merges.lines().count();
    let add = |line: &str| vocab_merges(&vocab, &format!("{merges}{line}\n")).unwrap_err();
    let at = MergeAt::Line(n + 1);
    for malformed in ["a", "a b c", " b", "a ", "a  b"] {
        assert_eq!(add(malformed), E::MalformedMerge { at }, "{malformed:?}");
    }
    assert_eq!(add("\nh e"), E::MalformedMerge { at });
    assert_eq!(add("zz a"), E::UnknownMergeToken { at, token: "zz".into() });
    assert_eq!(add("a zz"), E::UnknownMergeToken { at, token: "zz".into() });
    assert_eq!(add("a 日"), E::UnknownMergeToken { at, token: "日".into() });
    assert_eq!(add("z q"), E::NoMergeProduct { at, product: "zq".into() });
    // One that stands there twice counts where it stands last, as in the library.
    let twice = vocab_merges(&vocab, &format!("{merges}h e\n")).unwrap();
    let [TokenizerWarning::RepeatedMerges { first, count: 1, last: true }] = twice.warnings()
    else {
        panic!("{:?}", twice.warnings());
    };
    assert_eq!(*first, n - 1);
    assert!(twice.warnings()[0].to_string().contains("merges.txt"));
    assert_eq!(
        add("zz a").to_string(),
        format!("line {} of merges.txt names \"zz\", which is not in the vocabulary", n + 1)
    );
    // Without a version line, lines count from the first merge.
    let e = vocab_merges(&vocab, "h e\nz q").unwrap_err();
    assert_eq!(e, E::NoMergeProduct { at: MergeAt::Line(2), product: "zq".into() });
    let json_e =
        json(&small.tokenizer_json(true).replacen("\"merges\":[", "\"merges\":[\"z q\",", 1));
    assert_eq!(json_e, E::NoMergeProduct { at: MergeAt::Index(0), product: "zq".into() });
    let bytes = [merges.as_bytes(), b"\xff\xfe a"].concat();
    let e = Tokenizer::from_vocab_merges(vocab.as_bytes(), &bytes, None).unwrap_err();
    assert_eq!(e, E::UnknownMergeToken { at, token: "\u{fffd}\u{fffd}".into() });
}

#[test]
fn ids_are_dense_but_for_few_holes_and_no_token_stands_twice() {
    let e = |vocab: &str| vocab_merges(vocab, "").unwrap_err();
    assert_eq!(
        e(r#"{"a":0,"b":1,"a":2}"#),
        E::DuplicateToken { token: "a".into(), first: 0, second: 2 }
    );
    assert_eq!(e(r#"{"a":0,"b":0}"#), E::RepeatedId { id: 0, token: "b".into() });
    assert_eq!(e(r#"{"a":0,"b":4294967295}"#), E::IdTooLarge { id: 4294967295, limit: 1029 });
    assert_eq!(e(r#"{"a":0,"b":1000000}"#), E::IdTooLarge { id: 1000000, limit: 1028 });
    assert!(e(r#"{"a":18446744073709551615}"#).to_string().contains("18446744073709551615"));
    let tokenizer = vocab_merges(r#"{"b":7,"a":3}"#, "").unwrap();
    assert_eq!(tokenizer.vocab_size(), 8);
    assert_eq!(tokenizer.encode("ab", Specials::Parse).unwrap(), [3, 7]);
    for hole in [0, 4, 6, 8, u32::MAX] {
        assert_eq!(tokenizer.token_bytes(hole), None);
        assert!(!tokenizer.is_special(hole));
        assert_eq!(tokenizer.decode(&[hole]), Err(E::NoSuchId { id: hole, vocab_size: 8 }));
    }
    // The ids of added tokens go on from the vocabulary, whatever the file says.
    let good = Small::sample().tokenizer_json(false);
    let end = Small::sample().end();
    for (from, to, id) in [
        ("\"content\":\"<|endoftext|>\"", "\"content\":\"<x>\"", end + 1),
        ("[{\"id\":", "[{\"id\":9", end),
    ] {
        let moved = good.replacen(from, to, 1);
        let tokenizer = Tokenizer::from_tokenizer_json(moved.as_bytes(), None).unwrap();
        let [TokenizerWarning::MovedTokens { to, count: 1, .. }] = tokenizer.warnings() else {
            panic!("{:?}", tokenizer.warnings());
        };
        assert_eq!(*to, id);
        assert_eq!(tokenizer.token_kind(id), Some(TokenKind::Control));
    }
    let long = format!("[{{\"id\":300,\"content\":\"{}\"}},", "x".repeat(MAX_SPECIAL + 1));
    let long = good.replacen("[{", &format!("{long}{{"), 1);
    assert_eq!(json(&long), E::SpecialTooLong { id: end + 1, bytes: MAX_SPECIAL + 1 });
}

#[test]
fn a_byte_without_a_token_is_left_out_or_an_error_of_the_text() {
    // As in the library: its neighbours merge.
    let tokenizer = vocab_merges(r#"{"a":0,"b":1,"ab":2}"#, "a b").unwrap();
    let long = "acb".repeat(100);
    for (text, n) in [("acb", 1), ("c", 0), (&*long, 100)] {
        assert_eq!(tokenizer.encode(text, Specials::Ignore).unwrap(), vec![2; n]);
    }
    let tokenizer = Tokenizer::byte_bpe(BpeParts::new(
        ["a", "b"].map(|t| (t.as_bytes(), TokenKind::Normal)),
        [],
        Splitter::Gpt2,
    ))
    .unwrap();
    let mut out = vec![5];
    let mut scratch = EncodeScratch::default();
    for text in ["abc", &("ab".repeat(100) + "c")] {
        let e = tokenizer.encode_into(text, Specials::Ignore, &mut scratch, &mut out);
        assert_eq!(e, Err(E::NoTokenForByte { byte: b'c' }));
        assert_eq!(out, [5]);
    }
    assert_eq!(tokenizer.encode("ab", Specials::Ignore).unwrap(), [0, 1]);
}

#[test]
fn a_folder_without_a_tokenizer_says_what_was_looked_for() {
    let small = Small::sample();
    let folder = Folder::new("errors", &[("config.json", "{}")]);
    let e = Tokenizer::from_folder(&folder.0).unwrap_err();
    assert_eq!(e, E::NoFiles { folder: folder.0.clone() });
    for name in ["tokenizer.json", "vocab.json", "merges.txt"] {
        assert!(e.to_string().contains(name));
    }
    // One file of the pair is not enough.
    std::fs::write(folder.0.join("vocab.json"), small.vocab_json()).unwrap();
    assert_eq!(Tokenizer::from_folder(&folder.0).unwrap_err(), e);
    let absent = folder.0.join("absent");
    assert_eq!(Tokenizer::from_folder(&absent).unwrap_err(), E::NoFiles { folder: absent });
    // A folder in place of a file can't be read.
    std::fs::create_dir(folder.0.join("tokenizer.json")).unwrap();
    assert!(
        matches!(Tokenizer::from_folder(&folder.0), Err(E::Io { path, .. }) if path.ends_with("tokenizer.json"))
    );
    std::fs::write(folder.0.join("tokenizer_config.json"), "{\"bos_token\":1}").unwrap();
    let e = Tokenizer::from_folder(&folder.0).unwrap_err();
    assert!(matches!(e, E::WrongField { file: "tokenizer_config.json", .. }));
}

#[test]
fn no_truncation_and_no_mutation_panics() {
    let small = Small::sample();
    let (vocab, merges, json) =
        (small.vocab_json(), small.merges_txt(), small.tokenizer_json(true));
    let build = |vocab: &[u8], merges: &[u8]| Tokenizer::from_vocab_merges(vocab, merges, None);
    let from_json = |json: &[u8]| Tokenizer::from_tokenizer_json(json, None);
    let config =
        r#"{"bos_token":{"content":"a"},"added_tokens_decoder":{"300":{"content":"<new>"}}}"#;
    for cut in 0..json.len() {
        let e = from_json(&json.as_bytes()[..cut]).unwrap_err();
        assert!(matches!(e, E::Json { .. }) && !e.to_string().is_empty());
    }
    for cut in 0..vocab.len() {
        let e = build(&vocab.as_bytes()[..cut], merges.as_bytes()).unwrap_err();
        assert!(matches!(e, E::Json { .. }));
    }
    for cut in 0..merges.len() {
        let built = build(vocab.as_bytes(), &merges.as_bytes()[..cut]);
        if let Err(e) = &built {
            let named = matches!(
                e,
                E::MalformedMerge { .. } | E::UnknownMergeToken { .. } | E::NoMergeProduct { .. }
            );
            assert!(named, "{e}");
        }
    }
    for cut in 0..config.len() {
        let config = Some(&config.as_bytes()[..cut]);
        assert!(Tokenizer::from_vocab_merges(vocab.as_bytes(), merges.as_bytes(), config).is_err());
    }
    let mut r = Random(3);
    let use_it = |built: Result<Tokenizer, E>| match built {
        Ok(tokenizer) => {
            if let Ok(ids) = tokenizer.encode("hello world 日 <|endoftext|>", Specials::Parse) {
                assert!(ids.iter().all(|&id| tokenizer.token_bytes(id).is_some()));
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    };
    for _ in 0..3000 {
        let mut changed = json.clone().into_bytes();
        // The head and the merges are smaller than the vocabulary, and have more to break.
        let n = changed.len();
        for _ in 0..1 + r.below(2) {
            let at = if r.below(2) == 0 { r.below(700) } else { r.below(n) };
            changed[at] = *r.pick(&[b"\"{}[]:,0x9 "]).get(r.below(11)).unwrap_or(&b'x');
        }
        use_it(from_json(&changed));
        let mut changed = merges.clone().into_bytes();
        let at = r.below(changed.len());
        changed[at] = r.next() as u8;
        use_it(build(vocab.as_bytes(), &changed));
    }
}

/// A GGUF file that has only keys.
pub(crate) struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    pub(crate) fn new() -> Keys {
        Keys { count: 0, bytes: Vec::new() }
    }

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }

    pub(crate) fn put(mut self, key: &str, kind: u32, value: &[u8]) -> Keys {
        self.count += 1;
        Keys::text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self
    }

    pub(crate) fn str(self, key: &str, value: &str) -> Keys {
        let mut bytes = Vec::new();
        Keys::text(&mut bytes, value);
        self.put(key, 8, &bytes)
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Keys {
        self.put(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn strs(self, key: &str, values: &[String]) -> Keys {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| Keys::text(&mut bytes, v));
        self.put(key, 9, &bytes)
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Keys {
        let mut bytes = 5u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
        self.put(key, 9, &bytes)
    }

    pub(crate) fn build(self) -> Result<Tokenizer, E> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(0u64.to_le_bytes());
        file.extend(self.count.to_le_bytes());
        file.extend(self.bytes);
        Tokenizer::from_gguf(&Gguf::parse(&file).unwrap())
    }
}

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";

#[test]
fn gguf_files_are_taken_by_rule() {
    let small = Small::sample();
    let (tokens, end) = (small.spelled(), small.end());
    let merges: Vec<_> = small.pairs().iter().map(|(l, r)| format!("{l} {r}")).collect();
    let mut types = vec![1; tokens.len()];
    types[end as usize] = 3;
    let head = |pre: Option<&str>, arch: &str| {
        let keys = Keys::new().str("general.architecture", arch).str(MODEL, "gpt2");
        match pre {
            Some(pre) => keys.str(PRE, pre),
            None => keys,
        }
    };
    let full = |keys: Keys| keys.strs(TOKENS, &tokens).i32s(TYPES, &types).strs(MERGES, &merges);
    let text = "hello world<|endoftext|>";
    let want = small.parts().unwrap().encode(text, Specials::Parse).unwrap();
    for (pre, arch) in [(Some("gpt-2"), "gpt2"), (Some("gpt-2"), "llama"), (None, "gpt2")] {
        let tokenizer = full(head(pre, arch)).u32(BOS, end).build().unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), want);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(end), None));
        assert!(tokenizer.is_special(end) && !tokenizer.is_special(0));
    }
    let is = |keys: Keys, key, why| {
        assert_eq!(keys.build().unwrap_err(), E::Gguf { key, why });
    };
    for pre in ["deepseek-v4", "tekken "] {
        let e = full(head(Some(pre), "gpt2")).build().unwrap_err();
        assert_eq!(e, E::UnknownPreTokenizer { name: pre.into() });
        let known = [" gpt-2, ", ", llama-bpe, ", ", qwen2, ", ", smollm, ", ", tekken, "];
        assert!(known.iter().all(|name| e.to_string().contains(name)), "{e}");
    }
    // Llama 3's texts begin with a token unless the file says otherwise.
    for (pre, add_bos) in [("llama-bpe", true), ("dbrx", false), ("qwen2", false)] {
        let tokenizer = full(head(Some(pre), "llama")).u32(BOS, end).build().unwrap();
        assert_eq!(tokenizer.add_bos(), add_bos);
        let no = full(head(Some(pre), "llama")).put("tokenizer.ggml.add_bos_token", 7, &[0]);
        assert!(!no.build().unwrap().add_bos());
    }
    is(Keys::new(), MODEL, "is missing");
    is(Keys::new().u32(MODEL, 1), MODEL, "is not a string");
    let e = Keys::new().str(MODEL, "t5").build().unwrap_err();
    assert_eq!(e, unsupported("model", "t5"));
    let gpt2 = || head(Some("gpt-2"), "gpt2");
    is(gpt2(), TOKENS, "is missing");
    is(gpt2().i32s(TOKENS, &[1]), TOKENS, "is not an array of strings");
    is(gpt2().strs(TOKENS, &tokens), MERGES, "is missing");
    is(gpt2().strs(TOKENS, &tokens).i32s(MERGES, &[]), MERGES, "is not an array of strings");
    let no_types = || gpt2().strs(TOKENS, &tokens).strs(MERGES, &merges);
    // By its name.
    assert!(no_types().build().unwrap().is_special(end));
    is(no_types().i32s(TYPES, &types[1..]), TYPES, "has fewer entries than there are tokens");
    is(no_types().strs(TYPES, &tokens), TYPES, "is not an array of integers");
    is(no_types().u32(TYPES, 1), TYPES, "is not an array of integers");
    is(no_types().str(BOS, "x"), BOS, "is not a token id");
    let mut twice = tokens.clone();
    twice[9] = spell(b"hello");
    let e = gpt2().strs(TOKENS, &twice).strs(MERGES, &[]).build().unwrap_err();
    assert!(matches!(e, E::DuplicateToken { token, first: 9, .. } if token == "hello"));
}
