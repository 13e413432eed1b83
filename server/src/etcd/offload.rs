//! Long reads: run on threads of their own, few at once, and given up when the caller goes away.
//!
//! A connection's shard serves many; whatever reads more than a little of the store would hold all of them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::{self, Status};

/// A place for a bounded number of long reads; the others wait, first come, first served.
pub(crate) struct Offload {
    places: Arc<Semaphore>,
}

/// Told by the reading side whether anybody still waits for what it reads.
#[derive(Clone)]
pub(crate) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    pub(crate) fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Dropped with the caller's future.
struct Caller(Wanted);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Offload {
    /// At most so many at once.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Runs `read` on another thread once there is a place, for which it waits no longer than `patience`; with none, for
    /// as long as its caller does.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        patience: Option<Duration>,
        read: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let place = self.places.clone().acquire_owned();
        let place = match patience {
            Some(patience) => timeout(patience, place).await.map_err(|_| error::TIMEOUT)?,
            None => place.await,
        };
        // The semaphore is never closed.
        let place = place.map_err(|_| error::STOPPED)?;
        let caller = Caller(Wanted(Arc::new(AtomicBool::new(true))));
        let wanted = caller.0.clone();
        let done = spawn_blocking(move || {
            let read = read(&wanted);
            // Also a read that nobody waits for any more keeps its place until it has ended.
            drop(place);
            read
        });
        // The runtime ends, or the read panicked and the log says so.
        done.await.map_err(|_| error::STOPPED)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_read_waits_for_a_place_and_is_told_when_its_caller_is_gone() {
        let offload = Arc::new(Offload::new(1));
        let (started, is_started) = channel();
        let (ended, has_ended) = channel();
        let first = tokio::spawn({
            let offload = offload.clone();
            async move {
                let reading = offload.run(None, move |wanted| {
                    started.send(()).unwrap();
                    while wanted.holds() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    ended.send(()).unwrap();
                });
                reading.await
            }
        });
        tokio::task::yield_now().await;
        spawn_blocking(move || is_started.recv())
            .await
            .unwrap()
            .unwrap();
        let impatient = offload.run(Some(Duration::from_millis(20)), |_| ());
        assert_eq!(impatient.await, Err(error::TIMEOUT));
        let second = offload.run(None, |wanted| wanted.holds());
        let mut second = std::pin::pin!(second);
        let early = timeout(Duration::from_millis(20), second.as_mut()).await;
        assert!(early.is_err(), "two at once");
        first.abort();
        assert_eq!(second.await, Ok(true));
        has_ended.try_recv().unwrap();
    }
}
