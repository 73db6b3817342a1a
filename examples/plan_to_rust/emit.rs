//! A plan as Rust source: `static` data for a program that has no planner, no file reader and no
//! heap.

use std::error::Error;
use std::fmt::{Debug, Display, Write};

use teff_graph::family::gguf_name;
use teff_graph::gguf::{Gguf, GgufValue};
use teff_graph::{Options, Plan, Positions, Spec, TensorLocation};
use teff_kernels::Backend;

/// Data written in addition to the plan.
pub(crate) struct Extras<'a> {
    /// Command that writes the same source again.
    pub(crate) command: &'a str,
    /// Tokens that the text begins with.
    pub(crate) prompt: &'a [u32],
    /// Token that ends a text.
    pub(crate) end: Option<u32>,
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Locations of the model's tensors in its file. All of them must be usable in place.
fn locations(
    spec: &Spec,
    gguf: &Gguf<'_>,
    file: &[u8],
) -> Result<Vec<TensorLocation>, Box<dyn Error>> {
    let mut locations = Vec::new();
    for slot in spec.slots() {
        let mut name = String::new();
        gguf_name(slot.role, &mut name)?;
        let tensor = gguf.tensor(&name).ok_or_else(|| format!("the file has no `{name}`"))?;
        let location = TensorLocation { format: tensor.format, offset: tensor.offset };
        location.tensor(&slot, file)?;
        locations.push(location);
    }
    Ok(locations)
}

/// The source. `backend` is who will run the plan, or one that needs as much scratch.
///
/// # Errors
/// If the file can't be used in place, or the options don't fit the model.
pub(crate) fn emit(
    file: &[u8],
    spec: &Spec,
    options: &Options,
    backend: &dyn Backend,
    extras: &Extras<'_>,
) -> Result<String, Box<dyn Error>> {
    let gguf = Gguf::parse(file)?;
    let locations = locations(spec, &gguf, file)?;
    let format = |id: teff_graph::TensorId| locations[usize::from(id.0)].format;
    let plan = Plan::build(spec, &format, options, backend)?;

    let mut out = String::new();
    let o = &mut out;
    writeln!(o, "// Written by: {}", extras.command)?;
    writeln!(o, "// {}.\n", plan.memory_requirements)?;
    writeln!(o, "use teff_graph::plan::{{Buffer, BufferId, MemoryRequirements, Op, Options}};")?;
    writeln!(o, "use teff_graph::{{List, Plan, Spec, TensorLocation}};")?;

    constant(o, "Bytes of the model's file", "FILE_BYTES: usize", file.len())?;
    let hash = format!("{:#018x}", fnv(file.iter().copied()));
    constant(o, "Their FNV-1a hash of 64 bits", "FILE_HASH: u64", hash)?;
    constant(o, "Bytes of the arena", "ARENA: usize", plan.memory_requirements.scratch)?;
    constant(o, "Bytes of the KV cache", "CACHE: usize", plan.memory_requirements.kv)?;
    constant(o, "Bytes for the one thread", "THREAD: usize", plan.memory_requirements.per_thread)?;
    if let Some(at) = tokens(&gguf, file) {
        constant(o, "Where the tokens' texts begin in the file", "TOKENS_AT: usize", at)?;
    }
    constant(o, "The token that ends a text", "END: Option<u32>", format!("{:?}", extras.end))?;
    let prompt = extras.prompt;
    doc(o, "Tokens that the text begins with")?;
    writeln!(o, "pub static PROMPT: [u32; {}] = {prompt:?};", prompt.len())?;

    doc(o, "Where each tensor lies in the file")?;
    writeln!(o, "pub static WEIGHTS: [TensorLocation; {}] = {{", locations.len())?;
    writeln!(o, "    use teff_kernels::Format::*;\n    [")?;
    list(o, &locations)?;
    doc(o, "The operations of a step")?;
    writeln!(o, "pub static OPS: [Op; {}] = {{", plan.ops.len())?;
    writeln!(o, "    #[allow(unused_imports)]")?;
    writeln!(
        o,
        "    use teff_graph::{{Activation::*, TensorId, plan::{{Op::*, Output::*}}}};\n    ["
    )?;
    list(o, &plan.ops)?;
    doc(o, "The buffers")?;
    writeln!(o, "pub static BUFFERS: [Buffer; {}] = {{", plan.buffers.len())?;
    writeln!(o, "    #[allow(unused_imports)]")?;
    writeln!(o, "    use teff_graph::plan::{{BufferType::*, RowCount::*}};\n    [")?;
    list(o, &plan.buffers)?;

    doc(o, "The model")?;
    write_spec(o, spec)?;
    doc(o, "What the plan is for")?;
    writeln!(o, "pub const OPTIONS: Options = {{")?;
    writeln!(o, "    use teff_kernels::KvFormat::*;\n    {:?}\n}};", plan.options)?;
    doc(o, "The plan")?;
    writeln!(o, "pub static PLAN: Plan<'static> = {{")?;
    writeln!(o, "    Plan {{\n        spec: SPEC,\n        options: OPTIONS,")?;
    writeln!(o, "        ops: List::Borrowed(&OPS),\n        buffers: List::Borrowed(&BUFFERS),")?;
    writeln!(
        o,
        "        logits: {:?},\n        memory_requirements: {:?},\n    }}\n}};",
        plan.logits, plan.memory_requirements
    )?;
    Ok(out)
}

