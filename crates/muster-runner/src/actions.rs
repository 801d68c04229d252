//! The actions that a job uses from elsewhere: fetched before its first step, with those that they use.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_workflow::Template;
use muster_workflow::manifest::{Manifest, Runs};
use muster_workflow::uses::Uses;
use muster_workflow::workflow::{Action, Step};

use crate::ground::{Ground, read_beneath};
use crate::setup::Tool;

/// The most bytes of a manifest.
pub(crate) const MAX_MANIFEST: u64 = 1 << 20;
/// The most repositories of actions that a job uses.
const MAX_REPOSITORIES: usize = 100;
/// The action that muster does itself, whoever asks for it with no more than these inputs.
const CHECKOUT: &str = "actions/checkout";
const CHECKOUT_INPUTS: [&str; 5] = ["ref", "path", "fetch-depth", "persist-credentials", "token"];

/// Gets repositories of actions. It stands at the edge: a job knows no network.
pub trait Fetch {
    /// Brings the repository `owner/name` here, as it is at a branch, tag or commit.
    ///
    /// # Errors
    ///
    /// Why it cannot be had, as a sentence.
    fn fetch(&mut self, name: &str, git_ref: &str) -> Result<Fetched, String>;

    /// Returns whether muster may do itself what the repository does, as it is at a ref.
    fn may_be_replaced(&self, name: &str, git_ref: &str) -> bool;
}

/// A repository of actions on this machine.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its top. Nobody changes what is below.
    pub folder: PathBuf,
    /// What it is.
    pub origin: Origin,
}

/// What a repository of actions on this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This commit.
    Commit(String),
    /// The commit that it was when it was looked at before, for this reason: its code host cannot be asked.
    Remembered(String, String),
    /// A folder that somebody gave in its place.
    Given,
    /// The run's own repository at its own commit.
    Own,
    /// What muster brings with it in its place.
    Native,
}

/// The actions from elsewhere that a job uses.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    /// Their tops on this machine, and how their names were written first, by name, in small letters, and ref.
    repositories: BTreeMap<(String, String), (PathBuf, String)>,
    /// Those that the steps do not see yet, in the order in which they were found.
    new: Vec<Repository>,
    /// By what names them.
    manifests: BTreeMap<String, Result<Arc<Manifest>, String>>,
    /// Whether the steps see this machine, so that muster can set up tools of it for them.
    sees_machine: bool,
}

/// A repository of actions at a ref.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// `owner/name`, as it was written first.
    name: String,
    git_ref: String,
    pub(crate) fetched: Fetched,
}

impl Actions {
    /// Knows none yet, of a job whose steps see this machine, or something else.
    pub(crate) fn new(sees_machine: bool) -> Self {
        Self { sees_machine, ..Self::default() }
    }

    /// Returns the tool that muster sets up itself where an action is used.
    pub(crate) fn own_tool(&self, uses: &Uses, fetch: &dyn Fetch) -> Option<Tool> {
        let Uses::Repository { owner, name, git_ref, .. } = uses else { return None };
        let may =
            || self.sees_machine && fetch.may_be_replaced(&format!("{owner}/{name}"), git_ref);
        Tool::of(uses).filter(|_| may())
    }

    /// Fetches what `steps` in a file of `home` use, and what that uses, but what muster does itself.
    ///
    /// # Errors
    ///
    /// The first that cannot be had.
    pub(crate) fn gather(
        &mut self,
        steps: &[Step],
        home: &Uses,
        fetch: &mut dyn Fetch,
    ) -> Result<(), String> {
        let mut open = uses(steps, home);
        open.retain(|(uses, _)| self.own_tool(uses, fetch).is_none());
        self.gather_all(open, fetch)
    }

    /// Fetches an action, and what it uses.
    ///
    /// # Errors
    ///
    /// What cannot be had.
    pub(crate) fn gather_itself(
        &mut self,
        uses: &Uses,
        fetch: &mut dyn Fetch,
    ) -> Result<(), String> {
        self.gather_all(vec![(uses.clone(), uses.clone())], fetch)
    }

