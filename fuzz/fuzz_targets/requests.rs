//! The target `requests`: see `teff_fuzz::targets::requests`.
#![no_main]

#[global_allocator]
static HEAP: teff_fuzz::Counting = teff_fuzz::Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::requests::run(data));
