//! The thread pool: sums over phases, late members, panics at every rank, misuse.

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use teff_graph::{Broken, Solo, Team, Work};
use teff_runtime::pool::{Crew, MAX_THREADS, Pool, PoolError, PoolOptions, cpu_limit};

/// A pool of so many threads, however small the machine is.
fn pool_of(threads: usize) -> Pool {
    let options = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
    Pool::with_options(&options).unwrap()
}

/// A pool whose helpers go to sleep at once.
fn sleepy_pool(threads: usize) -> Pool {
    let options = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
    Pool::with_options(&options.with_idle_spin(Duration::ZERO)).unwrap()
}

/// Panics without the message that the default hook prints to stderr.
fn quiet_panic(message: &str) -> ! {
    panic::resume_unwind(Box::new(message.to_owned()))
}

/// Work of some items in claims of one.
fn one_by_one(items: usize) -> Work {
    Work { most: 1, ..Work::new(items) }
}

/// Walks phases of one operation each as a step does: calls `item` with each phase and each item
/// that this thread claims. An error means that another thread failed.
fn walk(
    team: &dyn Team,
    phases: u32,
    items: usize,
    item: impl Fn(u32, usize),
) -> Result<(), Broken> {
    let work = one_by_one(items);
    let mut phase = team.phase();
    while phase < phases {
        let mut done = 0;
        loop {
            // SAFETY: every thread of the run comes here, with the same work.
            let claimed = unsafe { team.claim(phase, &work) };
            done += claimed.len();
            if claimed.is_empty() {
                break;
            }
            claimed.for_each(|i| item(phase, i));
            if done == items {
                break;
            }
        }
        // SAFETY: so many items were claimed, and are done.
        match unsafe { team.finish(phase, done, items) }? {
            Some(next) => phase = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// In each phase, every item adds up what all items wrote in the phase before.
fn sums(crew: &mut dyn Crew, runs: u64, phases: u32, items: usize) {
    for run in 0..runs {
        // Two boards in turn. Relaxed accesses: only the ends of phases order them.
        let boards: [Vec<AtomicU64>; 2] =
            [0, 1].map(|_| (0..items).map(|_| AtomicU64::new(0)).collect());
        let (wrong, computed) = (AtomicUsize::new(0), AtomicU32::new(0));
        let value = |phase: u32, item: usize| run * 1000 + u64::from(phase) * 10 + item as u64;
        crew.run(&|team| {
            let item = |phase: u32, item: usize| {
                computed.fetch_add(1, Ordering::Relaxed);
                if let Some(before) = phase.checked_sub(1) {
                    let board = &boards[before as usize % 2];
                    let sum: u64 = board.iter().map(|x| x.load(Ordering::Relaxed)).sum();
                    if sum != (0..items).map(|i| value(before, i)).sum::<u64>() {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
                boards[phase as usize % 2][item].store(value(phase, item), Ordering::Relaxed);
            };
            walk(team, phases, items, item).unwrap();
        })
        .unwrap();
        assert_eq!(wrong.into_inner(), 0);
        assert_eq!(computed.into_inner() as usize, phases as usize * items, "each item once");
    }
}

#[test]
fn sums_over_phases() {
    for size in 1..=5 {
        for items in [1, 2, 3, 7, 40] {
            sums(&mut pool_of(size), 20, 10, items);
        }
    }
    sums(&mut Solo, 10, 10, 7);
    sums(&mut (Box::new(pool_of(2)) as Box<dyn Crew>), 10, 10, 7);
    sums(&mut &mut pool_of(2), 10, 10, 7);
}

#[test]
fn sums_over_phases_from_sleeping_helpers() {
    for size in 2..=4 {
        sums(&mut sleepy_pool(size), 100, 3, 5);
    }
}

#[test]
fn every_item_once_by_threads_with_a_rank_of_their_own() {
    for size in 1..=5 {
        let mut pool = pool_of(size);
        assert_eq!(pool.size(), size);
        let caller = std::thread::current().id();
        for items in [0, 1, size, 100] {
            let calls: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            let busy: Vec<AtomicBool> = (0..size).map(|_| AtomicBool::new(false)).collect();
            pool.for_each(items, |rank, item| {
                assert!(!busy[rank].swap(true, Ordering::Relaxed));
                calls[item].fetch_add(1, Ordering::Relaxed);
                let thread = std::thread::current();
                if rank == 0 {
                    assert_eq!(thread.id(), caller);
                } else {
                    assert_eq!(thread.name(), Some(&*format!("teff-{rank}")));
                }
                busy[rank].store(false, Ordering::Relaxed);
            })
            .unwrap();
            assert!(calls.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn claims_keep_to_their_grain_and_limit() {
    let cases = [(1000, 10, usize::MAX), (1000, 1, 7), (17, 100, 1), (0, 5, 5), (3, 0, 0)];
    for (items, grain, most) in cases {
        for size in 1..=4 {
            let claimed = Mutex::new(Vec::new());
            let mut pool = pool_of(size);
            pool.run(|worker| {
                loop {
                    // SAFETY: every thread of the run comes here, with the same work.
                    let range = unsafe { worker.claim(0, &Work { items, grain, most }) };
                    if range.is_empty() {
                        break;
                    }
                    claimed.lock().unwrap().push(range);
                }
            })
            .unwrap();
            let mut claimed = claimed.into_inner().unwrap();
            claimed.sort_by_key(|range| range.start);
            let mut next = 0;
            for range in claimed {
                assert_eq!(range.start, next, "no gaps, nothing twice");
                next = range.end;
                // At least the grain, unless that left threads without a share, or it is the last.
                let least = grain.min(items.div_ceil(size));
                assert!(range.len() >= least || range.end == items, "{range:?} of {items}");
                assert!(range.len() <= most.max(items.div_ceil(size)), "{range:?} of {items}");
            }
            assert_eq!(next, items);
        }
    }
}

/// A helper that has claimed nothing delays nobody: here it does nothing until the owner has been
/// through all phases.
#[test]
fn nobody_waits_for_a_thread_without_a_claim() {
    for size in 2..=4 {
        let mut pool = pool_of(size);
        let (computed, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        pool.run(|worker| {
            while worker.rank() > 0 && !over.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            walk(worker, 5, 8, |_, _| _ = computed.fetch_add(1, Ordering::Relaxed)).unwrap();
            if worker.rank() == 0 {
                assert_eq!(computed.load(Ordering::Relaxed), 40);
                over.store(true, Ordering::Release);
            }
        })
        .unwrap();
        assert_eq!(computed.into_inner(), 40);
    }
}

/// A helper that comes in the middle goes on with the phase that the others are in.
#[test]
fn who_comes_late_skips_what_is_over() {
    let mut pool = pool_of(2);
    let (third, helper_came) = (AtomicBool::new(false), AtomicBool::new(false));
    let helped = Mutex::new(Vec::new());
    let wait_for = |flag: &AtomicBool| {
        let start = Instant::now();
        while !flag.load(Ordering::Acquire) && start.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
    };
    pool.run(|worker| {
        let owner = worker.rank() == 0;
        if !owner {
            wait_for(&third);
        }
        walk(worker, 6, 2, |phase, item| {
            if owner && phase == 3 && item == 0 {
                // The rest of this phase is the helper's.
                third.store(true, Ordering::Release);
                wait_for(&helper_came);
            }
            if !owner {
                helped.lock().unwrap().push((phase, item));
                helper_came.store(true, Ordering::Release);
            }
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(helped.into_inner().unwrap().first(), Some(&(3, 1)));
}

/// Nobody waits for a helper that was called but didn't come before the run was over.
#[test]
fn a_run_ends_without_helpers_that_never_came() {
    let mut pool = pool_of(3);
    for _ in 0..50 {
        let ran = AtomicUsize::new(0);
        pool.run(|worker| {
            if worker.rank() == 0 {
                ran.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert_eq!(ran.into_inner(), 1);
    }
    sums(&mut pool, 3, 3, 9);
}

/// The owner sleeps while a helper computes for long, and a helper while the owner does.
#[test]
fn long_items_are_waited_for() {
    for slow in 0..2 {
        let mut pool = sleepy_pool(2);
        let (order, come) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        pool.run(|worker| {
            let rank = worker.rank();
            walk(worker, 2, 2, |phase, item| {
                if phase == 0 && rank == 0 {
                    // Until the helper has the other item.
                    let start = Instant::now();
                    while !come.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(20)
                    {
                        std::thread::yield_now();
                    }
                }
                if rank == 1 {
                    come.store(true, Ordering::Relaxed);
                }
                if phase == 0 && rank == slow {
                    std::thread::sleep(Duration::from_millis(20));
                }
                order.lock().unwrap().push((phase, item));
            })
            .unwrap();
        })
        .unwrap();
        let phases: Vec<u32> = order.into_inner().unwrap().iter().map(|o| o.0).collect();
        assert_eq!(phases, [0, 0, 1, 1]);
        sums(&mut pool, 5, 3, 6);
    }
}

#[test]
fn borrowed_data_is_split_and_written() {
    let mut pool = pool_of(3);
    let mut data = vec![0u32; 1000];
    let shares: Vec<Mutex<&mut [u32]>> = data.chunks_mut(334).map(Mutex::new).collect();
    pool.for_each(3, |_, item| {
        for x in shares[item].lock().unwrap().iter_mut() {
            *x += 1 + item as u32;
        }
    })
    .unwrap();
    drop(shares);
    assert_eq!(data.iter().sum::<u32>(), 334 + 2 * 334 + 3 * 332);
}

#[test]
fn a_panic_in_any_item_of_any_phase_is_an_error_and_the_pool_goes_on() {
    for size in 1..=4 {
        let mut pool = pool_of(size);
        for culprit in 0..5 {
            for at in 0..3 {
                let beyond = AtomicUsize::new(0);
                let error = pool
                    .run(|worker| {
                        let result = walk(worker, 3, 5, |phase, item| {
                            if (phase, item) == (at, culprit) {
                                quiet_panic(&format!("item {culprit} at {at}"));
                            }
                            if phase > at {
                                beyond.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                        // Who is told stays told.
                        if result == Err(Broken) {
                            // SAFETY: nothing more was done.
                            assert_eq!(unsafe { worker.finish(at, 0, 5) }, Err(Broken));
                        }
                    })
                    .unwrap_err();
                assert!(
                    matches!(&error, PoolError::Panicked { rank, message }
                        if *rank < size && *message == format!("item {culprit} at {at}")),
                    "{error:?}"
                );
                assert_eq!(beyond.into_inner(), 0);
                sums(&mut pool, 2, 3, 5);
            }
        }
    }
}

#[test]
fn the_cause_of_a_panic_is_reported_not_its_consequence() {
    let mut pool = pool_of(2);
    let error = pool
        .run(|worker| {
            let cause = |_, item| {
                if item == 1 {
                    quiet_panic("the cause");
                }
            };
            if walk(worker, 1, 2, cause).is_err() {
                quiet_panic("a consequence");
            }
        })
        .unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { message, .. } if message == "the cause"));
    sums(&mut pool, 2, 2, 3);
}

#[test]
fn payloads_of_any_kind() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new("from the payload's destructor"));
        }
    }
    let mut pool = pool_of(2);
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
    sums(&mut pool, 2, 2, 3);
}

#[test]
fn a_panic_of_the_lone_thread() {
    let error = Solo.run(&|_| quiet_panic("alone")).unwrap_err();
    assert!(matches!(&error, PoolError::Panicked { rank: 0, message } if message == "alone"));
    sums(&mut Solo, 1, 1, 1);
}

#[test]
fn a_task_may_run_another_pool_but_not_its_own() {
    let mut outer = pool_of(2);
    let inner = Mutex::new(pool_of(2));
    let count = AtomicUsize::new(0);
    outer
        .for_each(2, |_, _| {
            let mut inner = inner.lock().unwrap();
            inner.for_each(2, |_, _| _ = count.fetch_add(1, Ordering::Relaxed)).unwrap();
        })
        .unwrap();
    assert_eq!(count.into_inner(), 4);
    // The pool itself can't be used: `run` takes `&mut`, which leaves a lock that the run holds.
    let own = Mutex::new(pool_of(2));
    let refused = AtomicUsize::new(0);
    own.lock()
        .unwrap()
        .for_each(2, |_, _| {
            if own.try_lock().is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
    assert_eq!(refused.into_inner(), 2);
}

#[test]
fn tasks_may_use_the_park_token() {
    let mut pool = sleepy_pool(3);
    for _ in 0..50 {
        pool.for_each(3, |_, item| {
            std::thread::current().unpark();
            if item == 1 {
                std::thread::park();
            }
        })
        .unwrap();
    }
    sums(&mut pool, 2, 2, 3);
}

#[test]
fn a_pool_has_no_more_threads_than_the_process_may_run_on() {
    let Some(cpus) = cpu_limit().filter(|&cpus| cpus < MAX_THREADS) else {
        println!("skipped: the number of CPUs is unknown, or too large to exceed");
        return;
    };
    let pool = Pool::new(cpus).unwrap();
    assert_eq!((pool.size(), pool.fewer_threads()), (cpus, None));
    let pool = Pool::new(cpus + 1).unwrap();
    let fewer = pool.fewer_threads().unwrap();
    assert_eq!((pool.size(), fewer.asked, fewer.used), (cpus, cpus + 1, cpus));
    let pool = pool_of(cpus + 1);
    assert_eq!((pool.size(), pool.fewer_threads()), (cpus + 1, None));
    let default = Pool::with_options(&PoolOptions::default()).unwrap();
    assert!(default.size() <= cpus && default.fewer_threads().is_none());
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
    sums(&mut pool_of(32), 3, 5, 100);
    sums(&mut pool_of(MAX_THREADS), 2, 3, 300);
}

#[test]
fn drop_at_any_time_joins_the_workers() {
    for size in 1..=4 {
        drop(pool_of(size)); // before they have waited at all
        let pool = pool_of(size);
        std::thread::sleep(Duration::from_millis(2)); // parked
        drop(pool);
        let mut pool = pool_of(size);
        sums(&mut pool, 1, 1, 3);
        drop(pool); // awake
        let mut pool = pool_of(size);
        pool.run(|_| quiet_panic("x")).unwrap_err();
        drop(pool); // after a panic
    }
}

#[test]
fn a_pool_can_be_run_from_one_thread_after_another() {
    let mut pool = pool_of(3);
    for _ in 0..5 {
        pool = std::thread::spawn(move || {
            sums(&mut pool, 2, 2, 3);
            pool
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_forgotten_pool_is_harmless() {
    let mut pool = pool_of(2);
    sums(&mut pool, 1, 1, 3);
    core::mem::forget(pool);
}
