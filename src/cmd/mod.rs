//! The subcommands, one file each, and their exit codes.

use std::io::{self, Write};
use std::process::ExitCode;

mod alloc_count;
mod args;
mod bench;
#[cfg(feature = "chat")]
mod chat;
mod detokenize;
mod inspect;
mod json;
mod logits;
mod machine;
mod quantize;
mod roofline;
mod run;
#[cfg(feature = "chat")]
mod template;
mod tokenize;

use args::Args;

/// A subcommand.
struct Command {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    run: fn(&mut Args) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    run::COMMAND,
    inspect::COMMAND,
    logits::COMMAND,
    tokenize::COMMAND,
    detokenize::COMMAND,
    bench::COMMAND,
    quantize::COMMAND,
    #[cfg(feature = "chat")]
    chat::COMMAND,
    #[cfg(feature = "chat")]
    template::COMMAND,
];

/// Reason why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage; exit code 2.
    Usage(String),
    /// An error of the model, a file or the run; exit code 1.
    Run(String),
    /// The reader of standard output has closed it, which is not an error.
    Closed,
    /// `--help` was given.
    Help,
}

impl Failure {
    /// The failure for an error of writing to standard output.
    pub(crate) fn stdout(e: io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Run(format!("standard output can't be written: {e}")),
        }
    }

    /// The failure for an error of the run itself.
    pub(crate) fn run(e: impl core::fmt::Display) -> Failure {
        Failure::Run(e.to_string())
    }
}

/// Parses the command line, runs the command and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let mut args = Args::from_env();
    let (command, done) = match start(&mut args) {
        Ok(command) => (Some(command), (command.run)(&mut args)),
        Err(failure) => (None, Err(failure)),
    };
    let done = match (done, command) {
        (Err(Failure::Help), Some(command)) => print(command.help),
        (Err(Failure::Help), None) => print(&overview()),
        (done, _) => done,
    };
    match done {
        Ok(()) | Err(Failure::Closed | Failure::Help) => ExitCode::SUCCESS,
        Err(Failure::Run(what)) => {
            print_error(&what);
            ExitCode::from(1)
        }
        Err(Failure::Usage(what)) => {
            let of = command.map_or_else(String::new, |c| format!(" {}", c.name));
            print_error(&format!("{what} (see `teff{of} --help`)"));
            ExitCode::from(2)
        }
    }
}

/// The subcommand named by the first argument.
fn start(args: &mut Args) -> Result<&'static Command, Failure> {
    let known = || COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
    let name = match args.next()? {
        Some(args::Arg::Positional(name)) => name,
        Some(args::Arg::Flag(flag)) if flag == "--version" || flag == "-V" => {
            print(concat!("teff ", env!("CARGO_PKG_VERSION"), "\n"))?;
            return Err(Failure::Closed);
        }
        Some(args::Arg::Flag(flag)) => {
            let what = format!("option {flag} must follow a command; there are: {}", known());
            return Err(Failure::Usage(what));
        }
        None => return Err(Failure::Usage(format!("no command; there are: {}", known()))),
    };
    COMMANDS.iter().find(|c| name == c.name).ok_or_else(|| {
        let name = name.to_string_lossy();
        Failure::Usage(format!("unknown command `{name}`; there are: {}", known()))
    })
}

fn overview() -> String {
    let mut text = String::from(concat!(
        "teff ",
        env!("CARGO_PKG_VERSION"),
        ": runs language models, with the same bits on every machine\n\n",
        "usage: teff COMMAND [ARGUMENTS]\n\n",
    ));
    for c in COMMANDS {
        text.push_str(&format!("  {:<12}{}\n", c.name, c.about));
    }
    text.push_str(
        "\nMODEL is a .gguf file or a Hugging Face folder. See `teff COMMAND --help` for details.\n\
         Exit codes: 0; 1 for an error of the model, a file or the run; 2 for wrong usage.\n",
    );
    text
}

/// Writes to standard output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)
}

/// Writes `what` as one line to standard error; ignores that it may be closed.
pub(crate) fn print_error(what: &str) {
    let mut line = String::from("teff: ");
    for c in what.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}
