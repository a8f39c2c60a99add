//! A merchant who gives new customers a discount.

use ferrule::Json;
use serde::{Deserialize, Serialize};

ferrule::plugin! {
    name: "welcome",
    version: env!("CARGO_PKG_VERSION"),
    description: "20 % for a new customer who spends $100 or more.",
    threads: "concurrent",
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cart {
    total_in_cents: u64,
    new_customer: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discount {
    discount_percent: u8,
}

/// Has nothing to say to all other customers.
#[ferrule::hook(order = "first")]
fn before_checkout(Json(cart): Json<Cart>) -> Option<Json<Discount>> {
    (cart.new_customer && cart.total_in_cents >= 10_000).then_some(Json(Discount { discount_percent: 20 }))
}
