//! Runs a case, and tells what was other than expected.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::case::{Case, Step, words};
use super::expected::is_so;
use super::node::{http, real};

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a command that prints nothing is given to begin.
const BEGINNING: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(10);

/// The server that is talked to.
pub(crate) struct Target {
    /// Where the resource API listens.
    pub(crate) api: String,
    /// Where clients of etcd are served.
    pub(crate) etcd: String,
}

/// A case that runs.
struct Run<'a> {
    target: &'a Target,
    namespace: String,
    folder: TempDir,
    /// What steps have saved, by name.
    saved: Vec<(String, String)>,
}

/// A command that runs; killed when dropped.
struct Running {
    child: Child,
    out: Output,
    err: Output,
}

/// A file that takes what a command prints.
struct Output(File);

/// What came of a command.
struct Outcome {
    /// None if it did not end by itself.
    exit: Option<i32>,
    out: String,
    err: String,
}

/// Runs a case to its end, or to the first step that fails.
pub(crate) fn run(case: &Case, number: usize, target: &Target) -> Result<(), String> {
    let mut run = Run {
        target,
        // All names are of one length: so are the columns that they stand in.
        namespace: format!("case-{number:03}"),
        folder: tempfile::tempdir().unwrap(),
        saved: Vec::new(),
    };
    run.prepare(case)?;
    case.steps.iter().try_for_each(|step| run.step(step))
}

impl Run<'_> {
    fn prepare(&self, case: &Case) -> Result<(), String> {
        let home = self.folder.path();
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {"server": self.server()}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "", "namespace": self.namespace}}],
            "current-context": "local",
        });
        self.write(home.join(".kube/config"), &config.to_string());
        for (name, text) in &case.files {
            self.write(home.join(name), &self.filled(text));
        }
        let namespace = json!({"metadata": {"name": self.namespace}}).to_string();
        let headers = [("content-type", "application/json")];
        let path = "/api/v1/namespaces";
        let answer = http::call(&self.target.api, "POST", path, &headers, &namespace);
        match answer.status {
            201 => Ok(()),
            _ => Err(format!("its namespace was not made: {}\n", answer.body)),
        }
    }

    fn write(&self, path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn server(&self) -> String {
        format!("http://{}", self.target.api)
    }

    /// A text of the case with names replaced by what they stand for.
    fn filled(&self, text: &str) -> String {
        let saved = self.saved.iter();
        let text = saved.fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${name}"), value)
        });
        text.replace("$NS", &self.namespace)
            .replace("$SERVER", &self.server())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let outcome = loop {
            let outcome = match step.meanwhile.as_slice() {
                [] => self.start(step).end(LIMIT),
                meanwhile => self.start_and_do(step, meanwhile)?,
            };
            match self.complaint(step, &outcome) {
                None => break outcome,
                Some(_) if step.eventually && Instant::now() < deadline => {
                    std::thread::sleep(20 * PAUSE);
                }
                Some(complaint) => return Err(self.report(step, &complaint, &outcome)),
            }
        };
        if let Some(name) = &step.save {
            let value = outcome.out.trim().to_owned();
            self.saved.push((name.clone(), value));
        }
        Ok(())
    }

    fn start(&self, step: &Step) -> Running {
        let home = self.folder.path();
        let mut words = words(&self.filled(&step.run));
        let is_etcdctl = words.first().is_some_and(|word| word == "etcdctl");
        let mut command = if is_etcdctl {
            words.remove(0);
            let mut command = Command::new(real::tool("etcdctl"));
            command.args(["--endpoints", &self.target.etcd]);
            command
        } else {
            Command::new(real::tool("kubectl"))
        };
        // A file, unlike a pipe, takes all of it before the command reads.
        let stdin = Output::new();
        let text = self.filled(&step.stdin);
        stdin.0.write_all_at(text.as_bytes(), 0).unwrap();
        let (out, err) = (Output::new(), Output::new());
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TMPDIR", home)
            .envs(
                step.env
                    .iter()
                    .map(|(name, value)| (name, self.filled(value))),
            )
            .current_dir(home)
            .stdin(stdin.stdio())
            .stdout(out.stdio())
            .stderr(err.stdio());
        let child = command.spawn().unwrap();
        Running { child, out, err }
    }

    /// Other steps are done while this one runs.
    fn start_and_do(&mut self, step: &Step, meanwhile: &[Step]) -> Result<Outcome, String> {
        let mut running = self.start(step);
        running.wait(BEGINNING, |running| !running.out.text().is_empty());
        for other in meanwhile {
            self.step(other)?;
        }
        if step.ends {
            return Ok(running.end(PATIENCE));
        }
        let expected = self.filled(step.out.as_deref().unwrap_or_default());
        let is_seen = running.wait(PATIENCE, |running| is_so(&expected, &running.out.text()));
        let mut outcome = running.end(Duration::ZERO);
        if is_seen {
            outcome.exit = Some(step.exit);
        }
        Ok(outcome)
    }

    /// What is not as expected.
    fn complaint(&self, step: &Step, outcome: &Outcome) -> Option<String> {
        let Some(exit) = outcome.exit else {
            return Some("it did not end".to_owned());
        };
        if exit != step.exit {
            return Some(format!("exit code {exit}, not {}", step.exit));
        }
        let expected = step.out.as_deref().map(|out| self.filled(out));
        if let Some(expected) = expected.filter(|expected| !is_so(expected, &outcome.out)) {
            return Some(format!("another stdout than\n{}", indented(&expected)));
        }
        let silent = (exit == 0).then_some("");
        let expected = step.err.as_deref().or(silent);
        let expected = expected.map(|err| self.filled(err));
        let other = expected.filter(|expected| !is_so(expected, &outcome.err));
        other.map(|expected| format!("another stderr than\n{}", indented(&expected)))
    }

    fn report(&self, step: &Step, complaint: &str, outcome: &Outcome) -> String {
        format!(
            "  $ {}\n  {}\n  stdout:\n{}\n  stderr:\n{}\n",
            self.filled(&step.run),
            complaint,
            indented(&outcome.out),
            indented(&outcome.err)
        )
    }
}

fn indented(text: &str) -> String {
    let lines = text.trim_end().lines();
    let lines: Vec<String> = lines.map(|line| format!("      {line}")).collect();
    lines.join("\n")
}

impl Running {
    /// Waits until something is so; false if it is not in that time, or the command has ended.
    fn wait(&mut self, time: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let has_ended = self.child.try_wait().unwrap().is_some();
            if is_so(self) {
                return true;
            }
            if has_ended || Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits for its end, and ends it after that time.
    fn end(mut self, time: Duration) -> Outcome {
        self.wait(time, |_| false);
        let status = self.child.try_wait().unwrap();
        Outcome {
            // A signal is an end, too, and never an expected one.
            exit: status.map(|status| status.code().unwrap_or(-1)),
            out: self.out.text(),
            err: self.err.text(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn new() -> Self {
        Self(tempfile::tempfile().unwrap())
    }

    fn stdio(&self) -> Stdio {
        self.0.try_clone().unwrap().into()
    }

    /// All that it holds. Read at a place of our own: the command's place in the file is the same as the file's.
    fn text(&self) -> String {
        let length = self.0.metadata().unwrap().len();
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
