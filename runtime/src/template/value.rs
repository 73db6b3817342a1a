//! Values of the template language, which are Python's: lists, tuples and dictionaries can't change,
//! since the sandbox has no method that changes them, so that none contains itself.

use std::cell::Cell;
use std::rc::Rc;

use super::dict::Dict;
use super::error::{Fault, Res};
use super::iter::Iter;
use super::limits::{Charge, Meter};
use super::search::floor;

/// A value.
#[derive(Clone)]
pub(super) enum Value {
    /// A variable without a value; never seen by templates.
    Missing,
    Undefined(Rc<Undef>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<Text>),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Dict>),
    Range(Rc<Range>),
    View(Rc<View>),
    /// A generator or an iterator, which can be used once.
    Iter(Rc<Iter>),
    /// A method of a value.
    Method(Rc<Method>),
    Function(Builtin),
    /// By number, as the ones below: what can change is kept by the machine.
    Namespace(u32),
    Macro(u32),
    Loop(Rc<LoopHandle>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    /// The template's own blocks.
    SelfRef,
    Block(u32),
}

/// Reason why a value is undefined.
pub(super) enum Undef {
    /// A variable.
    Name(Value),
    /// An attribute or item of a value of some type.
    Attr(&'static str, Value),
    /// A parameter of a macro.
    Parameter(Value),
    /// A sentence.
    Hint(&'static str),
    /// An attribute that templates may not use.
    Unsafe(&'static str, Value),
}

/// A string, or safe text, which is a string that other strings are escaped for.
pub(super) struct Text {
    text: Box<str>,
    /// Number of characters, once it is known.
    chars: Cell<Option<usize>>,
    pub(super) safe: bool,
    _charge: Charge,
}

/// Items of a list or tuple.
pub(super) struct Seq {
    pub(super) items: Vec<Value>,
    pub(super) depth: usize,
    /// True for the pairs that `groupby` makes, whose items have names.
    pub(super) group: bool,
    _charge: Charge,
}

/// A range of integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
}

/// Keys, values or items of a dictionary.
pub(super) struct View {
    pub(super) dict: Rc<Dict>,
    pub(super) kind: ViewKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ViewKind {
    Keys,
    Values,
    Items,
}

/// A method and the value that it belongs to.
pub(super) struct Method {
    pub(super) value: Value,
    pub(super) name: &'static str,
    pub(super) depth: usize,
}

/// Functions that are there from the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Builtin {
    Range,
    Dict,
    FromKeys,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
    Generation,
}

/// A loop; its state is freed with the last handle when the loop has ended.
#[derive(Debug)]
pub(super) struct LoopHandle {
    pub(super) id: usize,
}

pub(super) struct Cycler {
    pub(super) items: Rc<Seq>,
    pub(super) at: Cell<usize>,
}

pub(super) struct Joiner {
    pub(super) separator: Value,
    pub(super) used: Cell<bool>,
}

/// Bytes that a value takes as part of a list.
const VALUE: usize = std::mem::size_of::<Value>();
/// Bytes that a string or list takes beside its contents.
const OVERHEAD: usize = 96;

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Number of characters.
    pub(super) fn chars(&self) -> usize {
        match self.chars.get() {
            Some(n) => n,
            None => {
                let n = self.text.chars().count();
                self.chars.set(Some(n));
                n
            }
        }
    }

    /// True if characters are bytes.
    pub(super) fn is_ascii(&self) -> bool {
        self.chars() == self.text.len()
    }

    /// Position in bytes of a character, of which there are at least that many or it is the end.
    pub(super) fn byte_of(&self, char: usize) -> usize {
        if self.is_ascii() {
            return char.min(self.text.len());
        }
        self.text.char_indices().nth(char).map_or(self.text.len(), |(at, _)| at)
    }

    /// Number of the character at a byte.
    pub(super) fn char_of(&self, byte: usize) -> usize {
        if self.is_ascii() {
            return byte;
        }
        self.text.get(..byte).map_or(0, |before| before.chars().count())
    }

    /// Characters from one to before another.
    pub(super) fn part(&self, from: usize, to: usize) -> &str {
        if from >= to {
            return "";
        }
        let start = self.byte_of(from);
        let rest = self.text.get(start..).unwrap_or("");
        let length = match self.is_ascii() {
            true => (to - from).min(rest.len()),
            false => rest.char_indices().nth(to - from).map_or(rest.len(), |(at, _)| at),
        };
        rest.get(..length).unwrap_or("")
    }
}

impl Seq {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

impl Range {
    /// Number of integers.
    pub(super) fn len(&self) -> i128 {
        let (low, high, step) = match self.step > 0 {
            true => (self.start, self.stop, self.step),
            false => (self.stop, self.start, self.step.saturating_neg()),
        };
        match high.checked_sub(low) {
            Some(distance) if distance > 0 && step > 0 => (distance - 1) / step + 1,
            _ => 0,
        }
    }

