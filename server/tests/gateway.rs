//! The JSON gateway on a running node, path by path, and the same requests to the real etcd.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node::http::{Answer, call, chunk, get, head, open, post};
use node::real::Etcd;
use node::{Node, free_port};
use serde_json::{Value, json};
use server::etcd::unimplemented::NOT_BUILT;
use sha2::{Digest as _, Sha256};
use store::bolt::read::Database;

fn start(flags: &[&str]) -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start_with(&folder.path().join("data"), flags);
    (folder, node)
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// The body without its header; it must have succeeded.
fn result(node: &Node, path: &str, request: &Value) -> Value {
    let answer = post(&node.endpoint, path, &request.to_string());
    assert_eq!(answer.status, 200, "{path} {request}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let mut body = body(&answer);
    let header = body.as_object_mut().unwrap().remove("header").unwrap();
    assert!(header["cluster_id"].is_string(), "{header}");
    body
}

fn refusal(node: &Node, path: &str, request: &str) -> (u16, i64, String) {
    let answer = post(&node.endpoint, path, request);
    refused(&answer, &body(&answer))
}

/// The same of a call that streams: the error is its only line.
fn stream_refusal(node: &Node, path: &str, request: &str) -> (u16, i64, String) {
    let answer = post(&node.endpoint, path, request);
    assert_eq!(answer.body.find('\n'), Some(answer.body.len() - 1));
    let body = body(&answer);
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    refused(&answer, &body["error"])
}

fn refused(answer: &Answer, error: &Value) -> (u16, i64, String) {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
    let text = error["message"].as_str().unwrap().to_owned();
    (answer.status, error["code"].as_i64().unwrap(), text)
}

#[test]
fn every_call_that_is_built_answers_in_json() {
    let (_folder, node) = start(&[]);
    let (a, b) = (base64("a"), base64("b"));
    assert_eq!(
        result(
            &node,
            "/v3/kv/put",
            &json!({"key": a, "value": base64("1")})
        ),
        json!({})
    );
    assert_eq!(
        result(
            &node,
            "/v3/kv/put",
            &json!({"key": a, "value": base64("2"), "prev_kv": true})
        ),
        json!({"prev_kv": {
            "key": a, "create_revision": "2", "mod_revision": "2", "version": "1",
            "value": base64("1"),
        }})
    );
    assert_eq!(
        result(&node, "/v3/kv/range", &json!({"key": a})),
        json!({"count": "1", "kvs": [{
            "key": a, "create_revision": "2", "mod_revision": "3", "version": "2",
            "value": base64("2"),
        }]})
    );
    assert_eq!(
        result(&node, "/v3beta/kv/range", &json!({"key": b})),
        json!({})
    );
    let txn = json!({
        "compare": [{"key": a, "target": "VERSION", "result": "EQUAL", "version": "2"}],
        "success": [
            {"request_put": {"key": b, "value": base64("x")}},
            {"request_txn": {"failure": [], "success": [{"request_range": {"key": b}}]}},
            {"request_delete_range": {"key": a, "prev_kv": true}},
        ],
    });
    let answer = result(&node, "/v3/kv/txn", &txn);
    assert_eq!(answer["succeeded"], true);
    assert_eq!(
        answer["responses"][1]["response_txn"]["responses"][0]["response_range"]["kvs"][0]["value"],
        base64("x")
    );
    assert_eq!(
        answer["responses"][2]["response_delete_range"]["deleted"],
        "1"
    );
    assert_eq!(
        result(
            &node,
            "/v3/kv/deleterange",
            &json!({"key": b, "range_end": "AA=="})
        ),
        json!({"deleted": "1"})
    );
    assert_eq!(
        result(
            &node,
            "/v3/kv/compaction",
            &json!({"revision": "3", "physical": true})
        ),
        json!({})
    );
    let status = result(&node, "/v3/maintenance/status", &json!({}));
    assert!(
        status["dbSize"].is_string() && status["leader"].is_string(),
        "{status}"
    );
    assert_eq!(
        result(&node, "/v3/maintenance/alarm", &json!({})),
        json!({})
    );
    let members = result(
        &node,
        "/v3/cluster/member/list",
        &json!({"linearizable": true}),
    );
    assert_eq!(
        members["members"][0]["clientURLs"],
        json!([format!("http://{}", node.endpoint)])
    );
}

#[test]
fn a_call_that_is_not_built_yet_says_so() {
    let (_folder, node) = start(&[]);
    let paths = [
        ("/v3/auth/user/add", "/etcdserverpb.Auth/UserAdd"),
        ("/v3/auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ];
    let check = |path: &str, call: &str, refusal: fn(&Node, &str, &str) -> (u16, i64, String)| {
        if NOT_BUILT.contains(&call) {
            let name = call.rsplit('/').next().unwrap();
            assert_eq!(
                refusal(&node, path, "{}"),
                (501, 12, format!("holdfast: {name} is not built yet"))
            );
        }
    };
    for (path, call) in paths {
        check(path, call, refusal);
    }
}

#[test]
fn limits_and_deadlines_are_those_of_grpc() {
    let (_folder, node) = start(&["--max-request-bytes=10000", "--max-txn-ops=2"]);
    let put = |bytes: usize| json!({"key": "YQ==", "value": base64(vec![0; bytes])}).to_string();
    let put_path = "/v3/kv/put";
    assert_eq!(post(&node.endpoint, put_path, &put(9_900)).status, 200);
    let too_large = "etcdserver: request is too large".to_owned();
    assert_eq!(refusal(&node, put_path, &put(10_000)), (400, 3, too_large));
    let (status, code, text) = refusal(&node, put_path, &put(600_000));
    assert_eq!((status, code), (429, 8));
    assert!(
        text.starts_with("grpc: received message larger than max"),
        "{text}"
    );
    let (status, code, _) = refusal(&node, put_path, &" ".repeat(1_100_000));
    assert_eq!(
        (status, code),
        (429, 8),
        "JSON is bounded before it is read"
    );
    let op = r#"{"request_range":{"key":"YQ=="}}"#;
    let txn = format!(r#"{{"success":[{op},{op},{op}]}}"#);
    let text = "etcdserver: too many operations in txn request".to_owned();
    assert_eq!(refusal(&node, "/v3/kv/txn", &txn), (400, 3, text));
    let nested = r#"{"success":[{"request_txn":"#.repeat(20_000);
    assert_eq!(refusal(&node, "/v3/kv/txn", &nested).0, 400);

    let timed = |timeout| {
        let headers = [("Grpc-Timeout", timeout)];
        let answer = call(
            &node.endpoint,
            "POST",
            "/v3/kv/range",
            &headers,
            r#"{"key":"YQ=="}"#,
        );
        (answer.status, answer.body)
    };
    assert_eq!(timed("5S").0, 200);
    assert_eq!(
        timed("soon"),
        (
            400,
            r#"{"code":3,"message":"invalid grpc-timeout: soon"}"#.to_owned()
        )
    );
}

#[test]
fn alarms_refuse_writes_with_etcds_codes() {
    let (_folder, node) = start(&[]);
    let put = r#"{"key":"YQ=="}"#;
    for (name, code, text) in [
        (
            "NOSPACE",
            (429, 8),
            "etcdserver: mvcc: database space exceeded",
        ),
        ("CORRUPT", (500, 15), "etcdserver: corrupt cluster"),
    ] {
        let alarm = |action: &str| {
            let request = json!({"action": action, "memberID": "7", "alarm": name});
            result(&node, "/v3/maintenance/alarm", &request)
        };
        let raised = json!({"alarms": [{"memberID": "7", "alarm": name}]});
        assert_eq!(alarm("ACTIVATE"), raised);
        assert_eq!(alarm("GET"), raised);
        let refusal = refusal(&node, "/v3/kv/put", put);
        assert_eq!(refusal, (code.0, code.1, text.to_owned()));
        assert_eq!(alarm("DEACTIVATE"), raised);
        assert_eq!(post(&node.endpoint, "/v3/kv/put", put).status, 200);
    }
}

#[test]
fn a_snapshot_is_a_database_of_etcd_in_lines() {
    let (_folder, node) = start(&[]);
    let value = base64(vec![7; 100_000]);
    result(
        &node,
        "/v3/kv/put",
        &json!({"key": base64("a"), "value": value}),
    );
    let answer = post(&node.endpoint, "/v3/maintenance/snapshot", "{}");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let (mut file, mut left) = (Vec::new(), Vec::new());
    for line in answer.body.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let message = &line["result"];
        assert_eq!(message["version"], "3.7.0", "{line}");
        file.extend(STANDARD.decode(message["blob"].as_str().unwrap()).unwrap());
        let bytes = message["remaining_bytes"].as_str().unwrap_or("0");
        left.push(bytes.parse::<u64>().unwrap());
    }
    assert!(left.len() > 3 && left.is_sorted_by(|before, after| before >= after));
    assert_eq!(left.last(), Some(&0));
    // The last message is the digest of all before it.
    let (file, digest) = file.split_at(file.len() - 32);
    assert_eq!(digest, &Sha256::digest(file)[..]);
    let database = Database::open(&file).unwrap();
    let keys = database.bucket(b"key").unwrap().unwrap();
    let mut seen = database.seen();
    let mut items = keys.items(&mut seen);
    assert!(items.next().unwrap().unwrap().value.len() > 100_000);
    assert!(items.next().unwrap().is_none());
}

#[test]
fn a_deadline_ends_every_call() {
    let (_folder, node) = start(&[]);
    let timed = |path: &str, timeout: &str, request: &str| {
        let headers = [("Grpc-Timeout", timeout)];
        let answer = call(&node.endpoint, "POST", path, &headers, request);
        (answer.status, answer.body)
    };
    let late = r#"{"code":4,"message":"context deadline exceeded"}"#;
    for name in ["status", "hash", "hashkv", "defragment"] {
        let path = format!("/v3/maintenance/{name}");
        assert_eq!(timed(&path, "1n", "{}"), (504, late.to_owned()), "{name}");
        assert_eq!(timed(&path, "20S", "{}").0, 200, "{name}");
    }
    // It has not even begun.
    let put = r#"{"key":"YQ=="}"#;
    assert_eq!(timed("/v3/kv/put", "1n", put), (504, late.to_owned()));
    assert_eq!(
        result(&node, "/v3/kv/range", &json!({"key": "YQ=="})),
        json!({})
    );

    let late = format!("{{\"error\":{late}}}\n");
    let snapshot = "/v3/maintenance/snapshot";
    assert_eq!(timed(snapshot, "1n", "{}"), (504, late.clone()));
    // A watch of nothing has nothing to say.
    assert_eq!(timed("/v3/watch", "200m", ""), (504, late.clone()));
    let (status, lines) = timed("/v3/watch", "500m", r#"{"create_request":{"key":"YQ=="}}"#);
    let (created, rest) = lines.split_once('\n').unwrap();
    assert!(created.contains("\"created\":true"), "{lines}");
    assert_eq!((status, rest), (200, late.as_str()));
}

#[test]
fn a_watch_is_a_line_for_each_response() {
    let (_folder, node) = start(&[]);
    post(
        &node.endpoint,
        "/v3/kv/put",
        r#"{"key":"YQ==","value":"MQ=="}"#,
    );
    let mut stream = std::net::TcpStream::connect(&node.endpoint).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "POST /v3/watch HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        node.endpoint
    )
    .unwrap();
    // In two chunks, neither of which is a JSON value.
    let (first, second) = r#"{"create_request":{"key":"YQ==","start_revision":2}}"#.split_at(7);
    for part in [first, second] {
        write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
    }
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let (status, headers) = head(&mut reader);
    assert_eq!(status, 200, "{headers:?}");
    let mut unread = String::new();
    let mut next = || loop {
        if let Some((line, rest)) = unread.split_once('\n') {
            let line: Value = serde_json::from_str(line).unwrap();
            unread = rest.to_owned();
            return line["result"].clone();
        }
        unread += &chunk(&mut reader).expect("a watch does not end");
    };
    assert_eq!(next()["created"], true);
    assert_eq!(next()["events"][0]["kv"]["value"], "MQ==");
    post(&node.endpoint, "/v3/kv/deleterange", r#"{"key":"YQ=="}"#);
    let deleted = next();
    assert_eq!(deleted["events"][0]["type"], "DELETE", "{deleted}");
    assert_eq!(
        deleted["events"][0]["kv"],
        json!({"key": "YQ==", "mod_revision": "3"})
    );
    let cancel = r#"{"cancel_request":{}}"#;
    write!(stream, "{:x}\r\n{cancel}\r\n", cancel.len()).unwrap();
    let mut next = || {
        let line: Value = serde_json::from_str(&chunk(&mut reader).unwrap()).unwrap();
        line
    };
    assert_eq!(next()["result"]["canceled"], true);
    write!(stream, "3\r\n[1]\r\n").unwrap();
    let last = next();
    assert_eq!(last["error"]["code"], 3, "{last}");
    assert_eq!(chunk(&mut reader), None, "it ends with the complaint");
}

#[test]
fn a_watch_request_that_is_none_is_refused_at_once() {
    let (_folder, node) = start(&[]);
    for request in ["[]", r#"{"create_request":5}"#, r#"{"create_request":"#] {
        let (status, code, _) = stream_refusal(&node, "/v3/watch", request);
        assert_eq!((status, code), (400, 3), "{request}");
    }
    // A stream whose one request is not even sent is none yet.
    let (status, code, _) = refusal(&node, "/v3/maintenance/snapshot", "[]");
    assert_eq!((status, code), (400, 3));
}

#[test]
fn a_list_of_many_pieces_is_one_object() {
    let (_folder, node) = start(&[]);
    let value = base64(vec![b'v'; 10_000]);
    for number in 0..60 {
        let request = json!({"key": base64(format!("k{number:02}")), "value": value});
        result(&node, "/v3/kv/put", &request);
    }
    let answer = result(
        &node,
        "/v3/kv/range",
        &json!({"key": "AA==", "range_end": "AA=="}),
    );
    let pairs = answer["kvs"].as_array().unwrap();
    assert_eq!(pairs.len(), 60);
    for (number, pair) in pairs.iter().enumerate() {
        assert_eq!(pair["key"], base64(format!("k{number:02}")));
        assert_eq!(pair["value"], value);
    }
    assert_eq!(answer["count"], "60");
}

#[tokio::test]
async fn http2_without_grpc_reaches_the_gateway_too() {
    let (_folder, node) = start(&[]);
    let stream = tokio::net::TcpStream::connect(&node.endpoint)
        .await
        .unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/v3/kv/put", node.endpoint))
        .body(Full::new(Bytes::from_static(br#"{"key":"YQ=="}"#)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["header"]["revision"], "2");
    connection.abort();
}

#[test]
fn it_is_served_where_http_is_and_not_where_metrics_are() {
    let [http, metrics] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let (_folder, node) = start(&[
        &format!("--listen-client-http-urls=http://{http}"),
        &format!("--listen-metrics-urls=http://{metrics}"),
    ]);
    let put = r#"{"key":"YQ=="}"#;
    assert_eq!(post(&http, "/v3/kv/put", put).status, 200);
    assert_eq!(post(&metrics, "/v3/kv/put", put).status, 404);
    let cors = "access-control-allow-origin";
    assert_eq!(get(&metrics, "/health").header(cors), None);
    assert_eq!(get(&node.endpoint, "/health").header(cors), Some("*"));
}

#[test]
fn it_can_be_turned_off() {
    let (_folder, node) = start(&["--enable-grpc-gateway=false"]);
    let answer = post(&node.endpoint, "/v3/kv/range", r#"{"key":"YQ=="}"#);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "404 page not found\n")
    );
}

#[test]
fn origins_and_host_names_can_be_restricted() {
    let (_folder, node) = start(&["--cors=http://a.example", "--host-whitelist=b.example"]);
    let asked = |method: &str, host: &str, origin: &str| {
        let headers = [("host", host), ("origin", origin)];
        call(
            &node.endpoint,
            method,
            "/v3/kv/range",
            &headers,
            r#"{"key":"YQ=="}"#,
        )
    };
    let cors = "access-control-allow-origin";
    let answer = asked("POST", "b.example:2379", "http://a.example");
    assert_eq!(
        (answer.status, answer.header(cors)),
        (200, Some("http://a.example"))
    );
    let answer = asked("OPTIONS", "b.example", "http://evil.example");
    assert_eq!((answer.status, answer.header(cors)), (200, None));
    let answer = asked("POST", "evil.example", "http://a.example");
    assert_eq!((answer.status, answer.header(cors)), (421, None));
    assert!(
        answer.body.contains("--host-whitelist=evil.example"),
        "{answer:?}"
    );
}

/// What cannot be the same on two servers, as the fields of JSON that hold it.
const OWN: [&str; 14] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "leader",
    "ID",
    "version\":\"3",
    "dbSize",
    "dbSizeInUse",
    "peerURLs",
    "clientURLs",
    "hash\":",
];

/// The JSON without blanks (protojson adds some at random) and without what is each server's own.
fn normal(json: &str) -> String {
    let mut compact = String::new();
    let (mut is_text, mut is_escaped) = (false, false);
    for letter in json.chars() {
        is_escaped = is_text && !is_escaped && letter == '\\';
        if letter == '"' && !compact.ends_with('\\') {
            is_text = !is_text;
        }
        // Go's own texts have blanks that change from build to build.
        if is_text || !letter.is_whitespace() {
            compact.push(if letter == '\u{a0}' { ' ' } else { letter });
        }
    }
    for name in OWN {
        let start = format!("\"{name}");
        let mut from = 0;
        while let Some(found) = compact[from..].find(&start) {
            let at = from + found + start.len();
            let end = compact[at..]
                .find([',', '}'])
                .map_or(compact.len(), |end| at + end);
            compact.replace_range(at..end, "_");
            from = at;
        }
    }
    sort_members(&mut compact);
    compact
}

/// Members come by id, and ids are other ones with each start.
fn sort_members(compact: &mut String) {
    const LIST: &str = "\"members\":[";
    if let Some(start) = compact.find(LIST).map(|at| at + LIST.len())
        && let Some(end) = compact[start..].find(']').map(|len| start + len)
    {
        let mut members: Vec<_> = compact[start..end].split("},").collect();
        members
            .iter_mut()
            .for_each(|one| *one = one.trim_end_matches('}'));
        members.sort_unstable();
        let sorted = members.join("},") + "}";
        compact.replace_range(start..end, &sorted);
    }
}

/// What of the headers is about content and not about the connection.
fn telling(answer: &Answer) -> Vec<&(String, String)> {
    let ignored = ["date", "content-length", "transfer-encoding", "connection"];
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !ignored.contains(&name.as_str()))
        .collect();
    headers.sort();
    headers
}

fn is_not_built(answer: &Answer) -> bool {
    answer.status == 501 && answer.body.contains("is not built yet")
}

#[test]
fn the_real_etcd_answers_the_same() {
    node::real::check_version();
    let etcd = Etcd::start();
    let (_folder, node) = start(&[]);
    let (a, b, c) = (base64("a"), base64("b"), base64("c"));
    let table: Vec<(&str, String)> = [
        ("kv/put", json!({"key": a, "value": base64("1")})),
        ("kv/put", json!({"key": a, "value": base64("<&>"), "prev_kv": true})),
        ("kv/put", json!({"key": b})),
        ("kv/put", json!({"key": c, "value": base64([0, 255, 254])})),
        ("kv/put", json!({"value": b})),
        ("kv/put", json!({"key": a, "value": a, "ignore_value": true})),
        ("kv/put", json!({"key": base64("none"), "ignore_value": true})),
        ("kv/put", json!({"key": a, "lease": "77"})),
        ("kv/put", json!({"key": a, "ignore_lease": true, "lease": 1})),
        ("kv/range", json!({"key": a})),
        ("kv/range", json!({"key": "AA==", "range_end": "AA=="})),
        ("kv/range", json!({"key": "AA", "rangeEnd": "AA", "limit": 1})),
        ("kv/range", json!({"key": "AA", "rangeEnd": "AA", "limit": "2", "sort_order": "DESCEND", "sort_target": "MOD"})),
        ("kv/range", json!({"key": "AA", "rangeEnd": "AA", "count_only": true})),
        ("kv/range", json!({"key": "AA", "rangeEnd": "AA", "keys_only": true, "serializable": true})),
        ("kv/range", json!({"key": "AA", "rangeEnd": "AA", "min_mod_revision": 3, "max_create_revision": "4"})),
        ("kv/range", json!({"key": a, "revision": 2})),
        ("kv/range", json!({"key": a, "revision": "999"})),
        ("kv/range", json!({"key": a, "sort_order": 9})),
        ("kv/range", json!({"key": a, "sort_order": "WHAT", "unknown": {"x": [1]}})),
        ("kv/txn", json!({})),
        ("kv/txn", json!({
            "compare": [
                {"key": a, "target": "VALUE", "result": "NOT_EQUAL", "value": b},
                {"key": a, "target": "VERSION", "result": "GREATER", "version": "0"},
                {"key": a, "target": "CREATE", "result": "EQUAL", "create_revision": "2"},
                {"key": a, "target": "MOD", "result": "LESS", "mod_revision": 100},
                {"key": a, "target": "LEASE", "lease": 0, "range_end": b},
            ],
            "success": [
                {"request_put": {"key": b, "value": a, "prev_kv": true}},
                {"request_range": {"key": b}},
                {"request_delete_range": {"key": c, "prev_kv": true}},
                {"request_txn": {"compare": [{"key": b, "version": "9"}], "failure": [{"request_range": {"key": a, "keys_only": true}}]}},
            ],
        })),
        ("kv/txn", json!({"compare": [{"key": a, "version": 99}], "success": [{"request_put": {"key": a}}]})),
        ("kv/txn", json!({"success": [{"request_put": {"key": a}}, {"request_put": {"key": a}}]})),
        ("kv/txn", json!({"success": [{}]})),
        ("kv/txn", json!({"success": [{"request_put": {"key": a, "lease": 5}}]})),
        ("kv/txn", json!({"success": vec![json!({"request_range": {"key": a}}); 129]})),
        ("kv/deleterange", json!({"key": a, "prev_kv": true})),
        ("kv/deleterange", json!({"key": a})),
        ("kv/deleterange", json!({})),
        ("kv/compaction", json!({"revision": 4})),
        ("kv/compaction", json!({"revision": "4", "physical": true})),
        ("kv/compaction", json!({"revision": "400"})),
        ("kv/range", json!({"key": a, "revision": 2})),
        ("maintenance/status", json!({})),
        ("maintenance/alarm", json!({})),
        ("maintenance/alarm", json!({"action": "GET", "alarm": "NOSPACE"})),
        ("maintenance/hash", json!({})),
        ("maintenance/hashkv", json!({})),
        ("maintenance/hashkv", json!({"revision": "5"})),
        ("maintenance/hashkv", json!({"revision": "500"})),
        ("maintenance/defragment", json!({})),
        ("cluster/member/list", json!({})),
        ("cluster/member/list", json!({"linearizable": true})),
        ("cluster/member/add", json!({})),
        ("cluster/member/add", json!({"peerURLs": ["http://127.0.0.1:1", "nonsense"]})),
        ("cluster/member/remove", json!({"ID": "7"})),
        ("cluster/member/update", json!({"ID": 7, "peerURLs": ["http://127.0.0.1:1"]})),
        ("cluster/member/promote", json!({"ID": "7"})),
        ("cluster/member/add", json!({"isLearner": true, "peerURLs": ["http://127.0.0.1:1"]})),
        // Another list, or within the same second it would be the same member.
        ("cluster/member/add", json!({"isLearner": true, "peerURLs": ["http://127.0.0.1:1", "http://127.0.0.1:2"]})),
        ("cluster/member/add", json!({"isLearner": true, "peerURLs": ["http://127.0.0.1:2"]})),
        ("maintenance/alarm", json!({"action": "ACTIVATE", "memberID": "7", "alarm": "NOSPACE"})),
        ("maintenance/alarm", json!({})),
        ("kv/put", json!({"key": a})),
        ("kv/range", json!({"key": a})),
        ("maintenance/alarm", json!({"action": "ACTIVATE", "memberID": 8, "alarm": "CORRUPT"})),
        ("maintenance/alarm", json!({"alarm": "CORRUPT"})),
        ("kv/put", json!({"key": a})),
        ("kv/deleterange", json!({"key": a})),
        ("maintenance/alarm", json!({"action": "DEACTIVATE", "memberID": "8", "alarm": "CORRUPT"})),
        ("maintenance/alarm", json!({"action": "DEACTIVATE", "memberID": "7", "alarm": "NOSPACE"})),
        ("maintenance/alarm", json!({"action": "DEACTIVATE", "memberID": "7", "alarm": "NOSPACE"})),
        ("lease/grant", json!({"ID": 7, "TTL": 1000})),
        ("lease/grant", json!({"ID": "7", "TTL": 1000})),
        ("lease/grant", json!({"ID": -8, "TTL": "-1"})),
        ("lease/grant", json!({"ID": 9, "TTL": 9_000_000_001_i64})),
        ("kv/put", json!({"key": a, "lease": 7})),
        ("kv/put", json!({"key": a, "lease": 6})),
        ("kv/range", json!({"key": a})),
        ("lease/revoke", json!({"ID": -8})),
        ("kv/lease/revoke", json!({"ID": -8})),
        ("lease/leases", json!({})),
        ("kv/lease/timetolive", json!({"ID": 99, "keys": true})),
        ("lease/keepalive", json!({"ID": 7})),
        ("lease/keepalive", json!({"ID": 99})),
        ("lock/lock", json!({"name": base64("l"), "lease": 12345})),
        ("lock/lock", json!({"name": base64("l"), "lease": 7})),
        ("lock/lock", json!({"name": base64("l"), "lease": 7})),
        ("lock/lock", json!({"lease": 7})),
        ("lock/unlock", json!({"key": base64("l/7")})),
        ("lock/unlock", json!({"key": base64("l/7")})),
        ("lock/unlock", json!({})),
        ("election/campaign", json!({"name": base64("e"), "lease": 12345, "value": b})),
        ("election/campaign", json!({"name": base64("e"), "lease": 7, "value": b})),
        ("election/campaign", json!({"name": base64("e"), "lease": 7, "value": c})),
        ("election/proclaim", json!({"value": b})),
        ("election/proclaim", json!({"leader": {"name": base64("e"), "key": base64("e/7"), "rev": 99, "lease": 7}})),
        ("election/leader", json!({"name": base64("e")})),
        ("election/leader", json!({"name": base64("nobody")})),
        ("election/resign", json!({})),
        ("election/resign", json!({"leader": {"name": base64("e"), "key": base64("e/7"), "rev": 99, "lease": 7}})),
        ("election/leader", json!({"name": base64("e")})),
        ("lease/revoke", json!({"ID": 7})),
        ("kv/range", json!({"key": a})),
        ("kv/nothing", json!({})),
        ("", json!({})),
        ("kv/range/", json!({"key": a})),
    ]
    .into_iter()
    .map(|(path, request)| (path, request.to_string()))
    .chain([
        ("kv/range", String::new()),
        ("kv/range", "  ".to_owned()),
        ("kv/range", format!(r#"{{"key":"{a}"}} and so on"#)),
        ("kv/range", format!(r#"{{"key":"{a}","limit":1.0,"revision":"0e3"}}"#)),
        ("kv/range", r#"{"key":"w7vD\n\nvw==\r\n"}"#.to_owned()),
        ("kv/range", r#"{"key":"w7-_","limit":-0}"#.to_owned()),
    ])
    .collect();
    let mut compared = 0;
    for (path, request) in &table {
        let path = format!("/v3/{path}");
        let ours = post(&node.endpoint, &path, request);
        let theirs = post(&etcd.endpoint, &path, request);
        if is_not_built(&ours) {
            continue;
        }
        compared += 1;
        assert_eq!(
            ours.status, theirs.status,
            "{path} {request}: {ours:?} {theirs:?}"
        );
        assert_eq!(normal(&ours.body), normal(&theirs.body), "{path} {request}");
        assert_eq!(telling(&ours), telling(&theirs), "{path} {request}");
    }
    assert!(compared > 40, "{compared}");

    // JSON that is none: etcd's parser and ours agree on what, not on the words.
    let malformed = [
        "[]",
        "null",
        "5",
        "{",
        r#"{"key":"Zm9"#,
        r#"{"key":5}"#,
        r#"{"key":"!"}"#,
        r#"{"key":"Zg="}"#,
        r#"{"key":"Zg\n=="}"#,
        r#"{"key":"Zg","key":"Zg"}"#,
        r#"{"range_end":"Zg","rangeEnd":"Zg"}"#,
        r#"{"limit":"x"}"#,
        r#"{"limit":" 1"}"#,
        r#"{"limit":"+1"}"#,
        r#"{"limit":"01"}"#,
        r#"{"limit":1.5}"#,
        r#"{"limit":9223372036854775808}"#,
        r#"{"limit":true}"#,
        r#"{"sort_order":true}"#,
        r#"{"sort_order":3000000000}"#,
        r#"{"serializable":"true"}"#,
        r#"{"key":["Zg"]}"#,
    ];
    let malformed = malformed.map(|request| ("/v3/kv/range", request));
    // Also of a call that streams its answer.
    for (path, request) in malformed
        .into_iter()
        .chain([("/v3/maintenance/snapshot", "[]")])
    {
        let ours = post(&node.endpoint, path, request);
        let theirs = post(&etcd.endpoint, path, request);
        assert_eq!(
            (ours.status, theirs.status),
            (400, 400),
            "{request}: {ours:?}"
        );
        assert_eq!(
            (&body(&ours)["code"], &body(&theirs)["code"]),
            (&json!(3), &json!(3))
        );
        assert_eq!(telling(&ours), telling(&theirs), "{request}");
    }

    // Other methods than POST, and what is not the gateway's.
    let plain = [
        ("GET", "/v3/kv/range"),
        ("PUT", "/v3/watch"),
        ("GET", "/v3/nothing"),
        ("OPTIONS", "/v3/kv/range"),
        ("OPTIONS", "/nothing"),
        ("POST", "/v3alpha/kv/range"),
        ("GET", "/nothing"),
    ];
    for (method, path) in plain {
        let ours = call(&node.endpoint, method, path, &[], "");
        let theirs = call(&etcd.endpoint, method, path, &[], "");
        assert_eq!(
            ours.status, theirs.status,
            "{method} {path}: {ours:?} {theirs:?}"
        );
        assert_eq!(normal(&ours.body), normal(&theirs.body), "{method} {path}");
        assert_eq!(telling(&ours), telling(&theirs), "{method} {path}");
    }

    // Deadlines, of streams too.
    let key = format!(r#"{{"create_request":{{"key":"{b}"}}}}"#);
    let timed = [
        ("maintenance/hashkv", "1n", "{}"),
        ("kv/put", "1n", "{}"),
        ("kv/range", "soon", "{}"),
        ("watch", "300m", ""),
        ("watch", "600m", &key),
    ];
    for (path, timeout, request) in timed {
        let path = format!("/v3/{path}");
        let [ours, theirs] = [&node.endpoint, &etcd.endpoint].map(|endpoint| {
            call(
                endpoint,
                "POST",
                &path,
                &[("Grpc-Timeout", timeout)],
                request,
            )
        });
        assert_eq!(
            ours.status, theirs.status,
            "{path} {timeout}: {ours:?} {theirs:?}"
        );
        // Of a stream etcd says one or the other: its own deadline and the reset that follows from it race.
        let reset = "stream terminated by RST_STREAM with error code: CANCEL";
        let theirs_body = normal(&theirs.body).replace(reset, "context deadline exceeded");
        assert_eq!(normal(&ours.body), theirs_body, "{path} {timeout}");
        assert_eq!(telling(&ours), telling(&theirs), "{path} {timeout}");
    }

    // A watch: the first three responses.
    let create =
        format!(r#"{{"create_request":{{"key":"{b}","start_revision":"5","prev_kv":true}}}}"#);
    let lines = |endpoint: &str| {
        let mut stream = open(endpoint, "POST", "/v3/watch", &[], &create);
        let timeout = Some(Duration::from_secs(20));
        stream.get_ref().set_read_timeout(timeout).unwrap();
        let (status, headers) = head(&mut stream);
        let mut text = String::new();
        for lines in [2, 3] {
            while text.lines().count() < lines {
                text += &chunk(&mut stream).unwrap();
            }
            let put = format!(r#"{{"key":"{b}","value":"{b}"}}"#);
            post(endpoint, "/v3/kv/put", &put);
        }
        let body = text.lines().map(normal).collect::<Vec<_>>().join("\n");
        let answer = Answer {
            status,
            headers,
            body,
        };
        (
            status,
            answer.body.clone(),
            telling(&answer).into_iter().cloned().collect::<Vec<_>>(),
        )
    };
    assert_eq!(lines(&node.endpoint), lines(&etcd.endpoint));

    // A snapshot: what its lines tell.
    let large = json!({"key": a, "value": base64(vec![7; 100_000])}).to_string();
    let fields = |endpoint: &str| {
        assert_eq!(post(endpoint, "/v3/kv/put", &large).status, 200);
        let answer = post(endpoint, "/v3/maintenance/snapshot", "{}");
        let mut lines = BTreeSet::new();
        for line in answer.body.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let fields = line["result"].as_object().unwrap();
            let names: Vec<String> = fields.keys().cloned().collect();
            lines.insert((names, fields["version"].to_string()));
        }
        let headers: Vec<_> = telling(&answer).into_iter().cloned().collect();
        (answer.status, headers, lines)
    };
    assert_eq!(fields(&node.endpoint), fields(&etcd.endpoint));
}
