//! A live view of a terminal: what jobs say goes up, and below stands what each is at. Groups of lines are folded, and
//! unfold where their step fails.

use std::collections::HashMap;
use std::io::Write as _;

use muster_runner::marks::{ENDGROUP, GROUP};
use muster_runner::spec::{StepConclusion, StepEvent};
use muster_sys::clock;
use muster_workflow::text::one_line;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::paper::{Paint, Paper};
use super::{News, Of};
use crate::cli::run::engine::Place;
use crate::words::duration;

/// How many jobs are shown at most that go on.
const ROWS: usize = 8;
/// What is folded of a step, in bytes; what is more is shown as it comes. Each line takes some beside its text.
const MAX_FOLDED: usize = 4 << 20;
const LINE_TAKES: usize = 32;
/// What turns where something goes on, a part after the other.
const TURNS: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const TURN_MS: i64 = 100;
/// In fewer columns nothing is drawn.
const NARROW: usize = 20;

#[derive(Debug)]
pub(super) struct Live {
    pub(super) paper: Paper,
    /// The jobs that go on, in the order in which they began.
    rows: Vec<Row>,
    /// By job and step.
    folds: HashMap<(Place, usize), Folds>,
    /// How many jobs have ended.
    ended: usize,
    /// The lines of the terminal that are ours to draw again.
    drawn: Vec<String>,
}

/// What a job is at.
#[derive(Debug)]
struct Row {
    place: Place,
    name: String,
    step: String,
    /// Since when, in milliseconds since 1970.
    since: i64,
}

/// The groups of a step that runs.
#[derive(Debug, Default)]
struct Folds {
    /// Titles and lines.
    groups: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    is_open: bool,
    bytes: usize,
}

impl Live {
    pub(super) fn new(paper: Paper) -> Self {
        Self { paper, rows: Vec::new(), folds: HashMap::new(), ended: 0, drawn: Vec::new() }
    }

    /// Writes what goes up to `out`, and notes what is below.
    pub(super) fn tell(&mut self, news: News<'_>, out: &mut Vec<u8>) {
        match news {
            News::JobBegins(of) => self.rows.push(Row {
                place: of.place,
                name: one_line(of.name).to_string(),
                step: "Set up job".to_owned(),
                since: clock::now_ms(),
            }),
            News::Output { of, step, text } if step > 0 && self.fold(of, step, text, out) => {
                return;
            }
            News::Step { of, event: StepEvent::Started { name, at, .. } } => {
                if let Some(row) = self.rows.iter_mut().find(|row| row.place == of.place) {
                    (row.step, row.since) = (one_line(name).to_string(), *at);
                }
            }
            News::Step { of, event: StepEvent::Finished { step, outcome, .. } } => {
                let is_well = matches!(outcome, StepConclusion::Success | StepConclusion::Skipped);
                self.unfold(of, *step, !is_well, out);
            }
            News::JobEnds { of, .. } => {
                let steps: Vec<usize> = self
                    .folds
                    .keys()
                    .filter_map(|(place, step)| (*place == of.place).then_some(*step))
                    .collect();
                for step in steps {
                    self.unfold(of, step, true, out);
                }
                self.rows.retain(|row| row.place != of.place);
                self.ended += 1;
            }
            _ => {}
        }
        self.paper.tell(news, out);
    }

    /// Keeps a line of a group; returns whether it is not to be shown.
    fn fold(&mut self, of: Of<'_>, step: usize, text: &[u8], out: &mut Vec<u8>) -> bool {
        let folds = self.folds.entry((of.place, step)).or_default();
        if let Some(title) = text.strip_prefix(GROUP.as_bytes()) {
            let was_open = std::mem::replace(&mut folds.is_open, true);
            folds.groups.push((title.to_vec(), Vec::new()));
            folds.bytes += title.len() + LINE_TAKES;
            if was_open {
                self.close(of, step, 1, out);
            }
            return true;
        }
        if !folds.is_open {
            return false;
        }
        if text.starts_with(ENDGROUP.as_bytes()) {
            folds.is_open = false;
            self.close(of, step, 0, out);
            return true;
        }
        folds.bytes += text.len() + LINE_TAKES;
        if folds.bytes > MAX_FOLDED {
            self.unfold(of, step, true, out);
            return false;
        }
        if let Some((_, lines)) = folds.groups.last_mut() {
            lines.push(text.to_vec());
        }
        true
    }

