//! Inputs for the tests: numbers that are the same in every run, from a seed; and what compares.
#![allow(dead_code)] // every test file takes what it needs

use core::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use teff_kernels::{
    ActKind, Acts, Backend, DenseActs, Format, Matrix, Q8Acts, Tile, WIDE_BLOCK, WideActs,
    quantize_row,
};

/// Marsaglia's xorshift64.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }
    /// In -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What kind of numbers a case is made of.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// In -1..1.
    Plain,
    /// The largest and smallest codes; floats of all magnitudes.
    Extreme,
    /// Finite numbers at the edges: zeros, subnormals, the smallest normal ones, the largest.
    Edge,
    /// Any bits: infinities, NaN, subnormals.
    Wild,
}

pub(crate) fn kinds() -> impl Strategy<Value = Kind> + Clone {
    prop_oneof![Just(Kind::Plain), Just(Kind::Extreme), Just(Kind::Edge), Just(Kind::Wild)]
}

/// An f32 of this kind.
pub(crate) fn float(r: &mut Rng, kind: Kind) -> f32 {
    match kind {
        Kind::Plain => r.float(),
        Kind::Extreme => r.float() * 2f32.powi(r.below(120) as i32 - 60),
        Kind::Edge => {
            let sign = r.bits() as u32 & 0x8000_0000;
            match r.below(40) {
                0..4 => f32::from_bits(sign),
                4..6 => f32::from_bits(r.bits() as u32 & 0x807f_ffff), // subnormal
                6 => f32::from_bits(sign | f32::MIN_POSITIVE.to_bits()),
                7 => f32::from_bits(sign | f32::MAX.to_bits()),
                _ => r.float(),
            }
        }
        Kind::Wild => match r.below(40) {
            0 => f32::from_bits(r.bits() as u32),
            1 => f32::INFINITY,
            2 => f32::NAN,
            3 => -0.0,
            4 => f32::from_bits(r.bits() as u32 & 0x807f_ffff), // subnormal
            _ => r.float(),
        },
    }
}

pub(crate) fn floats(r: &mut Rng, n: usize, kind: Kind) -> Vec<f32> {
    (0..n).map(|_| float(r, kind)).collect()
}

/// Where a block of a format of codes has its f16 fields: scales, then minimums.
fn f16_fields(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => &[],
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::TQ1_0 => &[52],
        Format::TQ2_0 => &[64],
        Format::I2_S => &[], // the matrix has it
        f => panic!("where does {f} have its scales?"),
    }
}

/// One block of random codes and scales.
fn codes(r: &mut Rng, format: Format, kind: Kind, block: &mut [u8]) {
    let extremes = [0x80, 0x7f, 0x81, 0x00, 0xff, 0x0f, 0xf0];
    let pick = (r.below(7), r.below(7));
    for b in block.iter_mut() {
        *b = match kind {
            Kind::Extreme => extremes[if r.below(2) == 0 { pick.0 } else { pick.1 }],
            _ => r.bits() as u8,
        };
    }
    let odd = r.below(8) == 0;
    for &at in f16_fields(format) {
        let field = &mut block[at..at + 2];
        quantize_row(Format::F16, &[r.float() / 16.0], field);
        match kind {
            Kind::Wild if odd => {
                // Any scale; most of them subnormal, infinite or NaN.
                field[0] = r.bits() as u8;
                field[1] = [r.bits() as u8, 0x00, 0x80, 0x7c, 0xfc, 0x7e][r.below(6)];
            }
            Kind::Edge if odd => {
                // Zeros, a subnormal, the smallest normal scale and the largest ones.
                let edges = [0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff];
                field.copy_from_slice(&u16::to_le_bytes(edges[r.below(7)]));
            }
            _ => {}
        }
    }
}

