//! tokenizer.json: its components and the code that runs them.
//!
//! Byte-level encoding and SentencePiece's kind, in the combinations of most published files, have code
//! of their own; everything else runs in a [`Pipeline`].

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::doc::{Doc, Value, unsupported};
use super::json_files::{
    Added, AddedVocab, Config, TokenList, added_tokens, read_merges, text_or_null,
};
use super::json_parts::{
    Dec, Norm, Pre, Scheme, Search, Template, decoder, normalizer, post_processor, pre_tokenizer,
};
use super::pairs::Keep;
use super::pipeline::{Components, Model, ModelParts, Pipeline, Texts};
use super::regex::Budget;
use super::special::{Literal, MAX_SPECIAL, SpecialIndex};
use super::split::{Behavior, Fast, PreTokenizer, Step};
use super::spm::{Cut, Pieces, Prefix, Rules, SPACE, byte_of};
use super::warning::{self, TokenizerWarning};
use super::{
    Algorithm, SpecialIds, TokenKind, Tokenizer, TokenizerError, alphabet, bpe, ends, nfc,
};
use crate::json::Event;

type Result<T> = core::result::Result<T, TokenizerError>;

const FILE: &str = "tokenizer.json";

/// The contents of a tokenizer.json.
struct File<'a> {
    added: Vec<Added>,
    norm: Vec<Norm>,
    pre: Vec<Pre>,
    dec: Option<Vec<Dec>>,
    template: Template,
    vocab: Doc<'a>,
    merges: Doc<'a>,
    model: ModelParts,
    /// Length of the file in bytes.
    len: usize,
}

impl<'a> File<'a> {
    fn read(json: &'a [u8]) -> Result<Self> {
        let mut doc = Doc::new(FILE, json);
        let (mut added, mut template) = (Vec::new(), Template::default());
        let (mut norm, mut pre, mut dec, mut model) = (None, None, None, None);
        doc.object("an object")?;
        while let Some(key) = doc.key()? {
            if key.is("added_tokens") {
                added = added_tokens(&mut doc)?;
            } else if key.is("normalizer") {
                norm = Some(component(&mut doc)?);
            } else if key.is("pre_tokenizer") {
                pre = Some(component(&mut doc)?);
            } else if key.is("post_processor") {
                template = post_processor(&component(&mut doc)?)?;
            } else if key.is("decoder") {
                dec = Some(component(&mut doc)?);
            } else if key.is("model") {
                model = Some(doc.bookmark()?);
            } else {
                // The version; truncation and padding, which concern batches.
                doc.skip()?;
            }
        }
        doc.end()?;
        let model = model.ok_or_else(|| doc.missing("model"))?;
        // An unsupported model is reported before the components that go with it.
        let (model, vocab, merges) = read_model(model)?;
        let null = |value: Option<Value>| value.unwrap_or(Value::Null);
        Ok(File {
            added,
            norm: normalizer(&null(norm))?,
            pre: pre_tokenizer(&null(pre))?,
            dec: decoder(&null(dec))?,
            template,
            vocab,
            merges,
            model,
            len: json.len(),
        })
    }
}

/// A component: null or an object with a type.
fn component(doc: &mut Doc<'_>) -> Result<Value> {
    let value = doc.value()?;
    let typed = value.get("type").and_then(Value::text).is_some();
    if value != Value::Null && !typed {
        return Err(doc.wrong("null or an object with the name of a type"));
    }
    Ok(value)
}

