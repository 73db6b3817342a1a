//! Every operation runs in the function that was compiled for the backend, and no product in portable
//! code.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::cell::RefCell;
use std::collections::BTreeMap;

use teff_kernels::entered::listen;
use teff_kernels::{
    ACT_BLOCK, ACT_SUM, ActivationKind, Activations, Backend, Cpu, DenseActivations, Format,
    Matrix, Q8Activations, Tile, WIDE_BLOCK, WideActivations, repacked_bytes,
};

type Seen = BTreeMap<(&'static str, &'static str), usize>;

thread_local! {
    static SEEN: RefCell<Seen> = const { RefCell::new(BTreeMap::new()) };
}

/// The calls that `f` makes on this thread.
fn during(f: impl FnOnce()) -> Seen {
    listen(|set, what| SEEN.with_borrow_mut(|s| *s.entry((set, what)).or_default() += 1));
    SEEN.with_borrow_mut(Seen::clear);
    f();
    SEEN.take()
}

fn backends() -> impl Iterator<Item = Cpu> {
    let fast = Cpu::NAMES.iter().filter(|n| **n != "scalar");
    fast.filter_map(|n| Cpu::by_name(n).ok())
}

/// Memory at a multiple of 64 bytes.
fn aligned(bytes: usize) -> Vec<[u64; 16]> {
    // A vector's memory is aligned for its elements only: callers ask for a part of it.
    vec![[0; 16]; bytes / 128 + 2]
}

fn at64(v: &mut [[u64; 16]], len: usize) -> &mut [u8] {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(v);
    let at = bytes.as_ptr().align_offset(64);
    &mut bytes[at..][..len]
}

const COLS: usize = 2048;

/// One product of 32 rows, with `n` columns.
fn product(b: &Cpu, format: Format, n: usize) {
    let w = vec![0; 32 * format.row_bytes(COLS).unwrap()];
    product_of(b, &Matrix::new(format, 32, COLS, &w).unwrap(), n);
}

