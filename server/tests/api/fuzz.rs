//! Very many bodies that are almost good ones: none of them may be answered with an error of the server's own, and
//! whatever is kept of them must be readable in every way. `server/machinery/tests/fuzz.rs` does the same without HTTP,
//! more often.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::manifests::Manifest;
use super::mutate::{FORMATS, Format, Random, encoded, mutated, named};
use super::shared::Api;
use super::wire::{
    Connection, JSON, JSON_PATCH, MERGE, PROTOBUF, Request, STRATEGIC, YAML, get, put,
};

/// Bodies a run, if HOLDFAST_FUZZ_BODIES does not say another number.
const BODIES: usize = 100_000;

/// Connections at the same time, and requests that are on their way on each.
const CONNECTIONS: usize = 4;
const AT_ONCE: usize = 8;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn media(format: Format) -> &'static str {
    match format {
        Format::Json => JSON,
        Format::Yaml => YAML,
        Format::Protobuf => PROTOBUF,
    }
}

/// The next request: most create, some update or patch what was there before.
fn request(random: &mut Random, manifests: &[Manifest], unique: &str) -> Request {
    let manifest = random.pick(manifests);
    let format = *random.pick(&FORMATS);
    let collection = manifest.collection("fuzz");
    let at = format!("{collection}/{}", manifest.name());
    let validation = *random.pick(&["", "?fieldValidation=Strict", "?fieldValidation=Ignore"]);
    match random.below(10) {
        0 => {
            let body = mutated(random, format, &manifest.object);
            Request::new("PUT", format!("{at}{validation}")).with(media(format), body)
        }
        1 => {
            let media = *random.pick(&[MERGE, STRATEGIC, JSON_PATCH]);
            let patch = if media == JSON_PATCH {
                let names = [
                    "spec",
                    "metadata",
                    "data",
                    "status",
                    "kind",
                    "metadata/labels",
                    "spec/template/spec",
                ];
                let steps = ["add", "replace", "remove", "test", "copy", "move"];
                serde_json::json!([{
                    "op": random.pick(&steps), "path": format!("/{}", random.pick(&names)),
                    "from": format!("/{}", random.pick(&names)), "value": manifest.object,
                }])
            } else {
                manifest.object.clone()
            };
            let body = mutated(random, Format::Json, &patch);
            Request::new("PATCH", format!("{at}{validation}")).with(media, body)
        }
        _ => {
            let body = mutated(random, format, &named(&manifest.object, unique));
            Request::new("POST", format!("{collection}{validation}")).with(media(format), body)
        }
    }
}

/// Sends requests in groups; answers how many were carried out.
fn send(endpoint: &str, seed: u64, number: usize, count: usize) -> usize {
    let manifests = Manifest::all("fuzz");
    let mut random = Random::of_seed(seed ^ (number as u64) << 32);
    let mut connection = Connection::open(endpoint).unwrap();
    let mut done = 0;
    let mut sent = 0;
    while sent < count {
        let group: Vec<Request> = (0..AT_ONCE)
            .map(|place| {
                request(
                    &mut random,
                    &manifests,
                    &format!("f{number}-{}", sent + place),
                )
            })
            .collect();
        sent += group.len();
        for request in &group {
            connection.write(request).unwrap();
        }
        for request in &group {
            let answer = connection.read();
            let body = String::from_utf8_lossy(&request.body);
            let what = || {
                format!(
                    "seed {seed}: {} {} {:?}\n{body}",
                    request.method, request.path, request.headers
                )
            };
            let answer = answer.unwrap_or_else(|error| panic!("{error} after {}", what()));
            let is_expected = matches!(
                answer.status,
                200 | 201 | 400 | 403 | 404 | 409 | 413 | 415 | 422
            );
            assert!(
                is_expected,
                "{} {} after {}",
                answer.status,
                answer.text(),
                what()
            );
            let json: Value = serde_json::from_slice(&answer.body)
                .unwrap_or_else(|error| panic!("{error} after {}", what()));
            let is_error = answer.status >= 400;
            assert_eq!(
                is_error,
                json["kind"] == "Status",
                "{json} after {}",
                what()
            );
            if is_error {
                assert_eq!(json["code"], answer.status);
                assert!(
                    json["message"]
                        .as_str()
                        .is_some_and(|message| !message.is_empty()),
                    "{json} after {}",
                    what()
                );
            }
            done += usize::from(!is_error);
        }
    }
    done
}

