//! Conversations as text, by the model's chat template.

use teff::runtime::template::{Json, Template, TemplateError};

/// The author of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A message of the conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) content: String,
}

/// Special-token strings available to templates.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tokens<'a> {
    pub(crate) bos: Option<&'a str>,
    pub(crate) eos: Option<&'a str>,
}

/// A parsed template, ready to render.
#[derive(Debug)]
pub(crate) struct ChatTemplate(Template);

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`] if it is malformed.
    pub(crate) fn new(source: &str) -> Result<ChatTemplate, TemplateError> {
        Template::parse(source).map(ChatTemplate)
    }

    /// The text of a conversation, up to the start of the next answer.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub(crate) fn render(
        &self,
        messages: &[Message],
        tokens: Tokens<'_>,
    ) -> Result<String, TemplateError> {
        let text = |text: &str| Json::String(text.into());
        let message = |m: &Message| {
            Json::Object(vec![
                ("role".into(), text(m.role.name())),
                ("content".into(), text(&m.content)),
            ])
        };
        let messages = Json::Array(messages.iter().map(message).collect());
        let (bos, eos) = (tokens.bos.map(text), tokens.eos.map(text));
        // As transformers passes them: without tools and documents, these are there and none.
        let mut variables = vec![
            ("messages", &messages),
            ("tools", &Json::Null),
            ("documents", &Json::Null),
            ("add_generation_prompt", &Json::Bool(true)),
        ];
        variables.extend(bos.as_ref().map(|bos| ("bos_token", bos)));
        variables.extend(eos.as_ref().map(|eos| ("eos_token", eos)));
        self.0.render(&variables)
    }
}
