//! What the kernel must not do for a job.

use std::arch::asm;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::parts::{
    AT_FDCWD, Parts, Scratch, UP, c_path, call, canary, entries, host_process, in_child, place,
    text,
};

const NEW_USER: i64 = 0x1000_0000;
const NAMESPACES: [(&str, i64); 8] = [
    ("time", 0x80),
    ("mnt", 0x2_0000),
    ("cgroup", 0x0200_0000),
    ("uts", 0x0400_0000),
    ("ipc", 0x0800_0000),
    ("user", NEW_USER),
    ("pid", 0x2000_0000),
    ("net", 0x4000_0000),
];

/// Devices of a machine in `/dev`. Not the watchdog: opening it starts it.
const DEVICES: &str = "\
    sda vda xvda nvme0n1 dm-0 mapper/control loop0 loop-control mem kmem port kmsg kvm fuse \
    net/tun vhost-net vhost-vsock vsock userfaultfd uinput input/event0 dri/card0 \
    dri/renderD128 nvidiactl nvram cpu/0/msr cpu_dma_latency btrfs-control autofs vcs tty0 \
    tty1 ttyS0 console hwrng hpet rtc0 snd/seq bus/usb/001/001 ppp sg0";
/// Settings in `/proc`, without those of a namespace, which there are the job's own.
const PROC_SETTINGS: &str = "\
    sys/kernel/core_pattern sys/kernel/modprobe sys/kernel/hotplug sys/kernel/poweroff_cmd \
    sys/kernel/randomize_va_space sys/kernel/kptr_restrict sys/kernel/sysrq \
    sys/kernel/usermodehelper/bset sys/fs/binfmt_misc/register sys/fs/binfmt_misc/status \
    sys/fs/suid_dumpable sys/fs/file-max sys/fs/protected_symlinks sys/vm/overcommit_memory \
    sys/vm/drop_caches sys/vm/panic_on_oom sys/user/max_user_namespaces sysrq-trigger mtrr \
    irq/default_smp_affinity sys/dev/tty/legacy_tiocsti acpi/wakeup 1/oom_score_adj \
    1/coredump_filter";
/// Settings in `/sys`.
const SYS_SETTINGS: &str = "\
    kernel/uevent_helper kernel/profiling kernel/mm/transparent_hugepage/enabled \
    kernel/rcu_expedited power/state power/pm_test module/printk/parameters/time \
    kernel/kexec_crash_size bus/pci/rescan bus/pci/drivers_autoprobe fs/cgroup \
    kernel/debug/sched/features kernel/tracing/trace_marker kernel/security/apparmor/.load";
/// What in `/proc` tells of the kernel.
const PROC_SECRETS: &str = "\
    kcore vmcore timer_list sched_debug kpagecount kpageflags kpagecgroup slabinfo vmallocinfo \
    pagetypeinfo kmsg 1/stack 1/pagemap acpi/dsdt allocinfo latency_stats";
/// What rules a control group, of either version.
const GROUP_FILES: &str = "\
    cgroup.procs tasks release_agent notify_on_release cgroup.subtree_control pids.max \
    memory.max memory.limit_in_bytes cpu.max devices.allow";

