//! Arbitrary bytes as a GGUF file: parsed, and everything in it visited.

use std::hint::black_box;

use teff_graph::gguf::{Gguf, GgufArray, GgufValue};
use teff_graph::meta::Metadata;

/// Reads an array through every accessor: only the one of its type returns the elements.
fn walk(a: &GgufArray<'_>) {
    macro_rules! readers {
        ($($name:ident)*) => {
            0 $(+ a.$name().map_or(0, |elements| {
                assert_eq!(elements.len(), a.len());
                for x in elements {
                    let _ = black_box(x);
                }
                1
            }))*
        };
    }
    assert_eq!(readers!(u8s i8s u16s i16s u32s i32s u64s i64s f32s f64s bools strings), 1);
    assert!(readers!(texts integers) <= 1);
    assert_eq!(a.is_empty(), a.as_bytes().is_empty());
}

/// Checks one input.
pub fn run(file: &[u8]) {
    let gguf = match Gguf::parse(file) {
        Ok(gguf) => gguf,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            return;
        }
    };
    black_box(format!("{gguf:?}"));
    assert!(gguf.alignment().is_power_of_two());
    assert_eq!(gguf.metadata().count(), gguf.n_keys());
    assert_eq!(gguf.tensors().count(), gguf.n_tensors());
    for (key, value) in gguf.metadata() {
        if let GgufValue::Array(a) = &value {
            walk(a);
        }
        // The kinds, not the values, which may be NaN.
        assert_eq!(gguf.value(key).map(|v| v.kind()), Some(value.kind()));
        black_box(gguf.get(key));
    }
    for t in gguf.tensors() {
        assert_eq!(gguf.tensor(t.name), Some(t));
        let rows = t.rows();
        assert_eq!(
            t.format.row_bytes(t.cols()).and_then(|n| n.checked_mul(rows)),
            Some(t.data.len())
        );
        assert_eq!(t.elements(), t.cols() as u64 * rows as u64);
        assert_eq!(t.data, &file[t.offset..][..t.data.len()]);
    }
}
