//! Which system calls a sandboxed process may make.
//!
//! An allow-list, after the container world's default profile for a process without capabilities,
//! without what has been the way out of a sandbox before: namespaces, tracing, kernel keys, io_uring,
//! handles, sockets beyond Unix and the Internet, and asynchronous I/O, of which the whole machine has so
//! much and no more. A call that is not on it gets the answer of a kernel too old to know it (`ENOSYS`), so
//! that programs fall back.

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Lists calls with their names.
macro_rules! calls {
    ($($call:ident),* $(,)?) => { &[$(($call, stringify!($call))),*] };
}

/// Calls that are allowed whatever their arguments.
#[rustfmt::skip]
const ALLOWED: &[(c_long, &str)] = calls![
    SYS_accept, SYS_accept4, SYS_adjtimex, SYS_bind, SYS_brk, SYS_capget, SYS_capset, SYS_chdir,
    SYS_clock_adjtime, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close,
    SYS_close_range, SYS_connect, SYS_copy_file_range, SYS_dup, SYS_dup3, SYS_epoll_create1,
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2, SYS_execve, SYS_execveat,
    SYS_exit, SYS_exit_group, SYS_faccessat, SYS_faccessat2, SYS_fadvise64, SYS_fallocate,
    SYS_fchdir, SYS_fchmod, SYS_fchmodat, SYS_fchmodat2, SYS_fchown, SYS_fchownat, SYS_fcntl,
    SYS_fdatasync, SYS_fgetxattr, SYS_flistxattr, SYS_flock, SYS_fremovexattr, SYS_fsetxattr,
    SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_futex_waitv, SYS_getcpu,
    SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups,
    SYS_getitimer, SYS_getpeername, SYS_getpgid, SYS_getpid, SYS_getppid, SYS_getpriority,
    SYS_getrandom, SYS_getresgid, SYS_getresuid, SYS_getrlimit, SYS_get_mempolicy,
    SYS_get_robust_list, SYS_getrusage, SYS_getsid, SYS_getsockname, SYS_getsockopt, SYS_gettid,
    SYS_gettimeofday, SYS_getuid, SYS_getxattr, SYS_inotify_add_watch, SYS_inotify_init1,
    SYS_inotify_rm_watch, SYS_io_cancel, SYS_io_destroy, SYS_io_getevents,
    SYS_ioprio_get, SYS_ioprio_set, SYS_io_submit, SYS_kill, SYS_landlock_add_rule,
    SYS_landlock_create_ruleset, SYS_landlock_restrict_self, SYS_lgetxattr, SYS_linkat, SYS_listen,
    SYS_listxattr, SYS_llistxattr, SYS_lremovexattr, SYS_lseek, SYS_lsetxattr, SYS_madvise,
    SYS_mbind, SYS_membarrier, SYS_memfd_create, SYS_mincore, SYS_mkdirat, SYS_mknodat, SYS_mlock,
    SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mprotect, SYS_mq_getsetattr, SYS_mq_notify,
    SYS_mq_open, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_mq_unlink, SYS_mremap, SYS_msgctl,
    SYS_msgget, SYS_msgrcv, SYS_msgsnd, SYS_msync, SYS_munlock, SYS_munlockall, SYS_munmap,
    SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_openat2, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_ppoll,
    SYS_prctl, SYS_pread64, SYS_preadv, SYS_preadv2, SYS_process_mrelease,
    SYS_pselect6, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readahead,
    SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_remap_file_pages,
    SYS_removexattr, SYS_renameat, SYS_renameat2, SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction,
    SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo, SYS_rt_sigreturn,
    SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo, SYS_sched_getaffinity,
    SYS_sched_getattr, SYS_sched_getparam, SYS_sched_get_priority_max, SYS_sched_get_priority_min,
    SYS_sched_getscheduler, SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_setattr,
    SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_yield, SYS_seccomp, SYS_semctl,
    SYS_semget, SYS_semop, SYS_semtimedop, SYS_sendfile, SYS_sendmmsg, SYS_sendmsg, SYS_sendto,
    SYS_setfsgid, SYS_setfsuid, SYS_setgid, SYS_setgroups, SYS_setitimer, SYS_setpgid,
    SYS_setpriority, SYS_setregid, SYS_setresgid, SYS_setresuid, SYS_setreuid, SYS_setrlimit,
    SYS_set_mempolicy, SYS_set_robust_list, SYS_setsid, SYS_setsockopt, SYS_set_tid_address,
    SYS_setuid, SYS_setxattr, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget, SYS_shutdown,
    SYS_sigaltstack, SYS_signalfd4, SYS_splice, SYS_statfs, SYS_statx,
    SYS_symlinkat, SYS_sync, SYS_sync_file_range, SYS_syncfs, SYS_sysinfo, SYS_tee, SYS_tgkill,
    SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun, SYS_timer_gettime,
    SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_times,
    SYS_tkill, SYS_truncate, SYS_umask, SYS_uname, SYS_unlinkat, SYS_utimensat, SYS_vmsplice,
    SYS_wait4, SYS_waitid, SYS_write, SYS_writev,
];

/// Calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[(c_long, &str)] = calls![
    SYS_access, SYS_alarm, SYS_arch_prctl, SYS_chmod, SYS_chown, SYS_creat, SYS_dup2,
    SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_fork, SYS_futimesat, SYS_getdents,
    SYS_getpgrp, SYS_get_thread_area, SYS_inotify_init, SYS_lchown, SYS_link, SYS_lstat,
    SYS_mkdir, SYS_mknod, SYS_modify_ldt, SYS_open, SYS_pause, SYS_pipe, SYS_poll, SYS_readlink,
    SYS_rename, SYS_rmdir, SYS_select, SYS_set_thread_area, SYS_signalfd, SYS_stat, SYS_symlink,
    SYS_time, SYS_unlink, SYS_utime, SYS_utimes, SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[(c_long, &str)] = &[];

/// The flags of `clone` that make namespaces.
const NAMESPACES: c_int = CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS;
/// The execution domains that programs ask for: Linux, without address randomisation, and the query.
const PERSONALITIES: [u64; 3] = [0, 0x0004_0000, 0xffff_ffff];

/// The kinds of sockets that are allowed, whatever is spoken on them.
const FAMILIES: [c_int; 3] = [AF_UNIX, AF_INET, AF_INET6];

/// Returns the filters as the kernel reads them, the later of which has the word on what a refused call answers.
///
/// # Errors
///
/// On an architecture for which there is no filter.
pub(super) fn filters() -> Result<[Vec<u8>; 2], seccompiler::BackendError> {
    Ok([allowed()?, answers()?])
}

/// Returns what allows calls.
fn allowed() -> Result<Vec<u8>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let when = |argument, op, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
    };
    let word = |value: c_int| u64::from(value.cast_unsigned());
    let mut rules: std::collections::BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|(call, _)| (*call, Vec::new())).collect();
    // `clone3` cannot be looked into, so it is not there; the C libraries then use `clone`.
    let plain = when(0, MaskedEq(word(NAMESPACES)), 0)?;
    rules.insert(SYS_clone, vec![SeccompRule::new(vec![plain])?]);
    let mut sockets = Vec::new();
    for family in FAMILIES {
        sockets.push(SeccompRule::new(vec![when(0, Eq, word(family))?])?);
    }
    // Programs ask for their addresses and routes through netlink, and for nothing else.
    let route = vec![when(0, Eq, word(AF_NETLINK))?, when(2, Eq, word(NETLINK_ROUTE))?];
    sockets.push(SeccompRule::new(route)?);
    rules.insert(SYS_socket, sockets);
    // A pair of another family is made before the kernel finds that there can be none.
    let pair = vec![when(0, Eq, word(AF_UNIX))?];
    rules.insert(SYS_socketpair, vec![SeccompRule::new(pair)?]);
    // Limits of its own alone: with those of the first process the later steps would have them too.
    let own = vec![when(0, Eq, 0)?];
    rules.insert(SYS_prlimit64, vec![SeccompRule::new(own)?]);
    // Neither may put words into a terminal's mouth.
    let terminal = vec![when(1, Ne, TIOCSTI)?, when(1, Ne, TIOCLINUX)?];
    rules.insert(SYS_ioctl, vec![SeccompRule::new(terminal)?]);
    let mut domains = Vec::new();
    for domain in PERSONALITIES {
        domains.push(SeccompRule::new(vec![when(0, Eq, domain)?])?);
    }
    rules.insert(SYS_personality, domains);
    let not_there = SeccompAction::Errno(ENOSYS.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, not_there, SeccompAction::Allow, architecture)?;
    Ok(bytes_of(&filter.try_into()?))
}

