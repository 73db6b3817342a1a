//! Arbitrary text as a chat template: parsed, rendered with small limits, and the text of the
//! conversation turned into tokens.

use std::hint::black_box;
use std::sync::OnceLock;

use super::super::{Counting, tiny_gguf};
use teff_kernels::Format;
use teff_runtime::chat::{ChatTemplate, Conversation, Encoder, Message, SpecialTokens};
use teff_runtime::template::{Json, TemplateErrorKind, TemplateLimits};
use teff_runtime::{LoadOptions, Model};

/// Memory of values that a rendering may take.
const MEMORY: usize = 1 << 20;

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let file = tiny_gguf(Format::Q8_0, false);
        Model::from_bytes(file, &LoadOptions::default()).expect("a model of ours")
    })
}

/// Checks one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Behind a NUL: what a user says.
    let (source, said) = text.split_once('\0').unwrap_or((text, "he <|endoftext|> he"));
    let limits = TemplateLimits::default()
        .with_steps(200_000)
        .with_memory(MEMORY)
        .with_output(1 << 16)
        .with_calls(50);
    let tokenizer = model().tokenizer().expect("a tokenizer of ours");
    let messages = [
        Message::system("be brief"),
        Message::user(said),
        Message::assistant("yes").with("reasoning", "why not").with("tool_calls", Json::Null),
    ];
    let tools = [Json::from([("name", "f".into()), ("strict", true.into())])];
    let (parsed, parsing) = Counting::peak_of(|| ChatTemplate::with_limits(source, &limits));
    // A token takes up to some hundred bytes, and so does what it is compiled to.
    assert!(parsing <= (1 << 20) + source.len() * 2000, "{parsing} bytes");
    let template = match parsed {
        Ok(template) => template,
        Err(e) => {
            assert!(!matches!(e.kind, TemplateErrorKind::Internal(_)), "{e}");
            return;
        }
    };
    let conversation = Conversation::new(&messages).with_tools(&tools);
    let special = SpecialTokens::of(tokenizer);
    let (rendered, rendering) = Counting::peak_of(|| template.render(&conversation, &special));
    assert!(rendering <= 8 * MEMORY + source.len() * 2000, "{rendering} bytes");
    match rendered {
        Ok(text) => assert!(text.len() <= 1 << 16),
        Err(e) => assert!(!matches!(e.kind, TemplateErrorKind::Internal(_)), "{e}"),
    }
    let encoder = Encoder::new(tokenizer, template);
    black_box(encoder.encode(&conversation).is_ok());
}
