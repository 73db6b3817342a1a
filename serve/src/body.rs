//! Reading bodies of requests, within limits of bytes and of time.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::{App, Shared};
use crate::error::{ApiError, ApiResult};
use crate::json;

/// Extractor of a request's body. Types of contents are not looked at, as programs often send none.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Body);

/// Body of a request: any JSON value, and permits for its memory, which are given back with it.
#[derive(Debug)]
pub(crate) struct Body {
    value: Value,
    permits: Permits,
}

impl Body {
    /// Gives up the value. The permits are for what was made of it.
    pub(crate) fn into_permits(self) -> Permits {
        self.permits
    }
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
pub(crate) struct Permits {
    all: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// Permits for the memory of a request's grammar, which its choices share until they run.
    ///
    /// # Errors
    /// Status 429 if others have taken the memory.
    pub(crate) fn of_grammar(app: &App, bytes: usize) -> ApiResult<Permits> {
        let mut permits = Permits::default();
        permits.take(app, bytes.min(app.options.body_memory / 2))?;
        Ok(permits)
    }

    /// Takes permits for so many bytes altogether.
    ///
    /// # Errors
    /// Status 429 if others have taken the memory, and 413 if it would never be enough.
    fn take(&mut self, app: &App, bytes: usize) -> ApiResult<()> {
        let most = app.options.body_memory;
        if bytes > most {
            let message = format!(
                "the body would take more memory than the {most} bytes that there are for all: send \
                 fewer or shorter values"
            );
            return Err(ApiError::too_large(message));
        }
        let kib = self.all.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = bytes.div_ceil(1 << 10).min((most >> 10).max(1));
        let more = u32::try_from(needed.saturating_sub(kib)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let permit = Arc::clone(&app.bodies).try_acquire_many_owned(more).map_err(|_| {
            let message = "too many large requests at the same time: try again later";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
                .with_code("too_many_requests")
        })?;
        match &mut self.all {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    /// Gives back what is not needed for so many bytes.
    #[must_use]
    pub(crate) fn shrunk(mut self, bytes: usize) -> Permits {
        let kib = bytes.div_ceil(1 << 10);
        if let Some(all) = &mut self.all {
            drop(all.split(all.num_permits().saturating_sub(kib)));
        }
        self
    }
}

/// Bytes of an entry of an object: its hash, its key and its value.
const ENTRY: usize = size_of::<usize>() + size_of::<String>() + size_of::<Value>();

/// Bytes of an entry's places in the table of an object, which may be half empty and the copy of
/// another that was full.
const PLACES: usize = 40;

/// Bytes that the heap adds to a text.
const TEXT: usize = 32;

/// Signs of JSON that stand for values.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    lists: usize,
    objects: usize,
    commas: usize,
    colons: usize,
    texts: usize,
}

impl Signs {
    /// Counts a byte. Returns how many of its kind there are.
    fn add(&mut self, byte: u8) -> usize {
        let count = match byte {
            b'[' => &mut self.lists,
            b'{' => &mut self.objects,
            b',' => &mut self.commas,
            b':' => &mut self.colons,
            b'"' => &mut self.texts,
            _ => return 0,
        };
        *count += 1;
        *count
    }

    /// Upper bound on the memory of the values, and of copies of them in other forms.
    ///
    /// Lists have room for four values at first, and then for twice as many each time. While one is
    /// moved, old and new are there: three places for a value, of which its copies get one later. Small
    /// lists and objects have no such places to give up: they count once more, and objects, of which
    /// there may be copies in two forms, twice more.
    fn memory(self) -> usize {
        const PLACE: usize = 3 * size_of::<Value>();
        const LIST: usize = 2 * (4 * size_of::<Value>() + 16);
        const OBJECT: usize = 3 * (PLACE + 64);
        // Beside the place that its comma stands for.
        const ENTRY_MORE: usize = 3 * (3 * ENTRY - PLACE + PLACES);
        let lists = self.lists * LIST + self.commas * PLACE;
        lists + self.objects * OBJECT + self.colons * ENTRY_MORE + self.texts * TEXT
    }
}

/// Next byte of a text in JSON, with another character for all that is not ASCII or of no interest;
/// `None` at its end.
fn next_of_text(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
    match bytes.next()? {
        b'"' => None,
        b'\\' => match bytes.next()? {
            b'u' => {
                let code = bytes.as_slice().get(..4).and_then(|d| std::str::from_utf8(d).ok());
                let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.nth(3);
                Some(code.unwrap_or(b'x'))
            }
            b'"' => Some(b'"'),
            b'n' | b'r' | b't' => Some(b' '),
            _ => Some(b'x'),
        },
        byte => Some(*byte),
    }
}

/// Upper bound on the memory that reading a request's body takes, in bytes: the body itself and its
/// texts, in buffers that doubled as they grew, and its values. Texts that may be JSON themselves, such
/// as the arguments of calls, count as the values that they may become.
#[must_use]
pub fn body_memory(body: &[u8]) -> usize {
    let (mut signs, mut inner) = (Signs::default(), Signs::default());
    let mut bytes = body.iter();
    while let Some(&byte) = bytes.next() {
        let count = signs.add(byte);
        if byte == b'"' {
            let mut first = None;
            while let Some(byte) = next_of_text(&mut bytes) {
                if first.is_none() && !byte.is_ascii_whitespace() {
                    first = Some(byte);
                }
                if matches!(first, Some(b'{' | b'[')) {
                    inner.add(byte);
                }
            }
        } else if count > json::MAX_VALUES {
            // There is a value for each of them, so that the parser ends here, too.
            break;
        }
    }
    3 * body.len() + signs.memory() + inner.memory()
}

/// Bytes of memory of fields and their values.
pub(crate) fn memory_of_fields(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, value)| ENTRY + PLACES + key.len() + memory_of(value)).sum()
}

/// Bytes of memory of a value, beside its place.
fn memory_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + TEXT,
        Value::Array(all) => all.iter().map(|value| size_of::<Value>() + memory_of(value)).sum(),
        Value::Object(map) => memory_of_fields(map),
        _ => 0,
    }
}

