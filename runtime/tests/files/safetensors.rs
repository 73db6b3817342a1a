//! The SafeTensors reader: valid files, every kind of invalid one, and the reference library.

use crate::common::{Plain, file, safetensors};
use proptest::prelude::*;
use teff_runtime::safetensors::{
    Dtype, MAX_SHARDS, SafeTensors, SafeTensorsError as E, ShardError, ShardIndex,
};

fn plain(name: &str, dtype: &'static str, shape: &[usize], bytes: usize) -> Plain {
    let data = (0..bytes).map(|i| (i * 7) as u8).collect();
    Plain { name: name.into(), dtype, shape: shape.to_vec(), data }
}

fn small() -> Vec<Plain> {
    vec![
        plain("b", "F32", &[2, 3], 24),
        plain("a", "F16", &[5], 10),
        plain("nothing", "I64", &[4, 0], 0),
        plain("scalar", "U8", &[], 1),
        plain("four", "F4", &[2, 1, 3, 1], 3),
    ]
}

#[test]
fn tensors_are_where_they_were_put() {
    let bytes = safetensors(&small());
    let all = SafeTensors::parse(&bytes).unwrap();
    assert_eq!((all.len(), all.is_empty()), (5, false));
    let names: Vec<_> = all.tensors().map(|t| t.name).collect();
    assert_eq!(names, ["a", "b", "four", "nothing", "scalar"]);
    for t in small() {
        let got = all.get(&t.name).unwrap();
        assert_eq!(got.dtype.name(), t.dtype);
        assert_eq!(got.shape().iter().map(|&d| d as usize).collect::<Vec<_>>(), t.shape);
        assert_eq!(got.data, t.data);
        assert_eq!(&bytes[got.offset..][..t.data.len()], t.data);
    }
    assert!(all.get("c").is_none() && all.nth(5).is_none());
    let empty = file("{}", b"");
    assert!(SafeTensors::parse(&empty).unwrap().is_empty());
}

#[test]
fn every_prefix_is_an_error() {
    let bytes = safetensors(&small());
    for n in 0..bytes.len() {
        assert!(SafeTensors::parse(&bytes[..n]).is_err(), "{n} of {}", bytes.len());
    }
}

/// The error for a file whose header describes tensor `t` this way.
fn error_of(t: &str, buffer: usize) -> E {
    SafeTensors::parse(&file(&format!("{{\"t\":{t}}}"), &vec![0; buffer])).unwrap_err()
}

#[test]
fn hostile_headers_are_named() {
    let parse = |header: &str, buffer: usize| {
        SafeTensors::parse(&file(header, &vec![0; buffer])).unwrap_err()
    };
    assert_eq!(SafeTensors::parse(b"1234567").unwrap_err(), E::NoHeader { file: 7 });
    for len in [u64::MAX, 100_000_001, 1 << 63] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert_eq!(SafeTensors::parse(&bytes).unwrap_err(), E::HeaderTooLarge { len });
    }
    let mut bytes = 3u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    assert_eq!(SafeTensors::parse(&bytes).unwrap_err(), E::HeaderBeyondFile { len: 3, left: 2 });
    for header in ["", "[]", " {}", "3"] {
        assert_eq!(parse(header, 0), E::NotAnObject, "{header:?}");
    }
    assert!(matches!(parse("{\"a\"}", 0), E::Json(_)));
    assert!(matches!(parse("{} x", 0), E::Json(_)));
    assert!(matches!(parse(&"{\"a\":".repeat(200), 0), E::Json(_)));
    assert!(matches!(parse("{\"__metadata__\":{},\"__metadata__\":{}}", 0), E::Duplicate { .. }));
    let one = "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}";
    assert!(matches!(parse(&format!("{{\"a\":{one},\"a\":{one}}}"), 1), E::Duplicate { .. }));
    assert!(matches!(parse(&format!("{{\"\\u0061\":{one}}}"), 1), E::EscapedName { .. }));
}

