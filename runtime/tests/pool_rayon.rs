//! The crew of rayon's threads fulfils the same contract as the pool.
#![cfg(feature = "rayon")]

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use teff_graph::{Broken, LogitsFor, Team, Work};
use teff_runtime::pool::{Crew, PoolError};
use teff_runtime::rayon_team::RayonCrew;
use teff_runtime::{Model, Session, SessionOptions};

fn rayon_pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

const ITEMS: usize = 7;

/// Walks phases as a step does, with one operation each.
fn walk(team: &dyn Team, phases: u32, item: impl Fn(u32, usize)) -> Result<(), Broken> {
    let work = Work { most: 1, ..Work::new(ITEMS) };
    let mut phase = team.phase();
    while phase < phases {
        let mut done = 0;
        while done < ITEMS {
            // SAFETY: every thread of the run comes here, with the same work.
            let claimed = unsafe { team.claim(phase, &work) };
            if claimed.is_empty() {
                break;
            }
            done += claimed.len();
            claimed.for_each(|i| item(phase, i));
        }
        // SAFETY: so many items were claimed, and are done.
        match unsafe { team.finish(phase, done, ITEMS) }? {
            Some(next) => phase = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// In each phase, every item adds up what all items wrote in the phase before.
fn phases(crew: &mut RayonCrew<'_>) {
    let size = crew.size();
    for _ in 0..20 {
        let boards: [Vec<AtomicU64>; 2] =
            [0, 1].map(|_| (0..ITEMS).map(|_| AtomicU64::new(0)).collect());
        let (wrong, computed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        crew.run(&|team| {
            assert_eq!(team.size(), size);
            walk(team, 5, |phase, item| {
                computed.fetch_add(1, Ordering::Relaxed);
                let before = boards[(phase as usize + 1) % 2].iter();
                let sum: u64 = before.map(|x| x.load(Ordering::Relaxed)).sum();
                if phase > 0 && sum != u64::from(phase) * ITEMS as u64 {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
                boards[phase as usize % 2][item].store(u64::from(phase) + 1, Ordering::Relaxed);
            })
            .unwrap();
        })
        .unwrap();
        assert_eq!((wrong.into_inner(), computed.into_inner()), (0, 5 * ITEMS));
    }
}

#[test]
fn sums_over_phases_from_outside_and_inside() {
    for threads in 1..=4 {
        let pool = rayon_pool(threads);
        phases(&mut RayonCrew::new(&pool).unwrap());
        pool.install(|| phases(&mut RayonCrew::new(&pool).unwrap()));
        pool.install(|| {
            let mut crew = RayonCrew::current().unwrap();
            assert_eq!(crew.size(), threads);
            phases(&mut crew);
        });
    }
}

#[test]
fn the_global_pool() {
    let mut crew = RayonCrew::current().unwrap();
    assert_eq!(crew.size(), rayon::current_num_threads());
    phases(&mut crew);
    rayon::scope(|_| phases(&mut crew)); // from one of its own threads
    let other = rayon_pool(2);
    other.install(|| assert!(matches!(crew.run(&|_| ()), Err(PoolError::WrongPool))));
    let mut inner = other.install(|| RayonCrew::current().unwrap());
    assert!(matches!(inner.run(&|_| ()), Err(PoolError::WrongPool)));
    other.install(|| phases(&mut inner));
}

#[test]
fn panics_are_errors_and_the_crew_goes_on() {
    let pool = rayon_pool(3);
    let mut crew = RayonCrew::new(&pool).unwrap();
    for culprit in 0..ITEMS {
        let error = crew.run(&|team| {
            let item = |phase, item| {
                if (phase, item) == (1, culprit) {
                    panic::resume_unwind(Box::new("here"));
                }
            };
            let _ = walk(team, 3, item);
        });
        match error {
            Err(PoolError::Panicked { rank, message }) => {
                assert!(rank < 3 && message == "here");
            }
            other => panic!("{other:?}"),
        }
        phases(&mut crew);
    }
}

#[test]
fn a_task_may_run_another_crew_of_the_same_pool() {
    let pool = rayon_pool(2);
    let mut crew = RayonCrew::new(&pool).unwrap();
    let second = Mutex::new(RayonCrew::new(&pool).unwrap());
    let nested = AtomicUsize::new(0);
    crew.run(&|team| {
        let item = |_, _| {
            second.lock().unwrap().run(&|_| ()).unwrap();
            nested.fetch_add(1, Ordering::Relaxed);
        };
        walk(team, 2, item).unwrap();
    })
    .unwrap();
    assert_eq!(nested.into_inner(), 2 * ITEMS);
    phases(&mut second.into_inner().unwrap());
}

#[test]
fn runs_from_many_threads_share_the_pool() {
    let pool = rayon_pool(3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| phases(&mut RayonCrew::new(&pool).unwrap()));
        }
    });
}

/// One thread of the pool is busy until a run is over: the run doesn't wait for it, and it finds
/// nothing to do afterwards.
#[test]
fn a_run_does_not_wait_for_busy_threads() {
    let pool = rayon_pool(2);
    let (came, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut crew = RayonCrew::new(&pool).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pool.install(|| {
                came.store(true, Ordering::Release);
                while !over.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            });
        });
        while !came.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            let ran = AtomicUsize::new(0);
            crew.run(&|team| {
                walk(team, 2, |_, _| _ = ran.fetch_add(1, Ordering::Relaxed)).unwrap();
            })
            .unwrap();
            assert_eq!(ran.into_inner(), 2 * ITEMS);
        }
        over.store(true, Ordering::Release);
    });
    phases(&mut crew);
}

