//! The cluster harness itself, beside the real etcd: what is right passes, and what is wrong on purpose is found.
//!
//! `make etcd` builds it; `ETCD` names another. Run them with `cargo test -p holdfast-jepsen --test cluster -- --ignored`:
//! they take some minutes, and most need root.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jepsen::cluster::{Conditions, Verdict, check_again, run};

fn etcd() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("ETCD") {
        return Ok(PathBuf::from(path));
    }
    let cache = match std::env::var_os("HOLDFAST_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("no HOME")?).join(".cache/holdfast"),
    };
    let path = cache.join("tools/bin/etcd");
    ensure!(path.exists(), "no etcd: run `make etcd`, or set ETCD");
    Ok(path)
}

fn make(folder: &Path, seconds: u64, faults: &[&str]) -> anyhow::Result<Verdict> {
    let mut conditions = Conditions::new(&etcd()?, jepsen::load::seed())?;
    conditions.seconds = seconds;
    conditions.faults = faults.iter().map(|&name| name.to_owned()).collect();
    eprintln!("SEED={} {}", conditions.seed, conditions.title());
    run(&conditions, folder, "")
}

fn rules(verdict: &Verdict) -> Vec<&str> {
    verdict.broken.keys().map(String::as_str).collect()
}

#[test]
#[ignore = "20 seconds, root and a real etcd: cargo test -p holdfast-jepsen --test cluster -- --ignored --test-threads 1 --nocapture"]
fn etcd_passes_under_kills_and_partitions_and_its_stale_reads_would_not() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let verdict = make(folder.path(), 20, &["kill-leader", "part-leader"])?;
    ensure!(verdict.is_pass(), "{verdict:#?}");
    ensure!(verdict.measures.gaps.len() >= 2 && verdict.measures.writes > 500);
    let (_, again) = check_again(folder.path())?;
    ensure!(
        again == verdict,
        "the stored history tells something else: {again:#?}"
    );

    // The control: reads that may be old, passed off as ones that may not.
    let path = folder.path().join("history.jsonl");
    let history = std::fs::read_to_string(&path)?;
    std::fs::write(&path, history.replace(",\"serializable\":true", ""))?;
    let (_, stale) = check_again(folder.path())?;
    ensure!(
        rules(&stale).contains(&"order"),
        "stale reads were not found: {stale:#?}"
    );
    Ok(())
}

#[test]
#[ignore = "12 seconds, root and a real etcd: cargo test -p holdfast-jepsen --test cluster -- --ignored --test-threads 1 --nocapture"]
fn a_cluster_whose_disks_lie_is_found_out() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let verdict = make(folder.path(), 12, &["power-lie"])?;
    let broken = rules(&verdict);
    ensure!(!broken.is_empty(), "nothing was lost: {verdict:#?}");
    eprintln!("found out by {broken:?}");
    Ok(())
}

#[test]
#[ignore = "12 seconds and a real etcd: cargo test -p holdfast-jepsen --test cluster -- --ignored --test-threads 1 --nocapture"]
fn without_a_network_of_its_own_a_cluster_can_still_be_killed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut conditions = Conditions::new(&etcd()?, jepsen::load::seed())?;
    conditions.seconds = 12;
    conditions.has_network = false;
    conditions.workload = "register".to_owned();
    conditions.faults = vec!["kill-one".to_owned(), "stop-follower".to_owned()];
    let verdict = run(&conditions, folder.path(), "")?;
    ensure!(verdict.is_pass(), "{verdict:#?}");
    conditions.faults = vec!["part-leader".to_owned()];
    let error = run(&conditions, folder.path(), "").err();
    ensure!(error.is_some(), "a cut without a network to cut");
    Ok(())
}
