//! Tokens grouped by the experts that they chose, so that an expert's weights are read once for all
//! of them.
//!
//! An entry is a token and one of its experts. Entries are sorted by expert, then by token; every
//! worker makes the same order by itself. The first products write their outputs in that order, so
//! that the last one finds the inputs of an expert one after another.

use core::ops::Range;

use teff_kernels::Backend;

use crate::exec::Worker;
use crate::plan::{ALIGN, Buffer};

/// Entries that a product takes at a time.
pub(super) const ENTRIES: usize = 64;

/// Entries by expert.
pub(super) struct Routes<'a> {
    /// First entry of each expert, and the number of all.
    starts: &'a [u32],
    /// Entries: the token times `used`, plus the place of the expert among the token's.
    entries: &'a [u32],
    used: usize,
}

/// Floats that the tables of so many tokens take.
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
        // SAFETY: rows of a verified buffer, which nobody writes in this phase.
        let chosen = unsafe { worker.read(routes, 0, n) };
        let expert = |t: usize, s: usize| chosen.row(t)[s] as usize;
        starts.fill(0);
        for t in 0..n {
            (0..used).for_each(|s| starts[expert(t, s) + 1] += 1);
        }
        for e in 0..experts {
            starts[e + 1] += starts[e];
        }
        // From the first of each expert on; what has been passed is put back below.
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

    /// The experts that have entries, and these.
    pub(super) fn experts(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let ranges = self.starts.windows(2).map(|w| w[0] as usize..w[1] as usize);
        ranges.enumerate().filter(|(_, entries)| !entries.is_empty())
    }

    /// The token of an entry, and the expert's place among the token's.
    pub(super) fn entry(&self, i: usize) -> (usize, usize) {
        let entry = self.entries[i] as usize;
        (entry / self.used, entry % self.used)
    }

    /// Number of all entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
