//! Conversations: messages in, pieces of answers out.
//!
//! A [`Chat`] keeps the messages of a conversation and a session with their tokens. Each turn renders
//! the model's template ([`ChatTemplate`]), turns it into tokens ([`Encoder`]) in which nothing that
//! was said becomes a special token, and computes only what the session doesn't have yet. An answer
//! ends where the model ends it, or with the token that the template writes behind answers.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use teff_runtime::chat::{Chat, ChatTemplate, Message};
//! use teff_runtime::{Generate, Model, SessionOptions};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
//! let model = Model::open(path)?;
//! let session = model.session(&SessionOptions::default().with_context(256))?;
//! let template = ChatTemplate::builtin("vicuna").expect("a built-in template");
//! let mut chat = Chat::new(session, template)?;
//! let mut answer = chat.send(Message::user("Tell a story."), &Generate::default().with_max_tokens(8))?;
//! while let Some(piece) = answer.next_piece()? {
//!     print!("{piece}");
//! }
//! drop(answer);
//! assert_eq!(chat.messages().len(), 2);
//! # Ok(()) }
//! ```

mod builtin;
mod encode;
mod message;
mod prompt;

use std::fmt;

use teff_graph::{Cancel, StepError};

use crate::session::{Finish, Generate, Generation, Session, SessionError};
use crate::template::{Json, TemplateError};
use crate::tokenizer::TokenizerError;

pub use encode::Encoder;
use encode::Rules;
pub use message::{Message, MessageError};
pub use prompt::{ChatTemplate, Conversation, ModelTemplateError, SpecialTokens};

/// Error of a conversation.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChatError {
    /// The template refuses the conversation, or fails.
    Template(TemplateError),
    /// The tokenizer failed.
    Tokenizer(TokenizerError),
    /// All 32 noncharacters that could mark names of special tokens occur in the conversation.
    NoMark,
    /// The session failed.
    Session(SessionError),
    /// The conversation has more tokens than the session's context.
    ContextFull {
        /// Tokens of the conversation.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChatError::Template(e) => e.fmt(f),
            ChatError::Tokenizer(e) => e.fmt(f),
            ChatError::NoMark => {
                f.write_str("the conversation has all the noncharacters U+FDD0 to U+FDEF: drop one")
            }
            ChatError::Session(e) => e.fmt(f),
            ChatError::ContextFull { tokens, context } => write!(
                f,
                "the conversation has {tokens} tokens, but the context holds {context}: drop \
                 messages, or set SessionOptions::context"
            ),
        }
    }
}

impl std::error::Error for ChatError {}

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

impl From<SessionError> for ChatError {
    fn from(e: SessionError) -> Self {
        ChatError::Session(e)
    }
}

/// A conversation and its session.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::chat::{Chat, ChatTemplate, Message};
/// use teff_runtime::{Generate, Model, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let session = model.session(&SessionOptions::default().with_context(128))?;
/// let template = ChatTemplate::builtin("vicuna").expect("a built-in template");
/// let mut chat = Chat::new(session, template)?;
/// let mut answer = chat.send(Message::user("Hello"), &Generate::default().with_max_tokens(4))?;
/// let mut text = String::new();
/// while let Some(piece) = answer.next_piece()? {
///     text += &piece;
/// }
/// drop(answer);
/// assert_eq!(chat.messages()[1].text(), Some(text.as_str()));
/// # Ok(()) }
/// ```
pub struct Chat<'m> {
    session: Session<'m>,
    rules: Rules,
    messages: Vec<Message>,
    tools: Option<Vec<Json>>,
    documents: Option<Vec<Json>>,
    variables: Vec<(String, Json)>,
}

impl fmt::Debug for Chat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat")
            .field("session", &self.session)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

impl<'m> Chat<'m> {
    /// A conversation without messages, in a session whose text it replaces.
    ///
    /// # Errors
    /// [`SessionError::NoTokenizer`].
    pub fn new(session: Session<'m>, template: ChatTemplate) -> Result<Chat<'m>, SessionError> {
        let special = SpecialTokens::of_model(session.model());
        let rules = Rules::new(session.tokenizer()?, template, special);
        Ok(Chat {
            session,
            rules,
            messages: Vec::new(),
            tools: None,
            documents: None,
            variables: Vec::new(),
        })
    }

    /// Tools that the model may call from now on, as JSON schemas of functions.
    pub fn set_tools(&mut self, tools: Option<Vec<Json>>) {
        self.tools = tools;
    }

    /// Documents that the model may use from now on.
    pub fn set_documents(&mut self, documents: Option<Vec<Json>>) {
        self.documents = documents;
    }

    /// Variables that the template is given from now on, such as `enable_thinking`.
    pub fn set_variables(&mut self, variables: Vec<(String, Json)>) {
        self.variables = variables;
    }

    /// Messages so far, with the model's answers.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The messages, to add and drop some. Only what then differs is computed again.
    pub fn messages_mut(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session<'m> {
        &self.session
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        self.rules.template()
    }

    /// The token that ends answers because the template writes it there, as
    /// [`Encoder::end_token`] has it.
    #[must_use]
    pub fn end_token(&self) -> Option<u32> {
        self.rules.end_token()
    }

    /// Ends the conversation and returns its session.
    #[must_use]
    pub fn into_session(self) -> Session<'m> {
        self.session
    }

