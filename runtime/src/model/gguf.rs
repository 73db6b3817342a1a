//! Models in a GGUF file, or in the parts of one.

use std::ops::Range;

use teff_graph::family::{self, Family, Notice, Shapes};
use teff_graph::gguf::{Gguf, Name};
use teff_graph::layers::FeedForward;
use teff_graph::meta::{self, MetaError, Metadata, Value};
use teff_graph::{Layer, Role, Slot, Spec, SpecError, SpecRoom};
use teff_kernels::{Format, dequantize_row};

use super::LoadErrorKind;
use super::error::{Dims, boxed};
use super::tensor_table::{Container, Found, Piece, Ternary, is_layer_matrix};

/// Tensors of a file, or of all parts of one, by name. An entry takes little more than the description of a tensor in the
/// file, since their number is up to the file.
pub(super) struct GgufTensors<'g, 'a> {
    /// At least one.
    parts: &'g [Gguf<'a>],
    family: &'static Family,
    /// In ascending order of names.
    entries: Vec<Entry<'a>>,
    /// Blocks after the layers, which predict further tokens and are not used.
    further: Range<u32>,
    /// True if layers have tensors whose names are those of factors of matrices elsewhere.
    own_scales: bool,
    scratch: String,
}

struct Entry<'a> {
    name: &'a str,
    /// Index of the part.
    file: u16,
    offset: usize,
    /// Saturated, like `cols`: a slot has far fewer.
    rows: u32,
    cols: u32,
    format: Format,
    /// True if it has more dimensions than rows and columns.
    deep: bool,
    /// Third dimension; 1 if there is a fourth.
    experts: u32,
    used: bool,
}

impl Entry<'_> {
    /// End of its bytes in the file.
    fn end(&self) -> usize {
        // The reader found these bytes in the file.
        let bytes = self.format.tensor_bytes(self.rows as usize, self.cols as usize);
        self.offset.saturating_add(bytes.unwrap_or(0))
    }
}

