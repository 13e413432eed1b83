//! The generator against the echo server, for a fraction of a second: counts and outcomes, never times.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");

/// An echo server that ends with its test.
struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    fn start() -> Echo {
        let mut child = Command::new(BENCH)
            .arg("echo")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        Echo { child, address }
    }

    fn load(&self, options: &[&str]) -> Output {
        Command::new(BENCH)
            .args([
                "load",
                "--seconds=0.2",
                "--warm-up=0",
                "--endpoint",
                &self.address,
            ])
            .arg(format!("--pid={}", self.child.id()))
            .args(options)
            .output()
            .unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_unary_work_runs_and_reports_what_it_did() {
    let echo = Echo::start();
    for work in [
        "put",
        "put-lone",
        "update",
        "get",
        "get-serializable",
        "list-500",
        "list-10000",
    ] {
        // Large answers take their time where everything else runs, too.
        let seconds = if work == "list-10000" { 2.0 } else { 0.2 };
        let output = echo.load(&[
            "--work",
            work,
            "--threads=2",
            &format!("--seconds={seconds}"),
        ]);
        assert!(
            output.status.success(),
            "{work}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(outcome["work"], work);
        let operations = outcome["operations"].as_f64().unwrap();
        assert!(operations > 0.0, "{work}");
        assert_eq!(outcome["per_second"], operations / seconds, "{work}");
        let latency = |name: &str| outcome["latency"][name].as_f64().unwrap();
        assert!(
            0.0 < latency("p50_us") && latency("p50_us") <= latency("p99_us"),
            "{work}"
        );
        assert!(latency("p99_us") <= latency("max_us"), "{work}");
        assert!(outcome["server"]["rss_kib"].as_u64().unwrap() > 0, "{work}");
        assert!(outcome["server_cpu_us"].is_f64(), "{work}");
    }
}

#[test]
fn a_fill_writes_every_key_once() {
    let echo = Echo::start();
    let output = echo.load(&["--work=fill", "--keys=1234"]);
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&outcome["operations"], &outcome["keys"]),
        (&1234.into(), &1234.into())
    );
}

#[test]
fn an_answer_with_other_keys_than_were_written_fails_the_run() {
    let echo = Echo::start();
    // The echo server always lists 500 and 10,000 keys.
    let page = error(&echo.load(&["--work=list-500", "--keys=700"]));
    assert!(
        page.contains("a page after 500 keys has 500 keys, not 200"),
        "{page}"
    );
    let list = error(&echo.load(&["--work=list-10000", "--keys=9999"]));
    assert!(list.contains("a list found 10000 keys, not 9999"), "{list}");
}

#[test]
fn an_error_status_fails_the_run_with_its_text() {
    let echo = Echo::start();
    // The echo server has no Watch service.
    let watch = error(&echo.load(&["--work=watch"]));
    assert!(watch.contains("gRPC status 12"), "{watch}");
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let output = Command::new(BENCH)
        .args(["load", "--work=put", "--endpoint=127.0.0.1:1"])
        .output()
        .unwrap();
    assert!(error(&output).contains("connecting to 127.0.0.1:1"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_wrong_command_line_exits_with_2_and_names_the_fault() {
    for (words, fault) in [
        (vec!["load", "--work=puts"], "`puts` is not a work"),
        (vec!["load"], "--work is needed"),
        (vec!["compare", "--fast"], "--fast is not known"),
        (vec!["lode"], "usage: bench load"),
    ] {
        let output = Command::new(BENCH).args(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(error(&output).contains(fault), "{words:?}");
    }
}

#[test]
fn a_guarded_child_ends_when_its_parent_is_killed() {
    // A shell stands for the comparison. Its child holds the pipe as well: when it ends, so does the file.
    let script = format!("{BENCH} guarded $$ /bin/sh -c 'echo up; exec sleep 60' & wait");
    let mut parent = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let begin = Instant::now();
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert_eq!(stdout.read_line(&mut line).unwrap(), 0);
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "the child lived on"
    );
}
