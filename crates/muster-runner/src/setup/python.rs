//! Python.

use std::io::Write;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::here::{Machine, managed, programs};
use super::wanted::{
    MOST, Unable, Versions, Wanted, itself, name_of, of_tool_versions, read_file, shown, version,
};
use super::{
    Found, MAKES, MAX_ANSWER, SetupError, SetupOrder, add_matchers, add_path, export, output,
    program, said, temp, variable,
};

/// What its action is given, in any of its versions.
pub(super) const INPUTS: [&str; 11] = [
    "python-version",
    "python-version-file",
    "cache",
    "architecture",
    "check-latest",
    "token",
    "cache-dependency-path",
    "update-environment",
    "allow-prereleases",
    "freethreaded",
    "pip-version",
];

const MATCHERS: [(&str, &str); 1] = [("python.json", include_str!("matchers/python.json"))];
/// What is read where nothing names a version.
const DEFAULT_FILE: &str = ".python-version";
/// What a Python says of itself: what it is, its version, and whether it can make environments.
const ABOUT: &str = "import platform, importlib.util as util; print(platform.python_implementation(), \
     platform.python_version(), all(util.find_spec(name) for name in ('venv', 'ensurepip')))";

pub(super) fn wanted(order: &SetupOrder) -> Result<Wanted, Unable> {
    let more = ["cache", "freethreaded", "pip-version"];
    let mut wanted = Wanted { itself: itself(order, &more), ..Wanted::default() };
    let (given, file) = (order.input("python-version"), order.input("python-version-file"));
    let texts: Vec<String> = match (given, file) {
        ("", "") => {
            if !order.workspace.join(DEFAULT_FILE).exists() {
                wanted.notes.push(
                    "::warning::The `python-version` input is not set.  The version of Python currently in `PATH` will be used."
                        .to_owned(),
                );
                return Ok(wanted);
            }
            of_file(order, DEFAULT_FILE, &mut wanted)?
        }
        ("", file) => of_file(order, file, &mut wanted)?,
        (given, file) => {
            if !file.is_empty() {
                wanted.notes.push(
                    "::warning::Both python-version and python-version-file inputs are specified, only python-version will be used."
                        .to_owned(),
                );
            }
            let lines = given.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        }
    };
    if texts.len() > MOST {
        let count = texts.len();
        return Err(Unable::Wrong(format!(
            "{count} versions of Python are wanted, {MOST} at most"
        )));
    }
    let early = order.is("allow-prereleases", false);
    for text in texts {
        wanted.versions.push(Versions::read_as(&text, &range(&text, early)?)?);
    }
    Ok(wanted)
}

/// Returns what a version means, as a range of npm's.
fn range(text: &str, early: bool) -> Result<String, Unable> {
    let theirs = |what: &str| Err(Unable::Itself(format!("`{}` is {what}", shown(text))));
    if text.starts_with("pypy") || text.starts_with("graalpy") {
        return theirs("another Python than CPython");
    }
    let (plain, is_dev) = match text.strip_suffix("-dev") {
        Some(plain) => (plain, true),
        None => (text, false),
    };
    let numbers: Vec<&str> = plain.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if plain.ends_with('t') && plain.trim_end_matches('t').split('.').all(|part| is_number(&part)) {
        return theirs("free-threaded");
    }
    if numbers.len() == 2 && numbers.iter().all(is_number) && (is_dev || early) {
        return Ok(format!("~{plain}.0-0"));
    }
    // One that is not out yet, as Python writes it.
    let of_release = numbers.last().copied().unwrap_or_default();
    let end = of_release.find(['a', 'b', 'r']).filter(|_| numbers.len() == 3);
    Ok(match end {
        Some(end) if is_number(&&of_release[..end]) => {
            format!("{}.{}.{}-{}", numbers[0], numbers[1], &of_release[..end], &of_release[end..])
        }
        _ => text.to_owned(),
    })
}

fn of_file(order: &SetupOrder, path: &str, wanted: &mut Wanted) -> Result<Vec<String>, Unable> {
    let text = read_file(order, path)?;
    let name = name_of(path);
    let found = if name.ends_with(".toml") {
        of_project(&text).into_iter().collect()
    } else if name == ".tool-versions" {
        of_tool_versions(&text, &["python"]).map(str::to_owned).into_iter().collect()
    } else if name.contains("Pipfile") {
        of_pipfile(&text).into_iter().collect()
    } else {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| line.split('/').next().unwrap_or(line).to_owned()).collect::<Vec<_>>()
    };
    if found.is_empty() {
        let path = shown(path);
        return Err(Unable::Itself(format!("muster finds no version of Python in {path}")));
    }
    wanted.notes.push(format!("Resolved {} as {}", shown(path), shown(&found.join(", "))));
    Ok(found)
}

/// Reads what a `pyproject.toml` asks for, as a range of npm's.
fn of_project(text: &str) -> Option<String> {
    let project: Table = text.parse().ok()?;
    let wanted = match project.get("project") {
        Some(project) => project.get("requires-python")?,
        None => project.get("tool")?.get("poetry")?.get("dependencies")?.get("python")?,
    };
    wanted.as_str().map(|wanted| wanted.replace(',', " "))
}

