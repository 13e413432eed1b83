//! The resource API on three members: what was acknowledged is there on all of them, whoever is killed meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;
#[path = "api/wire.rs"]
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use node::Node;
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::{Answer, Connection, Event, Request, Watch, get, post, put};

const NAMES: [&str; 3] = ["a", "b", "c"];
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three members with the API on plain HTTP.
struct Cluster {
    nodes: Vec<Option<Node>>,
    /// Where etcd's clients come in; another place after a restart.
    etcd: Vec<String>,
    apis: Vec<String>,
    flags: Vec<Vec<String>>,
    folder: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let peers = NAMES.map(|_| format!("http://127.0.0.1:{}", node::free_port()));
        let apis: Vec<String> = NAMES
            .iter()
            .map(|_| format!("127.0.0.1:{}", node::free_port()))
            .collect();
        let members: Vec<_> = NAMES
            .iter()
            .zip(&peers)
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let members = members.join(",");
        let flags = (0..NAMES.len())
            .map(|place| {
                vec![
                    format!("--name={}", NAMES[place]),
                    format!("--listen-peer-urls={}", peers[place]),
                    format!("--initial-advertise-peer-urls={}", peers[place]),
                    format!("--initial-cluster={members}"),
                    format!("--listen-api-urls=http://{}", apis[place]),
                ]
            })
            .collect();
        let mut cluster = Self {
            nodes: NAMES.iter().map(|_| None).collect(),
            etcd: vec![String::new(); NAMES.len()],
            apis,
            flags,
            folder,
        };
        for place in 0..NAMES.len() {
            cluster.launch(place);
        }
        for place in 0..NAMES.len() {
            let node = cluster.nodes[place].as_mut().unwrap();
            node.wait_for_log("ready to serve client requests");
            cluster.wait_until_ready(place);
        }
        cluster
    }

    fn launch(&mut self, place: usize) {
        let flags: Vec<&str> = self.flags[place].iter().map(String::as_str).collect();
        let node = Node::launch(&[], &self.folder.path().join(NAMES[place]), &flags);
        self.etcd[place] = node.endpoint.clone();
        self.nodes[place] = Some(node);
    }

    /// SIGKILL.
    fn kill(&mut self, place: usize) {
        self.nodes[place].take().unwrap().kill();
    }

    fn restart(&mut self, place: usize) {
        self.launch(place);
        let node = self.nodes[place].as_mut().unwrap();
        node.wait_for_log("ready to serve client requests");
        self.wait_until_ready(place);
    }

    /// Waits until a member has a leader, and what must be there from the beginning is there.
    fn wait_until_ready(&self, place: usize) {
        until("ready", || {
            let answer = try_send(&self.apis[place], &get("/readyz"));
            answer.is_some_and(|answer| answer.status == 200)
        });
        until("the default namespace", || {
            let answer = try_send(&self.apis[place], &get("/api/v1/namespaces/default"));
            answer.is_some_and(|answer| answer.status == 200)
        });
    }

    /// Which of those that run leads.
    fn leader(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (place, node) in self.nodes.iter().enumerate() {
                if node.is_none() {
                    continue;
                }
                let status = runtime.block_on(async {
                    let client = client::connect(self.etcd[place].clone()).await.ok()?;
                    client.status().await.ok()
                });
                if status.is_some_and(|status| {
                    status.leader != 0 && status.leader == status.header.unwrap().member_id
                }) {
                    return place;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no leader");
    }

    #[track_caller]
    fn send(&self, place: usize, request: &Request) -> Answer {
        send(&self.apis[place], request)
    }

    /// Sends until it is answered with a code: leadership may be in motion.
    #[track_caller]
    fn send_until(&self, place: usize, request: &Request, code: u16) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.send(place, request);
            if answer.status == code {
                return answer;
            }
            assert!(Instant::now() < deadline, "{}", answer.text());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn send(endpoint: &str, request: &Request) -> Answer {
    Connection::open(endpoint).unwrap().call(request).unwrap()
}

fn try_send(endpoint: &str, request: &Request) -> Option<Answer> {
    Connection::open(endpoint).ok()?.call(request).ok()
}

fn config_map(name: &str, number: usize) -> Value {
    let mut object = json!({
        "metadata": { "labels": { "number": number.to_string() } }, "data": { "number": number.to_string() },
    });
    // Every other name is made by the server, which tries again with another one if it is taken.
    let field = if number.is_multiple_of(2) {
        "name"
    } else {
        "generateName"
    };
    object["metadata"][field] = json!(name);
    object
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().unwrap()
}

/// A namespace of the test's own, and the path of its config maps.
fn namespace(cluster: &Cluster, name: &str) -> String {
    let object = json!({ "metadata": { "name": name } });
    let request = post("/api/v1/namespaces", &object);
    cluster.send(0, &request).ok(201);
    format!("/api/v1/namespaces/{name}/configmaps")
}

#[test]
fn no_create_is_lost_or_doubled_when_the_leader_is_killed() {
    const CREATES: usize = 500;
    const WRITERS: usize = 5;
    let mut cluster = Cluster::start();
    let path = namespace(&cluster, "killed");
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let next = AtomicUsize::new(0);
    let made = AtomicUsize::new(0);
    let endpoint = cluster.apis[follower].clone();
    let mut outcomes: BTreeMap<usize, Answer> = BTreeMap::new();
    thread::scope(|scope| {
        let write = || {
            let mut outcomes = Vec::new();
            let mut connection = Connection::open(&endpoint).unwrap();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= CREATES {
                    return outcomes;
                }
                let object = config_map(&format!("n{number}"), number);
                let answer = connection.call(&post(path.as_str(), &object)).unwrap();
                if answer.status == 201 {
                    made.fetch_add(1, Ordering::Relaxed);
                } else {
                    // As clients do that are told to come again.
                    thread::sleep(Duration::from_millis(100));
                }
                outcomes.push((number, answer));
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        until("200 made", || made.load(Ordering::Relaxed) >= 200);
        cluster.kill(leader);
        for writer in writers {
            outcomes.extend(writer.join().unwrap());
        }
    });
    assert_eq!(outcomes.len(), CREATES);
    let count = |code: u16| {
        outcomes
            .values()
            .filter(|answer| answer.status == code)
            .count()
    };
    for (number, answer) in &outcomes {
        // A conflict would be a lie: nobody else uses these names.
        assert!(
            matches!(answer.status, 201 | 503 | 504),
            "{number}: {}",
            answer.text()
        );
        if answer.status != 201 {
            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
        }
    }
    assert!(
        count(201) >= 300,
        "{} {} {}",
        count(201),
        count(503),
        count(504)
    );
    cluster.restart(leader);

    let lists = [0, 1, 2].map(|place| cluster.send_until(place, &get(path.as_str()), 200).json());
    for list in &lists {
        let mut found: BTreeMap<usize, &Value> = BTreeMap::new();
        for item in items(list) {
            let Some(number) = item["metadata"]["labels"]["number"].as_str() else {
                continue;
            };
            let number = number.parse().unwrap();
            assert!(
                found.insert(number, item).is_none(),
                "{number} is there twice"
            );
        }
        for (number, answer) in &outcomes {
            match (answer.status, found.get(number)) {
                (201, Some(item)) => {
                    let made = answer.json();
                    assert_eq!(item["metadata"], made["metadata"]);
                    assert_eq!(item["data"], made["data"]);
                }
                (201, None) => panic!("{number} is lost"),
                (503, Some(_)) => panic!("{number} is there, and was said not to be written"),
                _ => {}
            }
        }
        assert_eq!(items(list), items(&lists[0]));
    }
}

#[test]
fn without_a_leader_writes_and_reads_are_to_be_tried_again() {
    let mut cluster = Cluster::start();
    let made = cluster.send(0, &post(CONFIG_MAPS, &config_map("before", 0)));
    made.ok(201);
    let alone = cluster.leader();
    for place in (0..3).filter(|place| *place != alone) {
        // What it knows must have reached the one that is left, whose reads then are from memory.
        cluster.send_until(place, &get(format!("{CONFIG_MAPS}/before")), 200);
    }
    for place in (0..3).filter(|place| *place != alone) {
        cluster.kill(place);
    }
    let mut tried = 0;
    let refused = {
        let deadline = Instant::now() + PATIENCE;
        loop {
            tried += 1;
            let name = format!("refused-{}", 2 * tried);
            let answer = cluster.send(alone, &post(CONFIG_MAPS, &config_map(&name, 2 * tried)));
            // Until it knows that it is alone, it cannot say what becomes of a write.
            assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
            if answer.status == 503 {
                break answer;
            }
            assert!(Instant::now() < deadline, "{}", answer.text());
        }
    };
    let details = refused.refuses_with(503, "ServiceUnavailable", "");
    assert!(details["retryAfterSeconds"].as_i64().unwrap() >= 1);
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );
    for request in [
        get(CONFIG_MAPS),
        get(format!("{CONFIG_MAPS}/before")),
        put(format!("{CONFIG_MAPS}/before"), &config_map("before", 0)),
        Request::new("DELETE", format!("{CONFIG_MAPS}/before")),
    ] {
        let answer = cluster.send(alone, &request);
        answer.refuses_with(503, "ServiceUnavailable", "");
        assert!(answer.header("retry-after").is_some());
    }
    // What may be old is answered from here.
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}/before")] {
        let old = cluster.send(alone, &get(format!("{path}?resourceVersion=0")));
        old.ok(200);
    }
    assert_eq!(cluster.send(alone, &get("/readyz")).status, 500);
    assert_eq!(cluster.send(alone, &get("/livez")).status, 200);

    for place in (0..3).filter(|place| *place != alone) {
        cluster.launch(place);
    }
    cluster.wait_until_ready(alone);
    let path = format!("{CONFIG_MAPS}/refused-{}", 2 * tried);
    let gone = cluster.send_until(alone, &get(path.as_str()), 404);
    gone.refuses_with(404, "NotFound", "not found");
}

