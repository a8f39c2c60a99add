//! Results that are no bytes.

use ferrule::Json;

ferrule::plugin!(name: "fails", version: "1.0.0");

struct Discount;

#[ferrule::export]
fn not_an_output() -> Discount {
    Discount
}

#[ferrule::export]
fn not_serializable() -> Json<Discount> {
    Json(Discount)
}

#[ferrule::export]
fn number() -> ferrule::Result<u64> {
    Ok(1)
}

#[ferrule::export]
fn own_status() -> ferrule::Result<()> {
    const STATUS: ferrule::Status = ferrule::Status::own(999);
    Err(ferrule::Error::failed("no").with_status(STATUS))
}

fn main() {}
