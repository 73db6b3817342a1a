//! Checkpoints: saved states of recurrent layers and of windows to which a text can be truncated.

use teff_graph::plan::StateKind;
use teff_graph::{ArenaError, Plan, Runner, SequenceId};
use teff_kernels::Backend;

/// The only sequence of a session.
pub(super) const SEQUENCE: SequenceId = SequenceId(0);

/// Bounded number of checkpoints, of which a new one replaces the oldest.
pub(super) struct Checkpoints {
    slots: Vec<Slot>,
}

struct Slot {
    position: usize,
    /// Bytes in use; 0 for a free slot.
    len: usize,
    /// Number that grows with every checkpoint, to find the oldest.
    age: u64,
    bytes: Vec<u8>,
}

/// True if there are layers that can't be truncated by themselves.
fn are_wanted(plan: &Plan<'_>) -> bool {
    plan.states.iter().any(|s| matches!(s.kind, StateKind::Fixed { .. }))
}

/// Bytes of the largest checkpoint.
pub(crate) fn largest(plan: &Plan<'_>) -> usize {
    let of = |kind| match kind {
        StateKind::Fixed { bytes } => bytes,
        // Positions of a window, rounded up to panels, each at most as large as in f32.
        StateKind::Kv { window: 0, .. } => 0,
        StateKind::Kv { heads, head_dim, window, capacity } => {
            let positions = (window as usize + 32).min(capacity);
            let element = usize::from(head_dim).next_multiple_of(16) + 1;
            positions * usize::from(heads) * element * 8
        }
        _ => 0,
    };
    plan.states.iter().map(|s| of(s.kind)).sum()
}

impl Checkpoints {
    /// Bytes of `count` checkpoints.
    pub(super) fn bytes(plan: &Plan<'_>, count: usize) -> usize {
        let each = largest(plan).saturating_add(size_of::<Slot>());
        if are_wanted(plan) { each.saturating_mul(count) } else { 0 }
    }

    /// Allocates room for `count` checkpoints, or none if all layers can be truncated by
    /// themselves.
    ///
    /// # Errors
    /// [`ArenaError::OutOfMemory`].
    pub(super) fn new(plan: &Plan<'_>, count: usize) -> Result<Self, ArenaError> {
        let mut slots = Vec::new();
        if are_wanted(plan) {
            let size = largest(plan);
            let refused = |_| ArenaError::OutOfMemory { needed: Some(size.saturating_mul(count)) };
            slots.try_reserve_exact(count).map_err(refused)?;
            for _ in 0..count {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(size).map_err(refused)?;
                slots.push(Slot { position: 0, len: 0, age: 0, bytes });
            }
        }
        Ok(Checkpoints { slots })
    }

    /// Saves the current states of the runner in place of the oldest checkpoint. Returns true if
    /// there is room for any.
    pub(super) fn save<B: Backend>(&mut self, runner: &Runner<'_, B>) -> bool {
        let position = runner.position(SEQUENCE);
        let age = self.slots.iter().map(|s| s.age).max().unwrap_or(0) + 1;
        let same = self.slots.iter().position(|s| s.len > 0 && s.position == position);
        let oldest =
            (0..self.slots.len()).min_by_key(|&i| (self.slots[i].len > 0, self.slots[i].age));
        let Some(i) = same.or(oldest) else { return false };
        let slot = &mut self.slots[i];
        let needed = runner.checkpoint_bytes(position);
        if needed > slot.bytes.capacity() || needed == 0 {
            return false;
        }
        slot.bytes.clear();
        runner.checkpoint(SEQUENCE, |part| slot.bytes.extend_from_slice(part));
        (slot.position, slot.len, slot.age) = (position, needed, age);
        true
    }

    /// Copies the checkpoints of another session whose plan is the same.
    pub(super) fn copy_from(&mut self, other: &Checkpoints) {
        for (to, from) in self.slots.iter_mut().zip(&other.slots) {
            to.bytes.clear();
            to.bytes.extend_from_slice(&from.bytes);
            (to.position, to.len, to.age) = (from.position, from.len, from.age);
        }
    }

    /// Positions of the checkpoints, in no particular order.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter().filter(|s| s.len > 0).map(|s| s.position)
    }

    /// Discards checkpoints beyond `len`, from where the text changes.
    pub(super) fn forget_beyond(&mut self, len: usize) {
        for slot in self.slots.iter_mut().filter(|s| s.position > len) {
            slot.len = 0;
        }
    }

    /// Takes the runner back to the last state up to `position` that it or a checkpoint keeps, and
    /// returns its position.
    pub(super) fn go_back<B: Backend>(&self, runner: &mut Runner<'_, B>, position: usize) -> usize {
        let near = runner.nearest(SEQUENCE, position);
        let end = runner.position(SEQUENCE);
        let usable = self.slots.iter().filter(|s| s.len > 0 && s.position <= position.min(end));
        let best = usable.max_by_key(|s| s.position).filter(|s| s.position > near);
        if let Some(slot) = best
            && runner.rewind(SEQUENCE, slot.position, &slot.bytes).is_ok()
        {
            return slot.position;
        }
        // `near` can always be reached.
        match runner.truncate(SEQUENCE, near) {
            Ok(()) => near,
            Err(_) => unreachable!("the runner said that it can go back there"),
        }
    }
}
