//! Requests that must be answered, and what their answers look like.

use serde_json::{Value, json};

use crate::client::{Answer, Done};
use crate::random::Random;

/// Words that the stories of the model are made of.
const WORDS: [&str; 24] = [
    "Once", "upon", "a", "time", "there", "was", "little", "dog", "who", "liked", "to", "play",
    "in", "the", "park", "with", "his", "friend", "Lily", "and", "they", "were", "happy.", "é🌾",
];

/// A text of this many words; those of one seed are beginnings of each other.
pub(crate) fn words(seed: u64, n: usize) -> String {
    let mut random = Random::new(seed);
    (0..n).map(|_| *random.pick(&WORDS)).collect::<Vec<_>>().join(" ")
}

/// A prompt, which often shares a beginning with others.
pub(crate) fn prompt(random: &mut Random) -> String {
    let family = random.below(6) as u64;
    let n = match random.below(10) {
        0 => 1,
        1..=5 => 1 + random.below(20),
        6..=8 => 1 + random.below(80),
        _ => 100 + random.below(60),
    };
    let shared = words(family, n);
    match random.percent(50) {
        true => shared,
        false => shared + " " + &words(random.next(), 1 + random.below(6)),
    }
}

/// Interface of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Chat,
    Text,
}

/// A request for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) form: Form,
    pub(crate) body: Value,
    /// Number of choices.
    choices: usize,
    max_tokens: usize,
}

impl Ask {
    /// Any request, as a stream or not.
    pub(crate) fn any(random: &mut Random, stream: bool) -> Ask {
        let form = if random.percent(50) { Form::Chat } else { Form::Text };
        let max_tokens = if random.percent(4) { 60 } else { random.below(16) };
        let mut body = match form {
            Form::Chat => json!({ "messages": [{ "role": "user", "content": prompt(random) }] }),
            Form::Text => json!({ "prompt": prompt(random) }),
        };
        let mut choices = 1;
        if form == Form::Text && random.percent(10) {
            let prompts: Vec<_> = (0..1 + random.below(3)).map(|_| prompt(random)).collect();
            choices = prompts.len();
            body["prompt"] = json!(prompts);
        }
        if random.percent(12) {
            let n = 2 + random.below(4);
            body["n"] = json!(n);
            choices *= n;
        }
        body["max_tokens"] = json!(max_tokens);
        body["stream"] = json!(stream);
        let ask = |name: &str, percent, value: Value, random: &mut Random, body: &mut Value| {
            if random.percent(percent) {
                body[name] = value;
            }
        };
        let seed = random.next() >> 12;
        ask("seed", 60, json!(seed), random, &mut body);
        let heat = random.below(20) as f64 / 10.0;
        ask("temperature", 40, json!(heat), random, &mut body);
        ask("top_p", 20, json!(0.8), random, &mut body);
        ask("top_k", 20, json!(20), random, &mut body);
        ask("min_p", 10, json!(0.05), random, &mut body);
        ask("repeat_penalty", 10, json!(1.3), random, &mut body);
        ask("presence_penalty", 10, json!(-0.5), random, &mut body);
        ask("frequency_penalty", 10, json!(0.5), random, &mut body);
        ask("stop", 15, json!([".", " the", "xyzzy"]), random, &mut body);
        ask("logit_bias", 10, json!({ "5": -100, "300": 2.5 }), random, &mut body);
        ask("ignore_eos", 20, json!(true), random, &mut body);
        ask("stream_options", 30, json!({ "include_usage": true }), random, &mut body);
        ask("user", 10, json!("soak"), random, &mut body);
        if random.percent(15) {
            let top = random.below(6);
            match form {
                Form::Chat => {
                    (body["logprobs"], body["top_logprobs"]) = (json!(true), json!(top));
                }
                Form::Text => body["logprobs"] = json!(top),
            }
        }
        if form == Form::Text {
            ask("echo", 10, json!(true), random, &mut body);
        }
        Ask { form, body, choices, max_tokens }
    }

