//! Files of `NAME=VALUE` lines, as `.env` files have them.

use std::path::Path;

use anyhow::{Context as _, bail};

/// The most bytes of such a file.
pub(crate) const MOST_BYTES: u64 = 1 << 20;

/// Reads what a file has, and gives each pair to `take`, which may refuse it.
///
/// # Errors
///
/// When it is no text; all lines that are wrong, with their numbers.
pub(crate) fn read(
    path: &Path,
    text: Vec<u8>,
    mut take: impl FnMut(&str, String) -> Result<(), String>,
) -> anyhow::Result<()> {
    let text = String::from_utf8(text).ok();
    let text = text.with_context(|| format!("{} is no text", path.display()))?;
    let mut wrong = Vec::new();
    for (line, pair) in pairs(&text) {
        let taken = pair.map_err(str::to_owned).and_then(|(name, value)| take(&name, value));
        wrong.extend(taken.err().map(|why| format!("{}:{line}: {why}", path.display())));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
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
