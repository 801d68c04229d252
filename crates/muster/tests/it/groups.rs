//! Concurrency groups of jobs, which meet those of other runs there.

use insta::assert_snapshot;

use crate::database::{Database, on_both};
use crate::scene::Scene;
use crate::server::Server;

on_both! {
    a_job_waits_for_its_turn_through_a_crash,
    a_newer_job_takes_the_place_of_one_that_waits_and_may_end_one_that_runs,
    a_call_has_its_turn_as_a_whole,
    a_workflow_that_is_called_may_name_the_group,
    what_is_run_again_takes_its_place_in_a_long_queue,
    nobody_waits_for_itself,
}

/// Waits in its group until the gate is open.
const DEPLOY: &str = "on: push\njobs:\n  test: {runs-on: linux, steps: [{run: echo tested}]}\n  deploy:\n    needs: test\n    runs-on: linux\n    concurrency: Production\n    steps:\n      - run: 'echo shipping; while [ ! -e GATE ]; do sleep 0.02; done'\n";

/// Returns the jobs of a run, with what is said of them.
fn jobs(server: &Server, run: u32) -> String {
    let run: serde_json::Value =
        serde_json::from_str(&server.get(&format!("/api/v1/runs/{run}"))).unwrap();
    let jobs = run["jobs"].as_array().into_iter().flatten().map(|job| {
        let text = |key: &str| job[key].as_str().unwrap_or("-").to_owned();
        let why = job["reason"]["text"].as_str().unwrap_or("-");
        format!("{}: {} ({why})\n", text("name"), text("status"))
    });
    jobs.collect()
}

fn push(server: &Server, word: &str) -> String {
    server.scene.file("word", word);
    server.push("main", word)
}

