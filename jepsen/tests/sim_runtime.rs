//! The simulated runtime keeps openraft's contract and its own: a run is a function of its seed.

use std::sync::Arc;
use std::time::Duration;

use jepsen::sim::{Group, JoinError, Panicked, Simulation, Step, Trace};
use openraft_rt::testing::Suite;
use openraft_rt::{AsyncRuntime, Instant, Mpsc, MpscReceiver, MpscSender};
use parking_lot::Mutex;
use rand::RngExt;

type Channel = <Simulation as AsyncRuntime>::Mpsc;

/// Producers with random pauses into a small channel; answers the order of arrival.
fn busy_run(seed: u64) -> (Trace, Vec<u32>) {
    let simulation = Simulation::with_seed(seed);
    let arrived = simulation.block_on(async {
        let (tx, mut rx) = Channel::channel::<u32>(2);
        for producer in 0..5 {
            let tx = tx.clone();
            drop(Simulation::spawn(async move {
                for nth in 0..20 {
                    let pause = Simulation::thread_rng().random_range(0..50);
                    Simulation::sleep(Duration::from_micros(pause)).await;
                    tx.send(producer * 100 + nth)
                        .await
                        .expect("the receiver outlives the producers");
                }
            }));
        }
        drop(tx);
        let mut arrived = Vec::new();
        while let Some(value) = rx.recv().await {
            arrived.push(value);
        }
        arrived
    });
    (simulation.trace(), arrived)
}

/// A sleep counted from its first poll, so that it can be made outside the simulation.
async fn sleep_for(pause: Duration) {
    Simulation::sleep(pause).await;
}

#[test]
fn openrafts_suite_for_runtimes_passes() {
    Suite::<Simulation>::test_all();
}

#[test]
fn same_seed_gives_same_trace() {
    for seed in 0..20 {
        assert_eq!(busy_run(seed), busy_run(seed), "seed {seed}");
    }
}

#[test]
fn different_seeds_give_different_schedules() {
    let orders: std::collections::BTreeSet<Vec<u32>> =
        (0..20).map(|seed| busy_run(seed).1).collect();
    assert_eq!(orders.len(), 20);
}

#[test]
fn a_named_event_shows_in_the_trace() {
    let quiet = Simulation::with_seed(1);
    let noted = Simulation::with_seed(1);
    noted.note("fsync", 7);
    assert_ne!(quiet.trace().hash, noted.trace().hash);
}

#[test]
fn timers_end_in_the_order_of_their_deadlines() {
    let simulation = Simulation::with_seed(3);
    let ended = Arc::new(Mutex::new(Vec::new()));
    simulation.block_on(async {
        let tasks: Vec<_> = [30_u64, 10, 20, 40]
            .into_iter()
            .map(|millis| {
                let ended = Arc::clone(&ended);
                Simulation::spawn(async move {
                    Simulation::sleep(Duration::from_millis(millis)).await;
                    ended.lock().push(millis);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(*ended.lock(), [10, 20, 30, 40]);
}

#[test]
fn an_hour_of_virtual_time_takes_no_real_time() {
    let simulation = Simulation::with_seed(4);
    simulation.block_on(sleep_for(Duration::from_secs(3600)));
    let trace = simulation.trace();
    assert!(trace.elapsed >= Duration::from_secs(3600));
    assert!(trace.steps < 10, "{trace:?}");
}

#[test]
fn run_until_stops_before_later_timers_and_says_when_nothing_is_left() {
    let simulation = Simulation::with_seed(5);
    let ended = simulation.spawn_in(Group(1), sleep_for(Duration::from_millis(10)));
    assert_eq!(simulation.run_for(Duration::from_millis(5)), Step::Waited);
    assert_eq!(simulation.tasks(), 1);
    assert_eq!(simulation.run_for(Duration::from_secs(1)), Step::Quiet);
    assert_eq!(simulation.tasks(), 0);
    assert_eq!(simulation.block_on(ended), Ok(()));
}

#[test]
fn a_panic_ends_its_task_only_and_is_recorded() {
    let simulation = Simulation::with_seed(6);
    let (broken, sound) = (
        simulation.spawn_in(Group(2), async { panic!("disk is on fire") }),
        simulation.spawn_in(Group(2), async { 7 }),
    );
    let broken: Result<(), JoinError> = simulation.block_on(broken);
    assert_eq!(broken, Err(JoinError::Panic("disk is on fire".to_owned())));
    assert_eq!(simulation.block_on(sound), Ok(7));
    let expected = Panicked {
        group: Group(2),
        message: "disk is on fire".to_owned(),
    };
    assert_eq!(simulation.take_panics(), [expected]);
}

#[test]
fn killing_a_group_drops_all_it_spawned_and_nothing_else() {
    let simulation = Simulation::with_seed(7);
    let marker = Arc::new(());
    let held = Arc::clone(&marker);
    let killed = simulation.spawn_in(Group(1), async move {
        let inner = Arc::clone(&held);
        let child = Simulation::spawn(async move {
            Simulation::sleep(Duration::from_secs(1)).await;
            drop(inner);
        });
        child.await.unwrap();
        drop(held);
    });
    let other = simulation.spawn_in(Group(2), async {
        let start = <Simulation as AsyncRuntime>::Instant::now();
        Simulation::sleep(Duration::from_secs(2)).await;
        start.elapsed()
    });
    assert_eq!(simulation.run_for(Duration::from_millis(1)), Step::Waited);
    assert_eq!(Arc::strong_count(&marker), 3);

    assert_eq!(simulation.kill(Group(1)), 2);

    assert_eq!(Arc::strong_count(&marker), 1);
    assert_eq!(simulation.block_on(killed), Err(JoinError::Killed));
    assert!(simulation.block_on(other).unwrap() >= Duration::from_secs(2));
}

#[test]
fn a_condition_is_noticed_without_being_woken() {
    let simulation = Simulation::with_seed(9);
    let queue = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&queue);
    let worker = simulation.spawn_in(Group(1), async move {
        let test = Arc::clone(&seen);
        Simulation::until(move || !test.lock().is_empty()).await;
        seen.lock().pop()
    });
    assert_eq!(simulation.run_for(Duration::from_secs(1)), Step::Quiet);
    queue.lock().push(7);
    assert_eq!(simulation.block_on(worker), Ok(Some(7)));
}

#[test]
#[should_panic(expected = "the simulation is stuck")]
fn waiting_for_what_cannot_come_is_reported() {
    let simulation = Simulation::with_seed(8);
    simulation.block_on(std::future::pending::<()>());
}
