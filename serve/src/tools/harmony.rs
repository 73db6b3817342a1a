//! Answers of gpt-oss: messages in channels (<https://github.com/openai/harmony/blob/main/docs/format.md>).
//!
//! ```text
//! <|channel|>analysis<|message|>reasoning<|end|>
//! <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{..}<|call|>
//! <|start|>assistant<|channel|>final<|message|>text<|return|>
//! ```
//!
//! The prompt ends with `<|start|>assistant`, and the last marker ends the generation, so that neither is
//! in the text. The recipient `to=..` may also stand before the channel, as in templates. What isn't
//! reasoning, a call of a function that the request has, or a message for the user, is text as the model
//! wrote it, markers included.

use super::Calls;
use super::format::Start;
use super::json::{JsonScan, Scan};
use super::parser::{Found, find};
use super::scan::Function;
use crate::job::{AnswerParser, Part};

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const CONSTRAIN: &str = "<|constrain|>";
const MESSAGE: &str = "<|message|>";
/// Markers that end a message.
const ENDS: [&str; 4] = ["<|end|>", "<|call|>", "<|return|>", START];
/// Longest header, in bytes.
const MAX_HEADER: usize = 320;

/// Place in the answer.
#[derive(Debug)]
enum At {
    /// In a header; true for that of the first message, whose beginning the prompt has.
    Header(bool),
    /// Behind the end of a message.
    Between,
    Reasoning,
    Text,
    /// In the arguments of a call.
    Call(Box<Open>),
    /// Behind the arguments.
    Behind,
}

/// A call, or what may become one.
#[derive(Debug)]
struct Open {
    name: String,
    /// The header as it was written.
    header: String,
    scan: JsonScan,
    /// Length of the arguments that were delivered, once the call was.
    delivered: Option<usize>,
}

/// Meaning of a header.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Header {
    Reasoning,
    Text,
    Call(String),
}

/// Parser of the answers of [`Format::Harmony`](super::format::Format).
#[derive(Debug)]
pub(crate) struct Harmony {
    functions: Vec<Function>,
    /// Calls are delivered before they are complete.
    eager: bool,
    at: At,
    buffer: String,
}

impl Harmony {
    /// Parser of an answer. Without functions, nothing is a call.
    pub(crate) fn new(start: Start, functions: Vec<Function>, calls: Calls) -> Harmony {
        let at = match start {
            Start::Fresh | Start::Behind => At::Header(true),
            Start::Reasoning => At::Reasoning,
            Start::Text => At::Text,
        };
        Harmony { functions, eager: calls == Calls::Forced, at, buffer: String::new() }
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
        match &mut self.at {
            At::Header(first) => {
                let first = *first;
                self.header(text, first, ended, parts)
            }
            At::Between => {
                let begun = text.trim_ascii_start();
                if begun.starts_with(START) || begun.starts_with(CHANNEL) {
                    self.at = At::Header(false);
                    return (text.len() - begun.len(), true);
                }
                if begun.is_empty() && ended {
                    return (text.len(), false);
                }
                if !ended && (START.starts_with(begun) || CHANNEL.starts_with(begun)) {
                    return (0, false);
                }
                self.at = At::Text;
                (0, true)
            }
            At::Reasoning | At::Text => {
                let reasoning = matches!(self.at, At::Reasoning);
                let (end, found) = match find(text, &ENDS) {
                    Found::Marker(end, which) => (end, Some(which)),
                    Found::Tail(end) => (if ended { text.len() } else { end }, None),
                };
                push(reasoning, &text[..end], parts);
                let Some(which) = found else { return (end, false) };
                (end + self.end(which), true)
            }
            At::Behind => {
                let begun = text.trim_ascii_start();
                let blank = text.len() - begun.len();
                if let Some(which) = ENDS.iter().position(|end| begun.starts_with(end)) {
                    return (blank + self.end(which), true);
                }
                if !ended && ENDS.iter().any(|end| end.starts_with(begun)) {
                    return (0, false);
                }
                self.at = At::Text;
                (blank, true)
            }
            At::Call(open) => {
                let begun = text.trim_ascii_start();
                let blank = text.len() - begun.len();
                match open.scan.scan(begun) {
                    Scan::More if !ended => {
                        self.deliver(begun, parts);
                        (0, false)
                    }
                    Scan::End(end) if begun.starts_with('{') => {
                        let sent = open.delivered.unwrap_or_else(|| {
                            parts.push(Part::Call { name: std::mem::take(&mut open.name) });
                            0
                        });
                        if let Some(more) = begun.get(sent..end).filter(|more| !more.is_empty()) {
                            parts.push(Part::Arguments(more.to_owned()));
                        }
                        self.at = At::Behind;
                        (blank + end, true)
                    }
                    // It can't be taken back: what was delivered stays as it is, cut by a limit.
                    _ if open.delivered.is_some() => (text.len(), false),
                    _ => {
                        push(false, &std::mem::take(&mut open.header), parts);
                        self.at = At::Text;
                        (0, true)
                    }
                }
            }
        }
    }

