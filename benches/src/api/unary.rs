//! Workers that create, get, list and update objects, one request after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request as Head;
use tokio::runtime::Builder;

use crate::api::objects::Requests;
use crate::api::scan;
use crate::load::drive::{self, Link, Place, Schedule, Signals};
use crate::load::unary::{self, Repeat};
use crate::load::{Outcome, Plan};
use crate::random::Random;
use crate::wire::{self, Channel, Method, Request};

/// One object and what is around it in an answer; more is an error.
const MOST_ANSWER: usize = 64 * 1024;
/// Connections and workers on each that make what a run reads.
const FILLERS: (usize, usize) = (16, 8);
/// Above the seeds of all other workers.
const FILL_SEED: u64 = 1 << 32;
/// Longer than any fill.
const NO_END: Duration = Duration::from_secs(24 * 60 * 60);

/// Asks one thing after another, with room for an answer.
struct Client {
    channel: Channel,
    requests: Requests,
    random: Random,
    answer: Vec<u8>,
}

impl Client {
    /// Clients of different seeds write different content: an update without a change would make no revision.
    fn new(seed: u64, channel: Channel, requests: &Requests) -> Client {
        Client {
            channel,
            requests: requests.clone(),
            random: Random::new(seed),
            answer: Vec::new(),
        }
    }

    /// An answer with one object; its revision is returned.
    async fn one(&mut self, (head, body): (Head<()>, Bytes)) -> Result<i64> {
        let answer = self.channel.ask(head, body).await?;
        answer.read_into(&mut self.answer, MOST_ANSWER).await?;
        let found = scan::count(&self.answer);
        ensure!(found == 1, "an answer has {found} objects, not 1");
        scan::revision(&self.answer)
    }
}

/// Creates one object after another, together with others.
pub(super) struct Creator {
    client: Client,
    next: Arc<AtomicU64>,
}

impl Repeat for Creator {
    async fn operate(&mut self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.create(number).await.map(|_| ())
    }
}

impl Creator {
    async fn create(&mut self, number: u64) -> Result<i64> {
        let Client {
            requests, random, ..
        } = &mut self.client;
        let request = requests.create(number, random)?;
        self.client.one(request).await
    }
}

/// Gets random objects.
struct Getter {
    client: Client,
    keys: u64,
}

impl Repeat for Getter {
    async fn operate(&mut self) -> Result<()> {
        let number = self.client.random.below(self.keys);
        let head = self.client.requests.get(number)?;
        self.client.one((head, Bytes::new())).await.map(|_| ())
    }
}

/// Lists all objects in one answer.
struct Lister {
    client: Client,
    keys: u64,
}

impl Repeat for Lister {
    async fn operate(&mut self) -> Result<()> {
        let head = self.client.requests.list()?;
        let mut answer = self.client.channel.ask(head, Bytes::new()).await?;
        let mut objects = scan::Objects::default();
        while let Some(piece) = answer.next().await? {
            objects.feed(&piece);
        }
        let found = objects.count();
        ensure!(
            found == self.keys,
            "a list has {found} objects, not {}",
            self.keys
        );
        Ok(())
    }
}

/// Updates random objects that nobody else does, each as it was last.
pub(super) struct Updater {
    client: Client,
    first: u64,
    /// Of each object from the first on.
    revisions: Vec<i64>,
}

impl Updater {
    /// One of so many, each with its part of all objects.
    pub(super) fn new(
        (number, updaters): (usize, usize),
        channel: Channel,
        requests: &Requests,
        revisions: &[i64],
    ) -> Updater {
        let objects = revisions.len();
        let own = objects * number / updaters..objects * (number + 1) / updaters;
        Updater {
            client: Client::new(number as u64, channel, requests),
            first: own.start as u64,
            revisions: revisions[own].to_vec(),
        }
    }
}

impl Repeat for Updater {
    async fn operate(&mut self) -> Result<()> {
        let Client {
            requests, random, ..
        } = &mut self.client;
        let offset = random.below(self.revisions.len() as u64);
        let slot = &mut self.revisions[usize::try_from(offset)?];
        let request = requests.update(self.first + offset, *slot, random)?;
        let revision = self.client.one(request).await?;
        ensure!(
            revision > *slot,
            "an update of revision {slot} made revision {revision}"
        );
        *slot = revision;
        Ok(())
    }
}

