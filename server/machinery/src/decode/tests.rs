//! What upstream's decoder answers, case by case.

use serde_json::{Value, json};

use super::*;

fn definition(name: &str) -> Definition {
    let names = [
        format!("io.k8s.api.apps.v1.{name}"),
        format!("io.k8s.api.core.v1.{name}"),
        format!("io.k8s.api.coordination.v1.{name}"),
        format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}"),
    ];
    let mut found = names
        .iter()
        .filter_map(|name| Schemas::builtin().named(name));
    found.next().unwrap()
}

fn decode_as(media: Media, kind: &str, body: &str) -> Result<Decoded, Status> {
    let definition = definition(kind);
    decode(media, body.as_bytes(), Schemas::builtin(), Some(definition))
}

fn json_value(kind: &str, body: &str) -> Value {
    let decoded = decode_as(Media::Json, kind, body).unwrap();
    assert_eq!(decoded.faults, Vec::<String>::new());
    decoded.value
}

fn yaml_value(body: &str) -> Value {
    let decoded = decode(Media::Yaml, body.as_bytes(), Schemas::builtin(), None);
    decoded.unwrap().value
}

fn message(result: Result<Decoded, Status>) -> String {
    let status = result.unwrap_err();
    assert_eq!(status.reason.code(), 400);
    status.message
}

/// The error of a body, without what stands before each that can be told to be of a kind.
#[track_caller]
fn refused(kind: &str, body: &str, why: &str) {
    let start = format!("{kind} in version \"v1\" cannot be handled as a {kind}: ");
    let text = message(decode_as(Media::Json, kind, body));
    assert_eq!(text.strip_prefix(&start), Some(why), "{text}");
    // A tree of the same is refused in the same words.
    if let Ok(tree) = serde_json::from_str(body) {
        let text = message(conform(tree, Schemas::builtin(), definition(kind)));
        assert_eq!(text.strip_prefix(&start), Some(why), "{text}");
    }
}

#[test]
fn values_of_wrong_types_are_refused_in_the_words_of_go() {
    for (value, what) in [
        (r#""3""#, "string"),
        ("1.0", "number 1.0"),
        ("1.5", "number 1.5"),
        ("3000000000", "number 3000000000"),
        ("true", "bool"),
        ("{}", "object"),
        ("[]", "array"),
    ] {
        refused(
            "Deployment",
            &format!(r#"{{"spec":{{"replicas":{value}}}}}"#),
            &format!(
                "json: cannot unmarshal {what} into Go struct field DeploymentSpec.spec.replicas of type int32"
            ),
        );
    }
    for (body, place) in [
        (
            r#"{"spec":[]}"#,
            "array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            r#"{"spec":"x"}"#,
            "string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"name":5}]}}}}"#,
            "number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":["x"]}}}}"#,
            "string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        ),
        (
            r#"{"metadata":{"labels":{"a":5}}}"#,
            "number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"metadata":{"labels":[]}}"#,
            "array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            r#"{"metadata":{"creationTimestamp":5}}"#,
            "number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            r#"{"metadata":{"uid":5}}"#,
            "number into Go struct field ObjectMeta.metadata.uid of type types.UID",
        ),
        (
            r#"{"spec":{"template":{"spec":{"restartPolicy":5}}}}"#,
            "number into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":[]}}]}}}}"#,
            "array into Go struct field ResourceRequirements.spec.template.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}}}}"#,
            "bool into Go struct field HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"volumes":[{"emptyDir":[]}]}}}}"#,
            "array into Go struct field Volume.spec.template.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
    ] {
        refused(
            "Deployment",
            body,
            &format!("json: cannot unmarshal {place}"),
        );
    }
    refused(
        "Service",
        r#"{"spec":{"ipFamilies":[5]}}"#,
        "json: cannot unmarshal number into Go struct field ServiceSpec.spec.ipFamilies of type v1.IPFamily",
    );
    refused(
        "Service",
        r#"{"spec":{"ipFamilies":5}}"#,
        "json: cannot unmarshal number into Go struct field ServiceSpec.spec.ipFamilies of type []v1.IPFamily",
    );
    refused(
        "Secret",
        r#"{"data":{"a":5}}"#,
        "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
    );
}

