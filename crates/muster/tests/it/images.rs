//! Jobs whose machine is an image: a real Debian, made as the documentation says, and small roots in each form.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;
use sha2::{Digest as _, Sha256};

use crate::actions::path_with_node;
use crate::database::{Database, on_both};
use crate::engine::{engine, small_root};
use crate::kept::Kept;
use crate::sandbox::there_can_be_one;
use crate::scene::{Done, Scene, install_muster};
use crate::server::{Server, kill, supervisors};

on_both! {
    jobs_of_a_label_have_its_image_and_a_killed_supervisor_leaves_nothing,
}

const LIMIT: Duration = Duration::from_secs(120);

/// Returns true where root can make roots of images; says so where it cannot.
pub(crate) fn there_can_be_roots() -> bool {
    rustix::process::geteuid().is_root() && there_can_be_one()
}

/// Returns the image that the test command has made; `None`, which is said, where it is absent.
fn debian() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images/debian-12");
    if let Ok(folder) = folder.canonicalize() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "target/images/debian-12 is missing: cargo xtask test"
    );
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: there is no image of Debian, which `cargo xtask test` makes as root");
    }
    None
}

/// Returns a small root, made once.
pub(crate) fn small() -> &'static Path {
    static SMALL: OnceLock<PathBuf> = OnceLock::new();
    SMALL.get_or_init(|| {
        let keeper = Kept::folder();
        let root = keeper.join("small");
        small_root(&root);
        fs::write(root.join("etc/motd"), "a small root\n").unwrap();
        // Goes with the test program.
        let _ =
            Box::leak(Box::new(Kept::start(keeper, "TERM", &["sleep".into(), "infinity".into()])));
        root
    })
}

