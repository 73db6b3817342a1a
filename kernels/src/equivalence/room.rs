//! Memory of the suite's inputs and outputs.

use bytemuck::Pod;

use super::EquivalenceError;

/// Source of memory. Each piece has exactly the length that was asked for, so that tests on
/// a heap of their own notice who reads beyond it.
pub trait Room<'m> {
    /// `len` zeroed bytes at a multiple of 64.
    ///
    /// # Errors
    /// [`EquivalenceError::Memory`].
    fn take(&mut self, len: usize) -> Result<&'m mut [u8], EquivalenceError>;
}

/// Elements of another type, after `skew` of them that are left.
pub(super) fn take<'m, T: Pod>(
    room: &mut dyn Room<'m>,
    skew: usize,
    len: usize,
) -> Result<&'m mut [T], EquivalenceError> {
    let bytes = room.take((skew + len) * size_of::<T>())?;
    Ok(&mut bytemuck::cast_slice_mut(bytes)[skew..])
}

/// A block of memory that the caller gave, from the front.
#[derive(Debug)]
pub struct Block<'m> {
    rest: &'m mut [u8],
    all: usize,
}

impl<'m> Block<'m> {
    /// All of `memory`, at any address.
    #[must_use]
    pub fn new(memory: &'m mut [u8]) -> Self {
        let all = memory.len();
        Block { rest: memory, all }
    }
}

impl<'m> Room<'m> for Block<'m> {
    fn take(&mut self, len: usize) -> Result<&'m mut [u8], EquivalenceError> {
        let gap = self.rest.as_ptr().align_offset(64);
        let used = self.all - self.rest.len();
        let end = gap.saturating_add(len);
        let needed = used.saturating_add(end);
        let rest = core::mem::take(&mut self.rest);
        let Some((taken, rest)) = rest.split_at_mut_checked(end) else {
            return Err(EquivalenceError::Memory { needed, got: self.all });
        };
        self.rest = rest;
        taken.fill(0);
        Ok(&mut taken[gap..])
    }
}
