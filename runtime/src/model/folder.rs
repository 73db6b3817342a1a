//! Models in a Hugging Face folder: config.json with model.safetensors, or with its shards.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use teff_graph::family::{Family, Shapes};
use teff_graph::gguf::Name;
use teff_graph::{HfForm, HfName, Role, Slot, SpecError, meta};
use teff_kernels::{Format, MAX_HEAD_DIM, dequantize_row};

use super::dequantize::{self, Converted};
use super::error::{Dims, boxed};
use super::tensor_table::{Budget, Container, Found, Piece, Ternary, is_layer_matrix};
use super::{Instead, LoadError, LoadErrorKind, LoadOptions, Warning, load_file};
use crate::config::{Config, ConfigError, MAX_CONFIG};
use crate::safetensors::{
    Dtype, MAX_DIMS, MAX_INDEX, SafeTensor, SafeTensors, ShardError, ShardIndex,
};
use crate::storage::{Aligned, Bytes, open_file};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_config.json";

/// LongRoPE's factors in config.json, for long contexts and for short ones, as far as a head can use
/// them; those of `rope_scaling` if it has any.
pub(super) fn factors(config: &dyn meta::Metadata) -> [Vec<f32>; 2] {
    let list = |key: &str| -> Vec<f32> {
        let number = |v| match v {
            meta::Value::Uint(n) => Some(n as f32),
            meta::Value::Float(x) => Some(x as f32),
            _ => None,
        };
        (0..MAX_HEAD_DIM / 2).map_while(|i| number(config.item(key, i)?)).collect()
    };
    let older = [list("rope_scaling.long_factor"), list("rope_scaling.short_factor")];
    match older.iter().all(Vec::is_empty) {
        true => [list("rope_parameters.long_factor"), list("rope_parameters.short_factor")],
        false => older,
    }
}

/// Files of a folder that make up the model.
pub(super) struct FolderFiles {
    pub(super) config: PathBuf,
    pub(super) config_json: Bytes,
    /// Index of shards, if there is one.
    index: Option<(PathBuf, Bytes)>,
    /// Weight files, by name.
    paths: Vec<PathBuf>,
    /// Contents of the weight files, and after them the rotary factors of config.json, if there are
    /// any.
    pub(super) files: Vec<Bytes>,
    /// Weights that were converted, as the last of the weight files.
    converted: Option<Hidden>,
}

/// Tensors of a folder that another file stands for.
struct Hidden {
    names: HashSet<String>,
    warning: Warning,
}

/// Reads a small file; `None` if it does not exist.
fn read_small(
    path: &Path,
    limit: usize,
    too_large: impl FnOnce(u64) -> LoadErrorKind,
) -> Result<Option<Bytes>, LoadError> {
    let io = |e| LoadErrorKind::Io(e).at(path);
    let (file, len) = match open_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io)?,
    };
    match usize::try_from(len) {
        Ok(n) if n <= limit => Bytes::read(&file, n).map(Some).map_err(io),
        _ => Err(too_large(len).at(path)),
    }
}

/// True if a file is one of several shards in this index.
fn is_shard(index: Option<&[u8]>, file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    let (Some(json), Some(name)) = (index, name) else { return false };
    ShardIndex::parse(json).is_ok_and(|i| i.shards().len() > 1 && i.shards().contains(&name))
}

