//! Dictionaries in the order of insertion, with Python's equality of keys, and that equality itself.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};

use super::error::{Fault, Res};
use super::limits::{Charge, Meter};
use super::number::{cmp_int_float, float_to_int};
use super::value::{Builtin, Value, ViewKind};

/// A dictionary. It changes only while it is made, or inside of a namespace.
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    /// Entries by their hash, with a chain of those that share it; only of larger dictionaries.
    index: Option<Index>,
    pub(super) depth: usize,
    charge: Charge,
}

#[derive(Default)]
struct Index {
    state: RandomState,
    first: HashMap<u64, u32>,
    /// The next entry of the same hash, by entry.
    next: Vec<u32>,
}

/// Dictionaries up to this size are searched from the start.
const SMALL: usize = 8;
const NONE: u32 = u32::MAX;
/// Bytes that an entry takes.
const ENTRY: usize = 2 * std::mem::size_of::<Value>() + 40;

impl Dict {
    pub(super) fn new(meter: &Meter<'_>) -> Res<Dict> {
        Ok(Dict { entries: Vec::new(), index: None, depth: 1, charge: meter.charge(64)? })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of a text.
    pub(super) fn get_str(&self, key: &str) -> Option<&Value> {
        let found = match &self.index {
            None => self.entries.iter().position(|(k, _)| k.as_str() == Some(key)),
            Some(index) => {
                let mut hasher = index.state.build_hasher();
                hash_str(key, &mut hasher);
                index.find(hasher.finish(), |at| {
                    self.entries.get(at).is_some_and(|(k, _)| k.as_str() == Some(key))
                })
            }
        };
        found.and_then(|at| self.entries.get(at)).map(|(_, v)| v)
    }

    /// Index of a key.
    pub(super) fn find(&self, key: &Value, meter: &Meter<'_>) -> Res<Option<usize>> {
        let hash = match &self.index {
            // Even where no hash is needed, only what has one can be looked for.
            None => {
                hash(key, &mut NoHash, meter, 0)?;
                for (at, (k, _)) in self.entries.iter().enumerate() {
                    if key.is(k) || equal(key, k, meter, 0)? {
                        return Ok(Some(at));
                    }
                }
                return Ok(None);
            }
            Some(index) => {
                let mut hasher = index.state.build_hasher();
                hash(key, &mut hasher, meter, 0)?;
                hasher.finish()
            }
        };
        let mut failed = None;
        let found = self.index.as_ref().and_then(|index| {
            index.find(hash, |at| {
                let Some((k, _)) = self.entries.get(at) else { return false };
                match key.is(k) {
                    true => true,
                    false => equal(key, k, meter, 0).unwrap_or_else(|e| {
                        failed = Some(e);
                        true
                    }),
                }
            })
        });
        match failed {
            Some(e) => Err(e),
            None => Ok(found),
        }
    }

    pub(super) fn get(&self, key: &Value, meter: &Meter<'_>) -> Res<Option<&Value>> {
        if let Value::Str(text) = key {
            return Ok(self.get_str(text.as_str()));
        }
        Ok(self.find(key, meter)?.and_then(|at| self.entries.get(at)).map(|(_, v)| v))
    }

    /// Sets the value of a key, which keeps its place if it is there.
    pub(super) fn set(&mut self, key: Value, value: Value, meter: &Meter<'_>) -> Res<()> {
        meter.tick(1)?;
        let depth = key.depth().max(value.depth()).saturating_add(1);
        meter.depth(depth)?;
        if let Some(at) = self.find(&key, meter)? {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.1 = value;
            }
            self.depth = self.depth.max(depth);
            return Ok(());
        }
        if self.entries.len() as u64 >= u64::from(NONE) {
            return Err(Fault::unsupported("a dictionary of more than 4294967294 keys"));
        }
        self.charge.grow(ENTRY)?;
        if let Some(index) = &mut self.index {
            index.add(&key, self.entries.len() as u32, meter)?;
        }
        self.entries.push((key, value));
        self.depth = self.depth.max(depth);
        if self.index.is_none() && self.entries.len() > SMALL {
            let mut index = Index::default();
            for (at, (key, _)) in self.entries.iter().enumerate() {
                index.add(key, at as u32, meter)?;
            }
            self.index = Some(index);
        }
        Ok(())
    }

    /// A copy with the same keys and values.
    pub(super) fn copy(&self, meter: &Meter<'_>) -> Res<Dict> {
        let mut copy = Dict::new(meter)?;
        for (key, value) in &self.entries {
            copy.set(key.clone(), value.clone(), meter)?;
        }
        Ok(copy)
    }
}

impl Index {
    fn find(&self, hash: u64, mut is: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut at = self.first.get(&hash).copied().unwrap_or(NONE);
        while at != NONE {
            if is(at as usize) {
                return Some(at as usize);
            }
            at = self.next.get(at as usize).copied().unwrap_or(NONE);
        }
        None
    }

