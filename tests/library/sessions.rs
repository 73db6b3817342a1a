//! Sessions: cancelled and resumed, saved and restored, forked; and errors that name the cause.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::common::{data, golden};
use teff::graph::{Solo, Team};
use teff::runtime::pool::{Crew, MAX_THREADS, Pool, PoolError, PoolOptions, cpu_limit};
use teff::{
    Cpu, Finish, Generate, KvFormat, LogitsFor, Model, Sampling, Session, SessionError,
    SessionOptions, StepError,
};

fn model() -> Model {
    Model::open(data("gpt2-Q8_0.gguf")).unwrap()
}

fn tokens() -> Vec<u32> {
    golden(&data("gpt2-Q8_0.gguf.golden.safetensors")).tokens
}

fn options() -> SessionOptions {
    SessionOptions { threads: Some(2), oversubscribe: true, ..SessionOptions::default() }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

fn fresh(model: &Model, tokens: &[u32]) -> Vec<u32> {
    bits(model.session(&options()).unwrap().eval(tokens, LogitsFor::Last).unwrap())
}

fn step_error(e: SessionError) -> StepError {
    match e {
        SessionError::Step(e) => e,
        e => panic!("no error of a step: {e}"),
    }
}

#[test]
fn a_cancelled_session_goes_on_with_the_same_bits() {
    let (model, tokens) = (model(), tokens());
    let mut s = model.session(&options()).unwrap();
    let stop = s.stop_handle();
    stop.cancel();
    let e = s.eval(&tokens, LogitsFor::Last).unwrap_err();
    assert_eq!(step_error(e), StepError::Cancelled);
    assert_eq!(step_error(s.advance(LogitsFor::Last).unwrap_err()), StepError::Cancelled);
    stop.resume();
    assert_eq!(bits(s.advance(LogitsFor::Last).unwrap()), fresh(&model, &tokens));
}

/// Models with caches of all, with windows, with experts, and with layers that keep a state.
fn others() -> Vec<(Model, Vec<u32>)> {
    let files =
        ["gpt2/gpt2-Q8_0", "gemma3/gemma3-Q4_0", "qwen3moe/qwen3moe-Q4_K_M", "lfm2/lfm2-Q4_0"];
    let open = |name| {
        let path = data(&format!("../{name}.gguf"));
        let tokens = golden(&data(&format!("../{name}.gguf.golden.safetensors"))).tokens;
        (Model::open(path).unwrap(), tokens)
    };
    files.into_iter().map(open).collect()
}

/// Cancels again and again, from another thread and at random moments, until a text is complete.
#[test]
fn cancelling_at_any_moment_loses_nothing() {
    for ((model, tokens), rounds) in others().into_iter().zip([200, 50, 50, 50]) {
        cancelling_loses_nothing(&model, &tokens, rounds);
    }
}

fn cancelling_loses_nothing(model: &Model, tokens: &[u32], rounds: u64) {
    let want = fresh(model, tokens);
    let small = SessionOptions { batch: 3, ..options() };
    let mut cancelled = 0;
    for round in 0..rounds {
        let mut s = model.session(&small).unwrap();
        let stop = s.stop_handle();
        s.push(tokens).unwrap();
        if round == 0 {
            // On a busy machine, no other round may be cancelled before it is complete.
            stop.cancel();
        }
        let got = std::thread::scope(|scope| {
            scope.spawn(|| {
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(round * 600 / rounds) {
                    std::hint::spin_loop();
                }
                stop.cancel();
            });
            loop {
                match s.advance(LogitsFor::Last) {
                    Ok(logits) => break bits(logits),
                    Err(e) => {
                        assert_eq!(step_error(e), StepError::Cancelled);
                        cancelled += 1;
                        stop.resume();
                    }
                }
            }
        });
        assert_eq!(got, want);
    }
    assert!(cancelled > 0);
}

#[test]
fn a_deadline_cancels() {
    let (model, tokens) = (model(), tokens());
    let mut s = model.session(&options()).unwrap();
    s.stop_handle().set_timeout(Duration::ZERO);
    assert_eq!(step_error(s.eval(&tokens, LogitsFor::Last).unwrap_err()), StepError::Cancelled);
    s.stop_handle().resume();
    assert_eq!(bits(s.advance(LogitsFor::Last).unwrap()), fresh(&model, &tokens));
}

#[test]
fn a_fork_goes_its_own_way() {
    for (model, tokens) in others() {
        fork_goes_its_own_way(&model, &tokens);
    }
}

fn fork_goes_its_own_way(model: &Model, tokens: &[u32]) {
    let (prefix, rest) = tokens.split_at(tokens.len() / 2);
    let other: Vec<u32> = rest.iter().rev().copied().collect();
    let mut a = model.session(&options()).unwrap();
    a.eval(prefix, LogitsFor::None).unwrap();
    let mut b = a.fork().unwrap();
    let (of_a, of_b) = (
        bits(a.eval(rest, LogitsFor::Last).unwrap()),
        bits(b.eval(&other, LogitsFor::Last).unwrap()),
    );
    assert_eq!(of_a, fresh(model, tokens));
    assert_eq!(of_b, fresh(model, &[prefix, &other].concat()));
    // A fork can be taken back and forked again.
    b.truncate(prefix.len() - 2);
    let mut c = b.fork().unwrap();
    assert_eq!(c.tokens(), &prefix[..prefix.len() - 2]);
    let rest = &tokens[prefix.len() - 2..];
    assert_eq!(bits(c.eval(rest, LogitsFor::Last).unwrap()), fresh(model, tokens));
    assert_eq!(bits(b.eval(rest, LogitsFor::Last).unwrap()), fresh(model, tokens));
}

/// A crew that counts its runs.
struct Counted<'c> {
    pool: Pool,
    runs: &'c AtomicUsize,
}

