//! Sampling: from logits to the next token.
//!
//! The stages, in llama.cpp's order; each works on the result of the one before:
//!
//! 1. **Penalties**, as [llama.cpp] has them: the logit of every token that is among the last
//!    `repeat_last_n` of the history (prompt and generated text alike) is divided by `repeat_penalty`
//!    if it is positive, otherwise multiplied by it, once no matter how often the token occurs; then
//!    `n * frequency_penalty + presence_penalty` is subtracted, where `n` is the number of times that
//!    it occurs there. If either result is beyond the range of f32, it becomes the largest finite
//!    value of its sign.
//! 2. **Temperature 0** ends here: the largest logit wins, the lowest id on ties.
//! 3. **Top-k**: the `top_k` largest logits are kept, lower ids first on ties. A `top_k` of the
//!    vocabulary size or more is off.
//! 4. **Top-p**: with `w = exp(logit - largest)`, tokens are kept in descending order (ties by id)
//!    until the sum of their `w` reaches `top_p` of the sum over everything that stage 3 kept; the
//!    token that reaches it is kept too.
//! 5. **Min-p**: tokens with `w >= min_p` are kept, which is `min_p` of the largest probability.
//!    (They are dropped before the scan of stage 4, whose sum skips them: the result is the same.)
//! 6. **Temperature**: the weight of a token is `exp((logit - largest) / temperature)`.
//! 7. **Draw**: 53 bits of the generator make `u` in `[0, 1)`; the first token whose running sum of
//!    weights exceeds `u` times their total is drawn. The order is descending (ties by id) if top-k
//!    or top-p is on, otherwise ascending id.
//!
//! A logit of negative infinity marks a token as impossible: it is never drawn.
//!
//! The same seed gives the same tokens on every machine: sums, differences, products and quotients
//! of logits, penalties and temperature are single f32 operations in the order written, `n` rounded
//! to f32 first, `exp` is [`teff_kernels::exp`], sums are f64 in the orders above (the total of
//! stage 4 without top-k: ascending id), and the generator ([`Rng`]) is a published one. Every draw
//! consumes one number of the generator, even if only one token is left; greedy choices consume
//! none.
//!
//! [llama.cpp]: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-sampler.cpp

mod float;
mod logprobs;
mod params;
mod rng;
mod sampler;

pub use logprobs::{LogSoftmax, Logprob, TokenLogprobs};
pub use params::{Sampling, SamplingError};
pub use rng::Rng;
pub use sampler::{SampleError, Sampler};

pub(crate) use float::exp;
