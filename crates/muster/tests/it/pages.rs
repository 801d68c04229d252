//! The pages, in a real browser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;

use crate::database::{Database, on_both};
use crate::server::Server;

on_both! { the_pages_are_read_in_a_browser }

const LIMIT: Duration = Duration::from_secs(120);

/// Finds the browser and the modules that drive it; where `CI` is set they must be there.
fn browser() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let browser = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/npm/node_modules");
    let found = browser.filter(|_| modules.join("playwright-core").is_dir());
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "there is no Chromium, or `cargo xtask test` has not installed playwright-core"
    );
    if found.is_none() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: no Chromium, or no playwright-core in target/npm");
        }
    }
    found.map(|browser| (browser, modules))
}

fn the_pages_are_read_in_a_browser(database: Database) {
    let Some((browser, modules)) = browser() else { return };
    let server = Server::start(database, "");
    server.workflow(
        "on: push\njobs:\n  slow:\n    runs-on: linux\n    steps:\n      - run: |\n          echo before the wait\n          \
         until test -e GATE; do sleep 0.01; done\n          echo '<b>bold</b> & \"quoted\"'\n          echo after the wait\n",
    );
    let sha = server.push("main", "<img src=x onerror=document.title='owned'> & more");
    server.until("it runs", |server| server.muster(&["runs"]).out.contains("running"));
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/pages");
    std::fs::create_dir_all(&pictures).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let toured = Program::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pages.mjs"))
        .arg(&server.url)
        .arg(modules)
        .arg(browser)
        .arg(server.gate())
        .arg(pictures)
        .env("HOME", profile.path())
        .env("MUSTER_TOKEN", &server.token)
        .output(LIMIT, 1 << 20)
        .unwrap();
    let said = String::from_utf8_lossy(&toured.stdout).replace(&sha[..7], "[sha]");
    let errors = String::from_utf8_lossy(&toured.stderr);
    assert!(toured.status.success(), "{said}\n{errors}");
    assert_snapshot!(said, @r#"
    without the token: /login
    a wrong token: That is not the admin token.
    runs: "Runs · muster", accessible
    run: "<img src=x onerror=document.title='owned'> & more · muster", accessible
    while it runs: Following the log …
    job-running: "slow · <img src=x onerror=document.title='owned'> & more · muster", accessible
    grew without loading the page again: true
    job: "slow · <img src=x onerror=document.title='owned'> & more · muster", accessible
    success slow
    the log: <b>bold</b> & "quoted"
    webhooks: "Webhooks · muster", accessible
    outbox: "Outbox · muster", accessible
    commit: "[sha] · muster", accessible
    without JavaScript: before the wait, after the wait
    the browser has no complaints
    "#);
}
