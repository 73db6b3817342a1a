//! Views of memory refuse shapes whose products wrap, in 32 bits and in 64.

use std::panic::catch_unwind;

use teff_kernels::{
    AttentionParams, Backend, DenseActivations, KvFormat, KvHead, KvLayout, Q8Activations, Scalar,
    Tile, WideActivations,
};

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

/// A ring takes every position that its window lets be seen, and no others.
#[test]
fn attention_beyond_the_cache() {
    let layout = KvLayout { format: KvFormat::Q8, head_dim: 4, capacity: 64 };
    // As words, which are aligned.
    let (keys, values) = (vec![0u32; layout.key_bytes() / 4], vec![0u32; layout.value_bytes() / 4]);
    let (keys, values) = (bytemuck::cast_slice(&keys), bytemuck::cast_slice(&values));
    let attends = |position: usize, n: usize, window: usize| {
        catch_unwind(|| {
            let (q, mut y) = (vec![1.0; n * 4], vec![0.0; n * 4]);
            let q = DenseActivations::new(&q, n, 4, 4);
            let head = KvHead::new(layout, keys, values);
            let window = std::num::NonZeroUsize::new(window);
            let params = AttentionParams { window, ..AttentionParams::new(1.0) };
            Scalar.attend(&q, &head, position, &params, &mut Tile::new(&mut y, n, 4, 4));
        })
        .is_ok()
    };
    assert!(attends(63, 1, 0) && attends(0, 64, 0) && attends(0, 64, 1000));
    assert!(!attends(64, 1, 0) && !attends(0, 65, 0) && !attends(1, 64, 1000));
    assert!(attends(64, 1, 64) && attends(1_000_000, 60, 5) && attends(usize::MAX / 2, 5, 60));
    assert!(!attends(64, 1, 65) && !attends(1_000_000, 60, 6) && !attends(usize::MAX - 4, 5, 5));
}

#[test]
fn slots_of_a_ring() {
    let layout = KvLayout { format: KvFormat::Q8, head_dim: 20, capacity: 128 };
    let slots = |positions| layout.slots(positions);
    assert_eq!([0, 127, 128, 300].map(|p| layout.slot(p)), [0, 127, 0, 44]);
    assert_eq!(slots(0..0), [0..0, 0..0]);
    assert_eq!(slots(3..70), [3..70, 0..0]);
    assert_eq!(slots(0..128), [0..128, 0..0]);
    assert_eq!(slots(100..130), [100..128, 0..2]);
    assert_eq!(slots(0..300), [44..128, 0..44]);
    assert_eq!(slots(256..300), [0..44, 0..0]);
    // Whole panels, of keys of 20 bytes and values of 32, with scales of 4.
    let (keys, values) = (128 * 20, 128 * 32);
    assert_eq!(layout.key_ranges(17..33), [16 * 20..48 * 20, keys + 16 * 4..keys + 48 * 4]);
    assert_eq!(layout.value_ranges(17..33), [16 * 32..48 * 32, values + 16 * 4..values + 48 * 4]);
    assert_eq!(layout.key_prefix(1), layout.key_ranges(0..16));
    assert_eq!(layout.value_ranges(0..128), [0..values, values..layout.value_bytes()]);
    let plain = KvLayout { format: KvFormat::F16, ..layout };
    assert_eq!(
        plain.key_ranges(0..128),
        [0..plain.key_bytes(), plain.key_bytes()..plain.key_bytes()]
    );
}
