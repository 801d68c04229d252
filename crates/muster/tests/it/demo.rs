//! `muster demo`.

use std::net::TcpListener;

use insta::assert_snapshot;

use crate::scene::{Done, muster_in};

/// Masks commits and ports.
fn story(done: &Done) -> String {
    let words = |line: &str| -> String {
        let words = line.split(' ').map(|word| {
            let hex = word.len() == 7 && word.bytes().all(|b| b.is_ascii_hexdigit());
            match word.strip_prefix("http://127.0.0.1:") {
                Some(rest) => format!(
                    "http://[here]{}",
                    rest.trim_start_matches(|c: char| c.is_ascii_digit())
                ),
                None if hex => "[sha]".to_owned(),
                None => word.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    // Jobs end in any order.
    let mut lines: Vec<String> = done.out.lines().map(words).collect();
    for group in lines.split_mut(|line| !line.starts_with("  ")) {
        group.sort();
    }
    format!("{}\n{}exit {:?}", lines.join("\n"), done.err, done.exit)
}

#[test]
fn it_shows_a_red_and_a_green_verdict_and_uses_its_folder_again() {
    let folder = tempfile::tempdir().unwrap();
    let demo = ["demo", "--once", "--port", "0"];
    assert_snapshot!(story(&muster_in(folder.path(), &demo)), @"
    muster demo at http://[here]/ (project in muster-demo)

    pushed [sha] to `evening-1`: its tests fail
      failure  muster       http://[here]/runs/1  2 failed, 1 successful
      failure  test (Ana)   http://[here]/runs/1  Failed
      failure  test (Bo)    http://[here]/runs/1  Failed
      success  lint         http://[here]/runs/1  Successful
    red, as it should be

    pushed [sha] to `evening-1`: the fix
      success  lint         http://[here]/runs/2  Successful
      success  muster       http://[here]/runs/2  3 successful
      success  test (Ana)   http://[here]/runs/2  Successful
      success  test (Bo)    http://[here]/runs/2  Successful
    green
    exit Some(0)
    ");
    let again = muster_in(folder.path(), &demo);
    assert!(again.out.contains("`evening-2`: the fix"), "{}", again.out);
    assert_eq!(again.exit, Some(0), "{}", again.err);
}

#[test]
fn a_folder_of_somebody_else_and_a_taken_port_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    let done = muster_in(folder.path(), &["demo", "--once", "--port", "0", "--dir", "."]);
    assert_snapshot!(story(&done), @"

    error: . was not made by muster demo; choose another with --dir
    exit Some(2)
    ");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = muster_in(folder.path(), &["demo", "--once", "--port", &port]);
    assert!(done.err.contains("choose another with --port"), "{}", done.err);
    assert_eq!(done.exit, Some(2));
}
