//! The mix: what the clients do, well-behaved and not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::ask::{Ask, prompt, words};
use crate::client::{Answer, Client, Done, post, request};
use crate::random::Random;

/// What a client does in one turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    /// A request for a whole answer.
    Whole,
    /// A request for a stream, which is read to its end.
    Stream,
    /// A stream whose reader goes away after some events.
    Left,
    /// A reader that takes its time.
    Slow,
    /// A request that is cut off.
    Cut,
    /// A request whose sender is gone before the answer.
    Gone,
    /// A request behind which the sender closes its half of the connection.
    Half,
    /// A body that is damaged or has fields of other types.
    Malformed,
    /// A prompt about as long as the context, or longer.
    Long,
    /// An answer that must match a schema, an expression or a grammar.
    Structured,
    /// Calls of tools.
    Tools,
    /// A request that was made before and must have the same text.
    Repeated,
    /// Two requests at once on one connection.
    Pipelined,
    /// Other paths, and other forms of HTTP.
    Odd,
    /// The interfaces of other makers.
    Others,
}

/// Kinds with their shares.
const SHARES: [(Kind, usize); 15] = [
    (Kind::Whole, 18),
    (Kind::Stream, 16),
    (Kind::Left, 9),
    (Kind::Slow, 2),
    (Kind::Cut, 5),
    (Kind::Gone, 6),
    (Kind::Half, 3),
    (Kind::Malformed, 10),
    (Kind::Long, 3),
    (Kind::Structured, 6),
    (Kind::Tools, 3),
    (Kind::Repeated, 8),
    (Kind::Pipelined, 2),
    (Kind::Odd, 6),
    (Kind::Others, 3),
];

/// What all clients know.
pub(crate) struct Mix {
    pub(crate) address: SocketAddr,
    /// Number of tokens that a text can have.
    context: usize,
    /// Texts of requests that are repeated.
    texts: Mutex<HashMap<u64, Vec<String>>>,
}

/// A connection that is used again, and whether it was used before.
pub(crate) type Kept = Option<Client>;

impl Mix {
    /// Asks a server what it has.
    pub(crate) fn new(address: SocketAddr) -> Done<Mix> {
        let mut client = Client::connect(address)?;
        client.send(&request("GET", "/props", "", b""))?;
        let props = client.answer()?.ok()?;
        let context = props["default_generation_settings"]["n_ctx"].as_u64();
        let texts = Mutex::default();
        Ok(Mix { address, context: context.ok_or("no context")? as usize, texts })
    }

