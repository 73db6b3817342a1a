//! Iterators and generators. Those that jinja2 makes lazily are lazy here too: what they skip is never
//! computed, and they can be used once.

use std::cell::Cell;
use std::rc::Rc;

use super::args::{Args, int};
use super::dict::{Dict, hash};
use super::error::{Fault, Res};
use super::filters::{self, attribute};
use super::limits::{Charge, Meter};
use super::ops::truth;
use super::tests;
use super::value::{Range, Seq, Text, Value, ViewKind};
use super::vm::Vm;

/// An iterator.
pub(super) struct Iter {
    /// `None` while it runs.
    state: Cell<Option<Box<State>>>,
    pub(super) depth: usize,
    pub(super) type_name: &'static str,
    _charge: Charge,
}

/// Next action of an iterator.
pub(super) enum State {
    Done,
    /// Items of a list, or from its end.
    Seq {
        seq: Rc<Seq>,
        at: usize,
        back: bool,
    },
    Chars {
        text: Rc<Text>,
        at: usize,
        back: bool,
    },
    Dict {
        dict: Rc<Dict>,
        at: usize,
        kind: ViewKind,
        back: bool,
    },
    Range {
        range: Range,
        at: i128,
        back: bool,
    },
    /// The filters `map`, `select` and their like before their first item.
    Start {
        value: Value,
        args: Args,
        kind: Lazy,
    },
    Map {
        from: Rc<Iter>,
        function: Function,
    },
    Select {
        from: Rc<Iter>,
        part: Option<attribute::Parts>,
        test: Option<(u16, Args)>,
        keep: bool,
    },
    Unique {
        from: Rc<Iter>,
        part: attribute::Parts,
        seen: Dict,
    },
    Batch {
        seq: Rc<Seq>,
        at: usize,
        count: i128,
        fill: Value,
    },
    Slice {
        seq: Rc<Seq>,
        at: usize,
        slices: usize,
        fill: Value,
    },
    /// Items that the filter of a loop accepts.
    Loop {
        from: Rc<Iter>,
        function: u32,
        frame: u32,
    },
}

/// Filters that make a generator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lazy {
    Map,
    Select {
        keep: bool,
        attribute: bool,
    },
    Items,
    /// Case and attribute are arguments.
    Unique,
    /// Count and what is filled in are arguments.
    Batch,
    /// Number of lists and what is filled in are arguments.
    Slice,
}

/// Function that `map` applies to each item.
pub(super) enum Function {
    Attribute(attribute::Parts, Option<Value>),
    Filter(u16, Args),
}

/// Bytes that an iterator takes.
const SIZE: usize = 400;

impl Iter {
    pub(super) fn new(
        state: State,
        depth: usize,
        type_name: &'static str,
        meter: &Meter<'_>,
    ) -> Res<Iter> {
        let depth = depth.saturating_add(1);
        let state = Cell::new(Some(Box::new(state)));
        Ok(Iter { state, depth, type_name, _charge: meter.charge(SIZE)? })
    }

    /// Ends the iterator if it is the filter of a loop: there are no more items.
    pub(super) fn end_filter(&self) {
        match self.state.take() {
            Some(state) if matches!(*state, State::Loop { .. }) => {
                self.state.set(Some(Box::new(State::Done)));
            }
            state => self.state.set(state),
        }
    }
}

/// An iterator over a value, in reverse if `back`. `None` if the value has none.
fn over(value: &Value, back: bool) -> Option<(State, &'static str)> {
    let from = |n: usize| if back { n } else { 0 };
    Some(match value {
        Value::List(seq) => {
            let name = if back { "list_reverseiterator" } else { "list_iterator" };
            (State::Seq { seq: seq.clone(), at: from(seq.len()), back }, name)
        }
        Value::Tuple(seq) => {
            let name = if back { "reversed" } else { "tuple_iterator" };
            (State::Seq { seq: seq.clone(), at: from(seq.len()), back }, name)
        }
        Value::Str(text) => {
            let at = from(text.as_str().len());
            (State::Chars { text: text.clone(), at, back }, "str_iterator")
        }
        Value::Dict(dict) => {
            let (at, kind) = (from(dict.len()), ViewKind::Keys);
            (State::Dict { dict: dict.clone(), at, kind, back }, "dict_keyiterator")
        }
        Value::View(view) => {
            let at = from(view.dict.len());
            let (dict, kind) = (view.dict.clone(), view.kind);
            (State::Dict { dict, at, kind, back }, "dict_iterator")
        }
        Value::Range(range) => {
            let at = if back { range.len() } else { 0 };
            (State::Range { range: **range, at, back }, "range_iterator")
        }
        Value::Undefined(_) => (State::Done, if back { "reversed" } else { "generator" }),
        _ => return None,
    })
}

