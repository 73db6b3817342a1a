//! The thread pool: sums over phases, panics at every rank, misuse.

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use teff_graph::{Broken, Solo, Team};
use teff_runtime::pool::{Crew, MAX_THREADS, Pool, PoolError};

/// Panics without the message that the default hook prints to stderr.
fn quiet_panic(message: &str) -> ! {
    panic::resume_unwind(Box::new(message.to_owned()))
}

#[test]
fn every_member_runs_once_and_knows_its_rank() {
    for size in 1..=5 {
        let mut pool = Pool::new(size).unwrap();
        assert_eq!(pool.size(), size);
        let caller = std::thread::current().id();
        for _ in 0..50 {
            let ran: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|worker| {
                assert_eq!(worker.size(), size);
                ran[worker.rank()].fetch_add(1, Ordering::Relaxed);
                let thread = std::thread::current();
                if worker.rank() == 0 {
                    assert_eq!(thread.id(), caller);
                } else {
                    assert_eq!(thread.name(), Some(&*format!("teff-{}", worker.rank())));
                }
            })
            .unwrap();
            assert!(ran.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }
}

/// In each phase, every thread adds up what all threads wrote in the phase before.
fn phases(crew: &mut dyn Crew, runs: u64, phases: u64) {
    let size = crew.size() as u64;
    for run in 0..runs {
        // Two boards in turn, so that one barrier per phase is enough. Relaxed accesses: only the
        // barrier orders them.
        let boards: [Vec<AtomicU64>; 2] =
            [0, 1].map(|_| (0..size).map(|_| AtomicU64::new(0)).collect());
        let wrong = AtomicUsize::new(0);
        crew.run(&|team| {
            for phase in 0..phases {
                let board = &boards[(phase % 2) as usize];
                let value = run * 1000 + phase * 10;
                board[team.rank()].store(value + team.rank() as u64, Ordering::Relaxed);
                team.barrier().unwrap();
                let sum: u64 = board.iter().map(|x| x.load(Ordering::Relaxed)).sum();
                if sum != size * value + size * (size - 1) / 2 {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .unwrap();
        assert_eq!(wrong.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn sums_over_phases() {
    for size in 1..=5 {
        phases(&mut Pool::new(size).unwrap(), 100, 10);
    }
    phases(&mut Solo, 10, 10);
    phases(&mut (Box::new(Pool::new(2).unwrap()) as Box<dyn Crew>), 10, 10);
    phases(&mut &mut Pool::new(2).unwrap(), 10, 10);
}

#[test]
fn sums_over_phases_from_parked_workers() {
    for size in 2..=4 {
        phases(&mut Pool::with_idle_spin(size, Duration::ZERO).unwrap(), 200, 3);
    }
}

#[test]
fn borrowed_data_is_split_and_written() {
    let mut pool = Pool::new(3).unwrap();
    let mut data = vec![0u32; 1000];
    let shares: Vec<Mutex<&mut [u32]>> = data.chunks_mut(334).map(Mutex::new).collect();
    pool.run(|worker| {
        for x in shares[worker.rank()].lock().unwrap().iter_mut() {
            *x += 1 + worker.rank() as u32;
        }
    })
    .unwrap();
    drop(shares);
    assert_eq!(data.iter().sum::<u32>(), 334 + 2 * 334 + 3 * 332);
}

#[test]
fn a_panic_on_any_rank_at_any_barrier_is_an_error_and_the_pool_goes_on() {
    for size in 1..=4 {
        let mut pool = Pool::new(size).unwrap();
        for culprit in 0..size {
            for at in 0..3 {
                let finished = AtomicUsize::new(0);
                let told = AtomicUsize::new(0);
                let error = pool
                    .run(|worker| {
                        for phase in 0..3 {
                            if worker.rank() == culprit && phase == at {
                                quiet_panic(&format!("rank {culprit} at {at}"));
                            }
                            match worker.barrier() {
                                Ok(()) => assert!(phase < at),
                                Err(Broken) => {
                                    assert_eq!(phase, at);
                                    // Once broken, always broken.
                                    assert_eq!(worker.barrier(), Err(Broken));
                                    told.fetch_add(1, Ordering::Relaxed);
                                    break;
                                }
                            }
                        }
                        finished.fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap_err();
                assert!(
                    matches!(&error, PoolError::Panicked { rank, message }
                        if *rank == culprit && *message == format!("rank {culprit} at {at}")),
                    "{error:?}"
                );
                assert_eq!(finished.into_inner(), size - 1);
                assert_eq!(told.into_inner(), size - 1);
                phases(&mut pool, 2, 3);
            }
        }
    }
}

#[test]
fn a_panic_after_the_last_barrier_is_an_error_too() {
    let mut pool = Pool::new(3).unwrap();
    for culprit in 0..3 {
        let passed = AtomicUsize::new(0);
        let error = pool
            .run(|worker| {
                if worker.barrier().is_ok() {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
                if worker.rank() == culprit {
                    quiet_panic("late");
                }
            })
            .unwrap_err();
        assert!(error.to_string().contains("late"), "{error}");
        assert_eq!(passed.into_inner(), 3, "the barrier was complete");
    }
}

#[test]
fn panics_of_all_members_and_the_first_is_told() {
    let mut pool = Pool::new(3).unwrap();
    let error = pool.run(|worker| quiet_panic(&format!("number {}", worker.rank()))).unwrap_err();
    let PoolError::Panicked { rank, message } = error else { panic!("{error:?}") };
    assert_eq!(message, format!("number {rank}"));
    // One thread panics; the others panic over the broken barrier, which is not the cause.
    let error = pool
        .run(|worker| {
            if worker.rank() == 1 {
                quiet_panic("the cause");
            }
            if worker.barrier().is_err() {
                quiet_panic("a consequence");
            }
        })
        .unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { rank: 1, message } if message == "the cause"));
    phases(&mut pool, 2, 2);
}

#[test]
fn payloads_of_any_kind() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new("from the payload's destructor"));
        }
    }
    let mut pool = Pool::new(2).unwrap();
    let error = pool.run(|_| panic::resume_unwind(Box::new(Bomb))).unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { message, .. } if message.is_empty()));
    assert!(!error.to_string().is_empty());
    let error = pool.run(|_| panic::resume_unwind(Box::new("a str"))).unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { message, .. } if message == "a str"));
    // A long message is cut at a character boundary.
    let long = format!("x{}", "é".repeat(100_000));
    let error = pool.run(|_| quiet_panic(&long)).unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { message, .. }
        if long.starts_with(&**message) && message.len() == 4095));
    phases(&mut pool, 2, 2);
}

