//! Repositories that are watched: by key, removed again, too large, and their mirrors.

use insta::assert_snapshot;

use crate::database::{Database, on_both};
use crate::server::Server;

on_both! {
    a_deploy_key_opens_a_repository,
    a_real_ssh_server_lets_the_key_in_and_is_known_by_its_own,
    a_mirror_that_went_is_fetched_again,
    what_is_too_large_is_refused_with_the_reason,
    what_git_refuses_for_another_reason_is_not_called_too_large,
    everybodys_turn_comes_and_one_that_hangs_holds_up_nobody,
    hostile_names_hold_up_nothing_and_stay_on_their_line,
}

const GREEN: &str =
    "on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: 'echo tested'}]\n";

/// What `muster why` says once [`GREEN`] has run.
const TESTED: &str =
    "muster success: 1 successful\ntest success: Successful\n.github/workflows/ci.yml ran\n";

/// Stands for SSH and the machine behind it: it lets in who has the right key, and runs git there.
const SSH: &str = r#"#!/bin/sh
folder=$(dirname "$0")
for word; do
    case $word in
        IdentityFile=*) key=$(echo "${word#IdentityFile=}" | tr -d '"') ;;
    esac
done
echo "$@" >>"$folder/calls"
while test -e "$folder/hang"; do sleep 0.1; done
shown=$(ssh-keygen -y -P '' -f "$key" | cut -d ' ' -f 2)
if test -n "$shown" && grep -q "$shown" "$folder/authorized"; then
    exec sh -c "$word"
fi
echo 'git@code.example.org: Permission denied (publickey).' >&2
exit 255
"#;

fn a_deploy_key_opens_a_repository(database: Database) {
    let server = Server::start_without_repository(database, "poll_remote_s = 1\n");
    server.program("ssh", SSH);
    std::fs::write(server.programs().join("authorized"), "").unwrap();
    let location = format!("git@code.example.org:{}", server.origin.display());
    let add = ["repo", "add", "team/app", &location, "--deploy-key"];
    let refused = server.muster(&add);
    assert_eq!(refused.exit, Some(2));
    let key = refused.err.lines().find(|line| line.starts_with("ssh-ed25519 ")).unwrap();
    let said = refused.err.replace(key, "[key]").replace(&location, "[location]");
    assert_snapshot!(said, @"
    error: cannot look at [location]: git ls-remote failed: git@code.example.org: Permission denied (publickey).
    fatal: Could not read from remote repository.

    Please make sure you have the correct access rights
    and the repository exists.
    Its deploy key is
    [key]
    Let it in at the code host, with the right to write if verdicts are to be notes there, and add the repository again.
    ");
    assert!(key.ends_with(" muster team/app"), "{key}");
    // The same key, let in by then.
    std::fs::write(server.programs().join("authorized"), key).unwrap();
    let added = server.muster(&add);
    assert_eq!(added.exit, Some(0), "{}", added.err);
    server.scene.workflow(GREEN);
    server.until("it has been seen", Server::has_seen);
    let sha = server.push("main", "By key");
    assert_eq!(server.verdict(&sha), TESTED);
    // Its verdict is a note there, written with that key too.
    server.until("the note is there", |server| {
        let calls = std::fs::read_to_string(server.programs().join("calls")).unwrap();
        calls.contains("git-receive-pack")
    });
    let calls = std::fs::read_to_string(server.programs().join("calls")).unwrap();
    assert!(calls.contains("IdentitiesOnly=yes") && calls.contains("BatchMode=yes"), "{calls}");
    // A copy has the key, for us alone, and the host keys that were seen.
    std::fs::write(server.data().join("known_hosts"), "code.example.org ssh-ed25519 AAAA\n")
        .unwrap();
    let copied = server.muster(&["backup", "copy"]);
    assert_eq!(copied.exit, Some(0), "{}", copied.err);
    assert!(copied.out.contains("deploy keys: 1 in copy/keys"), "{}", copied.out);
    let copy = server.data().parent().unwrap().join("copy");
    let folder = std::fs::read_dir(copy.join("keys")).unwrap().flatten().next().unwrap();
    let held = std::fs::metadata(folder.path().join("key")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&held) & 0o077, 0);
    assert!(copy.join("known_hosts").is_file());
    // A key is of no use to what is not reached by SSH.
    let path = server.origin.to_string_lossy();
    let useless = server.muster(&["repo", "add", "other", &path, "--deploy-key"]);
    assert_snapshot!(useless.err, @"error: a deploy key opens a repository that is reached by SSH, such as git@host:owner/name.git");
    assert_eq!(server.muster(&["repo", "remove", "team/app"]).exit, Some(0));
    assert_eq!(server.muster(&["repo", "list"]).out, "");
    let keys = std::fs::read_dir(server.data().join("keys")).unwrap().flatten();
    let keys: Vec<_> = keys.map(|key| key.file_name()).collect();
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(std::fs::read_dir(server.data().join("mirrors")).unwrap().count(), 0);
    assert_snapshot!(server.muster(&["repo", "remove", "team/app"]).err, @"error: there is no repository `team/app`");
}

