//! `muster demo`: a small project, a server, a red verdict and a green one.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use muster_core::id::{RepoId, Sha};
use muster_core::report::ROLL_UP;
use muster_sys::clock;

use super::{GREEN, RED, print, runtime, until_terminated};
use crate::config::Config;
use crate::git::{Git, hook};
use crate::server::{self, Server};
use crate::store::reports::Unsent;

/// How long a verdict may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// By this file a folder is known as the demo's own.
const MARK: &str = ".made-by-muster-demo";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// End after the two verdicts: 0 when red and then green were seen, else 1.
    #[arg(long)]
    once: bool,
    /// The port to listen on.
    #[arg(long, default_value_t = 4567)]
    port: u16,
    /// The folder for the project and the server's data.
    #[arg(long, default_value = "muster-demo")]
    dir: PathBuf,
}

const WORKFLOW: &str = "\
name: CI
on: [push, pull_request]
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - name: Check the syntax
        run: sh -n greet.sh && sh -n test.sh
  test:
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        name: [Ana, Bo]
    steps:
      - uses: actions/checkout@v4
      - name: Test
        run: ./test.sh ${{ matrix.name }}
";
const GREET: &str = "#!/bin/sh\necho \"Hello, $1!\"\n";
const GREET_BROKEN: &str = "#!/bin/sh\necho \"Good evening, $2!\"\n";
const GREET_FIXED: &str = "#!/bin/sh\necho \"Good evening, $1!\"\n";
const TEST: &str = "#!/bin/sh
got=$(./greet.sh \"$1\")
case \"$got\" in
*\", $1!\") echo \"ok: $got\" ;;
*)
    echo \"not ok: expected a greeting for $1, got '$got'\"
    exit 1
    ;;
esac
";

/// The demo's folders.
struct Project {
    /// The bare repository that muster watches.
    origin: PathBuf,
    /// Where its commits are made.
    work: PathBuf,
    data: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    runtime()?.block_on(demo(arguments))
}

async fn demo(arguments: &Arguments) -> anyhow::Result<u8> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let listener = server::bind(address)
        .await
        .with_context(|| format!("port {} is taken; choose another with --port", arguments.port))?;
    let project = Project::open(&arguments.dir)?;
    let port = listener.local_addr()?.port();
    let server = Server::start(config(&project, port), listener).await?;
    let terminated = until_terminated()?;
    let id = watch(&server, &project).await?;
    print(format!(
        "muster demo at http://127.0.0.1:{port}/ (project in {})",
        arguments.dir.display()
    ));
    let seen = tokio::select! {
        seen = show(&server, &project, &id) => seen?,
        () = terminated.cancelled() => false,
    };
    if !arguments.once {
        print(format!("serving; push to {} to see more, Ctrl-C to end", project.origin.display()));
        terminated.cancelled().await;
    }
    server.stop().await;
    Ok(if seen { GREEN } else { RED })
}

fn config(project: &Project, port: u16) -> Config {
    Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        data: project.data.clone(),
        public_url: format!("http://127.0.0.1:{port}"),
        public_read: true,
        ..Config::default()
    }
}

