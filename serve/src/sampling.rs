//! Fields of requests that say how text is generated.

use std::collections::BTreeMap;

use serde_json::Value;
use teff_runtime::Generate;
use teff_runtime::engine::Constraint;
use teff_runtime::sample::Sampling;
use teff_runtime::tokenizer::{Specials, Tokenizer};

use crate::error::{ApiError, ApiResult, nothing_left};
use crate::json::{Fields, whole};
use crate::options::ServeOptions;
use crate::random;
use crate::unsupported;

/// Maximum number of alternatives beside each token's log probability.
pub(crate) const MAX_LOGPROBS: usize = 20;

/// Maximum number of stop strings.
const MAX_STOPS: usize = 64;

/// Maximum number of bytes of all stop strings together.
const MAX_STOP_BYTES: usize = 16 << 10;

/// Maximum number of biases.
const MAX_BIASES: usize = 1 << 16;

/// Maximum number of bytes of all texts of biases together.
const MAX_BIAS_BYTES: usize = 64 << 10;

/// Bias for a token, or for each token of a text.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bias {
    of: BiasOf,
    bias: f32,
}

#[derive(Clone, PartialEq, Debug)]
enum BiasOf {
    Token(u32),
    Text(String),
}

/// Fields that chats and texts have in common.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Common {
    /// Sampling, limits and stop strings; without biases.
    pub(crate) generate: Generate,
    /// Biases, of which some are of texts.
    pub(crate) biases: Vec<Bias>,
    /// Number of answers.
    pub(crate) choices: usize,
    /// True for a stream of events.
    pub(crate) stream: bool,
    /// True for the usage at the end of a stream.
    pub(crate) include_usage: bool,
}

impl Common {
    /// Reads the fields. `logprobs` is read by the caller, since it differs.
    ///
    /// # Errors
    /// [`ApiError`], which names the field.
    pub(crate) fn read(fields: &Fields<'_>, options: &ServeOptions) -> ApiResult<Common> {
        unsupported::refuse(fields, &unsupported::SHARED)?;
        unsupported::refuse(fields, &unsupported::OF_NEWER_FORMS)?;
        let mut s = options.sampling;
        const LARGEST: f64 = f32::MAX as f64;
        s.temperature = fields.number("temperature", 0.0..=LARGEST)?.unwrap_or(s.temperature);
        // -1 is what some programs write for `off`.
        s.top_k = match fields.integer("top_k", -1..=i64::MAX)? {
            Some(k) => usize::try_from(k).unwrap_or(0),
            None => s.top_k,
        };
        if let Some(p) = fields.number("top_p", 0.0..=1.0)? {
            // Zero keeps the most likely token alone, as any share that small does.
            s.top_p = p.max(f32::MIN_POSITIVE);
        }
        s.min_p = fields.number("min_p", 0.0..=1.0)?.unwrap_or(s.min_p);
        let repeat = ["repeat_penalty", "repetition_penalty"];
        for name in repeat {
            if let Some(penalty) = fields.number(name, 0.0..=LARGEST)? {
                if penalty == 0.0 {
                    return Err(fields.error(name, "must be above 0 (1 is off)"));
                }
                s.repeat_penalty = penalty;
            }
        }
        s.repeat_last_n = match fields.integer("repeat_last_n", -1..=i64::MAX)? {
            Some(n) => usize::try_from(n).unwrap_or(usize::MAX),
            None => s.repeat_last_n,
        };
        let presence = fields.number("presence_penalty", -2.0..=2.0)?;
        s.presence_penalty = presence.unwrap_or(s.presence_penalty);
        let frequency = fields.number("frequency_penalty", -2.0..=2.0)?;
        s.frequency_penalty = frequency.unwrap_or(s.frequency_penalty);
        check_samplers(fields, &s)?;
        s.seed = seed(fields)?.or(options.seed).unwrap_or_else(random::seed);
        let mut generate = Generate::default().with_sampling(s);
        generate.max_tokens = match max_tokens(fields)? {
            Some(limit) => limit,
            None => options.max_tokens,
        };
        generate.ignore_eos = fields.bool("ignore_eos")?.unwrap_or(false);
        generate.stop = stops(fields)?;
        let biases = biases(fields)?;
        let choices = fields.count("n", 1..=options.max_choices)?.unwrap_or(1);
        if fields.count("best_of", 0..=usize::MAX)?.is_some_and(|n| n > choices) {
            return Err(fields.error("best_of", "is not supported beyond n"));
        }
        let stream = fields.bool("stream")?.unwrap_or(false);
        let include_usage = match fields.object("stream_options")? {
            Some(map) => Fields::within(map, "stream_options.").bool("include_usage")?,
            None => None,
        };
        let include_usage = include_usage.unwrap_or(false);
        Ok(Common { generate, biases, choices, stream, include_usage })
    }
}