impl Crew for Counted<'_> {
    fn size(&self) -> usize {
        Crew::size(&self.pool)
    }
    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        self.runs.fetch_add(1, Relaxed);
        Crew::run(&mut self.pool, task)
    }
}

#[test]
fn forks_run_on_the_crew_that_was_given() {
    let (model, tokens) = (model(), tokens());
    let runs = AtomicUsize::new(0);
    let pool = PoolOptions::default().with_threads(2).with_oversubscribe(true);
    let crew = Counted { pool: Pool::with_options(&pool).unwrap(), runs: &runs };
    let mut a = model.session_builder(&SessionOptions::default()).crew(crew).build().unwrap();
    a.eval(&tokens[..4], LogitsFor::Last).unwrap();
    let mut b = a.fork().unwrap();
    let mut c = b.fork().unwrap();
    assert_eq!((b.threads(), c.threads(), runs.load(Relaxed)), (2, 2, 1));
    // Each of their steps is a run of that crew, also when the first session is gone.
    for s in [&mut b, &mut c, &mut a] {
        s.eval(&tokens[4..8], LogitsFor::Last).unwrap();
    }
    drop(a);
    assert_eq!(bits(b.eval(&tokens[8..], LogitsFor::Last).unwrap()), fresh(&model, &tokens));
    assert_eq!(runs.load(Relaxed), 5);
}

#[test]
fn sessions_have_no_more_threads_than_the_process_may_run_on() {
    let model = model();
    let Some(cpus) = cpu_limit().filter(|&cpus| cpus < MAX_THREADS) else { return };
    let asked = SessionOptions { threads: Some(cpus + 1), ..SessionOptions::default() };
    assert_eq!(model.memory_requirements(&asked).unwrap().threads, cpus);
    let mut s = model.session(&asked).unwrap();
    let fewer = s.fewer_threads().unwrap();
    assert_eq!((s.threads(), fewer.asked, fewer.used), (cpus, cpus + 1, cpus));
    assert_eq!(s.fork().unwrap().fewer_threads(), Some(fewer));
    let s = model.session(&asked.with_oversubscribe(true)).unwrap();
    assert_eq!((s.threads(), s.fewer_threads()), (cpus + 1, None));
    let s = model.session(&asked.with_threads(cpus)).unwrap();
    assert_eq!((s.threads(), s.fewer_threads()), (cpus, None));
}

