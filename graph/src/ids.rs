//! Numbers of tensors, buffers and states: 16-bit indices with a niche for `None`.

use core::fmt;
use core::num::NonZeroU16;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU16);

        impl $name {
            /// Creates the number for `index`.
            ///
            /// # Panics
            /// If `index` is `u16::MAX`.
            #[must_use]
            pub const fn new(index: u16) -> Self {
                match NonZeroU16::new(index.wrapping_add(1)) {
                    Some(n) => $name(n),
                    None => panic!("numbers go up to 65534"),
                }
            }

            /// Creates the number for `index`; `None` above 65534.
            #[must_use]
            pub const fn from_index(index: usize) -> Option<Self> {
                if index < u16::MAX as usize { Some($name::new(index as u16)) } else { None }
            }

            /// Index into the table that the number counts.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "::new({})"), self.index())
            }
        }
    )*};
}

ids! {
    /// Number of a tensor in the table of weights.
    TensorId;
    /// Number of a buffer of a plan.
    BufferId;
    /// Number of a layer's state in a plan.
    StateId;
}

const _: () = assert!(size_of::<Option<TensorId>>() == 2);
