//! Every operation of every backend against the scalar truth, in as many cases as one asks for.
//!
//! A case is what one backend computes of one operation (products and values: of one format) for one
//! input, and all of it has the bits of the truth. proptest draws an input, the truth is computed
//! once, and every backend of this machine makes a case of it. `PROPTEST_CASES` is how many cases a
//! share has; all shares together are a hundred:
//!
//!     PROPTEST_CASES=10000 cargo test -p teff-kernels --test laws -- --show-output
//!
//! is a million cases, with their counts. The seed is told with the counts and with a failure;
//! `PROPTEST_RNG_SEED` takes it again.

mod common;

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use common::{
    Kind, OwnedActivations, OwnedRepacked, Placed, Rng, UNTOUCHED, bits, float, floats, kinds,
    matrix, product, same, weights, within_tile,
};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use teff_kernels::{
    AttentionParams, Backend, Cpu, DenseActivations, Format, KvFormat, KvHead, KvLayout, Q8RowMut,
    RopeKind, Scalar, Tile, WideRowMut,
};

/// Runs `shares` of the cases; `check` compares one input on all of the backends.
fn law<S: Strategy>(
    name: &str,
    shares: u32,
    inputs: S,
    check: impl Fn(&[Cpu], &S::Value) -> TestCaseResult,
) {
    static SEED: OnceLock<u64> = OnceLock::new();
    let names = Cpu::NAMES.iter().filter(|name| **name != "scalar");
    let backends: Vec<Cpu> = names.filter_map(|name| Cpu::by_name(name).ok()).collect();
    let Ok(count @ 1..) = u32::try_from(backends.len()) else {
        // Not eprintln!, which the test harness would swallow.
        let mut err = std::io::stderr();
        return writeln!(err, "skipped: {name}: only the scalar backend is here").unwrap();
    };
    let config = ProptestConfig::default(); // PROPTEST_CASES, or 256
    let seed = *SEED.get_or_init(|| match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    });
    let inputs_wanted = config.cases.saturating_mul(shares).div_ceil(count);
    // Every law draws other numbers from the seed.
    let own = name.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut runner = TestRunner::new(ProptestConfig {
        cases: inputs_wanted,
        rng_seed: RngSeed::Fixed(own),
        failure_persistence: None, // the seed is enough
        ..config
    });
    if let Err(e) = runner.run(&inputs, |input| check(&backends, &input)) {
        panic!("{name}: {e}\nPROPTEST_RNG_SEED={seed}");
    }
    let cases = u64::from(inputs_wanted) * u64::from(count);
    println!("{name}: {cases} cases, {count} backends, PROPTEST_RNG_SEED={seed}");
}

/// Every backend gives what `f` gives with the scalar one.
fn everywhere(
    backends: &[Cpu],
    what: &str,
    f: impl Fn(&dyn Backend) -> Result<Vec<f32>, TestCaseError>,
) -> TestCaseResult {
    let want = f(&Scalar)?;
    for b in backends {
        same(&want, &f(b)?, &format!("{}: {what}", b.name()))?;
    }
    Ok(())
}

/// Blocks of a row: few most of the time, 64 at most.
fn blocks() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 1..=4usize, 8 => 1..=16usize, 4 => 17..=63usize, 2 => Just(64), 1 => Just(0)]
}

/// Elements of a row that needs no whole blocks.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..=40usize, 4 => 0..=300usize, 1 => 0..=1100usize]
}

#[derive(Clone, Debug)]
struct Product {
    format: Format,
    rows: usize,
    cols: usize,
    n: usize,
    kind: Kind,
    /// Activations with codes of 16 bits.
    fine: bool,
    /// Bytes of the weights' address beyond a multiple of 64.
    offset: usize,
    /// Elements that all activations lie further.
    skew: usize,
    /// Floats before and between the rows of the output.
    gap: usize,
    seed: u64,
}

/// Shapes whose products cost little most of the time. Long rows are then few; seldom there is
/// enough of everything for the tiles of every instruction set.
fn products_of(format: Format) -> impl Strategy<Value = Product> {
    let rows = prop_oneof![16 => 1..=20usize, 4 => 15..=70usize, 1 => Just(0)];
    let ns = prop_oneof![3 => Just(1), 4 => 1..=9usize, 2 => 8..=40usize];
    let budget = prop_oneof![16 => Just(14), 5 => Just(16), 2 => Just(18), 1 => Just(19)];
    let memory = (0..64usize, 0..20usize, 0..5usize);
    ((blocks(), 0..16usize, rows, ns, budget), kinds(), any::<bool>(), memory, any::<u64>())
        .prop_map(move |((blocks, less, rows, n, budget), kind, fine, memory, seed)| {
            // Dense rows: up to 64 times 16, and not whole ones.
            let unit = if format.is_quantized() { format.block_len() } else { 16 };
            let less = if format.is_quantized() { 0 } else { less };
            let cols = (blocks * unit).saturating_sub(less);
            let (mut rows, mut n) = (rows, n);
            while (rows > 1 || n > 1) && rows * n * cols > 1 << budget {
                if rows > n { rows = rows.div_ceil(2) } else { n = n.div_ceil(2) }
            }
            let (offset, skew, gap) = memory;
            Product { format, rows, cols, n, kind, fine, offset, skew, gap, seed }
        })
}