impl FolderFiles {
    /// Opens the files of a folder, and adds the rotary factors of its config.json, which GGUF files
    /// have as tensors: those for long contexts, then those for short ones. A family has checked
    /// the lists that it needs.
    pub(super) fn open(
        folder: &Path,
        weights: Option<&Path>,
        options: &LoadOptions,
        budget: &mut Budget,
    ) -> Result<FolderFiles, LoadError> {
        let mut all = FolderFiles::open_files(folder, weights, options, budget)?;
        // What is wrong with it is said later.
        let Ok(config) = Config::parse(&all.config_json) else { return Ok(all) };
        let factors = factors(&config.text()).concat();
        let converted = dequantize::convert(&config, &all.files, budget);
        let converted = converted.map_err(|kind| kind.at(folder))?;
        drop(config);
        if let Some(Converted { file, hidden: names, warning }) = converted {
            all.files.push(file);
            all.paths.push(dequantize::path());
            all.converted = Some(Hidden { names, warning });
        }
        if !factors.is_empty() {
            let bytes: Vec<u8> = factors.into_iter().flat_map(f32::to_le_bytes).collect();
            let zeroed = Aligned::zeroed(bytes.len());
            let mut aligned = zeroed.map_err(|e| LoadErrorKind::Io(e).at(&all.config))?;
            aligned.copy_from_slice(&bytes);
            all.files.push(Bytes::Read(aligned));
        }
        Ok(all)
    }

    /// Opens the files of a folder; `weights` is the one SafeTensors file that was asked for, unless
    /// it is a shard in the folder's index.
    fn open_files(
        folder: &Path,
        weights: Option<&Path>,
        options: &LoadOptions,
        budget: &mut Budget,
    ) -> Result<FolderFiles, LoadError> {
        let config = folder.join(CONFIG);
        let config_large = |bytes| LoadErrorKind::Config(ConfigError::TooLarge { bytes });
        let config_json =
            read_small(&config, MAX_CONFIG, config_large)?.ok_or_else(|| match weights {
                Some(file) => LoadErrorKind::BareSafeTensors.at(file),
                None => LoadErrorKind::NoConfig { instead: Instead::find(folder) }.at(folder),
            })?;
        let mut all = FolderFiles {
            config,
            config_json,
            index: None,
            paths: Vec::new(),
            files: Vec::new(),
            converted: None,
        };
        let index = folder.join(INDEX);
        let index_large = |bytes| LoadErrorKind::Shards(ShardError::TooLarge { bytes });
        let only = match weights {
            None => Some(folder.join(WEIGHTS)).filter(|path| path.exists()),
            Some(file) => {
                let index_json = read_small(&index, MAX_INDEX, index_large)?;
                Some(file.to_path_buf()).filter(|_| !is_shard(index_json.as_deref(), file))
            }
        };
        if let Some(weights) = only {
            all.files.push(load_file(&weights, options, budget)?);
            all.paths.push(weights);
            return Ok(all);
        }
        let Some(index_json) = read_small(&index, MAX_INDEX, index_large)? else {
            return Err(LoadErrorKind::NoWeights { instead: Instead::find(folder) }.at(folder));
        };
        let shards = ShardIndex::parse(&index_json);
        let shards = shards.map_err(|e| LoadErrorKind::Shards(e).at(&index))?;
        for name in shards.shards() {
            let path = folder.join(name);
            match load_file(&path, options, budget) {
                Ok(bytes) => all.files.push(bytes),
                Err(LoadError { kind: LoadErrorKind::Io(e), .. })
                    if e.kind() == io::ErrorKind::NotFound =>
                {
                    return Err(LoadErrorKind::MissingShard.at(&path));
                }
                Err(e) => return Err(e),
            }
            all.paths.push(path);
        }
        drop(shards);
        all.index = Some((index, index_json));
        Ok(all)
    }

    /// Warnings of files beside the weights that say something else of them.
    pub(super) fn beside(&self, folder: &Path, weights: Option<&Path>) -> Vec<Warning> {
        let mut all = Vec::new();
        if self.index.is_none() && weights.is_none() {
            let index = read_small(&folder.join(INDEX), MAX_INDEX, |_| LoadErrorKind::MissingShard);
            if let Ok(Some(json)) = index
                && ShardIndex::parse(&json).is_ok_and(|i| i.shards().iter().any(|s| *s != WEIGHTS))
            {
                let (found, taken) = ("an index of other files", "model.safetensors");
                all.push(Warning::new(INDEX, found, taken, "transformers 5 prefers it"));
            }
        }
        if folder.join(ADAPTER).exists() {
            let (found, taken) = ("that of an adapter", "the model without the adapter");
            let why =
                "Teff applies none: merge the two with another program, if they belong together";
            all.push(Warning::new(ADAPTER, found, taken, why));
        }
        all
    }

