//! Patterns that a caller searches for, by the engine of the pre-tokenizers.

use alloc::string::String;

use crate::regex::{Budget, Regex, RegexScratch};

/// Regular expression: Oniguruma's syntax, without back-references and conditions.
///
/// ```
/// use teff_tokenizer::Pattern;
///
/// let pattern = Pattern::new(r"blk\.[0-3]\.ffn_(up|gate)").unwrap();
/// assert_eq!(pattern.is_in("blk.2.ffn_gate.weight"), Some(true));
/// assert_eq!(pattern.is_in("blk.12.ffn_gate.weight"), Some(false));
/// assert!(Pattern::new(r"(a)\1").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The part of it that can't be used.
    pub fn new(pattern: &str) -> Result<Pattern, String> {
        Regex::new(pattern).map(Pattern)
    }

    /// True if some part of `text` matches; `None` if finding out takes too many steps.
    #[must_use]
    pub fn is_in(&self, text: &str) -> Option<bool> {
        let mut budget = Budget::new(text.len());
        let found = self.0.find(text, 0, &mut RegexScratch::default(), &mut budget);
        found.ok().map(|found| found.is_some())
    }
}
