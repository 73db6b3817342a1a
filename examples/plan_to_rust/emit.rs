//! A plan as Rust source: `static` data for a program that has no planner, no file reader and no
//! heap.

use std::error::Error;
use std::fmt::{Debug, Display, Write};

use teff_graph::family::Family;
use teff_graph::gguf::{Gguf, GgufValue};
use teff_graph::layers::{Layer, Norm, Norms};
use teff_graph::ops::Op;
use teff_graph::{Options, Plan, Rope, Spec, TensorLocation};
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
    spec: &Spec<'_>,
    family: &Family,
    gguf: &Gguf<'_>,
    file: &[u8],
) -> Result<Vec<TensorLocation>, Box<dyn Error>> {
    let mut locations = Vec::new();
    for slot in spec.slots() {
        let mut name = String::new();
        family.gguf_name(slot.role, &mut name)?;
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
    (spec, family): (&Spec<'_>, &Family),
    options: &Options,
    backend: &dyn Backend,
    extras: &Extras<'_>,
) -> Result<String, Box<dyn Error>> {
    let gguf = Gguf::parse(file)?;
    let locations = locations(spec, family, &gguf, file)?;
    let format = |id: teff_graph::TensorId| locations[id.index()].format;
    let plan = Plan::build(spec, &format, options, backend)?;
    let needed = plan.memory_requirements;

    let mut out = String::new();
    let o = &mut out;
    writeln!(o, "// Written by: {}", extras.command)?;
    writeln!(o, "// {needed}.\n")?;
    writeln!(o, "use teff_graph::layers::Layer;")?;
    writeln!(o, "use teff_graph::ops::Op;")?;
    writeln!(o, "use teff_graph::plan::{{Buffer, BufferId, MemoryRequirements, Options, State}};")?;
    writeln!(o, "use teff_graph::{{Layers, List, Plan, Rope, Spec, TensorLocation}};")?;

    constant(o, "Bytes of the model's file", "FILE_BYTES: usize", file.len())?;
    let hash = format!("{:#018x}", fnv(file.iter().copied()));
    constant(o, "Their FNV-1a hash of 64 bits", "FILE_HASH: u64", hash)?;
    constant(o, "Bytes of the arena", "ARENA: usize", needed.scratch)?;
    constant(o, "Bytes of the sequence's states", "STATE: usize", needed.state)?;
    constant(o, "Bytes for the one thread", "THREAD: usize", needed.per_thread)?;
    if let Some(at) = tokens(&gguf, file) {
        constant(o, "Offset of the tokens' texts in the file", "TOKENS_AT: usize", at)?;
    }
    constant(o, "The token that ends a text", "END: Option<u32>", format!("{:?}", extras.end))?;
    let prompt = extras.prompt;
    doc(o, "Tokens that the text begins with")?;
    writeln!(o, "pub static PROMPT: [u32; {}] = {prompt:?};", prompt.len())?;

    let formats = "teff_kernels::Format::*";
    list(
        o,
        "Location of each tensor in the file",
        "WEIGHTS: [TensorLocation",
        formats,
        &locations,
    )?;
    // What shares its name with another variant or type is written in full.
    let op = |op: &Op| format!("Op::{op:?}").replace("rope_kind: ", "rope_kind: RopeKind::");
    let ops: Vec<_> = plan.ops.iter().map(|o| Source(op(o))).collect();
    let names = "{teff_graph::{TensorId, layers::Activation::*, ops::*, ops::Output::*, \
                 ops::QkvPart::*, plan::StateId}, teff_kernels::RopeKind}";
    list(o, "The operations of a step", "OPS: [Op", names, &ops)?;
    let names = "teff_graph::plan::{BufferType::*, RowCount::*}";
    list(o, "The buffers", "BUFFERS: [Buffer", names, &plan.buffers)?;
    list(o, "The states", "STATES: [State", "teff_graph::plan::StateKind::*", &plan.states)?;
    let kinds: Vec<_> = spec.layers.kinds().iter().map(layer).collect();
    let names = "teff_graph::layers::{Activation::*, *}";
    list(o, "The kinds of layers", "KINDS: [Layer", names, &kinds)?;
    let pattern = spec.layers.pattern();
    doc(o, "The kind of each layer, repeated")?;
    writeln!(o, "pub static PATTERN: [u8; {}] = {pattern:?};", pattern.len())?;
    let ropes: Vec<_> = spec.ropes.iter().map(rope).collect();
    let names = "{teff_graph::RopeScaling, teff_kernels::RopeKind}";
    list(o, "The rotary embeddings", "ROPES: [Rope", names, &ropes)?;

    doc(o, "The model")?;
    write_spec(o, spec)?;
    doc(o, "Options of the plan")?;
    writeln!(o, "pub const OPTIONS: Options = {{")?;
    writeln!(
        o,
        "    use teff_graph::Outputs::*;\n    use teff_kernels::KvFormat::*;\n    {:?}\n}};",
        plan.options
    )?;
    doc(o, "The plan")?;
    // All fields by name, so that a new one is not forgotten here.
    let Plan { spec: _, options: _, ops: _, buffers: _, states: _, ropes: _, .. } = &plan;
    let Plan { logits, hidden, memory_requirements: _, .. } = &plan;
    writeln!(o, "pub static PLAN: Plan<'static> = Plan {{")?;
    writeln!(o, "    spec: SPEC,\n    options: OPTIONS,")?;
    for (field, name) in
        [("ops", "OPS"), ("buffers", "BUFFERS"), ("states", "STATES"), ("ropes", "ROPES")]
    {
        writeln!(o, "    {field}: List::Borrowed(&{name}),")?;
    }
    writeln!(o, "    logits: {logits:?},\n    hidden: {hidden:?},")?;
    writeln!(o, "    memory_requirements: {needed:?},\n}};")?;
    Ok(out)
}

/// Text that is Rust source already.
struct Source(String);

impl Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn doc(o: &mut String, text: &str) -> std::fmt::Result {
    writeln!(o, "\n/// {text}.")
}

fn constant(o: &mut String, text: &str, name: &str, value: impl Display) -> std::fmt::Result {
    doc(o, text)?;
    writeln!(o, "pub const {name} = {value};")
}

/// Plain data: what `Debug` prints of it is Rust, where `names` are in use.
fn list<T: Debug>(
    o: &mut String,
    text: &str,
    name: &str,
    names: &str,
    items: &[T],
) -> std::fmt::Result {
    doc(o, text)?;
    writeln!(o, "pub static {name}; {}] = {{", items.len())?;
    writeln!(o, "    #[allow(unused_imports)]\n    use {names};\n    [")?;
    for item in items {
        writeln!(o, "        {item:?},")?;
    }
    writeln!(o, "    ]\n}};")
}

/// A layer's parts and their variants have one name, as operations do.
fn layer(layer: &Layer) -> Source {
    let Layer { mixer, ffn, norms: Norms { before, pre, post }, input, streams, scales } = layer;
    Source(format!(
        "Layer {{ mixer: Mixer::{mixer:?}, ffn: FeedForward::{ffn:?}, \
         norms: Norms {{ before: {:?}, pre: {pre}, post: {post} }}, input: {input:?}, streams: {streams:?}, \
         scales: {scales:?} }}",
        norm(before)
    ))
}

fn norm(norm: &Norm) -> Source {
    let Norm { kind, eps } = norm;
    Source(format!("Norm {{ kind: NormKind::{kind:?}, eps: {eps:?} }}"))
}

fn rope(rope: &Rope) -> Source {
    let Rope { kind, dims, base, scaling, magnitude } = rope;
    Source(format!(
        "Rope {{ kind: RopeKind::{kind:?}, dims: {dims}, base: {base:?}, \
         scaling: RopeScaling::{scaling:?}, magnitude: {magnitude:?} }}"
    ))
}

fn write_spec(o: &mut String, spec: &Spec<'_>) -> std::fmt::Result {
    // All fields by name, so that a new one is not forgotten here.
    #[rustfmt::skip]
    let Spec {
        arch, vocab, context, width, embed, layers, ropes: _, norm: last, head, logit_divisor,
        logit_cap, per_layer, streams, token_scales,
    } = spec;
    let layers = Source(format!("Layers::new(&KINDS, &PATTERN, {})", layers.len()));
    let last = norm(last);
    let fields: [(&str, &dyn Debug); 13] = [
        ("arch: ", arch),
        ("vocab: ", vocab),
        ("context: ", context),
        ("width: ", width),
        ("embed: ", embed),
        ("layers: ", &layers),
        ("norm: ", &last),
        ("head: Head::", head),
        ("logit_divisor: ", logit_divisor),
        ("logit_cap: ", logit_cap),
        ("per_layer: ", per_layer),
        ("streams: ", streams),
        ("token_scales: ", token_scales),
    ];
    writeln!(o, "pub const SPEC: Spec<'static> = {{")?;
    writeln!(o, "    #[allow(unused_imports)]")?;
    writeln!(
        o,
        "    use teff_graph::{{Embed, Head, PerLayer, layers::{{Norm, NormKind}}}};\n    Spec {{"
    )?;
    for (name, value) in fields {
        writeln!(o, "        {name}{value:?},")?;
    }
    writeln!(o, "        ropes: List::Borrowed(&ROPES),\n    }}\n}};")
}

/// Offset of the first token's text (its length, then its bytes).
fn tokens(gguf: &Gguf<'_>, file: &[u8]) -> Option<usize> {
    let Some(GgufValue::Array(array)) = gguf.value("tokenizer.ggml.tokens") else { return None };
    let at = array.as_bytes().as_ptr().addr() - file.as_ptr().addr();
    array.strings().map(|_| at)
}
