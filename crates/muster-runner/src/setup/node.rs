//! Node.js.

use std::fs;
use std::io::Write;

use serde_json::Value;

use super::here::{Machine, managed, programs};
use super::wanted::{Unable, Versions, Wanted, itself, named, of_tool_versions, shown, version};
use super::{
    Found, SetupError, SetupOrder, add_matchers, add_path, enter, export, output, program, said,
    temp, variable,
};

/// What its action is given, in any of its versions.
pub(super) const INPUTS: [&str; 14] = [
    "node-version",
    "node-version-file",
    "architecture",
    "check-latest",
    "registry-url",
    "scope",
    "token",
    "cache",
    "package-manager-cache",
    "cache-dependency-path",
    "mirror",
    "mirror-token",
    "always-auth",
    "version",
];

/// The lines that have long-term support, by their names
/// ([codenames](https://github.com/nodejs/Release/blob/main/CODENAMES.md)).
const LINES: [(&str, &str); 11] = [
    ("argon", "4"),
    ("boron", "6"),
    ("carbon", "8"),
    ("dubnium", "10"),
    ("erbium", "12"),
    ("fermium", "14"),
    ("gallium", "16"),
    ("hydrogen", "18"),
    ("iron", "20"),
    ("jod", "22"),
    ("krypton", "24"),
];

/// What lies beside the program and belongs to it.
const COMPANIONS: [&str; 7] = ["node", "npm", "npx", "corepack", "yarn", "yarnpkg", "pnpm"];

const MATCHERS: [(&str, &str); 3] = [
    ("tsc.json", include_str!("matchers/tsc.json")),
    ("eslint-stylish.json", include_str!("matchers/eslint-stylish.json")),
    ("eslint-compact.json", include_str!("matchers/eslint-compact.json")),
];

pub(super) fn wanted(order: &SetupOrder) -> Result<Wanted, Unable> {
    // Its first versions had `version`.
    let mut wanted = Wanted { itself: itself(order, &["cache", "version"]), ..Wanted::default() };
    let Some(text) = named(order, &mut wanted, of_file)? else { return Ok(wanted) };
    if order.input("node-version").is_empty() {
        let file = order.input("node-version-file");
        wanted.notes.push(format!("Resolved {} as {}", shown(file), shown(&text)));
    }
    let lower = text.to_lowercase();
    let versions = match lower.strip_prefix("lts/") {
        Some("*") => newest(&mut wanted, &text, &LINES.map(|(_, major)| major).join(" || ")),
        Some(line) => {
            let known = LINES.iter().find(|(name, _)| *name == line);
            let (_, major) = known.ok_or_else(|| {
                Unable::Itself(format!(
                    "`{}` is no line of Node.js that muster knows",
                    shown(&text)
                ))
            })?;
            Versions::read_as(&text, major)
        }
        None if matches!(&*lower, "latest" | "node" | "current") => newest(&mut wanted, &text, "*"),
        None => Versions::read(&text),
    };
    wanted.versions.push(versions?);
    Ok(wanted)
}

/// Returns what stands for the newest there is, which the action itself knows.
fn newest(wanted: &mut Wanted, text: &str, stand_in: &str) -> Result<Versions, Unable> {
    wanted.itself = Some(format!("`{}` is the newest that there is", shown(text)));
    Versions::read_as(text, stand_in)
}

