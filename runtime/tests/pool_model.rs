//! Model checks of the pool's protocol: the source file that the pool uses is compiled here over
//! loom's atomics and locks, and every interleaving is explored (up to a bound on preemptions if
//! there are many). Loom reports data races, lost wake-ups (no thread can run) and endless waits.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // loom supports no others

#[allow(dead_code)] // the pool uses all of it
#[path = "../src/pool/protocol.rs"]
mod protocol;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) fn lock(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
        lock.lock().unwrap()
    }

    pub(crate) fn wait<'a>(rings: &Condvar, guard: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
        rings.wait(guard).unwrap()
    }
}

use std::ops::Range;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use protocol::{Bells, Board, Call, Door, Progress};
use teff_graph::Work;

fn model(preemptions: Option<usize>, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(f);
}

/// Work of some items in claims of one.
fn one_by_one(items: usize) -> Work {
    Work { most: 1, ..Work::new(items) }
}

fn get(cell: &UnsafeCell<u32>) -> u32 {
    // SAFETY: loom runs one thread at a time, and reports accesses that could be concurrent.
    cell.with(|p| unsafe { *p })
}

fn set(cell: &UnsafeCell<u32>, value: u32) {
    // SAFETY: as in `get`.
    cell.with_mut(|p| unsafe { *p = value });
}

/// A crew as the pool has it, with cells that loom watches for races.
struct Crew {
    board: Board,
    door: Door,
    bells: Bells,
    /// Written by the owner between runs, read by those inside.
    job: UnsafeCell<u32>,
    /// A cell for each item, which every phase reads or writes.
    cells: Vec<UnsafeCell<u32>>,
}

/// Part that one member has in a run.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Waits for the end of each phase.
    Owner,
    /// Leaves when it would have to wait, and is called.
    Helper,
    /// Leaves when it would have to wait, for good.
    Guest,
}

impl Crew {
    fn new(size: u32, items: usize) -> Arc<Crew> {
        let cells = (0..items).map(|_| UnsafeCell::new(0)).collect();
        let (board, door, bells) = (Board::new(size), Door::new(), Bells::new(size));
        Arc::new(Crew { board, door, bells, job: UnsafeCell::new(0), cells })
    }

    fn call_others(&self, rank: usize) {
        (0..self.board.size()).filter(|&r| r != rank).for_each(|r| self.bells.call(r));
    }

    /// Item of a phase. In even phases each item adds 1 to its own cell; in odd ones, each reads
    /// all cells: loom finds it if a phase begins before the one before is over, and if anything
    /// of a phase that is over is computed again.
    fn compute(&self, phase: u32, item: usize) {
        let cell = &self.cells[item];
        if phase.is_multiple_of(2) {
            set(cell, get(cell) + 1);
        } else {
            assert!(self.cells.iter().all(|cell| get(cell) == phase / 2 + 1));
        }
    }

    /// Claims and computes items of an operation until there are none left.
    fn operation(&self, rank: usize, op: u32, phase: u32, work: &Work) -> usize {
        let mut done = 0;
        while done < work.items {
            let claimed: Range<usize> = self.board.claim(rank, op, work);
            if claimed.is_empty() {
                break;
            }
            done += claimed.len();
            claimed.for_each(|item| self.compute(phase, item));
        }
        done
    }

    /// Walks `phases` phases of one operation each; false if the member left to be called.
    fn walk(&self, rank: usize, role: Role, phases: u32) -> bool {
        let work = one_by_one(self.cells.len());
        let mut phase = self.board.phase();
        while phase < phases {
            let done = self.operation(rank, phase, phase, &work);
            if self.board.report(phase, done, work.items, || self.call_others(rank)) {
                phase += 1;
                continue;
            }
            loop {
                match self.board.progress(phase) {
                    Progress::Now(now) => {
                        phase = now;
                        break;
                    }
                    Progress::Broken => return true,
                    Progress::Pending => {}
                }
                // No spinning: the pool may sleep at any time, which is what can go wrong.
                if role == Role::Guest {
                    return true;
                }
                if self.board.announce_sleep(phase) {
                    if role == Role::Helper {
                        return false;
                    }
                    self.bells.sleep(rank);
                }
            }
        }
        true
    }

    /// A run of the owner's: `phases` phases, then the door is closed.
    fn run(&self, phases: u32) {
        self.open(phases);
        self.walk(0, Role::Owner, phases);
        self.close();
    }

    fn open(&self, phases: u32) {
        self.board.reset();
        set(&self.job, phases);
        self.door.open();
        self.call_others(0);
    }

    fn close(&self) {
        let mut empty = self.door.close();
        while !empty {
            empty = self.door.is_empty() || !self.door.announce_sleep();
            if !empty {
                self.bells.sleep(0);
            }
        }
        // The owner has the cells and the job for itself now.
        set(&self.job, 0);
        self.cells.iter().for_each(|cell| set(cell, 0));
    }

