use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use insta::assert_snapshot;
use proptest::prelude::*;

use crate::Listener as _;
use crate::files::assignments;
use crate::shell::{ShellError, extension, invocation, prepare};
use crate::spec::{JobConclusion, JobResult, StepConclusion, StepEvent};
use crate::spool::{MAX_LINE, Record, Writer};

fn success() -> JobResult {
    JobResult { conclusion: JobConclusion::Success, reason: None, outputs: Vec::new() }
}

/// Writes a spool of these pieces of output and returns its bytes.
fn spool(pieces: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut writer = Writer::new(File::create(&path).unwrap(), None).unwrap();
    for (step, bytes) in pieces {
        writer.output(*step, bytes);
        if bytes.is_empty() {
            writer.idle(*step);
        }
    }
    writer.finish(&success()).unwrap();
    let mut written = Vec::new();
    File::open(path).unwrap().read_to_end(&mut written).unwrap();
    written
}

fn records(written: &[u8]) -> Vec<Record<'_>> {
    let lines = written.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| Record::parse(line.strip_suffix(b"\n").unwrap()).unwrap()).collect()
}

#[test]
fn a_spool_is_lines_that_anybody_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut writer = Writer::new(File::create(&path).unwrap(), None).unwrap();
    let name = "Build".to_owned();
    writer.step(StepEvent::Started { step: 1, name: name.clone(), at: 7 });
    writer.output(1, b"one\ntw");
    writer.idle(1);
    writer.output(1, b"o\nthree");
    let (outcome, conclusion) = (StepConclusion::Success, StepConclusion::Success);
    writer.step(StepEvent::Finished { step: 1, name, outcome, conclusion, at: 9, usage: None });
    writer.finish(&success()).unwrap();
    let written = std::fs::read_to_string(path).unwrap();
    let timeless = written.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let is_time = word.len() == 13 && word.bytes().all(|b| b.is_ascii_digit());
            if is_time { "[time]" } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    assert_snapshot!(timeless.collect::<Vec<_>>().join("\n"), @r#"
    e {"event":"started","step":1,"name":"Build","at":7}
    o 1 [time] one
    p 1 [time] tw
    o 1 [time] o
    o 1 [time] three
    e {"event":"finished","step":1,"name":"Build","outcome":"success","conclusion":"success","at":9}
    r {"conclusion":"success","reason":null,"outputs":[]}
    "#);
}

#[test]
fn a_line_that_is_too_long_is_cut_into_parts() {
    let line = vec![b'x'; 3 * MAX_LINE + 5];
    let written = spool(&[(1, line.clone())]);
    let texts: Vec<(usize, bool)> = records(&written)
        .iter()
        .filter_map(|record| match record {
            Record::Output { text, ends, .. } => Some((text.len(), *ends)),
            Record::Step(_) | Record::Result(_) => None,
        })
        .collect();
    assert_eq!(texts, [(MAX_LINE, false), (MAX_LINE, false), (MAX_LINE, false), (5, true)]);
}

proptest! {
    /// Whatever a step writes, cut anywhere, is in the spool: no byte lost, repeated or reordered.
    #[test]
    fn a_spool_keeps_every_byte(
        pieces in prop::collection::vec(
            (1_usize..3, prop::collection::vec(prop::sample::select(b"ab \n\r\x00\xff".to_vec()), 0..20)),
            0..20,
        )
    ) {
        let written = spool(&pieces);
        let mut wanted: HashMap<usize, Vec<u8>> = HashMap::new();
        for (step, bytes) in &pieces {
            wanted.entry(*step).or_default().extend(bytes);
        }
        let mut got: HashMap<usize, Vec<u8>> = HashMap::new();
        for record in records(&written) {
            if let Record::Output { step, text, ends, .. } = record {
                let bytes = got.entry(step).or_default();
                bytes.extend(text);
                if ends {
                    bytes.push(b'\n');
                }
            }
        }
        // A line that another step broke into, or that nobody ended, is ended by the spool.
        let lines = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<u8>>();
        for (step, bytes) in &wanted {
            prop_assert_eq!(lines(bytes), lines(got.get(step).map_or(&[], Vec::as_slice)));
        }
    }

    #[test]
    fn reading_what_a_step_or_a_disk_garbled_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _parses = Record::parse(&bytes).is_some();
        drop(assignments("GITHUB_ENV", &String::from_utf8_lossy(&bytes)));
    }
}

fn read(text: &str) -> String {
    match assignments("GITHUB_OUTPUT", text) {
        Ok(pairs) => pairs.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_files_of_a_step_hold_lines_and_blocks() {
    assert_snapshot!(read("a=1\r\n\nb=x=y<<z\nc<<END\none\n\ntwo\nEND\nempty=\n"), @r#"
    a = "1"
    b = "x=y<<z"
    c = "one\n\ntwo"
    empty = ""
    "#);
    assert_snapshot!(read("c<<END\none\n"), @"GITHUB_OUTPUT: the block `c` is never closed by its delimiter `END`");
    assert_snapshot!(read("no assignment"), @"GITHUB_OUTPUT: invalid line `no assignment`: write `name=value` or `name<<DELIMITER`");
    assert_snapshot!(read("=nameless"), @"GITHUB_OUTPUT: invalid line `=nameless`: write `name=value` or `name<<DELIMITER`");
}

#[test]
fn shells_get_the_flags_of_the_official_runner() {
    let find = |name: &str| Some(Path::new("/bin").join(name));
    let line = |shell: Option<&str>| match invocation(shell, Path::new("/t/s.sh"), find) {
        Ok(built) => {
            let program =
                Path::new(&built.program).file_name().unwrap().to_string_lossy().into_owned();
            format!("{program} {}", built.args.join(" "))
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(line(None), "bash -e /t/s.sh");
    assert_eq!(line(Some("bash")), "bash --noprofile --norc -e -o pipefail /t/s.sh");
    assert_eq!(line(Some("sh")), "sh -e /t/s.sh");
    assert_eq!(line(Some("sh -x {0} more")), "sh -x /t/s.sh more");
    assert_eq!(line(Some("zsh")), ShellError::Unknown("zsh".into()).to_string());
    assert_eq!(line(Some("powershell")), ShellError::WindowsOnly("powershell".into()).to_string());
    // Where there is no bash, a step without a shell gets sh.
    let only = |name: &str| find(name).filter(|_| name == "sh");
    let only_sh = invocation(None, Path::new("s"), only).unwrap();
    assert_eq!(only_sh.args, ["-e", "s"]);
    assert_eq!((extension(Some("python")), extension(None)), ("py", "sh"));
    assert!(
        prepare(Some("pwsh"), "echo hi").starts_with("$ErrorActionPreference = 'stop'\necho hi\n")
    );
}
