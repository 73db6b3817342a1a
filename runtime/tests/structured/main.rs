//! Grammars and schemas, over the tokenizers of the test models, with random logits.

mod texts;
