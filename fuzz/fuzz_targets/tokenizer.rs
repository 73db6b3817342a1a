//! The target `tokenizer`: see `teff_fuzz::targets::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::tokenizer::run(data));
