//! A sampler allocates the bytes that it reports, once. In a file of its own: the allocator counts
//! for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use teff_runtime::sample::{Sampler, Sampling};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded to System unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(new_size, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Without the test harness (Cargo.toml), whose own thread allocates at arbitrary times.
fn main() {
    sampling_takes_what_it_says_and_then_nothing();
    println!("test sampling_takes_what_it_says_and_then_nothing ... ok");
}

fn sampling_takes_what_it_says_and_then_nothing() {
    let vocab = 5000;
    let logits: Vec<f32> = (0..vocab).map(|i| ((i * 7919) % 5003) as f32 * 0.004).collect();
    let history: Vec<u32> = (0..200).map(|i| i * 3).collect();
    let s = Sampling { repeat_penalty: 1.1, ..Sampling::default() };
    for s in [
        s,
        Sampling::default(),
        Sampling::greedy(),
        Sampling { temperature: 0.0, ..s },
        Sampling { top_k: 0, ..s },
        Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, ..s },
        Sampling { top_k: 4990, min_p: 0.0, ..s },
        s.with_presence_penalty(0.5).with_frequency_penalty(-0.5).with_repeat_last_n(usize::MAX),
        Sampling::greedy().with_frequency_penalty(1.0),
    ] {
        let before = BYTES.load(Ordering::Relaxed);
        let mut sampler = Sampler::new(s, vocab).unwrap();
        assert_eq!(BYTES.load(Ordering::Relaxed) - before, Sampler::bytes(&s, vocab), "{s:?}");
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..20 {
            sampler.sample(&logits, &history).unwrap();
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{s:?}");
    }
}
