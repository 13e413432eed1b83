//! The same `etcdctl` commands to Holdfast and to the real etcd: what it prints and how it ends is the same.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod node;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use node::http;
use node::real::{self, Etcd};
use node::{Node, etcdctl};
use serde_json::json;

/// How a command ended and what it printed.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    output: String,
    complaint: String,
}

fn run(endpoint: &str, arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(etcdctl())
        .args(["--endpoints", endpoint])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| normal(&String::from_utf8_lossy(bytes));
    // The client logs every refusal, with times and addresses.
    let is_log = |line: &&str| line.starts_with("{\"level\":");
    let complaint = text(&output.stderr);
    Said {
        code: output.status.code(),
        output: text(&output.stdout),
        complaint: complaint
            .lines()
            .filter(|line| !is_log(line))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// What cannot be the same on two servers: ids (all long numbers), addresses, times, sizes, positions in the log.
fn normal(text: &str) -> String {
    text.lines().map(|line| normal_line(line) + "\n").collect()
}

fn normal_line(line: &str) -> String {
    const OWN: [&str; 8] = [
        "raft_term",
        "raftTerm",
        "raftIndex",
        "raftAppliedIndex",
        "dbSize",
        "dbSizeInUse",
        "version",
        "took",
    ];
    const OWN_FIELDS: [&str; 7] = [
        "RaftTerm",
        "RaftIndex",
        "RaftAppliedIndex",
        "DBSize",
        "DBSizeInUse",
        "Version",
        "Took",
    ];
    // `-w fields`; the version of a key is a number.
    if let Some((name, value)) = line.split_once(" : ") {
        let name = name.trim_matches('"');
        let is_text = value.starts_with('"');
        if OWN_FIELDS.contains(&name) && (name != "Version" || is_text) {
            return format!("{name} : _");
        }
    }
    let mut line = line.to_owned();
    for took in ["took = ", "]. took "] {
        if let Some(at) = line.find(took) {
            line.truncate(at + took.len());
            line.push('_');
        }
    }
    for name in OWN {
        let start = format!("\"{name}\":");
        let Some(at) = line.find(&start).map(|at| at + start.len()) else {
            continue;
        };
        let is_text = line[at..].starts_with('"');
        if name != "version" || is_text {
            let end = line[at..].find([',', '}']).unwrap() + at;
            line.replace_range(at..end, "_");
        }
    }
    // Words, with the ids and addresses taken out.
    let mut normal = String::new();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|letter| is_word(letter) != is_word(first));
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        let is_hex = word.chars().all(|letter| letter.is_ascii_hexdigit());
        if word == "127.0.0.1" {
            normal.push_str("ADDRESS");
            let port = rest.trim_start_matches(':');
            rest = port.trim_start_matches(|letter: char| letter.is_ascii_digit());
        } else if is_hex && word.len() > 12 {
            normal.push_str("ID");
        } else {
            normal.push_str(word);
        }
    }
    normal
}

/// Runs all commands on both servers, side by side, and compares command by command.
fn same(node: &Node, etcd: &Etcd, commands: &[(&[&str], &str)]) {
    let all = |endpoint: &str| -> Vec<Said> {
        let each = commands.iter();
        each.map(|(arguments, input)| run(endpoint, arguments, input))
            .collect()
    };
    let endpoints = [&node.endpoint, &etcd.endpoint];
    let (ours, theirs) = std::thread::scope(|scope| {
        let [ours, theirs] = endpoints.map(|endpoint| scope.spawn(|| all(endpoint)));
        (ours.join().unwrap(), theirs.join().unwrap())
    });
    for (((arguments, input), ours), theirs) in commands.iter().zip(&ours).zip(&theirs) {
        assert_eq!(
            ours, theirs,
            "etcdctl {arguments:?} <<< {input:?}; Holdfast is left"
        );
    }
}

