//! Text that strangers write (names of branches, titles, messages) is only text, wherever muster shows it.

use insta::assert_snapshot;
use muster_testkit::Inbox;

use crate::database::{Database, on_both};
use crate::ground::Ground;
use crate::server::Server;

on_both! {
    what_strangers_write_is_only_text_in_every_output,
    what_strangers_write_is_only_text_in_a_mail,
}

/// What a shell, a terminal, a browser and git could take for something else.
const HOSTILE: &str = "$(touch HACKED) `touch HACKED` '\" <script>alert(1)</script> \u{1b}[31m\u{202e}--upload-pack=x &amp; \u{7}";
/// The same, as far as git allows it in the name of a branch.
const BRANCH: &str =
    "--upload-pack=touch${IFS}HACKED;$(touch${IFS}HACKED)'\"<script>alert(1)</script>";

/// A workflow with `text` in each of its names.
fn workflow(text: &str) -> String {
    let name = serde_json::to_string(text).unwrap();
    format!(
        "name: {name}\nrun-name: ${{{{ github.event.head_commit.message }}}}\non: push\njobs:\n  test:\n    \
         name: {name}\n    runs-on: linux\n    steps:\n      - name: {name}\n        run: echo done\n"
    )
}

fn what_strangers_write_is_only_text_in_every_output(database: Database) {
    let ground = Ground::new(database);
    let (github, server) = (&ground.github, &ground.server);
    server.scene.workflow(&workflow(HOSTILE));
    let sha = server.scene.commit(HOSTILE);
    let (to, refspec) = (github.repository(), format!("HEAD:refs/heads/{BRANCH}"));
    server.scene.git(&["push", "--quiet", &to.to_string_lossy(), &refspec]);
    assert_eq!(github.deliver(&server.url, "push", &github.push(BRANCH, None, &sha, HOSTILE)), 202);
    server.until_patiently("it is over", |_| {
        github.shown(&sha).lines().filter(|line| line.contains(" success: ")).count() == 2
    });
    // What GitHub was told fits its own description of itself, and a context is one line.
    assert_eq!(github.faults(), Vec::<String>::new());
    assert_eq!(github.shown(&sha).lines().count(), 2, "{}", github.shown(&sha));
    let commands: [&[&str]; 6] =
        [&["runs"], &["why", "1"], &["why", &sha], &["deliveries"], &["outbox"], &["log", "1"]];
    for command in commands {
        let done = server.muster(command);
        assert_eq!(done.exit, Some(0), "{command:?}: {}", done.err);
        let told = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!done.out.contains(told), "{command:?}: {:?}", done.out);
    }
    assert_eq!(server.muster(&["runs"]).out.lines().count(), 1);
    let pages = ["/", "/runs/1", "/jobs/1", "/deliveries", "/outbox"].map(str::to_owned);
    let mut seen = 0;
    for page in pages.into_iter().chain([format!("/commits/{sha}")]) {
        let html = server.get(&page);
        assert!(html.contains("</html>"), "{page}: {html}");
        assert!(!html.contains("<script>alert"), "{page}: {html}");
        seen += html.matches("&#60;script&#62;alert").count();
    }
    assert!(seen >= 6, "the text is on the pages, {seen} times");
    for list in ["runs", "deliveries", "outbox", "runs/1"] {
        let text = server.get(&format!("/api/v1/{list}"));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{list}: {text}");
    }
    for folder in [server.scene.path(), &server.data(), &server.origin, &github.repository()] {
        assert!(!folder.join("HACKED").exists(), "in {}", folder.display());
    }
}

fn what_strangers_write_is_only_text_in_a_mail(database: Database) {
    let inbox = Inbox::start(0);
    let config = format!(
        "[notices]\nmail_to = [\"team@example.org\"]\nmail_from = \"muster@example.org\"\nsmtp = \"{}\"\n",
        inbox.smtp()
    );
    let server = Server::start(database, &config);
    // As a line of its own it would be a header.
    let name =
        serde_json::to_string(&format!("{HOSTILE}\r\nBcc: all@example.org\r\n\r\n.\r\n")).unwrap();
    for exit in [0, 1] {
        server.scene.workflow(&format!(
            "name: {name}\non: push\njobs:\n  test:\n    name: {name}\n    runs-on: linux\n    steps: [{{run: exit {exit}}}]\n"
        ));
        let sha = server.push("main", HOSTILE);
        server.verdict(&sha);
    }
    server.until("the bad news is told", |_| inbox.mails().len() == 1);
    let mail = inbox.mails().remove(0);
    let (headers, body) = mail.split_once("\n\n").unwrap();
    let mut names: Vec<_> = headers.lines().map(|line| line.split(':').next().unwrap()).collect();
    names.sort_unstable();
    assert_snapshot!(names.join(" "), @"Content-Transfer-Encoding Date From Message-ID Subject To");
    let body = body.replace("=\n", "").replace(&server.url, "[url]");
    let lines: Vec<_> = body.lines().filter(|line| !line.starts_with("[url]/commits/")).collect();
    assert_snapshot!(lines.join("\n"), @r#"
    team/app main: failure (was: success)

    failed: $(touch HACKED) `touch HACKED` '" <script>alert(1)</script> =EF=BF=BD[31m=EF=BF=BD--upload-pack=3Dx &amp; =EF=BF=BD=EF=BF=BD=EF=BF=BDBcc: a...
    "#);
}
