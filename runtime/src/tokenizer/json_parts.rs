//! The components of tokenizer.json around the model: normalizer, pre-tokenizer, post-processor.
//!
//! Each is an object with a `type`, or a Sequence of several. A small set of combinations is
//! supported; all others are refused by name.

use super::json_files::{Doc, unsupported};
use super::{Splitter, TokenizerError};
use crate::json::Event;

type Result<T> = std::result::Result<T, TokenizerError>;

const NORMALIZER: &str = "normalizer";
const PRE: &str = "pre-tokenizer";
const POST: &str = "post-processor";

/// The elements of a Sequence, an array under `key`, with their types.
fn members<'a>(
    mut doc: Doc<'a>,
    key: &str,
    want: &'static str,
    missing: &'static str,
) -> Result<Vec<(String, Doc<'a>)>> {
    // More than any supported combination has, which is enough to recognise others.
    const MAX_ELEMENTS: usize = 4;
    doc.object(want)?;
    while let Some(found) = doc.key()? {
        if !found.is(key) {
            doc.skip()?;
            continue;
        }
        doc.array(want)?;
        let mut all = Vec::new();
        while all.len() < MAX_ELEMENTS {
            let mut peek = doc.clone();
            if peek.next(want)? == Event::ArrayEnd {
                break;
            }
            let name = doc.kind(want)?.unwrap_or_else(|| "null".into());
            all.push((name, doc.bookmark()?));
        }
        return Ok(all);
    }
    Err(doc.missing(missing))
}

