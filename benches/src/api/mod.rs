//! What the resource API costs: the same works through it and through the etcd port of the same node, and a table.
//!
//! Every run has a fresh node. An operation of the API and its counterpart move the same bytes and ask the store for the
//! same: a create is a put where nothing was, an update a put at a known revision, a list one answer with everything.

mod node;
mod objects;
mod report;
mod scan;
mod unary;
mod watch;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::args::Args;
use crate::compare::sides::Sides;
use crate::load::{self, Outcome, Plan};

use node::{Idle, Node};
use objects::Requests;
use report::Report;

/// Options of `bench api`.
pub(crate) const OPTIONS: &[&str] = &[
    "works", "rounds", "seconds", "holdfast", "folder", "json", "markdown",
];
/// Options of `bench api` without a value.
pub(crate) const SWITCHES: &[&str] = &["quick"];

/// Memory of a fresh node, and how soon it is ready.
const IDLE: &str = "idle";
/// Bytes of an object as a client sends it, and of the value of a key.
const OBJECT_SIZE: usize = 1024;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// New objects.
    Create,
    /// Random objects, linearizably.
    Get,
    /// All objects in one answer.
    List,
    /// Objects replaced as they were last.
    Update,
    /// Changes delivered to the watchers of a namespace, with writers as fast as they go.
    Watch,
}

impl Work {
    /// All works, in the order of the table.
    const ALL: [Work; 5] = [
        Work::Create,
        Work::Get,
        Work::List,
        Work::Update,
        Work::Watch,
    ];

    /// The name on the command line and in results.
    fn name(self) -> &'static str {
        match self {
            Work::Create => "create",
            Work::Get => "get",
            Work::List => "list",
            Work::Update => "update",
            Work::Watch => "watch",
        }
    }

    /// The work of the etcd port with the same shape.
    fn counterpart(self) -> load::Work {
        match self {
            Work::Create => load::Work::Put,
            Work::Get => load::Work::Get,
            Work::List => load::Work::ListAll,
            Work::Update => load::Work::Update,
            // Over HTTP a watch is a stream of its own.
            Work::Watch => load::Work::WatchStreams,
        }
    }
}

/// Through which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The resource API.
    Api,
    /// The same keys and values as etcd's clients see them.
    Etcd,
}

impl Side {
    const ALL: [Side; 2] = [Side::Api, Side::Etcd];

    fn name(self) -> &'static str {
        match self {
            Side::Api => "api",
            Side::Etcd => "etcd port",
        }
    }
}

/// One work on one side in one round.
#[derive(Clone, Debug, Serialize)]
struct Run {
    round: usize,
    side: &'static str,
    work: &'static str,
    load: Outcome,
}

/// What to measure, and for how long.
struct Scope {
    works: Vec<&'static str>,
    rounds: usize,
    duration: Duration,
    is_quick: bool,
}

impl Scope {
    fn plan(&self, work: Work, side: Side, node: &Node) -> Plan {
        let endpoint = match side {
            Side::Api => node.api(),
            Side::Etcd => node.etcd(),
        };
        let mut plan = Plan::new(work.counterpart(), vec![endpoint]);
        plan.pids = vec![node.pid()];
        plan.value_size = OBJECT_SIZE;
        if work == Work::Watch {
            plan.connections = 100;
        }
        plan.duration = self.duration;
        if self.is_quick {
            plan.shorten();
        }
        plan
    }
}

/// `bench api`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mut names: Vec<_> = Work::ALL.into_iter().map(Work::name).collect();
    names.push(IDLE);
    let is_quick = args.is_set("quick");
    let scope = Scope {
        works: args.choice("works", &names)?,
        rounds: args
            .value("rounds")?
            .unwrap_or(if is_quick { 1 } else { 3 }),
        duration: load::seconds(args, "seconds")?.unwrap_or(Duration::from_secs(10)),
        is_quick,
    };
    ensure!(scope.rounds > 0, "at least one round is needed");
    let Sides {
        servers,
        folder,
        conditions,
    } = Sides::of_holdfast(args)?;
    let [(_, binary)] = &servers[..] else {
        anyhow::bail!("holdfast alone is measured");
    };
    let (runs, idle) = measure(&scope, binary, &folder.path.join("server"))?;
    let report = Report::new(conditions, is_quick, runs, idle);
    println!("{}", report.to_text());
    if let Some(path) = args.text("json") {
        fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {path}"))?;
    }
    if let Some(path) = args.text("markdown") {
        fs::write(path, report.to_markdown()).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}

/// Within a round both sides do a work before the next work begins, and each round the other side is first.
fn measure(scope: &Scope, binary: &Path, folder: &Path) -> Result<(Vec<Run>, Vec<Idle>)> {
    let begin = Instant::now();
    let (mut runs, mut idle) = (Vec::new(), Vec::new());
    for round in 1..=scope.rounds {
        if scope.works.contains(&IDLE) {
            let node = Node::start(binary, folder)?;
            idle.push(node.idle(round)?);
            node.end()?;
        }
        for work in Work::ALL {
            if !scope.works.contains(&work.name()) {
                continue;
            }
            let mut sides = Side::ALL;
            if round % 2 == 0 {
                sides.reverse();
            }
            for side in sides {
                let node = Node::start(binary, folder)?;
                let load = carry_out(work, side, &scope.plan(work, side, &node));
                let load = load.with_context(|| {
                    format!(
                        "{} through the {}; the server's last words:\n{}",
                        work.name(),
                        side.name(),
                        node.last_words()
                    )
                })?;
                node.end()?;
                eprintln!(
                    "[round {round}, {} s] {} through the {}: {:.0} /s, {:.1} us",
                    begin.elapsed().as_secs(),
                    work.name(),
                    side.name(),
                    load.per_second,
                    load.server_cpu_us.unwrap_or_default()
                );
                runs.push(Run {
                    round,
                    side: side.name(),
                    work: work.name(),
                    load,
                });
            }
        }
    }
    Ok((runs, idle))
}

fn carry_out(work: Work, side: Side, plan: &Plan) -> Result<Outcome> {
    let mut outcome = match (side, work) {
        (Side::Etcd, Work::Create) => unary::create_keys(plan)?,
        (Side::Etcd, _) => load::run(plan)?,
        (Side::Api, _) => {
            let requests = Requests::new(plan.endpoints[0], plan.value_size)?;
            unary::create_namespace(plan, &requests)?;
            let fill = || unary::fill(plan, &requests);
            match work {
                Work::Create => unary::create(plan, &requests)?,
                Work::Get => {
                    fill()?;
                    unary::get(plan, &requests)?
                }
                Work::List => {
                    fill()?;
                    unary::list(plan, &requests)?
                }
                Work::Update => unary::update(plan, &requests, &fill()?)?,
                Work::Watch => watch::run(plan, &requests, &fill()?)?,
            }
        }
    };
    outcome.work = work.name().to_owned();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::{IDLE, Work};

    #[test]
    fn names_are_all_different() {
        let mut names: Vec<_> = Work::ALL.into_iter().map(Work::name).collect();
        names.push(IDLE);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
