//! `muster repo`: which repositories the server watches.

use reqwest::Method;
use serde_json::json;

use super::client::{Client, ServerArguments};
use super::{GREEN, print, runtime};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Watch a repository: what is pushed from now on is run.
    Add {
        /// The name that it goes by, such as `owner/name`.
        name: String,
        /// A path on the server's machine, or a URL that git understands; without one the
        /// repository is at GitHub.
        location: Option<String>,
        /// Make a key for this repository alone, which its code host must let in, and reach it by SSH.
        #[arg(long, requires = "location")]
        deploy_key: bool,
    },
    /// Say which branches and tags are protected: runs of pushes to them get the secrets with `--trust protected`.
    Protect {
        /// The repository's name.
        name: String,
        /// Filter patterns, of branches or, where they begin with `refs/`, of whole refs, such as `main`, `release/*` or
        /// `refs/tags/v*`. Nothing else is protected then.
        #[arg(required_unless_present = "default")]
        patterns: Vec<String>,
        /// The default branch alone, as it is where nobody has said anything.
        #[arg(long, conflicts_with = "patterns")]
        default: bool,
    },
    /// List the repositories.
    List,
    /// Stop watching a repository, and forget its runs.
    Remove {
        /// Its name.
        name: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        match &arguments.command {
            Command::Add { name, location, deploy_key } => {
                // A path is meant from here, not from where the server was started.
                let location =
                    location.as_ref().map(|location| match std::fs::canonicalize(location) {
                        Ok(path) => path.to_string_lossy().into_owned(),
                        Err(_) => location.clone(),
                    });
                let body = json!({ "name": name, "location": location, "deploy_key": deploy_key });
                client.post("/api/v1/repositories", &body).await?;
                let place = location.unwrap_or_else(|| "GitHub".to_owned());
                print(format!("watching {name} at {place}"));
            }
            Command::Protect { name, patterns, default } => {
                let body = json!({ "patterns": (!default).then_some(patterns) });
                let path = format!("/api/v1/protection/{name}");
                client.send(Method::PUT, &path, Some(&body)).await?;
                let what =
                    if *default { "its default branch".to_owned() } else { patterns.join(" ") };
                print(format!("protected in {name}: {what}"));
            }
            Command::List => {
                let answer = client.get("/api/v1/repositories").await?;
                for repository in answer["repositories"].as_array().into_iter().flatten() {
                    let text = |key: &str| repository[key].as_str().unwrap_or_default();
                    let unseen = text("kind") == "git" && repository["seen_at"].is_null();
                    let problem = match text("problem") {
                        "" if unseen => "  not looked at yet".to_owned(),
                        "" => String::new(),
                        problem => format!("  problem: {problem}"),
                    };
                    let patterns = repository["protected"].as_array().into_iter().flatten();
                    let patterns: Vec<&str> = patterns.filter_map(|it| it.as_str()).collect();
                    let protected = match patterns.as_slice() {
                        [only] if *only == text("default_branch") => String::new(),
                        several => format!("  protected: {}", several.join(" ")),
                    };
                    print(format!("{}  {}{protected}{problem}", text("name"), text("location")));
                }
            }
            Command::Remove { name } => {
                client.delete(&format!("/api/v1/repositories/{name}")).await?;
                print(format!("{name} is not watched any more"));
            }
        }
        Ok(GREEN)
    })
}
