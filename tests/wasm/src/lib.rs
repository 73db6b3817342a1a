//! Runs every operation of the kernels on random inputs, by the scalar truth and by the best
//! backend there is, and hashes what the latter gives. The hash is the same on every machine: in a
//! wasm module with simd128, in one without, and in a native program.
//!
//! Neither std nor memory from anywhere: inputs lie on the stack.
#![cfg_attr(target_arch = "wasm32", no_std)]

mod attention;
mod inputs;
mod products;
mod rows;

use inputs::Rng;
use teff_kernels::{Backend, Cpu, Scalar};

/// Result of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Numbers that were compared with the scalar truth.
    pub compared: u32,
    /// Those that differ.
    pub differing: u32,
    /// Of all results, in their order.
    pub hash: u64,
}

/// All operations, on inputs that follow from `seed`.
#[must_use]
pub fn check(seed: u32) -> Outcome {
    let backend = Cpu::best();
    let start = Outcome { compared: 0, differing: 0, hash: 0xcbf2_9ce4_8422_2325 };
    let mut run = Run { r: Rng::new(seed.into()), backend: &backend, outcome: start };
    products::check(&mut run);
    rows::check(&mut run);
    attention::check(&mut run);
    run.outcome
}

/// A run, and what has come out of it so far.
struct Run<'a> {
    r: Rng,
    backend: &'a dyn Backend,
    outcome: Outcome,
}

impl Run<'_> {
    /// The scalar truth, and what it is compared with.
    fn both(&self) -> [&dyn Backend; 2] {
        [&Scalar, self.backend]
    }

    fn word(&mut self, want: u32, got: u32) {
        let o = &mut self.outcome;
        o.compared += 1;
        o.differing += u32::from(want != got);
        // FNV-1a, four bytes at a time.
        o.hash = (o.hash ^ u64::from(got)).wrapping_mul(0x0100_0000_01b3);
    }

    /// By their bits, with one pattern for all NaN: IEEE leaves open which one an operation gives.
    fn floats(&mut self, [want, got]: [&[f32]; 2]) {
        assert_eq!(want.len(), got.len());
        let bits = |x: f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
        for (&want, &got) in want.iter().zip(got) {
            self.word(bits(want), bits(got));
        }
    }

    fn ints(&mut self, [want, got]: [&[i32]; 2]) {
        assert_eq!(want.len(), got.len());
        for (&want, &got) in want.iter().zip(got) {
            self.word(want as u32, got as u32);
        }
    }

    fn codes(&mut self, [want, got]: [&[i8]; 2]) {
        assert_eq!(want.len(), got.len());
        for (&want, &got) in want.iter().zip(got) {
            self.word(want as u32, got as u32);
        }
    }

    fn bytes(&mut self, [want, got]: [&[u8]; 2]) {
        assert_eq!(want.len(), got.len());
        for (&want, &got) in want.iter().zip(got) {
            self.word(want.into(), got.into());
        }
    }
}

/// Exports of a module.
#[cfg(target_arch = "wasm32")]
mod module {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use teff_kernels::{Backend, Cpu};

    static COMPARED: AtomicU64 = AtomicU64::new(0);
    static HASH: AtomicU64 = AtomicU64::new(0);

    /// 0: the module has the scalar backend only; 1: it has simd128.
    // SAFETY: no other symbol of this module has this name.
    #[unsafe(no_mangle)]
    pub extern "C" fn vectors() -> u32 {
        u32::from(Cpu::best().name() == "simd128")
    }

    /// [`crate::check`]; returns how many numbers differ from the scalar truth.
    // SAFETY: no other symbol of this module has this name.
    #[unsafe(no_mangle)]
    pub extern "C" fn check(seed: u32) -> u32 {
        let outcome = crate::check(seed);
        COMPARED.store(outcome.compared.into(), Relaxed);
        HASH.store(outcome.hash, Relaxed);
        outcome.differing
    }

    /// The hash of the last check.
    // SAFETY: no other symbol of this module has this name.
    #[unsafe(no_mangle)]
    pub extern "C" fn hash() -> u64 {
        HASH.load(Relaxed)
    }

    /// How many numbers the last check compared.
    // SAFETY: no other symbol of this module has this name.
    #[unsafe(no_mangle)]
    pub extern "C" fn compared() -> u64 {
        COMPARED.load(Relaxed)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_differs() {
        for seed in 0..4 {
            let outcome = super::check(seed);
            assert!(outcome.compared > 10_000 && outcome.differing == 0, "{outcome:?}");
        }
    }
}
