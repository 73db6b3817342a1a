//! Grammars of answers that call tools, in the format of the model.

use core::fmt;

use serde_json::Value;

use super::format::{Format, Reasoning, Start};
use super::scan::Function;
use super::values::{Values, xml};

/// Language of a text.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Shape {
    /// This text, in which names of control tokens stand for the tokens.
    Text(String),
    /// JSON that is valid against a schema.
    Schema(Value),
    /// Text that a regular expression matches, in Rust's syntax.
    Pattern(String),
    /// Any text up to the first occurrence of a marker, which may be a control token, and the marker.
    Until(&'static str),
    /// A text of each, one after another.
    Sequence(Vec<Shape>),
    /// A text of one of them.
    Choice(Vec<Shape>),
    /// Texts of a shape, at least and at most so many.
    Repeat(Box<Shape>, usize, Option<usize>),
    /// The rule with this number in [`Language::rules`].
    Rule(usize),
}

impl Shape {
    pub(crate) fn text(text: impl Into<String>) -> Shape {
        Shape::Text(text.into())
    }

    pub(crate) fn optional(self) -> Shape {
        Shape::Repeat(Box::new(self), 0, Some(1))
    }
}

/// A shape and its rules, which may refer to one another.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Language {
    /// Shape of the whole text.
    pub(crate) start: Shape,
    /// Rules by number.
    pub(crate) rules: Vec<Shape>,
}

/// Error of forcing calls.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub(crate) enum ToolError {
    /// A keyword of a function's schema has no counterpart in the format of the model's calls.
    Keyword {
        /// Name of the function.
        function: String,
        /// Place in its schema, as a JSON pointer.
        at: String,
        /// Keyword.
        keyword: String,
    },
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolError::Keyword { function, at, keyword } => write!(
                f,
                "the parameters of \"{function}\" have `{keyword}` at \"{at}\", which is not supported \
                 in the format of this model's calls when a call is forced"
            ),
        }
    }
}

impl core::error::Error for ToolError {}

/// Language of answers that call one of `functions`, or several of them one after another if `several`.
///
/// Reasoning may come first: it must end if the prompt has begun it, and may begin if the template
/// `thinks`, that is, knows the tags.
///
/// # Errors
/// [`ToolError::Keyword`] in the formats that don't write arguments in JSON.
pub(crate) fn force(
    format: Format,
    start: Start,
    thinks: bool,
    functions: &[Function],
    several: bool,
) -> Result<Language, ToolError> {
    let mut rules = Vec::new();
    let mut calls = Vec::new();
    for function in functions {
        calls.push(call(format, function, &mut rules)?);
    }
    let one = Shape::Choice(calls);
    let several = several && !format.single();
    let sequence = |open: &str, between: &str, close: &str, one: Shape| {
        let mut all = vec![Shape::text(open), one.clone()];
        if several {
            let next = Shape::Sequence(vec![Shape::text(between), one]);
            all.push(Shape::Repeat(Box::new(next), 0, None));
        }
        all.push(Shape::text(close));
        Shape::Sequence(all)
    };
    let calls = match format {
        Format::Hermes | Format::Xml => sequence("", "\n", "", one),
        Format::MistralList => sequence("[TOOL_CALLS][", ", ", "]", one),
        _ => sequence("", "", "", one),
    };
    Ok(Language { start: behind_reasoning(format, start, thinks, calls), rules })
}

/// Language of answers in which calls may stand that are valid, but need not; `several` as in [`force`].
///
/// Where a call begins with a marker, nothing else may follow the marker.
///
/// # Errors
/// As [`force`].
pub(crate) fn allow(
    format: Format,
    start: Start,
    thinks: bool,
    functions: &[Function],
    several: bool,
) -> Result<Language, ToolError> {
    const ANY: &str = "[\\s\\S]+";
    const NO_OBJECT: &str = "\\s*[^{\\s][\\s\\S]*";
    let any = || Shape::Pattern(ANY.into()).optional();
    let opener = match format {
        Format::Hermes | Format::Xml => "<tool_call>",
        Format::MistralList | Format::MistralId | Format::MistralArgs => "[TOOL_CALLS]",
        Format::Gemma => "<|tool_call>",
        Format::Llama | Format::Lfm | Format::Generic | Format::Unknown => "",
        Format::Harmony => "<|end|>",
    };
    let mut rules = Vec::new();
    let mut calls = Vec::new();
    for function in functions {
        let call = call(format, function, &mut rules)?;
        calls.push(without_opener(call, opener));
    }
    let call = Shape::Choice(calls);
    let body = match format {
        Format::Llama | Format::Lfm | Format::Generic | Format::Unknown => {
            Shape::Choice(vec![call, Shape::Pattern(NO_OBJECT.into())]).optional()
        }
        Format::Harmony => {
            let said = Shape::Sequence(vec![Shape::text("<|channel|>final<|message|>"), any()]);
            let preamble = Shape::Sequence(vec![
                Shape::text("<|channel|>commentary<|message|>"),
                Shape::Until(opener),
                Shape::text("<|start|>assistant"),
            ]);
            let last = Shape::Choice(vec![call, said]);
            Shape::Sequence(vec![preamble.optional(), last])
        }
        Format::MistralList => {
            let next = Shape::Sequence(vec![Shape::text(", "), call.clone()]);
            let more = Shape::Repeat(Box::new(next), 0, if several { None } else { Some(0) });
            let list = [Shape::Until(opener), Shape::text("["), call, more, Shape::text("]")];
            Shape::Choice(vec![Shape::Sequence(list.into()), any()])
        }
        _ => {
            let one = Shape::Sequence(vec![Shape::Until(opener), call]);
            match several {
                true => Shape::Sequence(vec![Shape::Repeat(Box::new(one), 0, None), any()]),
                false => Shape::Choice(vec![one, any()]),
            }
        }
    };
    Ok(Language { start: behind_reasoning(format, start, thinks, body), rules })
}