    /// Number of weight files.
    pub(super) fn weights(&self) -> usize {
        self.paths.len() - usize::from(self.converted.is_some())
    }

    /// Warning of weights that were converted.
    pub(super) fn converted(&self) -> Option<&Warning> {
        self.converted.as_ref().map(|hidden| &hidden.warning)
    }

    /// True if another file stands for this tensor of weight file `shard`.
    fn is_hidden(&self, shard: u16, name: &str) -> bool {
        usize::from(shard) < self.weights()
            && self.converted.as_ref().is_some_and(|hidden| hidden.names.contains(name))
    }

    /// Reads the headers of all weight files.
    pub(super) fn tensors(
        &self,
        family: &'static Family,
        packing: Packing,
        wrapped: bool,
    ) -> Result<FolderTensors<'_>, LoadError> {
        let mut shards = Vec::with_capacity(self.files.len());
        for (bytes, path) in self.files.iter().zip(&self.paths) {
            let shard = SafeTensors::parse(bytes);
            shards.push(shard.map_err(|e| LoadErrorKind::SafeTensors(e).at(path))?);
        }
        if let Some((path, json)) = &self.index {
            let index = ShardIndex::parse(json);
            index
                .and_then(|index| {
                    index.check(|name, i| shards.get(i).is_some_and(|s| s.get(name).is_some()))
                })
                .map_err(|e| LoadErrorKind::Shards(e).at(path))?;
        }
        let mut by_name = Vec::with_capacity(shards.iter().map(SafeTensors::len).sum());
        for (shard, tensors) in (0u16..).zip(&shards) {
            // A header of 100 MB has far fewer than 2^32.
            let shown =
                (0u32..).zip(tensors.tensors()).filter(|(_, t)| !self.is_hidden(shard, t.name));
            by_name.extend(shown.map(|(index, _)| TensorRef { shard, index, used: false }));
        }
        let prefixes: &[&str] = if wrapped { &WRAPPED } else { &[] };
        let (by_none, scratch) = (Vec::new(), String::new());
        let factors = self.files.get(self.paths.len()).map(|bytes| (self.paths.len(), bytes.len()));
        let all =
            FolderTensors { shards, by_name: by_none, family, packing, prefixes, factors, scratch };
        // A name comes before the same one without prefix.
        by_name.sort_unstable_by_key(|&r| {
            let (prefix, name) = all.parts_of(r);
            (name, std::cmp::Reverse(prefix))
        });
        if let Some(twice) = by_name.windows(2).find(|w| all.name_of(w[0]) == all.name_of(w[1])) {
            let tensor = boxed(all.name_of(twice[0]));
            let path = &self.paths[usize::from(twice[1].shard)];
            return Err(LoadErrorKind::InTwoShards { tensor }.at(path));
        }
        Ok(FolderTensors { by_name, ..all })
    }
}

/// Prefixes of the text model's tensors in a model for texts and images, in files of transformers 5
/// and older ones.
const WRAPPED: [&str; 3] = ["model.language_model.", "language_model.model.", "language_model."];

/// Beginnings of the names of other parts of such a model.
const OTHER_PARTS: [&str; 12] = [
    "model.visual.",
    "visual.",
    "model.vision_tower.",
    "vision_tower.",
    "model.multi_modal_projector.",
    "multi_modal_projector.",
    "model.audio_tower.",
    "audio_tower.",
    "model.embed_vision.",
    "embed_vision.",
    "model.embed_audio.",
    "embed_audio.",
];

/// Tensor of a shard.
#[derive(Clone, Copy)]
struct TensorRef {
    shard: u16,
    used: bool,
    index: u32,
}

/// Tensors of all shards.
pub(super) struct FolderTensors<'a> {
    shards: Vec<SafeTensors<'a>>,
    /// In ascending order of names without prefixes.
    by_name: Vec<TensorRef>,
    family: &'static Family,
    packing: Packing,
    /// Prefixes beside the family's, of a model for texts and images.
    prefixes: &'static [&'static str],
    /// Index and bytes of the file of rotary factors.
    factors: Option<(usize, usize)>,
    scratch: String,
}

