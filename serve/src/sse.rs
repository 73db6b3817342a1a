//! Streams of events (server-sent events), with comments where there is nothing to say.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep};

use crate::app::{InFlight, Shared};
use crate::error::ApiError;
use crate::job::{Answer, Delta};

/// Bytes of events after which they are sent, even if more are ready.
const ENOUGH: usize = 32 << 10;

/// Form in which an interface presents an answer as events.
pub(crate) trait Present: Send + Unpin + 'static {
    /// Appends the events before any part of the answer.
    fn begin(&mut self, _out: &mut String) {}

    /// Appends the events of a part of the answer. [`Delta::Failed`] doesn't come here.
    fn delta(&mut self, delta: Delta, answer: &Answer, out: &mut String);

    /// Appends the events behind all parts.
    fn end(&mut self, answer: &Answer, out: &mut String);

    /// Appends the event of an error, after which the stream ends.
    fn error(&mut self, error: &ApiError, out: &mut String) {
        event(out, None, &error.to_json());
    }
}

/// Appends an event.
pub(crate) fn event(out: &mut String, name: Option<&str>, data: &Value) {
    if let Some(name) = name {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    out.push_str("data: ");
    // JSON on one line has no line breaks.
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

/// The response with an answer's events as they come.
pub(crate) fn respond(
    app: &Shared,
    answer: Answer,
    in_flight: InFlight,
    present: impl Present,
) -> Response {
    let events = Events {
        answer: Some(answer),
        present,
        begun: false,
        quiet: Box::pin(sleep(app.options.keep_alive)),
        cancelled: Box::pin(app.cancelled()),
        app: Shared::clone(app),
        in_flight,
    };
    let mut response = Response::new(Body::new(events));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Body of such a response.
struct Events<P> {
    /// Answer in progress; `None` at the end.
    answer: Option<Answer>,
    present: P,
    begun: bool,
    quiet: Pin<Box<Sleep>>,
    cancelled: Pin<Box<dyn Future<Output = ()> + Send>>,
    app: Shared,
    in_flight: InFlight,
}

impl<P: Present> Events<P> {
    /// Next events; an empty text at the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let mut out = String::new();
        let Some(answer) = &mut self.answer else { return Poll::Ready(out) };
        if !std::mem::replace(&mut self.begun, true) {
            self.present.begin(&mut out);
        }
        while out.len() < ENOUGH {
            match answer.poll_next(cx) {
                Poll::Ready(Some(Delta::Failed { error, .. })) => {
                    self.present.error(&error, &mut out);
                    self.in_flight.ended("failed", answer.usage());
                    self.answer = None;
                    return Poll::Ready(out);
                }
                Poll::Ready(Some(delta)) => self.present.delta(delta, answer, &mut out),
                Poll::Ready(None) => {
                    self.present.end(answer, &mut out);
                    self.in_flight.ended("completed", answer.usage());
                    self.answer = None;
                    return Poll::Ready(out);
                }
                Poll::Pending => break,
            }
        }
        if self.cancelled.as_mut().poll(cx).is_ready() {
            self.present.error(&ApiError::ending(), &mut out);
            self.in_flight.ended("cancelled", answer.usage());
            self.answer = None;
            return Poll::Ready(out);
        }
        if out.is_empty() {
            ready!(self.quiet.as_mut().poll(cx));
            out.push_str(": keep-alive\n\n");
        }
        // The next call registers the waker.
        self.quiet.as_mut().reset(Instant::now() + self.app.options.keep_alive);
        Poll::Ready(out)
    }
}

impl<P: Present> HttpBody for Events<P> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let out = ready!(self.poll(cx));
        Poll::Ready(if out.is_empty() { None } else { Some(Ok(Frame::data(out.into()))) })
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_none()
    }
}
