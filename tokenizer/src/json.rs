//! A strict pull parser for JSON (RFC 8259) in memory, used for config.json, tokenizer.json and the
//! header of SafeTensors files.
//!
//! It neither recurses nor allocates: each open container takes one bit of a `u128`, which is why
//! documents may nest [`MAX_DEPTH`] levels deep and no deeper. Strings and numbers are returned as
//! slices of the document, so callers allocate only for the strings they keep. Duplicate keys are
//! left to the caller, as in the RFC.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

/// Maximum nesting depth of arrays and objects.
pub const MAX_DEPTH: usize = 128;

/// A parse event, in document order.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// The key of an object member; its value is the next event.
    Key(Text<'a>),
    /// A string value.
    String(Text<'a>),
    /// A number as written, for `str::parse`: RFC 8259's grammar, of any size and precision; from
    /// [`Reader::python`] also `NaN`, `Infinity` and `-Infinity`.
    Number(&'a str),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

/// The contents of a string literal, validated: UTF-8, complete escapes, complete surrogate pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// True if the unescaped text equals `s`.
    #[must_use]
    pub fn is(&self, s: &str) -> bool {
        if self.escaped { self.chars().eq(s.chars()) } else { self.raw == s }
    }

    /// The text as written, if it has no escapes.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }

    /// The unescaped characters.
    pub fn chars(&self) -> impl Iterator<Item = char> + Clone + use<'a> {
        Chars { rest: self.raw.chars() }
    }

    /// Appends the unescaped text to `out`, which grows by at most the length of the literal: no
    /// escape is shorter than what it stands for.
    pub fn push_to(&self, out: &mut String) {
        if self.escaped { out.extend(self.chars()) } else { out.push_str(self.raw) }
    }

    /// The unescaped text; allocates only if there are escapes.
    #[must_use]
    pub fn to_cow(&self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(self.chars().collect()) } else { Cow::Borrowed(self.raw) }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

/// Iterator that unescapes a text validated by [`Reader`].
#[derive(Clone)]
struct Chars<'a> {
    rest: core::str::Chars<'a>,
}

impl Chars<'_> {
    fn hex4(&mut self) -> u32 {
        (0..4).fold(0, |v, _| v << 4 | self.rest.next().and_then(|c| c.to_digit(16)).unwrap_or(0))
    }
}

impl Iterator for Chars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c != '\\' {
            return Some(c);
        }
        Some(match self.rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let mut v = self.hex4();
                if is_high_surrogate(v) {
                    self.rest.nth(1); // the `\u` of the low surrogate
                    v = join_surrogates(v, self.hex4());
                }
                char::from_u32(v).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => other, // `"`, `\` and `/`
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The longest spelling of one character is a surrogate pair: 12 characters.
        let (low, high) = self.rest.size_hint();
        (low / 12, high)
    }
}

fn is_high_surrogate(v: u32) -> bool {
    (0xd800..0xdc00).contains(&v)
}

fn is_low_surrogate(v: u32) -> bool {
    (0xdc00..0xe000).contains(&v)
}

fn join_surrogates(high: u32, low: u32) -> u32 {
    0x10000 + ((high & 0x3ff) << 10 | low & 0x3ff)
}

/// A syntax error and its position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonError {
    /// Byte offset of the error in the document.
    pub offset: usize,
    /// The kind of error.
    pub kind: JsonErrorKind,
}

