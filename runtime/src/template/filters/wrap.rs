//! The filter `wordwrap`, which is Python's `textwrap`.

use super::super::args::{Args, int as int_arg, text as text_arg};
use super::super::error::{Fault, Res};
use super::super::pytext::{is_alnum, is_alpha, lines};
use super::super::value::{Buf, Value};
use super::super::vm::Vm;
use super::{flag, or_none};

pub(super) fn word_wrap(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, width, long, between, hyphens] = args.bind(
        "wordwrap",
        ["s", "width", "break_long_words", "wrapstring", "break_on_hyphens"],
        1,
    )?;
    let value = or_none(value);
    if value.is_undefined() {
        return Err(value.undefined_error());
    }
    let text = text_arg(&value)?;
    let width = width.map_or(Ok(79), |w| int_arg(&w))?;
    let long = long.map_or(Ok(true), |l| flag(Some(l), vm))?;
    let hyphens = hyphens.map_or(Ok(true), |h| flag(Some(h), vm))?;
    let between = match &between {
        None | Some(Value::None) => "\n",
        Some(between) => text_arg(between)?,
    };
    let width = usize::try_from(width).ok().filter(|&w| w > 0);
    let mut out = Buf::new(vm.meter)?;
    for (at, line) in lines(text, false, vm.meter)?.into_iter().enumerate() {
        if at > 0 {
            out.push_str(between)?;
        }
        let Some(width) = width else {
            return Err(Fault::op("invalid width (must be > 0)"));
        };
        wrap(line, width, long, hyphens, between, vm, &mut out)?;
    }
    out.finish(false)
}

/// White space as textwrap has it.
fn blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Wraps a line.
fn wrap(
    line: &str,
    width: usize,
    long: bool,
    hyphens: bool,
    between: &str,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<()> {
    vm.meter.room(line.len().saturating_mul(8))?;
    let mut chunks: Vec<&str> = chunks(line, hyphens, vm)?;
    chunks.reverse();
    let mut first = true;
    let length = |chunk: &str| chunk.chars().count();
    while !chunks.is_empty() {
        vm.meter.tick(1)?;
        let mut current: Vec<&str> = Vec::new();
        let mut used = 0;
        // White space at the start of a line goes, but not at the start of the text.
        if !first && chunks.last().is_some_and(|c| c.chars().all(blank)) {
            chunks.pop();
        }
        while let Some(chunk) = chunks.last() {
            vm.meter.tick(1 + chunk.len() / 16)?;
            let n = length(chunk);
            if used + n > width {
                break;
            }
            used += n;
            current.extend(chunks.pop());
        }
        if let Some(chunk) = chunks.last().copied().filter(|c| length(c) > width) {
            let room = width - used;
            if long {
                let mut end = chunk.char_indices().nth(room).map_or(chunk.len(), |(at, _)| at);
                if hyphens && length(chunk) > room {
                    // Behind a hyphen, if there is something else in front of it.
                    let part = chunk.get(..end).unwrap_or("");
                    if let Some(hyphen) = part.rfind('-').filter(|&at| at > 0)
                        && part.get(..hyphen).is_some_and(|p| p.chars().any(|c| c != '-'))
                    {
                        end = hyphen + 1;
                    }
                }
                let (head, tail) = chunk.split_at(end);
                current.push(head);
                chunks.pop();
                chunks.push(tail);
            } else if current.is_empty() {
                current.extend(chunks.pop());
            }
        }
        if current.last().is_some_and(|c| c.chars().all(blank)) {
            current.pop();
        }
        if current.is_empty() {
            continue;
        }
        if !first {
            out.push_str(between)?;
        }
        first = false;
        current.iter().try_for_each(|chunk| out.push_str(chunk))?;
    }
    Ok(())
}

/// Words, the white space between them, and parts of words behind hyphens.
fn chunks<'t>(line: &'t str, hyphens: bool, vm: &Vm<'_>) -> Res<Vec<&'t str>> {
    let mut all = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        vm.meter.tick(1)?;
        let space = rest.starts_with(blank);
        let end = rest.find(|c| blank(c) != space).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        match hyphens && !space && part.contains('-') {
            true => word(part, &mut all),
            false => all.push(part),
        }
        rest = after;
    }
    Ok(all)
}

/// A word in parts that end behind hyphens between letters, and dashes.
fn word<'t>(text: &'t str, all: &mut Vec<&'t str>) {
    let letter = is_alpha;
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let at = |i: usize| chars.get(i).map(|&(_, c)| c);
    let punctuation =
        |c: char| is_alnum(c) || matches!(c, '_' | '!' | '"' | '\'' | '&' | '.' | ',' | '?');
    let mut start = 0;
    let mut i = 0;
    let mut cut = |from: usize, to: usize| {
        let (from, to) = (
            chars.get(from).map_or(text.len(), |&(b, _)| b),
            chars.get(to).map_or(text.len(), |&(b, _)| b),
        );
        if from < to {
            all.push(text.get(from..to).unwrap_or(""));
        }
    };
    while i < chars.len() {
        if at(i) != Some('-') {
            i += 1;
            continue;
        }
        let mut end = i;
        while at(end) == Some('-') {
            end += 1;
        }
        let before = i.checked_sub(1).and_then(at);
        if end - i >= 2 {
            // A dash between words stands alone.
            let dash =
                before.is_some_and(punctuation) && at(end).is_some_and(|c| is_alnum(c) || c == '_');
            if dash {
                cut(start, i);
                cut(i, end);
                start = end;
            }
            i = end;
            continue;
        }
        // Two letters in front, or one behind another hyphen, and letters behind.
        let two = before.is_some_and(letter)
            && i.checked_sub(2).and_then(at).is_some_and(|c| letter(c) || c == '-');
        let behind = at(i + 1).is_some_and(letter)
            && (at(i + 2).is_some_and(letter) || at(i + 2) == Some('-'));
        if two && behind {
            cut(start, i + 1);
            start = i + 1;
        }
        i += 1;
    }
    cut(start, chars.len());
}
