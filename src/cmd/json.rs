//! JSON output.

use std::fmt::{Display, Write};

/// A JSON object under construction.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Object {
        Object(String::from("{"))
    }

    /// Adds a member whose value is already JSON.
    pub(crate) fn raw(mut self, key: &str, json: impl Display) -> Object {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&string(key));
        // Writing to a string does not fail.
        let _ = write!(self.0, ":{json}");
        self
    }

    /// Adds a string member.
    pub(crate) fn str(self, key: &str, value: &str) -> Object {
        let value = string(value);
        self.raw(key, value)
    }

    /// Adds a numeric member, or null for `None`.
    pub(crate) fn number(self, key: &str, value: Option<f64>) -> Object {
        match value {
            Some(v) if v.is_finite() => self.raw(key, v),
            _ => self.raw(key, "null"),
        }
    }

    /// Adds an integer member, or null for `None`.
    pub(crate) fn count<T: Display>(self, key: &str, value: Option<T>) -> Object {
        match value {
            Some(v) => self.raw(key, v),
            None => self.raw(key, "null"),
        }
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// An array of values that are already JSON.
pub(crate) fn array(values: impl IntoIterator<Item = impl Display>) -> String {
    let mut out = String::from("[");
    for (i, v) in values.into_iter().enumerate() {
        let _ = write!(out, "{}{v}", if i == 0 { "" } else { "," });
    }
    out.push(']');
    out
}

/// A string, quoted and escaped (RFC 8259, section 7).
pub(crate) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                // All control characters are below U+10000, so one UTF-16 unit is enough.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(string("a\"b\\c\n\u{1}\u{85}é🦙"), r#""a\"b\\c\n\u0001\u0085é🦙""#);
    }

    #[test]
    fn objects_and_arrays() {
        let o = Object::new().str("a", "b").number("x", Some(1.5)).number("y", Some(f64::NAN));
        let o = o.count("n", Some(3)).count::<u32>("m", None).raw("l", array([1, 2]));
        assert_eq!(o.end(), r#"{"a":"b","x":1.5,"y":null,"n":3,"m":null,"l":[1,2]}"#);
        assert_eq!(Object::new().end(), "{}");
        assert_eq!(array([0u8; 0]), "[]");
    }
}
