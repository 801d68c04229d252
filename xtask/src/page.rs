//! Pages of which a command writes a part.

use std::fs;

use anyhow::Context as _;

/// Puts a section between its marks, leaving the rest of the page as it is.
///
/// # Errors
///
/// When the page cannot be read or written, or has lost a mark.
pub(crate) fn put(page: &str, name: &str, command: &str, section: &str) -> anyhow::Result<()> {
    let begin = format!("<!-- {name}: begin, written by {command} -->\n");
    let end = format!("<!-- {name}: end -->\n");
    let path = crate::top().join(page);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {page}"))?;
    let lost = |mark: &str| format!("{page} has lost its mark {}", mark.trim());
    let (before, rest) = text.split_once(&begin).with_context(|| lost(&begin))?;
    let (_, after) = rest.split_once(&end).with_context(|| lost(&end))?;
    fs::write(path, format!("{before}{begin}\n{section}\n{end}{after}"))?;
    Ok(())
}