#[test]
fn the_first_error_counts_and_damaged_text_before_all() {
    let first = r#"{"spec":{"replicas":"3","paused":1}}"#;
    let text = message(decode_as(Media::Json, "Deployment", first));
    assert!(text.contains("spec.replicas"), "{text}");
    let damaged = r#"{"spec":{"replicas":"3"}},"#;
    let text = message(decode_as(Media::Json, "Deployment", damaged));
    assert_eq!(
        text,
        "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; \
         json parse error: invalid character ',' after top-level value ({\"spec\":{\"replicas\":\"3\"}},)"
    );
}

#[test]
fn the_kind_of_the_body_is_named_in_its_errors() {
    let body = r#"{"apiVersion":"batch/v2","kind":"Job","spec":{"replicas":""}}"#;
    let text = message(decode_as(Media::Json, "Deployment", body));
    let start = "Job in version \"v2\" cannot be handled as a Deployment: json: ";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn a_body_without_a_kind_to_be_read_is_unrecognized() {
    for (body, why, summary) in [
        (
            "[]",
            "json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
            "5b5d",
        ),
        (
            r#"{"kind":5}"#,
            "json: cannot unmarshal number into Go struct field .kind of type string",
            r#"{"kind":5}"#,
        ),
        (
            r#"{"spec":{"replicas":""},"apiVersion":[]}"#,
            "json: cannot unmarshal array into Go struct field .apiVersion of type string",
            r#"{"spec":{"replicas":""},"apiVe ..."#,
        ),
        ("", "unexpected end of JSON input", "<empty>"),
    ] {
        let text = message(decode_as(Media::Json, "Deployment", body));
        let start = "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error:";
        assert_eq!(text, format!("{start} {why} ({summary})"));
    }
}

#[test]
fn damaged_json_is_refused_in_the_words_of_go() {
    for (body, why) in [
        ("{", "unexpected end of JSON input"),
        (r#"{"a":1,"#, "unexpected end of JSON input"),
        (
            r#"{"a":1,}"#,
            "invalid character '}' looking for beginning of object key string",
        ),
        (
            "{a",
            "invalid character 'a' looking for beginning of object key string",
        ),
        (r#"{"a"x"#, "invalid character 'x' after object key"),
        (
            r#"{"a":x"#,
            "invalid character 'x' looking for beginning of value",
        ),
        (
            r#"{"a":1x"#,
            "invalid character 'x' after object key:value pair",
        ),
        (
            r#"{"a":[1 2]}"#,
            "invalid character '2' after array element",
        ),
        (
            r#"{"a":[1,]}"#,
            "invalid character ']' looking for beginning of value",
        ),
        (
            r#"{"a":"\x"}"#,
            "invalid character 'x' in string escape code",
        ),
        (
            "{\"a\":\"\t\"}",
            r"invalid character '\t' in string literal",
        ),
        (
            r#"{"a":tru}"#,
            "invalid character '}' in literal true (expecting 'e')",
        ),
        (
            r#"{"a":01}"#,
            "invalid character '1' after object key:value pair",
        ),
        (r#"{"a":-}"#, "invalid character '}' in numeric literal"),
        (
            r#"{"a":1.}"#,
            "invalid character '}' after decimal point in numeric literal",
        ),
        (
            r#"{"a":1e}"#,
            "invalid character '}' in exponent of numeric literal",
        ),
        (
            r#"{"a":1} x"#,
            "invalid character 'x' after top-level value",
        ),
        (
            r#"{"a":"\u12g4"}"#,
            r"invalid character 'g' in \u hexadecimal character escape",
        ),
        (
            "{\"a\":é}",
            "invalid character 'Ã' looking for beginning of value",
        ),
    ] {
        for definition in [None, Some(definition("Deployment"))] {
            let result = decode(Media::Json, body.as_bytes(), Schemas::builtin(), definition);
            let text = message(result);
            let why = format!("couldn't get version/kind; json parse error: {why} (");
            assert!(text.contains(&why), "{text}");
        }
    }
}

#[test]
fn unknown_and_duplicate_fields_are_reported_as_they_are_met() {
    let body = r#"{"metadata":{"labels":{"a":"1","a":"2"}},"x":1,"spec":{"foo":1,"foo":2,"replicas":1,"replicas":2,
        "template":{"spec":{"containers":[{"name":"a","name":"b","bar":{"c":[null]}}]}}},"Spec":{}}"#;
    let decoded = decode_as(Media::Json, "Deployment", body).unwrap();
    let faults = [
        r#"duplicate field "metadata.labels.a""#,
        r#"unknown field "x""#,
        r#"unknown field "spec.foo""#,
        r#"duplicate field "spec.replicas""#,
        r#"duplicate field "spec.template.spec.containers[0].name""#,
        r#"unknown field "spec.template.spec.containers[0].bar""#,
        r#"unknown field "Spec""#,
    ];
    assert_eq!(decoded.faults, faults);
    let value = json!({
        "metadata": {"labels": {"a": "2"}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "b"}]}}},
    });
    assert_eq!(decoded.value, value);
}

