//! Every backend gives the bits of the scalar truth, however the work is split.

mod common;

use std::io::Write;
use std::num::NonZeroUsize;

use common::{
    Kind, OwnedActs, Placed, Rng, UNTOUCHED, floats, kinds, matrix, product, same, weights,
    within_tile,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use teff_kernels::{
    Backend, Cpu, DenseActs, Format, KvFormat, KvHead, KvLayout, Q8RowMut, Scalar, Tile, WideRowMut,
};

/// What a product is made of.
#[derive(Clone, Debug)]
struct Product {
    format: Format,
    rows: usize,
    cols: usize,
    n: usize,
    kind: Kind,
    /// Activations with codes of 16 bits.
    fine: bool,
    /// Of the weights' bytes, beyond a multiple of 64.
    offset: usize,
    /// Floats between rows of the output that aren't part of it.
    gap: usize,
    seed: u64,
}

fn products() -> impl Strategy<Value = Product> {
    let shape = (0..Format::ALL.len(), 0..40usize, 0..200usize, 1..=40usize);
    (shape, kinds(), any::<bool>(), 0..4usize, 0..5usize, any::<u64>()).prop_map(
        |((f, rows, cols, n), kind, fine, offset, gap, seed)| {
            let format = Format::ALL[f];
            // Whole blocks: up to 24 of 32 codes, up to 4 of 256.
            let len = format.block_len();
            let cols = if format.is_quantized() { cols * 4 / len * len } else { cols };
            let cols = if len == 256 { (cols * 8 / 5).next_multiple_of(len) } else { cols };
            Product { format, rows, cols, n, kind, fine, offset, gap, seed }
        },
    )
}

/// Equal bits for the whole, for every column alone, and for a split of the rows.
fn matmul(b: &dyn Backend, p: &Product) -> TestCaseResult {
    let r = &mut Rng::new(p.seed);
    let bytes = Placed::new(&weights(r, p.format, p.rows, p.cols, p.kind), p.offset);
    let w = matrix(r, p.format, (p.rows, p.cols), bytes.get(), p.kind);
    let x = OwnedActs::new(r, p.format, p.n, p.cols, p.kind, p.fine);
    let want = product(&Scalar, &w, &x, 0..p.n, 0..p.rows, 0)?;
    same(&want, &product(b, &w, &x, 0..p.n, 0..p.rows, p.gap)?, "the whole")?;
    for t in 0..p.n {
        let one = product(b, &w, &x, t..t + 1, 0..p.rows, 0)?;
        same(&want[t * p.rows..][..p.rows], &one, &format!("row {t} alone"))?;
    }
    let (row, col) = (r.below(p.rows + 1), r.below(p.n + 1));
    for rows in [0..row, row..p.rows] {
        for ts in [0..col, col..p.n] {
            let got = product(b, &w, &x, ts.clone(), rows.clone(), p.gap)?;
            let part: Vec<f32> =
                ts.clone().flat_map(|t| &want[t * p.rows..][rows.clone()]).copied().collect();
            same(&part, &got, &format!("rows {rows:?}, activations {ts:?}"))?;
        }
    }
    Ok(())
}

fn dequantize(b: &dyn Backend, p: &Product) -> TestCaseResult {
    let r = &mut Rng::new(p.seed);
    let bytes = Placed::new(&weights(r, p.format, p.rows, p.cols, p.kind), p.offset);
    let w = matrix(r, p.format, (p.rows, p.cols), bytes.get(), p.kind);
    for row in 0..p.rows {
        let (mut want, mut got) = (vec![0.0; p.cols], vec![0.0; p.cols]);
        Scalar.dequantize_row(&w, row, &mut want);
        b.dequantize_row(&w, row, &mut got);
        same(&want, &got, "dequantize_row")?;
    }
    Ok(())
}

fn quantize(b: &dyn Backend, blocks: usize, kind: Kind, seed: u64) -> TestCaseResult {
    let x = floats(&mut Rng::new(seed), blocks * 32, kind);
    let run = |b: &dyn Backend, fine: bool| {
        let (mut q, mut lo) = (vec![1; blocks * 32], vec![0; blocks * 32]);
        let (mut d, mut s) = (vec![1.0; blocks], vec![1; 2 * blocks]);
        let low = if fine { Some(&mut lo[..]) } else { None };
        b.quantize(&x, Q8RowMut { q: &mut q, lo: low, d: &mut d, s: &mut s });
        (q, d, s, lo)
    };
    for fine in [false, true] {
        let (want, got) = (run(&Scalar, fine), run(b, fine));
        prop_assert_eq!(&want.0, &got.0);
        same(&want.1, &got.1, "scales")?;
        prop_assert_eq!(&want.2, &got.2);
        prop_assert_eq!(&want.3, &got.3);
        let unit = if fine { 255 } else { 1 };
        for ((q, lo), s) in got.0.chunks(16).zip(got.3.chunks(16)).zip(got.2) {
            prop_assert!(q.iter().chain(lo).all(|&q| q != -128));
            let code = |(q, lo): (&i8, &i8)| unit * i32::from(*q) + i32::from(*lo);
            prop_assert_eq!(q.iter().zip(lo).map(code).sum::<i32>(), s);
        }
    }
    Ok(())
}

/// `units` of 128.
fn quantize_wide(b: &dyn Backend, units: usize, kind: Kind, seed: u64) -> TestCaseResult {
    let (x, groups) = (floats(&mut Rng::new(seed), units * 128, kind), units.div_ceil(2));
    for per_row in [false, true] {
        let run = |b: &dyn Backend| {
            let (mut q, mut d, mut s) = (vec![1; x.len()], vec![1.0; groups], vec![1; groups]);
            b.quantize_wide(&x, WideRowMut { q: &mut q, d: &mut d, s: &mut s }, per_row);
            (q, d, s)
        };
        let (want, got) = (run(&Scalar), run(b));
        prop_assert_eq!(&want.0, &got.0);
        same(&want.1, &got.1, "scales")?;
        prop_assert_eq!(&want.2, &got.2);
        prop_assert!(got.0.iter().all(|&q| q != -128));
        for (q, s) in got.0.chunks(256).zip(got.2) {
            prop_assert_eq!(q.iter().map(|&q| i32::from(q)).sum::<i32>(), s);
        }
        let one = got.1.windows(2).all(|d| d[0].to_bits() == d[1].to_bits());
        prop_assert!(one || !per_row, "several scales in a row");
    }
    Ok(())
}

fn elementwise(b: &dyn Backend, len: usize, kind: Kind, seed: u64) -> TestCaseResult {
    let r = &mut Rng::new(seed);
    let (x, w, bias) = (floats(r, len, kind), floats(r, len, kind), floats(r, len, kind));
    let eps = [0.0, 1e-5, 1e-12][r.below(3)];
    let run = |b: &dyn Backend| {
        let mut norm = vec![0.0; len];
        b.layer_norm(&x, &w, &bias, eps, &mut norm);
        let mut sum = w.clone();
        b.add(&mut sum, &x);
        let mut gelu = x.clone();
        b.gelu(&mut gelu);
        (norm, sum, gelu)
    };
    let (want, got) = (run(&Scalar), run(b));
    same(&want.0, &got.0, "layer_norm")?;
    same(&want.1, &got.1, "add")?;
    same(&want.2, &got.2, "gelu")
}

/// What an attention is made of.
#[derive(Clone, Debug)]
struct Attention {
    format: KvFormat,
    head_dim: usize,
    heads: usize,
    position: usize,
    n: usize,
    window: Option<NonZeroUsize>,
    kind: Kind,
    seed: u64,
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
            seed,
        },
    )
}

