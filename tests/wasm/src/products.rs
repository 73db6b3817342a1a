//! Products of all formats: of all activations at once, and of one at a time.

use teff_kernels::{ACT_BLOCK, ACT_SUM, Acts, DenseActs, Format, Matrix, Q8Acts, Tile};

use crate::Run;
use crate::inputs::{Aligned, MAX_COLS, MAX_N, MAX_ROWS};

/// The longest row of floats.
const MAX_DENSE: usize = 200;
/// Enough for the scratch of any backend.
const SCRATCH: usize = 128 << 10;

pub(crate) fn check(run: &mut Run<'_>) {
    for format in Format::ALL {
        // Few and many activations, for the two drivers of a backend.
        for n in [1, run.r.below(MAX_N) + 1, MAX_N] {
            product(run, format, n);
        }
    }
}

fn product(run: &mut Run<'_>, format: Format, n: usize) {
    let kind = run.r.kind();
    let unit = format.block_len();
    let cols = match format.is_quantized() {
        true => (run.r.below(MAX_COLS / unit) + 1) * unit,
        false => run.r.below(MAX_DENSE + 1),
    };
    let rows = run.r.below(MAX_ROWS) + 1;
    let row_bytes = format.row_bytes(cols).unwrap();

    let mut bytes = Aligned([0; MAX_ROWS * MAX_COLS * 2]);
    let offset = run.r.below(4);
    let bytes = &mut bytes.0[offset..][..rows * row_bytes];
    run.r.weights(format, kind, bytes);
    let w = Matrix::new(format, rows, cols, bytes).unwrap();

    let (mut x, mut d) = ([0.0; MAX_N * MAX_DENSE], [0.0; MAX_N * MAX_COLS / ACT_BLOCK]);
    let (mut q, mut lo) = ([0; MAX_N * MAX_COLS], [0; MAX_N * MAX_COLS]);
    let mut s = [0; MAX_N * MAX_COLS / ACT_SUM];
    let fine = run.r.below(2) == 1;
    let acts = if format.is_quantized() {
        let len = n * cols;
        let (q, lo) = (&mut q[..len], &mut lo[..len]);
        run.r.codes(q);
        let d = &mut d[..len / ACT_BLOCK];
        run.r.floats(d, kind);
        if fine {
            run.r.codes(lo);
        }
        let s = &mut s[..len / ACT_SUM];
        for ((s, q), lo) in s.iter_mut().zip(q.chunks(ACT_SUM)).zip(lo.chunks(ACT_SUM)) {
            let unit = if fine { 255 } else { 1 };
            *s = q.iter().zip(lo).map(|(&q, &lo)| unit * i32::from(q) + i32::from(lo)).sum();
        }
        let acts = Q8Acts::new(n, cols, q, d, s);
        Acts::Q8(if fine { acts.with_low(lo) } else { acts })
    } else {
        run.r.floats(&mut x[..n * cols], kind);
        Acts::Dense(DenseActs::new(&x, n, cols, cols))
    };

    // All rows, and some of them.
    let part = run.r.below(rows + 1)..rows;
    for rows in [0..rows, part] {
        let mut out = [[0.0; MAX_N * MAX_ROWS]; 2];
        for (b, out) in run.both().into_iter().zip(&mut out) {
            let mut scratch = Aligned([0xa5; SCRATCH]);
            let scratch = &mut scratch.0[..b.matmul_scratch(format, cols, n)];
            let mut y = Tile::new(out, n, rows.len(), rows.len());
            b.matmul(&w, &acts, rows.clone(), &mut y, scratch);
        }
        run.floats([&out[0], &out[1]]);
    }
    let row = run.r.below(rows);
    let mut out = [[0.0; MAX_COLS]; 2];
    for (b, out) in run.both().into_iter().zip(&mut out) {
        b.dequantize_row(&w, row, &mut out[..cols]);
    }
    run.floats([&out[0], &out[1]]);
}
