//! The discount as a plug-in of Extism's, without anything of Ferrule's. What it decides is in Rust's own, beside it.

use extism_pdk::{host_fn, plugin_fn, Error, FnResult, Json, WithReturnCode};

#[path = "../../rust/src/cart.rs"]
mod cart;
use cart::{Cart, Discount};

#[host_fn]
extern "ExtismHost" {
    fn loyalty_points(customer: String) -> String;
}

/// The code by which a plug-in of Extism's says that its input is at fault.
const INVALID: i32 = 2;

#[plugin_fn]
pub fn before_checkout(input: Vec<u8>) -> FnResult<Json<Discount>> {
    let faulty = |message: String| WithReturnCode::new(Error::msg(message), INVALID);
    let cart: Cart = serde_json::from_slice(&input).map_err(|error| faulty(error.to_string()))?;
    let costs = cart.costs().map_err(|error| faulty(error.to_string()))?;
    let points = match cart.customer.as_str() {
        "" => 0,
        customer => unsafe { loyalty_points(customer.to_string())? }.parse()?,
    };
    Ok(Json(cart.discount(&costs, points)))
}
