//! The frequencies of a model's rotary embedding.

use core::f64::consts::TAU;

use teff_kernels::rope_freqs;

use crate::{RopeScaling, Rotary};

/// Writes the frequencies of layers with or without a window; `factors` is the model's tensor of them,
/// where it has one.
///
/// A few tens of `pow` for each step: some microseconds, and no memory to keep them in.
pub(super) fn frequencies(rotary: &Rotary, window: bool, factors: Option<&[f32]>, out: &mut [f64]) {
    if window {
        return rope_freqs(f64::from(rotary.window_base), 1.0, None, out);
    }
    let base = f64::from(rotary.base);
    match rotary.scaling {
        RopeScaling::None => rope_freqs(base, 1.0, None, out),
        RopeScaling::Linear(factor) => rope_freqs(base, f64::from(factor), None, out),
        RopeScaling::Factors => rope_freqs(base, 1.0, factors, out),
        RopeScaling::Llama3 { factor, low, high, original } => {
            let [factor, low, high, original] = [factor, low, high, original].map(f64::from);
            rope_freqs(base, 1.0, None, out);
            for freq in out {
                // How often it turns in the original context decides.
                let turns = original * *freq / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                *freq *= kept + (1.0 - kept) / factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teff_kernels::RopeKind;

    /// The factors that Llama 3.2's files have, at frequencies on both sides of its bounds and between.
    #[test]
    fn llama3_stretches_long_waves_only() {
        let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
        let (base, kind) = (500_000.0, RopeKind::NeoX);
        let rotary = Rotary { kind, dims: 64, base, window_base: base, scaling };
        let (mut plain, mut got) = ([0.0; 32], [0.0; 32]);
        rope_freqs(f64::from(base), 1.0, None, &mut plain);
        frequencies(&rotary, false, None, &mut got);
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
        frequencies(&rotary, true, None, &mut got);
        assert_eq!(got, plain);
    }
}
