//! Schemas as a graph: a node for each set of schemas that hold for one value.

use std::collections::{BTreeMap, BTreeSet};

use super::super::GrammarError;
use super::super::limits::{MAX_NAME_PATTERNS, MAX_SCHEMAS};
use super::decimal::{Decimal, EXACT_DIGITS, Range};
use super::merge::{Merged, Work};
use super::parse::{Document, Id, Scalar, kind};

/// Index of a node.
pub(super) type Node = usize;

/// Key of a node without values, in place of a schema.
const NEVER: Id = Id::MAX;

/// Numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Numbers {
    pub(super) range: Range,
    /// Step that isn't part of the range.
    pub(super) multiple: Option<Decimal>,
}

/// Strings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Texts {
    pub(super) min: usize,
    pub(super) max: Option<usize>,
    pub(super) patterns: Vec<usize>,
}

/// Names of properties that a schema doesn't list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Names {
    pub(super) texts: Texts,
    /// Patterns that don't match.
    pub(super) except: Vec<usize>,
    /// If there are some, the only names.
    pub(super) only: Option<Vec<String>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Array {
    pub(super) prefix: Vec<Node>,
    /// `None` if no item follows those of `prefix`.
    pub(super) items: Option<Node>,
    pub(super) min: usize,
    pub(super) max: Option<usize>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) value: Node,
    pub(super) required: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Object {
    pub(super) properties: Vec<Property>,
    /// All names that the schemas list.
    pub(super) taken: Vec<String>,
    pub(super) more: Vec<(Names, Node)>,
    pub(super) min: usize,
    pub(super) max: Option<usize>,
}

/// One kind of values of a node.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Values {
    Scalars(Vec<Scalar>),
    Numbers(Numbers),
    Texts(Texts),
    Array(Array),
    Object(Object),
}

/// All nodes; the root is node 0.
pub(super) struct Graph {
    pub(super) nodes: Vec<Vec<Values>>,
    /// JSON pointers of the nodes' schemas.
    places: Vec<String>,
}

struct Builder {
    document: Document,
    keys: BTreeMap<Vec<Id>, Node>,
    queue: Vec<Vec<Id>>,
    work: Work,
    places: Vec<String>,
}

/// The graph of a document, in which every node has a finite value.
pub(super) fn graph(document: Document) -> Result<(Graph, Document), GrammarError> {
    let mut builder = Builder {
        document,
        keys: BTreeMap::new(),
        queue: Vec::new(),
        work: Work::default(),
        places: Vec::new(),
    };
    builder.document.check_one_of(&mut builder.work)?;
    let root = builder.document.key(vec![0]);
    builder.node(root)?;
    let mut nodes = Vec::new();
    while nodes.len() < builder.queue.len() {
        let key = builder.queue[nodes.len()].clone();
        nodes.push(builder.values(&key)?);
    }
    let mut graph = Graph { nodes, places: builder.places };
    graph.prune()?;
    Ok((graph, builder.document))
}

impl Builder {
    fn node(&mut self, key: Vec<Id>) -> Result<Node, GrammarError> {
        if let Some(&node) = self.keys.get(&key) {
            return Ok(node);
        }
        let node = self.queue.len();
        if node == MAX_SCHEMAS {
            let what = "sets of schemas that hold at once";
            return Err(GrammarError::TooLarge { what, limit: MAX_SCHEMAS });
        }
        let place = key.first().map(|&id| self.document.schemas[id].at.clone());
        self.places.push(place.unwrap_or_default());
        self.keys.insert(key.clone(), node);
        self.queue.push(key);
        Ok(node)
    }

