//! Backends of a session: one of Teff's own, or the caller's.

use teff_kernels::{Backend, Cpu, forward_backend};

#[derive(Clone, Copy)]
pub(crate) enum SessionBackend<'m> {
    Own(Cpu),
    Foreign(&'m dyn Backend),
}

impl SessionBackend<'_> {
    pub(super) fn get(&self) -> &dyn Backend {
        match self {
            SessionBackend::Own(cpu) => cpu,
            SessionBackend::Foreign(backend) => *backend,
        }
    }
}

impl SessionBackend<'_> {
    /// Teff's own backend, if it is one.
    pub(crate) fn own(&self) -> Option<Cpu> {
        match *self {
            SessionBackend::Own(cpu) => Some(cpu),
            SessionBackend::Foreign(_) => None,
        }
    }
}

impl Backend for SessionBackend<'_> {
    forward_backend!(self => *self.get());
}
