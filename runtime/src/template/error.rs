//! Errors of parsing and rendering templates.

use std::fmt;
use std::time::Duration;

/// Error of parsing or rendering a template.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TemplateError {
    /// The kind of error, with its cause.
    pub kind: TemplateErrorKind,
    /// Line of the template, from 1; `None` where no line is at fault.
    pub line: Option<u32>,
}

/// Kinds of template errors.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TemplateErrorKind {
    /// The template is malformed.
    Syntax(String),
    /// The template uses something that this engine refuses on purpose, such as `include`.
    Unsupported(String),
    /// An undefined value is used where a value is needed.
    Undefined(String),
    /// An operation that its operands don't support, as Python's exceptions say.
    Operation(String),
    /// An attribute that templates may not use.
    Forbidden(String),
    /// The template refused the conversation with `raise_exception`.
    Raised(String),
    /// A limit was exceeded.
    Limit(LimitKind),
    /// The rendering was cancelled.
    Cancelled,
    /// A defect of the engine, which was stopped.
    Internal(String),
}

/// The limit that was exceeded, with its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LimitKind {
    /// Bytes of the template's source.
    Source(usize),
    /// Levels of nesting, of statements, expressions or values.
    Depth(usize),
    /// Calls of macros in progress.
    Calls(usize),
    /// Steps.
    Steps(u64),
    /// Bytes of values.
    Memory(usize),
    /// Bytes of text.
    Output(usize),
    /// Time.
    Time(Duration),
}

impl TemplateError {
    /// An error that no line is at fault for.
    pub(crate) fn new(kind: TemplateErrorKind) -> TemplateError {
        TemplateError { kind, line: None }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the chat template")?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        match &self.kind {
            TemplateErrorKind::Raised(why) => write!(f, ", refuses the conversation: {why}"),
            kind => write!(f, ": {kind}"),
        }
    }
}

impl fmt::Display for TemplateErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateErrorKind::Syntax(why) => write!(f, "syntax error: {why}"),
            TemplateErrorKind::Unsupported(what) => write!(f, "not supported: {what}"),
            TemplateErrorKind::Undefined(why)
            | TemplateErrorKind::Operation(why)
            | TemplateErrorKind::Forbidden(why)
            | TemplateErrorKind::Raised(why) => f.write_str(why),
            TemplateErrorKind::Limit(limit) => limit.fmt(f),
            TemplateErrorKind::Cancelled => f.write_str("the rendering was cancelled"),
            TemplateErrorKind::Internal(why) => write!(f, "a defect of the engine: {why}"),
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitKind::Source(most) => write!(f, "the template has more than {most} bytes"),
            LimitKind::Depth(most) => write!(f, "nests more than {most} levels deep"),
            LimitKind::Calls(most) => write!(f, "more than {most} calls within each other"),
            LimitKind::Steps(most) => write!(f, "takes more than {most} steps"),
            LimitKind::Memory(most) => write!(f, "values take more than {most} bytes"),
            LimitKind::Output(most) => write!(f, "writes more than {most} bytes"),
            LimitKind::Time(most) => write!(f, "takes longer than {most:?}"),
        }
    }
}

impl std::error::Error for TemplateError {}

/// An error inside the engine, to which the line is added where it leaves.
#[derive(Debug)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: TemplateErrorKind,
    line: Option<u32>,
}

/// Result inside the engine.
pub(super) type Res<T> = Result<T, Fault>;

impl From<TemplateErrorKind> for Fault {
    fn from(kind: TemplateErrorKind) -> Fault {
        Fault(Box::new(Inner { kind, line: None }))
    }
}

impl From<LimitKind> for Fault {
    fn from(limit: LimitKind) -> Fault {
        TemplateErrorKind::Limit(limit).into()
    }
}

impl From<Fault> for TemplateError {
    fn from(fault: Fault) -> TemplateError {
        TemplateError { kind: fault.0.kind, line: fault.0.line }
    }
}

impl Fault {
    /// The fault with a line, unless it has one.
    pub(super) fn at(mut self, line: u32) -> Fault {
        self.0.line.get_or_insert(line);
        self
    }

    pub(super) fn kind(&self) -> &TemplateErrorKind {
        &self.0.kind
    }

    /// A wrong operation, as Python's `TypeError`, `ValueError` and their like.
    #[cold]
    pub(super) fn op(why: impl Into<String>) -> Fault {
        TemplateErrorKind::Operation(why.into()).into()
    }

    #[cold]
    pub(super) fn syntax(why: impl Into<String>, line: u32) -> Fault {
        Fault::from(TemplateErrorKind::Syntax(why.into())).at(line)
    }

    #[cold]
    pub(super) fn unsupported(what: impl Into<String>) -> Fault {
        TemplateErrorKind::Unsupported(what.into()).into()
    }

    #[cold]
    pub(super) fn internal(why: &str) -> Fault {
        TemplateErrorKind::Internal(why.into()).into()
    }
}
