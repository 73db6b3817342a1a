//! Rotary embeddings: rotated elements and their frequencies.

use core::f64::consts::TAU;

use teff_kernels::{RopeKind, rope_freqs};

use super::{Role, SpecError, inconsistent};

/// Rotary embedding.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rope {
    /// Pairing of the elements that are rotated together.
    pub kind: RopeKind,
    /// Number of rotated elements at the beginning of a head; even.
    pub dims: u32,
    /// Base of the frequencies.
    pub base: f32,
    /// Scaling of the frequencies for a longer context.
    pub scaling: RopeScaling,
    /// Factor of cosines and sines, and so of rotated queries and keys.
    pub magnitude: f32,
}

/// Scaling of the frequencies of a rotary embedding.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Division of all frequencies by one factor.
    Linear(f32),
    /// Division of each frequency by its element of the tensor
    /// [`Role::RopeFactors`](super::Role::RopeFactors).
    Factors,
    /// LongRoPE: division of each frequency by its element of one of two tensors,
    /// [`Role::RopeFactorsLong`](super::Role::RopeFactorsLong) in a session with a longer context
    /// than `original`, [`Role::RopeFactorsShort`](super::Role::RopeFactorsShort) in others.
    Long {
        /// Context length of the original training.
        original: u32,
    },
    /// Llama 3's rule: wavelengths longer than `original / low` are stretched by `factor`, those
    /// shorter than `original / high` are kept, and those in between are interpolated.
    Llama3 {
        /// Stretch of the longest wavelengths.
        factor: f32,
        /// Rotations within the original context below which the full stretch applies.
        low: f32,
        /// Rotations within the original context above which no stretch applies.
        high: f32,
        /// Context length of the original training.
        original: f32,
    },
    /// Only the first frequencies rotate, divided by a factor; the others are 0. (Their number
    /// counts in the exponents all the same, other than in a rope of fewer elements.)
    Proportional {
        /// Number of frequencies that rotate.
        pairs: u32,
        /// Divisor of them.
        factor: f32,
    },
    /// YaRN: frequencies that make fewer than `slow` rotations within the original context are
    /// divided by `factor`, those with more than `fast` are kept, and those between are mixed by
    /// their number.
    Yarn {
        /// Divisor of the lowest frequencies.
        factor: f32,
        /// Rotations within the original context above which frequencies are kept.
        fast: f32,
        /// Rotations within the original context below which frequencies are divided.
        slow: f32,
        /// Context length of the original training.
        original: f32,
        /// True if the numbers of the first and the last frequency that are mixed are rounded
        /// outwards.
        truncate: bool,
    },
}

/// Magnitude that YaRN gives to a text `factor` times as long: `1 + 0.1 scale ln(factor)`.
pub(crate) fn yarn_magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * libm::log(factor) + 1.0 }
}

impl RopeScaling {
    /// Tensors with factors of the frequencies, in order of their numbers.
    pub(crate) const fn tensors(self) -> &'static [Role] {
        match self {
            RopeScaling::Factors => &[Role::RopeFactors],
            RopeScaling::Long { .. } => &[Role::RopeFactorsLong, Role::RopeFactorsShort],
            _ => &[],
        }
    }

    /// Tensor of factors in a session with this context.
    #[must_use]
    pub const fn factors(self, context: usize) -> Option<Role> {
        match self {
            RopeScaling::Factors => Some(Role::RopeFactors),
            RopeScaling::Long { original } if context > original as usize => {
                Some(Role::RopeFactorsLong)
            }
            RopeScaling::Long { .. } => Some(Role::RopeFactorsShort),
            _ => None,
        }
    }
}

