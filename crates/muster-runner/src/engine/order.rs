//! What an engine is told of a container.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointSettings, HealthConfig, HostConfig, Mount,
    MountType, MountVolumeOptions, NetworkingConfig, PortBinding, ResourcesUlimits,
};
use muster_workflow::container::{VolumeSource, Wanted};
use rustix::process::{Resource, getrlimit};

use super::{Image, label};
use crate::spec::Cage;

/// What root in a container of a caged job can do beside what its user can. Not there are what opens devices, the
/// network below its own sockets, and other roots.
const CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// The limits of processes in Podman's containers, where nobody says others: as ours, and so many at most. More than a
/// service of Podman has itself it cannot give.
const PODMANS: [(&str, Resource, u64); 2] =
    [("nofile", Resource::Nofile, 1 << 20), ("nproc", Resource::Nproc, 1 << 15)];

/// What of `/proc` and `/sys` nothing in a container of a caged job reads: what engines hide by themselves, and what else tells
/// of the kernel and its memory, or of the machine's disks.
const HIDDEN: [&str; 25] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/btf",
    "/sys/kernel/notes",
    "/sys/kernel/vmcoreinfo",
];

/// Something of this machine that is inside.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) read_only: bool,
}

impl Mounted {
    pub(crate) fn writable(from: &Path, to: impl Into<PathBuf>) -> Self {
        Self { from: from.to_owned(), to: to.into(), read_only: false }
    }

    pub(crate) fn fixed(from: &Path, to: impl Into<PathBuf>) -> Self {
        Self { from: from.to_owned(), to: to.into(), read_only: true }
    }
}

/// A container that is to be started.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) image: &'a Image,
    pub(crate) wanted: &'a Wanted,
    /// Its first process.
    pub(crate) init: Vec<String>,
    /// Variables beside those that are wanted.
    pub(crate) env: &'a [(String, String)],
    pub(crate) mounts: &'a [Mounted],
    /// The network of the job, and the names that it has there.
    pub(crate) network: &'a str,
    pub(crate) aliases: Vec<String>,
    /// Whether this machine is to have its ports.
    pub(crate) publishes: bool,
    /// What it is bounded by, where the job is caged.
    pub(crate) cage: Option<&'a Cage>,
    /// Whether nothing in it may gain rights.
    pub(crate) is_guarded: bool,
    /// What it bears, to be found by.
    pub(crate) mark: &'a str,
}

