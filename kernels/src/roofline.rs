//! Ceilings of a backend's instructions, which the speed of its operations is
//! measured against. Tools for measuring, not operations; who calls them has the clock.
//!
//! - [`int8`]: products of bytes from registers, as the instruction set sums them
//!   (`roofline/<arch>.rs`); in plain Rust of bytes that were widened before, from the cache.
//! - [`fma`]: f32 fused multiply-adds from registers.
//! - [`read`]: reads memory, and does next to nothing with it.
//!
//! Each has as many independent sums as it takes to hide the latency of the instructions.

use core::hint::black_box;

use crate::Cpu;
use crate::lanes::{Float, LANES, Portable};

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
mod aarch64;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86;

/// The numbers of streams that [`read`] takes.
pub const STREAMS: [usize; 4] = [1, 2, 4, 8];

/// The ceilings of one backend.
trait Ceilings {
    /// As [`int8`].
    fn int8(&self, rounds: u64) -> u64;
    /// As [`fma`].
    fn fma(&self, rounds: u64) -> u64;
    /// As [`read`]: `n` streams of equal lengths, one after another.
    fn sum(&self, streams: &[[u8; 64]], n: usize, prefetch: bool) -> u64;
}

/// Computes `$next` of each of so many independent sums for so many rounds.
#[allow(unused_macros)] // of plain Rust, a compiler makes its own
macro_rules! rounds {
    ($rounds:expr, [$first:expr; $sums:expr], $sum:ident => $next:expr) => {{
        let mut sums = black_box([$first; $sums]);
        for _ in 0..$rounds {
            for $sum in &mut sums {
                *$sum = $next;
            }
        }
        black_box(sums);
    }};
}

/// A function `$name::<S, PREFETCH>` that is [`Ceilings::sum`] by the vectors of a set.
#[allow(unused_macros)]
macro_rules! sum {
    (
        $name:ident, $features:literal, $V:ty, zero: $zero:expr, load: $load:ident as $T:ty,
        add: $add:ident, fetch: $fetch:ident
    ) => {
        #[target_feature(enable = $features)]
        fn $name<const S: usize, const PREFETCH: bool>(streams: &[[u8; 64]]) -> u64 {
            const PARTS: usize = 64 / size_of::<$V>();
            let len = streams.len() / S;
            let mut sums = [[$zero; PARTS]; S];
            for i in 0..len {
                for s in 0..S {
                    let line = streams[s * len..].as_ptr().wrapping_add(i);
                    for part in 0..PARTS {
                        // SAFETY: `i < len` and `s < S`, so that line `s * len + i` is inside; it
                        // has PARTS vectors. A prefetch may name any address.
                        unsafe {
                            if PREFETCH && part == 0 {
                                $fetch(line.wrapping_add($crate::roofline::AHEAD).cast());
                            }
                            let x = $load(line.cast::<$V>().add(part).cast::<$T>());
                            sums[s][part] = $add(sums[s][part], x);
                        }
                    }
                }
            }
            let mut sum = 0u64;
            for x in sums.as_flattened() {
                // SAFETY: plain words, as many as fit the vector.
                let words: [u64; size_of::<$V>() / 8] = unsafe { core::mem::transmute(*x) };
                for w in words {
                    sum = sum.wrapping_add(w);
                }
            }
            sum
        }
    };
}

/// Lines that are fetched ahead of each stream: memory's latency times its bandwidth, and some.
#[allow(dead_code)] // where a target has no prefetch
const AHEAD: usize = 32;

/// Calls such a function with the constants that the numbers say.
macro_rules! with_constants {
    ($sum:ident, $streams:expr, $n:expr, $prefetch:expr) => {
        match ($n, $prefetch) {
            (1, false) => $sum::<1, false>($streams),
            (1, true) => $sum::<1, true>($streams),
            (2, false) => $sum::<2, false>($streams),
            (2, true) => $sum::<2, true>($streams),
            (4, false) => $sum::<4, false>($streams),
            (4, true) => $sum::<4, true>($streams),
            (_, false) => $sum::<8, false>($streams),
            (_, true) => $sum::<8, true>($streams),
        }
    };
}
#[allow(unused_imports)]
use {rounds, sum, with_constants};

/// The table: a line for each backend. `None`: it has none yet.
#[allow(unreachable_patterns)] // where a target has no other backend
fn of(cpu: &Cpu) -> Option<&dyn Ceilings> {
    match cpu {
        Cpu::Scalar(b) => Some(b),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Cpu::Avx2(b) => Some(b),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Cpu::AvxVnni(b) => Some(b),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Cpu::Avx512Bw(b) => Some(b),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Cpu::Avx512(b) => Some(b),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Cpu::Amx(b) => Some(b),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
        Cpu::Neon(b) => Some(b),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
        Cpu::Dotprod(b) => Some(b),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
        Cpu::I8mm(b) => Some(b),
        // Plain Rust is built for the same vectors.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Cpu::Simd128(_) => Some(&crate::Scalar),
        _ => None,
    }
}

