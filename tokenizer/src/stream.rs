//! Streaming UTF-8 decoding: tokens may end in the middle of a character.

use core::str;

const REPLACEMENT: &str = "\u{fffd}";

/// Joins the bytes of successive tokens into whole UTF-8 characters.
///
/// Up to three bytes of an incomplete character are held back. Invalid UTF-8 becomes U+FFFD exactly
/// as in [`String::from_utf8_lossy`](alloc::string::String::from_utf8_lossy): all pieces and [`finish`](Self::finish) concatenated are what
/// it returns for all bytes concatenated, wherever they were cut.
///
/// ```
/// use teff_tokenizer::Utf8Stream;
/// let mut stream = Utf8Stream::new();
/// assert_eq!(stream.push(b"caf\xc3").collect::<String>(), "caf");
/// assert_eq!(stream.push(b"\xa9!").collect::<String>(), "é!");
/// assert_eq!(stream.finish(), "");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Stream {
    /// The start of a character: always bytes that some further bytes would complete.
    held: [u8; 3],
    held_len: u8,
    /// The character completed by the last push, for the pieces to borrow.
    joined: [u8; 4],
}

impl Utf8Stream {
    /// An empty stream.
    #[must_use]
    pub const fn new() -> Self {
        Utf8Stream { held: [0; 3], held_len: 0, joined: [0; 4] }
    }

    /// Adds `bytes` and returns the text that is now complete, in non-empty pieces. The stream
    /// advances whether or not the pieces are read.
    pub fn push<'s>(&'s mut self, bytes: &'s [u8]) -> TextPieces<'s> {
        let mut rest = bytes;
        let mut join = Join::Nothing;
        while self.held_len > 0 {
            let Some((&next, tail)) = rest.split_first() else { break };
            let n = usize::from(self.held_len);
            self.joined = [0; 4];
            self.joined[..n].copy_from_slice(&self.held[..n]);
            self.joined[n] = next;
            match str::from_utf8(&self.joined[..=n]) {
                Ok(_) => {
                    join = Join::Char(n + 1);
                    rest = tail;
                    self.held_len = 0;
                }
                Err(e) if e.error_len().is_none() && n < 3 => {
                    self.held[n] = next;
                    self.held_len += 1;
                    rest = tail;
                }
                Err(_) => {
                    join = Join::Broken;
                    self.held_len = 0;
                }
            }
        }
        if self.held_len == 0 {
            let (whole, tail) = rest.split_at(rest.len() - incomplete(rest));
            self.held[..tail.len()].copy_from_slice(tail);
            self.held_len = tail.len() as u8;
            rest = whole;
        }
        let head = match join {
            Join::Nothing => "",
            Join::Broken => REPLACEMENT,
            Join::Char(len) => str::from_utf8(&self.joined[..len]).unwrap_or(REPLACEMENT),
        };
        TextPieces { head, rest }
    }

    /// Ends the text: returns U+FFFD if a character is incomplete, otherwise nothing. The stream
    /// can be used again.
    pub fn finish(&mut self) -> &'static str {
        if core::mem::take(&mut self.held_len) > 0 { REPLACEMENT } else { "" }
    }

    /// Number of bytes held back, at most 3.
    #[must_use]
    pub fn held(&self) -> usize {
        usize::from(self.held_len)
    }
}

/// Outcome for the bytes that were held back.
enum Join {
    Nothing,
    Char(usize),
    Broken,
}

/// Number of bytes at the end of `bytes` that are the start of a character, 0 to 3.
fn incomplete(bytes: &[u8]) -> usize {
    // A lead byte starts a character regardless of what precedes it, so the last one decides.
    let near = &bytes[bytes.len().saturating_sub(3)..];
    let Some(at) = near.iter().rposition(|&b| b >= 0xc0) else { return 0 };
    match str::from_utf8(&near[at..]) {
        Err(e) if e.valid_up_to() == 0 && e.error_len().is_none() => near.len() - at,
        _ => 0,
    }
}

/// Iterator over the whole characters from one [`Utf8Stream::push`].
#[derive(Clone, Debug)]
pub struct TextPieces<'s> {
    head: &'s str,
    rest: &'s [u8],
}

impl<'s> Iterator for TextPieces<'s> {
    type Item = &'s str;

    fn next(&mut self) -> Option<&'s str> {
        if !self.head.is_empty() {
            return Some(core::mem::take(&mut self.head));
        }
        if self.rest.is_empty() {
            return None;
        }
        let (valid, skip) = match str::from_utf8(self.rest) {
            Ok(all) => {
                self.rest = &[];
                return Some(all);
            }
            Err(e) => (e.valid_up_to(), e.error_len().unwrap_or(self.rest.len())),
        };
        if valid > 0 {
            let (text, rest) = self.rest.split_at(valid);
            self.rest = rest;
            return str::from_utf8(text).ok();
        }
        self.rest = self.rest.get(skip..).unwrap_or_default();
        Some(REPLACEMENT)
    }
}
