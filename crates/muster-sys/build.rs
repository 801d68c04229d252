//! Compiles the first process of a sandbox: one file, linked statically, so that it runs in any root.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init/main.rs");
    let var = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let out = PathBuf::from(var("OUT_DIR")).join("init");
    #[expect(clippy::disallowed_methods, reason = "a build script has no muster-sys")]
    let status = Command::new(var("RUSTC"))
        .args(["--edition=2024", "--crate-name=init", "--crate-type=bin", "-Copt-level=s"])
        .args(["-Cpanic=abort", "-Cstrip=symbols", "-Ctarget-feature=+crt-static"])
        .arg("--target")
        .arg(var("TARGET"))
        .arg("-o")
        .arg(&out)
        .arg("init/main.rs")
        .status()
        .expect("rustc starts");
    assert!(
        status.success(),
        "the sandbox's init cannot be linked statically: install the C library's static archive \
         (libc6-dev on Debian, glibc-static on Fedora)"
    );
}
