//! Unpackers of interleaved blocks, of a repacked matrix (`crate::repack`): words are columns already,
//! so that one unpacker per format serves every width.

use super::simd_reg::{SimdReg, half_power, six_bit_scale};
use super::unpack::{BYTES, FP4_BYTES, Unpack};
use crate::REPACK_ROWS;
use crate::blocks::expanded::{Expanded16, Expanded32};
use crate::blocks::{
    IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};
use crate::repack::{before_words, no_word};

/// An interleaved block, seen by the rows of a register.
#[derive(Clone, Copy)]
pub(super) struct Interleaved {
    /// Word 0 of the first of the rows.
    words: *const u8,
    /// The scale that is no word, of the first of the rows.
    half: *const u8,
}

impl Interleaved {
    /// The interleaved block at `at`, from row `first` on.
    pub(super) fn new<B: Unpack>(at: *const u8, first: usize) -> Interleaved {
        let words = at.wrapping_add(before_words(B::FORMAT) + 4 * first);
        Interleaved { words, half: at.wrapping_add(no_word(B::FORMAT) * first) }
    }

    /// # Safety
    /// The CPU has the register's instructions, and the interleaved block the word.
    #[inline(always)]
    unsafe fn word<U: SimdReg>(&self, i: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::load_any(self.words.wrapping_add(4 * REPACK_ROWS * i)) }
    }

    /// # Safety
    /// The CPU has the register's instructions, and the interleaved block such halves.
    #[inline(always)]
    unsafe fn halves<U: SimdReg>(&self) -> U::F {
        // SAFETY: the caller's promises.
        unsafe { U::halves(self.half) }
    }

    /// Powers of two of the exponents that are no words ([`half_power`]).
    ///
    /// # Safety
    /// As [`Interleaved::halves`], of bytes.
    #[inline(always)]
    unsafe fn exponents<U: SimdReg>(&self) -> U::F {
        // SAFETY: the caller's promises.
        unsafe { half_power::<U>(U::load_bytes(self.half)) }
    }

    /// The f16 in the lower half of a word, and the one in the upper half.
    ///
    /// # Safety
    /// As [`Interleaved::word`].
    #[inline(always)]
    unsafe fn two_halves<U: SimdReg>(&self, i: usize) -> (U::F, U::F) {
        // SAFETY: the caller's promises.
        unsafe {
            let both = self.word::<U>(i);
            (U::low_halves(both), U::low_halves(U::shift(both, -16)))
        }
    }
}

/// Bits of each byte.
const fn bytes(bits: u8) -> i32 {
    i32::from_ne_bytes([bits; 4])
}

/// `-x`.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
unsafe fn minus<U: SimdReg>(x: U::F) -> U::F {
    // SAFETY: the caller's promise.
    unsafe { U::mul_float(x, U::splat_float(-1.0)) }
}

/// `unit` times `bits` of byte `i` of each lane, which begin `up` bits from its lowest.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
unsafe fn steps<U: SimdReg>(unit: U::F, v: U::I, i: usize, up: usize, bits: i32) -> U::F {
    // SAFETY: the caller's promise.
    unsafe {
        let v = U::and(U::shift_down(v, 8 * i + up), bits);
        U::mul_float(unit, U::to_float(v))
    }
}

/// A format that is read from interleaved blocks, in rounds of as many parts as share words:
/// kernels loop over rounds, since with all parts one after another there is too much code for the
/// CPU to fetch (Zen 4, from the cache: Q4_K 34 GB/s, in rounds 46).
pub(super) trait UnpackInterleaved: Unpack {
    /// Parts of a round.
    const ROUND: usize;
    /// Scales and minimums of an interleaved block, loaded.
    type Ready<U: SimdReg>;

    /// # Safety
    /// Of all functions: the CPU has the register's instructions, an interleaved block lies there,
    /// and it has the round and what is said to be of it.
    unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> Self::Ready<U>;

    /// The scale of sub-block `sub` of round `round`, and its minimum.
    unsafe fn factors<U: SimdReg>(ready: &Self::Ready<U>, round: usize, sub: usize)
    -> (U::F, U::F);

    /// The bytes (`code + BIAS`) `4 * g` to `4 * g + 3` of part `k` of round `round`; of formats
    /// whose codes lie in two places, their lower bits.
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, round: usize, k: usize, g: usize)
    -> U::I;

    /// The upper bits, where those lie in another place.
    #[inline(always)]
    unsafe fn upper<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> Option<U::I> {
        let _ = (interleaved, round, k, g);
        None
    }
}

