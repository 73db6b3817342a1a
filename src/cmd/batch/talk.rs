//! Prompts that a chat template writes.

use std::path::Path;

use teff::Model;
use teff::runtime::chat::{ChatTemplate, Conversation, Encoder, Message, SpecialTokens};
use teff::runtime::template::Json;
use teff::runtime::tokenizer::Tokenizer;

use crate::cmd::Failure;
use crate::cmd::template::choose;

/// Template of conversations, or the reason why there is none.
type Template<'m> = Result<Encoder<'m>, String>;

/// Templates of conversations.
pub(super) struct Templates<'m> {
    model: &'m Model,
    tokenizer: &'m Tokenizer,
    /// The one that was named.
    given: Option<Encoder<'m>>,
    /// The model's, without tools and with them, between which it may tell. They are made when they
    /// are needed first.
    own: [Option<Template<'m>>; 2],
}

impl<'m> Templates<'m> {
    /// The template that `name` names, or else the model's.
    pub(super) fn new(
        model: &'m Model,
        tokenizer: &'m Tokenizer,
        name: Option<&Path>,
    ) -> Result<Templates<'m>, Failure> {
        let mut templates = Templates { model, tokenizer, given: None, own: [None, None] };
        if let Some(name) = name {
            let given = choose(model.chat_templates(), Some(name), false)?;
            templates.given = Some(encoder(model, tokenizer, given));
        }
        Ok(templates)
    }

    /// Source of the template that takes the place of the model's.
    pub(super) fn given(&self) -> Option<&str> {
        self.given.as_ref().map(|encoder| encoder.template().source())
    }

    /// Tokens of a conversation, and the token that ends the answer besides those of the model.
    pub(super) fn encode(
        &mut self,
        messages: &[Message],
        tools: Option<Vec<Json>>,
        variables: &[(String, Json)],
    ) -> Result<(Vec<u32>, Option<u32>), String> {
        let tools = tools.filter(|all| !all.is_empty());
        let (model, tokenizer) = (self.model, self.tokenizer);
        let make = || {
            let own = choose(model.chat_templates(), None, tools.is_some());
            Ok(encoder(model, tokenizer, own.map_err(why)?))
        };
        let encoder = match &self.given {
            Some(given) => given,
            None => {
                let own = self.own[usize::from(tools.is_some())].get_or_insert_with(make);
                own.as_ref().map_err(String::clone)?
            }
        };
        if tools.is_some() && !encoder.template().source().contains("tools") {
            return Err("the chat template knows no tools: leave them out".into());
        }
        let mut conversation = Conversation::new(messages).with_variables(variables);
        conversation.tools = tools.as_deref();
        let tokens = encoder.encode(&conversation).map_err(|e| e.to_string())?;
        Ok((tokens, encoder.end_token()))
    }
}

fn encoder<'m>(model: &Model, tokenizer: &'m Tokenizer, template: ChatTemplate) -> Encoder<'m> {
    Encoder::with_special_tokens(tokenizer, template, SpecialTokens::of_model(model))
}

fn why(failure: Failure) -> String {
    match failure {
        Failure::Usage(what) | Failure::Run(what) | Failure::Help(what) => what,
        Failure::Closed => String::new(),
    }
}