    fn gather_all(
        &mut self,
        mut open: Vec<(Uses, Uses)>,
        fetch: &mut dyn Fetch,
    ) -> Result<(), String> {
        let mut next = 0;
        while let Some((uses, written)) = open.get(next).cloned() {
            next += 1;
            let Uses::Repository { owner, name, path, git_ref } = &uses else { continue };
            let key = uses.to_string();
            if self.manifests.contains_key(&key) {
                continue;
            }
            check(&written)?;
            check(&uses)?;
            let name = format!("{owner}/{name}");
            let place = (name.to_ascii_lowercase(), git_ref.clone());
            if !self.repositories.contains_key(&place) {
                if self.repositories.len() == MAX_REPOSITORIES {
                    return Err(format!(
                        "it uses the actions of more than {MAX_REPOSITORIES} repositories"
                    ));
                }
                let fetched = fetch.fetch(&name, git_ref)?;
                let top = fetched.folder.clone();
                self.repositories.insert(place.clone(), (top, name.clone()));
                self.new.push(Repository { name, git_ref: git_ref.clone(), fetched });
            }
            let (top, _) = &self.repositories[&place];
            let written = written.to_string();
            let manifest = manifest(&written, |file| {
                read_beneath(top, &Path::new(path).join(file), MAX_MANIFEST)
            });
            let manifest =
                manifest.and_then(|manifest| manifest.ok_or_else(|| no_action(&written)));
            if let Ok(Manifest { runs: Runs::Composite(steps), .. }) = &manifest {
                let its = self::uses(steps, &uses).into_iter();
                open.extend(its.filter(|(uses, _)| self.own_tool(uses, fetch).is_none()));
            }
            self.manifests.insert(key, manifest.map(Arc::new));
        }
        Ok(())
    }

    /// Returns the repositories that the steps are to see from now on.
    pub(crate) fn take_new(&mut self) -> Vec<Repository> {
        std::mem::take(&mut self.new)
    }

    /// Returns the folder of an action below that of all actions.
    pub(crate) fn folder_of(&self, uses: &Uses) -> PathBuf {
        let Uses::Repository { owner, name, path, git_ref } = uses else { return PathBuf::new() };
        let name = format!("{owner}/{name}");
        // Whoever names it otherwise means the same.
        let known = self.repositories.get(&(name.to_ascii_lowercase(), git_ref.clone()));
        folder(known.map_or(&name, |(_, known)| known), git_ref).join(path)
    }

    /// Returns where the files of an action are on this machine.
    pub(crate) fn kept(&self, uses: &Uses) -> PathBuf {
        let Uses::Repository { owner, name, path, git_ref } = uses else { return PathBuf::new() };
        let name = format!("{owner}/{name}").to_ascii_lowercase();
        let known = self.repositories.get(&(name, git_ref.clone()));
        known.map(|(top, _)| top.join(path)).unwrap_or_default()
    }

    /// Returns the manifest of an action, or what is wrong with it.
    pub(crate) fn manifest(&self, uses: &Uses) -> Result<Arc<Manifest>, String> {
        let found = self.manifests.get(&uses.to_string());
        found.ok_or_else(|| format!("`{uses}` was not fetched"))?.clone()
    }
}

impl Repository {
    /// Returns what people wrote: `owner/name@ref`.
    pub(crate) fn uses(&self) -> String {
        format!("{}@{}", self.name, self.git_ref)
    }

    /// Gives the steps a copy, which they may change.
    ///
    /// # Errors
    ///
    /// When it cannot be copied.
    pub(crate) fn show(&self, ground: &Ground) -> io::Result<()> {
        ground.show_action(&self.fetched.folder, &folder(&self.name, &self.git_ref))
    }
}

/// Returns the folder of a repository below that of all actions.
fn folder(name: &str, git_ref: &str) -> PathBuf {
    Path::new(name).join(git_ref)
}

