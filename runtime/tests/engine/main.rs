//! Engines under callers that make mistakes, go away, and ask for too much.

mod common;
mod constraints;
mod ends;
mod pressure;
mod requests;
mod slow_masks;
