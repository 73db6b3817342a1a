//! How deep the stack was: the runtime painted it before `main`.

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    // Both are addresses, set by memory.x.
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Bytes of the stack, and how many of them were ever used.
pub(crate) fn depth() -> (usize, usize) {
    let (low, high) = (&raw const _stack_end, &raw const _stack_start);
    let words = (high.addr() - low.addr()) / 4;
    // SAFETY: the words between the two symbols are the stack's, which is RAM and readable. Those that
    // are in use may change while they are read, so they are read as volatile, one by one.
    let painted = |i: usize| unsafe { low.add(i).read_volatile() == STACK_PAINT_VALUE };
    let free = (0..words).take_while(|&i| painted(i)).count();
    (words * 4, (words - free) * 4)
}
