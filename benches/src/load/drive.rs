//! Connections and workers on the generator's threads, and one conductor that tells them when.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::wire::{self, Channel};

/// How long workers may take to end an operation after the run; a server that hangs fails the run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The measured part of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// From here on operations count.
    pub(crate) start: Instant,
    /// No operation begins after this.
    pub(crate) stop: Instant,
}

/// What workers and conductor share: the schedule, and the first failure.
#[derive(Clone)]
pub(crate) struct Signals {
    schedule: watch::Sender<Option<Schedule>>,
    finished: watch::Sender<bool>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Signals {
    fn new() -> Signals {
        Signals {
            schedule: watch::Sender::new(None),
            finished: watch::Sender::new(false),
            failure: Arc::new(Mutex::new(None)),
        }
    }

    /// Conductor: lets the workers begin.
    pub(crate) fn begin(&self, schedule: Schedule) {
        self.schedule.send_replace(Some(schedule));
    }

    /// Conductor: sleeps until `until`, or fails as soon as a worker has failed.
    pub(crate) fn sleep_until(&self, until: Instant) -> Result<()> {
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    /// Conductor: fails if a worker has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Worker: waits for [`Signals::begin`].
    pub(crate) async fn schedule(&self) -> Result<Schedule> {
        let mut receiver = self.schedule.subscribe();
        let schedule = receiver
            .wait_for(Option::is_some)
            .await
            .context("the run ended before it began")?;
        schedule.context("the run has no schedule")
    }

    /// Worker: waits for the end of the conductor's part.
    pub(crate) async fn finished(&self) {
        // An error means that the conductor is gone, which is the same.
        let _ = self
            .finished
            .subscribe()
            .wait_for(|finished| *finished)
            .await;
    }

    /// Conductor: waits until what counts up is done, or fails if it stands still for [`PATIENCE`]. `state` answers
    /// how far it is, and whether that is all.
    pub(crate) fn wait(&self, what: &str, state: impl Fn() -> (u64, bool)) -> Result<()> {
        let (mut last, mut patience) = (0, Instant::now() + PATIENCE);
        loop {
            let (progress, is_done) = state();
            if is_done {
                return Ok(());
            }
            if progress > last {
                (last, patience) = (progress, Instant::now() + PATIENCE);
            }
            ensure!(
                Instant::now() < patience,
                "{what}: {progress}, and no more for {PATIENCE:?}"
            );
            self.sleep_until(Instant::now() + Duration::from_millis(5))?;
        }
    }

    fn fail(&self, error: Error) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

/// A connection to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Where to.
    pub(crate) endpoint: SocketAddr,
    /// How many workers share it.
    pub(crate) workers: usize,
    /// Bytes that each stream on it may be ahead of its reader.
    pub(crate) stream_window: u32,
}

impl Link {
    /// A connection with the window that readers who read need.
    pub(crate) fn new(endpoint: SocketAddr, workers: usize) -> Link {
        Link {
            endpoint,
            workers,
            stream_window: wire::STREAM_WINDOW,
        }
    }

    /// One connection per element of `workers`, that element being the number of workers on it, to each of
    /// `endpoints` in turn.
    pub(crate) fn in_turn(
        endpoints: &[SocketAddr],
        workers: impl IntoIterator<Item = usize>,
    ) -> Vec<Link> {
        let links = endpoints.iter().cycle().zip(workers);
        links
            .map(|(endpoint, workers)| Link::new(*endpoint, workers))
            .collect()
    }
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its thread, from 0.
    pub(crate) thread: usize,
    /// Its number among all workers, from 0.
    pub(crate) worker: usize,
}

/// Opens all connections, then runs their workers on `threads` threads, and `conduct` on this one. Ends when all
/// have ended, with the first error if there was one.
pub(crate) fn drive<T, W>(
    links: &[Link],
    threads: usize,
    worker: impl Fn(Place, Channel, Signals) -> W + Sync,
    conduct: impl FnOnce(&Signals) -> Result<T>,
) -> Result<T>
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let signals = Signals::new();
    thread::scope(|scope| {
        let (connected, connections) = mpsc::channel::<Result<()>>();
        for thread in 0..threads {
            let (signals, worker, connected) = (signals.clone(), &worker, connected.clone());
            scope.spawn(move || {
                let work = run_thread(links, (thread, threads), worker, &signals, &connected);
                if let Err(error) = work {
                    signals.fail(error);
                }
            });
        }
        drop(connected);
        let conducted = connections
            .iter()
            .take(threads)
            .collect::<Result<()>>()
            .and_then(|()| conduct(&signals));
        signals.finished.send_replace(true);
        // Workers that still wait for a schedule end; to the others, this one says that time is up.
        let now = Instant::now();
        if conducted.is_err() {
            signals.begin(Schedule {
                start: now,
                stop: now,
            });
        }
        conducted
    })
    .and_then(|conducted| signals.check().map(|()| conducted))
}

fn run_thread<W>(
    links: &[Link],
    (thread, threads): (usize, usize),
    worker: &(impl Fn(Place, Channel, Signals) -> W + Sync),
    signals: &Signals,
    connected: &mpsc::Sender<Result<()>>,
) -> Result<()>
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let mut first = 0;
        for (connection, link) in links.iter().enumerate() {
            if connection % threads == thread {
                let channel = match wire::connect_with(link.endpoint, link.stream_window).await {
                    Ok(channel) => channel,
                    Err(error) => {
                        // The conductor reports it; if it has stopped listening, another thread was first.
                        let _ = connected.send(Err(error));
                        return Ok(());
                    }
                };
                for worker_on_connection in 0..link.workers {
                    let place = Place { thread, worker: first + worker_on_connection };
                    tasks.spawn(worker(place, channel.clone(), signals.clone()));
                }
            }
            first += link.workers;
        }
        let _ = connected.send(Ok(()));
        let finished = async {
            signals.finished().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::pin!(finished);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    None => return Ok(()),
                    Some(ended) => ended.context("a worker panicked")??,
                },
                () = &mut finished => bail!("{} requests without answer for {PATIENCE:?}", tasks.len()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::Link;

    #[test]
    fn connections_go_to_each_member_in_turn() {
        let members = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let links = Link::in_turn(&members, [5, 6, 7, 8]);
        let links = links
            .iter()
            .map(|link| (link.endpoint.port(), link.workers));
        assert_eq!(links.collect::<Vec<_>>(), [(1, 5), (2, 6), (3, 7), (1, 8)]);
    }
}
