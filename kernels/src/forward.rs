//! Macros and traits generated from the list of [`Backend`](crate::Backend)'s methods
//! ([`backend_methods`](crate::backend_methods)) for those that forward them.

/// The signatures of all methods of [`Backend`](crate::Backend), in one group: calls the macro `then`
/// with `[args]` and `fn name(&self, arg: type, ..) -> type;` for each.
///
/// ```
/// macro_rules! count {
///     (
///         [$methods:ident]
///         $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
///     ) => {
///         let $methods = [$(stringify!($name)),*];
///     };
/// }
/// teff_kernels::backend_signatures!([count] methods);
/// assert!(methods.contains(&"matmul"));
/// ```
#[macro_export]
macro_rules! backend_signatures {
    (
        [@flat [$($then:tt)*] [$($args:tt)*]]
        required { $($(#[$rm:meta])* fn $r:ident(&self) -> $rr:ty;)* }
        own { $(
            $(#[$m:meta])*
            fn $name:ident(&self $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? { $($body:tt)* }
        )* }
        lanes { $(
            $(#[$lm:meta])*
            fn $l:ident(&self $(, $larg:ident: $lty:ty)* $(,)?) $(-> $lret:ty)? { $($lbody:tt)* }
        )* }
    ) => {
        $($then)*! { [$($args)*]
            $(fn $r(&self) -> $rr;)*
            $(fn $name(&self $(, $arg: $ty)*) $(-> $ret)?;)*
            $(fn $l(&self $(, $larg: $lty)*) $(-> $lret)?;)*
        }
    };
    ([$($then:tt)*] $($args:tt)*) => {
        $crate::backend_methods!([$crate::backend_signatures] @flat [$($then)*] [$($args)*]);
    };
}

/// Methods of an `impl Backend` (or [`ExplicitBackend`](crate::ExplicitBackend)) that call those of
/// another backend.
///
/// - `forward_backend!(self => self.inner())`: all of them;
/// - `forward_backend!(self => Scalar; add, mul)`: those that are named.
///
/// ```
/// use teff_kernels::{Backend, Cpu, forward_backend};
///
/// struct Named(Cpu);
///
/// impl Backend for Named {
///     forward_backend!(self => self.0);
/// }
/// assert_eq!(Named(Cpu::best()).name(), Cpu::best().name());
/// ```
#[macro_export]
macro_rules! forward_backend {
    ($self:ident => $to:expr) => {
        $crate::backend_signatures!([$crate::forward_backend] @all $self => $to);
    };
    ($self:ident => $to:expr; $($name:ident),+ $(,)?) => {
        $($crate::backend_method!($name [$crate::forward_backend] @call $self => $to);)+
    };
    (
        [@all $self:ident => $to:expr]
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
    ) => {
        $($crate::forward_backend! { [@call $self => $to] fn $name(&self $(, $arg: $ty)*) $(-> $ret)?; })*
    };
    (
        [@call $self:ident => $to:expr]
        fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;
    ) => {
        #[inline(always)]
        fn $name(&$self $(, $arg: $ty)*) $(-> $ret)? {
            $crate::Backend::$name(&$to $(, $arg)*)
        }
    };
}

/// Methods of an `impl Backend` (or [`ExplicitBackend`](crate::ExplicitBackend)) that are never called:
/// `refuse_backend!(panic!("why"); rope, gelu)`.
#[macro_export]
macro_rules! refuse_backend {
    (
        [@refuse $why:expr]
        fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;
    ) => {
        fn $name(&self $(, _: $ty)*) $(-> $ret)? {
            $why
        }
    };
    ($why:expr; $($name:ident),+ $(,)?) => {
        $($crate::backend_method!($name [$crate::refuse_backend] @refuse $why);)+
    };
}

/// Makes `backend_method!(name [then] args)`, which gives the signature of one method to `then`.
macro_rules! by_name {
    (
        [$d:tt]
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
    ) => {
        /// The signature of one method of [`Backend`](crate::Backend): `backend_method!(name [then] args)` calls the
        /// macro `then` with `[args]` and `fn name(&self, arg: type, ..) -> type;`.
        #[macro_export]
        macro_rules! backend_method {
            $(($name [$d($d then:tt)*] $d($d args:tt)*) => {
                $d($d then)*! { [$d($d args)*] fn $name(&self $(, $arg: $ty)*) $(-> $ret)?; }
            };)*
        }
    };
}
backend_signatures!([by_name] $);

macro_rules! explicit {
    (
        []
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)*
    ) => {
        /// [`Backend`](crate::Backend) without defaults, for wrappers that choose method by method: one
        /// that forwards only some says of each other what becomes of it.
        ///
        /// An implementation is a `Backend` too. When `Backend` gets a method, it doesn't compile until it
        /// says what to do with that method. [`forward_backend!`](crate::forward_backend) and
        /// [`refuse_backend!`](crate::refuse_backend) write what isn't worth writing.
        ///
        /// ```
        /// use teff_kernels::{Cpu, ExplicitBackend, Scalar, forward_backend, refuse_backend};
        ///
        /// /// Products by the best backend; no model with rotary positions.
        /// struct Mine(Cpu);
        ///
        /// impl ExplicitBackend for Mine {
        ///     fn name(&self) -> &'static str {
        ///         "mine"
        ///     }
        ///     forward_backend!(self => self.0; matmul_scratch, repacks, products_per_ms, matmul, attend);
        ///     forward_backend!(self => Scalar; dequantize_row, quantize, quantize_wide, layer_norm,
        ///         rms_norm, add, mul, scale, gelu, gelu_mul, silu, silu_mul, relu2, relu2_mul, softcap,
        ///         sigmoid, swiglu_clamped, mean_square, gaussian_topk, l2_norm, decay, delta_rule,
        ///         softmax, causal_conv, argmax, top_k, store_key, store_value);
        ///     refuse_backend!(unreachable!("not in this program's model"); rope);
        /// }
        /// ```
        ///
        /// Without one of them, `mul` for instance, it doesn't compile:
        ///
        /// ```compile_fail,E0046
        /// use teff_kernels::{Cpu, ExplicitBackend, Scalar, forward_backend, refuse_backend};
        ///
        /// struct Mine(Cpu);
        ///
        /// impl ExplicitBackend for Mine {
        ///     fn name(&self) -> &'static str {
        ///         "mine"
        ///     }
        ///     forward_backend!(self => self.0; matmul_scratch, repacks, products_per_ms, matmul, attend);
        ///     forward_backend!(self => Scalar; dequantize_row, quantize, quantize_wide, layer_norm,
        ///         rms_norm, add, scale, gelu, gelu_mul, silu, silu_mul, relu2, relu2_mul, softcap,
        ///         sigmoid, swiglu_clamped, mean_square, gaussian_topk, l2_norm, decay, delta_rule,
        ///         softmax, causal_conv, argmax, top_k, store_key, store_value);
        ///     refuse_backend!(unreachable!("not in this program's model"); rope);
        /// }
        /// ```
        pub trait ExplicitBackend: Sync {
            $(
                #[doc = concat!("See [`Backend::", stringify!($name), "`](crate::Backend::", stringify!($name), ").")]
                fn $name(&self $(, $arg: $ty)*) $(-> $ret)?;
            )*
        }

        impl<B: ExplicitBackend> crate::Backend for B {
            $(
                #[inline(always)] // so that what a wrapper rules out isn't linked
                fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
                    ExplicitBackend::$name(self $(, $arg)*)
                }
            )*
        }
    };
}
backend_signatures!([explicit]);
