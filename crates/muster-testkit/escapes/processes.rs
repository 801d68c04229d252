//! Other processes, other users, and the terminal.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::parent_id;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::parts::{
    Parts, SIGCONT, SIGKILL, SIGSTOP, Scratch, c_path, call, field, host_process, in_child, place,
    text,
};

/// 4: Traces the first process, our parent and a process of the machine, and reads and writes their
/// memory and descriptors.
pub(crate) fn tracing(parts: &mut Parts) {
    const ATTACH: i64 = 16;
    const DETACH: i64 = 17;
    const SEIZE: i64 = 0x4206;
    const ANY_CHILD: i64 = 0x4000_0000;
    let parent = i64::from(parent_id());
    for pid in [1, parent].into_iter().chain(host_process()) {
        // A tracer that ends lets go of what it has seized.
        parts.call_in_child("ptrace(PTRACE_SEIZE)", 101, &[SEIZE, pid]);
        let attached = in_child(|| {
            let attached = call("ptrace", 101, &[ATTACH, pid]).is_ok();
            if attached {
                let _ = call("wait4", 61, &[pid, 0, ANY_CHILD]);
                let _ = call("ptrace", 101, &[DETACH, pid]);
            }
            attached
        });
        parts.check(format!("attached to process {pid}"), attached);
        let mut byte = [0_u8];
        let mut here = [place(&mut byte), 1];
        let mut nowhere = [1_i64, 1];
        let vectors = [pid, place(&mut here), 1, place(&mut nowhere), 1, 0];
        parts.permission("process_vm_readv", 310, &vectors);
        parts.permission("process_vm_writev", 311, &vectors);
        let descriptor = call("pidfd_open", 434, &[pid]).unwrap_or(-1);
        parts.call("pidfd_getfd", 438, &[descriptor, 0]);
        parts.call("kcmp", 312, &[i64::from(std::process::id()), pid, 1]);
        // The memory of our parent is ours: it is the same job.
        if pid != parent {
            for file in ["mem", "maps", "environ", "syscall", "stack"] {
                parts.reads(format!("/proc/{pid}/{file}"));
            }
            parts.writes(format!("/proc/{pid}/mem"));
        }
    }
}

/// 5: Kills and stops the first process, and reaches a process of the machine by each call that
/// signals or bounds a process.
pub(crate) fn signals(parts: &mut Parts) {
    for signal in [SIGSTOP, SIGKILL] {
        let _ = call("kill", 62, &[1, signal]);
    }
    std::thread::sleep(Duration::from_millis(50));
    let stopped = field(&fs::read_to_string("/proc/1/status").unwrap_or_default(), "State:")
        .is_some_and(|state| state == "T");
    if stopped {
        let _ = call("kill", 62, &[1, SIGCONT]);
    }
    parts.check("stopped process 1", stopped);
    let Some(pid) = host_process() else { return };
    // Signal 0 only asks whether one may.
    parts.call("kill", 62, &[pid, 0]);
    parts.call("kill", 62, &[-pid, 0]);
    parts.call("tkill", 200, &[pid, 0]);
    parts.call("tgkill", 234, &[pid, pid, 0]);
    let mut info = [0_i32; 32];
    info[2] = -1; // SI_QUEUE
    parts.call("rt_sigqueueinfo", 129, &[pid, 0, place(&mut info)]);
    parts.call("rt_tgsigqueueinfo", 297, &[pid, pid, 0, place(&mut info)]);
    if let Some(descriptor) = parts.call("pidfd_open", 434, &[pid]) {
        parts.call("pidfd_send_signal", 424, &[descriptor, 0]);
    }
    let mut pipe = [0_i32; 2];
    let _ = call("pipe2", 293, &[place(&mut pipe)]);
    parts.call("fcntl(F_SETOWN)", 72, &[pipe[0].into(), 8, pid]);
    let mut limit = [0_u64; 2];
    parts.call("prlimit64", 302, &[pid, 7, 0, place(&mut limit)]);
    parts.call("getpriority", 140, &[0, pid]);
    parts.call("sched_getscheduler", 145, &[pid]);
    parts.call("getsid", 124, &[pid]);
}

/// 11: Makes programs with other owners and capabilities, and runs those that the system has.
///
/// `ping` is not among them: its socket is tried in 20, and one without privileges is harmless.
pub(crate) fn programs(parts: &mut Parts) {
    let scratch = Scratch::new();
    let copy = scratch.path("program");
    let _ = fs::copy("/proc/self/exe", &copy);
    parts.check("gave a file to root", chown(&copy, Some(0), Some(0)).is_ok());
    let _ = fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755));
    // Every capability, permitted and effective (`struct vfs_cap_data`, version 2).
    let mut all = [0x0200_0001_u32, u32::MAX, 0, u32::MAX, 0];
    let (path, name) = (c_path(&copy), text(c"security.capability"));
    parts.call("setxattr", 188, &[text(&path), name, place(&mut all), 20, 0]);
    // None of them is to ask for a password on the terminal.
    let _ = call("setsid", 112, &[]);
    let parent = parent_id().to_string();
    for words in [
        &["sudo", "-n", "true"] as &[&str],
        &["su", "-c", "true"],
        &["sg", "root", "-c", "true"],
        &["newuidmap", &parent, "0", "0", "1"],
        &["newgidmap", &parent, "0", "0", "1"],
    ] {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let done = command.status().is_ok_and(|status| status.success());
        parts.check(words.join(" "), done);
    }
}

