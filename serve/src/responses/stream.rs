//! A response as a stream of events.
//!
//! Each event has its number, and those of an item the index of the item, of a part the index of the part.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use teff_runtime::Model;
use teff_runtime::sample::TokenLogprobs;

use super::{Header, Status, call_item, logprobs_of, message_item, reasoning_item, text_part};
use crate::app::App;
use crate::collect::WholeCall;
use crate::error::ApiError;
use crate::job::{Answer, Delta, FinishReason};
use crate::random;
use crate::sse::{Present, event};

/// Item that is being sent.
enum Item {
    Reasoning { id: String, text: String },
    Message { id: String, text: String, logprobs: Vec<TokenLogprobs> },
    Call { id: String, index: usize, call: WholeCall },
}

/// Presentation as a stream.
pub(super) struct ResponseStream {
    model: Arc<Model>,
    header: Header,
    logprobs: bool,
    /// Number of the next event.
    sequence: u64,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<Item>,
    /// Log probabilities that go out with the next text.
    held: Vec<TokenLogprobs>,
    reason: Option<FinishReason>,
}

impl ResponseStream {
    pub(super) fn new(app: &App, header: Header, logprobs: bool) -> ResponseStream {
        ResponseStream {
            model: Arc::clone(&app.model),
            header,
            logprobs,
            sequence: 0,
            output: Vec::new(),
            open: None,
            held: Vec::new(),
            reason: None,
        }
    }

    /// Appends an event of a type with these fields.
    fn send(&mut self, kind: &str, fields: Value, out: &mut String) {
        let mut map = Map::new();
        map.insert("type".into(), json!(kind));
        map.insert("sequence_number".into(), json!(self.sequence));
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            map.extend(fields);
        }
        event(out, Some(kind), &Value::Object(map));
    }

    /// Index of the open item, or of the next one.
    fn index(&self) -> usize {
        self.output.len()
    }

    /// Begins an item.
    fn begin(&mut self, item: Item, out: &mut String) {
        let index = self.index();
        let progress = Status::InProgress.of_item();
        let (id, value, part) = match &item {
            Item::Reasoning { id, .. } => {
                let part = json!({ "type": "reasoning_text", "text": "" });
                (id.clone(), reasoning_item(id, None, progress), Some(part))
            }
            Item::Message { id, .. } => {
                let part = text_part("", json!([]));
                (id.clone(), message_item(id, Vec::new(), progress), Some(part))
            }
            Item::Call { id, call, .. } => (id.clone(), call_item(id, call, progress), None),
        };
        self.open = Some(item);
        let added = json!({ "output_index": index, "item": value });
        self.send("response.output_item.added", added, out);
        if let Some(part) = part {
            let added = json!({
                "item_id": id, "output_index": index, "content_index": 0, "part": part,
            });
            self.send("response.content_part.added", added, out);
        }
    }

    /// Ends the open item; `status` is that of the response for the last one.
    fn end_item(&mut self, status: Status, out: &mut String) {
        let Some(item) = self.open.take() else { return };
        let index = self.index();
        let status = status.of_item();
        let value = match &item {
            Item::Reasoning { id, text } => {
                let done = json!({
                    "item_id": id, "output_index": index, "content_index": 0, "text": text,
                });
                self.send("response.reasoning_text.done", done, out);
                let part = json!({ "type": "reasoning_text", "text": text });
                self.end_part(id, index, part, out);
                reasoning_item(id, Some(text), status)
            }
            Item::Message { id, text, logprobs } => {
                let all = logprobs_of(&self.model, logprobs);
                let done = json!({
                    "item_id": id, "output_index": index, "content_index": 0, "text": text,
                    "logprobs": all,
                });
                self.send("response.output_text.done", done, out);
                let part = text_part(text, all);
                self.end_part(id, index, part.clone(), out);
                message_item(id, vec![part], status)
            }
            Item::Call { id, call, .. } => {
                let done = json!({
                    "item_id": id, "output_index": index, "name": call.name,
                    "arguments": call.arguments,
                });
                self.send("response.function_call_arguments.done", done, out);
                call_item(id, call, status)
            }
        };
        let done = json!({ "output_index": index, "item": value });
        self.send("response.output_item.done", done, out);
        self.output.push(value);
    }

    fn end_part(&mut self, id: &str, index: usize, part: Value, out: &mut String) {
        let done =
            json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part });
        self.send("response.content_part.done", done, out);
    }

    fn text(&mut self, more: &str, out: &mut String) {
        if !matches!(self.open, Some(Item::Message { .. })) {
            self.end_item(Status::Completed, out);
            let (text, logprobs) = (String::new(), Vec::new());
            self.begin(Item::Message { id: random::id("msg_"), text, logprobs }, out);
        }
        let held = std::mem::take(&mut self.held);
        let Some(Item::Message { id, text, logprobs }) = &mut self.open else { return };
        text.push_str(more);
        let all = logprobs_of(&self.model, &held);
        logprobs.extend(held);
        let delta = json!({
            "item_id": id, "output_index": self.output.len(), "content_index": 0, "delta": more,
            "logprobs": all,
        });
        self.send("response.output_text.delta", delta, out);
    }

    fn reasoning(&mut self, more: &str, out: &mut String) {
        if !matches!(self.open, Some(Item::Reasoning { .. })) {
            self.end_item(Status::Completed, out);
            self.begin(Item::Reasoning { id: random::id("rs_"), text: String::new() }, out);
        }
        let Some(Item::Reasoning { id, text }) = &mut self.open else { return };
        text.push_str(more);
        let delta = json!({
            "item_id": id, "output_index": self.output.len(), "content_index": 0, "delta": more,
        });
        self.send("response.reasoning_text.delta", delta, out);
    }

    fn arguments(&mut self, of: usize, more: &str, out: &mut String) {
        let Some(Item::Call { id, index, call }) = &mut self.open else { return };
        if *index != of {
            return;
        }
        call.arguments.push_str(more);
        let delta = json!({ "item_id": id, "output_index": self.output.len(), "delta": more });
        self.send("response.function_call_arguments.delta", delta, out);
    }
}

