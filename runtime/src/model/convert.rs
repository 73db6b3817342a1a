//! Conversion of tensors that can't be used in place: matrices stored with inputs as rows or to be
//! quantised, and vectors of a type other than f32.

use std::ops::Range;

use teff_graph::layers::ValueHeads;
use teff_kernels::{Format, dequantize_row, quantize_row};

/// Dense matrix in a file.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    pub(super) format: Format,
    /// Number of outputs.
    pub(super) rows: usize,
    /// Number of inputs.
    pub(super) cols: usize,
    /// True if the file has inputs as rows: `[cols, rows]`.
    pub(super) transposed: bool,
    /// Order of the columns, if it is another one; not of a transposed matrix.
    pub(super) columns: Option<ValueHeads>,
    /// Index of the share that is read, and number of shares whose outputs alternate; `(0, 1)` of a
    /// matrix that is not transposed.
    pub(super) share: (usize, usize),
    pub(super) bytes: &'a [u8],
}

impl Dense<'_> {
    fn elem(&self) -> usize {
        self.format.block_bytes()
    }

    /// Runs of columns that lie together in the file: where each lies there, and its columns.
    fn runs(&self, cols: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (order, mut at) = (self.columns, cols.start);
        std::iter::from_fn(move || {
            let mut run = (at, at..cols.end);
            if let Some(ValueHeads { first, size, .. }) = order {
                let end = match at.checked_sub(first) {
                    None => first,
                    Some(c) => first + (c / size + 1) * size,
                };
                if let (Some(order), Some(c)) = (order, at.checked_sub(first)) {
                    run.0 = first + order.stored(c / size) * size + c % size;
                }
                run.1.end = end.min(cols.end);
            }
            at = run.1.end;
            (!run.1.is_empty()).then_some(run)
        })
    }
}

/// Copies a matrix to `out` with its columns in the order of memory, elements unchanged.
pub(super) fn order_columns(m: &Dense<'_>, out: &mut [u8]) {
    let (n, elem) = (m.cols * m.elem(), m.elem());
    for (from, to) in m.bytes.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        for (at, cols) in m.runs(0..m.cols) {
            let bytes = cols.len() * elem;
            to[cols.start * elem..][..bytes].copy_from_slice(&from[at * elem..][..bytes]);
        }
    }
}

/// Side of the tiles in which a matrix is transposed: a row of a tile is one or two cache lines, so
/// that every line of both matrices is touched once.
const SIDE: usize = 32;

/// Copies a transposed matrix to `out` as `[rows, cols]`, elements unchanged.
pub(super) fn transpose(m: &Dense<'_>, out: &mut [u8]) {
    match m.elem() {
        2 => transpose_elems::<2>(m, out),
        4 => transpose_elems::<4>(m, out),
        n => unreachable!("elements of {n} bytes: a dense format has 2 or 4"),
    }
}

