//! A few hundred schemas: each keyword alone, and combinations.

use serde_json::{Value, json};

use crate::texts::Random;

/// Schemas of one kind of value, each with a keyword more than the ones before.
fn leaves() -> Vec<Vec<Value>> {
    let strings = [
        json!({"type": "string"}),
        json!({"type": "string", "minLength": 2}),
        json!({"type": "string", "maxLength": 3}),
        json!({"type": "string", "minLength": 1, "maxLength": 4}),
        json!({"type": "string", "minLength": 2.0, "maxLength": 2}),
        json!({"type": "string", "pattern": "^[a-z]+$"}),
        json!({"type": "string", "pattern": "[0-9]{2}"}),
        json!({"type": "string", "pattern": "^a|b$"}),
        json!({"type": "string", "pattern": "^(x|y)?z*$", "minLength": 1}),
        json!({"type": "string", "pattern": "\\d-\\w", "maxLength": 6}),
        json!({"type": "string", "pattern": "^[^\"\\\\]{3}$"}),
        json!({"type": "string", "pattern": "\\s\\S"}),
        json!({"type": "string", "pattern": "^\\u00e9[\\x41-\\x43/]$"}),
        json!({"type": "string", "pattern": "^\\p{Lu}.$"}),
        json!({"type": "string", "pattern": "[\\n\"\\\\]"}),
        json!({"type": "string", "const": "a \"quoted\"\n\\ text é"}),
        json!({"enum": ["red", "green", "blue"]}),
        json!({"type": "string", "enum": ["a", "bb", "ccc", 4], "maxLength": 2}),
        json!({"enum": ["ab", "cd", "1"], "pattern": "[a-c]"}),
    ];
    let formats = [
        "date",
        "time",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
    ]
    .map(|format| json!({"type": "string", "format": format}));
    let numbers = [
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "integer", "minimum": 3}),
        json!({"type": "integer", "maximum": -3}),
        json!({"type": "integer", "minimum": -10, "maximum": 120}),
        json!({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 12}),
        json!({"type": "integer", "minimum": 0.5, "maximum": 7.5}),
        json!({"type": "integer", "multipleOf": 7}),
        json!({"type": "integer", "multipleOf": 5, "minimum": 11, "maximum": 99}),
        json!({"type": "number", "minimum": 0}),
        json!({"type": "number", "maximum": 1.5}),
        json!({"type": "number", "minimum": -0.25, "maximum": 0.75}),
        json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
        json!({"type": "number", "exclusiveMinimum": -5.5, "maximum": -5.25}),
        json!({"type": "number", "minimum": 99.5, "maximum": 1000}),
        json!({"type": "number", "multipleOf": 0.01}),
        json!({"type": "number", "multipleOf": 0.5}),
        json!({"type": "number", "multipleOf": 0.25, "minimum": 0.5, "maximum": 0.5}),
        json!({"type": "number", "multipleOf": 0.25, "minimum": -0.5, "maximum": -0.5}),
        json!({"type": "number", "multipleOf": 0.25, "minimum": 0.3, "exclusiveMaximum": 0.75}),
        json!({"type": "number", "multipleOf": 0.75, "minimum": 1, "maximum": 1.5}),
        json!({"type": "number", "multipleOf": 3, "minimum": 1}),
        json!({"type": "number", "multipleOf": 0.1, "minimum": 0, "exclusiveMaximum": 2}),
        json!({"type": "integer", "format": "int32"}),
        json!({"type": "integer", "format": "uint8"}),
        json!({"type": "number", "format": "double"}),
        json!({"const": 12345678901234567_i64}),
        json!({"enum": [1, 2.5, -3e-2, 1e20]}),
        json!({"enum": [1, 2, 3, 4, 5, 6], "minimum": 2, "multipleOf": 2}),
    ];
    let fixed = [
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"const": null}),
        json!({"const": false}),
        json!({"enum": [true, null, "x", 1, [1, "a"], {"k": {"l": []}}]}),
        json!({"const": {"a": [1, 2, {"b": null}], "c": "d"}}),
        json!({"type": ["string", "null"], "maxLength": 2}),
        json!({"type": ["integer", "boolean"], "maximum": 5}),
        json!({"type": ["array", "object"], "maxItems": 1, "maxProperties": 1}),
        json!(true),
        json!({}),
        json!({"minimum": 3, "minLength": 2, "maxItems": 2, "title": "any type"}),
    ];
    let arrays = [
        json!({"type": "array"}),
        json!({"type": "array", "items": {"type": "integer"}}),
        json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}),
        json!({"type": "array", "items": {"type": "null"}, "maxItems": 3}),
        json!({"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 2}),
        json!({"type": "array", "items": false}),
        json!({"type": "array", "maxItems": 0}),
        json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        json!({"type": "array", "prefixItems": [{"type": "null"}, {"const": 1}], "items": false}),
        json!({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 3}),
        json!({"type": "array", "prefixItems": [{"const": 1}, false, {"const": 3}]}),
        json!({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1}),
        json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}, "maxItems": 4}),
        json!({"type": "array", "uniqueItems": false, "items": {"const": "x"}}),
    ];
    let objects = [
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}},
               "required": ["b"]}),
        json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}},
               "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
               "required": ["a", "c"], "additionalProperties": false}),
        json!({"type": "object", "required": ["x y", "é\"\\"]}),
        json!({"type": "object", "required": ["n"], "additionalProperties": {"type": "boolean"}}),
        json!({"type": "object", "patternProperties": {"^[a-f]+$": {"type": "integer"}}}),
        json!({"type": "object", "patternProperties": {"^a": {"type": "integer"}, "z$": {"maximum": 9}},
               "additionalProperties": {"type": "null"}}),
        json!({"type": "object", "patternProperties": {"^a": {"minimum": 5}, "b$": {"type": "integer"}},
               "additionalProperties": false}),
        json!({"type": "object", "properties": {"abc": {"type": "integer"}},
               "patternProperties": {"b": {"minimum": 10}}, "required": ["abc"]}),
        json!({"type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"}}),
        json!({"type": "object", "propertyNames": {"enum": ["p", "q"]}, "additionalProperties": {"const": 0}}),
        json!({"type": "object", "propertyNames": {"maxLength": 2}, "properties": {"long": {}, "ab": {"const": 7}}}),
        json!({"type": "object", "minProperties": 1}),
        json!({"type": "object", "maxProperties": 2}),
        json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}, "d": {}},
               "minProperties": 2, "maxProperties": 3, "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["b"],
               "minProperties": 3}),
        json!({"type": "object", "properties": {"a": false, "b": {"const": 2}}}),
    ];
    let groups = [
        json!({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}),
        json!({"anyOf": [{"minimum": 5}, {"maximum": -5}], "type": "integer"}),
        json!({"anyOf": [{"const": 1}, false, {"const": "one"}]}),
        json!({"oneOf": [{"type": "null"}, {"type": "integer"}, {"type": "string"}]}),
        json!({"oneOf": [{"maximum": 0}, {"exclusiveMinimum": 0}], "type": "number"}),
        json!({"oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]}),
        json!({"oneOf": [
            {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
             "required": ["kind", "lives"], "additionalProperties": false},
            {"type": "object", "properties": {"kind": {"const": "dog"}, "good": {"type": "boolean"}},
             "required": ["kind"], "additionalProperties": false}],
            "discriminator": {"propertyName": "kind"}}),
        json!({"type": "object", "required": ["t"], "properties": {"t": {"enum": ["x", "y"]}},
               "oneOf": [{"properties": {"t": {"const": "x"}}}, {"properties": {"t": {"const": "y"}, "u": {"const": 1}}}]}),
        json!({"oneOf": [{"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2, "items": {"type": "null"}}]}),
        json!({"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 5}]}),
        json!({"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer"}),
        json!({"allOf": [{"multipleOf": 997}, {"multipleOf": 997}], "type": "integer"}),
        json!({"allOf": [{"multipleOf": 0.25}, {"multipleOf": 0.4}], "type": "number"}),
        json!({"allOf": [{"minLength": 2}, {"pattern": "a"}, {"pattern": "b$"}], "type": "string"}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                         {"type": "object", "properties": {"a": {"minimum": 5}, "b": {"type": "string"}}}]}),
        json!({"allOf": [{"type": "array", "items": {"type": "integer"}}, {"prefixItems": [{"minimum": 7}], "minItems": 1}]}),
        json!({"allOf": [{"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"anyOf": [{"type": "null"}, {"type": "string"}]}]}),
        json!({"allOf": [{"additionalProperties": {"type": "integer"}}, {"properties": {"a": {"maximum": 3}}}],
               "type": "object", "minProperties": 1}),
        json!({"enum": [1, "a", null], "const": "a"}),
    ];
    let references = [
        json!({"$defs": {"id": {"type": "integer", "minimum": 1}}, "$ref": "#/$defs/id", "maximum": 30}),
        json!({"$defs": {"tree": {"type": "object", "properties": {
                   "value": {"type": "integer"}, "left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}},
                   "required": ["value"], "additionalProperties": false}},
               "$ref": "#/$defs/tree"}),
        json!({"type": "object", "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
               "required": ["next"], "additionalProperties": false}),
        json!({"definitions": {"a/b~c": {"const": 1}, "ref": {"$ref": "#/definitions/a~1b~0c"}},
               "type": "array", "items": {"$ref": "#/definitions/ref"}}),
        json!({"$defs": {"nested": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/nested"}]}}},
               "properties": {"n": {"$ref": "#/$defs/nested"}}, "type": "object"}),
        json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}, {"properties": {"x": {"$ref": "#/$defs/a"}}}]},
                         "b": {"type": "object", "additionalProperties": {"type": "object"}}},
               "$ref": "#/$defs/a"}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
               "items": [{"type": "integer"}, {"type": "null"}], "additionalItems": {"type": "boolean"}}),
        json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "$id": "https://example.org/x",
               "type": "object", "properties": {"a": {"$ref": "#/$defs/s"}}, "$defs": {"s": {"type": "string"}},
               "description": "text", "examples": [1], "$comment": "none", "x-order": 1}),
    ];
    let all: [&[Value]; 8] =
        [&strings, &formats, &numbers, &fixed, &arrays, &objects, &groups, &references];
    all.into_iter().map(<[Value]>::to_vec).collect()
}

/// All schemas.
pub(crate) fn schemas() -> Vec<Value> {
    let leaves = leaves();
    let mut out: Vec<Value> = leaves.iter().flatten().cloned().collect();
    // Those with references have to stay at the root.
    let leaves: Vec<&Vec<Value>> = leaves.iter().take(7).collect();
    let mut random = Random(1);
    let mut pick = || {
        let group = &leaves[random.below(leaves.len())];
        group[random.below(group.len())].clone()
    };
    for n in 0..12 {
        let (a, b, c) = (pick(), pick(), pick());
        out.extend([
            json!({"type": "object", "properties": {"a": a, "b": b}, "required": ["a"]}),
            json!({"type": "object", "properties": {"a": a, "b": b, "c": c}, "additionalProperties": false}),
            json!({"type": "array", "items": {"anyOf": [a, b]}, "maxItems": 3}),
            json!({"type": "array", "prefixItems": [a, b], "items": c, "minItems": n % 4}),
            json!({"anyOf": [a, b, c]}),
            json!({"anyOf": [{"allOf": [a, b]}, c]}),
            json!({"type": "object", "additionalProperties": a, "maxProperties": 2}),
            json!({"type": "object", "patternProperties": {"^[a-m]": a, "e$": b}, "additionalProperties": c}),
            json!({"type": "object", "properties": {"o": {"type": "object", "properties": {"i": a}, "required": ["i"]}},
                   "required": ["o"], "additionalProperties": false}),
            json!({"$defs": {"x": a, "y": {"anyOf": [b, {"type": "null"}]}}, "type": "object",
                   "properties": {"x": {"$ref": "#/$defs/x"}, "y": {"$ref": "#/$defs/y"}}, "required": ["x", "y"]}),
            json!({"type": "object", "properties": {"a": a, "b": b, "c": c}, "minProperties": 1, "maxProperties": 2,
                   "additionalProperties": false}),
            json!({"anyOf": [{"type": "array", "items": a}, {"type": "object", "properties": {"k": b}}]}),
            json!({"allOf": [{"type": "object", "properties": {"k": a}}, {"properties": {"l": b}, "required": ["l"]}]}),
        ]);
    }
    out
}
