//! Jobs in a sandbox: what they can do, and what they cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;

use crate::scene::{Done, Scene, install_muster, masked, muster_in};
use crate::server::{kill, processes};

/// Returns true where this machine lets anybody make a sandbox; says so where it does not.
pub(crate) fn there_can_be_one() -> bool {
    let tried = Program::new("bwrap")
        .args(["--unshare-user", "--unshare-pid", "--disable-userns", "--ro-bind", "/", "/"])
        .args(["--proc", "/proc", "true"])
        .output(Duration::from_secs(10), 1 << 16);
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "bubblewrap is missing: {error}");
            error.to_string()
        }
    };
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: this machine refuses sandboxes: {why}");
    }
    false
}

/// Returns a script's workflow: one job, one step with `bash`, after a checkout.
fn workflow(script: &str) -> String {
    let script: String = script.lines().map(|line| format!("          {line}\n")).collect();
    format!(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - name: Try\n        shell: bash --noprofile --norc {{0}}\n        run: |\n{script}"
    )
}

/// Runs the workflow of `script` in a sandbox.
fn attempt(scene: &Scene, script: &str) -> Done {
    scene.workflow(&workflow(script));
    scene.muster(&["run", "--isolation", "sandbox"])
}

/// Returns what the steps wrote, without times.
fn output(done: &Done) -> String {
    let lines = done.out.lines().filter_map(|line| line.strip_prefix("│ "));
    lines.map(|line| masked(line) + "\n").collect()
}

