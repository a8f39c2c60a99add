//! The modules of the two crates use one another in one direction: no module uses one that uses it.
//!
//! The sources are read as the compiler's tokens, so that a path counts wherever it stands, and one in a comment or a
//! text does not. What is only there for a module's own tests is left out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The name by which the root of a crate goes here. It uses the modules, so no module uses what it defines.
const ROOT: &str = "lib";

/// Who uses whom.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The graph of a crate that calls itself `name`, from its files: the module's name and its text.
fn graph(name: &str, files: &[(String, String)]) -> Graph {
    let parsed: Vec<(&str, Vec<TokenTree>)> =
        files.iter().map(|(module, text)| (module.as_str(), tokens(module, text))).collect();
    let modules: BTreeSet<&str> = parsed.iter().map(|(module, _)| *module).filter(|module| *module != ROOT).collect();
    let (_, root) = parsed.iter().find(|(module, _)| *module == ROOT).expect("a crate has a lib.rs");
    let exports = exports(root, &modules);
    let mut graph = Graph::new();
    for (module, tokens) in &parsed {
        let mut reader = Reader { name, module, modules: &modules, found: BTreeSet::new() };
        reader.read(tokens, 0);
        let uses = reader.found.iter().filter_map(|first| match modules.contains(first.as_str()) {
            true => Some(first.clone()),
            // What the root hands on is its module's, or another crate's.
            false => exports.get(first).cloned().unwrap_or_else(|| Some(ROOT.to_string())),
        });
        graph.insert(module.to_string(), uses.filter(|used| used != module).collect());
    }
    graph
}

fn tokens(module: &str, text: &str) -> Vec<TokenTree> {
    text.parse::<TokenStream>().unwrap_or_else(|error| panic!("{module}: {error}")).into_iter().collect()
}

/// What `use` in the root makes of each name: an item of a module, or of another crate (None).
fn exports(root: &[TokenTree], modules: &BTreeSet<&str>) -> BTreeMap<String, Option<String>> {
    let mut exports = BTreeMap::new();
    for (at, token) in root.iter().enumerate() {
        if !is(token, "use") {
            continue;
        }
        let end = at + root[at..].iter().position(|token| is(token, ";")).expect("a `use` ends in `;`");
        let path = &root[at + 1..end];
        let first = path.iter().find_map(ident).expect("a `use` has a name");
        let from = Some(first).filter(|first| modules.contains(first.as_str()));
        for name in last_names(path) {
            exports.insert(name, from.clone());
        }
    }
    exports
}

/// The names that a `use` gives: what follows `as`, or the last of each path.
fn last_names(tree: &[TokenTree]) -> Vec<String> {
    match tree.last() {
        Some(TokenTree::Group(group)) => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            inner.split(|token| is(token, ",")).flat_map(last_names).collect()
        }
        Some(last) => vec![last.to_string()],
        None => Vec::new(),
    }
}

fn is(token: &TokenTree, text: &str) -> bool {
    !matches!(token, TokenTree::Group(_)) && token.to_string() == text
}

fn ident(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

/// Collects the first names behind `crate::`, of one module.
struct Reader<'a> {
    name: &'a str,
    module: &'a str,
    modules: &'a BTreeSet<&'a str>,
    found: BTreeSet<String>,
}

impl Reader<'_> {
    /// Reads tokens that stand `depth` modules below the file's own.
    fn read(&mut self, tokens: &[TokenTree], depth: usize) {
        let mut at = 0;
        while at < tokens.len() {
            let colons = |at: usize| tokens.len() > at + 1 && is(&tokens[at], ":") && is(&tokens[at + 1], ":");
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' && is_cfg_test(tokens.get(at + 1)) => {
                    let ends = |token: &TokenTree| match token {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        token => is(token, ";"),
                    };
                    at += 2;
                    at += tokens[at..].iter().position(ends).expect("an item follows #[cfg(test)]");
                }
                TokenTree::Group(group) => {
                    let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string());
                    let is_module = before(2).as_deref() == Some("mod");
                    // What a macro expands to names the author's crate.
                    let quotes = before(1).as_deref() == Some("!")
                        && matches!(before(2).as_deref(), Some("quote" | "quote_spanned"));
                    if !quotes {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.read(&inner, depth + usize::from(is_module));
                    }
                }
                TokenTree::Ident(first) if colons(at + 1) && !(at > 1 && colons(at - 2)) => {
                    let first = first.to_string();
                    let mut next = at + 3;
                    let root = match first.as_str() {
                        "crate" => true,
                        first if first == self.name => true,
                        "super" => {
                            let mut up = 1;
                            while is(&tokens[next], "super") && colons(next + 1) {
                                up += 1;
                                next += 3;
                            }
                            up > depth && self.module != ROOT
                        }
                        "self" => self.module == ROOT && depth == 0,
                        first => {
                            // In the root, a module goes by its bare name.
                            if self.module == ROOT && self.modules.contains(first) {
                                self.found.insert(first.to_string());
                            }
                            false
                        }
                    };
                    if root {
                        self.first_names(&tokens[next]);
                    }
                    at = next - 1;
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn first_names(&mut self, behind: &TokenTree) {
        match behind {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for tree in inner.split(|token| is(token, ",")) {
                    self.found.extend(tree.first().map(ToString::to_string));
                }
            }
            other => {
                self.found.insert(other.to_string());
            }
        }
    }
}

