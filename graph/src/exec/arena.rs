//! Views of the memory that a team shares.
//!
//! All of this crate's `unsafe` on memory is here. Its soundness rests on three things: the regions
//! were checked to be as large as the plan needs when the [`super::Runner`] was made; the plan was
//! verified (no two buffers live at the same time overlap, within a phase only one operation
//! touches what is written, barriers separate phases); and workers use only what belongs to items
//! that they have claimed and not yet reported, which are disjoint and of a phase that isn't over
//! (by [`crate::Team`]'s contract).

use core::marker::PhantomData;

use teff_kernels::{
    ACT_BLOCK, ACT_SUM, Activations, DenseActivations, KV_BLOCK, KvHead, KvLayout, Q8Activations,
    Q8RowMut, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRowMut,
};

use crate::plan::{Buffer, BufferType, PAGES, head_bytes};

/// Region of memory in which each worker writes what belongs to its own items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region<'m> {
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
    /// No one may write to the region until the slice is dropped.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the region is a slice borrowed for 'm; no writers by the caller's promise.
        unsafe { core::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// # Safety
    /// `offset..offset + len` is inside, and no one else uses it until the slice is dropped.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(super) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        debug_assert!(offset + len <= self.len);
        // SAFETY: inside the region and exclusive by the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.add(offset), len) }
    }

    /// Rows `first..first + n` of an f32 buffer.
    ///
    /// # Safety
    /// The rows are inside the region, and no one writes to them until the view is dropped.
    pub(super) unsafe fn dense(
        &self,
        buffer: &Buffer,
        first: usize,
        n: usize,
    ) -> DenseActivations<'m> {
        let cols = buffer.cols as usize;
        debug_assert!(buffer.offset + (first + n) * cols * 4 <= self.len);
        // SAFETY: inside, and 4-aligned since offsets are multiples of 64 in a 64-aligned region.
        let data = unsafe {
            let at = self.ptr.add(buffer.offset).cast::<f32>().add(first * cols);
            core::slice::from_raw_parts(at, n * cols)
        };
        DenseActivations::new(data, n, cols, cols)
    }

    /// Columns `col..col + width` of rows `first..first + n` of an f32 buffer, for writing.
    ///
    /// # Safety
    /// They are inside the region, and no one else uses them until the tile is dropped.
    pub(super) unsafe fn tile(
        &self,
        buffer: &Buffer,
        (first, n): (usize, usize),
        (col, width): (usize, usize),
    ) -> Tile<'m> {
        let cols = buffer.cols as usize;
        debug_assert!(col + width <= cols && buffer.offset + (first + n) * cols * 4 <= self.len);
        // SAFETY: inside, aligned as above, exclusive by the caller's promise.
        unsafe {
            let at = self.ptr.add(buffer.offset).cast::<f32>().add(first * cols + col);
            Tile::from_raw(at, n, width, cols)
        }
    }

    /// First bytes of the codes, lower plane, scales and sums of a quantised buffer of `rows` rows.
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

    /// First `n` rows of a buffer that has `rows`, as inputs of a product.
    ///
    /// # Safety
    /// The buffer is inside the region, and no one writes to it until the view is dropped.
    pub(super) unsafe fn activations(
        &self,
        buffer: &Buffer,
        rows: usize,
        n: usize,
    ) -> Activations<'m> {
        // SAFETY: by the caller's promise.
        unsafe {
            match buffer.kind {
                BufferType::F32 => Activations::Dense(self.dense(buffer, 0, n)),
                BufferType::Q8 | BufferType::Q16 => Activations::Q8(self.q8(buffer, rows, n)),
                BufferType::Wide | BufferType::WideRow => {
                    Activations::Wide(self.wide(buffer, rows, n))
                }
            }
        }
    }

    /// Copies rows `row(0), row(1), .., row(n - 1)` of a buffer with `rows` rows, of which
    /// `present` are filled, into `memory`, which is aligned to [`crate::plan::ALIGN`] and has room
    /// for them.
    ///
    /// # Safety
    /// The buffer is inside the region, and no one writes to it during the call.
    pub(super) unsafe fn gather<'g>(
        &self,
        buffer: &Buffer,
        (rows, present): (usize, usize),
        n: usize,
        row: impl Fn(usize) -> usize,
        memory: &'g mut [f32],
    ) -> Activations<'g> {
        let to = Buffer { offset: 0, ..*buffer };
        assert!(to.bytes(n).is_some_and(|b| b <= size_of_val(memory)), "room for the rows");
        let bytes: &'g mut [u8] = bytemuck::cast_slice_mut(memory);
        let out: Region<'g> = Region::new(bytes);
        let cols = (0, buffer.cols as usize);
        for i in 0..n {
            let from = row(i);
            assert!(from < present, "a row of the step");
            // SAFETY: rows inside the region and, of `out`, inside the memory, which is ours.
            unsafe {
                match buffer.kind {
                    BufferType::F32 => {
                        let row = self.dense(buffer, from, 1);
                        out.tile(&to, (i, 1), cols).row(0).copy_from_slice(row.row(0));
                    }
                    BufferType::Q8 | BufferType::Q16 => {
                        let row = self.q8(buffer, rows, present).row(from);
                        let to = out.q8_row(&to, n, i, cols);
                        to.q.copy_from_slice(row.q);
                        if let (Some(to), Some(from)) = (to.lo, row.lo) {
                            to.copy_from_slice(from);
                        }
                        to.d.copy_from_slice(row.d);
                        to.s.copy_from_slice(row.s);
                    }
                    BufferType::Wide | BufferType::WideRow => {
                        let row = self.wide(buffer, rows, present).row(from);
                        let to = out.wide_row(&to, n, i, cols);
                        to.q.copy_from_slice(row.q);
                        to.d.copy_from_slice(row.d);
                        to.s.copy_from_slice(row.s);
                    }
                }
            }
        }
        // SAFETY: the memory is borrowed for 'g, and no one writes to it any more.
        unsafe { out.activations(&to, n, n) }
    }

    /// First `n` rows of a quantised buffer that has `rows`.
    ///
    /// # Safety
    /// The buffer is inside the region, and no one writes to it until the view is dropped.
    pub(super) unsafe fn q8(&self, buffer: &Buffer, rows: usize, n: usize) -> Q8Activations<'m> {
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
    /// They are inside the region, and no one else uses them until the view is dropped.
    pub(super) unsafe fn q8_row(
        &self,
        buffer: &Buffer,
        rows: usize,
        t: usize,
        (col, width): (usize, usize),
    ) -> Q8RowMut<'m> {
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

    /// First `n` rows of a buffer for ternary weights that has `rows`.
    ///
    /// # Safety
    /// The buffer is inside the region, and no one writes to it until the view is dropped.
    pub(super) unsafe fn wide(
        &self,
        buffer: &Buffer,
        rows: usize,
        n: usize,
    ) -> WideActivations<'m> {
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
    /// They are inside the region, and no one else uses them until the view is dropped.
    pub(super) unsafe fn wide_row(
        &self,
        buffer: &Buffer,
        rows: usize,
        t: usize,
        (col, width): (usize, usize),
    ) -> WideRowMut<'m> {
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

