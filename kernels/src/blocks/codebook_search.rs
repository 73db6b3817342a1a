//! How the formats with codebooks look for scales and entries of their grids with importances: several
//! scales are tried for a sub-block, each gives codes, codes that are not on the grid give way to the
//! best of the entries around them, and the best scale follows by weighted least squares. Weights, tries
//! and the order of sums are those of ggml's quantisers, so the bytes are the same.
//!
//! Levels are codes of the grid counted from 0: what a scale multiplies is one more than twice a level.

use super::codebook::Codebook;
use super::search::{self, code};
use super::{DenseBlock, F16};

/// What the search of a format is made of.
pub(super) struct Search {
    /// Number of levels.
    pub(super) levels: u8,
    /// Level of a byte of the grid.
    pub(super) level: fn(u8) -> u8,
    /// How the mean square counts in weights.
    pub(super) mean: f32,
    /// A sub-block whose largest magnitude is below this is taken for zeros.
    pub(super) nothing: f32,
    /// Scales tried on either side of the first, and the share of a step between two.
    pub(super) tries: i8,
    pub(super) step: f32,
    /// The first scale is that of [`search::units`], and not that of the largest magnitude.
    pub(super) by_units: bool,
    /// How many distances from a point off the grid have entries that are tried.
    pub(super) distances: u8,
    /// Entries that are looked for again with the scale that was found.
    pub(super) again: Again,
    /// What the unit is multiplied with.
    pub(super) factor: f32,
    /// Weights without importances.
    pub(super) plain: fn(mean: f32, square: f32) -> f32,
}

/// Entries that are looked for again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    All,
    /// All, if the codes of one were not on the grid.
    AllIfOff,
    /// Those whose codes were not on the grid.
    Off,
}

/// A format that is quantised to as ggml does.
pub(super) trait Searched: Codebook {
    const SEARCH: Search;
}

/// Most entries of a grid.
const MOST: usize = 2048;

/// Levels of the entries of a grid: those of the first code of all, then those of the second.
pub(super) struct Grid {
    planes: [[u8; MOST]; 8],
    len: usize,
    /// Codes of an entry.
    codes: usize,
    distances: u8,
}

/// Entries at a point, or around it.
pub(super) struct Near {
    /// The point plus 1; 0 for none.
    key: u32,
    on_grid: bool,
    len: usize,
    entries: [u16; MOST],
}

impl Near {
    pub(super) fn new() -> Near {
        Near { key: 0, on_grid: false, len: 0, entries: [0; MOST] }
    }

    /// True if the point that was looked for is on the grid.
    pub(super) fn is_on_grid(&self) -> bool {
        self.on_grid
    }
}

impl Grid {
    pub(super) fn new<B: Codebook>(level: fn(u8) -> u8, distances: u8) -> Grid {
        let (len, codes) = (B::GRID.len(), size_of::<B::Entry>());
        let mut planes = [[0; MOST]; 8];
        for (i, &entry) in B::GRID.iter().enumerate() {
            let bytes: u64 = entry.into();
            for (plane, byte) in planes.iter_mut().zip(bytes.to_le_bytes()).take(codes) {
                plane[i] = level(byte);
            }
        }
        Grid { planes, len, codes, distances }
    }

    /// Finds the entries at a point, or those at the least distances from it: nearer ones first, and
    /// in the order of the grid.
    pub(super) fn look(&self, point: &[u8], near: &mut Near) {
        let key = point.iter().fold(0, |k, &l| k << 3 | u32::from(l)) + 1;
        if near.key == key {
            return; // the next scale often leads to the same codes
        }
        near.key = key;
        let mut squares = [0u8; MOST];
        let squares = &mut squares[..self.len];
        for (plane, &level) in self.planes.iter().zip(point) {
            for (square, &l) in squares.iter_mut().zip(plane) {
                let off = l.abs_diff(level);
                *square += off * off; // 196 at most
            }
        }
        near.len = 0;
        let mut from = 0u8;
        for _ in 0..self.distances {
            // 255 stands for none.
            let least = squares.iter().fold(255, |m, &s| if s >= from && s < m { s } else { m });
            if least == 255 {
                break;
            }
            for (i, _) in squares.iter().enumerate().filter(|(_, s)| **s == least) {
                near.entries[near.len] = i as u16;
                near.len += 1;
            }
            if least == 0 {
                break; // no entry is there twice
            }
            from = least + 1;
        }
        near.on_grid = squares[usize::from(near.entries[0])] == 0;
    }

