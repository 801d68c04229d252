//! Containers: that of a job, and the services beside it.
//!
//! Follows GitHub's [`jobs.<job_id>.container`](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idcontainer)
//! and `services`, and for `options` the command line of
//! [`docker create`](https://docs.docker.com/reference/cli/docker/container/create/).

mod options;

pub use options::{Health, Options, Ulimit, words};

use crate::expr::{Contexts, EvalError, Value};
use crate::keys;
use crate::template::Template;
use crate::text::one_line;
use crate::workflow::Env;

/// What every image may begin with.
pub const DOCKER: &str = "docker://";

/// A container as a workflow describes it.
#[derive(Debug, Clone)]
pub enum Container {
    /// Key by key; an image alone is one.
    Written(Box<Written>),
    /// One expression that gives an image, or an object of all that.
    Computed(Template),
}

/// What a workflow says of a container.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// `image`.
    pub image: Option<Template>,
    /// `credentials.username`.
    pub username: Option<Template>,
    /// `credentials.password`.
    pub password: Option<Template>,
    /// `env`.
    pub env: Env,
    /// `ports`.
    pub ports: Vec<Template>,
    /// `volumes`.
    pub volumes: Vec<Template>,
    /// `options`.
    pub options: Option<Template>,
    /// `entrypoint` of a service.
    pub entrypoint: Option<Template>,
    /// `command` of a service.
    pub command: Option<Template>,
}

/// A container that is wanted, with all that was computed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The image, without `docker://`.
    pub image: String,
    /// Who pulls it, and by which password.
    pub credentials: Option<(String, String)>,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// Its ports, and where this machine has them.
    pub ports: Vec<Port>,
    /// What is mounted in it.
    pub volumes: Vec<Volume>,
    /// What `docker create` would be told beside.
    pub options: Options,
    /// The words to start it by, in the place of the image's.
    pub entrypoint: Option<Vec<String>>,
    /// What those are given, in the place of the image's.
    pub command: Option<Vec<String>>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port inside.
    pub inside: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address of this machine, where one is named.
    pub address: Option<String>,
    /// The port of this machine; any that is free where none is named.
    pub outside: Option<u16>,
}

/// Something that is mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What it is.
    pub from: VolumeSource,
    /// Where it is inside.
    pub to: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What is mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A new one.
    New,
    /// One that others of the job may mount, too, by this name.
    Named(String),
    /// This path of the machine.
    Host(String),
}

impl Container {
    /// Finds out what is wanted; `None` where the image is empty, which is no container. `guarded` says whether
    /// strangers' text may not choose what runs, and with what.
    ///
    /// # Errors
    ///
    /// What has no value, or is nothing that a container can have.
    pub fn wanted(&self, contexts: &Contexts, guarded: bool) -> Result<Option<Wanted>, EvalError> {
        match self {
            Self::Written(written) => written.wanted(contexts, guarded),
            Self::Computed(template) => {
                if guarded && let Some(path) = template.reads_untrusted() {
                    let what =
                        format!("`{path}` holds text of a stranger, which would name an image");
                    return Err(EvalError::new(what));
                }
                from_value(&template.evaluate(contexts)?)
            }
        }
    }
}

impl Written {
    fn wanted(&self, contexts: &Contexts, guarded: bool) -> Result<Option<Wanted>, EvalError> {
        let all = [&self.image, &self.options, &self.entrypoint, &self.command];
        let all = all.into_iter().flatten().chain(&self.volumes).chain(&self.ports);
        for template in all.filter(|_| guarded) {
            if let Some(path) = template.reads_untrusted() {
                let what = format!(
                    "`{path}` holds text of a stranger, which would say how a container is made"
                );
                return Err(EvalError::new(what));
            }
        }
        let text = |template: &Option<Template>| {
            template.as_ref().map(|template| template.text(contexts)).transpose()
        };
        let texts = |templates: &[Template]| -> Result<Vec<String>, EvalError> {
            templates.iter().map(|template| template.text(contexts)).collect()
        };
        Texts {
            image: text(&self.image)?,
            username: text(&self.username)?,
            password: text(&self.password)?,
            env: self.env.values(contexts, guarded)?,
            ports: texts(&self.ports)?,
            volumes: texts(&self.volumes)?,
            options: text(&self.options)?,
            entrypoint: text(&self.entrypoint)?,
            command: text(&self.command)?,
        }
        .read()
    }
}

