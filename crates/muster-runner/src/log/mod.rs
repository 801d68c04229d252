//! What a job says: its lines, with secrets masked, and what some of them tell the runner.
//!
//! All that leaves a job passes here: the output of its programs and what muster says of them, names of steps,
//! summaries, annotations. In the text of a log GitHub's marks stand for what is no plain line, such as
//! `##[error]` and `##[group]` ([`marks`](crate::marks)).

mod command;
mod encode;
mod lines;
mod mask;
mod matcher;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::command::{Command, STOP};
use self::lines::{MAX_COMMAND, Take};
use self::mask::{Masks, TooMuch};
use self::matcher::{Match, Matchers, without_colours};
use crate::Listener;
use crate::files::{NODE_OPTIONS, Said};
use crate::ground::{self, Ground};
use crate::marks::{DEBUG, ENDGROUP, GROUP, mark};
use crate::spec::{Annotation, Level, StepEvent};

pub(crate) use self::lines::Lines;

/// A step has at most so many annotations of a level, GitHub's bound.
const MAX_ANNOTATIONS: usize = 10;
/// The most characters of an annotation's message, GitHub's bound.
const MAX_MESSAGE: usize = 4_096;
/// The most characters of its title, and of the name of its file.
const MAX_TITLE: usize = 255;
/// The most bytes of what a step says by commands of one kind, as in its files.
const MAX_KEPT: usize = 10 << 20;
/// A longer token of `stop-commands` is masked.
const SHORT_TOKEN: usize = 6;

/// The log of a job, for who does its steps one after the other. Others write to it, too.
pub(crate) struct Log<'a> {
    out: Arc<Mutex<Out<'a>>>,
    matchers: Matchers,
    /// Whether `::debug::` is shown.
    is_debug: bool,
    program: Talk,
    annotations: Count,
}

/// Where all that a job says goes out.
struct Out<'a> {
    listener: &'a mut (dyn Listener + Send),
    masks: Masks,
}

impl Out<'_> {
    fn output(&mut self, step: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.listener.output(step, bytes);
        }
    }
}

/// What the program that runs has told so far.
#[derive(Debug, Default)]
struct Talk {
    /// What it may say.
    allows: Allows,
    /// Whether commands are shown as they were written.
    is_echoed: bool,
    /// The word after which commands count again.
    token: Option<String>,
    env: Kept,
    outputs: Kept,
    state: Kept,
    paths: Vec<String>,
    is_failed: bool,
}

/// What a step's variables allow its commands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allows {
    /// To set variables and paths by lines of output, which any text that is printed may do.
    variables: bool,
    /// To stop commands by any word.
    tokens: bool,
}

/// How many annotations a step has.
#[derive(Debug, Default)]
struct Count {
    step: usize,
    of_level: [usize; 3],
    /// Those that were too many.
    more: usize,
}

/// What a program has told by its output.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) said: Said,
    /// Whether it is a failure, whatever its exit code.
    pub(crate) is_failed: bool,
}

impl Allows {
    /// Reads what variables allow.
    pub(crate) fn of(variables: &[(String, String)]) -> Self {
        let is_true = |name: &str| {
            let found = variables.iter().rev().find(|(known, _)| known == name);
            found.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"))
        };
        Self {
            variables: is_true("ACTIONS_ALLOW_UNSECURE_COMMANDS"),
            tokens: is_true("ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS"),
        }
    }
}

