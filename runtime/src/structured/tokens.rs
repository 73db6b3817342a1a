//! The vocabulary as llguidance has it: a tree of the tokens that are text.

use std::sync::Arc;

use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::GrammarError;
use super::limits::{MAX_TOKEN_BYTES, MAX_TOKENS, MAX_TREE_NODES};
use crate::tokenizer::{TokenKind, Tokenizer};

/// The tokens that are text and those that end it.
pub(super) struct Tokens {
    trie: TokTrie,
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(bytes)
    }

    /// Nothing is forced: where a grammar leaves one text, the model still chooses the tokens.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

/// Bytes that a token adds to a text; `None` for one that a grammar never chooses.
///
/// llguidance marks special tokens by the byte 0xFF in front. It is no part of UTF-8, so that no text needs a
/// token with that byte.
fn text(tokenizer: &Tokenizer, id: u32) -> Option<&[u8]> {
    let kind = tokenizer.token_kind(id)?;
    let bytes = tokenizer.token_bytes(id)?;
    let chosen = match kind {
        TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte => !tokenizer.is_end(id),
        TokenKind::Control | TokenKind::Unknown | TokenKind::Unused => false,
    };
    let fits = !bytes.is_empty() && bytes.len() <= MAX_TOKEN_BYTES && !bytes.contains(&0xff);
    (chosen && fits).then_some(bytes)
}

/// Number of nodes of a tree with these words.
fn nodes(words: &[Vec<u8>]) -> usize {
    let mut sorted: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    let mut before: &[u8] = &[];
    let mut nodes = 1;
    for word in sorted {
        let shared = word.iter().zip(before).take_while(|(a, b)| a == b).count();
        nodes += word.len() - shared;
        before = word;
    }
    nodes
}

/// The tokens of a model whose logits have `vocab` rows.
pub(super) fn tokens(tokenizer: &Tokenizer, vocab: usize) -> Result<TokEnv, GrammarError> {
    let refused = |reason: String| Err(GrammarError::Vocabulary { reason });
    if vocab > MAX_TOKENS {
        return refused(format!("{vocab} tokens, at most {MAX_TOKENS}"));
    }
    // Rows beyond the tokenizer's ids have no token, and neither have unused ids.
    let words: Vec<Vec<u8>> = (0..vocab as u32)
        .map(|id| text(tokenizer, id).map(<[u8]>::to_vec).unwrap_or_default())
        .collect();
    let nodes = nodes(&words);
    if nodes > MAX_TREE_NODES {
        return refused(format!(
            "its tokens make a tree of {nodes} nodes, at most {MAX_TREE_NODES}"
        ));
    }
    let ends: Vec<u32> =
        tokenizer.stop_ids().iter().copied().filter(|&id| (id as usize) < vocab).collect();
    let info = TokRxInfo::new(vocab as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let mut trie = TokTrie::from(&info, &words);
    if !ends.is_empty() {
        trie = trie.with_eos_tokens(&ends);
    }
    Ok(Arc::new(Tokens { trie }))
}
