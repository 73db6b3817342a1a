//! tokenizer.json of the SentencePiece kind: merges over characters, with byte fallback.
//!
//! The components used by published files, and their combinations, are supported: the normaliser or
//! the pre-tokenizer turns spaces into `▁` and puts one in front, and the decoder undoes it.
//! Anything else is refused by name.

use super::json_files::{
    Config, Doc, TokenList, added_tokens, normalized_tokens, read_merges, text_or_null, unsupported,
};
use super::json_parts::{Template, post_processor};
use super::spm::{Cut, Pieces, Prefix, Rules, SPACE, byte_of};
use super::{Algorithm, SpecialIds, TokenKind, Tokenizer, TokenizerError};
use crate::json::{Event, Text};

type Result<T> = std::result::Result<T, TokenizerError>;

const FILE: &str = "tokenizer.json";

/// True if a tokenizer.json is of this kind. Reads only up to the vocabulary if the components come
/// in the usual order.
pub(super) fn is_sentence_piece(bytes: &[u8]) -> Result<bool> {
    let mut doc = Doc::new(FILE, bytes);
    let mut spaces = false;
    doc.object("an object")?;
    while let Some(key) = doc.key()? {
        if key.is("normalizer") {
            let inner = doc.bookmark()?;
            let names = names(inner, "normalizers")?;
            spaces |= names.iter().any(|n| n == "Prepend" || n == "Replace");
        } else if key.is("pre_tokenizer") {
            let inner = doc.bookmark()?;
            spaces |= names(inner, "pretokenizers")?.iter().any(|n| n == "Metaspace");
        } else if key.is("decoder") {
            if doc.bookmark()?.kind("null or a decoder")?.as_deref() == Some("ByteLevel") {
                return Ok(false);
            }
        } else if key.is("model") {
            // Files without a decoder before this point have one further on.
            doc.object("the model, an object")?;
            while let Some(key) = doc.key()? {
                if key.is("byte_fallback") {
                    spaces |= doc.next("true or false")? == Event::Bool(true);
                } else if key.is("type") {
                    if !doc.text("the name of a type")?.is("BPE") {
                        return Ok(false);
                    }
                } else if key.is("vocab") && spaces {
                    return Ok(true);
                } else {
                    doc.skip()?;
                }
            }
        } else {
            doc.skip()?;
        }
    }
    Ok(spaces)
}

/// The types of a component: its own, or those of the elements of a sequence under `list`.
fn names(doc: Doc<'_>, list: &str) -> Result<Vec<String>> {
    Ok(parts(doc, list)?.into_iter().map(|(name, _)| name).collect())
}

/// A component, or the elements of a sequence, with their types. Empty for null.
fn parts<'a>(mut doc: Doc<'a>, list: &str) -> Result<Vec<(String, Doc<'a>)>> {
    let want = "a part with a type";
    let Some(name) = doc.kind(want)? else { return Ok(Vec::new()) };
    if name != "Sequence" {
        return Ok(vec![(name, doc)]);
    }
    let mut all = Vec::new();
    doc.object(want)?;
    while let Some(key) = doc.key()? {
        if !key.is(list) {
            doc.skip()?;
            continue;
        }
        doc.array("an array of parts")?;
        while doc.clone().next(want)? != Event::ArrayEnd {
            let name = doc.kind(want)?.unwrap_or_else(|| "null".into());
            all.push((name, doc.bookmark()?));
        }
        doc.next(want)?;
    }
    Ok(all)
}

