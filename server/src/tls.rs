//! TLS on a listener: which certificate it shows, and whose clients' it takes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listen::{Accepted, Acceptor, Protocol};

/// Shakes hands by TLS.
#[derive(Clone)]
pub struct Secure {
    acceptor: TlsAcceptor,
}

impl Secure {
    /// Shows a certificate (with its key, both as PEM), and checks those of clients, who need not have one, against an
    /// authority.
    pub fn new(chain: &[u8], key: &[u8], clients: &[u8]) -> io::Result<Self> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(clients) {
            roots
                .add(root.map_err(io::Error::other)?)
                .map_err(io::Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }
}

impl Acceptor for Secure {
    type Stream = TlsStream<TcpStream>;

    async fn accept(&self, stream: TcpStream) -> io::Result<Accepted<Self::Stream>> {
        let stream = self.acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let certificates = session.peer_certificates();
        let certificate = certificates.and_then(|chain| chain.first());
        let certificate = certificate.map(|one| Bytes::copy_from_slice(one));
        Ok(Accepted {
            stream,
            protocol,
            certificate,
        })
    }
}