    pub(super) fn get(&self, index: i128) -> i128 {
        self.start.wrapping_add(self.step.wrapping_mul(index))
    }
}

impl Value {
    /// Levels of values in this one: 1 for what contains no others.
    pub(super) fn depth(&self) -> usize {
        match self {
            Value::List(seq) | Value::Tuple(seq) => seq.depth,
            Value::Dict(dict) => dict.depth,
            Value::View(view) => view.dict.depth.saturating_add(1),
            Value::Iter(iter) => iter.depth,
            Value::Method(method) => method.depth,
            Value::Cycler(cycler) => cycler.items.depth.saturating_add(1),
            _ => 1,
        }
    }

    /// Name of the type, as Python has it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Missing | Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(text) if text.safe => "Markup",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Range(_) => "range",
            Value::View(view) => match view.kind {
                ViewKind::Keys => "dict_keys",
                ViewKind::Values => "dict_values",
                ViewKind::Items => "dict_items",
            },
            Value::Iter(iter) => iter.type_name,
            Value::Method(_) => "builtin_function_or_method",
            Value::Function(_) => "function",
            Value::Namespace(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Loop(_) => "LoopContext",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
            Value::SelfRef => "TemplateReference",
            Value::Block(_) => "BlockReference",
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_) | Value::Missing)
    }

    /// The text of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// True for safe text.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self, Value::Str(text) if text.safe)
    }

    /// An integer, or a boolean as one.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    pub(super) fn undefined(why: Undef) -> Value {
        Value::Undefined(Rc::new(why))
    }

    pub(super) fn undefined_hint(hint: &'static str) -> Value {
        Value::undefined(Undef::Hint(hint))
    }

    /// The error of using an undefined value.
    #[cold]
    pub(super) fn undefined_error(&self) -> Fault {
        use super::error::TemplateErrorKind::{Forbidden, Undefined};
        let Value::Undefined(undef) = self else {
            return Undefined("a variable is undefined".into()).into();
        };
        let named = |name: &Value| match name {
            Value::Str(text) => format!("'{}'", text.part(0, 100)),
            Value::Int(n) => n.to_string(),
            other => format!("of type '{}'", other.type_name()),
        };
        match &**undef {
            Undef::Name(name) => Undefined(format!("{} is undefined", named(name))).into(),
            Undef::Attr(of, name) => {
                let kind = if name.as_str().is_some() { "attribute" } else { "element" };
                Undefined(format!("'{of} object' has no {kind} {}", named(name))).into()
            }
            Undef::Parameter(name) => {
                Undefined(format!("parameter {} was not provided", named(name))).into()
            }
            Undef::Hint(hint) => Undefined((*hint).into()).into(),
            Undef::Unsafe(of, name) => {
                Forbidden(format!("the attribute {} of '{of}' is not safe to use", named(name)))
                    .into()
            }
        }
    }
}

/// Construction of values, within the limits.
impl Meter<'_> {
    pub(super) fn text(&self, text: String) -> Res<Value> {
        self.any_text(text, false)
    }

    pub(super) fn str(&self, text: &str) -> Res<Value> {
        self.room(text.len())?;
        self.any_text(text.to_owned(), false)
    }

    pub(super) fn any_text(&self, text: String, safe: bool) -> Res<Value> {
        self.tick_bytes(text.len())?;
        let charge = self.charge(text.len().saturating_add(OVERHEAD))?;
        Ok(Self::charged_text(text, safe, charge))
    }

    pub(super) fn charged_text(text: String, safe: bool, charge: Charge) -> Value {
        let chars = Cell::new(None);
        Value::Str(Rc::new(Text { text: text.into_boxed_str(), chars, safe, _charge: charge }))
    }

    /// A string of one character.
    pub(super) fn char(&self, c: char) -> Res<Value> {
        self.str(c.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn list(&self, items: Vec<Value>) -> Res<Value> {
        Ok(Value::List(self.seq(items)?))
    }

    pub(super) fn tuple(&self, items: Vec<Value>) -> Res<Value> {
        Ok(Value::Tuple(self.seq(items)?))
    }

    pub(super) fn seq(&self, items: Vec<Value>) -> Res<Rc<Seq>> {
        self.tick(items.len() / 8)?;
        let depth = items.iter().map(Value::depth).max().unwrap_or(0).saturating_add(1);
        self.depth(depth)?;
        let charge = self.charge(items.capacity() * VALUE + OVERHEAD)?;
        Ok(Rc::new(Seq { items, depth, group: false, _charge: charge }))
    }

    /// A pair of `groupby`.
    pub(super) fn group(&self, key: Value, items: Value) -> Res<Value> {
        let seq = self.seq(vec![key, items])?;
        match Rc::try_unwrap(seq) {
            Ok(seq) => Ok(Value::Tuple(Rc::new(Seq { group: true, ..seq }))),
            Err(seq) => Ok(Value::Tuple(seq)),
        }
    }

    pub(super) fn method(&self, value: &Value, name: &'static str) -> Res<Value> {
        let depth = value.depth().saturating_add(1);
        self.depth(depth)?;
        Ok(Value::Method(Rc::new(Method { value: value.clone(), name, depth })))
    }

    pub(super) fn iter(&self, iter: Iter) -> Res<Value> {
        self.depth(iter.depth)?;
        Ok(Value::Iter(Rc::new(iter)))
    }

    /// A list with room for `n` values, if there is memory for them.
    pub(super) fn items(&self, n: usize) -> Res<Vec<Value>> {
        self.room(n.saturating_mul(VALUE))?;
        Ok(Vec::with_capacity(n))
    }

    /// Appends to a list that is not a value yet, and checks that there is memory for it.
    pub(super) fn push(&self, items: &mut Vec<Value>, value: Value) -> Res<()> {
        self.tick(1)?;
        if items.len() == items.capacity() {
            self.room(items.len().saturating_mul(2 * VALUE))?;
        }
        items.push(value);
        Ok(())
    }
}

/// A text that is being written, within the limits.
pub(super) struct Buf<'m> {
    text: String,
    charge: Charge,
    meter: &'m Meter<'m>,
}