    fn values(&mut self, key: &[Id]) -> Result<Vec<Values>, GrammarError> {
        if key == [NEVER] {
            return Ok(Vec::new());
        }
        let alternatives = self.document.alternatives(key, &mut self.work)?;
        let mut out: Vec<Values> = Vec::new();
        let mut scalars: Vec<Scalar> = Vec::new();
        let mut seen = BTreeSet::new();
        for merged in alternatives {
            let fixed = [
                (kind::NULL, Scalar::Null),
                (kind::TRUE, Scalar::Bool(true)),
                (kind::FALSE, Scalar::Bool(false)),
            ];
            let fixed = fixed.into_iter().filter(|f| merged.kinds & f.0 != 0).map(|f| f.1);
            for scalar in fixed.chain(merged.scalars.iter().cloned()) {
                if seen.insert(scalar.key()) {
                    scalars.push(scalar);
                }
            }
            let mut add = |values: Option<Values>| {
                out.extend(values.filter(|values| !out.contains(values)));
            };
            if merged.kinds & kind::NUMBER != 0 {
                add(self.numbers(&merged)?.map(Values::Numbers));
            }
            if merged.kinds & kind::STRING != 0 {
                add(self.texts(&merged)?.map(Values::Texts));
            }
            if merged.kinds & kind::ARRAY != 0 {
                add(Some(Values::Array(self.array(&merged)?)));
            }
            if merged.kinds & kind::OBJECT != 0 {
                add(Some(Values::Object(self.object(&merged)?)));
            }
        }
        if !scalars.is_empty() {
            out.insert(0, Values::Scalars(scalars));
        }
        Ok(out)
    }

    fn place(&self, merged: &Merged) -> String {
        merged.ids.first().map(|&id| self.document.schemas[id].at.clone()).unwrap_or_default()
    }

    fn numbers(&self, merged: &Merged) -> Result<Option<Numbers>, GrammarError> {
        let mut range = merged.range.clone();
        if !range.integer && !range.is_exact() {
            return Err(GrammarError::Unsupported {
                keyword: "minimum".into(),
                at: self.place(merged),
                reason: format!("bounds of numbers have at most {EXACT_DIGITS} digits"),
            });
        }
        let one = merged.multiple.as_ref().is_some_and(|step| {
            step.negative_power_of_ten()
                .is_some_and(|places| range.integer || range.places == Some(places))
        });
        let multiple = merged.multiple.clone().filter(|_| !one);
        if let Some(step) = &multiple {
            range.places = None;
            super::multiple::bounded(&mut range, step, &self.place(merged))?;
            let (low, high) = (range.low.clone(), range.high.clone());
            if let (Some(low), Some(high)) = (low, high)
                && !Decimal::any_multiple(step, &low.value, &high.value)
            {
                return Ok(None);
            }
        }
        Ok(range.expression().map(|_| Numbers { range, multiple }))
    }

    fn texts(&self, merged: &Merged) -> Result<Option<Texts>, GrammarError> {
        let mut patterns = merged.patterns.clone();
        patterns.sort_unstable();
        let texts = Texts { min: merged.min_length, max: merged.max_length, patterns };
        let limited = texts.min > 0 || texts.max.is_some();
        let lengths = limited.then(|| super::strings::lengths(texts.min, texts.max));
        let any = self.document.strings.any(&texts.patterns, &[], &[], lengths.as_ref())?;
        Ok(any.then_some(texts))
    }

    fn array(&mut self, merged: &Merged) -> Result<Array, GrammarError> {
        let most = merged.max_items.unwrap_or(usize::MAX);
        let first = self.document.prefix(&merged.ids);
        let mut prefix = Vec::new();
        for i in 0..first.min(most) {
            let key = self.document.item(&merged.ids, i);
            prefix.push(self.node(key)?);
        }
        let mut items = None;
        if most > first {
            let key = self.document.item(&merged.ids, first);
            items = Some(self.node(key)?);
        }
        Ok(Array { prefix, items, min: merged.min_items, max: merged.max_items })
    }

    fn object(&mut self, merged: &Merged) -> Result<Object, GrammarError> {
        let ids = &merged.ids;
        let mut taken: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        for &id in ids {
            let names = self.document.schemas[id].properties.iter().map(|p| &p.0);
            taken.extend(names.filter(|name| seen.insert((*name).clone())).cloned());
        }
        let required = merged.required.iter().filter(|name| seen.insert((*name).clone()));
        taken.extend(required.cloned());
        let names = self.names(ids)?;
        let required: BTreeSet<&String> = merged.required.iter().collect();
        let mut properties = Vec::new();
        for name in &taken {
            self.work.merge(ids.len())?;
            let mut allowed = false;
            for options in &names {
                allowed = allowed || self.named(options, name)?;
            }
            let required = required.contains(name);
            let key = match allowed {
                true => Some(self.document.property(ids, name)?),
                false => None,
            };
            match key {
                Some(key) => {
                    let value = self.node(key)?;
                    properties.push(Property { name: name.clone(), value, required });
                }
                // A node without values.
                None if required => {
                    let never = self.never()?;
                    properties.push(Property { name: name.clone(), value: never, required });
                }
                None => {}
            }
        }
        let more = self.more(ids, &taken, &names)?;
        let (min, max) = (merged.min_properties, merged.max_properties);
        if !more.is_empty() && min > properties.len() + 1 {
            return Err(GrammarError::Unsupported {
                keyword: "minProperties".into(),
                at: self.place(merged),
                reason: format!(
                    "of properties that the schema doesn't list, a grammar can't tell if one is there twice: \
                     {min} needs {} more in `properties`",
                    min - properties.len() - 1
                ),
            });
        }
        Ok(Object { properties, taken, more, min, max })
    }

