//! The secrets that `muster run` is given.

use std::path::Path;

use anyhow::{Context as _, bail};
use muster_runner::spec::Secrets;

use super::super::stdio::read_file;

/// The most bytes of a file of secrets, and of all secrets together.
const MOST_BYTES: u64 = 1 << 20;

/// Gathers secrets: of a file first, then those that are named one by one.
///
/// # Errors
///
/// When a name is none, a value is nowhere, or the file cannot be read.
pub(super) fn gather(named: &[String], file: Option<&Path>) -> anyhow::Result<Secrets> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| -> Result<(), String> {
        check(name)?;
        all.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        all.push((name.to_ascii_uppercase(), value));
        Ok(())
    };
    if let Some(path) = file {
        let text = read_file(path, MOST_BYTES)?;
        let text = String::from_utf8(text)
            .ok()
            .with_context(|| format!("{} is no text", path.display()))?;
        let mut wrong = Vec::new();
        for (line, pair) in pairs(&text) {
            let added = pair.map_err(str::to_owned).and_then(|(name, value)| add(&name, value));
            wrong.extend(added.err().map(|why| format!("{}:{line}: {why}", path.display())));
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
    }
    for named in named {
        match named.split_once('=') {
            Some((name, value)) => add(name, value.to_owned()).map_err(anyhow::Error::msg)?,
            None => {
                let value = std::env::var(named).ok().with_context(|| {
                    format!(
                        "secret `{named}` has no value: set the variable {named}, or write it in a file for \
                         `--secret-file`"
                    )
                })?;
                add(named, value).map_err(anyhow::Error::msg)?;
            }
        }
    }
    let bytes: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes as u64 > MOST_BYTES {
        bail!("the secrets have more than {MOST_BYTES} bytes");
    }
    Ok(Secrets(all))
}

/// Checks a name as GitHub does.
fn check(name: &str) -> Result<(), String> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let starts_well = name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    if !starts_well || !name.chars().all(is_word) {
        return Err(format!(
            "`{name}` is no name of a secret: write letters, digits and `_`, no digit first"
        ));
    }
    Ok(())
}

/// A line, and what it assigns.
type Pair = (usize, Result<(String, String), &'static str>);

/// Reads `NAME=VALUE` lines as `.env` files have them: `#` begins a comment, a value in quotes may have several lines,
/// in double quotes `\n` and the like are characters. Nothing is put in the place of `$NAME`.
fn pairs(text: &str) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let (at, trimmed) = (line, first.trim());
        line += 1;
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let assignment = trimmed.strip_prefix("export ").unwrap_or(trimmed);
        let Some((name, value)) = assignment.split_once('=') else {
            pairs.push((at, Err("write NAME=VALUE")));
            rest = after;
            continue;
        };
        let (name, value) = (name.trim(), value.trim_start());
        let Some(quote) = value.chars().next().filter(|first| ['"', '\''].contains(first)) else {
            let comment = value.find(" #").unwrap_or(value.len());
            pairs.push((at, Ok((name.to_owned(), value[..comment].trim_end().to_owned()))));
            rest = after;
            continue;
        };
        // What is quoted may go on in lines that follow.
        let opened = &rest[first.find(value).unwrap_or(0) + 1..];
        let Some((value, closed)) = quoted(opened, quote) else {
            pairs.push((at, Err("the quote is never closed")));
            break;
        };
        line += opened[..closed].matches('\n').count();
        pairs.push((at, Ok((name.to_owned(), value))));
        rest = opened[closed..].split_once('\n').map_or("", |(_, after)| after);
    }
    pairs
}

/// Reads what is in quotes, from after the first on; returns it, and where it is over.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        if char == quote {
            return Some((value, at + 1));
        }
        if char != '\\' || quote == '\'' {
            value.push(char);
            continue;
        }
        match chars.next()?.1 {
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            same @ ('"' | '\\' | '$') => value.push(same),
            other => value.extend(['\\', other]),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::pairs;

    #[test]
    fn a_file_of_secrets_is_read_as_others_read_it() {
        let text = "# mine\n\nTOKEN=abc#1 # not this\nexport A = spaced out \nKEY=\"-----BEGIN\nline\\nlast\" # key\n\
                    LITERAL='$HOME \\n'\nEMPTY=\nnothing\nOPEN=\"never";
        let read = pairs(text).into_iter().map(|pair| format!("{pair:?}\n"));
        assert_snapshot!(read.collect::<String>(), @r#"
    (3, Ok(("TOKEN", "abc#1")))
    (4, Ok(("A", "spaced out")))
    (5, Ok(("KEY", "-----BEGIN\nline\nlast")))
    (7, Ok(("LITERAL", "$HOME \\n")))
    (8, Ok(("EMPTY", "")))
    (9, Err("write NAME=VALUE"))
    (10, Err("the quote is never closed"))
    "#);
    }
}
