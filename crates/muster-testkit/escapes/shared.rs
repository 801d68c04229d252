//! What a job could share with its neighbours, its predecessors, its successors and its supervisor.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::parts::{
    AT_FDCWD, O_PATH, Parts, Scratch, c_path, call, canary, canary_number, entries, leave_behind,
    place, processes, text,
};

/// Where the system looks for what to run later.
const LATER: &str = "\
    /etc/cron.d /etc/cron.hourly /var/spool/cron /var/spool/cron/crontabs /var/spool/at \
    /etc/systemd/system /run/systemd/system /usr/lib/systemd/system /etc/init.d /etc/profile.d \
    /etc/udev/rules.d /etc/sudoers.d /etc/ld.so.conf.d /etc /root /root/.ssh \
    /etc/xdg/autostart /usr/share/git-core/templates/hooks /usr/lib/git-core /opt/muster/tools \
    /opt/muster/repository/hooks /nix/store";
/// What the system runs or obeys later.
const OBEYED: &str = "\
    /etc/ld.so.preload /etc/crontab /etc/profile /etc/bash.bashrc /etc/environment \
    /etc/gitconfig /etc/rc.local /root/.bashrc /root/.profile /etc/resolv.conf \
    /opt/muster/repository/config /opt/muster/repository/packed-refs";

/// 27: Looks for shared memory, semaphores and message queues of others, and watches and locks a
/// file of the machine.
///
/// The folders of the system that a job may read are the machine's own: that it can also watch and
/// lock them is known, and no part of this.
pub(crate) fn by_name(parts: &mut Parts) {
    const SHM_STAT: i64 = 13;
    const SEM_STAT: i64 = 18;
    const MSG_STAT: i64 = 11;
    let mut about = [0_u64; 32];
    for index in 0..32 {
        let buffer = place(&mut about);
        parts.call("shmctl(SHM_STAT)", 31, &[index, SHM_STAT, buffer]);
        parts.call("semctl(SEM_STAT)", 66, &[index, 0, SEM_STAT, buffer]);
        parts.call("msgctl(MSG_STAT)", 71, &[index, MSG_STAT, buffer]);
    }
    if let Some(key) = canary_number::<i64>("CANARY_SHM") {
        parts.call("shmget", 29, &[key]);
        parts.call("semget", 64, &[key]);
        parts.call("msgget", 68, &[key]);
    }
    for kind in ["shm", "sem", "msg"] {
        let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
        parts.check(format!("/proc/sysvipc/{kind} lists some"), table.lines().count() > 1);
    }
    for folder in ["/dev/shm", "/dev/mqueue"] {
        let found = entries(folder);
        parts.check(format!("found {found:?} in {folder}"), !found.is_empty());
    }
    let Some(file) = canary("CANARY_FILE") else { return };
    let file = c_path(file);
    let watch = call("inotify_init1", 294, &[]).unwrap_or(-1);
    parts.call("inotify_add_watch", 254, &[watch, text(&file), 0xfff]);
    let fd = call("open", 2, &[text(&file), 0]).unwrap_or(-1);
    parts.call("flock", 73, &[fd, 6]);
}

/// 28: Looks for the secret in files of neighbours and predecessors, also deleted ones that are
/// still open, and for old content in fresh blocks.
pub(crate) fn remains(parts: &mut Parts) {
    for folder in ["/tmp", "/var/tmp", "/dev/shm", "/home", "/opt/hostedtoolcache", "/var/cache"] {
        search(parts, Path::new(folder), 6, &mut 5_000);
    }
    for pid in processes() {
        for fd in entries(format!("/proc/{pid}/fd")) {
            let path = format!("/proc/{pid}/fd/{fd}");
            if fs::metadata(&path).is_ok_and(|of| of.is_file()) {
                parts.secret_in(path);
            }
        }
    }
    let scratch = Scratch::new();
    // The second way asks for blocks as they were left (FALLOC_FL_NO_HIDE_STALE).
    for (name, mode) in [("blocks", 0), ("stale blocks", 4)] {
        let path = scratch.path(name);
        let Ok(file) = File::create(&path) else { continue };
        let given = call("fallocate", 285, &[file.as_raw_fd().into(), mode, 0, 16 << 20]).is_ok();
        let content = fs::read(&path).unwrap_or_default();
        let old = content.iter().any(|byte| *byte != 0);
        parts.check(format!("got {name}"), old || given && mode != 0);
    }
}

/// Looks for the secret in the files of a folder, down to some depth and some number of files.
fn search(parts: &mut Parts, folder: &Path, depth: usize, left: &mut usize) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if *left == 0 {
            return;
        }
        if kind.is_dir() && depth > 0 {
            search(parts, &entry.path(), depth - 1, left);
        } else if kind.is_file() {
            *left -= 1;
            parts.secret_in(entry.path());
        }
    }
}

/// 29: Leaves a daemon, and writes where the system looks for what to run later.
pub(crate) fn staying(parts: &mut Parts) {
    leave_behind(c"escape-daemon", || std::thread::sleep(std::time::Duration::from_secs(60)));
    for folder in LATER.split(' ') {
        parts.creates_in(folder);
    }
    for file in OBEYED.split(' ') {
        parts.writes(file);
    }
}

/// 32: Links files of the machine into a folder of its own, and leaves a folder that is swapped for
/// a link again and again while its supervisor takes the workspace away.
pub(crate) fn links(parts: &mut Parts) {
    const EMPTY_PATH: i64 = 0x1000;
    const FOLLOW: i64 = 0x400;
    let scratch = Scratch::new();
    let files = ["/etc/shadow", "/etc/passwd", "/usr/bin/env", "/opt/muster/bin/muster"];
    for file in canary("CANARY_FILE").into_iter().chain(files.map(str::to_owned)) {
        let link = scratch.path("link");
        let linked = fs::hard_link(&file, &link).is_ok();
        parts.check(format!("linked {file}"), linked);
        let _ = fs::remove_file(&link);
        let held = call("open", 2, &[text(&c_path(&file)), O_PATH]).unwrap_or(-1);
        let (path, link_path) = (c_path(format!("/proc/self/fd/{held}")), c_path(&link));
        for (from, name, flags) in [(held, c"", EMPTY_PATH), (AT_FDCWD, &*path, FOLLOW)] {
            let to = text(&link_path);
            parts.call("linkat", 265, &[from, text(name), AT_FDCWD, to, flags]);
            let _ = fs::remove_file(&link);
        }
    }
    if let Some(file) = canary("CANARY_FILE") {
        leave_bait(Path::new(&file).parent().unwrap_or(Path::new("/")));
    }
}

/// Leaves links to a folder of the machine in the working folder, and a process that swaps one of
/// them.
fn leave_bait(folder: &Path) {
    const SWAPS: usize = 100_000;
    const EXCHANGE: i64 = 2;
    let bait = Path::new("bait");
    let _ = fs::create_dir_all(bait.join("folder/below"));
    let _ = File::create(bait.join("folder/below/file"));
    let _ = symlink(folder, bait.join("link"));
    let _ = symlink(folder, bait.join("still"));
    leave_behind(c"escape-swapper", || {
        let (one, other) = (text(c"bait/folder"), text(c"bait/link"));
        for _ in 0..SWAPS {
            let _ = call("renameat2", 316, &[AT_FDCWD, one, AT_FDCWD, other, EXCHANGE]);
        }
    });
}
