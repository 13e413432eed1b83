//! The scheduler: tasks, timers, the seed they are picked by, and the trace they leave.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::clock::SimInstant;

/// The random numbers of a simulation: portable, so that a seed means the same on every machine.
pub type SimRng = ChaCha8Rng;

pub(super) type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The future passed to `block_on`. It is polled from the stack, and so is no entry of `tasks`.
const MAIN: u64 = 0;
/// Virtual time starts well above zero, so that "now minus a while" is an instant.
const START: Duration = Duration::from_secs(1_000_000);
/// Upper bound of the virtual time one step takes, in nanoseconds.
const STEP_NANOS: u64 = 4_000;

/// A set of tasks that live and die together: the processes of the simulated world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub u32);

/// What one scheduling decision came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A ready task was polled once.
    Ran,
    /// No task was ready; the clock jumped to the next timer.
    Waited,
    /// No task is ready and no timer is set: nothing can happen any more.
    Quiet,
}

/// What a run did, in short: two runs of one seed have equal traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// All decisions, times and named events, folded in order.
    pub hash: u64,
    /// Scheduling decisions taken.
    pub steps: u64,
    /// Virtual time passed since the start.
    pub elapsed: Duration,
}

/// A panic of a task, kept so that a test can insist that there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// Group of the task.
    pub group: Group,
    /// The text given to `panic!`.
    pub message: String,
}

struct Task {
    group: Group,
    /// Absent while it is being polled.
    future: Option<TaskFuture>,
    waker: Waker,
}

struct State {
    now: SimInstant,
    rng: SimRng,
    /// Seeds of the generators handed out, apart from `rng` so that drawing more of them in a
    /// task does not shift the schedule.
    seeds: SimRng,
    tasks: BTreeMap<u64, Task>,
    /// Ascending ids. Few are ready at a time, so a sorted vector beats a tree.
    ready: Vec<u64>,
    /// Groups of which nothing runs, and their tasks that are ready.
    paused: BTreeSet<Group>,
    held: BTreeSet<u64>,
    timers: BTreeMap<(SimInstant, u64), Waker>,
    next_task: u64,
    next_timer: u64,
    group: Group,
    steps: u64,
    hash: u64,
    panics: Vec<Panicked>,
}

impl State {
    fn fold(&mut self, value: u64) {
        // FNV-1a over words, with a rotation so that high bits come back down.
        self.hash = (self.hash ^ value)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }

    fn wake(&mut self, id: u64) {
        if id != MAIN {
            let Some(task) = self.tasks.get(&id) else {
                return;
            };
            if self.paused.contains(&task.group) {
                self.held.insert(id);
                return;
            }
        }
        if let Err(at) = self.ready.binary_search(&id) {
            self.ready.insert(at, id);
        }
    }

    /// A task that is gone is not ready.
    fn forget(&mut self, id: u64) {
        self.held.remove(&id);
        if let Ok(at) = self.ready.binary_search(&id) {
            self.ready.remove(at);
        }
    }

    /// The wakers of all timers that are due, in the order of their deadlines.
    fn due(&mut self) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            due.push(entry.remove());
        }
        due
    }
}

/// What tasks, timers and channels share with the scheduler.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Looked at after every step of their group. Apart from `state`, as a test may be anything but a
    /// use of the simulation.
    conditions: Mutex<BTreeMap<(Group, u64), Condition>>,
}

struct Condition {
    test: Arc<dyn Fn() -> bool + Send + Sync>,
    waker: Waker,
}