/// Stages of sampling by llama.cpp's names, in the order in which they work.
const STAGES: [&str; 5] = ["penalties", "top_k", "top_p", "min_p", "temperature"];

/// Stages that Teff doesn't have: what would turn one on is in
/// [`unsupported::SHARED`].
const NO_STAGES: [&str; 5] = ["dry", "top_n_sigma", "typ_p", "xtc", "adaptive_p"];

/// Checks `samplers`, by which llama-server orders the stages and leaves some out: the order must be
/// Teff's, without any that it has not. Penalties that are off may be left out.
fn check_samplers(fields: &Fields<'_>, sampling: &Sampling) -> ApiResult<()> {
    let Some(value) = fields.get("samplers") else { return Ok(()) };
    let stages = value.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let stages: Vec<_> = stages.map(|stage| stage.as_str().unwrap_or_default()).collect();
    let stages: Vec<_> = stages.into_iter().filter(|stage| !NO_STAGES.contains(stage)).collect();
    let Sampling { repeat_penalty, presence_penalty, frequency_penalty, .. } = *sampling;
    let plain = (repeat_penalty, presence_penalty, frequency_penalty) == (1.0, 0.0, 0.0);
    match stages == STAGES || (plain && stages == STAGES[1..]) {
        true => Ok(()),
        false => {
            let order = STAGES.join("`, `");
            let message = format!("is not supported in another order than `{order}`");
            Err(fields.error("samplers", message))
        }
    }
}

/// The seed: a whole number of 64 bits, with a sign or without; -1 for a random one.
fn seed(fields: &Fields<'_>) -> ApiResult<Option<u64>> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    if let Some(seed) = value.as_u64() {
        return Ok(Some(seed));
    }
    if let Some(seed) = value.as_f64().filter(|seed| seed.abs() > u64::MAX as f64 / 2.0) {
        // Near ones would be one seed.
        return Err(fields.error(
            "seed",
            format_args!("must be written in digits, of at most 64 bits, but is {seed:e}"),
        ));
    }
    let seed = fields.integer("seed", i64::MIN..=i64::MAX)?;
    Ok(seed.filter(|&n| n != -1).map(i64::cast_unsigned))
}

/// The limit of tokens: `Some(None)` for none.
fn max_tokens(fields: &Fields<'_>) -> ApiResult<Option<Option<usize>>> {
    let mut limit = None;
    // The first that is there counts, but all must be numbers.
    for name in ["n_predict", "max_completion_tokens", "max_tokens"] {
        let n = fields.integer(name, -1..=i64::MAX)?;
        limit = limit.or(n.map(|n| usize::try_from(n).ok()));
    }
    Ok(limit)
}

/// Stop strings, without empty ones.
fn stops(fields: &Fields<'_>) -> ApiResult<Vec<String>> {
    const WANTED: &str = "must be a string or an array of strings";
    let mut stops = Vec::new();
    match fields.get("stop") {
        None => {}
        Some(Value::String(stop)) => stops.push(stop.clone()),
        Some(Value::Array(all)) => {
            for stop in all {
                let Value::String(stop) = stop else { return Err(fields.error("stop", WANTED)) };
                stops.push(stop.clone());
            }
        }
        Some(_) => return Err(fields.error("stop", WANTED)),
    }
    stops.retain(|stop| !stop.is_empty());
    if stops.len() > MAX_STOPS {
        return Err(fields.error("stop", format_args!("may have at most {MAX_STOPS} strings")));
    }
    match stops.iter().map(String::len).sum::<usize>() > MAX_STOP_BYTES {
        true => {
            let message = format!("may have at most {MAX_STOP_BYTES} bytes altogether");
            Err(fields.error("stop", message))
        }
        false => Ok(stops),
    }
}

