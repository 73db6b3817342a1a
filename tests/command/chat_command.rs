//! The command `teff chat`: lines in, answers out.

#![cfg(feature = "chat")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::common::command::Dir;
use teff::runtime::chat::{ChatTemplate, Conversation, Encoder, Message};
use teff::{Generate, Model, Sampling, SessionOptions};

/// A template of few tokens, in the manner of Llama 2, for models with small contexts.
const SHORT: &str = "\
{{- bos_token }}
{%- for m in messages %}
    {%- if m.role == 'system' %}{{ m.content }}
    {%- elif m.role == 'user' %}{{ '[' + m.content + ']' }}
    {%- else %}{{ m.content + eos_token }}
    {%- endif %}
{%- endfor %}";

const MODELS: [&str; 2] = ["llama/llama-Q2_K.gguf", "qwen2/qwen2-Q4_0.gguf"];

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Greedy answer of a fresh session.
fn fresh(model: &Model, messages: &[Message], max_tokens: usize) -> String {
    let template = ChatTemplate::new(SHORT).unwrap();
    let encoder = Encoder::new(model.tokenizer().unwrap(), template);
    let ids = encoder.encode(&Conversation::new(messages)).unwrap();
    let options = SessionOptions::default().with_threads(1);
    let mut session = model.session(&options).unwrap();
    let greedy = Generate::default().with_sampling(Sampling::greedy()).with_max_tokens(max_tokens);
    let pieces = session.generate_ids(&ids, &greedy).unwrap();
    pieces.map(|piece| piece.unwrap()).collect()
}

