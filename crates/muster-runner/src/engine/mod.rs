//! The container engine of this machine, Docker or Podman, asked one thing after the other.
//!
//! It is asked by its API, never by a command line: what a workflow says is data in a request. Every request has a
//! deadline, so that an engine that hangs holds up nothing for ever.

mod build;
mod order;
mod reap;

pub(crate) use self::build::Build;
pub(crate) use self::order::{Mounted, Order};
pub use self::reap::reap;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HealthConfig, NetworkCreateRequest, PortMap};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, RemoveContainerOptions, RemoveVolumeOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

use crate::cancel::Cancel;
use crate::spec::EngineAccess;

/// An engine answers within this time, in seconds.
const ANSWERS: u64 = 120;
/// A container that ends has so long to be gone, and is looked at so often.
const GONE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A pull or a build takes no longer.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How often a pull or a build looks whether the job was told to stop.
const LOOK: Duration = Duration::from_millis(200);
/// Where engines listen, as they are found when nobody names one.
const SOCKETS: [&str; 3] = ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock"];
/// What all bear that is made for a job.
const LABEL: &str = "muster.job";

/// An engine that answers.
#[derive(Debug)]
pub(crate) struct Engine {
    docker: Docker,
    runtime: Runtime,
    /// Whether it is Podman.
    is_podman: bool,
    /// Whether root in its containers is nobody of this machine.
    pub(crate) maps_users: bool,
    /// What it says it is.
    pub(crate) description: String,
}

/// How long something may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until<'c> {
    /// Whether the job was told to stop.
    pub(crate) cancel: &'c Cancel,
    /// The bound of the step or the job.
    pub(crate) deadline: Option<Instant>,
}

/// Why an image cannot be brought here, in the engine's words.
#[derive(Debug)]
pub(crate) struct PullError(pub(crate) String);

impl PullError {
    /// Returns whether its registry was not reached, so that nobody has refused it. An engine says so in words alone.
    pub(crate) fn is_unreached(&self) -> bool {
        let words =
            ["dial tcp", "no such host", "connection refused", "i/o timeout", "unreachable"];
        words.iter().any(|word| self.0.contains(word))
    }
}

/// What an image says of its containers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    /// How it is named to the engine.
    pub(crate) name: String,
    /// What it is: `sha256:…`.
    pub(crate) id: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) workdir: String,
    /// The names that it has here.
    pub(crate) tags: Vec<String>,
    /// Where it wants volumes.
    pub(crate) volumes: Vec<String>,
    /// The variables of its programs.
    pub(crate) env: Vec<(String, String)>,
    /// How it says that its services are looked at.
    pub(crate) health: Option<HealthConfig>,
}

/// What is known of a container that runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inspected {
    /// Its variables.
    pub(crate) env: Vec<(String, String)>,
    /// Where this machine has its ports: `PORT/PROTOCOL`, and the port here.
    pub(crate) ports: Vec<(String, String)>,
}

