//! The chores of this repository: `cargo xtask ci`, the checks that must hold before a change goes in, and
//! `cargo xtask picture`, which draws the README's terminal ([`mod@picture`]).
//!
//! [`table`] lists the sections, and a file of `sections/` has the code of each. [`lanes`] runs them side by side, every
//! one in a process of its own, whose output is printed as a whole when it ends; [`report`] writes down how long it took.

mod args;
mod cmd;
mod job;
mod lanes;
mod needs;
mod picture;
mod report;
mod sections;
mod table;
mod toolchain;

use std::process::ExitCode;

use args::{Asked, Options};

fn main() -> ExitCode {
    match args::parse(std::env::args_os()) {
        Ok(Asked::Help) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Ok(Asked::List) => {
            print!("{}", table::list());
            ExitCode::SUCCESS
        }
        Ok(Asked::Picture) => picture(),
        Ok(Asked::Section(name, tier)) => job::main(name, tier),
        Ok(Asked::Ci(options)) => ci(&options),
        Err(said) => {
            eprintln!("xtask: {said}");
            ExitCode::from(2)
        }
    }
}

/// Runs the sections that were asked for and writes the report.
fn ci(options: &Options) -> ExitCode {
    let ran = report::prepare(&options.json).and_then(|()| lanes::run(options));
    match ran.and_then(|report| report.finish(&options.json)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the command, or takes the one that [`job::HERE`] names, and writes the README's picture.
fn picture() -> ExitCode {
    let drawn = std::env::set_current_dir(job::root()).map_err(cmd::Stop::from).and_then(|()| {
        let teff = match std::env::var_os(job::HERE) {
            Some(teff) => teff.into(),
            None => {
                toolchain::Toolchain::Stable.cargo().line("build -q --release --bin teff").run()?;
                job::target().join("release/teff")
            }
        };
        picture::picture(&teff, std::path::Path::new("docs/terminal.svg"))
    });
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(cmd::Stop::Skip(why) | cmd::Stop::Fail(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
