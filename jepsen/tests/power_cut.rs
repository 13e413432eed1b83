//! Power cuts at random moments under load, on a real ext4: nothing acknowledged is lost, nothing is made up.
//!
//! `SEED` replays the choices (not the machine's timing), `CUTS` sets how many times. Needs root for the mount.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jepsen::load::{Load, Shape, from_env, seed};
use jepsen::power::{CACHED_LOG, Cut, Disk, impossible};
use jepsen::process::{Server, binary};
use jepsen::sim::SimRng;
use rand::{RngExt, SeedableRng};

/// What the image may grow to: segments of the log, and the database several times over.
const DISK_BYTES: u64 = 2 << 30;
/// With the least memory the state is flushed every few MiB, so that cuts also meet flushes and compactions.
const FLAGS: [&str; 2] = ["--memory-budget", "64MiB"];

const SMALL: Shape = Shape {
    writers: 8,
    large_per_mille: 5,
};
/// Fills memtables and log segments.
const LARGE: Shape = Shape {
    writers: 12,
    large_per_mille: 500,
};

/// What the cuts met; one counts if a write was on its way and not everything was written out.
#[derive(Debug, Default)]
struct Coverage {
    cuts: u64,
    in_flight: u64,
    made_files: u64,
    had_new_segment: u64,
    had_unfinished_segment: u64,
}

fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// What the disk holds of a member.
struct Files {
    segments: BTreeSet<String>,
    tables: BTreeSet<String>,
}

impl Files {
    fn of(data: &Path) -> anyhow::Result<Files> {
        let mut tables = names(&data.join("member/db"))?;
        tables.retain(|name| name.ends_with(".sst"));
        Ok(Files {
            segments: names(&data.join("member/wal"))?,
            tables,
        })
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_by_a_power_cut() -> anyhow::Result<()> {
    if let Some(reason) = impossible() {
        eprintln!("SKIPPED: power cuts need a loop mount of ext4, root and python3: {reason}");
        return Ok(());
    }
    let seed = seed();
    let wanted = from_env("CUTS").unwrap_or(24);
    eprintln!("power cuts: SEED={seed}, {wanted} cuts");
    let mut rng = SimRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let mut server = Server::new(binary()?, folder.path())?;
    server.set_flags(&FLAGS);
    let mut disk = Disk::new(folder.path(), &server.data_dir(), DISK_BYTES)?;
    let load = Load::new();
    let mut coverage = Coverage::default();
    let since = Instant::now();
    let mut slowest_start = Duration::ZERO;

    let mut client = server.start().await?;
    for round in 0.. {
        let cut = coverage.cuts;
        if cut >= wanted {
            break;
        }
        ensure!(round < 4 * wanted, "in {round} cuts only {cut} met a write");
        let context = || format!("at cut {cut} (SEED={seed})");
        let before = (load.counts(), Files::of(&server.data_dir())?);
        let is_large = rng.random_range(0..4) == 0;
        let (shape, life_ms) = if is_large {
            (LARGE, 300..1_000)
        } else {
            (SMALL, 5..500)
        };
        let writers = load.start(shape, &client, &mut rng);
        tokio::time::sleep(Duration::from_millis(rng.random_range(life_ms))).await;
        if rng.random() {
            // The bytes of what was answered this moment have only just been synced.
            tokio::time::timeout(Duration::from_secs(20), load.next_answer())
                .await
                .with_context(context)?;
        }
        let how = match rng.random_range(0..10) {
            0 => Cut::AllFirst,
            1 | 2 => Cut::JournalFirst,
            _ => Cut::Hard,
        };
        disk.cut(how)?;
        // It meets the errors of the dead disk for a moment; what it still answers must be true.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
        server.kill_or_reap()?;
        load.end(writers).await.with_context(context)?;
        disk.restore().with_context(context)?;

        let after = (load.counts(), Files::of(&server.data_dir())?);
        let in_flight = after.0.unknown_writes - before.0.unknown_writes;
        if in_flight > 0 && how != Cut::AllFirst {
            coverage.cuts += 1;
            coverage.in_flight += in_flight;
        }
        let was_made = |new: &BTreeSet<String>, old: &BTreeSet<String>| !new.is_subset(old);
        coverage.made_files += u64::from(was_made(&after.1.tables, &before.1.tables));
        coverage.had_new_segment += u64::from(was_made(&after.1.segments, &before.1.segments));
        let unfinished = after.1.segments.iter().any(|name| name.ends_with(".new"));
        coverage.had_unfinished_segment += u64::from(unfinished);

        // Both ways to write the log, and each on what the other one left.
        server.set_environment(if rng.random() { &[CACHED_LOG] } else { &[] });
        let starting = Instant::now();
        client = server.start().await.with_context(context)?;
        slowest_start = slowest_start.max(starting.elapsed());
        let verified = load.verify(&client, false).await;
        verified.with_context(|| format!("{}\n{}", context(), server.log_tail()))?;
    }
    load.verify(&client, true).await?;
    let status = server.terminate().await?;
    ensure!(status.success(), "SIGTERM ended with {status}");
    let log = std::fs::read_to_string(server.log_path())?;
    ensure!(!log.contains("panicked"), "a panic:\n{log}");

    let counts = load.counts();
    eprintln!(
        "{coverage:?} in {:.1?}, slowest start {slowest_start:.0?}: {} acknowledged writes, {} reads, {} unanswered \
         writes, {} of all took effect, {} revisions; 0 lost",
        since.elapsed(),
        counts.acknowledged,
        counts.reads,
        counts.unknown_writes,
        counts.late,
        counts.revisions,
    );
    ensure!(
        counts.acknowledged > wanted * 20 && coverage.made_files > 0,
        "the load was too small to mean anything"
    );
    Ok(())
}

/// The control: on a disk whose syncs do nothing, the same cut loses acknowledged writes, and the check says so.
#[tokio::test]
async fn a_disk_that_lies_about_syncs_is_found_out() -> anyhow::Result<()> {
    if let Some(reason) = impossible() {
        eprintln!("SKIPPED: power cuts need a loop mount of ext4, root and python3: {reason}");
        return Ok(());
    }
    let mut rng = SimRng::seed_from_u64(seed());
    let folder = tempfile::tempdir()?;
    let mut server = Server::new(binary()?, folder.path())?;
    let mut disk = Disk::new(folder.path(), &server.data_dir(), DISK_BYTES)?;
    let load = Load::new();
    // What a first start makes is synced for once, so that what is missed later is writes.
    server.set_environment(&[CACHED_LOG]);
    server.start().await?;
    ensure!(server.terminate().await?.success());
    let syncs = "fsync,fdatasync,sync_file_range";
    let (trace, lie) = (format!("trace={syncs}"), format!("inject={syncs}:retval=0"));
    server.set_wrapper(&[
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &lie,
    ]);
    let client = server.start().await?;
    let writers = load.start(SMALL, &client, &mut rng);
    tokio::time::sleep(Duration::from_millis(500)).await;
    disk.cut(Cut::Hard)?;
    server.kill_or_reap()?;
    load.end(writers).await?;
    disk.restore()?;
    server.set_wrapper(&[]);
    let acknowledged = load.counts().acknowledged;
    ensure!(acknowledged > 20, "{acknowledged} writes are no load");
    let error = match server.start().await {
        Ok(client) => load.verify(&client, true).await.err(),
        Err(error) => Some(error),
    };
    let error = error.context("nothing was lost, so the cuts prove nothing")?;
    eprintln!("{acknowledged} acknowledged writes on a disk that lies; found out: {error}");
    Ok(())
}
