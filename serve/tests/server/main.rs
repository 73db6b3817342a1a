//! Tests of the server over HTTP.

mod chat;
mod common;
mod completions;
mod connections;
mod gate;
mod limits;
mod malformed;
mod messages;
mod others;
mod responses;
mod same_bits;
mod shutdown;
mod structured;
mod tools;