/// The bytes of part `k` of a round, less `off`.
///
/// # Safety
/// The CPU has the register's instructions; the block has the round.
#[inline(always)]
pub(super) unsafe fn groups<U: SimdReg, B: UnpackInterleaved>(
    interleaved: Interleaved,
    (round, k): (usize, usize),
    off: u8,
) -> [U::I; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        // All upper bits before all lower ones, as they lie in the interleaved block.
        let mut upper = [None; 8];
        for (g, upper) in upper.iter_mut().enumerate() {
            *upper = B::upper::<U>(interleaved, round, k, g);
        }
        let mut w = [U::splat(0); 8];
        for (g, (w, upper)) in w.iter_mut().zip(upper).enumerate() {
            *w = B::group::<U>(interleaved, round, k, g);
            if let Some(upper) = upper {
                *w = U::or(*w, upper);
            }
            if off != 0 {
                *w = U::sub_bytes(*w, off);
            }
        }
        w
    }
}

/// Blocks with one scale: the f16 that is no word.
macro_rules! one_scale {
    () => {
        const ROUND: usize = 1;
        type Ready<U: SimdReg> = U::F;

        #[inline(always)]
        unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> U::F {
            // SAFETY: the caller's promises.
            unsafe { interleaved.halves::<U>() }
        }

        #[inline(always)]
        unsafe fn factors<U: SimdReg>(&d: &U::F, _: usize, _: usize) -> (U::F, U::F) {
            (d, d)
        }
    };
}

/// Blocks with one scale and one minimum, the halves of their first word.
macro_rules! scale_and_minimum {
    () => {
        const ROUND: usize = 1;
        type Ready<U: SimdReg> = (U::F, U::F);

        #[inline(always)]
        unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> (U::F, U::F) {
            // SAFETY: the caller's promises.
            unsafe { interleaved.two_halves::<U>(0) }
        }

        #[inline(always)]
        unsafe fn factors<U: SimdReg>(&both: &(U::F, U::F), _: usize, _: usize) -> (U::F, U::F) {
            both
        }
    };
}

/// Group `g` of halves of bytes that begin at word `first`: four words' lower ones, then upper ones.
///
/// # Safety
/// As [`Interleaved::word`].
#[inline(always)]
unsafe fn nibbles<U: SimdReg>(interleaved: Interleaved, first: usize, g: usize) -> U::I {
    // SAFETY: the caller's promises.
    unsafe {
        U::and(U::shift(interleaved.word::<U>(first + g % 4), -((g / 4 * 4) as i32)), bytes(15))
    }
}

/// The four bits from `4 * g` on of word `at`, each the fifth bit of a byte.
///
/// # Safety
/// As [`Interleaved::word`].
#[inline(always)]
unsafe fn fifths<U: SimdReg>(interleaved: Interleaved, at: usize, g: usize) -> U::I {
    // Bit i goes to bit 8 i + 4.
    const SPREAD: i32 = 1 << 4 | 1 << 11 | 1 << 18 | 1 << 25;
    // SAFETY: the caller's promises.
    unsafe {
        let four = U::and(U::shift(interleaved.word::<U>(at), -((4 * g) as i32)), 15);
        U::and(U::times(four, SPREAD), bytes(16))
    }
}

impl UnpackInterleaved for Q8_0 {
    one_scale!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::sub_bytes(interleaved.word::<U>(g), 128) }
    }
}

impl UnpackInterleaved for Q4_0 {
    one_scale!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { nibbles::<U>(interleaved, 0, g) }
    }
}

impl UnpackInterleaved for IQ4_NL {
    one_scale!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::look_up(&BYTES, nibbles::<U>(interleaved, 0, g)) }
    }
}

impl UnpackInterleaved for MXFP4 {
    const ROUND: usize = 1;
    type Ready<U: SimdReg> = U::F;

    #[inline(always)]
    unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> U::F {
        // SAFETY: the caller's promises.
        unsafe { interleaved.exponents::<U>() }
    }

    #[inline(always)]
    unsafe fn factors<U: SimdReg>(&d: &U::F, _: usize, _: usize) -> (U::F, U::F) {
        (d, d)
    }

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::look_up(&FP4_BYTES, nibbles::<U>(interleaved, 0, g)) }
    }
}

impl UnpackInterleaved for Q4_1 {
    scale_and_minimum!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { nibbles::<U>(interleaved, 1, g) }
    }
}

impl UnpackInterleaved for Q5_0 {
    one_scale!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::or(nibbles::<U>(interleaved, 1, g), fifths::<U>(interleaved, 0, g)) }
    }
}

impl UnpackInterleaved for Q5_1 {
    scale_and_minimum!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(interleaved: Interleaved, _: usize, _: usize, g: usize) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::or(nibbles::<U>(interleaved, 2, g), fifths::<U>(interleaved, 1, g)) }
    }
}

