//! The containers of a job: made before its first step, and what is done beside them.

use std::path::{Component, Path};

use muster_workflow::container::Wanted;
use muster_workflow::expr::Object;
use muster_workflow::workflow;

use super::RunningJob;
use crate::cancel::Cancel;
use crate::containers::{Containers, Service};
use crate::contexts::JobContexts;
use crate::engine::{Image, Until};
use crate::ground::Ground;
use crate::log::Log;
use crate::marks::mark;
use crate::spec::{Isolation, JobSpec, Level};

/// The line of a job's log that says what image it waits for begins so.
pub const PULLING: &str = "Pulling ";

/// What a job wants of containers.
#[derive(Default)]
pub(super) struct Wants {
    container: Option<Wanted>,
    services: Vec<(String, Wanted)>,
}

/// What a job has of containers.
#[derive(Default)]
pub(super) struct Held {
    /// None before any is wanted.
    pub(super) containers: Option<Containers>,
    pub(super) services: Vec<Service>,
    /// What stands beside a container of the job, once it is needed.
    pub(super) beside: Option<Ground>,
}

impl Wants {
    /// Finds out what a job wants.
    ///
    /// # Errors
    ///
    /// A sentence, where something has no value or is no container.
    pub(super) fn of(
        definition: &workflow::Job,
        contexts: &JobContexts,
        guarded: bool,
    ) -> Result<Self, String> {
        let view = contexts.view();
        let container = definition.container.as_ref();
        let container = container.map(|container| container.wanted(view, guarded)).transpose();
        let container = container.map_err(|error| format!("`container`: {error}"))?.flatten();
        let mut services = Vec::new();
        for (name, service) in &definition.services {
            let wanted = service.wanted(view, guarded);
            let wanted = wanted.map_err(|error| format!("service `{name}`: {error}"))?;
            services.extend(wanted.map(|wanted| (name.clone(), wanted)));
        }
        Ok(Self { container, services })
    }

    /// Returns the passwords in it.
    pub(super) fn passwords(&self) -> impl Iterator<Item = &str> {
        let all = self.container.iter().chain(self.services.iter().map(|(_, wanted)| wanted));
        all.filter_map(|wanted| wanted.credentials.as_ref()).map(|(_, password)| password.as_str())
    }

    /// Makes all of it. Returns where the steps run, what there is, and what `job` says of it.
    ///
    /// # Errors
    ///
    /// A sentence, where something of it cannot be; nothing of it is left then.
    pub(super) fn make(
        self,
        spec: &JobSpec,
        log: &mut Log<'_>,
        cancel: &Cancel,
    ) -> Result<(Ground, Held, Option<[Object; 2]>), String> {
        if self.container.is_none() && self.services.is_empty() {
            return Ok((Ground::prepare(spec)?, Held::default(), None));
        }
        let is_closed = match &spec.isolation {
            Isolation::None { .. } => false,
            Isolation::Sandbox(cage) | Isolation::Auto { cage, .. } => !cage.network,
        };
        if self.container.is_none() && is_closed {
            return Err("`services` are not reached from a sandbox without a network: give the job a `container`, or \
                        the sandbox a network (`[sandbox] network`)"
                .to_owned());
        }
        let mut containers = Containers::open(spec)?;
        let mut pull = |containers: &Containers, wanted: &Wanted| -> Result<Image, String> {
            log.say(0, &format!("{PULLING}{}", wanted.image));
            let (image, warning) = containers.image(wanted, Until { cancel, deadline: None })?;
            match warning {
                Some(warning) => log.say(0, &format!("{}{warning}", mark(Level::Warning))),
                None => log.say(0, &format!("{} is {}", image.name, image.id)),
            }
            Ok(image)
        };
        let image = self.container.as_ref().map(|wanted| pull(&containers, wanted)).transpose()?;
        let mut images = Vec::new();
        for (_, wanted) in &self.services {
            images.push(pull(&containers, wanted)?);
        }
        let publishes = self.container.is_none();
        let mut services: Vec<Service> = Vec::new();
        for ((name, wanted), image) in self.services.iter().zip(&images) {
            services.push(containers.serve(name, image, wanted, publishes)?);
        }
        let ground = match self.container.as_ref().zip(image.as_ref()) {
            Some((wanted, image)) => Ground::contained(spec, &mut containers, image, wanted)?,
            None => Ground::prepare(spec)?,
        };
        for service in &services {
            if let Err(why) = containers.wait_for(service, cancel) {
                tell_service(log, 0, service);
                return Err(why);
            }
            log.say(0, &format!("Service {} is up", service.name));
        }
        let network = containers.network.clone();
        let told =
            |id: &str| Object::from_iter([("id", id.to_owned()), ("network", network.clone())]);
        let own = ground.inmate().map(|inmate| told(&inmate.id)).unwrap_or_default();
        let all = services.iter().map(|service| {
            let mut object = told(&service.inmate.id);
            let ports = &service.inmate.inspected.ports;
            // By their numbers alone, as GitHub has them.
            let ports = ports.iter().map(|(inside, here)| {
                (inside.split('/').next().unwrap_or_default().to_owned(), here.clone())
            });
            object.insert("ports", ports.collect::<Object>());
            (service.name.clone(), object)
        });
        let all = all.collect::<Object>();
        let held = Held { containers: Some(containers), services, beside: None };
        Ok((ground, held, Some([own, all])))
    }
}