/// The whole, and a part of it.
fn multiplies(format: Format) {
    law(&format!("multiplies {format}"), 4, products_of(format), |backends, p| {
        let r = &mut Rng::new(p.seed);
        let bytes = Placed::new(&weights(r, p.format, p.rows, p.cols, p.kind), p.offset);
        let w = matrix(r, p.format, (p.rows, p.cols), bytes.get(), p.kind);
        let x = OwnedActivations::new(r, p.format, p.n, p.cols, p.kind, p.fine).skewed(p.skew);
        let (row, col) = (r.below(p.rows + 1), r.below(p.n + 1));
        let rows = row..row + r.below(p.rows - row + 1);
        let ts = col..col + r.below(p.n - col + 1);
        let want = product(&Scalar, &w, &x, 0..p.n, 0..p.rows, 0)?;
        // Half of what can be repacked: the same numbers, in another place.
        let repacked =
            if p.seed.is_multiple_of(2) { OwnedRepacked::new(&w, p.offset) } else { None };
        let w = repacked.as_ref().map_or(w, OwnedRepacked::get);
        let of_part = |t: usize| &want[t * p.rows..][rows.clone()];
        let part: Vec<f32> = ts.clone().flat_map(of_part).copied().collect();
        for b in backends {
            let got = product(b, &w, &x, 0..p.n, 0..p.rows, p.gap)?;
            same(&want, &got, b.name())?;
            let got = product(b, &w, &x, ts.clone(), rows.clone(), p.gap)?;
            same(&part, &got, &format!("{}: rows {rows:?}, activations {ts:?}", b.name()))?;
        }
        Ok(())
    });
}

