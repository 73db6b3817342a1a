//! `teff bench --roofline`: the machine's limits, and how close Teff comes to them. `teff trace`
//! compares operations to the same limits.
//!
//! A limit is the best of its runs, since other load on the machine can only lower it; the figures
//! compared to it are medians.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::hint::black_box;
use std::time::{Duration, Instant};

use teff::kernels::{
    ACT_BLOCK, ACT_SUM, ActivationKind, Activations, Backend, DenseActivations, Matrix,
    MatrixError, Q8Activations, Q8RowMut, REPACK_ROWS, Tile, WIDE_BLOCK, WideActivations,
    quantize_row, repack, repacked_bytes, roofline,
};
use teff::runtime::pool::{Pool, PoolOptions};
use teff::{Cpu, Format};

use super::bench::{Bench, Row, Spread};
use super::common::backends;
use super::json::{Object, array, string};
use super::machine::{Progress, human};
use super::{Failure, print};

/// Dimensions of the products (outputs, inputs, columns): TinyLlama's, for a prompt's batch.
const ROWS: usize = 5632;
const COLS: usize = 2048;
const COLUMNS: usize = 512;
/// Number of rows that are quantised; the others are copies.
const DISTINCT: usize = 16;
/// Number of rows per call with many columns: whole panels.
const STEP: usize = 64;

/// Command-line options.
pub(super) struct Options {
    /// Number of bytes to read.
    pub(super) size: usize,
    pub(super) formats: Vec<Format>,
    /// One short run instead of several long ones.
    pub(super) quick: bool,
    pub(super) runs: usize,
    pub(super) threads: Vec<usize>,
    pub(super) backend: Option<Cpu>,
    pub(super) json: bool,
}

/// Error of allocating the memory to measure.
#[derive(Debug)]
enum MemoryError {
    /// Taking it would displace other programs, or the system would kill this process.
    NotThere { needed: u64, available: u64 },
    /// Allocation failed.
    Refused { needed: u64 },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MemoryError::NotThere { needed, available } => {
                write!(f, "it takes {} of memory, and {}", human(needed), human(available))?;
                f.write_str(" are available: use less with --size")
            }
            MemoryError::Refused { needed } => {
                write!(f, "the system refused {} of memory: use less with --size", human(needed))
            }
        }
    }
}

/// Measures and prints, including the model that `bench` measured, if any.
pub(super) fn run(options: &Options, bench: Option<&Bench>) -> Result<(), Failure> {
    let mut threads = options.threads.clone();
    threads.push(1);
    threads.sort_unstable();
    threads.dedup();
    let backends = match options.backend {
        Some(cpu) => vec![cpu],
        None => backends().into_iter().filter_map(|n| Cpu::by_name(n).ok()).collect(),
    };
    let mut report = Report { size: options.size, cache: cache_bytes(), ..Report::default() };
    // The model first: its errors are reported at once, and its memory is freed again.
    if let Some(bench) = bench {
        for &threads in &options.threads {
            report.models.push(bench.row(threads)?);
        }
    }
    let mut harness = Harness {
        effort: match options.quick {
            true => Effort { least: Duration::from_millis(1), runs: 1 },
            false => Effort { least: Duration::from_millis(50), runs: options.runs },
        },
        memory: Memory::new(options.size).map_err(Failure::run)?,
        progress: Progress::show("roofline"),
        reader: options.backend.unwrap_or_else(Cpu::best),
    };
    for &threads in &threads {
        // As many as are allowed, or more if that was asked for.
        let pool = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
        let mut pool = Pool::with_options(&pool).map_err(Failure::run)?;
        harness.reads(&mut pool, &mut report)?;
        for cpu in &backends {
            harness.peaks(&mut pool, cpu, &mut report)?;
        }
    }
    let mut inputs = Inputs::new();
    for &format in &options.formats {
        harness.memory.fill(format);
        for cpu in &backends {
            harness.products(format, cpu, &mut inputs, &mut report)?;
        }
        let gaining: Vec<_> = backends.iter().filter(|cpu| cpu.repacks(format)).collect();
        if gaining.is_empty() {
            continue;
        }
        // Last, since it overwrites the memory.
        if let Some(rows) = harness.repack(format).map_err(Failure::run)? {
            for cpu in gaining {
                harness.repacked(format, rows, cpu, &mut inputs, &mut report)?;
            }
        }
    }
    drop(harness); // removes the progress line
    print(&if options.json { report.json() } else { report.text() })
}