    fn add(&mut self, key: &Value, at: u32, meter: &Meter<'_>) -> Res<()> {
        let mut hasher = self.state.build_hasher();
        hash(key, &mut hasher, meter, 0)?;
        let before = self.first.insert(hasher.finish(), at);
        self.next.push(before.unwrap_or(NONE));
        Ok(())
    }
}

/// A hasher that ignores what it is given.
struct NoHash;

impl Hasher for NoHash {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, _: &[u8]) {}
}

fn hash_str(text: &str, hasher: &mut dyn Hasher) {
    hasher.write_u8(1);
    hasher.write(text.as_bytes());
}

/// Hashes a value, so that equal values have equal hashes.
pub(super) fn hash(
    value: &Value,
    hasher: &mut dyn Hasher,
    meter: &Meter<'_>,
    depth: usize,
) -> Res<()> {
    meter.tick(1)?;
    meter.depth(depth)?;
    match value {
        Value::Missing | Value::Undefined(_) => hasher.write_u8(2),
        Value::None => hasher.write_u8(3),
        Value::Bool(b) => hash_int(i128::from(*b), hasher),
        Value::Int(n) => hash_int(*n, hasher),
        Value::Float(f) => match float_to_int(*f).filter(|n| *n as f64 == *f) {
            Some(n) => hash_int(n, hasher),
            None => {
                hasher.write_u8(5);
                hasher.write_u64(f.to_bits());
            }
        },
        Value::Str(text) => {
            meter.tick_bytes(text.as_str().len())?;
            hash_str(text.as_str(), hasher);
        }
        Value::Tuple(seq) => {
            hasher.write_u8(6);
            hasher.write_usize(seq.len());
            for item in &seq.items {
                hash(item, hasher, meter, depth + 1)?;
            }
        }
        Value::Range(range) => {
            hasher.write_u8(7);
            let len = range.len();
            hash_int(len, hasher);
            if len > 0 {
                hash_int(range.start, hasher);
            }
        }
        Value::List(_) | Value::Dict(_) => {
            return Err(Fault::op(format!("unhashable type: '{}'", value.type_name())));
        }
        Value::View(view) if view.kind != ViewKind::Values => {
            return Err(Fault::op(format!("unhashable type: '{}'", value.type_name())));
        }
        Value::Function(f) => {
            hasher.write_u8(8);
            hash_int(*f as i128, hasher);
        }
        Value::Namespace(n) | Value::Macro(n) | Value::Block(n) => {
            hasher.write_u8(9);
            hasher.write_u32(*n);
        }
        Value::Loop(l) => hasher.write_usize(l.id),
        Value::Method(method) => {
            hasher.write_u8(10);
            hash_str(method.name, hasher);
        }
        Value::View(_) | Value::Iter(_) | Value::Cycler(_) | Value::Joiner(_) | Value::SelfRef => {
            hasher.write_u8(11);
        }
    }
    Ok(())
}

fn hash_int(n: i128, mut hasher: &mut dyn Hasher) {
    hasher.write_u8(4);
    n.hash(&mut hasher);
}

/// Python's `==`.
pub(super) fn equal(a: &Value, b: &Value, meter: &Meter<'_>, depth: usize) -> Res<bool> {
    meter.tick(1)?;
    meter.depth(depth)?;
    Ok(match (a, b) {
        (Value::Missing | Value::Undefined(_), _) | (_, Value::Missing | Value::Undefined(_)) => {
            a.is_undefined() && b.is_undefined()
        }
        (Value::Str(a), Value::Str(b)) => {
            meter.tick_bytes(a.as_str().len())?;
            a.as_str() == b.as_str()
        }
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Float(f), n) | (n, Value::Float(f)) => match n.as_int() {
            Some(n) => cmp_int_float(n, *f) == Some(std::cmp::Ordering::Equal),
            None => false,
        },
        (Value::Int(_) | Value::Bool(_), Value::Int(_) | Value::Bool(_)) => {
            a.as_int() == b.as_int()
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !(a.is(b) || equal(a, b, meter, depth + 1)?) {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match b.get(key, meter)? {
                    Some(other) if value.is(other) || equal(value, other, meter, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            let len = a.len();
            len == b.len() && (len == 0 || a.start == b.start && (len == 1 || a.step == b.step))
        }
        (Value::View(a), Value::View(b))
            if a.kind != ViewKind::Values && b.kind != ViewKind::Values =>
        {
            if a.dict.len() != b.dict.len() || a.kind != b.kind {
                return Ok(a.dict.len() == 0 && b.dict.len() == 0);
            }
            for (key, value) in &a.dict.entries {
                let same = match b.dict.get(key, meter)? {
                    None => false,
                    Some(_) if a.kind == ViewKind::Keys => true,
                    Some(other) => value.is(other) || equal(value, other, meter, depth + 1)?,
                };
                if !same {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Method(a), Value::Method(b)) => a.name == b.name && a.value.is(&b.value),
        (Value::Function(a), Value::Function(b)) => a == b && *a != Builtin::FromKeys,
        _ => a.is(b),
    })
}