    /// Ends a message by a marker, and returns the length of it that is read.
    fn end(&mut self, which: usize) -> usize {
        self.at = At::Between;
        if ENDS[which] == START { 0 } else { ENDS[which].len() }
    }

    fn header(
        &mut self,
        text: &str,
        first: bool,
        ended: bool,
        parts: &mut Vec<Part>,
    ) -> (usize, bool) {
        let end = text.find(MESSAGE);
        let header = &text[..end.unwrap_or(text.len())];
        // The first message may be plain text, without any header.
        let begins = [CHANNEL, MESSAGE, " to=", START];
        let headless = first && !begins.iter().any(|b| text.starts_with(b) || b.starts_with(text));
        // The beginning of the last marker is no part of the header.
        let longest = if end.is_some() { MAX_HEADER } else { MAX_HEADER + MESSAGE.len() };
        let malformed = headless || header.len() > longest || ended && end.is_none();
        if malformed || !is_header(header) {
            self.at = At::Text;
            // Behind a marker of its own, or the search for the message's end would find that.
            let marker = if text.starts_with(START) { START.len() } else { 0 };
            push(false, &text[..marker], parts);
            return (marker, true);
        }
        let Some(end) = end else { return (0, false) };
        let length = end + MESSAGE.len();
        match self.meaning(header) {
            Some(Header::Reasoning) => self.at = At::Reasoning,
            Some(Header::Text) => self.at = At::Text,
            Some(Header::Call(name)) => {
                let header = text[..length].to_owned();
                let (scan, delivered) = (JsonScan::new(), None);
                self.at = At::Call(Box::new(Open { name, header, scan, delivered }));
            }
            None => {
                self.at = At::Text;
                push(false, &text[..length], parts);
            }
        }
        (length, true)
    }

    /// The meaning of a header; `None` if it has none for the request.
    fn meaning(&self, header: &str) -> Option<Header> {
        let header = header.strip_prefix(START).unwrap_or(header);
        let mut fields = header.split(CHANNEL);
        let role = fields.next().unwrap_or_default();
        let mut words: Vec<String> = role.split_ascii_whitespace().map(str::to_owned).collect();
        if words.iter().any(|word| word != "assistant" && !word.starts_with("to=")) {
            // It is no message of the assistant's.
            return None;
        }
        let mut channel = None;
        for field in fields {
            let field = field.replace(CONSTRAIN, " ");
            let mut rest = field.split_ascii_whitespace().map(str::to_owned);
            channel = rest.next();
            words.extend(rest);
        }
        let recipient = words.iter().rev().find_map(|word| word.strip_prefix("to="));
        match recipient {
            None | Some("assistant" | "user") => match channel.as_deref() {
                Some("analysis") => Some(Header::Reasoning),
                None | Some("final" | "commentary") => Some(Header::Text),
                Some(_) => None,
            },
            Some(to) => {
                let name = to.strip_prefix("functions.")?;
                let known = self.functions.iter().any(|f| f.name == name);
                known.then(|| Header::Call(name.to_owned()))
            }
        }
    }

    /// Delivers what is certain of a call that was begun.
    fn deliver(&mut self, text: &str, parts: &mut Vec<Part>) {
        let At::Call(open) = &mut self.at else { return };
        if !self.eager || !text.starts_with('{') {
            return;
        }
        if open.delivered.is_none() {
            parts.push(Part::Call { name: open.name.clone() });
        }
        let (sent, seen) = (open.delivered.unwrap_or(0), open.scan.seen());
        if let Some(more) = text.get(sent..seen).filter(|more| !more.is_empty()) {
            parts.push(Part::Arguments(more.to_owned()));
        }
        open.delivered = Some(sent.max(seen));
    }
}

/// True for a text that is a header, or may become one.
fn is_header(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        if !rest[..at].chars().all(is_header_char) {
            return false;
        }
        rest = &rest[at..];
        let markers = [START, CHANNEL, CONSTRAIN, MESSAGE];
        let Some(marker) = markers.iter().find(|marker| rest.starts_with(**marker)) else {
            return markers.iter().any(|marker| marker.starts_with(rest));
        };
        rest = &rest[marker.len()..];
    }
    rest.chars().all(is_header_char)
}

fn is_header_char(c: char) -> bool {
    super::scan::is_name_char(c) || matches!(c, ' ' | '=' | '+')
}

fn push(reasoning: bool, text: &str, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        let text = text.to_owned();
        parts.push(if reasoning { Part::Reasoning(text) } else { Part::Text(text) });
    }
}

impl AnswerParser for Harmony {
    fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        self.buffer.push_str(text);
        self.run(false, parts);
    }

    fn finish(&mut self, parts: &mut Vec<Part>) {
        self.run(true, parts);
    }
}
