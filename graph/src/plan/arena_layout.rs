//! The planner: when buffers live, and where.
//!
//! Operations between two barriers run at the same time, so a buffer lives over phases, not over
//! operations. Placement is greedy, each buffer into the smallest gap that the ones living at the
//! same time leave: once with the largest buffer first, once with the one that lives longest; the
//! smaller arena wins. (What lives through all layers is best out of the way of what takes turns.)

use super::{ALIGN, Buffer, BufferId, BufferType, Op, Options, Output, RowCount};

/// What an operation does with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Reads it.
    Read,
    /// Writes it, all of it.
    Write,
    /// Reads it and writes it, the same elements.
    Update,
}

/// Calls `f` with every buffer that an operation uses.
pub(super) fn uses(op: &Op, mut f: impl FnMut(BufferId, Use)) {
    match *op {
        Op::Barrier => {}
        Op::Embed { out, .. } | Op::RopeTable { out, .. } => f(out, Use::Write),
        Op::Norm { x, out, .. } | Op::SelectRows { x, out } => {
            f(x, Use::Read);
            f(out, Use::Write);
        }
        Op::NormAdd { x, out, .. } => {
            f(x, Use::Read);
            f(out, Use::Update);
        }
        Op::Linear { x, to, .. } => {
            f(x, Use::Read);
            match to {
                Output::Store(b) | Output::Qkv { q: b, .. } | Output::Q { q: b, .. } => {
                    f(b, Use::Write)
                }
                Output::Add(b) => f(b, Use::Update),
                Output::K { .. } | Output::V { .. } => {}
            }
            if let Output::Qkv { rope, .. } | Output::Q { rope, .. } | Output::K { rope, .. } = to
                && let Some(rope) = rope
            {
                f(rope, Use::Read);
            }
        }
        Op::Gated { x, up_x, out, .. } => {
            f(x, Use::Read);
            if up_x != x {
                f(up_x, Use::Read);
            }
            f(out, Use::Write);
        }
        Op::Attend { q, out, .. } => {
            f(q, Use::Read);
            f(out, Use::Write);
        }
    }
}

/// Input and output of an operation that may have the same storage.
fn in_place(op: &Op) -> Option<(BufferId, BufferId)> {
    match *op {
        Op::Norm { x, out, .. } => Some((x, out)),
        _ => None,
    }
}

/// Calls `f` with every operation and its phase; returns the last phase.
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

/// Finds first and last phase of every buffer, and which take over another's storage.
pub(super) fn lifetimes(ops: &[Op], buffers: &mut [Buffer], logits: BufferId) {
    for b in buffers.iter_mut() {
        (b.born, b.dies, b.over) = (u16::MAX, 0, None);
    }
    let last = phases(ops, |phase, op| {
        uses(op, |id, _| {
            let b = &mut buffers[usize::from(id.0)];
            b.born = b.born.min(phase);
            b.dies = b.dies.max(phase);
        });
    });
    buffers[usize::from(logits.0)].dies = last;
    phases(ops, |phase, op| {
        if let Some((x, out)) = in_place(op) {
            let (from, to) = (buffers[usize::from(x.0)], buffers[usize::from(out.0)]);
            let alike = from.kind == BufferType::F32
                && (from.kind, from.rows, from.cols) == (to.kind, to.rows, to.cols);
            // Where nothing else of the phase looks at x, its last reader may write over it.
            if alike && from.dies == phase && to.born == phase && readers(ops, phase, x) == 1 {
                buffers[usize::from(out.0)].over = Some(x);
            }
        }
    });
}

/// How often the operations of a phase use a buffer.
pub(super) fn readers(ops: &[Op], phase: u16, buffer: BufferId) -> usize {
    let mut n = 0;
    phases(ops, |p, op| uses(op, |id, _| n += usize::from(p == phase && id == buffer)));
    n
}

/// Whether two buffers are needed at the same time.
pub(super) fn meet(a: &Buffer, b: &Buffer) -> bool {
    a.born <= b.dies && b.born <= a.dies
}

