//! Products of all formats: of all activations at once, and of one at a time.

use teff_kernels::{
    ACT_BLOCK, ACT_SUM, ActivationKind, Activations, DenseActivations, Format, Matrix,
    Q8Activations, Tile, WIDE_BLOCK, WideActivations,
};

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
    for subnormal in [false, true] {
        ties(run, subnormal);
    }
}

/// Sums `c + p` of which `p` is within 2^-29 of half a unit of `c`: a fused multiply-add that rounds
/// to f64 first takes them for ties.
fn ties(run: &mut Run<'_>, subnormal: bool) {
    const COLS: usize = 32;
    let power = |e: u32| f32::from_bits((127 - e) << 23);
    // What c is about, in bits; and the factors of half its unit.
    let (bits, w_unit, x_unit) = match subnormal {
        true => (0x0040_0000, power(75), power(75)),
        false => (0x3f80_0000, power(24), 1.0),
    };
    let mut bytes = [[[0; 4]; COLS]; MAX_ROWS];
    let mut x = [1.0; COLS];
    for j in 0..16 {
        let a = power(15 + run.r.below(9) as u32);
        // 1 - 2^-30 or less below 1; 1 + 2^-33.
        let below = (1.0 - a, 1.0 + a);
        let above = (1.0 - power(11) + power(22), 1.0 + power(11));
        let (w, by) = if run.r.below(2) == 0 { below } else { above };
        x[16 + j] = by * x_unit;
        for row in &mut bytes {
            // Of lanes that are added to each other, one is negative: their sum is exact.
            let sign = (j as u32 / 8) << 31;
            row[j] = (sign | bits | run.r.bits() & 0xfff).to_le_bytes();
            let p_sign = if run.r.below(2) == 0 { 1.0 } else { -1.0 };
            row[16 + j] = (p_sign * w * w_unit).to_le_bytes();
        }
    }
    let bytes = bytes.as_flattened().as_flattened();
    let w = Matrix::new(Format::F32, MAX_ROWS, COLS, bytes).unwrap();
    let x = Activations::Dense(DenseActivations::new(&x, 1, COLS, COLS));
    let mut out = [[0.0; MAX_ROWS]; 2];
    for (b, out) in run.both().into_iter().zip(&mut out) {
        b.matmul(&w, &x, 0..MAX_ROWS, &mut Tile::new(out, 1, MAX_ROWS, MAX_ROWS), &mut []);
    }
    run.floats([&out[0], &out[1]]);
}

fn product(run: &mut Run<'_>, format: Format, n: usize) {
    let kind = run.r.kind();
    let unit = format.block_len();
    let cols = match format.activations() {
        ActivationKind::Dense => run.r.below(MAX_DENSE + 1),
        _ => run.r.below(MAX_COLS / unit + 1) * unit,
    };
    let rows = run.r.below(MAX_ROWS) + 1;
    let row_bytes = format.row_bytes(cols).unwrap();

    let mut bytes = Aligned([0; MAX_ROWS * MAX_COLS * 2]);
    let offset = run.r.below(4);
    let bytes = &mut bytes.0[offset..][..rows * row_bytes];
    run.r.weights(format, kind, bytes);
    let w = Matrix::new(format, rows, cols, bytes).unwrap().with_scale(run.r.float(kind));

    let (mut x, mut d) = ([0.0; MAX_N * MAX_DENSE], [0.0; MAX_N * MAX_COLS / ACT_BLOCK]);
    let (mut q, mut lo) = ([0; MAX_N * MAX_COLS], [0; MAX_N * MAX_COLS]);
    let mut s = [0; MAX_N * MAX_COLS / ACT_SUM];
    let fine = run.r.below(2) == 1;
    let len = n * cols;
    run.r.codes(&mut q[..len]);
    if fine {
        run.r.codes(&mut lo[..len]);
    }
    run.r.floats(&mut d, kind);
    let (q, lo) = (&q[..len], &lo[..len]);
    let activations = match format.activations() {
        ActivationKind::Dense => {
            run.r.floats(&mut x[..len], kind);
            Activations::Dense(DenseActivations::new(&x, n, cols, cols))
        }
        ActivationKind::Q8 => {
            let s = &mut s[..len / ACT_SUM];
            let unit = if fine { 255 } else { 1 };
            for ((s, q), lo) in s.iter_mut().zip(q.chunks(ACT_SUM)).zip(lo.chunks(ACT_SUM)) {
                *s = q.iter().zip(lo).map(|(&q, &lo)| unit * i32::from(q) + i32::from(lo)).sum();
            }
            let activations = Q8Activations::new(n, cols, q, &d[..len / ACT_BLOCK], s);
            Activations::Q8(if fine { activations.with_low(lo) } else { activations })
        }
        ActivationKind::Wide => {
            // A row's last group may be shorter.
            let groups = n * cols.div_ceil(WIDE_BLOCK);
            let all = q.chunks(cols.max(1)).flat_map(|row| row.chunks(WIDE_BLOCK));
            for (s, q) in s.iter_mut().zip(all) {
                *s = q.iter().map(|&q| i32::from(q)).sum();
            }
            Activations::Wide(WideActivations::new(n, cols, q, &d[..groups], &s[..groups]))
        }
    };

    // All rows, and some of them.
    let part = run.r.below(rows + 1)..rows;
    for rows in [0..rows, part] {
        let mut out = [[0.0; MAX_N * MAX_ROWS]; 2];
        for (b, out) in run.both().into_iter().zip(&mut out) {
            let mut scratch = Aligned([0xa5; SCRATCH]);
            let scratch = &mut scratch.0[..b.matmul_scratch(format, cols, n)];
            let mut y = Tile::new(out, n, rows.len(), rows.len());
            b.matmul(&w, &activations, rows.clone(), &mut y, scratch);
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
