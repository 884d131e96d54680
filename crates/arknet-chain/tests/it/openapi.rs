//! `spec/openapi-chain.json` says what the sources of the shapes say. `UPDATE=1` writes it.

use std::{collections::BTreeMap, fs, path::Path};

use arknet_chain::rpc::{ROUTES, Route};
use serde_json::{Map, Value, json};

const SOURCES: &[&str] = &[
    include_str!("../../src/rpc/account.rs"),
    include_str!("../../src/rpc/action.rs"),
    include_str!("../../src/rpc/block.rs"),
    include_str!("../../src/rpc/error.rs"),
    include_str!("../../src/rpc/governance.rs"),
    include_str!("../../src/rpc/market.rs"),
    include_str!("../../src/rpc/node.rs"),
];

#[test]
fn the_document_says_what_routes_and_shapes_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/openapi-chain.json");
    let found = document();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert!(
        written == found,
        "spec/openapi-chain.json is out of date: run this test with UPDATE=1"
    );
}

#[test]
fn every_shape_that_is_named_is_in_the_document() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut names = Vec::new();
    references(&document, &mut names);
    assert!(names.len() > 30);
    for name in names {
        let name = name.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    let block = &schemas["BlockAnswer"];
    assert_eq!(block["properties"]["base_fee"]["$ref"], "#/components/schemas/Atoms");
    assert!(!block["required"].as_array().unwrap().contains(&json!("bytes")));
    assert!(block["required"].as_array().unwrap().contains(&json!("parent")));
}

fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
            Some(name) if key == "$ref" => out.push(name),
            _ => references(value, out),
        }),
        Value::Array(list) => list.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

fn document() -> Value {
    let mut schemas = plain();
    SOURCES.iter().for_each(|source| schemas.extend(shapes(source)));
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_default();
        path.insert(route.method.to_ascii_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "arknet chain RPC",
            "version": "1",
            "description": "What a node says of the ledger, at 127.0.0.1:26657. Nothing of it has \
                            to be believed: spec/chain.md says how it is checked.",
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(route: &Route) -> Value {
    let in_path = route.path.split(['{', '}']).skip(1).step_by(2).map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = route.query.iter().map(|(name, meaning)| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "query", "description": meaning, "schema": schema })
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let content = match (route.answer, route.path) {
        (Some(answer), _) => json!({ "application/json": { "schema": reference(answer) } }),
        (None, "/events") => json!({ "text/event-stream": {} }),
        (None, _) => json!({ "application/json": {} }),
    };
    let error = json!({ "application/json": { "schema": reference("ErrorAnswer") } });
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "the answer", "content": content },
            "default": { "description": "why there is none", "content": error },
        },
    });
    if route.method == "POST" {
        let schema = reference("SubmitRequest");
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What is text in JSON, and the names of variants that other files hold.
fn plain() -> Map<String, Value> {
    let text = |pattern: &str, description: &str| json!({ "type": "string", "pattern": pattern, "description": description });
    let names = |names: &[&str]| json!({ "type": "string", "enum": names });
    let plain = [
        ("Address", text("^0x[0-9a-f]{40}$", "An account.")),
        ("Atoms", text("^[0-9]+$", "Money; 1 ARK is 1000000000.")),
        ("Hash", text("^[0-9a-f]{64}$", "BLAKE3.")),
        ("HexBytes", text("^([0-9a-f]{2})*$", "Bytes.")),
        ("HexKey", text("^[0-9a-f]{64}$", "An Ed25519 public key.")),
        ("ModelDigest", text("^sha256:[0-9a-f]{64}$", "SHA-256 of a model file.")),
        ("ModelName", json!({ "type": "string" })),
        ("NetworkId", json!({ "type": "string" })),
        ("Choice", names(&["yes", "no", "abstain", "veto"])),
        ("Role", names(&["validator", "compute", "verifier", "worker"])),
    ];
    plain.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// The public types of a source that serde writes, with their comments.
fn shapes(source: &str) -> Map<String, Value> {
    let mut found = Map::new();
    let mut lines = source.lines();
    let (mut comment, mut is_serde) = (String::new(), false);
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("/// ") {
            join(&mut comment, text);
            continue;
        }
        is_serde |= line.starts_with("#[derive(") && line.contains("Serialize");
        let name = |kind: &str| line.strip_prefix(kind)?.strip_suffix(" {");
        let body = || lines.clone().take_while(|line| *line != "}");
        if let Some(name) = name("pub struct ").filter(|_| is_serde) {
            found.insert(name.to_owned(), object(&comment, body()));
        } else if let Some(name) = name("pub enum ").filter(|_| is_serde) {
            let variants = body().filter_map(|line| line.trim().strip_suffix(','));
            let variants: Vec<String> = variants.map(snake).collect();
            let schema = json!({ "type": "string", "enum": variants, "description": comment });
            found.insert(name.to_owned(), schema);
        }
        if !line.starts_with("#[") {
            (comment, is_serde) = (String::new(), false);
        }
    }
    found
}

fn object<'a>(description: &str, lines: impl Iterator<Item = &'a str>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let (mut comment, mut may_lack) = (String::new(), false);
    for line in lines.map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            join(&mut comment, text);
        } else if line.starts_with("#[serde(default") {
            may_lack = true;
        } else if let Some((name, kind)) =
            line.strip_prefix("pub ").and_then(|rest| rest.strip_suffix(',')?.split_once(": "))
        {
            let mut schema = kind_of(kind);
            schema["description"] = json!(std::mem::take(&mut comment));
            properties.insert(name.to_owned(), schema);
            if !std::mem::take(&mut may_lack) {
                required.push(name);
            }
        }
    }
    json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
    })
}

fn kind_of(kind: &str) -> Value {
    let inside = |outer: &str| kind.strip_prefix(outer)?.strip_suffix('>');
    if let Some(inner) = inside("Option<") {
        return json!({ "anyOf": [kind_of(inner), { "type": "null" }] });
    }
    if let Some(inner) = inside("Vec<") {
        return json!({ "type": "array", "items": kind_of(inner) });
    }
    if let Some(inner) = inside("BTreeMap<String, ") {
        return json!({ "type": "object", "additionalProperties": kind_of(inner) });
    }
    match kind {
        "bool" => json!({ "type": "boolean" }),
        "u8" | "u32" | "u64" => json!({ "type": "integer", "minimum": 0 }),
        "String" => json!({ "type": "string" }),
        name => reference(name),
    }
}

fn join(comment: &mut String, text: &str) {
    if !comment.is_empty() {
        comment.push(' ');
    }
    comment.push_str(text);
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