fn doc(o: &mut String, text: &str) -> std::fmt::Result {
    writeln!(o, "\n/// {text}.")
}

fn constant(o: &mut String, text: &str, name: &str, value: impl Display) -> std::fmt::Result {
    doc(o, text)?;
    writeln!(o, "pub const {name} = {value};")
}

/// Plain data: what `Debug` prints of it is Rust.
fn list<T: Debug>(o: &mut String, items: &[T]) -> std::fmt::Result {
    for item in items {
        writeln!(o, "        {item:?},")?;
    }
    writeln!(o, "    ]\n}};")
}

/// A spec has fields whose variants share names, so that these are written in full.
fn write_spec(o: &mut String, spec: &Spec) -> Result<(), Box<dyn Error>> {
    let positions = match spec.positions {
        Positions::Learned => "Positions::Learned".into(),
        Positions::Rotary(r) => format!(
            "Positions::Rotary(Rotary {{ kind: RopeKind::{:?}, dims: {}, base: {:?}, \
             window_base: {:?}, scaling: RopeScaling::{:?} }})",
            r.kind, r.dims, r.base, r.window_base, r.scaling
        ),
        _ => return Err("these positions can't be written yet".into()),
    };
    // All fields by name, so that a new one is not forgotten here.
    #[rustfmt::skip]
    let Spec {
        arch, vocab, context, layers, width, heads, kv_heads, head_dim, ffn, norm, norm_eps,
        positions: _, window, fused_qkv, biases, qk_norms, sub_norms, post_norms, gated, activation,
        token_scales, embed_scale, attn_scale, head,
    } = spec;
    let fields: [(&str, &dyn Debug); 23] = [
        ("arch: ", arch),
        ("vocab: ", vocab),
        ("context: ", context),
        ("layers: ", layers),
        ("width: ", width),
        ("heads: ", heads),
        ("kv_heads: ", kv_heads),
        ("head_dim: ", head_dim),
        ("ffn: ", ffn),
        ("norm: Norm::", norm),
        ("norm_eps: ", norm_eps),
        ("window: ", window),
        ("fused_qkv: ", fused_qkv),
        ("biases: ", biases),
        ("qk_norms: ", qk_norms),
        ("sub_norms: ", sub_norms),
        ("post_norms: ", post_norms),
        ("gated: ", gated),
        ("activation: Activation::", activation),
        ("token_scales: ", token_scales),
        ("embed_scale: ", embed_scale),
        ("attn_scale: ", attn_scale),
        ("head: Head::", head),
    ];
    writeln!(o, "pub const SPEC: Spec = {{")?;
    writeln!(o, "    #[allow(unused_imports)]\n    use teff_graph::{{")?;
    writeln!(o, "        Activation, Biases, Head, Norm, Positions, RopeScaling, Rotary, Window,")?;
    writeln!(o, "    }};\n    #[allow(unused_imports)]\n    use teff_kernels::RopeKind;")?;
    writeln!(o, "    Spec {{\n        positions: {positions},")?;
    for (name, value) in fields {
        writeln!(o, "        {name}{value:?},")?;
    }
    writeln!(o, "    }}\n}};")?;
    Ok(())
}

/// Offset of the first token's text (its length, then its bytes).
fn tokens(gguf: &Gguf<'_>, file: &[u8]) -> Option<usize> {
    let Some(GgufValue::Array(array)) = gguf.value("tokenizer.ggml.tokens") else { return None };
    let at = array.as_bytes().as_ptr().addr() - file.as_ptr().addr();
    array.strings().map(|_| at)
}
