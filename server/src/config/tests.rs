//! What command lines, variables and files mean.

use std::path::Path;

use super::*;

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| (*argument).to_owned())
        .collect();
    let environment = environment
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    match Invocation::read(&arguments, &environment)? {
        Invocation::Run(config) => Ok(*config),
        other => panic!("not a start: {other:?}"),
    }
}

fn refusal(arguments: &[&str]) -> String {
    read(arguments, &[]).unwrap_err().to_string()
}

#[test]
fn no_arguments_mean_a_local_node() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.data_dir, Path::new("default.etcd"));
    assert_eq!(
        config.listen_client_urls[0].address().to_string(),
        "127.0.0.1:2379"
    );
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_millis(700));
    assert_eq!(config.request_timeout, Duration::from_secs(7));
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.quota_backend_bytes, 2 << 30);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.notes, []);
    assert_eq!(
        config.initial_members().unwrap()[0].1,
        ["http://localhost:2380"]
    );
}

#[test]
fn the_interval_of_progress_has_a_default_and_a_least() {
    for (given, meant) in [
        ("0s", Duration::from_secs(600)),
        ("1ms", Duration::from_millis(100)),
        ("3s", Duration::from_secs(3)),
    ] {
        for flag in [
            "watch-progress-notify-interval",
            "experimental-watch-progress-notify-interval",
        ] {
            let config = read(&[&format!("--{flag}={given}")], &[]).unwrap();
            assert_eq!(config.watch_progress_interval, meant, "--{flag}={given}");
        }
    }
}

#[test]
fn flags_take_one_dash_or_two_and_a_value_after_equals_or_space() {
    for arguments in [
        &["--name=one"][..],
        &["-name=one"],
        &["--name", "one"],
        &["-name", "one"],
    ] {
        let config = read(arguments, &[]).unwrap();
        assert_eq!(config.name, "one", "{arguments:?}");
        assert_eq!(config.data_dir, Path::new("one.etcd"), "{arguments:?}");
    }
    assert_eq!(
        read(&["--name=one", "--name=two"], &[]).unwrap().name,
        "two"
    );
}

#[test]
fn a_switch_takes_no_separate_value() {
    assert!(read(&["--pre-vote"], &[]).is_ok());
    assert!(read(&["--pre-vote=false"], &[]).is_ok());
    assert_eq!(
        refusal(&["--pre-vote", "true"]),
        r#""true" is not a valid flag or command"#
    );
    assert_eq!(
        refusal(&["--pre-vote=maybe"]),
        r#"invalid value "maybe" for --pre-vote: expected true or false"#
    );
}

#[test]
fn misspelt_flags_get_a_hint() {
    let cases = [
        (
            "--listen-client-url=x",
            "unknown flag --listen-client-url; did you mean --listen-client-urls?",
        ),
        (
            "--data-dri=x",
            "unknown flag --data-dri; did you mean --data-dir?",
        ),
        (
            "--listen",
            "unknown flag --listen; did you mean --listen-client-urls?",
        ),
        ("--frobnicate", "unknown flag --frobnicate"),
    ];
    for (argument, message) in cases {
        assert_eq!(refusal(&[argument]), message);
    }
}

#[test]
fn a_missing_value_and_a_bad_one_name_the_flag() {
    assert_eq!(refusal(&["--name"]), "flag needs an argument: --name");
    assert_eq!(
        refusal(&["--heartbeat-interval=fast"]),
        r#"invalid value "fast" for --heartbeat-interval: expected a whole number from 1 to 50000"#
    );
    assert_eq!(
        refusal(&["--memory-budget=1KiB"]),
        r#"invalid value "1KiB" for --memory-budget: expected at least 64MiB"#
    );
}

#[test]
fn a_flag_beats_its_variable_and_both_beat_the_default() {
    let environment = [
        ("ETCD_NAME", "env"),
        ("ETCD_DATA_DIR", "/data"),
        ("PATH", "/bin"),
        ("ETCD_LOG_LEVEL", ""),
    ];
    let config = read(&["--name=flag"], &environment).unwrap();
    assert_eq!(config.name, "flag");
    assert_eq!(config.data_dir, Path::new("/data"));
    assert_eq!(
        config.notes,
        [Note::ShadowedVariable("ETCD_NAME".to_owned())]
    );
}