#[test]
fn an_object_that_is_there_twice_is_both() {
    let body = r#"{"metadata":{"name":"a","labels":{"a":"b"}},"metadata":{"labels":{"c":"d"}}}"#;
    let decoded = decode_as(Media::Json, "Deployment", body).unwrap();
    assert_eq!(decoded.faults, [r#"duplicate field "metadata""#]);
    let labels = json!({"a": "b", "c": "d"});
    assert_eq!(
        decoded.value,
        json!({"metadata": {"name": "a", "labels": labels}})
    );
}

#[test]
fn a_field_that_is_null_twice_is_there_twice() {
    let decoded = decode_as(Media::Json, "Deployment", r#"{"spec":null,"spec":null}"#).unwrap();
    assert_eq!(decoded.faults, [r#"duplicate field "spec""#]);
}

#[test]
fn no_more_than_a_hundred_faults_are_reported() {
    let fields: Vec<String> = (0..150).map(|number| format!("\"x{number}\":1")).collect();
    let body = format!("{{{}}}", fields.join(","));
    assert_eq!(
        decode_as(Media::Json, "Deployment", &body)
            .unwrap()
            .faults
            .len(),
        100
    );
}

#[test]
fn nulls_are_dropped_or_stand_for_nothing() {
    let value = json_value(
        "Deployment",
        r#"{"metadata":{"labels":{"a":null},"creationTimestamp":null},"status":null,
            "spec":{"replicas":null,"template":{"spec":{"containers":[null,{"args":[null]}]}}}}"#,
    );
    let containers = json!([{}, {"args": [""]}]);
    let kept = json!({"metadata": {"labels": {"a": ""}}, "spec": {"template": {"spec": {"containers": containers}}}});
    assert_eq!(value, kept);
    assert_eq!(json_value("Deployment", "null"), json!({}));
}

#[test]
fn what_the_schema_leaves_open_is_kept_as_it_is() {
    let body = r#"{"data":{"a":1,"a":2,"b":null,"c":[1.0,12345678901234567890]},"revision":1}"#;
    let kept: Value = serde_json::from_str(body).unwrap();
    assert_eq!(json_value("ControllerRevision", body), kept);
    let body = r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"default":{"x":null},"items":[{"type":"a"}]}}}]}}"#;
    let kept: Value = serde_json::from_str(body).unwrap();
    assert_eq!(json_value("CustomResourceDefinition", body), kept);
}

