//! What config.json says of quantised integers, which must be what their tensors are.

use teff_graph::meta::{Metadata, Value};

use super::{Result, Tensors, needed, wrong};

/// Settings of all quantised integers of a folder, as far as config.json has them.
#[derive(Default)]
pub(super) struct Claims {
    /// Bits of a code.
    pub(super) bits: Option<u32>,
    /// Columns that share a scale, and the key that says so.
    group: Option<(&'static str, usize)>,
    /// Key by which there are zeros beside the scales.
    zeros: Option<&'static str>,
    /// Key by which columns belong to groups in an order of their own.
    order: Option<&'static str>,
}

/// A whole number, 1 or more; `None` if it is absent or null.
fn number(meta: &dyn Metadata, key: &'static str) -> Result<Option<usize>> {
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Uint(n @ 1..)) => Ok(usize::try_from(n).ok()),
        Some(_) => wrong(key, "is no whole number from 1 up"),
    }
}

/// Columns that share a scale, with the key; -1 stands for all of a row.
fn group(meta: &dyn Metadata, key: &'static str) -> Result<Option<(&'static str, usize)>> {
    match meta.get(key) {
        Some(Value::Int(-1)) => Ok(Some((key, usize::MAX))),
        _ => Ok(number(meta, key)?.map(|n| (key, n))),
    }
}

/// A text; `None` if it is absent or null.
pub(super) fn text<'m>(meta: &'m dyn Metadata, key: &'static str) -> Result<Option<&'m str>> {
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(_) => wrong(key, "is no text"),
    }
}

impl Claims {
    /// Settings of compressed-tensors. Where they differ between groups of matrices, the tensors alone
    /// say which matrix has which.
    pub(super) fn of_compressed(meta: &dyn Metadata) -> Result<Claims> {
        const BITS: &str = "quantization_config.config_groups.group_0.weights.num_bits";
        const GROUP: &str = "quantization_config.config_groups.group_0.weights.group_size";
        const SYMMETRIC: &str = "quantization_config.config_groups.group_0.weights.symmetric";
        const ORDER: &str = "quantization_config.config_groups.group_0.weights.actorder";
        if meta.get("quantization_config.config_groups.group_1").is_some() {
            return Ok(Claims::default());
        }
        let ordered = match meta.get(ORDER) {
            // The second is an older name of the first; other orders are those of the columns.
            Some(Value::Str("group" | "dynamic") | Value::Bool(true)) => Some(ORDER),
            _ => None,
        };
        let asymmetric = meta.get(SYMMETRIC) == Some(Value::Bool(false));
        Ok(Claims {
            bits: match number(meta, BITS)? {
                Some(n @ 1..=8) => Some(n as u32),
                Some(n) => return wrong(BITS, format!("is {n}: known are 1 to 8")),
                None => None,
            },
            group: group(meta, GROUP)?,
            zeros: asymmetric.then_some(SYMMETRIC),
            order: ordered,
        })
    }

    /// Settings of GPTQ or, if `gptq` is false, of AWQ.
    pub(super) fn of_integers(meta: &dyn Metadata, gptq: bool) -> Result<Claims> {
        const GROUPS: [&str; 2] =
            ["quantization_config.group_size", "quantization_config.q_group_size"];
        const BITS: [&str; 2] = ["quantization_config.bits", "quantization_config.w_bit"];
        const ORDER: &str = "quantization_config.desc_act";
        let known: &[usize] = if gptq { &[2, 4, 8] } else { &[4] };
        let mut claims = Claims::default();
        for key in BITS {
            match number(meta, key)? {
                Some(n) if !known.contains(&n) => {
                    let known: Vec<String> = known.iter().map(usize::to_string).collect();
                    let why = format!(
                        "is {n}: known are {}; quantise the original weights with `teff quantize`",
                        known.join(", ")
                    );
                    return wrong(key, why);
                }
                Some(n) => claims.bits = claims.bits.or(Some(n as u32)),
                None => {}
            }
        }
        // Settings of single matrices, which their tensors show.
        const SINGLE: &str = "quantization_config.dynamic";
        if !matches!(meta.get(SINGLE), None | Some(Value::Null)) {
            return Ok(claims);
        }
        for key in GROUPS {
            claims.group = claims.group.or(group(meta, key)?);
        }
        let ordered = gptq && meta.get(ORDER) == Some(Value::Bool(true));
        claims.order = ordered.then_some(ORDER);
        Ok(claims)
    }

    /// Checks the number of groups of columns that share a scale, which the tensor `scales` has.
    pub(super) fn check_groups(&self, scales: &str, cols: usize, groups: usize) -> Result<()> {
        match self.group {
            Some((key, n)) if cols.div_ceil(n) != groups => {
                let all = if n == usize::MAX { "-1".into() } else { n.to_string() };
                let why = format!("is {all}, but `{scales}` has {groups} groups of {cols} columns");
                wrong(key, why)
            }
            _ => Ok(()),
        }
    }

    /// Checks that a matrix has zeros, if all have.
    pub(super) fn check_zeros(&self, tensors: &Tensors<'_>, zeros: &str) -> Result<()> {
        match self.zeros {
            Some(key) => needed(tensors, zeros, key).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Checks that a matrix says the order of its columns, if all have one of their own. A single group
    /// needs none.
    pub(super) fn check_order(
        &self,
        tensors: &Tensors<'_>,
        order: &str,
        groups: usize,
    ) -> Result<()> {
        match self.order {
            Some(key) if groups > 1 => needed(tensors, order, key).map(|_| ()),
            _ => Ok(()),
        }
    }
}
