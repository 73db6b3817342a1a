//! Schemas as they are written: keywords, values and references.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Number, Value};

use super::super::GrammarError;
use super::super::limits::{MAX_COUNT, MAX_LENGTH, MAX_SCHEMAS};
use super::decimal::{Bound, Decimal};
use super::{format, strings::Strings};

/// Index of a schema.
pub(super) type Id = usize;

/// Kinds of values.
pub(super) mod kind {
    pub(in super::super) const NULL: u8 = 1;
    pub(in super::super) const FALSE: u8 = 2;
    pub(in super::super) const TRUE: u8 = 4;
    pub(in super::super) const NUMBER: u8 = 8;
    pub(in super::super) const STRING: u8 = 16;
    pub(in super::super) const ARRAY: u8 = 32;
    pub(in super::super) const OBJECT: u8 = 64;
    pub(in super::super) const ALL: u8 = 127;
}

/// Value of `const` or `enum` without parts.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// The number, and how it is written.
    Number(Decimal, String),
    String(String),
}

impl Scalar {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Scalar::Null => kind::NULL,
            Scalar::Bool(false) => kind::FALSE,
            Scalar::Bool(true) => kind::TRUE,
            Scalar::Number(..) => kind::NUMBER,
            Scalar::String(_) => kind::STRING,
        }
    }

    /// A text that equal values have in common.
    pub(super) fn key(&self) -> String {
        match self {
            Scalar::Null => "null".to_string(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Number(value, _) => value.to_string(),
            Scalar::String(text) => format!("\"{text}"),
        }
    }
}

/// A schema without its annotations.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    /// JSON pointer.
    pub(super) at: String,
    /// Kinds of values that are allowed; 0 for `false`.
    pub(super) kinds: u8,
    /// True if numbers must be integers.
    pub(super) integer: bool,
    pub(super) scalars: Option<Vec<Scalar>>,
    pub(super) low: Vec<Bound>,
    pub(super) high: Vec<Bound>,
    pub(super) multiple: Option<Decimal>,
    pub(super) min_length: usize,
    pub(super) max_length: Option<usize>,
    /// Patterns and formats, in the table of strings.
    pub(super) patterns: Vec<usize>,
    pub(super) prefix: Vec<Id>,
    pub(super) items: Option<Id>,
    pub(super) min_items: usize,
    pub(super) max_items: Option<usize>,
    pub(super) properties: Vec<(String, Id)>,
    /// The same by name.
    pub(super) named: BTreeMap<String, Id>,
    /// Patterns of names, in the table of strings.
    pub(super) pattern_properties: Vec<(usize, Id)>,
    pub(super) additional: Option<Id>,
    pub(super) names: Option<Id>,
    pub(super) required: Vec<String>,
    pub(super) min_properties: usize,
    pub(super) max_properties: Option<usize>,
    /// Schemas that hold as well: of `$ref` and `allOf`, and parts of `const`.
    pub(super) all: Vec<Id>,
    /// Groups of schemas, of which one holds at least.
    pub(super) any: Vec<Vec<Id>>,
    /// Indices in `any` of groups of which one holds only.
    pub(super) one: Vec<usize>,
}

impl Schema {
    fn new(at: String) -> Self {
        Schema {
            at,
            kinds: kind::ALL,
            integer: false,
            scalars: None,
            low: Vec::new(),
            high: Vec::new(),
            multiple: None,
            min_length: 0,
            max_length: None,
            patterns: Vec::new(),
            prefix: Vec::new(),
            items: None,
            min_items: 0,
            max_items: None,
            properties: Vec::new(),
            named: BTreeMap::new(),
            pattern_properties: Vec::new(),
            additional: None,
            names: None,
            required: Vec::new(),
            min_properties: 0,
            max_properties: None,
            all: Vec::new(),
            any: Vec::new(),
            one: Vec::new(),
        }
    }

    /// True if every value is valid.
    pub(super) fn is_any(&self) -> bool {
        self.kinds == kind::ALL
            && !self.integer
            && self.scalars.is_none()
            && self.low.is_empty()
            && self.high.is_empty()
            && self.multiple.is_none()
            && self.min_length == 0
            && self.max_length.is_none()
            && self.patterns.is_empty()
            && self.prefix.is_empty()
            && self.items.is_none()
            && self.min_items == 0
            && self.max_items.is_none()
            && self.properties.is_empty()
            && self.pattern_properties.is_empty()
            && self.additional.is_none()
            && self.names.is_none()
            && self.required.is_empty()
            && self.min_properties == 0
            && self.max_properties.is_none()
            && self.all.is_empty()
            && self.any.is_empty()
    }
}

