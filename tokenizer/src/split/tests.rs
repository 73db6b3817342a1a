use super::super::regex::Budget;
use super::*;
use crate::test_prelude::*;

#[path = "table.rs"]
mod table;

fn check(rule: Splitter, text: &str, want: &[&str]) {
    let pre = PreTokenizer::new(&rule.steps()).unwrap();
    assert_eq!(pre.known, Some(rule));
    check_with(&pre, text, want);
}

fn check_with(pre: &PreTokenizer, text: &str, want: &[&str]) {
    let mut scratch = CutScratch::default();
    scratch.budget = Budget::new(text.len());
    let pieces = pre.cut(text, &mut scratch).unwrap();
    let got: Vec<&str> = pieces.iter().map(|&(start, end)| &text[start..end]).collect();
    assert_eq!(got, want, "{pre:?} {text:?}");
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
    assert_eq!(Fast::of_pattern(r"\s+"), None);
    for &(pattern, rule) in SPELLINGS {
        assert_eq!(Fast::of_pattern(pattern), Some(rule));
    }
    // tokenizer.json has line breaks in patterns as they are, and digits as a step of their own.
    for splitter in Splitter::ALL {
        let mut steps = splitter.steps();
        for step in &mut steps {
            if let Step::Pattern { pattern, .. } = step {
                *pattern = pattern.replace("\\r\\n", "\r\n");
            }
        }
        assert_eq!(PreTokenizer::new(&steps).unwrap().known, Some(splitter));
    }
    let digits = [Step::Digits { individual: true }, Step::Fast(Fast::Gpt2)];
    assert_eq!(PreTokenizer::new(&digits).unwrap().known, Some(Splitter::Gpt2Digits));
    assert_eq!(PreTokenizer::new(&[Step::isolated("a")]).unwrap().known, None);
    let e = PreTokenizer::new(&[Step::isolated("(a")]).unwrap_err();
    assert!(e.to_string().contains("Split by Regex (a: a `(` without its `)`"), "{e}");
}

#[test]
fn pieces_of_further_rules() {
    let text = "Hello wORLD'S 12345\n\n  x!";
    check(Splitter::Default, "Hi, a 1234", &["Hi", ",", " a", " ", "123", "4"]);
    check(Splitter::Falcon, "Hi, a 1234", &["Hi", ",", " a", " ", "123", "4"]);
    check(
        Splitter::Tekken,
        text,
        &["Hello", " w", "ORLD", "'S", " ", "1", "2", "3", "4", "5", "\n\n", " ", " x", "!"],
    );
    check(
        Splitter::Gpt4o,
        text,
        &["Hello", " w", "ORLD'S", " ", "123", "45", "\n\n", " ", " x", "!"],
    );
    check(Splitter::SuperBpe, "a b 1234567c", &["a b ", "1", "234", "567", "c"]);
    check(Splitter::TinyAya, "a 1234567 12b", &["a", " ", "1", "234", "567", " ", "12", "b"]);
    check(Splitter::AfMoe, "a1234漢字b", &["a", "1", "234", "漢字", "b"]);
    check(Splitter::Bloom, "a, (b) c", &["a", ", (", "b", ")", " c"]);
    check(Splitter::Viking, "a12", &["a", "1", "2"]);
    check(Splitter::DeepSeekLlm, "a  b\nc 12  ", &["a", " ", " b", "\n", "c", " ", "12", "  "]);
    check(Splitter::DeepSeekCoder, "a b,12", &["a", " b", ",", "1", "2"]);
    check(Splitter::DeepSeekV3, "a+b 1234か漢", &["a", "+b", " ", "123", "4", "か漢"]);
    check(Splitter::Qwen35, "e\u{301}a 12", &["e\u{301}a", " ", "1", "2"]);
    check(Splitter::SeedCoder, "a!\n\nb", &["a", "!", "\n\n", "b"]);
    check(Splitter::KimiK2, "a漢字B's", &["a", "漢字", "B's"]);
    check(Splitter::Laguna, "a \n\n b", &["a", " ", "\n\n", " b"]);
    check(Splitter::ExaoneMoe, "a b  c", &["a b", " ", " c"]);
    check(Splitter::MiniCpm5, "a 1234", &["a", " ", "123", "4"]);
    check(Splitter::Jais2, "a     b", &["a", "    ", " b"]);
    check(Splitter::Youtu, "한글a漢", &["한글", "a", "漢"]);
    check(Splitter::Ufakzeka, "a's", &["a", "'s"]);
    check(Splitter::Chameleon, "a1IMGIMGAZ  b", &["a", "1", "IMGIMGAZ", "  ", "b"]);
    check(Splitter::Spark25, "a!\n\nb", &["a", "!", "\n", "\n", "b"]);
}

#[test]
fn white_space_and_digits_without_end_take_no_time() {
    let pre = PreTokenizer::new(&Splitter::DeepSeekLlm.steps()).unwrap();
    let text = format!("{}x", " ".repeat(20_000));
    let mut scratch = CutScratch::default();
    scratch.budget = Budget::new(30_000);
    assert_eq!(pre.cut(&text, &mut scratch).unwrap().len(), 2);
    for splitter in [Splitter::SuperBpe, Splitter::TinyAya, Splitter::AfMoe] {
        let pre = PreTokenizer::new(&splitter.steps()).unwrap();
        scratch.budget = Budget::new(30_000);
        assert_eq!(pre.cut(&"1".repeat(30_000), &mut scratch).unwrap().len(), 10_000);
    }
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
            assert_eq!(rule.split(&text).collect::<Vec<_>>(), want, "{rule:?} {text:?}");
        }
    }
    // Numbers first, then GPT-2's pattern on the text between them.
    let regex = fancy_regex::Regex::new(GPT2).unwrap();
    for _ in 0..20_000 {
        let text = random(&mut state);
        let mut want = Vec::new();
        for part in text.split_inclusive(|c| class(c) == Class::Number) {
            let digit = part.char_indices().next_back().filter(|&(_, c)| class(c) == Class::Number);
            let (before, digit) = part.split_at(digit.map_or(part.len(), |(at, _)| at));
            want.extend(regex.find_iter(before).map(|m| m.unwrap().as_str()));
            want.extend(Some(digit).filter(|d| !d.is_empty()));
        }
        assert_eq!(Fast::Gpt2Digits.split(&text).collect::<Vec<_>>(), want, "{text:?}");
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
