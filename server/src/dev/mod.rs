//! `holdfast dev`: a cluster on this machine with one command, for a try and for tests.
//!
//! Each node is a process of the same program, as it would be on a machine of its own. They live no longer than this
//! process: their standard input is a pipe from it, and they end when that is closed.

mod folder;
mod process;
mod screen;

use std::io::{self, Write as _};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use self::folder::Folder;
use self::process::Process;
use self::screen::Screen;
use crate::config::{DevOptions, HOLDFAST_VERSION};
use crate::resource::Pki;
use crate::signals::Signals;
use crate::text::{Align, table};

/// How often the nodes are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// How often it is looked whether a node has ended that was told to.
const STOP_PERIOD: Duration = Duration::from_millis(20);

/// How long the nodes may take to end: longer than a node gives its own parts.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What went wrong; the text is for whoever ran the command.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the cluster until it is told to end.
pub fn run(options: &DevOptions) -> ExitCode {
    match launch(options) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "holdfast dev: {error}");
            ExitCode::FAILURE
        }
    }
}

fn launch(options: &DevOptions) -> Result<ExitCode, Failure> {
    let mut folder = Folder::open(options)?;
    let goes_on = folder.has_nodes() && !options.is_fresh;
    if options.is_fresh {
        folder.clear(options)?;
    }
    let mut processes = processes(&folder);
    processes.iter().try_for_each(Process::check_ports)?;
    folder.begin()?;
    // Before the nodes, which would each make their own.
    Pki::open(&folder.certificates(), &[])
        .map_err(|error| format!("cannot make the certificates of the resource API: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before there is anything to end in order.
        let signals = Signals::new(false)?;
        let members: Vec<_> = processes.iter().map(Process::initial_cluster).collect();
        let members = members.join(",");
        for process in &mut processes {
            process.start(&members)?;
        }
        let mut cluster = Cluster {
            shown: vec![String::new(); processes.len()],
            processes,
            screen: Screen::new(),
            leader: None,
            is_complete: false,
        };
        cluster.greet(options, goes_on);
        Ok(cluster.run(signals).await)
    })
}

fn processes(folder: &Folder) -> Vec<Process> {
    let names = folder.plan().names();
    (0..)
        .zip(names)
        .map(|(place, name)| Process::new(folder, place, &name))
        .collect()
}

/// The nodes, and what is shown of them.
struct Cluster {
    processes: Vec<Process>,
    screen: Screen,
    /// The line that was last printed for each, where no table is drawn.
    shown: Vec<String>,
    /// Whose leadership was told of last.
    leader: Option<String>,
    /// Whether it was told that all answer.
    is_complete: bool,
}

impl Cluster {
    /// What this is, and what to type next.
    fn greet(&mut self, options: &DevOptions, goes_on: bool) {
        let folder = options.data_dir.display();
        let endpoints: Vec<_> = self.processes.iter().map(|node| &*node.client).collect();
        let endpoints = endpoints.join(",");
        let program = std::env::args_os().next().unwrap_or_default();
        let program = program.to_string_lossy();
        let nodes = match self.processes.len() {
            1 => "one node".to_owned(),
            count => format!("a cluster of {count}"),
        };
        let is_new = if goes_on { "goes on" } else { "is new" };
        let mut text = format!(
            "Holdfast {HOLDFAST_VERSION}: {nodes} on this machine. The data in {folder} {is_new}; logs: {folder}/n1.log, ..\n\n\
             Try it in another terminal:\n  \
             etcdctl --endpoints={endpoints} put greeting hello\n  \
             etcdctl --endpoints={endpoints} get greeting\n  \
             {program} status --endpoints={endpoints}\n  \
             kubectl --kubeconfig {folder}/n1/admin.kubeconfig get namespaces\n"
        );
        if self.processes.len() > 1 {
            text.push_str(&format!(
                "Kill a node, and see the others go on:\n  kill -9 $(cat {folder}/n1/member/lock)\n"
            ));
        }
        text.push_str(
            "Ctrl-C ends all of it; the data stays, and the same command goes on with it.\n",
        );
        self.screen.say(&text);
    }

