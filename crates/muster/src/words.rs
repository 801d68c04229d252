//! Values as people read them.

use muster_runner::spec::StepUsage;

/// Writes what a step has used; of disks, where it is anything.
pub(crate) fn usage(usage: &StepUsage) -> String {
    let cpu = i64::try_from(usage.cpu_ms).unwrap_or(i64::MAX);
    let mut words = vec![
        format!("{} of processors", duration(cpu)),
        format!("{} of memory", bytes(usage.memory_bytes)),
    ];
    for (verb, count) in [("read", usage.read_bytes), ("wrote", usage.written_bytes)] {
        if count > 0 {
            words.push(format!("{verb} {}", bytes(count)));
        }
    }
    words.join(", ")
}

/// Writes a number of bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes.div_ceil(1_024)),
        _ => format!("{}.{} MiB", bytes >> 20, (bytes >> 10) % 1_024 * 10 / 1_024),
    }
}

/// Writes a span of milliseconds.
pub(crate) fn duration(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}
