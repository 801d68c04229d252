//! Jobs in containers, services beside them, and actions that are containers, by a real engine and a real registry.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};

use insta::assert_snapshot;
use muster_sys::process::Program;

use crate::actions::path_with_node;
use crate::database::{Database, on_both};
use crate::engine::{Engine, IMAGE, PASSWORD, USER, engine, on_engines};
use crate::github::Story;
use crate::scene::{Done, Scene};
use crate::server::{Server, kill, processes, supervisors, wait_until};
use crate::services::{clients, said, with_clients};

on_engines! {
    a_job_runs_in_a_container_beside_its_services,
    actions_can_be_containers,
    services_are_reached_by_their_ports_from_a_job_of_the_machine,
    what_opens_the_machine_or_cannot_be_is_refused_with_the_reason,
    githubs_clients_work_in_a_container_with_a_network_and_without,
    a_link_in_the_place_of_the_workspace_shows_nothing_of_the_machine,
    nothing_is_built_for_a_job_without_a_network,
    a_checkout_for_a_container_comes_to_its_path_and_no_further,
    a_container_is_bounded,
}
on_both! {
    a_killed_supervisor_leaves_no_container_and_its_job_is_tried_again,
    a_strangers_job_runs_in_no_container_whose_root_is_the_machines,
}

/// Runs what is in a scene, with the engine.
fn run(scene: &Scene, engine: &Engine, more: &[&str]) -> Done {
    let (name, host) = engine.variable();
    let path = path_with_node();
    let args = [&["run", "--isolation", "sandbox"], more].concat();
    scene.muster_with(&args, &[(name, &host), ("PATH", &path)])
}

