//! Shapes of arguments in the formats that don't write them in JSON.
//!
//! Only what a schema says that can be kept in the format is supported: anything else is an error, since
//! a forced call is always valid against its schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::force::{Shape, ToolError};
use super::gemma::QUOTE;
use super::scan::Function;
use super::schema::resolve;

/// Keywords that say nothing about values.
const ANNOTATIONS: [&str; 16] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "deprecated",
    "readOnly",
    "writeOnly",
    "strict",
    "$anchor",
    "nullable",
];
/// Deepest nesting of schemas.
const MAX_DEPTH: usize = 64;
const TYPES: [&str; 6] = ["object", "array", "string", "number", "boolean", "null"];

/// Place in a schema, for errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    function: &'a Function,
    at: &'a str,
}

impl Place<'_> {
    fn error(self, keyword: &str) -> ToolError {
        ToolError::Keyword {
            function: self.function.name.clone(),
            at: self.at.to_owned(),
            keyword: keyword.to_owned(),
        }
    }

    /// Refuses all keywords but annotations and these.
    fn only(self, schema: &Map<String, Value>, known: &[&str]) -> Result<(), ToolError> {
        let unknown = |key: &&String| {
            !ANNOTATIONS.contains(&key.as_str())
                && !known.contains(&key.as_str())
                && !key.starts_with("x-")
        };
        match schema.keys().find(unknown) {
            Some(key) => Err(self.error(key)),
            None => Ok(()),
        }
    }
}

/// One of the types that a schema allows, with the keywords that are for it.
enum Branch<'a> {
    /// One of these values.
    Enum(Vec<&'a Value>),
    /// A value of a type, of which the schema may say more.
    Typed(&'a str, &'a Map<String, Value>),
    /// Any value.
    Any,
    /// The schema at a local reference, which is recursive.
    Again(&'a str),
}

/// A schema as a choice of branches, with the places at which they stand.
fn branches<'a>(
    schema: &'a Value,
    at: &str,
    function: &'a Function,
    open: &mut Vec<&'a str>,
) -> Result<Vec<(Branch<'a>, String)>, ToolError> {
    let place = Place { function, at };
    let object = match schema {
        Value::Bool(true) => return Ok(vec![(Branch::Any, at.to_owned())]),
        Value::Object(object) if open.len() < MAX_DEPTH => object,
        Value::Bool(false) => return Err(place.error("false")),
        Value::Object(_) => return Err(place.error("$ref")),
        _ => return Err(place.error("a schema that is neither an object nor a boolean")),
    };
    let mut all = Vec::new();
    if object.get("nullable") == Some(&Value::Bool(true)) {
        all.push((Branch::Enum(vec![&Value::Null]), at.to_owned()));
    }
    if let Some(Value::String(reference)) = object.get("$ref") {
        place.only(object, &["$ref"])?;
        let target = resolve(reference, &function.parameters);
        let target = target.ok_or_else(|| place.error("$ref"))?;
        if open.contains(&reference.as_str()) {
            all.push((Branch::Again(reference), at.to_owned()));
            return Ok(all);
        }
        open.push(reference);
        all.extend(branches(target, reference, function, open)?);
        open.pop();
        return Ok(all);
    }
    for key in ["anyOf", "allOf"] {
        let Some(Value::Array(schemas)) = object.get(key) else { continue };
        place.only(object, &[key])?;
        if key == "allOf" && schemas.len() != 1 {
            return Err(place.error(key));
        }
        for (i, schema) in schemas.iter().enumerate() {
            all.extend(branches(schema, &format!("{at}/{key}/{i}"), function, open)?);
        }
        return Ok(all);
    }
    if let Some(value) = object.get("const") {
        place.only(object, &["const", "type"])?;
        all.push((Branch::Enum(vec![value]), at.to_owned()));
        return Ok(all);
    }
    if let Some(Value::Array(values)) = object.get("enum") {
        place.only(object, &["enum", "type"])?;
        all.push((Branch::Enum(values.iter().collect()), at.to_owned()));
        return Ok(all);
    }
    match object.get("type") {
        None => {
            // Keywords without a type are for values of theirs alone, and any other value is valid.
            place.only(object, &["properties", "required", "additionalProperties"])?;
            let branch = match object.contains_key("properties") {
                true => Branch::Typed("object", object),
                false => Branch::Any,
            };
            all.push((branch, at.to_owned()));
        }
        Some(Value::String(name)) => all.push((Branch::Typed(name, object), at.to_owned())),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            all.extend(names.map(|name| (Branch::Typed(name, object), at.to_owned())));
        }
        Some(_) => return Err(place.error("type")),
    }
    Ok(all)
}

