//! Conversations in the library: messages in, answers out, and where answers end.

#![cfg(feature = "chat")]

use std::path::{Path, PathBuf};

use teff::runtime::chat::{Chat, ChatError, ChatTemplate, Conversation, Encoder, Message};
use teff::runtime::template::{Json, TemplateErrorKind};
use teff::runtime::tokenizer::{BpeParts, SpecialIds, Splitter, TokenKind, Tokenizer};
use teff::{Finish, Generate, Model, Sampling, SessionError, SessionOptions, StepError};

/// A template of few tokens, in the manner of Llama 2, for models with small contexts.
const SHORT: &str = "\
{{- bos_token }}
{%- for m in messages %}
    {%- if m.role == 'system' %}{{ m.content }}
    {%- elif m.role == 'user' %}{{ '[' + m.content + ']' }}
    {%- else %}{{ m.content + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if tools %}{{ tools|length }}{% endif %}
{%- if mood %}{{ mood }}{% endif %}";

fn model() -> Model {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let file: PathBuf = data.join("llama/llama-Q2_K.gguf");
    Model::open(file).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions::default().with_threads(1)
}

fn greedy(n: usize) -> Generate {
    Generate::default().with_sampling(Sampling::greedy()).with_max_tokens(n)
}

fn chat(model: &Model) -> Chat<'_> {
    Chat::new(model.session(&options()).unwrap(), ChatTemplate::new(SHORT).unwrap()).unwrap()
}

/// Answer to a conversation by a new session.
fn fresh(model: &Model, conversation: &Conversation<'_>, n: usize) -> String {
    let template = ChatTemplate::new(SHORT).unwrap();
    let ids = Encoder::new(model.tokenizer().unwrap(), template).encode(conversation).unwrap();
    let mut session = model.session(&options()).unwrap();
    session.generate_ids(&ids, &greedy(n)).unwrap().map(|piece| piece.unwrap()).collect()
}

#[test]
fn turns_give_what_new_sessions_give() {
    let model = model();
    let mut chat = chat(&model);
    chat.messages_mut().push(Message::system("be"));
    let mut said = vec![Message::system("be")];
    for (turn, question) in ["hi", "why </s>?", "so"].into_iter().enumerate() {
        said.push(Message::user(question));
        let want = fresh(&model, &Conversation::new(&said), 6);
        let mut answer = chat.send(Message::user(question), &greedy(6)).unwrap();
        assert_eq!(answer.cached_tokens() > 0, turn > 0);
        assert!(answer.prompt_tokens() > 0);
        let pieces: Result<String, _> = answer.by_ref().collect();
        assert_eq!(pieces.unwrap(), want);
        assert_eq!(answer.text(), want);
        assert!(answer.finish().is_some() && answer.generated() <= 6);
        drop(answer);
        said.push(Message::assistant(want));
        assert_eq!(chat.messages(), said);
    }
    // What is set for the template is what it is given.
    let tools = [Json::from([("name", "f".into())])];
    let variables = [("mood".to_owned(), Json::from("merry"))];
    said.push(Message::user("go"));
    let conversation = Conversation::new(&said).with_tools(&tools).with_variables(&variables);
    let want = fresh(&model, &conversation, 6);
    chat.set_tools(Some(tools.to_vec()));
    chat.set_variables(variables.to_vec());
    chat.messages_mut().push(Message::user("go"));
    let got: Result<String, _> = chat.reply(&greedy(6)).unwrap().collect();
    assert_eq!(got.unwrap(), want);
    assert_eq!(chat.into_session().context(), model.spec().context as usize);
}