#[test]
fn unknown_variables_are_only_noted_and_bad_ones_refused() {
    let config = read(&[], &[("ETCD_VERSION", "3.5.0"), ("ETCD_NAME", "one")]).unwrap();
    assert_eq!(
        config.notes,
        [Note::UnknownVariable("ETCD_VERSION".to_owned())]
    );
    let error = read(&[], &[("ETCD_HEARTBEAT_INTERVAL", "x")])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(r#""x" for ETCD_HEARTBEAT_INTERVAL"#),
        "{error}"
    );
}

#[test]
fn flags_without_effect_are_accepted_and_noted() {
    let config = read(
        &[
            "--snapshot-count=10000",
            "--max-wals=9",
            "--experimental-corrupt-check-time=1m",
        ],
        &[],
    )
    .unwrap();
    let noted = |place: &str| config.notes.contains(&Note::NoEffect(place.to_owned()));
    assert!(noted("--max-wals") && noted("--experimental-corrupt-check-time"));
    assert!(!noted("--snapshot-count"), "the default changes nothing");
}

#[test]
fn a_command_line_as_kubeadm_writes_it_without_tls_is_accepted() {
    let config = read(
        &[
            "--name=cp",
            "--feature-gates=InitialCorruptCheck=true",
            "--listen-client-urls=http://127.0.0.1:2379,http://10.0.0.1:2379",
            "--advertise-client-urls=http://10.0.0.1:2379",
            "--listen-peer-urls=http://10.0.0.1:2380",
            "--initial-advertise-peer-urls=http://10.0.0.1:2380",
            "--data-dir=/var/lib/etcd",
            "--client-cert-auth=false",
            "--peer-client-cert-auth=false",
            "--snapshot-count=10000",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--watch-progress-notify-interval=5s",
            "--experimental-watch-progress-notify-interval=5s",
            "--experimental-initial-corrupt-check=true",
            "--initial-cluster=cp=http://10.0.0.1:2380",
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(
        config.listen_metrics_urls[0].address().to_string(),
        "127.0.0.1:2381"
    );
    assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
    assert_eq!(
        config.initial_members().unwrap()[0].1,
        ["http://10.0.0.1:2380"]
    );
}

#[test]
fn what_would_be_dangerous_to_ignore_is_refused() {
    let cases = [
        "--cert-file=/etc/cert.pem",
        "--client-cert-auth",
        "--trusted-ca-file=/etc/ca.pem",
        "--auto-tls=true",
        "--peer-cert-file=/etc/cert.pem",
        "--force-new-cluster",
        "--discovery-endpoints=http://10.0.0.9:2379",
        "--discovery-srv=example.com",
        "--auth-token=jwt,sign-method=RS256",
    ];
    for argument in cases {
        let error = refusal(&[argument]);
        let place = argument.split('=').next().unwrap();
        assert!(
            error.starts_with(&format!("{place} is not built yet")),
            "{error}"
        );
    }
    assert!(
        refusal(&["--listen-peer-urls=https://127.0.0.1:2380"]).contains("TLS is not built yet")
    );
    for harmless in ["--auto-tls=false", "--cert-file=", "--auth-token=simple"] {
        assert!(read(&[harmless], &[]).is_ok(), "{harmless}");
    }
}

#[test]
fn contradictions_are_refused_in_etcds_words() {
    assert_eq!(
        refusal(&["--listen-client-urls=http://127.0.0.1:1"]),
        "--advertise-client-urls is required when --listen-client-urls is set explicitly"
    );
    assert_eq!(
        refusal(&["--heartbeat-interval=200", "--election-timeout=900"]),
        "--election-timeout[900ms] should be at least as 5 times as --heartbeat-interval[200ms]"
    );
    assert_eq!(
        refusal(&["--feature-gates=Nonsense=true"]),
        "unrecognized feature gate: Nonsense"
    );
    assert_eq!(
        refusal(&["--listen-metrics-urls=http://example.com:1"]),
        "--listen-metrics-urls: expected IP in URL for binding (http://example.com:1)"
    );
}

#[test]
fn the_initial_cluster_must_fit_the_member() {
    let attempt = |arguments: &[&str]| read(arguments, &[]).unwrap().initial_members();
    let urls = |members: Vec<(String, Vec<String>)>| members[0].1.clone();
    let of_one = attempt(&["--initial-cluster=default=http://127.0.0.1:2380"]);
    assert_eq!(urls(of_one.unwrap()), ["http://127.0.0.1:2380"]);

    let of_two = attempt(&[
        "--initial-cluster=default=http://localhost:2380,b=http://10.0.0.2:2380,b=http://10.0.0.3:2380",
    ]);
    assert_eq!(
        of_two.unwrap()[1],
        (
            "b".to_owned(),
            vec![
                "http://10.0.0.2:2380".to_owned(),
                "http://10.0.0.3:2380".to_owned()
            ]
        )
    );
    let error =
        attempt(&["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"])
            .unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
    let error = attempt(&["--initial-cluster=other=http://localhost:2380"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"couldn't find local name "default" in --initial-cluster"#
    );
    let error = attempt(&["--initial-cluster=default=http://10.0.0.1:2380"]).unwrap_err();
    assert!(error.to_string().contains("make them equal"), "{error}");
}

#[test]
fn a_config_file_is_all_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.json");
    let text = r#"{
        "name": "file", "heartbeat-interval": 50, "watch-progress-notify-interval": 5000000000,
        "log-outputs": ["stderr"], "strict-reconfig-check": true,
        "client-transport-security": {"auto-tls": false, "cert-file": "", "allowed-hostname": []}
    }"#;
    std::fs::write(&path, text).unwrap();
    let flag = format!("--config-file={}", path.display());

    let config = read(&[&flag, "--name=flag"], &[("ETCD_DATA_DIR", "/data")]).unwrap();

    assert_eq!(config.name, "file");
    assert_eq!(config.data_dir, Path::new("file.etcd"));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
    assert_eq!(config.notes, [Note::OnlyFileCounts(path)]);
}

/// Every key that etcd's sample file has, with the values it has there.
const SAMPLE: &str = "
# A comment.
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
proxy-refresh-interval: 30000
proxy-dial-timeout: 1000
proxy-write-timeout: 5000
proxy-read-timeout: 0

client-transport-security:
  # Its own comment.
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
";

fn read_file(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.conf.yml");
    std::fs::write(&path, text).unwrap();
    let flag = format!("--config-file={}", path.display());
    let config = read(&[&flag], &[]).map_err(|error| error.to_string());
    config.map_err(|error| error.replace(&path.display().to_string(), "FILE"))
}

#[test]
fn etcds_own_sample_of_a_config_file_is_read() {
    let config = read_file(SAMPLE).unwrap();
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, Path::new("default.etcd"));
    assert_eq!(config.election_timeout, Duration::from_millis(1000));
    assert_eq!(config.log.level, tracing::level_filters::LevelFilter::DEBUG);
    let noted = format!("{:?}", config.notes);
    for name in ["discovery-fallback", "cipher-suites", "enable-pprof"] {
        assert!(noted.contains(name), "{name} is not in {noted}");
    }
}

