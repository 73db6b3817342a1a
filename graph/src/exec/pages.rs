//! Pages: KV caches of layers without a window that the sequences of a runner share.
//!
//! A page holds [`KV_BLOCK`] positions of all such layers. The caller decides which pages a sequence
//! uses, in the order of its positions, and several may use the same one; the runner counts the
//! sequences of each page and refuses steps that would write to one that two of them use.

use core::fmt;
use core::ops::Range;

use teff_kernels::{Backend, KV_BLOCK};

use super::runner::Runner;
use super::sequence::head_ranges;
use crate::plan::{HEADER, PAGES, StateKind, table_len};
use crate::step::{Segment, SequenceId, StepError};
use crate::{RestoreError, TruncateError};

/// Error of changing the pages of a sequence. Nothing is changed in that case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PageError {
    /// The sequence does not exist.
    NoSequence {
        /// Number of the sequence.
        sequence: u16,
        /// Number of sequences.
        sequences: usize,
    },
    /// The page does not exist.
    NoPage {
        /// Number of the page.
        page: u32,
        /// Number of pages.
        pages: usize,
    },
    /// The sequence has all pages that its context needs.
    Full {
        /// Maximum number of pages of a sequence.
        most: usize,
    },
    /// Sequences use the page, which was to be overwritten.
    InUse {
        /// Number of the page.
        page: u32,
        /// Number of sequences that use it.
        sequences: u32,
    },
    /// The position of the sequence is beyond the pages that it would have left.
    Position {
        /// Position of the sequence.
        position: usize,
        /// Pages that would be left, or index of a page that it doesn't have.
        pages: usize,
    },
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PageError::NoSequence { sequence, sequences } => {
                StepError::NoSequence { sequence: *sequence, sequences: *sequences }.fmt(f)
            }
            PageError::NoPage { page, pages } => write!(f, "page {page}, but there are {pages}"),
            PageError::Full { most } => {
                write!(f, "the sequence has all of the {most} pages that its context needs")
            }
            PageError::InUse { page, sequences } => {
                write!(f, "page {page} can't be overwritten: {sequences} sequences use it")
            }
            PageError::Position { position, pages } => {
                write!(f, "{pages} pages don't do for a sequence at position {position}")
            }
        }
    }
}

impl core::error::Error for PageError {}

