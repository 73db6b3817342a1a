//! Text that is held to a grammar: JSON that a schema allows, a regular expression, or a grammar in Lark.
//!
//! [`Grammars`] knows a model's vocabulary; [`Grammars::compile`] makes a [`Constraint`] of a [`Grammar`],
//! which says before each token which ones may follow. Sampling takes one of these, so that a text that ends
//! always matches.
//!
//! Nothing is let through by mistake: a keyword of a schema that isn't supported is an error that names it, and
//! so is one that nobody knows. What schemas may say, which JSON is written, and all limits are in
//! [`Grammar::JsonSchema`] and docs/structured.md.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use teff_runtime::Model;
//! use teff_runtime::structured::{Grammar, Grammars};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
//! let model = Model::open(path)?;
//! let vocab = model.spec().vocab as usize;
//! let grammars = Grammars::new(model.tokenizer()?, vocab)?;
//! let mut yes_or_no = grammars.compile(&Grammar::Regex("yes|no".into()))?;
//!
//! let mut allowed = vec![0; vocab.div_ceil(32)];
//! yes_or_no.mask(&mut allowed)?;
//! let may_follow = |text: &str| {
//!     let token = model.tokenizer().unwrap().find_token(text.as_bytes()).unwrap() as usize;
//!     allowed[token / 32] >> (token % 32) & 1 == 1
//! };
//! assert!(may_follow("y") && may_follow("n") && !may_follow("a"));
//! # Ok(()) }
//! ```

mod error;
mod lark;
mod limits;
mod matcher;
mod parts;
mod pattern;
mod schema;
mod tokens;

use std::sync::Arc;

use llguidance::api::{GrammarInit, GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory, panic_utils};

pub use error::GrammarError;
pub use parts::{Part, Parts};

use crate::engine::Constraint;
use crate::tokenizer::Tokenizer;

/// Grammar of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Grammar {
    /// JSON that this schema allows.
    ///
    /// The dialects are 2020-12, 2019-09, draft 7 and draft 6. Supported are `type`, `enum`, `const`;
    /// `properties`, `required`, `additionalProperties`, `patternProperties`, `propertyNames`,
    /// `minProperties`, `maxProperties`; `items`, `prefixItems`, `minItems`, `maxItems`; `minLength`,
    /// `maxLength`, `pattern`, `format`; `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`,
    /// `multipleOf`; `anyOf`, `allOf`, `oneOf` where its branches can't hold at once; `$ref` within the
    /// schema, recursive too. Annotations such as `title` are allowed and mean nothing. All else is
    /// refused by name.
    ///
    /// The JSON is on one line, with at most one space after each comma and colon. Properties come in
    /// the schema's order, those that it doesn't name at the end.
    JsonSchema(String),
    /// Any JSON object, in the same form.
    JsonObject,
    /// Text that matches this regular expression from beginning to end. The syntax is that of
    /// ECMAScript, without assertions and back-references; `^` and `$` may stand at the ends.
    Regex(String),
    /// Text of the rule `start` of a grammar in llguidance's variant of Lark, without special tokens,
    /// nested grammars, and rules with limits or stops.
    Lark(String),
    /// Text and tokens of these parts.
    Parts(Parts),
}

/// Grammars over the vocabulary of a model. Clones share it.
#[derive(Clone)]
pub struct Grammars {
    factory: Arc<ParserFactory>,
    ends: Arc<[u32]>,
    vocab: usize,
}

impl core::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Grammars").field("vocab", &self.vocab).finish_non_exhaustive()
    }
}

impl Grammars {
    /// Grammars over a tokenizer, for logits of `vocab` rows; rows without a token are never allowed.
    /// Takes some time for a large vocabulary (0.1 s to 1 s): a model needs one.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`] if there are too many tokens.
    pub fn new(tokenizer: &Tokenizer, vocab: usize) -> Result<Grammars, GrammarError> {
        let tokens: TokEnv = tokens::tokens(tokenizer, vocab)?;
        // A token of a model that can't force tokens and can't take any back.
        let abilities = InferenceCapabilities::default();
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&tokens, abilities, &slices);
        let mut factory = factory.map_err(|e| GrammarError::Refused { reason: e.to_string() })?;
        factory.quiet();
        *factory.limits_mut() = limits::parser();
        let ends = tokenizer.stop_ids().iter().copied().filter(|&id| (id as usize) < vocab);
        Ok(Grammars { factory: Arc::new(factory), ends: ends.collect(), vocab })
    }

    /// Constraint that holds a text to `grammar` from its first token on.
    ///
    /// Work and memory are bounded, whatever the grammar is.
    ///
    /// # Errors
    /// [`GrammarError`], which names the keyword, the place or the limit.
    pub fn compile(&self, grammar: &Grammar) -> Result<Box<dyn Constraint>, GrammarError> {
        self.rules(grammar)?.compile()
    }

    /// Rules that `grammar` becomes, to be compiled once there is memory for them.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn rules(&self, grammar: &Grammar) -> Result<Rules, GrammarError> {
        let (rules, bytes) = on_large_stack(|| rules(grammar))?;
        let written = matches!(grammar, Grammar::Lark(_));
        Ok(Rules { grammars: self.clone(), rules, bytes, written })
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, GrammarError> {
        let limits = self.factory.limits().clone();
        let tokens = self.factory.tok_env().clone();
        let compile = || GrammarInit::Serialized(grammar).to_internal(Some(tokens), limits);
        let (grammar, lexer) =
            panic_utils::catch_unwind(std::panic::AssertUnwindSafe(compile)).map_err(refused)?;
        // Such rules are refused by their names before.
        if lexer.has_stop || lexer.has_max_tokens || lexer.has_temperature {
            let reason = "a rule has a stop, a number of tokens or a temperature".to_string();
            return Err(GrammarError::Refused { reason });
        }
        if let Some(warning) = lexer.render_warnings().into_iter().next() {
            return Err(GrammarError::Refused { reason: warning });
        }
        let init = GrammarInit::Internal(grammar, lexer);
        let parser = self.factory.create_parser_from_init_default(init).map_err(refused)?;
        Ok(Matcher::new(Ok(parser)))
    }
}

