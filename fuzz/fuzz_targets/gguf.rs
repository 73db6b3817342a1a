//! The target `gguf`: see `teff_fuzz::targets::gguf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::gguf::run(data));
