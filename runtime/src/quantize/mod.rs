//! Quantisation of models: another file of the same model, with matrices in other formats.
//!
//! [`Target`] is the type that a file can be quantised to: a plain format, or one of llama.cpp's
//! mixes, which give more bits to the tensors that matter most. [`plan`] decides the format of each
//! tensor from names and shapes alone. [`quantize_file`] reads a GGUF file or a Hugging Face folder
//! and writes a GGUF file; [`write()`] does the same from any [`Source`] to any writer.
//!
//! The bytes are those that llama.cpp's quantiser writes, tensor by tensor, with and without an
//! [`ImportanceMatrix`], and the same for every number of threads.
//!
//! ```
//! use teff_runtime::quantize::{QuantizeOptions, Target, quantize_file};
//!
//! # let input = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/gpt2/gpt2-f32.gguf");
//! # let output = std::env::temp_dir().join(format!("teff-doc-{}.gguf", std::process::id()));
//! let target = Target::from_name("Q8_0").expect("a format of this build");
//! let options = QuantizeOptions::default();
//! let report = quantize_file(input, &output, &target, &options, &mut |_| {})?;
//! println!("{:.2} bits per weight", report.bits_after());
//! assert!(report.after < report.before);
//! # std::fs::remove_file(output).unwrap();
//! # Ok::<(), teff_runtime::quantize::QuantizeError>(())
//! ```

mod error;
mod folder;
pub(crate) mod importance;
mod mixes;
mod overrides;
mod run;
mod source;

use teff_kernels::Format;

pub use error::{QuantizeError, QuantizeErrorKind};
pub use folder::FolderSource;
pub use importance::{ImportanceError, ImportanceErrorKind, ImportanceMatrix};
pub use mixes::{Facts, Target};
pub use overrides::{Overrides, TensorType, TensorTypeError, type_from_name};
pub use run::{Fallback, Progress, QuantizeOptions, Report, quantize_file, write};
pub use source::{FILE_TYPE, GgufSource, QUANTIZATION_VERSION, Source};

use mixes::{Counters, Part};

/// Tensor as seen by the choice of its format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape<'a> {
    /// Name in GGUF.
    pub name: &'a str,
    /// Dimensions, starting with the length of a row; trailing ones may be 1.
    pub dims: &'a [u64],
    /// Format in the source.
    pub format: Format,
}

impl Shape<'_> {
    /// Elements of a row.
    fn cols(&self) -> u64 {
        self.dims.first().copied().unwrap_or(1)
    }

    /// Matrices that lie one after another.
    fn matrices(&self) -> u64 {
        self.dims.iter().skip(2).product()
    }

    /// Layer given by the name (`blk.7.`), if any.
    fn layer(&self) -> Option<u32> {
        let rest = self.name.strip_prefix("blk.")?;
        rest.split_once('.')?.0.parse().ok()
    }

    /// True if a file keeps the tensor as it is: all tensors but matrices, and among these norms,
    /// positions and those that llama.cpp keeps since they are small and important.
    fn is_kept(&self) -> bool {
        let dims = self.dims.iter().rposition(|&d| d > 1).map_or(1, |last| last + 1);
        dims < 2
            || !self.name.ends_with("weight")
            || KEPT_NAMES.contains(&self.name)
            || KEPT_PARTS.iter().any(|part| self.name.contains(part))
    }
}

/// Tensors that are only looked up, never multiplied (positions; BERT's token types).
const KEPT_NAMES: [&str; 2] = ["position_embd.weight", "token_types.weight"];

/// Parts of the names of matrices that are kept, after `tensor_allows_quantization` in
/// llama-quant.cpp of llama.cpp, for text models.
const KEPT_PARTS: [&str; 30] = [
    "_norm.weight",
    "ffn_gate_inp.weight",   // the choice of experts
    "shortconv.conv.weight", // the taps of a convolution, few for each channel
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight", // RWKV
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
];

/// Format chosen for a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Format that it gets.
    pub format: Format,
    /// Format that it would get if its rows were whole blocks of it and it were built into this
    /// program; usually the same.
    pub wanted: Format,
}

