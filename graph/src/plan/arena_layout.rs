//! The arena layout: lifetimes and offsets of buffers.
//!
//! Operations between two barriers run at the same time, so lifetimes are counted in phases, not in
//! operations. Placement is greedy: each buffer goes into the smallest gap left by the buffers that
//! are live at the same time. It is tried twice, with the largest buffer first and with the
//! longest-lived one first, and the smaller arena wins. (A buffer that lives through all layers is
//! best kept out of the way of those that take turns.)

use super::{ALIGN, Buffer, BufferId, BufferType, Options, RowCount};
use crate::ops::Op;

/// Calls `f` with every operation and its phase, and returns the last phase.
pub(super) fn phases(ops: &[Op], mut f: impl FnMut(u16, &Op)) -> u16 {
    let mut phase = 0u16;
    for op in ops {
        if *op == Op::Barrier {
            phase = phase.saturating_add(1);
        } else {
            f(phase, op);
        }
    }
    phase
}

/// Computes the first and last phase of every buffer, and finds the buffers that reuse another's
/// storage. Outputs live until the end.
pub(super) fn lifetimes(
    ops: &[Op],
    buffers: &mut [Buffer],
    outputs: impl Iterator<Item = BufferId>,
) {
    for b in buffers.iter_mut() {
        (b.born, b.dies, b.over) = (u16::MAX, 0, None);
    }
    let last = phases(ops, |phase, op| {
        op.buffers(&mut |id, _| {
            let b = &mut buffers[id.index()];
            b.born = b.born.min(phase);
            b.dies = b.dies.max(phase);
        });
    });
    for output in outputs {
        buffers[output.index()].dies = last;
    }
    phases(ops, |phase, op| {
        if let Some((x, out)) = op.in_place() {
            let (from, to) = (buffers[x.index()], buffers[out.index()]);
            let alike = from.kind == BufferType::F32
                && (from.kind, from.rows, from.cols) == (to.kind, to.rows, to.cols);
            // If no other operation of the phase reads x, its last reader may overwrite it.
            if alike && from.dies == phase && to.born == phase && readers(ops, phase, x) == 1 {
                buffers[out.index()].over = Some(x);
            }
        }
    });
}

/// Number of times that the operations of a phase use a buffer.
pub(super) fn readers(ops: &[Op], phase: u16, buf: BufferId) -> usize {
    let mut n = 0;
    phases(ops, |p, op| op.buffers(&mut |id, _| n += usize::from(p == phase && id == buf)));
    n
}

/// True if two buffers are live at the same time.
pub(super) fn meet(a: &Buffer, b: &Buffer) -> bool {
    a.born <= b.dies && b.born <= a.dies
}

/// First buffer of the chain of reused storage that contains `id`.
fn root(buffers: &[Buffer], mut id: usize) -> usize {
    while let Some(over) = buffers[id].over {
        id = over.index();
    }
    id
}

/// Gives every buffer its offset and returns the size of the arena; `None` if sizes overflow.
pub(super) fn arena_layout(buffers: &mut [Buffer], options: &Options) -> Option<usize> {
    let longest = greedy(buffers, options, |me, _| usize::from(me.dies - me.born))?;
    let largest = greedy(buffers, options, |_, bytes| bytes)?;
    if longest < largest {
        return greedy(buffers, options, |me, _| usize::from(me.dies - me.born));
    }
    Some(largest)
}