#[test]
fn numbers_of_threads_that_no_session_can_have_are_refused_alike() {
    let model = model();
    for threads in [0, MAX_THREADS + 1, 1000, usize::MAX] {
        for oversubscribe in [false, true] {
            let options = options().with_threads(threads).with_oversubscribe(oversubscribe);
            let known_first = model.memory_requirements(&options).map(|_| ()).unwrap_err();
            let made = model.session(&options).map(|_| ()).unwrap_err();
            for e in [&known_first, &made] {
                assert!(
                    matches!(e, SessionError::Pool(PoolError::NoThreads) if threads == 0)
                        || matches!(e, SessionError::Pool(PoolError::TooManyThreads { got, max: MAX_THREADS }) if *got == threads),
                    "{e}"
                );
            }
            assert_eq!(known_first.to_string(), made.to_string());
        }
    }
    let most = options().with_threads(MAX_THREADS);
    assert_eq!(model.memory_requirements(&most).unwrap().threads, MAX_THREADS);
    // A crew of such a size too.
    for size in [0, MAX_THREADS + 1] {
        let builder = model.session_builder(&options()).crew(OfSize(size));
        assert!(matches!(builder.memory_requirements(), Err(SessionError::Pool(_))));
        assert!(matches!(builder.build(), Err(SessionError::Pool(_))));
    }
}

/// A crew that says to have so many threads.
struct OfSize(usize);

impl Crew for OfSize {
    fn size(&self) -> usize {
        self.0
    }
    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        Crew::run(&mut Solo, task)
    }
}

/// A crew of another size than it says, or one that runs each task twice.
struct Wrong {
    pool: Pool,
    says: usize,
    runs: usize,
}

impl Crew for Wrong {
    fn size(&self) -> usize {
        self.says
    }
    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        (0..self.runs).try_for_each(|_| Crew::run(&mut self.pool, task))
    }
}

#[test]
fn crews_that_break_their_rules_are_told_which() {
    let (model, tokens) = (model(), tokens());
    for (threads, says, runs, error) in [
        (3, 2, 1, "a team of 3 workers, but there is memory for 2"),
        (2, 2, 2, "or the step is another team's or has been computed"),
        (2, 2, 0, "not all of the step has been computed"),
    ] {
        let pool = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
        let crew = Wrong { pool: Pool::with_options(&pool).unwrap(), says, runs };
        let mut s = model.session_builder(&SessionOptions::default()).crew(crew).build().unwrap();
        for _ in 0..2 {
            s.truncate(0);
            let e = step_error(s.eval(&tokens, LogitsFor::Last).unwrap_err());
            assert!(e.to_string().contains(error), "{e}");
            if let StepError::Team { max, got } = e {
                assert_eq!((max, got), (says, threads));
            }
            assert_eq!(s.computed(), 0);
        }
    }
}

/// A crew that says when a run begins, and waits until it may go on.
struct Gate {
    begun: Sender<()>,
    go: Receiver<()>,
}

impl Crew for Gate {
    fn size(&self) -> usize {
        1
    }
    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        self.begun.send(()).unwrap();
        self.go.recv().unwrap();
        Crew::run(&mut Solo, task)
    }
}

#[test]
fn forks_wait_for_each_other_s_steps_but_can_be_cancelled() {
    const LONG: Duration = Duration::from_secs(60);
    let (model, tokens) = (model(), tokens());
    let ((begun, begins), (goes, go)) = (channel(), channel());
    let crew = Gate { begun, go };
    let builder = model.session_builder(&SessionOptions::default().with_context(64));
    let mut a = builder.crew(crew).build().unwrap();
    goes.send(()).unwrap();
    a.eval(&tokens[..4], LogitsFor::Last).unwrap();
    begins.recv_timeout(LONG).unwrap();
    let mut b = a.fork().unwrap();
    std::thread::scope(|scope| {
        let (done, results) = channel();
        let running = scope.spawn(|| bits(a.eval(&tokens[4..], LogitsFor::Last).unwrap()));
        begins.recv_timeout(LONG).unwrap();
        // During that step: a fork is made, and the steps of forks are cancelled.
        let c = b.fork().unwrap();
        c.stop_handle().set_timeout(Duration::from_millis(5));
        let stop = b.stop_handle();
        let waiting = [b, c].map(|mut s| {
            let (done, tokens) = (done.clone(), &tokens);
            scope.spawn(move || {
                let e = s.eval(&tokens[4..], LogitsFor::Last).map(|_| ()).unwrap_err();
                done.send(step_error(e)).unwrap();
                s
            })
        });
        stop.cancel();
        let ends = [results.recv_timeout(LONG), results.recv_timeout(LONG)];
        let was_running = !running.is_finished();
        // Also if they have not ended, so that the test does.
        (0..3).for_each(|_| goes.send(()).unwrap());
        assert_eq!(running.join().unwrap(), fresh(&model, &tokens));
        assert_eq!(ends, [Ok(StepError::Cancelled); 2]);
        assert!(was_running && begins.try_recv().is_err(), "they ran");
        for s in waiting {
            let mut s = s.join().unwrap();
            s.stop_handle().resume();
            assert_eq!(bits(s.advance(LogitsFor::Last).unwrap()), fresh(&model, &tokens));
        }
    });
}

