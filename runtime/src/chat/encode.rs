//! Tokenisation of conversations, in which no part of a message becomes a special token.
//!
//! Special tokens named by the template's own text are parsed. Those named in messages (by users or
//! the model), tools and documents must not be: before the template sees a text, a mark is put in
//! front of every such name, a Unicode noncharacter that the conversation doesn't contain. The
//! template copies and trims marks along with the text they precede. Afterwards a name preceded by a
//! mark is text, and the marks are removed. Without marks, the text is tokenised as a whole; otherwise
//! stretch by stretch between the special tokens, each as it would be tokenised in its place.
//!
//! This doesn't detect a name that is composed of text from the template right before or after a
//! message.

use std::time::Duration;

use teff_graph::Cancel;

use super::ChatError;
use super::message::Message;
use super::prompt::{ChatTemplate, Conversation, SpecialTokens};
use crate::template::{Json, RenderOptions, TemplateLimits};
use crate::tokenizer::{Specials, TokenKind, Tokenizer, TokenizerError};

/// A token that is matched whole in texts.
struct Name {
    text: Box<str>,
    id: u32,
    /// True if the token is not text.
    special: bool,
}

/// Tokeniser of conversations: a tokenizer and a template.
///
/// Nothing that is said becomes a special token, even if it has the name of one: only the template
/// writes those.
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    rules: Rules,
}

impl std::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("template", &self.rules.template).finish_non_exhaustive()
    }
}

impl<'t> Encoder<'t> {
    /// An encoder for a tokenizer and a template. Templates see the special tokens that the
    /// tokenizer names.
    #[must_use]
    pub fn new(tokenizer: &'t Tokenizer, template: ChatTemplate) -> Self {
        Encoder::with_special_tokens(tokenizer, template, SpecialTokens::of(tokenizer))
    }

    /// The same with other texts of special tokens, such as [`SpecialTokens::of_model`].
    #[must_use]
    pub fn with_special_tokens(
        tokenizer: &'t Tokenizer,
        template: ChatTemplate,
        special: SpecialTokens,
    ) -> Self {
        Encoder { tokenizer, rules: Rules::new(tokenizer, template, special) }
    }

    /// The special token that the template writes at the end of an answer, which generation must
    /// stop at even if the model's files don't name it as an end; `None` if it writes none there.
    #[must_use]
    pub fn end_token(&self) -> Option<u32> {
        self.rules.end
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.rules.template
    }

    /// Texts of the model's special tokens.
    #[must_use]
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.rules.special
    }

    /// The tokens of a conversation. They begin with the token that the model expects at the start
    /// of texts, even if the template doesn't write it.
    ///
    /// # Errors
    /// [`ChatError::Template`], [`ChatError::Tokenizer`] and [`ChatError::NoMark`].
    pub fn encode(&self, conversation: &Conversation<'_>) -> Result<Vec<u32>, ChatError> {
        self.encode_with(conversation, None)
    }

    /// The same; the rendering ends when `cancel` says so.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_with(
        &self,
        conversation: &Conversation<'_>,
        cancel: Option<&dyn Cancel>,
    ) -> Result<Vec<u32>, ChatError> {
        self.rules.encode(self.tokenizer, conversation, cancel)
    }
}

/// A template, and the tokens that a tokenizer matches whole. Its methods are given that tokenizer.
pub(super) struct Rules {
    template: ChatTemplate,
    special: SpecialTokens,
    /// Sorted by their texts, which are not empty; those that begin with byte `b` begin at
    /// `starts[b]`.
    names: Vec<Name>,
    starts: Vec<usize>,
    /// Sorted ids of tokens that no text may become.
    controls: Vec<u32>,
    end: Option<u32>,
}

impl Rules {
    pub(super) fn new(
        tokenizer: &Tokenizer,
        template: ChatTemplate,
        special: SpecialTokens,
    ) -> Self {
        let mut names: Vec<Name> = Vec::new();
        let mut controls = Vec::new();
        for id in 0..tokenizer.vocab_size() as u32 {
            let Some(kind) = tokenizer.token_kind(id) else { continue };
            let text = tokenizer.token_bytes(id).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let Some(text) = text else { continue };
            let special = match kind {
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::UserDefined => tokenizer.is_end(id) || is_control_name(text),
                TokenKind::Normal => tokenizer.is_end(id) && is_markup(text),
                _ => false,
            };
            if text.is_empty() || !special && kind != TokenKind::UserDefined {
                continue;
            }
            if special && kind != TokenKind::Unknown {
                controls.push(id);
            }
            names.push(Name { text: text.into(), id, special });
        }
        // Of equal names the lowest id is found, as in the tokenizer.
        names.sort_by(|a, b| a.text.cmp(&b.text));
        names.dedup_by(|again, first| {
            let same = again.text == first.text;
            first.special |= same && again.special;
            same
        });
        let before = |b: usize| names.partition_point(|n| usize::from(n.text.as_bytes()[0]) < b);
        let starts = (0..=256).map(before).collect();
        let mut rules = Rules { template, special, names, starts, controls, end: None };
        rules.end = rules.find_end();
        rules
    }

