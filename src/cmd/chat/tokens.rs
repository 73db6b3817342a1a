//! Tokenisation of conversations, in which no part of a message becomes a special token.
//!
//! Special tokens named by the template's own text are parsed. Those named in messages (by users or
//! the model) must not be: before the template sees a message, a mark is put in front of every such
//! name, a Unicode noncharacter that the conversation doesn't contain. The template copies and
//! trims marks along with the text they precede. Afterwards a name preceded by a mark is text, and
//! the marks are removed. Without marks, the text is tokenised as a whole; otherwise stretch by
//! stretch between the special tokens, each as it would be tokenised in its place.
//!
//! This doesn't detect a name that is composed of text from the template right before or after a
//! message.

use std::fmt;

use teff::runtime::template::TemplateError;
use teff::runtime::tokenizer::{Specials, TokenKind, Tokenizer, TokenizerError};

use super::template::{ChatTemplate, Message, Tokens};

/// Error of tokenising a conversation.
#[derive(Debug)]
pub(crate) enum ChatError {
    Template(TemplateError),
    Tokenizer(TokenizerError),
    /// All 32 noncharacters that could serve as the mark occur in the conversation.
    NoMark,
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChatError::Template(e) => e.fmt(f),
            ChatError::Tokenizer(e) => e.fmt(f),
            ChatError::NoMark => {
                f.write_str("the conversation has all the noncharacters U+FDD0 to U+FDEF: drop one")
            }
        }
    }
}

impl core::error::Error for ChatError {}

impl From<TemplateError> for ChatError {
    fn from(e: TemplateError) -> Self {
        ChatError::Template(e)
    }
}

impl From<TokenizerError> for ChatError {
    fn from(e: TokenizerError) -> Self {
        ChatError::Tokenizer(e)
    }
}

/// A token that is matched whole in texts.
struct Name {
    text: Box<str>,
    id: u32,
    /// True if the token is not text.
    special: bool,
}

/// Tokeniser of conversations.
pub(crate) struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    template: ChatTemplate,
    /// Source of the template; a mark that it contains is never used.
    source: Box<str>,
    /// By first byte, longest first.
    names: Vec<Vec<Name>>,
}

impl<'t> Encoder<'t> {
    /// An encoder for a tokenizer and the source of a template.
    ///
    /// # Errors
    /// [`TemplateError`] if `template` is malformed.
    pub(crate) fn new(tokenizer: &'t Tokenizer, template: &str) -> Result<Self, TemplateError> {
        let mut names: Vec<Vec<Name>> = (0..256).map(|_| Vec::new()).collect();
        for id in 0..tokenizer.vocab_size() as u32 {
            let special = tokenizer.is_special(id);
            if !special && tokenizer.token_kind(id) != Some(TokenKind::UserDefined) {
                continue;
            }
            let text = tokenizer.token_bytes(id).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let Some(text) = text else { continue };
            let Some(&first) = text.as_bytes().first() else { continue };
            names[usize::from(first)].push(Name { text: text.into(), id, special });
        }
        // Of equal names the lowest id is found, as in the tokenizer.
        names.iter_mut().for_each(|n| n.sort_by_key(|n| core::cmp::Reverse(n.text.len())));
        let (source, template) = (template.into(), ChatTemplate::new(template)?);
        Ok(Encoder { tokenizer, template, source, names })
    }

    /// The tokens of a conversation, up to the start of the next answer. They begin with the token
    /// that the model expects at the start of texts, even if the template doesn't write it.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) fn encode(&self, messages: &[Message]) -> Result<Vec<u32>, ChatError> {
        let free = |mark: &char| {
            !self.source.contains(*mark) && messages.iter().all(|m| !m.content.contains(*mark))
        };
        let mark = ('\u{fdd0}'..='\u{fdef}').find(free).ok_or(ChatError::NoMark)?;
        let marked: Vec<Message> = messages
            .iter()
            .map(|m| Message { role: m.role, content: self.mark(&m.content, mark) })
            .collect();
        let name = |id: Option<u32>| {
            self.tokenizer.token_bytes(id?).and_then(|bytes| std::str::from_utf8(bytes).ok())
        };
        let (bos, eos) = (self.tokenizer.bos(), self.tokenizer.eos());
        let tokens = Tokens { bos: name(bos), eos: name(eos) };
        let text = self.template.render(&marked, tokens)?;
        let mut ids = self.tokens(&text, mark)?;
        if let Some(bos) = bos
            && self.tokenizer.add_bos()
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The names that match in `text` at byte `at`, longest first.
    fn names_at<'s>(&'s self, text: &'s str, at: usize) -> impl Iterator<Item = &'s Name> {
        let rest = &text[at..];
        let first = rest.as_bytes().first().map_or(0, |&b| usize::from(b));
        self.names[first].iter().filter(move |name| rest.starts_with(&*name.text))
    }

    /// `content` with a mark in front of every name of a special token.
    fn mark(&self, content: &str, mark: char) -> String {
        let mut out = String::with_capacity(content.len());
        for (at, c) in content.char_indices() {
            if self.names_at(content, at).any(|name| name.special) {
                out.push(mark);
            }
            out.push(c);
        }
        out
    }

    /// Tokenises a text with marks.
    fn tokens(&self, text: &str, mark: char) -> Result<Vec<u32>, TokenizerError> {
        let (parts, specials) = self.parts(text, mark);
        if !parts.iter().any(|part| part.marked) {
            let ids = self.tokenizer.encode(text, Specials::Parse)?;
            let found = ids.iter().filter(|&&id| self.tokenizer.is_special(id));
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
            self.stretch(&part.text, before, &mut ids)?;
        }
        Ok(ids)
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
            let name = self.names_at(text, at).find(|_| !behind_mark);
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

    /// Appends the tokens of text that follows the special token `before`, or starts the whole
    /// text. Names of special tokens are text in it, which the tokenizer supports only for whole
    /// texts: so its treatment of spaces after that token is determined first.
    fn stretch(
        &self,
        text: &str,
        before: Option<u32>,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        const BARE: &str = "\u{fdd0}";
        let plain = |text: &str| self.tokenizer.encode(text, Specials::Ignore);
        let name = before.and_then(|id| self.tokenizer.token_bytes(id));
        let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else {
            if !text.is_empty() {
                ids.extend(plain(text)?);
            }
            return Ok(());
        };
        let behind = |text: &str| -> Result<Vec<u32>, TokenizerError> {
            let mut ids = self.tokenizer.encode(&format!("{name}{text}"), Specials::Parse)?;
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
        // A whole text gets a space in front, and this one must not. A noncharacter, which nothing
        // merges with, keeps them apart.
        let (bare, all) = (plain(BARE)?, plain(&format!("{BARE}{text}"))?);
        match all.strip_prefix(&*bare) {
            Some(rest) => ids.extend(rest),
            None => ids.extend(plain(text)?),
        }
        Ok(())
    }
}

/// A stretch of text between special tokens.
#[derive(Default)]
struct Part {
    text: String,
    /// True if marks were removed from it.
    marked: bool,
}
