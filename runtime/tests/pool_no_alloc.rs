//! A run allocates nothing, on any thread. In a file of its own: the allocator counts for the whole
//! process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use teff_graph::{Solo, Team, Work};
use teff_runtime::pool::{Crew, Pool, PoolOptions};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded to System unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Without the test harness (Cargo.toml), whose own thread allocates at arbitrary times.
fn main() {
    runs_allocate_nothing();
    println!("test runs_allocate_nothing ... ok");
}

/// Three phases, one of which ends late: the others sleep until then.
fn phases(team: &dyn Team) {
    let work = Work { most: 1, ..Work::new(4) };
    let mut phase = team.phase();
    while phase < 3 {
        let mut done = 0;
        while done < work.items {
            // SAFETY: every thread of the run comes here, with the same work.
            let claimed = unsafe { team.claim(phase, &work) };
            if claimed.is_empty() {
                break;
            }
            done += claimed.len();
            if phase == 1 && claimed.contains(&3) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // SAFETY: so many items were claimed, and are done.
        match unsafe { team.finish(phase, done, work.items) }.unwrap() {
            Some(next) => phase = next,
            None => return,
        }
    }
}

fn runs_allocate_nothing() {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(black_box(vec![1u8]));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "the counter works");
    for idle_spin in [Duration::from_micros(50), Duration::ZERO] {
        for size in 1..=4 {
            let options = PoolOptions::default().with_threads(size).with_oversubscribe(true);
            let mut pool = Pool::with_options(&options.with_idle_spin(idle_spin)).unwrap();
            // Until the helpers have started, which allocates: all of them at the same time.
            let (all, started) = (Barrier::new(size), AtomicUsize::new(0));
            pool.for_each(size, |_, _| {
                started.fetch_add(1, Ordering::Relaxed);
                all.wait();
            })
            .unwrap();
            assert_eq!(started.into_inner(), size);
            let mut run = || pool.run(|worker| phases(worker)).unwrap();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for i in 0..50 {
                if i % 25 == 24 {
                    std::thread::sleep(Duration::from_millis(1)); // so that they sleep for certain
                }
                run();
            }
            assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{size} threads");
        }
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    Solo.run(&phases).unwrap();
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "solo");
}
