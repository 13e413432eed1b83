//! Bodies as clients send them.

use serde_json::json;

use super::super::{Decoded, Media, decode};
use super::*;
use crate::status::Status;

/// A field of a length, by hand.
fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = varint(u64::from(number) << 3 | 2);
    field.extend(varint(content.len() as u64));
    field.extend(content);
    field
}

/// A field that is a number, by hand.
fn number(number: u32, value: i64) -> Vec<u8> {
    let mut field = varint(u64::from(number) << 3);
    field.extend(varint(value.cast_unsigned()));
    field
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

fn envelope(version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    let rest = [
        bytes(1, &type_meta),
        bytes(2, message),
        bytes(3, b""),
        bytes(4, b""),
    ];
    [MAGIC.to_vec(), rest.concat()].concat()
}

fn read_as(definition: &str, body: &[u8]) -> Result<Decoded, Status> {
    let schemas = Schemas::builtin();
    let definition = schemas.named(definition).unwrap();
    decode(Media::Protobuf, body, schemas, Some(definition))
}

fn value(definition: &str, version: &str, kind: &str, message: &[u8]) -> Value {
    let decoded = read_as(definition, &envelope(version, kind, message)).unwrap();
    assert_eq!(decoded.faults, Vec::<String>::new());
    decoded.value
}

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";

#[test]
fn zeros_of_pointers_are_meant_and_others_are_nothing() {
    let metadata = [bytes(1, b"web"), bytes(2, b""), number(7, 0), bytes(8, b"")].concat();
    let spec = [
        number(1, 0),
        bytes(2, b""),
        bytes(3, b""),
        bytes(4, b""),
        number(5, 0),
        number(7, 0),
    ]
    .concat();
    let message = [bytes(1, &metadata), bytes(2, &spec), bytes(3, b"")].concat();
    let kept = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {}, "template": {}},
    });
    assert_eq!(value(DEPLOYMENT, "apps/v1", "Deployment", &message), kept);
}

#[test]
fn delete_options_decode_with_a_grace_of_nothing() {
    let preconditions = bytes(1, b"some-uid");
    let message = [
        number(1, 0),
        bytes(2, &preconditions),
        bytes(4, b"Foreground"),
        bytes(5, b"All"),
    ]
    .concat();
    let options = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
    let kept = json!({
        "apiVersion": "policy/v1beta1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "some-uid"},
        "propagationPolicy": "Foreground",
        "dryRun": ["All"],
    });
    assert_eq!(
        value(options, "policy/v1beta1", "DeleteOptions", &message),
        kept
    );
}

