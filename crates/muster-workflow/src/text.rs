//! Names that come from a repository, made fit to stand on a line.

/// Replaces what would break a line, move a cursor or turn text around: control characters and the
/// marks of bidirectional text. What people read must be what is there.
pub fn one_line(text: &str) -> String {
    let breaks = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if breaks(c) { '\u{fffd}' } else { c }).collect()
}

/// Cuts `text` to at most `max` characters, the last three of them dots.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max - 3).collect();
    cut.push_str("...");
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert_eq!(one_line("tests\nall: success"), "tests\u{fffd}all: success");
        assert_eq!(one_line("\u{1b}[31m\0\u{202e}é"), "\u{fffd}[31m\u{fffd}\u{fffd}é");
    }
}
