//! Sets of characters.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::tables;

/// A set of code points as sorted ranges that neither overlap nor touch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(Vec<(u32, u32)>);

const LAST: u32 = 0x10_ffff;

impl Ranges {
    pub(super) fn one(c: char) -> Self {
        Ranges(vec![(c as u32, c as u32)])
    }

    pub(super) fn all() -> Self {
        Ranges(vec![(0, LAST)])
    }

    pub(super) fn push(&mut self, first: u32, last: u32) {
        self.0.push((first, last));
    }

    pub(super) fn add(&mut self, other: &Ranges) {
        self.0.extend_from_slice(&other.0);
        self.normalize();
    }

    /// Sorts and joins the ranges.
    pub(super) fn normalize(&mut self) {
        self.0.sort_unstable();
        let mut kept: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match kept.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => kept.push((first, last)),
            }
        }
        self.0 = kept;
    }

    /// All code points that are not in this set.
    pub(super) fn negated(&self) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut next = 0;
        for &(first, last) in &self.0 {
            if first > next {
                out.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= LAST {
            out.push((next, LAST));
        }
        Ranges(out)
    }

    pub(super) fn intersection(&self, other: &Ranges) -> Self {
        let mut outside = self.negated();
        outside.add(&other.negated());
        outside.negated()
    }

    pub(super) fn contains(&self, c: u32) -> bool {
        let at = self.0.partition_point(|&(_, last)| last < c);
        self.0.get(at).is_some_and(|&(first, _)| first <= c)
    }

    /// Adds the other cases of all characters, as far as they are single characters.
    pub(super) fn ignore_case(&mut self) {
        // Each range of letters is small, or the set has all cases already.
        const MANY: u32 = 4096;
        let mut more = Vec::new();
        for &(first, last) in &self.0 {
            if last - first < MANY {
                (first..=last).filter_map(char::from_u32).for_each(|c| cases(c, &mut more));
            }
        }
        self.0.extend(more.into_iter().map(|c| (c as u32, c as u32)));
        self.normalize();
    }

    /// The characters of a category (`L`, `Lu`), a script, or a POSIX class; `None` for an unknown
    /// name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let short: String = name.chars().filter(|c| !matches!(c, '_' | ' ' | '-')).collect();
        let short = short.to_ascii_lowercase();
        let mut out = Ranges::default();
        let found = match short.as_str() {
            "any" => return Some(Ranges::all()),
            "ascii" => return Some(Ranges(vec![(0, 0x7f)])),
            "lc" | "casedletter" => "Lu Ll Lt",
            "letter" => "L",
            "uppercaseletter" => "Lu",
            "lowercaseletter" => "Ll",
            "titlecaseletter" => "Lt",
            "mark" => "M",
            "number" => "N",
            "punctuation" => "P",
            // With symbols, as in Oniguruma.
            "punct" => "P S",
            "symbol" => "S",
            "separator" => "Z",
            "digit" => "Nd",
            "space" => return Some(space()),
            "word" => return Some(word()),
            // Less some marks.
            "alnum" => "L M Nd Nl",
            "alpha" | "alphabetic" => "L M Nl",
            "upper" | "uppercase" => "Lu",
            "lower" | "lowercase" => "Ll",
            "cntrl" => "Cc",
            // A group of categories, or one of them.
            _ if short.len() <= 2 => &short,
            _ => "",
        };
        let wanted = tables::CATEGORIES.map(|category| {
            let starts =
                |f: &str| category.get(..f.len()).is_some_and(|c| c.eq_ignore_ascii_case(f));
            found.split(' ').any(|f| !f.is_empty() && starts(f))
        });
        tables::runs(|first, last, category| {
            if wanted[category] {
                out.push(first, last);
            }
        });
        let mut add = |text| tables::ranges(text, |first, last| out.push(first, last));
        match short.as_str() {
            "alpha" | "alphabetic" | "alnum" => add(tables::CIRCLED),
            "upper" | "uppercase" => add(tables::OTHER_UPPERCASE),
            "lower" | "lowercase" => add(tables::OTHER_LOWERCASE),
            _ => {}
        }
        let script = tables::SCRIPTS.iter().find(|(script, _)| script.eq_ignore_ascii_case(&short));
        if let Some((_, text)) = script {
            tables::ranges(text, |first, last| out.push(first, last));
        }
        out.normalize();
        if matches!(short.as_str(), "alpha" | "alphabetic" | "alnum") {
            let mut marks = Ranges::default();
            tables::ranges(tables::NOT_ALPHABETIC, |first, last| marks.push(first, last));
            out = out.intersection(&marks.negated());
        }
        (!out.0.is_empty()).then_some(out)
    }

    /// The set as it is searched.
    pub(super) fn compile(&self) -> Set {
        let mut ascii = 0;
        for c in 0..128 {
            ascii |= u128::from(self.contains(c)) << c;
        }
        let mut pages = Box::new([MIXED; 256]);
        for (page, kind) in (0u32..).zip(pages.iter_mut()) {
            let (first, last) = (page << 8, page << 8 | 0xff);
            let at = self.0.partition_point(|&(_, end)| end < first);
            *kind = match self.0.get(at) {
                Some(&(a, b)) if a <= first && b >= last => FULL,
                Some(&(a, _)) if a <= last => MIXED,
                _ => EMPTY,
            };
        }
        Set { ascii, pages, ranges: self.0.clone() }
    }
}

