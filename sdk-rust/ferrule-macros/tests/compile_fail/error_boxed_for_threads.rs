//! The one box of errors that does not become another by `?`.

use std::error::Error;

ferrule::plugin!(name: "fails", version: "1.0.0");

fn load(name: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    Ok(name.to_string())
}

#[ferrule::export]
fn result(name: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    load(name)
}

#[ferrule::export]
fn question_mark(name: &str) -> ferrule::Result<String> {
    Ok(load(name)?)
}

fn main() {}
