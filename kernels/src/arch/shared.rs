//! The operations that are the shared definitions over an architecture's lanes.
//!
//! Backends with the same lanes share the compiled functions too: there is one of each operation
//! for each kind of lanes, compiled for what they need.

use crate::lanes::Lanes;

/// Gives the operations that are defined over lanes ([`crate::backend_methods`] lists them) to the
/// macro `$then`.
macro_rules! operations {
    ($then:ident! $args:tt) => {
        $crate::backend_methods!([$then] $args);
    };
}

macro_rules! declare {
    (
        [[]]
        required { $($required:tt)* }
        own { $($own:tt)* }
        lanes { $(
            $(#[$meta:meta])*
            fn $name:ident(&self $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block
        )* }
    ) => {
        /// The operations over these lanes.
        pub(super) trait Shared: Lanes {
            $(
                /// # Safety
                /// The CPU has what the lanes need.
                unsafe fn $name($($arg: $ty),*) $(-> $ret)?;
            )*
        }
    };
}
operations!(declare![]);

macro_rules! implement {
    (
        [[$L:ty, $features:literal]]
        required { $($required:tt)* }
        own { $($own:tt)* }
        lanes { $(
            $(#[$meta:meta])*
            fn $name:ident(&self $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block
        )* }
    ) => {
        impl $crate::arch::shared::Shared for $L {
            $(
                #[inline]
                unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                    #[target_feature(enable = $features)]
                    fn run($($arg: $ty),*) $(-> $ret)? {
                        #[allow(dead_code)] // of what needs no lanes
                        type L = $L;
                        $crate::entered::enter!(stringify!($L), stringify!($name));
                        $body
                    }
                    // SAFETY: the CPU has the features by the caller's promise.
                    unsafe { run($($arg),*) }
                }
            )*
        }
    };
}

/// The methods of a backend with the lanes `$L`.
macro_rules! methods {
    (
        [[$L:ty]]
        required { $($required:tt)* }
        own { $($own:tt)* }
        lanes { $(
            $(#[$meta:meta])*
            fn $name:ident(&self $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block
        )* }
    ) => {
        $(
            fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
                // SAFETY: a value of this type exists only where its features were found, and these
                // include what the lanes need.
                unsafe { <$L as $crate::arch::shared::Shared>::$name($($arg),*) }
            }
        )*
    };
}

pub(super) use {implement, methods, operations};
