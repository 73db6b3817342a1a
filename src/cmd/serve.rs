//! `teff serve`: answers requests over HTTP.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::ValueParser;
use teff::Model;
use teff::runtime::engine::EngineOptions;
use teff_serve::{DEFAULT_BODY_LIMIT, DEFAULT_CONNECTIONS, ServeError, ServeOptions, Server};
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;

use super::args::{Args, HELP_WIDTH, file_option, option, switch, wrapped};
use super::common::{CommonArgs, generate, model_argument, model_options, sampling_options};
use super::machine::{Progress, human};
use super::template::{choose, is_input, template_option};
use super::{Command, Failure, engine_args, prompt};

/// Default port.
const PORT: u16 = 8080;

pub(crate) const COMMAND: Command = Command {
    name: "serve",
    about: "answers requests over HTTP, in OpenAI's form",
    usage: &["serve MODEL [--port N] [OPTIONS]"],
    details: "\
Answers requests over HTTP: OpenAI's /v1/chat/completions, /v1/completions, /v1/responses and \
/v1/models, Anthropic's /v1/messages, and /tokenize, /detokenize, /apply-template, /props, /metrics \
and /health; a page to try it is at /. Clients of OpenAI's make take http://127.0.0.1:8080/v1 as \
their base URL, and any API key unless there is one. Requests are computed together, and the text of \
each is the one that it has alone. All memory is taken at the start.

It listens on 127.0.0.1:8080 unless --host and --port say otherwise, and prints the address. Other \
machines may connect only with a key (--api-key, --api-key-file). SIGTERM or Ctrl-C ends it: answers \
in progress have the time of --grace to end.",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Server")
        .arg(option("host", "ADDRESS", "address to listen on (default 127.0.0.1)"))
        .arg(option("port", "N", "port to listen on, 0 for any that is free (default 8080)"))
        .arg(
            option("api-key", "KEY", "key that requests must bring; may be given several times")
                .action(ArgAction::Append)
                .value_parser(ValueParser::os_string()),
        )
        .arg(
            file_option("api-key-file", "FILE", "a file with keys, one a line"),
        )
        .arg(switch("insecure", "let other machines connect without a key"))
        .arg(
            option(
                "cors-origins",
                "LIST",
                "origins of pages that may use the server, with commas between; * for all (default: \
                 none but its own)",
            )
            .value_parser(ValueParser::os_string()),
        )
        .arg(
            option("alias", "NAME", "name of the model in answers (default: that of its file)")
                .short('a'),
        )
        .arg(switch(
            "check-model",
            "refuse requests for a model of another name (default: the name is not looked at)",
        ))
        .arg(template_option())
        .arg(
            option(
                "prefix-dir",
                "DIR",
                "folder in which /prefix/save and /prefix/load keep prefixes of prompts",
            )
            .value_hint(clap::ValueHint::DirPath),
        )
        .next_help_heading("Limits")
        .arg(option(
            "connections",
            "N",
            &format!("maximum number of connections (default {DEFAULT_CONNECTIONS})"),
        ))
        .arg(option(
            "max-body",
            "SIZE",
            &format!(
                "maximum size of a request's body (default {})",
                human(DEFAULT_BODY_LIMIT as u64)
            ),
        ))
        .arg(option(
            "timeout",
            "SECONDS",
            "time after which an answer ends, its waiting included (default: none)",
        ))
        .arg(option(
            "grace",
            "SECONDS",
            "time for answers in progress when the server ends (default 30)",
        ));
    let command = engine_args::engine_options(command);
    let command = model_options(command, &["threads", "ctx", "backend", "kv", "weights"]);
    // vLLM's names.
    let command = command
        .mut_arg("ctx", |arg| arg.alias("max-model-len"))
        .mut_arg("parallel", |arg| arg.alias("max-num-seqs"))
        .mut_arg("batch", |arg| arg.alias("max-num-batched-tokens"))
        .mut_arg("alias", |arg| arg.alias("served-model-name"));
    sampling_options(command)
        .mut_arg("seed", |arg| {
            let help = "seed of requests that have none (default: a random one for each, which its \
                        answer names)";
            arg.help(wrapped(help, HELP_WIDTH))
        })
        .arg(
            option(
                "predict",
                "N",
                "maximum number of tokens of an answer, -1 for what the context has room for (the \
                 default); requests may say otherwise, as for all options of sampling",
            )
            .short('n')
            .visible_alias("n-predict")
            .alias("max-tokens"),
        )
        .next_help_heading("Log")
        .arg(option("log", "LEVEL", "off, error, warn (the default), info or debug"))
        .arg(switch("log-prompts", "write prompts to the log too, at the level info"))
}