/// Storage of ternary weights in a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    /// Unpacked: floats of three values, or no ternary weights at all.
    None,
    /// Floats before rounding.
    Online,
    /// Codes, with a scale by which products are divided.
    Divide,
    /// Codes, with a scale by which products are multiplied.
    Multiply,
}

/// Methods of quantisation that are known, and what to do about others.
const METHODS: &str = "fp8, fbgemm_fp8, compressed-tensors, gptq, awq, modelopt (FP8, NVFP4), of gpt-oss mxfp4, of a BitNet model bitnet, or none; of \
    others take the original weights, and make them smaller with `teff quantize`";

impl Packing {
    /// Packing given by `quantization_config` in config.json, with the meaning that it has in
    /// transformers' BitNet layers (`linear_class` bitlinear divides by `weight_scale`,
    /// autobitlinear multiplies).
    pub(super) fn of(family: &Family, config: &Config<'_>) -> Result<Packing, SpecError> {
        let text = |key| meta::text(config, key).map_err(SpecError::Meta);
        const METHOD: &str = "quantization_config.quant_method";
        const CLASS: &str = "quantization_config.linear_class";
        const MODE: &str = "quantization_config.quantization_mode";
        const NORM: &str = "quantization_config.use_rms_norm";
        let unsupported = |key, known| Err(SpecError::Unsupported { key, known });
        match text(METHOD)? {
            None => return Ok(Packing::None),
            Some("bitnet") if family.ternary => {}
            // Its tensors show it.
            Some("mxfp4") if family.reads_mxfp4() => return Ok(Packing::None),
            // What is left of it is floats.
            Some(method) if dequantize::is_converted(method) => return Ok(Packing::None),
            Some(_) => return unsupported(METHOD, METHODS),
        }
        if meta::flag(config, NORM).map_err(SpecError::Meta)?.unwrap_or(false) {
            return unsupported(NORM, "false");
        }
        Ok(match (text(CLASS)?.unwrap_or("bitlinear"), text(MODE)?.unwrap_or("offline")) {
            ("autobitlinear", "online") => Packing::Online,
            ("autobitlinear", "offline") => Packing::Multiply,
            ("bitlinear", "offline") => Packing::Divide,
            ("bitlinear" | "autobitlinear", _) => return unsupported(MODE, "offline, online"),
            _ => return unsupported(CLASS, "bitlinear, autobitlinear"),
        })
    }
}

impl<'a> FolderTensors<'a> {
    fn get(&self, r: TensorRef) -> Option<SafeTensor<'a>> {
        self.shards.get(usize::from(r.shard))?.nth(r.index as usize)
    }

    fn name_of(&self, r: TensorRef) -> &'a str {
        self.get(r).map_or("", |t| t.name)
    }

    /// Prefix of a tensor's name, and the rest of it.
    fn parts_of(&self, r: TensorRef) -> (&'static str, &'a str) {
        let name = self.name_of(r);
        for &prefix in self.prefixes.iter().chain([&self.family.prefix]) {
            if let Some(bare) = name.strip_prefix(prefix) {
                return (prefix, bare);
            }
        }
        ("", name)
    }

    /// Index of a tensor by its name without prefix.
    fn position(&self, bare: &str) -> Option<usize> {
        let at = self.by_name.partition_point(|&r| self.parts_of(r).1 < bare);
        self.by_name.get(at).filter(|&&r| self.parts_of(r).1 == bare).map(|_| at)
    }

    /// Prefix of most names: that of the embedding or, without one, the family's.
    fn prefix(&self) -> &'static str {
        let names = self.family.hf_names(Role::TokenEmbd).first();
        let at = names.and_then(|name| self.position(name.name));
        at.map_or(self.family.prefix, |at| self.parts_of(self.by_name[at]).0)
    }

    /// Prefix of a tensor's name where most names have the usual one.
    fn prefix_of(&self, role: Role) -> &'static str {
        match (role, self.prefix()) {
            // The head stands beside the model that has all else.
            (Role::Output, "language_model.model." | "language_model.") => "language_model.",
            (Role::Output, _) => "",
            (_, prefix) => prefix,
        }
    }

    /// Number of tensors of other parts of a model for texts and images, and the name of one.
    pub(super) fn other_parts(&self) -> Option<(usize, &'a str)> {
        let mut names = self.by_name.iter().map(|&r| self.name_of(r)).filter(|n| self.is_other(n));
        let first = names.next()?;
        Some((1 + names.count(), first))
    }

    /// True for a bias of zeros beside weights of GPTQ, of which some programs gave one to every
    /// matrix.
    fn adds_nothing(&self, r: TensorRef) -> bool {
        let Some(t) = self.get(r).filter(|t| t.data.iter().all(|&b| b == 0)) else { return false };
        let Some(base) = t.name.strip_suffix(".bias") else { return false };
        let weights = format!("{base}.qweight");
        self.shards.iter().any(|shard| shard.get(&weights).is_some())
    }

    fn is_other(&self, name: &str) -> bool {
        !self.prefixes.is_empty() && OTHER_PARTS.iter().any(|part| name.starts_with(part))
    }
}

