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
    /// Returns the labels of a Linux machine of this architecture (`x64`, `arm64`), and `more`; of those one
    /// that ends with `*` stands for all that begin so.
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
            .filter(|label| !self.served.iter().any(|served| means(served, label)))
            .map(|label| format!("`{label}`"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!("no runner serves the label {}", missing.join(", "));
        Err(Reason::new("label", text))
    }
}

/// Returns whether a label that is served is one that is asked for. Labels are the same in capitals and small letters; one
/// that ends with `*` stands for all that begin so.
pub fn means(served: &str, label: &str) -> bool {
    let (served, label) = (served.to_ascii_lowercase(), label.to_ascii_lowercase());
    match served.strip_suffix('*') {
        Some(start) => label.starts_with(start),
        None => label == served,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_others_can_be_served_too() {
        let labels = Labels::of_linux("x64", &["gpu".to_owned(), "Vendor-*".to_owned()]);
        let serve = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|label| (*label).to_owned()).collect();
            labels.serve(&wanted).map_err(|reason| reason.text)
        };
        assert_eq!(serve(&["Ubuntu-Latest", "GPU"]), Ok(()));
        assert_eq!(serve(&["vendor-4vcpu-ubuntu-2404"]), Ok(()));
        let missing = "no runner serves the label `macos-15`, `gpu-2`".to_owned();
        assert_eq!(serve(&["macos-15", "x64", "gpu-2"]), Err(missing));
    }
}
