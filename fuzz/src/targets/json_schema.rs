//! Arbitrary text as a JSON schema (as a regular expression behind 1, and as a grammar behind 2): compiled, and
//! followed for some tokens.

use std::sync::OnceLock;

use super::super::Counting;
use teff_runtime::structured::{Grammar, GrammarError, Grammars};
use teff_runtime::tokenizer::{BpeParts, SpecialIds, Splitter, TokenKind, Tokenizer};

/// Heap that compiling a grammar of a few kilobytes and following it may take.
const MEMORY: usize = 512 << 20;

/// Tokens that are followed.
const STEPS: usize = 30;

/// A byte-level vocabulary with the characters of JSON, some of its beginnings, and two ends.
fn tokenizer() -> Tokenizer {
    // In the byte alphabet, these stand for themselves, and `Ġ` and `Ċ` for a space and a line break.
    let bytes = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').chain(['Ġ', 'Ċ']);
    let more = ["{\"", "\":", "\",", "\"}", "},", "null", "true", "12", "Ġ\"", "ab", "\\\""];
    let texts: Vec<String> = bytes.map(String::from).chain(more.map(String::from)).collect();
    let text = texts.iter().map(|text| (text.as_bytes(), TokenKind::Normal));
    let ends = ["</s>", "<|im_end|>"].map(|text| (text.as_bytes(), TokenKind::Control));
    let ids = SpecialIds { eos: Some(texts.len() as u32), ..SpecialIds::default() };
    let parts = BpeParts { ids, ..BpeParts::new(text.chain(ends), [], Splitter::Gpt2) };
    Tokenizer::byte_bpe(parts).expect("a tokenizer of ours")
}

fn grammars() -> &'static (Tokenizer, Grammars) {
    static GRAMMARS: OnceLock<(Tokenizer, Grammars)> = OnceLock::new();
    GRAMMARS.get_or_init(|| {
        let tokenizer = tokenizer();
        let grammars = Grammars::new(&tokenizer, ROWS).expect("grammars of ours");
        (tokenizer, grammars)
    })
}

const ROWS: usize = 256;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (tokenizer, grammars) = grammars();
    let grammar = match text.chars().next() {
        Some('\u{1}') => Grammar::Regex(text[1..].to_string()),
        Some('\u{2}') => Grammar::Lark(text[1..].to_string()),
        _ => Grammar::JsonSchema(text.to_string()),
    };
    let (compiled, peak) = Counting::peak_of(|| grammars.compile(&grammar));
    assert!(peak <= MEMORY, "{peak} bytes");
    let mut constraint = match compiled {
        Ok(constraint) => constraint,
        Err(e) => {
            let line = e.to_string();
            assert!(!line.is_empty() && line.lines().count() == 1, "{line}");
            // llguidance turns its panics into errors, and its grammars are its own.
            let lark = matches!(grammar, Grammar::Lark(_));
            let panicked = matches!(e, GrammarError::Refused { .. }) && line.contains("panic");
            assert!(lark || !panicked, "{line}");
            return;
        }
    };
    let mut random =
        data.iter().fold(1_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let (written, peak) = Counting::peak_of(|| {
        let mut bytes = Vec::new();
        let mut allowed = [0_u32; ROWS / 32];
        for _ in 0..STEPS {
            if constraint.is_complete() || constraint.mask(&mut allowed).is_err() {
                return bytes;
            }
            let ids: Vec<u32> = (0..ROWS as u32)
                .filter(|id| allowed[*id as usize / 32] >> (id % 32) & 1 == 1)
                .collect();
            assert!(!ids.is_empty(), "no error, and no token");
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let id = ids[(random >> 33) as usize % ids.len()];
            let mut other = constraint.fork();
            assert!(!tokenizer.is_special(id) || tokenizer.is_end(id), "token {id}");
            if constraint.accept(id).is_err() {
                return bytes;
            }
            assert!(other.accept(id).is_ok());
            if tokenizer.is_end(id) {
                assert!(constraint.is_complete());
                return bytes;
            }
            bytes.extend_from_slice(tokenizer.token_bytes(id).expect("a token"));
        }
        bytes
    });
    assert!(peak <= MEMORY, "{peak} bytes");
    // What the tokens of a text have in common, whatever the grammar is.
    assert!(!written.contains(&0xff));
}
