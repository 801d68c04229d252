//! Connections under TLS, with a certificate from files that may be renewed while we serve.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::task;

/// How long a client may take to agree on how to talk, and how many may do so at once.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HANDSHAKES: usize = 256;

/// The files of a certificate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// The certificate, and those between it and the authority's, in PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, in PEM.
    pub(crate) key: PathBuf,
}

/// Gives out connections whose handshake is done.
#[derive(Debug)]
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Reads the files and starts to accept.
    pub(crate) fn start(tcp: TcpListener, files: TlsConfig) -> anyhow::Result<Self> {
        let address = tcp.local_addr()?;
        let config = load(&files)?;
        let (done, ready) = mpsc::channel(HANDSHAKES);
        drop(task::spawn("tls", accept(tcp, files, config, done)));
        Ok(Self { ready, address })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Only at the end does nobody accept any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// Accepts connections; a slow handshake holds up no other.
async fn accept(
    tcp: TcpListener,
    files: TlsConfig,
    config: Arc<ServerConfig>,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let mut acceptor = TlsAcceptor::from(config);
    let mut changed = changed_at(&files);
    // Of which state of the files it was told already that they cannot be used.
    let mut told = changed;
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let connection = tokio::select! {
            connection = tcp.accept() => connection,
            () = done.closed() => return,
        };
        let Ok((stream, address)) = connection else {
            // Out of descriptors, say; they come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let now = changed_at(&files);
        if now != changed {
            match load(&files) {
                Ok(config) => (acceptor, changed) = (TlsAcceptor::from(config), now),
                // The old one goes on; half of a renewal may be written, or closed to us for a moment.
                Err(error) if told != now => {
                    tracing::error!(error = format!("{error:#}"), "certificate");
                    told = now;
                }
                Err(_) => {}
            }
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (acceptor, done) = (acceptor.clone(), done.clone());
        drop(task::spawn("handshake", async move {
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            if let Ok(Ok(stream)) = shaken {
                drop(done.send((stream, address)).await);
            }
            drop(permit);
        }));
    }
}

fn changed_at(files: &TlsConfig) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|file| std::fs::metadata(file).ok()?.modified().ok())
}

fn load(files: &TlsConfig) -> anyhow::Result<Arc<ServerConfig>> {
    let at = |file: &Path| format!("[tls] {}", file.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .with_context(|| at(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| at(&files.key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| at(&files.certificate))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
