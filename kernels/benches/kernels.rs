//! Every backend with the shapes of GPT-2 124M and of TinyLlama:
//! `cargo bench -p teff-benches`.
//!
//! Throughput is bytes of weights (products), of the cache (attention) or of the input (the rest)
//! a second; of products of 32 columns and more also multiply-adds a second. Names are
//! `operation/format/backend/shape`, a product's shape rows x columns of weights x columns of
//! activations: `-- matmul/Q8_0/avx512` picks a part, `-- 5632x2048x16` one shape. Products that
//! aren't picked prepare nothing.
#![allow(missing_docs)] // criterion's macros

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use teff_kernels::{
    ACT_BLOCK, ACT_SUM, ActivationKind, Activations, AttentionParams, Backend, Cpu,
    DenseActivations, Format, KvFormat, KvHead, KvLayout, Matrix, Q8Activations, Q8RowMut, Tile,
    WIDE_BLOCK, WideActivations, quantize_row,
};

fn backends() -> impl Iterator<Item = Cpu> {
    Cpu::NAMES.iter().filter_map(|name| Cpu::by_name(name).ok())
}

/// Numbers in -1..1 (Marsaglia's xorshift32).
fn floats(n: usize) -> Vec<f32> {
    let mut s = 2_463_534_242u32;
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        (s >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Rows of weights: sixteen different ones over and over.
fn weights(format: Format, rows: usize, cols: usize) -> Vec<u8> {
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    let x = floats(16 * cols);
    let mut w = vec![0; rows * row_bytes];
    for (i, row) in w.chunks_exact_mut(row_bytes).enumerate() {
        match i {
            0..16 => quantize_row(format, &x[i * cols..][..cols], row),
            _ => row.fill(0),
        }
    }
    for i in 16..rows {
        w.copy_within(i % 16 * row_bytes..(i % 16 + 1) * row_bytes, i * row_bytes);
    }
    w
}

/// Memory at a multiple of 64 bytes.
struct Scratch(Vec<[u64; 8]>, usize);

impl Scratch {
    fn new(len: usize) -> Self {
        Scratch(vec![[0; 8]; len.div_ceil(64) + 1], len)
    }
    fn get(&mut self) -> &mut [u8] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        let at = bytes.as_ptr().align_offset(64);
        &mut bytes[at..][..self.1]
    }
}

/// Weights, activations and a place for the product.
struct Case {
    format: Format,
    rows: usize,
    cols: usize,
    n: usize,
    w: Vec<u8>,
    x: Vec<f32>,
    q: Vec<i8>,
    d: Vec<f32>,
    s: Vec<i32>,
}

impl Case {
    fn new(format: Format, rows: usize, cols: usize, n: usize) -> Self {
        let x = floats(n * cols);
        let (mut q, mut d, mut s) =
            (vec![0; n * cols], vec![0.0; n * cols / ACT_BLOCK], vec![0; n * cols / ACT_SUM]);
        Cpu::best().quantize(&x, Q8RowMut { q: &mut q, lo: None, d: &mut d, s: &mut s });
        Case { format, rows, cols, n, w: weights(format, rows, cols), x, q, d, s }
    }
    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.format, self.rows, self.cols, &self.w).expect("a matrix")
    }
    fn dense(&self) -> Activations<'_> {
        Activations::Dense(DenseActivations::new(&self.x, self.n, self.cols, self.cols))
    }
    fn activations(&self) -> Activations<'_> {
        match self.format.activations() {
            ActivationKind::Q8 => {
                Activations::Q8(Q8Activations::new(self.n, self.cols, &self.q, &self.d, &self.s))
            }
            ActivationKind::Wide => {
                // Whatever scales and sums there are: no time depends on them.
                let groups = self.n * self.cols / WIDE_BLOCK;
                let (d, s) = (&self.d[..groups], &self.s[..groups]);
                Activations::Wide(WideActivations::new(self.n, self.cols, &self.q, d, s))
            }
            ActivationKind::Dense => self.dense(),
        }
    }
}

/// Rows and columns of weights, and numbers of columns of activations.
const SHAPES: [(usize, usize, &[usize]); 6] = [
    (768, 768, &[1]),
    (3072, 768, &[1, 32, 512]),
    (768, 3072, &[1]),
    (50257, 768, &[1]),
    (2048, 5632, &[1, 4, 16, 512]),
    (5632, 2048, &[1, 4, 16, 512]),
];

fn matmul(c: &mut Criterion) {
    for format in Format::ALL {
        let mut group = c.benchmark_group(format!("matmul/{format}"));
        group.sampling_mode(SamplingMode::Flat); // large ones in less time
        for (rows, cols, n) in
            SHAPES.into_iter().flat_map(|(r, c, ns)| ns.iter().map(move |&n| (r, c, n)))
        {
            let case = LazyCell::new(|| Case::new(format, rows, cols, n));
            let bytes = (rows * format.row_bytes(cols).expect("whole blocks")) as u64;
            group.throughput(match n {
                0..32 => Throughput::Bytes(bytes),
                _ => Throughput::ElementsAndBytes { elements: (rows * cols * n) as u64, bytes },
            });
            for b in backends() {
                if b.name() == "scalar" && rows * cols * n > 1 << 24 {
                    continue; // minutes
                }
                let id = BenchmarkId::new(b.name(), format!("{rows}x{cols}x{n}"));
                group.bench_function(id, |bench| {
                    let (w, activations) = (case.matrix(), case.activations());
                    let mut y = vec![0.0; n * rows];
                    let mut scratch = Scratch::new(b.matmul_scratch(format, cols, n));
                    bench.iter(|| {
                        let mut y = Tile::new(&mut y, n, rows, rows);
                        b.matmul(black_box(&w), &activations, 0..rows, &mut y, scratch.get());
                    });
                });
            }
        }
    }
}

