//! `/tokenize` and `/detokenize`.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};
use teff_runtime::tokenizer::Specials;

use crate::answer::json_response;
use crate::app::Shared;
use crate::body::JsonBody;
use crate::error::{ApiError, ApiResult};
use crate::json::{Fields, whole};
use crate::prompt::Size;

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/tokenize", post(tokenize)).route("/detokenize", post(detokenize))
}

/// A text to be turned into tokens.
pub(crate) struct Text {
    content: String,
    /// True for the token at the start of texts.
    add: bool,
    specials: Specials,
    /// True for the texts of the tokens.
    pieces: bool,
}

/// Reads a request for tokens.
pub(crate) fn read(fields: &Fields<'_>) -> ApiResult<Text> {
    let content = fields.str("content")?;
    // Names of others for it: no tokens at all would be worse than an error.
    for (name, advice) in [
        ("prompt", "send the text as `content`"),
        ("messages", "send the text as `content`, which /apply-template makes of messages"),
    ] {
        if content.is_none() && fields.get(name).is_some() {
            return Err(fields.error(name, format_args!("is not supported: {advice}")));
        }
    }
    let content = content.unwrap_or_default().to_owned();
    let add = fields.bool("add_special")?.unwrap_or(false);
    let specials = match fields.bool("parse_special")?.unwrap_or(true) {
        true => Specials::Parse,
        false => Specials::Ignore,
    };
    let pieces = fields.bool("with_pieces")?.unwrap_or(false);
    Ok(Text { content, add, specials, pieces })
}

/// Tokens of `content`, with the one at the start of texts if `add_special` is true; names of control
/// tokens stand for these unless `parse_special` is false. With `with_pieces`, also their texts, or
/// their bytes where these are no text.
async fn tokenize(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let fields = Fields::of_body(&body)?;
    app.options.check_model(&fields)?;
    let Text { content, add, specials, pieces } = read(&fields)?;
    let tokens = app.prompter.run(Size::Texts(content.len()), move |worker| {
        let tokenizer = worker.tokenizer;
        let mut ids = Vec::new();
        ids.extend(tokenizer.bos().filter(|_| add && tokenizer.add_bos()));
        let text = tokenizer.encode(&content, specials);
        ids.extend(text.map_err(|e| ApiError::field("content", e))?);
        ids.extend(tokenizer.eos().filter(|_| add && tokenizer.add_eos()));
        let piece = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let piece = match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!(bytes),
            };
            json!({ "id": id, "piece": piece })
        };
        Ok(match pieces {
            true => ids.into_iter().map(piece).collect::<Vec<Value>>(),
            false => ids.into_iter().map(Value::from).collect(),
        })
    });
    Ok(json_response(&json!({ "tokens": tokens.await? })))
}

/// Text of `tokens`.
async fn detokenize(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let fields = Fields::of_body(&body)?;
    app.options.check_model(&fields)?;
    let ids = ids(&fields, "tokens")?.unwrap_or_default();
    let text = app.prompter.run(Size::Texts(size_of_val(&ids[..])), move |worker| {
        let text = worker.tokenizer.decode(&ids);
        text.map_err(|e| ApiError::field("tokens", e))
    });
    Ok(json_response(&json!({ "content": text.await? })))
}

/// A list of token ids.
pub(crate) fn ids(fields: &Fields<'_>, name: &str) -> ApiResult<Option<Vec<u32>>> {
    let Some(all) = fields.array(name)? else { return Ok(None) };
    let id = |value: &Value| match value {
        Value::Number(n) => whole(n).and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    let ids: Option<Vec<u32>> = all.iter().map(id).collect();
    ids.map(Some).ok_or_else(|| fields.error(name, "must be an array of token ids"))
}
