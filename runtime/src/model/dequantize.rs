//! Folders with quantised weights that none of Teff's formats holds as they are: FP8, NVFP4, and the integers
//! of compressed-tensors, GPTQ and AWQ. What they stand for is computed in f32, into a SafeTensors file
//! in memory, which is read beside the folder's own.
//!
//! Integers times a scale in F16 or BF16 are exact in f32; products with scales in F32 are rounded
//! once. How matrices lie in the files is what transformers 5.24, compressed-tensors 0.12 and the
//! packages of GPTQ and AWQ write.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use teff_graph::meta::{Metadata, Value};
use teff_kernels::dequantize_row;

use super::error::boxed;
use super::tensor_table::Budget;
use super::{LoadErrorKind, Warning};
use crate::config::Config;
use crate::safetensors::{Dtype, SafeTensor, SafeTensors};
use crate::storage::{Aligned, Bytes};

mod claims;
mod item;

use claims::Claims;
use item::{Codes, Grid, Item, Zeros, e4m3, per_word};

/// Key of the method by which a folder's weights are quantised.
pub(super) const METHOD: &str = "quantization_config.quant_method";

/// Methods that are converted here.
const METHODS: [&str; 6] = ["fp8", "fbgemm_fp8", "compressed-tensors", "gptq", "awq", "modelopt"];

/// True if the weights of a folder with this method are converted when they are loaded.
pub(super) fn is_converted(method: &str) -> bool {
    METHODS.contains(&method)
}

/// Weights that were converted.
pub(super) struct Converted {
    /// SafeTensors file.
    pub(super) file: Bytes,
    /// Tensors of the folder that it stands for.
    pub(super) hidden: HashSet<String>,
    pub(super) warning: Warning,
}

/// Ends of the names of tensors that say how activations are quantised, which they are not here.
const ACTIVATIONS: [&str; 9] = [
    ".activation_scale",
    ".input_global_scale",
    ".input_scale",
    ".input_scale_ub",
    ".input_zero_point",
    ".output_scale",
    ".output_zero_point",
    ".k_scale",
    ".v_scale",
];

type Tensors<'a> = BTreeMap<&'a str, SafeTensor<'a>>;
type Result<T> = std::result::Result<T, LoadErrorKind>;

/// Converts the quantised weights of a folder, if its config.json names one of the [`METHODS`] and
/// there are any.
pub(super) fn convert(
    config: &Config<'_>,
    files: &[Bytes],
    budget: &mut Budget,
) -> Result<Option<Converted>> {
    let text = config.text();
    let metas: [&dyn Metadata; 2] = [config, &text];
    let Some(meta) = metas.into_iter().find(|m| m.get(METHOD).is_some()) else { return Ok(None) };
    let Some(Value::Str(method)) = meta.get(METHOD).filter(|m| match m {
        Value::Str(name) => is_converted(name),
        _ => false,
    }) else {
        return Ok(None);
    };
    let mut tensors = Tensors::new();
    let shards: Vec<_> = files.iter().filter_map(|f| SafeTensors::parse(f).ok()).collect();
    for shard in &shards {
        // What is wrong with files is said when they are read.
        tensors.extend(shard.tensors().map(|t| (t.name, t)));
    }
    let mut found = Found { items: Vec::new(), hidden: HashSet::new() };
    match method {
        "gptq" => integers(meta, &tensors, true, &mut found)?,
        "awq" => integers(meta, &tensors, false, &mut found)?,
        "compressed-tensors" => {
            check_compressed(config, meta)?;
            let claims = Claims::of_compressed(meta)?;
            fp4(&tensors, &mut found)?;
            packed(meta, &claims, &tensors, &mut found)?;
            scaled(meta, &claims, &tensors, &mut found)?;
        }
        "modelopt" => {
            const ALGO: &str = "quantization_config.quant_algo";
            match meta.get(ALGO) {
                // The tensors show which it is.
                None | Some(Value::Str("FP8" | "NVFP4" | "MIXED_PRECISION")) => {}
                Some(Value::Str(other)) => {
                    let why = format!(
                        "is \"{other}\": known are NVFP4 and FP8; quantise the original weights \
                         with `teff quantize`"
                    );
                    return wrong(ALGO, why);
                }
                Some(_) => return wrong(ALGO, "is no text"),
            }
            fp4(&tensors, &mut found)?;
            scaled(meta, &Claims::default(), &tensors, &mut found)?;
        }
        _ => scaled(meta, &Claims::default(), &tensors, &mut found)?,
    }
    if found.items.is_empty() {
        return Ok(None);
    }
    let activations = tensors.keys().filter(|n| ACTIVATIONS.iter().any(|a| n.ends_with(a)));
    found.hidden.extend(activations.map(|n| (*n).to_owned()));
    let (file, bytes) = write(&found.items, budget)?;
    let (n, mb) = (found.items.len(), bytes.div_ceil(1 << 20));
    let warning = Warning::new(
        METHOD,
        format!("\"{method}\", with {n} quantised weights"),
        format!("what they stand for, as F32 ({mb} MiB of memory)"),
        "no format here holds them exactly; `teff quantize` makes a smaller file. Activations are \
         not quantised as the method may say",
    );
    Ok(Some(Converted { file, hidden: found.hidden, warning }))
}