impl Shapes for FolderTensors<'_> {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        let at = self.position(name)?;
        match *self.get(self.by_name[at])?.shape() {
            [cols] => Some((1, cols as usize)),
            [rows, cols] => Some((rows as usize, cols as usize)),
            _ => None,
        }
    }
}

impl FolderTensors<'_> {
    /// Scale of the packed weights at `at`, which is read more than once.
    fn packed_scale(&mut self, at: usize) -> Result<f32, LoadErrorKind> {
        let (prefix, bare) = self.parts_of(self.by_name[at]);
        let name = format!("{bare}_scale");
        let missing = || LoadErrorKind::NoScale { tensor: boxed(&format!("{prefix}{name}")) };
        let at = self.position(&name).ok_or_else(missing)?;
        let t = self.get(self.by_name[at]).ok_or_else(missing)?;
        let format = t.dtype.format().filter(|_| t.shape().iter().all(|&d| d == 1));
        let format = format.filter(|f| t.data.len() == f.block_bytes()).ok_or_else(missing)?;
        let mut scale = [0.0];
        dequantize_row(format, t.data, &mut scale);
        let divides = self.packing != Packing::Multiply;
        let scale = if divides { 1.0 / scale[0] } else { scale[0] };
        self.by_name[at].used = true;
        if scale.is_finite() { Ok(scale) } else { Err(missing()) }
    }
}

/// Writes the name that a folder uses for a tensor, without prefix; for experts stored one by one,
/// that of the first.
pub(super) fn write_name(family: &Family, slot: &Slot, form: u8, out: &mut String) {
    if let Some(name) = family.hf_names(slot.role).get(usize::from(form)) {
        let _ = family.hf_name(slot.role, name, 0, out); // a String takes everything
    }
}