/// Keywords for values of a type.
fn keywords(kind: &str) -> &'static [&'static str] {
    match kind {
        "string" => &["minLength", "maxLength", "pattern", "format"],
        "number" | "integer" => {
            &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
        }
        "array" => &["items", "minItems", "maxItems"],
        "object" => &["properties", "required", "additionalProperties"],
        _ => &[],
    }
}

/// All keywords for values of any type, which say nothing about values of others.
fn all_keywords() -> Vec<&'static str> {
    let all = TYPES.iter().flat_map(|kind| keywords(kind));
    all.copied().chain(["type"]).collect()
}

/// A length limit of a schema.
fn limit(
    schema: &Map<String, Value>,
    key: &str,
    place: Place<'_>,
) -> Result<Option<usize>, ToolError> {
    match schema.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(place.error(key)),
        },
    }
}

/// The expression for so many characters of any kind.
fn characters(schema: &Map<String, Value>, place: Place<'_>) -> Result<Option<String>, ToolError> {
    for key in ["pattern", "format"] {
        if schema.contains_key(key) {
            return Err(place.error(key));
        }
    }
    let least = limit(schema, "minLength", place)?;
    let most = limit(schema, "maxLength", place)?;
    if least.unwrap_or(0) == 0 && most.is_none() {
        return Ok(None);
    }
    let most = most.map_or(String::new(), |most| most.to_string());
    Ok(Some(format!("{{{},{most}}}", least.unwrap_or(0))))
}

/// The schema of a number, with its keywords alone.
fn number(kind: &str, schema: &Map<String, Value>) -> Shape {
    let mut number = Map::new();
    number.insert("type".into(), kind.into());
    for key in keywords("number") {
        if let Some(value) = schema.get(*key) {
            number.insert((*key).to_owned(), value.clone());
        }
    }
    Shape::Schema(Value::Object(number))
}

/// Properties of an object's schema.
struct Properties<'a> {
    known: Vec<(&'a String, &'a Value, bool)>,
    /// Schema of other properties, if only these are there.
    others: Option<&'a Value>,
}

fn properties<'a>(
    schema: &'a Map<String, Value>,
    place: Place<'_>,
) -> Result<Properties<'a>, ToolError> {
    let required: Vec<&str> = match schema.get("required") {
        None => Vec::new(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(place.error("required")),
    };
    let mut known = Vec::new();
    match schema.get("properties") {
        None => {}
        Some(Value::Object(all)) => {
            known.extend(
                all.iter().map(|(key, value)| (key, value, required.contains(&key.as_str()))),
            );
        }
        Some(_) => return Err(place.error("properties")),
    }
    if required.iter().any(|name| !known.iter().any(|(key, ..)| key == name)) {
        return Err(place.error("required"));
    }
    let others = match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => None,
        other if known.is_empty() => Some(other.unwrap_or(&Value::Bool(true))),
        _ => None,
    };
    Ok(Properties { known, others })
}

