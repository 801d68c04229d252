//! Programs of this machine that are no part of its system, and how a sandboxed job reaches them.
//!
//! What PATH names below a home (rustup, nvm, pyenv) is shown to the job under `/opt/muster/tools`, read
//! only, without the rest of the home; PATH and the variables of those version managers point there. A
//! job may add toolchains by rustup all the same: they go into its own home, where links lead to those that
//! are installed.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use muster_runner::spec::{Content, HOME, Kit, LODGING, Seed, Tool};

/// Where a job sees things that are elsewhere on this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Folders with programs.
    tools: &'static str,
    /// Its home.
    home: &'static str,
}

impl View {
    /// As in a sandbox.
    pub(super) const SANDBOX: Self = Self { tools: "/opt/muster/tools", home: HOME };
    /// As another user without one.
    pub(super) const GUEST: Self = Self { tools: "/run/muster/tools", home: LODGING };
}

/// Folders that are inside as they are outside.
const SYSTEM: [&str; 4] = ["/usr", "/bin", "/sbin", "/nix/store"];
/// Folders of `/opt` that are muster's own inside.
const OWN: [&str; 2] = ["hostedtoolcache", "muster"];
/// The largest file of a version manager that is copied.
const MAX_TEXT: u64 = 1 << 20;
/// The program that all of its other names lead to.
const RUSTUP: &str = "rustup";
/// Where it is in a job's home. By its name there is a script, which knows that the machine's toolchains are links.
const REAL_RUSTUP: &str = ".rustup/muster/rustup";
/// The PATH of who is not trusted with more.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the system's programs alone.
pub(super) fn system() -> Kit {
    let path = ("PATH".to_owned(), SYSTEM_PATH.to_owned());
    Kit { environment: vec![path], ..Kit::default() }
}

/// Returns the programs that this process's PATH leads to, and the folders `more`.
pub(super) fn installed(view: View, more: &[PathBuf]) -> Kit {
    Toolbox::filled(view, more).kit
}

/// A kit in the making.
struct Toolbox {
    view: View,
    kit: Kit,
}

impl Toolbox {
    fn filled(view: View, more: &[PathBuf]) -> Self {
        let mut toolbox = Self { view, kit: Kit::default() };
        let mut path: Vec<String> = Vec::new();
        let ours = env::var_os("PATH").unwrap_or_default();
        let mut seen = BTreeSet::new();
        for folder in env::split_paths(&ours).filter(|f| f.is_absolute() && f.is_dir()) {
            if seen.insert(folder.clone()) {
                let inside = toolbox.show(&folder);
                path.extend(inside.into_iter().map(|inside| inside.to_string_lossy().into_owned()));
            }
        }
        for folder in more {
            toolbox.add(folder, folder.clone());
        }
        let mut unique = BTreeSet::new();
        path.retain(|folder| unique.insert(folder.clone()));
        toolbox.kit.environment.push(("PATH".to_owned(), path.join(":")));
        toolbox
    }

    /// Makes a folder of PATH visible inside; returns where it is there.
    fn show(&mut self, folder: &Path) -> Vec<PathBuf> {
        if SYSTEM.iter().any(|system| folder.starts_with(system)) {
            return vec![folder.to_owned()];
        }
        let tools = Path::new(self.view.tools);
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let root = |variable: &str, below: &str| {
            env::var_os(variable).map_or_else(|| home.join(below), PathBuf::from)
        };
        let pyenv = root("PYENV_ROOT", ".pyenv");
        if folder.starts_with(&pyenv) {
            let inside = self.manager("PYENV_ROOT", &pyenv, "pyenv");
            // What it has built names its own path: libraries, and the first lines of scripts.
            if let Some(tool) = self.kit.tools.iter_mut().find(|tool| tool.to == inside) {
                tool.known_as = Some(pyenv.clone());
            }
            let versions = fs::read_to_string(pyenv.join("version")).unwrap_or_default();
            let versions =
                versions.split_whitespace().map(|name| inside.join("versions").join(name));
            return versions.map(|version| version.join("bin")).collect();
        }
        let nvm = root("NVM_DIR", ".nvm");
        if let Ok(below) = folder.strip_prefix(&nvm) {
            return vec![self.manager("NVM_DIR", &nvm, "nvm").join(below)];
        }
        if folder == root("CARGO_HOME", ".cargo").join("bin") {
            let rustup = root("RUSTUP_HOME", ".rustup");
            if rustup.is_dir() {
                let inside = tools.join("rustup");
                if self.add(&rustup, inside.clone()) {
                    self.rustup(&rustup, &inside);
                }
                // A toolchain may be a link to another, by its full path.
                if has_links(&rustup.join("toolchains"))
                    && let Some(tool) = self.kit.tools.iter_mut().find(|tool| tool.to == inside)
                {
                    tool.known_as = Some(rustup);
                }
            }
            let inside = tools.join("cargo/bin");
            self.add(folder, inside.clone());
            return vec![self.cargo(folder, &inside)];
        }
        // Below `/opt` a program has its libraries beside it.
        if let Ok(below) = folder.strip_prefix("/opt")
            && let Some(product) = below.components().next()
            && !OWN.contains(&&*product.as_os_str().to_string_lossy())
        {
            let product = Path::new("/opt").join(product);
            self.add(&product, product.clone());
            return vec![folder.to_owned()];
        }
        let inside = tools.join(self.kit.tools.len().to_string());
        self.add(folder, inside.clone());
        vec![inside]
    }

