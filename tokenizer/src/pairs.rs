//! The merges of a byte-pair encoding, looked up by their two tokens.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::hash::Hasher;
use super::vocab::slots_for;

/// Marks an absent merge, token or neighbour.
pub(super) const NONE: u32 = u32::MAX;

/// A merge that a file lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Merge {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) product: u32,
}

/// The entry that counts of a merge that a file lists several times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// The first, as in llama.cpp.
    First,
    /// The last, as in the `tokenizers` library.
    Last,
}

/// Merges sorted by rank, with a table of their ranks by pair.
#[derive(Clone)]
pub(super) struct Pairs {
    merges: Vec<Merge>,
    /// Open addressing; [`NONE`] in empty slots.
    slots: Vec<u32>,
    hasher: Hasher,
    /// The rank that counts for each merge, if that is another than its index.
    shared: Vec<u32>,
}

impl Pairs {
    /// Merges in rank order; `repeated` gets the index of each that stands there again.
    pub(super) fn new(
        mut merges: Vec<Merge>,
        keep: Keep,
        hasher: Hasher,
        mut repeated: impl FnMut(usize),
    ) -> Self {
        let (slots, shared) = (Vec::new(), Vec::new());
        let mut pairs = Pairs { merges: Vec::new(), slots, hasher, shared };
        let mut lost = pairs.fill(&merges, keep, &mut repeated);
        if !lost.is_empty() {
            lost.sort_unstable();
            let mut index = 0;
            merges.retain(|_| {
                index += 1;
                lost.binary_search(&(index - 1)).is_err()
            });
            pairs.fill(&merges, keep, &mut |_| ());
        }
        merges.shrink_to_fit();
        pairs.merges = merges;
        pairs
    }

    /// Fills the table; returns the indices of merges that don't count.
    fn fill(
        &mut self,
        merges: &[Merge],
        keep: Keep,
        repeated: &mut dyn FnMut(usize),
    ) -> Vec<usize> {
        let mut lost = Vec::new();
        self.slots = vec![NONE; slots_for(merges.len())];
        let mask = self.slots.len() - 1;
        for (rank, m) in merges.iter().enumerate() {
            let mut slot = self.hasher.pair(m.left, m.right) as usize & mask;
            loop {
                let there = self.slots[slot];
                let same = |o: &Merge| (o.left, o.right) == (m.left, m.right);
                if there == NONE {
                    self.slots[slot] = rank as u32;
                    break;
                }
                if same(&merges[there as usize]) {
                    repeated(rank);
                    if keep == Keep::Last {
                        lost.push(there as usize);
                        self.slots[slot] = rank as u32;
                    } else {
                        lost.push(rank);
                    }
                    break;
                }
                slot = (slot + 1) & mask;
            }
        }
        lost
    }

    /// Gives merges that follow each other and make the same token the same rank, so that of several
    /// the leftmost goes first.
    pub(super) fn share_ranks(&mut self) {
        let mut first = 0;
        self.shared = (0u32..)
            .zip(&self.merges)
            .map(|(rank, merge)| {
                if self.merges[first as usize].product != merge.product {
                    first = rank;
                }
                first
            })
            .collect();
    }

    /// All merges, sorted by rank.
    pub(super) fn merges(&self) -> &[Merge] {
        &self.merges
    }

    /// The product of the merge of this rank.
    pub(super) fn product(&self, rank: u32) -> u32 {
        self.merges[rank as usize].product
    }