/// Limits of some threads with one backend.
pub(super) struct Limits {
    /// Bytes read per second.
    pub(super) bandwidth: f64,
    /// Operations per second on bytes; a multiply-add is two. `None` if the backend has no measure.
    pub(super) int8: Option<f64>,
    /// The same on f32.
    pub(super) fma: Option<f64>,
    /// Size of the largest cache, if the system reports it.
    pub(super) cache: Option<u64>,
}

/// Measures the limits of `threads` threads with short runs. Reads `size` bytes; without a size 512
/// MiB, or a quarter of the available memory if that is less.
pub(super) fn limits(
    threads: usize,
    backend: Cpu,
    size: Option<usize>,
    quick: bool,
) -> Result<Limits, Failure> {
    let usual = || {
        let quarter =
            available_bytes().map_or(usize::MAX, |n| usize::try_from(n / 4).unwrap_or(usize::MAX));
        quarter.clamp(Memory::LINE, 512 << 20)
    };
    let mut harness = Harness {
        effort: match quick {
            true => Effort { least: Duration::from_millis(1), runs: 1 },
            false => Effort { least: Duration::from_millis(20), runs: 3 },
        },
        memory: Memory::new(size.unwrap_or_else(usual)).map_err(Failure::run)?,
        progress: Progress::show("roofline"),
        reader: backend,
    };
    let pool = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
    let mut pool = Pool::with_options(&pool).map_err(Failure::run)?;
    let mut report = Report::default();
    harness.reads(&mut pool, &mut report)?;
    harness.peaks(&mut pool, &backend, &mut report)?;
    let peak = report.peak(backend.name(), threads);
    Ok(Limits {
        bandwidth: report.best(threads).unwrap_or(0.0),
        int8: peak.and_then(|peak| peak.int8),
        fma: peak.and_then(|peak| peak.fma),
        cache: cache_bytes(),
    })
}

/// Duration and number of measurements.
struct Effort {
    least: Duration,
    runs: usize,
}

impl Effort {
    /// Units of work per second in several runs. `work(n)` repeats its work `n` times and returns
    /// the number of units done.
    fn rates(&self, mut work: impl FnMut(u64) -> Result<u64, Failure>) -> Result<Spread, Failure> {
        let mut once = |n| {
            let start = Instant::now();
            let units = work(n)?;
            Ok((start.elapsed(), units))
        };
        let mut n = 1;
        loop {
            let time = once(n)?.0;
            if time >= self.least {
                break;
            }
            // Aim a little above the target, but don't extrapolate far from short times.
            let factor = self.least.as_secs_f64() * 1.2 / time.as_secs_f64().max(1e-9);
            n = (n as f64 * factor.clamp(1.5, 32.0)).ceil() as u64;
        }
        let rates = (0..self.runs).map(|_| {
            let (time, units) = once(n)?;
            Ok(units as f64 / time.as_secs_f64())
        });
        let rates = rates.collect::<Result<Vec<_>, Failure>>()?;
        // There is at least one run.
        Ok(Spread::of(rates).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 }))
    }
}

/// A large block of memory that starts at a cache line.
struct Memory {
    bytes: Vec<u8>,
    at: usize,
}

impl Memory {
    const LINE: usize = 64;

