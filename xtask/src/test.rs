//! `cargo xtask test`.

use anyhow::bail;

use crate::needs;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What goes to `cargo test`, such as the name of a test.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let missing = needs::install();
    if !missing.is_empty() {
        bail!("the tests need what this machine lacks: {}", missing.join("; "));
    }
    let mut args = vec!["test", "--workspace", "--locked"];
    args.extend(arguments.rest.iter().map(String::as_str));
    // A snapshot that differs fails; nothing is written.
    crate::run("cargo", &args, &[("INSTA_UPDATE", "no")])
}
