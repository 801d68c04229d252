//! The hook by which a local repository tells muster that its refs changed.
//!
//! A `reference-transaction` hook hears of every way in which a ref can move: pushes, commits,
//! resets. It only touches a file; the truth is the list of refs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use muster_sys::process::Program;

/// How a hook that was there before is called from ours.
const BEFORE: &str = "reference-transaction.before-muster";
/// By this line a hook is known as ours.
const MARK: &str = "# Installed by muster.";

/// Installs the hook in the repository at `location`; it touches the file `nudge`. A hook that is
/// there already goes on being called, with the same arguments and input, and has the last word.
pub(crate) fn install(location: &Path, nudge: &Path) -> anyhow::Result<PathBuf> {
    let folder = hooks_folder(location)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let hook = folder.join("reference-transaction");
    match fs::read_to_string(&hook) {
        Ok(text) if text.contains(MARK) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => {
            fs::rename(&hook, folder.join(BEFORE))
                .with_context(|| format!("cannot set {} aside", hook.display()))?;
        }
    }
    let written = fs::write(&hook, script(nudge))
        .and_then(|()| fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)));
    written.with_context(|| format!("cannot write {}", hook.display()))?;
    Ok(hook)
}

/// Asks git where hooks lie, with the user's own configuration: `core.hooksPath` may say.
fn hooks_folder(location: &Path) -> anyhow::Result<PathBuf> {
    let mut program = Program::new("git")
        .args(["rev-parse", "--path-format=absolute", "--git-path", "hooks"])
        .dir(location);
    if let Some(home) = std::env::var_os("HOME") {
        program = program.env("HOME", home);
    }
    let output = program.output(Duration::from_secs(10), 64 * 1024)?;
    if !output.status.success() {
        anyhow::bail!(
            "{} is no git repository: {}",
            location.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
}

/// Writes the hook: plain sh, builtins only where no other hook is called.
fn script(nudge: &Path) -> String {
    let nudge = nudge.to_string_lossy().replace('\'', r"'\''");
    format!(
        r#"#!/bin/sh
{MARK} It touches a file so that muster looks at the refs at once.
nudge='{nudge}'
before="${{0%/*}}/{BEFORE}"

tell() {{
    while read -r _ _ ref; do
        case "$ref" in
        refs/notes/muster) ;;
        *)
            # muster may be gone; that must not fail a push.
            {{ : >>"$nudge"; }} 2>/dev/null
            return
            ;;
        esac
    done
}}

if [ ! -x "$before" ]; then
    [ "$1" != committed ] || tell
    exit 0
fi
[ "$1" = committed ] || exec "$before" "$@"
input=$(cat; printf x)
input=${{input%x}}
printf %s "$input" | "$before" "$@"
status=$?
printf %s "$input" | tell
exit $status
"#
    )
}
