//! tekken.json, Mistral's own file.

use std::sync::atomic::{AtomicUsize, Ordering};

use teff_tokenizer::TokenizerError as E;
use teff_tokenizer::*;

use crate::common::{Folder, Random};

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}

/// A file of all bytes and some merged tokens, after eight special tokens.
fn json() -> String {
    let mut all: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
    for token in ["he", "ll", "hell", "hello", " w", "or", " wor", "é", "ÉÉ", "never"] {
        all.push(token.as_bytes().to_vec());
    }
    let token = |(i, t): (usize, &Vec<u8>)| {
        format!(r#"{{"rank":{i},"token_bytes":"{}","token_str":null}}"#, base64(t))
    };
    let vocab: Vec<String> = all.iter().enumerate().map(token).collect();
    let pattern = r"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    format!(
        r#"{{"config":{{"pattern":"{pattern}","num_vocab_tokens":1000,"default_vocab_size":273,"default_num_special_tokens":8,"version":"v3"}},"vocab":[{}],"special_tokens":[{{"rank":0,"token_str":"<unk>","is_control":true}},{{"rank":1,"token_str":"<s>","is_control":true}},{{"rank":2,"token_str":"</s>","is_control":true}},{{"rank":3,"token_str":"[INST]","is_control":true}}]}}"#,
        vocab.join(",")
    )
}

fn build(json: &str) -> Result<Tokenizer, E> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("tekken-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = Folder::new(&name, &[("tekken.json", json)]);
    Tokenizer::from_folder(&folder.0)
}

#[test]
fn a_tekken_file_is_a_tokenizer() {
    let tokenizer = build(&json()).unwrap();
    // Special tokens come first; tokens beyond the vocabulary's size are left out.
    assert_eq!(tokenizer.vocab_size(), 273);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos()), (Some(1), Some(2), true));
    let ids = |text: &str| tokenizer.encode(text, Specials::Parse).unwrap();
    let byte = |b: u8| 8 + u32::from(b);
    assert_eq!(ids("[INST]hello"), [3, 267]);
    assert_eq!(ids("hellhe wor"), [266, 264, 270]);
    // The lowest rank merges first, and upper case begins a word.
    assert_eq!(ids("hellO"), [266, byte(b'O')]);
    assert_eq!(ids("12é"), [byte(b'1'), byte(b'2'), 271]);
    assert_eq!(ids("ÉÉ"), [272]);
    assert_eq!(tokenizer.token_bytes(5), Some(&b"<SPECIAL_5>"[..]));
    assert_eq!(tokenizer.decode(&[3, 267, 268]).unwrap(), "[INST]hello w");
    assert_eq!(tokenizer.encode("[INST]", Specials::Ignore).unwrap().len(), 6);
    assert_eq!(tokenizer.stop_ids(), [2]);
}

#[test]
fn older_files_have_the_special_tokens_of_their_time() {
    let json = json();
    let at = json.find(",\"special_tokens\"").unwrap();
    let tokenizer = build(&format!("{}}}", &json[..at])).unwrap();
    assert_eq!(tokenizer.encode("[INST][/INST]", Specials::Parse).unwrap(), [3, 4]);
}

#[test]
fn a_file_that_is_broken_says_where() {
    let json = json();
    let missing = |field| E::MissingField { file: "tekken.json", field };
    assert_eq!(build("{}").unwrap_err(), missing("config"));
    let e = build(&json.replace("\"default_vocab_size\"", "\"x\"")).unwrap_err();
    assert_eq!(e, missing("config.default_vocab_size"));
    assert_eq!(build(&json.replace("\"vocab\"", "\"x\"")).unwrap_err(), missing("vocab"));
    let e = build(&json.replace("\"AA==\"", "\"A\"")).unwrap_err();
    assert!(matches!(e, E::WrongField { file: "tekken.json", .. }), "{e}");
    let e = build(&json.replace("\"rank\":7,\"token_b", "\"rank\":8,\"token_b")).unwrap_err();
    assert!(matches!(e, E::RepeatedId { .. }), "{e}");
    let e = build(&json.replace("_special_tokens\":8", "_special_tokens\":99999999")).unwrap_err();
    assert!(matches!(e, E::IdTooLarge { .. }), "{e}");
    for cut in (0..json.len()).step_by(97) {
        assert!(build(&json[..cut]).is_err());
    }
}

#[test]
fn merging_is_tiktoken_s() {
    // Tokens over two letters, each of which can be made in several ways: of these, the leftmost pair
    // merges first. tiktoken's code (tiktoken-rs) says what is right, as in mistral-common.
    let mut r = Random(11);
    for round in 0..40 {
        let mut all: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        for _ in 0..24 {
            let part = |r: &mut Random| match r.below(3) {
                0 => vec![b"ab"[r.below(2)]],
                _ => all[(all.len() - 1).min(256 + r.below(all.len() - 255))].clone(),
            };
            let token = [part(&mut r), part(&mut r)].concat();
            if token.len() <= 12
                && token.iter().all(u8::is_ascii_lowercase)
                && !all.contains(&token)
            {
                all.push(token);
            }
        }
        let token =
            |(i, t): (usize, &Vec<u8>)| format!(r#"{{"rank":{i},"token_bytes":"{}"}}"#, base64(t));
        let vocab: Vec<String> = all.iter().enumerate().map(token).collect();
        let json = format!(
            r#"{{"config":{{"pattern":"[a-z]+|[^a-z]+","default_vocab_size":{},"default_num_special_tokens":4}},"vocab":[{}]}}"#,
            all.len() + 4,
            vocab.join(",")
        );
        let ours = Tokenizer::from_tekken_json(json.as_bytes()).unwrap();
        let ranks = all.iter().cloned().zip(0u32..).collect();
        let theirs =
            tiktoken_rs::CoreBPE::new(ranks, Default::default(), "[a-z]+|[^a-z]+").unwrap();
        for len in (0..40).chain([100, 300]) {
            let text: String = (0..len).map(|_| b"aab "[r.below(4)] as char).collect();
            let want: Vec<u32> = theirs.encode_ordinary(&text).iter().map(|id| id + 4).collect();
            assert_eq!(ours.encode(&text, Specials::Ignore).unwrap(), want, "{round} {text:?}");
        }
    }
}
