//! The result: sections that ran, and how long each took.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::table::{Section, Tier};

/// How a section ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// All of its checks passed.
    Passed,
    /// One of them did not, or could not run.
    Failed,
    /// This machine lacks something it needs.
    Skipped,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Ended::Passed => "passed",
            Ended::Failed => "FAILED",
            Ended::Skipped => "skipped",
        })
    }
}

/// A section that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The section.
    pub(crate) section: &'static Section,
    /// How it ended.
    pub(crate) ended: Ended,
    /// Seconds from the start of the whole to its own.
    pub(crate) start: f64,
    /// Seconds it took.
    pub(crate) seconds: f64,
    /// Seconds of all cores that its processes took, where the system tells.
    pub(crate) cpu: Option<f64>,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    /// The tier.
    pub(crate) tier: Tier,
    /// Sections at the same time.
    pub(crate) lanes: usize,
    /// Seconds it took.
    pub(crate) seconds: f64,
    /// Its sections, in the order in which they ended.
    pub(crate) ran: Vec<Ran>,
    /// Folder of what each section wrote.
    pub(crate) logs: PathBuf,
}

/// The last lines of a log, none of them long.
fn end_of(log: &str) -> String {
    const LINES: usize = 25;
    const LINE: usize = 300;
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].iter();
    last.map(|line| line.chars().take(LINE).collect()).collect::<Vec<String>>().join("\n")
}

/// Writes an empty file for the timings, so that a place that can't be written to is found before the
/// sections run, and not after.
pub(crate) fn prepare(json: &Path) -> io::Result<()> {
    if let Some(folder) = json.parent() {
        fs::create_dir_all(folder).map_err(|e| named(json, &e))?;
    }
    write(json, "")
}

fn named(json: &Path, e: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {e}", json.display()))
}

fn write(json: &Path, text: &str) -> io::Result<()> {
    fs::write(json, text).map_err(|e| named(json, &e))
}

impl Report {
    /// Prints the last lines of what failed and the table, and writes the timings; true if nothing failed.
    pub(crate) fn finish(&self, json: &Path) -> io::Result<bool> {
        for name in self.names(Ended::Failed) {
            // A section that printed as it went has none.
            if let Ok(log) = fs::read(self.logs.join(name)) {
                println!("== the end of {name}:\n{}\n", end_of(&String::from_utf8_lossy(&log)));
            }
        }
        print!("{}", self.table());
        write(json, &self.json())?;
        Ok(self.names(Ended::Failed).is_empty())
    }

    fn names(&self, ended: Ended) -> Vec<&'static str> {
        self.ran.iter().filter(|r| r.ended == ended).map(|r| r.section.name).collect()
    }

    fn table(&self) -> String {
        let mut text =
            format!("{:<11} {:<8} {:>6} {:>7} {:>6}\n", "section", "", "start", "seconds", "CPU s");
        for r in &self.ran {
            let cpu = r.cpu.map_or(String::new(), |s| format!("{s:.0}"));
            let (name, start, seconds) = (r.section.name, r.start, r.seconds);
            let _ =
                writeln!(text, "{name:<11} {:<8} {start:>6.0} {seconds:>7.0} {cpu:>6}", r.ended);
        }
        let count = |ended| self.names(ended).len();
        let _ = write!(
            text,
            "\ntier {}: {} passed, {} failed, {} skipped; {:.0} s",
            self.tier.name(),
            count(Ended::Passed),
            count(Ended::Failed),
            count(Ended::Skipped),
            self.seconds
        );
        for ended in [Ended::Failed, Ended::Skipped] {
            let names = self.names(ended);
            if !names.is_empty() {
                let _ = write!(text, "; {ended}: {}", names.join(" "));
            }
        }
        text.push('\n');
        text
    }

    fn json(&self) -> String {
        let mut sections = Vec::new();
        for r in &self.ran {
            let cpu = r.cpu.map_or("null".into(), |s| format!("{s:.1}"));
            sections.push(format!(
                "    {{\"name\": \"{}\", \"result\": \"{}\", \"start_s\": {:.1}, \"wall_s\": {:.1}, \"cpu_s\": {cpu}}}",
                r.section.name,
                r.ended.to_string().to_lowercase(),
                r.start,
                r.seconds,
            ));
        }
        format!(
            "{{\n  \"tier\": \"{}\", \"lanes\": {}, \"wall_s\": {:.1},\n  \"sections\": [\n{}\n  ]\n}}\n",
            self.tier.name(),
            self.lanes,
            self.seconds,
            sections.join(",\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::SECTIONS;

    #[test]
    fn a_report_names_what_failed() {
        let ran = |i: usize, ended, cpu| Ran {
            section: &SECTIONS[i],
            ended,
            start: 1.0,
            seconds: 2.5,
            cpu,
        };
        let mut report = Report {
            tier: Tier::Change,
            lanes: 2,
            seconds: 4.0,
            ran: vec![ran(0, Ended::Passed, Some(3.25)), ran(1, Ended::Failed, None)],
            logs: PathBuf::new(),
        };
        assert!(report.table().ends_with("1 passed, 1 failed, 0 skipped; 4 s; FAILED: rules\n"));
        let want = "{\n  \"tier\": \"change\", \"lanes\": 2, \"wall_s\": 4.0,\n  \"sections\": [\n    \
                    {\"name\": \"fmt\", \"result\": \"passed\", \"start_s\": 1.0, \"wall_s\": 2.5, \"cpu_s\": 3.2},\n    \
                    {\"name\": \"rules\", \"result\": \"failed\", \"start_s\": 1.0, \"wall_s\": 2.5, \"cpu_s\": null}\n  ]\n}\n";
        assert_eq!(report.json(), want);
        report.ran.pop();
        assert!(report.table().ends_with("1 passed, 0 failed, 0 skipped; 4 s\n"));
    }

    #[test]
    fn the_end_of_a_log_is_short() {
        let log: Vec<String> = (0..40).map(|i| format!("{i} {}", "é".repeat(400))).collect();
        let end = end_of(&log.join("\n"));
        let lines: Vec<&str> = end.lines().collect();
        assert_eq!((lines.len(), lines[0].chars().count()), (25, 300));
        assert!(lines[0].starts_with("15 ") && lines[24].starts_with("39 "));
        assert_eq!(end_of("one"), "one");
    }
}
