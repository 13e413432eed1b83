//! One node for all tests that run at the same time, with some objects in it that nobody changes.

use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::wire::{self, Answer, Connection, Event, Request, Watch};
use crate::node::{self, Node};

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// A node with the API on plain HTTP. It ends with the last test that uses it.
pub(crate) struct Api {
    pub(crate) endpoint: String,
    /// Where etcd's clients come in.
    pub(crate) etcd: String,
    pub(crate) node: Mutex<Node>,
    _folder: TempDir,
}

impl Api {
    /// The node that tests share.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Api>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|held| held.into_inner());
        if let Some(api) = shared.upgrade() {
            return api;
        }
        let api = Arc::new(Self::start());
        for request in fixtures() {
            api.send(&request).ok(201);
        }
        *shared = Arc::downgrade(&api);
        api
    }

    /// A node of a test's own.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let endpoint = format!("127.0.0.1:{}", node::free_port());
        let flag = format!("--listen-api-urls=http://{endpoint}");
        let node = Node::start_with(folder.path(), &[&flag]);
        let api = Self {
            endpoint,
            etcd: node.endpoint.clone(),
            node: Mutex::new(node),
            _folder: folder,
        };
        api.wait_for("/api/v1/namespaces/default/serviceaccounts/default");
        api
    }

    pub(crate) fn send(&self, request: &Request) -> Answer {
        let answer = self.connect().call(request);
        answer.unwrap_or_else(|error| panic!("{error} after {} {}", request.method, request.path))
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.endpoint).unwrap()
    }

    pub(crate) fn watch(&self, path: impl Into<String>) -> Watch {
        Watch::open(&self.endpoint, &wire::get(path)).unwrap()
    }

    /// All that a watch tells until it ends by itself.
    pub(crate) fn watched(&self, path: impl Into<String>) -> Vec<Event> {
        let watch = self.watch(path);
        assert_eq!(watch.status, 200);
        watch.rest().unwrap()
    }

    /// Creates an object; answers it.
    #[track_caller]
    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        self.send(&wire::post(path, object)).ok(201)
    }

    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> Value {
        self.send(&wire::get(path)).ok(200)
    }

    /// A namespace of a test's own, and the path of its config maps.
    pub(crate) fn namespace(&self, name: &str) -> String {
        self.create(NAMESPACES, &json!({ "metadata": { "name": name } }));
        format!("{NAMESPACES}/{name}/configmaps")
    }

    /// Waits for an object that the server makes by itself.
    pub(crate) fn wait_for(&self, path: &str) {
        self.wait(path, |answer| answer.status == 200);
    }

    /// Waits until an object is gone.
    pub(crate) fn wait_until_gone(&self, path: &str) {
        self.wait(path, |answer| answer.status == 404);
    }

    pub(crate) fn wait(&self, path: &str, is_done: impl Fn(&Answer) -> bool) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let answer = self.send(&wire::get(path));
            if is_done(&answer) {
                return;
            }
            assert!(std::time::Instant::now() < until, "{}", answer.text());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// What the store holds under a prefix, as etcd's clients see it.
    pub(crate) fn stored(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let client = client::connect(self.etcd.clone()).await.unwrap();
            let found = client.get_prefix(prefix.to_owned()).await.unwrap();
            let found = found.kvs.into_iter();
            found
                .map(|kv| {
                    (
                        String::from_utf8(kv.key.to_vec()).unwrap(),
                        kv.value.to_vec(),
                    )
                })
                .collect()
        })
    }
}

/// A config map.
pub(crate) fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": "value" } })
}

/// A config map with more metadata.
pub(crate) fn config_map_with(name: &str, field: &str, value: Value) -> Value {
    let mut object = config_map(name);
    object["metadata"][field] = value;
    object
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "example/app:1" }] },
    })
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "example/app:1" }] },
            },
        },
    })
}

pub(crate) fn lease(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name },
        "spec": { "holderIdentity": "somebody" },
    })
}

/// Objects that are there and stay as they are.
fn fixtures() -> Vec<Request> {
    vec![
        wire::post(CONFIG_MAPS, &config_map("there")),
        wire::post(CONFIG_MAPS, &config_map("not-deleted")),
        wire::post(PODS, &pod("there")),
        wire::post(DEPLOYMENTS, &deployment("there")),
        wire::post(LEASES, &lease("there")),
    ]
}

/// Tests that send one request to the shared node and compare the whole error.
macro_rules! rules {
    ($($name:ident: $request:expr => $code:literal $reason:literal $message:expr;)*) => {$(
        #[test]
        fn $name() {
            let api = $crate::api::shared::Api::shared();
            api.send(&$request).refuses($code, $reason, $message);
        }
    )*};
}
pub(crate) use rules;
