//! Reading JSON documents: an event at a time, or small parts of them as values.

use alloc::string::String;
use alloc::vec::Vec;

use super::TokenizerError;
use crate::json::{Event, JsonError, Reader, Text};

/// A JSON document being read, whose errors name its file.
#[derive(Clone)]
pub(super) struct Doc<'a> {
    file: &'static str,
    reader: Reader<'a>,
}

type Result<T> = core::result::Result<T, TokenizerError>;

impl<'a> Doc<'a> {
    /// `bytes` of `file`. Of a folder's files, all but tokenizer.json are read by Python.
    pub(super) fn new(file: &'static str, bytes: &'a [u8]) -> Self {
        let strict = file == "tokenizer.json";
        Doc { file, reader: if strict { Reader::new(bytes) } else { Reader::python(bytes) } }
    }

    fn json(&self, error: JsonError) -> TokenizerError {
        TokenizerError::Json { file: self.file, error }
    }

    pub(super) fn wrong(&self, want: &'static str) -> TokenizerError {
        TokenizerError::WrongField { file: self.file, offset: self.reader.offset(), want }
    }

    pub(super) fn missing(&self, field: &'static str) -> TokenizerError {
        TokenizerError::MissingField { file: self.file, field }
    }

    pub(super) fn next(&mut self, want: &'static str) -> Result<Event<'a>> {
        let event = self.reader.next().map_err(|e| self.json(e))?;
        event.ok_or_else(|| self.wrong(want))
    }

    pub(super) fn skip(&mut self) -> Result<()> {
        self.reader.skip_value().map_err(|e| self.json(e))
    }

    /// Skips the next value, and returns a reader positioned before it.
    pub(super) fn bookmark(&mut self) -> Result<Doc<'a>> {
        let here = self.clone();
        self.skip()?;
        Ok(here)
    }

    /// Reads to the end of the document, so that all of it has been validated.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.reader.next().map_err(|e| self.json(e))? {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the document")),
        }
    }

    pub(super) fn object(&mut self, want: &'static str) -> Result<()> {
        match self.next(want)? {
            Event::ObjectStart => Ok(()),
            _ => Err(self.wrong(want)),
        }
    }

    /// The next key of the current object; `None` at its end.
    pub(super) fn key(&mut self) -> Result<Option<Text<'a>>> {
        match self.next("a key")? {
            Event::Key(key) => Ok(Some(key)),
            _ => Ok(None),
        }
    }

    pub(super) fn array(&mut self, want: &'static str) -> Result<()> {
        match self.next(want)? {
            Event::ArrayStart => Ok(()),
            _ => Err(self.wrong(want)),
        }
    }

    pub(super) fn text(&mut self, want: &'static str) -> Result<Text<'a>> {
        match self.next(want)? {
            Event::String(text) => Ok(text),
            _ => Err(self.wrong(want)),
        }
    }

    pub(super) fn flag(&mut self, want: &'static str) -> Result<bool> {
        match self.next(want)? {
            Event::Bool(v) => Ok(v),
            _ => Err(self.wrong(want)),
        }
    }

    pub(super) fn id(&mut self) -> Result<u64> {
        let want = "a token id, an integer from 0";
        match self.next(want)? {
            Event::Number(n) => n.parse().map_err(|_| self.wrong(want)),
            _ => Err(self.wrong(want)),
        }
    }

    /// The next value as a whole. Nesting is bounded by the reader.
    pub(super) fn value(&mut self) -> Result<Value> {
        let event = self.next("a value")?;
        self.value_of(event)
    }

    fn value_of(&mut self, event: Event<'a>) -> Result<Value> {
        Ok(match event {
            Event::Null => Value::Null,
            Event::Bool(v) => Value::Bool(v),
            Event::Number(n) => Value::Number(n.into()),
            Event::String(text) => Value::Text(text.to_cow().into_owned()),
            Event::ArrayStart => {
                let mut all = Vec::new();
                loop {
                    match self.next("a value")? {
                        Event::ArrayEnd => return Ok(Value::Array(all)),
                        event => all.push(self.value_of(event)?),
                    }
                }
            }
            Event::ObjectStart => {
                let mut all = Vec::new();
                while let Some(key) = self.key()? {
                    let key = key.to_cow().into_owned();
                    all.push((key, self.value()?));
                }
                Value::Object(all)
            }
            Event::Key(_) | Event::ArrayEnd | Event::ObjectEnd => return Err(self.wrong("a value")),
        })
    }
}

pub(super) fn unsupported<T>(part: &'static str, name: impl Into<String>) -> Result<T> {
    Err(TokenizerError::Unsupported { part, name: name.into() })
}

/// A part of a document in memory.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Value>),
    /// In document order; of several members with one key, the last counts.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The member `key` of an object, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let Value::Object(all) = self else { return None };
        let found = all.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v);
        found.filter(|v| **v != Value::Null)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(all) => Some(all),
            _ => None,
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    pub(super) fn number<N: core::str::FromStr>(&self) -> Option<N> {
        match self {
            Value::Number(n) => n.parse().ok(),
            _ => None,
        }
    }
}
