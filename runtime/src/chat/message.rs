//! Messages of a conversation.

use std::fmt;

use crate::json::JsonError;
use crate::template::Json;

/// A message: a JSON object with a role and, mostly, a content.
///
/// The content is a text, or a list of parts such as `{"type": "text", "text": ".."}`. Other fields
/// are the model's: `tool_calls`, `tool_call_id`, `name`, `reasoning_content` and whatever else its
/// template reads.
///
/// ```
/// use teff_runtime::chat::Message;
/// use teff_runtime::template::Json;
///
/// let message = Message::user("Hi!").with("name", "Ada");
/// assert_eq!((message.role(), message.text()), ("user", Some("Hi!")));
/// assert_eq!(message.get("name").and_then(Json::as_str), Some("Ada"));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    fields: Vec<(String, Json)>,
}

/// Error of JSON that is no message, or no list of messages.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MessageError {
    /// The document is not valid JSON.
    Json(JsonError),
    /// The document is not an array of messages.
    NotAList,
    /// A message is not an object.
    NotAnObject {
        /// Number of the message, from 0.
        index: usize,
    },
    /// A message has no role, or one that is not a text.
    NoRole {
        /// Number of the message, from 0.
        index: usize,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Json(e) => e.fmt(f),
            MessageError::NotAList => f.write_str(
                "a conversation must be an array of messages, such as \
                 [{\"role\": \"user\", \"content\": \"Hi!\"}]",
            ),
            MessageError::NotAnObject { index } => write!(
                f,
                "message {index} is not an object, such as {{\"role\": \"user\", \"content\": \"Hi!\"}}"
            ),
            MessageError::NoRole { index } => {
                write!(f, "message {index} has no \"role\" that is a text, such as \"user\"")
            }
        }
    }
}

impl std::error::Error for MessageError {}

impl From<JsonError> for MessageError {
    fn from(e: JsonError) -> Self {
        MessageError::Json(e)
    }
}

impl Message {
    /// A message of a role.
    #[must_use]
    pub fn new(role: &str, content: impl Into<Json>) -> Message {
        let fields = vec![("role".into(), role.into()), ("content".into(), content.into())];
        Message { fields }
    }

    /// Instructions for the whole conversation.
    #[must_use]
    pub fn system(content: impl Into<Json>) -> Message {
        Message::new("system", content)
    }

    /// A message of the user.
    #[must_use]
    pub fn user(content: impl Into<Json>) -> Message {
        Message::new("user", content)
    }

    /// An answer of the model.
    #[must_use]
    pub fn assistant(content: impl Into<Json>) -> Message {
        Message::new("assistant", content)
    }

    /// The result of a tool.
    #[must_use]
    pub fn tool(content: impl Into<Json>) -> Message {
        Message::new("tool", content)
    }

    /// Sets a field; one that is there keeps its place.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Json>) -> Message {
        let value = value.into();
        match self.fields.iter_mut().find(|(n, _)| n == name) {
            Some(field) => field.1 = value,
            None => self.fields.push((name.into(), value)),
        }
        self
    }

    /// The message that a JSON value is.
    ///
    /// # Errors
    /// [`MessageError::NotAnObject`] and [`MessageError::NoRole`], with index 0.
    pub fn from_json(value: Json) -> Result<Message, MessageError> {
        from_json(value, 0)
    }

    /// Parses a JSON array of messages.
    ///
    /// ```
    /// use teff_runtime::chat::Message;
    ///
    /// let messages = Message::parse_list(br#"[{"role": "user", "content": "Hi!"}]"#)?;
    /// assert_eq!(messages, [Message::user("Hi!")]);
    /// # Ok::<(), teff_runtime::chat::MessageError>(())
    /// ```
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse_list(document: &[u8]) -> Result<Vec<Message>, MessageError> {
        let Json::Array(all) = Json::parse(document)? else { return Err(MessageError::NotAList) };
        all.into_iter().enumerate().map(|(index, value)| from_json(value, index)).collect()
    }

    /// The role, such as `user`.
    #[must_use]
    pub fn role(&self) -> &str {
        self.get("role").and_then(Json::as_str).unwrap_or("")
    }

    /// The content, if it is a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.get("content").and_then(Json::as_str)
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// All fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[(String, Json)] {
        &self.fields
    }

    /// The message as transformers 5.24 gives it to a template: without fields that are null, and
    /// with the reasoning under the names that templates read.
    pub(super) fn prepared(&self) -> Json {
        const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let kept = self.fields.iter().filter(|(_, value)| !value.is_null()).cloned();
        let mut fields: Vec<(String, Json)> = kept.collect();
        let value = |fields: &[(String, Json)], name: &str| {
            fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
        };
        let Some(reasoning) = REASONING.iter().find_map(|name| value(&fields, name)) else {
            return Json::Object(fields);
        };
        let thinking = value(&fields, "thinking").unwrap_or_else(|| reasoning.clone());
        fields.retain(|(n, _)| n != "thinking");
        fields.insert(0, ("thinking".into(), thinking));
        match fields.iter_mut().find(|(n, _)| n == "reasoning_content") {
            Some(field) => field.1 = reasoning,
            None => fields.push(("reasoning_content".into(), reasoning)),
        }
        Json::Object(fields)
    }
}

fn from_json(value: Json, index: usize) -> Result<Message, MessageError> {
    let Json::Object(fields) = value else { return Err(MessageError::NotAnObject { index }) };
    let message = Message { fields };
    match message.get("role").and_then(Json::as_str) {
        Some(_) => Ok(message),
        None => Err(MessageError::NoRole { index }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_prepared_as_in_transformers() {
        let prepared = |json: &str| {
            let message = Message::from_json(Json::parse(json.as_bytes()).unwrap()).unwrap();
            message.prepared().to_string()
        };
        assert_eq!(
            prepared(r#"{"role": "user", "content": null, "name": null}"#),
            r#"{"role": "user"}"#
        );
        assert_eq!(
            prepared(r#"{"role": "assistant", "reasoning": "r", "content": "c"}"#),
            r#"{"thinking": "r", "role": "assistant", "reasoning": "r", "content": "c", "reasoning_content": "r"}"#
        );
        assert_eq!(
            prepared(r#"{"role": "assistant", "reasoning_content": "r", "thinking": "t"}"#),
            r#"{"thinking": "t", "role": "assistant", "reasoning_content": "r"}"#
        );
        assert_eq!(
            prepared(r#"{"role": "assistant", "reasoning_content": null, "thinking": "t"}"#),
            r#"{"thinking": "t", "role": "assistant", "reasoning_content": "t"}"#
        );
    }

    #[test]
    fn what_is_no_message_is_named() {
        let list = |json: &str| Message::parse_list(json.as_bytes()).unwrap_err();
        assert_eq!(list(r#"{"role": "user"}"#), MessageError::NotAList);
        assert_eq!(list(r#"[{"role": "user"}, 1]"#), MessageError::NotAnObject { index: 1 });
        assert_eq!(list(r#"[{"content": "x"}]"#), MessageError::NoRole { index: 0 });
        assert!(matches!(list("["), MessageError::Json(_)));
    }
}
