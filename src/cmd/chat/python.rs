//! The parts of Python that chat templates rely on: methods of strings and dictionaries, JSON, and
//! the functions that transformers adds.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

use super::template::Raised;

/// Maximum nesting depth of values converted to JSON.
const MAX_DEPTH: usize = 64;

/// Adds all of them to the environment.
pub(super) fn add(env: &mut Environment<'_>) {
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", to_json);
    env.add_function("raise_exception", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(why)))
    });
    env.add_function("strftime_now", |format: String| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        strftime(&format, now)
    });
}

/// Calls a method of a string or of a dictionary.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return of_string(text, name, args);
    }
    match (value.kind(), name) {
        (ValueKind::Map, "items") => {
            let () = from_args(args)?;
            state.apply_filter("items", std::slice::from_ref(value))
        }
        (ValueKind::Map, "keys") => {
            let () = from_args(args)?;
            Ok(value.try_iter()?.collect())
        }
        (ValueKind::Map, "values") => {
            let () = from_args(args)?;
            let values: Result<Vec<Value>, Error> =
                value.try_iter()?.map(|key| value.get_item(&key)).collect();
            values.map(Value::from)
        }
        (ValueKind::Map, "get") => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn of_string(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let strip = |start: bool, end: bool| -> Result<Value, Error> {
        let (set,): (Option<String>,) = from_args(args)?;
        let out = |c: char| set.as_ref().map_or(c.is_whitespace(), |set| set.contains(c));
        let text = if start { text.trim_start_matches(out) } else { text };
        Ok(Value::from(if end { text.trim_end_matches(out) } else { text }))
    };
    // A string, or several of them.
    let any = |test: &dyn Fn(&str) -> bool| -> Result<Value, Error> {
        let (what,): (Value,) = from_args(args)?;
        if let Some(what) = what.as_str() {
            return Ok(Value::from(test(what)));
        }
        let mut all = what.try_iter()?;
        Ok(Value::from(all.any(|what| what.as_str().is_some_and(test))))
    };
    let none = || from_args::<()>(args);
    match name {
        "strip" => strip(true, true),
        "lstrip" => strip(true, false),
        "rstrip" => strip(false, true),
        "startswith" => any(&|what| text.starts_with(what)),
        "endswith" => any(&|what| text.ends_with(what)),
        "upper" => none().map(|()| Value::from(text.to_uppercase())),
        "lower" => none().map(|()| Value::from(text.to_lowercase())),
        "capitalize" | "title" => {
            none()?;
            Ok(Value::from(capitalized(text, name == "title")))
        }
        "isdigit" => {
            none()?;
            Ok(Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())))
        }
        "split" => split(text, args, false),
        "rsplit" => split(text, args, true),
        "splitlines" => none().map(|()| text.lines().map(Value::from).collect()),
        "replace" => {
            let (from, to, count): (String, String, Option<usize>) = from_args(args)?;
            Ok(Value::from(match count {
                Some(count) => text.replacen(&from, &to, count),
                None => text.replace(&from, &to),
            }))
        }
        "find" | "rfind" => {
            let (what,): (String,) = from_args(args)?;
            let at = if name == "find" { text.find(&what) } else { text.rfind(&what) };
            // Python counts characters.
            Ok(Value::from(at.map_or(-1, |at| text[..at].chars().count() as i64)))
        }
        "count" => {
            let (what,): (String,) = from_args(args)?;
            Ok(Value::from(text.matches(&what).count()))
        }
        "join" => {
            let (parts,): (Value,) = from_args(args)?;
            let parts: Vec<String> = parts.try_iter()?.map(|part| part.to_string()).collect();
            Ok(Value::from(parts.join(text)))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

/// The first letter in upper case and the others in lower case; with `title`, in every word.
fn capitalized(text: &str, title: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        starts = title && !c.is_alphabetic();
    }
    out
}

fn split(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (by, most, named): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
    let most = most.or(named.get::<Option<i64>>("maxsplit")?);
    named.assert_all_used()?;
    // One part more than splits; a negative number is no limit.
    let limit =
        most.and_then(|n| usize::try_from(n).ok()).map_or(usize::MAX, |n| n.saturating_add(1));
    let Some(by) = by else {
        return match limit {
            usize::MAX => Ok(text.split_whitespace().map(Value::from).collect()),
            _ => Err(Error::new(ErrorKind::InvalidOperation, "split needs what to split at")),
        };
    };
    if by.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    if !from_end {
        return Ok(text.splitn(limit, &by).map(Value::from).collect());
    }
    let mut parts: Vec<Value> = text.rsplitn(limit, &by).map(Value::from).collect();
    parts.reverse();
    Ok(Value::from(parts))
}

/// JSON as written by `json.dumps`: with the separators `", "` and `": "`, and without unnecessary
/// escapes.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    // These options always have these values in transformers.
    let _: (Option<bool>, Option<Value>, Option<bool>) =
        (options.get("ensure_ascii")?, options.get("separators")?, options.get("sort_keys")?);
    options.assert_all_used()?;
    let indent = indent.map(|n| n.min(16));
    let mut out = String::new();
    write_json(value, indent, 0, &mut out)?;
    Ok(out)
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    let refuse = |why: &'static str| Error::new(ErrorKind::InvalidOperation, why);
    if depth > MAX_DEPTH {
        return Err(refuse("a value nests too deep for JSON"));
    }
    let between = |first: bool, depth: usize, out: &mut String| {
        match (first, indent) {
            (true, _) => {}
            (false, Some(_)) => out.push(','),
            (false, None) => out.push_str(", "),
        }
        if let Some(n) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', n * depth));
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut first = true;
            for part in value.try_iter()? {
                between(first, depth + 1, out);
                write_json(&part, indent, depth + 1, out)?;
                first = false;
            }
            if !first {
                between(true, depth, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            let mut first = true;
            for key in value.try_iter()? {
                between(first, depth + 1, out);
                quote(&key.to_string(), out);
                out.push_str(": ");
                write_json(&value.get_item(&key)?, indent, depth + 1, out)?;
                first = false;
            }
            if !first {
                between(true, depth, out);
            }
            out.push('}');
        }
        _ => return Err(refuse("a value that has no JSON form")),
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The time `seconds` after the start of 1970, formatted by `format`. In UTC: std knows no other
/// zone.
pub(super) fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (days, time) = (seconds / 86400, seconds % 86400);
    // A clock beyond the year 9999 is wrong.
    let (mut year, mut rest) = (1970, days.min(2_932_896));
    loop {
        let length = 365 + u64::from(leap(year));
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let of_year = rest + 1;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    let (day, hour, minute, second) = (rest + 1, time / 3600, time / 60 % 60, time % 60);
    let weekday = DAYS[(days % 7) as usize];
    let half = if hour < 12 { "AM" } else { "PM" };
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        // `%-d`: without the leading zero.
        let bare = code == Some('-');
        if bare {
            code = chars.next();
        }
        let part = match code {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{:02}", month + 1),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('j') => format!("{of_year:03}"),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('p') => half.into(),
            Some('B') => MONTHS[month].into(),
            Some('b') => MONTHS[month][..3].into(),
            Some('A') => weekday.into(),
            Some('a') => weekday[..3].into(),
            Some('F') => format!("{year}-{:02}-{day:02}", month + 1),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".into(),
            other => {
                let code = other.map(String::from).unwrap_or_default();
                let why = format!("strftime_now has no %{code}");
                return Err(Error::new(ErrorKind::InvalidOperation, why));
            }
        };
        match bare.then(|| part.trim_start_matches('0')) {
            Some("") => out.push('0'),
            Some(short) => out.push_str(short),
            None => out.push_str(&part),
        }
    }
    Ok(out)
}