    /// Says of the last group but so many that it is folded.
    fn close(&mut self, of: Of<'_>, step: usize, but: usize, out: &mut Vec<u8>) {
        let groups = self.folds.get(&(of.place, step)).map(|folds| folds.groups.as_slice());
        let Some((title, lines)) = groups.and_then(|groups| groups.iter().rev().nth(but)) else {
            return;
        };
        let count = lines.len();
        let many = if count == 1 { "line" } else { "lines" };
        let told = self.paper.paint(Paint::Faint, &format!(" ({count} {many})"));
        let text = [&b"\xE2\x96\xB8 "[..], title, told.as_bytes()].concat();
        self.paper.tell(News::Output { of, step, text: &text }, out);
    }

    /// Ends the groups of a step, and shows what is in them where that is wanted.
    fn unfold(&mut self, of: Of<'_>, step: usize, is_wanted: bool, out: &mut Vec<u8>) {
        let Some(folds) = self.folds.get(&(of.place, step)) else { return };
        if folds.is_open && !is_wanted {
            self.close(of, step, 0, out);
        }
        let folds = self.folds.remove(&(of.place, step)).unwrap_or_default();
        if !is_wanted {
            return;
        }
        for (title, lines) in folds.groups {
            let title = [GROUP.as_bytes(), &title].concat();
            for text in std::iter::once(&title).chain(&lines) {
                self.paper.tell(News::Output { of, step, text }, out);
            }
        }
    }

    /// Puts what goes on below what goes up.
    pub(super) fn draw(&mut self, out: &mut Vec<u8>) {
        let lines = self.lines(clock::now_ms());
        if out.is_empty() && lines == self.drawn {
            return;
        }
        let above = std::mem::take(out);
        if !self.drawn.is_empty() {
            // To the first line that was drawn, and all below goes. Writing to memory cannot fail.
            drop(write!(out, "\x1b[{}A\r\x1b[J", self.drawn.len()));
        }
        out.extend_from_slice(&above);
        for line in &lines {
            drop(writeln!(out, "{line}"));
        }
        self.drawn = lines;
    }

    fn lines(&self, now: i64) -> Vec<String> {
        let size = rustix::termios::tcgetwinsize(std::io::stdout());
        let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
        // A line that is as wide as the terminal may go on in the next; there is no room for a picture in a narrow one.
        let columns = usize::from(columns).saturating_sub(1);
        if columns < NARROW {
            return Vec::new();
        }
        let shown = ROWS.min(usize::from(rows) / 3).min(self.rows.len());
        let turn = usize::try_from(now / TURN_MS).unwrap_or(0) % TURNS.len();
        let turn = self.paper.paint(Paint::Yellow, TURNS[turn]);
        let mut lines: Vec<String> = self.rows[..shown]
            .iter()
            .map(|row| {
                let name = if self.paper.many { format!("{}  ", row.name) } else { String::new() };
                let took = duration((now - row.since).max(0));
                // Steps of less than a second need no clock.
                let took = if now - row.since < 1_000 { String::new() } else { took };
                let room = columns.saturating_sub(took.width() + 4);
                let text = fitting(&format!("{name}{}", row.step), room);
                let took = self.paper.paint(Paint::Faint, &took);
                format!("{turn} {text}  {took}").trim_end().to_owned()
            })
            .collect();
        let more = self.rows.len() - shown;
        if self.paper.many && !self.rows.is_empty() {
            let more = if more > 0 { format!(", {more} of them not shown") } else { String::new() };
            let line = format!("  {} running{more}, {} ended", self.rows.len(), self.ended);
            lines.push(self.paper.paint(Paint::Faint, &fitting(&line, columns)));
        }
        lines
    }
}

/// Cuts a text to so many columns of a terminal.
fn fitting(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |letter: &char| {
        let width = letter.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut text: String = text.chars().take_while(fits).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_what_it_takes_of_a_terminal() {
        assert_eq!(fitting("build", 5), "build");
        assert_eq!(fitting("builds", 5), "buil…");
        assert_eq!(fitting("日本語です", 5), "日本…");
        assert_eq!(fitting("e\u{301}tudes", 4), "e\u{301}tu…");
    }
}