struct TaskWaker {
    shared: Weak<Shared>,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A waker may outlive the simulation in a value that a test still holds.
        if let Some(shared) = self.shared.upgrade() {
            shared.state.lock().wake(self.id);
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

impl Shared {
    /// The simulation that this thread runs at the moment.
    #[track_caller]
    pub(super) fn current() -> Arc<Shared> {
        CURRENT
            .with_borrow(Clone::clone)
            .expect("the simulated runtime is used inside Simulation::enter only")
    }

    pub(super) fn now(&self) -> SimInstant {
        self.state.lock().now
    }

    /// Has `waker` woken after the first step of the group that runs at whose end `test` holds.
    fn set_condition(
        &self,
        test: Arc<dyn Fn() -> bool + Send + Sync>,
        waker: Waker,
    ) -> (Group, u64) {
        let key = {
            let mut state = self.state.lock();
            state.next_timer += 1;
            (state.group, state.next_timer)
        };
        let condition = Condition { test, waker };
        self.conditions.lock().insert(key, condition);
        key
    }

    /// Adds a task to the group of the task that runs now.
    pub(super) fn spawn(self: &Arc<Self>, future: TaskFuture) {
        let group = self.state.lock().group;
        self.spawn_in(group, future);
    }

    pub(super) fn spawn_in(self: &Arc<Self>, group: Group, future: TaskFuture) {
        let mut state = self.state.lock();
        let id = state.next_task;
        state.next_task += 1;
        let waker = Waker::from(Arc::new(TaskWaker {
            shared: Arc::downgrade(self),
            id,
        }));
        state.tasks.insert(
            id,
            Task {
                group,
                future: Some(future),
                waker,
            },
        );
        state.wake(id);
    }

    /// Sets a timer; the answer is what [`Shared::clear_timer`] takes.
    pub(super) fn set_timer(&self, at: SimInstant, waker: Waker) -> (SimInstant, u64) {
        let mut state = self.state.lock();
        let key = (at, state.next_timer);
        state.next_timer += 1;
        state.timers.insert(key, waker);
        key
    }

    /// Replaces the waker of a timer that is still set.
    pub(super) fn rearm_timer(&self, key: (SimInstant, u64), waker: &Waker) {
        if let Some(held) = self.state.lock().timers.get_mut(&key) {
            held.clone_from(waker);
        }
    }

    pub(super) fn clear_timer(&self, key: (SimInstant, u64)) {
        self.state.lock().timers.remove(&key);
    }

    /// A generator of its own, seeded by the simulation.
    pub(super) fn fork_rng(&self) -> SimRng {
        let seed = self.state.lock().seeds.next_u64();
        SimRng::seed_from_u64(seed)
    }

    pub(super) fn record_panic(&self, message: String) {
        let mut state = self.state.lock();
        let group = state.group;
        state.panics.push(Panicked { group, message });
    }

    /// Takes the next decision: who runs now, and how long it takes.
    fn decide(&self) -> Result<Turn, Step> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.ready.is_empty() {
            let Some((&(at, _), _)) = state.timers.first_key_value() else {
                return Err(Step::Quiet);
            };
            state.now = state.now.max(at);
            return Ok(Turn::Wait);
        }
        let at = state.rng.random_range(0..state.ready.len());
        let id = state.ready.remove(at);
        state.now += Duration::from_nanos(state.rng.random_range(0..STEP_NANOS));
        state.fold(id);
        state.group = Group::default();
        if id == MAIN {
            return Ok(Turn::Main);
        }
        let task = state.tasks.get_mut(&id).expect("a ready task exists");
        state.group = task.group;
        // Absent when a task steps the simulation that polls it, which is a mistake of the test.
        let future = task.future.take().expect("a task is polled by one step");
        Ok(Turn::Task(id, future, task.waker.clone()))
    }

    fn step(self: &Arc<Self>, main: Option<&mut dyn FnMut()>) -> Step {
        // A test may have changed what a condition looks at between two steps.
        if self.state.lock().ready.is_empty() {
            for waker in self.met(None) {
                waker.wake();
            }
        }
        let turn = match self.decide() {
            Ok(turn) => turn,
            Err(step) => return step,
        };
        let step = match turn {
            Turn::Wait => Step::Waited,
            Turn::Main => {
                if let Some(main) = main {
                    main();
                }
                Step::Ran
            }
            Turn::Task(id, mut future, waker) => {
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                let mut state = self.state.lock();
                match (polled, state.tasks.get_mut(&id)) {
                    (Poll::Pending, Some(task)) => {
                        task.future = Some(future);
                    }
                    // Ended, or killed by what it did itself. Destructors run outside the lock.
                    _ => {
                        let task = state.tasks.remove(&id);
                        // It may have woken itself in its last step.
                        state.forget(id);
                        drop(state);
                        drop(future);
                        drop(task);
                    }
                }
                Step::Ran
            }
        };
        let (mut due, group) = {
            let mut state = self.state.lock();
            let group = std::mem::take(&mut state.group);
            state.steps += 1;
            let nanos = state.now.nanos();
            state.fold(nanos);
            (state.due(), group)
        };
        due.append(&mut self.met(Some(group)));
        for waker in due {
            waker.wake();
        }
        step
    }

    /// The wakers of the conditions that hold now, of one group or of all.
    fn met(&self, group: Option<Group>) -> Vec<Waker> {
        let mut met = Vec::new();
        let mut conditions = self.conditions.lock();
        let from = group.unwrap_or_default();
        let to = group.unwrap_or(Group(u32::MAX));
        let holding = conditions
            .range((from, 0)..=(to, u64::MAX))
            .filter(|(_, condition)| (condition.test)())
            .map(|(key, _)| *key);
        for key in holding.collect::<Vec<_>>() {
            met.extend(conditions.remove(&key).map(|condition| condition.waker));
        }
        met
    }

    /// Forgets the tasks that `dies` names; their futures are dropped after the lock is released,
    /// as destructors wake others.
    fn remove_tasks(&self, dies: impl Fn(&Task) -> bool) -> usize {
        let mut state = self.state.lock();
        let state_ref = &mut *state;
        let dead: Vec<u64> = state_ref
            .tasks
            .iter()
            .filter(|(_, task)| dies(task))
            .map(|(id, _)| *id)
            .collect();
        let mut removed = Vec::with_capacity(dead.len());
        for id in dead {
            removed.extend(state_ref.tasks.remove(&id));
            state_ref.forget(id);
        }
        drop(state);
        removed.len()
    }
}

/// Waits for something that wakes nobody, such as work in the queue of an OS thread.
pub struct Until {
    shared: Arc<Shared>,
    test: Arc<dyn Fn() -> bool + Send + Sync>,
    key: Option<(Group, u64)>,
}

impl fmt::Debug for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Until").finish_non_exhaustive()
    }
}