/// Biases: an object from ids to numbers, or an array of pairs of an id or a text and a number, or
/// `false` to rule tokens out.
fn biases(fields: &Fields<'_>) -> ApiResult<Vec<Bias>> {
    const WANTED: &str = "must be an object from token ids to numbers, or an array of pairs such as \
                          [15043, -1.5], [\"text\", 2] and [\" no\", false]";
    let wrong = || fields.error("logit_bias", WANTED);
    let number = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        value => value.as_f64().map(|x| x as f32).filter(|x| x.is_finite()),
    };
    let id = |text: &str| text.trim().parse().ok();
    let (mut all, mut bytes) = (Vec::new(), 0);
    match fields.get("logit_bias") {
        None => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let of = BiasOf::Token(id(key).ok_or_else(wrong)?);
                all.push(Bias { of, bias: number(value).ok_or_else(wrong)? });
            }
        }
        Some(Value::Array(pairs)) => {
            for pair in pairs {
                let Some([of, bias]) = pair.as_array().map(Vec::as_slice) else {
                    return Err(wrong());
                };
                let of = match of {
                    Value::String(text) => {
                        bytes += text.len();
                        BiasOf::Text(text.clone())
                    }
                    Value::Number(n) => {
                        let id = whole(n).and_then(|n| u32::try_from(n).ok());
                        BiasOf::Token(id.ok_or_else(wrong)?)
                    }
                    _ => return Err(wrong()),
                };
                all.push(Bias { of, bias: number(bias).ok_or_else(wrong)? });
            }
        }
        Some(_) => return Err(wrong()),
    }
    if bytes > MAX_BIAS_BYTES {
        let message = format!("may have at most {MAX_BIAS_BYTES} bytes of texts altogether");
        return Err(fields.error("logit_bias", message));
    }
    match all.len() > MAX_BIASES {
        true => {
            Err(fields.error("logit_bias", format_args!("may have at most {MAX_BIASES} parts")))
        }
        false => Ok(all),
    }
}

/// Biases of tokens, those of texts by the tokens of these.
///
/// # Errors
/// [`ApiError`] for an id that the vocabulary doesn't have.
pub(crate) fn token_biases(biases: &[Bias], tokenizer: &Tokenizer) -> ApiResult<Vec<(u32, f32)>> {
    let mut all = Vec::new();
    for Bias { of, bias } in biases {
        match of {
            BiasOf::Token(id) if (*id as usize) < tokenizer.vocab_size() => all.push((*id, *bias)),
            BiasOf::Token(id) => {
                let size = tokenizer.vocab_size();
                let message = format!("there is no token {id}: the vocabulary has {size}");
                return Err(ApiError::field("logit_bias", message));
            }
            BiasOf::Text(text) => {
                let ids = tokenizer.encode(text, Specials::Ignore);
                let ids = ids.map_err(|e| ApiError::field("logit_bias", e))?;
                all.extend(ids.into_iter().map(|id| (id, *bias)));
            }
        }
    }
    Ok(all)
}