/// OpenSSH's server, for whoever runs the tests alone.
struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<std::process::Child>,
}

impl Sshd {
    const PROGRAM: &str = "/usr/sbin/sshd";

    fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut sshd = Self { folder: tempfile::tempdir().unwrap(), port, child: None };
        if rustix::process::geteuid().is_root() {
            // Where it gives up its rights.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        std::fs::write(sshd.folder.path().join("authorized"), "").unwrap();
        sshd.serve();
        sshd
    }

    /// Starts it under a new key of its own.
    fn serve(&mut self) {
        self.stop();
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let run = |program: &str, args: &[&str]| {
            let program = muster_sys::process::Program::new(program).args(args);
            let done = program.output(std::time::Duration::from_secs(30), 1 << 16).unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        drop(std::fs::remove_file(path("host")));
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path("host")]);
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
            self.port,
            path("host"),
            path("authorized"),
        );
        std::fs::write(path("config"), config).unwrap();
        let started = muster_sys::process::Program::new(Self::PROGRAM)
            .args(["-D", "-E", &path("log"), "-f", &path("config")])
            .inherit();
        self.child = Some(started.unwrap());
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", std::fs::read_to_string(path("log")).unwrap());
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn a_real_ssh_server_lets_the_key_in_and_is_known_by_its_own(database: Database) {
    if !std::path::Path::new(Sshd::PROGRAM).exists() {
        // Nobody's machine is to have one for a test: installed, it serves everybody.
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: this machine has no OpenSSH server");
        }
        return;
    }
    let mut sshd = Sshd::start();
    let server = Server::start_without_repository(database, "poll_remote_s = 1\n");
    let who = muster_sys::process::Program::new("id").arg("-un");
    let who = who.output(std::time::Duration::from_secs(10), 1 << 10).unwrap().stdout;
    let who = String::from_utf8(who).unwrap();
    let location =
        format!("ssh://{}@127.0.0.1:{}{}", who.trim(), sshd.port, server.origin.display());
    let add = ["repo", "add", "team/app", &location, "--deploy-key"];
    let refused = server.muster(&add);
    assert_eq!(refused.exit, Some(2));
    assert!(refused.err.contains("Permission denied (publickey)"), "{}", refused.err);
    let key = refused.err.lines().find(|line| line.starts_with("ssh-ed25519 ")).unwrap();
    std::fs::write(sshd.folder.path().join("authorized"), format!("{key}\n")).unwrap();
    let added = server.muster(&add);
    assert_eq!(added.exit, Some(0), "{}", added.err);
    server.until("it has been seen", Server::has_seen);
    server.scene.workflow(GREEN);
    let sha = server.push("main", "By SSH");
    assert_eq!(server.verdict(&sha), TESTED);
    server.until("the note is there", |server| {
        let refs = crate::scene::git_in(&server.origin, &["for-each-ref"]);
        refs.contains("refs/notes/muster")
    });
    // Somebody else in its place is not believed.
    sshd.serve();
    let mut listed = String::new();
    server.until("it is refused", |server| {
        listed = server.muster(&["repo", "list"]).out;
        // While it starts there is nobody.
        listed.contains("problem") && !listed.contains("Connection refused")
    });
    assert!(listed.contains("Host key verification failed"), "{listed}");
}