    /// Looks at the nodes until a signal comes or none is left.
    async fn run(&mut self, mut signals: Signals) -> ExitCode {
        loop {
            let signal = tokio::select! {
                signal = signals.next() => Some(signal),
                () = self.look() => None,
            };
            if let Some(signal) = signal {
                return self.stop(signal, signals).await;
            }
            if self.processes.iter().all(|process| process.pid().is_none()) {
                self.screen.say("No node is left.");
                return ExitCode::FAILURE;
            }
            tokio::select! {
                signal = signals.next() => return self.stop(signal, signals).await,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Looks once, and shows what is there.
    async fn look(&mut self) {
        self.reap();
        join_all(self.processes.iter_mut().map(Process::ask)).await;
        // One of them may have ended over the question.
        self.reap();
        if self.screen.is_terminal() {
            self.draw();
        } else {
            self.tell_changes();
        }
        self.tell_milestones();
    }

    /// Tells of nodes that have ended by themselves.
    fn reap(&mut self) {
        for place in 0..self.processes.len() {
            let process = &mut self.processes[place];
            let ended = match process.ended() {
                Ok(ended) => ended,
                Err(error) => {
                    self.screen.say(&format!("{}: {error}", process.name));
                    continue;
                }
            };
            if let Some(status) = ended {
                let (name, last_words) = (process.name.clone(), process.last_words());
                let rest = self.rest();
                self.screen
                    .say(&format!("{name} has ended ({status}). {rest} {last_words}"));
            }
        }
    }

    /// What the nodes that are left can do.
    fn rest(&self) -> String {
        let all = self.processes.len();
        let running = self.processes.iter().filter(|node| node.pid().is_some());
        let (running, majority) = (running.count(), all / 2 + 1);
        if all == 1 {
            "It was the only one.".to_owned()
        } else if running >= majority {
            format!("The other {running} go on; it comes back with the next start.")
        } else {
            format!("{running} of {all} are left: too few to write, which takes {majority}.")
        }
    }

    fn draw(&mut self) {
        use Align::{Left, Right};
        let head = [
            ("NODE", Left),
            ("PID", Right),
            ("CLIENTS", Left),
            ("ROLE", Left),
            ("TERM", Right),
            ("APPLIED", Right),
            ("SIZE", Right),
            ("", Left),
        ];
        let rows: Vec<Vec<String>> = self
            .processes
            .iter()
            .map(|process| {
                let [term, applied, size] = process.figures();
                let pid = process.pid();
                vec![
                    process.name.clone(),
                    pid.map_or("-".to_owned(), |pid| pid.to_string()),
                    process.client.clone(),
                    process.role().to_owned(),
                    term,
                    applied,
                    size,
                    process.remark(),
                ]
            })
            .collect();
        self.screen.draw(&table(&head, &rows));
    }

    /// A line for each node that is something else than it was when last told of.
    fn tell_changes(&mut self) {
        for (process, shown) in self.processes.iter().zip(&mut self.shown) {
            let (role, remark) = (process.role(), process.remark());
            let [term, applied, size] = process.figures();
            let kind = format!("{role} {term} {remark}");
            if *shown == kind {
                continue;
            }
            *shown = kind;
            let name = &process.name;
            let pid = process.pid();
            let pid = pid.map_or("-".to_owned(), |pid| pid.to_string());
            let line = format!(
                "{name}  pid {pid}  {}  {role}  term {term}  applied {applied}  size {size}  {remark}",
                process.client
            );
            self.screen.say(line.trim_end());
        }
    }

    /// Tells when all answer for the first time, and of every other leader after that.
    fn tell_milestones(&mut self) {
        let leads = |process: &&Process| process.role() == "leader";
        // One that does not know yet that it was replaced is of an older term.
        let leader = self
            .processes
            .iter()
            .filter(leads)
            .max_by_key(|process| process.status().map(|status| status.raft_term));
        let Some(leader) = leader.map(|process| process.name.clone()) else {
            return;
        };
        if self.leader.as_ref() != Some(&leader) {
            if self.is_complete {
                self.screen.say(&format!("{leader} is the leader now."));
            }
            self.leader = Some(leader.clone());
        }
        let all_answer = self.processes.iter().all(|node| node.status().is_some());
        if all_answer && !self.is_complete {
            self.is_complete = true;
            self.screen
                .say(&format!("All nodes answer; {leader} is the leader."));
        }
    }

    /// Ends all nodes in order.
    async fn stop(&mut self, signal: &str, mut signals: Signals) -> ExitCode {
        self.screen.say(&format!("{signal}: ending the nodes."));
        self.signal(Signal::TERM);
        let until = Instant::now() + STOP_PATIENCE;
        let mut code = ExitCode::SUCCESS;
        loop {
            for place in 0..self.processes.len() {
                let process = &mut self.processes[place];
                if let Ok(Some(status)) = process.ended()
                    && !status.success()
                {
                    let text = failed_to_stop(process, status);
                    self.screen.say(&text);
                }
            }
            if self.processes.iter().all(|process| process.pid().is_none()) {
                self.screen.say("All nodes have ended.");
                return code;
            }
            let is_over = Instant::now() >= until;
            let again = tokio::select! {
                signal = signals.next() => Some(signal),
                () = tokio::time::sleep(STOP_PERIOD) => None,
            };
            if code == ExitCode::SUCCESS && (is_over || again.is_some()) {
                let why = again.unwrap_or("they take too long");
                self.screen.say(&format!(
                    "{why}: killing the nodes that are left; they lose nothing that they acknowledged."
                ));
                self.signal(Signal::KILL);
                code = ExitCode::FAILURE;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        self.processes
            .iter()
            .for_each(|process| process.signal(signal));
    }
}

fn failed_to_stop(process: &Process, status: ExitStatus) -> String {
    let name = &process.name;
    format!("{name} has ended ({status}). {}", process.last_words())
}
