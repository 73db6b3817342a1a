//! Random inputs from a seed.

use teff_kernels::Format;

/// The most activations of a product.
pub(crate) const MAX_N: usize = 19;
/// The most rows of weights.
pub(crate) const MAX_ROWS: usize = 21;
/// The longest row.
pub(crate) const MAX_COLS: usize = 768;

/// Marsaglia's xorshift64.
pub(crate) struct Rng(u64);

/// Kind of numbers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// In -1..1.
    Plain,
    /// Few bits, of many magnitudes, so that sums fall between two f32; some are subnormal.
    Short,
    /// Now and then any bits: infinite, NaN, subnormal.
    Wild,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }
    pub(crate) fn kind(&mut self) -> Kind {
        [Kind::Plain, Kind::Short, Kind::Wild][self.below(3)]
    }
    pub(crate) fn float(&mut self, kind: Kind) -> f32 {
        let plain = (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0;
        match kind {
            Kind::Plain => plain,
            Kind::Short => {
                let exponent = if self.below(8) == 0 { 45 } else { 115 } + self.below(25) as u32;
                let bits = self.bits();
                f32::from_bits(bits & 0x807f_f000 | exponent << 23)
            }
            Kind::Wild => match self.below(128) {
                0 => f32::from_bits(self.bits()),
                1 => f32::from_bits(self.bits() & 0x807f_ffff), // subnormal
                2 => -0.0,
                3 => f32::INFINITY,
                4 => f32::NAN,
                _ => plain,
            },
        }
    }
    pub(crate) fn floats(&mut self, to: &mut [f32], kind: Kind) {
        for x in to {
            *x = self.float(kind);
        }
    }
    /// Codes of activations: -127..=127, and often one of these two.
    pub(crate) fn codes(&mut self, to: &mut [i8]) {
        for x in to {
            *x = [127, -127, 0, 1][self.below(4)];
            if self.below(4) > 0 {
                *x = (self.below(255) as i32 - 127) as i8;
            }
        }
    }
    /// The bytes of weights: whole blocks of `format`.
    pub(crate) fn weights(&mut self, format: Format, kind: Kind, to: &mut [u8]) {
        for block in to.chunks_exact_mut(format.block_bytes()) {
            match format {
                Format::F32 => block.copy_from_slice(&self.float(kind).to_le_bytes()),
                Format::F16 => self.half(kind, block),
                Format::BF16 => block.copy_from_slice(&self.float(kind).to_le_bytes()[2..]),
                _ => {
                    for b in &mut *block {
                        *b = self.bits() as u8;
                    }
                    for &at in format.f16_fields() {
                        self.half(kind, &mut block[at..at + 2]);
                    }
                }
            }
        }
    }
    /// An f16, mostly from 2^-10 to 2.
    fn half(&mut self, kind: Kind, to: &mut [u8]) {
        let bits = self.bits() as u16;
        let usual = bits & 0x83ff | (5 + self.below(11) as u16) << 10;
        let any = kind == Kind::Wild && self.below(16) == 0;
        to.copy_from_slice(&if any { bits } else { usual }.to_le_bytes());
    }
}

/// Bytes at a multiple of 64.
#[repr(C, align(64))]
pub(crate) struct Aligned<const N: usize>(pub(crate) [u8; N]);
