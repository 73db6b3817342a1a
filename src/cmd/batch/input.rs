//! Input of a batch, line by line. A thread reads it, so that a slow pipe holds nothing up.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::cmd::Failure;

/// Most bytes of a line.
pub(super) const MAX_LINE: usize = 16 << 20;

/// Lines that are read ahead.
const AHEAD: usize = 4;

/// Line of the input that is not blank.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    /// Contents without the line break and blanks at both ends; empty if there are more than
    /// [`MAX_LINE`] bytes.
    pub(super) bytes: Vec<u8>,
    /// Bytes of the input up to its end.
    pub(super) end: u64,
}

/// Outcome of asking for a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Line(Raw),
    /// None came in time.
    Later,
    End,
}

/// Lines of an input.
pub(super) struct Lines {
    from: Receiver<io::Result<Raw>>,
    /// Name for messages.
    pub(super) name: String,
    /// Bytes of the input; `None` for a pipe.
    pub(super) size: Option<u64>,
    /// Line that was read and not taken.
    pub(super) put_back: Option<Raw>,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Lines, Failure> {
        if path == Path::new("-") {
            return Lines::of(io::stdin(), "standard input".into(), None);
        }
        let name = path.display().to_string();
        let unreadable = |e| Failure::Run(format!("{name}: can't be read: {e}"));
        let file = File::open(path).map_err(unreadable)?;
        let facts = file.metadata().map_err(unreadable)?;
        if facts.is_dir() {
            return Err(Failure::Run(format!("{name}: it is a folder, and not a file of prompts")));
        }
        let size = facts.is_file().then_some(facts.len());
        Lines::of(file, name.clone(), size)
    }

    fn of(
        from: impl Read + Send + 'static,
        name: String,
        size: Option<u64>,
    ) -> Result<Lines, Failure> {
        let (to, lines) = sync_channel(AHEAD);
        let read = move || {
            let mut from = Splitter { from: BufReader::new(from), at: 0 };
            while let Some(line) = from.next().transpose() {
                let failed = line.is_err();
                // Nobody listens any more when the command ends.
                if to.send(line).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("teff-prompts".into()).spawn(read);
        thread.map_err(|e| Failure::Run(format!("the system refused a thread: {e}")))?;
        Ok(Lines { from: lines, name, size, put_back: None })
    }

    /// The next line, unless none comes within this time.
    pub(super) fn next(&mut self, wait: Duration) -> Result<Next, Failure> {
        if let Some(raw) = self.put_back.take() {
            return Ok(Next::Line(raw));
        }
        match self.from.recv_timeout(wait) {
            Ok(Ok(raw)) => Ok(Next::Line(raw)),
            Ok(Err(e)) => Err(Failure::Run(format!("{}: can't be read: {e}", self.name))),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Later),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::End),
        }
    }

    /// The next line, however long it takes; `None` at the end.
    pub(super) fn wait(&mut self) -> Result<Option<Raw>, Failure> {
        loop {
            match self.next(Duration::from_secs(3600))? {
                Next::Line(raw) => return Ok(Some(raw)),
                Next::Later => {}
                Next::End => return Ok(None),
            }
        }
    }
}

/// Splits bytes at line breaks.
struct Splitter<R> {
    from: R,
    at: u64,
}

impl<R: BufRead> Splitter<R> {
    /// The next line that is not blank.
    fn next(&mut self) -> io::Result<Option<Raw>> {
        loop {
            let first = self.at == 0;
            let mut bytes = Vec::new();
            let most = MAX_LINE as u64 + 1;
            let mut read = self.from.by_ref().take(most).read_until(b'\n', &mut bytes)? as u64;
            if read == 0 {
                return Ok(None);
            }
            let too_long = read == most && bytes.last() != Some(&b'\n');
            if too_long {
                bytes = Vec::new();
                read += self.pass_over()?;
            }
            self.at += read;
            // Some editors begin a file with the mark of UTF-8.
            let text = match bytes.strip_prefix(b"\xef\xbb\xbf") {
                Some(text) if first => text,
                _ => &bytes,
            };
            let text = text.trim_ascii();
            if !text.is_empty() || too_long {
                return Ok(Some(Raw { bytes: text.to_vec(), end: self.at }));
            }
        }
    }

    /// Reads up to the end of a line, and returns the number of bytes.
    fn pass_over(&mut self) -> io::Result<u64> {
        let mut read = 0;
        loop {
            let part = match self.from.fill_buf() {
                Ok(part) => part,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let end = part.iter().position(|&b| b == b'\n');
            let used = end.map_or(part.len(), |at| at + 1);
            read += used as u64;
            self.from.consume(used);
            if end.is_some() || used == 0 {
                return Ok(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: impl Read + Send + 'static) -> Vec<(String, u64)> {
        let mut lines = Lines::of(from, "it".into(), None).unwrap();
        let mut all = Vec::new();
        while let Some(raw) = lines.wait().unwrap() {
            all.push((String::from_utf8(raw.bytes).unwrap(), raw.end));
        }
        assert_eq!(lines.next(Duration::ZERO).unwrap(), Next::End);
        all
    }

    #[test]
    fn blank_lines_are_passed_over() {
        let text = &b"\xef\xbb\xbf\n one \r\n\n  \ntwo\n\xc2\xa0\nend"[..];
        let all = lines(text);
        let all: Vec<(&str, u64)> = all.iter().map(|(line, end)| (&**line, *end)).collect();
        assert_eq!(all, [("one", 11), ("two", 19), ("\u{a0}", 22), ("end", 25)]);
        assert!(lines(&b"\n\r\n"[..]).is_empty());
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let long = io::repeat(b'x').take(3 * MAX_LINE as u64);
        let all = lines(long.chain(&b"\nnext"[..]));
        let end = 3 * MAX_LINE as u64 + 1;
        assert_eq!(all, [(String::new(), end), ("next".into(), end + 4)]);
        // One byte fewer is a line.
        let most = io::repeat(b'x').take(MAX_LINE as u64).chain(&b"\n"[..]);
        assert_eq!(lines(most)[0].0.len(), MAX_LINE);
    }

    #[test]
    fn a_line_that_was_put_back_comes_first() {
        let mut lines = Lines::of(&b"a\nb"[..], "it".into(), None).unwrap();
        let first = lines.wait().unwrap();
        lines.put_back = first.clone();
        assert_eq!(lines.wait().unwrap(), first);
        assert_eq!(lines.wait().unwrap().unwrap().bytes, b"b");
    }
}
