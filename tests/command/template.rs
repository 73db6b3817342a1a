//! The command `teff template`: it prints what a chat template makes of messages, byte for byte.

#![cfg(feature = "chat")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::command::{Dir, fails, ok, piped, teff};
use crate::common::data;

fn gguf() -> String {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    data.join("llama/llama-Q2_K.gguf").to_str().unwrap().into()
}

/// A folder with a model without weights, and its files.
fn folder(dir: &Dir) -> PathBuf {
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(data(name), dir.0.join(name)).unwrap();
    }
    dir.0.clone()
}

const MESSAGES: &str = r#"[{"role": "user", "content": " Hi! <|x|>é", "name": null},
    {"role": "assistant", "content": null, "reasoning": "r", "tool_calls": [{"function": {"z": 1, "a": [true, null]}}]}]"#;

#[test]
fn messages_become_what_the_template_makes_of_them() {
    let dir = Dir::new("template");
    let (model, messages) = (gguf(), dir.write("m.json", MESSAGES.as_bytes()));
    let tools = dir.write("tools.json", br#"[{"type": "function", "function": {"name": "f"}}]"#);
    let template = |source: &str, more: &[&str]| {
        let file = dir.write("t.jinja", source.as_bytes());
        let args = ["template", &model, "--messages", &messages, "--chat-template", &file];
        ok(&teff([&args[..], more].concat())).to_owned()
    };
    let source =
        "{% for m in messages %}\r\n{{ m|tojson }}\r\n{% endfor %}{{ tools }}{{ documents }}";
    let want = "{\"role\": \"user\", \"content\": \" Hi! <|x|>é\"}\n{\"thinking\": \"r\", \
                \"role\": \"assistant\", \"reasoning\": \"r\", \"tool_calls\": [{\"function\": \
                {\"z\": 1, \"a\": [true, null]}}], \"reasoning_content\": \"r\"}\nNoneNone";
    assert_eq!(template(source, &[]), want);
    let source = "{{ tools|tojson }}{{ add_generation_prompt }}{{ mood }}";
    let want = "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]Truemerry";
    let mood = ["--kwargs", "{\"mood\": \"merry\"}"];
    assert_eq!(template(source, &[&["--tools", &tools], &mood[..]].concat()), want);
    assert_eq!(
        template(source, &["--tools", &tools, "--no-generation-prompt"]).len(),
        want.len() - 4
    );
    // Names of special tokens are the model's, and nothing is added at the end.
    assert_eq!(template("{{ bos_token }}|{{ eos_token }}\n\n", &[]), "<s>|</s>\n");
    // By a pipe, and by a built-in name.
    let args = ["template", &model, "--messages", "-", "--chat-template", "chatml"];
    let hi = br#"[{"role": "user", "content": "Hi!"}]"#;
    let want = "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(ok(&piped(args, hi)), want);
    // Documents are what transformers takes apart from other variables.
    let documents = ["--kwargs", r#"{"mood": 1, "documents": [{"title": "t"}]}"#];
    assert_eq!(template("{{ documents }}{{ mood }}", &documents), "[{'title': 't'}]1");
    let marked =
        dir.write("mark.json", b"\xef\xbb\xbf[{\"role\": \"user\", \"content\": \"Hi!\"}]");
    let mark = ["template", &model, "--messages", &marked, "--chat-template", "chatml"];
    assert_eq!(ok(&teff(mark)), want);
    // Tools that the template has no place for are not dropped in silence.
    let out = teff([&mark[..], &["--tools", &tools]].concat());
    assert_eq!((out.status.code(), out.stdout), (Some(0), want.into()));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no tools"));
    let pipe = ["template", "-m", &model, "--messages", &messages, "--chat-template", "-"];
    assert_eq!(ok(&piped(pipe, b"{{ messages|length }}")), "2");
}

#[test]
fn a_model_needs_neither_weights_nor_a_known_architecture() {
    let dir = Dir::new("template-folder");
    let folder = folder(&dir);
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    fs::write(folder.join("config.json"), config.replace("gpt2", "unheard-of")).unwrap();
    let path = folder.to_str().unwrap();
    let messages = dir.write("m.json", br#"[{"role": "user", "content": "Hi!"}]"#);
    let template =
        |more: &[&str]| teff([&["template", path, "--messages", &messages][..], more].concat());
    fails(&template(&[]), 1, &["no chat template", "--chat-template"]);
    let several = r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#;
    dir.write("tokenizer_config.json", several.as_bytes());
    let tools = dir.write("tools.json", b"[]");
    assert_eq!(ok(&template(&[])), "d");
    assert_eq!(ok(&template(&["--tools", &tools])), "t");
    assert_eq!(ok(&template(&["--chat-template", "tool_use"])), "t");
    // Files come before the configuration, and those of the folder before the single one.
    dir.write("chat_template.jinja", b"file");
    assert_eq!(ok(&template(&["--tools", &tools])), "file");
    fs::create_dir(folder.join("additional_chat_templates")).unwrap();
    dir.write("additional_chat_templates/rag.jinja", b"rag");
    assert_eq!(ok(&template(&["--chat-template", "rag"])), "rag");
    assert_eq!(ok(&template(&[])), "file");
    dir.write("additional_chat_templates/default.jinja", b"more");
    assert_eq!(ok(&template(&[])), "more");
    let unknown = template(&["--chat-template", "nothing"]);
    fails(&unknown, 1, &["nothing", "chatml", "llama3", "rag"]);
}

#[test]
fn templates_see_the_special_tokens_of_a_folder() {
    let dir = Dir::new("template-tokens");
    let folder = folder(&dir);
    let path = folder.to_str().unwrap();
    let messages = dir.write("m.json", br#"[{"role": "user", "content": "Hi!"}]"#);
    let source = b"{{ [bos_token is defined, eos_token, pad_token, image_token, boi] }}";
    dir.write("chat_template.jinja", source);
    let config = r#"{"bos_token": null, "pad_token": {"content": "<pad>"}, "image_token": "<img>",
        "extra_special_tokens": {"boi": "<boi>"}, "add_bos_token": false}"#;
    dir.write("tokenizer_config.json", config.as_bytes());
    dir.write("special_tokens_map.json", br#"{"eos_token": "<|endoftext|>", "pad_token": "<p>"}"#);
    let out = teff(["template", path, "--messages", &messages]);
    assert_eq!(ok(&out), "[False, '<|endoftext|>', '<p>', '<img>', '<boi>']");
    // An empty template writes nothing, whatever the configuration has.
    dir.write("chat_template.jinja", b"");
    dir.write("tokenizer_config.json", br#"{"chat_template": "config"}"#);
    assert_eq!(ok(&teff(["template", path, "--messages", &messages])), "");
}

#[test]
fn what_is_wrong_is_named() {
    let dir = Dir::new("template-wrong");
    let model = gguf();
    let good = dir.write("m.json", br#"[{"role": "user", "content": "Hi!"}]"#);
    let bad = |name: &str, json: &str| dir.write(name, json.as_bytes());
    let with = |messages: &str, more: &[&str]| {
        teff([&["template", &model, "--messages", messages][..], more].concat())
    };
    fails(&teff(["template", &model]), 2, &["--messages"]);
    fails(&teff(["template"]), 2, &["no model"]);
    fails(&with("nowhere.json", &[]), 1, &["nowhere.json"]);
    fails(&with(&bad("a.json", "{}"), &[]), 1, &["a.json", "array of messages"]);
    fails(&with(&bad("b.json", "[1]"), &[]), 1, &["b.json", "message 0"]);
    fails(&with(&bad("c.json", r#"[{"content": "x"}]"#), &[]), 1, &["c.json", "role"]);
    fails(&with(&bad("d.json", "[{"), &[]), 1, &["d.json", "byte"]);
    fails(&with(&bad("f.json", " \n"), &[]), 1, &["f.json", "empty", "array of messages"]);
    fails(&with(&bad("g.json", "[]"), &[]), 1, &["g.json", "no message"]);
    let body = format!("{{\"messages\": {}}}", r#"[{"role": "user", "content": "Hi!"}]"#);
    fails(&with(&bad("h.json", &body), &[]), 1, &["h.json", "behind \"messages\""]);
    fails(&with(&bad("i.json", r#"[{"role": 5}]"#), &[]), 1, &["i.json", "role", "text"]);
    fails(&with("[{}]", &[]), 1, &["[{}]", "name of a file"]);
    let none = piped(["template", &model, "--messages", "-"], b"");
    fails(&none, 1, &["standard input", "empty"]);
    fails(&with(&good, &["--tools", &bad("j.json", "[\"f\"]")]), 1, &["j.json", "tool 0"]);
    fails(&with(&good, &["--tools", &bad("e.json", "{}")]), 1, &["e.json", "array"]);
    fails(&with(&good, &["--kwargs", "[]"]), 2, &["--kwargs"]);
    fails(
        &with(&good, &["--kwargs", r#"{"messages": 1}"#, "--chat-template", "chatml"]),
        2,
        &["--kwargs", "`messages`", "--messages"],
    );
    fails(&with(&good, &["--kwargs", r#"{"documents": 1}"#]), 2, &["--kwargs", "`documents`"]);
    fails(&with(&good, &["--chat-template", ""]), 2, &["--chat-template", "empty"]);
    fails(&with(&good, &["--chat-template", "{{ messages }}"]), 2, &["into a file"]);
    fails(&with(&good, &["--chat-template", "Llama-3"]), 1, &["Llama-3", "did you mean llama3?"]);
    fails(&with(&good, &["--chat-template", "-", "--tools", "-"]), 2, &["standard input"]);
    fails(&with(&good, &["--chat-template", "./none.jinja"]), 1, &["none.jinja"]);
    fails(&teff(["template", "Owner/Repo", "--messages", &good]), 1, &["hf download"]);
    fails(&teff(["template", "nowhere.gguf", "--messages", &good]), 1, &["nowhere.gguf"]);
    let refuses = bad("t.jinja", "\n{{ raise_exception('not today') }}");
    fails(&with(&good, &["--chat-template", &refuses]), 1, &["line 2", "not today"]);
    let syntax = bad("u.jinja", "{% if %}");
    fails(&with(&good, &["--chat-template", &syntax]), 1, &["u.jinja", "line 1", "syntax"]);
}
