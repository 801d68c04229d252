//! The services for actions of a `muster run`: started when a job first uses an action.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use muster_core::cache::scopes;
use muster_core::trust::Trust;
use muster_runner::spec::ServiceAccess;
use muster_sys::{clock, files};
use serde_json::{Map, Value as Json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::engine::Place;
use crate::config::RetentionConfig;
use crate::machine;
use crate::services::{Bearer, Keep, Key, Keys, Places, Services};

/// The services, once they are needed.
pub(super) struct LocalServices {
    /// What ends with the run.
    folder: PathBuf,
    repository: String,
    running: OnceCell<Running>,
}

struct Running {
    runtime: Runtime,
    services: Arc<Services>,
}

impl LocalServices {
    pub(super) fn new(folder: &Path, repository: &str) -> Self {
        let repository = repository.to_owned();
        Self { folder: folder.join("services"), repository, running: OnceCell::new() }
    }

    /// Returns what a job is given to use the services.
    pub(super) fn access(
        &self,
        place: Place,
        github: &Json,
        identity: Option<Map<String, Json>>,
    ) -> anyhow::Result<ServiceAccess> {
        let running = match self.running.get() {
            Some(running) => running,
            None => {
                let started = self.start().context("cannot start the services for actions")?;
                self.running.get_or_init(|| started)
            }
        };
        let text = |pointer: &str| github.pointer(pointer).and_then(Json::as_str);
        let base = text("/base_ref").filter(|base| !base.is_empty());
        let base = base.map(|base| format!("refs/heads/{base}"));
        let default_branch = text("/event/repository/default_branch").unwrap_or("main");
        let own = text("/ref").unwrap_or_default();
        let bearer = Bearer {
            run: run(place),
            run_attempt: 1,
            job: place.job.to_string(),
            attempt: 1,
            repository: self.repository.clone(),
            // It is the caller's own work tree.
            caches: scopes(own, base.as_deref(), default_branch, Trust::Member),
            guest: false,
            identity,
        };
        Ok(running.services.access(&bearer, clock::now_ms()))
    }

    fn start(&self) -> anyhow::Result<Running> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (uploads, artifacts) = (self.folder.join("uploads"), self.folder.join("artifacts"));
        let caches = machine::callers_cache("caches");
        let (artifacts, caches) = (Keep::open(&artifacts)?, Keep::open(&caches)?);
        let places = Places { artifacts, caches, uploads: &uploads };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let bounds = (&RetentionConfig::default()).into();
        let identity = self.folder.join("identity-key");
        let keys = Keys { tokens: Key::fresh(), identity, issuer: None };
        let services = Services::open(places, bounds, keys, &listener, None)?;
        let serve = axum::serve(listener, services.router());
        drop(runtime.spawn(async move { serve.await }));
        Ok(Running { runtime, services })
    }

    /// Writes the artifacts of a run to a folder, and returns their files.
    pub(super) fn export(&self, run: usize, to: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let Some(running) = self.running.get() else { return Ok(Vec::new()) };
        std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        running.runtime.block_on(running.services.export(&self::run(Place { run, job: 0 }), to))
    }
}

impl Drop for LocalServices {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Of the caches that others have left, too.
            drop(running.runtime.block_on(running.services.tidy(clock::now_ms())));
            running.runtime.shutdown_background();
            drop(files::remove_tree(&self.folder));
        }
    }
}

fn run(place: Place) -> String {
    place.run.to_string()
}
