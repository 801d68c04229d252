//! Jobs that call workflows, and matrices of what other jobs said.

use insta::assert_snapshot;
use serde_json::Value;

use crate::database::{Database, on_both};
use crate::fetched::Hub;
use crate::scene::Scene;
use crate::server::Server;

on_both! {
    calls_go_on_when_the_server_is_killed_and_are_run_again_as_they_were,
    what_cannot_be_called_is_refused_with_the_reason,
    a_call_is_cancelled_as_a_whole,
}

/// Says first what there is to build, builds each by a workflow that is called, and ships what came of it.
const CALLER: &str = r#"
on: push
jobs:
  plan:
    runs-on: ubuntu-latest
    outputs: {parts: '${{ steps.say.outputs.parts }}'}
    steps:
      - {id: say, run: "echo 'parts=[\"app\", \"lib\"]' >> $GITHUB_OUTPUT"}
  build:
    needs: plan
    strategy: {matrix: {part: '${{ fromJSON(needs.plan.outputs.parts) }}'}}
    uses: ./.github/workflows/build.yml
    with: {part: '${{ matrix.part }}', loud: true}
    secrets: {key: '${{ secrets.OURS }}'}
  ship:
    name: ship ${{ needs.build.outputs.made }}
    needs: build
    runs-on: ubuntu-latest
    steps:
      - run: echo "shipping ${{ needs.build.outputs.made }}, build ended as ${{ needs.build.result }}"
"#;

const BUILD: &str = r#"
name: Build
on:
  workflow_call:
    inputs: {part: {type: string, required: true}, loud: {type: boolean}, size: {type: number, default: 3}}
    secrets: {key: {required: true}}
    outputs: {made: {value: '${{ jobs.make.outputs.made }}'}}
env: {WHERE: called}
jobs:
  make:
    runs-on: ubuntu-latest
    outputs: {made: '${{ steps.make.outputs.made }}'}
    steps:
      - id: make
        env: {KEY: '${{ secrets.key }}', OURS: '${{ secrets.OURS }}'}
        run: |
          echo "making ${{ inputs.part }}, ${{ inputs.loud && 'loud' }}, ${{ inputs.size }}, $WHERE, $OUTER, $GITHUB_JOB"
          echo "key ${#KEY}, ours ${#OURS}"
          echo "made=${{ inputs.part }}-1" >> $GITHUB_OUTPUT
  check:
    needs: make
    uses: octo/flows/.github/workflows/check.yml@v1
    with: {what: '${{ needs.make.outputs.made }}'}
    secrets: inherit
"#;

const CHECK: &str = r#"
on: {workflow_call: {inputs: {what: {type: string}}}}
jobs:
  again: {uses: ./.github/workflows/deep.yml, with: {what: '${{ inputs.what }}!'}, secrets: inherit}
"#;

fn deep(word: &str) -> String {
    format!(
        "on: {{workflow_call: {{inputs: {{what: {{type: string}}}}, secrets: {{key: {{}}}}}}}}\n\
         jobs:\n  deep:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - {{run: 'echo {word} ${{{{ inputs.what }}}}, key $KEY', env: {{KEY: '${{{{ secrets.key }}}}'}}}}\n"
    )
}

fn flows(word: &str) -> Hub {
    let hub = Hub::new();
    let files =
        [(".github/workflows/check.yml", CHECK), (".github/workflows/deep.yml", &deep(word))];
    hub.push("octo/flows", &files);
    hub.tag("octo/flows", &["v1"]);
    hub
}

