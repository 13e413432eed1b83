//! One node as a process of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use proto::etcd::etcdserverpb::StatusResponse;
use rustix::process::{Pid, Signal, kill_process};

use super::Failure;
use super::folder::Folder;
use crate::status::ask::{Endpoint, Silence};
use crate::status::{role, size};

/// How long a node may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// No line of a log that is worth showing is longer.
const LONGEST_LINE: u64 = 64 << 10;

/// One node: how to start it, how it runs and how it is.
pub(super) struct Process {
    pub(super) name: String,
    /// Where clients connect, as `host:port`.
    pub(super) client: String,
    peer: String,
    api: String,
    /// Those of the resource API, which all nodes share.
    certificates: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    endpoint: Endpoint,
    child: Option<Child>,
    /// What it said when it was last asked.
    answer: Option<Result<StatusResponse, Silence>>,
    has_answered: bool,
}

impl Process {
    /// The node at a place, which does not run yet.
    pub(super) fn new(folder: &Folder, place: u16, name: &str) -> Self {
        let [client, peer, api] = folder.plan().ports(place);
        let client = format!("127.0.0.1:{client}");
        Self {
            name: name.to_owned(),
            peer: format!("127.0.0.1:{peer}"),
            api: format!("127.0.0.1:{api}"),
            certificates: folder.certificates(),
            data_dir: folder.data_dir(name),
            log: folder.log(name),
            endpoint: Endpoint::new(&client, PATIENCE),
            client,
            child: None,
            answer: None,
            has_answered: false,
        }
    }

    /// Fails if somebody else has one of its ports.
    pub(super) fn check_ports(&self) -> Result<(), Failure> {
        for address in [&self.client, &self.peer, &self.api] {
            TcpListener::bind(address).map_err(|error| {
                format!(
                    "cannot use {address} for {}: {error}; another etcd or holdfast may run there: end it, or choose \
                     other ports with --base-port (and another --data-dir)",
                    self.name
                )
            })?;
        }
        Ok(())
    }

    /// `n1=http://127.0.0.1:2380`.
    pub(super) fn initial_cluster(&self) -> String {
        format!("{}=http://{}", self.name, self.peer)
    }

    /// Starts it as a member of the cluster that is written as for `--initial-cluster`.
    pub(super) fn start(&mut self, initial_cluster: &str) -> Result<(), Failure> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("cannot write {}: {error}", self.log.display()))?;
        let mut command = Command::new(std::env::current_exe()?);
        // What is set for a node here is not meant for all of them.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(variable);
            }
        }
        command.env_remove("NOTIFY_SOCKET");
        let (client, peer) = (
            format!("http://{}", self.client),
            format!("http://{}", self.peer),
        );
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(&self.data_dir)
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", initial_cluster])
            .args(["--initial-cluster-token", "holdfast-dev"])
            .args(["--listen-api-urls", &format!("https://{}", self.api)])
            .arg("--api-cert-dir")
            .arg(&self.certificates)
            .arg("--end-with-stdin")
            // Nothing is written there: it is closed with this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is for this process, which ends the nodes in order.
            .process_group(0);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it has ended since it was last looked at, and how.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.child = None;
            self.answer = None;
        }
        Ok(ended)
    }

    /// Asks it how it is, if it runs.
    pub(super) async fn ask(&mut self) {
        if self.child.is_some() {
            let answer = self.endpoint.status().await;
            self.has_answered |= answer.is_ok();
            self.answer = Some(answer);
        }
    }

    /// What it said when it was last asked.
    pub(super) fn status(&self) -> Option<&StatusResponse> {
        self.answer.as_ref()?.as_ref().ok()
    }

    /// What it is, in a word or two.
    pub(super) fn role(&self) -> &'static str {
        match &self.answer {
            _ if self.child.is_none() => "ended",
            Some(Ok(status)) => role(Some(status)),
            _ if self.has_answered => "no answer",
            _ => "starting",
        }
    }

    /// What else there is to say.
    pub(super) fn remark(&self) -> String {
        match &self.answer {
            Some(Ok(status)) => status.errors.join("; "),
            Some(Err(silence)) if self.has_answered => silence.to_string(),
            _ => String::new(),
        }
    }

    /// Term, index, and size, as far as they are known.
    pub(super) fn figures(&self) -> [String; 3] {
        match self.status() {
            Some(status) => [
                status.raft_term.to_string(),
                status.raft_applied_index.to_string(),
                size(status.db_size),
            ],
            None => ["-"; 3].map(str::to_owned),
        }
    }

    /// Asks it to end.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended a moment ago.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// The last line of its log, in words.
    pub(super) fn last_words(&self) -> String {
        let log = self.log.display();
        match last_line(&self.log) {
            Ok(line) if line.is_empty() => format!("Its log, {log}, is empty."),
            Ok(line) => format!("The last line of {log}: {}", words(&line)),
            Err(error) => format!("Its log, {log}, cannot be read: {error}"),
        }
    }
}

/// Nothing is left running if this process cannot go on.
impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn last_line(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LONGEST_LINE)))?;
    let mut end = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    let last = end.lines().rfind(|line| !line.trim().is_empty());
    Ok(last.unwrap_or_default().to_owned())
}

/// A line of the log without what is not for people.
fn words(line: &str) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(line) else {
        return line.to_owned();
    };
    let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
    let Some(message) = text("msg") else {
        return line.to_owned();
    };
    let why = text("error").or_else(|| text("reason"));
    match why {
        Some(why) => format!("{message}: {why}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_log_is_told_in_words() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("log");
        let line = r#"{"level":"fatal","ts":"x","msg":"cannot start","error":"cannot listen"}"#;
        std::fs::write(&path, format!("{}\n{line}\n\n", "x".repeat(100_000))).unwrap();
        assert_eq!(
            words(&last_line(&path).unwrap()),
            "cannot start: cannot listen"
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(last_line(&path).unwrap(), "");
        assert_eq!(
            words("memory allocation failed"),
            "memory allocation failed"
        );
        assert_eq!(words(r#"{"msg":"stopped"}"#), "stopped");
    }
}
