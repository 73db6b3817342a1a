//! The checks of the sections.

pub(crate) mod bare;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod cpus;
pub(crate) mod firmware;
pub(crate) mod lints;
pub(crate) mod packages;
pub(crate) mod ported;
pub(crate) mod sanitizer;
pub(crate) mod serve;
pub(crate) mod source;
pub(crate) mod tests;
pub(crate) mod web;
pub(crate) mod windows;