/// Shape of a call in [`Format::Xml`](super::Format::Xml).
pub(super) fn xml(function: &Function) -> Result<Shape, ToolError> {
    const END: &str = "</parameter>";
    let Some(root) = function.parameters.as_object() else {
        return Err(Place { function, at: "#" }.error("a schema that is no object"));
    };
    let place = Place { function, at: "#" };
    place.only(root, &["type", "properties", "required", "additionalProperties"])?;
    let mut parts = vec![Shape::Text(format!("<tool_call>\n<function={}>\n", function.name))];
    for (key, schema, required) in properties(root, place)?.known {
        let at = format!("#/properties/{key}");
        let place = Place { function, at: &at };
        if key.contains(['>', '\n']) {
            return Err(place.error(key));
        }
        let mut choice = Vec::new();
        let mut values = Vec::new();
        for (branch, at) in branches(schema, &at, function, &mut Vec::new())? {
            let place = Place { function, at: &at };
            match branch {
                Branch::Typed("string", schema) => {
                    place.only(schema, &all_keywords())?;
                    let text = match characters(schema, place)? {
                        None => Shape::Until(END),
                        // As many, and the line's end before the tag.
                        Some(count) => Shape::Sequence(vec![
                            Shape::Pattern(format!("[^<]{count}")),
                            Shape::text(format!("\n{END}")),
                        ]),
                    };
                    choice.push(text);
                }
                Branch::Enum(all) => {
                    for value in all {
                        match value {
                            Value::String(text) if text.contains(END) => {
                                return Err(place.error("enum"));
                            }
                            Value::String(text) => {
                                choice.push(Shape::text(format!("{text}\n{END}")));
                            }
                            value => values.push(json!({"const": value})),
                        }
                    }
                }
                Branch::Typed(kind, schema) => {
                    let mut schema = schema.clone();
                    schema.insert("type".into(), kind.into());
                    schema.remove("nullable");
                    values.push(Value::Object(schema));
                }
                Branch::Any => values.push(json!({})),
                Branch::Again(reference) => values.push(json!({"$ref": reference})),
            }
        }
        if !values.is_empty() {
            let mut schema = match <[Value; 1]>::try_from(values) {
                Ok([only]) => only,
                Err(values) => json!({"anyOf": values}),
            };
            for key in ["$defs", "definitions"] {
                if let (Some(all), Value::Object(schema)) = (root.get(key), &mut schema) {
                    schema.insert(key.to_owned(), all.clone());
                }
            }
            choice.push(Shape::Sequence(vec![
                Shape::Schema(schema),
                Shape::text(format!("\n{END}")),
            ]));
        }
        let open = Shape::Text(format!("<parameter={key}>\n"));
        let all = Shape::Sequence(vec![open, Shape::Choice(choice), Shape::text("\n")]);
        parts.push(if required { all } else { all.optional() });
    }
    parts.push(Shape::text("</function>\n</tool_call>"));
    Ok(Shape::Sequence(parts))
}

/// Shapes of values in [`Format::Gemma`](super::Format::Gemma).
pub(super) struct Values<'a> {
    function: &'a Function,
    rules: &'a mut Vec<Shape>,
    /// Rules of references.
    named: BTreeMap<String, usize>,
    /// The rule of any value.
    any: Option<usize>,
}