/// Creates keys through the etcd port, as kube-apiserver does: a put under the condition that there is no such key.
struct KeyCreator {
    channel: Channel,
    method: Method,
    request: Request,
    random: Random,
    next: Arc<AtomicU64>,
}

impl Repeat for KeyCreator {
    async fn operate(&mut self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let request = self.request.fill(number, 0, &mut self.random);
        let answer = self.channel.call(&self.method, request).await?;
        ensure!(answer.numbers[2] == 1, "key {number} is there already");
        unary::check_revision(&answer)
    }
}

/// Creates objects.
pub(super) fn create(plan: &Plan, requests: &Requests) -> Result<Outcome> {
    let next = Arc::new(AtomicU64::new(0));
    unary::repeat(plan, |number, channel| Creator {
        client: Client::new(number as u64, channel, requests),
        next: next.clone(),
    })
}

/// Gets objects of a fill.
pub(super) fn get(plan: &Plan, requests: &Requests) -> Result<Outcome> {
    unary::repeat(plan, |number, channel| Getter {
        client: Client::new(number as u64, channel, requests),
        keys: plan.keys,
    })
}

/// Lists the objects of a fill.
pub(super) fn list(plan: &Plan, requests: &Requests) -> Result<Outcome> {
    unary::repeat(plan, |number, channel| Lister {
        client: Client::new(number as u64, channel, requests),
        keys: plan.keys,
    })
}

/// Updates the objects of a fill.
pub(super) fn update(plan: &Plan, requests: &Requests, revisions: &[i64]) -> Result<Outcome> {
    let updaters = plan.connections * plan.in_flight;
    ensure!(
        revisions.len() >= updaters,
        "{updaters} workers need an object each, there are {}",
        revisions.len()
    );
    unary::repeat(plan, |number, channel| {
        Updater::new((number, updaters), channel, requests, revisions)
    })
}

/// Creates keys through the etcd port.
pub(super) fn create_keys(plan: &Plan) -> Result<Outcome> {
    let next = Arc::new(AtomicU64::new(0));
    let method = Method::new(plan.endpoints[0], unary::TXN)?;
    let request = Request::update(&plan.prefix, plan.value_size);
    unary::repeat(plan, |number, channel| KeyCreator {
        channel,
        method: method.clone(),
        request: request.clone(),
        random: Random::new(number as u64),
        next: next.clone(),
    })
}

/// Makes the namespace, which no run does without.
pub(super) fn create_namespace(plan: &Plan, requests: &Requests) -> Result<()> {
    let endpoint = plan.endpoints[0];
    let (head, body) = requests.create_namespace(endpoint)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = wire::connect(endpoint).await?.ask(head, body).await?;
        answer.read_into(&mut Vec::new(), MOST_ANSWER).await
    })
}

/// Creates all objects of a plan; answers with their revisions.
pub(super) fn fill(plan: &Plan, requests: &Requests) -> Result<Vec<i64>> {
    let next = Arc::new(AtomicU64::new(0));
    let filled = Arc::new(AtomicU64::new(0));
    let revisions: Arc<[AtomicI64]> = (0..plan.keys).map(|_| AtomicI64::new(0)).collect();
    let start_worker = |place: Place, channel: Channel, signals: Signals| {
        let (filled, revisions) = (filled.clone(), revisions.clone());
        let mut creator = Creator {
            client: Client::new(FILL_SEED + place.worker as u64, channel, requests),
            next: next.clone(),
        };
        async move {
            let Schedule { stop, .. } = signals.schedule().await?;
            while Instant::now() < stop {
                let number = creator.next.fetch_add(1, Ordering::Relaxed);
                let slot = usize::try_from(number).ok();
                let Some(slot) = slot.and_then(|number| revisions.get(number)) else {
                    break;
                };
                slot.store(creator.create(number).await?, Ordering::Relaxed);
                filled.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    };
    let (connections, workers) = FILLERS;
    let links = Link::in_turn(&plan.endpoints, std::iter::repeat_n(workers, connections));
    drive::drive(&links, plan.threads, start_worker, |signals| {
        let start = Instant::now();
        signals.begin(Schedule {
            start,
            stop: start + NO_END,
        });
        signals.wait("objects created", || {
            let filled = filled.load(Ordering::Relaxed);
            (filled, filled == plan.keys)
        })
    })?;
    let revisions = revisions.iter();
    Ok(revisions
        .map(|revision| revision.load(Ordering::Relaxed))
        .collect())
}
