//! Nothing hands the state over.

ferrule::plugin!(name: "counter", version: "1.0.0", state_format: "count-1");

fn main() {}