    /// The entry at the point that was looked for, or the best of those around it.
    /// `value` is what a scale multiplies for a level.
    pub(super) fn best(
        &self,
        near: &Near,
        x: &[f32],
        w: &[f32],
        scale: f32,
        value: impl Fn(u8) -> f32,
    ) -> u16 {
        let mut best = (f32::MAX, near.entries[0]);
        if near.on_grid {
            return best.1;
        }
        for &entry in &near.entries[..near.len] {
            let mut error = 0.0f32;
            for (plane, (&x, &w)) in self.planes.iter().zip(x.iter().zip(w)) {
                let off = scale * value(plane[usize::from(entry)]) - x;
                error += w * off * off;
            }
            if error < best.0 {
                best = (error, entry);
            }
        }
        best.1
    }

    /// Level `i` of an entry.
    pub(super) fn level(&self, entry: u16, i: usize) -> u8 {
        self.planes[i][usize::from(entry)]
    }

    /// Writes the levels of an entry.
    fn levels(&self, entry: u16, out: &mut [u8]) {
        for (l, plane) in out.iter_mut().zip(&self.planes) {
            *l = plane[usize::from(entry)];
        }
    }
}

/// What a scale multiplies for a level.
fn odd(level: u8) -> f32 {
    f32::from(2 * level + 1)
}

/// Levels nearest to `x` under a scale, given its inverse.
fn levels(x: &[f32], inverse: f32, top: f32, out: &mut [u8]) {
    for (l, x) in out.iter_mut().zip(x) {
        *l = code(0.5 * (inverse * x - 1.0), 0.0, top) as u8;
    }
}

/// Weighted sums of products of `x` and levels, and of squares of these.
fn sums(x: &[f32], w: &[f32], levels: &[u8]) -> (f32, f32) {
    let (mut xc, mut cc) = (0.0f32, 0.0f32);
    for (&l, (&x, &w)) in levels.iter().zip(x.iter().zip(w)) {
        let q = odd(l);
        xc += w * x * q;
        cc += w * q * q;
    }
    (xc, cc)
}

/// A sub-block that was searched.
struct Found {
    scale: f32,
    /// Entries, one for each four or eight codes.
    entries: [u16; 8],
    /// Signs of every eight codes.
    signs: [u8; 4],
}

/// Magnitudes of elements, and their signs; `even` turns that of the least one where an odd number is
/// set, whose magnitude then counts as negative.
fn magnitudes(x: &[f32], w: &[f32], even: bool, out: &mut [f32]) -> [u8; 4] {
    let mut all = [0; 4];
    let eights = x.chunks_exact(8).zip(w.chunks_exact(8)).zip(out.chunks_exact_mut(8));
    for (signs, ((x, w), out)) in all.iter_mut().zip(eights) {
        for (i, (to, &v)) in out.iter_mut().zip(x).enumerate() {
            let positive = v >= 0.0;
            *to = if positive { v } else { -v };
            *signs |= u8::from(!positive) << i;
        }
        if even && signs.count_ones() % 2 == 1 {
            let weight = |i: usize| w[i] * x[i] * x[i];
            let least = (1..8).fold(0, |m, i| if weight(i) < weight(m) { i } else { m });
            out[least] = -out[least];
            *signs ^= 1 << least;
        }
    }
    all
}

