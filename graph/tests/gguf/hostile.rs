//! No bytes make the reader panic, and no names make it slow.

use super::build::File;
use super::read_all;
use proptest::prelude::*;
use teff_graph::gguf::{Gguf, GgufError, MAX_TENSORS};

#[test]
fn truncation_anywhere_is_an_error() {
    let bytes = File::sample().bytes();
    assert!(Gguf::parse(&bytes).is_ok());
    for len in 0..bytes.len() {
        let error = Gguf::parse(&bytes[..len]).expect_err("a truncated file");
        assert!(!error.to_string().is_empty(), "{len}");
    }
}

#[test]
fn every_single_byte_changed() {
    let mut bytes = File::sample().bytes();
    for i in 0..File::sample().head().len() {
        let was = bytes[i];
        for value in [0, 1, was ^ 1, was ^ 0x80, was.wrapping_add(1), 0x7f, 0xff] {
            bytes[i] = value;
            match Gguf::parse(&bytes) {
                Ok(g) => _ = read_all(&g),
                Err(e) => assert!(!e.to_string().is_empty()),
            }
        }
        bytes[i] = was;
    }
}

#[test]
fn as_many_tensors_as_are_allowed() {
    let mut file = File::empty();
    file.tensor("t", &[1], 0, 4);
    let first = file.tensors[0].clone();
    for i in 1..MAX_TENSORS {
        let name = format!("blk.{}.ffn_up.{}.weight", i / 64, i % 64).into_bytes();
        file.tensors.push(super::build::Tensor { name, ..first.clone() });
    }
    assert_eq!(Gguf::parse(&file.bytes()).map(|g| g.n_tensors()), Ok(MAX_TENSORS));
    file.tensors[MAX_TENSORS - 1].name = b"t".to_vec();
    let error = Gguf::parse(&file.bytes()).expect_err("a duplicate");
    assert!(
        matches!(error, GgufError::DuplicateTensor { tensor, .. } if tensor.as_bytes() == b"t")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn mutations_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..64), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let file = File::sample();
        let (mut bytes, head) = (file.bytes(), file.head().len());
        for (at, value) in changes {
            bytes[at.index(head)] = value;
        }
        // Lengths, counts and offsets are words; small and large ones are the interesting ones.
        for (at, value, shift) in words {
            let at = at.index(head - 8);
            bytes[at..at + 8].copy_from_slice(&(value >> shift).to_le_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match Gguf::parse(&bytes) {
            Ok(g) => _ = read_all(&g),
            Err(e) => prop_assert!(!e.to_string().is_empty()),
        }
    }

    #[test]
    fn any_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
        bytes.extend(tail);
        if let Ok(g) = Gguf::parse(&bytes) {
            read_all(&g);
        }
    }
}
