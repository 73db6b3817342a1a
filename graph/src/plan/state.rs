//! States of a sequence: KV caches and the memory of recurrent layers, and their layout.
//!
//! The memory of a sequence begins with a header of [`HEADER`] bytes, followed by the states. A
//! plan with pages ([`Options::pages`]) has the caches of layers without a window in a pool instead,
//! which all sequences share: it begins with the number of sequences that use each page, and the header
//! of a sequence is followed by a table of its pages. A page has the same place in all caches of the
//! pool. A cache holds, for each head, its keys and then its values. The cache of a layer with a window is
//! a ring: it has room for the window and for the tokens of one step, so that a cancelled step has
//! overwritten nothing that a second try needs. A fixed state has two banks: a step reads one and
//! writes the other, and they swap roles when all workers are done.

use teff_kernels::{KV_BLOCK, KvLayout};

use super::{ALIGN, Options, StateId};
use crate::Spec;
use crate::layers::{LayerState, kv_layout};

/// Positions of a panel of keys, in which ranges of a cache are cut.
pub(crate) const PANEL: usize = 16;

const _: () = assert!(KV_BLOCK.is_multiple_of(PANEL));

/// True if there can be pages.
pub(crate) const PAGES: bool = cfg!(feature = "pages");

/// Bytes of the header of a sequence's memory.
pub(crate) const HEADER: usize = ALIGN;

/// State of a layer in the memory of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// Layer that writes it.
    pub layer: u16,
    /// Kind and size.
    pub kind: StateKind,
    /// Offset in the memory of a sequence or, of a cache in pages, in the pool; in bytes.
    pub offset: usize,
}

/// Kinds of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StateKind {
    /// Keys and values of a layer.
    Kv {
        /// Number of heads.
        heads: u16,
        /// Head dimension.
        head_dim: u16,
        /// Positions that a query attends to; 0 for all.
        window: u32,
        /// Positions that there is room for.
        capacity: usize,
    },
    /// Two banks of a fixed size.
    Fixed {
        /// Bytes of a bank.
        bytes: usize,
    },
}

impl State {
    /// Placeholder to fill slices with before [`super::build_into`].
    pub const EMPTY: State = State { layer: 0, kind: StateKind::Fixed { bytes: 0 }, offset: 0 };

    /// State of a layer in a plan with these options; `None` if the layer has none of its own or
    /// sizes overflow.
    pub(crate) fn of(spec: &Spec<'_>, options: &Options, l: u32) -> Option<StateKind> {
        Some(match spec.layers.get(l).state(spec.width) {
            LayerState::None | LayerState::SharedKv { .. } => return None,
            LayerState::Kv { heads, head_dim, window } => {
                // In a ring, a step's tokens don't overwrite what its first one sees; and what a
                // snapshot keeps, a window in whole panels, lies in slots of its own.
                let ring = window.map(|w| {
                    let kept = (w as usize).saturating_add(2 * PANEL - 3) / PANEL * PANEL;
                    (w as usize).saturating_add(options.batch).max(kept)
                });
                let capacity = match ring {
                    None if PAGES && options.pages > 0 => options.pages.checked_mul(KV_BLOCK)?,
                    None => options.context.checked_next_multiple_of(KV_BLOCK)?,
                    Some(ring) => ring.min(options.context).checked_next_multiple_of(KV_BLOCK)?,
                };
                StateKind::Kv {
                    heads: heads as u16,
                    head_dim: head_dim as u16,
                    window: window.unwrap_or(0),
                    capacity,
                }
            }
            LayerState::Fixed { bytes } => StateKind::Fixed { bytes: usize::try_from(bytes).ok()? },
        })
    }

    /// Bytes of the state, padded to [`ALIGN`]; `None` on overflow.
    pub(crate) fn bytes(&self, options: &Options) -> Option<usize> {
        match self.kind {
            StateKind::Kv { heads, head_dim, capacity, .. } => {
                let per_position = (usize::from(head_dim) + 16).checked_mul(8)?; // above any format's
                capacity.checked_add(KV_BLOCK)?.checked_mul(per_position)?;
                let layout = kv_layout(options.kv, head_dim.into(), capacity);
                let (keys, values) = head_bytes(&layout);
                keys.checked_add(values)?.checked_mul(heads.into())
            }
            StateKind::Fixed { bytes } => bytes.checked_next_multiple_of(ALIGN)?.checked_mul(2),
        }
    }

    /// True if the state lies in the pool, in pages.
    pub(crate) fn is_paged(&self, options: &Options) -> bool {
        PAGES && options.pages > 0 && matches!(self.kind, StateKind::Kv { window: 0, .. })
    }

    /// Offset of a bank of a fixed state in the memory of a sequence.
    pub(crate) fn bank_at(&self, bank: usize) -> usize {
        match self.kind {
            StateKind::Fixed { bytes } => self.offset + bank * bytes.next_multiple_of(ALIGN),
            StateKind::Kv { .. } => self.offset,
        }
    }

    /// Layout of one head's cache, if this is a cache.
    #[must_use]
    pub fn kv_layout(&self, options: &Options) -> Option<KvLayout> {
        match self.kind {
            StateKind::Kv { head_dim, capacity, .. } => {
                Some(kv_layout(options.kv, head_dim.into(), capacity))
            }
            StateKind::Fixed { .. } => None,
        }
    }
}

/// Bytes of one head's keys and of its values, each padded to [`ALIGN`].
pub(crate) fn head_bytes(layout: &KvLayout) -> (usize, usize) {
    (layout.key_bytes().next_multiple_of(ALIGN), layout.value_bytes().next_multiple_of(ALIGN))
}

/// Maximum number of pages of a sequence.
pub(crate) fn table_len(options: &Options) -> usize {
    if !PAGES || options.pages == 0 { 0 } else { options.context.div_ceil(KV_BLOCK) }
}

/// Bytes of a sequence's memory with these of its states; `None` on overflow.
pub(crate) fn state_bytes(states: &[State], options: &Options) -> Option<usize> {
    let table = table_len(options).checked_mul(size_of::<u32>())?;
    let mut end = HEADER.checked_add(table.checked_next_multiple_of(ALIGN)?)?;
    for state in states.iter().filter(|s| !s.is_paged(options)) {
        end = end.checked_add(state.bytes(options)?)?;
    }
    Some(end)
}

/// Bytes of the pool with these of its states; `None` on overflow.
pub(crate) fn pool_bytes(states: &[State], options: &Options) -> Option<usize> {
    if !PAGES {
        return Some(0);
    }
    let counts = options.pages.checked_mul(size_of::<u32>())?;
    let mut end = counts.checked_next_multiple_of(ALIGN)?;
    for state in states.iter().filter(|s| s.is_paged(options)) {
        end = end.checked_add(state.bytes(options)?)?;
    }
    Some(end)
}

/// Offset of the next state, if it is of this kind; `None` on overflow.
pub(crate) fn next_offset(states: &[State], kind: StateKind, options: &Options) -> Option<usize> {
    let next = State { layer: 0, kind, offset: 0 };
    match next.is_paged(options) {
        true => pool_bytes(states, options),
        false => state_bytes(states, options),
    }
}

/// State that layer `l` reads: its own, or the one that it shares.
pub(crate) fn of_layer(spec: &Spec<'_>, states: &[State], l: u32) -> Option<StateId> {
    let l = match spec.layers.get(l).state(spec.width) {
        LayerState::SharedKv { layer } => layer,
        _ => l,
    };
    StateId::from_index(states.iter().position(|s| u32::from(s.layer) == l)?)
}