/// Kinds of JSON errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The document ends in the middle of a value.
    UnexpectedEnd,
    /// An unexpected byte.
    Unexpected {
        /// The byte.
        found: u8,
        /// Description of what was expected, such as `a value`.
        want: &'static str,
    },
    /// A string is not UTF-8.
    BadUtf8,
    /// An unescaped control character in a string.
    ControlCharacter(u8),
    /// An unknown escape sequence.
    BadEscape,
    /// An unpaired surrogate, which UTF-8 can't represent.
    LoneSurrogate(u16),
    /// A malformed number, such as `01`, `1.`, `.5` or `+1`.
    BadNumber,
    /// More than [`MAX_DEPTH`] open arrays and objects.
    TooDeep,
    /// Something other than white space after the document's value.
    Trailing,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not valid JSON at byte {}: ", self.offset)?;
        match self.kind {
            JsonErrorKind::UnexpectedEnd => {
                f.write_str("the document ends in the middle of a value (is the file cut short?)")
            }
            JsonErrorKind::Unexpected { found, want } => {
                write!(f, "expected {want}, found `{}`", found.escape_ascii())
            }
            JsonErrorKind::BadUtf8 => f.write_str("a string is not UTF-8"),
            JsonErrorKind::ControlCharacter(c) => {
                write!(f, "the control character \\u{c:04x} is not escaped in a string")
            }
            JsonErrorKind::BadEscape => f.write_str("an unknown escape sequence"),
            JsonErrorKind::LoneSurrogate(v) => {
                write!(f, "the surrogate \\u{v:04x} is unpaired")
            }
            JsonErrorKind::BadNumber => f.write_str("a malformed number"),
            JsonErrorKind::TooDeep => {
                write!(f, "arrays and objects nest deeper than {MAX_DEPTH}")
            }
            JsonErrorKind::Trailing => f.write_str("something follows the document's value"),
        }
    }
}

impl core::error::Error for JsonError {}

/// The tokens that are allowed next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A value: at the start, after a key, after a comma in an array.
    Value,
    /// A value or `]`, after `[`.
    FirstValue,
    /// A key or `}`, after `{`.
    FirstKey,
    /// A key, after a comma in an object.
    Key,
    /// A comma or the end of the container.
    Next,
    /// Only white space.
    Done,
}

/// An event-by-event reader of a document.
///
/// ```
/// use teff_tokenizer::json::{Event, Reader};
/// let mut r = Reader::new(br#"{"n_layer": 12}"#);
/// assert_eq!(r.next(), Ok(Some(Event::ObjectStart)));
/// assert!(matches!(r.next(), Ok(Some(Event::Key(k))) if k.is("n_layer")));
/// assert_eq!(r.next(), Ok(Some(Event::Number("12"))));
/// assert_eq!(r.next(), Ok(Some(Event::ObjectEnd)));
/// assert_eq!(r.next(), Ok(None));
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Bit `i` is set if the container at depth `i` is an object.
    objects: u128,
    depth: u8,
    state: State,
    /// True if numbers may be infinite or NaN.
    python: bool,
    failed: Option<JsonError>,
}

