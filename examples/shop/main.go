// Command shop is an online shop whose merchants have plug-ins: they give discounts, change orders, object to them, and are
// told of them. It reads what to do from its standard input, line by line: the path of a cart is a customer at the
// checkout, list says what the plug-ins are, and hooks in which order they run; install FILE PLACE puts another version
// of a plug-in in the place of the one that is there. With a SOCKET, ferrule top shows there what the plug-ins do.
//
//	shop CONFIG [SOCKET]
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// Cart is what a merchant's plug-in gets before the checkout. Money is in cents everywhere.
type Cart struct {
	TotalInCents  int64  `json:"totalInCents"`
	NewCustomer   bool   `json:"newCustomer"`
	ProvidedEmail string `json:"providedEmail"`
}

// Discount is what it decides.
type Discount struct {
	DiscountPercent int64 `json:"discountPercent"`
}

// Order is a cart on its way to be paid.
type Order struct {
	Email           string `json:"email"`
	DiscountPercent int64  `json:"discountPercent"`
	TotalInCents    int64  `json:"totalInCents"`
	ShippingInCents int64  `json:"shippingInCents"`
}

// Checkout makes an order of a cart.
type Checkout func(context.Context, Cart) (Order, error)

// open is all of the shop that has to do with plug-ins.
func open(ctx context.Context, config string) (*plugins.System, Checkout, error) {
	sys := plugins.New("shop", "1.4.0", plugins.Config(config), plugins.Watch(), plugins.Counting(), plugins.Builtin(receipts))
	plugins.Offer(sys, "loyalty_points", loyaltyPoints, plugins.Doc("How many loyalty points a customer has, by the e-mail address."))
	discount := plugins.First[Cart, Discount](sys, "before_checkout", plugins.OnError(plugins.Skip))
	payment := plugins.Pipe[Order](sys, "before_payment", plugins.Limit(50*time.Millisecond))
	mayShip := plugins.Veto[Order](sys, "may_ship")
	ordered := plugins.Notify[Order](sys, "ordered")
	return sys, func(ctx context.Context, cart Cart) (Order, error) {
		d, _, err := discount.Call(ctx, cart)
		if err != nil {
			return Order{}, err
		}
		order, err := payment.Call(ctx, cart.order(d))
		if err != nil {
			return Order{}, err
		}
		if err := mayShip.Call(ctx, order); err != nil {
			return Order{}, err
		}
		return order, ordered.Call(ctx, order)
	}, sys.Start(ctx)
}

// order applies a discount, of which no more is believed than there can be.
func (c Cart) order(d Discount) Order {
	percent := min(max(d.DiscountPercent, 0), 100)
	return Order{Email: c.ProvidedEmail, DiscountPercent: percent, TotalInCents: c.TotalInCents - c.TotalInCents*percent/100}
}

// receipts is a plug-in that is compiled in.
var receipts = &builtin.Plugin{Name: "receipts", Version: "1.0.0", Description: "Sends the customer a receipt.",
	Hooks: []builtin.Function{{Name: "ordered", Call: func(_ context.Context, in []byte) ([]byte, error) {
		var o Order
		if err := json.Unmarshal(in, &o); err != nil {
			return nil, fmt.Errorf("%w: %w", loader.ErrInvalid, err)
		}
		fmt.Printf("  a receipt goes to %s\n", o.Email)
		return nil, nil
	}}}}

// customer stands for a row of a real shop's database.
type customer struct {
	email  string
	points int64
	orders int
}

var customers = map[string]customer{"ada": {"ada@example.com", 0, 0}, "grace": {"grace@example.com", 2750, 12}, "joan": {"joan@example.com", 310, 3},
	"margaret": {"margaret@example.com", 40, 1}}

// loyaltyPoints is the host function that plug-ins import as loyalty_points.
func loyaltyPoints(_ context.Context, email string) (int64, error) {
	for _, c := range customers {
		if c.email == email {
			return c.points, nil
		}
	}
	return 0, fmt.Errorf("no customer has the address %q: %w", email, loader.ErrInvalid)
}

func main() {
	socket := ""
	switch len(os.Args) {
	case 2:
	case 3:
		socket = os.Args[2]
	default:
		fmt.Fprintln(os.Stderr, "usage: shop CONFIG [SOCKET]")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], socket, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, config, socket string, in io.Reader) error {
	sys, checkout, err := open(ctx, config)
	if err != nil {
		return err
	}
	defer sys.Close()
	if socket != "" {
		watched, err := monitor.Serve(sys, socket)
		if err != nil {
			return err
		}
		defer watched.Close()
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0:
		case words[0] == "list":
			for _, p := range sys.List() {
				if p.Enabled {
					fmt.Printf("  %-8s %s %s\n", p.Name, p.Version, p.State)
				}
				if p.Err != nil {
					fmt.Printf("  %v\n", p.Err)
				}
			}
		case words[0] == "hooks":
			for _, o := range sys.Hooks() {
				for i, place := range o.Places {
					fmt.Printf("  %s %d. %s: %s\n", o.Point, i+1, place.Plugin, place.Reason)
				}
			}
		case words[0] == "install" && len(words) == 3:
			if err := install(words[1], words[2]); err != nil {
				return err
			}
			_ = sys.Reload(ctx) // at once; Watch would a little later. What it could not take over is in List
		default:
			if err := serve(ctx, checkout, words[0]); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// install has a file take the place of another one in one step, so that nobody ever sees a half of it.
func install(file, place string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(place+".new", data, 0o755); err != nil {
		return err
	}
	return os.Rename(place+".new", place)
}

// serve has the customer of a cart pay.
func serve(ctx context.Context, checkout Checkout, file string) error {
	cart, err := readCart(file)
	if err != nil {
		return err
	}
	order, err := checkout(ctx, cart)
	var objection *plugins.Objection
	switch {
	case errors.As(err, &objection):
		fmt.Printf("%s: not sold: %s says: %s\n", cart.ProvidedEmail, objection.Plugin, objection.Reason)
		return nil
	case err != nil:
		return err
	}
	fmt.Printf("%s: %s - %d %% + %s shipping = %s\n", order.Email, dollars(cart.TotalInCents), order.DiscountPercent, dollars(order.ShippingInCents), dollars(order.TotalInCents))
	return nil
}

func readCart(file string) (Cart, error) {
	var c struct {
		Customer string
		Items    []struct{ Cents, Quantity int64 }
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Cart{}, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return Cart{}, fmt.Errorf("%s: %w", file, err)
	}
	who, ok := customers[c.Customer]
	if !ok {
		return Cart{}, fmt.Errorf("%s: found the customer %q, expected one of the shop's", file, c.Customer)
	}
	cart := Cart{NewCustomer: who.orders == 0, ProvidedEmail: who.email}
	for _, item := range c.Items {
		cart.TotalInCents += item.Cents * item.Quantity
	}
	return cart, nil
}

func dollars(cents int64) string { return fmt.Sprintf("$%d.%02d", cents/100, cents%100) }
