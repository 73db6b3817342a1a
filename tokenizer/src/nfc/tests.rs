use std::println;

use crate::test_prelude::*;
use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, compose, decompose_canonical};

use super::*;

fn check(text: &str, scratch: &mut NfcScratch) {
    let want: String = text.nfc().collect();
    let got = nfc(text, scratch);
    assert_eq!(got, want, "{:?}", text.escape_unicode().to_string());
}

#[test]
fn every_character_is_what_the_crate_says() {
    let version = unicode_normalization::UNICODE_VERSION;
    assert_eq!(version, crate::UNICODE_VERSION);
    let mut scratch = NfcScratch::default();
    for c in '\0'..=char::MAX {
        assert_eq!(combining_class(c as u32), canonical_combining_class(c), "{c:?}");
        let mut text = String::from(c);
        check(&text, &mut scratch);
        // Decomposed, and followed by characters that compose with many others.
        text = text.nfd().collect();
        check(&text, &mut scratch);
        check(&format!("a{c}\u{301}{c}\u{327}"), &mut scratch);
    }
}

#[test]
fn every_pair_is_what_the_crate_says() {
    // Every character that can be second, after every one that can be first.
    let second = ('\0'..=char::MAX).filter(|&c| role(c) == Role::Changes);
    let second: Vec<char> = second.filter(|c| !('\u{f900}'..'\u{fb00}').contains(c)).collect();
    let mut first: Vec<char> = ('\0'..='\u{3100}').chain('\u{ac00}'..='\u{ad00}').collect();
    first.extend('\u{10000}'..='\u{1d300}');
    let first = first.into_iter().filter(|&c| role(c) == Role::Plain);
    let second: Vec<char> = second.into_iter().filter(|&c| (c as u32) < 0x1d000).collect();
    for a in first.step_by(3) {
        for &b in second.iter().step_by(2) {
            assert_eq!(pair(a as u32, b as u32), compose(a, b).map(u32::from), "{a:?} {b:?}");
        }
    }
}

/// Splitmix64.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ z >> 31) >> 8) as usize
}

#[test]
fn random_texts_are_what_the_crate_says() {
    let interesting: Vec<char> = ('\0'..=char::MAX).filter(|&c| role(c) != Role::Plain).collect();
    let compose_to: Vec<char> = ('\0'..=char::MAX).filter(|c| c.nfd().count() > 1).collect();
    let (mut state, mut scratch, mut text) = (1, NfcScratch::default(), String::new());
    for _ in 0..200_000 {
        text.clear();
        for _ in 0..next(&mut state) % 12 {
            let any = |from: &[char], state: &mut u64| from[next(state) % from.len()];
            match next(&mut state) % 8 {
                0 => text.push((b'A' + (next(&mut state) % 60) as u8) as char),
                1 | 2 => text.push(any(&interesting, &mut state)),
                3 => text.push(any(&compose_to, &mut state)),
                4 => text.extend(any(&compose_to, &mut state).nfd()),
                5 => text.extend(char::from_u32(0x300 + (next(&mut state) % 0x70) as u32)),
                6 => text.extend(char::from_u32(0x1100 + (next(&mut state) % 0x100) as u32)),
                _ => text.extend(char::from_u32((next(&mut state) % 0x3100) as u32)),
            }
        }
        check(&text, &mut scratch);
        let once = String::from(nfc(&text, &mut scratch));
        assert_eq!(nfc(&once, &mut scratch), once);
    }
}

#[test]
fn what_is_normal_is_left_where_it_is() {
    let mut scratch = NfcScratch::default();
    for text in ["", "abc", "é日本語 한국어 Ünïcödé привет عربي", "q\u{308}x", "q\u{323}\u{308}"]
    {
        let same = text.nfc().eq(text.chars());
        assert!(same);
        let got = nfc(text, &mut scratch);
        if !text.chars().any(|c| role(c) == Role::Changes) {
            assert_eq!(got.as_ptr(), text.as_ptr(), "{text:?}");
        }
        assert_eq!(got, text);
    }
}

#[test]
fn a_megabyte_of_marks_is_no_trouble() {
    let mut scratch = NfcScratch::default();
    for part in ["\u{301}", "\u{301}\u{327}", "\u{1100}\u{1161}", "a\u{301}", "\u{344}\u{f900}"] {
        check(&part.repeat(1 << 18), &mut scratch);
    }
}

/// Prints the tables for the constants in tables.rs, broken into lines.
#[test]
#[ignore = "prints tables"]
fn print_nfc_tables() {
    let decompose = |c: char| {
        let mut all = Vec::new();
        decompose_canonical(c, |part| all.push(part));
        all
    };
    println!("marks");
    let mut ranges: Vec<(u32, u32, u8)> = Vec::new();
    for c in '\0'..=char::MAX {
        let (c, class) = (c as u32, canonical_combining_class(c));
        match ranges.last_mut() {
            _ if class == 0 => {}
            Some(last) if (last.1 + 1, last.2) == (c, class) => last.1 = c,
            _ => ranges.push((c, c, class)),
        }
    }
    print_lines(ranges.into_iter().map(|(a, b, class)| match a == b {
        true => format!("{a:x}={class:x}"),
        false => format!("{a:x}-{b:x}={class:x}"),
    }));

    println!("decompositions");
    let all = || ('\0'..=char::MAX).filter(|c| !('\u{ac00}'..='\u{d7a3}').contains(c));
    // Of several characters with the same decomposition, the one that it composes to.
    let mut whole: HashMap<Vec<char>, char> = HashMap::new();
    for c in all() {
        let parts = decompose(c);
        let composes = parts.iter().copied().nfc().eq([c]);
        if parts.len() > 1 && (composes || !whole.contains_key(&parts)) {
            whole.insert(parts, c);
        }
    }
    let (mut words, mut next) = (Vec::new(), 0);
    for c in all() {
        let parts = decompose(c);
        if parts == [c] {
            continue;
        }
        if c as u32 != next {
            words.push(format!("@{:x}", c as u32));
        }
        next = c as u32 + 1;
        let twin = whole.get(&parts).filter(|&&twin| twin != c);
        words.push(match (&parts[..], twin) {
            (&[one], _) | (_, Some(&one)) => format!("{:x}", one as u32),
            ([first @ .., last], None) => {
                let first = if let [one] = *first { one } else { whole[first] };
                let sign = if compose(first, *last) == Some(c) { '+' } else { '*' };
                format!("{:x}{sign}{:x}", first as u32, *last as u32)
            }
            ([], None) => unreachable!(),
        });
    }
    print_lines(words.into_iter());
}

fn print_lines(words: impl Iterator<Item = String>) {
    let mut line = String::from("   ");
    for word in words {
        if line.len() + 1 + word.len() > 97 {
            println!("{line} \\");
            line.truncate(3);
        }
        line.push(' ');
        line.push_str(&word);
    }
    println!("{line}");
}

#[test]
fn every_form_of_every_character_is_what_the_crate_says() {
    use unicode_normalization::UnicodeNormalization;
    let forms = [Form::C, Form::D, Form::Kc, Form::Kd].map(AnyForm::new);
    for c in '\0'..=char::MAX {
        let text = format!("{c}\u{301}\u{323}");
        let wanted: [String; 4] = [
            text.nfc().collect(),
            text.nfd().collect(),
            text.nfkc().collect(),
            text.nfkd().collect(),
        ];
        for (form, want) in forms.iter().zip(wanted) {
            let mut got = String::new();
            form.append(&text, &mut got);
            assert_eq!(got, want, "{form:?} of {c:?}");
        }
    }
}
