//! Views of memory refuse shapes whose products wrap, in 32 bits and in 64.

use std::panic::catch_unwind;

use teff_kernels::{DenseActivations, Q8Activations, Tile, WideActivations};

/// Factors whose product is 0 or small where it wraps.
fn wrapping() -> [(usize, usize); 5] {
    let half = 1 << (usize::BITS / 2);
    [
        (half, half),
        (2 * half, half),
        (usize::MAX, usize::MAX / 128 * 128),
        (3, 1 << (usize::BITS - 1)),
        (5, 1 << (usize::BITS - 2)),
    ]
}

#[test]
fn shapes_that_wrap_are_refused() {
    for (n, ld) in wrapping() {
        let tile = catch_unwind(|| {
            let (mut data, rows) = ([0.0; 64], [n, n + usize::from(n < usize::MAX)]);
            rows.map(|n| Tile::new(&mut data, n, 1, ld).n())
        });
        assert!(tile.is_err(), "a tile of {n} x {ld}");
        let data = [0.0; 64];
        assert!(
            catch_unwind(|| DenseActivations::new(&data, n + usize::from(n < 9), 1, ld).n())
                .is_err()
        );
        assert!(
            catch_unwind(|| Q8Activations::new(n, ld, &[], &[], &[]).n()).is_err(),
            "{n} x {ld}"
        );
        assert!(
            catch_unwind(|| WideActivations::new(n, ld, &[], &[], &[]).n()).is_err(),
            "{n} x {ld}"
        );
    }
}

#[test]
fn nothing_is_a_shape() {
    assert_eq!(Tile::new(&mut [], 0, 7, usize::MAX).n(), 0);
    assert_eq!(Tile::new(&mut [], 3, 0, 0).n(), 3);
    assert_eq!(DenseActivations::new(&[], 0, 7, 9).n(), 0);
    assert_eq!(Q8Activations::new(0, 64, &[], &[], &[]).n(), 0);
    assert_eq!(WideActivations::new(4, 0, &[], &[], &[]).n(), 4);
}
