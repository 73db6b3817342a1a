//! What is refused, by name.

use serde_json::{Value, json};
use teff_runtime::structured::{Grammar, GrammarError};

use crate::texts::{FILES, Vocabulary};

/// The error of a schema.
fn error(vocabulary: &Vocabulary, schema: &str) -> GrammarError {
    match vocabulary.grammars.compile(&Grammar::JsonSchema(schema.to_string())) {
        Ok(_) => panic!("{schema} is not refused"),
        Err(e) => e,
    }
}

#[test]
fn keywords_are_refused_by_name() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let string = || json!({"type": "string"});
    let cases: Vec<(&str, Value)> = vec![
        ("not", json!({"not": {}})),
        ("if", json!({"if": {}, "then": false})),
        ("then", json!({"then": {}})),
        ("else", json!({"else": {}})),
        ("contains", json!({"contains": {"const": 1}})),
        ("minContains", json!({"minContains": 1})),
        ("maxContains", json!({"maxContains": 1})),
        ("uniqueItems", json!({"type": "array", "uniqueItems": true})),
        ("dependentRequired", json!({"dependentRequired": {"a": ["b"]}})),
        ("dependentSchemas", json!({"dependentSchemas": {"a": {}}})),
        ("dependencies", json!({"dependencies": {"a": ["b"]}})),
        ("unevaluatedItems", json!({"unevaluatedItems": false})),
        ("unevaluatedProperties", json!({"unevaluatedProperties": false})),
        ("$dynamicRef", json!({"$dynamicRef": "#x"})),
        ("$dynamicAnchor", json!({"$dynamicAnchor": "x"})),
        ("$recursiveRef", json!({"$recursiveRef": "#"})),
        ("$recursiveAnchor", json!({"$recursiveAnchor": true})),
        ("$vocabulary", json!({"$vocabulary": {}})),
        ("contentEncoding", json!({"contentEncoding": "base64"})),
        ("contentMediaType", json!({"contentMediaType": "text/html"})),
        ("contentSchema", json!({"contentSchema": {}})),
        ("nullable", json!({"type": "string", "nullable": true})),
        ("x-guidance", json!({"type": "object", "x-guidance": {"lenient": true}})),
        // A typing error would otherwise leave a constraint out.
        ("maxLenght", json!({"type": "string", "maxLenght": 3})),
        ("Required", json!({"type": "object", "Required": ["a"]})),
        ("$schema", json!({"$schema": "http://json-schema.org/draft-04/schema#"})),
        (
            "$schema",
            json!({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}),
        ),
        ("$id", json!({"properties": {"a": {"$id": "https://example.org/a"}}})),
        ("$ref", json!({"$ref": "https://example.org/schema.json"})),
        ("$ref", json!({"$ref": "other.json#/$defs/a"})),
        ("$ref", json!({"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}})),
        ("$ref", json!({"$ref": "#"})),
        (
            "$ref",
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{}, {"$ref": "#/$defs/a"}]}},
                        "items": {"$ref": "#/$defs/a"}}),
        ),
        ("format", json!({"type": "string", "format": "iri"})),
        ("format", json!({"format": "regex"})),
        ("format", json!({"type": "string", "format": "int64"})),
        ("pattern", json!({"type": "string", "pattern": "(?=a)"})),
        ("pattern", json!({"type": "string", "pattern": "(?<!a)b"})),
        ("pattern", json!({"type": "string", "pattern": "(a)\\1"})),
        ("pattern", json!({"type": "string", "pattern": "\\bword\\b"})),
        ("pattern", json!({"type": "string", "pattern": "a^b"})),
        ("pattern", json!({"type": "string", "pattern": "(?i)a"})),
        ("pattern", json!({"type": "string", "pattern": "[a"})),
        ("pattern", json!({"type": "string", "pattern": "\\ud800"})),
        ("pattern", json!({"type": "string", "pattern": "(?P<stop>a)"})),
        ("patternProperties", json!({"type": "object", "patternProperties": {"(": {}}})),
        (
            "patternProperties",
            json!({"type": "object", "patternProperties": {
            "a": {"type": "string"}, "b": {}, "c": {}, "d": {}, "e": {"minLength": 1}}}),
        ),
        ("oneOf", json!({"oneOf": [string(), {"maxLength": 3}]})),
        ("oneOf", json!({"oneOf": [{"type": "integer"}, {"type": "number"}]})),
        ("oneOf", json!({"oneOf": [{"type": "object"}, {"type": "object", "required": ["a"]}]})),
        ("minProperties", json!({"type": "object", "minProperties": 2})),
        ("multipleOf", json!({"type": "number", "multipleOf": 0.07})),
        ("multipleOf", json!({"type": "integer", "multipleOf": 123_457})),
        (
            "multipleOf",
            json!({"type": "integer", "allOf": [{"multipleOf": 1013}, {"multipleOf": 1019}]}),
        ),
        ("minimum", json!({"type": "number", "minimum": 0.123_456_789_012_345_6})),
        ("const", json!({"const": [1e305]})),
        ("additionalItems", json!({"additionalItems": false})),
        (
            "prefixItems",
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": []}),
        ),
        ("minLength", json!({"type": "string", "minLength": 1_000_000})),
        ("maxItems", json!({"type": "array", "maxItems": 1_000_000_000})),
    ];
    for (keyword, schema) in cases {
        match error(&vocabulary, &schema.to_string()) {
            e @ GrammarError::Unsupported { .. } => {
                let GrammarError::Unsupported { keyword: named, .. } = &e else { unreachable!() };
                assert_eq!(named, keyword, "{schema}: {e}");
                let line = e.to_string();
                assert!(
                    line.contains(&format!("`{keyword}`")) && line.lines().count() == 1,
                    "{line}"
                );
            }
            e => panic!("{schema}: {e:?}"),
        }
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    let vocabulary = Vocabulary::open(FILES[0]);
    for (keyword, schema) in [
        ("type", json!({"type": "text"})),
        ("type", json!({"type": []})),
        ("type", json!({"type": 1})),
        ("enum", json!({"enum": []})),
        ("enum", json!({"enum": "a"})),
        ("properties", json!({"properties": []})),
        ("required", json!({"required": true})),
        ("required", json!({"required": [1]})),
        ("items", json!({"items": [{}, {}]})),
        ("prefixItems", json!({"prefixItems": {}})),
        ("minItems", json!({"minItems": -1})),
        ("maxLength", json!({"maxLength": 1.5})),
        ("pattern", json!({"pattern": 1})),
        ("format", json!({"format": {}})),
        ("minimum", json!({"minimum": "1"})),
        ("exclusiveMaximum", json!({"maximum": 3, "exclusiveMaximum": true})),
        ("multipleOf", json!({"multipleOf": 0})),
        ("anyOf", json!({"anyOf": []})),
        ("allOf", json!({"allOf": {}})),
        ("allOf", json!({"type": "string", "allOf": []})),
        ("oneOf", json!({"oneOf": []})),
        ("$ref", json!({"$ref": "#/$defs/nothing"})),
        ("$ref", json!({"$ref": 1})),
        ("schema", json!({"properties": {"a": 3}})),
        ("schema", json!([])),
    ] {
        match error(&vocabulary, &schema.to_string()) {
            GrammarError::Invalid { keyword: named, .. } => assert_eq!(named, keyword, "{schema}"),
            e => panic!("{schema}: {e:?}"),
        }
    }
}