/// The types of components in one line, for error messages.
fn line(parts: &[(String, Doc<'_>)]) -> String {
    match parts {
        [] => "null".into(),
        [(name, _)] => name.clone(),
        _ => {
            let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
            format!("Sequence of {}", names.join(", "))
        }
    }
}

/// The string fields of an object, and those of its `pattern`; other values are skipped.
fn fields<'a>(mut doc: Doc<'a>) -> Result<Vec<(Text<'a>, Event<'a>)>> {
    let want = "an object";
    let mut all = Vec::new();
    doc.object(want)?;
    while let Some(key) = doc.key()? {
        match doc.clone().next(want)? {
            Event::ObjectStart => {
                doc.object(want)?;
                while let Some(key) = doc.key()? {
                    let mut value = doc.bookmark()?;
                    all.push((key, value.next(want)?));
                }
            }
            event => {
                doc.skip()?;
                all.push((key, event));
            }
        }
    }
    Ok(all)
}

/// True if the field `key` has this value.
fn has(fields: &[(Text<'_>, Event<'_>)], key: &str, value: &str) -> bool {
    let mut with = fields.iter().filter(|(k, _)| k.is(key));
    with.any(|(_, v)| matches!(v, Event::String(text) if text.is(value)))
}

fn flag(fields: &[(Text<'_>, Event<'_>)], key: &str) -> Option<bool> {
    let found = fields.iter().find(|(k, _)| k.is(key))?;
    match found.1 {
        Event::Bool(v) => Some(v),
        _ => None,
    }
}

/// Reads the normaliser: returns whether it puts `▁` in front, and whether it replaces spaces by
/// `▁`.
fn normalizer(doc: Doc<'_>) -> Result<(bool, bool)> {
    const PART: &str = "normalizer";
    let all = parts(doc, "normalizers")?;
    let (mut prepend, mut replace) = (false, false);
    for (name, doc) in &all {
        let fields = fields(doc.clone())?;
        let twice = match name.as_str() {
            "Prepend" if has(&fields, "prepend", SPACE) => std::mem::replace(&mut prepend, true),
            "Replace" if has(&fields, "String", " ") && has(&fields, "content", SPACE) => {
                std::mem::replace(&mut replace, true)
            }
            "Prepend" => return unsupported(PART, "Prepend of other text than U+2581"),
            "Replace" => return unsupported(PART, "Replace of other text than a space by U+2581"),
            _ => true,
        };
        if twice {
            return unsupported(PART, line(&all));
        }
    }
    if prepend && !replace {
        return unsupported(PART, "Prepend without Replace");
    }
    Ok((prepend, replace))
}

/// The combined effect of normaliser and pre-tokenizer.
fn rules(normal: (bool, bool), pre: Doc<'_>) -> Result<Rules> {
    const PART: &str = "pre-tokenizer";
    let (prepend, replace) = normal;
    let mut rules = Rules::sentence_piece(prepend);
    let all = parts(pre, "pretokenizers")?;
    match &all[..] {
        [] if replace => {}
        // After the normaliser there are no spaces left to split at.
        [(name, doc)] if name == "Split" && replace => {
            let fields = fields(doc.clone())?;
            if !has(&fields, "String", " ") || !has(&fields, "behavior", "MergedWithPrevious") {
                return unsupported(PART, "Split beside a normalizer, by other than a space");
            }
        }
        [(name, doc)] if name == "Metaspace" && !replace => {
            let fields = fields(doc.clone())?;
            if !has(&fields, "replacement", SPACE) {
                return unsupported(PART, "Metaspace with another replacement than U+2581");
            }
            rules.unless_space = true;
            rules.cut =
                if flag(&fields, "split") == Some(false) { Cut::Never } else { Cut::Spaces };
            // Older files use `add_prefix_space`.
            let scheme = fields.iter().find(|(k, _)| k.is("prepend_scheme"));
            rules.prefix = match scheme {
                None if flag(&fields, "add_prefix_space") == Some(false) => Prefix::Never,
                None => Prefix::Parts,
                Some(_) if has(&fields, "prepend_scheme", "always") => Prefix::Parts,
                Some(_) if has(&fields, "prepend_scheme", "first") => Prefix::Start,
                Some(_) if has(&fields, "prepend_scheme", "never") => Prefix::Never,
                Some(_) => return unsupported(PART, "Metaspace with another prepend_scheme"),
            };
        }
        [] => return unsupported(PART, "null without a normalizer that replaces spaces"),
        _ => return unsupported(PART, line(&all)),
    }
    Ok(rules)
}

/// Reads the decoder: true if it removes a space from the start of a text.
fn decoder(doc: Doc<'_>) -> Result<bool> {
    const PART: &str = "decoder";
    let all = parts(doc, "decoders")?;
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let strip = match names[..] {
        ["Replace", "ByteFallback", "Fuse"] => false,
        ["Replace", "ByteFallback", "Fuse", "Strip"] => true,
        _ => return unsupported(PART, line(&all)),
    };
    let replace = fields(all[0].1.clone())?;
    if !has(&replace, "String", SPACE) || !has(&replace, "content", " ") {
        return unsupported(PART, "Replace of other text than U+2581 by a space");
    }
    if strip {
        let fields = fields(all[3].1.clone())?;
        let number = |key: &str, n: &str| {
            fields.iter().any(|(k, v)| k.is(key) && matches!(v, Event::Number(x) if *x == n))
        };
        if !has(&fields, "content", " ") || !number("start", "1") || !number("stop", "0") {
            return unsupported(PART, "Strip of other than one space at the start");
        }
    }
    Ok(strip)
}

/// The field `model`.
struct Model<'a> {
    vocab: Doc<'a>,
    merges: Doc<'a>,
    unk: Option<String>,
    bytes: bool,
    fuse_unk: bool,
    ignore_merges: bool,
}

