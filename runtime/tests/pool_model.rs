//! Model checks of the pool's protocol: the source file that the pool uses is compiled here over
//! loom's atomics, and every interleaving is explored (up to a bound on preemptions if there are
//! many). Loom reports data races, lost wake-ups (no thread can run) and endless waits.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // loom supports no others

#[path = "../src/pool/protocol.rs"]
mod protocol;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    pub(crate) type Cell<T> = loom::cell::UnsafeCell<T>;

    std::thread_local! {
        /// Number of fruitless spins, over all threads of one execution, after which no further
        /// interleavings of it are explored. Without it two threads that wait for a third can
        /// alternate forever. Anything one more spin could find is found by an execution with fewer
        /// spins. (Loom runs all threads of a model on the test's own.)
        static SPINS_LEFT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    pub(crate) fn begin(spins: u32) {
        SPINS_LEFT.set(spins);
    }

    pub(crate) fn spin_loop() {
        match SPINS_LEFT.get() {
            0 => loom::skip_branch(),
            left => SPINS_LEFT.set(left - 1),
        }
        loom::thread::yield_now();
    }

    pub(crate) fn yield_now() {
        spin_loop();
    }
}

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use protocol::{Barrier, Gate, Order};
use teff_graph::Broken;

fn model(preemptions: Option<usize>, f: impl Fn() + Send + Sync + 'static) {
    model_of_spins(preemptions, 6, f);
}

fn model_of_spins(preemptions: Option<usize>, spins: u32, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        sync::begin(spins);
        f();
    });
}

/// A cell per thread, watched by loom for races: written by its thread before a barrier, read by
/// all after it.
struct Board {
    barrier: Barrier,
    cells: Vec<UnsafeCell<u32>>,
}

impl Board {
    fn new(size: u32) -> Arc<Board> {
        let cells = (0..size).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Board { barrier: Barrier::new(size, 1), cells })
    }

    fn write(&self, rank: usize, value: u32) {
        // SAFETY: loom runs one thread at a time, and checks that no other access is concurrent.
        self.cells[rank].with_mut(|p| unsafe { *p = value });
    }

    fn read(&self, rank: usize) -> u32 {
        // SAFETY: as in `write`.
        self.cells[rank].with(|p| unsafe { *p })
    }

    fn sum(&self) -> u32 {
        (0..self.cells.len()).map(|rank| self.read(rank)).sum()
    }
}

/// Runs `f` as each of `size` threads and returns rank 0's result last.
fn together<R: 'static>(size: u32, f: fn(&Board, usize) -> R) -> (Vec<R>, Arc<Board>) {
    let board = Board::new(size);
    let others: Vec<_> = (1..size as usize)
        .map(|rank| {
            let board = Arc::clone(&board);
            thread::spawn(move || f(&board, rank))
        })
        .collect();
    let mine = f(&board, 0);
    let mut results = vec![mine];
    results.extend(others.into_iter().map(|t| t.join().unwrap()));
    (results, board)
}

/// Writes, waits at the barrier, reads all; twice.
fn phases(board: &Board, rank: usize) {
    let size = board.cells.len() as u32;
    board.write(rank, 1);
    board.barrier.wait().unwrap();
    assert_eq!(board.sum(), size);
    board.barrier.wait().unwrap();
    board.write(rank, 10);
    board.barrier.wait().unwrap();
    assert_eq!(board.sum(), 10 * size);
}

#[test]
fn two_members_see_each_others_writes() {
    model(None, || {
        together(2, phases);
    });
}

#[test]
fn three_members_see_each_others_writes() {
    model(Some(2), || {
        together(3, phases);
    });
}

/// Rank 1 leaves before the first barrier; so do all others in the end.
fn leave_at_once(board: &Board, rank: usize) -> [Result<(), Broken>; 2] {
    let results =
        if rank == 1 { [Ok(()); 2] } else { [board.barrier.wait(), board.barrier.wait()] };
    board.barrier.leave();
    results
}

#[test]
fn who_waits_for_a_member_that_left_is_told() {
    for (size, bound) in [(2, None), (3, Some(2))] {
        model(bound, move || {
            let (results, board) = together(size, leave_at_once);
            for (rank, result) in results.into_iter().enumerate() {
                let expected = if rank == 1 { Ok(()) } else { Err(Broken) };
                assert_eq!(result, [expected; 2], "rank {rank}");
            }
            assert!(board.barrier.broken());
        });
    }
}

