//! `teff serve` as a program, and `teff inspect --serve`. What it answers is tested in the crate `teff-serve`.

#![cfg(feature = "serve")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::command::{Dir, MODEL, command, err, fails, ok, teff};
use crate::common::data;

fn story() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gpt2/model.gguf").display().to_string()
}

/// A server that was started on a free port.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(more: &[&str]) -> Server {
        let story = story();
        let first = ["serve", &story, "--port", "0", "--threads", "1"];
        let args = first.iter().chain(more);
        let mut child =
            command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Server { child, address }
    }

    /// The whole answer to a request.
    fn get(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it by a signal: what it has written to standard error.
    fn end(mut self, signal: &str) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(unix)]
fn a_server_says_where_it_is_and_ends_by_signals() {
    for signal in ["-TERM", "-INT"] {
        let server = Server::start(&[]);
        assert!(server.get("/health", "").starts_with("HTTP/1.1 200"), "{}", server.address);
        let models = server.get("/v1/models", "");
        assert!(
            models.contains(r#""id":"model""#) && models.contains(r#""n_ctx":384"#),
            "{models}"
        );
        let said = server.end(signal);
        assert!(said.contains("no chat template") && !said.contains("panicked"), "{said}");
    }
}

#[test]
#[cfg(unix)]
fn options_reach_the_server() {
    let dir = Dir::new("serve-options");
    let keys = dir.write("keys", b"first\n\n second \n");
    let server = Server::start(&[
        "--api-key-file",
        &keys,
        "--api-key",
        "third",
        "--alias",
        "tiny",
        "--ctx",
        "128",
        "--log",
        "off",
        "-np",
        "3",
        "--temperature",
        "0.5",
        "-n",
        "7",
        "--cors-origins",
        "https://a.example/",
        "--chat-template",
        "vicuna",
        "--host",
        "127.0.0.1",
    ]);
    assert!(server.get("/props", "").starts_with("HTTP/1.1 401"));
    for key in ["first", "second", "third"] {
        let props = server.get("/props", &format!("authorization: Bearer {key}\r\n"));
        assert!(props.starts_with("HTTP/1.1 200"), "{props}");
        for part in
            [r#""n_ctx":128"#, r#""total_slots":3"#, r#""temperature":0.5"#, r#""max_tokens":7"#]
        {
            assert!(props.contains(part), "{part} {props}");
        }
        assert!(props.contains(r#""model_alias":"tiny""#) && props.contains("USER: "));
    }
    let health = server.get("/health", "origin: https://a.example\r\n");
    assert!(health.contains("access-control-allow-origin: https://a.example"), "{health}");
    assert_eq!(server.end("-TERM"), "");
}

#[test]
fn other_machines_need_a_key() {
    let story = story();
    let serve = |more: &[&str]| teff(["serve", &story].iter().chain(more));
    fails(&serve(&["--host", "0.0.0.0"]), 2, &["0.0.0.0", "--api-key", "--insecure"]);
    fails(&serve(&["--host", "::"]), 2, &["--api-key"]);
    fails(&serve(&["--host", "example.org"]), 2, &["--host", "example.org"]);
    fails(&serve(&["--port", "70000"]), 2, &["--port", "65535"]);
    fails(&serve(&["--api-key", ""]), 2, &["--api-key"]);
    fails(&serve(&["--api-key", "a b"]), 2, &["--api-key"]);
    fails(&serve(&["--memory", "much"]), 2, &["--memory", "4GiB"]);
    fails(&serve(&["--log", "loud"]), 2, &["--log", "debug"]);
    fails(&serve(&["--grace", "-1"]), 2, &["--grace"]);
    fails(&serve(&["--prefix-dir", "no/such/folder"]), 1, &["no/such/folder"]);
    fails(&serve(&["--memory", "1KiB"]), 1, &["--memory"]);
    fails(&teff(["serve"]), 2, &["no model"]);
    fails(&teff(["serve", "--port", "0", "nowhere.gguf"]), 1, &["nowhere.gguf"]);
    let dir = Dir::new("serve-keys");
    let empty = dir.write("empty", b"\n \n");
    fails(&serve(&["--api-key-file", &empty]), 1, &["no key"]);
}

#[test]
fn flags_of_other_servers_say_what_to_type() {
    let story = story();
    for (args, says) in [
        (&["--grammar", "root ::= x"][..], "`grammar`"),
        (&["--grammar-file", "x"], "`grammar`"),
        (&["-j", "{}"], "`json_schema`"),
        (&["--json-schema", "{}"], "`json_schema`"),
        (&["-jf", "x"], "`json_schema`"),
        (&["--logit-bias", "5+1"], "`logit_bias`"),
        (&["-l", "5+1"], "`logit_bias`"),
        (&["-r", "x"], "`stop`"),
        (&["--ignore-eos"], "`ignore_eos`"),
        (&["--mirostat", "2"], "--min-p"),
        (&["--samplers", "top_k"], "--min-p"),
        (&["--api-prefix", "/x"], "leave it out"),
        (&["--root-path", "/x"], "leave it out"),
        (&["--embedding"], "embeddings"),
        (&["--embeddings"], "embeddings"),
        (&["--slot-save-path", "x"], "--prefix-dir"),
        (&["--reasoning-budget", "0"], "`chat_template_kwargs`"),
        (&["--no-prefill-assistant"], "beginning"),
        (&["--ssl-keyfile", "x"], "proxy"),
        (&["--kv-cache-dtype", "fp8"], "--kv"),
        (&["--allowed-origins", "[]"], "--cors-origins"),
        (&["--lora-modules", "x"], "merge"),
        (&["--models-dir", "x"], "one model"),
        (&["--tools", "all"], "tools"),
    ] {
        fails(&teff(["serve", &story].iter().chain(args)), 2, &[args[0], says]);
    }
}

/// The flags work or are passed over, up to an address that can't be had.
#[test]
fn flags_of_other_servers_that_are_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (story, port) = (story(), taken.local_addr().unwrap().port().to_string());
    let serve = |more: &[&str]| {
        let output = teff(["serve", &story, "--port", &port].iter().chain(more));
        assert_eq!(output.status.code(), Some(1), "{more:?} {}", err(&output));
        let mut lines: Vec<_> = err(&output).lines().map(String::from).collect();
        assert!(lines.pop().is_some_and(|line| line.contains(&port)), "{more:?} {}", err(&output));
        lines
    };
    for flags in [
        &["--cont-batching"][..],
        &["-cb"],
        &["--metrics"],
        &["--jinja"],
        &["-np", "2"],
        &["--ctx-size", "64"],
        &["--max-model-len", "64"],
        &["--max-num-seqs", "2"],
        &["--max-num-batched-tokens", "64"],
        &["--served-model-name", "x"],
        &["--enable-prefix-caching"],
        &["--enable-auto-tool-choice"],
    ] {
        assert!(serve(flags).is_empty(), "{flags:?} {:?}", serve(flags));
    }
    for flags in [
        &["--gpu-memory-utilization", "0.9"][..],
        &["--tensor-parallel-size", "2"],
        &["-tp", "2"],
        &["--dtype", "auto"],
        &["--swap-space", "4"],
        &["--tool-call-parser", "hermes"],
        &["--slots"],
        &["--props"],
        &["--mlock"],
        &["--no-webui"],
        &["--cache-reuse", "256"],
        &["--no-cache-prompt"],
        &["-cram", "100"],
    ] {
        let lines = serve(flags);
        let says = format!("{} has no effect: ", flags[0]);
        assert!(lines.len() == 1 && lines[0].contains(&says), "{flags:?} {lines:?}");
    }
    // As the options of Teff's, they are checked under the name that was typed.
    for flag in ["--max-model-len", "--max-num-seqs", "--max-num-batched-tokens"] {
        let output = teff(["serve", &story, flag, "x"]);
        fails(&output, 2, &[&format!("{flag} is `x`")]);
    }
}

/// The least sizes that messages name are enough.
#[test]
fn sizes_that_messages_name_work() {
    let inspect = |more: &[&str]| {
        let story = story();
        teff(["inspect", &story, "--serve"].iter().chain(more))
    };
    for (flag, more) in [
        ("--cache", &["--cache", "1"][..]),
        ("--cache", &["--cache", "100KiB", "--ctx", "100"]),
        ("--cache", &["--cache", "100KiB", "--kv", "q8", "--ctx", "384"]),
        ("--memory", &["--cache", "4MiB", "--memory", "4MiB"]),
        ("--memory", &["--cache", "3000k", "--memory", "3000k", "--ctx", "100"]),
    ] {
        let refused = inspect(more);
        let told = format!("give {flag} ");
        fails(&refused, 1, &[&told]);
        let size = err(&refused).split(&told).nth(1).and_then(|rest| rest.split(' ').next());
        let size = size.unwrap_or_default();
        // The last of an option given twice counts.
        ok(&inspect(&[more, &[flag, size]].concat()));
        // It is nearly the least.
        let number: String = size.chars().take_while(|c| !c.is_alphabetic()).collect();
        let less = number.parse::<f64>().unwrap() * 0.9;
        let less = format!("{less}{}", &size[number.len()..]);
        assert_eq!(inspect(&[more, &[flag, &less]].concat()).status.code(), Some(1), "{less}");
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fails(&teff(["serve", &story(), "--port", &port]), 1, &[&port]);
}

#[test]
fn inspect_tells_the_memory_of_a_server() {
    let model = data(MODEL).display().to_string();
    let inspect = |more: &[&str]| {
        let output = teff(["inspect", &model, "--serve"].iter().chain(more));
        ok(&output).to_owned()
    };
    let number = |text: &str, name: &str| -> u64 {
        let rest = text
            .split(&format!("\"{name}\": "))
            .nth(1)
            .or(text.split(&format!("\"{name}\":")).nth(1));
        let rest = rest.unwrap_or_else(|| panic!("{name} {text}"));
        let digits: String = rest.trim().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    let json = inspect(&["--json"]);
    let parts =
        ["program_bytes", "weight_bytes", "tokenizer_bytes", "grammar_bytes", "engine_bytes"];
    let parts = parts.map(|name| number(&json, name));
    assert_eq!(parts.iter().sum::<u64>(), number(&json, "total_bytes"));
    let text = inspect(&[]);
    assert!(text.contains(&number(&json, "total_bytes").to_string()), "{text}");
    let engine = number(&json, "engine_bytes") as usize;
    let less = inspect(&["--json", "--memory", &(engine - (1 << 10)).to_string()]);
    assert!(number(&less, "engine_bytes") < engine as u64);
    assert!(number(&json, "draft_bytes") == 0 && !text.contains("draft"), "{text}");
    // A model that guesses takes its weights, its tokenizer, and memory of the engine.
    let guessing = inspect(&["--json", "--speculate", &model]);
    let draft = number(&guessing, "draft_bytes");
    assert!(draft > 0 && number(&guessing, "engine_bytes") >= engine as u64 + draft);
    assert_eq!(number(&guessing, "weight_bytes"), 2 * number(&json, "weight_bytes"));
    assert!(inspect(&["--speculate", &model]).contains(&draft.to_string()));
    let session = ["inspect", &model, "--speculate", &model];
    assert!(ok(&teff(session)).contains("\ndraft "), "of a session too");
    let more = inspect(&["--json", "--parallel", "64"]);
    assert!(number(&more, "page_bytes") > number(&json, "page_bytes"));
    let refused = teff(["inspect", &model, "--serve", "--memory", "10KiB"]);
    fails(&refused, 1, &["--memory"]);
    assert!(!err(&refused).is_empty());
}
