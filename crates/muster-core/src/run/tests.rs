use insta::assert_snapshot;
use muster_workflow::expr::Contexts;
use muster_workflow::{Text, Workflows, plan, read};

use super::*;

/// A run of a workflow whose jobs end as they are told.
struct Story {
    workflows: Workflows,
    run: Run,
    said: Vec<String>,
}

impl Story {
    fn new(jobs: &str) -> Self {
        Self::calling(jobs, &[])
    }

    /// Of a workflow that calls others, by name.
    fn calling(jobs: &str, called: &[(&str, &str)]) -> Self {
        let workflow = read(&format!("on: push\njobs:\n{jobs}")).unwrap();
        let run = Run::new(&plan(&workflow, &Contexts::new()).unwrap());
        let workflows = Workflows::gather(workflow, &mut |uses| {
            let uses = uses.to_string();
            match called.iter().find(|(name, _)| uses.contains(name)) {
                Some((_, text)) => Text::Here((*text).to_owned()),
                None => Text::NotHere,
            }
        });
        let mut story = Self { workflows, run, said: Vec::new() };
        story.settle();
        story
    }

    fn settle(&mut self) {
        let contexts = &Contexts::new();
        for effect in self.run.step(Ground { workflows: &self.workflows, contexts }) {
            let line = match effect {
                Effect::Planned(place) => format!("{} planned", self.run.jobs[place].name),
                Effect::Claim(place) => format!("{} comes to its group", self.run.jobs[place].name),
                Effect::Queue(place) => format!("{} queued", self.run.jobs[place].name),
                Effect::Stop(place, reason) => {
                    format!("{} told to stop: {reason}", self.run.jobs[place].name)
                }
                Effect::Finished(place) => {
                    let job = &self.run.jobs[place];
                    let reason = job.state.reason().map(ToString::to_string).unwrap_or_default();
                    format!("{} {}: {reason}", job.name, job.state.as_str())
                }
                Effect::Concluded(conclusion) => format!("run {conclusion}"),
            };
            self.said.push(line);
        }
    }

    fn place(&self, name: &str) -> usize {
        self.run.jobs.iter().position(|job| job.name == name).unwrap()
    }

    fn start(&mut self, name: &str) -> &mut Self {
        let place = self.place(name);
        self.run.start(place, Attempt::FIRST).unwrap();
        self.settle();
        self
    }

    fn end(&mut self, name: &str, conclusion: Conclusion, outputs: &[(&str, &str)]) -> &mut Self {
        let place = self.place(name);
        let outputs = outputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.run.finish(place, Attempt::FIRST, conclusion, None, outputs).unwrap();
        self.settle();
        self
    }

    fn cancel(&mut self) -> &mut Self {
        self.run.cancel = Some(Reason::new("cancelled", "cancelled by ana"));
        self.settle();
        self
    }

    fn said(&mut self) -> String {
        std::mem::take(&mut self.said).join("\n")
    }
}

fn job(id: &str, rest: &str) -> String {
    format!("  {id}: {{runs-on: x, steps: [{{run: a}}]{rest}}}\n")
}

