//! `muster serve` over plain git.

use insta::assert_snapshot;
use muster_testkit::Inbox;

use crate::database::{Database, on_both};
use crate::server::Server;

on_both! {
    a_certificate_from_files_is_served,
    a_changed_verdict_of_the_default_branch_is_told_once,
    a_push_gets_its_verdict_as_a_note_and_through_the_api,
    what_does_not_run_is_said_with_its_reason,
    a_silent_job_is_ended,
    a_run_is_cancelled_and_run_again,
    nobody_gets_in_without_the_token,
    public_reading_opens_reading_alone,
    of_a_concurrency_group_one_runs_and_the_newest_waits,
    a_run_whose_turn_never_came_runs_nothing,
    removing_a_repository_ends_its_jobs_and_leaves_the_others,
    hostile_commits_are_refused_and_hold_up_nobody,
    an_ordinary_clone_can_be_watched,
    under_root_steps_without_a_sandbox_are_a_user_of_their_own,
    where_no_sandbox_can_be_made_steps_are_a_user_of_their_own_too,
}

fn job(id: &str, steps: &str) -> String {
    format!("  {id}:\n    runs-on: ubuntu-latest\n    steps: [{steps}]\n")
}

fn a_push_gets_its_verdict_as_a_note_and_through_the_api(database: Database) {
    let server = Server::start(database, "");
    let jobs =
        [job("test", "{uses: actions/checkout@v4}, {run: cat word}"), job("lint", "{run: exit 3}")];
    server.scene.workflow(&format!("name: CI\non: push\njobs:\n{}", jobs.concat()));
    server.scene.file("word", "hello\n");
    let sha = server.push("main", "Say hello");
    assert_snapshot!(server.verdict(&sha), @"
    lint failure: Failed
    muster failure: failed: lint, 1 successful
    test success: Successful
    .github/workflows/ci.yml ran
    ");
    assert_snapshot!(server.muster(&["runs"]).out, @"1 failure Say hello (CI #1) team/app refs/heads/main");
    // Who the steps are depends on who runs the server.
    let log = server.muster(&["log", "1", "test"]).story();
    let depends = |line: &&str| line.starts_with("Isolation: ") || line.starts_with("Workspace: ");
    let log: Vec<_> = log.lines().filter(|line| !depends(line)).collect();
    assert_snapshot!(log.join("\n"), @"
    Runner: muster 0.1.0 on `vm`
    Checked out [sha] at refs/heads/main
    hello
    exit 0
    ");
    assert_eq!(server.muster(&["log", "--follow", "1"]).exit, Some(1));
    server.until("the note is written", |server| {
        let note = git_note(server, &sha);
        note.contains("lint: failure (Failed)") && note.contains(&format!("{}/runs/1", server.url))
    });
    server
        .scene
        .file(".github/workflows/ci.yml", &format!("name: CI\non: push\njobs:\n{}", jobs[0]));
    let fixed = server.push("main", "Fix it");
    assert_snapshot!(server.verdict(&fixed), @"
    muster success: 1 successful
    test success: Successful
    .github/workflows/ci.yml ran
    ");
}

fn git_note(server: &Server, sha: &str) -> String {
    let listed = crate::scene::git_in(&server.origin, &["notes", "--ref=muster", "list"]);
    if !listed.contains(sha) {
        return String::new();
    }
    crate::scene::git_in(&server.origin, &["notes", "--ref=muster", "show", sha])
}

fn what_does_not_run_is_said_with_its_reason(database: Database) {
    let server = Server::start(database, "");
    server.scene.file("readme", "nothing here");
    let nothing = server.push("empty", "No workflow at all");
    assert_snapshot!(server.verdict(&nothing), @"muster error: nothing to run: no .yml or .yaml in .muster/workflows or .github/workflows, and no executable script/cibuild");
    server.scene.workflow("on:\n  push: {branches: [main], paths: ['src/**']}\njobs:\n  a: {runs-on: linux, steps: []}\n");
    server.scene.file(
        ".github/workflows/bad.yml",
        "on: push\njobs:\n  b:\n    runs-on: linux\n    services: {}\n    steps: [{run: a, uses: b}]\n",
    );
    let mixed = server.push("side", "Two files");
    assert_snapshot!(server.verdict(&mixed), @"
    muster error: .github/workflows/bad.yml: line 6, column 22: a step with `run` has no key `uses`
    .github/workflows/bad.yml refused: line 6, column 22: a step with `run` has no key `uses`
    .github/workflows/ci.yml skipped: branch `side` is not selected by main
    ");
    server.scene.git(&["rm", "--quiet", ".github/workflows/bad.yml"]);
    let unwanted = server.push("side", "Only main is wanted");
    assert_snapshot!(server.verdict(&unwanted), @"
    muster success: no workflow wants this change
    .github/workflows/ci.yml skipped: branch `side` is not selected by main
    ");
    let skipped = {
        server.scene.file("src/a", "a");
        server.push("main", "Not now [skip ci]")
    };
    assert_snapshot!(server.verdict(&skipped), @"muster error: the commit message says [skip ci]");
    server.scene.file("src/a", "b");
    let wanted = server.push("main", "Now");
    assert_snapshot!(server.verdict(&wanted), @"
    a success: Successful
    muster success: 1 successful
    .github/workflows/ci.yml ran
    ");
    server.scene.file("docs", "b");
    let outside = server.push("main", "Nothing in src");
    assert_snapshot!(server.verdict(&outside), @"
    muster success: no workflow wants this change
    .github/workflows/ci.yml skipped: path `docs` is not selected by src/**
    ");
}

fn a_run_is_cancelled_and_run_again(database: Database) {
    let server = Server::start(database, "jobs = 2\n");
    let jobs = [
        job("fast", "{run: echo fast}"),
        job("slow", "{run: 'test -e GATE || sleep 60'}, {run: echo cleaned up, if: always()}"),
        "  after: {needs: slow, runs-on: linux, steps: [{run: echo after}]}\n".to_owned(),
    ];
    server.workflow(&format!("on: push\njobs:\n{}", jobs.concat()));
    let sha = server.push("main", "Wait");
    server.until("slow runs and fast is over", |server| {
        let why = server.muster(&["why", "1"]).out;
        why.contains("slow running") && why.contains("fast success")
    });
    assert_eq!(server.muster(&["rerun", "1"]).story(), "error: run 1 is not over yet\nexit 2");
    assert_eq!(server.muster(&["cancel", "1"]).exit, Some(0));
    assert_snapshot!(server.verdict(&sha), @"
    after error: Cancelled: cancelled by the administrator
    fast success: Successful
    muster error: 2 not run to the end, 1 successful
    slow error: Cancelled: cancelled by the administrator
    .github/workflows/ci.yml ran
    ");
    assert!(server.muster(&["log", "1", "slow"]).out.contains("cleaned up"));
    assert_eq!(server.muster(&["cancel", "1"]).exit, Some(2));
    server.open_gate();
    assert_snapshot!(server.muster(&["rerun", "--failed", "1"]).out, @"run 1: attempt 2 starts");
    assert_eq!(server.muster(&["log", "--follow", "1"]).exit, Some(0));
    assert_snapshot!(server.verdict(&sha), @"
    after success: Successful
    fast success: Successful
    muster success: 3 successful
    slow success: Successful
    .github/workflows/ci.yml ran
    ");
}

fn nobody_gets_in_without_the_token(database: Database) {
    let server = Server::start(database, "");
    let http = Http::new();
    let source = include_str!("../../src/http/mod.rs");
    let routes: Vec<&str> =
        source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(routes.len() >= 12, "{routes:?}");
    let mut open = Vec::new();
    for route in routes {
        let path = route
            .replace("{number}", "1")
            .replace("{sha}", &"0".repeat(40))
            .replace("{*name}", "team/app");
        for method in ["GET", "POST", "DELETE"] {
            let status = http.status(method, &format!("{}{path}", server.url), &[]);
            if !matches!(status, 401 | 403 | 303 | 405) {
                open.push(format!("{method} {path} {status}"));
            }
        }
    }
    assert_snapshot!(open.join("\n"), @"
    GET /login 200
    POST /login 415
    POST /webhooks/github 404
    POST /event_handler 404
    GET /.well-known/openid-configuration 200
    GET /.well-known/jwks 200
    GET /healthz 200
    GET /readyz 200
    ");
    // What is not understood is said in the same form as everything else.
    let bearer = format!("Bearer {}", server.token);
    let said = |method: &str, path: &str| {
        let url = format!("{}{path}", server.url);
        let body = http.body(method, &url, &[("authorization", &bearer)]);
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["message"].to_string()
    };
    assert_snapshot!(said("GET", "/api/v1/runs/first"), @r#""Invalid URL: Cannot parse `first` to a `i64`""#);
    assert_snapshot!(said("POST", "/api/v1/repositories"), @r#""Expected request with `Content-Type: application/json`""#);
    assert_snapshot!(said("PUT", "/api/v1/runs"), @r#""405 Method Not Allowed""#);
    let page = http.body("GET", &format!("{}/runs/99", server.url), &[("authorization", &bearer)]);
    assert!(
        page.contains("<h1>404 Not Found</h1>") && page.contains("there is no run 99"),
        "{page}"
    );
    let post = format!("{}/api/v1/runs/1/cancel", server.url);
    let cookie = format!("muster_token={}", server.token);
    assert_eq!(http.status("POST", &post, &[("authorization", &bearer)]), 404);
    assert_eq!(http.status("POST", &post, &[("cookie", &cookie)]), 403);
    assert_eq!(
        http.status("POST", &post, &[("cookie", &cookie), ("origin", "https://evil.example")]),
        403
    );
    assert_eq!(http.status("POST", &post, &[("cookie", &cookie), ("origin", &server.url)]), 404);
    assert_eq!(http.status("GET", &server.url, &[("cookie", "muster_token=guess")]), 303);
}

fn public_reading_opens_reading_alone(database: Database) {
    let server = Server::start(database, "public_read = true\n");
    let http = Http::new();
    assert_eq!(http.status("GET", &format!("{}/api/v1/runs", server.url), &[]), 200);
    assert_eq!(http.status("POST", &format!("{}/api/v1/repositories", server.url), &[]), 401);
}

/// A bare HTTP client.
struct Http {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Http {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = muster_testkit::http_client()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { runtime, client }
    }

    fn status(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> u16 {
        let request = self.request(method, url, headers);
        self.runtime.block_on(async { request.send().await.unwrap().status().as_u16() })
    }

    fn body(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> String {
        let request = self.request(method, url, headers);
        self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
    }

    fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), url);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }
}

/// A step that ends once the test has made the file `go` in the data folder.
const WAIT: &str = "{run: 'until test -e GATE; do sleep 0.01; done'}";

/// Pushes three commits, each once the one before is heard of; returns their names.
fn push_thrice(server: &Server) -> Vec<String> {
    let push = |message: &str| {
        let sha = server.push("main", message);
        server.until("it is there", |server| server.muster(&["why", &sha]).out.contains("slow"));
        server.scene.file("change", message);
        sha
    };
    ["first", "second", "third"].into_iter().map(push).collect()
}

fn of_a_concurrency_group_one_runs_and_the_newest_waits(database: Database) {
    let server = Server::start(database, "jobs = 4\n");
    let header = "on: push\nconcurrency: One-${{ github.event_name }}\njobs:\n";
    server.workflow(&format!("{header}{}", job("slow", WAIT)));
    let shas = push_thrice(&server);
    server.until("the second gave way", |server| {
        server.muster(&["why", "2"]).out.contains("cancelled")
    });
    assert_snapshot!(server.muster(&["why", &shas[2]]).out, @"
    muster pending: 1 open
    slow pending: Waiting for another run of its concurrency group
    .github/workflows/ci.yml ran
    ");
    server.open_gate();
    assert_snapshot!(server.verdict(&shas[2]), @"
    muster success: 1 successful
    slow success: Successful
    .github/workflows/ci.yml ran
    ");
    assert_snapshot!(server.muster(&["runs"]).out, @"
    3 success third (.github/workflows/ci.yml #3) team/app refs/heads/main
    2 cancelled second (.github/workflows/ci.yml #2) team/app refs/heads/main
    1 success first (.github/workflows/ci.yml #1) team/app refs/heads/main
    ");
    server.close_gate();
    let header = "on: push\nconcurrency: {group: one-push, cancel-in-progress: true}\njobs:\n";
    server.workflow(&format!("{header}{}", job("slow", WAIT)));
    let cancelled = server.push("main", "fourth");
    server.until("it runs", |server| server.muster(&["why", "4"]).out.contains("slow running"));
    server.scene.workflow(&format!("{header}{}", job("slow", "{run: echo quick}")));
    let newest = server.push("main", "fifth");
    assert_snapshot!(server.verdict(&newest), @"
    muster success: 1 successful
    slow success: Successful
    .github/workflows/ci.yml ran
    ");
    assert_snapshot!(server.verdict(&cancelled), @"
    muster error: not run to the end: slow
    slow error: Cancelled: superseded by run 5 of its concurrency group
    .github/workflows/ci.yml ran
    ");
}

fn a_run_whose_turn_never_came_runs_nothing(database: Database) {
    let server = Server::start(database, "jobs = 4\n");
    let header = "on: push\nconcurrency: one\njobs:\n";
    let always = "  after: {runs-on: linux, if: always(), steps: [{run: echo ran anyway}]}\n";
    server.workflow(&format!("{header}{}{always}", job("slow", WAIT)));
    let shas = push_thrice(&server);
    assert_snapshot!(server.verdict(&shas[1]), @"
    after error: Cancelled: superseded by run 3 of its concurrency group
    muster error: 2 not run to the end
    slow error: Cancelled: superseded by run 3 of its concurrency group
    .github/workflows/ci.yml ran
    ");
}

fn removing_a_repository_ends_its_jobs_and_leaves_the_others(database: Database) {
    let server = Server::start(database, "jobs = 1\n");
    let other = server.scene.path().join("other.git");
    crate::scene::git_in(
        server.scene.path(),
        &["init", "--quiet", "--bare", "--initial-branch=main", "other.git"],
    );
    server.scene.file(".gitignore", "other.git\n");
    let added = server.muster(&["repo", "add", "team/other", &other.to_string_lossy()]);
    assert_eq!(added.exit, Some(0), "{}", added.err);
    server
        .scene
        .workflow(&format!("on: push\njobs:\n{}", job("slow", "{run: echo started; sleep 60}")));
    server.push("main", "Slow");
    server.until("it runs", |server| server.muster(&["log", "1"]).out.contains("started"));
    assert_eq!(server.muster(&["repo", "remove", "team/app"]).exit, Some(0));
    server.scene.workflow(&format!("on: push\njobs:\n{}", job("quick", "{run: echo quick}")));
    let sha = server.scene.commit("Quick");
    server.scene.git(&["push", "--quiet", &other.to_string_lossy(), "HEAD:refs/heads/main"]);
    server.until("it is heard of", |server| server.muster(&["why", &sha]).exit == Some(0));
    assert_snapshot!(server.verdict(&sha), @"
    muster success: 1 successful
    quick success: Successful
    .github/workflows/ci.yml ran
    ");
    let jobs = server.data().join("jobs");
    server.until("nothing is left", |_| std::fs::read_dir(&jobs).unwrap().next().is_none());
}

fn hostile_commits_are_refused_and_hold_up_nobody(database: Database) {
    let server = Server::start(database, "");
    let filler = "#".repeat(60);
    for number in 0..2500 {
        let text = format!("{filler}\non: push\njobs: {{a: {{runs-on: linux, steps: []}}}}\n");
        server.scene.file(&format!(".github/workflows/w{number}.yml"), &text);
    }
    let many = server.push("many", "Many files");
    server.scene.git(&["rm", "--quiet", "-r", ".github"]);
    let jobs: String = (0..2500)
        .map(|number| format!("  j{number}: {{needs: [j{}], runs-on: x, steps: []}}\n", number + 1))
        .collect();
    server.scene.workflow(&format!("on: push\njobs:\n{jobs}"));
    let chain = server.push("chain", "A long chain");
    let forged = r#"on: push
name: "CI\nall: success"
run-name: "\e[31mred\0"
jobs:
  a:
    name: "x\nforged: success (fine)"
    runs-on: linux
    steps: [{run: exit 1}]
"#;
    server.scene.workflow(forged);
    let forged = server.push("forged", "Forged lines");
    assert_snapshot!(server.verdict(&forged), @"
    muster failure: failed: x�forged: success (fine)
    x�forged: success (fine) failure: Failed
    .github/workflows/ci.yml ran
    ");
    assert_snapshot!(server.verdict(&many), @"muster error: it has more than 500 workflow files");
    assert_snapshot!(server.verdict(&chain), @"
    muster error: .github/workflows/ci.yml: line 3, column 3: `jobs` has 2500 jobs, more than 2000
    .github/workflows/ci.yml refused: line 3, column 3: `jobs` has 2500 jobs, more than 2000
    ");
    assert_snapshot!(server.muster(&["runs"]).out, @"1 failure �[31mred� (CI�all: success #1) team/app refs/heads/forged");
}

fn an_ordinary_clone_can_be_watched(database: Database) {
    let server = Server::start(database, "");
    server.scene.workflow(&format!("on: push\njobs:\n{}", job("test", "{run: echo fine}")));
    server.push("main", "First");
    let clone = server.scene.path().join("clone");
    let origin = server.origin.to_string_lossy().into_owned();
    crate::scene::git_in(server.scene.path(), &["clone", "--quiet", &origin, "clone"]);
    let added = server.muster(&["repo", "add", "my/clone", &clone.to_string_lossy()]);
    assert_eq!(added.exit, Some(0), "{}", added.err);
    assert!(!server.muster(&["repo", "list"]).out.contains("problem"));
}

fn a_changed_verdict_of_the_default_branch_is_told_once(database: Database) {
    let inbox = Inbox::start(1);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "shared\n").unwrap();
    let config = format!(
        "[notices]\nwebhook = \"{}\"\nwebhook_secret_file = \"{}\"\nmail_to = [\"team@example.org\"]\nmail_from = \"muster@example.org\"\nsmtp = \"{}\"\n",
        inbox.url(),
        secret.path().display(),
        inbox.smtp()
    );
    let server = Server::start(database, &config);
    server.scene.workflow("on: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{uses: actions/checkout@v4}, {run: ./test}]\n");
    let push = |branch: &str, exit: i32| {
        server.scene.script("test", &format!("#!/bin/sh\n# {branch}\nexit {exit}\n"));
        let sha = server.push(branch, "Next");
        server.verdict(&sha);
        sha
    };
    // Neither a green beginning nor another branch is news.
    push("main", 0);
    push("topic", 1);
    let red = push("main", 1);
    server.until("both channels have it", |_| inbox.hooks().len() == 1 && inbox.mails().len() == 1);
    server.scene.file("more", "still red\n");
    let still = server.push("main", "Still red");
    server.verdict(&still);
    let green = push("main", 0);
    server.until("both have the good news", |_| inbox.hooks().len() > 1 && inbox.mails().len() > 1);
    let hooks = inbox.hooks();
    for hook in &hooks {
        let signature = muster_testkit::sign("shared", hook.body.as_bytes());
        assert_eq!(hook.headers["x-muster-signature-256"], signature);
        assert_eq!(hook.headers["x-muster-event"], "verdict");
    }
    let told = |number: usize, sha: &str| {
        let body: serde_json::Value = serde_json::from_str(&hooks[number].body).unwrap();
        assert_eq!(body["sha"], *sha);
        assert!(body["url"].as_str().unwrap().ends_with(&format!("/commits/{sha}")));
        format!(
            "{} {} {}: {} -> {} ({})",
            body["event"],
            body["repository"],
            body["branch"],
            body["was"],
            body["verdict"],
            body["description"]
        )
    };
    assert_snapshot!(told(0, &red), @r#""verdict" "team/app" "main": "success" -> "failure" ("failed: test")"#);
    assert_snapshot!(told(1, &green), @r#""verdict" "team/app" "main": "failure" -> "success" ("1 successful")"#);
    assert_eq!((hooks.len(), inbox.mails().len()), (2, 2));
    let mail = inbox.mails()[0].replace(&red, "[sha]").replace(&red[..7], "[short]");
    let kept =
        mail.lines().filter(|line| !line.starts_with("Date:") && !line.starts_with("Message-ID:"));
    let mail: String = kept.map(|line| line.replace(&server.url, "[url]") + "\n").collect();
    assert_snapshot!(mail, @"
    From: muster@example.org
    Subject: team/app main: failure at [short]
    To: team@example.org
    Content-Transfer-Encoding: 7bit

    team/app main: failure (was: success)

    failed: test
    [url]/commits/[sha]
    ");
}

fn a_certificate_from_files_is_served(database: Database) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = |name: &str| {
        let file = |ending: &str| folder.path().join(ending).to_string_lossy().into_owned();
        let made = muster_sys::process::Program::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"])
            .args([&format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &file("key.pem"), "-out", &file("cert.pem")])
            .output(std::time::Duration::from_secs(60), 1 << 20)
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::read(folder.path().join("cert.pem")).unwrap()
    };
    let pem = certificate("first");
    let config = format!(
        "[tls]\ncertificate = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n",
        folder.path().display()
    );
    let server = Server::start_without_repository(database, &config);
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let health = |pem: &[u8]| {
        let certificate = reqwest::Certificate::from_pem(pem).unwrap();
        let client = muster_testkit::http_client().tls_certs_only([certificate]).build().unwrap();
        let url = format!("{}/healthz", server.url);
        runtime
            .block_on(async { client.get(url).send().await.map(|answer| answer.status().as_u16()) })
    };
    assert_eq!(health(&pem).unwrap(), 200);
    // A renewed certificate is the one that is shown from then on.
    let renewed = certificate("renewed");
    assert_eq!(health(&renewed).unwrap(), 200);
    assert!(health(&pem).is_err());
    let pem = renewed;
    // Half of a renewal leaves what there was.
    std::fs::write(folder.path().join("cert.pem"), "half").unwrap();
    assert_eq!(health(&pem).unwrap(), 200);
    // Plain HTTP gets no answer, and holds up nobody.
    let plain = std::net::TcpStream::connect(server.url.trim_start_matches("https://")).unwrap();
    assert_eq!(health(&pem).unwrap(), 200);
    drop(plain);
}

fn a_silent_job_is_ended(database: Database) {
    let server = Server::start(database, "idle_timeout_s = 1\n");
    server.scene.workflow("on: push\njobs:\n  silent:\n    runs-on: linux\n    steps: [{run: echo a word; sleep 600}]\n");
    let sha = server.push("main", "Silent");
    assert_snapshot!(server.verdict(&sha), @"
    muster failure: failed: silent
    silent failure: Timed out: the job wrote nothing for [time]
    .github/workflows/ci.yml ran
    ");
}

/// A server that is root gives its jobs another user, who cannot touch what is the server's.
fn under_root_steps_without_a_sandbox_are_a_user_of_their_own(database: Database) {
    if !rustix::process::geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: only root can choose another user");
        }
        return;
    }
    let server = Server::start(database, "");
    let steps = r#"{uses: actions/checkout@v4}, {run: 'cat word; test "$(id -u)" -gt 1000 && id -un; echo "$HOME $PWD $RUNNER_TEMP"'}, {run: 'kill -9 $PPID 2> /dev/null || echo the supervisor stays; cat DATA/muster.db FOLDER/muster.toml 2> /dev/null || echo the data is closed; ls -A FOLDER; touch /etc/x 2> /dev/null || echo so is the system; touch ~/x made && echo its own is not'}, {run: '(setsid sleep 98764 &) ; grep NoNewPrivs /proc/self/status; ulimit -u'}"#;
    let data = server.data();
    let steps = steps.replace("DATA", &data.to_string_lossy());
    let steps = steps.replace("FOLDER", &data.parent().unwrap().to_string_lossy());
    server.scene.file("word", "hello\n");
    server.scene.workflow(&format!("on: push\njobs:\n{}", job("test", &steps)));
    let sha = server.push("main", "As another");
    let verdict = server.verdict(&sha);
    let log = server.muster(&["log", "1"]).out;
    if log.contains("No user of their own") {
        // A chroot allows nobody a view of the mounts of its own.
        assert!(log.contains("as in a chroot"), "{log}");
        return;
    }
    assert!(verdict.contains("test success: Successful"), "{verdict}{log}");
    let (_, said) = log.split_once(" on `").unwrap();
    let (_, said) = said.split_once('\n').unwrap();
    let (isolation, said) = said.split_once('\n').unwrap();
    assert!(isolation.contains("as a user of their own, with this machine's files and network; "));
    assert_snapshot!(said.replace(&sha, "[sha]").trim_end(), @"
    Workspace: /run/muster/work/app/app
    Checked out [sha] at refs/heads/main
    hello
    runner
    /run/muster/home /run/muster/work/app/app /run/muster/work/_temp
    the supervisor stays
    the data is closed
    so is the system
    its own is not
    NoNewPrivs:	1
    4096
    ");
    let left = crate::server::processes();
    assert!(!left.iter().any(|(_, line)| line.contains("sleep 98764")));
}

/// A sandbox that fails leaves nothing in the way of the other user, who enters no folder that is closed to it.
fn where_no_sandbox_can_be_made_steps_are_a_user_of_their_own_too(database: Database) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Server::start(database, "isolation = \"auto\"\n");
    server.program("bwrap", "#!/bin/sh\necho not here >&2\nexit 1\n");
    // Open by itself, in a folder that is not.
    let closed = tempfile::tempdir().unwrap();
    std::fs::create_dir(closed.path().join("inner")).unwrap();
    std::fs::write(closed.path().join("inner/secret"), "").unwrap();
    let nobody_else = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(closed.path(), nobody_else).unwrap();
    let steps = format!(
        "{{run: 'id -un'}}, {{run: ls, working-directory: \"{}\", continue-on-error: true}}",
        closed.path().join("inner").display()
    );
    server.scene.workflow(&format!("on: push\njobs:\n{}", job("test", &steps)));
    let sha = server.push("main", "No sandbox");
    let verdict = server.verdict(&sha);
    let log = server.muster(&["log", "1"]).out;
    if log.contains("No user of their own") {
        assert!(log.contains("as in a chroot"), "{log}");
        return;
    }
    assert!(log.contains("No sandbox: bubblewrap could not make the sandbox: not here."), "{log}");
    assert!(verdict.contains("test success"), "{verdict}{log}");
    assert!(log.contains("\nrunner\n"), "{log}");
    let refused = log.split("runner\n").nth(1).unwrap();
    assert!(refused.contains("Permission denied") && !refused.contains("secret"), "{log}");
}