#[test]
fn structs_that_are_embedded_in_go_are_not_there_in_json() {
    let probe = bytes(
        1,
        &bytes(2, &[bytes(1, b"/"), bytes(2, &number(2, 80))].concat()),
    );
    let container = [bytes(1, b"a"), bytes(10, &[probe, number(2, 5)].concat())].concat();
    let volume = [bytes(1, b"data"), bytes(2, &bytes(2, b""))].concat();
    let spec = [bytes(1, &volume), bytes(2, &container)].concat();
    let read = value(POD, "v1", "Pod", &bytes(2, &spec));
    let probe = json!({"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 5});
    assert_eq!(
        read["spec"]["containers"],
        json!([{"name": "a", "livenessProbe": probe}])
    );
    assert_eq!(
        read["spec"]["volumes"],
        json!([{"name": "data", "emptyDir": {}}])
    );
}

#[test]
fn special_types_have_the_form_of_json() {
    let time = [number(1, 1_708_470_000), number(2, 123_456_789)].concat();
    let entry = [bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat();
    let resources = bytes(1, &entry);
    let container = [bytes(1, b"a"), bytes(8, &resources)].concat();
    let security = [number(2, 0), number(4, 1), number(4, 2), bytes(4, &[3, 4])].concat();
    let spec = [bytes(2, &container), bytes(14, &security)].concat();
    let message = [bytes(1, &bytes(8, &time)), bytes(2, &spec)].concat();
    let read = value(POD, "v1", "Pod", &message);
    assert_eq!(
        read["metadata"]["creationTimestamp"],
        "2024-02-20T23:00:00Z"
    );
    assert_eq!(
        read["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "500m"})
    );
    let security = json!({"runAsUser": 0, "supplementalGroups": [1, 2, 3, 4]});
    assert_eq!(read["spec"]["securityContext"], security);

    let lease = bytes(2, &bytes(4, &time));
    let read = value(
        "io.k8s.api.coordination.v1.Lease",
        "coordination.k8s.io/v1",
        "Lease",
        &lease,
    );
    assert_eq!(read["spec"]["renewTime"], "2024-02-20T23:00:00.123456Z");

    let entry = [bytes(1, b"a"), bytes(2, &[0xff, 0])].concat();
    let read = value(
        "io.k8s.api.core.v1.Secret",
        "v1",
        "Secret",
        &bytes(2, &entry),
    );
    assert_eq!(read["data"], json!({"a": "/wA="}));

    let raw = bytes(1, br#"{"a":[1,null]}"#);
    let message = [bytes(2, &raw), number(3, 0)].concat();
    let read = value(
        "io.k8s.api.apps.v1.ControllerRevision",
        "apps/v1",
        "ControllerRevision",
        &message,
    );
    assert_eq!(read["data"], json!({"a": [1, null]}));
    assert_eq!(read["revision"], 0);

    let extra = [
        bytes(1, b"a"),
        bytes(2, &[bytes(1, b"b"), bytes(1, b"c")].concat()),
    ]
    .concat();
    let review = "io.k8s.api.authorization.v1.SubjectAccessReview";
    let message = bytes(2, &bytes(5, &extra));
    let read = value(
        review,
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        &message,
    );
    assert_eq!(read["spec"]["extra"], json!({"a": ["b", "c"]}));

    let port = [
        number(3, 80),
        bytes(4, &[number(1, 1), number(2, 0), bytes(3, b"http")].concat()),
    ]
    .concat();
    let ports = [
        bytes(1, &port),
        bytes(
            1,
            &[
                number(3, 81),
                bytes(4, &[number(1, 0), number(2, 0)].concat()),
            ]
            .concat(),
        ),
    ];
    let read = value(
        "io.k8s.api.core.v1.Service",
        "v1",
        "Service",
        &bytes(2, &ports.concat()),
    );
    assert_eq!(
        read["spec"]["ports"],
        json!([{"port": 80, "targetPort": "http"}, {"port": 81}])
    );
}

#[test]
fn schemas_of_custom_resources_decode() {
    let items = bytes(24, &bytes(1, &bytes(5, b"string")));
    let additional = bytes(30, &[number(1, 1), bytes(2, &[])].concat());
    let closed = bytes(33, &number(1, 0));
    let default = bytes(8, &bytes(1, b"{\"x\":1}"));
    let preserve = number(38, 1);
    let schema = [items, additional, closed, default, preserve].concat();
    let version = [bytes(1, b"v1"), bytes(4, &bytes(1, &schema))].concat();
    let message = bytes(2, &bytes(7, &version));
    let definition =
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let read = value(
        definition,
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &message,
    );
    let kept = json!({
        "items": {"type": "string"},
        "additionalProperties": {},
        "additionalItems": false,
        "default": {"x": 1},
        "x-kubernetes-preserve-unknown-fields": true,
    });
    assert_eq!(
        read["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        kept
    );
}

#[test]
fn fields_that_nobody_knows_are_reported() {
    let message = [
        bytes(99, b"x"),
        bytes(2, &[number(98, 1), number(1, 2)].concat()),
    ]
    .concat();
    let decoded = read_as(DEPLOYMENT, &envelope("apps/v1", "Deployment", &message)).unwrap();
    let faults = [
        "unknown protobuf field 99 of io.k8s.api.apps.v1.Deployment",
        "unknown protobuf field 98 of io.k8s.api.apps.v1.DeploymentSpec",
    ];
    assert_eq!(decoded.faults, faults);
    assert_eq!(decoded.value["spec"], json!({"replicas": 2}));
}

#[test]
fn what_is_not_in_an_envelope_is_refused() {
    let status = read_as(DEPLOYMENT, b"{\"kind\":\"Deployment\"}").unwrap_err();
    assert_eq!(
        status.message,
        "the object provided is unrecognized (must be of type Deployment): provided data does not appear to be a \
         protobuf message, expected prefix [107 56 115 0] ({\"kind\":\"Deployment\"})"
    );
    assert_eq!(status.reason.code(), 400);
}

#[test]
fn a_body_decodes_as_the_kind_that_it_says() {
    let read = value(DEPLOYMENT, "v1", "Pod", &bytes(1, &bytes(1, b"a")));
    assert_eq!(
        read,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})
    );
    let read = value(DEPLOYMENT, "", "", &bytes(1, &bytes(1, b"a")));
    assert_eq!(read, json!({"metadata": {"name": "a"}}));
    let status = read_as(DEPLOYMENT, &envelope("v1", "Foo", b"")).unwrap_err();
    assert!(
        status
            .message
            .contains("no kind \"Foo\" is registered for version \"v1\""),
        "{}",
        status.message
    );
}

#[test]
fn damaged_messages_are_refused() {
    for (message, why) in [
        (number(2, 1), "proto: wrong wireType = 0 for field spec"),
        (vec![0x12, 5, 1], "unexpected EOF"),
        (vec![0x12], "unexpected EOF"),
        (vec![0xff; 11], "proto: integer overflow"),
        (vec![0x13], "proto: illegal wireType 3"),
    ] {
        let status = read_as(DEPLOYMENT, &envelope("apps/v1", "Deployment", &message)).unwrap_err();
        let start = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
        assert_eq!(status.message.strip_prefix(start), Some(why));
    }
    let mut schema = Vec::new();
    for _ in 0..5_000 {
        schema = bytes(28, &schema);
    }
    let version = bytes(2, &bytes(7, &bytes(4, &bytes(1, &schema))));
    let definition =
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let body = envelope(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &version,
    );
    let status = read_as(definition, &body).unwrap_err();
    assert!(
        status.message.ends_with("exceeded max depth"),
        "{}",
        status.message
    );
}

#[test]
fn what_is_read_is_no_deeper_than_json_may_be() {
    let definition =
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let not: fn(&[u8]) -> Vec<u8> = |schema| bytes(28, schema);
    let all_of: fn(&[u8]) -> Vec<u8> = |schema| bytes(25, schema);
    let properties: fn(&[u8]) -> Vec<u8> =
        |schema| bytes(29, &[bytes(1, b"a"), bytes(2, schema)].concat());
    for (nest, levels) in [(not, 1), (all_of, 2), (properties, 2)] {
        let mut deepest = 0;
        let mut schema = Vec::new();
        for count in 0..DEPTH_LIMIT + 5 {
            let version = bytes(2, &bytes(7, &bytes(4, &bytes(1, &schema))));
            let body = envelope(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                &version,
            );
            schema = nest(&schema);
            let Ok(read) = read_as(definition, &body) else {
                continue;
            };
            deepest = count;
            let text = read.value.to_string();
            let schemas = Schemas::builtin();
            let named = schemas.named(definition);
            let again = decode(Media::Json, text.as_bytes(), schemas, named);
            assert_eq!(again.unwrap().value, read.value, "{text}");
        }
        // A definition has five levels above its schema: itself, spec, versions, one of them, and its schema's place.
        let most = (DEPTH_LIMIT - 5) / levels;
        assert!((most - 2..=most).contains(&deepest), "{deepest} of {most}");
    }
    // JSON within protobuf: the data of a revision is one level down.
    let revision = "io.k8s.api.apps.v1.ControllerRevision";
    for (levels, fits) in [(DEPTH_LIMIT - 1, true), (DEPTH_LIMIT, false)] {
        let data = "[".repeat(levels) + &"]".repeat(levels);
        let body = envelope(
            "apps/v1",
            "ControllerRevision",
            &bytes(2, &bytes(1, data.as_bytes())),
        );
        assert_eq!(read_as(revision, &body).is_ok(), fits, "{levels}");
        let json =
            format!(r#"{{"apiVersion":"apps/v1","kind":"ControllerRevision","data":{data}}}"#);
        let schemas = Schemas::builtin();
        let named = schemas.named(revision);
        let read = decode(Media::Json, json.as_bytes(), schemas, named);
        assert_eq!(read.is_ok(), fits, "{levels} in JSON");
    }
}

#[test]
fn every_prefix_of_a_body_is_refused_or_read_but_never_a_panic() {
    let spec = [
        number(1, -1),
        bytes(3, &bytes(2, &bytes(2, &bytes(1, b"a")))),
    ]
    .concat();
    let body = envelope("apps/v1", "Deployment", &bytes(2, &spec));
    for length in 0..body.len() {
        drop(read_as(DEPLOYMENT, &body[..length]));
    }
    assert_eq!(
        read_as(DEPLOYMENT, &body).unwrap().value["spec"]["replicas"],
        -1
    );
}

#[test]
fn bodies_of_kubectl_decode() {
    // What `kubectl create` and `kubectl auth can-i` of version 1.37.1 sent, and what it stands for.
    let recorded = include_str!("recorded.txt");
    for line in recorded.lines() {
        let mut parts = line.splitn(3, ' ');
        let definition = parts.next().unwrap();
        let body = STANDARD.decode(parts.next().unwrap()).unwrap();
        let kept: Value = serde_json::from_str(parts.next().unwrap()).unwrap();
        let decoded = read_as(definition, &body).unwrap();
        assert_eq!(decoded.faults, Vec::<String>::new(), "{definition}");
        assert_eq!(decoded.value, kept);
    }
    assert_eq!(recorded.lines().count(), 11);
}
