//! The planner: when buffers live, and where.
//!
//! Operations between two barriers run at the same time, so a buffer lives over phases, not over
//! operations. Placement is greedy, each buffer into the smallest gap that the ones living at the
//! same time leave: once with the largest buffer first, once with the one that lives longest; the
//! smaller arena wins. (What lives through all layers is best out of the way of what takes turns.)

use super::{ALIGN, Buf, BufId, Kind, Op, Options, Rows, To};

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
pub(super) fn uses(op: &Op, mut f: impl FnMut(BufId, Use)) {
    match *op {
        Op::Barrier => {}
        Op::Embed { out, .. } | Op::Angles { out, .. } => f(out, Use::Write),
        Op::Norm { x, out, .. } | Op::Take { x, out } => {
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
                To::Store(b) | To::Qkv { q: b, .. } | To::Q { q: b, .. } => f(b, Use::Write),
                To::Add(b) => f(b, Use::Update),
                To::K { .. } | To::V { .. } => {}
            }
            if let To::Qkv { angles, .. } | To::Q { angles, .. } | To::K { angles, .. } = to
                && let Some(angles) = angles
            {
                f(angles, Use::Read);
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
fn in_place(op: &Op) -> Option<(BufId, BufId)> {
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
pub(super) fn lifetimes(ops: &[Op], bufs: &mut [Buf], logits: BufId) {
    for b in bufs.iter_mut() {
        (b.born, b.dies, b.over) = (u16::MAX, 0, None);
    }
    let last = phases(ops, |phase, op| {
        uses(op, |id, _| {
            let b = &mut bufs[usize::from(id.0)];
            b.born = b.born.min(phase);
            b.dies = b.dies.max(phase);
        });
    });
    bufs[usize::from(logits.0)].dies = last;
    phases(ops, |phase, op| {
        if let Some((x, out)) = in_place(op) {
            let (from, to) = (bufs[usize::from(x.0)], bufs[usize::from(out.0)]);
            let alike = from.kind == Kind::F32
                && (from.kind, from.rows, from.cols) == (to.kind, to.rows, to.cols);
            // Where nothing else of the phase looks at x, its last reader may write over it.
            if alike && from.dies == phase && to.born == phase && readers(ops, phase, x) == 1 {
                bufs[usize::from(out.0)].over = Some(x);
            }
        }
    });
}

/// How often the operations of a phase use a buffer.
pub(super) fn readers(ops: &[Op], phase: u16, buf: BufId) -> usize {
    let mut n = 0;
    phases(ops, |p, op| uses(op, |id, _| n += usize::from(p == phase && id == buf)));
    n
}

/// Whether two buffers are needed at the same time.
pub(super) fn meet(a: &Buf, b: &Buf) -> bool {
    a.born <= b.dies && b.born <= a.dies
}

/// The buffer at the beginning of the chain of takeovers that `id` stands in.
fn root(bufs: &[Buf], mut id: usize) -> usize {
    while let Some(over) = bufs[id].over {
        id = usize::from(over.0);
    }
    id
}

/// Gives every buffer its offset and returns the size of the arena; `None` where sizes overflow.
pub(super) fn place(bufs: &mut [Buf], options: &Options) -> Option<usize> {
    let longest = greedy(bufs, options, |me, _| usize::from(me.dies - me.born))?;
    let largest = greedy(bufs, options, |_, bytes| bytes)?;
    if longest < largest {
        return greedy(bufs, options, |me, _| usize::from(me.dies - me.born));
    }
    Some(largest)
}

/// Places buffers in descending order of `rank` (of a buffer with its whole lifetime, and its
/// bytes), among equals in that of bytes.
fn greedy(
    bufs: &mut [Buf],
    options: &Options,
    rank: impl Fn(&Buf, usize) -> usize,
) -> Option<usize> {
    const UNPLACED: usize = usize::MAX;
    let size = |b: &Buf| {
        let rows = match b.rows {
            Rows::Batch => options.batch,
            Rows::Wanted => options.logits,
        };
        b.bytes(rows)?.checked_next_multiple_of(ALIGN)
    };
    // A chain of takeovers is placed as one: until then its root lives as long as all of it.
    for b in bufs.iter_mut() {
        b.offset = UNPLACED;
    }
    let lifetime = |bufs: &[Buf], id: usize| {
        let mut dies = bufs[id].dies;
        for (i, b) in bufs.iter().enumerate() {
            if b.over.is_some() && root(bufs, i) == id {
                dies = dies.max(b.dies);
            }
        }
        Buf { dies, ..bufs[id] }
    };
    let mut end = 0usize;
    loop {
        let mut first: Option<(usize, (usize, usize))> = None;
        for (i, b) in bufs.iter().enumerate() {
            if b.offset == UNPLACED && b.over.is_none() {
                let bytes = size(b)?;
                let key = (rank(&lifetime(bufs, i), bytes), bytes);
                if first.is_none_or(|(_, most)| key > most) {
                    first = Some((i, key));
                }
            }
        }
        let Some((id, (_, bytes))) = first else { break };
        let me = lifetime(bufs, id);
        let mut best: Option<(usize, usize)> = None; // gap, offset
        // A gap begins where the arena does, or where a buffer ends.
        for from in core::iter::once(None).chain((0..bufs.len()).map(Some)) {
            let start = match from {
                None => 0,
                Some(i) => {
                    let b = &bufs[i];
                    if b.offset == UNPLACED || b.over.is_some() || !meet(&lifetime(bufs, i), &me) {
                        continue;
                    }
                    b.offset.checked_add(size(b)?)?
                }
            };
            let mut gap = usize::MAX - start;
            for (i, b) in bufs.iter().enumerate() {
                if b.offset == UNPLACED || b.over.is_some() || !meet(&lifetime(bufs, i), &me) {
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
        bufs[id].offset = offset;
        end = end.max(offset.checked_add(bytes)?);
    }
    for i in 0..bufs.len() {
        bufs[i].offset = bufs[root(bufs, i)].offset;
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
            -> Buf
        {
            Buf {
                kind: if q8 { Kind::Q16 } else { Kind::F32 },
                rows: if wanted { Rows::Wanted } else { Rows::Batch },
                cols: cols * 32,
                born,
                dies: born + long,
                ..Buf::EMPTY
            }
        }
    }

    fn bytes(b: &Buf) -> usize {
        let rows = if b.rows == Rows::Batch { 4 } else { 2 };
        b.bytes(rows).unwrap().next_multiple_of(ALIGN)
    }

    proptest! {
        #[test]
        fn live_buffers_never_meet_and_no_room_is_wasted_beyond_the_sum(
            mut bufs in prop::collection::vec(buffer(), 1..24),
            overs in prop::collection::vec((0usize..24, 0usize..24), 0..6),
        ) {
            // Some buffers take over the storage of one like them that dies when they are born.
            for (a, b) in overs {
                let (a, b) = (a % bufs.len(), b % bufs.len());
                let taken = bufs.iter().any(|c| c.over == Some(BufId(a as u16)));
                if a == b || taken || bufs[b].over.is_some() || root(&bufs, a) == b {
                    continue;
                }
                let from = bufs[a];
                let long = bufs[b].dies - bufs[b].born;
                bufs[b] = Buf {
                    born: from.dies,
                    dies: from.dies + long,
                    over: Some(BufId(a as u16)),
                    ..from
                };
                // Whoever took over b's storage would have to move along: only ends of chains.
                for c in bufs.iter_mut().filter(|c| c.over == Some(BufId(b as u16))) {
                    c.over = None;
                }
            }
            let arena = place(&mut bufs, &options()).unwrap();
            for (i, a) in bufs.iter().enumerate() {
                prop_assert!(a.offset % ALIGN == 0 && a.offset + bytes(a) <= arena);
                for (j, b) in bufs.iter().enumerate().skip(i + 1) {
                    let apart = a.offset + bytes(a) <= b.offset || b.offset + bytes(b) <= a.offset;
                    let chained = root(&bufs, i) == root(&bufs, j);
                    prop_assert!(!meet(a, b) || apart || chained, "{a:?} and {b:?}");
                }
            }
            let sum: usize = bufs.iter().filter(|b| b.over.is_none()).map(bytes).sum();
            let peak = (0..32u16)
                .map(|p| {
                    let live: Vec<usize> = (0..bufs.len())
                        .filter(|&i| bufs[i].born <= p && p <= bufs[i].dies)
                        .map(|i| root(&bufs, i))
                        .collect();
                    (0..bufs.len()).filter(|i| live.contains(i)).map(|i| bytes(&bufs[i])).sum()
                })
                .max()
                .unwrap_or(0usize);
            prop_assert!(arena <= sum && arena >= peak, "{peak} <= {arena} <= {sum}");
        }
    }
}
