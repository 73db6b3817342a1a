//! The command `teff`, as a program that is started.

#[path = "../common/mod.rs"]
mod common;

mod batch;
mod chat_command;
mod cli;
mod habits;
mod imatrix;
mod inspect_stats;
mod newcomers;
mod quantize;
mod quantize_folder;
mod serve;
mod speculate;
mod structured;
mod template;
mod trace;
mod warnings;
