//! Who watches: a recorder on each member for all that happens; in the workload `watch` also a crowd that stays, which is
//! many, and visitors, who come and go, ask for anything, and are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Asked;
use super::stream::{Rest, Stream};
use crate::cluster::world::World;
use crate::sim::SimRng;

/// Before a stream is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How often those who stay ask how far they are.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(700);
/// How often a visitor does something.
const VISITOR_INTERVAL: Duration = Duration::from_millis(150);
/// On each member.
const CROWD_STREAMS: usize = 2;
const CROWD_WATCHERS: usize = 16;
const VISITORS: usize = 4;
/// Watchers of a visitor at a time.
const VISITOR_WATCHERS: usize = 8;
/// So much may be on its way to one who reads; a visitor with the least of these soon stops the server.
const WINDOWS: [u32; 3] = [16 << 10, 64 << 10, 4 << 20];
const WINDOW: u32 = 4 << 20;

/// Watches all keys on one member from the first revision on, and goes on where it was when a stream breaks.
pub(crate) async fn recorder(world: Arc<World>, node: usize) {
    let reached = Arc::clone(&world.recorders[node]);
    stay(world, node, vec![Asked::everything(1)], reached).await;
}

/// The crowd and the visitors of all members. They go on until the set is dropped, visitors until the run is over.
pub(crate) fn start_users(world: &Arc<World>, rng: &mut SimRng) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for node in world.members() {
        for stream in 0..CROWD_STREAMS {
            let mut asked = vec![Asked::prefix("w/"); CROWD_WATCHERS];
            asked[0] = Asked {
                start: 0,
                ..Asked::everything(0)
            };
            for watcher in asked.iter_mut().skip(1).step_by(3) {
                watcher.previous = stream == 0;
                watcher.progress = true;
            }
            let reached = Arc::new(AtomicI64::new(0));
            world.staying.lock().push(Arc::clone(&reached));
            tasks.spawn(stay(Arc::clone(world), node, asked, reached));
        }
        for _ in 0..VISITORS {
            let rng = SimRng::seed_from_u64(rng.random());
            tasks.spawn(visitor(Arc::clone(world), node, rng));
        }
    }
    tasks
}

/// Has watchers on one member, on one stream, for ever; `reached` is told how far all of them are.
async fn stay(world: Arc<World>, node: usize, asked: Vec<Asked>, reached: Arc<AtomicI64>) {
    let mut next: Vec<(Asked, Option<usize>)> =
        asked.into_iter().map(|asked| (asked, None)).collect();
    loop {
        if let Ok(mut stream) = Stream::open(&world, node, WINDOW).await {
            let _ = stay_on(&mut stream, &mut next, &reached).await;
            next.extend(stream.end().into_iter().map(resume));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn resume(rest: Rest) -> (Asked, Option<usize>) {
    (rest.asked, Some(rest.number))
}

/// Until the stream breaks.
async fn stay_on(
    stream: &mut Stream,
    next: &mut Vec<(Asked, Option<usize>)>,
    reached: &AtomicI64,
) -> anyhow::Result<()> {
    let mut next_progress = Instant::now() + PROGRESS_INTERVAL;
    loop {
        while let Some((asked, resumes)) = next.last().cloned() {
            stream.watch(asked, resumes, true)?;
            next.pop();
        }
        tokio::select! {
            told = stream.next() => told?,
            () = tokio::time::sleep_until(next_progress) => {
                stream.ask_progress()?;
                next_progress = Instant::now() + PROGRESS_INTERVAL;
            }
        }
        next.extend(stream.take_compacted().into_iter().map(resume));
        if let Some(revision) = stream.reached() {
            reached.fetch_max(revision, Ordering::Relaxed);
        }
    }
}

/// Opens one stream after the other, mostly on its own member, and has on each what it had on the last one, or not.
async fn visitor(world: Arc<World>, home: usize, mut rng: SimRng) {
    let mut carried: Vec<Rest> = Vec::new();
    while !world.is_over() {
        let members = world.members();
        let node = match rng.random_range(0..3) {
            0 => members[rng.random_range(0..members.len())],
            _ => home,
        };
        let window = WINDOWS[rng.random_range(0..WINDOWS.len())];
        if let Ok(mut stream) = Stream::open(&world, node, window).await {
            // What could not be asked for is forgotten: nobody promised to go on with it.
            let _ = visit(&world, &mut stream, std::mem::take(&mut carried), &mut rng).await;
            carried = stream.end();
            let kept = rng.random_range(0..=VISITOR_WATCHERS);
            carried.truncate(kept);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn visit(
    world: &World,
    stream: &mut Stream,
    carried: Vec<Rest>,
    rng: &mut SimRng,
) -> anyhow::Result<()> {
    for rest in carried {
        stream.watch(rest.asked, Some(rest.number), false)?;
    }
    let lasts = rng.random_range(200..8_000);
    let until = Instant::now() + Duration::from_millis(lasts);
    let mut next_act = Instant::now();
    while Instant::now() < until && !world.is_over() {
        tokio::select! {
            told = stream.next() => told?,
            () = tokio::time::sleep_until(next_act) => {
                next_act = Instant::now() + VISITOR_INTERVAL.mul_f64(rng.random_range(0.0..2.0));
                act(world, stream, rng).await?;
            }
        }
    }
    Ok(())
}

async fn act(world: &World, stream: &mut Stream, rng: &mut SimRng) -> anyhow::Result<()> {
    match rng.random_range(0..20) {
        0..8 if stream.watchers() < VISITOR_WATCHERS => {
            let asked = Asked::draw(world.newest(), world.compacted(), rng);
            stream.watch(asked, None, false)
        }
        8..10 => stream.cancel(rng.random_range(0..VISITOR_WATCHERS)),
        10..18 => stream.ask_progress(),
        18 => {
            // Reads nothing, while the server has something to say.
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..2_500))).await;
            Ok(())
        }
        _ => Ok(()),
    }
}
