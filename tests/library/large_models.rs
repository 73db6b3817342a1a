//! Models that are larger than the memory of many machines, planned from their headers: files with holes
//! in place of their tensors, so that only the headers and the vectors are read.

use std::fs::{self, File};
use std::path::PathBuf;

use teff::graph::family;
use teff::graph::gguf::GgufValue;
use teff::graph::layers::Layer;
use teff::graph::{Head, Role, Spec};
use teff::kernels::{Format, KvFormat};
use teff::{LoadOptions, Model, SessionOptions};
use teff_runtime::gguf_spec::put_spec;
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::quantize::{Facts, Shape, Target, plan};

/// File of a model of this shape in Q4_K_M, which is removed when dropped; with the bytes of its tensors.
struct Sparse(PathBuf, u64);

impl Drop for Sparse {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sparse(name: &str, spec: &Spec<'_>) -> Sparse {
    let family = family::of_arch(spec.arch).unwrap();
    let target = Target::from_name("Q4_K_M").unwrap();
    let mut all = vec![];
    for slot in spec.slots().filter(|s| s.role != Role::Output || spec.head == Head::Own) {
        let mut name = String::new();
        family.gguf_name(slot.role, &mut name).unwrap();
        let mut dims = [slot.cols, slot.rows, slot.experts].map(|n| n as u64).to_vec();
        while dims.len() > 2 && dims.last() == Some(&1) {
            dims.pop();
        }
        if slot.is_vector() && slot.rows == 1 {
            dims.truncate(1);
        }
        all.push((name, dims));
    }
    let facts = Facts {
        layers: spec.layers.len(),
        group: spec.layers.iter().find_map(Layer::attention).map_or(0, |a| a.heads / a.kv_heads),
        experts: spec.layers.iter().find_map(Layer::experts).map_or(0, |e| e.experts),
        ..Facts::default()
    };
    let shapes: Vec<_> =
        all.iter().map(|(name, dims)| Shape { name, dims, format: Format::F32 }).collect();
    let choices = plan(&target, &facts, &shapes);
    let mut h = GgufHeader::new();
    h.put("general.architecture", GgufValue::Str(spec.arch)).unwrap();
    put_spec(&mut h, spec).unwrap();
    let mut tensors = 0;
    for ((name, dims), choice) in all.iter().zip(&choices) {
        h.tensor(name, choice.format, dims).unwrap();
        let [cols, rows] = [dims[0], dims[1..].iter().product()].map(|n: u64| n as usize);
        let bytes = choice.format.tensor_bytes(rows, cols).unwrap() as u64;
        tensors += bytes.next_multiple_of(32);
    }
    let mut header = Vec::new();
    drop(h.write(&mut header).unwrap());
    let path = std::env::temp_dir().join(format!("teff-{name}-{}.gguf", std::process::id()));
    fs::write(&path, &header).unwrap();
    let size = (header.len() as u64).next_multiple_of(32) + tensors;
    File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    Sparse(path, tensors)
}

/// Bytes of tensors, of what is copied of them, and of the states of a session with f16 caches for 32,768
/// positions in steps of 256.
fn planned(name: &str, spec: &Spec<'_>) -> (u64, u64, usize) {
    let file = sparse(name, spec);
    let options = LoadOptions::default().with_budget(256 << 20);
    let model = Model::open_with(&file.0, &options).unwrap();
    assert_eq!(model.spec(), spec);
    let options = SessionOptions::default().with_context(32768).with_kv(KvFormat::F16);
    let options = options.with_batch(256).with_threads(2);
    let needs = model.memory_requirements(&options).unwrap();
    // What isn't a state: the arena, the threads' memory and tables.
    let rest = needs.total() - needs.plan.state;
    assert!(rest < 100 << 20, "{name}: {rest}");
    (file.1, model.owned_bytes(), needs.plan.state)
}

/// Bytes by which the states may have to be moved, since memory may begin anywhere.
const ALIGNED: usize = 64;

#[test]
fn qwen3_30b_a3b_and_gemma4_26b_a4b() {
    let spec = family::qwen3moe::qwen3_30b_a3b();
    let (tensors, owned, state) = planned("qwen3-30b-a3b", &spec);
    assert_eq!(tensors, 18_550_716_416);
    // Vectors alone, which are f32 and could lie anywhere.
    assert!(owned < 1 << 20, "{owned}");
    // Keys and values of 48 layers, 4 heads of 128 elements, 2 bytes each.
    assert_eq!(state, ALIGNED + 48 * 2 * 4 * 128 * 2 * 32768);

    let spec = family::gemma4::gemma4_26b_a4b();
    let (tensors, owned, state) = planned("gemma4-26b-a4b", &spec);
    // As llama.cpp's rules have it, with 704 and 2112 columns in Q5_0 and Q8_0, and 13 of the 25 matrices of
    // values in Q6_K.
    assert_eq!(tensors, 16_780_193_728);
    assert!(owned < 1 << 20, "{owned}");
    // 25 layers with a window of 1024 positions and a step of 256, and 5 without.
    assert_eq!(state, ALIGNED + 25 * 2 * 8 * 256 * 2 * 1280 + 5 * 2 * 2 * 512 * 2 * 32768);
}
