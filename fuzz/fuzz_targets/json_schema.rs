//! The target `json_schema`: see `teff_fuzz::targets::json_schema`.
#![no_main]

#[global_allocator]
static HEAP: teff_fuzz::Counting = teff_fuzz::Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::json_schema::run(data));
