//! Conversations of interfaces in which calls and results are parts or items of their own.

use serde_json::{Map, Value};
use teff_runtime::chat::Message;
use teff_runtime::template::Json;

use super::scan::{MAX_NAME, is_name_char};
use crate::job::Tool;
use crate::json::fields_to_template;

/// Conversation that is put together from its parts, in order.
///
/// Parts of the assistant that follow one another are one message, as templates expect it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Turns {
    all: Vec<Message>,
    open: Open,
}

/// Message of the assistant that may go on.
#[derive(Clone, PartialEq, Debug, Default)]
struct Open {
    text: Option<String>,
    reasoning: String,
    calls: Vec<Json>,
}

impl Turns {
    /// Adds a message of a role other than the assistant.
    pub(crate) fn message(&mut self, role: &str, text: String) {
        self.close();
        self.all.push(Message::new(role, text));
    }

    /// Adds text of the assistant.
    pub(crate) fn text(&mut self, text: &str) {
        match &mut self.open.text {
            Some(before) if before.is_empty() => before.push_str(text),
            Some(before) => {
                before.push('\n');
                before.push_str(text);
            }
            empty => *empty = Some(text.to_owned()),
        }
    }

    /// Adds reasoning of the assistant.
    pub(crate) fn reasoning(&mut self, text: &str) {
        // Reasoning stands before what it led to.
        if self.open.text.is_some() || !self.open.calls.is_empty() {
            self.close();
        }
        if !self.open.reasoning.is_empty() && !text.is_empty() {
            self.open.reasoning.push('\n');
        }
        self.open.reasoning.push_str(text);
    }

    /// Adds a call of the assistant. Its arguments are an object, or the text of one.
    pub(crate) fn call(&mut self, id: &str, name: &str, arguments: Json) {
        let function = vec![("name".to_owned(), name.into()), ("arguments".to_owned(), arguments)];
        self.open.calls.push(Json::Object(vec![
            ("id".to_owned(), id.into()),
            ("type".to_owned(), "function".into()),
            ("function".to_owned(), Json::Object(function)),
        ]));
    }

    /// Adds the result of a call.
    pub(crate) fn result(&mut self, id: &str, text: String) {
        self.close();
        self.all.push(Message::tool(text).with("tool_call_id", id));
    }

    /// Text of the last message if it is the assistant's and has nothing else, which is then the
    /// beginning of the answer.
    pub(crate) fn take_last_text(&mut self) -> Option<String> {
        if self.open.calls.is_empty() && self.open.reasoning.is_empty() {
            self.open.text.take()
        } else {
            None
        }
    }

    /// All messages.
    pub(crate) fn finish(mut self) -> Vec<Message> {
        self.close();
        self.all
    }

    fn close(&mut self) {
        let Open { text, reasoning, calls } = std::mem::take(&mut self.open);
        if text.is_none() && calls.is_empty() {
            // Reasoning that led to nothing tells nothing.
            return;
        }
        let mut message = Message::assistant(text.unwrap_or_default());
        if !reasoning.is_empty() {
            message = message.with("reasoning_content", reasoning);
        }
        if !calls.is_empty() {
            message = message.with("tool_calls", Json::Array(calls));
        }
        self.all.push(message);
    }
}

impl Tool {
    /// Tool of these parts. The arguments of calls must be valid if it is `strict`.
    pub(crate) fn function(
        name: &str,
        description: Option<&str>,
        parameters: Option<&Map<String, Value>>,
        strict: bool,
    ) -> Tool {
        let parameters = parameters.map(fields_to_template);
        let mut function = vec![("name".to_owned(), name.into())];
        // Templates write it without asking whether it is there.
        function.push(("description".to_owned(), description.unwrap_or_default().into()));
        function.extend(parameters.clone().map(|json| ("parameters".to_owned(), json)));
        if strict {
            function.push(("strict".to_owned(), Json::Bool(true)));
        }
        let json = Json::Object(vec![
            ("type".to_owned(), "function".into()),
            ("function".to_owned(), Json::Object(function)),
        ]);
        Tool { name: name.to_owned(), parameters, json }
    }
}

/// The reason why a text can't be the name of a function, if it can't.
pub(crate) fn name_error(name: &str) -> Option<String> {
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_name_char) {
        return None;
    }
    Some(format!(
        "must have 1 to {MAX_NAME} letters, digits and characters of `_-.:/`, but is {name:?}"
    ))
}