/// Parts of a quantised buffer.
struct Planes {
    codes: *mut i8,
    lo: Option<*mut i8>,
    scales: *mut f32,
    sums: *mut i32,
}

/// KV cache of one layer of one sequence, or of all sequences that share it in pages: for every head,
/// its keys and then its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache<'m> {
    region: Region<'m>,
    at: usize,
    heads: usize,
    pub(crate) layout: KvLayout,
    /// Offset and length of the sequence's page table, if it has one.
    table: Option<(usize, usize)>,
}

impl<'m> Cache<'m> {
    /// Cache that begins at byte `at`, whose heads lie inside the region, as does the page table.
    pub(super) fn new(
        region: Region<'m>,
        at: usize,
        heads: usize,
        layout: KvLayout,
        table: Option<(usize, usize)>,
    ) -> Cache<'m> {
        let (keys, values) = head_bytes(&layout);
        debug_assert!(at + heads * (keys + values) <= region.len);
        Cache { region, at, heads, layout, table }
    }

    /// Page table of the sequence; empty if it has none.
    fn pages(&self) -> &'m [u32] {
        if !PAGES {
            return &[];
        }
        let Some((at, len)) = self.table else { return &[] };
        assert!(at.is_multiple_of(4) && at + len * 4 <= self.region.len, "a table of pages");
        // SAFETY: inside and aligned; tables are written between steps only.
        unsafe { core::slice::from_raw_parts(self.region.ptr.add(at).cast::<u32>(), len) }
    }

    /// Position by which [`Backend::store_key`](teff_kernels::Backend::store_key) and `store_value`
    /// find the slot of a position.
    pub(crate) fn stored_at(&self, position: usize) -> usize {
        match self.pages() {
            [] => position,
            pages => pages[position / KV_BLOCK] as usize * KV_BLOCK + position % KV_BLOCK,
        }
    }

    /// Offset of a head's keys.
    fn head_at(&self, head: usize) -> usize {
        let (keys, values) = head_bytes(&self.layout);
        assert!(head < self.heads, "a head of the cache");
        self.at + head * (keys + values)
    }

    /// Keys and values of a head, for reading.
    ///
    /// # Safety
    /// No one may write to them until the view is dropped.
    pub(crate) unsafe fn head(&self, head: usize) -> KvHead<'_> {
        let (at, (keys, _)) = (self.head_at(head), head_bytes(&self.layout));
        let (k, v) = (self.layout.key_bytes(), self.layout.value_bytes());
        debug_assert!(at + keys + v <= self.region.len);
        // SAFETY: inside the region, which is as large as the plan's states; no writers.
        unsafe {
            let at = self.region.ptr.add(at);
            let head = KvHead::new(
                self.layout,
                core::slice::from_raw_parts(at, k),
                core::slice::from_raw_parts(at.add(keys), v),
            );
            match self.pages() {
                [] => head,
                pages => head.with_pages(pages),
            }
        }
    }

    /// Keys of a head, for writing.
    ///
    /// # Safety
    /// No one else may use these keys until the slice is dropped.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(crate) unsafe fn keys_mut(&self, head: usize) -> &mut [u8] {
        // SAFETY: inside the cache, exclusive by the caller's promise.
        unsafe { self.region.bytes_mut(self.head_at(head), self.layout.key_bytes()) }
    }

    /// Values of a head, for writing.
    ///
    /// # Safety
    /// No one else may use these values until the slice is dropped.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(crate) unsafe fn values_mut(&self, head: usize) -> &mut [u8] {
        let at = self.head_at(head) + head_bytes(&self.layout).0;
        // SAFETY: inside the cache, exclusive by the caller's promise.
        unsafe { self.region.bytes_mut(at, self.layout.value_bytes()) }
    }
}

