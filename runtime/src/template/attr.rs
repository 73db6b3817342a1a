//! Attributes and items, with the rules of the sandbox: names with a leading underscore and methods
//! that change a list or a dictionary can't be used.

use std::rc::Rc;

use super::dict::Dict;
use super::error::{Fault, Res};
use super::ops::index_of;
use super::value::{Builtin, Undef, Value, View, ViewKind};
use super::vm::Vm;

const STR: &str = "\
    capitalize casefold center count encode endswith expandtabs find format format_map \
    index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric \
    isprintable isspace istitle isupper join ljust lower lstrip maketrans partition \
    removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split \
    splitlines startswith strip swapcase title translate upper zfill";
const SAFE: &str = "escape striptags unescape";
const LIST: &str = "copy count index";
const LIST_CHANGES: &str = "append clear extend insert pop remove reverse sort";
const TUPLE: &str = "count index";
const DICT: &str = "copy fromkeys get items keys values";
const DICT_CHANGES: &str = "clear pop popitem setdefault update";
const INT: &str = "as_integer_ratio bit_count bit_length conjugate from_bytes to_bytes";
const FLOAT: &str = "as_integer_ratio conjugate fromhex hex is_integer";
const LOOP: &str = "changed cycle";

/// Attributes of every object whose names are enclosed in underscores.
const OBJECT: &str = "\
    __class__ __delattr__ __dir__ __doc__ __eq__ __format__ __ge__ __getattribute__ \
    __getstate__ __gt__ __hash__ __init__ __init_subclass__ __le__ __lt__ __ne__ __new__ \
    __reduce__ __reduce_ex__ __repr__ __setattr__ __sizeof__ __str__ __subclasshook__";
/// Those that containers have too.
const CONTAINER: &str = "\
    __add__ __class_getitem__ __contains__ __delitem__ __getitem__ __getnewargs__ \
    __iadd__ __imul__ __ior__ __iter__ __len__ __mod__ __mul__ __or__ __reversed__ \
    __rmod__ __rmul__ __ror__ __setitem__";

