//! The target `load_plan_token`: see `teff_fuzz::targets::load_plan_token`.
#![no_main]

#[global_allocator]
static HEAP: teff_fuzz::Counting = teff_fuzz::Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| teff_fuzz::targets::load_plan_token::run(data));