    /// Turn `i` of a seed.
    pub(crate) fn turn(&self, seed: u64, i: u64, kept: &mut Kept) -> (Kind, Done) {
        let mut random = Random::new(seed.wrapping_add(i.wrapping_mul(0x2545_f491_4f6c_dd1d)));
        let all: usize = SHARES.iter().map(|(_, share)| share).sum();
        let mut at = random.below(all);
        let kind = SHARES.iter().find(|(_, share)| match at.checked_sub(*share) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        let kind = kind.map_or(Kind::Whole, |(kind, _)| *kind);
        let random = &mut random;
        let done = match kind {
            Kind::Whole => self.answered(&Ask::any(random, false), kept).map(drop),
            Kind::Stream => self.answered(&Ask::any(random, true), kept).map(drop),
            Kind::Left => self.left(random),
            Kind::Slow => self.slow(random),
            Kind::Cut => self.cut(random),
            Kind::Gone => self.gone(random),
            Kind::Half => self.half(random),
            Kind::Malformed => self.malformed(random, kept),
            Kind::Long => self.long(random, kept),
            Kind::Structured => self.structured(random, kept),
            Kind::Tools => self.tools(random, kept),
            Kind::Repeated => self.repeated(random, kept),
            Kind::Pipelined => self.pipelined(random),
            Kind::Odd => self.odd(random, kept),
            Kind::Others => self.others(random, kept),
        };
        (kind, done)
    }

    /// Sends a request on the connection that was kept, or on a new one, and reads the answer.
    fn exchange(&self, bytes: &[u8], kept: &mut Kept) -> Done<Answer> {
        if let Some(mut client) = kept.take() {
            // The server may have closed it for having been idle: then no byte comes.
            match client.send(bytes).and_then(|()| client.answer()) {
                Ok(answer) => {
                    *kept = keep(client, &answer);
                    return Ok(answer);
                }
                Err(e) if e.contains("ended early: ") && !e.ends_with("ended early: ") => {
                    return Err(e);
                }
                Err(_) => {}
            }
        }
        let mut client = Client::connect(self.address)?;
        client.send(bytes)?;
        let answer = client.answer()?;
        *kept = keep(client, &answer);
        Ok(answer)
    }

    fn answered(&self, ask: &Ask, kept: &mut Kept) -> Done<Vec<String>> {
        let answer = self.exchange(&post(ask.path(), &ask.body), kept)?;
        ask.check(&answer).map_err(|e| format!("{e} ({:.500})", ask.body))
    }

    fn left(&self, random: &mut Random) -> Done {
        let ask = Ask::any(random, true);
        let ask = if random.percent(70) { ask.endless() } else { ask };
        let mut client = Client::connect(self.address)?;
        client.send(&post(ask.path(), &ask.body))?;
        let head = client.head()?;
        if head.status != 200 {
            return Err(format!("status {} for {}", head.status, ask.body));
        }
        for _ in 0..random.below(8) {
            if client.chunk()?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn slow(&self, random: &mut Random) -> Done {
        let ask = Ask::any(random, true).endless();
        let mut client = Client::connect(self.address)?;
        client.send(&post(ask.path(), &ask.body))?;
        let head = client.head()?;
        if head.status != 200 {
            return Err(format!("status {} for {}", head.status, ask.body));
        }
        // At first nothing at all is read, and then little by little.
        std::thread::sleep(Duration::from_millis(random.below(100) as u64));
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(random.below(4) as u64));
            if client.chunk()?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Sends the beginning of a request and closes the connection, or its own half of it.
    fn cut(&self, random: &mut Random) -> Done {
        let stream = random.percent(50);
        let ask = Ask::any(random, stream);
        let bytes = post(ask.path(), &ask.body);
        let mut client = Client::connect(self.address)?;
        client.send(&bytes[..random.below(bytes.len())])?;
        if random.percent(50) {
            client.half_close()?;
            let rest = client.drain()?;
            if !rest.is_empty() && !rest.starts_with(b"HTTP/1.1 4") {
                return Err(format!("{:.200}", String::from_utf8_lossy(&rest)));
            }
        }
        Ok(())
    }

    fn gone(&self, random: &mut Random) -> Done {
        let stream = random.percent(50);
        let mut ask = Ask::any(random, stream);
        if random.percent(50) {
            ask = ask.endless();
        }
        let mut client = Client::connect(self.address)?;
        client.send(&post(ask.path(), &ask.body))?;
        if random.percent(50) {
            std::thread::sleep(Duration::from_millis(random.below(30) as u64));
        }
        Ok(())
    }

    fn half(&self, random: &mut Random) -> Done {
        let stream = random.percent(50);
        let ask = Ask::any(random, stream);
        let mut client = Client::connect(self.address)?;
        client.send(&post(ask.path(), &ask.body))?;
        client.half_close()?;
        // Servers take this for the end of the client: an answer, a part of it, or nothing.
        let rest = client.drain()?;
        match rest.is_empty() || rest.starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => Err(format!("{:.200}", String::from_utf8_lossy(&rest))),
        }
    }

    fn malformed(&self, random: &mut Random, kept: &mut Kept) -> Done {
        let stream = random.percent(30);
        let ask = Ask::any(random, stream);
        let mut body = ask.body.to_string().into_bytes();
        match random.below(6) {
            0 => body.truncate(random.below(body.len())),
            1 => {
                for _ in 0..1 + random.below(4) {
                    let at = random.below(body.len());
                    body[at] = random.next() as u8;
                }
            }
            2 => {
                let at = random.below(body.len());
                let more: Vec<u8> = (0..random.below(20)).map(|_| random.next() as u8).collect();
                body.splice(at..at, more);
            }
            3 => body = (0..random.below(300)).map(|_| random.next() as u8).collect(),
            _ => body = replaced(ask.body.clone(), random).to_string().into_bytes(),
        }
        let answer = self.exchange(&request("POST", ask.path(), "", &body), kept)?;
        match answer.status {
            // What is damaged may still be a request.
            200 => Ok(()),
            _ => answer
                .refused(&[400])
                .map_err(|e| format!("{e} ({:.500})", String::from_utf8_lossy(&body))),
        }
    }

    fn long(&self, random: &mut Random, kept: &mut Kept) -> Done {
        let n = match random.below(3) {
            0 => self.context - random.below(3),
            1 => self.context + 1 + random.below(3),
            _ => self.context * (2 + random.below(200)),
        };
        let first = 100 + random.below(4);
        let ids: Vec<usize> = (0..n).map(|i| 3 + (first * i) % 2000).collect();
        let body = json!({ "prompt": ids, "max_tokens": random.below(3) });
        let answer = self.exchange(&post("/v1/completions", &body), kept)?;
        if n <= self.context {
            return answer.ok().map(drop);
        }
        answer.refused(&[400])?;
        match answer.json()?["error"]["code"] == "context_length_exceeded" {
            true => Ok(()),
            false => Err(format!("{:.300}", answer.text()?)),
        }
    }

    fn structured(&self, random: &mut Random, kept: &mut Kept) -> Done {
        let stream = random.percent(30);
        let schema = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "maxLength": 12 },
                "age": { "type": "integer", "minimum": 0, "maximum": 120 },
                "likes": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 3 },
            },
            "required": ["name", "age"],
            "additionalProperties": false,
        });
        let (name, value) = match random.below(4) {
            0 => ("json_schema", schema),
            1 => ("response_format", json!({ "type": "json_object" })),
            2 => ("regex", json!("(yes|no|[a-f]{3,8})")),
            _ => ("grammar", json!("start: \"a\" (\"b\" | \"c\")+ \"d\"")),
        };
        let ask = Ask::any(random, stream).with(name, value).with("stop", Value::Null);
        let ask = ask.with("echo", json!(false)).with("logit_bias", Value::Null);
        let answer = self.exchange(&post(ask.path(), &ask.body), kept)?;
        let texts = ask.check(&answer).map_err(|e| format!("{e} ({:.500})", ask.body))?;
        if stream {
            return Ok(());
        }
        for (text, choice) in
            texts.iter().zip(answer.json()?["choices"].as_array().into_iter().flatten())
        {
            if choice["finish_reason"] == "length" {
                continue;
            }
            let valid = match name {
                "regex" => {
                    let letters = text.bytes().all(|b| (b'a'..=b'f').contains(&b));
                    ["yes", "no"].contains(&text.as_str())
                        || letters && (3..=8).contains(&text.len())
                }
                "grammar" => text.len() > 2 && text.starts_with('a') && text.ends_with('d'),
                _ => serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()),
            };
            if !valid {
                return Err(format!("{text:?} for {}", ask.body));
            }
        }
        Ok(())
    }

    fn tools(&self, random: &mut Random, kept: &mut Kept) -> Done {
        let tool = |name: &str| {
            json!({ "type": "function", "function": {
                "name": name,
                "parameters": { "type": "object", "properties": {
                    "city": { "type": "string", "maxLength": 8 },
                } },
            } })
        };
        let choice = match random.below(4) {
            0 => json!("auto"),
            1 => json!("none"),
            2 => json!("required"),
            _ => json!({ "type": "function", "function": { "name": "time" } }),
        };
        // The tools are told of in some two hundred tokens, which leave less room than others have.
        let text = words(random.next(), 1 + random.below(60));
        let body = json!({
            "messages": [{ "role": "user", "content": text }],
            "tools": [tool("weather"), tool("time")],
            "tool_choice": choice,
            "max_tokens": 30,
            "stream": random.percent(40),
            "seed": random.below(1000),
        });
        let answer = self.exchange(&post("/v1/chat/completions", &body), kept)?;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("status {status}: {:.300} ({body})", answer.text()?)),
        }
    }

    fn repeated(&self, random: &mut Random, kept: &mut Kept) -> Done {
        // What is asked follows from the number alone.
        let number = random.below(60) as u64;
        let mut asked = Random::new(number);
        let ask = Ask::any(&mut asked, random.percent(40)).with("seed", json!(number));
        let ask = ask.with("temperature", json!(0.9));
        let texts = self.answered(&ask, kept)?;
        let mut known = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.entry(number).or_insert_with(|| texts.clone());
        match *first == texts {
            true => Ok(()),
            false => Err(format!("{texts:?} and before {first:?} ({})", ask.body)),
        }
    }

    fn pipelined(&self, random: &mut Random) -> Done {
        let asks = [Ask::any(random, false), Ask::any(random, true), Ask::any(random, false)];
        let all: Vec<u8> = asks.iter().flat_map(|ask| post(ask.path(), &ask.body)).collect();
        let mut client = Client::connect(self.address)?;
        client.send(&all)?;
        for ask in &asks {
            ask.check(&client.answer()?).map_err(|e| format!("{e} ({:.500})", ask.body))?;
        }
        Ok(())
    }

    fn odd(&self, random: &mut Random, kept: &mut Kept) -> Done {
        let ask = Ask::any(random, false);
        let body = ask.body.to_string();
        let chunks = || {
            let mut all = format!(
                "POST {} HTTP/1.1\r\nhost: soak\r\ntransfer-encoding: chunked\r\n\r\n",
                ask.path()
            );
            for chunk in body.as_bytes().chunks(60) {
                all += &format!("{:x};x=y\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
            }
            all + "0\r\ntrailer: x\r\n\r\n"
        };
        match random.below(12) {
            0 | 1 => {
                let path = *random.pick(&["/health", "/metrics", "/v1/models", "/props", "/"]);
                let answer = self.exchange(&request("GET", path, "", b""), kept)?;
                if answer.status == 200 { Ok(()) } else { Err(format!("status {}", answer.status)) }
            }
            2 | 3 => {
                let text = prompt(random);
                let body = json!({ "content": text });
                let answer = self.exchange(&post("/tokenize", &body), kept)?.ok()?;
                let back = self.exchange(&post("/detokenize", &answer), kept)?.ok()?;
                if back["content"] == text { Ok(()) } else { Err(format!("{back} for {text}")) }
            }
            4 => {
                let body = json!({ "messages": [{ "role": "user", "content": prompt(random) }] });
                let path = *random.pick(&["/apply-template", "/v1/chat/completions/input_tokens"]);
                self.exchange(&post(path, &body), kept)?.ok().map(drop)
            }
            5 => {
                let path = *random.pick(&["/nothing", "/v1/engines", "/v1/models/other"]);
                self.exchange(&request("GET", path, "", b""), kept)?.refused(&[404])
            }
            6 => self.exchange(&request("GET", ask.path(), "", b""), kept)?.refused(&[405]),
            7 => {
                let bytes = request("POST", ask.path(), "content-encoding: gzip\r\n", b"\x1f\x8b");
                self.exchange(&bytes, kept)?.refused(&[415])
            }
            8 => {
                let head = format!(
                    "POST {} HTTP/1.1\r\nhost: soak\r\ncontent-length: 99999999999\r\n\r\n",
                    ask.path()
                );
                let mut client = Client::connect(self.address)?;
                client.send(head.as_bytes())?;
                client.answer()?.refused(&[413])
            }
            9 => {
                let mut client = Client::connect(self.address)?;
                let all = chunks();
                if !body.is_ascii() {
                    return Ok(());
                }
                client.send(all.as_bytes())?;
                ask.check(&client.answer()?).map(drop)
            }
            10 => {
                let mut client = Client::connect(self.address)?;
                let head = format!(
                    "POST {} HTTP/1.1\r\nhost: soak\r\nexpect: 100-continue\r\ncontent-length: \
                     {}\r\n\r\n",
                    ask.path(),
                    body.len()
                );
                client.send(head.as_bytes())?;
                let go = client.head()?;
                if go.status != 100 {
                    return Err(format!("status {} where 100 was due", go.status));
                }
                client.send(body.as_bytes())?;
                ask.check(&client.answer()?).map(drop)
            }
            _ => {
                let mut client = Client::connect(self.address)?;
                let nonsense: [&[u8]; 7] = [
                    b"\0\0\0\0\0\0\0\0",
                    b"GET\r\n\r\n",
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
                    b"GET /health HTTP/1.1\r\nbad header\r\n\r\n",
                    b"POST /tokenize HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
                    b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}",
                ];
                client.send(nonsense[random.below(nonsense.len())])?;
                client.half_close()?;
                let rest = client.drain()?;
                match rest.is_empty() || rest.starts_with(b"HTTP/1.1 4") {
                    true => Ok(()),
                    false => Err(format!("{:.200}", String::from_utf8_lossy(&rest))),
                }
            }
        }
    }

    fn others(&self, random: &mut Random, kept: &mut Kept) -> Done {
        let stream = random.percent(50);
        let text = prompt(random);
        let (path, body) = match random.below(2) {
            0 => (
                "/v1/responses",
                json!({ "input": text, "max_output_tokens": 1 + random.below(12), "stream": stream }),
            ),
            _ => (
                "/v1/messages",
                json!({
                    "messages": [{ "role": "user", "content": text }],
                    "max_tokens": 1 + random.below(12),
                    "stream": stream,
                }),
            ),
        };
        let answer = self.exchange(&post(path, &body), kept)?;
        let text = answer.text()?;
        let ended = match stream {
            true => ["response.completed", "response.incomplete", "message_stop"]
                .iter()
                .any(|event| text.contains(event)),
            false => answer.ok()?["id"].is_string(),
        };
        match answer.status == 200 && ended {
            true => Ok(()),
            false => Err(format!("status {}: {text:.500} ({body})", answer.status)),
        }
    }
}

/// The connection, if it may be used again.
fn keep(client: Client, answer: &Answer) -> Kept {
    (answer.header("connection") != Some("close")).then_some(client)
}

/// The request with a field of another type or size.
fn replaced(mut body: Value, random: &mut Random) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!([[[[[[[[]]]]]]]]),
        json!([1, "a", null]),
        json!({ "type": "x" }),
    ];
    let names = [
        "messages",
        "prompt",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "stream",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "tools",
        "tool_choice",
        "response_format",
        "stream_options",
        "regex",
        "grammar",
        "json_schema",
        "n",
        "presence_penalty",
        "min_p",
        "repeat_penalty",
        "repeat_last_n",
        "chat_template_kwargs",
        "reasoning_effort",
        "echo",
    ];
    let name = *random.pick(&names);
    body[name] = random.pick(&values).clone();
    // Few of these need much to be computed.
    if body["max_tokens"].as_u64().is_none_or(|n| n > 60) && name != "max_tokens" {
        body["max_tokens"] = json!(3);
    }
    body
}
