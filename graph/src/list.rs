//! Slices that are borrowed, or owned where there is a heap.

use core::ops::Deref;

/// A slice that a plan or a runner holds: a `static`'s, the caller's, or its own.
#[derive(Clone, Debug)]
pub enum List<'a, T> {
    /// Somebody else's.
    Borrowed(&'a [T]),
    /// Its own.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<[T]>),
}

impl<T> Deref for List<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            List::Borrowed(s) => s,
            #[cfg(feature = "alloc")]
            List::Owned(s) => s,
        }
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(s: &'a [T]) -> Self {
        List::Borrowed(s)
    }
}

#[cfg(feature = "alloc")]
impl<T> From<alloc::vec::Vec<T>> for List<'_, T> {
    fn from(v: alloc::vec::Vec<T>) -> Self {
        List::Owned(v.into_boxed_slice())
    }
}
