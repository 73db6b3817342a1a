//! GGUF vocabularies: every name of a pre-tokenizer, and what llama.cpp accepts.

use teff_tokenizer::TokenizerError as E;
use teff_tokenizer::*;

use crate::common::Small;
use crate::errors::Keys;

const PRE: &str = "tokenizer.ggml.pre";

/// A byte-level vocabulary with further tokens and their types.
fn bytes(more: &[(&str, i32)], merges: &[&str]) -> Keys {
    let mut tokens: Vec<String> = Small::new().spelled();
    tokens.pop();
    let mut types = vec![1; tokens.len()];
    for (token, kind) in more {
        tokens.push(token.to_string());
        types.push(*kind);
    }
    let merges: Vec<String> = merges.iter().map(|m| m.to_string()).collect();
    Keys::new()
        .str("general.architecture", "llama")
        .str("tokenizer.ggml.model", "gpt2")
        .strs("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .strs("tokenizer.ggml.merges", &merges)
}

/// A SentencePiece vocabulary.
fn pieces(tokens: &[(&str, i32)]) -> Keys {
    let texts: Vec<String> = tokens.iter().map(|t| t.0.to_string()).collect();
    let types: Vec<i32> = tokens.iter().map(|t| t.1).collect();
    Keys::new()
        .str("tokenizer.ggml.model", "llama")
        .strs("tokenizer.ggml.tokens", &texts)
        .i32s("tokenizer.ggml.token_type", &types)
}

/// The names of llama.cpp that Teff has.
const SUPPORTED: &[&str] = &[
    "a.x-4.0",
    "afmoe",
    "bailingmoe",
    "bailingmoe2",
    "bloom",
    "chameleon",
    "chatglm-bpe",
    "codeshell",
    "cohere2moe",
    "command-r",
    "dbrx",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-r1-qwen",
    "deepseek-v3",
    "default",
    "exaone",
    "exaone-moe",
    "exaone4",
    "f2llmv2",
    "falcon",
    "falcon-h1",
    "falcon3",
    "gemma4",
    "gigachat",
    "glm4",
    "gpt-2",
    "gpt-4o",
    "gpt3-finnish",
    "granite-docling",
    "granite-embed-multi-311m",
    "granite-embed-multi-97m",
    "grok-2",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "jais",
    "jais-2",
    "jina-de",
    "jina-es",
    "jina-v2-de",
    "jina-v2-es",
    "jina-v5-nano",
    "joyai-llm",
    "kanana2",
    "kimi-k2",
    "kormo",
    "laguna",
    "lfm2",
    "llada-moe",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "llama4",
    "megrez",
    "mellum",
    "mellum2",
    "midm-2.0",
    "minerva-7b",
    "minicpm5",
    "minimax-m2",
    "modern-bert",
    "mpt",
    "olmo",
    "phi-2",
    "pixtral",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "sarvam-moe",
    "seed-coder",
    "smaug-bpe",
    "smollm",
    "solar-open",
    "spark2_5",
    "stablelm2",
    "starcoder",
    "superbpe",
    "talkie",
    "tekken",
    "tiny_aya",
    "trillion",
    "ufakzeka",
    "viking",
    "youtu",
];
const REFUSED: &[&str] = &["jina-v1-en", "jina-v2-code", "roberta-bpe", "whitespace"];

#[test]
fn every_name_of_llama_cpp_is_supported_or_refused_for_a_reason() {
    assert_eq!(SUPPORTED.len() + REFUSED.len(), 90);
    for name in SUPPORTED {
        let tokenizer = bytes(&[], &[]).str(PRE, name).build();
        assert!(tokenizer.is_ok(), "{name}: {:?}", tokenizer.err());
    }
    for name in REFUSED {
        let e = bytes(&[], &[]).str(PRE, name).build().unwrap_err();
        assert!(matches!(&e, E::RefusedPreTokenizer { name: n, .. } if n == name), "{e}");
        assert!(e.to_string().contains("only encode"), "{e}");
    }
    assert!(matches!(
        bytes(&[], &[]).str(PRE, "tekken ").build(),
        Err(E::UnknownPreTokenizer { .. })
    ));
}

#[test]
fn names_cut_numbers_as_their_models_do() {
    // Whether a number's digits are in one piece shows in whether they merge.
    let cuts = |name: &str| {
        let more = [("12", 1), ("34", 1), ("1234", 1), ("123", 1), ("23", 1)];
        let merges = ["1 2", "3 4", "12 34", "12 3", "2 3"];
        let tokenizer = bytes(&more, &merges).str(PRE, name).build().unwrap();
        tokenizer.encode("1234", Specials::Ignore).unwrap()
    };
    let whole: &[u32] = &[258];
    let front: &[u32] = &[259, 52];
    // 1 and 234, in which 3 and 4 merge first.
    let back: &[u32] = &[49, 50, 257];
    let single: &[u32] = &[49, 50, 51, 52];
    for (want, names) in [
        (whole, &["gpt-2", "bloom", "deepseek-llm"][..]),
        (front, &["llama-bpe", "gpt-4o", "llama4", "deepseek-v3", "minicpm5", "kimi-k2"]),
        (front, &["default", "falcon"]),
        (back, &["superbpe", "tiny_aya", "afmoe"]),
        (single, &["tekken", "qwen2", "qwen35", "smollm", "viking", "seed-coder", "laguna"]),
    ] {
        for name in names {
            assert_eq!(cuts(name), want, "{name}");
        }
    }
}

#[test]
fn files_without_a_name_are_cut_as_by_default() {
    let tokenizer = bytes(&[], &[]).build().unwrap();
    let used = TokenizerWarning::NoPreTokenizer { used: "default" };
    assert_eq!(tokenizer.warnings(), [used]);
    assert!(tokenizer.warnings()[0].to_string().starts_with("tokenizer.ggml.pre is missing"));
    let more = [("Ġ(", 1)];
    let merges = ["Ġ ("];
    let with = |keys: Keys| keys.build().unwrap().encode("a (", Specials::Ignore).unwrap();
    // Punctuation is a piece of its own, so that it doesn't merge with the space.
    assert_eq!(with(bytes(&more, &merges)), [97, 32, 40]);
    assert_eq!(with(bytes(&more, &merges).str(PRE, "default")), [97, 32, 40]);
    assert_eq!(with(bytes(&more, &merges).str(PRE, "gpt-2")), [97, 256]);
}

#[test]
fn tokens_end_texts_by_their_names_and_keys() {
    let names = [
        ("<|im_end|>", 4),
        ("<|eot_id|>", 1),
        ("<end_of_turn>", 3),
        ("<|im_start|>", 4),
        ("<|fim_pad|>", 3),
        ("<fim_pad>", 3),
        ("<|fim_prefix|>", 4),
        ("<x>", 4),
    ];
    let keys = bytes(&names, &[]).str(PRE, "gpt-2");
    let keys = keys.u32("tokenizer.ggml.eom_token_id", 97).u32("tokenizer.ggml.eos_token_id", 263);
    let tokenizer = keys.build().unwrap();
    // Of the two paddings one counts; the token before the gap ends nothing.
    assert_eq!(tokenizer.stop_ids(), [97, 256, 257, 258, 260, 263]);
    for (id, (name, _)) in (256..).zip(names) {
        let control = !matches!(name, "<|im_start|>" | "<x>");
        let kind = if control { TokenKind::Control } else { TokenKind::UserDefined };
        assert_eq!(tokenizer.token_kind(id), Some(kind), "{name}");
        assert_eq!(tokenizer.encode(name, Specials::Parse).unwrap(), [id]);
        let typed = tokenizer.encode(name, Specials::Ignore).unwrap();
        assert_eq!(typed == [id], !control, "{name}");
    }
    let changed: Vec<u32> = tokenizer
        .warnings()
        .iter()
        .filter_map(|w| match w {
            TokenizerWarning::NotControl { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(changed, [256, 257, 262]);
    assert!(tokenizer.warnings()[0].to_string().contains("tokenizer.ggml.token_type"));

    // gpt-oss: `<|end|>` ends a part of an answer. Gemma 4: `</s>` is text.
    let harmony = [("<|return|>", 3), ("<|call|>", 3), ("<|end|>", 3)];
    let tokenizer = bytes(&harmony, &[]).str(PRE, "gpt-4o").build().unwrap();
    assert_eq!(tokenizer.stop_ids(), [256, 257]);
    let gemma = [("<|tool_response>", 3), ("</s>", 3), ("<turn|>", 3)];
    let tokenizer = bytes(&gemma, &[]).str(PRE, "gpt-2").build().unwrap();
    assert_eq!(tokenizer.stop_ids(), [256, 258]);
}

#[test]
fn a_sentence_piece_s_end_is_never_made_of_text() {
    for kind in [1, 3, 4] {
        let mut all = vec![("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<EOT>", kind), ("<EOT", 1)];
        all.extend([("<", 1), ("E", 1), ("O", 1), ("T", 1), (">", 1), ("<E", 1), ("<EO", 1)]);
        let keys = pieces(&all).put("tokenizer.ggml.add_space_prefix", 7, &[0]);
        let tokenizer = keys.build().unwrap();
        assert_eq!(tokenizer.encode("<EOT>", Specials::Parse).unwrap(), [3], "{kind}");
        assert_eq!(tokenizer.encode("<EOT>", Specials::Ignore).unwrap(), [4, 9], "{kind}");
        assert_eq!(tokenizer.stop_ids(), [2, 3]);
    }
}

#[test]
fn the_longest_token_is_known() {
    let longest = |keys: Keys| keys.build().unwrap().longest_token();
    assert_eq!(longest(bytes(&[], &[]).str(PRE, "gpt-2")), 1);
    // In bytes of the text: a letter of the byte alphabet is one.
    let words = [("\u{120}ab", 1), ("<|end|>", 3)];
    let merges = ["a b", "\u{120} ab"];
    let with = |n: usize| bytes(&[&[("ab", 1)], &words[..n]].concat(), &merges[..n.min(1) + 1]);
    assert_eq!(longest(with(1).str(PRE, "gpt-2")), 3);
    assert_eq!(longest(with(2).str(PRE, "gpt-2")), 7);
    assert_eq!(longest(pieces(&[("<unk>", 2), ("\u{2581}\u{e9}", 1)])), 5);
}

#[test]
fn what_llama_cpp_accepts_is_accepted_with_a_warning() {
    let tokens =
        [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("▁", 1), ("a", 0), ("▁a", 9), ("<0x0A>", 1)];
    let tokenizer = pieces(&tokens).build().unwrap();
    assert_eq!(tokenizer.encode("a a\n", Specials::Ignore).unwrap(), [5, 5, 6]);
    assert_eq!(tokenizer.decode(&[5, 6]).unwrap(), "a\n");
    let types = TokenizerWarning::UnknownTypes { first: 4, count: 2 };
    assert_eq!(tokenizer.warnings(), [TokenizerWarning::NoScores, types]);

    for (key, id, used) in [
        ("tokenizer.ggml.bos_token_id", u32::MAX, Some(1)),
        ("tokenizer.ggml.eos_token_id", 7, Some(2)),
        ("tokenizer.ggml.eot_token_id", 400, None),
        ("tokenizer.ggml.unknown_token_id", u32::MAX, Some(0)),
    ] {
        let tokenizer = pieces(&tokens).u32(key, id).build().unwrap();
        let ids = tokenizer.special_ids();
        assert_eq!((ids.bos, ids.eos, ids.eot, ids.unk), (Some(1), Some(2), None, Some(0)));
        let id = i128::from(id);
        let warning = TokenizerWarning::BadSpecialId { key, id, used };
        assert!(tokenizer.warnings().contains(&warning), "{:?}", tokenizer.warnings());
        assert!(warning.to_string().starts_with(key));
    }

    // Merges that name nothing or stand there twice; the space in front is SentencePiece's alone.
    let merges = ["a b", "zz a", "b a", "ab", "a b", "q r"];
    let keys = bytes(&[("ab", 1), ("ba", 1)], &merges).str(PRE, "gpt-2");
    let keys = keys.put("tokenizer.ggml.add_space_prefix", 7, &[1]);
    let tokenizer = keys.build().unwrap();
    assert_eq!(tokenizer.encode("aba", Specials::Ignore).unwrap(), [256, 97]);
    let useless = TokenizerWarning::UselessMerges { first: 1, count: 3 };
    let repeated = TokenizerWarning::RepeatedMerges { first: 4, count: 1, last: false };
    assert!(tokenizer.warnings().contains(&useless), "{:?}", tokenizer.warnings());
    assert!(tokenizer.warnings().contains(&repeated), "{:?}", tokenizer.warnings());
    let ignored = |w: &TokenizerWarning| w.to_string().contains("add_space_prefix: ignored");
    assert!(tokenizer.warnings().iter().any(ignored));
    assert!(tokenizer.warnings().iter().all(|w| !w.to_string().contains('\n')));
}

#[test]
fn gemma_4_merges_characters_by_rank_within_lines() {
    let tokens = ["<bos>", "▁", "a", "b", "▁a", "\n", "\n\n", "ab", "<0x63>"];
    let tokens: Vec<String> = tokens.iter().map(|t| t.to_string()).collect();
    let merges: Vec<String> = ["▁ a", "a b", "\n \n"].iter().map(|t| t.to_string()).collect();
    let keys = Keys::new()
        .str("tokenizer.ggml.model", "gemma4")
        .strs("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 1, 1, 1, 1, 1, 6])
        .strs("tokenizer.ggml.merges", &merges)
        .u32("tokenizer.ggml.bos_token_id", 0)
        .put("tokenizer.ggml.add_bos_token", 7, &[0]);
    let tokenizer = keys.build().unwrap();
    assert_eq!(
        tokenizer.encode("ab ab\n\n\na c", Specials::Ignore).unwrap(),
        [7, 4, 3, 6, 5, 2, 1, 8]
    );
    assert_eq!(tokenizer.decode(&[7, 4, 3, 6, 1, 8]).unwrap(), "ab ab\n\n c");
    assert!(tokenizer.add_bos());
    assert!(tokenizer.warnings()[0].to_string().starts_with("tokenizer.ggml.add_bos_token: "));
}
