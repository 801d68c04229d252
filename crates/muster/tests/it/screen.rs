//! How `muster run` tells what happens: on a terminal, and to programs.

use std::fs;
use std::io::Read as _;
use std::num::NonZeroU16;

use insta::assert_snapshot;
use muster_sys::process::{Conversation, Program};
use serde_json::Value;

use crate::scene::{Scene, masked};

const ROWS: NonZeroU16 = NonZeroU16::new(30).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(60).unwrap();

/// A terminal with a program in it.
struct Terminal {
    talk: Conversation,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(scene: &Scene, command: &str) -> Self {
        let command = format!(
            "stty cols {COLUMNS} rows {ROWS}; exec {} {command}",
            env!("CARGO_BIN_EXE_muster")
        );
        let talk = Program::new("script")
            .args(["-qec", &command, "/dev/null"])
            .dir(scene.path())
            .env("HOME", scene.path())
            .env("TERM", "xterm-256color")
            .converse()
            .unwrap();
        Self { talk, screen: vt100::Parser::new(ROWS, COLUMNS, 0) }
    }

    /// Reads on until the screen shows something, or the program ends.
    fn until(&mut self, wanted: &str) {
        let mut piece = [0; 4096];
        while wanted.is_empty() || !self.screen.screen().contents().contains(wanted) {
            match self.talk.output.read(&mut piece).unwrap() {
                0 => break,
                count => self.screen.process(&piece[..count]),
            }
        }
    }

