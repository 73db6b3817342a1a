//! The template engine, against what jinja2 3.1.6 writes as transformers 5.24 sets it up.

#![cfg(feature = "chat")]

mod builtin;
mod cases;
mod common;
mod filters;
mod generated;
mod language;
mod limits;
mod memory;
mod python;
