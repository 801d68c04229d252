//! The containers of one job: its own, its services, those of its actions; their network, volumes and images.
//!
//! In each the first process is muster's init, which waits for orders and ends with the supervisor: so a step costs a
//! fork and no request to the engine, signals reach what they are meant for, and a supervisor that is killed leaves no
//! container behind. What is left then, a network or a volume, is found by its mark ([`crate::reap`]).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::init::{Arrived, Init, Seen, Threshold};
use muster_sys::process::{Happening, Place, ProcessError, Program, Running};
use muster_workflow::container::{VolumeSource, Wanted};

use crate::cancel::Cancel;
use crate::egress::Network;
use crate::engine::{Build, Engine, Image, Inspected, Mounted, Order, Until, with_tag};
use crate::ground::Door;
use crate::health::{Check, Looked, Next};
use crate::spec::{Cage, JobSpec};

/// The init of a container has so long to come.
const BEGINNING: Duration = Duration::from_secs(60);
/// How much of the end of what a service says is kept, in bytes.
const KEPT: usize = 64 << 10;
/// Where folders of the job are in containers.
const OURS: [&str; 5] = ["/__e", "/__t", "/__w", "/github", "/opt/muster"];
/// Where an init and its socket are inside.
const THRESHOLD: &str = "/opt/muster/init";

/// The containers of a job. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Containers {
    engine: Engine,
    mark: String,
    pub(crate) network: String,
    /// Where what they need is made.
    folder: PathBuf,
    cage: Option<Cage>,
    is_guarded: bool,
    /// Where the doors lead that are inside.
    door: Option<Door>,
    ids: Vec<String>,
    volumes: BTreeSet<String>,
    images: Vec<String>,
    number: usize,
    is_open: bool,
}

/// A container of a job, whose init waits for orders.
#[derive(Debug)]
pub(crate) struct Inmate {
    pub(crate) id: String,
    init: Init,
    /// Who its first process is, as this machine counts users.
    pub(crate) user: u32,
    pub(crate) inspected: Inspected,
    /// What its init has found at the places that it was to look at.
    pub(crate) seen: Vec<Seen>,
}

/// What a container is to be.
pub(crate) struct Plan<'a> {
    pub(crate) image: &'a Image,
    pub(crate) wanted: &'a Wanted,
    pub(crate) env: &'a [(String, String)],
    pub(crate) mounts: Vec<Mounted>,
    pub(crate) aliases: Vec<String>,
    /// Whether this machine is to have its ports.
    pub(crate) publishes: bool,
    /// Whether it is one of the job's services.
    pub(crate) is_service: bool,
    /// Where its init looks before anything runs.
    pub(crate) places: &'a [&'a str],
}

/// A service that runs, and the end of what it said.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) inmate: Inmate,
    told: Arc<Mutex<Told>>,
    /// How it is looked at, where anybody says, and in which folder.
    check: Option<(Check, String)>,
    begun: Instant,
}

/// What is known of a service.
#[derive(Debug, Default)]
struct Told {
    /// The end of what it said.
    said: Vec<u8>,
    ended: Option<ExitStatus>,
}

impl Inmate {
    /// Has its init start a program.
    ///
    /// # Errors
    ///
    /// When it cannot be started there.
    pub(crate) fn spawn(&self, program: Program) -> Result<Running, ProcessError> {
        program.spawn_at(self.place())
    }

    /// Returns where its programs are started.
    pub(crate) fn place(&self) -> Place<'_> {
        Place::By(&self.init, Some(self.user))
    }

    /// Ends it, and all that runs in it.
    pub(crate) fn dismiss(&self) {
        self.init.dismiss();
    }
}

impl Containers {
    /// Finds the engine and makes the network of the job.
    ///
    /// # Errors
    ///
    /// A sentence, where there is none, or the job may have no containers.
    pub(crate) fn open(spec: &JobSpec, door: Option<&Door>) -> Result<Self, String> {
        let engine = Engine::connect(&spec.engine)?;
        if spec.guarded && !engine.maps_users {
            return Err(format!(
                "the code of those who may not push runs in containers only where root in them is nobody of this \
                 machine (rootless, or with `userns-remap`); here is {}",
                engine.description
            ));
        }
        let cage = spec.cage().cloned();
        let mark = spec.engine.mark.clone();
        let network = Order::volume(&mark, "network");
        // What an attempt of the same name has left is nobody's.
        engine.reap(&|found| found == mark || is_of_a_run_that_is_gone(found))?;
        let is_closed = cage.as_ref().is_some_and(|cage| !cage.network.is_open());
        engine.make_network(&network, &mark, is_closed)?;
        Ok(Self {
            engine,
            mark,
            network,
            folder: spec.folder.join("containers"),
            cage,
            is_guarded: spec.guarded,
            door: door.cloned(),
            ids: Vec::new(),
            volumes: BTreeSet::new(),
            images: Vec::new(),
            number: 0,
            is_open: true,
        })
    }