/// Searches a sub-block of 16 or 32 elements with these weights.
fn sub_block<B: Searched, const N: usize>(
    grid: &Grid,
    near: &mut [Near; 8],
    x: &[f32; N],
    w: &[f32; N],
) -> Found {
    let search = &B::SEARCH;
    let (codes, top) = (grid.codes, f32::from(search.levels - 1));
    let mut m = [0.0; N];
    let mut found = Found { scale: 0.0, entries: [0; 8], signs: [0; 4] };
    let signs = magnitudes(x, w, B::EVEN, &mut m);
    let mut most = m[1..].iter().fold(m[0], |m, &v| if m > v { m } else { v });
    if most < search.nothing {
        return found;
    }
    let steps = f32::from(2 * search.levels - 1);
    let mut scale = most / steps;
    if search.by_units {
        scale = search::units(&m, w, i32::from(search.levels) + 1).0;
        most = scale * f32::from(search.levels);
        if most <= 0.0 {
            return found;
        }
    }
    let roots = w.map(libm::sqrtf);
    let groups = N / codes;
    let (mut best, mut chosen) = (0.0f32, [0u8; N]);
    let mut off = [search.again == Again::AllIfOff; 8];
    let parts = |i: usize| i * codes..(i + 1) * codes;
    let mut look = |i: usize, inverse: f32, scale: f32, to: &mut [u8]| -> (u16, bool) {
        levels(&m[parts(i)], inverse, top, to);
        grid.look(to, &mut near[i]);
        let entry = grid.best(&near[i], &m[parts(i)], &roots[parts(i)], scale, odd);
        grid.levels(entry, to);
        (entry, !near[i].on_grid)
    };
    for tried in -search.tries..=search.tries {
        let inverse = (steps + f32::from(tried) * search.step) / most;
        let this = 1.0 / inverse;
        let (mut levels, mut entries, mut were_off) = ([0u8; N], [0u16; 8], [false; 8]);
        for i in 0..groups {
            (entries[i], were_off[i]) = look(i, inverse, this, &mut levels[parts(i)]);
        }
        let (xc, cc) = sums(&m, w, &levels);
        if cc > 0.0 && xc * xc > best * cc {
            scale = xc / cc;
            best = scale * xc;
            (chosen, found.entries, off) = (levels, entries, were_off);
        }
    }
    let any = off[..groups].contains(&true);
    if scale > 0.0 && (any || search.again == Again::All) {
        let inverse = 1.0 / scale;
        for i in (0..groups).filter(|&i| search.again != Again::Off || off[i]) {
            found.entries[i] = look(i, inverse, scale, &mut chosen[parts(i)]).0;
        }
        let (xc, cc) = sums(&m, w, &chosen);
        if cc > 0.0 {
            scale = xc / cc;
        }
    }
    found.signs = signs;
    if scale < 0.0 {
        (scale, found.signs) = (-scale, signs.map(|s| !s));
    }
    Found { scale, ..found }
}

/// Quantises blocks of 256; without importances, elements weigh by their own size.
pub(super) fn quantize<B: Searched>(x: &[f32], importances: Option<&[f32]>, out: &mut [B]) {
    assert_eq!(x.len(), out.len() * 256);
    assert!(importances.is_none_or(|w| w.len() == x.len()));
    let grid = Grid::new::<B>(B::SEARCH.level, B::SEARCH.distances);
    let mut near = core::array::from_fn(|_| Near::new());
    for (i, (x, b)) in x.as_chunks::<256>().0.iter().zip(out).enumerate() {
        let importances = importances.map(|w| &w[256 * i..][..256]);
        match <B as super::CodeBlock>::SUB {
            16 => block::<B, 16>(&grid, &mut near, x, importances, b),
            _ => block::<B, 32>(&grid, &mut near, x, importances, b),
        }
    }
}

fn block<B: Searched, const N: usize>(
    grid: &Grid,
    near: &mut [Near; 8],
    x: &[f32; 256],
    importances: Option<&[f32]>,
    b: &mut B,
) {
    let search = &B::SEARCH;
    let mean = search.mean * search::squares(x) / 256.0;
    let (mut most, mut scales) = (0.0f32, [0.0; 16]);
    let (mut indices, mut signs) = ([[0; 2]; 32], [0; 32]);
    let per = N / 8;
    for (sub, x) in x.as_chunks::<N>().0.iter().enumerate() {
        let w = match importances {
            Some(all) => search::weights(x, &all.as_chunks::<N>().0[sub], mean),
            None => x.map(|v| (search.plain)(mean, v * v)),
        };
        let found = sub_block::<B, N>(grid, near, x, &w);
        scales[sub] = found.scale;
        most = if most > found.scale { most } else { found.scale };
        for i in 0..per {
            let entry = |i: usize| usize::from(found.entries[i]);
            signs[sub * per + i] = found.signs[i];
            indices[sub * per + i] = match grid.codes {
                8 => [entry(i), 0],
                _ => [entry(2 * i), entry(2 * i + 1)],
            };
        }
    }
    *b = bytemuck::Zeroable::zeroed();
    let none = most == 0.0;
    if none && B::EVEN {
        return;
    }
    let d = most / 31.0;
    let inverse = if none { 0.0 } else { 1.0 / d };
    let halves =
        scales.map(|s| if none { 0 } else { code(0.5 * (inverse * s - 1.0), 0.0, 15.0) as u8 });
    b.set_scales(F16::nearest(d * search.factor), &halves[..256 / N]);
    for (eight, (indices, signs)) in indices.into_iter().zip(signs).enumerate() {
        b.set(eight, indices, signs);
    }
}
