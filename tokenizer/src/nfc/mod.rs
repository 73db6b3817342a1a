//! Unicode normalisation (UAX 15): form C, canonical decomposition and then composition, which most
//! tokenizers with normalisation use, and the other three.
//!
//! A text is scanned once. Parts that can't change, which is nearly everything in nearly every
//! text, are left alone; a part that may change extends from a character that nothing before it can
//! affect to the next such character, and is decomposed, sorted and recomposed.

mod compat;
mod tables;

use alloc::string::String;
use alloc::vec::Vec;
use compat::Compat;

use tables::{Role, combining_class, composed, decomposed, role};

/// Reusable buffers for normalisation.
#[derive(Clone, Debug, Default)]
pub(super) struct NfcScratch {
    text: String,
    /// Characters of a part: combining class, index, code point.
    chars: Vec<u64>,
}

/// The signature of [`nfc`].
pub(super) type Normalizer = for<'t> fn(&'t str, &'t mut NfcScratch) -> &'t str;

/// `text` in form C; borrowed unchanged if it is already normalised.
pub(super) fn nfc<'t>(text: &'t str, scratch: &'t mut NfcScratch) -> &'t str {
    if text.is_ascii() {
        return text;
    }
    let Some(mut at) = quick_check(text, 0) else { return text };
    let out = &mut scratch.text;
    out.clear();
    let mut done = 0;
    loop {
        let start = text[done..at].char_indices().rfind(|&(_, c)| role(c) == Role::Plain);
        let start = done + start.map_or(0, |(i, _)| i);
        let end = text[at..].char_indices().find(|&(_, c)| role(c) == Role::Plain);
        let end = end.map_or(text.len(), |(i, _)| at + i);
        out.push_str(&text[done..start]);
        normalize(&text[start..end], &mut scratch.chars);
        out.extend(scratch.chars.iter().filter_map(|&key| char::from_u32(code(key))));
        done = end;
        match quick_check(text, end) {
            Some(next) => at = next,
            None => break,
        }
    }
    out.push_str(&text[done..]);
    out
}

/// A normalisation form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    C,
    D,
    Kc,
    Kd,
}

/// Normalisation to any form, without form C's shortcuts.
#[derive(Clone, Debug)]
pub(super) struct AnyForm {
    composed: bool,
    /// Compatibility decompositions, if the form has them.
    compat: Option<Compat>,
}

impl AnyForm {
    pub(super) fn new(form: Form) -> Self {
        AnyForm {
            composed: matches!(form, Form::C | Form::Kc),
            compat: matches!(form, Form::Kc | Form::Kd).then(Compat::new),
        }
    }

    /// Appends the normal form of `text` to `out`.
    pub(super) fn append(&self, text: &str, out: &mut String) {
        if text.is_ascii() {
            out.push_str(text);
            return;
        }
        let (mut chars, mut marks) = (Vec::new(), 0);
        for c in text.chars() {
            match self.compat.as_ref().and_then(|compat| compat.get(c as u32)) {
                Some(all) => all.iter().for_each(|&c| decompose(c as u32, &mut chars, &mut marks)),
                None => decompose(c as u32, &mut chars, &mut marks),
            }
        }
        chars[marks..].sort_unstable();
        if self.composed {
            compose(&mut chars);
        }
        out.extend(chars.iter().filter_map(|&key| char::from_u32(code(key))));
    }

    /// Memory in use, in bytes, besides this value itself.
    pub(super) fn memory(&self) -> usize {
        self.compat.as_ref().map_or(0, Compat::memory)
    }
}

/// The offset of the first character at or after `from` that may change or is out of order.
fn quick_check(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut last) = (from, 0);
    while let Some(&lead) = bytes.get(at) {
        // Everything below U+0300, whose lead byte is 0xcc, is plain.
        if lead < 0xcc {
            at += if lead < 0x80 { 1 } else { 2 };
            last = 0;
            continue;
        }
        let c = text[at..].chars().next()?;
        match role(c) {
            Role::Plain => last = 0,
            Role::Mark => {
                let class = combining_class(c as u32);
                if class < last {
                    return Some(at);
                }
                last = class;
            }
            Role::Changes => return Some(at),
        }
        at += c.len_utf8();
    }
    None
}

