//! Reading requests without a model to answer them.

use crate::error::{ApiError, ApiResult};
use crate::json::{self, Fields};
use crate::options::ServeOptions;
use crate::{chat, completions, messages, responses, tokens};

/// Reads the body of a request for a path as the server does, up to what needs the model: its tokens,
/// its template and its context.
///
/// ```
/// use teff_serve::{ServeOptions, check_request};
///
/// let options = ServeOptions::default();
/// let body = br#"{"messages": [{"role": "user", "content": "x"}], "top_p": 2}"#;
/// let error = check_request("/v1/chat/completions", body, &options).unwrap_err();
/// assert_eq!(error.param.as_deref(), Some("top_p"));
/// ```
///
/// # Errors
/// The error of the answer that the request would get; [`ApiError`] with status 404 for a path that
/// takes no body.
pub fn check_request(path: &str, body: &[u8], options: &ServeOptions) -> ApiResult<()> {
    let value = json::parse(body);
    match path.strip_prefix("/v1").unwrap_or(path) {
        "/chat/completions" | "/chat/completions/input_tokens" | "/apply-template" => {
            chat::read(&value?, options).map(drop)
        }
        "/completions" => completions::read(&value?, options).map(drop),
        "/responses" => responses::check(&value?, options),
        "/messages" => messages::check(&value?, options, true),
        "/messages/count_tokens" => messages::check(&value?, options, false),
        "/tokenize" => tokens::read(&Fields::of_body(&value?)?).map(drop),
        "/detokenize" => tokens::ids(&Fields::of_body(&value?)?, "tokens").map(drop),
        _ => Err(ApiError::no_path(path)),
    }
}