/// What is said of a container, computed.
#[derive(Default)]
struct Texts {
    image: Option<String>,
    username: Option<String>,
    password: Option<String>,
    env: Vec<(String, String)>,
    ports: Vec<String>,
    volumes: Vec<String>,
    options: Option<String>,
    entrypoint: Option<String>,
    command: Option<String>,
}

impl Texts {
    fn read(self) -> Result<Option<Wanted>, EvalError> {
        let image = self.image.unwrap_or_default();
        let image = image.trim().strip_prefix(DOCKER).unwrap_or(image.trim()).to_owned();
        if image.is_empty() {
            return Ok(None);
        }
        let words = |what: &str, text: Option<String>| {
            let text = text.filter(|text| !text.trim().is_empty());
            let words = text.map(|text| options::words(&text)).transpose();
            words.map_err(|why| EvalError::new(format!("`{what}`: {why}")))
        };
        let username = self.username.unwrap_or_default();
        let wrong = |what: &str| {
            let what = what.to_owned();
            move |why: String| EvalError::new(format!("`{what}`: {why}"))
        };
        let options = Options::read(self.options.as_deref().unwrap_or_default());
        let mut options = options.map_err(wrong(keys::OPTIONS))?;
        let (ports, volumes) = (self.ports, self.volumes);
        let ports = ports.into_iter().chain(std::mem::take(&mut options.ports));
        let ports = ports.map(|port| Port::read(&port)).collect::<Result<_, _>>();
        let volumes = volumes.into_iter().chain(std::mem::take(&mut options.volumes));
        let volumes = volumes.map(|volume| Volume::read(&volume)).collect::<Result<_, _>>();
        Ok(Some(Wanted {
            image,
            credentials: (!username.is_empty())
                .then(|| (username, self.password.unwrap_or_default())),
            env: self.env,
            ports: ports.map_err(wrong(keys::PORTS))?,
            volumes: volumes.map_err(wrong(keys::VOLUMES))?,
            options,
            entrypoint: words(keys::ENTRYPOINT, self.entrypoint)?,
            command: words(keys::COMMAND, self.command)?,
        }))
    }
}

/// Reads a container that an expression gave.
fn from_value(value: &Value) -> Result<Option<Wanted>, EvalError> {
    let object = match value {
        Value::Null => return Ok(None),
        Value::Object(object) => object,
        Value::Array(_) => return Err(EvalError::new("it is a list, and no container".to_owned())),
        scalar => return Texts { image: Some(scalar.to_string()), ..Texts::default() }.read(),
    };
    let wrong = |key: &str, what: &str| EvalError::new(format!("`{}` {what}", one_line(key)));
    let text = |key: &str, value: &Value| match value {
        Value::Object(_) | Value::Array(_) => Err(wrong(key, "must be a text")),
        scalar => Ok(scalar.to_string()),
    };
    let mut texts = Texts::default();
    for (key, value) in object.iter() {
        match (key.to_ascii_lowercase().as_str(), value) {
            (keys::IMAGE, value) => texts.image = Some(text(key, value)?),
            (keys::OPTIONS, value) => texts.options = Some(text(key, value)?),
            (keys::ENTRYPOINT, value) => texts.entrypoint = Some(text(key, value)?),
            (keys::COMMAND, value) => texts.command = Some(text(key, value)?),
            (keys::CREDENTIALS, Value::Object(of)) => {
                let get = |name: &str| of.get(name).map(|value| text(name, value)).transpose();
                (texts.username, texts.password) = (get(keys::USERNAME)?, get(keys::PASSWORD)?);
            }
            (keys::ENV, Value::Object(env)) => {
                let env = env.iter().map(|(name, value)| Ok((name.to_owned(), text(name, value)?)));
                texts.env = env.collect::<Result<_, EvalError>>()?;
            }
            (list @ (keys::PORTS | keys::VOLUMES), Value::Array(items)) => {
                let items = items.iter().map(|item| text(list, item));
                let items = items.collect::<Result<_, _>>()?;
                match list {
                    keys::PORTS => texts.ports = items,
                    _ => texts.volumes = items,
                }
            }
            (keys::CREDENTIALS | keys::ENV, _) => return Err(wrong(key, "must be an object")),
            (keys::PORTS | keys::VOLUMES, _) => return Err(wrong(key, "must be a list")),
            _ => return Err(wrong(key, "is no key of a container")),
        }
    }
    texts.read()
}

