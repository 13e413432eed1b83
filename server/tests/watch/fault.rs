//! A store that cannot be read ends the watches, and says so to whoever runs the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proto::etcd::etcdserverpb::WatchCreateRequest;
use server::watch::Options;
use store::engine::memory::MemoryEngine;
use store::engine::{Batch, Family, StateEngine, Visitor};
use store::{ChangeSet, StoreError};

use super::world::{Client, World};

/// An engine of which reads fail from some moment on.
#[derive(Default)]
struct Failing {
    engine: MemoryEngine,
    fails: AtomicBool,
}

impl Failing {
    fn check(&self) -> Result<(), StoreError> {
        if !self.fails.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError::Engine {
            doing: "read",
            source: "bad block".into(),
        })
    }
}

impl StateEngine for Failing {
    fn get(
        &self,
        family: Family,
        key: &[u8],
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        self.check()?;
        self.engine.get(family, key, found)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.check()?;
        self.engine.scan(family, from, to, visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.engine.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.engine.flush()
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.durable_meta(key)
    }

    fn set_horizon(&self, revision: i64) {
        self.engine.set_horizon(revision);
    }

    fn compact_all(&self) -> Result<(), StoreError> {
        self.engine.compact_all()
    }

    fn size(&self) -> u64 {
        self.engine.size()
    }

    fn size_in_use(&self) -> u64 {
        self.engine.size_in_use()
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        self.engine.gauges()
    }
}

/// Told once, with the reason.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn listen(&self, world: &World) {
        let told = self.0.clone();
        world.hub.on_fault(move |reason| told.lock().push(reason));
    }
}

#[test]
fn a_fault_in_history_ends_every_stream_and_is_told_once_with_its_cause() {
    let engine = Arc::new(Failing::default());
    // Nothing stays in the ring, so that the past is read from the engine.
    let options = Options {
        ring_bytes: 0,
        ..Options::default()
    };
    let mut world = World::on(engine.clone(), options);
    world.write(vec![vec![(b"a".to_vec(), Some(b"1".to_vec()))]]);
    let sets: Vec<Arc<ChangeSet>> = std::mem::take(&mut world.unpublished);
    let mut live = Client::new(&world);
    assert!(live.exchange(&mut world).is_empty());
    world.hub.publish(sets);
    let (early, late) = (Told::default(), Told::default());
    early.listen(&world);

    engine.fails.store(true, Ordering::SeqCst);
    let mut behind = Client::new(&world);
    behind.create(WatchCreateRequest {
        key: "a".into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    });
    let responses = behind.exchange(&mut world);
    assert!(responses.iter().all(|response| response.events.is_empty()));
    live.exchange(&mut world);

    let ended = (
        "13".to_owned(),
        "holdfast: the store could not be read".to_owned(),
    );
    for client in [&behind, &live] {
        assert_eq!(client.trailers.as_ref(), Some(&ended));
    }
    let reason = early.0.lock().clone();
    let [told] = &reason[..] else {
        panic!("{reason:?}")
    };
    let begin = "watches ended, because the store's history cannot be read: the state engine failed to read; ";
    assert!(told.starts_with(begin), "{told}");
    assert!(told.ends_with(": bad block"), "{told}");
    late.listen(&world);
    assert_eq!(*late.0.lock(), reason, "also who asks afterwards");
    let mut after = Client::new(&world);
    after.exchange(&mut world);
    assert!(after.trailers.is_some(), "a new stream does not hang");
}
