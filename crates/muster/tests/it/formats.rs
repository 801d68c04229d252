//! What `docs/formats.md` shows is what the API answers.

use std::path::Path;

use serde_json::Value;

use crate::database::{Database, on_both};
use crate::server::Server;

on_both! { the_page_of_formats_shows_what_is_answered }

/// A commit and a time that stand for all others.
const SHA: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";
const TIME: i64 = 1_767_323_045_000;

/// Puts fixed values in the place of what differs from run to run.
fn steady(value: &mut Value, server: &Server) {
    match value {
        Value::Number(number) if number.as_i64().is_some_and(|n| n > 1_000_000_000_000) => {
            *value = TIME.into();
        }
        Value::String(text) => {
            let words = text.split(' ').map(|word| {
                let is_sha = word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
                if is_sha { SHA.to_owned() } else { word.to_owned() }
            });
            let words = words.collect::<Vec<_>>().join(" ");
            let origin = server.origin.to_string_lossy().into_owned();
            *text = words
                .replace(&server.url, "http://127.0.0.1:4567")
                .replace(&origin, "/srv/app.git");
        }
        Value::Array(items) => items.iter_mut().for_each(|item| steady(item, server)),
        Value::Object(object) => {
            object.values_mut().for_each(|value| steady(value, server));
            if let Some(Value::Object(usage)) = object.get_mut("usage") {
                usage.values_mut().for_each(|number| {
                    assert!(number.is_u64());
                    *number = 4096.into();
                });
            }
        }
        _ => {}
    }
}

fn the_page_of_formats_shows_what_is_answered(database: Database) {
    let server = Server::start(database, "");
    server.scene.workflow("name: CI\non: push\njobs:\n  test:\n    runs-on: linux\n    steps: [{name: Say it, run: echo said}]\n");
    let sha = server.push("main", "Say it");
    server.verdict(&sha);
    server.until("all is told", |server| server.muster(&["outbox"]).out.is_empty());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let page = std::fs::read_to_string(page).unwrap();
    let paths = [
        "repositories",
        "runs",
        "runs/1",
        &format!("commits/{sha}"),
        "deliveries",
        "outbox",
        "audit",
    ];
    for path in paths {
        let answer = server.get(&format!("/api/v1/{path}"));
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        steady(&mut answer, &server);
        let shown = serde_json::to_string_pretty(&answer).unwrap();
        let title = path.replace(&sha, "SHA").replace("/1", "/NUMBER");
        let block = format!("## `GET /api/v1/{title}`\n\n```json\n{shown}\n```\n");
        assert!(page.contains(&block), "docs/formats.md should have:\n\n{block}");
    }
}