/// The shape of a call without the marker that it begins with.
fn without_opener(call: Shape, opener: &str) -> Shape {
    match call {
        Shape::Sequence(mut parts) => {
            if let Some(Shape::Text(text)) = parts.first_mut()
                && let Some(rest) = text.strip_prefix(opener)
            {
                *text = rest.to_owned();
            }
            Shape::Sequence(parts)
        }
        other => other,
    }
}

/// Language of answers that are JSON, behind the reasoning and in the channel that the model has for
/// answers. `None` if nothing stands before the JSON.
pub(crate) fn answer(
    format: Format,
    start: Start,
    thinks: bool,
    schema: Value,
) -> Option<Language> {
    let schema = Shape::Schema(schema);
    let body = match format {
        Format::Harmony if start != Start::Text => {
            Shape::Sequence(vec![Shape::text("<|channel|>final<|message|>"), schema.clone()])
        }
        _ => schema.clone(),
    };
    let start = behind_reasoning(format, start, thinks, body);
    (start != schema).then(|| Language { start, rules: Vec::new() })
}

/// The shape behind reasoning, if there may be any.
fn behind_reasoning(format: Format, start: Start, thinks: bool, shape: Shape) -> Shape {
    const BLANKS: &str = "\\n{1,2}";
    let Some(Reasoning { open, close, .. }) = format.reasoning() else {
        if start != Start::Fresh {
            return shape;
        }
        // Another message, in another channel.
        let reasoning = Shape::Sequence(vec![
            Shape::text("<|channel|>analysis<|message|>"),
            Shape::Until("<|end|>"),
            Shape::text("<|start|>assistant"),
        ]);
        return Shape::Sequence(vec![reasoning.optional(), shape]);
    };
    let blanks = Shape::Pattern(BLANKS.into()).optional();
    match start {
        Start::Reasoning => Shape::Sequence(vec![Shape::Until(close), blanks, shape]),
        Start::Fresh if thinks => {
            let reasoning = vec![Shape::text(open), Shape::Until(close), blanks];
            Shape::Sequence(vec![Shape::Sequence(reasoning).optional(), shape])
        }
        _ => shape,
    }
}

/// Shape of one call.
fn call(format: Format, function: &Function, rules: &mut Vec<Shape>) -> Result<Shape, ToolError> {
    let name = &function.name;
    // (Names have no characters that JSON escapes.)
    let object = |open: &str, key: &str, close: &str| {
        let open = format!("{open}{{\"name\": \"{name}\", \"{key}\": ");
        let arguments = Shape::Schema(object_schema(&function.parameters));
        Shape::Sequence(vec![Shape::Text(open), arguments, Shape::text(format!("}}{close}"))])
    };
    let bare = |open: String| {
        let arguments = Shape::Schema(object_schema(&function.parameters));
        Shape::Sequence(vec![Shape::Text(open), arguments])
    };
    Ok(match format {
        Format::Hermes => object("<tool_call>\n", "arguments", "\n</tool_call>"),
        Format::Llama => object("", "parameters", ""),
        Format::Lfm | Format::Generic | Format::Unknown => object("", "arguments", ""),
        Format::MistralList => {
            let open = format!("{{\"name\": \"{name}\", \"arguments\": ");
            Shape::Sequence(vec![
                Shape::Text(open),
                Shape::Schema(object_schema(&function.parameters)),
                Shape::text(", \"id\": \""),
                Shape::Pattern("[a-zA-Z0-9]{9}".into()),
                Shape::text("\"}"),
            ])
        }
        Format::MistralId => Shape::Sequence(vec![
            Shape::Text(format!("[TOOL_CALLS]{name}[CALL_ID]")),
            Shape::Pattern("[a-zA-Z0-9]{9}".into()),
            bare("[ARGS]".into()),
        ]),
        Format::MistralArgs => bare(format!("[TOOL_CALLS]{name}[ARGS]")),
        Format::Harmony => {
            bare(format!("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"))
        }
        Format::Xml => xml(function)?,
        Format::Gemma => {
            let arguments = Values::new(function, rules).arguments()?;
            let open = Shape::Text(format!("<|tool_call>call:{name}"));
            Shape::Sequence(vec![open, arguments, Shape::text("<tool_call|>")])
        }
    })
}

/// The schema, which allows objects alone.
fn object_schema(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(entries) = &mut schema
        && !entries.contains_key("type")
    {
        entries.insert("type".into(), "object".into());
    }
    schema
}