#[test]
fn without_a_schema_everything_is_kept_and_duplicates_are_reported() {
    let body = r#"{"spec":{"a":[{"b":1,"b":null}]},"x":1}"#;
    let decoded = decode(Media::Json, body.as_bytes(), Schemas::builtin(), None).unwrap();
    assert_eq!(decoded.faults, [r#"duplicate field "spec.a[0].b""#]);
    assert_eq!(decoded.value, json!({"spec": {"a": [{"b": null}]}, "x": 1}));
}

#[test]
fn amounts_may_be_numbers_and_ports_may_be_either() {
    let value = json_value(
        "Pod",
        r#"{"spec":{"containers":[{"resources":{"limits":{"a":1,"b":1.5,"c":" 1Gi","d":1e3,"e":null}},
            "livenessProbe":{"httpGet":{"port":80}},"readinessProbe":{"httpGet":{"port":"http"}}}]}}"#,
    );
    let container = &value["spec"]["containers"][0];
    let limits = json!({"a": "1", "b": "1.5", "c": "1Gi", "d": "1e3", "e": "0"});
    assert_eq!(container["resources"]["limits"], limits);
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], 80);
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], "http");
    for value in ["\"x\"", "true", "{}"] {
        let body = format!(r#"{{"spec":{{"overhead":{{"a":{value}}}}}}}"#);
        refused("Pod", &body, quantity::FORM);
    }
}

#[test]
fn times_are_checked_and_kept_as_upstream_writes_them() {
    let value = json_value(
        "Pod",
        r#"{"metadata":{"creationTimestamp":"2024-02-20T23:00:00.5+02:00"}}"#,
    );
    assert_eq!(
        value["metadata"]["creationTimestamp"],
        "2024-02-20T21:00:00Z"
    );
    let value = json_value(
        "Lease",
        r#"{"spec":{"renewTime":"2024-02-20T23:00:00.123456Z"}}"#,
    );
    assert_eq!(value["spec"]["renewTime"], "2024-02-20T23:00:00.123456Z");
    refused(
        "Lease",
        r#"{"spec":{"renewTime":"2024-02-20T23:00:00Z"}}"#,
        r#"parsing time "2024-02-20T23:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
    );
}

#[test]
fn bytes_must_be_base64_as_go_reads_it() {
    let value = json_value(
        "Secret",
        "{\"data\":{\"a\":\"YQ==\\n\",\"b\":\"YR==\",\"c\":\"\",\"d\":null}}",
    );
    assert_eq!(
        value["data"],
        json!({"a": "YQ==", "b": "YQ==", "c": "", "d": ""})
    );
    for (text, place) in [
        ("!", 0),
        ("YQ", 0),
        ("YQ=x", 2),
        ("YWJj YWJj", 4),
        ("YQ==YQ==", 4),
        ("YWJjY", 4),
        ("YWJjYQ=", 7),
        ("YWJjYQ===", 8),
    ] {
        let body = json!({"data": {"a": text}}).to_string();
        refused(
            "Secret",
            &body,
            &format!("illegal base64 data at input byte {place}"),
        );
    }
}

#[test]
fn text_is_read_as_go_reads_it() {
    let body = b"{\"metadata\":{\"annotations\":{\"\\u0061\":\"\\ud83d\\ude00\\n\",\"b\":\"\\ud800x\",\"c\":\"\xff\"}}}";
    let decoded = decode(
        Media::Json,
        body,
        Schemas::builtin(),
        Some(definition("Pod")),
    )
    .unwrap();
    let annotations = json!({"a": "😀\n", "b": "\u{fffd}x", "c": "\u{fffd}"});
    assert_eq!(decoded.value["metadata"]["annotations"], annotations);
}

#[test]
fn what_is_too_deep_is_refused_in_every_format() {
    let depth = 100_000;
    let body = "[".repeat(depth) + &"]".repeat(depth);
    let text = message(decode(
        Media::Json,
        body.as_bytes(),
        Schemas::builtin(),
        None,
    ));
    assert!(
        text.contains("invalid character '[' exceeded max depth"),
        "{text}"
    );
    let unknown = format!("{{\"x\":{body}}}");
    assert!(decode_as(Media::Json, "Pod", &unknown).is_err());
    assert!(decode(Media::Yaml, body.as_bytes(), Schemas::builtin(), None).is_err());
    let fits = "[".repeat(DEPTH_LIMIT) + &"]".repeat(DEPTH_LIMIT);
    for media in [Media::Json, Media::Yaml] {
        assert!(decode(media, fits.as_bytes(), Schemas::builtin(), None).is_ok());
    }
    let mut deep = json!(1);
    for _ in 0..DEPTH_LIMIT {
        deep = json!({ "a": deep });
    }
    let revision = json!({ "data": deep });
    assert!(
        conform(
            revision,
            Schemas::builtin(),
            definition("ControllerRevision")
        )
        .is_err()
    );
}

