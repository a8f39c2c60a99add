//! A merchant whose customers come back.

use ferrule::Json;
use serde::{Deserialize, Serialize};

ferrule::plugin!(name: "loyal", version: env!("CARGO_PKG_VERSION"));

#[derive(Deserialize)]
struct Cart {
    customer: String,
    total_cents: u64,
}

#[derive(Serialize)]
struct Discount {
    cents: u64,
    points: u64,
    reason: String,
}

/// How many loyalty points a customer has.
#[ferrule::import]
fn loyalty_points(customer: Json<&str>) -> ferrule::Result<Json<u64>>;

/// Takes loyalty points for money, a cent each, for up to half of the cart.
#[ferrule::export]
fn before_checkout(Json(cart): Json<Cart>) -> ferrule::Result<Json<Discount>> {
    let Json(points) = loyalty_points(Json(&cart.customer))?;
    let spent = points.min(cart.total_cents / 2);
    Ok(Json(Discount { cents: spent, points: spent, reason: format!("{spent} of {points} points spent") }))
}