impl FolderTensors<'_> {
    /// Writes the name of a tensor into the scratch text, without prefix, and looks it up.
    fn look_up(&mut self, role: Role, name: &HfName, expert: usize) -> Option<usize> {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        let _ = self.family.hf_name(role, name, expert, &mut text); // a String takes everything
        let found = self.position(&text);
        self.scratch = text;
        found
    }

    /// The name that was looked up last, for this role, with its usual prefix.
    fn looked_up(&self, role: Role) -> Box<Name> {
        boxed(&format!("{}{}", self.prefix_of(role), self.scratch))
    }

    /// Checks the shape of a tensor that holds `stack` of the slot's matrices one after another,
    /// each of `rows` rows, its type, and its conversion to ternary weights if needed.
    fn check(
        &mut self,
        at: usize,
        slot: &Slot,
        (stack, rows): (Option<usize>, usize),
        transposed: bool,
    ) -> Result<(Format, Option<Ternary>, u16, usize), LoadErrorKind> {
        let Some(t) = self.get(self.by_name[at]) else {
            return Err(LoadErrorKind::MissingTensor { tensor: self.looked_up(slot.role) });
        };
        let ternary = self.family.ternary && is_layer_matrix(slot);
        let packed = ternary && t.dtype == Dtype::U8;
        let rows = if packed { rows.div_ceil(4) } else { rows };
        let (rows, cols) = (rows as u64, slot.cols as u64);
        let needed = match (stack, slot.is_vector(), transposed) {
            (Some(n), ..) => Dims::new(&[n as u64, rows, cols]),
            (None, true, _) if slot.rows == 1 => Dims::new(&[cols]),
            (None, _, false) => Dims::new(&[rows, cols]),
            (None, _, true) => Dims::new(&[cols, rows]),
        };
        let shape = t.shape();
        let mut got = [0; MAX_DIMS];
        got.iter_mut().zip(shape).for_each(|(g, &d)| *g = d.into());
        // The taps of a convolution of one channel each: `[rows, 1, cols]`.
        let flat = match (slot.is_vector(), shape) {
            (true, &[r, 1, c]) if slot.rows > 1 => Dims::new(&[r.into(), c.into()]),
            _ => Dims::new(&got[..shape.len()]),
        };
        if needed != flat {
            let got = Dims::new(&got[..shape.len()]);
            return Err(LoadErrorKind::Shape { tensor: boxed(t.name), needed, got });
        }
        let unknown = || LoadErrorKind::Dtype { tensor: boxed(t.name), found: t.dtype };
        let (format, ternary) = if packed {
            let scale = self.packed_scale(at)?;
            (Format::I2_S, Some(Ternary::Packed { scale }))
        } else {
            let how = match self.packing {
                Packing::Online => Ternary::Rounded,
                _ => Ternary::Exact,
            };
            (t.dtype.format().ok_or_else(unknown)?, ternary.then_some(how))
        };
        let r = &mut self.by_name[at];
        r.used = true;
        Ok((format, ternary, r.shard, t.offset))
    }

    /// Tensors of all experts, of which the first one was found.
    fn find_each(
        &mut self,
        slot: &Slot,
        name: &HfName,
        first: usize,
    ) -> Result<Found, LoadErrorKind> {
        let one = Slot { experts: 1, ..*slot };
        let mut found: Option<Found> = None;
        for expert in 0..slot.experts {
            let at = match expert {
                0 => first,
                _ => self.look_up(slot.role, name, expert).ok_or_else(|| {
                    LoadErrorKind::MissingTensor { tensor: self.looked_up(slot.role) }
                })?,
            };
            let (format, ternary, file, offset) = self.check(at, &one, (None, slot.rows), false)?;
            let all = found.get_or_insert_with(|| {
                let parts = Vec::with_capacity(slot.experts.min(self.by_name.len()));
                Found { ternary, parts, ..Found::plain(format, file, offset) }
            });
            if format != all.format {
                let t = self.name_of(self.by_name[at]);
                return Err(LoadErrorKind::MixedExperts {
                    tensor: boxed(t),
                    first: all.format,
                    found: format,
                });
            }
            all.parts.push(Piece { file, offset });
        }
        // A layer has at least one expert.
        found.ok_or_else(|| LoadErrorKind::MissingTensor { tensor: self.looked_up(slot.role) })
    }

    /// Rotary factors of config.json, if the slot is one of their tensors.
    fn find_factors(&self, slot: &Slot) -> Option<Found> {
        let part = match slot.role {
            Role::RopeFactorsLong => 0,
            Role::RopeFactorsShort => 1,
            _ => return None,
        };
        let ((file, bytes), each) = (self.factors?, 4 * slot.cols);
        let file = u16::try_from(file).ok()?;
        (bytes == 2 * each).then(|| Found::plain(Format::F32, file, part * each))
    }

    /// Share of the rows of each expert, in one tensor of all experts, or of one matrix.
    fn find_share(
        &mut self,
        slot: &Slot,
        (part, parts): (u8, u8),
        at: usize,
    ) -> Result<Found, LoadErrorKind> {
        let rows = slot.rows * usize::from(parts); // both are bounded far below 2^32
        let whole = self.get(self.by_name[at]).is_some_and(|t| t.shape().len() == 2);
        let stack = Some(slot.experts).filter(|&n| n > 1 || !whole);
        let (format, ternary, file, offset) = self.check(at, slot, (stack, rows), false)?;
        let found = Found { ternary, ..Found::plain(format, file, offset) };
        if parts == 1 {
            return Ok(found);
        }
        let share = format.tensor_bytes(slot.rows, slot.cols).unwrap_or(0); // inside the tensor
        if stack.is_none() {
            return Ok(Found { offset: offset + share * usize::from(part), ..found });
        }
        let nth = |e: usize| offset + share * (e * usize::from(parts) + usize::from(part));
        let parts = (0..slot.experts).map(|e| Piece { file, offset: nth(e) }).collect();
        Ok(Found { parts, ..found })
    }
}

