//! Opening a model never takes more memory than twice its files and a mebibyte: neither for valid
//! files nor for those that claim much more than they hold.

#[path = "load/common.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Folder, Plain, Sizes, TINY, file, oracle, safetensors, usual};
use teff_kernels::{Cpu, Format};
use teff_runtime::{LoadOptions, Model};

/// Allocator that counts the allocated bytes and records their maximum.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // Counted as if the new block were allocated before the old one is freed: the worst case.
        PEAK.fetch_max(LIVE.fetch_add(new, Relaxed) + new, Relaxed);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(p, layout, new) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes of a file, or of all files of a folder.
fn size(path: &Path) -> u64 {
    match path.is_dir() {
        true => path.read_dir().unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum(),
        false => path.metadata().unwrap().len(),
    }
}

/// Opens a model mapped, read, and mapped and repacked, and compares the peak to the bound. Returns
/// true if it opened.
fn check(what: &str, path: &Path, quantize: Option<Format>) -> bool {
    let bound = 2 * size(path) as usize + (1 << 20);
    let mut good = true;
    for (mmap, repack) in [(true, None), (false, None), (true, Some(Cpu::best()))] {
        let options = LoadOptions { mmap, quantize, repack, ..LoadOptions::default() };
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let model = Model::open_with(path, &options);
        let peak = PEAK.load(Relaxed) - before;
        assert!(peak <= bound, "{what}, {options:?}: {peak} bytes, allowed {bound}");
        good &= model.is_ok();
        drop(model);
        assert_eq!(LIVE.load(Relaxed), before, "{what}: everything is given back");
    }
    good
}

fn folder(config: &str, weights: &[u8]) -> Folder {
    let folder = Folder::new();
    folder.write("config.json", config);
    folder.write("model.safetensors", weights);
    folder
}

/// Runs without the test harness (Cargo.toml), whose own thread allocates at unpredictable times.
fn main() {
    opening_is_bounded_by_the_files();
    println!("test opening_is_bounded_by_the_files ... ok");
}

fn opening_is_bounded_by_the_files() {
    good_files();
    hostile_safetensors();
    hostile_json();
    hostile_gguf();
}

fn good_files() {
    for format in ["f32", "F16", "Q8_0", "Q4_0"] {
        let path = oracle().join(format!("gpt2-{format}.gguf"));
        assert!(check(format, &path, None));
    }
    assert!(check("folder", &oracle(), None));
    // Large enough for the mebibyte not to matter.
    let big = Sizes { vocab: 4000, context: 64, width: 256, heads: 4, ffn: 1024, layers: 3 };
    for format in [Format::F32, Format::F16, Format::BF16] {
        let f = folder(&big.config(), &safetensors(&big.tensors("transformer.", format)));
        assert!(check("big", &f.0, None));
        assert!(check("big, quantised", &f.0, Some(Format::Q8_0)));
        assert!(check("big, quantised", &f.0, Some(Format::Q4_0)));
    }
}

