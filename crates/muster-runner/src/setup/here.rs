//! What is on this machine and in its tool cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nodejs_semver::Version;

use super::wanted::{Versions, shown, version};
use super::{Found, Tool, arch, go, node, python, variable};

/// The most programs that are asked for their version.
const MOST: usize = 64;

/// What is here of a tool.
pub(super) struct Here {
    tool: Tool,
    cached: Vec<(Version, Found)>,
    /// Found out when it is needed.
    machine: Option<Machine>,
}

/// What this machine has.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) found: Vec<(Version, Found)>,
    /// What is there and cannot be used, and why.
    pub(super) unusable: Vec<String>,
}

impl Here {
    pub(super) fn new(tool: Tool) -> Self {
        Self { tool, cached: cached(tool), machine: None }
    }

    /// Returns the newest of these versions: of the tool cache, else of this machine.
    ///
    /// # Errors
    ///
    /// A sentence, where there is none.
    pub(super) fn choose(&mut self, wanted: &Versions) -> Result<Found, String> {
        if let Some(found) = newest(&self.cached, wanted) {
            return Ok(found);
        }
        let tool = self.tool;
        let machine = self.machine.get_or_insert_with(|| match tool {
            Tool::Node => node::on_this_machine(),
            Tool::Python => python::on_this_machine(),
            Tool::Go => go::on_this_machine(),
        });
        newest(&machine.found, wanted).ok_or_else(|| {
            let all = self.cached.iter().chain(&machine.found);
            let versions: BTreeSet<&Version> = all.map(|(version, _)| version).collect();
            let mut there: Vec<String> = versions.iter().map(ToString::to_string).collect();
            there.extend(machine.unusable.iter().cloned());
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let (name, wanted) = (tool.name(), shown(&wanted.text));
            format!(
                "{name} {wanted} is neither in the tool cache nor on this machine (there: {there})"
            )
        })
    }
}

fn newest(all: &[(Version, Found)], wanted: &Versions) -> Option<Found> {
    let fitting = all.iter().filter(|(version, _)| wanted.has(version));
    fitting.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, found)| found.clone())
}

/// Lists what a [tool cache](https://github.com/actions/toolkit/tree/main/packages/tool-cache) has, whole.
fn cached(tool: Tool) -> Vec<(Version, Found)> {
    let folder = PathBuf::from(variable("RUNNER_TOOL_CACHE")).join(tool.folder());
    let versions = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = versions.filter_map(|entry| {
        let root = entry.path().join(arch());
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = version(&name)?;
        let program = match tool {
            Tool::Node => "bin/node",
            Tool::Python => "bin/python",
            Tool::Go => "bin/go",
        };
        let program = root.join(program);
        let is_whole = root.with_extension("complete").exists() && program.exists();
        is_whole.then_some((version, Found { version: name, program, cached: Some(root) }))
    });
    found.collect()
}

/// Returns the programs in PATH, and in more folders, whose names count, each once, in their order.
pub(super) fn programs(more: &[PathBuf], counts: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let path = variable("PATH");
    let folders = path.split(':').filter(|folder| folder.starts_with('/')).map(PathBuf::from);
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for folder in folders.chain(more.iter().cloned()) {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| counts(name)).collect();
        names.sort();
        for name in names {
            let path = folder.join(name);
            let Ok(real) = path.canonicalize() else { continue };
            // A shim is one program of many names.
            let key = if is_shim(&folder) { path.clone() } else { real };
            if found.len() < MOST && seen.insert(key) {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the folders with programs of all versions that a version manager has: below where a variable says, or a folder
/// of PATH lets think that it is.
pub(super) fn managed(root: &str, in_path: &str, versions: &str) -> Vec<PathBuf> {
    let (root, path) = (variable(root), variable("PATH"));
    let of_path = path.split(':').map(Path::new).filter(|folder| folder.ends_with(in_path));
    let of_path = of_path.filter_map(Path::parent).map(|root| root.join(versions));
    let known = (!root.is_empty()).then(|| Path::new(&root).join(versions));
    let folders = known.into_iter().chain(of_path).filter(|folder| folder.is_absolute());
    let entries = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    entries.map(|entry| entry.path().join("bin")).collect()
}

fn is_shim(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "shims")
}