fn of_pipfile(text: &str) -> Option<String> {
    let file: Table = text.parse().ok()?;
    let requires = file.get("requires")?;
    let wanted = requires.get("python_full_version").or_else(|| requires.get("python_version"))?;
    Value::as_str(wanted).map(str::to_owned)
}

pub(super) fn on_this_machine() -> Machine {
    let mut machine = Machine::default();
    let counts = |name: &str| {
        let rest = name.strip_prefix("python3");
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    };
    for path in programs(&managed("PYENV_ROOT", "shims", "versions"), counts) {
        let Some(said) = said(program(&path).args(["-I", "-c", ABOUT])) else { continue };
        let [kind, number, makes] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            continue;
        };
        let Some(version) = version(number).filter(|_| kind == "CPython") else { continue };
        if makes == "True" {
            let found = Found { version: number.to_owned(), program: path, cached: None };
            machine.found.push((version, found));
        } else {
            let why =
                format!("{number} without `venv` and `ensurepip` (Debian's package python3-venv)");
            machine.unusable.push(why);
        }
    }
    machine
}

pub(super) fn set_up(
    order: &SetupOrder,
    wanted: &Wanted,
    chosen: &[Found],
    say: &mut dyn Write,
) -> Result<(), SetupError> {
    if !wanted.versions.is_empty() {
        writeln!(say, "::group::Installed versions")?;
        for found in chosen {
            let root = match &found.cached {
                Some(root) => root.clone(),
                None => environment(found, say)?,
            };
            if order.is("update-environment", true) {
                update(&root, found)?;
            }
            output("python-version", &found.version)?;
            output("python-path", &root.join("bin/python").to_string_lossy())?;
            writeln!(say, "Successfully set up CPython ({})", found.version)?;
        }
        writeln!(say, "::endgroup::")?;
    }
    add_matchers(say, &MATCHERS)
}

/// Makes an environment of a Python of this machine: what a job installs goes there, and to nobody else.
fn environment(found: &Found, say: &mut dyn Write) -> Result<PathBuf, SetupError> {
    let root = temp().join("_tools").join(format!("python-{}", found.version));
    writeln!(say, "Found on this machine @ {}", found.program.display())?;
    let whole = ["bin/pip", "bin/python"].iter().all(|file| root.join(file).exists());
    if !whole {
        let make = program(&found.program).args(["-I", "-m", "venv"]).arg(&root).arg("--clear");
        let made = make.output(MAKES, MAX_ANSWER)?;
        if !made.status.success() {
            let said = [made.stdout, made.stderr].concat();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            let program = found.program.display();
            return Err(SetupError::Failed(format!("`{program} -m venv` has failed: {said}")));
        }
    }
    Ok(root)
}

/// Gives later steps the variables and folders of a Python.
fn update(root: &Path, found: &Found) -> Result<(), SetupError> {
    let text = root.to_string_lossy();
    for name in ["pythonLocation", "Python_ROOT_DIR", "Python2_ROOT_DIR", "Python3_ROOT_DIR"] {
        export(name, &text)?;
    }
    // An environment has no libraries of its own.
    if found.cached.is_some() {
        export("PKG_CONFIG_PATH", &format!("{text}/lib/pkgconfig"))?;
        let (own, there) = (format!("{text}/lib"), variable("LD_LIBRARY_PATH"));
        if !there.split(':').any(|folder| folder == own) {
            let there = if there.is_empty() { there } else { format!(":{there}") };
            export("LD_LIBRARY_PATH", &format!("{own}{there}"))?;
        }
    }
    add_path(root)?;
    add_path(&root.join("bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_is_a_range() {
        for (text, early, read) in [
            ("3.12", false, "3.12"),
            ("3.12", true, "~3.12.0-0"),
            ("3.13-dev", false, "~3.13.0-0"),
            ("3.13.0rc2", false, "3.13.0-rc2"),
            ("3.x", false, "3.x"),
            (">=3.9 <3.13", false, ">=3.9 <3.13"),
        ] {
            assert_eq!(range(text, early).as_deref(), Ok(read), "{text}");
        }
        for text in ["pypy3.10", "graalpy-24", "3.13t", "3.13t-dev"] {
            assert!(matches!(range(text, false), Err(Unable::Itself(_))), "{text}");
        }
    }

    #[test]
    fn projects_say_what_they_require() {
        let project = "[project]\nname = 'app'\nrequires-python = '>=3.9,<4'\n";
        assert_eq!(of_project(project).as_deref(), Some(">=3.9 <4"));
        let poetry = "[tool.poetry.dependencies]\npython = '^3.11'\n";
        assert_eq!(of_project(poetry).as_deref(), Some("^3.11"));
        assert_eq!(of_project("[project]\nname = 'app'\n"), None);
        assert_eq!(of_pipfile("[requires]\npython_version = '3.11'\n").as_deref(), Some("3.11"));
    }
}
