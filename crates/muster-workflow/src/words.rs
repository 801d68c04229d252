//! Words for messages.

/// Of so many words that are about as long the nearest is looked for: a hostile file has thousands.
const MAX_WORDS: usize = 100;

/// Returns the word that is most like `wrong`, where one is like it enough to be meant.
pub(crate) fn nearest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    // A word of one or two letters is like too many.
    let most = match wrong.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        6..=32 => 2,
        _ => return None,
    };
    let near = words
        .filter(|word| word.len().abs_diff(wrong.len()) <= most)
        .take(MAX_WORDS)
        .map(|word| (distance(&wrong, &word.to_ascii_lowercase()), word));
    near.filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Counts the letters to put in, take out, change or swap with the next, to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Writes words as a choice: `a`, `b` or `c`.
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_understood() {
        let words = ["branches", "branches-ignore", "paths", "run", "uses"];
        for (wrong, meant) in [
            ("branch", Some("branches")),
            ("Branches", Some("branches")),
            ("brnaches", Some("branches")),
            ("path", Some("paths")),
            ("use", Some("uses")),
            ("rnu", Some("run")),
            ("name", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, words.into_iter()), meant, "{wrong}");
        }
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
