//! What runs in a repository that has no workflow but has GitHub's conventional script.

/// The path of the script, which must be executable.
pub const PATH: &str = "script/cibuild";

/// The workflow that runs it, for every push and pull request.
pub const WORKFLOW: &str = "\
name: script/cibuild
on: [push, pull_request]
jobs:
  cibuild:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: script/cibuild
";
