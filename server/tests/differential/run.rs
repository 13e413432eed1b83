//! Runs of random commands, and what is shown when two answers differ.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use crate::command::{Answer, Command};
use crate::compare::{Verdict, compare, instead, is_whole};
use crate::generate::Generator;
use crate::servers::Servers;
use crate::side::Side;

/// Commands to one pair of servers before it makes place for a new one.
const EPISODE: usize = 5_000;
/// How long a difference is made smaller.
const SHRINKING: Duration = Duration::from_secs(60);

/// How often each kind of command ended how.
type Tally = BTreeMap<(&'static str, String), usize>;

/// A command that was answered in two ways.
struct Difference {
    /// All that was sent; the last one is it.
    commands: Vec<Command>,
    etcd: Answer,
    holdfast: Answer,
}

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

fn flags(episode: u64) -> [&'static str; 2] {
    // Mostly a limit that random transactions reach.
    ["--max-txn-ops", if episode % 4 == 3 { "128" } else { "12" }]
}

#[test]
fn random_requests_are_answered_alike() {
    let seed = number("SEED", u64::from(std::process::id()));
    let commands = usize::try_from(number("COMMANDS", 30_000)).unwrap();
    let episodes = commands.div_ceil(EPISODE) as u64;
    let length = commands / usize::try_from(episodes).unwrap();
    let pairs = number("PAIRS", 4).min(episodes);
    println!("SEED={seed} COMMANDS={commands}: {episodes} episodes of {length} on {pairs} pairs");
    let started = Instant::now();
    let threads: Vec<_> = (0..pairs)
        .map(|pair| {
            std::thread::spawn(move || {
                let mut tally = Tally::new();
                for episode in (pair..episodes).step_by(usize::try_from(pairs).unwrap()) {
                    run_episode(seed, episode, length, &mut tally);
                }
                tally
            })
        })
        .collect();
    let mut tally = Tally::new();
    // All are waited for: each has something to tell.
    let parts: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    for part in parts {
        let part = part.unwrap_or_else(|_| {
            panic!("answers differ, see above; SEED={seed} COMMANDS={commands} PAIRS={pairs}")
        });
        for (key, count) in part {
            *tally.entry(key).or_default() += count;
        }
    }
    for ((kind, outcome), count) in &tally {
        println!("{count:8}  {kind:12} {outcome}");
    }
    println!("{:?}: no difference", started.elapsed());
    if commands >= 20_000 {
        assert_covers(&tally);
    }
}

/// A run that hardly meets what it is about proves nothing.
fn assert_covers(tally: &Tally) {
    let expected = [
        ("Range", "ok", 1000),
        ("Range", "key is not provided", 10),
        ("Range", "invalid sort option", 10),
        ("Range", "required revision is a future revision", 10),
        ("Range", "required revision has been compacted", 10),
        ("RangeStream", "ok", 300),
        ("RangeStream", "required revision has been compacted", 1),
        ("Put", "ok", 1000),
        ("Put", "value is provided", 5),
        ("Put", "lease is provided", 1),
        ("Put", "key not found", 5),
        ("Put", "requested lease not found", 5),
        ("DeleteRange", "ok", 500),
        ("Txn", "ok", 1000),
        ("Txn", "too many operations in txn request", 5),
        ("Txn", "duplicate key given in txn request", 50),
        ("Txn", "key not found", 5),
        ("Txn", "required revision is a future revision", 5),
        ("Compact", "ok", 20),
        ("Compact", "required revision has been compacted", 5),
        ("Compact", "required revision is a future revision", 1),
        ("Put", "database space exceeded", 1),
        ("Txn", "database space exceeded", 1),
        ("Put", "corrupt cluster", 1),
        ("HashKV", "ok", 50),
        ("HashKV", "required revision has been compacted", 1),
        ("Alarm", "ok", 50),
        ("Watch", "ok", 20),
        ("Unfollow", "ok", 20),
    ];
    for (kind, outcome, least) in expected {
        let found: usize = tally
            .iter()
            .filter(|((known, text), _)| *known == kind && text.ends_with(outcome))
            .map(|(_, count)| count)
            .sum();
        assert!(found >= least, "only {found} of {kind}: {outcome}");
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// One pair of fresh servers and `length` commands.
fn run_episode(seed: u64, episode: u64, length: usize, tally: &mut Tally) {
    let mut servers = Servers::start(&flags(episode));
    let mut generator = Generator::new(seed.wrapping_mul(1_000_003).wrapping_add(episode));
    let mut sent = Vec::with_capacity(length);
    let found = runtime().block_on(async {
        let (mut etcd, mut holdfast) = servers.connect().await;
        while sent.len() < length {
            let command = generator.command();
            sent.push(command.clone());
            let (left, right, verdict) = exchange(&mut etcd, &mut holdfast, &command).await;
            generator.learn(&command, &left);
            let outcome = match verdict {
                Verdict::Same => left.outcome(),
                Verdict::Excepted(name) => name,
                Verdict::Different => return Some((left, right)),
            };
            *tally
                .entry((command.kind(), outcome.to_owned()))
                .or_default() += 1;
        }
        None
    });
    let Some((etcd, holdfast)) = found else {
        return;
    };
    let log = servers.etcd_log();
    drop(servers);
    let number = sent.len();
    let difference = Difference {
        commands: sent,
        etcd,
        holdfast,
    };
    println!(
        "SEED={seed}, episode {episode}: command {number} is answered in two ways\n{}\n{log}",
        describe(&difference, 1)
    );
    let shrunk = shrink(difference, episode);
    panic!(
        "SEED={seed}, episode {episode}; {} commands are enough, each after a fresh start:\n{}",
        shrunk.commands.len(),
        describe(&shrunk, 40)
    );
}

/// Sends a command to both at the same time.
async fn exchange(
    etcd: &mut Side,
    holdfast: &mut Side,
    command: &Command,
) -> (Answer, Answer, Verdict) {
    for patience in (0..1000).rev() {
        let (left, right) =
            tokio::join!(etcd.send(command.clone()), holdfast.send(command.clone()));
        let verdict = compare(command, &left, &right);
        if matches!(verdict, Verdict::Excepted(_))
            && let Some(other) = instead(command)
        {
            let whole = etcd.send(other.clone()).await;
            if !is_whole(&other, &whole, &right) {
                return (whole, right, Verdict::Different);
            }
        }
        // While etcd removes what it compacted, and no key is live, its hash is of what is not removed yet.
        let may_settle = matches!(command, Command::HashKv(_)) && patience > 0;
        if !matches!(verdict, Verdict::Different) || !may_settle {
            return (left, right, verdict);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the last one is returned")
}

/// The last commands and both answers.
fn describe(difference: &Difference, last: usize) -> String {
    let Difference {
        commands,
        etcd,
        holdfast,
    } = difference;
    let from = commands.len().saturating_sub(last);
    let commands: Vec<String> = commands[from..]
        .iter()
        .map(|command| format!("{command:?}"))
        .collect();
    format!(
        "{}\netcd:     {etcd:?}\nholdfast: {holdfast:?}",
        commands.join("\n")
    )
}

/// Leaves commands out for as long as the last one is still answered in two ways.
fn shrink(mut difference: Difference, episode: u64) -> Difference {
    let deadline = Instant::now() + SHRINKING;
    let mut step = difference.commands.len() / 2;
    while step > 0 {
        let mut from = 0;
        while from < difference.commands.len() - 1 {
            if Instant::now() > deadline {
                return difference;
            }
            let until = (from + step).min(difference.commands.len() - 1);
            let mut fewer = difference.commands.clone();
            fewer.drain(from..until);
            match replay(fewer, episode) {
                Some(still) => difference = still,
                None => from = until,
            }
        }
        step /= 2;
    }
    difference
}

/// Sends commands to fresh servers, up to the first one that is answered in two ways.
fn replay(mut commands: Vec<Command>, episode: u64) -> Option<Difference> {
    let mut servers = Servers::start(&flags(episode));
    runtime().block_on(async {
        let (mut etcd, mut holdfast) = servers.connect().await;
        for number in 0..commands.len() {
            let (left, right, verdict) =
                exchange(&mut etcd, &mut holdfast, &commands[number]).await;
            if matches!(verdict, Verdict::Different) {
                commands.truncate(number + 1);
                return Some(Difference {
                    commands,
                    etcd: left,
                    holdfast: right,
                });
            }
        }
        None
    })
}
