//! Reasoning between `<think>` and `</think>`, apart from the answer.

use crate::job::{AnswerParser, Part};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// State of the splitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Nothing but blanks so far: reasoning may begin.
    Start,
    /// In the reasoning; true before its first character that is no blank.
    Inside(bool),
    /// Behind the reasoning, before the answer's first character that is no blank.
    Behind,
    /// In the answer.
    Answer,
}

/// Parser that takes the reasoning at the beginning of an answer out of it and gives the rest to
/// another parser.
pub(crate) struct Think {
    at: At,
    /// Text that may be the beginning of a tag, or blanks that may stand beside one.
    held: String,
    inner: Box<dyn AnswerParser>,
}

impl Think {
    /// Parser in front of `inner`; `inside` is true if the prompt has begun the reasoning.
    pub(crate) fn new(inside: bool, inner: Box<dyn AnswerParser>) -> Think {
        let at = if inside { At::Inside(true) } else { At::Start };
        Think { at, held: String::new(), inner }
    }
}

impl AnswerParser for Think {
    fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        if self.at == At::Answer {
            return self.inner.push(text, parts);
        }
        self.held.push_str(text);
        loop {
            let held = std::mem::take(&mut self.held);
            match self.at {
                At::Start => {
                    let rest = held.trim_start();
                    if let Some(rest) = rest.strip_prefix(OPEN) {
                        self.held = rest.into();
                        self.at = At::Inside(true);
                        continue;
                    }
                    if OPEN.starts_with(rest) {
                        self.held = held;
                        return;
                    }
                    self.at = At::Answer;
                    return self.inner.push(&held, parts);
                }
                At::Inside(first) => {
                    let held = if first { held.trim_start() } else { &held };
                    if let Some((before, behind)) = held.split_once(CLOSE) {
                        let before = before.trim_end();
                        if !before.is_empty() {
                            parts.push(Part::Reasoning(before.into()));
                        }
                        self.held = behind.into();
                        self.at = At::Behind;
                        continue;
                    }
                    // Blanks at the end may stand before the tag, and a beginning of it after them.
                    let tail = (1..CLOSE.len()).rev().find(|&n| held.ends_with(&CLOSE[..n]));
                    let certain = held[..held.len() - tail.unwrap_or(0)].trim_end();
                    if !certain.is_empty() {
                        parts.push(Part::Reasoning(certain.into()));
                        self.at = At::Inside(false);
                    }
                    self.held = held[certain.len()..].into();
                    return;
                }
                At::Behind => {
                    let rest = held.trim_start();
                    if rest.is_empty() {
                        return;
                    }
                    self.at = At::Answer;
                    return self.inner.push(rest, parts);
                }
                At::Answer => return self.inner.push(&held, parts),
            }
        }
    }

    fn finish(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        match self.at {
            At::Inside(_) if !held.is_empty() => parts.push(Part::Reasoning(held)),
            At::Start if !held.is_empty() => self.inner.push(&held, parts),
            _ => {}
        }
        self.inner.finish(parts);
    }
}

/// Parser of answers that are text and nothing else.
pub(crate) struct Plain;

impl AnswerParser for Plain {
    fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
    }

    fn finish(&mut self, _parts: &mut Vec<Part>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasoning and answer of a text that comes in pieces of `n` bytes.
    fn split(inside: bool, text: &str, n: usize) -> (String, String) {
        let mut think = Think::new(inside, Box::new(Plain));
        let mut parts = Vec::new();
        for piece in text.as_bytes().chunks(n) {
            think.push(std::str::from_utf8(piece).unwrap(), &mut parts);
        }
        think.finish(&mut parts);
        let (mut reasoning, mut answer) = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Text(text) => answer += &text,
                Part::Reasoning(text) => reasoning += &text,
                other => panic!("{other:?}"),
            }
        }
        (reasoning, answer)
    }

    #[test]
    fn reasoning_is_taken_out_however_the_text_is_cut() {
        for (inside, text, reasoning, answer) in [
            (false, "<think>\nI see.\nYes.\n</think>\n\nHi", "I see.\nYes.", "Hi"),
            (false, "\n<think>a < b </thin x</think>c", "a < b </thin x", "c"),
            (true, "hm\n</think>ok </think>", "hm", "ok </think>"),
            (false, "<thinking> is text", "", "<thinking> is text"),
            (false, " plain <think>x</think>", "", " plain <think>x</think>"),
            (false, "<think></think>\n\nx", "", "x"),
            (true, "never ends </thi", "never ends </thi", ""),
            (false, "<thi", "", "<thi"),
            (false, "", "", ""),
        ] {
            for n in 1..=text.len().max(1) {
                let got = split(inside, text, n);
                assert_eq!(got, (reasoning.into(), answer.into()), "{text:?} by {n}");
            }
        }
    }

    #[test]
    fn nothing_certain_is_held_back() {
        let mut think = Think::new(false, Box::new(Plain));
        let mut parts = Vec::new();
        think.push("<think>so", &mut parts);
        assert_eq!(parts, [Part::Reasoning("so".into())]);
        think.push("</think>a", &mut parts);
        assert_eq!(parts.last(), Some(&Part::Text("a".into())));
        think.push(" <think>", &mut parts);
        assert_eq!(parts.last(), Some(&Part::Text(" <think>".into())));
    }
}