impl<B: Backend> Runner<'_, B> {
    /// Number of pages.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.plan.options.pages
    }

    /// Numbers of sequences that use each page.
    fn counts(&self) -> &[u32] {
        // SAFETY: inside, at the start of the pool; written between steps only.
        let bytes = unsafe { &self.states.bytes()[..self.pages() * size_of::<u32>()] };
        bytemuck::cast_slice(bytes)
    }

    fn counts_mut(&mut self) -> &mut [u32] {
        let len = self.pages() * size_of::<u32>();
        // SAFETY: inside; the runner is borrowed mutably, so that no step runs.
        bytemuck::cast_slice_mut(unsafe { self.states.bytes_mut(0, len) })
    }

    /// Sets all counts to zero, in a new runner.
    pub(super) fn clear_page_counts(&self) {
        if !PAGES {
            return;
        }
        // SAFETY: inside; called before anyone else has the runner.
        unsafe { self.states.bytes_mut(0, self.pages() * size_of::<u32>()) }.fill(0);
    }

    fn table_range(&self, index: usize, len: usize) -> Range<usize> {
        let at = self.sequence_at(index) + HEADER;
        at..at + len * size_of::<u32>()
    }

    /// Pages of an existing sequence.
    pub(super) fn table(&self, index: usize) -> &[u32] {
        let range = self.table_range(index, self.header(index).pages());
        // SAFETY: inside, of an existing sequence; written between steps only.
        bytemuck::cast_slice(unsafe { &self.states.bytes()[range] })
    }

    fn set_entry(&mut self, index: usize, entry: usize, page: u32) {
        let at = self.table_range(index, entry).end;
        // SAFETY: inside, as the callers have checked; the runner is borrowed mutably.
        let bytes = unsafe { self.states.bytes_mut(at, size_of::<u32>()) };
        bytes.copy_from_slice(&page.to_ne_bytes());
    }

    fn set_pages(&mut self, index: usize, pages: usize) {
        let header = self.header(index).with_pages(pages);
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header) };
    }

    fn known_page(&self, page: u32) -> Result<usize, PageError> {
        match (page as usize) < self.pages() {
            true => Ok(page as usize),
            false => Err(PageError::NoPage { page, pages: self.pages() }),
        }
    }

    fn known_for_pages(&self, SequenceId(sequence): SequenceId) -> Result<usize, PageError> {
        match usize::from(sequence) < self.sequences() {
            true => Ok(sequence.into()),
            false => Err(PageError::NoSequence { sequence, sequences: self.sequences() }),
        }
    }

    /// Pages of a sequence, in the order of its positions; empty in a plan without pages.
    ///
    /// # Panics
    /// If the sequence does not exist.
    #[must_use]
    pub fn pages_of(&self, sequence: SequenceId) -> &[u32] {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        self.table(sequence.0.into())
    }

    /// Number of sequences that use a page.
    ///
    /// # Panics
    /// If the page does not exist.
    #[must_use]
    pub fn page_users(&self, page: u32) -> u32 {
        self.counts()[page as usize]
    }

    /// Adds a page to a sequence, for the positions after those that it has pages for.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn map_page(&mut self, sequence: SequenceId, page: u32) -> Result<(), PageError> {
        let (index, p) = (self.known_for_pages(sequence)?, self.known_page(page)?);
        let (has, most) = (self.header(index).pages(), table_len(&self.plan.options));
        if has >= most {
            return Err(PageError::Full { most });
        }
        self.set_entry(index, has, page);
        self.set_pages(index, has + 1);
        self.counts_mut()[p] += 1;
        Ok(())
    }

    /// Takes all pages but the first `keep` from a sequence.
    ///
    /// # Errors
    /// [`PageError::Position`] if the sequence has positions in the others.
    pub fn unmap_pages(&mut self, sequence: SequenceId, keep: usize) -> Result<(), PageError> {
        let index = self.known_for_pages(sequence)?;
        let header = self.header(index);
        if header.len() > keep.saturating_mul(KV_BLOCK) {
            return Err(PageError::Position { position: header.len(), pages: keep });
        }
        for entry in keep..header.pages() {
            let page = self.table(index)[entry] as usize;
            self.counts_mut()[page] -= 1;
        }
        self.set_pages(index, header.pages().min(keep));
        Ok(())
    }

    /// Copies the contents of a page into another one that no sequence uses.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn copy_page(&mut self, from: u32, to: u32) -> Result<(), PageError> {
        let (from, p) = (self.known_page(from)?, self.known_page(to)?);
        match self.counts()[p] {
            0 => {}
            sequences => return Err(PageError::InUse { page: to, sequences }),
        }
        let slots = |page: usize| page * KV_BLOCK..(page + 1) * KV_BLOCK;
        let options = self.plan.options;
        // SAFETY: the whole region; the runner is borrowed mutably, so that no step runs.
        let all = unsafe { self.states.bytes_mut(0, self.states.len()) };
        for state in self.plan.states.iter().filter(|s| s.is_paged(&options)) {
            let (StateKind::Kv { heads, .. }, Some(layout)) =
                (state.kind, state.kv_layout(&options))
            else {
                continue;
            };
            let ranges = |page: usize, f: &mut dyn FnMut(Range<usize>)| {
                let part = core::iter::once(slots(page));
                head_ranges(state.offset, heads, &layout, part, &mut |r| f(r));
            };
            // A page has the same places in all caches, so that its ranges lie as far apart.
            let mut n = 0;
            ranges(from, &mut |source| {
                let mut i = 0;
                ranges(p, &mut |target| {
                    if i == n {
                        all.copy_within(source.clone(), target.start);
                    }
                    i += 1;
                });
                n += 1;
            });
        }
        Ok(())
    }

    /// Replaces page number `entry` of a sequence by a copy of it in `page`, which no sequence uses, so
    /// that the sequence may write to it.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn own_page(
        &mut self,
        sequence: SequenceId,
        entry: usize,
        page: u32,
    ) -> Result<(), PageError> {
        let index = self.known_for_pages(sequence)?;
        let Some(&old) = self.table(index).get(entry) else {
            return Err(PageError::Position { position: self.header(index).len(), pages: entry });
        };
        self.copy_page(old, page)?;
        self.set_entry(index, entry, page);
        let counts = self.counts_mut();
        counts[old as usize] -= 1;
        counts[page as usize] += 1;
        Ok(())
    }

    /// Replaces page number `entry` of a sequence by `page`. It is up to the caller that it holds the
    /// same keys and values.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn swap_page(
        &mut self,
        sequence: SequenceId,
        entry: usize,
        page: u32,
    ) -> Result<(), PageError> {
        let (index, p) = (self.known_for_pages(sequence)?, self.known_page(page)?);
        let Some(&old) = self.table(index).get(entry) else {
            return Err(PageError::Position { position: self.header(index).len(), pages: entry });
        };
        self.set_entry(index, entry, page);
        let counts = self.counts_mut();
        counts[old as usize] -= 1;
        counts[p] += 1;
        Ok(())
    }

    /// Sets the position of an empty sequence whose pages hold the keys and values of a text's first
    /// `position` tokens, with a checkpoint of the same text at that position (which is empty if
    /// [`Runner::checkpoint_bytes`] is 0). It is up to the caller that they do hold them.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing is changed in that case.
    pub fn adopt(
        &mut self,
        sequence: SequenceId,
        position: usize,
        checkpoint: &[u8],
    ) -> Result<(), RestoreError> {
        let SequenceId(number) = sequence;
        let sequences = self.sequences();
        let index = self
            .known_for_pages(sequence)
            .map_err(|_| RestoreError::NoSequence { sequence: number, sequences })?;
        let (header, most) = (self.header(index), self.plan.options.context);
        if position > most || header.len() > 0 {
            return Err(RestoreError::Position { position, most });
        }
        let needed = if self.pages() == 0 { 0 } else { position.div_ceil(KV_BLOCK) };
        if header.pages() < needed {
            return Err(RestoreError::Pages { needed, got: header.pages() });
        }
        let (needed, got) = (self.checkpoint_bytes(position), checkpoint.len());
        if needed != got {
            return Err(RestoreError::Size { needed, got });
        }
        self.load_checkpoint(index, position, checkpoint);
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header.restored(position)) };
        Ok(())
    }

    /// Empties a sequence and takes its pages.
    ///
    /// # Errors
    /// [`TruncateError::NoSequence`].
    pub fn clear(&mut self, sequence: SequenceId) -> Result<(), TruncateError> {
        self.truncate(sequence, 0)?;
        // Position 0 needs no pages, and the sequence exists.
        let _ = self.unmap_pages(sequence, 0);
        Ok(())
    }

    /// Copies a sequence into another one of this runner, in place of what it was. They share all pages
    /// afterwards.
    ///
    /// # Errors
    /// [`TruncateError::NoSequence`].
    pub fn fork(&mut self, from: SequenceId, to: SequenceId) -> Result<(), TruncateError> {
        let (source, target) = (usize::from(from.0), usize::from(to.0));
        if source >= self.sequences() {
            let sequences = self.sequences();
            return Err(TruncateError::NoSequence { sequence: from.0, sequences });
        }
        if source == target {
            return Ok(());
        }
        self.clear(to)?;
        let bytes = self.plan.memory_requirements.state;
        let (source, to) = (self.sequence_at(source), self.sequence_at(target));
        // SAFETY: the whole region; the runner is borrowed mutably, so that no step runs.
        let all = unsafe { self.states.bytes_mut(0, self.states.len()) };
        all.copy_within(source..source + bytes, to);
        for entry in 0..self.header(target).pages() {
            let page = self.table(target)[entry] as usize;
            self.counts_mut()[page] += 1;
        }
        Ok(())
    }

    /// Checks that a sequence at `position` has pages for the tokens of a segment, and that it alone
    /// uses those that the tokens are written to.
    pub(super) fn check_pages(&self, s: &Segment<'_>, position: usize) -> Result<(), StepError> {
        if !PAGES || self.pages() == 0 {
            return Ok(());
        }
        let SequenceId(sequence) = s.sequence;
        let (table, counts) = (self.table(sequence.into()), self.counts());
        let needed = (position + s.tokens.len()).div_ceil(KV_BLOCK);
        if table.len() < needed {
            return Err(StepError::NoPages { sequence, needed, got: table.len() });
        }
        let mut written = table[position / KV_BLOCK..needed].iter();
        match written.find(|&&page| counts[page as usize] != 1) {
            Some(&page) => Err(StepError::SharedPage { sequence, page }),
            None => Ok(()),
        }
    }

    /// Checks that a sequence alone uses the pages of its first `position` positions.
    pub(super) fn check_own_pages(
        &self,
        index: usize,
        position: usize,
    ) -> Result<(), RestoreError> {
        if self.pages() == 0 {
            return Ok(());
        }
        let (table, counts) = (self.table(index), self.counts());
        let needed = position.div_ceil(KV_BLOCK);
        let got = table.iter().take_while(|&&page| counts[page as usize] == 1).count();
        if got < needed { Err(RestoreError::Pages { needed, got }) } else { Ok(()) }
    }
}
