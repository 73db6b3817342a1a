use super::*;

fn check(rule: Splitter, text: &str, want: &[&str]) {
    let got: Vec<&str> = rule.split(text).collect();
    assert_eq!(got, want, "{rule:?} {text:?}");
}

#[test]
fn gpt2_pieces() {
    let check = |text, want: &[_]| check(Splitter::Gpt2, text, want);
    check("", &[]);
    check("Hello world", &["Hello", " world"]);
    check("it's we'll I'VE '", &["it", "'s", " we", "'ll", " I", "'", "VE", " '"]);
    check("'re've'm'd't'lx''s", &["'re", "'ve", "'m", "'d", "'t", "'", "lx", "''", "s"]);
    check(" 's", &[" '", "s"]);
    check("a  b", &["a", " ", " b"]);
    check("a \n b", &["a", " \n", " b"]);
    check("a\n\nb", &["a", "\n", "\n", "b"]);
    check("a \nb", &["a", " ", "\n", "b"]);
    check("a   ", &["a", "   "]);
    check(" ", &[" "]);
    check("\u{a0}x", &["\u{a0}", "x"]);
    check("  \u{2003}x", &["  ", "\u{2003}", "x"]);
    check("x1½ Ⅷ…", &["x", "1½", " Ⅷ", "…"]);
    check("e\u{301}", &["e", "\u{301}"]);
}

#[test]
fn pieces_beside_digits() {
    let check = |text, want: &[_]| check(Splitter::Gpt2Digits, text, want);
    check("a12 3", &["a", "1", "2", " ", "3"]);
    check("a  1\n\n2  b", &["a", "  ", "1", "\n\n", "2", " ", " b"]);
    check("½Ⅷ'll 's", &["½", "Ⅷ", "'ll", " '", "s"]);
}

#[test]
fn llama3_pieces() {
    let check = |text, want: &[_]| check(Splitter::Llama3, text, want);
    check("", &[]);
    check("Hello world", &["Hello", " world"]);
    check("it's I'VE 'lL'ſ'x", &["it", "'s", " I", "'VE", " '", "lL", "'ſ", "'x"]);
    check("12345 67", &["123", "45", " ", "67"]);
    check("(a) ->b\r\n\r\n c", &["(a", ")", " ->", "b", "\r\n\r\n", " c"]);
    check("x !\n\n\n  y", &["x", " !\n\n\n", " ", " y"]);
    check("a \n  \n  b  ", &["a", " \n  \n", " ", " b", "  "]);
    check("a\u{2003} \u{3000}b", &["a", "\u{2003} ", "\u{3000}b"]);
    check("\nx\u{301}y", &["\n", "x", "\u{301}y"]);
}

#[test]
fn qwen2_has_single_digits() {
    check(Splitter::Qwen2, "a 1234'S", &["a", " ", "1", "2", "3", "4", "'S"]);
}

#[test]
fn patterns_are_known_by_their_text_alone() {
    assert_eq!(Splitter::from_pattern(r"\s+"), None);
    for &(pattern, rule) in SPELLINGS {
        assert_eq!(Splitter::from_pattern(pattern), Some(rule));
    }
}

#[test]
fn names_stand_for_one_rule() {
    let mut names: Vec<_> = Splitter::gguf_names().collect();
    let rule = |name| Splitter::from_gguf(name).map(|r| (r.splitter, r.ignore_merges, r.add_bos));
    assert_eq!(rule("gpt-2"), Some((Splitter::Gpt2, false, false)));
    assert_eq!(rule("llama-bpe"), Some((Splitter::Llama3, true, true)));
    assert_eq!(rule("dbrx"), Some((Splitter::Llama3, false, false)));
    assert_eq!(rule("deepseek-r1-qwen"), Some((Splitter::Qwen2, false, false)));
    assert_eq!(rule("smollm"), Some((Splitter::Gpt2Digits, false, false)));
    assert_eq!(rule("default"), None);
    assert!(names.iter().all(|name| rule(name).is_some()));
    names.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]));
}

/// Splitmix64.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ z >> 31) >> 8) as usize
}

/// A random text of characters that matter to the patterns, and some from all planes.
fn random(state: &mut u64) -> String {
    const CHARS: &[char] = &[
        ' ', ' ', ' ', '\n', '\n', '\r', '\t', '\u{a0}', '\u{2003}', '\u{3000}', '\u{85}', '\'',
        '\'', '\'', 's', 'S', 'ſ', 't', 'T', 'r', 'R', 'e', 'E', 'v', 'V', 'm', 'l', 'L', 'l', 'd',
        'D', 'ı', 'K', '\u{212a}', 'ß', 'ﬀ', '1', '2', '9', '½', 'Ⅷ', '٣', '.', '!', '-', '_',
        '\u{301}', '\u{20dd}', '\u{200d}', '日', 'é', '🦙', '\0', '’',
    ];
    let mut text = String::new();
    for _ in 0..next(state) % 24 {
        let c = match next(state) % 12 {
            0 => {
                let bits = 7 + next(state) % 15;
                char::from_u32((next(state) & ((1 << bits) - 1)) as u32)
            }
            _ => Some(CHARS[next(state) % CHARS.len()]),
        };
        text.extend(c);
    }
    text
}

#[test]
fn the_pieces_are_what_the_regular_expressions_find() {
    let mut state = 1;
    for &(pattern, rule) in SPELLINGS {
        let regex = fancy_regex::Regex::new(pattern).unwrap();
        for _ in 0..20_000 {
            let text = random(&mut state);
            let want: Vec<&str> = regex.find_iter(&text).map(|m| m.unwrap().as_str()).collect();
            check(rule, &text, &want);
        }
    }
    // Numbers first, then GPT-2's pattern on the text between them.
    let regex = fancy_regex::Regex::new(SPELLINGS[0].0).unwrap();
    for _ in 0..20_000 {
        let text = random(&mut state);
        let mut want = Vec::new();
        for part in text.split_inclusive(|c| class(c) == Class::Number) {
            let digit = part.char_indices().next_back().filter(|&(_, c)| class(c) == Class::Number);
            let (before, digit) = part.split_at(digit.map_or(part.len(), |(at, _)| at));
            want.extend(regex.find_iter(before).map(|m| m.unwrap().as_str()));
            want.extend(Some(digit).filter(|d| !d.is_empty()));
        }
        check(Splitter::Gpt2Digits, &text, &want);
    }
}

#[test]
fn every_character_beside_an_apostrophe_is_what_the_expression_says() {
    let regex = fancy_regex::Regex::new("^(?i:'s|'t|'re|'ve|'m|'ll|'d)").unwrap();
    for c in '\0'..=char::MAX {
        for text in [format!("'{c}e"), format!("'l{c}"), format!("'r{c}")] {
            let want = regex.find(&text).unwrap().map(|m| m.end());
            assert_eq!(llama3::contraction(text.as_bytes()), want, "{text:?}");
        }
    }
}