    fn never(&mut self) -> Result<Node, GrammarError> {
        let node = self.queue.len();
        self.places.push(String::new());
        self.queue.push(vec![NEVER]);
        Ok(node)
    }

    /// Alternatives for names.
    fn names(&mut self, ids: &[Id]) -> Result<Vec<Names>, GrammarError> {
        let ids = ids.iter().filter_map(|&id| self.document.schemas[id].names).collect();
        let key = self.document.key(ids);
        let mut out = Vec::new();
        for merged in self.document.alternatives(&key, &mut self.work)? {
            let only: Vec<String> = merged
                .scalars
                .iter()
                .filter_map(|scalar| match scalar {
                    Scalar::String(text) => Some(text.clone()),
                    _ => None,
                })
                .collect();
            if !only.is_empty() {
                let texts = Texts::default();
                out.push(Names { texts, except: Vec::new(), only: Some(only) });
            }
            if merged.kinds & kind::STRING != 0
                && let Some(texts) = self.texts(&merged)?
            {
                out.push(Names { texts, except: Vec::new(), only: None });
            }
        }
        Ok(out)
    }

    fn named(&mut self, names: &Names, name: &str) -> Result<bool, GrammarError> {
        if let Some(only) = &names.only {
            return Ok(only.iter().any(|other| other == name));
        }
        let length = name.chars().count();
        if length < names.texts.min || names.texts.max.is_some_and(|max| length > max) {
            return Ok(false);
        }
        for &pattern in &names.texts.patterns {
            if !self.document.strings.matches(pattern, name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Properties with other names, by which patterns the names match.
    fn more(
        &mut self,
        ids: &[Id],
        taken: &[String],
        names: &[Names],
    ) -> Result<Vec<(Names, Node)>, GrammarError> {
        let mut patterns = BTreeSet::new();
        for &id in ids {
            patterns.extend(self.document.schemas[id].pattern_properties.iter().map(|p| p.0));
        }
        let patterns: Vec<usize> = patterns.into_iter().collect();
        if patterns.len() > MAX_NAME_PATTERNS {
            let place =
                ids.iter().find(|&&id| !self.document.schemas[id].pattern_properties.is_empty());
            return Err(GrammarError::Unsupported {
                keyword: "patternProperties".into(),
                at: place.map(|&id| self.document.schemas[id].at.clone()).unwrap_or_default(),
                reason: format!("at most {MAX_NAME_PATTERNS} patterns hold for one object"),
            });
        }
        let mut out = Vec::new();
        for set in 0..1_usize << patterns.len() {
            let inside = |i: usize| set >> i & 1 == 1;
            let part = |wanted: bool| {
                let all = patterns.iter().enumerate();
                all.filter(move |&(i, _)| inside(i) == wanted).map(|(_, &p)| p).collect::<Vec<_>>()
            };
            let (with, without) = (part(true), part(false));
            let mut children = Vec::new();
            for &id in ids {
                let schema = &self.document.schemas[id];
                let matched = schema.pattern_properties.iter().filter(|p| with.contains(&p.0));
                let before = children.len();
                children.extend(matched.map(|p| p.1));
                if children.len() == before {
                    children.extend(schema.additional);
                }
            }
            let key = self.document.key(children);
            // Such as `additionalProperties`: false.
            if key.iter().any(|&id| self.document.schemas[id].kinds == 0) {
                continue;
            }
            let mut all = Vec::new();
            for names in names {
                all.extend(self.narrowed(names, &with, &without, taken)?);
            }
            if !all.is_empty() {
                let node = self.node(key)?;
                out.extend(all.into_iter().map(|names| (names, node)));
            }
        }
        Ok(out)
    }

    /// Names that also match patterns and don't match others; `None` if there are none.
    fn narrowed(
        &mut self,
        names: &Names,
        with: &[usize],
        without: &[usize],
        taken: &[String],
    ) -> Result<Option<Names>, GrammarError> {
        let mut names = names.clone();
        if let Some(only) = names.only.take() {
            let mut left = Vec::new();
            for name in only {
                let mut fits = !taken.contains(&name);
                for (patterns, wanted) in [(with, true), (without, false)] {
                    for &pattern in patterns {
                        fits = fits && self.document.strings.matches(pattern, &name)? == wanted;
                    }
                }
                if fits {
                    left.push(name);
                }
            }
            names.only = Some(left.clone());
            return Ok((!left.is_empty()).then_some(names));
        }
        names.texts.patterns.extend(with);
        names.texts.patterns.sort_unstable();
        names.texts.patterns.dedup();
        names.except.extend(without);
        let (min, max) = (names.texts.min, names.texts.max);
        let lengths = (min > 0 || max.is_some()).then(|| super::strings::lengths(min, max));
        let strings = &self.document.strings;
        let any = strings.any(&names.texts.patterns, &names.except, taken, lengths.as_ref())?;
        Ok(any.then_some(names))
    }
}

impl Graph {
    /// Removes values that can't be finite or complete, and refuses a root without values.
    fn prune(&mut self) -> Result<(), GrammarError> {
        let mut finite = vec![false; self.nodes.len()];
        loop {
            let mut changed = false;
            for node in (0..self.nodes.len()).rev() {
                if !finite[node] && self.nodes[node].iter().any(|values| possible(values, &finite))
                {
                    finite[node] = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        if !finite[0] {
            return Err(self.impossible(&finite));
        }
        for values in self.nodes.iter_mut().flatten() {
            match values {
                Values::Array(array) => {
                    if let Some(end) = array.prefix.iter().position(|&node| !finite[node]) {
                        array.prefix.truncate(end);
                        array.items = None;
                    }
                    array.items = array.items.filter(|&node| finite[node]);
                }
                Values::Object(object) => {
                    object.properties.retain(|p| p.required || finite[p.value]);
                    object.more.retain(|&(_, node)| finite[node]);
                }
                Values::Scalars(_) | Values::Numbers(_) | Values::Texts(_) => {}
            }
        }
        for node in &mut self.nodes {
            node.retain(|values| possible(values, &finite));
        }
        Ok(())
    }

    /// The error for a root without values, with the deepest place that is at fault for certain.
    fn impossible(&self, finite: &[bool]) -> GrammarError {
        let mut node = 0;
        let mut seen = BTreeSet::new();
        while seen.insert(node) {
            let [values] = self.nodes[node].as_slice() else { break };
            let child = match values {
                Values::Object(object) => {
                    let required = object.properties.iter().filter(|p| p.required);
                    required.map(|p| p.value).find(|&child| !finite[child])
                }
                Values::Array(array) => {
                    array.prefix.iter().copied().chain(array.items).find(|&c| !finite[c])
                }
                Values::Scalars(_) | Values::Numbers(_) | Values::Texts(_) => None,
            };
            match child {
                Some(child) => node = child,
                None => break,
            }
        }
        let reason = match (seen.contains(&node) && self.nodes[node].is_empty(), seen.len()) {
            (true, _) => "the keywords contradict each other",
            (false, 1) => "the numbers of items or properties contradict the schemas of these",
            (false, _) => {
                "it would go on without end, or an object needs more properties than it may have"
            }
        };
        GrammarError::Unsatisfiable { at: self.places[node].clone(), reason: reason.into() }
    }
}

/// True if a value exists whose parts are of finite nodes.
fn possible(values: &Values, finite: &[bool]) -> bool {
    match values {
        Values::Scalars(_) | Values::Numbers(_) | Values::Texts(_) => true,
        Values::Array(array) => {
            let first = array.prefix.iter().take(array.min).all(|&node| finite[node]);
            let rest =
                array.min <= array.prefix.len() || array.items.is_some_and(|node| finite[node]);
            first && rest
        }
        Values::Object(object) => {
            let required = object.properties.iter().filter(|p| p.required);
            let optional =
                object.properties.iter().filter(|p| !p.required && finite[p.value]).count();
            let more = object.more.iter().any(|&(_, node)| finite[node]);
            required.clone().all(|p| finite[p.value])
                && required.count() + optional + usize::from(more) >= object.min
        }
    }
}