impl FolderTensors<'_> {
    /// Checks the shape of a tensor, marks it as used, and gives its type, file and offset.
    fn exactly(&mut self, at: usize, dims: &[usize]) -> Result<(Dtype, Piece), LoadErrorKind> {
        let r = &mut self.by_name[at];
        r.used = true;
        let file = r.shard;
        let Some(t) = self.get(self.by_name[at]) else {
            return Err(LoadErrorKind::MissingTensor { tensor: boxed("") });
        };
        let mut needed = [0; 4];
        needed.iter_mut().zip(dims).for_each(|(n, &d)| *n = d as u64);
        let mut got = [0; MAX_DIMS];
        got.iter_mut().zip(t.shape()).for_each(|(g, &d)| *g = d.into());
        let (needed, got) = (Dims::new(&needed[..dims.len()]), Dims::new(&got[..t.shape().len()]));
        match needed == got {
            true => Ok((t.dtype, Piece { file, offset: t.offset })),
            false => Err(LoadErrorKind::Shape { tensor: boxed(t.name), needed, got }),
        }
    }

    /// Share of the outputs of each expert, in one tensor with inputs as rows or of vectors.
    fn find_columns(
        &mut self,
        slot: &Slot,
        (part, parts): (u8, u8),
        at: usize,
    ) -> Result<Found, LoadErrorKind> {
        let n = usize::from(parts); // bounded, as the sizes are, far below 2^32
        let &Slot { experts, rows, cols, .. } = slot;
        let (dtype, piece) = match slot.is_vector() {
            true => self.exactly(at, &[experts, n * cols])?,
            false => self.exactly(at, &[experts, cols, n * rows])?,
        };
        let tensor = || boxed(self.name_of(self.by_name[at]));
        let unknown = || LoadErrorKind::Dtype { tensor: tensor(), found: dtype };
        let format = dtype.format().ok_or_else(unknown)?;
        let found =
            Found { share: (part, parts), ..Found::plain(format, piece.file, piece.offset) };
        if slot.is_vector() {
            return Ok(found);
        }
        let each = format.tensor_bytes(rows, cols).unwrap_or(0) * n; // inside the tensor
        let nth = |e: usize| Piece { file: piece.file, offset: piece.offset + each * e };
        Ok(Found { transposed: true, parts: (0..experts).map(nth).collect(), ..found })
    }

    /// Share of the outputs of each expert in MXFP4, with elements and exponents apart.
    fn find_mxfp4(
        &mut self,
        slot: &Slot,
        (part, parts): (u8, u8),
        at: usize,
    ) -> Result<Found, LoadErrorKind> {
        let (prefix, blocks) = self.parts_of(self.by_name[at]);
        let name = format!("{}_scales", blocks.strip_suffix("_blocks").unwrap_or(blocks));
        let scales = self.position(&name).ok_or_else(|| LoadErrorKind::MissingTensor {
            tensor: boxed(&format!("{prefix}{name}")),
        })?;
        let (rows, per_row) = (usize::from(parts) * slot.rows, slot.cols.div_ceil(32));
        let (a, elements) = self.exactly(at, &[slot.experts, rows, per_row, 16])?;
        let (b, exponents) = self.exactly(scales, &[slot.experts, rows, per_row])?;
        for (at, dtype) in [(at, a), (scales, b)] {
            if dtype != Dtype::U8 || !Format::MXFP4.is_built() {
                let tensor = boxed(self.name_of(self.by_name[at]));
                return Err(LoadErrorKind::Dtype { tensor, found: dtype });
            }
        }
        if !slot.cols.is_multiple_of(32) {
            let (tensor, needed) = (boxed(&name), Dims::new(&[slot.cols as u64]));
            let got = Dims::new(&[32 * per_row as u64]);
            return Err(LoadErrorKind::Shape { tensor, needed, got });
        }
        Ok(Found {
            share: (part, parts),
            exponents: Some(exponents),
            ..Found::plain(Format::MXFP4, elements.file, elements.offset)
        })
    }
}