/// Chooses the format of every tensor, in order. It needs no weights: names and shapes decide.
#[must_use]
pub fn plan(target: &Target, facts: &Facts, tensors: &[Shape<'_>]) -> Vec<Choice> {
    plan_with(target, facts, &Overrides::default(), false, tensors)
}

/// Chooses as [`plan`], with formats given by hand, and for a file that is quantised with an importance
/// matrix if `importances` is true: mixes differ for these.
#[must_use]
pub fn plan_with(
    target: &Target,
    facts: &Facts,
    overrides: &Overrides,
    importances: bool,
    tensors: &[Shape<'_>],
) -> Vec<Choice> {
    let mut choices: Vec<Choice> =
        tensors.iter().map(|t| Choice { format: t.format, wanted: t.format }).collect();
    // Rules count tensors in llama.cpp's order: tensors outside of layers first, then layer by
    // layer, each sorted by name.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (tensors[i].layer().map_or(-1, i64::from), tensors[i].name));
    let parts = || tensors.iter().map(|t| Part::of(t.name));
    let mut counters = Counters {
        values: parts().filter(|&p| p == Part::AttnV).count() as u32,
        value: 0,
        down: 0,
        up: 0,
        gate: 0,
        tied: parts().all(|p| p != Part::Output),
        importances,
    };
    for i in order {
        let tensor = &tensors[i];
        if tensor.is_kept() {
            continue;
        }
        let part = Part::of(tensor.name);
        let sizes = (tensor.cols(), tensor.matrices());
        let given = overrides.format(tensor.name, part, target.is_pure(), counters.tied);
        let wanted = given
            .unwrap_or_else(|| target.format(facts, part, tensor.layer(), sizes, &mut counters));
        choices[i] = Choice { format: mixes::fit(wanted, tensor.cols()), wanted };
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the tensors, the chosen formats fit, and tensors other than matrices are kept.
        #[test]
        fn plans_fit(
            tensors in prop::collection::vec((0usize..14, 0u32..90, 1u64..700, 1u64..5), 0..40),
            target in 0..Target::ALL.len(),
            pure in any::<bool>(),
            (layers, group, experts) in (0u32..90, 0u32..9, prop::sample::select(vec![0u32, 1, 4, 8])),
        ) {
            const PARTS: [&str; 14] = [
                "token_embd.weight", "output.weight", "output_norm.weight", "position_embd.weight",
                "attn_v.weight", "attn_qkv.weight", "attn_k.weight", "attn_output.weight",
                "ffn_down.weight", "ffn_down_exps.weight", "ffn_up.weight", "attn_q.bias",
                "ffn_gate_inp.weight", "attn_q_norm.weight",
            ];
            let target = Target::ALL[target];
            let target = if pure { target.pure() } else { target };
            let tensors: Vec<_> = tensors
                .into_iter()
                .map(|(part, layer, cols, rows)| {
                    let name = PARTS[part];
                    let name = if part < 4 { name.into() } else { format!("blk.{layer}.{name}") };
                    (name, [cols * [1, 32, 128, 256][cols as usize % 4], rows])
                })
                .collect();
            let shapes: Vec<_> = tensors
                .iter()
                .map(|(name, dims)| Shape { name, dims, format: Format::BF16 })
                .collect();
            let facts = Facts { layers, group, experts, is_70b: layers == 80 };
            let choices = plan(&target, &facts, &shapes);
            prop_assert_eq!(choices.len(), shapes.len());
            for (shape, choice) in shapes.iter().zip(choices) {
                prop_assert!(choice.format.row_bytes(shape.dims[0] as usize).is_some());
                let kept = shape.dims[1] == 1
                    || ["norm", "position", "bias", "gate_inp"].iter().any(|p| shape.name.contains(p));
                if kept {
                    prop_assert_eq!(choice.format, Format::BF16);
                } else if pure {
                    prop_assert_eq!(choice.wanted, target.base());
                }
            }
        }
    }
}
