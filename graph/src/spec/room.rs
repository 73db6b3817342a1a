//! Layers as a few kinds and a pattern, and the room in which a family lays them out without a
//! heap.

use super::{Rope, SpecError, inconsistent};
use crate::List;
use crate::family::{MAX_NOTICES, Notice, Rule};
use crate::layers::Layer;

/// Maximum number of layers of a model.
pub const MAX_LAYERS: usize = 512;
/// Maximum number of kinds of layers of a model.
pub const MAX_KINDS: usize = 16;
/// Maximum number of rotary embeddings of a model.
pub const MAX_ROPES: usize = 4;

/// Layers of a model: the distinct kinds, and a pattern that gives the kind of each layer.
///
/// The pattern may be a period, such as five layers with a window and one without, which is
/// repeated up to the number of layers.
///
/// ```
/// use teff_graph::Layers;
/// use teff_graph::family::gpt2;
/// use teff_graph::layers::Mixer;
///
/// let whole = gpt2::small().layers.kinds()[0];
/// let mut local = whole;
/// if let Mixer::Attention(attention) = &mut local.mixer {
///     attention.window = Some(128);
/// }
///
/// // Two layers with a window and one without, again and again.
/// let kinds = [local, whole];
/// let layers = Layers::new(&kinds, &[0, 0, 1], 8);
/// assert_eq!((layers.kind_of(4), layers.kind_of(5)), (0, 1));
/// assert_ne!(layers.get(4), layers.get(5));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Layers<'p> {
    kinds: List<'p, Layer>,
    pattern: List<'p, u8>,
    count: u32,
}

impl<'p> Layers<'p> {
    /// `count` layers, of which layer `l` is of kind `pattern[l % pattern.len()]`.
    #[must_use]
    pub const fn new(kinds: &'p [Layer], pattern: &'p [u8], count: u32) -> Self {
        Layers { kinds: List::Borrowed(kinds), pattern: List::Borrowed(pattern), count }
    }

    /// Number of layers.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a model has at least one
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Distinct kinds of layers.
    #[must_use]
    pub fn kinds(&self) -> &[Layer] {
        &self.kinds
    }

    /// The pattern, at least one period of it.
    #[must_use]
    pub fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// Index of the kind of layer `l`.
    #[must_use]
    pub fn kind_of(&self, l: u32) -> usize {
        usize::from(self.pattern[l as usize % self.pattern.len()])
    }

    /// Layer `l`.
    ///
    /// # Panics
    /// If the pattern refers to a kind that does not exist ([`super::Spec::validate`] would have
    /// failed).
    #[must_use]
    pub fn get(&self, l: u32) -> &Layer {
        &self.kinds[self.kind_of(l)]
    }

    /// Iterator over all layers, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        (0..self.count).map(|l| self.get(l))
    }

    /// The same layers, borrowed from these.
    #[must_use]
    pub fn borrowed(&self) -> Layers<'_> {
        let (kinds, pattern) = (self.kinds.borrowed(), self.pattern.borrowed());
        Layers { kinds, pattern, count: self.count }
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if self.count == 0 || self.count as usize > MAX_LAYERS {
            return inconsistent("there must be 1 to 512 layers");
        }
        if self.kinds.len() > MAX_KINDS {
            return Err(SpecError::Room { what: "kinds of layers", max: MAX_KINDS });
        }
        if self.pattern.is_empty()
            || self.pattern.iter().any(|&k| usize::from(k) >= self.kinds.len())
        {
            return inconsistent("the pattern of layers names kinds that are not there");
        }
        Ok(())
    }
}

#[cfg(feature = "alloc")]
impl Layers<'_> {
    /// Copy with owned lists.
    #[must_use]
    pub fn to_owned(&self) -> Layers<'static> {
        let (kinds, pattern) = (self.kinds.to_owned(), self.pattern.to_owned());
        Layers { kinds, pattern, count: self.count }
    }

    /// The same number of layers, with every kind changed by `f`.
    #[must_use]
    pub fn map(&self, f: impl FnMut(Layer) -> Layer) -> Layers<'static> {
        let kinds: alloc::vec::Vec<Layer> = self.kinds.iter().copied().map(f).collect();
        Layers { kinds: kinds.into(), pattern: self.pattern.to_owned(), count: self.count }
    }

    /// The same kinds and pattern, for another number of layers.
    #[must_use]
    pub fn with_len(&self, count: u32) -> Layers<'static> {
        Layers { count, ..self.to_owned() }
    }
}

/// Room for the lists of a [`Spec`](super::Spec) that a family fills, on the stack or in a
/// `static`, so that reading a model's metadata needs no heap.
///
/// ```
/// use teff_graph::family::gpt2;
/// use teff_graph::layers::Mixer;
/// use teff_graph::{Spec, SpecRoom};
///
/// // Every third of six layers attends to everything, the others to 128 positions.
/// let mut room = SpecRoom::new();
/// for l in 0..6 {
///     let mut layer = *gpt2::small().layers.get(0);
///     if let Mixer::Attention(attention) = &mut layer.mixer {
///         attention.window = if l % 3 == 2 { None } else { Some(128) };
///     }
///     room.push(layer)?;
/// }
/// let spec = Spec { layers: room.layers(), ..gpt2::small() };
/// spec.validate()?;
/// assert_eq!((spec.layers.kinds().len(), spec.layers.pattern()), (2, &[0, 0, 1][..]));
/// # Ok::<(), teff_graph::SpecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpecRoom {
    kinds: [Layer; MAX_KINDS],
    n_kinds: usize,
    pattern: [u8; MAX_LAYERS],
    count: usize,
    ropes: [Rope; MAX_ROPES],
    n_ropes: usize,
    notices: [Notice; MAX_NOTICES],
    n_notices: usize,
}

