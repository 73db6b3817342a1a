//! Views of the memory that a team shares.
//!
//! All of this crate's `unsafe` on memory is here. Its soundness rests on three things: the
//! regions were checked to be as large as the plan needs when the [`super::Runner`] was made; the
//! plan was verified (no buffers that meet overlap, within a phase only one operation touches what
//! is written, barriers separate phases); and members cut every operation into disjoint shares by
//! rank (ranks are distinct by [`crate::Team`]'s contract).

use core::marker::PhantomData;

use teff_kernels::{
    ACT_BLOCK, ACT_SUM, DenseActivations, KvHead, KvLayout, Q8Activations, Q8RowMut, Tile,
    WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRowMut,
};

use crate::plan::{Buffer, BufferType, head_bytes};

/// A region of memory that members read and write through shares of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region<'m> {
    ptr: *mut u8,
    len: usize,
    own: PhantomData<&'m mut [u8]>,
}

// SAFETY: a Region is a borrowed slice; all access goes through the unsafe methods below, whose
// callers keep concurrent accesses disjoint.
unsafe impl Send for Region<'_> {}
// SAFETY: as above.
unsafe impl Sync for Region<'_> {}

impl<'m> Region<'m> {
    pub(super) fn new(bytes: &'m mut [u8]) -> Self {
        Region { ptr: bytes.as_mut_ptr(), len: bytes.len(), own: PhantomData }
    }

    pub(super) fn is_aligned(&self) -> bool {
        self.ptr.addr().is_multiple_of(crate::plan::ALIGN)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Until the slice is dropped nobody writes to the region.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the region is a slice borrowed for 'm; no writers by the caller's promise.
        unsafe { core::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// # Safety
    /// `offset..offset + len` is inside; until the slice is dropped nobody else uses it.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(super) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        debug_assert!(offset + len <= self.len);
        // SAFETY: inside the region and exclusive by the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.add(offset), len) }
    }

    /// Rows `first..first + n` of an f32 buffer.
    ///
    /// # Safety
    /// The rows are inside the region; until the view is dropped nobody writes to them.
    pub(super) unsafe fn dense(
        &self,
        buffer: &Buffer,
        first: usize,
        n: usize,
    ) -> DenseActivations<'_> {
        let cols = buffer.cols as usize;
        debug_assert!(buffer.offset + (first + n) * cols * 4 <= self.len);
        // SAFETY: inside, and 4-aligned since offsets are multiples of 64 in a 64-aligned region.
        let data = unsafe {
            let at = self.ptr.add(buffer.offset).cast::<f32>().add(first * cols);
            core::slice::from_raw_parts(at, n * cols)
        };
        DenseActivations::new(data, n, cols, cols)
    }