/// An error of iterating over something else.
fn not_iterable(value: &Value) -> Fault {
    Fault::op(format!("'{}' object is not iterable", value.type_name()))
}

impl<'r> Vm<'r> {
    /// Python's `iter(value)`.
    pub(super) fn iter(&self, value: &Value) -> Res<Rc<Iter>> {
        if let Value::Iter(iter) = value {
            return Ok(iter.clone());
        }
        let (state, name) = over(value, false).ok_or_else(|| not_iterable(value))?;
        Ok(Rc::new(Iter::new(state, value.depth(), name, self.meter)?))
    }

    /// True if a value can be iterated over.
    pub(super) fn is_iterable(&self, value: &Value) -> bool {
        matches!(
            value,
            Value::Iter(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Str(_)
                | Value::Dict(_)
                | Value::View(_)
                | Value::Range(_)
                | Value::Undefined(_)
                | Value::Loop(_)
        )
    }

    /// Python's `reversed(value)`; `None` if the value has none.
    pub(super) fn reversed(&self, value: &Value) -> Res<Option<Rc<Iter>>> {
        match over(value, true) {
            Some((state, name)) => {
                Iter::new(state, value.depth(), name, self.meter).map(|iter| Some(Rc::new(iter)))
            }
            None => Ok(None),
        }
    }

    /// The next item.
    pub(super) fn next(&mut self, iter: &Rc<Iter>) -> Res<Option<Value>> {
        self.meter.tick(1)?;
        let Some(mut state) = iter.state.take() else {
            return Err(Fault::op("generator already executing"));
        };
        let next = match simple(&mut state, self.meter) {
            Some(next) => next,
            None => {
                self.nest += 1;
                let next = self.meter.depth(self.nest).and_then(|()| self.advance(&mut state));
                self.nest -= 1;
                next
            }
        };
        if !matches!(next, Ok(Some(_))) {
            *state = State::Done;
        }
        iter.state.set(Some(state));
        next
    }

    /// All items of a value, as `list(value)` has them.
    pub(super) fn collect(&mut self, value: &Value) -> Res<Vec<Value>> {
        match value {
            Value::List(seq) | Value::Tuple(seq) => {
                let mut items = self.meter.items(seq.len())?;
                self.meter.tick(seq.len() / 8)?;
                items.extend(seq.items.iter().cloned());
                Ok(items)
            }
            _ => {
                let iter = self.iter(value)?;
                let mut items = Vec::new();
                while let Some(item) = self.next(&iter)? {
                    self.meter.push(&mut items, item)?;
                }
                Ok(items)
            }
        }
    }

    /// The same as a list that may be shared.
    pub(super) fn collect_seq(&mut self, value: &Value) -> Res<Rc<Seq>> {
        match value {
            Value::List(seq) | Value::Tuple(seq) => Ok(seq.clone()),
            _ => {
                let items = self.collect(value)?;
                self.meter.seq(items)
            }
        }
    }

    fn advance(&mut self, state: &mut State) -> Res<Option<Value>> {
        if let State::Start { value, args, kind } = state {
            let args = std::mem::take(args);
            match self.start(&value.clone(), args, *kind)? {
                Some(started) => *state = started,
                None => return Ok(None),
            }
            if let Some(next) = simple(state, self.meter) {
                return next;
            }
        }
        match state {
            State::Map { from, function } => {
                let Some(item) = self.next(from)? else { return Ok(None) };
                match function {
                    Function::Attribute(parts, default) => {
                        attribute::get(&item, parts, default.as_ref(), self).map(Some)
                    }
                    Function::Filter(filter, args) => {
                        let args = args.after(item);
                        filters::apply(*filter, args, self).map(Some)
                    }
                }
            }
            State::Select { from, part, test, keep } => {
                while let Some(item) = self.next(from)? {
                    let value = match part {
                        Some(part) => attribute::get(&item, part, None, self)?,
                        None => item.clone(),
                    };
                    let passed = match test {
                        Some((test, args)) => tests::apply(*test, args.after(value), self)?,
                        None => truth(&value, self)?,
                    };
                    if passed == *keep {
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            State::Unique { from, part, seen } => {
                while let Some(item) = self.next(from)? {
                    let key = attribute::get(&item, part, None, self)?;
                    hash(&key, &mut std::hash::DefaultHasher::new(), self.meter, 0)?;
                    if seen.find(&key, self.meter)?.is_none() {
                        seen.set(key, Value::None, self.meter)?;
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            State::Loop { from, function, frame } => {
                while let Some(item) = self.next(from)? {
                    if let Some(item) = self.run_loop_filter(*function, *frame, item)? {
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            _ => Err(Fault::internal("an iterator without a next step")),
        }
    }

    /// The state of a filter's generator when its first item is wanted; `None` if there are none.
    fn start(&mut self, value: &Value, args: Args, kind: Lazy) -> Res<Option<State>> {
        if matches!(kind, Lazy::Map | Lazy::Select { .. }) && !truth(value, self)? {
            return Ok(None);
        }
        Ok(Some(match kind {
            Lazy::Map => self.start_map(value, args)?,
            Lazy::Select { keep, attribute } => self.start_select(value, args, keep, attribute)?,
            Lazy::Items => match value {
                Value::Dict(dict) => {
                    State::Dict { dict: dict.clone(), at: 0, kind: ViewKind::Items, back: false }
                }
                Value::Undefined(_) => return Ok(None),
                _ => return Err(Fault::op("can only get item pairs from a mapping")),
            },
            Lazy::Unique => {
                let [case, attribute] = args.positional("unique", 2)?;
                let case = truth(&case.unwrap_or(Value::None), self)?;
                let attribute = attribute.unwrap_or(Value::None);
                let part = attribute::Parts::new(&attribute, !case, self)?;
                State::Unique { from: self.iter(value)?, part, seen: Dict::new(self.meter)? }
            }
            Lazy::Batch | Lazy::Slice => {
                let [count, fill] = args.positional("batch", 2)?;
                let count = int(&count.unwrap_or(Value::None))?;
                let fill = fill.unwrap_or(Value::None);
                let seq = self.collect_seq(value)?;
                if matches!(value, Value::Iter(_)) {
                    // See `seq::lazy`: deeper items were not counted when this was made.
                    self.meter.depth(seq.depth.saturating_mul(2))?;
                }
                if kind == Lazy::Batch {
                    return Ok(Some(State::Batch { seq, at: 0, count, fill }));
                }
                if count == 0 {
                    return Err(Fault::op("integer division or modulo by zero"));
                }
                let slices = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
                State::Slice { seq, at: 0, slices, fill }
            }
        }))
    }

    fn start_map(&mut self, value: &Value, mut args: Args) -> Res<State> {
        let function = if args.pos.is_empty() && args.has("attribute") {
            let attribute = args.take("attribute").unwrap_or(Value::None);
            let default = args.take("default").filter(|d| !matches!(d, Value::None));
            if let Some((name, _)) = args.kw.first() {
                let name = name.as_str().unwrap_or("");
                return Err(Fault::op(format!("unexpected keyword argument '{name}'")));
            }
            Function::Attribute(attribute::Parts::new(&attribute, false, self)?, default)
        } else {
            let Some(name) = args.shift() else {
                return Err(Fault::op("map requires a filter argument"));
            };
            Function::Filter(filters::by_value(&name)?, args)
        };
        Ok(State::Map { from: self.iter(value)?, function })
    }

    fn start_select(
        &mut self,
        value: &Value,
        mut args: Args,
        keep: bool,
        attribute: bool,
    ) -> Res<State> {
        let mut part = None;
        if attribute {
            let Some(name) = args.shift() else {
                return Err(Fault::op("missing parameter for attribute name"));
            };
            part = Some(attribute::Parts::new(&name, false, self)?);
        }
        let test = match args.shift() {
            Some(name) => Some((tests::by_value(&name)?, args)),
            None => None,
        };
        Ok(State::Select { from: self.iter(value)?, part, test, keep })
    }
}

/// The next item of what needs no machine; `None` for other iterators.
fn simple(state: &mut State, meter: &Meter<'_>) -> Option<Res<Option<Value>>> {
    Some(match state {
        State::Done => Ok(None),
        State::Seq { seq, at, back } => Ok(step(at, *back).and_then(|i| seq.items.get(i).cloned())),
        State::Chars { text, at, back } => {
            let c = match back {
                false => text.as_str().get(*at..).and_then(|rest| rest.chars().next()),
                true => text.as_str().get(..*at).and_then(|rest| rest.chars().next_back()),
            };
            match c {
                None => Ok(None),
                Some(c) => {
                    *at = if *back { *at - c.len_utf8() } else { *at + c.len_utf8() };
                    meter.char(c).map(Some)
                }
            }
        }
        State::Dict { dict, at, kind, back } => {
            let entry = step(at, *back).and_then(|i| dict.entries.get(i));
            match (entry, kind) {
                (None, _) => Ok(None),
                (Some((key, _)), ViewKind::Keys) => Ok(Some(key.clone())),
                (Some((_, value)), ViewKind::Values) => Ok(Some(value.clone())),
                (Some((key, value)), ViewKind::Items) => {
                    meter.tuple(vec![key.clone(), value.clone()]).map(Some)
                }
            }
        }
        State::Range { range, at, back } => {
            let index = if *back { *at - 1 } else { *at };
            if !(0..range.len()).contains(&index) {
                return Some(Ok(None));
            }
            *at = if *back { index } else { index + 1 };
            Ok(Some(Value::Int(range.get(index))))
        }
        State::Batch { seq, at, count, fill } => batch(seq, at, count, fill, meter),
        State::Slice { seq, at, slices, fill } => slice(seq, at, *slices, fill, meter),
        _ => return None,
    })
}

/// The index of the next item, forwards or backwards.
fn step(at: &mut usize, back: bool) -> Option<usize> {
    if back {
        *at = at.checked_sub(1)?;
        return Some(*at);
    }
    let index = *at;
    *at = at.saturating_add(1);
    Some(index)
}

fn batch(
    seq: &Rc<Seq>,
    at: &mut usize,
    count: &mut i128,
    fill: &Value,
    meter: &Meter<'_>,
) -> Res<Option<Value>> {
    let rest = seq.items.get(*at..).unwrap_or(&[]);
    if rest.is_empty() {
        return Ok(None);
    }
    // A batch ends before an item when it has exactly so many.
    if *count == 0 {
        *count = -1;
        return meter.list(Vec::new()).map(Some);
    }
    let count = match *count {
        count @ 1.. => usize::try_from(count).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let taken = rest.len().min(count);
    let wanted = if matches!(fill, Value::None) || count == usize::MAX { taken } else { count };
    let mut items = meter.items(wanted)?;
    meter.tick(wanted / 8)?;
    items.extend(rest.iter().take(taken).cloned());
    items.resize(wanted, fill.clone());
    *at += taken;
    meter.list(items).map(Some)
}

fn slice(
    seq: &Rc<Seq>,
    at: &mut usize,
    slices: usize,
    fill: &Value,
    meter: &Meter<'_>,
) -> Res<Option<Value>> {
    if *at >= slices {
        return Ok(None);
    }
    let each = seq.len() / slices.max(1);
    let longer = seq.len() % slices.max(1);
    let start = *at * each + (*at).min(longer);
    let end = start + each + usize::from(*at < longer);
    let mut items = meter.items(end - start + 1)?;
    meter.tick((end - start) / 8)?;
    items.extend(seq.items.get(start..end).unwrap_or(&[]).iter().cloned());
    if !matches!(fill, Value::None) && *at >= longer {
        items.push(fill.clone());
    }
    *at += 1;
    meter.list(items).map(Some)
}
