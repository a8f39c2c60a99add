//! The macros find the SDK by whatever name an author's package has it, in each way that cargo lets a name be given.

mod support;

use support::{assert_built, cargo, files_in, library_path, Host, Instance, Library};

/// The packages of one workspace: what each has in its Cargo.toml in place of the path's `PATH`, and the name in code.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("plain", "[dependencies]\nferrule-plugin = { path = PATH }", "ferrule"),
    ("inline", "[dependencies]\nplug = { package = \"ferrule-plugin\", path = PATH }", "plug"),
    ("table", "[dependencies.my-plug]\npath = PATH\npackage = 'ferrule-plugin'", "my_plug"),
    ("dotted", "[dependencies]\n\"plug\".package = \"ferrule-plugin\"\nplug.path = PATH", "plug"),
    ("same", "[dependencies]\nferrule-plugin = { package = \"ferrule-plugin\", path = PATH }", "ferrule_plugin"),
    ("library", "[dependencies]\nferrule = { package = \"ferrule-plugin\", path = PATH }", "ferrule"),
    (
        "target",
        "[target.'cfg(any(unix, windows))'.dependencies] # \"not here\"\nhere = { package = \"ferrule-plugin\", path = PATH }",
        "here",
    ),
    (
        "target-table",
        "[target.\"cfg(not(none))\".dependencies.here]\npackage = \"ferrule-plugin\"\npath = PATH",
        "here",
    ),
    ("inherits", "[dependencies]\nshared-plug = { workspace = true, features = [\n  \"log\",\n] }", "shared_plug"),
    ("inherits-dotted", "[dependencies]\nshared-plug.workspace = true", "shared_plug"),
    (
        "with-tests",
        "[dependencies]\nplug = { package = \"ferrule-plugin\", path = PATH }\n\n\
         [dev-dependencies.plug]\npackage = \"ferrule-plugin\"\npath = PATH\nfeatures = [\"testing\"]",
        "plug",
    ),
];

/// All macros, and a state, with the SDK called SDK.
const SOURCE: &str = r#"
    SDK::plugin!(name: "renamed", version: env!("CARGO_PKG_VERSION"), state: Greeting);

    struct Greeting(String);

    impl SDK::State for Greeting {
        type Config = String;

        fn start(_: &SDK::Context, greeting: String) -> SDK::Result<Greeting> {
            Ok(Greeting(greeting))
        }
    }

    /// Who is here?
    #[SDK::import]
    fn visitor() -> SDK::Result<String>;

    #[SDK::import]
    fn count(name: &str) -> SDK::Result<SDK::Json<u32>>;

    /// Greets.
    #[SDK::export]
    fn greet(greeting: &mut Greeting, ctx: &SDK::Context, mark: &str) -> SDK::Result<String> {
        ctx.check_cancelled()?;
        let name = visitor()?;
        let SDK::Json(count) = count(&name)?;
        Ok(format!("{} {name} {count}{mark}", greeting.0))
    }

    #[SDK::hook]
    fn page(page: &[u8]) -> Vec<u8> {
        page.to_vec()
    }
"#;

/// Tests that are compiled with the dev-dependencies' name only.
const TESTS: &str = r#"
    #[cfg(test)]
    mod tests {
        #[test]
        fn greets() {
            let host = plug::testing::Host::new()
                .import("visitor", |_| Ok(b"Ada".to_vec()))
                .import("count", |_| Ok(b"3".to_vec()));
            let greeting = host.run(|ctx| super::greet(&mut super::Greeting("Hi".into()), ctx, "."));
            assert_eq!(greeting.unwrap(), "Hi Ada 3.");
        }
    }
"#;

#[test]
fn the_macros_follow_every_name() {
    let path = format!("{:?}", env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![(
        "Cargo.toml".to_string(),
        format!(
            "[workspace]\nresolver = \"2\"\nmembers = [\"members/*\"]\n\n[workspace.dependencies]\n\
             shared-plug = {{ path = {path}, package = \"ferrule-plugin\" }}\n"
        ),
    )];
    for (name, dependency, sdk) in MEMBERS {
        let manifest = format!(
            "[package]\nname = \"renamed-{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n\
             [lib]\ncrate-type = [\"cdylib\"]\n\n{}\n",
            dependency.replace("PATH", &path)
        );
        let mut source = SOURCE.replace("SDK", sdk);
        if *name == "with-tests" {
            source += TESTS;
        }
        files.push((format!("members/{name}/Cargo.toml"), manifest));
        files.push((format!("members/{name}/src/lib.rs"), format!("#![deny(warnings)]\n{source}")));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let folder = files_in("renamed", &files);
    assert_built(&cargo(&folder, &["build", "--offline", "--workspace"]));
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    for (name, ..) in MEMBERS {
        let library = Library::open(&library_path(profile, &format!("renamed-{name}")), &["visitor", "count"]);
        let host = Host::default()
            .import("visitor", |_, _| (0, b"Ada".to_vec()))
            .import("count", |_, name| (0, name.len().to_string().into_bytes()));
        let instance = Instance::started(&library, host, "Hello");
        assert_eq!(instance.call("greet", "!").ok(), "Hello Ada 3!", "{name}");
        assert_eq!(instance.call_symbol("ferrule_hook_page", b"page", 64).ok(), "page", "{name}");
        assert_eq!(library.text("ferrule_meta_import_visitor")[0], ("doc".into(), "Who is here?".into()), "{name}");
    }
    let tests = cargo(&folder, &["test", "--offline", "-p", "renamed-with-tests"]);
    assert_built(&tests);
    assert!(String::from_utf8_lossy(&tests.stdout).contains("1 passed"), "{tests:?}");
}

/// A package that is no plug-in itself, and takes the SDK for its tests only: those of its own, integration tests and
/// the examples in its documentation.
#[test]
fn the_macros_follow_a_name_that_is_for_tests_only() {
    let manifest = format!(
        "[package]\nname = \"renamed-in-tests\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
         [dev-dependencies]\nplug = {{ package = \"ferrule-plugin\", path = {:?}, features = [\"testing\"] }}\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let import = "#[plug::import]\nfn double(text: &str) -> plug::Result<String>;\n";
    let check = "let host = plug::testing::Host::new().import(\"double\", |text| Ok([text, text].concat()));\n\
                 assert_eq!(host.run(|_| double(\"ab\")).unwrap(), \"abab\");\n";
    let test = format!("{import}\n#[test]\nfn doubles() {{\n{check}\n}}\n");
    let doc: String = format!("{import}{check}").lines().map(|line| format!("//! {line}\n")).collect();
    let source = format!("//! ```\n{doc}//! ```\n\n#[cfg(test)]\nmod tests {{\n{test}\n}}\n");
    let folder = files_in(
        "renamed-in-tests",
        &[("Cargo.toml", &*manifest), ("src/lib.rs", &*source), ("tests/outside.rs", &*test)],
    );
    let tests = cargo(&folder, &["test", "--offline"]);
    assert_built(&tests);
    assert_eq!(String::from_utf8_lossy(&tests.stdout).matches("1 passed").count(), 3, "{tests:?}");
}
