//! Jinja2's filters.

pub(super) mod attribute;
mod json;
mod number;
mod seq;
mod text;
mod wrap;

use super::args::Args;
use super::error::{Fault, Res};
use super::value::Value;
use super::vm::Vm;

/// A filter: its first argument is the value that is filtered.
type Filter = fn(Args, &mut Vm<'_>) -> Res<Value>;

/// All filters by name, in alphabetical order.
const FILTERS: [(&str, Filter); 54] = [
    ("abs", number::abs),
    ("attr", seq::attr),
    ("batch", seq::batch),
    ("capitalize", text::capitalize),
    ("center", text::center),
    ("count", seq::length),
    ("d", seq::default),
    ("default", seq::default),
    ("dictsort", seq::dict_sort),
    ("e", text::escape),
    ("escape", text::escape),
    ("filesizeformat", number::file_size),
    ("first", seq::first),
    ("float", number::float),
    ("forceescape", text::force_escape),
    ("format", text::format),
    ("groupby", seq::group_by),
    ("indent", text::indent),
    ("int", number::int),
    ("items", seq::items),
    ("join", seq::join),
    ("last", seq::last),
    ("length", seq::length),
    ("list", seq::list),
    ("lower", text::lower),
    ("map", seq::map),
    ("max", seq::max),
    ("min", seq::min),
    ("pprint", text::pprint),
    ("random", seq::random),
    ("reject", seq::reject),
    ("rejectattr", seq::reject_attr),
    ("replace", text::replace),
    ("reverse", seq::reverse),
    ("round", number::round),
    ("safe", text::safe),
    ("select", seq::select),
    ("selectattr", seq::select_attr),
    ("slice", seq::slice),
    ("sort", seq::sort),
    ("string", text::string),
    ("striptags", text::strip_tags),
    ("sum", seq::sum),
    ("title", text::title),
    ("tojson", json::to_json),
    ("trim", text::trim),
    ("truncate", text::truncate),
    ("unique", seq::unique),
    ("upper", text::upper),
    ("urlencode", text::url_encode),
    ("urlize", text::urlize),
    ("wordcount", text::word_count),
    ("wordwrap", wrap::word_wrap),
    ("xmlattr", text::xml_attr),
];

/// Index of a filter.
pub(super) fn find(name: &str) -> Option<u16> {
    FILTERS.binary_search_by(|(n, _)| (*n).cmp(name)).ok().map(|at| at as u16)
}

/// Index of the filter that a value names.
pub(super) fn by_value(name: &Value) -> Res<u16> {
    match name.as_str() {
        Some(name) => find(name).ok_or_else(|| Fault::op(format!("no filter named '{name}'"))),
        None if name.is_undefined() => Err(name.undefined_error()),
        None => Err(Fault::op("no filter with a name that is no string")),
    }
}

/// Applies a filter.
pub(super) fn apply(filter: u16, args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    vm.meter.tick(1)?;
    match FILTERS.get(usize::from(filter)) {
        Some((_, function)) => function(args, vm),
        None => Err(Fault::internal("a filter is missing")),
    }
}

/// An argument, or `None` of the language.
fn or_none(value: Option<Value>) -> Value {
    value.unwrap_or(Value::None)
}

/// An argument as a truth, false without one.
fn flag(value: Option<Value>, vm: &mut Vm<'_>) -> Res<bool> {
    match value {
        Some(value) => super::ops::truth(&value, vm),
        None => Ok(false),
    }
}
