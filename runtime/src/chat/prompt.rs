//! Templates of conversations, and their input.

use std::fmt;
use std::path::Path;

use super::builtin::BUILTINS;
use super::message::Message;
use crate::model::{ChatTemplateError, ChatTemplates, Model, special_token_texts};
use crate::template::{
    Json, RenderOptions, Template, TemplateError, TemplateErrorKind, TemplateLimits,
};
use crate::tokenizer::Tokenizer;

/// A conversation, and what else its template may ask for.
///
/// ```
/// use teff_runtime::chat::{ChatTemplate, Conversation, Message, SpecialTokens};
///
/// let messages = [Message::user("Hi!")];
/// let template = ChatTemplate::builtin("chatml").expect("a built-in template");
/// let text = template.render(&Conversation::new(&messages), &SpecialTokens::default())?;
/// assert_eq!(text, "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), teff_runtime::template::TemplateError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Conversation<'a> {
    /// Messages from the first to the last.
    pub messages: &'a [Message],
    /// Tools that the model may call, as JSON schemas of functions; `None` for no tools.
    pub tools: Option<&'a [Json]>,
    /// Documents, with titles and texts; `None` for none.
    pub documents: Option<&'a [Json]>,
    /// True (the default) if the text ends where the model's answer starts.
    pub add_generation_prompt: bool,
    /// Other variables, such as `enable_thinking`.
    pub variables: &'a [(String, Json)],
}

impl<'a> Conversation<'a> {
    /// A conversation of these messages.
    #[must_use]
    pub const fn new(messages: &'a [Message]) -> Self {
        Conversation {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: true,
            variables: &[],
        }
    }

    /// Sets [`tools`](Self::tools).
    #[must_use]
    pub const fn with_tools(self, tools: &'a [Json]) -> Self {
        Conversation { tools: Some(tools), ..self }
    }

    /// Sets [`documents`](Self::documents).
    #[must_use]
    pub const fn with_documents(self, documents: &'a [Json]) -> Self {
        Conversation { documents: Some(documents), ..self }
    }

    /// Sets [`add_generation_prompt`](Self::add_generation_prompt).
    #[must_use]
    pub const fn with_generation_prompt(self, add: bool) -> Self {
        Conversation { add_generation_prompt: add, ..self }
    }

    /// Sets [`variables`](Self::variables).
    #[must_use]
    pub const fn with_variables(self, variables: &'a [(String, Json)]) -> Self {
        Conversation { variables, ..self }
    }

    /// The variables of a rendering that don't depend on the model.
    pub(super) fn own_variables(&self) -> Result<Vec<(String, Json)>, TemplateError> {
        let list = |all: Option<&[Json]>| all.map_or(Json::Null, |all| Json::Array(all.to_vec()));
        let messages = self.messages.iter().map(Message::prepared).collect();
        let mut all = vec![
            ("messages".into(), Json::Array(messages)),
            ("tools".into(), list(self.tools)),
            ("documents".into(), list(self.documents)),
            ("add_generation_prompt".into(), Json::Bool(self.add_generation_prompt)),
        ];
        for (name, value) in self.variables {
            if all.iter().any(|(n, _)| n == name) {
                let kind = TemplateErrorKind::Operation(format!(
                    "the variable `{name}` is set twice: the conversation has it already"
                ));
                return Err(TemplateError::new(kind));
            }
            all.push((name.clone(), value.clone()));
        }
        Ok(all)
    }
}

/// Texts of special tokens that templates write, such as `bos_token`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SpecialTokens {
    tokens: Vec<(String, String)>,
}

impl SpecialTokens {
    /// Those of a tokenizer. A token that it doesn't have is undefined for templates.
    #[must_use]
    pub fn of(tokenizer: &Tokenizer) -> SpecialTokens {
        let ids = tokenizer.special_ids();
        let named = [("bos_token", ids.bos), ("eos_token", ids.eos), ("unk_token", ids.unk)];
        let text = |id: Option<u32>| {
            let bytes = tokenizer.token_bytes(id?)?;
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        };
        let tokens = named.into_iter().filter_map(|(name, id)| Some((name.to_owned(), text(id)?)));
        SpecialTokens { tokens: tokens.collect() }
    }

    /// Those of a model: of its tokenizer, and those that its files name for templates, such as
    /// `pad_token`.
    #[must_use]
    pub fn of_model(model: &Model) -> SpecialTokens {
        SpecialTokens::of_parts(model.tokenizer().ok(), model.special_token_texts())
    }

    /// The same for a model that is not opened.
    #[must_use]
    pub fn open(path: impl AsRef<Path>, tokenizer: Option<&Tokenizer>) -> SpecialTokens {
        SpecialTokens::of_parts(tokenizer, &special_token_texts(path.as_ref(), tokenizer))
    }

    fn of_parts(tokenizer: Option<&Tokenizer>, texts: &[(String, Option<String>)]) -> Self {
        let mut special = tokenizer.map(SpecialTokens::of).unwrap_or_default();
        for (name, text) in texts {
            special = match text {
                Some(text) => special.with(name, text),
                None => special.without(name),
            };
        }
        special
    }

    /// Sets the text of the token at the start of texts.
    #[must_use]
    pub fn with_bos(self, text: &str) -> SpecialTokens {
        self.with("bos_token", text)
    }