/// Returns whether muster itself does what a step uses: a checkout of the run's own repository. Of any other
/// repository, and whatever else its action can do, that action does.
pub(crate) fn is_own_checkout(uses: &Uses, with: &[(String, Template)]) -> bool {
    let is_known =
        |name: &str| CHECKOUT_INPUTS.iter().any(|known| known.eq_ignore_ascii_case(name));
    uses.is(CHECKOUT) && with.iter().all(|(name, _)| is_known(name))
}

/// Returns what steps in a file of `home` use that is to be fetched, and how it is written there.
fn uses(steps: &[Step], home: &Uses) -> Vec<(Uses, Uses)> {
    let uses = steps.iter().flat_map(Step::alone).filter_map(|step| match &step.action {
        Action::Uses { uses, with } if !is_own_checkout(uses, with) => {
            Some((uses.within(home), uses.clone()))
        }
        _ => None,
    });
    uses.filter(|(uses, _)| matches!(uses, Uses::Repository { .. })).collect()
}

/// Checks that the name of an action, or of a file in its repository, leads nowhere but to it: it becomes a path.
///
/// # Errors
///
/// A sentence, where it would.
pub fn check(uses: &Uses) -> Result<(), String> {
    let (owner, name, path, git_ref) = match uses {
        Uses::Repository { owner, name, path, git_ref } => (&**owner, &**name, path, &**git_ref),
        Uses::OwnRepository(path) => ("own", "own", path, "own"),
        Uses::Local(_) | Uses::Docker(_) => return Ok(()),
    };
    let is_plain = |part: &str| {
        let chars = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(chars) && !part.starts_with('.')
    };
    let is_below = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        parts.iter().all(|part| !matches!(*part, "" | "." | "..") && !part.contains(['\0', ':']))
    };
    let path_is_below = path.is_empty() || is_below(path);
    if is_plain(owner) && is_plain(name) && is_below(git_ref) && path_is_below {
        Ok(())
    } else {
        Err(format!("`{uses}` names nothing of a repository"))
    }
}

/// Reads a file of a repository that was fetched, by what names it; `None` where it has none. At most `max + 1` bytes
/// are read.
///
/// # Errors
///
/// Why it cannot be read, as a sentence.
pub fn read_in(fetched: &Fetched, uses: &Uses, max: u64) -> Result<Option<Vec<u8>>, String> {
    check(uses)?;
    let Uses::Repository { path, .. } = uses else { return Ok(None) };
    read_beneath(&fetched.folder, Path::new(path), max).map_err(|error| error.to_string())
}

/// Says that a folder has no manifest.
pub(crate) fn no_action(action: &str) -> String {
    format!("no action in `{action}`: it has neither action.yml nor action.yaml")
}

/// Reads the manifest of an action, by a way to read its files; `None` where it has none.
pub(crate) fn manifest(
    action: &str,
    read: impl Fn(&str) -> io::Result<Option<Vec<u8>>>,
) -> Result<Option<Manifest>, String> {
    for file in ["action.yml", "action.yaml"] {
        let path = format!("{action}/{file}");
        let found = read(file).map_err(|error| format!("cannot read {path}: {error}"))?;
        let Some(text) = found else { continue };
        if text.len() as u64 > MAX_MANIFEST {
            return Err(format!("{path} has more than {MAX_MANIFEST} bytes"));
        }
        let text = String::from_utf8_lossy(&text);
        return Manifest::read(&text).map(Some).map_err(|problems| {
            let problems = problems
                .iter()
                .map(|problem| format!("{path}:{}: {}", problem.line(&text), problem.message));
            problems.collect::<Vec<_>>().join("\n")
        });
    }
    let read =
        read("Dockerfile").map_err(|error| format!("cannot read {action}/Dockerfile: {error}"))?;
    // One without a manifest is what its Dockerfile builds.
    Ok(read.map(|_| Manifest::of_dockerfile()))
}