fn run(program: Program) -> String {
    let output = program.output(LIMIT, 1 << 20).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what is in a scene with an image for `debian-12`.
fn with_image(scene: &Scene, image: &str, more: &[&str]) -> Done {
    let image = format!("debian-12={image}");
    let args = [&["run", "--image", &image], more].concat();
    scene.muster_with(&args, &[("PATH", &path_with_node())])
}

/// Makes a repository of packages with one that wants a user of its own, and serves it.
fn packages() -> (Kept, u16) {
    let folder = Kept::folder();
    let package = folder.join("package");
    for (path, content, mode) in [
        (
            "DEBIAN/control",
            "Package: greeter\nVersion: 1.0\nArchitecture: all\nMaintainer: Ana <ana@example.org>\n\
             Description: greets\n",
            0o644,
        ),
        (
            "DEBIAN/postinst",
            "#!/bin/sh\nset -e\nuseradd --system --no-create-home greeter\n\
             chown greeter:greeter /usr/share/greeter\n",
            0o755,
        ),
        (
            "usr/bin/greet",
            "#!/bin/sh\necho \"hello from $(id -un)\"\ntouch /usr/share/greeter/seen\n",
            0o755,
        ),
        ("usr/share/greeter/.keep", "", 0o644),
    ] {
        let path = package.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let served = folder.join("served");
    fs::create_dir(&served).unwrap();
    let archive = served.join("greeter.deb");
    run(Program::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(&package)
        .arg(&archive));
    let bytes = fs::read(&archive).unwrap();
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let control = fs::read_to_string(package.join("DEBIAN/control")).unwrap();
    let listed =
        format!("{control}Filename: ./greeter.deb\nSize: {}\nSHA256: {hash}\n", bytes.len());
    fs::write(served.join("Packages"), listed).unwrap();
    // Free until somebody else takes it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let command = ["busybox", "httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"];
    let mut command: Vec<String> = command.map(str::to_owned).to_vec();
    command.push(served.to_string_lossy().into_owned());
    (Kept::start(folder, "TERM", &command), port)
}

#[test]
fn a_job_is_root_of_a_debian_that_nobody_else_sees() {
    if !there_can_be_roots() {
        return;
    }
    let Some(debian) = debian() else { return };
    let (_packages, port) = packages();
    let scene = Scene::new();
    scene.file("action/action.yml", "runs: {using: node20, main: main.js}\n");
    scene.file("action/main.js", "console.log(`Node.js of this machine, in ${process.cwd()}`)\n");
    scene.workflow(&format!(
        r#"
on: push
jobs:
  test:
    runs-on: debian-12
    steps:
      - uses: actions/checkout@v4
      - name: Who
        run: |
          echo "$(id -un) of $(. /etc/os-release; echo $PRETTY_NAME) in $PWD, home $HOME"
          git log --format=%s; git status --short
          ls -ld .git /tmp /usr/bin | cut -d' ' -f1,3,4
          grep -E "CapEff|NoNewPrivs|Seccomp:" /proc/self/status
      - name: Install
        run: |
          rm -f /etc/apt/sources.list.d/*
          echo "deb [trusted=yes] http://127.0.0.1:{port}/ ./" | sudo tee /etc/apt/sources.list >/dev/null
          sudo apt-get -q update >/dev/null 2>&1
          sudo apt-get -q install --yes greeter | grep "Setting up"
          sudo -u greeter greet; ls -l /usr/share/greeter/seen | cut -d' ' -f3; greet
      - name: As others
        run: |
          A=1 sudo -nE B=2 sh -c 'echo $A $B'
          sudo -u nobody sh -c 'id -un; grep CapEff /proc/self/status; touch /usr/bin/x' || echo closed to nobody
          sudo -i pwd; sudo --chdir=/usr pwd; sudo -k; sudo -zz || echo $?; sudo -u || echo $?
          sudo -niu greeter pwd 2>&1 || true; sudo -Hu nobody sh -c 'echo $HOME'; sudo -u '#12345' -g nogroup id -u
          sudo -g nogroup id -gn; sudo -u nowhere true || echo $?
      - uses: ./action
      - name: Closed to others
        run: |
          umask 077; echo x > action/closed; bash -c 'umask 077; git status --short'
          sudo -u nobody ls /opt/muster/repository/objects >/dev/null && sudo -u nobody ls -d /__e/node/bin
      - run: echo "${{{{ hashFiles('action/*') != '' }}}}"
      - name: What root may not
        shell: bash
        run: |
          for what in "mount -t tmpfs none /mnt" "unshare --user true" "mknod /tmp/null c 1 3" "chroot / true" \
            "touch /opt/muster/repository/x" "readlink /proc/1/fd/0"; do
            $what 2>/dev/null && echo "$what: done" || echo "$what: refused"
          done
          rm -rf /usr/share/doc /etc/debian_version; test -e /etc/debian_version || echo gone
"#
    ));
    scene.commit("first");
    let done = with_image(&scene, &debian.to_string_lossy(), &["--isolation", "sandbox"]);
    let story = done.story();
    let story: Vec<&str> = story.lines().filter(|line| !line.starts_with("isolation: ")).collect();
    assert_snapshot!(story.join("\n"), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Who
    │ root of Debian GNU/Linux 12 (bookworm) in /home/runner/work/repository/repository, home /home/runner
    │ first
    │ drwxr-xr-x root root
    │ drwxrwxrwt root root
    │ drwxr-xr-x root root
    │ CapEff:	00000000000000db
    │ NoNewPrivs:	1
    │ Seccomp:	2
    ✓ Who [time]
    ▸ Install
    │ debconf: delaying package configuration, since apt-utils is not installed
    │ Setting up greeter (1.0) ...
    │ hello from greeter
    │ greeter
    │ hello from root
    ✓ Install [time]
    ▸ As others
    │ 1 2
    │ nobody
    │ CapEff:	0000000000000000
    │ touch: cannot touch '/usr/bin/x': Permission denied
    │ closed to nobody
    │ /root
    │ /usr
    │ sudo: -zz is not known to what stands for sudo in a job of muster
    │ 1
    │ sudo: -u is of something: say what
    │ 1
    │ /usr/local/bin/sudo: 82: cd: can't cd to /home/greeter
    │ /nonexistent
    │ 12345
    │ nogroup
    │ sudo: unknown user nowhere
    │ 1
    ✓ As others [time]
    ▸ Run ./action
    │ Node.js of this machine, in /home/runner/work/repository/repository
    ✓ Run ./action [time]
    ▸ Closed to others
    │ ?? action/closed
    │ /__e/node/bin
    ✓ Closed to others [time]
    ▸ Run echo "true"
    │ true
    ✓ Run echo "true" [time]
    ▸ What root may not
    │ mount -t tmpfs none /mnt: refused
    │ unshare --user true: refused
    │ mknod [path] c 1 3: refused
    │ chroot / true: refused
    │ touch /opt/muster/repository/x: refused
    │ readlink /proc/1/fd/0: refused
    │ gone
    ✓ What root may not [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    "#);
    assert!(done.out.contains(" as debian-12; sandbox: namespaces, seccomp, "), "{}", done.out);
    // Nothing of it has reached the image.
    assert!(debian.join("etc/debian_version").exists() && !debian.join("usr/bin/greet").exists());
}

/// Images of some systems have links where others have folders; what they lead to is theirs, and never this machine's.
#[test]
fn links_of_an_image_lead_where_they_lead_in_it() {
    if !there_can_be_roots() {
        return;
    }
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  a:\n    runs-on: linked\n    steps:\n      - run: |\n          cat /etc/motd; tool; echo $PWD; sudo id -u\n\
         \x20         ls -d /private/etc/hosts /var/home/runner /private/local/bin/sudo\n",
    );
    scene.commit("first");
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    run(Program::new("cp").arg("-a").arg(small()).arg(&image));
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, image.join(at)).unwrap();
    for made in ["private", "var/home", "usr", "private/local/bin"] {
        fs::create_dir_all(image.join(made)).unwrap();
    }
    fs::rename(image.join("etc"), image.join("private/etc")).unwrap();
    link("private/etc", "etc");
    link("/private/local", "usr/local");
    fs::write(image.join("private/local/bin/tool"), "#!/bin/sh\necho a tool of the image\n")
        .unwrap();
    fs::set_permissions(image.join("private/local/bin/tool"), fs::Permissions::from_mode(0o755))
        .unwrap();
    link("var/home", "home");
    let image_of = |image: &Path| format!("linked={}", image.display());
    let done = scene.muster(&["run", "--image", &image_of(&image)]);
    assert_snapshot!(said(&done), @"
    a small root
    a tool of the image
    /var/home/runner/work/repository/repository
    0
    /private/etc/hosts
    /private/local/bin/sudo
    /var/home/runner
    ");
    // As bubblewrap sees the machine while it makes a root.
    fs::remove_file(image.join("home")).unwrap();
    link("/oldroot/tmp", "home");
    let done = scene.muster(&["run", "--image", &image_of(&image)]);
    assert!(done.out.contains("its /home is a link that leads to no folder"), "{}", done.out);
    assert!(!Path::new("/tmp/runner").exists());
    fs::remove_file(image.join("home")).unwrap();
    link("/tmp", "proc");
    let done = scene.muster(&["run", "--image", &image_of(&image)]);
    assert!(done.out.contains("its /proc is no folder"), "{}", done.out);
}

/// Returns what the steps have written.
fn said(done: &Done) -> String {
    let lines = done.out.lines().filter_map(|line| line.strip_prefix("│ "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_form_of_an_image_is_the_same_root() {
    if !there_can_be_roots() {
        return;
    }
    let Some(engine) = engine() else { return };
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  a:\n    runs-on: debian-12\n    steps:\n      - run: echo \"$(cat /etc/motd), $(stat -c %a:%u /tmp /bin/busybox | tr '\\n' ' ')${FROM_IMAGE-}\"\n",
    );
    scene.commit("first");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let tar = |name: &str, more: &[&str]| {
        run(Program::new("tar").args(more).arg("-C").arg(small()).args(["-cf", &at(name), "."]));
    };
    tar("root.tar", &[]);
    tar("root.tar.gz", &["--gzip"]);
    let plain = fs::read(at("root.tar")).unwrap();
    fs::write(at("root.tar.zst"), zstd::encode_all(&*plain, 1).unwrap()).unwrap();
    engine.docker(&[
        "import",
        "-c",
        "ENV PATH=/bin FROM_IMAGE=yes",
        &at("root.tar"),
        "localhost/forms:1",
    ]);
    // A second layer, which takes something away and adds something.
    engine.docker(&["create", "--name", "forms", "localhost/forms:1", "none"]);
    fs::write(at("motd"), "a small root, changed\n").unwrap();
    engine.docker(&["cp", &at("motd"), "forms:/etc/motd"]);
    engine.docker(&["commit", "forms", "localhost/forms:2"]);
    engine.docker(&["rm", "forms"]);
    let from = "docker-daemon:localhost/forms:2";
    let daemon = format!("--src-daemon-host=unix://{}", engine.socket().display());
    for to in [format!("oci:{}", at("layout")), format!("oci-archive:{}", at("layout.tar"))] {
        let copy = Program::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]);
        run(copy
            .arg(&daemon)
            .arg(from)
            .arg(to)
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", folder.path())
            .dir(folder.path()));
    }
    let forms = [
        small().to_string_lossy().into_owned(),
        at("root.tar"),
        at("root.tar.gz"),
        at("root.tar.zst"),
        at("layout"),
        at("layout.tar"),
        "docker://localhost/forms:1".to_owned(),
    ];
    let (name, host) = engine.variable();
    let mut told = Vec::new();
    for form in &forms {
        // The second time it is there already.
        for _ in 0..2 {
            let image = format!("debian-12={form}");
            let done = scene.muster_with(&["run", "--image", &image], &[(name, &host)]);
            assert_eq!(done.exit, Some(0), "{form}: {}{}", done.out, done.err);
            let said = done.out.lines().find_map(|line| line.strip_prefix("│ a ")).unwrap();
            let form = Path::new(form).file_name().unwrap().to_string_lossy();
            let line = format!("{form}: {said}");
            if told.last() != Some(&line) {
                told.push(line);
            }
        }
    }
    engine.docker(&["rmi", "localhost/forms:1", "localhost/forms:2"]);
    assert_snapshot!(told.join("\n"), @"
    small: small root, 1777:0 755:0 
    root.tar: small root, 1777:0 755:0 
    root.tar.gz: small root, 1777:0 755:0 
    root.tar.zst: small root, 1777:0 755:0 
    layout: small root, changed, 1777:0 755:0 yes
    layout.tar: small root, changed, 1777:0 755:0 yes
    forms:1: small root, 1777:0 755:0 yes
    ");
    // They are kept where others do not get at them.
    let kept = scene.path().join(".cache/muster/images");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(engine.left_by_runs().is_empty());
}

#[test]
fn what_is_no_image_is_told_with_the_reason() {
    if !there_can_be_roots() {
        return;
    }
    let scene = Scene::new();
    scene.workflow("on: push\njobs: {a: {runs-on: debian-12, steps: [{run: exit 0}]}}\n");
    scene.commit("first");
    let root = small().to_string_lossy().into_owned();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("no.tar"), "this is no archive, however long it is\n".repeat(100)).unwrap();
    fs::write(at("no.xz"), b"\xfd7zXZ\0 and more").unwrap();
    fs::create_dir_all(at("layout/blobs/sha256")).unwrap();
    fs::write(at("layout/oci-layout"), "{}").unwrap();
    let (zeros, wrong) = ("0".repeat(64), "1".repeat(64));
    let index = format!("{{\"manifests\": [{{\"digest\": \"sha256:{zeros}\"}}]}}");
    fs::write(at("layout/index.json"), index).unwrap();
    let manifest = format!("{{\"config\": {{\"digest\": \"sha256:{wrong}\"}}, \"layers\": []}}");
    fs::write(at("layout/blobs/sha256").clone() + "/" + &zeros, manifest).unwrap();
    let mut told = String::new();
    for (image, more) in [
        (at("nowhere"), &[][..]),
        (at("empty"), &[]),
        (at("no.tar"), &[]),
        (at("no.xz"), &[]),
        (at("layout"), &[]),
        (root.clone(), &["--isolation", "none"]),
        (root.clone(), &["--in-place"]),
        ("docker://localhost/none:1".to_owned(), &[]),
    ] {
        let done = with_image(&scene, &image, more);
        let all = done.out.clone() + &done.err;
        let why =
            all.lines().find(|line| line.contains("  error  ") || line.starts_with("muster: "));
        let why = why.unwrap_or(&all).replace(&*folder.path().to_string_lossy(), "[folder]");
        let why = why.replace(&root, "[root]").replace("  error  ", "");
        let why = why.split("ms  ").last().unwrap().trim().to_owned();
        writeln!(told, "{}: {why}", done.exit.unwrap()).unwrap();
    }
    assert_snapshot!(told, @"
    2: error: --image debian-12: [folder]/nowhere is not there (an image is `host`, a folder, an archive, or `docker://NAME`)
    2: the image [folder]/empty: it is no root of a system: it has neither `usr` nor `bin`
    2: the image [folder]/no.tar: it is no archive (tar)
    2: the image [folder]/no.xz: it is compressed by xz or bzip2: unpack it, or compress it by gzip or zstd
    2: the image [folder]/layout: sha256:0000000000000000000000000000000000000000000000000000000000000000 is not what that says
    2: the machine of this job is an image ([root]), and that takes a sandbox: `isolation` is `none`
    2: a job whose machine is an image runs in a workspace of its own; leave out `--in-place`
    2: the image docker://localhost/none:1: the container engine at /nowhere/engine.sock does not answer: Socket not found: /nowhere/engine.sock
    ");
}

#[test]
fn without_root_it_is_said_that_it_takes_root() {
    if !there_can_be_roots() {
        return;
    }
    let scene = Scene::new();
    scene.workflow("on: push\njobs: {a: {runs-on: debian-12, steps: [{run: exit 0}]}}\n");
    scene.commit("first");
    let muster = scene.path().join("muster");
    install_muster(&muster);
    run(Program::new("chown").args(["-R", "65534:65534"]).arg(scene.path()));
    fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let ran = Program::new("setpriv").args(nobody).arg(&muster).args([
        "run",
        "--image",
        "debian-12=/usr",
    ]);
    let ran = ran.dir(scene.path()).env("HOME", scene.path()).output(LIMIT, 1 << 20).unwrap();
    assert_snapshot!(Done::of(&ran).story(), @"
    .github/workflows/ci.yml
    .github/workflows/ci.yml: error
      a  error  [time]  an image's root takes 65,536 users of its own, which only a muster that runs as root can give it, and not in a container with fewer
    exit 2
    ");
}

fn jobs_of_a_label_have_its_image_and_a_killed_supervisor_leaves_nothing(database: Database) {
    if !there_can_be_roots() {
        return;
    }
    let config = format!(
        "isolation = \"auto\"\n[images]\nsmall = \"{}\"\nlinux = \"host\"\n",
        small().display()
    );
    let server = Server::start(database, &config);
    let doctor = server.muster(&["doctor"]).out;
    assert!(
        doctor.lines().any(|line| line.contains("images") && line.ends_with("linux, small")),
        "{doctor}"
    );
    server.workflow(
        "on: push\njobs:\n  inside:\n    runs-on: [self-hosted, small]\n    needs: host\n    steps:\n\
         \x20     - run: cat /etc/motd; id -u; touch /here\n\
         \x20     - run: \"test -e /tmp/again || sleep 1000\"\n\
         \x20 host: {runs-on: linux, steps: [{run: '! grep \"a small root\" /etc/motd'}]}\n",
    );
    server.push("main", "first");
    let mut killed = Vec::new();
    server.until("the job sleeps in its image", |server| {
        // Looked at in this order, one that is alone is the one that speaks: the other job's may end late.
        let speaks = server.muster(&["log", "1", "inside"]).out.contains("a small root\n0\n");
        killed = supervisors(&server.data());
        speaks && killed.len() == 1
    });
    kill(&killed[0].0);
    server.until("it is tried again, from the image", |server| {
        let log = server.muster(&["log", "1", "inside"]).out;
        let second =
            supervisors(&server.data()).iter().any(|(_, line)| line.contains(".2/job.json"));
        second && log.contains("a small root\n0\n")
    });
    assert_eq!(server.muster(&["cancel", "1"]).exit, Some(0));
    assert!(!small().join("here").exists());
}