/// Stores the same bytes, and attends to the same bits in one step or in many, to all heads or to
/// each, whatever lies in the cache beyond what a query sees.
fn attend(b: &dyn Backend, a: &Attention) -> TestCaseResult {
    let r = &mut Rng::new(a.seed);
    let (hd, end) = (a.head_dim, a.position + a.n);
    let capacity = end.next_multiple_of(64);
    let layout = KvLayout { format: a.format, head_dim: hd, capacity };
    // Keys and values that a model may have: not wild ones, which make all outputs NaN; but once
    // in a while one of them.
    let kind = if a.kind == Kind::Wild && r.below(4) > 0 { Kind::Plain } else { a.kind };
    let (keys, values) = (floats(r, end * hd, kind), floats(r, end * hd, kind));
    let store = |b: &dyn Backend, rest: u8| {
        let mut k = Placed::new(&vec![rest; layout.key_bytes()], 4);
        let mut v = Placed::new(&vec![rest; layout.value_bytes()], 8);
        for p in 0..end {
            b.store_key(&layout, k.get_mut(), p, &keys[p * hd..][..hd]);
            b.store_value(&layout, v.get_mut(), p, &values[p * hd..][..hd]);
        }
        (k, v)
    };
    let (want, got) = (store(&Scalar, 0xff), store(b, 0xff));
    prop_assert!(want.0.get() == got.0.get(), "keys stored");
    prop_assert!(want.1.get() == got.1.get(), "values stored");
    for (prefix, bytes) in
        [(layout.key_prefix(end), want.0.get()), (layout.value_prefix(end), want.1.get())]
    {
        let kept: usize = prefix.iter().map(|r| r.len()).sum();
        prop_assert!(kept <= bytes.len());
    }

    let width = a.heads * hd;
    let q = floats(r, a.n * width, Kind::Plain);
    let scale = 1.0 / (hd as f32).sqrt();
    let run = |b: &dyn Backend, (k, v): &(Placed, Placed), from: usize, to: usize| {
        let ld = width + 3;
        let n = to - from;
        let mut y = vec![UNTOUCHED; n * ld];
        let head = KvHead::new(layout, k.get(), v.get());
        let q = DenseActs::new(&q[from * width..], n, width, width);
        let mut tile = Tile::new(&mut y, n, width, ld);
        b.attend(&q, &head, a.position + from, a.window, scale, &mut tile);
        within_tile(&y, 0, width, ld)
    };
    let all = run(&Scalar, &want, 0, a.n)?;
    same(&all, &run(b, &got, 0, a.n)?, "all queries")?;
    same(&all, &run(b, &store(b, 0), 0, a.n)?, "another rest of the cache")?;
    for t in 0..a.n {
        same(&all[t * width..][..width], &run(b, &got, t, t + 1)?, &format!("query {t} alone"))?;
    }
    for h in 0..a.heads {
        let mut y = vec![0.0; a.n * hd];
        let head = KvHead::new(layout, got.0.get(), got.1.get());
        let q = DenseActs::new(&q, a.n, width, width).cols_of(h * hd, hd);
        let mut tile = Tile::new(&mut y, a.n, hd, hd);
        b.attend(&q, &head, a.position, a.window, scale, &mut tile);
        let part: Vec<f32> =
            all.chunks(width).flat_map(|row| &row[h * hd..][..hd]).copied().collect();
        same(&part, &y, &format!("head {h} alone"))?;
    }
    // What lies before the first query's window is not looked at.
    let unseen = a.window.map_or(0, |w| (a.position + 1).saturating_sub(w.get()));
    let (mut k, mut v) = store(b, 0);
    for p in 0..unseen {
        b.store_key(&layout, k.get_mut(), p, &vec![f32::NAN; hd]);
        b.store_value(&layout, v.get_mut(), p, &vec![f32::NAN; hd]);
    }
    same(&all, &run(b, &(k, v), 0, a.n)?, "another cache before the window")?;
    let cut = r.below(a.n + 1);
    let mut parts = run(b, &got, 0, cut)?;
    parts.extend(run(b, &got, cut, a.n)?);
    same(&all, &parts, "in two steps")
}

/// The whole suite for one backend.
macro_rules! suite {
    ($($name:ident)*) => {$(
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
                        matmul(&b, &p)?;
                        dequantize(&b, &p)?;
                    }
                }

                #[test]
                fn attends(a in attentions()) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        attend(&b, &a)?;
                    }
                }

                #[test]
                fn quantizes(blocks in 0..20usize, kind in kinds(), seed: u64) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        quantize(&b, blocks, kind, seed)?;
                        quantize_wide(&b, blocks / 2, kind, seed)?;
                    }
                }

                #[test]
                fn normalises_adds_and_activates(len in 0..200usize, kind in kinds(), seed: u64) {
                    if let Ok(b) = Cpu::by_name(stringify!($name)) {
                        elementwise(&b, len, kind, seed)?;
                    }
                }
            }
        }
    )*};
}

suite!(scalar avx2 avxvnni avx512bw avx512 amx simd128 neon dotprod i8mm);

#[test]
fn every_backend_has_a_suite() {
    assert_eq!(
        Cpu::NAMES,
        [
            "scalar", "avx2", "avxvnni", "avx512bw", "avx512", "amx", "simd128", "neon", "dotprod",
            "i8mm",
        ]
    );
}