fn is_cfg_test(attribute: Option<&TokenTree>) -> bool {
    match attribute {
        Some(TokenTree::Group(group)) => {
            let condition = group.stream().to_string().replace(' ', "");
            condition == "cfg(test)" || condition.starts_with("cfg(all(test,")
        }
        _ => false,
    }
}

/// A circle, as `a -> b -> a`; None where there is none.
fn circle(graph: &Graph) -> Option<String> {
    fn follow<'a>(
        graph: &'a Graph,
        at: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = way.iter().position(|module| *module == at) {
            return Some([&way[start..], &[at]].concat().join(" -> "));
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = graph[at].iter().find_map(|used| follow(graph, used, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| follow(graph, module, &mut Vec::new(), &mut done))
}

/// The graph of a crate beside this one.
fn graph_of(folder: &str, name: &str) -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(folder).join("src");
    let files = std::fs::read_dir(&src).unwrap_or_else(|error| panic!("{}: {error}", src.display())).map(|entry| {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().and_then(|e| e.to_str()), Some("rs"), "{}: this test reads files", path.display());
        (path.file_stem().unwrap().to_str().unwrap().to_string(), std::fs::read_to_string(&path).unwrap())
    });
    graph(name, &files.collect::<Vec<_>>())
}

#[test]
fn the_sdk_has_no_circle() {
    let graph = graph_of("ferrule", "ferrule");
    assert_eq!(circle(&graph), None, "{graph:#?}");
    // One of each way to name a module: in a `use`, by a path in code, and through what lib.rs hands on.
    for (module, used) in [("entry", "current"), ("entry", "logger"), ("data", "error"), ("lib", "context")] {
        assert!(graph[module].contains(used), "{module} uses {used}: {graph:#?}");
    }
    // The bottom and the top.
    assert!(graph["abi"].is_empty() && graph["text"].is_empty(), "{graph:#?}");
    let users: Vec<&String> = graph.keys().filter(|module| graph[*module].contains("entry")).collect();
    assert_eq!(users, [ROOT]);
}

#[test]
fn the_macros_have_no_circle() {
    let graph = graph_of("ferrule-macros", "ferrule_plugin_macros");
    assert_eq!(circle(&graph), None, "{graph:#?}");
    assert!(graph["plugin"].contains("common") && graph["lib"].contains("plugin"), "{graph:#?}");
}

/// Two modules, of which `a` uses `b`; `text` is what stands in `b`.
fn with(text: &str) -> Option<String> {
    let files = [
        (ROOT, "mod a; mod b; pub use a::{Item, inner::Deep as Renamed}; pub use log::Level; fn own() {}"),
        ("a", "use crate::b; pub struct Item;"),
        ("b", text),
    ];
    let files = files.map(|(module, text)| (module.to_string(), text.to_string()));
    circle(&graph("this", &files))
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    for text in [
        "use crate::a;",
        "pub use crate::a::Item;",
        "use crate::{other::{self, Thing}, a::Item};",
        "use crate::Item;",
        "use crate::Renamed;",
        "use super::a::Item;",
        "use this::a;",
        "fn f() { let x = crate::a::Item; }",
        "fn f() { println!(\"{}\", crate::a::f(1)); }",
        "fn f(x: Vec<crate::Item>) {}",
        "mod inner { use super::super::a; }",
        "mod inner { fn f() { crate::a::g() } }",
        "#[cfg(feature = \"a\")] use crate::a;",
        "#[cfg(any(test, feature = \"a\"))] use crate::a;",
        "#[cfg(test)] mod tests { } use crate::a;",
        "#[cfg(test)] use std::fmt; use crate::a;",
    ] {
        let found = with(text);
        assert_eq!(found.as_deref(), Some("a -> b -> a"), "{text}");
    }
    for text in ["use crate::own;", "use crate::*;", "use super::own;"] {
        let found = with(text);
        assert!(found.as_deref().map_or(false, |circle| circle.contains(ROOT)), "{text}: {found:?}");
    }
}

#[test]
fn what_is_no_use_is_no_circle() {
    for text in [
        "",
        "use std::fmt; use log::a::Item;",
        "use crate::Level;",
        "// use crate::a;\n/* crate::a::f() */ /// [`a`](crate::a)\nstruct S;",
        "const TEXT: &str = \"use crate::a;\";",
        "pub(crate) fn a() {} fn f() { a() }",
        "mod inner { use super::a; } mod a {}",
        "use self::a::X; mod a {}",
        "#[cfg(test)] mod tests { use crate::a; }",
        "#[cfg(all(test, feature = \"x\"))] mod tests { use crate::a; }",
        "#[cfg(test)] use crate::a;",
        "fn f() { quote!(crate::a::f()); }",
    ] {
        assert_eq!(with(text), None, "{text}");
    }
}
