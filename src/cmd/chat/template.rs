//! Chat templates: Jinja programs that render a conversation as text, as run by transformers'
//! `apply_chat_template`.
//!
//! They come with the model's file and are untrusted: steps and output are limited, and every
//! failure is an error with a line number.

use std::fmt;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

use super::python;

/// Maximum number of steps of a rendering, about a second. Templates take some hundred per message.
const MAX_STEPS: u64 = 10_000_000;

/// Maximum length of the text in bytes.
const MAX_TEXT: usize = 64 << 20;

const NAME: &str = "template";

/// The author of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A message of the conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) content: String,
}

/// Special-token strings available to templates.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tokens<'a> {
    pub(crate) bos: Option<&'a str>,
    pub(crate) eos: Option<&'a str>,
}

/// Error of loading or rendering a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TemplateError {
    /// The template is malformed, or uses something undefined.
    Failed { line: Option<usize>, why: String },
    /// The template refused the conversation.
    Refused { line: Option<usize>, why: String },
    /// The template takes too many steps.
    Steps { line: Option<usize> },
    /// The template writes too much.
    TooLong,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the chat template")?;
        let at = |f: &mut fmt::Formatter<'_>, line: &Option<usize>| match line {
            Some(line) => write!(f, ", line {line}"),
            None => Ok(()),
        };
        match self {
            TemplateError::Failed { line, why } => {
                at(f, line)?;
                write!(f, ": {why}")
            }
            TemplateError::Refused { line, why } => {
                at(f, line)?;
                write!(f, ", refuses the conversation: {why}")
            }
            TemplateError::Steps { line } => {
                at(f, line)?;
                write!(f, ", takes more than {MAX_STEPS} steps")
            }
            TemplateError::TooLong => write!(f, " writes more than {MAX_TEXT} bytes"),
        }
    }
}

impl core::error::Error for TemplateError {}

/// The exception raised by the template's `raise_exception`, to distinguish it from other errors.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Raised {}

impl From<Error> for TemplateError {
    fn from(e: Error) -> Self {
        let line = e.line();
        let mut cause: Option<&dyn core::error::Error> = Some(&e);
        while let Some(error) = cause {
            if let Some(Raised(why)) = error.downcast_ref() {
                return TemplateError::Refused { line, why: why.clone() };
            }
            cause = error.source();
        }
        match e.kind() {
            ErrorKind::OutOfFuel => TemplateError::Steps { line },
            ErrorKind::WriteFailure => TemplateError::TooLong,
            kind => {
                let why = match e.detail() {
                    Some(detail) => format!("{kind}: {detail}"),
                    None => kind.to_string(),
                };
                TemplateError::Failed { line, why }
            }
        }
    }
}

/// A parsed template, ready to render.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    env: Environment<'static>,
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError::Failed`] if it is malformed.
    pub(crate) fn new(source: &str) -> Result<ChatTemplate, TemplateError> {
        let mut env = Environment::new();
        python::add(&mut env);
        env.set_fuel(Some(MAX_STEPS));
        // As in transformers.
        env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        env.add_template_owned(NAME, without_generation(source))?;
        Ok(ChatTemplate { env })
    }

    /// The text of a conversation, up to the start of the next answer.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub(crate) fn render(
        &self,
        messages: &[Message],
        tokens: Tokens<'_>,
    ) -> Result<String, TemplateError> {
        let message = |m: &Message| {
            Value::from_pairs([("role", m.role.name()), ("content", m.content.as_str())])
        };
        let mut variables = vec![
            ("messages", Value::from(messages.iter().map(message).collect::<Vec<_>>())),
            ("add_generation_prompt", Value::from(true)),
            ("tools", Value::from(())),
        ];
        variables.extend(tokens.bos.map(|name| ("bos_token", Value::from(name))));
        variables.extend(tokens.eos.map(|name| ("eos_token", Value::from(name))));
        let mut out = Bounded(Vec::new());
        self.env.get_template(NAME)?.render_captured_to(Value::from_pairs(variables), &mut out)?;
        // Templates write valid text, and the limit lies between whole writes.
        Ok(String::from_utf8_lossy(&out.0).into_owned())
    }
}

/// Writer that accepts at most [`MAX_TEXT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_TEXT - self.0.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes transformers' own tag `generation`, which marks the text that models are trained on; its
/// contents are always kept. Line numbers don't change.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let word = tag[..end].trim_matches(['-', '+']);
        let with = match word.trim() {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&tag[..end].replacen(word.trim(), with, 1));
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}
