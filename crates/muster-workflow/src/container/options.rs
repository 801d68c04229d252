//! `options`: what `docker create` would be told, word by word.

use crate::text::one_line;
use crate::words::list;

/// What can be asked of a container beside its image, variables, ports and volumes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// `--user`: a name or number, and a group.
    pub user: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--env`, beside the key `env`.
    pub env: Vec<(String, String)>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--health-cmd` and its like.
    pub health: Option<Health>,
    /// `--cpus`.
    pub cpus: Option<f64>,
    /// `--memory`, in bytes.
    pub memory: Option<i64>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<i64>,
    /// `--tmpfs`: where, and how.
    pub tmpfs: Vec<(String, String)>,
    /// `--add-host`.
    pub add_host: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--network-alias` and `--name`: names by which others of the job find it.
    pub aliases: Vec<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// `--security-opt`.
    pub security: Vec<String>,
    /// `--device`.
    pub devices: Vec<String>,
    /// `--volume`, before these are added to those of the key `volumes`.
    pub volumes: Vec<String>,
    /// `--publish`, before these are added to those of the key `ports`.
    pub ports: Vec<String>,
    /// The options among them that open this machine to the container.
    pub opening: Vec<&'static str>,
}

/// How an engine finds out whether a container is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `--health-cmd`, for a shell; none with `--no-healthcheck`.
    pub command: Option<String>,
    /// `--no-healthcheck`.
    pub is_off: bool,
    /// `--health-interval`, in nanoseconds.
    pub interval: Option<i64>,
    /// `--health-timeout`, in nanoseconds.
    pub timeout: Option<i64>,
    /// `--health-start-period`, in nanoseconds.
    pub start_period: Option<i64>,
    /// `--health-retries`.
    pub retries: Option<i64>,
}

/// A bound of the system's on the processes of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name, such as `nofile`.
    pub name: String,
    /// The bound in force.
    pub soft: i64,
    /// How far it can be raised.
    pub hard: i64,
}

/// Flags that take no value.
const FLAGS: [&str; 6] = ["init", "no-healthcheck", "privileged", "read-only", "rm", "tty"];
/// What opens this machine to a container.
const OPENING: [&str; 4] = ["cap-add", "device", "privileged", "security-opt"];
/// One letter for the name of an option.
const SHORT: [(&str, &str); 9] = [
    ("-e", "env"),
    ("-h", "hostname"),
    ("-l", "label"),
    ("-m", "memory"),
    ("-p", "publish"),
    ("-t", "tty"),
    ("-u", "user"),
    ("-v", "volume"),
    ("-w", "workdir"),
];
/// What is known, for who has mistaken a name.
const KNOWN: [&str; 34] = [
    "--add-host",
    "--cap-add",
    "--cap-drop",
    "--cpus",
    "--device",
    "--dns",
    "--env",
    "--group-add",
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-period",
    "--health-timeout",
    "--hostname",
    "--init",
    "--label",
    "--memory",
    "--memory-swap",
    "--name",
    "--network-alias",
    "--no-healthcheck",
    "--platform",
    "--privileged",
    "--publish",
    "--read-only",
    "--restart",
    "--rm",
    "--security-opt",
    "--shm-size",
    "--tmpfs",
    "--ulimit",
    "--user",
    "--volume",
    "--workdir",
];

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or not supported.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words(text)?.into_iter();
        while let Some(word) = words.next() {
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) if word.starts_with('-') => {
                    (name.to_owned(), Some(value.to_owned()))
                }
                _ => (word.clone(), None),
            };
            let long = SHORT.iter().find(|(short, _)| *short == name).map(|(_, long)| *long);
            let Some(name) = long.or_else(|| name.strip_prefix("--")) else {
                return Err(format!("`{}` is no option", one_line(&word)));
            };
            if !FLAGS.contains(&name) && value.is_none() {
                value = Some(words.next().ok_or_else(|| format!("`--{name}` needs a value"))?);
            }
            options.set(name, value.as_deref())?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let is_on = value.is_none_or(|value| value == "true");
        let value = value.unwrap_or_default();
        let pair = |value: &str| {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            (name.to_owned(), value.to_owned())
        };
        let wrong = |what: &str| format!("`--{name}`: `{}` is no {what}", one_line(value));
        let health = self.health.get_or_insert_default();
        let time = || nanoseconds(value).ok_or_else(|| wrong("time, such as `10s`"));
        let size = || bytes(value).ok_or_else(|| wrong("size, such as `512m`"));
        let count = || value.parse::<i64>().map_err(|_| wrong("number"));
        match name {
            "user" => self.user = Some(value.to_owned()),
            "hostname" => self.hostname = Some(value.to_owned()),
            "workdir" => self.workdir = Some(value.to_owned()),
            "env" if value.contains('=') => self.env.push(pair(value)),
            "env" => return Err(wrong("variable: write `NAME=VALUE`")),
            "label" => self.labels.push(pair(value)),
            "health-cmd" => health.command = Some(value.to_owned()),
            "health-interval" => health.interval = Some(time()?),
            "health-timeout" => health.timeout = Some(time()?),
            "health-start-period" => health.start_period = Some(time()?),
            "health-retries" => health.retries = Some(count()?),
            "no-healthcheck" => health.is_off = is_on,
            "cpus" => {
                let cpus = value.parse().ok().filter(|cpus: &f64| cpus.is_finite() && *cpus > 0.0);
                self.cpus = Some(cpus.ok_or_else(|| wrong("number of processors"))?);
            }
            "memory" => self.memory = Some(size()?),
            "shm-size" => self.shm_size = Some(size()?),
            "tmpfs" => {
                let (path, how) = value.split_once(':').unwrap_or((value, ""));
                self.tmpfs.push((path.to_owned(), how.to_owned()));
            }
            "add-host" => self.add_host.push(value.replacen('=', ":", 1)),
            "dns" => self.dns.push(value.to_owned()),
            "ulimit" => self.ulimits.push(ulimit(value).ok_or_else(|| wrong("bound"))?),
            "network-alias" | "name" => self.aliases.push(value.to_owned()),
            "group-add" => self.groups.push(value.to_owned()),
            "platform" => self.platform = Some(value.to_owned()),
            "read-only" => self.read_only = is_on,
            "cap-drop" => self.cap_drop.push(value.to_owned()),
            "cap-add" => self.cap_add.push(value.to_owned()),
            "privileged" => self.privileged = is_on,
            "security-opt" => self.security.push(value.to_owned()),
            "device" => self.devices.push(value.to_owned()),
            "volume" => self.volumes.push(value.to_owned()),
            "publish" => self.ports.push(value.to_owned()),
            // Every container here has an init, and ends with its job; there is no terminal, and swap is the
            // machine's matter.
            "init" | "rm" | "tty" | "restart" | "memory-swap" => {}
            "network" | "entrypoint" => {
                return Err(format!("`--{name}` is not supported, as at GitHub"));
            }
            _ => {
                let known = list(&KNOWN);
                return Err(format!("`--{}` is not supported; there are {known}", one_line(name)));
            }
        }
        if *self.health.get_or_insert_default() == Health::default() {
            self.health = None;
        }
        if let Some(name) =
            OPENING.iter().find(|opening| **opening == name).filter(|_| is_on || !value.is_empty())
        {
            self.opening.push(name);
        }
        Ok(())
    }
}

/// Splits a command line into its words, by quotes and backslashes.
///
/// # Errors
///
/// When a quote is not closed.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    shlex::split(text).ok_or_else(|| format!("`{}` has a quote that is not closed", one_line(text)))
}

/// Reads a size: a number, and `b`, `k`, `m` or `g`.
fn bytes(text: &str) -> Option<i64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('b').filter(|text| !text.is_empty()).unwrap_or(&text);
    let (number, shift) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(number) => (
            number,
            [('k', 10), ('m', 20), ('g', 30)]
                .into_iter()
                .find(|(unit, _)| text.ends_with(*unit))?
                .1,
        ),
        None => (text, 0),
    };
    number.parse::<i64>().ok().filter(|number| *number > 0)?.checked_mul(1 << shift)
}

/// Reads a time as Go writes it: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (unit, length) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.checked_add(number.checked_mul(length)?)?;
    }
    Some(total).filter(|_| !text.is_empty())
}

fn ulimit(text: &str) -> Option<Ulimit> {
    let (name, bounds) = text.split_once('=')?;
    let (soft, hard) = bounds.split_once(':').unwrap_or((bounds, bounds));
    Some(Ulimit { name: name.to_owned(), soft: soft.parse().ok()?, hard: hard.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let options = Options::read(
            "--health-cmd \"pg_isready -U 'me'\" --health-interval=10s --health-timeout 1m30s --health-retries 5 \
             -u 1000:1000 -e A=b=c --cpus 1.5 --memory 512m --shm-size=1g --ulimit nofile=1024:2048 \
             --tmpfs /run:size=1m --init --name db --add-host=a=10.0.0.1",
        )
        .unwrap();
        let health = options.health.unwrap();
        assert_eq!(health.command.as_deref(), Some("pg_isready -U 'me'"));
        assert_eq!((health.interval, health.timeout), (Some(10_000_000_000), Some(90_000_000_000)));
        assert_eq!((options.memory, options.shm_size), (Some(512 << 20), Some(1 << 30)));
        assert_eq!(options.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(options.ulimits, [Ulimit { name: "nofile".into(), soft: 1024, hard: 2048 }]);
        assert_eq!(options.tmpfs, [("/run".to_owned(), "size=1m".to_owned())]);
        assert_eq!(
            (options.aliases, options.add_host),
            (vec!["db".into()], vec!["a:10.0.0.1".into()])
        );
        assert!(options.opening.is_empty());
        let open = Options::read("--privileged --cap-add SYS_ADMIN --device=/dev/kvm").unwrap();
        assert_eq!(open.opening, ["privileged", "cap-add", "device"]);
        assert_eq!(Options::read("").unwrap(), Options::default());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let wrong = [
            "redis",
            "--pid host",
            "--network host",
            "--memory much",
            "--user",
            "--health-cmd 'a",
            "-e A",
            "--cpus -1",
        ];
        let told = wrong.map(|text| Options::read(text).unwrap_err());
        let told = told.iter().map(|text| text.split(" there are").next().unwrap_or(text));
        assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
        `redis` is no option
        `--pid` is not supported;
        `--network` is not supported, as at GitHub
        `--memory`: `much` is no size, such as `512m`
        `--user` needs a value
        `--health-cmd 'a` has a quote that is not closed
        `--env`: `A` is no variable: write `NAME=VALUE`
        `--cpus`: `-1` is no number of processors
        ");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[-a-z=:'\" 0-9\\\\äßmkg]{0,60}") {
            drop(Options::read(&text));
            let _ = (bytes(&text), nanoseconds(&text));
        }
    }
}