impl Container for FolderTensors<'_> {
    fn find(&mut self, slot: &Slot) -> Result<Found, LoadErrorKind> {
        if let Some(found) = self.find_factors(slot) {
            return Ok(found);
        }
        let names = self.family.hf_names(slot.role);
        let mut missing = None;
        for (form, name) in (0u8..).zip(names) {
            let Some(at) = self.look_up(slot.role, name, 0) else {
                // Errors name the usual form.
                missing.get_or_insert_with(|| self.looked_up(slot.role));
                continue;
            };
            let prefix = self.parts_of(self.by_name[at]).0;
            let found = match name.form {
                HfForm::EachExpert => self.find_each(slot, name, at)?,
                HfForm::Share { part, parts } => self.find_share(slot, (part, parts), at)?,
                HfForm::Columns { part, parts } => self.find_columns(slot, (part, parts), at)?,
                HfForm::Mxfp4 { part, parts } => self.find_mxfp4(slot, (part, parts), at)?,
                _ => {
                    let transposed = !slot.is_vector() && (self.family.hf_transposed)(slot.role);
                    let (format, ternary, file, offset) =
                        self.check(at, slot, (None, slot.rows), transposed)?;
                    let shift =
                        if slot.is_vector() { (self.family.hf_shift)(slot.role) } else { 0.0 };
                    let (grouped, log) = match name.form {
                        HfForm::Grouped { log } => (true, log),
                        _ => (false, false),
                    };
                    let plain = Found::plain(format, file, offset);
                    Found { transposed, shift, ternary, grouped, log, ..plain }
                }
            };
            return Ok(Found { prefix, form, ..found });
        }
        let tensor = missing.unwrap_or_else(|| self.name(slot.role));
        Err(LoadErrorKind::MissingTensor { tensor })
    }

    fn discard(&mut self, role: Role) {
        for name in self.family.hf_names(role) {
            if let Some(at) = self.look_up(role, name, 0) {
                self.by_name[at].used = true;
            }
        }
    }

    fn name(&self, role: Role) -> Box<Name> {
        let mut name = self.prefix_of(role).to_owned();
        match self.family.hf_names(role).first() {
            Some(first) => {
                let _ = self.family.hf_name(role, first, 0, &mut name); // a String takes everything
            }
            None => name.push_str(&format!("{role:?}")),
        }
        boxed(&name)
    }

    fn len(&self) -> usize {
        self.by_name.len()
    }

    fn check_all_used(&self) -> Result<(), LoadErrorKind> {
        for &r in self.by_name.iter().filter(|r| !r.used) {
            let (name, bare) = (self.name_of(r), self.parts_of(r).1);
            if !(self.family.hf_ignored)(bare) && !self.is_other(name) && !self.adds_nothing(r) {
                let tensor = boxed(name);
                return Err(LoadErrorKind::UnknownTensor { tensor, arch: self.family.name() });
            }
        }
        Ok(())
    }
}