/// A thread that comes in the middle goes on with the phase that the other is in; one that comes when
/// the last phase is over finds nothing left, in whichever phase it believes to be.
#[test]
fn a_late_thread_skips_what_is_over() {
    let pool = rayon_pool(2);
    let mut crew = RayonCrew::new(&pool).unwrap();
    let wait_for = |flag: &AtomicBool| {
        let start = Instant::now();
        while !flag.load(Ordering::Acquire) && start.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
    };
    // The thread comes in phase 3 of 6, or after the last.
    for middle in [true, false] {
        let [first, ready, third, helped] = [(); 4].map(|()| AtomicBool::new(false));
        let (computed, of_late) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        crew.run(&|team| {
            let late = first.swap(true, Ordering::AcqRel);
            if late {
                ready.store(true, Ordering::Release);
                wait_for(&third);
            } else {
                wait_for(&ready);
            }
            let item = |phase, item| {
                computed.fetch_add(1, Ordering::Relaxed);
                if late {
                    of_late.lock().unwrap().push(phase);
                    helped.store(true, Ordering::Release);
                } else if middle && (phase, item) == (3, 0) {
                    // The rest of this phase is the other's, if it claims some before it is over.
                    third.store(true, Ordering::Release);
                    wait_for(&helped);
                }
            };
            walk(team, 6, item).unwrap();
            third.store(true, Ordering::Release);
            if late && !middle {
                // As if the phase had been read before all others were over.
                for phase in 0..6 {
                    let work = Work { most: 1, ..Work::new(ITEMS) };
                    // SAFETY: the same operation and work as above; what is claimed is none.
                    assert!(unsafe { team.claim(phase, &work) }.is_empty(), "phase {phase}");
                    // SAFETY: nothing was claimed.
                    assert_eq!(unsafe { team.finish(phase, 0, ITEMS) }, Ok(Some(6)));
                }
            }
        })
        .unwrap();
        assert_eq!(computed.into_inner(), 6 * ITEMS);
        let of_late = of_late.into_inner().unwrap();
        assert_eq!(of_late.first(), middle.then_some(&3), "{of_late:?}");
    }
}

/// Forks that are stepped from threads of the pool don't keep all of these from the session whose turn
/// it is.
#[test]
fn forks_on_threads_of_their_own_pool_and_elsewhere_take_turns() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/gpt2/gpt2-Q8_0.gguf");
    let model = Arc::new(Model::open(model).unwrap());
    // These outlive the test if it fails, since its threads never end then.
    let pool: &'static ThreadPool = Box::leak(Box::new(rayon_pool(2)));
    fn last(mut s: Session<'_>) -> Vec<u32> {
        let logits = (0..6).map(|token| {
            let logits = s.eval(&[token], LogitsFor::Last).unwrap();
            logits.iter().map(|x| x.to_bits()).collect()
        });
        logits.last().unwrap()
    }
    let options = SessionOptions::default().with_context(16).with_threads(1);
    let want = last(model.session_owned(&options).unwrap());
    for _ in 0..3 {
        let crew = RayonCrew::new(pool).unwrap();
        let mut first = model.session_builder_owned(&options).crew(crew).build().unwrap();
        let (done, results) = channel();
        for _ in 0..4 {
            let (fork, done) = (first.fork().unwrap(), done.clone());
            pool.spawn(move || done.send(last(fork)).unwrap());
        }
        std::thread::spawn(move || done.send(last(first)).unwrap());
        for _ in 0..5 {
            let logits = results.recv_timeout(Duration::from_secs(60)).expect("they take turns");
            assert_eq!(logits, want);
        }
    }
}
