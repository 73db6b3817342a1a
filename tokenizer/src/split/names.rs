//! The names of pre-tokenizers in GGUF files.

use super::Splitter;

/// A name of `tokenizer.ggml.pre`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum GgufName {
    /// Byte-level encoding.
    Bytes {
        splitter: Splitter,
        /// True if a piece that is a token needs no merging.
        ignore_merges: bool,
        /// True if texts start with `bos` unless the file says otherwise.
        add_bos: bool,
    },
    /// SentencePiece's characters, with spaces as U+2581 and merges by rank, cut at line breaks.
    Characters {
        /// True if texts start with `bos`, whatever the file says.
        add_bos: bool,
        /// True if a run of line breaks that is a token becomes it.
        whole_lines: bool,
    },
    /// Not supported, for this reason.
    Refused(&'static str),
}

const fn bytes(splitter: Splitter) -> GgufName {
    GgufName::Bytes { splitter, ignore_merges: false, add_bos: false }
}

const fn whole(splitter: Splitter, add_bos: bool) -> GgufName {
    GgufName::Bytes { splitter, ignore_merges: true, add_bos }
}

const SEPARATOR: GgufName = GgufName::Refused(
    "it ends texts with a separator, as models do that only encode, which Teff does not run",
);

/// All names that llama.cpp has (`llama_vocab::impl::load`), with their rules.
const NAMES: &[(&str, GgufName)] = &[
    ("a.x-4.0", bytes(Splitter::Gpt2)),
    ("afmoe", bytes(Splitter::AfMoe)),
    ("bailingmoe", bytes(Splitter::Qwen2)),
    ("bailingmoe2", bytes(Splitter::Qwen2)),
    ("bloom", bytes(Splitter::Bloom)),
    (
        "chameleon",
        GgufName::Bytes { splitter: Splitter::Chameleon, ignore_merges: false, add_bos: true },
    ),
    ("chatglm-bpe", bytes(Splitter::Llama3)),
    ("codeshell", bytes(Splitter::Gpt2Digits)),
    ("cohere2moe", bytes(Splitter::TinyAya)),
    ("command-r", bytes(Splitter::Gpt2Digits)),
    ("dbrx", bytes(Splitter::Llama3)),
    ("deepseek-coder", bytes(Splitter::DeepSeekCoder)),
    ("deepseek-llm", bytes(Splitter::DeepSeekLlm)),
    ("deepseek-r1-qwen", bytes(Splitter::Qwen2)),
    ("deepseek-v3", bytes(Splitter::DeepSeekV3)),
    ("default", bytes(Splitter::Default)),
    ("exaone", bytes(Splitter::Gpt2Digits)),
    ("exaone-moe", bytes(Splitter::ExaoneMoe)),
    ("exaone4", bytes(Splitter::Gpt2)),
    ("f2llmv2", bytes(Splitter::Qwen2)),
    ("falcon", bytes(Splitter::Falcon)),
    ("falcon-h1", whole(Splitter::Llama3, true)),
    ("falcon3", whole(Splitter::Llama3, true)),
    ("gemma4", GgufName::Characters { add_bos: true, whole_lines: true }),
    ("gigachat", bytes(Splitter::Gpt2)),
    ("glm4", bytes(Splitter::Llama3)),
    ("gpt-2", bytes(Splitter::Gpt2)),
    ("gpt-4o", bytes(Splitter::Gpt4o)),
    ("gpt3-finnish", bytes(Splitter::Bloom)),
    ("granite-docling", bytes(Splitter::Gpt2)),
    ("granite-embed-multi-311m", GgufName::Characters { add_bos: true, whole_lines: true }),
    ("granite-embed-multi-97m", whole(Splitter::Gpt4o, false)),
    ("grok-2", bytes(Splitter::Qwen2)),
    ("hunyuan", bytes(Splitter::Qwen2)),
    ("hunyuan-dense", bytes(Splitter::DeepSeekV3)),
    ("hy_v4", bytes(Splitter::DeepSeekV3)),
    ("jais", bytes(Splitter::Gpt2)),
    ("jais-2", bytes(Splitter::Jais2)),
    ("jina-de", bytes(Splitter::Gpt2)),
    ("jina-es", bytes(Splitter::Gpt2)),
    ("jina-v1-en", SEPARATOR),
    ("jina-v2-code", SEPARATOR),
    ("jina-v2-de", bytes(Splitter::Gpt2)),
    ("jina-v2-es", bytes(Splitter::Gpt2)),
    ("jina-v5-nano", whole(Splitter::Llama3, true)),
    ("joyai-llm", bytes(Splitter::DeepSeekV3)),
    ("kanana2", bytes(Splitter::Gpt4o)),
    ("kimi-k2", bytes(Splitter::KimiK2)),
    ("kormo", bytes(Splitter::Qwen2)),
    ("laguna", bytes(Splitter::Laguna)),
    ("lfm2", whole(Splitter::Llama3, true)),
    ("llada-moe", bytes(Splitter::Qwen2)),
    ("llama-bpe", whole(Splitter::Llama3, true)),
    ("llama-v3", whole(Splitter::Llama3, true)),
    ("llama3", whole(Splitter::Llama3, true)),
    ("llama4", bytes(Splitter::Gpt4o)),
    ("megrez", bytes(Splitter::Qwen2)),
    ("mellum", bytes(Splitter::Gpt2)),
    ("mellum2", bytes(Splitter::Gpt2Digits)),
    ("midm-2.0", whole(Splitter::Llama3, true)),
    ("minerva-7b", bytes(Splitter::Gpt2Digits)),
    ("minicpm5", whole(Splitter::MiniCpm5, false)),
    ("minimax-m2", bytes(Splitter::Gpt4o)),
    ("modern-bert", bytes(Splitter::Gpt2)),
    ("mpt", bytes(Splitter::Gpt2)),
    ("olmo", bytes(Splitter::Gpt2)),
    ("phi-2", bytes(Splitter::Gpt2)),
    ("pixtral", whole(Splitter::Llama3, true)),
    ("poro-chat", bytes(Splitter::Bloom)),
    ("qwen2", bytes(Splitter::Qwen2)),
    ("qwen35", bytes(Splitter::Qwen35)),
    ("refact", bytes(Splitter::Gpt2Digits)),
    ("roberta-bpe", SEPARATOR),
    ("sarvam-moe", GgufName::Characters { add_bos: false, whole_lines: false }),
    ("seed-coder", bytes(Splitter::SeedCoder)),
    ("smaug-bpe", bytes(Splitter::Llama3)),
    ("smollm", bytes(Splitter::Gpt2Digits)),
    ("solar-open", bytes(Splitter::Qwen2)),
    ("spark2_5", bytes(Splitter::Spark25)),
    ("stablelm2", bytes(Splitter::Qwen2)),
    ("starcoder", bytes(Splitter::Gpt2Digits)),
    ("superbpe", bytes(Splitter::SuperBpe)),
    ("talkie", bytes(Splitter::Gpt4o)),
    ("tekken", whole(Splitter::Tekken, true)),
    ("tiny_aya", bytes(Splitter::TinyAya)),
    ("trillion", bytes(Splitter::Gpt2)),
    ("ufakzeka", bytes(Splitter::Ufakzeka)),
    ("viking", bytes(Splitter::Viking)),
    (
        "whitespace",
        GgufName::Refused(
            "it drops white space, so that its models only encode, which Teff does not run",
        ),
    ),
    ("youtu", whole(Splitter::Youtu, false)),
];

/// The rule of a name.
pub(in super::super) fn gguf_name(name: &str) -> Option<GgufName> {
    NAMES.iter().find(|(n, _)| *n == name).map(|&(_, rule)| rule)
}

/// The names that are supported.
pub(in super::super) fn gguf_names() -> impl Iterator<Item = &'static str> {
    let supported = NAMES.iter().filter(|(_, rule)| !matches!(rule, GgufName::Refused(_)));
    supported.map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_llama_cpp_is_here_once() {
        assert_eq!(NAMES.len(), 90);
        assert!(NAMES.windows(2).all(|w| w[0].0 < w[1].0), "they are sorted");
    }
}
