//! Who computes a session's steps: one of Teff's own backends, or the caller's.

use teff_kernels::{Backend, Cpu, forward_backend};

#[derive(Clone, Copy)]
pub(super) enum Who<'m> {
    Own(Cpu),
    Foreign(&'m dyn Backend),
}

impl Who<'_> {
    pub(super) fn get(&self) -> &dyn Backend {
        match self {
            Who::Own(cpu) => cpu,
            Who::Foreign(backend) => *backend,
        }
    }
}

impl Who<'_> {
    /// Teff's backend, where it is one.
    pub(super) fn own(&self) -> Option<Cpu> {
        match *self {
            Who::Own(cpu) => Some(cpu),
            Who::Foreign(_) => None,
        }
    }
}

impl Backend for Who<'_> {
    forward_backend!(self => *self.get());
}