/// The bytes of `rows` x `cols` weights.
pub(crate) fn weights(
    r: &mut Rng,
    format: Format,
    rows: usize,
    cols: usize,
    kind: Kind,
) -> Vec<u8> {
    let row_bytes = format.row_bytes(cols).unwrap();
    let mut w = vec![0; rows * row_bytes];
    if format.is_quantized() {
        for block in w.chunks_exact_mut(format.block_bytes()) {
            codes(r, format, kind, block);
        }
        return w;
    }
    for row in w.chunks_exact_mut(row_bytes.max(1)) {
        let x = floats(r, cols, if kind == Kind::Wild { Kind::Plain } else { kind });
        quantize_row(format, &x, row);
        if kind == Kind::Wild {
            for e in row.chunks_exact_mut(format.block_bytes()) {
                if r.below(16) == 0 {
                    e.fill_with(|| r.bits() as u8);
                    // Any bits; every other time an exponent of all ones or all zeros.
                    let top = e.len() - 1;
                    match (r.below(4), format) {
                        (0, Format::F16) => e[top] |= 0x7c,
                        (0, _) => e[top] |= 0x7f,
                        (1, Format::F16) => e[top] &= 0x83,
                        (1, _) => (e[top], e[top - 1]) = (e[top] & 0x80, e[top - 1] & 0x7f),
                        _ => {}
                    }
                }
            }
        }
    }
    w
}

/// The matrix of these bytes; where blocks have no scale, with one of this kind.
pub(crate) fn matrix<'a>(
    r: &mut Rng,
    format: Format,
    (rows, cols): (usize, usize),
    bytes: &'a [u8],
    kind: Kind,
) -> Matrix<'a> {
    let matrix = Matrix::new(format, rows, cols, bytes).unwrap();
    if format == Format::I2_S { matrix.with_scale(float(r, kind)) } else { matrix }
}

/// Bytes at an address that is `offset` beyond a multiple of 64.
pub(crate) struct Placed {
    buffer: Vec<u8>,
    at: usize,
    len: usize,
}

impl Placed {
    pub(crate) fn new(bytes: &[u8], offset: usize) -> Self {
        let mut buffer = vec![0xa5; bytes.len() + 128];
        let at = buffer.as_ptr().align_offset(64) + offset;
        buffer[at..][..bytes.len()].copy_from_slice(bytes);
        Placed { buffer, at, len: bytes.len() }
    }
    pub(crate) fn zeroed(len: usize) -> Self {
        Placed::new(&vec![0; len], 0)
    }
    pub(crate) fn get(&self) -> &[u8] {
        &self.buffer[self.at..][..self.len]
    }
    pub(crate) fn get_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.at..][..self.len]
    }
}

/// Activations of the kind that a format needs.
pub(crate) struct OwnedActs {
    pub(crate) n: usize,
    pub(crate) cols: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) q: Vec<i8>,
    /// The lower plane of 16-bit codes.
    pub(crate) lo: Option<Vec<i8>>,
    pub(crate) d: Vec<f32>,
    pub(crate) s: Vec<i32>,
    kind: ActKind,
    /// What lies before the first element of each vector.
    skew: usize,
}