/// Matrices to be converted, and names of the tensors that they come from.
struct Found<'a> {
    items: Vec<Item<'a>>,
    hidden: HashSet<String>,
}

impl Found<'_> {
    fn hide<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.hidden.extend(names.into_iter().map(str::to_owned));
    }
}

fn wrong<T>(tensor: &str, why: impl Into<String>) -> Result<T> {
    Err(LoadErrorKind::QuantizedTensor { tensor: boxed(tensor), why: why.into() })
}

/// Tensor that must be there.
fn needed<'a>(tensors: &Tensors<'a>, name: &str, of: &str) -> Result<SafeTensor<'a>> {
    match tensors.get(name) {
        Some(t) => Ok(*t),
        None => wrong(of, format!("needs `{name}`, which is missing: fetch the whole model")),
    }
}

/// Elements of a tensor of floats, in f32.
fn floats(t: &SafeTensor<'_>) -> Result<Vec<f32>> {
    if t.dtype == Dtype::F8E8M0 {
        let power = |&e: &u8| match e {
            255 => f32::NAN,
            // 2^-127 is subnormal.
            0 => f32::from_bits(1 << 22),
            e => f32::from_bits(u32::from(e) << 23),
        };
        return Ok(t.data.iter().map(power).collect());
    }
    let Some(format) = t.dtype.format() else {
        return Err(LoadErrorKind::Dtype { tensor: boxed(t.name), found: t.dtype });
    };
    let mut out = vec![0.0; t.data.len() / format.block_bytes()];
    dequantize_row(format, t.data, &mut out);
    Ok(out)
}

/// Rows and columns of blocks that share a scale, if config.json has them.
fn block_size(meta: &dyn Metadata) -> Option<(usize, usize)> {
    const KEYS: [&str; 2] = [
        "quantization_config.weight_block_size",
        "quantization_config.config_groups.group_0.weights.block_structure",
    ];
    KEYS.into_iter().find_map(|key| {
        let side = |i| match meta.item(key, i)? {
            Value::Uint(n) => usize::try_from(n).ok().filter(|&n| n > 0),
            _ => None,
        };
        Some((side(0)?, side(1)?))
    })
}

/// Scales of `matrices` matrices of `rows` by `cols`.
fn grid(
    meta: &dyn Metadata,
    t: &SafeTensor<'_>,
    (matrices, rows, cols): (usize, usize, usize),
) -> Result<Grid> {
    let values = floats(t)?;
    if let Some(bad) = values.iter().find(|s| !s.is_finite()) {
        return wrong(t.name, format!("has a scale that is {bad}: the model is damaged"));
    }
    let turned = false;
    let all = |width: usize, rows: usize, cols: usize| {
        Some(Grid { values: values.clone(), width, rows, cols, turned })
    };
    let shape: Vec<usize> = t.shape().iter().map(|&d| d as usize).collect();
    let one = values.len() == 1;
    // Without the dimension of a stack.
    let flat = match &shape[..] {
        [n, rest @ ..] if matrices > 1 && *n == matrices => rest,
        rest if matrices == 1 => rest,
        _ => &[],
    };
    let found = match *flat {
        _ if one && matrices == 1 => all(1, rows, cols),
        [] | [1] | [1, 1] if values.len() == matrices => all(1, rows, cols),
        [r] if r == rows => all(1, 1, cols),
        [r, c] => {
            let blocks = block_size(meta).unwrap_or((128, 128));
            if (rows.div_ceil(blocks.0), cols.div_ceil(blocks.1)) == (r, c) {
                all(c, blocks.0, blocks.1)
            } else if r == rows && c == 1 {
                all(1, 1, cols)
            } else if r == rows && c > 0 && cols.is_multiple_of(c) {
                all(c, 1, cols / c)
            } else {
                None
            }
        }
        _ => None,
    };
    match found {
        Some(grid) => Ok(grid),
        None => {
            let why = format!(
                "has the shape {shape:?}, which gives no scale for each weight of {rows} x {cols}: \
                 one for all, for each row, for each group of a row, or for blocks \
                 (`weight_block_size`) are known"
            );
            wrong(t.name, why)
        }
    }
}

