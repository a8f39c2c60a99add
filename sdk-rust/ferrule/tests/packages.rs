//! Plug-ins as their authors have them: packages of their own, with their own edition, profile and lints.

mod support;

use std::process::Command;
use support::{assert_built, cargo, files_in, library_path, package, Host, Instance, Library};

const CDYLIB: &str = "\n[lib]\ncrate-type = [\"cdylib\"]\n";

/// What the linker leaves of a plug-in that is built as small as can be is the contract, nothing more and nothing less.
#[test]
#[cfg(target_os = "linux")]
fn a_release_exports_exactly_the_contract() {
    let source = r#"
        //! Edition 2024, no unsafe code, no warnings.
        #![forbid(unsafe_code)]
        #![deny(warnings, missing_docs, unreachable_pub, unused_qualifications)]

        use ferrule::{Context, State};

        ferrule::plugin!(name: "small", version: env!("CARGO_PKG_VERSION"), state: Small, threads: "concurrent");

        struct Small;

        impl State for Small {
            type Config = ();

            fn start(_: &Context, _: ()) -> ferrule::Result<Small> {
                Ok(Small)
            }
        }

        #[ferrule::import]
        fn now() -> ferrule::Result<String>;

        mod functions {
            #[ferrule::export]
            fn time(_: &super::Small) -> ferrule::Result<String> {
                super::now()
            }
        }

        #[ferrule::hook]
        fn page_header(page: &str) -> &str {
            page
        }
    "#;
    let release = "\n[profile.release]\nlto = \"fat\"\ncodegen-units = 1\nopt-level = \"z\"\nstrip = true\n";
    let folder = package("small", "2024", &[CDYLIB, release].concat(), &[("src/lib.rs", source)]);
    assert_built(&cargo(&folder, &["build", "--offline", "--release"]));
    let library = library_path("release", "small");
    let nm = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output();
    let nm = nm.unwrap_or_else(|error| panic!("nm: {error}; apt-get install binutils"));
    let mut symbols: Vec<String> = String::from_utf8(nm.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
        .collect();
    symbols.sort_unstable();
    let want = [
        "D ferrule_import_now",
        "R ferrule_manifest",
        "R ferrule_meta_fn_time",
        "R ferrule_meta_hook_page_header",
        "R ferrule_meta_import_now",
        "T ferrule_batch",
        "T ferrule_fn_time",
        "T ferrule_hook_page_header",
        "T ferrule_start",
        "T ferrule_stop",
    ];
    assert_eq!(symbols, want);

    let bytes = std::fs::read(&library).unwrap();
    let manifest = b"ferrule=1\0name=small\0version=0.1.0\0threads=concurrent\0\0";
    assert!(bytes.windows(manifest.len()).any(|window| window == manifest), "the manifest's bytes stand in the file");

    let library = Library::open(&library, &["now"]);
    let host = Host::default().import("now", |_, _| (0, b"noon".to_vec()));
    assert_eq!(Instance::started(&library, host, "").call("time", "").ok(), "noon");
}

#[test]
fn panic_abort_is_refused_and_its_tests_run() {
    let source = r#"
        ferrule::plugin!(name: "aborts", version: "1");

        #[ferrule::export]
        fn vowels(text: &str) -> String {
            text.matches(['a', 'e']).count().to_string()
        }

        #[test]
        fn counts() {
            assert_eq!(vowels("ace"), "2");
        }
    "#;
    let profile = "\n[profile.dev]\npanic = \"abort\"\n\n[profile.release]\npanic = \"abort\"\n";
    let folder = package("aborts", "2021", &[CDYLIB, profile].concat(), &[("src/lib.rs", source)]);
    let built = cargo(&folder, &["build", "--offline"]);
    let message = String::from_utf8_lossy(&built.stderr);
    assert!(!built.status.success() && message.contains("a Ferrule plug-in needs panic = \"unwind\""), "{message}");
    // Cargo builds tests with unwind whatever the profile says.
    assert_built(&cargo(&folder, &["test", "--offline"]));
}

#[test]
fn two_functions_of_one_name_do_not_build() {
    let source = r#"
        ferrule::plugin!(name: "twice", version: "1");

        mod one {
            #[ferrule::export]
            fn function() {}
        }

        mod two {
            #[ferrule::export]
            fn function() {}
        }
    "#;
    let folder = package("twice", "2021", CDYLIB, &[("src/lib.rs", source)]);
    let built = cargo(&folder, &["build", "--offline"]);
    let message = String::from_utf8_lossy(&built.stderr);
    assert!(message.contains("symbol `ferrule_fn_function` is already defined"), "{message}");
}

/// Whether the macros of the crate log reach the host is a feature of the SDK. A plug-in that has the crate and not the
/// feature is told so when it is built.
#[test]
fn log_lines_that_nobody_gets_are_warned_of() {
    let source = r#"
        ferrule::plugin!(name: "logging", version: "1");

        #[ferrule::export]
        fn f() {
            log::info!("hello");
        }
    "#;
    let manifest = ["log = \"0.4\"\n", CDYLIB].concat();
    let folder = package("logging", "2021", &manifest, &[("src/lib.rs", source)]);
    let check = || {
        let checked = cargo(&folder, &["check", "--offline"]);
        assert_built(&checked);
        String::from_utf8(checked.stderr).unwrap()
    };
    let without = check();
    assert!(without.contains("the package depends on the crate `log`, whose lines are dropped"), "{without}");
    assert!(without.contains("add `features = [\"log\"]` to ferrule-plugin in Cargo.toml"), "{without}");
    assert_eq!(without.matches("warning: use of ").count(), 1, "{without}");

    let file = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("path = ", "features = [\"log\"], path = ");
    std::fs::write(&file, text).unwrap();
    let with = check();
    assert!(!with.contains("warning"), "{with}");
}

/// A library has the exports of one crate, its own. Those of a crate that it depends on are not among them.
#[test]
fn what_a_dependency_exports_is_not_exported() {
    let path = env!("CARGO_MANIFEST_DIR");
    let manifest = |name: &str, kind: &str, dependency: &str| {
        format!(
            "[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[lib]\ncrate-type = [{kind:?}]\n\n\
             [dependencies]\nferrule-plugin = {{ path = {path:?}, default-features = false }}\n{dependency}"
        )
    };
    let source = |name: &str, function: &str| {
        format!("ferrule::plugin!(name: {name:?}, version: \"1\");\n\n#[ferrule::export]\nfn {function}() {{}}\n")
    };
    let outer = manifest("outer", "cdylib", "inner = { path = \"../inner\" }\n");
    let folder = files_in(
        "one-crate",
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"inner\", \"outer\"]\n"),
            ("inner/Cargo.toml", &manifest("inner", "rlib", "")),
            ("inner/src/lib.rs", &source("inner", "below")),
            ("outer/Cargo.toml", &outer),
            ("outer/src/lib.rs", &source("outer", "above")),
        ],
    );
    assert_built(&cargo(&folder, &["build", "--offline"]));
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let library = Library::open(&library_path(profile, "outer"), &[]);
    assert!(library.has("ferrule_fn_above") && !library.has("ferrule_fn_below"));
    assert_eq!(library.text("ferrule_manifest")[1], ("name".to_string(), "outer".to_string()));
}

/// Without the feature json the crate has no dependency but its macros.
#[test]
fn without_json() {
    let source = "ferrule::plugin!(name: \"bare\", version: \"1\");\n\n#[ferrule::export]\nfn nothing() {}\n";
    let folder = package("bare", "2018", CDYLIB, &[("src/lib.rs", source)]);
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap().replace("path = ", "default-features = false, path = ");
    std::fs::write(manifest, text).unwrap();
    assert_built(&cargo(&folder, &["build", "--offline"]));
    let tree = Command::new(env!("CARGO"))
        .current_dir(&folder)
        .args(["tree", "--offline", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["bare", "ferrule-plugin"]);
}
