//! Who computes a session's steps: one of Teff's own backends, or the caller's.

use teff_kernels::{Backend, Cpu, forward_backend};

#[derive(Clone, Copy)]
pub(super) enum SessionBackend<'m> {
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
    /// Teff's backend, where it is one.
    pub(super) fn own(&self) -> Option<Cpu> {
        match *self {
            SessionBackend::Own(cpu) => Some(cpu),
            SessionBackend::Foreign(_) => None,
        }
    }
}

impl Backend for SessionBackend<'_> {
    forward_backend!(self => *self.get());
}
