//! `muster serve`: the server, until it is told to end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{GREEN, print, runtime, until_terminated};
use crate::config::Config;
use crate::server::{self, Server};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
    /// Where to listen, instead of where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The data folder, instead of the one that the configuration names.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut config = Config::load(&arguments.config)?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if let Some(data) = &arguments.data {
        config.data.clone_from(data);
    }
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let listener = server::bind(config.listen).await?;
        if config.public_url.is_empty() {
            let scheme = if config.tls.is_some() { "https" } else { "http" };
            config.public_url = format!("{scheme}://{}", listener.local_addr()?);
        }
        let terminated = until_terminated()?;
        let server = Server::start(config, listener).await?;
        print(format!("muster at {}", server.shared.config.public_url));
        let lost = tokio::select! {
            () = terminated.cancelled() => None,
            error = server.shared.store.lost() => Some(error),
        };
        server.stop().await;
        match lost {
            Some(error) => Err(error.into()),
            None => Ok(GREEN),
        }
    });
    // A git command that hangs is nothing to wait for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
