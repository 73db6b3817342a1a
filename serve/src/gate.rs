//! What every request passes: keys, origins, and counting.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

use crate::app::Shared;
use crate::error::ApiError;
use crate::messages;
use crate::options::ServeOptions;

/// Maximum number of bytes of a key.
pub(crate) const MAX_KEY: usize = 256;

/// Paths for which no key is needed.
const PUBLIC: [&str; 3] = ["/", "/health", "/v1/health"];

/// Counts and logs a request, and lets it pass if its key and its origin allow it.
pub(crate) async fn gate(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| is_allowed(origin, &app.options));
    let mut response = match check(&request, &app.options, allowed.is_some()) {
        Ok(None) => next.run(request).await,
        Ok(Some(response)) => response,
        Err(e) => refuse(e, &route),
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    if !app.options.cors_origins.is_empty() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    }
    let status = response.status().as_u16();
    app.metrics.count_request(&route, status);
    let ms = start.elapsed().as_millis() as u64;
    tracing::info!(%method, route, status, ms, "request");
    response
}

fn refuse(e: ApiError, route: &str) -> Response {
    let unauthorized = e.status == StatusCode::UNAUTHORIZED;
    let mut response = match route.starts_with(messages::PATH) {
        true => messages::refuse(&e),
        false => e.into_response(),
    };
    if unauthorized {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

/// True if pages of this origin may read answers.
fn is_allowed(origin: &HeaderValue, options: &ServeOptions) -> bool {
    let same = |allowed: &String| allowed == "*" || origin.as_bytes() == allowed.as_bytes();
    options.cors_origins.iter().any(same)
}

/// True if the origin is the server's own, as the request names it.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
}

/// `None` to let a request pass, or the answer to a question of a browser.
fn check(
    request: &Request,
    options: &ServeOptions,
    allowed: bool,
) -> Result<Option<Response>, ApiError> {
    let headers = request.headers();
    if request.method() == Method::OPTIONS {
        return Ok(Some(preflight(headers, allowed)));
    }
    // Browsers send such requests for pages of others without asking, and only keep the answer back.
    if let Some(origin) = headers.get(header::ORIGIN)
        && request.method() == Method::POST
        && !allowed
        && !is_own(origin, headers)
    {
        let message = "pages of this origin may not use the server (--cors-origins)";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "permission_error", message));
    }
    if options.api_keys.is_empty() || PUBLIC.contains(&request.uri().path()) {
        return Ok(None);
    }
    let message = match given_key(headers) {
        Some(key) if is_known(key, &options.api_keys) => return Ok(None),
        Some(_) => "Invalid API Key",
        None => "this server wants an API key, as `Authorization: Bearer KEY` or `X-Api-Key: KEY`",
    };
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message))
}

/// Answer to the question of what may be sent.
fn preflight(headers: &HeaderMap, allowed: bool) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let out = response.headers_mut();
    out.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
    if allowed {
        let methods = HeaderValue::from_static("GET, POST, OPTIONS");
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let wanted = wanted.unwrap_or(HeaderValue::from_static("authorization, content-type"));
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

/// The key of a request: of `Authorization: Bearer KEY` or of `X-Api-Key: KEY`.
fn given_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(header::AUTHORIZATION)
        && let Some((scheme, key)) = value.as_bytes().split_at_checked("Bearer ".len())
        && scheme.eq_ignore_ascii_case(b"Bearer ")
    {
        return Some(key.trim_ascii());
    }
    headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii())
}

/// True if a key is one of the server's. The time that this takes tells nothing of them.
fn is_known(key: &[u8], all: &[String]) -> bool {
    let padded = |key: &[u8]| {
        let mut out = [0u8; MAX_KEY];
        let n = key.len().min(MAX_KEY);
        out[..n].copy_from_slice(&key[..n]);
        (out, key.len() as u64)
    };
    let (given, length) = padded(key);
    let mut found = Choice::from(0);
    for known in all {
        let (known, known_length) = padded(known.as_bytes());
        found |= known.ct_eq(&given) & known_length.ct_eq(&length);
    }
    // An empty key opens nothing.
    bool::from(found) && !key.is_empty() && key.len() <= MAX_KEY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let keys = ["secret".to_owned(), "k".repeat(MAX_KEY)];
        for (key, known) in [
            ("secret", true),
            (&"k".repeat(MAX_KEY), true),
            (&"k".repeat(MAX_KEY + 1), false),
            ("secre", false),
            ("secret\0", false),
            ("Secret", false),
            ("", false),
        ] {
            assert_eq!(is_known(key.as_bytes(), &keys), known, "{key}");
        }
        assert!(!is_known(b"", &[String::new()]));
    }

    #[test]
    fn keys_come_in_two_headers() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            given_key(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(of("authorization", "Bearer abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(of("authorization", "bearer  abc ").as_deref(), Some(&b"abc"[..]));
        assert_eq!(of("x-api-key", "abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(of("authorization", "Basic abc"), None);
        assert_eq!(of("authorization", "Bear"), None);
    }

    #[test]
    fn origins() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
        let own = |origin| is_own(&HeaderValue::from_static(origin), &headers);
        assert!(own("http://127.0.0.1:8080") && own("https://127.0.0.1:8080"));
        assert!(!own("http://evil.example") && !own("null") && !own("http://127.0.0.1"));
        let options = ServeOptions::default();
        assert!(!is_allowed(&HeaderValue::from_static("https://a.example"), &options));
        let cors_origins = vec!["https://a.example".to_owned()];
        let options = ServeOptions { cors_origins, ..options };
        assert!(is_allowed(&HeaderValue::from_static("https://a.example"), &options));
        assert!(!is_allowed(&HeaderValue::from_static("https://b.example"), &options));
    }
}