const EMPTY: u8 = 0;
const FULL: u8 = 1;
const MIXED: u8 = 2;

/// A set of characters, ready for searching.
#[derive(Clone, Debug)]
pub(super) struct Set {
    ascii: u128,
    /// The blocks of 256 code points below U+10000: [`EMPTY`], [`FULL`] or [`MIXED`].
    pages: Box<[u8; 256]>,
    ranges: Vec<(u32, u32)>,
}

impl Set {
    #[inline]
    pub(super) fn contains(&self, c: char) -> bool {
        let code = c as u32;
        if code < 128 {
            return self.ascii >> code & 1 == 1;
        }
        match self.pages.get((code >> 8) as usize) {
            Some(&EMPTY) => false,
            Some(&FULL) => true,
            _ => {
                let at = self.ranges.partition_point(|&(_, last)| last < code);
                self.ranges.get(at).is_some_and(|&(first, _)| first <= code)
            }
        }
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + 256 + 8 * self.ranges.capacity()
    }
}

/// Appends the other cases of a character.
fn cases(c: char, out: &mut Vec<char>) {
    let one = |mut chars: core::char::ToUppercase| chars.next().filter(|_| chars.next().is_none());
    let mut add = |c: char| out.push(c);
    let upper = one(c.to_uppercase()).unwrap_or(c);
    let mut lower = upper.to_lowercase();
    let lower = lower.next().filter(|_| lower.next().is_none()).unwrap_or(c);
    add(upper);
    add(lower);
    // The characters whose upper or lower case is an ASCII letter's.
    match lower {
        's' => add('\u{17f}'),
        'k' => add('\u{212a}'),
        'å' => add('\u{212b}'),
        _ => {}
    }
}

/// `\s`
pub(super) fn space() -> Ranges {
    let mut out = Ranges::default();
    tables::ranges("9-d 20 85 a0 1680 2000-200a 2028-2029 202f 205f 3000", |a, b| out.push(a, b));
    out
}

/// `\w`
pub(super) fn word() -> Ranges {
    let mut out = Ranges::default();
    for name in ["L", "M", "Nd", "Nl", "Pc"] {
        if let Some(part) = Ranges::named(name) {
            out.add(&part);
        }
    }
    tables::ranges(tables::WORD_EXTRA, |a, b| out.push(a, b));
    out.normalize();
    out
}
