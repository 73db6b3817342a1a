//! `teff template`: what a chat template makes of messages.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use teff::runtime::chat::{
    ChatTemplate, Conversation, Message, MessageError, ModelTemplateError, SpecialTokens,
};
use teff::runtime::model::{ChatTemplateError, ChatTemplates, LoadErrorKind};
use teff::runtime::template::Json;
use teff::runtime::tokenizer;

use super::args::{Args, file_option, nearest, option, switch};
use super::common::{CommonArgs, model_argument, model_options};
use super::{Command, Failure, elsewhere, print, print_error};

pub(crate) const COMMAND: Command = Command {
    name: "template",
    about: "prints what a chat template makes of messages",
    usage: &["template MODEL --messages FILE [OPTIONS]"],
    details: "Prints the text of a conversation as a chat template writes it, byte for byte.",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Conversation")
        .arg(
            file_option(
                "messages",
                "FILE",
                "the messages, a JSON array such as [{\"role\": \"user\", \"content\": \"Hi!\"}]; - for \
                 standard input",
            ),
        )
        .arg(
            file_option(
                "tools",
                "FILE",
                "tools that the model may call, a JSON array of functions' schemas; - for standard \
                 input",
            ),
        )
        .arg(template_option())
        .arg(variables_option())
        .arg(switch("no-generation-prompt", "don't begin the model's answer at the end"));
    model_options(command, &[])
}

/// The option that chooses a template.
pub(super) fn template_option() -> clap::Arg {
    file_option(
        "chat-template",
        "FILE",
        "Jinja template for the conversation, or the name of one of the model's or of a built-in \
         one, such as chatml (default: the model's own)",
    )
    .visible_alias("chat-template-file")
}

/// The option with the variables of a template.
pub(super) fn variables_option() -> clap::Arg {
    option(
        "kwargs",
        "JSON",
        "such as {\"enable_thinking\": false}: variables for the template, its documents among \
         them",
    )
    .visible_alias("chat-template-kwargs")
}

/// Size limit of a template file in bytes, as for a model's own.
const MAX_TEMPLATE: u64 = 1 << 20;

/// Size limit of other files in bytes.
const MAX_FILE: u64 = 64 << 20;

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "template")?;
    common.path()?;
    let Some(from) = args.path("messages") else {
        return Err(Failure::Usage("no messages: give them with --messages FILE".into()));
    };
    let (variables, documents) = variables(args)?;
    let inputs = [Some(from.clone()), args.path("tools"), args.path("chat-template")];
    if inputs.iter().flatten().filter(|path| is_input(path)).count() > 1 {
        let what = "standard input can be one file only: give the others by their names";
        return Err(Failure::Usage(what.into()));
    }
    let messages = messages(&from)?;
    let tools = args.path("tools").as_deref().map(tools).transpose()?;
    // Neither weights nor an architecture that Teff knows are needed.
    let path = common.path()?;
    elsewhere::check_model(path)?;
    let special = match tokenizer::open(path) {
        Ok(tokenizer) => SpecialTokens::open(path, Some(&tokenizer)),
        Err(e) if matches!(e.kind, LoadErrorKind::Tokenizer(_)) => {
            print_error(&format!("warning: bos_token and its like may be undefined: {e}"));
            SpecialTokens::open(path, None)
        }
        Err(e) => return Err(Failure::run(e)),
    };
    let templates = ChatTemplates::open(path);
    let name = args.path("chat-template");
    let template = choose(templates.as_ref(), name.as_deref(), tools.is_some())?;
    let mut conversation = Conversation::new(&messages)
        .with_variables(&variables)
        .with_generation_prompt(!args.has("no-generation-prompt"));
    conversation.tools = tools.as_deref();
    conversation.documents = documents.as_deref();
    let text = template.render(&conversation, &special).map_err(Failure::run)?;
    if tools.as_ref().is_some_and(|all| !all.is_empty()) && !template.source().contains("tools") {
        print_error("warning: the template knows no tools and leaves them out");
    }
    print(&text)
}

