//! Functions that cannot become a symbol that the host calls.

ferrule::plugin!(name: "fails", version: "1.0.0");

#[ferrule::export]
async fn asynchronous() {}

#[ferrule::export]
unsafe fn not_safe() {}

#[ferrule::export]
extern "C" fn foreign() {}

#[ferrule::export]
fn generic<T>(_: Vec<T>) {}

#[ferrule::export]
fn constrained(_: &str)
where
    String: Clone,
{
}

#[ferrule::hook]
fn implements(_: impl Into<String>) {}

#[ferrule::hook]
fn hides() -> impl Iterator<Item = u8> {
    [].into_iter()
}

struct Counter;

impl Counter {
    #[ferrule::export]
    fn method(&self) {}
}

#[ferrule::export]
fn größe() {}

#[ferrule::export]
fn nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn() {}

#[ferrule::export(name = "other")]
fn renamed() {}

#[ferrule::export]
struct NotAFunction;

fn main() {}
