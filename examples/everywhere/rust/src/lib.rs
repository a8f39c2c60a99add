//! The discount in Rust: for the machine, and for WebAssembly, by the target that it is built for.

use ferrule::Json;

mod cart;
use cart::{Cart, Discount};

ferrule::plugin!(name: "discount", version: env!("CARGO_PKG_VERSION"), threads: "concurrent");

#[ferrule::import]
fn loyalty_points(customer: &str) -> ferrule::Result<String>;

#[ferrule::export]
fn before_checkout(Json(cart): Json<Cart>) -> ferrule::Result<Json<Discount>> {
    let costs = cart.costs().map_err(ferrule::Error::invalid)?;
    let points = match cart.customer.as_str() {
        "" => 0,
        customer => loyalty_points(customer)?.parse().map_err(ferrule::Error::failed)?,
    };
    Ok(Json(cart.discount(&costs, points)))
}
