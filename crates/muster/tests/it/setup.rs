//! Tools of this machine in the place of actions that would download them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use insta::assert_snapshot;

use crate::actions::path_with_node;
use crate::fetched::{Hub, workflow};
use crate::scene::Scene;

/// A Node.js, as far as it says its version.
fn node(folder: &Path, version: &str) {
    program(folder, "node", &format!("echo v{version}"));
    program(folder, "npm", &format!("echo npm of {version}"));
}

/// A Python that makes environments.
fn python(folder: &Path, name: &str, version: &str, makes: bool) {
    let makes = if makes { "True" } else { "False" };
    let script = format!(
        "case \"$*\" in\n*'-m venv'*) mkdir -p \"$4/bin\"; for name in python pip; do printf '#!/bin/sh\\necho '$name' of {version}\\n' > \"$4/bin/$name\"; chmod +x \"$4/bin/$name\"; done ;;\n\
         *) echo CPython {version} {makes} ;;\nesac"
    );
    program(folder, name, &script);
}

fn go(folder: &Path, version: &str) {
    let script = format!(
        "case \"$*\" in\nversion) echo go version go{version} linux/amd64 ;;\n'env GOPATH') echo \"$HOME/go\" ;;\n\
         env) echo \"GOTOOLCHAIN='$GOTOOLCHAIN'\" ;;\nesac"
    );
    program(folder, "go", &script);
    program(folder, "gofmt", "echo formatted");
}