    /// The rank of the merge of two tokens, or [`NONE`].
    pub(super) fn rank(&self, left: u32, right: u32) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.pair(left, right) as usize & mask;
        loop {
            let rank = self.slots[slot];
            if rank == NONE {
                return NONE;
            }
            let m = &self.merges[rank as usize];
            if (m.left, m.right) == (left, right) {
                return self.shared.get(rank as usize).copied().unwrap_or(rank);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Merges the first `n` of `ids` in place by searching all pairs each time, which is fastest for
    /// few; returns how many remain.
    pub(super) fn merge_few<const MAX: usize>(&self, ids: &mut [u32; MAX], n: usize) -> usize {
        let mut ranks = [NONE; MAX];
        let mut n = n.min(MAX);
        for i in 1..n {
            ranks[i - 1] = self.rank(ids[i - 1], ids[i]);
        }
        while n > 1 {
            let (mut at, mut best) = (0, NONE);
            for (i, &rank) in ranks[..n - 1].iter().enumerate() {
                if rank < best {
                    (at, best) = (i, rank);
                }
            }
            if best == NONE {
                break;
            }
            ids[at] = self.product(best);
            ids.copy_within(at + 2..n, at + 1);
            ranks.copy_within(at + 1..n, at);
            n -= 1;
            if at > 0 {
                ranks[at - 1] = self.rank(ids[at - 1], ids[at]);
            }
            ranks[at] = if at + 1 < n { self.rank(ids[at], ids[at + 1]) } else { NONE };
        }
        n
    }

    /// Merges the nodes of `scratch` and appends what remains to `out`. Every merge is one queue
    /// operation, so `n` nodes take `n log n` steps.
    pub(super) fn merge_many(&self, scratch: &mut MergeScratch, out: &mut Vec<u32>) {
        let MergeScratch { nodes, queue } = scratch;
        if let Some(last) = nodes.last_mut() {
            last.next = NONE;
        }
        let mut entries = core::mem::take(queue).into_vec();
        entries.clear();
        for at in 1..nodes.len() {
            let rank = self.rank(nodes[at - 1].id, nodes[at].id);
            nodes[at - 1].rank = rank;
            if rank != NONE {
                entries.push(entry(rank, at as u32 - 1));
            }
        }
        *queue = BinaryHeap::from(entries);
        while let Some(top) = queue.pop() {
            let (rank, at) = ((!top >> 32) as u32, !top as u32);
            let node = nodes[at as usize];
            // An entry is stale if its pair has changed since.
            if node.rank != rank {
                continue;
            }
            let right = nodes[node.next as usize];
            nodes[node.next as usize].rank = NONE;
            let product = self.product(rank);
            let mut follow = NONE;
            if right.next != NONE {
                nodes[right.next as usize].prev = at;
                follow = self.rank(product, nodes[right.next as usize].id);
                if follow != NONE {
                    queue.push(entry(follow, at));
                }
            }
            nodes[at as usize] =
                Node { id: product, prev: node.prev, next: right.next, rank: follow };
            if node.prev != NONE {
                let before = &mut nodes[node.prev as usize];
                before.rank = self.rank(before.id, product);
                if before.rank != NONE {
                    queue.push(entry(before.rank, node.prev));
                }
            }
        }
        let mut at = 0;
        while let Some(node) = nodes.get(at as usize) {
            out.push(node.id);
            at = node.next;
        }
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let tables = self.slots.capacity() + self.shared.capacity();
        size_of::<Merge>() * self.merges.capacity() + 4 * tables
    }
}

/// A token of a long piece, linked to its neighbours.
#[derive(Clone, Copy, Debug)]
struct Node {
    id: u32,
    prev: u32,
    next: u32,
    /// The rank of the merge with the next token; [`NONE`] if there is none.
    rank: u32,
}

/// A queue entry: the greatest has the lowest rank, then the lowest position.
pub(super) fn entry(rank: u32, at: u32) -> u64 {
    !(u64::from(rank) << 32 | u64::from(at))
}

/// Reusable buffers for merging.
#[derive(Clone, Debug, Default)]
pub(super) struct MergeScratch {
    nodes: Vec<Node>,
    queue: BinaryHeap<u64>,
}

impl MergeScratch {
    /// Starts a piece of up to `n` tokens.
    pub(super) fn start(&mut self, n: usize) {
        self.nodes.clear();
        self.nodes.reserve(n);
    }

    /// Appends a token. A piece has fewer than 2^32.
    pub(super) fn push(&mut self, id: u32) {
        let i = self.nodes.len() as u32;
        self.nodes.push(Node { id, prev: i.wrapping_sub(1), next: i + 1, rank: NONE });
    }
}