/// Variables by name, and the documents.
pub(super) type Variables = (Vec<(String, Json)>, Option<Vec<Json>>);

/// The variables of `--kwargs`.
pub(super) fn variables(args: &Args) -> Result<Variables, Failure> {
    let Some(text) = args.text("kwargs")? else { return Ok((Vec::new(), None)) };
    let name = args.name("kwargs");
    let wrong = |what: &str| Failure::Usage(format!("{name}{what}"));
    let mut variables = match Json::parse(text.as_bytes()) {
        Ok(Json::Object(entries)) => entries,
        Ok(_) => return Err(wrong(" is no JSON object: write {..}")),
        Err(e) => return Err(wrong(&format!(": {e}"))),
    };
    for (key, option) in [
        ("messages", "messages"),
        ("tools", "tools"),
        ("add_generation_prompt", "no-generation-prompt"),
    ] {
        if variables.iter().any(|(n, _)| n == key) {
            return Err(wrong(&match args.knows(option) {
                true => format!(" can't set `{key}`: --{option} does"),
                false => format!(" can't set `{key}` in a conversation: leave it out"),
            }));
        }
    }
    let Some(at) = variables.iter().position(|(n, _)| n == "documents") else {
        return Ok((variables, None));
    };
    match variables.remove(at).1 {
        Json::Null => Ok((variables, None)),
        Json::Array(all) if all.iter().all(|one| matches!(one, Json::Object(_))) => {
            Ok((variables, Some(all)))
        }
        _ => Err(wrong(
            ": `documents` must be an array of objects, such as [{\"title\": \"..\", \"text\": \"..\"}]",
        )),
    }
}

/// The template that `--chat-template` names: a file, or else one of the model's or a built-in one;
/// without it, the model's.
pub(super) fn choose(
    templates: Result<&ChatTemplates, &ChatTemplateError>,
    name: Option<&Path>,
    tools: bool,
) -> Result<ChatTemplate, Failure> {
    let Some(path) = name else {
        return ChatTemplate::of_templates(templates, None, tools).map_err(|e| {
            let own: Vec<&str> = templates.map_or(Vec::new(), |all| all.names().collect());
            match e {
                ModelTemplateError::Missing(ChatTemplateError::Missing) if !own.is_empty() => {
                    Failure::Run(format!(
                        "the model has no default chat template: choose one of its own with \
                         --chat-template: {}",
                        own.join(", ")
                    ))
                }
                e => Failure::Run(format!("{e}: give one with --chat-template")),
            }
        });
    };
    let own = !is_input(path) && (!path.exists() || path.is_dir());
    let name = path.to_str().filter(|_| own);
    if let Some(name) = name {
        if templates.is_ok_and(|all| all.get(name).is_some()) {
            return ChatTemplate::of_templates(templates, Some(name), tools)
                .map_err(|e| Failure::Run(format!("{name}: {e}")));
        }
        if let Some(builtin) = ChatTemplate::builtin(name) {
            return Ok(builtin);
        }
        if name.is_empty() {
            let what = "--chat-template is empty: give a file, or the name of a template";
            return Err(Failure::Usage(what.into()));
        }
        if name.contains("{{") || name.contains("{%") {
            let what = "--chat-template takes a file or a name, and this is a template: write it \
                        into a file, or give it on standard input with --chat-template -";
            return Err(Failure::Usage(what.into()));
        }
        if path.components().count() == 1 && path.extension().is_none() && !path.is_dir() {
            return Err(Failure::Run(unknown(name, templates)));
        }
    }
    let bytes = file(path, MAX_TEMPLATE)?;
    let source = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::Run(format!("{}: byte {at} is not UTF-8: convert the file", shown(path)))
    })?;
    ChatTemplate::new(&source).map_err(|e| Failure::Run(format!("{}: {e}", shown(path))))
}