    /// Returns what stands on the screen.
    fn shown(&self) -> String {
        let contents = self.screen.screen().contents();
        let lines = contents.lines().map(|line| {
            // What turns, and for how long it has.
            let line = masked(line);
            match line.chars().next() {
                Some('\u{2800}'..='\u{28ff}') => {
                    let line = line.trim_end_matches("[time]").trim_end();
                    format!(
                        "*{}",
                        line.trim_start_matches(
                            |letter| ('\u{2800}'..='\u{28ff}').contains(&letter)
                        )
                    )
                }
                _ => line,
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What runs in it hears that its terminal is gone, also where the story went wrong.
        drop(self.talk.child.kill());
        drop(self.talk.child.wait());
    }
}

#[test]
fn a_terminal_shows_what_goes_on_and_folds_what_went_well() {
    let scene = Scene::new();
    let gate = scene.path().join("gate");
    let wait = format!("until test -e {}; do sleep 0.01; done", gate.display());
    scene.workflow(&format!(
        "on: push\njobs:\n\
         \x20 build:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - name: Install\n        run: 'echo \"::group::Packages\"; echo one; echo two; echo \"::endgroup::\"; echo ready'\n\
         \x20     - name: Compile all that there is, and then some more of it\n        run: '{wait}'\n\
         \x20 test:\n    needs: build\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - name: Check\n        run: 'echo \"::group::First\"; echo fine; echo \"::group::Second\"; echo bad; exit 1'\n"
    ));
    scene.commit("first");
    let mut terminal = Terminal::start(&scene, "run --isolation none");
    terminal.until("1 running, 0 ended");
    terminal.until("Compile");
    // It may have been read in the middle of a picture.
    terminal.until("1 running, 0 ended");
    assert_snapshot!(terminal.shown(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    build ▸ Install
    build │ ▸ Packages (2 lines)
    build │ ready
    build ✓ Install [time]
    build ▸ Compile all that there is, and then some more of it
    * build  Compile all that there is, and then some more o…
      1 running, 0 ended
    ");
    fs::write(&gate, "").unwrap();
    terminal.until("");
    assert_snapshot!(terminal.shown(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    build ▸ Install
    build │ ▸ Packages (2 lines)
    build │ ready
    build ✓ Install [time]
    build ▸ Compile all that there is, and then some more of it
    build ✓ Compile all that there is, and then some more of it [time]
    test ▸ Check
    test │ ▸ First (1 line)
    test │ ▾ First
    test │ fine
    test │ ▾ Second
    test │ bad
    test │ Error: the step ended with exit code 1
    test ✗ Check [time]
    .github/workflows/ci.yml: failure
      build  success  [time]
      test   failure  [time]
    ");
    assert_eq!(terminal.talk.child.wait().unwrap().code(), Some(1));
}

#[test]
fn plain_lines_are_there_for_who_wants_them() {
    let scene = Scene::new();
    scene.workflow(
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - {name: Say, run: 'echo \"::group::All\"; echo said'}\n",
    );
    scene.commit("first");
    let mut terminal = Terminal::start(&scene, "run --isolation none --plain");
    terminal.until("");
    assert_snapshot!(terminal.shown(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Say
    │ ▾ All
    │ said
    ✓ Say [time]
    .github/workflows/ci.yml: success
      one  success  [time]
    ");
}

#[test]
fn programs_read_what_happens_as_json() {
    let scene = Scene::new();
    scene.file(".github/workflows/broken.yml", "on: push\njobs: {a: {steps: []}}\n");
    scene.file(
        ".github/workflows/other.yml",
        "on: pull_request\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n",
    );
    scene.workflow(
        "name: CI\non: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    environment: {name: staging, url: 'https://example.org'}\n    steps:\n\
         \x20     - name: Say\n        run: |\n          echo \"::warning file=a.c,line=3::Look\"; echo \"# Done\" >> $GITHUB_STEP_SUMMARY\n          dd if=/dev/zero of=/dev/null bs=48M count=30 2> /dev/null\n\
         \x20     - {name: Fail, run: exit 3}\n",
    );
    scene.commit("first");
    let sandbox = crate::sandbox::there_can_be_one().then_some("sandbox");
    for isolation in ["none"].into_iter().chain(sandbox) {
        let done = scene.muster(&["run", "--isolation", isolation, "--json"]);
        assert_eq!(done.exit, Some(1), "{}", done.err);
        let told = done.out.lines().map(|line| {
            let mut object: Value = serde_json::from_str(line).unwrap();
            if object["event"] == "step_finished" && object["title"] == "Say" {
                let used = |what: &str| object["usage"][what].as_u64().unwrap();
                assert!(
                    used("memory_bytes") > 48 << 20 && used("memory_bytes") < 96 << 20,
                    "{line}"
                );
                assert!(used("cpu_ms") > 0, "{line}");
            }
            for (what, value) in [("at", 0.into()), ("took_ms", 0.into()), ("usage", "…".into())]
            {
                if let Some(known) = object.get_mut(what).filter(|known| !known.is_null()) {
                    *known = value;
                }
            }
            let jobs = object.get_mut("jobs").and_then(Value::as_array_mut);
            jobs.into_iter().flatten().for_each(|job| job["took_ms"] = 0.into());
            object
        });
        let of_steps = |object: &Value| object["event"] != "output" || object["step"] != 0;
        let told: Vec<String> = told.filter(of_steps).map(|object| object.to_string()).collect();
        insta::allow_duplicates! { assert_snapshot!(told.join("\n"), @r###"
        {"event":"refused","path":".github/workflows/broken.yml","problems":[{"path":".github/workflows/broken.yml","line":2,"column":8,"rule":"syntax-check","message":"a job needs `runs-on`","hint":null}]}
        {"event":"not_run","path":".github/workflows/other.yml","reason":"`on` does not name `push` (it is for `--event pull_request`)"}
        {"event":"run_started","run":1,"path":".github/workflows/ci.yml","name":"CI"}
        {"event":"job_started","run":1,"job":"one","name":"one"}
        {"event":"step_started","run":1,"job":"one","name":"one","step":0,"title":"Set up job","at":0}
        {"event":"environment","run":1,"job":"one","name":"one","environment":"staging","url":null}
        {"event":"step_finished","run":1,"job":"one","name":"one","step":0,"title":"Set up job","outcome":"success","conclusion":"success","at":0,"usage":null}
        {"event":"step_started","run":1,"job":"one","name":"one","step":1,"title":"Say","at":0}
        {"event":"output","run":1,"job":"one","name":"one","step":1,"text":"##[warning]Look"}
        {"event":"annotation","run":1,"job":"one","name":"one","step":1,"annotation":{"level":"warning","message":"Look","file":"a.c","line":3}}
        {"event":"summary","run":1,"job":"one","name":"one","step":1,"markdown":"# Done\n"}
        {"event":"step_finished","run":1,"job":"one","name":"one","step":1,"title":"Say","outcome":"success","conclusion":"success","at":0,"usage":"…"}
        {"event":"step_started","run":1,"job":"one","name":"one","step":2,"title":"Fail","at":0}
        {"event":"output","run":1,"job":"one","name":"one","step":2,"text":"##[error]the step ended with exit code 3"}
        {"event":"step_finished","run":1,"job":"one","name":"one","step":2,"title":"Fail","outcome":"failure","conclusion":"failure","at":0,"usage":"…"}
        {"event":"environment","run":1,"job":"one","name":"one","environment":"staging","url":"https://example.org"}
        {"event":"job_finished","run":1,"job":"one","name":"one","conclusion":"failure","reason":null,"took_ms":0}
        {"event":"run_finished","run":1,"path":".github/workflows/ci.yml","conclusion":"failure","jobs":[{"job":"one","name":"one","conclusion":"failure","reason":null,"took_ms":0}]}
        "###); }
    }
}

#[test]
fn a_step_does_not_rule_the_terminal() {
    let scene = Scene::new();
    scene.workflow(
        "name: \"wf \\e]0;title\\a\\n\\e[2J\"\non: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - {name: Say, run: \"printf 'kept\\\\n\\\\033[8Aup\\\\n\\\\033[2J\\\\033]0;t\\\\007gone\\\\n\\\\033[31mred\\\\033[0m\\\\n'\"}\n",
    );
    scene.commit("first");
    let mut terminal = Terminal::start(&scene, "run --isolation none");
    terminal.until("");
    assert_snapshot!(terminal.shown(), @"
    wf ]0;title[2J (.github/workflows/ci.yml)
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Say
    │ kept
    │ up
    │ gone
    │ red
    ✓ Say [time]
    .github/workflows/ci.yml: success
      one  success  [time]
    ");
}

#[test]
fn what_cannot_be_written_is_told() {
    let scene = Scene::new();
    scene.workflow("on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n");
    scene.commit("first");
    let run = |script: &str| {
        let output = Program::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_muster")])
            .dir(scene.path())
            .env("HOME", scene.path())
            .output(std::time::Duration::from_secs(60), 1 << 20)
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit, why) = run("\"$0\" run --isolation none --json > /dev/full");
    assert_eq!(
        (exit, why.contains("cannot write all to standard output")),
        (Some(2), true),
        "{why}"
    );
    // Who has seen enough is no fault.
    assert_eq!(run("\"$0\" run --isolation none | head -1 > /dev/null").0, Some(0));
}

/// What a supervisor that was killed leaves comes to who started it, and goes.
#[test]
fn of_a_lost_supervisor_nothing_stays() {
    let scene = Scene::new();
    let mark = scene.path().join("runs");
    scene.workflow(&format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - {{background: true, run: \"trap '' INT TERM; while :; do sleep 0.01; done\"}}\n\
         \x20     - run: 'echo $PPID > {0}.new; mv {0}.new {0}; sleep 4711'\n",
        mark.display()
    ));
    scene.commit("first");
    let talk = Program::new(env!("CARGO_BIN_EXE_muster"))
        .args(["run", "--isolation", "none"])
        .dir(scene.path())
        .env("HOME", scene.path())
        .converse()
        .unwrap();
    let start = muster_sys::clock::monotonic();
    let supervisor = loop {
        if let Ok(pid) = fs::read_to_string(&mark) {
            break pid;
        }
        assert!(start.elapsed().as_secs() < 60);
        std::thread::yield_now();
    };
    crate::server::kill(supervisor.trim());
    let mut talk = talk;
    let mut said = String::new();
    talk.output.read_to_string(&mut said).unwrap();
    assert!(said.contains("the job's supervisor was lost"), "{said}");
    assert_eq!(talk.child.wait().unwrap().code(), Some(2));
    let left = crate::server::processes().into_iter().filter(|(_, line)| {
        line.contains("4711") || line.contains(&*scene.path().to_string_lossy())
    });
    assert_eq!(left.collect::<Vec<_>>(), []);
}
