//! By which name the author's crate has the SDK, and whether it has the crate log.
//!
//! The name is `ferrule`, the name of its library, unless the author's Cargo.toml gives it another one:
//! `plug = { package = "ferrule-plugin", … }`. Nothing tells a macro such a name, so it is looked up there.

use crate::toml::{self, Entry};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use std::path::{Path, PathBuf};

/// The package of the macros `info!` and the like.
const LOG: &str = "log";

/// The package, as Cargo.toml and the registry have it.
const PACKAGE: &str = "ferrule-plugin";

/// Its library, as code has it.
const LIBRARY: &str = "ferrule";

/// The SDK in the code that a macro writes.
pub struct Sdk {
    name: String,
}

impl Sdk {
    /// Looks its name up. Where there is nothing to be found, in a build without cargo or in the SDK's own tests, it is
    /// that of the library.
    pub fn find() -> syn::Result<Sdk> {
        let name = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(folder) => name_in(Path::new(&folder), &|path| std::fs::read_to_string(path).ok()),
            None => Ok(None),
        };
        match name {
            Ok(name) => Ok(Sdk { name: name.unwrap_or_else(|| LIBRARY.to_string()) }),
            Err(message) => Err(syn::Error::new(Span::call_site(), message)),
        }
    }

    /// `::ferrule`, for code whose errors are reported at `span`.
    pub fn at(&self, span: Span) -> TokenStream {
        let name = Ident::new(&self.name, span);
        quote_spanned!(span=> ::#name)
    }
}

/// Does the author's package depend on the crate log, in each of its builds?
pub fn depends_on_log() -> bool {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(folder) => log_in(Path::new(&folder), &|path| std::fs::read_to_string(path).ok()),
        None => false,
    }
}

/// Reads a file; None when it cannot be read.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// A dependency as one table of dependencies has it.
struct Dependency<'a> {
    /// The keys of its table.
    table: &'a [String],
    key: &'a str,
    /// The `package =`.
    package: Option<&'a str>,
    /// Does it say `workspace = true`?
    inherited: bool,
    /// Does it say `optional = true`?
    optional: bool,
}

/// Does the package of a folder depend on the crate log, on every platform and with every set of features?
fn log_in(folder: &Path, read: Read<'_>) -> bool {
    let entries = manifest(&folder.join("Cargo.toml"), read).unwrap_or_default();
    let for_everybody: fn(&[String]) -> bool = |table| table == ["dependencies"];
    dependencies(&entries, for_everybody).iter().filter(|dependency| !dependency.optional).any(|dependency| {
        let renamed = renamed_package(dependency, folder, &entries, read);
        renamed.as_deref().unwrap_or(dependency.key) == LOG
    })
}

/// The name in the package of a folder. None when the package does not depend on the SDK, an error when it has two
/// names in the same place.
fn name_in(folder: &Path, read: Read<'_>) -> Result<Option<String>, String> {
    let entries = match manifest(&folder.join("Cargo.toml"), read) {
        Some(entries) => entries,
        None => return Ok(None),
    };
    let all = dependencies(&entries, is_dependencies);
    // A package may have several versions by several names. The one for everybody comes before one for some targets,
    // and that before one for tests.
    let places: [fn(&[String]) -> bool; 3] =
        [|table| table.len() == 1 && !is_dev(table), |table| table.len() > 1 && !is_dev(table), is_dev];
    for place in places {
        let here = all.iter().filter(|dependency| place(dependency.table));
        let mut names: Vec<String> = here.filter_map(|found| name_of(found, folder, &entries, read)).collect();
        names.sort();
        names.dedup();
        if names.len() > 1 {
            return Err(format!(
                "found {PACKAGE} by the names `{}` in {}, expected one: the macros have to write it into the plug-in; \
                 give it the same name in all tables of dependencies",
                names.join("` and `"),
                folder.join("Cargo.toml").display()
            ));
        }
        if let Some(name) = names.pop() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn manifest(path: &Path, read: Read<'_>) -> Option<Vec<Entry>> {
    toml::entries(&read(path)?)
}

/// Is it `dependencies`, `dev-dependencies`, or one of them in `target.'…'`? A build script is no plug-in.
fn is_dependencies(table: &[String]) -> bool {
    let last = match table {
        [last] => last,
        [target, _, last] if target == "target" => last,
        _ => return false,
    };
    last == "dependencies" || is_dev(table)
}

fn is_dev(table: &[String]) -> bool {
    // Cargo takes the underscore, too.
    table.last().map_or(false, |last| last.replace('_', "-") == "dev-dependencies")
}

/// The dependencies of the tables for which `wanted` says yes.
fn dependencies<'a>(entries: &'a [Entry], wanted: fn(&[String]) -> bool) -> Vec<Dependency<'a>> {
    let mut found: Vec<Dependency<'a>> = Vec::new();
    for (keys, value) in entries {
        // `key = "1"` stands in the table, `package` and the like one below.
        let split = (1..keys.len()).find(|at| wanted(&keys[..*at]));
        let (table, rest) = match split {
            Some(at) => keys.split_at(at),
            None => continue,
        };
        let same = |dependency: &Dependency<'_>| dependency.table == table && dependency.key == rest[0];
        let at = found.iter().position(same).unwrap_or_else(|| {
            found.push(Dependency { table, key: &rest[0], package: None, inherited: false, optional: false });
            found.len() - 1
        });
        match &rest[1..] {
            [key] if key == "package" => found[at].package = Some(value),
            [key] if key == "workspace" => found[at].inherited = value == "true",
            [key] if key == "optional" => found[at].optional = value == "true",
            _ => {}
        }
    }
    found
}

