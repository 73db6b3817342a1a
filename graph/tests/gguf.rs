//! The GGUF reader: its results, and every error.

#[path = "gguf/build.rs"]
mod build;
#[path = "gguf/hostile.rs"]
mod hostile;
#[path = "gguf/real.rs"]
mod real;

use build::{File, array, scalar, string, strings, text};
use teff_graph::gguf::{ErrorContext, Gguf, GgufError as E, GgufValue as V, MAX_NAME, ValueKind};
use teff_graph::gguf::{MAX_KEYS, ggml_type_name};
use teff_graph::meta::{Metadata, Value};
use teff_kernels::{Format, Matrix};

/// Reads everything that can be read, so that anything that could panic does.
fn read_all(g: &Gguf<'_>) -> u64 {
    let mut sum = u64::from(g.version()) + g.alignment() as u64;
    let mut keys = 0;
    for (key, value) in g.metadata() {
        keys += 1;
        sum = sum.wrapping_add(key.len() as u64);
        assert_eq!(g.value(key).map(|v| v.kind()), Some(value.kind()));
        assert!(g.get(key).is_some());
        if let V::Array(a) = value {
            let counts = [
                a.strings().map(|i| i.inspect(|s| sum = sum.wrapping_add(s.len() as u64)).count()),
                a.texts().map(|i| i.count()),
                a.bools().map(|i| i.count()),
                a.integers().map(|i| i.inspect(|&v| sum = sum.wrapping_add(v as u64)).count()),
                a.u8s().map(|i| i.count()),
                a.i32s().map(|i| i.count()),
                a.u64s().map(|i| i.count()),
                a.f32s().map(|i| i.count()),
                a.f64s().map(|i| i.count()),
            ];
            for count in counts.into_iter().flatten() {
                assert_eq!(count, a.len());
            }
        }
    }
    assert_eq!(keys, g.n_keys());
    let mut tensors = 0;
    for t in g.tensors() {
        tensors += 1;
        assert_eq!(g.tensor(t.name), Some(t));
        let bytes = t.format.tensor_bytes(t.rows(), t.cols());
        assert_eq!(t.data.len(), bytes.expect("whole blocks"));
        assert_eq!(t.elements(), t.rows() as u64 * t.cols() as u64);
        assert_eq!(t.offset % g.alignment(), 0);
        sum = t.data.iter().fold(sum, |s, &b| s.wrapping_add(b.into()));
    }
    assert_eq!(tensors, g.n_tensors());
    sum
}

/// Error for the sample file after `spoil`, whose text must contain each of `says`.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut File), says: &[&str]) -> E {
    let mut file = File::sample();
    spoil(&mut file);
    refused_bytes(&file.bytes(), says)
}

#[track_caller]
fn refused_bytes(bytes: &[u8], says: &[&str]) -> E {
    let error = Gguf::parse(bytes).expect_err("a spoilt file");
    let message = error.to_string();
    for part in says {
        assert!(message.contains(part), "`{message}` doesn't say `{part}`");
    }
    error
}

#[test]
fn reads_every_kind_of_value() {
    let bytes = File::sample().bytes();
    let g = Gguf::parse(&bytes).unwrap();
    assert_eq!((g.version(), g.alignment(), g.n_keys(), g.n_tensors()), (3, 32, 17, 3));
    assert_eq!(g.value("general.architecture"), Some(V::Str("gpt2")));
    assert_eq!(g.value("k.u8"), Some(V::U8(200)));
    assert_eq!(g.value("k.i8"), Some(V::I8(-3)));
    assert_eq!(g.value("k.u16"), Some(V::U16(60000)));
    assert_eq!(g.value("k.i16"), Some(V::I16(-300)));
    assert_eq!(g.value("k.u32"), Some(V::U32(70000)));
    assert_eq!(g.value("k.i32"), Some(V::I32(-70000)));
    assert_eq!(g.value("k.f32"), Some(V::F32(1.5)));
    assert_eq!(g.value("k.bool"), Some(V::Bool(true)));
    assert_eq!(g.value("k.u64"), Some(V::U64(u64::MAX)));
    assert_eq!(g.value("k.i64"), Some(V::I64(i64::MIN)));
    assert_eq!(g.value("k.f64"), Some(V::F64(f64::NEG_INFINITY)));
    assert_eq!(g.value("k.none"), None);
    assert_eq!(g.value(""), None);
    read_all(&g);
}

