//! The library over whole models.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod chat;
mod constraints;
mod conversations;
mod end_of_turn;
mod engine;
mod evaluate;
mod expert_files;
mod families;
mod generate;
mod golden;
#[cfg(target_pointer_width = "64")]
mod large_models;
mod recurrent;
mod repack;
mod same_bits;
mod same_hash;
mod sessions;
mod speculation;
mod story_model;
mod ternary;