/// 6: Makes each kind of namespace by each call that can, also by the numbers of other interfaces,
/// and enters those of other processes.
pub(crate) fn namespaces(parts: &mut Parts) {
    const SIGCHLD: i64 = 17;
    const X32: i64 = 0x4000_0000;
    for (name, flag) in NAMESPACES {
        // A user namespace would bring the right to make the others.
        for (with, flags) in [("", flag), (" and user", flag | NEW_USER)] {
            let kind = format!("({name}{with})");
            parts.call_in_child(&format!("unshare{kind}"), 272, &[flags]);
            parts.call_in_child(&format!("unshare{kind} by x32"), X32 | 272, &[flags]);
            let unshared = in_child(|| unshare_as_i386(flags as u32) == 0);
            parts.check(format!("unshare{kind} as a 32-bit program"), unshared);
            let cloned = in_child(|| leave_if_child(call("clone", 56, &[flags | SIGCHLD])));
            parts.check(format!("clone{kind}"), cloned && flag != 0x80);
            let mut arguments = [flags, 0, 0, 0, SIGCHLD, 0, 0, 0];
            let cloned =
                in_child(|| leave_if_child(call("clone3", 435, &[place(&mut arguments), 64])));
            parts.check(format!("clone3{kind}"), cloned);
        }
        for pid in [1, i64::from(std::process::id())].into_iter().chain(host_process()) {
            let entered = in_child(|| {
                let namespace = File::open(format!("/proc/{pid}/ns/{name}"));
                namespace.is_ok_and(|of| call("setns", 308, &[of.as_raw_fd().into(), 0]).is_ok())
            });
            parts.check(format!("setns to {name} of process {pid}"), entered);
            let entered = in_child(|| {
                let process = call("pidfd_open", 434, &[pid]).unwrap_or(-1);
                call("setns", 308, &[process, flag]).is_ok()
            });
            parts.check(format!("setns to {name} of process {pid} by pidfd"), entered);
        }
    }
}

/// Ends the child that a call has made; returns whether there is one.
fn leave_if_child(made: std::io::Result<i64>) -> bool {
    if matches!(made, Ok(0)) {
        let _ = call("exit_group", 231, &[]);
    }
    made.is_ok()
}

