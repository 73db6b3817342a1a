//! Arbitrary bytes as the body of a request to the server, behind a byte that says to which path: read within the
//! memory that is set aside for it, or refused by an error of the request.

use super::super::Counting;
use teff_serve::{ServeOptions, body_memory, check_request};

/// Memory beside that of the body: defaults, errors, and the tables of objects that hash.
const MORE: usize = 1 << 14;

const PATHS: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
    "/nothing",
];

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((&which, body)) = data.split_first() else { return };
    let path = PATHS[usize::from(which) % PATHS.len()];
    let mut options = ServeOptions::default();
    options.check_model = which >= 128;
    let (read, peak) = Counting::peak_of(|| check_request(path, body, &options));
    let allowed = body_memory(body) + MORE;
    assert!(peak <= allowed, "{peak} bytes for {allowed}");
    let Err(error) = read else { return };
    assert!(error.status.is_client_error(), "{error}");
    let shown = error.to_json();
    let message = shown["error"]["message"].as_str().expect("a text");
    assert!(!message.is_empty() && message.len() < 1000, "{message}");
}