impl<'a> Model<'a> {
    fn read(mut doc: Doc<'a>) -> Result<Self> {
        const PART: &str = "model option";
        let (mut vocab, mut merges, mut unk) = (None, None, None);
        let (mut bytes, mut fuse_unk, mut ignore_merges) = (false, false, false);
        doc.object("the model, an object")?;
        while let Some(key) = doc.key()? {
            if key.is("vocab") {
                vocab = Some(doc.bookmark()?);
            } else if key.is("merges") {
                merges = Some(doc.bookmark()?);
            } else if key.is("unk_token") {
                unk = text_or_null(&mut doc)?;
            } else if key.is("byte_fallback") {
                bytes = doc.next("true or false")? == Event::Bool(true);
            } else if key.is("fuse_unk") {
                fuse_unk = doc.next("true or false")? == Event::Bool(true);
            } else if key.is("ignore_merges") {
                ignore_merges = doc.next("true or false")? == Event::Bool(true);
            } else if key.is("continuing_subword_prefix") || key.is("end_of_word_suffix") {
                if let Some(text) = text_or_null(&mut doc)? {
                    return unsupported(PART, format!("{key}: {text}"));
                }
            } else if key.is("dropout") {
                match doc.next("null or a number")? {
                    Event::Null => {}
                    Event::Number(n) if n.parse() == Ok(0.0) => {}
                    Event::Number(n) => return unsupported(PART, format!("dropout: {n}")),
                    _ => return Err(doc.wrong("null or a number")),
                }
            } else {
                doc.skip()?; // `type`
            }
        }
        let vocab = vocab.ok_or_else(|| doc.missing("model.vocab"))?;
        let merges = merges.ok_or_else(|| doc.missing("model.merges"))?;
        Ok(Model { vocab, merges, unk, bytes, fuse_unk, ignore_merges })
    }
}

impl Tokenizer {
    /// Builds from a tokenizer.json of this kind and from tokenizer_config.json.
    pub(super) fn build_spm_json(json: &[u8], mut config: Config) -> Result<Self> {
        let mut doc = Doc::new(FILE, json);
        let mut added = Vec::new();
        let (mut normal, mut pre, mut decode, mut model) = ((false, false), None, None, None);
        let (mut template, mut normalized) = (Template::default(), Vec::new());
        doc.object("an object")?;
        while let Some(key) = doc.key()? {
            if key.is("added_tokens") {
                normalized = normalized_tokens(doc.clone())?;
                added = added_tokens(&mut doc)?;
            } else if key.is("normalizer") {
                normal = normalizer(doc.bookmark()?)?;
            } else if key.is("pre_tokenizer") {
                pre = Some(doc.bookmark()?);
            } else if key.is("post_processor") {
                template = post_processor(doc.bookmark()?)?;
            } else if key.is("decoder") {
                decode = Some(decoder(doc.bookmark()?)?);
            } else if key.is("model") {
                model = Some(doc.bookmark()?);
            } else {
                // The version; truncation and padding, which concern batches.
                doc.skip()?;
            }
        }
        doc.end()?;
        if normal.0
            && let Some((_, token)) = normalized.first()
        {
            // The prefix would be a part of the token to match.
            let name = format!("normalized of {token}");
            return unsupported("option of an added token", name);
        }
        let model = Model::read(model.ok_or_else(|| doc.missing("model"))?)?;
        let mut rules = rules(normal, pre.ok_or_else(|| doc.missing("pre_tokenizer"))?)?;
        rules.strip = decode.ok_or_else(|| doc.missing("decoder"))?;
        rules.fuse_unk = model.fuse_unk;
        rules.ignore_merges = model.ignore_merges;

        let list = TokenList::read(&mut model.vocab.clone(), json.len())?;
        let mut pieces = Pieces::default();
        list.for_each_token(&added, |token| {
            let Some((text, kind)) = token else { return pieces.push_hole() };
            let kind = match kind {
                TokenKind::Normal if model.bytes && byte_of(text.as_bytes()).is_some() => {
                    TokenKind::Byte
                }
                // Merging finds it: in unescaped text it only stands for itself.
                TokenKind::UserDefined if text.contains(SPACE) => TokenKind::Normal,
                kind => kind,
            };
            pieces.push(text.as_bytes(), kind)
        })?;
        let built = pieces.finish(rules, true)?;
        config.unk = config.unk.or_else(|| model.unk.clone());
        let unk = model.unk.as_ref().and_then(|unk| built.find(unk.as_bytes()));
        let mut ranked = built.ranked();
        read_merges(model.merges, |left, right, at| ranked.push(left, right, at))?;
        let (vocab, spm) = ranked.finish(unk)?;
        let algorithm = Algorithm::Spm(Box::new(spm));
        let mut tokenizer = Tokenizer::new(vocab, algorithm, SpecialIds::default())?;
        tokenizer.name_specials(&config);
        tokenizer.add_template(template, &config)?;
        Ok(tokenizer)
    }
}
