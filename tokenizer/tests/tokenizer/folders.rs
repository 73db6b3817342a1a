//! Hugging Face folders whose files complete or contradict one another. The ids are those of
//! transformers, 5.24.

use teff_tokenizer::*;

use crate::common::{END, Folder, Small};

/// A folder of a small tokenizer.json and other files; its text tokens are the bytes, then merges.
fn folder(name: &str, files: &[(&str, &str)]) -> Tokenizer {
    let json = Small::sample().tokenizer_json(false);
    let mut all = vec![("tokenizer.json", json.as_str())];
    all.extend(files);
    let folder = Folder::new(&format!("folders-{name}"), &all);
    Tokenizer::from_folder(&folder.0).unwrap()
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, Specials::Parse).unwrap()
}

#[test]
fn tokens_that_only_other_files_name_are_added() {
    let next = Small::sample().end() + 1;
    let config = "tokenizer_config.json";
    let decoder = format!(
        r#"{{"added_tokens_decoder":{{"{}":{{"content":"<|im_end|>","special":true}},"{next}":{{"content":"<|im_start|>","special":true,"rstrip":true}}}}}}"#,
        next + 1
    );
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u32);
    let cases: [Case<'_>; 7] = [
        ("decoder", &[(config, &decoder)], 1),
        (
            "additional",
            &[(config, r#"{"additional_special_tokens":["<|im_start|>","<|im_end|>"]}"#)],
            0,
        ),
        (
            "extra",
            &[(config, r#"{"extra_special_tokens":{"a":"<|im_start|>","b":"<|im_end|>"}}"#)],
            0,
        ),
        (
            "own",
            &[(config, r#"{"image_token":"<|im_start|>","extra_special_tokens":["<|im_end|>"]}"#)],
            0,
        ),
        (
            "map",
            &[(
                "special_tokens_map.json",
                r#"{"bos_token":"<|im_start|>","eos_token":"<|im_end|>"}"#,
            )],
            0,
        ),
        (
            "named",
            &[(
                config,
                r#"{"unk_token":null,"sep_token":"<|im_start|>","pad_token":"<|im_end|>"}"#,
            )],
            0,
        ),
        (
            "added",
            &[(
                "added_tokens.json",
                &format!(r#"{{"<|im_end|>":{},"<|im_start|>":{next}}}"#, next + 1),
            )],
            0,
        ),
    ];
    for (name, files, stripped) in cases {
        let tokenizer = folder(name, files);
        let got = ids(&tokenizer, "<|im_start|> a<|im_end|>");
        let want = [&[next][..], &[32, 97][stripped as usize..], &[next + 1]].concat();
        assert_eq!(got, want, "{name}");
        assert!(tokenizer.is_end(next + 1) && !tokenizer.is_end(next), "{name}");
        // Nobody who types the name of the end gets it.
        let typed = tokenizer.encode("<|im_end|>", Specials::Ignore).unwrap();
        assert_eq!(typed.len(), 10, "{name}");
        let added = |w: &TokenizerWarning| {
            matches!(w, TokenizerWarning::TokenAdded { token, id, count: 2 }
                if token.starts_with("<|im_") && *id == next)
        };
        assert!(tokenizer.warnings().iter().any(added), "{name}: {:?}", tokenizer.warnings());
    }
}

#[test]
fn the_map_of_special_tokens_counts_before_the_config_unless_that_has_added_tokens() {
    let map = ("special_tokens_map.json", r#"{"bos_token":"A","eos_token":{"content":"B"}}"#);
    let config = |text| ("tokenizer_config.json", text);
    let alone = folder("map-alone", &[map]);
    assert_eq!((alone.bos(), alone.eos()), (Some(65), Some(66)));
    let both = folder("map-both", &[map, config(r#"{"eos_token":"C","pad_token":"D"}"#)]);
    assert_eq!((both.bos(), both.eos()), (Some(65), Some(66)));
    let text = r#"{"eos_token":"C","added_tokens_decoder":{}}"#;
    let without = folder("map-without", &[map, config(text)]);
    assert_eq!((without.bos(), without.eos()), (None, Some(67)));
    // A class names GPT-2's token where no file does.
    let class =
        folder("map-class", &[config(r#"{"tokenizer_class":"GPT2Tokenizer","bos_token":"A"}"#)]);
    let end = Small::sample().end();
    assert_eq!((class.bos(), class.eos()), (Some(65), Some(end)));
}

#[test]
fn the_class_says_which_file_s_prefix_counts() {
    for (class, key, prefixed, warned) in [
        ("GPT2TokenizerFast", ",\"add_prefix_space\":true", true, true),
        ("GPT2TokenizerFast", ",\"add_prefix_space\":false", false, false),
        ("GPT2Tokenizer", "", false, false),
        ("PreTrainedTokenizerFast", ",\"add_prefix_space\":true", false, false),
    ] {
        let config = format!(r#"{{"tokenizer_class":"{class}"{key}}}"#);
        let tokenizer = folder("prefix", &[("tokenizer_config.json", &config)]);
        let want: &[u32] = if prefixed { &[32, 97] } else { &[97] };
        assert_eq!(ids(&tokenizer, "a"), want, "{class}{key}");
        assert_eq!(tokenizer.warnings().len(), usize::from(warned), "{class}{key}");
    }
}

#[test]
fn ids_of_added_tokens_leave_no_holes() {
    let end = Small::sample().end();
    let json = Small::sample().tokenizer_json(false);
    let vocab = format!(",{}:{end}", crate::common::quote(END));
    // The vocabulary without its last token, which is added under an id that has no row.
    let json = json.replacen(&vocab, "", 1).replacen(&format!("\"id\":{end}"), "\"id\":9999", 1);
    let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    assert_eq!(ids(&tokenizer, "a<|endoftext|>"), [97, end]);
    assert_eq!(tokenizer.vocab_size(), end as usize + 1);
    let moved = TokenizerWarning::MovedTokens { token: END.into(), from: 9999, to: end, count: 1 };
    assert_eq!(tokenizer.warnings(), [moved]);
    assert!(tokenizer.warnings()[0].to_string().contains("added_tokens"));
}

#[test]
fn added_tokens_with_names_of_ends_are_control_tokens_whatever_the_file_says() {
    let json = Small::sample().tokenizer_json(false);
    let added = json.replacen("\"special\":true", "\"special\":false", 1);
    let end = Small::sample().end();
    let tokenizer = Tokenizer::from_tokenizer_json(added.as_bytes(), None).unwrap();
    assert_eq!(ids(&tokenizer, "a<|endoftext|>"), [97, end]);
    assert_eq!(tokenizer.encode(END, Specials::Ignore).unwrap().len(), END.len());
    assert_eq!(tokenizer.stop_ids(), [end]);
    let warning = TokenizerWarning::NotControl { id: end, token: END.into() };
    assert_eq!(tokenizer.warnings(), [warning]);
    // A token of the vocabulary that nothing adds is text, as in the library: 14 tokens.
    let none = json.replacen("\"added_tokens\":[", "\"x\":[", 1);
    let tokenizer = Tokenizer::from_tokenizer_json(none.as_bytes(), None).unwrap();
    assert_eq!(ids(&tokenizer, "a<|endoftext|>").len(), 14);
    assert_eq!(tokenizer.token_kind(end), Some(TokenKind::Normal));
    assert!(tokenizer.warnings().is_empty() && tokenizer.stop_ids().is_empty());
}

#[test]
fn text_never_merges_to_a_control_token() {
    let mut small = Small::new();
    let mut left = u32::from(b'<');
    for byte in "EOT>".bytes() {
        small.merge(left, u32::from(byte));
        left = small.tokens.len() as u32 - 1;
    }
    let json = small.tokenizer_json(true);
    let json = json.replacen("\"use_regex\":true", "\"use_regex\":false", 1);
    let plain = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    assert_eq!(ids(&plain, "a<EOT>"), [97, 259]);
    let added = "\"added_tokens\":[{\"id\":259,\"content\":\"<EOT>\",\"special\":true},";
    let json = json.replacen("\"added_tokens\":[", added, 1);
    let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    assert_eq!(ids(&tokenizer, "a<EOT>"), [97, 259]);
    // What was merged before, and the last byte.
    let byte = |b: u8| u32::from(b);
    assert_eq!(tokenizer.encode("a<EOT>", Specials::Ignore).unwrap(), [97, 258, byte(b'>')]);
    let many = tokenizer.encode(&"<EOT>".repeat(1 << 17), Specials::Ignore).unwrap();
    assert_eq!(many, [258, byte(b'>')].repeat(1 << 17));
    assert!(tokenizer.is_end(259));
}

/// Error of a storage that is not a file system.
#[derive(Debug)]
enum Failure {
    Storage,
    Tokenizer(TokenizerError),
}

impl From<TokenizerError> for Failure {
    fn from(e: TokenizerError) -> Self {
        Failure::Tokenizer(e)
    }
}

#[test]
fn files_may_come_from_anywhere() {
    let json = Small::sample().tokenizer_json(false);
    let mut asked = Vec::new();
    let tokenizer = Tokenizer::from_files(|name| {
        asked.push(name);
        Ok::<_, Failure>(match name {
            "tokenizer.json" => Some(json.clone().into_bytes()),
            "tokenizer_config.json" => Some(br#"{"eos_token":"C"}"#.to_vec()),
            "config.json" => Some(br#"{"eos_token_id":[68]}"#.to_vec()),
            _ => None,
        })
    });
    let tokenizer = tokenizer.unwrap().unwrap();
    assert_eq!(
        (tokenizer.eos(), tokenizer.stop_ids()),
        (Some(67), &[67, 68, Small::sample().end()][..])
    );
    assert!(asked.contains(&"generation_config.json") && !asked.contains(&"vocab.json"));
    assert!(Tokenizer::from_files(|_| Ok::<_, Failure>(None)).unwrap().is_none());
    let failed = Tokenizer::from_files(|_| Err(Failure::Storage));
    assert!(matches!(failed, Err(Failure::Storage)));
    let broken =
        Tokenizer::from_files(|name| Ok((name == "tokenizer.json").then(|| b"[".to_vec())));
    assert!(matches!(broken, Err(Failure::Tokenizer(TokenizerError::WrongField { .. }))));
}

/// Python's `json` reads `NaN` and `Infinity`, and transformers all of these files by it.
#[test]
fn files_of_python_may_have_numbers_that_json_lacks() {
    let tokenizer = folder(
        "python",
        &[
            ("tokenizer_config.json", r#"{"model_max_length":Infinity,"pad_token":"D","x":NaN}"#),
            ("special_tokens_map.json", r#"{"y":-Infinity,"bos_token":"A"}"#),
            ("generation_config.json", r#"{"top_p":NaN,"eos_token_id":[67,68]}"#),
        ],
    );
    assert_eq!(tokenizer.bos(), Some(65));
    assert!(tokenizer.is_end(67) && tokenizer.is_end(68) && !tokenizer.is_end(69));
}

/// Descriptions of more than a text model have it inside; what stands outside counts before that.
#[test]
fn ends_of_a_text_config_are_found() {
    for (config, ends) in [
        (r#"{"text_config":{"eos_token_id":67}}"#, &[67][..]),
        (r#"{"text_config":{"x":{"eos_token_id":69},"eos_token_id":[67,68]}}"#, &[67, 68]),
        (r#"{"eos_token_id":null,"text_config":{"eos_token_id":67}}"#, &[67]),
        (r#"{"eos_token_id":[],"text_config":{"eos_token_id":67}}"#, &[67]),
        (r#"{"text_config":{"eos_token_id":67},"eos_token_id":68}"#, &[68]),
        (r#"{"eos_token_id":68,"text_config":{"eos_token_id":67}}"#, &[68]),
        (r#"{"text_config":null,"eos_token_id":68}"#, &[68]),
        (r#"{"text_config":[{"eos_token_id":67}]}"#, &[]),
        (r#"{"vision_config":{"eos_token_id":67}}"#, &[]),
    ] {
        let tokenizer = folder("text-config", &[("config.json", config)]);
        let found: Vec<u32> = (65..=70).filter(|&id| tokenizer.is_end(id)).collect();
        assert_eq!(found, ends, "{config}");
    }
}

#[test]
fn ends_that_are_no_tokens_are_named() {
    for (ids, bad) in [("99999", &[99_999][..]), ("[67,-2,99999]", &[-2, 99_999]), ("-1", &[])] {
        let config = format!(r#"{{"eos_token_id":{ids}}}"#);
        let tokenizer = folder("ends", &[("config.json", &config)]);
        let named: Vec<_> = bad
            .iter()
            .map(|&id| TokenizerWarning::BadSpecialId { key: "eos_token_id", id, used: None })
            .collect();
        assert_eq!(tokenizer.warnings(), named, "{ids}");
        assert_eq!(tokenizer.is_end(67), ids.contains("67"), "{ids}");
    }
}
