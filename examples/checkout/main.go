// Command checkout is a shop's checkout: what a customer has to pay after the discount that the merchant's own plug-in
// decides.
//
//	checkout PLUGIN CART
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
)

// cart is read from the file, and goes to the plug-in with its total. Money is in cents everywhere.
type cart struct {
	Customer   string `json:"customer"`
	Items      []item `json:"items"`
	TotalCents int64  `json:"total_cents"` // not in the file
}

type item struct {
	Name     string `json:"name"`
	Cents    int64  `json:"cents"` // for one
	Quantity int64  `json:"quantity"`
}

// discount is what the plug-in decides.
type discount struct {
	Cents  int64  `json:"cents"`
	Points int64  `json:"points"` // loyalty points that the customer gives for it
	Reason string `json:"reason"`
}

// shop stands for the database of a real one.
type shop struct {
	points map[string]int64 // of each customer
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: checkout PLUGIN CART")
		os.Exit(2)
	}
	s := &shop{points: map[string]int64{"ada": 0, "grace": 2750, "margaret": 0}}
	if err := s.checkout(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "checkout:", err)
		os.Exit(1)
	}
}

func (s *shop) checkout(plugin, file string) error {
	c, err := readCart(file)
	if err != nil {
		return err
	}
	p, err := loader.Open(plugin, loader.WithHostFunc("loyalty_points", loader.JSONFunc(s.loyaltyPoints)))
	if err != nil {
		return err
	}
	defer p.Close()
	fmt.Printf("merchant  %s %s\n", p.Name(), p.Version())
	for _, f := range p.Info().Funcs {
		fmt.Printf("policy    %s\n", f.Doc)
	}
	fmt.Printf("cart      %s's, %s\n", c.Customer, dollars(c.TotalCents))

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d, err := loader.CallJSON[*cart, discount](ctx, p, "before_checkout", c)
	if err != nil {
		return err
	}
	if err := s.apply(c, d); err != nil {
		return fmt.Errorf("the discount of %s: %w", p.Name(), err)
	}
	return nil
}

// loyaltyPoints is the host function that plug-ins import as loyalty_points.
func (s *shop) loyaltyPoints(_ context.Context, customer string) (int64, error) {
	n, ok := s.points[customer]
	if !ok {
		return 0, fmt.Errorf("no customer %q: %w", customer, loader.ErrInvalid)
	}
	fmt.Printf("asked     for %s's loyalty points: %d\n", customer, n)
	return n, nil
}

// apply takes no more from the shop or the customer than there is, whatever the plug-in says.
func (s *shop) apply(c *cart, d discount) error {
	if d.Cents < 0 || d.Cents > c.TotalCents {
		return fmt.Errorf("found %d cents, expected 0 to %d", d.Cents, c.TotalCents)
	}
	if d.Points < 0 || d.Points > s.points[c.Customer] {
		return fmt.Errorf("found %d loyalty points, expected 0 to %d", d.Points, s.points[c.Customer])
	}
	s.points[c.Customer] -= d.Points
	fmt.Printf("discount  %s: %s\n", dollars(d.Cents), d.Reason)
	fmt.Printf("to pay    %s\n", dollars(c.TotalCents-d.Cents))
	return nil
}

func readCart(file string) (*cart, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := new(cart)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	c.TotalCents = 0
	for _, it := range c.Items {
		// The bounds keep the total far from an overflow.
		if it.Cents < 0 || it.Cents > 1e9 || it.Quantity < 1 || it.Quantity > 1e4 {
			return nil, fmt.Errorf("%s: %s: found %d times %d cents, expected 1 to 10000 times 0 to 1000000000",
				file, it.Name, it.Quantity, it.Cents)
		}
		c.TotalCents += it.Cents * it.Quantity
	}
	if len(c.Items) == 0 {
		return nil, fmt.Errorf("%s: found no items, expected one or more", file)
	}
	return c, nil
}

func dollars(cents int64) string { return fmt.Sprintf("$%d.%02d", cents/100, cents%100) }