/// Runs `teff chat MODEL ARGS` with `input` on standard input.
fn chat(model: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_teff"))
        .arg("chat")
        .arg(model)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command may exit before it reads everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_line_gets_an_answer() {
    let dir = Dir::new("chat-lines");
    let template = dir.write("short.jinja", SHORT.as_bytes());
    for file in MODELS {
        let model = Model::open(own(file)).unwrap();
        let mut messages = vec![Message::system("be")];
        let mut want = String::new();
        for question in ["hi", "why </s>?"] {
            messages.push(Message::user(question));
            let answer = fresh(&model, &messages, 5);
            want.push_str(&answer);
            want.push_str(if answer.ends_with('\n') { "" } else { "\n" });
            messages.push(Message::assistant(answer));
        }
        let args = [
            "--chat-template",
            &template,
            "--system",
            "be",
            "-n",
            "5",
            "--greedy",
            "--threads",
            "2",
            "--stats",
        ];
        let out = chat(&own(file), &args, "hi\n\nwhy </s>?");
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert_eq!(text(&out.stdout), want);
        let stats = text(&out.stderr);
        assert_eq!(stats.lines().count(), 1, "{stats}");
        for part in
            ["{\"load_ms\":", "\"answers\":2,\"failed\":0,", "\"decode_tps\":", "\"context\":128}"]
        {
            assert!(stats.contains(part), "{stats}");
        }
        assert!(!stats.contains("\"cached_tokens\":0,"), "{stats}");
        // A message on the command line is the first, and a single turn is possible.
        let first = [&args[..9], &["-p", "hi"]].concat();
        let out = chat(&own(file), &first, "why </s>?\n");
        assert_eq!(text(&out.stdout), want);
        assert!(text(&out.stderr).starts_with("teff: 2 answers; tokens: "), "{out:?}");
        let single = chat(&own(file), &[&first[..], &["--single-turn"]].concat(), "never read\n");
        assert!(want.starts_with(text(&single.stdout)) && single.stdout.len() < want.len());
        // A cleared conversation is a new one, and nothing is written after its end.
        let twice = chat(&own(file), &args[..9], "hi\n/clear\nhi\n/exit\nhi\n");
        assert_eq!(text(&twice.stdout), text(&single.stdout).repeat(2));
    }
}

#[test]
fn what_fails_is_said() {
    let fails = |out: &Output, code: i32, part: &str| {
        let err = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{err}");
        assert!(err.contains(part) && err.lines().all(|l| l.starts_with("teff: ")), "{err}");
    };
    let dir = Dir::new("chat-fails");
    let model = own(MODELS[0]);
    fails(&chat(&model, &[], "hi\n"), 1, "--chat-template");
    fails(&chat(&model, &["--chat-template", "/nowhere"], "hi\n"), 1, "/nowhere");
    let bad = dir.write("bad.jinja", b"a\n{% if %}");
    fails(&chat(&model, &["--chat-template", &bad], "hi\n"), 1, "line 2");
    let refuses = dir.write("no.jinja", b"\n{{ raise_exception('not today') }}");
    fails(
        &chat(&model, &["--chat-template", &refuses], "hi\n"),
        1,
        "line 2, refuses the conversation: not today",
    );
    // Variables reach the template; those of the conversation itself can't be given.
    let mood = dir.write("mood.jinja", b"{{ raise_exception(mood ~ documents[0].title) }}");
    let given = r#"{"mood": "merry ", "documents": [{"title": "tale"}]}"#;
    for name in ["--kwargs", "--chat-template-kwargs"] {
        let args = ["--chat-template", &mood, name, given];
        fails(&chat(&model, &args, "hi\n"), 1, "refuses the conversation: merry tale");
        let args = ["--chat-template", &mood, name, r#"{"tools": []}"#];
        fails(&chat(&model, &args, "hi\n"), 2, "can't set `tools` in a conversation");
    }
    // A full context is not the end: the rest is answered.
    let short = dir.write("short.jinja", SHORT.as_bytes());
    let long = format!("{}\n/clear\nhi\n", "long ".repeat(60));
    let args = ["--chat-template", &short, "--ctx", "24", "--greedy", "-n", "3"];
    let out = chat(&model, &args, &long);
    fails(&out, 1, "/clear");
    assert!(!out.stdout.is_empty() && text(&out.stderr).contains("1 answer;"), "{out:?}");
    // An answer that does not fit ends, and is kept.
    let out = chat(&model, &["--chat-template", &short, "--ctx", "12", "--greedy"], "hi\n");
    assert_eq!(out.status.code(), Some(0));
    fails(&chat(&model, &["--chat-template", &short, "--top-p", "7"], ""), 2, "--top-p");
    fails(&chat(&model, &["--chat-template", &short, "--head", "F32"], ""), 2, "--head");
    let none = chat(&model, &["--chat-template", &short], "");
    assert_eq!((none.status.code(), none.stdout.len()), (Some(0), 0));
}

/// `teff chat` on a terminal created by util-linux' `script`; `None` if there is no such program.
struct Terminal {
    child: Child,
    input: ChildStdin,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn chat(model: &Path, template: &str) -> Option<Terminal> {
        let teff = env!("CARGO_BIN_EXE_teff");
        // `exec`, since a remaining shell would get Ctrl-C too, and some then exit because of it.
        let line = format!("exec '{teff}' chat '{}' --chat-template '{template}'", model.display());
        let script = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = script.ok()?;
        let (send, output) = mpsc::channel();
        let mut from = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                let _ = send.send(bytes[..n].to_vec());
            }
        });
        let input = child.stdin.take().unwrap();
        Some(Terminal { child, input, output, seen: String::new() })
    }

    fn press(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `what` has been written `times` times.
    fn wait(&mut self, what: &str, times: usize) {
        while self.seen.matches(what).count() < times {
            self.more();
        }
    }

    /// Waits until something has been written.
    fn more(&mut self) {
        let more = self.output.recv_timeout(Duration::from_secs(60));
        let more = more.unwrap_or_else(|e| panic!("nothing more, {e}: {:?}", self.seen));
        self.seen.push_str(&String::from_utf8_lossy(&more));
    }

    fn end(mut self) -> bool {
        self.wait("kept from before", 1);
        self.child.wait().unwrap().success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ctrl_c_ends_an_answer_and_twice_the_program() {
    let dir = Dir::new("chat-terminal");
    let (model, template) = (own(MODELS[0]), dir.write("short.jinja", SHORT.as_bytes()));
    let Some(mut terminal) = Terminal::chat(&model, &template) else {
        println!("skipped: there is no program `script`, which makes terminals");
        return;
    };
    terminal.wait("> ", 1);
    terminal.press("hi\n");
    // During the answer or after it: the conversation continues. Not before, since Ctrl-C discards
    // everything that was typed and not yet read.
    terminal.wait("hi\r\n", 1);
    while terminal.seen.ends_with("hi\r\n") {
        terminal.more();
    }
    terminal.press("\x03");
    terminal.wait("> ", 2);
    terminal.press("/exit\n");
    assert!(terminal.end());

    let mut terminal = Terminal::chat(&model, &template).unwrap();
    terminal.wait("> ", 1);
    // Between the prompt and the read, a signal is counted, but nothing is printed.
    std::thread::sleep(Duration::from_secs(1));
    terminal.press("\x03");
    terminal.wait("once more", 1);
    terminal.wait("> ", 2);
    std::thread::sleep(Duration::from_secs(1));
    terminal.press("\x03");
    assert!(terminal.end());
}