/// A product with quantised weights must beat the way around it, at small sizes too: all rows to
/// f32, and a product of these. 128 rows of 256, which a block of Q4_K has, all in a cache.
fn guard(c: &mut Criterion) {
    const ROWS: usize = 128;
    const COLS: usize = 256;
    const FORMAT: Format = Format::Q4_K;
    for n in [1, 8] {
        let mut group = c.benchmark_group(format!("guard/{FORMAT} {ROWS}x{COLS}x{n}"));
        group.throughput(Throughput::Elements((ROWS * COLS * n) as u64));
        let case = LazyCell::new(|| Case::new(FORMAT, ROWS, COLS, n));
        let mut y = vec![0.0; n * ROWS];
        for b in backends() {
            group.bench_function(BenchmarkId::new("fused", b.name()), |bench| {
                let (w, activations) = (case.matrix(), case.activations());
                let mut scratch = Scratch::new(b.matmul_scratch(FORMAT, COLS, n));
                bench.iter(|| {
                    let mut y = Tile::new(&mut y, n, ROWS, ROWS);
                    b.matmul(black_box(&w), &activations, 0..ROWS, &mut y, scratch.get());
                });
            });
            group.bench_function(BenchmarkId::new("dequantised", b.name()), |bench| {
                let (w, activations) = (case.matrix(), case.dense());
                let mut scratch = Scratch::new(b.matmul_scratch(Format::F32, COLS, n));
                let mut all = vec![0.0; ROWS * COLS];
                bench.iter(|| {
                    for (i, row) in all.chunks_exact_mut(COLS).enumerate() {
                        b.dequantize_row(black_box(&w), i, row);
                    }
                    let all = bytemuck::cast_slice(&all); // as F32 has it, on little-endian CPUs
                    let w = Matrix::new(Format::F32, ROWS, COLS, all).expect("a matrix");
                    let mut y = Tile::new(&mut y, n, ROWS, ROWS);
                    b.matmul(&w, &activations, 0..ROWS, &mut y, scratch.get());
                });
            });
        }
    }
}

fn attend(c: &mut Criterion) {
    const HEAD: usize = 64;
    for format in KvFormat::ALL {
        let mut group = c.benchmark_group(format!("attend/{}", format.name()));
        let layout = KvLayout { format, head_dim: HEAD, capacity: 512 };
        let (mut keys, mut values) =
            (Scratch::new(layout.key_bytes()), Scratch::new(layout.value_bytes()));
        let x = floats(512 * HEAD);
        for (p, x) in x.chunks_exact(HEAD).enumerate() {
            Cpu::best().store_key(&layout, keys.get(), p, x);
            Cpu::best().store_value(&layout, values.get(), p, x);
        }
        let kv = KvHead::new(layout, keys.get(), values.get());
        // One query at the end; and all of a prompt, which see half of the cache on average.
        for (position, n, bytes) in [(511, 1, 1), (0, 512, 256)] {
            let all = bytes * (layout.key_bytes() + layout.value_bytes()) as u64;
            group.throughput(Throughput::Bytes(all));
            let q = DenseActivations::new(&x, n, HEAD, HEAD);
            let mut y = vec![0.0; n * HEAD];
            for b in backends() {
                if b.name() == "scalar" && n > 1 {
                    continue;
                }
                group.bench_function(BenchmarkId::new(b.name(), format!("512x{n}")), |bench| {
                    bench.iter(|| {
                        let mut y = Tile::new(&mut y, n, HEAD, HEAD);
                        b.attend(
                            black_box(&q),
                            &kv,
                            position,
                            &AttentionParams::new(0.125),
                            &mut y,
                        );
                    });
                });
            }
        }
    }
}

fn elementwise(c: &mut Criterion) {
    let x = floats(3072);
    for b in backends() {
        let mut group = c.benchmark_group(format!("row/{}", b.name()));
        let mut y = x.clone();
        group.throughput(Throughput::Bytes(768 * 4));
        group.bench_function("layer_norm 768", |bench| {
            let (x, w) = (&x[..768], &x[768..1536]);
            bench.iter(|| b.layer_norm(black_box(x), w, w, 1e-5, &mut y[..768]));
        });
        group.throughput(Throughput::Bytes(3072 * 4));
        group.bench_function("gelu 3072", |bench| {
            bench.iter(|| {
                y.copy_from_slice(&x);
                b.gelu(black_box(&mut y));
            });
        });
        let (mut q, mut lo, mut d, mut s) = ([0; 3072], [0; 3072], [0.0; 96], [0; 192]);
        for (name, fine) in [("quantize 3072", false), ("quantize 3072 to 16 bits", true)] {
            group.bench_function(name, |bench| {
                bench.iter(|| {
                    let lo = fine.then_some(&mut lo[..]);
                    let out = Q8RowMut { q: &mut q, lo, d: &mut d, s: &mut s };
                    b.quantize(black_box(&x), out);
                });
            });
        }
        for format in Format::ALL {
            let bytes = weights(format, 1, 3072);
            let w = Matrix::new(format, 1, 3072, &bytes).expect("a matrix");
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(format!("dequantize {format} 3072"), |bench| {
                bench.iter(|| b.dequantize_row(black_box(&w), 0, &mut y));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = matmul, guard, attend, elementwise
}
criterion_main!(benches);
