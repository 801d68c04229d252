//! Actions that are containers: their images, built or brought here, and a run of each.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use muster_sys::pack::pack;
use muster_workflow::Template;
use muster_workflow::container::{DOCKER, Wanted, words};
use muster_workflow::expr::{Contexts, EvalError, Object};
use muster_workflow::manifest::{Hook, Manifest, Runs};

use super::action::{Input, Use, as_variables, earlier};
use super::contained::{PULLING, lock};
use super::hooks::What;
use super::{Done, RunningJob, deadline};
use crate::containers::{Plan, command, program};
use crate::engine::{Image, Until};
use crate::files::CommandFiles;
use crate::ground::{Door, WORKSPACE};
use crate::log::Allows;
use crate::spec::Level;

/// The inputs that say what begins an action, and what it is given, where its manifest does not.
const ENTRYPOINT: &str = "entrypoint";
const ARGS: &str = "args";

/// Why an action does not run whose workspace is none.
const REPLACED: &str = "a step has put something else in the place of the workspace";

/// An action that is a container.
#[derive(Clone)]
pub(super) struct Container {
    /// What tells it from all others of the job.
    pub(super) key: String,
    pub(super) image: Image,
    /// What it is given, in the place of what its image says.
    args: Option<Vec<String>>,
    entrypoint: Option<String>,
    /// The variables of the step and of those around it, and what it is given.
    pub(super) env: Vec<(String, String)>,
}

/// What a manifest says of an action that is a container.
pub(super) struct Described<'m> {
    pub(super) image: &'m str,
    pub(super) entrypoint: Option<&'m str>,
    pub(super) args: &'m [Template],
    pub(super) env: &'m [(String, Template)],
    pub(super) pre: Option<&'m Hook>,
    pub(super) post: Option<&'m Hook>,
}

impl<'m> Described<'m> {
    /// Returns what an action says that is a container; `None` for others.
    pub(super) fn of(runs: &'m Runs) -> Option<Self> {
        let Runs::Docker { image, entrypoint, args, env, pre, post } = runs else { return None };
        let (entrypoint, pre, post) = (entrypoint.as_deref(), pre.as_ref(), post.as_ref());
        Some(Self { image, entrypoint, args, env, pre, post })
    }
}

/// Where the files of an action are, for us.
pub(super) enum Files {
    /// There are none: it is an image.
    None,
    /// In a folder that nobody changes.
    Kept(PathBuf),
    /// In a folder of the workspace.
    Workspace(PathBuf),
}