fn hostile_safetensors() {
    let good = safetensors(&TINY.tensors("", Format::F32));
    let config = TINY.config();
    // Hyper-parameters of a model of gigabytes, with tensors of kilobytes.
    let huge = Sizes { layers: 4096, width: 1 << 26, ffn: 1 << 26, heads: 1 << 14, ..TINY };
    assert!(!check("huge config", &folder(&huge.config(), &good).0, None));
    let layers = Sizes { layers: 4096, ..TINY };
    assert!(!check("many layers", &folder(&layers.config(), &good).0, None));
    // Lengths beyond the file.
    for len in [1u64 << 20, 99_999_999, u64::MAX] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        assert!(!check("header length", &folder(&config, &bytes).0, None));
    }
    let shapes = ["[4294967295,4294967295]", "[100000000,4]", "[0,4294967295]"];
    for shape in shapes {
        let tensor =
            format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,1000000000000]}}");
        let bytes = file(&format!("{{\"wte.weight\":{tensor}}}"), b"");
        assert!(!check("shape", &folder(&config, &bytes).0, None));
    }
    // Header of nothing but the shortest descriptions.
    let mut header = String::from("{");
    for i in 0..100_000 {
        let comma = if i == 0 { "" } else { "," };
        header +=
            &format!("{comma}\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    }
    header.push('}');
    assert!(!check("many tensors", &folder(&config, &file(&header, b"")).0, None));
    // As many real layers as there may be, of the smallest size there is.
    let most = teff_graph::MAX_LAYERS;
    let thin = Sizes { vocab: 1, context: 1, width: 2, heads: 1, ffn: 2, layers: most };
    for format in [Format::F32, Format::F16] {
        let f = folder(&thin.config(), &safetensors(&thin.tensors("", format)));
        assert!(check("thin", &f.0, None));
    }
    // More than that: layers that are all there, and refused within the bound.
    let more = Sizes { layers: 4000, ..thin };
    let f = folder(&more.config(), &safetensors(&more.tensors("", Format::F32)));
    assert!(!check("too many layers", &f.0, None));
    // Wide vectors beside matrices without width: the worst ratio of conversions.
    let flat = Sizes { vocab: 1, context: 1, width: 2, heads: 1, ffn: 1 << 18, layers: 2 };
    let f = folder(&flat.config(), &safetensors(&flat.tensors("", Format::F32)));
    assert!(check("flat", &f.0, Some(Format::Q4_0)));
}

fn hostile_json() {
    let good = safetensors(&TINY.tensors("", Format::F32));
    // Many fields, long texts with escapes, deep nesting.
    let fields: String = (0..100_000).map(|i| format!("\"{i:x}\":0,")).collect();
    for extra in [
        fields,
        format!("\"x\":\"{}\",", "\\n".repeat(400_000)),
        format!("\"x\":{}{},", "[".repeat(100), "]".repeat(100)),
        format!("\"general\":\"{}\",", "x".repeat(900_000)),
    ] {
        let config = format!("{{{extra}{}", &TINY.config()[1..]);
        assert!(check("config", &folder(&config, &good).0, None));
    }
    let class = TINY.config().replace("GPT2LMHeadModel", &"\\u0041".repeat(150_000));
    assert!(!check("class", &folder(&class, &good).0, None));
    // An index that names thousands of shards, or one shard for a million tensors.
    let f = Folder::new();
    f.write("config.json", TINY.config());
    let index = |n: usize, entry: &dyn Fn(usize) -> String| {
        let map: Vec<String> = (0..n).map(entry).collect();
        format!("{{\"weight_map\":{{{}}}}}", map.join(","))
    };
    f.write(
        "model.safetensors.index.json",
        index(100_000, &|i| format!("\"\":\"{i:x}.safetensors\"")),
    );
    assert!(!check("many shards", &f.0, None));
    f.write("model.safetensors.index.json", index(500_000, &|_| "\"a\":\"a.safetensors\"".into()));
    assert!(!check("many entries", &f.0, None));
    let wte = [Plain { name: "a".into(), dtype: "U8", shape: vec![1], data: vec![0] }];
    f.write("a.safetensors", safetensors(&wte));
    assert!(!check("many entries that are there", &f.0, None));
}

fn hostile_gguf() {
    let f = Folder::new();
    let most = teff_graph::MAX_LAYERS;
    let thin = Sizes { vocab: 1, context: 1, width: 2, heads: 1, ffn: 2, layers: most };
    let path = f.write("thin.gguf", thin.gguf(usual));
    assert!(check("thin", &path, None));
    let path = f.write("half.gguf", thin.gguf(|name, d| Some((Format::F16, usual(name, d)?.1))));
    assert!(check("thin halves", &path, None));
    let good = TINY.gguf(usual);
    for n in [24, 100, 1000, good.len() - 1] {
        assert!(!check("truncated", &f.write("cut.gguf", &good[..n]), None));
    }
    // Counts and lengths beyond the file: every u64 of the header and the keys.
    for at in (8..600).step_by(4) {
        for v in [u64::MAX, 1 << 24] {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&v.to_le_bytes());
            check("counts", &f.write("bad.gguf", bytes), None);
        }
    }
    let more = Sizes { layers: 1500, ..thin };
    assert!(!check("too many layers", &f.write("more.gguf", more.gguf(usual)), None));
    let lies = thin.gguf(|name, d| if name.contains("blk.1") { None } else { usual(name, d) });
    assert!(!check("a layer is missing", &f.write("lies.gguf", lies), None));
}
