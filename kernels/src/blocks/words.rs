//! Formats whose codes are made eight at a time, as the bytes of a word: those of one or two bits, and those with codebooks. One
//! unpacker in plain Rust serves all instruction sets.

use super::{CodeBlock, F16};

/// A block whose codes come as words of eight bytes, and whose scales are a unit times small integers.
///
/// Scales are exact in f32, in whatever order they are multiplied.
pub(crate) trait WordBlock: CodeBlock {
    /// A power of two that all scales are multiplied with.
    const FACTOR: f32;
    /// Sub-blocks have steps; if not, all steps are 1.
    const STEPS: bool = true;

    /// Unit of the scales.
    fn unit(&self) -> F16;

    /// The scale of sub-block `sub` in units of `FACTOR` times the unit: 1 to 31.
    fn step(&self, sub: usize) -> i8;

    /// The codes `32 * part..32 * part + 32`, the first in the lowest byte of the first word.
    fn words(&self, part: usize) -> [u64; 4];
}

/// Bytes of words in the order of codes.
#[inline(always)]
pub(crate) fn codes_of(words: [u64; 4]) -> [i8; 32] {
    let mut codes = [0; 32];
    for (codes, word) in codes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *codes = bytemuck::cast(word.to_le_bytes());
    }
    codes
}

/// [`CodeBlock`] of a [`WordBlock`].
macro_rules! word_codes {
    ($name:ident, $sub:literal) => {
        impl CodeBlock for $name {
            const SUB: usize = $sub;
            const MINS: bool = false;

            #[inline(always)]
            fn scale(&self, sub: usize) -> f32 {
                let unit = $crate::DenseBlock::get(self.unit()) * Self::FACTOR;
                if Self::STEPS { unit * f32::from(self.step(sub)) } else { unit }
            }
            #[inline(always)]
            fn codes(&self, part: usize) -> [i8; 32] {
                $crate::blocks::words::codes_of(self.words(part))
            }
        }
    };
}
pub(crate) use word_codes;

/// One in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// One in byte `i` where bit `i` is set, else 0.
#[inline(always)]
const fn spread(bits: u8) -> u64 {
    // All copies of the byte, of each one bit; a byte with its bit carries into its highest.
    let bit = (bits as u64 * ONES) & 0x8040_2010_0804_0201;
    ((bit + 0x7f * ONES) >> 7) & ONES
}

/// 1 in byte `i` where bit `i` is set, else -1.
#[inline(always)]
pub(super) const fn signs(bits: u8) -> u64 {
    !(spread(bits) * 0xff) | ONES
}

/// Bits `2 * i` and `2 * i + 1` in byte `i`, less 1.
#[inline(always)]
pub(super) const fn pairs(bits: u16) -> u64 {
    let x = (bits as u64 | (bits as u64) << 24) & 0xff_0000_00ff;
    let x = (x | x << 12) & 0xf_000f_000f_000f;
    let x = (x | x << 6) & (3 * ONES);
    less(x + 0x7f * ONES)
}

/// Every byte less 128, as a signed one.
#[inline(always)]
const fn less(word: u64) -> u64 {
    word ^ (0x80 * ONES)
}

/// Bytes of 1 to 127, of which those are negated whose bits are set.
#[inline(always)]
pub(super) const fn negate(word: u64, bits: u8) -> u64 {
    let negative = spread(bits);
    (word ^ (negative * 0xff)) + negative
}

/// Seven sign bits, and an eighth that makes the number of those set even.
#[inline(always)]
pub(super) const fn even(bits: u32) -> u8 {
    let seven = (bits & 127) as u8;
    // Of every four bits, whether an odd number is set.
    let odd = 0x6996_u16 >> (seven >> 4 ^ seven & 15) & 1;
    seven | (odd as u8) << 7
}

/// An entry of the grid of IQ1, and one more or less for every code.
#[inline(always)]
pub(super) const fn shift(entry: u64, less_one: bool) -> u64 {
    less(if less_one { entry - ONES } else { entry + ONES })
}