    pub(super) fn template(&self) -> &ChatTemplate {
        &self.template
    }

    pub(super) fn end_token(&self) -> Option<u32> {
        self.end
    }

    /// Finds the special token behind an answer, by trying one.
    fn find_end(&self) -> Option<u32> {
        const ANSWER: &str = "zqxjkv";
        let messages = [Message::user("x"), Message::assistant(ANSWER)];
        let conversation = Conversation::new(&messages).with_generation_prompt(false);
        let limits = TemplateLimits::default()
            .with_steps(5_000_000)
            .with_memory(16 << 20)
            .with_time(Duration::from_secs(1));
        let options = RenderOptions::default().with_limits(limits);
        // A template that refuses this conversation doesn't say how it ends answers.
        let text = self.template.render_with(&conversation, &self.special, &options).ok()?;
        let behind = text[text.rfind(ANSWER)? + ANSWER.len()..].trim_start();
        let at = text.len() - behind.len();
        self.names_at(&text, at).iter().find(|name| name.special).map(|name| name.id)
    }

    /// The tokens of a conversation; the rendering ends when `cancel` says so.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation<'_>,
        cancel: Option<&dyn Cancel>,
    ) -> Result<Vec<u32>, ChatError> {
        let mut variables = conversation.own_variables()?;
        let source = self.template.source();
        let free = |mark: &char| {
            !source.contains(*mark) && variables.iter().all(|(_, value)| !contains(value, *mark))
        };
        let mark = ('\u{fdd0}'..='\u{fdef}').find(free).ok_or(ChatError::NoMark)?;
        variables.iter_mut().for_each(|(_, value)| self.mark_all(value, mark));
        let options = RenderOptions { cancel, ..RenderOptions::default() };
        let text = self.template.render_variables(&variables, &self.special, &options)?;
        let mut ids = self.tokens(tokenizer, &text, mark)?;
        if let Some(bos) = tokenizer.bos()
            && tokenizer.add_bos()
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The names that match in `text` at byte `at`, longest first.
    fn names_at(&self, text: &str, at: usize) -> Vec<&Name> {
        let rest = &text.as_bytes()[at..];
        let mut found = Vec::new();
        let Some(first) = rest.first().map(|&b| usize::from(b)) else { return found };
        // Names whose first `depth` bytes match.
        let mut live = &self.names[self.starts[first]..self.starts[first + 1]];
        let mut depth = 1;
        while let Some(shortest) = live.first() {
            if shortest.text.len() == depth {
                found.insert(0, shortest);
                live = &live[1..];
            }
            let Some(next) = rest.get(depth) else { break };
            let byte = |name: &Name| name.text.as_bytes().get(depth).copied();
            let low = live.partition_point(|name| byte(name) < Some(*next));
            let high = live.partition_point(|name| byte(name) <= Some(*next));
            live = &live[low..high];
            depth += 1;
        }
        found
    }

    /// Puts a mark in front of every name of a special token in the texts of a value.
    fn mark_all(&self, value: &mut Json, mark: char) {
        match value {
            Json::String(text) => {
                if let Some(marked) = self.mark(text, mark) {
                    *text = marked;
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.mark_all(item, mark)),
            Json::Object(entries) => {
                for (key, value) in entries {
                    if let Some(marked) = self.mark(key, mark) {
                        *key = marked;
                    }
                    self.mark_all(value, mark);
                }
            }
            Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) => {}
        }
    }

    /// `content` with a mark in front of every name of a special token; `None` if it has none.
    fn mark(&self, content: &str, mark: char) -> Option<String> {
        let mut out = String::new();
        let mut from = 0;
        for (at, _) in content.char_indices() {
            if self.names_at(content, at).iter().any(|name| name.special) {
                out.push_str(&content[from..at]);
                out.push(mark);
                from = at;
            }
        }
        if out.is_empty() {
            return None;
        }
        out.push_str(&content[from..]);
        Some(out)
    }

    /// Tokenises a text with marks.
    fn tokens(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        mark: char,
    ) -> Result<Vec<u32>, TokenizerError> {
        let (parts, specials) = self.parts(text, mark);
        if !parts.iter().any(|part| part.marked) {
            let ids = tokenizer.encode(text, Specials::Parse)?;
            let special =
                |id: &&u32| tokenizer.is_special(**id) || self.controls.binary_search(*id).is_ok();
            let found = ids.iter().filter(special);
            if found.eq(&specials) {
                return Ok(ids);
            }
            // Names that occur only in another Unicode normal form are found by the tokenizer
            // alone; those of the template are not written like that.
        }
        let mut ids = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| specials[i]);
            ids.extend(before);
            self.text(tokenizer, &part.text, before, &mut ids)?;
        }
        Ok(ids)
    }

    /// Appends the tokens of text that follows the special token `before`, or starts the whole
    /// text. None of them is one that no text may become, whatever kind the file gives it: where a
    /// tokenizer finds one all the same, its name is cut behind the first character.
    fn text(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        before: Option<u32>,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let from = ids.len();
        stretch(tokenizer, text, before, ids)?;
        if !ids[from..].iter().any(|id| self.controls.binary_search(id).is_ok()) {
            return Ok(());
        }
        ids.truncate(from);
        let mut start = 0;
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            let mut names = self.names_at(text, at).into_iter();
            let named = names.any(|n| n.special && n.text.len() > c.len_utf8());
            if named || end == text.len() {
                let piece = &text[start..end];
                match start {
                    0 => stretch(tokenizer, piece, before, ids)?,
                    _ => continued(tokenizer, piece, ids)?,
                }
                start = end;
            }
        }
        Ok(())
    }

    /// Splits a text at its special tokens: returns the stretches between them, without marks, and
    /// the tokens, one fewer.
    fn parts(&self, text: &str, mark: char) -> (Vec<Part>, Vec<u32>) {
        let (mut parts, mut specials) = (vec![Part::default()], Vec::new());
        let mut at = 0;
        let mut behind_mark = false;
        while let Some(c) = text[at..].chars().next() {
            let part = match parts.last_mut() {
                Some(part) => part,
                None => unreachable!("it began with one, and none goes"),
            };
            if c == mark {
                (part.marked, behind_mark) = (true, true);
                at += c.len_utf8();
                continue;
            }
            let name = match behind_mark {
                true => None,
                false => self.names_at(text, at).first().copied(),
            };
            behind_mark = false;
            match name {
                Some(name) if name.special => {
                    specials.push(name.id);
                    at += name.text.len();
                    parts.push(Part::default());
                }
                Some(name) => {
                    part.text.push_str(&name.text);
                    at += name.text.len();
                }
                None => {
                    part.text.push(c);
                    at += c.len_utf8();
                }
            }
        }
        (parts, specials)
    }
}

