//! Properties that hold for every vocabulary and every text.

use proptest::collection::vec;
use proptest::prelude::*;
use teff_tokenizer::*;

use crate::common::{END, Folder, Small, letter};

/// Merging by definition: all pairs are examined again each time.
fn by_definition(small: &Small, piece: &[u8]) -> Vec<u32> {
    let mut ids: Vec<u32> = piece.iter().map(|&b| u32::from(b)).collect();
    loop {
        let rank = |pair: &[u32]| small.merges.iter().position(|&(l, r)| [l, r] == *pair);
        let best = (1..ids.len()).filter_map(|i| Some((rank(&ids[i - 1..=i])?, i - 1))).min();
        let Some((rank, at)) = best else { return ids };
        ids.splice(at..at + 2, [256 + rank as u32]);
    }
}

/// Vocabularies over `a`, `b` and `c` whose merges build on each other.
fn small() -> impl Strategy<Value = Small> {
    vec((any::<u32>(), any::<u32>()), 0..24).prop_map(|pairs| {
        let mut small = Small::new();
        for (l, r) in pairs {
            let n = 3 + small.merges.len() as u32;
            let id = |x: u32| if x % n < 3 { u32::from(b'a') + x % n } else { 253 + x % n };
            small.merge(id(l), id(r));
        }
        small
    })
}

/// Any text, with a preference for characters that matter to pre-tokenizers.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => "[a-c]{1,6}",
        2 => "[ \n\t]{1,3}",
        1 => "'(s|t|re|ve|m|ll|d|x)",
        1 => "[0-9.!]{1,4}",
        1 => Just(END.to_string()),
        1 => "\\PC{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn merging_is_what_its_definition_says(small in small(), piece in "[a-c]{0,90}") {
        let want = by_definition(&small, piece.as_bytes());
        let ids = small.parts().unwrap().encode(&piece, Specials::Ignore).unwrap();
        prop_assert_eq!(ids, want);
    }

    #[test]
    fn decoding_undoes_encoding_from_every_source(small in small(), text in text()) {
        let all = small.all();
        for specials in [Specials::Ignore, Specials::Parse] {
            let ids = all[0].encode(&text, specials).unwrap();
            prop_assert_eq!(&all[0].decode(&ids).unwrap(), &text);
            let found = ids.iter().filter(|&&id| all[0].is_special(id)).count();
            let there = if specials == Specials::Parse { text.matches(END).count() } else { 0 };
            prop_assert_eq!(found, there);
            for other in &all[1..] {
                prop_assert_eq!(&other.encode(&text, specials).unwrap(), &ids);
                prop_assert_eq!(&other.decode(&ids).unwrap(), &text);
            }
        }
    }

    #[test]
    fn scratch_has_no_memory_of_other_texts(small in small(), texts in vec(text(), 1..5)) {
        let tokenizer = small.parts().unwrap();
        let (mut scratch, mut out, mut want) = (EncodeScratch::default(), Vec::new(), Vec::new());
        for text in texts {
            tokenizer.encode_into(&text, Specials::Parse, &mut scratch, &mut out).unwrap();
            want.extend(tokenizer.encode(&text, Specials::Parse).unwrap());
            prop_assert_eq!(&out, &want);
        }
    }

    #[test]
    fn a_stream_is_the_lossy_text_of_all_its_bytes(
        parts in vec(vec(stream_bytes(), 0..6).prop_map(|p| p.concat()), 0..8),
    ) {
        let mut stream = Utf8Stream::new();
        let mut text = String::new();
        for part in &parts {
            for piece in stream.push(part) {
                prop_assert!(!piece.is_empty());
                text.push_str(piece);
            }
            prop_assert!(stream.held() <= 3);
        }
        text.push_str(stream.finish());
        let all = parts.concat();
        prop_assert_eq!(&text, &String::from_utf8_lossy(&all));
        // One byte at a time, with the pieces of some pushes left unread.
        text.clear();
        for byte in &all {
            text.extend(stream.push(std::slice::from_ref(byte)));
            let _ = stream.push(&[]);
        }
        text.push_str(stream.finish());
        prop_assert_eq!(&text, &String::from_utf8_lossy(&all));
    }

    #[test]
    fn a_stream_gives_a_character_as_soon_as_it_is_whole(text in text()) {
        let mut stream = Utf8Stream::new();
        let (bytes, mut given) = (text.as_bytes(), 0);
        for (i, byte) in bytes.iter().enumerate() {
            given += stream.push(std::slice::from_ref(byte)).map(str::len).sum::<usize>();
            let whole = (0..=i + 1).rfind(|&n| text.is_char_boundary(n)).unwrap();
            prop_assert_eq!((given, stream.held()), (whole, i + 1 - whole));
        }
    }
}