fn a_job_waits_for_its_turn_through_a_crash(database: Database) {
    let mut server = Server::start(database, "jobs = 4\n");
    server.workflow(DEPLOY);
    push(&server, "one");
    server.until("the first ships", |server| jobs(server, 1).contains("deploy: running"));
    push(&server, "two");
    server.until("the second waits", |server| jobs(server, 2).contains("deploy: pending"));
    assert_snapshot!(jobs(&server, 2), @"
    test: success (-)
    deploy: pending (waits for its turn in the concurrency group `production`)
    ");
    server.kill_and_serve();
    assert!(jobs(&server, 2).contains("deploy: pending"));
    server.open_gate();
    server.until("both are over", |server| {
        (1..=2).all(|run| jobs(server, run).contains("deploy: success"))
    });
    assert_snapshot!(server.muster(&["runs"]).out, @"
    2 success two (.github/workflows/ci.yml #2) team/app refs/heads/main
    1 success one (.github/workflows/ci.yml #1) team/app refs/heads/main
    ");
}

fn a_newer_job_takes_the_place_of_one_that_waits_and_may_end_one_that_runs(database: Database) {
    let server = Server::start(database, "jobs = 4\n");
    server.workflow(DEPLOY);
    push(&server, "one");
    server.until("the first ships", |server| jobs(server, 1).contains("deploy: running"));
    push(&server, "two");
    server.until("the second waits", |server| jobs(server, 2).contains("deploy: pending"));
    push(&server, "three");
    server.until("the third waits", |server| jobs(server, 3).contains("deploy: pending"));
    server.until("the second gave way", |server| jobs(server, 2).contains("deploy: cancelled"));
    assert_snapshot!(jobs(&server, 2), @"
    test: success (-)
    deploy: cancelled (superseded by a job of run 3 of its concurrency group)
    ");
    // Another workflow names the same group, in other letters, as a whole.
    server.workflow("on: push\nconcurrency: {group: PRODUCTION, cancel-in-progress: true}\njobs:\n  all: {runs-on: linux, steps: [{run: echo all}]}\n");
    push(&server, "four");
    server.until("it is done", |server| jobs(server, 4).contains("all: success"));
    assert_snapshot!((1..=4).map(|run| jobs(&server, run)).collect::<String>(), @"
    test: success (-)
    deploy: cancelled (superseded by run 4 of its concurrency group)
    test: success (-)
    deploy: cancelled (superseded by a job of run 3 of its concurrency group)
    test: success (-)
    deploy: cancelled (superseded by run 4 of its concurrency group)
    all: success (-)
    ");
    // In a long queue nobody gives way.
    server.workflow("on: push\njobs:\n  one:\n    runs-on: linux\n    concurrency: {group: line, queue: max}\n    strategy: {matrix: {n: [1, 2, 3, 4]}}\n    steps: [{run: 'mkdir \"$FOLDER/busy\"; sleep 0.1; rmdir \"$FOLDER/busy\"', env: {FOLDER: 'GATE.d'}}]\n");
    std::fs::create_dir(server.gate().with_extension("d")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(server.gate().with_extension("d"), mode).unwrap();
    let sha = push(&server, "five");
    assert_snapshot!(server.verdict(&sha), @"
    muster success: 4 successful
    one (1) success: Successful
    one (2) success: Successful
    one (3) success: Successful
    one (4) success: Successful
    .github/workflows/ci.yml ran
    ");
}

fn a_call_has_its_turn_as_a_whole(database: Database) {
    let server = Server::start(database, "jobs = 4\n");
    server.workflow("on: push\njobs:\n  ship:\n    uses: ./.github/workflows/ship.yml\n    concurrency: {group: 'to-${{ github.ref_name }}', cancel-in-progress: '${{ github.ref_name == ''main'' }}'}\n");
    let ship = DEPLOY
        .replace("on: push", "on: workflow_call")
        .replace("    concurrency: Production\n", "");
    let ship = ship.replace("GATE", &server.gate().to_string_lossy());
    server.scene.file(".github/workflows/ship.yml", &ship);
    push(&server, "one");
    server.until("it ships", |server| jobs(server, 1).contains("ship / deploy: running"));
    push(&server, "two");
    server.until("the second ships", |server| jobs(server, 2).contains("ship / deploy: running"));
    server.open_gate();
    server.until("it is done", |server| jobs(server, 2).contains("ship / deploy: success"));
    assert_snapshot!((1..=2).map(|run| jobs(&server, run)).collect::<String>(), @"
    ship / test: success (-)
    ship / deploy: cancelled (superseded by a job of run 2 of its concurrency group)
    ship / test: success (-)
    ship / deploy: success (-)
    ");
    assert_eq!(server.muster(&["rerun", "1", "--failed"]).exit, Some(0));
    server.until("it is green", |server| server.muster(&["runs"]).out.contains("1 success"));
    assert_snapshot!(jobs(&server, 1), @"
    ship / test: success (-)
    ship / deploy: success (-)
    ");
}

fn a_workflow_that_is_called_may_name_the_group(database: Database) {
    let server = Server::start(database, "jobs = 4\n");
    let caller =
        "on: push\njobs:\n  ship: {uses: ./.github/workflows/ship.yml, with: {to: here}}\n";
    server.workflow(caller);
    let ship = "on: {workflow_call: {inputs: {to: {type: string}}}}\nconcurrency: 'ship to ${{ inputs.to }}'\njobs:\n  it: {runs-on: linux, steps: [{run: 'while [ ! -e GATE ]; do sleep 0.02; done'}]}\n";
    let ship = ship.replace("GATE", &server.gate().to_string_lossy());
    server.scene.file(".github/workflows/ship.yml", &ship);
    push(&server, "one");
    server.until("it ships", |server| jobs(server, 1).contains("ship / it: running"));
    push(&server, "two");
    server.until("the second waits", |server| jobs(server, 2).contains("ship: pending"));
    assert_snapshot!(jobs(&server, 2), @"ship: pending (waits for its turn in the concurrency group `ship to here`)");
    server.open_gate();
    server.until("it is done", |server| jobs(server, 2).contains("ship / it: success"));
    server.workflow(&caller.replace("with:", "concurrency: two, with:"));
    let sha = push(&server, "three");
    assert_snapshot!(server.verdict(&sha), @"
    muster error: .github/workflows/ci.yml: line 3, column 16: `./.github/workflows/ship.yml` cannot be run: it has `concurrency`, and so has a job that call…
    .github/workflows/ci.yml refused: line 3, column 16: `./.github/workflows/ship.yml` cannot be run: it has `concurrency`, and so has a job that calls it: two groups of one call are not supported yet
    .github/workflows/ship.yml skipped: `on` does not name `push`
    ");
}

fn what_is_run_again_takes_its_place_in_a_long_queue(database: Database) {
    let server = Server::start(database, "jobs = 4\n");
    server.workflow("on: push\nconcurrency: {group: line, queue: max}\njobs:\n  wait: {runs-on: linux, steps: [{run: 'while [ ! -e GATE ]; do sleep 0.02; done'}]}\n");
    server.open_gate();
    push(&server, "one");
    server.until("the first is over", |server| jobs(server, 1).contains("wait: success"));
    server.close_gate();
    for (run, word) in [(2, "two"), (3, "three"), (4, "four")] {
        push(&server, word);
        server.until("it is there", |server| !jobs(server, run).is_empty());
    }
    assert_eq!(server.muster(&["rerun", "1"]).exit, Some(0));
    server.open_gate();
    server.until("all are over", |server| {
        (1..=4).all(|run| jobs(server, run).contains("wait: success"))
    });
}

fn nobody_waits_for_itself(database: Database) {
    let server = Server::start(database, "");
    server.workflow("on: push\nconcurrency: here\njobs:\n  test: {runs-on: linux, concurrency: Here, steps: [{run: echo never}]}\n  other: {runs-on: linux, concurrency: '${{ fromJSON(''x'') }}', steps: [{run: echo never}]}\n");
    let nul = "on: push\njobs:\n  nul: {runs-on: linux, concurrency: \"${{ fromJSON('\\\"a\\\\u0000\\\"') }}\", steps: [{run: echo never}]}\n";
    server.scene.file(".github/workflows/nul.yml", nul);
    let sha = push(&server, "one");
    assert_snapshot!(server.verdict(&sha), @"
    muster failure: 2 failed, not run to the end: test
    nul failure: Failed: `concurrency`: the name of a group is a line of at most 400 characters
    other failure: Failed: `concurrency`: fromJSON: expected value at line 1 column 1
    test error: Cancelled: its concurrency group is held by what waits for it to end: a deadlock
    .github/workflows/ci.yml ran
    .github/workflows/nul.yml ran
    ");
}

#[test]
fn jobs_of_a_group_run_one_after_the_other_here_too() {
    let scene = Scene::new();
    scene.workflow("on: push\njobs:\n  legs:\n    runs-on: linux\n    strategy: {matrix: {n: [1, 2, 3]}}\n    concurrency: {group: legs, queue: max}\n    steps: [{run: 'echo ${{ matrix.n }}'}]\n  ends:\n    needs: legs\n    runs-on: linux\n    strategy: {matrix: {n: [1, 2, 3]}, fail-fast: false}\n    concurrency: ends\n    steps: [{run: 'echo last ${{ matrix.n }}'}]\n");
    scene.commit("Take turns");
    assert_snapshot!(scene.muster(&["run", "--isolation", "none"]).story(), @"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    legs (1) ▸ Run echo 1
    legs (1) │ 1
    legs (1) ✓ Run echo 1 [time]
    legs (2) ▸ Run echo 2
    legs (2) │ 2
    legs (2) ✓ Run echo 2 [time]
    legs (3) ▸ Run echo 3
    legs (3) │ 3
    legs (3) ✓ Run echo 3 [time]
    ends (1) ▸ Run echo last 1
    ends (1) │ last 1
    ends (1) ✓ Run echo last 1 [time]
    ends (3) ▸ Run echo last 3
    ends (3) │ last 3
    ends (3) ✓ Run echo last 3 [time]
    .github/workflows/ci.yml: cancelled
      legs (1)  success  [time]
      legs (2)  success  [time]
      legs (3)  success  [time]
      ends (1)  success  [time]
      ends (2)  cancelled  superseded by a job of run 1 of its concurrency group
      ends (3)  success  [time]
    exit 1
    ");
}
