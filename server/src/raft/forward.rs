//! Carries this member's batches to the leader: one ordered stream for as long as that one leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use futures_util::{StreamExt as _, stream};
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use proto::peer::forward_reply::Outcome;
use proto::peer::{ForwardReply, ForwardRequest};
use store::mutant::{self, Mutant};
use tokio::sync::mpsc;

use super::Core;
use crate::node::{BoxFuture, CallError};
use crate::peer::{Answers, LinkError, Transport};

/// How often to look whether the leader is still the same.
const LOOK: Duration = Duration::from_millis(50);

/// Sends batches to whoever leads.
pub(super) struct Forwarder {
    core: Arc<Core>,
    transport: Arc<dyn Transport>,
    stream: Option<Open>,
}

struct Open {
    leader: u64,
    sender: mpsc::UnboundedSender<ForwardRequest>,
    unanswered: Arc<Unanswered>,
}

/// The batches of a stream that are not answered yet. They are failed when the stream ends, whatever ended it.
struct Unanswered {
    core: Arc<Core>,
    /// None: the stream has ended.
    firsts: Mutex<Option<Vec<u64>>>,
    /// What was sent; only for a mutant.
    sent: Mutex<Vec<ForwardRequest>>,
}

impl Unanswered {
    /// Notes a batch before it is sent; not if the stream has ended.
    fn expect(&self, first: u64) -> bool {
        let mut firsts = self.firsts.lock();
        match &mut *firsts {
            Some(firsts) => {
                firsts.push(first);
                true
            }
            None => false,
        }
    }

    fn answered(&self, first: u64, outcome: Outcome) {
        {
            let mut firsts = self.firsts.lock();
            let Some(firsts) = &mut *firsts else { return };
            let Some(place) = firsts.iter().position(|&one| one == first) else {
                return;
            };
            firsts.remove(place);
        }
        let error = match outcome {
            // The answers come from apply.
            Outcome::Committed => None,
            Outcome::NoLeader => Some(CallError::NoLeader),
            Outcome::TooManyRequests => Some(CallError::TooManyRequests),
            Outcome::Unknown => Some(CallError::LeaderChanged),
        };
        match error {
            None => self.core.committed(first),
            Some(error) => self.core.fail(first, &error),
        }
        self.core.proposals.landed();
    }

    fn end(&self, error: &CallError) {
        let firsts = self.firsts.lock().take();
        for first in firsts.into_iter().flatten() {
            self.core.fail(first, error);
            self.core.proposals.landed();
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.end(&CallError::LeaderChanged);
    }
}

impl Forwarder {
    pub(super) fn new(core: Arc<Core>, transport: Arc<dyn Transport>) -> Self {
        Self {
            core,
            transport,
            stream: None,
        }
    }

    /// Sends a batch, whose commands are numbered from `first`, to the leader. It counts as in flight.
    pub(super) fn send<R: AsyncRuntime>(
        &mut self,
        leader: u64,
        first: u64,
        commands: Bytes,
        count: u64,
    ) {
        let request = ForwardRequest {
            id: first,
            commands,
            count,
        };
        let is_usable = self
            .stream
            .as_ref()
            .is_some_and(|open| open.leader == leader && open.unanswered.expect(first));
        if !is_usable {
            let open = self.open::<R>(leader);
            open.unanswered.expect(first);
            self.stream = Some(open);
        }
        if let Some(open) = &self.stream {
            if mutant::is_on(Mutant::BatchSentAgain) {
                open.unanswered.sent.lock().push(request.clone());
            }
            // If the stream has ended since, its end answers for this batch, too.
            let _ = open.sender.send(request);
        }
    }

    fn open<R: AsyncRuntime>(&self, leader: u64) -> Open {
        let (sender, mut receiver) = mpsc::unbounded_channel::<ForwardRequest>();
        let unanswered = Arc::new(Unanswered {
            core: self.core.clone(),
            firsts: Mutex::new(Some(Vec::new())),
            sent: Mutex::default(),
        });
        let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
        let link = self.transport.link(leader, "forward");
        let (core, carried) = (self.core.clone(), unanswered.clone());
        let transport = self.transport.clone();
        drop(R::spawn(async move {
            let opened = link.forward(Box::pin(requests));
            let error = carry::<R>(&core, leader, opened, &carried).await;
            if mutant::is_on(Mutant::BatchSentAgain) && error == CallError::LeaderChanged {
                let unanswered = carried.firsts.lock().clone().unwrap_or_default();
                let mut sent = std::mem::take(&mut *carried.sent.lock());
                sent.retain(|request| unanswered.contains(&request.id));
                let leader = core.leader().unwrap_or(leader);
                let again = transport.link(leader, "forward");
                let opened = again.forward(Box::pin(stream::iter(sent)));
                carry::<R>(&core, leader, opened, &carried).await;
            }
            carried.end(&error);
        }));
        Open {
            leader,
            sender,
            unanswered,
        }
    }
}

/// Hears the answers, until the stream breaks or somebody else leads; what that means for the batches without one.
async fn carry<R: AsyncRuntime>(
    core: &Core,
    leader: u64,
    opened: BoxFuture<Result<Answers<ForwardReply>, LinkError>>,
    unanswered: &Unanswered,
) -> CallError {
    let mut answers = match until_deposed::<R, _>(core, leader, opened).await {
        Some(Ok(answers)) => answers,
        // Nothing was sent, or nothing was done with it.
        Some(Err(LinkError::NotConnected(_) | LinkError::Refused(_))) => {
            return CallError::NoLeader;
        }
        Some(Err(LinkError::Broken(_))) | None => return unknown(),
    };
    while let Some(Some(Ok(answer))) = until_deposed::<R, _>(core, leader, answers.next()).await {
        unanswered.answered(answer.id, answer.outcome());
    }
    unknown()
}

/// What a batch was sent for may be done or not.
fn unknown() -> CallError {
    if mutant::is_on(Mutant::UnknownSaidRefused) {
        return CallError::NoLeader;
    }
    CallError::LeaderChanged
}

/// What `wanted` gives, or nothing if somebody else leads before that.
async fn until_deposed<R: AsyncRuntime, F: Future + Unpin + Send>(
    core: &Core,
    leader: u64,
    mut wanted: F,
) -> Option<F::Output> {
    loop {
        match future::select(wanted, Box::pin(R::sleep(LOOK))).await {
            Either::Left((output, _)) => return Some(output),
            Either::Right(((), _)) if core.leader() != Some(leader) => return None,
            Either::Right(((), rest)) => wanted = rest,
        }
    }
}
