//! Options that hold a text to a form, in a command without the feature `structured`: there are none.

use teff::Model;
use teff::runtime::engine::Constraint;

use super::Failure;
use super::args::Args;

/// Adds no options.
pub(crate) fn options(command: clap::Command) -> clap::Command {
    command
}

/// A form that a text is held to, of which there is none.
pub(crate) enum Form {}

/// No form.
pub(crate) fn read(_: &Args) -> Result<Option<Form>, Failure> {
    Ok(None)
}

impl Form {
    pub(crate) fn source(&self) -> String {
        match *self {}
    }

    pub(crate) fn constraint(&self, _: &Model) -> Result<Box<dyn Constraint>, Failure> {
        match *self {}
    }
}
