use super::*;

/// All matches, as the starts and ends that a search finds one after the other.
fn all(pattern: &str, text: &str) -> Vec<(usize, usize)> {
    let regex = Regex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    let (mut scratch, mut budget) = (RegexScratch::default(), Budget::new(text.len()));
    let (mut at, mut found) = (0, Vec::new());
    while at <= text.len() {
        let Some((start, end)) = regex.find(text, at, &mut scratch, &mut budget).unwrap() else {
            break;
        };
        found.push((start, end));
        at = end;
        if start == end {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

fn check(pattern: &str, text: &str, want: &[&str]) {
    let found: Vec<&str> = all(pattern, text).iter().map(|&(a, b)| &text[a..b]).collect();
    assert_eq!(found, want, "{pattern} in {text:?}");
}

#[test]
fn constructs() {
    check("ab|a", "abaa", &["ab", "a", "a"]);
    check("a{2,3}", "aaaaaa a", &["aaa", "aaa"]);
    check("a{2,}?b?", "aaab", &["aa"]);
    check("a{,2}b", "aaab", &["aab"]);
    check("a{2}?b", "ab aab", &["b", "aab"]);
    check("(?:ab)+", "ababa", &["abab"]);
    check("(?:ab)+?c|a", "ababc", &["ababc"]);
    check("(?:ab){2}", "ababab", &["abab"]);
    check("a++a|b", "aab", &["b"]);
    check("(?>a+)b|c", "aabc", &["aab", "c"]);
    check("(?:a|ab)(?:c|bcd)", "abcd", &["abcd"]);
    check("a(?=b)", "aab", &["a"]);
    check("a(?!b)", "aab", &["a"]);
    check("(?<=a)b", "bab", &["b"]);
    check("(?<!a|bc)d", "ad bcd xd", &["d"]);
    check("^a|b$", "a\nab\nb", &["a", "a", "b", "b"]);
    check(r"\Aa|b\z", "a\nab", &["a", "b"]);
    check(r"\bé\b", "é aé é", &["é", "é"]);
    check("[a-c&&[^b]]+", "abc", &["a", "c"]);
    check("[a-c[x-z]]+|[]-]", "axb]-", &["axb", "]", "-"]);
    check("[^\\n]+", "a\nb", &["a", "b"]);
    check("(?i:É|'s)", "é'S'ſ", &["é", "'S", "'ſ"]);
    check("(?i)a(?-i)b", "AbAB", &["Ab"]);
    check("a.c", "abc a\nc", &["abc"]);
    check("(?m:a.c)", "a\nc", &["a\nc"]);
    check(r"\x41\u00e9\x{1F999}\.", "Aé🦙.", &["Aé🦙."]);
    check(r"\p{Lu}\p{^Lu}\P{Lu}", "Abc", &["Abc"]);
    check("[[:digit:]][[:^digit:]]", "1a", &["1a"]);
    check(r"\p{Han}+|\p{Greek}|x", "漢字xΩ", &["漢字", "x", "Ω"]);
}

#[test]
fn a_pattern_that_cannot_be_used_says_why() {
    let cases = [
        ("(a", "a `(` without its `)`"),
        ("a)", "a `)` without its `(`"),
        ("[a", "a `[` without its `]`"),
        ("*a", "a `*` that repeats nothing"),
        (r"\p{Nonsense}", "the property `Nonsense`"),
        (r"\p{Script_Extensions}", "the property `Script_Extensions`"),
        (r"(a)\1", r"the escape `\1`"),
        ("(?:a*)*", "a repetition of something that may be empty"),
        ("(?<=a*)b", "a look-behind of several lengths"),
        ("[z-a]", "the range z-a"),
        ("a{2000}", "the count {2000}"),
        ("(?x:a)", "the option `(?x`"),
        ("a\\", "a `\\` at the end"),
    ];
    for (pattern, why) in cases {
        assert_eq!(Regex::new(pattern).unwrap_err(), why, "{pattern}");
    }
    assert!(Regex::new(&"(".repeat(1000)).is_err());
    assert!(Regex::new(&"a".repeat(10_000)).is_err());
    assert!(Regex::new("(?:(?:(?:a{900}){900}){900})").is_err());
}

#[test]
fn a_search_that_takes_too_many_steps_is_an_error() {
    let regex = Regex::new("(?:(?:a|a|ab)+)+c").unwrap();
    let text = "a".repeat(64);
    let (mut scratch, mut budget) = (RegexScratch::default(), Budget(100_000));
    assert_eq!(regex.find(&text, 0, &mut scratch, &mut budget), Err(TooManySteps));
    // Ways to go on that pile up take no more memory than the text allows.
    let regex = Regex::new(&format!("(?:{}x)+y", "(?:|b)".repeat(1000))).unwrap();
    let text = "x".repeat(4000);
    let mut budget = Budget::new(1 << 30);
    assert_eq!(regex.find(&text, 0, &mut scratch, &mut budget), Err(TooManySteps));
    assert!(scratch.stack.capacity() < 4 * (FRAMES + FRAMES_PER_BYTE * text.len()));
}

#[test]
fn every_character_is_in_the_classes_that_the_regex_crate_says() {
    let classes = [
        r"\p{L}",
        r"\p{Lu}",
        r"\p{Ll}",
        r"\p{Lt}",
        r"\p{Lm}",
        r"\p{Lo}",
        r"\p{M}",
        r"\p{Mn}",
        r"\p{N}",
        r"\p{Nd}",
        r"\p{P}",
        r"\p{S}",
        r"\p{Z}",
        r"\p{Cc}",
        r"\p{Cf}",
        r"\p{Co}",
        r"\s",
        r"\w",
        r"\d",
        r"[^\p{L}\p{M}]",
    ];
    for class in classes {
        let (ours, theirs) = (Regex::new(class).unwrap(), regex::Regex::new(class).unwrap());
        let set = &ours.sets[0];
        for c in '\0'..=char::MAX {
            let want = match (class, c) {
                // tokenizers 0.23.3, with Oniguruma, has other word characters than the crate here.
                (r"\w", '²' | '³' | '¹' | '¼'..='¾') => true,
                (r"\w", '\u{200c}' | '\u{200d}') => false,
                _ => theirs.is_match(c.encode_utf8(&mut [0; 4])),
            };
            assert_eq!(set.contains(c), want, "{class} {c:?}");
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
fn random_patterns_find_what_another_engine_finds() {
    let atoms =
        ["a", "b", "[ab]", "[^a]", "é", r"\p{L}", r"\s", ".", "(?=a)", "(?!b)", r"\b", "(?<=a)"];
    let counts = ["", "", "", "?", "*", "+", "+?", "*?", "{1,2}", "++", "?+"];
    let mut state = 7;
    let mut tried = 0;
    let cases = if std::env::var_os("TEFF_FULL").is_some() { 3000 } else { 1000 };
    for _ in 0..cases {
        let mut pattern = String::new();
        for _ in 0..1 + next(&mut state) % 3 {
            let mut part = String::new();
            for _ in 0..1 + next(&mut state) % 3 {
                let atom = atoms[next(&mut state) % atoms.len()];
                let zero = atom.starts_with("(?") || atom == r"\b";
                part += atom;
                part += if zero { "" } else { counts[next(&mut state) % counts.len()] };
            }
            match next(&mut state) % 4 {
                0 => pattern += &format!("(?:{part}|a)"),
                1 => pattern += &format!("{part}|"),
                2 => pattern += &format!("(?>{part})"),
                _ => pattern += &part,
            }
        }
        let (Ok(_), Ok(theirs)) = (Regex::new(&pattern), fancy_regex::Regex::new(&pattern)) else {
            continue;
        };
        tried += 1;
        for _ in 0..6 {
            let chars = ['a', 'b', 'a', 'b', 'é', ' ', 'c'];
            let n = next(&mut state) % 9;
            let text: String = (0..n).map(|_| chars[next(&mut state) % chars.len()]).collect();
            let first = all(&pattern, &text).first().copied();
            let want = theirs.find(&text).unwrap().map(|m| (m.start(), m.end()));
            assert_eq!(first, want, "{pattern} in {text:?}");
        }
    }
    assert!(tried > cases * 2 / 3, "{tried} of {cases}");
}

#[test]
fn posix_classes_have_oniguruma_s_members() {
    // Their number and the sum of their code points, by Oniguruma with Unicode 16 (the library
    // tokenizers 0.22.2 has it).
    for (name, count, sum) in [
        ("alpha", 142_759, 15_314_421_907),
        ("alnum", 143_519, 15_354_313_357),
        ("upper", 1_978, 97_237_165),
        ("lower", 2_569, 117_919_901),
    ] {
        let set = Ranges::named(name).unwrap();
        let all = (0..=u32::from(char::MAX)).filter(|&c| set.contains(c));
        let found = all.fold((0, 0u64), |(n, s), c| (n + 1, s + u64::from(c)));
        assert_eq!(found, (count, sum), "{name}");
    }
    // An accent is a mark that is not alphabetic, a vowel sign is one that is.
    check("[[:alpha:]]+", "e\u{301}e \u{915}\u{93e}", &["e", "e", "\u{915}\u{93e}"]);
    check(r"\p{Alphabetic}\p{Lowercase}\p{Uppercase}", "ⓐªⅣ", &["ⓐªⅣ"]);
}
