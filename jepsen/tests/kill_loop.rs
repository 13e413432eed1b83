//! `kill -9` at random moments under load: nothing acknowledged is lost, nothing is made up.
//!
//! `SEED` replays the choices (not the machine's timing), `KILLS` sets how many times.

use std::time::{Duration, Instant};

use anyhow::Context;
use jepsen::load::{Load, Shape, from_env, seed};
use jepsen::process::{Server, binary};
use jepsen::sim::SimRng;
use rand::{RngExt, SeedableRng};

const SHAPE: Shape = Shape {
    writers: 8,
    large_per_mille: 0,
};

#[tokio::test]
async fn no_acknowledged_write_is_lost_by_kill_9() -> anyhow::Result<()> {
    let seed = seed();
    let kills = from_env("KILLS").unwrap_or(50);
    eprintln!("kill loop: SEED={seed}, {kills} kills");
    let mut rng = SimRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let mut server = Server::new(binary()?, folder.path())?;
    let load = Load::new();
    let since = Instant::now();
    let mut slowest_start = Duration::ZERO;

    let mut client = server.start().await?;
    for kill in 0..kills {
        let writers = load.start(SHAPE, &client, &mut rng);
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..600))).await;
        server.kill()?;
        let ended = load.end(writers).await;
        ended.with_context(|| format!("before kill {kill} (SEED={seed})"))?;
        let starting = Instant::now();
        client = server
            .start()
            .await
            .with_context(|| format!("after kill {kill} (SEED={seed})"))?;
        slowest_start = slowest_start.max(starting.elapsed());
        let verified = load.verify(&client, false).await;
        verified
            .with_context(|| format!("after kill {kill} (SEED={seed})\n{}", server.log_tail()))?;
    }

    // A clean stop under load: it succeeds, and the folder opens again.
    let writers = load.start(SHAPE, &client, &mut rng);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = server.terminate().await?;
    anyhow::ensure!(
        status.success(),
        "SIGTERM under load ended with {status}:\n{}",
        server.log_tail()
    );
    load.end(writers).await.context("before the SIGTERM")?;
    client = server.start().await.context("after the SIGTERM")?;
    load.verify(&client, true)
        .await
        .context("after the SIGTERM")?;
    let status = server.terminate().await?;
    anyhow::ensure!(
        status.success(),
        "SIGTERM when idle ended with {status}:\n{}",
        server.log_tail()
    );

    let counts = load.counts();
    eprintln!(
        "{kills} kills in {:.1?}, slowest start {slowest_start:.0?}: {} acknowledged writes, {} reads, {} unanswered operations of which \
         {} took effect, {} revisions; 0 lost",
        since.elapsed(),
        counts.acknowledged,
        counts.reads,
        counts.unknown,
        counts.late,
        counts.revisions,
    );
    anyhow::ensure!(
        counts.acknowledged > kills * 20,
        "the load was too small to mean anything"
    );
    Ok(())
}
