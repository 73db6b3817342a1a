//! The target `json`: see `teff_fuzz::targets::json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::json::run(data));
