//! Numbers that are the same in every run, from a seed.

use crate::{Format, quantize_row};

/// Marsaglia's xorshift64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }

    /// In -1..1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Kind of the numbers of a case.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// In -1..1.
    Plain,
    /// The largest and smallest codes; floats of all magnitudes.
    Extreme,
    /// Finite numbers at the edges: zeros, subnormals, the smallest normal ones, the largest.
    Edge,
    /// Any bits: infinities, NaN, subnormals.
    Wild,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Plain, Kind::Extreme, Kind::Edge, Kind::Wild];
}

/// An f32 of this kind.
pub fn float(r: &mut Rng, kind: Kind) -> f32 {
    match kind {
        Kind::Plain => r.float(),
        // A power of two from 2^-60 to 2^59.
        Kind::Extreme => r.float() * f32::from_bits((67 + r.below(120) as u32) << 23),
        Kind::Edge => {
            let sign = r.bits() as u32 & 0x8000_0000;
            match r.below(40) {
                0..4 => f32::from_bits(sign),
                4..6 => f32::from_bits(r.bits() as u32 & 0x807f_ffff), // subnormal
                6 => f32::from_bits(sign | f32::MIN_POSITIVE.to_bits()),
                7 => f32::from_bits(sign | f32::MAX.to_bits()),
                _ => r.float(),
            }
        }
        Kind::Wild => match r.below(40) {
            0 => f32::from_bits(r.bits() as u32),
            1 => f32::INFINITY,
            2 => f32::NAN,
            3 => -0.0,
            4 => f32::from_bits(r.bits() as u32 & 0x807f_ffff), // subnormal
            _ => r.float(),
        },
    }
}

/// Fills `out` with f32 of this kind.
pub fn fill_floats(r: &mut Rng, out: &mut [f32], kind: Kind) {
    out.fill_with(|| float(r, kind));
}

/// Fills `out` with codes of activations, -127..=127, of this kind.
pub fn fill_codes(r: &mut Rng, out: &mut [i8], kind: Kind) {
    out.fill_with(|| match kind {
        Kind::Extreme => [127, -127, 0, 127][r.below(4)],
        _ => (r.below(255) as i32 - 127) as i8,
    });
}

/// One block of random codes and scales.
fn fill_block(r: &mut Rng, format: Format, block: &mut [u8], kind: Kind) {
    let extremes = [0x80, 0x7f, 0x81, 0x00, 0xff, 0x0f, 0xf0];
    let pick = (r.below(7), r.below(7));
    for b in block.iter_mut() {
        *b = match kind {
            Kind::Extreme => extremes[if r.below(2) == 0 { pick.0 } else { pick.1 }],
            _ => r.bits() as u8,
        };
    }
    let odd = r.below(8) == 0;
    if format == Format::MXFP4 {
        // Small powers of two; or any; or the smallest, two of which are subnormal, and the largest.
        block[0] = match kind {
            Kind::Wild if odd => r.bits() as u8,
            Kind::Edge if odd => [0, 1, 2, 3, 127, 254, 255][r.below(7)],
            _ => 118 + r.below(8) as u8,
        };
    }
    if format == Format::IQ1_M {
        // The f16 has four bits in each of the last four pairs of bytes.
        let mut scale = [0; 2];
        fill_scale(r, &mut scale, kind, odd);
        let [low, high] = scale;
        for (at, bits) in [(49, low << 4), (51, low), (53, high << 4), (55, high)] {
            block[at] = block[at] & 15 | bits & 0xf0;
        }
    }
    for &at in format.f16_fields() {
        fill_scale(r, &mut block[at..at + 2], kind, odd);
    }
}

/// An f16 of this kind, at an edge or of any bits where `odd`.
fn fill_scale(r: &mut Rng, field: &mut [u8], kind: Kind, odd: bool) {
    {
        quantize_row(Format::F16, &[r.float() / 16.0], field);
        match kind {
            Kind::Wild if odd => {
                // Any scale; most of them subnormal, infinite or NaN.
                field[0] = r.bits() as u8;
                field[1] = [r.bits() as u8, 0x00, 0x80, 0x7c, 0xfc, 0x7e][r.below(6)];
            }
            Kind::Edge if odd => {
                // Zeros, a subnormal, the smallest normal scale and the largest ones.
                let edges = [0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff];
                field.copy_from_slice(&u16::to_le_bytes(edges[r.below(7)]));
            }
            _ => {}
        }
    }
}

/// Fills `out` with whole blocks of weights in `format`, of this kind.
///
/// # Panics
/// If `out` is not whole blocks.
pub fn fill_weights(r: &mut Rng, format: Format, out: &mut [u8], kind: Kind) {
    assert!(out.len().is_multiple_of(format.block_bytes()));
    for block in out.chunks_exact_mut(format.block_bytes()) {
        if format.is_quantized() {
            fill_block(r, format, block, kind);
            continue;
        }
        let x = float(r, if kind == Kind::Wild { Kind::Plain } else { kind });
        quantize_row(format, &[x], block);
        if kind == Kind::Wild && r.below(16) == 0 {
            // Any bits; every other time an exponent of all ones or all zeros.
            block.fill_with(|| r.bits() as u8);
            let top = block.len() - 1;
            match (r.below(4), format) {
                (0, Format::F16) => block[top] |= 0x7c,
                (0, _) => block[top] |= 0x7f,
                (1, Format::F16) => block[top] &= 0x83,
                (1, _) => (block[top], block[top - 1]) = (block[top] & 0x80, block[top - 1] & 0x7f),
                _ => {}
            }
        }
    }
}