impl Port {
    /// Reads `[[ADDRESS:]OUTSIDE:]INSIDE[/PROTOCOL]`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            let text = one_line(text);
            format!(
                "`{text}` is no port: write `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`; ranges are not supported"
            )
        };
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let (outer, inside) = match ports.rsplit_once(':') {
            Some((outer, inside)) => (Some(outer), inside),
            None => (None, ports),
        };
        let (address, outside) =
            match outer.map(|outer| outer.rsplit_once(':').unwrap_or(("", outer))) {
                Some((address, outside)) => (Some(address), Some(outside)),
                None => (None, None),
            };
        let outside = match outside {
            None | Some("") => None,
            Some(outside) => Some(number(outside).ok_or_else(wrong)?),
        };
        let protocol = protocol.to_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(wrong());
        }
        let address = address.filter(|address| !address.is_empty()).map(str::to_owned);
        Ok(Self { inside: number(inside).ok_or_else(wrong)?, protocol, address, outside })
    }
}

impl Volume {
    /// Reads `[SOURCE:]PATH[:MODE]`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{}` is no volume: {why}", one_line(text));
        let parts: Vec<&str> = text.split(':').collect();
        let (from, to, mode) = match parts.as_slice() {
            [to] => ("", *to, ""),
            [from, to] => (*from, *to, ""),
            [from, to, mode] => (*from, *to, *mode),
            _ => return Err(wrong("write `[SOURCE:]PATH[:MODE]`")),
        };
        if !to.starts_with('/') {
            return Err(wrong("its path in the container must begin with `/`"));
        }
        let mut read_only = false;
        for flag in mode.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "ro" => read_only = true,
                // Of use between machines, and with other mounts of the same.
                "rw" | "z" | "Z" | "delegated" | "cached" | "consistent" => {}
                _ => return Err(wrong("its mode is not known; write `ro` or `rw`")),
            }
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let from = match from {
            "" => VolumeSource::New,
            path if path.starts_with('/') => VolumeSource::Host(path.to_owned()),
            name if name.chars().all(is_name) && !name.starts_with(['.', '-']) => {
                VolumeSource::Named(name.to_owned())
            }
            _ => return Err(wrong("its source must be a name, or a path that begins with `/`")),
        };
        Ok(Self { from, to: to.to_owned(), read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_volumes_are_read_as_docker_reads_them() {
        let port = |text: &str| {
            Port::read(text).map(|port| (port.address, port.outside, port.inside, port.protocol))
        };
        let tcp = || "tcp".to_owned();
        assert_eq!(port("80"), Ok((None, None, 80, tcp())));
        assert_eq!(port("8080:80"), Ok((None, Some(8080), 80, tcp())));
        assert_eq!(
            port("127.0.0.1:53:53/udp"),
            Ok((Some("127.0.0.1".into()), Some(53), 53, "udp".into()))
        );
        assert_eq!(port("127.0.0.1::80"), Ok((Some("127.0.0.1".into()), None, 80, tcp())));
        for wrong in ["", "a", "0", "70000", "80/icmp", "3000-3005", "a:80"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
        let volume = |text: &str| Volume::read(text).map(|of| (of.from, of.to, of.read_only));
        let (host, named) = (VolumeSource::Host, VolumeSource::Named);
        assert_eq!(volume("/a"), Ok((VolumeSource::New, "/a".into(), false)));
        assert_eq!(volume("data:/a:ro"), Ok((named("data".into()), "/a".into(), true)));
        assert_eq!(volume("/srv:/a"), Ok((host("/srv".into()), "/a".into(), false)));
        for wrong in ["", "a", "a:b", "../x:/a", "data:/a:exec", "a:b:c:d"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }
}
