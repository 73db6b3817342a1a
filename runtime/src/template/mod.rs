//! Chat templates: programs in Jinja that render a conversation as text.
//!
//! They come with a model, and only what they write is a prompt that the model knows, to the byte. So
//! this engine renders what jinja2 3.1.6 renders as transformers 5.24 sets it up
//! (`apply_chat_template`), or refuses what that refuses. That means Python's values: dictionaries in
//! the order of their keys' insertion, `repr`, `%`, `str.format`, the methods of strings, rounding to
//! even, and an immutable sandbox.
//!
//! Templates are untrusted. Steps, memory, time, output and nesting have limits ([`TemplateLimits`]);
//! a rendering can be cancelled; nothing that a template does recurses deeper than those limits allow
//! on a stack of 512 KB.
//!
//! ```
//! use teff_runtime::template::{Json, Template};
//!
//! let source = "{% for m in messages %}{{ m.role }}: {{ m.content|trim }}\n{% endfor %}";
//! let template = Template::parse(source)?;
//! let messages = Json::parse(br#"[{"role": "user", "content": " Hi! "}]"#)?;
//! assert_eq!(template.render(&[("messages", &messages)])?, "user: Hi!\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is refused that jinja2 renders
//!
//! By name, with [`TemplateErrorKind::Unsupported`]: integers of more than 127 bits, complex numbers,
//! bytes and sets; the text of values that Python writes with their address, such as generators;
//! `random` and `lipsum`; `urlize`; `pprint` of what doesn't fit into a line; `autoescape` with
//! anything but true or false. `include`, `import` and `extends` are refused by both, where they are
//! reached.

mod args;
mod ast;
mod attr;
mod call;
mod compile;
mod data;
mod dict;
mod error;
mod filters;
mod format;
mod iter;
mod lexer;
mod limits;
mod methods;
mod number;
mod ops;
mod parse;
mod program;
mod pytext;
mod repr;
mod search;
mod strftime;
mod tables;
mod tests;
mod value;
mod vm;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use teff_graph::Cancel;

pub use data::Json;
pub use error::{LimitKind, TemplateError, TemplateErrorKind};
pub use limits::TemplateLimits;

use error::{Fault, Res};
use limits::Meter;

/// A parsed template, ready to render.
#[derive(Debug)]
pub struct Template {
    program: program::Program,
    limits: TemplateLimits,
}

/// Options of a rendering.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct RenderOptions<'a> {
    /// Limits; `None` for those that the template was parsed with.
    pub limits: Option<TemplateLimits>,
    /// Asked about every 100 ms at most: if it says so, the rendering ends with
    /// [`TemplateErrorKind::Cancelled`].
    pub cancel: Option<&'a dyn Cancel>,
    /// Seconds since the start of 1970 that the template takes as the current time; `None` for
    /// the system's clock.
    pub now: Option<i64>,
}

impl<'a> RenderOptions<'a> {
    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub const fn with_limits(self, limits: TemplateLimits) -> Self {
        RenderOptions { limits: Some(limits), ..self }
    }

    /// Sets [`cancel`](Self::cancel).
    #[must_use]
    pub const fn with_cancel(self, cancel: &'a dyn Cancel) -> Self {
        RenderOptions { cancel: Some(cancel), ..self }
    }

    /// Sets [`now`](Self::now), in seconds since the start of 1970.
    #[must_use]
    pub const fn with_now(self, now: i64) -> Self {
        RenderOptions { now: Some(now), ..self }
    }
}

impl std::fmt::Debug for RenderOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RenderOptions")
            .field("limits", &self.limits)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Parses a template, with the default limits.
    ///
    /// # Errors
    /// [`TemplateError`] if it is malformed or exceeds a limit.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        Template::parse_with(source, &TemplateLimits::default())
    }

    /// Parses a template with limits, which are also those of its renderings.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_with(source: &str, limits: &TemplateLimits) -> Result<Template, TemplateError> {
        let program = guarded(|| {
            let meter = Meter::new(*limits, None);
            let body = parse::parse(source, &meter)?;
            compile::compile(&body, &meter)
        })?;
        Ok(Template { program, limits: *limits })
    }

    /// Renders the template with variables.
    ///
    /// # Errors
    /// [`TemplateError`] for what the template refuses, gets wrong, or exceeds.
    pub fn render(&self, variables: &[(&str, &Json)]) -> Result<String, TemplateError> {
        self.render_with(variables, &RenderOptions::default())
    }

    /// Renders the template with variables and options.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_with(
        &self,
        variables: &[(&str, &Json)],
        options: &RenderOptions<'_>,
    ) -> Result<String, TemplateError> {
        let now = options.now.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
        });
        let limits = options.limits.unwrap_or(self.limits);
        guarded(|| {
            let meter = Meter::new(limits, options.cancel);
            let variables = data::object(variables.iter().copied(), &meter, 0)?;
            let mut vm = vm::Vm::new(&self.program, &variables, now, &meter)?;
            vm.render()
        })
    }
}

/// Runs `f`. A panic, which would be a defect, becomes an error.
fn guarded<T>(f: impl FnOnce() -> Res<T>) -> Result<T, TemplateError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(done) => done.map_err(TemplateError::from),
        Err(panic) => {
            let why = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let why = why.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::internal(&why.unwrap_or_default()).into())
        }
    }
}
