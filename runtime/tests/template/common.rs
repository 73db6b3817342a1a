//! Variables of the tests, and what they expect.

use teff_runtime::template::{Json, RenderOptions, Template, TemplateError, TemplateErrorKind};

/// Variables that all templates see.
const VARIABLES: &str = r#"{
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": {"z": 1, "a": [true, null, 2.5]}}}
        ]}
    ],
    "tools": null, "documents": null, "add_generation_prompt": true,
    "bos_token": "<s>", "eos_token": "</s>",
    "number": 7, "float": 2.5, "text": "Hello, World", "list": [3, 1, 2],
    "people": [{"name": "ann", "age": 30}, {"name": "Bob", "age": 25}, {"name": "cy"}],
    "odd": "a\r\nb\u000bc\u2028d\u001c"
}"#;

/// 30 November 2026, 00:53:20.
const NOW: i64 = 1_796_000_000;

pub(crate) fn render(source: &str) -> Result<String, TemplateError> {
    render_with(source, &RenderOptions::default())
}

pub(crate) fn render_with(
    source: &str,
    options: &RenderOptions<'_>,
) -> Result<String, TemplateError> {
    let Json::Object(variables) = Json::parse(VARIABLES.as_bytes()).unwrap() else { panic!() };
    let variables: Vec<(&str, &Json)> = variables.iter().map(|(k, v)| (k.as_str(), v)).collect();
    Template::parse(source)?.render_with(&variables, &options.with_now(NOW))
}

/// All templates write these texts.
#[track_caller]
pub(crate) fn renders(all: &[(&str, &str)]) {
    for (source, want) in all {
        assert_eq!(render(source).as_deref(), Ok(*want), "{source}");
    }
}

/// All templates are refused, with a line, and not for what this engine alone refuses.
#[track_caller]
pub(crate) fn refuses(all: &[&str]) {
    for source in all {
        let e = render(source).expect_err(source);
        assert!(e.line.is_some(), "{source}: {e}");
        let own = matches!(e.kind, TemplateErrorKind::Internal(_) | TemplateErrorKind::Limit(_));
        assert!(!own, "{source}: {e}");
    }
}
