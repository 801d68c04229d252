//! Compiles the sandbox escape attempts: one program, linked statically, for jobs to run.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=escapes");
    let var = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let out = PathBuf::from(var("OUT_DIR")).join("escapes");
    // It makes system calls by their numbers.
    if var("CARGO_CFG_TARGET_ARCH") != "x86_64" {
        std::fs::write(out, "").expect("OUT_DIR can be written to");
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "a build script has no muster-sys")]
    let status = Command::new(var("RUSTC"))
        .args(["--edition=2024", "--crate-name=escapes", "--crate-type=bin", "-Copt-level=s"])
        .args(["-Cpanic=abort", "-Cstrip=symbols", "-Ctarget-feature=+crt-static", "--target"])
        .arg(var("TARGET"))
        .arg("-o")
        .arg(&out)
        .arg("escapes/main.rs")
        .status()
        .expect("rustc starts");
    assert!(status.success(), "the escape attempts cannot be compiled");
}