    fn new(size: usize) -> Result<Memory, MemoryError> {
        // Weights or data to read, plus inputs and outputs of products.
        let columns = COLUMNS * (COLS * 6 + ROWS * 4) + (8 << 20);
        let needed = (size as u64).saturating_add(columns as u64);
        // Systems overcommit, and kill processes that touch more than there is.
        if let Some(available) = available_bytes().filter(|&a| a < needed) {
            return Err(MemoryError::NotThere { needed, available });
        }
        let mut bytes = Vec::new();
        let all = size.checked_add(Memory::LINE).ok_or(MemoryError::Refused { needed })?;
        bytes.try_reserve_exact(all).map_err(|_| MemoryError::Refused { needed })?;
        bytes.resize(all, 0x5a); // touches every page
        let at = bytes.as_ptr().align_offset(Memory::LINE);
        bytes.truncate(at + size);
        Ok(Memory { bytes, at })
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Fills the memory with as many rows of weights as fit.
    fn fill(&mut self, format: Format) {
        let row_bytes = row_bytes(format);
        let memory = &mut self.bytes[self.at..];
        let mut random = Random(0x7eff);
        let mut row = [0.0; COLS];
        let mut filled = 0;
        for to in memory.chunks_exact_mut(row_bytes).take(DISTINCT) {
            row.fill_with(|| random.float());
            quantize_row(format, &row, to);
            filled += row_bytes;
        }
        let end = memory.len() / row_bytes * row_bytes;
        while filled < end {
            let more = filled.min(end - filled);
            memory.copy_within(..more, filled);
            filled += more;
        }
    }
}

fn row_bytes(format: Format) -> usize {
    // COLS is a multiple of every block length.
    format.row_bytes(COLS).unwrap_or(COLS)
}

/// Pseudo-random numbers in -1..1, always the same (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn float(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Activations of both kinds, and the outputs of products.
struct Inputs {
    x: Vec<f32>,
    q: Vec<i8>,
    d: Vec<f32>,
    s: Vec<i32>,
    y: Vec<f32>,
    scratch: Vec<u8>,
}

impl Inputs {
    fn new() -> Inputs {
        let n = COLUMNS * COLS;
        let mut random = Random(0x5eed);
        let x: Vec<f32> = (0..n).map(|_| random.float()).collect();
        let (mut q, mut d, mut s) = (vec![0; n], vec![0.0; n / ACT_BLOCK], vec![0; n / ACT_SUM]);
        Cpu::best().quantize(&x, Q8RowMut { q: &mut q, lo: None, d: &mut d, s: &mut s });
        Inputs { x, q, d, s, y: vec![0.0; COLUMNS * ROWS], scratch: Vec::new() }
    }

    /// A closure that multiplies a part of a matrix with `n` columns.
    fn product<'a>(
        &'a mut self,
        format: Format,
        cpu: &'a Cpu,
        n: usize,
    ) -> impl FnMut(&Matrix<'_>, core::ops::Range<usize>) + 'a {
        let (codes, blocks, sums) = (n * COLS, n * COLS / ACT_BLOCK, n * COLS / ACT_SUM);
        let q = &self.q[..codes];
        let activations = match format.activations() {
            ActivationKind::Q8 => {
                Activations::Q8(Q8Activations::new(n, COLS, q, &self.d[..blocks], &self.s[..sums]))
            }
            ActivationKind::Wide => {
                // Arbitrary scales and sums: no timing depends on them.
                let groups = n * COLS / WIDE_BLOCK;
                Activations::Wide(WideActivations::new(
                    n,
                    COLS,
                    q,
                    &self.d[..groups],
                    &self.s[..groups],
                ))
            }
            ActivationKind::Dense => {
                Activations::Dense(DenseActivations::new(&self.x[..codes], n, COLS, COLS))
            }
        };
        let len = cpu.matmul_scratch(format, COLS, n);
        self.scratch.resize(len + Memory::LINE, 0);
        let at = self.scratch.as_ptr().align_offset(Memory::LINE);
        let (scratch, y) = (&mut self.scratch[at..][..len], &mut self.y);
        move |w, rows| {
            let mut tile = Tile::new(y, n, rows.len(), rows.len());
            cpu.matmul(black_box(w), &activations, rows, &mut tile, scratch);
        }
    }
}

/// The memory, inputs and backends of the measurements.
struct Harness {
    effort: Effort,
    memory: Memory,
    progress: Progress,
    /// Backend used for reading.
    reader: Cpu,
}

impl Harness {
    /// Measures memory bandwidth with all threads of the pool.
    fn reads(&mut self, pool: &mut Pool, report: &mut Report) -> Result<(), Failure> {
        let (threads, bytes) = (pool.size(), self.memory.get());
        let part = bytes.len().div_ceil(threads).next_multiple_of(Memory::LINE);
        for streams in roofline::STREAMS {
            for prefetch in [false, true] {
                let what = format!("threads {threads}: reading by {streams} streams");
                self.progress.update(&what);
                let rates = self.effort.rates(|n| {
                    let read = |_, rank: usize| {
                        let part = bytes.chunks(part).nth(rank).unwrap_or(&[]);
                        for _ in 0..n {
                            black_box(roofline::read(&self.reader, part, streams, prefetch));
                        }
                    };
                    pool.for_each(threads, read).map_err(Failure::run)?;
                    Ok(bytes.len() as u64 * n)
                })?;
                report.reads.push(Read { threads, streams, prefetch, rate: rates.max });
            }
        }
        Ok(())
    }