#[test]
fn hostile_tensors_are_named() {
    let field = |t: &str| match error_of(t, 4) {
        E::Field { field, .. } => field,
        e => panic!("{t}: {e}"),
    };
    for t in ["1", "[]", "null", "\"F32\""] {
        assert_eq!(field(t), "", "{t}");
    }
    for dtype in ["1", "null", "[]", "\"F32\",\"dtype\":\"F32\""] {
        let t = format!("{{\"dtype\":{dtype},\"shape\":[1],\"data_offsets\":[0,4]}}");
        assert_eq!(field(&t), "dtype", "{t}");
    }
    let shapes = [
        "1",
        "[-1]",
        "[1.0]",
        "[1e1]",
        "[4294967296]",
        "[1,1,1,1,1,1]",
        "[[1]]",
        "[\"1\"]",
        "null",
    ];
    for shape in shapes {
        let t = format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,4]}}");
        assert_eq!(field(&t), "shape", "{t}");
    }
    let offsets = ["4", "[]", "[0]", "[0,4,8]", "[-4,0]", "[0,99999999999999999999]", "[0,4.0]"];
    for offsets in offsets {
        let t = format!("{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{offsets}}}");
        assert_eq!(field(&t), "data_offsets", "{t}");
    }
    for (t, lacks) in [
        ("{\"shape\":[1],\"data_offsets\":[0,4]}", "dtype"),
        ("{\"dtype\":\"F32\",\"data_offsets\":[0,4]}", "shape"),
        ("{\"dtype\":\"F32\",\"shape\":[1]}", "data_offsets"),
    ] {
        assert!(matches!(error_of(t, 4), E::MissingField { field, .. } if field == lacks), "{t}");
    }
    for dtype in ["F31", "f32", "", "F32 ", "\\u0046\\u0033"] {
        let t = format!("{{\"dtype\":\"{dtype}\",\"shape\":[1],\"data_offsets\":[0,4]}}");
        assert!(matches!(error_of(&t, 4), E::Dtype { .. }), "{t}");
    }
    for offsets in ["[4,0]", "[0,5]", "[5,9]", "[18446744073709551615,18446744073709551615]"] {
        let t = format!("{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{offsets}}}");
        assert!(matches!(error_of(&t, 4), E::Offsets { .. }), "{t}");
    }
    for (dtype, shape) in [
        ("F32", "[2]"),
        ("F32", "[0]"),
        ("F16", "[1]"),
        ("F64", "[]"),
        ("F32", "[4294967295,4294967295,4294967295,4294967295]"),
        ("F4", "[3]"), // half a byte
    ] {
        let t = format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,4]}}");
        assert!(matches!(error_of(&t, 4), E::Size { .. }), "{t}");
    }
    // Fields that later versions of the format may add are skipped.
    let t = "{\"dtype\":\"F32\",\"new\":{\"x\":[1]},\"shape\":[1],\"data_offsets\":[0,4]}";
    assert!(SafeTensors::parse(&file(&format!("{{\"t\":{t}}}"), &[0; 4])).is_ok());
}

#[test]
fn overlaps_and_holes_are_named() {
    let parse = |ranges: &[(usize, usize)], buffer: usize| {
        let tensors: Vec<String> = ranges
            .iter()
            .enumerate()
            .map(|(i, (b, e))| {
                let n = e - b;
                format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{n}],\"data_offsets\":[{b},{e}]}}")
            })
            .collect();
        SafeTensors::parse(&file(&format!("{{{}}}", tensors.join(",")), &vec![0; buffer]))
            .map(|t| t.len())
    };
    assert_eq!(parse(&[(4, 8), (0, 4)], 8), Ok(2));
    assert_eq!(parse(&[(4, 8), (4, 4), (0, 4), (8, 8), (0, 0)], 8), Ok(5));
    assert_eq!(parse(&[(0, 4)], 8), Err(E::Hole { at: 4, bytes: 4 }));
    assert_eq!(parse(&[(4, 8)], 8), Err(E::Hole { at: 0, bytes: 4 }));
    assert_eq!(parse(&[(0, 2), (6, 8)], 8), Err(E::Hole { at: 2, bytes: 4 }));
    assert_eq!(parse(&[], 1), Err(E::Hole { at: 0, bytes: 1 }));
    for ranges in [&[(0, 5), (4, 8)][..], &[(0, 8), (0, 8)], &[(0, 8), (2, 4)], &[(0, 8), (2, 2)]] {
        assert!(matches!(parse(ranges, 8), Err(E::Overlap { .. })), "{ranges:?}");
    }
}

#[test]
fn errors_are_one_line() {
    let t = "{\"dtype\":\"F\\n\",\"shape\":[1],\"data_offsets\":[0,4]}";
    let bytes = file(&format!("{{\"x\x7f\":{t}}}"), &[0; 4]);
    let text = SafeTensors::parse(&bytes).unwrap_err().to_string();
    assert!(!text.contains(char::is_control) && text.contains("`F\\n`"), "{text}");
}

/// Name, type, shape and data of a tensor.
type Read = (String, String, Vec<usize>, Vec<u8>);

/// The tensors read by the reference library, in name order.
fn reference(bytes: &[u8]) -> Option<Vec<Read>> {
    let all = safetensors::SafeTensors::deserialize(bytes).ok()?;
    let mut all: Vec<_> = all
        .iter()
        .map(|(name, t)| {
            let dtype = t.dtype().to_string();
            (name.to_owned(), dtype, t.shape().to_vec(), t.data().to_vec())
        })
        .collect();
    all.sort();
    Some(all)
}

