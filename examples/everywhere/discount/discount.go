// Package discount is the discount in Go: a plug-in that a sidecar and a node serve. What it decides is in the README.
package discount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// Plugin is what is served.
var Plugin = &builtin.Plugin{Name: "discount", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"loyalty_points"},
	Funcs: []builtin.Function{{Name: "before_checkout", In: "application/json", Out: "application/json", Call: beforeCheckout}}}

const most int64 = 1<<53 - 1 // what JavaScript has exactly, too

// cart has pointers where what is missing is no zero.
type cart struct {
	Customer *string
	Coupon   string
	Items    []struct {
		Name, Category  *string
		Cents, Quantity *int64
	}
}

type decision struct {
	Cents  int64   `json:"cents"`
	Points int64   `json:"points"`
	Best   *string `json:"best"`
}

// percent is so much of an amount, to the nearest cent, half of one up.
func percent(amount, percent int64) int64 { return (amount*percent + 50) / 100 }

func isNumber(n *int64) bool { return n != nil && *n >= 0 && *n <= most }

func read(in []byte) (c cart, costs []int64, err error) {
	if !utf8.Valid(in) {
		return c, nil, errors.New("expected UTF-8")
	}
	if err := json.Unmarshal(in, &c); err != nil {
		return c, nil, err
	}
	if c.Customer == nil || c.Items == nil {
		return c, nil, errors.New("expected a customer and items")
	}
	if c.Coupon != "" && c.Coupon != "FIVE" {
		return c, nil, errors.New("there is no such coupon")
	}
	subtotal := int64(0)
	for i, item := range c.Items {
		if item.Name == nil || item.Category == nil || !isNumber(item.Cents) || !isNumber(item.Quantity) {
			return c, nil, fmt.Errorf("items[%d]: expected a name, a category, cents and quantity", i)
		}
		if *item.Quantity > 0 && *item.Cents > (most-subtotal) / *item.Quantity {
			return c, nil, fmt.Errorf("items[%d]: found a subtotal of more than %d", i, most)
		}
		costs = append(costs, *item.Cents**item.Quantity)
		subtotal += costs[i]
	}
	return c, costs, nil
}

func beforeCheckout(ctx context.Context, in []byte) ([]byte, error) {
	c, costs, err := read(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", loader.ErrInvalid, err)
	}
	points := int64(0)
	if *c.Customer != "" {
		answer, err := builtin.Import(ctx, "loyalty_points", []byte(*c.Customer))
		if err != nil {
			return nil, err
		}
		if points, err = strconv.ParseInt(string(answer), 10, 64); err != nil {
			return nil, err
		}
	}

	var d decision
	remains, largest := int64(0), int64(0)
	for i, item := range c.Items {
		remains += costs[i]
		if *item.Category != "books" {
			continue
		}
		off := percent(costs[i], 10)
		d.Cents += off
		if off > largest {
			largest, d.Best = off, item.Name
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
	if c.Coupon != "" {
		take(min(500, remains))
	}
	d.Points = min(points, remains/2)
	take(d.Points)
	return json.Marshal(d)
}
