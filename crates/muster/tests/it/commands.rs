//! What steps tell the runner by lines of output: commands, masks, annotations.

use insta::assert_snapshot;
use serde_json::Value;

use crate::database::{Database, on_both};
use crate::scene::Scene;
use crate::server::Server;

on_both! {
    what_steps_tell_is_kept_and_shown,
}

/// Writes a workflow of one job.
fn job(scene: &Scene, steps: &str) {
    let steps = steps.trim().replace('\n', "\n      ");
    scene.workflow(&format!(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      {steps}\n"
    ));
    scene.commit("first");
}

#[test]
fn lines_are_commands() {
    let scene = Scene::new();
    scene.file("src/lib.c", "int x;\n");
    job(
        &scene,
        r###"
- uses: actions/checkout@v4
- id: say
  run: |
    echo "::group::Build it"
    echo "  ::warning file=src/lib.c,line=3,endLine=3,col=2,title=Old::is old%0Aand slow"
    echo "::endgroup::"
    echo "::notice::well%21 done"
    echo "::error file=$GITHUB_WORKSPACE/src/lib.c,line=9,endLine=4::turned around"
    echo "##[error]of old"
    echo "::debug::nobody sees this"
    echo "::set-output name=first::one"
    echo "second=two" >> "$GITHUB_OUTPUT"
    echo "::add-mask::hush hush"
    echo "hush hush, and aHVzaCBodXNo"
    echo "::stop-commands::wait-for-it"
    echo "::error::not one"
    echo "::wait-for-it::"
    echo "::echo::on"
    echo "::set-output name=third::three"
    echo "::unknown::a line"
    printf "::notice::without an end"
- run: echo "${{ steps.say.outputs.first }} ${{ steps.say.outputs.second }} ${{ steps.say.outputs.third }} hush hush"
"###,
    );
    assert_snapshot!(scene.told(&[], &[]), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run echo "::group::Build it"
    │ ▾ Build it
    │ Warning: is old
    │ and slow
    │ Notice: well%21 done
    │ Error: turned around
    │ Error: of old
    │ ***, and ***
    │ ::stop-commands::***
    │ ::error::not one
    │ ::***::
    │ ::set-output name=third::three
    │ ::unknown::a line
    │ Notice: without an end
    ✓ Run echo "::group::Build it" [time]
    ▸ Run echo "one two three ***"
    │ one two three ***
    ✓ Run echo "one two three ***" [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      warning  test: src/lib.c:3:2: Old: is old and slow
      notice  test: well%21 done
      error  test: src/lib.c: turned around
      error  test: of old
      notice  test: without an end
    exit 0
    "#);
}

#[test]
fn commands_that_cannot_be_followed_fail_their_step() {
    let scene = Scene::new();
    job(
        &scene,
        r#"
- run: 'echo "::set-env name=A::1"'
  continue-on-error: true
- run: 'echo "::add-path::/opt/x"'
  continue-on-error: true
- run: 'echo "::set-output::x"'
  continue-on-error: true
- run: 'echo "::add-mask::"; echo "::echo::perhaps"'
  continue-on-error: true
- run: 'echo "::stop-commands::error"; echo "::stop-commands::"'
  continue-on-error: true
- run: 'echo "::add-matcher::absent.json"'
  continue-on-error: true
- run: 'echo "NODE_OPTIONS=--require=/x" >> "$GITHUB_ENV"; echo "B=2" >> "$GITHUB_ENV"'
- run: echo "[$A] [$B] [$NODE_OPTIONS]"
- run: |
    echo "::set-env name=A::1"
    echo "::add-path::/opt/x"
    echo "::set-env name=node_options::x"
  env: {ACTIONS_ALLOW_UNSECURE_COMMANDS: true}
- run: echo "[$A] ${PATH%%:*}"
"#,
    );
    assert_snapshot!(scene.told(&[], &[]), @r#"
    .github/workflows/ci.yml
    ▸ Run echo "::set-env name=A::1"
    │ Error: the command `::set-env name=A::1` cannot be followed: any text that is printed could do that; write to the file that GITHUB_ENV or GITHUB_PATH names, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true
    ✓ Run echo "::set-env name=A::1" (failed, may fail) [time]
    ▸ Run echo "::add-path::/opt/x"
    │ Error: the command `::add-path::/opt/x` cannot be followed: any text that is printed could do that; write to the file that GITHUB_ENV or GITHUB_PATH names, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true
    ✓ Run echo "::add-path::/opt/x" (failed, may fail) [time]
    ▸ Run echo "::set-output::x"
    │ Error: the command `::set-output::x` cannot be followed: it needs `name=…`
    ✓ Run echo "::set-output::x" (failed, may fail) [time]
    ▸ Run echo "::add-mask::"; echo "::echo::perhaps"
    │ Warning: `::add-mask::` has nothing to mask
    │ Error: the command `::echo::perhaps` cannot be followed: write `on` or `off`
    ✓ Run echo "::add-mask::"; echo "::echo::perhaps" (failed, may fail) [time]
    ▸ Run echo "::stop-commands::error"; echo "::stop-commands::"
    │ Error: the command `::stop-commands::error` cannot be followed: it needs a word of its own, that is no command
    │ Error: the command `::stop-commands::` cannot be followed: it needs a word of its own, that is no command
    ✓ Run echo "::stop-commands::error"; echo "::stop-commands::" (failed, may fail) [time]
    ▸ Run echo "::add-matcher::absent.json"
    │ Error: the command `::add-matcher::absent.json` cannot be followed: absent.json does not exist
    ✓ Run echo "::add-matcher::absent.json" (failed, may fail) [time]
    ▸ Run echo "NODE_OPTIONS=--require=/x" >> "$GITHUB_ENV"; echo "B=2" >> "$GITHUB_ENV"
    │ Error: GITHUB_ENV: `NODE_OPTIONS` cannot be set from a step
    ✓ Run echo "NODE_OPTIONS=--require=/x" >> "$GITHUB_ENV"; echo "B=2" >> "$GITHUB_ENV" [time]
    ▸ Run echo "[$A] [$B] [$NODE_OPTIONS]"
    │ [] [2] []
    ✓ Run echo "[$A] [$B] [$NODE_OPTIONS]" [time]
    ▸ Run echo "::set-env name=A::1"
    │ Error: `node_options` cannot be set from a step
    ✓ Run echo "::set-env name=A::1" [time]
    ▸ Run echo "[$A] ${PATH%%:*}"
    │ [1] /opt/x
    ✓ Run echo "[$A] ${PATH%%:*}" [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      error  test: the command `::set-env name=A::1` cannot be followed: any text that is printed could do that; write to the file that GITHUB_ENV or GITHUB_PATH names, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true
      error  test: the command `::add-path::/opt/x` cannot be followed: any text that is printed could do that; write to the file that GITHUB_ENV or GITHUB_PATH names, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true
      error  test: the command `::set-output::x` cannot be followed: it needs `name=…`
      warning  test: `::add-mask::` has nothing to mask
      error  test: the command `::echo::perhaps` cannot be followed: write `on` or `off`
      error  test: the command `::stop-commands::error` cannot be followed: it needs a word of its own, that is no command
      error  test: the command `::stop-commands::` cannot be followed: it needs a word of its own, that is no command
      error  test: the command `::add-matcher::absent.json` cannot be followed: absent.json does not exist
      error  test: GITHUB_ENV: `NODE_OPTIONS` cannot be set from a step
      error  test: `node_options` cannot be set from a step
    exit 0
    "#);
}

#[test]
fn matchers_find_problems_in_the_output_of_tools() {
    let scene = Scene::new();
    scene.file("src/main.c", "int x;\n");
    scene.file(
        "gcc.json",
        r#"{"problemMatcher": [{"owner": "gcc", "pattern": [{
            "regexp": "^(.+):(\\d+):(\\d+): (warning|error): (.*)$",
            "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5}]}]}"#,
    );
    job(
        &scene,
        r#"
- uses: actions/checkout@v4
- run: |
    echo "src/main.c:1:2: warning: before it is known"
    echo "::add-matcher::gcc.json"
    echo "src/main.c:3:4: warning: unused"
    printf "\033[1msub/../src/main.c:5:6: error: wrong\033[0m\n"
    echo "absent.c:7:8: error: of no file"
    echo "src/main.c:9:9: note: no problem"
- run: 'echo "src/main.c:1:1: error: in a later step"'
- run: |
    echo "::remove-matcher owner=GCC::"
    echo "src/main.c:1:1: error: not found any more"
"#,
    );
    assert_snapshot!(scene.told(&[], &[]), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run echo "src/main.c:1:2: warning: before it is known"
    │ src/main.c:1:2: warning: before it is known
    │ Warning: src/main.c:3:4: warning: unused
    │ Error: sub/../src/main.c:5:6: error: wrong
    │ Error: absent.c:7:8: error: of no file
    │ src/main.c:9:9: note: no problem
    ✓ Run echo "src/main.c:1:2: warning: before it is known" [time]
    ▸ Run echo "src/main.c:1:1: error: in a later step"
    │ Error: src/main.c:1:1: error: in a later step
    ✓ Run echo "src/main.c:1:1: error: in a later step" [time]
    ▸ Run echo "::remove-matcher owner=GCC::"
    │ src/main.c:1:1: error: not found any more
    ✓ Run echo "::remove-matcher owner=GCC::" [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      warning  test: src/main.c:3:4: unused
      error  test: src/main.c:5:6: wrong
      error  test: of no file
      error  test: src/main.c:1:1: in a later step
    exit 0
    "#);
}

#[test]
fn of_many_annotations_a_few_are_kept() {
    let scene = Scene::new();
    job(
        &scene,
        r#"
- run: |
    for i in $(seq 1000); do echo "::warning::$i"; done
    echo "::error::last"
- run: 'echo "::warning::of another step"'
"#,
    );
    let story = scene.told(&[], &[]);
    let (log, list) = story.split_once("ci.yml: success").unwrap();
    assert_eq!(log.matches("│ Warning: ").count(), 1001);
    assert!(
        log.contains("│ 990 more errors, warnings and notices of this step are in its log alone"),
        "{log}"
    );
    assert_eq!(list.matches("warning").count(), 11);
    assert_eq!(list.matches("error").count(), 1);
}

/// What a step may do wrong, or only much of, is told by that step, and the others go on. `MUSTER_MANY=1000000` tries as many
/// annotations, and a tenth of masks.
#[test]
fn what_is_odd_or_much_is_told_by_its_step() {
    let scene = Scene::new();
    let long = format!("# {}\\n", "x".repeat(100)).repeat(10_000);
    let many = std::env::var("MUSTER_MANY").ok().and_then(|many| many.parse().ok());
    let many: usize = many.unwrap_or(50_000);
    let last = 1_000_000 + many / 10;
    job(
        &scene,
        &format!(
            r#"
- {{name: Lines of Windows, run: "echo one\r\necho two\r\n"}}
- {{name: No end of line, run: "printf last"}}
- {{name: A megabyte, run: "{long}echo after a megabyte"}}
- name: A block that is not closed
  continue-on-error: true
  run: printf 'A<<END\nnever closed\n' >> "$GITHUB_ENV"
- name: A NUL
  continue-on-error: true
  run: printf 'B=a\0b\n' >> "$GITHUB_ENV"
- name: What is there of it
  run: printf '[%s] [%s]\n' "$A" "$B"
- name: Many annotations
  run: yes '::notice::again' | head -{many} > all; cat all
- name: Many masks
  run: |
    seq 1000000 {last} | sed 's/^/::add-mask::mask-/' > masks; cat masks
    echo "of the last: mask-{last}, of none: mask-2000000"
"#
        ),
    );
    // It takes seconds: in one isolation.
    let done = scene.muster(&["run"]);
    assert_eq!(
        done.out.matches("│ Notice: again\n").count(),
        many,
        "{} {:.3000}",
        done.err,
        done.out
    );
    let said = done.out.lines().filter(|line| {
        !line.ends_with("Notice: again")
            && !line.contains("notice  test: again")
            && !line.starts_with("isolation: ")
    });
    let said = said.map(|line| line.replace(&(many - 10).to_string(), "[all but ten]"));
    let said: Vec<String> = said.map(|line| crate::scene::masked(&line)).collect();
    assert_snapshot!(said.join("\n"), @"
    .github/workflows/ci.yml
    ▸ Lines of Windows
    │ one
    │ two
    ✓ Lines of Windows [time]
    ▸ No end of line
    │ last
    ✓ No end of line [time]
    ▸ A megabyte
    │ after a megabyte
    ✓ A megabyte [time]
    ▸ A block that is not closed
    │ Error: GITHUB_ENV: the block `A` is never closed by its delimiter `END`
    ✓ A block that is not closed (failed, may fail) [time]
    ▸ A NUL
    │ Error: GITHUB_ENV: `B` holds a zero byte, which no variable can
    ✓ A NUL (failed, may fail) [time]
    ▸ What is there of it
    │ [] []
    ✓ What is there of it [time]
    ▸ Many annotations
    │ [all but ten] more errors, warnings and notices of this step are in its log alone: 10 of a kind are kept as annotations
    ✓ Many annotations [time]
    ▸ Many masks
    │ of the last: ***, of none: mask-2000000
    ✓ Many masks [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      error  test: GITHUB_ENV: the block `A` is never closed by its delimiter `END`
      error  test: GITHUB_ENV: `B` holds a zero byte, which no variable can
    ");
}

#[test]
fn secrets_reach_steps_and_nothing_else() {
    let scene = Scene::new();
    scene.file(".env", "FROM_FILE=\"two\nlines of it\"\nOVER=ridden\n");
    scene.workflow(
        r#"
on: push
env: {OF_ALL: '${{ secrets.token }}'}
jobs:
  test:
    runs-on: ubuntu-latest
    outputs: {safe: 'fine', leaks: '${{ steps.make.outputs.it }}', encoded: '${{ steps.make.outputs.b64 }}'}
    steps:
      - name: Greet ${{ secrets.TOKEN }}
        run: |
          echo "$OF_ALL $GIVEN ${{ secrets.OVER }} [$TOKEN] [${{ secrets.ABSENT }}] ${{ github.token }}"
          printf "%s" "$GIVEN" | head -c 5; sleep 0.2; printf "%s\n" "$GIVEN" | tail -c +6
          printf "%s" "$OF_ALL" | base64
          echo "Used $OF_ALL" >> "$GITHUB_STEP_SUMMARY"
          printf '%s\n' "$FILE"
        env: {GIVEN: '${{ secrets.GIVEN }}', FILE: '${{ secrets.FROM_FILE }}'}
      - id: make
        run: |
          echo "it=a${OF_ALL}b" >> "$GITHUB_OUTPUT"
          echo "b64=$(printf '%s' "$OF_ALL" | base64)" >> "$GITHUB_OUTPUT"
      - run: echo "${{ fromJSON(secrets.TOKEN) }}"
        if: always()
  after:
    needs: test
    if: always()
    runs-on: ubuntu-latest
    steps:
      - run: echo "[${{ needs.test.outputs.safe }}] [${{ needs.test.outputs.leaks }}] [${{ needs.test.outputs.encoded }}]"
"#,
    );
    scene.commit("first");
    let secrets = ["--secret", "TOKEN=abcdefgh", "--secret", "given", "--secret-file", ".env"];
    let more = ["--secret", "OVER=written-twice", "--secret", "GITHUB_TOKEN=ghs_of_the_run"];
    let args = [secrets.as_slice(), &more].concat();
    let story = scene.told(&args, &[("given", "from the environment")]);
    for secret in [
        "abcdefgh",
        "from the environment",
        "written-twice",
        "lines of it",
        "ghs_of",
        "YWJjZGVmZ2g",
    ] {
        assert!(!story.contains(secret), "{secret} in\n{story}");
    }
    assert_snapshot!(story, @r#"
    .github/workflows/ci.yml
    test ▸ Greet ***
    test │ *** *** *** [] [] ***
    test │ ***
    test │ ***
    test │ ***
    test │ ***
    test │ Used ***
    test ✓ Greet *** [time]
    test ▸ Run echo "it=a${OF_ALL}b" >> "$GITHUB_OUTPUT"
    test ✓ Run echo "it=a${OF_ALL}b" >> "$GITHUB_OUTPUT" [time]
    test ▸ Run 
    test │ Error: `run`: fromJSON: expected value at line 1 column 1
    test ✗ Run  [time]
    test │ Warning: output `leaks` is left out: it may hold a secret
    test │ Warning: output `encoded` is left out: it may hold a secret
    after ▸ Run echo "[fine] [] []"
    after │ [fine] [] []
    after ✓ Run echo "[fine] [] []" [time]
    .github/workflows/ci.yml: failure
      test   failure  [time]
      after  success  [time]
      error  test: `run`: fromJSON: expected value at line 1 column 1
      warning  test: output `leaks` is left out: it may hold a secret
      warning  test: output `encoded` is left out: it may hold a secret
    exit 1
    "#);
}

#[test]
fn what_is_no_secret_is_refused() {
    let scene = Scene::new();
    job(&scene, "- run: echo hi");
    scene.file("wrong.env", "A=1\nnothing\n2B=x\n");
    let mut story = String::new();
    for args in [
        ["--secret", "NOWHERE"],
        ["--secret", "1A=x"],
        ["--secret-file", "wrong.env"],
        ["--secret-file", "absent"],
    ] {
        story.push_str(&scene.muster(&[&["run"], args.as_slice()].concat()).story());
        story.push('\n');
    }
    assert_snapshot!(story, @"
    error: secret `NOWHERE` has no value: set the variable NOWHERE, or write it in a file for `--secret-file`
    exit 2
    error: `1A` is no name of a secret or variable: write letters, digits and `_`, no digit first
    exit 2
    error: wrong.env:2: write NAME=VALUE
    wrong.env:3: `2B` is no name of a secret or variable: write letters, digits and `_`, no digit first
    exit 2
    error: cannot read absent: No such file or directory (os error 2)
    exit 2
    ");
}

#[test]
fn a_line_is_judged_at_its_end_however_it_comes() {
    let scene = Scene::new();
    scene.file("src.c", "");
    scene.file(
        "m.json",
        r#"{"problemMatcher": [{"owner": "x", "pattern": [{"regexp": "^(.+):(\\d+): (.*)$", "file": 1, "line": 2, "message": 3}]}]}"#,
    );
    job(
        &scene,
        r###"
- uses: actions/checkout@v4
- name: One
  run: |
    printf 'log '; sleep 0.2; echo '##[add-mask]generated-1'; echo "use generated-1"
    printf 'progress 10%%\r::add-mask::generated-2\n'; echo "use generated-2"
    echo "::add-matcher::sub/../m.json"
    printf 'src.c:'; sleep 0.2; echo '4: in two parts'
    (printf 'A:%s' "${S:0:8}"; sleep 0.5; printf '%s\n' "${S:8}"; printf 'the last of it') &
    sleep 0.2
  env: {S: '${{ secrets.S }}'}
- run: sleep 1; echo done
- name: Long
  run: printf '::add-mask::'; head -c 1200000 /dev/zero | tr '\0' k; echo tail
  continue-on-error: true
- run: for i in 1 2 3; do printf '::set-output name=x::'; head -c 4000000 /dev/zero | tr '\0' a | head -c 900000; echo; done
"###,
    );
    let story = scene.told(&["--secret", "S=hunter2SECRETxyz"], &[]);
    for secret in ["generated-1", "generated-2", "hunter2", "ECRETxyz", "kkkk"] {
        assert!(!story.contains(secret), "{secret} in\n{story}");
    }
    assert_snapshot!(story, @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ One
    │ log 
    │ use ***
    │ progress 10%
    │ use ***
    │ src.c:4: in two parts
    │ A:
    ✓ One [time]
    ▸ Run sleep 1; echo done
    │ ***
    │ done
    ✓ Run sleep 1; echo done [time]
    ▸ Long
    │ Error: a command has more than 1048576 bytes
    ✓ Long (failed, may fail) [time]
    ▸ Run for i in 1 2 3; do printf '::set-output name=x::'; head -c 4000000 /dev/zero | tr '\0' a | head -c 900000; echo; done
    ✓ Run for i in 1 2 3; do printf '::set-output name=x::'; head -c 4000000 /dev/zero | tr '\0' a | head -c 900000; echo; done [time]
    │ the last of it
    .github/workflows/ci.yml: success
      test  success  [time]
      error  test: src.c:4: in two parts
      error  test: a command has more than 1048576 bytes
    exit 0
    "#);
}

#[test]
fn what_masks_too_much_shows_nothing() {
    let scene = Scene::new();
    job(
        &scene,
        r###"
- name: Many
  run: |
    for i in 1 2 3 4 5 6 7 8 9; do printf '::add-mask::'; head -c 600000 /dev/urandom | base64 --wrap=0; echo; done
    echo "too much"; echo "::notice::too much"; echo too much >> "$GITHUB_STEP_SUMMARY"
- name: After
  run: echo too much either
"###,
    );
    let story = scene.told(&[], &[]);
    assert!(!story.contains("too much\n"), "{story}");
    assert_snapshot!(story, @"
    .github/workflows/ci.yml
    ▸ Many
    │ Error: there is more to mask than 8388608 bytes: the secrets, in all their encodings. What the job says is not shown any more
    │ ***
    ✗ *** [time]
    - ***
    .github/workflows/ci.yml: failure
      test  failure  [time]
    exit 1
    ");
}

#[test]
fn debug_lines_are_seen_when_asked_for() {
    let scene = Scene::new();
    job(
        &scene,
        "- run: 'echo \"::debug::here $RUNNER_DEBUG ${{ runner.debug }}\"; echo \"::set-output name=a::b\"'",
    );
    assert_snapshot!(scene.told(&["--var", "ACTIONS_STEP_DEBUG=true"], &[]), @r#"
    .github/workflows/ci.yml
    ▸ Run echo "::debug::here $RUNNER_DEBUG 1"; echo "::set-output name=a::b"
    │ Debug: here 1 1
    │ ::set-output name=a::b
    ✓ Run echo "::debug::here $RUNNER_DEBUG 1"; echo "::set-output name=a::b" [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    "#);
}

fn what_steps_tell_is_kept_and_shown(database: Database) {
    let server = Server::start(database, "");
    server.scene.workflow(
        r#"
name: CI
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    environment: {name: 'web-${{ github.ref_name }}', url: '${{ steps.say.outputs.url }}'}
    steps:
      - id: say
        name: Tell
        run: |
          echo "::set-output name=url::https://example.org/hush-hush"
          echo "::group::Quietly"
          echo "::warning file=a.rs,line=3,title=Old::<b>is</b> old"
          echo "::endgroup::"
          echo "::add-mask::hush-hush"
          echo "::error::hush-hush is out"
"#,
    );
    let sha = server.push("main", "Say it");
    server.verdict(&sha);
    let run: Value = serde_json::from_str(&server.get("/api/v1/runs/1")).unwrap();
    let told = serde_json::to_string_pretty(&run["jobs"][0]["annotations"]).unwrap();
    assert_snapshot!(told, @r#"
    [
      {
        "level": "warning",
        "message": "<b>is</b> old",
        "title": "Old",
        "file": "a.rs",
        "line": 3,
        "step": 1
      },
      {
        "level": "error",
        "message": "*** is out",
        "step": 1
      }
    ]
    "#);
    let environment = run["jobs"][0]["environment"].to_string();
    assert_snapshot!(environment, @r#"{"name":"web-main","url":"https://example.org/***"}"#);
    let log = server.muster(&["log", "1"]).out;
    let told: Vec<&str> = log.lines().skip(3).collect();
    assert_snapshot!(told.join("\n"), @"
    ▾ Quietly
    Warning: <b>is</b> old
    Error: *** is out
    ");
    let page = server.get("/jobs/1");
    assert!(page.contains("<code>a.rs:3</code>") && page.contains("▾ Quietly"), "{page}");
    assert!(page.contains("&#60;b&#62;is&#60;/b&#62; old"), "{page}");
    assert!(page.contains(">web-main</a>"), "{page}");
    assert!(!page.contains("hush-hush"), "{page}");
}
