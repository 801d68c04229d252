//! A server: store, loops and HTTP together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use listenfd::ListenFd;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, RwLock, Semaphore, broadcast, watch};

use crate::config::{Config, IsolationConfig};
use crate::data::Data;
use crate::forge::GitHub;
use crate::http::{IN_FLIGHT_KIB, TlsListener};
use crate::loops::{Loops, Shared, Wake};
use crate::notices::Channels;
use crate::secrets::Vault;
use crate::services::{Keep, Key, Keys, Places, Services, StorageConfig};
use crate::store::Store;
use crate::task::Errands;
use crate::{git, http, machine, services, task};

/// A server that ends waits so long for the answers that it still owes.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// So long for those to webhooks, which nobody sends again: a disk may be slow.
const LAST_WEBHOOKS: Duration = Duration::from_secs(10);
/// How many notices of growing logs may wait for a slow reader.
const NOTICES: usize = 256;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) shared: Arc<Shared>,
    loops: Loops,
    stop: watch::Sender<bool>,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Takes the address that a server listens on, before anything else is done: the socket that systemd hands
/// over, where it does, for that one was there before us and stays after us.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    // https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
    let handed_over = ListenFd::from_env().take_tcp_listener(0);
    if let Some(listener) = handed_over.context("the socket that was handed over is of no use")? {
        listener.set_nonblocking(true)?;
        return Ok(TcpListener::from_std(listener)?);
    }
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn open_services(
    data: &Data,
    config: &Config,
    listener: &TcpListener,
    store: &Store,
) -> anyhow::Result<Arc<Services>> {
    let bucket = config.storage.as_ref().map(StorageConfig::open).transpose()?;
    let keep = |folder: PathBuf, place| match &bucket {
        Some(bucket) => Ok(Keep::at(bucket, place)),
        None => Keep::open(&folder),
    };
    let places = Places {
        artifacts: keep(data.artifacts(), "artifacts")?,
        caches: keep(data.caches(), "caches")?,
        uploads: &data.uploads(),
    };
    let keys = Keys {
        tokens: Key::kept(&data.services_key())?,
        identity: data.identity_key(),
        issuer: Some(config.public_url.clone()).filter(|url| !url.is_empty()),
    };
    Ok(Services::open(places, (&config.retention).into(), keys, listener, Some(store.clone()))?)
}

impl Server {
    /// Starts a server that listens on `listener`.
    pub(crate) async fn start(config: Config, listener: TcpListener) -> anyhow::Result<Self> {
        // Under root a sandboxed job is another user, and reads the mirror; the folder above it is closed.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let data = Data::open(&config.data)?;
        git::remove_stale_locks(&data.mirrors()).context("cannot look through the mirrors")?;
        let store =
            Store::open(config.database.as_deref(), &data.database(), &data.backups()).await?;
        // Behind a proxy nobody can tell who is on this machine.
        let loopback = config.listen.ip().is_loopback() && config.trusted_proxies.is_empty();
        let github =
            config.github.as_ref().map(|config| GitHub::open(config, loopback)).transpose()?;
        let cageless = tokio::task::spawn_blocking(machine::try_sandbox).await?.err();
        let cageless = match config.isolation {
            IsolationConfig::None => Some("`isolation` is `none`".to_owned()),
            IsolationConfig::Auto | IsolationConfig::Sandbox => {
                cageless.map(|error| error.to_string())
            }
        };
        let notices = Channels::open(&config.notices, &config.public_url)?;
        let inbox_room = Semaphore::new(IN_FLIGHT_KIB);
        let services_listener = services::bind(&data.services_port())
            .await
            .context("cannot listen for the services for actions")?;
        let services = open_services(&data, &config, &services_listener, &store)
            .context("cannot open the services for actions")?;
        let vault = Vault::new(config.secrets_key_file());
        let (grown, _) = broadcast::channel(NOTICES);
        let shared = Arc::new(Shared {
            store,
            data,
            config,
            github,
            vault,
            services,
            notices,
            cageless,
            inbox_room,
            mirrors: RwLock::default(),
            dispatching: Mutex::default(),
            errands: Errands::default(),
            wake: Wake::default(),
            grown,
        });
        let loops = Loops::start(&shared).context("cannot start the loops")?;
        let (stop, mut stopped) = watch::channel(false);
        let router = http::router(Arc::clone(&shared));
        let mut services_stopped = stopped.clone();
        let until = async move {
            drop(stopped.wait_for(|stopped| *stopped).await);
        };
        let until_too = async move {
            drop(services_stopped.wait_for(|stopped| *stopped).await);
        };
        let services = shared.services.router();
        // Who uses the services takes no place from those who bring webhooks.
        let places = http::places();
        let for_services = services::CONNECTIONS.min(places / 4).max(1);
        let places = (places - for_services).max(1);
        // It ends with the process; a client that was cut off tries again.
        drop(task::spawn(
            "services",
            http::serve(services_listener, services, for_services, until_too),
        ));
        let http = match shared.config.tls.clone() {
            Some(files) => {
                let listener = TlsListener::start(listener, files)?;
                task::spawn("http", http::serve(listener, router, places, until))
            }
            None => task::spawn("http", http::serve(listener, router, places, until)),
        };
        Ok(Self { shared, loops, stop, http })
    }

    /// Ends the server. Jobs go on; the next server takes them up.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.loops.stop(&self.shared.errands).await;
        // What has begun comes to its end; somebody following a live log must not keep the server.
        let mut http = self.http;
        let webhooks = async {
            while self.shared.inbox_room.available_permits() < IN_FLIGHT_KIB {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(LAST_ANSWERS, &mut http).await.is_err() {
            drop(tokio::time::timeout(LAST_WEBHOOKS, webhooks).await);
            http.abort();
        }
        self.shared.store.close().await;
    }
}
