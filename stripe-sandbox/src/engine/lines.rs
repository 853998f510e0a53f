//! Lines of invoices and items that wait for one.
//!
//! In: prices, quantities, periods. Out: `line_item` and `invoiceitem` objects.
//! Always holds: a line's `amount` is its price's for its quantity, or the share of it that a proration is.

use crate::json::{at, int, or_null, text};
use crate::state::State;
use serde_json::{Value, json};

/// What a line is for.
#[derive(Clone, Debug)]
pub struct Line {
    /// Minor units; a credit is negative.
    pub amount: i64,
    /// Price object.
    pub price: Value,
    /// Subscription item.
    pub item: String,
    /// Units.
    pub quantity: i64,
    /// From, to.
    pub period: (i64, i64),
    /// For people.
    pub description: String,
    /// Whether it is a share of a period.
    pub proration: bool,
    /// Whether its quantity is counted anew when the invoice is finalised.
    pub metered: bool,
}

impl Line {
    /// The `line_item` of a subscription.
    pub fn to_json(&self, state: &mut State, subscription: &Value, invoice: &str) -> Value {
        let currency = text(&self.price, "currency");
        json!({
            "id": state.ids.id("il"), "object": "line_item", "amount": self.amount, "currency": currency,
            "description": self.description, "discount_amounts": [], "discountable": !self.proration, "discounts": [],
            "invoice": invoice, "livemode": false, "metadata": at(subscription, "metadata"),
            "parent": {
                "invoice_item_details": null, "type": "subscription_item_details",
                "subscription_item_details": {
                    "invoice_item": null, "proration": self.proration,
                    "proration_details": {"credited_items": null},
                    "subscription": at(subscription, "id"), "subscription_item": self.item,
                },
            },
            "period": {"start": self.period.0, "end": self.period.1}, "pretax_credit_amounts": [],
            "pricing": {
                "price_details": {"price": at(&self.price, "id"), "product": at(&self.price, "product")},
                "type": "price_details", "unit_amount_decimal": at(&self.price, "unit_amount_decimal"),
            },
            "quantity": self.quantity, "quantity_decimal": self.quantity.to_string(),
            "subscription": at(subscription, "id"), "subtotal": self.amount, "taxes": [],
            "_metered": self.metered,
        })
    }

    /// The `invoiceitem` that waits for the subscription's next invoice.
    pub fn to_pending(&self, state: &mut State, subscription: &Value) -> Value {
        json!({
            "id": state.ids.id("ii"), "object": "invoiceitem", "amount": self.amount,
            "currency": text(&self.price, "currency"), "customer": at(subscription, "customer"),
            "customer_account": null, "date": state.moment, "description": self.description, "discountable": false,
            "discounts": [], "invoice": null, "livemode": false, "metadata": {}, "net_amount": self.amount,
            "parent": {
                "type": "subscription_details",
                "subscription_details": {"subscription": at(subscription, "id"), "subscription_item": self.item},
            },
            "period": {"start": self.period.0, "end": self.period.1},
            "pricing": {
                "price_details": {"price": at(&self.price, "id"), "product": at(&self.price, "product")},
                "type": "price_details", "unit_amount_decimal": at(&self.price, "unit_amount_decimal"),
            },
            "proration": self.proration, "proration_details": {"discount_amounts": []},
            "quantity": self.quantity, "quantity_decimal": self.quantity.to_string(), "tax_rates": [],
            "test_clock": or_null(text(subscription, "test_clock")), "created": state.moment,
        })
    }
}

/// The line of an item that waited.
pub fn of_pending(state: &mut State, pending: &Value, invoice: &str) -> Value {
    let details = at(pending, "parent.subscription_details");
    json!({
        "id": state.ids.id("il"), "object": "line_item", "amount": int(pending, "amount"),
        "currency": at(pending, "currency"), "description": at(pending, "description"), "discount_amounts": [],
        "discountable": false, "discounts": [], "invoice": invoice, "livemode": false,
        "metadata": at(pending, "metadata"),
        "parent": {
            "subscription_item_details": null, "type": "invoice_item_details",
            "invoice_item_details": {
                "invoice_item": at(pending, "id"), "proration": at(pending, "proration"),
                "proration_details": {"credited_items": null}, "subscription": at(details, "subscription"),
            },
        },
        "period": at(pending, "period"), "pretax_credit_amounts": [], "pricing": at(pending, "pricing"),
        "quantity": at(pending, "quantity"), "quantity_decimal": at(pending, "quantity_decimal"),
        "subscription": at(details, "subscription"), "subtotal": int(pending, "amount"), "taxes": [],
        "_metered": false,
    })
}

/// The items that wait for the next invoice of a subscription.
pub fn pending_of(state: &State, account: &str, subscription: &str) -> Vec<Value> {
    let rows = state.table(account, "invoiceitem").into_iter().flat_map(|table| table.oldest(None));
    rows.filter(|item| {
        at(item, "invoice").is_null()
            && text(item, "parent.subscription_details.subscription") == subscription
    })
    .cloned()
    .collect()
}
