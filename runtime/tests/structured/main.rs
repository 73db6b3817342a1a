//! Grammars and schemas, over the tokenizers of the test models, with random logits.

mod bombs;
mod grammars;
mod masks;
mod refused;
mod schemas;
mod texts;
mod valid;
