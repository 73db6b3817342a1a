//! Runs teff plans: model files, tokenizers, threads, sampling, sessions.
pub mod gguf_write;
pub mod config;
pub mod json;
pub mod pool;
#[cfg(feature = "rayon")]
pub mod rayon_team;
pub mod sample;
pub mod tokenizer;
