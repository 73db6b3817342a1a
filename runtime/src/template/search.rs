//! Searches in long texts that look at the clock, and at the caller's wish to cancel, between pieces.
//!
//! A text may have as many bytes as values may take together, and going through all of them takes
//! longer than a caller should wait.

use std::cell::{Cell, RefCell};

use super::error::{Fault, Res};
use super::limits::Meter;

/// Bytes that are searched without a look.
const PIECE: usize = 4 << 20;

/// Length of a text that is looked for as it is; of a longer one its beginning or end comes first.
const SHORT: usize = 64 << 10;

/// Characters between two looks.
const CHARS: u32 = 1 << 16;

/// The first character boundary that is not before a byte.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

/// The last character boundary that is not behind a byte.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Byte where a text first has another one.
pub(super) fn find(text: &str, what: &str, meter: &Meter<'_>) -> Res<Option<usize>> {
    find_by(text, what, PIECE, SHORT, meter)
}

/// Byte where a text last has another one.
pub(super) fn rfind(text: &str, what: &str, meter: &Meter<'_>) -> Res<Option<usize>> {
    rfind_by(text, what, PIECE, SHORT, meter)
}

fn find_by(
    text: &str,
    what: &str,
    piece: usize,
    short: usize,
    meter: &Meter<'_>,
) -> Res<Option<usize>> {
    if text.len() <= piece {
        return Ok(text.find(what));
    }
    let mut from = 0;
    if what.len() > short {
        let head = what.get(..floor(what, short)).unwrap_or("");
        while let Some(rest) = text.get(from..).filter(|rest| rest.len() >= what.len()) {
            let Some(at) = find_by(rest, head, piece, short, meter)? else { break };
            meter.look()?;
            if rest.get(at..).is_some_and(|rest| rest.starts_with(what)) {
                return Ok(Some(from + at));
            }
            from = ceil(text, from + at + 1);
        }
        return Ok(None);
    }
    loop {
        let to = ceil(text, from + piece + what.len());
        if let Some(at) = text.get(from..to).and_then(|part| part.find(what)) {
            return Ok(Some(from + at));
        }
        if to == text.len() {
            return Ok(None);
        }
        meter.look()?;
        // The next one may begin in this piece and end behind it.
        from = floor(text, to + 1 - what.len());
    }
}

fn rfind_by(
    text: &str,
    what: &str,
    piece: usize,
    short: usize,
    meter: &Meter<'_>,
) -> Res<Option<usize>> {
    if text.len() <= piece {
        return Ok(text.rfind(what));
    }
    let mut to = text.len();
    if what.len() > short {
        let tail = what.get(ceil(what, what.len() - short)..).unwrap_or("");
        while let Some(rest) = text.get(..to).filter(|rest| rest.len() >= what.len()) {
            let Some(at) = rfind_by(rest, tail, piece, short, meter)? else { break };
            meter.look()?;
            let end = at + tail.len();
            if rest.get(..end).is_some_and(|rest| rest.ends_with(what)) {
                return Ok(Some(end - what.len()));
            }
            to = floor(text, end - 1);
        }
        return Ok(None);
    }
    loop {
        let from = floor(text, to.saturating_sub(piece + what.len()));
        if let Some(at) = text.get(from..to).and_then(|part| part.rfind(what)) {
            return Ok(Some(from + at));
        }
        if from == 0 {
            return Ok(None);
        }
        meter.look()?;
        to = ceil(text, from + what.len() - 1);
    }
}

/// A look after many characters, within a test of characters.
pub(super) struct Watch<'m> {
    meter: &'m Meter<'m>,
    left: Cell<u32>,
    looks: Cell<usize>,
    fault: RefCell<Option<Fault>>,
}

impl<'m> Watch<'m> {
    pub(super) fn new(meter: &'m Meter<'m>) -> Watch<'m> {
        Watch { meter, left: Cell::new(CHARS), looks: Cell::new(0), fault: RefCell::new(None) }
    }

    /// Counts a character; false if the run must end, and from then on.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                true
            }
            None => self.look(),
        }
    }

    #[cold]
    fn look(&self) -> bool {
        if self.fault.borrow().is_some() {
            return false;
        }
        match self.meter.look() {
            Ok(()) => {
                self.left.set(CHARS);
                self.looks.set(self.looks.get() + 1);
                true
            }
            Err(fault) => {
                self.fault.replace(Some(fault));
                false
            }
        }
    }

    /// Counts the steps; the error, if one ended the test.
    pub(super) fn end(self) -> Res<()> {
        if let Some(fault) = self.fault.into_inner() {
            return Err(fault);
        }
        let (all, left) = (CHARS as usize, self.left.get() as usize);
        self.meter.tick((self.looks.get().saturating_mul(all) + (all - left)) / 32)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use teff_graph::Cancel;

    use super::*;
    use crate::template::{TemplateErrorKind, TemplateLimits};

    #[test]
    fn pieces_hide_nothing() {
        let meter = Meter::new(TemplateLimits::default(), None);
        let text = "aébaabéaéb-éé-aabaéb".repeat(3);
        let starts: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
        for &from in &starts {
            for &to in starts.iter().filter(|&&to| to >= from && to <= from + 12) {
                for what in [&text[from..to], "éa-", "bbbb", "é-a"] {
                    for (piece, short) in [(1, 100), (2, 3), (5, 2), (7, 4), (50, 8)] {
                        let short = short.max(2);
                        let found = find_by(&text, what, piece, short, &meter).unwrap();
                        assert_eq!(found, text.find(what), "{what:?} {piece} {short}");
                        let found = rfind_by(&text, what, piece, short, &meter).unwrap();
                        assert_eq!(found, text.rfind(what), "{what:?} {piece} {short}");
                    }
                }
            }
        }
    }

    /// Cancels when it has been asked some times, and counts.
    struct After(AtomicUsize);

    impl Cancel for After {
        fn cancelled(&self) -> bool {
            self.0.fetch_sub(1, Ordering::Relaxed) <= 1
        }
    }

    #[test]
    fn a_search_can_be_cancelled() {
        let text = "ab".repeat(1000);
        let after = After(AtomicUsize::new(3));
        let meter = Meter::new(TemplateLimits::default(), Some(&after));
        let fault = find_by(&text, "aa", 10, 100, &meter).unwrap_err();
        assert_eq!(crate::template::TemplateError::from(fault).kind, TemplateErrorKind::Cancelled);
        assert_eq!(after.0.load(Ordering::Relaxed), 0);
        let after = After(AtomicUsize::new(2));
        let meter = Meter::new(TemplateLimits::default(), Some(&after));
        let watch = Watch::new(&meter);
        let seen = std::iter::repeat_n('a', 1_000_000).take_while(|_| watch.goes_on()).count();
        assert!(watch.end().is_err());
        assert!((CHARS as usize..3 * CHARS as usize).contains(&seen), "{seen}");
    }
}
