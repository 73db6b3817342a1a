//! The graph of a schema as a grammar in Lark.

use core::fmt::Write;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::GrammarError;
use super::super::limits::{MAX_LARK_BYTES, MAX_RULE_DEPTH};
use super::super::pattern;
use super::graph::{Array, Graph, Names, Node, Numbers, Object, Property, Texts, Values};
use super::multiple;
use super::parse::{Document, Scalar};
use super::strings::lengths;

/// A grammar in Lark, and schemas for llguidance that it refers to by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lark {
    pub(crate) text: String,
    pub(crate) schemas: Vec<(String, Value)>,
}

/// States of an object whose properties are counted, at most.
const MAX_STATES: usize = 20_000;

struct Writer<'a> {
    /// Beginning of the names of schemas for llguidance.
    prefix: &'a str,
    document: &'a Document,
    graph: &'a Graph,
    /// Names of terminals by their definitions.
    terminals: BTreeMap<String, String>,
    rules: Vec<(String, String)>,
    schemas: Vec<(String, Value)>,
    bytes: usize,
}

pub(super) fn lark(prefix: &str, document: &Document, graph: &Graph) -> Result<Lark, GrammarError> {
    let mut writer = Writer {
        prefix,
        document,
        graph,
        terminals: BTreeMap::new(),
        rules: vec![("start".to_string(), "n0".to_string())],
        schemas: Vec::new(),
        bytes: 0,
    };
    let mut reached = BTreeSet::from([0]);
    let mut queue = vec![0];
    while let Some(node) = queue.pop() {
        writer.node(node)?;
        for child in children(&graph.nodes[node]) {
            if reached.insert(child) {
                queue.push(child);
            }
        }
    }
    writer.check_depth()?;
    let mut text = String::new();
    for (name, body) in &writer.rules {
        let _ = writeln!(text, "{name}: {body}");
    }
    for (body, name) in &writer.terminals {
        let _ = writeln!(text, "{name}: {body}");
    }
    Ok(Lark { text, schemas: writer.schemas })
}