/// Stack, rows and columns of a matrix or a stack.
fn shape_of(t: &SafeTensor<'_>) -> Option<(Vec<u32>, usize, usize)> {
    let (&cols, rest) = t.shape().split_last()?;
    let (&rows, stack) = rest.split_last()?;
    Some((stack.to_vec(), rows as usize, cols as usize))
}

/// Weights of one byte with scales: FP8, and int8 of compressed-tensors.
fn scaled<'a>(
    meta: &dyn Metadata,
    claims: &Claims,
    tensors: &Tensors<'a>,
    found: &mut Found<'a>,
) -> Result<()> {
    for (&name, t) in tensors {
        let codes = match t.dtype {
            _ if name.ends_with("_scale") || name.ends_with("_scale_inv") => continue,
            Dtype::F8E4M3 => Codes::E4m3(t.data),
            Dtype::F8E5M2 => Codes::E5m2(t.data),
            Dtype::I8 if !name.ends_with("_zero_point") => Codes::Int8(t.data),
            _ => continue,
        };
        let scales = ["_scale_inv", "_scale"].map(|end| format!("{name}{end}"));
        let scale = scales.iter().find_map(|n| tensors.get(n.as_str()));
        let Some(scale) = scale else {
            let why = format!("needs `{}` or `{}`, which are missing", scales[0], scales[1]);
            return wrong(name, why);
        };
        let Some((stack, rows, cols)) = shape_of(t) else {
            return wrong(name, "is quantised, but no matrix");
        };
        let matrices = stack.iter().map(|&n| n as usize).product();
        let grid = grid(meta, scale, (matrices, rows, cols))?;
        let zero = format!("{name}_zero_point");
        if matches!(codes, Codes::Int8(_)) {
            claims.check_zeros(tensors, &zero)?;
        }
        let zero = tensors.get(zero.as_str());
        let mut zeros = None;
        if let Some(zero) = zero {
            if zero.dtype != Dtype::I8 || zero.data.len() != grid.values.len() {
                // Of FP8 they are all zero, in any type.
                if zero.data.iter().any(|&b| b != 0) {
                    return wrong(zero.name, "is not one 8-bit integer for each scale");
                }
            } else {
                zeros = Some(Zeros::Int8(zero.data));
            }
            found.hide([zero.name]);
        }
        found.hide([name, scale.name]);
        let (scales, name) = (grid, name.to_owned());
        let groups = None;
        found.items.push(Item {
            name,
            stack,
            rows,
            cols,
            codes,
            scales,
            zeros,
            groups,
            factor: 1.0,
        });
    }
    Ok(())
}

