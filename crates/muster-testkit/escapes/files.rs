//! Files, descriptors and folders of the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::parent_id;
use std::path::Path;

use crate::parts::{
    O_PATH, Parts, Scratch, UP, c_path, call, canary, entries, in_child, place, processes, text,
};

/// What a job has no business with.
const PRIVATE: &str = "\
    /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh/ssh_host_ed25519_key /etc/ssl/private \
    /etc/machine-id /var/lib/muster /etc/muster /etc/muster.toml /var/lib/docker \
    /var/lib/containers /var/log /var/spool /var/mail /run/secrets /boot /lost+found";
/// Folders of the system that nobody changes from inside.
const FOLDERS: &str = "\
    / /usr /usr/bin /usr/local/bin /usr/lib /usr/share /bin /sbin /lib /etc /var /opt /home \
    /opt/muster/bin /opt/muster/repository /opt/muster/repository/objects";
/// Files of the system, and the runner's own program, that nobody changes from inside.
const FILES: &str = "\
    /bin/sh /usr/bin/env /etc/passwd /etc/hosts /etc/ld.so.cache /lib64/ld-linux-x86-64.so.2 \
    /opt/muster/bin/muster /opt/muster/repository/config";

/// 1: Opens private files by absolute path and through the root and the working folder of every
/// process, and looks for homes of others.
pub(crate) fn private(parts: &mut Parts) {
    for path in PRIVATE.split(' ') {
        parts.reads(path);
    }
    let ours = std::env::var("HOME").unwrap_or_default();
    let homes = entries("/home").into_iter().map(|name| Path::new("/home").join(name));
    for home in homes.chain(["/root".into()]).filter(|home| !Path::new(&ours).starts_with(home)) {
        // A link leads to something that has its own part, or to nothing.
        let found = entries(&home).into_iter().map(|name| home.join(name));
        found.filter(|path| !path.is_symlink()).for_each(|path| parts.reads(path));
    }
    for file in canary("CANARY_FILE").iter().map(String::as_str).chain(["/etc/shadow"]) {
        parts.reads(file);
        for pid in processes() {
            parts.reads(format!("/proc/{pid}/root{file}"));
            parts.reads(format!("/proc/{pid}/cwd/{UP}{file}"));
        }
    }
}

/// 2: Looks for the secret in the environment and the command line of every process and thread, our
/// own included.
pub(crate) fn environments(parts: &mut Parts) {
    for pid in processes() {
        for thread in entries(format!("/proc/{pid}/task")) {
            for file in ["environ", "cmdline", "comm"] {
                parts.secret_in(format!("/proc/{pid}/task/{thread}/{file}"));
            }
        }
    }
}

/// 3: Looks for inherited descriptors, leaves through the three that there must be, and takes those
/// of the first process.
pub(crate) fn descriptors(parts: &mut Parts) {
    const GETFD: i64 = 1;
    for fd in 3..4096 {
        if call("fcntl", 72, &[fd, GETFD]).is_ok() {
            let to = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            parts.check(format!("inherited descriptor {fd}, {}", to.display()), true);
        }
    }
    for fd in 0..3 {
        parts.call("fchdir", 81, &[fd]);
        parts.call("openat", 257, &[fd, text(c".."), 0]);
    }
    let first = call("pidfd_open", 434, &[1]).unwrap_or(-1);
    for fd in 0..16 {
        parts.call("pidfd_getfd", 438, &[first, fd]);
    }
}

/// 9: Writes to the system: makes files in it, opens its files, changes their modes, and reaches
/// for the program of every process (CVE-2019-5736).
pub(crate) fn system(parts: &mut Parts) {
    for folder in FOLDERS.split(' ') {
        parts.creates_in(folder);
    }
    for file in FILES.split(' ') {
        parts.writes(file);
        let mode = fs::metadata(file).map(|of| of.permissions());
        let changed = mode.and_then(|mode| fs::set_permissions(file, mode)).is_ok();
        parts.check(format!("changed the mode of {file}"), changed);
    }
    for pid in processes().into_iter().chain(["self".to_owned()]) {
        let program = format!("/proc/{pid}/exe");
        parts.writes(&program);
        // Held open without a right, and asked for the right later.
        let held = call("open", 2, &[text(&c_path(program)), O_PATH]).unwrap_or(-1);
        parts.writes(format!("/proc/self/fd/{held}"));
    }
}

/// 10: Makes a folder outside the working folder through `/proc` (CVE-2024-21626), and through
/// symbolic links into it.
pub(crate) fn folders(parts: &mut Parts) {
    let scratch = Scratch::new();
    let there = std::env::current_dir().is_ok_and(|folder| folder.is_absolute());
    parts.check("the working folder lies outside the root", !there);
    let mut ways: Vec<String> = (0..64).map(|fd| format!("/proc/self/fd/{fd}")).collect();
    for pid in ["1", "self", &parent_id().to_string()] {
        ways.extend(["root", "cwd", "fd/3", "fd/4"].map(|name| format!("/proc/{pid}/{name}")));
    }
    for (number, way) in ways.iter().enumerate() {
        let link = scratch.path(&number.to_string());
        let _ = symlink(way, &link);
        for way in [Path::new(way), &link] {
            // A folder that we can enter anyway is harmless; what lies above it need not be.
            let outside = in_child(|| std::env::set_current_dir(way).is_ok() && is_outside());
            parts.check(format!("left the root through {}", way.display()), outside);
        }
    }
}

/// Returns whether the kernel has no path for the working folder, or files of the machine lie above
/// it.
fn is_outside() -> bool {
    let mut path = [0_u8; 4096];
    let _ = call("getcwd", 79, &[place(&mut path), 4096]);
    let files = canary("CANARY_FILE").into_iter().chain(["/etc/shadow".to_owned()]);
    path[0] != b'/' || files.into_iter().any(|file| fs::File::open(format!("{UP}{file}")).is_ok())
}
