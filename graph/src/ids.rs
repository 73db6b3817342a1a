//! Numbers of tensors, buffers and states: an index of 16 bits, with room for `None`.

use core::fmt;
use core::num::NonZeroU16;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU16);

        impl $name {
            /// The number `index`.
            ///
            /// # Panics
            /// Where `index` is `u16::MAX`.
            #[must_use]
            pub const fn new(index: u16) -> Self {
                match NonZeroU16::new(index.wrapping_add(1)) {
                    Some(n) => $name(n),
                    None => panic!("numbers go up to 65534"),
                }
            }

            /// The number `index`; `None` above 65534.
            #[must_use]
            pub const fn from_index(index: usize) -> Option<Self> {
                if index < u16::MAX as usize { Some($name::new(index as u16)) } else { None }
            }

            /// The index in the table that it counts.
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
    /// The number of a tensor in the table of weights.
    TensorId;
    /// The number of a buffer of a plan.
    BufferId;
    /// The number of a layer's state in a plan.
    StateId;
}

const _: () = assert!(size_of::<Option<TensorId>>() == 2);
