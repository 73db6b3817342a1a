//! Recordings of sessions: what is in them, and that they change nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use teff_graph::ops::Op;
use teff_graph::{LogitsFor, Role, Solo};
use teff_runtime::pool::{Crew, Pool, PoolError, PoolOptions};
use teff_runtime::trace::{Activity, Recorder, Span, Traced};
use teff_runtime::{Model, Session, SessionOptions};

const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

/// The GGUF files of the repository's small models, by family.
fn files() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let folders = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = folders.filter(|p| p.is_dir()).filter_map(|p| first(&p)).collect();
    files.sort();
    assert!(files.len() > 15, "{files:?}");
    files
}

/// A folder's first model by name.
fn first(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|p| p.extension().is_some_and(|e| e == "gguf") && Model::open(p).is_ok())
        .collect();
    files.sort();
    files.into_iter().next()
}

fn gpt2() -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    Model::open(path).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions::default().with_context(32).with_batch(4)
}

fn crew(threads: usize) -> Box<dyn Crew + Send> {
    let options = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
    match threads {
        1 => Box::new(Solo),
        _ => Box::new(Pool::with_options(&options).unwrap()),
    }
}

fn traced<'m>(model: &'m Model, threads: usize, recorder: &Arc<Recorder>) -> Session<'m> {
    let crew = Traced::new(crew(threads), Arc::clone(recorder));
    model.session_builder(&options()).crew(crew).build().unwrap()
}

fn recorder(threads: usize, room: usize) -> Arc<Recorder> {
    Arc::new(Recorder::new(threads, room).unwrap())
}

/// Checks that the spans of each thread follow each other.
fn in_order(spans: &[Span]) {
    assert!(spans.iter().all(|s| s.begin <= s.end));
    for pair in spans.windows(2) {
        let [a, b] = pair else { unreachable!() };
        assert!(a.thread < b.thread || a.thread == b.thread && a.end <= b.begin, "{a:?} {b:?}");
    }
}

#[test]
fn every_operation_appears() {
    for path in files() {
        let model = Model::open(&path).unwrap();
        for threads in [1, 2] {
            let recorder = recorder(threads, 1 << 14);
            let mut session = traced(&model, threads, &recorder);
            session.eval(&TOKENS[..3], LogitsFor::Last).unwrap();
            let spans = recorder.take();
            assert_eq!(recorder.lost(), 0, "{}", path.display());
            in_order(&spans);
            assert!(spans.iter().all(|s| s.thread < threads && s.end <= recorder.now()));
            let ops = &session.plan().ops;
            let mut seen = vec![false; ops.len()];
            let (mut phases, mut last) = (Vec::new(), 0);
            for span in &spans {
                match span.activity {
                    Activity::Operation(op) => seen[op as usize] = true,
                    Activity::Waiting(phase) => phases.push(phase),
                    other => panic!("{other:?}"),
                }
                last = last.max(span.end);
            }
            for (op, seen) in ops.iter().zip(seen) {
                assert_eq!(seen, *op != Op::Barrier, "{}: {}", path.display(), op.name());
            }
            if threads == 1 {
                // One walk of the plan, and all the room that the documentation promises.
                let barriers = ops.iter().filter(|op| **op == Op::Barrier).count();
                assert_eq!(phases, (0..=barriers as u32).collect::<Vec<_>>());
                assert!(spans.len() <= ops.len() + 1);
            }
            // Spans that were taken don't come again, and later ones are later.
            assert_eq!(recorder.take(), []);
            session.eval(&TOKENS[3..4], LogitsFor::Last).unwrap();
            let later = recorder.take();
            assert!(!later.is_empty() && later.iter().all(|s| s.begin >= last));
        }
    }
}

/// The operations of a plan name all tensors of its model, each in the layer that has it.
#[test]
fn operations_name_their_tensors() {
    for path in files() {
        let model = Model::open(&path).unwrap();
        let session = model.session(&options().with_threads(1)).unwrap();
        let mut seen = vec![false; model.tensors().len()];
        for op in &*session.plan().ops {
            let mut layers = Vec::new();
            op.tensors(&mut |id| {
                seen[id.index()] = true;
                if let Role::Layer(l, _) = model.spec().slots().nth(id.index()).unwrap().role {
                    layers.push(l);
                }
            });
            layers.dedup();
            assert!(layers.len() <= 1, "{}: {} of {layers:?}", path.display(), op.name());
        }
        for (t, seen) in model.tensor_infos().zip(seen) {
            // Of these a session uses one.
            let either = matches!(t.role, Role::RopeFactorsLong | Role::RopeFactorsShort);
            assert!(seen || either, "{}: {}", path.display(), t.name);
        }
    }
}

#[test]
fn the_bits_are_those_of_untraced_sessions() {
    let model = gpt2();
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut alone = model.session(&options().with_threads(1)).unwrap();
    for threads in [1, 2] {
        // Also where nothing can be recorded.
        for room in [1 << 14, 0] {
            let recorder = recorder(threads, room);
            let mut session = traced(&model, threads, &recorder);
            assert_eq!(session.threads(), threads);
            alone.truncate(0);
            // Several steps of a prompt, then single tokens.
            for part in [&TOKENS[..7], &TOKENS[7..8], &TOKENS[8..]] {
                let expected = bits(alone.eval(part, LogitsFor::Last).unwrap());
                assert_eq!(bits(session.eval(part, LogitsFor::Last).unwrap()), expected);
            }
            assert_eq!(recorder.take().is_empty(), room == 0);
        }
    }
}

#[test]
fn spans_without_room_are_counted() {
    let model = gpt2();
    let all = {
        let recorder = recorder(1, 1 << 14);
        traced(&model, 1, &recorder).eval(&TOKENS[..1], LogitsFor::Last).unwrap();
        recorder.take()
    };
    for room in [0, 1, all.len() - 1, all.len()] {
        let recorder = recorder(1, room);
        let mut session = traced(&model, 1, &recorder);
        session.eval(&TOKENS[..1], LogitsFor::Last).unwrap();
        let spans = recorder.take();
        let activities = |spans: &[Span]| spans.iter().map(|s| s.activity).collect::<Vec<_>>();
        assert_eq!(activities(&spans), activities(&all[..room]));
        assert_eq!(recorder.lost(), (all.len() - room) as u64);
        // There is room again, and the count stays.
        session.eval(&TOKENS[1..2], LogitsFor::Last).unwrap();
        assert_eq!(recorder.take().len(), room);
        assert_eq!(recorder.lost(), 2 * (all.len() - room) as u64);
    }
    // Threads that the recorder wasn't made for.
    let recorder = recorder(0, 100);
    traced(&model, 1, &recorder).eval(&TOKENS[..1], LogitsFor::Last).unwrap();
    assert_eq!((recorder.take(), recorder.lost()), (vec![], all.len() as u64));
    assert!(Recorder::new(1, usize::MAX).is_err());
}

#[test]
fn a_traced_crew_is_the_crew() {
    let recorder = recorder(2, 10);
    let mut crew = Traced::new(crew(2), Arc::clone(&recorder));
    assert_eq!((crew.size(), crew.waits_for_rayon()), (2, false));
    let failed = crew.run(&|_| panic!("on purpose"));
    assert!(matches!(failed, Err(PoolError::Panicked { .. })));
    // It stays usable.
    crew.run(&|team| assert_eq!(team.size(), 2)).unwrap();
    assert_eq!((recorder.take(), recorder.lost()), (vec![], 0));
}