impl<'a> Log<'a> {
    /// Begins the log of a job whose secrets are never shown.
    ///
    /// # Errors
    ///
    /// When there are more secrets than can be masked.
    pub(crate) fn new<'s>(
        listener: &'a mut (dyn Listener + Send),
        secrets: impl Iterator<Item = &'s str>,
        is_debug: bool,
    ) -> Result<Self, TooMuch> {
        let mut masks = Masks::default();
        secrets.filter(|secret| !secret.is_empty()).try_for_each(|secret| masks.add(secret))?;
        Ok(Self {
            out: Arc::new(Mutex::new(Out { listener, masks })),
            matchers: Matchers::default(),
            is_debug,
            program: Talk::default(),
            annotations: Count::default(),
        })
    }

    /// Returns another for who does other steps meanwhile.
    pub(crate) fn aside(&self) -> Self {
        Self {
            out: Arc::clone(&self.out),
            matchers: self.matchers.clone(),
            is_debug: self.is_debug,
            program: Talk::default(),
            annotations: Count::default(),
        }
    }

    fn out(&self) -> MutexGuard<'_, Out<'a>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hides something from now on.
    ///
    /// # Errors
    ///
    /// When there is too much to hide.
    pub(crate) fn mask(&mut self, secret: &str) -> Result<(), TooMuch> {
        self.out().masks.add(secret)
    }

    /// Returns a text with the secrets in it masked.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.out().masks.text(text)
    }

    /// Returns whether a text holds a secret.
    pub(crate) fn holds_secret(&self, text: &str) -> bool {
        self.out().masks.are_in(text)
    }

    /// Says something of a step.
    pub(crate) fn say(&mut self, step: usize, line: &str) {
        let mut out = self.out();
        let line = out.masks.text(line);
        out.output(step, format!("{line}\n").as_bytes());
    }

    /// Tells of something that people should see.
    pub(crate) fn tell(&mut self, step: usize, level: Level, message: &str) {
        self.say(step, &format!("{}{message}", mark(level)));
        self.annotate(step, plain(level, message.to_owned()));
    }

    /// Tells what happens with a step.
    pub(crate) fn step(&mut self, event: StepEvent) {
        if let StepEvent::Finished { step, .. } = &event
            && self.annotations.step == *step
            && self.annotations.more > 0
        {
            let more = std::mem::take(&mut self.annotations.more);
            let line = format!(
                "{more} more errors, warnings and notices of this step are in its log alone: \
                 {MAX_ANNOTATIONS} of a kind are kept as annotations"
            );
            self.say(*step, &line);
        }
        let mut out = self.out();
        let Out { listener, masks } = &mut *out;
        listener.step(match event {
            StepEvent::Started { step, name, at } => {
                StepEvent::Started { step, name: masks.text(&name), at }
            }
            StepEvent::Finished { step, name, outcome, conclusion, at, usage } => {
                let name = masks.text(&name);
                StepEvent::Finished { step, name, outcome, conclusion, at, usage }
            }
            StepEvent::Summary { step, markdown } => {
                StepEvent::Summary { step, markdown: masks.text(&markdown) }
            }
            StepEvent::Environment { name, url } => StepEvent::Environment {
                name: masks.text(&name),
                url: url.map(|url| masks.text(&url)),
            },
            event @ (StepEvent::Annotated { .. } | StepEvent::Uses { .. }) => event,
        });
    }

    /// Nothing was written for a while.
    pub(crate) fn idle(&mut self, step: usize, lines: &mut Lines) {
        let (mut out, mut bytes) = (self.out(), Vec::new());
        lines.rest(&out.masks, &mut bytes);
        out.output(step, &bytes);
        out.listener.idle(step);
    }

    /// A program begins to write.
    pub(crate) fn begin(&mut self, allows: Allows) {
        self.matchers.begin();
        self.program = Talk { allows, is_echoed: self.is_debug, ..Talk::default() };
    }

    /// Takes what the program of a step has written.
    pub(crate) fn write(&mut self, step: usize, lines: &mut Lines, bytes: &[u8], ground: &Ground) {
        self.with(step, ground, |masks, listening, out| lines.push(bytes, masks, listening, out));
    }

    /// The program of a step has ended; returns what it has told. Without `lines` what it has begun to write goes on.
    pub(crate) fn end(&mut self, step: usize, lines: Option<&mut Lines>, ground: &Ground) -> Told {
        if let Some(lines) = lines {
            self.with(step, ground, |masks, listening, out| lines.end(masks, listening, out));
        }
        let Talk { env, outputs, state, paths, is_failed, .. } = std::mem::take(&mut self.program);
        let said = Said {
            env: env.values,
            outputs: outputs.values,
            state: state.values,
            paths,
            summary: String::new(),
        };
        Told { said, is_failed }
    }

    /// Takes what something has written that an ended step has left running: it tells the runner nothing.
    pub(crate) fn left_over(&mut self, step: usize, lines: &mut Lines, bytes: &[u8]) {
        let (mut out, mut shown) = (self.out(), Vec::new());
        lines.push(bytes, &mut out.masks, &mut Deaf, &mut shown);
        out.output(step, &shown);
    }

    /// Nothing more comes of it.
    pub(crate) fn end_left_over(&mut self, step: usize, lines: &mut Lines) {
        let (mut out, mut shown) = (self.out(), Vec::new());
        lines.end(&mut out.masks, &mut Deaf, &mut shown);
        out.output(step, &shown);
    }

    fn with(
        &mut self,
        step: usize,
        ground: &Ground,
        take: impl FnOnce(&mut Masks, &mut Listening<'_>, &mut Vec<u8>),
    ) {
        let mut listening = Listening {
            talk: &mut self.program,
            matchers: &mut self.matchers,
            ground,
            is_debug: self.is_debug,
            annotations: Vec::new(),
        };
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = out.masks.is_full();
        let mut shown = Vec::new();
        take(&mut out.masks, &mut listening, &mut shown);
        out.output(step, &shown);
        if out.masks.is_full() && !was_full {
            let why = format!("{TooMuch}. What the job says is not shown any more");
            out.output(step, format!("{}{why}\n", mark(Level::Error)).as_bytes());
        }
        drop(out);
        for annotation in listening.annotations {
            self.annotate(step, annotation);
        }
    }

    /// Keeps an annotation, if there is room.
    fn annotate(&mut self, step: usize, mut annotation: Annotation) {
        if self.out().masks.is_full() {
            return;
        }
        if self.annotations.step != step {
            self.annotations = Count { step, ..Count::default() };
        }
        let count = &mut self.annotations.of_level[annotation.level as usize];
        if *count == MAX_ANNOTATIONS {
            self.annotations.more += 1;
            return;
        }
        *count += 1;
        let mut out = self.out();
        let masked = |text: &str, most| cut(&out.masks.text(text), most);
        annotation.message = masked(&annotation.message, MAX_MESSAGE);
        annotation.title = annotation.title.map(|title| masked(&title, MAX_TITLE));
        annotation.file = annotation.file.map(|file| masked(&file, MAX_TITLE));
        out.listener.step(StepEvent::Annotated { step, annotation });
    }
}

