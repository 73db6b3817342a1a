//! Matrices repacked: the blocks of sixteen rows side by side, an option for fast backends.
//!
//! A matrix of a file is row-major, so a kernel with rows in lanes reads from as many places as it
//! has lanes, transposes what it read, and leaves the CPU's prefetcher short streams that it does
//! not follow. Repacked, it reads one long stream and needs no shuffles. The bytes are the same, in
//! another order, so it costs a copy and changes no bit of a result.
//!
//! Rows lie in groups of sixteen; a last group that is not whole is filled up with zeros. A group
//! is an interleaved block for each block of its rows: the sixteen blocks cut into words of four
//! bytes, the first word of all sixteen, the second of all sixteen, and so on. Of formats whose
//! blocks are two bytes more than whole words, these are the f16 that the block begins or ends
//! with: the sixteen of them come first; where it is one byte, the exponent that the block begins with. Words come in the order in which a kernel wants them,
//! scales first: an interleaved block that is read here and there is not prefetched (Zen 4: Q6_K in
//! the order of its block 6 GB/s).

use crate::{ActivationKind, Format, Matrix};

/// Rows whose blocks lie side by side.
pub const REPACK_ROWS: usize = 16;

/// Bytes of a block beyond whole words: of its scale, which lies at one of its ends.
pub(crate) const fn no_word(format: Format) -> usize {
    format.block_bytes() % 4
}

/// Offset of these bytes in a block.
const fn scale_at(format: Format) -> usize {
    match no_word(format) {
        2 => format.f16_fields()[0],
        _ => 0,
    }
}

/// Bytes before the first word of an interleaved block.
pub(crate) const fn before_words(format: Format) -> usize {
    no_word(format) * REPACK_ROWS
}

/// Which of a block's words an interleaved block has as its word `k`.
const fn word(format: Format, k: usize) -> usize {
    match (format, k) {
        // The units, then scales and codes.
        (Format::Q2_K, 0) => 20,
        (Format::Q2_K, _) => k - 1,
        (Format::Q3_K, 0..3) => 24 + k,
        (Format::Q3_K, _) => k - 3,
        // The scales; upper bits before the lower ones of the same half.
        (Format::Q6_K, 0..4) => 48 + k,
        (Format::Q6_K, _) => match ((k - 4) / 24, (k - 4) % 24) {
            (half, g @ 0..8) => 32 + 8 * half + g,
            (half, g) => 16 * half + g - 8,
        },
        _ => k,
    }
}

/// The feature `repack` is on, and the format has the layout: those of codes that are not expanded for products.
pub(crate) const fn is_repacked(format: Format) -> bool {
    cfg!(feature = "repack")
        && matches!(format.activations(), ActivationKind::Q8)
        && !crate::blocks::expanded::is_expanded(format)
}

/// Bytes that a matrix of `rows` x `cols` has when it is repacked. `None` where the format can't be
/// (it is dense or ternary, or has one or two bits or a grid, or the feature `repack` is off), rows are not whole blocks, or more than memory has.
#[must_use]
pub fn repacked_bytes(format: Format, rows: usize, cols: usize) -> Option<usize> {
    if !is_repacked(format) {
        return None;
    }
    rows.checked_next_multiple_of(REPACK_ROWS)?.checked_mul(format.row_bytes(cols)?)
}

/// Repacks all rows of `w` into `out`.
///
/// # Panics
/// If `out` has not [`repacked_bytes`], or `w` is repacked already.
pub fn repack(w: &Matrix<'_>, out: &mut [u8]) {
    let format = w.format();
    assert!(!w.is_repacked(), "the matrix is repacked already");
    assert_eq!(Some(out.len()), repacked_bytes(format, w.rows(), w.cols()), "a repacked matrix");
    repack_from(w, 0, out);
}

/// Repacks the rows from `first` on into `out`, a part of what [`repack`] fills: so threads can share
/// a matrix.
///
/// # Panics
/// If `first` is not a multiple of [`REPACK_ROWS`], `out` is not whole groups of rows that the matrix
/// has, or `w` can't be repacked or is already.
pub fn repack_from(w: &Matrix<'_>, first: usize, out: &mut [u8]) {
    let (format, row_bytes) = (w.format(), w.row_bytes());
    assert!(is_repacked(format) && !w.is_repacked() && first.is_multiple_of(REPACK_ROWS));
    if row_bytes == 0 {
        return;
    }
    let size_of_group = REPACK_ROWS * row_bytes;
    let rows = w.bytes().get(first * row_bytes..).unwrap_or_default();
    assert!(out.len().is_multiple_of(size_of_group));
    assert!(out.len() <= rows.len().next_multiple_of(size_of_group), "rows that are not there");
    for (rows, group) in rows.chunks(size_of_group).zip(out.chunks_exact_mut(size_of_group)) {
        if rows.len() < group.len() {
            group.fill(0);
        }
        let interleaved = group.chunks_exact_mut(REPACK_ROWS * format.block_bytes());
        for (b, interleaved) in interleaved.enumerate() {
            interleave(format, (&rows[b * format.block_bytes()..], row_bytes), interleaved);
        }
    }
}