impl Present for ResponseStream {
    fn begin(&mut self, out: &mut String) {
        let response = self.header.response(Status::InProgress, Vec::new(), None);
        let response = json!({ "response": response });
        self.send("response.created", response.clone(), out);
        self.send("response.in_progress", response, out);
    }

    fn delta(&mut self, delta: Delta, _answer: &Answer, out: &mut String) {
        match delta {
            Delta::Started { .. } | Delta::Failed { .. } => {}
            Delta::Logprobs { logprobs, .. } => {
                if self.logprobs {
                    self.held.extend(logprobs);
                }
            }
            Delta::Text { text, .. } => self.text(&text, out),
            Delta::Reasoning { text, .. } => self.reasoning(&text, out),
            Delta::Call { index, id, name, .. } => {
                self.end_item(Status::Completed, out);
                let call = WholeCall { id, name, arguments: String::new() };
                self.begin(Item::Call { id: random::id("fc_"), index, call }, out);
            }
            Delta::Arguments { index, text, .. } => self.arguments(index, &text, out),
            Delta::Finished { reason, .. } => self.reason = Some(reason),
        }
    }

    fn end(&mut self, answer: &Answer, out: &mut String) {
        let status = Status::of(self.reason.as_ref());
        if self.open.is_none() && self.output.is_empty() {
            let (text, logprobs) = (String::new(), Vec::new());
            self.begin(Item::Message { id: random::id("msg_"), text, logprobs }, out);
        }
        self.end_item(status, out);
        let output = std::mem::take(&mut self.output);
        let response = self.header.response(status, output, Some(&answer.usage()));
        let kind = format!("response.{}", status.name());
        self.send(&kind, json!({ "response": response }), out);
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        let mut fields = error.to_json();
        // At the top for programs that follow the reference, within `error` for all others.
        if let Value::Object(map) = &mut fields {
            map.insert("code".into(), json!(error.code.unwrap_or(error.kind)));
            map.insert("message".into(), json!(error.message));
            map.insert("param".into(), json!(error.param));
            map.remove("type");
        }
        self.send("error", fields, out);
    }
}