/// Dialect of a schema.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Dialect {
    /// Drafts 6 and 7.
    Draft7,
    /// 2019-09.
    Draft2019,
    /// 2020-12.
    Draft2020,
}

/// Keywords that say nothing about which values are valid.
const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "discriminator",
];

/// Keywords that are refused, with reasons.
const REFUSED: &[(&str, &str)] = &[
    ("not", "say what is allowed instead"),
    ("if", "write the cases as `anyOf`"),
    ("then", "write the cases as `anyOf`"),
    ("else", "write the cases as `anyOf`"),
    ("contains", "write `items` or `prefixItems`"),
    ("minContains", "write `items` or `prefixItems`"),
    ("maxContains", "write `items` or `prefixItems`"),
    ("dependentRequired", "write the cases as `anyOf`"),
    ("dependentSchemas", "write the cases as `anyOf`"),
    ("dependencies", "write the cases as `anyOf`"),
    ("unevaluatedItems", "write `items`: false"),
    ("unevaluatedProperties", "write `additionalProperties`: false in each branch"),
    ("$dynamicRef", "write `$ref`"),
    ("$dynamicAnchor", "write `$ref` to #/$defs/NAME"),
    ("$recursiveRef", "write `$ref`: \"#\""),
    ("$recursiveAnchor", "write `$ref`: \"#\""),
    ("$vocabulary", "it belongs to dialects"),
    ("contentEncoding", "write a `pattern`"),
    ("contentMediaType", "write a `pattern`"),
    ("contentSchema", "write a `pattern`"),
    ("nullable", "write `type`: [..., \"null\"]"),
    ("x-guidance", "a schema can't change how it is read"),
];

/// All schemas that a document's root needs.
pub(super) struct Document {
    pub(super) schemas: Vec<Schema>,
    pub(super) strings: Strings,
}

/// Reads a document; its root is schema 0.
pub(super) fn document(root: &Value) -> Result<Document, GrammarError> {
    let mut reader = Reader {
        root,
        dialect: dialect(root)?,
        schemas: Vec::new(),
        strings: Strings::default(),
        places: BTreeMap::new(),
        queue: VecDeque::new(),
    };
    reader.refer(String::new(), root)?;
    while let Some((id, at, value)) = reader.queue.pop_front() {
        reader.read(id, at, value)?;
    }
    let document = Document { schemas: reader.schemas, strings: reader.strings };
    document.check_cycles()?;
    Ok(document)
}

fn dialect(root: &Value) -> Result<Dialect, GrammarError> {
    let Some(name) = root.get("$schema") else { return Ok(Dialect::Draft2020) };
    let name = name.as_str().unwrap_or_default().trim_end_matches('#');
    match name.trim_start_matches("https://").trim_start_matches("http://") {
        "json-schema.org/draft/2020-12/schema" => Ok(Dialect::Draft2020),
        "json-schema.org/draft/2019-09/schema" => Ok(Dialect::Draft2019),
        "json-schema.org/draft-07/schema" | "json-schema.org/draft-06/schema" => {
            Ok(Dialect::Draft7)
        }
        _ => Err(GrammarError::Unsupported {
            keyword: "$schema".into(),
            at: String::new(),
            reason: format!(
                "the dialects are 2020-12, 2019-09, draft-07 and draft-06, not {name:?}"
            ),
        }),
    }
}

struct Reader<'a> {
    root: &'a Value,
    dialect: Dialect,
    schemas: Vec<Schema>,
    strings: Strings,
    /// Schemas that were referred to, by JSON pointers.
    places: BTreeMap<String, Id>,
    /// Schemas that are still to be read.
    queue: VecDeque<(Id, String, &'a Value)>,
}

fn unsupported(keyword: &str, at: &str, reason: impl Into<String>) -> GrammarError {
    let (keyword, at) = (keyword.to_string(), at.to_string());
    GrammarError::Unsupported { keyword, at, reason: reason.into() }
}