/// Places buffers in descending order of `rank` (computed from a buffer with its whole lifetime,
/// and its size in bytes); ties are placed in descending order of size.
fn greedy(
    buffers: &mut [Buffer],
    options: &Options,
    rank: impl Fn(&Buffer, usize) -> usize,
) -> Option<usize> {
    const UNPLACED: usize = usize::MAX;
    let size = |b: &Buffer| {
        let rows = match b.rows {
            RowCount::Batch => options.batch,
            RowCount::Wanted => options.logits,
        };
        b.bytes(rows)?.checked_next_multiple_of(ALIGN)
    };
    // A chain of reused storage is placed as one: its root stays live as long as all of the chain.
    // Until the end, the offset of a buffer that reuses storage is the end of its root's life before it
    // was extended by that buffer: there is nowhere else to keep it without alloc.
    for b in buffers.iter_mut() {
        b.offset = UNPLACED;
    }
    for i in 0..buffers.len() {
        if buffers[i].over.is_some() {
            let (root, dies) = (root(buffers, i), buffers[i].dies);
            buffers[i].offset = buffers[root].dies.into();
            buffers[root].dies = buffers[root].dies.max(dies);
        }
    }
    let mut end = 0usize;
    loop {
        let mut first: Option<(usize, (usize, usize))> = None;
        for (i, b) in buffers.iter().enumerate() {
            if b.offset == UNPLACED && b.over.is_none() {
                let bytes = size(b)?;
                let key = (rank(b, bytes), bytes);
                if first.is_none_or(|(_, most)| key > most) {
                    first = Some((i, key));
                }
            }
        }
        let Some((id, (_, bytes))) = first else { break };
        let me = buffers[id];
        let mut best: Option<(usize, usize)> = None; // gap, offset
        // A gap begins at the start of the arena or at the end of a buffer.
        for from in core::iter::once(None).chain((0..buffers.len()).map(Some)) {
            let start = match from {
                None => 0,
                Some(i) => {
                    let b = &buffers[i];
                    if b.offset == UNPLACED || b.over.is_some() || !meet(b, &me) {
                        continue;
                    }
                    b.offset.checked_add(size(b)?)?
                }
            };
            let mut gap = usize::MAX - start;
            for b in buffers.iter() {
                if b.offset == UNPLACED || b.over.is_some() || !meet(b, &me) {
                    continue;
                }
                if b.offset + size(b)? > start {
                    gap = gap.min(b.offset.saturating_sub(start));
                }
            }
            if gap >= bytes && best.is_none_or(|(g, _)| gap < g) {
                best = Some((gap, start));
            }
        }
        let (_, offset) = best?;
        buffers[id].offset = offset;
        end = end.max(offset.checked_add(bytes)?);
    }
    for i in (0..buffers.len()).rev() {
        if buffers[i].over.is_some() {
            let root = root(buffers, i);
            buffers[root].dies = buffers[i].offset as u16;
            buffers[i].offset = buffers[root].offset;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;
    use teff_kernels::KvFormat;

    use super::*;
    use crate::plan::Outputs;

    fn options() -> Options {
        Options {
            batch: 4,
            logits: 2,
            context: 8,
            kv: KvFormat::F32,
            outputs: Outputs::Logits,
            pages: 0,
        }
    }

    prop_compose! {
        fn buffer()(cols in 1u32..64, q8: bool, wanted: bool, born in 0u16..12, long in 0u16..6)
            -> Buffer
        {
            Buffer {
                kind: if q8 { BufferType::Q16 } else { BufferType::F32 },
                rows: if wanted { RowCount::Wanted } else { RowCount::Batch },
                cols: cols * 32,
                born,
                dies: born + long,
                ..Buffer::EMPTY
            }
        }
    }

    fn bytes(b: &Buffer) -> usize {
        let rows = if b.rows == RowCount::Batch { 4 } else { 2 };
        b.bytes(rows).unwrap().next_multiple_of(ALIGN)
    }

    proptest! {
        #[test]
        fn live_buffers_never_meet_and_no_room_is_wasted_beyond_the_sum(
            mut buffers in prop::collection::vec(buffer(), 1..24),
            overs in prop::collection::vec((0usize..24, 0usize..24), 0..6),
        ) {
            // Some buffers reuse the storage of a similar buffer that dies when they are born.
            for (a, b) in overs {
                let (a, b) = (a % buffers.len(), b % buffers.len());
                let taken = buffers.iter().any(|c| c.over == Some(BufferId::new(a as u16)));
                if a == b || taken || buffers[b].over.is_some() || root(&buffers, a) == b {
                    continue;
                }
                let from = buffers[a];
                let long = buffers[b].dies - buffers[b].born;
                buffers[b] = Buffer {
                    born: from.dies,
                    dies: from.dies + long,
                    over: Some(BufferId::new(a as u16)),
                    ..from
                };
                // A buffer that reuses b's storage would have to move along, so only ends of chains
                // qualify.
                for c in buffers.iter_mut().filter(|c| c.over == Some(BufferId::new(b as u16))) {
                    c.over = None;
                }
            }
            let arena = arena_layout(&mut buffers, &options()).unwrap();
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(a.offset % ALIGN == 0 && a.offset + bytes(a) <= arena);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let apart = a.offset + bytes(a) <= b.offset || b.offset + bytes(b) <= a.offset;
                    let chained = root(&buffers, i) == root(&buffers, j);
                    prop_assert!(!meet(a, b) || apart || chained, "{a:?} and {b:?}");
                }
            }
            let sum: usize = buffers.iter().filter(|b| b.over.is_none()).map(bytes).sum();
            let peak = (0..32u16)
                .map(|p| {
                    let live: Vec<usize> = (0..buffers.len())
                        .filter(|&i| buffers[i].born <= p && p <= buffers[i].dies)
                        .map(|i| root(&buffers, i))
                        .collect();
                    (0..buffers.len()).filter(|i| live.contains(i)).map(|i| bytes(&buffers[i])).sum()
                })
                .max()
                .unwrap_or(0usize);
            prop_assert!(arena <= sum && arena >= peak, "{peak} <= {arena} <= {sum}");
        }
    }
}
