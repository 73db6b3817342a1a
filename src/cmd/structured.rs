//! Options that hold a text to a schema, a regular expression or a grammar.

use teff::Model;
use teff::runtime::engine::Constraint;
use teff::runtime::structured::{Grammar, Grammars};

use super::args::{Args, file_option, option, switch};
use super::batch::Source;
use super::{Failure, prompt};

/// Adds the options.
pub(crate) fn options(command: clap::Command) -> clap::Command {
    command
        .next_help_heading("Form of the text")
        .arg(
            file_option(
                "json-schema",
                "FILE",
                "write JSON that this JSON schema allows; the schema itself may stand in place of \
                 its file; also -jf",
            )
            .short('j')
            .alias("json-schema-file"),
        )
        .arg(switch("json", "write a JSON object"))
        .arg(option("regex", "REGEX", "write text that matches this regular expression"))
        .arg(
            file_option("grammar", "FILE", "write text of this grammar, in a form of Lark")
                .alias("grammar-file"),
        )
}

/// Forms of the lines of a batch, over a model's tokens.
pub(crate) struct Forms {
    grammars: Grammars,
    /// Those that were compiled last, the latest at the end.
    recent: Vec<(Source, Box<dyn Constraint>)>,
}

/// Most forms that are kept: lines often have the same.
const RECENT: usize = 8;

impl Forms {
    /// Forms over a model's tokens.
    pub(crate) fn new(model: &Model) -> Result<Forms, String> {
        let tokenizer = model.tokenizer().map_err(|e| e.to_string())?;
        let grammars = Grammars::new(tokenizer, model.spec().vocab as usize);
        Ok(Forms { grammars: grammars.map_err(|e| e.to_string())?, recent: Vec::new() })
    }

    /// The constraint of a form.
    pub(crate) fn constraint(&mut self, source: &Source) -> Result<Box<dyn Constraint>, String> {
        if let Some(at) = self.recent.iter().position(|(other, _)| other == source) {
            let found = self.recent.remove(at);
            let constraint = found.1.fork();
            self.recent.push(found);
            return Ok(constraint);
        }
        let grammar = match source.clone() {
            Source::JsonSchema(text) => Grammar::JsonSchema(text),
            Source::JsonObject => Grammar::JsonObject,
            Source::Regex(text) => Grammar::Regex(text),
            Source::Grammar(text) => Grammar::Lark(text),
        };
        let constraint = self.grammars.compile(&grammar).map_err(|e| e.to_string())?;
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push((source.clone(), constraint.fork()));
        Ok(constraint)
    }
}

/// A grammar and its name in messages.
pub(crate) struct Form {
    grammar: Grammar,
    name: String,
}

/// The grammar that the options ask for.
pub(crate) fn read(args: &Args) -> Result<Option<Form>, Failure> {
    let given = ["json-schema", "json", "regex", "grammar"].into_iter().filter(|id| args.has(id));
    let given: Vec<&str> = given.collect();
    if let [first, second, ..] = given[..] {
        let (first, second) = (args.name(first), args.name(second));
        let what = format!("{first} and {second} both say what the text is: leave one of them out");
        return Err(Failure::Usage(what));
    }
    let Some(&id) = given.first() else { return Ok(None) };
    let name = args.name(id);
    let (grammar, name) = match id {
        "json" => (Grammar::JsonObject, name),
        "regex" => (Grammar::Regex(args.text(id)?.unwrap_or_default()), name),
        _ => {
            let path = args.path(id).unwrap_or_default();
            // Where a file is meant, some type what would be in it.
            let inline = path.to_str().filter(|text| text.trim_start().starts_with('{'));
            match inline {
                Some(schema) if id == "json-schema" => (Grammar::JsonSchema(schema.into()), name),
                _ => {
                    let text = prompt::of_file(&path)?;
                    let name = path.display().to_string();
                    let grammar = match id {
                        "grammar" => Grammar::Lark(text),
                        _ => Grammar::JsonSchema(text),
                    };
                    (grammar, name)
                }
            }
        }
    };
    Ok(Some(Form { grammar, name }))
}

impl Form {
    /// The grammar with its kind, as a text: equal texts are equal grammars.
    pub(crate) fn source(&self) -> String {
        format!("{:?}", self.grammar)
    }

    /// The constraint over a model's tokens.
    pub(crate) fn constraint(&self, model: &Model) -> Result<Box<dyn Constraint>, Failure> {
        let failure = |e: &dyn core::fmt::Display| Failure::Run(format!("{}: {e}", self.name));
        let tokenizer = model.tokenizer().map_err(Failure::run)?;
        let grammars =
            Grammars::new(tokenizer, model.spec().vocab as usize).map_err(Failure::run)?;
        grammars.compile(&self.grammar).map_err(|e| failure(&e))
    }
}
