//! The KV cache of one head of one layer: keys and values of the positions so far.
//!
//! Attention multiplies one query with many keys, so keys lie in panels of sixteen positions, a
//! row of the panel holding one element of sixteen keys: sums over the head width then need no
//! sum across lanes. Values lie one position after another, in rows filled up to sixteen.

use core::ops::Range;

use bytemuck::{Pod, cast_slice, cast_slice_mut};

use crate::lanes::LANES;

/// Positions that attention processes at a time; capacities are multiples of it.
pub const KV_BLOCK: usize = 64;

/// Format of keys and values in the cache.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KvFormat {
    /// As f32: no loss.
    F32,
    /// As f16, rounded to nearest.
    F16,
    /// As int8 with one f32 scale for each position of a head.
    Q8,
}

impl KvFormat {
    /// All of them.
    pub const ALL: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Q8];

    /// The name that the command line uses: `f32`, `f16` or `q8`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            KvFormat::F32 => "f32",
            KvFormat::F16 => "f16",
            KvFormat::Q8 => "q8",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<KvFormat> {
        KvFormat::ALL.into_iter().find(|f| f.name() == name)
    }

    const fn element_bytes(self) -> usize {
        match self {
            KvFormat::F32 => 4,
            KvFormat::F16 => 2,
            KvFormat::Q8 => 1,
        }
    }

    const fn scale_bytes(self) -> usize {
        match self {
            KvFormat::Q8 => 4,
            _ => 0,
        }
    }
}

/// Shape and format of one head's cache.
///
/// ```
/// use teff_kernels::{KvFormat, KvLayout};
///
/// let layout = KvLayout { format: KvFormat::Q8, head_dim: 64, capacity: 128 };
/// assert_eq!(layout.key_bytes(), 128 * (64 + 4)); // codes, and one scale for each position
///
/// // Positions beyond the capacity take the place of the oldest.
/// assert_eq!((layout.slot(100), layout.slot(130)), (100, 2));
/// assert_eq!(layout.slots(100..140), [100..128, 0..12]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvLayout {
    /// Format of the elements.
    pub format: KvFormat,
    /// Elements of a key or a value.
    pub head_dim: usize,
    /// Slots for positions, a multiple of [`KV_BLOCK`]. A cache shorter than the text is a ring, enough
    /// for attention with a window: see [`KvLayout::slot`].
    pub capacity: usize,
}

impl KvLayout {
    /// Elements of a value's row: the head width, filled up to sixteen lanes.
    #[must_use]
    pub const fn value_stride(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Bytes of the keys of all positions, with their scales.
    #[must_use]
    pub const fn key_bytes(&self) -> usize {
        self.capacity * (self.head_dim * self.format.element_bytes() + self.format.scale_bytes())
    }

    /// Bytes of the values of all positions, with their scales.
    #[must_use]
    pub const fn value_bytes(&self) -> usize {
        self.capacity
            * (self.value_stride() * self.format.element_bytes() + self.format.scale_bytes())
    }

    /// Bytes of the keys' elements alone, where the scales begin.
    const fn key_elements(&self) -> usize {
        self.capacity * self.head_dim * self.format.element_bytes()
    }

    const fn value_elements(&self) -> usize {
        self.capacity * self.value_stride() * self.format.element_bytes()
    }

    /// The slot of a position: the cache is a ring, in which a position takes the place of the one
    /// `capacity` before it.
    ///
    /// # Panics
    /// If there are no slots.
    #[inline(always)]
    #[must_use]
    pub const fn slot(&self, position: usize) -> usize {
        // The division is for rings only.
        if position < self.capacity { position } else { position % self.capacity }
    }

    /// The slots of a range of positions, the last `capacity` of them at most, as ranges in the order of
    /// the positions; the second is empty where the ring doesn't begin anew among them.
    ///
    /// # Panics
    /// If there are positions, but no slots.
    #[must_use]
    pub fn slots(&self, positions: Range<usize>) -> [Range<usize>; 2] {
        let len = positions.len().min(self.capacity);
        let first = if len == 0 { 0 } else { self.slot(positions.end - len) };
        let end = (first + len).min(self.capacity);
        [first..end, 0..first + len - end]
    }

    /// The parts of the keys that a range of slots occupies (in whole panels of sixteen): elements and
    /// scales, as ranges of bytes. What a snapshot keeps.
    #[must_use]
    pub const fn key_ranges(&self, slots: Range<usize>) -> [Range<usize>; 2] {
        let slot = self.head_dim * self.format.element_bytes();
        self.ranges(slots, slot, self.key_elements())
    }

    /// The parts of the values that a range of slots occupies, as [`KvLayout::key_ranges`].
    #[must_use]
    pub const fn value_ranges(&self, slots: Range<usize>) -> [Range<usize>; 2] {
        let slot = self.value_stride() * self.format.element_bytes();
        self.ranges(slots, slot, self.value_elements())
    }

    /// The bytes of the panels around `slots`, of elements that take `slot` bytes for each, and of their
    /// scales, which begin at `scales`.
    const fn ranges(&self, slots: Range<usize>, slot: usize, scales: usize) -> [Range<usize>; 2] {
        let (start, end) = (slots.start / LANES * LANES, slots.end.next_multiple_of(LANES));
        let scale = self.format.scale_bytes();
        [start * slot..end * slot, scales + start * scale..scales + end * scale]
    }

    /// [`KvLayout::key_ranges`] of the slots `0..len`.
    #[must_use]
    pub const fn key_prefix(&self, len: usize) -> [Range<usize>; 2] {
        self.key_ranges(0..len)
    }

    /// [`KvLayout::value_ranges`] of the slots `0..len`.
    #[must_use]
    pub const fn value_prefix(&self, len: usize) -> [Range<usize>; 2] {
        self.value_ranges(0..len)
    }
}

/// The cache of one head, to be read.
///
/// ```
/// use bytemuck::{cast_slice, cast_slice_mut};
/// use teff_kernels::{AttentionParams, Backend, Cpu, DenseActivations, KvFormat, KvHead, KvLayout, Tile};
///
/// let layout = KvLayout { format: KvFormat::F32, head_dim: 2, capacity: 64 };
/// let mut keys = vec![0f32; layout.key_bytes() / 4];
/// let mut values = vec![0f32; layout.value_bytes() / 4];
/// for (position, value) in [[1.0, 2.0], [3.0, 4.0]].iter().enumerate() {
///     Cpu::best().store_key(&layout, cast_slice_mut(&mut keys), position, &[1.0, 0.0]);
///     Cpu::best().store_value(&layout, cast_slice_mut(&mut values), position, value);
/// }
///
/// // The keys are equal, so the query at position 1 gets the mean of both values.
/// let head = KvHead::new(layout, cast_slice(&keys), cast_slice(&values));
/// let (query, mut out) = (DenseActivations::new(&[1.0, 1.0], 1, 2, 2), [0.0; 2]);
/// Cpu::best().attend(&query, &head, 1, &AttentionParams::new(1.0), &mut Tile::new(&mut out, 1, 2, 2));
/// assert_eq!(out, [2.0, 3.0]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct KvHead<'a> {
    pub(crate) layout: KvLayout,
    pub(crate) keys: &'a [u8],
    pub(crate) values: &'a [u8],
    /// Blocks of the cache in which those of the text lie; empty for a ring.
    pub(crate) pages: &'a [u32],
}