fn invalid(keyword: &str, at: &str, reason: impl Into<String>) -> GrammarError {
    let (keyword, at) = (keyword.to_string(), at.to_string());
    GrammarError::Invalid { keyword, at, reason: reason.into() }
}

/// `name` as a part of a JSON pointer.
fn below(at: &str, keyword: &str, name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("{at}/{keyword}/{name}")
}

impl<'a> Reader<'a> {
    fn push(&mut self, at: String) -> Result<Id, GrammarError> {
        if self.schemas.len() == MAX_SCHEMAS {
            let what = "subschemas and values of `const` and `enum`";
            return Err(GrammarError::TooLarge { what, limit: MAX_SCHEMAS });
        }
        self.schemas.push(Schema::new(at));
        Ok(self.schemas.len() - 1)
    }

    /// A schema that will be read later.
    fn later(&mut self, at: String, value: &'a Value) -> Result<Id, GrammarError> {
        let id = self.push(at.clone())?;
        self.queue.push_back((id, at, value));
        Ok(id)
    }

    fn refer(&mut self, at: String, value: &'a Value) -> Result<Id, GrammarError> {
        if let Some(&id) = self.places.get(&at) {
            return Ok(id);
        }
        let id = self.later(at.clone(), value)?;
        self.places.insert(at, id);
        Ok(id)
    }

    fn read(&mut self, id: Id, at: String, value: &'a Value) -> Result<(), GrammarError> {
        let map = match value {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => {
                self.schemas[id].kinds = 0;
                return Ok(());
            }
            Value::Object(map) => map,
            _ => return Err(invalid("schema", &at, "an object or a boolean")),
        };
        let mut schema = Schema::new(at);
        // Up to draft 7, what stands beside a reference means nothing.
        if self.dialect == Dialect::Draft7
            && let Some(value) = map.get("$ref")
        {
            self.keyword(&mut schema, map, "$ref", value)?;
            self.schemas[id] = schema;
            return Ok(());
        }
        for (keyword, value) in map {
            self.keyword(&mut schema, map, keyword, value)?;
        }
        // Only now is the type known.
        if let Some(value) = map.get("format") {
            self.format(&mut schema, value)?;
        }
        if let (Some(max), min) = (schema.max_length, schema.min_length)
            && min > max
        {
            schema.kinds &= !kind::STRING;
        }
        self.schemas[id] = schema;
        Ok(())
    }

