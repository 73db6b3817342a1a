//! `teff-wasm-check COUNT`: checks the seeds from 0 to COUNT and prints their hashes, one to a
//! line. Fails where a number differs from the scalar truth.

use std::process::ExitCode;

fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let mut differing = 0;
    for seed in 0..count {
        let outcome = teff_wasm_check::check(seed);
        println!("{:016x}", outcome.hash);
        if outcome.differing > 0 {
            eprintln!("seed {seed}: {} of {} differ", outcome.differing, outcome.compared);
            differing += 1;
        }
    }
    if differing > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