/// A name in a list of them.
fn find(names: &'static str, name: &str) -> Option<&'static str> {
    names.split(' ').find(|n| *n == name)
}

/// The result of looking an attribute up.
enum Found {
    Value(Value),
    /// There is one, but not for templates.
    Unsafe,
    None,
}

impl Vm<'_> {
    /// `value.name`: an attribute, or else an item.
    #[inline(never)]
    pub(super) fn getattr(&mut self, value: &Value, name: &Value) -> Res<Value> {
        let text = name.as_str().unwrap_or("");
        match self.attribute(value, text)? {
            Found::Value(value) => return Ok(value),
            Found::Unsafe => {
                return Ok(Value::undefined(Undef::Unsafe(value.type_name(), name.clone())));
            }
            Found::None => {}
        }
        if let Some(item) = self.item(value, name)? {
            return Ok(item);
        }
        Ok(Value::undefined(Undef::Attr(value.type_name(), name.clone())))
    }

    /// `value[index]`: an item, or else an attribute.
    #[inline(never)]
    pub(super) fn getitem(&mut self, value: &Value, index: &Value) -> Res<Value> {
        if let Some(item) = self.item(value, index)? {
            return Ok(item);
        }
        if let Value::Str(text) = index {
            match self.attribute(value, text.as_str())? {
                Found::Value(value) => return Ok(value),
                Found::Unsafe => {
                    return Ok(Value::undefined(Undef::Unsafe(value.type_name(), index.clone())));
                }
                Found::None => {}
            }
        }
        Ok(Value::undefined(Undef::Attr(value.type_name(), index.clone())))
    }

    /// An item, if there is one.
    fn item(&mut self, value: &Value, index: &Value) -> Res<Option<Value>> {
        Ok(match value {
            Value::Dict(dict) => match dict.get(index, self.meter) {
                Ok(found) => found.cloned(),
                // A key that can't be one is not there.
                Err(e) if matches!(e.kind(), super::TemplateErrorKind::Operation(_)) => None,
                Err(e) => return Err(e),
            },
            Value::List(seq) | Value::Tuple(seq) => {
                let at = index.as_int().and_then(|i| index_of(i, seq.len()));
                at.and_then(|at| seq.items.get(at).cloned())
            }
            Value::Str(text) => {
                let at = index.as_int().and_then(|i| index_of(i, text.chars()));
                match at {
                    None => None,
                    Some(at) => {
                        self.meter.tick_bytes(if text.is_ascii() {
                            0
                        } else {
                            text.byte_of(at)
                        })?;
                        let part = text.part(at, at + 1).to_owned();
                        Some(self.meter.any_text(part, text.safe)?)
                    }
                }
            }
            Value::Range(range) => {
                let len = range.len();
                let at = index.as_int().map(|i| if i < 0 { i.saturating_add(len) } else { i });
                at.filter(|at| (0..len).contains(at)).map(|at| Value::Int(range.get(at)))
            }
            Value::SelfRef => match index {
                Value::Str(name) => self.block_value(name.as_str())?,
                _ => None,
            },
            _ if value.is_undefined() => return Err(value.undefined_error()),
            _ => None,
        })
    }

    /// Python's `getattr`, with what the sandbox thinks of it.
    fn attribute(&mut self, value: &Value, name: &str) -> Res<Found> {
        if let Value::Namespace(n) = value {
            // Namespaces have nothing but what was set.
            let found = self.with_namespace(*n, |dict| Ok(dict.get_str(name).cloned()))?;
            return Ok(match found {
                Some(value) if !name.starts_with('_') => Found::Value(value),
                Some(_) => Found::Unsafe,
                None if name == "__class__" => Found::Unsafe,
                None => Found::None,
            });
        }
        if name.starts_with('_') {
            let container = matches!(
                value,
                Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Range(_)
            );
            let exists =
                find(OBJECT, name).is_some() || container && find(CONTAINER, name).is_some();
            return match value.is_undefined() && !name.starts_with("__") {
                true => Err(value.undefined_error()),
                false if value.is_undefined() && !exists => Err(value.undefined_error()),
                false => Ok(if exists { Found::Unsafe } else { Found::None }),
            };
        }
        let method = match value {
            Value::Undefined(_) | Value::Missing => return Err(value.undefined_error()),
            Value::Str(text) => {
                let own = if text.safe { find(SAFE, name) } else { None };
                own.or_else(|| find(STR, name))
            }
            Value::List(_) if find(LIST_CHANGES, name).is_some() => return Ok(Found::Unsafe),
            Value::List(_) => find(LIST, name),
            Value::Tuple(seq) if seq.group && matches!(name, "grouper" | "list") => {
                let item = seq.items.get(usize::from(name == "list")).cloned();
                return Ok(item.map_or(Found::None, Found::Value));
            }
            Value::Tuple(_) => find(TUPLE, name),
            Value::Dict(_) if find(DICT_CHANGES, name).is_some() => return Ok(Found::Unsafe),
            Value::Dict(_) => find(DICT, name),
            Value::Int(_) | Value::Bool(_) => {
                let n = value.as_int().unwrap_or(0);
                match name {
                    "real" | "numerator" => return Ok(Found::Value(Value::Int(n))),
                    "imag" => return Ok(Found::Value(Value::Int(0))),
                    "denominator" => return Ok(Found::Value(Value::Int(1))),
                    _ => find(INT, name),
                }
            }
            Value::Float(f) => match name {
                "real" => return Ok(Found::Value(Value::Float(*f))),
                "imag" => return Ok(Found::Value(Value::Float(0.0))),
                _ => find(FLOAT, name),
            },
            Value::Range(range) => match name {
                "start" => return Ok(Found::Value(Value::Int(range.start))),
                "stop" => return Ok(Found::Value(Value::Int(range.stop))),
                "step" => return Ok(Found::Value(Value::Int(range.step))),
                _ => find(TUPLE, name),
            },
            Value::Function(Builtin::Dict) if name == "fromkeys" => {
                return Ok(Found::Value(Value::Function(Builtin::FromKeys)));
            }
            Value::Loop(handle) => return self.loop_attribute(handle.id, value, name),
            Value::Cycler(cycler) => match name {
                "current" => {
                    let item = cycler.items.items.get(cycler.at.get()).cloned();
                    return Ok(item.map_or(Found::None, Found::Value));
                }
                "items" => return Ok(Found::Value(Value::Tuple(cycler.items.clone()))),
                "pos" => return Ok(Found::Value(Value::Int(cycler.at.get() as i128))),
                "next" => Some("next"),
                "reset" => Some("reset"),
                _ => None,
            },
            Value::Joiner(joiner) => match name {
                "sep" => return Ok(Found::Value(joiner.separator.clone())),
                "used" => return Ok(Found::Value(Value::Bool(joiner.used.get()))),
                _ => None,
            },
            Value::Macro(n) => return self.macro_attribute(*n, name),
            _ => None,
        };
        match method {
            Some(name) => self.meter.method(value, name).map(Found::Value),
            None => Ok(Found::None),
        }
    }

    fn macro_attribute(&mut self, n: u32, name: &str) -> Res<Found> {
        let Some(signature) = self.macro_signature(n) else { return Ok(Found::None) };
        Ok(Found::Value(match name {
            "name" => match &signature.name {
                Some(name) => self.meter.str(name)?,
                None => Value::None,
            },
            "arguments" => {
                let names = signature.args.iter().map(|(name, _)| self.meter.str(name));
                let names = names.collect::<Res<Vec<Value>>>()?;
                self.meter.tuple(names)?
            }
            "catch_kwargs" => Value::Bool(signature.kwargs.is_some()),
            "catch_varargs" => Value::Bool(signature.varargs.is_some()),
            "caller" => Value::Bool(
                signature.caller.is_some() || signature.args.iter().any(|(n, _)| n == "caller"),
            ),
            "explicit_caller" => {
                Value::Bool(signature.args.iter().any(|(name, _)| name == "caller"))
            }
            _ => return Ok(Found::None),
        }))
    }

    fn loop_attribute(&mut self, id: usize, value: &Value, name: &str) -> Res<Found> {
        let state = self.loop_state(id)?;
        let (index, depth0) = (state.index, state.depth0);
        let item = match name {
            "index" => Value::Int(index),
            "index0" => Value::Int(index - 1),
            "first" => Value::Bool(index == 1),
            "depth0" => Value::Int(depth0),
            "depth" => Value::Int(depth0 + 1),
            "length" => Value::Int(self.length_of_loop(id)?),
            "revindex" => Value::Int(self.length_of_loop(id)? - index + 1),
            "revindex0" => Value::Int(self.length_of_loop(id)? - index),
            "last" => Value::Bool(self.peek_of_loop(id)?.is_none()),
            "previtem" => match state.before.clone() {
                Some(item) if index > 1 => item,
                _ => Value::undefined_hint("there is no previous item"),
            },
            "nextitem" => match self.peek_of_loop(id)? {
                Some(item) => item,
                None => Value::undefined_hint("there is no next item"),
            },
            _ => match find(LOOP, name) {
                Some(name) => self.meter.method(value, name)?,
                None => return Ok(Found::None),
            },
        };
        Ok(Found::Value(item))
    }

    /// True if a value has an attribute, whether or not templates may use it.
    pub(super) fn has_attribute(&mut self, value: &Value, name: &str) -> Res<bool> {
        Ok(!matches!(self.attribute(value, name)?, Found::None))
    }

    /// A view of a dictionary.
    pub(super) fn view(&self, dict: &Rc<Dict>, kind: ViewKind) -> Res<Value> {
        self.meter.depth(dict.depth.saturating_add(1))?;
        Ok(Value::View(Rc::new(View { dict: dict.clone(), kind })))
    }
}

/// The error of calling what can't be called.
pub(super) fn not_callable(value: &Value) -> Fault {
    match value.is_undefined() {
        true => value.undefined_error(),
        false => Fault::op(format!("'{}' object is not callable", value.type_name())),
    }
}
