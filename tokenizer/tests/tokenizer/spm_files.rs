//! SentencePiece's files: every setting is followed or refused by name, and nothing panics.

use proptest::collection::vec;
use proptest::prelude::*;
use teff_tokenizer::TokenizerError as E;
use teff_tokenizer::*;

use crate::common::Folder;
use crate::errors::Keys;

/// A length-delimited field of a protocol buffer.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
    let mut out = field(1, text.as_bytes());
    out.push(2 << 3 | 5);
    out.extend(score.to_le_bytes());
    if kind != 1 {
        out.extend(number(3, kind));
    }
    field(1, &out)
}

/// Texts, scores and types of a small vocabulary.
fn tokens() -> Vec<(String, f32, TokenKind)> {
    use TokenKind::{Byte, Control, Normal, Unknown, UserDefined};
    let mut all = vec![
        ("<unk>".to_string(), 0.0, Unknown),
        ("<s>".into(), 0.0, Control),
        ("</s>".into(), 0.0, Control),
    ];
    all.extend((0..=255).map(|b| (format!("<0x{b:02X}>"), 0.0, Byte)));
    let normal = ["▁a", "ab", "▁", "a", "b", "c", "bc", "abc", "▁▁", "aa"];
    all.extend((1i8..).zip(normal).map(|(i, t)| (t.to_string(), -f32::from(i), Normal)));
    all.push(("<x>".into(), 0.0, UserDefined));
    all.push(("▁▁▁".into(), 0.0, UserDefined));
    all
}

const TRAINER: [(u64, u64); 1] = [(3, 2)];
const NORMALIZER: [(u64, u64); 1] = [(4, 0)];

fn model_with(trainer: &[u8], normalizer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, score, kind) in tokens() {
        out.extend(piece(&text, score, kind as u64));
    }
    out.extend(field(2, trainer));
    out.extend(field(3, normalizer));
    out
}

fn numbers(fields: &[(u64, u64)]) -> Vec<u8> {
    fields.iter().flat_map(|&(n, v)| number(n, v)).collect()
}

fn model() -> Vec<u8> {
    model_with(&numbers(&TRAINER), &numbers(&NORMALIZER))
}

fn build(model: &[u8]) -> Result<Tokenizer, E> {
    Tokenizer::from_sentence_piece(model, None)
}

fn parts(add_space_prefix: bool) -> Tokenizer {
    let tokens = tokens();
    Tokenizer::sentence_piece(SpmParts {
        tokens: tokens.iter().map(|(t, s, k)| (t.as_bytes(), *s, *k)),
        add_space_prefix,
        ids: SpecialIds { bos: Some(1), eos: Some(2), unk: Some(0), ..SpecialIds::default() },
    })
    .unwrap()
}

fn gguf() -> Keys {
    let tokens = tokens();
    let texts: Vec<String> = tokens.iter().map(|t| t.0.clone()).collect();
    let kinds: Vec<i32> = tokens.iter().map(|t| t.2 as i32).collect();
    Keys::new()
        .str("tokenizer.ggml.model", "llama")
        .strs("tokenizer.ggml.tokens", &texts)
        .i32s("tokenizer.ggml.token_type", &kinds)
}

fn scores(keys: Keys, scores: &[f32]) -> Keys {
    let mut bytes = 6u32.to_le_bytes().to_vec();
    bytes.extend((scores.len() as u64).to_le_bytes());
    scores.iter().for_each(|s| bytes.extend(s.to_le_bytes()));
    keys.put("tokenizer.ggml.scores", 9, &bytes)
}

fn full_gguf() -> Keys {
    let all: Vec<f32> = tokens().iter().map(|t| t.1).collect();
    scores(gguf(), &all)
}

fn unsupported(part: &'static str, name: &str) -> E {
    E::Unsupported { part, name: name.into() }
}

