//! The tokens that may follow.

use teff_runtime::engine::Constraint;
use teff_runtime::structured::{Grammar, Grammars};
use teff_runtime::tokenizer::{BpeParts, SpecialIds, Splitter, TokenKind, Tokenizer};

use crate::schemas::schemas;
use crate::texts::{FILES, Random, Vocabulary};

fn mask(constraint: &mut Box<dyn Constraint>, rows: usize) -> Vec<u32> {
    let mut allowed = vec![!0; rows.div_ceil(32)];
    constraint.mask(&mut allowed).unwrap();
    (0..rows as u32).filter(|id| allowed[*id as usize / 32] >> (id % 32) & 1 == 1).collect()
}

/// A byte-level vocabulary with all kinds of tokens.
fn tokenizer() -> Tokenizer {
    let tokens = [
        ("a", TokenKind::Normal),           // 0
        ("b", TokenKind::Normal),           // 1
        ("ab", TokenKind::Normal),          // 2
        ("ab", TokenKind::UserDefined),     // 3, with the same bytes
        ("b", TokenKind::Control),          // 4, the same, but no text
        ("<s>", TokenKind::Control),        // 5
        ("</s>", TokenKind::Control),       // 6
        ("<|im_end|>", TokenKind::Control), // 7
        ("<unk>", TokenKind::Unknown),      // 8
        ("a", TokenKind::Unused),           // 9
        ("ÿ", TokenKind::Normal),           // 10, the byte 0xFF
        ("", TokenKind::UserDefined),       // 11
        ("ab</s>", TokenKind::UserDefined), // 12, text that looks like an end
    ];
    let tokens = tokens.map(|(text, kind)| (text.as_bytes(), kind));
    let ids = SpecialIds { bos: Some(5), eos: Some(6), ..SpecialIds::default() };
    let parts = BpeParts { ids, ..BpeParts::new(tokens, [b"a b".as_slice()], Splitter::Gpt2) };
    Tokenizer::byte_bpe(parts).unwrap()
}

#[test]
fn only_text_is_allowed_and_every_end_where_it_may_end() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.stop_ids(), [6, 7]);
    // More rows than tokens, and no multiple of 32.
    for rows in [13, 32, 40, 1000] {
        let grammars = Grammars::new(&tokenizer, rows).unwrap();
        let mut text = grammars.compile(&Grammar::Regex("(ab)+(</s>)?".into())).unwrap();
        assert_eq!(mask(&mut text, rows), [0, 2, 3, 12]);
        text.accept(0).unwrap();
        assert_eq!(mask(&mut text, rows), [1]);
        assert!(!text.is_complete());
        text.accept(1).unwrap();
        assert_eq!(mask(&mut text, rows), [0, 2, 3, 6, 7, 12]);
        let mut other = text.fork();
        other.accept(12).unwrap();
        assert!(other.is_complete());
        assert_eq!(mask(&mut other, rows), [6, 7]);
        for end in [6, 7] {
            let mut ended = text.fork();
            ended.accept(end).unwrap();
            assert!(ended.is_complete());
            assert_eq!(mask(&mut ended, rows), [6, 7]);
            assert!(ended.accept(0).is_err());
        }
        // Any text at all: all tokens that are text.
        let mut text = grammars.compile(&Grammar::Regex("[^]*".replace("[^]", "(.|\\n)"))).unwrap();
        assert_eq!(mask(&mut text, rows), [0, 1, 2, 3, 6, 7, 12]);
    }
}

#[test]
fn what_is_not_allowed_is_not_accepted() {
    let grammars = Grammars::new(&tokenizer(), 13).unwrap();
    let start = || grammars.compile(&Grammar::Regex("ab".into())).unwrap();
    for token in [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, u32::MAX] {
        let mut text = start();
        assert!(text.accept(token).is_err(), "{token}");
    }
    let mut text = start();
    assert!(text.mask(&mut []).is_err() && text.mask(&mut [0; 2]).is_err());
    text.accept(2).unwrap();
    assert!(text.is_complete());
    assert!(text.accept(0).is_err());
}

#[test]
fn a_vocabulary_without_an_end_or_without_a_letter() {
    let tokens = ["a", "b"].map(|text| (text.as_bytes(), TokenKind::Normal));
    let parts = BpeParts::new(tokens, [], Splitter::Gpt2);
    let grammars = Grammars::new(&Tokenizer::byte_bpe(parts).unwrap(), 2).unwrap();
    let mut text = grammars.compile(&Grammar::Regex("ab?".into())).unwrap();
    text.accept(0).unwrap();
    assert_eq!(mask(&mut text, 2), [1]);
    text.accept(1).unwrap();
    assert!(text.is_complete());
    let e = text.mask(&mut [0]).unwrap_err();
    assert!(e.message.contains("no token ends a text"), "{e}");
    // No token is left for what the grammar needs: an error, not a text of anything else.
    let mut text = grammars.compile(&Grammar::Regex("ac".into())).unwrap();
    let error =
        text.mask(&mut [0]).and_then(|()| text.accept(0)).and_then(|()| text.mask(&mut [0]));
    let message = error.unwrap_err().message;
    assert!(message.contains("no token of the vocabulary"), "{message}");
}

#[test]
fn masks_are_the_same_in_company_and_alone() {
    let vocabulary = Vocabulary::open(FILES[2]);
    let rows = vocabulary.rows();
    let mut random = Random(3);
    for schema in schemas().iter().step_by(7) {
        let grammar = Grammar::JsonSchema(schema.to_string());
        let mut first = vocabulary.grammars.compile(&grammar).unwrap();
        let mut company: Vec<_> = (0..3).map(|_| first.fork()).collect();
        let mut alone = vocabulary.grammars.compile(&grammar).unwrap();
        for _ in 0..20 {
            if first.is_complete() {
                break;
            }
            let allowed = mask(&mut first, rows);
            assert_eq!(allowed, mask(&mut alone, rows), "{schema}");
            assert!(!allowed.is_empty(), "{schema}");
            assert_eq!(allowed, mask(&mut first.fork(), rows), "{schema}");
            for other in &mut company {
                if !other.is_complete() {
                    let allowed = mask(other, rows);
                    other.accept(allowed[random.below(allowed.len())]).unwrap();
                }
            }
            let token = allowed[random.below(allowed.len())];
            first.accept(token).unwrap();
            alone.accept(token).unwrap();
            assert_eq!(first.is_complete(), alone.is_complete());
        }
    }
}
