//! An import whose error cannot be made of the host function's.

ferrule::plugin!(name: "fails", version: "1.0.0");

#[ferrule::import]
fn price(goods: &str) -> Result<String, Box<dyn std::error::Error>>;

fn main() {}