#[test]
fn a_workflow_calls_others_of_its_repository_and_of_elsewhere() {
    let (scene, hub) = (Scene::new(), flows("checking"));
    let caller = CALLER.replace("jobs:", "env: {OUTER: none}\njobs:").replacen("app", "a", 0);
    scene.workflow(&caller.replace("[\\\"app\\\", \\\"lib\\\"]", "[\\\"lib\\\"]"));
    scene.file(".github/workflows/build.yml", BUILD);
    scene.commit("first");
    let more = ["-W", ".github/workflows/ci.yml", "--secret", "OURS=four"];
    assert_snapshot!(hub.told(&scene, &more), @r#"
    .github/workflows/ci.yml
    plan ▸ Run echo 'parts=["lib"]' >> $GITHUB_OUTPUT
    plan ✓ Run echo 'parts=["lib"]' >> $GITHUB_OUTPUT [time]
    build (lib) / make ▸ Run echo "making lib, loud, 3, $WHERE, $OUTER, $GITHUB_JOB"
    build (lib) / make │ making lib, loud, 3, called, , make
    build (lib) / make │ key 4, ours 0
    build (lib) / make ✓ Run echo "making lib, loud, 3, $WHERE, $OUTER, $GITHUB_JOB" [time]
    build (lib) / check / again / deep ▸ Run echo checking lib-1!, key $KEY
    build (lib) / check / again / deep │ checking lib-1!, key ***
    build (lib) / check / again / deep ✓ Run echo checking lib-1!, key $KEY [time]
    ship lib-1 ▸ Run echo "shipping lib-1, build ended as success"
    ship lib-1 │ shipping lib-1, build ended as success
    ship lib-1 ✓ Run echo "shipping lib-1, build ended as success" [time]
    .github/workflows/ci.yml: success
      plan                                success  [time]
      build (lib) / make                  success  [time]
      build (lib) / check / again / deep  success  [time]
      ship lib-1                          success  [time]
    exit 0
    "#);
}

#[test]
fn what_is_wrong_with_a_call_is_said_before_anything_runs() {
    let (scene, hub) = (Scene::new(), flows("checking"));
    scene.workflow(
        r#"
on: push
jobs:
  first: {runs-on: ubuntu-latest, steps: [{run: echo never}]}
  absent: {uses: ./.github/workflows/absent.yml}
  lacking: {uses: ./.github/workflows/build.yml, with: {loud: 'yes', far: 1}}
  unable: {uses: ./.github/workflows/unable.yml}
  round: {uses: ./.github/workflows/round.yml}
  nowhere: {uses: octo/flows/.github/workflows/check.yml@v7}
  broken: {uses: octo/flows/.github/workflows/none.yml@v1}
  beyond: {uses: ../octo/.github/workflows/check.yml@v1}
  unseen: {if: failure(), uses: ./.github/workflows/round.yml}
"#,
    );
    scene.file(".github/workflows/build.yml", BUILD);
    let unable =
        "on: workflow_call\njobs:\n  boxed: {runs-on: x, snapshot: debian, steps: [{run: a}]}\n";
    scene.file(".github/workflows/unable.yml", unable);
    let round = "on: workflow_call\njobs:\n  again: {uses: ./.github/workflows/round.yml}\n";
    scene.file(".github/workflows/round.yml", round);
    scene.commit("first");
    assert_snapshot!(hub.told(&scene, &["-W", ".github/workflows/ci.yml"]), @"
    error: `./.github/workflows/absent.yml` is not in its repository
     --> .github/workflows/ci.yml:5:18
      |
    5 |   absent: {uses: ./.github/workflows/absent.yml}
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `./.github/workflows/build.yml` needs input `part`
     --> .github/workflows/ci.yml:6:19
      |
    6 |   lacking: {uses: ./.github/workflows/build.yml, with: {loud: 'yes', far: 1}}
      |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: input `loud` must be a boolean
     --> .github/workflows/ci.yml:6:63
      |
    6 |   lacking: {uses: ./.github/workflows/build.yml, with: {loud: 'yes', far: 1}}
      |                                                               ^^^^^
    error: `./.github/workflows/build.yml` has no input `far`
     --> .github/workflows/ci.yml:6:75
      |
    6 |   lacking: {uses: ./.github/workflows/build.yml, with: {loud: 'yes', far: 1}}
      |                                                                           ^
    error: `./.github/workflows/build.yml` needs secret `key`
     --> .github/workflows/ci.yml:6:19
      |
    6 |   lacking: {uses: ./.github/workflows/build.yml, with: {loud: 'yes', far: 1}}
      |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `./.github/workflows/unable.yml` cannot be run: line 3: key `snapshot` of a job is not supported yet
     --> .github/workflows/ci.yml:7:18
      |
    7 |   unable: {uses: ./.github/workflows/unable.yml}
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `./.github/workflows/round.yml` is wrong: `./.github/workflows/round.yml` calls itself
     --> .github/workflows/ci.yml:8:17
      |
    8 |   round: {uses: ./.github/workflows/round.yml}
      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `octo/flows/.github/workflows/check.yml@v7` cannot be read: cannot get `octo/flows@v7` from [path] it has no branch or tag `v7`
     --> .github/workflows/ci.yml:9:19
      |
    9 |   nowhere: {uses: octo/flows/.github/workflows/check.yml@v7}
      |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `octo/flows/.github/workflows/none.yml@v1` is not in its repository
      --> .github/workflows/ci.yml:10:18
       |
    10 |   broken: {uses: octo/flows/.github/workflows/none.yml@v1}
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `../octo/.github/workflows/check.yml@v1` cannot be read: `../octo/.github/workflows/check.yml@v1` names nothing of a repository
      --> .github/workflows/ci.yml:11:18
       |
    11 |   beyond: {uses: ../octo/.github/workflows/check.yml@v1}
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    error: `./.github/workflows/round.yml` is wrong: `./.github/workflows/round.yml` calls itself
      --> .github/workflows/ci.yml:12:33
       |
    12 |   unseen: {if: failure(), uses: ./.github/workflows/round.yml}
       |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    exit 2
    ");
}

/// Returns the jobs of a run that people see: names, and how they stand.
fn jobs(server: &Server, run: i64) -> String {
    let run: Value = serde_json::from_str(&server.get(&format!("/api/v1/runs/{run}"))).unwrap();
    let jobs = run["jobs"].as_array().into_iter().flatten().map(|job| {
        let text = |key: &str| job[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("name"), text("status"))
    });
    jobs.collect::<Vec<_>>().join("\n")
}

fn calls_go_on_when_the_server_is_killed_and_are_run_again_as_they_were(database: Database) {
    let hub = flows("checking");
    let mut server =
        Server::start(database, &format!("[actions]\nfrom = \"{}\"\n", hub.at().display()));
    let build = BUILD
        .replace("key: {required: true}", "key: {}")
        .replace("- id: make", "- run: until test -e GATE; do sleep 0.01; done\n      - id: make");
    let gate = server.gate();
    server
        .scene
        .file(".github/workflows/build.yml", &build.replace("GATE", gate.to_str().unwrap()));
    server.workflow(CALLER);
    let sha = server.push("main", "Call");
    server.until("both are made", |server| jobs(server, 1).matches("/ make: running").count() == 2);
    assert_snapshot!(jobs(&server, 1), @"
    plan: success
    build (app) / make: running
    build (app) / check: waiting
    build (lib) / make: running
    build (lib) / check: waiting
    ship: waiting
    ");
    server.kill_and_serve();
    server.open_gate();
    assert_snapshot!(server.verdict(&sha), @"
    build (app) / check / again / deep success: Successful
    build (app) / make success: Successful
    build (lib) / check / again / deep success: Successful
    build (lib) / make success: Successful
    muster success: 6 successful
    plan success: Successful
    ship lib-1 success: Successful
    .github/workflows/build.yml skipped: `on` does not name `push`
    .github/workflows/ci.yml ran
    ");
    assert_snapshot!(jobs(&server, 1), @"
    plan: success
    build (app) / make: success
    build (app) / check / again / deep: success
    build (lib) / make: success
    build (lib) / check / again / deep: success
    ship lib-1: success
    ");
    // What is called is kept with the run.
    hub.push("octo/flows", &[(".github/workflows/deep.yml", &deep("otherwise"))]);
    hub.tag("octo/flows", &["--force", "v1"]);
    let done = server.muster(&["rerun", "1"]);
    assert_eq!(done.exit, Some(0), "{}", done.err);
    server.until("it has run again", |server| {
        let run: Value = serde_json::from_str(&server.get("/api/v1/runs/1")).unwrap();
        run["attempt"] == 2 && run["conclusion"] == "success"
    });
    let logs = server.muster(&["log", "1"]).out;
    assert_eq!(logs.matches("checking").count(), 2, "{logs}");
    assert!(!logs.contains("otherwise"), "{logs}");
}

fn what_cannot_be_called_is_refused_with_the_reason(database: Database) {
    let server = Server::start(database, "");
    server.workflow("on: push\njobs:\n  a: {uses: ./.github/workflows/absent.yml}\n");
    let sha = server.push("main", "Absent");
    assert_snapshot!(server.verdict(&sha), @"
    muster error: .github/workflows/ci.yml: line 3, column 13: `./.github/workflows/absent.yml` is not in its repository
    .github/workflows/ci.yml refused: line 3, column 13: `./.github/workflows/absent.yml` is not in its repository
    ");
    server.workflow("on: push\njobs:\n  a: {uses: ./.github/workflows/called.yml, with: {n: 1}}\n");
    server.scene.file(
        ".github/workflows/called.yml",
        "on: workflow_call\njobs:\n  b: {runs-on: x, snapshot: d, steps: [{run: b}]}\n",
    );
    let sha = server.push("main", "Unable");
    assert_snapshot!(server.verdict(&sha), @"
    muster error: .github/workflows/ci.yml: line 3, column 13: `./.github/workflows/called.yml` cannot be run: line 3: key `snapshot` of a job is not support…
    .github/workflows/called.yml skipped: `on` does not name `push`
    .github/workflows/ci.yml refused: line 3, column 13: `./.github/workflows/called.yml` cannot be run: line 3: key `snapshot` of a job is not supported yet
    ");
}

fn a_call_is_cancelled_as_a_whole(database: Database) {
    let server = Server::start(database, "");
    server.workflow("on: push\njobs:\n  a: {uses: ./.github/workflows/called.yml}\n  last: {needs: a, if: always(), runs-on: linux, steps: [{run: echo last}]}\n");
    let called = "on: workflow_call\njobs:\n  b: {runs-on: linux, steps: [{run: 'echo begun; sleep 600'}]}\n  c: {needs: b, runs-on: linux, steps: [{run: c}]}\n";
    server.scene.file(".github/workflows/called.yml", called);
    let sha = server.push("main", "Long");
    server.until("it runs", |server| jobs(server, 1).contains("a / b: running"));
    let done = server.muster(&["cancel", "1"]);
    assert_eq!(done.exit, Some(0), "{}", done.err);
    assert_snapshot!(server.verdict(&sha), @"
    a / b error: Cancelled: cancelled by the administrator
    a / c error: Cancelled: cancelled by the administrator
    last success: Successful
    muster error: 2 not run to the end, 1 successful
    .github/workflows/called.yml skipped: `on` does not name `push`
    .github/workflows/ci.yml ran
    ");
}