impl<'a> Values<'a> {
    pub(super) fn new(function: &'a Function, rules: &'a mut Vec<Shape>) -> Values<'a> {
        Values { function, rules, named: BTreeMap::new(), any: None }
    }

    /// Shape of the function's arguments.
    pub(super) fn arguments(mut self) -> Result<Shape, ToolError> {
        let function = self.function;
        let place = Place { function, at: "#" };
        match function.parameters.as_object() {
            Some(root) => {
                place.only(root, &["type", "properties", "required", "additionalProperties"])?;
                self.object(root, "#", 0)
            }
            None => Err(place.error("a schema that is no object")),
        }
    }

    fn value(&mut self, schema: &'a Value, at: &str, depth: usize) -> Result<Shape, ToolError> {
        let function = self.function;
        let place = Place { function, at };
        if depth > MAX_DEPTH {
            return Err(place.error("a schema that is nested too deeply"));
        }
        if let Some(Value::String(reference)) = schema.get("$ref")
            && let Some(object) = schema.as_object()
        {
            place.only(object, &["$ref"])?;
            if let Some(&rule) = self.named.get(reference) {
                return Ok(Shape::Rule(rule));
            }
            let target = resolve(reference, &function.parameters);
            let target = target.ok_or_else(|| place.error("$ref"))?;
            let rule = self.rules.len();
            self.rules.push(Shape::text(""));
            self.named.insert(reference.clone(), rule);
            self.rules[rule] = self.value(target, reference, depth + 1)?;
            return Ok(Shape::Rule(rule));
        }
        if let Some(Value::Array(schemas)) = schema.get("anyOf") {
            // Branches may be recursive.
            let Some(object) = schema.as_object() else { return Err(place.error("anyOf")) };
            place.only(object, &["anyOf"])?;
            let mut choice = Vec::new();
            for (i, schema) in schemas.iter().enumerate() {
                choice.push(self.value(schema, &format!("{at}/anyOf/{i}"), depth + 1)?);
            }
            return Ok(Shape::Choice(choice));
        }
        let mut choice = Vec::new();
        for (branch, at) in branches(schema, at, function, &mut Vec::new())? {
            let place = Place { function, at: &at };
            choice.push(match branch {
                Branch::Any => self.any(),
                // References were followed above.
                Branch::Again(_) => return Err(place.error("$ref")),
                Branch::Enum(values) => {
                    let mut all = Vec::new();
                    for value in values {
                        all.push(Shape::Text(literal(value).ok_or_else(|| place.error("enum"))?));
                    }
                    Shape::Choice(all)
                }
                Branch::Typed(kind, schema) => {
                    place.only(schema, &all_keywords())?;
                    match kind {
                        "string" => match characters(schema, place)? {
                            None => string(),
                            Some(count) => Shape::Sequence(vec![
                                Shape::text(QUOTE),
                                Shape::Pattern(format!("[^<]{count}")),
                                Shape::text(QUOTE),
                            ]),
                        },
                        "number" | "integer" => number(kind, schema),
                        "boolean" => Shape::Choice(vec![Shape::text("true"), Shape::text("false")]),
                        "null" => Shape::text("null"),
                        "array" => self.array(schema, &at, depth)?,
                        "object" => self.object(schema, &at, depth)?,
                        _ => return Err(place.error("type")),
                    }
                }
            });
        }
        Ok(Shape::Choice(choice))
    }

    fn array(
        &mut self,
        schema: &'a Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Result<Shape, ToolError> {
        let place = Place { function: self.function, at };
        let item = match schema.get("items") {
            Some(items) => self.value(items, &format!("{at}/items"), depth + 1)?,
            None => self.any(),
        };
        let least = limit(schema, "minItems", place)?.unwrap_or(0);
        let most = limit(schema, "maxItems", place)?;
        if most.is_some_and(|most| most < least) {
            return Err(place.error("maxItems"));
        }
        Ok(bracketed("[", list(item, least, most), "]"))
    }

    fn object(
        &mut self,
        schema: &'a Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Result<Shape, ToolError> {
        let place = Place { function: self.function, at };
        let Properties { mut known, others } = properties(schema, place)?;
        if let Some(others) = others {
            let value = self.value(others, &format!("{at}/additionalProperties"), depth + 1)?;
            let key = Shape::Pattern("[A-Za-z_][A-Za-z0-9_]*".into());
            let entry = Shape::Sequence(vec![key, Shape::text(":"), value]);
            return Ok(bracketed("{", list(entry, 0, None), "}"));
        }
        // Templates write keys in this order, that of Jinja's `dictsort`.
        known.sort_by_key(|(key, ..)| key.to_lowercase());
        let mut entries = Vec::new();
        for (key, schema, required) in known {
            let at = format!("{at}/properties/{key}");
            let plain = |c: char| c.is_alphanumeric() || "_-. $".contains(c);
            let key = match key {
                key if key.contains(QUOTE) => {
                    return Err(Place { function: self.function, at: &at }.error(key));
                }
                key if !key.is_empty() && key.trim() == key && key.chars().all(plain) => {
                    format!("{key}:")
                }
                key => format!("{QUOTE}{key}{QUOTE}:"),
            };
            let value = self.value(schema, &at, depth + 1)?;
            entries.push((Shape::Sequence(vec![Shape::Text(key), value]), required));
        }
        // From the last entry on: what may come behind an entry, and all that may begin with it or later.
        let mut behind: Option<Shape> = None;
        let mut from: Vec<Shape> = Vec::new();
        for (entry, required) in entries.into_iter().rev() {
            let all = match &behind {
                Some(behind) => Shape::Sequence(vec![entry.clone(), behind.clone()]),
                None => entry.clone(),
            };
            if required {
                from.clear();
            }
            from.push(all);
            let next = Shape::Sequence(vec![Shape::text(","), entry]);
            let next = if required { next } else { next.optional() };
            let next = match behind {
                Some(behind) => Shape::Sequence(vec![next, behind]),
                None => next,
            };
            let rule = self.rules.len();
            self.rules.push(next);
            behind = Some(Shape::Rule(rule));
        }
        // With a required entry, the first is one of those up to it.
        let needed = schema_requires(schema);
        let inner = match from.is_empty() {
            true => Shape::text(""),
            false if needed => Shape::Choice(from),
            false => Shape::Choice(from).optional(),
        };
        Ok(bracketed("{", inner, "}"))
    }

    /// The rule of any value.
    fn any(&mut self) -> Shape {
        if let Some(rule) = self.any {
            return Shape::Rule(rule);
        }
        let rule = self.rules.len();
        self.any = Some(rule);
        let key = Shape::Pattern("[A-Za-z_][A-Za-z0-9_]*".into());
        let entry = Shape::Sequence(vec![key, Shape::text(":"), Shape::Rule(rule)]);
        self.rules.push(Shape::Choice(vec![
            string(),
            Shape::Schema(json!({"type": ["number", "boolean", "null"]})),
            bracketed("[", list(Shape::Rule(rule), 0, None), "]"),
            bracketed("{", list(entry, 0, None), "}"),
        ]));
        Shape::Rule(rule)
    }
}

