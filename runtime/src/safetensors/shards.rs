//! `model.safetensors.index.json`: which shard has which tensor.

use std::borrow::Cow;

use super::{ShardError, name};
use crate::json::{Event, Reader};

/// Bytes of the largest index that is read; those of the largest models have some hundreds of
/// thousands.
pub const MAX_INDEX: usize = 16 << 20;

/// Shards that a model may have.
pub const MAX_SHARDS: usize = 4096;

/// A checked index.
#[derive(Clone, Debug)]
pub struct ShardIndex<'a> {
    json: &'a [u8],
    /// In ascending order, each once.
    shards: Vec<&'a str>,
}

impl<'a> ShardIndex<'a> {
    /// Checks the bytes of an index: JSON with an object `weight_map` of texts, each the plain name
    /// of a file of the same folder.
    ///
    /// # Errors
    /// [`ShardError`].
    pub fn parse(json: &'a [u8]) -> Result<ShardIndex<'a>, ShardError> {
        if json.len() > MAX_INDEX {
            return Err(ShardError::TooLarge { bytes: json.len() as u64 });
        }
        let mut shards: Vec<&'a str> = Vec::new();
        let maps = walk(json, |_, shard| {
            // The same shard mostly comes many times in a row, and there are few: this is cheap.
            if let Err(at) = shards.binary_search(&shard) {
                if shards.len() == MAX_SHARDS {
                    return Err(ShardError::TooMany);
                }
                shards.insert(at, shard);
            }
            Ok(())
        })?;
        match (maps, shards.is_empty()) {
            (1, false) => Ok(ShardIndex { json, shards }),
            (1, true) => Err(ShardError::Empty),
            _ => Err(ShardError::NoWeightMap),
        }
    }

    /// The names of the shards' files, each once, in ascending order.
    #[must_use]
    pub fn shards(&self) -> &[&'a str] {
        &self.shards
    }

    /// Checks that every tensor is where the index says: `there` is asked with a tensor's name and
    /// the number of its shard in [`shards`](Self::shards).
    ///
    /// # Errors
    /// [`ShardError::NotThere`] for the first that is not.
    pub fn check(&self, there: impl Fn(&str, usize) -> bool) -> Result<(), ShardError> {
        walk(self.json, |tensor, shard| match self.shards.binary_search(&shard) {
            Ok(i) if there(&tensor, i) => Ok(()),
            _ => Err(ShardError::NotThere { tensor: name(&tensor), shard: name(shard) }),
        })?;
        Ok(())
    }
}

/// Calls `entry` for every tensor of the index with its shard, and gives the number of
/// `weight_map`s.
fn walk<'a>(
    json: &'a [u8],
    mut entry: impl FnMut(Cow<'a, str>, &'a str) -> Result<(), ShardError>,
) -> Result<usize, ShardError> {
    let mut r = Reader::new(json);
    let mut maps = 0;
    if r.next()? != Some(Event::ObjectStart) {
        while r.next()?.is_some() {}
        return Ok(0);
    }
    while let Some(event) = r.next()? {
        let Event::Key(key) = event else { continue };
        if !key.is("weight_map") {
            r.skip_value()?;
            continue;
        }
        if r.next()? != Some(Event::ObjectStart) {
            return Err(ShardError::NoWeightMap);
        }
        maps += 1;
        while let Some(Event::Key(tensor)) = r.next()? {
            let tensor = tensor.to_cow();
            let Some(Event::String(shard)) = r.next()? else {
                return Err(ShardError::NotText { tensor: name(&tensor) });
            };
            let bad = || ShardError::BadName { shard: name(&shard.to_cow()) };
            entry(tensor, shard.as_str().filter(|s| is_plain(s)).ok_or_else(bad)?)?;
        }
    }
    Ok(maps)
}

/// Whether a name can only be that of a file in the same folder, on every system.
fn is_plain(shard: &str) -> bool {
    let escapes = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    shard.ends_with(".safetensors") && !shard.starts_with('.') && !shard.contains(escapes)
}