/// Makes the server watch the project, once.
async fn watch(server: &Server, project: &Project) -> anyhow::Result<RepoId> {
    let store = &server.shared.store;
    let location = project.origin.to_string_lossy().into_owned();
    if let Some(known) = store.repositories().await?.into_iter().find(|known| known.name == "demo")
    {
        return Ok(known.id());
    }
    let branch = "main".to_owned();
    let id =
        store.add_repository("demo".to_owned(), location, branch, None, clock::now_ms()).await?;
    server.shared.wake.watch.notify_one();
    hook::install(&project.origin, &server.shared.data.nudges().join("demo"))?;
    // What is there when muster first looks starts nothing, so the first push comes after it.
    let seen = async {
        loop {
            let repository = store.repository(&id).await?;
            if repository.is_some_and(|repository| repository.seen_at.is_some()) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.context("the project was not looked at")??;
    Ok(id)
}

/// Pushes what fails and then its fix; returns whether the verdicts were red and green.
async fn show(server: &Server, project: &Project, id: &RepoId) -> anyhow::Result<bool> {
    let branch = project.new_branch()?;
    let broken = project.push(&branch, GREET_BROKEN, "Greet in the evening")?;
    print(format!("\npushed {} to `{branch}`: its tests fail", broken.short()));
    let red = verdict(server, id, &broken).await?;
    print(if red == "failure" { "red, as it should be" } else { "not red, as it should be" });
    let fixed = project.push(&branch, GREET_FIXED, "Greet who is there")?;
    print(format!("\npushed {} to `{branch}`: the fix", fixed.short()));
    let green = verdict(server, id, &fixed).await?;
    print(if green == "success" { "green" } else { "not green, as it should be" });
    Ok(red == "failure" && green == "success")
}

/// Prints the verdicts of a commit as they come; returns the roll-up's last state.
async fn verdict(server: &Server, id: &RepoId, sha: &Sha) -> anyhow::Result<String> {
    let start = clock::monotonic();
    let mut printed: Vec<String> = Vec::new();
    loop {
        let reports = server.shared.store.reports_of(id, sha).await?;
        let (over, jobs): (Vec<Unsent>, Vec<Unsent>) = reports
            .into_iter()
            .filter(|report| report.state != "pending")
            .partition(|report| report.context == ROLL_UP);
        // The roll-up is final once no job is open, and so comes last.
        for report in jobs.iter().chain(&over) {
            if !printed.contains(&report.context) {
                printed.push(report.context.clone());
                let Unsent { context, state, description, path, .. } = report;
                let url = &server.shared.config.public_url;
                print(format!("  {state:<8} {context:<12} {url}{path}  {description}"));
            }
        }
        if let Some(over) = over.into_iter().next() {
            return Ok(over.state);
        }
        if start.elapsed() > PATIENCE {
            print(format!("no verdict within {} s", PATIENCE.as_secs()));
            return Ok("pending".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Project {
    /// Opens the demo's folder, or makes it; refuses one that holds anything else.
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let mark = folder.join(MARK);
        if folder.exists() && !mark.is_file() {
            let empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                bail!(
                    "{} was not made by muster demo; choose another with --dir",
                    folder.display()
                );
            }
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let project = Self {
            origin: folder.join("project.git"),
            work: folder.join("work"),
            data: folder.join("data"),
        };
        if !project.work.join(".git").is_dir() {
            project.make(&folder).context("cannot make the demo's project")?;
        }
        fs::write(folder.join(MARK), "muster demo uses this folder again.\n")?;
        Ok(project)
    }

    fn make(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, bare) in [(&self.origin, true), (&self.work, false)] {
            let git =
                Git::new(folder, "init").args(["--quiet", "--initial-branch=main", "--template="]);
            if bare { git.arg("--bare") } else { git }.arg(path).bytes()?;
        }
        let workflows = self.work.join(".github/workflows");
        fs::create_dir_all(&workflows)?;
        fs::write(workflows.join("ci.yml"), WORKFLOW)?;
        for (name, text) in [("greet.sh", GREET), ("test.sh", TEST)] {
            let path = self.work.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        self.commit("Greet people")?;
        self.push_ref("main")
    }

    /// Starts a branch that is not there yet, from main.
    fn new_branch(&self) -> anyhow::Result<String> {
        let listed = Git::new(&self.work, "for-each-ref")
            .args(["--format=%(refname:short)", "refs/heads/evening-*"])
            .text()?;
        let branch = format!("evening-{}", listed.lines().count() + 1);
        Git::new(&self.work, "switch").args(["--quiet", "--create", &branch, "main"]).bytes()?;
        Ok(branch)
    }

    /// Commits and pushes another greeting.
    fn push(&self, branch: &str, greet: &str, message: &str) -> anyhow::Result<Sha> {
        fs::write(self.work.join("greet.sh"), greet)?;
        self.commit(message)?;
        self.push_ref(branch)?;
        Ok(Git::new(&self.work, "rev-parse").arg("HEAD").sha()?)
    }

    fn commit(&self, message: &str) -> anyhow::Result<()> {
        Git::new(&self.work, "add").args(["--all"]).bytes()?;
        Git::new(&self.work, "commit")
            .args(["--quiet", "--message", message])
            .env("GIT_AUTHOR_NAME", "Ana")
            .env("GIT_AUTHOR_EMAIL", "ana@example.org")
            .env("GIT_COMMITTER_NAME", "Ana")
            .env("GIT_COMMITTER_EMAIL", "ana@example.org")
            .bytes()?;
        Ok(())
    }

    fn push_ref(&self, branch: &str) -> anyhow::Result<()> {
        Git::new(&self.work, "push").args(["--quiet"]).arg(&self.origin).arg(branch).bytes()?;
        Ok(())
    }
}
