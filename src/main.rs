//! The `teff` command; see `teff --help`.

#![deny(unsafe_code)] // except for `bench`'s allocator

mod cmd;

fn main() -> std::process::ExitCode {
    cmd::main()
}