#[test]
fn a_job_finds_what_it_has_at_github_and_builds_there() {
    if !there_can_be_one() {
        return;
    }
    let scene = Scene::new();
    scene
        .file("hello.c", "#include <stdio.h>\nint main(void) { return puts(\"compiled\") < 0; }\n");
    scene.workflow("on: push\njobs: {}\n");
    scene.commit("first");
    let done = attempt(
        &scene,
        r#"id; echo "$HOME $USER $RUNNER_TEMP $GITHUB_EVENT_PATH"; hostname
test "$PWD" = "$GITHUB_WORKSPACE" && test -r "$GITHUB_EVENT_PATH" && echo at home
git log --oneline | wc -l; git status --short
if command -v cc > /dev/null; then cc hello.c -o "$RUNNER_TEMP/hello" && "$RUNNER_TEMP/hello"; else echo compiled; fi
echo one > /tmp/one; echo two > ~/two; echo three > /dev/shm/three; cat /tmp/one ~/two /dev/shm/three
(exec 3<> /dev/tcp/127.0.0.1/1) 2> /dev/null || echo nobody listens
echo "answer=42" >> "$GITHUB_OUTPUT"; echo "NAME=value" >> "$GITHUB_ENV"; echo '# Done' >> "$GITHUB_STEP_SUMMARY"
sleep 0 & wait; echo $((1 + 1)) | cat; date -u -d @0 +%Y"#,
    );
    assert_eq!(done.exit, Some(0), "{}{}", done.out, done.err);
    assert!(done.out.contains("\nisolation: sandbox: namespaces, seccomp, "), "{}", done.out);
    assert_snapshot!(output(&done), @"
    Checked out [sha] at refs/heads/main
    uid=1001(runner) gid=1001(runner) groups=1001(runner)
    /home/runner runner /home/runner/work/_temp /home/runner/work/_temp/event.json
    runner
    at home
    1
    compiled
    one
    two
    three
    nobody listens
    2
    1970
    # Done
    ");
}

/// Each of these leads out of a sandbox that forgot it.
#[test]
fn a_hostile_job_finds_nothing_of_the_machine() {
    if !there_can_be_one() {
        return;
    }
    let scene = Scene::new();
    scene.commit_empty();
    let canary = tempfile::tempdir().unwrap();
    fs::set_permissions(canary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secret = canary.path().join("secret");
    fs::write(&secret, "canary-file\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
    let done = attempt(
        &scene,
        &format!(
            r#"SECRET={secret}
no() {{ "$@" > /tmp/out 2> /dev/null && {{ echo "LEAK: $*"; cat /tmp/out; }}; true; }}
no cat "$SECRET"; no cat "/proc/1/root$SECRET"; no cat "/proc/self/root$SECRET"
no cat /etc/shadow; no cat /proc/1/environ; no ls /root/.ssh; no ls /var/lib; no ls /sys/kernel
no cat /proc/kcore; no sh -c 'echo x > /proc/sys/kernel/core_pattern'; no sh -c 'echo b > /proc/sysrq-trigger'
no touch /usr/x /etc/x /opt/x /x; no touch /opt/muster/repository/x
no unshare --user true; no unshare --mount true; no mount -t tmpfs none /tmp; no chroot / true
no mknod /tmp/sda b 8 0; no ls /dev/sda /dev/mem /dev/kmsg /dev/kvm
kill -9 1; no su -c true; no sudo -n true; no ls /run/docker.sock /var/run/docker.sock
no dmesg; no sh -c 'cat /proc/keys | grep .'
env; cat /proc/*/environ /proc/*/cmdline 2> /dev/null | tr '\0' '\n'
ls /proc/self/fd | wc -l; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
ls ~ -A; test -e /home/ana && echo "LEAK: a home"
echo done"#,
            secret = secret.display()
        ),
    );
    let said = output(&done);
    assert!(said.ends_with("done\n"), "{}{}", done.out, done.err);
    for leak in ["LEAK", "canary", "hunter2"] {
        assert!(!said.contains(leak), "{said}");
    }
    for held in
        ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(said.contains(held), "{held}: {said}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "canary-file\n");
}

/// What a step puts where the runner or a checkout will write must not lead out either.
#[test]
fn links_that_a_step_leaves_lead_nowhere() {
    if !there_can_be_one() {
        return;
    }
    let scene = Scene::new();
    let canary = tempfile::tempdir().unwrap();
    fs::set_permissions(canary.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = canary.path().join("file");
    fs::write(&file, "KEPT=canary\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let canary = canary.path().display();
    scene.workflow(&format!(
        r#"on: push
jobs:
  files:
    runs-on: ubuntu-latest
    steps:
      - run: rm "$GITHUB_ENV"; ln -s {canary}/file "$GITHUB_ENV"
        continue-on-error: true
      - run: ln -s {canary}/file "$RUNNER_TEMP/step_3.sh"
      - run: echo never
        continue-on-error: true
      - run: echo "[$KEPT]"; ln -s {canary} out
      - {{uses: actions/checkout@v4, with: {{path: out}}, continue-on-error: true}}
      - {{uses: actions/checkout@v4, continue-on-error: true}}
      - run: rm -f "$GITHUB_OUTPUT"; mkfifo "$GITHUB_OUTPUT"
"#
    ));
    scene.commit("first");
    let done = scene.muster(&["run", "--isolation", "sandbox"]);
    let story = done.story().replace(&canary.to_string(), "[canary]");
    let story = story.split_once("seccomp").unwrap().1.split_once('\n').unwrap().1.to_owned();
    assert_snapshot!(story, @r#"
    ▸ Run rm "$GITHUB_ENV"; ln -s [path] "$GITHUB_ENV"
    │ Error: GITHUB_ENV: cannot read it: Too many levels of symbolic links (os error 40)
    ✓ Run rm "$GITHUB_ENV"; ln -s [path] "$GITHUB_ENV" (failed, may fail) [time]
    ▸ Run ln -s [path] "$RUNNER_TEMP/step_3.sh"
    ✓ Run ln -s [path] "$RUNNER_TEMP/step_3.sh" [time]
    ▸ Run echo never
    │ Error: cannot write the step's files: File exists (os error 17)
    ✓ Run echo never (failed, may fail) [time]
    ▸ Run echo "[$KEPT]"; ln -s [path] out
    │ []
    ✓ Run echo "[$KEPT]"; ln -s [path] out [time]
    ▸ Run actions/checkout@v4
    │ Error: cannot prepare /home/runner/work/repository/repository/out: File exists (os error 17)
    │ Error: the step ended with exit code 1
    ✓ Run actions/checkout@v4 (failed, may fail) [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run rm -f "$GITHUB_OUTPUT"; mkfifo "$GITHUB_OUTPUT"
    │ Error: GITHUB_OUTPUT: cannot read it: it is no regular file any more
    ✗ Run rm -f "$GITHUB_OUTPUT"; mkfifo "$GITHUB_OUTPUT" [time]
    .github/workflows/ci.yml: failure
      files  failure  [time]
      error  files: GITHUB_ENV: cannot read it: Too many levels of symbolic links (os error 40)
      error  files: cannot write the step's files: File exists (os error 17)
      error  files: cannot prepare /home/runner/work/repository/repository/out: File exists (os error 17)
      error  files: GITHUB_OUTPUT: cannot read it: it is no regular file any more
    exit 1
    "#);
    let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!((left.len(), fs::read_to_string(&file).unwrap()), (1, "KEPT=canary\n".to_owned()));
}

#[test]
fn without_bubblewrap_auto_says_so_and_sandbox_runs_nothing() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps: [{run: echo ran}]\n",
    );
    scene.commit("first");
    // A PATH with all that is needed but bubblewrap.
    let bin = tempfile::tempdir().unwrap();
    for program in ["git", "sh", "bash"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(program))
            .find(|path| path.is_file());
        std::os::unix::fs::symlink(found.unwrap(), bin.path().join(program)).unwrap();
    }
    let run = |isolation: &str| {
        let output = Program::new(env!("CARGO_BIN_EXE_muster"))
            .args(["run", "--isolation", isolation])
            .dir(scene.path())
            .env("HOME", scene.path())
            .env("PATH", bin.path())
            .output(Duration::from_secs(60), 1 << 20)
            .unwrap();
        Done::of(&output)
    };
    assert_snapshot!(run("auto").story(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network. No sandbox: bubblewrap is not installed (`apt-get install bubblewrap`).
    ▸ Run echo ran
    │ ran
    ✓ Run echo ran [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    ");
    assert_snapshot!(run("sandbox").story(), @"
    .github/workflows/ci.yml
    .github/workflows/ci.yml: error
      test  error  [time]  bubblewrap is not installed (`apt-get install bubblewrap`)
    exit 2
    ");
}

#[test]
fn nothing_of_a_sandbox_is_left_whatever_ends_it() {
    if !there_can_be_one() {
        return;
    }
    let scene = Scene::new();
    scene.commit_empty();
    let marked = || processes().iter().any(|(_, line)| line.contains("98765"));
    let done = attempt(
        &scene,
        "(setsid env -i sleep 98765 &) ; (trap '' TERM INT; sleep 98765) & echo left",
    );
    assert_eq!(done.exit, Some(0), "{}{}", done.out, done.err);
    assert!(!marked());
    // The supervisor is killed: the sandbox goes with it.
    scene.workflow(&workflow("(setsid env -i sleep 98765 &) ; sleep 98765"));
    let folder = scene.path().to_owned();
    let run = std::thread::spawn(move || muster_in(&folder, &["run", "--isolation", "sandbox"]));
    let start = muster_sys::clock::monotonic();
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("it runs", &marked);
    let folder = scene.path().file_name().unwrap().to_string_lossy().into_owned();
    let supervisors = processes().into_iter().filter(|(pid, line)| {
        let started_here = fs::read_link(Path::new("/proc").join(pid).join("cwd"))
            .is_ok_and(|cwd| cwd.to_string_lossy().contains(&folder));
        line.contains("supervise") && started_here
    });
    for (pid, _) in supervisors {
        kill(&pid);
    }
    let done = run.join().unwrap();
    assert!(done.out.contains("the job's supervisor was lost"), "{}", done.out);
    wait("all of it is gone", &|| !marked());
}

/// Who is not root has no control group and no other user, and still a sandbox.
#[test]
fn anybody_can_have_one() {
    if !there_can_be_one() || !rustix::process::geteuid().is_root() {
        return;
    }
    let nobody = "65534";
    let scene = Scene::new();
    scene.workflow("on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps: [{uses: actions/checkout@v4}, {run: id -u; ls}]\n");
    scene.commit_empty();
    let muster = scene.path().join("muster");
    install_muster(&muster);
    fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = scene.path().to_string_lossy().into_owned();
    let run = |program: &str, args: &[&str]| {
        let program = Program::new(program).args(args).dir(scene.path()).env("HOME", &path);
        program.output(Duration::from_secs(30), 1 << 20).unwrap()
    };
    assert!(run("chown", &["-R", nobody, &path]).status.success());
    let who = [&format!("--reuid={nobody}"), "--regid=65534", "--clear-groups", "--"];
    let what = [&*muster.to_string_lossy(), "run", "--isolation", "sandbox"];
    let output = run("setpriv", &[who.as_slice(), what.as_slice()].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("no cgroup, at most 4096 processes"), "{said}");
    assert!(said.contains("│ 1001\n"), "{said}");
}

/// A step that keeps itself from ending, or its end from being told, ends all the same.
#[test]
fn no_job_outlives_its_bounds() {
    if !there_can_be_one() {
        return;
    }
    let scene = Scene::new();
    scene.commit_empty();
    let temporary = tempfile::tempdir().unwrap();
    let attempt = |python: &str| {
        scene.file("attack.py", python);
        scene.workflow(
            &workflow("python3 attack.py; echo went on; echo x > /dev/stderr")
                .replace("      - name: Try", "      - name: Try\n        timeout-minutes: 0.02"),
        );
        let output = Program::new(env!("CARGO_BIN_EXE_muster"))
            .args(["run", "--isolation", "sandbox"])
            .dir(scene.path())
            // Where a version manager's Python may be.
            .env("HOME", std::env::var_os("HOME").unwrap())
            .env("TMPDIR", temporary.path())
            .output(Duration::from_secs(60), 64 << 20)
            .unwrap();
        let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{python}: {left:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let goes_on = |python: &str| {
        let (exit, said) = attempt(python);
        assert_eq!(exit, Some(0), "{said}");
        assert!(said.contains("│ went on\n│ x\n"), "{said}");
    };
    let is_stopped = |python: &str| {
        let (exit, said) = attempt(python);
        assert_eq!(exit, Some(1), "{said}");
        assert!(said.contains("took longer than its `timeout-minutes`"), "{said}");
    };
    // Signals to the threads of the sandbox's first process.
    goes_on(
        "import os\nfor thread in os.listdir('/proc/1/task'):\n    for number in (7, 11):\n        os.kill(int(thread), number)\nos.kill(1, 11)",
    );
    // Limits of the sandbox's first process, which starts the steps that follow.
    goes_on(
        "import resource\nfor limit in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):\n    try: resource.prlimit(1, limit, (0, 0))\n    except OSError: pass",
    );
    // Folders that are closed, or nested deeper than a process has descriptors.
    goes_on(
        "import os\nos.makedirs('closed/x')\nopen('closed/x/y', 'w')\nos.chmod('closed/x', 0)\nos.chmod('closed', 0o555)\nos.chdir('/tmp')\nfor i in range(1500):\n    os.mkdir('d')\n    os.chdir('d')",
    );
    // Its output, read back by itself.
    is_stopped(
        "import os, time\nfd = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)\nfor i in range(3000):\n    os.write(1, b'x')\n    try: os.read(fd, 1)\n    except BlockingIOError: pass\ntime.sleep(1000)",
    );
    // A step that leaves its group.
    is_stopped(
        "import os, signal, time\nchild = os.fork()\nif child == 0:\n    os.setpgid(0, 0)\n    time.sleep(1000)\ntime.sleep(0.2)\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\nos.setpgid(0, child)\ntime.sleep(1000)",
    );
}

/// Runs what is in the scene in a sandbox, for a user with this home and the programs in its `.cargo/bin`.
fn run_with_home(scene: &Scene, home: &Path) -> Done {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", home.join(".cargo/bin").display());
    let ran = Program::new(env!("CARGO_BIN_EXE_muster"))
        .args(["run", "--isolation", "sandbox"])
        .dir(scene.path())
        .env("HOME", home)
        .env("PATH", path)
        .output(Duration::from_secs(30), 1 << 20)
        .unwrap();
    Done::of(&ran)
}

/// Puts a file that can be run into a home.
fn write_into(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A toolchain of the machine that is to become another one is installed anew, as the job's own.
#[test]
fn rustup_changes_no_toolchain_of_the_machine() {
    if !there_can_be_one() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write_into(home.path(), path, text);
    write(
        ".cargo/bin/rustup",
        r#"#!/bin/sh
at="$RUSTUP_HOME/toolchains"
case "$1" in
check) echo "old-linux - Update available : 1 -> 2"; echo "new-linux - Up to date : 2"; exit 100 ;;
show) echo "old-linux (default)" ;;
component) if [ -L "$at/old-linux" ]; then echo "it is read only" >&2; exit 1; fi; echo "added $3" ;;
*) case "$*" in *--component*) if [ -L "$at/new-linux" ]; then echo "new is read only" >&2; exit 1; fi ;; esac
for name in old new; do
    case "$* " in *"$name "*) if [ -e "$at/$name-linux" ]; then echo "$name unchanged"; else mkdir "$at/$name-linux"; echo "$name installed"; fi ;; esac
done ;;
esac
"#,
    );
    for name in ["old", "new"] {
        write(&format!(".rustup/toolchains/{name}-linux/version"), "of the machine\n");
        write(&format!(".rustup/update-hashes/{name}-linux"), "0123");
    }
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"rustup toolchain install new --profile minimal; rustup update new
rustup show; rustup toolchain install old new; ls "$RUSTUP_HOME/update-hashes"
rm -r "$RUSTUP_HOME/toolchains/old-linux"; ln -s /opt "$RUSTUP_HOME/toolchains/old-linux"; rustup component add clippy
rustup component add clippy --toolchain new; rustup component add rustfmt --toolchain=absent
rustup toolchain install new --component miri"#,
    ));
    assert_snapshot!(output(&run_with_home(&scene, home.path())), @"
    Checked out [sha] at refs/heads/main
    new unchanged
    new unchanged
    old-linux (default)
    old installed
    new unchanged
    new-linux
    it is read only
    muster: the machine's old-linux cannot be changed; the job gets one of its own
    added clippy
    added clippy
    added rustfmt
    new is read only
    muster: what this machine has cannot be changed; the job gets a toolchain of its own
    new installed
    ");
}

/// A job may install toolchains by rustup; they are its own, beside links to those of the machine.
#[test]
fn rustup_has_a_home_in_the_job() {
    if !there_can_be_one() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write_into(home.path(), path, text);
    write(".cargo/bin/rustc", "#!/bin/sh\ncat \"$RUSTUP_HOME/toolchains/one/version\"\n");
    write(".cargo/bin/rustup", "#!/bin/sh\necho rustup of the machine\n");
    std::os::unix::fs::symlink("rustup", home.path().join(".cargo/bin/cargo")).unwrap();
    write(".rustup/toolchains/one/version", "rustc of the machine\n");
    write(".rustup/update-hashes/one", "0123");
    write(".rustup/settings.toml", "default_toolchain = \"one\"\n");
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"rustc; echo "$RUSTUP_HOME"; cat "$RUSTUP_HOME/settings.toml" "$RUSTUP_HOME/update-hashes/one"; echo
echo changed 2> /dev/null > "$RUSTUP_HOME/toolchains/one/version" || echo the machine has not changed
cargo; command -v cargo rustc; (echo changed > ~/.rustup/muster/rustup) 2> /dev/null || echo nor has rustup
echo 'echo installed' > ~/.cargo/bin/tool; chmod +x ~/.cargo/bin/tool; tool
mkdir "$RUSTUP_HOME/toolchains/two" && echo 'default_toolchain = "two"' > "$RUSTUP_HOME/settings.toml"
ls "$RUSTUP_HOME/toolchains""#,
    ));
    let done = run_with_home(&scene, home.path());
    assert_eq!(done.exit, Some(0), "{}{}", done.out, done.err);
    assert_snapshot!(output(&done), @r#"
    Checked out [sha] at refs/heads/main
    rustc of the machine
    /home/runner/.rustup
    auto_self_update = "disable"
    default_toolchain = "one"
    0123
    the machine has not changed
    rustup of the machine
    /home/runner/.cargo/bin/cargo
    /home/runner/.cargo/bin/rustc
    nor has rustup
    installed
    one
    two
    "#);
    let toolchains = fs::read_dir(home.path().join(".rustup/toolchains")).unwrap();
    assert_eq!(toolchains.count(), 1);
}
