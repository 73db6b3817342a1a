//! Texts of random models, held to grammars.

use teff_runtime::Model;
use teff_runtime::engine::Constraint;
use teff_runtime::sample::{Sampler, Sampling};
use teff_runtime::structured::{Grammar, Grammars};
use teff_runtime::tokenizer::Tokenizer;

/// A model's tokenizer and its grammars.
pub(crate) struct Vocabulary {
    pub(crate) model: Model,
    pub(crate) grammars: Grammars,
}

impl Vocabulary {
    /// The vocabulary of a file of tests/data.
    pub(crate) fn open(name: &str) -> Vocabulary {
        let path = format!("{}/../tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
        let model = Model::open(path).unwrap();
        let rows = model.spec().vocab as usize;
        let grammars = Grammars::new(model.tokenizer().unwrap(), rows).unwrap();
        Vocabulary { model, grammars }
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.model.tokenizer().unwrap()
    }

    pub(crate) fn rows(&self) -> usize {
        self.model.spec().vocab as usize
    }
}

/// Files with tokenizers of several kinds.
pub(crate) const FILES: [&str; 5] = [
    "gpt2/gpt2-Q4_0.gguf",
    "llama/llama-Q2_K.gguf",
    "qwen3/qwen3-Q4_0.gguf",
    "gemma3/gemma3-Q4_0.gguf",
    "ministral3/ministral3-Q4_0.gguf",
];

/// Numbers that look random (a linear congruential generator of 64 bits).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn logit(&mut self) -> f32 {
        self.next() as f32 / u32::MAX as f32 * 8.0 - 4.0
    }
}

/// Ways to sample.
pub(crate) fn samplings(seed: u64) -> [Sampling; 4] {
    let plain = Sampling::default().with_top_k(0).with_top_p(1.0).with_min_p(0.0).with_seed(seed);
    [
        Sampling::greedy(),
        plain.with_temperature(1.5),
        Sampling::default().with_seed(seed).with_repeat_penalty(1.3, 32),
        plain.with_temperature(0.5).with_top_k(3),
    ]
}

/// A text's end.
#[derive(Debug, PartialEq)]
pub(crate) enum Text {
    /// It is complete.
    Ended(String),
    /// It was cut after so many tokens.
    Cut(String),
    /// The constraint failed.
    Failed(String),
}

/// A text that a random model writes.
pub(crate) fn text(
    vocabulary: &Vocabulary,
    mut constraint: Box<dyn Constraint>,
    sampling: Sampling,
    random: &mut Random,
    most: usize,
) -> Text {
    let (tokenizer, rows) = (vocabulary.tokenizer(), vocabulary.rows());
    let mut sampler = Sampler::new(sampling, rows).unwrap();
    let mut allowed = vec![!0; rows.div_ceil(32)];
    let mut logits = vec![0.0; rows];
    let (mut bytes, mut tokens) = (Vec::new(), Vec::new());
    // What ends strings, arrays and texts is more likely the longer a text is.
    let eager = random.below(3) as f32 * 0.3;
    let lossy = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    for n in 0..most {
        if constraint.is_complete() {
            return Text::Ended(lossy(&bytes).unwrap());
        }
        if let Err(e) = constraint.mask(&mut allowed) {
            return Text::Failed(format!("{e} after {:?}", lossy(&bytes)));
        }
        for (id, logit) in logits.iter_mut().enumerate() {
            *logit = match allowed[id / 32] >> (id % 32) & 1 {
                0 => f32::NEG_INFINITY,
                _ => random.logit(),
            };
            let token = tokenizer.token_bytes(id as u32).unwrap_or_default();
            if token.iter().any(|b| b"\"]},:".contains(b)) || tokenizer.is_end(id as u32) {
                *logit += eager * n as f32;
            }
        }
        let token = sampler.sample(&logits, &tokens).unwrap();
        constraint.accept(token).unwrap();
        if tokenizer.is_end(token) {
            return Text::Ended(lossy(&bytes).unwrap());
        }
        assert!(!tokenizer.is_special(token), "token {token}");
        tokens.push(token);
        bytes.extend_from_slice(tokenizer.token_bytes(token).unwrap());
    }
    Text::Cut(String::from_utf8_lossy(&bytes).into_owned())
}

/// True if a model could write this text and end there.
pub(crate) fn accepts(vocabulary: &Vocabulary, grammar: &Grammar, text: &str) -> bool {
    let mut constraint = vocabulary.grammars.compile(grammar).unwrap();
    let tokenizer = vocabulary.tokenizer();
    let mut allowed = vec![0; vocabulary.rows().div_ceil(32)];
    let mut is_allowed = |constraint: &mut Box<dyn Constraint>, token: u32| {
        constraint.mask(&mut allowed).unwrap();
        allowed[token as usize / 32] >> (token % 32) & 1 == 1
    };
    // Byte by byte where the tokenizer would put a space in front of the text.
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let ids = 0..vocabulary.rows() as u32;
        let fits = |&id: &u32| {
            let text = tokenizer.token_bytes(id).unwrap_or_default();
            !tokenizer.is_special(id) && !text.is_empty() && rest.starts_with(text)
        };
        let token = ids.filter(fits).max_by_key(|&id| tokenizer.token_bytes(id).unwrap().len());
        let token = token.unwrap_or_else(|| panic!("no token for {rest:?}"));
        if !is_allowed(&mut constraint, token) {
            return false;
        }
        constraint.accept(token).unwrap();
        rest = &rest[tokenizer.token_bytes(token).unwrap().len()..];
    }
    let ends = tokenizer.stop_ids().to_vec();
    let may_end = ends.iter().all(|&end| is_allowed(&mut constraint, end));
    assert!(may_end || ends.iter().all(|&end| !is_allowed(&mut constraint, end)));
    assert!(!constraint.is_complete() || may_end);
    may_end
}