/// Bytes near the limits of valid UTF-8.
fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        prop_oneof![
            Just(0xf0u8),
            Just(0xf4),
            Just(0xe0),
            Just(0xed),
            Just(0xc2),
            Just(0xc1),
            Just(0xf5)
        ]
        .prop_map(|b| vec![b]),
        prop_oneof![Just(0x80u8), Just(0x8f), Just(0x90), Just(0x9f), Just(0xa0), Just(0xbf)]
            .prop_map(|b| vec![b]),
        any::<u8>().prop_map(|b| vec![b]),
        Just(vec![]),
    ]
}

#[test]
fn every_cut_of_every_kind_of_broken_sequence() {
    let starts: &[u8] = b"a\x80\xbf\xc1\xc2\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5\xff";
    let nexts: &[u8] = b"a\x80\x8f\x90\x9f\xa0\xbf\xc2\xe2\xf0";
    for &a in starts {
        for &b in nexts {
            for &c in nexts {
                for &d in nexts {
                    let all = [a, b, c, d, b'z'];
                    let want = String::from_utf8_lossy(&all);
                    for cuts in 0..16u32 {
                        let (mut stream, mut text, mut from) =
                            (Utf8Stream::new(), String::new(), 0);
                        for to in (1..=5).filter(|&i| i == 5 || cuts >> (i - 1) & 1 == 1) {
                            text.extend(stream.push(&all[from..to]));
                            from = to;
                        }
                        text.push_str(stream.finish());
                        assert_eq!(text, want, "{all:x?} {cuts:b}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_token_has_the_bytes_that_its_text_stands_for() {
    let small = Small::sample();
    for tokenizer in small.all() {
        for (id, token) in (0..).zip(&small.tokens) {
            assert_eq!(tokenizer.token_bytes(id), Some(&**token));
            assert_eq!(tokenizer.token_kind(id), Some(TokenKind::Normal));
            assert_eq!(tokenizer.find_token(token), Some(id));
        }
        let end = small.end();
        assert_eq!(tokenizer.token_bytes(end), Some(END.as_bytes()));
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(end), Some(end)));
        assert!(tokenizer.is_special(end));
        assert_eq!(tokenizer.vocab_size(), end as usize + 1);
    }
    assert_eq!(letter(b' '), 'Ġ');
}

#[test]
fn the_longest_special_token_wins_and_user_defined_ones_are_always_found() {
    let small = Small::new();
    let spelled = small.spelled();
    let extra: [(&str, TokenKind); 6] = [
        ("<a>", TokenKind::Control),
        ("<a><b>", TokenKind::Control),
        ("<a>é", TokenKind::UserDefined),
        ("é日", TokenKind::UserDefined),
        ("<unused>", TokenKind::Unused),
        ("", TokenKind::Control),
    ];
    let tokens = spelled[..256].iter().map(|t| (t.as_bytes(), TokenKind::Normal));
    let extra = extra.map(|(t, k)| (t.as_bytes(), k));
    let tokenizer = Tokenizer::byte_bpe(BpeParts {
        tokens: tokens.chain(extra),
        merges: [],
        splitter: Splitter::Gpt2,
        add_prefix_space: false,
        ignore_merges: false,
        nfc: false,
        ids: SpecialIds::default(),
    })
    .unwrap();
    let bytes = |s: &str| s.bytes().map(u32::from).collect::<Vec<_>>();
    let parse = |s| tokenizer.encode(s, Specials::Parse).unwrap();
    let ignore = |s| tokenizer.encode(s, Specials::Ignore).unwrap();
    assert_eq!(parse("<a><b><a><c>é日"), [&[257, 256][..], &bytes("<c>"), &[259]].concat());
    assert_eq!(parse("<a><a>é<a>"), [256, 258, 256]);
    assert_eq!(parse("<unused"), bytes("<unused"));
    assert_eq!(parse("<unused>"), bytes("<unused>"));
    assert_eq!(ignore("<a><b>"), bytes("<a><b>"));
    assert_eq!(ignore("<a>é日<a>é"), [258, 0xe6, 0x97, 0xa5, 258]);
    assert_eq!(ignore("é日é"), [&[259][..], &bytes("é")].concat());
    assert_eq!(tokenizer.decode(&[257, 259, 260]).unwrap(), "<a><b>é日<unused>");
}

#[test]
fn a_space_is_put_in_front_where_the_file_asks_for_it() {
    let small = Small::sample();
    let json = small.tokenizer_json(true);
    let json = json.replace("\"add_prefix_space\":false", "\"add_prefix_space\":true");
    let with = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    let without = small.parts().unwrap();
    for (text, prefixed) in [
        ("world", " world"),
        (" world", " world"),
        ("\nworld", " \nworld"),
        ("'ll", " 'll"),
        ("", ""),
    ] {
        let ids = with.encode(text, Specials::Ignore).unwrap();
        assert_eq!(ids, without.encode(prefixed, Specials::Ignore).unwrap(), "{text:?}");
    }
    // Each stretch between special tokens is tokenised separately.
    let text = format!("world{END}world{END}");
    let ids = with.encode(&text, Specials::Parse).unwrap();
    assert_eq!(with.decode(&ids).unwrap(), format!(" world{END} world{END}"));
}

#[test]
fn a_folder_gives_what_its_files_say() {
    let small = Small::sample();
    let (vocab, merges, json) =
        (small.vocab_json(), small.merges_txt(), small.tokenizer_json(false));
    let config = format!(
        r#"{{"bos_token":{{"content":"{END}","lstrip":false}},"eos_token":null,"unk_token":"é",
            "add_bos_token":true,"model_max_length":1e30,
            "added_tokens_decoder":{{"{}":{{"content":"<new>","special":false}}}}}}"#,
        small.end() + 2
    );
    let end = small.end();
    let folder = Folder::new("both", &[("vocab.json", &vocab), ("merges.txt", &merges)]);
    let tokenizer = Tokenizer::from_folder(&folder.0).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(end), false));
    let text = "hello world <|endoftext|>";
    let want = tokenizer.encode(text, Specials::Parse).unwrap();
    assert_eq!(want.last(), Some(&end));

    std::fs::write(folder.0.join("tokenizer_config.json"), &config).unwrap();
    let tokenizer = Tokenizer::from_folder(&folder.0).unwrap();
    let ids = tokenizer.special_ids();
    // The token that the vocabulary writes as é, which stands for the byte 0xe9: as in transformers
    // 5.24, which also gives an added token the next free id, whatever the file says.
    let unk = Some(0xe9);
    assert_eq!(ids, SpecialIds { bos: Some(end), unk, add_bos: true, ..SpecialIds::default() });
    assert_eq!(tokenizer.encode("<new>é", Specials::Parse).unwrap(), [end + 1, 0xe9]);
    assert_eq!(tokenizer.encode("<new>", Specials::Ignore).unwrap(), [end + 1]);
    assert_eq!(
        tokenizer.decode(&[end, end + 2]),
        Err(TokenizerError::NoSuchId { id: end + 2, vocab_size: end as usize + 2 })
    );
    let moved = TokenizerWarning::MovedTokens {
        token: "<new>".into(),
        from: u64::from(end) + 2,
        to: end + 1,
        count: 1,
    };
    assert_eq!(tokenizer.warnings(), [moved]);

    // Names that are not tokens yet are added, as in transformers.
    let config =
        r#"{"bos_token":"<s>","eos_token":"<|endoftext|>","unk_token":"<s>","pad_token":"<p>"}"#;
    let named =
        Tokenizer::from_vocab_merges(vocab.as_bytes(), merges.as_bytes(), Some(config.as_bytes()));
    let named = named.unwrap();
    assert_eq!((named.bos(), named.eos()), (Some(end + 1), Some(end)));
    assert_eq!(named.encode("<p><s>", Specials::Parse).unwrap(), [end + 2, end + 1]);

    std::fs::write(folder.0.join("tokenizer.json"), &json).unwrap();
    std::fs::write(folder.0.join("vocab.json"), "not read").unwrap();
    let tokenizer = Tokenizer::from_folder(&folder.0).unwrap();
    assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), want);
    assert_eq!(tokenizer.special_ids().bos, Some(end));
}

#[test]
fn merges_txt_may_lack_the_version_or_the_last_line_end() {
    let small = Small::sample();
    let (vocab, merges) = (small.vocab_json(), small.merges_txt());
    let (_, bare) = merges.split_once('\n').unwrap();
    let text = "hello world 123 日";
    let want = small.parts().unwrap().encode(text, Specials::Ignore).unwrap();
    for merges in [bare, bare.trim_end(), merges.trim_end(), &format!("{merges}\r\n\n")] {
        let tokenizer =
            Tokenizer::from_vocab_merges(vocab.as_bytes(), merges.as_bytes(), None).unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Ignore).unwrap(), want);
    }
    for none in ["", "#version: 0.2", "#version: 0.2\n", "\n"] {
        let tokenizer =
            Tokenizer::from_vocab_merges(vocab.as_bytes(), none.as_bytes(), None).unwrap();
        assert_eq!(tokenizer.encode("he", Specials::Ignore).unwrap(), [104, 101]);
    }
}
