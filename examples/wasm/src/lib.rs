//! Teff in a browser: a wasm module with plain exports, no imports, and a page around it.
//!
//! - [`engine`]: a model, which the runtime reads from a GGUF file's bytes; its memory, said before it
//!   is taken; prompts; a text, step by step.
//! - [`compact`]: a backend with few instructions, whose bits are all others' bits.
//!
//! The exports stand in `module.rs`; `teff.js` calls them. A module holds one model for as long as
//! it lives: for another model there is another instance, and the browser frees the first one's
//! memory.

pub mod compact;
pub mod engine;
#[cfg(target_arch = "wasm32")]
mod module;
