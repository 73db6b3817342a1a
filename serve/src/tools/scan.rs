//! Recognisers of single tool calls, one for each format, which are given a text that grows.

use super::gemma::GemmaScan;
use super::json::{self, JsonScan, Scan};
use super::lfm::LfmScan;
use super::xml::XmlScan;

/// Function that may be called, as far as parsers need it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Function {
    /// Name.
    pub(crate) name: String,
    /// JSON schema of the arguments, always an object.
    pub(crate) parameters: serde_json::Value,
    /// True if arguments must be valid even where no call is forced.
    pub(crate) strict: bool,
}

/// A call: the function's name, and the arguments as the text of a JSON object.
pub(crate) type Call = (String, String);

/// State of a recogniser.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Step {
    /// All of the text belongs to the call, which goes on.
    More,
    /// It is no call, however it goes on.
    Bad,
    /// The calls end before this byte.
    Done(usize, Vec<Call>),
}

/// Kind of text behind an opening marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A JSON object, perhaps with `</tool_call>` behind it; or XML elements, where they are allowed.
    Tag {
        /// True if the object may be `<function=..>` instead.
        xml: bool,
    },
    /// The rest of `<function=`, without `<tool_call>` around it.
    Xml,
    /// A JSON object, which stands alone.
    Object,
    /// Text behind `[TOOL_CALLS]`.
    Mistral,
    /// Text behind `<|tool_call>`.
    Gemma,
    /// Text behind `<|tool_call_start|>`.
    Lfm,
}

/// Recogniser of the text behind an opening marker.
#[derive(Clone, Debug)]
pub(crate) enum CallScan {
    /// Blanks before a value of unknown form.
    Blank(Kind),
    /// A JSON object or array, and the markup behind it.
    Json(JsonCall),
    Xml(XmlScan),
    Gemma(GemmaScan),
    Lfm(LfmScan),
}

/// State of a call in JSON.
#[derive(Clone, Debug)]
pub(crate) struct JsonCall {
    /// Start of the value.
    start: usize,
    scan: JsonScan,
    /// End of the value, once that is known.
    end: Option<usize>,
    /// Function's name, if it stands before the value, which is then the arguments.
    name: Option<String>,
    /// Closing tag, which may be missing.
    close: &'static str,
}

impl CallScan {
    pub(crate) fn new(kind: Kind) -> CallScan {
        match kind {
            Kind::Xml => CallScan::Xml(XmlScan::new(0, false)),
            Kind::Gemma => CallScan::Gemma(GemmaScan::new()),
            Kind::Lfm => CallScan::Lfm(LfmScan::default()),
            kind => CallScan::Blank(kind),
        }
    }

    /// Looks at `text`, the same as before with more at its end, from behind the opening marker on.
    /// `ended` is true if no more will come.
    pub(crate) fn step(&mut self, text: &str, ended: bool, functions: &[Function]) -> Step {
        let step = match self.proceed(text, ended, functions) {
            Step::More if ended => return Step::Bad,
            step => step,
        };
        let known = |(name, _): &Call| functions.iter().any(|f| f.name == *name);
        match step {
            Step::Done(_, calls) if calls.is_empty() || !calls.iter().all(known) => Step::Bad,
            step => step,
        }
    }

    fn proceed(&mut self, text: &str, ended: bool, functions: &[Function]) -> Step {
        if let CallScan::Blank(kind) = *self {
            let start = text.len() - text.trim_ascii_start().len();
            match Self::begin(kind, text, start) {
                Ok(Some(scan)) => *self = scan,
                Ok(None) => return Step::More,
                Err(()) => return Step::Bad,
            }
        }
        match self {
            CallScan::Blank(_) => Step::More,
            CallScan::Json(call) => call.step(text, ended),
            CallScan::Xml(scan) => scan.step(text, ended, functions),
            CallScan::Gemma(scan) => scan.step(text, ended),
            CallScan::Lfm(scan) => scan.step(text, ended),
        }
    }

    /// The recogniser for what begins at `start`; `Ok(None)` if that is not yet known.
    fn begin(kind: Kind, text: &str, start: usize) -> Result<Option<CallScan>, ()> {
        let rest = &text[start..];
        let json = |start, name, close| {
            let scan = JsonScan::new();
            Ok(Some(CallScan::Json(JsonCall { start, scan, end: None, name, close })))
        };
        let Some(first) = rest.chars().next() else { return Ok(None) };
        match (kind, first) {
            (Kind::Tag { .. }, '{') => json(start, None, "</tool_call>"),
            (Kind::Tag { xml: true }, '<') => match rest.strip_prefix("<function=") {
                Some(_) => {
                    let at = start + "<function=".len();
                    Ok(Some(CallScan::Xml(XmlScan::new(at, true))))
                }
                None if "<function=".starts_with(rest) => Ok(None),
                None => Err(()),
            },
            (Kind::Object, '{') | (Kind::Mistral, '[') => json(start, None, ""),
            (Kind::Mistral, _) => match mistral_name(rest)? {
                Some((name, length)) => json(start + length, Some(name), ""),
                None => Ok(None),
            },
            _ => Err(()),
        }
    }

