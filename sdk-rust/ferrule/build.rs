//! Tells the crate whether the compiler knows `#[diagnostic::on_unimplemented]` (Rust 1.78), which an older one takes
//! for an error, and `#[diagnostic::do_not_recommend]` (1.85), of which an older one warns. Cargo sets RUSTC for build
//! scripts.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let output = Command::new(std::env::var_os("RUSTC").unwrap()).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    // "rustc 1.95.0 (…)"; a compiler that says something else is taken for a new one.
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
    if minor >= 80 {
        println!("cargo:rustc-check-cfg=cfg(ferrule_diagnostic, ferrule_do_not_recommend)");
    }
    if minor >= 78 {
        println!("cargo:rustc-cfg=ferrule_diagnostic");
    }
    if minor >= 85 {
        println!("cargo:rustc-cfg=ferrule_do_not_recommend");
    }
}
