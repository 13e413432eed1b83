//! The command line.
#![allow(
    clippy::print_stdout,
    reason = "a command-line tool prints its results"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

use super::conditions::Conditions;
use super::fault::{self, Site};
use super::history::read_json;
use super::report::write_index;
use super::run::{self, CONDITIONS, clear_line};
use super::suite;
use super::workload;

const USAGE: &str = "\
usage: jepsen run    [--workload W] [--faults A,B,..|all|none] [--seconds N] [options]    one run
       jepsen suite  [--minutes M] [--faults A,B,..] [options]       every workload and fault
       jepsen replay RUN [--out DIR]        the same seed and options once more
       jepsen check  RUN_OR_SUITE ..        check stored histories again, write their pages again
       jepsen report RUN_OR_SUITE .. [--out FILE]   one index over all, two systems side by side
       jepsen list                          workloads and faults, and which this machine cannot have

options:
  --binary PATH        a server that takes etcd's flags (target/release/holdfast)
  --nodes N            members (3)
  --seconds N          how long clients ask (30)
  --seed S             what is random; printed, and stored with the run (the time)
  --rate N             operations a second of all clients together (300)
  --clients N          clients of each member (3)
  --timeout-ms N       how long a client waits for an answer (3000)
  --election-timeout-ms N   the servers' own, which a minority is measured against (1000); sets nothing
  --converge-ms N      from the end of a fault to one hash on all, at most (5000; 15000 for other servers than holdfast)
  --server-flag=FLAG   one more flag for the servers; may be repeated
  --network netns|none a network of its own for each member, or all on 127.0.0.1 (netns where root may)
  --least-faults N     of a suite: fewer faults in passed runs are a failure, and one run in five need not count (0)
  --least-kinds N      fewer kinds of them are a failure (0)
  --out DIR            where the run or the suite goes (target/jepsen/<system>-<seed>)

It exits with 1 if a promise was broken, if a fault did not really happen, or if too little was tested.";

/// Options as given.
#[derive(Debug, Default)]
struct Args {
    given: Vec<(String, String)>,
    places: Vec<PathBuf>,
}

const OPTIONS: [&str; 17] = [
    "binary",
    "nodes",
    "seconds",
    "seed",
    "rate",
    "clients",
    "timeout-ms",
    "election-timeout-ms",
    "converge-ms",
    "server-flag",
    "network",
    "out",
    "workload",
    "faults",
    "minutes",
    "least-faults",
    "least-kinds",
];

impl Args {
    fn parse(words: Vec<String>) -> anyhow::Result<Args> {
        let mut args = Args::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(body) = word.strip_prefix("--") else {
                args.places.push(PathBuf::from(word));
                continue;
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (body.to_owned(), words.next()),
            };
            ensure!(
                OPTIONS.contains(&name.as_str()),
                "--{name} is not known (`jepsen help` lists the options)"
            );
            let value = value.with_context(|| format!("--{name} needs a value"))?;
            args.given.push((name, value));
        }
        Ok(args)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let found = self.given.iter().rev().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    fn set<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
        target: &mut T,
    ) -> anyhow::Result<()> {
        if let Some(text) = self.text(name) {
            *target = text
                .parse()
                .map_err(|error| anyhow::anyhow!("--{name} {text}: {error}"))?;
        }
        Ok(())
    }

    fn binary(&self) -> &Path {
        Path::new(self.text("binary").unwrap_or("target/release/holdfast"))
    }

    fn conditions(&self) -> anyhow::Result<Conditions> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut conditions = Conditions::new(self.binary(), now.as_secs())?;
        self.set("seed", &mut conditions.seed)?;
        self.set("nodes", &mut conditions.nodes)?;
        self.set("seconds", &mut conditions.seconds)?;
        self.set("rate", &mut conditions.rate)?;
        self.set("clients", &mut conditions.clients)?;
        self.set("timeout-ms", &mut conditions.timeout_ms)?;
        self.set("election-timeout-ms", &mut conditions.election_timeout_ms)?;
        self.set("converge-ms", &mut conditions.converge_ms)?;
        self.set("workload", &mut conditions.workload)?;
        conditions
            .workload
            .parse::<workload::Kind>()
            .map_err(anyhow::Error::msg)?;
        ensure!(
            (1..=9).contains(&conditions.nodes),
            "--nodes {}: 1 to 9",
            conditions.nodes
        );
        ensure!(
            conditions.rate > 0.0,
            "--rate {}: more than 0",
            conditions.rate
        );
        let flags = self.given.iter().filter(|(name, _)| name == "server-flag");
        conditions.flags = flags.map(|(_, flag)| flag.clone()).collect();
        match self.text("network") {
            None => {}
            Some("none") => conditions.has_network = false,
            Some("netns") => {
                if let Some(why) = super::network::impossible() {
                    bail!("--network netns: {why}");
                }
            }
            Some(other) => bail!("--network {other}: netns or none"),
        }
        Ok(conditions)
    }

    fn folder(&self, conditions: &Conditions) -> PathBuf {
        let system = conditions.system().replace(' ', "-");
        let usual = format!("target/jepsen/{system}-{}", conditions.seed);
        PathBuf::from(self.text("out").unwrap_or(&usual))
    }
}

