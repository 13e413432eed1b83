//! `Defragment`: has the database rewritten, while everything goes on.

use std::time::Instant;

use parking_lot::Mutex;
use proto::etcd::etcdserverpb::{DefragmentRequest, DefragmentResponse};
use store::engine::REWRITE_STEP;
use store::{StoreError, Sweep};
use tokio::sync::watch::{self, Receiver};

use super::error::{self, Status};
use super::{Context, Outcome, Service};
use crate::logging;
use crate::node::Node;

/// How a run ended; none while it goes on.
type Ended = Option<Result<(), Status>>;

/// One run at a time: who asks while one goes on shares it.
#[derive(Default)]
pub(super) struct Defragments {
    running: Mutex<Option<Receiver<Ended>>>,
}

impl Defragments {
    /// Starts a run, or joins the one there is.
    ///
    /// It has a thread of its own and goes on to its end, also when all who asked have gone: there is nothing to be
    /// gained from half of it.
    fn join(&self, node: &Node) -> Receiver<Ended> {
        let mut running = self.running.lock();
        if let Some(running) = &*running
            // Without a sender its thread is gone, with or without a result.
            && running.has_changed().is_ok()
            && running.borrow().is_none()
        {
            return running.clone();
        }
        let (end, ended) = watch::channel(None);
        let worker = node.clone();
        let work = move || {
            let result = run(&worker);
            drop(worker);
            end.send_replace(Some(result));
        };
        let thread = std::thread::Builder::new().name("defragment".to_owned());
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "cannot start a thread to defragment; raise the thread limit of this process");
        }
        *running = Some(ended.clone());
        ended
    }
}

fn rewrite(node: &Node) -> Result<(), StoreError> {
    // What compaction has given up may be dropped once that is durable: so flush first, then rewrite.
    node.engine().flush()?;
    Sweep::new(node.reader().clone()).raise_horizon()?;
    node.engine().compact_all()
}

/// Rewrites the database if the disk has room for what is rewritten at once, beside what writes need.
fn run(node: &Node) -> Result<(), Status> {
    let (engine, metrics) = (node.engine(), node.metrics());
    let admission = node.admission();
    let sizes = || {
        admission.quota.look(&**engine);
        admission.quota.size()
    };
    let (began, before) = (Instant::now(), sizes());
    if let Some(reason) = admission.space.lacks_room_for(before.min(REWRITE_STEP)) {
        tracing::warn!(reason, "did not defragment: too little free disk space");
        return Err(error::no_room_to_defragment(&reason));
    }
    tracing::info!(size_bytes = before, "starting defragment");
    metrics.defrag_inflight.inc();
    let result = rewrite(node);
    metrics.defrag_inflight.dec();
    metrics
        .defrag_duration
        .observe(began.elapsed().as_secs_f64());
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let after = sizes();
    match result {
        Ok(()) => {
            tracing::info!(
                before_bytes = before,
                after_bytes = after,
                took_ms,
                "finished defragment"
            );
            Ok(())
        }
        Err(error) => {
            let text = logging::chain(&error);
            tracing::warn!(error = text, took_ms, "failed to defragment");
            if let StoreError::Corrupt { .. } = error {
                node.stop_for(format!("the store cannot be read: {text}"));
            }
            Err(error::defragment_failed(&text))
        }
    }
}

/// Answers `Defragment` when the database has been rewritten. The answer has no header, as in etcd.
pub(super) async fn defragment(
    service: &Service,
    _context: &Context,
    _request: DefragmentRequest,
) -> Result<Outcome, Status> {
    let mut running = service.defragments.join(&service.node);
    let ended = running.wait_for(Option::is_some).await;
    ended
        .map_err(|_| error::STOPPED)?
        .clone()
        .unwrap_or(Ok(()))?;
    Ok(Outcome::of_message(&DefragmentResponse::default()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic::Code;

    use super::*;
    use crate::admission::Admission;
    use crate::disk_space::{DiskSpace, Finding, Level};
    use crate::quota::Quota;
    use crate::raft::bare;

    #[test]
    fn without_room_for_one_step_nothing_is_rewritten() {
        let run_with = |spare: u64| {
            let space = DiskSpace::default();
            let finding = Finding {
                name: "data",
                folder: "/data".into(),
                free: (160 << 20) + spare,
                needed: 160 << 20,
                level: Level::Enough,
            };
            space.take(vec![finding], false);
            let (node, _) = bare::node(Admission {
                quota: Quota::new(-1),
                space: Arc::new(space),
            });
            run(&node)
        };
        assert_eq!(run_with(REWRITE_STEP), Ok(()));
        let status = run_with(0).unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.text(),
            "holdfast: the database was not defragmented: /data has 160 MiB free of 161 MiB needed"
        );
    }
}
