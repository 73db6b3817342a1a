//! The target `snapshot`: see `teff_fuzz::targets::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::snapshot::run(data));
