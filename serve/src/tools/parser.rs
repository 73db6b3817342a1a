//! Parser of answers in which calls and reasoning stand between markers.
//!
//! ```text
//!          open            close                opener              end of call
//!   Fresh ------> Reasoning ------> Behind ----> Text <------> Call ------------> Text
//!     |                                           ^     no call: its text is text
//!     +-------------------------------------------+
//! ```
//!
//! A call is delivered when it is complete, and only if it is one: a function that the request has, with
//! arguments that are a JSON object. Everything else is text, as the model wrote it: an opening marker
//! behind which no call stands becomes text, and the search goes on behind it. Blanks beside calls and
//! reasoning are markup and dropped. None of this depends on how the text is cut into pieces.
//!
//! Where a grammar forces calls ([`Calls::Forced`]), they are calls from their first bytes on, and
//! arguments in JSON are delivered as they come.

use super::Calls;
use super::format::{Format, Reasoning, Start};
use super::scan::{Call, CallScan, Function, Kind, Step};
use crate::job::{AnswerParser, Part};

/// Place in the answer.
#[derive(Debug)]
enum At {
    /// At the beginning.
    Fresh,
    /// In the reasoning; true before its first character that is no blank.
    Reasoning(bool),
    /// Behind reasoning, before the text's first character that is no blank.
    Behind,
    Text,
    Call(Box<Open>),
    /// Behind a call of a format without markers, where another may follow.
    Another,
}

/// A call, or what may become one.
#[derive(Debug)]
struct Open {
    /// Length of the opening marker at the start of the buffer.
    marker: usize,
    scan: CallScan,
    /// True in the reasoning.
    inside: bool,
    /// True once the call was delivered, and the length of its arguments that were.
    delivered: Option<usize>,
}

/// Parser of the answers of all formats but [`Format::Harmony`].
#[derive(Debug)]
pub(crate) struct CallParser {
    format: Format,
    reasoning: Option<Reasoning>,
    functions: Vec<Function>,
    calls: Calls,
    at: At,
    /// Text that is not delivered yet.
    buffer: String,
    /// Blanks at the end of the text so far: those before a call are dropped.
    blanks: String,
    /// True right behind a call: blanks there are dropped as well.
    beside: bool,
}

impl CallParser {
    /// Parser of an answer that begins at `start`. Without functions, nothing is a call.
    pub(crate) fn new(
        format: Format,
        start: Start,
        functions: Vec<Function>,
        calls: Calls,
    ) -> CallParser {
        let at = match start {
            Start::Fresh => At::Fresh,
            Start::Reasoning => At::Reasoning(true),
            Start::Behind => At::Behind,
            Start::Text => At::Text,
        };
        CallParser {
            format,
            reasoning: format.reasoning(),
            functions,
            calls,
            at,
            buffer: String::new(),
            blanks: String::new(),
            beside: false,
        }
    }

