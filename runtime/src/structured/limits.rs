//! Limits of grammars. Each is a number of things, never of milliseconds, so that a grammar is refused on
//! every machine or on none.

use llguidance::api::ParserLimits;

/// Bytes of a schema, a grammar or a regular expression.
pub(super) const MAX_BYTES: usize = 512 << 10;

/// Subschemas, with those that `$ref` names and values of `const` and `enum`.
pub(super) const MAX_SCHEMAS: usize = 20_000;

/// Combinations of subschemas: the branches of `anyOf` and `oneOf` times each other.
pub(super) const MAX_COMBINATIONS: usize = 100_000;

/// Schemas, values and names of properties that are looked at while schemas that hold at once are merged.
pub(super) const MAX_MERGES: usize = 2_000_000;

/// Patterns of properties at one place: each may match a name or not.
pub(super) const MAX_NAME_PATTERNS: usize = 4;

/// Items and properties that `minItems`, `maxItems`, `minProperties` and `maxProperties` count.
pub(super) const MAX_COUNT: usize = 16_384;

/// Characters that `minLength` and `maxLength` count.
pub(super) const MAX_LENGTH: usize = 16_384;

/// Bytes of the grammar that a schema becomes.
pub(super) const MAX_LARK_BYTES: usize = 4 << 20;

/// Rules of a grammar that begin inside each other.
pub(super) const MAX_RULE_DEPTH: usize = 1_000;

/// Rules, brackets and negations of a grammar that a user wrote.
pub(super) const MAX_LARK_DEPTH: usize = 3_000;

/// Stack of the thread that compiles a grammar: rules are compiled recursively.
pub(super) const STACK: usize = 64 << 20;

/// Steps to decide about a regular expression.
pub(super) const REGEX_FUEL: u64 = 20_000;

/// Longest token that a grammar chooses, in bytes: llguidance counts a node's ancestors in 10 bits.
pub(super) const MAX_TOKEN_BYTES: usize = 1_000;

/// Nodes of the tokens' tree: llguidance counts them in 22 bits.
pub(super) const MAX_TREE_NODES: usize = (1 << 22) - 1;

/// Tokens of a vocabulary: llguidance numbers them in 24 bits, of which one number is reserved.
pub(super) const MAX_TOKENS: usize = (1 << 24) - 1;

/// Limits of llguidance for one grammar.
pub(super) fn parser() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 8_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 500_000,
        step_max_items: 200_000,
        max_lexer_states: 100_000,
        max_grammar_size: 300_000,
        precompute_large_lexemes: true,
        // Errors may be logged: they don't repeat the text.
        verbose_errors: false,
    }
}
