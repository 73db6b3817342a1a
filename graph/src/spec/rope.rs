//! Rotary embeddings: rotated elements and their frequencies.

use core::f64::consts::TAU;

use teff_kernels::{RopeKind, rope_freqs};

use super::{SpecError, inconsistent};

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
}

impl Rope {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if self.dims == 0 || !self.dims.is_multiple_of(2) {
            return inconsistent("the turned elements of a head must be even");
        }
        let stretch = match self.scaling {
            RopeScaling::None | RopeScaling::Factors => 1.0,
            RopeScaling::Linear(factor) => factor,
            RopeScaling::Llama3 { factor, low, high, original } => {
                if !(low > 0.0 && high > low && high.is_finite() && original.is_finite()) {
                    return inconsistent("the bounds of the rotary scaling must be ascending");
                }
                factor.min(original)
            }
        };
        if ![self.base, stretch].iter().all(|x| x.is_finite() && *x > 0.0) {
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
            RopeScaling::Factors => rope_freqs(base, 1.0, factors, out),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Factors in the files of Llama 3.2, at frequencies on both sides of the bounds and between
    /// them.
    #[test]
    fn llama3_stretches_long_waves_only() {
        let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
        let rope = Rope { kind: RopeKind::NeoX, dims: 64, base: 500_000.0, scaling };
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