/// Multiplies and adds bytes for so many rounds; gives how many operations that were, a
/// multiply-add being two. `None` where nobody has said how this backend would do it.
#[must_use]
pub fn int8(cpu: &Cpu, rounds: u64) -> Option<u64> {
    of(cpu).map(|c| c.int8(rounds))
}

/// Multiplies and adds f32, rounding once, for so many rounds; gives how many operations that were,
/// a multiply-add being two. `None` as for [`int8`].
#[must_use]
pub fn fma(cpu: &Cpu, rounds: u64) -> Option<u64> {
    of(cpu).map(|c| c.fma(rounds))
}

/// Reads `bytes` once, in `streams` equal parts side by side, with software prefetch (where the
/// target has it) or without. Gives the sum, modulo 2^64, of all little-endian words of 64 bits,
/// the last one filled up with zeros; it is the same for all backends, streams and prefetching.
///
/// # Panics
/// If `streams` is none of [`STREAMS`].
#[must_use]
pub fn read(cpu: &Cpu, bytes: &[u8], streams: usize, prefetch: bool) -> u64 {
    assert!(STREAMS.contains(&streams), "no such number of streams");
    let (lines, _) = bytes.as_chunks::<64>();
    let equal = lines.len() / streams * streams;
    let sum = of(cpu).unwrap_or(&crate::Scalar).sum(&lines[..equal], streams, prefetch);
    sum.wrapping_add(words(&bytes[equal * 64..]))
}

/// The sum of the words of `bytes`.
fn words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let all = words.iter().chain([&last]);
    all.fold(0, |sum: u64, w| sum.wrapping_add(u64::from_le_bytes(*w)))
}

impl Ceilings for crate::Scalar {
    fn int8(&self, rounds: u64) -> u64 {
        // In the first-level cache, and widened: of 16 bits, compilers find the products.
        const CODES: usize = 1024;
        let (w, x) = (black_box([3i16; CODES]), black_box([5i16; CODES]));
        let mut sum = 0i32;
        for _ in 0..rounds {
            let (w, x) = black_box((&w, &x));
            let products = w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x));
            sum = sum.wrapping_add(products.sum());
        }
        black_box(sum);
        rounds * 2 * CODES as u64
    }

    fn fma(&self, rounds: u64) -> u64 {
        let mut sums = black_box([Portable::splat(1.0)]);
        let (m, c) = black_box((Portable::splat(0.5), Portable::splat(1.0)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = s.fma(m, c);
            }
        }
        black_box(sums);
        rounds * 2 * (sums.len() * LANES) as u64
    }

    fn sum(&self, streams: &[[u8; 64]], n: usize, _: bool) -> u64 {
        fn run<const S: usize, const PREFETCH: bool>(streams: &[[u8; 64]]) -> u64 {
            let len = streams.len() / S;
            let parts: [&[[u8; 64]]; S] = core::array::from_fn(|s| &streams[s * len..][..len]);
            let mut sums = [[0u64; 8]; S];
            for i in 0..len {
                for (sums, part) in sums.iter_mut().zip(parts) {
                    for (sum, word) in sums.iter_mut().zip(part[i].as_chunks().0) {
                        *sum = sum.wrapping_add(u64::from_le_bytes(*word));
                    }
                }
            }
            sums.as_flattened().iter().fold(0, |sum, w| sum.wrapping_add(*w))
        }
        with_constants!(run, streams, n, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn backends() -> impl Iterator<Item = Cpu> {
        Cpu::NAMES.iter().filter_map(|name| Cpu::by_name(name).ok())
    }

    #[test]
    fn every_backend_has_ceilings() {
        for cpu in backends() {
            for rounds in [0, 1, 1000] {
                let (int8, fma) = (int8(&cpu, rounds), fma(&cpu, rounds));
                assert!(int8.is_some_and(|n| n >= rounds * 2 && n % 2 == 0), "{cpu:?}");
                assert!(fma.is_some_and(|n| n >= rounds * 2 && n % 2 == 0), "{cpu:?}");
            }
        }
    }

    #[test]
    fn reading_gives_the_sum_of_the_words() {
        let all: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in [0, 1, 7, 8, 63, 64, 65, 640, 1000, 4096, 4993] {
            for offset in [0, 3] {
                let bytes = &all[offset..][..len];
                let mut words = bytes.to_vec();
                words.resize(len.next_multiple_of(8), 0);
                let sum = words.chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
                let sum = sum.fold(0, u64::wrapping_add);
                for cpu in backends() {
                    for streams in STREAMS {
                        for prefetch in [false, true] {
                            assert_eq!(read(&cpu, bytes, streams, prefetch), sum, "{cpu:?} {len}");
                        }
                    }
                }
            }
        }
    }
}
