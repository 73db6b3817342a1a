//! `/prefix/save` and `/prefix/load`: prefixes of prompts in files of one folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde_json::json;
use teff_runtime::engine::EngineError;
use tokio::task::spawn_blocking;

use crate::answer::json_response;
use crate::app::{InFlight, Shared};
use crate::body::JsonBody;
use crate::chat::read_job;
use crate::completions::prompts;
use crate::error::{ApiError, ApiResult};
use crate::job::Usage;
use crate::json::Fields;
use crate::prompt::Size;
use crate::sampling::Common;
use crate::tokens::ids;

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/prefix/save", post(save)).route("/prefix/load", post(load))
}

/// Ending of the files.
const ENDING: &str = "prefix";

/// Maximum number of characters of a name.
const MAX_NAME: usize = 100;

/// The file of a name, which must be a plain one: letters, digits, `-`, `_` and dots within.
fn file(folder: Option<&Path>, fields: &Fields<'_>) -> ApiResult<(String, PathBuf)> {
    let Some(folder) = folder else {
        let message = "this server keeps no prefixes: start it with --prefix-dir";
        return Err(ApiError::invalid(message).with_code("no_prefix_dir"));
    };
    let Some(name) = fields.str("name")? else { return Err(fields.error("name", "is required")) };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.chars().all(plain)
    {
        let message = format!(
            "must be 1 to {MAX_NAME} letters, digits, dots, `-` and `_`, and not begin with a dot"
        );
        return Err(fields.error("name", message));
    }
    Ok((name.to_owned(), folder.join(format!("{name}.{ENDING}"))))
}

/// Saves the prefix of a `prompt`, of `tokens` or of `messages`.
async fn save(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let fields = Fields::of_body(&body)?;
    app.options.check_model(&fields)?;
    let (name, path) = file(app.options.prefix_dir.as_deref(), &fields)?;
    let given = ["prompt", "tokens", "messages"].into_iter().filter(|n| fields.get(n).is_some());
    if given.count() != 1 {
        return Err(ApiError::invalid("one of 'prompt', 'tokens' and 'messages' must be there"));
    }
    let mut in_flight = app.begin("prefix")?;
    let tokens = if let Some(tokens) = ids(&fields, "tokens")? {
        tokens
    } else if fields.get("prompt").is_some() {
        let prompt = prompts(&fields, 1)?.remove(0);
        app.prompter
            .run(Size::Texts(prompt.bytes()), move |worker| Ok(prompt.encode(worker.tokenizer)?.0))
            .await?
    } else {
        let mut job = read_job(&fields, &Common::read(&fields, &app.options)?)?;
        // The beginning of conversations, which go on with a message.
        job.add_generation_prompt = fields.bool("add_generation_prompt")?.unwrap_or(false);
        app.encode(job).await?
    };
    let (n, context) = (tokens.len(), app.engine.context());
    if n > context {
        return Err(ApiError::too_long(n, context));
    }
    let (engine, most) = (Arc::clone(&app.engine), app.options.max_prefixes);
    let save = move || has_room(&path, most).then(|| engine.save_prefix(&tokens, &path));
    match spawn_blocking(save).await {
        Ok(Some(saved)) => finished(Ok(saved), &name, &mut in_flight),
        Ok(None) => {
            let message =
                format!("there are {most} prefixes already: save it under one of their names");
            Err(ApiError::field("name", message).with_code("too_many_prefixes"))
        }
        Err(e) => finished(Err(e), &name, &mut in_flight),
    }
}

/// True if there are fewer prefixes than `most` in the folder of a file, or it is one of them.
fn has_room(file: &Path, most: usize) -> bool {
    let folder = file.parent().and_then(|folder| folder.read_dir().ok());
    let is_prefix = |path: &Path| path.extension().is_some_and(|ending| ending == ENDING);
    let others = folder.into_iter().flatten().flatten().filter(|entry| is_prefix(&entry.path()));
    file.exists() || others.count() < most
}

/// Loads a prefix.
async fn load(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let fields = Fields::of_body(&body)?;
    app.options.check_model(&fields)?;
    let (name, path) = file(app.options.prefix_dir.as_deref(), &fields)?;
    let mut in_flight = app.begin("prefix")?;
    let engine = Arc::clone(&app.engine);
    let loaded = spawn_blocking(move || engine.load_prefix(&path));
    let loaded = loaded.await.map(|loaded| loaded.map(|tokens| tokens.len()));
    finished(loaded, &name, &mut in_flight)
}

/// The answer, or the error, without the path of the folder.
fn finished(
    done: Result<Result<usize, EngineError>, tokio::task::JoinError>,
    name: &str,
    in_flight: &mut InFlight,
) -> ApiResult<Response> {
    match done {
        Ok(Ok(tokens)) => {
            in_flight.ended("done", Usage { prompt: tokens, ..Usage::default() });
            Ok(json_response(&json!({ "name": name, "tokens": tokens })))
        }
        Ok(Err(EngineError::Io(e))) if e.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("there is no prefix `{name}`");
            Err(ApiError::new(StatusCode::NOT_FOUND, "not_found_error", message))
        }
        Ok(Err(EngineError::Io(e))) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(ApiError::field("name", format_args!("the prefix `{name}` can't be used: {e}")))
        }
        Ok(Err(EngineError::Io(e))) => {
            Err(ApiError::internal(format!("the prefix `{name}` can't be read or written: {e}")))
        }
        // Loading says here of which other model, plan or version a file is.
        Ok(Err(EngineError::Session(e))) => {
            Err(ApiError::field("name", format_args!("the prefix `{name}` can't be used: {e}")))
        }
        Ok(Err(e)) => Err(e.into()),
        Err(_) => Err(ApiError::internal("the prefix can't be saved or loaded")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_no_parts_of_paths() {
        let of = |name: &str| {
            let body = json!({ "name": name });
            file(Some(Path::new("dir")), &Fields::of_body(&body).unwrap())
        };
        assert_eq!(of("a-b_c.1").unwrap().1, Path::new("dir").join("a-b_c.1.prefix"));
        for bad in
            ["", ".", "..", "../x", "a/b", "a\\b", "/x", ".x", "a b", "ä", "a\0", &"x".repeat(101)]
        {
            assert_eq!(of(bad).unwrap_err().param.as_deref(), Some("name"), "{bad}");
        }
        let body = json!({ "name": "x" });
        let e = file(None, &Fields::of_body(&body).unwrap()).unwrap_err();
        assert_eq!((e.status.as_u16(), e.code), (400, Some("no_prefix_dir")));
    }
}
