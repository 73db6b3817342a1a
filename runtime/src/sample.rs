//! From logits to the next token.
//!
//! The stages, in llama.cpp's order; each works on what the one before left:
//!
//! 1. **Repetition penalty**: the logit of every token among the last `repeat_last_n` of the
//!    history is divided by `repeat_penalty` if it is positive, else multiplied by it, once however
//!    often the token occurs. A result beyond the range of f32 is its largest finite value.
//! 2. **Temperature 0** ends here: the largest logit, the lowest id among equals.
//! 3. **Top-k**: the `top_k` largest logits stay; among equals the lower ids. A `top_k` of the whole
//!    vocabulary or more is off.
//! 4. **Top-p**: with `w = exp(logit - largest)`, tokens in descending order (equals by id) stay
//!    until the sum of their `w` reaches `top_p` of the sum over all that stage 3 left; the one
//!    that reaches it stays too.
//! 5. **Min-p**: tokens with `w >= min_p` stay, which is `min_p` of the largest probability. (They
//!    are dropped before the walk of stage 4, whose sum skips them: the same tokens are left.)
//! 6. **Temperature**: the weight of a token is `exp((logit - largest) / temperature)`.
//! 7. **Draw**: 53 bits of the generator make `u` in `[0, 1)`; the first token whose running sum of
//!    weights exceeds `u` times their total is taken. The order is descending (equals by id) where
//!    top-k or top-p is on, else ascending id.
//!
//! A logit of negative infinity says that a token is impossible: it is never drawn.
//!
//! The same seed gives the same tokens on every machine: differences and quotients are single f32
//! operations, `exp` is [`teff_kernels::exp`], sums are f64 in the orders above (the total of
//! stage 4 without top-k: ascending id), and the generator ([`Rng`]) is a published one. Every
//! draw takes one number of the generator, also where one token is left; greedy choices take none.

mod params;
mod rng;
mod sampler;

pub use params::{Sampling, SamplingError};
pub use rng::Rng;
pub use sampler::{SampleError, Sampler};
