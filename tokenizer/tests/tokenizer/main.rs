//! Tokenizers against independent implementations, properties, and malformed files.

mod byte_bpe;
mod common;
mod components;
mod errors;
mod folders;
mod gguf;
mod laws;
mod oracles;
mod reported;
mod spm;
mod spm_files;
mod tekken;
