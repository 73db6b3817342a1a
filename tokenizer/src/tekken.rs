//! tekken.json, Mistral's own file: byte-level tokens with ranks, in which any two neighbours whose
//! joint bytes are a token merge, the lowest rank first.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::bpe::{self, Missing};
use super::doc::{Doc, Value};
use super::pairs::Keep;
use super::special::SpecialIndex;
use super::split::{PreTokenizer, Step};
use super::{Algorithm, SpecialIds, TokenKind, Tokenizer, TokenizerError};

type Result<T> = core::result::Result<T, TokenizerError>;

const FILE: &str = "tekken.json";

/// The special tokens of files that list none, which are older than that list.
const SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];
/// Maximum number of ids before the text tokens.
const MAX_SPECIAL_IDS: usize = 1 << 16;
/// Maximum length of a token in bytes, each of whose splits is looked up.
const MAX_TOKEN: usize = 4096;

fn missing(field: &'static str) -> TokenizerError {
    TokenizerError::MissingField { file: FILE, field }
}

/// The settings of the file.
struct Settings {
    pattern: String,
    /// Number of ids.
    size: usize,
    /// Number of ids of special tokens.
    special: usize,
}

impl Settings {
    fn read(value: &Value) -> Result<Self> {
        let number = |key| value.get(key).and_then(Value::number::<usize>);
        let special = number("default_num_special_tokens")
            .ok_or_else(|| missing("config.default_num_special_tokens"))?;
        if special > MAX_SPECIAL_IDS {
            let (id, limit) = (special as u64, MAX_SPECIAL_IDS as u32);
            return Err(TokenizerError::IdTooLarge { id, limit });
        }
        Ok(Settings {
            pattern: value
                .get("pattern")
                .and_then(Value::text)
                .ok_or_else(|| missing("config.pattern"))?
                .to_owned(),
            size: number("default_vocab_size")
                .ok_or_else(|| missing("config.default_vocab_size"))?,
            special,
        })
    }
}

/// Builds the tokenizer of the bytes of a tekken.json.
pub(super) fn build(json: &[u8]) -> Result<Tokenizer> {
    let mut doc = Doc::new(FILE, json);
    let (mut settings, mut vocab, mut special) = (None, None, None);
    doc.object("an object")?;
    while let Some(key) = doc.key()? {
        if key.is("config") {
            settings = Some(Settings::read(&doc.value()?)?);
        } else if key.is("vocab") {
            vocab = Some(tokens(&mut doc)?);
        } else if key.is("special_tokens") {
            special = Some(doc.value()?);
        } else {
            doc.skip()?;
        }
    }
    doc.end()?;
    let settings = settings.ok_or_else(|| missing("config"))?;
    let mut vocab = vocab.ok_or_else(|| missing("vocab"))?;
    vocab.sort_by_key(|(rank, _)| *rank);
    vocab.truncate(settings.size.saturating_sub(settings.special));

    let mut names: Vec<Option<String>> = vec![None; settings.special];
    match special {
        None | Some(Value::Null) => {
            for (name, text) in names.iter_mut().zip(SPECIAL) {
                *name = Some(text.into());
            }
        }
        Some(value) => {
            for token in value.array().ok_or_else(|| missing("special_tokens"))? {
                let rank = token.get("rank").and_then(Value::number::<usize>);
                let text = token.get("token_str").and_then(Value::text);
                let (Some(rank), Some(text)) = (rank, text) else {
                    return Err(missing("special_tokens[].rank and token_str"));
                };
                let limit = settings.special as u32;
                let too_large = TokenizerError::IdTooLarge { id: rank as u64, limit };
                *names.get_mut(rank).ok_or(too_large)? = Some(text.into());
            }
        }
    }
    let mut all = bpe::Tokens::default();
    for (id, name) in names.iter().enumerate() {
        let filler = format!("<SPECIAL_{id}>");
        all.push(name.as_deref().unwrap_or(&filler).as_bytes(), TokenKind::Control)?;
    }
    for (i, (rank, bytes)) in vocab.iter().enumerate() {
        if *rank != i as u64 {
            let id = u32::try_from(*rank).unwrap_or(u32::MAX);
            let token = String::from_utf8_lossy(bytes).into_owned();
            return Err(TokenizerError::RepeatedId { id, token });
        }
        all.push_bytes(bytes)?;
    }
    let mut merges = all.merges()?;
    for (i, (_, bytes)) in vocab.iter().enumerate() {
        let product = (settings.special + i) as u32;
        let mut splits = Vec::new();
        for at in 1..bytes.len() {
            let (left, right) = bytes.split_at(at);
            splits.extend(merges.find(left).zip(merges.find(right)));
        }
        splits.sort_unstable();
        for (left, right) in splits {
            merges.push_ids(left, right, product)?;
        }
    }
    let rules = bpe::Rules {
        pre: PreTokenizer::new(&[Step::isolated(settings.pattern)])?,
        add_prefix_space: false,
        ignore_merges: true,
        nfc: None,
        missing: Missing::Refused,
    };
    let (vocab, mut bpe) = merges.finish(rules, Keep::First, |_| ());
    bpe.merge_by_product();
    let index = SpecialIndex::of_vocab(&vocab, Vec::new())?;
    let id = |name: &str| names.iter().position(|n| n.as_deref() == Some(name)).map(|i| i as u32);
    let ids = SpecialIds {
        bos: id("<s>"),
        eos: id("</s>"),
        eot: None,
        unk: id("<unk>"),
        add_bos: true,
        add_eos: false,
    };
    Tokenizer::new(vocab, Algorithm::ByteBpe(Box::new(bpe)), index, ids)
}

/// Reads the ranks and bytes of the text tokens.
fn tokens(doc: &mut Doc<'_>) -> Result<Vec<(u64, Vec<u8>)>> {
    let want = "an array of objects with a rank and token_bytes";
    let mut all = Vec::new();
    doc.array(want)?;
    while !matches!(doc.clone().next(want)?, crate::json::Event::ArrayEnd) {
        let value = doc.value()?;
        let rank = value.get("rank").and_then(Value::number);
        let bytes = value.get("token_bytes").and_then(Value::text).and_then(base64);
        let (Some(rank), Some(bytes)) = (rank, bytes) else { return Err(doc.wrong(want)) };
        if bytes.is_empty() || bytes.len() > MAX_TOKEN {
            return Err(doc.wrong("a token of 1 to 4096 bytes"));
        }
        all.push((rank, bytes));
    }
    doc.next(want)?;
    Ok(all)
}

/// The bytes of a text in base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut word = 0u32;
        for &c in group {
            let digit = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(digit);
        }
        word <<= 6 * (4 - group.len());
        let n = match group.len() {
            1 => return None,
            n => n - 1,
        };
        out.extend_from_slice(&word.to_be_bytes()[1..=n]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_all_lengths() {
        let cases: [(&str, &[u8]); 5] = [
            ("", b""),
            ("AA==", b"\0"),
            ("/+8=", b"\xff\xef"),
            ("SGVs", b"Hel"),
            ("SGVsbA", b"Hell"),
        ];
        for (text, want) in cases {
            assert_eq!(base64(text).as_deref(), Some(want), "{text}");
        }
        assert_eq!(base64("A"), None);
        assert_eq!(base64("AA?="), None);
    }
}
