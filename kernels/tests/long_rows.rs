//! One column and long rows, which kernels read in another order than short ones: the bits of the
//! scalar truth on every backend.

mod common;

use common::{OwnedActivations, OwnedRepacked, Placed, Rng, difference, kinds, matrix, weights};
use proptest::prelude::*;
use teff_kernels::{Backend, Cpu, Format, Matrix, Scalar, Tile};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn long_rows(
        f in 0..Format::ALL.len(),
        rows in 0..100usize,
        blocks in 4..17usize,
        rest in 0..3usize,
        kind in kinds(),
        fine: bool,
        offset in 0..4usize,
        seed: u64,
    ) {
        let format = Format::ALL[f];
        // 4096 is the widest; dense rows need not be whole registers.
        let cols = 256 * blocks + if format.is_quantized() { 0 } else { rest * 7 };
        let r = &mut Rng::new(seed);
        let bytes = Placed::new(&weights(r, format, rows, cols, kind), offset);
        let w = matrix(r, format, (rows, cols), bytes.get(), kind);
        let x = OwnedActivations::new(r, format, 1, cols, kind, fine);
        let repacked = OwnedRepacked::new(&w, offset);
        let cut = r.below(rows + 1);
        for part in [0..rows, 0..cut, cut..rows] {
            let of = |b: &dyn Backend, w: &Matrix<'_>| {
                let mut y = vec![0.0; part.len()];
                let mut tile = Tile::new(&mut y, 1, part.len(), part.len());
                let mut scratch = Placed::zeroed(b.matmul_scratch(format, cols, 1));
                b.matmul(w, &x.get(), part.clone(), &mut tile, scratch.get_mut());
                y
            };
            let want = of(&Scalar, &w);
            for b in Cpu::NAMES.iter().filter_map(|name| Cpu::by_name(name).ok()) {
                let d = difference(&want, &of(&b, &w));
                prop_assert!(d.is_none(), "{} {format} {part:?} x {cols}: {}", b.name(), d.unwrap());
                let Some(repacked) = &repacked else { continue };
                let d = difference(&want, &of(&b, &repacked.get()));
                prop_assert!(d.is_none(), "{} {format} {part:?} x {cols}, repacked: {}", b.name(), d.unwrap());
            }
        }
    }
}