/// Both servers, new.
fn servers() -> (tempfile::TempDir, Node, Etcd) {
    real::check_version();
    let folder = tempfile::tempdir().unwrap();
    let peer = "--initial-advertise-peer-urls=http://127.0.0.1:1";
    let node = Node::start_with(&folder.path().join("data"), &[peer]);
    (folder, node, Etcd::start())
}

#[test]
fn commands_on_keys_print_the_same() {
    let (_folder, node, etcd) = servers();
    let commands: &[(&[&str], &str)] = &[
        (&["put", "a", "1"], ""),
        (&["put", "a", "2", "--prev-kv"], ""),
        (&["put", "b/1", "x"], ""),
        (&["put", "b/2", "y", "-w", "json"], ""),
        (&["put", "b/3"], "from\nstandard input"),
        (&["put", "c", "\u{7}\u{1}ä"], ""),
        (&["put", "none", "--ignore-value"], ""),
        (&["put", "a", "--ignore-value"], ""),
        (&["put", "a", "3", "--ignore-lease"], ""),
        (&["put", "a", "3", "--lease=77"], ""),
        (&["put", "", "x"], ""),
        (&["put"], ""),
        (&["get", "a"], ""),
        (&["get", "a", "-w", "json"], ""),
        (&["get", "a", "-w", "fields"], ""),
        (&["get", "a", "-w", "table"], ""),
        (&["get", "a", "-w", "json", "--hex"], ""),
        (&["get", "c", "--hex"], ""),
        (&["get", "c"], ""),
        (&["get", "b", "--prefix"], ""),
        (
            &["get", "b", "--prefix", "--limit", "2", "-w", "fields"],
            "",
        ),
        (&["get", "b", "--prefix", "--keys-only"], ""),
        (
            &["get", "b", "--prefix", "--count-only", "-w", "fields"],
            "",
        ),
        (&["get", "b", "--prefix", "--print-value-only"], ""),
        (&["get", "b/2", "--from-key"], ""),
        (&["get", "a", "c"], ""),
        (&["get", "", "--prefix", "-w", "json"], ""),
        (
            &[
                "get",
                "b",
                "--prefix",
                "--order",
                "DESCEND",
                "--sort-by",
                "MODIFY",
            ],
            "",
        ),
        (
            &[
                "get",
                "",
                "--from-key",
                "--order",
                "ASCEND",
                "--sort-by",
                "VALUE",
            ],
            "",
        ),
        (
            &[
                "get",
                "",
                "--from-key",
                "--order",
                "DESCEND",
                "--sort-by",
                "VERSION",
            ],
            "",
        ),
        (&["get", "b", "--prefix", "--sort-by", "CREATE"], ""),
        (&["get", "b", "--prefix", "--order", "WHAT"], ""),
        (&["get", "a", "--rev", "2"], ""),
        (&["get", "a", "--rev", "200"], ""),
        (&["get", "a", "--consistency", "s"], ""),
        (&["get", "a", "--consistency", "x"], ""),
        (&["get", "b", "--prefix", "--min-mod-rev", "5"], ""),
        (&["get", "b", "--prefix", "--max-mod-rev", "5"], ""),
        (&["get", "b", "--prefix", "--min-create-rev", "5"], ""),
        (&["get", "b", "--prefix", "--max-create-rev", "5"], ""),
        (&["get", "b", "--prefix", "--stream"], ""),
        (&["get", "b", "--prefix", "--stream", "-w", "json"], ""),
        (
            &["get", "b", "--prefix", "--stream", "--order", "DESCEND"],
            "",
        ),
        (&["get", "b", "--prefix", "--from-key"], ""),
        (&["get"], ""),
        (&["del", "none"], ""),
        (&["del", "b/1", "--prev-kv"], ""),
        (&["del", "b/2", "-w", "json"], ""),
        (&["del", "b", "--prefix", "--prev-kv", "-w", "fields"], ""),
        (&["put", "b/1", "1"], ""),
        (&["put", "b/2", "1"], ""),
        (&["del", "b/2", "--from-key"], ""),
        (&["del", "a", "b/1", "--range"], ""),
        (&["del", "a", "c"], ""),
    ];
    same(&node, &etcd, commands);
}

