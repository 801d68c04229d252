//! `PROMISES.md`: each promise names a test that is there.

use anyhow::{Context as _, bail};

/// The promises that must be among them.
const REQUIRED: [u32; 13] = [1, 3, 4, 5, 6, 7, 9, 10, 11, 14, 15, 16, 17];

/// Checks that each promise names its test, or that it is pending.
pub(crate) fn check() -> anyhow::Result<()> {
    let top = crate::top();
    let page = std::fs::read_to_string(top.join("PROMISES.md")).context("PROMISES.md")?;
    let mut problems = Vec::new();
    let mut kept = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| P")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, test] = cells[..] else {
            problems.push(format!("`{line}` has not three cells"));
            continue;
        };
        if test.starts_with("PENDING") {
            continue;
        }
        let there = test.split_once("::").is_some_and(|(file, name)| {
            let text = std::fs::read_to_string(top.join(file)).unwrap_or_default();
            text.contains(&format!("fn {name}("))
        });
        if !there {
            problems.push(format!("{number}: there is no test {test}"));
        }
        kept.extend(number.strip_prefix('P').and_then(|number| number.parse::<u32>().ok()));
    }
    let missing = REQUIRED.iter().filter(|number| !kept.contains(number));
    problems.extend(missing.map(|number| format!("P{number} has no test")));
    if !problems.is_empty() {
        bail!("PROMISES.md: {}", problems.join("; "));
    }
    crate::say(&format!("PROMISES.md: {} promises have their test", kept.len()));
    Ok(())
}
