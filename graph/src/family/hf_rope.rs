//! Rotary parameters in config.json, of which there are three generations: `rope_theta` with
//! `rope_scaling`, both in `rope_scaling`, and both in `rope_parameters`, for all layers or by kind
//! of layer. What counts where a file mixes them is decided as transformers 5 does.

use teff_kernels::RopeKind;

use super::Rule;
use crate::SpecError;
use crate::meta::{MetaError, Metadata, Value, float, required, text};
use crate::spec::{Rope, RopeScaling, SpecRoom};

/// Names of the fields of an object with rotary parameters.
struct Keys {
    all: &'static str,
    kind: &'static str,
    /// Name of the kind before transformers 4.43.
    old_kind: &'static str,
    base: &'static str,
    factor: &'static str,
    low: &'static str,
    high: &'static str,
    original: &'static str,
    partial: &'static str,
    /// Objects with the parameters of one kind of layer.
    by_kind: [&'static str; 2],
}

macro_rules! keys {
    ($all:literal) => {
        Keys {
            all: $all,
            kind: concat!($all, ".rope_type"),
            old_kind: concat!($all, ".type"),
            base: concat!($all, ".rope_theta"),
            factor: concat!($all, ".factor"),
            low: concat!($all, ".low_freq_factor"),
            high: concat!($all, ".high_freq_factor"),
            original: concat!($all, ".original_max_position_embeddings"),
            partial: concat!($all, ".partial_rotary_factor"),
            by_kind: [concat!($all, ".full_attention"), concat!($all, ".sliding_attention")],
        }
    };
}

const SCALING: Keys = keys!("rope_scaling");
const PARAMETERS: Keys = keys!("rope_parameters");
const FULL: Keys = keys!("rope_parameters.full_attention");
const WINDOWED: Keys = keys!("rope_parameters.sliding_attention");

const BASE: &str = "rope_theta";
const WINDOW_BASE: &str = "rope_local_base_freq";
const ORIGINAL: &str = "original_max_position_embeddings";
const PARTIAL: &str = "partial_rotary_factor";

impl Keys {
    /// True if the file has the object, and it isn't empty.
    fn are_there(&self, meta: &dyn Metadata) -> Result<bool, SpecError> {
        match meta.get(self.all) {
            None | Some(Value::Null | Value::Other) if meta.item(self.all, 0).is_none() => {}
            _ => return Err(MetaError::Wrong { key: self.all, want: "an object" }.into()),
        }
        let fields = [
            self.kind,
            self.old_kind,
            self.base,
            self.factor,
            self.low,
            self.high,
            self.original,
            self.partial,
        ];
        Ok(fields.iter().chain(&self.by_kind).any(|key| meta.get(key).is_some()))
    }

    /// The kind of the scaling and the key that says so; the newer key wins.
    fn kind<'m>(
        &self,
        meta: &'m dyn Metadata,
        notes: &mut Notes<'_>,
    ) -> Result<Option<(&'static str, &'m str)>, SpecError> {
        let (new, old) = (text(meta, self.kind)?, text(meta, self.old_kind)?);
        if new.is_some() && old.is_some() && new != old {
            notes.add(self.old_kind, Rule::RopeType);
        }
        Ok(match new {
            Some(kind) => Some((self.kind, kind)),
            None => old.map(|kind| (self.old_kind, kind)),
        })
    }

    /// Notes a factor that has no effect, since the kind is `default`.
    fn no_factor(
        &self,
        meta: &dyn Metadata,
        kind: &str,
        notes: &mut Notes<'_>,
    ) -> Result<(), SpecError> {
        if kind == "default" && float(meta, self.factor)?.is_some_and(|f| f != 1.0) {
            notes.add(self.factor, Rule::NoKind);
        }
        Ok(())
    }

    fn no_part(&self, meta: &dyn Metadata) -> Result<(), SpecError> {
        for key in [PARTIAL, self.partial] {
            if float(meta, key)?.is_some_and(|f| f != 1.0) {
                return Err(SpecError::Unsupported { key, known: "absent or 1" });
            }
        }
        Ok(())
    }
}