/// NVFP4: bytes of two weights, a scale in FP8 for every 16, and one for all, which multiplies in
/// ModelOpt's form and divides in that of compressed-tensors.
fn fp4<'a>(tensors: &Tensors<'a>, found: &mut Found<'a>) -> Result<()> {
    for (&name, t) in tensors.iter().filter(|(_, t)| t.dtype == Dtype::U8) {
        let (base, whole, divides) =
            match (name.strip_suffix(".weight"), name.strip_suffix(".weight_packed")) {
                (Some(base), _) => (base, "weight_scale_2", false),
                (_, Some(base)) => (base, "weight_global_scale", true),
                _ => continue,
            };
        let Some((stack, rows, bytes)) = shape_of(t).filter(|(stack, ..)| stack.is_empty()) else {
            return wrong(name, "is no matrix of bytes");
        };
        let whole = needed(tensors, &format!("{base}.{whole}"), name)?;
        let scales = needed(tensors, &format!("{base}.weight_scale"), name)?;
        let factor = match (&floats(&whole)?[..], divides) {
            (&[factor], false) => factor,
            (&[factor], true) => 1.0 / factor,
            _ => return wrong(whole.name, "is not one scale"),
        };
        let cols = 2 * bytes;
        let shape = [rows as u64, cols as u64 / 16];
        let fits = scales.shape().iter().map(|&n| u64::from(n)).eq(shape);
        if !fits || !cols.is_multiple_of(16) || scales.dtype != Dtype::F8E4M3 {
            let why = format!("is not one F8_E4M3 for every 16 of {rows} x {cols} weights");
            return wrong(scales.name, why);
        }
        let values: Vec<f32> = scales.data.iter().map(|&code| e4m3(code)).collect();
        if let Some(bad) = values.iter().chain([&factor]).find(|s| !s.is_finite()) {
            return wrong(scales.name, format!("has a scale that is {bad}: the model is damaged"));
        }
        let width = cols / 16;
        let scales_of = Grid { values, width, rows: 1, cols: 16, turned: false };
        found.hide([name, scales.name, whole.name]);
        found.items.push(Item {
            name: format!("{base}.weight"),
            stack,
            rows,
            cols,
            codes: Codes::Fp4(t.data),
            scales: scales_of,
            zeros: None,
            groups: None,
            factor,
        });
    }
    Ok(())
}

/// Refuses the forms of compressed-tensors that are not known.
fn check_compressed(config: &Config<'_>, meta: &dyn Metadata) -> Result<()> {
    const KNOWN: [&str; 8] = [
        "nvfp4-pack-quantized",
        "pack-quantized",
        "int-quantized",
        "float-quantized",
        "naive-quantized",
        "mixed-precision",
        "dense",
        "compressed",
    ];
    const KEYS: [&str; 2] =
        ["quantization_config.format", "quantization_config.config_groups.group_0.format"];
    for key in KEYS {
        if let Some(Value::Str(format)) = meta.get(key)
            && !KNOWN.contains(&format)
        {
            let why = format!(
                "is \"{format}\": known are {}; quantise the original weights with `teff quantize`",
                KNOWN.join(", ")
            );
            return wrong(key, why);
        }
    }
    const TRANSFORMS: &str = "quantization_config.transform_config.config_groups";
    let at_text = format!("text_config.{TRANSFORMS}");
    for key in [TRANSFORMS, &at_text] {
        let text: String = config.value_text(key).unwrap_or("null").split_whitespace().collect();
        if !matches!(&text[..], "null" | "{}") {
            let why = "has transforms of activations, which are not known: quantise the original \
                       weights with `teff quantize`";
            return wrong(key, why);
        }
    }
    let key = "quantization_config.sparsity_config.format";
    match meta.get(key) {
        Some(Value::Str(format)) if format != "dense" => wrong(
            key,
            format!("is \"{format}\": sparse weights are not known; use the dense original"),
        ),
        _ => Ok(()),
    }
}

/// Group of each column from a tensor of them.
fn groups(t: &SafeTensor<'_>, cols: usize, count: usize) -> Result<Option<Vec<usize>>> {
    if t.dtype != Dtype::I32 || t.data.len() != 4 * cols {
        return wrong(t.name, format!("is not one 32-bit integer for each of {cols} columns"));
    }
    let ids: Vec<i32> = t.data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
    // So compressed-tensors says that there is no order.
    if ids.iter().all(|&i| i == -1) {
        return Ok(None);
    }
    let group = |&i: &i32| usize::try_from(i).ok().filter(|&i| i < count);
    match ids.iter().map(group).collect() {
        Some(groups) => Ok(Some(groups)),
        None => wrong(t.name, format!("names groups other than 0 to {}", count - 1)),
    }
}

