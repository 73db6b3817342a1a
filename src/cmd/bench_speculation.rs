//! `teff bench --speculate`: speed of texts with guesses and without.

use std::time::Instant;

use teff::{Generate, Model, Sampling, Session, SessionOptions, Speculation};

use super::bench::{Spread, tokens};
use super::common::CommonArgs;
use super::json::{Object, array};
use super::machine::{Progress, human};
use super::{Failure, print};

/// Default number of tokens of the prompt, if so many fit.
const PROMPT: usize = 64;

/// Default number of tokens of a text, if so many fit.
const ANSWER: usize = 160;

/// Tokens after which a text begins again.
const PERIOD: usize = 40;

/// Kinds of texts.
#[derive(Clone, Copy, PartialEq)]
enum Text {
    /// The likeliest tokens after a random prompt.
    Own,
    /// The same tokens again and again.
    Copy,
    /// Random tokens.
    New,
}

impl Text {
    const ALL: [Text; 3] = [Text::Own, Text::Copy, Text::New];

    fn name(self) -> &'static str {
        match self {
            Text::Own => "own",
            Text::Copy => "copy",
            Text::New => "new",
        }
    }

    /// Token at a place of the text, prompt included, of which `all` are random ones.
    fn token(self, all: &[u32], at: usize) -> u32 {
        match self {
            Text::Copy => all[at % PERIOD.min(all.len())],
            Text::Own | Text::New => all[at],
        }
    }
}

/// Speed of one kind of text.
struct Row {
    text: Text,
    threads: usize,
    plain: Spread,
    guessing: Spread,
    ratio: Spread,
    guessed: u64,
    right: u64,
}

/// Measures texts on each of these numbers of threads, with and without guesses in turns.
pub(super) fn run(
    common: &CommonArgs,
    (prompt, answer): (Option<usize>, Option<usize>),
    threads: &[usize],
    runs: usize,
    json: bool,
) -> Result<(), Failure> {
    if prompt == Some(0) || answer.is_some_and(|n| n < 2) {
        let why = "--speculate needs prompts of at least 1 token and texts of at least 2";
        return Err(Failure::Usage(why.into()));
    }
    let (model, draft) = (common.open()?, common.open_draft()?);
    let most = model.spec().context as usize;
    let prompt = prompt.unwrap_or_else(|| PROMPT.min(most / 2).max(1));
    let answer = answer.unwrap_or_else(|| ANSWER.min(most.saturating_sub(prompt)).max(2));
    let context = prompt.saturating_add(answer);
    if context > most {
        return Err(Failure::Run(format!(
            "-p is {prompt} and -n is {answer}, but the model's context is {most}: use fewer tokens"
        )));
    }
    let all = tokens(context, model.spec().vocab);
    let options =
        SessionOptions { context: Some(context), oversubscribe: true, ..common.options(&model)? };
    let mut rows = Vec::new();
    for &threads in threads {
        let options = options.with_threads(threads);
        let plain = options.with_speculation(Speculation::Off);
        let mut plain = CommonArgs::session(&model, None, &plain)?;
        let mut guessing = CommonArgs::session(&model, draft.as_ref(), &options)?;
        for text in Text::ALL {
            let name = text.name();
            let mut progress = Progress::show(&format!("{name}: warming up"));
            let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            let mut before = guessing.speculation_stats();
            for run in 0..=runs {
                let a = speed(&mut plain, text, &all, (prompt, answer))?;
                let b = speed(&mut guessing, text, &all, (prompt, answer))?;
                progress.update(&format!("{name}: run {} of {runs}", run + 1));
                if run == 0 {
                    before = guessing.speculation_stats();
                    continue;
                }
                without.push(a);
                with.push(b);
                ratios.push(b / a);
            }
            drop(progress);
            let stats = guessing.speculation_stats();
            let (guessed, right) = (stats.guessed - before.guessed, stats.right - before.right);
            let spreads = (Spread::of(without), Spread::of(with), Spread::of(ratios));
            let (Some(plain), Some(guessing), Some(ratio)) = spreads else { continue };
            let row = Row { text, threads, plain, guessing, ratio, guessed, right };
            if json {
                rows.push(row.json());
                continue;
            }
            let head =
                if rows.is_empty() { head(&model, (prompt, answer), runs) } else { String::new() };
            print(&format!("{head}{}", row.text()))?;
            rows.push(String::new());
        }
    }
    if json { print(&format!("{}\n", array(rows))) } else { Ok(()) }
}

/// Tokens per second of a text after its prompt.
fn speed(
    session: &mut Session<'_>,
    text: Text,
    all: &[u32],
    (prompt, answer): (usize, usize),
) -> Result<f64, Failure> {
    let begin: Vec<u32> = (0..prompt).map(|at| text.token(all, at)).collect();
    let how = Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true);
    let how = how.with_max_tokens(answer);
    session.truncate(0);
    let written = session.generate_ids(&begin, &how).map_err(Failure::run)?;
    // The model writes this text, whatever it would write.
    let hook = |tokens: &[u32], logits: &mut [f32]| {
        if text == Text::Own {
            return;
        }
        let next = text.token(all, tokens.len()) as usize;
        let logit = logits[next];
        logits.fill(f32::NEG_INFINITY);
        logits[next] = logit;
    };
    let mut written = written.with_hook(hook).map_err(Failure::run)?;
    // The prompt is computed for the first of them; a character may take several tokens.
    written.next_piece().map_err(Failure::run)?;
    let first = written.generated();
    let start = Instant::now();
    while written.next_piece().map_err(Failure::run)?.is_some() {}
    match answer.saturating_sub(first) {
        0 => Err(Failure::Run(format!("-n {answer} is too short to measure: use more tokens"))),
        left => Ok(left as f64 / start.elapsed().as_secs_f64()),
    }
}

fn head(model: &Model, (prompt, answer): (usize, usize), runs: usize) -> String {
    format!(
        "{}: {}; prompts of {prompt}, texts of {answer} tokens; tokens/s as median (min..max) of \
         {runs}, in turns\n{:<6} {:>7} {:>25} {:>25} {:>21} {:>9} {:>7}\n",
        model.name().unwrap_or("-").replace(char::is_control, "?"),
        human(model.weight_bytes()),
        "text",
        "threads",
        "without",
        "with guesses",
        "ratio",
        "guessed",
        "right",
    )
}

impl Row {
    fn json(&self) -> String {
        Object::new()
            .str("text", self.text.name())
            .count("threads", Some(self.threads))
            .raw("plain_tps", Spread::json(Some(&self.plain)))
            .raw("guessing_tps", Spread::json(Some(&self.guessing)))
            .raw("ratio", Spread::json(Some(&self.ratio)))
            .count("guessed", Some(self.guessed))
            .count("right", Some(self.right))
            .end()
    }

    fn text(&self) -> String {
        let [plain, guessing] = [&self.plain, &self.guessing].map(|s| Spread::text(Some(s)));
        let Spread { median, min, max } = self.ratio;
        let ratio = format!("{median:.2} ({min:.2}..{max:.2})");
        let (text, threads) = (self.text.name(), self.threads);
        let (guessed, right) = (self.guessed, self.right);
        format!(
            "{text:<6} {threads:>7} {plain:>25} {guessing:>25} {ratio:>21} {guessed:>9} {right:>7}\n"
        )
    }
}