impl Engine {
    /// Finds the engine, and asks what it is.
    ///
    /// # Errors
    ///
    /// A sentence, where none answers.
    pub(crate) fn connect(access: &EngineAccess) -> Result<Self, String> {
        let socket = socket(access.socket.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime for the engine: {error}"))?;
        let path = socket.to_string_lossy();
        let connect = async {
            let docker = Docker::connect_with_unix(&path, ANSWERS, API_DEFAULT_VERSION)?;
            let docker = docker.negotiate_version().await?;
            let (version, info) = (docker.version().await?, docker.info().await?);
            Ok::<_, Error>((docker, version, info))
        };
        let connected = runtime.block_on(connect);
        let (docker, version, info) = connected
            .map_err(|error| format!("the container engine at {path} does not answer: {error}"))?;
        let parts = version.components.unwrap_or_default();
        let is_podman = parts.iter().any(|part| part.name.contains("Podman"));
        let options = info.security_options.unwrap_or_default();
        let maps_users = options
            .iter()
            .any(|option| option.contains("name=userns") || option.contains("name=rootless"));
        let name = if is_podman { "Podman" } else { "Docker" };
        let version = version.version.unwrap_or_default();
        let users = if maps_users { ", users mapped" } else { "" };
        let description = format!("{name} {version}{users}");
        Ok(Self { docker, runtime, is_podman, maps_users, description })
    }

    /// Brings an image here.
    ///
    /// # Errors
    ///
    /// Where it cannot be had; whether its registry said so is told.
    pub(crate) fn pull(
        &self,
        image: &str,
        credentials: Option<&(String, String)>,
        platform: Option<&str>,
        bounds: Until<'_>,
    ) -> Result<(), PullError> {
        let named = with_tag(image);
        let options = CreateImageOptions {
            from_image: Some(named.clone()),
            platform: platform.unwrap_or_default().to_owned(),
            ..CreateImageOptions::default()
        };
        let credentials = credentials.map(|(name, password)| DockerCredentials {
            username: Some(name.clone()),
            password: Some(password.clone()),
            serveraddress: Some(registry_of(image).to_owned()),
            ..DockerCredentials::default()
        });
        let pull = async {
            let mut news = self.docker.create_image(Some(options), None, credentials);
            while let Some(news) = news.next().await {
                news.map_err(|error| said(&error))?;
            }
            Ok(())
        };
        self.until(bounds, pull).map_err(PullError)
    }

    /// Returns what an image is; `None` where it is not here.
    ///
    /// # Errors
    ///
    /// A sentence, where the engine does not say.
    pub(crate) fn image(&self, name: &str) -> Result<Option<Image>, String> {
        match self.runtime.block_on(self.docker.inspect_image(name)) {
            Ok(image) => {
                let config = image.config.unwrap_or_default();
                Ok(Some(Image {
                    name: name.to_owned(),
                    id: image.id.unwrap_or_default(),
                    entrypoint: config.entrypoint.unwrap_or_default(),
                    command: config.cmd.unwrap_or_default(),
                    workdir: config.working_dir.unwrap_or_default(),
                    tags: image.repo_tags.unwrap_or_default(),
                    volumes: config.volumes.unwrap_or_default(),
                    env: variables(config.env.unwrap_or_default()),
                    health: config.healthcheck,
                }))
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(said(&error)),
        }
    }

    /// Makes a network for the containers of a job; a closed one leads nowhere else.
    ///
    /// # Errors
    ///
    /// A sentence, where the engine refuses.
    pub(crate) fn make_network(
        &self,
        name: &str,
        mark: &str,
        is_closed: bool,
    ) -> Result<(), String> {
        // The machine itself would be at the end of the bridge.
        let options = (is_closed && !self.is_podman).then(|| {
            let name = "com.docker.network.bridge.inhibit_ipv4".to_owned();
            HashMap::from([(name, "true".to_owned())])
        });
        let network = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(is_closed),
            options,
            labels: Some(label(mark)),
            ..NetworkCreateRequest::default()
        };
        let made = self.runtime.block_on(self.docker.create_network(network));
        made.map(drop).map_err(|error| format!("no network for the containers: {}", said(&error)))
    }

    /// Makes a container and starts it; returns its id.
    ///
    /// # Errors
    ///
    /// A sentence, where the engine refuses; nothing of it is left then.
    pub(crate) fn start(&self, order: Order<'_>) -> Result<String, String> {
        let options = order.wanted.options.platform.clone().map(|platform| {
            CreateContainerOptions { platform, ..CreateContainerOptions::default() }
        });
        let image = order.image.name.clone();
        let body = order.body(self.is_podman);
        let start = async {
            let made = self.docker.create_container(options, body).await?;
            let started = self.docker.start_container(&made.id, None).await;
            if started.is_err() {
                drop(self.docker.remove_container(&made.id, Some(entirely())).await);
            }
            started.map(|()| made.id)
        };
        let started = self.runtime.block_on(start);
        started.map_err(|error| format!("cannot start a container of {image}: {}", said(&error)))
    }

    /// Returns what is known of a container that runs.
    ///
    /// # Errors
    ///
    /// A sentence, where it is gone or the engine does not say.
    pub(crate) fn inspect(&self, id: &str) -> Result<Inspected, String> {
        let found = self.runtime.block_on(self.docker.inspect_container(id, None));
        let found = found.map_err(|error| said(&error))?;
        let config = found.config.unwrap_or_default();
        let ports = found.network_settings.and_then(|settings| settings.ports);
        Ok(Inspected {
            env: variables(config.env.unwrap_or_default()),
            ports: published(ports.unwrap_or_default()),
        })
    }

    /// Writes what a container of an image would have for a root, as an archive. The container that it takes bears the
    /// mark, and is never started.
    ///
    /// # Errors
    ///
    /// A sentence, where the engine refuses or it cannot be written.
    pub(crate) fn export(
        &self,
        image: &Image,
        mark: &str,
        mut to: std::fs::File,
        bounds: Until<'_>,
    ) -> Result<(), String> {
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            // What has none cannot be made a container.
            cmd: Some(vec!["none".to_owned()]),
            labels: Some(label(mark)),
            ..ContainerCreateBody::default()
        };
        let made = self.runtime.block_on(self.docker.create_container(None, body));
        let id = made.map_err(|error| said(&error))?.id;
        let copied = self.until(bounds, async {
            let mut archive = self.docker.export_container(&id);
            while let Some(part) = archive.next().await {
                let part = part.map_err(|error| said(&error))?;
                to.write_all(&part).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        let removed = self.remove(&id);
        copied.and(removed)
    }

    /// Removes a container with all that is in it.
    ///
    /// # Errors
    ///
    /// A sentence, where it stays.
    pub(crate) fn remove(&self, id: &str) -> Result<(), String> {
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + GONE;
            loop {
                let removed = self.docker.remove_container(id, Some(entirely())).await;
                // One that is on its way by itself is waited for: its network can go only after it.
                let is_going = match &removed {
                    Err(Error::DockerResponseServerError { status_code: 409, .. }) => true,
                    // So Podman says that it has just ended.
                    Err(Error::DockerResponseServerError { status_code: 500, message }) => {
                        message.contains("state improper")
                    }
                    _ => false,
                };
                if !is_going || tokio::time::Instant::now() > deadline {
                    return gone(removed);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    /// Removes a network that no container is in.
    ///
    /// # Errors
    ///
    /// A sentence, where it stays.
    pub(crate) fn remove_network(&self, name: &str) -> Result<(), String> {
        gone(self.runtime.block_on(self.docker.remove_network(name)))
    }

    /// Removes a volume.
    ///
    /// # Errors
    ///
    /// A sentence, where it stays.
    pub(crate) fn remove_volume(&self, name: &str) -> Result<(), String> {
        let options = Some(RemoveVolumeOptions { force: true });
        gone(self.runtime.block_on(self.docker.remove_volume(name, options)))
    }

    /// Does what may take long, until the job is told to stop or the time is over.
    fn until<T>(
        &self,
        bounds: Until<'_>,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            let most = tokio::time::Instant::now() + LONGEST;
            let deadline = bounds.deadline.map_or(most, |deadline| most.min(deadline.into()));
            // What runs although it was told to stop is not told again.
            let was_told = bounds.cancel.end().is_some();
            loop {
                if let Ok(done) = tokio::time::timeout(LOOK, &mut work).await {
                    return done;
                }
                if !was_told && bounds.cancel.end().is_some() {
                    return Err("the job was told to stop".to_owned());
                }
                if tokio::time::Instant::now() > deadline {
                    return Err("it took longer than it may".to_owned());
                }
            }
        })
    }
}

/// Finds the socket of an engine.
fn socket(named: Option<&Path>) -> Result<PathBuf, String> {
    match named {
        Some(named) if named.is_absolute() => Ok(named.to_owned()),
        Some(named) => Err(format!(
            "`{}` is no socket of this machine, and an engine of another cannot be used",
            named.display()
        )),
        None => SOCKETS.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            "there is no container engine here: install Docker or Podman, or name its socket \
             (`[containers] socket`, or DOCKER_HOST)"
                .to_owned()
        }),
    }
}

/// Reads `NAME=VALUE`, as images have it.
pub(crate) fn variables(all: Vec<String>) -> Vec<(String, String)> {
    let split = |variable: String| {
        let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
        (name.to_owned(), value.to_owned())
    };
    all.into_iter().map(split).collect()
}

fn label(mark: &str) -> HashMap<String, String> {
    HashMap::from([(LABEL.to_owned(), mark.to_owned())])
}

fn entirely() -> RemoveContainerOptions {
    RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() }
}

/// Takes what is not there any more for removed.
fn gone(removed: Result<(), Error>) -> Result<(), String> {
    match removed {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(error) => Err(said(&error)),
    }
}

/// Returns what the engine said.
fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other @ (Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. }
        | Error::RequestTimeoutError) => {
            let why = std::error::Error::source(other)
                .map_or_else(|| other.to_string(), |why| why.to_string());
            format!("the container engine does not answer any more ({why})")
        }
        other => format!("the container engine: {other}"),
    }
}

/// Names an image with a tag: without one an engine would bring all there are.
pub(crate) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Returns the registry that an image is from.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "https://index.docker.io/v1/",
    }
}

/// Returns where this machine has the ports of a container, in order.
fn published(ports: PortMap) -> Vec<(String, String)> {
    let here = ports.into_iter().filter_map(|(inside, bindings)| {
        Some((inside, bindings?.into_iter().find_map(|binding| binding.host_port)?))
    });
    let mut here: Vec<_> = here.collect();
    here.sort();
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_as_its_registry_knows_it() {
        let named =
            ["alpine", "alpine:3", "localhost:5000/a", "ghcr.io/a/b@sha256:1"].map(with_tag);
        assert_eq!(
            named,
            ["alpine:latest", "alpine:3", "localhost:5000/a:latest", "ghcr.io/a/b@sha256:1"]
        );
        assert_eq!(registry_of("ghcr.io/a/b"), "ghcr.io");
        assert_eq!(registry_of("a/b"), "https://index.docker.io/v1/");
        assert_eq!(registry_of("localhost/a"), "localhost");
    }
}
