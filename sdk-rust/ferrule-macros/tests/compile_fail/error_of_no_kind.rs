//! Errors that are none for the host, in a result and by `?`.

ferrule::plugin!(name: "fails", version: "1.0.0");

struct SoldOut;

fn reserve(count: &str) -> Result<String, SoldOut> {
    Ok(count.to_string())
}

#[ferrule::export]
fn result(count: &str) -> Result<String, SoldOut> {
    reserve(count)
}

#[ferrule::export]
fn question_mark(count: &str) -> ferrule::Result<String> {
    Ok(reserve(count)?)
}

fn main() {}
