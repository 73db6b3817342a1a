//! Tokens grouped by the experts that they chose, so that an expert's weights are read once for all
//! of them.
//!
//! An entry is a token and one of its experts. Entries are sorted by expert, then by token; every
//! worker computes the same order by itself. The first products write their outputs in that order,
//! so that the last one finds the inputs of an expert contiguous.

use core::ops::Range;

use teff_kernels::Backend;

use crate::exec::Worker;
use crate::plan::{ALIGN, Buffer};

/// Parts of each worker's share of the experts' work that are worth a claim: the order is computed
/// anew for each.
pub(super) const CLAIMS: usize = 8;

/// Entries that a product processes at a time.
pub(super) const ENTRIES: usize = 64;

/// Entries by expert.
pub(super) struct Routes<'a> {
    /// First entry of each expert, then the number of all entries.
    starts: &'a [u32],
    /// Entries: the token times `used`, plus the index of the expert among the token's.
    entries: &'a [u32],
    used: usize,
}

/// Floats needed for the tables of `rows` tokens.
pub(super) fn floats(experts: u16, used: u16, rows: usize) -> Option<usize> {
    let entries = rows.checked_mul(used.into())?;
    entries.checked_add(usize::from(experts) + 1)?.checked_next_multiple_of(ALIGN / 4)
}

impl<'a> Routes<'a> {
    /// Sorts the entries of the buffer `routes` in `memory`, of [`floats`] elements.
    pub(super) fn new<B: Backend>(
        worker: &Worker<'_, '_, '_, B>,
        routes: &Buffer,
        (experts, used): (u16, u16),
        memory: &'a mut [f32],
    ) -> Routes<'a> {
        let (experts, used) = (usize::from(experts), usize::from(used));
        let n = worker.rows(routes.rows);
        let memory: &mut [u32] = bytemuck::cast_slice_mut(memory);
        let (starts, entries) = memory.split_at_mut(experts + 1);
        let entries = &mut entries[..n * used];
        // SAFETY: rows of a verified buffer, which no one writes in this phase.
        let chosen = unsafe { worker.read(routes, 0, n) };
        let expert = |t: usize, s: usize| chosen.row(t)[s] as usize;
        starts.fill(0);
        for t in 0..n {
            (0..used).for_each(|s| starts[expert(t, s) + 1] += 1);
        }
        for e in 0..experts {
            starts[e + 1] += starts[e];
        }
        // Counts up from the first entry of each expert; the starts are restored below.
        for t in 0..n {
            for s in 0..used {
                let next = &mut starts[expert(t, s)];
                entries[*next as usize] = (t * used + s) as u32;
                *next += 1;
            }
        }
        starts.copy_within(..experts, 1);
        starts[0] = 0;
        Routes { starts, entries, used }
    }

    /// Experts that have entries, with the ranges of these.
    pub(super) fn experts(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let ranges = self.starts.windows(2).map(|w| w[0] as usize..w[1] as usize);
        ranges.enumerate().filter(|(_, entries)| !entries.is_empty())
    }

    /// Token of an entry, and the index of the expert among the token's.
    pub(super) fn entry(&self, i: usize) -> (usize, usize) {
        let entry = self.entries[i] as usize;
        (entry / self.used, entry % self.used)
    }

    /// Number of all entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
