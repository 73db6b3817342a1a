//! The heap that a rendering takes, as the allocator counts it: in proportion to its limit of memory,
//! and all of it given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use teff_runtime::template::{
    LimitKind, RenderOptions, Template, TemplateErrorKind, TemplateLimits,
};

use crate::limits::GROWTH;

/// Counts the bytes of each thread: tests that run beside this one don't matter.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Adds to what is live.
fn count(bytes: isize) {
    // A thread that ends has no counts any more.
    let live = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        live.get()
    });
    if let Ok(live) = live {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live)));
    }
}

// SAFETY: everything is forwarded to the system allocator; the counts don't touch the memory, and
// take none themselves.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // As if the new block were taken before the old one is given back: the worst case.
        count(new as isize);
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(p, layout, new) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Result of `f`, and the most bytes that it had at a time.
fn peak_of<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let out = f();
    (out, (PEAK.get() - before).try_into().unwrap_or(0))
}

#[test]
fn the_heap_stays_within_the_limit_of_memory() {
    let (boxed, seen) = peak_of(|| vec![0u8; 1 << 16]);
    assert!(seen >= boxed.len(), "the allocator counts");
    drop(boxed);
    let mut wrong = Vec::new();
    for source in GROWTH {
        let parsed = Template::parse(source).unwrap_or_else(|e| panic!("{source}: {e}"));
        for memory in [64 << 10, 1 << 20, 4 << 20] {
            let limits = TemplateLimits::default().with_memory(memory).with_steps(u64::MAX);
            let options = RenderOptions::default().with_limits(limits);
            let before = LIVE.get();
            let (rendered, peak) =
                peak_of(|| parsed.render_with(&[], &options).map_err(|e| e.kind));
            let want = TemplateErrorKind::Limit(LimitKind::Memory(memory));
            let same = rendered.as_ref().err() == Some(&want);
            drop(rendered);
            assert_eq!(LIVE.get(), before, "{source}: everything is given back");
            // With more memory, some end by another limit.
            if memory <= 1 << 20 && !same {
                wrong.push(format!("{source}: another end with a limit of {memory}"));
            }
            // What grows is copied once when it needs another place.
            if peak > 3 * memory + (64 << 10) {
                wrong.push(format!("{source}: {peak} bytes with a limit of {memory}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
