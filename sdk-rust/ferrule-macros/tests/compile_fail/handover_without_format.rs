//! A state is handed over in a format that has a name.

ferrule::plugin!(name: "counter", version: "1.0.0");

#[ferrule::save]
fn save() {}

#[ferrule::resume]
fn resume(_saved: &str) {}

fn main() {}