impl<'a> KvHead<'a> {
    /// The head whose keys and values these are.
    ///
    /// # Panics
    /// If a slice has not the layout's length or is not aligned to 4 bytes, or the capacity is
    /// not a multiple of [`KV_BLOCK`].
    #[must_use]
    pub fn new(layout: KvLayout, keys: &'a [u8], values: &'a [u8]) -> Self {
        assert!(keys.len() == layout.key_bytes() && values.len() == layout.value_bytes());
        assert!(layout.capacity.is_multiple_of(KV_BLOCK));
        assert!(
            keys.as_ptr().cast::<f32>().is_aligned() && values.as_ptr().cast::<f32>().is_aligned()
        );
        KvHead { layout, keys, values, pages: &[] }
    }

    /// The same with a page table: block `b` of the text, which is positions `b * KV_BLOCK` to
    /// `(b + 1) * KV_BLOCK`, lies in block `pages[b]` of the cache, and thus position `p` in slot
    /// `pages[p / KV_BLOCK] * KV_BLOCK + p % KV_BLOCK`.
    ///
    /// # Panics
    /// If the table is empty. Attention panics where it needs a block beyond the cache.
    #[must_use]
    pub fn with_pages(self, pages: &'a [u32]) -> Self {
        assert!(!pages.is_empty(), "a page table has pages");
        KvHead { pages, ..self }
    }

    /// Positions that there is room for; of a ring, of those that are kept.
    #[inline(always)]
    pub(crate) fn positions(&self) -> usize {
        if self.pages.is_empty() { self.layout.capacity } else { self.pages.len() * KV_BLOCK }
    }

    /// Block of the cache in which block `b` of the text lies.
    #[inline(always)]
    pub(crate) fn place(&self, b: usize) -> usize {
        if !self.pages.is_empty() {
            return self.pages[b] as usize;
        }
        let ring = self.layout.capacity / KV_BLOCK;
        // The division is for rings only.
        if b < ring { b } else { b % ring }
    }

    /// Its shape and format.
    #[inline]
    #[must_use]
    pub fn layout(&self) -> KvLayout {
        self.layout
    }