fn children(values: &[Values]) -> Vec<Node> {
    let mut out = Vec::new();
    for values in values {
        match values {
            Values::Array(array) => out.extend(array.prefix.iter().copied().chain(array.items)),
            Values::Object(object) => {
                out.extend(object.properties.iter().map(|p| p.value));
                out.extend(object.more.iter().map(|m| m.1));
            }
            Values::Scalars(_) | Values::Numbers(_) | Values::Texts(_) => {}
        }
    }
    out
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A string of Lark, whose escapes are those of JSON.
fn literal(text: &str) -> String {
    json(text).replace('\u{7f}', "\\u007f")
}

/// `{min,max}` behind something, which must be there at most `max` times; empty for exactly once.
fn repeated(what: &str, min: usize, max: Option<usize>) -> String {
    match (min, max) {
        (_, Some(0)) => String::new(),
        (1, Some(1)) => what.to_string(),
        (0, Some(1)) => format!("({what})?"),
        (0, None) => format!("({what})*"),
        (1, None) => format!("({what})+"),
        (min, None) => format!("({what}){{{min},}}"),
        (min, Some(max)) => format!("({what}){{{min},{max}}}"),
    }
}

impl Writer<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), GrammarError> {
        self.bytes += bytes + 16;
        match self.bytes > MAX_LARK_BYTES {
            true => {
                let what = "bytes of rules that the schema becomes";
                Err(GrammarError::TooLarge { what, limit: MAX_LARK_BYTES })
            }
            false => Ok(()),
        }
    }

    fn terminal(&mut self, body: String) -> Result<String, GrammarError> {
        if let Some(name) = self.terminals.get(&body) {
            return Ok(name.clone());
        }
        self.grow(body.len())?;
        let name = format!("T{}", self.terminals.len());
        self.terminals.insert(body, name.clone());
        Ok(name)
    }

    fn rule(&mut self, name: String, body: String) -> Result<(), GrammarError> {
        self.grow(name.len() + body.len())?;
        self.rules.push((name, body));
        Ok(())
    }

    fn comma(&mut self) -> Result<String, GrammarError> {
        self.terminal("/, ?/".into())
    }

    fn node(&mut self, node: Node) -> Result<(), GrammarError> {
        let graph = self.graph;
        let mut options = Vec::new();
        for (i, values) in graph.nodes[node].iter().enumerate() {
            options.push(match values {
                Values::Scalars(scalars) => self.scalars(scalars)?,
                Values::Numbers(numbers) => self.numbers(numbers)?,
                Values::Texts(texts) => {
                    let body = self.texts(texts);
                    self.terminal(body)?
                }
                Values::Array(array) => self.array(array, &format!("a{node}-{i}"))?,
                Values::Object(object) => self.object(object, &format!("o{node}-{i}"))?,
            });
        }
        self.rule(format!("n{node}"), options.join(" | "))
    }

    fn scalars(&mut self, scalars: &[Scalar]) -> Result<String, GrammarError> {
        let text = |scalar: &Scalar| match scalar {
            Scalar::Null => "null".to_string(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Number(_, text) => text.clone(),
            Scalar::String(text) => json(text),
        };
        let all: Vec<String> = scalars.iter().map(|scalar| literal(&text(scalar))).collect();
        self.terminal(all.join(" | "))
    }

    fn numbers(&mut self, numbers: &Numbers) -> Result<String, GrammarError> {
        if numbers.multiple.is_none() {
            let expression = numbers.range.expression().unwrap_or_default();
            return self.terminal(format!("/{expression}/"));
        }
        let schema = multiple::schema(numbers);
        if let Some((name, _)) = self.schemas.iter().find(|s| s.1 == schema) {
            return Ok(format!("@{name}"));
        }
        let name = format!("{}m{}", self.prefix, self.schemas.len());
        self.schemas.push((name.clone(), schema));
        Ok(format!("@{name}"))
    }

    fn texts(&self, texts: &Texts) -> String {
        let limited = texts.min > 0 || texts.max.is_some() || texts.patterns.is_empty();
        let lengths = limited.then(|| pattern::terminal(&lengths(texts.min, texts.max)));
        let patterns = texts.patterns.iter().map(|&i| self.document.strings.terminal(i));
        let all: Vec<String> = lengths.into_iter().chain(patterns).collect();
        all.join(" & ")
    }

    fn array(&mut self, array: &Array, name: &str) -> Result<String, GrammarError> {
        let comma = self.comma()?;
        let first = array.prefix.len();
        let mut tail = String::new();
        if let Some(items) = array.items {
            let min = array.min.saturating_sub(first);
            let max = array.max.map(|max| max.saturating_sub(first));
            tail = match first {
                // The first item has no comma in front.
                0 if max != Some(0) => {
                    let more = repeated(
                        &format!("{comma} n{items}"),
                        min.saturating_sub(1),
                        max.map(|max| max - 1),
                    );
                    let all = format!("n{items} {more}");
                    if min == 0 { format!("({all})?") } else { all }
                }
                _ => repeated(&format!("{comma} n{items}"), min, max),
            };
        }
        // Further items are optional, each behind the one before.
        let mut next = tail;
        for i in (0..first).rev() {
            let item = match i {
                0 => format!("n{}", array.prefix[0]),
                i => format!("{comma} n{}", array.prefix[i]),
            };
            let body = match i < array.min {
                true => format!("{item} {next}"),
                false => format!("({item} {next})?"),
            };
            // A rule each, so that parentheses don't pile up.
            let rule = format!("{name}-{i}");
            self.rule(rule.clone(), body)?;
            next = rule;
        }
        Ok(format!("\"[\" {next} \"]\""))
    }

    /// A property with its name and value.
    fn property(&mut self, property: &Property) -> Result<String, GrammarError> {
        let name =
            self.terminal(format!("{} / ?/", literal(&format!("{}:", json(&property.name)))))?;
        Ok(format!("{name} n{}", property.value))
    }

    fn name(&mut self, names: &Names, taken: &[String]) -> Result<String, GrammarError> {
        let mut body = match &names.only {
            Some(only) => {
                let all: Vec<String> = only.iter().map(|name| literal(&json(name))).collect();
                format!("({})", all.join(" | "))
            }
            None => self.texts(&names.texts),
        };
        if names.only.is_none() {
            for &pattern in &names.except {
                let _ = write!(body, " & ~{}", self.document.strings.terminal(pattern));
            }
            if !taken.is_empty() {
                let all: Vec<String> = taken.iter().map(|name| literal(&json(name))).collect();
                let _ = write!(body, " & ~({})", all.join(" | "));
            }
        }
        let name = self.terminal(body)?;
        self.terminal(format!("{name} /: ?/"))
    }

    fn object(&mut self, object: &Object, name: &str) -> Result<String, GrammarError> {
        let mut more = Vec::new();
        for (names, value) in &object.more {
            more.push(format!("{} n{value}", self.name(names, &object.taken)?));
        }
        let more = match more.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            _ => {
                let rule = format!("{name}-x");
                self.rule(rule.clone(), more.join(" | "))?;
                Some(rule)
            }
        };
        let required = object.properties.iter().filter(|p| p.required).count();
        let optional = object.properties.len() - required;
        let least = object.min.saturating_sub(required);
        let most = object.max.map(|max| max.saturating_sub(required));
        let most = most.filter(|&most| more.is_some() || most < optional);
        let body = match least == 0 && most.is_none() {
            true => self.uncounted(object, more.as_deref(), name)?,
            false => self.counted(object, more.as_deref(), name, least, most)?,
        };
        Ok(format!("\"{{\" {body} \"}}\""))
    }

    /// Properties in order, those that are not required may be missing.
    fn uncounted(
        &mut self,
        object: &Object,
        more: Option<&str>,
        name: &str,
    ) -> Result<String, GrammarError> {
        let comma = self.comma()?;
        let properties = &object.properties;
        let mut texts = Vec::new();
        for property in properties {
            texts.push(self.property(property)?);
        }
        let first = properties.iter().position(|p| p.required).unwrap_or(properties.len());
        // What follows a property: rules from the last one on, as far as several places need them.
        let end = more.map_or(String::new(), |more| format!("({comma} {more})*"));
        let mut rest = vec![String::new(); properties.len() + 1];
        rest[properties.len()] = end;
        for i in (1..properties.len()).rev() {
            let item = format!("{comma} {}", texts[i]);
            let item = if properties[i].required { item } else { format!("({item})?") };
            let body = format!("{item} {}", rest[i + 1]);
            rest[i] = match i <= first {
                true => {
                    let rule = format!("{name}-{i}");
                    self.rule(rule.clone(), body)?;
                    rule
                }
                false => {
                    self.grow(body.len())?;
                    body
                }
            };
        }
        // The property that comes first, the last possible one in front: its rest is part of the others'.
        let mut options = Vec::new();
        if first == properties.len() {
            if let Some(more) = more {
                options.push(format!("{more} ({comma} {more})*"));
            }
        } else {
            options.push(format!("{} {}", texts[first], rest[first + 1]));
        }
        for i in (0..first).rev() {
            options.push(format!("{} {}", texts[i], rest[i + 1]));
        }
        let all = options.join(" | ");
        Ok(match (options.len(), first == properties.len()) {
            (0, _) => String::new(),
            (_, true) => format!("({all})?"),
            (1, false) => all,
            (_, false) => format!("({all})"),
        })
    }

    /// Properties in order, with numbers of those that aren't required: `least` of them at least, where properties
    /// that the schema doesn't list count as one, and `most` at most.
    fn counted(
        &mut self,
        object: &Object,
        more: Option<&str>,
        name: &str,
        least: usize,
        most: Option<usize>,
    ) -> Result<String, GrammarError> {
        let comma = self.comma()?;
        let properties = &object.properties;
        let mut texts = Vec::new();
        for property in properties {
            texts.push(self.property(property)?);
        }
        // Without a maximum, a count goes no further than the minimum.
        let top = most.unwrap_or(least);
        if properties.len().saturating_mul(top + 1) > MAX_STATES {
            let what =
                "properties times the number of them that minProperties and maxProperties count";
            return Err(GrammarError::TooLarge { what, limit: MAX_STATES });
        }
        let optional_from = |i: usize| properties[i..].iter().filter(|p| !p.required).count();
        let rule =
            |i: usize, begun: bool, count: usize| format!("{name}-{i}-{}-{count}", u8::from(begun));
        let mut states = BTreeSet::from([(0, false, 0)]);
        let mut queue = vec![(0, false, 0)];
        let mut bodies = Vec::new();
        while let Some((i, begun, count)) = queue.pop() {
            let separator = if begun { format!("{comma} ") } else { String::new() };
            if i == properties.len() {
                let left = most.map(|most| most - count);
                let need = least.saturating_sub(count);
                let body = match more {
                    Some(more) if left != Some(0) => {
                        let again =
                            repeated(&format!("{comma} {more}"), 0, left.map(|left| left - 1));
                        let all = format!("{separator}{more} {again}");
                        if need > 0 { all } else { format!("({all})?") }
                    }
                    _ => "\"\"".to_string(),
                };
                bodies.push((rule(i, begun, count), body));
                continue;
            }
            let mut next = |to: (usize, bool, usize)| {
                let possible = to.2 + optional_from(to.0) + usize::from(more.is_some()) >= least;
                if possible && states.insert(to) {
                    queue.push(to);
                }
                possible.then(|| rule(to.0, to.1, to.2))
            };
            let mut options = Vec::new();
            let taken = if properties[i].required { count } else { count + 1 };
            if most.is_none_or(|most| taken <= most) {
                let taken = if most.is_none() { taken.min(least) } else { taken };
                let rest = next((i + 1, true, taken));
                options.extend(rest.map(|rest| format!("{separator}{} {rest}", texts[i])));
            }
            if !properties[i].required {
                options.extend(next((i + 1, begun, count)));
            }
            bodies.push((rule(i, begun, count), options.join(" | ")));
        }
        for (name, body) in bodies {
            self.rule(name, body)?;
        }
        Ok(rule(0, false, 0))
    }

    /// Refuses rules that begin too deep inside each other, in the order in which llguidance compiles them.
    fn check_depth(&self) -> Result<(), GrammarError> {
        let names: BTreeMap<&str, usize> =
            self.rules.iter().enumerate().map(|(i, rule)| (rule.0.as_str(), i)).collect();
        let uses = |rule: usize| {
            let words = self.rules[rule].1.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let mut uses: Vec<usize> = words.filter_map(|word| names.get(word).copied()).collect();
            uses.reverse();
            uses
        };
        let mut begun = vec![false; self.rules.len()];
        begun[0] = true;
        let mut stack = vec![uses(0)];
        while let Some(rest) = stack.last_mut() {
            match rest.pop() {
                None => {
                    stack.pop();
                }
                Some(rule) if begun[rule] => {}
                Some(rule) => {
                    begun[rule] = true;
                    stack.push(uses(rule));
                }
            }
            if stack.len() > MAX_RULE_DEPTH {
                let what = "levels of schemas within schemas";
                return Err(GrammarError::TooLarge { what, limit: MAX_RULE_DEPTH });
            }
        }
        Ok(())
    }
}
