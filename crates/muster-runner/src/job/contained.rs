//! The containers of a job: made before its first step, and what is done beside them.

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_workflow::container::Wanted;
use muster_workflow::expr::Object;
use muster_workflow::workflow;

use super::RunningJob;
use crate::cancel::Cancel;
use crate::containers::{Containers, Service};
use crate::contexts::JobContexts;
use crate::engine::{Image, Until};
use crate::ground::{Door, Ground};
use crate::log::Log;
use crate::marks::mark;
use crate::spec::{JobSpec, Level};

/// The line of a job's log that says what image it waits for begins so.
pub const PULLING: &str = "Pulling ";

/// What a job wants of containers.
#[derive(Default)]
pub(super) struct Wants {
    container: Option<Wanted>,
    services: Vec<(String, Wanted)>,
}

/// What a job has of containers.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// None before any is wanted.
    pub(super) containers: Mutex<Option<Containers>>,
    services: Mutex<Vec<Service>>,
    /// What stands beside a container of the job, once it is needed. Who uses it has it for himself meanwhile.
    beside: Mutex<Option<Arc<Ground>>>,
    /// The door of its network, where it has one of its own.
    pub(super) door: Option<Door>,
    /// The images of the actions that are containers, by what they are made of.
    pub(super) images: Mutex<HashMap<String, Image>>,
}

/// Takes something of it for oneself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let door = Door::of(spec);
        let prepare = |log: &mut Log<'_>| match &spec.image {
            None => Ground::prepare(spec, door.as_ref()),
            Some(image) => Ground::imaged(spec, image, door.as_ref(), log, cancel),
        };
        if self.container.is_none() && self.services.is_empty() {
            return Ok((prepare(log)?, Held { door, ..Held::default() }, None));
        }
        let is_closed = spec.cage().is_some_and(|cage| !cage.network.is_open());
        if self.container.is_none() && is_closed {
            return Err("`services` are not reached from a sandbox without a network: give the job a `container`, or \
                        the sandbox a network (`[sandbox] network`)"
                .to_owned());
        }
        let mut containers = Containers::open(spec, door.as_ref())?;
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
            None => prepare(log)?,
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
        let held = Held {
            containers: Mutex::new(Some(containers)),
            services: Mutex::new(services),
            door,
            ..Held::default()
        };
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
    /// Does something in what stands beside the root that the steps have of their own, where they do, which is handed
    /// over; else where they are.
    ///
    /// # Errors
    ///
    /// A sentence, where that cannot be made.
    pub(super) fn beside<T>(
        &mut self,
        work: impl FnOnce(&mut Self, Option<&Ground>) -> T,
    ) -> Result<T, String> {
        if !self.ground.has_own_root() {
            return Ok(work(self, None));
        }
        let held = Arc::clone(&self.held);
        let mut beside = lock(&held.beside);
        let ground = match &*beside {
            Some(ground) => Arc::clone(ground),
            None => Arc::clone(beside.insert(Arc::new(self.ground.beside(self.spec)?))),
        };
        let inside = std::mem::replace(&mut self.ground, ground);
        let done = work(self, Some(&inside));
        self.ground = inside;
        Ok(done)
    }

    /// Does something with the containers of the job.
    ///
    /// # Errors
    ///
    /// A sentence, where there can be none, or of what is done.
    pub(super) fn containers<T>(
        &self,
        work: impl FnOnce(&mut Containers) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut containers = lock(&self.held.containers);
        work(match &mut *containers {
            Some(containers) => containers,
            none => none.insert(Containers::open(self.spec, self.held.door.as_ref())?),
        })
    }

    /// Returns whether the container of the job has ended before its time.
    pub(super) fn lost_container(&self) -> bool {
        let containers = lock(&self.held.containers);
        let both = self.ground.inmate().zip(containers.as_ref());
        both.is_some_and(|(inmate, containers)| !containers.is_there(inmate))
    }

    /// Says what the services of the job have said last.
    pub(super) fn tell_services(&mut self, place: usize) {
        for service in &*lock(&self.held.services) {
            tell_service(&mut self.log, place, service);
        }
    }

    /// Removes the containers of the job, and says what their services said last where it did not go well.
    pub(super) fn leave_containers(&mut self, place: usize, is_well: bool) {
        *lock(&self.held.beside) = None;
        if !is_well {
            self.tell_services(place);
        }
        lock(&self.held.services).clear();
        let containers = lock(&self.held.containers).take();
        if let Some(mut containers) = containers
            && let Err(why) = containers.close()
        {
            self.log.tell(place, Level::Warning, &format!("containers were left behind: {why}"));
        }
    }
}

/// Hands what was checked out beside the container of a job over to its steps, which are `inside`.
///
/// # Errors
///
/// A sentence, where it cannot be.
pub(super) fn adopt(inside: &Ground, beside: &Ground, path: &str) -> Result<(), String> {
    let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(path).components().all(is_plain) {
        return Err(format!("`path`: {path} leads out of the workspace"));
    }
    let adopted = inside.adopt(beside, Path::new(path));
    adopted.map_err(|error| format!("cannot hand over what was checked out: {error}"))
}