/// Reads the field `model`: its options, and where its vocabulary and merges are.
fn read_model(mut doc: Doc<'_>) -> Result<(ModelParts, Doc<'_>, Doc<'_>)> {
    const PART: &str = "model option";
    let (mut vocab, mut merges) = (None, None);
    let mut parts = ModelParts::default();
    let mut typed = doc.clone();
    typed.object("the model, an object")?;
    while let Some(key) = typed.key()? {
        // Old files lack it; they have a vocabulary and merges all the same.
        if key.is("type") {
            let name = typed.text("the name of a type")?;
            if !name.is("BPE") {
                return unsupported("model", name.to_cow());
            }
        } else {
            typed.skip()?;
        }
    }
    doc.object("the model, an object")?;
    while let Some(key) = doc.key()? {
        let flag = |doc: &mut Doc<'_>| -> Result<bool> {
            Ok(doc.next("true or false")? == Event::Bool(true))
        };
        if key.is("vocab") {
            vocab = Some(doc.bookmark()?);
        } else if key.is("merges") {
            merges = Some(doc.bookmark()?);
        } else if key.is("unk_token") {
            parts.unk = text_or_null(&mut doc)?;
        } else if key.is("continuing_subword_prefix") {
            parts.prefix = text_or_null(&mut doc)?.unwrap_or_default();
        } else if key.is("end_of_word_suffix") {
            parts.suffix = text_or_null(&mut doc)?.unwrap_or_default();
        } else if key.is("ignore_merges") {
            parts.ignore_merges = flag(&mut doc)?;
        } else if key.is("byte_fallback") {
            parts.byte_fallback = flag(&mut doc)?;
        } else if key.is("fuse_unk") {
            parts.fuse_unk = flag(&mut doc)?;
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
    Ok((parts, vocab, merges))
}

/// Classes of transformers that build a byte-level pre-tokenizer with the `add_prefix_space` of
/// tokenizer_config.json, whatever tokenizer.json has.
const BYTE_CLASSES: [&str; 7] = [
    "GPT2Tokenizer",
    "RobertaTokenizer",
    "CodeGenTokenizer",
    "GPTNeoXTokenizer",
    "CohereTokenizer",
    "Qwen2Tokenizer",
    "Qwen3_5Tokenizer",
];
/// Those that build a Metaspace with it.
const CHARACTER_CLASSES: [&str; 2] = ["LlamaTokenizer", "CodeLlamaTokenizer"];

const OVERRIDDEN: TokenizerWarning = TokenizerWarning::Overridden {
    key: "add_prefix_space",
    done: "tokenizer_config.json and tokenizer.json disagree; the former counts for this \
           tokenizer_class",
};

/// Follows the setting `add_prefix_space` where the class does.
fn follow_class(file: &mut File<'_>, config: &mut Config) {
    let Some(class) = config.class.as_deref() else { return };
    let class = class.strip_suffix("Fast").unwrap_or(class);
    let before = (file.pre.clone(), file.norm.clone(), file.dec.clone());
    if BYTE_CLASSES.contains(&class) {
        let wanted = config.add_prefix_space.unwrap_or(false);
        for pre in &mut file.pre {
            if let Pre::ByteLevel { prefix, .. } = pre {
                *prefix = wanted;
            }
        }
    } else if CHARACTER_CLASSES.contains(&class)
        && let Some(wanted) = config.add_prefix_space
    {
        let prepended = |norm: &Norm| matches!(norm, Norm::Prepend(text) if text == SPACE);
        if !wanted {
            file.norm.retain(|norm| !prepended(norm));
        }
        let put = file.norm.iter().any(prepended);
        for pre in &mut file.pre {
            if let Pre::Metaspace { scheme, .. } = pre
                && (*scheme == Scheme::Never) == wanted
            {
                *scheme = match wanted {
                    false => Scheme::Never,
                    true if put => Scheme::Never,
                    true if config.legacy == Some(true) => Scheme::Always,
                    true => Scheme::First,
                };
            }
        }
        let strip = Dec::Strip { content: ' ', start: 1, stop: 0 };
        if let Some(dec) = &mut file.dec
            && dec.contains(&Dec::Fuse)
        {
            match wanted {
                true if !dec.contains(&strip) => dec.push(strip),
                false => dec.retain(|d| *d != strip),
                true => {}
            }
        }
    }
    if before != (file.pre.clone(), file.norm.clone(), file.dec.clone()) {
        config.warnings.push(OVERRIDDEN);
    }
}

/// How a file runs.
enum Plan {
    Bytes { steps: Vec<Step>, prefix: bool, nfc: bool },
    Characters(Rules),
    Pipeline,
}

impl Plan {
    fn of(file: &File<'_>) -> Plan {
        Plan::bytes(file).or_else(|| Plan::characters(file)).unwrap_or(Plan::Pipeline)
    }

    fn bytes(file: &File<'_>) -> Option<Plan> {
        let nfc = match file.norm[..] {
            [] => false,
            [Norm::Nfc] => true,
            _ => return None,
        };
        let (Pre::ByteLevel { prefix, regex }, before) = file.pre.split_last()? else {
            return None;
        };
        let mut steps = Vec::new();
        for pre in before {
            let Pre::Step(step) = pre else { return None };
            steps.push(step.clone());
        }
        // The space would be put in front of every piece.
        if *prefix && !steps.is_empty() {
            return None;
        }
        if *regex {
            steps.push(Step::Fast(Fast::Gpt2));
        }
        let model = &file.model;
        let plain = !model.byte_fallback && model.prefix.is_empty() && model.suffix.is_empty();
        let fits = plain && file.dec.as_deref() == Some(&[Dec::ByteLevel]);
        // Both at once are one rule.
        if steps == [Step::Digits { individual: true }, Step::Fast(Fast::Gpt2)] {
            steps = vec![Step::Fast(Fast::Gpt2Digits)];
        }
        fits.then_some(Plan::Bytes { steps, prefix: *prefix, nfc })
    }

    fn characters(file: &File<'_>) -> Option<Plan> {
        let space = |search: &Search| *search == Search::Text(" ".into());
        let escaped = |norm: &Norm| matches!(norm, Norm::Replace { search, content } if space(search) && content == SPACE);
        let prepended = |norm: &Norm| matches!(norm, Norm::Prepend(text) if text == SPACE);
        let (prefix, replaced) = match &file.norm[..] {
            [] => (false, false),
            [a] if escaped(a) => (false, true),
            [a, b] if prepended(a) && escaped(b) || escaped(a) && prepended(b) => (true, true),
            _ => return None,
        };
        let mut rules = Rules::sentence_piece(prefix);
        let words = Step::pattern(" ".into(), Behavior::MergedWithPrevious, false);
        match &file.pre[..] {
            [] if replaced => {}
            // After the normaliser there are no spaces left to split at.
            [Pre::Step(step)] if replaced && *step == words => {}
            [Pre::Metaspace { replacement: '\u{2581}', scheme, split }] if !replaced => {
                rules.prefix_first = false;
                rules.unless_space = true;
                rules.cut = if *split { Cut::Spaces } else { Cut::Never };
                rules.prefix = match scheme {
                    Scheme::Always => Prefix::Parts,
                    Scheme::First => Prefix::Start,
                    Scheme::Never => Prefix::Never,
                };
            }
            _ => return None,
        }
        let unescape = Dec::Replace { search: Search::Text(SPACE.into()), content: " ".into() };
        let (base, strip) = match file.dec.as_deref()? {
            [base @ .., Dec::Strip { content: ' ', start: 1, stop: 0 }] => (base, true),
            base => (base, false),
        };
        if base != [unescape, Dec::ByteFallback, Dec::Fuse] {
            return None;
        }
        rules.strip = strip;
        let model = &file.model;
        rules.fuse_unk = model.fuse_unk;
        rules.ignore_merges = model.ignore_merges;
        let plain = model.prefix.is_empty() && model.suffix.is_empty();
        // A text such as `<0x41>` would be a token of its own.
        let plain = plain && !(model.ignore_merges && model.byte_fallback);
        // White space beside such tokens is U+2581 in normalised text, which they don't strip.
        let bare = file.added.iter().all(|a| !a.normalized || a.is_bare());
        (plain && bare).then_some(Plan::Characters(rules))
    }
}

impl Tokenizer {
    /// Builds from tokenizer.json and the settings beside it.
    pub(super) fn build_json(json: &[u8], config: Option<Config>) -> Result<Self> {
        let mut file = File::read(json)?;
        let mut config = config.unwrap_or_default();
        follow_class(&mut file, &mut config);
        let list = TokenList::read(&mut file.vocab.clone(), file.len)?;
        let added = add_all(&list, &file, &mut config)?;
        let ids = list.ids();
        drop(list);
        // Tokens of the model that are also matched in texts, and are written otherwise there.
        let in_model = |id: &u32| ids.binary_search(id).is_ok();
        let mut both = added.tokens.iter().filter(|(id, _)| in_model(id)).map(|(_, a)| a);
        let built = match Plan::of(&file) {
            Plan::Bytes { .. } if both.any(|a| alphabet::differs(&a.content)) => Ok(None),
            Plan::Characters(_) if both.any(|a| a.special && a.content.contains(SPACE)) => Ok(None),
            Plan::Bytes { steps, prefix, nfc } => {
                bytes(&file, &added, &mut config, &steps, prefix, nfc)
            }
            Plan::Characters(rules) => characters(&file, &added, &mut config, rules),
            Plan::Pipeline => Ok(None),
        };
        use TokenizerError as E;
        let mut tokenizer = match built {
            Ok(Some(tokenizer)) => tokenizer,
            // What the faster code can't represent, the pipeline may.
            Ok(None)
            | Err(
                E::UnknownMergeToken { .. }
                | E::NoMergeProduct { .. }
                | E::MalformedMerge { .. }
                | E::DuplicateToken { .. },
            ) => pipeline(&file, &added, &mut config)?,
            Err(e) => return Err(e),
        };
        tokenizer.name_specials(&config, &added, file.model.unk.as_deref());
        tokenizer.add_template(file.template, &config)?;
        tokenizer.warnings.append(&mut config.warnings);
        Ok(tokenizer)
    }
}

/// The added tokens of the file and of the settings, with their ids.
fn add_all(list: &TokenList, file: &File<'_>, config: &mut Config) -> Result<AddedVocab> {
    let known = list.by_text();
    config.take_defaults(|text| known.has(text) || file.added.iter().any(|a| a.content == text));
    let mut added = AddedVocab::default();
    let mut warnings = core::mem::take(&mut config.warnings);
    added.add(list, &known, file.added.iter().cloned(), |a, id| {
        Config::moved(&mut warnings, a, id);
    })?;
    let before: BTreeSet<String> = added.tokens.iter().map(|(_, a)| a.content.clone()).collect();
    added.add(list, &known, config.to_add(&file.added), |a, id| {
        if !before.contains(&a.content) && !known.has(&a.content) {
            let token = a.content.clone();
            warning::count(&mut warnings, 0, |_| TokenizerWarning::TokenAdded {
                token,
                id,
                count: 1,
            });
        }
        Config::moved(&mut warnings, a, id);
    })?;
    // Added tokens whose names say that they control the model. Those of the vocabulary alone are
    // text, as in the library.
    for (id, a) in &mut added.tokens {
        if !a.special && ends::is_control(a.content.as_bytes()) {
            a.special = true;
            warnings.push(TokenizerWarning::NotControl { id: *id, token: a.content.clone() });
        }
    }
    added.tokens.sort_by_key(|(id, _)| *id);
    config.warnings = warnings;
    Ok(added)
}

/// Indices of the added tokens: those matched in the text as it is, and those matched in the
/// normalised text, whose form `form` gives.
fn indices(
    added: &AddedVocab,
    mut form: impl FnMut(&str) -> Result<String>,
) -> Result<(SpecialIndex, SpecialIndex)> {
    let (mut raw, mut normalized) = (Vec::new(), Vec::new());
    for (id, a) in &added.tokens {
        let (text, list) = match a.normalized {
            true => (form(&a.content)?, &mut normalized),
            false => (a.content.clone(), &mut raw),
        };
        if text.len() > MAX_SPECIAL {
            return Err(TokenizerError::SpecialTooLong { id: *id, bytes: text.len() });
        }
        list.push(Literal { text, id: *id, how: a.matching() });
    }
    Ok((SpecialIndex::new(raw)?, SpecialIndex::new(normalized)?))
}

fn repeated(config: &mut Config, index: usize) {
    warning::count(&mut config.warnings, index, |first| TokenizerWarning::RepeatedMerges {
        first,
        count: 1,
        last: true,
    });
}

/// Builds byte-level encoding; `None` if a byte may need the unknown token.
fn bytes(
    file: &File<'_>,
    added: &AddedVocab,
    config: &mut Config,
    steps: &[Step],
    prefix: bool,
    nfc: bool,
) -> Result<Option<Tokenizer>> {
    let list = TokenList::read(&mut file.vocab.clone(), file.len)?;
    let mut merges = list.build(added)?.merges()?;
    read_merges(file.merges.clone(), |left, right, at| merges.push(left, right, at))?;
    let rules = bpe::Rules {
        pre: PreTokenizer::new(steps)?,
        add_prefix_space: prefix,
        ignore_merges: file.model.ignore_merges,
        nfc: nfc.then_some(nfc::nfc),
        missing: bpe::Missing::Dropped,
    };
    let (vocab, mut bpe) = merges.finish(rules, Keep::Last, |i| repeated(config, i));
    if file.model.unk.is_some() && !bpe.has_all_bytes() {
        return Ok(None);
    }
    let (special, normalized) = indices(added, |text| {
        Ok(if nfc { nfc::nfc(text, &mut Default::default()).to_owned() } else { text.to_owned() })
    })?;
    bpe.normalized = normalized;
    let algorithm = Algorithm::ByteBpe(Box::new(bpe));
    Tokenizer::new(vocab, algorithm, special, SpecialIds::default()).map(Some)
}

/// Builds SentencePiece's kind; `None` if some characters may have no token at all.
fn characters(
    file: &File<'_>,
    added: &AddedVocab,
    config: &mut Config,
    rules: Rules,
) -> Result<Option<Tokenizer>> {
    let list = TokenList::read(&mut file.vocab.clone(), file.len)?;
    let mut pieces = Pieces::default();
    let after_prefix = rules.prefix_first;
    let prefixed = rules.prefix != Prefix::Never;
    let in_list = list.ids();
    // Tokens that are matched after the prefix cover the space in front of them.
    let spaced: BTreeSet<&str> = match after_prefix && prefixed {
        true => {
            let new = |id: &u32| in_list.binary_search(id).is_err();
            let tokens =
                added.tokens.iter().filter(|(id, a)| new(id) && a.normalized && !a.special);
            tokens.map(|(_, a)| a.content.as_str()).collect()
        }
        false => BTreeSet::new(),
    };
    let mut undone = false;
    list.for_each_token(added, |token| {
        let Some((text, kind)) = token else { return pieces.push_hole() };
        // The decoder reads such tokens as bytes, though no text becomes them.
        undone |= !file.model.byte_fallback && byte_of(text.as_bytes()).is_some();
        if spaced.contains(text) {
            return pieces.push(format!(" {text}").as_bytes(), TokenKind::UserDefined);
        }
        let kind = match kind {
            TokenKind::Normal | TokenKind::Control | TokenKind::UserDefined
                if file.model.byte_fallback && byte_of(text.as_bytes()).is_some() =>
            {
                TokenKind::Byte
            }
            // Merging finds it, too.
            TokenKind::UserDefined if text.contains(SPACE) => TokenKind::Normal,
            kind => kind,
        };
        pieces.push(text.as_bytes(), kind)
    })?;
    if undone {
        return Ok(None);
    }
    let built = pieces.finish(rules, true)?;
    let unk = file.model.unk.as_ref().and_then(|unk| built.find(unk.as_bytes()));
    let complete = file.model.byte_fallback && built.has_all_bytes();
    let some = file.model.byte_fallback && built.has_bytes();
    if !complete && (unk.is_none() || some) {
        return Ok(None);
    }
    let mut ranked = built.ranked();
    read_merges(file.merges.clone(), |left, right, at| ranked.push(left, right, at))?;
    let (vocab, mut spm) = ranked.finish(unk, Keep::Last, |i| repeated(config, i));
    let (special, normalized) = indices(added, |text| {
        // As the text is when they are matched: with its prefix, and with spaces.
        Ok(match (after_prefix, prefixed) {
            (true, true) => format!(" {}", text.replace(SPACE, " ")),
            (true, false) => text.replace(SPACE, " "),
            (false, _) => text.to_owned(),
        })
    })?;
    spm.normalized = normalized;
    let algorithm = Algorithm::Spm(Box::new(spm));
    Tokenizer::new(vocab, algorithm, special, SpecialIds::default()).map(Some)
}

/// Builds a pipeline of the file's components.
fn pipeline(file: &File<'_>, added: &AddedVocab, config: &mut Config) -> Result<Tokenizer> {
    let list = TokenList::read(&mut file.vocab.clone(), file.len)?;
    let in_list = list.ids();
    let mut texts = Texts::default();
    let mut kinds = Vec::new();
    list.for_each_token(added, |token| {
        let decoded = file.dec.as_ref().is_some_and(|dec| dec.contains(&Dec::ByteFallback));
        let byte = |text: &str| decoded && byte_of(text.as_bytes()).is_some();
        let kind = token.map(|(text, kind)| if byte(text) { TokenKind::Byte } else { kind });
        kinds.push(kind);
        texts.push(kind, |out| {
            out.extend_from_slice(token.map_or("", |(text, _)| text).as_bytes());
        })?;
        Ok(())
    })?;
    texts.shrink();
    let strings: Vec<String> = (0..texts.len() as u32)
        .map(|id| String::from_utf8_lossy(texts.get(id).unwrap_or_default()).into_owned())
        .collect();
    let in_model = |id: u32| in_list.binary_search(&id).is_ok();
    let mut building = Model::build(texts, file.model.clone(), in_model);
    read_merges(file.merges.clone(), |left, right, at| {
        let text = |t| core::str::from_utf8(t).map_err(|_| TokenizerError::MalformedMerge { at });
        building.push(text(left)?, text(right)?, at)
    })?;
    let model = building.finish(|i| repeated(config, i));
    let components = Components { norm: &file.norm, pre: &file.pre, dec: file.dec.as_deref() };
    let pipeline = Pipeline::new(&components, model)?;
    // Tokens that are matched in normalised text cover what normalisation adds to it.
    let mut strings = strings;
    for (id, a) in added.tokens.iter().filter(|(_, a)| a.normalized && !a.special) {
        if let Some(text) = strings.get_mut(*id as usize) {
            *text = pipeline.normalized_form(&a.content)?;
            if text.len() > MAX_SPECIAL {
                return Err(TokenizerError::SpecialTooLong { id: *id, bytes: text.len() });
            }
        }
    }
    let mut budget = Budget::of_tokens(file.len);
    let mut vocab = Texts::default();
    let bytes = file.dec.as_ref().is_some_and(|dec| dec.contains(&Dec::ByteLevel));
    for (text, kind) in strings.iter().zip(&kinds) {
        vocab.push(*kind, |out| match kind {
            // Names of special tokens, and text that is not in the alphabet of bytes.
            Some(TokenKind::Control) => out.extend_from_slice(text.as_bytes()),
            Some(TokenKind::UserDefined) if bytes => out.extend_from_slice(text.as_bytes()),
            Some(_) => out.extend_from_slice(&pipeline.token_text(text, &mut budget)),
            None => {}
        })?;
    }
    vocab.shrink();
    let (special, normalized) = indices(added, |text| pipeline.normalized_form(text))?;
    let algorithm = Algorithm::Pipeline(pipeline.finish(normalized));
    Tokenizer::new(vocab, algorithm, special, SpecialIds::default())
}