/// Command-line options.
struct Options {
    address: SocketAddr,
    serve: ServeOptions,
    level: LevelFilter,
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "serve")?;
    let path = common.path()?.to_owned();
    let mut options = read(args, &path)?;
    tracing_subscriber::fmt()
        .with_max_level(options.level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let model = Arc::new(common.open()?);
    let engine_options = engine_args::read(args, &common, &model)?;
    let draft = common.open_draft()?.map(Arc::new);
    if let Some(name) = args.path("chat-template") {
        if is_input(&name) {
            let what = "give the chat template in a file, or by its name";
            return Err(Failure::Usage(what.into()));
        }
        let template = choose(model.chat_templates(), Some(&name), false)?;
        options.serve = options.serve.with_chat_template(template.source());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The engine's threads compute: these only pass texts on.
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("teff-http")
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("threads can't be started: {e}")))?;
    runtime.block_on(serve((model, draft), engine_options, options))
}

/// Listens, says where, and serves until a signal comes.
async fn serve(
    (model, draft): (Arc<Model>, Option<Arc<Model>>),
    engine_options: EngineOptions,
    options: Options,
) -> Result<(), Failure> {
    // Before the memory is taken: the address may be in use.
    let listener = TcpListener::bind(options.address).await;
    let listener = listener.map_err(|e| {
        Failure::Run(format!("{} can't be listened on: {e} (--host, --port)", options.address))
    })?;
    let address = listener.local_addr().map_err(Failure::run)?;
    let engine = {
        let _progress = Progress::show("preparing the engine");
        let builder = engine_args::builder(&model, draft.as_ref(), engine_options);
        builder.map_err(engine_args::failure)?.build().map_err(engine_args::failure)?
    };
    let memory = *engine.memory_requirements();
    tracing::info!(
        context = memory.context,
        pages = memory.pages,
        bytes = memory.total(),
        threads = memory.threads,
        "engine"
    );
    let server = Server::new(options.serve, model, engine).map_err(Failure::run)?;
    // Before anybody knows that it is there.
    let shutdown = shutdown().map_err(Failure::run)?;
    // A program that starts the server may have closed this.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
    drop(out);
    server.serve(listener, shutdown).await.map_err(Failure::run)
}

/// Waits for a signal to end.
#[cfg(unix)]
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the server ends as any program does.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

