//! `cargo xtask bench`: design figures, measured on the release binary.
//!
//! Each figure is printed with its target and, where one was measured, a rival's: `act` here and now where
//! it is installed, the others as they were found elsewhere. Nothing here fails:
//! a machine that is busy is no bug. Medians; open loop where load is offered.

mod language;
mod log;
mod neighbour;
mod run;
mod server;

pub(crate) use run::git;

use std::path::{Path, PathBuf};

use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Measure this program, too, in the same run: an older one, to compare with.
    #[arg(long, value_name = "PROGRAM")]
    than: Option<PathBuf>,
    /// Only groups of figures whose name contains this.
    only: Option<String>,
}

/// A figure, its target and how they compare.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    target: Target,
    rival: Option<String>,
    /// What the program to compare with reached.
    before: Option<f64>,
}

/// A name and what measures it.
type Group = (&'static str, fn(&Path) -> anyhow::Result<Vec<Figure>>);

/// What a figure must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing: it says how fast the machine is now.
    OfTheMachine,
}

impl Figure {
    fn new(name: &'static str, value: f64, unit: &'static str, target: Target) -> Self {
        Self { name, value, unit, target, rival: None, before: None }
    }

    fn rival(mut self, rival: impl Into<String>) -> Self {
        self.rival = Some(rival.into());
        self
    }

    fn is_reached(&self) -> bool {
        match self.target {
            Target::AtMost(bound) => self.value <= bound,
            Target::AtLeast(bound) => self.value >= bound,
            Target::OfTheMachine => true,
        }
    }

    #[expect(clippy::print_stdout, reason = "this is the command line")]
    fn print(&self, as_json: bool) {
        let target = match self.target {
            Target::AtMost(bound) => Some(format!("≤ {bound}")),
            Target::AtLeast(bound) => Some(format!("≥ {bound}")),
            Target::OfTheMachine => None,
        };
        if as_json {
            let line = json!({
                "name": self.name,
                "value": (self.value * 1000.0).round() / 1000.0,
                "unit": self.unit,
                "target": target,
                "rival": self.rival,
                "before": self.before.map(|value| (value * 1000.0).round() / 1000.0),
                "ok": self.is_reached(),
            });
            println!("{line}");
            return;
        }
        let mark = if self.is_reached() { "ok  " } else { "MISS" };
        let target = target.unwrap_or_else(|| "the machine".to_owned());
        let before = self.before.map(|value| format!("   (before {value:.2})")).unwrap_or_default();
        let rival = self.rival.as_ref().map(|rival| format!("   ({rival})")).unwrap_or_default();
        println!(
            "{mark} {:<34} {:>10.2} {:<6} {target}{before}{rival}",
            self.name, self.value, self.unit
        );
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    crate::run("cargo", &["build", "--release", "--locked", "--package", "muster"], &[])?;
    let groups: [Group; 5] = [
        ("plan", language::figures),
        ("run", run::figures),
        ("log", log::figures),
        ("neighbour", neighbour::figures),
        ("server", server::figures),
    ];
    for (group, figures) in groups {
        if arguments.only.as_deref().is_some_and(|only| !group.contains(only)) {
            continue;
        }
        let before = match &arguments.than {
            Some(program) => figures(&program.canonicalize()?)?,
            None => Vec::new(),
        };
        for mut figure in figures(&binary())? {
            let same = before.iter().find(|before| before.name == figure.name);
            figure.before = same.map(|before| before.value);
            figure.print(arguments.json);
        }
    }
    Ok(())
}

/// Returns the value below which the share `q` of all lies.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index within the values"
    )]
    let place = ((values.len() as f64 - 1.0) * q).round().max(0.0) as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}

fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Returns the release binary.
fn binary() -> PathBuf {
    crate::top().join("target/release/muster")
}
