//! Schemas that hold at once, as one.

use std::collections::BTreeSet;

use super::super::GrammarError;
use super::super::limits::{MAX_COMBINATIONS, MAX_MERGES};
use super::decimal::{Decimal, Range};
use super::parse::{Document, Id, Scalar, kind};

/// What several schemas allow together.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    /// Kinds of values, besides those of `scalars`.
    pub(super) kinds: u8,
    /// Values without parts; if there are some, `kinds` has none of these kinds.
    pub(super) scalars: Vec<Scalar>,
    pub(super) range: Range,
    pub(super) multiple: Option<Decimal>,
    pub(super) min_length: usize,
    pub(super) max_length: Option<usize>,
    pub(super) patterns: Vec<usize>,
    pub(super) min_items: usize,
    pub(super) max_items: Option<usize>,
    pub(super) required: Vec<String>,
    pub(super) min_properties: usize,
    pub(super) max_properties: Option<usize>,
    /// The schemas.
    pub(super) ids: Vec<Id>,
}

/// How often something was done, up to limits.
#[derive(Default)]
pub(super) struct Work {
    combinations: usize,
    merges: usize,
}

impl Work {
    /// Counts one combination of branches, and its schemas.
    fn combination(&mut self, schemas: usize) -> Result<(), GrammarError> {
        self.combinations += 1;
        if self.combinations > MAX_COMBINATIONS {
            let reason = "`anyOf` and `oneOf` have too many combinations of branches";
            return Err(GrammarError::TooComplex { reason: reason.into() });
        }
        self.merge(schemas)
    }

    /// Counts schemas, values or properties that are looked at.
    pub(super) fn merge(&mut self, schemas: usize) -> Result<(), GrammarError> {
        self.merges = self.merges.saturating_add(schemas + 1);
        if self.merges > MAX_MERGES {
            let reason = "too many schemas hold at once";
            return Err(GrammarError::TooComplex { reason: reason.into() });
        }
        Ok(())
    }
}

/// One way to choose branches.
#[derive(Clone, Default)]
struct Choice<'a> {
    ids: Vec<Id>,
    seen: BTreeSet<Id>,
    groups: Vec<&'a [Id]>,
    kinds: u8,
}