#[test]
fn a_job_starts_when_what_it_needs_is_green() {
    let jobs = [job("build", ""), job("test", ", needs: build"), job("lint", "")].concat();
    let mut story = Story::new(&jobs);
    assert_snapshot!(story.said(), @r"
    build queued
    lint queued
    ");
    story.start("build").end("build", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"test queued");
    story.start("lint").start("test");
    story.end("lint", Conclusion::Success, &[]).end("test", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"run success");
}

#[test]
fn what_needs_a_red_job_is_skipped_unless_its_if_says_otherwise() {
    let jobs = [
        job("build", ""),
        job("test", ", needs: build"),
        job("deploy", ", needs: test"),
        job("report", ", needs: [build, test], if: \"failure()\""),
        job("always", ", needs: test, if: \"${{ always() && needs.test.result == 'skipped' }}\""),
        job("green", ", needs: build, if: \"needs.build.result == 'failure'\""),
    ]
    .concat();
    let mut story = Story::new(&jobs);
    story.start("build").end("build", Conclusion::Failure, &[]);
    assert_snapshot!(story.said(), @r"
    build queued
    test skipped: it needs `build`, which ended as failure
    deploy skipped: it needs `test`, which ended as skipped
    report queued
    always queued
    green skipped: it needs `build`, which ended as failure
    ");
}

#[test]
fn outputs_reach_the_jobs_that_need_them() {
    let jobs = [
        job("find", ", strategy: {matrix: {n: [1, 2]}}"),
        job("use", ", needs: find, if: \"needs.find.outputs.what == 'late'\""),
    ]
    .concat();
    let mut story = Story::new(&jobs);
    story.start("find (1)").start("find (2)");
    story.end("find (2)", Conclusion::Success, &[("what", "late")]);
    story.end("find (1)", Conclusion::Success, &[("what", "")]);
    assert_snapshot!(story.said(), @r"
    find (1) queued
    find (2) queued
    use queued
    ");
}

#[test]
fn a_red_leg_cancels_the_others_unless_told_not_to() {
    let matrix = ", strategy: {matrix: {n: [1, 2, 3]}}";
    let mut story = Story::new(&job("test", matrix));
    story.start("test (1)").start("test (2)").end("test (1)", Conclusion::Failure, &[]);
    assert_snapshot!(story.said(), @r"
    test (1) queued
    test (2) queued
    test (3) queued
    test (2) told to stop: `test (1)` failed and its matrix is fail-fast
    test (3) cancelled: `test (1)` failed and its matrix is fail-fast
    ");
    story.end("test (2)", Conclusion::Cancelled, &[]);
    assert_snapshot!(story.said(), @"run failure");

    let mut story = Story::new(&job("test", ", strategy: {fail-fast: false, matrix: {n: [1, 2]}}"));
    story.start("test (1)").end("test (1)", Conclusion::Failure, &[]);
    assert_snapshot!(story.said(), @r"
    test (1) queued
    test (2) queued
    ");
}

#[test]
fn a_cancelled_run_ends_all_but_what_asks_to_run_anyway() {
    let jobs = [
        job("build", ""),
        job("slow", ""),
        job("test", ", needs: build"),
        job("clean", ", needs: build, if: cancelled()"),
    ]
    .concat();
    let mut story = Story::new(&jobs);
    story.start("build").cancel();
    assert_snapshot!(story.said(), @r"
    build queued
    slow queued
    build told to stop: cancelled by ana
    slow cancelled: cancelled by ana
    ");
    story.end("build", Conclusion::Cancelled, &[]);
    assert_snapshot!(story.said(), @r"
    test cancelled: cancelled by ana
    clean queued
    ");
    story.start("clean").end("clean", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"run cancelled");
}

#[test]
fn what_has_not_begun_is_judged_once_more_when_its_run_is_cancelled() {
    let jobs = [
        job("plain", ""),
        job("always", ", if: always()"),
        job("waits", ", concurrency: one"),
        job("cleans", ", if: always(), concurrency: two"),
    ]
    .concat();
    let mut story = Story::new(&jobs);
    story.cancel();
    assert_snapshot!(story.said(), @"
    plain queued
    always queued
    waits comes to its group
    cleans comes to its group
    plain cancelled: cancelled by ana
    always planned
    waits cancelled: cancelled by ana
    cleans planned
    ");
    let place = story.place("cleans");
    story.run.admit(place);
    story.settle();
    story.start("always").end("always", Conclusion::Success, &[]);
    story.start("cleans").end("cleans", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"
    cleans queued
    run cancelled
    ");
}

#[test]
fn a_failure_that_may_be_leaves_the_run_green() {
    let jobs = [job("flaky", ""), job("next", ", needs: flaky")].concat();
    let mut story = Story::new(&jobs);
    story.run.jobs[0].continue_on_error = true;
    story.start("flaky").end("flaky", Conclusion::Failure, &[]);
    story.start("next").end("next", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @r"
    flaky queued
    next queued
    run success
    ");
}

#[test]
fn a_late_report_changes_nothing() {
    let mut story = Story::new(&job("build", ""));
    story.start("build");
    let lost = story.run.jobs[0].state.retry(Attempt::FIRST).unwrap();
    assert_eq!(lost, Attempt(2));
    let late = story.run.finish(0, Attempt::FIRST, Conclusion::Success, None, Vec::new());
    assert_snapshot!(late.unwrap_err(), @"attempt 1 is not running");
    story.run.start(0, Attempt(2)).unwrap();
    assert!(story.run.start(0, Attempt(2)).is_err());
    story.run.finish(0, Attempt(2), Conclusion::Success, None, Vec::new()).unwrap();
    assert!(story.run.finish(0, Attempt(2), Conclusion::Failure, None, Vec::new()).is_err());
    assert_eq!(story.run.conclusion(), Some(Conclusion::Success));
}

/// Makes ready for another attempt, and returns how many jobs run again.
fn again(story: &mut Story, failed_only: bool) -> usize {
    let is_open = |job: &&Job| job.state.conclusion().is_none();
    match story.run.again(failed_only) {
        Some(_) => story.run.jobs.iter().filter(is_open).count(),
        None => 0,
    }
}

#[test]
fn a_rerun_of_what_failed_takes_what_needs_it_along_and_leaves_the_rest() {
    let jobs = [
        job("build", ""),
        job("test", ", needs: build, strategy: {fail-fast: false, matrix: {n: [1, 2]}}"),
        job("deploy", ", needs: test"),
    ]
    .concat();
    let mut story = Story::new(&jobs);
    story.start("build").end("build", Conclusion::Success, &[("version", "1")]);
    story.start("test (1)").start("test (2)");
    story.end("test (1)", Conclusion::Success, &[]).end("test (2)", Conclusion::Failure, &[]);
    story.said();
    assert_eq!(again(&mut story, true), 2);
    story.settle();
    assert_snapshot!(story.said(), @"test (2) queued");
    assert_eq!(story.run.jobs[0].outputs.len(), 1);
    story.start("test (2)").end("test (2)", Conclusion::Success, &[]);
    story.start("deploy").end("deploy", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @r"
    deploy queued
    run success
    ");
    assert_eq!(again(&mut story, true), 0);
    assert_eq!(again(&mut story, false), 4);
}

#[test]
fn of_a_matrix_only_so_many_legs_run_at_a_time() {
    let jobs = "  a:\n    runs-on: x\n    strategy: {max-parallel: 2, fail-fast: false, matrix: {n: [1, 2, 3, 4]}}\n    steps: [{run: a}]\n  b: {needs: a, runs-on: x, steps: [{run: b}]}\n";
    let mut story = Story::new(jobs);
    assert_eq!(story.said.len(), 2, "more than two began");
    story.start("a (1)").end("a (1)", Conclusion::Failure, &[]);
    assert_eq!(story.said.len(), 3, "not one began for the one that ended");
    story.start("a (2)").start("a (3)").end("a (3)", Conclusion::Success, &[]);
    story.end("a (2)", Conclusion::Success, &[]).start("a (4)");
    story.end("a (4)", Conclusion::Success, &[]);
    assert_snapshot!(story.said.join("\n"), @"
    a (1) queued
    a (2) queued
    a (3) queued
    a (4) queued
    b skipped: it needs `a (1)`, which ended as failure
    run failure
    ");
    let mut story = Story::new(jobs);
    story.run.cancel = Some(Reason::new("cancelled", "cancelled by Ana"));
    story.settle();
    assert_snapshot!(story.said.join("\n"), @"
    a (1) queued
    a (2) queued
    a (1) cancelled: cancelled by Ana
    a (2) cancelled: cancelled by Ana
    a (3) cancelled: cancelled by Ana
    a (4) cancelled: cancelled by Ana
    b cancelled: cancelled by Ana
    run cancelled
    ");
}

const CALLED: &str = "on: {workflow_call: {inputs: {what: {type: string}}, outputs: {made: {value: \"${{ jobs.make.outputs.it }} of ${{ inputs.what }}\"}}}}\njobs:\n  make: {runs-on: x, outputs: {it: a}, steps: [{run: a}]}\n  check: {runs-on: x, needs: make, steps: [{run: a}]}\n";

#[test]
fn the_jobs_of_a_called_workflow_stand_for_the_job_that_calls_it() {
    let jobs = "  plan: {runs-on: x, steps: [{run: a}]}\n  build: {needs: plan, strategy: {matrix: {of: [app, lib]}}, uses: ./.github/workflows/called.yml, with: {what: \"${{ matrix.of }} ${{ needs.plan.outputs.version }}\"}}\n  ship: {needs: build, runs-on: x, steps: [{run: a}]}\n";
    let mut story = Story::calling(jobs, &[("called", CALLED)]);
    story.start("plan").end("plan", Conclusion::Success, &[("version", "2")]);
    story.start("build (app) / make").end(
        "build (app) / make",
        Conclusion::Success,
        &[("it", "app")],
    );
    story.start("build (lib) / make").end(
        "build (lib) / make",
        Conclusion::Success,
        &[("it", "lib")],
    );
    story.start("build (app) / check").end("build (app) / check", Conclusion::Success, &[]);
    story.start("build (lib) / check").end("build (lib) / check", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"
    plan queued
    build (app) planned
    build (app) / make planned
    build (app) / check planned
    build (lib) planned
    build (lib) / make planned
    build (lib) / check planned
    build (app) / make queued
    build (lib) / make queued
    build (app) / check queued
    build (lib) / check queued
    build (app) success: 
    build (lib) success: 
    ship queued
    ");
    let of = |name: &str| story.run.jobs[story.place(name)].outputs.clone();
    assert_snapshot!(format!("{:?}\n{:?}", of("build (app)"), of("build (lib)")), @r#"
    [("made", "app of app 2")]
    [("made", "lib of lib 2")]
    "#);
    let order = in_order(&story.run.jobs);
    let shown = order.iter().map(|place| &story.run.jobs[*place]).filter(|job| job.is_shown());
    let shown: Vec<&str> = shown.map(|job| job.name.as_str()).collect();
    assert_snapshot!(shown.join("\n"), @"
    plan
    build (app) / make
    build (app) / check
    build (lib) / make
    build (lib) / check
    ship
    ");
}

#[test]
fn what_fails_in_a_called_workflow_fails_the_call_and_the_rest_is_run_again() {
    let jobs = "  a: {uses: ./.github/workflows/called.yml}\n  b: {needs: a, runs-on: x, steps: [{run: a}]}\n  c: {needs: a, if: failure(), uses: ./.github/workflows/called.yml}\n";
    let mut story = Story::calling(jobs, &[("called", CALLED)]);
    story.start("a / make").end("a / make", Conclusion::Success, &[]);
    story.start("a / check").end("a / check", Conclusion::Failure, &[]);
    assert_snapshot!(story.said(), @"
    a planned
    a / make planned
    a / check planned
    a / make queued
    a / check queued
    a failure: 
    b skipped: it needs `a`, which ended as failure
    c planned
    c / make planned
    c / check planned
    c / make queued
    ");
    story.start("c / make").end("c / make", Conclusion::Success, &[]);
    story.start("c / check").end("c / check", Conclusion::Success, &[]);
    story.said();
    assert_eq!(again(&mut story, true), 4, "a, a / check, b and c anew");
    story.settle();
    assert_snapshot!(story.said(), @"a / check queued");
    story.start("a / check").end("a / check", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"
    a success: 
    b queued
    c skipped: its `if` is false
    ");
    story.start("b").end("b", Conclusion::Success, &[]);
    assert_eq!(again(&mut story, false), 3, "a, b, c as they were planned");
    story.settle();
    assert_snapshot!(story.said(), @"
    run success
    a planned
    a / make planned
    a / check planned
    a / make queued
    ");
}

#[test]
fn a_call_is_cancelled_with_all_that_it_has_called() {
    let jobs = "  a: {uses: ./.github/workflows/called.yml}\n  z: {needs: a, if: always(), uses: ./.github/workflows/called.yml}\n";
    let mut story = Story::calling(jobs, &[("called", CALLED)]);
    story.start("a / make").cancel();
    story.end("a / make", Conclusion::Cancelled, &[]);
    // What asked to run all the same does so with all that it calls.
    story.start("z / make").end("z / make", Conclusion::Success, &[]);
    story.start("z / check").end("z / check", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @"
    a planned
    a / make planned
    a / check planned
    a / make queued
    a told to stop: cancelled by ana
    a / make told to stop: cancelled by ana
    a / check cancelled: cancelled by ana
    a cancelled: 
    z planned
    z / make planned
    z / check planned
    z / make queued
    z / check queued
    z success: 
    run cancelled
    ");
}

#[test]
fn a_matrix_of_what_others_said_is_made_when_they_have() {
    let jobs = "  a: {runs-on: x, steps: [{run: a}]}\n  b: {needs: a, name: \"of ${{ matrix.n }}\", runs-on: \"${{ matrix.on }}\", strategy: {matrix: {include: \"${{ fromJSON(needs.a.outputs.legs) }}\"}}, steps: [{run: a}]}\n  c: {needs: b, runs-on: x, steps: [{run: a}]}\n";
    let legs = |text: &str| {
        let mut story = Story::new(jobs);
        let shown = story.run.jobs.iter().filter(|job| job.is_shown()).count();
        assert_eq!(shown, 2, "more is known than can be");
        story.start("a").end("a", Conclusion::Success, &[("legs", text)]);
        story
    };
    let mut story = legs(r#"[{"n": 1, "on": "x"}, {"n": 2, "on": "y"}]"#);
    assert_snapshot!(story.said(), @"
    a queued
    of 1 planned
    of 2 planned
    of 1 queued
    of 2 queued
    ");
    let labels: Vec<_> = story.run.jobs.iter().map(|job| job.labels.join(",")).collect();
    assert_snapshot!(labels.join(" "), @"x x x y");
    story.start("of 1").end("of 1", Conclusion::Success, &[]);
    story.start("of 2").end("of 2", Conclusion::Failure, &[]);
    assert_eq!(again(&mut story, true), 2, "the leg and what needs it");
    story.settle();
    assert_eq!(again(&mut story, false), 3, "one stands for all legs again");
    let many: Vec<String> = (0..300).map(|n| format!("{{\"n\": {n}, \"on\": \"x\"}}")).collect();
    let wrong =
        [legs("[]").said(), legs("7").said(), legs(&format!("[{}]", many.join(","))).said()];
    assert_snapshot!(wrong.join("\n"), @"
    a queued
    b failure: job `b`: `matrix` has no vector and no `include`
    c skipped: it needs `b`, which ended as failure
    run failure
    a queued
    b failure: job `b`: `include` of the matrix must be a list, this is a number
    c skipped: it needs `b`, which ended as failure
    run failure
    a queued
    b failure: job `b`: the matrix has more than 256 legs
    c skipped: it needs `b`, which ended as failure
    run failure
    ");
}

#[test]
fn what_a_call_is_given_must_have_a_value_of_its_kind() {
    let called = "on: {workflow_call: {inputs: {sure: {type: boolean}, count: {type: number}}}}\njobs:\n  x: {runs-on: x, steps: [{run: a}]}\n";
    let ends = |with: &str, output: &str| {
        let jobs = format!(
            "  a: {{runs-on: x, steps: [{{run: a}}]}}\n  b: {{needs: a, uses: ./.github/workflows/called.yml, with: {{{with}}}}}\n"
        );
        let mut story = Story::calling(&jobs, &[("called", called)]);
        story.start("a").end("a", Conclusion::Success, &[("it", output)]);
        story.said().lines().nth(1).unwrap_or_default().to_owned()
    };
    let told = [
        ends("sure: '${{ fromJSON(needs.a.outputs.it) }}'", ""),
        ends("sure: '${{ needs.a.outputs.it }}'", "yes"),
        ends("sure: '${{ needs.a.outputs.it }}'", "True"),
        ends("count: '${{ needs.a.outputs.it }}'", "many"),
        ends("count: '${{ needs.a.outputs.it }}'", "1e3"),
    ];
    assert_snapshot!(told.join("\n"), @"
    b error: input `sure` has no value: fromJSON: EOF while parsing a value at line 1 column 0
    b error: input `sure` must be a boolean, this is `yes`
    b planned
    b error: input `count` must be a number, this is `many`
    b planned
    ");
}

#[test]
fn a_run_of_many_calls_has_as_many_jobs_as_people_see() {
    let called = "on: workflow_call\njobs:\n  x: {runs-on: x, steps: [{run: a}]}\n";
    let legs: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let jobs = format!(
        "  a: {{strategy: {{matrix: {{n: [{}]}}}}, uses: ./.github/workflows/called.yml}}\n",
        legs.join(", ")
    );
    let story = Story::calling(&jobs, &[("called", called)]);
    let queued = story.said.iter().filter(|line| line.ends_with("queued")).count();
    assert_eq!(queued, 200);
}

#[test]
fn a_call_that_went_on_despite_a_cancellation_can_be_cancelled_in_the_next_attempt() {
    let jobs = "  z: {if: always(), uses: ./.github/workflows/called.yml}\n";
    let mut story = Story::calling(jobs, &[("called", CALLED)]);
    story.run.cancel = Some(Reason::new("cancelled", "cancelled by ana"));
    story.run.jobs[0].despite_cancel = true;
    story.start("z / make").end("z / make", Conclusion::Failure, &[]);
    assert!(again(&mut story, true) > 0);
    story.settle();
    story.said();
    story.cancel();
    assert!(story.said().contains("z / make cancelled"), "it goes on");
}