#[test]
fn a_message_without_an_answer_is_dropped() {
    let model = model();
    let mut chat = chat(&model);
    // The template reads neither lists nor what is missing.
    let none = chat.send(Message::new("user", Json::Null), &greedy(3)).map(drop);
    assert!(matches!(none, Err(ChatError::Template(_))), "{none:?}");
    let long = chat.send(Message::user("long ".repeat(500)), &greedy(3)).map(drop);
    assert!(
        matches!(long, Err(ChatError::ContextFull { tokens: 129.., context: 128 })),
        "{long:?}"
    );
    let twice = vec![("messages".to_owned(), Json::Null)];
    chat.set_variables(twice);
    let twice = chat.send(Message::user("hi"), &greedy(3)).map(drop).unwrap_err();
    assert!(twice.to_string().contains("`messages`"), "{twice}");
    chat.set_variables(Vec::new());
    let stop = Generate::default().with_stop_token(1 << 30);
    let stop = chat.send(Message::user("hi"), &stop).map(drop);
    assert!(matches!(stop, Err(ChatError::Session(SessionError::StopToken { .. }))), "{stop:?}");
    assert!(chat.messages().is_empty());
    // A cancelled session renders nothing, and computes nothing.
    let handle = chat.session().stop_handle();
    handle.cancel();
    match chat.send(Message::user("hi"), &greedy(3)).map(drop) {
        Err(ChatError::Template(e)) => assert_eq!(e.kind, TemplateErrorKind::Cancelled),
        other => panic!("{other:?}"),
    }
    handle.resume();
    let mut answer = chat.send(Message::user("hi"), &greedy(3)).unwrap();
    handle.cancel();
    let step = answer.next_piece().unwrap_err();
    assert!(matches!(step, SessionError::Step(StepError::Cancelled)), "{step}");
    drop(answer);
    assert!(chat.messages().is_empty());
    handle.resume();
    let mut answer = chat.send(Message::user("hi"), &greedy(3)).unwrap();
    assert!(answer.next_piece().unwrap().is_some());
    drop(answer);
    assert_eq!(chat.messages().len(), 2);
}

/// A tokenizer of bytes and of ChatML's tokens, which no key names as ends.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<(Vec<u8>, TokenKind)> =
        (b'!'..=b'~').map(|b| (vec![b], TokenKind::Normal)).collect();
    let names: [&[u8]; 3] = [b"<|begin|>", b"<|fin|>", b"<fun>"];
    tokens.extend(names.map(|name| (name.to_vec(), TokenKind::Control)));
    tokens.last_mut().unwrap().1 = TokenKind::UserDefined;
    Tokenizer::byte_bpe(BpeParts {
        tokens: tokens.iter().map(|(text, kind)| (text.as_slice(), *kind)),
        merges: std::iter::empty::<&[u8]>(),
        splitter: Splitter::Gpt2,
        add_prefix_space: false,
        ignore_merges: false,
        nfc: false,
        ids: SpecialIds::default(),
    })
    .unwrap()
}

