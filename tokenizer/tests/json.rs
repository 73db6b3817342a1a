//! Properties of the JSON reader.

use proptest::prelude::*;
use teff_tokenizer::json::{Event, JsonError, JsonErrorKind as K, MAX_DEPTH, Reader};

/// A document in memory, for comparison.
#[derive(Clone, PartialEq, Debug)]
enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

/// Reads the value that starts with `event`.
fn build<'a>(r: &mut Reader<'a>, event: Event<'a>) -> Result<Value, JsonError> {
    Ok(match event {
        Event::Null => Value::Null,
        Event::Bool(b) => Value::Bool(b),
        Event::Number(n) => Value::Number(n.into()),
        Event::String(t) => Value::Text(t.to_cow().into_owned()),
        Event::ArrayStart => {
            let mut items = Vec::new();
            loop {
                match r.next()?.unwrap() {
                    Event::ArrayEnd => break Value::Array(items),
                    e => items.push(build(r, e)?),
                }
            }
        }
        Event::ObjectStart => {
            let mut members = Vec::new();
            loop {
                match r.next()?.unwrap() {
                    Event::ObjectEnd => break Value::Object(members),
                    Event::Key(k) => {
                        let e = r.next()?.unwrap();
                        members.push((k.chars().collect(), build(r, e)?));
                    }
                    e => panic!("{e:?} where a key should be"),
                }
            }
        }
        e => panic!("{e:?} where a value should be"),
    })
}

fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut r = Reader::new(bytes);
    let first = r.next()?.unwrap();
    let value = build(&mut r, first)?;
    assert_eq!(r.next()?, None);
    assert_eq!((r.next()?, r.offset(), r.depth()), (None, bytes.len(), 0));
    Ok(value)
}

/// Reads all events; bounded, so that a reader that doesn't advance is detected.
fn drain(bytes: &[u8]) -> Result<usize, JsonError> {
    let mut r = Reader::new(bytes);
    let mut n = 0;
    let end = loop {
        match r.next() {
            Ok(Some(_)) => n += 1,
            Ok(None) => break Ok(n),
            Err(e) => break Err(e),
        }
        assert!(n <= bytes.len());
    };
    if let Err(e) = end {
        assert!(e.offset <= bytes.len(), "{e}");
        assert_eq!(r.next(), Err(e), "an error stays");
        assert_eq!(r.skip_value(), Err(e));
    }
    end
}

/// Writes a string, with escapes selected by the bits of `how`.
fn write_text(text: &str, how: u64, out: &mut String) {
    out.push('"');
    for (i, c) in text.chars().enumerate() {
        let escape = how >> (i % 64) & 1 == 1;
        match c {
            '"' if !escape => out.push_str("\\\""),
            '\\' if !escape => out.push_str("\\\\"),
            '\n' if !escape => out.push_str("\\n"),
            '\t' if !escape => out.push_str("\\t"),
            '\u{8}' if !escape => out.push_str("\\b"),
            '\u{c}' if !escape => out.push_str("\\f"),
            '/' if !escape => out.push_str("\\/"),
            c if escape || c < ' ' => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&match i % 2 {
                        0 => format!("\\u{unit:04x}"),
                        _ => format!("\\u{unit:04X}"),
                    });
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Advances to new random bits, and writes the white space that they select.
fn space(how: &mut u64, out: &mut String) -> u64 {
    *how = how.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x55;
    out.push_str(["", "", " ", "\n", "\t", "\r\n  ", "", ""][(*how >> 40) as usize % 8]);
    *how
}

/// Writes a document, with white space and escapes selected by the bits of `how`.
fn write(value: &Value, how: &mut u64, out: &mut String) {
    let h = space(how, out);
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(&b.to_string()),
        Value::Number(n) => out.push_str(n),
        Value::Text(t) => write_text(t, h, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write(item, how, out);
            }
            if items.is_empty() {
                space(how, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (key, item)) in members.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_text(key, h.rotate_left(i as u32), out);
                out.push(':');
                write(item, how, out);
            }
            if members.is_empty() {
                space(how, out);
            }
            out.push('}');
        }
    }
    if matches!(value, Value::Array(_) | Value::Object(_) | Value::Text(_)) {
        out.push_str(["", " ", "\n"][h as usize % 3]);
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,8}",
        proptest::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter)
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?".prop_map(Value::Number),
        text().prop_map(Value::Text),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((text(), inner), 0..6).prop_map(Value::Object),
        ]
    })
}

