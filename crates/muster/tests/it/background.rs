//! Steps in the background, and steps in parallel.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use insta::assert_snapshot;
use serde_json::Value;

use crate::actions::path_with_node;
use crate::database::{Database, on_both};
use crate::scene::{Scene, masked};
use crate::server::Server;

on_both! {
    a_run_that_is_cancelled_ends_what_is_in_the_background,
}

fn workflow(steps: &str) -> String {
    let steps = steps.trim_end().replace('\n', "\n      ");
    format!(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      {}\n",
        steps.trim_start()
    )
}

/// Runs what is in a scene in each isolation, and returns what each step said and how it ended: steps at a time say it in
/// any order.
fn told(scene: &Scene) -> String {
    let sandbox = crate::sandbox::there_can_be_one().then_some("sandbox");
    let stories = ["none"].into_iter().chain(sandbox).map(|isolation| {
        let path = path_with_node();
        let args = ["run", "--isolation", isolation, "--json"];
        let done = scene.muster_with(&args, &[("PATH", &path)]);
        let mut steps: BTreeMap<u64, (String, String)> = BTreeMap::new();
        let mut last = String::new();
        for line in done.out.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let step = event["step"].as_u64().unwrap_or_default();
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            match event["event"].as_str().unwrap() {
                "output" if step > 0 => {
                    writeln!(steps.entry(step).or_default().1, "  {}", text("text")).unwrap();
                }
                "step_finished" if step > 0 => {
                    let title = format!("{step} {}: {}", text("title"), text("outcome"));
                    steps.entry(step).or_default().0 = title;
                }
                "job_finished" => last = text("conclusion"),
                _ => {}
            }
        }
        let steps = steps.into_values().map(|(title, said)| format!("{title}\n{said}"));
        masked(&format!("{}{last} {:?} {}", steps.collect::<String>(), done.exit, done.err))
    });
    let stories: Vec<String> = stories.collect();
    assert!(stories.iter().all(|story| *story == stories[0]), "{}", stories.join("\n---\n"));
    stories[0].clone()
}

#[test]
fn steps_go_on_beside_each_other_and_are_heard_when_they_are_waited_for() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"
- name: Server
  id: server
  background: true
  run: |
    trap 'echo stopped; exit 3' INT
    echo SERVER=1 >> $GITHUB_ENV; echo port=80 >> $GITHUB_OUTPUT; touch up
    while :; do sleep 0.01; done
- name: Beside it
  run: |
    until test -e up; do sleep 0.01; done
    echo "env=$SERVER output=${{ steps.server.outputs.port }} outcome=${{ steps.server.outcome }}"
- parallel:
  - {name: One, id: one, run: 'touch one; until test -e two; do sleep 0.01; done; echo x=1 >> $GITHUB_OUTPUT; echo ONE=here >> $GITHUB_ENV'}
  - {name: Two, id: two, run: 'touch two; until test -e one; do sleep 0.01; done; echo x=2 >> $GITHUB_OUTPUT'}
  - {name: Not at all, if: failure(), run: 'false'}
- name: After them
  run: 'echo "${{ steps.one.outputs.x }} ${{ steps.two.outputs.x }} $ONE"'
- {name: Stop it, cancel: server}
- name: Last
  run: 'echo "env=$SERVER output=${{ steps.server.outputs.port }} outcome=${{ steps.server.outcome }} job=${{ job.status }}"'
"#,
    ));
    scene.commit("first");
    assert_snapshot!(told(&scene), @"
    1 Server: cancelled
      stopped
      stopped: another step has cancelled it
    2 Beside it: success
      env= output= outcome=
    3 One: success
    4 Two: success
    5 Not at all: skipped
    6 Parallel: success
      Waiting for all of them
      One: success
      Two: success
      Not at all: skipped
    7 After them: success
      1 2 here
    8 Stop it: success
      Cancelling server
      Server: cancelled
    9 Last: success
      env=1 output=80 outcome=cancelled job=success
    success Some(0)
    ");
}

