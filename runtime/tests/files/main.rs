//! Model files: what is read of them, and what is refused.

#[path = "../load/common.rs"]
mod common;
#[path = "../load/decoders.rs"]
mod decoders;

mod compatibility;
mod compatibility_files;
mod compatibility_newer;
mod experts;
mod fuzz_regressions;
mod load;
mod load_families;
mod quantised_folders;
mod safetensors;
mod split;
mod switches;
