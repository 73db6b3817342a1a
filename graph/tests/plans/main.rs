//! Plans: made, checked, and run, by all backends.

#[path = "../common/mod.rs"]
mod common;

mod cancellation;
mod company;
mod experts;
mod families;
mod groups;
mod hidden;
mod plan;
mod states;
mod truth;
mod verify;