    /// Columns `col..col + width` of rows `first..first + n` of an f32 buffer, to be written.
    ///
    /// # Safety
    /// They are inside the region; until the tile is dropped nobody else uses them.
    pub(super) unsafe fn tile(
        &self,
        buffer: &Buffer,
        (first, n): (usize, usize),
        (col, width): (usize, usize),
    ) -> Tile<'_> {
        let cols = buffer.cols as usize;
        debug_assert!(col + width <= cols && buffer.offset + (first + n) * cols * 4 <= self.len);
        // SAFETY: inside, aligned as above, exclusive by the caller's promise.
        unsafe {
            let at = self.ptr.add(buffer.offset).cast::<f32>().add(first * cols + col);
            Tile::from_raw(at, n, width, cols)
        }
    }

    /// Where codes, lower plane, scales and sums of a quantised buffer of `rows` rows begin.
    ///
    /// # Safety
    /// The buffer is inside the region.
    unsafe fn planes(&self, buffer: &Buffer, rows: usize) -> Planes {
        let cols = buffer.cols as usize;
        let blocks = cols.div_ceil(buffer.kind.block());
        debug_assert!(buffer.bytes(rows).is_some_and(|b| buffer.offset + b <= self.len));
        // SAFETY: one after another from `offset` on, as `Buffer::bytes` counts them; `rows * cols`
        // is a multiple of 32, so scales and sums are aligned to 4.
        unsafe {
            let codes = self.ptr.add(buffer.offset).cast::<i8>();
            let (lo, end) = match buffer.kind {
                BufferType::Q16 => (Some(codes.add(rows * cols)), codes.add(2 * rows * cols)),
                _ => (None, codes.add(rows * cols)),
            };
            let scales = end.cast::<f32>();
            Planes { codes, lo, scales, sums: scales.add(rows * blocks).cast() }
        }
    }

    /// The first `n` rows of a quantised buffer that has `rows`.
    ///
    /// # Safety
    /// The buffer is inside the region; until the view is dropped nobody writes to it.
    pub(super) unsafe fn q8(&self, buffer: &Buffer, rows: usize, n: usize) -> Q8Activations<'_> {
        let cols = buffer.cols as usize;
        let blocks = cols / ACT_BLOCK;
        debug_assert!(n <= rows);
        // SAFETY: inside; no writers by the caller's promise.
        unsafe {
            let p = self.planes(buffer, rows);
            let codes = |at: *mut i8| core::slice::from_raw_parts(at, n * cols);
            let activations = Q8Activations::new(
                n,
                cols,
                codes(p.codes),
                core::slice::from_raw_parts(p.scales, n * blocks),
                core::slice::from_raw_parts(p.sums, n * cols / ACT_SUM),
            );
            match p.lo {
                Some(lo) => activations.with_low(codes(lo)),
                None => activations,
            }
        }
    }

    /// Columns `col..col + width` (whole blocks) of row `t` of a quantised buffer that has `rows`.
    ///
    /// # Safety
    /// They are inside the region; until the view is dropped nobody else uses them.
    pub(super) unsafe fn q8_row(
        &self,
        buffer: &Buffer,
        rows: usize,
        t: usize,
        (col, width): (usize, usize),
    ) -> Q8RowMut<'_> {
        let cols = buffer.cols as usize;
        let blocks = cols / ACT_BLOCK;
        debug_assert!(t < rows && col + width <= cols && (col | width).is_multiple_of(ACT_BLOCK));
        let (first, n) = (t * blocks + col / ACT_BLOCK, width / ACT_BLOCK);
        // SAFETY: inside; exclusive by the caller's promise.
        unsafe {
            let p = self.planes(buffer, rows);
            let codes =
                |at: *mut i8| core::slice::from_raw_parts_mut(at.add(t * cols + col), width);
            Q8RowMut {
                q: codes(p.codes),
                lo: p.lo.map(codes),
                d: core::slice::from_raw_parts_mut(p.scales.add(first), n),
                s: core::slice::from_raw_parts_mut(
                    p.sums.add((t * cols + col) / ACT_SUM),
                    width / ACT_SUM,
                ),
            }
        }
    }

    /// The first `n` rows of a buffer for ternary weights that has `rows`.
    ///
    /// # Safety
    /// The buffer is inside the region; until the view is dropped nobody writes to it.
    pub(super) unsafe fn wide(
        &self,
        buffer: &Buffer,
        rows: usize,
        n: usize,
    ) -> WideActivations<'_> {
        let cols = buffer.cols as usize;
        let groups = n * cols.div_ceil(WIDE_BLOCK);
        debug_assert!(n <= rows);
        // SAFETY: inside; no writers by the caller's promise.
        unsafe {
            let p = self.planes(buffer, rows);
            WideActivations::new(
                n,
                cols,
                core::slice::from_raw_parts(p.codes, n * cols),
                core::slice::from_raw_parts(p.scales, groups),
                core::slice::from_raw_parts(p.sums, groups),
            )
        }
    }

    /// Columns `col..col + width` (whole groups, as far as the row has them) of row `t` of a buffer
    /// for ternary weights that has `rows`.
    ///
    /// # Safety
    /// They are inside the region; until the view is dropped nobody else uses them.
    pub(super) unsafe fn wide_row(
        &self,
        buffer: &Buffer,
        rows: usize,
        t: usize,
        (col, width): (usize, usize),
    ) -> WideRowMut<'_> {
        let cols = buffer.cols as usize;
        debug_assert!(t < rows && col + width <= cols && col.is_multiple_of(WIDE_BLOCK));
        debug_assert!(width.is_multiple_of(WIDE_BLOCK) || col + width == cols);
        debug_assert!(cols.is_multiple_of(WIDE_UNIT));
        let first = t * cols.div_ceil(WIDE_BLOCK) + col / WIDE_BLOCK;
        let groups = width.div_ceil(WIDE_BLOCK);
        // SAFETY: inside; exclusive by the caller's promise.
        unsafe {
            let p = self.planes(buffer, rows);
            WideRowMut {
                q: core::slice::from_raw_parts_mut(p.codes.add(t * cols + col), width),
                d: core::slice::from_raw_parts_mut(p.scales.add(first), groups),
                s: core::slice::from_raw_parts_mut(p.sums.add(first), groups),
            }
        }
    }
}

/// The parts of a quantised buffer.
struct Planes {
    codes: *mut i8,
    lo: Option<*mut i8>,
    scales: *mut f32,
    sums: *mut i32,
}

/// The cache: for every layer, for every head, keys and then values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cache<'m> {
    pub(super) region: Region<'m>,
    pub(super) layout: KvLayout,
    pub(super) heads: usize,
}

impl<'m> Cache<'m> {
    /// First byte of a head's keys.
    pub(super) fn at(&self, layer: usize, head: usize) -> usize {
        let (keys, values) = head_bytes(&self.layout);
        (layer * self.heads + head) * (keys + values)
    }

    /// A head's keys and values, to be read.
    ///
    /// # Safety
    /// Layer and head exist; until the view is dropped nobody writes to them.
    pub(super) unsafe fn head(&self, layer: usize, head: usize) -> KvHead<'_> {
        let (at, (keys, _)) = (self.at(layer, head), head_bytes(&self.layout));
        let (k, v) = (self.layout.key_bytes(), self.layout.value_bytes());
        debug_assert!(at + keys + v <= self.region.len);
        // SAFETY: inside the region, which is as large as the plan's cache; no writers.
        unsafe {
            let at = self.region.ptr.add(at);
            KvHead::new(
                self.layout,
                core::slice::from_raw_parts(at, k),
                core::slice::from_raw_parts(at.add(keys), v),
            )
        }
    }

    /// A head's keys, to be written.
    ///
    /// # Safety
    /// Layer and head exist; until the slice is dropped nobody else uses these keys.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(super) unsafe fn keys_mut(&self, layer: usize, head: usize) -> &mut [u8] {
        // SAFETY: inside the cache, exclusive by the caller's promise.
        unsafe { self.region.bytes_mut(self.at(layer, head), self.layout.key_bytes()) }
    }

    /// A head's values, to be written.
    ///
    /// # Safety
    /// Layer and head exist; until the slice is dropped nobody else uses these values.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(super) unsafe fn values_mut(&self, layer: usize, head: usize) -> &mut [u8] {
        let at = self.at(layer, head) + head_bytes(&self.layout).0;
        // SAFETY: inside the cache, exclusive by the caller's promise.
        unsafe { self.region.bytes_mut(at, self.layout.value_bytes()) }
    }
}