    fn keyword(
        &mut self,
        schema: &mut Schema,
        map: &'a Map<String, Value>,
        keyword: &str,
        value: &'a Value,
    ) -> Result<(), GrammarError> {
        let at = schema.at.clone();
        let at = at.as_str();
        match keyword {
            "type" => types(schema, value)?,
            "const" => self.values(schema, "const", core::slice::from_ref(value))?,
            "enum" => match value.as_array() {
                Some(values) if !values.is_empty() => self.values(schema, "enum", values)?,
                _ => return Err(invalid(keyword, at, "an array of values, one at least")),
            },
            "properties" => {
                for (name, value) in self.map(keyword, at, value)? {
                    let id = self.later(below(at, keyword, name), value)?;
                    schema.properties.push((name.clone(), id));
                    schema.named.insert(name.clone(), id);
                }
            }
            "patternProperties" => {
                for (pattern, value) in self.map(keyword, at, value)? {
                    let index = self.strings.pattern(keyword, at, pattern)?;
                    let id = self.later(below(at, keyword, pattern), value)?;
                    schema.pattern_properties.push((index, id));
                }
            }
            "additionalProperties" => {
                schema.additional = Some(self.later(format!("{at}/{keyword}"), value)?);
            }
            "propertyNames" => schema.names = Some(self.later(format!("{at}/{keyword}"), value)?),
            "required" => {
                let names = value.as_array().map(|names| names.iter().map(Value::as_str));
                let names = names.and_then(Iterator::collect::<Option<Vec<&str>>>);
                let names = names.ok_or_else(|| invalid(keyword, at, "an array of names"))?;
                let mut seen = BTreeSet::new();
                let names = names.into_iter().filter(|name| seen.insert(*name));
                schema.required.extend(names.map(str::to_string));
            }
            "minProperties" => schema.min_properties = count(keyword, at, value, MAX_COUNT)?,
            "maxProperties" => schema.max_properties = Some(count(keyword, at, value, MAX_COUNT)?),
            "prefixItems" if self.dialect == Dialect::Draft2020 => {
                schema.prefix = self.list(keyword, at, value)?;
            }
            "prefixItems" => {
                return Err(unsupported(keyword, at, "`$schema` names a dialect without it"));
            }
            "items" if value.is_array() && self.dialect == Dialect::Draft2020 => {
                return Err(invalid(
                    keyword,
                    at,
                    "a schema; a list of schemas is `prefixItems`, or names an older dialect in `$schema`",
                ));
            }
            "items" if value.is_array() => {
                schema.prefix = self.list(keyword, at, value)?;
                if let Some(rest) = map.get("additionalItems") {
                    schema.items = Some(self.later(format!("{at}/additionalItems"), rest)?);
                }
            }
            "items" => schema.items = Some(self.later(format!("{at}/{keyword}"), value)?),
            "additionalItems" if self.dialect == Dialect::Draft2020 => {
                return Err(unsupported(keyword, at, "write `prefixItems` and `items`"));
            }
            // It has a meaning beside a list only.
            "additionalItems" => {}
            "minItems" => schema.min_items = count(keyword, at, value, MAX_COUNT)?,
            "maxItems" => schema.max_items = Some(count(keyword, at, value, MAX_COUNT)?),
            "uniqueItems" => match value.as_bool() {
                Some(false) => {}
                _ => return Err(unsupported(keyword, at, "a grammar can't compare items")),
            },
            "minLength" => schema.min_length = count(keyword, at, value, MAX_LENGTH)?,
            "maxLength" => schema.max_length = Some(count(keyword, at, value, MAX_LENGTH)?),
            "pattern" => {
                let pattern = value.as_str();
                let pattern = pattern.ok_or_else(|| invalid(keyword, at, "a string"))?;
                schema.patterns.push(self.strings.pattern(keyword, at, pattern)?);
            }
            "format" => {}
            "minimum" => schema.low.push(bound(keyword, at, value, false)?),
            "exclusiveMinimum" => schema.low.push(bound(keyword, at, value, true)?),
            "maximum" => schema.high.push(bound(keyword, at, value, false)?),
            "exclusiveMaximum" => schema.high.push(bound(keyword, at, value, true)?),
            "multipleOf" => {
                let step = bound(keyword, at, value, false)?.value;
                if !step.is_positive() {
                    return Err(invalid(keyword, at, "a number above 0"));
                }
                schema.multiple = Some(step);
            }
            "allOf" | "anyOf" | "oneOf" => {
                let ids = self.list(keyword, at, value)?;
                if ids.is_empty() {
                    return Err(invalid(keyword, at, "an array of schemas, one at least"));
                }
                if keyword == "allOf" {
                    schema.all.extend(ids);
                    return Ok(());
                }
                if keyword == "oneOf" {
                    schema.one.push(schema.any.len());
                }
                schema.any.push(ids);
            }
            "$ref" => {
                let reference = value.as_str();
                let reference = reference.ok_or_else(|| invalid(keyword, at, "a string"))?;
                let id = self.reference(at, reference)?;
                schema.all.push(id);
            }
            "$schema" => {
                if dialect(&Value::Object(map.clone()))? != self.dialect {
                    return Err(unsupported(keyword, at, "a subschema of another dialect"));
                }
            }
            "$id" if at.is_empty() => {}
            "$id" => return Err(unsupported(keyword, at, "a schema within the schema")),
            "nullable" if *value == Value::Bool(false) => {}
            _ if ANNOTATIONS.contains(&keyword) => {}
            _ => {
                if let Some(&(_, reason)) = REFUSED.iter().find(|r| r.0 == keyword) {
                    return Err(unsupported(keyword, at, reason));
                }
                // By convention, such keywords are annotations of other programs.
                if !keyword.starts_with("x-") {
                    let reason = "no dialect has this keyword, so that it would mean nothing";
                    return Err(unsupported(keyword, at, reason));
                }
            }
        }
        Ok(())
    }

