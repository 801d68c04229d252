use insta::assert_snapshot;
use proptest::prelude::*;

use super::Deaf;
use super::command::{Command, may_become, may_hold};
use super::encode::encodings;
use super::lines::Lines;
use super::mask::Masks;
use super::matcher::{Matchers, without_colours};

/// Writes pieces of output through masks; an empty piece is a moment of quiet.
fn through(masks: &mut Masks, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    for piece in pieces {
        if piece.is_empty() {
            lines.rest(masks, &mut out);
        } else {
            lines.push(piece, masks, &mut Deaf, &mut out);
        }
    }
    lines.end(masks, &mut Deaf, &mut out);
    out
}

fn masked(secrets: &[&str], text: &str) -> String {
    let mut masks = Masks::default();
    secrets.iter().for_each(|secret| masks.add(secret).unwrap());
    String::from_utf8(through(&mut masks, &[text.as_bytes()])).unwrap()
}

#[test]
fn secrets_are_masked_in_all_their_forms() {
    let secret = "p\"a'ss&wörd<1>";
    let forms: String = encodings(secret)
        .into_iter()
        .map(|form| format!("[{}]\n", String::from_utf8(form).unwrap()))
        .collect();
    assert_snapshot!(forms, @r#"
    [p"a'ss&wörd<1>]
    [p\"a'ss&wörd<1>]
    [p"a''ss&wörd<1>]
    [p\"a'ss&wörd<1>]
    [p\"a'ss&w\u00f6rd<1>]
    [p%22a%27ss%26w%C3%B6rd%3C1%3E]
    [p%22a%27ss%26w%c3%b6rd%3c1%3e]
    [p&quot;a&apos;ss&amp;wörd&lt;1&gt;]
    [p&quot;a&#39;ss&amp;wörd&lt;1&gt;]
    [p&quot;a&#x27;ss&amp;wörd&lt;1&gt;]
    [p"a'\''ss&wörd<1>]
    []
    [p"a'ss&]
    [wörd<1>]
    [cCJhJ3NzJnfDtnJkPDE+]
    [cCJhJ3NzJnfDtnJkPDE+]
    [ImEnc3Mmd8O2cmQ8MT4=]
    [ImEnc3Mmd8O2cmQ8]
    [YSdzcyZ3w7ZyZDwxPg==]
    [YSdzcyZ3w7ZyZDwx]
    [cCJhJ3NzJnfDtnJkPDE+]
    "#);
    for line in masked(&[secret], &forms).lines() {
        assert!(["[***]", "[]"].contains(&line), "{line}");
    }
    // `base64` writes lines.
    let long = "a secret that is longer than a line of Base64, which has seventy-six characters";
    let lines = encodings(long).into_iter().map(|form| String::from_utf8(form).unwrap());
    let lines: Vec<String> = lines.filter(|form| form.len() == 76).collect();
    assert_eq!(masked(&[long], &lines.join("\n")), vec!["***"; lines.len()].join("\n"));
}

#[test]
fn what_overlaps_and_touches_is_one_mask() {
    assert_eq!(masked(&["abcd", "cdef"], "abcdef abcdabcd abc"), "*** *** abc");
    // Each line of a secret is one.
    assert_eq!(masked(&["first\r\n  second  \n\n"], "a first\nsecond b"), "a ***\n*** b");
    // Base64 goes on after a secret, and begins before it.
    let text = "dXNlcjpodW50ZXIyaHVudGVyMjptb3Jl";
    assert!(!masked(&["hunter2hunter2"], text).contains("aHVudGVyMmh1bnRlcj"));
    assert_snapshot!(masked(&["hunter2hunter2"], text), @"dXNlcjpo***Mjptb3Jl");
}

#[test]
fn a_line_that_may_become_a_secret_waits() {
    let mut masks = Masks::default();
    masks.add("hunter2").unwrap();
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    lines.push(b"Password: hunt", &mut masks, &mut Deaf, &mut out);
    lines.rest(&masks, &mut out);
    assert_eq!(out, b"Password: ");
    lines.push(b"er2!\n", &mut masks, &mut Deaf, &mut out);
    assert_eq!(out, b"Password: ***!\n");
}

proptest! {
    /// However output is cut, it is masked as if it came at once, and shows no secret in any of its forms. `cargo xtask
    /// masks` tries a million cases.
    #[test]
    fn masks_know_no_edges(
        secrets in prop::collection::vec("[ab\"&]{2,9}|[^*\\p{C}\\s]{4,24}", 1..4),
        text in "[ab\"&\n]{0,60}",
        place in 0_usize..100,
        form in 0_usize..16,
        cuts in prop::collection::vec(0_usize..100, 0..12),
        is_quiet in any::<bool>(),
    ) {
        let mut masks = Masks::default();
        secrets.iter().for_each(|secret| masks.add(secret).unwrap());
        let forms = encodings(&secrets[0]);
        let mut text = text.into_bytes();
        let place = place.min(text.len());
        text.splice(place..place, forms[form % forms.len()].iter().copied());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<&[u8]> = Vec::new();
        for edge in cuts.windows(2) {
            pieces.push(&text[edge[0]..edge[1]]);
            if is_quiet {
                pieces.push(b"");
            }
        }
        let whole = through(&mut masks, &[&text]);
        prop_assert_eq!(&through(&mut masks, &pieces), &whole);
        let forms = secrets.iter().flat_map(|secret| encodings(secret));
        for form in forms.filter(|form| !form.is_empty() && !form.contains(&b'\n')) {
            prop_assert!(!whole.windows(form.len()).any(|at| at == form));
        }
    }

    /// A line without an end is masked like any other, and little of it is held.
    #[test]
    fn a_line_without_an_end_is_masked(start in 0_usize..70, cut in 1_usize..9_000) {
        let secret = "a-secret-of-some-length";
        let mut masks = Masks::default();
        masks.add(secret).unwrap();
        let text = format!("{}{}", ".".repeat(start), secret.repeat(9_000));
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
        let out = through(&mut masks, &pieces);
        prop_assert_eq!(out, format!("{}***", ".".repeat(start)).into_bytes());
    }

    #[test]
    fn no_line_makes_the_reader_of_commands_panic(line in "[:#a-z %\\[\\]=,;-]{0,40}|\\PC{0,20}") {
        let command = Command::read(&line, Some("tok"));
        prop_assert!(command.is_none() || may_hold(line.as_bytes()));
        for cut in (0..line.len()).filter(|cut| line.is_char_boundary(*cut)) {
            // What is let through is never the beginning of a command.
            prop_assert!(command.is_none() || may_become(&line.as_bytes()[..cut]) || line.contains("##["));
        }
    }

    #[test]
    fn no_file_makes_the_reader_of_matchers_panic(regexp in "\\PC{0,12}", line in "\\PC{0,30}") {
        let file = serde_json::json!({"problemMatcher": [
            {"owner": "x", "pattern": [{"regexp": regexp, "message": 0}, {"regexp": "(.*)", "file": 1, "loop": true}]}
        ]});
        let mut matchers = Matchers::default();
        if matchers.add(file.to_string().as_bytes()).is_ok() {
            matchers.find(&line, |_| ());
            matchers.find(&line, |_| ());
        }
        drop(matchers.add(line.as_bytes()));
    }
}

fn read(line: &str) -> String {
    match Command::read(line, Some("pause")) {
        None => "no command".to_owned(),
        Some(Command { name, properties, data }) => format!("{name} {properties:?} {data:?}"),
    }
}

#[test]
fn commands_are_read_as_the_official_runner_reads_them() {
    for (line, wanted) in [
        (
            "::error file=a%2Cb.c,line=1,col=2::bad%0Aworse %25",
            r#"error [("file", "a,b.c"), ("line", "1"), ("col", "2")] "bad\nworse %""#,
        ),
        ("  \t::WARNING::x", r#"warning [] "x""#),
        ("::notice   title= a b ,x=,=,=y=z::", r#"notice [("title", " a b "), ("y", "z")] """#),
        (
            "before ##[error file=a%3Bb;line=3]then%5D",
            r#"error [("file", "a;b"), ("line", "3")] "then]""#,
        ),
        ("::pause::", r#"pause [] """#),
        ("::PAUSE::x", r#"pause [] "x""#),
        ("before ::error::x", "no command"),
        ("::unknown::x", "no command"),
        ("::error", "no command"),
        ("::error:x", "no command"),
        ("##[unknown]", "no command"),
        ("::set-output name=a::b::c", r#"set-output [("name", "a")] "b::c""#),
    ] {
        assert_eq!(read(line), wanted, "{line}");
    }
}

fn problems(file: &str, lines: &[&str]) -> String {
    let mut matchers = Matchers::default();
    if let Err(why) = matchers.add(file.as_bytes()) {
        return why;
    }
    let mut told = Vec::new();
    for line in lines {
        if let Some(found) =
            matchers.find(&without_colours(line), |owner| panic!("{owner} is slow"))
        {
            told.push(format!("{line} -> {found:?}"));
        }
    }
    told.join("\n")
}

#[test]
fn matchers_find_problems_of_one_line_and_of_several() {
    let eslint = r#"{"problemMatcher": [{"owner": "eslint", "severity": "warning", "pattern": [
        {"regexp": "^([^\\s].*)$", "file": 1},
        {"regexp": "^\\s+(\\d+):(\\d+)\\s+(error|warning)?\\s+(.*)\\s\\s+(.*)$",
         "line": 1, "column": 2, "severity": 3, "message": 4, "code": 5, "loop": true}]}]}"#;
    assert_snapshot!(problems(eslint, &[
        "a.js",
        "  1:2  error  Missing semicolon  semi",
        "  3:4  Something else  else",
        "",
        "  5:6  error  Of no file  none",
        "\u{1b}[1mb.js\u{1b}[0m",
        "\u{1b}[2m  7:8\u{1b}[0m  error  In colours  x",
    ]), @r#"
      1:2  error  Missing semicolon  semi -> Match { file: Some("a.js"), line: Some("1"), column: Some("2"), severity: Some("error"), code: Some("semi"), message: Some("Missing semicolon"), from_path: None }
      3:4  Something else  else -> Match { file: Some("a.js"), line: Some("3"), column: Some("4"), severity: Some("warning"), code: Some("else"), message: Some("Something else"), from_path: None }
    [2m  7:8[0m  error  In colours  x -> Match { file: Some("b.js"), line: Some("7"), column: Some("8"), severity: Some("error"), code: Some("x"), message: Some("In colours"), from_path: None }
    "#);
    for (file, why) in [
        ("{", "EOF"),
        (r#"{"problemMatcher": [{"pattern": []}]}"#, "a matcher needs an `owner`"),
        (r#"{"problemMatcher": [{"owner": "x"}]}"#, "it has no pattern"),
        (
            r#"{"problemMatcher": [{"owner": "x", "severity": "bad", "pattern": [{}]}]}"#,
            "`severity` is one of",
        ),
        (
            r#"{"problemMatcher": [{"owner": "x", "pattern": [{"regexp": "a"}]}]}"#,
            "has to set `message`",
        ),
        (
            r#"{"problemMatcher": [{"owner": "x", "pattern": [{"regexp": "(", "message": 0}]}]}"#,
            "`regexp`",
        ),
        (
            r#"{"problemMatcher": [{"owner": "x", "pattern": [{"regexp": "a", "message": 1}]}]}"#,
            "a group that its pattern does not have",
        ),
        (
            r#"{"problemMatcher": [{"owner": "x", "pattern": [{"regexp": "a", "message": 0, "loop": true}]}]}"#,
            "`loop` is for the last",
        ),
        (
            r#"{"problemMatcher": [{"owner": "x", "pattern": [{"message": 0}, {"message": 0}]}]}"#,
            "`message` is set twice",
        ),
        (
            r#"{"problemMatcher": [{"owner": "x", "pattern": [{"message": 0}]}, {"owner": "X", "pattern": [{"message": 0}]}]}"#,
            "is there twice",
        ),
    ] {
        assert!(problems(file, &[]).contains(why), "{file}: {}", problems(file, &[]));
    }
}

#[test]
fn a_matcher_that_tries_too_long_is_removed() {
    let file = r#"{"problemMatcher": [{"owner": "slow", "pattern": [{"regexp": "^(?:(a+)\\1*)+b$", "message": 0}]}]}"#;
    let mut matchers = Matchers::default();
    matchers.add(file.as_bytes()).unwrap();
    let line = "a".repeat(60);
    let mut removed = Vec::new();
    for _ in 0..4 {
        matchers.find(&line, |owner| removed.push(owner.to_owned()));
    }
    assert_eq!(removed, ["slow"]);
    assert!(matchers.is_empty());
}

#[test]
fn masks_have_a_bound_in_memory_and_time() {
    let mut masks = Masks::default();
    // One in the other: each place of a text begins a thousand.
    (1..300).for_each(|length| masks.add(&"a".repeat(length)).unwrap());
    assert_eq!(masks.text(&"a".repeat(20_000)), "***");
    // What is very long is several.
    let long: String =
        (0..100_000_u32).map(|at| char::from(b'b' + (at.wrapping_mul(at) % 23) as u8)).collect();
    masks.add(&long).unwrap();
    assert!(masks.reach() < 20_000);
    assert_eq!(masks.text(&format!(".{long}.")), ".***.");
    let many = (0..1_000_000).try_for_each(|number| masks.add(&format!("{number:02000}")));
    assert!(many.is_err());
    // From there on nothing is shown.
    assert_eq!(masks.text("anything"), "***");
    assert!(masks.are_in("anything"));
    assert_eq!(through(&mut masks, &[b"anything\n", b"more"]), b"");
}

#[test]
fn regular_expressions_are_those_of_javascript() {
    let file = |regexp: &str| {
        let pattern = serde_json::json!({"regexp": regexp, "file": 1, "message": 2});
        serde_json::json!({"problemMatcher": [{"owner": "x", "pattern": [pattern]}]}).to_string()
    };
    for (regexp, line) in [
        (r"^(.+)\[([^[\]]+)\]", "a[b]"),
        (r"^(?:\s+\d+\>)?([^\s].*): (.*)", "  1>a: b"),
        (r"^([a&&--~~]+): (.*)", "a: b"),
        (r"^([^\]]*)](.*)", "a]b"),
        (r"^(\w+)(?=:):(.*)", "a:b"),
    ] {
        let told = problems(&file(regexp), &[line]);
        assert!(
            told.contains(r#"file: Some("a")"#) && told.contains(r#"message: Some("b")"#),
            "{regexp}: {told}"
        );
    }
    let large = file(&r"\w{150}".repeat(100));
    assert!(problems(&large, &[]).contains("`regexp`"), "{}", problems(&large, &[]));
}