#[test]
fn yaml_is_read_in_the_forms_that_people_write() {
    let config = read_file(
        "---\nname: node one # the first\nmax-txn-ops: 7\nelection-timeout: \"900\"\n\
         grpc-keepalive-interval: 5000000000\nwarning-unary-request-duration: 1m30s\n\
         listen-client-urls: \"http://127.0.0.1:1,http://127.0.0.1:2\"\n\
         advertise-client-urls:\n  - http://a:1\n  - http://b:2\nenable-grpc-gateway: no\n\
         log-level: |-\n  warn\nclient-transport-security:\n",
    )
    .unwrap();
    assert_eq!(config.name, "node one");
    assert_eq!(config.max_txn_ops, 7);
    assert_eq!(config.election_timeout, Duration::from_millis(900));
    assert_eq!(config.keepalive_interval, Some(Duration::from_secs(5)));
    assert_eq!(config.slow_request, Duration::from_secs(90));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(config.advertise_client_urls, ["http://a:1", "http://b:2"]);
    assert!(!config.has_gateway);
    assert_eq!(config.log.level, tracing::level_filters::LevelFilter::WARN);
    assert_eq!(read_file("# nothing\n").unwrap().name, "default");
    assert_eq!(read_file("").unwrap().name, "default");
}

#[test]
fn yaml_is_refused_where_it_is_none_or_asks_for_what_is_not_built() {
    for (text, beginning) in [
        ("name: a: b\n", "config file FILE: neither YAML nor JSON: "),
        (
            "{\"name\": \"a\"",
            "config file FILE: neither YAML nor JSON: ",
        ),
        (
            "name: a\nname: b\n",
            "config file FILE: neither YAML nor JSON: ",
        ),
        (
            "name: a\n---\nname: b\n",
            "config file FILE: neither YAML nor JSON: ",
        ),
        ("just a text", "config file FILE: expected keys"),
        (
            "max-txn-ops: many\n",
            "invalid value \"many\" for \"max-txn-ops\" in FILE: ",
        ),
        (
            "client-transport-security:\n  cert-file: /etc/cert.pem\n",
            "\"cert-file\" in FILE is not built yet",
        ),
        (
            "client-transport-security:\n  client-cert-auth: true\n",
            "\"client-cert-auth\" in FILE is not built yet",
        ),
        (
            "peer-transport-security:\n  auto-tls: true\n",
            "\"peer-auto-tls\" in FILE is not built yet",
        ),
        (
            "peer-transport-security:\n  cert-fiel: x\n",
            "config file FILE: unknown key \"peer-cert-fiel\"; did you mean \"peer-cert-file\"?",
        ),
    ] {
        let error = read_file(text).unwrap_err();
        assert!(error.starts_with(beginning), "{text}: {error}");
    }
}

