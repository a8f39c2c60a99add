// Package discount is the discount in Go, which the README says: one source that is compiled into a host, and built as a library, as a WebAssembly module and as a program.
//
//ferrule:plugin name=discount version=1.0.0 threads=concurrent description="One merchant's discount."
package discount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

//go:generate go run github.com/ferrule-dev/ferrule/cmd/ferrule gen

const most int64 = 1<<53 - 1 // what JavaScript has exactly, too

// Cart is what a customer is about to pay.
type Cart struct {
	Customer string // "" is a guest
	Coupon   string
	Items    []Item
}

// Item is a line of a cart.
type Item struct {
	Book bool
	Name string
	Cost int64 // of all of it, in cents
}

// UnmarshalJSON refuses what is no cart by the README.
func (c *Cart) UnmarshalJSON(text []byte) error {
	var found struct { // with pointers where what is missing is no zero
		Customer *string
		Coupon   string
		Items    []struct {
			Name, Category  *string
			Cents, Quantity *int64
		}
	}
	if !utf8.Valid(text) {
		return errors.New("expected UTF-8")
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return err
	}
	if found.Customer == nil || found.Items == nil {
		return errors.New("expected a customer and items")
	}
	if found.Coupon != "" && found.Coupon != "FIVE" {
		return errors.New("there is no such coupon")
	}
	c.Customer, c.Coupon = *found.Customer, found.Coupon
	number := func(n *int64) bool { return n != nil && *n >= 0 && *n <= most }
	subtotal := int64(0)
	for i, item := range found.Items {
		if item.Name == nil || item.Category == nil || !number(item.Cents) || !number(item.Quantity) {
			return fmt.Errorf("items[%d]: expected a name, a category, cents and quantity", i)
		}
		if *item.Quantity > 0 && *item.Cents > (most-subtotal) / *item.Quantity {
			return fmt.Errorf("items[%d]: found a subtotal of more than %d", i, most)
		}
		cost := *item.Cents * *item.Quantity
		subtotal += cost
		c.Items = append(c.Items, Item{*item.Category == "books", *item.Name, cost})
	}
	return nil
}

// Discount is what the customer saves.
type Discount struct {
	Cents  int64   `json:"cents"`
	Points int64   `json:"points"` // that the customer gives for it
	Best   *string `json:"best"`   // the book that saves most
}

// loyaltyPoints says how many points a customer has.
//
//ferrule:import
var loyaltyPoints func(ctx context.Context, customer string) (int64, error)

// percent is so much of an amount, to the nearest cent, half of one up.
func percent(amount, percent int64) int64 { return (amount*percent + 50) / 100 }

// BeforeCheckout decides what a customer saves.
//
//ferrule:export
func BeforeCheckout(ctx context.Context, cart Cart) (Discount, error) {
	var d Discount
	points := int64(0)
	if cart.Customer != "" {
		var err error
		if points, err = loyaltyPoints(ctx, cart.Customer); err != nil {
			return d, err
		}
	}
	remains, largest := int64(0), int64(0)
	for _, item := range cart.Items {
		remains += item.Cost
		if !item.Book {
			continue
		}
		off := percent(item.Cost, 10)
		d.Cents += off
		if off > largest {
			largest, d.Best = off, &item.Name
		}
	}
	remains -= d.Cents
	take := func(cents int64) {
		d.Cents += cents
		remains -= cents
	}
	switch {
	case remains >= 50_000:
		take(percent(remains, 10))
	case remains >= 10_000:
		take(percent(remains, 5))
	}
	if cart.Coupon != "" {
		take(min(500, remains))
	}
	d.Points = min(points, remains/2)
	take(d.Points)
	return d, nil
}
