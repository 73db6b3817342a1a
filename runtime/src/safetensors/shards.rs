//! `model.safetensors.index.json`: the mapping from tensors to shards.

use std::borrow::Cow;

use super::{ShardError, name};
use crate::json::{Event, Reader};

/// Size limit of an index in bytes; those of the largest models have a few hundred thousand.
pub const MAX_INDEX: usize = 16 << 20;

/// Maximum number of shards of a model.
pub const MAX_SHARDS: usize = 4096;

/// A parsed and validated index.
#[derive(Clone, Debug)]
pub struct ShardIndex<'a> {
    json: &'a [u8],
    /// Sorted, without duplicates.
    shards: Vec<&'a str>,
}

impl<'a> ShardIndex<'a> {
    /// Parses and validates an index: JSON with an object `weight_map` of strings, each the plain
    /// name of a file in the same folder.
    ///
    /// # Errors
    /// [`ShardError`].
    pub fn parse(json: &'a [u8]) -> Result<ShardIndex<'a>, ShardError> {
        if json.len() > MAX_INDEX {
            return Err(ShardError::TooLarge { bytes: json.len() as u64 });
        }
        let mut shards: Vec<&'a str> = Vec::new();
        let maps = walk(json, |_, shard| {
            // The same shard mostly comes many times in a row, and there are few, so this is cheap.
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

    /// The file names of the shards, sorted, without duplicates.
    #[must_use]
    pub fn shards(&self) -> &[&'a str] {
        &self.shards
    }

    /// Checks that every tensor is in its shard: `there` is called with the tensor's name and the
    /// index of its shard in [`shards`](Self::shards).
    ///
    /// # Errors
    /// [`ShardError::NotThere`] for the first tensor for which `there` returns false.
    pub fn check(&self, there: impl Fn(&str, usize) -> bool) -> Result<(), ShardError> {
        walk(self.json, |tensor, shard| match self.shards.binary_search(&shard) {
            Ok(i) if there(&tensor, i) => Ok(()),
            _ => Err(ShardError::NotThere { tensor: name(&tensor), shard: name(shard) }),
        })?;
        Ok(())
    }
}

/// Calls `entry` for every tensor of the index with its shard, and returns the number of
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

/// True if a name can only refer to a file in the same folder, on every system.
fn is_plain(shard: &str) -> bool {
    let escapes = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    shard.ends_with(".safetensors") && !shard.starts_with('.') && !shard.contains(escapes)
}