/// The error for a name that no template has.
fn unknown(name: &str, templates: Result<&ChatTemplates, &ChatTemplateError>) -> String {
    let own: Vec<&str> = templates.map_or(Vec::new(), |all| all.names().collect());
    let builtin: Vec<&str> = ChatTemplate::builtin_names().collect();
    let near = nearest(name, own.iter().chain(&builtin).copied());
    let near = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
    let own = match own.is_empty() {
        true => String::new(),
        false => format!("the model's own are {}; ", own.join(", ")),
    };
    let builtin = builtin.join(", ");
    format!(
        "{name}: there is no file and no template of that name: {near}{own}built in are {builtin}"
    )
}

const MESSAGES: &str = r#"an array of messages, such as [{"role": "user", "content": "Hi!"}]"#;

const TOOLS: &str = r#"an array of tools, such as [{"type": "function", "function": {"name": "f", "parameters": {}}}]"#;

/// The JSON document of a file; `what` it must be, with an example.
fn document(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = file(path, MAX_FILE)?;
    // Some editors begin a file with the mark of UTF-8.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    match bytes.trim_ascii().is_empty() {
        true => Err(Failure::Run(format!("{}: it is empty, and must be {what}", shown(path)))),
        false => Ok(bytes),
    }
}

/// The error for a document that is no array.
fn no_array(path: &Path, value: &Json, key: &str, what: &str) -> Failure {
    let within = match value {
        Json::Object(entries) if entries.iter().any(|(n, _)| n == key) => {
            format!(" (take only what is behind \"{key}\")")
        }
        _ => String::new(),
    };
    Failure::Run(format!("{}: it must be {what}{within}", shown(path)))
}

/// The messages of a file.
fn messages(path: &Path) -> Result<Vec<Message>, Failure> {
    let document = document(path, MESSAGES)?;
    match Message::parse_list(&document) {
        Ok(all) if all.is_empty() => Err(Failure::Run(format!(
            "{}: there is no message in it: it must be {MESSAGES}",
            shown(path)
        ))),
        Ok(all) => Ok(all),
        Err(MessageError::NotAList) => {
            let value = Json::parse(&document).unwrap_or_default();
            Err(no_array(path, &value, "messages", MESSAGES))
        }
        Err(e) => Err(Failure::Run(format!("{}: {e}", shown(path)))),
    }
}

/// The tools of a file.
fn tools(path: &Path) -> Result<Vec<Json>, Failure> {
    let value = Json::parse(&document(path, TOOLS)?)
        .map_err(|e| Failure::Run(format!("{}: {e}", shown(path))))?;
    let Json::Array(all) = value else { return Err(no_array(path, &value, "tools", TOOLS)) };
    match all.iter().position(|tool| !matches!(tool, Json::Object(_))) {
        Some(at) => Err(Failure::Run(format!(
            "{}: tool {at} is not an object: the file must be {TOOLS}",
            shown(path)
        ))),
        None => Ok(all),
    }
}

/// True for the name of standard input.
pub(super) fn is_input(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// The name of a file in errors.
fn shown(path: &Path) -> String {
    match is_input(path) {
        true => "standard input".into(),
        false => path.display().to_string(),
    }
}

/// Contents of a file; `-` is standard input.
fn file(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let name = shown(path);
    let mut bytes = Vec::new();
    let read = match is_input(path) {
        true => io::stdin().lock().take(most + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|f| f.take(most + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|e| {
        let hint = match name.trim_start().starts_with(['[', '{']) {
            true => ": give the name of a file that has it, or - for standard input",
            false => "",
        };
        Failure::Run(format!("{name}: can't be read: {e}{hint}"))
    })?;
    match bytes.len() as u64 > most {
        true => {
            Err(Failure::Run(format!("{name}: it has more than {most} bytes, which is the limit")))
        }
        false => Ok(bytes),
    }
}