#[test]
fn a_tree_is_held_against_the_schema_as_text_is() {
    let tree = json!({
        "metadata": {"labels": {"a": null}, "x": 1},
        "spec": {"replicas": null, "template": {"spec": {"containers": [null, {"foo": 1}], "overhead": {"cpu": 1}}}},
    });
    let decoded = conform(tree, Schemas::builtin(), definition("Deployment")).unwrap();
    let faults = [
        r#"unknown field "metadata.x""#,
        r#"unknown field "spec.template.spec.containers[1].foo""#,
    ];
    assert_eq!(decoded.faults, faults);
    let spec = json!({"containers": [{}, {}], "overhead": {"cpu": "1"}});
    let kept = json!({"metadata": {"labels": {"a": ""}}, "spec": {"template": {"spec": spec}}});
    assert_eq!(decoded.value, kept);
}

#[test]
fn yaml_has_the_booleans_and_numbers_of_version_1_1() {
    for (text, value) in [
        ("y", json!(true)),
        ("Yes", json!(true)),
        ("ON", json!(true)),
        ("TRUE", json!(true)),
        ("n", json!(false)),
        ("off", json!(false)),
        ("oN", json!("oN")),
        ("tRUE", json!("tRUE")),
        ("'yes'", json!("yes")),
        ("~", json!(null)),
        ("NULL", json!(null)),
        ("nULL", json!("nULL")),
        ("0777", json!(511)),
        ("0o17", json!(15)),
        ("-017", json!(-15)),
        ("08", json!(8)),
        ("0o8", json!("0o8")),
        ("0x1_0", json!(16)),
        ("+0x10", json!(16)),
        ("0b11", json!(3)),
        ("-0b11", json!(-3)),
        ("0b102", json!("0b102")),
        ("1_000", json!(1000)),
        ("_1", json!("_1")),
        ("1.0", json!(1)),
        ("1e3", json!(1000)),
        ("1.10", json!(1.1)),
        ("-.5", json!(-0.5)),
        ("1.", json!(1)),
        ("1e", json!("1e")),
        ("0x", json!("0x")),
        ("1:30", json!("1:30")),
        (
            "12345678901234567890",
            json!(12_345_678_901_234_567_890_u64),
        ),
        ("-9223372036854775808", json!(i64::MIN)),
        ("2024-01-01", json!("2024-01-01")),
        ("!!str 5", json!("5")),
        ("!!int \"5\"", json!(5)),
        ("!!float 3", json!(3)),
        ("!!binary aGVsbG8=", json!("hello")),
        ("!foo b", json!("b")),
        ("=", json!("=")),
        ("|\n  foo\n", json!("foo\n")),
    ] {
        assert_eq!(yaml_value(&format!("a: {text}"))["a"], value, "{text}");
    }
}

#[test]
fn keys_of_yaml_become_text() {
    let value = yaml_value("{y: 1, n: 2, 0x10: 3, 1.0: 4, \"on\": 5, 1.5: 6}");
    let kept = json!({"true": 1, "false": 2, "16": 3, "1": 4, "on": 5, "1.5": 6});
    assert_eq!(value, kept);
    for body in ["~: a", "[a]: b", "{a: b}: c"] {
        assert!(
            decode(Media::Yaml, body.as_bytes(), Schemas::builtin(), None).is_err(),
            "{body}"
        );
    }
}