    fn map(
        &self,
        keyword: &str,
        at: &str,
        value: &'a Value,
    ) -> Result<&'a Map<String, Value>, GrammarError> {
        value.as_object().ok_or_else(|| invalid(keyword, at, "an object of schemas"))
    }

    fn list(&mut self, keyword: &str, at: &str, value: &'a Value) -> Result<Vec<Id>, GrammarError> {
        let values = value.as_array();
        let values = values.ok_or_else(|| invalid(keyword, at, "an array of schemas"))?;
        let all = values.iter().enumerate();
        all.map(|(i, value)| self.later(format!("{at}/{keyword}/{i}"), value)).collect()
    }

    /// The schema that `$ref` names.
    fn reference(&mut self, at: &str, reference: &str) -> Result<Id, GrammarError> {
        let Some(pointer) = reference.strip_prefix('#') else {
            let reason = format!("{reference:?} is outside of the schema: put it into `$defs`");
            return Err(unsupported("$ref", at, reason));
        };
        let pointer = percent_decoded(pointer);
        if !pointer.is_empty() && !pointer.starts_with('/') {
            let reason = format!("{reference:?} is a name: write #/$defs/NAME");
            return Err(unsupported("$ref", at, reason));
        }
        match self.root.pointer(&pointer) {
            Some(value) => self.refer(pointer, value),
            None => {
                let reason = format!("a pointer into the schema, and there is no {reference:?}");
                Err(invalid("$ref", at, reason))
            }
        }
    }

    fn format(&mut self, schema: &mut Schema, value: &Value) -> Result<(), GrammarError> {
        let at = schema.at.as_str();
        let name = value.as_str().ok_or_else(|| invalid("format", at, "a string"))?;
        let number = format::number(name).filter(|_| schema.kinds & kind::NUMBER != 0);
        if let Some(bounds) = number {
            if let Some((low, high)) = bounds {
                let bound =
                    |text| Decimal::read(text).map(|value| Bound { value, excluded: false });
                schema.low.extend(bound(low));
                schema.high.extend(bound(high));
                schema.integer = true;
            }
            return Ok(());
        }
        if schema.kinds & kind::STRING == 0 {
            return Ok(());
        }
        let Some(format) = format::format(name) else {
            let reason = format!("{name:?} isn't known; the formats are {}", format::NAMES);
            return Err(unsupported("format", at, reason));
        };
        schema.patterns.push(self.strings.pattern("format", at, &format.pattern)?);
        schema.max_length = [schema.max_length, format.max].into_iter().flatten().min();
        Ok(())
    }

    /// The values of `const` or `enum`.
    fn values(
        &mut self,
        schema: &mut Schema,
        keyword: &str,
        values: &'a [Value],
    ) -> Result<(), GrammarError> {
        let mut scalars = Vec::new();
        let mut others = Vec::new();
        for value in values {
            match scalar(value) {
                Some(scalar) => scalars.push(scalar),
                None if value.is_number() => {
                    return Err(unsupported(keyword, &schema.at, beyond(value)));
                }
                None => others.push(self.value(&schema.at, value)?),
            }
        }
        if self.schemas.len() + scalars.len() > MAX_SCHEMAS {
            let what = "subschemas and values of `const` and `enum`";
            return Err(GrammarError::TooLarge { what, limit: MAX_SCHEMAS });
        }
        if others.is_empty() {
            // Both of `const` and `enum`.
            if schema.scalars.is_some() {
                let id = self.push(schema.at.clone())?;
                self.schemas[id].scalars = Some(scalars);
                schema.all.push(id);
                return Ok(());
            }
            schema.scalars = Some(scalars);
            return Ok(());
        }
        if !scalars.is_empty() {
            let id = self.push(schema.at.clone())?;
            self.schemas[id].scalars = Some(scalars);
            others.push(id);
        }
        schema.any.push(others);
        Ok(())
    }

    /// A schema for which only this value is valid.
    fn value(&mut self, at: &str, value: &Value) -> Result<Id, GrammarError> {
        let id = self.push(at.to_string())?;
        let mut schema = Schema::new(at.to_string());
        let nothing = |reader: &mut Self| {
            let id = reader.push(at.to_string())?;
            reader.schemas[id].kinds = 0;
            Ok::<_, GrammarError>(id)
        };
        match value {
            Value::Array(values) => {
                schema.kinds = kind::ARRAY;
                let ids = values.iter().map(|value| self.value(at, value));
                schema.prefix = ids.collect::<Result<_, _>>()?;
                schema.items = Some(nothing(self)?);
                schema.min_items = values.len();
            }
            Value::Object(map) => {
                schema.kinds = kind::OBJECT;
                for (name, value) in map {
                    let id = self.value(at, value)?;
                    schema.properties.push((name.clone(), id));
                    schema.named.insert(name.clone(), id);
                    schema.required.push(name.clone());
                }
                schema.additional = Some(nothing(self)?);
            }
            _ => match scalar(value) {
                Some(scalar) => schema.scalars = Some(vec![scalar]),
                None => return Err(unsupported("const", at, beyond(value))),
            },
        }
        self.schemas[id] = schema;
        Ok(id)
    }
}

