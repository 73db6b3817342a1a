//! Memory that a compiled grammar holds, and that a text under it takes. In a file of its own: the allocator counts
//! for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use teff_runtime::Model;
use teff_runtime::structured::{Grammar, Grammars};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded to System unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Without the test harness (Cargo.toml), whose own thread allocates at arbitrary times.
fn main() {
    constraints_hold_no_more_than_was_said();
    println!("test constraints_hold_no_more_than_was_said ... ok");
}

/// A schema with so many properties.
fn properties(n: usize) -> Grammar {
    let all = (0..n).map(|i| format!(r#""name{i}": {{"type": "string"}}"#));
    let all: Vec<String> = all.collect();
    Grammar::JsonSchema(format!(r#"{{"type": "object", "properties": {{{}}}}}"#, all.join(",")))
}

/// A schema with so many values.
fn values(n: usize) -> Grammar {
    let all: Vec<String> = (0..n).map(|i| format!("\"value number {i}\"")).collect();
    Grammar::JsonSchema(format!(r#"{{"enum": [{}]}}"#, all.join(",")))
}

/// A grammar with so many rules.
fn rules(n: usize) -> Grammar {
    let all: String = (0..n).map(|i| format!("r{i}: \"word{i}\" r{}\n", i + 1)).collect();
    Grammar::Lark(format!("start: r0\n{all}r{n}: /x/\n"))
}

/// Alternatives, as many times.
fn choices(n: usize, one: impl Fn(usize) -> String, between: &str) -> Grammar {
    let all: Vec<String> = (0..n).map(one).collect();
    Grammar::Lark(format!("start: ({})*\n", all.join(between)))
}

fn schema(text: &str) -> Grammar {
    Grammar::JsonSchema(text.into())
}

fn regex(text: &str) -> Grammar {
    Grammar::Regex(text.into())
}

/// Grammars, and true for those under which a text takes little more than the constraint itself holds.
fn grammars() -> Vec<(&'static str, Grammar, bool)> {
    let numbers =
        r#"{"type": "array", "items": {"type": "number", "minimum": -12.5, "maximum": 1e9}}"#;
    let nested = r##"{"type": "array", "items": {"type": "object", "properties": {
        "a": {"type": "string", "format": "date-time"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        "maxItems": 9000}"##;
    let long = r#"{"type": "string", "maxLength": 16000, "pattern": "^[a-z ]+$"}"#;
    let all = r#"{"type": "object", "properties": {"m": {"type": "string", "format": "email"},
        "u": {"type": "string", "format": "uri"}, "i": {"type": "string", "format": "ipv6"},
        "p": {"type": "string", "pattern": "\\p{Lu}[^a]"}}}"#;
    vec![
        ("two words", regex("yes|no"), true),
        ("any text", regex("(.|\\n)*"), true),
        ("any object", Grammar::JsonObject, true),
        ("boolean", schema(r#"{"type": "boolean"}"#), true),
        ("5 properties", properties(5), true),
        ("50 properties", properties(50), true),
        ("500 properties", properties(500), true),
        ("10 values", values(10), true),
        ("1000 values", values(1000), true),
        ("10000 values", values(10_000), true),
        ("numbers", schema(numbers), true),
        ("10 rules", rules(10), true),
        ("900 rules", rules(900), true),
        // What counts characters, or has many of them, takes more with each token.
        ("digits", regex("[0-9a-f]{500}"), false),
        ("letters", regex("\\p{L}{1,50}(, \\p{Lu}\\p{Ll}+){3,20}"), false),
        ("classes", regex(&"\\p{L}\\P{Lu}[^\\w]".repeat(20)), false),
        ("nested", schema(nested), false),
        ("long string", schema(long), false),
        ("formats", schema(all), false),
        ("5000 choices", choices(5000, |i| format!("\"w{i}\""), " | "), false),
        ("5000 expressions", choices(5000, |i| format!("/w{i}/"), "|"), false),
        ("a sequence", choices(5000, |i| format!("\"{}\"", i % 7), " "), false),
        ("a row of expressions", choices(5000, |i| format!("/[{}-9]/", i % 9), ""), false),
    ]
}

fn constraints_hold_no_more_than_was_said() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gpt2/model.gguf");
    let model = Model::open(path).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let rows = tokenizer.vocab_size();
    let all = Grammars::new(tokenizer, rows).unwrap();
    // What is made once.
    drop(all.compile(&Grammar::JsonObject).unwrap());
    let mut smallest = usize::MAX;
    for (name, grammar, small) in grammars() {
        let said = all.rules(&grammar).map(|rules| rules.memory()).unwrap();
        smallest = smallest.min(said);
        let before = LIVE.load(Relaxed);
        let constraint = all.compile(&grammar).unwrap_or_else(|e| panic!("{name}: {e}"));
        let held = LIVE.load(Relaxed) - before;
        let (mut mask, mut allowed) = (vec![0u32; rows.div_ceil(32)], Vec::with_capacity(rows));
        let before = LIVE.load(Relaxed);
        let mut text = constraint.fork();
        let (mut most, mut random) = (0, 1u64);
        for _ in 0..300 {
            if text.is_complete() {
                break;
            }
            text.mask(&mut mask).unwrap();
            allowed.clear();
            let bit = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
            allowed.extend((0..rows as u32).filter(bit));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.accept(allowed[(random >> 33) as usize % allowed.len()]).unwrap();
            most = most.max(LIVE.load(Relaxed).saturating_sub(before));
        }
        let kib = |bytes: usize| bytes.div_ceil(1 << 10);
        println!("{name}: {} of {} KiB, and {} for a text", kib(held), kib(said), kib(most));
        assert!(held <= said, "{name}");
        assert!(!small || held + most <= said, "{name}");
    }
    // A small one takes what the documentation says.
    assert!((160 << 10..168 << 10).contains(&smallest), "{smallest}");
}
