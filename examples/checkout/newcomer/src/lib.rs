//! A merchant who wants new customers.

use ferrule::Json;
use serde::{Deserialize, Serialize};

ferrule::plugin!(name: "newcomer", version: env!("CARGO_PKG_VERSION"));

#[derive(Deserialize)]
struct Cart {
    customer: String,
    total_cents: u64,
}

#[derive(Serialize)]
struct Discount {
    cents: u64,
    reason: &'static str,
}

/// How many loyalty points a customer has.
#[ferrule::import]
fn loyalty_points(customer: Json<&str>) -> ferrule::Result<Json<u64>>;

/// Gives a new customer, who has no loyalty points yet, 20 % off a cart over $100.
#[ferrule::export]
fn before_checkout(Json(cart): Json<Cart>) -> ferrule::Result<Json<Discount>> {
    let Json(points) = loyalty_points(Json(&cart.customer))?;
    Ok(Json(match points {
        0 if cart.total_cents > 10_000 => Discount { cents: cart.total_cents / 5, reason: "20 % for a new customer" },
        0 => Discount { cents: 0, reason: "the cart is not over $100" },
        _ => Discount { cents: 0, reason: "not a new customer" },
    }))
}
