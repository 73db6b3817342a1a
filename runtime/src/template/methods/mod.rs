//! Methods of Python's types.

pub(super) mod other;
pub(super) mod text;