#[test]
fn all_sources_give_the_same_tokenizer() {
    let all = [parts(true), build(&model()).unwrap(), full_gguf().build().unwrap()];
    let (a, b, ab, sp) = (262, 263, 260, 261);
    for t in &all {
        assert_eq!((t.bos(), t.eos(), t.special_ids().unk), (Some(1), Some(2), Some(0)));
        assert_eq!(t.stop_ids(), [2]);
        // Highest score first, leftmost first on ties.
        assert_eq!(t.encode("ab", Specials::Ignore).unwrap(), [259, b]);
        assert_eq!(t.encode("bab", Specials::Ignore).unwrap(), [sp, b, ab]);
        assert_eq!(t.encode("c aaa", Specials::Ignore).unwrap(), [sp, 264, 259, 268]);
        assert_eq!(t.encode("caaa", Specials::Ignore).unwrap(), [sp, 264, 268, a]);
        assert_eq!(t.encode(" c", Specials::Ignore).unwrap(), [267, 264]);
        // A user-defined run of spaces, which merging also finds when the prefix is a part of it.
        assert_eq!(t.encode("  c", Specials::Ignore).unwrap(), [270, 264]);
        assert_eq!(t.encode("c   c", Specials::Ignore).unwrap(), [sp, 264, 270, sp, 264]);
        // Byte tokens for unknown characters.
        assert_eq!(t.encode("é", Specials::Ignore).unwrap(), [sp, 3 + 0xc3, 3 + 0xa9]);
        // Whole tokens, and a prefix after each.
        assert_eq!(t.encode("<x>b<s>", Specials::Ignore).unwrap()[..3], [269, sp, b]);
        assert_eq!(t.encode("<x>b<s>c", Specials::Parse).unwrap(), [269, sp, b, 1, sp, 264]);
        for text in ["", "a b", " a", "  ", "é", "日本\n", "x  y"] {
            let ids = t.encode(text, Specials::Parse).unwrap();
            assert_eq!(t.decode(&ids).unwrap(), text);
        }
        // Generated text keeps its space.
        assert_eq!(t.token_bytes(259), Some(&b" a"[..]));
    }
    let bare = parts(false);
    assert_eq!(bare.encode("ab", Specials::Ignore).unwrap(), [ab]);
    assert_eq!(bare.decode(&[259]).unwrap(), " a");
    let no_prefix = numbers(&[(3, 0), (4, 0)]);
    let bare = build(&model_with(&numbers(&TRAINER), &no_prefix)).unwrap();
    assert_eq!(bare.encode("ab", Specials::Ignore).unwrap(), [ab]);
    // A run of spaces that is user-defined in tokenizer.model is matched in unescaped texts.
    assert_eq!(bare.encode("a   b", Specials::Ignore).unwrap(), [a, 270, b]);
    assert_eq!(bare.decode(&[270]).unwrap(), "   ");
}

#[test]
fn without_bytes_the_unknown_token_stands_for_runs_of_characters() {
    let tokens = tokens();
    let with = |unk| {
        Tokenizer::sentence_piece(SpmParts {
            tokens: tokens
                .iter()
                .filter(|t| t.2 != TokenKind::Byte)
                .map(|(t, s, k)| (t.as_bytes(), *s, *k)),
            add_space_prefix: false,
            ids: SpecialIds { unk, ..SpecialIds::default() },
        })
        .unwrap()
    };
    let t = with(Some(0));
    let ids = t.encode("éxab日 ", Specials::Ignore).unwrap();
    assert_eq!(ids, [0, 4, 0, 5]);
    let e = with(None).encode("aé", Specials::Ignore);
    assert_eq!(e, Err(E::NoTokenForByte { byte: 0xc3 }));
}

