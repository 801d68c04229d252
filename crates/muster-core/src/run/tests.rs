use insta::assert_snapshot;
use muster_workflow::expr::Contexts;
use muster_workflow::workflow::Workflow;
use muster_workflow::{plan, read};

use super::*;

/// A run of a workflow whose jobs end as they are told.
struct Story {
    workflow: Workflow,
    run: Run,
    said: Vec<String>,
}

impl Story {
    fn new(jobs: &str) -> Self {
        let workflow = read(&format!("on: push\njobs:\n{jobs}")).unwrap();
        let run = Run::new(&plan(&workflow, &Contexts::new()).unwrap());
        let mut story = Self { workflow, run, said: Vec::new() };
        story.settle();
        story
    }

    fn settle(&mut self) {
        for effect in self.run.step(&self.workflow, &Contexts::new()) {
            let line = match effect {
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
    assert_eq!(story.run.again(true), 2);
    story.settle();
    assert_snapshot!(story.said(), @"test (2) queued");
    assert_eq!(story.run.jobs[0].outputs.len(), 1);
    story.start("test (2)").end("test (2)", Conclusion::Success, &[]);
    story.start("deploy").end("deploy", Conclusion::Success, &[]);
    assert_snapshot!(story.said(), @r"
    deploy queued
    run success
    ");
    assert_eq!(story.run.again(true), 0);
    assert_eq!(story.run.again(false), 4);
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
