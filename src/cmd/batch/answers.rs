//! File of a batch's answers. A later run keeps those that are there and belong to its prompts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use teff::graph::Tensor;
use teff::runtime::json::{Event, JsonError, Reader};
use teff::{Generate, KvFormat, Model};

use super::input::Lines;
use crate::cmd::Failure;
use crate::cmd::common::CommonArgs;

/// FNV-1a of 64 bits (Fowler, Noll, Vo): enough to tell files apart by accident, not by malice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    fn new() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(mut self, bytes: &[u8]) -> Digest {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        }
        self
    }

    /// Adds bytes with their number, so that parts can't run into one another.
    fn part(self, bytes: &[u8]) -> Digest {
        self.bytes(&(bytes.len() as u64).to_le_bytes()).bytes(bytes)
    }

    fn text(self, text: impl core::fmt::Debug) -> Digest {
        self.part(format!("{text:?}").as_bytes())
    }

    /// Digest of everything but the line that an answer depends on: Teff's version, the model, the
    /// format of the cache, the context, the options, a template in place of the model's, and the form
    /// that texts are held to.
    pub(super) fn of(
        model: &Model,
        (kv, context): (KvFormat, usize),
        generate: &Generate,
        (template, form): (Option<&str>, Option<&str>),
    ) -> Digest {
        let mut all = Digest::new().text((env!("CARGO_PKG_VERSION"), kv.name(), context));
        all = all.text(generate).text(template).text(model.spec());
        all = form.map_or(all, |form| all.part(form.as_bytes()));
        // A sample of the weights: all vectors, and the first row of every matrix.
        let mut row = Vec::new();
        for tensor in model.tensors() {
            all = match tensor {
                Tensor::Vector(v) => v.iter().fold(all, |all, x| all.bytes(&x.to_le_bytes())),
                Tensor::Matrix(m) => {
                    row.resize(m.row_bytes(), 0);
                    if m.rows() > 0 {
                        m.copy_row(0, &mut row);
                    }
                    all.text((m.format(), m.rows(), m.cols())).bytes(&row)
                }
            };
        }
        if let Ok(tokenizer) = model.tokenizer() {
            all = all.text((tokenizer.special_ids(), tokenizer.stop_ids()));
            for id in 0..tokenizer.vocab_size() as u32 {
                all = all.part(tokenizer.token_bytes(id).unwrap_or_default());
            }
        }
        if let Ok(templates) = model.chat_templates() {
            all = templates.names().fold(all, |all, name| all.text((name, templates.get(name))));
            all = all.text(model.chat_template().ok());
        }
        all
    }

    /// The beginning of the answer to a line: its index, and a key of all that it depends on.
    pub(super) fn head(self, index: usize, line: &[u8]) -> String {
        let key = self.bytes(&(index as u64).to_le_bytes()).part(line).0;
        format!("{{\"index\":{index},\"key\":\"{key:016x}\"")
    }
}

/// File of answers, each a line.
pub(super) struct Answers {
    file: File,
    pub(super) path: PathBuf,
    /// Answers that were there and are kept.
    pub(super) kept: usize,
    /// Those among them that are errors.
    pub(super) errors: usize,
    /// Bytes of them.
    end: u64,
}

impl Answers {
    /// Opens the file, which is made if it isn't there. Nothing in it changes before
    /// [`Answers::start`].
    pub(super) fn open(path: &Path, prompts: &Path, common: &CommonArgs) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let cant = |e| Failure::Run(format!("{name}: can't be written: {e}"));
        let same = |other: &Path| match (path.canonicalize(), other.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        if same(prompts) {
            return Err(Failure::Usage(format!(
                "{name} has the prompts: --out needs another file"
            )));
        }
        if common.given().is_some_and(same) {
            return Err(Failure::Usage(format!("{name} is the model: --out needs another file")));
        }
        if path.is_dir() {
            return Err(Failure::Run(format!("{name}: it is a folder: --out needs a file")));
        }
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(cant)?;
        if !file.metadata().map_err(cant)?.is_file() {
            let what = "it is no regular file, and a batch goes on from what its file has";
            return Err(Failure::Run(format!("{name}: {what}")));
        }
        // (Some file systems have no locks, which is no reason to fail.)
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Failure::Run(format!("{name}: another command is writing it")));
        }
        Ok(Answers { file, path: path.into(), kept: 0, errors: 0, end: 0 })
    }

    /// Keeps the answers that are there. They must be those to the first lines; the last may be cut
    /// off, and is written again.
    pub(super) fn keep(&mut self, lines: &mut Lines, digest: Digest) -> Result<(), Failure> {
        let mut from = BufReader::new(&self.file);
        let name = self.path.display();
        let cant = |e: io::Error| Failure::Run(format!("{name}: can't be read: {e}"));
        loop {
            if from.fill_buf().map_err(cant)?.is_empty() {
                return Ok(());
            }
            let number = self.kept + 1;
            let refused = |what: &str| {
                Failure::Run(format!(
                    "{name}: line {number} {what}: name another file, or start it anew with \
                     --overwrite"
                ))
            };
            let Some(raw) = lines.wait()? else {
                let what = format!("answers nothing, since {} has fewer prompts", lines.name);
                return Err(refused(&what));
            };
            let head = digest.head(self.kept, &raw.bytes);
            let mut line = Vec::new();
            let read = from.by_ref().take(head.len() as u64).read_to_end(&mut line);
            read.map_err(cant)?;
            if !head.as_bytes().starts_with(&line) {
                let what = format!(
                    "is no answer to prompt {number} of {} by this model and these options",
                    lines.name
                );
                return Err(refused(&what));
            }
            from.read_until(b'\n', &mut line).map_err(cant)?;
            if line.last() != Some(&b'\n') {
                lines.put_back = Some(raw);
                return Ok(());
            }
            match has_error(&line) {
                Ok(error) => self.errors += usize::from(error),
                Err(e) => return Err(refused(&format!("is damaged ({e})"))),
            }
            self.kept += 1;
            self.end += line.len() as u64;
        }
    }

    /// Drops all but the answers that are kept.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let cut = self.file.set_len(self.end);
        cut.and_then(|()| self.file.seek(SeekFrom::Start(self.end))).map_err(|e| self.cant(&e))?;
        Ok(())
    }

    /// Appends lines.
    pub(super) fn write(&mut self, lines: &str) -> Result<(), Failure> {
        self.file.write_all(lines.as_bytes()).map_err(|e| self.cant(&e))
    }

    fn cant(&self, e: &io::Error) -> Failure {
        Failure::Run(format!("{}: can't be written: {e}", self.path.display()))
    }
}

/// True for an answer that is an error.
fn has_error(line: &[u8]) -> Result<bool, JsonError> {
    let mut reader = Reader::new(line);
    let mut found = false;
    while let Some(event) = reader.next()? {
        found |= matches!(event, Event::Key(key) if reader.depth() == 1 && key.is("error"));
    }
    Ok(found)
}
