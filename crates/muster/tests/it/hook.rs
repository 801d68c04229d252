//! The hook that `muster init --hook` installs.

use std::path::Path;
use std::time::Duration;

use muster_sys::process::Program;

use crate::scene::{Scene, git_in, muster_in};

const LIMIT: Duration = Duration::from_secs(30);

fn install(scene: &Scene) {
    let done = muster_in(scene.path(), &["init", "--hook", "."]);
    assert_eq!(done.exit, Some(0), "{}", done.err);
}

fn nudged(scene: &Scene) -> bool {
    std::fs::remove_file(scene.path().join("muster-data/nudge/hook")).is_ok()
}

fn log(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn it_tells_of_commits_and_not_of_notes() {
    let scene = Scene::new();
    install(&scene);
    scene.file("a", "a");
    scene.commit("first");
    assert!(nudged(&scene));
    scene.git(&["notes", "--ref=refs/notes/muster", "add", "-m", "green", "HEAD"]);
    assert!(!nudged(&scene));
    scene.git(&["branch", "side"]);
    assert!(nudged(&scene));
}

#[test]
fn a_hook_that_was_there_hears_everything_and_has_the_last_word() {
    let scene = Scene::new();
    let heard = scene.path().join("heard");
    scene.script(
        ".git/hooks/reference-transaction",
        &format!(
            "#!/bin/sh\necho \"phase $1\" >>{0}\ncat >>{0}\ntest ! -e refuse\n",
            heard.display()
        ),
    );
    install(&scene);
    install(&scene);
    scene.file("a", "a");
    let sha = scene.commit("first");
    assert!(nudged(&scene));
    let before = log(&heard);
    for phase in ["phase prepared\n", "phase committed\n", &sha] {
        assert!(before.contains(phase), "{before}");
    }
    scene.file("refuse", "");
    let refused = Program::new("git")
        .args(["branch", "refused"])
        .dir(scene.path())
        .output(LIMIT, 1024)
        .unwrap();
    assert!(!refused.status.success());
    assert!(log(&heard).len() > before.len());
}

#[test]
fn it_goes_where_the_repository_keeps_its_hooks() {
    let scene = Scene::new();
    git_in(scene.path(), &["config", "core.hooksPath", "my-hooks"]);
    install(&scene);
    assert!(scene.path().join("my-hooks/reference-transaction").is_file());
    let done = muster_in(scene.path(), &["init", "--hook", "/"]);
    assert!(done.err.contains("is no git repository"), "{}", done.err);
}