/// Weights of several codes in a word, along the rows: compressed-tensors.
fn packed<'a>(
    meta: &dyn Metadata,
    claims: &Claims,
    tensors: &Tensors<'a>,
    found: &mut Found<'a>,
) -> Result<()> {
    for (&name, t) in tensors {
        let Some(base) = name.strip_suffix(".weight_packed") else { continue };
        if found.hidden.contains(name) {
            continue; // NVFP4
        }
        let (Some((stack, rows, per_row)), Dtype::I32) = (shape_of(t), t.dtype) else {
            return wrong(name, "is no matrix of 32-bit words");
        };
        if !stack.is_empty() {
            return wrong(name, "is a stack of matrices: experts must be stored one by one");
        }
        let part = |end: &str| format!("{base}.weight_{end}");
        let shape = needed(tensors, &part("shape"), name)?;
        let sides: Vec<usize> = match shape.dtype {
            Dtype::I64 => {
                shape.data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
            }
            Dtype::I32 => {
                let words = shape.data.as_chunks::<4>().0.iter();
                words.map(|b| i64::from(i32::from_le_bytes(*b))).collect()
            }
            _ => Vec::new(),
        }
        .into_iter()
        .filter_map(|n: i64| usize::try_from(n).ok())
        .collect();
        let [r, cols] = sides[..] else { return wrong(shape.name, "is not rows and columns") };
        let fits = |bits: &u32| cols > 0 && cols.div_ceil(per_word(*bits)) == per_row;
        let bits = match claims.bits {
            Some(bits) => Some(bits).filter(fits),
            None => [4, 8, 2, 3, 5, 6].into_iter().find(fits),
        };
        let (Some(bits), true) = (bits, r == rows) else {
            let of = claims.bits.map_or(String::new(), |bits| format!(" of {bits} bits"));
            let why = format!(
                "has {rows} x {per_row} words, which are not those of {r} x {cols} codes{of}"
            );
            return wrong(name, why);
        };
        let scale = needed(tensors, &part("scale"), name)?;
        let grid = grid(meta, &scale, (1, rows, cols))?;
        claims.check_groups(scale.name, cols, grid.width)?;
        let mut item = Item {
            name: format!("{base}.weight"),
            stack,
            rows,
            cols,
            codes: Codes::Words { words: t.data, bits, per_row },
            scales: grid,
            zeros: None,
            groups: None,
            factor: 1.0,
        };
        let (zero, order) = (part("zero_point"), part("g_idx"));
        claims.check_zeros(tensors, &zero)?;
        claims.check_order(tensors, &order, item.scales.width)?;
        if let Some(zero) = tensors.get(zero.as_str()) {
            let n = item.scales.values.len();
            let words = rows.div_ceil(per_word(bits)) * item.scales.width * 4;
            item.zeros = match zero.dtype {
                Dtype::I8 if zero.data.len() == n => Some(Zeros::Int8(zero.data)),
                Dtype::I32 if zero.data.len() == words && item.scales.rows == 1 => {
                    Some(Zeros::Words { words: zero.data, bits })
                }
                _ => return wrong(zero.name, "is not one code for each scale"),
            };
        }
        if let Some(order) = tensors.get(order.as_str()) {
            item.groups = groups(order, cols, item.scales.width)?;
        }
        let all = ["packed", "shape", "scale", "zero_point", "g_idx"].map(part);
        found.hide(all.iter().map(String::as_str));
        found.items.push(item);
    }
    Ok(())
}