#[test]
fn truncating_goes_back() {
    let (model, tokens) = (model(), tokens());
    let mut s = model.session(&options()).unwrap();
    s.eval(&tokens, LogitsFor::None).unwrap();
    s.truncate(5);
    assert_eq!((s.tokens().len(), s.computed()), (5, 5));
    assert_eq!(bits(s.eval(&tokens[5..], LogitsFor::Last).unwrap()), fresh(&model, &tokens));
}

#[test]
fn checkpoints_are_what_a_state_goes_back_to() {
    let (model, tokens) = others().pop().unwrap();
    assert_eq!(model.spec().arch, "lfm2");
    let options = options().with_checkpoints(2);
    let kept = |s: &Session<'_>| {
        let mut all: Vec<_> = s.checkpoints().collect();
        all.sort_unstable();
        all
    };
    let mut s = model.session(&options).unwrap();
    assert!(!s.checkpoint());
    // The end of a prompt is kept, single tokens are not.
    s.eval(&tokens[..20], LogitsFor::Last).unwrap();
    for t in &tokens[20..30] {
        s.eval(&[*t], LogitsFor::Last).unwrap();
    }
    assert_eq!(kept(&s), [20]);
    // One token back is there by itself.
    s.truncate(29);
    assert_eq!((s.computed(), s.tokens().len()), (29, 29));
    s.truncate(25);
    assert_eq!((s.computed(), s.tokens().len()), (20, 25));
    assert_eq!(bits(s.advance(LogitsFor::Last).unwrap()), fresh(&model, &tokens[..25]));
    assert_eq!(kept(&s), [20, 25]);
    // Of three, the oldest is given up; one at the same place is no new one.
    s.eval(&tokens[25..26], LogitsFor::Last).unwrap();
    assert!(s.checkpoint() && s.checkpoint());
    assert_eq!(kept(&s), [25, 26]);
    s.eval(&tokens[26..32], LogitsFor::None).unwrap();
    assert_eq!(kept(&s), [26, 32]);
    // What comes after the text's end is forgotten.
    s.truncate(27);
    assert_eq!((s.computed(), kept(&s)), (26, vec![26]));
    s.truncate(26);
    assert_eq!((s.computed(), s.tokens().len()), (26, 26));
    s.truncate(3);
    assert_eq!((s.computed(), s.tokens().len(), kept(&s)), (0, 3, vec![]));
    assert_eq!(bits(s.advance(LogitsFor::Last).unwrap()), fresh(&model, &tokens[..3]));
    // A restored text can go back to where it was restored.
    s.truncate(0);
    s.eval(&tokens[..10], LogitsFor::None).unwrap();
    let snapshot = s.snapshot();
    let mut t = model.session(&options).unwrap();
    t.restore(&snapshot).unwrap();
    assert_eq!(kept(&t), [10]);
    for n in 10..14 {
        t.eval(&tokens[n..=n], LogitsFor::None).unwrap();
    }
    t.truncate(11);
    assert_eq!((t.computed(), t.tokens().len()), (10, 11));
    assert_eq!(
        bits(t.eval(&tokens[11..20], LogitsFor::Last).unwrap()),
        fresh(&model, &tokens[..20])
    );

    // Without room for any, a text is computed from its beginning.
    let none = SessionOptions { checkpoints: 0, ..options };
    let bytes = |o| model.memory_requirements(o).unwrap();
    assert_eq!(bytes(&none).checkpoints, 0);
    assert!(bytes(&options).checkpoints > 0);
    let mut s = model.session(&none).unwrap();
    s.eval(&tokens[..20], LogitsFor::None).unwrap();
    assert!(!s.checkpoint());
    assert!(kept(&s).is_empty());
    s.truncate(10);
    assert_eq!(s.computed(), 0);
    assert_eq!(bits(s.advance(LogitsFor::Last).unwrap()), fresh(&model, &tokens[..10]));
    // Layers that can all go back take none.
    let gpt2 = self::model();
    assert_eq!(gpt2.memory_requirements(&options).unwrap().checkpoints, 0);
    let mut s = gpt2.session(&options).unwrap();
    s.eval(&self::tokens(), LogitsFor::None).unwrap();
    assert!(!s.checkpoint());
}

