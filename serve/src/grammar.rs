//! Constraints of answers: schemas, expressions and grammars, compiled for the model's vocabulary.

use teff_runtime::Model;
use teff_runtime::engine::Constraint;

use crate::error::{ApiError, ApiResult};
use crate::tools::Language;

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

/// Compiler of grammars for one vocabulary.
#[derive(Debug)]
pub(crate) struct Grammars;

impl Grammars {
    /// The compiler for a model's vocabulary.
    pub(crate) fn new(_model: &Model) -> Result<Grammars, String> {
        Ok(Grammars)
    }

    /// The constraint for a grammar; `param` is the field of the request that has it.
    pub(crate) fn compile(
        &self,
        _grammar: &Grammar,
        param: &str,
    ) -> ApiResult<Box<dyn Constraint>> {
        Err(ApiError::field(param, "structured output is not supported by this build"))
    }
}
