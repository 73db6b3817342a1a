//! Memory that a plan runs in.

use core::fmt;

use super::arena::Region;
use crate::plan::{ALIGN, MemoryRequirements};

/// Error of memory that is too small or misaligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ArenaError {
    /// A region is too small.
    TooSmall {
        /// `scratch`, `states`, `threads`, or `all` of them.
        region: &'static str,
        /// Bytes that the plan needs.
        needed: usize,
        /// Bytes available.
        got: usize,
    },
    /// The heap refused the memory, or the size overflows (`None`).
    OutOfMemory {
        /// Bytes that the plan needs.
        needed: Option<usize>,
    },
    /// A region is not aligned to [`ALIGN`].
    Unaligned {
        /// `scratch`, `states` or `threads`.
        region: &'static str,
    },
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArenaError::TooSmall { region, needed, got } => {
                write!(f, "the memory for `{region}` must have {needed} bytes, but has {got}")
            }
            ArenaError::OutOfMemory { needed: Some(n) } => {
                write!(f, "the system refused the {n} bytes that the plan needs")
            }
            ArenaError::OutOfMemory { needed: None } => {
                f.write_str("the plan needs more memory than can be addressed")
            }
            ArenaError::Unaligned { region } => {
                write!(f, "the memory for `{region}` must begin at a multiple of {ALIGN}")
            }
        }
    }
}

impl core::error::Error for ArenaError {}

/// Memory that a plan runs in. Its initial contents don't matter.
///
/// ```
/// use teff_graph::{ArenaError, Memory, MemoryRequirements};
///
/// // For one thread and two sequences, in a block of the caller.
/// let needed = MemoryRequirements { scratch: 128, state: 64, pool: 0, per_thread: 64 };
/// let mut block = [0; 320];
/// assert_eq!(needed.total_for(1, 2), Some(320));
/// assert!(Memory::split(&needed, 1, 2, &mut block).is_ok());
///
/// let short = Memory::split(&needed, 1, 2, &mut block[1..]).unwrap_err();
/// assert_eq!(short, ArenaError::TooSmall { region: "all", needed: 320, got: 319 });
/// ```
#[derive(Debug)]
pub struct Memory<'m> {
    pub(super) scratch: Region<'m>,
    pub(super) states: Region<'m>,
    pub(super) threads: Region<'m>,
    #[cfg(feature = "alloc")]
    _block: Option<owned::Block>,
}

impl<'m> Memory<'m> {
    /// Memory of three regions: [`MemoryRequirements::scratch`] bytes,
    /// [`MemoryRequirements::pool`] and [`MemoryRequirements::state`] bytes for each sequence, and
    /// [`MemoryRequirements::per_thread`] bytes for each thread.
    #[must_use]
    pub fn new(scratch: &'m mut [u8], states: &'m mut [u8], threads: &'m mut [u8]) -> Self {
        Memory {
            scratch: Region::new(scratch),
            states: Region::new(states),
            threads: Region::new(threads),
            #[cfg(feature = "alloc")]
            _block: None,
        }
    }

    /// Splits one block into the three regions.
    ///
    /// # Errors
    /// [`ArenaError`] if it is smaller than [`MemoryRequirements::total_for`].
    pub fn split(
        needed: &MemoryRequirements,
        threads: usize,
        sequences: usize,
        block: &'m mut [u8],
    ) -> Result<Self, ArenaError> {
        let all = needed.total_for(threads, sequences).unwrap_or(usize::MAX);
        if block.len() < all {
            return Err(ArenaError::TooSmall { region: "all", needed: all, got: block.len() });
        }
        let (scratch, rest) = block.split_at_mut(needed.scratch);
        let (states, rest) = rest.split_at_mut(needed.pool + needed.state * sequences);
        let (threads, _) = rest.split_at_mut(needed.per_thread * threads);
        Ok(Memory::new(scratch, states, threads))
    }
}

#[cfg(feature = "alloc")]
mod owned {
    use alloc::alloc::{Layout, alloc_zeroed, dealloc};

    use super::{ALIGN, ArenaError, Memory, MemoryRequirements};

    /// Block of heap memory, freed when dropped.
    #[derive(Debug)]
    pub(super) struct Block {
        ptr: *mut u8,
        layout: Layout,
    }

    // SAFETY: a block is plain memory that it owns; its only operation is to free it.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout, once.
            unsafe { dealloc(self.ptr, self.layout) }
        }
    }

    impl Memory<'static> {
        /// Writes to all of it, so that the system has to give the memory now and not when it is used.
        pub fn commit(&mut self) {
            for region in [&self.scratch, &self.states, &self.threads] {
                // SAFETY: the memory is not in use yet, and borrowed mutably.
                let bytes = unsafe { region.bytes_mut(0, region.len()) };
                for part in bytes.chunks_mut(4096) {
                    // SAFETY: a part of a slice has an element; volatile, so that it is not left out
                    // where the memory is known to be zero.
                    unsafe { part.as_mut_ptr().write_volatile(0) };
                }
            }
        }

        /// Allocates exactly [`MemoryRequirements::total_for`] bytes on the heap, zeroed.
        ///
        /// # Errors
        /// [`ArenaError::OutOfMemory`] if the allocation fails.
        pub fn allocate(
            needed: &MemoryRequirements,
            threads: usize,
            sequences: usize,
        ) -> Result<Self, ArenaError> {
            let all = needed.total_for(threads, sequences);
            let refused = ArenaError::OutOfMemory { needed: all };
            let bytes = all.ok_or(refused)?;
            let layout = Layout::from_size_align(bytes.max(1), ALIGN).map_err(|_| refused)?;
            // SAFETY: the size is not 0.
            let ptr = unsafe { alloc_zeroed(layout) };
            if ptr.is_null() {
                return Err(refused);
            }
            let block = Block { ptr, layout };
            // SAFETY: `bytes` zeroed bytes that no one else uses; they live as long as the block,
            // which stays in this Memory and then in its Runner, and the slice is reachable only
            // through their regions.
            let all = unsafe { core::slice::from_raw_parts_mut(ptr, bytes) };
            let mut memory = Memory::split(needed, threads, sequences, all)?;
            memory._block = Some(block);
            Ok(memory)
        }
    }
}