fn a_mirror_that_went_is_fetched_again(database: Database) {
    let mut server = Server::start(database, "");
    server.scene.workflow(GREEN);
    let sha = server.push("main", "First");
    server.verdict(&sha);
    server.configure("[retention]\nmirror_days = 0\n");
    // Notes are the last that a mirror is needed for.
    let told = |server: &Server| {
        server.until("all is told", |server| server.muster(&["outbox"]).out.is_empty());
    };
    told(&server);
    server.kill_and_serve();
    let mirrors =
        |server: &Server| std::fs::read_dir(server.data().join("mirrors")).unwrap().count();
    server.until("the mirror is gone", |server| mirrors(server) == 0);
    let again = server.muster(&["rerun", "1"]);
    assert_eq!(again.exit, Some(0), "{}", again.err);
    server.until("it ran again", |server| server.muster(&["log", "1"]).out.contains("tested"));
    server.scene.file("second", "");
    let next = server.push("main", "Second");
    assert_eq!(server.verdict(&next), TESTED);
    // What nobody has any more cannot be run again, and that is said.
    told(&server);
    server.kill_and_serve();
    server.until("the mirror is gone", |server| mirrors(server) == 0);
    server.scene.git(&["commit", "--quiet", "--amend", "--message", "Instead"]);
    let origin = server.origin.to_string_lossy().into_owned();
    server.scene.git(&["push", "--quiet", "--force", &origin, "HEAD:refs/heads/main"]);
    crate::scene::git_in(&server.origin, &["reflog", "expire", "--expire=now", "--all"]);
    crate::scene::git_in(&server.origin, &["gc", "--quiet", "--prune=now"]);
    let gone = server.muster(&["rerun", "2"]);
    assert_eq!(gone.exit, Some(2));
    assert!(gone.err.contains("is not on this server any more"), "{}", gone.err);
}

fn what_is_too_large_is_refused_with_the_reason(database: Database) {
    let server = Server::start(database, "max_fetch_mib = 1\n");
    server.scene.workflow(GREEN);
    let mut random = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random.to_be_bytes()[0]
    })
    .take(3 << 20)
    .collect();
    // In many objects, as most of what is large.
    for (number, part) in noise.chunks(20 << 10).enumerate() {
        std::fs::write(server.scene.path().join(format!("noise-{number}")), part).unwrap();
    }
    server.push("main", "Large");
    let mut listed = String::new();
    server.until("the problem is told", |server| {
        listed = server.muster(&["repo", "list"]).out;
        listed.contains("problem")
    });
    let origin = server.origin.to_string_lossy().into_owned();
    assert_snapshot!(listed.replace(&origin, "[origin]"), @"team/app  [origin]  problem: cannot fetch: the repository sends more than 1 MiB at once (`max_fetch_mib`)");
    // Nothing of it stays, and the repository is heard again when it is gone.
    let mirror =
        std::fs::read_dir(server.data().join("mirrors")).unwrap().flatten().next().unwrap();
    let packs = std::fs::read_dir(mirror.path().join("objects/pack")).unwrap().flatten();
    let left: Vec<_> = packs.filter(|file| file.metadata().unwrap().len() >= 1 << 20).collect();
    assert!(left.is_empty(), "{left:?}");
    server.scene.git(&["rm", "--quiet", "--force", "noise-*"]);
    server.scene.git(&["commit", "--quiet", "--amend", "--message", "Small"]);
    server.scene.file("small", "");
    let sha = server.push("main", "Smaller");
    assert_eq!(server.verdict(&sha), TESTED);
}

fn what_git_refuses_for_another_reason_is_not_called_too_large(database: Database) {
    let server = Server::start(database, "");
    // A tree that would write into `.git`, among so many objects that they come as a pack.
    let script = "set -e
        for number in $(seq 20); do
            printf '100644 blob %s\\tfile-%s\\n' $(echo $number | git hash-object -w --stdin) $number
        done >entries
        printf '100644 blob %s\\t.git\\n' $(echo evil | git hash-object -w --stdin) >>entries
        git update-ref refs/heads/evil $(git -c user.name=a -c user.email=a@b commit-tree -m Evil $(git mktree <entries))";
    let made = muster_sys::process::Program::new("sh").args(["-c", script]).dir(&server.origin);
    let made = made.output(std::time::Duration::from_secs(30), 1 << 16).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut listed = String::new();
    server.until("the problem is told", |server| {
        listed = server.muster(&["repo", "list"]).out;
        listed.contains("problem")
    });
    assert!(listed.contains("hasDotgit") && !listed.contains("max_fetch_mib"), "{listed}");
}

