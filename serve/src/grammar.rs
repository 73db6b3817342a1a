//! Constraints of answers: schemas, expressions and grammars, compiled for the model's vocabulary.

use teff_runtime::Model;
use teff_runtime::engine::Constraint;
use teff_runtime::structured;

use crate::error::{ApiError, ApiResult};
use crate::tools::{Language, Markup};

/// Language that an answer must belong to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Grammar {
    /// JSON that is valid against a schema, given as JSON text.
    JsonSchema(String),
    /// Any JSON object.
    JsonObject,
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// Text of a grammar in llguidance's variant of Lark.
    Lark(String),
    /// Answer with markup of the model's, such as calls that are forced.
    Language(Language),
}

impl Grammar {
    /// Bytes of its text.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Grammar::JsonSchema(text) | Grammar::Regex(text) | Grammar::Lark(text) => text.len(),
            // It is made of the schemas of tools, which count by themselves.
            Grammar::JsonObject | Grammar::Language(_) => 0,
        }
    }
}

/// Compiler of grammars for one vocabulary.
#[derive(Debug)]
pub(crate) struct Grammars {
    grammars: structured::Grammars,
    markup: Markup,
}

impl Grammars {
    /// The compiler for a model's vocabulary.
    pub(crate) fn new(model: &Model) -> Result<Grammars, String> {
        let tokenizer = model.tokenizer().map_err(|e| e.to_string())?;
        let vocab = usize::try_from(model.spec().vocab).unwrap_or(usize::MAX);
        let grammars = structured::Grammars::new(tokenizer, vocab).map_err(|e| e.to_string())?;
        Ok(Grammars { grammars, markup: Markup::of(tokenizer) })
    }

    /// The constraint for a grammar; `param` is the field of the request that has it. `take` is given the
    /// bytes of memory that it will hold, before it takes them.
    pub(crate) fn compile(
        &self,
        grammar: &Grammar,
        param: &str,
        take: impl FnOnce(usize) -> ApiResult<()>,
    ) -> ApiResult<Box<dyn Constraint>> {
        let grammar = match grammar {
            Grammar::JsonSchema(schema) => structured::Grammar::JsonSchema(schema.clone()),
            Grammar::JsonObject => structured::Grammar::JsonObject,
            Grammar::Regex(regex) => structured::Grammar::Regex(regex.clone()),
            Grammar::Lark(lark) => structured::Grammar::Lark(lark.clone()),
            Grammar::Language(language) => structured::Grammar::Parts(self.markup.parts(language)),
        };
        let rules = self.grammars.rules(&grammar).map_err(|e| ApiError::field(param, e))?;
        take(rules.memory())?;
        rules.compile().map_err(|e| ApiError::field(param, e))
    }
}