impl Until {
    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            let condition = self.shared.conditions.lock().remove(&key);
            drop(condition);
        }
    }
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.forget();
        if (self.test)() {
            return Poll::Ready(());
        }
        let key = self
            .shared
            .set_condition(Arc::clone(&self.test), cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Whom a decision is for.
enum Turn {
    Wait,
    Main,
    Task(u64, TaskFuture, Waker),
}

/// A world of tasks under one seed. Dropping it drops the tasks.
pub struct Simulation {
    shared: Arc<Shared>,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = self.trace();
        f.debug_struct("Simulation")
            .field("steps", &trace.steps)
            .field("elapsed", &trace.elapsed)
            .finish_non_exhaustive()
    }
}

/// Makes a simulation the current one of this thread until dropped.
#[derive(Debug)]
pub struct Entered {
    before: Option<Arc<Shared>>,
    /// The guard restores a thread-local, and so must stay on its thread.
    _thread: PhantomData<*const ()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // Tasks hold timers and timers hold the simulation: cut the circle.
        let _entered = self.enter();
        self.shared.remove_tasks(|_| true);
    }
}

impl Simulation {
    /// A world without tasks, whose whole future follows from `seed`.
    #[must_use]
    pub fn with_seed(seed: u64) -> Simulation {
        let mut seeds = SimRng::seed_from_u64(seed);
        seeds.set_stream(1);
        Simulation {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    now: SimInstant::after(START),
                    rng: SimRng::seed_from_u64(seed),
                    seeds,
                    tasks: BTreeMap::new(),
                    ready: Vec::new(),
                    paused: BTreeSet::new(),
                    held: BTreeSet::new(),
                    timers: BTreeMap::new(),
                    next_task: MAIN + 1,
                    next_timer: 0,
                    group: Group::default(),
                    steps: 0,
                    hash: seed,
                    panics: Vec::new(),
                }),
                conditions: Mutex::default(),
            }),
        }
    }

    /// Makes this the simulation that timers and `spawn` of this thread mean.
    #[must_use]
    pub fn enter(&self) -> Entered {
        Entered {
            before: CURRENT.replace(Some(Arc::clone(&self.shared))),
            _thread: PhantomData,
        }
    }

    /// Adds a task to a group. What it spawns belongs to the same group.
    pub fn spawn_in<F>(&self, group: Group, future: F) -> super::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (handle, task) = super::runtime::joined(future, Arc::downgrade(&self.shared));
        self.shared.spawn_in(group, task);
        handle
    }

    /// Ends when the test holds at the end of a step of the group that waits, or when nothing else can happen. The
    /// test must not use the simulation.
    pub fn until(test: impl Fn() -> bool + Send + Sync + 'static) -> Until {
        Until {
            shared: Shared::current(),
            test: Arc::new(test),
            key: None,
        }
    }

    /// Takes one scheduling decision and carries it out.
    pub fn step(&self) -> Step {
        let _entered = self.enter();
        self.shared.step(None)
    }

    /// Takes decisions until nothing can happen any more or the virtual time is reached.
    ///
    /// Answers [`Step::Quiet`] in the first case. Timers after `deadline` stay set.
    pub fn run_until(&self, deadline: SimInstant) -> Step {
        let _entered = self.enter();
        loop {
            let next = {
                let state = self.shared.state.lock();
                if state.ready.is_empty() {
                    state.timers.first_key_value().map(|(key, _)| key.0)
                } else {
                    Some(state.now)
                }
            };
            match next {
                None => return Step::Quiet,
                Some(at) if at >= deadline => return Step::Waited,
                Some(_) => {
                    self.shared.step(None);
                }
            }
        }
    }

    /// [`Simulation::run_until`], counted from now.
    pub fn run_for(&self, duration: Duration) -> Step {
        self.run_until(self.now() + duration)
    }

    /// Runs until `future` ends. It need be neither `Send` nor `'static`.
    ///
    /// Panics when nothing can happen any more and the future still waits.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = self.enter();
        let waker = Waker::from(Arc::new(TaskWaker {
            shared: Arc::downgrade(&self.shared),
            id: MAIN,
        }));
        let mut future = std::pin::pin!(future);
        let mut output = None;
        waker.wake_by_ref();
        while output.is_none() {
            let mut poll = || {
                if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    output = Some(value);
                }
            };
            let step = self.shared.step(Some(&mut poll));
            assert!(
                step != Step::Quiet || output.is_some(),
                "the simulation is stuck: block_on waits and nothing can wake it"
            );
        }
        output.expect("the loop ends with an output")
    }

    /// Drops all tasks of a group between two steps and says how many there were.
    ///
    /// Destructors run, unlike in a process that is killed: cut the group off from its disk first.
    pub fn kill(&self, group: Group) -> usize {
        let _entered = self.enter();
        let killed = self.shared.remove_tasks(|task| task.group == group);
        self.shared.state.lock().paused.remove(&group);
        self.note("kill", u64::from(group.0));
        killed
    }

    /// Has nothing of a group run until [`Simulation::resume`]: its time goes on, as that of a stopped process does.
    pub fn pause(&self, group: Group) {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        state.paused.insert(group);
        let (tasks, held) = (&state.tasks, &mut state.held);
        state.ready.retain(|id| {
            let is_held = tasks.get(id).is_some_and(|task| task.group == group);
            if is_held {
                held.insert(*id);
            }
            !is_held
        });
    }

    /// Ends a pause.
    pub fn resume(&self, group: Group) {
        let mut state = self.shared.state.lock();
        if !state.paused.remove(&group) {
            return;
        }
        for id in std::mem::take(&mut state.held) {
            // Those of another paused group stay where they are.
            state.wake(id);
        }
    }

    /// Lets time pass in which nothing runs.
    pub fn advance(&self, duration: Duration) {
        let due = {
            let mut state = self.shared.state.lock();
            state.now += duration;
            state.due()
        };
        for waker in due {
            waker.wake();
        }
    }

    /// Folds a named event into the trace.
    pub fn note(&self, name: &str, value: u64) {
        let mut state = self.shared.state.lock();
        for byte in name.bytes() {
            state.fold(u64::from(byte));
        }
        state.fold(value);
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> SimInstant {
        self.shared.now()
    }

    /// A generator of its own, seeded by the simulation.
    #[must_use]
    pub fn rng(&self) -> SimRng {
        self.shared.fork_rng()
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let state = self.shared.state.lock();
        Trace {
            hash: state.hash,
            steps: state.steps,
            elapsed: state.now - SimInstant::after(START),
        }
    }

    /// The panics of tasks since the last call.
    pub fn take_panics(&self) -> Vec<Panicked> {
        std::mem::take(&mut self.shared.state.lock().panics)
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.shared.state.lock().tasks.len()
    }
}
