//! The timeline of `teff trace`, in the format of Chrome's traces, which Perfetto reads.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use teff::runtime::trace::Activity;

use super::json::{Object, string};
use super::trace_tree::{Operation, Part, Stage};

/// Number of the process in the file.
const PROCESS: usize = 1;

/// Writes the spans of all stages: a track for each thread, and one for the steps.
pub(super) fn write(file: File, operations: &[Operation], stages: &[Stage]) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    let threads = stages.iter().map(|s| s.threads).max().unwrap_or(0);
    let process = name("process_name", threads, "teff trace");
    write!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{process}")?;
    for thread in 0..threads {
        write!(out, ",\n{}", name("thread_name", thread, &format!("thread {thread}")))?;
    }
    write!(out, ",\n{}", name("thread_name", threads, "calls"))?;
    let names: Vec<_> = operations.iter().map(|op| string(&op.name)).collect();
    let places: Vec<_> = operations.iter().map(|op| place(op.part)).collect();
    let start = stages.iter().filter_map(|s| s.calls.first()).map(|(begin, _)| *begin).min();
    let start = start.unwrap_or(0);
    for stage in stages {
        let kind = string(stage.name);
        let mut event = |name: &str, thread: usize, (begin, end): (u64, u64), args: &str| {
            let (at, took) = (begin.saturating_sub(start), end.saturating_sub(begin));
            write!(
                out,
                ",\n{{\"name\":{name},\"cat\":{kind},\"ph\":\"X\",\"pid\":{PROCESS},\"tid\":{thread},\
                 \"ts\":{},\"dur\":{},\"args\":{args}}}",
                microseconds(at),
                microseconds(took)
            )
        };
        for &call in &stage.calls {
            event(&kind, threads, call, "{}")?;
        }
        for span in stage.spans.iter().flatten() {
            let time = (span.begin, span.end);
            match span.activity {
                Activity::Operation(op) => {
                    let op = op as usize;
                    if let (Some(name), Some(place)) = (names.get(op), places.get(op)) {
                        event(name, span.thread, time, place)?;
                    }
                }
                Activity::Waiting(phase) => {
                    let args = Object::new().count("phase", Some(phase)).end();
                    event("\"waiting\"", span.thread, time, &args)?;
                }
                _ => {}
            }
        }
    }
    out.write_all(b"\n]}\n")?;
    out.flush()
}

/// The arguments that say where in the model an operation is.
fn place(part: Part) -> String {
    match part {
        Part::Layer(l) => Object::new().count("layer", Some(l)).end(),
        part => Object::new().str("layer", &part.name()).end(),
    }
}

/// An event that names a process or a track.
fn name(what: &str, thread: usize, name: &str) -> String {
    let args = Object::new().str("name", name).end();
    Object::new()
        .str("name", what)
        .str("ph", "M")
        .count("pid", Some(PROCESS))
        .count("tid", Some(thread))
        .raw("args", args)
        .end()
}

fn microseconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1000, ns % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(microseconds(1_234_567), "1234.567");
        assert_eq!(microseconds(5), "0.005");
    }
}