#[test]
fn a_config_file_is_refused_with_its_path_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "a.json",
            r#"{"nmae": "x"}"#,
            r#"unknown key "nmae"; did you mean "name"?"#,
        ),
        (
            "b.json",
            "[]",
            "expected keys that are flag names, as in name: one",
        ),
        (
            "c.yml",
            "name: x\nnmae: y",
            r#"unknown key "nmae"; did you mean "name"?"#,
        ),
        (
            "d.json",
            r#"{"name": {}}"#,
            r#""name": expected a plain value"#,
        ),
    ];
    for (name, text, message) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let error = refusal(&[&format!("--config-file={}", path.display())]);
        assert_eq!(error, format!("config file {}: {message}", path.display()));
    }
    let path = folder.path().join("tls.json");
    std::fs::write(
        &path,
        r#"{"peer-transport-security": {"allowed-cn": ["a"]}}"#,
    )
    .unwrap();
    let error = refusal(&[&format!("--config-file={}", path.display())]);
    assert!(error.contains("is not built yet"), "{error}");
}

#[test]
fn dump_has_flags_of_its_own() {
    let read = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        Invocation::read(&arguments, &vec![("ETCD_DATA_DIR".into(), "/data".into())])
    };
    let Ok(Invocation::Dump(options)) = read(&["dump", "--from", "3"]) else {
        panic!("not a dump")
    };
    assert_eq!((options.from, options.to), (3, i64::MAX.unsigned_abs()));
    assert_eq!(options.data_dir, Path::new("/data"));
    assert_eq!(
        read(&["dump", "--form=3"]).unwrap_err().to_string(),
        "unknown flag --form; did you mean --from?"
    );
}

#[test]
fn the_memory_budget_is_the_sum_of_its_parts() {
    for total in [64 << 20, 512 << 20, 8_u64 << 30] {
        let parts = MemoryBudget::split(total).unwrap();
        let caches = parts.ring + parts.memtables + parts.block_cache + parts.log_tail;
        assert_eq!(parts.values + caches + parts.rest, total);
        assert_eq!(parts.total(), total);
    }
    assert_eq!(MemoryBudget::split(1 << 20), None);
}

#[test]
fn retention_is_hours_or_a_duration_or_revisions_by_the_mode() {
    let retention = |arguments: &[&str]| read(arguments, &[]).unwrap().auto_compaction;
    let text = |text: &str| format!("--auto-compaction-retention={text}");
    let hours = |hours: u64| Some(Retention::Time(Duration::from_secs(3600 * hours)));
    assert_eq!(retention(&["--name=one"]), None);
    let api = "--listen-api-urls=https://127.0.0.1:6443";
    assert_eq!(retention(&[api]), hours(1));
    assert_eq!(retention(&[api, &text("0")]), None);
    assert_eq!(retention(&[]), hours(1), "the resource API is on");
    for (given, expected) in [
        ("0", None),
        ("0s", None),
        ("8", hours(8)),
        ("24h", hours(24)),
        ("1h30m", Some(Retention::Time(Duration::from_secs(5400)))),
    ] {
        assert_eq!(retention(&[&text(given)]), expected, "{given}");
    }
    let mode = "--auto-compaction-mode=revision";
    assert_eq!(retention(&[mode, &text("0")]), None);
    let revisions = Some(Retention::Revisions(1000));
    assert_eq!(retention(&[mode, &text("1000")]), revisions);
    for arguments in [
        &[&*text("soon")][..],
        &[&text("-1")],
        &[&text("500ms")],
        &[mode, &text("1h")],
        &[mode, &text("-5")],
    ] {
        let refusal = refusal(arguments);
        assert!(
            refusal.contains("--auto-compaction-retention is"),
            "{refusal}"
        );
    }
}