/// One bank of a fixed state of a sequence, or the part of it that belongs to a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bank<'m> {
    region: Region<'m>,
    at: usize,
    len: usize,
}

impl<'m> Bank<'m> {
    /// Bank of the `len` bytes from `at` on, which must be inside the region and aligned to four.
    ///
    /// # Safety
    /// While the bank is in use, each element is written by at most one worker, and read by no
    /// other at the same time.
    pub(super) unsafe fn new(region: Region<'m>, at: usize, len: usize) -> Bank<'m> {
        assert!(at.is_multiple_of(4) && at + len <= region.len, "a bank of the state");
        Bank { region, at, len }
    }

    /// Elements `from..from + n`.
    pub(crate) fn floats(&self, from: usize, n: usize) -> &[f32] {
        assert!((from + n) * 4 <= self.len, "elements of the bank");
        // SAFETY: inside the bank and aligned; not written meanwhile by the promise of `new`.
        unsafe {
            core::slice::from_raw_parts(self.region.ptr.add(self.at).cast::<f32>().add(from), n)
        }
    }

    /// Elements `from..from + n`, for writing.
    #[allow(clippy::mut_from_ref)] // the point of the module
    pub(crate) fn floats_mut(&self, from: usize, n: usize) -> &mut [f32] {
        assert!((from + n) * 4 <= self.len, "elements of the bank");
        // SAFETY: inside the bank and aligned; used by no one else, by the promise of `new`.
        unsafe {
            core::slice::from_raw_parts_mut(self.region.ptr.add(self.at).cast::<f32>().add(from), n)
        }
    }
}
