//! Runs teff plans: model files, tokenizers, threads, sampling, sessions.
pub mod json;
pub mod pool;
pub mod sample;
pub mod tokenizer;
