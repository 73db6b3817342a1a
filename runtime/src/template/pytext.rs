//! Python's notions of characters: white space, line ends, digits, letters and cases.

use super::error::Res;
use super::limits::Meter;
use super::search::Watch;
use super::tables::{DIGITS, NOT_PRINTABLE, NUMERIC, ZEROS};
use super::value::{Buf, Value};
use crate::tokenizer::is_letter;

/// `str.isspace` of a character, which is also what `strip` removes.
pub(super) fn is_space(c: char) -> bool {
    matches!(c,
        '\t'..='\r' | '\u{1c}'..=' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// True for characters at which `splitlines` splits.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c,
        '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Lines of a text, with their ends or without.
pub(super) fn lines<'t>(text: &'t str, keep: bool, meter: &Meter<'_>) -> Res<Vec<&'t str>> {
    let mut all = Vec::new();
    let mut start = 0;
    let watch = Watch::new(meter);
    let mut chars = text.char_indices().take_while(|_| watch.goes_on()).peekable();
    while let Some((at, c)) = chars.next() {
        if !is_line_end(c) {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && chars.next_if(|&(_, c)| c == '\n').is_some() {
            end += 1;
        }
        meter.tick(1 + (end - start) / 16)?;
        if all.len() == all.capacity() {
            meter.room(all.len() * 32)?;
        }
        all.push(text.get(start..if keep { end } else { at }).unwrap_or(""));
        start = end;
    }
    watch.end()?;
    if start < text.len() {
        all.push(text.get(start..).unwrap_or(""));
    }
    Ok(all)
}

/// True if a character is in ranges that are written as gaps and lengths.
fn in_ranges(c: char, ranges: &[u32]) -> bool {
    let c = c as u32;
    let mut at = 0;
    for pair in ranges.chunks_exact(2) {
        let &[gap, length] = pair else { return false };
        at += gap;
        if c < at {
            return false;
        }
        at += length;
        if c < at {
            return true;
        }
    }
    false
}

/// False for what `repr` escapes.
pub(super) fn is_printable(c: char) -> bool {
    match c.is_ascii() {
        true => (' '..='~').contains(&c),
        false => !in_ranges(c, &NOT_PRINTABLE),
    }
}

/// Value of a decimal digit of any script.
pub(super) fn digit_value(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    let c = c as u32;
    let row = ZEROS.partition_point(|&zero| zero <= c).checked_sub(1)?;
    let value = c.checked_sub(*ZEROS.get(row)?)?;
    (value < 10).then_some(value)
}

pub(super) fn is_decimal(c: char) -> bool {
    digit_value(c).is_some()
}

pub(super) fn is_digit(c: char) -> bool {
    is_decimal(c) || !c.is_ascii() && in_ranges(c, &DIGITS)
}

pub(super) fn is_numeric(c: char) -> bool {
    is_digit(c) || !c.is_ascii() && in_ranges(c, &NUMERIC)
}

pub(super) fn is_alpha(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { is_letter(c) }
}

pub(super) fn is_alnum(c: char) -> bool {
    is_alpha(c) || is_numeric(c)
}

pub(super) fn is_title(c: char) -> bool {
    matches!(c,
        '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}'
        | '\u{1f98}'..='\u{1f9f}' | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title(c)
}

/// True for characters that don't count when the place of a sigma in its word is looked for.
fn is_case_ignorable(c: char) -> bool {
    matches!(c,
        '\'' | '.' | ':' | '^' | '`' | '\u{a8}' | '\u{ad}' | '\u{af}' | '\u{b4}' | '\u{b7}'
        | '\u{b8}' | '\u{2b0}'..='\u{36f}' | '\u{2018}' | '\u{2019}' | '\u{200b}'..='\u{200f}')
}

/// True if a capital sigma at a byte ends its word.
fn final_sigma(text: &str, at: usize) -> bool {
    const FAR: usize = 64;
    let before = text.get(..at).unwrap_or("").chars().rev().take(FAR);
    let after = text.get(at..).unwrap_or("").chars().skip(1).take(FAR);
    let cased = |mut chars: &mut dyn Iterator<Item = char>| {
        (&mut chars).find(|&c| !is_case_ignorable(c)).is_some_and(is_cased)
    };
    cased(&mut before.into_iter()) && !cased(&mut after.into_iter())
}

/// Cases that a text can be put into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Case {
    Upper,
    Lower,
    Title,
    Capital,
    Swap,
    Fold,
}

/// A text in a case.
pub(super) fn cased(text: &str, case: Case, safe: bool, meter: &Meter<'_>) -> Res<Value> {
    let mut out = Buf::with_capacity(meter, text.len())?;
    let mut after_cased = false;
    for (at, c) in text.char_indices() {
        let change = match case {
            Case::Title if after_cased => Case::Lower,
            Case::Capital if at > 0 => Case::Lower,
            Case::Capital => Case::Title,
            Case::Swap if c.is_uppercase() => Case::Lower,
            Case::Swap if c.is_lowercase() => Case::Upper,
            Case::Swap => {
                out.push(c)?;
                continue;
            }
            case => case,
        };
        after_cased = is_cased(c);
        match change {
            Case::Upper => c.to_uppercase().try_for_each(|c| out.push(c))?,
            Case::Lower if c == 'Σ' && final_sigma(text, at) => out.push('ς')?,
            Case::Lower | Case::Swap | Case::Capital => {
                c.to_lowercase().try_for_each(|c| out.push(c))?;
            }
            Case::Title => title(c, &mut out)?,
            Case::Fold => fold(c, &mut out)?,
        }
    }
    out.finish(safe)
}

/// A character at the start of a word.
fn title(c: char, out: &mut Buf<'_>) -> Res<()> {
    let single = |code: u32, out: &mut Buf<'_>| out.push(char::from_u32(code).unwrap_or(c));
    match c {
        '\u{1c4}'..='\u{1c6}' => out.push('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => out.push('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => out.push('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => out.push('\u{1f2}'),
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => out.push(c),
        '\u{1f80}'..='\u{1faf}' => single(c as u32 | 8, out),
        '\u{1fb3}' | '\u{1fbc}' => out.push('\u{1fbc}'),
        '\u{1fc3}' | '\u{1fcc}' => out.push('\u{1fcc}'),
        '\u{1ff3}' | '\u{1ffc}' => out.push('\u{1ffc}'),
        '\u{df}' | '\u{587}' | '\u{fb00}'..='\u{fb17}' => {
            for (at, upper) in c.to_uppercase().enumerate() {
                match at {
                    0 => out.push(upper)?,
                    _ => upper.to_lowercase().try_for_each(|c| out.push(c))?,
                }
            }
            Ok(())
        }
        '\u{1fb2}'..='\u{1ff7}' => c
            .to_uppercase()
            .enumerate()
            .try_for_each(|(at, c)| out.push(if at > 0 && c == 'Ι' { '\u{345}' } else { c })),
        c => c.to_uppercase().try_for_each(|c| out.push(c)),
    }
}

/// A character for comparisons without case.
fn fold(c: char, out: &mut Buf<'_>) -> Res<()> {
    match c {
        '\u{131}' => out.push(c),
        '\u{1e9e}' => out.push_str("ss"),
        // Cherokee folds to capitals.
        '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => {
            c.to_uppercase().try_for_each(|c| out.push(c))
        }
        c => {
            for upper in c.to_uppercase() {
                upper.to_lowercase().try_for_each(|c| out.push(c))?;
            }
            Ok(())
        }
    }
}

/// `str.islower`, and `str.isupper` with true.
pub(super) fn all_in_case(chars: impl Iterator<Item = char>, upper: bool) -> bool {
    let mut any = false;
    for c in chars {
        let (right, wrong) = match upper {
            true => (c.is_uppercase(), c.is_lowercase()),
            false => (c.is_lowercase(), c.is_uppercase()),
        };
        if wrong || is_title(c) {
            return false;
        }
        any |= right;
    }
    any
}

/// `str.istitle`.
pub(super) fn is_title_case(chars: impl Iterator<Item = char>) -> bool {
    let (mut any, mut after_cased) = (false, false);
    for c in chars {
        if c.is_uppercase() || is_title(c) {
            if after_cased {
                return false;
            }
            (any, after_cased) = (true, true);
        } else if c.is_lowercase() {
            if !after_cased {
                return false;
            }
            (any, after_cased) = (true, true);
        } else {
            after_cased = false;
        }
    }
    any
}

/// `str.isidentifier`, of ASCII and letters.
pub(super) fn is_identifier(mut chars: impl Iterator<Item = char>) -> bool {
    chars.next().is_some_and(|c| c == '_' || is_alpha(c))
        && chars.all(|c| {
            c == '_' || is_alpha(c) || is_decimal(c) || ('\u{300}'..='\u{36f}').contains(&c)
        })
}
