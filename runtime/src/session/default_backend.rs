//! Who computes where the caller leaves it open.

use teff_kernels::Cpu;

use super::SessionError;

/// The environment variable that names the backend of sessions whose options name none:
/// `TEFF_BACKEND=avx2`.
pub const BACKEND_VARIABLE: &str = "TEFF_BACKEND";

/// The backend that the environment names ([`BACKEND_VARIABLE`]), or the best of this machine where
/// it names none.
///
/// # Errors
/// [`SessionError::Backend`] if there is no such backend, or this machine lacks it.
pub fn default_backend() -> Result<Cpu, SessionError> {
    let Some(name) = std::env::var_os(BACKEND_VARIABLE).filter(|name| !name.is_empty()) else {
        return Ok(Cpu::best());
    };
    let name = name.to_string_lossy();
    Cpu::by_name(&name).map_err(|error| SessionError::Backend { name: name.into(), error })
}
