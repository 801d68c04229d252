//! What a step writes, as a terminal may have it: text and colours. All else that rules a terminal could take back what
//! others have said, or speak in the user's name.

use std::iter::Peekable;
use std::str::Chars;

/// Returns a line with what a terminal may have of it: of what overwrites itself the last.
pub(super) fn safe(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let shown = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    let (mut safe, mut is_painted) = (String::with_capacity(shown.len()), false);
    let mut chars = shown.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\x1b' => {
                if let Some(colour) = sequence(&mut chars) {
                    is_painted = true;
                    safe.push_str(&colour);
                }
            }
            '\t' => safe.push(char),
            char if char.is_control() => {}
            char => safe.push(char),
        }
    }
    if is_painted {
        safe.push_str("\x1b[0m");
    }
    safe
}

/// Takes the rest of what begins with an escape; returns it where it is a colour. See ECMA-48, 5.4 and 8.3.117.
fn sequence(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let is_parameter = |char: &char| matches!(char, ' '..='?');
    match chars.next()? {
        '[' => {
            let mut parameters = String::new();
            while let Some(char) = chars.next_if(is_parameter) {
                parameters.push(char);
            }
            let is_end = chars.next_if(|char| matches!(char, '@'..='~'))?;
            let is_plain = parameters.chars().all(|char| matches!(char, '0'..=';'));
            (is_end == 'm' && is_plain).then(|| format!("\x1b[{parameters}m"))
        }
        // A text for the terminal itself, up to its end; without one it is text as any other.
        ']' | 'P' | 'X' | '^' | '_' => {
            let mut rest = chars.clone();
            while let Some(char) = rest.next() {
                if char == '\x07' || (char == '\x1b' && rest.next_if_eq(&'\\').is_some()) {
                    *chars = rest;
                    break;
                }
            }
            None
        }
        ' '..='/' => {
            while chars.next_if(|char| matches!(char, ' '..='/')).is_some() {}
            chars.next();
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_stay_and_nothing_else_that_rules_a_terminal() {
        let shown = |line: &str| safe(line.as_bytes());
        assert_eq!(shown("\x1b[1;31mred\x1b[0m"), "\x1b[1;31mred\x1b[0m\x1b[0m");
        assert_eq!(shown("a\x1b[2J\x1b[8Ab\x1b[?1049h\x1bcc\x1b(0d"), "abcd");
        assert_eq!(shown("\x1b]0;title\x07a\x1b]52;c;aGk=\x1b\\b\x1bPq\x1b\\c"), "abc");
        assert_eq!(shown("kept \x1b]0;for it has no end"), "kept 0;for it has no end");
        assert_eq!(shown("10%\r20%\r"), "20%");
        assert_eq!(shown("tab\tbell\x07nul\0c1\u{9b}31m"), "tab\tbellnulc131m");
        assert_eq!(safe(b"\x9b31m"), "\u{fffd}31m");
        assert_eq!(shown("\x1b["), "");
    }

    proptest! {
        #[test]
        fn of_no_line_more_comes_through(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let shown = safe(&line);
            let left = shown.split("\x1b[").enumerate().map(|(at, part)| match at {
                0 => part,
                _ => part.split_once('m').unwrap().1,
            });
            prop_assert!(!left.collect::<String>().contains(|char: char| char.is_control() && char != '\t'));
        }
    }
}
