//! Pages and the prefix cache: which page holds what, who uses it, and which one is given up next.
//!
//! Prefixes of texts are a tree. A node is a page: its edge is the tokens of the page's positions, and
//! its children continue the same text. Full pages have [`PAGE`] tokens; a page with fewer is a leaf.
//! Pages of running sequences are in the tree as soon as they are full, so that equal prefixes are
//! computed once, and stay when the sequence has ended until their room is needed: then the least
//! recently used leaf that no sequence uses goes first. A page that a sequence uses is never given up.

use super::PAGE;

/// No page.
const NONE: u32 = u32::MAX;

/// Place in the least recently used order of a page that can't be given up.
const PINNED: u64 = u64::MAX;

/// Page of the tree, or outside of it.
#[derive(Clone, Debug)]
struct Node {
    /// Sequences that use the page.
    users: u32,
    /// True if it is in the tree.
    cached: bool,
    parent: u32,
    first_child: u32,
    next: u32,
    previous: u32,
    /// Checkpoint of the states at the page's end.
    checkpoint: u32,
    /// Number of `tokens`.
    len: usize,
    tokens: [u32; PAGE],
    /// Moment of the last use.
    used: u64,
}

impl Node {
    const EMPTY: Node = Node {
        users: 0,
        cached: false,
        parent: NONE,
        first_child: NONE,
        next: NONE,
        previous: NONE,
        checkpoint: NONE,
        len: 0,
        tokens: [0; PAGE],
        used: 0,
    };

    fn tokens(&self) -> &[u32] {
        &self.tokens[..self.len]
    }
}

/// Longest prefix of a text that the tree has, beyond its full pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Partial {
    /// Page whose first positions continue the prefix.
    pub(super) page: u32,
    /// Number of those positions, at least 1.
    pub(super) positions: usize,
}

/// All pages of an engine.
#[derive(Debug)]
pub(super) struct Pages {
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// First page of the texts in the tree.
    roots: u32,
    /// Of each page the moment of its last use if it can be given up, otherwise [`PINNED`].
    order: Vec<u64>,
    /// Pages that sequences use.
    in_use: usize,
    now: u64,
    /// Pages that have each checkpoint; [`NONE`] for a free one.
    checkpoints: Vec<u32>,
    evictions: u64,
}

