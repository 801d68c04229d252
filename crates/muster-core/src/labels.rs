//! Which labels a machine serves.

use crate::run::Reason;

/// The labels that a Linux machine serves where configuration says nothing.
const LINUX: [&str; 6] =
    ["ubuntu-latest", "ubuntu-24.04", "ubuntu-22.04", "ubuntu-slim", "linux", "self-hosted"];

/// The labels of one machine.
#[derive(Debug, Clone)]
pub struct Labels {
    served: Vec<String>,
}

impl Labels {
    /// Returns the labels of a Linux machine of this architecture (`x64`, `arm64`), and `more`.
    pub fn of_linux(arch: &str, more: &[String]) -> Self {
        let mut served: Vec<String> = LINUX.iter().map(|label| (*label).to_owned()).collect();
        served.push(arch.to_owned());
        if arch == "arm64" {
            served.extend(["ubuntu-24.04-arm", "ubuntu-22.04-arm"].map(str::to_owned));
        }
        served.extend(more.iter().cloned());
        Self { served }
    }

    /// Checks that a job with these labels can run here.
    ///
    /// # Errors
    ///
    /// Names the labels that nobody serves.
    pub fn serve(&self, wanted: &[String]) -> Result<(), Reason> {
        let missing: Vec<String> = wanted
            .iter()
            .filter(|label| !self.served.iter().any(|served| served.eq_ignore_ascii_case(label)))
            .map(|label| format!("`{label}`"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!("no runner serves the label {}", missing.join(", "));
        Err(Reason::new("label", text))
    }
}
