//! Partitioning of a product into items that workers claim and chunks of outputs.

use core::ops::Range;

use super::{Buffer, BufferType};

/// Floats of a staging tile that fit into the caches close to a core.
pub(crate) const TILE_FLOATS: usize = 1 << 15;

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(crate) fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

/// Outputs of a product, in units that must not be split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    /// Outputs that must not be split: a whole head of the cache, or a block of activations.
    pub(crate) unit: usize,
    /// Number of all outputs.
    pub(crate) total: usize,
    /// True if outputs pass through a staging tile.
    pub(crate) staged: bool,
}

impl Chunks {
    /// Chunks of a product with `total` outputs that are stored in `out`.
    pub(crate) fn stored(out: &Buffer, total: usize) -> Chunks {
        match out.kind {
            BufferType::F32 => Chunks { unit: 16, total, staged: false },
            kind => Chunks { unit: kind.block(), total, staged: true },
        }
    }

    /// Chunks of a product with `total` outputs that pass through a staging tile to `out`.
    pub(crate) fn staged(out: &Buffer, total: usize) -> Chunks {
        Chunks { unit: out.kind.block().max(16), total, staged: true }
    }

    /// Chunks of a product whose outputs are heads.
    pub(crate) fn heads(head_dim: usize, total: usize) -> Chunks {
        Chunks { unit: lcm(head_dim, 16), total, staged: true }
    }

    /// Number of units, which are the items of a product.
    pub(crate) fn units(&self) -> usize {
        self.total.div_ceil(self.unit)
    }

    /// Outputs of some units.
    pub(crate) fn outputs(&self, units: Range<usize>) -> Range<usize> {
        let end = self.total.min(units.end * self.unit);
        (units.start * self.unit).min(end)..end
    }

    /// Outputs in a chunk, for `n` tokens of `cols` inputs: half of a millisecond, or one
    /// unit. (Each call prepares what it needs to know of all tokens.)
    pub(crate) fn chunk(&self, n: usize, cols: usize, products_per_ms: usize) -> usize {
        let tile = if self.staged { TILE_FLOATS / n.max(1) } else { usize::MAX };
        let most = tile.min(products_per_ms / 2 / (n * cols).max(1)).min(self.total);
        (most / self.unit * self.unit).max(self.unit)
    }

    /// Maximum number of floats in the staging tile, for steps of up to `batch` tokens.
    pub(crate) fn tile_floats(&self, batch: usize) -> Option<usize> {
        if !self.staged {
            return Some(0);
        }
        let all = batch.checked_mul(self.total.checked_next_multiple_of(self.unit)?)?;
        Some(batch.checked_mul(self.unit)?.max(TILE_FLOATS).min(all))
    }
}
