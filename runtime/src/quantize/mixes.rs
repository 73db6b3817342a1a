//! Formats of the parts of a model: plain formats and llama.cpp's mixes.
//!
//! The rules are those of `llama_tensor_get_type_impl` in llama-quant.cpp of llama.cpp (2026), with and
//! without importance matrices; `tests/command/quantize.rs` compares them to its files. Rules for an
//! architecture that Teff does not run (Falcon) are left out.

use teff_graph::gguf::{Gguf, GgufValue};
use teff_kernels::Format;

/// Target of quantising a file: a plain format, or a mix of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    name: &'static str,
    base: Format,
    file_type: u32,
    rules: Rules,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rules {
    /// One format for all matrices.
    Plain,
    /// Another format for the head only.
    Head,
    Q2K,
    Q2KS,
    Q3KM,
    Q3KL,
    Q4KS,
    Q4KM,
    Q5KM,
    Iq4Nl,
    /// IQ1_S and IQ1_M.
    Iq1,
    /// IQ2_XXS and IQ2_XS.
    Iq2,
    /// IQ2_S and IQ2_M.
    Iq2M,
    Iq3Xxs,
    Iq3Xs,
    Iq3S,
    Iq3M,
    /// Layers in ternary weights or two bits, with another format for the head and the embedding.
    Ternary,
    /// As in BitNet's published file: F16 for the embedding and the head.
    BitNet,
    /// Stacked experts alone; Q8_0 for all other matrices.
    Experts,
}

const fn target(name: &'static str, base: Format, file_type: u32, rules: Rules) -> Target {
    Target { name, base, file_type, rules }
}

/// File type of Q2_K_S.
const Q2_K_S: u32 = 21;

impl Target {
    /// All targets, with the numbers of llama.cpp (`llama_ftype` in llama.h); I2_S has that of
    /// BitNet's converter.
    pub const ALL: [Target; 39] = [
        target("F32", Format::F32, 0, Rules::Plain),
        target("F16", Format::F16, 1, Rules::Plain),
        target("BF16", Format::BF16, 32, Rules::Plain),
        target("Q4_0", Format::Q4_0, 2, Rules::Head),
        target("Q4_1", Format::Q4_1, 3, Rules::Head),
        target("Q5_0", Format::Q5_0, 8, Rules::Head),
        target("Q5_1", Format::Q5_1, 9, Rules::Head),
        target("Q8_0", Format::Q8_0, 7, Rules::Head),
        target("Q2_K", Format::Q2_K, 10, Rules::Q2K),
        target("Q2_K_S", Format::Q2_K, Q2_K_S, Rules::Q2KS),
        target("Q3_K", Format::Q3_K, 11, Rules::Plain),
        target("Q3_K_S", Format::Q3_K, 11, Rules::Head),
        target("Q3_K_M", Format::Q3_K, 12, Rules::Q3KM),
        target("Q3_K_L", Format::Q3_K, 13, Rules::Q3KL),
        target("Q4_K", Format::Q4_K, 14, Rules::Plain),
        target("Q4_K_S", Format::Q4_K, 14, Rules::Q4KS),
        target("Q4_K_M", Format::Q4_K, 15, Rules::Q4KM),
        target("Q5_K", Format::Q5_K, 16, Rules::Plain),
        target("Q5_K_S", Format::Q5_K, 16, Rules::Head),
        target("Q5_K_M", Format::Q5_K, 17, Rules::Q5KM),
        target("Q6_K", Format::Q6_K, 18, Rules::Head),
        target("IQ1_S", Format::IQ1_S, 24, Rules::Iq1),
        target("IQ1_M", Format::IQ1_M, 31, Rules::Iq1),
        target("IQ2_XXS", Format::IQ2_XXS, 19, Rules::Iq2),
        target("IQ2_XS", Format::IQ2_XS, 20, Rules::Iq2),
        target("IQ2_S", Format::IQ2_XS, 28, Rules::Iq2M),
        target("IQ2_M", Format::IQ2_S, 29, Rules::Iq2M),
        target("IQ3_XXS", Format::IQ3_XXS, 23, Rules::Iq3Xxs),
        target("IQ3_XS", Format::IQ3_S, 22, Rules::Iq3Xs),
        target("IQ3_S", Format::IQ3_S, 26, Rules::Iq3S),
        target("IQ3_M", Format::IQ3_S, 27, Rules::Iq3M),
        target("IQ4_NL", Format::IQ4_NL, 25, Rules::Iq4Nl),
        target("IQ4_XS", Format::IQ4_XS, 30, Rules::Iq4Nl),
        target("MXFP4_MOE", Format::MXFP4, 38, Rules::Experts),
        target("Q1_0", Format::Q1_0, 40, Rules::Head),
        target("Q2_0", Format::Q2_0, 41, Rules::Ternary),
        target("TQ1_0", Format::TQ1_0, 36, Rules::Ternary),
        target("TQ2_0", Format::TQ2_0, 37, Rules::Ternary),
        target("I2_S", Format::I2_S, 40, Rules::BitNet),
    ];