#[test]
fn transactions_compaction_and_maintenance_print_the_same() {
    let (_folder, node, etcd) = servers();
    let write = "mod(\"a\") > \"0\"\n\nput x 1\nget a\ndel y\n\nput z 1\n\n";
    let read = "ver(\"a\") = \"1\"\n\nget a\nget x\n\n\n";
    let commands: &[(&[&str], &str)] = &[
        (&["put", "a", "1"], ""),
        (&["txn"], write),
        (&["txn", "-i"], write),
        (
            &["txn"],
            "val(\"a\") = \"2\"\n\nput x 1\n\nput y \"two words\"\nget y\n\n",
        ),
        (&["txn", "-w", "json"], read),
        (&["txn", "-w", "fields"], read),
        (&["txn"], "create(\"a\") < \"1\"\n\nget a\n\nget x\n\n"),
        (&["txn"], "lease(\"a\") = 0\n\nget a\n\n\n"),
        (&["txn"], "\nput a 1\nput a 2\n\n\n"),
        (&["txn"], "what\n"),
        (&["put", "a", "2"], ""),
        (&["compaction", "3"], ""),
        (&["compaction", "3"], ""),
        (&["compaction", "4", "--physical"], ""),
        (&["compaction", "999"], ""),
        (&["compaction"], ""),
        (&["get", "a", "--rev", "2"], ""),
        (&["endpoint", "health"], ""),
        (&["endpoint", "health", "-w", "json"], ""),
        (&["endpoint", "status", "-w", "json"], ""),
        (&["endpoint", "status", "-w", "fields"], ""),
        (&["endpoint", "hashkv"], ""),
        (&["endpoint", "hashkv", "-w", "json"], ""),
        (&["endpoint", "hashkv", "-w", "fields", "--rev", "5"], ""),
        (&["endpoint", "hashkv", "--rev", "999"], ""),
        (&["endpoint", "hashkv", "--rev", "2"], ""),
        (&["member", "list"], ""),
        (&["member", "list", "-w", "json"], ""),
        (
            &["member", "list", "-w", "fields", "--consistency", "s"],
            "",
        ),
        (&["alarm", "list"], ""),
        (&["alarm", "list", "-w", "json"], ""),
        (&["alarm", "disarm"], ""),
        (&["version"], ""),
    ];
    same(&node, &etcd, commands);
}