/// The product of a matrix of 32 rows, with `n` columns.
fn product_of(b: &Cpu, w: &Matrix<'_>, n: usize) {
    let format = w.format();
    let (x, q, s) = (vec![0.0; n * COLS], vec![0; n * COLS], vec![0; n * COLS / ACT_SUM]);
    let activations = match format.activations() {
        ActivationKind::Dense => Activations::Dense(DenseActivations::new(&x, n, COLS, COLS)),
        ActivationKind::Q8 => {
            Activations::Q8(Q8Activations::new(n, COLS, &q, &x[..n * COLS / ACT_BLOCK], &s))
        }
        ActivationKind::Wide => {
            let groups = n * COLS / WIDE_BLOCK;
            Activations::Wide(WideActivations::new(n, COLS, &q, &x[..groups], &s[..groups]))
        }
    };
    let mut y = vec![0.0; n * 32];
    let len = b.matmul_scratch(format, COLS, n);
    let mut scratch = aligned(len);
    let scratch = at64(&mut scratch, len);
    b.matmul(w, &activations, 0..32, &mut Tile::new(&mut y, n, 32, 32), scratch);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn products_run_where_they_should() {
    for b in backends() {
        // Without VNNI, the narrow registers' driver for few columns is as good.
        let few = if b.name() == "avx512bw" { "avx2" } else { b.name() };
        // Tiles are for many columns only, and for a scale for 32 codes (or more) and no minimum.
        let has_tiles = |format: Format| {
            let name = format.name();
            let those = "Q4_0 Q5_0 Q8_0 IQ4_NL IQ4_XS MXFP4 IQ2_XXS IQ3_XXS Q2_0 Q1_0 IQ3_S IQ1_S";
            those.split(' ').any(|those| those == name)
        };
        let dense = if b.name() == "amx" { "avx512" } else { b.name() };
        let few = if b.name() == "amx" { "avx512" } else { few };
        for format in Format::ALL {
            let (one, many) = match format.activations() {
                ActivationKind::Dense => ((dense, "dense"), (dense, "dense")),
                ActivationKind::Q8 if b.name() == "amx" => {
                    let many = if has_tiles(format) { "gemm by tiles" } else { "gemm" };
                    ((few, "gemv"), ("avx512", many))
                }
                ActivationKind::Wide if b.name() == "amx" => {
                    ((few, "gemv ternary"), ("avx512", "gemm ternary by tiles"))
                }
                ActivationKind::Q8 => ((few, "gemv"), (b.name(), "gemm")),
                ActivationKind::Wide => ((few, "gemv ternary"), (b.name(), "gemm ternary")),
            };
            for (n, what) in [(1, one), (64, many)] {
                let seen = during(|| product(&b, format, n));
                let all: Vec<_> = seen.keys().collect();
                assert!(seen.contains_key(&what), "{} {format} x {n}: {all:?}", b.name());
                assert!(!seen.contains_key(&("scalar", "product")), "{} {format}", b.name());
                // AVX-512 with VNNI takes sixteen rows where that pays.
                let sixteen = few == "avx512" && what.1 == "gemv";
                let eight = !b.repacks(format) || format == Format::Q6_K;
                let entered = seen.contains_key(&("sixteen rows", format.name()));
                assert_eq!(entered, sixteen && !eight, "{} {format} x {n}", b.name());
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn products_of_repacked_matrices_run_where_they_should() {
    for b in backends() {
        let few = match b.name() {
            "avx512bw" => "avx2",
            "amx" => "avx512",
            name => name,
        };
        let filled = if b.name() == "amx" { "avx512" } else { b.name() };
        for format in Format::ALL.into_iter().filter(|&f| b.repacks(f)) {
            let w = vec![0; repacked_bytes(format, 32, COLS).unwrap()];
            let w = Matrix::repacked(format, 32, COLS, &w).unwrap();
            let several = (few, "gemm of few columns");
            let all =
                [(1, (few, "gemv interleaved")), (4, several), (128, (filled, "gemm interleaved"))];
            for (n, what) in all {
                let seen = during(|| product_of(&b, &w, n));
                let all: Vec<_> = seen.keys().collect();
                assert!(seen.contains_key(&what), "{} {format} x {n}: {all:?}", b.name());
                assert!(!seen.contains_key(&("scalar", "product")), "{} {format}", b.name());
            }
        }
        assert_eq!(Format::ALL.into_iter().filter(|&f| b.repacks(f)).count(), 12, "{}", b.name());
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_operations_run_where_they_should() {
    use teff_kernels::{
        AttentionParams, DeltaInputs, DeltaStart, KvFormat, KvHead, KvLayout, RopeKind,
    };

    for b in backends() {
        let lanes = match b.name() {
            "avx2" | "avxvnni" => "lanes256::Lanes256",
            _ => "lanes512::Lanes512",
        };
        let layout = KvLayout { format: KvFormat::F16, head_dim: 16, capacity: 64 };
        let (mut k, mut v) = (aligned(layout.key_bytes()), aligned(layout.value_bytes()));
        let (k, v) = (at64(&mut k, layout.key_bytes()), at64(&mut v, layout.value_bytes()));
        let (x, w) = (vec![1.0; 32], vec![1.0; 32]);
        let (mut y, mut z) = (vec![0.0; 32], vec![0.0; 16]);
        let seen = during(|| {
            b.layer_norm(&x, &w, &w, 1e-5, &mut y);
            b.rms_norm(&x, &w, 1e-5, &mut y);
            b.rope(&mut y, 16, &x[..16], RopeKind::NeoX);
            b.add(&mut y, &x);
            b.mul(&mut y, &x);
            b.scale(&mut y, 2.0);
            b.softmax(&mut y);
            b.causal_conv(&x, &w, &mut z);
            b.sigmoid(&mut y);
            b.l2_norm(&mut y, 1e-6, 1.0);
            b.decay(&mut y, &x, &w);
            let one = DenseActivations::new(&x, 1, 1, 1);
            let inputs = DeltaInputs { q: one, k: one, v: one, decay: one, beta: one };
            let mut out = Tile::new(&mut z, 1, 1, 1);
            b.delta_rule(DeltaStart::Zeros, &mut [0.0; 16], &inputs, &mut out);
            b.gelu(&mut y);
            b.silu_mul(&mut y, &x);
            b.argmax(&x);
            b.store_key(&layout, k, 0, &x[..16]);
            b.store_value(&layout, v, 0, &x[..16]);
            let (q, kv) = (DenseActivations::new(&x, 1, 16, 16), KvHead::new(layout, k, v));
            b.attend(&q, &kv, 0, &AttentionParams::new(1.0), &mut Tile::new(&mut z, 1, 16, 16));
        });
        for what in [
            "layer_norm",
            "rms_norm",
            "rope",
            "add",
            "mul",
            "scale",
            "softmax",
            "causal_conv",
            "sigmoid",
            "l2_norm",
            "decay",
            "delta_rule",
            "gelu",
            "silu_mul",
            "argmax",
            "store_key",
            "store_value",
            "attend",
        ] {
            assert!(seen.contains_key(&(lanes, what)), "{}: {what}, {seen:?}", b.name());
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn products_run_where_they_should() {
    for b in backends() {
        for format in Format::ALL.into_iter().filter(|f| f.is_built()) {
            for n in [1, 9] {
                let want = match (format.activations(), n) {
                    (ActivationKind::Dense, _) => vec![("neon", "dense")],
                    (ActivationKind::Q8, 1) => vec![(b.name(), "quantized")],
                    (ActivationKind::Q8, _) => vec![(b.name(), "gemm"), (b.name(), "quantized")],
                    (ActivationKind::Wide, 1) => vec![(b.name(), "ternary")],
                    (ActivationKind::Wide, _) => {
                        vec![(b.name(), "gemm ternary"), (b.name(), "ternary")]
                    }
                };
                let seen = during(|| product(&b, format, n));
                assert!(seen.keys().eq(&want), "{} {format} x {n}: {seen:?}", b.name());
            }
        }
    }
}