    /// Targets whose formats are built into this program.
    pub fn built() -> impl Iterator<Item = Target> + Clone {
        Target::ALL.into_iter().filter(|t| t.base.is_built())
    }

    /// Target with this name, ignoring case, if its format is built into this program.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Target> {
        Target::built().find(|t| t.name.eq_ignore_ascii_case(name))
    }

    /// The same target without rules: every matrix in the plain format, including head and
    /// embedding.
    #[must_use]
    pub fn pure(self) -> Target {
        Target { rules: Rules::Plain, ..self }
    }

    pub(super) fn is_pure(&self) -> bool {
        self.rules == Rules::Plain
    }

    /// True if a tensor in this format is of no use unless an importance matrix guided its
    /// quantisation.
    pub(super) fn needs_importances(&self, tensor: &str, format: Format) -> bool {
        let part = Part::of(tensor);
        let needed = match format {
            Format::Q2_K => self.file_type == Q2_K_S,
            Format::IQ1_S | Format::IQ1_M => true,
            Format::IQ2_XXS | Format::IQ2_XS | Format::IQ2_S | Format::IQ3_XXS => true,
            _ => false,
        };
        needed && !matches!(part, Part::Output | Part::Embedding)
    }

    /// Name, such as `Q4_K_M`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Format of most matrices.
    #[must_use]
    pub fn base(&self) -> Format {
        self.base
    }

    /// Value of `general.file_type`.
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.file_type
    }
}

/// Properties of a model that the rules use, apart from its tensors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Number of layers.
    pub layers: u32,
    /// Query heads for each head of keys and values.
    pub group: u32,
    /// Number of experts; 0 if there are none.
    pub experts: u32,
    /// True for the models of about 70 G parameters, whose matrices of values are small.
    pub is_70b: bool,
}

impl Facts {
    /// Facts from the keys of a GGUF file; missing ones are 0.
    #[must_use]
    pub fn of_gguf(gguf: &Gguf<'_>) -> Facts {
        let arch = match gguf.value("general.architecture") {
            Some(GgufValue::Str(arch)) => arch,
            _ => "",
        };
        let number = |key: &str| integer(gguf.value(&format!("{arch}.{key}"))?);
        let layers = number("block_count").unwrap_or(0);
        let heads = number("attention.head_count").unwrap_or(0);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        Facts {
            layers,
            group: heads.checked_div(kv_heads).unwrap_or(0),
            experts: number("expert_count").unwrap_or(0),
            is_70b: layers == 80
                && (matches!(arch, "qwen2" | "deci") || arch == "llama" && heads != kv_heads),
        }
    }
}

/// Value as a small number; for an array, that of the first layer.
fn integer(value: GgufValue<'_>) -> Option<u32> {
    match value {
        GgufValue::U32(v) => Some(v),
        GgufValue::U8(v) => Some(v.into()),
        GgufValue::U16(v) => Some(v.into()),
        GgufValue::U64(v) => u32::try_from(v).ok(),
        GgufValue::I8(v) => u32::try_from(v).ok(),
        GgufValue::I16(v) => u32::try_from(v).ok(),
        GgufValue::I32(v) => u32::try_from(v).ok(),
        GgufValue::I64(v) => u32::try_from(v).ok(),
        GgufValue::Array(a) => u32::try_from(a.integers()?.next()?).ok(),
        _ => None,
    }
}

/// Parts of a model that the rules distinguish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Output,
    Embedding,
    /// Values, alone or fused with queries and keys.
    AttnV,
    AttnK,
    AttnQ,
    AttnOutput,
    FfnUp,
    FfnGate,
    FfnDown,
    Other,
}

impl Part {
    pub(super) fn of(name: &str) -> Part {
        let has = |part: &str| name.contains(part);
        match name {
            "output.weight" => Part::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Part::Embedding,
            _ if ["attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"].into_iter().any(has) => {
                Part::AttnV
            }
            _ if has("attn_k.weight") => Part::AttnK,
            _ if has("attn_q.weight") => Part::AttnQ,
            _ if has("attn_output.weight") => Part::AttnOutput,
            _ if has("ffn_up") => Part::FfnUp,
            _ if has("ffn_gate") => Part::FfnGate,
            _ if has("ffn_down") => Part::FfnDown,
            _ => Part::Other,
        }
    }
}