fn ours(bytes: &[u8]) -> Result<Vec<Read>, E> {
    let all = SafeTensors::parse(bytes)?;
    Ok(all
        .tensors()
        .map(|t| {
            let shape = t.shape().iter().map(|&d| d as usize).collect();
            (t.name.into(), t.dtype.name().into(), shape, t.data.to_vec())
        })
        .collect())
}

fn tensors() -> impl Strategy<Value = Vec<Plain>> {
    let dtype = prop::sample::select(vec!["F32", "F16", "BF16", "I64", "BOOL", "U8", "F64"]);
    let tensor = (dtype, prop::collection::vec(0usize..4, 0..4), any::<u8>());
    prop::collection::btree_map("[a-z.0-9]{1,6}", tensor, 0..6).prop_map(|all| {
        let plain = |(name, (dtype, shape, seed)): (String, (&'static str, Vec<usize>, u8))| {
            let bits = usize::from(Dtype::from_name(dtype).unwrap().bits());
            let n = shape.iter().product::<usize>() * bits / 8;
            Plain { name, dtype, shape, data: vec![seed; n] }
        };
        all.into_iter().map(plain).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_the_reference_reads(all in tensors()) {
        let bytes = safetensors(&all);
        prop_assert_eq!(Some(ours(&bytes).unwrap()), reference(&bytes));
    }

    /// A file with some bytes changed: if this reader accepts it, the reference reads the same; if
    /// only the reference does, it is one of the named cases in which this reader is stricter.
    #[test]
    fn is_no_more_lenient_than_the_reference(
        all in tensors(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut bytes = safetensors(&all);
        let end = bytes.len() - all.iter().map(|t| t.data.len()).sum::<usize>();
        for (at, byte) in changes {
            bytes[at.index(end)] = byte; // the prefix or the header
        }
        match (ours(&bytes), reference(&bytes)) {
            (Ok(a), b) => prop_assert_eq!(Some(a), b),
            (Err(E::EscapedName { .. } | E::Duplicate { .. } | E::Field { .. }), _) => {}
            (Err(E::NotAnObject), _) => {}
            (Err(e), b) => prop_assert!(b.is_none(), "the reference reads it: {e}"),
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = SafeTensors::parse(&bytes);
        let _ = ShardIndex::parse(&bytes);
    }
}

#[test]
fn an_index_names_its_shards_once() {
    let json = br#"{"metadata":{"total_size":8},"weight_map":{
        "a":"model-00002-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
        "c":"model-00002-of-00002.safetensors"}}"#;
    let index = ShardIndex::parse(json).unwrap();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(index.shards(), shards);
    assert_eq!(index.check(|name, shard| (name == "b") == (shard == 0)), Ok(()));
    let lost = index.check(|name, _| name != "c").unwrap_err();
    assert!(matches!(lost, ShardError::NotThere { .. }) && lost.to_string().contains("`c`"));
    for n in 0..json.len() {
        assert!(ShardIndex::parse(&json[..n]).is_err(), "{n}");
    }
}

#[test]
fn hostile_indices_are_named() {
    let with = |shard: &str| {
        ShardIndex::parse(format!("{{\"weight_map\":{{\"a\":{shard}}}}}").as_bytes()).unwrap_err()
    };
    for shard in [
        "\"../model.safetensors\"",
        "\"a/../../x.safetensors\"",
        "\"/etc/x.safetensors\"",
        "\"sub/x.safetensors\"",
        "\"sub\\\\x.safetensors\"",
        "\"c:x.safetensors\"",
        "\"..safetensors\"",
        "\".safetensors\"",
        "\"x\\u0000.safetensors\"",
        "\"x\"",
        "\"\"",
        "\"passwd\"",
    ] {
        assert!(matches!(with(shard), ShardError::BadName { .. }), "{shard}");
    }
    for shard in ["1", "null", "[]", "{}"] {
        assert!(matches!(with(shard), ShardError::NotText { .. }), "{shard}");
    }
    for json in ["[]", "1", "{}", "{\"weight_map\":[]}", "{\"weight_map\":{},\"weight_map\":{}}"] {
        assert_eq!(ShardIndex::parse(json.as_bytes()).unwrap_err(), ShardError::NoWeightMap);
    }
    let empty = ShardIndex::parse(b"{\"weight_map\":{}}").unwrap_err();
    assert_eq!(empty, ShardError::Empty);
    let many: Vec<String> =
        (0..=MAX_SHARDS).map(|i| format!("\"{i}\":\"{i}.safetensors\"")).collect();
    let json = format!("{{\"weight_map\":{{{}}}}}", many.join(","));
    assert_eq!(ShardIndex::parse(json.as_bytes()).unwrap_err(), ShardError::TooMany);
}
