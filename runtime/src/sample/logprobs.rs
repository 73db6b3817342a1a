//! Logarithms of probabilities.

use teff_kernels::exp;

use super::SampleError;
use super::float::ln;
use super::sampler::bad_logit;

/// Number of partial sums.
const SUMS: usize = 16;

/// Distribution that logits stand for, as logarithms of probabilities (log-softmax), before
/// temperature or any other stage of sampling.
///
/// The log probability of a token with logit `x` is `(x - m) - ln(s)`, computed in f64, where `m` is
/// the largest logit and `s` the sum of [`exp`]`(y - m)` over all logits `y`. Each difference inside
/// an exponential is one operation of f32; the terms are added in f64, term `i` to partial sum `i mod
/// 16` in ascending order, then sums 8 apart to each other, then 4, 2 and 1 apart. The logarithm is
/// made of additions, multiplications and divisions. Every machine therefore computes the same bits.
///
/// ```
/// use teff_runtime::sample::LogSoftmax;
///
/// let logits = [1.0, 3.0, f32::NEG_INFINITY];
/// let distribution = LogSoftmax::new(&logits)?;
/// let of = |token: usize| distribution.logprob(logits[token]);
/// assert!((of(1) - -(1.0 + (-2.0f64).exp()).ln()).abs() < 1e-6);
/// assert!((of(0).exp() + of(1).exp() - 1.0).abs() < 1e-6);
/// assert_eq!(of(2), f64::NEG_INFINITY);
/// # Ok::<(), teff_runtime::sample::SampleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogSoftmax {
    largest: f32,
    ln_sum: f64,
}

impl LogSoftmax {
    /// Distribution of these logits. A logit of negative infinity marks a token as impossible.
    ///
    /// # Errors
    /// [`SampleError::NotANumber`], [`SampleError::Infinite`], and [`SampleError::Nothing`] if no
    /// token is possible.
    pub fn new(logits: &[f32]) -> Result<Self, SampleError> {
        let mut largest = f32::NEG_INFINITY;
        let mut bad = false;
        for &x in logits {
            bad |= x.is_nan() || x == f32::INFINITY;
            largest = if x > largest { x } else { largest };
        }
        if bad {
            let found = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY).unwrap_or(0);
            return Err(bad_logit(found, logits[found]));
        }
        if largest == f32::NEG_INFINITY {
            return Err(SampleError::Nothing);
        }
        let mut sums = [0.0f64; SUMS];
        let (chunks, rest) = logits.as_chunks::<SUMS>();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(exp(x - largest));
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += f64::from(exp(x - largest));
        }
        let mut apart = SUMS / 2;
        while apart > 0 {
            for i in 0..apart {
                sums[i] += sums[i + apart];
            }
            apart /= 2;
        }
        // The largest logit's term is 1, so that the sum is at least that.
        Ok(LogSoftmax { largest, ln_sum: ln(sums[0]) })
    }

    /// Natural logarithm of the probability of a token with this logit, one of those that the
    /// distribution was made of.
    #[must_use]
    pub fn logprob(&self, logit: f32) -> f64 {
        (f64::from(logit) - f64::from(self.largest)) - self.ln_sum
    }
}

/// Token and the natural logarithm of its probability, rounded to f32.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Logprob {
    /// Token id.
    pub token: u32,
    /// Log probability; negative infinity for an impossible token.
    pub logprob: f32,
}

/// Log probabilities at the position of a generated token, in the model's own distribution
/// ([`LogSoftmax`]): before logit bias, hook, penalty, temperature and the other stages of sampling.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenLogprobs {
    /// Token that was generated.
    pub chosen: Logprob,
    /// Most likely tokens, in descending order, lower ids first on ties.
    pub top: Vec<Logprob>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_the_exact_value() {
        for n in [1usize, 2, 15, 16, 17, 1000, 50_257] {
            let logit = |i: usize| ((i * 7919) % 5003) as f32 * 0.004 - 8.0;
            let logits: Vec<f32> = (0..n).map(logit).collect();
            let most = logits.iter().map(|x| f64::from(*x)).fold(f64::MIN, f64::max);
            let sum: f64 = logits.iter().map(|x| (f64::from(*x) - most).exp()).sum();
            let got = LogSoftmax::new(&logits).unwrap();
            for x in logits.iter().take(50) {
                let want = f64::from(*x) - most - sum.ln();
                // exp has an error of 1.08 ULP, and its argument one of half an ULP of up to 20.
                assert!((got.logprob(*x) - want).abs() < 2e-6, "{n}: {} {want}", got.logprob(*x));
            }
        }
    }

    #[test]
    fn the_same_bits_on_every_machine() {
        let logits: Vec<f32> = (0..999).map(|i| ((i * 7919) % 5003) as f32 * 0.004).collect();
        let d = LogSoftmax::new(&logits).unwrap();
        assert_eq!(d.logprob(logits[3]).to_bits(), BITS);
    }

    const BITS: u64 = 13_844_605_887_249_808_002;

    #[test]
    fn what_is_no_distribution_is_refused() {
        let of = |x: &[f32]| LogSoftmax::new(x).unwrap_err();
        assert_eq!(of(&[]), SampleError::Nothing);
        assert_eq!(of(&[f32::NEG_INFINITY; 3]), SampleError::Nothing);
        assert_eq!(of(&[0.0, f32::NAN]), SampleError::NotANumber { index: 1 });
        assert_eq!(of(&[0.0, 1.0, f32::INFINITY]), SampleError::Infinite { index: 2 });
    }
}
