//! Tells the program what it was built with: the compiler, and the version of every crate in the lock file.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rustc-env=BENCH_RUSTC={}", rustc());
    println!("cargo::rustc-env=BENCH_VERSIONS={}", versions());
    println!("cargo::rerun-if-changed=Cargo.lock");
}

fn rustc() -> String {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("--version").output().map(|output| output.stdout);
    String::from_utf8_lossy(&output.unwrap_or_default()).trim().to_owned()
}

/// `name version` of every locked crate, with `;` between them.
fn versions() -> String {
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = fs::read_to_string(Path::new(&folder).join("Cargo.lock")).unwrap_or_default();
    let packages = lock.split("[[package]]").skip(1);
    packages
        .map(|package| format!("{} {}", value(package, "name"), value(package, "version")))
        .collect::<Vec<_>>()
        .join(";")
}

fn value<'a>(package: &'a str, key: &str) -> &'a str {
    let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or("\"?\"").trim_matches('"')
}