    /// Name and arguments of the call in JSON that is going on, as far as the arguments have come: the
    /// name, the place where they begin, and the place up to which they are certain.
    pub(crate) fn begun(&mut self, text: &str) -> Option<(String, usize, usize)> {
        let CallScan::Json(call) = self else { return None };
        let seen = call.start + call.scan.seen();
        if let Some(name) = &call.name {
            return Some((name.clone(), call.start, call.end.unwrap_or(seen)));
        }
        let (name, at) = json::head(&text[call.start..], &ARGUMENTS).ok()??;
        let end = call.scan.inner();
        Some((name, call.start + at, end.map_or(seen, |end| call.start + end)))
    }
}

impl JsonCall {
    fn step(&mut self, text: &str, ended: bool) -> Step {
        let end = match self.end {
            Some(end) => end,
            None => match self.scan.scan(&text[self.start..]) {
                Scan::More => return Step::More,
                Scan::Bad => return Step::Bad,
                Scan::End(end) => {
                    self.end = Some(self.start + end);
                    self.start + end
                }
            },
        };
        let rest = &text[end..];
        let behind = rest.trim_ascii_start();
        let length = match behind.strip_prefix(self.close) {
            _ if self.close.is_empty() => end,
            Some(rest) => text.len() - rest.len(),
            None if self.close.starts_with(behind) && !ended => return Step::More,
            None => end,
        };
        let value = &text[self.start..end];
        let calls = match &self.name {
            Some(name) => value.starts_with('{').then(|| vec![(name.clone(), value.to_owned())]),
            None if value.starts_with('[') => list(value),
            None => object(value).map(|call| vec![call]),
        };
        calls.map_or(Step::Bad, |calls| Step::Done(length, calls))
    }
}

/// Keys of the arguments in a call.
const ARGUMENTS: [&str; 2] = ["arguments", "parameters"];

/// Calls in a JSON array.
fn list(value: &str) -> Option<Vec<Call>> {
    json::items(value)?.into_iter().map(|item| object(item.get())).collect()
}

/// The call that a JSON object is, with a name and perhaps arguments. These may be missing, null, or an
/// object that is written as a string.
fn object(value: &str) -> Option<Call> {
    let members = json::members(value)?;
    let name = json::string(members.get("name")?.get())?;
    let arguments = ARGUMENTS.iter().find_map(|key| members.get(*key));
    let arguments = match arguments.map(|raw| raw.get()) {
        None | Some("null") => "{}".to_owned(),
        Some(raw) if raw.starts_with('{') => raw.to_owned(),
        Some(raw) => json::string(raw).filter(|text| json::is_object(text))?,
    };
    Some((name, arguments))
}

/// The function's name in front of arguments, and the length of all before these: `f[ARGS]`,
/// `f[CALL_ID]x[ARGS]` or, where markers are lost, `f`. `Ok(None)` if more is needed.
fn mistral_name(text: &str) -> Result<Option<(String, usize)>, ()> {
    const ID: &str = "[CALL_ID]";
    const ARGS: &str = "[ARGS]";
    let Some(end) = text.find(|c| !is_name_char(c)) else {
        return if text.len() <= MAX_NAME { Ok(None) } else { Err(()) };
    };
    if end == 0 || end > MAX_NAME {
        return Err(());
    }
    let name = text[..end].to_owned();
    let mut rest = &text[end..];
    if let Some(id) = rest.strip_prefix(ID) {
        let Some(end) = id.find(|c: char| !c.is_ascii_alphanumeric()) else {
            return if id.len() <= MAX_NAME { Ok(None) } else { Err(()) };
        };
        rest = &id[end..];
    } else if ID.starts_with(rest) {
        return Ok(None);
    }
    if let Some(value) = rest.strip_prefix(ARGS) {
        rest = value;
    } else if ARGS.starts_with(rest) {
        return Ok(None);
    }
    let value = rest.trim_ascii_start();
    match value.chars().next() {
        None => Ok(None),
        Some('{') => Ok(Some((name, text.len() - value.len()))),
        Some(_) => Err(()),
    }
}

/// Longest name of a function, in bytes.
pub(crate) const MAX_NAME: usize = 128;

/// True for the characters that names of functions may have.
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}