/// Memory of the rules of any grammar, in bytes.
const MEMORY: usize = 160 << 10;

/// Memory for each byte of rules.
const MEMORY_OF_BYTE: usize = 192;

/// Rules of a grammar that are not compiled yet.
pub struct Rules {
    grammars: Grammars,
    rules: TopLevelGrammar,
    /// Bytes of their text.
    bytes: usize,
    /// True if a user wrote the text, so that places in it say something.
    written: bool,
}

impl core::fmt::Debug for Rules {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rules").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Rules {
    /// Bytes of memory that the constraint will hold until a text goes on under it, at most: 160 KiB, and more for
    /// long rules. Forks share them until then.
    #[must_use]
    pub fn memory(&self) -> usize {
        MEMORY + self.bytes.saturating_mul(MEMORY_OF_BYTE)
    }

    /// Constraint that holds a text to the rules from its first token on.
    ///
    /// # Errors
    /// [`GrammarError`], which names the limit, or the place in a grammar that a user wrote.
    pub fn compile(self) -> Result<Box<dyn Constraint>, GrammarError> {
        let Rules { grammars, rules, written, .. } = self;
        let matcher = on_large_stack(|| grammars.matcher(rules));
        let matcher = matcher.map_err(|e| match e {
            GrammarError::Syntax { message, .. } if !written => {
                GrammarError::Refused { reason: message }
            }
            e => e,
        })?;
        let mut held = matcher::Held::new(matcher, grammars.ends.clone(), grammars.vocab);
        // A grammar such as `start: start` has no first token.
        if let Err(e) = held.mask(&mut vec![0; grammars.vocab.div_ceil(32)]) {
            let (at, reason) = (String::new(), e.message);
            return Err(GrammarError::Unsatisfiable { at, reason });
        }
        Ok(Box::new(held))
    }
}

/// Result of work in a thread of its own: llguidance compiles rules within rules recursively, as deep as the limits
/// allow.
fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, GrammarError> + Send,
) -> Result<T, GrammarError> {
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("grammar".into()).stack_size(limits::STACK);
        thread.spawn_scoped(scope, work).map(std::thread::ScopedJoinHandle::join)
    });
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(GrammarError::Refused { reason: "compiling it panicked".into() }),
        Err(e) => Err(GrammarError::Refused { reason: format!("no thread: {e}") }),
    }
}

/// The rules of a grammar, and the bytes of their text.
fn rules(grammar: &Grammar) -> Result<(TopLevelGrammar, usize), GrammarError> {
    let text = |text: String| schema::Lark { text, schemas: Vec::new() };
    let mut nested = Vec::new();
    let lark = match grammar {
        Grammar::JsonSchema(schema) => schema::lark(schema)?,
        Grammar::JsonObject => schema::lark(r#"{"type": "object"}"#)?,
        Grammar::Regex(regex) => text(format!("start: {}\n", pattern::whole(regex)?)),
        Grammar::Lark(lark) => {
            lark::check(lark)?;
            text(lark.clone())
        }
        Grammar::Parts(parts) => {
            let (start, schemas) = parts::lark(parts)?;
            let mut all = text(start);
            for (name, lark) in schemas {
                all.schemas.extend(lark.schemas);
                nested.push(GrammarWithLexer {
                    name: Some(name),
                    ..GrammarWithLexer::from_lark(lark.text)
                });
            }
            all
        }
    };
    let written = |json: &serde_json::Value| json.to_string().len();
    let bytes = lark.text.len()
        + nested.iter().flat_map(|n| &n.lark_grammar).map(String::len).sum::<usize>()
        + lark.schemas.iter().map(|(_, schema)| written(schema)).sum::<usize>();
    let schemas = lark.schemas.into_iter().map(|(name, schema)| GrammarWithLexer {
        name: Some(name),
        ..GrammarWithLexer::from_json_schema(schema)
    });
    let schemas = nested.into_iter().chain(schemas);
    let start = GrammarWithLexer { name: None, ..GrammarWithLexer::from_lark(lark.text) };
    let grammars = core::iter::once(start).chain(schemas).collect();
    let grammar = TopLevelGrammar { grammars, max_tokens: None };
    Ok((grammar, bytes))
}

/// The error for one of llguidance.
fn refused(error: impl core::fmt::Display) -> GrammarError {
    let message = format!("{error:#}");
    let first = matcher::first_line(&message);
    let complex = ["too big", "too large", "too complex", "precomputation failed", "fuel", "limit"];
    if complex.iter().any(|words| first.contains(words)) {
        return GrammarError::TooComplex { reason: first.to_string() };
    }
    match lark::place(first) {
        Some((line, column, message)) => {
            GrammarError::Syntax { line, column, message: message.to_string() }
        }
        None => GrammarError::Refused { reason: first.to_string() },
    }
}