/// Shows the end of what a service said.
fn tell_service(log: &mut Log<'_>, place: usize, service: &Service) {
    log.say(place, &format!("##[group]What service {} said last", service.name));
    for line in service.said().lines() {
        log.say(place, line);
    }
    log.say(place, "##[endgroup]");
}

impl RunningJob<'_> {
    /// Does something in what stands beside the container of the job, where the steps are in one, which is handed over;
    /// else where they are.
    ///
    /// # Errors
    ///
    /// A sentence, where that cannot be made.
    pub(super) fn beside<T>(
        &mut self,
        work: impl FnOnce(&mut Self, Option<&Ground>) -> T,
    ) -> Result<T, String> {
        if self.ground.inmate().is_none() {
            return Ok(work(self, None));
        }
        let beside = match self.held.beside.take() {
            Some(beside) => beside,
            None => self.ground.beside(self.spec)?,
        };
        let inside = std::mem::replace(&mut self.ground, beside);
        let done = work(self, Some(&inside));
        self.held.beside = Some(std::mem::replace(&mut self.ground, inside));
        Ok(done)
    }

    /// Hands what was checked out beside the container of the job over to its steps.
    ///
    /// # Errors
    ///
    /// A sentence, where it cannot be.
    pub(super) fn adopt(&mut self, path: &str) -> Result<(), String> {
        let Some(beside) = self.held.beside.as_ref().filter(|_| self.ground.inmate().is_some())
        else {
            return Ok(());
        };
        let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(path).components().all(is_plain) {
            return Err(format!("`path`: {path} leads out of the workspace"));
        }
        let adopted = self.ground.adopt(beside, Path::new(path));
        adopted.map_err(|error| format!("cannot hand over what was checked out: {error}"))
    }

    /// Returns the containers of the job, for one more.
    ///
    /// # Errors
    ///
    /// A sentence, where there can be none.
    pub(super) fn containers(&mut self) -> Result<&mut Containers, String> {
        if self.held.containers.is_none() {
            self.held.containers = Some(Containers::open(self.spec)?);
        }
        self.held.containers.as_mut().ok_or_else(|| "there are no containers".to_owned())
    }

    /// Returns whether the container of the job has ended before its time.
    pub(super) fn lost_container(&self) -> bool {
        let both = self.ground.inmate().zip(self.held.containers.as_ref());
        both.is_some_and(|(inmate, containers)| !containers.is_there(inmate))
    }

    /// Removes the containers of the job, and says what their services said last where it did not go well.
    pub(super) fn leave_containers(&mut self, place: usize, is_well: bool) {
        self.held.beside = None;
        for service in self.held.services.drain(..) {
            if !is_well {
                tell_service(&mut self.log, place, &service);
            }
        }
        if let Some(mut containers) = self.held.containers.take()
            && let Err(why) = containers.close()
        {
            self.log.tell(place, Level::Warning, &format!("containers were left behind: {why}"));
        }
    }
}
