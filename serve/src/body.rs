//! Reading bodies of requests, within limits of bytes and of time.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::{App, Shared};
use crate::error::{ApiError, ApiResult};
use crate::json;

/// Bytes that a JSON value takes in memory, beside its texts.
const VALUE: usize = size_of::<Value>() + 16;

/// Extractor of a request's body. Types of contents are not looked at, as programs often send none.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Body);

/// Body of a request: any JSON value, and permits for its memory, which are given back with it.
#[derive(Debug)]
pub(crate) struct Body {
    value: Value,
    _permits: Permits,
}

impl Deref for Body {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// Permits for memory, of which there is so much for all bodies together
/// ([`ServeOptions::body_memory`](crate::ServeOptions)).
#[derive(Debug, Default)]
struct Permits {
    all: Vec<OwnedSemaphorePermit>,
    kib: usize,
}

impl Permits {
    /// Takes permits for so many bytes altogether.
    ///
    /// # Errors
    /// Status 429 if others have taken the memory.
    fn take(&mut self, app: &App, bytes: usize) -> ApiResult<()> {
        let needed = bytes.div_ceil(1 << 10);
        let more = u32::try_from(needed.saturating_sub(self.kib)).unwrap_or(u32::MAX);
        if more > 0 {
            let permit = Arc::clone(&app.bodies).try_acquire_many_owned(more);
            self.all.push(permit.map_err(|_| {
                let message = "too many large requests at the same time: try again later";
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                    .with_code("too_many_requests")
            })?);
            self.kib = needed;
        }
        Ok(())
    }
}

impl FromRequest<Shared> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> ApiResult<JsonBody> {
        let (bytes, mut permits) = read(request, app).await?;
        // Before they are there: each has a comma or a bracket in front, or a colon.
        let values = bytes.iter().filter(|b| b",:[{".contains(b)).count() + 1;
        permits.take(app, bytes.len() + VALUE * values.min(json::MAX_VALUES))?;
        let value = json::parse(&bytes)?;
        Ok(JsonBody(Body { value, _permits: permits }))
    }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body has more than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
        .with_code("body_too_large")
}

/// Checks what the headers say of the body.
fn check(headers: &HeaderMap, limit: usize) -> ApiResult<()> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let message = "compressed bodies are not supported: send it without Content-Encoding";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "invalid_request_error", message));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok());
    match length.and_then(|n| n.parse::<u64>().ok()) {
        Some(n) if n > limit as u64 => Err(too_large(limit)),
        _ => Ok(()),
    }
}

/// The bytes of a body, and permits for their memory.
async fn read(request: Request, app: &App) -> ApiResult<(Vec<u8>, Permits)> {
    let limit = app.options.body_limit;
    check(request.headers(), limit)?;
    let mut body = request.into_body();
    let (mut bytes, mut permits) = (Vec::new(), Permits::default());
    let all = async {
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| ApiError::invalid(format!("the body ended early: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > limit - bytes.len() {
                return Err(too_large(limit));
            }
            permits.take(app, bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    match timeout(app.options.body_timeout, all).await {
        Ok(done) => done.map(|()| (bytes, permits)),
        Err(_) => {
            let seconds = app.options.body_timeout.as_secs_f64();
            let message = format!("the body didn't arrive within {seconds} s");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message))
        }
    }
}
