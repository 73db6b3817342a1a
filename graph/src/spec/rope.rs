//! Rotary embeddings: which elements are turned, and by which frequencies.

use core::f64::consts::TAU;

use teff_kernels::{RopeKind, rope_freqs};

use super::{SpecError, inconsistent};

/// A rotary embedding.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rope {
    /// Pairing of the elements that are turned together.
    pub kind: RopeKind,
    /// Elements of a head that are turned: the first ones; even.
    pub dims: u32,
    /// The base of the frequencies.
    pub base: f32,
    /// How frequencies are stretched for a longer context.
    pub scaling: RopeScaling,
}

/// How the frequencies of a rotary embedding are stretched.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All are divided by a factor.
    Linear(f32),
    /// Each is divided by its element of the tensor [`Role::RopeFactors`](super::Role::RopeFactors).
    Factors,
    /// Llama 3's rule: wavelengths longer than `original / low` are stretched by `factor`, shorter
    /// ones than `original / high` stay, and between the two it is in between.
    Llama3 {
        /// The stretch of the longest.
        factor: f32,
        /// Turns in the original context below which all of it applies.
        low: f32,
        /// Turns in the original context above which none of it does.
        high: f32,
        /// Positions that the model was trained with at first.
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

    /// Writes the frequencies, an angle in radians for each position; `factors` is the model's
    /// tensor of them, where it has one.
    ///
    /// A few tens of `pow` for each step: some microseconds, and no memory to keep them in.
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
                    // The number of turns in the original context decides.
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

    /// The factors that Llama 3.2's files have, at frequencies on both sides of its bounds and between.
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
