//! Slices that are borrowed, or owned with the `alloc` feature.

use core::ops::Deref;

/// Slice held by a plan or a runner: borrowed (from a `static` or from the caller) or owned.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Debug)]
pub enum List<'a, T> {
    /// Borrowed slice.
    Borrowed(&'a [T]),
    /// Owned slice.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<[T]>),
}

impl<T> List<'_, T> {
    /// The same list, borrowed from this one.
    #[must_use]
    pub fn borrowed(&self) -> List<'_, T> {
        List::Borrowed(self)
    }
}

#[cfg(feature = "alloc")]
impl<T: Clone> List<'_, T> {
    /// Owned copy of the elements.
    #[must_use]
    pub fn to_owned(&self) -> List<'static, T> {
        List::Owned((**self).into())
    }
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

impl<T: PartialEq> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
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