/// The name of a dependency in code; None when it is another package.
fn name_of(dependency: &Dependency<'_>, folder: &Path, entries: &[Entry], read: Read<'_>) -> Option<String> {
    match renamed_package(dependency, folder, entries, read) {
        // Cargo takes even the package's own name, when it is written as a new one, for a new one.
        Some(package) if package == PACKAGE => Some(dependency.key.replace('-', "_")),
        None if dependency.key == PACKAGE => Some(LIBRARY.to_string()),
        _ => None,
    }
}

/// The `package =` of a dependency, here or in its workspace.
fn renamed_package(dependency: &Dependency<'_>, folder: &Path, entries: &[Entry], read: Read<'_>) -> Option<String> {
    match dependency.inherited {
        true => inherited_package(dependency.key, folder, entries, read),
        false => dependency.package.map(String::from),
    }
}

/// The `package =` of a dependency in its workspace's `[workspace.dependencies]`.
fn inherited_package(key: &str, folder: &Path, entries: &[Entry], read: Read<'_>) -> Option<String> {
    let is_shared: fn(&[String]) -> bool = |table| table == ["workspace", "dependencies"];
    let package_in = |entries: &[Entry]| {
        let shared = dependencies(entries, is_shared);
        shared.iter().find(|shared| shared.key == key).map(|shared| shared.package.map(String::from))
    };
    let said = entries.iter().find(|(keys, _)| keys == &["package", "workspace"]);
    let roots: Vec<PathBuf> = match said {
        Some((_, root)) => vec![folder.join(root)],
        None => folder.ancestors().map(PathBuf::from).collect(),
    };
    roots.iter().find_map(|root| package_in(&manifest(&root.join("Cargo.toml"), read)?)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name in /a/b with these files.
    fn name(files: &[(&str, &str)]) -> Result<Option<String>, String> {
        name_in(Path::new("/a/b"), &|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.to_string())
        })
    }

    fn name_by(manifest: &str) -> Result<Option<String>, String> {
        name(&[("/a/b/Cargo.toml", manifest)])
    }

    #[test]
    fn every_way_to_name_it() {
        for (manifest, want) in [
            ("[dependencies]\nferrule-plugin = \"0.1\"", "ferrule"),
            ("[dependencies]\nferrule-plugin = { version = \"0.1\", features = [\"log\"] }", "ferrule"),
            ("[dependencies.ferrule-plugin]\npath = \"x\"", "ferrule"),
            ("dependencies.ferrule-plugin.path = \"x\"", "ferrule"),
            ("[dependencies]\nplug = { package = \"ferrule-plugin\", version = \"0.1\" }", "plug"),
            ("[dependencies]\nmy-plug = { version = \"0.1\", package = 'ferrule-plugin' }", "my_plug"),
            ("[dependencies]\nplug.package = \"ferrule-plugin\"\nplug.version = \"0.1\"", "plug"),
            ("[dependencies.plug]\nversion = \"0.1\"\npackage = \"ferrule-plugin\"", "plug"),
            ("dependencies = { plug = { package = \"ferrule-plugin\" } }", "plug"),
            ("[dependencies]\nferrule-plugin = { package = \"ferrule-plugin\" }", "ferrule_plugin"),
            ("[dependencies]\nferrule = { package = \"ferrule-plugin\" }", "ferrule"),
            ("[target.'cfg(unix)'.dependencies]\nplug = { package = \"ferrule-plugin\" }", "plug"),
            ("[target.x86_64-unknown-linux-gnu.dependencies.plug]\npackage = \"ferrule-plugin\"", "plug"),
            ("[dev-dependencies]\nplug = { package = \"ferrule-plugin\" }", "plug"),
            ("[dev_dependencies]\nplug = { package = \"ferrule-plugin\" }", "plug"),
            ("[target.'cfg(unix)'.dev-dependencies]\nplug = { package = \"ferrule-plugin\" }", "plug"),
        ] {
            assert_eq!(name_by(manifest), Ok(Some(want.to_string())), "{manifest}");
        }
    }

    #[test]
    fn what_is_not_the_sdk() {
        for manifest in [
            "",
            "[package]\nname = \"ferrule-plugin\"",
            "[dependencies]\nferrule = \"0.2\"",
            "[dependencies]\nferrule-plugin = { package = \"other\" }",
            "[dependencies]\nplug = { package = \"ferrule-plugin-macros\" }",
            "[build-dependencies]\nplug = { package = \"ferrule-plugin\" }",
            "[package.metadata.dependencies]\nplug = { package = \"ferrule-plugin\" }",
            "[workspace.dependencies]\nplug = { package = \"ferrule-plugin\" }",
            "# [dependencies]\n# plug = { package = \"ferrule-plugin\" }",
            "this is no TOML",
        ] {
            assert_eq!(name_by(manifest), Ok(None), "{manifest}");
        }
        assert_eq!(name(&[]), Ok(None));
    }

    #[test]
    fn one_for_everybody_comes_before_one_for_some() {
        let here = |table: &str, name: &str| format!("[{table}]\n{name} = {{ package = \"ferrule-plugin\" }}\n");
        let (dev, target) = (here("dev-dependencies", "dev"), here("target.'cfg(unix)'.dependencies", "unix"));
        let everybody = here("dependencies", "everybody");
        assert_eq!(name_by(&[&*dev, &target, &everybody].concat()), Ok(Some("everybody".to_string())));
        assert_eq!(name_by(&[&*dev, &target].concat()), Ok(Some("unix".to_string())));
        // The same name in several places is one name; two in one are an error.
        let windows = here("target.'cfg(windows)'.dependencies", "unix");
        assert_eq!(name_by(&[&*target, &windows].concat()), Ok(Some("unix".to_string())));
        let windows = here("target.'cfg(windows)'.dependencies", "windows");
        let error = name_by(&[&*target, &windows].concat()).unwrap_err();
        assert!(error.contains("ferrule-plugin by the names `unix` and `windows` in /a/b/Cargo.toml"), "{error}");
    }

    #[test]
    fn a_workspace_names_it_for_its_members() {
        let renamed = "[workspace.dependencies]\nplug = { package = \"ferrule-plugin\", version = \"0.1\" }";
        let plain = "[workspace.dependencies]\nferrule-plugin = \"0.1\"\nplug = \"1\"";
        let (by_table, by_dot) =
            ("[dependencies]\nplug = { workspace = true }", "[dependencies]\nplug.workspace = true");
        for member in [by_table, by_dot] {
            let with = |path, text| name(&[("/a/b/Cargo.toml", member), (path, text)]);
            assert_eq!(with("/a/Cargo.toml", renamed), Ok(Some("plug".to_string())));
            assert_eq!(with("/Cargo.toml", renamed), Ok(Some("plug".to_string())));
            // There, `plug` is another package.
            assert_eq!(with("/a/Cargo.toml", plain), Ok(None));
            assert_eq!(with("/a/Cargo.toml", "[workspace]"), Ok(None));
        }
        let member = "[dependencies]\nferrule-plugin = { workspace = true, features = [\"log\"] }";
        assert_eq!(name(&[("/a/b/Cargo.toml", member), ("/a/Cargo.toml", plain)]), Ok(Some("ferrule".to_string())));

        // The package says where its workspace is, or is the workspace's root itself.
        let member = format!("[package]\nworkspace = \"../c\"\n{by_table}");
        let files = [("/a/b/Cargo.toml", &*member), ("/a/Cargo.toml", plain), ("/a/b/../c/Cargo.toml", renamed)];
        assert_eq!(name(&files), Ok(Some("plug".to_string())));
        assert_eq!(name_by(&format!("{by_dot}\n{renamed}")), Ok(Some("plug".to_string())));
    }

    #[test]
    fn the_crate_log() {
        let workspace = "[workspace.dependencies]\nlog = \"0.4\"\nlines = { package = \"log\", version = \"0.4\" }\n\
                         tree = { package = \"wood\", version = \"1\" }";
        let logs = |manifest: &str| {
            log_in(Path::new("/a/b"), &|path| match path.to_str().unwrap() {
                "/a/b/Cargo.toml" => Some(manifest.to_string()),
                "/a/Cargo.toml" => Some(workspace.to_string()),
                _ => None,
            })
        };
        for manifest in [
            "[dependencies]\nlog = \"0.4\"",
            "[dependencies.log]\nversion = \"0.4\"\nfeatures = [\"kv\"]",
            "[dependencies]\nlog = { version = \"0.4\", optional = false }",
            "[dependencies]\nlines = { package = \"log\", version = \"0.4\" }",
            "[dependencies]\nlog.workspace = true",
            "[dependencies]\nlines = { workspace = true }",
        ] {
            assert!(logs(manifest), "{manifest}");
        }
        for manifest in [
            "",
            "[dependencies]\nlogger = \"0.4\"",
            "[dependencies]\nlog = { version = \"0.4\", optional = true }",
            "[dependencies]\nlog = { package = \"wood\", version = \"1\" }",
            "[dependencies]\ntree.workspace = true",
            "[dev-dependencies]\nlog = \"0.4\"",
            "[build-dependencies]\nlog = \"0.4\"",
            "[target.'cfg(windows)'.dependencies]\nlog = \"0.4\"",
            "this is no TOML",
        ] {
            assert!(!logs(manifest), "{manifest}");
        }
    }

    /// This crate's own manifest has the SDK for its tests, by its usual name.
    #[test]
    fn the_name_in_this_package() {
        assert_eq!(Sdk::find().unwrap().at(Span::call_site()).to_string(), ":: ferrule");
    }
}