#[test]
fn places_are_named() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let schema = json!({"properties": {"a/b": {"items": {"anyOf": [{}, {"not": {}}]}}}});
    let e = error(&vocabulary, &schema.to_string());
    let text =
        "`not` isn't supported (at #/properties/a~1b/items/anyOf/1): say what is allowed instead";
    assert_eq!(e.to_string(), text);
    let e = error(&vocabulary, "{\"type\": \"object\",\n  \"properties\": }");
    assert!(matches!(e, GrammarError::Json { line: 2, column: 17, .. }), "{e:?}");
    assert!(matches!(error(&vocabulary, ""), GrammarError::Json { .. }));
    let e =
        error(&vocabulary, "{\"items\": {\"type\": \"string\",\n \"a\": 1, \"type\": \"null\"}}");
    assert!(e.to_string().contains("line 2, column 16: \"type\" is there twice"), "{e}");
}

#[test]
fn what_is_wrong_is_named() {
    let vocabulary = Vocabulary::open(FILES[0]);
    for (schema, says) in [
        (
            json!({"properties": {"a": {"$ref": "#/no"}}}),
            "`$ref` must be a pointer into the schema, and there is no \"#/no\" (at #/properties/a)",
        ),
        (
            json!({"minimum": 1e300, "maximum": 1e300}),
            "`minimum` isn't supported: 1e+300 has more than 300 digits in front of the point",
        ),
        (
            json!({"type": "integer", "exclusiveMaximum": -1e300}),
            "`exclusiveMaximum` isn't supported: -1e+300 has more than 300 digits",
        ),
        (
            json!({"enum": [[1e-305]]}),
            "`const` isn't supported: 1e-305 has more than 300 zeros behind the point",
        ),
        (json!({"allOf": []}), "`allOf` must be an array of schemas, one at least"),
        (json!({"pattern": "ab^c"}), "at its ends only, at character 3 of \"ab^c\""),
        (json!({"pattern": "a+b++"}), "at character 5 of \"a+b++\""),
    ] {
        let e = error(&vocabulary, &schema.to_string()).to_string();
        assert!(e.contains(says), "{schema}: {e}");
    }
    for allowed in [json!({"const": 1e299}), json!({"minimum": -1e299, "maximum": 1e299})] {
        let grammar = Grammar::JsonSchema(allowed.to_string());
        assert!(vocabulary.grammars.compile(&grammar).is_ok(), "{allowed}");
    }
}