/// Checks that biases leave a token with which an answer may begin. `rows` is the size of the model's
/// vocabulary, which may have more tokens than the tokenizer's: these are in no text.
///
/// # Errors
/// [`ApiError`] with status 400.
pub(crate) fn check_biases(
    biases: &[(u32, f32)],
    tokenizer: &Tokenizer,
    rows: usize,
    constraint: Option<&dyn Constraint>,
) -> ApiResult<()> {
    let mut sums = BTreeMap::new();
    for (id, bias) in biases {
        *sums.entry(*id).or_insert(0.0) += bias;
    }
    sums.retain(|_, sum| *sum == f32::NEG_INFINITY);
    if sums.is_empty() {
        return Ok(());
    }
    let mut allowed = vec![u32::MAX; rows.div_ceil(32)];
    if let Some(constraint) = constraint {
        let mut constraint = constraint.fork();
        // Another failure is the engine's to report.
        if constraint.is_complete() || constraint.mask(&mut allowed).is_err() {
            return Ok(());
        }
    }
    let is_left = |id: u32| {
        let word = allowed.get(id as usize / 32).copied().unwrap_or_default();
        word >> (id % 32) & 1 == 1 && !sums.contains_key(&id)
    };
    match (0..).take(tokenizer.vocab_size()).any(is_left) {
        true => Ok(()),
        false => Err(nothing_left()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn read(body: Value) -> ApiResult<Common> {
        Common::read(&Fields::of_body(&body)?, &ServeOptions::default())
    }

    #[test]
    fn what_is_absent_has_the_server_s_defaults() {
        let got =
            read(json!({"temperature": null, "stop": null, "n": null, "unknown": 3})).unwrap();
        let s = got.generate.sampling;
        assert_eq!(Sampling { seed: 0, ..s }, Sampling::default());
        assert_eq!((got.choices, got.stream, got.include_usage), (1, false, false));
        assert_eq!((got.generate.max_tokens, got.generate.stop.len()), (None, 0));
        assert_ne!(s.seed, read(json!({})).unwrap().generate.sampling.seed);
    }

    #[test]
    fn fields_that_are_honoured() {
        let got = read(json!({
            "temperature": 0, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "seed": 7,
            "repeat_penalty": 1.5, "repeat_last_n": -1, "presence_penalty": 0.5, "frequency_penalty": -1, "stop": ["a", "", "b"], "n": 2,
            "max_tokens": 5, "max_completion_tokens": 4, "ignore_eos": true, "stream": true,
            "stream_options": {"include_usage": true}, "logit_bias": {"5": -100, "6": false}
        }))
        .unwrap();
        let s = got.generate.sampling;
        assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p, s.seed), (0.0, 3, 0.5, 0.1, 7));
        assert_eq!((s.repeat_penalty, s.repeat_last_n), (1.5, usize::MAX));
        assert_eq!((s.presence_penalty, s.frequency_penalty), (0.5, -1.0));
        assert_eq!(got.generate.stop, ["a", "b"]);
        assert_eq!((got.generate.max_tokens, got.choices), (Some(4), 2));
        assert!(got.generate.ignore_eos && got.stream && got.include_usage);
        assert_eq!(got.biases.len(), 2);
        let limit = |body| read(body).unwrap().generate.max_tokens;
        assert_eq!(limit(json!({"max_tokens": 0})), Some(0));
        assert_eq!(limit(json!({"max_tokens": -1})), None);
        assert_eq!(limit(json!({"n_predict": 1, "max_tokens": 9})), Some(1));
        assert_eq!(read(json!({"stop": ""})).unwrap().generate.stop.len(), 0);
        let seed = |n: Value| read(json!({"seed": n})).unwrap().generate.sampling.seed;
        assert_eq!(seed(json!(1u64 << 40)), 1 << 40);
        assert_eq!(seed(json!(u64::MAX)), u64::MAX);
        assert_eq!(seed(json!(-2)), u64::MAX - 1);
    }

    #[test]
    fn stop_strings_and_texts_of_biases_up_to_their_limits() {
        let stop = "x".repeat(MAX_STOP_BYTES / MAX_STOPS);
        assert_eq!(read(json!({"stop": vec![stop; MAX_STOPS]})).unwrap().generate.stop.len(), 64);
        let text = "x".repeat(MAX_BIAS_BYTES / 2);
        let biases = json!([[&text, 1], [&text, false]]);
        assert_eq!(read(json!({"logit_bias": biases})).unwrap().biases.len(), 2);
    }

    #[test]
    fn fields_of_other_servers_are_refused_where_they_ask_for_something() {
        let one = json!(1);
        let asking = [
            ("typical_p", json!([1, 1.0, 2]), json!([0.9, "x", true])),
            ("mirostat", json!([0, 0.0]), json!([1, 2, "1"])),
            ("xtc_probability", json!([0]), json!([0.5])),
            ("dry_multiplier", json!([0]), json!([0.8, -1])),
            ("dynatemp_range", json!([0]), json!([0.5])),
            ("top_n_sigma", json!([0, -1, -1.0]), json!([1, 1.5])),
            ("adaptive_target", json!([-1, -0.01]), json!([0, 0.5])),
            ("min_keep", json!([0]), json!([1])),
            ("n_probs", json!([0]), json!([5])),
            ("post_sampling_probs", json!([false]), json!([true, 1])),
            ("n_cmpl", json!([1]), json!([2])),
            ("n_indent", json!([0]), json!([4])),
            ("t_max_predict_ms", json!([0, -1]), json!([500])),
            ("lora", json!([[]]), json!([[{ "id": 0, "scale": 0.5 }]])),
            ("grammar_lazy", json!([false]), json!([true])),
            ("reasoning_budget_tokens", json!([-1]), json!([0, 100])),
            ("min_tokens", json!([0]), json!([1])),
            ("stop_token_ids", json!([[]]), json!([[5], 5])),
            ("include_stop_str_in_output", json!([false]), json!([true])),
            ("bad_words", json!([[]]), json!([["no"]])),
            ("allowed_token_ids", json!([]), json!([[], [5]])),
            ("logits_processors", json!([[]]), json!([["x"]])),
            ("use_beam_search", json!([false]), json!([true])),
            ("length_penalty", json!([1, 1.0]), json!([0.5])),
            ("skip_special_tokens", json!([true]), json!([false])),
            ("prompt_logprobs", json!([]), json!([0, 1, -1])),
            ("truncate_prompt_tokens", json!([]), json!([-1, 100])),
            ("guided_whitespace_pattern", json!([""]), json!([" *"])),
            ("repetition_detection", json!([]), json!([{}])),
            ("thinking_token_budget", json!([-1]), json!([0, 100])),
            ("chat_template", json!([""]), json!(["{{ x }}"])),
            ("mirostat_mode", json!([0]), json!([2])),
            ("typical", json!([1]), json!([0.5])),
            ("tfs", json!([1]), json!([0.5])),
            ("tfs_z", json!([1]), json!([0.5])),
            ("top_a", json!([0]), json!([0.5])),
            ("no_repeat_ngram_size", json!([0]), json!([3])),
            ("format", json!(["", {}]), json!(["json", { "type": "object" }])),
            ("options", json!([{}]), json!([{ "num_predict": 3 }])),
            ("ebnf", json!([""]), json!(["root ::= x"])),
            ("structural_tag", json!([]), json!([{}])),
            ("json_mode", json!([false]), json!([true])),
            ("num_beams", json!([1]), json!([4])),
            ("max_new_tokens", json!([-1]), json!([0, 20])),
            ("min_new_tokens", json!([0]), json!([2])),
            ("min_length", json!([0]), json!([2])),
            ("banned_tokens", json!([[], ""]), json!([[3], "3"])),
            ("custom_token_bans", json!([""]), json!(["1,2"])),
            ("suppress_tokens", json!([[]]), json!([[1]])),
            ("smoothing_factor", json!([0]), json!([0.5])),
            ("epsilon_cutoff", json!([0]), json!([3])),
            ("eta_cutoff", json!([0]), json!([3])),
            ("modalities", json!([["text"], []]), json!([["audio"], ["text", "audio"], "text"])),
            ("functions", json!([[]]), json!([[{ "name": "f" }]])),
            ("audio", json!([]), json!([{ "voice": "x" }])),
            ("web_search_options", json!([]), json!([{}])),
        ];
        let named: BTreeSet<_> = unsupported::SHARED.iter().map(|(name, ..)| *name).collect();
        assert_eq!(asking.iter().map(|(name, ..)| *name).collect::<BTreeSet<_>>(), named);
        for (name, off, on) in &asking {
            for value in off.as_array().unwrap().iter().chain([&Value::Null]) {
                assert!(read(json!({ *name: value })).is_ok(), "{name} {value}");
            }
            for value in on.as_array().unwrap() {
                let e = read(json!({ *name: value })).unwrap_err();
                let param = e.param.as_deref();
                assert_eq!((e.status.as_u16(), param), (400, Some(*name)), "{value}");
                assert!(e.message.contains("is not supported: "), "{}", e.message);
            }
        }
        // Without effect here whatever it is: slots, caches, and what depends on the others.
        let harmless = json!({
            "id_slot": 3, "cache_prompt": false, "n_keep": -1, "n_discard": 5, "n_cache_reuse": 9,
            "mirostat_tau": 5, "mirostat_eta": 0.1, "dry_base": 2, "dry_allowed_length": 3,
            "dry_penalty_last_n": -1, "dry_sequence_breakers": ["x"], "xtc_threshold": 0.1,
            "dynatemp_exponent": 2, "adaptive_decay": 0.9, "spaces_between_special_tokens": false,
        });
        assert!(read(harmless).is_ok());
        assert!(read(json!({ "best_of": one })).is_ok());
        assert!(read(json!({ "best_of": 2, "n": 2 })).is_ok());
        assert_eq!(read(json!({ "best_of": 2 })).unwrap_err().param.as_deref(), Some("best_of"));
    }

    #[test]
    fn samplers_are_refused_in_another_order() {
        let all = [
            "penalties",
            "dry",
            "top_n_sigma",
            "top_k",
            "typ_p",
            "top_p",
            "min_p",
            "xtc",
            "temperature",
        ];
        let of = |stages: Value, penalty: f32| {
            read(json!({ "samplers": stages, "frequency_penalty": penalty })).map(drop)
        };
        for order in [json!(all), json!(STAGES), Value::Null] {
            assert_eq!(of(order, 0.5), Ok(()));
        }
        assert_eq!(of(json!(all[1..]), 0.0), Ok(()));
        for order in [
            json!(["temperature", "top_k", "top_p", "min_p"]),
            json!(["top_k", "top_p", "min_p"]),
            json!(["top_k", "top_p", "min_p", "temperature", "temperature"]),
            json!(["top_k", "top_p", "min_p", "temperature", "infill"]),
            json!(["top_k", 5]),
            json!([]),
            json!("kpmt"),
            json!(""),
        ] {
            let e = of(order.clone(), 0.0).unwrap_err();
            assert_eq!((e.status.as_u16(), e.param.as_deref()), (400, Some("samplers")), "{order}");
        }
        assert!(of(json!(all[1..]), 0.5).is_err());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (field, value) in [
            ("temperature", json!(-1)),
            ("temperature", json!("hot")),
            ("top_p", json!(1.5)),
            ("top_k", json!(2.5)),
            ("min_p", json!(-0.1)),
            ("repeat_penalty", json!(0)),
            ("max_tokens", json!(-2)),
            ("max_tokens", json!("8")),
            ("max_completion_tokens", json!([])),
            ("n", json!(0)),
            ("n", json!(100_000)),
            ("stop", json!(5)),
            ("stop", json!([5])),
            ("stop", json!(vec!["x"; MAX_STOPS + 1])),
            ("stop", json!(["x".repeat(MAX_STOP_BYTES), "y"])),
            ("logit_bias", json!([["x".repeat(MAX_BIAS_BYTES), 1], ["y", 1]])),
            ("seed", json!("x")),
            ("seed", json!(1.5)),
            ("seed", json!(1e20)),
            ("seed", json!(-1e19)),
            ("stream", json!("yes")),
            ("ignore_eos", json!(1)),
            ("logit_bias", json!([[1]])),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!({"1": "x"})),
            ("logit_bias", json!({"1": true})),
            ("stream_options", json!(true)),
            ("presence_penalty", json!(3)),
        ] {
            let e = read(json!({field: value})).unwrap_err();
            assert_eq!(e.status.as_u16(), 400, "{field}");
            assert_eq!(e.param.as_deref(), Some(field), "{}", e.message);
        }
    }
}