/// Returns what was told, without what differs between engines and runs.
fn story(engine: &Engine, done: &Done) -> String {
    let mut story = done.story();
    for image in [&engine.remote, &engine.base] {
        story = story.replace(image.split('/').next().unwrap(), "[registry]");
    }
    // What an engine says of a build is its own.
    let others = [
        "Pulling localhost/",
        "Step ",
        " ---> ",
        "Removing intermediate ",
        "Successfully ",
        "STEP ",
        "--> ",
        "COMMIT ",
        "Trying to pull ",
        "Getting image ",
        "Copying ",
        "Writing manifest ",
        "Storing signatures",
        "[id]",
    ];
    let is_told = |line: &&str| {
        let is_others = line
            .strip_prefix("│ ")
            .is_some_and(|said| others.iter().any(|of| said.starts_with(of)));
        !is_others && !line.contains("is taken as it is here") && !line.starts_with("isolation: ")
    };
    let id = |word: &str| {
        let hex = word.strip_prefix("sha256:").unwrap_or(word);
        hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let line = |line: &str| {
        let words = line.split(' ').map(|word| if id(word) { "[id]" } else { word });
        let line = words.collect::<Vec<_>>().join(" ");
        // Of why it cannot be both engines say the end alike.
        let cut = ["cannot pull ", "cannot build "].iter().find_map(|what| {
            let (before, after) =
                line.split_once(what).filter(|_| !line.contains("the job has"))?;
            let name = after.split(": ").next()?;
            let why = after.rsplit(": ").next()?;
            let why = if *what == "cannot build " { why.rsplit(' ').next()? } else { why };
            Some(format!("{before}{what}{name}: … {why}"))
        });
        cut.unwrap_or(line)
    };
    story.lines().map(line).filter(|line| is_told(&&**line)).collect::<Vec<_>>().join("\n")
}

fn a_job_runs_in_a_container_beside_its_services(engine: &Engine) {
    let scene = Scene::new();
    scene.file("hello", "hello\n");
    scene.file(
        "js/action.yml",
        "inputs: {who: {default: you}}\nruns: {using: node20, main: main.js}\n",
    );
    scene.file(
        "js/main.js",
        "const fs = require('fs');\nconsole.log(`node greets ${process.env.INPUT_WHO} in ${process.cwd()}`);\n\
         fs.appendFileSync(process.env.GITHUB_ENV, 'SET=by node\\n');\n",
    );
    scene.workflow(&format!(
        r#"
on: push
env: {{OUTER: outer}}
jobs:
  inside:
    runs-on: ubuntu-latest
    container:
      image: {remote}
      credentials: {{username: {USER}, password: '${{{{ secrets.PULL }}}}'}}
      env: {{COLOR: 'blue ${{{{ env.OUTER }}}}'}}
      volumes: ['kept:/kept', '/alone']
      options: --cpus 1 --hostname box --add-host other:127.0.0.9
    services:
      web:
        image: {IMAGE}
        command: httpd -f -p 8080 -h /etc
        options: --health-cmd "wget -qO- localhost:8080/passwd" --health-interval 50ms --health-retries 200
      none: {{image: '${{{{ vars.NONE }}}}'}}
    outputs: {{made: '${{{{ steps.one.outputs.made }}}}'}}
    steps:
      - uses: actions/checkout@v4
      - id: one
        run: |
          echo "$(id -u) $(pwd) $HOME $(cat hello) $COLOR $FROM_IMAGE $OUTER $(cat /proc/sys/kernel/hostname) $CI"
          echo "$RUNNER_TEMP $RUNNER_TOOL_CACHE $GITHUB_WORKSPACE $GITHUB_EVENT_PATH $(head -c 1 $GITHUB_EVENT_PATH)"
          wget -qO- web:8080/passwd | head -n 1
          grep other /etc/hosts; touch /kept/a /alone/b
          echo "made=here" >> "$GITHUB_OUTPUT"; echo "NEXT=next" >> "$GITHUB_ENV"; echo /opt/more >> "$GITHUB_PATH"
      - uses: ./js
      - run: |
          echo "$NEXT $SET $PATH ${{{{ steps.one.outputs.made }}}} ${{{{ job.status }}}}"
          test -n "${{{{ job.container.id }}}}" && test -n "${{{{ job.services.web.id }}}}"
          echo "hash ${{{{ hashFiles('hello') }}}}" | wc -c; ls /kept
      - run: sleep 60
        timeout-minutes: 0.005
        continue-on-error: true
      - run: exit 3
        shell: sh -e {{0}}
      - if: failure()
        run: echo "after ${{{{ job.status }}}}"; cat /proc/1/environ | wc -c; kill -9 1; echo alive
"#,
        remote = engine.remote,
    ));
    scene.commit("first");
    let secret = format!("PULL={PASSWORD}");
    let done = run(&scene, engine, &["--secret", &secret]);
    assert!(!done.story().contains(PASSWORD));
    assert_snapshot!(story(engine, &done), @r#"
    .github/workflows/ci.yml
    │ Pulling [registry]/small:1
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run echo "$(id -u) $(pwd) $HOME $(cat hello) $COLOR $FROM_IMAGE $OUTER $(cat /proc/sys/kernel/hostname) $CI"
    │ 0 /__w/repository/repository /github/home hello blue outer yes outer box true
    │ /__w/_temp /__t /__w/repository/repository /github/workflow/event.json {
    │ root:x:0:0::/root:/bin/sh
    │ 127.0.0.9	other
    ✓ Run echo "$(id -u) $(pwd) $HOME $(cat hello) $COLOR $FROM_IMAGE $OUTER $(cat /proc/sys/kernel/hostname) $CI" [time]
    ▸ Run ./js
    │ node greets you in /__w/repository/repository
    ✓ Run ./js [time]
    ▸ Run echo "$NEXT $SET $PATH here success"
    │ next by node /opt/more:/bin here success
    │ 70
    │ a
    ✓ Run echo "$NEXT $SET $PATH here success" [time]
    ▸ Run sleep 60
    │ Error: the step took longer than its `timeout-minutes` and was stopped
    ✓ Run sleep 60 (failed, may fail) [time]
    ▸ Run exit 3
    │ Error: the step ended with exit code 3
    ✗ Run exit 3 [time]
    ▸ Run echo "after failure"; cat /proc/1/environ | wc -c; kill -9 1; echo alive
    │ after failure
    │ cat: can't open '/proc/1/environ': Permission denied
    │ 0
    │ alive
    ✓ Run echo "after failure"; cat /proc/1/environ | wc -c; kill -9 1; echo alive [time]
    │ ▾ What service web said last
    .github/workflows/ci.yml: failure
      inside  failure  [time]
      error  inside: the step took longer than its `timeout-minutes` and was stopped
    exit 1
    "#);
    let wrong = run(&scene, engine, &["--secret", "PULL=wrong"]);
    assert_snapshot!(story(engine, &wrong), @"
    .github/workflows/ci.yml
    │ Pulling [registry]/small:1
    .github/workflows/ci.yml: error
      inside  error  [time]  cannot pull [registry]/small:1: … authentication required
    exit 2
    ");
    assert_eq!(engine.left_by_runs(), [""; 0]);
}

fn actions_can_be_containers(engine: &Engine) {
    let scene = Scene::new();
    scene.file(
        "act/action.yml",
        "inputs: {who: {default: world}}\noutputs: {said: {description: what it said}}\nruns:\n  using: docker\n\
         \x20 image: build/Dockerfile\n  args: ['${{ inputs.who }}', two words]\n\
         \x20 env: {EXTRA: 'extra ${{ inputs.who }}', STEP: its own, OF_JOB: its own}\n  post-entrypoint: /post.sh\n",
    );
    scene.file(
        "act/build/Dockerfile",
        &format!("FROM {}\nCOPY enter.sh post.sh /\nRUN echo built > /built\nENTRYPOINT [\"/enter.sh\"]\n", engine.base),
    );
    scene.script(
        "act/build/enter.sh",
        "#!/bin/sh\necho \"$1, $2; $EXTRA; $STEP; $OF_JOB; $INPUT_WHO; $(cat /built)\"\n\
         echo \"$(pwd) $GITHUB_WORKSPACE $HOME $RUNNER_TEMP $GITHUB_EVENT_PATH\"\n\
         echo \"said=$1\" >> $GITHUB_OUTPUT\necho \"kept=state\" >> $GITHUB_STATE\necho FROM_ACTION=yes >> $GITHUB_ENV\n\
         touch made-by-action\necho '::warning::careful'\n\
         test -d $(head -n 1 .git/objects/info/alternates) && echo 'git has its objects'\n",
    );
    scene.script("act/build/post.sh", "#!/bin/sh\necho \"post $STATE_kept of $INPUT_WHO\"\n");
    scene.file(
        "bare/Dockerfile",
        &format!("FROM {}\nENTRYPOINT [\"/bin/echo\", \"bare\"]\n", engine.base),
    );
    scene.file("wrong/action.yml", "runs: {using: docker, image: Dockerfile}\n");
    scene.file("wrong/Dockerfile", &format!("FROM {}\nRUN exit 7\n", engine.base));
    let steps = r#"
    steps:
      - uses: actions/checkout@v4
      - id: act
        uses: ./act
        with: {who: friend}
        env: {STEP: of the step}
      - run: echo "${{ steps.act.outputs.said }} $FROM_ACTION"; ls made-by-action
      - uses: ./bare
        with: {args: "one 'two three'"}
      - uses: docker://IMAGE
        with: {entrypoint: /bin/sh, args: '-c "echo $0 $INPUT_ARGS; exit 4"'}
        continue-on-error: true
      - uses: ./wrong
"#
    .replace("IMAGE", IMAGE);
    let job = |name: &str, keys: &str| {
        format!(
            "  {name}:\n    runs-on: ubuntu-latest\n    env: {{OF_JOB: of the job}}\n{keys}{}",
            &steps[1..]
        )
    };
    let container = format!("    container: {{image: '{IMAGE}', options: --user 1234}}\n");
    scene.workflow(&format!("on: push\njobs:\n{}{}", job("host", ""), job("inside", &container)));
    scene.commit("first");
    let [host, inside] =
        ["host", "inside"].map(|job| story(engine, &run(&scene, engine, &["--job", job])));
    assert_snapshot!(host, @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ./act
    │ Building build/Dockerfile
    │ ▾ What is built
    │ friend, two words; extra friend; of the step; of the job; friend; built
    │ /github/workspace /github/workspace /github/home /github/runner_temp /github/workflow/event.json
    │ Warning: careful
    │ git has its objects
    ✓ Run ./act [time]
    ▸ Run echo "friend $FROM_ACTION"; ls made-by-action
    │ friend yes
    │ made-by-action
    ✓ Run echo "friend $FROM_ACTION"; ls made-by-action [time]
    ▸ Run ./bare
    │ Building Dockerfile
    │ ▾ What is built
    │ bare one two three
    ✓ Run ./bare [time]
    ▸ Run docker://localhost/muster-test:1
    │ /bin/sh -c "echo $0 $INPUT_ARGS; exit 4"
    │ Error: the step ended with exit code 4
    ✓ Run docker://localhost/muster-test:1 (failed, may fail) [time]
    ▸ Run ./wrong
    │ Building Dockerfile
    │ ▾ What is built
    │ Error: cannot build Dockerfile: … 7
    ✗ Run ./wrong [time]
    ▸ Post Run ./act
    │ post state of friend
    ✓ Post Run ./act [time]
    .github/workflows/ci.yml: failure
      host  failure  [time]
      warning  host: careful
      error  host: cannot build Dockerfile: … 7
    exit 1
    "#);
    assert_eq!(host.replace("  host  ", "  inside  ").replace(" host: ", " inside: "), inside);
    assert_eq!(engine.left_by_runs(), [""; 0]);
}

fn services_are_reached_by_their_ports_from_a_job_of_the_machine(engine: &Engine) {
    let scene = Scene::new();
    scene.workflow(&format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    services:\n      web:\n        image: {IMAGE}\n\
         \x20       command: httpd -f -p 80 -h /etc\n        ports: [80, 81/udp]\n    steps:\n      - name: Ask\n        shell: bash\n\
         \x20       run: |\n          exec 3<>/dev/tcp/localhost/${{{{ job.services.web.ports['80'] }}}}\n\
         \x20         printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' >&3; grep root: <&3\n\
         \x20     - run: exit 1\n"
    ));
    scene.commit("first");
    assert_snapshot!(story(engine, &run(&scene, engine, &[])), @"
    .github/workflows/ci.yml
    ▸ Ask
    │ root:x:0:0::/root:/bin/sh
    ✓ Ask [time]
    ▸ Run exit 1
    │ Error: the step ended with exit code 1
    ✗ Run exit 1 [time]
    │ ▾ What service web said last
    .github/workflows/ci.yml: failure
      a  failure  [time]
    exit 1
    ");
}

fn what_opens_the_machine_or_cannot_be_is_refused_with_the_reason(engine: &Engine) {
    let scene = Scene::new();
    let mut jobs = String::new();
    for (name, container) in [
        ("privileged", "{image: IMAGE, options: --privileged}"),
        ("capable", "{image: IMAGE, options: '--cap-add SYS_ADMIN'}"),
        ("mounts", "{image: IMAGE, volumes: ['/var/run:/run']}"),
        ("mounts-by-option", "{image: IMAGE, options: '-v /:/host'}"),
        ("listens", "{image: IMAGE, ports: ['0.0.0.0:80:80']}"),
        ("elsewhere", "{image: IMAGE, options: --network host}"),
        ("greedy", "{image: IMAGE, options: --memory 4000g}"),
        ("mistaken", "{image: IMAGE, options: --colour blue}"),
        ("port", "{image: IMAGE, ports: [http]}"),
        ("nowhere", "127.0.0.1:1/nothing:1"),
        ("computed", "'${{ fromJSON(''[1]'') }}'"),
    ] {
        let container = container.replace("IMAGE", &format!("'{IMAGE}'"));
        let _ = write!(
            jobs,
            "  {name}:\n    runs-on: ubuntu-latest\n    container: {container}\n    steps: [{{run: echo never}}]\n"
        );
    }
    let _ = write!(
        jobs,
        "  unwell:\n    runs-on: ubuntu-latest\n    container: {IMAGE}\n    services:\n      db:\n        image: {IMAGE}\n\
         \x20       command: sh -c \"echo no disk; exec sleep 1000\"\n\
         \x20       options: --health-cmd \"echo not yet; false\" --health-interval 50ms --health-retries 2\n\
         \x20   steps: [{{run: echo never}}]\n  ended:\n    runs-on: ubuntu-latest\n    services:\n      db:\n        image: {IMAGE}\n\
         \x20       command: sh -c \"echo no licence; exit 3\"\n        options: --health-cmd true --health-interval 1s\n\
         \x20   steps: [{{run: echo never}}]\n  empty:\n    runs-on: ubuntu-latest\n    services: {{db: '{IMAGE}'}}\n\
         \x20   steps: [{{run: echo never}}]\n"
    );
    scene.workflow(&format!("on: push\njobs:\n{jobs}"));
    scene.commit("first");
    let done = run(&scene, engine, &[]);
    let told = story(engine, &done);
    assert!(!told.contains("never"));
    assert!(told.contains("`options`: `--memory` is more than a job may have ("), "{told}");
    let verdicts = told.lines().skip_while(|line| !line.contains("ci.yml: "));
    let verdicts: Vec<_> = verdicts.filter(|line| !line.contains("  greedy ")).collect();
    assert_snapshot!(verdicts.join("\n"), @r#"
    .github/workflows/ci.yml: error
      privileged        error  [time]  `options`: `--privileged` is refused: the job is caged, and that opens this machine to it; an owner may run it with `isolation = "none"`
      capable           error  [time]  `options`: `--cap-add` is refused: the job is caged, and that opens this machine to it; an owner may run it with `isolation = "none"`
      mounts            error  [time]  `volumes`: /var/run is a path of this machine: the job is caged, and that opens this machine to it; an owner may run it with `isolation = "none"`
      mounts-by-option  error  [time]  `volumes`: / is a path of this machine: the job is caged, and that opens this machine to it; an owner may run it with `isolation = "none"`
      listens           error  [time]  `ports`: 0.0.0.0 is an address of this machine: the job is caged, and that opens this machine to it; an owner may run it with `isolation = "none"`
      elsewhere         error  [time]  `container`: `options`: `--network` is not supported, as at GitHub
      mistaken          error  [time]  `container`: `options`: `--colour` is not supported; there are `--add-host`, `--cap-add`, `--cap-drop`, `--cpus`, `--device`, `--dns`, `--env`, `--group-add`, `--health-cmd`, `--health-interval`, `--health-retries`, `--health-start-period`, `--health-timeout`, `--hostname`, `--init`, `--label`, `--memory`, `--memory-swap`, `--name`, `--network-alias`, `--no-healthcheck`, `--platform`, `--privileged`, `--publish`, `--read-only`, `--restart`, `--rm`, `--security-opt`, `--shm-size`, `--tmpfs`, `--ulimit`, `--user`, `--volume` or `--workdir`
      port              error  [time]  `container`: `ports`: `http` is no port: write `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`; ranges are not supported
      nowhere           error  [time]  cannot pull 127.0.0.1:1/nothing:1: … connection refused
      computed          error  [time]  `container`: it is a list, and no container
      unwell            error  [time]  service `db` is not well: not yet
      ended             error  [time]  service `db` has ended (exit status: 3)
      empty             error  [time]  localhost/muster-test:1 has nothing to run
    exit 2
    "#);
    assert!(told.contains("│ no disk"), "{told}");
    assert_eq!(engine.left_by_runs(), [""; 0]);
}

fn githubs_clients_work_in_a_container_with_a_network_and_without(engine: &Engine) {
    let Some(bundle) = clients() else { return };
    let scene = Scene::new();
    with_clients(&scene, bundle);
    scene.workflow(&format!(
        "on: push\njobs:\n  make:\n    runs-on: ubuntu-latest\n    container: {IMAGE}\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - run: mkdir out; seq 300000 > out/large; echo tiny > out/small\n\
         \x20     - {{uses: ./clients, with: {{do: upload first}}}}\n\
         \x20     - run: rm -r out/large\n\
         \x20     - {{uses: ./clients, with: {{do: download first}}}}\n\
         \x20     - run: 'echo \"said: $(tail -n 1 got/large)\"; wget -T 2 -qO- http://10.255.255.1 2>&1 || true'\n\
         \x20     - {{uses: ./clients, with: {{do: remove first}}}}\n",
    ));
    scene.commit("first");
    for how in [&[][..], &["--no-network"]] {
        let done = run(&scene, engine, how);
        assert!(done.out.contains(if how.is_empty() { "a bridge." } else { "no network." }));
        insta::allow_duplicates! { assert_snapshot!(said(&done.story()), @r#"
        │ said: first has an id: true, a size: true, a digest: 64
        │ said: first
        │ said: digest differs: false, small is tiny
        ▸ Run echo "said: $(tail -n 1 got/large)"; wget -T 2 -qO- http://10.255.255.1 2>&1 || true
        │ said: 300000
        ✓ Run echo "said: $(tail -n 1 got/large)"; wget -T 2 -qO- http://10.255.255.1 2>&1 || true [time]
        │ said: 0
        "#); }
    }
}

/// The engine would follow a link in the place of the workspace as root.
fn a_link_in_the_place_of_the_workspace_shows_nothing_of_the_machine(engine: &Engine) {
    let scene = Scene::new();
    scene.workflow(&format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - run: cd ..; rmdir \"$GITHUB_WORKSPACE\"; ln -s /etc \"$GITHUB_WORKSPACE\"\n\
         \x20     - uses: docker://{IMAGE}\n        with: {{args: cat /github/workspace/hostname}}\n\
         \x20 inside:\n    runs-on: ubuntu-latest\n    container: {IMAGE}\n    steps:\n\
         \x20     - run: cd /; rm -r \"$GITHUB_WORKSPACE\"; ln -s /etc \"$GITHUB_WORKSPACE\"; ln -s /etc /__w/_actions\n\
         \x20     - uses: docker://{IMAGE}\n        with: {{args: cat /github/workspace/hostname}}\n        continue-on-error: true\n\
         \x20     - uses: actions/checkout@v4\n      - run: ls -a\n"
    ));
    scene.file("hello", "hello\n");
    scene.commit("first");
    let [host, inside] =
        ["a", "inside"].map(|job| story(engine, &run(&scene, engine, &["--job", job])));
    assert_snapshot!(host, @r#"
    .github/workflows/ci.yml
    ▸ Run cd ..; rmdir "$GITHUB_WORKSPACE"; ln -s /etc "$GITHUB_WORKSPACE"
    ✓ Run cd ..; rmdir "$GITHUB_WORKSPACE"; ln -s /etc "$GITHUB_WORKSPACE" [time]
    ▸ Run docker://localhost/muster-test:1
    │ Error: a step has put something else in the place of the workspace
    ✗ Run docker://localhost/muster-test:1 [time]
    .github/workflows/ci.yml: failure
      a  failure  [time]
      error  a: a step has put something else in the place of the workspace
    exit 1
    "#);
    assert_snapshot!(inside, @r#"
    .github/workflows/ci.yml
    ▸ Run cd /; rm -r "$GITHUB_WORKSPACE"; ln -s /etc "$GITHUB_WORKSPACE"; ln -s /etc /__w/_actions
    ✓ Run cd /; rm -r "$GITHUB_WORKSPACE"; ln -s /etc "$GITHUB_WORKSPACE"; ln -s /etc /__w/_actions [time]
    ▸ Run docker://localhost/muster-test:1
    │ Error: a step has put something else in the place of the workspace
    ✓ Run docker://localhost/muster-test:1 (failed, may fail) [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ls -a
    │ .
    │ ..
    │ .git
    │ .github
    │ hello
    ✓ Run ls -a [time]
    .github/workflows/ci.yml: success
      inside  success  [time]
      error  inside: a step has put something else in the place of the workspace
    exit 0
    "#);
}

/// The engine itself would fetch what a build asks for.
fn nothing_is_built_for_a_job_without_a_network(engine: &Engine) {
    let scene = Scene::new();
    scene.file("act/Dockerfile", &format!("FROM {}\nADD http://127.0.0.1:1/ /\n", engine.base));
    scene.workflow(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{uses: actions/checkout@v4}, {uses: ./act}]\n",
    );
    scene.commit("first");
    assert_snapshot!(story(engine, &run(&scene, engine, &["--no-network"])), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ./act
    │ Building Dockerfile
    │ ▾ What is built
    │ Error: cannot build Dockerfile: what builds an image reaches the network by the engine itself, and the job has none; use an image that was built before
    ✗ Run ./act [time]
    .github/workflows/ci.yml: failure
      a  failure  [time]
      error  a: cannot build Dockerfile: what builds an image reaches the network by the engine itself, and the job has none; use an image that was built before
    exit 1
    ");
}

/// What was checked out could lead the runner elsewhere, when it is handed over.
fn a_checkout_for_a_container_comes_to_its_path_and_no_further(engine: &Engine) {
    let scene = Scene::new();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(elsewhere.path().join("theirs")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), scene.path().join("link")).unwrap();
    scene.workflow(&format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: {IMAGE}\n    steps:\n\
         \x20     - {{uses: actions/checkout@v4, with: {{path: sub/x}}}}\n      - run: ls sub/x; rm -r sub; ln -s / sub\n\
         \x20     - {{uses: actions/checkout@v4, with: {{path: sub/x}}, continue-on-error: true}}\n      - run: rm sub\n\
         \x20     - {{uses: actions/checkout@v4, with: {{path: sub/x/link/theirs}}}}\n      - run: ls -a sub/x/link/theirs\n\
         \x20     - {{uses: actions/checkout@v4, with: {{path: ../out}}}}\n"
    ));
    scene.commit("first");
    assert_snapshot!(story(engine, &run(&scene, engine, &[])), @"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ls sub/x; rm -r sub; ln -s / sub
    │ link
    ✓ Run ls sub/x; rm -r sub; ln -s / sub [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    │ Error: cannot hand over what was checked out: Not a directory (os error 20)
    ✓ Run actions/checkout@v4 (failed, may fail) [time]
    ▸ Run rm sub
    ✓ Run rm sub [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run ls -a sub/x/link/theirs
    │ .
    │ ..
    │ .git
    │ .github
    │ link
    ✓ Run ls -a sub/x/link/theirs [time]
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    │ Error: `path`: ../out leads out of the workspace
    ✗ Run actions/checkout@v4 [time]
    .github/workflows/ci.yml: failure
      a  failure  [time]
      error  a: cannot hand over what was checked out: Not a directory (os error 20)
      error  a: `path`: ../out leads out of the workspace
    exit 1
    ");
    assert!(elsewhere.path().join("theirs").is_dir());
}

/// What a container of a caged job may not do, beside what its engine refuses by itself.
fn a_container_is_bounded(engine: &Engine) {
    let scene = Scene::new();
    scene.workflow(&format!(
        r#"
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    container: {IMAGE}
    steps:
      - run: |
          grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status
          mknod /tmp/disk b 8 0 2>/dev/null || echo no devices
          mount -t tmpfs none /mnt 2>/dev/null || echo no mounts
          unshare -m true 2>/dev/null || echo no namespaces
          ls /var/run/docker.sock 2>/dev/null || echo no engine
          echo 1 2>/dev/null > /proc/sys/kernel/panic || echo no settings
          cat /proc/1/environ >/dev/null 2>&1 || echo no sight of the init
          for i in 1 2 3 4 5 6 7 8; do wget -qO- -T 1 http://127.0.0.1:$i >/dev/null 2>&1 && echo reached $i; done
          true
      - run: cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true
"#,
    ));
    scene.commit("first");
    let done = run(&scene, engine, &[]);
    assert_snapshot!(story(engine, &done), @"
    .github/workflows/ci.yml
    ▸ Run grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status
    │ CapBnd:	00000000000004fb
    │ Seccomp:	2
    │ no devices
    │ no mounts
    │ no namespaces
    │ no engine
    │ no settings
    │ no sight of the init
    ✓ Run grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status [time]
    ▸ Run cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true
    │ 4096
    │ Error: the step ended with exit code 1
    ✗ Run cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true [time]
    .github/workflows/ci.yml: failure
      a  failure  [time]
    exit 1
    ");
}

/// Steps are started by the init, so that they go on; what needs the engine says that it is gone, and nothing stays.
#[test]
fn an_engine_that_dies_fails_what_needs_it_and_leaves_nothing() {
    if engine().is_none() {
        return;
    }
    let engine = Engine::to_be_killed();
    let scene = Scene::new();
    scene.workflow(&format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: {IMAGE}\n    steps:\n\
         \x20     - run: echo begun; until [ -e /tmp/on ]; do sleep 1; touch /tmp/on; done; sleep 1000 &\n\
         \x20     - run: echo goes on\n      - uses: docker://{IMAGE}\n      - if: always()\n        run: echo the end\n"
    ));
    scene.commit("first");
    let program =
        Program::new(env!("CARGO_BIN_EXE_muster")).args(["run", "--isolation", "sandbox"]);
    let (name, host) = engine.variable();
    let log = fs::File::create(scene.path().join(".git/errors")).unwrap();
    let talk = program.dir(scene.path()).env(name, host).env("HOME", scene.path()).errors_to(log);
    let mut talk = talk.converse().unwrap();
    let mut out = String::new();
    for line in BufReader::new(talk.output).lines() {
        let line = line.unwrap();
        if line == "│ begun" {
            engine.kill();
        }
        writeln!(out, "{line}").unwrap();
    }
    let exit = talk.child.wait().unwrap().code();
    let told = Done { exit, out, err: String::new() };
    let socket = engine.socket().to_string_lossy().into_owned();
    assert_snapshot!(story(&engine, &told).replace(&socket, "[socket]"), @"
    .github/workflows/ci.yml
    ▸ Run echo begun; until [ -e [path] ]; do sleep 1; touch [path] done; sleep 1000 &
    │ begun
    ✓ Run echo begun; until [ -e [path] ]; do sleep 1; touch [path] done; sleep 1000 & [time]
    ▸ Run echo goes on
    │ goes on
    ✓ Run echo goes on [time]
    ▸ Run docker://localhost/muster-test:1
    │ Error: cannot pull localhost/muster-test:1: … the container engine does not answer any more (client error (Connect))
    ✗ Run docker://localhost/muster-test:1 [time]
    ▸ Run echo the end
    │ the end
    ✓ Run echo the end [time]
    │ Warning: containers were left behind: the container engine does not answer any more (client error (Connect))
    .github/workflows/ci.yml: failure
      a  failure  [time]
      error  a: cannot pull localhost/muster-test:1: … the container engine does not answer any more (client error (Connect))
      warning  a: containers were left behind: the container engine does not answer any more (client error (Connect))
    exit 1
    ");
    let left =
        || processes().into_iter().filter(|(_, line)| line.contains("/opt/muster/init --join"));
    let of_it = |(pid, _): &(String, String)| {
        let root = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        root.contains(&*engine.socket().parent().unwrap().to_string_lossy())
    };
    wait_until("nothing of it runs", || !left().any(|process| of_it(&process)));
}

#[test]
fn without_an_engine_it_is_said_what_to_install() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs: {a: {runs-on: ubuntu-latest, container: 'a:1', steps: [{run: exit 0}]}}\n",
    );
    scene.commit("first");
    let none = scene.muster_with(&["run"], &[("DOCKER_HOST", "unix:///nowhere/docker.sock")]);
    assert_snapshot!(none.story(), @"
    .github/workflows/ci.yml
    .github/workflows/ci.yml: error
      a  error  [time]  the container engine at /nowhere/docker.sock does not answer: Socket not found: /nowhere/docker.sock
    exit 2
    ");
    let other = scene.muster_with(&["run"], &[("DOCKER_HOST", "tcp://10.0.0.1:2375")]);
    assert_snapshot!(other.story(), @"
    .github/workflows/ci.yml
    .github/workflows/ci.yml: error
      a  error  [time]  `tcp://10.0.0.1:2375` is no socket of this machine, and an engine of another cannot be used
    exit 2
    ");
}

fn a_killed_supervisor_leaves_no_container_and_its_job_is_tried_again(database: Database) {
    let Some(engine) = engine() else { return };
    let socket = engine.socket();
    let server =
        Server::start(database, &format!("[containers]\nsocket = \"{}\"\n", socket.display()));
    server.workflow(&format!(
        "on: push\njobs:\n  a:\n    runs-on: linux\n    container: {{image: '{IMAGE}', volumes: ['kept:/kept']}}\n\
         \x20   services: {{other: {{image: '{IMAGE}', command: sleep 1000}}}}\n    steps:\n\
         \x20     - run: echo \"attempt\"; test -e /kept/first && sleep 1000; touch /kept/first\n\
         \x20     - run: \"test -e /__w/again || sleep 1000\"\n"
    ));
    let sha = server.push("main", "first");
    let mut killed = None;
    server.until("the job sleeps in its container", |server| {
        killed = supervisors(&server.data()).into_iter().next();
        let Some((_, line)) = &killed else { return false };
        line.contains(".1/job.json") && engine.left(".1").len() == 4
    });
    let (pid, _) = killed.unwrap();
    kill(&pid);
    server.until("nothing of the first attempt is left", |_| engine.left(".1").is_empty());
    server.until("the second attempt is there", |_| engine.left(".2").len() == 4);
    assert_eq!(server.muster(&["cancel", "1"]).exit, Some(0));
    server.until("the run has ended", |server| server.verdict(&sha) != "pending");
    server.until("nothing is left", |_| engine.left(".2").is_empty());
    assert_snapshot!(server.muster(&["runs"]).out, @"1 cancelled first (.github/workflows/ci.yml #1) team/app refs/heads/main");
}

fn a_strangers_job_runs_in_no_container_whose_root_is_the_machines(database: Database) {
    let Some(engine) = engine() else { return };
    if !crate::sandbox::there_can_be_one() {
        return;
    }
    let socket = engine.socket();
    let config = format!("isolation = \"auto\"\n[containers]\nsocket = \"{}\"\n", socket.display());
    let story = Story::start_in(database, &config);
    let jobs = format!(
        "on: pull_request\njobs:\n  inside:\n    runs-on: ubuntu-latest\n    container: {IMAGE}\n    steps: [{{run: id}}]\n\
         \x20 beside:\n    runs-on: ubuntu-latest\n    steps: [{{uses: 'docker://{IMAGE}', with: {{args: id}}}}]\n"
    );
    story.server.scene.workflow(&jobs);
    let head = story.approved_fork();
    assert_snapshot!(story.verdict(&head), @"
    muster failure: failed: muster / beside, not run to the end: muster / inside
    muster / beside failure: Failed
    muster / inside error: Not run: the code of those who may not push runs in containers only where root in them is nobody of this machine (rootless, or with `userns…
    ");
    let log = story.server.muster(&["log", "1", "beside"]).out;
    assert!(log.contains("runs in containers only where root in them is nobody"), "{log}");
}
