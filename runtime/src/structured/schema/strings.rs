//! Patterns of strings and of names.

use std::collections::BTreeMap;

use llguidance::derivre::{Regex, RegexAst, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::super::GrammarError;
use super::super::limits::REGEX_FUEL;
use super::super::pattern;

/// A pattern.
struct Pattern {
    /// As the schema has it.
    source: String,
    /// Expression for JSON strings that match, with quotation marks.
    hir: Hir,
    /// Compiled expression, once it is needed.
    regex: Option<Regex>,
}

/// All patterns of a document.
#[derive(Default)]
pub(super) struct Strings {
    patterns: Vec<Pattern>,
    indices: BTreeMap<String, usize>,
}

/// Expression for JSON strings whose number of characters is in a range.
pub(super) fn lengths(min: usize, max: Option<usize>) -> Hir {
    let max = max.map(|max| max as u32);
    in_quotes(pattern::repeat(pattern::character(), min as u32, max))
}

fn in_quotes(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::literal(*b"\""), hir, Hir::literal(*b"\"")])
}

/// True if a text matches, as far as classes of no characters decide.
fn possible(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => true,
        HirKind::Class(Class::Unicode(class)) => !class.ranges().is_empty(),
        HirKind::Class(Class::Bytes(class)) => !class.ranges().is_empty(),
        HirKind::Repetition(r) => r.min == 0 || possible(&r.sub),
        HirKind::Capture(group) => possible(&group.sub),
        HirKind::Concat(subs) => subs.iter().all(possible),
        HirKind::Alternation(subs) => subs.iter().any(possible),
    }
}

impl Strings {
    /// Index of a pattern.
    pub(super) fn pattern(
        &mut self,
        keyword: &str,
        at: &str,
        source: &str,
    ) -> Result<usize, GrammarError> {
        if let Some(&index) = self.indices.get(source) {
            return Ok(index);
        }
        let hir = pattern::inside(source).map_err(|e| GrammarError::Unsupported {
            keyword: keyword.to_string(),
            at: at.to_string(),
            reason: format!("{}, at character {} of {source:?}", e.message, e.column),
        })?;
        let index = self.patterns.len();
        self.patterns.push(Pattern {
            source: source.to_string(),
            hir: in_quotes(hir),
            regex: None,
        });
        self.indices.insert(source.to_string(), index);
        Ok(index)
    }

    /// True if a string matches the pattern.
    pub(super) fn matches(&mut self, index: usize, text: &str) -> Result<bool, GrammarError> {
        let pattern = &mut self.patterns[index];
        if pattern.regex.is_none() {
            pattern.regex =
                Some(compiled(&pattern.source, &[RegexAst::Regex(body(&pattern.hir))])?);
        }
        let regex = pattern.regex.as_mut();
        let json = serde_json::to_string(text).unwrap_or_default();
        Ok(regex.is_some_and(|regex| regex.is_match(&json)))
    }

    /// The pattern as a terminal, for JSON strings.
    pub(super) fn terminal(&self, index: usize) -> String {
        pattern::terminal(&self.patterns[index].hir)
    }

    /// True if a string matches all of `patterns` and none of `except`, isn't one of `taken`, and has a number of
    /// characters in the range.
    pub(super) fn any(
        &self,
        patterns: &[usize],
        except: &[usize],
        taken: &[String],
        lengths: Option<&Hir>,
    ) -> Result<bool, GrammarError> {
        if !patterns.iter().all(|&i| possible(&self.patterns[i].hir)) {
            return Ok(false);
        }
        // Without patterns there is always another string, and one alone is possible.
        if patterns.is_empty() && except.is_empty()
            || patterns.len() == 1 && except.is_empty() && taken.is_empty() && lengths.is_none()
        {
            return Ok(true);
        }
        let regex = |&i: &usize| RegexAst::Regex(body(&self.patterns[i].hir));
        let not = |ast: RegexAst| RegexAst::Not(Box::new(ast));
        let mut all: Vec<RegexAst> = patterns.iter().map(regex).collect();
        all.extend(lengths.map(|hir| RegexAst::Regex(body(hir))));
        if all.is_empty() {
            all.push(RegexAst::Regex(body(&super::strings::lengths(0, None))));
        }
        all.extend(except.iter().map(|i| not(regex(i))));
        let literals = taken
            .iter()
            .map(|name| RegexAst::Literal(serde_json::to_string(name).unwrap_or_default()));
        all.push(not(RegexAst::Or(literals.collect())));
        let source = patterns.iter().chain(except).next();
        let source = source.map_or("", |&i| self.patterns[i].source.as_str());
        Ok(!compiled(source, &all)?.always_empty())
    }
}

fn body(hir: &Hir) -> String {
    let terminal = pattern::terminal(hir);
    terminal[1..terminal.len() - 1].to_string()
}

/// Expression that all of `parts` match.
fn compiled(source: &str, parts: &[RegexAst]) -> Result<Regex, GrammarError> {
    let complex = |_| GrammarError::TooComplex { reason: format!("the pattern {source:?}") };
    let mut builder = RegexBuilder::new();
    let all = builder.mk(&RegexAst::And(parts.to_vec())).map_err(complex)?;
    builder.into_regex_limited(all, REGEX_FUEL).map_err(complex)
}
