//! A file system that is mounted read-only, or becomes so under load: refused or stopped with a message, nothing lost.
//!
//! Needs root for the mount.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jepsen::load::{Load, Shape, seed};
use jepsen::power::{Disk, impossible};
use jepsen::process::{Server, binary};
use jepsen::sim::SimRng;
use rand::SeedableRng;

const SHAPE: Shape = Shape {
    writers: 8,
    large_per_mille: 20,
};

#[tokio::test]
async fn on_a_read_only_mount_a_node_says_so_and_loses_nothing() -> anyhow::Result<()> {
    if let Some(reason) = impossible() {
        eprintln!("SKIPPED: this needs a loop mount of ext4, root and python3: {reason}");
        return Ok(());
    }
    let seed = seed();
    eprintln!("read-only: SEED={seed}");
    let mut rng = SimRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let mut server = Server::new(binary()?, folder.path())?;
    let disk = Disk::new(folder.path(), &server.data_dir(), 1 << 30)?;
    let load = Load::new();
    let client = server.start().await?;
    let writers = load.start(SHAPE, &client, &mut rng);
    tokio::time::sleep(Duration::from_millis(500)).await;

    // What ext4 does when it meets an error.
    disk.abort()?;
    let since = Instant::now();
    let status = loop {
        if let Some(status) = server.exited()? {
            break status;
        }
        ensure!(
            since.elapsed() < Duration::from_secs(20),
            "it still runs on a dead disk:\n{}",
            server.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    load.end(writers).await?;
    ensure!(status.code() == Some(1), "{status}:\n{}", server.log_tail());
    let log = std::fs::read_to_string(server.log_path())?;
    ensure!(
        log.contains("the node stops: it cannot keep its promises any more")
            && !log.contains("panicked"),
        "{log}"
    );

    disk.restore_read_only()?;
    let error = server
        .start()
        .await
        .err()
        .context("it starts on a read-only mount")?;
    let text = format!("{error:#}");
    ensure!(
        text.contains("mounted read-only; mount it writable, or choose another folder"),
        "{text}"
    );

    disk.restore()?;
    let client = server.start().await?;
    load.verify(&client, true).await?;
    let counts = load.counts();
    eprintln!("{} acknowledged writes; 0 lost", counts.acknowledged);
    ensure!(counts.acknowledged > 20, "no load");
    Ok(())
}