impl OwnedActs {
    /// Random ones; codes and scales beyond what the quantiser would make, where `kind` says so;
    /// with codes of 16 bits where `fine`.
    pub(crate) fn new(
        r: &mut Rng,
        format: Format,
        n: usize,
        cols: usize,
        kind: Kind,
        fine: bool,
    ) -> Self {
        let x = floats(r, n * cols, kind);
        let acts = format.acts();
        let scales = match acts {
            ActKind::Wide => n * cols.div_ceil(WIDE_BLOCK),
            _ => n * cols / 32,
        };
        let d = floats(r, scales, kind);
        let mut a =
            OwnedActs { n, cols, x, q: vec![], lo: None, d, s: vec![], kind: acts, skew: 0 };
        if acts != ActKind::Dense {
            let mut plane = || -> Vec<i8> {
                let mut code = || match kind {
                    Kind::Extreme => [127, -127, 0, 127][r.below(4)],
                    _ => (r.below(255) as i32 - 127) as i8,
                };
                (0..n * cols).map(|_| code()).collect()
            };
            let (q, lo) = (plane(), plane());
            (a.q, a.lo) = (q, (fine && acts == ActKind::Q8).then_some(lo));
            let codes: Vec<i32> = (0..n * cols).map(|i| a.code(i)).collect();
            // Sums of wide groups are a row's own: the last one may be shorter.
            let group = if acts == ActKind::Wide { WIDE_BLOCK } else { 16 };
            let rows = codes.chunks(cols.max(1));
            a.s = rows.flat_map(|row| row.chunks(group).map(|c| c.iter().sum())).collect();
        }
        a
    }
    /// The same, `skew` elements further in memory: codes at any address.
    pub(crate) fn skewed(mut self, skew: usize) -> Self {
        fn shift<T: Copy + Default>(v: &mut Vec<T>, by: usize) {
            v.splice(0..0, core::iter::repeat_n(T::default(), by));
        }
        shift(&mut self.x, skew);
        shift(&mut self.q, skew);
        self.lo.iter_mut().for_each(|lo| shift(lo, skew));
        shift(&mut self.d, skew);
        shift(&mut self.s, skew);
        self.skew += skew;
        self
    }
    /// The code at `i`, of 8 or 16 bits.
    pub(crate) fn code(&self, i: usize) -> i32 {
        let i = self.skew + i;
        match &self.lo {
            None => i32::from(self.q[i]),
            Some(lo) => 255 * i32::from(self.q[i]) + i32::from(lo[i]),
        }
    }
    /// Rows `from..to`.
    pub(crate) fn part(&self, from: usize, to: usize) -> Acts<'_> {
        let (c, b, n, at) = (self.cols, self.cols / 32, to - from, self.skew);
        let codes = at + from * c..at + to * c;
        match self.kind {
            ActKind::Dense => Acts::Dense(DenseActs::new(&self.x[codes.start..], n, c, c)),
            ActKind::Q8 => {
                let d = &self.d[at + from * b..at + to * b];
                let s = &self.s[at + 2 * from * b..at + 2 * to * b];
                let acts = Q8Acts::new(n, c, &self.q[codes.clone()], d, s);
                Acts::Q8(match &self.lo {
                    None => acts,
                    Some(lo) => acts.with_low(&lo[codes]),
                })
            }
            ActKind::Wide => {
                let g = c.div_ceil(WIDE_BLOCK);
                let groups = at + from * g..at + to * g;
                let (d, s) = (&self.d[groups.clone()], &self.s[groups]);
                Acts::Wide(WideActs::new(n, c, &self.q[codes], d, s))
            }
        }
    }
    pub(crate) fn get(&self) -> Acts<'_> {
        self.part(0, self.n)
    }
}

/// Bits, with one bit pattern for all NaN: IEEE leaves open which one an operation gives.
pub(crate) fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

/// The first place where two results differ in their bits.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("{} elements, not {}", b.len(), a.len()));
    }
    let i = (0..a.len()).find(|&i| bits(a[i]) != bits(b[i]))?;
    Some(format!("element {i}: {:e} ({:#x}), not {:e} ({:#x})", b[i], bits(b[i]), a[i], bits(a[i])))
}

pub(crate) fn same(want: &[f32], got: &[f32], what: &str) -> TestCaseResult {
    match difference(want, got) {
        None => Ok(()),
        Some(d) => Err(TestCaseError::fail(format!("{what}: {d}"))),
    }
}

/// What lies in an output before anything is written.
pub(crate) const UNTOUCHED: f32 = -7.75e33;

/// `b`'s product of `rows` with the rows `ts` of the activations; `gap` floats lie before the output
/// and between its rows, checked to stay as they were.
pub(crate) fn product(
    b: &dyn Backend,
    w: &Matrix<'_>,
    x: &OwnedActs,
    ts: Range<usize>,
    rows: Range<usize>,
    gap: usize,
) -> Result<Vec<f32>, TestCaseError> {
    let (n, width) = (ts.len(), rows.len());
    let ld = width + gap;
    let mut y = vec![UNTOUCHED; gap + n * ld];
    let mut scratch = Placed::zeroed(b.matmul_scratch(w.format(), w.cols(), n));
    let mut tile = Tile::new(&mut y[gap..], n, width, ld);
    b.matmul(w, &x.part(ts.start, ts.end), rows, &mut tile, scratch.get_mut());
    within_tile(&y, gap, width, ld)
}

/// The tile in `y`, a row of `width` every `ld` floats after the first `lead`. Nothing else was
/// written.
pub(crate) fn within_tile(
    y: &[f32],
    lead: usize,
    width: usize,
    ld: usize,
) -> Result<Vec<f32>, TestCaseError> {
    let (mut out, mut rest) = (Vec::with_capacity(y.len()), y[..lead].to_vec());
    for row in y[lead..].chunks(ld.max(1)) {
        out.extend_from_slice(&row[..width]);
        rest.extend_from_slice(&row[width..]);
    }
    prop_assert!(rest.iter().all(|&v| v == UNTOUCHED), "written outside of the tile");
    Ok(out)
}
