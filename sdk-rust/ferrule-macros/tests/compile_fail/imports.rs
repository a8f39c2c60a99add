//! Imports that no host function can be.

ferrule::plugin!(name: "fails", version: "1.0.0");

#[ferrule::import]
fn with_a_body() -> ferrule::Result<()> {
    Ok(())
}

#[ferrule::import]
fn two_parameters(_a: &str, _b: &str) -> ferrule::Result<()>;

#[ferrule::import]
fn pattern((a, b): (u32, u32)) -> ferrule::Result<()>;

#[ferrule::import]
fn nothing_can_fail(a: &str);

#[ferrule::import]
fn not_a_result(a: &str) -> String;

#[ferrule::import]
fn not_json(a: &str) -> ferrule::Result<u64>;

#[ferrule::import]
fn borrowed(a: &str) -> ferrule::Result<&'static str>;

#[ferrule::import]
fn not_an_output(a: u64) -> ferrule::Result<()>;

#[ferrule::import]
async fn asynchronous() -> ferrule::Result<()>;

fn main() {}