#[test]
fn contradictions_are_refused() {
    let vocabulary = Vocabulary::open(FILES[0]);
    for (at, schema) in [
        ("", json!(false)),
        ("", json!({"type": "string", "minLength": 3, "maxLength": 2})),
        ("", json!({"type": "integer", "minimum": 1.2, "maximum": 1.8})),
        ("", json!({"type": "number", "exclusiveMinimum": 1, "maximum": 1})),
        ("", json!({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6})),
        ("", json!({"type": "string", "const": 1})),
        ("", json!({"enum": ["a"], "minLength": 2})),
        ("", json!({"type": "string", "pattern": "^a", "allOf": [{"pattern": "^b"}]})),
        ("", json!({"type": "string", "pattern": "^[0-9]{3}$", "maxLength": 2})),
        ("/properties/a", json!({"type": "object", "properties": {"a": false}, "required": ["a"]})),
        (
            "/additionalProperties",
            json!({"type": "object", "required": ["a"], "additionalProperties": false}),
        ),
        ("", json!({"type": "object", "minProperties": 2, "maxProperties": 1})),
        (
            "",
            json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false, "minProperties": 2}),
        ),
        ("", json!({"type": "object", "required": ["long"], "propertyNames": {"maxLength": 2}})),
        ("/items", json!({"type": "array", "items": false, "minItems": 1})),
        ("", json!({"type": "array", "minItems": 2, "maxItems": 1})),
        // Each value has another one in it.
        (
            "/properties/a",
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        ),
        ("/items", json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1})),
        ("", json!({"anyOf": [{"type": "string", "allOf": [{"type": "null"}]}, false]})),
    ] {
        match error(&vocabulary, &schema.to_string()) {
            GrammarError::Unsatisfiable { at: place, .. } => assert_eq!(place, at, "{schema}"),
            e => panic!("{schema}: {e:?}"),
        }
    }
}
