//! `cargo xtask picture`: a terminal's text as an SVG file, from commands that are really run.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::cmd::{Cmd, Outcome, both, fail};

/// Columns of the picture; longer lines are wrapped at a space.
const COLUMNS: usize = 100;
/// Pixels of a character's cell.
const CELL: (f32, usize) = (7.83, 18);

/// Lines of `teff` that are shown, as a reader would type them: each is run by a shell-like split at spaces, where
/// `'...'` stays one word.
const SHOWN: [&str; 3] = [
    "teff run -n 90 --seed 7",
    "teff inspect examples/gpt2/model.gguf",
    "teff tokenize examples/gpt2/model.gguf --text 'Once upon a time'",
];

/// Lines of an output that are shown at most.
const LINES: usize = 14;

/// Runs [`SHOWN`] with this program and writes the picture.
pub(crate) fn picture(teff: &Path, to: &Path) -> Outcome {
    let mut rows: Vec<(bool, String)> = Vec::new();
    for line in SHOWN {
        rows.push((true, format!("$ {line}")));
        let out = Cmd::new(teff).args(&words(line)[1..]).output()?;
        if !out.status.success() {
            return fail(format!("{line}: {}\n{}", out.status, both(&out)));
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let wrapped: Vec<String> = text.trim_end().lines().flat_map(wrap).collect();
        let more = wrapped.len() > LINES;
        rows.extend(wrapped.into_iter().take(LINES).map(|row| (false, row)));
        if more {
            rows.push((false, "...".into()));
        }
        rows.push((false, String::new()));
    }
    rows.pop();
    fs::write(to, svg(&rows))?;
    println!("{}: {} lines", to.display(), rows.len());
    Ok(())
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
        let _ = writeln!(out, "<text x=\"16\" y=\"{y}\"{fill}>{}</text>", escape(row.trim_end()));
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
    fn text_is_escaped() {
        let text = svg(&[(true, "$ a <b> & c".into())]);
        assert!(text.contains("&lt;b&gt; &amp; c") && text.contains("#7ee787"));
    }
}