/// Reads the version that a file names.
fn of_file(name: &str, text: &str) -> Option<String> {
    if let Ok(Value::Object(manifest)) = serde_json::from_str(text) {
        let manifest = Value::Object(manifest);
        let runtime = &manifest["devEngines"]["runtime"];
        let runtimes = runtime.as_array().cloned().unwrap_or_else(|| vec![runtime.clone()]);
        let is_node =
            |of: &&Value| of["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("node"));
        let engine = runtimes.iter().find(is_node).map(|of| &of["version"]);
        let all = [Some(&manifest["volta"]["node"]), engine, Some(&manifest["engines"]["node"])];
        return all.into_iter().flatten().find_map(|version| version.as_str().map(str::to_owned));
    }
    // Its tables are the action's.
    if name.ends_with(".toml") {
        return None;
    }
    let tool = of_tool_versions(text, &["node", "nodejs"]);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let text = tool.or(first.filter(|line| !line.contains(char::is_whitespace)))?;
    Some(text.strip_prefix('v').unwrap_or(text).to_owned())
}

pub(super) fn on_this_machine() -> Machine {
    let more = managed("NVM_DIR", "bin", "versions/node");
    let found = programs(&more, |name| name == "node").into_iter().filter_map(|path| {
        let said = said(program(&path).arg("--version"))?;
        let version = version(&said)?;
        Some((version.clone(), Found { version: version.to_string(), program: path, cached: None }))
    });
    Machine { found: found.collect(), unusable: Vec::new() }
}

pub(super) fn set_up(
    order: &SetupOrder,
    chosen: &[Found],
    say: &mut dyn Write,
) -> Result<(), SetupError> {
    let mut path = variable("PATH");
    if let Some(found) = chosen.last() {
        path = enter(order.tool, found, &COMPANIONS, say)?;
        if found.cached.is_none() {
            // What the job installs for all is its own, and not the machine's.
            let prefix = temp().join("_tools/npm");
            fs::create_dir_all(prefix.join("bin"))
                .map_err(|error| SetupError::Write(prefix.clone(), error))?;
            export("NPM_CONFIG_PREFIX", &prefix.to_string_lossy())?;
            add_path(&prefix.join("bin"))?;
        }
    }
    writeln!(say, "::group::Environment details")?;
    for tool in ["node", "npm", "yarn"] {
        let version = said(program("env").args([tool, "--version"]).envs([("PATH", &path)]));
        let version = version.unwrap_or_default();
        writeln!(say, "{tool}: {}", shown(&version))?;
        if tool == "node" {
            output("node-version", &version)?;
        }
    }
    writeln!(say, "::endgroup::")?;
    let registry = order.input("registry-url");
    if !registry.is_empty() {
        configure_registry(registry, order.input("scope"))?;
    }
    add_matchers(say, &MATCHERS)
}

/// Has npm speak to a registry, as who the variable `NODE_AUTH_TOKEN` says.
fn configure_registry(url: &str, scope: &str) -> Result<(), SetupError> {
    let file = temp().join(".npmrc");
    let url = format!("{}/", url.trim_end_matches('/'));
    let owner = variable("GITHUB_REPOSITORY_OWNER");
    let scope = if scope.is_empty() && url.contains("npm.pkg.github.com") { &owner } else { scope };
    let scope = match scope.trim_start_matches('@') {
        "" => String::new(),
        scope => format!("@{}:", scope.to_lowercase()),
    };
    let setting = format!("{scope}registry");
    let there = fs::read_to_string(&file).unwrap_or_default();
    let mut lines: Vec<&str> = there.lines().collect();
    lines.retain(|line| !line.to_lowercase().starts_with(&setting));
    let (_, address) = url.split_once(':').unwrap_or(("", &url));
    let token = format!("{address}:_authToken=${{NODE_AUTH_TOKEN}}");
    let registry = format!("{setting}={url}");
    lines.extend([token.as_str(), registry.as_str()]);
    fs::write(&file, lines.join("\n")).map_err(|error| SetupError::Write(file.clone(), error))?;
    export("NPM_CONFIG_USERCONFIG", &file.to_string_lossy())?;
    // One that nobody gave is not there in later steps either.
    match std::env::var("NODE_AUTH_TOKEN") {
        Ok(token) => export("NODE_AUTH_TOKEN", &token),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_versions_in_many_ways() {
        let package = r#"{"engines": {"node": ">=18"}, "volta": {"node": "20.1.0"}}"#;
        let engines =
            r#"{"devEngines": {"runtime": [{"name": "bun"}, {"name": "Node", "version": "22"}]}}"#;
        for (name, text, version) in [
            (".nvmrc", "v20.1\n", Some("20.1")),
            (".nvmrc", "# ours\nlts/iron", Some("lts/iron")),
            (".node-version", "\n18\n", Some("18")),
            (".tool-versions", "ruby 3\nnodejs 20.1.0 # why\n", Some("20.1.0")),
            ("package.json", package, Some("20.1.0")),
            ("package.json", engines, Some("22")),
            ("package.json", r#"{"name": "app"}"#, None),
            ("mise.toml", "[tools]\nnode = '20'", None),
            (".nvmrc", "", None),
        ] {
            assert_eq!(of_file(name, text).as_deref(), version, "{text}");
        }
    }
}