/// Appends the tokens of text that follows the special token `before`, or starts the whole
/// text. Names of special tokens are text in it, which the tokenizer supports only for whole
/// texts: so its treatment of spaces after that token is determined first.
fn stretch(
    tokenizer: &Tokenizer,
    text: &str,
    before: Option<u32>,
    ids: &mut Vec<u32>,
) -> Result<(), TokenizerError> {
    let plain = |text: &str| tokenizer.encode(text, Specials::Ignore);
    let name = before.and_then(|id| tokenizer.token_bytes(id));
    let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else {
        if !text.is_empty() {
            ids.extend(plain(text)?);
        }
        return Ok(());
    };
    let behind = |text: &str| -> Result<Vec<u32>, TokenizerError> {
        let mut ids = tokenizer.encode(&format!("{name}{text}"), Specials::Parse)?;
        ids.drain(..ids.len().min(1));
        Ok(ids)
    };
    // Some tokens absorb the white space after them.
    let start = text.trim_start();
    let space = &text[..text.len() - start.len()];
    let text = if !space.is_empty() && behind(space)?.is_empty() { start } else { text };
    if text.is_empty() {
        return Ok(());
    }
    if behind("x")? == plain("x")? {
        ids.extend(plain(text)?);
        return Ok(());
    }
    continued(tokenizer, text, ids)
}

/// Appends the tokens of text that continues a text. A whole text may get a space in front, and this
/// one must not: a noncharacter, which nothing merges with, keeps them apart.
fn continued(tokenizer: &Tokenizer, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
    const BARE: &str = "\u{fdd0}";
    let plain = |text: &str| tokenizer.encode(text, Specials::Ignore);
    // (A vocabulary without all bytes may have none for it.)
    if let (Ok(bare), Ok(all)) = (plain(BARE), plain(&format!("{BARE}{text}")))
        && let Some(rest) = all.strip_prefix(&*bare)
    {
        ids.extend(rest);
        return Ok(());
    }
    ids.extend(plain(text)?);
    Ok(())
}

/// True for names such as `<|im_start|>`, which only templates write even where a file has such a
/// token as text.
fn is_control_name(name: &str) -> bool {
    [("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>")].iter().any(|(open, close)| {
        name.strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
            .is_some_and(|n| !n.is_empty())
    })
}

/// True for names such as `<eos>` and `[EOS]`. A word or a line break that a file has as an end is
/// text all the same.
fn is_markup(name: &str) -> bool {
    let name = name.strip_prefix('_').unwrap_or(name);
    name.len() > 2
        && (name.starts_with('<') && name.ends_with('>')
            || name.starts_with('[') && name.ends_with(']'))
}

/// A stretch of text between special tokens.
#[derive(Default)]
struct Part {
    text: String,
    /// True if marks were removed from it.
    marked: bool,
}

/// True if a value has the character in one of its texts.
fn contains(value: &Json, c: char) -> bool {
    match value {
        Json::String(text) => text.contains(c),
        Json::Array(items) => items.iter().any(|item| contains(item, c)),
        Json::Object(entries) => {
            entries.iter().any(|(key, value)| key.contains(c) || contains(value, c))
        }
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) => false,
    }
}