fn transpose_elems<const N: usize>(m: &Dense<'_>, out: &mut [u8]) {
    let (src, dst) = (m.bytes.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
    let &Dense { rows, cols, share: (part, parts), .. } = m;
    assert!(src.len() == rows * cols * parts && dst.len() == rows * cols);
    let mut tile = [[[0; N]; SIDE]; SIDE];
    for r0 in (0..rows).step_by(SIDE) {
        let nr = SIDE.min(rows - r0);
        for c0 in (0..cols).step_by(SIDE) {
            let nc = SIDE.min(cols - c0);
            for c in 0..nc {
                let line = &src[((c0 + c) * rows + r0) * parts..][..nr * parts];
                for (r, v) in line.iter().skip(part).step_by(parts).enumerate() {
                    tile[r][c] = *v;
                }
            }
            for (r, line) in tile[..nr].iter().enumerate() {
                dst[(r0 + r) * cols + c0..][..nc].copy_from_slice(&line[..nc]);
            }
        }
    }
}

/// Rows and columns of the tile in which a matrix is widened for quantisation. The columns are
/// whole blocks of every format; the stride keeps a tile's rows from mapping to the same cache
/// lines.
const TILE: (usize, usize) = (32, 512);
const STRIDE: usize = TILE.1 + 16;

/// Quantises a matrix into `out`, a tensor of rows of `cols` in the format `to`, whose blocks
/// divide `cols`. It uses 68 KB of memory, whatever the size of the matrix.
///
/// The scale of a whole tensor is the largest magnitude, like that of a block in the other ternary
/// formats.
pub(super) fn quantize(m: &Dense<'_>, to: Format, out: &mut [u8]) {
    let (rows, cols, elem, (part, parts)) = (m.rows, m.cols, m.elem(), m.share);
    assert!(m.bytes.len() == rows * cols * parts * elem && TILE.1.is_multiple_of(to.block_len()));
    let row_bytes = to.row_bytes(cols).unwrap_or(0); // the caller saw to whole blocks
    let mut tile = vec![0f32; TILE.0 * STRIDE];
    let (out, trailer) = out.split_at_mut(rows * row_bytes);
    let mut unit = None;
    if let Some(scale) = trailer.first_chunk_mut() {
        let most = largest(m, &mut tile);
        *scale = most.to_le_bytes();
        unit = Some(if most > 0.0 { 1.0 / most } else { 0.0 });
    }
    let mut line = vec![0f32; TILE.0 * parts];
    for r0 in (0..rows).step_by(TILE.0) {
        let nr = TILE.0.min(rows - r0);
        for c0 in (0..cols).step_by(TILE.1) {
            let nc = TILE.1.min(cols - c0);
            if m.transposed {
                for c in 0..nc {
                    let (at, n) = (((c0 + c) * rows + r0) * parts * elem, nr * parts);
                    dequantize_row(m.format, &m.bytes[at..][..n * elem], &mut line[..n]);
                    for (r, v) in line[..n].iter().skip(part).step_by(parts).enumerate() {
                        tile[r * STRIDE + c] = *v;
                    }
                }
            } else {
                for r in 0..nr {
                    for (at, run) in m.runs(c0..c0 + nc) {
                        let at = ((r0 + r) * cols + at) * elem;
                        let row = &mut tile[r * STRIDE + run.start - c0..][..run.len()];
                        dequantize_row(m.format, &m.bytes[at..][..run.len() * elem], row);
                    }
                }
            }
            let start = c0 / to.block_len() * to.block_bytes();
            let bytes = nc / to.block_len() * to.block_bytes();
            for r in 0..nr {
                let out = &mut out[(r0 + r) * row_bytes + start..][..bytes];
                let row = &mut tile[r * STRIDE..][..nc];
                if let Some(unit) = unit {
                    row.iter_mut().for_each(|x| *x *= unit);
                }
                quantize_row(to, row, out);
            }
        }
    }
}

/// Largest magnitude of a matrix' elements, computed through `floats`; NaNs are ignored.
fn largest(m: &Dense<'_>, floats: &mut [f32]) -> f32 {
    let mut most = 0f32;
    let (part, parts) = m.share;
    let whole = floats.len() / parts * parts;
    let floats = &mut floats[..whole];
    for bytes in m.bytes.chunks(whole * m.elem()) {
        let floats = &mut floats[..bytes.len() / m.elem()];
        dequantize_row(m.format, bytes, floats);
        most = floats
            .iter()
            .skip(part)
            .step_by(parts)
            .fold(most, |m, x| if x.abs() > m { x.abs() } else { m });
    }
    most
}

/// Stores a vector as f32 of this machine in `out`, which is aligned for f32, with `shift` added to
/// every element.
pub(super) fn widen(format: Format, bytes: &[u8], shift: f32, out: &mut [u8]) {
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    dequantize_row(format, bytes, out);
    if shift != 0.0 {
        out.iter_mut().for_each(|x| *x += shift);
    }
}

/// `x = -exp(x)` for floats in `out`, the exponential rounded once from f64.
pub(super) fn negate_exp(out: &mut [u8]) {
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    out.iter_mut().for_each(|x| *x = -(f64::from(*x).exp() as f32));
}

/// Stores every `parts`th element of a vector from `part` on as f32 of this machine in `out`, which is
/// aligned for f32.
pub(super) fn widen_share(
    format: Format,
    bytes: &[u8],
    (part, parts): (usize, usize),
    out: &mut [u8],
) {
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    let each = bytes.chunks_exact(format.block_bytes()).skip(part).step_by(parts);
    for (x, bytes) in out.iter_mut().zip(each) {
        dequantize_row(format, bytes, std::slice::from_mut(x));
    }
}

/// Stores every `parts`th row of a matrix from row `part` on, whose elements and exponents lie apart, as
/// blocks of MXFP4: an exponent, and then sixteen bytes with elements 16 apart, of which the file has
/// neighbours. Values stay as they are.
pub(super) fn mxfp4(
    elements: &[u8],
    exponents: &[u8],
    (cols, (part, parts)): (usize, (usize, usize)),
    out: &mut [u8],
) {
    let per_row = (cols / 32).max(1);
    let blocks = elements.as_chunks::<16>().0;
    let rows = blocks.chunks_exact(per_row).zip(exponents.chunks_exact(per_row));
    let rows = rows.skip(part).step_by(parts);
    let out = out.as_chunks_mut::<17>().0.chunks_exact_mut(per_row);
    for (out, (blocks, exponents)) in out.zip(rows) {
        for (to, (pairs, &exponent)) in out.iter_mut().zip(blocks.iter().zip(exponents)) {
            let code = |i: usize| pairs[i / 2] >> (i % 2 * 4) & 15;
            to[0] = exponent;
            for (j, to) in to[1..].iter_mut().enumerate() {
                *to = code(j) | code(j + 16) << 4;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| ((i * 2_654_435_761) % 1999) as f32 / 256.0 - 3.5).collect()
    }

    fn dense(format: Format, x: &[f32]) -> Vec<u8> {
        let mut out = vec![0; x.len() * format.block_bytes()];
        quantize_row(format, x, &mut out);
        out
    }

    const SHAPES: [(usize, usize); 8] =
        [(1, 32), (32, 32), (33, 64), (31, 96), (7, 544), (100, 1056), (64, 512), (3, 1)];

    #[test]
    fn transposition_moves_every_element() {
        for (rows, cols) in SHAPES {
            for format in [Format::F32, Format::F16, Format::BF16] {
                let (n, bytes) = (format.block_bytes(), dense(format, &values(rows * cols)));
                let m = Dense {
                    format,
                    rows,
                    cols,
                    transposed: true,
                    columns: None,
                    share: (0, 1),
                    bytes: &bytes,
                };
                let mut out = vec![0; bytes.len()];
                transpose(&m, &mut out);
                for r in 0..rows {
                    for c in 0..cols {
                        let (from, to) = ((c * rows + r) * n, (r * cols + c) * n);
                        assert_eq!(out[to..to + n], bytes[from..from + n], "{rows}x{cols} {r} {c}");
                    }
                }
            }
        }
    }

    /// A scale of the whole tensor, in both storage orders.
    #[test]
    fn one_scale_for_all_rows() {
        let (rows, cols) = (40, 640);
        // Ternary weights, and one of the largest magnitude in the last row.
        let x: Vec<f32> = (0..rows * cols).map(|i| [0.0, 0.375, -0.375][i * 7 % 3]).collect();
        let straight = dense(Format::F32, &x);
        let t = Dense {
            format: Format::F32,
            rows: cols,
            cols: rows,
            transposed: true,
            columns: None,
            share: (0, 1),
            bytes: &straight,
        };
        let mut turned = vec![0; straight.len()];
        transpose(&t, &mut turned);
        for (transposed, bytes) in [(false, &straight), (true, &turned)] {
            let m = Dense {
                format: Format::F32,
                rows,
                cols,
                transposed,
                columns: None,
                share: (0, 1),
                bytes,
            };
            let mut out = vec![0; Format::I2_S.tensor_bytes(rows, cols).unwrap()];
            quantize(&m, Format::I2_S, &mut out);
            let w = teff_kernels::Matrix::from_tensor(Format::I2_S, rows, cols, &out).unwrap();
            assert_eq!(w.scale(), 0.375);
            let mut back = vec![0f32; cols];
            for (r, x) in x.chunks(cols).enumerate() {
                teff_kernels::Backend::dequantize_row(&teff_kernels::Scalar, &w, r, &mut back);
                assert_eq!(back, x, "row {r}");
            }
        }
        let zeros = vec![0; 4 * 128];
        let m = Dense {
            format: Format::F32,
            rows: 1,
            cols: 128,
            transposed: false,
            columns: None,
            share: (0, 1),
            bytes: &zeros,
        };
        let mut out = vec![9; 64];
        quantize(&m, Format::I2_S, &mut out);
        assert_eq!((out[0], &out[32..36]), (0x55, &[0; 4][..]));
    }

    /// Columns in another order, in both ways of conversion.
    #[test]
    fn columns_are_put_in_order() {
        // Three key heads with two value heads each, of 112 columns, after 32 others.
        let heads = ValueHeads { first: 32, keys: 3, each: 2, size: 112, columns: true };
        let (rows, cols) = (3, 32 + 6 * 112);
        let x = values(rows * cols);
        let bytes = dense(Format::F32, &x);
        let format = Format::F32;
        let (transposed, columns, share) = (false, Some(heads), (0, 1));
        let m = Dense { format, rows, cols, transposed, columns, share, bytes: &bytes };
        let mut want = x.clone();
        for r in 0..rows {
            for (j, stored) in [0, 2, 4, 1, 3, 5].into_iter().enumerate() {
                let [to, from] = [j, stored].map(|head| r * cols + 32 + head * 112);
                want[to..][..112].copy_from_slice(&x[from..][..112]);
            }
        }
        let mut out = vec![0; bytes.len()];
        order_columns(&m, &mut out);
        assert_eq!(out, dense(Format::F32, &want));
        let row = Format::Q8_0.row_bytes(cols).unwrap();
        let mut out = vec![0; rows * row];
        quantize(&m, Format::Q8_0, &mut out);
        assert_eq!(out, dense_rows(Format::Q8_0, &want, cols));
    }

    fn dense_rows(format: Format, x: &[f32], cols: usize) -> Vec<u8> {
        let row = |x: &[f32]| {
            let mut out = vec![0; format.row_bytes(cols).unwrap()];
            quantize_row(format, x, &mut out);
            out
        };
        x.chunks(cols).flat_map(row).collect()
    }

    #[test]
    fn tiles_quantise_as_whole_rows_do() {
        for (rows, cols) in SHAPES.into_iter().filter(|s| s.1 % 32 == 0) {
            for format in [Format::F32, Format::F16, Format::BF16] {
                for to in [Format::Q8_0, Format::Q4_0] {
                    let straight = dense(format, &values(rows * cols));
                    let mut turned = vec![0; straight.len()];
                    // Transposing [cols, rows] from [rows, cols] is the inverse transposition.
                    let t = Dense {
                        format,
                        rows: cols,
                        cols: rows,
                        transposed: true,
                        columns: None,
                        share: (0, 1),
                        bytes: &straight,
                    };
                    transpose(&t, &mut turned);
                    let row_bytes = to.row_bytes(cols).unwrap();
                    let mut want = vec![0; rows * row_bytes];
                    let mut row = vec![0f32; cols];
                    for (r, out) in want.chunks_exact_mut(row_bytes).enumerate() {
                        let n = cols * format.block_bytes();
                        dequantize_row(format, &straight[r * n..][..n], &mut row);
                        quantize_row(to, &row, out);
                    }
                    for (transposed, bytes) in [(false, &straight), (true, &turned)] {
                        let m = Dense {
                            format,
                            rows,
                            cols,
                            transposed,
                            columns: None,
                            share: (0, 1),
                            bytes,
                        };
                        let mut out = vec![0; want.len()];
                        quantize(&m, to, &mut out);
                        assert!(out == want, "{rows}x{cols} {format} to {to}, {transposed}");
                    }
                }
            }
        }
    }

    #[test]
    fn shares_alternate() {
        let (rows, cols, parts) = (40, 70, 2);
        let x = values(rows * cols * parts);
        let bytes = dense(Format::F32, &x);
        for part in 0..parts {
            let share = (part, parts);
            let (format, transposed, columns) = (Format::F32, true, None);
            let m = Dense { format, rows, cols, transposed, columns, share, bytes: &bytes };
            let mut out = vec![0; rows * cols * 4];
            transpose(&m, &mut out);
            for (i, got) in out.as_chunks::<4>().0.iter().enumerate() {
                let want = x[(i % cols * rows + i / cols) * parts + part];
                assert_eq!(f32::from_le_bytes(*got), want);
            }
            // Quantised as it is after the transposition.
            let m = Dense { rows: 35, cols: 64, bytes: &bytes[..35 * 64 * 2 * 4], ..m };
            let mut straight = vec![0; 35 * 64 * 4];
            transpose(&m, &mut straight);
            let plain = Dense { transposed: false, share: (0, 1), bytes: &straight, ..m };
            let [mut got, mut want] = [(); 2].map(|()| vec![0; 35 * 2 * 34]);
            quantize(&m, Format::Q8_0, &mut got);
            quantize(&plain, Format::Q8_0, &mut want);
            assert!(got == want);
        }
        let vector: Vec<f32> = (0..12u8).map(f32::from).collect();
        let mut out = [[0f32; 6]; 2];
        for (part, out) in out.iter_mut().enumerate() {
            let bytes = dense(Format::BF16, &vector);
            widen_share(Format::BF16, &bytes, (part, 2), bytemuck::cast_slice_mut(out));
        }
        assert!((0..12).all(|i| out[i % 2][i / 2] == vector[i]), "{out:?}");
    }

    #[test]
    fn blocks_and_exponents_become_one() {
        // Three rows of 64, of which the second share is the rows 1 and 3 of 4.
        let (rows, cols) = (4, 64);
        let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 7 % 16) as u8).collect();
        let elements: Vec<u8> = codes.as_chunks::<2>().0.iter().map(|c| c[0] | c[1] << 4).collect();
        let exponents: Vec<u8> = (0..8).map(|i| 120 + i).collect();
        let mut out = vec![0; 2 * 2 * 17];
        mxfp4(&elements, &exponents, (cols, (1, 2)), &mut out);
        let mut got = vec![0f32; 2 * cols];
        dequantize_row(Format::MXFP4, &out, &mut got);
        let table = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (i, got) in got.into_iter().enumerate() {
            let (r, c) = (i / cols * 2 + 1, i % cols);
            let code = usize::from(codes[r * cols + c]);
            let sign = if code > 7 { -1.0 } else { 1.0 };
            let scale = 2f32.powi(i32::from(exponents[r * 2 + c / 32]) - 127);
            assert_eq!(got, sign * table[code % 8] * scale, "{i}");
        }
    }
}