/// Number of leading tokens that two texts share.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Pages {
    /// Bytes of the tables of `pages` pages and `checkpoints` checkpoints.
    pub(super) fn table_bytes(pages: usize, checkpoints: usize) -> usize {
        let page = size_of::<Node>() + size_of::<u32>() + size_of::<u64>();
        pages.saturating_mul(page).saturating_add(checkpoints.saturating_mul(size_of::<u32>()))
    }

    /// `pages` free pages, and room for `checkpoints` checkpoints.
    pub(super) fn new(pages: usize, checkpoints: usize) -> Pages {
        Pages {
            nodes: vec![Node::EMPTY; pages],
            free: (0..pages as u32).rev().collect(),
            roots: NONE,
            order: vec![PINNED; pages],
            in_use: 0,
            now: 0,
            checkpoints: vec![NONE; checkpoints],
            evictions: 0,
        }
    }

    /// Number of pages.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Pages that sequences use.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Pages that nothing uses.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages that a sequence can get.
    pub(super) fn available(&self) -> usize {
        self.nodes.len() - self.in_use
    }

    /// Number of cached pages that were given up for others.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Number of checkpoints in use.
    pub(super) fn checkpoints_used(&self) -> usize {
        self.checkpoints.iter().filter(|&&page| page != NONE).count()
    }

    fn node(&self, page: u32) -> &Node {
        &self.nodes[page as usize]
    }

    fn node_mut(&mut self, page: u32) -> &mut Node {
        &mut self.nodes[page as usize]
    }

    /// Children of a page, or the first pages of texts.
    fn children(&self, parent: Option<u32>) -> impl Iterator<Item = u32> + '_ {
        let first = parent.map_or(self.roots, |page| self.node(page).first_child);
        let some = |page: u32| (page != NONE).then_some(page);
        core::iter::successors(some(first), move |&page| some(self.node(page).next))
    }

    /// Finds the full pages of the longest prefix of `tokens` that the tree has, and appends them to
    /// `pages`.
    pub(super) fn find(&self, tokens: &[u32], pages: &mut Vec<u32>) {
        let mut parent = None;
        for chunk in tokens.as_chunks::<PAGE>().0 {
            let same = |page: &u32| self.node(*page).tokens() == chunk;
            let Some(page) = self.children(parent).find(same) else { break };
            pages.push(page);
            parent = Some(page);
        }
    }

    /// Page that continues the text after page `parent` (or from its start) with the most of `tokens`.
    pub(super) fn find_partial(&self, parent: Option<u32>, tokens: &[u32]) -> Option<Partial> {
        let of = |page| Partial { page, positions: common(self.node(page).tokens(), tokens) };
        let best = self.children(parent).map(of).max_by_key(|p| p.positions)?;
        (best.positions > 0).then_some(best)
    }

    /// A page that nothing uses, which the sequence that asks for it uses from now on. A cached page
    /// may be given up for it; `None` if sequences use all.
    pub(super) fn take(&mut self) -> Option<u32> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => self.evict()?,
        };
        self.node_mut(page).users = 1;
        self.in_use += 1;
        Some(page)
    }

    /// One more sequence uses the page.
    pub(super) fn hold(&mut self, page: u32) {
        self.now += 1;
        let now = self.now;
        let node = self.node_mut(page);
        node.users += 1;
        node.used = now;
        if node.users == 1 {
            self.in_use += 1;
        }
        self.place(page);
    }

    /// A sequence doesn't use the page any longer. It stays in the tree, if it is there.
    pub(super) fn release(&mut self, page: u32) {
        self.now += 1;
        let now = self.now;
        let node = self.node_mut(page);
        node.users -= 1;
        node.used = now;
        let (users, cached) = (node.users, node.cached);
        if users == 0 {
            self.in_use -= 1;
            if !cached {
                self.free.push(page);
            }
        }
        self.place(page);
    }

    /// Updates whether the page can be given up.
    fn place(&mut self, page: u32) {
        let node = self.node(page);
        let leaf = node.cached && node.users == 0 && node.first_child == NONE;
        self.order[page as usize] = if leaf { node.used } else { PINNED };
    }

    /// Gives up the least recently used page.
    fn evict(&mut self) -> Option<u32> {
        let oldest = self.order.iter().enumerate().min_by_key(|(_, used)| **used)?;
        if *oldest.1 == PINNED {
            return None;
        }
        let page = oldest.0 as u32;
        self.remove(page);
        self.evictions += 1;
        Some(page)
    }

    /// Takes a leaf out of the tree.
    fn remove(&mut self, page: u32) {
        let Node { parent, next, previous, checkpoint, .. } = *self.node(page);
        match previous {
            NONE if parent == NONE => self.roots = next,
            NONE => self.node_mut(parent).first_child = next,
            previous => self.node_mut(previous).next = next,
        }
        if next != NONE {
            self.node_mut(next).previous = previous;
        }
        if checkpoint != NONE {
            self.checkpoints[checkpoint as usize] = NONE;
        }
        let node = self.node_mut(page);
        (node.cached, node.len, node.checkpoint) = (false, 0, NONE);
        (node.parent, node.next, node.previous) = (NONE, NONE, NONE);
        self.place(page);
        if parent != NONE {
            self.place(parent);
        }
    }

    /// Puts a page, which holds the positions of `tokens` (at most [`PAGE`]) after page `parent` of the
    /// tree or at a text's start, into the tree. If the tree has such a page already, that one is
    /// returned, and nothing is changed.
    pub(super) fn insert(&mut self, parent: Option<u32>, page: u32, tokens: &[u32]) -> Option<u32> {
        if tokens.is_empty() {
            return None;
        }
        let known = |other: &u32| self.node(*other).tokens().starts_with(tokens);
        if let Some(same) = self.children(parent).find(known) {
            return Some(same);
        }
        // Shorter ones with the same beginning are of no use any more.
        while let Some(other) = self.find_shorter(parent, tokens) {
            self.remove(other);
            self.free.push(other);
        }
        let first = parent.map_or(self.roots, |parent| self.node(parent).first_child);
        let node = self.node_mut(page);
        node.cached = true;
        node.len = tokens.len();
        node.tokens[..tokens.len()].copy_from_slice(tokens);
        (node.parent, node.next, node.previous) = (parent.unwrap_or(NONE), first, NONE);
        if first != NONE {
            self.node_mut(first).previous = page;
        }
        match parent {
            Some(parent) => {
                self.node_mut(parent).first_child = page;
                self.place(parent);
            }
            None => self.roots = page,
        }
        self.place(page);
        None
    }

    /// A page after `parent` that has only a beginning of `tokens`, and that no sequence uses.
    fn find_shorter(&self, parent: Option<u32>, tokens: &[u32]) -> Option<u32> {
        self.children(parent).find(|&other| {
            let node = self.node(other);
            tokens.starts_with(node.tokens()) && node.users == 0 && node.first_child == NONE
        })
    }

    /// Checkpoint at the end of a page.
    pub(super) fn checkpoint(&self, page: u32) -> Option<usize> {
        match self.node(page).checkpoint {
            NONE => None,
            checkpoint => Some(checkpoint as usize),
        }
    }

    /// Gives a page of the tree a checkpoint, in place of the least recently used one if there is no
    /// other; `None` if there is room for none at all.
    pub(super) fn add_checkpoint(&mut self, page: u32) -> Option<usize> {
        if let Some(checkpoint) = self.checkpoint(page) {
            return Some(checkpoint);
        }
        let used = |&page: &u32| if page == NONE { 0 } else { self.node(page).used + 1 };
        let (slot, &old) =
            self.checkpoints.iter().enumerate().min_by_key(|(_, page)| used(page))?;
        if old != NONE {
            self.node_mut(old).checkpoint = NONE;
        }
        self.checkpoints[slot] = page;
        self.now += 1;
        let now = self.now;
        let node = self.node_mut(page);
        (node.checkpoint, node.used) = (slot as u32, now);
        self.place(page);
        Some(slot)
    }

    /// Takes the checkpoint of a page away.
    pub(super) fn drop_checkpoint(&mut self, page: u32) {
        if let Some(checkpoint) = self.checkpoint(page) {
            self.checkpoints[checkpoint] = NONE;
            self.node_mut(page).checkpoint = NONE;
        }
    }

    /// Checks that the tables agree with each other; for tests.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut in_tree = 0;
        let mut todo: Vec<Option<u32>> = vec![None];
        while let Some(parent) = todo.pop() {
            for page in self.children(parent) {
                let node = self.node(page);
                assert!(node.cached && node.parent == parent.unwrap_or(NONE));
                assert!(node.first_child == NONE || node.len == PAGE);
                let child_used = self.children(Some(page)).any(|c| self.node(c).users > 0);
                assert!(!child_used || node.users > 0, "a used page's parents are used");
                in_tree += 1;
                todo.push(Some(page));
            }
        }
        assert_eq!(in_tree, self.nodes.iter().filter(|n| n.cached).count());
        assert_eq!(self.in_use, self.nodes.iter().filter(|n| n.users > 0).count());
        let outside = |n: &&Node| n.users == 0 && !n.cached;
        assert_eq!(self.free.len(), self.nodes.iter().filter(outside).count());
        for (page, node) in self.nodes.iter().enumerate() {
            let leaf = node.cached && node.users == 0 && node.first_child == NONE;
            assert_eq!(self.order[page] == PINNED, !leaf);
            assert!(
                node.checkpoint == NONE
                    || self.checkpoints[node.checkpoint as usize] == page as u32
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(seed: u32, n: usize) -> Vec<u32> {
        (0..n as u32).map(|i| seed * 1000 + i / 7).collect()
    }

    /// Pages of a text as a sequence that computes it gets them.
    fn run(pages: &mut Pages, tokens: &[u32]) -> Option<Vec<u32>> {
        let mut all = vec![];
        pages.find(tokens, &mut all);
        all.iter().for_each(|&page| pages.hold(page));
        while all.len() < tokens.len().div_ceil(PAGE) {
            let Some(page) = pages.take() else {
                all.iter().rev().for_each(|&page| pages.release(page));
                return None;
            };
            let (at, parent) = (all.len() * PAGE, all.last().copied());
            let end = tokens.len().min(at + PAGE);
            match pages.insert(parent, page, &tokens[at..end]) {
                // The tree has a longer page with the same beginning: this one is the sequence's alone.
                Some(longer) => assert!(longer != page && end - at < PAGE),
                None => assert!(pages.node(page).cached),
            }
            all.push(page);
        }
        Some(all)
    }

    fn end(pages: &mut Pages, all: &[u32]) {
        all.iter().rev().for_each(|&page| pages.release(page));
    }

    #[test]
    fn a_prefix_is_found_again_up_to_the_token() {
        let mut pages = Pages::new(8, 0);
        let first = text(1, 3 * PAGE + 10);
        let all = run(&mut pages, &first).unwrap();
        end(&mut pages, &all);
        let mut found = vec![];
        let mut other = first.clone();
        other[2 * PAGE + 5] = 7;
        pages.find(&other, &mut found);
        assert_eq!(found, all[..2]);
        let partial = pages.find_partial(Some(found[1]), &other[2 * PAGE..]);
        assert_eq!(partial, Some(Partial { page: all[2], positions: 5 }));
        found.clear();
        pages.find(&first, &mut found);
        assert_eq!(found, all[..3]);
        let partial = pages.find_partial(Some(found[2]), &first[3 * PAGE..]);
        assert_eq!(partial, Some(Partial { page: all[3], positions: 10 }));
        pages.check();
    }

    #[test]
    fn the_least_recently_used_leaf_is_given_up_first() {
        let mut pages = Pages::new(4, 0);
        let (a, b) = (text(1, 2 * PAGE), text(2, 2 * PAGE));
        let of_a = run(&mut pages, &a).unwrap();
        end(&mut pages, &of_a);
        let of_b = run(&mut pages, &b).unwrap();
        end(&mut pages, &of_b);
        assert_eq!((pages.free(), pages.available()), (0, 4));
        assert_eq!(pages.take(), Some(of_a[1]), "the older text's end");
        assert_eq!(pages.take(), Some(of_a[0]));
        assert_eq!(pages.take(), Some(of_b[1]));
        assert_eq!(pages.take(), Some(of_b[0]));
        assert_eq!(pages.take(), None);
        assert_eq!(pages.evictions(), 4);
        pages.check();
    }

    #[test]
    fn the_oldest_checkpoint_goes_first() {
        let mut pages = Pages::new(4, 2);
        let all = run(&mut pages, &text(1, 3 * PAGE)).unwrap();
        assert_eq!(pages.add_checkpoint(all[0]), Some(0));
        assert_eq!(pages.add_checkpoint(all[1]), Some(1));
        assert_eq!(pages.add_checkpoint(all[1]), Some(1));
        assert_eq!(pages.add_checkpoint(all[2]), Some(0));
        assert_eq!((pages.checkpoint(all[0]), pages.checkpoints_used()), (None, 2));
        pages.check();
        assert_eq!(Pages::new(1, 0).add_checkpoint(0), None);
    }

    proptest! {
        /// Texts come and go; none of their pages is lost, shared with a stranger, or given up in use.
        #[test]
        fn no_page_is_lost(
            size in 1usize..12,
            events in prop::collection::vec((0u32..4, 0usize..4 * PAGE, 0usize..6), 1..60),
        ) {
            let mut pages = Pages::new(size, 3);
            let mut running: Vec<(Vec<u32>, Vec<u32>)> = vec![];
            for (seed, len, kind) in events {
                if kind < 3 || running.is_empty() {
                    let tokens = text(seed, len.max(1));
                    if let Some(all) = run(&mut pages, &tokens) {
                        if kind == 0 && let Some(&last) = all.last() {
                            pages.add_checkpoint(last);
                        }
                        running.push((tokens, all));
                    }
                } else {
                    let (_, all) = running.swap_remove(len % running.len());
                    end(&mut pages, &all);
                }
                pages.check();
                for (tokens, all) in &running {
                    for (page, chunk) in all.iter().zip(tokens.chunks(PAGE)) {
                        prop_assert!(pages.node(*page).tokens().starts_with(chunk) || chunk.len() < PAGE);
                        prop_assert!(pages.node(*page).users > 0);
                    }
                }
            }
            for (_, all) in &running {
                end(&mut pages, all);
            }
            prop_assert_eq!(pages.available(), size);
        }
    }
}