/// Returns an annotation of no file.
fn plain(level: Level, message: String) -> Annotation {
    let (title, file, line, end_line, column, end_column) = Default::default();
    Annotation { level, message, title, file, line, end_line, column, end_column }
}

fn cut(text: &str, most: usize) -> String {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end]).to_owned()
}

/// Does nothing with lines but write them.
struct Deaf;

impl Take for Deaf {
    fn wants(&self, _: &[u8]) -> bool {
        false
    }

    fn take(&mut self, _: &[u8], _: bool, _: &mut Masks, _: &mut Vec<u8>) -> bool {
        false
    }

    fn refuse(&mut self, _: &mut Masks, _: &mut Vec<u8>) {}
}

/// Listens to the lines of a program.
struct Listening<'l> {
    talk: &'l mut Talk,
    matchers: &'l mut Matchers,
    ground: &'l Ground,
    is_debug: bool,
    annotations: Vec<Annotation>,
}

impl Take for Listening<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        !self.matchers.is_empty() || command::may_hold(line)
    }

    fn take(&mut self, line: &[u8], is_begun: bool, masks: &mut Masks, out: &mut Vec<u8>) -> bool {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mut lines = Vec::new();
        let mut is_taken = self.commands(text, masks, &mut lines);
        if is_taken && is_begun && !masks.is_full() {
            // What is shown of it stays.
            out.push(b'\n');
        }
        if !is_taken {
            is_taken = self.problem(text, &mut lines) && !is_begun;
            if is_begun {
                lines.clear();
            }
        }
        write(&lines, masks, out);
        is_taken
    }

    fn refuse(&mut self, masks: &mut Masks, out: &mut Vec<u8>) {
        let mut lines = Vec::new();
        self.note(
            Level::Error,
            &format!("a command has more than {MAX_COMMAND} bytes"),
            &mut lines,
        );
        self.talk.is_failed = true;
        write(&lines, masks, out);
    }
}

