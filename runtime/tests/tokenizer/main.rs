//! Tokenizers against independent ones, laws, and malformed files.

mod common;
mod errors;
mod laws;
mod oracles;