fn program(folder: &Path, name: &str, script: &str) {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Returns a line without what each machine and isolation has otherwise.
fn plain(line: &str) -> String {
    let mut plain = line.to_owned();
    for (begin, end) in [("(there: ", ")"), ("Found on this machine @ ", ""), ("yarn: ", "")] {
        if let Some((before, after)) = line.split_once(begin) {
            let rest = after.split_once(end).filter(|_| !end.is_empty());
            plain = format!(
                "{before}{begin}…{}",
                rest.map_or(String::new(), |(_, rest)| format!("{end}{rest}"))
            );
        }
    }
    plain
}

#[test]
fn node_of_this_machine_is_set_up_as_its_action_would() {
    let (hub, scene, tools) = (Hub::new(), Scene::new(), tempfile::tempdir().unwrap());
    node(&tools.path().join("a"), "97.1.0");
    node(&tools.path().join("b"), "98.2.0");
    program(&tools.path().join("b"), "other", "echo other");
    let [a, b] = ["a", "b"].map(|name| tools.path().join(name));
    let path = format!("{}:{}:{}", a.display(), b.display(), path_with_node());
    scene.file(".nvmrc", "v97\n");
    workflow(
        &scene,
        r#"
- {uses: actions/checkout@v4}
- {id: first, uses: actions/setup-node@v4, with: {node-version: '>=97', token: ''}}
- run: node --version; npm; command -v other > /dev/null; echo "${{ steps.first.outputs.node-version }}"
- uses: actions/setup-node@v4
  with: {node-version-file: .nvmrc, registry-url: 'https://npm.example.org', scope: Team}
  env: {NODE_AUTH_TOKEN: abc}
- run: node --version; cat "$NPM_CONFIG_USERCONFIG"; echo; echo "$NODE_AUTH_TOKEN"
- run: "echo \"src/a.ts(3,5): error TS2304: Cannot find name 'x'.\""
- {uses: actions/setup-node@v4, with: {node-version: 97.1, cache: npm, color: red}}
- {uses: actions/setup-node@v4, with: {node-version-file: none}}
"#,
    );
    assert_snapshot!(hub.told_as(&scene, &[], &path, plain), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/setup-node@v4
    │ Found on this machine @ …
    │ ▾ Environment details
    │ node: v98.2.0
    │ npm: npm of 98.2.0
    │ yarn: …
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run node --version; npm; command -v other > /dev/null; echo "v98.2.0"
    │ v98.2.0
    │ npm of 98.2.0
    │ v98.2.0
    ✓ Run node --version; npm; command -v other > /dev/null; echo "v98.2.0" [time]
    ▸ Run actions/setup-node@v4
    │ Resolved .nvmrc as 97
    │ Found on this machine @ …
    │ ▾ Environment details
    │ node: v97.1.0
    │ npm: npm of 97.1.0
    │ yarn: …
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run node --version; cat "$NPM_CONFIG_USERCONFIG"; echo; echo "$NODE_AUTH_TOKEN"
    │ v97.1.0
    │ //npm.example.org/:_authToken=${NODE_AUTH_TOKEN}
    │ @team:registry=https://npm.example.org/
    │ abc
    ✓ Run node --version; cat "$NPM_CONFIG_USERCONFIG"; echo; echo "$NODE_AUTH_TOKEN" [time]
    ▸ Run echo "src/a.ts(3,5): error TS2304: Cannot find name 'x'."
    │ Error: src/a.ts(3,5): error TS2304: Cannot find name 'x'.
    ✓ Run echo "src/a.ts(3,5): error TS2304: Cannot find name 'x'." [time]
    ▸ Run actions/setup-node@v4
    │ Warning: the action has no input `color`
    │ Warning: what is here has to do, though `cache` is asked for: cannot get `actions/setup-node@v4` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    │ Found on this machine @ …
    │ ▾ Environment details
    │ node: v97.1.0
    │ npm: npm of 97.1.0
    │ yarn: …
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run actions/setup-node@v4
    │ Error: the version file none cannot be read: No such file or directory (os error 2)
    ✗ Run actions/setup-node@v4 [time]
    .github/workflows/ci.yml: failure
      test  failure  [time]
      error  test: Cannot find name 'x'.
      warning  test: the action has no input `color`
      warning  test: what is here has to do, though `cache` is asked for: cannot get `actions/setup-node@v4` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
      error  test: the version file none cannot be read: No such file or directory (os error 2)
    exit 1
    "#);
}

#[test]
fn python_and_go_of_this_machine_are_set_up_as_their_actions_would() {
    let (hub, scene, tools) = (Hub::new(), Scene::new(), tempfile::tempdir().unwrap());
    let folder = tools.path();
    python(folder, "python3.97", "3.97.2", true);
    python(folder, "python3.98", "3.98.0rc1", true);
    python(folder, "python3.99", "3.99.0", false);
    go(folder, "1.97.3");
    let path = format!("{}:{}", folder.display(), path_with_node());
    scene.file("go.mod", "module app\n\ngo 1.97\n");
    scene.file("pyproject.toml", "[project]\nname = 'app'\nrequires-python = '>=3.97,<3.98'\n");
    workflow(
        &scene,
        r#"
- {uses: actions/checkout@v4}
- {id: py, uses: actions/setup-python@v5, with: {python-version: '3.97'}}
- run: python; pip; echo "${{ steps.py.outputs.python-version }} $(basename "$pythonLocation") $(basename "$P")"
  env: {P: '${{ steps.py.outputs.python-path }}'}
- {uses: actions/setup-python@v5, with: {python-version: '3.98', allow-prereleases: true, update-environment: false}}
- run: python
- {uses: actions/setup-python@v5, with: {python-version-file: pyproject.toml}}
- {uses: actions/setup-python@v5, continue-on-error: true, with: {python-version: pypy3.10}}
- {id: go, uses: actions/setup-go@v6, with: {go-version-file: go.mod}}
- run: go version; echo "${{ steps.go.outputs.go-version }} $GOTOOLCHAIN $(basename "${PATH%%:*}")"
- {uses: actions/setup-go@v5, continue-on-error: true, with: {go-version: stable}}
"#,
    );
    assert_snapshot!(hub.told_as(&scene, &[], &path, plain), @r#"
    .github/workflows/ci.yml
    ▸ Run actions/checkout@v4
    │ Checked out [sha] at refs/heads/main
    ✓ Run actions/checkout@v4 [time]
    ▸ Run actions/setup-python@v5
    │ ▾ Installed versions
    │ Found on this machine @ …
    │ Successfully set up CPython (3.97.2)
    ✓ Run actions/setup-python@v5 [time]
    ▸ Run python; pip; echo "3.97.2 $(basename "$pythonLocation") $(basename "$P")"
    │ python of 3.97.2
    │ pip of 3.97.2
    │ 3.97.2 python-3.97.2 python
    ✓ Run python; pip; echo "3.97.2 $(basename "$pythonLocation") $(basename "$P")" [time]
    ▸ Run actions/setup-python@v5
    │ ▾ Installed versions
    │ Found on this machine @ …
    │ Successfully set up CPython (3.98.0rc1)
    ✓ Run actions/setup-python@v5 [time]
    ▸ Run python
    │ python of 3.97.2
    ✓ Run python [time]
    ▸ Run actions/setup-python@v5
    │ Resolved pyproject.toml as >=3.97 <3.98
    │ ▾ Installed versions
    │ Found on this machine @ …
    │ Successfully set up CPython (3.97.2)
    ✓ Run actions/setup-python@v5 [time]
    ▸ Run actions/setup-python@v5
    │ Error: `pypy3.10` is another Python than CPython; cannot get `actions/setup-python@v5` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    ✓ Run actions/setup-python@v5 (failed, may fail) [time]
    ▸ Run actions/setup-go@v6
    │ Setup go version spec 1.97
    │ Found on this machine @ …
    │ Added go to the path
    │ Successfully set up Go version 1.97
    │ go version go1.97.3 linux/amd64
    │ ▾ go env
    │ GOTOOLCHAIN='local'
    │ muster keeps no cache of modules for it: `cache: true` has the action itself do that
    ✓ Run actions/setup-go@v6 [time]
    ▸ Run go version; echo "1.97.3 $GOTOOLCHAIN $(basename "${PATH%%:*}")"
    │ go version go1.97.3 linux/amd64
    │ 1.97.3 local bin
    ✓ Run go version; echo "1.97.3 $GOTOOLCHAIN $(basename "${PATH%%:*}")" [time]
    ▸ Run actions/setup-go@v5
    │ Warning: what is here has to do, though `stable` is what is the newest now: cannot get `actions/setup-go@v5` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    │ Setup go version spec stable
    │ Found on this machine @ …
    │ Added go to the path
    │ Successfully set up Go version stable
    │ go version go1.97.3 linux/amd64
    │ ▾ go env
    │ GOTOOLCHAIN='local'
    │ muster keeps no cache of modules for it: `cache: true` has the action itself do that
    ✓ Run actions/setup-go@v5 [time]
    .github/workflows/ci.yml: success
      test  success  [time]
      error  test: `pypy3.10` is another Python than CPython; cannot get `actions/setup-python@v5` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
      warning  test: what is here has to do, though `stable` is what is the newest now: cannot get `actions/setup-go@v5` from [path] git ls-remote failed: fatal: [path] does not appear to be a git repository fatal: Could not read from remote repository. Please make sure you have the correct access rights and the repository exists.
    exit 0
    "#);
}

#[test]
fn what_is_not_here_and_cannot_be_had_is_told_with_what_is() {
    let (scene, tools) = (Scene::new(), tempfile::tempdir().unwrap());
    python(tools.path(), "python3.99", "3.99.0", false);
    node(tools.path(), "97.1.0");
    workflow(
        &scene,
        "- {uses: actions/setup-python@v5, continue-on-error: true, with: {python-version: '3.99'}}\n\
         - {uses: actions/setup-node@v4, continue-on-error: true, with: {node-version: 96.x}}",
    );
    let path = format!("{}:{}", tools.path().display(), path_with_node());
    let variables = [("PATH", &*path), ("MUSTER_ACTIONS_FROM", "/nowhere")];
    let told = scene.muster_with(&["run", "--isolation", "none"], &variables).out;
    let without = "3.99.0 without `venv` and `ensurepip` (Debian's package python3-venv)";
    assert!(told.contains(without), "{told}");
    for (what, there) in [("Python 3.99", "3.99.0"), ("Node.js 96.x", "97.1.0")] {
        let error =
            format!("Error: {what} is neither in the tool cache nor on this machine (there: ");
        let told =
            told.lines().find(|line| line.contains(&error)).unwrap_or_else(|| panic!("{told}"));
        assert!(told.contains(there) && told.contains("); cannot get `actions/setup-"), "{told}");
    }
}

/// What a step gives the action is not for later ones, and its time is bounded while tools are asked, too.
#[test]
fn nothing_of_a_setup_is_left_and_it_ends_in_time() {
    let (scene, tools) = (Scene::new(), tempfile::tempdir().unwrap());
    node(tools.path(), "97.1.0");
    program(tools.path(), "python3.97", "sleep 1000");
    let excluded = r#"{"engines": {"node": "97 !=97.1.0\n::error::forged"}}"#;
    scene.file("package.json", excluded);
    workflow(
        &scene,
        r#"
- {uses: actions/checkout@v4}
- {uses: actions/setup-node@v4, with: {node-version: 97, token: '${{ secrets.TOK }}'}}
- run: "! grep -rq 'open sesame' $RUNNER_TEMP; basename $(dirname $NPM_CONFIG_PREFIX)"
- {uses: actions/setup-node@v4, continue-on-error: true, with: {node-version-file: package.json}}
- {uses: actions/setup-python@v5, timeout-minutes: 0.01, with: {python-version: 3.97}}
"#,
    );
    let path = format!("{}:{}", tools.path().display(), path_with_node());
    let variables = [("PATH", &*path), ("MUSTER_ACTIONS_FROM", "/nowhere")];
    let secret = ["--secret", "TOK=open sesame"];
    let done =
        scene.muster_with(&[&["run", "--isolation", "none"], &secret[..]].concat(), &variables);
    let told = done.story();
    assert!(told.contains("│ _tools\n") && !told.contains("forged.github"), "{told}");
    let unknown = "`97 !=97.1.0 ::error::forged` is no range of versions";
    assert!(told.contains(unknown) && !told.contains("Error: forged"), "{told}");
    assert!(told.contains("✗ Run actions/setup-python@v5"), "{told}");
    assert_eq!(done.exit, Some(1), "{told}");
}

/// What is not here the action itself does, with the same inputs; and all of it where it is pinned, or muster's own are
/// not wanted.
#[test]
fn what_is_not_here_the_action_itself_sets_up() {
    let (hub, scene, tools) = (Hub::new(), Scene::new(), tempfile::tempdir().unwrap());
    node(tools.path(), "97.1.0");
    let path = format!("{}:{}", tools.path().display(), path_with_node());
    let manifest = "name: Setup\ndescription: Sets up\ninputs: {node-version: {}, cache: {}, check-latest: {default: 'no'}}\n\
                    outputs: {node-version: {value: from afar}}\nruns:\n  using: composite\n  steps:\n\
                    \x20   - {run: 'echo \"downloads $V, $C, $L\"', shell: bash, env: {V: '${{ inputs.node-version }}', \
                    C: '${{ inputs.cache }}', L: '${{ inputs.check-latest }}'}}\n";
    let sha = hub.push("actions/setup-node", &[("action.yml", manifest)]);
    hub.tag("actions/setup-node", &["v4"]);
    workflow(
        &scene,
        &format!(
            "- {{uses: actions/setup-node@v4, with: {{node-version: 97}}}}\n\
             - {{id: far, uses: actions/setup-node@v4, with: {{node-version: 96}}}}\n\
             - run: 'echo \"${{{{ steps.far.outputs.node-version }}}}\"'\n\
             - {{uses: actions/setup-node@v4, with: {{node-version: 97, cache: npm}}}}\n\
             - {{uses: 'actions/setup-node@{sha}', with: {{node-version: 97}}}}"
        ),
    );
    let told = hub.told_as(&scene, &[], &path, plain).replace(&sha, "[sha]");
    assert_snapshot!(told, @r#"
    .github/workflows/ci.yml
    ▸ Run actions/setup-node@v4
    │ Found on this machine @ …
    │ ▾ Environment details
    │ node: v97.1.0
    │ npm: npm of 97.1.0
    │ yarn: …
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run actions/setup-node@v4
    │ Action actions/setup-node@v4 is [sha]
    │ actions/setup-node@v4 does it itself: Node.js 96 is neither in the tool cache nor on this machine (there: …)
    │ Run echo "downloads $V, $C, $L"
    │ downloads 96, , no
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run echo "from afar"
    │ from afar
    ✓ Run echo "from afar" [time]
    ▸ Run actions/setup-node@v4
    │ actions/setup-node@v4 does it itself: `cache` is asked for
    │ Run echo "downloads $V, $C, $L"
    │ downloads 97, npm, no
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run actions/setup-node@[sha]
    │ Run echo "downloads $V, $C, $L"
    │ downloads 97, , no
    ✓ Run actions/setup-node@[sha] [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    "#);
    let told = hub.told_as(&scene, &["--native", "never"], &path, plain);
    assert_eq!(told.matches("│ downloads ").count(), 4, "{told}");
    let told = hub.told_as(&scene, &["--native", "always"], &path, plain);
    assert_eq!(told.matches("│ Found on this machine").count(), 2, "{told}");
}

/// A tool cache is of the machine: what is whole there comes before all else.
#[test]
fn what_the_tool_cache_has_comes_first() {
    let (scene, tools, cache) =
        (Scene::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    node(tools.path(), "97.9.0");
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let kept = cache.path().join("muster/tools");
    for (version, is_whole) in [("97.1.0", true), ("97.2.0", true), ("97.3.0", false)] {
        let root = kept.join("node").join(version).join(arch);
        node(&root.join("bin"), version);
        if is_whole {
            fs::write(root.with_extension("complete"), "").unwrap();
        }
    }
    let python = kept.join("Python/3.97.1").join(arch);
    program(&python.join("bin"), "python", "echo python of the cache");
    fs::write(python.with_extension("complete"), "").unwrap();
    workflow(
        &scene,
        r#"
- {uses: actions/setup-node@v4, with: {node-version: 97}}
- run: node --version
- {uses: actions/setup-python@v5, with: {python-version: 3.x}}
- run: 'python; echo "${LD_LIBRARY_PATH##*/muster/} ${PKG_CONFIG_PATH##*/muster/}"'
"#,
    );
    let path = format!("{}:{}", tools.path().display(), path_with_node());
    let variables = [("PATH", &*path), ("XDG_CACHE_HOME", cache.path().to_str().unwrap())];
    let done = scene.muster_with(&["run", "--isolation", "none"], &variables);
    assert_snapshot!(done.story().lines().map(plain).collect::<Vec<_>>().join("\n").replace(arch, "[arch]"), @r#"
    .github/workflows/ci.yml
    isolation: none; the steps run as this user, with this machine's files and network.
    ▸ Run actions/setup-node@v4
    │ Found in cache @ [path]
    │ ▾ Environment details
    │ node: v97.2.0
    │ npm: npm of 97.2.0
    │ yarn: …
    ✓ Run actions/setup-node@v4 [time]
    ▸ Run node --version
    │ v97.2.0
    ✓ Run node --version [time]
    ▸ Run actions/setup-python@v5
    │ ▾ Installed versions
    │ Successfully set up CPython (3.97.1)
    ✓ Run actions/setup-python@v5 [time]
    ▸ Run python; echo "${LD_LIBRARY_PATH##*/muster/} ${PKG_CONFIG_PATH##*/muster/}"
    │ python of the cache
    │ tools/Python/3.97.1/[arch]/lib tools/Python/3.97.1/[arch]/lib/pkgconfig
    ✓ Run python; echo "${LD_LIBRARY_PATH##*/muster/} ${PKG_CONFIG_PATH##*/muster/}" [time]
    .github/workflows/ci.yml: success
      test  success  [time]
    exit 0
    "#);
}