/// Destination of notices, if there is one.
struct Notes<'r>(Option<&'r mut SpecRoom>);

impl Notes<'_> {
    fn add(&mut self, key: &'static str, rule: Rule) {
        if let Some(room) = &mut self.0 {
            room.note(key, rule);
        }
    }

    /// Notes that `outer` is overruled, if both have a value and these differ.
    fn inner_wins(
        &mut self,
        meta: &dyn Metadata,
        outer: &'static str,
        inner: Option<f32>,
    ) -> Result<(), SpecError> {
        if let (Some(a), Some(b)) = (float(meta, outer)?, inner)
            && a != b
        {
            self.add(outer, Rule::InnerBase);
        }
        Ok(())
    }
}

/// Scaling of this kind, with `number` giving a field by its name in each object.
fn scaling(
    (key, kind): (&'static str, &str),
    number: &dyn Fn(fn(&Keys) -> &'static str) -> Result<f32, SpecError>,
    original: impl FnOnce() -> Result<f32, SpecError>,
) -> Result<RopeScaling, SpecError> {
    Ok(match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear(number(|k| k.factor)?),
        "llama3" => RopeScaling::Llama3 {
            factor: number(|k| k.factor)?,
            low: number(|k| k.low)?,
            high: number(|k| k.high)?,
            original: original()?,
        },
        _ => return Err(SpecError::Unsupported { key, known: "default, linear, llama3" }),
    })
}

/// Sizes that rotary parameters refer to.
#[derive(Clone, Copy)]
pub(super) struct Of {
    pub(super) head_dim: u32,
    pub(super) context: u32,
    /// Default of the class.
    pub(super) base: f32,
}

impl Of {
    fn rope(self, base: f32, scaling: RopeScaling) -> Rope {
        Rope { kind: RopeKind::NeoX, dims: self.head_dim, base, scaling }
    }
}

/// Rotary embedding of models with one for all layers, in halves (the order in which weights are
/// stored).
pub(super) fn one(meta: &dyn Metadata, room: &mut SpecRoom, of: Of) -> Result<Rope, SpecError> {
    let (older, newer) = (SCALING.are_there(meta)?, PARAMETERS.are_there(meta)?);
    let keys = if older { SCALING } else { PARAMETERS };
    let rope = read(meta, &keys, of, &mut Notes(Some(room)))?;
    if older && newer && read(meta, &PARAMETERS, of, &mut Notes(None)) != Ok(rope) {
        room.note(PARAMETERS.all, Rule::ScalingReplaces);
    }
    Ok(rope)
}

fn read(
    meta: &dyn Metadata,
    keys: &Keys,
    of: Of,
    notes: &mut Notes<'_>,
) -> Result<Rope, SpecError> {
    for key in keys.by_kind {
        if !matches!(meta.get(key), None | Some(Value::Null)) {
            return Err(SpecError::Unsupported { key, known: "one embedding for all layers" });
        }
    }
    keys.no_part(meta)?;
    let inner = float(meta, keys.base)?;
    notes.inner_wins(meta, BASE, inner)?;
    let base = inner.or(float(meta, BASE)?).unwrap_or(of.base);
    let kind = keys.kind(meta, notes)?.unwrap_or((keys.kind, "default"));
    keys.no_factor(meta, kind.1, notes)?;
    let number = |of: fn(&Keys) -> &'static str| {
        let key = of(keys);
        Ok(required(float(meta, key)?, key)?)
    };
    let original = || {
        let (outer, inner) = (float(meta, ORIGINAL)?, float(meta, keys.original)?);
        if outer.is_some() && inner.is_some() && outer != inner {
            notes.add(keys.original, Rule::OuterContext);
        }
        Ok(outer.or(inner).unwrap_or(of.context as f32))
    };
    Ok(of.rope(base, scaling(kind, &number, original)?))
}

