//! `teff inspect --stats`: statistics of every tensor's weights, and suspicious tensors.

#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::data;
use teff::Format;
use teff_graph::gguf::Gguf;
use teff_kernels::dequantize_row;
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::json::{Event, Reader};

/// Output of `--stats --json` for a tensor: figures by name, and the suspicion.
struct Stats {
    name: String,
    format: String,
    numbers: Vec<(String, f64)>,
    suspicious: Option<String>,
}

impl Stats {
    /// NaN for null.
    fn number(&self, key: &str) -> f64 {
        self.numbers.iter().find(|(k, _)| k == key).unwrap_or_else(|| panic!("{key}")).1
    }
}

fn inspect(path: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_teff"));
    let o = command.arg("inspect").arg(path).arg("--stats").args(args).output().unwrap();
    assert_eq!(o.status.code(), Some(0), "{}", String::from_utf8_lossy(&o.stderr));
    // Warnings of files and threads alone.
    let said = String::from_utf8_lossy(&o.stderr);
    assert!(said.lines().all(|line| line.starts_with("teff: warning: ")), "{said}");
    String::from_utf8(o.stdout).unwrap()
}

/// Statistics of all tensors, and the number of suspicious ones.
fn stats(path: &Path, args: &[&str]) -> (Vec<Stats>, f64) {
    let text = inspect(path, &[args, &["--json"]].concat());
    let mut reader = Reader::new(text.as_bytes());
    let (mut all, mut count, mut depth, mut inside) = (Vec::<Stats>::new(), f64::NAN, 0, false);
    let mut key = String::new();
    while let Some(event) = reader.next().unwrap() {
        match event {
            Event::ObjectStart | Event::ArrayStart => depth += 1,
            Event::ObjectEnd | Event::ArrayEnd => depth -= 1,
            Event::Key(k) => key = k.to_string(),
            _ => {}
        }
        match (event, depth) {
            (Event::Key(k), 1) => inside = k.is("stats"),
            (Event::ObjectStart, 3) if inside => all.push(Stats {
                name: String::new(),
                format: String::new(),
                numbers: Vec::new(),
                suspicious: None,
            }),
            (Event::Number(n), 1) if key == "suspicious" => count = n.parse().unwrap(),
            (event, 3) if inside => {
                let last = all.last_mut().unwrap();
                match event {
                    Event::String(s) if key == "name" => last.name = s.to_string(),
                    Event::String(s) if key == "format" => last.format = s.to_string(),
                    Event::String(s) if key == "suspicious" => {
                        last.suspicious = Some(s.to_string())
                    }
                    Event::Number(n) => last.numbers.push((key.clone(), n.parse().unwrap())),
                    Event::Null => last.numbers.push((key.clone(), f64::NAN)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    (all, count)
}

/// The figures of every tensor, computed again in the simplest way.
#[test]
fn figures_are_those_of_the_weights() {
    let k = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gpt2-k/gpt2-k-Q2_K.gguf");
    for path in [data("gpt2-f32.gguf"), data("gpt2-F16.gguf"), data("gpt2-Q5_1.gguf"), k] {
        let bytes = fs::read(&path).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let (all, suspicious) = stats(&path, &["--threads", "3"]);
        assert_eq!((all.len(), suspicious), (gguf.n_tensors(), 0.0));
        for s in &all {
            let t = gguf.tensor(&s.name).unwrap();
            let mut x = vec![0f32; t.elements() as usize];
            dequantize_row(t.format, t.data, &mut x);
            let n = x.len() as f64;
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let rms = (x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n).sqrt();
            let least = x.iter().fold(f32::MAX, |m, x| m.min(*x));
            let most = x.iter().fold(f32::MIN, |m, x| m.max(*x));
            assert_eq!(s.number("min"), f64::from(least), "{}", s.name);
            assert_eq!(s.number("max"), f64::from(most), "{}", s.name);
            assert!((s.number("mean") - mean).abs() <= 1e-12 * rms, "{}", s.name);
            assert!((s.number("rms") - rms).abs() <= 1e-12 * rms, "{}", s.name);
            assert_eq!((s.number("nan"), s.number("infinite")), (0.0, 0.0));
            assert_eq!((&*s.format, &s.suspicious), (t.format.name(), &None));
        }
    }
}

/// Sums have one order, whatever the number of threads.
#[test]
fn figures_do_not_depend_on_threads() {
    let path = data("gpt2-Q4_0.gguf");
    let one = inspect(&path, &["--threads", "1"]);
    let part = |text: &str| text[text.find("\ntensor ").unwrap()..].to_owned();
    assert_eq!(part(&inspect(&path, &["--threads", "4"])), part(&one));
    assert!(one.lines().filter(|l| l.contains(" min ") && l.contains(" max ")).count() == 40);
}

/// gpt2-f32.gguf with some tensors changed.
fn broken(name: &str, change: impl Fn(&str, &mut [f32])) -> PathBuf {
    let bytes = fs::read(data("gpt2-f32.gguf")).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let mut header = GgufHeader::new();
    for (key, value) in gguf.metadata() {
        header.put(key, value).unwrap();
    }
    for t in gguf.tensors() {
        assert_eq!(t.format, Format::F32);
        header.tensor(t.name, t.format, &t.dims[..t.n_dims]).unwrap();
    }
    let mut out = header.write(Vec::new()).unwrap();
    for t in gguf.tensors() {
        let words = t.data.as_chunks::<4>().0;
        let mut x: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
        change(t.name, &mut x);
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        out.write(t.name, &bytes).unwrap();
    }
    let file = format!("teff-stats-{name}-{}.gguf", std::process::id());
    let path = std::env::temp_dir().join(file);
    fs::write(&path, out.finish().unwrap()).unwrap();
    path
}

#[test]
fn what_looks_wrong_is_flagged() {
    let path = broken("wrong", |name, x| match name {
        "blk.0.attn_norm.weight" => x.fill(0.0),
        "blk.0.ffn_norm.weight" => x.fill(0.5),
        "blk.1.attn_norm.weight" => x.fill(1.0),
        "blk.1.ffn_norm.weight" => x.iter_mut().for_each(|x| *x *= 1e4),
        "blk.2.attn_norm.weight" => x.iter_mut().for_each(|x| *x *= 1e-4),
        "blk.2.ffn_norm.weight" => x[3] = f32::NAN,
        "blk.0.ffn_up.weight" => (x[7], x[8]) = (f32::INFINITY, f32::NEG_INFINITY),
        "blk.1.ffn_up.weight" => x.fill(0.0),
        "blk.1.ffn_up.bias" => x.fill(0.0),
        "blk.2.ffn_up.bias" => x[0] = f32::NAN,
        _ => {}
    });
    let want = [
        ("blk.0.attn_norm.weight", "RMS below 0.01: all are 0"),
        ("blk.0.ffn_norm.weight", "all are 0.5"),
        ("blk.1.ffn_norm.weight", "RMS above 100"),
        ("blk.2.attn_norm.weight", "RMS below 0.01"),
        ("blk.2.ffn_norm.weight", "has NaN (1)"),
        ("blk.0.ffn_up.weight", "has infinities (2)"),
        ("blk.1.ffn_up.weight", "all are 0"),
        ("blk.2.ffn_up.bias", "has NaN (1)"),
    ];
    let (all, count) = stats(&path, &[]);
    assert_eq!(count, want.len() as f64);
    for s in &all {
        let says = want.iter().find(|(name, _)| *name == s.name).map(|(_, says)| *says);
        assert_eq!(s.suspicious.as_deref(), says, "{}", s.name);
        // Values that are not finite are excluded from the figures.
        assert!(s.number("rms").is_finite() && s.number("max").is_finite());
    }
    let text = inspect(&path, &[]);
    assert!(text.contains("\nsuspicious: 8\n"), "{text}");
    for (name, says) in want {
        assert!(text.contains(&format!("SUSPICIOUS: {says}")), "{text}");
        // Once more at the end.
        assert!(text.contains(&format!("\n  {name}: {says}\n")), "{text}");
    }
    fs::remove_file(path).unwrap();
}