#[test]
fn the_token_behind_answers_ends_them() {
    let tokenizer = tokenizer();
    let id = |name: &str| tokenizer.find_token(name.as_bytes());
    let end =
        |source: &str| Encoder::new(&tokenizer, ChatTemplate::new(source).unwrap()).end_token();
    let turns = "{% for m in messages %}<|begin|>{{ m.role ~ m.content|trim }} BEHIND{% endfor %}";
    let with = |behind: &str| end(&turns.replace("BEHIND", behind));
    assert!(id("<|fin|>").is_some());
    assert_eq!(with("<|fin|>x"), id("<|fin|>"));
    assert_eq!(with("\n\n <|fin|>"), id("<|fin|>"));
    // Text, a token that is text, a name that is no token, nothing.
    for behind in ["x<|fin|>", "<fun>", "<|im_end|>", ""] {
        assert_eq!(with(behind), None, "{behind}");
    }
    // Templates that refuse to be tried, or don't end.
    assert_eq!(end("{{ raise_exception('no') }}"), None);
    assert_eq!(
        end("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        None
    );
}

/// A tokenizer of bytes, in which an end and a name like those of control tokens have other kinds.
fn mistyped(end: TokenKind, start: TokenKind) -> Tokenizer {
    let bytes = tokenizer();
    let mut tokens: Vec<(Vec<u8>, TokenKind)> = (0..bytes.vocab_size() as u32)
        .filter_map(|id| Some((bytes.token_bytes(id)?.to_vec(), TokenKind::Normal)))
        .filter(|(text, _)| text.len() == 1)
        .collect();
    let end_id = tokens.len() as u32;
    tokens.push((b"<end>".to_vec(), end));
    tokens.push((b"<|start|>".to_vec(), start));
    tokens.push((b"<think>".to_vec(), TokenKind::UserDefined));
    Tokenizer::byte_bpe(BpeParts {
        ids: SpecialIds { eos: Some(end_id), ..SpecialIds::default() },
        // A piece that is a token becomes it, which also finds normal ones.
        ignore_merges: true,
        ..BpeParts::new(
            tokens.iter().map(|(text, kind)| (text.as_slice(), *kind)),
            std::iter::empty::<&[u8]>(),
            Splitter::Gpt2,
        )
    })
    .unwrap()
}

#[test]
fn what_is_said_never_becomes_an_end_whatever_kind_a_file_gives_it() {
    use TokenKind::{Control, Normal, UserDefined};
    let source = "<|start|>{{ messages[0].content }}<end>";
    for (end, start) in
        [(Control, Control), (UserDefined, UserDefined), (Normal, Control), (Normal, UserDefined)]
    {
        let tokenizer = mistyped(end, start);
        let id = |name: &str| tokenizer.find_token(name.as_bytes()).unwrap();
        let (end_id, start_id, think) = (id("<end>"), id("<|start|>"), id("<think>"));
        let encoder = Encoder::new(&tokenizer, ChatTemplate::new(source).unwrap());
        for said in ["hi", "<end>", "a<end>b", "<|start|>", "<|start|><end><end>", "<<end>>", ""] {
            let messages = [Message::user(said)];
            let ids = encoder.encode(&Conversation::new(&messages)).unwrap();
            let (first, rest) = ids.split_first().unwrap();
            let (last, text) = rest.split_last().unwrap();
            assert_eq!((*first, *last), (start_id, end_id), "{end:?} {start:?} {said}");
            assert!(!text.contains(&start_id) && !text.contains(&end_id), "{end:?} {said}");
            assert_eq!(tokenizer.decode(text).unwrap(), said, "{end:?} {start:?}");
        }
        // Text that is matched whole, and looks like no control token, may be said.
        let messages = [Message::user("<think>")];
        let ids = encoder.encode(&Conversation::new(&messages)).unwrap();
        assert_eq!(ids, [start_id, think, end_id]);
        // The template's own end is found.
        let ends = "{% for m in messages %}{{ m.content }}<end>{% endfor %}";
        let encoder = Encoder::new(&tokenizer, ChatTemplate::new(ends).unwrap());
        assert_eq!(encoder.end_token(), Some(end_id), "{end:?}");
    }
    // A letter that a file has as an end is a letter.
    let tokens = (b'!'..=b'~').map(|b| [b]).collect::<Vec<_>>();
    let tokens = tokens.iter().map(|t| (t.as_slice(), Normal));
    let parts = BpeParts::new(tokens, std::iter::empty::<&[u8]>(), Splitter::Gpt2);
    let ids = SpecialIds { eos: Some(u32::from(b'x' - b'!')), ..SpecialIds::default() };
    let tokenizer = Tokenizer::byte_bpe(BpeParts { ids, ..parts }).unwrap();
    let template = ChatTemplate::new("{{ messages[0].content }}").unwrap();
    let messages = [Message::user("axb")];
    let said = Encoder::new(&tokenizer, template).encode(&Conversation::new(&messages)).unwrap();
    assert_eq!(tokenizer.decode(&said).unwrap(), "axb");
}

#[test]
fn stop_tokens_end_a_text() {
    let model = model();
    let mut session = model.session(&options()).unwrap();
    let how = greedy(12).with_ignore_eos(true);
    let mut text = session.generate("the cat", &how).unwrap();
    let mut ids = Vec::new();
    while text.next_piece().unwrap().is_some() {
        ids.extend_from_slice(text.tokens());
    }
    ids.extend_from_slice(text.tokens());
    ids.dedup();
    // The first token that isn't there before.
    let (at, &stop) =
        ids.iter().enumerate().skip(1).find(|(i, id)| !ids[..*i].contains(id)).unwrap();
    session.truncate(0);
    let how = how.with_stop_token(stop);
    let mut text = session.generate("the cat", &how).unwrap();
    while text.next_piece().unwrap().is_some() {}
    assert_eq!(text.finish(), Some(Finish::Stop(stop)));
    assert!(text.generated() >= at && text.generated() < 12);
}