/// Rotary embeddings of Gemma 3: of layers without and with a window. The fields of `rope_scaling`
/// replace those of the former one by one.
pub(super) fn by_kind(
    meta: &dyn Metadata,
    room: &mut SpecRoom,
    of: Of,
    window_base: f32,
) -> Result<[Rope; 2], SpecError> {
    let notes = &mut Notes(Some(room));
    for keys in [&SCALING, &PARAMETERS, &FULL, &WINDOWED] {
        keys.are_there(meta)?;
        keys.no_part(meta)?;
    }
    for key in SCALING.by_kind {
        if !matches!(meta.get(key), None | Some(Value::Null)) {
            return Err(SpecError::Unsupported { key, known: "in `rope_parameters`" });
        }
    }
    let full = full(meta, notes, of)?;
    let flat_base = float(meta, PARAMETERS.base)?.is_some_and(|base| base != full.base);
    let flat_kind = PARAMETERS.kind(meta, notes)?.is_some_and(|(_, kind)| kind != "default");
    if flat_base || flat_kind {
        notes.add(PARAMETERS.all, Rule::ByKind);
    }
    let inner = float(meta, WINDOWED.base)?;
    notes.inner_wins(meta, WINDOW_BASE, inner)?;
    let base = inner.or(float(meta, WINDOW_BASE)?).unwrap_or(window_base);
    let kind = WINDOWED.kind(meta, notes)?.unwrap_or((WINDOWED.kind, "default"));
    WINDOWED.no_factor(meta, kind.1, notes)?;
    let number = |of: fn(&Keys) -> &'static str| {
        let key = of(&WINDOWED);
        Ok(required(float(meta, key)?, key)?)
    };
    let original = || Ok(float(meta, WINDOWED.original)?.unwrap_or(of.context as f32));
    Ok([full, of.rope(base, scaling(kind, &number, original)?)])
}

/// Rotary embedding of layers without a window.
fn full(meta: &dyn Metadata, notes: &mut Notes<'_>, of: Of) -> Result<Rope, SpecError> {
    let value = |key: fn(&Keys) -> &'static str| -> Result<Option<f32>, SpecError> {
        Ok(match float(meta, key(&SCALING))? {
            None => float(meta, key(&FULL))?,
            found => found,
        })
    };
    let inner = value(|k| k.base)?;
    notes.inner_wins(meta, BASE, inner)?;
    let base = inner.or(float(meta, BASE)?).unwrap_or(of.base);
    // Where the file has no object for these layers, they have one of the kind `default`, to which
    // `type` adds nothing.
    let (new, old) = (text(meta, SCALING.kind)?, text(meta, SCALING.old_kind)?);
    let known = match meta.get(FULL.all) {
        None | Some(Value::Null) => Some((FULL.kind, "default")),
        _ => FULL.kind(meta, notes)?,
    };
    let kind = match (new, known, old) {
        (Some(kind), ..) => (SCALING.kind, kind),
        (None, Some((key, kind)), _) if key == FULL.kind => (key, kind),
        (None, _, Some(kind)) => (SCALING.old_kind, kind),
        (None, known, None) => known.unwrap_or((FULL.kind, "default")),
    };
    if old.is_some_and(|old| old != kind.1) {
        let rule = if new.is_some() { Rule::RopeType } else { Rule::OnlyRopeType };
        notes.add(SCALING.old_kind, rule);
    } else {
        SCALING.no_factor(meta, kind.1, notes)?;
        FULL.no_factor(meta, kind.1, notes)?;
    }
    let number = |key: fn(&Keys) -> &'static str| {
        let missing =
            MetaError::Missing(key(if meta.get(SCALING.all).is_some() { &SCALING } else { &FULL }));
        Ok(value(key)?.ok_or(missing)?)
    };
    let original = || Ok(value(|k| k.original)?.unwrap_or(of.context as f32));
    Ok(of.rope(base, scaling(kind, &number, original)?))
}