#[test]
fn tokens_of_other_files_are_added() {
    let model = model();
    let n = tokens().len() as u64;
    let config = format!(
        r#"{{"bos_token":"<s>","eos_token":{{"content":"<end>"}},"pad_token":"<pad>","add_bos_token":false,"add_eos_token":true,
        "added_tokens_decoder":{{"1":{{"content":"<s>","special":true}},"{}":{{"content":"<end>","special":true}}}}}}"#,
        n + 1
    );
    let folder = Folder::new("spm", &[("tokenizer_config.json", &config)]);
    std::fs::write(folder.0.join("tokenizer.model"), &model).unwrap();
    std::fs::write(folder.0.join("added_tokens.json"), format!(r#"{{"<new>":{n}}}"#)).unwrap();
    std::fs::write(folder.0.join("vocab.json"), "not read").unwrap();
    let t = Tokenizer::from_folder(&folder.0).unwrap();
    let n = n as u32;
    assert_eq!(t.special_ids().bos, Some(1));
    assert_eq!((t.eos(), t.add_bos(), t.add_eos()), (Some(n + 1), false, true));
    assert_eq!(t.encode("<new>", Specials::Ignore).unwrap(), [n]);
    assert_eq!(t.encode("<end><pad>", Specials::Parse).unwrap(), [n + 1, n + 2]);
    // </s> is a control token that ends generation by its name.
    assert_eq!(t.stop_ids(), [2, n + 1]);

    // Tokens named by the model's files end generation too: generation_config.json before
    // config.json.
    let write = |name: &str, text: &str| std::fs::write(folder.0.join(name), text).unwrap();
    write("config.json", r#"{"eos_token_id":260}"#);
    assert_eq!(Tokenizer::from_folder(&folder.0).unwrap().stop_ids(), [2, 260, n + 1]);
    write("generation_config.json", r#"{"x":[{}],"eos_token_id":[5,99999,-1,4]}"#);
    assert_eq!(Tokenizer::from_folder(&folder.0).unwrap().stop_ids(), [2, 4, 5, n + 1]);
    write("generation_config.json", r#"{"eos_token_id":null}"#);
    assert_eq!(Tokenizer::from_folder(&folder.0).unwrap().stop_ids(), [2, 260, n + 1]);
    for bad in [r#"{"eos_token_id":"x"}"#, r#"{"eos_token_id":[[1]]}"#, r#"{"eos_token_id":1.5}"#] {
        write("generation_config.json", bad);
        let e = Tokenizer::from_folder(&folder.0).unwrap_err();
        assert!(matches!(e, E::WrongField { file: "generation_config.json", .. }), "{e}");
    }
    // A distant id would leave unused ids; one that is taken gets a new token.
    let far = r#"{"added_tokens_decoder":{"99999":{"content":"<far>"}}}"#;
    let e = Tokenizer::from_sentence_piece(&model, Some(far.as_bytes())).unwrap_err();
    assert_eq!(e, E::IdTooLarge { id: 99999, limit: n + 1 + 1024 });
    let most = r#"{"added_tokens_decoder":{"18446744073709551615":{"content":"<far>"}}}"#;
    let e = Tokenizer::from_sentence_piece(&model, Some(most.as_bytes())).unwrap_err();
    assert!(matches!(e, E::IdTooLarge { .. }));
    let taken = r#"{"added_tokens_decoder":{"269":{"content":"<y>","special":true}}}"#;
    let t = Tokenizer::from_sentence_piece(&model, Some(taken.as_bytes())).unwrap();
    assert_eq!(t.encode("<y>", Specials::Parse).unwrap(), [269]);
    assert!(t.is_special(269));
}

#[test]
fn a_model_that_is_no_bpe_or_changes_texts_is_refused_by_its_name() {
    let (trainer, normal) = (numbers(&TRAINER), numbers(&NORMALIZER));
    let with = |trainer: &[u8], normal: &[u8]| build(&model_with(trainer, normal)).unwrap_err();
    for (kind, name) in [
        (1, "SentencePiece Unigram"),
        (3, "SentencePiece Word"),
        (4, "SentencePiece Char"),
        (9, "SentencePiece model type 9"),
    ] {
        let e = with(&number(3, kind), &normal);
        assert_eq!(e, unsupported("model", name));
        assert!(e.to_string().contains(name));
    }
    // Unigram is the default if a file doesn't specify the model.
    assert_eq!(with(b"", &normal), unsupported("model", "SentencePiece Unigram"));
    let suffix = [trainer.clone(), number(24, 1)].concat();
    assert_eq!(with(&suffix, &normal), unsupported("trainer option", "treat_whitespace_as_suffix"));
    let nmt = [field(1, b"nmt_nfkc"), field(2, &[1, 2, 3]), normal.clone()].concat();
    assert_eq!(with(&trainer, &nmt), unsupported("normalizer", "nmt_nfkc"));
    // A rule's name alone changes nothing.
    let named = [field(1, b"nmt_nfkc"), field(2, b""), normal.clone()].concat();
    assert!(build(&model_with(&trainer, &named)).is_ok());
    assert_eq!(with(&trainer, b""), unsupported("normalizer", "remove_extra_whitespaces"));
    let plain = [normal.clone(), number(5, 0)].concat();
    assert_eq!(with(&trainer, &plain), unsupported("normalizer", "escape_whitespaces: false"));
    let undone = [model(), field(5, &[field(1, b"custom"), field(2, &[1])].concat())].concat();
    assert_eq!(build(&undone).unwrap_err(), unsupported("denormalizer", "custom"));
}

#[test]
fn a_file_that_is_no_model_says_where() {
    let why = |bytes: &[u8]| match build(bytes).unwrap_err() {
        E::Model { offset, why } => (offset, why),
        e => panic!("{e}"),
    };
    assert_eq!(why(b"").1, "the settings of the trainer or the normaliser are missing");
    assert_eq!(why(&[0x0a, 5, 1]), (2, "the file ends within a field"));
    // A length of 2^63 - 1, with no bytes after it.
    let huge = [&[0x0a][..], &[0xff; 8], &[0x7f]].concat();
    assert_eq!(why(&huge), (10, "the file ends within a field"));
    assert_eq!(why(&[0xff; 12]).1, "a number has more than 64 bits");
    assert_eq!(why(&[0x0b]).1, "a field has no type of protocol buffers in use");
    assert_eq!(why(&[0x08, 1]).1, "a field before this should be text or a message");
    assert_eq!(why(&field(1, &number(3, 7))).1, "unknown token type (known: 1 to 6)");
    assert_eq!(why(&field(1, &number(2, 7))).1, "the score before this should be a float");
    let empty = [field(2, &number(3, 2)), field(3, &number(4, 0))].concat();
    assert_eq!(why(&empty).1, "there are no tokens");
    assert!(build(b"{\"json\": 1}").is_err());

    let add = |p: Vec<u8>| build(&[model(), p].concat()).unwrap_err();
    let n = tokens().len() as u32;
    assert_eq!(add(piece("x", f32::NAN, 1)), E::ScoreIsNan { id: n });
    assert_eq!(
        add(piece("ab", 0.0, 1)),
        E::DuplicateToken { token: "ab".into(), first: 260, second: n }
    );
    let e = add(piece("<0xx>", 0.0, 6));
    assert_eq!(e, E::NotAByte { id: n, token: "<0xx>".into() });
    assert!(e.to_string().contains("<0xx>"));
}

#[test]
fn gguf_keys_that_are_missing_or_wrong_are_named() {
    let is = |keys: Keys, key, why| assert_eq!(keys.build().unwrap_err(), E::Gguf { key, why });
    const SCORES: &str = "tokenizer.ggml.scores";
    is(gguf().i32s(SCORES, &[1]), SCORES, "has fewer entries than there are tokens");
    is(gguf().str(SCORES, "1"), SCORES, "is not an array of floats");
    is(scores(gguf(), &[1.0]), SCORES, "has fewer entries than there are tokens");
    is(Keys::new().str("tokenizer.ggml.model", "llama"), "tokenizer.ggml.tokens", "is missing");
    let mut nan: Vec<f32> = tokens().iter().map(|t| t.1).collect();
    nan[260] = f32::NAN;
    assert_eq!(scores(gguf(), &nan).build().unwrap_err(), E::ScoreIsNan { id: 260 });
    let flag = |keys: Keys, key: &str, v: u8| keys.put(key, 7, &[v]);
    let extra = flag(full_gguf(), "tokenizer.ggml.remove_extra_whitespaces", 1);
    let extra = extra.build().unwrap();
    assert!(
        extra.warnings()[0].to_string().starts_with("tokenizer.ggml.remove_extra_whitespaces: ")
    );
    assert!(flag(full_gguf(), "tokenizer.ggml.remove_extra_whitespaces", 0).build().is_ok());

    let t = full_gguf().build().unwrap();
    assert!(t.add_bos() && !t.add_eos());
    let keys = flag(full_gguf(), "tokenizer.ggml.add_bos_token", 0);
    let keys = flag(keys, "tokenizer.ggml.add_eos_token", 1);
    let keys = flag(keys, "tokenizer.ggml.add_space_prefix", 0);
    let t = keys.u32("tokenizer.ggml.eot_token_id", 269).build().unwrap();
    assert!(!t.add_bos() && t.add_eos());
    assert_eq!(t.stop_ids(), [2, 269]);
    assert_eq!(t.encode("ab", Specials::Ignore).unwrap(), [260]);
    // Default ids outside the vocabulary are ignored; ids named by a file give a warning.
    let tiny = Keys::new()
        .str("tokenizer.ggml.model", "llama")
        .strs("tokenizer.ggml.tokens", &["a".to_string(), "<0x62>".to_string()]);
    let t = scores(tiny, &[0.0, 0.0]).build().unwrap();
    assert_eq!((t.bos(), t.eos(), t.special_ids().unk), (Some(1), None, Some(0)));
    assert_eq!(t.token_bytes(1), Some(&b"b"[..]));
    let key = "tokenizer.ggml.bos_token_id";
    let t = full_gguf().u32(key, 9999).build().unwrap();
    assert_eq!(t.bos(), Some(1));
    let warning = TokenizerWarning::BadSpecialId { key, id: 9999, used: Some(1) };
    assert_eq!(t.warnings(), [warning]);
}

#[test]
fn tokens_end_texts_by_their_names_where_they_are_control_tokens() {
    let names: [(&str, TokenKind); 5] = [
        ("<|im_end|>", TokenKind::Control),
        ("<|eot_id|>", TokenKind::Normal),
        ("<end_of_turn>", TokenKind::Control),
        ("<|im_start|>", TokenKind::Control),
        ("<｜end▁of▁sentence｜>", TokenKind::Control),
    ];
    let t = Tokenizer::sentence_piece(SpmParts {
        tokens: names.iter().map(|(t, k)| (t.as_bytes(), 0.0, *k)),
        add_space_prefix: false,
        ids: SpecialIds { eos: Some(3), ..SpecialIds::default() },
    })
    .unwrap();
    assert_eq!(t.stop_ids(), [0, 2, 3, 4]);
    assert!((0..9).all(|id| t.is_end(id) == t.stop_ids().contains(&id)));
}

/// A small tokenizer.json of Llama 2's shape.
const JSON: &str = r#"{"added_tokens":[{"id":0,"content":"<unk>","special":true}],
    "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
    "pre_tokenizer":null,"post_processor":null,
    "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
    "model":{"type":"BPE","dropout":null,"unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"ignore_merges":false,
    "vocab":{"<unk>":0,"▁":1,"a":2,"b":3,"▁a":4,"ab":5,"<0x63>":6,"aba":7},"merges":["a b","▁ a",["ab","a"]]}}"#;

#[test]
fn tokenizer_json_is_followed_or_refused_by_name() {
    let json = |text: &str| Tokenizer::from_tokenizer_json(text.as_bytes(), None);
    let t = json(JSON).unwrap();
    assert_eq!(t.encode("ab aba", Specials::Ignore).unwrap(), [1, 5, 1, 7]);
    assert_eq!(t.encode("a<unk>c", Specials::Parse).unwrap(), [4, 0, 1, 6]);
    // An unknown character before a byte comes after it, as in the library.
    assert_eq!(t.encode("日本c", Specials::Parse).unwrap(), [1, 6, 0]);
    assert_eq!(t.decode(&[4, 6, 1]).unwrap(), "ac ");
    let change = |from: &str, to: &str| {
        assert!(JSON.contains(from), "{from}");
        json(&JSON.replacen(from, to, 1))
    };
    // A text that is a token becomes it without merging.
    let t = change("\"ignore_merges\":false", "\"ignore_merges\":true").unwrap();
    let t2 = change("\"merges\":[\"a b\",\"▁ a\",[\"ab\",\"a\"]]", "\"merges\":[]").unwrap();
    assert_eq!(t.encode("a", Specials::Ignore).unwrap(), [4]);
    assert_eq!(t2.encode("a", Specials::Ignore).unwrap(), [1, 2]);
    let e = change(r#""dropout":null"#, r#""dropout":0.5"#).unwrap_err();
    assert_eq!(e, unsupported("model option", "dropout: 0.5"));
    let e = change("\"a b\"", "\"a z\"").unwrap_err();
    assert_eq!(e, E::UnknownMergeToken { at: MergeAt::Index(0), token: "z".into() });
    let e = change("\"a b\"", "\"b b\"").unwrap_err();
    assert_eq!(e, E::NoMergeProduct { at: MergeAt::Index(0), product: "bb".into() });
    let t = change("\"▁ a\"", "\"a b\"").unwrap();
    let repeated = TokenizerWarning::RepeatedMerges { first: 1, count: 1, last: true };
    assert_eq!(t.warnings(), [repeated]);
    assert_eq!(
        change("\"a b\"", "\"ab\"").unwrap_err(),
        E::MalformedMerge { at: MergeAt::Index(0) }
    );
    for cut in (0..JSON.len()).filter(|&i| JSON.is_char_boundary(i)) {
        assert!(matches!(json(&JSON[..cut]), Err(E::Json { .. })));
    }
}

/// Encodes and decodes, if building succeeded.
fn use_it(built: Result<Tokenizer, E>) {
    match built {
        Ok(t) => {
            for text in ["ab  <x>abc é日<s> ", "", " ", "   aaa"] {
                if let Ok(ids) = t.encode(text, Specials::Parse) {
                    t.decode(&ids).unwrap();
                }
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

#[test]
fn no_truncation_of_a_model_panics() {
    let model = model();
    for cut in 0..model.len() {
        assert!(build(&model[..cut]).is_err(), "{cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_mutation_of_a_model_panics(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut model = model();
        // The settings at the end have more to break than pieces have.
        for (at, byte) in &changes {
            let n = model.len();
            let at = if byte % 2 == 0 { n - 1 - at.index(40) } else { at.index(n) };
            model[at] = *byte;
        }
        use_it(build(&model));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        use_it(build(&bytes));
    }

    #[test]
    fn no_mutation_of_a_tokenizer_json_panics(at in any::<prop::sample::Index>(), byte in prop::sample::select(&b"\"{}[]:,0x9 ab"[..])) {
        let mut json = JSON.as_bytes().to_vec();
        let at = at.index(json.len());
        json[at] = byte;
        use_it(Tokenizer::from_tokenizer_json(&json, None));
    }

    #[test]
    fn decoding_undoes_encoding(text in "([a-c ]|\\PC|\n){0,24}", prefix: bool) {
        let t = parts(prefix);
        let text = text.replace('\u{2581}', "");
        let ids = t.encode(&text, Specials::Ignore).unwrap();
        // Text after a user-defined token gets a prefix that stays.
        if !text.contains("<x>") && !text.contains("   ") {
            prop_assert_eq!(&t.decode(&ids).unwrap(), &text);
        }
        // Streamed pieces are the same bytes, with the prefix.
        let (mut stream, mut all) = (Utf8Stream::new(), String::new());
        for &id in &ids {
            all.extend(stream.push(t.token_bytes(id).unwrap()));
        }
        all.push_str(stream.finish());
        if !text.contains("<x>") && !text.contains("   ") {
            prop_assert_eq!(all, format!("{}{text}", if prefix && !text.is_empty() { " " } else { "" }));
        }
    }
}