/// A character of a part. Keys sort by class, then by position. A part has fewer characters than
/// the text has bytes, so the index fits in 35 bits.
fn key(class: u8, n: usize, c: u32) -> u64 {
    u64::from(class) << 56 | (n as u64) << 21 | u64::from(c)
}

fn class_of(key: u64) -> u8 {
    (key >> 56) as u8
}

fn code(key: u64) -> u32 {
    key as u32 & 0x1f_ffff
}

/// Writes the normalised characters of a part to `chars`.
fn normalize(part: &str, chars: &mut Vec<u64>) {
    chars.clear();
    let mut marks = 0;
    for c in part.chars() {
        decompose(c as u32, chars, &mut marks);
    }
    chars[marks..].sort_unstable();
    compose(chars);
}

/// Appends the decomposition of `c`. The characters from `marks` on are marks that are not sorted
/// yet.
fn decompose(c: u32, chars: &mut Vec<u64>, marks: &mut usize) {
    let syllable = c.wrapping_sub(HANGUL);
    if syllable < SYLLABLES {
        decompose(LEADING + syllable / (VOWELS * TRAILS), chars, marks);
        decompose(VOWEL + syllable / TRAILS % VOWELS, chars, marks);
        if !syllable.is_multiple_of(TRAILS) {
            decompose(TRAIL + syllable % TRAILS, chars, marks);
        }
        return;
    }
    if let Some(pair) = decomposed(c) {
        decompose(pair.first, chars, marks);
        if pair.second > 0 {
            decompose(pair.second, chars, marks);
        }
        return;
    }
    let class = combining_class(c);
    if class == 0 {
        chars[*marks..].sort_unstable();
        *marks = chars.len() + 1;
    }
    chars.push(key(class, chars.len(), c));
}

/// Composes decomposed and sorted characters in place.
fn compose(chars: &mut Vec<u64>) {
    // Index of the last starter; after it come only marks that did not compose with it.
    let mut starter = None;
    let mut kept = 0;
    for i in 0..chars.len() {
        let next = chars[i];
        if let Some(at) = starter {
            // A mark is blocked from the starter by one of the same class or a higher one.
            let free = kept == at + 1 || class_of(chars[kept - 1]) < class_of(next);
            if let Some(both) = pair(code(chars[at]), code(next)).filter(|_| free) {
                chars[at] = key(0, 0, both);
                continue;
            }
        }
        if class_of(next) == 0 {
            starter = Some(kept);
        }
        chars[kept] = next;
        kept += 1;
    }
    chars.truncate(kept);
}

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
const HANGUL: u32 = 0xac00;
const LEADING: u32 = 0x1100;
const VOWEL: u32 = 0x1161;
/// One before the first trailing consonant: a syllable may have none.
const TRAIL: u32 = 0x11a7;
const LEADS: u32 = 19;
const VOWELS: u32 = 21;
const TRAILS: u32 = 28;
const SYLLABLES: u32 = LEADS * VOWELS * TRAILS;

/// The composition of two characters.
fn pair(first: u32, second: u32) -> Option<u32> {
    let (lead, vowel) = (first.wrapping_sub(LEADING), second.wrapping_sub(VOWEL));
    if lead < LEADS && vowel < VOWELS {
        return Some(HANGUL + (lead * VOWELS + vowel) * TRAILS);
    }
    let (syllable, trail) = (first.wrapping_sub(HANGUL), second.wrapping_sub(TRAIL));
    if syllable < SYLLABLES && syllable.is_multiple_of(TRAILS) && (1..TRAILS).contains(&trail) {
        return Some(first + trail);
    }
    composed(first, second)
}

#[cfg(test)]
mod tests;