#[test]
fn foreign_and_damaged_snapshots_are_refused() {
    let (model, tokens) = (model(), tokens());
    let mut s = model.session(&options()).unwrap();
    s.eval(&tokens, LogitsFor::None).unwrap();
    let good = s.snapshot();
    let mut check = |bytes: &[u8]| match s.restore(bytes) {
        Err(SessionError::Snapshot(why)) => why,
        r => panic!("{r:?}"),
    };
    for cut in (0..good.len()).step_by(97) {
        check(&good[..cut]);
    }
    // Damage anywhere, and of several bytes: also where it makes another text or other numbers.
    for byte in (0..44).chain((44..good.len()).step_by(53)).chain([good.len() - 1]) {
        for bit in [0, 7] {
            let mut bad = good.clone();
            bad[byte] ^= 1 << bit;
            let why = check(&bad);
            assert!(byte < 36 || why == "it is damaged" || why.contains("vocabulary"), "{why}");
            if byte + 16 < good.len() {
                bad[byte + 16] ^= 1 << bit;
                check(&bad);
            }
        }
    }
    let other = Model::open(data("gpt2-Q4_0.gguf")).unwrap();
    let mut t = other.session(&options()).unwrap();
    t.eval(&tokens, LogitsFor::None).unwrap();
    assert_eq!(check(&t.snapshot()), "it is of another model");
    let f16 = SessionOptions { kv: KvFormat::F16, ..options() };
    let mut t = model.session(&f16).unwrap();
    t.eval(&tokens, LogitsFor::None).unwrap();
    assert_eq!(check(&t.snapshot()), "its cache has another format");
    // Errors changed nothing; a shorter context accepts what fits.
    assert_eq!(s.tokens(), tokens);
    let short = SessionOptions { context: Some(tokens.len() - 1), ..options() };
    let mut t = model.session(&short).unwrap();
    assert!(matches!(t.restore(&good), Err(SessionError::Snapshot(_))));
    let exact = SessionOptions { context: Some(tokens.len()), threads: Some(1), ..options() };
    model.session(&exact).unwrap().restore(&good).unwrap();
}

