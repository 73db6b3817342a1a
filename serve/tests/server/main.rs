//! Tests of the server over HTTP.

mod chat;
mod common;
mod completions;
mod connections;
mod gate;
mod malformed;
mod others;
mod shutdown;
mod structured;