/// All pass one barrier; then rank 0 leaves and the others go on to a second one.
fn leave_after_one(board: &Board, rank: usize) -> [Result<(), Broken>; 2] {
    board.write(rank, 1);
    let first = board.barrier.wait();
    assert_eq!(board.sum(), board.cells.len() as u32);
    let second = if rank == 0 { Ok(()) } else { board.barrier.wait() };
    board.barrier.leave();
    [first, second]
}

#[test]
fn a_completed_barrier_is_passed_whoever_leaves_next() {
    for (size, bound) in [(2, None), (3, Some(2))] {
        model(bound, move || {
            let (results, _) = together(size, leave_after_one);
            for (rank, result) in results.into_iter().enumerate() {
                assert_eq!(result[0], Ok(()), "rank {rank}");
                assert_eq!(result[1], if rank == 0 { Ok(()) } else { Err(Broken) });
            }
        });
    }
}

#[test]
fn leaving_after_the_last_barrier_breaks_nothing() {
    model(None, || {
        let (results, board) = together(2, |board, _| {
            let result = board.barrier.wait();
            board.barrier.leave();
            result
        });
        assert_eq!(results, [Ok(()); 2]);
        assert!(!board.barrier.broken());
        board.barrier.reset();
    });
}

/// State shared by a pool: its gate, its barrier, and here the owner's data that a job points to.
struct Crew {
    gate: Gate<u32>,
    board: Arc<Board>,
    /// Written by the owner between runs, read by workers during them.
    given: UnsafeCell<u32>,
}

/// Successive runs of `workers` workers, then the shutdown: every worker does every job once and
/// sees what the owner wrote before it; the owner sees what the workers wrote. With `meet` the
/// threads wait at a barrier in each run; with `desert` the workers leave first.
fn runs(workers: u32, jobs: u32, awake: u32, meet: bool, desert: bool) {
    let crew = Arc::new(Crew {
        gate: Gate::new(workers, 1),
        board: Board::new(workers + 1),
        given: UnsafeCell::new(0),
    });
    let threads: Vec<_> = (0..workers as usize)
        .map(|worker| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                let mut done = 0;
                loop {
                    let mut left = awake;
                    let stay_awake = || {
                        sync::yield_now();
                        left = left.saturating_sub(1);
                        left > 0
                    };
                    match crew.gate.next(worker, stay_awake, thread::park) {
                        Order::Run(job) => {
                            done += 1;
                            assert_eq!(job, done);
                            // SAFETY: checked by loom.
                            assert_eq!(crew.given.with(|p| unsafe { *p }), 100 * job);
                            crew.board.write(worker + 1, job);
                            if meet && !desert {
                                crew.board.barrier.wait().unwrap();
                            }
                            crew.board.barrier.leave();
                            crew.gate.done();
                        }
                        Order::Stop => return done,
                    }
                }
            })
        })
        .collect();
    for job in 1..=jobs {
        // SAFETY: checked by loom.
        crew.given.with_mut(|p| unsafe { *p = 100 * job });
        // SAFETY: only this thread starts jobs, and it finishes each one below.
        unsafe { crew.gate.start(job, |worker| threads[worker].thread().unpark()) };
        crew.board.write(0, job);
        if meet {
            let met = crew.board.barrier.wait();
            assert_eq!(met, if desert { Err(Broken) } else { Ok(()) });
        }
        crew.board.barrier.leave();
        crew.gate.finish();
        assert_eq!(crew.board.sum(), job * (workers + 1));
        assert_eq!(crew.board.barrier.broken(), meet && desert);
        crew.board.barrier.reset();
    }
    crew.gate.stop(|worker| threads[worker].thread().unpark());
    for thread in threads {
        assert_eq!(thread.join().unwrap(), jobs);
    }
}

#[test]
fn no_wake_up_is_lost() {
    // One worker, which parks at once or after a while; two runs, so that the words are reused.
    model(Some(2), || runs(1, 2, 0, false, false));
    model(Some(2), || runs(1, 2, 2, false, false));
}

#[test]
fn no_wake_up_is_lost_by_two_workers() {
    model(Some(2), || runs(2, 1, 0, false, false));
}

#[test]
fn runs_with_a_barrier_and_the_next_run_after_a_broken_one() {
    model_of_spins(Some(2), 10, || runs(1, 2, 0, true, false));
    model_of_spins(Some(2), 10, || runs(1, 2, 0, true, true));
}

#[test]
fn an_idle_crew_ends() {
    model(None, || runs(2, 0, 0, false, false));
    model(None, || runs(1, 0, 2, false, false));
}
