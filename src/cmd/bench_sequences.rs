//! `teff bench --sequences`: speed of an engine with many sequences.

use std::sync::Arc;
use std::time::{Duration, Instant};

use teff::engine::{Engine, EngineOptions, Event, Request, Stream};
use teff::{Generate, Sampling};

use super::Failure;
use super::bench::{Spread, tokens};
use super::common::CommonArgs;
use super::json::{Object, array};
use super::machine::{Progress, human, peak_bytes};
use super::print;

/// Default number of tokens of a prompt.
const PROMPT: usize = 64;

/// Default number of tokens of an answer.
const ANSWER: usize = 32;

/// Maximum number of tokens in a step; up to it, all prompts are computed in one.
const MOST_BATCH: usize = 2048;

/// Time between two looks at the streams.
const LOOK: Duration = Duration::from_micros(200);

/// Times of one run.
struct Run {
    /// Until all sequences had their first token.
    prompts: Duration,
    /// From then on until all had ended.
    answers: Duration,
    /// Tokens generated in that time.
    tokens: usize,
}

/// Speed of so many sequences.
struct Row {
    sequences: usize,
    threads: usize,
    prefill: Spread,
    decode: Spread,
}

/// Measures engines with these numbers of sequences on each of these numbers of threads.
pub(super) fn run(
    common: &CommonArgs,
    (prompt, answer): (Option<usize>, Option<usize>),
    (threads, sequences): (&[usize], &[usize]),
    runs: usize,
    json: bool,
) -> Result<(), Failure> {
    let (prompt, answer) = (prompt.unwrap_or(PROMPT), answer.unwrap_or(ANSWER));
    if prompt == 0 || answer < 2 {
        let why = "--sequences needs prompts of at least 1 token and answers of at least 2";
        return Err(Failure::Usage(why.into()));
    }
    let model = Arc::new(common.open()?);
    let session = common.options(&model)?;
    let mut rows = Vec::new();
    for &threads in threads {
        for &sequences in sequences {
            let context = (prompt + answer).min(model.spec().context as usize);
            let options = EngineOptions::default()
                .with_context(context)
                .with_sequences(sequences)
                .with_batch((sequences * prompt).clamp(sequences, MOST_BATCH))
                .with_threads(threads)
                .with_oversubscribe(true)
                .with_kv(session.kv)
                .with_cache(usize::MAX >> 8);
            let options = match session.backend {
                Some(backend) => options.with_backend(backend),
                None => options,
            };
            // Room for all of them, and no more.
            let needed = Engine::builder(&model).options(options.with_cache(usize::MAX >> 8));
            let needed = needed.memory_requirements().map_err(Failure::run)?;
            let pages = sequences * context.div_ceil(teff::engine::PAGE) + 1;
            let each = (needed.page_bytes + needed.checkpoint_bytes) / needed.pages.max(1) + 64;
            let options = options
                .with_cache(each * pages + needed.checkpoint_bytes / needed.checkpoints.max(1));
            let engine = Engine::builder(&model).options(options).build().map_err(Failure::run)?;
            let mut progress = Progress::show(&format!("{sequences} sequences: warming up"));
            let (mut prefill, mut decode) = (Vec::new(), Vec::new());
            for run in 0..=runs {
                let Run { prompts, answers, tokens } =
                    measure(&engine, run, sequences, (prompt, answer))?;
                progress.update(&format!("{sequences} sequences: run {} of {runs}", run + 1));
                if run > 0 {
                    prefill.push((sequences * prompt) as f64 / prompts.as_secs_f64());
                    decode.push(tokens as f64 / answers.as_secs_f64());
                }
            }
            drop(progress);
            if let (Some(prefill), Some(decode)) = (Spread::of(prefill), Spread::of(decode)) {
                let row = Row { sequences, threads, prefill, decode };
                if json {
                    rows.push(row.json());
                } else {
                    let head = if rows.is_empty() {
                        head(&model, (prompt, answer), runs)
                    } else {
                        String::new()
                    };
                    print(&format!("{head}{}", row.text()))?;
                    rows.push(String::new());
                }
            }
        }
    }
    if json { print(&format!("{}\n", array(rows))) } else { Ok(()) }
}

/// Runs so many sequences with prompts of their own from the start to the end of all.
fn measure(
    engine: &Engine,
    run: usize,
    sequences: usize,
    (prompt, answer): (usize, usize),
) -> Result<Run, Failure> {
    let all = tokens((run + 1) * sequences * prompt, engine.model().spec().vocab);
    let all = &all[run * sequences * prompt..];
    let generate = Generate::default()
        .with_sampling(Sampling::greedy())
        .with_max_tokens(answer)
        .with_ignore_eos(true);
    let start = Instant::now();
    let submit = |tokens: &[u32]| engine.submit(Request::new(tokens.to_vec(), generate.clone()));
    let streams: Result<Vec<Stream>, _> = all.chunks(prompt).map(submit).collect();
    let mut streams = streams.map_err(Failure::run)?;
    let (mut begun, mut prompts, mut early) = (vec![false; sequences], None, 0);
    let mut generated = 0;
    while streams.iter().any(|s| !s.is_ended()) {
        for (stream, begun) in streams.iter_mut().zip(&mut begun) {
            while let Some(event) = stream.try_next() {
                match event {
                    // The first token comes with it.
                    Event::Prompt { .. } => *begun = true,
                    Event::Finished { generated: n, .. } => generated += n,
                    Event::Failed { error, .. } => return Err(Failure::run(error)),
                    _ => {}
                }
            }
        }
        if prompts.is_none() && begun.iter().all(|b| *b) {
            prompts = Some(start.elapsed());
            early = engine.stats().generated_tokens as usize;
        }
        std::thread::sleep(LOOK);
    }
    let all = engine.stats().generated_tokens as usize;
    let prompts = prompts.unwrap_or_else(|| start.elapsed());
    let answers = start.elapsed().saturating_sub(prompts);
    Ok(Run { prompts, answers, tokens: (all - early.min(all)).min(generated) })
}

fn head(model: &teff::Model, (prompt, answer): (usize, usize), runs: usize) -> String {
    format!(
        "{}: {}; prompts of {prompt}, answers of {answer} tokens; tokens/s of all sequences together \
         as median (min..max) of {runs}; peak {}\n{:>9}{:>9}{:>27}{:>27}\n",
        model.name().unwrap_or("-").replace(char::is_control, "?"),
        human(model.weight_bytes()),
        peak_bytes().map_or("-".into(), human),
        "sequences",
        "threads",
        "prefill",
        "decode",
    )
}

impl Row {
    fn json(&self) -> String {
        Object::new()
            .count("sequences", Some(self.sequences))
            .count("threads", Some(self.threads))
            .raw("prefill_tps", Spread::json(Some(&self.prefill)))
            .raw("decode_tps", Spread::json(Some(&self.decode)))
            .end()
    }

    fn text(&self) -> String {
        let (prefill, decode) =
            (Spread::text(Some(&self.prefill)), Spread::text(Some(&self.decode)));
        format!("{:>9}{:>9}{prefill:>27}{decode:>27}\n", self.sequences, self.threads)
    }
}
