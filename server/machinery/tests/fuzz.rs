//! Very many bodies that are almost good ones, through everything that a body goes through on its way into the store:
//! nothing panics, and what passes can be read again, is whole, and is what it was when it goes round once more.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../tests/api/manifests.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod manifests;
#[path = "../../tests/api/mutate.rs"]
mod mutate;
#[path = "../../tests/api/protobuf.rs"]
mod protobuf;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use machinery::decode::{Media, conform, decode};
use machinery::patch::{self, PatchType};
use machinery::schema::Schemas;
use machinery::table::{self, Include};
use machinery::{convert, defaults, validate};
use manifests::Manifest;
use mutate::{FORMATS, Format, Random, mutated};
use serde_json::{Value, json};

/// Bodies a run, if HOLDFAST_FUZZ_BODIES does not say another number.
const BODIES: usize = 200_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn media(format: Format) -> Media {
    match format {
        Format::Json => Media::Json,
        Format::Yaml => Media::Yaml,
        Format::Protobuf => Media::Protobuf,
    }
}

/// What a server writes into a new object before its rules are looked at.
fn prepare(manifest: &Manifest, object: &mut Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if manifest.kind.namespaced {
        object["metadata"]["namespace"] = json!("fuzz");
    }
    object["apiVersion"] = manifest.kind.api_version().into();
    object["kind"] = manifest.kind.kind.clone().into();
    object["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    object["metadata"]["creationTimestamp"] = json!("2026-01-02T03:04:05Z");
}

/// Whether a body passes.
fn passes(manifest: &Manifest, format: Format, body: &[u8]) -> bool {
    let kind = manifest.kind;
    let schemas = Schemas::builtin();
    let Ok(decoded) = decode(media(format), body, schemas, kind.schema) else {
        return false;
    };
    let mut object = decoded.value;
    if !object.is_object() {
        return false;
    }
    prepare(manifest, &mut object);
    defaults::fill(kind, &mut object);
    defaults::prepare_create(kind, &mut object);
    let _ = table::table_of_one(
        kind,
        &object,
        Include::Object,
        true,
        json!({}),
        1_767_323_045,
    );
    if !validate::created(kind, &object).is_empty() {
        return false;
    }
    // It is read again as it was written, in all ways in which that is done.
    let text = object.to_string();
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(again, object, "parsed again");
    let strict = decode(Media::Json, text.as_bytes(), schemas, kind.schema).unwrap();
    assert_eq!(strict.faults, Vec::<String>::new());
    assert_eq!(strict.value, object, "decoded again");
    let conforming = conform(object.clone(), schemas, kind.schema.unwrap()).unwrap();
    assert_eq!(conforming.value, object, "held against the schema again");
    let mut filled = object.clone();
    defaults::fill(kind, &mut filled);
    defaults::prepare_update(kind, &mut filled, &object);
    assert_eq!(filled, object, "filled again");
    // Some kinds are updated only by who says which version was read.
    filled["metadata"]["resourceVersion"] = json!("1");
    let errors = validate::updated(kind, &filled, &filled, "");
    assert!(errors.is_empty(), "updated with itself: {errors:?}");
    let mut stored = object.clone();
    convert::to_stored(kind, &mut stored);
    convert::to_served(kind, &mut stored);
    assert_eq!(stored, object, "stored and served");
    true
}

/// Whether a patch of an object passes.
fn patches(random: &mut Random, manifest: &Manifest) -> bool {
    let patch = mutated(random, Format::Json, &manifest.object);
    let schemas = Schemas::builtin();
    let Ok(patch) = decode(Media::Json, &patch, schemas, None) else {
        return false;
    };
    let patch_type = *random.pick(&[PatchType::Merge, PatchType::Strategic, PatchType::Json]);
    let value = match patch_type {
        PatchType::Json => json!([{ "op": "add", "path": "/spec", "value": patch.value }]),
        _ => patch.value,
    };
    let definition = manifest.kind.schema;
    let patched = patch::apply(patch_type, &manifest.object, &value, schemas, definition);
    let Ok(patched) = patched else {
        return false;
    };
    let Ok(conforming) = conform(patched, schemas, definition.unwrap()) else {
        return false;
    };
    if !conforming.value.is_object() {
        return false;
    }
    let mut object = conforming.value;
    let mut old = manifest.object.clone();
    prepare(manifest, &mut old);
    prepare(manifest, &mut object);
    defaults::fill(manifest.kind, &mut object);
    defaults::prepare_update(manifest.kind, &mut object, &old);
    validate::updated(manifest.kind, &object, &old, "").is_empty()
}

#[test]
fn almost_good_bodies_never_break_what_reads_them() {
    let manifests = Manifest::all("fuzz");
    for manifest in &manifests {
        for format in FORMATS {
            let good = mutate::encoded(format, &manifest.object);
            assert!(
                passes(manifest, format, &good),
                "{format:?} {}",
                manifest.yaml
            );
        }
    }
    let seed = from_environment("HOLDFAST_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) << 32 | now.as_secs() & 0xffff_ffff
    });
    let bodies = from_environment("HOLDFAST_FUZZ_BODIES");
    let bodies = bodies.map_or(BODIES, |bodies| usize::try_from(bodies).unwrap());
    let began = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = |thread: usize| {
        let manifests = Manifest::all("fuzz");
        let mut random = Random::of_seed(seed ^ (thread as u64) << 48);
        let mut passed = 0;
        let mut broken = Vec::new();
        for number in 0..bodies / threads {
            let manifest = random.pick(&manifests);
            let done = if number % 8 == 0 {
                let before = random.clone();
                let done = catch_unwind(AssertUnwindSafe(|| patches(&mut random, manifest)));
                done.map_err(|_| format!("a patch of {} by {before:?}", manifest.yaml))
            } else {
                let format = *random.pick(&FORMATS);
                let body = mutated(&mut random, format, &manifest.object);
                let done = catch_unwind(AssertUnwindSafe(|| passes(manifest, format, &body)));
                done.map_err(|_| format!("{format:?} {}", String::from_utf8_lossy(&body)))
            };
            match done {
                Ok(has_passed) => passed += usize::from(has_passed),
                Err(what) => broken.push(what),
            }
            if broken.len() > 20 {
                break;
            }
        }
        (passed, broken)
    };
    let (mut passed, mut broken) = (0, Vec::new());
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        for run in runs {
            let (count, found) = run.join().unwrap();
            passed += count;
            broken.extend(found);
        }
    });
    eprintln!(
        "seed {seed}: {bodies} bodies in {:?}, {passed} passed",
        began.elapsed()
    );
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
    assert!(
        passed > bodies / 20,
        "seed {seed}: only {passed} of {bodies} were good enough"
    );
}