#[test]
fn what_is_acknowledged_by_one_member_is_seen_by_all() {
    let cluster = Cluster::start();
    let path = namespace(&cluster, "seen");
    for number in (0..120).step_by(2) {
        let writer = number / 2 % 3;
        let name = format!("n{number}");
        let made = cluster.send(writer, &post(path.as_str(), &config_map(&name, number)));
        let made = made.ok(201);
        for place in 0..3 {
            let got = cluster.send(place, &get(format!("{path}/{name}"))).ok(200);
            assert_eq!(got, made);
        }
        let reader = (writer + 1) % 3;
        let query = format!("{path}?labelSelector=number%3D{number}");
        let list = cluster.send(reader, &get(query)).ok(200);
        assert_eq!(items(&list).len(), 1);
        // Not older than what was just written, wherever it was written.
        let version = made["metadata"]["resourceVersion"].as_str().unwrap();
        let query = format!("{path}?resourceVersion={version}&resourceVersionMatch=NotOlderThan");
        let list = cluster.send((writer + 2) % 3, &get(query)).ok(200);
        assert!(
            items(&list)
                .iter()
                .any(|item| item["metadata"]["name"] == name.as_str())
        );

        let mut changed = made.clone();
        changed["data"]["more"] = json!("yes");
        let changed = cluster.send(reader, &put(format!("{path}/{name}"), &changed));
        let changed = changed.ok(200);
        let got = cluster.send(writer, &get(format!("{path}/{name}"))).ok(200);
        assert_eq!(got, changed);
        if number % 3 == 0 {
            let delete = Request::new("DELETE", format!("{path}/{name}"));
            cluster.send((writer + 2) % 3, &delete).ok(200);
            for place in 0..3 {
                assert_eq!(
                    cluster.send(place, &get(format!("{path}/{name}"))).status,
                    404
                );
            }
        }
    }
}