/// Calls `unshare` as a 32-bit program does, by an interrupt, of which a filter may know nothing.
fn unshare_as_i386(flags: u32) -> i32 {
    let result: i32;
    // SAFETY: the call takes no address. The compiler keeps rbx for itself, so it gets it back.
    unsafe {
        asm!(
            "xchg {flags:r}, rbx",
            "int 0x80",
            "xchg {flags:r}, rbx",
            flags = inout(reg) u64::from(flags) => _,
            inlateout("eax") 310 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

/// 7: Mounts, binds, moves and unmounts by the old calls and the new, and makes the root writable.
pub(crate) fn mounts(parts: &mut Parts) {
    const BIND: i64 = 0x1000;
    const REMOUNT: i64 = 0x20;
    const CLONE: i64 = 1;
    const RECURSIVE: i64 = 0x8000;
    let scratch = Scratch::new();
    let folder = scratch.path("mount");
    let _ = fs::create_dir(&folder);
    let path = c_path(folder);
    let (here, root, none, tmpfs) = (text(&path), text(c"/"), text(c"none"), text(c"tmpfs"));
    for (name, from, to, kind, flags) in [
        ("mount tmpfs", none, here, tmpfs, 0),
        ("mount proc", none, here, text(c"proc"), 0),
        ("mount sysfs", none, here, text(c"sysfs"), 0),
        ("mount overlay", none, here, text(c"overlay"), 0),
        ("bind the root", root, here, 0, BIND | 0x4000),
        ("bind over a masked file", text(c"/dev/null"), text(c"/proc/kcore"), 0, BIND),
    ] {
        if parts.call(name, 165, &[from, to, kind, flags, 0]).is_some() {
            let _ = call("umount2", 166, &[to, 2]);
        }
    }
    if read_only_root()
        && parts.call("remount / writable", 165, &[none, root, 0, REMOUNT | BIND, 0]).is_some()
    {
        let _ = call("mount", 165, &[none, root, 0, REMOUNT | BIND | 1, 0]);
    }
    // `struct mount_attr` that takes away MOUNT_ATTR_RDONLY.
    let mut clear = [0_u64, 1, 0, 0];
    // The folder is no mount, so with the permission these would only be wrong.
    parts.permission("mount(MS_REMOUNT)", 165, &[none, here, 0, REMOUNT | BIND, 0]);
    parts.permission("umount2", 166, &[here, 2]);
    parts.permission("pivot_root", 155, &[here, here]);
    parts.permission("fsmount", 432, &[-1, 0, 0]);
    parts.permission("move_mount", 429, &[-1, text(c""), -1, text(c""), 4]);
    parts.permission("mount_setattr", 442, &[AT_FDCWD, here, 0, place(&mut clear), 32]);
    parts.call("fsopen", 430, &[tmpfs, 0]);
    parts.call("fspick", 433, &[AT_FDCWD, root, 0]);
    parts.call("open_tree", 428, &[AT_FDCWD, root, CLONE]);
    parts.call("open_tree", 428, &[AT_FDCWD, root, CLONE | RECURSIVE]);
    parts.call("open_tree_attr", 467, &[AT_FDCWD, root, CLONE, place(&mut clear), 32]);
}

fn read_only_root() -> bool {
    let mut about = [0_i64; 15];
    call("statfs", 137, &[text(c"/"), place(&mut about)]).is_ok() && about[10] & 1 != 0
}

/// 8: Changes the root, and walks out of it by a descriptor of a folder that lies above, or by its
/// own.
pub(crate) fn roots(parts: &mut Parts) {
    let scratch = Scratch::new();
    let folder = c_path(scratch.path(""));
    parts.call_in_child("chroot", 161, &[text(&folder)]);
    let Some(file) = canary("CANARY_FILE") else { return };
    for climbs in [false, true] {
        let outside = in_child(|| {
            let above = call("open", 2, &[text(c"/"), 0]).unwrap_or(-1);
            let _ = call("chroot", 161, &[text(&folder)]);
            let _ = call("fchdir", 81, &[above]);
            if climbs {
                let _ = call("chdir", 80, &[text(&c_path(UP))]);
                let _ = call("chroot", 161, &[text(c".")]);
            }
            File::open(format!("{UP}{file}")).is_ok()
        });
        parts.check(format!("came from a changed root to {file}"), outside);
    }
}

/// 13: Makes devices and opens those of the machine.
pub(crate) fn devices(parts: &mut Parts) {
    const BLOCK: i64 = 0o060_600;
    const CHARACTER: i64 = 0o020_600;
    let scratch = Scratch::new();
    let path = scratch.path("device");
    let name = c_path(&path);
    // Disks; memory, null, the log, FUSE, KVM, loop devices; by their numbers.
    let disks = [0x700, 0x800, 0xfe00, 0x1_0300].map(|number| (BLOCK, number));
    let others = [0x101, 0x103, 0x10b, 0xae5, 0xae8, 0xaed].map(|number| (CHARACTER, number));
    for (kind, number) in disks.into_iter().chain(others) {
        if parts.call("mknodat", 259, &[AT_FDCWD, text(&name), kind, number]).is_some() {
            parts.reads(&path);
            let _ = fs::remove_file(&path);
        }
    }
    for name in DEVICES.split(' ') {
        parts.reads(Path::new("/dev").join(name));
    }
}

/// 14: Opens the kernel's settings for writing, and writes nothing.
pub(crate) fn settings(parts: &mut Parts) {
    for name in PROC_SETTINGS.split(' ') {
        parts.writes(Path::new("/proc").join(name));
    }
    for name in SYS_SETTINGS.split(' ') {
        parts.writes(Path::new("/sys").join(name));
    }
}

/// 15: Reads addresses, logs and memory of the kernel, and what the firmware tells.
pub(crate) fn secrets(parts: &mut Parts) {
    for name in PROC_SECRETS.split(' ') {
        parts.reads(Path::new("/proc").join(name));
    }
    for name in ["kallsyms", "modules", "iomem", "ioports"] {
        let address = first_address(&Path::new("/proc").join(name));
        parts.check(format!("read address {address:?} in /proc/{name}"), address.is_some());
    }
    for name in ["keys", "sysvipc/shm"] {
        let content = fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
        let first = content.lines().find(|line| line.starts_with(|c: char| c.is_ascii_hexdigit()));
        parts.check(format!("read {first:?} in /proc/{name}"), first.is_some());
    }
    for name in
        ["firmware", "kernel/debug", "kernel/tracing", "kernel/security", "block", "fs/pstore"]
    {
        let inside = entries(Path::new("/sys").join(name));
        parts.check(format!("found {inside:?} in /sys/{name}"), !inside.is_empty());
    }
    for path in ["/sys/kernel/notes", "/sys/kernel/vmcoreinfo", "/sys/kernel/btf/vmlinux"] {
        parts.reads(path);
    }
    let mut log = [0_u8; 4096];
    parts.call("syslog(READ_ALL)", 103, &[3, place(&mut log), 4096]);
    parts.call("syslog(SIZE_BUFFER)", 103, &[10]);
}

/// Returns the first address that is not zero, in the first lines of a file.
fn first_address(path: &Path) -> Option<String> {
    let mut text = String::new();
    let _ = File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut text));
    text.lines().find_map(|line| {
        let mut words = line.split(|c: char| !c.is_ascii_hexdigit());
        let address = words.find(|word| word.len() >= 8)?;
        address.contains(|digit| digit != '0').then(|| address.to_owned())
    })
}

/// 16: Rules control groups, and raises the limits and the rank of its own process.
pub(crate) fn limits(parts: &mut Parts) {
    let scratch = Scratch::new();
    let folder = c_path(scratch.path(""));
    let here = text(&folder);
    for (name, kind, data) in
        [("mount cgroup2", c"cgroup2", 0), ("mount cgroup", c"cgroup", text(c"none,name=escape"))]
    {
        if parts.call(name, 165, &[text(c"none"), here, text(kind), 0, data]).is_some() {
            let _ = call("umount2", 166, &[here, 2]);
        }
    }
    let root = Path::new("/sys/fs/cgroup");
    let mut groups = vec![root.to_owned()];
    groups.extend(entries(root).into_iter().map(|name| root.join(name)));
    for line in fs::read_to_string("/proc/self/cgroup").unwrap_or_default().lines() {
        let mut words = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (words.next(), words.next()) else { continue };
        groups.push(root.join(controllers).join(path.trim_start_matches('/')));
    }
    for group in groups {
        for file in GROUP_FILES.split(' ') {
            parts.writes(group.join(file));
        }
    }
    own_limits(parts);
}

/// Raises what bounds this process, in children.
fn own_limits(parts: &mut Parts) {
    for resource in 0..16 {
        let mut limit = [0_u64; 2];
        let _ = call("getrlimit", 97, &[resource, place(&mut limit)]);
        if limit[1] != u64::MAX {
            limit[1] += 1;
            parts.call_in_child(
                &format!("setrlimit({resource})"),
                160,
                &[resource, place(&mut limit)],
            );
        }
    }
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    let score: i32 = score.trim().parse().unwrap_or(0);
    let less = (score - 1).max(-1000).to_string();
    let spared = in_child(|| fs::write("/proc/self/oom_score_adj", less).is_ok());
    parts.check("lowered its out-of-memory score", spared);
    let mut priority = [1_i32];
    for (name, number, arguments) in [
        ("setpriority", 141, vec![0, 0, -20]),
        ("sched_setscheduler(SCHED_FIFO)", 144, vec![0, 1, place(&mut priority)]),
        ("ioprio_set(real time)", 251, vec![1, 0, 1 << 13]),
    ] {
        parts.call_in_child(name, number, &arguments);
    }
}

/// 17: Calls what rules a machine, so that it would only be wrong, or change nothing.
pub(crate) fn machine(parts: &mut Parts) {
    let nowhere = text(c"/nowhere/escape");
    for (name, number, arguments) in [
        ("init_module", 175, vec![0, 0, text(c"")]),
        ("finit_module", 313, vec![-1, text(c"")]),
        ("delete_module", 176, vec![text(c"escape"), 0o4000]),
        ("kexec_load with wrong flags", 246, vec![0, 0, 0, 0xffff]),
        ("kexec_file_load with wrong flags", 320, vec![-1, -1, 0, 0, 0xffff]),
        ("reboot with a wrong magic", 169, vec![0, 0, 0]),
        ("swapon", 167, vec![nowhere]),
        ("swapoff", 168, vec![nowhere]),
        ("acct", 163, vec![nowhere]),
    ] {
        parts.permission(name, number, &arguments);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut time = [now.as_secs(), now.subsec_micros().into()];
    parts.call("settimeofday", 164, &[place(&mut time), 0]);
    let mut time = [now.as_secs(), now.subsec_nanos().into()];
    parts.call("clock_settime", 227, &[0, place(&mut time)]);
    // `struct timex`, set to what it is.
    let mut clock = [0_u64; 26];
    let _ = call("adjtimex", 159, &[place(&mut clock)]);
    clock[0] = 0x4000;
    parts.call("adjtimex(ADJ_TICK)", 159, &[place(&mut clock)]);
    parts.call("clock_adjtime(ADJ_TICK)", 305, &[0, place(&mut clock)]);
    parts.call("iopl", 172, &[3]);
    parts.call("ioperm", 173, &[0x80, 1, 1]);
    parts.call("quotactl(Q_SYNC)", 179, &[0x8000_0100, 0, 0, 0]);
    for (call, number, file) in
        [("sethostname", 170, "hostname"), ("setdomainname", 171, "domainname")]
    {
        let name = fs::read_to_string(Path::new("/proc/sys/kernel").join(file)).unwrap_or_default();
        let name = name.trim_end();
        parts.call(call, number, &[name.as_ptr() as i64, name.len() as i64]);
    }
}

/// 18: Calls that have been the way out of a sandbox before.
pub(crate) fn history(parts: &mut Parts) {
    let mut ring = [0_u32; 30];
    parts.call("io_uring_setup", 425, &[1, place(&mut ring)]);
    parts.permission("io_uring_register", 427, &[-1, 0, 0, 0]);
    // An array with one entry; a filter that returns 0.
    let mut map = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    parts.call("bpf(BPF_MAP_CREATE)", 321, &[0, place(&mut map), 64]);
    let mut code = [0xb7_u64, 0x95];
    let mut program = [2 << 32 | 1, place(&mut code), text(c"GPL"), 0, 0, 0, 0, 0];
    parts.call("bpf(BPF_PROG_LOAD)", 321, &[5, place(&mut program), 48]);
    // A software clock of our own process, in user mode only.
    let mut event = [1 | 112 << 32, 0, 0, 0, 0, 0b110_0000_u64, 0, 0, 0, 0, 0, 0, 0, 0];
    parts.call("perf_event_open", 298, &[place(&mut event), 0, -1, -1, 0]);
    parts.call("userfaultfd", 323, &[0]);
    parts.call("userfaultfd(UFFD_USER_MODE_ONLY)", 323, &[1]);
    parts.call("fanotify_init", 300, &[0, 0]);
    parts.call("fanotify_init(FAN_REPORT_FID)", 300, &[0x200, 0]);
    for folder in [c"/", c"/usr", c"/tmp"] {
        let fd = call("open", 2, &[text(folder), 0]).unwrap_or(-1);
        // The root of a file system by a made-up handle: number 2.
        let mut handle = [8_u32, 1, 2, 0];
        parts.permission("open_by_handle_at", 304, &[fd, place(&mut handle), 0]);
    }
    let mut path = [0_u8; 256];
    parts.call("lookup_dcookie", 212, &[0, place(&mut path), 256]);
    parts.permission("process_madvise", 440, &[-1, 0, 0, 0, 0]);
}

/// 19: Adds keys to each keyring of the kernel, and looks for one of the machine.
pub(crate) fn keys(parts: &mut Parts) {
    const UNLINK: i64 = 9;
    const SEARCH: i64 = 10;
    let user = text(c"user");
    // Those of thread, process, session, user and user's session.
    for ring in -5..0 {
        let add = [user, text(c"escape"), text(c"x"), 1, ring];
        if let Some(key) = parts.call("add_key", 248, &add) {
            let _ = call("keyctl", 250, &[UNLINK, key, ring]);
        }
        parts.call("keyctl(KEYCTL_GET_KEYRING_ID)", 250, &[0, ring, 0]);
    }
    parts.call_in_child("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", 250, &[1, 0]);
    let Some(name) = canary("CANARY_KEY") else { return };
    let shown = fs::read_to_string("/proc/keys").is_ok_and(|keys| keys.contains(&name));
    parts.check("found the key in /proc/keys", shown);
    let name = c_path(name);
    let description = text(&name);
    for ring in -5..0 {
        parts.call("keyctl(KEYCTL_SEARCH)", 250, &[SEARCH, ring, user, description, 0]);
    }
    parts.call("request_key", 249, &[user, description, 0, 0]);
}