#[test]
fn a_panic_of_the_lone_thread() {
    let error = Solo.run(&|_| quiet_panic("alone")).unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { rank: 0, message } if message == "alone"));
    phases(&mut Solo, 1, 1);
}

#[test]
fn a_member_that_returns_early_strands_nobody() {
    for size in 2..=4 {
        let mut pool = Pool::new(size).unwrap();
        for deserter in 0..size {
            let told = AtomicUsize::new(0);
            let error = pool
                .run(|worker| {
                    if worker.barrier().is_err() || worker.rank() == deserter {
                        return;
                    }
                    if worker.barrier() == Err(Broken) {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .unwrap_err();
            assert!(matches!(error, PoolError::Deserted), "{error:?}");
            assert_eq!(told.into_inner(), size - 1);
            phases(&mut pool, 1, 2);
        }
    }
}

#[test]
fn runs_end_after_the_slowest_member() {
    let mut pool = Pool::new(3).unwrap();
    for slow in 0..3 {
        let finished = AtomicBool::new(false);
        pool.run(|worker| {
            if worker.rank() == slow {
                std::thread::sleep(Duration::from_millis(5));
                finished.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert!(finished.into_inner());
    }
}

#[test]
fn a_task_may_run_another_pool_but_not_its_own() {
    let mut outer = Pool::new(2).unwrap();
    let inner = Mutex::new(Pool::new(2).unwrap());
    let count = AtomicUsize::new(0);
    outer
        .run(|_| {
            let mut inner = inner.lock().unwrap();
            inner
                .run(|worker| {
                    worker.barrier().unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
        })
        .unwrap();
    assert_eq!(count.into_inner(), 4);
    // The pool itself can't be used: `run` takes `&mut`, which leaves a lock that the run holds.
    let own = Mutex::new(Pool::new(2).unwrap());
    let refused = AtomicUsize::new(0);
    own.lock()
        .unwrap()
        .run(|_| {
            if own.try_lock().is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
    assert_eq!(refused.into_inner(), 2);
}

#[test]
fn tasks_may_use_the_park_token() {
    let mut pool = Pool::with_idle_spin(3, Duration::ZERO).unwrap();
    for _ in 0..50 {
        pool.run(|worker| {
            std::thread::current().unpark(); // a stray token for the pool's next park
            if worker.rank() == 1 {
                std::thread::park(); // and one consumed
            }
        })
        .unwrap();
    }
    phases(&mut pool, 2, 2);
}

#[test]
fn wrong_sizes_are_refused() {
    assert!(matches!(Pool::new(0), Err(PoolError::NoThreads)));
    for got in [MAX_THREADS + 1, usize::MAX] {
        let error = Pool::new(got).unwrap_err();
        assert!(
            matches!(error, PoolError::TooManyThreads { got: g, max: MAX_THREADS } if g == got)
        );
        assert!(error.to_string().contains(&got.to_string()));
    }
}

#[test]
fn many_threads_on_few_cores_end() {
    phases(&mut Pool::new(32).unwrap(), 3, 5);
}

#[test]
fn drop_at_any_time_joins_the_workers() {
    for size in 1..=4 {
        drop(Pool::new(size).unwrap()); // before they have waited at all
        let pool = Pool::new(size).unwrap();
        std::thread::sleep(Duration::from_millis(2)); // parked
        drop(pool);
        let mut pool = Pool::new(size).unwrap();
        phases(&mut pool, 1, 1);
        drop(pool); // awake
        let mut pool = Pool::new(size).unwrap();
        pool.run(|_| quiet_panic("x")).unwrap_err();
        drop(pool); // after a panic
    }
}

#[test]
fn a_pool_can_be_run_from_one_thread_after_another() {
    let mut pool = Pool::new(3).unwrap();
    for _ in 0..5 {
        pool = std::thread::spawn(move || {
            phases(&mut pool, 2, 2);
            pool
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_forgotten_pool_is_harmless() {
    let mut pool = Pool::new(2).unwrap();
    phases(&mut pool, 1, 1);
    core::mem::forget(pool);
}