/// `Sequence of A, B`.
fn sequence_of(members: &[(String, Doc<'_>)]) -> String {
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    format!("Sequence of {}", names.join(", "))
}

/// Reads a normalizer: true if texts are normalised to form C.
pub(super) fn normalizer(doc: Doc<'_>) -> Result<bool> {
    let want = "null or a normalizer";
    match doc.kind(want)?.as_deref() {
        None => Ok(false),
        Some("NFC") => Ok(true),
        Some("Sequence") => {
            let all = members(doc, "normalizers", want, "normalizer.normalizers")?;
            match &all[..] {
                [] => Ok(false),
                [(name, _)] if name == "NFC" => Ok(true),
                _ => unsupported(NORMALIZER, sequence_of(&all)),
            }
        }
        Some(name) => unsupported(NORMALIZER, name),
    }
}

/// How texts are split.
#[derive(Clone, Copy)]
pub(super) struct PreTokenizer {
    pub(super) splitter: Splitter,
    pub(super) add_prefix_space: bool,
}

pub(super) fn pre_tokenizer(mut doc: Doc<'_>) -> Result<PreTokenizer> {
    let want = "null or a pre-tokenizer";
    match doc.kind(want)?.as_deref() {
        Some("ByteLevel") => match byte_level(&mut doc)? {
            (true, add_prefix_space) => {
                Ok(PreTokenizer { splitter: Splitter::Gpt2, add_prefix_space })
            }
            (false, _) => unsupported(PRE, "ByteLevel with use_regex false"),
        },
        Some("Sequence") => {
            let missing = "pre_tokenizer.pretokenizers";
            pre_tokenizers(members(doc, "pretokenizers", "a pre-tokenizer", missing)?)
        }
        Some(name) => unsupported(PRE, name),
        None => unsupported(PRE, "null"),
    }
}

/// Reads a ByteLevel pre-tokenizer: returns `use_regex` (it splits the text) and
/// `add_prefix_space`.
fn byte_level(doc: &mut Doc<'_>) -> Result<(bool, bool)> {
    // Files older than the option `use_regex` always split, and a prefix is the default.
    let (mut use_regex, mut prefix) = (true, true);
    doc.object("a pre-tokenizer")?;
    while let Some(key) = doc.key()? {
        if key.is("use_regex") {
            use_regex = doc.flag("true or false")?;
        } else if key.is("add_prefix_space") {
            prefix = doc.flag("true or false")?;
        } else {
            doc.skip()?;
        }
    }
    Ok((use_regex, prefix))
}

/// One Split by a known pattern and one ByteLevel that does not split, or single Digits and one
/// ByteLevel that does.
fn pre_tokenizers(mut all: Vec<(String, Doc<'_>)>) -> Result<PreTokenizer> {
    let names = sequence_of(&all);
    let [(first, before), (second, byte)] = &mut all[..] else { return unsupported(PRE, names) };
    if second != "ByteLevel" {
        return unsupported(PRE, names);
    }
    let (splitter, cuts) = match first.as_str() {
        "Split" => (split(before)?, false),
        "Digits" => (digits(before)?, true),
        _ => return unsupported(PRE, names),
    };
    match byte_level(byte)? {
        // The space would be put in front of every piece.
        (_, true) => unsupported(
            PRE,
            format!("Sequence of {first} and ByteLevel with add_prefix_space true"),
        ),
        (use_regex, _) if use_regex != cuts => unsupported(
            PRE,
            format!("Sequence of {first} and ByteLevel with use_regex {use_regex}"),
        ),
        _ => Ok(PreTokenizer { splitter, add_prefix_space: false }),
    }
}

fn split(doc: &mut Doc<'_>) -> Result<Splitter> {
    let mut found = None;
    doc.object("a pre-tokenizer")?;
    while let Some(key) = doc.key()? {
        if key.is("pattern") {
            doc.object("an object with a Regex")?;
            while let Some(key) = doc.key()? {
                let pattern = doc.text("a pattern")?.to_cow();
                match Splitter::from_pattern(&pattern) {
                    Some(splitter) if key.is("Regex") => found = Some(splitter),
                    _ => return unsupported(PRE, format!("Split by {key} {pattern}")),
                }
            }
        } else if key.is("behavior") {
            let behavior = doc.text("a behaviour")?;
            if !behavior.is("Isolated") {
                return unsupported(PRE, format!("Split with behavior {behavior}"));
            }
        } else if key.is("invert") {
            if doc.flag("true or false")? {
                return unsupported(PRE, "Split with invert true");
            }
        } else {
            doc.skip()?;
        }
    }
    found.ok_or_else(|| doc.missing("pre_tokenizer.pretokenizers[].pattern"))
}

fn digits(doc: &mut Doc<'_>) -> Result<Splitter> {
    let mut single = false;
    doc.object("a pre-tokenizer")?;
    while let Some(key) = doc.key()? {
        if key.is("individual_digits") {
            single = doc.flag("true or false")?;
        } else {
            doc.skip()?;
        }
    }
    match single {
        true => Ok(Splitter::Gpt2Digits),
        false => unsupported(PRE, "Digits with individual_digits false"),
    }
}

/// The tokens that are put around a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Template {
    /// Before it.
    pub(super) bos: Option<u32>,
    /// After it.
    pub(super) eos: Option<u32>,
}

/// Reads a post-processor for the tokens it puts around a single text.
/// [`Tokenizer::encode`](super::Tokenizer::encode) does not add them: they determine `add_bos` and
/// `add_eos`.
pub(super) fn post_processor(doc: Doc<'_>) -> Result<Template> {
    let want = "null or a post-processor";
    match doc.kind(want)?.as_deref() {
        // ByteLevel adjusts offsets and changes no token.
        None | Some("ByteLevel") => Ok(Template::default()),
        Some("TemplateProcessing") => template(doc),
        Some("Sequence") => {
            let all = members(doc, "processors", "a post-processor", "post_processor.processors")?;
            let names = sequence_of(&all);
            let mut found = None;
            for (name, doc) in all {
                match name.as_str() {
                    "ByteLevel" => {}
                    "TemplateProcessing" if found.is_none() => found = Some(template(doc)?),
                    _ => return unsupported(POST, names),
                }
            }
            Ok(found.unwrap_or_default())
        }
        Some(name) => unsupported(POST, name),
    }
}

/// Reads a TemplateProcessing: at most one token before the text and one after it.
fn template(mut doc: Doc<'_>) -> Result<Template> {
    let want = "an array of special tokens and sequences";
    let (mut single, mut special) = (None, None);
    doc.object("a post-processor")?;
    while let Some(key) = doc.key()? {
        if key.is("single") {
            single = Some(doc.bookmark()?);
        } else if key.is("special_tokens") {
            special = Some(doc.bookmark()?);
        } else {
            doc.skip()?; // `pair`: pairs of texts are not supported
        }
    }
    let mut single = single.ok_or_else(|| doc.missing("post_processor.single"))?;
    let special = special.ok_or_else(|| doc.missing("post_processor.special_tokens"))?;
    let (mut before, mut after, mut texts) = (None, None, 0);
    single.array(want)?;
    while single.next(want)? == Event::ObjectStart {
        while let Some(key) = single.key()? {
            let id = id_of(&mut single)?;
            if key.is("Sequence") {
                texts += 1;
                continue;
            }
            if !key.is("SpecialToken") {
                return Err(single.wrong(want));
            }
            let place = if texts == 0 { &mut before } else { &mut after };
            if place.replace(id).is_some() {
                return unsupported(POST, "TemplateProcessing with several tokens on one side");
            }
        }
    }
    if texts != 1 {
        return unsupported(POST, format!("TemplateProcessing with {texts} texts"));
    }
    let find = |name: Option<String>| name.map(|name| token_id(special.clone(), &name)).transpose();
    Ok(Template { bos: find(before)?, eos: find(after)? })
}

/// The field `id` of an object in a template.
fn id_of(doc: &mut Doc<'_>) -> Result<String> {
    let mut id = None;
    doc.object("an object with an id")?;
    while let Some(key) = doc.key()? {
        if key.is("id") {
            id = Some(doc.text("an id, as text")?.to_cow().into_owned());
        } else {
            doc.skip()?;
        }
    }
    id.ok_or_else(|| doc.missing("post_processor.single[].id"))
}

/// The token that a template calls `name`: `{"name": {"ids": [1], ...}}`.
fn token_id(mut doc: Doc<'_>, name: &str) -> Result<u32> {
    let want = "an array of one token id";
    let mut found = None;
    doc.object("an object of special tokens")?;
    while let Some(key) = doc.key()? {
        if !key.is(name) {
            doc.skip()?;
            continue;
        }
        doc.object("a special token")?;
        while let Some(key) = doc.key()? {
            if !key.is("ids") {
                doc.skip()?;
                continue;
            }
            doc.array(want)?;
            let id = doc.id()?;
            if doc.next(want)? != Event::ArrayEnd {
                return unsupported(
                    POST,
                    format!("TemplateProcessing with several ids for {name}"),
                );
            }
            found = Some(u32::try_from(id).map_err(|_| doc.wrong("a token id below 2^32"))?);
        }
    }
    found.ok_or_else(|| doc.missing("post_processor.special_tokens"))
}