fn write(lines: &[String], masks: &Masks, out: &mut Vec<u8>) {
    for line in lines.iter().filter(|_| !masks.is_full()) {
        out.extend_from_slice(masks.text(line).as_bytes());
        out.push(b'\n');
    }
}

impl Listening<'_> {
    /// Does what the parts of a line command, where any does. `lines` are written in its place.
    fn commands(&mut self, line: &str, masks: &mut Masks, lines: &mut Vec<String>) -> bool {
        let mut is_any = false;
        for part in line.split('\r').filter(|part| !part.is_empty()) {
            if self.command(part, masks, lines) {
                is_any = true;
            } else {
                lines.push(part.to_owned());
            }
        }
        if !is_any {
            lines.clear();
        }
        is_any
    }

    /// Does what a line commands, where it does. `lines` are written in its place.
    fn command(&mut self, line: &str, masks: &mut Masks, lines: &mut Vec<String>) -> bool {
        let Some(command) = Command::read(line, self.talk.token.as_deref()) else { return false };
        if let Some(token) = &self.talk.token {
            let is_resumed = command.name == *token;
            if is_resumed {
                lines.push(line.to_owned());
                self.talk.token = None;
            }
            return is_resumed;
        }
        let name = command.name.as_str();
        let is_shown_by_itself =
            matches!(name, "add-mask" | "debug" | "error" | "notice" | "warning");
        if self.talk.is_echoed && !is_shown_by_itself && name != STOP {
            lines.push(line.to_owned());
        }
        if let Err(why) = self.follow(&command, line, masks, lines) {
            // What is to be masked is in no message.
            let what = if name == "add-mask" { "::add-mask::" } else { line.trim() };
            let why = format!("the command `{}` cannot be followed: {why}", cut(what, MAX_TITLE));
            lines.push(format!("{}{why}", mark(Level::Error)));
            self.annotations.push(plain(Level::Error, why));
            self.talk.is_failed = true;
        }
        true
    }

    fn follow(
        &mut self,
        command: &Command,
        line: &str,
        masks: &mut Masks,
        lines: &mut Vec<String>,
    ) -> Result<(), String> {
        let data = &command.data;
        let name = || {
            let name = command.property("name").map(str::to_owned);
            name.ok_or("it needs `name=…`")
        };
        let unsecure = "any text that is printed could do that; write to the file that GITHUB_ENV or GITHUB_PATH names, \
                        or set ACTIONS_ALLOW_UNSECURE_COMMANDS to true";
        match command.name.as_str() {
            "debug" if self.is_debug => lines.push(format!("{DEBUG}{data}")),
            "debug" => {}
            "notice" => self.annotation(Level::Notice, command, lines),
            "warning" => self.annotation(Level::Warning, command, lines),
            "error" => self.annotation(Level::Error, command, lines),
            "group" => lines.push(format!("{GROUP}{data}")),
            "endgroup" => lines.push(ENDGROUP.to_owned()),
            "add-mask" if data.trim().is_empty() => {
                self.note(Level::Warning, "`::add-mask::` has nothing to mask", lines);
            }
            "add-mask" => {
                if self.talk.is_echoed {
                    lines.push("::add-mask::***".to_owned());
                }
                masks.add(data).map_err(|overflow| overflow.to_string())?;
            }
            "add-matcher" | "remove-matcher" => self.matcher(command, lines)?,
            "set-output" => self.talk.outputs.keep(name()?, data)?,
            "save-state" => self.talk.state.keep(name()?, data)?,
            "set-env" if self.talk.allows.variables => match name()? {
                name if name.eq_ignore_ascii_case(NODE_OPTIONS) => {
                    self.note(Level::Error, &format!("`{name}` cannot be set from a step"), lines);
                }
                name => self.talk.env.keep(name, data)?,
            },
            "add-path" if self.talk.allows.variables && data.is_empty() => {
                return Err("it needs a path".to_owned());
            }
            "add-path" if self.talk.allows.variables => {
                let bytes: usize = self.talk.paths.iter().map(String::len).sum();
                if bytes + data.len() > MAX_KEPT {
                    return Err(format!("the paths have more than {MAX_KEPT} bytes"));
                }
                self.talk.paths.push(data.clone());
            }
            "set-env" | "add-path" => return Err(unsecure.to_owned()),
            "echo" => match data.trim().to_ascii_lowercase().as_str() {
                "on" => self.talk.is_echoed = true,
                "off" => self.talk.is_echoed = false,
                _ => return Err("write `on` or `off`".to_owned()),
            },
            STOP => {
                let is_command = Command::read(&format!("::{data}::"), None).is_some();
                let is_bad =
                    data.is_empty() || is_command || data.eq_ignore_ascii_case("pause-logging");
                if is_bad && !self.talk.allows.tokens {
                    return Err("it needs a word of its own, that is no command".to_owned());
                }
                if data.len() > SHORT_TOKEN {
                    masks.add(data).map_err(|overflow| overflow.to_string())?;
                }
                lines.push(line.to_owned());
                self.talk.token = Some(data.clone());
            }
            other => unreachable!("`{other}` is in the list of commands"),
        }
        Ok(())
    }

    fn note(&mut self, level: Level, message: &str, lines: &mut Vec<String>) {
        lines.push(format!("{}{message}", mark(level)));
        self.annotations.push(plain(level, message.to_owned()));
    }

    fn annotation(&mut self, level: Level, command: &Command, lines: &mut Vec<String>) {
        lines.push(format!("{}{}", mark(level), command.data));
        let number = |name: &str| command.property(name).and_then(|text| text.trim().parse().ok());
        let mut annotation = Annotation {
            title: command.property("title").map(str::to_owned),
            file: command.property("file").map(|file| self.in_workspace(Path::new(file))),
            line: number("line"),
            end_line: number("endLine"),
            column: number("col"),
            end_column: number("endColumn"),
            ..plain(level, command.data.clone())
        };
        put_in_order(&mut annotation);
        self.annotations.push(annotation);
    }

    /// Returns a file's path from the workspace on, where it is in it.
    fn in_workspace(&self, file: &Path) -> String {
        let below = file.strip_prefix(&self.ground.places.workspace).unwrap_or(file);
        below.to_string_lossy().into_owned()
    }

    fn matcher(&mut self, command: &Command, lines: &mut Vec<String>) -> Result<(), String> {
        let (is_added, file) = (command.name == "add-matcher", command.data.as_str());
        let owner = command.property("owner").filter(|_| !is_added);
        match (owner, file) {
            (Some(_), file) if !file.is_empty() => {
                self.note(
                    Level::Warning,
                    "`remove-matcher` takes an owner or a file, not both",
                    lines,
                );
            }
            (Some(owner), _) => self.matchers.remove(&[owner.to_owned()]),
            (None, "") => {
                self.note(Level::Warning, &format!("`{}` needs a file", command.name), lines);
            }
            (None, file) => {
                let read = self.ground.read_of_job(Path::new(file), matcher::MAX_FILE);
                let read = read.map_err(|error| format!("cannot read {file}: {error}"))?;
                let read = read.ok_or_else(|| format!("{file} does not exist"))?;
                if read.len() as u64 > matcher::MAX_FILE {
                    return Err(format!("{file} has more than {} bytes", matcher::MAX_FILE));
                }
                let done = if is_added {
                    self.matchers.add(&read)
                } else {
                    self.matchers.remove_those_of(&read)
                };
                done.map_err(|why| format!("{file}: {why}"))?;
            }
        }
        Ok(())
    }

    /// Finds the problem that a line tells of.
    fn problem(&mut self, line: &str, lines: &mut Vec<String>) -> bool {
        if self.matchers.is_empty() {
            return false;
        }
        let line = without_colours(line);
        let mut slow = Vec::new();
        let found = self.matchers.find(&line, |owner| slow.push(owner.to_owned()));
        for owner in slow {
            let why = format!("the problem matcher `{owner}` takes too long, and is removed");
            self.note(Level::Warning, &why, lines);
        }
        let Some((level, found)) = found.and_then(|found| Some((found.level()?, found))) else {
            return false;
        };
        lines.push(format!("{}{line}", mark(level)));
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        let annotation = Annotation {
            file: self.file_of(&found),
            line: number(&found.line),
            column: number(&found.column),
            ..plain(level, found.message.unwrap_or_default())
        };
        self.annotations.push(annotation);
        true
    }

    /// Returns the file that a problem is in, from the workspace on; `None` where it is no file there.
    fn file_of(&self, found: &Match) -> Option<String> {
        let file = found.file.as_ref().filter(|file| !file.trim().is_empty())?;
        let folder = found.from_path.as_ref().and_then(|path| Path::new(path).parent());
        let file = folder.unwrap_or(Path::new("")).join(file);
        let workspace = &self.ground.places.workspace;
        let file = ground::plain(&workspace.join(file));
        let below = file.strip_prefix(workspace).ok()?;
        // What is too large to be read is there all the same.
        let is_there = matches!(self.ground.read_in_workspace(below, 0), Ok(Some(_)));
        is_there.then(|| below.to_string_lossy().into_owned())
    }
}