#[test]
fn almost_good_bodies_never_break_the_server_or_what_it_keeps() {
    let api = Api::start();
    api.namespace("fuzz");
    let manifests = Manifest::all("fuzz");
    for manifest in &manifests {
        for (number, format) in FORMATS.into_iter().enumerate() {
            // The bodies that all others are made of must be good ones.
            let object = match number {
                0 => manifest.object.clone(),
                _ => named(&manifest.object, &format!("{}-{number}", manifest.name())),
            };
            let request = Request::new("POST", manifest.collection("fuzz"))
                .with(media(format), encoded(format, &object));
            let answer = api.send(&request);
            // Definitions are called after what they define.
            let is_named = manifest.kind.kind == "CustomResourceDefinition" && number > 0;
            assert!(
                answer.status == 201 || is_named,
                "{format:?} {object}: {}",
                answer.text()
            );
        }
    }
    let seed = from_environment("HOLDFAST_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos().to_le_bytes()[..8]
            .iter()
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    });
    let bodies = from_environment("HOLDFAST_FUZZ_BODIES")
        .map_or(BODIES, |bodies| usize::try_from(bodies).unwrap());
    let began = std::time::Instant::now();
    let done: usize = thread::scope(|scope| {
        let endpoint = api.endpoint.as_str();
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || send(endpoint, seed, number, bodies / CONNECTIONS)))
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .sum()
    });
    eprintln!(
        "seed {seed}: {bodies} bodies in {:?}, {done} of them carried out",
        began.elapsed()
    );
    assert!(
        done > bodies / 20,
        "seed {seed}: only {done} of {bodies} were good enough"
    );

    // What is kept is JSON for etcd's clients, and whole for those of the API.
    let stored = api.stored("/registry/");
    for (key, value) in &stored {
        let object: Result<Value, _> = serde_json::from_slice(value);
        assert!(
            object.is_ok(),
            "seed {seed}: {key}: {}",
            String::from_utf8_lossy(value)
        );
    }
    let mut kinds: Vec<&Manifest> = Vec::new();
    for manifest in &manifests {
        if kinds
            .iter()
            .all(|one| !std::ptr::eq(one.kind, manifest.kind))
        {
            kinds.push(manifest);
        }
    }
    let mut connection = api.connect();
    let mut found = 0;
    let mut changed = Vec::new();
    for manifest in kinds {
        let collection = manifest.collection("fuzz");
        let list = connection.call(&get(collection.as_str())).unwrap().ok(200);
        let table = get(collection.as_str()).accept("application/json;as=Table;v=v1;g=meta.k8s.io");
        let table = connection.call(&table).unwrap().ok(200);
        let items = list["items"].as_array().unwrap();
        assert_eq!(table["rows"].as_array().unwrap().len(), items.len());
        for item in items {
            found += 1;
            let name = item["metadata"]["name"].as_str().unwrap();
            // Names of some kinds may have anything but a slash in them.
            let name: String = name
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
                    _ => format!("%{byte:02X}"),
                })
                .collect();
            let at = format!("{collection}/{name}");
            let got = connection.call(&get(at.as_str())).unwrap();
            assert_eq!(got.status, 200, "seed {seed}: {at}: {}", got.text());
            let got = got.json();
            assert_eq!(got["metadata"], item["metadata"], "seed {seed}: {at}");
            assert_eq!(got["kind"], manifest.kind.kind, "seed {seed}: {at}");
            let same = connection.call(&put(at.as_str(), &got)).unwrap();
            if same.status != 200 || same.json() != got {
                changed.push(format!("{got}\nbecame\n{}", same.text()));
            }
        }
    }
    assert!(found > 100, "seed {seed}: {found}");
    assert!(
        changed.is_empty(),
        "seed {seed}: written again, it changed:\n{}",
        changed.join("\n")
    );
}
