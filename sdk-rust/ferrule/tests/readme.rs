//! The Rust of README.md compiles without a warning, and the tests in it pass.

mod support;

use support::{assert_built, cargo, package, workspace};

#[test]
fn the_code_of_the_readme() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 13, "found {} blocks of Rust in README.md", blocks.len());

    // A plug-in of its own for each block. Its functions are there for the host, not for the test.
    let mut manifest = String::from("\n[dev-dependencies.ferrule-plugin]\n");
    manifest += &format!("path = {:?}\nfeatures = [\"testing\"]\n", env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![(String::from("src/lib.rs"), String::new())];
    for (number, block) in blocks.iter().enumerate() {
        manifest += &format!("\n[[example]]\nname = \"block{number}\"\ncrate-type = [\"cdylib\"]\ntest = true\n");
        files.push((format!("examples/block{number}.rs"), format!("#![deny(warnings)]\n{block}")));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let folder = package("readme", "2021", &manifest, &files);
    assert_built(&cargo(&folder, &["build", "--offline", "--examples"]));
    let tests = cargo(&folder, &["test", "--offline", "--examples"]);
    assert_built(&tests);
    assert!(String::from_utf8_lossy(&tests.stdout).contains("1 passed"), "{tests:?}");
}
