//! The `teff` command: `teff --help` says what it does.

#![deny(unsafe_code)] // but for the allocator that `bench` counts with

mod cmd;

fn main() -> std::process::ExitCode {
    cmd::main()
}