impl<'a> Reader<'a> {
    /// A reader at the start of a document: one value, surrounded by optional white space.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let (state, python, failed) = (State::Value, false, None);
        Reader { bytes, pos: 0, objects: 0, depth: 0, state, python, failed }
    }

    /// As [`new`](Self::new), for documents written by Python, whose numbers may also be `NaN`,
    /// `Infinity` and `-Infinity`.
    #[must_use]
    pub fn python(bytes: &'a [u8]) -> Self {
        Reader { python: true, ..Reader::new(bytes) }
    }

    /// Offset of the first unread byte.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.pos
    }

    /// The number of open arrays and objects.
    #[must_use]
    pub fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    /// The next event; `None` at the end of the document and from then on.
    ///
    /// # Errors
    /// [`JsonError`] if the document is not valid JSON; the same error from then on.
    #[allow(clippy::should_implement_trait)] // an iterator can't express that errors end it
    pub fn next(&mut self) -> Result<Option<Event<'a>>, JsonError> {
        if let Some(e) = self.failed {
            return Err(e);
        }
        self.advance().inspect_err(|&e| self.failed = Some(e))
    }

    /// Skips the next value with everything in it: after [`Event::Key`] the member's value, in an
    /// array the next element. Equivalent to [`next`](Self::next) unless an array or object starts
    /// there. Skipped values are validated like all others.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn skip_value(&mut self) -> Result<(), JsonError> {
        let outside = self.depth;
        self.next()?;
        while self.depth > outside {
            self.next()?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Event<'a>>, JsonError> {
        self.skip_space();
        if self.state == State::Next {
            match self.peek()? {
                b',' => {
                    self.pos += 1;
                    self.skip_space();
                    self.state = if self.in_object() { State::Key } else { State::Value };
                }
                b'}' if self.in_object() => return Ok(Some(self.close(Event::ObjectEnd))),
                b']' if !self.in_object() => return Ok(Some(self.close(Event::ArrayEnd))),
                _ if self.in_object() => return Err(self.unexpected("a comma or `}`")),
                _ => return Err(self.unexpected("a comma or `]`")),
            }
        }
        match self.state {
            State::Done if self.pos == self.bytes.len() => Ok(None),
            State::Done => Err(self.error(JsonErrorKind::Trailing)),
            State::FirstKey if self.peek()? == b'}' => Ok(Some(self.close(Event::ObjectEnd))),
            State::FirstKey | State::Key => {
                if self.peek()? != b'"' {
                    return Err(self.unexpected("a key in quotes"));
                }
                let key = self.string()?;
                self.skip_space();
                if self.peek()? != b':' {
                    return Err(self.unexpected("a colon"));
                }
                self.pos += 1;
                self.state = State::Value;
                Ok(Some(Event::Key(key)))
            }
            State::FirstValue if self.peek()? == b']' => Ok(Some(self.close(Event::ArrayEnd))),
            State::FirstValue | State::Value | State::Next => self.value().map(Some),
        }
    }

    fn value(&mut self) -> Result<Event<'a>, JsonError> {
        let event = match self.peek()? {
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'"' => Event::String(self.string()?),
            b'-' if self.python && self.bytes.get(self.pos + 1) == Some(&b'I') => {
                self.word(b"-Infinity", Event::Number("-Infinity"))?
            }
            b'I' if self.python => self.word(b"Infinity", Event::Number("Infinity"))?,
            b'N' if self.python => self.word(b"NaN", Event::Number("NaN"))?,
            b'-' | b'0'..=b'9' => Event::Number(self.number()?),
            b't' => self.word(b"true", Event::Bool(true))?,
            b'f' => self.word(b"false", Event::Bool(false))?,
            b'n' => self.word(b"null", Event::Null)?,
            _ => return Err(self.unexpected("a value")),
        };
        self.state = if self.depth == 0 { State::Done } else { State::Next };
        Ok(event)
    }

    fn open(&mut self, object: bool) -> Result<Event<'a>, JsonError> {
        if usize::from(self.depth) == MAX_DEPTH {
            return Err(self.error(JsonErrorKind::TooDeep));
        }
        let bit = 1u128 << self.depth;
        self.objects = if object { self.objects | bit } else { self.objects & !bit };
        self.depth += 1;
        self.pos += 1;
        self.state = if object { State::FirstKey } else { State::FirstValue };
        Ok(if object { Event::ObjectStart } else { Event::ArrayStart })
    }

    /// Closes the innermost container. Called only if one is open.
    fn close(&mut self, event: Event<'a>) -> Event<'a> {
        self.depth -= 1;
        self.pos += 1;
        self.state = if self.depth == 0 { State::Done } else { State::Next };
        event
    }

    /// True if the innermost open container is an object. Called only if one is open.
    fn in_object(&self) -> bool {
        self.objects >> (self.depth - 1) & 1 == 1
    }

    /// Reads the string that starts at the opening quote.
    fn string(&mut self) -> Result<Text<'a>, JsonError> {
        let start = self.pos + 1;
        self.pos = start;
        let mut escaped = false;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                c @ 0..0x20 => return Err(self.error(JsonErrorKind::ControlCharacter(c))),
                _ => self.pos += 1,
            }
        }
        let bytes = &self.bytes[start..self.pos];
        self.pos += 1;
        match core::str::from_utf8(bytes) {
            Ok(raw) => Ok(Text { raw, escaped }),
            Err(e) => {
                Err(JsonError { offset: start + e.valid_up_to(), kind: JsonErrorKind::BadUtf8 })
            }
        }
    }

    /// Validates and skips the escape that starts at the backslash.
    fn escape(&mut self) -> Result<(), JsonError> {
        let at = self.pos;
        let fail = |kind| Err(JsonError { offset: at, kind });
        self.pos += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.pos += 1,
            b'u' => {
                self.pos += 1;
                let v = self.hex4(at)?;
                if is_low_surrogate(v) {
                    return fail(JsonErrorKind::LoneSurrogate(v as u16));
                }
                if is_high_surrogate(v) {
                    for want in *b"\\u" {
                        if self.peek()? != want {
                            return fail(JsonErrorKind::LoneSurrogate(v as u16));
                        }
                        self.pos += 1;
                    }
                    if !is_low_surrogate(self.hex4(at)?) {
                        return fail(JsonErrorKind::LoneSurrogate(v as u16));
                    }
                }
            }
            _ => return fail(JsonErrorKind::BadEscape),
        }
        Ok(())
    }

    /// Reads the four hexadecimal digits of an escape that starts at `at`.
    fn hex4(&mut self, at: usize) -> Result<u32, JsonError> {
        let mut v = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()?).to_digit(16) else {
                return Err(JsonError { offset: at, kind: JsonErrorKind::BadEscape });
            };
            v = v << 4 | digit;
            self.pos += 1;
        }
        Ok(v)
    }

    /// Reads the number that starts here with a minus or a digit.
    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.pos;
        self.eat(b"-");
        if self.eat(b"0") {
            if self.bytes.get(self.pos).is_some_and(u8::is_ascii_digit) {
                return Err(self.error(JsonErrorKind::BadNumber));
            }
        } else {
            self.digits()?;
        }
        if self.eat(b".") {
            self.digits()?;
        }
        if self.eat(b"eE") {
            self.eat(b"+-");
            self.digits()?;
        }
        let bytes = &self.bytes[start..self.pos];
        // Digits, signs, a point and an `e`: always UTF-8.
        core::str::from_utf8(bytes).map_err(|_| self.error(JsonErrorKind::BadNumber))
    }

    /// Skips one or more digits.
    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek()?.is_ascii_digit() {
            return Err(self.error(JsonErrorKind::BadNumber));
        }
        while self.bytes.get(self.pos).is_some_and(u8::is_ascii_digit) {
            self.pos += 1;
        }
        Ok(())
    }

    /// Skips one byte if it is one of `any`.
    fn eat(&mut self, any: &[u8]) -> bool {
        let yes = self.bytes.get(self.pos).is_some_and(|b| any.contains(b));
        self.pos += usize::from(yes);
        yes
    }

    fn word(&mut self, word: &[u8], event: Event<'a>) -> Result<Event<'a>, JsonError> {
        for &want in word {
            if self.peek()? != want {
                return Err(self.unexpected(match self.python {
                    false => "`true`, `false` or `null`",
                    true => "`true`, `false`, `null`, `NaN` or `Infinity`",
                }));
            }
            self.pos += 1;
        }
        Ok(event)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.pos) {
            self.pos += 1;
        }
    }

    fn peek(&self) -> Result<u8, JsonError> {
        match self.bytes.get(self.pos) {
            Some(&b) => Ok(b),
            None => Err(self.error(JsonErrorKind::UnexpectedEnd)),
        }
    }

    fn unexpected(&self, want: &'static str) -> JsonError {
        match self.peek() {
            Ok(found) => self.error(JsonErrorKind::Unexpected { found, want }),
            Err(end) => end,
        }
    }

    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { offset: self.pos, kind }
    }
}
