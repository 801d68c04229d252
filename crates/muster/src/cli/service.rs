//! `muster service`: muster as a service of systemd, under a user of its own.
//!
//! systemd holds the socket: while the server is started anew, as after an upgrade, callers wait and none is
//! refused. Jobs go on meanwhile, for only the server's own process is stopped.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use muster_sys::process::Program;

use super::{GREEN, print};
use crate::config::Config;

/// Where systemd looks for units of the administrator.
const UNITS: &str = "/etc/systemd/system";
/// Where the service keeps its configuration and its data.
const HOME: &str = "/var/lib/muster";
const USER: &str = "muster";
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the units, make the user, and start the service.
    Install(InstallArguments),
    /// Stop the service and remove its units; its user and data stay.
    Uninstall(UnitArguments),
}

#[derive(Debug, clap::Args)]
struct InstallArguments {
    #[command(flatten)]
    units: UnitArguments,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/muster/muster.toml")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct UnitArguments {
    /// Only write the units, or remove them, in this folder: for a package, or to look at them.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::Install(arguments) => install(arguments),
        Command::Uninstall(arguments) => uninstall(arguments),
    }
}

fn install(arguments: &InstallArguments) -> anyhow::Result<u8> {
    let program = std::env::current_exe().context("cannot find muster itself")?;
    let file = std::path::absolute(&arguments.config)?;
    let config = Config::load(&file)?;
    let (listen, data) = (config.listen.to_string(), std::path::absolute(&config.data)?);
    for path in [&program, &file, &data] {
        let text = path.to_string_lossy();
        if text.contains(['%', ' ', '"', '\'', '\\', '\n']) {
            bail!(
                "a unit cannot name {text}: give it a path without blanks, quotes and percent signs"
            );
        }
    }
    let units =
        [("muster.socket", socket(&listen)), ("muster.service", service(&program, &file, &data))];
    if let Some(folder) = &arguments.units.into {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        return write(folder, &units);
    }
    only_root()?;
    if ["/home", "/root", "/run/user"].iter().any(|home| program.starts_with(home)) {
        bail!(
            "the service does not see homes: copy {} to /usr/local/bin and install from there",
            program.display()
        );
    }
    make_user()?;
    if !file.exists() {
        bail!(
            "there is no {}: make it first, by `cd {HOME} && muster init` as {USER}, for example \
             `setpriv --reuid={USER} --regid={USER} --clear-groups muster init` in that folder",
            file.display()
        );
    }
    write(Path::new(UNITS), &units)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", "muster.socket", "muster.service"])?;
    print("muster runs; `systemctl status muster` and `journalctl -u muster` tell of it");
    Ok(GREEN)
}

fn uninstall(arguments: &UnitArguments) -> anyhow::Result<u8> {
    let folder = arguments.into.as_deref().unwrap_or(Path::new(UNITS));
    if arguments.into.is_none() {
        only_root()?;
        systemctl(&["disable", "--now", "muster.service", "muster.socket"])?;
    }
    for name in ["muster.socket", "muster.service"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| folder.join(name).display().to_string());
            }
            Err(_) => {}
            Ok(()) => print(format!("removed {}", folder.join(name).display())),
        }
    }
    if arguments.into.is_none() {
        systemctl(&["daemon-reload"])?;
        print(format!("the user {USER} and what is in {HOME} stay"));
    }
    Ok(GREEN)
}

fn write(folder: &Path, units: &[(&str, String)]) -> anyhow::Result<u8> {
    for (name, text) in units {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        print(format!("wrote {}", path.display()));
    }
    Ok(GREEN)
}

fn only_root() -> anyhow::Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        bail!("systemd does not run here: `--into FOLDER` only writes the units");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("only root can do that: run it with sudo");
    }
    Ok(())
}

/// Makes the service's user and its folder, where they are not there yet.
fn make_user() -> anyhow::Result<()> {
    let id = || -> anyhow::Result<Option<u32>> {
        let asked = Program::new("id").args(["-u", USER]).output(LIMIT, 1 << 16)?;
        Ok(String::from_utf8_lossy(&asked.stdout).trim().parse().ok())
    };
    if id()?.is_none() {
        let made = Program::new("useradd")
            .args(["--system", "--user-group", "--home-dir", HOME, "--shell", "/usr/sbin/nologin"])
            .arg(USER)
            .output(LIMIT, 1 << 16)?;
        if !made.status.success() {
            bail!("cannot make the user: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
    }
    let user = id()?.with_context(|| format!("there is no user {USER}"))?;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(HOME).context(HOME)?;
    chown(HOME, Some(user), Some(user)).context(HOME)
}

fn systemctl(args: &[&str]) -> anyhow::Result<()> {
    let done = Program::new("systemctl").args(args).output(LIMIT, 1 << 20)?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        bail!("`systemctl {}` failed: {said}", args.join(" "));
    }
    Ok(())
}

fn socket(listen: &str) -> String {
    format!(
        "[Unit]\n\
         Description=muster's socket, which outlives a restart of the server\n\
         \n\
         [Socket]\n\
         ListenStream={listen}\n\
         Backlog=1024\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n"
    )
}

fn service(program: &Path, config: &Path, data: &Path) -> String {
    format!(
        "[Unit]\n\
         Description=muster, a CI server\n\
         Requires=muster.socket\n\
         After=network-online.target muster.socket\n\
         Wants=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={program} serve --config {config}\n\
         User={USER}\n\
         Group={USER}\n\
         Environment=HOME={HOME}\n\
         WorkingDirectory={HOME}\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         TimeoutStopSec=30\n\
         # Jobs go on while the server is started anew.\n\
         KillMode=process\n\
         # Jobs make namespaces and mount /proc in them: neither is restricted, and nothing below /proc is\n\
         # covered, as ProtectHostname and ProtectKernelTunables would.\n\
         NoNewPrivileges=yes\n\
         CapabilityBoundingSet=\n\
         AmbientCapabilities=\n\
         ProtectSystem=strict\n\
         ReadWritePaths={HOME} {data}\n\
         ProtectHome=yes\n\
         PrivateTmp=yes\n\
         PrivateDevices=yes\n\
         ProtectClock=yes\n\
         ProtectKernelModules=yes\n\
         RestrictSUIDSGID=yes\n\
         RestrictRealtime=yes\n\
         LockPersonality=yes\n\
         SystemCallArchitectures=native\n\
         UMask=0027\n\
         LimitNOFILE=65536\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program = program.display(),
        config = config.display(),
        data = data.display(),
    )
}