    /// The conversation as the template gets it.
    fn conversation(&self) -> Conversation<'_> {
        let conversation = Conversation::new(&self.messages).with_variables(&self.variables);
        Conversation {
            tools: self.tools.as_deref(),
            documents: self.documents.as_deref(),
            ..conversation
        }
    }

    /// Adds a message and starts the answer. If that fails, the message is dropped again.
    ///
    /// # Errors
    /// [`ChatError`]. The rendering of the template is cancelled with the session.
    pub fn send(
        &mut self,
        message: Message,
        options: &Generate,
    ) -> Result<Answer<'_, 'm>, ChatError> {
        self.messages.push(message);
        self.start(options, true)
    }

    /// Starts the answer to the messages as they are.
    ///
    /// # Errors
    /// As [`Chat::send`].
    pub fn reply(&mut self, options: &Generate) -> Result<Answer<'_, 'm>, ChatError> {
        self.start(options, false)
    }

    /// The tokens of the conversation.
    fn encode(&self, cancel: Option<&dyn Cancel>) -> Result<Vec<u32>, ChatError> {
        self.rules.encode(self.session.tokenizer()?, &self.conversation(), cancel)
    }

    /// Starts an answer. If that fails and the last message was `sent` for it, that is dropped.
    fn start(&mut self, options: &Generate, sent: bool) -> Result<Answer<'_, 'm>, ChatError> {
        let stop = self.session.stop_handle();
        let encoded = self.encode(Some(&stop as &dyn Cancel));
        let ids = match encoded {
            Ok(ids) => ids,
            Err(e) => {
                self.messages.truncate(self.messages.len() - usize::from(sent));
                return Err(e);
            }
        };
        let context = self.session.context();
        let kept = common(self.session.tokens(), &ids);
        self.session.truncate(kept);
        let mut options = options.clone();
        options.stop_tokens.extend(self.rules.end_token().filter(|_| !options.ignore_eos));
        match self.session.generate_ids(&ids[kept..], &options) {
            Ok(generation) => Ok(Answer {
                generation,
                messages: &mut self.messages,
                text: String::new(),
                prompt: ids.len() - kept,
                cached: kept,
                sent,
            }),
            Err(e) => {
                self.messages.truncate(self.messages.len() - usize::from(sent));
                Err(match e {
                    SessionError::Step(StepError::ContextFull { .. }) => {
                        ChatError::ContextFull { tokens: ids.len(), context }
                    }
                    e => e.into(),
                })
            }
        }
    }
}

/// Length of the common prefix of two token sequences.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// An answer in progress.
///
/// When it is dropped, its text becomes a message of the conversation. Only if it was given up before
/// it had any text, the message that it answers is dropped instead.
#[derive(Debug)]
pub struct Answer<'c, 'm> {
    generation: Generation<'c, 'm>,
    messages: &'c mut Vec<Message>,
    text: String,
    prompt: usize,
    cached: usize,
    sent: bool,
}

impl<'m> Answer<'_, 'm> {
    /// Holds the answer to a constraint, as [`Generation::with_constraint`] does.
    ///
    /// # Errors
    /// [`SessionError`] as there.
    pub fn with_constraint(
        mut self,
        constraint: Box<dyn crate::engine::Constraint>,
    ) -> Result<Self, SessionError> {
        self.generation.constrain(constraint)?;
        Ok(self)
    }

    /// Computes the next piece of text, at least one character; `None` at the end.
    ///
    /// # Errors
    /// [`SessionError`], such as [`StepError::Cancelled`] in a step. The next call goes on, if the
    /// session was resumed.
    pub fn next_piece(&mut self) -> Result<Option<&str>, SessionError> {
        let piece = self.generation.next_piece()?;
        if let Some(piece) = piece {
            self.text.push_str(piece);
        }
        Ok(piece)
    }

    /// Text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reason why it ended; `None` while it continues.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.generation.finish()
    }

    /// Number of tokens generated so far.
    #[must_use]
    pub fn generated(&self) -> usize {
        self.generation.generated()
    }

    /// Number of tokens of the conversation that are computed for this answer.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    /// Number of tokens of the conversation that the session had already.
    #[must_use]
    pub fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// The session that is used.
    #[must_use]
    pub fn session(&self) -> &Session<'m> {
        self.generation.session()
    }
}

impl Iterator for Answer<'_, '_> {
    type Item = Result<String, SessionError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().map(|piece| piece.map(str::to_owned)).transpose()
    }
}

impl Drop for Answer<'_, '_> {
    fn drop(&mut self) {
        let ended = self.finish().is_some_and(|finish| finish != Finish::Cancelled);
        if !self.text.is_empty() || ended {
            let text = std::mem::take(&mut self.text);
            self.messages.push(Message::assistant(text));
        } else if self.sent {
            self.messages.pop();
        }
    }
}
