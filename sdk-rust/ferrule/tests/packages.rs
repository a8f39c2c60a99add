//! Plug-ins as their authors have them: packages of their own, with their own edition, profile and lints.

mod support;

use std::process::Command;
use support::{assert_built, cargo, library_path, package, Host, Instance, Library};

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
            fn start(_: &Context, _: &[u8]) -> ferrule::Result<Small> {
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