/// Progress of planning.
pub(super) struct Counters {
    /// Matrices of values in total, and those planned so far.
    pub(super) values: u32,
    pub(super) value: u32,
    /// Matrices at the end of layers, planned so far.
    pub(super) down: u32,
    /// The same of those at their beginning.
    pub(super) up: u32,
    pub(super) gate: u32,
    /// True if the embedding is also the head.
    pub(super) tied: bool,
    /// True if there is an importance matrix.
    pub(super) importances: bool,
}

/// True for formats whose quantisers make use of importances.
pub(super) fn weighs(format: Format) -> bool {
    use Format as F;
    match format {
        F::Q4_0 | F::Q4_1 | F::Q5_0 | F::Q5_1 => true,
        F::Q2_K | F::Q3_K | F::Q4_K | F::Q5_K | F::Q6_K => true,
        F::IQ4_NL | F::IQ4_XS => true,
        F::IQ1_S | F::IQ1_M => true,
        F::IQ2_XXS | F::IQ2_XS | F::IQ2_S | F::IQ3_XXS | F::IQ3_S => true,
        _ => false,
    }
}

/// True if layer `i` of `n` is one that a mix gives more bits: the first and the last eighth, and
/// every third in between.
fn more_bits(i: u32, n: u32) -> bool {
    let eighth = n / 8;
    i < eighth || u64::from(i) >= 7 * u64::from(n) / 8 || (i - eighth) % 3 == 2
}

impl Target {
    /// Format of the next tensor that is not kept, assuming that its rows are whole blocks of it: `cols` of a row, and how
    /// many matrices lie in it.
    pub(super) fn format(
        &self,
        facts: &Facts,
        part: Part,
        layer: Option<u32>,
        (cols, matrices): (u64, u64),
        counters: &mut Counters,
    ) -> Format {
        use {Format as F, Rules as R};
        let (base, rules) = (self.base, self.rules);
        if rules == R::Plain {
            return base;
        }
        if rules == R::Experts {
            return if matrices > 1 { base } else { F::Q8_0 };
        }
        let part = if counters.tied && part == Part::Embedding { Part::Output } else { part };
        if rules == R::BitNet {
            let whole = matches!(part, Part::Output | Part::Embedding);
            return if whole { F::F16 } else { base };
        }
        if matches!(rules, R::Iq1 | R::Iq2 | R::Iq2M) {
            if let Some(format) = self.low(facts, part, counters) {
                return format;
            }
        }
        // With several per layer, the name determines the layer.
        let named = layer.filter(|_| facts.experts > 1);
        match part {
            Part::Output if !cols.is_multiple_of(base.block_len() as u64) => F::Q8_0,
            Part::Output if matches!(rules, R::Iq1 | R::Iq2 | R::Iq2M | R::Iq3Xxs) => F::Q5_K,
            Part::Output if base != F::Q8_0 => F::Q6_K,
            Part::Embedding if matches!(rules, R::Iq1 | R::Iq2) => F::Q2_K,
            Part::Embedding if matches!(rules, R::Iq2M | R::Iq3Xxs) => F::IQ3_S,
            Part::Embedding if rules == R::Ternary => F::Q4_K,
            Part::AttnV => {
                let (i, n) = (counters.value, counters.values);
                counters.value += 1;
                let format = match rules {
                    R::Q2K if facts.group >= 4 => F::Q4_K,
                    R::Q2KS if facts.group >= 4 => F::Q4_K,
                    R::Q2K => F::Q3_K,
                    R::Q3KM if i < 2 => F::Q5_K,
                    R::Q3KM => F::Q4_K,
                    R::Q3KL => F::Q5_K,
                    R::Q4KM | R::Q5KM if more_bits(i, n) => F::Q6_K,
                    R::Q4KS if i < 4 => F::Q5_K,
                    R::Iq4Nl if facts.group >= 4 => F::Q5_K,
                    R::Iq3Xxs | R::Iq3Xs | R::Iq3S if facts.group >= 4 => F::Q4_K,
                    R::Iq3Xxs if !counters.importances => F::IQ3_S,
                    R::Iq3M => F::Q4_K,
                    _ => base,
                };
                match format {
                    _ if facts.experts == 8 => F::Q8_0,
                    F::Q3_K | F::Q4_K if facts.is_70b => F::Q5_K,
                    format => format,
                }
            }
            Part::AttnK if facts.experts == 8 => F::Q8_0,
            Part::AttnK | Part::AttnQ => match rules {
                R::Iq3Xs => F::IQ3_XXS,
                R::Iq3Xxs => F::IQ2_S,
                _ => base,
            },
            Part::FfnUp | Part::FfnGate => {
                let count = match part {
                    Part::FfnUp => &mut counters.up,
                    _ => &mut counters.gate,
                };
                let (i, n) = (named.unwrap_or(*count), u64::from(facts.layers));
                *count += 1;
                let inner = (n / 8..7 * n / 8).contains(&u64::from(i));
                if rules == R::Iq3Xs && inner { F::IQ3_XXS } else { base }
            }
            Part::FfnDown => {
                let (i, n) = (named.unwrap_or(counters.down), facts.layers);
                counters.down += 1;
                match rules {
                    R::Q2K => F::Q3_K,
                    R::Q2KS if i < n / 8 => F::Q4_K,
                    R::Q3KM if i < n / 16 => F::Q5_K,
                    R::Q3KM => F::Q4_K,
                    R::Q3KL => F::Q5_K,
                    R::Iq3Xxs if counters.importances => base,
                    R::Iq3Xxs if i < n / 8 => F::Q4_K,
                    R::Iq3Xxs => F::Q3_K,
                    R::Iq3M if i < n / 8 || facts.experts == 8 && more_bits(i, n) => F::Q4_K,
                    R::Q4KM | R::Q5KM if more_bits(i, n) => F::Q6_K,
                    R::Q4KS if i < n / 8 => F::Q5_K,
                    R::Iq4Nl if i < n / 8 && !counters.importances => F::Q5_K,
                    // Against outliers there, which importances make worse.
                    R::Head if i < n / 8 && counters.importances => match base {
                        F::Q4_0 => F::Q4_1,
                        F::Q5_0 => F::Q5_1,
                        _ => base,
                    },
                    _ => base,
                }
            }
            Part::AttnOutput if facts.experts == 8 => match (rules, base) {
                (R::Q2KS | R::Q3KL | R::Q5KM, _) => base,
                (_, F::Q2_K | F::Q3_K | F::Q4_K | F::IQ4_NL | F::IQ4_XS) => F::Q5_K,
                (_, F::IQ3_XXS | F::IQ3_S) => F::Q5_K,
                _ => base,
            },
            Part::AttnOutput => match rules {
                R::Q2K => F::Q3_K,
                R::Q3KM => F::Q4_K,
                R::Q3KL => F::Q5_K,
                R::Iq3Xxs => F::IQ3_S,
                R::Iq3M => F::Q4_K,
                _ => base,
            },
            _ => base,
        }
    }

