//! What of the machine a job sees, and where: the system, its settings, the repository, what its home
//! starts with.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use muster_sys::sandbox::Bind;

use crate::spec::{Content, JobSpec, Seed};

/// Folders of the system that are inside as they are outside.
const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];
/// What of `/etc` is inside: what programs need to start and to find each other, nothing private.
/// Files are copied, for a mount costs more.
const SETTINGS: [&str; 17] = [
    "bash.bashrc",
    "debian_version",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "localtime",
    "lsb-release",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "profile",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "timezone",
];
/// Folders of `/etc` that are inside.
const SETTINGS_FOLDERS: [&str; 8] = [
    "alternatives",
    "crypto-policies",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "pki/ca-trust",
    "pki/tls/certs",
    "ssl/certs",
];
/// How far a chain of borrowed object folders is followed.
const MAX_ALTERNATES: usize = 8;

/// Returns whether nobody but us can write to a file.
fn is_ours_alone(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let ours = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(file)
        .is_ok_and(|of| of.is_file() && of.uid() == ours && of.mode() & 0o022 == 0)
}

/// Puts something into the home of a job that does not run yet, which its steps see at `inside`; returns
/// what has to be bound there.
pub(super) fn plant(
    home: &Path,
    inside: &Path,
    seed: &Seed,
    user: Option<u32>,
) -> io::Result<Option<Bind>> {
    let path = home.join(&seed.path);
    for folder in seed.path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let folder = home.join(folder);
        if !folder.is_dir() {
            fs::create_dir(&folder)?;
            std::os::unix::fs::chown(&folder, user, user)?;
        }
    }
    match &seed.content {
        Content::Link(to) => std::os::unix::fs::symlink(to, &path)?,
        Content::Text(text) => fs::write(&path, text)?,
        Content::Script(text) => {
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        // To another user a file of ours is closed, in whatever folder.
        Content::Program(from)
            if user.is_some() && is_ours_alone(from) && fs::hard_link(from, &path).is_ok() =>
        {
            return Ok(None);
        }
        Content::Program(from) => {
            return Ok(Some(read_only(from, inside.join(&seed.path))));
        }
    }
    std::os::unix::fs::lchown(&path, user, user)?;
    Ok(None)
}

/// Shows a file or folder that never changes.
pub(super) fn read_only(from: &Path, to: impl Into<PathBuf>) -> Bind {
    Bind { from: from.to_owned(), to: to.into(), writable: false }
}

/// Symbolic links: where, and to what.
type Links = Vec<(PathBuf, PathBuf)>;

/// Returns the system's folders, and those that are only links.
pub(super) fn system() -> io::Result<(Vec<Bind>, Links)> {
    let (mut binds, mut links) = (Vec::new(), Vec::new());
    for folder in SYSTEM {
        match fs::symlink_metadata(folder) {
            Ok(metadata) if metadata.is_symlink() => {
                links.push((folder.into(), fs::read_link(folder)?));
            }
            Ok(metadata) if metadata.is_dir() => binds.push(read_only(Path::new(folder), folder)),
            _ => {}
        }
    }
    Ok((binds, links))
}

/// Returns what is in `/etc` inside; users, groups and host names are the sandbox's own.
pub(super) fn settings(folder: &Path, network: bool) -> io::Result<Vec<Bind>> {
    let host = Path::new("/etc");
    let etc = folder.join("etc");
    fs::create_dir_all(&etc)?;
    let write = |name: &str, content: &[u8]| -> io::Result<()> {
        let path = etc.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&etc))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))
    };
    for (name, content) in [
        (
            "passwd",
            "root:x:0:0:root:/root:/usr/sbin/nologin\nrunner:x:1001:1001::/home/runner:/bin/bash\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ),
        ("group", "root:x:0:\nrunner:x:1001:\nnogroup:x:65534:\n"),
        ("hosts", "127.0.0.1 localhost runner\n::1 localhost runner\n"),
        ("hostname", "runner\n"),
    ] {
        write(name, content.as_bytes())?;
    }
    // With this machine's network come the names that it knows.
    let more: &[&str] = if network { &["hosts", "resolv.conf"] } else { &[] };
    for name in SETTINGS.iter().chain(more) {
        // One that is not there is not there inside either.
        if let Ok(content) = fs::read(host.join(name)) {
            write(name, &content)?;
        }
    }
    let mut binds = vec![read_only(&etc, host)];
    for name in SETTINGS_FOLDERS {
        let path = host.join(name);
        if path.is_dir() {
            fs::create_dir_all(etc.join(name))?;
            binds.push(read_only(&path, path.clone()));
        }
    }
    Ok(binds)
}

/// Returns the file of users with the job's own in it, as a user of this machine who has no name here.
pub(super) fn users(folder: &Path, user: u32, home: &str) -> io::Result<Vec<Bind>> {
    let host = Path::new("/etc/passwd");
    let mut known = fs::read_to_string(host)?;
    if !known.ends_with('\n') {
        known.push('\n');
    }
    // The name may be somebody's here; both have it then, and the number counts.
    let path = folder.join("passwd");
    fs::write(&path, format!("{known}runner:x:{user}:{user}::{home}:/bin/bash\n"))?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(vec![read_only(&path, host)])
}

/// Returns the objects and refs of the repository, and nothing of its configuration.
pub(super) fn repository(spec: &JobSpec, inside: &Path, objects: &Path) -> io::Result<Vec<Bind>> {
    let source = &spec.source;
    let folder = spec.folder.join("repository");
    for name in ["objects", "refs"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for (name, content) in [
        ("HEAD", "ref: refs/heads/none\n"),
        ("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"),
        ("packed-refs", ""),
    ] {
        let path = folder.join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    let mut binds = vec![read_only(&folder, inside)];
    for name in ["objects", "refs", "packed-refs"] {
        let path = source.git_dir.join(name);
        if path.exists() {
            binds.push(read_only(&path, inside.join(name)));
        }
    }
    alternates(&source.git_dir.join("objects"), &inside.join("objects"), &mut binds, 0);
    if let Some(extra) = &source.extra_objects {
        binds.push(read_only(extra, objects));
    }
    Ok(binds)
}

/// Adds the object folders that one borrows from, where git will look for them.
pub(super) fn alternates(from: &Path, to: &Path, binds: &mut Vec<Bind>, depth: usize) {
    let Ok(list) = fs::read_to_string(from.join("info/alternates")) else { return };
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (next, inside) = (from.join(line), plain(&to.join(line)));
        if depth < MAX_ALTERNATES && next.is_dir() && !binds.iter().any(|bind| bind.to == inside) {
            binds.push(read_only(&next, &inside));
            alternates(&next, &inside, binds, depth + 1);
        }
    }
}

/// Takes `..` out of a path, by its words alone.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}
