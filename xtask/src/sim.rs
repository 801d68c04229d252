//! `cargo xtask sim`: the simulator of `muster-core`, for as many stories as wanted.

use anyhow::bail;
use muster_core::sim::{self, Failure, Mutant, Tally};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many stories are told, from seed 0 on.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    seeds: u64,
    /// The story of this seed alone.
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Plant each known fault, and see that it is caught.
    #[arg(long)]
    mutants: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let seeds = arguments.seed.map_or(0..arguments.seeds, |seed| seed..seed + 1);
    if arguments.mutants {
        return plant(seeds);
    }
    let count = seeds.end - seeds.start;
    match tell_all(seeds, None) {
        Ok(tally) => {
            let Tally { actions, kills, webhooks, runs } = tally;
            crate::say(&format!(
                "{count} stories, {actions} actions, {kills} kills, {webhooks} webhooks, {runs} runs: \
                 all laws hold"
            ));
            Ok(())
        }
        Err(failure) => bail!("{}", told(&failure)),
    }
}

/// Tells stories on all cores; returns the failure of the lowest seed.
fn tell_all(seeds: std::ops::Range<u64>, mutant: Option<Mutant>) -> Result<Tally, Box<Failure>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let tell = |first: u64| {
        let mut tally = Tally::default();
        for seed in (seeds.start + first..seeds.end).step_by(usize::try_from(threads).unwrap_or(1))
        {
            let told = sim::run(seed, mutant)?;
            tally.actions += told.actions;
            tally.kills += told.kills;
            tally.webhooks += told.webhooks;
            tally.runs += told.runs;
        }
        Ok(tally)
    };
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..threads).map(|first| scope.spawn(move || tell(first))).collect();
        let mut all = Tally::default();
        let mut failures: Vec<Box<Failure>> = Vec::new();
        for teller in tellers {
            match teller.join() {
                Ok(Ok(tally)) => {
                    all.actions += tally.actions;
                    all.kills += tally.kills;
                    all.webhooks += tally.webhooks;
                    all.runs += tally.runs;
                }
                Ok(Err(failure)) => failures.push(failure),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match failures.into_iter().min_by_key(|failure| failure.seed) {
            None => Ok(all),
            Some(failure) => Err(failure),
        }
    })
}

/// Plants each fault, and says in which story it is caught.
fn plant(seeds: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mut missed = 0;
    for mutant in Mutant::ALL {
        let caught =
            seeds.clone().find_map(|seed| Some((seed, sim::judge(seed, Some(mutant)).err()?)));
        match caught {
            Some((seed, law)) => crate::say(&format!("{mutant:?}: seed {seed}: {law}")),
            None => {
                missed += 1;
                crate::say(&format!("{mutant:?}: NOT CAUGHT"));
            }
        }
    }
    let all = Mutant::ALL.len();
    if missed > 0 {
        bail!("{missed} of {all} planted faults are not caught within {} stories", seeds.end);
    }
    crate::say(&format!("all {all} planted faults are caught"));
    Ok(())
}

fn told(failure: &Failure) -> String {
    let Failure { seed, law, story } = failure;
    format!("seed {seed}: {law}\n{story}`cargo xtask sim --seed {seed}` tells it again")
}
