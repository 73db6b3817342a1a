//! Languages of answers as grammars over a model's tokens.

use teff_runtime::structured::{Part, Parts};
use teff_runtime::tokenizer::{TokenKind, Tokenizer};

use super::force::{Language, Shape};

/// Names that may be of control tokens.
const NAMES: [&str; 20] = [
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    "[THINK]",
    "[/THINK]",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|channel>",
    "<channel|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
];

/// Control tokens of a model's markup, which no text stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Markup {
    tokens: Vec<(&'static str, u32)>,
}

impl Markup {
    /// Those of a tokenizer.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Markup {
        let mut tokens = Vec::new();
        for id in 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX) {
            let kind = tokenizer.token_kind(id);
            if !matches!(kind, Some(TokenKind::Control | TokenKind::Unknown)) {
                continue;
            }
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let name = NAMES.into_iter().find(|name| name.as_bytes() == bytes);
            if let Some(name) = name.filter(|name| !tokens.iter().any(|(n, _)| n == name)) {
                tokens.push((name, id));
            }
        }
        Markup { tokens }
    }

    /// These tokens by their names.
    #[cfg(test)]
    pub(super) fn of_tokens(tokens: &[(&'static str, u32)]) -> Markup {
        Markup { tokens: tokens.to_vec() }
    }

    /// Name of a token.
    #[cfg(test)]
    pub(super) fn name(&self, token: u32) -> Option<&'static str> {
        self.tokens.iter().find(|(_, id)| *id == token).map(|(name, _)| *name)
    }

    fn token(&self, name: &str) -> Option<u32> {
        self.tokens.iter().find(|(n, _)| *n == name).map(|(_, id)| *id)
    }

    /// The grammar of a language.
    pub(crate) fn parts(&self, language: &Language) -> Parts {
        let rules = language.rules.iter().map(|shape| self.part(shape)).collect();
        Parts::new(self.part(&language.start)).with_rules(rules)
    }

    fn part(&self, shape: &Shape) -> Part {
        let all = |shapes: &[Shape]| shapes.iter().map(|shape| self.part(shape)).collect();
        match shape {
            Shape::Text(text) => self.text(text),
            Shape::Schema(schema) => Part::Json(schema.to_string()),
            Shape::Pattern(regex) => Part::Regex(regex.clone()),
            Shape::Until(marker) => match self.token(marker) {
                Some(id) => Part::UntilToken(id),
                None => Part::Until((*marker).to_owned()),
            },
            Shape::Sequence(shapes) => Part::Sequence(all(shapes)),
            Shape::Choice(shapes) => Part::Choice(all(shapes)),
            Shape::Repeat(shape, min, max) => {
                Part::Repeat { part: Box::new(self.part(shape)), min: *min, max: *max }
            }
            Shape::Rule(i) => Part::Rule(*i),
        }
    }

    /// Text, and tokens where it has their names.
    fn text(&self, text: &str) -> Part {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let found = |(name, id): &(&'static str, u32)| Some((rest.find(name)?, *name, *id));
            let Some((at, name, id)) = self.tokens.iter().filter_map(found).min() else { break };
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            parts.push(Part::Token(id));
            rest = &rest[at + name.len()..];
        }
        if parts.is_empty() {
            return Part::Text(rest.to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Part::Sequence(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_control_tokens_are_tokens() {
        let markup = Markup { tokens: vec![("[TOOL_CALLS]", 5), ("[ARGS]", 6), ("<|end|>", 7)] };
        let shape = Shape::Sequence(vec![
            Shape::text("[TOOL_CALLS]f[ARGS]"),
            Shape::text("no markup"),
            Shape::Until("<|end|>"),
            Shape::Until("</think>"),
        ]);
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            markup.part(&shape),
            Part::Sequence(vec![
                Part::Sequence(vec![Part::Token(5), text("f"), Part::Token(6)]),
                text("no markup"),
                Part::UntilToken(7),
                Part::Until("</think>".into()),
            ])
        );
    }
}
