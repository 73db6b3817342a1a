//! Arbitrary bytes as a SafeTensors file, and as the index of shards.

use super::super::Counting;
use teff_runtime::safetensors::{SafeTensors, ShardIndex};

/// Checks one input.
pub fn run(file: &[u8]) {
    let (parsed, peak) = Counting::peak_of(|| SafeTensors::parse(file));
    assert!(peak <= 2 * file.len() + 4096, "{peak} bytes of heap for {}", file.len());
    match parsed {
        Ok(all) => {
            assert_eq!(all.tensors().count(), all.len());
            let mut bytes = 0;
            for (i, t) in all.tensors().enumerate() {
                assert_eq!(all.nth(i), Some(t));
                assert_eq!(all.get(t.name), Some(t));
                assert_eq!(t.data, &file[t.offset..][..t.data.len()]);
                let elements: u128 = t.shape().iter().map(|&d| u128::from(d)).product();
                assert_eq!(elements * u128::from(t.dtype.bits()), t.data.len() as u128 * 8);
                bytes += t.data.len();
            }
            assert!(bytes <= file.len()); // they don't overlap
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    if let Ok(index) = ShardIndex::parse(file) {
        assert!(index.shards().is_sorted());
        assert!(index.check(|_, shard| shard < index.shards().len()).is_ok());
        assert!(index.check(|_, _| false).is_err());
    }
}