/// Self-delimiting documents, so that every truncation is an error.
fn document() -> impl Strategy<Value = (Value, String)> {
    (proptest::collection::vec(value(), 0..4), any::<u64>()).prop_map(|(items, mut how)| {
        let (value, mut out) = (Value::Array(items), String::new());
        write(&value, &mut how, &mut out);
        out.truncate(out.trim_end().len());
        (value, out)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_written_document_reads_as_what_it_was((value, json) in document()) {
        prop_assert_eq!(parse(json.as_bytes()).unwrap(), value, "{}", json);
    }

    #[test]
    fn a_cut_document_ends_too_early((_, json) in document()) {
        for cut in 0..json.len() {
            let e = drain(&json.as_bytes()[..cut]).unwrap_err();
            prop_assert!(e.kind == K::UnexpectedEnd && e.offset == cut, "{} {}", cut, e);
        }
    }

    #[test]
    fn skipping_lands_where_reading_does((value, json) in document(), take in any::<u64>()) {
        let mut r = Reader::new(json.as_bytes());
        r.next().unwrap();
        let Value::Array(items) = value else { unreachable!() };
        for (i, item) in items.iter().enumerate() {
            if take >> (i % 64) & 1 == 1 {
                r.skip_value().unwrap();
            } else {
                let e = r.next().unwrap().unwrap();
                prop_assert_eq!(&build(&mut r, e).unwrap(), item);
            }
        }
        prop_assert_eq!(r.next().unwrap(), Some(Event::ArrayEnd));
        let mut r = Reader::new(json.as_bytes());
        r.skip_value().unwrap();
        prop_assert_eq!(r.next().unwrap(), None);
    }

    #[test]
    fn mutations_never_panic(
        (_, json) in document(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut bytes = json.into_bytes();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes[at] = b"\"\\{}[],:u0e-."[usize::from(byte) % 13],
            }
            let _ = drain(&bytes);
            if let Err(e) = Reader::new(&bytes).skip_value() {
                prop_assert!(!e.to_string().is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = drain(&bytes);
    }

    #[test]
    fn texts_say_the_same_in_every_way(text in text(), other in text(), how in any::<u64>()) {
        let mut json = String::new();
        write_text(&text, how, &mut json);
        let Ok(Some(Event::String(t))) = Reader::new(json.as_bytes()).next() else { panic!() };
        let mut pushed = "x".to_string();
        t.push_to(&mut pushed);
        prop_assert_eq!(&pushed[1..], &text);
        prop_assert_eq!(t.to_string(), text.clone());
        prop_assert_eq!(t.to_cow(), text.clone());
        prop_assert!(t.as_str().is_none_or(|s| s == text));
        prop_assert!(t.is(&text));
        prop_assert_eq!(t.is(&other), text == other);
        let n = t.chars().count();
        let (low, high) = t.chars().size_hint();
        prop_assert!(low <= n && n <= high.unwrap());
    }
}

#[test]
fn errors_say_where_and_what() {
    let unexpected = |found, want| K::Unexpected { found, want };
    let cases: &[(&[u8], usize, K)] = &[
        (b"", 0, K::UnexpectedEnd),
        (b"  ", 2, K::UnexpectedEnd),
        (b"1 2", 2, K::Trailing),
        (b"{} x", 3, K::Trailing),
        (b"\xef\xbb\xbf1", 0, unexpected(0xef, "a value")),
        (b"[1,]", 3, unexpected(b']', "a value")),
        (b"[1 2]", 3, unexpected(b'2', "a comma or `]`")),
        (b"[1}", 2, unexpected(b'}', "a comma or `]`")),
        (b"{\"a\":1]", 6, unexpected(b']', "a comma or `}`")),
        (b"{\"a\" 1}", 5, unexpected(b'1', "a colon")),
        (b"{1:2}", 1, unexpected(b'1', "a key in quotes")),
        (b"{\"a\":1,}", 7, unexpected(b'}', "a key in quotes")),
        (b"{,}", 1, unexpected(b',', "a key in quotes")),
        (b"[,]", 1, unexpected(b',', "a value")),
        (b"nul1", 3, unexpected(b'1', "`true`, `false` or `null`")),
        (b"nullx", 4, K::Trailing),
        (b"NaN", 0, unexpected(b'N', "a value")),
        (b"+1", 0, unexpected(b'+', "a value")),
        (b"01", 1, K::BadNumber),
        (b"-01", 2, K::BadNumber),
        (b"[-]", 2, K::BadNumber),
        (b"[1.]", 3, K::BadNumber),
        (b"[.5]", 1, unexpected(b'.', "a value")),
        (b"[1e]", 3, K::BadNumber),
        (b"[1e+]", 4, K::BadNumber),
        (b"1.", 2, K::UnexpectedEnd),
        (b"\"a\nb\"", 2, K::ControlCharacter(b'\n')),
        (b"\"\x7f\"x", 3, K::Trailing),
        (b"\"a\\x\"", 2, K::BadEscape),
        (b"\"\\u12g4\"", 1, K::BadEscape),
        (b"\"\\u+123\"", 1, K::BadEscape),
        (b"\"\\ud83d\"", 1, K::LoneSurrogate(0xd83d)),
        (b"\"\\ud83d\\n\"", 1, K::LoneSurrogate(0xd83d)),
        (b"\"\\ud83d\\ud83d\"", 1, K::LoneSurrogate(0xd83d)),
        (b"\"xx\\udead\"", 3, K::LoneSurrogate(0xdead)),
        (b"\"ab\xff\"", 3, K::BadUtf8),
        (b"\"\xed\xa0\x80\"", 1, K::BadUtf8),
        (b"\"\xc0\x80\"", 1, K::BadUtf8),
    ];
    for &(json, offset, kind) in cases {
        let shown = json.escape_ascii();
        assert_eq!(drain(json), Err(JsonError { offset, kind }), "{shown}");
        let message = JsonError { offset, kind }.to_string();
        assert!(message.contains(&format!("byte {offset}: ")), "{message}");
    }
}

#[test]
fn nesting_ends_at_128_in_every_mixture() {
    for pattern in [0u128, !0, 0x5555_5555_5555_5555_5555_5555_5555_5555, 0xdead_beef << 64 | 7] {
        let nest = |depth: usize| {
            let object = |i: usize| pattern >> (i % 128) & 1 == 1;
            let mut json = String::new();
            (0..depth).for_each(|i| json.push_str(if object(i) { "{\"\":" } else { "[" }));
            json.push('0');
            (0..depth).rev().for_each(|i| json.push(if object(i) { '}' } else { ']' }));
            json
        };
        assert!(drain(nest(MAX_DEPTH).as_bytes()).is_ok());
        let deep = nest(MAX_DEPTH + 1);
        let mut r = Reader::new(deep.as_bytes());
        let e = r.skip_value().unwrap_err();
        assert_eq!(e.kind, K::TooDeep);
        assert_eq!(r.depth(), MAX_DEPTH);
    }
    assert!(drain(&vec![b'['; 1 << 20]).is_err());
}
