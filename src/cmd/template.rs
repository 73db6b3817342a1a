//! `teff template`: what a chat template makes of messages.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use teff::runtime::chat::{ChatTemplate, Conversation, Message, SpecialTokens};
use teff::runtime::model::{ChatTemplateError, ChatTemplates, LoadErrorKind};
use teff::runtime::template::Json;
use teff::runtime::tokenizer;

use super::args::{Args, option, switch};
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
            option(
                "messages",
                "FILE",
                "the messages, a JSON array such as [{\"role\": \"user\", \"content\": \"Hi!\"}]; - for \
                 standard input",
            )
            .value_hint(clap::ValueHint::FilePath),
        )
        .arg(
            option(
                "tools",
                "FILE",
                "tools that the model may call, a JSON array of functions' schemas; - for standard \
                 input",
            )
            .value_hint(clap::ValueHint::FilePath),
        )
        .arg(template_option())
        .arg(
            option(
                "kwargs",
                "JSON",
                "other variables for the template, an object such as {\"enable_thinking\": false}",
            )
            .visible_alias("chat-template-kwargs"),
        )
        .arg(switch("no-generation-prompt", "don't begin the model's answer at the end"));
    model_options(command, &[])
}

/// The option that chooses a template.
pub(super) fn template_option() -> clap::Arg {
    option(
        "chat-template",
        "FILE",
        "Jinja template for the conversation, or the name of one of the model's or of a built-in \
         one, such as chatml (default: the model's own)",
    )
    .visible_alias("chat-template-file")
    .value_hint(clap::ValueHint::FilePath)
}

/// Size limit of a template file in bytes, as for a model's own.
const MAX_TEMPLATE: u64 = 1 << 20;

/// Size limit of other files in bytes.
const MAX_FILE: u64 = 64 << 20;

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "template")?;
    common.path()?;
    let Some(messages) = args.path("messages") else {
        return Err(Failure::Usage("no messages: give them with --messages FILE".into()));
    };
    let variables = match args.text("kwargs")? {
        None => Vec::new(),
        Some(text) => match Json::parse(text.as_bytes()) {
            Ok(Json::Object(entries)) => entries,
            Ok(_) => {
                let name = args.name("kwargs");
                return Err(Failure::Usage(format!("{name} is no JSON object: write {{..}}")));
            }
            Err(e) => return Err(Failure::Usage(format!("{}: {e}", args.name("kwargs")))),
        },
    };
    let inputs = [Some(messages.clone()), args.path("tools"), args.path("chat-template")];
    if inputs.iter().flatten().filter(|path| is_input(path)).count() > 1 {
        let what = "standard input can be one file only: give the others by their names";
        return Err(Failure::Usage(what.into()));
    }
    let list = Message::parse_list(&file(&messages, MAX_FILE)?);
    let list = list.map_err(|e| Failure::Run(format!("{}: {e}", messages.display())))?;
    let tools = args.path("tools").as_deref().map(array).transpose()?;
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
    let mut conversation = Conversation::new(&list)
        .with_variables(&variables)
        .with_generation_prompt(!args.has("no-generation-prompt"));
    conversation.tools = tools.as_deref();
    print(&template.render(&conversation, &special).map_err(Failure::run)?)
}

/// The template that `--chat-template` names: a file, or else one of the model's or a built-in one;
/// without it, the model's.
pub(super) fn choose(
    templates: Result<&ChatTemplates, &ChatTemplateError>,
    name: Option<&Path>,
    tools: bool,
) -> Result<ChatTemplate, Failure> {
    let Some(path) = name else {
        return ChatTemplate::of_templates(templates, None, tools)
            .map_err(|e| Failure::Run(format!("{e}: give one with --chat-template")));
    };
    let own = !is_input(path) && (!path.exists() || path.is_dir());
    let name = path.to_str().filter(|_| own);
    if let Some(name) = name {
        if templates.is_ok_and(|all| all.get(name).is_some()) {
            return ChatTemplate::of_templates(templates, Some(name), tools).map_err(Failure::run);
        }
        if let Some(builtin) = ChatTemplate::builtin(name) {
            return Ok(builtin);
        }
        if path.components().count() == 1 && path.extension().is_none() {
            let mut names: Vec<&str> = ChatTemplate::builtin_names().collect();
            if let Ok(own) = templates {
                names.extend(own.names());
            }
            return Err(Failure::Run(format!(
                "{name}: there is no file and no template of that name; there are: {}",
                names.join(", ")
            )));
        }
    }
    let bytes = file(path, MAX_TEMPLATE)?;
    let source = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::Run(format!("{}: byte {at} is not UTF-8: convert the file", path.display()))
    })?;
    ChatTemplate::new(&source).map_err(Failure::run)
}

/// Contents of a JSON file that has an array.
fn array(path: &Path) -> Result<Vec<Json>, Failure> {
    match Json::parse(&file(path, MAX_FILE)?) {
        Ok(Json::Array(items)) => Ok(items),
        Ok(_) => Err(Failure::Run(format!("{}: it must be a JSON array", path.display()))),
        Err(e) => Err(Failure::Run(format!("{}: {e}", path.display()))),
    }
}

/// True for the name of standard input.
fn is_input(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// Contents of a file; `-` is standard input.
fn file(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = match is_input(path) {
        true => io::stdin().lock().take(most + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|f| f.take(most + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Failure::Run(format!("{name}: can't be read: {e}")))?;
    match bytes.len() as u64 > most {
        true => Err(Failure::Run(format!("{name}: more than {most} bytes"))),
        false => Ok(bytes),
    }
}
