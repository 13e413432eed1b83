//! The `holdfast` program as a shell, a unit file or a person sees it.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// Without the variables of whoever runs the tests.
fn holdfast(arguments: &[&str]) -> Command {
    let mut command = Command::new(HOLDFAST);
    command.args(arguments);
    for (variable, _) in std::env::vars() {
        if variable.starts_with("ETCD_") || variable == "NOTIFY_SOCKET" {
            command.env_remove(variable);
        }
    }
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = holdfast(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A node that has said it is ready; killed when dropped.
struct Node {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    lines: Vec<serde_json::Value>,
    client: String,
}

impl Node {
    fn start(data_dir: &Path, more: &[&str]) -> Self {
        let data_dir = format!("--data-dir={}", data_dir.display());
        let any_port = [
            "--listen-client-urls=http://127.0.0.1:0",
            "--advertise-client-urls=http://127.0.0.1:0",
        ];
        let mut child = holdfast(&[&data_dir, any_port[0], any_port[1]])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut node = Self {
            child,
            log,
            lines: Vec::new(),
            client: String::new(),
        };
        node.wait_for("ready to serve client requests");
        let serving =
            node.wait_for("serving client traffic insecurely; this is strongly discouraged!");
        node.client = serving["address"].as_str().unwrap().to_owned();
        node
    }

    /// Reads the log up to a message.
    fn wait_for(&mut self, message: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "no {message:?} in {:#?}",
                self.lines
            );
            let line: serde_json::Value = serde_json::from_str(&line).expect("every line is JSON");
            self.lines.push(line.clone());
            if line["msg"] == message {
                return line;
            }
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        get(&self.client, path)
    }

    fn terminate(mut self) -> Option<i32> {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
        self.wait_for("received signal; shutting down");
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains(r#""level":"error""#), "{rest}");
        code
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) -> (u16, String) {
    request(address, "GET", path)
}

fn request(address: &str, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["--name=x", "--help"]] {
        let (code, text, _) = run(arguments);
        assert_eq!(code, Some(0));
        assert!(
            text.contains("--listen-client-urls") && text.contains("holdfast dump"),
            "{text}"
        );
    }
    let (code, text, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert_eq!(text.lines().next(), Some("etcd Version: 3.7.1"));
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn an_unknown_flag_ends_with_code_2_and_a_hint() {
    let (code, output, error) = run(&["--data-dri=x"]);
    assert_eq!(code, Some(2));
    assert_eq!(output, "");
    assert!(
        error.contains("unknown flag --data-dri; did you mean --data-dir?"),
        "{error}"
    );
    assert_eq!(run(&["strat"]).0, Some(2));
}

#[test]
fn flags_that_ask_for_security_that_is_not_there_are_refused() {
    let (code, _, error) = run(&["--cert-file=/x.pem", "--key-file=/x.key"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--cert-file is not built yet"), "{error}");
}

#[test]
fn a_node_serves_http_says_so_in_its_log_and_ends_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(
        &data,
        &[
            "--listen-metrics-urls=http://127.0.0.1:0",
            "--snapshot-count=7",
        ],
    );

    assert_eq!(
        node.get("/health"),
        (200, r#"{"health":"true","reason":""}"#.to_owned())
    );
    assert_eq!(node.get("/health?serializable=true&exclude=NOSPACE").0, 200);
    assert_eq!(node.get("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(
        node.get("/livez?verbose"),
        (200, "[+]serializable_read ok\nok\n".to_owned())
    );
    let verbose = "[+]data_corruption ok\n[+]linearizable_read ok\n[+]serializable_read ok\nok\n";
    assert_eq!(
        node.get("/readyz?verbose&exclude=non_learner"),
        (200, verbose.to_owned())
    );
    assert_eq!(
        node.get("/readyz/linearizable_read?verbose"),
        (200, "[+]linearizable_read ok\nok\n".to_owned())
    );
    assert_eq!(node.get("/readyz/nonsense").0, 404);
    assert_eq!(
        request(&node.client, "POST", "/health"),
        (405, "Method Not Allowed\n".to_owned())
    );
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(node.get("/version"), (200, version.to_owned()));
    assert_eq!(
        node.get("/nonsense"),
        (404, "404 page not found\n".to_owned())
    );
    let (code, variables) = node.get("/debug/vars");
    assert_eq!(code, 200);
    let variables: serde_json::Value = serde_json::from_str(&variables).unwrap();
    assert!(variables["cmdline"].as_array().unwrap().len() > 3);
    let (_, metrics) = node.get("/metrics");
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total 1",
        "etcd_server_health_success 2",
        "etcd_server_quota_backend_bytes 2147483648",
        r#"etcd_server_id{server_id="8e9e05c52164694d"} 1"#,
        r#"etcd_server_healthcheck{name="linearizable_read",type="readyz"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    let synced = metrics
        .lines()
        .find_map(|line| line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_count "));
    assert_ne!(synced, Some("0"), "the first entries were synced");

    let setting = node
        .lines
        .iter()
        .find(|line| line["setting"] == "--snapshot-count")
        .unwrap();
    assert_eq!(setting["level"], "warn");
    for line in &node.lines {
        for key in ["level", "ts", "caller", "msg"] {
            assert!(line[key].is_string(), "{line}");
        }
        assert_ne!(line["level"], "error", "{line}");
    }
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn the_metrics_port_serves_metrics_and_health_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(folder.path(), &["--listen-metrics-urls=http://127.0.0.1:0"]);
    let serving = node.wait_for("serving without encryption");
    let monitoring = serving["address"].as_str().unwrap();
    assert_eq!(serving["traffic"], "metrics");
    assert_eq!(get(monitoring, "/metrics").0, 200);
    assert_eq!(get(monitoring, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(monitoring, "/version").0, 404);
}

#[test]
fn a_second_node_on_the_same_folder_is_told_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    let data_dir = format!("--data-dir={}", folder.path().display());
    let urls = [
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:0",
    ];
    let (code, _, log) = run(&[&data_dir, urls[0], urls[1]]);
    assert_eq!(code, Some(1));
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "fatal");
    let error = last["error"].as_str().unwrap();
    assert!(
        error.contains(&format!("in use by process {}", node.child.id())),
        "{error}"
    );
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let data = folder.path().join("data");
    let (code, _, log) = run(&[
        &format!("--data-dir={}", data.display()),
        &format!("--listen-client-urls={url}"),
        &format!("--advertise-client-urls={url}"),
    ]);
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("cannot listen on {url}")), "{log}");
    assert!(!data.exists());
}

#[test]
fn members_that_do_not_fit_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, _, log) = run(&[
        &format!("--data-dir={}", data.display()),
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:0",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--initial-cluster=a=http://localhost:2380,b=http://10.0.0.2:2380",
    ]);
    assert_eq!(code, Some(1));
    assert!(
        log.contains(r#"couldn't find local name \"default\" in --initial-cluster"#),
        "{log}"
    );
    assert!(!data.exists());
}

#[test]
fn a_stopped_nodes_log_can_be_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = format!("--data-dir={}", folder.path().display());
    let (code, _, error) = run(&["dump", &format!("{data_dir}/nothing")]);
    assert_eq!(code, Some(1));
    assert!(
        error.starts_with("holdfast dump: no data folder at "),
        "{error}"
    );

    assert_eq!(Node::start(folder.path(), &[]).terminate(), Some(0));
    let (code, output, error) = run(&["dump", &data_dir]);
    assert_eq!(code, Some(0), "{error}");
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["kind"], "segment");
    assert_eq!(lines[0]["member_id"], "8e9e05c52164694d");
    let membership = lines
        .iter()
        .find(|line| line["kind"] == "membership")
        .unwrap();
    assert_eq!(
        membership["voters"],
        serde_json::json!([["8e9e05c52164694d"]])
    );
    let command = lines
        .iter()
        .find_map(|line| line["commands"].get(0))
        .unwrap();
    let first = &command["member_change"]["bootstrap"][0];
    assert_eq!(
        (&first["id"], &first["name"]),
        (&"8e9e05c52164694d".into(), &"default".into())
    );
}

#[test]
fn a_killed_node_starts_again_with_a_higher_boot_counter() {
    let folder = tempfile::tempdir().unwrap();
    let boot = |node: &Node| {
        let line = node
            .lines
            .iter()
            .find(|line| line["msg"] == "opened the data folder")
            .unwrap();
        (
            line["boot"].as_u64().unwrap(),
            line["cluster-id"].as_str().unwrap().to_owned(),
        )
    };
    let cluster = "cdf818194e3a8c32".to_owned();
    let first = Node::start(folder.path(), &[]);
    assert_eq!(boot(&first), (1, cluster.clone()));
    drop(first);
    let second = Node::start(folder.path(), &["--initial-cluster-token=other"]);
    assert_eq!(
        boot(&second),
        (2, cluster),
        "what bootstraps a cluster is ignored later"
    );
    assert_eq!(second.get("/health").0, 200);
}

#[test]
fn a_service_manager_that_asks_is_told_when_the_node_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let receiver = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut child = holdfast(&[
        &format!("--data-dir={}", folder.path().join("data").display()),
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:0",
        "--log-outputs=/dev/null",
    ])
    .env("NOTIFY_SOCKET", &path)
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    receiver
        .set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .unwrap();
    let mut buffer = [0; 32];
    let length = receiver.recv(&mut buffer);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(&buffer[..length.unwrap()], b"READY=1");
}

#[test]
fn without_arguments_it_says_what_to_type_next() {
    let folder = tempfile::tempdir().unwrap();
    // The settings come by variables, so that the test needs no fixed port.
    let mut child = holdfast(&[])
        .current_dir(folder.path())
        .env("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:0")
        .env("ETCD_ADVERTISE_CLIENT_URLS", "http://127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let text: Vec<String> = lines
        .take_while(|line| !line.starts_with("Ctrl-C"))
        .collect();
    let _ = child.kill();
    let _ = child.wait();
    assert!(
        text.iter()
            .any(|line| line.contains("with its data in default.etcd")),
        "{text:?}"
    );
    assert!(
        text.iter().any(|line| line.ends_with("put greeting hello")),
        "{text:?}"
    );
    assert!(fs::metadata(folder.path().join("default.etcd/member/identity.json")).is_ok());
}