#[test]
fn keys_that_yaml_has_twice_are_one_fault_before_the_others() {
    let body = "spec:\n  foo: 1\n  replicas: 3\n  replicas: 4\nmetadata:\n  labels:\n    a: b\n    a: c\n5: 1\n5: 2\n\"5\": 3\n";
    let decoded = decode_as(Media::Yaml, "Deployment", body).unwrap();
    let faults = [
        "yaml: unmarshal errors:\n  line 4: key \"replicas\" already set in map\n  line 8: key \"a\" already set in map\n  line 10: key 5 already set in map",
        r#"unknown field "5""#,
        r#"unknown field "spec.foo""#,
    ];
    assert_eq!(decoded.faults, faults);
    assert_eq!(
        decoded.value,
        json!({"metadata": {"labels": {"a": "c"}}, "spec": {"replicas": 4}})
    );
}

#[test]
fn aliases_and_merges_stand_for_what_they_name() {
    let value = yaml_value(
        "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, z: 3}\nd: {<<: [{p: 1}, {p: 2, q: 3}]}\n",
    );
    assert_eq!(value["b"], json!({"x": 1, "true": 2}));
    assert_eq!(value["c"], json!({"x": 1, "true": 2, "z": 3}));
    assert_eq!(value["d"], json!({"p": 1, "q": 3}));
    for (body, why) in [
        ("a: *x", "unknown anchor"),
        ("a: &a [*a]", "contains itself"),
        (
            "a: {<<: x}",
            "map merge requires map or sequence of maps as the value",
        ),
    ] {
        let text = message(decode(
            Media::Yaml,
            body.as_bytes(),
            Schemas::builtin(),
            None,
        ));
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn aliases_cannot_stand_for_more_than_memory_holds() {
    let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [alias.as_str(); 9].join(", ")
        ));
    }
    let text = message(decode(
        Media::Yaml,
        bomb.as_bytes(),
        Schemas::builtin(),
        None,
    ));
    assert!(
        text.contains("document contains excessive aliasing"),
        "{text}"
    );
    let mut deep = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let text = message(decode(
        Media::Yaml,
        deep.as_bytes(),
        Schemas::builtin(),
        None,
    ));
    assert!(text.contains("exceeded max depth"), "{text}");
}

#[test]
fn many_keys_take_no_longer_than_a_moment() {
    let keys = |write: fn(u32) -> String| (0..200_000).map(write).collect::<Vec<_>>().join(",");
    let labels = keys(|number| format!("\"{number}\":\"\""));
    let body = format!(r#"{{"metadata":{{"labels":{{"a":""}},"labels":{{{labels}}}}}}}"#);
    let start = std::time::Instant::now();
    let decoded = decode_as(Media::Json, "Pod", &body).unwrap();
    assert_eq!(decoded.faults, [r#"duplicate field "metadata.labels""#]);
    let body = format!(
        "{{{},{}}}",
        keys(|number| format!("{number}: a")),
        keys(|number| format!("\"{number}\": b"))
    );
    let decoded = decode(Media::Yaml, body.as_bytes(), Schemas::builtin(), None).unwrap();
    assert_eq!(decoded.faults, Vec::<String>::new());
    // Seconds would be enough on any machine; a time that grows with the square of the keys is minutes.
    assert!(start.elapsed().as_secs() < 30);
}

#[test]
fn only_the_first_document_of_yaml_is_read() {
    assert_eq!(yaml_value("a: 1\n---\nb: ["), json!({"a": 1}));
    assert_eq!(yaml_value("---\n---\nb: 1"), json!(null));
    let decoded = decode_as(Media::Yaml, "Deployment", "# nothing\n").unwrap();
    assert_eq!(decoded.value, json!({}));
}

#[test]
fn yaml_is_held_against_the_schema_too() {
    let text = message(decode_as(
        Media::Yaml,
        "Deployment",
        "metadata: {annotations: {a: yes}}",
    ));
    assert_eq!(
        text,
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal bool into Go struct \
         field ObjectMeta.metadata.annotations of type string"
    );
    let text = message(decode_as(Media::Yaml, "Deployment", "a: .inf"));
    assert_eq!(
        text,
        "the object provided is unrecognized (must be of type Deployment): json: unsupported value: +Inf \
         (613a202e696e66)"
    );
    let text = message(decode_as(Media::Yaml, "Deployment", "- a"));
    assert!(
        text.contains("cannot unmarshal array into Go value of type struct {"),
        "{text}"
    );
}
