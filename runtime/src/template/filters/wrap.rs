//! The filter `wordwrap`, which is Python's `textwrap`.

use super::super::args::{Args, int as int_arg, text as text_arg};
use super::super::error::{Fault, Res};
use super::super::pytext::{is_alnum, is_decimal, is_space, lines};
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
    vm.meter.room(line.len().saturating_mul(32))?;
    let mut chunks: Vec<&str> = chunks(line, hyphens, vm)?;
    chunks.reverse();
    let mut first = true;
    let length = |chunk: &str| chunk.chars().count();
    while !chunks.is_empty() {
        vm.meter.tick(1)?;
        let mut current: Vec<&str> = Vec::new();
        let mut used = 0;
        // White space at the start of a line goes, but not at the start of the text.
        if !first && chunks.last().is_some_and(|c| c.chars().all(is_space)) {
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
        if current.last().is_some_and(|c| c.chars().all(is_space)) {
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
        let space = rest.starts_with(blank);
        let end = rest.find(|c| blank(c) != space).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        vm.meter.tick(1 + part.len())?;
        match hyphens && !space && part.contains('-') {
            true => word(part, &mut all),
            false => all.push(part),
        }
        rest = after;
    }
    Ok(all)
}

/// A word in parts that end behind hyphens between letters, and dashes between words.
fn word<'t>(text: &'t str, all: &mut Vec<&'t str>) {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let at = |i: usize| chars.get(i).map(|&(_, c)| c);
    let is = |i: Option<usize>, test: fn(char) -> bool| i.and_then(at).is_some_and(test);
    let letter = |c: char| (is_alnum(c) || c == '_') && !is_decimal(c);
    let in_word = |c: char| is_alnum(c) || c == '_';
    let punctuation = |c: char| is_alnum(c) || "_!\"'&.,?".contains(c);
    // The end of a dash of two hyphens or more that a word follows.
    let dash = |from: usize| {
        let mut end = from;
        while at(end) == Some('-') {
            end += 1;
        }
        (end >= from + 2 && is(Some(end), in_word)).then_some(end)
    };
    let mut start = 0;
    while start < chars.len() {
        let mut end = start;
        if is(start.checked_sub(1), punctuation)
            && let Some(to) = dash(start)
        {
            end = to;
        } else {
            loop {
                end += 1;
                if end >= chars.len() {
                    break;
                }
                if at(end) == Some('-') {
                    let one = is(end.checked_sub(1), letter);
                    let two = is(end.checked_sub(2), letter)
                        || is(end.checked_sub(2), |c| c == '-') && is(end.checked_sub(3), letter);
                    let hyphen = usize::from(at(end + 2) == Some('-'));
                    let behind = is(Some(end + 1), letter) && is(Some(end + 2 + hyphen), letter);
                    if one && two && behind {
                        end += 1;
                        break;
                    }
                }
                if is(end.checked_sub(1), punctuation) && dash(end).is_some() {
                    break;
                }
            }
        }
        let (from, to) = (chars.get(start), chars.get(end));
        let to = to.map_or(text.len(), |&(byte, _)| byte);
        all.push(from.and_then(|&(from, _)| text.get(from..to)).unwrap_or(""));
        start = end;
    }
}