impl FromRequest<Shared> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> ApiResult<JsonBody> {
        let (bytes, mut permits) = read(request, app).await?;
        permits.take(app, body_memory(&bytes))?;
        let value = json::parse(&bytes)?;
        Ok(JsonBody(Body { value, permits }))
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("the body has more than {limit} bytes"))
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
            permits.take(app, 3 * (bytes.len() + data.len()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of a value as the library lays it out, with rooms that doubled, and one room of each list
    /// and object that was left.
    fn most(value: &Value) -> usize {
        let room =
            |n: usize, first: usize| if n == 0 { 0 } else { n.next_power_of_two().max(first) };
        match value {
            Value::String(text) => text.len(),
            Value::Array(all) => {
                let room = room(all.len(), 4);
                let left = if room > 4 { room / 2 } else { 0 };
                let places = (room + left) * size_of::<Value>();
                places + all.iter().map(most).sum::<usize>()
            }
            Value::Object(map) => {
                // Seven of eight places of the table are used, and as many entries have room.
                let table = |n: usize| (n * 8).div_ceil(7).next_power_of_two().max(4);
                let (n, full) = (map.len(), table(map.len()));
                let capacity = |table: usize| if table < 8 { table - 1 } else { table / 8 * 7 };
                let left = if full > 4 { full / 2 } else { 0 };
                let entries = match n {
                    0 => 0,
                    _ => capacity(full) + if left > 0 { capacity(left) } else { 0 },
                };
                let places = if n == 0 { 0 } else { 9 * (full + left) + 32 };
                let keys: usize = map.keys().map(String::len).sum();
                entries * ENTRY + places + keys + map.values().map(most).sum::<usize>()
            }
            _ => 0,
        }
    }

    #[test]
    fn the_memory_of_values_is_bounded() {
        let list = |item: &str, n: usize| format!("[{}]", vec![item; n].join(","));
        let object = |item: &str, n: usize| {
            let all: Vec<_> = (0..n).map(|i| format!("\"{i:x}\":{item}")).collect();
            format!("{{{}}}", all.join(","))
        };
        let mut bodies = vec!["{}".to_owned(), "\"\\\",,,,\"".to_owned()];
        for n in [0, 1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 28, 29, 33, 57, 1025] {
            for item in ["0", "\"\"", "[]", "{}", "[0]", "[0,0,0,0,0]", "{\"\":0}", "[[[[0]]]]"] {
                bodies.extend([list(item, n), object(item, n)]);
            }
        }
        for body in bodies {
            let value = json::parse(body.as_bytes()).unwrap();
            let (bound, needed) = (body_memory(body.as_bytes()), most(&value) + 2 * body.len());
            assert!(needed <= bound, "{needed} {bound} {:.60}", body);
            assert!(memory_of(&value) <= bound);
        }
        // Signs in texts are no values, unless the text may be JSON itself.
        let text = format!("\"{}\"", ",[{:".repeat(1000));
        assert_eq!(body_memory(text.as_bytes()), 3 * text.len() + TEXT);
        let list = |open: &str, item: &str| format!("\"{open}{}]\"", item.repeat(1000));
        for text in [
            list("[", "0,"),
            list(" \\n\\u0020[", "0,"),
            list("\\u005b", "0\\u002c"),
            list("{\\\"a\\\":[", "0\\u002C"),
        ] {
            let more = body_memory(text.as_bytes()) - 3 * text.len();
            assert!(more > 1000 * 3 * size_of::<Value>(), "{more} {text:.40}");
        }
    }
}
