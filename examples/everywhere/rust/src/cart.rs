//! What the discount is, whatever calls it. It is in the README.

use serde::{Deserialize, Serialize};

/// What JavaScript has exactly, too.
const MOST: u64 = (1 << 53) - 1;

#[derive(Deserialize)]
pub struct Cart {
    pub customer: String,
    coupon: Option<String>,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    category: String,
    cents: u64,
    quantity: u64,
}

#[derive(Serialize)]
pub struct Discount {
    cents: u64,
    points: u64,
    best: Option<String>,
}

/// So much of an amount, to the nearest cent, half of one up.
fn percent(amount: u64, percent: u64) -> u64 {
    (amount * percent + 50) / 100
}

impl Cart {
    fn coupon(&self) -> &str {
        self.coupon.as_deref().unwrap_or_default()
    }

    /// What each item costs.
    pub fn costs(&self) -> Result<Vec<u64>, &'static str> {
        if !matches!(self.coupon(), "" | "FIVE") {
            return Err("there is no such coupon");
        }
        let mut subtotal = 0;
        self.items
            .iter()
            .map(|item| {
                let cost = item
                    .cents
                    .checked_mul(item.quantity)
                    .filter(|cost| item.cents.max(item.quantity).max(*cost) <= MOST)?;
                subtotal += cost;
                (subtotal <= MOST).then_some(cost)
            })
            .collect::<Option<_>>()
            .ok_or("expected numbers, and a subtotal, of at most 9007199254740991")
    }

    pub fn discount(&self, costs: &[u64], points: u64) -> Discount {
        let (mut books, mut best) = (0, None);
        for (item, cost) in self.items.iter().zip(costs).filter(|(item, _)| item.category == "books") {
            let off = percent(*cost, 10);
            books += off;
            if off > best.map_or(0, |(most, _)| most) {
                best = Some((off, &item.name));
            }
        }
        let mut remains = costs.iter().sum::<u64>() - books;
        let volume = percent(
            remains,
            match remains {
                50_000.. => 10,
                10_000.. => 5,
                _ => 0,
            },
        );
        remains -= volume;
        let coupon = if self.coupon().is_empty() { 0 } else { remains.min(500) };
        remains -= coupon;
        let points = points.min(remains / 2);
        Discount { cents: books + volume + coupon + points, points, best: best.map(|(_, name)| name.clone()) }
    }
}
