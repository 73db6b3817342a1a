//! Inputs for the tests: numbers that are the same in every run, from a seed (those of the exported
//! suite); and what compares.
#![allow(dead_code)] // every test file takes what it needs

use core::ops::Range;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use teff_kernels::equivalence::{EquivalenceError, Room, fill_codes, fill_floats, fill_weights};
pub(crate) use teff_kernels::equivalence::{Kind, Rng, bits, float};
use teff_kernels::{
    ActivationKind, Activations, Backend, DenseActivations, Format, Matrix, Q8Activations, Tile,
    WIDE_BLOCK, WideActivations, repack, repacked_bytes,
};

pub(crate) fn kinds() -> impl Strategy<Value = Kind> + Clone {
    prop_oneof![Just(Kind::Plain), Just(Kind::Extreme), Just(Kind::Edge), Just(Kind::Wild)]
}

pub(crate) fn floats(r: &mut Rng, n: usize, kind: Kind) -> Vec<f32> {
    let mut x = vec![0.0; n];
    fill_floats(r, &mut x, kind);
    x
}

/// The bytes of `rows` x `cols` weights.
pub(crate) fn weights(
    r: &mut Rng,
    format: Format,
    rows: usize,
    cols: usize,
    kind: Kind,
) -> Vec<u8> {
    let mut w = vec![0; rows * format.row_bytes(cols).unwrap()];
    fill_weights(r, format, &mut w, kind);
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

/// A repacked matrix.
pub(crate) struct OwnedRepacked {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: Placed,
}

impl OwnedRepacked {
    /// That of `w`; `None` where its format is not repacked.
    pub(crate) fn new(w: &Matrix<'_>, offset: usize) -> Option<Self> {
        let (format, rows, cols) = (w.format(), w.rows(), w.cols());
        let size = repacked_bytes(format, rows, cols)?;
        let mut bytes = Placed::new(&vec![0; size], offset);
        repack(w, bytes.get_mut());
        Some(OwnedRepacked { format, rows, cols, bytes })
    }
    pub(crate) fn get(&self) -> Matrix<'_> {
        Matrix::repacked(self.format, self.rows, self.cols, self.bytes.get()).unwrap()
    }
}

/// Memory for the exported suite: each piece is an allocation of its own, of exactly its length, so
/// that the address sanitizer sees who reads beyond it.
#[derive(Default)]
pub(crate) struct Heap(RefCell<Vec<(*mut u8, Layout)>>);

impl<'m> Room<'m> for &'m Heap {
    fn take(&mut self, len: usize) -> Result<&'m mut [u8], EquivalenceError> {
        let layout = Layout::from_size_align(len.max(1), 64).unwrap();
        // SAFETY: the size is not 0.
        let p = unsafe { alloc_zeroed(layout) };
        assert!(!p.is_null());
        self.0.borrow_mut().push((p, layout));
        // SAFETY: `len` zeroed bytes that nobody else has; they live until the Heap is dropped, which
        // is borrowed for 'm.
        Ok(unsafe { core::slice::from_raw_parts_mut(p, len) })
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for (p, layout) in self.0.take() {
            // SAFETY: allocated with this layout, once.
            unsafe { dealloc(p, layout) }
        }
    }
}

/// Activations of the kind that a format needs.
pub(crate) struct OwnedActivations {
    pub(crate) n: usize,
    pub(crate) cols: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) q: Vec<i8>,
    /// The lower plane of 16-bit codes.
    pub(crate) lo: Option<Vec<i8>>,
    pub(crate) d: Vec<f32>,
    pub(crate) s: Vec<i32>,
    kind: ActivationKind,
    /// Elements before the first one of each vector.
    skew: usize,
}

impl OwnedActivations {
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
        let activations = format.activations();
        let scales = match activations {
            ActivationKind::Wide => n * cols.div_ceil(WIDE_BLOCK),
            _ => n * cols / 32,
        };
        let d = floats(r, scales, kind);
        let mut a = OwnedActivations {
            n,
            cols,
            x,
            q: vec![],
            lo: None,
            d,
            s: vec![],
            kind: activations,
            skew: 0,
        };
        if activations != ActivationKind::Dense {
            let mut plane = || -> Vec<i8> {
                let mut q = vec![0; n * cols];
                fill_codes(r, &mut q, kind);
                q
            };
            let (q, lo) = (plane(), plane());
            (a.q, a.lo) = (q, (fine && activations == ActivationKind::Q8).then_some(lo));
            let codes: Vec<i32> = (0..n * cols).map(|i| a.code(i)).collect();
            // Sums of wide groups are a row's own: the last one may be shorter.
            let group = if activations == ActivationKind::Wide { WIDE_BLOCK } else { 16 };
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
    pub(crate) fn part(&self, from: usize, to: usize) -> Activations<'_> {
        let (c, b, n, at) = (self.cols, self.cols / 32, to - from, self.skew);
        let codes = at + from * c..at + to * c;
        match self.kind {
            ActivationKind::Dense => {
                Activations::Dense(DenseActivations::new(&self.x[codes.start..], n, c, c))
            }
            ActivationKind::Q8 => {
                let d = &self.d[at + from * b..at + to * b];
                let s = &self.s[at + 2 * from * b..at + 2 * to * b];
                let activations = Q8Activations::new(n, c, &self.q[codes.clone()], d, s);
                Activations::Q8(match &self.lo {
                    None => activations,
                    Some(lo) => activations.with_low(&lo[codes]),
                })
            }
            ActivationKind::Wide => {
                let g = c.div_ceil(WIDE_BLOCK);
                let groups = at + from * g..at + to * g;
                let (d, s) = (&self.d[groups.clone()], &self.s[groups]);
                Activations::Wide(WideActivations::new(n, c, &self.q[codes], d, s))
            }
        }
    }
    pub(crate) fn get(&self) -> Activations<'_> {
        self.part(0, self.n)
    }
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

/// Content of an output before anything is written.
pub(crate) const UNTOUCHED: f32 = -7.75e33;

/// `b`'s product of `rows` with the rows `ts` of the activations; `gap` floats lie before the output
/// and between its rows, checked to stay as they were.
pub(crate) fn product(
    b: &dyn Backend,
    w: &Matrix<'_>,
    x: &OwnedActivations,
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