/// Fills an interleaved block with the blocks that begin each `row_bytes`.
fn interleave(format: Format, (rows, row_bytes): (&[u8], usize), interleaved: &mut [u8]) {
    let (size, at) = (no_word(format), scale_at(format));
    let first = if at == 0 { size } else { 0 };
    let (before, words) = interleaved.split_at_mut(before_words(format));
    if size > 0 {
        for (to, row) in before.chunks_exact_mut(size).zip(rows.chunks(row_bytes)) {
            to.copy_from_slice(&row[at..][..size]);
        }
    }
    let (words, _) = words.as_chunks_mut::<{ 4 * REPACK_ROWS }>();
    for (k, words) in words.iter_mut().enumerate() {
        let at = first + 4 * word(format, k);
        for (to, row) in words.as_chunks_mut::<4>().0.iter_mut().zip(rows.chunks(row_bytes)) {
            to.copy_from_slice(&row[at..][..4]);
        }
    }
}

/// The bytes of row `row` of an interleaved block.
pub(crate) fn block_of(format: Format, interleaved: &[u8], row: usize, block: &mut [u8]) {
    for_pieces(format, row, |at, of| {
        let n = of.len();
        block[of].copy_from_slice(&interleaved[at..][..n]);
    });
}

/// Calls `piece` with where the pieces of row `row`'s block lie in an interleaved block, and in the
/// block.
#[inline(always)]
fn for_pieces(format: Format, row: usize, mut piece: impl FnMut(usize, core::ops::Range<usize>)) {
    let (size, at) = (no_word(format), scale_at(format));
    let first = if at == 0 { size } else { 0 };
    if size > 0 {
        piece(size * row, at..at + size);
    }
    for k in 0..format.block_bytes() / 4 {
        let at = first + 4 * word(format, k);
        piece(before_words(format) + 4 * (REPACK_ROWS * k + row), at..at + 4);
    }
}

#[cfg(all(test, feature = "repack"))]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::MatrixError;

    #[test]
    fn interleaved_blocks_have_every_byte_of_their_blocks_once() {
        for format in Format::ALL.into_iter().filter(|&f| is_repacked(f)) {
            let size = format.block_bytes();
            let (mut interleaved, mut blocks) = ([0; 16 * 210], [[0; 210]; 16]);
            for (row, block) in blocks.iter_mut().enumerate() {
                for_pieces(format, row, |at, of| {
                    for (to, from) in (at..).zip(of) {
                        (interleaved[to], block[from]) = (interleaved[to] + 1, block[from] + 1);
                    }
                });
            }
            assert!(interleaved[..16 * size].iter().all(|&n| n == 1), "{format}");
            assert!(blocks.iter().all(|b| b[..size].iter().all(|&n| n == 1)), "{format}");
        }
    }

    #[test]
    fn repacked_rows_are_the_rows() {
        for format in Format::ALL {
            let (rows, cols) = (19, 512);
            let bytes: Vec<u8> = (0..rows * format.row_bytes(cols).unwrap())
                .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8)
                .collect();
            let w = Matrix::new(format, rows, cols, &bytes).unwrap();
            let Some(size) = repacked_bytes(format, rows, cols) else {
                let error = Matrix::repacked(format, rows, cols, &bytes).unwrap_err();
                assert_eq!(error, MatrixError::NotRepacked { format });
                continue;
            };
            let mut packed = vec![0xa5; size];
            repack(&w, &mut packed);
            let packed = Matrix::repacked(format, rows, cols, &packed).unwrap();
            let mut row = vec![0; w.row_bytes()];
            for r in 0..rows {
                packed.copy_row(r, &mut row);
                assert_eq!(row, w.bytes()[r * row.len()..][..row.len()], "{format}");
            }
            crate::blocks::for_codes!(format, B => for r in 0..rows {
                for (b, block) in w.row::<B>(r).iter().enumerate() {
                    let got = packed.block::<B>(r, b);
                    assert_eq!(bytemuck::bytes_of(&got), bytemuck::bytes_of(block), "{format}");
                }
            }, dense => unreachable!());
            let error = Matrix::repacked(format, rows, cols, &bytes).unwrap_err();
            assert_eq!(error, MatrixError::Size { needed: Some(size), got: bytes.len() });
        }
    }
}