    /// Brings an image here, or takes the one that is here where its registry is not reached; returns it, and a warning.
    ///
    /// # Errors
    ///
    /// A sentence, where it cannot be had.
    pub(crate) fn image(
        &self,
        wanted: &Wanted,
        bounds: Until<'_>,
    ) -> Result<(Image, Option<String>), String> {
        let name = &wanted.image;
        let platform = wanted.options.platform.as_deref();
        let pulled = self.engine.pull(name, wanted.credentials.as_ref(), platform, bounds);
        let failed = |why: &str| format!("cannot pull {name}: {why}");
        // What is here another job may have brought by its password: whether this one may have it, the registry says.
        let may_be_here = wanted.credentials.is_none() && !self.is_guarded;
        let why = match pulled {
            Ok(()) => None,
            Err(why) if may_be_here && why.is_unreached() => Some(why.0),
            Err(why) => return Err(failed(&why.0)),
        };
        let mut found = self.engine.image(name).map_err(|why| failed(&why))?;
        if why.is_some() {
            // An id, or its beginning, is no name.
            let named = with_tag(name);
            found = found.filter(|image| image.tags.contains(&named));
        }
        match (found, why) {
            (Some(image), None) => Ok((image, None)),
            (Some(image), Some(why)) => {
                let why = format!(
                    "{name} is taken as it is here, for its registry is not reached: {why}"
                );
                Ok((image, Some(why)))
            }
            (None, why) => Err(failed(why.as_deref().unwrap_or("the engine does not have it now"))),
        }
    }

    /// Builds the image of an action; `say` hears what is said of it.
    ///
    /// # Errors
    ///
    /// A sentence, where it cannot be built.
    pub(crate) fn build(
        &mut self,
        context: std::fs::File,
        dockerfile: &str,
        bounds: Until<'_>,
        say: &mut dyn FnMut(&str),
    ) -> Result<Image, String> {
        if self.cage.as_ref().is_some_and(|cage| !cage.network.is_open()) {
            return Err("what builds an image reaches the network by the engine itself, and the job has none; use an \
                        image that was built before"
                .to_owned());
        }
        let tag = Order::volume(&self.mark, &format!("action-{}", self.images.len()));
        let tag = format!("localhost/{}", tag.to_ascii_lowercase());
        let build = Build {
            context,
            dockerfile,
            tag: &tag,
            mark: &self.mark,
            memory: self.cage.as_ref().map(|cage| cage.memory_bytes),
        };
        self.images.push(tag.clone());
        self.engine.build(build, bounds, say)?;
        self.engine.image(&tag)?.ok_or_else(|| "the engine does not have it now".to_owned())
    }

    /// Returns where the doors lead that are inside.
    pub(crate) fn door(&self) -> Option<&Door> {
        self.door.as_ref()
    }

    /// Returns what the engine is, and what bounds its containers.
    pub(crate) fn description(&self) -> String {
        let engine = &self.engine.description;
        match &self.cage {
            None => format!("{engine}; no bounds of muster's"),
            Some(cage) => {
                let network = match &cage.network {
                    Network::Open => "network: a bridge",
                    Network::None => "no network",
                    Network::Only(_) => "network: some hosts",
                };
                let (processes, mib) = (cage.processes, cage.memory_bytes >> 20);
                format!(
                    "{engine}, few capabilities, {processes} processes and {mib} MiB for each; {network}"
                )
            }
        }
    }

