//! The atomics and locks used by [`super::protocol`]. `tests/pool_model.rs` substitutes loom's
//! versions, so that the model-checked code is the code that runs.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Condvar, Mutex};

use std::sync::{MutexGuard, PoisonError};

/// No code that could panic runs under the lock of a bell.
pub(crate) fn lock(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait<'a>(rings: &Condvar, guard: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
    rings.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
