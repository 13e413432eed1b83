//! The page at `/` as a person sees it in a real browser, and what others get there.

#![cfg(feature = "rocksdb")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "face/browser.rs"]
mod browser;
mod node;

use std::path::Path;
use std::time::{Duration, Instant};

use browser::Browser;
use node::http::{self, Answer};
use node::{Node, free_port};
use serde_json::{Value, json};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the resource API of a node listens.
struct Api(String);

impl Api {
    fn somewhere() -> Self {
        Self(format!("127.0.0.1:{}", free_port()))
    }

    fn url(&self) -> String {
        format!("http://{}", self.0)
    }

    fn start(&self, folder: &Path) -> Node {
        let url = self.url();
        let node = Node::start_with(folder, &["--listen-api-urls", &url]);
        self.wait_for_namespace();
        node
    }

    /// The namespaces that are always there are made soon after the start.
    fn wait_for_namespace(&self) {
        let deadline = Instant::now() + PATIENCE;
        while http::get(&self.0, "/api/v1/namespaces/default").status != 200 {
            assert!(Instant::now() < deadline, "no namespace in time");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn get(&self, path: &str) -> Value {
        let answer = http::get(&self.0, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn send(&self, method: &str, path: &str, object: &Value) -> Value {
        let json = [("content-type", "application/json")];
        let deadline = Instant::now() + PATIENCE;
        let mut answer = http::call(&self.0, method, path, &json, &object.to_string());
        // Nothing was written then: a busy machine may lose its leader for a moment.
        while answer.status == 503 && Instant::now() < deadline {
            answer = http::call(&self.0, method, path, &json, &object.to_string());
        }
        assert!(answer.status < 300, "{method} {path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn accepting(&self, path: &str, media: &str) -> Answer {
        http::call(&self.0, "GET", path, &[("accept", media)], "")
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name },
        "data": { "colour": value, "kept": "<img src=x onerror=\"document.title='taken'\">" },
    })
}

/// The rows of a table on the page, as text.
fn rows(section: &str) -> String {
    format!("[...document.querySelectorAll('#{section} tbody tr')].map((row) => row.innerText)")
}

/// Whether a row has all of these words.
fn has_row(section: &str, words: &[&str]) -> String {
    let words = json!(words);
    format!(
        "{}.some((row) => {words}.every((word) => row.includes(word)))",
        rows(section)
    )
}

#[test]
fn a_browser_shows_nodes_kinds_changes_and_the_history_of_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::somewhere();
    let _node = api.start(folder.path());
    api.send("POST", CONFIG_MAPS, &config_map("paint", "red"));
    let mut browser = Browser::start();

    browser.open(&api.url());
    browser.wait_for(&has_row("nodes", &["default", "leader", "KiB"]));
    browser.wait_for("document.querySelector('#state').innerText === 'live'");
    let kinds = "[...document.querySelectorAll('#kinds .kinds button')].map((kind) => kind.innerText.replace(/\\s+/g, ' ').trim())";
    browser.wait_for(&format!("{kinds}.includes('ConfigMap 1')"));
    browser.wait_for(&has_row(
        "changes",
        &["added", "ConfigMap", "default/paint"],
    ));

    // What happens meanwhile appears.
    let path = format!("{CONFIG_MAPS}/paint");
    let changed = api.send("PUT", &path, &config_map("paint", "blue"));
    api.send("POST", CONFIG_MAPS, &config_map("brush", "grey"));
    let revision = changed["metadata"]["resourceVersion"].as_str().unwrap();
    let modified = ["modified", "ConfigMap", "default/paint", revision];
    browser.wait_for(&has_row("changes", &modified));
    browser.wait_for(&format!("{kinds}.includes('ConfigMap 2')"));
    let newest = browser.evaluate(&format!("{}[0]", rows("changes")));
    assert!(
        newest.as_str().unwrap().contains("default/brush"),
        "{newest}"
    );

    // A click on it shows the difference to what was there before. (Times of day have such numbers in them, too.)
    browser.evaluate(&format!(
        "[...document.querySelectorAll('#changes tbody tr')].find((row) => [...row.cells].some((cell) => cell.innerText.trim() === {revision:?})).click()"
    ));
    browser.wait_for("document.querySelectorAll('#object .versions > li').length === 2");
    let lines = |kind: &str| {
        format!("[...document.querySelectorAll('#object .{kind}')].map((line) => line.innerText)")
    };
    browser.wait_for(&format!("{}.length > 0", lines("added")));
    assert_eq!(
        browser.evaluate(&lines("added")),
        json!(["+   colour: blue"])
    );
    assert_eq!(
        browser.evaluate(&lines("removed")),
        json!(["\u{2212}   colour: red"])
    );

    // What happens to it then, too; and it is text, whatever it looks like.
    http::call(&api.0, "DELETE", &path, &[], "");
    browser.wait_for("document.querySelectorAll('#object .versions > li').length === 3");
    browser.wait_for(&has_row("changes", &["deleted", "default/paint"]));
    browser.evaluate(
        "document.querySelectorAll('#object details').forEach((one) => { one.open = true; })",
    );
    browser.wait_for("document.querySelector('#object').innerText.includes('<img src=x onerror')");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('img').length"),
        0
    );
    assert_eq!(browser.evaluate("document.title"), "Holdfast");

    // A kind opens to its objects, by keyboard as well.
    browser.evaluate("[...document.querySelectorAll('#kinds button')].find((kind) => kind.innerText.includes('ConfigMap')).click()");
    browser.wait_for("document.querySelector('#kinds .objects')?.innerText === 'default/brush'");
    browser.evaluate("document.querySelector('#filter').value = 'brush'; document.querySelector('#filter').dispatchEvent(new Event('input'))");
    assert_eq!(browser.evaluate(&format!("{}.length", rows("changes"))), 1);

    // Also on a telephone nothing sticks out.
    browser.resize(360, 740);
    assert_eq!(
        browser.evaluate("document.documentElement.scrollWidth"),
        360
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_page_shows_all_members_and_which_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["n1", "n2", "n3"];
    let peers = names.map(|_| format!("http://127.0.0.1:{}", free_port()));
    let initial: Vec<String> = names
        .iter()
        .zip(&peers)
        .map(|(name, url)| format!("{name}={url}"))
        .collect();
    let initial = initial.join(",");
    let apis = names.map(|_| Api::somewhere());
    let mut nodes: Vec<Node> = (0..3)
        .map(|place| {
            let data = folder.path().join(names[place]);
            let url = apis[place].url();
            Node::launch(
                &[],
                &data,
                &[
                    "--name",
                    names[place],
                    "--listen-peer-urls",
                    &peers[place],
                    "--initial-advertise-peer-urls",
                    &peers[place],
                    "--initial-cluster",
                    &initial,
                    "--listen-api-urls",
                    &url,
                ],
            )
        })
        .collect();
    for node in &mut nodes {
        node.wait_for_log("ready to serve client requests");
    }
    for api in &apis {
        api.wait_for_namespace();
    }
    // Whoever leads may change meanwhile: the page says who.
    let (asked, other) = (1, 2);
    for value in ["red", "green", "blue"] {
        let api = &apis[other];
        match value {
            "red" => api.send("POST", CONFIG_MAPS, &config_map("paint", value)),
            _ => api.send(
                "PUT",
                &format!("{CONFIG_MAPS}/paint"),
                &config_map("paint", value),
            ),
        };
    }

    let mut browser = Browser::start();
    browser.open(&format!(
        "{}/#/registry/configmaps/default/paint",
        apis[asked].url()
    ));
    browser.wait_for(&has_row("nodes", &["leader"]));
    browser.wait_for(&has_row("nodes", &[names[asked], "this page", "KiB"]));
    browser.wait_for(&has_row("nodes", &[names[other], "KiB"]));
    browser.wait_for("document.querySelectorAll('#object .versions > li').length === 3");

    nodes.remove(other).kill();
    browser.wait_for(&has_row(
        "nodes",
        &[names[other], "no answer", "connection refused"],
    ));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn clients_that_do_not_ask_for_html_first_get_the_paths() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::somewhere();
    let _node = api.start(folder.path());
    for media in ["*/*", "application/json", "application/json, text/html"] {
        let paths: Value = serde_json::from_str(&api.accepting("/", media).body).unwrap();
        let paths = paths["paths"].as_array().unwrap();
        assert!(paths.contains(&json!("/apis/apps/v1")), "{media}");
    }
    let page = api.accepting("/", "text/html,*/*;q=0.8");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(page.body.contains("<title>Holdfast</title>"));
}

#[test]
fn a_history_goes_back_as_far_as_it_is_kept_and_comes_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::somewhere();
    let _node = api.start(folder.path());
    let path = format!("{CONFIG_MAPS}/paint");
    api.send("POST", CONFIG_MAPS, &config_map("paint", "1"));
    api.send("PUT", &path, &config_map("paint", "2"));
    http::call(&api.0, "DELETE", &path, &[], "");
    api.send("POST", CONFIG_MAPS, &config_map("paint", "3"));

    let key = "/holdfast/history?key=/registry/configmaps/default/paint";
    let told = api.get(key);
    let kinds: Vec<&str> = told["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ADDED", "DELETED", "MODIFIED", "ADDED"]);
    assert_eq!(told["versions"][2]["object"]["data"]["colour"], "2");
    assert_eq!(
        (&told["kind"], &told["hasMore"]),
        (&json!("ConfigMap"), &json!(false))
    );