/// Bytes or characters that are added without a look.
const FILL: usize = 1 << 20;

impl<'m> Buf<'m> {
    pub(super) fn new(meter: &'m Meter<'m>) -> Res<Buf<'m>> {
        Ok(Buf { text: String::new(), charge: meter.charge(OVERHEAD)?, meter })
    }

    /// One that will take this many bytes.
    pub(super) fn with_capacity(meter: &'m Meter<'m>, bytes: usize) -> Res<Buf<'m>> {
        let charge = meter.charge(bytes.saturating_add(OVERHEAD))?;
        Ok(Buf { text: String::with_capacity(bytes), charge, meter })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn meter(&self) -> &'m Meter<'m> {
        self.meter
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn push_str(&mut self, text: &str) -> Res<()> {
        self.meter.tick(1 + text.len() / 16)?;
        self.make_room(text.len())?;
        if text.len() <= FILL {
            self.text.push_str(text);
            return Ok(());
        }
        self.text.reserve(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(floor(rest, FILL));
            self.text.push_str(part);
            self.meter.look()?;
            rest = after;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, c: char) -> Res<()> {
        self.meter.tick(1)?;
        self.make_room(c.len_utf8())?;
        self.text.push(c);
        Ok(())
    }

    /// A character many times.
    pub(super) fn fill(&mut self, c: char, times: usize) -> Res<()> {
        self.meter.tick(times / 8)?;
        self.make_room(times.saturating_mul(c.len_utf8()))?;
        let mut left = times;
        while left > 0 {
            let part = left.min(FILL);
            self.text.extend(std::iter::repeat_n(c, part));
            left -= part;
            if left > 0 {
                self.meter.look()?;
            }
        }
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) -> Res<()> {
        let needed = self.text.len().saturating_add(bytes).saturating_add(OVERHEAD);
        let Some(missing) = needed.checked_sub(self.charge.bytes()).filter(|&n| n > 0) else {
            return Ok(());
        };
        // Doubling, as the string does, if memory allows.
        if self.charge.grow(missing.max(self.text.len())).is_err() {
            self.charge.grow(missing)?;
            self.text.reserve_exact(bytes);
        }
        Ok(())
    }

    pub(super) fn finish(self, safe: bool) -> Res<Value> {
        let Buf { mut text, mut charge, .. } = self;
        text.shrink_to_fit();
        charge.shrink_to(text.len().saturating_add(OVERHEAD));
        Ok(Meter::charged_text(text, safe, charge))
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }
}

impl Value {
    /// True if both are the same object, or equal where objects can't be told apart.
    pub(super) fn is(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::None, Value::None) | (Value::SelfRef, Value::SelfRef) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Str(a), Value::Str(b)) => {
                Rc::ptr_eq(a, b) || (a.text.len() <= 1 && a.text == b.text && !a.safe && !b.safe)
            }
            (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
            (Value::Tuple(a), Value::Tuple(b)) => {
                Rc::ptr_eq(a, b) || (a.items.is_empty() && b.items.is_empty())
            }
            (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
            (Value::Undefined(a), Value::Undefined(b)) => Rc::ptr_eq(a, b),
            (Value::Range(a), Value::Range(b)) => Rc::ptr_eq(a, b),
            (Value::View(a), Value::View(b)) => Rc::ptr_eq(a, b),
            (Value::Iter(a), Value::Iter(b)) => Rc::ptr_eq(a, b),
            (Value::Method(a), Value::Method(b)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => a == b,
            (Value::Namespace(a), Value::Namespace(b)) => a == b,
            (Value::Macro(a), Value::Macro(b)) => a == b,
            (Value::Block(a), Value::Block(b)) => a == b,
            (Value::Loop(a), Value::Loop(b)) => a.id == b.id,
            (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
            (Value::Joiner(a), Value::Joiner(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}