impl Default for SpecRoom {
    fn default() -> Self {
        SpecRoom::new()
    }
}

impl SpecRoom {
    /// Empty room.
    #[must_use]
    pub const fn new() -> Self {
        let rope = Rope {
            kind: teff_kernels::RopeKind::NeoX,
            dims: 2,
            base: 1.0,
            scaling: super::RopeScaling::None,
            magnitude: 1.0,
        };
        SpecRoom {
            kinds: [Layer::EMPTY; MAX_KINDS],
            n_kinds: 0,
            pattern: [0; MAX_LAYERS],
            count: 0,
            ropes: [rope; MAX_ROPES],
            n_ropes: 0,
            notices: [Notice { key: "", rule: Rule::NoWindow }; MAX_NOTICES],
            n_notices: 0,
        }
    }

    /// Appends a layer, reusing its kind if an equal one exists.
    ///
    /// # Errors
    /// [`SpecError::Room`].
    pub fn push(&mut self, layer: Layer) -> Result<(), SpecError> {
        let kind = match self.kinds[..self.n_kinds].iter().position(|k| *k == layer) {
            Some(kind) => kind,
            None => {
                let room = SpecError::Room { what: "kinds of layers", max: MAX_KINDS };
                *self.kinds.get_mut(self.n_kinds).ok_or(room)? = layer;
                self.n_kinds += 1;
                self.n_kinds - 1
            }
        };
        let room = SpecError::Room { what: "layers", max: MAX_LAYERS };
        *self.pattern.get_mut(self.count).ok_or(room)? = kind as u8;
        self.count += 1;
        Ok(())
    }

    /// Adds a rotary embedding, or finds an equal one, and returns its index.
    ///
    /// # Errors
    /// [`SpecError::Room`].
    pub fn rope(&mut self, rope: Rope) -> Result<u8, SpecError> {
        if let Some(i) = self.ropes[..self.n_ropes].iter().position(|r| *r == rope) {
            return Ok(i as u8);
        }
        let room = SpecError::Room { what: "rotary embeddings", max: MAX_ROPES };
        *self.ropes.get_mut(self.n_ropes).ok_or(room)? = rope;
        self.n_ropes += 1;
        Ok(self.n_ropes as u8 - 1)
    }

    /// Layers pushed so far, with a repeating pattern cut to its period.
    #[must_use]
    pub fn layers(&self) -> Layers<'_> {
        let pattern = &self.pattern[..self.count];
        let period =
            (1..=self.count).find(|&p| (p..self.count).all(|i| pattern[i] == pattern[i - p]));
        let pattern = &pattern[..period.unwrap_or(0)];
        Layers::new(&self.kinds[..self.n_kinds], pattern, self.count as u32)
    }

    /// Rotary embeddings added so far.
    #[must_use]
    pub fn ropes(&self) -> List<'_, Rope> {
        List::Borrowed(&self.ropes[..self.n_ropes])
    }

    /// Adds a notice about the metadata, unless there is an equal one. Beyond [`MAX_NOTICES`],
    /// which no family reaches, it is dropped.
    pub fn note(&mut self, key: &'static str, rule: Rule) {
        let notice = Notice { key, rule };
        if !self.notices().contains(&notice)
            && let Some(room) = self.notices.get_mut(self.n_notices)
        {
            *room = notice;
            self.n_notices += 1;
        }
    }

    /// Notices added so far.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices[..self.n_notices]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{FeedForward, Mixer};

    fn layer(window: Option<u32>) -> Layer {
        let Mixer::Attention(a) = Layer::EMPTY.mixer else { panic!() };
        Layer { mixer: Mixer::Attention(crate::layers::Attention { window, ..a }), ..Layer::EMPTY }
    }

    #[test]
    fn patterns_are_cut_to_their_period() {
        let mut room = SpecRoom::new();
        for l in 0..26 {
            room.push(layer(if (l + 1) % 6 == 0 { None } else { Some(512) })).unwrap();
        }
        let layers = room.layers();
        assert_eq!(
            (layers.kinds().len(), layers.pattern(), layers.len()),
            (2, &[0u8, 0, 0, 0, 0, 1][..], 26)
        );
        for l in 0..26 {
            assert_eq!(*layers.get(l), layer(if (l + 1) % 6 == 0 { None } else { Some(512) }));
        }
        assert!(matches!(layers.get(0).ffn, FeedForward::Dense(_)));
    }

    #[test]
    fn notices_are_kept_once() {
        let mut room = SpecRoom::new();
        for _ in 0..2 {
            room.note("a", Rule::NoWindow);
            room.note("a", Rule::HeadKept);
            room.note("b", Rule::NoWindow);
        }
        let keys = room.notices().iter().map(|n| (n.key, n.rule));
        assert!(keys.eq([("a", Rule::NoWindow), ("a", Rule::HeadKept), ("b", Rule::NoWindow)]));
        for (i, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, i);
            room.note("c", rule);
        }
        assert_eq!(room.notices().len(), MAX_NOTICES);
    }

    #[test]
    fn what_has_no_room_is_an_error() {
        let mut room = SpecRoom::new();
        for i in 0..MAX_KINDS as u32 {
            room.push(layer(Some(i + 1))).unwrap();
        }
        let full = SpecError::Room { what: "kinds of layers", max: MAX_KINDS };
        assert_eq!(room.push(layer(None)), Err(full));
        for _ in MAX_KINDS..MAX_LAYERS {
            room.push(layer(Some(1))).unwrap();
        }
        let full = SpecError::Room { what: "layers", max: MAX_LAYERS };
        assert_eq!(room.push(layer(Some(1))), Err(full));
    }
}