    /// Keys by panels: `[panel * head_dim + d][lane]`.
    #[inline(always)]
    pub(crate) fn key_panels<T: Pod>(&self) -> &'a [[T; LANES]] {
        cast_slice(&self.keys[..self.layout.key_elements()])
    }

    /// The scales of the keys (Q8), sixteen positions at a time.
    #[inline(always)]
    pub(crate) fn key_scales(&self) -> &'a [[f32; LANES]] {
        cast_slice(&self.keys[self.layout.key_elements()..])
    }

    /// Values by rows of sixteen lanes: `[position * stride / 16 + d / 16][d % 16]`.
    #[inline(always)]
    pub(crate) fn value_rows<T: Pod>(&self) -> &'a [[T; LANES]] {
        cast_slice(&self.values[..self.layout.value_elements()])
    }

    /// The scales of the values (Q8), sixteen positions at a time.
    #[inline(always)]
    pub(crate) fn value_scales(&self) -> &'a [[f32; LANES]] {
        cast_slice(&self.values[self.layout.value_elements()..])
    }
}

/// Writes the key of `position` into its slot of the keys of a head.
#[inline(always)]
pub(crate) fn store_key<L: crate::lanes::Lanes>(
    layout: &KvLayout,
    keys: &mut [u8],
    position: usize,
    key: &[f32],
) {
    assert!(key.len() == layout.head_dim && layout.capacity > 0);
    assert!(keys.len() == layout.key_bytes());
    let slot = layout.slot(position);
    let (panel, lane) = (slot / LANES, slot % LANES);
    let first = panel * layout.head_dim;
    let (elements, scales) = keys.split_at_mut(layout.key_elements());
    match layout.format {
        KvFormat::F32 => {
            let rows: &mut [[f32; LANES]] = cast_slice_mut(elements);
            for (row, &k) in rows[first..].iter_mut().zip(key) {
                row[lane] = k;
            }
        }
        KvFormat::F16 => {
            let rows: &mut [[[u8; 2]; LANES]] = cast_slice_mut(elements);
            to_f16::<L>(key, |d, k| rows[first + d][lane] = k);
        }
        KvFormat::Q8 => {
            let rows: &mut [[i8; LANES]] = cast_slice_mut(elements);
            let scales: &mut [f32] = cast_slice_mut(scales);
            scales[slot] = to_q8::<L>(key, |d, k| rows[first + d][lane] = k);
        }
    }
}

/// Writes the value of `position` into its slot of the values of a head.
#[inline(always)]
pub(crate) fn store_value<L: crate::lanes::Lanes>(
    layout: &KvLayout,
    values: &mut [u8],
    position: usize,
    value: &[f32],
) {
    assert!(value.len() == layout.head_dim && layout.capacity > 0);
    assert!(values.len() == layout.value_bytes());
    let (slot, stride) = (layout.slot(position), layout.value_stride());
    let (elements, scales) = values.split_at_mut(layout.value_elements());
    match layout.format {
        KvFormat::F32 => {
            let row = &mut cast_slice_mut::<u8, f32>(elements)[slot * stride..][..stride];
            row[..value.len()].copy_from_slice(value);
            row[value.len()..].fill(0.0);
        }
        KvFormat::F16 => {
            let row = &mut cast_slice_mut::<u8, [u8; 2]>(elements)[slot * stride..][..stride];
            to_f16::<L>(value, |d, v| row[d] = v);
            row[value.len()..].fill([0; 2]);
        }
        KvFormat::Q8 => {
            let row = &mut cast_slice_mut::<u8, i8>(elements)[slot * stride..][..stride];
            let scales: &mut [f32] = cast_slice_mut(scales);
            scales[slot] = to_q8::<L>(value, |d, v| row[d] = v);
            row[value.len()..].fill(0);
        }
    }
}

/// Gives `put` each element as f16.
#[inline(always)]
fn to_f16<L: crate::lanes::Lanes>(x: &[f32], mut put: impl FnMut(usize, [u8; 2])) {
    let mut half = [[0; 2]; LANES];
    for (i, c) in x.chunks(LANES).enumerate() {
        L::load(&crate::ops::padded(c, 0.0)).store_f16(&mut half);
        for (j, h) in half.into_iter().take(c.len()).enumerate() {
            put(i * LANES + j, h);
        }
    }
}

/// Gives `put` each element as int8 and returns the scale, by the formula of quantised
/// activations with the whole row as one block.
#[inline(always)]
fn to_q8<L: crate::lanes::Lanes>(x: &[f32], mut put: impl FnMut(usize, i8)) -> f32 {
    let mut m = L::splat(0.0);
    for c in x.chunks(LANES) {
        m = L::load(&crate::ops::padded(c, 0.0)).abs().max(m);
    }
    let amax = m.largest();
    let id = L::splat(127.0 / amax);
    let mut codes = [0; LANES];
    for (i, c) in x.chunks(LANES).enumerate() {
        let t = L::load(&crate::ops::padded(c, 0.0)).mul(id).round();
        let t = t.abs().select_le(L::splat(127.0), t, L::splat(0.0));
        L::store_int(t.to_int(), &mut codes);
        for (j, q) in codes.into_iter().take(c.len()).enumerate() {
            put(i * LANES + j, q as i8);
        }
    }
    amax / 127.0
}