fn schema_requires(schema: &Map<String, Value>) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty())
}

/// A string of any text without its mark.
fn string() -> Shape {
    Shape::Sequence(vec![Shape::text(QUOTE), Shape::Until(QUOTE)])
}

fn bracketed(open: &str, inner: Shape, close: &str) -> Shape {
    Shape::Sequence(vec![Shape::text(open), inner, Shape::text(close)])
}

/// Items with commas between them, at least and at most so many.
fn list(item: Shape, least: usize, most: Option<usize>) -> Shape {
    if most == Some(0) {
        return Shape::text("");
    }
    let next = Shape::Sequence(vec![Shape::text(","), item.clone()]);
    let rest = Shape::Repeat(
        Box::new(next),
        least.saturating_sub(1),
        most.map(|most| most.saturating_sub(1)),
    );
    let all = Shape::Sequence(vec![item, rest]);
    if least == 0 { all.optional() } else { all }
}

/// A value in Gemma's syntax; `None` for text with its mark.
fn literal(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) if text.contains(QUOTE) => return None,
        Value::String(text) => format!("{QUOTE}{text}{QUOTE}"),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(literal).collect();
            format!("[{}]", items?.join(","))
        }
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| {
                Some(format!("{}:{}", literal(&key.as_str().into())?, literal(value)?))
            };
            let entries: Option<Vec<String>> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries?.join(","))
        }
        scalar => scalar.to_string(),
    })
}
