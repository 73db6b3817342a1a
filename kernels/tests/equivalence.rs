//! Every backend gives the bits of the scalar truth, however the work is split: the exported suite
//! (`src/equivalence`), with shapes that proptest draws and makes smaller where one fails.

mod common;

use std::io::Write;
use std::num::NonZeroUsize;

use common::{Heap, Kind, Rng, floats, kinds};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use teff_kernels::equivalence::{self as suite, Attention, EquivalenceError, Product, Room};
use teff_kernels::{Backend, Cpu, Format, KvFormat, Q8RowMut, WideRowMut};

fn products() -> impl Strategy<Value = Product> {
    let shape = (0..Format::ALL.len(), 0..40usize, 0..200usize, 1..=40usize);
    (shape, kinds(), any::<(bool, bool)>(), 0..4usize, 0..5usize, any::<u64>()).prop_map(
        |((f, rows, cols, n), kind, (fine, repacked), offset, gap, seed)| {
            let format = Format::ALL[f];
            // Whole blocks: up to 24 of 32 codes, up to 4 of 256.
            let len = format.block_len();
            let cols = if format.is_quantized() { cols * 4 / len * len } else { cols };
            let cols = if len == 256 { (cols * 8 / 5).next_multiple_of(len) } else { cols };
            Product { format, rows, cols, n, kind, fine, repacked, offset, skew: 0, gap, seed }
        },
    )
}

/// A case of the suite, in memory of its own.
fn passes<T>(
    f: impl for<'m> FnOnce(&mut dyn Room<'m>) -> Result<T, EquivalenceError>,
) -> TestCaseResult {
    let heap = Heap::default();
    f(&mut &heap).map(|_| ()).map_err(|e| TestCaseError::fail(e.to_string()))
}

/// Codes within their range, and sums that are theirs, in a result that is the truth's.
fn quantized_well(b: &dyn Backend, blocks: usize, kind: Kind, seed: u64) -> TestCaseResult {
    let x = floats(&mut Rng::new(seed), blocks * 32, kind);
    for fine in [false, true] {
        let (mut q, mut lo) = (vec![1; blocks * 32], vec![0; blocks * 32]);
        let (mut d, mut s) = (vec![1.0; blocks], vec![1; 2 * blocks]);
        let low = if fine { Some(&mut lo[..]) } else { None };
        b.quantize(&x, Q8RowMut { q: &mut q, lo: low, d: &mut d, s: &mut s });
        let unit = if fine { 255 } else { 1 };
        for ((q, lo), s) in q.chunks(16).zip(lo.chunks(16)).zip(s) {
            prop_assert!(q.iter().chain(lo).all(|&q| q != -128));
            let code = |(q, lo): (&i8, &i8)| unit * i32::from(*q) + i32::from(*lo);
            prop_assert_eq!(q.iter().zip(lo).map(code).sum::<i32>(), s);
        }
    }
    let (x, groups) = (&x[..blocks / 4 * 128], (blocks / 4).div_ceil(2));
    for per_row in [false, true] {
        let (mut q, mut d, mut s) = (vec![1; x.len()], vec![1.0; groups], vec![1; groups]);
        b.quantize_wide(x, WideRowMut { q: &mut q, d: &mut d, s: &mut s }, per_row);
        prop_assert!(q.iter().all(|&q| q != -128));
        for (q, s) in q.chunks(256).zip(s) {
            prop_assert_eq!(q.iter().map(|&q| i32::from(q)).sum::<i32>(), s);
        }
        let one = d.windows(2).all(|d| d[0].to_bits() == d[1].to_bits());
        prop_assert!(one || !per_row, "several scales in a row");
    }
    Ok(())
}

fn attentions() -> impl Strategy<Value = Attention> {
    let head_dims = prop_oneof![Just(16), Just(20), Just(64), Just(80), Just(128), 1..40usize];
    let positions = prop_oneof![0..8usize, 56..72usize, 120..140usize, 0..200usize];
    let windows = prop_oneof![Just(0), 1..8usize, 60..70usize, 1..300usize];
    let shape = (0..3usize, head_dims, 1..10usize, windows);
    (shape, positions, 1..24usize, kinds(), any::<u64>()).prop_map(
        |((f, head_dim, heads, window), position, n, kind, seed)| Attention {
            format: KvFormat::ALL[f],
            head_dim,
            heads,
            position,
            // Many heads or many positions, or the test takes long.
            n: if heads > 1 { n.min(6) } else { n },
            window: NonZeroUsize::new(window),
            kind,
            gap: 3,
            seed,
        },
    )
}

/// The whole suite for every backend of every target.
macro_rules! suite {
    ([] $($arch:ident $on:tt { $($(#[$doc:meta])* $type:ident $name:ident { $new:expr })* })*) => {$($(
        mod $name {
            use super::*;

            #[test]
            fn is_tested() {
                match Cpu::by_name(stringify!($name)) {
                    Ok(b) => assert_eq!(b.name(), stringify!($name)),
                    Err(e) => {
                        // Not eprintln!, which the test harness would swallow.
                        let skipped = concat!("skipped: ", stringify!($name));
                        writeln!(std::io::stderr(), "{skipped}: {e}").unwrap();
                    }
                }
            }

            proptest! {
                #![proptest_config(ProptestConfig::default())] // PROPTEST_CASES, or 256

                #[test]
                fn multiplies(p in products()) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        passes(|room| suite::matmul(&b, &p, room))?;
                        passes(|room| suite::dequantize(&b, &p, room))?;
                    }
                }

                #[test]
                fn attends(a in attentions()) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        passes(|room| suite::attend(&b, &a, room))?;
                    }
                }

                #[test]
                fn corrects(
                    (rows, columns) in (1..70usize, 1..70usize), (n, cut) in (1..7usize, 0..7usize),
                    kind in kinds(), gap in 0..4usize, seed: u64,
                ) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        let cut = cut.min(n);
                        let d = suite::Delta { rows, columns, n, cut, kind, gap, seed };
                        passes(|room| suite::delta_rule(&b, &d, room))?;
                    }
                }

                #[test]
                fn quantizes(blocks in 0..20usize, kind in kinds(), fine: bool, seed: u64) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        passes(|room| suite::quantize(&b, blocks, fine, kind, seed, room))?;
                        passes(|room| suite::quantize_wide(&b, blocks / 2, fine, kind, seed, room))?;
                        quantized_well(&b, blocks, kind, seed)?;
                    }
                }

                #[test]
                fn changes_rows(len in 0..200usize, skew in 0..17usize, kind in kinds(), seed: u64) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        let row = suite::Row { len, skew, kind, seed };
                        passes(|room| suite::rows(&b, &row, room))?;
                        passes(|room| suite::causal_conv(&b, &row, 1 + skew % 5, room))?;
                        passes(|room| suite::rope(&b, &row, (1 + skew % 3, len / 4, skew), room))?;
                        passes(|room| suite::select(&b, &row, skew * 3, room))?;
                    }
                }
            }
        }
    )*)*};
}
teff_kernels::cpus!([suite]);