    let first = api.get(&format!("{key}&limit=3"));
    assert_eq!(first["hasMore"], true);
    let before = first["versions"][2]["revision"].as_i64().unwrap();
    let second = api.get(&format!("{key}&limit=3&before={before}"));
    assert_eq!(second["versions"].as_array().unwrap().len(), 1);
    assert_eq!(second["versions"][0]["type"], "ADDED");

    // Only of objects: the rest of the store has its own port.
    let other = http::get(&api.0, "/holdfast/history?key=/elsewhere");
    assert_eq!(other.status, 400);
    assert_eq!(http::get(&api.0, "/holdfast/else").status, 404);
    assert_eq!(http::post(&api.0, "/holdfast/counts", "").status, 404);
}

#[test]
fn whoever_may_not_read_objects_sees_nothing_and_is_told_how() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::somewhere();
    let url = format!("https://{}", api.0);
    let _node = Node::start_with(folder.path(), &["--listen-api-urls", &url]);
    let mut browser = Browser::start();
    browser.open(&url);
    browser.wait_for(
        "document.body.innerText.includes('kubectl --kubeconfig admin.kubeconfig proxy')",
    );
    for path in [
        "members",
        "counts",
        "changes",
        "page.js",
        "history?key=/registry/secrets/",
    ] {
        let fetched = format!("fetch('/holdfast/{path}').then((answer) => answer.status)");
        assert_eq!(browser.evaluate(&fetched), 403, "{path}");
    }
}