/// Returns what answers a program that asks for a socket of another kind as a kernel without that kind does: who is told
/// that there are no sockets gives up, as `useradd` does for want of the audit's.
fn answers() -> Result<Vec<u8>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, Ne};
    let word = |value: c_int| u64::from(value.cast_unsigned());
    let when = |argument, op, value: c_int| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, word(value))
    };
    let mut others = vec![when(0, Ne, AF_NETLINK)?];
    for family in FAMILIES {
        others.push(when(0, Ne, family)?);
    }
    let spoken = vec![when(0, Eq, AF_NETLINK)?, when(2, Ne, NETLINK_ROUTE)?];
    let rules = vec![SeccompRule::new(others)?, SeccompRule::new(spoken)?];
    let no_kind = SeccompAction::Errno(EAFNOSUPPORT.cast_unsigned());
    let rules = [(SYS_socket, rules)].into();
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, no_kind, architecture)?;
    Ok(bytes_of(&filter.try_into()?))
}

fn bytes_of(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    bytes
}

/// Returns the same as an engine of containers reads it: a
/// [profile](https://docs.docker.com/engine/security/seccomp/) in JSON. What it has of `ioctl` for terminals is not in it,
/// for there are none.
pub fn profile() -> String {
    let mut rules = Vec::new();
    let mut rule = |names: &str, action: &str, arguments: &str| {
        rules.push(format!(r#"{{"names":[{names}],"action":"{action}","args":[{arguments}]}}"#));
    };
    let allow = "SCMP_ACT_ALLOW";
    let is = |index: u32, value: u64| {
        format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#)
    };
    let word = |value: c_int| u64::from(value.cast_unsigned());
    let names = ALLOWED.iter().chain(ALLOWED_HERE).map(|(_, name)| name.trim_start_matches("SYS_"));
    let names: Vec<String> = names.chain(["ioctl"]).map(|name| format!("\"{name}\"")).collect();
    rule(&names.join(","), allow, "");
    let plain = format!(
        r#"{{"index":0,"value":{},"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}}"#,
        word(NAMESPACES)
    );
    rule("\"clone\"", allow, &plain);
    for family in FAMILIES {
        rule("\"socket\"", allow, &is(0, word(family)));
    }
    let route = [is(0, word(AF_NETLINK)), is(2, word(NETLINK_ROUTE))].join(",");
    rule("\"socket\"", allow, &route);
    rule("\"socketpair\"", allow, &is(0, word(AF_UNIX)));
    rule("\"prlimit64\"", allow, &is(0, 0));
    for domain in PERSONALITIES {
        rule("\"personality\"", allow, &is(0, domain));
    }
    let audit = [is(0, word(AF_NETLINK)), is(2, word(NETLINK_AUDIT))].join(",");
    rules.push(format!(
        r#"{{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":{EAFNOSUPPORT},"args":[{audit}]}}"#
    ));
    // Where an engine does not know what else a call is to answer: programs ask for this one first.
    rules.push(format!(r#"{{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":{ENOSYS}}}"#));
    format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":{ENOSYS},"syscalls":[{}]}}"#,
        rules.join(",")
    )
}