impl Document {
    /// Adds schemas and those that hold with them.
    fn close<'a>(
        &'a self,
        choice: &mut Choice<'a>,
        more: &[Id],
        work: &mut Work,
    ) -> Result<(), GrammarError> {
        let mut stack: Vec<Id> = more.iter().rev().copied().collect();
        while let Some(id) = stack.pop() {
            let schema = &self.schemas[id];
            work.merge(schema.all.len())?;
            if !choice.seen.insert(id) {
                continue;
            }
            choice.ids.push(id);
            choice.kinds &= schema.kinds;
            if let Some(scalars) = &schema.scalars {
                choice.kinds &= scalars.iter().fold(0, |kinds, scalar| kinds | scalar.kind());
            }
            choice.groups.extend(schema.any.iter().map(Vec::as_slice));
            stack.extend(schema.all.iter().rev());
        }
        Ok(())
    }

    /// All ways to choose a branch of each `anyOf` and `oneOf`.
    fn choices(&self, key: &[Id], work: &mut Work) -> Result<Vec<Vec<Id>>, GrammarError> {
        let mut first = Choice { kinds: kind::ALL, ..Choice::default() };
        self.close(&mut first, key, work)?;
        let mut stack = vec![first];
        let mut out = Vec::new();
        while let Some(mut choice) = stack.pop() {
            if choice.kinds == 0 {
                continue;
            }
            let Some(group) = choice.groups.pop() else {
                out.push(choice.ids);
                continue;
            };
            for &branch in group.iter().rev() {
                work.combination(choice.ids.len())?;
                let mut next = choice.clone();
                self.close(&mut next, &[branch], work)?;
                stack.push(next);
            }
        }
        Ok(out)
    }

    /// All that schemas allow together, as alternatives.
    pub(super) fn alternatives(
        &mut self,
        key: &[Id],
        work: &mut Work,
    ) -> Result<Vec<Merged>, GrammarError> {
        let choices = self.choices(key, work)?;
        let mut out = Vec::new();
        for ids in choices {
            let merged = self.merged(ids, work)?;
            if merged.kinds != 0 || !merged.scalars.is_empty() {
                out.push(merged);
            }
        }
        Ok(out)
    }

    fn merged(&mut self, ids: Vec<Id>, work: &mut Work) -> Result<Merged, GrammarError> {
        work.combination(ids.len())?;
        let mut required = BTreeSet::new();
        let mut merged = Merged {
            kinds: kind::ALL,
            scalars: Vec::new(),
            range: Range::default(),
            multiple: None,
            min_length: 0,
            max_length: None,
            patterns: Vec::new(),
            min_items: 0,
            max_items: None,
            required: Vec::new(),
            min_properties: 0,
            max_properties: None,
            ids: Vec::new(),
        };
        let least = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
        let mut scalars: Option<Vec<Scalar>> = None;
        for &id in &ids {
            let schema = &self.schemas[id];
            merged.kinds &= schema.kinds;
            merged.range.integer |= schema.integer;
            schema.low.iter().for_each(|bound| merged.range.raise(bound));
            schema.high.iter().for_each(|bound| merged.range.lower(bound));
            merged.multiple = match (merged.multiple.take(), &schema.multiple) {
                (Some(a), Some(b)) => Some(a.least_common_multiple(b).ok_or_else(|| {
                    let (keyword, at) = ("multipleOf".to_string(), schema.at.clone());
                    let reason = format!("{a} and {b} have no common multiple of a usual size");
                    GrammarError::Unsupported { keyword, at, reason }
                })?),
                (a, b) => a.or(b.clone()),
            };
            merged.min_length = merged.min_length.max(schema.min_length);
            merged.max_length = least(merged.max_length, schema.max_length);
            for &pattern in &schema.patterns {
                if !merged.patterns.contains(&pattern) {
                    merged.patterns.push(pattern);
                }
            }
            merged.min_items = merged.min_items.max(schema.min_items);
            merged.max_items = least(merged.max_items, schema.max_items);
            work.merge(schema.required.len())?;
            for name in &schema.required {
                if required.insert(name) {
                    merged.required.push(name.clone());
                }
            }
            merged.min_properties = merged.min_properties.max(schema.min_properties);
            merged.max_properties = least(merged.max_properties, schema.max_properties);
            if let Some(more) = &schema.scalars {
                work.merge(more.len())?;
                scalars = Some(match scalars {
                    None => more.clone(),
                    Some(before) => shared(before, more),
                });
            }
        }
        if let (Some(step), false) = (&merged.multiple, merged.range.integer) {
            // A power of ten is a number of places, and multiples of integers are integers.
            merged.range.integer = step.is_integer();
            merged.range.places = step.negative_power_of_ten();
        }
        merged.ids = ids;
        if let Some(scalars) = scalars {
            let mut seen = BTreeSet::new();
            for scalar in scalars {
                if seen.insert(scalar.key()) && self.allows(&merged, &scalar)? {
                    merged.scalars.push(scalar);
                }
            }
            // Arrays and objects aren't among the values.
            merged.kinds = 0;
            return Ok(merged);
        }
        let empty = |min: usize, max: Option<usize>| max.is_some_and(|max| min > max);
        if empty(merged.min_length, merged.max_length) {
            merged.kinds &= !kind::STRING;
        }
        if empty(merged.min_items, merged.max_items) {
            merged.kinds &= !kind::ARRAY;
        }
        let properties = merged.min_properties.max(merged.required.len());
        if empty(properties, merged.max_properties) {
            merged.kinds &= !kind::OBJECT;
        }
        Ok(merged)
    }

    /// True if the other keywords allow this value of `const` or `enum`.
    fn allows(&mut self, merged: &Merged, scalar: &Scalar) -> Result<bool, GrammarError> {
        if merged.kinds & scalar.kind() == 0 {
            return Ok(false);
        }
        Ok(match scalar {
            Scalar::Null | Scalar::Bool(_) => true,
            Scalar::Number(value, _) => {
                let multiple =
                    merged.multiple.as_ref().is_none_or(|step| value.is_multiple_of(step));
                multiple && merged.range.contains(value)
            }
            Scalar::String(text) => {
                let length = text.chars().count();
                if length < merged.min_length || merged.max_length.is_some_and(|max| length > max) {
                    return Ok(false);
                }
                for &pattern in &merged.patterns {
                    if !self.strings.matches(pattern, text)? {
                        return Ok(false);
                    }
                }
                true
            }
        })
    }

    /// The schemas that hold for the property `name`, sorted.
    pub(super) fn property(&mut self, ids: &[Id], name: &str) -> Result<Vec<Id>, GrammarError> {
        let mut out = Vec::new();
        for &id in ids {
            let schema = &self.schemas[id];
            let before = out.len();
            out.extend(schema.named.get(name));
            for &(pattern, child) in &schema.pattern_properties {
                if self.strings.matches(pattern, name)? {
                    out.push(child);
                }
            }
            if out.len() == before {
                out.extend(schema.additional);
            }
        }
        Ok(self.key(out))
    }

    /// The schemas that hold for item `index`, sorted.
    pub(super) fn item(&self, ids: &[Id], index: usize) -> Vec<Id> {
        let child = |&id: &Id| {
            let schema = &self.schemas[id];
            schema.prefix.get(index).copied().or(schema.items)
        };
        self.key(ids.iter().filter_map(child).collect())
    }

    /// Number of first items with schemas of their own.
    pub(super) fn prefix(&self, ids: &[Id]) -> usize {
        ids.iter().map(|&id| self.schemas[id].prefix.len()).max().unwrap_or(0)
    }

    /// Sorted, without those that allow everything.
    pub(super) fn key(&self, mut ids: Vec<Id>) -> Vec<Id> {
        ids.retain(|&id| !self.schemas[id].is_any());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Refuses each `oneOf` of which two branches may hold at once.
    pub(super) fn check_one_of(&mut self, work: &mut Work) -> Result<(), GrammarError> {
        for id in 0..self.schemas.len() {
            for &index in &self.schemas[id].one.clone() {
                let branches = self.schemas[id].any[index].clone();
                let mut all = Vec::new();
                for &branch in &branches {
                    let mut alternatives = Vec::new();
                    for mut ids in self.choices(&[branch], work)? {
                        // The keywords beside it hold as well, and those of its other groups are left out.
                        ids.push(id);
                        alternatives.push(self.merged(ids, work)?);
                    }
                    all.push(alternatives);
                }
                for (i, a) in all.iter().enumerate() {
                    for (j, b) in all.iter().enumerate().skip(i + 1) {
                        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
                            if !self.apart(a, b, 4, work)? {
                                let at = self.schemas[id].at.clone();
                                let reason = format!(
                                    "branches {i} and {j} may hold at once: give each a required \
                                     property with another `const`, or write `anyOf`"
                                );
                                let keyword = "oneOf".to_string();
                                return Err(GrammarError::Unsupported { keyword, at, reason });
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// True if it is certain that no value is allowed by both.
    fn apart(
        &mut self,
        a: &Merged,
        b: &Merged,
        depth: usize,
        work: &mut Work,
    ) -> Result<bool, GrammarError> {
        work.combination(a.scalars.len() + b.scalars.len())?;
        let both = !a.scalars.is_empty() && !b.scalars.is_empty();
        if both && !shared(a.scalars.clone(), &b.scalars).is_empty() {
            return Ok(false);
        }
        for (one, other) in [(a, b), (b, a)] {
            for scalar in &one.scalars {
                if other.kinds & scalar.kind() != 0 && self.allows(other, scalar)? {
                    return Ok(false);
                }
            }
        }
        let both = a.kinds & b.kinds;
        if both & (kind::NULL | kind::FALSE | kind::TRUE | kind::STRING) != 0 {
            return Ok(false);
        }
        if both & kind::NUMBER != 0 && !a.range.apart(&b.range) {
            return Ok(false);
        }
        if both & kind::ARRAY != 0 {
            let short = |a: &Merged, b: &Merged| a.max_items.is_some_and(|max| max < b.min_items);
            let mut apart = short(a, b) || short(b, a);
            let length =
                a.min_items.max(b.min_items).min(self.prefix(&a.ids).max(self.prefix(&b.ids)));
            for i in 0..length {
                let (x, y) = (self.item(&a.ids, i), self.item(&b.ids, i));
                apart = apart || self.keys_apart(&x, &y, depth, work)?;
            }
            if !apart {
                return Ok(false);
            }
        }
        if both & kind::OBJECT != 0 {
            let mut apart = false;
            for name in a.required.iter().chain(&b.required) {
                let (x, y) = (self.property(&a.ids, name)?, self.property(&b.ids, name)?);
                apart = apart || self.keys_apart(&x, &y, depth, work)?;
            }
            if !apart {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn keys_apart(
        &mut self,
        a: &[Id],
        b: &[Id],
        depth: usize,
        work: &mut Work,
    ) -> Result<bool, GrammarError> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(false) };
        let (a, b) = (self.alternatives(a, work)?, self.alternatives(b, work)?);
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
            if !self.apart(a, b, depth, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The values that are among others too, however a number is written.
fn shared(values: Vec<Scalar>, others: &[Scalar]) -> Vec<Scalar> {
    let others: BTreeSet<String> = others.iter().map(Scalar::key).collect();
    values.into_iter().filter(|value| others.contains(&value.key())).collect()
}
