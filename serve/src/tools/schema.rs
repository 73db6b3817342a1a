//! Questions to JSON schemas.

use core::ops::BitOr;

use serde_json::Value;

/// Set of JSON types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Types(u8);

impl Types {
    pub(crate) const NONE: Types = Types(0);
    pub(crate) const STRING: Types = Types(1);
    pub(crate) const NUMBER: Types = Types(2);
    pub(crate) const BOOLEAN: Types = Types(4);
    pub(crate) const NULL: Types = Types(8);
    pub(crate) const ARRAY: Types = Types(16);
    pub(crate) const OBJECT: Types = Types(32);
    pub(crate) const ALL: Types = Types(63);

    /// The type of a value.
    fn of(value: &Value) -> Types {
        match value {
            Value::Null => Types::NULL,
            Value::Bool(_) => Types::BOOLEAN,
            Value::Number(_) => Types::NUMBER,
            Value::String(_) => Types::STRING,
            Value::Array(_) => Types::ARRAY,
            Value::Object(_) => Types::OBJECT,
        }
    }

    /// The type of a name in a schema.
    fn named(name: &str) -> Types {
        match name {
            "string" => Types::STRING,
            "number" | "integer" => Types::NUMBER,
            "boolean" => Types::BOOLEAN,
            "null" => Types::NULL,
            "array" => Types::ARRAY,
            "object" => Types::OBJECT,
            _ => Types::ALL,
        }
    }

    /// True if the value's type is in the set.
    pub(crate) fn allow(self, value: &Value) -> bool {
        self.0 & Types::of(value).0 != 0
    }
}

impl BitOr for Types {
    type Output = Types;

    fn bitor(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }
}

/// Number of references that are followed one after another.
const MAX_REFERENCES: usize = 32;

/// The part of `root` that a local reference such as `#/$defs/Name` names (RFC 6901).
pub(crate) fn resolve<'a>(reference: &str, root: &'a Value) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?)
}

/// Types that the values of a schema may have, or more where that isn't simple to tell.
pub(crate) fn types(schema: &Value, root: &Value) -> Types {
    types_within(schema, root, MAX_REFERENCES)
}

fn types_within(schema: &Value, root: &Value, depth: usize) -> Types {
    let (Some(object), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else {
        return Types::ALL;
    };
    let any = |schemas: &[Value]| {
        schemas.iter().fold(Types::NONE, |all, schema| all | types_within(schema, root, depth))
    };
    let own = if let Some(value) = object.get("const") {
        Types::of(value)
    } else if let Some(Value::Array(values)) = object.get("enum") {
        values.iter().map(Types::of).fold(Types::NONE, Types::bitor)
    } else if let Some(Value::String(name)) = object.get("type") {
        Types::named(name)
    } else if let Some(Value::Array(names)) = object.get("type") {
        let names = names.iter().filter_map(Value::as_str);
        names.map(Types::named).fold(Types::NONE, Types::bitor)
    } else if let Some(Value::String(reference)) = object.get("$ref") {
        let target = resolve(reference, root);
        target.map_or(Types::ALL, |schema| types_within(schema, root, depth))
    } else if let Some(Value::Array(schemas)) = object.get("anyOf").or_else(|| object.get("oneOf"))
    {
        any(schemas)
    } else if let Some([only]) = object.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        types_within(only, root, depth)
    } else {
        Types::ALL
    };
    match object.get("nullable") {
        Some(Value::Bool(true)) => own | Types::NULL,
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_found_behind_references_and_choices() {
        let root = json!({"$defs": {
            "Unit": {"enum": ["C", "F", null]},
            "Loop": {"$ref": "#/$defs/Loop"},
        }});
        for (schema, expected) in [
            (json!({"type": "integer"}), Types::NUMBER),
            (json!({"type": ["string", "null"]}), Types::STRING | Types::NULL),
            (json!({"$ref": "#/$defs/Unit"}), Types::STRING | Types::NULL),
            (json!({"anyOf": [{"type": "array"}, {"const": true}]}), Types::ARRAY | Types::BOOLEAN),
            (json!({"allOf": [{"type": "object"}]}), Types::OBJECT),
            (json!({"type": "string", "nullable": true}), Types::STRING | Types::NULL),
            (json!({"$ref": "#/$defs/Loop"}), Types::ALL),
            (json!({"$ref": "other.json"}), Types::ALL),
            (json!({}), Types::ALL),
            (json!(true), Types::ALL),
        ] {
            assert_eq!(types(&schema, &root), expected, "{schema}");
        }
    }
}
