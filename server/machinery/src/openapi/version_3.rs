//! Operations as OpenAPI v3 writes them: one document for each group version, with the definitions that it needs.

use serde_json::{Map, Value, json};

use super::catalogue::{Catalogue, PLACE};
use super::operations::{Operation, PRETTY};
use crate::kind::Kinds;

pub(super) fn document(catalogue: &Catalogue, kinds: &Kinds, name: &str) -> Value {
    let kinds = kinds.all().iter().map(AsRef::as_ref);
    let served = kinds.filter(|kind| super::name_of(kind) == name);
    let paths = super::paths(catalogue, served, operation, path_parameters);
    let schemas = catalogue.reached_from(paths.values());
    json!({
        "openapi": "3.0.0",
        "info": super::info(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "type": "apiKey",
                    "name": "authorization",
                    "in": "header",
                },
            },
        },
    })
}

fn operation(operation: &Operation) -> Value {
    let answer = match &operation.answer {
        Some(definition) => reference(definition),
        None => json!({ "type": "string" }),
    };
    let mut content = Map::new();
    let mut offer = |media: &str| content.insert(media.to_owned(), json!({ "schema": answer }));
    match operation.answer {
        Some(_) => offer("application/json"),
        None => offer("*/*"),
    };
    if operation.is_watchable {
        offer("application/json;stream=watch");
    }
    let mut responses = Map::new();
    for (code, description) in operation.codes {
        let response = json!({ "description": description, "content": content });
        responses.insert(code.to_string(), response);
    }
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));

    let mut written = json!({
        "description": operation.description,
        "operationId": operation.id,
        "responses": responses,
        "tags": [operation.tag],
    });
    let parameters = operation
        .parameters
        .iter()
        .map(|one| query_parameter(one.name, one.shape, one.description));
    let parameters: Vec<Value> = parameters.collect();
    if !parameters.is_empty() {
        written["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = &operation.body {
        let schema = reference(&body.definition);
        let media = body.media.iter();
        let content: Map<String, Value> = media
            .map(|media| ((*media).to_owned(), json!({ "schema": schema })))
            .collect();
        written["requestBody"] = json!({ "content": content });
        if body.is_required {
            written["requestBody"]["required"] = json!(true);
        }
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
            "schema": { "type": "string", "uniqueItems": true },
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
        "schema": { "type": shape, "uniqueItems": true },
    })
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{definition}") })
}
