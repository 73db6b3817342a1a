//! Dialect of a model, by its chat template: how conversations are put to it, and how its answers are read.

use serde_json::json;
use teff_runtime::tokenizer::Tokenizer;

use super::force::{allow, answer, force};
use super::format::{Format, Start};
use super::scan::Function;
use super::{Calls, functions, history, name_error, parser};
use crate::error::{ApiError, ApiResult};
use crate::grammar::Grammar;
use crate::job::{AnswerParser, ChatJob, ToolChoice};

/// Number of tokens at a prompt's end that are looked at.
const TAIL: usize = 16;

/// Dialect of a model, by its chat template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dialect {
    /// Format of calls and reasoning.
    pub(crate) format: Format,
    /// True if the template knows the tags of reasoning.
    thinks: bool,
}

impl Dialect {
    /// The dialect of a chat template, by its source.
    pub(crate) fn of_template(source: &str) -> Dialect {
        let format = Format::of_template(source);
        let tags = format.reasoning();
        let thinks = tags.is_some_and(|tags| source.contains(tags.open.trim_end()));
        Dialect { format, thinks }
    }

    /// Converts the messages of a job for the template, and tells the model of the tools where the
    /// template doesn't.
    ///
    /// # Errors
    /// [`ApiError`] for calls, results and names of functions that are malformed.
    pub(crate) fn convert(self, job: &mut ChatJob) -> ApiResult<()> {
        if job.uses_tools() {
            for tool in &job.tools {
                if let Some(message) = name_error(&tool.name) {
                    return Err(ApiError::field(
                        "tools",
                        format!("the name of a function {message}"),
                    ));
                }
            }
        }
        job.messages = history::convert(self.format, std::mem::take(&mut job.messages))?;
        if self.format == Format::Generic && job.uses_tools() {
            history::instruct(&mut job.messages, &history::instructions(&job.tools));
        }
        Ok(())
    }

    /// Place in the answer at which a prompt ends.
    pub(crate) fn start(self, job: &ChatJob, tokenizer: &Tokenizer, prompt: &[u32]) -> Start {
        if job.prefill.as_deref().is_some_and(|text| !text.is_empty()) {
            return Start::Text;
        }
        let tail = &prompt[prompt.len().saturating_sub(TAIL)..];
        let bytes = tail.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten();
        let bytes: Vec<u8> = bytes.copied().collect();
        Start::of_prompt(self.format, &String::from_utf8_lossy(&bytes))
    }

    /// Prepares the reading of a job's answers, which begin at `start`: the grammar that they belong to,
    /// and where it came from.
    ///
    /// # Errors
    /// [`ApiError`] if calls are to be forced beside another grammar, or can't be forced.
    pub(crate) fn read(self, job: &ChatJob, start: Start) -> ApiResult<Reading> {
        let functions = if job.uses_tools() { functions(&job.tools) } else { Vec::new() };
        let named = |name: &str| -> Vec<Function> {
            functions.iter().filter(|f| f.name == name).cloned().collect()
        };
        let reading = Reading { dialect: self, start, functions: functions.clone(), grammar: None };
        let forced = match &job.tool_choice {
            _ if functions.is_empty() => None,
            ToolChoice::Required => Some((functions, job.parallel_tool_calls)),
            ToolChoice::Named(name) => Some((named(name), false)),
            ToolChoice::Auto | ToolChoice::None => None,
        };
        let error = |e| ApiError::field("tools", e);
        let Some((callable, several)) = forced else {
            let functions = &reading.functions;
            return match &job.grammar {
                Some((grammar, field)) => Ok(reading.with_grammar(grammar, field)),
                None if functions.iter().any(|f| f.strict) => {
                    let several = job.parallel_tool_calls;
                    let language = allow(self.format, start, self.thinks, functions, several);
                    let grammar = Grammar::Language(language.map_err(error)?);
                    Ok(Reading {
                        grammar: Some((grammar, "tools".to_owned(), Calls::Strict)),
                        ..reading
                    })
                }
                None => Ok(reading),
            };
        };
        if let Some((_, field)) = &job.grammar {
            let message = format!("can't force a call beside {field}");
            return Err(ApiError::field("tool_choice", message));
        }
        let language = force(self.format, start, self.thinks, &callable, several);
        let grammar = Grammar::Language(language.map_err(error)?);
        let grammar = Some((grammar, "tools".to_owned(), Calls::Forced));
        Ok(Reading { functions: callable, grammar, ..reading })
    }
}

/// Reading of a job's answers.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    dialect: Dialect,
    start: Start,
    functions: Vec<Function>,
    /// Grammar, the field of the request that asks for it, and what it makes of calls.
    grammar: Option<(Grammar, String, Calls)>,
}

impl Reading {
    fn with_grammar(self, grammar: &Grammar, field: &str) -> Reading {
        let schema = match grammar {
            Grammar::JsonObject => Some(json!({"type": "object"})),
            Grammar::JsonSchema(text) => serde_json::from_str(text).ok(),
            _ => None,
        };
        let Dialect { format, thinks } = self.dialect;
        let language = schema.and_then(|schema| answer(format, self.start, thinks, schema));
        // Other grammars are of the whole answer: nothing in it is reasoning or a call.
        let start = if language.is_some() { self.start } else { Start::Text };
        let grammar = language.map_or_else(|| grammar.clone(), Grammar::Language);
        let grammar = Some((grammar, field.to_owned(), Calls::Free));
        Reading { start, functions: Vec::new(), grammar, ..self }
    }

    /// Grammar of the answers, and the field of the request that asks for it.
    pub(crate) fn grammar(&self) -> Option<(&Grammar, &str)> {
        self.grammar.as_ref().map(|(grammar, field, _)| (grammar, field.as_str()))
    }

    /// Parser of one answer.
    pub(crate) fn parser(&self) -> Box<dyn AnswerParser> {
        let calls = self.grammar.as_ref().map_or(Calls::Free, |(.., calls)| *calls);
        parser(self.dialect.format, self.start, self.functions.clone(), calls)
    }
}
