//! Conversion of ternary weights in other formats to I2_S, which stores them exactly.

use teff_kernels::{Format, dequantize_row, quantize_row};

use super::tensor_table::Ternary;

/// Error of a matrix with more than three values.
#[derive(Debug)]
pub(super) struct NotTernary;

/// Smallest scale for rounding weights, as in the training code.
const LEAST_SCALE: f64 = 1e-5;

/// Converts a matrix of `rows` outputs and `cols` inputs (a multiple of 128) to I2_S.
///
/// # Errors
/// [`NotTernary`] if the weights should be ternary and are not.
pub(super) fn convert(
    how: Ternary,
    format: Format,
    (rows, cols): (usize, usize),
    bytes: &[u8],
    out: &mut [u8],
) -> Result<(), NotTernary> {
    let (codes, trailer) = out.split_at_mut(rows * (cols / 4));
    let mut row = vec![0f32; cols];
    let read = |r: usize, row: &mut [f32]| {
        let n = cols * format.block_bytes();
        dequantize_row(format, &bytes[r * n..][..n], row);
    };
    let scale = match how {
        Ternary::Packed { scale } => scale,
        Ternary::Exact => {
            let mut most = 0f32;
            for r in 0..rows {
                read(r, &mut row);
                most = row.iter().fold(most, |m, x| m.max(x.abs()));
            }
            most
        }
        Ternary::Rounded => {
            let mut sum = 0f64;
            for r in 0..rows {
                read(r, &mut row);
                sum += row.iter().map(|x| f64::from(x.abs())).sum::<f64>();
            }
            (sum / (rows * cols) as f64).max(LEAST_SCALE) as f32
        }
    };
    for (r, codes) in codes.chunks_exact_mut(cols / 4).enumerate() {
        match how {
            Ternary::Packed { .. } => {
                // Quarter `i` of the rows has bits 2i and 2i + 1.
                let quarter = rows.div_ceil(4);
                let (i, at) = (r / quarter, r % quarter);
                for (x, byte) in row.iter_mut().zip(&bytes[at * cols..][..cols]) {
                    let code = byte >> (2 * i) & 3;
                    if code == 3 {
                        return Err(NotTernary);
                    }
                    *x = f32::from(code) - 1.0;
                }
            }
            Ternary::Exact => {
                read(r, &mut row);
                for x in &mut row {
                    if *x != 0.0 && x.abs() != scale {
                        return Err(NotTernary);
                    }
                    *x = if *x == 0.0 { 0.0 } else { x.signum() };
                }
            }
            Ternary::Rounded => {
                read(r, &mut row);
                for x in &mut row {
                    *x = (*x / scale).round_ties_even().clamp(-1.0, 1.0);
                }
            }
        }
        quantize_row(Format::I2_S, &row, codes);
    }
    if let Some(to) = trailer.first_chunk_mut() {
        *to = scale.to_le_bytes();
    }
    Ok(())
}