impl Rope {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if self.dims == 0 || !self.dims.is_multiple_of(2) {
            return inconsistent("the turned elements of a head must be even");
        }
        let stretch = match self.scaling {
            RopeScaling::None | RopeScaling::Factors => 1.0,
            RopeScaling::Linear(factor) => factor,
            RopeScaling::Long { original } => original as f32,
            RopeScaling::Proportional { pairs, factor } => {
                if pairs > self.dims / 2 {
                    return inconsistent("the frequencies that rotate must be at most all of them");
                }
                factor
            }
            RopeScaling::Llama3 { factor, low, high, original } => {
                if !(low > 0.0 && high > low && high.is_finite() && original.is_finite()) {
                    return inconsistent("the bounds of the rotary scaling must be ascending");
                }
                factor.min(original)
            }
            RopeScaling::Yarn { factor, fast, slow, original, .. } => {
                if !(slow > 0.0 && fast >= slow && fast.is_finite() && original.is_finite()) {
                    return inconsistent("the bounds of the rotary scaling must be descending");
                }
                if self.base <= 1.0 {
                    return inconsistent("a rotary base above 1 is needed to scale by YaRN");
                }
                factor.min(original)
            }
        };
        if ![self.base, stretch, self.magnitude].iter().all(|x| x.is_finite() && *x > 0.0) {
            return inconsistent("the rotary bases and factors must be positive and finite");
        }
        Ok(())
    }

    /// Writes the frequencies, as angles in radians per position; `factors` is the model's tensor
    /// of factors, if it has one.
    ///
    /// This takes a few tens of `pow` calls per step: some microseconds, and no memory to keep them
    /// in.
    pub(crate) fn frequencies(&self, factors: Option<&[f32]>, out: &mut [f64]) {
        let base = f64::from(self.base);
        match self.scaling {
            RopeScaling::None => rope_freqs(base, 1.0, None, out),
            RopeScaling::Linear(factor) => rope_freqs(base, f64::from(factor), None, out),
            RopeScaling::Factors | RopeScaling::Long { .. } => rope_freqs(base, 1.0, factors, out),
            RopeScaling::Proportional { pairs, factor } => {
                rope_freqs(base, f64::from(factor), None, out);
                if let Some(still) = out.get_mut(pairs as usize..) {
                    still.fill(0.0);
                }
            }
            RopeScaling::Llama3 { factor, low, high, original } => {
                let [factor, low, high, original] = [factor, low, high, original].map(f64::from);
                rope_freqs(base, 1.0, None, out);
                for freq in out {
                    // The number of rotations within the original context decides.
                    let turns = original * *freq / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    *freq *= kept + (1.0 - kept) / factor;
                }
            }
            RopeScaling::Yarn { factor, fast, slow, original, truncate } => {
                let [factor, fast, slow, original] = [factor, fast, slow, original].map(f64::from);
                rope_freqs(base, 1.0, None, out);
                let dims = f64::from(self.dims);
                // Number of the frequency that makes so many rotations within the original context.
                let number =
                    |turns| dims * libm::log(original / (turns * TAU)) / (2.0 * libm::log(base));
                let (mut low, mut high) = (number(fast), number(slow));
                if truncate {
                    (low, high) = (libm::floor(low), libm::ceil(high));
                }
                (low, high) = (low.max(0.0), high.min(dims - 1.0));
                if low == high {
                    high += 0.001;
                }
                for (i, freq) in out.iter_mut().enumerate() {
                    let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    *freq = *freq / factor * divided + *freq * (1.0 - divided);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The range of gpt-oss: frequencies up to the 8th are kept, those from the 18th on divided; without
    /// rounding, the range is 8.09 to 17.40.
    #[test]
    fn yarn_divides_low_frequencies() {
        let yarn = |truncate| {
            let (fast, slow, original) = (32.0, 1.0, 4096.0);
            let scaling = RopeScaling::Yarn { factor: 32.0, fast, slow, original, truncate };
            let rope =
                Rope { kind: RopeKind::NeoX, dims: 64, base: 150_000.0, scaling, magnitude: 1.0 };
            let mut got = [0.0; 32];
            rope.frequencies(None, &mut got);
            got
        };
        let mut plain = [0.0; 32];
        rope_freqs(150_000.0, 1.0, None, &mut plain);
        for (truncate, low, high) in [(true, 8.0, 18.0), (false, 8.092_779_115, 17.398_024_502)] {
            for (i, (f, g)) in plain.into_iter().zip(yarn(truncate)).enumerate() {
                let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                let want = f / 32.0 * divided + f * (1.0 - divided);
                assert!((g / want - 1.0).abs() < 1e-6, "{i}: {g}, not {want}");
            }
        }
        assert!((yarn_magnitude(32.0, 1.0) - 1.346_573_6).abs() < 1e-7);
        assert!(yarn_magnitude(0.5, 1.0) == 1.0);
    }

    /// Factors in the files of Llama 3.2, at frequencies on both sides of the bounds and between
    /// them.
    #[test]
    fn llama3_stretches_long_waves_only() {
        let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
        let rope =
            Rope { kind: RopeKind::NeoX, dims: 64, base: 500_000.0, scaling, magnitude: 1.0 };
        let (mut plain, mut got) = ([0.0; 32], [0.0; 32]);
        rope_freqs(f64::from(rope.base), 1.0, None, &mut plain);
        rope.frequencies(None, &mut got);
        for (f, g) in plain.into_iter().zip(got) {
            let wave = TAU / f;
            let want = if wave < 8192.0 / 4.0 {
                f
            } else if wave > 8192.0 {
                f / 32.0
            } else {
                let smooth = (8192.0 / wave - 1.0) / 3.0;
                (1.0 - smooth) * f / 32.0 + smooth * f
            };
            assert!((g / want - 1.0).abs() < 1e-14, "{f}: {g}, not {want}");
        }
        assert!(got[0] == plain[0] && got[31] == plain[31] / 32.0);
    }
}
