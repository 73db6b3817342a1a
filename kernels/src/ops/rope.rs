//! Rotary position embedding (Su and others, "RoFormer", 2021).
//!
//! Frequencies are made once for a model, a row of cosines and sines once for a position; heads and
//! layers share it. Both in f64 by functions of the `libm` crate, pure Rust of additions,
//! multiplications and divisions, so that the row has the same bits on every machine.

/// The pairing of the elements of a head that are rotated together.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RopeKind {
    /// Neighbours: `2j` and `2j + 1`. GGUF files of llama models are stored for this.
    Norm,
    /// Element `j` of the first half of the turned ones and of the second: qwen, gemma.
    NeoX,
}

/// The frequencies of a rotary embedding of `2 * out.len()` elements: an angle in radians for each
/// position, `out[j] = base^(-j / out.len()) / (scale * factors[j])`.
///
/// `scale` stretches all positions (linear scaling; 1 for none), `factors` each frequency on its
/// own (the tensor `rope_freqs` of GGUF; none are as all 1).
///
/// # Panics
/// If `factors` has another length than `out`.
pub fn rope_freqs(base: f64, scale: f64, factors: Option<&[f32]>, out: &mut [f64]) {
    assert!(factors.is_none_or(|f| f.len() == out.len()), "a factor for each frequency");
    let n = out.len() as f64;
    for (j, out) in out.iter_mut().enumerate() {
        let factor = factors.map_or(1.0, |f| f64::from(f[j]));
        *out = libm::pow(base, -(j as f64 / n)) / (scale * factor);
    }
}

/// Table for [`crate::Backend::rope`] at a position: the cosines of `position * freqs[j]`, then
/// the sines, each within 0.501 ULP of the exact value for that (f64) angle.
///
/// Angles are rounded to f64: up to position 131072 with frequencies up to 1 their error is below
/// 2^-34, far below a rounding of f32 except where a sine or cosine is near 0 anyway.
///
/// # Panics
/// If `out` is not twice as long as `freqs`.
pub fn rope_table(position: usize, freqs: &[f64], out: &mut [f32]) {
    assert!(out.len() == 2 * freqs.len(), "a cosine and a sine for each frequency");
    let (cos, sin) = out.split_at_mut(freqs.len());
    for ((freq, cos), sin) in freqs.iter().zip(cos).zip(sin) {
        let (s, c) = libm::sincos(position as f64 * freq);
        (*cos, *sin) = (c as f32, s as f32);
    }
}

/// See [`crate::Backend::rope`]. Element by element, so it needs no lanes: compilers vectorise it.
#[inline(always)]
pub(crate) fn rope(x: &mut [f32], head_dim: usize, table: &[f32], kind: RopeKind) {
    assert!(head_dim > 0 && x.len().is_multiple_of(head_dim), "whole heads");
    assert!(table.len().is_multiple_of(2) && table.len() <= head_dim, "a table for such heads");
    let n = table.len() / 2;
    let (cos, sin) = table.split_at(n);
    for head in x.chunks_exact_mut(head_dim) {
        let head = &mut head[..2 * n];
        match kind {
            RopeKind::Norm => {
                let pairs = head.as_chunks_mut::<2>().0;
                for ((pair, c), s) in pairs.iter_mut().zip(cos).zip(sin) {
                    let [a, b] = *pair;
                    *pair = [a * c - b * s, a * s + b * c];
                }
            }
            RopeKind::NeoX => {
                let (first, second) = head.split_at_mut(n);
                for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
                }
            }
        }
    }
}
