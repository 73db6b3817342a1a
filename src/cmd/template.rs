//! `teff template`: what a chat template makes of messages.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use teff::Model;
use teff::runtime::chat::{ChatTemplate, Conversation, Message, SpecialTokens};
use teff::runtime::template::Json;

use super::args::{Args, CommonArgs};
use super::tokenize::no_tokenizer;
use super::{Command, Failure, print};

pub(crate) const COMMAND: Command =
    Command { name: "template", about: "prints what a chat template makes of messages", help: HELP, run };

const HELP: &str = "\
usage: teff template MODEL --messages FILE [OPTIONS]

Prints the text of a conversation as the model's chat template writes it, byte for byte.

  --messages FILE         conversation, a JSON array of messages such as
                          [{\"role\": \"user\", \"content\": \"Hi!\"}]; - is standard input
  --tools FILE            tools, a JSON array of functions' schemas
  --chat-template FILE    Jinja template, or the name of one of the model's or of a built-in one
                          (default: the model's own)
  --kwargs JSON           other variables, such as '{\"enable_thinking\": false}'
  --no-generation-prompt  don't start the model's answer
";

/// Size limit of a template file in bytes, as for a model's own.
const MAX_TEMPLATE: u64 = 1 << 20;

/// Size limit of other files in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Command-line options.
#[derive(Default)]
struct Options {
    common: CommonArgs,
    messages: Option<PathBuf>,
    tools: Option<PathBuf>,
    template: Option<PathBuf>,
    kwargs: Option<String>,
    no_prompt: bool,
}

fn read(args: &mut Args) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut common = CommonArgs::default();
    common.read(args, &[], |f, args| {
        match f {
            "--messages" => options.messages = Some(args.path()?),
            "--tools" => options.tools = Some(args.path()?),
            "--chat-template" => options.template = Some(args.path()?),
            "--kwargs" => options.kwargs = Some(args.text(f)?),
            "--no-generation-prompt" => options.no_prompt = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    common.path()?;
    options.common = common;
    Ok(options)
}

fn run(args: &mut Args) -> Result<(), Failure> {
    let options = read(args)?;
    let Some(messages) = &options.messages else {
        return Err(Failure::Usage("no messages: give them with --messages FILE".into()));
    };
    let list = Message::parse_list(&file(messages, MAX_FILE)?);
    let list = list.map_err(|e| Failure::Run(format!("{}: {e}", messages.display())))?;
    let tools = options.tools.as_deref().map(array).transpose()?;
    let variables = match &options.kwargs {
        None => Vec::new(),
        Some(text) => match Json::parse(text.as_bytes()) {
            Ok(Json::Object(entries)) => entries,
            Ok(_) => return Err(Failure::Usage("--kwargs is no JSON object".into())),
            Err(e) => return Err(Failure::Usage(format!("--kwargs: {e}"))),
        },
    };
    let model = options.common.open()?;
    let special = SpecialTokens::of(model.tokenizer().map_err(no_tokenizer)?);
    let name = options.template.as_deref();
    let template = choose(&model, name, tools.is_some())?;
    let mut conversation = Conversation::new(&list)
        .with_variables(&variables)
        .with_generation_prompt(!options.no_prompt);
    conversation.tools = tools.as_deref();
    print(&template.render(&conversation, &special).map_err(Failure::run)?)
}

/// The template that `--chat-template` names: a file, or else one of the model's or a built-in one;
/// without it, the model's.
pub(super) fn choose(
    model: &Model,
    name: Option<&Path>,
    tools: bool,
) -> Result<ChatTemplate, Failure> {
    let Some(path) = name else {
        return ChatTemplate::of_model(model, None, tools)
            .map_err(|e| Failure::Run(format!("{e}: give one with --chat-template")));
    };
    let name = path.to_str().filter(|_| !path.exists());
    if let Some(name) = name {
        if model.chat_templates().is_ok_and(|all| all.get(name).is_some()) {
            return ChatTemplate::of_model(model, Some(name), tools).map_err(Failure::run);
        }
        if let Some(builtin) = ChatTemplate::builtin(name) {
            return Ok(builtin);
        }
        if path.components().count() == 1 && path.extension().is_none() {
            let mut names: Vec<&str> = ChatTemplate::builtin_names().collect();
            if let Ok(own) = model.chat_templates() {
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

/// Contents of a file; `-` is standard input.
fn file(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == OsStr::new("-") {
        true => io::stdin().lock().take(most + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|f| f.take(most + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Failure::Run(format!("{name}: can't be read: {e}")))?;
    match bytes.len() as u64 > most {
        true => Err(Failure::Run(format!("{name}: more than {most} bytes"))),
        false => Ok(bytes),
    }
}
