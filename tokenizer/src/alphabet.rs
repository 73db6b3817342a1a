//! The alphabet of byte-level vocabularies: each byte is written as one printable character.
//!
//! GPT-2's mapping (`bytes_to_unicode` of its encoder): the bytes `!`..`~`, 0xa1..0xac and
//! 0xae..0xff map to the characters with the same number; the other 68 map to U+0100, U+0101, ...
//! in ascending order.

use alloc::string::String;
use alloc::vec::Vec;

/// One past the last character of the alphabet.
const END: usize = 0x100 + 68;

/// Marks a character below [`END`] that maps to no byte.
const NONE: u16 = u16::MAX;

const fn stands_for_itself(byte: usize) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

static BYTE_OF: [u16; END] = BYTE_OF_CHAR;

const BYTE_OF_CHAR: [u16; END] = {
    let mut table = [NONE; END];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 0x100 {
        if stands_for_itself(byte) {
            table[byte] = byte as u16;
        } else {
            table[next] = byte as u16;
            next += 1;
        }
        byte += 1;
    }
    table
};

/// Appends the bytes that `text`'s characters stand for; appends nothing and returns `false` if a
/// character is outside the alphabet.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut rest = text;
    loop {
        match *rest {
            [] => return true,
            [b @ 0x21..=0x7e, ref tail @ ..] => {
                out.push(b);
                rest = tail;
            }
            // All other characters of the alphabet take two bytes of UTF-8.
            [lead @ 0xc2..=0xc5, next @ 0x80..=0xbf, ref tail @ ..] => {
                let code = usize::from(lead & 0x1f) << 6 | usize::from(next & 0x3f);
                match BYTE_OF.get(code) {
                    Some(&b) if b != NONE => out.push(b as u8),
                    _ => break,
                }
                rest = tail;
            }
            _ => break,
        }
    }
    out.truncate(start);
    false
}

/// Appends the characters that stand for bytes.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().map(|&b| CHAR_OF[usize::from(b)]));
}

static CHAR_OF: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut c = 0;
    while c < END {
        if BYTE_OF_CHAR[c] != NONE
            && let Some(letter) = char::from_u32(c as u32)
        {
            table[BYTE_OF_CHAR[c] as usize] = letter;
        }
        c += 1;
    }
    table
};

/// True if `text` is in the alphabet and stands for other bytes than its own.
pub(super) fn differs(text: &str) -> bool {
    let mut bytes = Vec::new();
    decode(text.as_bytes(), &mut bytes) && bytes != text.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character_and_only_those_are_letters() {
        let mut seen = [0; 256];
        for c in '\0'..=char::MAX {
            let mut out = vec![7];
            let ok = decode(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut out);
            assert_eq!(out.len(), 1 + usize::from(ok));
            if ok {
                seen[usize::from(out[1])] += 1;
                let b = usize::from(out[1]);
                assert!(if stands_for_itself(b) { c as usize == b } else { c as usize >= 256 });
            }
        }
        assert_eq!(seen, [1; 256]);
        let mut out = Vec::new();
        assert!(decode("Ġ\u{120}Ċā".as_bytes(), &mut out));
        assert_eq!(out, b"  \n\x01");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        for bad in [&b"ab c"[..], b"ab\xc4", b"ab\xff", "ab日".as_bytes(), b"a\xc4b", b"a\x00"] {
            let mut out = b"x".to_vec();
            assert!(!decode(bad, &mut out));
            assert_eq!(out, b"x");
        }
    }
}
