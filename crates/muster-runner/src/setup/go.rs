//! Go.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::here::{Machine, programs};
use super::wanted::{Unable, Versions, Wanted, itself, named, of_tool_versions, version};
use super::{
    Found, SetupError, SetupOrder, add_matchers, add_path, enter, export, output, program, said,
    variable,
};

/// What its action is given, in any of its versions.
pub(super) const INPUTS: [&str; 8] = [
    "go-version",
    "go-version-file",
    "check-latest",
    "token",
    "cache",
    "cache-dependency-path",
    "architecture",
    "go-download-base-url",
];

const MATCHERS: [(&str, &str); 1] = [("go.json", include_str!("matchers/go.json"))];
/// Go is the one that was set up, and fetches no other by itself.
const TOOLCHAIN: (&str, &str) = ("GOTOOLCHAIN", "local");
/// Where it is installed, beside PATH.
const PLACE: &str = "/usr/local/go/bin";

pub(super) fn wanted(order: &SetupOrder) -> Result<Wanted, Unable> {
    // Without a word the action keeps a cache, too: that is not worth fetching it for.
    let mut wanted =
        Wanted { itself: itself(order, &["cache", "go-download-base-url"]), ..Wanted::default() };
    let read = |name: &str, text: &str| of_file(name, text, is_new(order));
    let Some(text) = named(order, &mut wanted, read)? else { return Ok(wanted) };
    let versions = if matches!(&*text, "stable" | "oldstable") {
        wanted.itself = Some(format!("`{text}` is what is the newest now"));
        Versions::read_as(&text, "*")
    } else {
        let is_exact =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        let early = version(&text).filter(|version| version.is_prerelease() && is_exact(&text));
        let early = early.filter(|_| !text.contains('x'));
        early.map_or_else(
            || Versions::read(&text),
            |early| Versions::read_as(&text, &early.to_string()),
        )
    };
    wanted.versions.push(versions?);
    Ok(wanted)
}

/// Returns whether the action is one that knows toolchains, as it does from its version 6 on.
fn is_new(order: &SetupOrder) -> bool {
    let major = order.git_ref.strip_prefix('v').and_then(|rest| rest.split('.').next());
    major.and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major >= 6)
}

/// Reads the version that a file names.
fn of_file(name: &str, text: &str, is_new: bool) -> Option<String> {
    match name {
        "go.mod" | "go.work" => {
            let of = |word: &str| {
                let mut lines = text.lines().filter_map(|line| line.strip_prefix(word));
                let rest = lines.find_map(|line| line.strip_prefix(' '))?;
                rest.split_whitespace().next()
            };
            let toolchain = of("toolchain").and_then(|name| name.strip_prefix("go"));
            let found = toolchain
                .filter(|_| is_new && variable(TOOLCHAIN.0) != TOOLCHAIN.1)
                .or_else(|| of("go"));
            found.map(str::to_owned)
        }
        ".tool-versions" => of_tool_versions(text, &["golang"]).map(str::to_owned),
        _ => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
    }
}

pub(super) fn on_this_machine() -> Machine {
    let found =
        programs(&[PathBuf::from(PLACE)], |name| name == "go").into_iter().filter_map(|path| {
            let said = said(program(&path).arg("version").envs([TOOLCHAIN]))?;
            let version = version(said.split_whitespace().nth(2)?)?;
            Some((
                version.clone(),
                Found { version: version.to_string(), program: path, cached: None },
            ))
        });
    Machine { found: found.collect(), unusable: Vec::new() }
}

pub(super) fn set_up(
    order: &SetupOrder,
    wanted: &Wanted,
    chosen: &[Found],
    say: &mut dyn Write,
) -> Result<(), SetupError> {
    if is_new(order) {
        export(TOOLCHAIN.0, TOOLCHAIN.1)?;
    }
    let text = wanted.versions.first().map_or("", |versions| &versions.text);
    writeln!(say, "Setup go version spec {text}")?;
    let mut path = variable("PATH");
    match chosen.last() {
        Some(found) => {
            path = enter(order.tool, found, &["go", "gofmt"], say)?;
            writeln!(say, "Added go to the path")?;
            writeln!(say, "Successfully set up Go version {text}")?;
        }
        None => writeln!(
            say,
            "[warning]go-version input was not specified. The action will try to use pre-installed version."
        )?,
    }
    let go = |words: &[&str]| {
        said(program("env").arg("go").args(words).envs([("PATH", path.as_str()), TOOLCHAIN]))
    };
    let missing = || SetupError::Failed("there is no `go` in PATH".to_owned());
    let about = go(&["version"]).ok_or_else(missing)?;
    if let Some(folder) = go(&["env", "GOPATH"]).filter(|folder| !folder.is_empty()) {
        let bin = PathBuf::from(folder).join("bin");
        fs::create_dir_all(&bin).map_err(|error| SetupError::Write(bin.clone(), error))?;
        add_path(&bin)?;
    }
    add_matchers(say, &MATCHERS)?;
    writeln!(say, "{about}")?;
    let number = about.split_whitespace().nth(2).and_then(|word| word.strip_prefix("go"));
    output("go-version", number.unwrap_or_default())?;
    writeln!(say, "::group::go env\n{}\n::endgroup::", go(&["env"]).unwrap_or_default())?;
    if !order.input("cache").eq_ignore_ascii_case("false") {
        writeln!(
            say,
            "muster keeps no cache of modules for it: `cache: true` has the action itself do that"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_versions() {
        for (name, text, version) in [
            ("go.mod", "module a\n\ngo 1.21\n", Some("1.21")),
            ("go.mod", "module a\ngo 1.21.0\ntoolchain go1.22.3\n", Some("1.22.3")),
            ("go.work", "go 1.22.1 // why\n", Some("1.22.1")),
            (".tool-versions", "golang 1.20.1\n", Some("1.20.1")),
            (".go-version", "1.19\n", Some("1.19")),
            ("go.mod", "module a\n", None),
        ] {
            assert_eq!(of_file(name, text, true).as_deref(), version, "{text}");
        }
    }
}
