//! What operators ordered about backends while the proxy runs, and the form in which that outlives a restart.
//!
//! Owns the orders' meaning: they stand above the configuration until they are taken back. Never opens a file.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::ring::Weight;

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What the configuration says.
    #[default]
    None,
    /// No new requests: it has no place on the ring. What runs on it ends.
    Drain,
    /// Another weight than the configuration's.
    Weight(Weight),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::None => f.write_str("none"),
            Order::Drain => f.write_str("drain"),
            Order::Weight(weight) => write!(f, "weight {weight}"),
        }
    }
}

impl Order {
    /// The word for the API.
    pub fn word(self) -> &'static str {
        match self {
            Order::None => "none",
            Order::Drain => "drain",
            Order::Weight(_) => "weight",
        }
    }

    /// The weight that follows.
    pub fn weight(self, configured: Weight) -> Weight {
        match self {
            Order::None => configured,
            Order::Drain => Weight::ZERO,
            Order::Weight(weight) => weight,
        }
    }
}

/// All orders, by pool and backend. Those for backends that are not there are kept: a backend may come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders(BTreeMap<(Arc<str>, Arc<str>), Order>);

/// The same as it is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    orders: Vec<WrittenOrder>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOrder {
    pool: String,
    backend: String,
    /// "drain", or a weight in decimal.
    order: String,
}

impl Orders {
    /// The order about this backend.
    pub fn of(&self, pool: &Arc<str>, backend: &Arc<str>) -> Order {
        self.0.get(&(pool.clone(), backend.clone())).copied().unwrap_or_default()
    }

    /// Each with its pool and its backend.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, Order)> {
        self.0.iter().map(|((pool, backend), order)| (&**pool, &**backend, *order))
    }

    /// Gives one, or takes it back.
    pub fn set(&mut self, pool: &Arc<str>, backend: &Arc<str>, order: Order) {
        let name = (pool.clone(), backend.clone());
        match order {
            Order::None => self.0.remove(&name),
            order => self.0.insert(name, order),
        };
    }

    /// As JSON.
    pub fn to_text(&self) -> String {
        let orders = self.0.iter().map(|((pool, backend), order)| WrittenOrder {
            pool: pool.to_string(),
            backend: backend.to_string(),
            order: match order {
                Order::None | Order::Drain => "drain".to_owned(),
                Order::Weight(weight) => weight.to_string(),
            },
        });
        let written = Written { version: 1, orders: orders.collect() };
        let mut text = serde_json::to_string_pretty(&written).expect("strings and a number are JSON");
        text.push('\n');
        text
    }

    /// From JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(text: &str) -> Result<Orders, String> {
        let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if written.version != 1 {
            return Err(format!("its version is {}, and this is version 1", written.version));
        }
        let mut orders = Orders::default();
        for WrittenOrder { pool, backend, order } in written.orders {
            let meant = match &*order {
                "drain" => Order::Drain,
                weight => Order::Weight(
                    weight.parse().map_err(|error| format!("{weight:?} is no weight: {error}"))?,
                ),
            };
            orders.set(&pool.into(), &backend.into(), meant);
        }
        Ok(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_being_written_down() {
        let mut orders = Orders::default();
        let (pool, a, b) = ("p".into(), "a".into(), "b".into());
        orders.set(&pool, &a, Order::Drain);
        orders.set(&pool, &b, Order::Weight("0.5".parse().unwrap()));
        assert_eq!(Orders::from_text(&orders.to_text()).unwrap(), orders);
        orders.set(&pool, &a, Order::None);
        assert_eq!(orders.of(&pool, &a), Order::None);
        assert!(Orders::from_text("{\"version\": 2, \"orders\": []}").is_err());
        assert!(Orders::from_text("[]").is_err());
    }
}
