//! Rotary parameters in config.json, of which there are three generations: `rope_theta` with
//! `rope_scaling`, both in `rope_scaling`, and both in `rope_parameters`, for all layers or by kind
//! of layer. What counts where a file mixes them is decided as transformers 5 does.

use teff_kernels::{MAX_HEAD_DIM, RopeKind};

use super::Rule;
use crate::SpecError;
use crate::meta::{MetaError, Metadata, Value, flag, float, text};
use crate::spec::{Rope, RopeScaling, SpecRoom, yarn_magnitude};

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
    fast: &'static str,
    slow: &'static str,
    attention: &'static str,
    mscale: &'static str,
    mscale_all: &'static str,
    truncate: &'static str,
    /// Lists of LongRoPE's factors for long and for short contexts.
    lists: [&'static str; 2],
    /// Parameters of scalings, which need a kind.
    of_kinds: [&'static str; 10],
    /// Parameters of sections of images and of Ministral.
    others: [&'static str; 3],
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
            fast: concat!($all, ".beta_fast"),
            slow: concat!($all, ".beta_slow"),
            attention: concat!($all, ".attention_factor"),
            mscale: concat!($all, ".mscale"),
            mscale_all: concat!($all, ".mscale_all_dim"),
            truncate: concat!($all, ".truncate"),
            lists: [concat!($all, ".long_factor"), concat!($all, ".short_factor")],
            of_kinds: [
                concat!($all, ".long_factor"),
                concat!($all, ".short_factor"),
                concat!($all, ".low_freq_factor"),
                concat!($all, ".high_freq_factor"),
                concat!($all, ".beta_fast"),
                concat!($all, ".beta_slow"),
                concat!($all, ".attention_factor"),
                concat!($all, ".mscale"),
                concat!($all, ".mscale_all_dim"),
                concat!($all, ".truncate"),
            ],
            others: [
                concat!($all, ".mrope_section"),
                concat!($all, ".mrope_interleaved"),
                concat!($all, ".llama_4_scaling_beta"),
            ],
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
        let fields =
            [self.kind, self.old_kind, self.base, self.factor, self.original, self.partial];
        let all = [&fields[..], &self.of_kinds, &self.others, &self.by_kind];
        Ok(all.into_iter().flatten().any(|key| meta.get(key).is_some()))
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

    /// Notes a factor or another parameter that has no effect, since the kind is `default`.
    fn no_factor(
        &self,
        meta: &dyn Metadata,
        kind: &str,
        notes: &mut Notes<'_>,
    ) -> Result<(), SpecError> {
        if kind != "default" {
            return Ok(());
        }
        if float(meta, self.factor)?.is_some_and(|f| f != 1.0) {
            notes.add(self.factor, Rule::NoKind);
            return Ok(());
        }
        let given = |key: &&&'static str| !matches!(meta.get(key), None | Some(Value::Null));
        if let Some(key) = self.of_kinds.iter().find(given) {
            notes.add(key, Rule::NoKind);
        }
        Ok(())
    }

    /// Refuses parameters by kind of layer.
    fn one_kind(&self, meta: &dyn Metadata) -> Result<(), SpecError> {
        for key in self.by_kind {
            if !matches!(meta.get(key), None | Some(Value::Null)) {
                return Err(SpecError::Unsupported { key, known: "one embedding for all layers" });
            }
        }
        Ok(())
    }

    /// The base of the frequencies.
    fn base(&self, meta: &dyn Metadata, of: Of, notes: &mut Notes<'_>) -> Result<f32, SpecError> {
        let inner = float(meta, self.base)?;
        notes.inner_wins(meta, BASE, inner)?;
        Ok(inner.or(float(meta, BASE)?).unwrap_or(of.base))
    }

    /// The original context.
    fn original(
        &self,
        meta: &dyn Metadata,
        of: Of,
        notes: &mut Notes<'_>,
    ) -> Result<f32, SpecError> {
        let (outer, inner) = (float(meta, ORIGINAL)?, float(meta, self.original)?);
        if outer.is_some() && inner.is_some() && outer != inner {
            notes.add(self.original, Rule::OuterContext);
        }
        Ok(outer.or(inner).unwrap_or(of.context as f32))
    }

    /// LongRoPE and its magnitude, which short contexts have too. The lists of factors are read by the
    /// model's container.
    fn long(
        &self,
        meta: &dyn Metadata,
        of: Of,
        original: f32,
        dims: u32,
    ) -> Result<(RopeScaling, f32), SpecError> {
        let n = dims as usize / 2;
        for key in self.lists {
            let is_number = |i| {
                matches!(meta.item(key, i), Some(Value::Uint(1..)))
                    || matches!(meta.item(key, i), Some(Value::Float(x)) if x > 0.0 && (x as f32).is_normal())
            };
            if n > MAX_HEAD_DIM / 2 || !(0..n).all(is_number) || meta.item(key, n).is_some() {
                let want = "a list of positive numbers, half as many as elements that are rotated";
                return Err(MetaError::Wrong { key, want }.into());
            }
        }
        if !((2.0..16_777_216.0).contains(&original) && libm::truncf(original) == original) {
            let want = "a number of positions from 2 to 2^24";
            return Err(MetaError::Wrong { key: self.original, want }.into());
        }
        let factor = match float(meta, self.factor)? {
            Some(factor) => f64::from(factor),
            None => f64::from(of.context) / f64::from(original),
        };
        let magnitude = match float(meta, self.attention)? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => libm::sqrt(1.0 + libm::log(factor) / libm::log(f64::from(original))) as f32,
        };
        Ok((RopeScaling::Long { original: original as u32 }, magnitude))
    }

    /// Elements of a head that are rotated: `part` of it if the file doesn't say.
    fn dims(&self, meta: &dyn Metadata, of: Of, part: f32) -> Result<u32, SpecError> {
        let (inner, outer) = (float(meta, self.partial)?, float(meta, PARTIAL)?);
        if inner.is_some() && outer.is_some() && inner != outer {
            let known = "the value among the rotary parameters";
            return Err(SpecError::Unsupported { key: PARTIAL, known });
        }
        let part = inner.or(outer).unwrap_or(part);
        if !(0.0..=1.0).contains(&part) {
            return Err(MetaError::Wrong { key: PARTIAL, want: "a number from 0 to 1" }.into());
        }
        Ok(libm::trunc(f64::from(of.head_dim) * f64::from(part)) as u32)
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

/// Name of a field in the object that has it.
type Field = fn(&Keys) -> &'static str;

/// Fields of the objects that describe one rotary embedding.
struct Fields<'a> {
    /// Value of a number.
    number: &'a dyn Fn(Field) -> Result<Option<f32>, SpecError>,
    /// Value of a flag.
    flag: &'a dyn Fn(Field) -> Result<Option<bool>, SpecError>,
    /// Name of a field, for messages.
    name: &'a dyn Fn(Field) -> &'static str,
}

impl Fields<'_> {
    fn need(&self, field: Field) -> Result<f32, SpecError> {
        Ok((self.number)(field)?.ok_or(MetaError::Missing((self.name)(field)))?)
    }
}

/// Scaling of this kind, and its magnitude.
fn scaling(
    (key, kind): (&'static str, &str),
    fields: &Fields<'_>,
    of: Of,
    original: impl FnOnce() -> Result<f32, SpecError>,
) -> Result<(RopeScaling, f32), SpecError> {
    let plain = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear(fields.need(|k| k.factor)?),
        "llama3" => RopeScaling::Llama3 {
            factor: fields.need(|k| k.factor)?,
            low: fields.need(|k| k.low)?,
            high: fields.need(|k| k.high)?,
            original: original()?,
        },
        "yarn" => return yarn(fields, of, original()?),
        _ => return Err(SpecError::Unsupported { key, known: "default, linear, llama3, yarn" }),
    };
    Ok((plain, 1.0))
}

/// YaRN, with the defaults of transformers: a factor that is null is the context over the original
/// one, and 0 stands for the default.
fn yarn(fields: &Fields<'_>, of: Of, original: f32) -> Result<(RopeScaling, f32), SpecError> {
    let given = |field: Field| Ok::<_, SpecError>((fields.number)(field)?.filter(|&x| x != 0.0));
    let factor = (fields.number)(|k| k.factor)?.unwrap_or(of.context as f32 / original);
    let (mscale, all) = (given(|k| k.mscale)?, given(|k| k.mscale_all)?);
    let of_factor = |scale| yarn_magnitude(f64::from(factor), f64::from(scale));
    let magnitude = match ((fields.number)(|k| k.attention)?, mscale, all) {
        (Some(given), ..) => f64::from(given),
        (None, Some(mscale), Some(all)) => of_factor(mscale) / of_factor(all),
        (None, ..) => of_factor(1.0),
    };
    let scaling = RopeScaling::Yarn {
        factor,
        fast: given(|k| k.fast)?.unwrap_or(32.0),
        slow: given(|k| k.slow)?.unwrap_or(1.0),
        original,
        truncate: (fields.flag)(|k| k.truncate)?.unwrap_or(true),
    };
    Ok((scaling, magnitude as f32))
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
    fn rope(self, base: f32, (scaling, magnitude): (RopeScaling, f32)) -> Rope {
        Rope { kind: RopeKind::NeoX, dims: self.head_dim, base, scaling, magnitude }
    }
}

/// True if the file has rotary parameters, apart from a base.
pub(super) fn any(meta: &dyn Metadata) -> Result<bool, SpecError> {
    Ok(SCALING.are_there(meta)? || PARAMETERS.are_there(meta)?)
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

/// As [`one`], for Phi-3: a part of each head is rotated, and the only scaling is LongRoPE, which has
/// older names too.
pub(super) fn of_phi3(meta: &dyn Metadata, room: &mut SpecRoom, of: Of) -> Result<Rope, SpecError> {
    let (older, newer) = (SCALING.are_there(meta)?, PARAMETERS.are_there(meta)?);
    let keys = if older { SCALING } else { PARAMETERS };
    let rope = read_phi3(meta, &keys, of, &mut Notes(Some(room)))?;
    if older && newer && read_phi3(meta, &PARAMETERS, of, &mut Notes(None)) != Ok(rope) {
        room.note(PARAMETERS.all, Rule::ScalingReplaces);
    }
    Ok(rope)
}

/// As [`one`], for models that rotate a part of each head: `part` of it if the file doesn't say.
pub(super) fn of_part(
    meta: &dyn Metadata,
    room: &mut SpecRoom,
    of: Of,
    part: f32,
) -> Result<Rope, SpecError> {
    let (older, newer) = (SCALING.are_there(meta)?, PARAMETERS.are_there(meta)?);
    let keys = if older { SCALING } else { PARAMETERS };
    let read = |keys: &Keys, notes: &mut Notes<'_>| {
        keys.one_kind(meta)?;
        read_all(meta, keys, Of { head_dim: keys.dims(meta, of, part)?, ..of }, notes)
    };
    let rope = read(&keys, &mut Notes(Some(room)))?;
    if older && newer && read(&PARAMETERS, &mut Notes(None)) != Ok(rope) {
        room.note(PARAMETERS.all, Rule::ScalingReplaces);
    }
    Ok(rope)
}

fn read_phi3(
    meta: &dyn Metadata,
    keys: &Keys,
    of: Of,
    notes: &mut Notes<'_>,
) -> Result<Rope, SpecError> {
    keys.one_kind(meta)?;
    let dims = keys.dims(meta, of, 1.0)?;
    let base = keys.base(meta, of, notes)?;
    let (key, kind) = keys.kind(meta, notes)?.unwrap_or((keys.kind, "default"));
    keys.no_factor(meta, kind, notes)?;
    let (scaling, magnitude) = match kind {
        "default" => (RopeScaling::None, 1.0),
        "longrope" | "su" | "yarn" => {
            let original = keys.original(meta, of, notes)?;
            keys.long(meta, of, original, dims)?
        }
        _ => return Err(SpecError::Unsupported { key, known: "default, longrope" }),
    };
    Ok(Rope { kind: RopeKind::NeoX, dims, base, scaling, magnitude })
}

/// Rotary embeddings by kind of layer, without a window and with one, whose heads have these
/// dimensions; those without may rotate a share of their frequencies. A file without parameters has
/// those of transformers' class, with this share; in one with some, both kinds of layers must have
/// theirs, the second if it is there.
pub(super) fn proportional(
    meta: &dyn Metadata,
    dims: [u32; 2],
    share: f32,
    windowed: bool,
) -> Result<[Rope; 2], SpecError> {
    if SCALING.are_there(meta)? {
        let known = "`rope_parameters`, by kind of layer";
        return Err(SpecError::Unsupported { key: SCALING.all, known });
    }
    let rope =
        |dims, base, scaling| Rope { kind: RopeKind::NeoX, dims, base, scaling, magnitude: 1.0 };
    let part = |dims: u32, part: f32, factor| {
        let pairs = libm::trunc(f64::from(part) * f64::from(dims) / 2.0) as u32;
        RopeScaling::Proportional { pairs, factor }
    };
    let plain = rope(dims[1], 10_000.0, RopeScaling::None);
    if matches!(meta.get(PARAMETERS.all), None | Some(Value::Null)) {
        return Ok([rope(dims[0], 1e6, part(dims[0], share, 1.0)), plain]);
    }
    let of = |keys: &Keys, dims: u32| -> Result<Rope, SpecError> {
        keys.are_there(meta)?;
        let base = float(meta, keys.base)?.ok_or(MetaError::Missing(keys.base))?;
        let share = float(meta, keys.partial)?;
        if !share.is_none_or(|share| (0.0..=1.0).contains(&share)) {
            return Err(MetaError::Wrong { key: keys.partial, want: "a number from 0 to 1" }.into());
        }
        let kind = text(meta, keys.kind)?.ok_or(MetaError::Missing(keys.kind))?;
        let factor = float(meta, keys.factor)?;
        let scaling = match (kind, share, factor) {
            ("default", None | Some(1.0), None | Some(1.0)) => RopeScaling::None,
            ("default", None | Some(1.0), _) => {
                return Err(SpecError::Unsupported { key: keys.factor, known: "absent or 1" });
            }
            ("default", ..) => {
                return Err(SpecError::Unsupported { key: keys.partial, known: "absent or 1" });
            }
            ("proportional", ..) => part(dims, share.unwrap_or(1.0), factor.unwrap_or(1.0)),
            _ => {
                let known = "default, proportional";
                return Err(SpecError::Unsupported { key: keys.kind, known });
            }
        };
        Ok(rope(dims, base, scaling))
    };
    Ok([of(&FULL, dims[0])?, if windowed { of(&WINDOWED, dims[1])? } else { plain }])
}

/// True if `rope_scaling` has the parameters that count, and not `rope_parameters`.
pub(super) fn is_older(meta: &dyn Metadata) -> Result<bool, SpecError> {
    SCALING.are_there(meta)
}

fn read(
    meta: &dyn Metadata,
    keys: &Keys,
    of: Of,
    notes: &mut Notes<'_>,
) -> Result<Rope, SpecError> {
    keys.one_kind(meta)?;
    keys.no_part(meta)?;
    read_all(meta, keys, of, notes)
}

/// All parameters but the part of a head that is rotated, which is `of.head_dim`.
fn read_all(
    meta: &dyn Metadata,
    keys: &Keys,
    of: Of,
    notes: &mut Notes<'_>,
) -> Result<Rope, SpecError> {
    let base = keys.base(meta, of, notes)?;
    let kind = keys.kind(meta, notes)?.unwrap_or((keys.kind, "default"));
    keys.no_factor(meta, kind.1, notes)?;
    let fields = Fields {
        number: &|field| Ok(float(meta, field(keys))?),
        flag: &|field| Ok(flag(meta, field(keys))?),
        name: &|field| field(keys),
    };
    let original = || keys.original(meta, of, notes);
    Ok(of.rope(base, scaling(kind, &fields, of, original)?))
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
    let fields = Fields {
        number: &|field| Ok(float(meta, field(&WINDOWED))?),
        flag: &|field| Ok(flag(meta, field(&WINDOWED))?),
        name: &|field| field(&WINDOWED),
    };
    let original = || Ok(float(meta, WINDOWED.original)?.unwrap_or(of.context as f32));
    Ok([full, of.rope(base, scaling(kind, &fields, of, original)?)])
}

/// Rotary embedding of layers without a window.
fn full(meta: &dyn Metadata, notes: &mut Notes<'_>, of: Of) -> Result<Rope, SpecError> {
    let value = |key: Field| -> Result<Option<f32>, SpecError> {
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
    let either = |field: Field| {
        Ok(match flag(meta, field(&SCALING))? {
            None => flag(meta, field(&FULL))?,
            found => found,
        })
    };
    let keys = if meta.get(SCALING.all).is_some() { &SCALING } else { &FULL };
    let fields = Fields { number: &value, flag: &either, name: &|field| field(keys) };
    let original = || Ok(value(|k| k.original)?.unwrap_or(of.context as f32));
    Ok(of.rope(base, scaling(kind, &fields, of, original)?))
}