    /// Measures the peak arithmetic rate of a backend's instructions, on all threads of the pool.
    fn peaks(&mut self, pool: &mut Pool, cpu: &Cpu, report: &mut Report) -> Result<(), Failure> {
        let threads = pool.size();
        self.progress.update(&format!("threads {threads}: arithmetic of {}", cpu.name()));
        let mut peak = |work: fn(&Cpu, u64) -> Option<u64>| {
            if work(cpu, 0).is_none() {
                return Ok(None);
            }
            let rates = self.effort.rates(|n| {
                let rounds = n.saturating_mul(64);
                let all = |_, _| _ = black_box(work(cpu, rounds));
                pool.for_each(threads, all).map_err(Failure::run)?;
                Ok(threads as u64 * work(cpu, 1).unwrap_or(0) * rounds)
            });
            rates.map(|r| Some(r.max))
        };
        let (int8, fma) = (peak(roofline::int8)?, peak(roofline::fma)?);
        report.peaks.push(Peak { backend: cpu.name(), threads, int8, fma });
        Ok(())
    }

    /// Measures a format's products, with many columns and with one.
    fn products(
        &mut self,
        format: Format,
        cpu: &Cpu,
        inputs: &mut Inputs,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let backend = cpu.name();
        self.progress.update(&format!("products of {format} by {backend}"));
        let all = self.memory.get();
        let fit = all.len() / row_bytes(format);
        let rows = ROWS.min(fit);
        let each = rows * row_bytes(format);
        // Consecutive matrices, each in memory of its own.
        let matrices = all.chunks_exact(each.max(1));
        let matrices = matrices.map(|bytes| Matrix::new(format, rows, COLS, bytes));
        let matrices: Vec<_> = matrices.collect::<Result<_, _>>().map_err(Failure::run)?;
        let Some(first) = matrices.first() else {
            let what = format!("--size is too small for a row of {format}: use more");
            return Err(Failure::Run(what));
        };
        let mut product = inputs.product(format, cpu, COLUMNS);
        let gemm = self.effort.rates(|n| {
            let want = n as usize * STEP.min(rows);
            for _ in 0..want / rows {
                product(first, 0..rows);
            }
            if !want.is_multiple_of(rows) {
                product(first, 0..want % rows);
            }
            Ok((2 * want * COLS * COLUMNS) as u64)
        })?;
        drop(product);
        let gemv = self.gemv(&matrices, each, inputs.product(format, cpu, 1))?;
        let gemm = gemm.median;
        report.products.push(Product { format, backend, rows, gemm, gemv, repacked: None });
        Ok(())
    }

    /// Fills the memory with consecutive repacked matrices; returns their number of rows. `None` if
    /// the format can't be repacked, or not even one fits.
    fn repack(&mut self, format: Format) -> Result<Option<usize>, MatrixError> {
        let row_bytes = row_bytes(format);
        let all = &mut self.memory.bytes[self.memory.at..];
        let rows = ROWS.min(all.len() / row_bytes) / REPACK_ROWS * REPACK_ROWS;
        let Some(size) = repacked_bytes(format, rows, COLS).filter(|_| rows > 0) else {
            return Ok(None);
        };
        let mut one = vec![0; size];
        repack(&Matrix::new(format, rows, COLS, &all[..size])?, &mut one);
        all.chunks_exact_mut(size).for_each(|to| to.copy_from_slice(&one));
        Ok(Some(rows))
    }

