//! Tokenizers of all components that tokenizer.json may have. The ids and texts are those of the
//! `tokenizers` library, 0.23.3.

use teff_tokenizer::*;

use crate::common::quote;

/// The characters of a small vocabulary, in the order of their ids; `<unk>` comes before them.
const CHARS: &str = "▁abcdefhilnorstuxyABCEÉé1234.,-!'# \n日本ｱĠ\u{301}";

/// Its merges, whose products follow.
const MERGES: &[(&str, &str)] = &[
    ("▁", "a"),
    ("▁a", "b"),
    ("a", "b"),
    ("c", "d"),
    ("1", "2"),
    ("é", "d"),
    ("▁", "▁"),
    ("ab", "c"),
    ("h", "i"),
];

/// A component's name; added tokens; normalizer; pre-tokenizer; decoder; options of the model; and
/// texts with their ids and what these are decoded to.
type Case =
    (&'static str, [&'static str; 5], &'static [(&'static str, &'static [u32], &'static str)]);

/// A tokenizer.json of this vocabulary.
fn json([added, normalizer, pre, decoder, model]: [&str; 5]) -> String {
    let mut tokens = vec!["<unk>".to_string()];
    tokens.extend(CHARS.chars().map(String::from));
    tokens.extend(MERGES.iter().map(|(l, r)| format!("{l}{r}")));
    let vocab = (0..).zip(&tokens).map(|(id, t)| format!("{}:{id}", quote(t)));
    let vocab: Vec<String> = vocab.map(|t| t.replace('\n', "\\n")).collect();
    let merges: Vec<String> =
        MERGES.iter().map(|(l, r)| format!("[{},{}]", quote(l), quote(r))).collect();
    format!(
        r#"{{"version":"1.0","added_tokens":{added},"normalizer":{normalizer},"pre_tokenizer":{pre},"post_processor":null,"decoder":{decoder},"model":{{"type":"BPE","dropout":null,{model}"vocab":{{{}}},"merges":[{}]}}}}"#,
        vocab.join(","),
        merges.join(",")
    )
}

#[test]
fn every_component_does_what_the_library_does() {
    for (name, parts, texts) in CASES {
        let json = json(*parts);
        let tokenizer = match Tokenizer::from_tokenizer_json(json.as_bytes(), None) {
            Ok(tokenizer) => tokenizer,
            Err(e) => panic!("{name}: {e}"),
        };
        for (text, ids, decoded) in *texts {
            let got = tokenizer.encode(text, Specials::Parse).unwrap();
            assert_eq!(got, *ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(ids).unwrap(), *decoded, "{name}: {text:?}");
        }
    }
}

