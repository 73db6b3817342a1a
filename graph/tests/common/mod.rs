//! Models with generated weights.

use teff_graph::{Slot, Spec, Tensor};
use teff_kernels::{Format, Matrix, quantize_row};

/// Floats in -1..1, the same in every run (Marsaglia's xorshift32).
pub(crate) fn floats(seed: u32, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = |_| {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        (s >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

/// Weights of a model: bytes of its matrices, floats of its vectors.
pub(crate) fn weights(spec: &Spec, format: Format) -> Vec<(Vec<u8>, Vec<f32>)> {
    let one = |(i, slot): (usize, Slot)| {
        let x = floats(i as u32 + 1, slot.rows * slot.cols);
        if slot.vector {
            return (vec![], x);
        }
        let row = format.row_bytes(slot.cols).unwrap();
        let mut bytes = vec![0; slot.rows * row];
        for (x, to) in x.chunks(slot.cols).zip(bytes.chunks_mut(row)) {
            quantize_row(format, x, to);
        }
        (bytes, vec![])
    };
    spec.slots().enumerate().map(one).collect()
}

/// Table of these weights for a runner.
pub(crate) fn tensors<'a>(
    spec: &Spec,
    format: Format,
    owned: &'a [(Vec<u8>, Vec<f32>)],
) -> Vec<Tensor<'a>> {
    let one = |(slot, (bytes, floats)): (Slot, &'a (Vec<u8>, Vec<f32>))| {
        let matrix = || Matrix::new(format, slot.rows, slot.cols, bytes).unwrap();
        if slot.vector { Tensor::Vector(floats) } else { Tensor::Matrix(matrix()) }
    };
    spec.slots().zip(owned).map(one).collect()
}
