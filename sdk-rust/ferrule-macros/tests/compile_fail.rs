//! Misuse does not compile, and the message says what to do instead.
//!
//! The messages are the compiler's as well as ours, so their wording belongs to one version of it, the one that the
//! file compile_fail/RUSTC names. To follow a new compiler, write its version there, run this test with
//! TRYBUILD=overwrite in the environment, and read the difference.

use std::process::Command;

#[test]
fn misuse_gives_a_readable_error() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = String::from_utf8(Command::new(rustc).arg("--version").output().unwrap().stdout).unwrap();
    let tested = include_str!("compile_fail/RUSTC").trim();
    if !version.starts_with(&format!("{tested}.")) {
        let number = tested.trim_start_matches("rustc ");
        let reason =
            format!("found {version:?}, the messages are those of {tested}: rustup toolchain install {number}");
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