#[test]
fn of_two_writes_from_one_version_one_is_a_conflict() {
    let cluster = Cluster::start();
    let path = namespace(&cluster, "conflicts");
    let mut object = cluster
        .send(0, &post(path.as_str(), &config_map("a", 0)))
        .ok(201);
    for round in 0..40 {
        let answers: Vec<Answer> = thread::scope(|scope| {
            let write = |place: usize| {
                let mut wanted = object.clone();
                wanted["data"]["by"] = json!(format!("{place} in round {round}"));
                let (endpoint, path) = (&cluster.apis[place], &path);
                scope.spawn(move || send(endpoint, &put(format!("{path}/a"), &wanted)))
            };
            let writers = [0, 1, 2].map(write);
            writers.map(|writer| writer.join().unwrap()).into()
        });
        let winners: Vec<&Answer> = answers
            .iter()
            .filter(|answer| answer.status == 200)
            .collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let why = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply \
                       your changes to the latest version and try again";
            answer.refuses(409, "Conflict", why);
        }
        object = winners[0].json();
        for place in 0..3 {
            assert_eq!(
                cluster.send(place, &get(format!("{path}/a"))).ok(200),
                object
            );
        }
        // One name is taken once, wherever it is asked for.
        let name = format!("n{}", 2 * round);
        let taken: Vec<u16> = thread::scope(|scope| {
            let create = |place: usize| {
                let (endpoint, path, name) = (&cluster.apis[place], &path, &name);
                scope.spawn(move || {
                    let object = config_map(name, 2 * round);
                    send(endpoint, &post(path.as_str(), &object)).status
                })
            };
            [0, 1, 2]
                .map(create)
                .map(|writer| writer.join().unwrap())
                .into()
        });
        assert_eq!(
            taken.iter().filter(|code| **code == 201).count(),
            1,
            "{taken:?}"
        );
        assert_eq!(
            taken.iter().filter(|code| **code == 409).count(),
            2,
            "{taken:?}"
        );
    }
}