    /// Starts a container and waits for its init.
    ///
    /// # Errors
    ///
    /// A sentence, where it may not be, or cannot.
    pub(crate) fn start(&mut self, plan: Plan<'_>) -> Result<Inmate, String> {
        self.admit(plan.wanted)?;
        if !plan.is_service {
            // The engine would make it, as root, where a step may have put a link.
            let mounted =
                |volume: &&String| OURS.iter().any(|top| Path::new(volume).starts_with(top));
            if let Some(volume) = plan.image.volumes.iter().find(mounted) {
                let name = &plan.image.name;
                return Err(format!(
                    "{name} has a volume at {volume}, where the folders of the job are"
                ));
            }
        }
        self.number += 1;
        let folder = self.folder.join(self.number.to_string());
        let unprepared = |error: io::Error| format!("cannot prepare {}: {error}", folder.display());
        let threshold = Threshold::open(&folder).map_err(unprepared)?;
        let port = self.door.as_ref().map_or(0, Door::port);
        let mut mounts = plan.mounts;
        mounts.push(Mounted::fixed(&folder, THRESHOLD));
        for volume in &plan.wanted.volumes {
            if let VolumeSource::Named(name) = &volume.from {
                self.volumes.insert(Order::volume(&self.mark, name));
            }
        }
        let id = self.engine.start(Order {
            image: plan.image,
            wanted: plan.wanted,
            init: threshold.command(Path::new(THRESHOLD), port, plan.places),
            env: plan.env,
            mounts: &mounts,
            network: &self.network,
            aliases: plan.aliases,
            publishes: plan.publishes,
            cage: self.cage.as_ref(),
            is_guarded: self.is_guarded,
            mark: &self.mark,
        })?;
        self.ids.push(id.clone());
        let name = &plan.image.name;
        let arrived = threshold.wait(BEGINNING, plan.places.len());
        let Arrived { init, doorway, user, seen } =
            arrived.map_err(|error| format!("nothing begins in a container of {name}: {error}"))?;
        if let Some((listener, door)) = doorway.zip(self.door.clone()) {
            let kept = door.keep(listener);
            kept.map_err(|error| format!("no way to the services for actions: {error}"))?;
        }
        let inspected = self.engine.inspect(&id)?;
        Ok(Inmate { id, init, user, inspected, seen })
    }

    /// Checks that a container does not reach what its job may not.
    fn admit(&self, wanted: &Wanted) -> Result<(), String> {
        let Some(cage) = &self.cage else { return Ok(()) };
        let why = "the job is caged, and that opens this machine to it; an owner may run it with `isolation = \"none\"`";
        if let Some(option) = wanted.options.opening.first() {
            return Err(format!("`options`: `--{option}` is refused: {why}"));
        }
        for volume in &wanted.volumes {
            if let VolumeSource::Host(path) = &volume.from {
                return Err(format!("`volumes`: {path} is a path of this machine: {why}"));
            }
        }
        let is_own = |address: &str| matches!(address, "127.0.0.1" | "localhost" | "::1");
        let elsewhere = wanted.ports.iter().filter_map(|port| port.address.as_deref());
        if let Some(address) = elsewhere.into_iter().find(|address| !is_own(address)) {
            return Err(format!("`ports`: {address} is an address of this machine: {why}"));
        }
        match (wanted.options.memory, i64::try_from(cage.memory_bytes)) {
            (Some(memory), Ok(most)) if memory > most => Err(format!(
                "`options`: `--memory` is more than a job may have ({} MiB)",
                most >> 20
            )),
            _ => Ok(()),
        }
    }

    /// Starts a service: what its image says, or the workflow in its place.
    ///
    /// # Errors
    ///
    /// A sentence, where it does not start.
    pub(crate) fn serve(
        &mut self,
        name: &str,
        image: &Image,
        wanted: &Wanted,
        publishes: bool,
    ) -> Result<Service, String> {
        let plan = Plan {
            image,
            wanted,
            env: &[],
            mounts: Vec::new(),
            aliases: vec![name.to_owned()],
            publishes,
            is_service: true,
            places: &[],
        };
        let inmate = self.start(plan)?;
        let words = command(image, wanted.entrypoint.as_deref(), wanted.command.as_deref());
        let words = words.ok_or_else(|| format!("{} has nothing to run", image.name))?;
        let workdir = wanted.options.workdir.as_deref().unwrap_or(&image.workdir);
        let program = program(&words, workdir);
        let running = inmate.spawn(program).map_err(|error| error.to_string())?;
        let told = Arc::new(Mutex::new(Told::default()));
        let listened = listen(running, Arc::clone(&told));
        listened.map_err(|error| format!("nobody can listen to {name}: {error}"))?;
        let check = Check::of(wanted.options.health.as_ref(), image.health.as_ref());
        let check = check.map(|check| (check, workdir.to_owned()));
        Ok(Service { name: name.to_owned(), inmate, told, check, begun: clock::monotonic() })
    }