/// Runs the command; what the process exits with.
#[must_use]
pub fn main(mut words: Vec<String>) -> ExitCode {
    if words.is_empty() {
        println!("{USAGE}");
        return ExitCode::from(2);
    }
    let command = words.remove(0);
    let outcome = Args::parse(words).and_then(|args| match command.as_str() {
        "run" => run_one(&args),
        "suite" => run_suite(&args),
        "replay" => replay(&args),
        "check" => check(&args),
        "report" => report(&args),
        "list" => list(&args),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => bail!("no such command: {other} (`jepsen help` lists them)"),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            clear_line();
            eprintln!("jepsen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run_one(args: &Args) -> anyhow::Result<bool> {
    let mut conditions = args.conditions()?;
    let kinds = conditions
        .site()
        .parse(args.text("faults").unwrap_or("none"))?;
    conditions.faults = kinds.iter().map(|kind| kind.name.to_owned()).collect();
    make(&conditions, &args.folder(&conditions))
}

fn make(conditions: &Conditions, folder: &Path) -> anyhow::Result<bool> {
    println!(
        "{} on {}, seed {}",
        conditions.title(),
        conditions.system(),
        conditions.seed
    );
    let verdict = run::run(conditions, folder, "");
    clear_line();
    let verdict = verdict?;
    let entry = super::report::Entry {
        folder: folder.to_owned(),
        conditions: conditions.clone(),
        verdict: verdict.clone(),
    };
    print!("{}", suite::table(&[entry]));
    suite::problems(&verdict, "");
    println!("page: {}", folder.join(super::report::PAGE).display());
    Ok(verdict.is_pass())
}

fn run_suite(args: &Args) -> anyhow::Result<bool> {
    let conditions = args.conditions()?;
    let mut minutes = 3;
    args.set("minutes", &mut minutes)?;
    let folder = args.folder(&conditions);
    println!(
        "suite of {minutes} min on {}, seed {}",
        conditions.system(),
        conditions.seed
    );
    let mut least = suite::Least::default();
    args.set("least-faults", &mut least.faults)?;
    args.set("least-kinds", &mut least.kinds)?;
    suite::suite(
        &conditions,
        args.text("faults").unwrap_or("all"),
        minutes,
        least,
        &folder,
    )
}

fn replay(args: &Args) -> anyhow::Result<bool> {
    let [folder] = args.places.as_slice() else {
        bail!("replay needs the folder of one run");
    };
    let conditions: Conditions = read_json(&folder.join(CONDITIONS))?;
    let usual = format!("{}-again", folder.display());
    let again = PathBuf::from(args.text("out").unwrap_or(&usual));
    make(&conditions, &again)
}

fn check(args: &Args) -> anyhow::Result<bool> {
    ensure!(
        !args.places.is_empty(),
        "check needs folders of runs or suites"
    );
    let entries = suite::entries(&args.places)?;
    ensure!(!entries.is_empty(), "there is no run in there");
    print!("{}", suite::table(&entries));
    for entry in &entries {
        if !entry.verdict.is_pass() {
            println!("{}:", entry.folder.display());
            suite::problems(&entry.verdict, "  ");
        }
    }
    Ok(entries.iter().all(|entry| entry.verdict.is_pass()))
}

fn report(args: &Args) -> anyhow::Result<bool> {
    ensure!(
        !args.places.is_empty(),
        "report needs folders of runs or suites"
    );
    let entries = suite::entries(&args.places)?;
    let out = PathBuf::from(args.text("out").unwrap_or("target/jepsen/index.html"));
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_index(&out, &entries)?;
    println!("{} runs: {}", entries.len(), out.display());
    Ok(true)
}

fn list(args: &Args) -> anyhow::Result<bool> {
    let binary = args.binary();
    let mut members = 3;
    args.set("nodes", &mut members)?;
    let site = Site {
        binary,
        members,
        has_network: super::network::impossible().is_none(),
    };
    println!("workloads");
    for (name, _) in workload::KINDS {
        println!("  {name}");
    }
    println!("faults");
    for kind in fault::KINDS {
        let missing = site
            .lacks(kind)
            .map_or(String::new(), |why| format!(" (not here: {why})"));
        println!("  {:<16} {}{missing}", kind.name, kind.about);
    }
    Ok(true)
}
