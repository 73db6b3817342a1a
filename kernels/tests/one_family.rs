//! Products of every quantised format that is built, which need no other: for programs with one family of
//! formats. (`.ci/run families` builds this with one.)

use teff_kernels::{
    ActivationKind, Activations, Backend, Cpu, Format, Matrix, Q8Activations, Scalar, Tile,
    quantize_row,
};

#[test]
fn products_need_no_other_family() {
    const ROWS: usize = 37;
    const COLS: usize = 512;
    let x: Vec<f32> =
        (0..ROWS * COLS).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    let codes = |f: &Format| f.is_built() && f.activations() == ActivationKind::Q8;
    let mut formats = 0;
    for format in Format::ALL.into_iter().filter(codes) {
        formats += 1;
        let mut bytes = vec![0; format.tensor_bytes(ROWS, COLS).unwrap()];
        quantize_row(format, &x, &mut bytes);
        let w = Matrix::new(format, ROWS, COLS, &bytes).unwrap();
        // Of few columns, and of whole panels.
        for n in [1, 3, 33] {
            let q: Vec<i8> = (0..n * COLS).map(|i| (i * 31 % 255) as i8).collect();
            let q: Vec<i8> = q.into_iter().map(|q| q.max(-127)).collect();
            let sum = |q: &[i8; 16]| q.iter().map(|&q| i32::from(q)).sum();
            let sums: Vec<i32> = q.as_chunks().0.iter().map(sum).collect();
            let d: Vec<f32> = (0..n * COLS / 32).map(|i| 0.01 + (i % 5) as f32 / 64.0).collect();
            let x = Activations::Q8(Q8Activations::new(n, COLS, &q, &d, &sums));
            let run = |b: &dyn Backend| {
                let mut y = vec![0.0; n * ROWS];
                let size = b.matmul_scratch(format, COLS, n);
                let mut scratch = vec![0u8; size + 64];
                let at = scratch.as_ptr().align_offset(64);
                let scratch = &mut scratch[at..][..size];
                b.matmul(&w, &x, 0..ROWS, &mut Tile::new(&mut y, n, ROWS, ROWS), scratch);
                y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let want = run(&Scalar);
            for b in Cpu::NAMES.iter().filter_map(|name| Cpu::by_name(name).ok()) {
                assert!(run(&b) == want, "{format:?}, {n} columns, {}", b.name());
            }
        }
    }
    println!("{formats} formats");
}