fn read(args: &Args, path: &Path) -> Result<Options, Failure> {
    let generate = generate(args, None)?;
    let mut serve = ServeOptions::default();
    serve.sampling = generate.sampling;
    serve.max_tokens = generate.max_tokens;
    serve.seed = args.has("seed").then_some(generate.sampling.seed);
    serve.model_id = match args.text("alias")? {
        Some(name) => name,
        None => model_name(path),
    };
    serve.check_model = args.has("check-model");
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
    serve.model_names = file.into_iter().chain([model_name(path)]).collect();
    serve.api_keys = keys(args)?;
    if let Some(list) = args.text("cors-origins")? {
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        serve.cors_origins = origins.map(|origin| origin.trim_end_matches('/').into()).collect();
    }
    serve.prefix_dir = args.path("prefix-dir").map(folder).transpose()?;
    serve.connections = args.count("connections", 1..=1 << 20)?.unwrap_or(serve.connections);
    serve.requests = serve.connections;
    serve.body_limit = engine_args::size(args, "max-body")?.unwrap_or(serve.body_limit);
    // One body of that size has room in any case.
    serve.body_memory = serve.body_memory.max(serve.body_limit.saturating_mul(4));
    serve.deadline = seconds(args, "timeout")?;
    serve.grace = seconds(args, "grace")?.unwrap_or(serve.grace);
    serve.log_prompts = args.has("log-prompts");
    serve.validate().map_err(refused)?;
    let host = match args.text("host")? {
        Some(host) => address(args, &host)?,
        None => IpAddr::from([127, 0, 0, 1]),
    };
    let port = args.value("port", "a whole number from 0 to 65535")?.unwrap_or(PORT);
    if !host.is_loopback() && serve.api_keys.is_empty() && !args.has("insecure") {
        return Err(Failure::Usage(format!(
            "other machines could connect to {host} without a key: give --api-key or \
             --api-key-file, or --insecure if that is wanted"
        )));
    }
    let level = match args.text("log")?.as_deref() {
        None if serve.log_prompts => LevelFilter::INFO,
        None | Some("warn") => LevelFilter::WARN,
        Some("off") => LevelFilter::OFF,
        Some("error") => LevelFilter::ERROR,
        Some("info") => LevelFilter::INFO,
        Some("debug") => LevelFilter::DEBUG,
        Some(other) => {
            return Err(args.refused("log", other, "off, error, warn, info or debug"));
        }
    };
    Ok(Options { address: SocketAddr::new(host, port), serve, level })
}

/// The failure for options of the server, by their names on the command line.
fn refused(e: ServeError) -> Failure {
    let ServeError::Option { name, allowed } = &e else { return Failure::Usage(e.to_string()) };
    let option = match *name {
        "api_keys" => "the keys of --api-key and --api-key-file",
        "model_id" => "--alias",
        "body_limit" => "--max-body",
        _ => return Failure::Usage(e.to_string()),
    };
    Failure::Usage(format!("{option} must be {allowed}"))
}

/// The address of a host, which must be one of this machine.
fn address(args: &Args, host: &str) -> Result<IpAddr, Failure> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        _ => bare.parse().map_err(|_| {
            args.refused("host", host, "an address, such as 127.0.0.1, 0.0.0.0 or ::1")
        }),
    }
}

/// The name of the model's file or folder, without the ending.
fn model_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.into());
    let gguf = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let name = if gguf { path.file_stem() } else { path.file_name() };
    name.map_or("model".into(), |name| name.to_string_lossy().into_owned())
}

/// The keys of the command line and of the file.
fn keys(args: &Args) -> Result<Vec<String>, Failure> {
    let mut keys = args.texts("api-key")?;
    if let Some(path) = args.path("api-key-file") {
        let before = keys.len();
        let text = prompt::of_file(&path)?;
        keys.extend(text.lines().map(str::trim).filter(|key| !key.is_empty()).map(String::from));
        if keys.len() == before {
            return Err(Failure::Run(format!("{}: there is no key in it", path.display())));
        }
    }
    Ok(keys)
}

/// A folder that is there.
fn folder(path: PathBuf) -> Result<PathBuf, Failure> {
    match path.is_dir() {
        true => Ok(path),
        false => Err(Failure::Run(format!("{}: there is no such folder", path.display()))),
    }
}

fn seconds(args: &Args, id: &str) -> Result<Option<Duration>, Failure> {
    const ALLOWED: &str = "a number of seconds from 0 up";
    let Some(seconds) = args.value::<f64>(id, ALLOWED)? else { return Ok(None) };
    let time = Duration::try_from_secs_f64(seconds);
    time.map(Some).map_err(|_| args.refused(id, &seconds.to_string(), ALLOWED))
}
