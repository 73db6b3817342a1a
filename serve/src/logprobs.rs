//! Log probabilities in the forms of chats and of texts.

use serde_json::{Map, Value, json};
use teff_runtime::sample::{Logprob, TokenLogprobs};
use teff_runtime::tokenizer::Tokenizer;

use crate::json::decimal;

/// Log probability of impossible tokens, since JSON has no infinity; OpenAI's number.
const IMPOSSIBLE: f32 = -9999.0;

fn number(logprob: f32) -> Value {
    decimal(if logprob.is_finite() { logprob } else { IMPOSSIBLE })
}

/// The text of a token, in which bytes that are no whole character are U+FFFD.
fn text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned()
}

fn entry(tokenizer: &Tokenizer, of: Logprob) -> Map<String, Value> {
    let bytes = tokenizer.token_bytes(of.token).unwrap_or_default();
    let mut map = Map::new();
    map.insert("id".into(), json!(of.token));
    map.insert("token".into(), json!(String::from_utf8_lossy(bytes)));
    map.insert("bytes".into(), json!(bytes));
    map.insert("logprob".into(), number(of.logprob));
    map
}

/// Form of chats: an entry for each token, with the alternatives.
pub(crate) fn of_chat(tokenizer: &Tokenizer, all: &[TokenLogprobs]) -> Value {
    let one = |of: &TokenLogprobs| {
        let mut map = entry(tokenizer, of.chosen);
        let top: Vec<_> = of.top.iter().map(|&top| entry(tokenizer, top)).collect();
        map.insert("top_logprobs".into(), json!(top));
        Value::Object(map)
    };
    json!({ "content": all.iter().map(one).collect::<Vec<_>>() })
}

/// Form of texts: lists of tokens, log probabilities, alternatives and offsets in characters.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<Value>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
    /// Characters so far.
    offset: usize,
}

impl TextLogprobs {
    /// Lists that begin behind so many characters.
    pub(crate) fn at(offset: usize) -> TextLogprobs {
        TextLogprobs { offset, ..TextLogprobs::default() }
    }

    /// Adds a token without a log probability, the first of a prompt.
    pub(crate) fn first(&mut self, tokenizer: &Tokenizer, token: u32) {
        self.push(tokenizer, token);
        self.token_logprobs.push(None);
        self.top_logprobs.push(None);
    }

    /// Adds tokens. `top` is true if alternatives were asked for.
    pub(crate) fn extend(&mut self, tokenizer: &Tokenizer, all: &[TokenLogprobs], top: bool) {
        for of in all {
            self.push(tokenizer, of.chosen.token);
            self.token_logprobs.push(Some(number(of.chosen.logprob)));
            let alternatives = || {
                let one = |of: &Logprob| (text(tokenizer, of.token), number(of.logprob));
                of.top.iter().rev().map(one).collect()
            };
            self.top_logprobs.push(top.then(alternatives));
        }
    }

    fn push(&mut self, tokenizer: &Tokenizer, token: u32) {
        let text = text(tokenizer, token);
        self.text_offset.push(self.offset);
        self.offset += text.chars().count();
        self.tokens.push(text);
    }

    /// Characters up to here.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The JSON object.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}