/// Family of a GGUF file.
pub(super) fn family(gguf: &Gguf<'_>) -> Result<&'static Family, LoadErrorKind> {
    const KEY: &str = "general.architecture";
    let meta = |e: MetaError| LoadErrorKind::Spec(SpecError::Meta(e));
    let arch = meta::text(gguf, KEY).and_then(|v| meta::required(v, KEY)).map_err(meta)?;
    let unknown = || LoadErrorKind::UnknownArchitecture { found: boxed(arch) };
    family::of_arch(arch).ok_or_else(unknown)
}

impl<'g, 'a> GgufTensors<'g, 'a> {
    /// Collects the tensors of a file or of its parts, of which there is at least one. Overlapping
    /// tensors are an error, since their converted copies could add up to any multiple of the
    /// file's size.
    pub(super) fn new(
        parts: &'g [Gguf<'a>],
        family: &'static Family,
    ) -> Result<Self, LoadErrorKind> {
        let saturated = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // Exact: the reader counted them.
        let mut entries = Vec::with_capacity(parts.iter().map(Gguf::n_tensors).sum());
        for (file, gguf) in (0u16..).zip(parts) {
            entries.extend(gguf.tensors().map(|t| Entry {
                name: t.name,
                file,
                offset: t.offset,
                rows: saturated(t.rows()),
                cols: saturated(t.cols()),
                format: t.format,
                deep: t.dims[2..] != [1, 1],
                experts: match t.dims[2..] {
                    [n, 1] => u32::try_from(n).unwrap_or(u32::MAX),
                    _ => 1,
                },
                used: false,
            }));
        }
        entries.sort_unstable_by_key(|e| (e.file, e.offset));
        let overlap = |w: &&[Entry<'_>]| w[0].file == w[1].file && w[0].end() > w[1].offset;
        if let Some([a, b]) = entries.windows(2).find(overlap) {
            let (tensor, other) = (boxed(a.name), boxed(b.name));
            return Err(LoadErrorKind::Overlap { tensor, other });
        }
        entries.sort_unstable_by_key(|e| e.name);
        Ok(GgufTensors {
            parts,
            family,
            entries,
            further: 0..0,
            own_scales: false,
            scratch: String::new(),
        })
    }

    /// Hyper-parameters, and notices about them.
    pub(super) fn spec(&mut self) -> Result<(Spec<'static>, Vec<Notice>), LoadErrorKind> {
        let mut room = SpecRoom::new();
        let first = &self.parts[0];
        let spec = (self.family.from_gguf)(first, self, &mut room);
        let spec = spec.map_err(LoadErrorKind::Spec)?.to_owned();
        let arch = self.family.arch;
        let number = |key| match first.get(&format!("{arch}.{key}")) {
            Some(Value::Uint(n)) => u32::try_from(n).ok(),
            _ => None,
        };
        // Of a family that counts them among its layers there are none left.
        if let (Some(blocks), Some(1..)) = (number("block_count"), number("nextn_predict_layers")) {
            self.further = spec.layers.len()..blocks;
        }
        let has_scales = |layer: &Layer| matches!(layer.ffn, FeedForward::DenseAndExperts(_));
        self.own_scales = spec.layers.kinds().iter().any(has_scales);
        Ok((spec, room.notices().to_vec()))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.binary_search_by_key(&name, |e| e.name).ok()
    }
}

impl GgufTensors<'_, '_> {
    /// Factors of a matrix' outputs, whose name was looked up last: of the tensor whose name ends with `scale` in place of
    /// `weight`, as NVFP4 has them. One that ends with `input_scale` is for activations in four bits, and not needed.
    fn factors(&mut self, slot: &Slot) -> Result<Vec<f32>, LoadErrorKind> {
        let Some(base) = self.scratch.strip_suffix("weight") else { return Ok(Vec::new()) };
        // Of Gemma 4, whose layers have tensors of these names.
        let own = [".ffn_gate_inp.", ".ffn_down_exps."].iter().any(|name| base.ends_with(name));
        if self.own_scales && own {
            return Ok(Vec::new());
        }
        // Without this feature matrices have no room for them, and the tensors are refused as unknown.
        if slot.is_vector() || !cfg!(feature = "fp4-quants") {
            return Ok(Vec::new());
        }
        let (scale, input) = (format!("{base}scale"), format!("{base}input_scale"));
        if let Some(at) = self.position(&input) {
            self.entries[at].used = true;
        }
        let Some(at) = self.position(&scale) else { return Ok(Vec::new()) };
        self.entries[at].used = true;
        let e = &self.entries[at];
        let data = self.parts[usize::from(e.file)].tensor(e.name).map_or(&[][..], |t| t.data);
        if (e.rows, e.cols as usize) != (1, slot.experts) {
            let (needed, got) = ([slot.experts as u64], [e.cols.into(), e.rows.into()]);
            let n = if e.rows == 1 { 1 } else { 2 };
            let (needed, got) = (Dims::new(&needed), Dims::new(&got[..n]));
            return Err(LoadErrorKind::Shape { tensor: boxed(&scale), needed, got });
        }
        if e.format.is_quantized() {
            let (tensor, found) = (boxed(&scale), e.format);
            return Err(LoadErrorKind::QuantizedVector { tensor, found });
        }
        let mut factors = vec![0.0; slot.experts];
        dequantize_row(e.format, data, &mut factors);
        Ok(factors)
    }
}

impl GgufTensors<'_, '_> {
    /// A stack of experts of which each has a tensor, as in files of 2023; `None` if the file has none of
    /// them.
    fn find_each(&mut self, slot: &Slot) -> Result<Option<Found>, LoadErrorKind> {
        if slot.experts < 2 || slot.is_vector() {
            return Ok(None);
        }
        let (mut name, mut found) = (String::new(), None::<Found>);
        for expert in 0..slot.experts {
            name.clear();
            if !self.family.gguf_expert_name(slot.role, expert, &mut name).unwrap_or(false) {
                return Ok(None);
            }
            let Some(at) = self.position(&name) else {
                // Without the first there are none.
                return match expert {
                    0 => Ok(None),
                    _ => Err(LoadErrorKind::MissingTensor { tensor: boxed(&name) }),
                };
            };
            let e = &mut self.entries[at];
            e.used = true;
            let (format, file, offset) = (e.format, e.file, e.offset);
            if e.deep || (e.rows as usize, e.cols as usize) != (slot.rows, slot.cols) {
                return Err(self.wrong_shape(at, &[slot.cols, slot.rows]));
            }
            let all = found.get_or_insert_with(|| Found::plain(format, file, offset));
            if format != all.format {
                let (tensor, first) = (boxed(&name), all.format);
                return Err(LoadErrorKind::MixedExperts { tensor, first, found: format });
            }
            all.parts.push(Piece { file, offset });
        }
        Ok(found)
    }

    /// Error for a tensor that has another shape than this.
    fn wrong_shape(&self, at: usize, needed: &[usize]) -> LoadErrorKind {
        let e = &self.entries[at];
        let needed: Vec<u64> = needed.iter().map(|&n| n as u64).collect();
        let got = self.parts[usize::from(e.file)].tensor(e.name).map_or([0; 4], |t| t.dims);
        let n = got.iter().rposition(|&d| d != 1).map_or(1, |i| i + 1);
        let (needed, got) = (Dims::new(&needed), Dims::new(&got[..n]));
        LoadErrorKind::Shape { tensor: boxed(e.name), needed, got }
    }
}

impl Shapes for GgufTensors<'_, '_> {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        let e = &self.entries[self.position(name)?];
        Some((e.rows as usize, e.cols as usize))
    }
}

