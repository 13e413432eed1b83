//! Passes connections on to the server, until it is told to cut them.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::session::config;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start() -> Result<Self> {
        let url = config().await?.cluster_url;
        let host = url.host().context("no host in the kubeconfig")?.to_owned();
        let port = url.port_u16().context("no port in the kubeconfig")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, gate) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut gate = gate.clone();
                if !*gate.borrow() {
                    continue;
                }
                let host = host.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect((host, port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = gate.wait_for(|is_open| !is_open) => {}
                    }
                });
            }
        });
        Ok(Self { address, open })
    }

    /// Cuts all connections, and each new one.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}
