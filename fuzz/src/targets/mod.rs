//! What each fuzz target does with an input.

pub mod gguf;
pub mod json;
pub mod json_schema;
pub mod load_plan_token;
pub mod requests;
pub mod safetensors;
pub mod snapshot;
pub mod template;
pub mod tokenizer;

/// A target: the name of its seeds' folder, and its check of one input, which panics if that finds a fault.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("gguf", gguf::run),
    ("json", json::run),
    ("json_schema", json_schema::run),
    ("load_plan_token", load_plan_token::run),
    ("requests", requests::run),
    ("safetensors", safetensors::run),
    ("snapshot", snapshot::run),
    ("template", template::run),
    ("tokenizer", tokenizer::run),
];