/// Weights of GPTQ or, if `gptq` is false, of AWQ.
fn integers<'a>(
    meta: &dyn Metadata,
    tensors: &Tensors<'a>,
    gptq: bool,
    found: &mut Found<'a>,
) -> Result<()> {
    let claims = Claims::of_integers(meta, gptq)?;
    let bits = claims.bits.unwrap_or(4);
    const VERSION: &str = "quantization_config.version";
    const FORMAT: &str = "quantization_config.checkpoint_format";
    let mut plus = 1;
    match (gptq, claims::text(meta, VERSION)?, claims::text(meta, FORMAT)?) {
        (true, _, None | Some("gptq")) => {}
        (true, _, Some("gptq_v2")) => plus = 0,
        (false, None, _) => {}
        (false, Some(version), _) if version.eq_ignore_ascii_case("gemm") => {}
        (true, _, Some(other)) => {
            return wrong(FORMAT, format!("is \"{other}\": known are gptq and gptq_v2"));
        }
        (false, Some(other), _) => {
            let why = format!("is \"{other}\": gemm is known, which AutoAWQ can write too");
            return wrong(VERSION, why);
        }
    }
    let n = per_word(bits);
    for (&name, t) in tensors {
        let Some(base) = name.strip_suffix(".qweight") else { continue };
        let (Some((stack, a, b)), Dtype::I32) = (shape_of(t), t.dtype) else {
            return wrong(name, "is no matrix of 32-bit words");
        };
        let (cols, rows) = if gptq { (a * n, b) } else { (a, b * n) };
        let part = |end: &str| format!("{base}.{end}");
        let (scales, zeros) =
            (needed(tensors, &part("scales"), name)?, needed(tensors, &part("qzeros"), name)?);
        let (values, count) = (floats(&scales)?, scales.shape().first().copied().unwrap_or(0));
        let count = count as usize;
        let whole = count > 0 && scales.shape().len() == 2 && values.len() == count * rows;
        let order = tensors.get(part("g_idx").as_str()).filter(|_| gptq);
        if !stack.is_empty() || !whole || (order.is_none() && !cols.is_multiple_of(count)) {
            let why = format!(
                "has the shape {:?}, which is not groups of {cols} columns by {rows} rows",
                scales.shape()
            );
            return wrong(scales.name, why);
        }
        if let Some(bad) = values.iter().find(|s| !s.is_finite()) {
            return wrong(scales.name, format!("has a scale that is {bad}: the model is damaged"));
        }
        if zeros.dtype != Dtype::I32
            || !rows.is_multiple_of(n)
            || zeros.data.len() != count * (rows / n) * 4
        {
            return wrong(zeros.name, format!("is not {count} x {rows} codes of {bits} bits"));
        }
        claims.check_groups(scales.name, cols, count)?;
        claims.check_order(tensors, &part("g_idx"), count)?;
        let grid = Grid { values, width: rows, rows: 1, cols: cols.div_ceil(count), turned: true };
        let mut item = Item {
            name: part("weight"),
            stack,
            rows,
            cols,
            codes: Codes::Columns { words: t.data, bits },
            scales: grid,
            zeros: Some(Zeros::Rows { words: zeros.data, bits, plus }),
            groups: None,
            factor: 1.0,
        };
        if !gptq {
            item.codes = Codes::Awq { words: t.data };
            item.zeros = Some(Zeros::Awq { words: zeros.data });
        }
        if let Some(order) = order {
            item.groups = groups(order, cols, count)?;
        }
        let all = ["qweight", "scales", "qzeros", "g_idx"].map(part);
        found.hide(all.iter().map(String::as_str));
        found.items.push(item);
    }
    Ok(())
}

/// The SafeTensors file of all matrices in f32, and its bytes of data.
fn write(items: &[Item<'_>], budget: &mut Budget) -> Result<(Bytes, usize)> {
    let too_much = || LoadErrorKind::OutOfMemory { needed: u64::MAX };
    let (mut header, mut end) = (String::from("{"), 0usize);
    for (i, item) in items.iter().enumerate() {
        let size = item.matrices().checked_mul(item.rows).and_then(|n| n.checked_mul(item.cols));
        let start = end;
        end = size.and_then(|n| n.checked_mul(4)?.checked_add(start)).ok_or_else(too_much)?;
        let mut shape: Vec<String> = item.stack.iter().map(u32::to_string).collect();
        shape.extend([item.rows.to_string(), item.cols.to_string()]);
        if i > 0 {
            header.push(',');
        }
        quoted(&item.name, &mut header);
        let shape = shape.join(",");
        header.push_str(&format!(
            r#":{{"dtype":"F32","shape":[{shape}],"data_offsets":[{start},{end}]}}"#
        ));
    }
    header.push('}');
    while !(header.len() + 8).is_multiple_of(64) {
        header.push(' ');
    }
    let total = end.checked_add(header.len() + 8).ok_or_else(too_much)?;
    budget.take(total as u64)?;
    let no_memory = |_| LoadErrorKind::OutOfMemory { needed: total as u64 };
    let mut file = Aligned::zeroed(total).map_err(no_memory)?;
    let (head, data) = file.split_at_mut(header.len() + 8);
    head[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
    head[8..].copy_from_slice(header.as_bytes());
    let mut rest = data;
    for item in items {
        let mut row = vec![0.0; item.cols];
        for e in 0..item.matrices() {
            for r in 0..item.rows {
                item.fill(e, r, &mut row);
                let (bytes, after) = rest.split_at_mut(4 * item.cols);
                for (to, x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(&row) {
                    *to = x.to_le_bytes();
                }
                rest = after;
            }
        }
    }
    Ok((Bytes::Read(file), end))
}

/// A text as JSON has it.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Path that errors in the converted file would name.
pub(super) fn path() -> PathBuf {
    PathBuf::from("converted weights")
}
