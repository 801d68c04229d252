//! What all attempts are made of: parts that must fail, system calls, children, canaries.

use std::ffi::{CStr, CString, c_int, c_long};
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The path back to the root from however deep.
pub(crate) const UP: &str = "../../../../../../../../../../../../";
pub(crate) const SIGKILL: i64 = 9;
pub(crate) const SIGSTOP: i64 = 19;
pub(crate) const SIGCONT: i64 = 18;
/// "The current folder" where a system call takes a descriptor.
pub(crate) const AT_FDCWD: i64 = -100;
/// Opens a place, and not what is there.
pub(crate) const O_PATH: i64 = 0o10_000_000;
const O_NONBLOCK: c_int = 0o4000;
/// How many of the parts that succeeded are named.
const NAMED: usize = 12;
/// So much of a file is searched for the secret.
const SEARCHED: u64 = 1 << 16;
/// A child that makes one part may take so many seconds.
const DEADLINE: i64 = 5;

/// How the parts of an attempt went.
#[derive(Default)]
pub(crate) struct Parts {
    tried: usize,
    succeeded: Vec<String>,
    moot: Option<&'static str>,
}

impl Parts {
    /// Counts a part.
    pub(crate) fn check(&mut self, what: impl Display, succeeded: bool) {
        self.tried += 1;
        if succeeded {
            self.succeeded.push(what.to_string());
        }
    }

    /// A system call that must fail; returns what it gave if it did not.
    pub(crate) fn call(&mut self, name: &str, number: i64, arguments: &[i64]) -> Option<i64> {
        let gave = call(name, number, arguments).ok();
        // What is too large is an address.
        let shown = |word: &i64| if *word >> 40 > 0 { "_".to_owned() } else { word.to_string() };
        let words: Vec<String> = arguments.iter().map(shown).collect();
        let what = format!("{name}({}) gave {}", words.join(", "), gave.unwrap_or(-1));
        self.check(what, gave.is_some());
        gave
    }

    /// A system call that must fail, and that would change this process, so in a child.
    pub(crate) fn call_in_child(&mut self, name: &str, number: i64, arguments: &[i64]) {
        let done = in_child(|| call(name, number, arguments).is_ok());
        self.check(format!("{name} succeeded"), done);
    }

    /// A system call with arguments that cannot work, so that nothing happens: a permission must be
    /// what it lacks first.
    pub(crate) fn permission(&mut self, name: &str, number: i64, arguments: &[i64]) {
        // EPERM, ESRCH, EACCES, ENOSYS, and three by which a kernel says that it lacks a kind of
        // socket.
        const REFUSALS: [i32; 7] = [1, 3, 13, 38, 93, 94, 97];
        let gave = call(name, number, arguments).map_err(|error| error.raw_os_error().unwrap_or(0));
        let refused = gave.is_err_and(|error| REFUSALS.contains(&error));
        self.check(format!("{name} was permitted and gave {gave:?}"), !refused);
    }

    /// A file or folder that must not open for reading; one of the kernel's may, if there is nothing to read: it looks at
    /// who reads, or something empty is mounted over it.
    pub(crate) fn reads(&mut self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let is_kernels = path.starts_with("/proc") || path.starts_with("/sys");
        if is_kernels && !path.is_dir() {
            let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
            let read = opened.and_then(|mut file| file.read(&mut [0]));
            self.check(format!("read {}", path.display()), read.is_ok_and(|count| count > 0));
            return;
        }
        self.opens(path, OpenOptions::new().read(true), "");
    }

    /// A file that must not open for writing. Nothing is written.
    pub(crate) fn writes(&mut self, path: impl AsRef<Path>) {
        self.opens(path.as_ref(), OpenOptions::new().write(true), " for writing");
    }

    fn opens(&mut self, path: &Path, options: &mut OpenOptions, what: &str) {
        let opened = options.custom_flags(O_NONBLOCK).open(path).is_ok();
        self.check(format!("opened {}{what}", path.display()), opened);
    }

    /// A folder in which no file must come to be.
    pub(crate) fn creates_in(&mut self, folder: impl AsRef<Path>) {
        let path = folder.as_ref().join(format!(".escape-{}", std::process::id()));
        let created = OpenOptions::new().write(true).create_new(true).open(&path).is_ok();
        if created {
            let _ = fs::remove_file(&path);
        }
        self.check(format!("created {}", path.display()), created);
    }

    /// A file in which the secret must not be, as far as it can be read.
    pub(crate) fn secret_in(&mut self, path: impl AsRef<Path>) {
        let Some(secret) = canary("CANARY_HALF1").zip(canary("CANARY_HALF2")) else { return };
        let secret = secret.0 + &secret.1;
        let path = path.as_ref();
        let mut content = Vec::new();
        let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
        // What was read before an error counts.
        let _ = opened.and_then(|file| file.take(SEARCHED).read_to_end(&mut content));
        let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
        self.check(format!("found the secret in {}", path.display()), found);
    }

