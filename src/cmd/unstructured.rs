//! Options that hold a text to a form, in a command without the feature `structured`: there are none.

use teff::Model;
use teff::runtime::engine::Constraint;

use super::Failure;
use super::args::Args;
use super::batch::Source;

/// Adds no options.
pub(crate) fn options(command: clap::Command) -> clap::Command {
    command
}

/// Forms of the lines of a batch, of which there are none.
pub(crate) enum Forms {}

impl Forms {
    pub(crate) fn new(_: &Model) -> Result<Forms, String> {
        Err("it is not in this build: build with the feature `structured`".into())
    }

    pub(crate) fn constraint(&mut self, _: &Source) -> Result<Box<dyn Constraint>, String> {
        match *self {}
    }
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