/// 12: Becomes root, takes capabilities, maps users, undoes the restrictions; and looks at what is
/// in force.
pub(crate) fn privileges(parts: &mut Parts) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        let set = field(&status, name).unwrap_or("unknown");
        parts.check(format!("{name} {set}"), set.bytes().any(|digit| digit != b'0'));
    }
    for (name, expected) in [("NoNewPrivs:", "1"), ("Seccomp:", "2")] {
        let value = field(&status, name).unwrap_or("unknown");
        parts.check(format!("{name} {value}"), value != expected);
    }
    parts.check("is user 0", call("getuid", 102, &[]).is_ok_and(|user| user == 0));
    for (file, text) in [("uid_map", "0 0 1"), ("gid_map", "0 0 1"), ("setgroups", "allow")] {
        let written = fs::write(format!("/proc/self/{file}"), text).is_ok();
        parts.check(format!("wrote {file}"), written);
    }
    let mut root = [0_u32];
    let mut header = [0x2008_0522_u32, 0];
    let mut sets = [u32::MAX; 6];
    // Each on its own, for who is root once can do the rest.
    for (name, number, arguments) in [
        ("setuid", 105, vec![0]),
        ("setgid", 106, vec![0]),
        ("setreuid", 113, vec![0, 0]),
        ("setresuid", 117, vec![0, 0, 0]),
        ("setresgid", 119, vec![0, 0, 0]),
        ("setgroups", 116, vec![1, place(&mut root)]),
        ("capset", 126, vec![place(&mut header), place(&mut sets)]),
        ("prctl(PR_CAP_AMBIENT_RAISE)", 157, vec![47, 2, 21]),
        ("prctl(PR_SET_SECUREBITS)", 157, vec![28, 0]),
        ("prctl(PR_CAPBSET_DROP)", 157, vec![24, 21]),
        ("prctl(PR_SET_NO_NEW_PRIVS, 0)", 157, vec![38, 0]),
        ("prctl(PR_SET_SECCOMP, none)", 157, vec![22, 0]),
    ] {
        parts.call_in_child(name, number, &arguments);
    }
    let file_user = in_child(|| {
        // Tells nothing but who it is now.
        let _ = call("setfsuid", 122, &[0]);
        call("setfsuid", 122, &[-1]).is_ok_and(|user| user == 0)
    });
    parts.check("setfsuid", file_user);
}

/// 26: Types into its terminal, if it has inherited one.
pub(crate) fn terminal(parts: &mut Parts) {
    const TYPE: i64 = 0x5412; // TIOCSTI
    const LINUX: i64 = 0x541c; // TIOCLINUX
    const SHIFT_STATE: u8 = 6;
    let terminal = call("open", 2, &[text(c"/dev/tty"), 2]).ok();
    for fd in (0..3).chain(terminal) {
        // The kernel looks at the lower half of a request, a filter may look at all of it.
        for request in [TYPE, TYPE | 1 << 32] {
            parts.call("ioctl(TIOCSTI)", 16, &[fd, request, text(c" ")]);
        }
        for request in [LINUX, LINUX | 1 << 32] {
            parts.call("ioctl(TIOCLINUX)", 16, &[fd, request, place(&mut [SHIFT_STATE])]);
        }
    }
}

/// Commands of other runners, the end of a step as our own init tells it, and a screen that is
/// cleared.
const FORGED: &str = "\
    ::set-env name=ESCAPE_FORGED::yes\n::add-path::/tmp/escape-forged\n\
    ::stop-commands::escape-forged\n##[add-matcher]/tmp/escape-forged\n\
    \0\0\0\0\0\0\0\0\n\x1b[2J\x1b]0;escape-forged\x07\n\
    {\"step\":1,\"conclusion\":\"success\"}";

/// 34: Writes what a supervisor might take for its own to standard error, and to the pipes by which
/// steps are started and their ends told.
pub(crate) fn forgery(parts: &mut Parts) {
    eprintln!("{FORGED}");
    for pid in [1].into_iter().chain(host_process()) {
        parts.reads(format!("/proc/{pid}/fd"));
        for fd in 3..64 {
            parts.writes(format!("/proc/{pid}/fd/{fd}"));
        }
    }
}
