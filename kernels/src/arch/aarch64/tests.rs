//! Every product runs in the functions that were compiled for the backend, and none in portable code.

use crate::entered::seen::during;
use crate::{
    ACT_BLOCK, ACT_SUM, ActKind, Acts, Backend, Cpu, DenseActs, Format, Matrix, Q8Acts, Tile,
    WIDE_BLOCK, WideActs,
};

/// Of eight rows, with `n` columns; the scratch is as large as asked for.
fn product(b: &Cpu, format: Format, n: usize) {
    const COLS: usize = 512;
    let w = std::vec![0; 8 * format.row_bytes(COLS).unwrap()];
    let w = Matrix::new(format, 8, COLS, &w).unwrap();
    let (x, q, s) =
        (std::vec![0.0; n * COLS], std::vec![0; n * COLS], std::vec![0; n * COLS / ACT_SUM]);
    let groups = n * COLS / WIDE_BLOCK;
    let acts = match format.acts() {
        ActKind::Dense => Acts::Dense(DenseActs::new(&x, n, COLS, COLS)),
        ActKind::Q8 => Acts::Q8(Q8Acts::new(n, COLS, &q, &x[..n * COLS / ACT_BLOCK], &s)),
        ActKind::Wide => Acts::Wide(WideActs::new(n, COLS, &q, &x[..groups], &s[..groups])),
    };
    let len = b.matmul_scratch(format, COLS, n);
    let mut scratch = std::vec![0; len + 64];
    let at = scratch.as_ptr().align_offset(64);
    let mut y = std::vec![0.0; n * 8];
    let mut y = Tile::new(&mut y, n, 8, 8);
    b.matmul(&w, &acts, 0..8, &mut y, &mut scratch[at..][..len]);
}

#[test]
fn products_run_where_they_should() {
    for b in Cpu::NAMES.iter().skip(1).filter_map(|n| Cpu::by_name(n).ok()) {
        for format in Format::ALL.into_iter().filter(|f| f.is_built()) {
            for n in [1, 9] {
                let want = match (format.acts(), n) {
                    (ActKind::Dense, _) => std::vec![("neon", "dense")],
                    (ActKind::Q8, 1) => std::vec![(b.name(), "quantized")],
                    (ActKind::Q8, _) => std::vec![(b.name(), "panels"), (b.name(), "quantized")],
                    (ActKind::Wide, 1) => std::vec![(b.name(), "ternary")],
                    (ActKind::Wide, _) => {
                        std::vec![(b.name(), "ternary"), (b.name(), "ternary panels")]
                    }
                };
                let seen = during(|| product(&b, format, n));
                assert!(seen.keys().eq(&want), "{} {format} x {n}: {seen:?}", b.name());
            }
        }
    }
}
