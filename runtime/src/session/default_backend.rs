//! Default backend of sessions.

use teff_kernels::Cpu;

use super::SessionError;

/// Environment variable that names the default backend: `TEFF_BACKEND=avx2`.
pub const BACKEND_VARIABLE: &str = "TEFF_BACKEND";

/// Default backend, used if [`SessionOptions::backend`](super::SessionOptions::backend) is `None`:
/// the one named by the environment ([`BACKEND_VARIABLE`]), or otherwise the best of this machine.
///
/// # Errors
/// [`SessionError::Backend`] if the backend does not exist or this machine does not support it.
pub fn default_backend() -> Result<Cpu, SessionError> {
    let Some(name) = std::env::var_os(BACKEND_VARIABLE).filter(|name| !name.is_empty()) else {
        return Ok(Cpu::best());
    };
    let name = name.to_string_lossy();
    Cpu::by_name(&name).map_err(|error| SessionError::Backend { name: name.into(), error })
}