#[test]
fn what_fails_in_the_background_fails_who_waits_for_it() {
    let scene = Scene::new();
    scene.workflow(&workflow(
        r#"
- {name: Bad, id: bad, background: true, run: 'echo x=1 >> $GITHUB_OUTPUT; touch failed; exit 3'}
- name: Goes on
  run: 'until test -e failed; do sleep 0.01; done; echo "${{ job.status }}"'
- {name: Forgiven, id: forgiven, background: true, continue-on-error: true, run: exit 4}
- {wait: forgiven}
- {name: After what may fail, run: 'echo "${{ steps.forgiven.outcome }} ${{ steps.forgiven.conclusion }}"'}
- {wait: [bad]}
- {name: Not run, run: echo never}
- {name: Always, if: always(), run: 'echo "${{ steps.bad.outcome }} ${{ steps.bad.outputs.x }} ${{ job.status }}"'}
"#,
    ));
    scene.commit("first");
    assert_snapshot!(told(&scene), @"
    1 Bad: failure
      ##[error]the step ended with exit code 3
    2 Goes on: success
      success
    3 Forgiven: failure
      ##[error]the step ended with exit code 4
    4 Wait: success
      Waiting for forgiven
      Forgiven: success
    5 After what may fail: success
      failure success
    6 Wait: failure
      Waiting for bad
      Bad: failure
    7 Not run: skipped
    8 Always: success
      failure 1 failure
    failure Some(1)
    ");
    // Whoever waits for nothing waits in the end, and a failure counts also where who waited does not mind.
    scene.workflow(&workflow(
        r#"
- {name: Bad, id: bad, background: true, run: exit 3}
- {wait-all: , continue-on-error: true}
- {name: Goes on, run: 'echo "${{ job.status }}"; touch go'}
- {name: Late, background: true, run: 'until test -e over; do sleep 0.01; done; echo done'}
- {name: Last, run: touch over}
"#,
    ));
    assert_snapshot!(told(&scene), @"
    1 Bad: failure
      ##[error]the step ended with exit code 3
    2 Wait for all: failure
      Waiting for all steps in the background
      Bad: failure
    3 Goes on: success
      success
    4 Late: success
      done
    5 Last: success
      Waiting for the steps in the background
      Late: success
    failure Some(1)
    ");
}

#[test]
fn actions_run_in_the_background_with_what_they_do_at_the_end() {
    let scene = Scene::new();
    scene.file("act/action.yml", "name: A\ndescription: d\ninputs: {n: {required: true}}\nruns: {using: node20, main: main.js, post: post.js}\n");
    scene.file("act/main.js", "require('fs').appendFileSync(process.env.GITHUB_STATE, 'n=' + process.env.INPUT_N + '\\n'); console.log('::add-mask::hidden' + process.env.INPUT_N); console.log('main', process.env.INPUT_N, 'hidden' + process.env.INPUT_N);\n");
    scene.file("act/post.js", "console.log('post', process.env.STATE_n, 'hidden1 hidden2');\n");
    scene.file("both/action.yml", "name: B\ndescription: d\noutputs: {said: {value: '${{ steps.say.outputs.said }}'}}\nruns:\n  using: composite\n  steps:\n    - {id: say, shell: bash, run: 'echo said=it >> $GITHUB_OUTPUT'}\n    - {uses: $/act, with: {n: 3}}\n");
    scene.workflow(&workflow(
        r#"
- uses: actions/checkout@v4
- parallel:
  - {uses: $/act, with: {n: 1}}
  - {uses: ./act, with: {n: 2}}
  - {id: both, uses: ./both}
- run: echo "${{ steps.both.outputs.said }} hidden1 hidden2 hidden3"
"#,
    ));
    scene.commit("first");
    assert_snapshot!(told(&scene), @r#"
    1 Run actions/checkout@v4: success
      Checked out [sha] at refs/heads/main
    2 Run $/act: success
      main 1 ***
    3 Run ./act: success
      main 2 ***
    4 Run ./both: success
      Run echo said=it >> $GITHUB_OUTPUT
      Run $/act
      main 3 ***
    5 Parallel: success
      Waiting for all of them
      Run $/act: success
      Run ./act: success
      Run ./both: success
    6 Run echo "it *** *** ***": success
      it *** *** ***
    7 Post Run $/act: success
      post 3 *** ***
    8 Post Run ./act: success
      post 2 *** ***
    9 Post Run $/act: success
      post 1 *** ***
    success Some(0)
    "#);
}

#[test]
fn what_two_steps_use_is_brought_once_and_ends_once() {
    let scene = Scene::new();
    let action = "name: A\ndescription: d\ninputs: {n: {required: true}}\nruns: {using: node20, pre: pre.js, main: main.js, post: post.js}\n";
    scene.file("act/action.yml", action);
    for part in ["pre", "main", "post"] {
        let text = format!(
            "const {{INPUT_N, STATE_kept, GITHUB_STATE}} = process.env;\nconsole.log('{part}', INPUT_N, STATE_kept);\nrequire('fs').appendFileSync(GITHUB_STATE, 'kept={part}' + INPUT_N + '\\n');\n"
        );
        scene.file(&format!("act/{part}.js"), &text);
    }
    for name in ["one", "two"] {
        scene.file(&format!("{name}/action.yml"), &format!("name: B\ndescription: d\nruns:\n  using: composite\n  steps:\n    - {{uses: $/other, with: {{n: {name}}}}}\n"));
    }
    scene.file("other/action.yml", "name: O\ndescription: d\ninputs: {n: {required: true}}\nruns:\n  using: composite\n  steps: [{shell: bash, run: 'echo \"${{ inputs.n }}\"'}]\n");
    scene.workflow(&workflow(
        r#"
- uses: actions/checkout@v4
- parallel:
  - {uses: ./one}
  - {uses: ./two}
  - {name: A, uses: $/act, with: {n: 1}}
  - {name: B, uses: $/act, with: {n: 2}}
"#,
    ));
    scene.commit("first");
    assert_snapshot!(told(&scene), @r#"
    1 Pre A: success
      pre 1 undefined
    2 Pre B: success
      pre 2 undefined
    3 Run actions/checkout@v4: success
      Checked out [sha] at refs/heads/main
    4 Run ./one: success
      Run $/other
      Run echo "one"
      one
    5 Run ./two: success
      Run $/other
      Run echo "two"
      two
    6 A: success
      main 1 pre1
    7 B: success
      main 2 pre2
    8 Parallel: success
      Waiting for all of them
      Run ./one: success
      Run ./two: success
      A: success
      B: success
    9 Post B: success
      post 2 main2
    10 Post A: success
      post 1 main1
    success Some(0)
    "#);
}

#[test]
fn who_cancels_and_waits_again_does_well() {
    let scene = Scene::new();
    let holders =
        "- {background: true, run: 'touch held-$$; until test -e over; do sleep 0.01; done'}\n"
            .repeat(10);
    scene.workflow(&workflow(&format!(
        r#"
- {{id: crashed, name: Crashed, background: true, run: 'echo $$ > pid; mv pid gone; exit 3'}}
- {{name: Until it is gone, run: 'until test -e gone; do sleep 0.01; done; while kill -0 $(cat gone) 2> /dev/null; do sleep 0.01; done'}}
- {{cancel: CRASHED}}
- {{name: Goes on, run: 'echo "${{{{ steps.crashed.outcome }}}} ${{{{ job.status }}}}"'}}
- {{wait: crashed}}
- wait-all:
{holders}- {{name: All have turns, run: 'until test "$(ls held-* 2> /dev/null | wc -l)" -eq 10; do sleep 0.01; done'}}
- {{id: late, name: Has no turn, background: true, if: always(), run: echo never}}
- {{cancel: Late}}
- {{name: Last, run: 'echo "${{{{ steps.late.outcome }}}}"; touch over'}}
"#
    )));
    scene.commit("first");
    let told = told(&scene);
    let told: Vec<&str> =
        told.lines().filter(|line| !line.contains("until test -e over")).collect();
    assert_snapshot!(told.join("\n"), @"
    1 Crashed: failure
      ##[error]the step ended with exit code 3
    2 Until it is gone: success
    3 Cancel: success
      Cancelling CRASHED
      Crashed: failure
    4 Goes on: success
      failure success
    5 Wait: success
      Waiting for crashed
    6 Wait for all: success
      Waiting for all steps in the background
    17 All have turns: success
    18 Has no turn: cancelled
    19 Cancel: success
      Cancelling Late
      Has no turn: cancelled
    20 Last: success
      cancelled
      Waiting for the steps in the background
    failure Some(1)
    ");
}

#[test]
fn no_more_than_ten_are_done_at_a_time() {
    let scene = Scene::new();
    let step =
        "  - {run: 'mkdir -p n; touch n/$$; sleep 0.05; test $(ls n | wc -l) -le 10; rm n/$$'}\n";
    scene.workflow(&workflow(&format!("- parallel:\n{}", step.repeat(25))));
    scene.commit("first");
    let done = scene.muster(&["run", "--isolation", "none"]);
    assert_eq!(done.exit, Some(0), "{}{}", done.out, done.err);
}

fn a_run_that_is_cancelled_ends_what_is_in_the_background(database: Database) {
    let server = Server::start(database, "");
    server.workflow(&workflow(
        "- {id: a, background: true, run: \"trap 'echo heard' INT; touch a; while :; do sleep 0.01; done\"}\n\
         - parallel: [{run: 'until test -e a; do sleep 0.01; done; sleep 1000'}, {run: sleep 1000}]\n\
         - {name: Always, if: always(), run: 'echo ${{ steps.a.outcome }}'}\n",
    ));
    let sha = server.push("main", "Wait");
    server.until("it runs", |server| server.muster(&["log", "1"]).out.contains("Waiting for all"));
    assert_eq!(server.muster(&["cancel", "1"]).exit, Some(0));
    assert_snapshot!(server.verdict(&sha), @"
    muster error: not run to the end: test
    test error: Cancelled: cancelled by the administrator
    .github/workflows/ci.yml ran
    ");
}