/// [`UnpackInterleaved::Ready`] of blocks with eight scales and minimums of six bits, one to a byte.
pub(super) struct SixBits<U: SimdReg> {
    d: U::F,
    dmin: U::F,
    scales: [U::I; 2],
    mins: [U::I; 2],
}

/// As `blocks/q4_k.rs` says how they lie, in words 1 to 3.
macro_rules! six_bits {
    () => {
        const ROUND: usize = 2;
        type Ready<U: SimdReg> = SixBits<U>;

        #[inline(always)]
        unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> SixBits<U> {
            // SAFETY: the caller's promises.
            unsafe {
                let (d, dmin) = interleaved.two_halves::<U>(0);
                let (a, b, c) =
                    (interleaved.word::<U>(1), interleaved.word::<U>(2), interleaved.word::<U>(3));
                let (a_top, b_top) = (U::shift(a, -2), U::shift(b, -2));
                let upper = U::or(U::and(c, bytes(15)), U::and(a_top, bytes(0x30)));
                let scales = [U::and(a, bytes(63)), upper];
                let c = U::shift(c, -4);
                let upper = U::or(U::and(c, bytes(15)), U::and(b_top, bytes(0x30)));
                let mins = [U::and(b, bytes(63)), upper];
                SixBits { d, dmin: minus::<U>(dmin), scales, mins }
            }
        }

        #[inline(always)]
        unsafe fn factors<U: SimdReg>(r: &SixBits<U>, round: usize, sub: usize) -> (U::F, U::F) {
            let (word, i) = (round / 2, round % 2 * 2 + sub);
            // SAFETY: the caller's promises.
            unsafe {
                let scale = steps::<U>(r.d, r.scales[word], i, 0, 63);
                (scale, steps::<U>(r.dmin, r.mins[word], i, 0, 63))
            }
        }
    };
}

/// `bits` of the bytes of `v`, that begin `from` bits from the lowest, moved to begin at `to`.
///
/// # Safety
/// The CPU has the register's instructions.
#[inline(always)]
unsafe fn field<U: SimdReg>(v: U::I, from: usize, to: usize, bits: u8) -> U::I {
    // SAFETY: the caller's promise.
    unsafe { U::and(U::shift(v, to as i32 - from as i32), bytes(bits << to)) }
}

impl UnpackInterleaved for Q4_K {
    six_bits!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { field::<U>(interleaved.word::<U>(4 + 8 * round + g), 4 * k, 0, 15) }
    }
}

impl UnpackInterleaved for Q5_K {
    six_bits!();

    #[inline(always)]
    unsafe fn group<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { field::<U>(interleaved.word::<U>(12 + 8 * round + g), 4 * k, 0, 15) }
    }

    #[inline(always)]
    unsafe fn upper<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> Option<U::I> {
        // SAFETY: the caller's promises.
        unsafe {
            let bits = U::shift_down(interleaved.word::<U>(4 + g), 2 * round);
            Some(field::<U>(bits, k, 4, 1))
        }
    }
}

impl UnpackInterleaved for Q6_K {
    const ROUND: usize = 4;
    type Ready<U: SimdReg> = (U::F, [U::I; 4]);

    #[inline(always)]
    unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> (U::F, [U::I; 4]) {
        // SAFETY: the caller's promises.
        unsafe {
            let (a, b) = (interleaved.word::<U>(0), interleaved.word::<U>(1));
            (interleaved.halves::<U>(), [a, b, interleaved.word::<U>(2), interleaved.word::<U>(3)])
        }
    }

    #[inline(always)]
    unsafe fn factors<U: SimdReg>(
        (d, v): &(U::F, [U::I; 4]),
        round: usize,
        sub: usize,
    ) -> (U::F, U::F) {
        // SAFETY: the caller's promises.
        unsafe {
            let top = U::shift(v[2 * round + sub / 4], 24 - 8 * (sub % 4) as i32);
            (U::mul_float(*d, U::to_float(U::shift_signed(top, 24))), *d)
        }
    }

    #[inline(always)]
    unsafe fn group<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> U::I {
        // SAFETY: the caller's promises.
        unsafe {
            let at = 12 + 24 * round + k % 2 * 8 + g;
            field::<U>(interleaved.word::<U>(at), k / 2 * 4, 0, 15)
        }
    }

    #[inline(always)]
    unsafe fn upper<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> Option<U::I> {
        // SAFETY: the caller's promises.
        unsafe { Some(field::<U>(interleaved.word::<U>(4 + 24 * round + g), 2 * k, 4, 3)) }
    }
}

impl UnpackInterleaved for Q3_K {
    const ROUND: usize = 4;
    /// Scales plus 32, one to a byte.
    type Ready<U: SimdReg> = (U::F, [U::I; 4]);