/// Values by their names, each the last that was given.
#[derive(Debug, Default)]
struct Kept {
    values: Vec<(String, String)>,
    /// Where each name is in them.
    places: HashMap<String, usize>,
    bytes: usize,
}

impl Kept {
    /// Keeps a value.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    fn keep(&mut self, name: String, value: &str) -> Result<(), String> {
        let known = self.places.get(&name).map(|place| &mut self.values[*place].1);
        let more = known.as_ref().map_or(name.len(), |_| 0) + value.len();
        let less = known.as_ref().map_or(0, |known| known.len());
        if self.bytes - less + more > MAX_KEPT {
            return Err(format!("the values of the step have more than {MAX_KEPT} bytes"));
        }
        self.bytes = self.bytes - less + more;
        match known {
            Some(known) => value.clone_into(known),
            None => {
                self.places.insert(name.clone(), self.values.len());
                self.values.push((name, value.to_owned()));
            }
        }
        Ok(())
    }
}

/// Leaves out of lines and columns what makes no sense, as GitHub does.
fn put_in_order(annotation: &mut Annotation) {
    let Annotation { line, end_line, column, end_column, .. } = annotation;
    *line = line.or(*end_line);
    *column = column.or(*end_column);
    let is_one_line = end_line.is_none() || line == end_line;
    if line.is_none() || !is_one_line || end_column.is_some_and(|end| Some(end) < *column) {
        (*column, *end_column) = (None, None);
    }
    if end_line.is_some_and(|end| Some(end) < *line) {
        (*line, *end_line) = (None, None);
    }
}