/// `None` for arrays, objects and numbers that are too large.
fn scalar(value: &Value) -> Option<Scalar> {
    Some(match value {
        Value::Null => Scalar::Null,
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Number(number) => Scalar::Number(decimal(number)?, number.to_string()),
        Value::String(text) => Scalar::String(text.clone()),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

fn decimal(number: &Number) -> Option<Decimal> {
    Decimal::read(&number.to_string())
}

/// The reason why a number isn't supported that [`decimal`] doesn't read.
fn beyond(number: &Value) -> String {
    let what = match number.as_f64() {
        Some(x) if x.abs() < 1.0 => "zeros behind the point",
        _ => "digits in front of the point",
    };
    format!("{number} has more than 300 {what}")
}

fn types(schema: &mut Schema, value: &Value) -> Result<(), GrammarError> {
    let wrong = || {
        let names =
            "a type or an array of types: null, boolean, integer, number, string, array, object";
        invalid("type", &schema.at, names)
    };
    let names = match value {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) if !names.is_empty() => {
            names.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let (mut kinds, mut integer) = (0, false);
    for name in &names {
        kinds |= match *name {
            "null" => kind::NULL,
            "boolean" => kind::FALSE | kind::TRUE,
            "number" => kind::NUMBER,
            "integer" => {
                integer = true;
                kind::NUMBER
            }
            "string" => kind::STRING,
            "array" => kind::ARRAY,
            "object" => kind::OBJECT,
            _ => return Err(wrong()),
        };
    }
    schema.kinds = kinds;
    schema.integer = integer && !names.contains(&"number");
    Ok(())
}

fn count(keyword: &str, at: &str, value: &Value, most: usize) -> Result<usize, GrammarError> {
    let whole = |f: &f64| f.fract() == 0.0 && (0.0..1e15).contains(f);
    let number = value.as_u64().or_else(|| value.as_f64().filter(whole).map(|f| f as u64));
    let number = number.ok_or_else(|| invalid(keyword, at, "a whole number from 0 up"))?;
    match usize::try_from(number) {
        Ok(number) if number <= most => Ok(number),
        _ => Err(unsupported(keyword, at, format!("{number} is more than {most}"))),
    }
}

fn bound(keyword: &str, at: &str, value: &Value, excluded: bool) -> Result<Bound, GrammarError> {
    let number = value.as_number().ok_or_else(|| invalid(keyword, at, "a number"))?;
    match decimal(number) {
        Some(value) => Ok(Bound { value, excluded }),
        None => Err(unsupported(keyword, at, beyond(value))),
    }
}

/// A URI's fragment without its percent escapes (RFC 6901, 6).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| core::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) if first == b'%' => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Document {
    /// Refuses schemas that are valid if they are valid.
    fn check_cycles(&self) -> Result<(), GrammarError> {
        let mut done = vec![0_u8; self.schemas.len()];
        let next = |id: Id| {
            let schema = &self.schemas[id];
            schema.all.iter().chain(schema.any.iter().flatten()).copied().collect::<Vec<Id>>()
        };
        for start in 0..self.schemas.len() {
            if done[start] != 0 {
                continue;
            }
            let mut stack = vec![(start, next(start))];
            done[start] = 1;
            while let Some((id, rest)) = stack.last_mut() {
                let Some(child) = rest.pop() else {
                    done[*id] = 2;
                    stack.pop();
                    continue;
                };
                match done[child] {
                    0 => {
                        done[child] = 1;
                        stack.push((child, next(child)));
                    }
                    1 => {
                        let at = &self.schemas[child].at;
                        let reason =
                            "the schema refers to itself, with no property or item between";
                        return Err(unsupported("$ref", at, reason));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