    /// The attempt makes no sense here.
    pub(crate) fn does_not_apply(&mut self, why: &'static str) {
        self.moot = Some(why);
    }

    /// Returns whether no part succeeded.
    pub(crate) fn hold(&self) -> bool {
        self.succeeded.is_empty()
    }

    /// Says in one line how it went.
    pub(crate) fn verdict(&self, what: &str) -> String {
        let (count, tried) = (self.succeeded.len(), self.tried);
        let named = self.succeeded[..count.min(NAMED)].join("; ").replace('\n', " ");
        match self.moot {
            _ if count > 0 => format!("ESCAPED: {what}: {count} of {tried} parts: {named}"),
            Some(why) => format!("does not apply: {why}"),
            None if tried == 0 => "does not apply: no canary is given".to_owned(),
            None => format!("held: {what} ({tried} parts)"),
        }
    }
}

/// A system call by its number. The name is for who reads the attempts.
pub(crate) fn call(_name: &str, number: i64, arguments: &[i64]) -> io::Result<i64> {
    let word = |at: usize| arguments.get(at).copied().unwrap_or(0);
    // SAFETY: the addresses among the arguments are those of buffers that the caller holds until
    // this returns (`text`, `place`), and no attempt gives up memory of this process.
    let gave = unsafe { syscall(number, word(0), word(1), word(2), word(3), word(4), word(5)) };
    if gave == -1 { Err(io::Error::last_os_error()) } else { Ok(gave) }
}

/// Returns a path as system calls take it, for [`text`].
pub(crate) fn c_path(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap_or_default()
}

/// Returns the address of a text.
pub(crate) fn text(text: &CStr) -> i64 {
    text.as_ptr() as i64
}

/// Returns the address of what a system call reads or changes.
pub(crate) fn place<T>(of: &mut [T]) -> i64 {
    of.as_mut_ptr() as i64
}

/// Splits this process in two.
pub(crate) fn fork() -> i64 {
    // SAFETY: there is only one thread, so that the child finds everything as its parent left it.
    i64::from(unsafe { libc_fork() })
}

/// Waits for a child; returns its exit code, or says how else it ended.
pub(crate) fn wait(child: i64) -> Result<c_int, String> {
    let mut status: [c_int; 1] = [0];
    call("wait4", 61, &[child, place(&mut status)]).map_err(|error| error.to_string())?;
    match status[0] & 0x7f {
        0 => Ok(status[0] >> 8 & 0xff),
        signal => Err(format!("signal {signal}")),
    }
}

/// Does something that would change this process, or end it, in a child; returns what it returned.
pub(crate) fn in_child(part: impl FnOnce() -> bool) -> bool {
    let child = fork();
    if child == 0 {
        let _ = call("alarm", 37, &[DEADLINE]);
        let succeeded = part();
        let _ = call("exit_group", 231, &[i64::from(!succeeded)]);
    }
    wait(child) == Ok(0)
}

/// Leaves a process behind that is nobody's child and keeps nothing open.
pub(crate) fn leave_behind(name: &CStr, work: impl FnOnce()) {
    let left = in_child(|| {
        let _ = call("setsid", 112, &[]);
        match fork() {
            0 => {}
            child => return child > 0,
        }
        let _ = call("prctl(PR_SET_NAME)", 157, &[15, text(name)]);
        // Who waits for the end of the output is not to wait for this one.
        let _ = call("close_range", 436, &[0, i64::from(u32::MAX)]);
        work();
        true
    });
    if !left {
        eprintln!("could not leave {name:?} behind");
    }
}

/// Returns the value of a variable that says what to look for.
pub(crate) fn canary(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a number that says what to look for.
pub(crate) fn canary_number<T: FromStr>(name: &str) -> Option<T> {
    canary(name)?.parse().ok()
}

/// Returns a process of the machine: the one of the canary, if that number is not one of ours here.
pub(crate) fn host_process() -> Option<i64> {
    let pid: i64 = canary_number("CANARY_PID")?;
    let mut ours = i64::from(std::process::id());
    while ours > 0 && ours != pid {
        let status = fs::read_to_string(format!("/proc/{ours}/status")).unwrap_or_default();
        ours = field(&status, "PPid:").and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    (ours == 0).then_some(pid)
}

/// Returns the first word after a name at the beginning of a line.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

/// Returns the numbers of all processes that can be seen.
pub(crate) fn processes() -> Vec<String> {
    let number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    entries("/proc").into_iter().filter(number).collect()
}

/// Returns the names in a folder; of one that cannot be read, none.
pub(crate) fn entries(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A folder for files of an attempt, removed with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("escapes-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            eprintln!("{}: {error}", path.display());
        }
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// This program is compiled without a crate of bindings: these are the C library's own.
unsafe extern "C" {
    #[link_name = "fork"]
    fn libc_fork() -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}