#[test]
fn errors_name_the_cause() {
    let model = model();
    let vocab = model.spec().vocab;
    let mut s = model.session(&options()).unwrap();
    let e = step_error(s.push(&[1, vocab]).unwrap_err());
    assert_eq!(e, StepError::BadToken { token: vocab, index: 1, vocab });
    assert!(s.tokens().is_empty());
    let long = vec![1; 97];
    let e = step_error(s.push(&long).unwrap_err());
    assert_eq!(e, StepError::ContextFull { context: 96, position: 0, tokens: 97 });
    assert_eq!(step_error(s.advance(LogitsFor::Last).unwrap_err()), StepError::Empty);
    let e = step_error(s.eval(&long[..2], LogitsFor::All).unwrap_err());
    assert_eq!(e, StepError::TooManyLogits { max: 1, got: 2 });
    s.truncate(0);

    let refused = |o: SessionOptions| model.session(&o).map(|_| ()).unwrap_err().to_string();
    assert!(refused(SessionOptions { threads: Some(0), ..options() }).contains("thread"));
    assert!(refused(SessionOptions { context: Some(0), ..options() }).contains("context"));
    assert!(refused(SessionOptions { context: Some(97), ..options() }).contains("96"));
    assert!(refused(SessionOptions { batch: 0, ..options() }).contains("batch"));
    let needs = model.memory_requirements(&options()).unwrap().total();
    let budget = |budget| SessionOptions { budget: Some(budget), ..options() };
    assert!(refused(budget(needs - 1)).contains(&needs.to_string()));
    model.session(&budget(needs)).unwrap();

    for (sampling, name) in [
        (Sampling { temperature: -1.0, ..Sampling::default() }, "temperature"),
        (Sampling { temperature: f32::NAN, ..Sampling::default() }, "temperature"),
        (Sampling { top_p: 1.5, ..Sampling::default() }, "top_p"),
        (Sampling { min_p: f32::INFINITY, ..Sampling::default() }, "min_p"),
        (Sampling { repeat_penalty: 0.0, ..Sampling::default() }, "repeat_penalty"),
        (Sampling::default().with_frequency_penalty(f32::INFINITY), "frequency_penalty"),
    ] {
        let e = s.generate("a", &Generate { sampling, ..Generate::default() }).unwrap_err();
        assert!(e.to_string().contains(name), "{e}");
        assert!(s.tokens().is_empty());
    }
}

fn text(s: &mut Session<'_>, prompt: &str, options: &Generate) -> (String, Option<Finish>) {
    let mut g = s.generate(prompt, options).unwrap();
    let mut text = String::new();
    while let Some(piece) = g.next_piece().unwrap() {
        text.push_str(piece);
    }
    (text, g.finish())
}

#[test]
fn one_seed_one_text() {
    let model = model();
    let sampling = Sampling { seed: 7, ..Sampling::default() };
    let how = Generate { sampling, max_tokens: Some(40), ignore_eos: true, ..Generate::default() };
    let mut texts = Vec::new();
    for name in Cpu::NAMES {
        let Ok(cpu) = Cpu::by_name(name) else { continue };
        for threads in [1, 2] {
            let o = SessionOptions { backend: Some(cpu), threads: Some(threads), ..options() };
            texts.push(text(&mut model.session(&o).unwrap(), "the cat", &how));
        }
    }
    assert!(texts.windows(2).all(|w| w[0] == w[1]), "{texts:?}");
    assert_eq!(texts[0].1, Some(Finish::Length));
}

#[test]
fn a_full_context_ends_the_text_and_nothing_grows() {
    let model = model();
    let mut s = model.session(&options()).unwrap();
    let how = Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true);
    let (_, finish) = text(&mut s, "a", &how);
    assert_eq!(finish, Some(Finish::ContextFull));
    assert_eq!(s.tokens().len(), 96);
    let e = step_error(s.push(&[1]).unwrap_err());
    assert_eq!(e, StepError::ContextFull { context: 96, position: 96, tokens: 1 });
}

#[test]
fn generating_again_goes_on_and_after_cancelling_too() {
    let model = model();
    let greedy = Generate::default().with_sampling(Sampling::greedy()).with_ignore_eos(true);
    let how = |n| greedy.clone().with_max_tokens(n);
    let (whole, _) = text(&mut model.session(&options()).unwrap(), "the dog", &how(30));
    let mut s = model.session(&options()).unwrap();
    let stop = s.stop_handle();
    let mut g = s.generate("the dog", &how(30)).unwrap();
    let mut got = String::new();
    let mut n = 0;
    loop {
        n += 1;
        if n % 3 == 0 {
            stop.cancel();
        }
        match g.next_piece() {
            Ok(Some(piece)) => got.push_str(piece),
            Ok(None) => break,
            Err(e) => {
                assert_eq!(step_error(e), StepError::Cancelled);
                stop.resume();
            }
        }
    }
    assert_eq!(got, whole);
}

#[test]
fn an_empty_prompt_begins_with_the_models_own_token() {
    let model = model();
    let how = Generate { max_tokens: Some(3), ignore_eos: true, ..Generate::default() };
    let mut s = model.session(&options()).unwrap();
    let (_, finish) = text(&mut s, "", &how);
    assert_eq!(finish, Some(Finish::Length));
    assert_eq!(Some(s.tokens()[0]), model.tokenizer().unwrap().bos());
}