impl Order<'_> {
    /// Returns the name of a volume that belongs to the job alone.
    pub(crate) fn volume(mark: &str, name: &str) -> String {
        let mark: String =
            mark.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("muster-{}-{name}", mark.trim_matches('-'))
    }

    /// Writes it down as the engine reads it.
    pub(super) fn body(self, is_podman: bool) -> ContainerCreateBody {
        let options = &self.wanted.options;
        // The later one counts, as for a process; of two of a name in a list the first would.
        let mut env: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in options.env.iter().chain(&self.wanted.env).chain(self.env) {
            env.insert(name, value);
        }
        let env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut labels: HashMap<String, String> = options.labels.iter().cloned().collect();
        labels.extend(label(self.mark));
        let ports: Vec<String> = self
            .wanted
            .ports
            .iter()
            .map(|port| format!("{}/{}", port.inside, port.protocol))
            .collect();
        let aliases = self.aliases.iter().chain(&options.aliases).cloned().collect();
        let endpoint = EndpointSettings { aliases: Some(aliases), ..EndpointSettings::default() };
        let network = HashMap::from([(self.network.to_owned(), endpoint)]);
        let host = self.host(is_podman);
        let Order { image, wanted, init, .. } = self;
        let none = || HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() };
        ContainerCreateBody {
            // By what it is: its name may be another's by now.
            image: Some(image.id.clone()),
            hostname: wanted.options.hostname.clone(),
            user: wanted.options.user.clone(),
            working_dir: Some("/".to_owned()),
            env: Some(env),
            entrypoint: Some(init),
            cmd: Some(Vec::new()),
            // It is looked at by its init; an engine would look before it is known what is mounted.
            healthcheck: Some(none()),
            exposed_ports: Some(ports),
            labels: Some(labels),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig { endpoints_config: Some(network) }),
            ..ContainerCreateBody::default()
        }
    }

    fn host(&self, is_podman: bool) -> HostConfig {
        let options = &self.wanted.options;
        let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let mut host = HostConfig {
            network_mode: Some(self.network.to_owned()),
            // It goes when its first process does, and that when nobody gives it orders any more.
            auto_remove: Some(true),
            mounts: Some(self.mounts(self.mark)),
            port_bindings: Some(self.bindings()),
            privileged: Some(options.privileged),
            cap_add: some(&options.cap_add),
            cap_drop: some(&options.cap_drop),
            security_opt: some(&options.security),
            readonly_rootfs: Some(options.read_only),
            extra_hosts: some(&options.add_host),
            dns: some(&options.dns),
            group_add: some(&options.groups),
            shm_size: options.shm_size,
            memory: options.memory,
            #[expect(clippy::cast_possible_truncation, reason = "a number of processors")]
            nano_cpus: options.cpus.map(|cpus| (cpus * 1e9) as i64),
            tmpfs: Some(options.tmpfs.iter().cloned().collect()),
            ulimits: Some(self.ulimits(is_podman)),
            devices: Some(options.devices.iter().map(|device| device_mapping(device)).collect()),
            ..HostConfig::default()
        };
        if let Some(cage) = self.cage {
            let most = i64::try_from(cage.memory_bytes).unwrap_or(i64::MAX);
            let memory = options.memory.map_or(most, |memory| memory.min(most));
            host.memory = Some(memory);
            host.memory_swap = Some(memory);
            host.pids_limit = Some(cage.processes.into());
            let kept = CAPABILITIES.iter().filter(|name| {
                let is_it = |dropped: &String| {
                    let dropped = dropped.to_ascii_uppercase();
                    dropped == "ALL" || dropped.trim_start_matches("CAP_") == **name
                };
                !options.cap_drop.iter().any(is_it)
            });
            // Podman reads a profile from a file alone, and has one of its own.
            if !is_podman {
                let profile = format!("seccomp={}", muster_sys::sandbox::profile());
                host.security_opt.get_or_insert_default().push(profile);
            }
            host.masked_paths = Some(HIDDEN.map(str::to_owned).to_vec());
            host.cap_drop = Some(vec!["ALL".to_owned()]);
            host.cap_add = Some(kept.map(|name| (*name).to_owned()).collect());
            // Names of the world are asked for outside of the network that leads nowhere.
            if !cage.network.is_open() && !is_podman {
                host.dns = Some(vec!["127.0.0.1".to_owned()]);
            }
        }
        if self.is_guarded {
            host.security_opt.get_or_insert_default().push("no-new-privileges".to_owned());
        }
        host
    }

    fn ulimits(&self, is_podman: bool) -> Vec<ResourcesUlimits> {
        let options = self.wanted.options.ulimits.iter().map(|bound| ResourcesUlimits {
            name: Some(bound.name.clone()),
            soft: Some(bound.soft),
            hard: Some(bound.hard),
        });
        let mut bounds: Vec<_> = options.collect();
        if is_podman {
            // Its own are more than some machines have, and nothing starts there then.
            for (name, resource, most) in PODMANS {
                let most = getrlimit(resource).maximum.map_or(most, |ours| ours.min(most));
                let most = i64::try_from(most).ok();
                if bounds.iter().all(|bound| bound.name.as_deref() != Some(name)) {
                    let name = Some(name.to_owned());
                    bounds.push(ResourcesUlimits { name, soft: most, hard: most });
                }
            }
        }
        bounds
    }

    fn mounts(&self, mark: &str) -> Vec<Mount> {
        let own = self.mounts.iter().map(|mount| Mount {
            typ: Some(MountType::BIND),
            source: Some(mount.from.to_string_lossy().into_owned()),
            target: Some(mount.to.to_string_lossy().into_owned()),
            read_only: Some(mount.read_only),
            ..Mount::default()
        });
        let wanted = self.wanted.volumes.iter().map(|volume| {
            let (typ, source) = match &volume.from {
                VolumeSource::New => (MountType::VOLUME, None),
                VolumeSource::Named(name) => (MountType::VOLUME, Some(Self::volume(mark, name))),
                VolumeSource::Host(path) => (MountType::BIND, Some(path.clone())),
            };
            let labels = MountVolumeOptions { labels: Some(label(mark)), ..Default::default() };
            Mount {
                typ: Some(typ),
                source,
                target: Some(volume.to.clone()),
                read_only: Some(volume.read_only),
                volume_options: matches!(typ, MountType::VOLUME).then_some(labels),
                ..Mount::default()
            }
        });
        own.chain(wanted).collect()
    }

    fn bindings(&self) -> HashMap<String, Option<Vec<PortBinding>>> {
        if !self.publishes {
            return HashMap::new();
        }
        let ports = self.wanted.ports.iter().map(|port| {
            let binding = PortBinding {
                // For the job, and for nobody on another machine.
                host_ip: Some(port.address.clone().unwrap_or_else(|| "127.0.0.1".to_owned())),
                host_port: port.outside.map(|port| port.to_string()),
            };
            (format!("{}/{}", port.inside, port.protocol), Some(vec![binding]))
        });
        ports.collect()
    }
}

fn device_mapping(device: &str) -> DeviceMapping {
    let mut parts = device.split(':');
    let outside = parts.next().unwrap_or_default();
    DeviceMapping {
        path_on_host: Some(outside.to_owned()),
        path_in_container: Some(parts.next().unwrap_or(outside).to_owned()),
        cgroup_permissions: Some(parts.next().unwrap_or("rwm").to_owned()),
    }
}
