//! Tokenizers against independent implementations, properties, and malformed files.

mod byte_bpe;
mod common;
mod errors;
mod laws;
mod oracles;
mod spm;
mod spm_files;
