//! The teff command.
fn main() {}