    /// Sets the text of the token at the end of texts.
    #[must_use]
    pub fn with_eos(self, text: &str) -> SpecialTokens {
        self.with("eos_token", text)
    }

    /// Sets the text of a token by its name, such as `pad_token`.
    #[must_use]
    pub fn with(self, name: &str, text: &str) -> SpecialTokens {
        let mut set = self.without(name);
        set.tokens.push((name.to_owned(), text.to_owned()));
        set
    }

    fn without(mut self, name: &str) -> SpecialTokens {
        self.tokens.retain(|(n, _)| n != name);
        self
    }
}

/// The template of a conversation: a parsed [`Template`] and its source.
///
/// ```
/// use teff_runtime::chat::{ChatTemplate, Conversation, Message, SpecialTokens};
///
/// let source = "{% for m in messages %}<{{ m.role }}> {{ m.content }}{{ eos_token }}{% endfor %}";
/// let template = ChatTemplate::new(source)?;
/// let messages = [Message::user("Hi"), Message::assistant("Hello")];
/// let special = SpecialTokens::default().with_eos("</s>");
/// let text = template.render(&Conversation::new(&messages), &special)?;
/// assert_eq!(text, "<user> Hi</s><assistant> Hello</s>");
/// # Ok::<(), teff_runtime::template::TemplateError>(())
/// ```
#[derive(Debug)]
pub struct ChatTemplate {
    template: Template,
    source: Box<str>,
}

/// Error of a model's template.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ModelTemplateError {
    /// The model has no such template.
    Missing(ChatTemplateError),
    /// The template is malformed.
    Malformed(TemplateError),
}

impl fmt::Display for ModelTemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelTemplateError::Missing(e) => e.fmt(f),
            ModelTemplateError::Malformed(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ModelTemplateError {}

impl ChatTemplate {
    /// A template from its source, with the default limits.
    ///
    /// # Errors
    /// [`TemplateError`] if it is malformed.
    pub fn new(source: &str) -> Result<ChatTemplate, TemplateError> {
        ChatTemplate::with_limits(source, &TemplateLimits::default())
    }

    /// A template from its source, with limits.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_limits(
        source: &str,
        limits: &TemplateLimits,
    ) -> Result<ChatTemplate, TemplateError> {
        let template = Template::parse_with(source, limits)?;
        Ok(ChatTemplate { template, source: source.into() })
    }

    /// A template of a model: the one of that name; without a name, the one for tools if there are
    /// `tools` and the model has one, or else the default.
    ///
    /// # Errors
    /// [`ModelTemplateError`].
    pub fn of_model(
        model: &Model,
        name: Option<&str>,
        tools: bool,
    ) -> Result<ChatTemplate, ModelTemplateError> {
        ChatTemplate::of_templates(model.chat_templates(), name, tools)
    }

    /// The same, of the templates that a model has.
    ///
    /// # Errors
    /// As [`ChatTemplate::of_model`].
    pub fn of_templates(
        templates: Result<&ChatTemplates, &ChatTemplateError>,
        name: Option<&str>,
        tools: bool,
    ) -> Result<ChatTemplate, ModelTemplateError> {
        let templates = templates.map_err(|e| ModelTemplateError::Missing(e.clone()))?;
        let source = match name {
            Some(name) => templates.get(name),
            None => templates.select(tools),
        };
        let source = source.ok_or(ModelTemplateError::Missing(ChatTemplateError::Missing))?;
        ChatTemplate::new(source).map_err(ModelTemplateError::Malformed)
    }

    /// The built-in template of a name, for models that have none; `None` for another name.
    ///
    /// They have llama.cpp's names and write what it writes: no tools, and no token at the start of
    /// texts, which [`Encoder`](super::Encoder) adds for models that expect one.
    #[must_use]
    pub fn builtin(name: &str) -> Option<ChatTemplate> {
        let found = BUILTINS.iter().find(|builtin| builtin.name == name)?;
        ChatTemplate::new(&found.source()).ok()
    }

    /// Names of the built-in templates, in alphabetical order.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTINS.iter().map(|builtin| builtin.name)
    }

    /// Source of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn render(
        &self,
        conversation: &Conversation<'_>,
        special: &SpecialTokens,
    ) -> Result<String, TemplateError> {
        self.render_with(conversation, special, &RenderOptions::default())
    }

    /// The text of a conversation, with options.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn render_with(
        &self,
        conversation: &Conversation<'_>,
        special: &SpecialTokens,
        options: &RenderOptions<'_>,
    ) -> Result<String, TemplateError> {
        self.render_variables(&conversation.own_variables()?, special, options)
    }

    /// The text of variables. Special tokens are those of the model, unless a variable has the name.
    pub(super) fn render_variables(
        &self,
        variables: &[(String, Json)],
        special: &SpecialTokens,
        options: &RenderOptions<'_>,
    ) -> Result<String, TemplateError> {
        let tokens: Vec<(&str, Json)> = special
            .tokens
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str().into()))
            .collect();
        let tokens = tokens.iter().map(|(name, text)| (*name, text));
        let own = variables.iter().map(|(name, value)| (name.as_str(), value));
        let all: Vec<(&str, &Json)> = tokens.chain(own).collect();
        self.template.render_with(&all, options)
    }
}