    /// Waits until a service is well, where its image or the workflow says how to look.
    ///
    /// # Errors
    ///
    /// A sentence, where it is not, or the job was told to stop.
    pub(crate) fn wait_for(&self, service: &Service, cancel: &Cancel) -> Result<(), String> {
        let mut looked = Looked::default();
        loop {
            let name = &service.name;
            if let Some(status) = service.told().ended {
                return Err(format!("service `{name}` has ended ({status})"));
            }
            let now = self.engine.inspect(&service.inmate.id);
            now.map_err(|why| format!("service `{name}` has ended: {why}"))?;
            let Some((check, workdir)) = &service.check else { return Ok(()) };
            let start = clock::monotonic();
            let seen = check.look(&service.inmate, workdir, cancel);
            if cancel.end().is_some() {
                return Err("the job was told to stop".to_owned());
            }
            let begun = service.begun.elapsed();
            match check.next(&mut looked, seen.is_ok(), start.elapsed(), begun) {
                Next::Well => return Ok(()),
                Next::Wait(rest) => cancel.pause(rest),
                Next::GiveUp => {
                    let why = seen.err().unwrap_or_default();
                    return Err(format!("service `{name}` is not well: {}", why.trim()));
                }
            }
        }
    }

    /// Ends a container and removes it.
    ///
    /// # Errors
    ///
    /// A sentence, where it stays.
    pub(crate) fn end(&mut self, inmate: &Inmate) -> Result<(), String> {
        inmate.dismiss();
        self.engine.remove(&inmate.id)?;
        self.ids.retain(|id| *id != inmate.id);
        Ok(())
    }

    /// Returns whether a container still runs.
    pub(crate) fn is_there(&self, inmate: &Inmate) -> bool {
        self.engine.inspect(&inmate.id).is_ok()
    }

    /// Removes all of them.
    ///
    /// # Errors
    ///
    /// A sentence, where something stays.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.is_open = false;
        let mut done = Ok(());
        for id in std::mem::take(&mut self.ids) {
            done = done.and(self.engine.remove(&id));
        }
        for volume in std::mem::take(&mut self.volumes) {
            done = done.and(self.engine.remove_volume(&volume));
        }
        for image in std::mem::take(&mut self.images) {
            done = done.and(self.engine.remove_image(&image));
        }
        done.and(self.engine.remove_network(&self.network))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // Where it could be told, it was closed.
        if self.is_open {
            drop(self.close());
        }
    }
}

impl Service {
    /// Returns the end of what it said.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.told().said).into_owned()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to a service on a thread of its own, until it has ended.
fn listen(mut running: Running, told: Arc<Mutex<Told>>) -> io::Result<()> {
    // Nobody wakes it.
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    let listen = move || {
        while let Ok(happening) = running.next(&wake, None) {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            match happening {
                Happening::Output(bytes) => {
                    told.said.extend_from_slice(&bytes);
                    let much = told.said.len().saturating_sub(KEPT);
                    told.said.drain(..much);
                }
                Happening::Exited(status, _) => {
                    told.ended = Some(status);
                    break;
                }
                Happening::Woken | Happening::Nothing => {}
            }
        }
    };
    std::thread::Builder::new().name("service".into()).spawn(listen).map(drop)
}

/// Returns whether a mark is that of a `muster run` that was killed: `run-PID-…`.
fn is_of_a_run_that_is_gone(mark: &str) -> bool {
    let run = mark.strip_prefix("run-").and_then(|rest| rest.split('-').next());
    run.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// Returns the words that a container runs; `None` where nobody says any. As `docker run` has it: who says what begins
/// it says what that is given, too.
pub(crate) fn command(
    image: &Image,
    entrypoint: Option<&[String]>,
    command: Option<&[String]>,
) -> Option<Vec<String>> {
    let given = match (entrypoint, command) {
        (_, Some(command)) => command,
        (Some(_), None) => &[],
        (None, None) => &image.command,
    };
    let words = [entrypoint.unwrap_or(&image.entrypoint), given].concat();
    (!words.is_empty()).then_some(words)
}

/// Returns the program that words name, in a folder of a container.
pub(crate) fn program(words: &[String], workdir: &str) -> Program {
    let workdir = if workdir.is_empty() { "/" } else { workdir };
    let (first, rest) =
        words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    Program::bare(first).args(rest).dir(Path::new(workdir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_a_container_is_the_images_or_the_workflows() {
        let texts =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let image = Image {
            entrypoint: texts(&["/start"]),
            command: texts(&["server"]),
            ..Image::default()
        };
        let (begin, given) = (texts(&["/other"]), texts(&["client"]));
        assert_eq!(command(&image, None, None), Some(texts(&["/start", "server"])));
        assert_eq!(command(&image, None, Some(&given)), Some(texts(&["/start", "client"])));
        assert_eq!(command(&image, Some(&begin), None), Some(texts(&["/other"])));
        assert_eq!(command(&image, Some(&begin), Some(&given)), Some(texts(&["/other", "client"])));
        assert_eq!(command(&Image::default(), None, None), None);
    }
}