/// The buffer at the beginning of the chain of takeovers that `id` stands in.
fn root(buffers: &[Buffer], mut id: usize) -> usize {
    while let Some(over) = buffers[id].over {
        id = usize::from(over.0);
    }
    id
}

/// Gives every buffer its offset and returns the size of the arena; `None` where sizes overflow.
pub(super) fn lay_out(buffers: &mut [Buffer], options: &Options) -> Option<usize> {
    let longest = greedy(buffers, options, |me, _| usize::from(me.dies - me.born))?;
    let largest = greedy(buffers, options, |_, bytes| bytes)?;
    if longest < largest {
        return greedy(buffers, options, |me, _| usize::from(me.dies - me.born));
    }
    Some(largest)
}

/// Places buffers in descending order of `rank` (of a buffer with its whole lifetime, and its
/// bytes), among equals in that of bytes.
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
    // A chain of takeovers is placed as one: until then its root lives as long as all of it.
    for b in buffers.iter_mut() {
        b.offset = UNPLACED;
    }
    let lifetime = |buffers: &[Buffer], id: usize| {
        let mut dies = buffers[id].dies;
        for (i, b) in buffers.iter().enumerate() {
            if b.over.is_some() && root(buffers, i) == id {
                dies = dies.max(b.dies);
            }
        }
        Buffer { dies, ..buffers[id] }
    };
    let mut end = 0usize;
    loop {
        let mut first: Option<(usize, (usize, usize))> = None;
        for (i, b) in buffers.iter().enumerate() {
            if b.offset == UNPLACED && b.over.is_none() {
                let bytes = size(b)?;
                let key = (rank(&lifetime(buffers, i), bytes), bytes);
                if first.is_none_or(|(_, most)| key > most) {
                    first = Some((i, key));
                }
            }
        }
        let Some((id, (_, bytes))) = first else { break };
        let me = lifetime(buffers, id);
        let mut best: Option<(usize, usize)> = None; // gap, offset
        // A gap begins where the arena does, or where a buffer ends.
        for from in core::iter::once(None).chain((0..buffers.len()).map(Some)) {
            let start = match from {
                None => 0,
                Some(i) => {
                    let b = &buffers[i];
                    if b.offset == UNPLACED || b.over.is_some() || !meet(&lifetime(buffers, i), &me)
                    {
                        continue;
                    }
                    b.offset.checked_add(size(b)?)?
                }
            };
            let mut gap = usize::MAX - start;
            for (i, b) in buffers.iter().enumerate() {
                if b.offset == UNPLACED || b.over.is_some() || !meet(&lifetime(buffers, i), &me) {
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
    for i in 0..buffers.len() {
        buffers[i].offset = buffers[root(buffers, i)].offset;
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

    fn options() -> Options {
        Options { batch: 4, logits: 2, context: 8, kv: KvFormat::F32 }
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
            // Some buffers take over the storage of one like them that dies when they are born.
            for (a, b) in overs {
                let (a, b) = (a % buffers.len(), b % buffers.len());
                let taken = buffers.iter().any(|c| c.over == Some(BufferId(a as u16)));
                if a == b || taken || buffers[b].over.is_some() || root(&buffers, a) == b {
                    continue;
                }
                let from = buffers[a];
                let long = buffers[b].dies - buffers[b].born;
                buffers[b] = Buffer {
                    born: from.dies,
                    dies: from.dies + long,
                    over: Some(BufferId(a as u16)),
                    ..from
                };
                // Whoever took over b's storage would have to move along: only ends of chains.
                for c in buffers.iter_mut().filter(|c| c.over == Some(BufferId(b as u16))) {
                    c.over = None;
                }
            }
            let arena = lay_out(&mut buffers, &options()).unwrap();
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
                    let live = (0..buffers.len()).filter(|i| live.contains(i));
                    live.map(|i| bytes(&buffers[i])).sum()
                })
                .max()
                .unwrap_or(0usize);
            prop_assert!(arena <= sum && arena >= peak, "{peak} <= {arena} <= {sum}");
        }
    }
}