/// Raises an alarm of the member itself.
fn raise(endpoint: &str, alarm: &str) {
    let status = http::post(endpoint, "/v3/maintenance/status", "{}");
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    let member = &status["header"]["member_id"];
    let request = json!({"action": "ACTIVATE", "memberID": member, "alarm": alarm});
    let answer = http::post(endpoint, "/v3/maintenance/alarm", &request.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn alarms_and_defragmentation_print_the_same() {
    let (_folder, node, etcd) = servers();
    let read = "ver(\"a\") > \"0\"\n\nget a\n\n\n";
    let write = "ver(\"a\") > \"0\"\n\nput a 2\n\n\n";
    same(&node, &etcd, &[(&["put", "a", "1"], ""), (&["defrag"], "")]);
    for alarm in ["NOSPACE", "CORRUPT"] {
        for endpoint in [&node.endpoint, &etcd.endpoint] {
            raise(endpoint, alarm);
        }
        let commands: &[(&[&str], &str)] = &[
            (&["alarm", "list"], ""),
            (&["alarm", "list", "-w", "json"], ""),
            (&["alarm", "list", "-w", "fields"], ""),
            (&["put", "a", "2"], ""),
            (&["txn"], write),
            (&["txn"], read),
            (&["get", "a"], ""),
            (&["del", "none"], ""),
            (&["endpoint", "health"], ""),
            (&["defrag"], ""),
            (&["alarm", "disarm"], ""),
            (&["alarm", "disarm"], ""),
            (&["alarm", "list"], ""),
            (&["put", "a", "1"], ""),
            (&["endpoint", "health"], ""),
        ];
        same(&node, &etcd, commands);
    }
}

/// The ids of the members, as etcdctl takes them: this one's, and the learner's if there is one.
fn member_ids(endpoint: &str) -> [String; 2] {
    let list = http::post(endpoint, "/v3/cluster/member/list", "{}");
    let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    let members = list["members"].as_array().unwrap();
    let of = |is_learner: bool| {
        let is_it = |member: &&serde_json::Value| member["isLearner"].is_null() != is_learner;
        let member = members.iter().find(is_it);
        let id = member.map_or("0", |member| member["ID"].as_str().unwrap());
        let id: u64 = id.parse().unwrap();
        format!("{id:x}")
    };
    [of(false), of(true)]
}

#[test]
fn changes_of_members_print_the_same() {
    let (_folder, node, etcd) = servers();
    // The commands name members by what only the server in question knows.
    let same = |commands: &[&str]| {
        for command in commands {
            let [ours, theirs] = [&node.endpoint, &etcd.endpoint].map(|endpoint| {
                let [own, learner] = member_ids(endpoint);
                let command = command.replace("OWN", &own).replace("LEARNER", &learner);
                let arguments: Vec<_> = command.split(' ').collect();
                let mut said = run(endpoint, &arguments, "");
                // By id, and ids are anything.
                let sorted = |line: &str| match line.strip_prefix("ETCD_INITIAL_CLUSTER=\"") {
                    Some(members) => {
                        let mut members: Vec<_> =
                            members.trim_end_matches('"').split(',').collect();
                        members.sort_unstable();
                        members.join(",")
                    }
                    None => line.to_owned(),
                };
                let mut lines: Vec<_> = said.output.lines().map(sorted).collect();
                lines.sort_unstable();
                said.output = lines.join("\n");
                said
            });
            assert_eq!(ours, theirs, "etcdctl {command}; Holdfast is left");
        }
    };
    same(&[
        "member add",
        "member add new",
        "member add new --peer-urls=nonsense",
        "member add new --learner --peer-urls=http://127.0.0.1",
        "member add new --learner --peer-urls=http://127.0.0.1:3,http://127.0.0.1:2",
        "member list",
        "member add new --learner --peer-urls=http://127.0.0.1:3",
        "member add new --learner --peer-urls=http://127.0.0.1:4",
        "member update LEARNER --peer-urls=http://127.0.0.1:5,http://127.0.0.1:4",
        "member list",
        "member update OWN --peer-urls=http://127.0.0.1:4",
        "member update 7 --peer-urls=http://127.0.0.1:9",
        "member update nonsense --peer-urls=http://127.0.0.1:9",
        "member promote 7",
        "member promote OWN",
        "member remove 7",
        "member remove OWN",
        "member remove LEARNER",
        "member list",
        "member add new --learner --peer-urls=http://127.0.0.1:6",
        "member list",
        "member remove LEARNER",
    ]);
}

#[test]
fn saving_a_snapshot_prints_the_same() {
    let (folder, node, etcd) = servers();
    // The same file, one after the other: what is printed names it.
    let file = folder.path().join("file.db");
    let [ours, theirs] = [&node.endpoint, &etcd.endpoint].map(|endpoint| {
        assert_eq!(run(endpoint, &["put", "a", "1"], "").code, Some(0));
        let said = run(endpoint, &["snapshot", "save", file.to_str().unwrap()], "");
        std::fs::remove_file(&file).unwrap();
        said
    });
    assert_eq!(ours, theirs, "Holdfast is left");
    assert_eq!(ours.code, Some(0));
    assert!(ours.output.contains("Snapshot saved at "), "{ours:?}");
}

/// A command that goes on until it is killed, and the lines it prints.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(endpoint: &str, arguments: &[&str], input: &str) -> Self {
        let mut child = Command::new(etcdctl())
            .args(["--endpoints", endpoint])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // An interactive watch ends with its input.
            let _stdin = stdin;
            for line in output.lines().map_while(Result::ok) {
                if sender.send(normal_line(&line)).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// All lines that come one behind the other.
    fn burst(&self) -> Vec<String> {
        let mut lines = self.next(1);
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(700)) {
            lines.push(line);
        }
        lines
    }

    /// All lines up to one, or up to where no more come.
    fn until(&self, is_last: impl Fn(&String) -> bool) -> Vec<String> {
        let mut lines = self.next(1);
        while !is_last(&lines[lines.len() - 1])
            && let Ok(line) = self.lines.recv_timeout(Duration::from_millis(2_500))
        {
            lines.push(line);
        }
        lines
    }

    fn next(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut lines = Vec::new();
        while lines.len() < count {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{error} after {lines:?}"),
            }
        }
        lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watches_print_the_same() {
    let (_folder, node, etcd) = servers();
    let commands: &[(&[&str], &str)] = &[
        (&["put", "w/a", "1"], ""),
        (&["put", "w/b", "2"], ""),
        (&["put", "w/a", "3"], ""),
        (&["del", "w/b"], ""),
    ];
    same(&node, &etcd, commands);
    let watches: &[(&[&str], &str)] = &[
        (&["watch", "--rev", "2", "--prefix", "w/"], ""),
        (&["watch", "--rev", "2", "--prefix", "w/", "--prev-kv"], ""),
        (&["watch", "--rev", "2", "-w", "json", "--prefix", "w/"], ""),
        (&["watch", "--rev", "2", "-w", "fields", "w/a"], ""),
        (&["watch", "--rev", "3", "w/a", "w/z"], ""),
        (&["watch", "--rev", "2", "--prefix", "", "-w", "json"], ""),
        (&["watch", "-i"], "watch --rev 2 w/a w/z\n"),
        (
            &["watch", "-i"],
            "watch --rev 2 --prev-kv w/a\nnonsense\nwatch\n",
        ),
        (&["watch", "-i"], "watch --rev=2 --prefix w/\n"),
        (
            &[
                "watch",
                "--rev",
                "2",
                "w/a",
                "--",
                "sh",
                "-c",
                "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE",
            ],
            "",
        ),
    ];
    for (arguments, input) in watches {
        let start = |endpoint: &str| Running::start(endpoint, arguments, input);
        let (ours, theirs) = (start(&node.endpoint), start(&etcd.endpoint));
        let theirs = theirs.burst();
        let ours = ours.next(theirs.len());
        assert_eq!(
            ours, theirs,
            "etcdctl {arguments:?} <<< {input:?}; Holdfast is left"
        );
    }
    // Compacted away: the watch ends with an error.
    same(
        &node,
        &etcd,
        &[
            (&["compaction", "5"], ""),
            (&["watch", "--rev", "2", "w/a"], ""),
        ],
    );
}

/// Which lines of the output come first is up to two streams; what is the same is what all of them say.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

#[test]
fn live_watches_and_their_progress_print_the_same() {
    real::check_version();
    let folder = tempfile::tempdir().unwrap();
    let often = "--watch-progress-notify-interval=1s";
    let node = Node::start_with(&folder.path().join("data"), &[often]);
    let etcd = Etcd::start_with(&[often]);
    let endpoints = [&node.endpoint, &etcd.endpoint];
    let both = |arguments: &[&str], input: &str| {
        endpoints.map(|endpoint| Running::start(endpoint, arguments, input))
    };
    let put = |key: &str, value: &str| {
        for endpoint in endpoints {
            assert_eq!(run(endpoint, &["put", key, value], "").code, Some(0));
        }
    };
    // What a watch prints first shows that it is there.
    put("l/a", "1");
    let from = ["--rev", "2"];
    let watches: &[(&[&str], &str)] = &[
        (&["watch", "--progress-notify", "l/a"], ""),
        (&["watch", "--prefix", "--prev-kv", "l/"], ""),
        (&["watch", "l/a", "l/c"], ""),
        (
            &[
                "watch",
                "l/a",
                "--",
                "sh",
                "-c",
                "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE",
            ],
            "",
        ),
        (&["watch", "-i"], "watch --rev 2 l/a\nwatch --rev 2 l/b\n"),
    ];
    let running: Vec<_> = watches
        .iter()
        .map(|(arguments, input)| {
            let is_interactive = arguments.contains(&"-i");
            let at = if is_interactive { &[][..] } else { &from[..] };
            let arguments = [&arguments[..1], at, &arguments[1..]].concat();
            both(&arguments, input)
        })
        .collect();
    let first: Vec<_> = running
        .iter()
        .map(|both| both.each_ref().map(|running| running.next(1)))
        .collect();
    put("l/b", "2");
    put("l/a", "3");
    for endpoint in endpoints {
        assert_eq!(run(endpoint, &["del", "l/a"], "").code, Some(0));
    }
    for (((arguments, _), [ours, theirs]), [our_first, their_first]) in
        watches.iter().zip(&running).zip(first)
    {
        // Progress comes once nothing else does, and then again and again.
        let progress = |line: &String| line.contains("progress notify");
        let theirs = theirs.until(progress);
        assert_eq!(
            sorted([our_first, ours.next(theirs.len())].concat()),
            sorted([their_first, theirs].concat()),
            "etcdctl {arguments:?}; Holdfast is left"
        );
    }
    // Asked for: told once all watchers have everything.
    let interactive = both(&["watch", "-i"], "watch l/a\nprogress\n");
    let [ours, theirs] = interactive.map(|running| running.next(1));
    assert_eq!(ours, theirs, "Holdfast is left");
    assert!(ours[0].contains("progress notify: 5"), "{ours:?}");
}

/// Waits until a server has what another one has.
fn wait_for(endpoint: &str, arguments: &[&str], expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = run(endpoint, arguments, "");
        if said.output == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{said:?} is not {expected:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_mirror_goes_to_etcd_and_back() {
    let (_folder, node, etcd) = servers();
    let put = |endpoint: &str, key: &str, value: &str| {
        assert_eq!(run(endpoint, &["put", key, value], "").code, Some(0));
    };
    put(&node.endpoint, "m/a", "1");
    put(&node.endpoint, "m/b", "2");
    let there = [
        "make-mirror",
        "--prefix",
        "m/",
        "--dest-prefix",
        "copy/",
        &etcd.endpoint,
    ];
    let back = [
        "make-mirror",
        "--prefix",
        "copy/",
        "--dest-prefix",
        "back/",
        &node.endpoint,
    ];
    let _there = Running::start(&node.endpoint, &there, "");
    let all = |prefix| ["get", "--prefix", prefix];
    wait_for(&etcd.endpoint, &all("copy/"), "copy/a\n1\ncopy/b\n2\n");
    let _back = Running::start(&etcd.endpoint, &back, "");
    wait_for(&node.endpoint, &all("back/"), "back/a\n1\nback/b\n2\n");
    put(&node.endpoint, "m/c", "3");
    assert_eq!(run(&node.endpoint, &["del", "m/a"], "").code, Some(0));
    wait_for(&etcd.endpoint, &all("copy/"), "copy/b\n2\ncopy/c\n3\n");
    wait_for(&node.endpoint, &all("back/"), "back/b\n2\nback/c\n3\n");
}

#[test]
fn protobuf_output_is_the_message() {
    use prost::Message;
    use proto::etcd::etcdserverpb::RangeResponse;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    assert_eq!(run(&node.endpoint, &["put", "a", "1"], "").output, "OK\n");
    let output = Command::new(etcdctl())
        .args(["--endpoints", &node.endpoint, "get", "a", "-w", "protobuf"])
        .output()
        .unwrap();
    let answer = RangeResponse::decode(&output.stdout[..]).unwrap();
    assert_eq!((answer.count, &answer.kvs[0].value[..]), (1, &b"1"[..]));
    assert_eq!(answer.header.unwrap().revision, 2);
}
