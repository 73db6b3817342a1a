//! Generated templates, sensible and not: only texts and typed errors come out of them, and the limits
//! hold. `PROPTEST_CASES=100000` tries more.

use proptest::prelude::*;
use teff_runtime::template::{Json, Template, TemplateErrorKind, TemplateLimits};

/// Parts of which templates are strung together, so that many of them parse.
const PARTS: [&str; 77] = [
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{%- ",
    " -%}",
    "{# ",
    " #}",
    "{{- ",
    " -}}",
    "x",
    "ns",
    "s",
    "l",
    "d",
    "messages",
    "loop",
    "1",
    "0",
    "-1",
    "2.5",
    "99999999999",
    "'a'",
    "'%s'",
    "'{}'",
    "''",
    "\n",
    " ",
    "if ",
    "elif ",
    "else",
    "endif",
    "for i in ",
    "endfor",
    "set x = ",
    "set ns.x = ",
    "set x",
    "endset",
    "macro m(a, b=1)",
    "endmacro",
    "m(",
    ")",
    "call ",
    "endcall",
    "filter upper",
    "endfilter",
    "with a=",
    "endwith",
    "raw",
    "endraw",
    "break",
    "continue",
    "recursive",
    "generation",
    "endgeneration",
    " + ",
    " * ",
    " ** ",
    " % ",
    " ~ ",
    " // ",
    " == ",
    " < ",
    " in ",
    " not ",
    " and ",
    " or ",
    "|map('",
    "|join",
    "|list",
    "|tojson",
    ".split(",
    ".format(",
    "[",
    "]",
    "(",
    "range(",
];

/// Whole statements and expressions, which follow each other or stand within each other.
fn template() -> impl Strategy<Value = String> {
    let expr = prop_oneof![
        Just("x".to_owned()),
        Just("ns.x".to_owned()),
        Just("s".to_owned()),
        Just("l".to_owned()),
        Just("range(50)".to_owned()),
        Just("'a,b'.split(',')".to_owned()),
        (0..9i32).prop_map(|n| n.to_string()),
    ];
    let expr = expr.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone(), 0..10usize).prop_map(|(a, b, op)| {
                let op = ["+", "*", "~", "%", "-", "//", "<", "in", "and", "or"][op];
                format!("({a} {op} {b})")
            }),
            (inner.clone(), 0..16usize).prop_map(|(a, f)| {
                let f = [
                    "list",
                    "upper",
                    "join",
                    "tojson",
                    "length",
                    "sort",
                    "string",
                    "reverse",
                    "map('upper')",
                    "batch(2)",
                    "safe",
                    "e",
                    "first",
                    "sum",
                    "indent",
                    "unique",
                ][f];
                format!("({a}|{f})")
            }),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{'k': {a}, {b}: 1}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("m({a}, {b})")),
        ]
    });
    let leaf = prop_oneof![
        expr.clone().prop_map(|e| format!("{{{{ {e} }}}}")),
        expr.clone().prop_map(|e| format!("{{% set x = {e} %}}")),
        expr.clone().prop_map(|e| format!("{{% set ns.x = {e} %}}")),
        Just("{% set x = x + x %}{% set ns.x = [ns.x, ns.x] %}".to_owned()),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        let many = prop::collection::vec(inner, 1..4).prop_map(|all| all.concat());
        prop_oneof![
            (expr.clone(), many.clone())
                .prop_map(|(e, b)| format!("{{% for i in {e} %}}{b}{{% endfor %}}")),
            (expr.clone(), many.clone(), many.clone())
                .prop_map(|(e, a, b)| format!("{{% if {e} %}}{a}{{% else %}}{b}{{% endif %}}")),
            many.clone().prop_map(|b| format!("{{% macro m(a, b) %}}{b}{{% endmacro %}}")),
            many.clone().prop_map(|b| format!("{{% call m(1, 2) %}}{b}{{% endcall %}}")),
            many.clone().prop_map(|b| format!("{{% set x %}}{b}{{% endset %}}")),
            many.clone().prop_map(|b| format!("{{% filter upper %}}{b}{{% endfilter %}}")),
            many,
        ]
    })
}

/// Limits at which everything ends soon.
fn low() -> TemplateLimits {
    TemplateLimits::default()
        .with_steps(20_000)
        .with_memory(1 << 18)
        .with_output(1 << 14)
        .with_calls(30)
        .with_depth(30)
}

fn ends(source: &str) {
    let messages = Json::parse(br#"[{"role": "user", "content": "hi"}]"#).unwrap();
    let (s, l) = (Json::from("Hello <b>"), Json::from(vec![3i64, 1, 2]));
    let d = Json::from([("a", Json::from(1i64))]);
    let variables = [("messages", &messages), ("s", &s), ("l", &l), ("d", &d)];
    let source = format!("{{% set ns = namespace(x=1) %}}{{% set x = 2 %}}{source}");
    let rendered = Template::parse_with(&source, &low()).and_then(|t| t.render(&variables));
    match rendered {
        Ok(text) => assert!(text.len() <= 1 << 14),
        Err(e) => assert!(!matches!(e.kind, TemplateErrorKind::Internal(_)), "{source}: {e}"),
    }
}

/// Number of templates of each kind: that of `PROPTEST_CASES`, or a thousand.
fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(1000),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whole_statements_end(source in template()) {
        ends(&source);
    }

    #[test]
    fn parts_end(parts in prop::collection::vec(0..PARTS.len(), 0..60)) {
        let source: String = parts.iter().map(|&at| PARTS[at]).collect();
        ends(&source);
        // The same as what could stand in one tag.
        let inside = source.replace(['{', '}'], "").replace('%', "");
        ends(&format!("{{{{ {inside} }}}}"));
    }

    #[test]
    fn any_text_ends(source in ".{0,200}") {
        ends(&source);
    }
}
