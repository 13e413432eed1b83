//! Which version of an object or a list a reader gets, and lists in pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::shared::{Api, CONFIG_MAPS, PODS, config_map, pod, rules};
use super::wire::{MERGE, delete, get, patch, put};

const THERE: &str = "/api/v1/namespaces/default/configmaps/there";
const NONE_OF_THE_SERVERS: &str = "eyJ2IjoibWV0YS5rOHMuaW8vdjIiLCJydiI6NSwic3RhcnQiOiJhIn0";

fn list(query: &str) -> super::wire::Request {
    get(format!("{CONFIG_MAPS}?{query}"))
}

fn options(text: &str) -> String {
    format!("ListOptions.meta.k8s.io \"\" is invalid: {text}")
}

rules! {
    a_match_without_a_version_is_invalid: list("resourceVersionMatch=Exact")
        => 422 "Invalid" &options("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided");
    a_match_not_older_without_a_version_is_invalid: list("resourceVersionMatch=NotOlderThan")
        => 422 "Invalid" &options("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided");
    an_exact_match_of_any_version_is_invalid: list("resourceVersionMatch=Exact&resourceVersion=0")
        => 422 "Invalid" &options("resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
    a_match_that_there_is_not_is_invalid: list("resourceVersionMatch=Foo&resourceVersion=1")
        => 422 "Invalid" &options("resourceVersionMatch: Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"");
    initial_events_of_a_list_are_invalid: list("sendInitialEvents=true")
        => 422 "Invalid" &options("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list");
    a_version_beside_a_token_is_a_bad_request: list(&format!("resourceVersion=5&continue={}", token("there\0", 5)))
        => 400 "BadRequest" "specifying resource version is not allowed when using continue";
    a_limit_that_is_no_number_is_a_bad_request: list("limit=abc")
        => 400 "BadRequest" "strconv.ParseInt: parsing \"abc\": invalid syntax";
    a_timeout_that_is_no_number_is_a_bad_request: list("timeoutSeconds=abc")
        => 400 "BadRequest" "strconv.ParseInt: parsing \"abc\": invalid syntax";
}

fn token(start: &str, revision: i64) -> String {
    let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": start });
    URL_SAFE_NO_PAD.encode(token.to_string())
}

#[test]
fn a_version_that_is_no_number_is_not_read_at() {
    let api = Api::shared();
    for path in [THERE, CONFIG_MAPS] {
        for version in ["abc", "-1", "1.5", "99999999999999999999"] {
            let answer = api.send(&get(format!("{path}?resourceVersion={version}")));
            let details = answer.refuses_with(
                422,
                "Invalid",
                &format!("resourceVersion: Invalid value: {version:?}: strconv.ParseUint"),
            );
            assert_eq!(details["causes"][0]["field"], "resourceVersion");
        }
    }
}

#[test]
fn a_token_that_the_server_did_not_make_is_a_bad_request() {
    let api = Api::shared();
    let tokens = [
        "x".to_owned(),
        "%25%25".to_owned(),
        NONE_OF_THE_SERVERS.to_owned(),
        token("", 5),
        token("a", 0),
        token("../../secrets", 5),
        token("a/../../b", 5),
        URL_SAFE_NO_PAD.encode("{}"),
        URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":"a","start":5}"#),
        URL_SAFE_NO_PAD.encode([0xff, 0xfe]),
    ];
    for token in tokens {
        let answer = api.send(&list(&format!("limit=2&continue={token}")));
        assert_eq!((answer.status, &token), (400, &token), "{}", answer.text());
        answer.refuses_with(400, "BadRequest", "continue key is not valid");
    }
    let matched = api.send(&list(&format!(
        "resourceVersionMatch=Exact&resourceVersion=5&continue={}",
        token("a", 5)
    )));
    matched.refuses_with(
        422,
        "Invalid",
        "resourceVersionMatch is forbidden when continue is provided",
    );
}

#[test]
fn a_version_to_come_is_a_timeout_with_the_time_to_come_again() {
    let api = Api::shared();
    for path in [
        format!("{THERE}?resourceVersion=99999999"),
        format!("{CONFIG_MAPS}?resourceVersion=99999999"),
        format!("{CONFIG_MAPS}?resourceVersion=99999999&resourceVersionMatch=NotOlderThan"),
        format!("{CONFIG_MAPS}?resourceVersion=99999999&resourceVersionMatch=Exact"),
        format!("{CONFIG_MAPS}?resourceVersion=99999999&limit=1"),
    ] {
        let answer = api.send(&get(path));
        let details = answer.refuses_with(
            504,
            "Timeout",
            "Timeout: Too large resource version: 99999999, current: ",
        );
        let cause =
            json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        assert_eq!(
            details,
            json!({ "causes": [cause], "retryAfterSeconds": 1 })
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

/// An object that changes, and the revisions at which it did.
struct History {
    path: String,
    first: String,
    second: String,
}

impl History {
    fn make(api: &Api, namespace: &str) -> Self {
        let path = api.namespace(namespace);
        let version = |object: &Value| {
            object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let first = version(&api.create(&path, &config_map("a")));
        let second = version(
            &api.send(&patch(
                MERGE,
                format!("{path}/a"),
                r#"{"data":{"key":"new"}}"#,
            ))
            .ok(200),
        );
        api.create(&path, &config_map("b"));
        Self {
            path,
            first,
            second,
        }
    }
}

#[test]
fn a_get_is_of_the_newest_version_whatever_older_one_is_named() {
    let api = Api::shared();
    let History {
        path,
        first,
        second,
    } = History::make(&api, "get-versions");
    for query in [
        "".to_owned(),
        "?resourceVersion=0".to_owned(),
        format!("?resourceVersion={first}"),
        format!("?resourceVersion={second}"),
    ] {
        assert_eq!(
            api.read(&format!("{path}/a{query}"))["data"]["key"],
            "new",
            "{query}"
        );
    }
}

#[test]
fn a_list_is_as_new_as_its_parameters_say() {
    let api = Api::shared();
    let History {
        path,
        first,
        second,
    } = History::make(&api, "list-versions");
    let read = |query: String| {
        let list = api.read(&format!("{path}?{query}"));
        let count = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["metadata"]["name"] != "kube-root-ca.crt")
            .count();
        let item = list["items"][0]["data"]["key"].as_str().unwrap().to_owned();
        (
            item,
            count,
            list["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    for query in [
        "",
        "resourceVersion=",
        "resourceVersion=0",
        "resourceVersionMatch=NotOlderThan&resourceVersion=0",
    ] {
        assert_eq!(read(query.to_owned()).0, "new", "{query}");
    }
    for version in [&first, &second] {
        let not_older = [
            format!("resourceVersion={version}"),
            format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
        ];
        for query in not_older {
            let (item, count, at) = read(query);
            assert_eq!((item.as_str(), count), ("new", 2));
            assert!(at.parse::<i64>().unwrap() > second.parse::<i64>().unwrap());
        }
    }
    let exactly = |version: &str| format!("resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(
        read(exactly(&first)),
        ("value".to_owned(), 1, first.clone())
    );
    assert_eq!(
        read(exactly(&second)),
        ("new".to_owned(), 1, second.clone())
    );
    // With a limit, a version is that very one.
    assert_eq!(
        read(format!("resourceVersion={first}&limit=5")),
        ("value".to_owned(), 1, first.clone())
    );
    let not_older = format!("resourceVersion={first}&limit=5&resourceVersionMatch=NotOlderThan");
    assert_eq!(read(not_older).0, "new");
}

#[test]
fn pages_are_of_one_revision_and_say_how_much_is_left() {
    let api = Api::shared();
    let path = api.namespace("pages").replace("configmaps", "secrets");
    let object = |name: &str| json!({ "metadata": { "name": name } });
    for number in 0..7 {
        api.create(&path, &object(&format!("s{number}")));
    }
    let first = api.read(&format!("{path}?limit=3"));
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    let version = &first["metadata"]["resourceVersion"];
    // What happens meanwhile is not seen.
    api.create(&path, &object("s99"));
    api.send(&delete(format!("{path}/s5"))).ok(200);
    let mut names = Vec::new();
    let mut page = first.clone();
    let mut pages = 0;
    loop {
        assert_eq!(&page["metadata"]["resourceVersion"], version);
        assert_eq!(page["kind"], "SecretList");
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        let Some(token) = page["metadata"]["continue"].as_str() else {
            break;
        };
        page = api.read(&format!(
            "{path}?limit=3&continue={token}&resourceVersion={}",
            if pages == 1 { "0" } else { "" }
        ));
    }
    assert_eq!(pages, 3);
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]);
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    // The rest in one piece.
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        api.read(&format!("{path}?continue={token}"))["items"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn a_page_of_a_selection_does_not_say_how_much_is_left() {
    let api = Api::shared();
    let path = api
        .namespace("selected-pages")
        .replace("configmaps", "secrets");
    for number in 0..6 {
        let label = if number % 2 == 0 { "even" } else { "odd" };
        api.create(
            &path,
            &json!({ "metadata": { "name": format!("s{number}"), "labels": { "is": label } } }),
        );
    }
    let first = api.read(&format!("{path}?limit=2&labelSelector=is%3Deven"));
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = api.read(&format!(
        "{path}?limit=2&labelSelector=is%3Deven&continue={token}"
    ));
    assert_eq!(rest["items"][0]["metadata"]["name"], "s4");
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["metadata"].get("continue"), None);
}

#[test]
fn lists_are_selected_by_labels_and_fields() {
    let api = Api::shared();
    let path = api.namespace("selected");
    let secrets = path.replace("configmaps", "secrets");
    for (name, labels) in [
        ("a", json!({ "app": "web", "tier": "front" })),
        ("b", json!({ "app": "web" })),
        ("c", json!({})),
    ] {
        api.create(
            &secrets,
            &json!({ "metadata": { "name": name, "labels": labels } }),
        );
    }
    let names = |query: &str| {
        let list = api.read(&format!("{secrets}?{query}"));
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    for (query, found) in [
        ("labelSelector=app%3Dweb", "ab"),
        ("labelSelector=app%21%3Dweb", "c"),
        ("labelSelector=tier", "a"),
        ("labelSelector=%21tier", "bc"),
        (
            "labelSelector=app%20in%20(web,db),tier%20notin%20(front)",
            "b",
        ),
        ("labelSelector=", "abc"),
        ("fieldSelector=metadata.name%3Db", "b"),
        ("fieldSelector=metadata.name%21%3Db", "ac"),
        ("fieldSelector=metadata.namespace%3Dselected", "abc"),
        ("fieldSelector=metadata.namespace%3Dother", ""),
        ("fieldSelector=metadata.name%3Da&labelSelector=app%3Ddb", ""),
        ("fieldSelector=type%3DOpaque", "abc"),
    ] {
        assert_eq!(names(query), found, "{query}");
    }
    let everywhere = api.read("/api/v1/secrets?fieldSelector=metadata.namespace%3Dselected");
    assert_eq!(everywhere["items"].as_array().unwrap().len(), 3);
    let pods = api.namespace("selected-pods").replace("configmaps", "pods");
    api.create(&pods, &pod("a"));
    assert_eq!(
        api.read(&format!(
            "{pods}?fieldSelector=status.phase%3DPending,spec.nodeName%3D"
        ))["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        api.read(&format!("{pods}?fieldSelector=status.phase%3DRunning"))["items"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert!(api.read(PODS)["items"].is_array());
}

#[test]
fn a_name_that_is_written_in_percent_is_the_same_name() {
    let api = Api::shared();
    assert_eq!(
        api.read(&format!("{CONFIG_MAPS}/%74here"))["metadata"]["name"],
        "there"
    );
    api.send(&get(format!("{CONFIG_MAPS}/a%2Fb"))).refuses(
        404,
        "NotFound",
        "configmaps \"a/b\" not found",
    );
    let odd = api.send(&get(format!(
        "{CONFIG_MAPS}/..%2F..%2Fsecrets%2Fdefault%2Fx"
    )));
    assert!(odd.status == 404 || odd.status == 400, "{}", odd.text());
    api.send(&get(format!("{CONFIG_MAPS}/%ff")))
        .refuses_with(404, "NotFound", "");
    let strange = put(format!("{CONFIG_MAPS}/a%2Fb"), &config_map("a/b"));
    assert!(matches!(api.send(&strange).status, 404 | 422));
}

/// Everything about a history that is gone, on a node of its own: the others still need theirs.
#[test]
fn what_is_compacted_is_gone() {
    let api = Api::start();
    let History { path, first, .. } = History::make(&api, "compacted");
    let page = api.read(&format!("{path}?limit=1"));
    let token = page["metadata"]["continue"].as_str().unwrap();
    let current: i64 = api.create(&path, &config_map("later"))["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = client::connect(api.etcd.clone()).await.unwrap();
        client.compact(current).await.unwrap();
    });
    let exactly = get(format!(
        "{path}?resourceVersion={first}&resourceVersionMatch=Exact"
    ));
    api.send(&exactly).refuses(
        410,
        "Expired",
        "The resourceVersion for the provided list is too old.",
    );
    let watch = api.send(&get(format!(
        "{path}?watch=true&resourceVersion={first}&timeoutSeconds=5"
    )));
    watch.refuses(
        410,
        "Expired",
        &format!("too old resource version: {first} ({current})"),
    );
    // Not older than what is gone is what there is.
    assert!(
        api.read(&format!("{path}?resourceVersion={first}"))["items"]
            .as_array()
            .unwrap()
            .len()
            >= 3
    );
    assert_eq!(
        api.read(&format!("{path}/a?resourceVersion={first}"))["data"]["key"],
        "new"
    );

    let expired = api.send(&get(format!("{path}?limit=1&continue={token}")));
    expired.refuses(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
         continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing \
         with the provided token results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    let token = expired.json()["metadata"]["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    let rest = api.read(&format!("{path}?continue={token}"));
    let names: Vec<&str> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], "b");
    assert!(names.contains(&"later"));
}
