//! `cargo xtask picture`: a terminal's text as an SVG file, from commands that are really run.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::cmd::{Cmd, Outcome, both, fail};

/// Columns of the picture; longer lines are wrapped at a space.
const COLUMNS: usize = 100;
/// Pixels of a character's cell.
const CELL: (f32, usize) = (7.83, 18);

/// A command, and how many lines of its output are shown at its beginning and end.
struct Shown {
    /// As a reader would type it: it is run by a shell-like split at spaces, where `'...'` stays one word.
    line: &'static str,
    first: usize,
    last: usize,
}

const SHOWN: [Shown; 3] = [
    Shown { line: "teff run", first: 10, last: 0 },
    Shown { line: "teff inspect examples/gpt2/model.gguf", first: 5, last: 8 },
    Shown {
        line: "teff tokenize examples/gpt2/model.gguf --text 'Once upon a time'",
        first: 1,
        last: 0,
    },
];

/// Runs [`SHOWN`] with this program and writes the picture.
pub(crate) fn picture(teff: &Path, to: &Path) -> Outcome {
    let mut rows: Vec<(bool, String)> = Vec::new();
    for Shown { line, first, last } in SHOWN {
        rows.push((true, format!("$ {line}")));
        let out = Cmd::new(teff).args(&words(line)[1..]).output()?;
        if !out.status.success() {
            return fail(format!("{line}: {}\n{}", out.status, both(&out)));
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let wrapped: Vec<String> = text.trim_end().lines().flat_map(wrap).collect();
        rows.extend(ends(wrapped, first, last).into_iter().map(|row| (false, row)));
        rows.push((false, String::new()));
    }
    rows.pop();
    fs::write(to, svg(&rows))?;
    println!("{}: {} lines", to.display(), rows.len());
    Ok(())
}

/// The first and last rows of an output, with dots for those between.
fn ends(mut rows: Vec<String>, first: usize, last: usize) -> Vec<String> {
    if rows.len() > first + last + 1 {
        let to = rows.len() - last;
        rows.splice(first..to, ["...".into()]);
    }
    rows
}

/// The words of a line.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => all.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            c => word.push(c),
        }
    }
    all.extend((!word.is_empty()).then_some(word));
    all
}

/// A line in rows of at most [`COLUMNS`] characters.
fn wrap(line: &str) -> Vec<String> {
    let (mut rows, mut row) = (Vec::new(), String::new());
    for word in line.split_inclusive(' ') {
        if !row.is_empty() && row.chars().count() + word.trim_end().chars().count() > COLUMNS {
            rows.push(std::mem::take(&mut row));
        }
        row.push_str(word);
    }
    rows.push(row);
    rows
}

fn svg(rows: &[(bool, String)]) -> String {
    let (width, height) = ((COLUMNS as f32 * CELL.0) as usize + 32, rows.len() * CELL.1 + 32);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#15181e\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"13\" fill=\"#c9d1d9\" xml:space=\"preserve\">\n"
    );
    for (i, (typed, row)) in rows.iter().enumerate().filter(|(_, (_, row))| !row.is_empty()) {
        let y = 16 + i * CELL.1 + 13;
        let fill = if *typed { " fill=\"#7ee787\"" } else { "" };
        // Fitted to its columns, whatever the font.
        let row = row.trim_end();
        let length = row.chars().count() as f32 * CELL.0;
        let _ = writeln!(
            out,
            "<text x=\"16\" y=\"{y}\" textLength=\"{length:.1}\"{fill}>{}</text>",
            escape(row)
        );
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words("teff a  --text 'b c' d"), ["teff", "a", "--text", "b c", "d"]);
    }

    #[test]
    fn long_lines_are_wrapped_and_none_is_lost() {
        let line = "word ".repeat(50);
        let rows = wrap(&line);
        assert!(rows.len() > 2 && rows.iter().all(|row| row.trim_end().len() <= COLUMNS));
        assert_eq!(rows.concat(), line);
        assert_eq!(wrap(""), [""]);
    }

    #[test]
    fn long_outputs_are_cut_in_the_middle() {
        let rows = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(ends(rows(9), 2, 1), ["0", "1", "...", "8"]);
        assert_eq!(ends(rows(4), 2, 1), rows(4));
        assert_eq!(ends(rows(5), 2, 0), ["0", "1", "..."]);
    }

    #[test]
    fn text_is_escaped() {
        let text = svg(&[(true, "$ a <b> & c".into())]);
        assert!(text.contains("&lt;b&gt; &amp; c") && text.contains("#7ee787"));
    }
}