/// Writes a tensor's name into an existing text. Writing to a `String` can't fail, so the result is
/// ignored.
pub(super) fn write_name(family: &Family, role: Role, out: &mut String) {
    let _ = family.gguf_name(role, out);
}

impl Container for GgufTensors<'_, '_> {
    fn find(&mut self, slot: &Slot) -> Result<Found, LoadErrorKind> {
        let mut name = std::mem::take(&mut self.scratch);
        name.clear();
        write_name(self.family, slot.role, &mut name);
        let at = self.position(&name);
        self.scratch = name;
        let Some(at) = at else {
            let found = self.find_each(slot)?;
            return found
                .ok_or_else(|| LoadErrorKind::MissingTensor { tensor: boxed(&self.scratch) });
        };
        let e = &self.entries[at];
        // Vectors of experts are rows of one tensor.
        let stacked = slot.experts > 1 && !slot.is_vector();
        let got = (e.rows as usize, e.cols as usize);
        if e.deep && !stacked
            || got != (slot.all_rows(), slot.cols)
            || stacked && e.experts as usize != slot.experts
        {
            let rows = if stacked { slot.rows } else { slot.all_rows() };
            let needed = [slot.cols, rows, slot.experts];
            let n = if stacked { 3 } else { 2 - usize::from(rows == 1 && slot.is_vector()) };
            return Err(self.wrong_shape(at, &needed[..n]));
        }
        let (format, file, offset) = (e.format, e.file, e.offset);
        self.entries[at].used = true;
        let factors = self.factors(slot)?;
        // Ternary weights in a type that could hold other values.
        let ternary = match self.family.ternary && is_layer_matrix(slot) && !format.is_quantized() {
            true => Some(Ternary::Exact),
            false => None,
        };
        Ok(Found { ternary, factors, ..Found::plain(format, file, offset) })
    }

    fn discard(&mut self, role: Role) {
        let mut name = String::new();
        write_name(self.family, role, &mut name);
        if let Some(at) = self.position(&name) {
            self.entries[at].used = true;
        }
    }

    fn name(&self, role: Role) -> Box<Name> {
        let mut name = String::new();
        write_name(self.family, role, &mut name);
        boxed(&name)
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    /// Checks that every tensor is used, but those of blocks that predict further tokens: each name that llama.cpp's converters write for these
    /// families stands for a part of the computation.
    fn check_all_used(&self) -> Result<(), LoadErrorKind> {
        let is_further = |name: &str| {
            let block = name.strip_prefix("blk.").and_then(|name| name.split_once('.'));
            block.and_then(|(n, _)| n.parse().ok()).is_some_and(|n| self.further.contains(&n))
        };
        match self.entries.iter().find(|e| !e.used && !is_further(e.name)) {
            None => Ok(()),
            Some(e) => Err(LoadErrorKind::UnknownTensor {
                tensor: boxed(e.name),
                arch: self.family.name(),
            }),
        }
    }
}