    #[inline(always)]
    unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> (U::F, [U::I; 4]) {
        // SAFETY: the caller's promises.
        unsafe {
            let mut steps = [U::splat(0); 4];
            for (i, steps) in steps.iter_mut().enumerate() {
                let low = field::<U>(interleaved.word::<U>(i % 2), i / 2 * 4, 0, 15);
                *steps = U::or(low, field::<U>(interleaved.word::<U>(2), 2 * i, 4, 3));
            }
            (interleaved.halves::<U>(), steps)
        }
    }

    #[inline(always)]
    unsafe fn factors<U: SimdReg>(
        (d, v): &(U::F, [U::I; 4]),
        round: usize,
        sub: usize,
    ) -> (U::F, U::F) {
        // SAFETY: the caller's promises.
        unsafe {
            let plus = U::and(U::shift(v[2 * round + sub / 4], -(8 * (sub % 4) as i32)), 63);
            (U::mul_float(*d, U::to_float(U::add(plus, U::splat(-32)))), *d)
        }
    }

    #[inline(always)]
    unsafe fn group<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { field::<U>(interleaved.word::<U>(11 + 8 * round + g), 2 * k, 0, 3) }
    }

    #[inline(always)]
    unsafe fn upper<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> Option<U::I> {
        // SAFETY: the caller's promises.
        unsafe {
            let bits = U::shift_down(interleaved.word::<U>(3 + g), 4 * round);
            Some(field::<U>(bits, k, 2, 1))
        }
    }
}

impl UnpackInterleaved for Q2_K {
    const ROUND: usize = 4;
    type Ready<U: SimdReg> = (U::F, U::F, [U::I; 4]);

    #[inline(always)]
    unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> (U::F, U::F, [U::I; 4]) {
        // SAFETY: the caller's promises.
        unsafe {
            let (d, dmin) = interleaved.two_halves::<U>(0);
            let (a, b) = (interleaved.word::<U>(1), interleaved.word::<U>(2));
            (d, minus::<U>(dmin), [a, b, interleaved.word::<U>(3), interleaved.word::<U>(4)])
        }
    }

    #[inline(always)]
    unsafe fn factors<U: SimdReg>(
        (d, dmin, v): &(U::F, U::F, [U::I; 4]),
        round: usize,
        sub: usize,
    ) -> (U::F, U::F) {
        let (word, i) = (2 * round + sub / 4, sub % 4);
        // SAFETY: the caller's promises.
        unsafe { (steps::<U>(*d, v[word], i, 0, 15), steps::<U>(*dmin, v[word], i, 4, 15)) }
    }

    #[inline(always)]
    unsafe fn group<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        k: usize,
        g: usize,
    ) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { field::<U>(interleaved.word::<U>(5 + 8 * round + g), 2 * k, 0, 3) }
    }
}

impl UnpackInterleaved for IQ4_XS {
    const ROUND: usize = 1;
    /// The unit, and the lower four and the upper two bits of the steps plus 32.
    type Ready<U: SimdReg> = (U::F, U::I, U::I);

    #[inline(always)]
    unsafe fn ready<U: SimdReg>(interleaved: Interleaved) -> (U::F, U::I, U::I) {
        // SAFETY: the caller's promises.
        unsafe {
            let units = interleaved.word::<U>(0);
            (U::low_halves(units), interleaved.word::<U>(1), U::shift(units, -16))
        }
    }

    #[inline(always)]
    unsafe fn factors<U: SimdReg>(
        &ready: &(U::F, U::I, U::I),
        round: usize,
        _: usize,
    ) -> (U::F, U::F) {
        // SAFETY: the caller's promises.
        unsafe { (six_bit_scale::<U>(ready, round), ready.0) }
    }

    #[inline(always)]
    unsafe fn group<U: SimdReg>(
        interleaved: Interleaved,
        round: usize,
        _: usize,
        g: usize,
    ) -> U::I {
        // SAFETY: the caller's promises.
        unsafe { U::look_up(&BYTES, nibbles::<U>(interleaved, 2 + 4 * round, g)) }
    }
}

/// Expanded rows are not repacked: no matrix gets here.
macro_rules! never_repacked {
    ($($name:ident),*) => {$(
        impl UnpackInterleaved for $name {
            const ROUND: usize = 1;
            type Ready<U: SimdReg> = ();

            unsafe fn ready<U: SimdReg>(_: Interleaved) {
                unreachable!("it is not repacked")
            }
            unsafe fn factors<U: SimdReg>(_: &(), _: usize, _: usize) -> (U::F, U::F) {
                unreachable!("it is not repacked")
            }
            unsafe fn group<U: SimdReg>(_: Interleaved, _: usize, _: usize, _: usize) -> U::I {
                unreachable!("it is not repacked")
            }
        }
    )*};
}
never_repacked!(Expanded32, Expanded16);