    /// Takes part in the run, if there is one; false if the member left to be called.
    fn take_part(&self, rank: usize, role: Role) -> bool {
        if !self.door.enter() {
            return true;
        }
        let phases = get(&self.job);
        assert!(phases > 0, "inside of a run");
        let stays = self.walk(rank, role, phases);
        self.door.leave(|| self.bells.call(0));
        stays
    }

    /// Life of a helper of the pool.
    fn serve(&self, rank: usize) {
        while self.bells.sleep(rank) == Call::Come {
            while !self.take_part(rank, Role::Helper) {
                if self.bells.sleep(rank) == Call::Stop {
                    return;
                }
            }
        }
    }
}

/// Runs of a pool of `size` threads, of so many phases each, then the shutdown.
fn runs(size: u32, items: usize, runs: &[u32]) {
    let crew = Crew::new(size, items);
    let helpers: Vec<_> = (1..size as usize)
        .map(|rank| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.serve(rank))
        })
        .collect();
    for &phases in runs {
        crew.run(phases);
    }
    (1..size as usize).for_each(|rank| crew.bells.stop(rank));
    for helper in helpers {
        helper.join().unwrap();
    }
}

#[test]
fn items_are_computed_once_and_phases_see_the_ones_before() {
    model(Some(2), || runs(2, 2, &[2]));
    model(Some(1), || runs(2, 3, &[3]));
}

#[test]
fn runs_follow_each_other() {
    model(Some(1), || runs(2, 2, &[1, 2]));
    model(Some(2), || runs(2, 1, &[1, 1]));
}

#[test]
fn three_members() {
    model(Some(1), || runs(3, 3, &[2]));
    model(Some(2), || runs(3, 1, &[1]));
}

#[test]
fn an_idle_crew_ends() {
    model(None, || runs(2, 1, &[]));
    model(Some(3), || runs(3, 1, &[]));
}

/// A member that takes part whenever it comes, before, in or after a run: no item is claimed twice
/// or after its phase, whatever the others did meanwhile.
#[test]
fn a_guest_that_comes_at_any_time() {
    for (bound, runs, visits) in [(2, &[2][..], 1), (1, &[2, 3], 2)] {
        model(Some(bound), move || {
            let crew = Crew::new(2, 2);
            let guest = {
                let crew = Arc::clone(&crew);
                thread::spawn(move || {
                    for _ in 0..visits {
                        crew.take_part(1, Role::Guest);
                    }
                })
            };
            runs.iter().for_each(|&phases| crew.run(phases));
            guest.join().unwrap();
        });
    }
}

/// Claims in the middle of a phase of two operations, while the other member is in either.
#[test]
fn two_operations_in_a_phase() {
    model(Some(3), || {
        let crew = Crew::new(2, 2);
        let member = |rank: usize, crew: &Crew| {
            let one = one_by_one(1);
            // The first cell is the first operation's, the second one the second's.
            let mut done = [0; 2];
            for op in 0..2 {
                while !crew.board.claim(rank, op, &one).is_empty() {
                    crew.compute(0, op as usize);
                    done[op as usize] += 1;
                }
            }
            crew.board.report(0, done[0] + done[1], 2, || {});
            done
        };
        let other = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || member(1, &crew))
        };
        let (mine, theirs) = (member(0, &crew), other.join().unwrap());
        assert_eq!([mine[0] + theirs[0], mine[1] + theirs[1]], [1, 1]);
        assert_eq!(crew.board.progress(0), Progress::Now(1));
        (0..2).for_each(|item| crew.compute(1, item));
    });
}

/// A phase without items is over as soon as anyone comes to its end.
#[test]
fn phases_without_items() {
    model(None, || {
        let crew = Crew::new(2, 1);
        let member = |rank: usize, crew: &Crew| {
            assert!(crew.board.report(0, 0, 0, || {}));
            let done = crew.operation(rank, 1, 0, &one_by_one(1));
            crew.board.report(1, done, 1, || {});
            done
        };
        let other = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || member(1, &crew))
        };
        let mine = member(0, &crew);
        assert_eq!(mine + other.join().unwrap(), 1);
        assert_eq!(crew.board.progress(1), Progress::Now(2));
    });
}

/// A member fails with an item that it has claimed: the owner, who may sleep, is told.
#[test]
fn who_waits_for_a_member_that_failed_is_told() {
    model(Some(3), || {
        let crew = Crew::new(2, 2);
        crew.open(1);
        let other = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                if !crew.door.enter() {
                    return false;
                }
                let claimed = !crew.board.claim(1, 0, &one_by_one(2)).is_empty();
                crew.board.fail(|| crew.call_others(1));
                crew.door.leave(|| crew.bells.call(0));
                claimed
            })
        };
        crew.walk(0, Role::Owner, 1);
        let over = crew.board.progress(0);
        crew.close();
        let lost = other.join().unwrap();
        assert_eq!(lost, over == Progress::Broken);
    });
}
