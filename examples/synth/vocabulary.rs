//! Vocabularies of the right size and kind, so that text can be tokenized (into meaningless
//! tokens).

use std::collections::HashSet;

use teff_graph::gguf::GgufValue;
use teff_runtime::gguf_write::{GgufHeader, WriteError};

use crate::random::Random;

/// Kind of tokenizer, and the names of its special tokens.
pub(crate) enum Vocabulary {
    /// Byte-level merges, with the name of the pre-tokenizer; special tokens at the end.
    ByteLevel { pre: &'static str, specials: &'static [&'static str], bos: usize, eos: usize },
    /// SentencePiece with scores; special tokens at the beginning.
    SentencePiece { specials: &'static [&'static str], bos: u32, eos: u32, unk: u32, space: bool },
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Writes a vocabulary of `size` tokens into a header, like llama.cpp's converter.
pub(crate) fn put(h: &mut GgufHeader, kind: &Vocabulary, size: usize) -> Result<(), WriteError> {
    let id = |v: usize| GgufValue::U32(v as u32);
    match *kind {
        Vocabulary::ByteLevel { pre, specials, bos, eos } => {
            let (mut tokens, merges) = byte_level(size - specials.len() - 256);
            let first = tokens.len();
            tokens.extend(specials.iter().map(|s| s.to_string()));
            let mut kinds = vec![NORMAL; first];
            kinds.resize(size, CONTROL);
            h.put("tokenizer.ggml.model", GgufValue::Str("gpt2"))?;
            h.put("tokenizer.ggml.pre", GgufValue::Str(pre))?;
            h.put_strings("tokenizer.ggml.tokens", &tokens)?;
            h.put_i32s("tokenizer.ggml.token_type", &kinds)?;
            h.put_strings("tokenizer.ggml.merges", &merges)?;
            h.put("tokenizer.ggml.bos_token_id", id(first + bos))?;
            h.put("tokenizer.ggml.eos_token_id", id(first + eos))
        }
        Vocabulary::SentencePiece { specials, bos, eos, unk, space } => {
            let mut tokens: Vec<String> = specials.iter().map(|s| s.to_string()).collect();
            let mut kinds = vec![CONTROL; tokens.len()];
            kinds[unk as usize] = UNKNOWN;
            tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
            kinds.resize(tokens.len(), BYTE);
            // The same pieces, spelled as text; those that are not ASCII are bytes here.
            let (spelled, _) = byte_level(size);
            let pieces = spelled.iter().map(|t| t.replace('\u{120}', "\u{2581}"));
            let pieces = pieces.filter(|t| t.chars().all(|c| c.is_ascii() || c == '\u{2581}'));
            tokens.extend(pieces.take(size - tokens.len()));
            tokens.push("\u{2581}".into());
            tokens.truncate(size);
            kinds.resize(tokens.len(), NORMAL);
            while tokens.len() < size {
                tokens.push(format!("[UNUSED{}]", tokens.len()));
                kinds.push(UNUSED);
            }
            let scores: Vec<f32> = (0..size).map(|i| -(i as f32)).collect();
            h.put("tokenizer.ggml.model", GgufValue::Str("llama"))?;
            h.put("tokenizer.ggml.pre", GgufValue::Str("default"))?;
            h.put_strings("tokenizer.ggml.tokens", &tokens)?;
            h.put_f32s("tokenizer.ggml.scores", &scores)?;
            h.put_i32s("tokenizer.ggml.token_type", &kinds)?;
            h.put("tokenizer.ggml.bos_token_id", GgufValue::U32(bos))?;
            h.put("tokenizer.ggml.eos_token_id", GgufValue::U32(eos))?;
            h.put("tokenizer.ggml.unknown_token_id", GgufValue::U32(unk))?;
            h.put("tokenizer.ggml.add_space_prefix", GgufValue::Bool(space))
        }
    }
}

/// Words that should be one token after a space, so that English text is split plausibly.
const WORDS: &str = "the of and to a in is it that was he for on are with as his they be at one have \
    this from or had by but some what there we can out other were all your when up use word how \
    said an each she which do their time if will way about many then them would write like so \
    these her long make thing see him two has look more day could go come did my sound no most \
    number who over know water than call first people may down side been now find any new work \
    part take get place made live where after back little only round man year came show every good \
    me give our under name very through just form much great think say help low line before turn \
    cause same mean differ move right boy old too does tell set three want air well also play small \
    end put home read hand port large spell add even land here must big high such follow act why ask \
    men change went light kind off need house picture try us again animal point mother world near \
    build self earth father once upon story girl friend happy little night tree river song bird sun";

/// Byte-pair vocabulary: the 256 bytes and one token for each of `n` merges; and the merges, in
/// order.
///
/// Every merge joins two existing tokens into one that did not exist.
pub(crate) fn byte_level(n: usize) -> (Vec<String>, Vec<String>) {
    // GPT-2 writes bytes as characters: printable ones as themselves, the others from U+0100 on.
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut tokens: Vec<String> =
        (0..=255u8).filter(printable).map(|b| char::from(b).to_string()).collect();
    tokens.extend((256u32..).take(68).filter_map(char::from_u32).map(String::from));
    let mut known: HashSet<String> = tokens.iter().cloned().collect();
    let mut merges = Vec::with_capacity(n);
    let mut join = |left: &str, right: &str, tokens: &mut Vec<String>| {
        let joined = format!("{left}{right}");
        if merges.len() < n && known.insert(joined.clone()) {
            merges.push(format!("{left} {right}"));
            tokens.push(joined.clone());
        }
        (merges.len(), joined)
    };

    // First a space (which is written Ġ) and a letter, then whole words after a space, letter by
    // letter, then words without it.
    let mut parts: Vec<String> = ('a'..='z').map(String::from).collect();
    let mut starts: Vec<String> =
        parts.iter().map(|letter| join("\u{120}", letter, &mut tokens).1).collect();
    for space in ["\u{120}", ""] {
        for word in WORDS.split_whitespace() {
            let mut left = String::from(space);
            for letter in word.chars() {
                let letter = letter.to_string();
                left = if left.is_empty() { letter } else { join(&left, &letter, &mut tokens).1 };
            }
        }
    }
    // Then syllables, joined at random where a vowel meets a consonant.
    let vowel = |c: Option<char>| c.is_some_and(|c| "aeiouy".contains(c));
    let mut random = Random(1);
    let mut done = tokens.len() - 256;
    while done < n {
        let spaced = random.next().is_multiple_of(2);
        let right = parts[random.skewed(parts.len())].clone();
        let side = if spaced { &mut starts } else { &mut parts };
        let left = side[random.skewed(side.len())].clone();
        let fits = left.len() + right.len() <= 14;
        if !fits || vowel(left.chars().last()) == vowel(right.chars().next()) {
            continue;
        }
        let (now, joined) = join(&left, &right, &mut tokens);
        if now > done {
            side.push(joined);
        }
        done = now;
    }
    (tokens, merges)
}