    /// Gives the job a `RUSTUP_HOME` of its own, with what is installed in `rustup`.
    fn rustup(&mut self, rustup: &Path, inside: &Path) {
        let mut plant = |path: PathBuf, content| self.kit.home.push(Seed { path, content });
        let own = Path::new(".rustup");
        let names = |folder: &str| -> Vec<PathBuf> {
            let names = readable_names(&rustup.join(folder)).into_iter();
            names.map(|name| Path::new(folder).join(name)).collect()
        };
        for toolchain in names("toolchains") {
            plant(own.join(&toolchain), Content::Link(inside.join(&toolchain)));
        }
        for hash in names("update-hashes") {
            if let Some(text) = small_text(&rustup.join(&hash)) {
                plant(own.join(&hash), Content::Text(text));
            }
        }
        let mut settings = small_text(&rustup.join("settings.toml")).unwrap_or_default();
        // A job that installs a toolchain did not ask for another rustup.
        if !settings.contains("auto_self_update") {
            settings.insert_str(0, "auto_self_update = \"disable\"\n");
        }
        plant(own.join("settings.toml"), Content::Text(settings));
        let variable = Path::new(self.view.home).join(own).to_string_lossy().into_owned();
        self.kit.environment.push(("RUSTUP_HOME".to_owned(), variable));
    }

    /// Gives the job a folder of its own for what `cargo install` builds, with links to the programs in
    /// `folder`; returns where it is inside.
    fn cargo(&mut self, folder: &Path, inside: &Path) -> PathBuf {
        let own = Path::new(".cargo/bin");
        let path = Path::new(self.view.home).join(own);
        for name in readable_names(folder) {
            let from = folder.join(&name);
            let is_rustup = fs::read_link(&from).is_ok_and(|to| to == Path::new(RUSTUP));
            let content = if name == RUSTUP {
                let real = Content::Program(fs::canonicalize(&from).unwrap_or(from));
                self.kit.home.push(Seed { path: REAL_RUSTUP.into(), content: real });
                Content::Script(include_str!("../../assets/rustup.sh").to_owned())
            } else if is_rustup {
                Content::Link(Path::new("../..").join(REAL_RUSTUP))
            } else {
                Content::Link(inside.join(&name))
            };
            self.kit.home.push(Seed { path: own.join(name), content });
        }
        path
    }

    /// Shows the folder of a version manager, and says where it is.
    fn manager(&mut self, variable: &str, folder: &Path, name: &str) -> PathBuf {
        let inside = Path::new(self.view.tools).join(name);
        if self.add(folder, inside.clone()) {
            let value = inside.to_string_lossy().into_owned();
            self.kit.environment.push((variable.to_owned(), value));
        }
        inside
    }

    /// Adds a folder, once; returns false for one that is there already.
    fn add(&mut self, from: &Path, to: PathBuf) -> bool {
        if self.kit.tools.iter().any(|tool| tool.to == to) || !from.is_dir() {
            return false;
        }
        self.kit.tools.push(Tool { from: from.to_owned(), to, known_as: None });
        true
    }
}

/// Returns the names in a folder that are UTF-8.
fn readable_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Reads a small regular file; what else stands in its place is nothing that a job needs.
fn small_text(file: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(file).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_TEXT).then(|| fs::read_to_string(file).ok())?
}

fn has_links(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
}