    /// Makes it a request whose text takes as long as there is room.
    pub(crate) fn endless(mut self) -> Ask {
        self.body["ignore_eos"] = json!(true);
        self.body["stop"] = Value::Null;
        self.body["max_tokens"] = Value::Null;
        self.max_tokens = usize::MAX;
        self
    }

    /// Sets a field.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Ask {
        self.body[name] = value;
        self
    }

    /// The path of its interface.
    pub(crate) fn path(&self) -> &'static str {
        match self.form {
            Form::Chat => "/v1/chat/completions",
            Form::Text => "/v1/completions",
        }
    }

    fn streams(&self) -> bool {
        self.body["stream"] == true
    }

    /// Checks an answer, and returns the texts of its choices.
    pub(crate) fn check(&self, answer: &Answer) -> Done<Vec<String>> {
        let texts = match self.streams() {
            true => self.events(answer),
            false => self.whole(&answer.ok()?),
        };
        texts.map_err(|e| format!("{e}: {:.500}", String::from_utf8_lossy(&answer.body)))
    }

    fn ended(reason: &Value) -> bool {
        ["stop", "length", "tool_calls"].iter().any(|known| reason == known)
    }

    fn whole(&self, body: &Value) -> Done<Vec<String>> {
        let choices = body["choices"].as_array().ok_or("no choices")?;
        if choices.len() != self.choices {
            return Err(format!("{} choices for {}", choices.len(), self.choices));
        }
        let usage = &body["usage"];
        let tokens = usage["completion_tokens"].as_u64().ok_or("no usage")? as usize;
        if tokens > self.max_tokens.saturating_mul(self.choices) {
            return Err(format!("{tokens} tokens"));
        }
        let mut texts = Vec::new();
        for (i, choice) in choices.iter().enumerate() {
            let text = match self.form {
                Form::Chat => &choice["message"]["content"],
                Form::Text => &choice["text"],
            };
            if choice["index"] != i || !Self::ended(&choice["finish_reason"]) {
                return Err(format!("choice {i}"));
            }
            let calls = !choice["message"]["tool_calls"].is_null();
            texts.push(match text.as_str() {
                Some(text) => text.to_owned(),
                None if calls => String::new(),
                None => return Err(format!("choice {i} has no text")),
            });
            let wanted = !matches!(self.body["logprobs"], Value::Null | Value::Bool(false));
            if wanted == choice["logprobs"].is_null() {
                return Err(format!("log probabilities of choice {i}"));
            }
        }
        Ok(texts)
    }

    fn events(&self, answer: &Answer) -> Done<Vec<String>> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        let mut texts = vec![String::new(); self.choices];
        let mut ends = vec![0; self.choices];
        let mut done = false;
        for event in answer.text()?.split("\n\n").filter(|event| !event.is_empty()) {
            if event.starts_with(':') {
                continue;
            }
            let data = event.strip_prefix("data: ").ok_or("no data")?;
            if done {
                return Err("an event behind the end".into());
            }
            if data == "[DONE]" {
                done = true;
                continue;
            }
            let data: Value = serde_json::from_str(data).map_err(|e| e.to_string())?;
            for choice in data["choices"].as_array().ok_or("no choices")? {
                let i = choice["index"].as_u64().ok_or("no index")? as usize;
                let text = match self.form {
                    Form::Chat => &choice["delta"]["content"],
                    Form::Text => &choice["text"],
                };
                let into = texts.get_mut(i).ok_or("a strange choice")?;
                into.push_str(text.as_str().unwrap_or_default());
                if !choice["finish_reason"].is_null() {
                    if !Self::ended(&choice["finish_reason"]) {
                        return Err("a strange reason".into());
                    }
                    ends[i] += 1;
                }
            }
        }
        match done && ends.iter().all(|n| *n == 1) {
            true => Ok(texts),
            false => Err(format!("a stream without its ends: {ends:?}")),
        }
    }
}