fn everybodys_turn_comes_and_one_that_hangs_holds_up_nobody(database: Database) {
    let mut server = Server::start_without_repository(database, "poll_remote_s = 1\n");
    server.program("ssh", SSH);
    std::fs::write(server.programs().join("authorized"), "").unwrap();
    let location = format!("git@code.example.org:{}", server.origin.display());
    let add = ["repo", "add", "team/slow", &location, "--deploy-key"];
    let refused = server.muster(&add).err;
    let key = refused.lines().find(|line| line.starts_with("ssh-ed25519 ")).unwrap();
    std::fs::write(server.programs().join("authorized"), key).unwrap();
    assert_eq!(server.muster(&add).exit, Some(0));
    std::fs::write(server.programs().join("hang"), "").unwrap();
    // More than are looked at at once, none of which sends a nudge.
    let repositories: Vec<String> = (0..12).map(|number| format!("repository-{number}")).collect();
    for name in &repositories {
        let path = server.data().join(format!("../{name}.git"));
        std::fs::create_dir(&path).unwrap();
        crate::scene::git_in(&path, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        let path = path.canonicalize().unwrap().to_string_lossy().into_owned();
        assert_eq!(server.muster(&["repo", "add", name, &path]).exit, Some(0));
    }
    server.until("all are seen", |server| {
        let listed = server.muster(&["repo", "list"]).out;
        listed.lines().filter(|line| line.contains("not looked at yet")).count() <= 1
    });
    server.scene.workflow(GREEN);
    server.scene.commit("To all");
    for name in &repositories {
        let path = server.data().join(format!("../{name}.git")).to_string_lossy().into_owned();
        server.scene.git(&["push", "--quiet", &path, "HEAD:refs/heads/main"]);
    }
    server.until("all have run", |server| {
        let runs = server.muster(&["runs"]).out;
        repositories.iter().all(|name| runs.contains(&format!(" {name} ")))
            && runs.lines().filter(|line| line.contains(" success ")).count() == repositories.len()
    });
    server.terminate();
}

fn hostile_names_hold_up_nothing_and_stay_on_their_line(database: Database) {
    let server = Server::start(database, "");
    server.scene.workflow("on: push\njobs:\n  test:\n    runs-on: \"x-\\u202e-\\e[31m\"\n    steps: [{run: 'true'}]\n");
    let sha = server.push("main", "First");
    // Two names that look the same once they are text.
    let script = format!(
        "git update-ref \"$(printf 'refs/heads/z\\377')\" {sha}; git update-ref \"$(printf 'refs/heads/z\\376')\" {sha}"
    );
    let done = muster_sys::process::Program::new("sh").args(["-c", &script]).dir(&server.origin);
    assert!(done.output(std::time::Duration::from_secs(10), 1 << 16).unwrap().status.success());
    server.scene.file("second", "");
    let second = server.push("turned\u{202e}around", "Second");
    assert_snapshot!(server.verdict(&second), @"
    muster error: not run to the end: test
    test error: Not run: no runner serves the label `x-�-�[31m`
    .github/workflows/ci.yml ran
    ");
    let runs = server.muster(&["runs"]).out;
    assert!(runs.contains("turned\u{fffd}around") && !runs.contains('\u{202e}'), "{runs}");
    assert!(!server.muster(&["repo", "list"]).out.contains("problem"));
}

#[test]
fn a_million_refs_are_refused_and_hold_up_nobody() {
    let server = Server::start(Database::Sqlite, "");
    server
        .scene
        .workflow("on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{run: 'true'}]\n");
    let sha = server.push("main", "Fine");
    let many = server.origin.with_file_name("many.git");
    server.scene.git(&[
        "clone",
        "--quiet",
        "--bare",
        &server.origin.to_string_lossy(),
        &many.to_string_lossy(),
    ]);
    let refs = (0..1_000_000).map(|number| format!("{sha} refs/heads/branch-{number:07}\n"));
    let refs = refs.collect::<String>();
    let refs = format!("# pack-refs with: peeled fully-peeled sorted \n{refs}");
    std::fs::write(many.join("packed-refs"), refs).unwrap();
    let added = server.muster(&["repo", "add", "team/many", &many.to_string_lossy()]);
    assert_eq!(added.exit, Some(0), "{}", added.err);
    server.until("it is refused", |server| {
        let listed = server.muster(&["repo", "list"]).out;
        listed.contains("branches and tags, more than 50000")
    });
    server.scene.file("more", "");
    let second = server.push("main", "More");
    assert!(server.verdict(&second).contains("test success"));
}