    /// Format of the next tensor in a mix of one or two bits, if it is not that of most or of the head.
    fn low(&self, facts: &Facts, part: Part, counters: &mut Counters) -> Option<Format> {
        use Format as F;
        let more = if self.rules == Rules::Iq2M { F::IQ3_S } else { F::Q2_K };
        match part {
            Part::AttnV => {
                counters.value += 1;
                Some(if facts.group >= 4 || facts.experts >= 4 { F::Q4_K } else { more })
            }
            Part::AttnK if facts.experts == 8 => Some(F::Q4_K),
            Part::FfnDown => {
                let first = counters.down < facts.layers / 8;
                counters.down += 1;
                Some(if first { more } else { self.base })
            }
            Part::AttnOutput if facts.experts == 8 => Some(F::Q5_K),
            Part::AttnOutput if self.rules == Rules::Iq2M => Some(F::IQ3_S),
            Part::AttnOutput if self.rules == Rules::Iq1 => Some(F::IQ2_XXS),
            Part::Output | Part::Embedding => None,
            _ => Some(self.base),
        }
    }
}

/// `format`, or its substitute if rows of `cols` are not whole blocks of it: formats with shorter
/// blocks and no shorter codes, and finally F16. llama.cpp does the same except for I2_S, which it
/// lacks, and for the last step, where it fails.
pub(super) fn fit(mut format: Format, cols: u64) -> Format {
    use Format as F;
    while !(format.is_built() && cols.is_multiple_of(format.block_len() as u64)) {
        format = match format {
            F::Q2_K | F::Q3_K | F::TQ1_0 | F::TQ2_0 | F::Q1_0 | F::Q2_0 => F::Q4_0,
            F::Q4_K => F::Q5_0,
            F::Q5_K => F::Q5_1,
            F::IQ4_XS | F::IQ1_S | F::IQ1_M => F::IQ4_NL,
            F::IQ2_XXS | F::IQ2_XS | F::IQ2_S | F::IQ3_XXS | F::IQ3_S => F::IQ4_NL,
            // Ternary weights fit into the codes of Q8_0 as they are.
            F::Q6_K | F::I2_S => F::Q8_0,
            _ => F::F16,
        };
    }
    format
}