macro_rules! laws {
    ([] $($group:ident { $($(#[$doc:meta])* $name:ident $block:ident $($rest:literal)* [$($at:tt)*] $trailer:literal $built:tt;)* })*) => {
        #[allow(non_snake_case)] // a test for each format, named like it
        mod multiplies {
            $($(
                #[test]
                fn $name() {
                    super::multiplies(super::Format::$name);
                }
            )*)*
        }
    };
}
teff_kernels::formats!([laws]);

#[test]
fn dequantizes() {
    let shape = (0..Format::ALL.len(), blocks(), 1..4usize, 0..64usize, 0..5usize);
    law("dequantizes", 4, (shape, kinds(), any::<u64>()), |backends, &(shape, kind, seed)| {
        let (f, blocks, rows, offset, skew) = shape;
        let (format, r) = (Format::ALL[f], &mut Rng::new(seed));
        let cols = blocks * format.block_len();
        let bytes = Placed::new(&weights(r, format, rows, cols, kind), offset);
        let w = matrix(r, format, (rows, cols), bytes.get(), kind);
        everywhere(backends, format.name(), |b| {
            let mut y = vec![UNTOUCHED; skew + rows * cols];
            for row in 0..rows {
                b.dequantize_row(&w, row, &mut y[skew + row * cols..][..cols]);
            }
            Ok(y)
        })
    });
}

#[test]
fn quantizes() {
    let input = (blocks(), 0..16usize, any::<bool>(), kinds(), any::<u64>());
    law("quantizes", 4, input, |backends, &(blocks, skew, fine, kind, seed)| {
        let len = blocks * 32;
        let x = floats(&mut Rng::new(seed), skew + len, kind);
        let run = |b: &dyn Backend| {
            let (mut q, mut lo) = (vec![1; skew + len], vec![0; skew + len]);
            let (mut d, mut s) = (vec![UNTOUCHED; skew + blocks], vec![1; skew + 2 * blocks]);
            b.quantize(
                &x[skew..],
                Q8RowMut {
                    q: &mut q[skew..],
                    lo: fine.then_some(&mut lo[skew..]),
                    d: &mut d[skew..],
                    s: &mut s[skew..],
                },
            );
            (q, lo, s, d)
        };
        let want = run(&Scalar);
        for b in backends {
            let got = run(b);
            prop_assert!(want.0 == got.0 && want.1 == got.1, "{}: codes", b.name());
            prop_assert!(want.2 == got.2, "{}: sums", b.name());
            same(&want.3, &got.3, &format!("{}: scales", b.name()))?;
        }
        Ok(())
    });
}

#[test]
fn quantizes_wide() {
    let input = (blocks(), 0..16usize, any::<bool>(), kinds(), any::<u64>());
    law("quantizes_wide", 4, input, |backends, &(units, skew, per_row, kind, seed)| {
        let (len, groups) = (units * 128, units.div_ceil(2));
        let x = floats(&mut Rng::new(seed), skew + len, kind);
        let run = |b: &dyn Backend| {
            let mut q = vec![1; skew + len];
            let (mut d, mut s) = (vec![UNTOUCHED; skew + groups], vec![1; skew + groups]);
            let out = WideRowMut { q: &mut q[skew..], d: &mut d[skew..], s: &mut s[skew..] };
            b.quantize_wide(&x[skew..], out, per_row);
            (q, s, d)
        };
        let want = run(&Scalar);
        for b in backends {
            let got = run(b);
            prop_assert!(want.0 == got.0, "{}: codes", b.name());
            prop_assert!(want.1 == got.1, "{}: sums", b.name());
            same(&want.2, &got.2, &format!("{}: scales", b.name()))?;
        }
        Ok(())
    });
}

#[derive(Clone, Debug)]
struct Attention {
    layout: KvLayout,
    heads: usize,
    position: usize,
    n: usize,
    window: Option<NonZeroUsize>,
    kind: Kind,
    gap: usize,
    seed: u64,
}

fn attentions() -> impl Strategy<Value = Attention> {
    let head_dims = prop_oneof![3 => 1..24usize, 1 => Just(64), 1 => Just(80), 1 => 1..129usize];
    let positions = prop_oneof![12 => 0..20usize, 3 => 56..72usize, 1 => 0..200usize];
    let windows = prop_oneof![Just(0), 1..8usize, 60..70usize];
    let shape = (0..3usize, head_dims, 1..5usize, positions, 1..7usize);
    (shape, windows, kinds(), 0..5usize, any::<u64>()).prop_map(
        |((f, head_dim, heads, position, n), window, kind, gap, seed)| {
            // Many of everything take long.
            let n = if heads * head_dim > 128 { n.min(2) } else { n };
            let capacity = (position + n).next_multiple_of(64);
            let layout = KvLayout { format: KvFormat::ALL[f], head_dim, capacity };
            let window = NonZeroUsize::new(window);
            Attention { layout, heads, position, n, window, kind, gap, seed }
        },
    )
}

/// Stores the same bytes, and attends to the same bits.
#[test]
fn attends() {
    law("attends", 6, attentions(), |backends, a| {
        let r = &mut Rng::new(a.seed);
        let (hd, end) = (a.layout.head_dim, a.position + a.n);
        let (keys, values) = (floats(r, end * hd, a.kind), floats(r, end * hd, a.kind));
        let width = a.heads * hd;
        // Queries of a kind seldom, or most outputs are NaN.
        let kind = if r.below(4) == 0 { a.kind } else { Kind::Plain };
        let q = floats(r, a.n * width, kind);
        let params = AttentionParams {
            window: a.window,
            scale: 1.0 / (hd as f32).sqrt(),
            softcap: [0.0, 0.0, 3.0][r.below(3)],
            sinks: if r.below(3) == 0 { &q[..a.heads] } else { &[] },
        };
        let run = |b: &dyn Backend| {
            let mut k = Placed::zeroed(a.layout.key_bytes());
            let mut v = Placed::zeroed(a.layout.value_bytes());
            for p in 0..end {
                b.store_key(&a.layout, k.get_mut(), p, &keys[p * hd..][..hd]);
                b.store_value(&a.layout, v.get_mut(), p, &values[p * hd..][..hd]);
            }
            let ld = width + a.gap;
            let mut y = vec![UNTOUCHED; a.gap + a.n * ld];
            let head = KvHead::new(a.layout, k.get(), v.get());
            let mut tile = Tile::new(&mut y[a.gap..], a.n, width, ld);
            let q = DenseActivations::new(&q, a.n, width, width);
            b.attend(&q, &head, a.position, &params, &mut tile);
            Ok::<_, TestCaseError>((k, v, within_tile(&y, a.gap, width, ld)?))
        };
        let want = run(&Scalar)?;
        for b in backends {
            let got = run(b)?;
            prop_assert!(want.0.get() == got.0.get(), "{}: keys stored", b.name());
            prop_assert!(want.1.get() == got.1.get(), "{}: values stored", b.name());
            same(&want.2, &got.2, b.name())?;
        }
        Ok(())
    });
}

/// Operation on a row, given two other rows as long and a number.
type RowOp = fn(&dyn Backend, &mut [f32], &[f32], &[f32], f32);

const ROW_OPS: [(&str, RowOp); 20] = [
    ("layer_norm", |b, y, w, bias, eps| {
        let x = y.to_vec();
        b.layer_norm(&x, w, bias, eps.abs(), y);
    }),
    ("rms_norm", |b, y, w, _, eps| {
        let x = y.to_vec();
        b.rms_norm(&x, w, eps.abs(), y);
    }),
    ("add", |b, y, w, _, _| b.add(y, w)),
    ("mul", |b, y, w, _, _| b.mul(y, w)),
    ("softmax", |b, y, _, _, _| b.softmax(y)),
    ("causal_conv", |b, y, w, bias, _| {
        let x = [y, w, bias].concat();
        b.causal_conv(&[bias, w, y].concat(), &x, y);
    }),
    ("scale", |b, y, _, _, factor| b.scale(y, factor)),
    ("gelu", |b, y, _, _, _| b.gelu(y)),
    ("gelu_mul", |b, y, w, _, _| b.gelu_mul(y, w)),
    ("silu", |b, y, _, _, _| b.silu(y)),
    ("silu_mul", |b, y, w, _, _| b.silu_mul(y, w)),
    ("softcap", |b, y, _, _, cap| b.softcap(y, cap)),
    ("mean_square", |b, y, _, _, _| y.fill(b.mean_square(y))),
    ("gaussian_topk", |b, y, _, _, cut| b.gaussian_topk(y, cut)),
    ("relu2", |b, y, _, _, _| b.relu2(y)),
    ("relu2_mul", |b, y, w, _, _| b.relu2_mul(y, w)),
    ("sigmoid", |b, y, _, _, _| b.sigmoid(y)),
    ("l2_norm", |b, y, _, _, number| b.l2_norm(y, number.abs(), 0.25)),
    ("decay", |b, y, w, bias, _| b.decay(y, w, bias)),
    ("swiglu_clamped", |b, y, w, _, limit| b.swiglu_clamped(y, w, 1.702, limit.abs())),
];

#[test]
fn changes_rows() {
    let ops = proptest::sample::select(&ROW_OPS[..]).prop_map(|(name, _)| name);
    let input = (ops, lengths(), 0..17usize, kinds(), any::<u64>());
    law("changes_rows", 10, input, |backends, &(name, len, skew, kind, seed)| {
        let (_, op) = ROW_OPS.into_iter().find(|op| op.0 == name).unwrap();
        let r = &mut Rng::new(seed);
        let (x, w) = (floats(r, skew + len, kind), floats(r, len, kind));
        let (bias, number) = (floats(r, len, kind), [0.0, 1e-5, float(r, kind)][r.below(3)]);
        everywhere(backends, name, |b| {
            let mut y = x.clone();
            op(b, &mut y[skew..], &w, &bias, number);
            Ok(y)
        })
    });
}

#[test]
fn turns() {
    let shape = (0..70usize, 0..40usize, 1..5usize, 0..17usize, any::<bool>());
    law("turns", 4, (shape, kinds(), any::<u64>()), |backends, &(shape, kind, seed)| {
        let (pairs, rest, heads, skew, halves) = shape;
        let (r, head_dim) = (&mut Rng::new(seed), (2 * pairs + rest).max(1));
        let (x, table) = (floats(r, skew + heads * head_dim, kind), floats(r, 2 * pairs, kind));
        let how = if halves { RopeKind::NeoX } else { RopeKind::Norm };
        everywhere(backends, "rope", |b| {
            let mut y = x.clone();
            b.rope(&mut y[skew..], head_dim, &table, how);
            Ok(y)
        })
    });
}

#[test]
fn selects() {
    let input = (lengths(), 0..60usize, 0..17usize, any::<bool>(), kinds(), any::<u64>());
    law("selects", 4, input, |backends, &(len, k, skew, few, kind, seed)| {
        let r = &mut Rng::new(seed);
        let mut x = floats(r, skew + len, kind);
        if few {
            // Many equal ones, zeros of both signs among them.
            let values = [0.0, -0.0, 1.0, f32::NEG_INFINITY, f32::NAN, float(r, kind)];
            x.fill_with(|| values[r.below(6)]);
        }
        let run = |b: &dyn Backend| {
            let mut out = vec![(u32::MAX, f32::NAN); k];
            let found = b.top_k(&x[skew..], &mut out);
            let out: Vec<_> = out[..found.len].iter().map(|e| (e.0, bits(e.1))).collect();
            (b.argmax(&x[skew..]), found, out)
        };
        let want = run(&Scalar);
        for b in backends {
            prop_assert_eq!(&want, &run(b), "{}", b.name());
        }
        Ok(())
    });
}
