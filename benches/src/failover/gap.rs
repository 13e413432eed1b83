//! How long no write is acknowledged after something happened to the leader.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::compare::server::{PATIENCE, Server};
use crate::failover::Event;
use crate::load::unary::{PUT, check_revision};
use crate::process;
use crate::random::Random;
use crate::wire::{self, Channel, Method, Request};

/// Time between two puts; a gap is measured about as finely.
const EVERY: Duration = Duration::from_millis(5);
/// Nobody waits longer for one put. So at most 200 are open at a time.
const OPEN: Duration = Duration::from_secs(1);
const KEYS: u64 = 1_000;
const PREFIX: &str = "/bench/failover/";
const VALUE_BYTES: usize = 256;

/// The longest time without an acknowledgement so far.
///
/// It ends with the acknowledgement of a put that was sent after the leader was gone: one that was sent before
/// may still have been acknowledged with the old leader's help. Those count as well, but do not end it: a leader
/// that hands over in order goes on for a while, and the gap comes later.
#[derive(Debug)]
struct Gap {
    last: Instant,
    longest: Duration,
    gone: Option<Instant>,
}

impl Gap {
    fn new(begin: Instant) -> Gap {
        Gap {
            last: begin,
            longest: Duration::ZERO,
            gone: None,
        }
    }

    /// Notes an acknowledgement; whether the gap is over.
    fn acknowledge(&mut self, sent: Instant, at: Instant) -> bool {
        self.longest = self.longest.max(at.saturating_duration_since(self.last));
        self.last = self.last.max(at);
        self.gone.is_some_and(|gone| sent >= gone)
    }
}

/// One put that has ended.
struct Ended {
    target: usize,
    sent: Instant,
    at: Instant,
    outcome: Result<()>,
}

/// Lets `event` happen to the leader and asks the members at `targets` in turn for a put, again and again, whatever
/// became of the one before; none is tried twice. Gives back the longest time without an acknowledgement, from the
/// event to the first one without the leader.
pub(crate) fn measure(
    targets: &[SocketAddr],
    leader: &mut Server,
    event: Event,
) -> Result<Duration> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(targets, leader, event))
}

async fn ask(targets: &[SocketAddr], leader: &mut Server, event: Event) -> Result<Duration> {
    let mut clients = Vec::new();
    for target in targets {
        clients.push(Client::new(*target).await?);
    }
    let (sender, mut ended) = mpsc::channel(1_024);
    let mut random = Random::new(1);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut next, mut last_error) = (0, None);
    let begin = Instant::now();
    let mut gap = Gap::new(begin);
    leader.signal(event.signal())?;
    while begin.elapsed() < PATIENCE {
        tokio::select! {
            _ = ticks.tick() => {
                if gap.gone.is_none() && is_gone(leader, event)? {
                    gap.gone = Some(Instant::now());
                }
                let sender = sender.clone();
                let put = clients[next].put(&mut random).await;
                let target = next;
                next = (next + 1) % clients.len();
                tokio::spawn(async move {
                    let sent = Instant::now();
                    let outcome = match put {
                        Ok(put) => timeout(OPEN, put).await.context("no answer").flatten(),
                        Err(error) => Err(error),
                    };
                    // If nobody listens, the gap is over.
                    let _ = sender.send(Ended { target, sent, at: Instant::now(), outcome }).await;
                });
            }
            Some(Ended { target, sent, at, outcome }) = ended.recv() => match outcome {
                Ok(()) if gap.acknowledge(sent, at) => return Ok(gap.longest),
                Ok(()) => {}
                Err(error) => {
                    clients[target].note(&error);
                    last_error = Some(error);
                }
            },
        }
    }
    let error = last_error.unwrap_or_else(|| anyhow!("the leader does not end"));
    Err(error).with_context(|| format!("no put is acknowledged within {PATIENCE:?}"))
}

fn is_gone(leader: &mut Server, event: Event) -> Result<bool> {
    match event {
        Event::Kill | Event::Terminate => leader.has_ended(),
        Event::Stop => process::is_stopped(leader.pid()),
    }
}

/// A client of one member.
struct Client {
    endpoint: SocketAddr,
    method: Method,
    request: Request,
    channel: Option<Channel>,
}

impl Client {
    /// Connects, and sees to it that the member takes puts.
    async fn new(endpoint: SocketAddr) -> Result<Client> {
        let mut client = Client {
            endpoint,
            method: Method::new(endpoint, PUT)?,
            request: Request::put(PREFIX, VALUE_BYTES),
            channel: None,
        };
        client.put(&mut Random::new(0)).await?.await?;
        Ok(client)
    }

    /// Begins a put.
    async fn put(
        &mut self,
        random: &mut Random,
    ) -> Result<impl Future<Output = Result<()>> + use<>> {
        let channel = match &self.channel {
            Some(channel) => channel,
            None => self.channel.insert(
                timeout(EVERY, wire::connect(self.endpoint))
                    .await
                    .context("no connection")??,
            ),
        };
        let mut channel = channel.clone();
        let method = self.method.clone();
        let request = self.request.fill(random.below(KEYS), 0, random);
        Ok(async move { check_revision(&channel.call(&method, request).await?) })
    }

    /// A broken connection is replaced for the next put.
    fn note(&mut self, error: &Error) {
        if error.chain().any(|cause| cause.is::<h2::Error>()) {
            self.channel = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Gap;

    #[test]
    fn the_gap_after_a_kill_lasts_to_the_first_acknowledgement() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut gap = Gap::new(begin);
        gap.gone = Some(at(0));
        assert!(gap.acknowledge(at(5), at(800)));
        assert_eq!(gap.longest, Duration::from_millis(800));
    }

    #[test]
    fn the_gap_of_a_hand_over_is_the_longest_and_not_the_first() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut gap = Gap::new(begin);
        assert!(!gap.acknowledge(at(0), at(2)));
        assert!(!gap.acknowledge(at(5), at(90)));
        // Answers may come out of order.
        assert!(!gap.acknowledge(at(10), at(80)));
        gap.gone = Some(at(100));
        assert!(!gap.acknowledge(at(95), at(110)));
        assert!(gap.acknowledge(at(105), at(112)));
        assert_eq!(gap.longest, Duration::from_millis(88));
    }
}