impl RunningJob<'_> {
    /// Runs a container that a step names itself: `uses: docker://IMAGE`.
    pub(super) fn docker_image(&mut self, image: &str, of: &Use<'_>) -> Done {
        let nothing = Manifest {
            name: String::new(),
            description: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            runs: Runs::Composite(Vec::new()),
        };
        let inputs = match self.inputs_of(&nothing, of, true) {
            Ok(inputs) => inputs,
            Err(why) => return self.refuse(of.place, &why),
        };
        let within = earlier(self.within, of.minutes.and_then(deadline));
        let outer = std::mem::replace(&mut self.within, within);
        let image = format!("{DOCKER}{image}");
        let described = Described {
            image: &image,
            entrypoint: None,
            args: &[],
            env: &[],
            pre: None,
            post: None,
        };
        let done = self.docker(&described, &Files::None, inputs, of, None);
        self.within = outer;
        done
    }

    /// Runs an action that is a container; before all steps what it has for then, `pre`.
    pub(super) fn docker(
        &mut self,
        described: &Described<'_>,
        files: &Files,
        inputs: Vec<Input>,
        of: &Use<'_>,
        pre: Option<&Hook>,
    ) -> Done {
        let made = self.image_of(of.place, described.image, files);
        let made = made.and_then(|image| self.container_of(described, image, inputs, of));
        let container = match made {
            Ok(container) => container,
            Err(why) => return self.refuse(of.place, &why),
        };
        let entrypoint =
            pre.map(|pre| pre.program.clone()).or_else(|| container.entrypoint.clone());
        let done = self.run_container(of.place, &container, entrypoint.as_deref());
        self.leave_post(What::Container(Box::new(container)), described.post, of);
        done
    }

    /// Finds out what an action is given.
    fn container_of(
        &self,
        described: &Described<'_>,
        image: Image,
        inputs: Vec<Input>,
        of: &Use<'_>,
    ) -> Result<Container, String> {
        let mut view: Contexts = of.view.clone();
        let given = |name: &str| -> Option<String> {
            let found = inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name));
            found.map(|input| input.value.clone()).filter(|value| !value.is_empty())
        };
        let object = inputs.iter().map(|input| (input.name.clone(), input.value.clone()));
        view.set("inputs", object.collect::<Object>());
        let entrypoint = described.entrypoint.map(str::to_owned).or_else(|| given(ENTRYPOINT));
        let failed = |what: &str, error: EvalError| format!("`{what}`: {error}");
        let args = if described.args.is_empty() {
            let args = given(ARGS).map(|args| words(&args)).transpose();
            args.map_err(|why| format!("input `{ARGS}`: {why}"))?
        } else {
            let args = described.args.iter().map(|arg| arg.text(&view));
            Some(args.collect::<Result<Vec<_>, _>>().map_err(|error| failed("args", error))?)
        };
        let mut env = [self.contexts.around(), of.env.to_vec()].concat();
        let above = self.contexts.variables();
        for (name, value) in described.env {
            // What the workflow says is above it.
            if !env.iter().chain(&above).any(|(known, _)| known == name) {
                let value = value.text(&view).map_err(|error| failed("env", error))?;
                env.push((name.clone(), value));
            }
        }
        env.extend(as_variables(inputs));
        Ok(Container { key: self.key(of.step), image, args, entrypoint, env })
    }

    /// Brings or builds the image of an action, once for a job.
    fn image_of(&mut self, place: usize, image: &str, files: &Files) -> Result<Image, String> {
        let deadline = earlier(self.deadline, self.within);
        let cancel = self.cancel.clone();
        let bounds = Until { cancel: &cancel, deadline };
        if let Some(name) = image.strip_prefix(DOCKER) {
            if let Some(known) = lock(&self.held.images).get(image) {
                return Ok(known.clone());
            }
            let wanted = Wanted { image: name.to_owned(), ..Wanted::default() };
            self.say(place, &format!("{PULLING}{name}"));
            let (found, warning) =
                self.containers(|containers| containers.image(&wanted, bounds))?;
            match warning {
                Some(warning) => self.log.tell(place, Level::Warning, &warning),
                None => self.say(place, &format!("{name} is {}", found.id)),
            }
            lock(&self.held.images).insert(image.to_owned(), found.clone());
            return Ok(found);
        }
        let key = match files {
            Files::Kept(folder) => format!("{}: {image}", folder.display()),
            // A step may have changed it since.
            Files::Workspace(_) | Files::None => String::new(),
        };
        if let Some(known) = lock(&self.held.images).get(&key) {
            return Ok(known.clone());
        }
        let dockerfile = crate::ground::plain(Path::new(image));
        let (folder, dockerfile) = match (dockerfile.parent(), dockerfile.file_name()) {
            (Some(folder), Some(name)) if dockerfile.is_relative() => (folder.to_owned(), name),
            _ => {
                return Err(format!(
                    "`image: {image}` is neither a Dockerfile of the action nor `{DOCKER}IMAGE`"
                ));
            }
        };
        let dockerfile = dockerfile.to_string_lossy().into_owned();
        // As GitHub builds it: from the folder of its Dockerfile.
        let context = self.spec.folder.join(format!("context-{}.tar", self.next_number()));
        let packed = match files {
            Files::Kept(top) => packed(&context, top, &folder),
            Files::Workspace(below) => {
                let (top, workspace) = self.ground.workspace_folder();
                packed(&context, &top, &workspace.join(below).join(folder))
            }
            Files::None => return Err(format!("`{image}` is no image")),
        };
        let context =
            packed.map_err(|error| format!("cannot read what {image} is built from: {error}"))?;
        self.say(place, &format!("Building {image}"));
        self.containers(|_| Ok(()))?;
        let mut log = self.log.aside();
        log.say(place, "##[group]What is built");
        let built = self.containers(|containers| {
            containers.build(context, &dockerfile, bounds, &mut |line| log.say(place, line))
        });
        log.say(place, "##[endgroup]");
        let image = built.map_err(|why| format!("cannot build {image}: {why}"))?;
        if !key.is_empty() {
            lock(&self.held.images).insert(key, image.clone());
        }
        Ok(image)
    }

    /// Runs a container of an action to its end.
    pub(super) fn run_container(
        &mut self,
        place: usize,
        container: &Container,
        entrypoint: Option<&str>,
    ) -> Done {
        let number = self.next_number();
        let files = match CommandFiles::create(&self.ground, number) {
            Ok(files) => files,
            Err(error) => return self.unwritten(place, error),
        };
        let shown = self
            .ground
            .for_an_action(self.spec)
            .and_then(|shown| Ok((shown, self.ground.workspace_seen()?)));
        let ((mounts, paths), seen) = match shown {
            Ok(shown) => shown,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return self.refuse(place, REPLACED);
            }
            Err(error) => return self.unwritten(place, error),
        };
        let kept = self.states.get(&container.key).cloned().unwrap_or_default().into_iter();
        let kept = kept.map(|(name, value)| (format!("STATE_{name}"), value));
        let door = self.held.door.iter().flat_map(Door::variables);
        let env = door.chain(container.env.iter().cloned()).chain(kept).chain(self.services());
        let env: Vec<_> = env.collect();
        let variables = self.variables_of_container(&env, &files, &paths);
        let allows = Allows::of(&variables);
        let entrypoint = entrypoint.map(|entrypoint| vec![entrypoint.to_owned()]);
        let args = container.args.as_deref();
        let Some(words) = command(&container.image, entrypoint.as_deref(), args) else {
            return self.refuse(place, &format!("{} has nothing to run", container.image.name));
        };
        let wanted = Wanted { image: container.image.name.clone(), ..Wanted::default() };
        // By the init alone: what an engine is told of a container it keeps, and shows to all who may ask it.
        let plan = Plan {
            image: &container.image,
            wanted: &wanted,
            env: &[],
            mounts,
            aliases: Vec::new(),
            publishes: false,
            is_service: false,
            places: &[WORKSPACE],
        };
        let inmate = match self.containers(|containers| containers.start(plan)) {
            Ok(inmate) => inmate,
            Err(why) => return self.refuse(place, &why),
        };
        // A step may have put a link in the place of the workspace, which the engine would follow as root.
        let done = if inmate.seen == [seen] {
            match inmate.spawn(program(&words, WORKSPACE).envs(variables)) {
                Ok(running) => self.perform_running(place, running, &files, None, allows),
                Err(error) => self.refuse(place, &error.to_string()),
            }
        } else {
            self.refuse(place, REPLACED)
        };
        if let Err(why) = self.containers(|containers| containers.end(&inmate)) {
            self.log.tell(place, Level::Warning, &format!("its container was left behind: {why}"));
        }
        let mut done = done;
        let state = std::mem::take(&mut done.state);
        self.states.entry(container.key.clone()).or_default().extend(state);
        done
    }

    /// Returns the variables of an action in a container, which knows paths of the steps by other names.
    fn variables_of_container(
        &self,
        env: &[(String, String)],
        files: &CommandFiles,
        paths: &[(PathBuf, &'static str)],
    ) -> Vec<(String, String)> {
        let mut variables = self.contexts.variables();
        variables.extend(self.identity());
        variables.extend(env.iter().cloned());
        for (_, value) in &mut variables {
            let there = paths.iter().find_map(|(from, to)| {
                let below = Path::new(value.as_str()).strip_prefix(from).ok()?;
                Some(Path::new(to).join(below))
            });
            if let Some(there) = there {
                *value = there.to_string_lossy().trim_end_matches('/').to_owned();
            }
        }
        for (name, path) in files.variables() {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            variables.push((name.to_owned(), format!("/github/file_commands/{file}")));
        }
        variables.push(("HOME".to_owned(), "/github/home".to_owned()));
        variables
    }
}

/// Packs a folder, whatever links lead there, in a file of ours that nobody finds.
fn packed(path: &Path, top: &Path, below: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).open(path)?;
    std::fs::remove_file(path)?;
    pack(top, below, &mut file)?;
    Ok(file)
}