/// All objects that come after a version, as a watcher sees them that goes on elsewhere when its member is killed.
fn follow(apis: &[String], mut place: usize, path: &str, from: &str, last: &str) -> Vec<Event> {
    let mut version = from.to_owned();
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(Instant::now() < deadline, "{} events only", seen.len());
        let query = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        if let Ok(mut watch) = Watch::open(&apis[place], &get(query))
            && watch.status == 200
        {
            while let Ok(Some(event)) = watch.next() {
                assert_ne!(event.what, "ERROR", "{event:?}");
                version = event.version().to_owned();
                if event.what == "BOOKMARK" {
                    continue;
                }
                let is_last = event.name() == last;
                seen.push(event);
                if is_last {
                    return seen;
                }
            }
        }
        // It is gone, or not there yet: the next one knows as much.
        place = (place + 1) % apis.len();
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_watch_sees_every_object_once_though_members_are_killed() {
    const CREATES: usize = 400;
    let mut cluster = Cluster::start();
    let path = namespace(&cluster, "watched");
    let from = cluster.send(0, &get(path.as_str())).ok(200);
    let from = from["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let leader = cluster.leader();
    let writer = (leader + 1) % 3;
    let apis = cluster.apis.clone();
    let mut made = Vec::new();
    let seen: Vec<Vec<Event>> = thread::scope(|scope| {
        let watchers = [0, 1, 2].map(|place| {
            let (apis, path, from) = (&apis, &path, &from);
            scope.spawn(move || follow(apis, place, path, from, "last"))
        });
        for number in 0..CREATES {
            match number {
                // First one that only follows, then the one that leads.
                100 => cluster.kill((leader + 2) % 3),
                200 => {
                    cluster.restart((leader + 2) % 3);
                    cluster.kill(leader);
                }
                300 => cluster.restart(leader),
                _ => {}
            }
            let object = config_map(&format!("n{number}"), 2 * number);
            let answer = cluster.send(writer, &post(path.as_str(), &object));
            if answer.status == 201 {
                made.push(answer.json());
            } else {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let last = post(path.as_str(), &config_map("last", 2 * CREATES));
        // It is there already if an answer to it was lost.
        until("last made", || {
            matches!(cluster.send(writer, &last).status, 201 | 409)
        });
        watchers.map(|watcher| watcher.join().unwrap()).into()
    });
    assert!(made.len() > CREATES / 2, "{}", made.len());
    for events in &seen {
        let mut revision = 0;
        let mut names = HashSet::new();
        for event in events {
            assert_eq!(event.what, "ADDED");
            assert!(names.insert(event.name()), "{} came twice", event.name());
            assert!(
                event.revision() > revision,
                "{} came too late",
                event.name()
            );
            revision = event.revision();
        }
        for object in &made {
            let name = object["metadata"]["name"].as_str().unwrap();
            let event = events.iter().find(|event| event.name() == name);
            assert_eq!(
                event.map(|event| &event.object),
                Some(object),
                "{name} was not told"
            );
        }
        let names = |events: &[Event]| -> Vec<String> {
            events.iter().map(|event| event.name().to_owned()).collect()
        };
        assert_eq!(names(events), names(&seen[0]));
    }
}
