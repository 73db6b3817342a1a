#![no_std]
//! Static plans of decoder transformers.
#[cfg(feature = "alloc")]
extern crate alloc;

pub mod gguf;
pub mod meta;
mod team;

pub use team::{Broken, Solo, Team};