    /// Markers behind which calls stand.
    fn openers(&self) -> &'static [(&'static str, Kind)] {
        if self.functions.is_empty() {
            return &[];
        }
        match self.format {
            Format::Hermes => &[("<tool_call>", Kind::Tag { xml: false })],
            Format::Xml if self.calls != Calls::Free => &[("<tool_call>", Kind::Tag { xml: true })],
            Format::Xml => &[("<tool_call>", Kind::Tag { xml: true }), ("<function=", Kind::Xml)],
            Format::Llama => &[("<|python_tag|>", Kind::Object)],
            Format::MistralList | Format::MistralId | Format::MistralArgs => {
                &[("[TOOL_CALLS]", Kind::Mistral)]
            }
            Format::Gemma => &[("<|tool_call>", Kind::Gemma)],
            Format::Lfm => &[("<|tool_call_start|>", Kind::Lfm)],
            Format::Harmony | Format::Generic | Format::Unknown => &[],
        }
    }

    /// True if a call may stand at the beginning of the answer without any marker.
    fn bare(&self) -> bool {
        let bare =
            matches!(self.format, Format::Llama | Format::Lfm | Format::Generic | Format::Unknown);
        bare && !self.functions.is_empty()
    }

    fn run(&mut self, ended: bool, parts: &mut Vec<Part>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut read = 0;
        loop {
            let (length, again) = self.proceed(&buffer[read..], ended, parts);
            read += length;
            if !again {
                break;
            }
        }
        buffer.drain(..read);
        self.buffer = buffer;
    }

    /// Takes one step: returns the length of the text that is read, and false if more is needed.
    fn proceed(&mut self, text: &str, ended: bool, parts: &mut Vec<Part>) -> (usize, bool) {
        match &self.at {
            At::Fresh => self.begin(text, true, ended),
            At::Behind => self.begin(text, false, ended),
            At::Reasoning(first) => self.reason(text, *first, ended, parts),
            At::Text => self.say(text, ended, parts),
            At::Call(_) => self.call(text, ended, parts),
            At::Another => self.another(text, ended),
        }
    }

    /// At the beginning of the answer, or behind its reasoning.
    fn begin(&mut self, text: &str, fresh: bool, ended: bool) -> (usize, bool) {
        let begun = text.trim_start();
        let blank = text.len() - begun.len();
        let open = self.reasoning.map(|tags| tags.open).filter(|_| fresh);
        if let Some(open) = open.filter(|open| begun.starts_with(open)) {
            self.at = At::Reasoning(true);
            return (blank + open.len(), true);
        }
        if !ended && (begun.is_empty() || open.is_some_and(|open| open.starts_with(begun))) {
            return (0, false);
        }
        let bare = self.bare() && begun.starts_with('{');
        self.at = if bare { open_call(0, Kind::Object, false) } else { At::Text };
        if fresh && bare {
            text[..blank].clone_into(&mut self.blanks);
        }
        (if fresh && !bare { 0 } else { blank }, true)
    }

    /// In the reasoning.
    fn reason(
        &mut self,
        text: &str,
        first: bool,
        ended: bool,
        parts: &mut Vec<Part>,
    ) -> (usize, bool) {
        let Some(tags) = self.reasoning else {
            self.at = At::Text;
            return (0, true);
        };
        let begun = if first { text.trim_start() } else { text };
        let blank = text.len() - begun.len();
        if first && !ended && tags.open.starts_with(begun) {
            return (0, false);
        }
        // Models write the tag once more where the prompt has it.
        if first && begun.starts_with(tags.open) {
            return (blank + tags.open.len(), true);
        }
        // Qwen 3.5 may call from within the reasoning, without ending it.
        let opener = self.openers().first().filter(|_| self.format == Format::Xml).copied();
        let opener_text = opener.map_or(tags.close, |(marker, _)| marker);
        let (end, found) = match find(begun, &[tags.close, opener_text]) {
            Found::Marker(end, which) => (end, Some(which)),
            Found::Tail(end) => (if ended { begun.len() } else { end }, None),
        };
        let certain = begun[..end].trim_end();
        if !certain.is_empty() {
            parts.push(Part::Reasoning(certain.into()));
        }
        match (found, opener) {
            (Some(1), Some((marker, kind))) => {
                begun[certain.len()..end].clone_into(&mut self.blanks);
                self.at = open_call(marker.len(), kind, true);
                (blank + end, true)
            }
            (Some(_), _) => {
                self.at = At::Behind;
                (blank + end + tags.close.len(), true)
            }
            // Blanks may stand before the end, and are dropped then.
            (None, _) => {
                self.at = At::Reasoning(first && certain.is_empty());
                (if ended { text.len() } else { blank + certain.len() }, false)
            }
        }
    }

    /// In the text.
    fn say(&mut self, text: &str, ended: bool, parts: &mut Vec<Part>) -> (usize, bool) {
        let openers = self.openers();
        let think = self.reasoning.filter(|tags| tags.anywhere).map(|tags| tags.open);
        let markers: Vec<&str> = openers.iter().map(|o| o.0).chain(think).collect();
        let (end, found) = match find(text, &markers) {
            Found::Marker(end, which) => (end, Some(which)),
            Found::Tail(end) => (if ended { text.len() } else { end }, None),
        };
        self.text(&text[..end], parts);
        let Some(which) = found else {
            if ended {
                push_text(&std::mem::take(&mut self.blanks), parts);
            }
            return (end, false);
        };
        match openers.get(which) {
            Some(&(marker, kind)) => {
                self.at = open_call(marker.len(), kind, false);
                (end, true)
            }
            None => {
                self.at = At::Reasoning(true);
                (end + markers[which].len(), true)
            }
        }
    }

    /// In what may be a call.
    fn call(&mut self, text: &str, ended: bool, parts: &mut Vec<Part>) -> (usize, bool) {
        let At::Call(open) = &mut self.at else { return (0, false) };
        let marker = open.marker;
        match open.scan.step(&text[marker..], ended, &self.functions) {
            Step::More => {
                if self.calls == Calls::Forced {
                    self.deliver(&text[marker..], parts);
                }
                (0, false)
            }
            Step::Done(length, calls) => {
                let delivered = open.delivered;
                self.blanks.clear();
                self.beside = true;
                self.deliver_all(calls, delivered, parts);
                self.at = if self.bare() { At::Another } else { At::Text };
                (marker + length, true)
            }
            Step::Bad => (self.give_up(text, parts), true),
        }
    }

    /// Behind a call that stands alone.
    fn another(&mut self, text: &str, ended: bool) -> (usize, bool) {
        let begun = text.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == ',');
        if begun.is_empty() && !ended {
            return (0, false);
        }
        if !begun.starts_with('{') {
            self.at = At::Text;
            return (0, true);
        }
        let between = text.len() - begun.len();
        text[..between].clone_into(&mut self.blanks);
        self.at = open_call(0, Kind::Object, false);
        (between, true)
    }

    /// Delivers what is certain of a call that was begun.
    fn deliver(&mut self, behind: &str, parts: &mut Vec<Part>) {
        let At::Call(open) = &mut self.at else { return };
        let Some((name, start, end)) = open.scan.begun(behind) else { return };
        if !self.functions.iter().any(|f| f.name == name) || !behind[start..].starts_with('{') {
            return;
        }
        if open.delivered.is_none() {
            self.blanks.clear();
            parts.push(Part::Call { name });
        }
        let sent = open.delivered.unwrap_or(0);
        if let Some(more) = behind.get(start + sent..end).filter(|more| !more.is_empty()) {
            parts.push(Part::Arguments(more.to_owned()));
        }
        open.delivered = Some(sent.max(end.saturating_sub(start)));
    }

    /// Delivers calls that are complete; of the first, `delivered` bytes of the arguments were already.
    fn deliver_all(
        &mut self,
        calls: Vec<Call>,
        mut delivered: Option<usize>,
        parts: &mut Vec<Part>,
    ) {
        for (name, arguments) in calls {
            let sent = match delivered.take() {
                Some(sent) => sent,
                None => {
                    parts.push(Part::Call { name });
                    0
                }
            };
            if let Some(more) = arguments.get(sent..).filter(|more| !more.is_empty()) {
                parts.push(Part::Arguments(more.to_owned()));
            }
        }
    }

    /// Gives up a call that is none: its first characters are text, and the rest is looked at again.
    /// Returns the length of the text that is read.
    fn give_up(&mut self, text: &str, parts: &mut Vec<Part>) -> usize {
        let At::Call(open) = std::mem::replace(&mut self.at, At::Text) else { return 0 };
        if open.delivered.is_some() {
            // It can't be taken back: what was delivered stays as it is, cut by a limit.
            return text.len();
        }
        // Without a marker, it is the character that a call begins with.
        let length = open.marker.max(1).min(text.len());
        if open.inside {
            let blanks = std::mem::take(&mut self.blanks);
            parts.push(Part::Reasoning(blanks + &text[..length]));
            self.at = At::Reasoning(false);
        } else {
            self.text(&text[..length], parts);
        }
        length
    }

    /// Delivers text. Blanks at its end are kept until it is known what follows.
    fn text(&mut self, text: &str, parts: &mut Vec<Part>) {
        if self.functions.is_empty() && self.reasoning.is_none_or(|tags| !tags.anywhere) {
            return push_text(text, parts);
        }
        let text = if self.beside { text.trim_start() } else { text };
        self.beside &= text.is_empty();
        let certain = text.trim_end();
        if !certain.is_empty() {
            let blanks = std::mem::take(&mut self.blanks);
            push_text(&(blanks + certain), parts);
        }
        self.blanks.push_str(&text[certain.len()..]);
    }
}

fn open_call(marker: usize, kind: Kind, inside: bool) -> At {
    let scan = CallScan::new(kind);
    At::Call(Box::new(Open { marker, scan, inside, delivered: None }))
}

fn push_text(text: &str, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// Result of looking for markers in a text that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The first marker begins here, and is the one with this index.
    Marker(usize, usize),
    /// There is none. What begins here may become one.
    Tail(usize),
}

/// Looks for the first of several markers. No marker may have the first character of one behind its own
/// first character, so that they can't overlap.
pub(crate) fn find(text: &str, markers: &[&str]) -> Found {
    let first = markers.iter().enumerate().filter_map(|(i, marker)| Some((text.find(marker)?, i)));
    if let Some((at, which)) = first.min() {
        return Found::Marker(at, which);
    }
    let tail = |marker: &&str| (1..marker.len()).rev().find(|&n| text.ends_with(&marker[..n]));
    let longest = markers.iter().filter_map(tail).max();
    Found::Tail(text.len() - longest.unwrap_or(0))
}

impl AnswerParser for CallParser {
    fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        self.buffer.push_str(text);
        self.run(false, parts);
    }

    fn finish(&mut self, parts: &mut Vec<Part>) {
        self.run(true, parts);
    }
}
