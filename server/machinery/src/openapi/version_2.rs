//! Operations as OpenAPI v2 (swagger) writes them: one document for everything, and schemas with fewer words.

use serde_json::{Map, Value, json};

use super::catalogue::{Catalogue, PLACE};
use super::operations::{Operation, PRETTY};
use crate::kind::Kinds;

const PLACE_2: &str = "#/definitions/";

pub(super) fn document(catalogue: &Catalogue, kinds: &Kinds) -> Value {
    let kinds = kinds.all().iter().map(AsRef::as_ref);
    let paths = super::paths(catalogue, kinds, operation, path_parameters);
    let mut definitions = Value::Object(catalogue.reached_from(paths.values()));
    let mut paths = Value::Object(paths);
    simplify(&mut definitions);
    simplify(&mut paths);
    json!({
        "swagger": "2.0",
        "info": super::info(),
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

/// Says what v3 says in words that v2 has: a reference may have siblings, and there is no choice between types.
fn simplify(tree: &mut Value) {
    let mut open = vec![tree];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                simplify_one(fields);
                open.extend(fields.values_mut());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

fn simplify_one(fields: &mut Map<String, Value>) {
    let choice = fields.get("allOf").and_then(Value::as_array);
    let only = choice.filter(|all| all.len() == 1);
    if let Some(reference) = only.and_then(|all| all[0].get("$ref")).cloned() {
        fields.remove("allOf");
        fields.insert("$ref".to_owned(), reference);
    }
    let reference = fields.get("$ref").and_then(Value::as_str);
    if let Some(name) = reference.and_then(|reference| reference.strip_prefix(PLACE)) {
        let reference = format!("{PLACE_2}{name}");
        fields.insert("$ref".to_owned(), reference.into());
    }
    // Amounts and the like, which may be numbers, are text here as they are upstream.
    if fields.get("oneOf").is_some_and(Value::is_array) {
        fields.remove("oneOf");
        fields.insert("type".to_owned(), json!("string"));
    }
}

fn operation(operation: &Operation) -> Value {
    let answer = match &operation.answer {
        Some(definition) => reference(definition),
        None => json!({ "type": "string" }),
    };
    let mut responses = Map::new();
    for (code, description) in operation.codes {
        let response = json!({ "description": description, "schema": answer });
        responses.insert(code.to_string(), response);
    }
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    let produces: &[&str] = match (&operation.answer, operation.is_watchable) {
        (None, _) => &["*/*"],
        (_, false) => &["application/json"],
        (_, true) => &["application/json", "application/json;stream=watch"],
    };

    let mut written = json!({
        "description": operation.description,
        "operationId": operation.id,
        "consumes": operation.body.as_ref().map_or(&["*/*"][..], |body| body.media),
        "produces": produces,
        "schemes": ["https"],
        "responses": responses,
        "tags": [operation.tag],
    });
    let mut parameters = Vec::new();
    if let Some(body) = &operation.body {
        let mut parameter = json!({
            "name": "body",
            "in": "body",
            "schema": reference(&body.definition),
        });
        if body.is_required {
            parameter["required"] = json!(true);
        }
        parameters.push(parameter);
    }
    for one in &operation.parameters {
        parameters.push(query_parameter(one.name, one.shape, one.description));
    }
    if !parameters.is_empty() {
        written["parameters"] = Value::Array(parameters);
    }
    if let Some(action) = operation.action {
        written["x-kubernetes-action"] = json!(action);
        written["x-kubernetes-group-version-kind"] = operation.about.clone();
    }
    written
}

fn path_parameters(operation: &Operation) -> Value {
    let mut parameters = Vec::new();
    for (name, description) in &operation.places {
        parameters.push(json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": description,
            "type": "string",
            "uniqueItems": true,
        }));
    }
    if operation.action.is_some() {
        parameters.push(query_parameter(
            PRETTY.name,
            PRETTY.shape,
            PRETTY.description,
        ));
    }
    Value::Array(parameters)
}

fn query_parameter(name: &str, shape: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "type": shape,
        "uniqueItems": true,
    })
}

/// In v3's words, for the definitions are looked up by these; all are rewritten at the end.
fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{definition}") })
}