    /// Measures the report's last product again, with one column and from repacked memory.
    fn repacked(
        &mut self,
        format: Format,
        rows: usize,
        cpu: &Cpu,
        inputs: &mut Inputs,
        report: &mut Report,
    ) -> Result<(), Failure> {
        self.progress.update(&format!("repacked {format} by {}", cpu.name()));
        let each = rows * row_bytes(format);
        let matrices = self.memory.get().chunks_exact(each);
        let matrices = matrices.map(|bytes| Matrix::repacked(format, rows, COLS, bytes));
        let matrices: Vec<_> = matrices.collect::<Result<_, _>>().map_err(Failure::run)?;
        let rate = self.gemv(&matrices, each, inputs.product(format, cpu, 1))?;
        let mut products = report.products.iter_mut();
        if let Some(p) = products.find(|p| p.format == format && p.backend == cpu.name()) {
            p.repacked = Some(rate);
        }
        Ok(())
    }

    /// Bytes per second of products with one column, cycling over matrices of `each` bytes.
    fn gemv(
        &self,
        matrices: &[Matrix<'_>],
        each: usize,
        mut product: impl FnMut(&Matrix<'_>, core::ops::Range<usize>),
    ) -> Result<f64, Failure> {
        let next = Cell::new(0);
        let rates = self.effort.rates(|n| {
            for _ in 0..n {
                let w = &matrices[next.replace(next.get() + 1) % matrices.len()];
                product(w, 0..w.rows());
            }
            Ok(each as u64 * n)
        })?;
        Ok(rates.median)
    }
}

struct Read {
    threads: usize,
    streams: usize,
    prefetch: bool,
    /// Bytes per second.
    rate: f64,
}

/// Operations per second; a multiply-add is two.
struct Peak {
    backend: &'static str,
    threads: usize,
    int8: Option<f64>,
    fma: Option<f64>,
}

impl Peak {
    fn of(&self, quantized: bool) -> Option<f64> {
        if quantized { self.int8 } else { self.fma }
    }
}

struct Product {
    format: Format,
    backend: &'static str,
    rows: usize,
    /// Operations per second with many columns.
    gemm: f64,
    /// Bytes of weights per second with one column.
    gemv: f64,
    /// The same with a repacked matrix, if the backend benefits from it.
    repacked: Option<f64>,
}

#[derive(Default)]
struct Report {
    size: usize,
    cache: Option<u64>,
    reads: Vec<Read>,
    peaks: Vec<Peak>,
    products: Vec<Product>,
    models: Vec<Row>,
}

/// Derived figures of a model's row.
struct Shares {
    /// Operations per second of prefill, and their share of the peaks.
    prefill: Option<(f64, Option<f64>)>,
    /// Share of the best bandwidth.
    decode: Option<f64>,
}

impl Report {
    /// The best bandwidth with this many threads.
    fn best(&self, threads: usize) -> Option<f64> {
        let reads = self.reads.iter().filter(|r| r.threads == threads);
        reads.map(|r| r.rate).max_by(f64::total_cmp)
    }

    fn peak(&self, backend: &str, threads: usize) -> Option<&Peak> {
        self.peaks.iter().find(|p| p.backend == backend && p.threads == threads)
    }

    /// Shares of the peak and of the bandwidth.
    fn product_shares(&self, p: &Product) -> (Option<f64>, Option<f64>) {
        let peak = self.peak(p.backend, 1).and_then(|peak| peak.of(p.format.is_quantized()));
        (peak.map(|peak| p.gemm / peak), self.share(Some(p.gemv)))
    }

    /// Share of the bandwidth of one thread.
    fn share(&self, rate: Option<f64>) -> Option<f64> {
        Some(rate? / self.best(1)?)
    }

    fn model_shares(&self, row: &Row) -> Shares {
        let seconds = row.prefill.as_ref().map(|s| row.tokens.0 as f64 / s.median);
        let prefill = seconds.map(|seconds| {
            let [dense, quantized] = row.operations;
            let peak = self.peak(row.backend, row.threads);
            // The time of each kind of product at its peak.
            let floor = |ops: f64, quantized: bool| match ops {
                0.0 => Some(0.0),
                ops => Some(ops / peak?.of(quantized)?),
            };
            let floor = floor(dense, false).zip(floor(quantized, true)).map(|(d, q)| d + q);
            ((dense + quantized) / seconds, floor.map(|floor| floor / seconds))
        });
        let decode = row.gb_per_s.zip(self.best(row.threads)).map(|(gb, best)| gb * 1e9 / best);
        Shares { prefill, decode }
    }

    fn json(&self) -> String {
        let reads = self.reads.iter().map(|r| {
            let o = Object::new().count("threads", Some(r.threads));
            let o = o.count("streams", Some(r.streams)).raw("prefetch", r.prefetch);
            o.number("gb_per_s", digits(Some(r.rate / 1e9))).end()
        });
        let peaks = self.peaks.iter().map(|p| {
            let o = Object::new().str("backend", p.backend).count("threads", Some(p.threads));
            let o = o.number("int8_tops", digits(p.int8.map(|x| x / 1e12)));
            o.number("f32_gflops", digits(p.fma.map(|x| x / 1e9))).end()
        });
        let products = self.products.iter().map(|p| {
            let (peak, bandwidth) = self.product_shares(p);
            let o = Object::new().str("format", p.format.name()).str("backend", p.backend);
            let o = o.count("rows", Some(p.rows)).count("cols", Some(COLS));
            let o = o.count("columns", Some(COLUMNS));
            let o = o.number("tops", digits(Some(p.gemm / 1e12)));
            let o = o.number("share_of_peak", digits(peak));
            let o = o.number("gb_per_s", digits(Some(p.gemv / 1e9)));
            let o = o.number("share_of_bandwidth", digits(bandwidth));
            let o = o.number("repacked_gb_per_s", digits(p.repacked.map(|x| x / 1e9)));
            o.number("repacked_share", digits(self.share(p.repacked))).end()
        });
        let models = self.models.iter().map(|row| {
            let s = self.model_shares(row);
            let o = Object::new().raw("bench", row.json());
            let o = o.number("prefill_tops", digits(s.prefill.map(|(x, _)| x / 1e12)));
            let o = o.number("share_of_peak", digits(s.prefill.and_then(|(_, s)| s)));
            o.number("share_of_bandwidth", digits(s.decode)).end()
        });
        let o = Object::new().count("size_bytes", Some(self.size));
        let o = o.count("cache_bytes", self.cache);
        let o = o.raw("backends", array(backends().into_iter().map(string)));
        let o = o.raw("reads", array(reads)).raw("peaks", array(peaks));
        let o = o.raw("products", array(products)).raw("models", array(models));
        format!("{}\n", o.end())
    }

    fn text(&self) -> String {
        let mut t = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut t);
        t
    }

    fn write(&self, t: &mut String) -> fmt::Result {
        writeln!(
            t,
            "reading {}, GB/s (10^9 bytes) by streams; +p: with software prefetch",
            human(self.size as u64)
        )?;
        if let Some(cache) = self.cache.filter(|&c| (self.size as u64) < 4 * c) {
            let cache = human(cache);
            writeln!(t, "(a cache of {cache} holds much of that: use more with --size)")?;
        }
        write!(t, "{:>8}", "threads")?;
        for streams in roofline::STREAMS {
            write!(t, "{streams:>8}{:>8}", format!("{streams}+p"))?;
        }
        for (i, r) in self.reads.iter().enumerate() {
            if i == 0 || self.reads[i - 1].threads != r.threads {
                write!(t, "\n{:>8}", r.threads)?;
            }
            write!(t, "{:>8.1}", r.rate / 1e9)?;
        }
        writeln!(t, "\n\npeaks of the instructions; a multiply-add is two operations")?;
        writeln!(t, "{:<10}{:>8}{:>12}{:>13}", "backend", "threads", "int8 TOPS", "f32 GFLOPS")?;
        for p in &self.peaks {
            let (int8, fma) = (or_dash(p.int8, 1e12, 3), or_dash(p.fma, 1e9, 1));
            writeln!(t, "{:<10}{:>8}{int8:>12}{fma:>13}", p.backend, p.threads)?;
        }
        if !self.products.is_empty() {
            writeln!(
                t,
                "\nproducts on one thread, {ROWS} x {COLS}: with {COLUMNS} columns, of the \
                 backend's peak; with one\ncolumn from memory, of the best bandwidth, as files \
                 have it and repacked\n\
                 {:<8}{:<10}{:>10}{:>8}{:>10}{:>8}{:>10}{:>8}",
                "format", "backend", "TOPS", "share", "GB/s", "share", "repacked", "share"
            )?;
        }
        for p in &self.products {
            let (peak, bandwidth) = self.product_shares(p);
            writeln!(
                t,
                "{:<8}{:<10}{:>10.4}{:>8}{:>10.2}{:>8}{:>10}{:>8}",
                p.format.name(),
                p.backend,
                p.gemm / 1e12,
                percent(peak),
                p.gemv / 1e9,
                percent(bandwidth),
                or_dash(p.repacked, 1e9, 2),
                percent(self.share(p.repacked))
            )?;
        }
        for (i, row) in self.models.iter().enumerate() {
            let s = self.model_shares(row);
            if i == 0 {
                write!(t, "\n{}", row.head())?;
            }
            write!(t, "{}", row.text())?;
            if let Some((rate, share)) = s.prefill {
                let (tops, share) = (rate / 1e12, percent(share));
                writeln!(t, "        prefill: {tops:.3} TOPS in products, {share} of the peak")?;
            }
            if let Some(gb) = row.gb_per_s {
                let share = percent(s.decode);
                let cache =
                    self.cache.filter(|&c| row.bytes_per_token.is_some_and(|b| b < c as f64));
                let from = cache.map_or("", |_| " (its weights fit a cache)");
                writeln!(t, "        decode: {gb:.1} GB/s, {share} of the best bandwidth{from}")?;
            }
        }
        Ok(())
    }
}

/// Rounds to four significant digits, which are enough for such figures.
pub(super) fn digits(x: Option<f64>) -> Option<f64> {
    x.and_then(|x| format!("{x:.3e}").parse().ok())
}

pub(super) fn or_dash(x: Option<f64>, unit: f64, digits: usize) -> String {
    x.map_or_else(|| "-".into(), |x| format!("{:.digits$}", x / unit))
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |s| format!("{:.1} %", s * 100.0))
}

/// Bytes available without taking memory from other programs: the system's figure (proc(5)), and
/// the limit of the process's control group (cgroup v2). `None` if neither is known.
fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let field = |text: String, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name).map(str::to_owned))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let system = read("/proc/meminfo").and_then(|t| field(t, "MemAvailable:"));
    let group = || {
        let own = read("/proc/self/cgroup")?;
        let own = own.lines().find_map(|l| l.strip_prefix("0::"))?.trim_end_matches('/');
        let number = |name| read(&format!("/sys/fs/cgroup{own}/{name}"))?.trim().parse().ok();
        let (most, now): (u64, u64) = (number("memory.max")?, number("memory.current")?);
        // Cached file pages are released when memory is needed.
        let stat = read(&format!("/sys/fs/cgroup{own}/memory.stat"));
        let files = stat.and_then(|t| field(t, "inactive_file ")).unwrap_or(0);
        Some(most.saturating_sub(now.saturating_sub(files)))
    };
    let system = system.map(|kib| kib.saturating_mul(1024));
    [system, group()].into_iter().flatten().min()
}

/// Size of the first core's largest cache in bytes, if the system reports it.
fn cache_bytes() -> Option<u64> {
    let size = |index: usize| -> Option<u64> {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let kib = std::fs::read_to_string(path).ok()?;
        kib.trim().strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)
    };
    (0..8).filter_map(size).max()
}
