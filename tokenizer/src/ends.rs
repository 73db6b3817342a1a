//! Tokens that end generation, by llama.cpp's rules: by their names, whatever type the file gives
//! them, and by the keys that name them.

use alloc::vec::Vec;

use super::vocab::{TokenKind, Vocab};

/// Names of tokens that end generation in every model that has them.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    DEEPSEEK_END,
    "[e~[",
];

const DEEPSEEK_END: &str = "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>";

/// Names of tokens around the gap in which a model fills in code; of each list one token ends
/// generation, too: the padding, the name of a repository, the separator of files.
const GAP_ENDS: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// The names of the other tokens around the gap.
const GAP: [&str; 24] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<\u{ff5c}fim\u{2581}begin\u{ff5c}>",
    "<PRE>",
    "\u{2581}<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<\u{ff5c}fim\u{2581}hole\u{ff5c}>",
    "<SUF>",
    "\u{2581}<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<\u{ff5c}fim\u{2581}end\u{ff5c}>",
    "<MID>",
    "\u{2581}<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// True if a token with this name controls the model, whatever type a file gives it.
pub(super) fn is_control(name: &[u8]) -> bool {
    if !matches!(name.first(), Some(b'<' | b'_' | b'[' | 0xe2)) {
        return false;
    }
    let is = |s: &&str| s.as_bytes() == name;
    ENDS.iter().any(is) || GAP.iter().any(is) || GAP_ENDS.iter().any(|list| list.iter().any(is))
}

/// The kind of a token with this name, where the file gives it `kind`; true if that is another.
pub(super) fn kind(name: &[u8], kind: TokenKind) -> (TokenKind, bool) {
    if kind != TokenKind::Control && is_control(name) {
        (TokenKind::Control, true)
    } else {
        (kind, false)
    }
}

/// The ids that end generation by their names.
pub(super) fn named(vocab: &Vocab) -> Vec<u32> {
    let mut ends = Vec::new();
    let mut gap = [None; GAP_ENDS.len()];
    let (mut harmony, mut end, mut s) = (0, None, None);
    let mut tool_response = false;
    for (id, kind, name) in vocab.iter() {
        if kind != TokenKind::Control || !is_control(name) {
            continue;
        }
        for (found, list) in gap.iter_mut().zip(GAP_ENDS) {
            if list.iter().any(|n| n.as_bytes() == name) {
                *found = found.or(Some(id));
            }
        }
        if ENDS.iter().any(|n| n.as_bytes() == name) {
            ends.push(id);
        }
        match name {
            b"<|return|>" => harmony |= 1,
            b"<|call|>" | b"<|calls|>" => harmony |= 2,
            b"<|flush|>" => harmony |= 4,
            b"<|end|>" => end = Some(id),
            b"</s>" => s = Some(id),
            b"<|tool_response>" => tool_response = true,
            _ => {}
        }
    }
    ends.extend(gap.into_iter().flatten());
    // In the format of gpt-oss and Solar, `<|end|>` ends a part of an answer.
    if harmony & 3 == 3 || harmony & 6 == 6 {
        ends.retain(|&id| Some(id) != end);
    }
    // Gemma 4 has `</s>` as text.
    if tool_response {
        ends.retain(|&id| Some(id) != s);
    }
    ends
}