const CASES: &[Case] = &[
    (
        "lstrip",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":true,"rstrip":false,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[
            ("ab <x> ab", &[43, 51, 43], "ab<x> ab"),
            ("ab  \n<x>", &[43, 51], "ab<x>"),
            ("<x>", &[51], "<x>"),
        ],
    ),
    (
        "rstrip",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":false,"rstrip":true,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab <x> \n ab", &[43, 1, 51, 43], "ab <x> ab"), ("<x>  <x> ", &[51, 51], "<x><x>")],
    ),
    (
        "tokens that meet in white space",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":false,"rstrip":true,"normalized":false,"special":false},{"id":36,"content":"\n","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false},{"id":53,"content":"<y>","single_word":false,"lstrip":true,"rstrip":false,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[
            ("<x>\na", &[51, 36, 2], "<x>\na"),
            ("<x> \n\n<y>b", &[51, 36, 36, 52, 3], "<x>\n\n<y>b"),
            ("<x> <y>", &[51, 52], "<x><y>"),
        ],
    ),
    (
        "single_word",
        [
            r#"[{"id":44,"content":"ab","single_word":true,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[(
            "ab abc ab. ab1 éab -ab-",
            &[44, 43, 4, 1, 44, 29, 43, 25, 1, 24, 44, 1, 31, 44, 31],
            "ab abc ab. ab1 éab -ab-",
        )],
    ),
    (
        "normalized after Prepend",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}]"#,
            r#"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}"#,
            r#"null"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[
            ("<x>a <x> a<x>", &[51, 2, 51, 42, 0, 17, 0], "<x>a <x> a<unk>x<unk>"),
            ("a <x>", &[42, 51], "a <x>"),
        ],
    ),
    (
        "normalized by Lowercase",
        [
            r#"[{"id":51,"content":"CD","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}]"#,
            r#"{"type":"Lowercase"}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("cd CD Cd aCDb", &[51, 1, 51, 1, 51, 42, 51, 3], "cd cd cd acdb")],
    ),
    (
        "literal U+2581",
        [
            r#"[{"id":48,"content":"▁▁","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false},{"id":52,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("  ab▁▁ab", &[1, 43, 48, 44], " ab  ab"), ("▁▁▁a <x>", &[48, 42, 1, 51], "  a <x>")],
    ),
    (
        "first and always",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("a<x>a", &[42, 51, 2], "a<x>a"), (" a<x> a", &[42, 51, 42], "a<x> a")],
    ),
    (
        "always",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":false}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("a<x>a", &[42, 51, 42], "a<x> a"), (" a<x> a", &[42, 51, 42], "a<x> a")],
    ),
    (
        "unknown characters",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"null"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","fuse_unk":false,"#,
        ],
        &[("zza zqb", &[0, 0, 2, 1, 0, 0, 3], "<unk><unk>a <unk><unk>b")],
    ),
    (
        "unknown characters fused",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"null"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","fuse_unk":true,"#,
        ],
        &[("zza zqb", &[0, 2, 1, 0, 3], "<unk>a <unk>b")],
    ),
    (
        "unknown characters dropped",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"null"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""#,
        ],
        &[("azb azz", &[44, 42], "ab a"), ("zz", &[], "")],
    ),
    (
        "NFC",
        [
            r#"[]"#,
            r#"{"type":"NFC"}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("e\u{301}d Éd E\u{301}", &[47, 1, 23, 5, 1, 23], "éd Éd É")],
    ),
    (
        "NFD",
        [
            r#"[]"#,
            r#"{"type":"NFD"}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("éd", &[6, 41, 5], "e\u{301}d")],
    ),
    (
        "NFKC",
        [
            r#"[]"#,
            r#"{"type":"NFKC"}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[(
            "①② ﬁ ｱ １２ ㍿",
            &[46, 1, 7, 9, 1, 0, 1, 46, 1, 0, 0, 0, 0],
            "12 fi <unk> 12 <unk><unk><unk><unk>",
        )],
    ),
    (
        "NFKD",
        [
            r#"[]"#,
            r#"{"type":"NFKD"}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("①é ﬁ", &[25, 6, 41, 1, 7, 9], "1e\u{301} fi")],
    ),
    (
        "StripAccents",
        [
            r#"[]"#,
            r#"{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"}]}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("éÉ e\u{301}", &[6, 22, 1, 6], "eE e")],
    ),
    (
        "Bert",
        [
            r#"[]"#,
            r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("É\u{ad}é\u{0}a日b\tA", &[6, 6, 2, 1, 37, 1, 3, 42], "eea 日 b a")],
    ),
    (
        "Bert, cased",
        [
            r#"[]"#,
            r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":null,"lowercase":false}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("Éé日b\tA", &[23, 24, 37, 3, 1, 19], "Éé日b A")],
    ),
    (
        "Strip",
        [
            r#"[]"#,
            r#"{"type":"Strip","strip_left":true,"strip_right":true}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("  ab ", &[44], "ab"), ("ab", &[43], "ab")],
    ),
    (
        "Nmt",
        [
            r#"[]"#,
            r#"{"type":"Nmt"}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("a\u{7}b\u{200b}c\nd", &[44, 1, 4, 1, 5], "ab c d")],
    ),
    (
        "Replace by a pattern",
        [
            r#"[]"#,
            r#"{"type":"Sequence","normalizers":[{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"Replace","pattern":{"Regex":"^a|b$"},"content":"c"}]}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("a \n  b", &[1, 4, 1, 4], "c c"), ("ab\nab", &[1, 4, 3, 42, 4], "cb ac")],
    ),
    (
        "Sequence of all",
        [
            r#"[]"#,
            r#"{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"Lowercase"},{"type":"StripAccents"},{"type":"Replace","pattern":{"String":" "},"content":"▁"},{"type":"Prepend","prepend":"▁"}]}"#,
            r#"null"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("É AB", &[1, 6, 43], "e ab")],
    ),
    (
        "behaviours: removed",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"{"type":"Split","pattern":{"Regex":"-|b"},"behavior":"Removed","invert":false}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("a-b--ab", &[2, 2], "aa")],
    ),
    (
        "behaviours: previous",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"{"type":"Split","pattern":{"Regex":"-"},"behavior":"MergedWithPrevious","invert":false}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","ignore_merges":true,"#,
        ],
        &[("-a--b-", &[31, 2, 31, 31, 3, 31], "-a--b-")],
    ),
    (
        "behaviours: next, inverted",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"{"type":"Split","pattern":{"Regex":"[ab]+"},"behavior":"MergedWithNext","invert":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","ignore_merges":true,"#,
        ],
        &[("ab-ab--cdab", &[44, 31, 44, 31, 31, 45, 44], "ab-ab--cdab")],
    ),
    (
        "behaviours: contiguous",
        [
            r#"[]"#,
            r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
            r#"{"type":"Split","pattern":{"Regex":"[ab]"},"behavior":"Contiguous","invert":false}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("abcdab1212", &[44, 45, 44, 46, 46], "abcdab1212")],
    ),
    (
        "digits together",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"Sequence","pretokenizers":[{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},{"type":"Digits","individual_digits":false}]}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab12 1212a", &[43, 46, 1, 46, 46, 2], "ab12 1212a")],
    ),
    (
        "digits alone",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}]}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab12 a", &[43, 25, 26, 42], "ab12 a")],
    ),
    (
        "punctuation",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"Sequence","pretokenizers":[{"type":"Punctuation","behavior":"Isolated"},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}]}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab,ab. a", &[43, 30, 44, 29, 42], "ab,ab. a")],
    ),
    (
        "Whitespace",
        [r#"[]"#, r#"null"#, r#"{"type":"Whitespace"}"#, r#"null"#, r#""unk_token":"<unk>","#],
        &[("ab, ab--cd a", &[44, 30, 44, 31, 31, 45, 2], "ab , ab - - cd a")],
    ),
    (
        "WhitespaceSplit",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"WhitespaceSplit"}"#,
            r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab , ab ! a's", &[44, 30, 44, 32, 2, 33, 14], "ab, ab! a ' s")],
    ),
    (
        "BertPreTokenizer",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"BertPreTokenizer"}"#,
            r#"{"type":"WordPiece","prefix":"a","cleanup":false}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab, cd ab", &[44, 30, 45, 44], "ab , cdb")],
    ),
    (
        "delimiter",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"CharDelimiterSplit","delimiter":"-"}"#,
            r#"{"type":"BPEDecoder","suffix":"b"}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab-cd-ab", &[44, 45, 44], "a cda")],
    ),
    (
        "fixed length",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"FixedLength","length":2}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("abcabab", &[44, 4, 2, 3, 2, 3], "abcabab")],
    ),
    (
        "suffix and prefix",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"WhitespaceSplit"}"#,
            r#"{"type":"BPEDecoder","suffix":"b"}"#,
            r#""unk_token":"<unk>","end_of_word_suffix":"b","#,
        ],
        &[("a abc 1", &[44, 44, 0, 0], "a a <unk><unk>")],
    ),
    (
        "Metaspace as decoder",
        [
            r#"[{"id":51,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[
            ("ab  a <x> ab", &[43, 1, 42, 1, 51, 43], "ab  a <x> ab"),
            ("<x> ab", &[51, 43], "<x> ab"),
        ],
    ),
    (
        "Strip before Fuse",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Strip","content":"▁","start":1,"stop":1},{"type":"Fuse"},{"type":"Strip","content":"a","start":1,"stop":1}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab ab a", &[43, 43, 42], "bab")],
    ),
    (
        "Metaspace first behind a cut",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"b"},"behavior":"Removed","invert":false},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}]}"#,
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("baba", &[2, 2], "aa")],
    ),
    (
        "ByteLevel with spaces in front of pieces",
        [
            r#"[]"#,
            r#"null"#,
            r#"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\d"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":false}]}"#,
            r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
            r#""unk_token":"<unk>","#,
        ],
        &[("ab1a", &[40, 44, 40, 25, 40, 2], " ab 1 a")],
    ),
];

#[test]
fn a_special_token_that_normalisation_changes_is_decoded_to_its_name() {
    // As in tokenizers 0.22.2. 0.23.3 gives its normal form, which it then does not know as special.
    let added = r#"[{"id":51,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":true}]"#;
    let json = json([added, r#"{"type":"Lowercase"}"#, "null", r#"{"type":"Fuse"}"#, ""]);
    let tokenizer = Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap();
    for text in ["a[CLS]b", "A[cls]B"] {
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), [2, 51, 3], "{text}");
    }
    assert_eq!(tokenizer.decode(&[2, 51, 3]).unwrap(), "a[CLS]b");
    assert!(tokenizer.is_special(51));
}
