//! What a work needs: a client that takes note of its requests, and a namespace of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config, Resource};
use tower::util::MapRequestLayer;

pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) space: String,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Session {
    pub(crate) async fn start(work: &str) -> Result<Self> {
        let (client, sent) = connect(config().await?)?;
        let meta = ObjectMeta {
            generate_name: Some(format!("rs-{work}-")),
            ..ObjectMeta::default()
        };
        let space = Namespace {
            metadata: meta,
            ..Namespace::default()
        };
        let space = Api::all(client.clone())
            .create(&PostParams::default(), &space)
            .await?;
        let space = space.metadata.name.context("a namespace without a name")?;
        Ok(Self {
            client,
            space,
            sent,
        })
    }

    /// Another client on the same namespace, which reaches the server by way of `address`.
    pub(crate) async fn by_way_of(&self, address: SocketAddr) -> Result<Self> {
        let mut config = config().await?;
        let scheme = config.cluster_url.scheme_str().context("no scheme")?;
        config.cluster_url = format!("{scheme}://{address}").parse()?;
        let (client, sent) = connect(config)?;
        Ok(Self {
            client,
            space: self.space.clone(),
            sent,
        })
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug,
    {
        Api::namespaced(self.client.clone(), &self.space)
    }

    pub(crate) fn maps(&self) -> Api<ConfigMap> {
        self.api()
    }

    /// Of the requests so far, as `GET /path?query`, those that contain all these texts.
    pub(crate) fn sent(&self, texts: &[&str]) -> Vec<String> {
        let sent = self.sent.lock().expect("nobody panics with it");
        let has_all = |request: &&String| texts.iter().all(|text| request.contains(text));
        sent.iter().filter(has_all).cloned().collect()
    }
}

/// KUBECONFIG.
pub(crate) async fn config() -> Result<Config> {
    let options = kube::config::KubeConfigOptions::default();
    Config::from_kubeconfig(&options)
        .await
        .context("KUBECONFIG")
}

fn connect(config: Config) -> Result<(Client, Arc<Mutex<Vec<String>>>)> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let noted = sent.clone();
    let note = MapRequestLayer::new(move |request: http::Request<Body>| {
        let line = format!("{} {}", request.method(), request.uri());
        noted.lock().expect("nobody panics with it").push(line);
        request
    });
    let client = ClientBuilder::try_from(config)?.with_layer(&note).build();
    Ok((client, sent))
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Some(pairs.iter().map(own).collect())
}

/// A ConfigMap with labels and data.
pub(crate) fn config_map(name: &str, labels: &[(&str, &str)], data: &[(&str, &str)]) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: pairs(labels),
            ..ObjectMeta::default()
        },
        data: pairs(data),
        ..ConfigMap::default()
    }
}