#[test]
fn reads_arrays() {
    let mut file = File::sample();
    file.key("a.i8", array(1, 2, &[0x80, 0x7f]));
    file.key("a.u64", array(10, 2, &[u64::MAX, 7].map(u64::to_le_bytes).concat()));
    let bytes = file.bytes();
    let g = Gguf::parse(&bytes).unwrap();
    let get = |key| match g.value(key) {
        Some(V::Array(a)) => a,
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(get("a.i32").i32s().unwrap().collect::<Vec<_>>(), [1, -2, 3]);
    assert_eq!(get("a.i32").integers().unwrap().collect::<Vec<_>>(), [1, -2, 3]);
    assert_eq!(get("a.i8").integers().unwrap().collect::<Vec<_>>(), [-128, 127]);
    assert_eq!(get("a.u64").integers().unwrap().collect::<Vec<_>>(), [i64::MAX, 7]);
    assert_eq!(get("a.u64").u64s().unwrap().len(), 2);
    assert!(get("a.i32").u32s().is_none() && get("a.i32").strings().is_none());
    let floats: Vec<u32> = get("a.f32").f32s().unwrap().map(f32::to_bits).collect();
    assert_eq!(floats, [0.5f32.to_bits(), f32::NAN.to_bits()]);
    assert!(get("a.f32").integers().is_none());
    assert_eq!(get("a.bool").bools().unwrap().collect::<Vec<_>>(), [true, false, true]);
    let strings = get("a.str");
    assert_eq!((strings.elem(), strings.len(), strings.is_empty()), (ValueKind::Str, 4, false));
    let want: [&[u8]; 4] = [b"a", b"", b"\xff\xfe", "\u{120}the".as_bytes()];
    assert_eq!(strings.strings().unwrap().collect::<Vec<_>>(), want);
    let texts: Vec<Option<&str>> = strings.texts().unwrap().map(Result::ok).collect();
    assert_eq!(texts, [Some("a"), Some(""), None, Some("\u{120}the")]);
    assert!(get("a.none").is_empty() && get("a.none").strings().unwrap().next().is_none());
}

#[test]
fn reads_tensors_in_place() {
    let file = File::sample();
    let bytes = file.bytes();
    let g = Gguf::parse(&bytes).unwrap();
    let section = file.head().len().next_multiple_of(32);
    let t = g.tensor("token_embd.weight").unwrap();
    assert_eq!((t.format, t.n_dims, t.rows(), t.cols()), (Format::Q8_0, 2, 3, 32));
    assert_eq!((t.dims, t.offset, t.data), ([32, 3, 1, 1], section, &file.data[..102]));
    let t = g.tensor("blk.0.norm.weight").unwrap();
    assert_eq!((t.format, t.n_dims, t.rows(), t.cols()), (Format::F32, 1, 1, 5));
    assert_eq!((t.offset, t.data), (section + 128, &file.data[128..148]));
    let t = g.tensor("blk.0.w").unwrap();
    assert_eq!((t.format, t.n_dims, t.rows(), t.cols()), (Format::F16, 4, 12, 4));
    assert_eq!(t.elements(), 48);
    assert_eq!(g.tensor("blk.0"), None);
    let names: Vec<_> = g.tensors().map(|t| t.name).collect();
    assert_eq!(names, ["token_embd.weight", "blk.0.norm.weight", "blk.0.w"]);
}

/// I2_S has its scale after the rows.
#[test]
fn reads_tensors_with_trailers() {
    let mut file = File::empty();
    file.tensor("w", &[384, 2], 36, 2 * 96 + 32);
    file.tensor("more", &[4], 0, 16);
    file.data[192..196].copy_from_slice(&0.75f32.to_le_bytes());
    let bytes = file.bytes();
    let g = Gguf::parse(&bytes).unwrap();
    let t = g.tensor("w").unwrap();
    assert_eq!((t.format, t.rows(), t.cols(), t.data), (Format::I2_S, 2, 384, &file.data[..224]));
    let w = Matrix::from_tensor(t.format, t.rows(), t.cols(), t.data).unwrap();
    assert_eq!((w.scale(), w.bytes()), (0.75, &file.data[..192]));
    read_all(&g);
    // Rows alone are not the whole tensor.
    refused(
        |f| {
            *f = File::empty();
            f.tensor("w", &[384, 2], 36, 192 + 31);
        },
        &["`w`", "224"],
    );
}

#[test]
fn gives_the_families_their_metadata() {
    let bytes = File::sample().bytes();
    let g = Gguf::parse(&bytes).unwrap();
    assert_eq!(g.get("k.u8"), Some(Value::Uint(200)));
    assert_eq!(g.get("k.i8"), Some(Value::Int(-3)));
    assert_eq!(g.get("k.u64"), Some(Value::Uint(u64::MAX)));
    assert_eq!(g.get("k.i64"), Some(Value::Int(i64::MIN)));
    assert_eq!(g.get("k.f32"), Some(Value::Float(1.5)));
    assert_eq!(g.get("k.bool"), Some(Value::Bool(true)));
    assert_eq!(g.get("general.architecture"), Some(Value::Str("gpt2")));
    assert_eq!(g.get("a.i32"), Some(Value::Other));
    assert_eq!(g.get("nothing"), None);
}

#[test]
fn reads_version_2_other_alignments_and_overlapping_data() {
    let mut file = File::sample();
    file.version = 2;
    file.align = 8;
    file.key("general.alignment", scalar(4, &8u32.to_le_bytes()));
    file.tensor("more", &[3], 0, 12);
    file.tensors[2].offset = 0; // the bytes of token_embd.weight
    let bytes = file.bytes();
    let g = Gguf::parse(&bytes).unwrap();
    assert_eq!((g.version(), g.alignment()), (2, 8));
    assert_eq!(g.tensor("more").unwrap().data, &file.data[file.data.len() - 12..]);
    read_all(&g);
}

#[test]
fn reads_files_without_keys_or_tensors() {
    let bytes = File::empty().bytes();
    let g = Gguf::parse(&bytes).unwrap();
    assert_eq!((g.n_keys(), g.n_tensors()), (0, 0));
    read_all(&g);
    let mut file = File::sample();
    (file.tensors, file.data) = (Vec::new(), Vec::new()); // and no padding behind the keys
    let bytes = file.bytes();
    assert_eq!(Gguf::parse(&bytes).unwrap().n_keys(), 17);
}

#[test]
fn steps_over_more_large_arrays_than_it_remembers() {
    let mut file = File::empty();
    for i in 0..20u8 {
        let word = [b'a' + i; 3];
        let words = vec![&word[..]; 50 + usize::from(i) * 7 % 20];
        file.key(&format!("words.{i}"), strings(&words));
    }
    file.key("last", text("here"));
    let bytes = file.bytes();
    let g = Gguf::parse(&bytes).unwrap();
    assert_eq!(g.value("last"), Some(V::Str("here")));
    read_all(&g);
}

// The header.

#[test]
fn bad_magic() {
    assert_eq!(
        refused(|f| f.magic = *b"PK\x03\x04", &["not a GGUF file", r"PK\x03\x04"]),
        E::BadMagic { found: *b"PK\x03\x04" }
    );
}

#[test]
fn big_endian() {
    assert_eq!(refused(|f| f.version = 3u32.swap_bytes(), &["big-endian"]), E::BigEndian);
}

#[test]
fn versions() {
    let v = |v| refused(|f| f.version = v, &[&format!("version {v}"), "versions 2 and 3"]);
    assert_eq!(v(0), E::Version { version: 0 });
    assert_eq!(v(1), E::Version { version: 1 });
    assert_eq!(v(4), E::Version { version: 4 });
}

#[test]
fn counts_beyond_the_file() {
    for count in [1000, 1 << 32, u64::MAX] {
        let says = [&*format!("{count} keys"), "room"];
        let e = refused(|f| f.n_keys = Some(count), &says);
        assert!(matches!(e, E::KeysBeyondFile { count: c, .. } if c == count));
        let says = [&*format!("{count} tensors"), "room"];
        let e = refused(|f| f.n_tensors = Some(count), &says);
        assert!(matches!(e, E::TensorsBeyondFile { count: c, .. } if c == count));
    }
}

#[test]
fn counts_beyond_the_caps() {
    let big = |f: &mut File| f.data.resize(4_000_000, 0);
    let keys = MAX_KEYS as u64 + 1;
    let e = refused(|f| (big(f), f.n_keys = Some(keys)).1, &["at most 4096"]);
    assert_eq!(e, E::TooManyKeys { count: keys });
    let e = refused(|f| (big(f), f.n_tensors = Some(65537)).1, &["at most 65536"]);
    assert_eq!(e, E::TooManyTensors { count: 65537 });
}

#[test]
fn counts_beyond_what_is_there() {
    // More keys than there are: a tensor is read as a key, and the rest fails.
    refused(|f| f.n_keys = Some(18), &["tensor number 0"]);
    // Fewer: a key is read as a tensor.
    refused(|f| f.n_keys = Some(16), &["tensor `a.str`", "dimensions"]);
}

// Keys and values.

#[test]
fn string_beyond_the_file() {
    for len in [10_000, u64::MAX] {
        let value = scalar(8, &len.to_le_bytes());
        let e = refused(|f| f.keys[0].1 = value.clone(), &["general.architecture", "beyond"]);
        assert!(matches!(
            e,
            E::StringBeyondFile { context: ErrorContext::Value(_), len: l, .. } if l == len
        ));
        // The element of an array.
        let value = array(8, 2, &[string(b"a"), len.to_le_bytes().to_vec()].concat());
        let e = refused(|f| f.keys[0].1 = value, &["general.architecture", "beyond"]);
        assert!(matches!(
            e,
            E::StringBeyondFile { context: ErrorContext::Value(_), len: l, .. } if l == len
        ));
        // A key.
        let mut bytes = File::sample().bytes();
        bytes[24..32].copy_from_slice(&len.to_le_bytes());
        let e = refused_bytes(&bytes, &["key number 0", "offset 32"]);
        assert!(matches!(e, E::StringBeyondFile { context: ErrorContext::Key(0), at: 32, .. }));
    }
}

#[test]
fn bad_keys() {
    let e = refused(|f| f.keys[0].0.clear(), &["key number 0", "offset 24", "empty"]);
    assert_eq!(e, E::EmptyKey { index: 0, at: 24 });
    let e = refused(|f| f.keys[0].0 = vec![b'k'; MAX_NAME + 1], &["kkkk...", "257 bytes"]);
    assert!(matches!(e, E::KeyTooLong { len: 257, at: 24, .. }));
    let e = refused(|f| f.keys[0].0 = b"k\xff\n".to_vec(), &["`k\u{fffd}\\n`", "UTF-8"]);
    assert!(matches!(e, E::KeyNotUtf8 { at: 24, .. }));
    let mut file = File::sample();
    file.keys[0].0 = vec![b'k'; MAX_NAME];
    assert!(Gguf::parse(&file.bytes()).is_ok());
}

#[test]
fn duplicate_key() {
    let e = refused(|f| f.key("k.bool", text("again")), &["`k.bool`", "twice"]);
    assert!(matches!(e, E::DuplicateKey { key, .. } if key.as_bytes() == b"k.bool"));
}

#[test]
fn unknown_value_types() {
    for id in [13, 255, u32::MAX] {
        let e = refused(|f| f.key("odd", scalar(id, &[0; 8])), &["`odd`", &format!("type {id}")]);
        assert!(matches!(e, E::UnknownValueType { id: i, .. } if i == id));
        let e = refused(|f| f.key("odd", array(id, 1, &[0; 8])), &["`odd`", &format!("type {id}")]);
        assert!(matches!(e, E::UnknownValueType { id: i, .. } if i == id));
    }
}

#[test]
fn nested_array() {
    let e = refused(|f| f.key("deep", array(9, 1, &array(4, 0, &[]))), &["`deep`", "array of arr"]);
    assert!(matches!(e, E::NestedArray { .. }));
}

#[test]
fn array_beyond_the_file() {
    for (elem, count) in [(4, 1 << 20), (4, 1 << 62), (10, 1 << 61), (0, u64::MAX), (8, 1 << 61)] {
        let e =
            refused(|f| f.key("long", array(elem, count, &[])), &["`long`", &count.to_string()]);
        assert!(matches!(e, E::ArrayBeyondFile { count: c, .. } if c == count));
    }
}

#[test]
fn bad_bool() {
    let e = refused(|f| f.key("flag", scalar(7, &[2])), &["`flag`", "boolean 2"]);
    assert!(matches!(e, E::BadBool { value: 2, .. }));
    let mut file = File::empty();
    file.key("f", array(7, 3, &[1, 0, 255]));
    let bytes = file.bytes();
    let e = refused_bytes(&bytes, &["`f`", "255"]);
    assert!(matches!(e, E::BadBool { value: 255, at, .. } if at == bytes.len() - 1));
}

#[test]
fn text_that_is_not_utf8() {
    let e = refused(|f| f.key("words", scalar(8, &string(b"\xc3("))), &["`words`", "UTF-8"]);
    assert!(matches!(e, E::ValueNotUtf8 { .. }));
}

#[test]
fn bad_alignments() {
    let set = |value: Vec<u8>| move |f: &mut File| f.key("general.alignment", value);
    let e = refused(set(scalar(10, &[32, 0, 0, 0, 0, 0, 0, 0])), &["general.alignment", "u64"]);
    assert_eq!(e, E::AlignmentType { found: ValueKind::U64 });
    assert_eq!(refused(set(text("32")), &["string"]), E::AlignmentType { found: ValueKind::Str });
    for value in [0u32, 24, u32::MAX] {
        let e =
            refused(set(scalar(4, &value.to_le_bytes())), &["power of two", &value.to_string()]);
        assert_eq!(e, E::Alignment { value });
    }
    // The largest one is legal and puts the data far beyond the file.
    let e = refused(set(scalar(4, &(1u32 << 31).to_le_bytes())), &["section (offset 2147483648)"]);
    assert!(matches!(e, E::OffsetBeyondFile { .. }));
}

// Tensors.

#[test]
fn bad_tensor_names() {
    let e = refused(|f| f.tensors[1].name.clear(), &["tensor number 1", "no name"]);
    assert!(matches!(e, E::EmptyTensorName { index: 1, .. }));
    let e = refused(|f| f.tensors[1].name = vec![b't'; 300], &["ttt...", "300 bytes"]);
    assert!(matches!(e, E::TensorNameTooLong { len: 300, .. }));
    let e = refused(|f| f.tensors[1].name = vec![0x80], &["UTF-8"]);
    assert!(matches!(e, E::TensorNameNotUtf8 { .. }));
    let e = refused(|f| f.tensors[2].name = f.tensors[0].name.clone(), &["`token_embd.weight`"]);
    assert!(matches!(e, E::DuplicateTensor { .. }));
}

#[test]
fn bad_dims() {
    let dims = |d: &'static [u64]| move |f: &mut File| f.tensors[1].dims = d.to_vec();
    let e = refused(dims(&[]), &["`blk.0.norm.weight` has 0 dimensions"]);
    assert!(matches!(e, E::DimCount { count: 0, .. }));
    let e = refused(dims(&[1, 1, 1, 1, 5]), &["`blk.0.norm.weight` has 5 dimensions"]);
    assert!(matches!(e, E::DimCount { count: 5, .. }));
    let e = refused(dims(&[5, 0]), &["`blk.0.norm.weight`", "dimension 1 is zero"]);
    assert!(matches!(e, E::ZeroDim { dim: 1, .. }));
    for d in [
        &[1 << 32, 1 << 32][..],
        &[u64::MAX, u64::MAX, u64::MAX, u64::MAX],
        &[1 << 62],             // elements fit u64, bytes don't
        &[1, 1 << 31, 1 << 31], // the same with rows
    ] {
        let e = refused(dims(d), &["`blk.0.norm.weight`", "too large"]);
        assert!(matches!(e, E::DimsOverflow { .. }), "{e:?}");
    }
}

#[test]
fn unknown_formats() {
    for (id, name) in [(9, "Q8_1"), (15, "Q8_K"), (28, "F64"), (31, "Q4_0_4_4")] {
        let says = ["`blk.0.norm.weight`", &format!("type {id} ({name})"), "F32, F16, Q4_0"];
        let e = refused(|f| f.tensors[1].format = id, &says);
        assert!(matches!(e, E::UnknownFormat { id: i, .. } if i == id));
    }
    let e = refused(|f| f.tensors[1].format = 77, &["type 77, which"]);
    assert!(matches!(e, E::UnknownFormat { id: 77, .. }));
}

#[test]
fn ggml_names_agree_with_the_formats() {
    for format in Format::ALL {
        assert_eq!(ggml_type_name(format.gguf_id()), Some(format.name()));
    }
    for (id, name) in [(12, "Q4_K"), (34, "TQ1_0"), (35, "TQ2_0"), (36, "I2_S"), (39, "MXFP4")] {
        assert_eq!(ggml_type_name(id), Some(name));
    }
    assert_eq!(ggml_type_name(u32::MAX), None);
}

#[test]
fn ragged_row() {
    let e = refused(|f| f.tensors[0].dims = vec![33, 3], &["`token_embd.weight`", "33", "Q8_0"]);
    assert!(matches!(e, E::RaggedRow { format: Format::Q8_0, cols: 33, .. }));
}

#[test]
fn bad_offsets() {
    let offset = |o: u64| move |f: &mut File| f.tensors[1].offset = o;
    let e = refused(offset(129), &["`blk.0.norm.weight`", "129", "alignment 32"]);
    assert!(matches!(e, E::Misaligned { offset: 129, alignment: 32, .. }));
    for o in [1 << 20, 1 << 40, u64::MAX - 31] {
        let e = refused(offset(o), &["`blk.0.norm.weight`", "beyond the file", &o.to_string()]);
        assert!(matches!(e, E::OffsetBeyondFile { offset, .. } if offset == o));
    }
}

#[test]
fn truncated_data() {
    let mut bytes = File::sample().bytes();
    bytes.pop();
    let e = refused_bytes(&bytes, &["`blk.0.w` needs 96 bytes", "95 are left"]);
    assert!(matches!(e, E::DataTruncated { need: 96, left: 95, .. }));
    // An offset at the very end is beyond the file.
    bytes.truncate(bytes.len() - 95);
    assert!(matches!(refused_bytes(&bytes, &["`blk.0.w`"]), E::OffsetBeyondFile { .. }));
}

#[test]
fn errors_are_small() {
    assert!(size_of::<E>() <= 128 && size_of::<Gguf<'_>>() <= 256);
}
