//! The teff facade.
